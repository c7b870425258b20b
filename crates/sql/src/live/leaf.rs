//! The leaf of statements about live tables: it reads the batch that the task brings along, by key if it is asked so.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch as ArrowBatch;
use datafusion::arrow::array::RecordBatchOptions;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, ScalarValue, Statistics};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::ReplaceChildrenOptions;
use datafusion::physical_plan::stream::{RecordBatchReceiverStream, RecordBatchStreamAdapter};
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};
use futures::stream;

use super::states::{AnyState, times};
use super::{Content, LiveBatch};
use crate::slot::{about, of_a_leaf};
use crate::statement::relabelled;

/// A live table, or a static one. It holds no rows.
#[derive(Debug)]
pub(super) struct LeafTable {
    pub(super) name: String,
    pub(super) schema: SchemaRef,
    /// About how many rows it has, so that joins are built from the small side.
    pub(super) rows: usize,
}

impl LeafTable {
    fn has_key(&self) -> bool {
        self.schema.fields().first().is_some_and(|field| field.name() == "key")
    }
}

#[async_trait]
impl TableProvider for LeafTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    /// A filter stays where it is, also when the leaf makes use of it: a leaf that finds no index gives all rows.
    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let of = |filter: &&Expr| match self.has_key() && (keys_of(filter).is_some() || awaits_key(filter)) {
            true => TableProviderFilterPushDown::Inexact,
            false => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(of).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let mut keys: Option<Vec<ScalarValue>> = None;
        for asked in filters.iter().filter(|_| self.has_key()).filter_map(keys_of) {
            keys = Some(match keys {
                None => asked,
                Some(before) => before.into_iter().filter(|key| asked.contains(key)).collect(),
            });
        }
        let key_type = self.schema.fields().first().map(|field| field.data_type().clone());
        let keys = keys.zip(key_type).and_then(|(keys, key_type)| {
            let mut all: Vec<ScalarValue> = Vec::new();
            for key in keys.into_iter().filter(|key| !key.is_null()) {
                let key = key.cast_to(&key_type).ok()?;
                if !all.contains(&key) {
                    all.push(key);
                }
            }
            Some(all)
        });
        let properties = of_a_leaf(&self.schema, projection)?;
        Ok(Arc::new(LiveExec {
            name: self.name.clone(),
            whole: Arc::clone(&self.schema),
            rows: keys.as_ref().map_or(self.rows, Vec::len),
            keys,
            projection: projection.cloned(),
            properties: Arc::new(properties),
        }))
    }
}

/// The most keys that are looked up one by one. More are found by reading all.
const KEYS: usize = 10_000;

/// The keys that a filter asks for, if it is `key = …` or `key IN (…)`, or several of those.
fn keys_of(filter: &Expr) -> Option<Vec<ScalarValue>> {
    let is_key = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == "key");
    let literal = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_key(left) => Some(vec![literal(right)?]),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_key(right) => Some(vec![literal(left)?]),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let mut keys = keys_of(left)?;
            keys.extend(keys_of(right)?);
            (keys.len() <= KEYS).then_some(keys)
        }
        Expr::InList(InList { expr, list, negated: false }) if is_key(expr) && list.len() <= KEYS => {
            list.iter().map(literal).collect()
        }
        _ => None,
    }
}

/// Says whether a filter is `key = $1`, of a statement that is planned before its values are known.
fn awaits_key(filter: &Expr) -> bool {
    let is = |one: &Expr, other: &Expr| matches!((one, other), (Expr::Column(column), Expr::Placeholder(_)) if column.name == "key");
    matches!(filter, Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is(left, right) || is(right, left))
}

#[derive(Debug)]
struct LiveExec {
    name: String,
    /// The columns of the table.
    whole: SchemaRef,
    rows: usize,
    keys: Option<Vec<ScalarValue>>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for LiveExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.keys {
            Some(keys) => write!(f, "LiveTable: {}, keys looked up: {}", self.name, keys.len()),
            None => write!(f, "LiveTable: {}, about {} rows", self.name, self.rows),
        }
    }
}

