//! Where keys go: hash (fixed and versioned), range and custom partitioners.
//!
//! A key's place is part of every format that outlives a process, so the hash is our own and never changes:
//! [`KEY_HASH_VERSION`] names it, and known answers stand in the tests.

use std::any::Any;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;
use std::sync::Arc;

use crate::backend::on_driver;
use crate::data::{ExchangeData, Key};
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::plan::ship::{Closure, PlanReader, PlanWriter};
use crate::text::Text;

/// The version of [`key_hash`]. It is written wherever the placing of keys is kept.
pub const KEY_HASH_VERSION: u32 = 1;

const SEED: u64 = 0x243f_6a88_85a3_08d3;
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c55;

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Hashes a key: fixed for ever, the same on every machine and in every build.
///
/// # Example
///
/// ```
/// use millstream_core::partitioner::key_hash;
///
/// assert_eq!(key_hash(&("ann", 7u64)), key_hash(&("ann", 7u64)));
/// assert_ne!(key_hash(&"ann"), key_hash(&"bob"));
/// ```
#[inline]
pub fn key_hash<K: Hash + 'static>(key: &K) -> u64 {
    // The commonest key has a hash of its own. The test is decided when this is compiled for K.
    if let Some(text) = (key as &dyn Any).downcast_ref::<Text>() {
        return text.fold_hash();
    }
    let mut hasher = KeyHasher { state: SEED };
    key.hash(&mut hasher);
    hasher.finish()
}

/// Hashes bytes as [`key_hash`] does: fixed for ever.
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hasher = KeyHasher { state: SEED };
    hasher.write(bytes);
    hasher.finish()
}

struct KeyHasher {
    state: u64,
}

impl KeyHasher {
    #[inline]
    fn word(&mut self, word: u64) {
        self.state = fold(self.state ^ word, MULTIPLIER) ^ self.state.rotate_left(23);
    }
}

impl Hasher for KeyHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            self.word(u64::from_le_bytes(eight));
        }
        let rest = words.remainder();
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56));
    }

    #[inline]
    fn write_u8(&mut self, i: u8) {
        self.word(u64::from(i));
    }

    #[inline]
    fn write_u16(&mut self, i: u16) {
        self.word(u64::from(i));
    }

    #[inline]
    fn write_u32(&mut self, i: u32) {
        self.word(u64::from(i));
    }

    #[inline]
    fn write_u64(&mut self, i: u64) {
        self.word(i);
    }

    #[inline]
    fn write_u128(&mut self, i: u128) {
        self.word(i as u64);
        self.word((i >> 64) as u64);
    }

    #[inline]
    fn write_usize(&mut self, i: usize) {
        self.word(i as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        fold(self.state ^ 0xa409_3822_299f_31d0, MULTIPLIER)
    }
}

/// Returns the partition, of `n`, of a key that hashes to `hash`.
///
/// It uses bits that neither the tag nor the slot of a hash table uses, so that the keys of one partition still
/// spread over a table.
#[inline]
pub fn place_hash(hash: u64, n: usize) -> usize {
    ((u64::from((hash >> 16) as u32) * n as u64) >> 32) as usize
}

/// Decides the partition of each key.
///
/// Two equal partitioners place every key alike, so that what is partitioned by one needs no shuffle for the other.
/// A plain number is a hash partitioner: `reduce_by_key_partitioned(f, 8)`.
///
/// # Spark
///
/// `Partitioner`, `HashPartitioner`, `RangePartitioner`, SV04. Where a hash puts a key differs from Spark's.
#[derive(Clone)]
pub struct Partitioner {
    partitions: usize,
    kind: PartitionerKind,
}

#[derive(Clone)]
enum PartitionerKind {
    Hash,
    /// Holds a `TypedPlacer<K>`.
    Typed {
        placer: Arc<dyn Any + Send + Sync>,
        what: &'static str,
    },
}

struct TypedPlacer<K>(Arc<dyn PlaceKeys<K>>);

/// Places the keys of one type: range and custom partitioners.
pub(crate) trait PlaceKeys<K>: Send + Sync + 'static {
    fn place(&self, key: &K) -> usize;

    /// Returns the partitions that keys from `low` to `high` may be in, if keys are kept in order.
    fn span(&self, _low: &K, _high: &K) -> Option<std::ops::RangeInclusive<usize>> {
        None
    }

    /// Says why keys cannot be placed so, if they cannot.
    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()>;
}

