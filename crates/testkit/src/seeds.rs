//! Runs that are drawn by a seed: faults, partitions, and where the machine stops.

use std::ops::Range;

use millstream_core::ExchangeData;
use millstream_streaming::DStream;

use crate::batches::Batches;
use crate::check::Check;
use crate::crash::{run_one_by_one, steps_one_by_one};
use crate::sim_disk::{Fault, SimDisk};
use crate::table::Table;

/// Runs a durable program once for each seed, on a disk that fails `faults` times in ways that the seed draws, and compares what its
/// batches give with what they give when nothing goes wrong.
///
/// A seed also says over how many partitions the program runs, what is left of a write that a crash has torn, and behind which batches
/// the machine stops. The program runs on one thread, one batch at a time, and saves states before their batch ends: run again with the
/// same seed, the same happens, to the last operation of the disk. [`check_faults`](crate::check_faults) goes through single faults, one by
/// one; this is for those that only hurt together. For batches that overlap there is [`Lives::hurried`](crate::Lives::hurried), which no
/// seed makes the same again.
///
/// Returns how many faults really happened. A program that ends early misses some.
///
/// # Example
///
/// ```
/// use millstream_testkit::{batches, check_seeds};
///
/// let faults = check_seeds(0..20, 5, &batches![[("a", 1)], [("b", 2), ("a", 3)], [("b", 1)]], |pairs| {
///     pairs.update_state_by_key(|new, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i32>()))
/// });
/// assert!(faults > 50);
/// ```
///
/// # Panics
///
/// If a run gives something else, or cannot go on; with the seed, and what the disk was asked for.
#[track_caller]
pub fn check_seeds<T: ExchangeData, U: ExchangeData>(
    seeds: Range<u64>,
    faults: usize,
    batches: &Batches<T>,
    program: impl Fn(DStream<T>) -> DStream<U>,
) -> usize {
    let (want, steps) = steps_one_by_one(Check::new(1, 1), batches, &program);
    seeds.map(|seed| one_seed(seed, faults, steps, &want, batches, &program).fired().len()).sum()
}

/// The run of one seed. Returns the disk behind it.
#[track_caller]
fn one_seed<T: ExchangeData, U: ExchangeData>(
    seed: u64,
    faults: usize,
    steps: u64,
    want: &Table,
    batches: &Batches<T>,
    program: &dyn Fn(DStream<T>) -> DStream<U>,
) -> SimDisk {
    let mut draw = Draw(seed);
    let disk = SimDisk::new(seed);
    let mut at = 0;
    for _ in 0..faults {
        // Each on its way behind the one before: a start asks for a few operations, and then for those of its batches.
        at += 1 + draw.below(1 + 2 * steps / (faults as u64 + 1));
        disk.fail_at(at, Fault::ALL[draw.below(Fault::ALL.len() as u64) as usize]);
    }
    let how = Check::new(1 + draw.below(3) as usize, 1);
    let rows = batches.rows.len() as u64;
    let batches =
        (0..draw.below(3)).fold(batches.clone(), |batches, _| batches.crash_behind(draw.below(rows + 1) as usize));
    match run_one_by_one(how, &disk, &batches, program) {
        Ok(survived) => {
            let got = survived.table;
            assert!(got == *want, "seed {seed}: expected\n{want}\n\nbut got\n{got}\n{}", disk.trace());
        }
        Err(error) => panic!("seed {seed}: {error}"),
    }
    disk
}

/// Numbers that follow from a seed (SplitMix64).
struct Draw(u64);

impl Draw {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (x ^ (x >> 31)) % end.max(1)
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::secs;

    use super::*;
    use crate::batches;

    #[test]
    fn the_same_seed_asks_the_disk_for_the_same_operations_to_the_last_byte() {
        let batches = batches![[("a", 1)], [("b", 2), ("a", 3)], [], [("b", 1)], [("a", 1)]];
        let program = |pairs: DStream<(millstream_core::Text, i32)>| {
            let sum = |new: Vec<i32>, old: Option<i32>| Some(old.unwrap_or(0) + new.iter().sum::<i32>());
            pairs.update_state_by_key(sum).checkpoint(secs(2))
        };
        let (want, steps) = steps_one_by_one(Check::new(1, 1), &batches, &program);
        let mut traces = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let [one, two] = [(), ()].map(|()| one_seed(seed, 5, steps, &want, &batches, &program).trace());
            assert!(one == two, "seed {seed}\n{one}\n\n{two}");
            traces.insert(one);
        }
        assert!(traces.len() > 30, "and other seeds for others");
    }

    #[test]
    fn a_program_that_gives_something_else_behind_a_crash_is_found_with_its_seed() {
        use std::sync::atomic::{AtomicI32, Ordering};
        let (runs, batches) = (AtomicI32::new(0), batches![[1], [2], [3]]);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            check_seeds(0..50, 3, &batches, |numbers| {
                // What is made at a start and not kept.
                let start = runs.fetch_add(1, Ordering::SeqCst);
                numbers.map(move |n| n + start.min(1))
            })
        }));
        let text = *caught.expect_err("it was found").downcast::<String>().expect("a text");
        assert!(text.contains("seed "), "{text}");
    }
}
