//! How numbers are spread: percentiles, and the text of a report in Spark's form. Pure.

use std::time::Duration;

use crate::stats::StatCounter;

/// The percentiles of a report. For profiling, the extremes are more interesting.
const PERCENTILES: [u32; 9] = [0, 5, 10, 25, 50, 75, 90, 95, 100];

/// A few numbers in order, for a look at their spread.
///
/// # Example
///
/// ```
/// use millstream_core::Distribution;
///
/// let delays = Distribution::of([30.0, 10.0, 20.0]).expect("there are numbers");
/// assert_eq!((delays.quantile(0.0), delays.quantile(0.5), delays.quantile(1.0)), (10.0, 20.0, 30.0));
/// assert!(Distribution::of([]).is_none());
/// ```
///
/// # Spark
///
/// `org.apache.spark.util.Distribution`, LS13.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution {
    /// Never empty.
    sorted: Vec<f64>,
}

impl Distribution {
    /// Takes numbers in any order. There is nothing to say of none.
    pub fn of(numbers: impl IntoIterator<Item = f64>) -> Option<Distribution> {
        let mut sorted: Vec<f64> = numbers.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        (!sorted.is_empty()).then_some(Distribution { sorted })
    }

    /// Returns the number below which the part `p` of the numbers lies: one of them, and none in between.
    pub fn quantile(&self, p: f64) -> f64 {
        let at = (p * self.sorted.len() as f64) as usize;
        self.sorted[at.min(self.sorted.len() - 1)]
    }

    /// Returns count, mean, spread and extremes.
    pub fn stats(&self) -> StatCounter {
        self.sorted.iter().copied().collect()
    }

    /// Returns the lines of a report: what it is with its statistics, the percentiles' names, and the percentiles.
    pub fn report(&self, heading: &str, show: impl Fn(f64) -> String) -> [String; 3] {
        let row = |cells: Vec<String>| format!("\t{}", cells.join("\t"));
        let names = PERCENTILES.iter().map(|p| format!("{p}%")).collect();
        let values = PERCENTILES.iter().map(|p| show(self.quantile(f64::from(*p) / 100.0))).collect();
        [format!("{heading}{}", self.stats()), row(names), row(values)]
    }

    /// Returns the lines of a report on lengths of time, or none if there are none.
    pub fn report_times(heading: &str, times: impl IntoIterator<Item = Duration>) -> Vec<String> {
        let millis = times.into_iter().map(|time| time.as_millis() as f64);
        Distribution::of(millis).map(|of| of.report(heading, show_millis)).into_iter().flatten().collect()
    }

    /// Returns the lines of a report on numbers of bytes, or none if there are none.
    pub fn report_bytes(heading: &str, bytes: impl IntoIterator<Item = u64>) -> Vec<String> {
        let bytes = bytes.into_iter().map(|bytes| bytes as f64);
        Distribution::of(bytes).map(|of| of.report(heading, show_bytes)).into_iter().flatten().collect()
    }
}

/// Shows milliseconds in the largest unit of which there is more than one.
fn show_millis(millis: f64) -> String {
    const UNITS: [(f64, &str); 3] = [(3_600_000.0, "hours"), (60_000.0, "min"), (1_000.0, "s")];
    let (unit, name) = UNITS.into_iter().find(|(unit, _)| millis > *unit).unwrap_or((1.0, "ms"));
    format!("{:.1} {name}", millis / unit)
}

/// Shows bytes in the largest unit of which there are at least two.
fn show_bytes(bytes: f64) -> String {
    const UNITS: [&str; 6] = ["EiB", "PiB", "TiB", "GiB", "MiB", "KiB"];
    let size = |power: usize| 1024f64.powi(power as i32);
    let unit = UNITS.iter().enumerate().map(|(i, name)| (size(UNITS.len() - i), *name));
    let (unit, name) = unit.into_iter().find(|(unit, _)| bytes >= 2.0 * unit).unwrap_or((1.0, "B"));
    format!("{:.1} {name}", bytes / unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ls13_percentiles_are_numbers_that_are_there() {
        let to = |n: u32| (1..=n).map(f64::from).collect::<Vec<_>>();
        let cases: [(Vec<f64>, [f64; 9]); 5] = [
            (to(1), [1.0; 9]),
            (to(2), [1.0, 1.0, 1.0, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0]),
            (to(10), [1.0, 1.0, 2.0, 3.0, 6.0, 8.0, 10.0, 10.0, 10.0]),
            (to(100), [1.0, 6.0, 11.0, 26.0, 51.0, 76.0, 91.0, 96.0, 100.0]),
            (vec![5.0, -1.0, 5.0], [-1.0, -1.0, -1.0, -1.0, 5.0, 5.0, 5.0, 5.0, 5.0]),
        ];
        for (numbers, want) in cases {
            let of = Distribution::of(numbers.iter().rev().copied()).unwrap();
            assert_eq!(PERCENTILES.map(|p| of.quantile(f64::from(p) / 100.0)), want, "{numbers:?}");
        }
    }

    #[test]
    fn ls13_numbers_are_shown_in_units_that_fit() {
        let millis = [
            (0.0, "0.0 ms"),
            (1000.0, "1000.0 ms"),
            (1001.0, "1.0 s"),
            (90_000.0, "1.5 min"),
            (5_400_000.0, "1.5 hours"),
        ];
        millis.into_iter().for_each(|(n, want)| assert_eq!(show_millis(n), want));
        let bytes = [
            (0.0, "0.0 B"),
            (2047.0, "2047.0 B"),
            (2048.0, "2.0 KiB"),
            (1_572_864.0, "1536.0 KiB"),
            (3.0 * 1024.0 * 1024.0, "3.0 MiB"),
        ];
        bytes.into_iter().for_each(|(n, want)| assert_eq!(show_bytes(n), want));
    }

    #[test]
    fn ls13_a_report_has_sparks_form() {
        let report = Distribution::report_times("Total delay: ", [2000, 10].map(Duration::from_millis));
        let want = [
            "Total delay: (count: 2, mean: 1005, stdev: 995, max: 2000, min: 10)",
            "\t0%\t5%\t10%\t25%\t50%\t75%\t90%\t95%\t100%",
            "\t10.0 ms\t10.0 ms\t10.0 ms\t10.0 ms\t2.0 s\t2.0 s\t2.0 s\t2.0 s\t2.0 s",
        ];
        assert_eq!(report, want);
        assert!(Distribution::report_bytes("of nothing: ", []).is_empty());
    }
}
