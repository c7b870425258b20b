//! Where and in which form blocks are kept.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// Where and in which form a persisted partition or a received block is kept.
///
/// `_SER` levels keep bytes: smaller, and slower to read. `_2` levels ask for a second copy on another machine; on
/// one machine there is none to ask, and the level acts as the plain one.
///
/// # Example
///
/// ```
/// use millstream_core::StorageLevel;
///
/// let level: StorageLevel = "MEMORY_AND_DISK_SER_2".parse().unwrap();
/// assert!(level.use_disk() && !level.deserialized());
/// assert_eq!(level.replication(), 2);
/// ```
///
/// # Spark
///
/// `StorageLevel`, SV03.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct StorageLevel {
    disk: bool,
    memory: bool,
    off_heap: bool,
    deserialized: bool,
    replication: u8,
}

macro_rules! levels {
    ($($name:ident = $disk:literal $memory:literal $off_heap:literal $live:literal $copies:literal, $doc:literal;)*) => {
        impl StorageLevel {
            $(#[doc = $doc] pub const $name: StorageLevel =
                StorageLevel { disk: $disk, memory: $memory, off_heap: $off_heap, deserialized: $live, replication: $copies };)*

            const NAMES: &'static [(&'static str, StorageLevel)] = &[$((stringify!($name), StorageLevel::$name)),*];
        }
    };
}

levels! {
    NONE = false false false false 1, "Keeps nothing.";
    DISK_ONLY = true false false false 1, "Keeps bytes on disk.";
    DISK_ONLY_2 = true false false false 2, "Keeps bytes on the disks of two machines.";
    DISK_ONLY_3 = true false false false 3, "Keeps bytes on the disks of three machines.";
    MEMORY_ONLY = false true false true 1, "Keeps values in memory; what does not fit is computed again.";
    MEMORY_ONLY_2 = false true false true 2, "As `MEMORY_ONLY`, on two machines.";
    MEMORY_ONLY_SER = false true false false 1, "Keeps bytes in memory; what does not fit is computed again.";
    MEMORY_ONLY_SER_2 = false true false false 2, "As `MEMORY_ONLY_SER`, on two machines.";
    MEMORY_AND_DISK = true true false true 1, "Keeps values in memory, and what does not fit as bytes on disk.";
    MEMORY_AND_DISK_2 = true true false true 2, "As `MEMORY_AND_DISK`, on two machines.";
    MEMORY_AND_DISK_SER = true true false false 1, "Keeps bytes in memory, and what does not fit on disk.";
    MEMORY_AND_DISK_SER_2 = true true false false 2, "As `MEMORY_AND_DISK_SER`, on two machines.";
    OFF_HEAP = true true true false 1, "Keeps bytes in memory and on disk. There is no other heap here than the one.";
}

impl StorageLevel {
    /// Says whether nothing is kept.
    pub fn is_none(&self) -> bool {
        !self.disk && !self.memory
    }

    /// Says whether blocks may be on disk.
    pub fn use_disk(&self) -> bool {
        self.disk
    }

    /// Says whether blocks may be in memory.
    pub fn use_memory(&self) -> bool {
        self.memory
    }

    /// Says whether blocks in memory are values and not bytes.
    pub fn deserialized(&self) -> bool {
        self.deserialized
    }

    /// Returns on how many machines a copy is wanted.
    pub fn replication(&self) -> u8 {
        self.replication
    }

    /// Returns the level without further copies.
    #[must_use]
    pub fn on_one_machine(self) -> StorageLevel {
        StorageLevel { replication: 1, ..self }
    }

    /// Says whether elements must be able to travel to be kept so.
    pub fn needs_bytes(&self) -> bool {
        self.disk || (self.memory && !self.deserialized) || self.replication > 1
    }
}

impl fmt::Display for StorageLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match StorageLevel::NAMES.iter().find(|(_, level)| level == self) {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "{self:?}"),
        }
    }
}

impl FromStr for StorageLevel {
    type Err = Error;

    fn from_str(text: &str) -> Result<StorageLevel> {
        StorageLevel::NAMES.iter().find(|(name, _)| *name == text).map(|(_, level)| *level).ok_or_else(|| {
            let names: Vec<_> = StorageLevel::NAMES.iter().map(|(name, _)| *name).collect();
            Error::new(ErrorKind::Config, format!("`{text}` is no storage level; there are {}", names.join(", ")))
        })
    }
}
