//! Samples of pairs, a share for each key: sample_by_key and sample_by_key_exact.

use std::collections::HashMap;
use std::marker::PhantomData;

use super::Rdd;
use super::pipeline::{ChunkOperator, Fed};
use super::placed::PlacedSpec;
use super::random::Random;
use super::sampled::{Copies, check_fraction};
use crate::data::{ExchangeData, Key};
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::partitioner::key_hash;
use crate::plan::ship::{Closure, PlanReader, PlanWriter, capture};

impl<K: Key, V: ExchangeData> Rdd<(K, V)> {
    /// Takes each pair with the chance that `fractions` says for its key; with replacement so many times on average.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let pairs = context.parallelize((0..1000u64).map(|i| (i % 2, i)).collect(), 4);
    /// let some = pairs.sample_by_key(false, &[(0, 0.1), (1, 1.0)].into(), 7);
    /// let counts = some.count_by_key()?;
    /// assert!(counts[&0] < 100 && counts[&1] == 500);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Fractions that cannot be, as in [`sample`](Rdd::sample), are kind `Config`. A key without a fraction fails the
    /// job, as kind `User`.
    ///
    /// # Cost
    ///
    /// One pass.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.sampleByKey`, PR24.
    #[track_caller]
    pub fn sample_by_key(&self, with_replacement: bool, fractions: &HashMap<K, f64>, seed: u64) -> Rdd<(K, V)> {
        let site = CallSite::here("sample_by_key");
        if let Err(error) = check_all(with_replacement, fractions) {
            return Rdd::failed(error.at(site), self.context());
        }
        let spec = SampleByKey { fractions: fractions.clone(), with_replacement, seed, of: PhantomData::<fn(V)> };
        self.placed(spec, site, self.partitioner().cloned())
    }

    /// Takes exactly the share of each key's pairs that `fractions` says, rounded up.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// let pairs = context.parallelize((0..100u64).map(|i| (i % 2, i)).collect(), 4);
    /// let counts = pairs.sample_by_key_exact(false, &[(0, 0.11), (1, 0.5)].into(), 7).count_by_key()?;
    /// assert_eq!((counts[&0], counts[&1]), (6, 25));
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`sample_by_key`](Self::sample_by_key).
    ///
    /// # Cost
    ///
    /// All pairs of a key are brought together: a shuffle of everything, and a key's values in memory.
    ///
    /// # Spark
    ///
    /// `PairRDDFunctions.sampleByKeyExact`, PR25.
    #[track_caller]
    pub fn sample_by_key_exact(&self, with_replacement: bool, fractions: &HashMap<K, f64>, seed: u64) -> Rdd<(K, V)> {
        let site = CallSite::here("sample_by_key_exact");
        if let Err(error) = check_all(with_replacement, fractions) {
            return Rdd::failed(error.at(site), self.context());
        }
        let grouped = CallSite::scope(Some(site), || self.group_by_key());
        let choose = |(fractions, with_replacement, seed): &(HashMap<K, f64>, bool, u64),
                      (key, values): (K, Vec<V>)| {
            // As any closure's, a fraction that is missing fails the task at the program's line.
            let fraction = fractions.get(&key).copied().unwrap_or_else(|| panic!("{NO_FRACTION}"));
            let mut random = Random::new(*seed ^ key_hash(&key), 0);
            let wanted = (values.len() as f64 * fraction).ceil() as usize;
            let chosen = choose(values.len(), wanted, *with_replacement, &mut random);
            chosen.into_iter().map(|i| (key.clone(), values[i].clone())).collect::<Vec<_>>()
        };
        let env = (fractions.clone(), with_replacement, seed);
        grouped.flat_map_shared(Closure::new(capture(env, choose), site))
    }
}

const NO_FRACTION: &str = "a key has no fraction: sample_by_key needs one for every key that occurs";

fn check_all<K>(with_replacement: bool, fractions: &HashMap<K, f64>) -> Result<()> {
    fractions.values().try_for_each(|fraction| check_fraction(with_replacement, *fraction))
}

/// Chooses `wanted` places below `len`, in order.
pub(super) fn choose(len: usize, wanted: usize, with_replacement: bool, random: &mut Random) -> Vec<usize> {
    let mut chosen: Vec<usize> = if len == 0 {
        Vec::new()
    } else if with_replacement {
        (0..wanted).map(|_| random.below(len as u64) as usize).collect()
    } else {
        // Floyd's way: each set of `wanted` places is as likely as any other.
        let mut set = std::collections::HashSet::new();
        for i in len - wanted.min(len)..len {
            let place = random.below(i as u64 + 1) as usize;
            if !set.insert(place) {
                set.insert(i);
            }
        }
        set.into_iter().collect()
    };
    chosen.sort_unstable();
    chosen
}

struct SampleByKey<K, V> {
    fractions: HashMap<K, f64>,
    with_replacement: bool,
    seed: u64,
    of: PhantomData<fn(V)>,
}

impl<K: Key, V: ExchangeData> PlacedSpec for SampleByKey<K, V> {
    type Operator = SampleByKeyOperator<K, V>;

    fn operator(&self, partition: usize) -> SampleByKeyOperator<K, V> {
        SampleByKeyOperator {
            fractions: self.fractions.clone(),
            with_replacement: self.with_replacement,
            random: Random::new(self.seed, partition),
            copies: Copies::default(),
            of: PhantomData,
        }
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&(&self.fractions, self.with_replacement, self.seed))
    }

    fn unship(r: &mut PlanReader<'_>) -> Result<Self> {
        let (fractions, with_replacement, seed) = r.value()?;
        Ok(SampleByKey { fractions, with_replacement, seed, of: PhantomData })
    }
}

struct SampleByKeyOperator<K, V> {
    fractions: HashMap<K, f64>,
    with_replacement: bool,
    random: Random,
    copies: Copies,
    of: PhantomData<fn(V)>,
}

impl<K: Key, V: ExchangeData> ChunkOperator for SampleByKeyOperator<K, V> {
    type In = (K, V);
    type Out = (K, V);

    fn apply(&mut self, input: &mut Vec<(K, V)>, out: &mut Vec<(K, V)>) -> Result<Fed> {
        let SampleByKeyOperator { fractions, with_replacement, random, copies, .. } = self;
        let mut missing = false;
        let fed = copies.give(input, out, |(key, _)| match fractions.get(key) {
            Some(fraction) if *with_replacement => random.poisson(*fraction),
            Some(fraction) => u64::from(random.unit() < *fraction),
            None => {
                missing = true;
                0
            }
        });
        if missing { Err(Error::new(ErrorKind::User, NO_FRACTION)) } else { Ok(fed) }
    }
}
