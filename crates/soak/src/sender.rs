//! A sender that numbers its records, and goes on where the receiver says. It keeps a record until it is acknowledged,
//! and never sends it again after that.
//!
//! ```text
//! receiver → sender   FROM number RUN run      of a run; a later run takes the place of an earlier one
//! sender → receiver   number word word …       a line a record
//! receiver → sender   ACK number               all up to it are durable
//! ```

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use millstream::core::clock::monotonic;
use millstream::core::threads::{self, OwnedThread, lock};
use millstream::{Result, millis};

use crate::records::line;

/// How often more records are due.
const BEAT: Duration = millis(5);

/// A sender on a port of this machine.
pub(crate) struct Sender {
    desk: Arc<Desk>,
    port: u16,
    thread: Option<OwnedThread>,
}

struct Desk {
    rate: u64,
    began: Duration,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    acknowledged: u64,
    /// The last record there will be.
    last: Option<u64>,
    /// The run that is sent to, and its connection.
    run: u64,
    connection: Option<TcpStream>,
    over: bool,
    /// What a receiver must not do.
    mistakes: Vec<String>,
}

impl Sender {
    pub(crate) fn start(rate: u64) -> Result<Sender> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let (state, changed) = (Mutex::default(), Condvar::new());
        let desk = Arc::new(Desk { rate, began: monotonic(), state, changed });
        let shared = Arc::clone(&desk);
        let thread = threads::spawn("sender", move || {
            for connection in listener.incoming() {
                if lock(&shared.state).over {
                    return;
                }
                let Ok(connection) = connection else { continue };
                let desk = Arc::clone(&shared);
                match threads::spawn("connection", move || drop(desk.serve(&connection))) {
                    Ok(thread) => thread.detach(),
                    Err(error) => shared.blame(error.to_string()),
                }
            }
        })?;
        Ok(Sender { desk, port, thread: Some(thread) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Returns up to where all is acknowledged.
    pub(crate) fn acknowledged(&self) -> u64 {
        lock(&self.desk.state).acknowledged
    }

    /// Returns the latest run whose receiver has connected.
    pub(crate) fn run(&self) -> u64 {
        lock(&self.desk.state).run
    }

    /// Returns what receivers did wrong.
    pub(crate) fn mistakes(&self) -> Vec<String> {
        lock(&self.desk.state).mistakes.clone()
    }

    /// Waits until `number` is acknowledged, or the time is over. Returns whether it is.
    pub(crate) fn await_acknowledged(&self, number: u64, patience: Duration) -> bool {
        let deadline = monotonic() + patience;
        let mut state = lock(&self.desk.state);
        while state.acknowledged < number {
            let left = deadline.saturating_sub(monotonic());
            if left.is_zero() {
                return false;
            }
            state = self.desk.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Makes the records that are due now the last ones. Returns how many there are.
    pub(crate) fn finish(&self) -> u64 {
        let due = self.desk.due();
        *lock(&self.desk.state).last.get_or_insert(due)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let mut state = lock(&self.desk.state);
        state.over = true;
        if let Some(connection) = state.connection.take() {
            let _ = connection.shutdown(Shutdown::Both);
        }
        drop(state);
        self.desk.changed.notify_all();
        // Wakes the thread that accepts.
        drop(TcpStream::connect(("127.0.0.1", self.port)));
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

impl Desk {
    fn blame(&self, mistake: String) {
        lock(&self.state).mistakes.push(mistake);
    }

    /// How many records have been made by now.
    fn due(&self) -> u64 {
        let passed = monotonic().saturating_sub(self.began).as_millis();
        u64::try_from(passed).unwrap_or(u64::MAX).saturating_mul(self.rate) / 1000
    }

    /// Takes the request of a receiver; refuses a run that another has taken the place of.
    fn admit(&self, request: &str, connection: &TcpStream) -> Option<(u64, u64)> {
        let words: Vec<_> = request.split_whitespace().collect();
        let parsed = match words[..] {
            ["FROM", from, "RUN", run] => from.parse::<u64>().ok().zip(run.parse::<u64>().ok()),
            _ => None,
        };
        let mut state = lock(&self.state);
        let Some((from, run)) = parsed else {
            // A process that is killed may have said half of it.
            return None;
        };
        if run < state.run || state.over {
            return None;
        }
        state.run = run;
        if let Some(before) = state.connection.replace(connection.try_clone().ok()?) {
            let _ = before.shutdown(Shutdown::Both);
        }
        if from <= state.acknowledged {
            let mistake = format!(
                "run {run} asks for record {from}, though {} was acknowledged: what was durable is not",
                state.acknowledged
            );
            state.mistakes.push(mistake);
            return None;
        }
        Some((from, run))
    }

    fn serve(self: &Arc<Desk>, connection: &TcpStream) -> Result<()> {
        connection.set_nodelay(true)?;
        let mut lines = BufReader::new(connection.try_clone()?).lines();
        let Some(Ok(request)) = lines.next() else { return Ok(()) };
        let Some((from, run)) = self.admit(&request, connection) else {
            let _ = connection.shutdown(Shutdown::Both);
            return Ok(());
        };
        let desk = Arc::clone(self);
        threads::spawn("acknowledged", move || {
            for line in lines.map_while(|line| line.ok()) {
                let number = line.strip_prefix("ACK ").and_then(|number| number.parse::<u64>().ok());
                let mut state = lock(&desk.state);
                if let Some(number) = number.filter(|_| state.run == run) {
                    state.acknowledged = state.acknowledged.max(number);
                    desk.changed.notify_all();
                }
            }
        })?
        .detach();
        self.send(connection, from, run)
    }

    fn send(&self, mut connection: &TcpStream, from: u64, run: u64) -> Result<()> {
        let mut next = from;
        loop {
            let mut state = lock(&self.state);
            let due = state.last.unwrap_or_else(|| self.due());
            if state.over || state.run != run {
                return Ok(());
            }
            if next > due {
                state = self.changed.wait_timeout(state, BEAT).unwrap_or_else(PoisonError::into_inner).0;
                drop(state);
                continue;
            }
            drop(state);
            // Not more at once than a socket takes, so that a run that is replaced is noticed.
            let until = due.min(next + 200);
            let text = (next..=until).fold(String::new(), |text, number| text + &line(number) + "\n");
            connection.write_all(text.as_bytes())?;
            next = until + 1;
        }
    }
}
