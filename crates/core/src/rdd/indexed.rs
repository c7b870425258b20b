//! Elements with numbers: zip_with_index and zip_with_unique_id.

use std::marker::PhantomData;
use std::sync::Arc;

use super::Rdd;
use super::actions::CountAction;
use super::pipeline::{ChunkOperator, Fed};
use super::placed::PlacedSpec;
use crate::data::Data;
use crate::error::{CallSite, Result};
use crate::plan::ship::{PlanReader, PlanWriter};

impl<T: Data> Rdd<T> {
    /// Pairs each element with its number: 0 for the first one, and so on through all partitions.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let letters = context.parallelize(vec!['a', 'b', 'c'], 2).zip_with_index();
    /// assert_eq!(letters.collect()?, [('a', 0), ('b', 1), ('c', 2)]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// With more than one partition, a job that counts runs when this is called; a failure of that job is reported by
    /// the first action. [`zip_with_unique_id`](Self::zip_with_unique_id) needs none.
    ///
    /// # Spark
    ///
    /// `RDD.zipWithIndex`, RD22.
    #[track_caller]
    pub fn zip_with_index(&self) -> Rdd<(T, u64)> {
        let site = CallSite::here("zip_with_index");
        let mut starts = vec![0u64];
        if self.num_partitions() > 1 {
            // All but the last.
            let counted: Vec<usize> = (0..self.num_partitions() - 1).collect();
            let counts: Result<Vec<u64>> =
                self.context().run_action(self, Arc::new(CountAction::<T>::new()), counted, site);
            match counts {
                Ok(counts) => starts.extend(counts.iter().scan(0, |sum, count| {
                    *sum += count;
                    Some(*sum)
                })),
                Err(error) => return Rdd::failed(error, self.context()),
            }
        }
        self.placed(Numbered::<T> { from: From::Starts(starts), of: PhantomData }, site, None)
    }

    /// Pairs each element with a number that no other element has: partition `k` of `n` gives k, k+n, k+2n and so on.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let letters = context.parallelize(vec!['a', 'b', 'c'], 2).zip_with_unique_id();
    /// assert_eq!(letters.collect()?, [('a', 0), ('b', 1), ('c', 3)]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// One pass; no job.
    ///
    /// # Spark
    ///
    /// `RDD.zipWithUniqueId`, RD23.
    #[track_caller]
    pub fn zip_with_unique_id(&self) -> Rdd<(T, u64)> {
        let from = From::Step(self.num_partitions() as u64);
        self.placed(Numbered::<T> { from, of: PhantomData }, CallSite::here("zip_with_unique_id"), None)
    }
}

/// Where the numbers of a partition begin, and how they go on.
#[derive(Clone, serde::Serialize, serde::Deserialize)]
enum From {
    /// At the partition's own number, by ones.
    Starts(Vec<u64>),
    /// At the number of the partition, by so many.
    Step(u64),
}

struct Numbered<T> {
    from: From,
    of: PhantomData<fn(T)>,
}

impl<T: Data> PlacedSpec for Numbered<T> {
    type Operator = NumberedOperator<T>;

    fn operator(&self, partition: usize) -> NumberedOperator<T> {
        let (next, step) = match &self.from {
            From::Starts(starts) => (starts.get(partition).copied().unwrap_or_default(), 1),
            From::Step(step) => (partition as u64, *step),
        };
        NumberedOperator { next, step, of: PhantomData }
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&self.from)
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        Ok(Numbered { from: r.value()?, of: PhantomData })
    }
}

struct NumberedOperator<T> {
    next: u64,
    step: u64,
    of: PhantomData<fn(T)>,
}

impl<T: Data> ChunkOperator for NumberedOperator<T> {
    type In = T;
    type Out = (T, u64);

    fn apply(&mut self, input: &mut Vec<T>, out: &mut Vec<(T, u64)>) -> Result<Fed> {
        for item in input.drain(..) {
            out.push((item, self.next));
            self.next += self.step;
        }
        Ok(Fed::All)
    }
}
