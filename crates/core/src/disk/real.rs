//! The system's file system as a [`Disk`].

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::{Disk, DiskFile, DiskLock};
use crate::error::{Error, ErrorKind, Result};

/// The system's file system. `sync` is `fdatasync`, the sync of a folder `fsync`.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

/// Says what could not be done to which path.
fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    use io::ErrorKind as Io;
    let kind = match error.kind() {
        Io::NotFound | Io::AlreadyExists | Io::UnexpectedEof | Io::InvalidData => ErrorKind::Data,
        _ => ErrorKind::Unavailable,
    };
    Error::io(kind, format!("{} could not be {what}", path.display()), error)
}

/// The folder that a path is in; a bare name is in the working folder.
fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

fn sync_folder(path: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened, and names are durable with the file.
    if cfg!(unix) { File::open(path)?.sync_all() } else { Ok(()) }
}

impl Disk for RealDisk {
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().append(true).create_new(true).open(path).map_err(|e| failed("made", path, e))?;
        Ok(Box::new(RealFile { file, path: path.to_owned(), len: 0 }))
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        let open = || {
            let file = OpenOptions::new().append(true).open(path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let (file, len) = open().map_err(|e| failed("opened", path, e))?;
        Ok(Box::new(RealFile { file, path: path.to_owned(), len }))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        fs::read(path).map_err(|e| failed("read", path, e))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
        let read = || {
            let mut file = File::open(path)?;
            let there = file.metadata()?.len();
            if offset.checked_add(len as u64).is_none_or(|end| end > there) {
                let text = format!("{len} bytes at {offset} of a file of {there}");
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            let mut bytes = vec![0; len];
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(|e| failed("read", path, e))
    }

    fn len(&self, path: &Path) -> Result<u64> {
        fs::metadata(path).map(|found| found.len()).map_err(|e| failed("looked at", path, e))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        path.try_exists().map_err(|e| failed("looked for", path, e))
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>> {
        let names = || -> io::Result<Vec<String>> {
            let entries = match fs::read_dir(folder) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                entries => entries?,
            };
            let mut names = Vec::new();
            for entry in entries {
                names.push(entry?.file_name().to_string_lossy().into_owned());
            }
            names.sort_unstable();
            Ok(names)
        };
        names().map_err(|e| failed("listed", folder, e))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        fs::rename(from, to).map_err(|e| failed(&format!("renamed to {}", to.display()), from, e))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        fs::remove_file(path).map_err(|e| failed("removed", path, e))
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        match fs::remove_dir_all(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed("removed", path, e)),
            _ => Ok(()),
        }
    }

    fn create_folder(&self, path: &Path) -> Result<()> {
        let mut missing: Vec<&Path> = Vec::new();
        for folder in path.ancestors().filter(|folder| !folder.as_os_str().is_empty()) {
            if folder.is_dir() {
                break;
            }
            missing.push(folder);
        }
        for folder in missing.into_iter().rev() {
            match fs::create_dir(folder) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => {}
                made => made.map_err(|e| {
                    Error::io(ErrorKind::Unavailable, format!("{} could not be made", folder.display()), e)
                })?,
            }
            sync_folder(parent(folder)).map_err(|e| failed("made durable", parent(folder), e))?;
        }
        Ok(())
    }

    fn make_folder(&self, path: &Path) -> Result<()> {
        fs::create_dir_all(path).map_err(|e| failed("made", path, e))
    }

    fn remove_empty_folder(&self, path: &Path) -> Result<()> {
        match fs::remove_dir(path) {
            Err(e) if !matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                Err(failed("removed", path, e))
            }
            _ => Ok(()),
        }
    }

    fn truncate(&self, path: &Path, len: u64) -> Result<()> {
        let cut = || {
            let file = OpenOptions::new().write(true).open(path)?;
            file.set_len(len)?;
            file.sync_all()
        };
        cut().map_err(|e| failed("cut", path, e))
    }

    fn sync_folder(&self, path: &Path) -> Result<()> {
        let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
        sync_folder(path).map_err(|e| failed("made durable", path, e))
    }

    fn lock(&self, path: &Path) -> Result<Option<Box<dyn DiskLock>>> {
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|e| failed("opened", path, e))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Box::new(RealLock { _file: file }))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(failed("locked", path, e)),
        }
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
    path: PathBuf,
    len: u64,
}

impl DiskFile for RealFile {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| failed("written", &self.path, e))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        self.file.sync_data().map_err(|e| failed("made durable", &self.path, e))
    }

    fn let_go(&mut self, from: u64, to: u64) {
        #[cfg(target_os = "linux")]
        if let Some(len) = std::num::NonZeroU64::new(to.saturating_sub(from)) {
            // It is advice: a file system that does not take it keeps what it keeps.
            let _ = rustix::fs::fadvise(&self.file, from, Some(len), rustix::fs::Advice::DontNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (from, to);
    }

    fn len(&self) -> u64 {
        self.len
    }
}

/// The system lets go of the lock with the file.
#[derive(Debug)]
struct RealLock {
    _file: File,
}

impl DiskLock for RealLock {}
