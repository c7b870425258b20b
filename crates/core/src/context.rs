//! Context: one engine, from which Rdds begin and on which jobs run.

pub(crate) mod jobs;
mod listeners;
pub(crate) mod persistent;

use std::any::Any;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use self::jobs::{JobLocals, Jobs, Running};
use self::persistent::Persistent;
use crate::backend::{self, Backend, JobEnds};
use crate::checkpoint::{CheckpointStore, FolderCheckpoints};
use crate::clock::{Clock, SystemClock, wall_time};
use crate::codec;
use crate::conf::EngineConf;
use crate::data::{Data, ExchangeData};
use crate::disk::{Disk, RealDisk};
use crate::error::{CallSite, Error, ErrorKind, Result};
use crate::events::{ApplicationStart, EngineEvent, EngineListener, Events, ExecutorInfo, ExecutorLost, JobWatch};
use crate::memory::MemoryBudget;
use crate::partitioner::check_partitions;
use crate::plan::away::DriverBlocks;
use crate::plan::resident::Residents;
use crate::plan::{Facts, JobPlan, TaskContext, TaskResult, plan_job};
use crate::rdd::actions::{Action, CountAction};
use crate::rdd::paths::{list_files, list_found};
use crate::rdd::saved::{Checkpoints, save_marked};
use crate::rdd::saver::Saver;
use crate::rdd::second_copy::{self, SecondCopy};
use crate::rdd::{Node, Rdd, RddId, ShuffleId, sources, union};
use crate::shuffle::ShuffleStore;
use crate::spill::SpillDir;
use crate::storage::{Block, BlockId, BlockStore, DiskStore, MemoryStore, TieredStore};
use crate::text::Text;
use crate::threads::lock;

/// How often a job is planned again because executors have lost what was to be read from them.
const REPLANS: u32 = 16;

/// The stores of one process, which its tasks share.
#[derive(Debug)]
pub struct Env {
    /// Kept partitions and received blocks.
    pub blocks: Arc<dyn BlockStore>,
    /// What map tasks wrote for reduce tasks.
    pub shuffles: ShuffleStore,
    /// How much memory all of them may hold together, and tasks with them.
    pub memory: Arc<MemoryBudget>,
    /// Where tasks write what they have no memory for.
    pub spill: Arc<SpillDir>,
    /// Where files of outputs are written.
    pub output_disk: Arc<dyn Disk>,
    /// Where checkpoints are, once that has been said.
    pub(crate) saved: Checkpoints,
    /// Whom to tell what happens.
    pub(crate) events: Events,
    /// The folder of that store in which the Rdds of this process are.
    pub(crate) saved_under: RwLock<String>,
    /// How many have been.
    pub(crate) saved_so_far: AtomicU64,
    /// Whom to ask for blocks that only the driver has, where tasks run elsewhere.
    pub(crate) driver: Option<Arc<dyn DriverBlocks>>,
}

impl Env {
    /// Tells listeners that an executor is there.
    pub fn executor_added(&self, executor: &ExecutorInfo) {
        self.events.listeners.post(|| EngineEvent::ExecutorAdded(executor.clone()));
    }

    /// Tells listeners that an executor is lost, and why.
    pub fn executor_lost(&self, executor: &ExecutorInfo, reason: &str) {
        let time = self.events.clock.now();
        self.events.listeners.post(|| {
            EngineEvent::ExecutorLost(ExecutorLost { executor: executor.clone(), time, reason: reason.to_owned() })
        });
    }

    /// Has stores give up about `bytes` of memory, as far as they may: shuffle outputs first, which nothing must be
    /// computed again for.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: what had to go to disk could not.
    pub fn make_room(&self, bytes: u64) -> Result<()> {
        match self.shuffles.make_room(bytes)? {
            given if given < bytes => self.blocks.make_room(bytes - given),
            _ => Ok(()),
        }
    }

