//! A table of the warehouse as a sink: a batch's files are prepared aside, and put into the table when its end is durable.
//!
//! ```text
//! alerts/day=2024-02-29/1000-1.0-3f2a77c0-00000-0.parquet   batch, run and entry before it, output, partition, attempt at it
//! alerts/_millstream/staged/1000-1.0-3f2a77c0/…             what is prepared: the same names
//! alerts/_millstream/000000000001.json                      the table: what counts
//! ```
//!
//! A commit puts the files in their place, one by one, and then writes the entry, in one step. Whoever reads by the entries sees a batch
//! whole or not at all; whoever reads the folder sees its files some moments before. Each step may be done again.

pub(super) mod now;

use std::collections::BTreeSet;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch as ArrowBatch;
use millstream_core::disk::{Disk, write_durably};
use millstream_core::partitioner::key_hash;
use millstream_core::threads::lock;
use millstream_core::{CallSite, Error, ErrorKind, Rdd, Result, pass_over};
use millstream_streaming::{OutputBatch, OutputRun, Transactional};
use serde::{Deserialize, Serialize};

use super::SaveTable;
use super::guard::Guard;
use super::manifest::{Columns, DataFile, Entry, Mode, State, Step, columns_of};
use super::write::{WriteRows, check, parquet, split, write_aside};
use crate::columnar::Columnar;
use crate::stream::ToColumns;

/// The folder in a table's folder that is ours.
pub(super) const OWN: &str = "_millstream";

/// What has been prepared of a batch.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Prepared {
    /// The folder of its files; empty if there is nothing to do.
    id: String,
    columns: Columns,
    files: Vec<DataFile>,
}

pub(super) struct TableSink<T> {
    table: SaveTable,
    folder: PathBuf,
    disk: Arc<dyn Disk>,
    site: CallSite,
    /// The table as it was found last.
    state: Mutex<State>,
    guard: Mutex<Option<Arc<Guard>>>,
    of: PhantomData<fn(T)>,
}

/// Reads what a table is from its folder.
pub(super) fn read_state(disk: &dyn Disk, folder: &Path) -> Result<State> {
    let own = folder.join(OWN);
    let told = |name: &str, what: &str| {
        let text = format!("the table in {} cannot be read: {}: {what}", folder.display(), own.join(name).display());
        Error::new(ErrorKind::Data, text)
    };
    State::read(&disk.list(&own)?, |name| disk.read(&own.join(name)), &told)
}

fn output_of(app_id: &str, output: &str) -> String {
    format!("{app_id}/{output}")
}

fn mark(output: &str) -> String {
    format!("{:08x}", key_hash(&output.to_owned()) as u32)
}

impl<T: Columnar> TableSink<T> {
    pub(super) fn new(table: SaveTable, warehouse: &Path, disk: Arc<dyn Disk>, site: CallSite) -> Result<TableSink<T>> {
        table.check()?;
        if let Some(schema) = T::schema()? {
            split(&schema, &table.name, &table.by)?;
            check(&schema, &table.name)?;
        }
        let folder = warehouse.join(&table.name);
        Ok(TableSink { table, folder, disk, site, state: Mutex::default(), guard: Mutex::default(), of: PhantomData })
    }

    fn own(&self) -> PathBuf {
        self.folder.join(OWN)
    }

    /// Returns the lock on the table, which is held from now on.
    fn guard(&self) -> Result<Arc<Guard>> {
        let guard = &mut *lock(&self.guard);
        Ok(match guard {
            Some(guard) => Arc::clone(guard),
            None => Arc::clone(guard.insert(Guard::take(&*self.disk, &self.own(), &self.table.name)?)),
        })
    }

    fn staged(&self, id: &str) -> PathBuf {
        self.own().join("staged").join(id)
    }

    /// Brings what is known of the table up to what is there.
    fn look(&self, state: &mut State) -> Result<()> {
        let newest = State::name_of(state.number + 1);
        let is_known = self.disk.exists(&self.own().join(State::name_of(state.number)))?
            && !self.disk.exists(&self.own().join(newest))?;
        if !is_known {
            *state = read_state(&*self.disk, &self.folder)?;
        }
        Ok(())
    }

