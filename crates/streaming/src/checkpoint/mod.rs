//! What makes a program durable: a log of what was decided and done, checkpoint files, and how a start goes on from them.
//!
//! ```text
//! DIR/lock                  held by the process that runs the program
//! DIR/log/…                 records: started, allocated, saved, completed, prepared   ledger.rs, crate::wal
//! DIR/checkpoint-NUMBER     what the records up to NUMBER come to                  file.rs
//! DIR/clearing              the folder is being begun anew                          held.rs
//! DIR/received/INPUT/…      what a receiver stored                                 crate::receiver, log.rs
//! DIR/states-EPOCH/…        states, as the tasks of that run wrote them            millstream-core, checkpoint.rs
//! ```
//!
//! The graph is code, and runs anew with every start; only data is here. The order of writing is in `docs/specs/durability.md`.

mod file;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzed;
mod held;
pub(crate) mod identity;
mod known;
mod ledger;
mod looking;
mod recover;
pub(crate) mod told;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::checkpoint::CheckpointStore;
use millstream_core::disk::{Disk, DiskLock};
use millstream_core::mutants::{Mutant, planted};
use millstream_core::{Digest, Error, ErrorKind, Result, Saved, Time, codec, millis};

pub(crate) use self::held::{Found, Held};
use self::identity::{Before, Fate, Keeper, Kept, Line, Now, Wishes, compare, idle_drops, objections};
pub(crate) use self::known::{GivenBefore, Known, Past};
pub(crate) use self::ledger::LeftOut;
use self::ledger::{
    Allocated, Began, Committed, Completed, Given, Ledger, Named, Prepared, Record, Results, Save, SavedState,
};
pub(crate) use self::looking::Looking;
pub(crate) use self::recover::StreamFacts;
use self::recover::{Need, needs};
use self::writer::{Targets, Then, Writer, told};
use crate::input::received;
use crate::wal::SegmentLog;

/// The version of what stands in front of the records of one append.
const RECORDS_VERSION: u8 = 1;

/// After how many bytes of records a checkpoint file is written, whatever their number.
const SNAPSHOT_BYTES: u64 = 1 << 20;

fn encode(records: &[Record]) -> Result<Vec<u8>> {
    codec::encode_onto(records, vec![RECORDS_VERSION])
}

fn decode(bytes: &[u8]) -> Result<Vec<Record>> {
    match bytes.split_first() {
        Some((&RECORDS_VERSION, rest)) => codec::decode(rest),
        Some((version, _)) => {
            let text = format!("records have the version {version}, which this build does not know");
            Err(Error::new(ErrorKind::Data, text))
        }
        None => Err(Error::new(ErrorKind::Data, "a record is empty")),
    }
}

/// A batch of an earlier run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PastBatch {
    pub(crate) at: Time,
    /// Whether its outputs are known to have ended well: then it is planned, and not run.
    pub(crate) completed: bool,
}

/// What keeps something, by its place in the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KeptBy {
    Stream(usize),
    Output(usize),
}

/// How a program that is starting looks.
pub(crate) struct Program<'a> {
    pub(crate) app_id: &'a str,
    pub(crate) zero: Time,
    pub(crate) interval: Duration,
    pub(crate) keepers: Keepers,
    /// What it was told to do with what it does not know.
    pub(crate) wishes: Wishes,
}

/// What is kept beyond what the next batches need.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Keep {
    /// How long inputs remember what they gave.
    pub(crate) memory: Duration,
    /// How many batches that have ended can be made again.
    pub(crate) batches: usize,
}

/// What a program keeps from batch to batch.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keepers {
    pub(crate) keepers: Vec<Keeper>,
    /// The keeper of each stream and output that is one.
    pub(crate) keeper_of: BTreeMap<KeptBy, u32>,
    /// The forms of earlier builds that its migrations read, by keeper.
    pub(crate) reads: BTreeMap<u32, BTreeSet<String>>,
    /// Whether a sink tells runs apart by their names.
    pub(crate) names_runs: bool,
}

/// Returns the record of a start, and the keepers of the program's streams and outputs.
fn began(ledger: &Ledger, program: Program<'_>, lines: &[Line]) -> (Began, BTreeMap<KeptBy, u32>) {
    let was_new = ledger.is_new();
    let Keepers { keepers, keeper_of, .. } = program.keepers;
    let mut before = vec![None; keepers.len()];
    for line in lines {
        if let Some(place) = line.now.and_then(|now| before.get_mut(now as usize)) {
            *place = line.goes_on_from();
        }
    }
    let began = Began {
        // The first start has a number whatever is planted.
        epoch: if planted(Mutant::TakesOldNumber) { ledger.epoch.max(1) } else { ledger.epoch + 1 },
        app_id: if was_new { program.app_id.to_owned() } else { ledger.app_id.clone() },
        zero: if was_new { program.zero } else { ledger.zero },
        interval: program.interval,
        keepers,
        before,
    };
    (began, keeper_of)
}

