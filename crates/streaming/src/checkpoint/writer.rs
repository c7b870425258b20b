//! The `disk` thread: writes records to the log in the order in which they were handed over, many with one wait for the disk.
//!
//! Whoever hands something over waits for it, or is told later. After the first failure nothing is written any more.

use std::collections::VecDeque;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use millstream_core::checkpoint::CheckpointStore;
use millstream_core::mutants::{Mutant, planted};
use millstream_core::threads::{self, OwnedThread, lock};
use millstream_core::{Error, ErrorKind, Result, Time};

use super::file::Snapshots;
use super::ledger::Ledger;
use crate::wal::WriteAheadLog;

/// What is done when a record is durable, or will never be.
pub(crate) type Then = Box<dyn FnOnce(Result<()>) + Send>;

enum Task {
    /// Whether somebody waits for it, and goes on when it is durable.
    Append {
        number: u64,
        record: Vec<u8>,
        then: Then,
        is_awaited: bool,
    },
    Snapshot {
        next: u64,
        ledger: Box<Ledger>,
    },
    Remove {
        folders: Vec<String>,
    },
}

/// The way to the thread.
pub(crate) struct Writer {
    desk: Arc<Desk>,
    thread: Option<OwnedThread>,
}

#[derive(Default)]
struct Desk {
    state: Mutex<DeskState>,
    changed: Condvar,
}

#[derive(Default)]
struct DeskState {
    tasks: VecDeque<Task>,
    closed: bool,
}

/// What the thread writes to.
pub(crate) struct Targets {
    pub(crate) log: Box<dyn WriteAheadLog>,
    pub(crate) snapshots: Snapshots,
    pub(crate) states: Arc<dyn CheckpointStore>,
    /// What stands before this record of the log is in checkpoint files.
    pub(crate) first: u64,
}

impl Writer {
    pub(crate) fn start(targets: Targets) -> Result<Writer> {
        let desk = Arc::new(Desk::default());
        let shared = Arc::clone(&desk);
        let thread = threads::spawn("disk", move || shared.work(targets))?;
        Ok(Writer { desk, thread: Some(thread) })
    }

    fn hand_over(&self, task: Task) {
        lock(&self.desk.state).tasks.push_back(task);
        self.desk.changed.notify_one();
    }

    /// Has a record written; `then` is called when it is durable.
    pub(crate) fn append(&self, number: u64, record: Vec<u8>, then: Then) {
        self.hand_over(Task::Append { number, record, then, is_awaited: false });
    }

    /// Writes a record; it is durable on return.
    pub(crate) fn append_and_wait(&self, number: u64, record: Vec<u8>) -> Result<()> {
        let (told, tell): (Sender<Result<()>>, _) = channel();
        let then = Box::new(move |result| {
            let _ = told.send(result);
        });
        self.hand_over(Task::Append { number, record, then, is_awaited: true });
        tell.recv().unwrap_or_else(|_| Err(Error::new(ErrorKind::Stopped, "the log has been closed")))
    }

    /// Has a checkpoint file written, and the log cut behind it.
    pub(crate) fn snapshot(&self, next: u64, ledger: Ledger) {
        self.hand_over(Task::Snapshot { next, ledger: Box::new(ledger) });
    }

    /// Has folders of states removed that nothing is read from any more.
    pub(crate) fn remove(&self, folders: Vec<String>) {
        if !folders.is_empty() {
            self.hand_over(Task::Remove { folders });
        }
    }
}

