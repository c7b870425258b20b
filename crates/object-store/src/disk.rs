//! A bucket as a disk: files are objects, written whole; the next number of a log is for whoever puts it first.
//!
//! ```text
//! PREFIX/DIR/era-0/log/log-…, …          as in a folder of files (docs/specs/checkpoint.md)
//! PREFIX/DIR/era-<n>/begun               somebody began anew, for the n-th time: what counts lies in the last era
//! PREFIX/DIR/era-<n>/log/log-…, …
//! PREFIX/DIR/era-<n>/ended               of an earlier era: its log takes no record any more, and all else is removed
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use millstream_core::disk::{Disk, DiskFile, DiskLock, ENDED, Objects};
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as Key;
use object_store::{
    Attribute, Attributes, Error as StoreError, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload,
};

use crate::runtime::Runtime;

/// The name under which an object says who put it.
const WRITER: &str = "millstream-writer";

/// How often a put is tried that fails without an answer that says why.
const TRIES: usize = 3;

/// What an era begins with, but for the first.
const BEGUN: &str = "begun";

/// The folders of one prefix of a bucket, for `StreamingContextBuilder::with_disk`.
///
/// It is cheap to clone. Paths are names below the prefix; whether they begin with `/` makes no difference.
///
/// # Errors
///
/// As [`Disk`]; `Data`, too, where another process has put what this one was about to.
///
/// # Cost
///
/// A request for each file that is read, written or removed, and one for each folder that is listed. What is appended is held in
/// memory until it is synced.
#[derive(Clone)]
pub struct ObjectDisk {
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn ObjectStore>,
    prefix: String,
    runtime: Runtime,
    /// This process, and nobody else: to know what it has put itself.
    writer: String,
    /// The era of each folder that a lock was taken on.
    eras: Mutex<BTreeMap<PathBuf, u64>>,
    /// The folders that somebody goes on in.
    held: Mutex<BTreeSet<PathBuf>>,
}

impl fmt::Debug for ObjectDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectDisk({}, {})", self.shared.store, self.shared.prefix)
    }
}

/// A name that no other process has: of the system's randomness.
fn some_name() -> String {
    format!("{:016x}{:016x}", RandomState::new().hash_one(0), RandomState::new().hash_one(1))
}

impl ObjectDisk {
    /// Opens a bucket by its address: `s3://BUCKET/PREFIX`.
    ///
    /// Region, endpoint and keys are those of the environment, as other programs for S3 read them: `AWS_REGION`,
    /// `AWS_ENDPOINT`, `AWS_ACCESS_KEY_ID` and so on, or the machine's role. For other stores and settings see [`on`](Self::on).
    ///
    /// # Errors
    ///
    /// The kind is `Config`: it is no such address, or something is missing.
    pub fn open(address: &str) -> Result<ObjectDisk> {
        let wrong = |what: &str| Error::new(ErrorKind::Config, format!("{address} {what}"));
        if address.starts_with("file://") || address.starts_with('/') {
            return Err(wrong(
                "is a folder, and needs no object store: give its path to checkpoint(…) or get_or_create(…)",
            ));
        }
        let (store, prefix) = opened(address)?;
        ObjectDisk::on(store, prefix)
    }

    /// Takes a store that is open, and a prefix in it. It must put *if absent* ([`PutMode::Create`]) and keep attributes of
    /// objects: S3, Google's and Azure's do, and what is in memory; a folder of files does not.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the prefix has a part that no name of an object has; `Unavailable`: there is no thread.
    pub fn on(store: Arc<dyn ObjectStore>, prefix: &str) -> Result<ObjectDisk> {
        let prefix = prefix.trim_matches('/').to_owned();
        Key::parse(&prefix)
            .map_err(|e| Error::new(ErrorKind::Config, format!("{prefix} is no prefix of objects: {e}")))?;
        let runtime = Runtime::start()?;
        let (writer, eras, held) = (some_name(), Mutex::default(), Mutex::default());
        Ok(ObjectDisk { shared: Arc::new(Shared { store, prefix, runtime, writer, eras, held }) })
    }

