//! All elements on the driver, a partition at a time: to_local_iterator.

use super::Rdd;
use crate::data::ExchangeData;
use crate::error::{CallSite, Result};

impl<T: ExchangeData> Rdd<T> {
    /// Returns an iterator over all elements, which brings one partition at a time to the driver.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let mut sum = 0;
    /// for number in context.parallelize(vec![1, 2, 3], 2).to_local_iterator() {
    ///     sum += number?;
    /// }
    /// assert_eq!(sum, 6);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The iterator gives whatever a job fails with, and ends.
    ///
    /// # Cost
    ///
    /// A job a partition, run when its first element is asked for; the memory of the largest partition. What is behind
    /// a shuffle is computed once; [`cache`](Rdd::cache) what else is dear.
    ///
    /// # Spark
    ///
    /// `RDD.toLocalIterator`, RD37.
    #[track_caller]
    pub fn to_local_iterator(&self) -> LocalIterator<T> {
        let site = CallSite::here("to_local_iterator");
        LocalIterator { rdd: self.clone(), site, next: 0, items: Vec::new().into_iter() }
    }
}

/// The elements of an Rdd, made by [`Rdd::to_local_iterator`].
#[derive(Debug)]
pub struct LocalIterator<T> {
    rdd: Rdd<T>,
    site: CallSite,
    /// The partition that comes next.
    next: usize,
    items: std::vec::IntoIter<T>,
}

impl<T: ExchangeData> Iterator for LocalIterator<T> {
    type Item = Result<T>;

    fn next(&mut self) -> Option<Result<T>> {
        loop {
            if let Some(item) = self.items.next() {
                return Some(Ok(item));
            }
            if self.next == self.rdd.num_partitions() {
                return None;
            }
            match self.rdd.collect_partitions(vec![self.next], self.site) {
                Ok(items) => (self.next, self.items) = (self.next + 1, items.into_iter()),
                Err(error) => {
                    self.next = self.rdd.num_partitions();
                    return Some(Err(error));
                }
            }
        }
    }
}
