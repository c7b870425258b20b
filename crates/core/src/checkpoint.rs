//! Where checkpoints are written: whole files by name, there or not there.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use crate::disk::{Disk, RealDisk, write_parts_durably};
use crate::error::{Error, ErrorKind, Result};
use crate::threads::lock;

/// Keeps checkpoints. Names are paths with `/`.
///
/// INVARIANT: a file is there whole, or not at all, also after a crash at any moment.
pub trait CheckpointStore: Send + Sync + fmt::Debug + 'static {
    /// Keeps `bytes` under `name`, durably, on return. What had the name before is replaced.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the disk is full, say. Nothing is kept then.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Returns what is kept under `name`.
    ///
    /// # Errors
    ///
    /// The kind is `Data` if nothing is kept under the name, `Unavailable` if it cannot be read.
    fn read(&self, name: &str) -> Result<Bytes>;

    /// Returns `len` bytes from `offset` of what is kept under `name`.
    ///
    /// # Errors
    ///
    /// As [`read`](CheckpointStore::read); the kind is `Data`, too, if there are not so many.
    fn read_at(&self, name: &str, offset: u64, len: usize) -> Result<Bytes> {
        let all = self.read(name)?;
        let range = usize::try_from(offset).ok().and_then(|from| Some(from..from.checked_add(len)?));
        match range.filter(|range| range.end <= all.len()) {
            Some(range) => Ok(all.slice(range)),
            None => Err(Error::new(ErrorKind::Data, format!("{name} has no {len} bytes at byte {offset}"))),
        }
    }

    /// Forgets everything whose name begins with `folder` and a `/`. It is fine if nothing does.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`.
    fn remove_folder(&self, folder: &str) -> Result<()>;
}

/// Keeps checkpoints in a folder of a [`Disk`], the file system's unless another is given.
pub struct FolderCheckpoints {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
}

impl FolderCheckpoints {
    /// Opens a folder, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the folder cannot be made.
    pub fn open(folder: impl Into<PathBuf>) -> Result<FolderCheckpoints> {
        FolderCheckpoints::open_on(Arc::new(RealDisk), folder)
    }

    /// Opens a folder of `disk`, and makes it if it is not there.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the folder cannot be made. `Config`: it is an address, as `s3://bucket/words`, and would be made
    /// as a folder of that name.
    pub fn open_on(disk: Arc<dyn Disk>, folder: impl Into<PathBuf>) -> Result<FolderCheckpoints> {
        let folder = folder.into();
        if let Some((scheme, rest)) = folder.to_string_lossy().split_once("://") {
            let text = if scheme == "file" {
                format!("file://{rest} is an address: give the path {rest}")
            } else {
                format!(
                    "{scheme}://{rest} is an address, and a checkpoint is kept in a folder of a disk. For a bucket, give \
                     ObjectDisk::open(\"s3://BUCKET/PREFIX\") of the feature object-store to with_disk of the context's builder, and \
                     here the name below it; other file systems have to be mounted"
                )
            };
            return Err(Error::new(ErrorKind::Config, text));
        }
        disk.create_folder(&folder)?;
        Ok(FolderCheckpoints { disk, folder })
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

impl fmt::Debug for FolderCheckpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FolderCheckpoints({})", self.folder.display())
    }
}

impl CheckpointStore for FolderCheckpoints {
    /// Written beside, made durable, renamed, and the folder made durable: in this order. A check sum of four bytes follows.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.folder.join(name);
        let Some(folder) = path.parent() else {
            return Err(crate::bug!("a checkpoint has no name"));
        };
        self.disk.create_folder(folder)?;
        write_parts_durably(&*self.disk, &path, &[bytes, &check_sum(bytes)])
    }

    fn read(&self, name: &str) -> Result<Bytes> {
        let path = self.folder.join(name);
        if !self.disk.exists(&path)? {
            let text =
                format!("checkpoint {} is not there; was the folder cleaned while it was in use?", path.display());
            return Err(Error::new(ErrorKind::Data, text));
        }
        let mut bytes: Bytes = self.disk.read(&path)?.into();
        let sum = bytes.split_off(bytes.len().saturating_sub(4));
        if sum[..] != check_sum(&bytes) {
            let text = format!("checkpoint {} is damaged: its check sum is another", path.display());
            return Err(Error::new(ErrorKind::Data, text));
        }
        Ok(bytes)
    }

    fn read_at(&self, name: &str, offset: u64, len: usize) -> Result<Bytes> {
        Ok(self.disk.read_at(&self.folder.join(name), offset, len)?.into())
    }

    fn remove_folder(&self, folder: &str) -> Result<()> {
        self.disk.remove_folder(&self.folder.join(folder))
    }
}

/// CRC-32, little endian: it stands behind each file, so that bytes that rot are not taken for others.
fn check_sum(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// Keeps checkpoints in memory: for tests.
#[derive(Debug, Default)]
pub struct MemoryCheckpoints {
    files: Mutex<BTreeMap<String, Bytes>>,
}

impl MemoryCheckpoints {
    /// Makes an empty one.
    pub fn new() -> MemoryCheckpoints {
        MemoryCheckpoints::default()
    }

    /// Returns the names of what is kept, sorted.
    pub fn names(&self) -> Vec<String> {
        lock(&self.files).keys().cloned().collect()
    }
}

impl CheckpointStore for MemoryCheckpoints {
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        lock(&self.files).insert(name.to_owned(), Bytes::copy_from_slice(bytes));
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Bytes> {
        lock(&self.files)
            .get(name)
            .cloned()
            .ok_or_else(|| Error::new(ErrorKind::Data, format!("checkpoint {name} is not there")))
    }

    fn remove_folder(&self, folder: &str) -> Result<()> {
        let prefix = format!("{folder}/");
        lock(&self.files).retain(|name, _| !name.starts_with(&prefix));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn a_store_keeps_what_it_was_given(store: &dyn CheckpointStore) {
        store.write("a/one", b"1").unwrap();
        store.write("a/one", b"2").unwrap();
        store.write("ab/one", b"3").unwrap();
        assert_eq!(&store.read("a/one").unwrap()[..], b"2");
        assert_eq!(store.read("a/two").unwrap_err().kind(), ErrorKind::Data);
        store.remove_folder("a").unwrap();
        store.remove_folder("nothing").unwrap();
        assert!(store.read("a/one").is_err());
        assert_eq!(&store.read("ab/one").unwrap()[..], b"3");
    }

    #[test]
    fn stores_keep_what_they_were_given() {
        a_store_keeps_what_it_was_given(&MemoryCheckpoints::new());
        let folder = tempfile::tempdir().unwrap();
        a_store_keeps_what_it_was_given(&FolderCheckpoints::open(folder.path().join("new")).unwrap());
    }

    #[test]
    fn a_file_that_rots_or_is_cut_anywhere_is_damaged_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderCheckpoints::open(folder.path()).unwrap();
        store.write("a/one", b"what is kept").unwrap();
        let path = folder.path().join("a/one");
        let whole = std::fs::read(&path).unwrap();
        let rotten = (0..whole.len()).map(|at| {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            bytes
        });
        for bytes in rotten.chain((0..whole.len()).map(|len| whole[..len].to_vec())) {
            std::fs::write(&path, bytes).unwrap();
            let error = store.read("a/one").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data);
            assert!(error.to_string().contains("a/one"), "{error}");
        }
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_unavailable() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = FolderCheckpoints::open(file.path().join("x")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable);
    }
}
