//! Statements that ask a state for one key, `SELECT … FROM totals WHERE key = $1`: they are answered from the table itself, without
//! operators, which would be made anew for each of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch as ArrowBatch};
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::{ParamValues, ScalarValue};
use datafusion::datasource::source_as_provider;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, LogicalPlan, Operator};
use futures::future::{BoxFuture, FutureExt as _};

use super::leaf::LeafTable;
use super::{Content, LiveBatch};

/// What a statement asks that wants columns of the row of one key, and nothing else.
#[derive(Clone, Debug)]
pub struct Point {
    table: String,
    schema: SchemaRef,
    /// For each column that makes a key: where that is in the table, and its value.
    key: Vec<(usize, Value)>,
    /// The columns that are given, by where they are in the table.
    columns: Vec<usize>,
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Given(ScalarValue),
    /// The name of a parameter, as `$1`.
    Asked(String),
}

impl Point {
    /// Recognises such a statement by its plan, which has been optimised.
    pub fn of(plan: &LogicalPlan) -> Option<Point> {
        let Asked { table, schema, keys, columns, conditions } = asked(plan, DEEPEST)?;
        let of = |at: &usize| {
            let mut values = conditions.iter().filter(|(column, _)| column == at).map(|(_, value)| value);
            // Two that ask for two values find nothing: that is rare, and the plan knows it.
            values.next().filter(|_| values.next().is_none()).map(|value| (*at, value.clone()))
        };
        let key: Vec<(usize, Value)> = keys.iter().map(of).collect::<Option<_>>()?;
        (!key.is_empty() && key.len() == conditions.len()).then_some(Point { table, schema, key, columns })
    }

    /// How many parameters it has: a column of the key has one at most.
    pub fn parameters(&self) -> usize {
        self.key.len()
    }

    /// Looks the key up in a batch. Nothing if that is more than a short look into memory, or if the values are of other types: then
    /// the plan must be run. It is never run by a thread that would wait for a batch.
    pub fn look_up(
        &self,
        batch: &LiveBatch,
        values: Option<&ParamValues>,
    ) -> Option<BoxFuture<'static, Result<ArrowBatch>>> {
        let Some(Content::State(state)) = batch.tables.get(&self.table) else { return None };
        if !state.is_at_hand() {
            return None;
        }
        let mut key: Vec<ArrayRef> = Vec::with_capacity(self.key.len());
        for (at, value) in &self.key {
            let value = match value {
                Value::Given(value) => value.clone(),
                Value::Asked(name) => values?.get_placeholders_with_values(name).ok()?.value,
            };
            // NULL is no key, and a plan knows what there is then.
            if value.is_null() || value.data_type() != *self.schema.field(*at).data_type() {
                return None;
            }
            key.push(value.to_array().ok()?);
        }
        // The program's types are asked for hashes and copies of keys. What is wrong with one of them, the plan says.
        let found = catch_unwind(AssertUnwindSafe(|| state.look_up(&key))).ok()?.ok()?;
        let columns = self.columns.clone();
        let row = AssertUnwindSafe(found.map(move |rows| Ok(rows?.project(&columns)?))).catch_unwind();
        let table = self.table.clone();
        let panicked = move |_| Err(DataFusionError::Execution(format!("a look-up in `{table}` panicked")));
        Some(row.map(move |row| row.unwrap_or_else(panicked)).boxed())
    }
}

/// What a part of a plan asks of one table.
struct Asked {
    table: String,
    schema: SchemaRef,
    keys: Vec<usize>,
    /// The columns that it gives, by where they are in the table.
    columns: Vec<usize>,
    /// The columns that must have a value.
    conditions: Vec<(usize, Value)>,
}

/// How deep a plan may be: nobody asks for one key in more steps.
const DEEPEST: usize = 16;

fn asked(plan: &LogicalPlan, deep: usize) -> Option<Asked> {
    let of = |input: &LogicalPlan| deep.checked_sub(1).and_then(|deep| asked(input, deep));
    match plan {
        LogicalPlan::TableScan(scan) if scan.fetch.is_none() => {
            let provider = source_as_provider(&scan.source).ok()?;
            let table = provider.as_ref().downcast_ref::<LeafTable>()?;
            let (name, schema, keys) = (table.name.clone(), Arc::clone(&table.schema), table.keys.clone());
            let columns = scan.projection.clone().unwrap_or_else(|| (0..schema.fields().len()).collect());
            // What the scan is told to leave out, the filter above it leaves out again: see `supports_filters_pushdown`.
            Some(Asked { table: name, schema, keys, columns, conditions: Vec::new() })
        }
        // It gives another name to what it has.
        LogicalPlan::SubqueryAlias(alias) => of(&alias.input),
        LogicalPlan::Filter(filter) => {
            let mut asked = of(&filter.input)?;
            for condition in split_conjunction(&filter.predicate) {
                let (column, value) = condition_of(condition)?;
                let at = filter.input.schema().maybe_index_of_column(column)?;
                asked.conditions.push((*asked.columns.get(at)?, value));
            }
            Some(asked)
        }
        LogicalPlan::Projection(projection) => {
            let mut asked = of(&projection.input)?;
            let column = |expr: &Expr| {
                let Expr::Column(column) = expr.clone().unalias() else { return None };
                asked.columns.get(projection.input.schema().maybe_index_of_column(&column)?).copied()
            };
            asked.columns = projection.expr.iter().map(column).collect::<Option<_>>()?;
            Some(asked)
        }
        _ => None,
    }
}

