//! The groups of a statement that is kept up to date, as a live table: looked up by what the statement is grouped by, and read from end to
//! end. Only what is asked for is made a result.

use std::fmt;
use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch as ArrowBatch};
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{Schema, SchemaRef};
use datafusion::common::Result as PlanResult;
use futures::future::{BoxFuture, FutureExt as _};
use millstream_core::{CallSite, Error, ErrorKind, Result, Time};
use millstream_streaming::{Behind, MergedState};

use super::cells::Packed;
use super::planned::Planned;
use super::steps::Group;
use crate::context::SqlContext;
use crate::functions::Functions;
use crate::live::{AnyState, found, of_ours, read, times};
use crate::statement::{Table, relabelled};

/// A statement whose groups are to be a live table.
pub(crate) struct Asked<'a> {
    pub(super) planned: &'a Arc<Planned>,
    pub(super) state: &'a MergedState<Packed, Packed>,
    pub(super) sql: &'a SqlContext,
}

impl Asked<'_> {
    /// Fails if a row of the answer is not made of one group.
    pub(crate) fn check(&self) -> Result<()> {
        if self.planned.by_row() {
            return Ok(());
        }
        let text = "groups that are asked for are of statements whose rows are made each of one group: leave out ORDER BY, LIMIT, joins and \
                    OVER behind the groups, and group by something; or make the whole answer a table, with register_stream";
        Err(Error::new(ErrorKind::Graph, text))
    }

    /// The columns of the answer.
    pub(crate) fn schema(&self) -> &SchemaRef {
        self.planned.schema()
    }

    /// Which of them are what the statement is grouped by, in that order; none if one of those does not come out.
    pub(crate) fn keys(&self) -> &[usize] {
        self.planned.keys()
    }

    /// Gives `f` the groups behind each batch. `schema` is that of the table.
    pub(crate) fn foreach(
        &self,
        site: CallSite,
        planned: impl Fn(Time) + Send + 'static,
        schema: SchemaRef,
        f: impl Fn(Time, Arc<dyn AnyState>) + Send + Sync + 'static,
    ) {
        let (of, sql) = (Arc::clone(self.planned), self.sql.clone());
        let columns = schema.fields().len().saturating_sub(1);
        let plain = Arc::new(Schema::new(schema.fields().iter().take(columns).cloned().collect::<Vec<_>>()));
        let _ = self.state.foreach_behind(site, planned, move |states| {
            let time = states.time();
            let seen = sql.tables_at(time);
            let others = of.static_tables().filter_map(|name| Some(seen.get(&name.to_lowercase())?.table(name)));
            let answers = Answers {
                planned: Arc::clone(&of),
                others: others.collect(),
                functions: sql.functions(),
                time,
                plain: Arc::clone(&plain),
                schema: Arc::clone(&schema),
            };
            f(time, Arc::new(GroupTable { states, answers: Arc::new(answers) }));
        });
    }
}

/// The groups behind a batch.
struct GroupTable {
    states: Behind<Packed, Packed>,
    answers: Arc<Answers>,
}

/// What makes rows of groups.
struct Answers {
    planned: Arc<Planned>,
    /// The tables that do not stream, as the batch saw them.
    others: Vec<Table>,
    functions: Arc<Functions>,
    time: Time,
    /// The columns of the table without the batch's time.
    plain: SchemaRef,
    schema: SchemaRef,
}

impl Answers {
    async fn of(&self, groups: Vec<Group>) -> PlanResult<ArrowBatch> {
        if groups.is_empty() {
            return Ok(ArrowBatch::new_empty(Arc::clone(&self.schema)));
        }
        let results = self.planned.groups().results(&groups).map_err(of_ours)?;
        let answer = self.planned.answer_here(vec![results], self.others.clone(), &self.functions).await;
        let mut rows = Vec::new();
        for batch in answer.map_err(of_ours)? {
            let batch = relabelled(&batch, &self.plain).map_err(of_ours)?;
            let mut columns = batch.columns().to_vec();
            columns.push(times(self.time, batch.num_rows()));
            rows.push(ArrowBatch::try_new(Arc::clone(&self.schema), columns)?);
        }
        Ok(concat_batches(&self.schema, &rows)?)
    }
}

impl fmt::Debug for GroupTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.states.fmt(f)
    }
}

impl AnyState for GroupTable {
    fn len(&self) -> usize {
        self.states.len()
    }

    /// Groups are made results first, by the program's functions.
    fn is_at_hand(&self) -> bool {
        false
    }

    fn look_up(&self, keys: &[ArrayRef]) -> PlanResult<BoxFuture<'static, PlanResult<ArrowBatch>>> {
        let keys = self.answers.planned.groups().packed_keys(keys).map_err(of_ours)?;
        let (groups, answers) = (found(&self.states, keys), Arc::clone(&self.answers));
        Ok(async move { answers.of(groups.await?).await }.boxed())
    }

    fn pieces(&self) -> Box<dyn Iterator<Item = PlanResult<ArrowBatch>> + Send> {
        let answers = Arc::clone(&self.answers);
        Box::new(read(&self.states).map(move |groups| futures::executor::block_on(answers.of(groups?))))
    }
}
