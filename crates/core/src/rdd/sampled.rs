//! Shares of the elements by chance: sample and random_split.
//!
//! What is chosen depends on the seed, the partition and the place within it, and on nothing else: a partition that is
//! computed again gives the same sample.

use std::marker::PhantomData;

use super::Rdd;
use super::pipeline::{CHUNK, ChunkOperator, Fed};
use super::placed::PlacedSpec;
use super::random::Random;
use crate::data::Data;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::plan::ship::{PlanReader, PlanWriter};

impl<T: Data> Rdd<T> {
    /// Takes each element with the chance `fraction`; with replacement each is taken `fraction` times on average.
    ///
    /// The sample has *about* `fraction` of the elements. The seed is always said, so that a program that runs again,
    /// and a batch that is computed again, chooses the same.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let numbers = context.parallelize((0..1000u64).collect(), 4);
    /// let tenth = numbers.sample(false, 0.1, 7);
    /// assert!((60..140).contains(&tenth.count()?));
    /// assert_eq!(tenth.collect()?, numbers.sample(false, 0.1, 7).collect()?);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// A fraction below 0, not a number, or without replacement above 1 is reported by the first action, as kind
    /// `Config`.
    ///
    /// # Cost
    ///
    /// One pass, one random number an element.
    ///
    /// # Spark
    ///
    /// `RDD.sample`, RD12. The partitioner is kept. Which elements are taken differs from Spark's.
    #[track_caller]
    pub fn sample(&self, with_replacement: bool, fraction: f64, seed: u64) -> Rdd<T> {
        let site = CallSite::here("sample");
        if let Err(error) = check_fraction(with_replacement, fraction) {
            return Rdd::failed(error.at(site), self.context());
        }
        let how = if with_replacement { How::Copies(fraction) } else { How::Within(0.0, fraction) };
        self.placed(Sample::<T> { how, seed, of: PhantomData }, site, self.partitioner().cloned())
    }

    /// Splits the elements by chance into as many Rdds as there are weights. Each element is in exactly one of them.
    ///
    /// Weights need not add up to 1.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let numbers = context.parallelize((0..1000u64).collect(), 4);
    /// let parts = numbers.random_split(&[3.0, 1.0], 7);
    /// assert_eq!(parts[0].count()? + parts[1].count()?, 1000);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Weights below 0, or that add up to nothing, are reported by the first action on any part, as kind `Config`.
    ///
    /// # Cost
    ///
    /// Each part reads all elements: [`cache`](Rdd::cache) before, if they are dear.
    ///
    /// # Spark
    ///
    /// `RDD.randomSplit`, RD13.
    #[track_caller]
    pub fn random_split(&self, weights: &[f64], seed: u64) -> Vec<Rdd<T>> {
        let site = CallSite::here("random_split");
        let sum: f64 = weights.iter().sum();
        if weights.iter().any(|w| *w < 0.0) || !(sum > 0.0 && sum.is_finite()) {
            let text = format!("weights must be 0 or more and must not all be 0: {weights:?}");
            let error = Error::new(ErrorKind::Config, text).at(site);
            return weights.iter().map(|_| Rdd::failed(error.clone(), self.context())).collect();
        }
        let mut seen = 0.0;
        let mut from = 0.0;
        weights
            .iter()
            .enumerate()
            .map(|(i, weight)| {
                seen += weight;
                // The last part ends at 1, whatever was lost by rounding.
                let to = if i + 1 == weights.len() { 1.0 } else { seen / sum };
                let how = How::Within(std::mem::replace(&mut from, to), to);
                self.placed(Sample::<T> { how, seed, of: PhantomData }, site, self.partitioner().cloned())
            })
            .collect()
    }
}

/// Says whether a fraction can be sampled.
pub(super) fn check_fraction(with_replacement: bool, fraction: f64) -> Result<()> {
    let fits = if with_replacement { fraction >= 0.0 && fraction.is_finite() } else { (0.0..=1.0).contains(&fraction) };
    if fits {
        return Ok(());
    }
    let most = if with_replacement { "" } else { ", and at most 1 without replacement" };
    Err(Error::new(ErrorKind::Config, format!("a fraction must be 0 or more{most}: {fraction}")))
}

/// What happens to an element.
#[derive(Clone, Copy, serde::Serialize, serde::Deserialize)]
enum How {
    /// It is kept if its number is from the first to below the second.
    Within(f64, f64),
    /// It is given as often as a Poisson number of this mean says.
    Copies(f64),
}

struct Sample<T> {
    how: How,
    seed: u64,
    of: PhantomData<fn(T)>,
}

impl<T: Data> PlacedSpec for Sample<T> {
    type Operator = SampleOperator<T>;

    fn operator(&self, partition: usize) -> SampleOperator<T> {
        let random = Random::new(self.seed, partition);
        SampleOperator { how: self.how, random, copies: Copies::default(), of: PhantomData }
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&(self.how, self.seed))
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        let (how, seed) = r.value()?;
        Ok(Sample { how, seed, of: PhantomData })
    }
}

struct SampleOperator<T> {
    how: How,
    random: Random,
    copies: Copies,
    of: PhantomData<fn(T)>,
}

impl<T: Data> ChunkOperator for SampleOperator<T> {
    type In = T;
    type Out = T;

    fn apply(&mut self, input: &mut Vec<T>, out: &mut Vec<T>) -> Result<Fed> {
        let random = &mut self.random;
        match self.how {
            How::Within(from, to) => {
                out.extend(input.drain(..).filter(|_| (from..to).contains(&random.unit())));
                Ok(Fed::All)
            }
            How::Copies(mean) => Ok(self.copies.give(input, out, |_| random.poisson(mean))),
        }
    }
}

/// Gives each element as often as it is told, a chunk at a time.
#[derive(Default)]
pub(super) struct Copies {
    resumed: bool,
    /// How many of the last element are still to be given.
    left: u64,
}

impl Copies {
    pub(super) fn give<T: Clone>(
        &mut self,
        input: &mut Vec<T>,
        out: &mut Vec<T>,
        mut times: impl FnMut(&T) -> u64,
    ) -> Fed {
        let full = out.len() + CHUNK;
        if !self.resumed {
            // Taken from the end from now on, so that what is left stays in place.
            input.reverse();
            self.resumed = true;
            self.left = input.last().map_or(0, &mut times);
        }
        while let Some(item) = input.last() {
            let some = self.left.min((full - out.len()) as u64);
            out.extend(std::iter::repeat_n(item, some as usize).cloned());
            self.left -= some;
            if self.left == 0 {
                input.pop();
                self.left = input.last().map_or(0, &mut times);
            }
            if out.len() >= full && !input.is_empty() {
                return Fed::Part;
            }
        }
        self.resumed = false;
        Fed::All
    }
}
