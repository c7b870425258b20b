//! Where streams begin: every source answers the same three questions.
//!
//! *allocate* (what belongs to batch *t*?), *rdd* (read exactly that), *commit* (it is done). The allocation is a small
//! value that can be written down, so a batch can be read again exactly, after a failure or a restart.

mod constant;
mod files;
mod queue;
mod socket;

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use millstream_core::clock::{Wake, monotonic};
use millstream_core::disk::Disk;
use millstream_core::partitioner::key_hash;
use millstream_core::threads::lock;
use millstream_core::{Context, Data, Digest, Rdd, Result, Time};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use self::constant::ConstantSource;
pub use self::files::FileFilter;
pub(crate) use self::queue::QueueSource;
pub use self::queue::RddQueue;
pub use self::queue::WhenEmpty;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::socket::blocks_of;
pub use self::socket::{BlockSocket, LineSocket, SocketReceiver};
use crate::conf::StreamingConf;
use crate::listener::{InputInfo, ListenerBus, Pressure};
use crate::receiver::Seats;

/// How many records a second a source may give.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Rate(pub f64);

/// Gives a stream its batches.
///
/// # Spark
///
/// `InputDStream`, IN01. What Spark's sources remember each in a way of its own is the allocation here.
pub trait InputSource: Send + 'static {
    /// What the stream's elements are.
    type Item: Data;
    /// What belongs to a batch: small, and enough to read it again. Offsets, file names, block ids.
    type Allocation: Serialize + DeserializeOwned + Clone + Debug + Send + Sync + 'static;

    /// Decides what belongs to this batch. Called once a batch, in order. It may look at the outside, and must not
    /// consume it.
    ///
    /// `limit` is the rate that back-pressure asks for, for a source that [keeps to it](Self::keeps_to_limit): no more records
    /// than that are to be given for each second of the batch interval. Before the first estimate it is
    /// [`backpressure_initial_rate`](StreamingConf::backpressure_initial_rate).
    ///
    /// # Errors
    ///
    /// An error fails the batch.
    fn allocate(&mut self, batch: Time, limit: Option<Rate>) -> Result<Self::Allocation>;

    /// Says how long before a batch is due the source would like to [ask the outside](Self::ask_ahead) what there is, so that the
    /// answer is there when [`allocate`](Self::allocate) is called. Asked often: it must be cheap. Nothing by default.
    fn lead(&self) -> Option<Duration> {
        None
    }

    /// Asks the outside what there is, and does not wait for the answer: a batch is about to be due. It is called once a batch at
    /// most, and not at all for one that is late, or where the clock is moved by hand; so [`allocate`](Self::allocate) must
    /// be able to ask by itself.
    fn ask_ahead(&mut self) {}

    /// Reads exactly that allocation; also when asked again. `None` says that the stream has no Rdd in this batch.
    ///
    /// # Errors
    ///
    /// An error fails the batch.
    fn rdd(&self, allocation: &Self::Allocation, context: &Context) -> Result<Option<Rdd<Self::Item>>>;

    /// Tells, in short, what the allocation is of as it lies outside now: how many things, and by what each is known. Asked once
    /// when a batch is allocated, and when it is to be read again by a later run, which fails if the answer is another. So it must
    /// be cheap, and the same as long as [`rdd`](Self::rdd) gives the same. Nothing by default, and for sources whose bytes are
    /// checked as they are read. Who tells it says so in [`notices_change`](Self::notices_change).
    ///
    /// # Errors
    ///
    /// What was given is not there any more.
    fn digest(&self, _allocation: &Self::Allocation) -> Result<Option<Digest>> {
        Ok(None)
    }

    /// Says whether somebody notices when [`rdd`](Self::rdd) gives something else to a batch that is made again: by its
    /// [`digest`](Self::digest), or as its bytes are checked when they are read. Of an input that says no, which is the default, a durable
    /// program warns when it starts, and `explain` says so.
    fn notices_change(&self) -> bool {
        false
    }

    /// Is told what earlier runs of the program gave to the batches that are remembered, oldest first. Called once, before
    /// [`start`](Self::start), when a program goes on from a checkpoint; also with an empty list.
    ///
    /// What was given once must not be given to a later batch again, and [`rdd`](Self::rdd) may be asked to read it.
    ///
    /// # Errors
    ///
    /// The source cannot give again what it gave: the start of the context fails.
    fn restore(&mut self, _given: &[(Time, Self::Allocation)]) -> Result<()> {
        Ok(())
    }

    /// Returns for how long what was given to batches is to be remembered, beside what windows and states ask for, and the last
    /// batch, which always is.
    fn memory(&self) -> Duration {
        Duration::ZERO
    }

    /// Every output of the batch has succeeded, and, with a checkpoint, that is written down durably.
    ///
    /// # Errors
    ///
    /// An error is reported; the batch is done all the same.
    fn commit(&mut self, _allocation: &Self::Allocation) -> Result<()> {
        Ok(())
    }

    /// The batch is out of reach of every window: what it held may be let go.
    fn forget(&mut self, _allocation: &Self::Allocation) {}

    /// Starts to look at the outside. Called once, before the first batch.
    ///
    /// # Errors
    ///
    /// An error makes the start of the context fail.
    fn start(&mut self, _input: &InputContext) -> Result<()> {
        Ok(())
    }

    /// Is called in the place of [`start`](Self::start) when batches that were given before are only made again: nothing new comes
    /// in. Whatever [`rdd`](Self::rdd) needs must be there then.
    ///
    /// # Errors
    ///
    /// An error makes the replay fail.
    fn replay(&mut self, _input: &InputContext) -> Result<()> {
        Ok(())
    }

    /// Asks the outside to end, without waiting for it. All inputs are asked before [`stop`](Self::stop) waits for one.
    fn ask_to_stop(&mut self) {}

    /// Stops. A graceful stop keeps what has been received, for one more batch.
    fn stop(&mut self, _graceful: bool) {}

    /// Says whether something has been received that no batch has been given.
    fn has_left(&self) -> bool {
        false
    }

    /// Says whether the source gives no more than the limit that it is told. Back-pressure then makes one from each batch that
    /// ended, if [`describe`](Self::describe) says how many records the batch was given.
    fn keeps_to_limit(&self) -> bool {
        false
    }

    /// Is told a new limit as soon as there is one: for a source that receives between batches. Others wait for
    /// [`allocate`](Self::allocate).
    fn set_limit(&mut self, _limit: Rate) {}

    /// The batch is among those that run, or never will be: what it was given waits no longer, and makes room for more.
    fn begun(&mut self, _allocation: &Self::Allocation) {}

    /// Returns what people should know of it before they rely on it: a part of a line of `explain`.
    fn remark(&self) -> Option<String> {
        None
    }

    /// Says how the source was held back since it was last asked; for listeners. Asked after each [`allocate`](Self::allocate).
    fn pressure(&mut self) -> Pressure {
        Pressure::default()
    }

    /// Says how much an allocation is, for people.
    fn describe(&self, _allocation: &Self::Allocation) -> InputInfo {
        InputInfo::default()
    }
}

