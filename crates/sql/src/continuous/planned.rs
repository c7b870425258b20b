//! A statement that is kept up to date, planned: the part below its groups, the groups, and the part above them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch as ArrowBatch;
use datafusion::datasource::provider_as_source;
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::{LogicalPlan, TableScan};
use datafusion::physical_expr::aggregate::AggregateFunctionExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use millstream_core::plan::ship::{PlanReader, PlanWriter};
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, codec};

use super::cells::Packed;
use super::cut::{Cut, cut, keys_of, replaced};
use super::groups::{Groups, differs};
use crate::batch::RecordBatch;
use crate::error::told;
use crate::functions::Functions;
use crate::plans::{Key, Plans};
use crate::runtime::wait;
use crate::session::Session;
use crate::slot::{SlotTable, Snapshot};
use crate::statement::{Statement, Table, lowered, renamed, with_names};

/// What groups are called in the plan above them.
const GROUPS: &str = "groups";

/// A statement that is kept up to date.
pub(crate) struct Planned {
    statement: Statement,
    /// The tables without their rows: the stream's first, then those of the statement that do not stream.
    tables: Vec<Table>,
    groups: Groups,
    /// The groups and aggregates as they are written.
    asked: String,
    by_row: bool,
    /// The columns of the answer that make a group.
    keys: Vec<usize>,
    schema: SchemaRef,
    below: Plans,
    above: Plans,
}

impl Planned {
    /// Plans a statement. `tables` begin with the stream's.
    pub(super) fn new(
        text: &str,
        session: &Arc<Session>,
        mut tables: Vec<Table>,
        functions: &Functions,
    ) -> Result<Planned> {
        let statement = Statement::new(text, session)?;
        let part = Part::of(&statement, &tables, functions)?;
        let (plan, aggregates) = part.below(text)?;
        let groups = Groups::new(text, &aggregates, Arc::new(part.cut.groups.schema().as_arrow().clone()))?;
        groups.check().map_err(|why| refused(&why))?;
        debug_assert!(
            differs(groups.partial(), plan.schema().fields().iter()).is_none(),
            "one tells the other's columns"
        );
        let schema = Arc::new(renamed(part.plan.schema().as_arrow(), &part.names));
        let keys = keys_of(&part.plan, &part.cut.groups, groups.width()).unwrap_or_default();
        let (asked, by_row) = (part.asked, part.cut.by_row);
        let named: BTreeSet<&String> = statement.tables().iter().collect();
        let stream = tables.remove(0);
        tables.retain(|table| named.contains(&table.name.to_lowercase()));
        tables.insert(0, stream);
        for table in &mut tables {
            (table.rows, table.version) = (Arc::default(), 0);
        }
        let (below, above) = (Plans::default(), Plans::default());
        Ok(Planned { statement, tables, groups, asked, by_row, keys, schema, below, above })
    }

