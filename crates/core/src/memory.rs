//! One budget for the memory of an engine: who holds how much, and who may have more. Pure accounting.

use std::sync::atomic::{AtomicU64, Ordering};

/// Who holds memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holder {
    /// Tasks that run: tables, rows to be sorted, what is to be written to a shuffle.
    Tasks,
    /// Outputs of shuffles, until no lineage names them.
    Shuffles,
    /// Kept partitions and received blocks.
    Blocks,
}

/// How much memory an engine may hold, and how much it holds.
///
/// Sizes are estimates, made a chunk at a time. The budget moves nothing itself: who is refused writes to disk what it
/// has, and who is told to make room gives up what it can.
///
/// - A task may have its share: the budget divided by the number of borrowers in tasks and one. Half of its share it gets in any
///   case, so that every task comes forward.
/// - Shuffle outputs go to disk, oldest first, when the budget is passed.
/// - Kept blocks are given up for tasks and shuffles down to [`kept`](MemoryBudget::kept), and for each other beyond.
///
/// # Spark
///
/// The unified memory manager; `kept` is `spark.memory.storageFraction` of it.
#[derive(Debug)]
pub struct MemoryBudget {
    limit: u64,
    kept: u64,
    held: [AtomicU64; 3],
    borrowers: AtomicU64,
}

/// The answer to a task that wants more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It has it now.
    Granted,
    /// So many bytes are missing; somebody else may give them up.
    Short(u64),
    /// It has its share.
    Refused,
}

impl MemoryBudget {
    /// Makes a budget of `limit` bytes, of which blocks may keep the fraction `kept` whoever wants it.
    pub fn new(limit: u64, kept: f64) -> MemoryBudget {
        let kept = (limit as f64 * kept.clamp(0.0, 1.0)) as u64;
        MemoryBudget { limit, kept, held: Default::default(), borrowers: AtomicU64::new(0) }
    }

    /// Returns the number of bytes that may be held.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Returns how many bytes blocks may keep whoever wants them.
    pub fn kept(&self) -> u64 {
        self.kept
    }

    /// Returns how many bytes `holder` holds.
    pub fn held(&self, holder: Holder) -> u64 {
        self.held[holder as usize].load(Ordering::Relaxed)
    }

    /// Returns how many bytes are held.
    pub fn used(&self) -> u64 {
        [Holder::Tasks, Holder::Shuffles, Holder::Blocks].into_iter().map(|holder| self.held(holder)).sum()
    }

    /// Returns by how much the budget is passed.
    pub fn excess(&self) -> u64 {
        self.used().saturating_sub(self.limit)
    }

    /// Says whether a block of `size` bytes may be kept.
    pub(crate) fn fits_block(&self, size: u64) -> bool {
        self.held(Holder::Blocks) + size <= self.kept || self.used() + size <= self.limit
    }

    pub(crate) fn add(&self, holder: Holder, bytes: u64) {
        self.held[holder as usize].fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn sub(&self, holder: Holder, bytes: u64) {
        self.held[holder as usize].fetch_sub(bytes, Ordering::Relaxed);
    }

    pub(crate) fn enter(&self) {
        self.borrowers.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn leave(&self, held: u64) {
        self.borrowers.fetch_sub(1, Ordering::Relaxed);
        self.sub(Holder::Tasks, held);
    }

    /// Asks for `more` bytes for a borrower in a task that holds `held`.
    ///
    /// Two that ask at the same moment may both be granted what is there for one: the budget is an estimate.
    pub(crate) fn ask(&self, held: u64, more: u64) -> Answer {
        let share = self.share();
        if held + more > share {
            return Answer::Refused;
        }
        match (self.used() + more).saturating_sub(self.limit) {
            0 => {
                self.add(Holder::Tasks, more);
                Answer::Granted
            }
            short => Answer::Short(short),
        }
    }

    /// As [`ask`](Self::ask), when nobody gives up anything any more: half of the share is granted.
    pub(crate) fn insist(&self, held: u64, more: u64) -> bool {
        let share = self.share();
        let granted = held + more <= share / 2;
        if granted {
            self.add(Holder::Tasks, more);
        }
        granted
    }

    /// Returns what a borrower may have: a part is left over for one who comes next.
    fn share(&self) -> u64 {
        self.limit / (self.borrowers.load(Ordering::Relaxed) + 1)
    }

    /// Returns how large a piece is that is written to disk or read back at once: small enough for many to be open.
    pub(crate) fn piece(&self) -> usize {
        (self.limit / 1024).clamp(1 << 10, 256 << 10) as usize
    }
}

/// Returns how much memory this machine has, or the part of it that this process may use; 4 GiB if nobody says.
pub(crate) fn machine() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).ok();
    let total = read("/proc/meminfo").and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
    });
    let group = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]
        .into_iter()
        .find_map(|path| read(path)?.trim().parse::<u64>().ok());
    total.into_iter().chain(group).min().unwrap_or(4 << 30)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_borrower_may_have_its_share_of_what_is_free() {
        let budget = MemoryBudget::new(1000, 0.5);
        budget.enter();
        assert_eq!(budget.ask(0, 400), Answer::Granted);
        assert_eq!(budget.ask(400, 101), Answer::Refused, "one is left half for the next");
        budget.add(Holder::Shuffles, 500);
        budget.enter();
        assert_eq!(budget.ask(0, 334), Answer::Refused, "more than a third, with two");
        assert_eq!(budget.ask(0, 300), Answer::Short(200));
        budget.leave(400);
        assert_eq!(budget.ask(0, 300), Answer::Granted);
        assert_eq!((budget.used(), budget.held(Holder::Tasks)), (800, 300));
    }

    #[test]
    fn half_of_its_share_a_borrower_gets_in_any_case() {
        let budget = MemoryBudget::new(1000, 0.5);
        budget.add(Holder::Shuffles, 1000);
        budget.enter();
        assert_eq!(budget.ask(0, 400), Answer::Short(400));
        assert!(budget.insist(0, 250) && !budget.insist(250, 1));
        assert_eq!((budget.used(), budget.excess()), (1250, 250));
    }

    #[test]
    fn blocks_keep_their_part_and_may_take_what_is_free() {
        let budget = MemoryBudget::new(1000, 0.5);
        assert!(budget.fits_block(1000) && !budget.fits_block(1001));
        budget.add(Holder::Tasks, 900);
        assert!(budget.fits_block(500) && !budget.fits_block(501));
        budget.add(Holder::Blocks, 500);
        assert!(!budget.fits_block(1));
    }

    #[test]
    fn the_machine_has_memory() {
        assert!(machine() > 1 << 20);
    }
}
