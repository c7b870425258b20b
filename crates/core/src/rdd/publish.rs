//! Output folders of batches: written beside, and put in their place in one step, so that nobody sees a half of one.
//!
//! ```text
//! out-1000                     the folder, once it is there: parts, and `_SUCCESS` with the stamp of its batch
//! .out-1000.draft/EPOCH        what the run EPOCH is writing
//! .out-1000.replaced           what was there before, for the moment in which it is replaced
//! ```
//!
//! A folder with the stamp of the same batch is left as it is: every attempt at a batch writes the same.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::output::{is_ours, make_durable};
use crate::disk::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::mutants::{Mutant, planted};

/// Which batch an output folder is of.
#[derive(Clone, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct Stamp {
    /// The program, over all of its runs.
    pub program: String,
    /// The output and the batch.
    pub output: String,
    /// Grows from run to run; 0 if no later run knows of this one.
    pub epoch: u64,
}

thread_local! {
    static STAMP: RefCell<Option<Stamp>> = const { RefCell::new(None) };
}

/// Runs `body`, which saves once: its folder is published as that of the batch of `stamp`.
#[doc(hidden)]
pub fn publishing<R>(stamp: Stamp, body: impl FnOnce() -> R) -> R {
    struct Restore(Option<Stamp>);
    impl Drop for Restore {
        fn drop(&mut self) {
            STAMP.replace(self.0.take());
        }
    }
    let _restore = Restore(STAMP.replace(Some(stamp)));
    body()
}

/// Returns the stamp for the folder that is begun, if a batch is published.
pub(super) fn take_stamp() -> Option<Stamp> {
    STAMP.take()
}

const FIRST_LINE: &str = "millstream output 1";

impl Stamp {
    /// Returns what is written into `_SUCCESS`: nothing where no later run could make use of it, as Spark does.
    fn text(&self) -> String {
        if self.epoch == 0 {
            return String::new();
        }
        format!("{FIRST_LINE}\nepoch {}\nprogram {:?}\noutput {:?}\n", self.epoch, self.program, self.output)
    }

    /// Says what a folder with the mark `text` is to this one.
    fn meets(&self, text: &str) -> Met {
        let mut lines = text.lines();
        let same = |line: Option<&str>, name: &str, value: &str| line == Some(&*format!("{name} {value:?}"));
        let epoch = match (lines.next(), lines.next().and_then(|line| line.strip_prefix("epoch ")?.parse::<u64>().ok()))
        {
            (Some(FIRST_LINE), Some(epoch)) if self.epoch > 0 => epoch,
            _ => return Met::Other,
        };
        let program = same(lines.next(), "program", &self.program);
        match (program, same(lines.next(), "output", &self.output)) {
            (true, true) => Met::Same,
            (true, false) if epoch > self.epoch => Met::Newer(epoch),
            _ => Met::Other,
        }
    }
}

/// What is found in the place of a folder.
enum Met {
    /// What an earlier attempt at the same batch, or a later run, has published: the same.
    Same,
    /// Something else of a later run of the same program.
    Newer(u64),
    /// Anything else, which is written over (S-109).
    Other,
}

/// A folder that is being written, and is not yet in its place.
pub(super) struct Draft {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    folder: PathBuf,
    stamp: Stamp,
    is_published: bool,
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{what}"))
}

fn parent(path: &Path) -> &Path {
    path.parent().unwrap_or(path)
}

/// Says which folder could not be made or written.
pub(super) fn failed(path: &Path, what: &str, error: &Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("folder {} could not be {what}: {}", path.display(), error.message()))
}

impl Draft {
    /// Begins a folder, and lets go of what runs that were stopped have left of it.
    pub(super) fn begin(disk: &Arc<dyn Disk>, path: &Path, stamp: Stamp) -> Result<Draft> {
        let folder = beside(path, "draft").join(stamp.epoch.to_string());
        let draft = Draft { disk: Arc::clone(disk), path: path.to_owned(), folder, stamp, is_published: false };
        draft.make().map_err(|e| failed(path, "made", &e))?;
        Ok(draft)
    }

