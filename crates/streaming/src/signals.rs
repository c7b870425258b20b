//! Signals: stopping a program from outside, for programs that ask for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_core::threads;
use millstream_core::{Error, ErrorKind, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::context::{Stop, StreamingContext};

impl StreamingContext {
    /// Stops the context when the process is asked to end: by Ctrl-C, or by `kill` from another process.
    ///
    /// The stop is graceful if
    /// [`stop_gracefully_on_shutdown`](crate::StreamingConf::stop_gracefully_on_shutdown) is set. A second signal stops
    /// at once. The process is not ended: [`await_termination`](Self::await_termination) returns, and the program
    /// says its last words.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the system does not let the program watch signals.
    ///
    /// # Spark
    ///
    /// The shutdown hook, S-133; here a program opts in.
    pub fn stop_on_signals(&self) -> Result<()> {
        let graceful = self.conf().stop_gracefully_on_shutdown;
        self.watch_signals(graceful)
    }

    /// As [`stop_on_signals`](Self::stop_on_signals), gracefully whatever the settings say.
    ///
    /// # Errors
    ///
    /// As [`stop_on_signals`](Self::stop_on_signals).
    pub fn stop_gracefully_on_signals(&self) -> Result<()> {
        self.watch_signals(true)
    }

    fn watch_signals(&self, graceful: bool) -> Result<()> {
        let mut signals = Signals::new([SIGINT, SIGTERM])
            .map_err(|e| Error::io(ErrorKind::Unavailable, "signals cannot be watched", e))?;
        let ssc = self.clone();
        let asked = Arc::new(AtomicBool::new(false));
        threads::spawn("signals", move || {
            for _ in signals.forever() {
                let again = asked.swap(true, Ordering::SeqCst);
                let how = if graceful && !again { Stop::gracefully() } else { Stop::now() };
                let ssc = ssc.clone();
                // Stopping waits; the next signal must be heard meanwhile.
                let stopping = threads::spawn("stop", move || {
                    if let Err(error) = ssc.stop_with(how) {
                        tracing::error!(%error, "a signal could not stop the context");
                    }
                });
                match stopping {
                    Ok(thread) => thread.detach(),
                    Err(error) => tracing::error!(%error, "a signal could not stop the context"),
                }
            }
        })?
        .detach();
        Ok(())
    }
}
