//! Receivers: push sources, each on a thread of its own that the supervisor owns, on the driver or on an executor.
//!
//! A receiver is *run by* an ordinary [`InputSource`](crate::InputSource), whose allocation is a list of blocks. It
//! costs no task slot: `local[1]` can receive and process.

mod blocks;
mod door;
mod far;
mod log;
mod placement;
mod rate;
mod room;
mod store;
mod supervisor;
mod travel;

use millstream_core::{Error, ExchangeData, Result, StorageLevel};

#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use self::log::record_of;
pub(crate) use self::placement::Seats;
pub(crate) use self::supervisor::ReceiverSource;
pub use self::travel::Travelling;
pub(crate) use self::travel::arrived;

/// Receives data from outside: a blocking loop.
///
/// # Example
///
/// ```
/// use millstream_core::Result;
/// use millstream_streaming::{Receiver, Store};
///
/// struct Ticks(u64);
///
/// impl Receiver for Ticks {
///     type Item = u64;
///
///     fn receive(&mut self, store: &mut dyn Store<u64>) -> Result<()> {
///         loop {
///             self.0 += 1;
///             store.store(self.0)?; // fails when it is time to go
/// #           if self.0 == 3 { return Ok(()) }
///         }
///     }
/// }
/// ```
///
/// # Spark
///
/// `Receiver`, api section 1.7. One blocking method replaces `onStart`, `onStop`, `restart`, `stop` and the supervisor.
pub trait Receiver: Send + 'static {
    /// What is received.
    type Item: ExchangeData;

    /// Receives until the source ends.
    ///
    /// When it returns, with `Ok` or with an error, it is called again after
    /// [`receiver_restart_delay`](crate::StreamingConf::receiver_restart_delay), until the context stops.
    ///
    /// # Errors
    ///
    /// Whatever went wrong, for listeners. An error of `store` is passed on: it says that it is time to go.
    fn receive(&mut self, store: &mut dyn Store<Self::Item>) -> Result<()>;

    /// Says whether the sender keeps what was not acknowledged, and sends it again: for people, who see it in `explain` and
    /// in what listeners are told. The default is `false`.
    ///
    /// A reliable receiver stores whole blocks, with [`store_block`](Store::store_block) or
    /// [`store_block_at`](Store::store_block_at), and acknowledges in `stored`. If the program is durable (it has a checkpoint
    /// directory), its blocks are in a log before that, and nothing is lost nor given twice. Of any other, what had not
    /// become a block is lost when the process ends.
    ///
    /// # Spark
    ///
    /// Reliable and unreliable receivers, R-47.
    fn is_reliable(&self) -> bool {
        false
    }

    /// Returns how received blocks are kept.
    ///
    /// The default keeps values in memory, and what does not fit on disk, and a copy on another executor where there is one: what was
    /// acknowledged outlives the executor. Where blocks are in a log there is no copy (R-36). Spark's sockets ask for a second copy as
    /// bytes (S-71).
    fn storage_level(&self) -> StorageLevel {
        StorageLevel::MEMORY_AND_DISK_2
    }

    /// Says how the receiver gets to an executor, where tasks run in other processes: `Some(Travelling::of(self))`, for one that can be
    /// written down. It is asked once, at the start.
    ///
    /// One that says nothing, which is the default, stays on the driver, and so do its blocks. Those of this crate travel.
    ///
    /// # Spark
    ///
    /// That a `Receiver` is `Serializable`; R-41.
    fn travels(&self) -> Option<Travelling> {
        None
    }

    /// Returns the host on which it would like to run, as executors call it; anywhere by default.
    ///
    /// # Spark
    ///
    /// `Receiver.preferredLocation`, RC06; R-42.
    fn preferred_location(&self) -> Option<String> {
        None
    }

    /// Returns a name for people.
    fn name(&self) -> String {
        let name = std::any::type_name::<Self>();
        let end = name.find('<').unwrap_or(name.len());
        name[..end].rsplit("::").next().unwrap_or(name).to_owned()
    }
}

/// Where a source is: whatever it needs to go on from there. An offset, a cursor, a file and a line.
///
/// # Example
///
/// ```
/// use millstream_streaming::Position;
///
/// assert_eq!(Position::from(42).as_u64(), Some(42));
/// assert_eq!(Position::from(b"page 7".to_vec()).as_bytes(), b"page 7");
/// assert_eq!(Position::from(b"page 7".to_vec()).as_u64(), None);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct Position(Vec<u8>);

impl Position {
    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Returns the number, if it was made of one.
    pub fn as_u64(&self) -> Option<u64> {
        self.0.as_slice().try_into().ok().map(u64::from_be_bytes)
    }
}

impl From<u64> for Position {
    fn from(number: u64) -> Position {
        Position(number.to_be_bytes().to_vec())
    }
}

impl From<Vec<u8>> for Position {
    fn from(bytes: Vec<u8>) -> Position {
        Position(bytes)
    }
}

/// Where a receiver puts what it receives. Threads of the receiver may share it behind a `Mutex`.
///
/// What is stored waits until its batch runs. When as many items wait as may
/// ([`receiver_waiting_items`](crate::StreamingConf::receiver_waiting_items) and `…_bytes`), a store does what
/// [`WhenFull`](crate::WhenFull) says: it waits itself, unless told otherwise. A stop ends each wait.
pub trait Store<T>: Send {
    /// Adds one item to the current block. Waits for the rate limit, if there is one.
    ///
    /// # Errors
    ///
    /// The kind is `Stopped` when it is time to go; `Unavailable` or `Data` if a block cannot be kept.
    fn store(&mut self, item: T) -> Result<()>;

    /// Adds several items to the current block: cheaper than one by one. Waits for the rate limit, if there is one.
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store).
    fn store_many(&mut self, items: Vec<T>) -> Result<()>;

    /// Makes one block of `items` and keeps it: in the log if the program is durable, and else only as the receiver's storage
    /// level says. Then calls `stored`, in which a reliable receiver acknowledges to its sender. Waits for the rate limit, if there is one,
    /// unless Spark's rules are to hold (S-84).
    ///
    /// # Errors
    ///
    /// As [`store`](Self::store). `stored` has not been called then. If the log could not be written it never will be
    /// any more: the next batch fails, and the receiver is not started again.
    fn store_block(&mut self, items: Vec<T>, stored: Box<dyn FnOnce() + Send>) -> Result<()>;

    /// As [`store_block`](Self::store_block), and keeps with it where the source is behind it. Items stored one by one before
    /// become a block first, so that a position covers all before it.
    ///
    /// # Errors
    ///
    /// As [`store_block`](Self::store_block).
    fn store_block_at(&mut self, items: Vec<T>, position: Position, stored: Box<dyn FnOnce() + Send>) -> Result<()>;

    /// Returns the position of the last block that is kept: where the source is to go on. In a durable program it is one that
    /// also earlier processes may have stored; nothing if none has.
    fn position(&self) -> Option<Position>;

    /// Tells listeners of something that went wrong, and goes on.
    fn report_error(&mut self, error: Error);

    /// Says whether it is time to go.
    fn is_stopped(&self) -> bool;

    /// Has `wake` called when it is time to go, to end a wait for the outside: close a connection, say. A later call
    /// replaces an earlier one. If it is time already, `wake` is called at once.
    fn on_stop(&mut self, wake: Box<dyn FnOnce() + Send>);

    /// Returns the longest record, in bytes, that is to be taken.
    fn max_record(&self) -> usize;
}