    fn make(&self) -> Result<()> {
        // Fails if it is a file.
        self.disk.list(&self.path)?;
        self.restore()?;
        let drafts = parent(&self.folder);
        for name in self.disk.list(drafts)? {
            if name.parse::<u64>().is_ok_and(|epoch| epoch <= self.stamp.epoch) {
                self.disk.remove_folder(&drafts.join(name))?;
            }
        }
        let around = parent(&self.path);
        if self.is_durable() && !around.as_os_str().is_empty() && !self.disk.exists(around)? {
            self.disk.create_folder(around)?;
        }
        self.disk.make_folder(&self.folder)
    }

    /// Says whether a later run is to find it: otherwise nothing waits for the disk.
    fn is_durable(&self) -> bool {
        self.stamp.epoch > 0
    }

    /// Returns where the parts are written.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Brings back what was taken away by a run that was stopped before it put something in its place, or ends its work.
    fn restore(&self) -> Result<()> {
        let replaced = beside(&self.path, "replaced");
        match (self.disk.exists(&replaced)?, self.disk.exists(&self.path)?) {
            (false, _) => Ok(()),
            (true, false) => self.disk.rename(&replaced, &self.path),
            (true, true) => self.carry_over(&replaced),
        }
    }

    /// Puts the folder in its place, whole and durable.
    pub(super) fn publish(mut self) -> Result<()> {
        self.to_its_place().map_err(|e| match e.kind() {
            ErrorKind::Stopped => e,
            _ => failed(&self.path, "written", &e),
        })?;
        self.is_published = true;
        Ok(())
    }

    fn to_its_place(&self) -> Result<()> {
        self.disk.create(&self.folder.join("_SUCCESS"))?.append(self.stamp.text().as_bytes())?;
        if self.is_durable() && !planted(Mutant::PublishedNotSynced) {
            make_durable(&*self.disk, &self.folder)?;
        }
        // A folder that is empty is replaced by this; one that is not, is not.
        if let Err(error) = self.disk.rename(&self.folder, &self.path) {
            if self.disk.list(&self.path)?.is_empty() {
                return Err(error);
            }
            match self.stamp.meets(&self.mark()?) {
                Met::Same => self.disk.remove_folder(&self.folder)?,
                Met::Newer(epoch) => {
                    let text = format!(
                        "folder {} was written by the run {epoch} of this program, and this is the run {}: it comes too late",
                        self.path.display(),
                        self.stamp.epoch
                    );
                    return Err(Error::new(ErrorKind::Stopped, text));
                }
                Met::Other => self.replace()?,
            }
        }
        self.disk.remove_empty_folder(parent(&self.folder))?;
        self.sync(parent(&self.path))
    }