impl Drop for Writer {
    /// Writes what was handed over, and ends.
    fn drop(&mut self) {
        lock(&self.desk.state).closed = true;
        self.desk.changed.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

impl Desk {
    /// Returns what to do next: all records that stand in front of the queue, or one other task.
    fn take(&self) -> Option<Vec<Task>> {
        let mut state = lock(&self.state);
        loop {
            let records = state.tasks.iter().take_while(|task| matches!(task, Task::Append { .. })).count();
            if !state.tasks.is_empty() {
                return Some(state.tasks.drain(..records.max(1)).collect());
            }
            if state.closed {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn work(&self, mut targets: Targets) {
        // Behind a record that is not there nothing that was made of it may be.
        let mut has_failed = false;
        // What the log may forget by now is left for later where somebody goes on meanwhile: the batch then has the disk for itself.
        let mut forgets_later = false;
        while let Some(tasks) = self.take() {
            if std::mem::take(&mut forgets_later) {
                targets.forget();
            }
            let (mut records, mut thens) = (Vec::new(), Vec::new());
            for task in tasks {
                match task {
                    Task::Append { number, record, then, is_awaited } => {
                        records.push((record, number));
                        thens.push(then);
                        forgets_later |= is_awaited;
                    }
                    Task::Snapshot { .. } | Task::Remove { .. } if has_failed => {}
                    Task::Snapshot { next, ledger } => told(targets.snapshot(next, &ledger)),
                    Task::Remove { folders } => told(targets.remove(&folders)),
                }
            }
            if records.is_empty() {
                continue;
            }
            let all: Vec<_> = records.iter().map(|(record, number)| (&record[..], as_time(*number))).collect();
            let result = targets.log.append_all(&all).map(|_| ());
            let is_durable = result.is_ok();
            has_failed |= !is_durable;
            thens.into_iter().for_each(|then| then(result.clone()));
            forgets_later &= is_durable;
            if is_durable && !forgets_later {
                targets.forget();
            }
        }
        if forgets_later {
            targets.forget();
        }
        told(targets.log.close());
    }
}

/// The log is ordered by times; ours are the numbers of records.
pub(crate) fn as_time(number: u64) -> Time {
    Time::from_millis(i64::try_from(number).unwrap_or(i64::MAX))
}

impl Targets {
    /// Writes a checkpoint file, and has the log forget what stands in front of it.
    pub(crate) fn snapshot(&mut self, next: u64, ledger: &Ledger) -> Result<()> {
        if planted(Mutant::LogCutFirst) {
            self.log.forget_before(as_time(next))?;
        }
        self.first = self.snapshots.write(next, ledger)?;
        self.log.forget_before(as_time(self.first))
    }

    /// Has the log forget what is in checkpoint files. It may do so a little at a time.
    fn forget(&mut self) {
        told(self.log.forget_before(as_time(self.first)));
    }

    fn remove(&self, folders: &[String]) -> Result<()> {
        folders.iter().try_for_each(|folder| self.states.remove_folder(folder))
    }
}

/// A checkpoint file that could not be written, or a folder that could not be removed, costs room and a longer start: the
/// log has all that is needed.
pub(crate) fn told(outcome: Result<()>) {
    if let Err(error) = outcome {
        tracing::warn!(%error, "the checkpoint could not be tidied up");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::Receiver;

    use millstream_core::checkpoint::MemoryCheckpoints;
    use millstream_core::disk::RealDisk;

    use super::*;
    use crate::wal::RecordHandle;

    /// A log that somebody else goes on with.
    #[derive(Debug)]
    struct Refused;

    impl WriteAheadLog for Refused {
        fn append_all(&mut self, _: &[(&[u8], Time)]) -> Result<Vec<RecordHandle>> {
            Err(Error::new(ErrorKind::Data, "somebody else goes on here"))
        }

        fn read(&self, _: &RecordHandle) -> Result<Vec<u8>> {
            Ok(Vec::new())
        }

        fn replay(&mut self, _: &mut dyn FnMut(Time, RecordHandle, &[u8]) -> Result<()>) -> Result<()> {
            Ok(())
        }

        fn forget_before(&mut self, _: Time) -> Result<()> {
            panic!("nothing may be removed")
        }

        fn close(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn behind_a_record_that_is_not_there_nothing_is_written_and_nothing_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let states = Arc::new(MemoryCheckpoints::new());
        states.write("states-1/part", b"needed").expect("it is written");
        let snapshots = Snapshots::new(Arc::new(RealDisk), folder.path());
        let targets = Targets { log: Box::new(Refused), snapshots, states: Arc::clone(&states) as _, first: 0 };
        let writer = Writer::start(targets).expect("a thread");
        assert!(writer.append_and_wait(0, vec![1]).is_err());
        writer.snapshot(1, Ledger::default());
        writer.remove(vec!["states-1".to_owned()]);
        drop(writer);
        assert_eq!(std::fs::read_dir(folder.path()).expect("it is there").count(), 0);
        assert!(states.read("states-1/part").is_ok());
    }

    /// A log that is slow at its first record: it says that it has begun, and waits for a word.
    #[derive(Debug)]
    struct Slow {
        begun: Sender<()>,
        go_on: Mutex<Receiver<()>>,
        written: Arc<Mutex<Vec<Vec<i64>>>>,
    }

    impl WriteAheadLog for Slow {
        fn append_all(&mut self, records: &[(&[u8], Time)]) -> Result<Vec<RecordHandle>> {
            if lock(&self.written).is_empty() {
                self.begun.send(()).expect("the test waits for it");
                lock(&self.go_on).recv().expect("the test says so");
            }
            lock(&self.written).push(records.iter().map(|(_, number)| number.as_millis()).collect());
            Ok(Vec::new())
        }

        fn read(&self, _: &RecordHandle) -> Result<Vec<u8>> {
            Ok(Vec::new())
        }

        fn replay(&mut self, _: &mut dyn FnMut(Time, RecordHandle, &[u8]) -> Result<()>) -> Result<()> {
            Ok(())
        }

        fn forget_before(&mut self, _: Time) -> Result<()> {
            Ok(())
        }

        fn close(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn r3_k21_records_are_handed_over_without_waiting_and_those_that_gather_share_one_wait_for_the_disk() {
        let folder = tempfile::tempdir().expect("a folder");
        let ((begun, begins), (go, go_on)) = (channel(), channel());
        let written = Arc::new(Mutex::new(Vec::new()));
        let log = Slow { begun, go_on: Mutex::new(go_on), written: Arc::clone(&written) };
        let snapshots = Snapshots::new(Arc::new(RealDisk), folder.path());
        let states = Arc::new(MemoryCheckpoints::new());
        let writer = Writer::start(Targets { log: Box::new(log), snapshots, states, first: 0 }).expect("a thread");
        let told = Arc::new(Mutex::new(Vec::new()));
        let append = |number: u64| {
            let told = Arc::clone(&told);
            writer.append(number, vec![1], Box::new(move |result| lock(&told).push((number, result.is_ok()))));
        };
        append(0);
        begins.recv().expect("the log has begun");
        (1..4).for_each(append);
        assert_eq!(*lock(&told), [], "nothing is durable yet, and nobody has waited");
        go.send(()).expect("the log waits");
        writer.append_and_wait(4, vec![1]).expect("it is durable");
        drop(writer);
        let all: Vec<i64> = lock(&written).concat();
        assert_eq!(all, [0, 1, 2, 3, 4], "in their order");
        assert!(lock(&written)[1].len() >= 3, "those that gathered are one append: {:?}", lock(&written));
        assert_eq!(*lock(&told), [0, 1, 2, 3].map(|number| (number, true)));
    }
}
