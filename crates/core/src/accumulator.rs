//! Accumulators: values that tasks add to and the driver reads.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::codec;
use crate::context::Context;
use crate::data::ExchangeData;
use crate::error::{Result, panicked};
use crate::plan::TaskContext;
use crate::task_updates::Update;
use crate::threads::lock;

/// What an accumulator keeps: how something is added to it, and how two of them become one.
///
/// A `Vec` collects; [`Sum`] adds numbers. Others are for the program to make.
///
/// # Example
///
/// ```
/// use std::collections::BTreeSet;
/// use millstream_core::{Accumulate, capture};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Seen(BTreeSet<String>);
///
/// impl Accumulate for Seen {
///     type In = String;
///     type Out = Vec<String>;
///     fn zero(&self) -> Seen {
///         Seen::default()
///     }
///     fn is_zero(&self) -> bool {
///         self.0.is_empty()
///     }
///     fn add(&mut self, word: String) {
///         self.0.insert(word);
///     }
///     fn merge(&mut self, other: Seen) {
///         self.0.extend(other.0);
///     }
///     fn value(&self) -> Vec<String> {
///         self.0.iter().cloned().collect()
///     }
/// }
///
/// # let context = millstream_core::Context::new("local[2]", "doc")?;
/// let seen = context.register(Seen::default(), "seen");
/// let words = context.parallelize(vec!["b".to_owned(), "a".to_owned(), "b".to_owned()], 2);
/// words.foreach(capture(seen.clone(), |seen, word| seen.add(word)))?;
/// assert_eq!(seen.value(), ["a", "b"]);
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `AccumulatorV2`, SV02.
pub trait Accumulate: ExchangeData {
    /// What is added.
    type In;
    /// What is read.
    type Out;

    /// Makes one of nothing, which tasks begin with.
    fn zero(&self) -> Self;

    /// Says whether nothing has been added.
    fn is_zero(&self) -> bool;

    /// Adds one thing.
    fn add(&mut self, item: Self::In);

    /// Adds all that another has. Tasks are merged in any order.
    fn merge(&mut self, other: Self);

    /// Returns what there is.
    fn value(&self) -> Self::Out;
}

/// A value that tasks add to and the driver reads.
///
/// What a task adds is counted once, when the task has succeeded: attempts that fail, and are tried again, count
/// nothing. An Rdd that is computed again, because it was not kept, adds again: in actions each element counts once, in
/// transformations perhaps more often. An accumulator does not outlive the process.
///
/// # Example
///
/// ```
/// use millstream_core::capture;
///
/// # let context = millstream_core::Context::new("local[2]", "doc")?;
/// let bad = context.long_accumulator("bad lines");
/// let lines = context.parallelize(vec!["1".to_owned(), "x".to_owned(), "3".to_owned()], 2);
/// lines.foreach(capture(bad.clone(), |bad, line: String| {
///     if line.parse::<i64>().is_err() {
///         bad.add(1);
///     }
/// }))?;
/// assert_eq!((bad.value(), bad.name()), (1, "bad lines"));
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Cost
///
/// To add within a task takes a few dozen nanoseconds. It is for events that are worth counting, not for every
/// element of a hot loop: add once a partition there.
///
/// # Spark
///
/// `AccumulatorV2`, SV02.
pub struct Accumulator<A> {
    shared: Arc<Shared<A>>,
}

/// An accumulator of whole numbers.
pub type LongAccumulator = Accumulator<Sum<i64>>;

/// An accumulator of floating numbers.
pub type DoubleAccumulator = Accumulator<Sum<f64>>;

/// An accumulator that collects.
pub type CollectionAccumulator<T> = Accumulator<Vec<T>>;

/// Names an accumulator among all processes: the process, and a number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Id {
    process: u64,
    number: u64,
}

struct Shared<A> {
    id: Id,
    name: String,
    zero: A,
    value: Mutex<A>,
}

/// The accumulators of this process, for those that come back to it.
static KNOWN: Mutex<BTreeMap<Id, Weak<dyn Known>>> = Mutex::new(BTreeMap::new());

/// An accumulator of any kind.
trait Known: Any + Send + Sync {
    /// Adds what a task has added elsewhere.
    fn merge(&self, written: &[u8]) -> Result<()>;
}

