//! What is written to last: the one door to files that must be there after a crash.
//!
//! Logs and checkpoints reach the file system through a [`Disk`], so that a test can put a simulated one in its place which
//! loses whatever was not made durable. Three rules of file systems are behind every method:
//!
//! - bytes are durable after [`DiskFile::sync`], and not before;
//! - a name (a new file, a rename, a removal) is durable after [`Disk::sync_folder`] of its folder, and not before;
//! - after a `sync` that failed nobody knows what is durable, and a second `sync` that succeeds proves nothing.
//!
//! Blocks that are spilled are not: they die with their process, and need no door.

mod real;

use std::fmt::Debug;
use std::path::{Path, PathBuf};

pub use self::real::RealDisk;
use crate::error::{Error, ErrorKind, Result};
use crate::mutants::{Mutant, planted};

/// A place for files that outlive the process.
///
/// # Errors
///
/// Every method: the kind is `Data` if something is not there that should be, or is there and should not, and
/// `Unavailable` otherwise: the disk is full, does not answer, or may not be written. The message says what was done
/// and the path.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Makes a new file, opened for appending. It is an error if there is one. Its name is durable after
    /// [`sync_folder`](Disk::sync_folder).
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>>;

    /// Opens a file that is there, for appending at its end.
    fn open_append(&self, path: &Path) -> Result<Box<dyn DiskFile>>;

    /// Returns all of a file.
    fn read(&self, path: &Path) -> Result<Vec<u8>>;

    /// Returns exactly `len` bytes of a file from `offset`. It is an error of the kind `Data` if there are not so many, and
    /// is found before memory is taken for them.
    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>>;

    /// Returns the length of a file.
    fn len(&self, path: &Path) -> Result<u64>;

    /// Says whether there is a file or folder.
    fn exists(&self, path: &Path) -> Result<bool>;

    /// Returns the names in a folder, files and folders, sorted; none if there is no folder. It is an error if it is a file.
    fn list(&self, folder: &Path) -> Result<Vec<String>>;

    /// Gives a file or a folder another name, in one step; what had that name is replaced, but it is an error if a folder would
    /// replace a file, or a folder that is not empty. Durable after [`sync_folder`](Disk::sync_folder) of the new name's folder.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;

    /// Removes a file. Durable after [`sync_folder`](Disk::sync_folder).
    fn remove_file(&self, path: &Path) -> Result<()>;

    /// Removes a folder and all in it. It is fine if there is none. Durable after [`sync_folder`](Disk::sync_folder) of the
    /// folder that it was in; a crash before may leave any part.
    fn remove_folder(&self, path: &Path) -> Result<()>;

    /// Makes a folder and those it is in, durably, on return. It is fine if it is there.
    fn create_folder(&self, path: &Path) -> Result<()>;

    /// Makes a folder and those it is in. Each is durable after [`sync_folder`](Disk::sync_folder) of the folder that it is in. It
    /// is fine if it is there.
    fn make_folder(&self, path: &Path) -> Result<()> {
        self.create_folder(path)
    }

    /// Removes a folder if nothing is in it, in one step; otherwise, or if there is none, nothing happens. Durable after
    /// [`sync_folder`](Disk::sync_folder) of the folder that it was in. A disk that has no folders has nothing to do.
    fn remove_empty_folder(&self, _path: &Path) -> Result<()> {
        Ok(())
    }

    /// Cuts a file to `len` bytes, durably, on return.
    fn truncate(&self, path: &Path, len: u64) -> Result<()>;

    /// Makes the names in a folder durable: files that were made, renamed and removed.
    fn sync_folder(&self, path: &Path) -> Result<()>;

    /// Returns how whole objects are written, if that is all that this disk can do: an object store. Then files of
    /// [`create`](Disk::create) are there, whole, with their first and only sync, names are durable at once, and nothing is
    /// renamed, cut, or opened to be appended to.
    fn objects(&self) -> Option<&dyn Objects> {
        None
    }

    /// Takes the lock on a file, which is made if it is not there, until the lock is dropped or the process ends.
    /// `None` means that someone else holds it.
    fn lock(&self, path: &Path) -> Result<Option<Box<dyn DiskLock>>>;
}

