//! StreamingContext: inputs, start, stop, and waiting for the end.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::time::Duration;

use millstream_core::backend::Backend;
use millstream_core::checkpoint::FolderCheckpoints;
use millstream_core::clock::{Clock, Wake, monotonic};
use millstream_core::disk::{Disk, RealDisk};
use millstream_core::storage::BlockStore;
use millstream_core::threads::{self, OwnedThread, lock};
use millstream_core::{
    CallSite, Context, Data, Error, ErrorKind, ExchangeData, JobLocals, ListenerId, Rdd, Result, Time, millis,
    panicked, secs,
};

use crate::backpressure::RateControllers;
use crate::batch::BatchLoop;
use crate::batch::job_set::{JobRunner, JobThreads};
use crate::batch::lifecycle::{Event, Lifecycle, Rules};
use crate::batch::mailbox::Mailbox;
use crate::batch::submitted::Submitted;
use crate::batch::ticker::Ticker;
use crate::checkpoint::{Durable, Found, Program};
use crate::conf::{Conf, OnFailure, StreamingConf};
use crate::dstream::{DStream, Input, handle};
use crate::graph::{Graph, GraphShared, RunId, Running, StreamKind, StreamSpec};
use crate::input::{ConstantSource, DurableFolder, Hurry, InputContext, InputSource, QueueSource, RddQueue, WhenEmpty};
use crate::listener::{self, ListenerBus, StreamingEvent, StreamingListener};

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

/// How to stop.
///
/// # Example
///
/// ```
/// use millstream_streaming::Stop;
///
/// let stop = Stop::gracefully().keep_context();
/// assert_ne!(stop, Stop::now());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    graceful: bool,
    context: Option<bool>,
}

impl Stop {
    /// Stops at once: batches that have not ended are abandoned.
    pub fn now() -> Stop {
        Stop { graceful: false, context: None }
    }

    /// Stops the inputs, and then when everything received has been processed.
    pub fn gracefully() -> Stop {
        Stop { graceful: true, context: None }
    }

    /// Leaves the engine's context usable, for another streaming context or batch programs.
    #[must_use]
    pub fn keep_context(self) -> Stop {
        Stop { context: Some(false), ..self }
    }

    /// Stops the engine's context too.
    #[must_use]
    pub fn and_context(self) -> Stop {
        Stop { context: Some(true), ..self }
    }
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
    disk: Arc<dyn Disk>,
    /// Where the program is durable, and what is done with what is there.
    kept_in: Mutex<Option<(PathBuf, Resume)>>,
    site: CallSite,
}

/// What is done with what an earlier run left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Resume {
    /// It goes on.
    Always,
    /// It is thrown away.
    Never,
    /// The start is refused.
    Refuse,
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
}

static ACTIVE: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// Makes a [`StreamingContext`] with components of one's own.
#[derive(Debug)]
pub struct StreamingContextBuilder {
    conf: Conf,
    interval: Duration,
    clock: Option<Arc<dyn Clock>>,
    backend: Option<Arc<dyn Backend>>,
    blocks: Option<Arc<dyn BlockStore>>,
    app_id: Option<String>,
    disk: Option<Arc<dyn Disk>>,
    site: CallSite,
}

impl StreamingContextBuilder {
    /// Tells the time by `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Runs jobs on `backend`.
    #[must_use]
    pub fn with_backend(mut self, backend: Arc<dyn Backend>) -> Self {
        self.backend = Some(backend);
        self
    }

    /// Keeps blocks in `blocks`.
    #[must_use]
    pub fn with_block_store(mut self, blocks: Arc<dyn BlockStore>) -> Self {
        self.blocks = Some(blocks);
        self
    }

    /// Calls the application `id`. It is part of every [batch key](crate::BatchKey), so a program whose sinks remember
    /// keys across restarts needs a name that stays.
    #[must_use]
    pub fn with_app_id(mut self, id: impl Into<String>) -> Self {
        self.app_id = Some(id.into());
        self
    }

