//! About how many different elements there are, in little memory: HyperLogLog.

use super::Rdd;
use crate::data::Key;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::partitioner::key_hash;
use crate::plan::ship::capture2;

impl<T: Key> Rdd<T> {
    /// Returns about how many different elements there are, wrong by about `relative_sd` of it.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let numbers = context.parallelize((0..10_000u64).map(|x| x % 1000).collect(), 4);
    /// let about = numbers.count_approx_distinct(0.05)?;
    /// assert!((850..1150).contains(&about), "{about}");
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The kind is `Config` if `relative_sd` is not above 0.000017 and below 1; else whatever the job fails with.
    ///
    /// # Cost
    ///
    /// One pass; a task keeps about (1.05 ÷ `relative_sd`)² bytes, and nothing is shuffled.
    ///
    /// # Spark
    ///
    /// `RDD.countApproxDistinct`, RD44.
    #[track_caller]
    pub fn count_approx_distinct(&self, relative_sd: f64) -> Result<u64> {
        let site = CallSite::here("count_approx_distinct");
        let bits = bits(relative_sd).map_err(|e| e.at(site))?;
        let add = capture2(bits, |bits, registers: Vec<u8>, item: T| note(registers, *bits, key_hash(&item)));
        Ok(estimate(&CallSite::scope(Some(site), || self.aggregate(Vec::new(), add, join))?))
    }
}

impl<K: Key, V: Key> Rdd<(K, V)> {
    /// Returns about how many different values each key has, wrong by about `relative_sd` of it.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let pairs = context.parallelize((0..1000u64).map(|x| (x % 2, x % 20)).collect(), 4);
    /// assert_eq!(pairs.count_approx_distinct_by_key(0.05).collect()?.len(), 2);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A `relative_sd` that cannot be, as in [`count_approx_distinct`](Rdd::count_approx_distinct), is reported by the
    /// first action.
    ///
    /// # Cost
    ///
    /// One shuffle, of about (1.05 ÷ `relative_sd`)² bytes a key and partition.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.countApproxDistinctByKey`, PR23.
    #[track_caller]
    pub fn count_approx_distinct_by_key(&self, relative_sd: f64) -> Rdd<(K, u64)> {
        let site = CallSite::here("count_approx_distinct_by_key");
        let bits = match bits(relative_sd) {
            Ok(bits) => bits,
            Err(error) => return Rdd::failed(error.at(site), self.context()),
        };
        let add = capture2(bits, |bits, registers: Vec<u8>, value: V| note(registers, *bits, key_hash(&value)));
        CallSite::scope(Some(site), || {
            self.aggregate_by_key(Vec::new(), add, join).map_values(|registers| estimate(&registers))
        })
    }
}

/// How many bits of a hash choose the register.
fn bits(relative_sd: f64) -> Result<u32> {
    if !(relative_sd > 0.000_017 && relative_sd < 1.0) {
        let text = format!("the relative deviation must be above 0.000017 and below 1: {relative_sd}");
        return Err(Error::new(ErrorKind::Config, text));
    }
    Ok(((2.0 * (1.054 / relative_sd).log2()).ceil() as u32).clamp(4, 32))
}

/// Notes a hash: each register keeps the longest row of zeros that it has seen, and one.
fn note(mut registers: Vec<u8>, bits: u32, hash: u64) -> Vec<u8> {
    if registers.is_empty() {
        registers = vec![0; 1 << bits];
    }
    // The hash that places keys is spread once more: all keys of one partition share some of its bits.
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let hash = (hash ^ (hash >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let hash = hash ^ (hash >> 32);
    let register = &mut registers[(hash >> (64 - bits)) as usize];
    let zeros = (hash << bits).leading_zeros().min(64 - bits) as u8 + 1;
    *register = (*register).max(zeros);
    registers
}

fn join(a: Vec<u8>, b: Vec<u8>) -> Vec<u8> {
    match (a.is_empty(), b.is_empty()) {
        (true, _) => b,
        (_, true) => a,
        _ => a.iter().zip(&b).map(|(a, b)| *a.max(b)).collect(),
    }
}

fn estimate(registers: &[u8]) -> u64 {
    let m = registers.len() as f64;
    if registers.is_empty() {
        return 0;
    }
    let sum: f64 = registers.iter().map(|zeros| 2f64.powi(-i32::from(*zeros))).sum();
    let alpha = match registers.len() {
        16 => 0.673,
        32 => 0.697,
        64 => 0.709,
        _ => 0.7213 / (1.0 + 1.079 / m),
    };
    let raw = alpha * m * m / sum;
    let empty = registers.iter().filter(|zeros| **zeros == 0).count();
    // Few elements are better counted by the registers that nobody has touched.
    let few = if raw <= 2.5 * m && empty > 0 { Some(m * (m / empty as f64).ln()) } else { None };
    few.unwrap_or(raw).round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rd44_the_estimate_is_within_three_deviations() {
        for (sd, n) in [(0.2, 10u64), (0.05, 10), (0.05, 1000), (0.05, 100_000), (0.01, 1000), (0.01, 200_000)] {
            let bits = bits(sd).unwrap();
            let registers = (0..n).fold(Vec::new(), |registers, x| note(registers, bits, key_hash(&x)));
            let twice = join(registers.clone(), registers.clone());
            assert_eq!(registers, twice);
            let off = (estimate(&registers) as f64 / n as f64 - 1.0).abs();
            assert!(off < 3.0 * sd, "{n} at {sd}: off by {off}");
        }
        assert_eq!(estimate(&[]), 0);
        for wrong in [0.0, -1.0, 1.0, f64::NAN] {
            assert_eq!(bits(wrong).unwrap_err().kind(), ErrorKind::Config);
        }
    }
}