    pub(super) fn groups(&self) -> &Groups {
        &self.groups
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Says whether what is above the groups looks at each by itself.
    pub(super) fn by_row(&self) -> bool {
        self.by_row
    }

    /// Which columns of the answer are what it is grouped by, in that order; none if one of those does not come out.
    pub(super) fn keys(&self) -> &[usize] {
        &self.keys
    }

    /// The names of the tables that do not stream.
    pub(super) fn static_tables(&self) -> impl Iterator<Item = &str> {
        self.tables[1..].iter().map(|table| table.name.as_str())
    }

    /// What a checkpoint says of the state: another content is not read as this one. The number is that of the form of rows.
    pub(super) fn content(&self) -> String {
        format!("continuous_sql 1: {}: {}", self.asked, self.groups.content())
    }

    /// Returns the groups of some rows of the stream, with their states.
    pub(super) fn of_rows(
        &self,
        rows: Vec<RecordBatch>,
        others: Vec<Table>,
        functions: &Functions,
    ) -> Result<Vec<(Packed, Packed)>> {
        let mut tables = vec![Table { rows: Arc::new(rows), ..self.tables[0].clone() }];
        tables.extend(others);
        let rows = tables.iter().map(lowered).collect::<Result<Vec<_>>>()?;
        let task = self.statement.session().task(Snapshot { tables: rows });
        let text = self.statement.text();
        let make = || {
            let (plan, _) = Part::of(&self.statement, &tables, functions)?.below(text)?;
            if let Some(what) = differs(self.groups.partial(), plan.schema().fields().iter()) {
                let text = format!("the groups of a statement have other types, since a table was read again: {what}");
                return Err(Error::new(ErrorKind::Data, text));
            }
            Ok((plan, Arc::default()))
        };
        let (batches, _) = self.below.run(Key::of(&tables, functions), task, text, make)?;
        let mut groups = Vec::new();
        for batch in &batches {
            groups.append(&mut self.groups.packed(batch)?);
        }
        Ok(groups)
    }

    /// Answers the statement from its groups.
    pub(super) fn answer(
        &self,
        groups: Vec<ArrowBatch>,
        others: Vec<Table>,
        functions: &Functions,
    ) -> Result<Vec<RecordBatch>> {
        let (tables, task) = self.read_above(groups, others)?;
        let make = || self.made_above(&tables, functions);
        let (batches, names) = self.above.run(Key::of(&tables, functions), task, self.statement.text(), make)?;
        batches.iter().map(|batch| with_names(batch, &names)).collect()
    }

    /// As [`answer`](Self::answer), where an async runtime runs.
    pub(super) async fn answer_here(
        &self,
        groups: Vec<ArrowBatch>,
        others: Vec<Table>,
        functions: &Functions,
    ) -> Result<Vec<RecordBatch>> {
        let (tables, task) = self.read_above(groups, others)?;
        let make = || self.made_above(&tables, functions);
        let run = self.above.run_here(Key::of(&tables, functions), task, self.statement.text(), make);
        let (batches, names) = run.await?;
        batches.iter().map(|batch| with_names(batch, &names)).collect()
    }

    /// What the part above the groups reads.
    fn read_above(&self, groups: Vec<ArrowBatch>, others: Vec<Table>) -> Result<(Vec<Table>, Arc<TaskContext>)> {
        let rows = Arc::new(groups.iter().cloned().map(RecordBatch::from).collect());
        let table = Table { name: GROUPS.to_owned(), schema: Arc::clone(self.groups.schema()), rows, version: 0 };
        let mut tables = vec![table];
        tables.extend(others);
        let mut rows = vec![Arc::new(groups)];
        for table in &tables[1..] {
            rows.push(lowered(table)?);
        }
        Ok((tables, self.statement.session().task(Snapshot { tables: rows })))
    }

    fn made_above(
        &self,
        tables: &[Table],
        functions: &Functions,
    ) -> Result<(Arc<dyn ExecutionPlan>, Arc<Vec<String>>)> {
        let count = tables[0].count();
        let mut below = tables.to_vec();
        below[0] = self.tables[0].clone();
        let part = Part::of(&self.statement, &below, functions)?;
        let names = Arc::new(part.names.clone());
        Ok((part.above(self.statement.text(), self.groups.schema(), count)?, names))
    }

    pub(super) fn ship(&self, functions: &Functions, w: &mut PlanWriter) -> Result<()> {
        if let Some(name) = functions.names().find(|name| self.statement.calls(name)) {
            let text = format!(
                "the function `{name}` is a closure of this process, and a statement that calls it cannot travel"
            );
            return Err(Error::new(ErrorKind::User, text));
        }
        let tables: Vec<(String, RecordBatch)> =
            self.tables.iter().map(|t| (t.name.clone(), RecordBatch::empty(Arc::clone(&t.schema)))).collect();
        let written: Written = (self.statement.text().to_owned(), self.statement.session().memory(), tables);
        w.value(&bytes::Bytes::from(codec::encode(&written)?))
    }

    pub(super) fn unship(r: &mut PlanReader<'_>) -> Result<Arc<Planned>> {
        arrived(&r.value::<bytes::Bytes>()?)
    }
}

/// A statement as it travels: its text, how much memory it may take, and its tables, which have no rows.
type Written = (String, u64, Vec<(String, RecordBatch)>);

/// How many statements of other processes are remembered here, with their plans.
const ARRIVED: usize = 64;

/// Returns the statement that arrived from another process: the same for each of its batches.
fn arrived(written: &[u8]) -> Result<Arc<Planned>> {
    type Known = BTreeMap<Vec<u8>, (u64, Arc<Planned>)>;
    static KNOWN: Mutex<(Known, u64)> = Mutex::new((BTreeMap::new(), 0));
    let (known, asked) = &mut *lock(&KNOWN);
    *asked += 1;
    if let Some((last, planned)) = known.get_mut(written) {
        *last = *asked;
        return Ok(Arc::clone(planned));
    }
    let (text, memory, tables): Written = codec::decode(written)?;
    let session = crate::session::of_arrived(memory)?;
    let tables = tables
        .into_iter()
        .map(|(name, none)| Table { name, schema: none.schema(), rows: Arc::default(), version: 0 })
        .collect();
    let planned = Arc::new(Planned::new(&text, &session, tables, &Functions::default())?);
    known.insert(written.to_vec(), (*asked, Arc::clone(&planned)));
    if known.len() > ARRIVED
        && let Some(oldest) = known.iter().min_by_key(|(_, (last, _))| *last).map(|(written, _)| written.clone())
    {
        known.remove(&oldest);
    }
    Ok(planned)
}

fn refused(why: &str) -> Error {
    Error::new(ErrorKind::Config, format!("the statement cannot be kept up to date: {why}"))
}

/// The state without the rule that makes two aggregates of one: the inner would keep all values, and the outer none.
pub(super) fn without_rewrites(state: &SessionState) -> SessionState {
    let rules = state.optimizers().iter().filter(|rule| rule.name() != "single_distinct_aggregation_to_group_by");
    let rules = rules.cloned().collect();
    SessionStateBuilder::new_from_existing(state.clone()).with_optimizer_rules(rules).build()
}

/// A statement's plan over tables, with its cut.
struct Part {
    state: SessionState,
    plan: LogicalPlan,
    names: Vec<String>,
    cut: Cut,
    asked: String,
}

impl Part {
    fn of(statement: &Statement, tables: &[Table], functions: &Functions) -> Result<Part> {
        let (state, plan, names) = statement.logical(tables, functions)?;
        let asked = asked(&plan);
        let state = without_rewrites(&state);
        let plan = state.optimize(&plan).map_err(|e| told(&e, statement.text()))?;
        let stream = tables.first().map(|table| table.name.to_lowercase()).unwrap_or_default();
        let cut = cut(&plan, &stream).map_err(|why| refused(&why))?;
        Ok(Part { state, plan, names, cut, asked })
    }

