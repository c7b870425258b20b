//! How many records a partition may give to a batch. Pure.

use std::time::Duration;

/// What a partition is held to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Limits {
    /// The rate that back-pressure asks for, in records a second over all partitions.
    pub(crate) rate: Option<f64>,
    /// Records a second and partition; 0 for no limit.
    pub(crate) most: u64,
    /// Records a *batch* and partition that are given in any case.
    pub(crate) least: u64,
}

/// Returns how many records each partition may give at most, in the order of `lags`; nothing if there is no limit at
/// all.
///
/// With a rate, each partition has a share of it by how far it lags behind, and not more than `most`; without, `most`.
/// What that makes in the time of a batch is rounded down, and is `least` at least.
pub(crate) fn most_of_each(lags: &[u64], limits: Limits, interval: Duration) -> Option<Vec<u64>> {
    let total: u64 = lags.iter().fold(0, |all, lag| all.saturating_add(*lag));
    let most = limits.most as f64;
    let each: Vec<f64> = match limits.rate.filter(|rate| *rate > 0.0) {
        // Spark divides by nothing here, and then limits nothing: there is nothing to be had.
        Some(_) if total == 0 => return None,
        Some(rate) => {
            let share = |lag: &u64| *lag as f64 / total as f64 * rate;
            lags.iter().map(share).map(|share| if most > 0.0 { share.min(most) } else { share }).collect()
        }
        None => vec![most; lags.len()],
    };
    if each.iter().sum::<f64>() <= 0.0 {
        return None;
    }
    let seconds = interval.as_secs_f64();
    Some(each.into_iter().map(|limit| ((seconds * limit) as u64).max(limits.least)).collect())
}

/// Returns until where a partition is read: not behind its end, and no more than it may give.
pub(crate) fn until(from: i64, end: i64, most: Option<u64>) -> i64 {
    let most = most.map_or(i64::MAX, |most| i64::try_from(most).unwrap_or(i64::MAX));
    from.saturating_add(most).min(end).max(from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::{millis, secs};

    #[test]
    fn r66_how_many_records_a_partition_may_give() {
        let none = Limits { rate: None, most: 0, least: 1 };
        let rate = |rate: f64, most: u64| Limits { rate: Some(rate), most, least: 1 };
        let most = |most: u64, least: u64| Limits { rate: None, most, least };
        for (what, lags, limits, interval, want) in [
            ("nothing asks for a limit", vec![50, 950], none, secs(1), None),
            ("without a rate, a partition's own limit", vec![50, 950], most(100, 1), secs(1), Some(vec![100, 100])),
            ("by the length of a batch", vec![50, 950], most(100, 1), millis(500), Some(vec![50, 50])),
            ("rounded down", vec![1, 1], most(5, 1), millis(300), Some(vec![1, 1])),
            ("but at least one", vec![1, 1], most(1, 1), millis(300), Some(vec![1, 1])),
            ("or what is asked, a batch and not a second", vec![1, 1], most(1, 7), millis(300), Some(vec![7, 7])),
            ("a rate is shared by how far each lags", vec![50, 950], rate(100.0, 0), secs(1), Some(vec![5, 95])),
            ("and is no more than a partition's limit", vec![50, 950], rate(100.0, 90), secs(1), Some(vec![5, 90])),
            ("a partition that lags by little gives one", vec![1, 9999], rate(100.0, 0), secs(1), Some(vec![1, 99])),
            ("nothing lags: nothing is limited", vec![0, 0], rate(100.0, 90), secs(1), None),
            ("a rate of nothing is none", vec![50, 950], rate(0.0, 90), secs(1), Some(vec![90, 90])),
            ("no partitions", vec![], most(100, 1), secs(1), None),
        ] {
            assert_eq!(most_of_each(&lags, limits, interval), want, "{what}");
        }
    }

    #[test]
    fn r66_a_range_ends_at_the_end_or_at_the_limit() {
        for (from, end, most, want) in [
            (10, 20, None, 20),
            (10, 20, Some(3), 13),
            (10, 20, Some(30), 20),
            (10, 20, Some(u64::MAX), 20),
            (20, 20, None, 20),
            (25, 20, None, 25),
        ] {
            assert_eq!(until(from, end, most), want);
        }
    }
}