impl<A: Accumulate> Known for Shared<A> {
    fn merge(&self, written: &[u8]) -> Result<()> {
        let part: A = codec::decode(written)?;
        lock(&self.value).merge(part);
        Ok(())
    }
}

/// Does what an [`Update`] wrote in another process. An accumulator that nobody holds any more is left out.
pub(crate) fn commit_written(update: &[u8]) -> Result<()> {
    let (id, part) = codec::decode_from::<Id>(update)?;
    let known = lock(&KNOWN).get(&id).and_then(Weak::upgrade);
    match known {
        // A closure of the program may run here, and panic.
        Some(known) => catch_unwind(AssertUnwindSafe(|| known.merge(part))).map_err(|payload| panicked(&*payload))?,
        None => Ok(()),
    }
}

/// A number that no other process has.
pub(crate) fn this_process() -> u64 {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    *PROCESS.get_or_init(|| {
        let stamp = (std::process::id(), crate::clock::wall_time().as_millis());
        crate::partitioner::key_hash(&stamp)
    })
}

impl<A> Drop for Shared<A> {
    fn drop(&mut self) {
        let mut known = lock(&KNOWN);
        if known.get(&self.id).is_some_and(|weak| weak.strong_count() == 0) {
            known.remove(&self.id);
        }
    }
}

impl Context {
    /// Makes an accumulator of whole numbers, which begins with 0.
    ///
    /// # Spark
    ///
    /// `SparkContext.longAccumulator`, CX14.
    pub fn long_accumulator(&self, name: &str) -> LongAccumulator {
        self.register(Sum::default(), name)
    }

    /// Makes an accumulator of floating numbers, which begins with 0.
    ///
    /// # Spark
    ///
    /// `SparkContext.doubleAccumulator`, CX14.
    pub fn double_accumulator(&self, name: &str) -> DoubleAccumulator {
        self.register(Sum::default(), name)
    }

    /// Makes an accumulator that collects what is added, in any order.
    ///
    /// # Spark
    ///
    /// `SparkContext.collectionAccumulator`, CX14.
    pub fn collection_accumulator<T: ExchangeData>(&self, name: &str) -> CollectionAccumulator<T> {
        self.register(Vec::new(), name)
    }

    /// Makes an accumulator of the program's own kind, which begins with `start`.
    ///
    /// # Spark
    ///
    /// `SparkContext.register`, CX14.
    pub fn register<A: Accumulate>(&self, start: A, name: &str) -> Accumulator<A> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = Id { process: this_process(), number: NEXT.fetch_add(1, Ordering::Relaxed) };
        Accumulator::made(id, name.to_owned(), start.zero(), start)
    }
}

impl<A: Accumulate> Accumulator<A> {
    fn made(id: Id, name: String, zero: A, value: A) -> Accumulator<A> {
        let shared = Arc::new(Shared { id, name, zero, value: Mutex::new(value) });
        let weak: Weak<dyn Known> = Arc::downgrade(&(Arc::clone(&shared) as Arc<dyn Known>));
        lock(&KNOWN).insert(id, weak);
        Accumulator { shared }
    }

    /// Adds something: within a task to what the task will count when it has succeeded, else at once.
    pub fn add(&self, item: A::In) {
        match TaskContext::current() {
            Some(task) => task.updates().with(self.place(), || self.part(), |part: &mut Part<A>| part.value.add(item)),
            None => lock(&self.shared.value).add(item),
        }
    }

    /// Returns what there is on the driver; within a task, what the task has added so far.
    ///
    /// # Spark
    ///
    /// `AccumulatorV2.value`, SV02.
    pub fn value(&self) -> A::Out {
        self.look(A::value)
    }

    /// Says whether nothing has been added. Spark's `isZero`, SV02.
    pub fn is_zero(&self) -> bool {
        self.look(A::is_zero)
    }

    /// Goes back to nothing. On the driver only; within a task it does nothing.
    ///
    /// # Spark
    ///
    /// `AccumulatorV2.reset`, SV02.
    pub fn reset(&self) {
        self.set(self.shared.zero.zero());
    }

    /// Returns the name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Returns the number, which no other accumulator of its process has. Spark's `id`, SV02.
    pub fn id(&self) -> u64 {
        self.shared.id.number
    }

