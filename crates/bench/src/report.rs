//! What a run gave: times, a sum that cannot be optimised away, and a hash that all engines must agree on.

use std::time::Duration;

/// One engine's run of one workload.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) engine: &'static str,
    pub(crate) workload: String,
    pub(crate) records: u64,
    pub(crate) times: Vec<Duration>,
    pub(crate) sink: u64,
    pub(crate) result_hash: u64,
}

/// Batches that are not counted.
pub(crate) const WARM_UP: usize = 2;

impl Report {
    fn counted(&self) -> Vec<f64> {
        let skip = WARM_UP.min(self.times.len().saturating_sub(1));
        let mut counted: Vec<f64> = self.times[skip..].iter().map(|t| t.as_secs_f64() * 1e3).collect();
        counted.sort_by(f64::total_cmp);
        counted
    }

    pub(crate) fn median(&self) -> f64 {
        let counted = self.counted();
        counted.get(counted.len() / 2).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn json(&self) -> String {
        let counted = self.counted();
        let (least, most) = (counted.first().copied().unwrap_or(f64::NAN), counted.last().copied().unwrap_or(f64::NAN));
        let median = self.median();
        format!(
            "{{\"engine\":\"{}\",\"workload\":\"{}\",\"records\":{},\"ms_median\":{:.3},\"ms_min\":{:.3},\"ms_max\":{:.3},\
             \"records_per_s\":{:.0},\"sink\":{},\"result_hash\":\"{:016x}\"}}",
            self.engine,
            self.workload,
            self.records,
            median,
            least,
            most,
            self.records as f64 / median * 1e3,
            self.sink,
            self.result_hash
        )
    }
}

/// Hashes one entry of a result. Entries are added up, so that their order does not matter.
///
/// The same hash is in `spark/SparkBench.java`.
pub(crate) fn entry_hash(key: &[u8], count: u64) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for byte in key {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    for byte in count.to_le_bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash
}
