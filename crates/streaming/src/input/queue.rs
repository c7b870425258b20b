//! A queue of Rdds, a batch at a time: for tests, and for programs that make their own batches.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_core::{Context, Error, ErrorKind, ExchangeData, Rdd, Result, Time};

use super::{InputSource, Rate};

/// A queue of Rdds that a stream reads; more may be added at any time, from any thread.
///
/// # Example
///
/// ```
/// # use millstream_core::Context;
/// use millstream_streaming::RddQueue;
///
/// # let context = Context::new("local[1]", "doc")?;
/// let queue = RddQueue::new();
/// queue.push(context.parallelize(vec![1, 2, 3], 1));
/// assert_eq!(queue.len(), 1);
/// # Ok::<(), millstream_core::Error>(())
/// ```
pub struct RddQueue<T> {
    rdds: Arc<Mutex<VecDeque<Rdd<T>>>>,
}

impl<T> RddQueue<T> {
    /// Makes an empty queue.
    pub fn new() -> RddQueue<T> {
        RddQueue { rdds: Arc::default() }
    }

    /// Adds an Rdd at the end.
    pub fn push(&self, rdd: Rdd<T>) {
        lock(&self.rdds).push_back(rdd);
    }

    /// Returns how many Rdds no batch has been given yet.
    pub fn len(&self) -> usize {
        lock(&self.rdds).len()
    }

    /// Says whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<T> Clone for RddQueue<T> {
    fn clone(&self) -> RddQueue<T> {
        RddQueue { rdds: Arc::clone(&self.rdds) }
    }
}

impl<T> Default for RddQueue<T> {
    fn default() -> RddQueue<T> {
        RddQueue::new()
    }
}

impl<T> fmt::Debug for RddQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RddQueue({} waiting)", self.len())
    }
}

impl<T> FromIterator<Rdd<T>> for RddQueue<T> {
    fn from_iter<I: IntoIterator<Item = Rdd<T>>>(rdds: I) -> RddQueue<T> {
        RddQueue { rdds: Arc::new(Mutex::new(rdds.into_iter().collect())) }
    }
}

/// What a stream of a queue gives while the queue is empty (S-99).
#[derive(Clone, Debug)]
pub enum WhenEmpty<T> {
    /// An Rdd of one empty partition.
    OnePartition,
    /// An Rdd without partitions.
    NoPartitions,
    /// This Rdd.
    Default(Rdd<T>),
}

/// Gives the Rdds of a queue, one or all a batch. Spark's `QueueInputDStream`, IN05.
pub(crate) struct QueueSource<T> {
    queue: RddQueue<T>,
    one_at_a_time: bool,
    when_empty: WhenEmpty<T>,
    taken: BTreeMap<u64, Rdd<T>>,
    next: u64,
}

impl<T> QueueSource<T> {
    pub(crate) fn new(queue: RddQueue<T>, one_at_a_time: bool, when_empty: WhenEmpty<T>) -> QueueSource<T> {
        QueueSource { queue, one_at_a_time, when_empty, taken: BTreeMap::new(), next: 0 }
    }
}

impl<T: ExchangeData> InputSource for QueueSource<T> {
    type Item = T;
    /// The numbers of the Rdds in the queue.
    type Allocation = Vec<u64>;

    fn allocate(&mut self, _: Time, _: Option<Rate>) -> Result<Vec<u64>> {
        let mut rdds = lock(&self.queue.rdds);
        let count = if self.one_at_a_time { rdds.len().min(1) } else { rdds.len() };
        let mut numbers = Vec::new();
        for rdd in rdds.drain(..count) {
            self.taken.insert(self.next, rdd);
            numbers.push(self.next);
            self.next += 1;
        }
        Ok(numbers)
    }

    /// No batch is made again.
    fn notices_change(&self) -> bool {
        true
    }

    fn restore(&mut self, _: &[(Time, Vec<u64>)]) -> Result<()> {
        Err(Error::new(
            ErrorKind::Config,
            "queue_stream cannot go on from a checkpoint, since the queue is gone (S-101): give the stream a source that can \
             read again what it gave, or no checkpoint directory",
        ))
    }

    fn rdd(&self, allocation: &Vec<u64>, context: &Context) -> Result<Option<Rdd<T>>> {
        let rdds = allocation
            .iter()
            .map(|number| {
                self.taken.get(number).cloned().ok_or_else(|| {
                    Error::new(
                        ErrorKind::Data,
                        "queue_stream cannot give a batch again after a restart: the queue is gone",
                    )
                })
            })
            .collect::<Result<Vec<_>>>()?;
        Ok(Some(match (rdds.as_slice(), &self.when_empty) {
            ([], WhenEmpty::OnePartition) => context.parallelize(Vec::new(), 1),
            ([], WhenEmpty::NoPartitions) => context.empty(),
            ([], WhenEmpty::Default(rdd)) | ([rdd], _) => rdd.clone(),
            (several, _) => context.union(several),
        }))
    }

    fn forget(&mut self, allocation: &Vec<u64>) {
        for number in allocation {
            self.taken.remove(number);
        }
    }
}
