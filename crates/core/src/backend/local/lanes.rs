//! Who is next: tasks wait in lanes, and threads take from the lane whose turn it is. Pure.
//!
//! First in, first out is one lane. With fair shares each pool has a lane of its own.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::conf::PoolShare;

/// Tasks that wait, and how many of each lane run.
pub(super) struct Lanes<T> {
    lanes: BTreeMap<Arc<str>, Lane<T>>,
    /// The shares of pools by name, if threads are shared fairly.
    shares: Option<BTreeMap<String, PoolShare>>,
    /// How many tasks have been taken so far.
    taken: u64,
}

struct Lane<T> {
    tasks: VecDeque<T>,
    running: usize,
    share: PoolShare,
    /// When a task was last taken from here.
    served: u64,
}

impl<T> Lanes<T> {
    pub(super) fn new(shares: Option<BTreeMap<String, PoolShare>>) -> Lanes<T> {
        Lanes { lanes: BTreeMap::new(), shares, taken: 0 }
    }

    /// Returns the lane of the jobs of a pool.
    pub(super) fn lane_of(&self, pool: Option<&str>) -> Arc<str> {
        Arc::from(if self.shares.is_some() { pool.unwrap_or("default") } else { "" })
    }

    pub(super) fn push(&mut self, lane: &Arc<str>, task: T) {
        if let Some(lane) = self.lanes.get_mut(lane) {
            lane.tasks.push_back(task);
            return;
        }
        let share = self.shares.as_ref().and_then(|shares| shares.get(&**lane)).copied().unwrap_or_default();
        let tasks = VecDeque::from([task]);
        self.lanes.insert(Arc::clone(lane), Lane { tasks, running: 0, share, served: 0 });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lanes.values().all(|lane| lane.tasks.is_empty())
    }

    /// Returns the lane whose turn it is: one that has less than its least share, then the one that has least for its
    /// weight; of equals the one that has waited longest.
    fn next(&self) -> Option<&Arc<str>> {
        let waiting = self.lanes.iter().filter(|(_, lane)| !lane.tasks.is_empty());
        let order = |lane: &Lane<T>| {
            let PoolShare { weight, min_share } = lane.share;
            let has_least = lane.running >= min_share;
            let of = if has_least { weight.max(1) } else { min_share };
            (has_least, lane.running as f64 / of as f64, lane.served)
        };
        let first = waiting.min_by(|(_, a), (_, b)| {
            let (a, b) = (order(a), order(b));
            a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2))
        });
        first.map(|(name, _)| name)
    }

    /// Takes the first task of the lane whose turn it is.
    pub(super) fn take(&mut self) -> Option<T> {
        let name = Arc::clone(self.next()?);
        self.take_at(&name, 0)
    }

    /// Says whether somebody may take a task out of turn from a lane, with `free` threads to be had: it is the lane's
    /// turn, or there are threads for all lanes.
    fn may_take(&self, lane: &Arc<str>, free: usize) -> bool {
        let waiting = self.lanes.values().filter(|lane| !lane.tasks.is_empty()).count();
        free > 0 && (free >= waiting || self.next() == Some(lane))
    }

    /// Finds a task in a lane, if one may be taken there.
    pub(super) fn find(&self, lane: &Arc<str>, free: usize, which: impl Fn(&T) -> bool) -> Option<usize> {
        let tasks = &self.lanes.get(lane)?.tasks;
        let at = tasks.iter().position(which)?;
        self.may_take(lane, free).then_some(at)
    }

    /// Takes a task that was found.
    pub(super) fn take_at(&mut self, lane: &Arc<str>, at: usize) -> Option<T> {
        let lane = self.lanes.get_mut(lane)?;
        let task = lane.tasks.remove(at)?;
        lane.running += 1;
        self.taken += 1;
        lane.served = self.taken;
        Some(task)
    }

    /// Takes note that a task of a lane has ended.
    pub(super) fn ended(&mut self, name: &Arc<str>) {
        if let Some(lane) = self.lanes.get_mut(name) {
            lane.running = lane.running.saturating_sub(1);
            // A lane of fair shares may have any name; nobody comes back to most.
            if lane.running == 0 && lane.tasks.is_empty() && self.shares.is_some() {
                self.lanes.remove(name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lanes(shares: &[(&str, u32, usize)], tasks: &str) -> Lanes<char> {
        let shares = shares.iter().map(|(name, weight, min_share)| {
            ((*name).to_owned(), PoolShare { weight: *weight as usize, min_share: *min_share })
        });
        let mut lanes = Lanes::new(Some(shares.collect()));
        for task in tasks.chars() {
            let lane = lanes.lane_of(Some(&task.to_lowercase().to_string()));
            lanes.push(&lane, task);
        }
        lanes
    }

    fn taken(lanes: &mut Lanes<char>, n: usize) -> String {
        (0..n).filter_map(|_| lanes.take()).collect()
    }

    #[test]
    fn first_in_first_out_is_one_lane() {
        let mut lanes = Lanes::new(None);
        for task in "abcab".chars() {
            let lane = lanes.lane_of(Some(&task.to_string()));
            lanes.push(&lane, task);
        }
        assert_eq!(taken(&mut lanes, 9), "abcab");
        assert!(lanes.is_empty());
    }

    #[test]
    fn cx20_pools_take_turns() {
        assert_eq!(taken(&mut lanes(&[], "aaaaaabbb"), 9), "abababaaa");
        let mut one_thread = lanes(&[], "aaabbb");
        let mut order = String::new();
        while let Some(task) = one_thread.take() {
            order.push(task);
            let lane = one_thread.lane_of(Some(&task.to_string()));
            one_thread.ended(&lane);
        }
        assert_eq!(order, "ababab", "also where each task ends before the next begins");
        assert!(one_thread.lanes.is_empty(), "nothing is left of a pool that has nothing to do");
    }

    #[test]
    fn cx20_a_pool_has_threads_by_its_weight_and_its_least_share_first() {
        assert_eq!(taken(&mut lanes(&[("b", 2, 0)], "aaaaaabbbbbb"), 6), "abbabb");
        assert_eq!(taken(&mut lanes(&[("b", 1, 3)], "aaaaaabbbbbb"), 6), "bbbaaa");
        let both = taken(&mut lanes(&[("a", 1, 1), ("b", 1, 2)], "aaaaaabbbbbb"), 3);
        assert_eq!(both, "abb", "each as much of its least share");
    }

    #[test]
    fn a_waiter_takes_of_its_own_job_when_it_is_its_turn_or_there_is_room_for_all() {
        let lanes = lanes(&[("b", 1, 1)], "ab");
        let (a, b) = (lanes.lane_of(Some("a")), lanes.lane_of(Some("b")));
        assert_eq!(lanes.find(&a, 1, |_| true), None);
        assert_eq!(lanes.find(&a, 2, |_| true), Some(0));
        assert_eq!(lanes.find(&b, 1, |_| true), Some(0));
        assert_eq!(lanes.find(&b, 0, |_| true), None);
        assert_eq!(lanes.find(&b, 1, |task| *task == 'x'), None);
    }
}
