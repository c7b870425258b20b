//! What a run gave: times, the size of its results, and a hash of them that all engines must agree on.

use std::time::Duration;

/// How many batches of a run are not counted.
pub(crate) const WARM_UP: usize = 2;

/// One engine's run of one workload.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) engine: &'static str,
    pub(crate) workload: String,
    /// The lines of a batch.
    pub(crate) records: u64,
    /// How long each counted batch took.
    pub(crate) times: Vec<Duration>,
    /// How late each counted batch was woken, where batches are woken by a clock.
    pub(crate) late: Vec<Duration>,
    /// The sizes of all batches' results, those of the warm-up too.
    pub(crate) sink: u64,
    /// The hash of a batch's result.
    pub(crate) result_hash: u64,
}

impl Report {
    /// Adds another run of the same engine and workload.
    pub(crate) fn add(&mut self, other: Report) -> Result<(), String> {
        if (self.sink, self.result_hash) != (other.sink, other.result_hash) {
            return Err(format!("two rounds of {} differ: {}\n{}", self.engine, self.json(), other.json()));
        }
        self.times.extend(other.times);
        self.late.extend(other.late);
        Ok(())
    }

    /// Returns the median of the times, in milliseconds.
    pub(crate) fn median(&self) -> f64 {
        quantile(&millis_sorted(&self.times), 0.5)
    }

    /// Returns the report as a line of JSON.
    pub(crate) fn json(&self) -> String {
        let times = millis_sorted(&self.times);
        let median = quantile(&times, 0.5);
        let late = match quantile(&millis_sorted(&self.late), 0.5) {
            none if none.is_nan() => String::new(),
            late => format!(",\"ms_due_to_woken\":{late:.4}"),
        };
        format!(
            "{{\"engine\":\"{}\",\"workload\":\"{}\",\"records\":{},\"ms_median\":{median:.4},\"ms_min\":{:.4},\
             \"ms_max\":{:.4},\"records_per_s\":{:.0},\"sink\":{},\"result_hash\":\"{:016x}\"{late}}}",
            self.engine,
            self.workload,
            self.records,
            quantile(&times, 0.0),
            quantile(&times, 1.0),
            self.records as f64 / median * 1e3,
            self.sink,
            self.result_hash,
        )
    }
}

/// Returns a quantile of some times, in milliseconds.
pub(crate) fn quantile_ms(times: &[Duration], q: f64) -> f64 {
    quantile(&millis_sorted(times), q)
}

/// Returns reports as a table for people, with each engine's speed as a multiple of the first one's.
pub(crate) fn table(reports: &[Report]) -> String {
    let Some(first) = reports.first() else { return String::new() };
    let mut text = format!(
        "{:<10} {:<10} {:>12} {:>12} {:>12} {:>14}  ÷ {}\n",
        "workload", "engine", "ms median", "ms min", "ms max", "records/s", first.engine
    );
    for report in reports {
        let times = millis_sorted(&report.times);
        let median = quantile(&times, 0.5);
        text += &format!(
            "{:<10} {:<10} {median:>12.3} {:>12.3} {:>12.3} {:>14.0}  {:.2}\n",
            report.workload,
            report.engine,
            quantile(&times, 0.0),
            quantile(&times, 1.0),
            report.records as f64 / median * 1e3,
            first.median() / median,
        );
    }
    text
}

/// Checks that all engines found the same.
pub(crate) fn agree(reports: &[Report]) -> Result<(), String> {
    for pair in reports.windows(2) {
        let [a, b] = pair else { continue };
        if (a.result_hash, a.sink) != (b.result_hash, b.sink) {
            return Err(format!(
                "the results of {} differ: {} found {:016x} (sink {}), {} found {:016x} (sink {})",
                a.workload, a.engine, a.result_hash, a.sink, b.engine, b.result_hash, b.sink
            ));
        }
    }
    Ok(())
}

/// Returns times in milliseconds, in order of size.
pub(crate) fn millis_sorted(times: &[Duration]) -> Vec<f64> {
    let mut sorted: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Returns a quantile of sorted values; the upper of two in the middle, as the Spark side does.
pub(crate) fn quantile(sorted: &[f64], q: f64) -> f64 {
    let at = ((sorted.len() as f64 * q) as usize).min(sorted.len().saturating_sub(1));
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// Hashes one entry of a result: FNV-1a over the key's bytes and the count's eight, lowest first.
///
/// The hash of a result is the wrapping sum over its entries, so that their order and their partitions do not matter.
/// `spark/SparkBench.java` does the same.
pub(crate) fn entry_hash(key: &[u8], count: u64) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = key.iter().fold(0xcbf2_9ce4_8422_2325, step);
    count.to_le_bytes().iter().fold(hash, step)
}

/// Hashes a result.
pub(crate) fn result_hash<'a>(entries: impl IntoIterator<Item = (&'a str, u64)>) -> u64 {
    entries.into_iter().fold(0, |sum, (key, count)| sum.wrapping_add(entry_hash(key.as_bytes(), count)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_results_hash_depends_on_its_entries_alone() {
        assert_eq!(result_hash([("a", 1), ("b", 2)]), result_hash([("b", 2), ("a", 1)]));
        assert_ne!(result_hash([("a", 1), ("b", 2)]), result_hash([("a", 2), ("b", 1)]));
        assert_eq!(entry_hash(b"", 0), 0xa8c7_f832_281a_39c5);
    }

    #[test]
    fn the_median_of_an_even_number_is_the_upper_one() {
        let times = [4, 1, 3, 2].map(Duration::from_millis);
        assert_eq!(quantile(&millis_sorted(&times), 0.5), 3.0);
        assert_eq!(quantile(&millis_sorted(&times), 1.0), 4.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
