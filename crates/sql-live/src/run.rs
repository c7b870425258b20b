//! Running a statement: on threads of its own, for so long, with so many rows, until it is cancelled.

use std::sync::Arc;
use std::time::Duration;

use arrow_pg::datatypes::{arrow_schema_to_pg_fields, field_into_pg_type};
use datafusion::arrow::array::RecordBatch;
use datafusion::common::ParamValues;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::Statement;
use futures::{Stream, StreamExt as _, stream};
use millstream_core::clock::monotonic;
use millstream_sql::live::{LiveBatch, Point};
use pgwire::api::portal::Format;
use pgwire::api::results::{FieldInfo, QueryResponse};
use pgwire::error::{PgWireError, PgWireResult};
use pgwire::messages::data::DataRow;
use pgwire::types::format::FormatOptions;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use crate::any::typed;
use crate::error::{CANCELLED, INTERNAL, NOT_SUPPORTED, READ_ONLY, TOO_MUCH, TOO_OLD, TOO_WIDE, error, of_plan};
use crate::kept::is_ready_before_its_values;
use crate::prepared::{Parameter, parameters};
use crate::rows;
use crate::session::Connection;

/// What comes of a run, in order: rows, and the word that these were all.
enum Given {
    Rows(RecordBatch),
    Failed(PgWireError),
    End,
}

/// How many batches of rows are made before somebody reads them.
const AHEAD: usize = 2;

/// What a statement asks.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// As it was read.
    pub(crate) asked: Arc<LogicalPlan>,
    /// The same, optimised, if that may be done before the values of its parameters are known.
    ready: Option<Arc<LogicalPlan>>,
    /// The key that it asks for, if it asks for nothing else, and its parameters.
    point: Option<(Arc<Point>, Arc<[Parameter]>)>,
}

impl Plan {
    /// Its parameters, `$1` first. They are kept where they are few and asked for often.
    pub(crate) fn parameters(&self) -> PgWireResult<Arc<[Parameter]>> {
        match &self.point {
            Some((_, parameters)) => Ok(Arc::clone(parameters)),
            None => Ok(parameters(&self.asked)?.into()),
        }
    }

    /// The plan with its values, the one that costs less to run.
    pub(crate) fn with(&self, values: Option<ParamValues>) -> PgWireResult<Valued> {
        Ok(match (&self.ready, &self.point) {
            (Some(ready), Some((point, _))) => {
                Valued::Point { point: Arc::clone(point), plan: Arc::clone(ready), values }
            }
            (Some(ready), None) => Valued::Whole { plan: whole(ready, values)?, is_optimised: true },
            (None, _) => Valued::Whole { plan: whole(&self.asked, values)?, is_optimised: false },
        })
    }
}

/// A plan with its values.
pub(crate) enum Valued {
    Whole {
        plan: LogicalPlan,
        is_optimised: bool,
    },
    /// Its plan is optimised, and needs its values only if the key cannot be looked up without it.
    Point {
        point: Arc<Point>,
        plan: Arc<LogicalPlan>,
        values: Option<ParamValues>,
    },
}

impl Valued {
    /// The plan, for its columns.
    pub(crate) fn plan(&self) -> &LogicalPlan {
        match self {
            Valued::Whole { plan, .. } => plan,
            Valued::Point { plan, .. } => plan,
        }
    }

    /// The plan, with its values in it, and whether it is optimised.
    fn whole(self) -> PgWireResult<(LogicalPlan, bool)> {
        match self {
            Valued::Whole { plan, is_optimised } => Ok((plan, is_optimised)),
            Valued::Point { plan, values, .. } => Ok((whole(&plan, values)?, true)),
        }
    }
}

fn whole(plan: &LogicalPlan, values: Option<ParamValues>) -> PgWireResult<LogicalPlan> {
    match values {
        Some(values) => plan.clone().replace_params_with_values(&values).map_err(|e| of_plan(&e, "")),
        None => Ok(plan.clone()),
    }
}

