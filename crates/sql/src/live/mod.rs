//! Live tables: what streams and states were behind the newest batch, for who asks from outside of all batches.
//!
//! A batch is published as a whole, by one pointer: when the last of its live tables is there. Who asks takes the pointer, and sees
//! this batch until it lets go of it, whatever is published meanwhile. Nothing is copied for that: rows are shared, and states are read
//! through [`StateView`](millstream_streaming::StateView)s.
//!
//! ```text
//!   plan of batch t      expects: readings, counts; static tables as the batch sees them
//!   its jobs             ├─ readings: columns ─┐
//!                        └─ counts: a view ────┴─► all are there: published ──► newest
//!   a statement          takes newest, once, and hands it to all of its leaves       leaf.rs
//! ```

mod leaf;
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch as ArrowBatch;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::sql::sqlparser::ast::Expr;
use millstream_core::threads::lock;
use millstream_core::{CallSite, Error, ErrorKind, Rdd, Result, Time, mutants, pass_over};
use millstream_streaming::DStream;

use self::leaf::LeafTable;
use self::states::AnyState;
pub use self::states::States;
use crate::columnar::Columnar;
use crate::context::{SqlContext, check_name};
use crate::row::{Cell, Row};
use crate::statement::{relabelled, small};
use crate::stream::ToColumns;
use crate::tables::Version;

/// What went wrong with a statement, as this crate says it.
pub fn told(error: &datafusion::error::DataFusionError, statement: &str) -> Error {
    crate::error::told(error, statement)
}

/// The call of a function in a statement.
pub fn call(name: &str, arguments: Vec<Expr>) -> Expr {
    crate::dialect::call_of(name, arguments)
}

/// The column of live tables that says which batch it is.
const BATCH: &str = "batch";

/// How many batches are open at once at most. One that failed stays open.
const OPEN: usize = 64;

/// What a table holds behind a batch.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Rows { time: Time, rows: Arc<Vec<ArrowBatch>> },
    State(Arc<dyn AnyState>),
}

/// One batch, as all who ask at this time see it.
#[derive(Debug)]
pub struct LiveBatch {
    time: Option<Time>,
    tables: BTreeMap<String, Content>,
    statics: Arc<BTreeMap<String, Arc<Version>>>,
}

impl LiveBatch {
    /// Returns its time; nothing before the first batch.
    pub fn time(&self) -> Option<Time> {
        self.time
    }
}

/// The live tables of a program.
pub struct Live {
    newest: Mutex<Arc<LiveBatch>>,
    making: Mutex<Making>,
}

#[derive(Default)]
struct Making {
    /// The tables that there will be, and their columns as far as they are known.
    known: BTreeMap<String, Option<SchemaRef>>,
    open: BTreeMap<Time, Open>,
}

/// A batch whose tables are not all there.
#[derive(Default)]
struct Open {
    expected: BTreeSet<String>,
    tables: BTreeMap<String, Content>,
    statics: Arc<BTreeMap<String, Arc<Version>>>,
}

impl Live {
    pub(crate) fn new() -> Live {
        let none = LiveBatch { time: None, tables: BTreeMap::new(), statics: Arc::default() };
        Live { newest: Mutex::new(Arc::new(none)), making: Mutex::default() }
    }

    /// Returns the newest batch: one pointer.
    pub fn newest(&self) -> Arc<LiveBatch> {
        Arc::clone(&lock(&self.newest))
    }

    pub(crate) fn declare(&self, name: &str, schema: Option<SchemaRef>) -> Result<()> {
        let mut making = lock(&self.making);
        if making.known.contains_key(name) {
            let text = format!("there is a live table `{name}` already: give this one another name");
            return Err(Error::new(ErrorKind::Graph, text));
        }
        making.known.insert(name.to_owned(), schema);
        Ok(())
    }

