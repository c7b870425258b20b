//! A log in the segments of a folder.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::disk::Disk;
use millstream_core::{Error, ErrorKind, Result, Time, secs};

use super::{RecordHandle, WriteAheadLog};

/// How a log is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConf {
    /// A new segment is begun when a record's time is this much after that of the segment's first; 60 s. K-13, K-18.
    pub rolling_interval: Duration,
    /// A new segment is begun when one has so many bytes; 64 MiB.
    pub segment_bytes: u64,
    /// Each write is a segment of its own, for stores that cannot flush; off. K-15, K-20.
    pub close_file_after_write: bool,
    /// How often a write is tried, each time in a new segment; 3. K-14, K-19.
    pub max_failures: u32,
}

impl Default for LogConf {
    fn default() -> LogConf {
        LogConf { rolling_interval: secs(60), segment_bytes: 64 << 20, close_file_after_write: false, max_failures: 3 }
    }
}

/// A log in the segments of a folder.
#[derive(Debug)]
pub struct SegmentLog {
    disk: Arc<dyn Disk>,
    folder: PathBuf,
    conf: LogConf,
}

impl SegmentLog {
    /// Opens the log in a folder. Nothing is made before the first write.
    ///
    /// # Errors
    ///
    /// The kind is `Data` if the log is damaged, `Unavailable` if it cannot be read.
    pub fn open(disk: Arc<dyn Disk>, folder: impl Into<PathBuf>, conf: LogConf) -> Result<SegmentLog> {
        Ok(SegmentLog { disk, folder: folder.into(), conf })
    }
}

fn soon() -> Error {
    Error::new(ErrorKind::Internal, "the log is being built")
}

impl WriteAheadLog for SegmentLog {
    fn append_all(&mut self, _records: &[(&[u8], Time)]) -> Result<Vec<RecordHandle>> {
        let _ = (&self.disk, &self.folder, &self.conf);
        Err(soon())
    }

    fn read(&self, _handle: &RecordHandle) -> Result<Vec<u8>> {
        Err(soon())
    }

    fn replay(&mut self, _each: &mut dyn FnMut(Time, RecordHandle, &[u8]) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn forget_before(&mut self, _t: Time) -> Result<()> {
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        Ok(())
    }
}
