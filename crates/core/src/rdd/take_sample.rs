//! So many elements by chance: take_sample.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use super::Rdd;
use super::actions::{Action, CountAction};
use super::pipeline::Pipeline;
use super::random::Random;
use super::sampled_keys::choose;
use crate::codec::TypeCodec;
use crate::data::ExchangeData;
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::plan::TaskContext;
use crate::plan::ship::PlanWriter;

impl<T: ExchangeData> Rdd<T> {
    /// Returns `n` elements by chance, in random order; all, if there are fewer and none may be taken twice.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let numbers = context.parallelize((0..1000u64).collect(), 4);
    /// assert_eq!(numbers.take_sample(false, 10, 7)?.len(), 10);
    /// assert_eq!(context.parallelize(vec![1], 1).take_sample(true, 3, 7)?, [1, 1, 1]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// The kind is `Config` if more than 2^31 - 1 elements are asked for, with replacement; else whatever the job fails
    /// with.
    ///
    /// # Cost
    ///
    /// Two jobs: one counts, one brings the chosen elements. [`cache`](Rdd::cache) before, if they are dear.
    ///
    /// # Spark
    ///
    /// `RDD.takeSample`, RD50. Which elements are taken differs from Spark's.
    #[track_caller]
    pub fn take_sample(&self, with_replacement: bool, n: usize, seed: u64) -> Result<Vec<T>> {
        let site = CallSite::here("take_sample");
        if n == 0 {
            return Ok(Vec::new());
        }
        if with_replacement && n > MOST {
            let text = format!("a sample of {n} elements does not fit in the driver's memory: ask for {MOST} at most");
            return Err(Error::new(ErrorKind::Config, text).at(site));
        }
        let counts: Vec<u64> = self.run_all(Arc::new(CountAction::<T>::new()), site)?;
        let total: u64 = counts.iter().sum();
        let mut random = Random::new(seed, 0);
        let chosen = choose(total as usize, n, with_replacement, &mut random);
        let places = split_places(&chosen, &counts);
        let partitions: Vec<usize> = (0..counts.len()).filter(|p| !places[*p].is_empty()).collect();
        let action = Arc::new(TakePlaces::<T> { places, of: PhantomData });
        let parts: Vec<Vec<T>> = self.context().run_action(self, action, partitions, site)?;
        let mut sample: Vec<T> = parts.into_iter().flatten().collect();
        random.shuffle(&mut sample);
        Ok(sample)
    }
}

/// How many elements may be asked for where there is no end of them. Spark's limit too.
const MOST: usize = i32::MAX as usize;

/// Says which places within each partition are meant by places within the whole, which are in order.
fn split_places(chosen: &[usize], counts: &[u64]) -> Vec<Vec<u64>> {
    let mut rest = chosen.iter().map(|place| *place as u64).peekable();
    let mut first = 0;
    let mut places = Vec::new();
    for count in counts {
        let end = first + count;
        places.push(std::iter::from_fn(|| rest.next_if(|place| *place < end)).map(|place| place - first).collect());
        first = end;
    }
    places
}

/// Takes the elements at certain places, which are in order.
struct TakePlaces<T> {
    places: Vec<Vec<u64>>,
    of: PhantomData<fn() -> T>,
}

impl<T: ExchangeData> Action for TakePlaces<T> {
    fn run(&self, pipeline: &mut Pipeline, task: &TaskContext) -> Result<Box<dyn Any + Send + Sync>> {
        let mut places = self.places.get(task.partition()).map(Vec::as_slice).unwrap_or_default();
        let (mut taken, mut chunk, mut first) = (Vec::new(), Vec::<T>::new(), 0u64);
        while !places.is_empty() && pipeline.read(&mut chunk)? {
            let end = first + chunk.len() as u64;
            let here = places.partition_point(|place| *place < end);
            taken.extend(places[..here].iter().map(|place| chunk[(place - first) as usize].clone()));
            places = &places[here..];
            first = end;
            chunk.clear();
        }
        Ok(Box::new(taken))
    }

    fn codec(&self) -> TypeCodec {
        TypeCodec::of::<Vec<T>>()
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let action: Arc<dyn Action> = Arc::new(TakePlaces::<T> { places: r.value()?, of: PhantomData });
            Ok(Box::new(action))
        });
        w.value(&self.places)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_in_the_whole_are_places_in_partitions() {
        let split = split_places(&[0, 2, 2, 5, 9], &[3, 0, 3, 4]);
        assert_eq!(split, [vec![0, 2, 2], vec![], vec![2], vec![3]]);
        assert_eq!(split_places(&[], &[1, 1]), [vec![], Vec::<u64>::new()]);
    }
}
