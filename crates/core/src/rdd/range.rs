//! Numbers by steps, made where they are needed.

use super::Rdd;
use super::lineage::{Compute, Dependency, Opened};
use super::reader::OwnedReader;
use super::sources::source;
use crate::context::Context;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::partitioner::check_partitions;
use crate::plan::TaskContext;
use crate::plan::ship::PlanWriter;

impl Context {
    /// Makes an Rdd of the numbers from `start` to before `end`, by `step`, which may be negative.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// assert_eq!(context.range(0, 10, 3, 2).glom().collect()?, [[0, 3], [6, 9]]);
    /// assert_eq!(context.range(3, 0, -1, 1).collect()?, [3, 2, 1]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A step of 0 is reported by the first action, as kind `Config`.
    ///
    /// # Cost
    ///
    /// Nothing is kept: each task counts.
    ///
    /// # Spark
    ///
    /// `SparkContext.range`, CX03. 0 partitions are taken as 1.
    #[track_caller]
    pub fn range(&self, start: i64, end: i64, step: i64, partitions: usize) -> Rdd<i64> {
        let site = CallSite::here("range");
        if step == 0 {
            return Rdd::failed(Error::new(ErrorKind::Config, "a range's step must not be 0").at(site), self);
        }
        if let Err(error) = check_partitions(partitions) {
            return Rdd::failed(error.at(site), self);
        }
        let partitions = partitions.max(1);
        source(self, Range { start, count: count(start, end, step), step, partitions }, partitions, site)
    }
}

/// How many numbers there are. Pure.
fn count(start: i64, end: i64, step: i64) -> u64 {
    let (span, step) = (i128::from(end) - i128::from(start), i128::from(step));
    if (span > 0) == (step > 0) && span != 0 { span.unsigned_abs().div_ceil(step.unsigned_abs()) as u64 } else { 0 }
}

#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
struct Range {
    start: i64,
    count: u64,
    step: i64,
    partitions: usize,
}

impl Compute for Range {
    fn open<'a>(&'a self, p: usize, _: &'a [Dependency], _: &TaskContext) -> Result<Opened<'a>> {
        let Range { start, count, step, partitions } = *self;
        let cut = |p: usize| (p as u128 * u128::from(count) / partitions as u128) as u64;
        let numbers = (cut(p)..cut(p + 1)).map(move |i| (i128::from(start) + i128::from(i) * i128::from(step)) as i64);
        Ok(Opened::Source(Box::new(OwnedReader::new(numbers))))
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let compute: Box<dyn Compute> = Box::new(r.value::<Range>()?);
            Ok(Box::new(compute))
        });
        w.value(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cx03_ranges_are_counted_without_running_over() {
        assert_eq!(count(0, 10, 3), 4);
        assert_eq!(count(0, 9, 3), 3);
        assert_eq!(count(3, 0, -1), 3);
        assert_eq!(count(3, 0, 1), 0);
        assert_eq!(count(0, 3, -1), 0);
        assert_eq!(count(5, 5, 1), 0);
        assert_eq!(count(i64::MIN, i64::MAX, 1), u64::MAX);
        assert_eq!(count(i64::MIN, i64::MAX, i64::MAX), 3);
    }
}