/// The column that a condition asks for one value, and the value.
fn condition_of(condition: &Expr) -> Option<(&datafusion::common::Column, Value)> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = condition else { return None };
    let value = |expr: &Expr| match expr {
        Expr::Literal(value, _) => Some(Value::Given(value.clone())),
        Expr::Placeholder(placeholder) => Some(Value::Asked(placeholder.id.clone())),
        _ => None,
    };
    match (&**left, &**right) {
        (Expr::Column(column), other) | (other, Expr::Column(column)) => Some((column, value(other)?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::datatypes::{DataType, Field, Schema};
    use datafusion::prelude::{SessionConfig, SessionContext};

    use super::*;

    /// What is asked, as text; nothing if it is no point.
    fn point(context: &SessionContext, text: &str) -> Option<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let plan = runtime.block_on(context.state().create_logical_plan(text)).unwrap();
        let plan = context.state().optimize(&plan).unwrap();
        let Point { table, key, columns, .. } = Point::of(&plan)?;
        let value = |value: &Value| match value {
            Value::Given(value) => value.to_string(),
            Value::Asked(name) => name.clone(),
        };
        let key: Vec<String> = key.iter().map(|(at, of)| format!("{at}={}", value(of))).collect();
        Some(format!("{table} {} {columns:?}", key.join(" ")))
    }

    #[test]
    fn statements_that_ask_for_one_key_and_nothing_else_are_recognised() {
        let mut config = SessionConfig::new();
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        let context = SessionContext::new_with_config(config);
        for (name, keys) in [("one", vec![0]), ("two", vec![2, 0]), ("rows", vec![])] {
            let fields = [("key", DataType::Int64), ("value", DataType::Int64), ("shop", DataType::Utf8)];
            let schema = Schema::new(fields.map(|(name, of)| Field::new(name, of, true)).to_vec());
            let table = LeafTable { name: name.to_owned(), schema: Arc::new(schema), keys, rows: 9 };
            context.register_table(name, Arc::new(table)).unwrap();
        }
        for (text, want) in [
            ("SELECT value FROM one WHERE key = 7", Some("one 0=7 [1]")),
            ("SELECT value FROM one WHERE key = $1", Some("one 0=$1 [1]")),
            ("SELECT * FROM one WHERE $1 = key", Some("one 0=$1 [0, 1, 2]")),
            ("SELECT shop AS s, o.value, o.shop FROM one o WHERE o.key = $1", Some("one 0=$1 [2, 1, 2]")),
            ("SELECT s FROM (SELECT shop AS s, key AS k FROM one) WHERE k = 7", Some("one 0=7 [2]")),
            ("SELECT value FROM one WHERE key IN (7)", Some("one 0=7 [1]")),
            ("SELECT value FROM two WHERE key = $1 AND shop = $2", Some("two 2=$2 0=$1 [1]")),
            ("SELECT value FROM two WHERE key = $1", None),
            ("SELECT value FROM two WHERE shop = 'x'", None),
            ("SELECT value FROM one WHERE key = 7 AND value = 1", None),
            ("SELECT value FROM one WHERE key = $1 AND key = $2", None),
            ("SELECT value FROM one WHERE key IN (7, 8)", None),
            ("SELECT value FROM one WHERE key > 7", None),
            ("SELECT value FROM one WHERE key = value", None),
            ("SELECT value FROM one WHERE key = $1 + 1", None),
            ("SELECT value + 1 FROM one WHERE key = 7", None),
            ("SELECT count(*) FROM one WHERE key = 7", None),
            ("SELECT value FROM one WHERE key = 7 LIMIT 1", None),
            ("SELECT DISTINCT value FROM one WHERE key = 7", None),
            ("SELECT a.value FROM one a JOIN one b ON a.key = b.key WHERE a.key = 7", None),
            ("SELECT value FROM rows WHERE key = 7", None),
            ("SELECT value FROM one", None),
        ] {
            assert_eq!(point(&context, text).as_deref(), want, "{text}");
        }
    }
}