/// Plans a statement. It must be a query, also inside.
pub(crate) async fn plan(connection: &Arc<Connection>, statement: Statement) -> PgWireResult<Plan> {
    let session = Arc::clone(&connection.session);
    let planning = connection.house.queries.spawn(async move {
        let mut session = session.lock().await;
        let options = Arc::clone(session.config_options());
        session.execution_props_mut().mark_start_execution(options);
        let text = statement.to_string();
        let plan = session.statement_to_plan(Parsed::Statement(Box::new(statement))).await;
        let plan = plan.and_then(typed).map_err(|e| of_plan(&e, &text))?;
        match writes(&plan) {
            true => Err(error(READ_ONLY, "here streams are read, nothing is written or defined")),
            false => {
                // What cannot be optimised says why when it runs.
                let ready = is_ready_before_its_values(&plan).then(|| session.optimize(&plan).ok()).flatten();
                let point = match ready.as_ref().and_then(Point::of) {
                    Some(point) => {
                        let parameters = parameters(&plan)?;
                        (parameters.len() <= point.parameters()).then(|| (Arc::new(point), parameters.into()))
                    }
                    None => None,
                };
                Ok(Plan { asked: Arc::new(plan), ready: ready.map(Arc::new), point })
            }
        }
    });
    until_told(connection, planning).await
}

