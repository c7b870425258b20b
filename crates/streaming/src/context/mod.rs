//! StreamingContext: the program, its inputs and its listeners. How it is made, made durable, started and stopped is beside.

mod builder;
mod durable;
mod launch;
mod stop;
mod unstarted;

use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::time::Duration;

use millstream_core::disk::Disk;
use millstream_core::threads::{OwnedThread, lock};
use millstream_core::{CallSite, Context, Data, Error, ErrorKind, ExchangeData, ListenerId, Rdd, Result, Time};

pub use self::builder::StreamingContextBuilder;
use self::durable::Resume;
pub use self::stop::Stop;
pub(crate) use self::unstarted::Unstarted;
use crate::batch::doing::Doing;
use crate::batch::lifecycle::Event;
use crate::batch::mailbox::Mailbox;
use crate::checkpoint::identity::Wishes;
use crate::conf::StreamingConf;
use crate::dstream::{DStream, Input, KeptIn, handle};
use crate::graph::{GraphShared, StreamKind, StreamSpec};
use crate::input::{ConstantSource, Hurry, InputSource, QueueSource, RddQueue, WhenEmpty};
use crate::listener::{ListenerBus, StreamingListener};

/// Where a context is in its life.
///
/// # Spark
///
/// `StreamingContextState`, SC22.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamingContextState {
    /// The graph is being built.
    Initialized,
    /// Batches run.
    Active,
    /// It is over.
    Stopped,
}

/// A streaming program: its inputs, its graph, and its life.
///
/// It is cheap to clone; when the last clone is dropped, it stops at once.
///
/// # Example
///
/// ```
/// use millstream_core::{Result, secs};
/// use millstream_streaming::StreamingContext;
///
/// # fn main() -> Result<()> {
/// let ssc = StreamingContext::new("local[2]", "word count", secs(1))?;
/// let counts = ssc
///     .socket_text_stream("localhost", 9999)
///     .flat_map(|line| line.split(' '))
///     .map(|word| (word, 1u64))
///     .reduce_by_key(|a, b| a + b);
/// counts.print();
///
/// ssc.start()?;
/// # ssc.stop()?;
/// ssc.await_termination()
/// # }
/// ```
///
/// # Spark
///
/// `StreamingContext`, api section 1.1.
#[derive(Clone)]
pub struct StreamingContext {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    graph: Arc<GraphShared>,
    context: Context,
    conf: StreamingConf,
    interval: Duration,
    remember: Mutex<Option<Duration>>,
    /// Whether the program has taken back the folder of the settings.
    ignores_folder: AtomicBool,
    bus: ListenerBus,
    mailbox: Arc<Mailbox>,
    hurry: Arc<Hurry>,
    doing: Arc<Doing>,
    disk: Arc<dyn Disk>,
    /// Where the program is durable, and what is done with what is there.
    kept_in: Mutex<Option<(PathBuf, Resume)>>,
    /// What the program says of what it does not keep any more, or by another name.
    wishes: Mutex<Wishes>,
    site: CallSite,
}

/// What outlives the handle: the batch thread tells it how things are.
struct Shared {
    state: Mutex<Life>,
    changed: Condvar,
}

struct Life {
    state: StreamingContextState,
    error: Option<Error>,
    thread: Option<OwnedThread>,
    /// Threads of the context itself, which must not wait for it.
    own: Vec<std::thread::ThreadId>,
    /// Whether the batch thread has ended.
    halted: bool,
    /// The last batch that has come to its end, well or not.
    settled: Option<Time>,
    /// Whether the engine is to be stopped when the batch thread ends: who asked could not wait for that.
    stop_engine: bool,
    /// How many threads are about to stop the context: what they do behind the end of the batches belongs to the end.
    stopping: usize,
}

static ACTIVE: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

impl StreamingContext {
    /// Returns the engine's context. Spark's `sparkContext`, SC06.
    pub fn context(&self) -> &Context {
        &self.inner.context
    }

    /// Returns the settings.
    pub fn conf(&self) -> &StreamingConf {
        &self.inner.conf
    }

    /// Returns the batch interval.
    pub fn interval(&self) -> Duration {
        self.inner.interval
    }

    /// Returns where the context is in its life. Spark's `getState`, SC22.
    pub fn state(&self) -> StreamingContextState {
        lock(&self.inner.shared.state).state
    }