    /// Returns a folder of the checkpoints' store for the next Rdd that is saved. They are counted, and not named for the
    /// Rdd, so that the same program writes the same names whatever else its process does.
    pub(crate) fn next_saved(&self) -> String {
        let under = self.saved_under.read().unwrap_or_else(PoisonError::into_inner);
        format!("{under}/rdd-{}", self.saved_so_far.fetch_add(1, Ordering::Relaxed))
    }

    /// Returns the elements of a block that is kept here, or by the driver.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable` or `Data`: it is there, but cannot be read.
    pub(crate) fn values_of<T: ExchangeData>(&self, id: BlockId) -> Result<Option<Arc<Vec<T>>>> {
        let read = |bytes: &[u8]| codec::decode(bytes).map(|values| Some(Arc::new(values)));
        match self.blocks.get(id)? {
            // Written in another process, perhaps, whose codec did not come along.
            Some(Block::Bytes { bytes, .. }) => return read(&bytes),
            Some(Block::File(file)) => return read(&file.bytes()?),
            Some(block) => return block.values::<T>().map(Some),
            None => {}
        }
        match self.driver.as_ref().map(|driver| driver.block(id)).transpose()?.flatten() {
            Some(bytes) => read(&bytes),
            None => Ok(None),
        }
    }

    /// Returns where checkpoints are.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: nobody has said.
    pub fn checkpoints(&self) -> Result<Arc<dyn CheckpointStore>> {
        self.saved.read().unwrap_or_else(PoisonError::into_inner).clone().ok_or_else(|| {
            let text = "the checkpoint directory has not been set: call checkpoint(dir) on the StreamingContext, or \
                        set_checkpoint_dir(dir) on the Context";
            Error::new(ErrorKind::Config, text)
        })
    }
}

impl Facts for Env {
    fn shuffled(&self, id: ShuffleId) -> bool {
        self.shuffles.is_complete(id)
    }

    fn kept(&self, rdd: RddId, partitions: usize) -> bool {
        (0..partitions).all(|partition| self.blocks.contains(BlockId::Rdd { rdd, partition }))
    }
}

/// One engine: settings, threads and stores. Rdds begin here.
///
/// It is cheap to clone. When the last clone and the last Rdd are gone, its threads end.
///
/// # Example
///
/// ```
/// use millstream_core::Context;
///
/// let context = Context::new("local[2]", "sums")?;
/// assert_eq!(context.parallelize(vec![1, 2, 3], 2).reduce(|a, b| a + b)?, 6);
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `SparkContext`, api section 1.14.
#[derive(Clone)]
pub struct Context {
    inner: Arc<Inner>,
}

struct Inner {
    conf: EngineConf,
    env: Arc<Env>,
    backend: Arc<dyn Backend>,
    /// Whether the backend was made for this context, and ends with it. One that was lent may have others to serve.
    owns_backend: bool,
    clock: Arc<dyn Clock>,
    app_id: String,
    stopped: AtomicBool,
    next_job: AtomicU64,
    saver: Saver,
    running: Mutex<Jobs>,
    persistent: Mutex<Persistent>,
}

/// Makes a [`Context`] with components of one's own.
#[derive(Debug)]
pub struct ContextBuilder {
    conf: EngineConf,
    clock: Option<Arc<dyn Clock>>,
    blocks: Option<Arc<dyn BlockStore>>,
    backend: Option<Arc<dyn Backend>>,
    output_disk: Option<Arc<dyn Disk>>,
    app_id: Option<String>,
    listeners: NewListeners,
}

/// Listeners that are told from the beginning.
#[derive(Default)]
struct NewListeners(Vec<Arc<dyn EngineListener>>);

impl fmt::Debug for NewListeners {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} listeners", self.0.len())
    }
}