    /// Says that a batch will have a table, before anything of the batch runs.
    pub(crate) fn expect(&self, time: Time, name: &str, statics: Arc<BTreeMap<String, Arc<Version>>>) {
        let mut making = lock(&self.making);
        let open = making.open.entry(time).or_default();
        open.expected.insert(name.to_owned());
        open.statics = statics;
        while making.open.len() > OPEN {
            making.open.pop_first();
        }
    }

    /// Adds a table to its batch, and publishes the batch if it was the last.
    pub(crate) fn add(&self, time: Time, name: &str, schema: &SchemaRef, content: Content) {
        let mut making = lock(&self.making);
        if let Some(known @ None) = making.known.get_mut(name)
            && !schema.fields().is_empty()
        {
            *known = Some(Arc::clone(schema));
        }
        let Some(open) = making.open.get_mut(&time) else { return };
        open.tables.insert(name.to_owned(), content);
        let whole = open.expected.iter().all(|name| open.tables.contains_key(name));
        if mutants::planted(mutants::Mutant::LiveTablesOneByOne) {
            // The mistake of who publishes each table when it is there: a statement may see two batches.
            let mut tables = self.newest().tables.clone();
            tables.extend(open.tables.iter().map(|(name, content)| (name.clone(), content.clone())));
            let next = LiveBatch { time: Some(time), tables, statics: Arc::clone(&open.statics) };
            *lock(&self.newest) = Arc::new(next);
            return;
        }
        let Some(open) = whole.then(|| making.open.remove(&time)).flatten() else { return };
        drop(making);
        self.publish(time, open);
    }

    /// Makes a whole batch the newest. Tables that it has not, as those of streams that slide less often, stay as they are.
    fn publish(&self, time: Time, open: Open) {
        let before = self.newest();
        if before.time.is_some_and(|before| before >= time) {
            return;
        }
        let mut tables = before.tables.clone();
        tables.extend(open.tables);
        let next = Arc::new(LiveBatch { time: Some(time), tables, statics: open.statics });
        // What is let go may be large: it is dropped without the lock.
        let old = {
            let mut newest = lock(&self.newest);
            match newest.time.is_some_and(|newest| newest >= time) {
                true => next,
                false => std::mem::replace(&mut *newest, next),
            }
        };
        drop((old, before));
    }

    /// The tables that can be asked now, and those that will be with the first batch.
    fn schemas(&self) -> BTreeMap<String, SchemaRef> {
        let newest = self.newest();
        let mut all: BTreeMap<String, SchemaRef> = BTreeMap::new();
        for (name, version) in newest.statics.iter() {
            if let Ok(schema) = small(&version.table(name).schema, name) {
                all.insert(name.clone(), Arc::new(schema));
            }
        }
        let making = lock(&self.making);
        all.extend(making.known.iter().filter_map(|(name, schema)| Some((name.clone(), Arc::clone(schema.as_ref()?)))));
        all
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Live").field(&self.newest()).finish()
    }
}

/// The live and the static tables of a program, as a schema of a catalogue. It holds no rows: those come with the task.
#[derive(Debug)]
pub struct LiveSchema(pub SqlContext);

#[async_trait]
impl SchemaProvider for LiveSchema {
    fn table_names(&self) -> Vec<String> {
        self.0.refresh_statics();
        self.0.live().schemas().into_keys().filter(|name| !name.contains('.')).collect()
    }

