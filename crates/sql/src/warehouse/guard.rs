//! Who writes to a table: one process at a time, and in it one commit at a time.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use millstream_core::disk::{Disk, DiskLock};
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result};

/// The lock on a table, for all of this process's outputs that write to it.
#[derive(Debug)]
pub(super) struct Guard {
    held: Box<dyn DiskLock>,
    commit: Mutex<()>,
}

/// The locks that this process holds.
static HELD: Mutex<Vec<(PathBuf, Weak<Guard>)>> = Mutex::new(Vec::new());

impl Guard {
    /// Takes the lock of the table whose own folder this is, or shares it with another output of this process.
    pub(super) fn take(disk: &dyn Disk, own: &Path, table: &str) -> Result<Arc<Guard>> {
        disk.create_folder(own)?;
        let path = own.join("lock");
        let held = &mut *lock(&HELD);
        held.retain(|(_, guard)| guard.strong_count() > 0);
        if let Some(taken) = disk.lock(&path)? {
            let guard = Arc::new(Guard { held: taken, commit: Mutex::new(()) });
            held.push((path, Arc::downgrade(&guard)));
            return Ok(guard);
        }
        let of_ours = held.iter().filter(|(at, _)| *at == path).filter_map(|(_, guard)| guard.upgrade());
        of_ours.into_iter().find(|guard| guard.held.check().is_ok()).ok_or_else(|| {
            let text = format!(
                "another program writes to the table `{table}` and holds {}: end it first, or write to a table of another name",
                path.display()
            );
            Error::new(ErrorKind::Config, text)
        })
    }

    /// Keeps others of this process from committing meanwhile. Fails if the lock is not held any more.
    pub(super) fn commit(&self) -> Result<MutexGuard<'_, ()>> {
        let guard = lock(&self.commit);
        self.held.check()?;
        Ok(guard)
    }
}