/// What an input may use.
#[derive(Clone, Debug)]
pub struct InputContext {
    pub(crate) number: u64,
    pub(crate) interval: Duration,
    pub(crate) context: Context,
    pub(crate) conf: StreamingConf,
    pub(crate) bus: ListenerBus,
    pub(crate) hurry: Arc<Hurry>,
    pub(crate) durable: Option<DurableFolder>,
    /// Where receivers run, of those that run on executors.
    pub(crate) seats: Arc<Seats>,
}

/// A folder of an input's own that outlives the process.
#[derive(Clone, Debug)]
pub struct DurableFolder {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    name: String,
}

impl DurableFolder {
    /// Names the folder of what is called `key`, in the folder of a checkpoint.
    pub(crate) fn of(disk: &Arc<dyn Disk>, checkpoint: &Path, key: &str) -> DurableFolder {
        let name = format!("received/{}", file_name(key));
        DurableFolder { disk: Arc::clone(disk), path: checkpoint.join(&name), name }
    }

    /// Returns the disk that the folder is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Returns the folder. It is made by whoever writes first.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the folder as the checkpoint store calls it.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

/// Returns the folder of what the input that is called `key` has received, in the folder of a checkpoint.
pub(crate) fn received(checkpoint: &Path, key: &str) -> PathBuf {
    checkpoint.join("received").join(file_name(key))
}

/// A text as the name of a file: another for another text, also where capitals do not count. Pure.
fn file_name(key: &str) -> String {
    const LONG: usize = 100;
    let mut name = String::new();
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    if name.len() > LONG {
        name.truncate(LONG);
        name.push_str(&format!("~{:016x}", key_hash(&key.to_owned())));
    }
    name
}

/// Says that the context is to stop at once, to those who wait for an end in good order; and knows the threads of
/// inputs, which the end waits for, so that they cannot wait for it.
#[derive(Default)]
pub(crate) struct Hurry {
    state: Mutex<HurryState>,
}

#[derive(Default)]
struct HurryState {
    asked: bool,
    /// Until when a stop in good order waits.
    until: Option<Duration>,
    waiters: Vec<Weak<dyn Wake>>,
    threads: Vec<ThreadId>,
}

impl Hurry {
    pub(crate) fn ask(&self) {
        let mut state = lock(&self.state);
        state.asked = true;
        let waiters: Vec<_> = state.waiters.iter().filter_map(Weak::upgrade).collect();
        drop(state);
        waiters.iter().for_each(|waiter| waiter.wake());
    }

