//! A store between whose requests something happens.

use std::fmt;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use millstream_object_store::object_store::path::Path as Key;
use millstream_object_store::object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};

type Stream<T> = Pin<Box<dyn futures_util::Stream<Item = Result<T>> + Send>>;

/// A store as one process sees it: before each of its requests others may do something.
pub(crate) struct Watched {
    inner: Arc<dyn ObjectStore>,
    requests: AtomicU64,
    before: Box<dyn Fn(u64) + Send + Sync>,
}

impl Watched {
    /// `before` is called with the number of each request, from 1, before it is done.
    pub(crate) fn new(inner: &Arc<dyn ObjectStore>, before: impl Fn(u64) + Send + Sync + 'static) -> Arc<Watched> {
        Arc::new(Watched { inner: Arc::clone(inner), requests: AtomicU64::new(0), before: Box::new(before) })
    }

    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::SeqCst)
    }

    fn asked(&self) -> &dyn ObjectStore {
        (self.before)(self.requests.fetch_add(1, Ordering::SeqCst) + 1);
        &*self.inner
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watched")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, key: &Key, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.asked().put_opts(key, payload, options).await
    }

    async fn put_multipart_opts(&self, key: &Key, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.asked().put_multipart_opts(key, options).await
    }

    async fn get_opts(&self, key: &Key, options: GetOptions) -> Result<GetResult> {
        self.asked().get_opts(key, options).await
    }

    async fn get_ranges(&self, key: &Key, ranges: &[Range<u64>]) -> Result<Vec<bytes::Bytes>> {
        self.asked().get_ranges(key, ranges).await
    }

    fn delete_stream(&self, keys: Stream<Key>) -> Stream<Key> {
        self.asked().delete_stream(keys)
    }

    fn list(&self, prefix: Option<&Key>) -> Stream<ObjectMeta> {
        self.asked().list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Key>) -> Result<ListResult> {
        self.asked().list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Key, to: &Key, options: CopyOptions) -> Result<()> {
        self.asked().copy_opts(from, to, options).await
    }
}