    fn set(&self, value: A) {
        if TaskContext::current().is_none() {
            *lock(&self.shared.value) = value;
        }
    }

    fn look<R>(&self, look: impl Fn(&A) -> R) -> R {
        match TaskContext::current() {
            Some(task) => {
                let part = task.updates().look(self.place(), |part: &Part<A>| look(&part.value));
                part.unwrap_or_else(|| look(&self.shared.zero))
            }
            None => look(&lock(&self.shared.value)),
        }
    }

    fn place(&self) -> usize {
        Arc::as_ptr(&self.shared).addr()
    }

    fn part(&self) -> Part<A> {
        Part { of: Arc::clone(&self.shared), value: self.shared.zero.zero() }
    }
}

/// What one task has added.
struct Part<A> {
    of: Arc<Shared<A>>,
    value: A,
}

impl<A: Accumulate> Update for Part<A> {
    fn commit(self: Box<Self>) {
        lock(&self.of.value).merge(self.value);
    }

    fn target(&self) -> usize {
        Arc::as_ptr(&self.of).addr()
    }

    fn written(&self) -> Result<Vec<u8>> {
        codec::encode_onto(&self.value, codec::encode(&self.of.id)?)
    }
}

impl<A> Clone for Accumulator<A> {
    fn clone(&self) -> Accumulator<A> {
        Accumulator { shared: Arc::clone(&self.shared) }
    }
}

impl<A> fmt::Debug for Accumulator<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Accumulator({}, {:?})", self.shared.id.number, self.shared.name)
    }
}

/// What travels is the name of it: a task adds to the accumulator that its process knows by it.
impl<A: Accumulate> Serialize for Accumulator<A> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        (self.shared.id, &self.shared.name, &self.shared.zero).serialize(serializer)
    }
}

impl<'de, A: Accumulate> Deserialize<'de> for Accumulator<A> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Accumulator<A>, D::Error> {
        let (id, name, zero): (Id, String, A) = Deserialize::deserialize(deserializer)?;
        let known = lock(&KNOWN).get(&id).and_then(Weak::upgrade);
        match known.map(|known| Arc::downcast::<Shared<A>>(known as Arc<dyn Any + Send + Sync>)) {
            Some(Ok(shared)) => Ok(Accumulator { shared }),
            Some(Err(_)) => Err(serde::de::Error::custom(format!("accumulator `{name}` is of another type"))),
            None => Ok(Accumulator::made(id, name, zero.zero(), zero)),
        }
    }
}

/// A sum of numbers, and how many they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sum<N> {
    sum: N,
    count: u64,
}

macro_rules! sum {
    ($number:ty, $plus:expr) => {
        impl Accumulate for Sum<$number> {
            type In = $number;
            type Out = $number;

            fn zero(&self) -> Sum<$number> {
                Sum::default()
            }

            fn is_zero(&self) -> bool {
                self.count == 0
            }

            fn add(&mut self, item: $number) {
                self.merge(Sum { sum: item, count: 1 });
            }

            fn merge(&mut self, other: Sum<$number>) {
                self.sum = $plus(self.sum, other.sum);
                self.count += other.count;
            }

            fn value(&self) -> $number {
                self.sum
            }
        }

        impl Accumulator<Sum<$number>> {
            /// Returns the sum. As [`value`](Self::value).
            pub fn sum(&self) -> $number {
                self.value()
            }

            /// Returns how many numbers were added.
            pub fn count(&self) -> u64 {
                self.look(|sum| sum.count)
            }

            /// Returns the mean of the numbers; NaN if there is none.
            pub fn avg(&self) -> f64 {
                self.look(|sum| sum.sum as f64 / sum.count as f64)
            }
        }
    };
}

// As in Spark, a sum that is too large begins at the other end.
sum!(i64, i64::wrapping_add);
sum!(f64, std::ops::Add::add);

impl<T: ExchangeData> Accumulate for Vec<T> {
    type In = T;
    type Out = Vec<T>;

    fn zero(&self) -> Vec<T> {
        Vec::new()
    }

    fn is_zero(&self) -> bool {
        self.is_empty()
    }

    fn add(&mut self, item: T) {
        self.push(item);
    }

    fn merge(&mut self, other: Vec<T>) {
        self.extend(other);
    }

    fn value(&self) -> Vec<T> {
        self.clone()
    }
}
