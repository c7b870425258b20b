//! Broadcast variables: a value for all tasks, once a process.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::accumulator::this_process;
use crate::codec;
use crate::context::Context;
use crate::data::ExchangeData;
use crate::threads::lock;

/// A value that all tasks read, kept once in each process.
///
/// Cloning it is cheap. In a closure it is named with [`capture`](crate::capture), like all that travels; it is written
/// once and, where it arrives, read once a process. It lives until the last handle on it is gone, so it cannot be used
/// after it was destroyed: the compiler refuses that.
///
/// # Example
///
/// ```
/// use std::collections::HashMap;
/// use millstream_core::capture;
///
/// # let context = millstream_core::Context::new("local[2]", "doc")?;
/// let names: HashMap<u32, String> = [(1, "one".to_owned()), (2, "two".to_owned())].into();
/// let names = context.broadcast(names);
/// let numbers = context.parallelize(vec![2, 1, 2], 2);
/// let named = numbers.map(capture(names.clone(), |names, n: u32| names.get(&n).cloned().unwrap_or_default()));
/// assert_eq!(named.collect()?, ["two", "one", "two"]);
/// names.destroy();
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Cost
///
/// On the threads of one process nothing is copied: a closure that captures an `Arc` does as well there.
///
/// # Spark
///
/// `Broadcast`, SV01.
pub struct Broadcast<T> {
    shared: Arc<Shared<T>>,
}

/// Names a value among all processes: the process it comes from, and a number in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Id {
    process: u64,
    number: u64,
}

struct Shared<T> {
    id: Id,
    value: T,
    /// What travels: written when it first does.
    written: OnceLock<Arc<[u8]>>,
}

/// The values that this process has.
static KNOWN: Mutex<BTreeMap<Id, Weak<dyn Any + Send + Sync>>> = Mutex::new(BTreeMap::new());

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        let mut known = lock(&KNOWN);
        if known.get(&self.id).is_some_and(|weak| weak.strong_count() == 0) {
            known.remove(&self.id);
        }
    }
}

impl Context {
    /// Makes a value for all tasks to read.
    ///
    /// An Rdd is none: it does not compile.
    ///
    /// # Spark
    ///
    /// `SparkContext.broadcast`, CX13.
    pub fn broadcast<T: ExchangeData>(&self, value: T) -> Broadcast<T> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let id = Id { process: this_process(), number: NEXT.fetch_add(1, Ordering::Relaxed) };
        Broadcast::made(id, value, OnceLock::new())
    }
}

impl<T: ExchangeData> Broadcast<T> {
    fn made(id: Id, value: T, written: OnceLock<Arc<[u8]>>) -> Broadcast<T> {
        let shared = Arc::new(Shared { id, value, written });
        let weak: Weak<dyn Any + Send + Sync> = Arc::downgrade(&(Arc::clone(&shared) as Arc<dyn Any + Send + Sync>));
        lock(&KNOWN).insert(id, weak);
        Broadcast { shared }
    }
}

impl<T> Broadcast<T> {
    /// Returns the value. A handle stands for its value: `names.get(…)` does too.
    ///
    /// # Spark
    ///
    /// `Broadcast.value`, SV01.
    pub fn value(&self) -> &T {
        &self.shared.value
    }

    /// Returns the number, which no other broadcast of its process has.
    ///
    /// # Spark
    ///
    /// `Broadcast.id`, SV01.
    pub fn id(&self) -> u64 {
        self.shared.id.number
    }

    /// Gives this handle up. The value is freed when closures and clones that hold it are gone too.
    ///
    /// # Spark
    ///
    /// `Broadcast.destroy` and `unpersist`, SV01.
    pub fn destroy(self) {}
}

impl<T> Deref for Broadcast<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.shared.value
    }
}

impl<T> Clone for Broadcast<T> {
    fn clone(&self) -> Broadcast<T> {
        Broadcast { shared: Arc::clone(&self.shared) }
    }
}

impl<T> fmt::Debug for Broadcast<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Broadcast({})", self.shared.id.number)
    }
}

impl<T: ExchangeData> Serialize for Broadcast<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let bytes = match self.shared.written.get() {
            Some(bytes) => bytes,
            None => {
                let bytes = codec::encode(&self.shared.value).map_err(serde::ser::Error::custom)?;
                self.shared.written.get_or_init(|| bytes.into())
            }
        };
        (self.shared.id, bytes).serialize(serializer)
    }
}

impl<'de, T: ExchangeData> Deserialize<'de> for Broadcast<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Broadcast<T>, D::Error> {
        let (id, bytes): (Id, Arc<[u8]>) = Deserialize::deserialize(deserializer)?;
        let known = lock(&KNOWN).get(&id).and_then(Weak::upgrade);
        if let Some(Ok(shared)) = known.map(Arc::downcast::<Shared<T>>) {
            return Ok(Broadcast { shared });
        }
        let value = codec::decode(&bytes).map_err(serde::de::Error::custom)?;
        Ok(Broadcast::made(id, value, OnceLock::from(bytes)))
    }
}