    /// Keeps checkpoints on `disk`.
    #[must_use]
    pub fn with_disk(mut self, disk: Arc<dyn Disk>) -> Self {
        self.disk = Some(disk);
        self
    }

    /// As [`StreamingContext::get_or_create`], with the settings and components of this builder.
    ///
    /// # Errors
    ///
    /// As [`build`](Self::build) and [`StreamingContext::get_or_create`].
    pub fn get_or_create(
        self,
        folder: impl AsRef<Path>,
        setup: impl FnOnce(&StreamingContext) -> Result<()>,
    ) -> Result<StreamingContext> {
        let ssc = self.build()?;
        ssc.keep_in(folder.as_ref(), Resume::Always)?;
        match setup(&ssc) {
            Ok(()) => Ok(ssc),
            Err(error) => {
                ssc.stop()?;
                Err(error)
            }
        }
    }

    /// Makes the context.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the interval is not between one millisecond and a day, or a setting cannot work.
    /// `Unavailable`: the system gives no more threads.
    pub fn build(self) -> Result<StreamingContext> {
        check_interval(self.interval).and_then(|()| self.conf.streaming.check()).map_err(|e| e.at(self.site))?;
        let mut engine = Context::builder(self.conf.engine.clone());
        if let Some(clock) = self.clock {
            engine = engine.with_clock(clock);
        }
        if let Some(backend) = self.backend {
            engine = engine.with_backend(backend);
        }
        if let Some(blocks) = self.blocks {
            engine = engine.with_block_store(blocks);
        }
        if let Some(id) = self.app_id {
            engine = engine.with_app_id(id);
        }
        let disk = self.disk.unwrap_or_else(|| Arc::new(RealDisk));
        Ok(StreamingContext::make(engine.build()?, self.conf.streaming, self.interval, disk, self.site))
    }
}

fn check_interval(interval: Duration) -> Result<()> {
    let whole = interval.subsec_nanos().is_multiple_of(1_000_000);
    if whole && (millis(1)..=secs(86_400)).contains(&interval) {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Config,
        format!("the batch interval must be whole milliseconds, from 1 ms to 24 h: {interval:?}"),
    ))
}

impl StreamingContext {
    /// Makes a context that runs on `master`, for a program called `app_name`, with a batch every `interval`.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: `master` is not a master, or the interval is not between one millisecond and a day.
    ///
    /// # Spark
    ///
    /// `new StreamingContext(master, appName, batchDuration)`, SC03.
    #[track_caller]
    pub fn new(master: &str, app_name: impl Into<String>, interval: Duration) -> Result<StreamingContext> {
        StreamingContext::builder(Conf::new(master, app_name)?, interval).build()
    }

    /// Makes a context with the settings `conf`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Spark
    ///
    /// `new StreamingContext(conf, batchDuration)`, SC02.
    #[track_caller]
    pub fn with_conf(conf: Conf, interval: Duration) -> Result<StreamingContext> {
        StreamingContext::builder(conf, interval).build()
    }

    /// Begins a context with the settings `conf`, to be given components of one's own.
    #[track_caller]
    pub fn builder(conf: Conf, interval: Duration) -> StreamingContextBuilder {
        StreamingContextBuilder {
            conf,
            interval,
            clock: None,
            backend: None,
            blocks: None,
            app_id: None,
            disk: None,
            site: CallSite::here("StreamingContext"),
        }
    }

    /// Makes a context on an engine that is there already.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    ///
    /// # Spark
    ///
    /// `new StreamingContext(sparkContext, batchDuration)`, SC01.
    #[track_caller]
    pub fn on(context: &Context, conf: StreamingConf, interval: Duration) -> Result<StreamingContext> {
        let site = CallSite::here("StreamingContext");
        check_interval(interval).and_then(|()| conf.check()).map_err(|e| e.at(site))?;
        Ok(StreamingContext::make(context.clone(), conf, interval, Arc::new(RealDisk), site))
    }

