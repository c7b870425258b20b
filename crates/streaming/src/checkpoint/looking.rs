//! A look at a folder: what is there is read, and nothing is written, whatever whoever reads it would write.

use std::path::Path;
use std::sync::Arc;

use millstream_core::Result;
use millstream_core::disk::{Disk, DiskFile, DiskLock, Objects};

/// A disk that is read, and on which every change succeeds and does nothing. Also while another process holds what is there.
#[derive(Debug)]
pub(crate) struct Looking(pub(crate) Arc<dyn Disk>);

impl Disk for Looking {
    fn create(&self, _: &Path) -> Result<Box<dyn DiskFile>> {
        Ok(Box::new(Nowhere(0)))
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        Ok(Box::new(Nowhere(self.0.len(path)?)))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        self.0.read(path)
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
        self.0.read_at(path, offset, len)
    }

    fn len(&self, path: &Path) -> Result<u64> {
        self.0.len(path)
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.0.exists(path)
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>> {
        self.0.list(folder)
    }

    fn rename(&self, _: &Path, _: &Path) -> Result<()> {
        Ok(())
    }

    fn remove_file(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn remove_folder(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn create_folder(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn make_folder(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn remove_empty_folder(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn truncate(&self, _: &Path, _: u64) -> Result<()> {
        Ok(())
    }

    fn sync_folder(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn objects(&self) -> Option<&dyn Objects> {
        self.0.objects().map(|_| self as &dyn Objects)
    }

    /// In a bucket taking a lock keeps nobody out and writes nothing: it finds which of the folder's eras counts.
    fn lock(&self, path: &Path) -> Result<Option<Box<dyn DiskLock>>> {
        if self.0.objects().is_some() {
            self.0.lock(path)?;
        }
        Ok(Some(Box::new(NoLock)))
    }
}

impl Objects for Looking {
    fn put(&self, _: &Path, _: &[&[u8]]) -> Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Nowhere(u64);

impl DiskFile for Nowhere {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.0 += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }

    fn len(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct NoLock;

impl DiskLock for NoLock {}