    async fn table(&self, name: &str) -> datafusion::error::Result<Option<Arc<dyn TableProvider>>> {
        self.0.refresh_statics();
        let schema = self.0.live().schemas().remove(name);
        Ok(schema.map(|schema| {
            let rows = self.0.live().newest().rows_of(name);
            Arc::new(LeafTable { name: name.to_owned(), schema, rows }) as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.refresh_statics();
        self.0.live().schemas().contains_key(name)
    }
}

impl LiveBatch {
    /// About how many rows a table has.
    fn rows_of(&self, name: &str) -> usize {
        match self.tables.get(name) {
            Some(Content::Rows { rows, .. }) => rows.iter().map(ArrowBatch::num_rows).sum(),
            Some(Content::State(state)) => state.len(),
            None => {
                self.statics.get(name).map_or(0, |version| version.table(name).rows.iter().map(|r| r.num_rows()).sum())
            }
        }
    }
}

/// The columns of a live table: those of its rows in small letters, and the batch's time.
fn with_batch(fields: &Schema, name: &str) -> Result<SchemaRef> {
    let small = small(fields, name)?;
    if small.fields().iter().any(|field| field.name() == BATCH) {
        let text = format!(
            "the column `{BATCH}` of the live table `{name}` is the batch's time: call the one of its rows otherwise"
        );
        return Err(Error::new(ErrorKind::Graph, text));
    }
    let mut fields: Vec<Field> = small.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields.push(Time::field(BATCH));
    Ok(Arc::new(Schema::new(fields)))
}

impl SqlContext {
    /// Makes the newest batch of a stream a live table, which can be asked from outside of all batches: see `serve`. This is an
    /// output: it makes the batch run.
    ///
    /// The table has the columns of the stream's rows, in small letters, and beside them `batch`, the time of the batch. All live
    /// tables of a program are those of the same batch: one is published as a whole, when the last of its live tables is there. A
    /// window is a stream as any other: `register_stream("last_minute", &stream.columns().window(secs(60)))` keeps its columns, and
    /// not rows, in the window. What of a batch is live does not wait for its other outputs, nor for what makes it durable.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_sql::SqlContext;
    /// # use millstream_testkit::{StreamTest, batches};
    ///
    /// # let mut test = StreamTest::new();
    /// # let readings = test.input(batches![[("pump".to_owned(), 71.5f64)]]);
    /// let sql = SqlContext::new(test.ssc())?;
    /// sql.register_stream("readings", &readings);
    /// # test.run(1)?;
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// `start()` reports a name that is none or taken, two columns of a name, and a column `batch`. A batch fails whose columns are not
    /// those of the batches before it.
    ///
    /// # Cost
    ///
    /// The rows of each batch are written as columns, which are kept until the next batch is published and nobody looks at them any
    /// more.
    #[track_caller]
    pub fn register_stream<T: Columnar>(&self, name: &str, stream: &DStream<T>) {
        let site = CallSite::here("register_stream");
        let schema = match self.declared::<T>(name) {
            Ok(schema) => schema,
            Err(error) => return stream.mistake(Error::new(ErrorKind::Graph, error.message()).at(site)),
        };
        let name = name.to_lowercase();
        let expected = self.expecting(stream, &name, site);
        let columns = expected.lift(site, move |rdd, _| pass_over(&rdd, ToColumns::<T>::default(), site));
        let live = Arc::clone(self.live());
        let _ = columns.foreach_rdd_at(site, move |rdd: Rdd<crate::RecordBatch>, time| {
            let batches = CallSite::scope(Some(site), || rdd.collect())?;
            let seen = lock(&live.making).known.get(&name).cloned().flatten();
            let schema = match (schema.clone().or(seen), batches.first()) {
                (Some(schema), _) => schema,
                (None, Some(first)) => with_batch(&first.schema(), &name)?,
                // Nobody knows the columns of a stream of columns that has none.
                (None, None) => Arc::new(Schema::empty()),
            };
            let plain = Arc::new(Schema::new(
                schema.fields().iter().take(schema.fields().len().saturating_sub(1)).cloned().collect::<Vec<_>>(),
            ));
            let mut rows = Vec::new();
            for batch in batches.iter().filter(|batch| batch.num_rows() > 0) {
                let differ = |what: &str| {
                    let text =
                        format!("the columns of the live table `{name}` are not those of the batches before: {what}");
                    Error::new(ErrorKind::Data, text).at(site)
                };
                if batch.num_columns() != plain.fields().len() {
                    return Err(differ(&format!("{} and not {}", batch.num_columns(), plain.fields().len())));
                }
                rows.push(relabelled(batch, &plain).map_err(|e| differ(e.message()))?);
            }
            live.add(time, &name, &schema, Content::Rows { time, rows: Arc::new(rows) });
            Ok(())
        });
    }

    /// Makes the states of all keys a live table: those of `map_with_state`, or of `update_state_by_key`. This is an output.
    ///
    /// Its columns are `key`, those of the state, or `value` if that is no struct, and `batch`. A statement that asks for some keys,
    /// by `key = …` or `key IN (…)`, looks them up in the state's own table and waits for no batch; all others read it from end to
    /// end, some rows at a time.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_sql::SqlContext;
    /// use millstream_streaming::{State, StateSpec};
    /// # use millstream_testkit::{StreamTest, batches};
    ///
    /// # let mut test = StreamTest::new();
    /// # let pairs = test.input(batches![[("pump".to_owned(), 1i64)]]);
    /// let sql = SqlContext::new(test.ssc())?;
    /// let counts = pairs.map_with_state(StateSpec::function(|_: &String, n: Option<i64>, state: &mut State<'_, i64>| {
    ///     state.update(state.get_option().copied().unwrap_or(0) + n.unwrap_or(0));
    /// }));
    /// sql.register_state("counts", &counts);
    /// # test.run(1)?;
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`register_stream`](Self::register_stream)'s. `start()` refuses states of `map_with_state` where tasks run in other processes, as
    /// there the states are; register the stream of `state_snapshots()` instead, in which keys are looked up, too.
    ///
    /// # Cost
    ///
    /// In each batch, nothing that grows with the state for `map_with_state`; a copy of the pairs for `update_state_by_key`, which
    /// calls its function for each of them anyway; from other processes they are sent to the driver.
    #[track_caller]
    pub fn register_state<S: States>(&self, name: &str, states: &S) {
        let site = CallSite::here("register_state");
        let mut fields = vec![S::Key::field("key")];
        fields.extend(S::State::fields());
        let schema = check_name(name)
            .and_then(|()| with_batch(&Schema::new(fields), name))
            .and_then(|schema| self.live().declare(&name.to_lowercase(), Some(Arc::clone(&schema))).map(|()| schema));
        let schema = match schema {
            Ok(schema) => schema,
            Err(error) => return states.mistake(Error::new(ErrorKind::Graph, error.message()).at(site)),
        };
        let name = name.to_lowercase();
        let (live, expects, expected) = (Arc::clone(self.live()), self.clone(), name.clone());
        states.foreach(
            site,
            move |time| expects.live().expect(time, &expected, expects.tables_at(time)),
            move |view| {
                let time = view.time();
                let state: Arc<dyn AnyState> = S::viewed(view, &schema);
                live.add(time, &name, &schema, Content::State(state));
            },
        );
    }

    fn declared<T: Columnar>(&self, name: &str) -> Result<Option<SchemaRef>> {
        check_name(name)?;
        let schema = T::schema().map(|schema| with_batch(&schema, name)).transpose()?;
        self.live().declare(&name.to_lowercase(), schema.clone())?;
        Ok(schema)
    }

    /// The same stream, whose batches are expected when they are planned.
    fn expecting<T: millstream_core::Data>(&self, stream: &DStream<T>, name: &str, site: CallSite) -> DStream<T> {
        let (sql, name) = (self.clone(), name.to_owned());
        stream.lift(site, move |rdd, time| {
            sql.live().expect(time, &name, sql.tables_at(time));
            rdd
        })
    }

    /// Before there is a batch, static tables are as they are.
    fn refresh_statics(&self) {
        let live = self.live();
        if live.newest().time.is_none() {
            let statics = Arc::new(self.newest_versions());
            let mut newest = lock(&live.newest);
            if newest.time.is_none() {
                *newest = Arc::new(LiveBatch { time: None, tables: BTreeMap::new(), statics });
            }
        }
    }
}