/// A file open for appending.
///
/// # Errors
///
/// As [`Disk`]. After a failure nobody knows which part of what was appended since the last `sync` is in the file.
#[allow(clippy::len_without_is_empty, reason = "a position, not a collection")]
pub trait DiskFile: Debug + Send {
    /// Writes all of `bytes` at the end. Durable after [`sync`](DiskFile::sync).
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes durable what was appended; not the file's name. After a failure the file must be given up: the system forgets
    /// what it could not write, and the next `sync` succeeds without it.
    fn sync(&mut self) -> Result<()>;

    /// Says that what is durable between two offsets is not going to be read soon: the system need not keep it in memory.
    fn let_go(&mut self, _from: u64, _to: u64) {}

    /// Returns the length: what was there, and what has been appended without failure.
    fn len(&self) -> u64;
}

/// What a [`Disk`] can do that is an object store.
///
/// There, what [`DiskFile::sync`] of a new file does is *put if absent*: it fails with the kind `Data` if an object of this name
/// is there that this process did not put, whoever was first. That is the one promise that a late process is kept out by.
pub trait Objects {
    /// Replaces or makes an object in one step, durably, on return.
    ///
    /// # Errors
    ///
    /// As [`Disk`]. After a failure it is the old one or the new one.
    fn put(&self, path: &Path, parts: &[&[u8]]) -> Result<()>;
}

/// The file that says that nothing is left to be done about a folder that is void.
pub const ENDED: &str = "ended";

/// A lock that is held. It ends when this is dropped, or the process ends in whatever way.
///
/// On an object store nobody can be kept out for sure: there a lock is always given, and whoever takes it later is the one
/// that goes on.
pub trait DiskLock: Debug + Send + Sync {
    /// Fails if the lock is not held any more: the disk was restarted meanwhile, or another process has begun anew.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    /// Makes all that is in the lock's folder void, in one step, where the disk can do that. Says whether it did; otherwise it
    /// is to be removed file by file.
    fn begin_anew(&self) -> Result<bool> {
        Ok(false)
    }

    /// Returns the folders of what was made void so, by whomever, that have no file [`ENDED`] yet: they are to be removed.
    fn void(&self) -> Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }
}

/// Replaces or makes a file so that it is there whole, or as it was before, whenever the machine stops.
///
/// Written beside (`.name.draft`), made durable, renamed, and the folder made durable, in this order. The folder must be
/// there. Two writers of one path at a time are a mistake. *Cost*: two waits for the disk. Where the disk is an object store it is
/// one put.
///
/// # Errors
///
/// As [`Disk`]. After a failure the file may be the old or the new one, and never a part of either.
pub fn write_durably(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<()> {
    write_parts_durably(disk, path, &[bytes])
}

/// As [`write_durably`], of parts that need not be put together first.
pub(crate) fn write_parts_durably(disk: &dyn Disk, path: &Path, parts: &[&[u8]]) -> Result<()> {
    if let Some(objects) = disk.objects() {
        return objects.put(path, parts);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(ErrorKind::Config, format!("{} is not the name of a file", path.display())));
    };
    let draft = folder.join(format!(".{}.draft", name.to_string_lossy()));
    if disk.exists(&draft)? {
        // Of a writer that was stopped.
        disk.remove_file(&draft)?;
    }
    let written = disk.create(&draft).and_then(|mut file| {
        parts.iter().try_for_each(|part| file.append(part))?;
        if planted(Mutant::DraftNotSynced) { Ok(()) } else { file.sync() }
    });
    if let Err(error) = written.and_then(|()| disk.rename(&draft, path)) {
        let _ = disk.remove_file(&draft);
        return Err(error);
    }
    if planted(Mutant::FolderNotSynced) { Ok(()) } else { disk.sync_folder(folder) }
}

#[cfg(test)]
mod tests;
