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
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::output::is_ours;
use crate::disk::{Disk, RealDisk};
use crate::error::{Error, ErrorKind, Result};

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
    path: PathBuf,
    folder: PathBuf,
    stamp: Stamp,
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{what}"))
}

impl Draft {
    /// Begins a folder, and lets go of what runs that were stopped have left of it.
    pub(super) fn begin(path: &Path, stamp: Stamp) -> Result<Draft> {
        let failed = |e| Error::io(ErrorKind::Unavailable, format!("folder {} could not be made", path.display()), e);
        if path.exists() && !path.is_dir() {
            return Err(failed(io::Error::from(io::ErrorKind::NotADirectory)));
        }
        let drafts = beside(path, "draft");
        let folder = drafts.join(stamp.epoch.to_string());
        let draft = Draft { path: path.to_owned(), folder, stamp };
        draft.restore().map_err(failed)?;
        for entry in fs::read_dir(&drafts).into_iter().flatten().flatten() {
            let epoch = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok());
            if epoch.is_some_and(|epoch| epoch <= draft.stamp.epoch) {
                fs::remove_dir_all(entry.path()).map_err(failed)?;
            }
        }
        if draft.stamp.epoch > 0
            && let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists())
        {
            RealDisk.create_folder(parent).map_err(|e| failed(io::Error::other(e.to_string())))?;
        }
        fs::create_dir_all(&draft.folder).map_err(failed)?;
        Ok(draft)
    }

    /// Returns where the parts are written.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Brings back what was taken away by a run that was stopped before it put something in its place, or ends its work.
    fn restore(&self) -> io::Result<()> {
        let replaced = beside(&self.path, "replaced");
        match (replaced.exists(), self.path.exists()) {
            (false, _) => Ok(()),
            (true, false) => fs::rename(&replaced, &self.path),
            (true, true) => self.carry_over(&replaced),
        }
    }

    /// Puts the folder in its place, whole and durable.
    pub(super) fn publish(self) -> Result<()> {
        let failed = |e: io::Error| {
            Error::io(ErrorKind::Unavailable, format!("folder {} could not be written", self.path.display()), e)
        };
        step("mark").and_then(|()| fs::write(self.folder.join("_SUCCESS"), self.stamp.text())).map_err(failed)?;
        if self.stamp.epoch > 0 {
            step("sync").map_err(failed)?;
            for entry in fs::read_dir(&self.folder).map_err(failed)? {
                let file = entry.and_then(|entry| fs::File::open(entry.path())).map_err(failed)?;
                file.sync_all().map_err(failed)?;
            }
            RealDisk.sync_folder(&self.folder)?;
        }
        step("publish").map_err(failed)?;
        // A folder that is empty is replaced by this; one that is not, is not.
        match fs::rename(&self.folder, &self.path) {
            Ok(()) => {}
            Err(_) if self.path.is_dir() => {
                match self.stamp.meets(&fs::read_to_string(self.path.join("_SUCCESS")).unwrap_or_default()) {
                    Met::Same => {}
                    Met::Newer(epoch) => {
                        let text = format!(
                            "folder {} was written by the run {epoch} of this program, and this is the run {}: it comes too \
                             late",
                            self.path.display(),
                            self.stamp.epoch
                        );
                        return Err(Error::new(ErrorKind::Stopped, text));
                    }
                    Met::Other => self.replace().map_err(failed)?,
                }
            }
            Err(error) => return Err(failed(error)),
        }
        step("done").map_err(failed)?;
        if let (Some(parent), 1..) = (self.path.parent(), self.stamp.epoch) {
            RealDisk.sync_folder(if parent.as_os_str().is_empty() { Path::new(".") } else { parent })?;
        }
        Ok(())
    }

    /// Takes away what is there, puts this in its place, and brings back what was not ours.
    fn replace(&self) -> io::Result<()> {
        let replaced = beside(&self.path, "replaced");
        step("take away")?;
        fs::rename(&self.path, &replaced)?;
        step("put in place")?;
        if let Err(error) = fs::rename(&self.folder, &self.path) {
            let _ = fs::rename(&replaced, &self.path);
            return Err(error);
        }
        self.carry_over(&replaced)
    }

    /// Moves what is not ours from a folder that was replaced, and removes the rest.
    fn carry_over(&self, replaced: &Path) -> io::Result<()> {
        step("carry over")?;
        for entry in fs::read_dir(replaced)? {
            let entry = entry?;
            let to = self.path.join(entry.file_name());
            if !is_ours(&entry.file_name()) && !to.exists() {
                fs::rename(entry.path(), to)?;
            }
        }
        step("remove")?;
        fs::remove_dir_all(replaced)
    }
}