impl ContextBuilder {
    /// Tells the time by `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> ContextBuilder {
        self.clock = Some(clock);
        self
    }

    /// Keeps blocks in `blocks`.
    #[must_use]
    pub fn with_block_store(mut self, blocks: Arc<dyn BlockStore>) -> ContextBuilder {
        self.blocks = Some(blocks);
        self
    }

    /// Runs jobs on `backend`.
    #[must_use]
    pub fn with_backend(mut self, backend: Arc<dyn Backend>) -> ContextBuilder {
        self.backend = Some(backend);
        self
    }

    /// Writes files of outputs (`save_as_text_file` and its kin) to `disk`, and not to the system's file system. Executors of
    /// a cluster write to their own.
    #[must_use]
    pub fn with_output_disk(mut self, disk: Arc<dyn Disk>) -> ContextBuilder {
        self.output_disk = Some(disk);
        self
    }

    /// Calls the application `id` instead of giving it a fresh name.
    #[must_use]
    pub fn with_app_id(mut self, id: impl Into<String>) -> ContextBuilder {
        self.app_id = Some(id.into());
        self
    }

    /// Tells `listener` what happens, from the start of the application on.
    ///
    /// # Spark
    ///
    /// `spark.extraListeners`, CX20.
    #[must_use]
    pub fn with_listener(mut self, listener: impl EngineListener + 'static) -> ContextBuilder {
        self.listeners.0.push(Arc::new(listener));
        self
    }

    /// Makes the context and starts its threads.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the system gives no more threads. `Config`: the disk for outputs is an object store.
    pub fn build(self) -> Result<Context> {
        let output_disk = self.output_disk.unwrap_or_else(|| Arc::new(RealDisk));
        if output_disk.objects().is_some() {
            let text = "files of outputs are renamed into their place, which an object store cannot do: give                         with_output_disk a disk that can";
            return Err(Error::new(ErrorKind::Config, text));
        }
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let app_id =
            self.app_id.unwrap_or_else(|| format!("local-{}-{}-{number}", wall_time().as_millis(), std::process::id()));
        let base = self.conf.local_dir.clone().unwrap_or_else(std::env::temp_dir);
        let folder = |what: &str| base.join(format!("millstream-{what}-{}-{number}", std::process::id()));
        let owns_backend = self.backend.is_none();
        let backend = self.backend.map_or_else(|| backend::of_master(&self.conf), Ok)?;
        let memory = Arc::new(MemoryBudget::new(self.conf.memory_budget(), self.conf.storage_fraction));
        let blocks = self.blocks.unwrap_or_else(|| {
            let disk = DiskStore::new(folder("blocks"));
            Arc::new(TieredStore::new(MemoryStore::under(Arc::clone(&memory)), disk))
        });
        let blocks = backend.block_store(blocks);
        let spill = SpillDir::new(folder("spill"));
        let shuffles = ShuffleStore::new(Arc::clone(&memory), Arc::clone(&spill));
        let clock = self.clock.unwrap_or_else(|| Arc::new(SystemClock::new()));
        let events = Events::new(Arc::clone(&clock));
        let saved_under = RwLock::new(format!("rdds-{app_id}"));
        let saved = Checkpoints::default();
        let saved_so_far = AtomicU64::new(0);
        let env = Arc::new(Env {
            blocks,
            shuffles,
            memory,
            spill,
            output_disk,
            saved,
            saved_under,
            saved_so_far,
            events,
            driver: None,
        });
        let events = &env.events;
        for listener in self.listeners.0 {
            events.listeners.add(listener);
        }
        events.listeners.check()?;
        events.listeners.post(|| {
            let (app_id, app_name) = (app_id.clone(), self.conf.app_name.clone());
            EngineEvent::ApplicationStarted(ApplicationStart { app_id, app_name, time: clock.now() })
        });
        Ok(Context {
            inner: Arc::new(Inner {
                env,
                backend,
                owns_backend,
                clock,
                app_id,
                stopped: AtomicBool::new(false),
                next_job: AtomicU64::new(0),
                saver: Saver::default(),
                running: Mutex::default(),
                persistent: Mutex::default(),
                conf: self.conf,
            }),
        })
    }
}

