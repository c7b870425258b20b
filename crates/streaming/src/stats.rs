//! A listener that logs how the last batches' delays are spread.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use millstream_core::Distribution;
use millstream_core::threads::lock;

use crate::listener::{BatchInfo, StreamingListener};

/// Logs, after each batch, how total delay and processing time are spread over the last batches. The level is `INFO`.
///
/// Percentiles are those of batches that were: from the smallest over 5, 10, 25, 50, 75, 90 and 95 % to the largest.
///
/// # Example
///
/// ```
/// use millstream_core::secs;
/// use millstream_streaming::{StatsReportListener, StreamingContext};
///
/// let ssc = StreamingContext::new("local[2]", "watched", secs(1))?;
/// ssc.add_streaming_listener(StatsReportListener::new());
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `StatsReportListener`, LS13.
#[derive(Debug)]
pub struct StatsReportListener {
    keeps: usize,
    /// Total delay and processing time of the last batches, oldest first.
    last: Mutex<VecDeque<(Option<Duration>, Option<Duration>)>>,
}

impl StatsReportListener {
    /// Makes a listener that looks at the last 10 batches.
    pub fn new() -> StatsReportListener {
        StatsReportListener::over(10)
    }

    /// Makes a listener that looks at the last `batches` batches, at least one.
    pub fn over(batches: usize) -> StatsReportListener {
        StatsReportListener { keeps: batches.max(1), last: Mutex::default() }
    }

    /// Takes a batch and returns the lines of the report that it gives cause for.
    fn take(&self, batch: &BatchInfo) -> Vec<String> {
        let mut last = lock(&self.last);
        last.push_back((batch.total_delay(), batch.processing_delay()));
        if last.len() > self.keeps {
            last.pop_front();
        }
        let mut lines = Distribution::report_times("Total delay: ", last.iter().filter_map(|(total, _)| *total));
        lines.extend(Distribution::report_times("Processing time: ", last.iter().filter_map(|(_, took)| *took)));
        lines
    }
}

impl Default for StatsReportListener {
    fn default() -> StatsReportListener {
        StatsReportListener::new()
    }
}

impl StreamingListener for StatsReportListener {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        self.take(batch).iter().for_each(|line| tracing::info!("{line}"));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use millstream_core::Time;

    use super::*;
    use crate::listener::BatchStamps;

    fn batch(waited: i64, took: i64) -> BatchInfo {
        BatchInfo {
            batch_time: Time::from_millis(1000),
            inputs: BTreeMap::new(),
            submission_time: Time::from_millis(1000),
            processing_start_time: Some(Time::from_millis(1000 + waited)),
            processing_end_time: Some(Time::from_millis(1000 + waited + took)),
            outputs: Vec::new(),
            stamps: BatchStamps::default(),
        }
    }

    #[test]
    fn ls13_total_and_processing_delays_of_the_last_batches_are_reported() {
        let listener = StatsReportListener::over(2);
        assert_eq!(listener.take(&batch(5, 9000)).len(), 6);
        listener.take(&batch(10, 100));
        let want = [
            "Total delay: (count: 2, mean: 760, stdev: 650, max: 1410, min: 110)",
            "\t0%\t5%\t10%\t25%\t50%\t75%\t90%\t95%\t100%",
            "\t110.0 ms\t110.0 ms\t110.0 ms\t110.0 ms\t1.4 s\t1.4 s\t1.4 s\t1.4 s\t1.4 s",
            "Processing time: (count: 2, mean: 750, stdev: 650, max: 1400, min: 100)",
            "\t0%\t5%\t10%\t25%\t50%\t75%\t90%\t95%\t100%",
            "\t100.0 ms\t100.0 ms\t100.0 ms\t100.0 ms\t1.4 s\t1.4 s\t1.4 s\t1.4 s\t1.4 s",
        ];
        assert_eq!(listener.take(&batch(10, 1400)), want);
    }

    #[test]
    fn ls13_ten_batches_are_looked_at_and_one_that_has_not_ended_gives_no_delay() {
        let listener = StatsReportListener::new();
        assert!(listener.take(&BatchInfo { processing_end_time: None, ..batch(0, 0) }).is_empty());
        (1..20).for_each(|n| drop(listener.take(&batch(0, n))));
        assert!(listener.take(&batch(0, 20))[0].starts_with("Total delay: (count: 10, "));
    }
}
