//! A bucket that is only read: what is in it, and whether it is what it was.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use millstream_core::{Error, ErrorKind, Result};
use object_store::path::Path as Key;
use object_store::{Error as StoreError, ObjectMeta, ObjectStore, ObjectStoreExt};

use crate::disk::{failed, opened};
use crate::runtime::Runtime;

/// How many objects are read at once.
const AT_ONCE: usize = 16;

/// The objects of a bucket, to be listed and read. It is cheap to clone.
///
/// # Example
///
/// ```
/// use std::sync::Arc;
/// use millstream_object_store::Bucket;
/// use millstream_object_store::object_store::memory::InMemory;
///
/// let bucket = Bucket::on(Arc::new(InMemory::new()))?;
/// assert!(bucket.list("tables/limits")?.is_empty());
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Errors
///
/// The kind is `Unavailable`: the store does not answer, after as many tries as its client makes.
///
/// # Cost
///
/// A request for each thousand objects that are listed, and for each that is read; 16 are read at once.
#[derive(Clone)]
pub struct Bucket {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    runtime: Runtime,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.shared.store)
    }
}

/// An object as it was when it was listed: two that are equal were not written in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name in the bucket.
    pub key: String,
    /// How many bytes it has.
    pub size: u64,
    e_tag: Option<String>,
    /// In milliseconds.
    modified: i64,
}

impl Listed {
    fn of(meta: ObjectMeta) -> Listed {
        let ObjectMeta { location, size, e_tag, last_modified, .. } = meta;
        Listed { key: location.into(), size, e_tag, modified: last_modified.timestamp_millis() }
    }

    /// Says whether what was read is what was listed. A store that gives no tag tells times to the second where it gives the object.
    fn is(&self, read: &ObjectMeta) -> bool {
        let same = match (&self.e_tag, &read.e_tag) {
            (Some(listed), Some(read)) => listed == read,
            _ => self.modified / 1000 == read.last_modified.timestamp(),
        };
        same && self.size == read.size
    }
}

impl Bucket {
    /// Opens the bucket of an address, `s3://BUCKET/…`, with the settings of the environment, as [`ObjectDisk::open`](crate::ObjectDisk::open).
    ///
    /// # Errors
    ///
    /// The kind is `Config`: it is no such address, or something is missing.
    pub fn open(address: &str) -> Result<Bucket> {
        Bucket::on(opened(address)?.0)
    }

    /// Takes a store that is open.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: there is no thread.
    pub fn on(store: Arc<dyn ObjectStore>) -> Result<Bucket> {
        Ok(Bucket { shared: Arc::new(Shared { store, runtime: Runtime::start()? }) })
    }

    /// Lists all objects in a folder, and in the folders in it, by their names; of `""`, all that there are.
    ///
    /// # Errors
    ///
    /// As the bucket's; the kind is `Config`: it is no name of a folder.
    pub fn list(&self, folder: &str) -> Result<Vec<Listed>> {
        let (key, store) = (parsed(folder)?, Arc::clone(&self.shared.store));
        let listed = self.shared.runtime.wait(async move {
            let within = Some(key).filter(|key| !key.as_ref().is_empty());
            store.list(within.as_ref()).try_collect::<Vec<_>>().await
        })?;
        let listed = listed.map_err(|e| failed("listed", Path::new(folder), &e))?;
        let mut listed: Vec<Listed> = listed.into_iter().map(Listed::of).collect();
        listed.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(listed)
    }

    /// Looks at one object, if it is there.
    ///
    /// # Errors
    ///
    /// As [`list`](Self::list)'s.
    pub fn look_at(&self, key: &str) -> Result<Option<Listed>> {
        let (at, store) = (parsed(key)?, Arc::clone(&self.shared.store));
        match self.shared.runtime.wait(async move { store.head(&at).await })? {
            Ok(meta) => Ok(Some(Listed::of(meta))),
            Err(StoreError::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("looked at", Path::new(key), &error)),
        }
    }

    /// Reads objects as they were listed. One that has changed since, or is gone, is `None`.
    ///
    /// # Errors
    ///
    /// As the bucket's.
    pub fn read(&self, listed: &[Listed]) -> Result<Vec<Option<Bytes>>> {
        let (store, listed) = (Arc::clone(&self.shared.store), listed.to_vec());
        self.shared.runtime.wait(async move {
            let one = |object: Listed| {
                let store = Arc::clone(&store);
                async move {
                    let bad = |e: StoreError| failed("read", Path::new(&object.key), &e);
                    match store.get(&parsed(&object.key)?).await {
                        Ok(read) if !object.is(&read.meta) => Ok(None),
                        Ok(read) => read.bytes().await.map(Some).map_err(bad),
                        Err(StoreError::NotFound { .. }) => Ok(None),
                        Err(error) => Err(bad(error)),
                    }
                }
            };
            futures_util::stream::iter(listed).map(one).buffered(AT_ONCE).try_collect().await
        })?
    }
}

fn parsed(key: &str) -> Result<Key> {
    Key::parse(key).map_err(|e| Error::new(ErrorKind::Config, format!("{key} is no name of an object: {e}")))
}