impl Context {
    /// Makes a context that runs on `master`, for a program called `app_name`.
    ///
    /// # Errors
    ///
    /// The kind is `Config` if `master` is not a master, `Unavailable` if there are no threads to be had.
    ///
    /// # Spark
    ///
    /// `new SparkContext(master, appName)`, CX01.
    pub fn new(master: &str, app_name: impl Into<String>) -> Result<Context> {
        Context::builder(EngineConf::new(master, app_name)?).build()
    }

    /// Begins a context of the settings `conf`, to be given components of one's own.
    pub fn builder(conf: EngineConf) -> ContextBuilder {
        ContextBuilder {
            conf,
            clock: None,
            blocks: None,
            backend: None,
            output_disk: None,
            app_id: None,
            listeners: NewListeners::default(),
        }
    }

    /// Returns the settings.
    pub fn conf(&self) -> &EngineConf {
        &self.inner.conf
    }

    /// Returns the number of partitions where an operation is given none. Spark's `defaultParallelism`, CX16.
    pub fn default_parallelism(&self) -> usize {
        self.inner.conf.parallelism()
    }

    /// Says whether tasks run in other processes, so that closures must be able to travel.
    #[doc(hidden)]
    pub fn closures_travel(&self) -> bool {
        self.inner.backend.closures_travel()
    }

    /// Returns who runs receivers on executors, if tasks run there.
    #[doc(hidden)]
    pub fn residents(&self) -> Option<Arc<dyn Residents>> {
        self.inner.backend.residents()
    }