/// How many partitions may be asked for. What is beyond is a mistake, and would not fit in memory as a plan.
pub(crate) const MAX_PARTITIONS: usize = 1 << 20;

/// Refuses more partitions than there can be.
#[doc(hidden)]
pub fn check_partitions(partitions: usize) -> Result<()> {
    if partitions <= MAX_PARTITIONS {
        return Ok(());
    }
    let text = format!("{partitions} partitions are too many: ask for {MAX_PARTITIONS} at most");
    Err(Error::new(ErrorKind::Config, text))
}

impl Partitioner {
    /// Places keys by their hash over `partitions` partitions. None is taken as one; more than a million (2^20) fail the
    /// operation that is given the partitioner.
    pub fn hash(partitions: usize) -> Partitioner {
        Partitioner { partitions: partitions.max(1), kind: PartitionerKind::Hash }
    }

    /// Places keys by a function of the program over `partitions` partitions.
    ///
    /// The function must always give the same answer for a key. An answer of `partitions` or more fails the job.
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::Partitioner;
    ///
    /// let by_parity = Partitioner::custom(2, |key: &u64| (*key % 2) as usize);
    /// assert_eq!(by_parity.num_partitions(), 2);
    /// ```
    #[track_caller]
    pub fn custom<K: Key>(partitions: usize, place: impl Fn(&K) -> usize + Send + Sync + 'static) -> Partitioner {
        let custom = Custom { place: Closure::new(place, CallSite::here("Partitioner::custom")), keys: PhantomData };
        Partitioner::typed(partitions.max(1), "custom", Arc::new(custom))
    }

    /// Makes a partitioner that keeps keys in order: one partition up to each of `bounds`, and one for what is beyond.
    ///
    /// `bounds` must be sorted, upwards if `ascending`, else downwards; otherwise the first action fails (kind `Config`).
    ///
    /// # Example
    ///
    /// ```
    /// use millstream_core::{Context, Partitioner};
    ///
    /// let context = Context::new("local[2]", "ranges")?;
    /// let pairs = context.parallelize(vec![(7u64, 'a'), (25, 'b'), (10, 'c')], 2);
    /// let parts = pairs.partition_by(Partitioner::range(vec![10u64, 20], true)).glom().collect()?;
    /// assert_eq!(parts, [vec![(7, 'a'), (10, 'c')], vec![], vec![(25, 'b')]]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Cost
    ///
    /// A binary search a key.
    ///
    /// # Spark
    ///
    /// `RangePartitioner`, SV04, with bounds that are given: [`sort_by`](crate::Rdd::sort_by) samples its own.
    #[track_caller]
    pub fn range<K: ExchangeData + Ord>(bounds: Vec<K>, ascending: bool) -> Partitioner {
        let site = CallSite::here("Partitioner::range");
        let sorted = on_driver(site, || bounds.is_sorted_by(|a, b| if ascending { a <= b } else { a >= b }));
        let fault = match sorted {
            Ok(true) => None,
            Ok(false) => {
                let way = if ascending { "upwards" } else { "downwards" };
                let text = format!("the bounds of a range partitioner are not sorted {way}");
                Some(Error::new(ErrorKind::Config, text).at(site))
            }
            Err(error) => Some(error),
        };
        Partitioner::typed(bounds.len() + 1, "range", Arc::new(Range { bounds, ascending, fault }))
    }

    /// Returns the partitions that keys from `low` to `high` may be in, if this keeps keys of type `K` in order.
    pub(crate) fn span<K: 'static>(&self, low: &K, high: &K) -> Option<std::ops::RangeInclusive<usize>> {
        match &self.kind {
            PartitionerKind::Hash => None,
            PartitionerKind::Typed { placer, .. } => placer.downcast_ref::<TypedPlacer<K>>()?.0.span(low, high),
        }
    }

    fn typed<K: 'static>(partitions: usize, what: &'static str, placer: Arc<dyn PlaceKeys<K>>) -> Partitioner {
        Partitioner { partitions, kind: PartitionerKind::Typed { placer: Arc::new(TypedPlacer(placer)), what } }
    }

    /// Returns the number of partitions.
    pub fn num_partitions(&self) -> usize {
        self.partitions
    }

    /// Makes the placing of keys of type `K`.
    pub(crate) fn placement<K: Key>(&self) -> Result<Placement<K>> {
        check_partitions(self.partitions)?;
        let how = match &self.kind {
            PartitionerKind::Hash => None,
            PartitionerKind::Typed { placer, what } => {
                let typed = placer.downcast_ref::<TypedPlacer<K>>().ok_or_else(|| {
                    Error::new(
                        ErrorKind::Config,
                        format!(
                            "this {what} partitioner places keys of another type than {}",
                            std::any::type_name::<K>()
                        ),
                    )
                })?;
                typed.0.check()?;
                Some(Arc::clone(&typed.0))
            }
        };
        Ok(Placement { partitions: self.partitions, how })
    }
}

