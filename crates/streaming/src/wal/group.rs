//! Many threads append, and one wait for the disk serves all who came meanwhile.
//!
//! There is no thread for it and no timer: whoever finds that nobody is writing leads, and writes for all that wait. While it
//! waits for the disk, the next group gathers. So a lone writer waits for nobody, and many share.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, Time};

use super::file::too_long;
use super::segment::MAX_RECORD;
use super::{RecordHandle, WriteAheadLog};

/// A group takes no more bytes than this, unless its first record alone is longer.
const GROUP_BYTES: usize = 1 << 20;

/// A buffer of more bytes is not kept for the next record.
const SPARE_BYTES: usize = 64 << 20;

/// A log that many threads append to, in groups.
///
/// A group has what waited when it began, up to 1 MB. If it fails, all in it fail, and nothing is appended any more.
///
/// # Spark
///
/// `BatchedWriteAheadLog`, R-35 and `spark.streaming.driver.writeAheadLog.allowBatching` (K-21). Records keep their own
/// times and can be read by handle here. There is no time-out (K-22): who asked is told what became of it.
#[derive(Debug)]
pub struct GroupCommit {
    log: Mutex<Box<dyn WriteAheadLog>>,
    queue: Mutex<Queue>,
    turned: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<(Vec<u8>, Time)>,
    /// The tickets of those who wait: the first of `waiting`, and the next to be given.
    first: u64,
    next: u64,
    /// Results that have not been fetched yet, by ticket.
    done: VecDeque<(u64, Result<RecordHandle>)>,
    led: bool,
    failed: Option<Error>,
    /// A buffer that a record was in.
    spare: Vec<u8>,
}

impl GroupCommit {
    /// Makes one over a log.
    pub fn new(log: Box<dyn WriteAheadLog>) -> GroupCommit {
        GroupCommit { log: Mutex::new(log), queue: Mutex::default(), turned: Condvar::new() }
    }

    /// Returns an empty buffer to write a record into; if it can be, one that a record was in before, as new memory for each long
    /// record costs more than to write it.
    pub fn buffer(&self) -> Vec<u8> {
        std::mem::take(&mut lock(&self.queue).spare)
    }

    /// Appends a record under a time, together with what other threads append. It is durable on return.
    ///
    /// Records of one thread are in the log in its order.
    ///
    /// # Errors
    ///
    /// As [`WriteAheadLog`]: the kind is `Unavailable`, also for all later records. It is `Config` for a record that is too
    /// long for any log, which spoils nothing.
    pub fn append(&self, record: Vec<u8>, at: Time) -> Result<RecordHandle> {
        if record.len() > MAX_RECORD {
            return Err(too_long(&record));
        }
        let mut queue = lock(&self.queue);
        if let Some(error) = &queue.failed {
            return Err(error.clone());
        }
        let ticket = queue.next;
        queue.next += 1;
        queue.waiting.push_back((record, at));
        loop {
            if let Some(place) = queue.done.iter().position(|(of, _)| *of == ticket) {
                let taken = queue.done.remove(place);
                return taken.map_or_else(|| Err(millstream_core::bug!("a result of the log is gone")), |(_, r)| r);
            }
            if queue.led {
                queue = self.turned.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.led = true;
            let group = queue.take_group();
            let first = queue.first;
            queue.first += group.len() as u64;
            drop(queue);
            let mut lead = Lead { of: self, first, count: group.len(), result: None };
            let records: Vec<(&[u8], Time)> = group.iter().map(|(record, at)| (&record[..], *at)).collect();
            lead.result = Some(lock(&self.log).append_all(&records));
            drop(lead);
            let longest = group.into_iter().map(|(record, _)| record).max_by_key(Vec::capacity);
            queue = lock(&self.queue);
            queue.keep(longest);
        }
    }

    /// Does something else with the log, between two groups: reads, replays, forgets, closes.
    pub fn with<R>(&self, body: impl FnOnce(&mut dyn WriteAheadLog) -> R) -> R {
        body(&mut **lock(&self.log))
    }
}

impl Queue {
    fn take_group(&mut self) -> Vec<(Vec<u8>, Time)> {
        let mut bytes = 0;
        let fits = |(record, _): &&(Vec<u8>, Time)| {
            bytes += record.len();
            bytes <= GROUP_BYTES
        };
        let count = self.waiting.iter().take_while(fits).count().max(1).min(self.waiting.len());
        self.waiting.drain(..count).collect()
    }

    /// Keeps a buffer for the next record, unless there is one as good.
    fn keep(&mut self, buffer: Option<Vec<u8>>) {
        let better = self.spare.capacity() + 1..=SPARE_BYTES;
        if let Some(mut buffer) = buffer.filter(|buffer| better.contains(&buffer.capacity())) {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// Gives results to the `count` tickets from `first`, and to all who wait if it failed.
    fn finish(&mut self, first: u64, count: usize, result: Result<Vec<RecordHandle>>) {
        self.led = false;
        let tickets = first..first + count as u64;
        match result {
            Ok(handles) => self.done.extend(tickets.zip(handles.into_iter().map(Ok))),
            Err(error) => {
                self.waiting.clear();
                self.done.extend((first..self.next).map(|ticket| (ticket, Err(error.clone()))));
                self.first = self.next;
                let text = format!("the log acknowledges nothing more until it is opened again: {error}");
                let closed = error.kind() == ErrorKind::Stopped;
                self.failed = Some(if closed { error } else { Error::new(error.kind(), text) });
            }
        }
    }
}

/// Whoever writes for all. If the log panics, all are told.
struct Lead<'a> {
    of: &'a GroupCommit,
    first: u64,
    count: usize,
    result: Option<Result<Vec<RecordHandle>>>,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let result = match self.result.take() {
            Some(Ok(handles)) if handles.len() != self.count => {
                Err(millstream_core::bug!("a log gave {} handles for {} records", handles.len(), self.count))
            }
            Some(result) => result,
            None => Err(Error::new(ErrorKind::Internal, "the log panicked while it wrote")),
        };
        lock(&self.of.queue).finish(self.first, self.count, result);
        self.of.turned.notify_all();
    }
}

#[cfg(test)]
mod tests;