    /// The plan that makes groups and states of rows, and the aggregates whose states they are.
    fn below(&self, text: &str) -> Result<(Arc<dyn ExecutionPlan>, Vec<Arc<AggregateFunctionExpr>>)> {
        let plan = physical(&self.state, self.cut.groups.clone(), text)?;
        let Some(aggregate) = plan.downcast_ref::<AggregateExec>() else {
            return Err(millstream_core::bug!("the groups of a statement are planned as {}", plan.name()));
        };
        let aggregates = aggregate.aggr_expr().to_vec();
        if *aggregate.mode() == AggregateMode::Partial {
            return Ok((plan, aggregates));
        }
        if let Some(partial) = aggregate.input().downcast_ref::<AggregateExec>()
            && *partial.mode() == AggregateMode::Partial
        {
            return Ok((Arc::clone(aggregate.input()), aggregates));
        }
        let partial = AggregateExec::try_new(
            AggregateMode::Partial,
            aggregate.group_expr().clone(),
            aggregates.clone(),
            aggregate.filter_expr().to_vec(),
            Arc::clone(aggregate.input()),
            aggregate.input_schema(),
        );
        Ok((Arc::new(partial.map_err(|e| told(&e, text))?), aggregates))
    }

    /// The plan of what is above the groups: it reads them as its first table.
    fn above(&self, text: &str, groups: &SchemaRef, rows: usize) -> Result<Arc<dyn ExecutionPlan>> {
        let table = SlotTable { slot: 0, name: GROUPS.to_owned(), schema: Arc::clone(groups), rows };
        let scan = LogicalPlan::TableScan(TableScan {
            table_name: GROUPS.into(),
            source: provider_as_source(Arc::new(table)),
            projection: None,
            // Those above know the columns by the names that the aggregate gave them, with those of their tables.
            projected_schema: Arc::clone(self.cut.groups.schema()),
            filters: Vec::new(),
            fetch: None,
            statistics_requests: BTreeSet::new(),
        });
        let plan = replaced(self.plan.clone(), &self.cut.groups, &scan).map_err(|e| told(&e, text))?;
        physical(&self.state, plan, text)
    }
}

/// Plans what has been optimized already.
fn physical(state: &SessionState, plan: LogicalPlan, text: &str) -> Result<Arc<dyn ExecutionPlan>> {
    let state = state.clone();
    let planned = wait(async move { state.query_planner().create_physical_plan(&plan, &state).await })?;
    planned.map_err(|e| told(&e, text))
}

/// What groups and aggregates are written as: a state is not gone on from if they are others.
fn asked(plan: &LogicalPlan) -> String {
    let mut parts = Vec::new();
    let list =
        |of: &[datafusion::logical_expr::Expr]| of.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    // The plan is a tree that is walked as a whole: nothing in it stops the walk.
    let _ = datafusion::common::tree_node::TreeNode::apply(plan, |node| {
        match node {
            LogicalPlan::Aggregate(of) => parts.push(format!("({}) => {}", list(&of.group_expr), list(&of.aggr_expr))),
            LogicalPlan::Distinct(_) => parts.push("distinct".to_owned()),
            _ => {}
        }
        Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
    });
    parts.join(" of ")
}
