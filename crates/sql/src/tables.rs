//! Static tables: rows that batches are joined with. A table has versions, and all statements of a batch see the same.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use datafusion::arrow::datatypes::SchemaRef;
use millstream_core::threads::lock;
use millstream_core::{Broadcast, Context, Error, ErrorKind, Result, Time};
use serde::{Deserialize, Serialize};

use crate::batch::RecordBatch;
use crate::files::{Files, Rows, Stamp};
use crate::names;
use crate::statement::Table;

/// The rows of a table at one time.
pub(crate) struct Version {
    number: u64,
    schema: SchemaRef,
    rows: Arc<Vec<RecordBatch>>,
    /// What tasks in other processes read: made when the first asks.
    travels: OnceLock<Broadcast<Vec<RecordBatch>>>,
}

impl Version {
    fn new(number: u64, schema: SchemaRef, rows: Vec<RecordBatch>) -> Arc<Version> {
        Arc::new(Version { number, schema, rows: Arc::new(rows), travels: OnceLock::new() })
    }

    pub(crate) fn table(&self, name: &str) -> Table {
        Table {
            name: name.to_owned(),
            schema: Arc::clone(&self.schema),
            rows: Arc::clone(&self.rows),
            version: self.number,
        }
    }

    /// Gives it to a statement that runs in a task, here or elsewhere.
    pub(crate) fn pinned(&self, name: &str, context: &Context) -> Pinned {
        let travels = context.closures_travel().then(|| {
            let mut rows = vec![RecordBatch::empty(Arc::clone(&self.schema))];
            rows.extend(self.rows.iter().cloned());
            self.travels.get_or_init(|| context.broadcast(rows)).clone()
        });
        Pinned { name: name.to_owned(), version: self.number, here: Some(self.table(name)), travels }
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {} of {} rows", self.number, self.rows.iter().map(|r| r.num_rows()).sum::<usize>())
    }
}

/// A version of a table, as a task holds it.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Pinned {
    name: String,
    version: u64,
    #[serde(skip)]
    here: Option<Table>,
    /// A batch without rows first, for the schema.
    travels: Option<Broadcast<Vec<RecordBatch>>>,
}

impl Pinned {
    pub(crate) fn table(&self) -> Result<Table> {
        if let Some(here) = &self.here {
            return Ok(here.clone());
        }
        let rows = self.travels.as_ref().map(|rows| rows.value().as_slice());
        let Some([schema, rows @ ..]) = rows else {
            return Err(Error::new(ErrorKind::Internal, format!("the table `{}` did not travel", self.name)));
        };
        Ok(Table {
            name: self.name.clone(),
            schema: schema.schema(),
            rows: Arc::new(rows.to_vec()),
            version: self.version,
        })
    }
}

struct Entry {
    files: Option<Files>,
    newest: Arc<Version>,
    /// The batch that read it last; nothing before the first.
    read_for: Option<Time>,
    error: Option<Error>,
    /// What the files were, where that is known without reading them.
    stamp: Option<Stamp>,
}

impl Entry {
    fn of(newest: Arc<Version>, files: Option<Files>, stamp: Option<Stamp>) -> Entry {
        Entry { files, newest, read_for: None, error: None, stamp }
    }
}

/// All static tables of a context, by their names in small letters.
#[derive(Default)]
pub(crate) struct Tables {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    entries: BTreeMap<String, Entry>,
    /// What batches saw that are perhaps not over: the statements of one see the same.
    batches: BTreeMap<Time, Arc<BTreeMap<String, Arc<Version>>>>,
    versions: u64,
}

/// How many batches' tables are remembered. A batch asks for them when it is planned; more are not planned at once.
const BATCHES: usize = 64;

impl Tables {
    /// Makes rows known under a name, or others under the name of some that are.
    pub(crate) fn set(&self, name: &str, schema: SchemaRef, rows: Vec<RecordBatch>) {
        let state = &mut *lock(&self.state);
        state.versions += 1;
        let newest = Version::new(state.versions, schema, rows);
        state.entries.insert(name.to_lowercase(), Entry::of(newest, None, None));
    }

    /// Makes files known under a name, after reading them.
    pub(crate) fn set_files(&self, name: &str, files: Files) -> Result<()> {
        let Rows { schema, rows, stamp } = files.read()?;
        let state = &mut *lock(&self.state);
        state.versions += 1;
        let newest = Version::new(state.versions, schema, rows);
        state.entries.insert(name.to_lowercase(), Entry::of(newest, Some(files), stamp));
        Ok(())
    }

