//! The folder of a checkpoint, held: what is there is read, or thrown away without a look at it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::disk::{Disk, DiskLock, ENDED, write_durably};
use millstream_core::{Error, ErrorKind, Result, Time};

use super::file::{PREFIX, Snapshots};
use super::ledger::Ledger;
use super::{SNAPSHOT_BYTES, decode};
use crate::wal::vanished::steadily;
use crate::wal::{LogConf, SegmentLog, WriteAheadLog};

/// The file that is there as long as what is in the folder is being thrown away.
const CLEARING: &str = "clearing";

/// Segments are short, so that what a checkpoint file has taken over goes soon. Times of this log are numbers of records.
fn log_conf(asked: &LogConf, checkpoint_after: u64) -> LogConf {
    LogConf {
        rolling_interval: Duration::from_millis(checkpoint_after.saturating_mul(4)),
        segment_bytes: SNAPSHOT_BYTES,
        ..asked.clone()
    }
}

/// The folder of a checkpoint, held by this process and not yet looked at.
pub(crate) struct Held {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    lock: Box<dyn DiskLock>,
}

/// Says whether a name in the folder is of what a program keeps there.
fn is_kept(name: &str) -> bool {
    name == "log" || name == "received" || name.starts_with("states-") || name.starts_with(PREFIX)
}

impl Held {
    /// Takes the folder of a checkpoint, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// The kind is `Config` if another process runs the program; `Unavailable` if the folder cannot be made.
    pub(crate) fn take(disk: Arc<dyn Disk>, folder: &Path) -> Result<Held> {
        disk.create_folder(folder)?;
        let lock = disk.lock(&folder.join("lock"))?.ok_or_else(|| {
            let text = format!(
                "the checkpoint directory {} is in use: another process runs this program; stop it first, or give this one a \
                 directory of its own",
                folder.display()
            );
            Error::new(ErrorKind::Config, text)
        })?;
        Ok(Held { disk, folder: folder.to_owned(), lock })
    }

    /// Says whether a process stopped while it threw away what is there.
    pub(crate) fn is_being_cleared(&self) -> Result<bool> {
        self.disk.exists(&self.folder.join(CLEARING))
    }

    /// Throws away what is there, whatever it is.
    ///
    /// What is half thrown away would be an older state, or damage. So a file says first that all of it is void; a start that
    /// finds it goes on here.
    pub(crate) fn clear(&self) -> Result<()> {
        if self.lock.begin_anew()? {
            return self.end_void();
        }
        let is_empty = !self.disk.list(&self.folder)?.iter().any(|name| is_kept(name));
        let marker = self.folder.join(CLEARING);
        if !self.disk.exists(&marker)? {
            if is_empty {
                return Ok(());
            }
            write_durably(&*self.disk, &marker, b"")?;
        }
        self.remove(&self.folder, is_kept)?;
        self.disk.remove_file(&marker)?;
        self.disk.sync_folder(&self.folder)
    }

    /// On an object store: ends the log of what is void, for whoever may still go on there, and removes all but that end.
    fn end_void(&self) -> Result<()> {
        for void in self.lock.void()? {
            SegmentLog::end_for_all(&self.disk, &void.join("log"))?;
            // Who still receives there is not to acknowledge anything either.
            let received = void.join("received");
            for receiver in self.disk.list(&received)? {
                SegmentLog::end_for_all(&self.disk, &received.join(receiver))?;
            }
            self.remove(&void, |name| is_kept(name) && name != "log" && name != "received")?;
            write_durably(&*self.disk, &void.join(ENDED), b"")?;
        }
        Ok(())
    }

    fn remove(&self, folder: &Path, goes: impl Fn(&str) -> bool) -> Result<()> {
        for name in self.disk.list(folder)?.into_iter().filter(|name| goes(name)) {
            let path = folder.join(&name);
            if name.starts_with(PREFIX) {
                self.disk.remove_file(&path)?;
            } else {
                self.disk.remove_folder(&path)?;
            }
        }
        self.disk.sync_folder(folder)
    }