/// A name that no other run has, of the system's randomness: epochs count alike in a folder and in a copy of it.
fn some_name() -> String {
    format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}

/// Puts a program beside what is known of the one before.
///
/// # Errors
///
/// The kind is `Config`: the two have nothing to do with each other.
fn compared(ledger: &Ledger, program: &Program<'_>, disk: &dyn Disk, folder: &Path) -> Result<Vec<Line>> {
    if !ledger.is_new() && ledger.interval != program.interval {
        let text = format!(
            "the checkpoint in {} is of a program with a batch every {:?}, and this one has one every {:?}: its windows and \
             states cannot be told apart by the new times. Keep the interval, or begin anew with checkpoint_anew",
            folder.display(),
            ledger.interval,
            program.interval
        );
        return Err(Error::new(ErrorKind::Config, text));
    }
    let Keepers { keepers, reads, .. } = &program.keepers;
    let before = Before { keepers: &ledger.keepers, forms: &ledger.forms, prepared: &ledger.prepared };
    let mut lines = compare(before, Now { keepers, reads }, &program.wishes);
    for line in &mut lines {
        let (Some(b), Some(n)) = (line.goes_on_from(), line.now) else { continue };
        let (was, is) = (&ledger.keepers[b as usize], &keepers[n as usize]);
        if was.kept == Kept::Input && was.key != is.key && !disk.list(&received(folder, &was.key))?.is_empty() {
            line.objection = Some(format!(
                "? {is}: it was called `{}`, and blocks that it has received are kept under that name: keep it",
                was.key
            ));
        }
    }
    Ok(lines)
}

/// Finds the states that earlier runs wrote and that no record names: they were stopped before.
fn left_behind(disk: &dyn Disk, folder: &Path, ledger: &Ledger) -> Result<Vec<String>> {
    let saves = ledger.saves.values().flat_map(BTreeMap::values);
    let needed: BTreeSet<&String> = saves.flat_map(|save| &save.at.needs).collect();
    let mut left = Vec::new();
    // Not of a later run: in a bucket one may have begun while this start slept.
    let is_earlier = |name: &String| {
        name.strip_prefix("states-").and_then(|run| run.parse::<u64>().ok()).is_some_and(|run| run < ledger.epoch)
    };
    for run in disk.list(folder)?.into_iter().filter(is_earlier) {
        let states = disk.list(&folder.join(&run))?.into_iter().map(|state| format!("{run}/{state}"));
        let (kept, gone): (Vec<String>, Vec<String>) = states.partition(|state| needed.contains(state));
        // Each start makes a folder, so one with nothing in it goes too.
        if kept.is_empty() { left.push(run) } else { left.extend(gone) }
    }
    Ok(left)
}

/// Returns the inputs that the checkpoint has nothing of, or is to have nothing of: what stands under their names is another's, of an
/// earlier build.
fn begins_with_nothing(lines: &[Line], keepers: &[Keeper]) -> Vec<PathBuf> {
    let begins = lines.iter().filter(|line| matches!(line.fate, Fate::New | Fate::Anew));
    let inputs = begins.filter_map(|line| keepers.get(line.now? as usize)).filter(|keeper| keeper.kept == Kept::Input);
    inputs.map(|keeper| received(Path::new(""), &keeper.key)).collect()
}

/// Finds what was received for inputs that the program has no more.
fn belongs_to_nobody(disk: &dyn Disk, folder: &Path, ledger: &Ledger) -> Result<Vec<PathBuf>> {
    let inputs = ledger.keepers.iter().filter(|keeper| keeper.kept == Kept::Input);
    let known: BTreeSet<PathBuf> = inputs.map(|keeper| received(Path::new(""), &keeper.key)).collect();
    let there = disk.list(&folder.join("received"))?.into_iter().map(|name| Path::new("received").join(name));
    Ok(there.filter(|path| !known.contains(path)).collect())
}