    fn make(
        context: Context,
        conf: StreamingConf,
        interval: Duration,
        disk: Arc<dyn Disk>,
        site: CallSite,
    ) -> StreamingContext {
        let life = Life {
            state: StreamingContextState::Initialized,
            error: None,
            thread: None,
            own: Vec::new(),
            halted: true,
            settled: None,
            stop_engine: false,
        };
        let bus = context.another_kind_of_listeners();
        StreamingContext {
            inner: Arc::new(Inner {
                shared: Arc::new(Shared { state: Mutex::new(life), changed: Condvar::new() }),
                graph: GraphShared::new(interval, conf.spark_compatible),
                context,
                conf,
                interval,
                remember: Mutex::new(None),
                ignores_folder: AtomicBool::new(false),
                bus,
                mailbox: Arc::new(Mailbox::default()),
                hurry: Arc::default(),
                disk,
                kept_in: Mutex::new(None),
                site,
            }),
        }
    }

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
        inner.graph.ask(|graph| graph.describe(durable)).unwrap_or_default()
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

    /// Makes the program durable in a folder, which is made if it is not there: what batches are given, which of them have
    /// ended, and states are written there.
    ///
    /// A folder in which a program has run is not taken for a new one: `start()` refuses it.
    /// [`get_or_create`](Self::get_or_create) goes on from there.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the folder cannot be made.
    ///
    /// # Spark
    ///
    /// `StreamingContext.checkpoint`, SC08.
    pub fn checkpoint(&self, folder: impl AsRef<Path>) -> Result<()> {
        let resume = if self.inner.conf.spark_compatible { Resume::Never } else { Resume::Refuse };
        self.keep_in(folder.as_ref(), resume)
    }

    /// As [`checkpoint`](Self::checkpoint); what a program left in the folder is thrown away at the start.
    ///
    /// # Errors
    ///
    /// As [`checkpoint`](Self::checkpoint).
    pub fn checkpoint_anew(&self, folder: impl AsRef<Path>) -> Result<()> {
        self.keep_in(folder.as_ref(), Resume::Never)
    }

    fn keep_in(&self, folder: &Path, resume: Resume) -> Result<()> {
        let inner = &self.inner;
        let store = FolderCheckpoints::open_on(Arc::clone(&inner.disk), folder)?;
        inner.context.set_checkpoint_store(Arc::new(store));
        *lock(&inner.kept_in) = Some((folder.to_owned(), resume));
        Ok(())
    }

    /// Makes a program that goes on where its last run ended, or begins if it never ran.
    ///
    /// `setup` builds the graph, at every start: the graph is code. What is restored is data: what batches were given, which of
    /// them had ended, and states. Batches that had begun and not ended run again, with exactly what they were given; for those
    /// that were missed see [`MissedBatches`](crate::MissedBatches).
    ///
    /// The program runs on `local[*]`; [`StreamingContextBuilder::get_or_create`] is for settings of one's own.
    ///
    /// # Example
    ///
    /// ```
    /// # let folder = tempfile::tempdir()?;
    /// use millstream_core::secs;
    /// use millstream_streaming::StreamingContext;
    ///
    /// let ssc = StreamingContext::get_or_create(folder.path(), secs(1), |ssc| {
    ///     let words = ssc.text_file_stream("/var/log/incoming").flat_map(|line| line.split(' '));
    ///     let count = |new: Vec<u64>, old: Option<u64>| Some(old.unwrap_or(0) + new.iter().sum::<u64>());
    ///     words.map(|word| (word, 1)).update_state_by_key(count).uid("counts").print();
    ///     Ok(())
    /// })?;
    /// ssc.start()?;
    /// # ssc.stop()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What `setup` fails with. `start()` reports, with the kind `Config`, a folder in use by another process and a program that
    /// is not that of the checkpoint; and with the kind `Data` a checkpoint that cannot be read.
    ///
    /// # Spark
    ///
    /// `StreamingContext.getOrCreate`, SC31; `new StreamingContext(path)`, SC04.
    #[track_caller]
    pub fn get_or_create(
        folder: impl AsRef<Path>,
        interval: Duration,
        setup: impl FnOnce(&StreamingContext) -> Result<()>,
    ) -> Result<StreamingContext> {
        let name = folder.as_ref().file_name().map_or("millstream".into(), |name| name.to_string_lossy().into_owned());
        StreamingContext::builder(Conf::new("local[*]", name)?, interval).get_or_create(folder, setup)
    }

