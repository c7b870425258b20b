//! How statements are planned: DataFusion's settings as we want them, and the functions that statements know.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use datafusion::catalog::{CatalogProvider, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider};
use datafusion::catalog::{CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::config::Dialect;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::{FunctionRegistry as _, SessionState, SessionStateBuilder, TaskContext};
use datafusion::prelude::SessionConfig;
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result};

use crate::dialect;
use crate::functions::Functions;
use crate::slot::Snapshot;

const CATALOG: &str = "millstream";
const SCHEMA: &str = "default";
/// Where Spark keeps the views of all its sessions.
const GLOBAL: &str = "global_temp";

/// What statements are planned and run with. Cheap to share; nothing of a batch is in it.
#[derive(Debug)]
pub(crate) struct Session {
    base: SessionState,
    runtime: Arc<RuntimeEnv>,
    memory: u64,
}

impl Session {
    /// Makes a session whose statements may hold `memory` bytes at once, all together.
    pub(crate) fn new(memory: u64) -> Result<Session> {
        let limit = usize::try_from(memory).unwrap_or(usize::MAX);
        let no_disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(limit)))
            .with_disk_manager_builder(no_disk)
            .build_arc()
            .map_err(|e| Error::new(ErrorKind::Unavailable, format!("queries cannot run: {}", e.strip_backtrace())))?;
        let builder = SessionStateBuilder::new()
            .with_config(settings())
            .with_runtime_env(Arc::clone(&runtime))
            .with_default_features();
        Ok(Session { base: dialect::functions::added(builder).build(), runtime, memory })
    }

    pub(crate) fn memory(&self) -> u64 {
        self.memory
    }

    /// Returns a state that knows these tables, and these functions beside the built-in ones.
    pub(crate) fn knowing(
        &self,
        tables: Vec<(String, Arc<dyn TableProvider>)>,
        functions: &Functions,
    ) -> Result<SessionState> {
        let broken = |e: datafusion::error::DataFusionError| {
            Error::new(ErrorKind::Internal, format!("a table cannot be made known: {}", e.strip_backtrace()))
        };
        let (schema, global) = (MemorySchemaProvider::new(), MemorySchemaProvider::new());
        for (name, table) in tables {
            match name.strip_prefix(GLOBAL).and_then(|rest| rest.strip_prefix('.')) {
                Some(name) => global.register_table(name.to_owned(), table).map_err(broken)?,
                None => schema.register_table(name, table).map_err(broken)?,
            };
        }
        let catalog = MemoryCatalogProvider::new();
        catalog.register_schema(GLOBAL, Arc::new(global)).map_err(broken)?;
        catalog.register_schema(SCHEMA, Arc::new(schema)).map_err(broken)?;
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog));
        let mut state =
            SessionStateBuilder::new_from_existing(self.base.clone()).with_catalog_list(Arc::new(catalogs)).build();
        for function in functions.known() {
            state.register_udf(function).map_err(broken)?;
        }
        for aggregate in functions.known_aggregates() {
            state.register_udaf(aggregate).map_err(broken)?;
        }
        Ok(state)
    }

    /// Returns what a plan runs with: the rows, and nothing that is copied for it.
    pub(crate) fn task(&self, rows: Snapshot) -> Arc<TaskContext> {
        let config = self.base.config().clone().with_extension(Arc::new(rows));
        let none = HashMap::new;
        let runtime = Arc::clone(&self.runtime);
        Arc::new(TaskContext::new(
            None,
            String::new(),
            config,
            none(),
            HashMap::new(),
            HashMap::new(),
            HashMap::new(),
            runtime,
        ))
    }
}

/// Returns the one session of statements that arrive from other processes: they share its memory.
pub(crate) fn of_arrived(memory: u64) -> Result<Arc<Session>> {
    static ONE: Mutex<Option<Arc<Session>>> = Mutex::new(None);
    let one = &mut *lock(&ONE);
    Ok(match one {
        Some(session) => Arc::clone(session),
        None => Arc::clone(one.insert(Arc::new(Session::new(memory)?))),
    })
}

fn settings() -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_create_default_catalog_and_schema(false)
        .with_default_catalog_and_schema(CATALOG, SCHEMA)
        // A task is the unit of parallelism; inside of one, more partitions only cost.
        .with_target_partitions(1)
        .with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.dialect = Dialect::Spark;
    options.sql_parser.collect_spans = true;
    options.sql_parser.default_null_ordering = "nulls_min".to_owned();
    options.sql_parser.map_string_types_to_utf8view = false;
    // What such a filter learned from one batch is not taken back when the plan is reset.
    options.optimizer.enable_dynamic_filter_pushdown = false;
    options.optimizer.enable_topk_dynamic_filter_pushdown = false;
    options.optimizer.enable_join_dynamic_filter_pushdown = false;
    options.optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    config
}
