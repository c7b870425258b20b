//! The leaf of statements about live tables: it reads the batch that the task brings along, by key if it is asked so.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::{ArrayRef, RecordBatch as ArrowBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{Field, SchemaRef};
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
    /// The columns that make a key together, which can be looked up; none where all is read.
    pub(super) keys: Vec<usize>,
    /// About how many rows it has, so that joins are built from the small side.
    pub(super) rows: usize,
}

impl LeafTable {
    /// The columns that make a key.
    fn key_fields(&self) -> impl Iterator<Item = &Field> {
        self.keys.iter().filter_map(|at| self.schema.fields().get(*at).map(AsRef::as_ref))
    }

    /// The keys that filters ask for, as columns: every pair, if a key is made of two columns, of what they ask of each. Nothing if some
    /// column of the key may have any value, or if there are too many.
    fn asked(&self, filters: &[Expr]) -> Option<Vec<Vec<ScalarValue>>> {
        let mut columns: Vec<Vec<ScalarValue>> = Vec::new();
        let mut rows = 1usize;
        for field in self.key_fields() {
            let values = values_of(field, filters)?;
            let before = rows;
            rows = before.checked_mul(values.len()).filter(|rows| *rows <= KEYS)?;
            for column in &mut columns {
                *column = column.iter().flat_map(|value| std::iter::repeat_n(value.clone(), values.len())).collect();
            }
            columns.push(std::iter::repeat_n(values, before).flatten().collect());
        }
        (!columns.is_empty()).then_some(columns)
    }
}

/// The values that filters leave a column, each once. Nothing if it may have any.
fn values_of(field: &Field, filters: &[Expr]) -> Option<Vec<ScalarValue>> {
    let mut values: Option<Vec<ScalarValue>> = None;
    for asked in filters.iter().filter_map(|filter| keys_of(filter, field.name())) {
        values = Some(match values {
            None => asked,
            Some(before) => before.into_iter().filter(|value| asked.contains(value)).collect(),
        });
    }
    let known = values?.into_iter().filter(|value| !value.is_null());
    let mut all: Vec<ScalarValue> = known.map(|value| value.cast_to(field.data_type()).ok()).collect::<Option<_>>()?;
    all.sort_by(|a, b| a.partial_cmp(b).unwrap_or(Ordering::Equal));
    all.dedup();
    Some(all)
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
        let of = |filter: &&Expr| {
            let asks = |field: &Field| keys_of(filter, field.name()).is_some() || awaits_key(filter, field.name());
            match self.key_fields().any(asks) {
                true => TableProviderFilterPushDown::Inexact,
                false => TableProviderFilterPushDown::Unsupported,
            }
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
        let keys = self.asked(filters);
        let properties = of_a_leaf(&self.schema, projection)?;
        Ok(Arc::new(LiveExec {
            name: self.name.clone(),
            whole: Arc::clone(&self.schema),
            rows: keys.as_deref().map_or(self.rows, number_of),
            keys,
            projection: projection.cloned(),
            properties: Arc::new(properties),
        }))
    }
}

/// The most keys that are looked up one by one. More are found by reading all.
const KEYS: usize = 10_000;

/// How many keys there are, of columns of them.
fn number_of(keys: &[Vec<ScalarValue>]) -> usize {
    keys.first().map_or(0, Vec::len)
}

/// The values that a filter asks a column for, if it is `column = …` or `column IN (…)`, or several of those.
fn keys_of(filter: &Expr, name: &str) -> Option<Vec<ScalarValue>> {
    let is_key = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == name);
    let literal = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Some(value.clone()),
        _ => None,
    };
    match filter {
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_key(left) => Some(vec![literal(right)?]),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is_key(right) => Some(vec![literal(left)?]),
        Expr::BinaryExpr(BinaryExpr { left, op: Operator::Or, right }) => {
            let mut keys = keys_of(left, name)?;
            keys.extend(keys_of(right, name)?);
            (keys.len() <= KEYS).then_some(keys)
        }
        Expr::InList(InList { expr, list, negated: false }) if is_key(expr) && list.len() <= KEYS => {
            list.iter().map(literal).collect()
        }
        // What `column = true` is made.
        Expr::Column(_) if is_key(filter) => Some(vec![ScalarValue::from(true)]),
        Expr::Not(inner) if is_key(inner) => Some(vec![ScalarValue::from(false)]),
        _ => None,
    }
}