    /// Takes the folder for checkpoints back, whether [`checkpoint`](Self::checkpoint), the engine's
    /// [`Context`] or the settings named it. A program that needs one does not start then.
    ///
    /// # Errors
    ///
    /// The kind is `Stopped`: the context has been started, and what is saved is read again.
    ///
    /// # Spark
    ///
    /// `StreamingContext.checkpoint(null)`, SC08, S-139; there the engine's own folder stays.
    #[track_caller]
    pub fn clear_checkpoint(&self) -> Result<()> {
        let site = CallSite::here("clear_checkpoint");
        if self.state() != StreamingContextState::Initialized {
            let text =
                "the checkpoint directory cannot be taken back once the context has been started: call it before";
            return Err(Error::new(ErrorKind::Stopped, text).at(site));
        }
        self.inner.ignores_folder.store(true, Ordering::Relaxed);
        *lock(&self.inner.kept_in) = None;
        self.inner.context.clear_checkpoint_store();
        Ok(())
    }

    // ------------------------------------------------------------------------------------- start and stop

    /// Starts the batches and returns. The graph is fixed from here on.
    ///
    /// A second start of an active context does nothing but a warning (S-136).
    ///
    /// # Errors
    ///
    /// All mistakes in the graph, each with its line; no output (kind `Graph`); the context has been stopped (kind
    /// `Stopped`); another context is active in this process (kind `Stopped`, and this one can be started later); an
    /// input that cannot start. But for the last but one the context is stopped then.
    ///
    /// # Spark
    ///
    /// `StreamingContext.start`, SC23.
    pub fn start(&self) -> Result<()> {
        let inner = &self.inner;
        let mut active = lock(&ACTIVE);
        let mut life = lock(&inner.shared.state);
        match life.state {
            StreamingContextState::Active => {
                tracing::warn!("the streaming context has been started already");
                return Ok(());
            }
            StreamingContextState::Stopped => {
                return Err(Error::new(ErrorKind::Stopped, "the streaming context has already been stopped"));
            }
            StreamingContextState::Initialized => {}
        }
        active.retain(|other| {
            other.upgrade().is_some_and(|o| lock_unless(&o.shared, &inner.shared) == StreamingContextState::Active)
        });
        if inner.conf.exclusive {
            let other = active.iter().filter_map(Weak::upgrade).find(|other| other.conf.exclusive);
            if let Some(other) = other {
                return Err(Error::new(
                    ErrorKind::Stopped,
                    format!(
                        "only one StreamingContext may be active in this process; the other one was made at {}:{}",
                        other.site.file(),
                        other.site.line()
                    ),
                ));
            }
        }
        match self.launch(&mut life) {
            Ok(()) => {
                life.state = StreamingContextState::Active;
                life.halted = false;
                active.push(Arc::downgrade(inner));
                Ok(())
            }
            Err(error) => {
                life.state = StreamingContextState::Stopped;
                drop((life, active));
                inner.graph.set_stopped();
                listener::end(&inner.bus);
                inner.shared.changed.notify_all();
                Err(error)
            }
        }
    }

