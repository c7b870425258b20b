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
//!     about one key      asks the state itself                                       point.rs
//! ```

mod leaf;
mod point;
mod register;
mod states;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use datafusion::arrow::array::RecordBatch as ArrowBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::sql::sqlparser::ast::Expr;
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, Time, mutants};

use self::leaf::LeafTable;
pub use self::point::Point;
pub use self::states::States;
pub(crate) use self::states::{AnyState, found, of_ours, read, times};
use crate::context::SqlContext;
use crate::statement::small;
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
    /// The tables that there will be.
    known: BTreeMap<String, Known>,
    open: BTreeMap<Time, Open>,
}

/// What is known of a table before it is there.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Its columns, if those are known.
    schema: Option<SchemaRef>,
    /// Which of them make a key that can be looked up.
    keys: Vec<usize>,
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

    /// Says that there will be a table. `keys` are those of its columns that make a key, if it can be looked up.
    pub(crate) fn declare(&self, name: &str, schema: Option<SchemaRef>, keys: Vec<usize>) -> Result<()> {
        let mut making = lock(&self.making);
        if making.known.contains_key(name) {
            let text = format!("there is a live table `{name}` already: give this one another name");
            return Err(Error::new(ErrorKind::Graph, text));
        }
        making.known.insert(name.to_owned(), Known { schema, keys });
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
        if let Some(Known { schema: known @ None, .. }) = making.known.get_mut(name)
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

    /// The tables that can be asked now, and those that will be with the first batch: their columns, and which make a key.
    fn schemas(&self) -> BTreeMap<String, (SchemaRef, Vec<usize>)> {
        let newest = self.newest();
        let mut all: BTreeMap<String, (SchemaRef, Vec<usize>)> = BTreeMap::new();
        for (name, version) in newest.statics.iter() {
            if let Ok(schema) = small(&version.table(name).schema, name) {
                all.insert(name.clone(), (Arc::new(schema), Vec::new()));
            }
        }
        let making = lock(&self.making);
        for (name, Known { schema, keys }) in &making.known {
            if let Some(schema) = schema {
                all.insert(name.clone(), (Arc::clone(schema), keys.clone()));
            }
        }
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
        Ok(schema.map(|(schema, keys)| {
            let rows = self.0.live().newest().rows_of(name);
            Arc::new(LeafTable { name: name.to_owned(), schema, keys, rows }) as Arc<dyn TableProvider>
        }))
    }

    fn table_exist(&self, name: &str) -> bool {
        self.0.refresh_statics();
        self.0.live().schemas().contains_key(name)
    }
}

impl SqlContext {
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
