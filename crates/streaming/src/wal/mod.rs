//! Logs that are durable before they answer: what was appended is there after a crash, whole and in order.
//!
//! [`SegmentLog`] keeps a log in files of a folder; [`GroupCommit`] lets many threads share one. What is in the files,
//! field by field, is in `docs/specs/log.md`.

mod file;
mod group;
mod segment;
pub(crate) mod vanished;

use std::fmt::Debug;

use millstream_core::{Result, Time};
use serde::{Deserialize, Serialize};

pub(crate) use self::file::read_record;
pub use self::file::{LogConf, SegmentLog};
pub use self::group::GroupCommit;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::segment::made_segment;

/// Where a record of a log is. It stays true as long as the record is in the log, and can be stored.
///
/// # Spark
///
/// `WriteAheadLogRecordHandle`, R-30.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordHandle {
    /// The number of the segment.
    pub segment: u64,
    /// Where the record's frame begins in it.
    pub offset: u64,
    /// The length of the record.
    pub len: u32,
}

/// A log. What it has acknowledged is durable; a torn tail is cut, a torn middle is an error.
///
/// A log of one's own implements this (Spark's keys `spark.streaming.receiver.writeAheadLog.class` and
/// `driver.writeAheadLog.class`).
///
/// # Errors
///
/// The kind is `Unavailable` if the disk did not do what it was asked: after that the log is *poisoned*, and acknowledges
/// nothing until it is opened again. It is `Data`, with file and offset, if what was acknowledged is not there any more.
///
/// # Spark
///
/// `WriteAheadLog`, R-30 to.
pub trait WriteAheadLog: Debug + Send {
    /// Appends a record under a time. It is durable on return.
    ///
    /// *Cost*: a wait for the disk; [`append_all`](WriteAheadLog::append_all) and [`GroupCommit`] share it.
    fn append(&mut self, record: &[u8], at: Time) -> Result<RecordHandle> {
        let handles = self.append_all(&[(record, at)])?;
        handles.into_iter().next().ok_or_else(|| millstream_core::bug!("a log gave no handle for a record"))
    }

    /// Appends records, each under its time, with one wait for the disk. All are durable on return; after an error any
    /// prefix of them may be there when the log is opened again.
    fn append_all(&mut self, records: &[(&[u8], Time)]) -> Result<Vec<RecordHandle>>;

    /// Returns a record.
    fn read(&self, handle: &RecordHandle) -> Result<Vec<u8>>;

    /// Gives all records to `each`, in the order in which they were appended, once each. It ends with the first error,
    /// also one of `each`.
    fn replay(&mut self, each: &mut dyn FnMut(Time, RecordHandle, &[u8]) -> Result<()>) -> Result<()>;

    /// Forgets what is older than `t`, as far as that is cheap: a record that is not older is never forgotten, one that is
    /// older may stay for a while.
    fn forget_before(&mut self, t: Time) -> Result<()>;

    /// Closes the files. There is nothing to save: what was acknowledged is durable. Nothing can be appended afterwards.
    fn close(&mut self) -> Result<()>;
}