impl From<usize> for Partitioner {
    fn from(partitions: usize) -> Partitioner {
        Partitioner::hash(partitions)
    }
}

impl From<&Partitioner> for Partitioner {
    fn from(partitioner: &Partitioner) -> Partitioner {
        partitioner.clone()
    }
}

impl PartialEq for Partitioner {
    fn eq(&self, other: &Partitioner) -> bool {
        self.partitions == other.partitions
            && match (&self.kind, &other.kind) {
                (PartitionerKind::Hash, PartitionerKind::Hash) => true,
                (PartitionerKind::Typed { placer: a, .. }, PartitionerKind::Typed { placer: b, .. }) => {
                    Arc::ptr_eq(a, b)
                }
                _ => false,
            }
    }
}

impl Eq for Partitioner {}

impl fmt::Debug for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match &self.kind {
            PartitionerKind::Hash => "hash",
            PartitionerKind::Typed { what, .. } => what,
        };
        write!(f, "{what}({})", self.partitions)
    }
}

/// The placing of keys of one type, as tasks use it.
pub(crate) struct Placement<K> {
    partitions: usize,
    how: Option<Arc<dyn PlaceKeys<K>>>,
}

impl<K: Key> Placement<K> {
    pub(crate) fn partitions(&self) -> usize {
        self.partitions
    }

    /// Says whether keys are placed by their hash alone.
    pub(crate) fn is_hash(&self) -> bool {
        self.how.is_none()
    }

    /// Returns the partition of a key whose hash is known.
    #[inline]
    pub(crate) fn place(&self, key: &K, hash: u64) -> Result<usize> {
        match &self.how {
            None => Ok(place_hash(hash, self.partitions)),
            Some(how) => {
                let place = how.place(key);
                if place < self.partitions {
                    return Ok(place);
                }
                Err(Error::new(
                    ErrorKind::User,
                    format!("a custom partitioner of {} partitions answered {place}", self.partitions),
                ))
            }
        }
    }

    pub(crate) fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.value(&(KEY_HASH_VERSION, self.partitions as u64, self.how.is_some()))?;
        match &self.how {
            None => Ok(()),
            Some(how) => how.ship(w),
        }
    }

    pub(crate) fn unship(r: &mut PlanReader<'_>) -> Result<Placement<K>> {
        let (version, partitions, typed): (u32, u64, bool) = r.value()?;
        if version != KEY_HASH_VERSION {
            return Err(Error::new(
                ErrorKind::Data,
                format!("keys are placed by hash version {version}, this build has {KEY_HASH_VERSION}"),
            ));
        }
        let how = if typed { Some(r.rebuilt::<Arc<dyn PlaceKeys<K>>>()?) } else { None };
        Ok(Placement { partitions: partitions as usize, how })
    }
}

struct Custom<K, F> {
    place: Closure<F>,
    keys: PhantomData<fn(&K)>,
}

impl<K: Key, F: Fn(&K) -> usize + Send + Sync + 'static> PlaceKeys<K> for Custom<K, F> {
    fn place(&self, key: &K) -> usize {
        (self.place)(key)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let placer: Arc<dyn PlaceKeys<K>> = Arc::new(Custom::<K, F> { place: r.closure()?, keys: PhantomData });
            Ok(Box::new(placer))
        });
        w.closure(&self.place)
    }
}

struct Range<K> {
    bounds: Vec<K>,
    ascending: bool,
    fault: Option<Error>,
}