    /// Forgets a name. Says whether there was one.
    pub(crate) fn remove(&self, name: &str) -> bool {
        lock(&self.state).entries.remove(&name.to_lowercase()).is_some()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        lock(&self.state).entries.keys().cloned().collect()
    }

    /// Reads the files of a table again. What was read before stays if that fails.
    pub(crate) fn refresh(&self, name: &str) -> Result<()> {
        let (files, stamp) = {
            let state = lock(&self.state);
            let entry = state.entry(name)?;
            (entry.files.clone(), entry.stamp.clone())
        };
        let Some(files) = files else {
            let text = format!("the table `{name}` is not made of files: register it again to change it");
            return Err(Error::new(ErrorKind::Config, text));
        };
        let read = files.read_again(stamp.as_ref());
        lock(&self.state).read(&name.to_lowercase(), None, read)
    }

    /// Fails with the nearest name if there is no such table.
    pub(crate) fn check(&self, name: &str) -> Result<()> {
        lock(&self.state).entry(name).map(drop)
    }

    /// Returns why a table could not be read again when it was time, if that was so.
    pub(crate) fn error(&self, name: &str) -> Option<Error> {
        lock(&self.state).entries.get(&name.to_lowercase()).and_then(|entry| entry.error.clone())
    }

    /// Returns the newest versions.
    pub(crate) fn newest(&self) -> BTreeMap<String, Arc<Version>> {
        lock(&self.state).newest()
    }

    /// Returns what the batch of this time sees: the same for all who ask. Who asks first reads again what is due.
    pub(crate) fn at(&self, time: Time) -> Arc<BTreeMap<String, Arc<Version>>> {
        let state = &mut *lock(&self.state);
        if let Some(seen) = state.batches.get(&time) {
            return Arc::clone(seen);
        }
        for (name, files, stamp) in state.due(time) {
            let read = files.read_again(stamp.as_ref());
            if let Err(error) = state.read(&name, Some(time), read) {
                tracing::warn!(table = %name, %error, "a table could not be read again, the rows from before stay");
            }
        }
        let seen = Arc::new(state.newest());
        state.batches.insert(time, Arc::clone(&seen));
        while state.batches.len() > BATCHES {
            state.batches.pop_first();
        }
        seen
    }
}

impl State {
    fn entry(&self, name: &str) -> Result<&Entry> {
        self.entries.get(&name.to_lowercase()).ok_or_else(|| {
            let all = || self.entries.keys().map(String::as_str);
            let hint = names::nearest(name, all()).map(|n| format!(", did you mean `{n}`?")).unwrap_or_default();
            Error::new(ErrorKind::Config, format!("no table `{name}`{hint} There are {}", names::listed(all())))
        })
    }

    fn newest(&self) -> BTreeMap<String, Arc<Version>> {
        self.entries.iter().map(|(name, entry)| (name.clone(), Arc::clone(&entry.newest))).collect()
    }

    fn due(&mut self, time: Time) -> Vec<(String, Files, Option<Stamp>)> {
        let mut due = Vec::new();
        for (name, entry) in &mut self.entries {
            let Some((files, every)) = entry.files.as_ref().and_then(|f| Some((f, f.every()?))) else { continue };
            match entry.read_for {
                // It was read when it was registered.
                None => entry.read_for = Some(time),
                Some(last) if time.since(last) >= every => due.push((name.clone(), files.clone(), entry.stamp.clone())),
                Some(_) => {}
            }
        }
        due
    }

    /// Takes what was read of a table; nothing was, where it is known to be what it was.
    fn read(&mut self, name: &str, time: Option<Time>, read: Result<Option<Rows>>) -> Result<()> {
        let Some(entry) = self.entries.get_mut(name) else { return Ok(()) };
        match read {
            Ok(read) => {
                if let Some(Rows { schema, rows, stamp }) = read {
                    self.versions += 1;
                    entry.newest = Version::new(self.versions, schema, rows);
                    entry.stamp = stamp;
                }
                entry.error = None;
                entry.read_for = time.or(entry.read_for);
                Ok(())
            }
            Err(error) => {
                entry.error = Some(error.clone());
                Err(error)
            }
        }
    }
}
