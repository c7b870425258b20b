//! Folders for the files of executors: nobody else's, and swept away by the next one where who had them ended without a word.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::ErrorKind as IoKind;
use std::path::{Path, PathBuf};

use millstream_core::{Error, ErrorKind, Result};

use crate::secret::random;

/// What their names begin with.
const NAME: &str = "millstream-executors-";

/// How often a folder is made that another process takes for one that was left.
const TRIES: u32 = 16;

/// A folder that is held: nobody sweeps it away while this lives.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// The lock goes with it, however the process ends.
    _held: File,
}

impl Folder {
    /// Makes a folder in `base` with a name that nobody can guess, for this user alone. Removes those that nobody holds.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: `base` cannot be written.
    pub(crate) fn fresh(base: &Path) -> Result<Folder> {
        let failed = |error| {
            let doing = format!("a folder for the files of executors cannot be made in {}", base.display());
            Error::io(ErrorKind::Unavailable, doing, error)
        };
        std::fs::create_dir_all(base).map_err(failed)?;
        sweep(base);
        for _ in 0..TRIES {
            let name: String = random::<8>()?.iter().map(|byte| format!("{byte:02x}")).collect();
            let path = base.join(format!("{NAME}{name}"));
            // Not if somebody has made it, or a link of that name.
            mine_alone().create(&path).map_err(failed)?;
            if let Some(held) = hold(&path).map_err(failed)? {
                return Ok(Folder { path, _held: held });
            }
        }
        Err(failed(IoKind::ResourceBusy.into()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(unix)]
fn mine_alone() -> DirBuilder {
    use std::os::unix::fs::DirBuilderExt as _;
    let mut builder = DirBuilder::new();
    builder.mode(0o700);
    builder
}

#[cfg(not(unix))]
fn mine_alone() -> DirBuilder {
    DirBuilder::new()
}

/// Takes a folder that was just made; nothing if somebody was faster, who thought that it had been left.
fn hold(path: &Path) -> std::io::Result<Option<File>> {
    let folder = match File::open(path) {
        Err(error) if error.kind() == IoKind::NotFound => return Ok(None),
        folder => folder?,
    };
    match folder.try_lock() {
        Err(TryLockError::WouldBlock) => Ok(None),
        // Where a file system has no locks nobody can take one to sweep, either.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(path.exists().then_some(folder)),
    }
}

/// Removes the folders that nobody holds. What cannot be removed stays: it is another's, or the next one's to sweep.
fn sweep(base: &Path) {
    let Ok(entries) = std::fs::read_dir(base) else { return };
    let is_ours = |entry: &std::fs::DirEntry| {
        entry.file_name().to_string_lossy().starts_with(NAME) && entry.file_type().is_ok_and(|kind| kind.is_dir())
    };
    for path in entries.flatten().filter(is_ours).map(|entry| entry.path()) {
        let Ok(folder) = File::open(&path) else { continue };
        if folder.try_lock().is_err() {
            continue;
        }
        match std::fs::remove_dir_all(&path) {
            Ok(()) => {
                tracing::info!("{} was left by executors that ended without a word, and is removed", path.display())
            }
            Err(error) => tracing::debug!(%error, "{} was left, and could not be removed", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_is_held_stays_and_one_that_was_left_is_swept_by_the_next() {
        let base = tempfile::tempdir().unwrap();
        let inside = base.path().join("not/there/yet");
        let (held, left) = (Folder::fresh(&inside).unwrap(), Folder::fresh(&inside).unwrap());
        std::fs::write(left.path().join("shuffle"), b"rows").unwrap();
        let (of_left, other) = (left.path().to_owned(), inside.join("somebody-elses"));
        std::fs::create_dir(&other).unwrap();
        drop(left);
        assert!(of_left.exists(), "its executors may be about to end");
        let next = Folder::fresh(&inside).unwrap();
        assert!(held.path().exists() && next.path().exists() && other.exists() && !of_left.exists());
        assert_ne!(held.path(), next.path());
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_look_into_a_folder() {
        use std::os::unix::fs::PermissionsExt as _;
        let base = tempfile::tempdir().unwrap();
        let folder = Folder::fresh(base.path()).unwrap();
        assert_eq!(folder.path().metadata().unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let base = tempfile::NamedTempFile::new().unwrap();
        let error = Folder::fresh(base.path()).unwrap_err();
        assert!(error.to_string().contains(&base.path().display().to_string()), "{error}");
    }
}