impl<K: ExchangeData + Ord> PlaceKeys<K> for Range<K> {
    fn place(&self, key: &K) -> usize {
        self.bounds.partition_point(|bound| if self.ascending { bound < key } else { bound > key })
    }

    fn span(&self, low: &K, high: &K) -> Option<std::ops::RangeInclusive<usize>> {
        let (first, last) = if self.ascending { (low, high) } else { (high, low) };
        Some(self.place(first)..=self.place(last))
    }

    fn check(&self) -> Result<()> {
        self.fault.clone().map_or(Ok(()), Err)
    }

    fn ship(&self, w: &mut PlanWriter) -> Result<()> {
        w.code(|r| {
            let (bounds, ascending) = r.value()?;
            let placer: Arc<dyn PlaceKeys<K>> = Arc::new(Range::<K> { bounds, ascending, fault: None });
            Ok(Box::new(placer))
        });
        w.value(&(&self.bounds, self.ascending))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fixed_for_ever() {
        let answers = [
            key_hash(&7u64),
            key_hash(&7u32),
            key_hash(&-7i64),
            key_hash(&"ann".to_owned()),
            key_hash(&("ann".to_owned(), 7u64)),
            key_hash(&vec![1u8, 2, 3]),
            key_hash(&()),
        ];
        assert_eq!(answers, KNOWN_ANSWERS, "the placing of keys is a format: it must never change: {answers:#x?}");
    }

    const KNOWN_ANSWERS: [u64; 7] = [
        0xe775_da5c_8144_f5d3,
        0xe775_da5c_8144_f5d3,
        0x7dd3_64dc_f9bb_98b2,
        0xfedf_a312_5580_5f40,
        0xb03d_c299_4e11_aa99,
        0xd3e8_0b7a_2e57_2566,
        0x35c5_2a53_fe76_b425,
    ];

    #[test]
    fn keys_spread_over_partitions_and_over_the_bits_of_a_table() {
        for n in [2usize, 3, 7, 16] {
            let mut counts = vec![0usize; n];
            let mut slots = std::collections::BTreeMap::<(usize, u64), usize>::new();
            for key in 0..20_000u64 {
                let hash = key_hash(&key);
                let place = place_hash(hash, n);
                counts[place] += 1;
                *slots.entry((place, hash & 7)).or_default() += 1;
            }
            let fair = 20_000 / n;
            assert!(counts.iter().all(|c| c.abs_diff(fair) < fair / 5), "{n}: {counts:?}");
            assert!(slots.values().all(|c| c.abs_diff(fair / 8) < fair / 24), "{n}: {slots:?}");
        }
    }

    #[test]
    fn partitioners_are_equal_when_they_place_alike() {
        assert_eq!(Partitioner::hash(3), Partitioner::from(3));
        assert_ne!(Partitioner::hash(3), Partitioner::hash(4));
        let custom = Partitioner::custom(3, |key: &u64| *key as usize % 3);
        assert_eq!(custom, custom.clone());
        assert_ne!(custom, Partitioner::hash(3));
        assert_ne!(custom, Partitioner::custom(3, |key: &u64| *key as usize % 3));
    }

    #[test]
    fn sv04_a_range_partitioner_keeps_the_order() {
        let up = Partitioner::range(vec![10u64, 20], true).placement::<u64>().unwrap();
        let places: Vec<_> = [0, 10, 11, 20, 21].iter().map(|k| up.place(k, 0).unwrap()).collect();
        assert_eq!(places, [0, 0, 1, 1, 2]);
        let down = Partitioner::range(vec![20u64, 10], false).placement::<u64>().unwrap();
        let places: Vec<_> = [25, 20, 15, 10, 5].iter().map(|k| down.place(k, 0).unwrap()).collect();
        assert_eq!(places, [0, 0, 1, 1, 2]);
    }

    #[test]
    fn a_custom_partitioner_that_answers_too_much_is_an_error_and_so_is_another_key_type() {
        let custom = Partitioner::custom(2, |key: &u64| *key as usize);
        let placement = custom.placement::<u64>().unwrap();
        assert_eq!(placement.place(&1, 0).unwrap(), 1);
        assert_eq!(placement.place(&2, 0).unwrap_err().kind(), ErrorKind::User);
        assert_eq!(custom.placement::<u32>().err().map(|e| e.kind()), Some(ErrorKind::Config));
    }
}
