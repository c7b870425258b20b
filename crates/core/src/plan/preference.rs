//! Where a partition would best be read.

use std::hash::Hash;

use crate::partitioner::key_hash;

/// Where a [split](crate::InputSplit) would best be read, where tasks run in several processes: always in the same one, and, if
/// that is said, on one of some hosts. Whoever places tasks keeps to it as long as there is room; nothing waits for it.
///
/// # Example
///
/// ```
/// use millstream_core::Preference;
///
/// // Partition 3 of a topic keeps its connection and what it has fetched.
/// let anywhere = Preference::same(&("clicks", 3));
/// // Beside the broker that leads it.
/// let beside = Preference::same(&("clicks", 3)).on(["broker-2"]);
/// assert_eq!((anywhere.key, anywhere.hosts.len(), beside.hosts.len()), (beside.key, 0, 1));
/// ```
///
/// # Spark
///
/// `RDD.getPreferredLocations`; the key is what the connector of Kafka hashes over the executors itself (R-62).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Preference {
    /// What has the same key is read in the same place, if it can be.
    pub key: u64,
    /// Names or addresses of hosts; anywhere if there are none.
    pub hosts: Vec<String>,
}

impl Preference {
    /// Prefers the place where what is called so was read before.
    pub fn same<K: Hash + 'static>(name: &K) -> Preference {
        Preference { key: key_hash(name), hosts: Vec::new() }
    }

    /// Prefers some hosts.
    #[must_use]
    pub fn on<S: Into<String>>(self, hosts: impl IntoIterator<Item = S>) -> Preference {
        Preference { hosts: hosts.into_iter().map(Into::into).collect(), ..self }
    }
}