/// Throws away what receivers have stored. In a bucket somebody may still write there, and is refused from now on.
fn throw_away_received(disk: &Arc<dyn Disk>, folder: &Path, logs: &[PathBuf]) -> Result<()> {
    for log in logs.iter().map(|log| folder.join(log)) {
        if disk.list(&log)?.is_empty() {
            continue;
        }
        match disk.objects() {
            Some(_) => SegmentLog::end_for_all(disk, &log)?,
            None => disk.remove_folder(&log)?,
        }
    }
    Ok(())
}

/// Says whether a checkpoint file is due behind so many records, of so many bytes.
fn is_due((records, bytes): (u64, u64), checkpoint_after: u64) -> bool {
    records >= checkpoint_after || bytes >= SNAPSHOT_BYTES
}

/// The durable side of a program that runs.
pub(crate) struct Durable {
    known: Known,
    next: u64,
    /// Records that are under way, by batch.
    waiting: BTreeMap<Time, Vec<Record>>,
    /// Facts that go along with the next record.
    riding: Vec<Record>,
    /// Records behind the newest checkpoint file, and their bytes.
    since_snapshot: (u64, u64),
    checkpoint_after: u64,
    writer: Writer,
    /// Behind the writer, so that it is let go when all is written.
    _lock: Box<dyn DiskLock>,
}