impl LiveExec {
    fn scan_state(&self, state: &Arc<dyn AnyState>) -> SendableRecordBatchStream {
        // Reading waits for the table, which a batch may have: that is no work for a thread that runs statements.
        let mut builder = RecordBatchReceiverStream::builder(self.schema(), 2);
        let (tx, pieces, projection) = (builder.tx(), state.pieces(), self.projection.clone());
        builder.spawn_blocking(move || {
            for piece in pieces {
                let piece = piece.and_then(|piece| match &projection {
                    Some(columns) => Ok(piece.project(columns)?),
                    None => Ok(piece),
                });
                if tx.blocking_send(piece).is_err() {
                    // Who asked has gone.
                    break;
                }
            }
            Ok(())
        });
        builder.build()
    }

    /// The rows of a batch, in the projection: with the batch's time, if that is asked for.
    fn projected(&self, rows: &ArrowBatch, time: Option<millstream_core::Time>) -> Result<ArrowBatch> {
        let column = |at: usize| match (rows.columns().get(at), time) {
            (Some(column), _) => Ok(Arc::clone(column)),
            (None, Some(time)) if at == rows.num_columns() => Ok(times(time, rows.num_rows())),
            (None, _) => {
                Err(DataFusionError::Execution(format!("the columns of `{}` have changed: ask again", self.name)))
            }
        };
        let all: Vec<usize> = (0..self.whole.fields().len()).collect();
        let columns =
            self.projection.as_ref().unwrap_or(&all).iter().map(|at| column(*at)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(ArrowBatch::try_new_with_options(self.schema(), columns, &options)?)
    }
}

impl ExecutionPlan for LiveExec {
    fn name(&self) -> &'static str {
        "LiveTable"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, _: usize, task: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let Some(batch) = task.session_config().get_extension::<LiveBatch>() else {
            return Err(DataFusionError::Internal(format!("the task brings no batch for `{}`", self.name)));
        };
        let schema = self.schema();
        let given = |rows: Vec<Result<ArrowBatch>>| -> SendableRecordBatchStream {
            Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&schema), stream::iter(rows)))
        };
        match batch.tables.get(&self.name) {
            Some(Content::Rows { time, rows }) => {
                Ok(given(rows.iter().map(|rows| self.projected(rows, Some(*time))).collect()))
            }
            Some(Content::State(state)) => {
                let Some(keys) = &self.keys else { return Ok(self.scan_state(state)) };
                if keys.is_empty() {
                    return Ok(given(Vec::new()));
                }
                let keys = ScalarValue::iter_to_array(keys.iter().cloned())?;
                let (found, projection) = (state.look_up(&keys)?, self.projection.clone());
                let rows = stream::once(async move {
                    let rows = found.await?;
                    match projection {
                        Some(columns) => Ok(rows.project(&columns)?),
                        None => Ok(rows),
                    }
                });
                Ok(Box::pin(RecordBatchStreamAdapter::new(schema, rows)))
            }
            None => match batch.statics.get(&self.name) {
                Some(version) => {
                    let table = version.table(&self.name);
                    let plain = Arc::clone(&self.whole);
                    let relabelled = |rows: &crate::RecordBatch| {
                        let rows = relabelled(rows, &plain).map_err(|_| {
                            let text = format!("the columns of `{}` have changed: ask again", self.name);
                            DataFusionError::Execution(text)
                        })?;
                        self.projected(&rows, None)
                    };
                    Ok(given(table.rows.iter().map(relabelled).collect()))
                }
                // A live table before its first batch.
                None => Ok(given(Vec::new())),
            },
        }
    }

    fn partition_statistics(&self, _: Option<usize>) -> Result<Arc<Statistics>> {
        Ok(about(self.rows, &self.schema()))
    }
}