    /// Returns the graph as text, a line a stream and output, for people: also how often each output takes a batch
    /// ([`Guarantee`](crate::Guarantee)), and why. Nothing once it has been started.
    pub fn explain(&self) -> String {
        let inner = &self.inner;
        let by_settings = inner.conf.checkpoint_dir.is_some() && !inner.ignores_folder.load(Ordering::Relaxed);
        let durable = by_settings || lock(&inner.kept_in).is_some();
        let kept = match durable {
            false => KeptIn::Nothing,
            true if inner.disk.objects().is_some() => KeptIn::Bucket,
            true => KeptIn::Disk,
        };
        inner.graph.ask(|graph| graph.describe(kept)).unwrap_or_default()
    }

    /// Returns what went wrong so far: the error that a wait would return, and operations called after the start.
    pub fn errors(&self) -> Vec<Error> {
        let first = lock(&self.inner.shared.state).error.clone();
        first.into_iter().chain(self.inner.graph.late_errors()).collect()
    }

    /// Makes every stream keep its Rdds for at least `length`.
    ///
    /// # Errors
    ///
    /// A second call is a mistake that `start()` reports, or, after the start, the next wait.
    ///
    /// # Spark
    ///
    /// `StreamingContext.remember`, SC07.
    #[track_caller]
    pub fn remember(&self, length: Duration) {
        let mut remember = lock(&self.inner.remember);
        if remember.is_some() {
            let error = Error::new(ErrorKind::Config, "remember duration already set: it can be set once");
            self.inner.graph.fault(error.at(CallSite::here("remember")));
            return;
        }
        *remember = Some(length);
    }

    // ---------------------------------------------------------------------------------------------- inputs

    /// Makes a stream of a source: the one door for every kind of input.
    ///
    /// # Spark
    ///
    /// A class that extends `InputDStream`, IN01.
    #[track_caller]
    pub fn input<S: InputSource>(&self, source: S) -> DStream<S::Item> {
        self.input_at(source, CallSite::here("input"))
    }

    pub(crate) fn input_at<S: InputSource>(&self, source: S, site: CallSite) -> DStream<S::Item> {
        let slide = self.inner.interval;
        let id = self.inner.graph.add(site, |graph, number| {
            let spec = StreamSpec::new(site, slide, Vec::new());
            graph.add(spec, StreamKind::Input { number, input: Box::new(Input::new(source)) })
        });
        handle(id, &self.inner.graph)
    }

    /// Makes a stream that gives one Rdd of the queue a batch, and an empty one while the queue is empty.
    ///
    /// # Example
    ///
    /// ```
    /// # use millstream_core::{Result, secs};
    /// # use millstream_streaming::{RddQueue, StreamingContext};
    /// # fn main() -> Result<()> {
    /// let ssc = StreamingContext::new("local[2]", "queue", secs(1))?;
    /// let queue = RddQueue::new();
    /// ssc.queue_stream(&queue).print();
    /// queue.push(ssc.context().parallelize(vec![1, 2, 3], 2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Spark
    ///
    /// `StreamingContext.queueStream(queue)`, SC16.
    #[track_caller]
    pub fn queue_stream<T: ExchangeData>(&self, queue: &RddQueue<T>) -> DStream<T> {
        let source = QueueSource::new(queue.clone(), true, WhenEmpty::OnePartition);
        self.input_at(source, CallSite::here("queue_stream"))
    }

    /// Makes a stream that gives, each batch, the union of all Rdds in the queue; or `when_empty`.
    ///
    /// # Spark
    ///
    /// `StreamingContext.queueStream(queue, oneAtATime = false, defaultRDD)`, SC17.
    #[track_caller]
    pub fn queue_stream_all<T: ExchangeData>(&self, queue: &RddQueue<T>, when_empty: WhenEmpty<T>) -> DStream<T> {
        self.input_at(QueueSource::new(queue.clone(), false, when_empty), CallSite::here("queue_stream_all"))
    }

    /// As [`queue_stream`](Self::queue_stream), with `when_empty` given while the queue is empty.
    ///
    /// # Spark
    ///
    /// `StreamingContext.queueStream(queue, oneAtATime = true, defaultRDD)`, SC17.
    #[track_caller]
    pub fn queue_stream_or<T: ExchangeData>(&self, queue: &RddQueue<T>, when_empty: WhenEmpty<T>) -> DStream<T> {
        self.input_at(QueueSource::new(queue.clone(), true, when_empty), CallSite::here("queue_stream_or"))
    }