    /// Where a path is: what lies below a folder with eras is in the last of them, unless another is named.
    fn key(&self, path: &Path) -> Result<Key> {
        let mut placed = path.to_owned();
        for (folder, era) in &*lock(&self.shared.eras) {
            if let Ok(rest) = path.strip_prefix(folder)
                && rest.components().next().and_then(|first| era_of(&first.as_os_str().to_string_lossy())).is_none()
            {
                placed = folder.join(era_name(*era)).join(rest);
            }
        }
        let mut parts = vec![self.shared.prefix.clone()];
        for part in placed.components() {
            match part {
                Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
                Component::RootDir | Component::CurDir => {}
                Component::ParentDir | Component::Prefix(_) => {
                    let text = format!("{} is no name of an object: it has .. in it", path.display());
                    return Err(Error::new(ErrorKind::Config, text));
                }
            }
        }
        parts.retain(|part| !part.is_empty());
        Key::parse(parts.join("/"))
            .map_err(|e| Error::new(ErrorKind::Config, format!("{} is no name of an object: {e}", path.display())))
    }

    fn ask<T, F>(&self, request: impl FnOnce(Arc<dyn ObjectStore>) -> F) -> Result<object_store::Result<T>>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        self.shared.runtime.wait(request(Arc::clone(&self.shared.store)))
    }

    /// Puts an object where there is none. That this process has put it already, and was not told, is fine.
    fn put_absent(&self, path: &Path, bytes: &Bytes) -> Result<()> {
        let key = self.key(path)?;
        let (writer, mut tries) = (self.shared.writer.clone(), 0);
        loop {
            let mut attributes = Attributes::new();
            attributes.insert(Attribute::Metadata(WRITER.into()), writer.clone().into());
            let options = PutOptions { mode: PutMode::Create, attributes, ..PutOptions::default() };
            let (at, payload) = (key.clone(), PutPayload::from_bytes(bytes.clone()));
            let put = self.ask(|store| async move { store.put_opts(&at, payload, options).await })?;
            tries += 1;
            match put {
                Ok(_) => return Ok(()),
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => {
                    if self.is_by(&writer, path, &key, bytes.len())? {
                        return Ok(());
                    }
                    // Nothing is there: another request for it was under way, and came to nothing.
                    if tries >= TRIES {
                        let text = format!("object {key} is refused as if it were there, and is not");
                        return Err(Error::new(ErrorKind::Unavailable, text));
                    }
                }
                Err(error) if tries >= TRIES => return Err(failed("put", path, &error)),
                Err(error) => tracing::warn!(object = %key, %error, "a put failed, and is tried again"),
            }
        }
    }

    /// Says whether the object was put by `writer`, and `false` if there is none. That it is another's is an error.
    fn is_by(&self, writer: &str, path: &Path, key: &Key, len: usize) -> Result<bool> {
        let at = key.clone();
        let head = GetOptions { head: true, ..GetOptions::default() };
        let found = self.ask(|store| async move { store.get_opts(&at, head).await })?;
        let found = match found {
            Ok(found) => found,
            Err(StoreError::NotFound { .. }) => return Ok(false),
            Err(error) => return Err(failed("looked at", path, &error)),
        };
        let by = found.attributes.get(&Attribute::Metadata(WRITER.into()));
        if by.is_some_and(|by| by.as_ref() == writer) && found.meta.size == len as u64 {
            return Ok(true);
        }
        let text =
            format!("object {key} is there already: another process goes on in this place, and this one is not to");
        Err(Error::new(ErrorKind::Data, text))
    }

    /// Returns the eras of a folder that have an object.
    fn eras(&self, folder: &Path) -> Result<Vec<u64>> {
        let names = self.names(&self.plain_key(folder)?, folder)?;
        Ok(names.iter().filter_map(|name| era_of(name)).collect())
    }

    /// Returns the last era of a folder; 0 if nobody ever began anew.
    fn last_era(&self, folder: &Path) -> Result<u64> {
        Ok(self.eras(folder)?.into_iter().max().unwrap_or(0))
    }

    /// Where a folder is itself, whatever its era.
    fn plain_key(&self, folder: &Path) -> Result<Key> {
        let era = self.key(&folder.join(era_name(0)))?;
        let plain = era.as_ref().rsplit_once('/').map_or("", |(plain, _)| plain);
        Key::parse(plain).map_err(|e| Error::new(ErrorKind::Config, format!("{plain} is no name of an object: {e}")))
    }

    fn names(&self, key: &Key, folder: &Path) -> Result<Vec<String>> {
        let at = key.clone();
        let found = self.ask(|store| async move { store.list_with_delimiter(Some(&at)).await })?;
        let found = found.map_err(|e| failed("listed", folder, &e))?;
        let objects = found.objects.into_iter().map(|object| object.location);
        let name = |key: Key| key.filename().map(str::to_owned);
        let mut names: Vec<String> = objects.chain(found.common_prefixes).filter_map(name).collect();
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

/// Opens the bucket of an address with the settings of the environment; returns the rest of the address, too.
pub(crate) fn opened(address: &str) -> Result<(Arc<dyn ObjectStore>, &str)> {
    let wrong = |what: &str| Error::new(ErrorKind::Config, format!("{address} {what}"));
    let rest = address.strip_prefix("s3://").or_else(|| address.strip_prefix("s3a://"));
    let (bucket, prefix) = match rest.map(|rest| rest.split_once('/').unwrap_or((rest, ""))) {
        // It would be told in errors, with the secret in it.
        Some((bucket, _)) if bucket.contains(['@', ':']) => {
            let text = "an address of a bucket has no keys in it: give them by the environment (AWS_ACCESS_KEY_ID, \
                        AWS_SECRET_ACCESS_KEY), and the address as s3://BUCKET/PREFIX";
            return Err(Error::new(ErrorKind::Config, text));
        }
        Some((bucket, prefix)) if !bucket.is_empty() => (bucket, prefix),
        _ => return Err(wrong("is not the address of a bucket: s3://BUCKET/PREFIX")),
    };
    let store = AmazonS3Builder::from_env().with_bucket_name(bucket).build();
    let store = store.map_err(|e| wrong(&format!("cannot be opened: {e}")))?;
    Ok((Arc::new(store), prefix))
}

fn era_name(era: u64) -> String {
    format!("era-{era}")
}

fn era_of(name: &str) -> Option<u64> {
    name.strip_prefix("era-")?.parse().ok()
}

/// Says what could not be done with which object.
pub(crate) fn failed(what: &str, path: &Path, error: &StoreError) -> Error {
    let kind = match error {
        StoreError::NotFound { .. } => ErrorKind::Data,
        StoreError::InvalidPath { .. } | StoreError::NotSupported { .. } | StoreError::NotImplemented { .. } => {
            ErrorKind::Config
        }
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("object {} could not be {what}: {error}", path.display()))
}

fn not_done(what: &str, path: &Path) -> Error {
    Error::new(ErrorKind::Config, format!("an object cannot be {what}: {}", path.display()))
}

impl Disk for ObjectDisk {
    /// Asks nobody: whether there is one is found by the sync.
    fn create(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        let (disk, path) = (self.clone(), path.to_owned());
        Ok(Box::new(NewObject { disk, path, bytes: Vec::new(), is_put: false }))
    }

    fn open_append(&self, path: &Path) -> Result<Box<dyn DiskFile>> {
        Err(not_done("appended to", path))
    }

    fn read(&self, path: &Path) -> Result<Vec<u8>> {
        let key = self.key(path)?;
        let bytes = self.ask(|store| async move { store.get(&key).await?.bytes().await })?;
        bytes.map(Vec::from).map_err(|e| failed("read", path, &e))
    }

    fn read_at(&self, path: &Path, offset: u64, len: usize) -> Result<Vec<u8>> {
        let short = |there: u64| {
            let text = format!("object {} has no {len} bytes at {offset}: it has {there}", path.display());
            Error::new(ErrorKind::Data, text)
        };
        let Some(end) = offset.checked_add(len as u64) else { return Err(short(self.len(path)?)) };
        if len == 0 {
            let there = self.len(path)?;
            return if end <= there { Ok(Vec::new()) } else { Err(short(there)) };
        }
        let key = self.key(path)?;
        match self.ask(|store| async move { store.get_range(&key, offset..end).await })? {
            Ok(bytes) if bytes.len() == len => Ok(bytes.into()),
            // What is asked for behind the end is refused in other words by each store.
            Ok(_) => Err(short(self.len(path)?)),
            Err(error) => match self.len(path)? {
                there if end > there => Err(short(there)),
                _ => Err(failed("read", path, &error)),
            },
        }
    }

    fn len(&self, path: &Path) -> Result<u64> {
        let key = self.key(path)?;
        let meta = self.ask(|store| async move { store.head(&key).await })?;
        meta.map(|meta| meta.size).map_err(|e| failed("looked at", path, &e))
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        let key = self.key(path)?;
        match self.ask(|store| async move { store.head(&key).await })? {
            Ok(_) => Ok(true),
            Err(StoreError::NotFound { .. }) => Ok(!self.list(path)?.is_empty()),
            Err(error) => Err(failed("looked for", path, &error)),
        }
    }

    fn list(&self, folder: &Path) -> Result<Vec<String>> {
        self.names(&self.key(folder)?, folder)
    }

    fn rename(&self, from: &Path, _: &Path) -> Result<()> {
        Err(not_done("renamed", from))
    }

    fn remove_file(&self, path: &Path) -> Result<()> {
        let key = self.key(path)?;
        match self.ask(|store| async move { store.delete(&key).await })? {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("removed", path, &error)),
        }
    }

    fn remove_folder(&self, path: &Path) -> Result<()> {
        let key = self.key(path)?;
        let removed = self.ask(|store| async move {
            let found: Vec<_> = store.list(Some(&key)).map_ok(|object| object.location).try_collect().await?;
            let found = futures_util::stream::iter(found.into_iter().map(Ok)).boxed();
            store.delete_stream(found).try_for_each(|_| async { Ok(()) }).await
        })?;
        match removed {
            Ok(()) | Err(StoreError::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("removed", path, &error)),
        }
    }

    /// Does nothing: a folder is there with its first object.
    fn create_folder(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn truncate(&self, path: &Path, _: u64) -> Result<()> {
        Err(not_done("cut", path))
    }

    /// Does nothing: names are durable with their objects.
    fn sync_folder(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn objects(&self) -> Option<&dyn Objects> {
        Some(self)
    }

    /// Keeps no other process out: it finds the era of the lock's folder. Of this disk and its clones one goes on in a folder; two
    /// could not be told from each other.
    fn lock(&self, path: &Path) -> Result<Option<Box<dyn DiskLock>>> {
        let folder = path.parent().unwrap_or(path).to_owned();
        if !lock(&self.shared.held).insert(folder.clone()) {
            return Ok(None);
        }
        let era = match self.last_era(&folder) {
            Ok(era) => era,
            Err(error) => {
                lock(&self.shared.held).remove(&folder);
                return Err(error);
            }
        };
        self.enter(&folder, era);
        Ok(Some(Box::new(Era { disk: self.clone(), folder, era: Mutex::new(era) })))
    }
}

impl ObjectDisk {
    fn enter(&self, folder: &Path, era: u64) {
        lock(&self.shared.eras).insert(folder.to_owned(), era);
    }
}

impl Objects for ObjectDisk {
    fn put(&self, path: &Path, parts: &[&[u8]]) -> Result<()> {
        let key = self.key(path)?;
        let bytes = Bytes::from(parts.concat());
        let put = self.ask(|store| async move { store.put(&key, PutPayload::from_bytes(bytes)).await })?;
        put.map(drop).map_err(|e| failed("put", path, &e))
    }
}

/// What will be an object with its first sync.
struct NewObject {
    disk: ObjectDisk,
    path: PathBuf,
    bytes: Vec<u8>,
    is_put: bool,
}

impl fmt::Debug for NewObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewObject({})", self.path.display())
    }
}

