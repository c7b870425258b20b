//! Signals: stopping a program from outside, for programs that ask for it.

use millstream_core::threads;
use millstream_core::{Error, ErrorKind, Result};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use crate::context::{Stop, StreamingContext, StreamingContextState};

impl StreamingContext {
    /// Stops the context when the process is asked to end: by Ctrl-C, or by `kill` from another process.
    ///
    /// The stop is graceful if
    /// [`stop_gracefully_on_shutdown`](crate::StreamingConf::stop_gracefully_on_shutdown) is set. A second signal stops
    /// at once. The process is not ended: [`await_termination`](Self::await_termination) returns, and the program
    /// says its last words. A third signal, and any when the context has stopped, ends the process as if nobody watched.
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
        let watched = self.downgrade();
        threads::spawn("signals", move || {
            let mut asked = 0;
            for signal in signals.forever() {
                let running = watched.upgrade().filter(|ssc| ssc.state() != StreamingContextState::Stopped);
                let how = match (running, asked) {
                    (Some(ssc), 0) if graceful => (ssc, Stop::gracefully()),
                    (Some(ssc), 0 | 1) => (ssc, Stop::now()),
                    _ => {
                        // Nobody is left to be told, or he does not listen: the signal does what it does to any process.
                        if let Err(error) = emulate_default_handler(signal) {
                            tracing::error!(%error, signal, "a signal could not end the process");
                        }
                        continue;
                    }
                };
                asked += 1;
                // Stopping waits; the next signal must be heard meanwhile.
                let stopping = threads::spawn("stop", move || {
                    let (ssc, how) = how;
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
