//! Checkpoint files: a ledger each, whole or not there.
//!
//! ```text
//! checkpoint-<20 digits>   the number of the first record of the log that is not in it
//!   "msckpt" version:u16   little endian
//!   length:u64             of the body
//!   body                   the ledger, in the codec
//!   crc:u32                of everything before it
//! ```

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use millstream_core::disk::{Disk, write_durably};
use millstream_core::mutants::{Mutant, planted};
use millstream_core::{Error, ErrorKind, Result, codec};

use super::ledger::Ledger;

const MAGIC: &[u8; 6] = b"msckpt";

/// The version of the form. Files of every version that there ever was are read.
const VERSION: u16 = 5;

pub(super) const PREFIX: &str = "checkpoint-";

/// How many files are kept: the newest, and one to fall back upon.
const KEPT: usize = 2;

/// A checkpoint file that was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// The number of the first record that is not in it.
    pub(crate) next: u64,
    pub(crate) ledger: Ledger,
}

/// The checkpoint files of a folder.
#[derive(Debug)]
pub(crate) struct Snapshots {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    /// Those that could not be read: nobody can fall back upon them.
    unreadable: BTreeSet<u64>,
}

impl Snapshots {
    pub(crate) fn new(disk: Arc<dyn Disk>, folder: &Path) -> Snapshots {
        Snapshots { disk, folder: folder.to_owned(), unreadable: BTreeSet::new() }
    }

    fn path(&self, next: u64) -> PathBuf {
        self.folder.join(format!("{PREFIX}{next:020}"))
    }

    /// Returns the numbers of the files that are there, oldest first.
    pub(super) fn numbers(&self) -> Result<Vec<u64>> {
        let names = self.disk.list(&self.folder)?;
        let mut numbers: Vec<u64> =
            names.iter().filter_map(|name| name.strip_prefix(PREFIX)).filter_map(|n| n.parse().ok()).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// Returns the newest file that can be read; nothing if there is none at all.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: there are files, and none can be read.
    pub(crate) fn newest(&mut self) -> Result<Option<Snapshot>> {
        let mut first = None;
        for number in self.numbers()?.into_iter().rev() {
            let path = self.path(number);
            match self.disk.read(&path).and_then(|bytes| decode(&bytes, &path)) {
                Ok(ledger) => return Ok(Some(Snapshot { next: number, ledger })),
                // Whoever goes on there has written newer ones, and says so in the list.
                Err(error) if !self.disk.exists(&path)? => drop(first.get_or_insert(error)),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "a checkpoint file cannot be read; the one before is looked at");
                    self.unreadable.insert(number);
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(None), Err)
    }

    /// Writes a ledger, and lets go of the oldest files; those that could not be read do not count among the newest. Returns
    /// the first record that the files that are left do not have.
    pub(crate) fn write(&mut self, next: u64, ledger: &Ledger) -> Result<u64> {
        if planted(Mutant::CheckpointInPlace) {
            let mut file = self.disk.create(&self.path(next))?;
            file.append(&encode(ledger)?)?;
            file.sync()?;
            self.disk.sync_folder(&self.folder)?;
        } else {
            write_durably(&*self.disk, &self.path(next), &encode(ledger)?)?;
        }
        self.unreadable.remove(&next);
        let numbers = self.numbers()?;
        let whole = numbers.iter().rev().filter(|number| !self.unreadable.contains(number));
        let oldest = whole.take(KEPT).last().copied().unwrap_or(next);
        for number in numbers.into_iter().take_while(|number| *number < oldest) {
            self.disk.remove_file(&self.path(number))?;
            self.unreadable.remove(&number);
        }
        Ok(oldest)
    }
}

pub(super) fn encode(ledger: &Ledger) -> Result<Vec<u8>> {
    let body = codec::encode(ledger)?;
    let mut bytes = Vec::with_capacity(body.len() + 20);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&body);
    let crc = crc32fast::hash(&bytes);
    bytes.extend_from_slice(&crc.to_le_bytes());
    Ok(bytes)
}

pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<Ledger> {
    let damaged = |what: &str| {
        let text = format!(
            "checkpoint file {} {what}; restore it, or remove it to fall back on the one before",
            path.display()
        );
        Error::new(ErrorKind::Data, text)
    };
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| damaged("does not begin as one does"))?;
    let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(|| damaged("is cut off"))?;
    let version = u16::from_le_bytes(*version);
    if version == 0 || version > VERSION {
        return Err(damaged(&format!("has the version {version}, which this build does not know")));
    }
    let (length, rest) = rest.split_first_chunk::<8>().ok_or_else(|| damaged("is cut off"))?;
    let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| damaged("is longer than memory"))?;
    let (body, crc) = rest.split_at_checked(length).ok_or_else(|| damaged("is cut off"))?;
    let covered = bytes.len().saturating_sub(4);
    if crc.len() != 4 || crc32fast::hash(&bytes[..covered]).to_le_bytes() != *crc {
        return Err(damaged("is damaged: its checksum is another"));
    }
    // Version 1 ends before what outputs have prepared, version 2 before forms and digests, version 3 before times that have no
    // batch, and version 4 before what was committed last and the names of runs: there were none, or none were noted.
    let missing: &[u8] = match version {
        1 => &[0; 7],
        2 => &[0; 6],
        3 => &[0; 3],
        4 => &[0; 2],
        _ => &[],
    };
    let older = (!missing.is_empty()).then(|| [body, missing].concat());
    codec::decode(older.as_deref().unwrap_or(body)).map_err(|error| damaged(&format!("is damaged: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::disk::RealDisk;

    fn of_epoch(epoch: u64) -> Ledger {
        Ledger { epoch, app_id: "app".into(), ..Ledger::default() }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_none_of_the_two_that_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Snapshots::new(Arc::new(RealDisk), folder.path());
        let spoil = |number: u64| std::fs::write(open().path(number), b"msckpt, it was").unwrap();
        let mut files = open();
        assert_eq!(files.write(3, &of_epoch(3)).unwrap(), 3);
        assert_eq!(files.write(6, &of_epoch(6)).unwrap(), 3);
        assert_eq!(files.write(9, &of_epoch(9)).unwrap(), 6);
        spoil(9);

        let mut files = open();
        assert_eq!(files.newest().unwrap().unwrap().next, 6);
        assert_eq!(files.write(12, &of_epoch(12)).unwrap(), 6, "the log is kept for the file to fall back upon");
        assert_eq!(files.numbers().unwrap(), [6, 9, 12]);
        spoil(12);

        let mut files = open();
        assert_eq!(files.newest().unwrap().unwrap().next, 6);
        assert_eq!(files.write(12, &of_epoch(12)).unwrap(), 6, "what is written anew can be read");
        assert_eq!(files.write(15, &of_epoch(15)).unwrap(), 12);
        assert_eq!(files.numbers().unwrap(), [12, 15]);
    }

    #[test]
    fn files_of_the_first_versions_are_read() {
        let ledger = Ledger { epoch: 7, app_id: "app".into(), ..Ledger::default() };
        // Without the fields that came later, which stand last, and are empty lists here.
        for (version, fields) in [(1u16, 7), (2, 6), (3, 3), (4, 2)] {
            let mut bytes = encode(&ledger).unwrap();
            bytes.truncate(bytes.len() - 4 - fields);
            bytes[6..8].copy_from_slice(&version.to_le_bytes());
            let length = bytes.len() as u64 - 16;
            bytes[8..16].copy_from_slice(&length.to_le_bytes());
            bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
            assert_eq!(decode(&bytes, Path::new("checkpoint-1")).unwrap(), ledger, "version {version}");
        }
    }

    #[test]
    fn a_file_that_was_changed_anywhere_is_refused_and_named() {
        let ledger = Ledger { epoch: 7, app_id: "app".into(), ..Ledger::default() };
        let bytes = encode(&ledger).unwrap();
        let path = Path::new("checkpoint-1");
        assert_eq!(decode(&bytes, path).unwrap(), ledger);
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 0x10;
            let error = decode(&other, path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Data);
            assert!(error.to_string().contains("checkpoint-1"), "{error}");
        }
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length], path).is_err());
        }
        assert!(decode(&[bytes.clone(), vec![0]].concat(), path).is_err());
    }
}