impl DiskFile for NewObject {
    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        if self.is_put {
            return Err(not_done("appended to", &self.path));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> Result<()> {
        if !self.is_put {
            self.disk.put_absent(&self.path, &Bytes::copy_from_slice(&self.bytes))?;
            self.is_put = true;
        }
        Ok(())
    }

    fn len(&self) -> u64 {
        self.bytes.len() as u64
    }
}

/// The era of a folder that a process goes on in.
#[derive(Debug)]
struct Era {
    disk: ObjectDisk,
    folder: PathBuf,
    era: Mutex<u64>,
}

impl Drop for Era {
    fn drop(&mut self) {
        lock(&self.disk.shared.held).remove(&self.folder);
    }
}

impl DiskLock for Era {
    fn check(&self) -> Result<()> {
        if self.disk.last_era(&self.folder)? == *lock(&self.era) {
            return Ok(());
        }
        let text = format!("another process has begun anew in {} meanwhile; start again", self.folder.display());
        Err(Error::new(ErrorKind::Data, text))
    }

    fn begin_anew(&self) -> Result<bool> {
        let mut era = lock(&self.era);
        if self.disk.list(&self.folder)?.is_empty() {
            return Ok(false);
        }
        let next = self.folder.join(era_name(*era + 1));
        self.disk.put_absent(&next.join(BEGUN), &Bytes::from_static(b"anew\n"))?;
        *era += 1;
        self.disk.enter(&self.folder, *era);
        Ok(true)
    }

    fn void(&self) -> Result<Vec<PathBuf>> {
        let era = *lock(&self.era);
        let mut void = Vec::new();
        for earlier in self.disk.eras(&self.folder)?.into_iter().filter(|earlier| *earlier < era) {
            let folder = self.folder.join(era_name(earlier));
            if !self.disk.exists(&folder.join(ENDED))? {
                void.push(folder);
            }
        }
        Ok(void)
    }
}