impl Drop for Draft {
    /// Removes what was not published.
    fn drop(&mut self) {
        if crashed() {
            return;
        }
        let _ = fs::remove_dir_all(&self.folder);
        if let Some(drafts) = self.folder.parent() {
            // Fails if another run is writing there.
            let _ = fs::remove_dir(drafts);
        }
    }
}

#[cfg(not(test))]
#[allow(clippy::unnecessary_wraps, reason = "in tests the machine stops here")]
fn step(_: &'static str) -> io::Result<()> {
    Ok(())
}

#[cfg(not(test))]
fn crashed() -> bool {
    false
}

#[cfg(test)]
use self::tests::{crashed, step};

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    thread_local! {
        /// After how many steps the machine stops.
        static LEFT: Cell<Option<usize>> = const { Cell::new(None) };
        static STEPS: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
    }

    pub(super) fn step(name: &'static str) -> io::Result<()> {
        STEPS.with_borrow_mut(|steps| steps.push(name));
        match LEFT.get() {
            Some(0) => Err(io::Error::other("the machine stops here")),
            left => {
                LEFT.set(left.map(|left| left - 1));
                Ok(())
            }
        }
    }

    pub(super) fn crashed() -> bool {
        LEFT.get() == Some(0)
    }

    fn stamp(output: &str, epoch: u64) -> Stamp {
        Stamp { program: "app/0".into(), output: output.into(), epoch }
    }

    fn write(path: &Path, stamp: Stamp, text: &str) -> Result<()> {
        let draft = Draft::begin(path, stamp)?;
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
    fn a_machine_that_stops_at_any_step_leaves_a_whole_folder_or_none_and_the_next_run_ends_it() {
        for before in [None, Some("of another program")] {
            for stop in 0.. {
                let root = tempfile::tempdir().unwrap();
                let path = root.path().join("out-1000");
                if let Some(text) = before {
                    fs::create_dir(&path).unwrap();
                    for (name, text) in
                        [("part-00000", text), ("part-00001", "more"), ("_SUCCESS", ""), ("notes", "mine")]
                    {
                        fs::write(path.join(name), text).unwrap();
                    }
                }
                LEFT.set(Some(stop));
                let ended = write(&path, stamp("o/1000", 1), "new");
                LEFT.set(None);
                let found = content(&path);
                let fine = [None, before, Some("new")].contains(&found.as_deref());
                assert!(fine, "stopped at {stop}: {found:?}");
                assert!(ended.is_err() || found.as_deref() == Some("new"), "stopped at {stop}: {found:?}");
                write(&path, stamp("o/1000", 2), "new").unwrap();
                assert_eq!(content(&path).as_deref(), Some("new"));
                let notes = before.map(|_| "notes");
                let want: Vec<_> = ["_SUCCESS"].into_iter().chain(notes).chain(["part-00000"]).collect();
                assert_eq!(names(&path), want, "stopped at {stop}");
                assert_eq!(names(root.path()), ["out-1000"], "nothing is left, stopped at {stop}");
                if ended.is_ok() {
                    assert!(stop > 3, "there are steps");
                    break;
                }
            }
        }
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
        let late = Draft::begin(&path, stamp("o/1000", 1)).unwrap();
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
        let newer = Draft::begin(&path, stamp("o/1000", 2)).unwrap();
        fs::write(newer.folder().join("part-00000"), "new").unwrap();
        // One that is paused takes nothing away from the newer one.
        write(&path, stamp("o/1000", 1), "old").unwrap();
        newer.publish().unwrap();
        assert_eq!(content(&path).as_deref(), Some("old"), "the same batch: whoever comes first");
        assert_eq!(names(root.path()), ["out-1000"]);
    }
}