    /// Makes a stream that gives the same Rdd in every batch.
    ///
    /// # Spark
    ///
    /// `ConstantInputDStream`, IN04.
    #[track_caller]
    pub fn constant_stream<T: Data>(&self, rdd: Rdd<T>) -> DStream<T> {
        self.input_at(ConstantSource(rdd), CallSite::here("constant_stream"))
    }

    /// Puts the partitions of several streams behind each other, batch by batch.
    ///
    /// # Errors
    ///
    /// `start()` reports an empty list, and streams of different contexts or slides (S-65).
    ///
    /// # Spark
    ///
    /// `StreamingContext.union`, SC18.
    #[track_caller]
    pub fn union<T: Data>(&self, streams: &[DStream<T>]) -> DStream<T> {
        crate::dstream::union_all(&self.inner.graph, streams, CallSite::here("union"))
    }

    /// Applies `f` to the Rdds of several streams, in the order of the list, and their time, batch by batch.
    ///
    /// # Errors
    ///
    /// As [`union`](Self::union)'s. A batch in which a stream has no Rdd fails.
    ///
    /// # Spark
    ///
    /// `StreamingContext.transform`, SC19.
    #[track_caller]
    pub fn transform<T: Data, U: Data>(
        &self,
        streams: &[DStream<T>],
        f: impl Fn(Vec<Rdd<T>>, Time) -> Rdd<U> + Send + 'static,
    ) -> DStream<U> {
        crate::dstream::transform_all(&self.inner.graph, streams, f, CallSite::here("transform"))
    }

    // ------------------------------------------------------------------------------------------- listeners

    /// Tells `listener` what happens from now on. Before and after the start.
    ///
    /// # Spark
    ///
    /// `StreamingContext.addStreamingListener`, SC20.
    pub fn add_streaming_listener(&self, listener: impl StreamingListener + 'static) -> ListenerId {
        self.inner.bus.add(Arc::new(listener))
    }

    /// Tells a listener nothing any more.
    ///
    /// # Spark
    ///
    /// `StreamingContext.removeStreamingListener`, SC21.
    pub fn remove_streaming_listener(&self, id: ListenerId) {
        self.inner.bus.remove(id);
    }

    /// Waits until listeners have been told everything that has happened so far.
    pub fn flush_listeners(&self) {
        self.inner.bus.flush();
    }

    /// Returns the context that was started last and is active.
    ///
    /// # Spark
    ///
    /// `StreamingContext.getActive`, SC28.
    pub fn active() -> Option<StreamingContext> {
        let all: Vec<_> = lock(&ACTIVE).iter().filter_map(Weak::upgrade).collect();
        all.into_iter()
            .rev()
            .map(|inner| StreamingContext { inner })
            .find(|ssc| ssc.state() == StreamingContextState::Active)
    }

    /// Returns the active context, or the one that `make` makes.
    ///
    /// # Errors
    ///
    /// What `make` fails with.
    ///
    /// # Spark
    ///
    /// `StreamingContext.getActiveOrCreate`, SC29.
    pub fn active_or_create(make: impl FnOnce() -> Result<StreamingContext>) -> Result<StreamingContext> {
        StreamingContext::active().map_or_else(make, Ok)
    }
}

impl StreamingContext {
    /// Returns a handle that does not keep the context from ending with its last clone.
    pub(crate) fn downgrade(&self) -> WeakContext {
        WeakContext(Arc::downgrade(&self.inner))
    }
}

/// A streaming context that others may have let go.
pub(crate) struct WeakContext(Weak<Inner>);

impl WeakContext {
    pub(crate) fn upgrade(&self) -> Option<StreamingContext> {
        Some(StreamingContext { inner: self.0.upgrade()? })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let thread = lock(&self.shared.state).thread.take();
        if thread.is_some() {
            self.mailbox.post(Event::StopAsked { graceful: false });
            self.hurry.ask();
        }
    }
}

impl fmt::Debug for StreamingContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamingContext({:?}, every {:?})", self.state(), self.inner.interval)
    }
}