/// Says whether a plan does anything but read.
fn writes(plan: &LogicalPlan) -> bool {
    let mut found = false;
    // It fails if we fail, which we do not.
    let _ = plan.apply_with_subqueries(|node| {
        found |= matches!(
            node,
            LogicalPlan::Ddl(_) | LogicalPlan::Dml(_) | LogicalPlan::Copy(_) | LogicalPlan::Statement(_)
        );
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found
}

/// Waits for something that is computed elsewhere, until the statement is cancelled or has taken too long.
async fn until_told<T: Send + 'static>(
    connection: &Arc<Connection>,
    running: tokio::task::JoinHandle<PgWireResult<T>>,
) -> PgWireResult<T> {
    let mut cancelled = connection.cancellations();
    let abort = running.abort_handle();
    let result = tokio::select! {
        done = running => match done {
            Ok(result) => return result,
            Err(failed) if failed.is_panic() => Err(error(INTERNAL, "the statement could not be planned: that is a bug")),
            Err(_) => Err(error(CANCELLED, "the statement was ended")),
        },
        _ = cancelled.changed() => Err(on_request()),
        () = tokio::time::sleep(connection.timeout()) => Err(too_long(connection.timeout())),
    };
    abort.abort();
    result
}

fn on_request() -> PgWireError {
    error(CANCELLED, "canceling statement due to user request")
}

fn too_long(timeout: Duration) -> PgWireError {
    error(CANCELLED, format!("canceling statement due to statement timeout: it took longer than {timeout:?}"))
}

fn too_many(most: usize) -> PgWireError {
    error(TOO_MUCH, format!("the statement gives more than {most} rows: ask for fewer, with LIMIT or a condition"))
}

/// The most columns that an answer may have, as in Postgres.
const COLUMNS: usize = 1664;

/// Returns the columns that a plan gives, as they are told to the client.
pub(crate) fn fields(
    plan: &LogicalPlan,
    format: &Format,
    options: Option<Arc<FormatOptions>>,
) -> PgWireResult<Vec<FieldInfo>> {
    let schema = plan.schema().as_arrow();
    if schema.fields().len() > COLUMNS {
        return Err(error(TOO_WIDE, format!("target lists can have at most {COLUMNS} entries")));
    }
    if let Some(field) = schema.fields().iter().find(|field| field_into_pg_type(field).is_err()) {
        let (name, of) = (field.name(), field.data_type());
        let text = format!(
            "the column \"{name}\" is of type {of}, for which Postgres has no form: ask for what is in it, or leave it out"
        );
        return Err(error(NOT_SUPPORTED, text));
    }
    arrow_schema_to_pg_fields(schema, format, options)
}

/// Runs a plan over a batch. Rows come when they are read.
pub(crate) fn run(
    connection: &Arc<Connection>,
    plan: Valued,
    batch: Arc<LiveBatch>,
    fields: Arc<Vec<FieldInfo>>,
) -> PgWireResult<QueryResponse> {
    let plan = plan.whole()?;
    let (tell, told) = mpsc::channel(AHEAD);
    let session = Arc::clone(&connection.session);
    let age = connection.house.limits.age;
    let run = async move {
        let running = produce(session, plan, batch, tell.clone());
        let last = match tokio::time::timeout(age, running).await {
            Ok(Ok(())) => Given::End,
            Ok(Err(failed)) => Given::Failed(failed),
            Err(_) => Given::Failed(error(
                TOO_OLD,
                format!("its rows were not read within {age:?}, and its batch has been let go: ask again"),
            )),
        };
        // Who asked may have gone.
        let _ = tell.send(last).await;
    };
    let running = connection.house.queries.spawn(run).abort_handle();
    connection.runs(running.clone());
    let reading = Reading {
        told,
        cancelled: connection.cancellations(),
        left: connection.timeout(),
        timeout: connection.timeout(),
        rows_left: connection.house.limits.rows,
        rows: connection.house.limits.rows,
        running: Ended(running),
        over: false,
    };
    let of = Arc::clone(&fields);
    let rows = stream::unfold(reading, move |mut reading| {
        let fields = Arc::clone(&of);
        async move { reading.next(&fields).await.map(|rows| (rows, reading)) }
    });
    Ok(one_by_one(fields, rows))
}

/// The answer to a query, whose rows come some at a time.
fn one_by_one(
    fields: Arc<Vec<FieldInfo>>,
    rows: impl Stream<Item = PgWireResult<Vec<DataRow>>> + Send + 'static,
) -> QueryResponse {
    let rows = rows.flat_map(|rows| match rows {
        Ok(rows) => stream::iter(rows.into_iter().map(Ok)).left_stream(),
        Err(failed) => stream::iter([Err(failed)]).right_stream(),
    });
    // A cursor that is at its end is asked again.
    QueryResponse::new(fields, rows.fuse())
}

/// Looks the row of a key up in memory, if the statement asks for no more: no thread for statements is woken for that. It is to be read
/// at once, as the state stays as it is for so long.
pub(crate) fn look_up(
    connection: &Arc<Connection>,
    plan: &Valued,
    batch: &LiveBatch,
    fields: &Arc<Vec<FieldInfo>>,
) -> Option<QueryResponse> {
    let Valued::Point { point, values, .. } = plan else { return None };
    // What a state was long ago takes longer to find.
    if connection.is_in_transaction() && connection.house.sql.live().newest().time() != batch.time() {
        return None;
    }
    let row = point.look_up(batch, values.as_ref())?;
    let (mut cancelled, timeout, most) =
        (connection.cancellations(), connection.timeout(), connection.house.limits.rows);
    let of = Arc::clone(fields);
    let rows = async move {
        let row = tokio::select! {
            biased;
            row = row => row.map_err(|e| of_plan(&e, ""))?,
            _ = cancelled.changed() => return Err(on_request()),
            () = tokio::time::sleep(timeout) => return Err(too_long(timeout)),
        };
        if row.num_rows() > most { Err(too_many(most)) } else { rows::encoded(&of, &row) }
    };
    Some(one_by_one(Arc::clone(fields), stream::once(rows)))
}

/// Lets go of a batch. If nobody else has it any more, that may take a while: it is no work for a thread that speaks with clients.
pub(crate) fn let_go(connection: &Connection, batch: Arc<LiveBatch>) {
    if Arc::strong_count(&batch) == 1 {
        drop(connection.house.queries.spawn(async move { drop(batch) }));
    }
}

/// Computes the rows of a plan, on a thread for statements.
async fn produce(
    session: Arc<tokio::sync::Mutex<datafusion::execution::SessionState>>,
    (plan, is_optimised): (LogicalPlan, bool),
    batch: Arc<LiveBatch>,
    tell: mpsc::Sender<Given>,
) -> PgWireResult<()> {
    let failed = |e: datafusion::error::DataFusionError| of_plan(&e, "");
    let mut rows = {
        let session = session.lock().await;
        let plan = if is_optimised { plan } else { session.optimize(&plan).map_err(failed)? };
        let plan = session.query_planner().create_physical_plan(&plan, &*session).await.map_err(failed)?;
        execute_stream(plan, task(&session, batch)).map_err(failed)?
    };
    loop {
        match rows.next().await {
            Some(Ok(rows)) if rows.num_rows() == 0 => {}
            Some(Ok(rows)) => {
                if tell.send(Given::Rows(rows)).await.is_err() {
                    return Ok(());
                }
            }
            Some(Err(e)) => return Err(failed(e)),
            None => return Ok(()),
        }
    }
}

/// What a plan runs with: the batch, and nothing that is copied for it.
fn task(session: &datafusion::execution::SessionState, batch: Arc<LiveBatch>) -> Arc<TaskContext> {
    let config: SessionConfig = session.config().clone().with_extension(batch);
    Arc::new(TaskContext::new(
        None,
        session.session_id().to_owned(),
        config,
        session.scalar_functions().clone(),
        Default::default(),
        session.aggregate_functions().clone(),
        session.window_functions().clone(),
        Arc::clone(session.runtime_env()),
    ))
}

/// Ends what runs when nobody reads it any more.
struct Ended(AbortHandle);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The side that reads.
struct Reading {
    told: mpsc::Receiver<Given>,
    cancelled: watch::Receiver<u64>,
    /// How long it may still be waited for rows. That the client waits is not counted.
    left: Duration,
    timeout: Duration,
    rows_left: usize,
    rows: usize,
    #[allow(dead_code, reason = "it is there to be dropped")]
    running: Ended,
    over: bool,
}

impl Reading {
    async fn next(&mut self, fields: &Arc<Vec<FieldInfo>>) -> Option<PgWireResult<Vec<DataRow>>> {
        if self.over {
            return None;
        }
        let began = monotonic();
        let given = tokio::select! {
            biased;
            _ = self.cancelled.changed() => Some(Given::Failed(on_request())),
            given = self.told.recv() => given,
            () = tokio::time::sleep(self.left) => Some(Given::Failed(too_long(self.timeout))),
        };
        self.left = self.left.saturating_sub(monotonic().saturating_sub(began));
        let rows = match given {
            Some(Given::End) => None,
            Some(Given::Failed(failed)) => Some(Err(failed)),
            Some(Given::Rows(rows)) if rows.num_rows() > self.rows_left => Some(Err(too_many(self.rows))),
            Some(Given::Rows(rows)) => {
                self.rows_left -= rows.num_rows();
                Some(rows::encoded(fields, &rows))
            }
            // It was ended from outside.
            None => Some(Err(error(
                TOO_OLD,
                "the statement was ended: its transaction is too old, or its connection closes",
            ))),
        };
        self.over = !matches!(rows, Some(Ok(_)));
        rows
    }
}

#[cfg(test)]
mod tests {
    use millstream_sql::SqlContext;
    use millstream_testkit::{StreamTest, batches};

    use super::*;
    use crate::catalog;
    use crate::dialect::Dialect;
    use crate::limits::ServeSpec;
    use crate::session::House;

    #[test]
    fn what_asks_for_one_key_is_known_when_it_is_prepared() {
        let test = StreamTest::new();
        let pairs = test.input(batches![[("a".to_owned(), 1i64)]]);
        let sql = SqlContext::new(test.ssc()).unwrap();
        sql.register_state("totals", &pairs.update_state_by_key(|new, old| new.last().copied().or(old)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let limits = ServeSpec::at("127.0.0.1:0").limits;
        let base = catalog::session(&sql, &limits).unwrap();
        let connection = Connection::new(&Arc::new(House::new(&sql, base, limits, runtime.handle().clone())));
        for (text, is_point) in [
            ("SELECT value FROM totals WHERE key = $1", true),
            ("SELECT t.*, t.value AS v FROM totals AS t WHERE 'a' = t.key", true),
            ("SELECT \"value\" FROM public.totals WHERE key = 'a'::text", true),
            ("SELECT value FROM totals WHERE key = $1 AND value > 3", false),
            ("SELECT value FROM totals WHERE key = lower($1)", false),
            ("SELECT value FROM totals", false),
        ] {
            let statement = Dialect::new().read(text).unwrap().remove(0);
            let plan = runtime.block_on(plan(&connection, statement)).unwrap();
            assert_eq!(plan.point.is_some(), is_point, "{text}");
        }
    }
}