/// Says whether a filter is `column = $1`, of a statement that is planned before its values are known.
fn awaits_key(filter: &Expr, name: &str) -> bool {
    let is = |one: &Expr, other: &Expr| matches!((one, other), (Expr::Column(column), Expr::Placeholder(_)) if column.name == name);
    matches!(filter, Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) if is(left, right) || is(right, left))
}

#[derive(Debug)]
struct LiveExec {
    name: String,
    /// The columns of the table.
    whole: SchemaRef,
    rows: usize,
    /// The keys that are looked up: a row of them is one.
    keys: Option<Vec<Vec<ScalarValue>>>,
    projection: Option<Vec<usize>>,
    properties: Arc<PlanProperties>,
}

impl DisplayAs for LiveExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.keys {
            Some(keys) => write!(f, "LiveTable: {}, keys looked up: {}", self.name, number_of(keys)),
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
                if number_of(keys) == 0 {
                    return Ok(given(Vec::new()));
                }
                let keys: Vec<ArrayRef> = keys
                    .iter()
                    .map(|column| ScalarValue::iter_to_array(column.iter().cloned()))
                    .collect::<Result<_>>()?;
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

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Schema};
    use datafusion::prelude::{col, lit};

    use super::*;

    /// What is looked up, a key a text; nothing if all is read.
    fn asked(keys: &[usize], filters: &[Expr]) -> Option<Vec<String>> {
        let fields = [("n", DataType::Int64), ("shop", DataType::Utf8), ("item", DataType::Int32)];
        let schema = Schema::new(fields.map(|(name, of)| Field::new(name, of, true)).to_vec());
        let table = LeafTable { name: "t".to_owned(), schema: Arc::new(schema), keys: keys.to_vec(), rows: 9 };
        let columns = table.asked(filters)?;
        let key = |row: usize| columns.iter().map(|column| column[row].to_string()).collect::<Vec<_>>().join(" ");
        Some((0..number_of(&columns)).map(key).collect())
    }

    #[test]
    fn keys_of_several_columns_are_all_pairs_of_what_is_asked_of_each() {
        let shops = |shops: &[&str]| col("shop").in_list(shops.iter().map(|shop| lit(*shop)).collect(), false);
        let items = |items: &[i32]| col("item").in_list(items.iter().map(|item| lit(*item)).collect(), false);
        let both = [shops(&["b", "a", "b"]), items(&[3, 1, 2])];
        for (keys, filters, want) in [
            (&[1][..], vec![shops(&["b", "a", "b"])], Some(vec!["a", "b"])),
            (&[1], vec![col("shop").eq(lit("a")).or(lit("b").eq(col("shop")))], Some(vec!["a", "b"])),
            (&[1], vec![shops(&["a", "b"]), shops(&["b", "c"])], Some(vec!["b"])),
            (&[1], vec![shops(&["a"]), shops(&["b"])], Some(vec![])),
            (&[1], vec![col("shop").eq(lit(ScalarValue::Utf8(None)))], Some(vec![])),
            (&[1], vec![col("n").eq(lit(1i64))], None),
            (&[1], vec![shops(&["a"]).or(col("n").eq(lit(1i64)))], None),
            (&[1, 2], both.to_vec(), Some(vec!["a 1", "a 2", "a 3", "b 1", "b 2", "b 3"])),
            (&[2, 1], both.to_vec(), Some(vec!["1 a", "1 b", "2 a", "2 b", "3 a", "3 b"])),
            (&[1, 2], vec![shops(&["a"])], None),
            (&[], both.to_vec(), None),
        ] {
            let want: Option<Vec<String>> = want.map(|all| all.into_iter().map(str::to_owned).collect());
            assert_eq!(asked(keys, &filters), want, "{filters:?}");
        }
        let many = items(&(0..5001).collect::<Vec<_>>());
        assert_eq!(asked(&[1, 2], &[many.clone(), shops(&["a", "b"])]), None, "too many");
        assert_eq!(asked(&[1, 2], &[many, shops(&["a"])]).map(|all| all.len()), Some(5001));
    }
}
