//! A thread of our own for what waits by blocking: who calls may be a thread of an async runtime, which must not.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use millstream_core::{Result, bug, threads};

/// Does something on a thread of its own, and waits for it.
///
/// # Errors
///
/// Those of `body`; the kind is `Unavailable` if the system gives no more threads, and `Internal` if it panics.
pub(crate) fn beside<T: Send + 'static>(name: &str, body: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let (tell, told) = mpsc::sync_channel(1);
    let thread = threads::spawn(name, move || {
        let _ = tell.send(catch_unwind(AssertUnwindSafe(body)).ok());
    })?;
    let done = told.recv().ok().flatten();
    thread.join();
    done.unwrap_or_else(|| Err(bug!("the thread `{name}` panicked")))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millstream_core::conf::EngineConf;

    use super::*;
    use crate::Cluster;

    #[test]
    fn what_blocks_may_be_called_from_within_a_runtime_and_a_panic_is_an_error() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let inner = move || beside("inner", move || Ok(runtime().block_on(async { 7 })));
        assert_eq!(runtime().block_on(async { inner() }).unwrap(), 7);
        let error = beside::<()>("careless", || panic!("on purpose")).unwrap_err();
        assert!(error.to_string().contains("`careless` panicked"), "{error}");
    }

    #[test]
    fn a_cluster_may_be_started_waited_for_and_dropped_within_a_runtime() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let conf = EngineConf::new("local-cluster[1,1]", "within").unwrap();
            let cluster = Cluster::start(&conf).unwrap();
            cluster.await_executors(1, Duration::from_secs(60)).unwrap();
        });
    }
}