    /// Has those who wait do so until `until` at most, as `monotonic` counts.
    pub(crate) fn at(&self, until: Duration) {
        lock(&self.state).until = Some(until);
    }

    /// Returns how long a stop in good order may still wait.
    pub(crate) fn left(&self) -> Option<Duration> {
        lock(&self.state).until.map(|until| until.saturating_sub(monotonic()))
    }

    pub(crate) fn is_asked_for(&self) -> bool {
        lock(&self.state).asked
    }

    /// Takes note of a thread of an input.
    pub(crate) fn know(&self, thread: Option<ThreadId>) {
        lock(&self.state).threads.extend(thread);
    }

    /// Says whether the calling thread is one of an input.
    pub(crate) fn is_called_by_an_input(&self) -> bool {
        lock(&self.state).threads.contains(&std::thread::current().id())
    }

    pub(crate) fn subscribe(&self, waiter: Weak<dyn Wake>) {
        lock(&self.state).waiters.push(waiter);
    }
}

impl Debug for Hurry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Hurry({})", self.is_asked_for())
    }
}

impl InputContext {
    /// Returns the input's number, in the order in which inputs were made (S-104).
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns the batch interval.
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// Returns the engine's context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Returns the settings.
    pub fn conf(&self) -> &StreamingConf {
        &self.conf
    }

    /// Returns where the input may keep what must outlive the process, if the program is durable.
    pub fn durable(&self) -> Option<&DurableFolder> {
        self.durable.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_becomes_the_name_of_a_file_that_no_other_has() {
        assert_eq!(file_name("socket_text_stream 1"), "socket_text_stream%201");
        assert_eq!(file_name("../Ü"), "%2e%2e%2f%c3%9c");
        assert_ne!(file_name("a"), file_name("A"));
        let (long, other) = ("x".repeat(300), "x".repeat(301));
        assert!(file_name(&long).len() < 150);
        assert_ne!(file_name(&long), file_name(&other));
    }
}
