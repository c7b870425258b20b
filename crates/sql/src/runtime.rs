//! Waiting for a query: on the thread that asks, with the async runtime that DataFusion's operators start their parts on.

use std::cell::RefCell;
use std::future::Future;
use std::sync::mpsc;

use millstream_core::threads;
use millstream_core::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Handle, Runtime};

thread_local! {
    /// One a thread: making it costs as much as a small query.
    static RUNTIME: RefCell<Option<Runtime>> = const { RefCell::new(None) };
}

/// Waits for `query`. Inside of another query, as in a function of the program that asks one, it waits on a thread of its own: a
/// runtime cannot wait inside of itself.
pub(crate) fn wait<R: Send + 'static>(query: impl Future<Output = R> + Send + 'static) -> Result<R> {
    if Handle::try_current().is_err() {
        return here(query);
    }
    let (tell, told) = mpsc::sync_channel(1);
    let thread = threads::spawn("sql", move || {
        // Who asked is waiting.
        let _ = tell.send(here(query));
    })?;
    let result = told.recv();
    thread.join();
    result.map_err(|_| Error::new(ErrorKind::User, "a function of the program panicked inside of a query"))?
}

fn here<R>(query: impl Future<Output = R>) -> Result<R> {
    let runtime = match RUNTIME.with_borrow_mut(Option::take) {
        Some(runtime) => runtime,
        None => Builder::new_current_thread()
            .build()
            .map_err(|e| Error::io(ErrorKind::Unavailable, "the runtime of queries could not be started", e))?,
    };
    let result = runtime.block_on(query);
    RUNTIME.with_borrow_mut(|slot| *slot = Some(runtime));
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_may_ask_another_one_inside_of_itself() {
        let sum = wait(async { 1 + wait(async { 2 + wait(async { 3 }).unwrap() }).unwrap() }).unwrap();
        assert_eq!(sum, 6);
    }
}