    /// Reads what is there. A checkpoint file is written after every `checkpoint_after` records, of whichever run, and the log is
    /// kept as `log` says.
    ///
    /// # Errors
    ///
    /// The kind is `Data` if what is there cannot be read.
    pub(crate) fn read(self, checkpoint_after: u64, log: &LogConf) -> Result<Found> {
        if self.is_being_cleared()? {
            tracing::warn!(folder = %self.folder.display(), "a process stopped while it threw away a checkpoint: the rest goes now");
            self.clear()?;
        }
        self.end_void()?;
        let Held { disk, folder, lock } = self;
        // The log first: on an object store that ends what an earlier process may still write.
        let mut log = SegmentLog::open(Arc::clone(&disk), folder.join("log"), log_conf(log, checkpoint_after))?;
        lock.check()?;
        let mut snapshots = Snapshots::new(Arc::clone(&disk), &folder);
        let list = Snapshots::new(Arc::clone(&disk), &folder);
        // Records that are missing behind a checkpoint file are in a newer one, if whoever goes on there has removed them.
        let read = steadily(|| list.numbers(), |_| Replayed::of(&mut snapshots, &mut log, &folder))?;
        let Replayed { ledger, next, since_snapshot } = read;
        Ok(Found { disk, folder, lock, log, snapshots, ledger, next, since_snapshot, checkpoint_after })
    }
}

/// What the newest checkpoint file and the records behind it come to.
struct Replayed {
    ledger: Ledger,
    next: u64,
    since_snapshot: (u64, u64),
}

impl Replayed {
    fn of(snapshots: &mut Snapshots, log: &mut SegmentLog, folder: &Path) -> Result<Replayed> {
        let (mut next, mut ledger) =
            snapshots.newest()?.map_or((0, Ledger::default()), |found| (found.next, found.ledger));
        let mut since_snapshot = (0, 0);
        log.replay(&mut |at, _, bytes| {
            let number = u64::try_from(at.as_millis()).unwrap_or(0);
            if number < next {
                return Ok(());
            }
            if number > next {
                let text = format!(
                    "records {next} to {} are missing in {}: a file of the log was taken away, or the checkpoint file beside it \
                     that stood for them (of the number {number} or a later one). Restore it from a copy; or begin anew with \
                     checkpoint_anew, which throws away all that is there",
                    number - 1,
                    folder.join("log").display()
                );
                return Err(Error::new(ErrorKind::Data, text));
            }
            next += 1;
            since_snapshot = (since_snapshot.0 + 1, since_snapshot.1 + bytes.len() as u64);
            decode(bytes)?.into_iter().for_each(|record| ledger.apply(record));
            Ok(())
        })
        .map_err(|error| {
            let text = format!("the checkpoint in {} cannot be read: {}", folder.display(), error.message());
            Error::new(error.kind(), text)
        })?;
        Ok(Replayed { ledger, next, since_snapshot })
    }
}

/// A checkpoint that was found, and is held.
pub(crate) struct Found {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) folder: PathBuf,
    pub(super) lock: Box<dyn DiskLock>,
    pub(super) log: SegmentLog,
    pub(super) snapshots: Snapshots,
    pub(super) ledger: Ledger,
    /// The number of the next record.
    pub(super) next: u64,
    /// How many records are behind the newest checkpoint file, and their bytes.
    pub(super) since_snapshot: (u64, u64),
    /// After how many records a checkpoint file is written.
    pub(super) checkpoint_after: u64,
}

impl Found {
    /// Says whether a program has run here before.
    pub(crate) fn is_used(&self) -> bool {
        !self.ledger.is_new()
    }

    /// Says what is there, for people.
    pub(crate) fn summary(&self) -> String {
        let latest = self.ledger.latest.map_or("no batch yet".to_owned(), |at| format!("last batch {at}"));
        format!("application {}, start {}, {latest}", self.ledger.app_id, self.ledger.epoch)
    }

    /// Returns the time from which slides are counted, and the latest batch.
    pub(crate) fn times(&self) -> (Time, Option<Time>) {
        (self.ledger.zero, self.ledger.latest)
    }
}