    /// Has the rows written aside; returns their columns, and the files.
    fn write(&self, rdd: &Rdd<T>, id: &str) -> Result<(Columns, Vec<DataFile>)> {
        let rows = pass_over(rdd, ToColumns::<T>::default(), self.site);
        let write = WriteRows {
            folder: self.staged(id),
            name: id.to_owned(),
            table: self.table.name.clone(),
            by: self.table.by.clone(),
        };
        let (mut columns, mut files) = (T::schema()?.map(|schema| columns_of(&schema)), Vec::new());
        for written in pass_over(&rows, write, self.site).collect()? {
            match &columns {
                Some(columns) if *columns != written.columns => {
                    let text = format!(
                        "the columns of a batch for the table `{}` are not the same in all of it: {columns:?} and {:?}",
                        self.table.name, written.columns
                    );
                    return Err(Error::new(ErrorKind::Data, text));
                }
                Some(_) => {}
                None => columns = Some(written.columns),
            }
            files.extend(written.files);
        }
        Ok((columns.unwrap_or_default(), files))
    }

    /// A file without rows, which tells the columns of a table that has none yet.
    fn write_columns(&self, schema: &SchemaRef, id: &str) -> Result<DataFile> {
        let path = format!("{id}-columns.parquet");
        let bytes = parquet(&ArrowBatch::new_empty(Arc::clone(schema))).map_err(|e| Error::new(ErrorKind::Data, e))?;
        write_aside(&*self.disk, &self.staged(id).join(&path), &bytes)?;
        Ok(DataFile { path, rows: 0, bytes: bytes.len() as u64 })
    }

    /// Removes files that an entry has replaced.
    fn remove_stale(&self, state: &mut State) -> Result<()> {
        let mut folders = BTreeSet::new();
        for path in &state.stale {
            let path = self.folder.join(path);
            if self.disk.exists(&path)? {
                self.disk.remove_file(&path)?;
                folders.extend(path.parent().map(Path::to_owned));
            }
        }
        folders.iter().try_for_each(|folder| self.disk.sync_folder(folder))?;
        state.stale.clear();
        Ok(())
    }

    /// Puts prepared files in their place.
    fn put(&self, prepared: &Prepared) -> Result<()> {
        let staged = self.staged(&prepared.id);
        let mut folders = BTreeSet::new();
        for file in &prepared.files {
            let (from, to) = (staged.join(&file.path), self.folder.join(&file.path));
            let folder = to.parent().unwrap_or(&self.folder).to_owned();
            if folders.insert(folder.clone()) {
                self.disk.create_folder(&folder)?;
            }
            if self.disk.exists(&from)? {
                self.disk.rename(&from, &to)?;
            } else if !self.disk.exists(&to)? {
                let text = format!(
                    "the file {} of a batch that is to be put into the table `{}` is not there any more: bring it back",
                    from.display(),
                    self.table.name
                );
                return Err(Error::new(ErrorKind::Data, text));
            }
        }
        folders.iter().try_for_each(|folder| self.disk.sync_folder(folder))
    }

    /// Writes the next entry; that is the moment from which on the batch is in the table.
    fn publish(&self, state: &mut State, entry: &Entry) -> Result<()> {
        let own = self.own();
        write_durably(&*self.disk, &own.join(State::name_of(state.number + 1)), &json(entry)?)?;
        state.apply(entry);
        if state.is_long() {
            write_durably(&*self.disk, &own.join(State::name_of_all(state.number)), &json(state)?)?;
            let before = state.written();
            // Whoever is reading reads from the one before.
            for name in self.disk.list(&own)? {
                let number = name.split('.').next().and_then(|n| n.parse::<u64>().ok());
                if number.is_some_and(|number| number < before) {
                    self.disk.remove_file(&own.join(name))?;
                }
            }
        }
        Ok(())
    }

    fn remove_staged(&self, id: &str) -> Result<()> {
        if !id.is_empty() {
            self.disk.remove_folder(&self.staged(id))?;
        }
        Ok(())
    }

    /// Removes files with this mark that are in the table's folder, and not in the table, nor about to be.
    fn sweep(&self, folder: &Path, inside: &str, mark: &str, keep: &dyn Fn(&str) -> bool) -> Result<()> {
        let mut removed = false;
        for name in self.disk.list(folder)? {
            let path = if inside.is_empty() { name.clone() } else { format!("{inside}/{name}") };
            if name.ends_with(".parquet") {
                if name.split('-').nth(2) == Some(mark) && !keep(&path) {
                    self.disk.remove_file(&folder.join(&name))?;
                    removed = true;
                }
            } else if name.contains('=') && !name.starts_with('.') {
                self.sweep(&folder.join(&name), &path, mark, keep)?;
            }
        }
        if removed { self.disk.sync_folder(folder) } else { Ok(()) }
    }
}