impl Durable {
    /// Begins a run: compares what the program keeps with what was kept, and notes the start durably, with the times since the run
    /// before that have no batch.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the program is not the one that the checkpoint is of, and something would be lost.
    pub(crate) fn begin(
        found: Found,
        program: Program<'_>,
        left_out: Option<LeftOut>,
        states: Arc<dyn CheckpointStore>,
    ) -> Result<Durable> {
        let Found { disk, folder, lock, log, snapshots, mut ledger, mut next, mut since_snapshot, checkpoint_after } =
            found;
        ledger.let_go_of_missing(|state| disk.exists(&folder.join(state)))?;
        let lines = compared(&ledger, &program, &*disk, &folder)?;
        let objections = objections(&program.keepers.keepers, &lines);
        if !objections.is_empty() {
            let text = format!(
                "the checkpoint in {} is not of this program, and nothing of it is dropped without being told to:\n{}",
                folder.display(),
                objections.join("\n")
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        if !ledger.is_new() {
            for name in idle_drops(&ledger.keepers, &program.keepers.keepers, &lines, &program.wishes) {
                tracing::warn!(
                    name,
                    "nothing of this name was to be dropped: remove it from drop_kept, where it consents to any later loss"
                );
            }
        }
        throw_away_received(&disk, &folder, &begins_with_nothing(&lines, &program.keepers.keepers))?;
        let names_runs = program.keepers.names_runs;
        let (began, keeper_of) = began(&ledger, program, &lines);
        let named = names_runs.then(|| Record::Named(Named { name: some_name() }));
        let started = [Record::Began(began)].into_iter().chain(left_out.map(Record::LeftOut));
        let records: Vec<Record> = started.chain(named).collect();
        let store = Arc::clone(&states);
        let mut targets = Targets { log: Box::new(log), snapshots, states, first: 0 };
        // Here too: a program that is killed early each time would have a longer log with each start. Before anything else is written,
        // and not beside it, so that what is on the disk at each step is the same each time.
        if is_due(since_snapshot, checkpoint_after) {
            match targets.snapshot(next, &ledger) {
                Ok(()) => since_snapshot = (0, 0),
                failed => told(failed),
            }
        }
        let writer = Writer::start(targets)?;
        let bytes = encode(&records)?;
        since_snapshot = (since_snapshot.0 + 1, since_snapshot.1 + bytes.len() as u64);
        writer.append_and_wait(next, bytes)?;
        next += 1;
        records.into_iter().for_each(|record| ledger.apply(record));
        throw_away_received(&disk, &folder, &belongs_to_nobody(&*disk, &folder, &ledger)?)?;
        // Here, and not behind the writer's back: nothing else is written yet.
        let gone = left_behind(&*disk, &folder, &ledger)?;
        if let Err(error) = gone.iter().try_for_each(|folder| store.remove_folder(folder)) {
            tracing::warn!(%error, "states that no record names could not be removed");
        }
        let (waiting, riding) = (BTreeMap::new(), Vec::new());
        let known = Known { ledger, keeper_of };
        Ok(Durable { known, next, waiting, riding, since_snapshot, checkpoint_after, writer, _lock: lock })
    }

    /// Returns what is known.
    pub(crate) fn known(&self) -> &Known {
        &self.known
    }

    /// Returns the latest batch that was allocated.
    pub(crate) fn latest(&self) -> Option<Time> {
        self.known.ledger.latest
    }

    /// Writes down what belongs to a batch, and that in short where inputs tell it; both are by stream. Durable on return.
    pub(crate) fn allocated(
        &mut self,
        batch: Time,
        inputs: Vec<(usize, Vec<u8>)>,
        digests: Vec<(usize, Digest)>,
    ) -> Result<()> {
        let inputs =
            inputs.into_iter().filter_map(|(stream, bytes)| Some((self.known.keeper(stream)?, bytes))).collect();
        let digests: Vec<_> =
            digests.into_iter().filter_map(|(stream, digest)| Some((self.known.keeper(stream)?, digest))).collect();
        let mut records = std::mem::take(&mut self.riding);
        records.push(Record::Allocated(Allocated { batch, inputs }));
        if !digests.is_empty() {
            records.push(Record::Given(Given { batch, inputs: digests }));
        }
        let (number, bytes) = self.numbered(&records)?;
        if planted(Mutant::RunsBeforeAllocated) {
            self.writer.append(number, bytes, Box::new(drop));
        } else {
            self.writer.append_and_wait(number, bytes)?;
        }
        records.into_iter().for_each(|record| self.known.ledger.apply(record));
        Ok(())
    }

    /// Has it written down that a batch has ended well, which states have been saved, and what outputs have prepared for it;
    /// `then` is called when that is durable, or will not be.
    pub(crate) fn complete(
        &mut self,
        batch: Time,
        saved: impl Iterator<Item = (usize, Time, Saved, usize)>,
        prepared: Vec<(usize, Vec<u8>)>,
        results: Vec<(String, Digest)>,
        then: Then,
    ) -> Result<()> {
        let mut records = std::mem::take(&mut self.riding);
        records.extend(self.new_saves(saved));
        for (output, bytes) in prepared {
            let keeper = self.known.keeper_of.get(&KeptBy::Output(output)).copied();
            let keeper =
                keeper.ok_or_else(|| millstream_core::bug!("an output without a keeper has prepared something"))?;
            records.push(Record::Prepared(Prepared { keeper, batch, bytes }));
        }
        if !results.is_empty() {
            records.push(Record::Results(Results { batch, outputs: results }));
        }
        records.push(Record::Completed(Completed { batch }));
        let (number, bytes) = self.numbered(&records)?;
        if planted(Mutant::ForgetsBeforeEnd) {
            records.iter().for_each(|record| self.known.ledger.apply(record.clone()));
            let gone = self.known.ledger.forget(batch, &self.newest_saves());
            self.writer.remove(gone);
        }
        self.waiting.insert(batch, records);
        self.writer.append(number, bytes, then);
        if planted(Mutant::SnapshotInFlight) {
            self.snapshot();
        }
        Ok(())
    }

    /// Returns records of the states that have been saved and that none tells of yet.
    fn new_saves(&self, saved: impl Iterator<Item = (usize, Time, Saved, usize)>) -> Vec<Record> {
        let mut records = Vec::new();
        for (stream, at, saved, partitions) in saved {
            let Some(keeper) = self.known.keeper(stream) else { continue };
            if !self.known.ledger.is_news(keeper, at, self.waiting.values().flatten()) {
                continue;
            }
            let partitions = u32::try_from(partitions).unwrap_or(u32::MAX);
            let save = Save { at: saved, partitions };
            records.push(Record::Saved(SavedState { keeper, batch: at, save }));
        }
        records
    }

    /// Writes down which states have been saved behind the last batch, with all that rides along. Durable on return.
    pub(crate) fn saved(&mut self, saved: impl Iterator<Item = (usize, Time, Saved, usize)>) -> Result<()> {
        let mut records = std::mem::take(&mut self.riding);
        records.extend(self.new_saves(saved));
        if records.is_empty() {
            return Ok(());
        }
        let (number, bytes) = self.numbered(&records)?;
        self.writer.append_and_wait(number, bytes)?;
        records.into_iter().for_each(|record| self.known.ledger.apply(record));
        Ok(())
    }

    /// Takes note that what [`complete`](Self::complete) handed over is durable.
    pub(crate) fn completed(&mut self, batch: Time) {
        for record in self.waiting.remove(&batch).into_iter().flatten() {
            self.known.ledger.apply(record);
        }
    }

    /// Returns what the outputs have prepared for batches that have ended, as long as it is not known that it is committed.
    pub(crate) fn prepared(&self) -> BTreeMap<Time, BTreeMap<usize, Vec<u8>>> {
        let output_of = self.output_of();
        let of = |of: &BTreeMap<u32, Vec<u8>>| {
            of.iter().filter_map(|(keeper, bytes)| Some((*output_of.get(keeper)?, bytes.clone()))).collect()
        };
        self.known.ledger.prepared.iter().map(|(at, prepared)| (*at, of(prepared))).collect()
    }

    fn output_of(&self) -> BTreeMap<u32, usize> {
        let output = |(by, keeper): (&KeptBy, &u32)| match by {
            KeptBy::Output(output) => Some((*keeper, *output)),
            KeptBy::Stream(_) => None,
        };
        self.known.keeper_of.iter().filter_map(output).collect()
    }

    /// Returns what each output had prepared last of what is known to be committed, and for which batch.
    pub(crate) fn last_committed(&self) -> BTreeMap<usize, (Time, Vec<u8>)> {
        let output_of = self.output_of();
        let last = self.known.ledger.committed.iter();
        last.filter_map(|(keeper, last)| Some((*output_of.get(keeper)?, last.clone()))).collect()
    }

    /// Returns what this run is called, and the earlier ones that are remembered.
    pub(crate) fn runs(&self) -> (String, BTreeSet<String>) {
        let Ledger { runs, epoch, .. } = &self.known.ledger;
        (runs.get(epoch).cloned().unwrap_or_default(), runs.range(..epoch).map(|(_, name)| name.clone()).collect())
    }

    /// Takes note that what was prepared for a batch is committed. It is written with the next record: until then, a start
    /// commits again.
    pub(crate) fn committed(&mut self, batch: Time) {
        self.riding.push(Record::Committed(Committed { batch }));
    }

    /// Returns the time up to which it is durable that no batch will run or be committed again.
    pub(crate) fn committed_up_to(&self) -> Option<Time> {
        self.known.ledger.committed_up_to()
    }

    fn numbered(&mut self, records: &[Record]) -> Result<(u64, Vec<u8>)> {
        let bytes = encode(records)?;
        let number = self.next;
        self.next += 1;
        self.since_snapshot.0 += 1;
        self.since_snapshot.1 += bytes.len() as u64;
        Ok((number, bytes))
    }

    /// Lets go of what no batch needs any more. Returns the time up to which inputs may forget what they gave.
    /// Batches that are retained count as if they were to run again.
    pub(crate) fn forget(&mut self, streams: &[StreamFacts], outputs: &[usize], keep: Keep) -> Time {
        let span = self.known.ledger.retaining(keep.batches);
        // What is retained is to be made again, from states before it.
        let retained: Vec<StreamFacts>;
        let mut streams = streams;
        if keep.batches > 0 {
            retained = streams.iter().map(|stream| stream.saved_before(span.next)).collect();
            streams = &retained;
        }
        let needs = needs(streams, outputs, self.known.ledger.remembered_from(), span);
        let first = needs.iter().flatten().map(|need| need.after).min().unwrap_or(span.next);
        // The last batch at least: what was given to it says where a source goes on.
        let memory = keep.memory.max(millis(1));
        let horizon = first.min(self.known.ledger.latest.unwrap_or(self.known.ledger.zero) - memory);
        let horizon = self.known.ledger.spared(horizon);
        let state = |(stream, need): (usize, &Option<Need>)| Some((self.known.keeper(stream)?, need.as_ref()?.save?));
        let states = match planted(Mutant::OnlyNewestState) {
            true => self.newest_saves(),
            false => needs.iter().enumerate().filter_map(state).collect(),
        };
        let gone = self.known.ledger.forget(horizon, &states);
        self.writer.remove(gone);
        if is_due(self.since_snapshot, self.checkpoint_after) {
            self.snapshot();
        }
        horizon
    }

    /// The newest state of each keeper that is in the store.
    fn newest_saves(&self) -> BTreeMap<u32, Time> {
        let newest = |(keeper, saves): (&u32, &BTreeMap<Time, Save>)| Some((*keeper, *saves.keys().next_back()?));
        self.known.ledger.saves.iter().filter_map(newest).collect()
    }

    /// Has a checkpoint file written, if all that was handed over is durable: it would lie else.
    pub(crate) fn snapshot(&mut self) {
        if self.waiting.is_empty() || planted(Mutant::SnapshotInFlight) {
            self.since_snapshot = (0, 0);
            // What rides along is true already, but is not counted on before a record has it.
            let mut ledger = self.known.ledger.clone();
            self.riding.iter().cloned().for_each(|record| ledger.apply(record));
            self.writer.snapshot(self.next, ledger);
        }
    }
}