    /// Opens the checkpoint's folder, if the program is to be durable.
    fn find_checkpoint(&self) -> Result<Option<Found>> {
        let inner = &self.inner;
        let Some((folder, resume)) = lock(&inner.kept_in).clone() else { return Ok(None) };
        let found = Found::open(Arc::clone(&inner.disk), &folder, inner.conf.checkpoint_after)?;
        match resume {
            Resume::Refuse if found.is_used() => {
                let text = format!(
                    "the checkpoint directory {} is of a program that has run ({}): StreamingContext::get_or_create goes on \
                     from there, checkpoint_anew throws it away",
                    folder.display(),
                    found.summary()
                );
                Err(Error::new(ErrorKind::Config, text).at(inner.site))
            }
            Resume::Never if found.is_used() => Ok(Some(found.clear()?)),
            _ => Ok(Some(found)),
        }
    }

    fn launch(&self, life: &mut Life) -> Result<()> {
        let inner = &self.inner;
        let mut graph = inner.graph.take()?;
        if graph.outputs.is_empty() {
            return Err(Error::new(
                ErrorKind::Graph,
                "no output operations registered, so nothing to execute; end a stream with foreach_rdd, print or save",
            ));
        }
        let clock = Arc::clone(inner.context.clock());
        // What the program said itself counts.
        if let Some(folder) = &inner.conf.checkpoint_dir
            && !inner.ignores_folder.load(Ordering::Relaxed)
            && inner.context.env().checkpoints().is_err()
        {
            self.checkpoint(folder)?;
        }
        let found = self.find_checkpoint()?;
        let mut left_out = 0;
        let ticker = match found.as_ref().filter(|found| found.is_used()).map(Found::times) {
            Some((zero, latest)) => {
                let (interval, now, missed) = (inner.interval, clock.now(), inner.conf.missed_batches);
                let (ticker, count) = Ticker::resume(zero, latest.unwrap_or(zero), interval, now, missed);
                left_out = count;
                ticker
            }
            None => Ticker::first(clock.now(), inner.interval),
        };
        graph.initialise(ticker.zero(), lock(&inner.remember).unwrap_or_default());
        if let Some(site) = graph.saved_streams().next() {
            inner.context.env().checkpoints().map_err(|e| e.at(site))?;
        }
        inner.bus.check()?;
        graph.run = RunId { app_id: inner.context.app_id().to_owned(), epoch: 0 };
        let (mut durable, mut past) = (None, None);
        if let Some(found) = found {
            let is_used = found.is_used();
            let mut begun = begin(found, &mut graph, &inner.context, inner.interval)?;
            let prepared = begun.prepared();
            graph.recover_outputs(&prepared)?;
            prepared.into_keys().for_each(|at| begun.committed(at));
            if is_used {
                restore_inputs(&mut graph, &begun)?;
                let facts = graph.facts(&begun);
                past = Some((begun.past(&facts, &graph.output_streams()), begun.past_batches()));
            }
            durable = Some(begun);
        } else {
            if let Some(site) = graph.wants_exactly_once() {
                let text = "an output is to take each batch exactly once, and there is no checkpoint directory: say \
                            checkpoint(…), or make the program with get_or_create";
                return Err(Error::new(ErrorKind::Config, text).at(site));
            }
            graph.recover_outputs(&Default::default())?;
        }
        let now = clock.now();
        inner.bus.post(|| StreamingEvent::StreamingStarted(now));
        if left_out > 0 {
            let next = ticker.next();
            tracing::warn!(count = left_out, %next, "batches that were missed are left out");
            inner.bus.post(|| StreamingEvent::BatchesLeftOut(next, left_out));
        }

        let shared = Arc::clone(&inner.shared);
        let group = format!("streaming-{:p}", Arc::as_ptr(&inner.shared));
        let locals = JobLocals::here().in_group(&group);
        let locals = locals.with_properties([("spark.job.interruptOnCancel", "false".to_owned())]);
        let runner = JobRunner {
            context: inner.context.clone(),
            clock: Arc::clone(&clock),
            bus: inner.bus.clone(),
            mailbox: Arc::clone(&inner.mailbox),
            report: reporter(&shared),
            locals: locals.clone(),
            group,
        };
        let jobs = JobThreads::start(inner.conf.concurrent_jobs, runner)?;
        life.own = jobs.thread_ids();
        let folder = lock(&inner.kept_in).clone().map(|(folder, _)| folder);
        let durable_folder = |stream: usize| {
            let key = durable.as_ref()?.key(stream)?;
            Some(DurableFolder::of(&inner.disk, folder.as_ref()?, key))
        };
        let started = start_inputs(&mut graph, |stream, number| InputContext {
            durable: durable_folder(stream),
            number,
            interval: inner.interval,
            context: inner.context.clone(),
            conf: inner.conf.clone(),
            bus: inner.bus.clone(),
            hurry: Arc::clone(&inner.hurry),
        });
        if let Err(error) = started {
            jobs.stop(Duration::ZERO);
            return Err(error);
        }
        let rates = RateControllers::new(graph.inputs_that_keep_to_a_limit(), &inner.conf, inner.interval)?;
        let waker: Arc<dyn Wake> = Arc::clone(&inner.mailbox) as Arc<dyn Wake>;
        clock.subscribe(Arc::downgrade(&waker));
        let stop_timeout = inner.conf.graceful_stop_timeout.unwrap_or((inner.interval * 10).max(secs(10)));
        let rules = Rules { checkpoint: durable.is_some(), stop_on_failure: inner.conf.on_failure == OnFailure::Stop };
        let batches = BatchLoop {
            graph,
            context: inner.context.clone(),
            conf: inner.conf.clone(),
            seen_steps: clock.stepped(),
            submitted: Submitted::new(inner.conf.concurrent_jobs),
            rates,
            tell_at: None,
            clock,
            ticker,
            lifecycle: Lifecycle::new(rules),
            mailbox: Arc::clone(&inner.mailbox),
            jobs,
            bus: inner.bus.clone(),
            report: reporter(&shared),
            settled: {
                let shared = Arc::clone(&shared);
                Box::new(move |at| {
                    let mut life = lock(&shared.state);
                    life.settled = life.settled.max(Some(at));
                    drop(life);
                    shared.changed.notify_all();
                })
            },
            planned: Default::default(),
            woken: Duration::ZERO,
            stop_timeout,
            give_up: None,
            durable,
            past,
        };
        let (graph, bus, context) = (Arc::clone(&inner.graph), inner.bus.clone(), inner.context.clone());
        let (report, mailbox) = (reporter(&shared), Arc::clone(&inner.mailbox));
        let thread = threads::spawn("batch", move || {
            // Whoever waits for the end must see one, also after a bug of ours.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| locals.scope(|| batches.run()))) {
                report(millstream_core::bug!("the batch loop broke: {}", panicked(&*payload).message()));
            }
            mailbox.close();
            graph.set_stopped();
            listener::end(&bus);
            let mut life = lock(&shared.state);
            if life.stop_engine {
                // It waits for listeners, who may ask how the context is.
                drop(life);
                context.stop();
                life = lock(&shared.state);
            }
            life.state = StreamingContextState::Stopped;
            life.halted = true;
            drop(life);
            shared.changed.notify_all();
        })?;
        inner.graph.set_running(Running { mailbox: Arc::clone(&inner.mailbox), hurry: Arc::clone(&inner.hurry) });
        life.own.extend(thread.id());
        life.thread = Some(thread);
        Ok(())
    }

    /// Stops at once, and the engine's context too unless the settings say otherwise.
    ///
    /// Batches that have not ended are abandoned. Called twice, or before the start, it does no harm. Called by an
    /// output or a receiver, it returns before the stop is complete: nothing can wait for itself. The engine's context is then
    /// stopped at the end.
    ///
    /// # Errors
    ///
    /// The kind is `Stopped` if a listener calls it (S-123).
    ///
    /// # Spark
    ///
    /// `StreamingContext.stop`, SC26.
    pub fn stop(&self) -> Result<()> {
        self.stop_with(Stop::now())
    }

    /// Stops the inputs, processes everything that was received, and then stops.
    ///
    /// What was received and belongs to no batch yet is run as a last batch at once, without waiting until it would be
    /// due.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    ///
    /// # Spark
    ///
    /// `StreamingContext.stop(…, stopGracefully = true)`, SC27, S-128.
    pub fn stop_gracefully(&self) -> Result<()> {
        self.stop_with(Stop::gracefully())
    }

    /// Stops as `how` says.
    ///
    /// # Errors
    ///
    /// As [`stop`](Self::stop).
    pub fn stop_with(&self, how: Stop) -> Result<()> {
        let inner = &self.inner;
        self.refuse_listeners("stop")?;
        let stop_engine = how.context.unwrap_or(inner.conf.stop_context_by_default);
        let mut saves = Ok(());
        let mut life = lock(&inner.shared.state);
        match life.state {
            StreamingContextState::Initialized => {
                tracing::warn!("the streaming context has not been started");
                life.state = StreamingContextState::Stopped;
                drop(life);
                inner.graph.set_stopped();
                listener::end(&inner.bus);
                inner.shared.changed.notify_all();
            }
            StreamingContextState::Stopped => drop(life),
            StreamingContextState::Active => {
                let own = life.own.contains(&std::thread::current().id()) || inner.hurry.is_called_by_an_input();
                inner.mailbox.post(Event::StopAsked { graceful: how.graceful });
                if !how.graceful {
                    // The batch thread may be waiting for a receiver, and not look into its mailbox.
                    inner.hurry.ask();
                }
                if own {
                    // What is still to run needs the engine.
                    life.stop_engine |= stop_engine;
                    return Ok(());
                }
                while !life.halted {
                    life = inner.shared.changed.wait(life).unwrap_or_else(PoisonError::into_inner);
                }
                let thread = life.thread.take();
                drop(life);
                drop(thread);
                saves = inner.context.await_saves();
            }
        }
        if stop_engine {
            inner.context.stop();
        }
        saves
    }

    /// The end of the context waits for its listeners, so none of them can wait for that.
    fn refuse_listeners(&self, doing: &str) -> Result<()> {
        if !self.inner.bus.is_current() {
            return Ok(());
        }
        let text = format!("cannot {doing} StreamingContext within listener bus thread: hand it to another thread");
        Err(Error::new(ErrorKind::Stopped, text))
    }

    /// Waits until the context stops, or something goes wrong.
    ///
    /// # Errors
    ///
    /// What went wrong first; again at every later call. Operations that were called after the start are returned
    /// here too, each with its line. The kind is `Stopped` if a listener calls it.
    ///
    /// # Spark
    ///
    /// `StreamingContext.awaitTermination`, SC24.
    pub fn await_termination(&self) -> Result<()> {
        self.wait(None).map(|_| ())
    }

    /// As [`await_termination`](Self::await_termination), for at most `timeout`. Returns whether the context stopped.
    ///
    /// # Errors
    ///
    /// As [`await_termination`](Self::await_termination).
    ///
    /// # Spark
    ///
    /// `StreamingContext.awaitTerminationOrTimeout`, SC25.
    pub fn await_termination_or_timeout(&self, timeout: Duration) -> Result<bool> {
        self.wait(Some(timeout))
    }

    /// Waits until the batch of the time `at` has come to its end, well or not. Returns whether it did, and `false` if
    /// the context stopped before.
    ///
    /// It is for tests and tools: with a manual clock, it says when to go on.
    pub fn await_batch(&self, at: Time) -> bool {
        self.await_batch_until(at, None)
    }

    /// As [`await_batch`](Self::await_batch), for so long at most; `false` if the batch has not come to its end then.
    pub fn await_batch_or_timeout(&self, at: Time, timeout: Duration) -> bool {
        self.await_batch_until(at, monotonic().checked_add(timeout))
    }

    fn await_batch_until(&self, at: Time, deadline: Option<Duration>) -> bool {
        let shared = &self.inner.shared;
        let mut life = lock(&shared.state);
        loop {
            if life.settled >= Some(at) {
                return true;
            }
            let left = deadline.map(|deadline| deadline.saturating_sub(monotonic()));
            if life.halted || left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            life = match left {
                Some(left) => shared.changed.wait_timeout(life, left).unwrap_or_else(PoisonError::into_inner).0,
                None => shared.changed.wait(life).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    fn wait(&self, timeout: Option<Duration>) -> Result<bool> {
        self.refuse_listeners("await")?;
        // A deadline that no clock can show never comes.
        let deadline = timeout.and_then(|timeout| monotonic().checked_add(timeout));
        let shared = &self.inner.shared;
        let mut life = lock(&shared.state);
        loop {
            if let Some(error) = &life.error {
                let error = error.clone();
                // The stop that the error leads to, if it does, is part of the wait.
                while self.inner.conf.on_failure == OnFailure::Stop && !life.halted {
                    life = shared.changed.wait(life).unwrap_or_else(PoisonError::into_inner);
                }
                return Err(error);
            }
            let late = self.inner.graph.late_errors();
            if !late.is_empty() {
                return Err(Error::several("operations came too late", &late));
            }
            if life.state == StreamingContextState::Stopped {
                return Ok(true);
            }
            life = match deadline {
                None => shared.changed.wait(life).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_sub(monotonic());
                    if left.is_zero() {
                        return Ok(false);
                    }
                    shared.changed.wait_timeout(life, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
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

fn lock_unless(other: &Arc<Shared>, own: &Arc<Shared>) -> StreamingContextState {
    if Arc::ptr_eq(other, own) { StreamingContextState::Initialized } else { lock(&other.state).state }
}

/// Notes the start in the checkpoint.
fn begin(found: Found, graph: &mut Graph, context: &Context, interval: Duration) -> Result<Durable> {
    let (keepers, keeper_of) = graph.keepers();
    let program = Program { app_id: context.app_id(), zero: graph.zero(), interval, keepers, keeper_of };
    let durable = Durable::begin(found, program, context.env().checkpoints()?)?;
    let (app_id, epoch) = durable.run();
    context.save_under(format!("states-{epoch}"));
    graph.run = RunId { app_id: app_id.to_owned(), epoch };
    Ok(durable)
}

/// Tells the inputs what they gave to the batches that are remembered.
fn restore_inputs(graph: &mut Graph, durable: &Durable) -> Result<()> {
    for (i, slot) in graph.slots.iter_mut().enumerate() {
        if let StreamKind::Input { input, .. } = &mut slot.kind {
            input.restore(&durable.given(i)).map_err(|error| error.at(slot.spec.site))?;
        }
    }
    Ok(())
}

fn start_inputs(graph: &mut Graph, context: impl Fn(usize, u64) -> InputContext) -> Result<()> {
    for i in 0..graph.slots.len() {
        let slot = &mut graph.slots[i];
        let StreamKind::Input { number, input } = &mut slot.kind else { continue };
        if let Err(error) = input.start(&context(i, *number)) {
            let error = error.at(slot.spec.site);
            for slot in &mut graph.slots[..i] {
                if let StreamKind::Input { input, .. } = &mut slot.kind {
                    input.stop(false);
                }
            }
            return Err(error);
        }
    }
    Ok(())
}

/// Keeps the first error, for whoever awaits the context.
fn reporter(shared: &Arc<Shared>) -> Arc<dyn Fn(Error) + Send + Sync> {
    let shared = Arc::clone(shared);
    Arc::new(move |error| {
        tracing::error!(%error, "a batch failed");
        lock(&shared.state).error.get_or_insert(error);
        shared.changed.notify_all();
    })
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