impl<T: Columnar> Transactional<T> for TableSink<T> {
    type Prepared = Prepared;

    fn prepare(&self, rdd: &Rdd<T>, batch: &OutputBatch) -> Result<Prepared> {
        let (table, by) = (&self.table, &self.table.by);
        let known = T::schema()?.map(|schema| columns_of(&schema)).unwrap_or_default();
        self.guard()?;
        let (number, exists, writes) = {
            let state = &mut *lock(&self.state);
            self.look(state)?;
            (state.number, state.exists(), state.may_write(&table.name, table.mode, &known, by)?)
        };
        if !writes {
            return Ok(Prepared { id: String::new(), columns: known, files: Vec::new() });
        }
        let output = output_of(&batch.key().app_id, &batch.key().output);
        let (time, run) = (batch.time().as_millis(), batch.fencing_token());
        let id = format!("{time}-{run}.{number}-{}", mark(&output));
        // Of an attempt before.
        self.remove_staged(&id)?;
        self.disk.create_folder(&self.staged(&id))?;
        let (columns, mut files) = self.write(rdd, &id)?;
        lock(&self.state).may_write(&table.name, table.mode, &columns, by)?;
        if files.is_empty()
            && (!exists || table.mode == Mode::Overwrite)
            && by.is_empty()
            && let Some(schema) = T::schema()?
        {
            files.push(self.write_columns(&schema, &id)?);
        }
        Ok(Prepared { id, columns, files })
    }

    fn commit(&self, prepared: &Prepared, batch: &OutputBatch) -> Result<()> {
        if prepared.id.is_empty() {
            return Ok(());
        }
        let guard = self.guard()?;
        let _commit = guard.commit()?;
        let state = &mut *lock(&self.state);
        self.look(state)?;
        let output = output_of(&batch.key().app_id, &batch.key().output);
        let run = batch.fencing_token();
        // Without a checkpoint no run knows of another, and a batch is committed once.
        let time = (run > 0).then(|| batch.time().as_millis());
        let step = state.step(&self.table.name, self.table.mode, &output, time, run)?;
        if let Step::Write { replaces } = step {
            self.remove_stale(state)?;
            self.put(prepared)?;
            let entry = Entry {
                form: Entry::form(),
                output,
                batch: time,
                run,
                settled: batch.committed_up_to().map(|time| time.as_millis()),
                columns: prepared.columns.clone(),
                partition_by: self.table.by.clone(),
                replaces,
                files: prepared.files.clone(),
            };
            self.publish(state, &entry)?;
            self.remove_stale(state)?;
        }
        self.remove_staged(&prepared.id)
    }

    fn abort(&self, prepared: &Prepared, _: &OutputBatch) -> Result<()> {
        self.remove_staged(&prepared.id)
    }

    fn recover(&self, known: &[(OutputBatch, Prepared)], run: &OutputRun) -> Result<()> {
        let guard = self.guard()?;
        let _commit = guard.commit()?;
        let mark = mark(&output_of(run.app_id(), run.output()));
        let ids: BTreeSet<&str> = known.iter().map(|(_, prepared)| prepared.id.as_str()).collect();
        for id in self.disk.list(&self.own().join("staged"))? {
            if id.ends_with(&mark) && !ids.contains(id.as_str()) {
                self.remove_staged(&id)?;
            }
        }
        let state = &mut *lock(&self.state);
        *state = read_state(&*self.disk, &self.folder)?;
        self.remove_stale(state)?;
        let prepared: BTreeSet<&str> =
            known.iter().flat_map(|(_, prepared)| prepared.files.iter().map(|file| file.path.as_str())).collect();
        let keep = |path: &str| state.files.contains_key(path) || prepared.contains(path);
        self.sweep(&self.folder, "", &mark, &keep)
    }

    fn how(&self) -> &'static str {
        "its files are written aside, and a table of the warehouse takes them in one step when the batch's end is durable"
    }
}

/// Writes a file of the log.
fn json(it: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(it).map_err(|e| millstream_core::bug!("what a table is cannot be written: {e}"))
}
