//! What statements know: live and static tables, functions, and the catalogue that clients look into.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch, StringArray, new_null_array};
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider,
    TableProvider,
};
use datafusion::common::Result as PlanResult;
use datafusion::common::config::{ConfigOptions, Dialect};
use datafusion::common::tree_node::{Transformed, TreeNode as _};
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_pg_catalog::pg_catalog::setup_pg_catalog;
use millstream_core::{Error, ErrorKind, Result};
use millstream_sql::SqlContext;
use millstream_sql::live::LiveSchema;

use crate::dialect::NOTHING;
use crate::functions;
use crate::limits::Limits;

/// What clients see as the database, and as the schema of all tables.
pub(crate) const DATABASE: &str = "millstream";
pub(crate) const SCHEMA: &str = "public";

/// Makes what each connection is given a copy of.
pub(crate) fn session(sql: &SqlContext, limits: &Limits) -> Result<SessionState> {
    let told = |e: datafusion::error::DataFusionError| {
        Error::new(ErrorKind::Unavailable, format!("live queries cannot run: {}", e.strip_backtrace()))
    };
    let runtime = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.memory)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()
        .map_err(told)?;
    let catalog = MemoryCatalogProvider::new();
    catalog.register_schema(SCHEMA, Arc::new(LiveSchema(sql.clone()))).map_err(told)?;
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(DATABASE.to_owned(), Arc::new(catalog));
    let state = SessionStateBuilder::new()
        .with_config(settings())
        .with_runtime_env(runtime)
        .with_default_features()
        .with_catalog_list(Arc::new(catalogs))
        .with_physical_optimizer_rule(Arc::new(Yields))
        .build();
    let context = SessionContext::new_with_state(state);
    setup_pg_catalog(&context, DATABASE, EmptyContextProvider).map_err(|e| told(*e))?;
    if let Some(catalog) = context.catalog(DATABASE)
        && let Some(as_postgres) = catalog.schema(PG_CATALOG)
    {
        catalog.register_schema(PG_CATALOG, Arc::new(OfProgram(as_postgres))).map_err(told)?;
    }
    functions::all().into_iter().for_each(|function| context.register_udf(function));
    for function in sql.known_functions() {
        context.register_udf(function.as_ref().clone());
    }
    for aggregate in sql.known_aggregates() {
        context.register_udaf(aggregate.as_ref().clone());
    }
    Ok(context.state())
}

const PG_CATALOG: &str = "pg_catalog";

/// The catalogue of a program: what Postgres says there of itself is left out, and what is said of a program is added.
#[derive(Debug)]
struct OfProgram(Arc<dyn SchemaProvider>);

#[async_trait]
impl SchemaProvider for OfProgram {
    fn table_names(&self) -> Vec<String> {
        self.0.table_names()
    }

    async fn table(&self, name: &str) -> PlanResult<Option<Arc<dyn TableProvider>>> {
        let Some(table) = self.0.table(name).await? else { return Ok(None) };
        let schema = table.schema();
        let rows = match name {
            "pg_settings" => {
                let column = |of: fn(&(&'static str, &'static str)) -> &'static str| {
                    Arc::new(functions::SETTINGS.iter().map(|setting| Some(of(setting))).collect::<StringArray>())
                };
                let columns = schema.fields().iter().map(|field| match field.name().as_str() {
                    "name" => column(|setting| setting.0) as ArrayRef,
                    "setting" | "reset_val" => column(|setting| setting.1),
                    _ => new_null_array(field.data_type(), functions::SETTINGS.len()),
                });
                vec![RecordBatch::try_new(Arc::clone(&schema), columns.collect())?]
            }
            name if NOTHING.contains(&name) => Vec::new(),
            _ => return Ok(Some(table)),
        };
        let fields: Vec<Field> = schema.fields().iter().map(|field| with_lists(field)).collect();
        Ok(Some(Arc::new(MemTable::try_new(Arc::new(Schema::new(fields)), vec![rows])?)))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.table_exist(name)
    }
}

/// A column of keys and indexes, with its type as it is in Postgres: lists of numbers of columns, or of what there is a number of.
fn with_lists(field: &Field) -> Field {
    let of = match field.name().as_str() {
        "indkey" | "indoption" | "conkey" | "confkey" => DataType::Int16,
        "indclass" | "indcollation" => DataType::Int32,
        _ => return field.clone(),
    };
    Field::new_list(field.name(), Field::new_list_field(of, true), true)
}

fn settings() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(DATABASE, SCHEMA)
        // A statement runs on one thread at a time: who asks much does not take all of them.
        .with_target_partitions(1)
        .with_information_schema(true);
    let options = config.options_mut();
    options.sql_parser.dialect = Dialect::PostgreSQL;
    options.sql_parser.collect_spans = true;
    options.sql_parser.map_string_types_to_utf8view = false;
    config
}

/// Lets operators that can give much of little, as joins do, give way to others now and then: only so can a statement be stopped.
#[derive(Debug)]
struct Yields;

impl PhysicalOptimizerRule for Yields {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> PlanResult<Arc<dyn ExecutionPlan>> {
        let wrapped = plan.transform_up(|node| {
            let much = node.children().len() > 1 || node.name().contains("Unnest");
            Ok(match much {
                true => Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>),
                false => Transformed::no(node),
            })
        })?;
        Ok(wrapped.data)
    }

    fn name(&self) -> &'static str {
        "yields"
    }

    fn schema_check(&self) -> bool {
        true
    }
}
