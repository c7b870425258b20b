//! What a task counts, when somebody listens.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::events::TaskMetrics;
use crate::storage::Block;

/// What one attempt at a task has read and written so far.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    records_read: AtomicU64,
    fetched: Blocks,
    written: Blocks,
    spilled: AtomicU64,
}

/// Elements and bytes of blocks.
#[derive(Debug, Default)]
struct Blocks {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Blocks {
    fn add(&self, block: &Block) {
        let bytes = match block {
            Block::File(file) => file.disk(),
            block => block.size() as u64,
        };
        self.records.fetch_add(block.items().unwrap_or(0) as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Tally {
    /// Notes elements that came from a source.
    pub(crate) fn read(&self, records: usize) {
        self.records_read.fetch_add(records as u64, Ordering::Relaxed);
    }

    /// Notes a block of a shuffle that was read.
    pub(crate) fn fetched(&self, block: &Block) {
        self.fetched.add(block);
    }

    /// Notes what the task writes to a shuffle.
    pub(crate) fn wrote(&self, blocks: &[Block]) {
        blocks.iter().for_each(|block| self.written.add(block));
    }

    /// Notes bytes that went to disk.
    pub(crate) fn spilled(&self, bytes: u64) {
        self.spilled.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Returns the sums, of a task that ran so long.
    pub(crate) fn metrics(&self, run_time: Duration) -> TaskMetrics {
        let sum = |of: &AtomicU64| of.load(Ordering::Relaxed);
        TaskMetrics {
            run_time,
            records_read: sum(&self.records_read),
            shuffle_records_read: sum(&self.fetched.records),
            shuffle_bytes_read: sum(&self.fetched.bytes),
            shuffle_records_written: sum(&self.written.records),
            shuffle_bytes_written: sum(&self.written.bytes),
            disk_bytes_spilled: sum(&self.spilled),
        }
    }
}
