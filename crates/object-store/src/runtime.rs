//! The one thread on which requests run: the engine waits at this border, and knows nothing of async.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::mpsc;

use millstream_core::threads::{self, OwnedThread, lock};
use millstream_core::{Error, ErrorKind, Result};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

type Request = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A thread that runs requests, many at a time.
pub(crate) struct Runtime {
    requests: Mutex<Option<UnboundedSender<Request>>>,
    thread: Mutex<Option<OwnedThread>>,
}

impl Runtime {
    pub(crate) fn start() -> Result<Runtime> {
        let (requests, mut asked) = unbounded_channel::<Request>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .thread_name("object-store-names")
            .build()
            .map_err(|e| Error::io(ErrorKind::Unavailable, "no runtime for requests could be made".to_owned(), e))?;
        let thread = threads::spawn("object-store", move || {
            runtime.block_on(async move {
                while let Some(request) = asked.recv().await {
                    tokio::spawn(request);
                }
            });
        })?;
        Ok(Runtime { requests: Mutex::new(Some(requests)), thread: Mutex::new(Some(thread)) })
    }

    /// Runs a request and waits for its answer.
    pub(crate) fn wait<T: Send + 'static>(&self, request: impl Future<Output = T> + Send + 'static) -> Result<T> {
        let (tell, told) = mpsc::sync_channel(1);
        let request: Request = Box::pin(async move {
            let _ = tell.send(request.await);
        });
        let ended = || Error::new(ErrorKind::Stopped, "the thread that speaks to the object store has ended");
        match &*lock(&self.requests) {
            Some(requests) => requests.send(request).map_err(|_| ended())?,
            None => return Err(ended()),
        }
        told.recv().map_err(|_| ended())
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        lock(&self.requests).take();
        if let Some(thread) = lock(&self.thread).take() {
            thread.join();
        }
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Runtime")
    }
}