    /// Returns the clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.inner.clock
    }

    /// Returns the application's id, of which no two are alike. Spark's `applicationId`, CX20.
    pub fn app_id(&self) -> &str {
        &self.inner.app_id
    }

    /// Returns the stores of this process.
    pub fn env(&self) -> &Arc<Env> {
        &self.inner.env
    }

    /// Makes an Rdd of values, cut into `partitions` parts of about the same length, in order.
    ///
    /// # Example
    ///
    /// ```
    /// # let context = millstream_core::Context::new("local[2]", "doc")?;
    /// assert_eq!(context.parallelize(vec![1, 2, 3], 2).glom().collect()?, [vec![1], vec![2, 3]]);
    /// # Ok::<(), millstream_core::Error>(())
    /// ```
    ///
    /// # Spark
    ///
    /// `SparkContext.parallelize`, CX02. 0 partitions are taken as 1.
    #[track_caller]
    pub fn parallelize<T: ExchangeData>(&self, values: Vec<T>, partitions: usize) -> Rdd<T> {
        let site = CallSite::here("parallelize");
        match check_partitions(partitions) {
            Ok(()) => sources::values(self, sources::slices(values, partitions), site),
            Err(error) => Rdd::failed(error.at(site), self),
        }
    }

    /// Makes an Rdd of values that are in partitions already.
    #[track_caller]
    pub fn parallelize_partitions<T: ExchangeData>(&self, partitions: Vec<Vec<T>>) -> Rdd<T> {
        sources::values(self, partitions, CallSite::here("parallelize_partitions"))
    }

    /// Makes an Rdd without partitions. Spark's `emptyRDD`, CX04.
    #[track_caller]
    pub fn empty<T: ExchangeData>(&self) -> Rdd<T> {
        sources::values(self, Vec::new(), CallSite::here("empty"))
    }

    /// Puts the partitions of several Rdds behind each other.
    ///
    /// # Spark
    ///
    /// `SparkContext.union`, CX05.
    #[track_caller]
    pub fn union<T: Data>(&self, rdds: &[Rdd<T>]) -> Rdd<T> {
        union::union_at(self, rdds, CallSite::here("union"))
    }

    /// Makes an Rdd of the lines of a file, or of all files right inside a folder.
    ///
    /// A path that does not exist may be a list with commas, and have `*`, `?`, `[a-z]` and `{a,b}` in it. A file called
    /// `.gz` is unpacked, and is one partition.
    ///
    /// A [`Text`] is a cheap slice of the block that was read. Bytes that are not UTF-8 become U+FFFD. Files whose
    /// names begin with `.` or `_` are left out. There are at least as many partitions as files, and 2 if the
    /// program has the parallelism.
    ///
    /// # Errors
    ///
    /// A path that is not there is reported by the first action, as kind `Config`.
    ///
    /// # Spark
    ///
    /// `SparkContext.textFile`, CX06.
    #[track_caller]
    pub fn text_file(&self, path: impl AsRef<Path>) -> Rdd<Text> {
        let partitions = self.default_parallelism().min(2);
        let paths = [path.as_ref().to_path_buf()];
        sources::text_files(self, &paths, partitions, list_files, CallSite::here("text_file"))
    }

    /// As [`text_file`](Self::text_file), over several paths, in at least `partitions` partitions if the files are
    /// long enough.
    #[track_caller]
    pub fn text_files(&self, paths: &[PathBuf], partitions: usize) -> Rdd<Text> {
        sources::text_files(self, paths, partitions, list_files, CallSite::here("text_files"))
    }

    /// Makes an Rdd of what [`Rdd::save_as_object_file`] wrote, a partition a file.
    ///
    /// # Spark
    ///
    /// `SparkContext.objectFile`, CX11; the encoding is ours.
    #[track_caller]
    pub fn object_file<T: ExchangeData>(&self, path: impl AsRef<Path>) -> Rdd<T> {
        sources::object_files(self, path.as_ref(), CallSite::here("object_file"))
    }

    /// Makes an Rdd of files cut into records of `length` bytes, a partition a file.
    ///
    /// # Errors
    ///
    /// A file that is not whole records is reported by the first action, as kind `Data`.
    ///
    /// # Spark
    ///
    /// `SparkContext.binaryRecords`, CX09.
    #[track_caller]
    pub fn binary_records(&self, paths: &[PathBuf], length: usize) -> Rdd<Vec<u8>> {
        sources::binary_records(self, paths, length, list_files, CallSite::here("binary_records"))
    }

    /// As [`text_files`](Self::text_files), a partition a file if they are of one length, of files that have just been
    /// found: one that is gone is `Unavailable`.
    #[doc(hidden)]
    #[track_caller]
    pub fn found_text_files(&self, paths: &[PathBuf]) -> Rdd<Text> {
        sources::text_files(self, paths, paths.len(), list_found, CallSite::here("found_text_files"))
    }

    /// As [`binary_records`](Self::binary_records), of files that have just been found: one that is gone is `Unavailable`.
    #[doc(hidden)]
    #[track_caller]
    pub fn found_binary_records(&self, paths: &[PathBuf], length: usize) -> Rdd<Vec<u8>> {
        sources::binary_records(self, paths, length, list_found, CallSite::here("found_binary_records"))
    }

    /// Makes an Rdd of blocks that are kept in the block store, one a partition.
    #[doc(hidden)]
    #[track_caller]
    pub fn blocks<T: ExchangeData>(&self, ids: Vec<BlockId>) -> Rdd<T> {
        sources::blocks(self, ids, CallSite::here("blocks"))
    }

    /// Makes an Rdd of blocks that are kept in the block store, one a partition, each read from `copy` if it is not there.
    #[doc(hidden)]
    #[track_caller]
    pub fn blocks_or<C: SecondCopy>(&self, ids: Vec<BlockId>, copy: C) -> Rdd<C::Item> {
        second_copy::blocks_or(self, ids, copy, CallSite::here("blocks"))
    }

    /// Makes an Rdd that fails with `error` when it is used.
    #[doc(hidden)]
    pub fn failed<T: Data>(&self, error: Error) -> Rdd<T> {
        Rdd::failed(error, self)
    }

    /// Waits for what is being saved, then refuses further jobs. Running ones end; then the outputs of shuffles are let go, and
    /// their files are removed, listeners are told that the application has ended, and so are executors of a cluster, unless its
    /// backend was lent to the context.
    ///
    /// It waits until listeners have been told what has happened so far, unless one of them calls it.
    ///
    /// # Spark
    ///
    /// `SparkContext.stop`, CX20.
    pub fn stop(&self) {
        // What has failed has been logged.
        let _ = self.await_saves();
        self.stop_without_saves();
    }

    /// As [`stop`](Self::stop), but does not wait for what is being saved.
    #[doc(hidden)]
    pub fn stop_without_saves(&self) {
        self.inner.stopped.store(true, Ordering::Release);
        self.let_go();
        self.flush_listeners();
    }

    /// Lets go of what only further jobs could want, when there will be none.
    fn let_go(&self) {
        if self.is_stopped() && lock(&self.inner.running).is_empty() {
            self.inner.env.shuffles.forget_all();
            self.inner.env.events.end();
            self.inner.end_backend();
        }
    }

    /// Says whether the context has been stopped. Spark's `isStopped`, CX20.
    pub fn is_stopped(&self) -> bool {
        self.inner.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn plan_count<T: Data>(&self, rdd: &Rdd<T>) -> JobPlan {
        let wanted = (0..rdd.num_partitions()).collect();
        let action = Arc::new(CountAction::<T>::new());
        plan_job(rdd.node(), action, wanted, rdd.node().site(), None, &*self.inner.env)
    }

    /// Fails if no action can be run now and here.
    pub(crate) fn check_action(&self, site: CallSite) -> Result<()> {
        if self.is_stopped() {
            return Err(Error::new(ErrorKind::Stopped, "the context has been stopped; make a new one").at(site));
        }
        if TaskContext::current().is_some() {
            // It would wait for a thread that waits for it.
            let text = "an action cannot run inside a task: Rdds are used by the driver, not by closures (SPARK-5063)";
            return Err(Error::new(ErrorKind::Graph, text).at(site));
        }
        Ok(())
    }

    /// Keeps the checkpoints of Rdds in a folder, which is made if it is not there.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the folder cannot be made.
    ///
    /// # Spark
    ///
    /// `SparkContext.setCheckpointDir`, CX14.
    pub fn set_checkpoint_dir(&self, folder: impl AsRef<Path>) -> Result<()> {
        self.set_checkpoint_store(Arc::new(FolderCheckpoints::open(folder.as_ref())?));
        Ok(())
    }

    /// Keeps the checkpoints of Rdds in `store`.
    pub fn set_checkpoint_store(&self, store: Arc<dyn CheckpointStore>) {
        *self.inner.env.saved.write().unwrap_or_else(PoisonError::into_inner) = Some(store);
    }

    /// Forgets where checkpoints are kept. What has been written stays, and is still read by who was made from it.
    pub fn clear_checkpoint_store(&self) {
        *self.inner.env.saved.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Names the folder of the store in which the Rdds of this process are saved, for whoever starts again and again on one
    /// store: ids of Rdds begin anew with each process.
    #[doc(hidden)]
    pub fn save_under(&self, folder: impl Into<String>) {
        *self.inner.env.saved_under.write().unwrap_or_else(PoisonError::into_inner) = folder.into();
    }

    /// What is saved in the background, and what is to be.
    pub(crate) fn saver(&self) -> &Saver {
        &self.inner.saver
    }

    /// Runs an action on some partitions of an Rdd and returns what it gave, in their order. Then saves what is marked.
    pub(crate) fn run_action<T, R: ExchangeData>(
        &self,
        rdd: &Rdd<T>,
        action: Arc<dyn Action>,
        partitions: Vec<usize>,
        site: CallSite,
    ) -> Result<Vec<R>> {
        let results = self.run_job(rdd.node(), action, partitions, site)?;
        save_marked(rdd.node(), self, site)?;
        Ok(results)
    }

    /// Runs an action on some partitions of a node and returns what it gave, in their order.
    #[allow(clippy::needless_pass_by_value, reason = "as for a job that is planned once")]
    pub(crate) fn run_job<R: ExchangeData>(
        &self,
        node: &Arc<Node>,
        action: Arc<dyn Action>,
        partitions: Vec<usize>,
        site: CallSite,
    ) -> Result<Vec<R>> {
        let mut tries = 0;
        loop {
            match self.run_planned(node, Arc::clone(&action), partitions.clone(), site, tries) {
                Err(error) if error.is_lost() && tries < REPLANS => {
                    tries += 1;
                    tracing::warn!(%error, "a job is planned again");
                }
                result => return result,
            }
        }
    }

    /// Plans a job and runs it.
    fn run_planned<R: ExchangeData>(
        &self,
        node: &Arc<Node>,
        action: Arc<dyn Action>,
        partitions: Vec<usize>,
        site: CallSite,
        planned_before: u32,
    ) -> Result<Vec<R>> {
        self.check_action(site)?;
        let count = partitions.len();
        let mut place: Vec<(usize, usize)> = partitions.iter().copied().enumerate().map(|(i, p)| (p, i)).collect();
        place.sort_unstable();
        let locals = JobLocals::here();
        locals.check(site)?;
        let number = self.inner.next_job.fetch_add(1, Ordering::Relaxed);
        let mut job = plan_job(node, action, partitions, site, locals.group.clone(), &*self.inner.env);
        job.properties = Arc::clone(&locals.properties);
        job.planned_before = planned_before;
        let watch = JobWatch::begin(&self.inner.env, &job, || locals.info(number, site));
        let slots: Arc<Mutex<Vec<Option<Box<dyn Any + Send + Sync>>>>> =
            Arc::new(Mutex::new((0..count).map(|_| None).collect()));
        let end: Arc<Mutex<Option<Result<()>>>> = Arc::new(Mutex::new(None));
        let ends = JobEnds {
            on_result: {
                let slots = Arc::clone(&slots);
                Box::new(move |partition, result: TaskResult| {
                    if let Ok(at) = place.binary_search_by_key(&partition, |(p, _)| *p) {
                        lock(&slots)[place[at].1] = Some(result.value);
                    }
                })
            },
            on_end: {
                let (end, watch) = (Arc::clone(&end), watch.clone());
                Box::new(move |result| {
                    let result = result.map_err(|error| error.at(site));
                    if let Some(watch) = watch {
                        watch.job_ended(result.clone());
                    }
                    *lock(&end) = Some(result);
                })
            },
            watch,
        };
        let handle = {
            // Whoever sees a task of the job run can find the job, and cancel it.
            let mut running = lock(&self.inner.running);
            let handle = self.inner.backend.run(job, &self.inner.env, ends);
            running.insert(number, Running { locals: locals.clone(), site, handle: handle.clone() });
            handle
        };
        if locals.is_cancelled() {
            // Before it stood among those that run.
            handle.cancel();
        }
        handle.wait();
        lock(&self.inner.running).remove(&number);
        self.let_go();
        match lock(&end).take() {
            Some(Ok(())) => {}
            Some(Err(error)) => return Err(error),
            None => return Err(crate::bug!("a job ended without saying how")),
        }
        let values = std::mem::take(&mut *lock(&slots));
        values
            .into_iter()
            .map(|value| {
                let value = value.ok_or_else(|| crate::bug!("a partition gave no result"))?;
                value.downcast::<R>().map(|v| *v).map_err(|_| crate::bug!("a result is of another type"))
            })
            .collect()
    }
}

impl Inner {
    fn end_backend(&self) {
        if self.owns_backend {
            self.backend.stop();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.end_backend();
        self.env.events.end();
        self.env.events.close();
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Context({} on {})", self.inner.conf.app_name, self.inner.conf.master)
    }
}