    /// Returns what is in the `_SUCCESS` of the folder in whose place this is to be.
    fn mark(&self) -> Result<String> {
        let mark = self.path.join("_SUCCESS");
        let bytes = if self.disk.exists(&mark)? { self.disk.read(&mark)? } else { Vec::new() };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn sync(&self, folder: &Path) -> Result<()> {
        if self.is_durable() { self.disk.sync_folder(folder) } else { Ok(()) }
    }

    /// Takes away what is there, puts this in its place, and brings back what was not ours. Each step is durable before the
    /// next: what is not ours is nowhere else.
    fn replace(&self) -> Result<()> {
        let replaced = beside(&self.path, "replaced");
        self.disk.rename(&self.path, &replaced)?;
        if let Err(error) = self.sync(parent(&self.path)).and_then(|()| self.disk.rename(&self.folder, &self.path)) {
            let _ = self.disk.rename(&replaced, &self.path);
            return Err(error);
        }
        self.carry_over(&replaced)
    }

    /// Moves what is not ours from a folder that was replaced, and removes the rest.
    fn carry_over(&self, replaced: &Path) -> Result<()> {
        // Else a crash could leave what is moved in a draft.
        self.sync(parent(&self.path))?;
        for name in self.disk.list(replaced)? {
            let to = self.path.join(&name);
            if !is_ours(&name) && !self.disk.exists(&to)? {
                self.disk.rename(&replaced.join(name), &to)?;
            }
        }
        // Also where an earlier attempt has moved it.
        self.sync(&self.path)?;
        self.disk.remove_folder(replaced)
    }
}

impl Drop for Draft {
    /// Removes what was not published. What cannot be removed now, the next run that writes this folder removes.
    fn drop(&mut self) {
        if self.is_published {
            return;
        }
        let _ = self.disk.remove_folder(&self.folder);
        let _ = self.disk.remove_empty_folder(parent(&self.folder));
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::disk::RealDisk;

    fn begin(path: &Path, stamp: Stamp) -> Draft {
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        Draft::begin(&disk, path, stamp).unwrap()
    }

    fn stamp(output: &str, epoch: u64) -> Stamp {
        Stamp { program: "app/0".into(), output: output.into(), epoch }
    }

    fn write(path: &Path, stamp: Stamp, text: &str) -> Result<()> {
        let draft = begin(path, stamp);
        fs::write(draft.folder().join("part-00000"), text).unwrap();
        draft.publish()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// Returns what is in the folder: nothing if it is not there.
    fn content(path: &Path) -> Option<String> {
        path.exists().then(|| {
            assert!(path.join("_SUCCESS").exists(), "it is whole");
            fs::read_to_string(path.join("part-00000")).unwrap()
        })
    }

    #[test]
    fn a_batch_that_runs_again_leaves_what_it_published_and_another_program_writes_over_it() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("out-1000");
        write(&path, stamp("o/1000", 1), "first").unwrap();
        write(&path, stamp("o/1000", 2), "again").unwrap();
        assert_eq!(content(&path).as_deref(), Some("first"), "left as it is");
        write(&path, Stamp { program: "other/0".into(), ..stamp("o/1000", 1) }, "other").unwrap();
        assert_eq!(content(&path).as_deref(), Some("other"));
        write(&path, stamp("o/1000", 0), "no run").unwrap();
        write(&path, stamp("o/1000", 0), "no run again").unwrap();
        assert_eq!(
            content(&path).as_deref(),
            Some("no run again"),
            "S-109: nothing is known of runs without a checkpoint"
        );
        assert_eq!(fs::read(path.join("_SUCCESS")).unwrap(), b"", "S-108");
    }

    #[test]
    fn a_writer_of_an_earlier_run_that_comes_late_changes_nothing() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("out-1000");
        let late = begin(&path, stamp("o/1000", 1));
        fs::write(late.folder().join("part-00000"), "late").unwrap();
        write(&path, stamp("o/1000", 2), "in time").unwrap();
        assert!(late.publish().is_err(), "what it wrote was taken away");
        assert_eq!(content(&path).as_deref(), Some("in time"));
        let error = write(&path, stamp("renamed/1000", 1), "late").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Stopped, "{error}");
        assert_eq!(content(&path).as_deref(), Some("in time"));
        assert_eq!(names(root.path()), ["out-1000"]);
    }

    #[test]
    fn two_runs_that_write_at_once_end_with_one_whole_folder() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("out-1000");
        let newer = begin(&path, stamp("o/1000", 2));
        fs::write(newer.folder().join("part-00000"), "new").unwrap();
        // One that is paused takes nothing away from the newer one.
        write(&path, stamp("o/1000", 1), "old").unwrap();
        newer.publish().unwrap();
        assert_eq!(content(&path).as_deref(), Some("old"), "the same batch: whoever comes first");
        assert_eq!(names(root.path()), ["out-1000"]);
    }
}
