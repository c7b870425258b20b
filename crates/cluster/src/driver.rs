//! The driver's side: it is Ballista's scheduler itself, lets executors join, and answers what they ask.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, Weak};
use std::time::Duration;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::serde::{BallistaCodec, BallistaLogicalExtensionCodec};
use ballista_core::utils::default_session_builder;
use ballista_scheduler::cluster::BallistaCluster;
use ballista_scheduler::cluster::memory::InMemoryJobState;
use ballista_scheduler::config::SchedulerConfig;
use ballista_scheduler::metrics::default_metrics_collector;
use ballista_scheduler::scheduler_process::start_grpc_service_with_listener;
use ballista_scheduler::scheduler_server::SchedulerServer;
use datafusion::prelude::SessionContext;
use datafusion_proto::protobuf::{LogicalPlanNode, PhysicalPlanNode};
use millstream_core::backend::{Backend, JobEnds, JobHandle};
use millstream_core::conf::{ClusterConf, ClusterMaster, EngineConf};
use millstream_core::plan::JobPlan;
use millstream_core::plan::away::AwayNote;
use millstream_core::plan::resident::Residents;
use millstream_core::storage::{BlockId, BlockStore};
use millstream_core::threads::lock;
use millstream_core::{Env, Error, ErrorKind, Result};
use tokio::net::TcpSocket;
use tokio::runtime::{Handle, Runtime};

use crate::again::{hear_of_endings, place_again};
use crate::beside::beside;
use crate::blocks::{DriverStore, Places};
use crate::desk::{Desk, DeskHost, Join, Member, Tell};
use crate::direct::Direct;
use crate::endings::Unheard;
use crate::executor::{MESSAGE, Orders, begun_as_executor};
use crate::folders::Folder;
use crate::hosts::DriverHost;
use crate::job::run_query;
use crate::launch::Children;
use crate::plan_codec::StageCodec;
use crate::pool::Connections;
use crate::query::Query;
use crate::reception::{Reception, info};
use crate::residents::Lodged;
use crate::running::Running;
use crate::secret::{Secret, only_here};
use crate::sent::Sent;
use crate::settings::{Launcher, settings};
use crate::slots::Slots;

/// After how many seconds Ballista forgets a job that has ended.
const FORGET: u64 = 5;

/// How long files of jobs that have ended may stay, so that one word is said about several.
const SWEEP: Duration = Duration::from_millis(100);

/// How long a driver that ends waits for executors to have heard that.
const GOODBYE: Duration = Duration::from_secs(5);

pub(crate) type Scheduler = SchedulerServer<LogicalPlanNode, PhysicalPlanNode>;

/// A cluster, as the driver has it: the backend of a [`Context`](millstream_core::Context).
///
/// Contexts of the masters `local-cluster[E,C]` and `cluster://BIND:PORT` make their own, which ends when they are stopped. One may
/// also be made before, and lent to several contexts, one after the other or at once: it ends with its last holder, or when it is
/// [stopped](Backend::stop).
///
/// # Example
///
/// ```no_run
/// use std::sync::Arc;
/// use millstream_core::{Context, conf::EngineConf};
/// use millstream_cluster::Cluster;
///
/// millstream_cluster::be_executor_if_asked();
/// let conf = EngineConf::new("local-cluster[2,1]", "lent")?;
/// let cluster = Arc::new(Cluster::start(&conf)?);
/// let context = Context::builder(conf).with_backend(cluster).build()?;
/// assert_eq!(context.parallelize(vec![1, 2], 2).count()?, 2);
/// # Ok::<(), millstream_core::Error>(())
/// ```
pub struct Cluster {
    inner: Arc<Inner>,
    slots: usize,
    children: Arc<OnceLock<Children>>,
    /// Nothing when it has been stopped.
    open: Mutex<Option<Open>>,
}

/// What a cluster has for as long as it is not stopped.
struct Open {
    desk: Desk,
    runtime: Runtime,
}

/// What the driver knows of its cluster.
pub(crate) struct Inner {
    pub(crate) scheduler: Scheduler,
    pub(crate) session: Arc<SessionContext>,
    pub(crate) connections: Connections,
    pub(crate) slots: Arc<Slots>,
    pub(crate) runtime: Handle,
    pub(crate) children: Arc<OnceLock<Children>>,
    /// Where executors join, for people.
    pub(crate) place: OnceLock<SocketAddr>,
    /// How others reach the driver and it reaches them, if they are on other hosts.
    pub(crate) hosts: OnceLock<DriverHost>,
    pub(crate) running: Running,
    pub(crate) scheduler_port: u16,
    pub(crate) memory: u64,
    pub(crate) storage_fraction: f64,
    pub(crate) conf: ClusterConf,
    pub(crate) members: Mutex<BTreeMap<String, (Join, Member)>>,
    /// Told when one of them is gone.
    gone: Condvar,
    pub(crate) next_member: AtomicU64,
    pub(crate) engines: Mutex<BTreeMap<u64, Weak<Env>>>,
    next_engine: AtomicU64,
    pub(crate) places: Arc<Places>,
    /// Blocks that executors have been asked for.
    pub(crate) sent: Sent,
    /// Results that are brought.
    pub(crate) direct: Direct,
    /// Jobs that have ended, and whose files executors are to be told to remove.
    swept: Mutex<Vec<String>>,
    /// Tasks that have ended, as their executors say.
    pub(crate) unheard: Mutex<Unheard>,
    /// What runs on executors beside tasks.
    pub(crate) lodged: Lodged,
    /// What a test does when a job has succeeded and its results are about to be fetched.
    #[cfg(test)]
    pub(crate) fetching: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

/// Makes the backend of a context whose master is a cluster.
pub(crate) fn start(conf: &EngineConf, _: ClusterMaster) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(Cluster::start(conf)?))
}

fn failed(doing: &str, error: impl fmt::Display) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{doing}: {error}"))
}

impl Cluster {
    /// Starts what the settings' master says: for `local-cluster[E,C]` the executors too, and waits for them; for
    /// `cluster://BIND:PORT` executors join when they come.
    ///
    /// # Errors
    ///
    /// The kind is `Config` if the master is no cluster, the address is taken or not this machine's, or `MILLSTREAM_SECRET` is
    /// not set where it is needed, or this process was begun to be an executor and is none, because
    /// [`be_executor_if_asked`](crate::be_executor_if_asked) is not the first line of its `main`; `Unavailable` if the
    /// executors do not come in [time](ClusterConf::executors_wait).
    ///
    /// It blocks, and may be called from within an async runtime all the same, as may [`await_executors`](Self::await_executors).
    ///
    /// # Spark
    ///
    /// The masters `local-cluster[N,cores,memory]` and `spark://…`.
    pub fn start(conf: &EngineConf) -> Result<Cluster> {
        begun_as_executor(std::env::var_os(crate::executor::VARIABLE).is_some())?;
        let conf = conf.clone();
        beside("cluster", move || Cluster::started(&conf))
    }

    fn started(conf: &EngineConf) -> Result<Cluster> {
        let Some(master) = conf.master.cluster() else {
            let text = format!("{} is no cluster: say `local-cluster[2,1]` or `cluster://10.0.0.1:7077`", conf.master);
            return Err(Error::new(ErrorKind::Config, text));
        };
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (secret, memory) = match master {
            ClusterMaster::Local { executors, memory, .. } => {
                (Secret::fresh()?, memory.unwrap_or(conf.memory_budget() / executors as u64))
            }
            ClusterMaster::At(_) => (Secret::of_environment()?, conf.memory_budget()),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_stack_size(16 << 20)
            .thread_name("cluster")
            .enable_all()
            .build()
            .map_err(|error| failed("the cluster's threads could not be started", error))?;
        let children = Arc::new(OnceLock::new());
        let inner = {
            let (handle, children) = (runtime.handle().clone(), Arc::clone(&children));
            let begin = begin(conf, loopback, secret.clone(), memory, handle, children);
            Arc::new(runtime.block_on(begin)?)
        };
        let host: Arc<dyn DeskHost> = Arc::new(Reception(Arc::downgrade(&inner)));
        let desk = Desk::open(SocketAddr::new(loopback, 0), secret.clone(), host)?;
        let mut place = desk.address();
        if let ClusterMaster::At(bind) = master {
            let scheduler = SocketAddr::new(loopback, inner.scheduler_port);
            let hosts = DriverHost::open(runtime.handle(), bind, &secret, desk.address(), scheduler)?;
            place = hosts.address();
            let _ = inner.hosts.set(hosts);
        }
        let _ = inner.place.set(place);
        watch_lost(&inner);
        place_again(&inner);
        hear_of_endings(&inner);
        let at = desk.address();
        let open = Mutex::new(Some(Open { desk, runtime }));
        let cluster = Cluster { inner, slots: conf.master.threads(), children, open };
        if let ClusterMaster::Local { executors, slots, .. } = master {
            cluster.begin_local(conf, at, (executors, slots), &secret)?;
        }
        Ok(cluster)
    }

    /// Starts executors of this machine, and waits until they are ready.
    fn begin_local(
        &self,
        conf: &EngineConf,
        desk: SocketAddr,
        (executors, slots): (usize, usize),
        secret: &Secret,
    ) -> Result<()> {
        let base = conf.local_dir.clone().unwrap_or_else(std::env::temp_dir);
        let folder = Folder::fresh(&base)?;
        let path = folder.path().to_owned();
        let orders =
            Orders { desk, secret: secret.bytes().to_vec(), slots, folder: path, returns: false, listen: None };
        let _ = self.children.set(Children::begin(executors, orders, folder)?);
        self.inner.wait_for(executors, self.inner.conf.executors_wait)
    }

    /// Returns where executors join.
    pub fn address(&self) -> Option<SocketAddr> {
        self.inner.place.get().copied()
    }

    /// Waits until `executors` executors are ready for tasks.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: they are not within `patience`.
    pub fn await_executors(&self, executors: usize, patience: Duration) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        beside("executors wait", move || inner.wait_for(executors, patience))
    }

    /// Returns the processes of the executors that have joined, each with its host's name.
    pub fn executors(&self) -> Vec<(String, u32)> {
        lock(&self.inner.members).values().map(|(join, _)| (join.host.clone(), join.pid)).collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        Backend::stop(self);
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({} executors)", lock(&self.inner.members).len())
    }
}

/// After how many seconds without a sign Ballista gives an executor up by itself: behind the desk, which does it better.
fn second_silence(conf: &ClusterConf) -> u64 {
    conf.executor_silence.as_secs() + 4
}

/// Starts the scheduler.
async fn begin(
    conf: &EngineConf,
    bind: IpAddr,
    secret: Secret,
    memory: u64,
    runtime: Handle,
    children: Arc<OnceLock<Children>>,
) -> Result<Inner> {
    let slots = Arc::new(Slots::new(conf.cluster.locality_wait));
    only_here(bind)?;
    let listening = |error| failed(&format!("the scheduler cannot listen at {bind}"), error);
    let socket = if bind.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }.map_err(listening)?;
    // Accepted connections inherit it: small messages go at once, or each job takes 40 ms more.
    socket.set_nodelay(true).map_err(listening)?;
    socket.bind(SocketAddr::new(bind, 0)).map_err(listening)?;
    let listener = socket.listen(1024).map_err(listening)?;
    let scheduler_port = listener.local_addr().map_err(listening)?.port();
    let config = SchedulerConfig {
        bind_host: bind.to_string(),
        external_host: bind.to_string(),
        // Executors report to where the scheduler says that it is.
        bind_port: scheduler_port,
        scheduling_policy: TaskSchedulingPolicy::PushStaged,
        // Whoever fetches the results removes them behind that.
        finished_job_data_clean_up_interval_seconds: 0,
        finished_job_state_clean_up_interval_seconds: FORGET,
        executor_timeout_seconds: second_silence(&conf.cluster),
        expire_dead_executor_interval_seconds: 1,
        no_executors_grace_period_seconds: conf.cluster.executors_wait.as_secs(),
        executor_termination_grace_period: 0,
        grpc_server_max_decoding_message_size: MESSAGE,
        grpc_server_max_encoding_message_size: MESSAGE,
        grpc_client_max_message_size: MESSAGE,
        override_config_producer: Some(Arc::new(settings)),
        // It would tell strangers of our jobs, and end them.
        disable_rest_api: true,
        ..SchedulerConfig::default()
    };
    let jobs = InMemoryJobState::new("millstream", Arc::new(default_session_builder), Arc::new(settings));
    let cluster = BallistaCluster::new(Arc::clone(&slots) as _, Arc::new(jobs));
    let scheduler = begin_scheduler(cluster, Arc::new(config), StageCodec::new(secret))
        .await
        .map_err(|error| failed("the scheduler could not be started", error))?;
    tokio::spawn(start_grpc_service_with_listener(listener, scheduler.clone()));
    Ok(Inner {
        scheduler,
        session: Arc::new(SessionContext::new_with_config(settings())),
        connections: Connections::default(),
        slots,
        runtime,
        children,
        place: OnceLock::new(),
        hosts: OnceLock::new(),
        running: Running::new(),
        scheduler_port,
        memory,
        storage_fraction: conf.storage_fraction,
        conf: conf.cluster.clone(),
        members: Mutex::default(),
        gone: Condvar::new(),
        next_member: AtomicU64::new(0),
        engines: Mutex::default(),
        next_engine: AtomicU64::new(0),
        places: Arc::default(),
        sent: Sent::default(),
        direct: Direct::default(),
        swept: Mutex::default(),
        unheard: Mutex::default(),
        lodged: Lodged::default(),
        #[cfg(test)]
        fetching: Mutex::default(),
    })
}

/// Puts the scheduler together, as Ballista's `create_scheduler` does, but with a launcher of ours.
async fn begin_scheduler(
    cluster: BallistaCluster,
    config: Arc<SchedulerConfig>,
    codec: StageCodec,
) -> ballista_core::error::Result<Scheduler> {
    let codec = BallistaCodec::new(Arc::new(BallistaLogicalExtensionCodec::default()), Arc::new(codec));
    let at = config.scheduler_endpoint();
    let launcher = Arc::new(Launcher { scheduler: at.clone() });
    let metrics = default_metrics_collector()?;
    let mut scheduler = Scheduler::new_with_task_launcher(at, cluster, codec, config, metrics, launcher);
    scheduler.init().await?;
    Ok(scheduler)
}

/// Lets go of executors that Ballista has given up: what they still say is heard by nobody.
fn watch_lost(inner: &Arc<Inner>) {
    let (weak, mut ready) = (Arc::downgrade(inner), inner.slots.ready());
    inner.runtime.spawn(async move {
        let mut before = ready.borrow_and_update().clone();
        while ready.changed().await.is_ok() {
            let now = ready.borrow_and_update().clone();
            let Some(inner) = weak.upgrade() else { return };
            let lost: Vec<String> = before.difference(&now).cloned().collect();
            // It ends a process and removes its files, which may take a while.
            let letting_go = tokio::task::spawn_blocking(move || {
                lost.iter().for_each(|lost| inner.give_up(lost, "the scheduler has given it up"));
            });
            if let Err(error) = letting_go.await {
                tracing::error!(%error, "an executor that is lost could not be let go");
            }
            before = now;
        }
    });
}

impl Inner {
    /// Waits until so many executors are ready.
    fn wait_for(&self, executors: usize, patience: Duration) -> Result<()> {
        self.runtime.block_on(self.ready(executors, patience))
    }

    pub(crate) async fn ready(&self, executors: usize, patience: Duration) -> Result<()> {
        let mut ready = self.slots.ready();
        let enough = ready.wait_for(|ready| ready.len() >= executors);
        let come = tokio::select! {
            come = tokio::time::timeout(patience, enough) => matches!(come, Ok(Ok(_))),
            () = self.hopeless() => false,
        };
        if come { Ok(()) } else { Err(self.too_few(executors, patience)) }
    }

    /// Waits until no more executors are begun: nobody need wait for them any longer.
    async fn hopeless(&self) {
        if let Some(children) = self.children.get()
            && children.hopeless().wait_for(|hopeless| *hopeless).await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }

    fn too_few(&self, executors: usize, patience: Duration) -> Error {
        if let Some(error) = self.children.get().and_then(Children::failure) {
            return error;
        }
        let have = self.slots.ready().borrow().len();
        let place = self.place.get().map_or_else(|| "its address".to_owned(), SocketAddr::to_string);
        let text = format!(
            "{have} of {executors} executors are ready after {} s; start one with `executor --driver {place}`, of the same \
             executable and with the same MILLSTREAM_SECRET",
            patience.as_secs()
        );
        Error::new(ErrorKind::Unavailable, text)
    }

    #[cfg(test)]
    pub(crate) fn before_fetch(&self) {
        let then = lock(&self.fetching).take();
        then.into_iter().for_each(|then| then());
    }

    #[cfg(test)]
    pub(crate) fn fetching(cluster: &Cluster, then: impl FnOnce() + Send + 'static) {
        *lock(&cluster.inner.fetching) = Some(Box::new(then));
    }

    /// Takes note that an executor has blocks, if it has not been lost meanwhile.
    pub(crate) fn seen(&self, executor: &str, note: &AwayNote) {
        let members = lock(&self.members);
        if members.contains_key(executor) && !self.slots.is_leaving(executor) {
            self.places.seen(executor, &note.kept, &note.stay);
        }
    }

    /// Ends an executor that is lost, if it does not know yet.
    pub(crate) fn give_up(&self, id: &str, why: &str) {
        self.slots.dismiss(id);
        self.connections.clear();
        let member = {
            let mut members = lock(&self.members);
            self.places.lost(id);
            members.remove(id)
        };
        if let Some(port) = self.hosts.get().and_then(|hosts| hosts.leave(id)) {
            self.tell_all(&Tell::Left(port));
        }
        self.gone.notify_all();
        let Some((join, member)) = member else { return };
        let leaves = self.slots.is_leaving(id);
        let why = if leaves { "it has left" } else { why };
        self.lodged.lost(id, why);
        let lost = info(id, &join);
        self.engines().iter().for_each(|env| env.executor_lost(&lost, why));
        if leaves {
            tracing::info!("executor {id} on {} (process {}) has left", join.host, join.pid);
        } else {
            tracing::warn!("executor {id} on {} (process {}) is lost: {why}", join.host, join.pid);
        }
        member.dismiss();
        if let Some(children) = self.children.get() {
            children.give_up(id, join.pid);
        }
    }

    /// Returns the number of an engine; a new one has not been here before.
    pub(crate) fn engine(&self, env: &Arc<Env>) -> u64 {
        let mut engines = lock(&self.engines);
        let known = engines.iter().find(|(_, known)| std::ptr::eq(known.as_ptr(), Arc::as_ptr(env)));
        if let Some((number, _)) = known {
            return *number;
        }
        let gone: Vec<u64> = engines.iter().filter(|(_, env)| env.strong_count() == 0).map(|(n, _)| *n).collect();
        engines.retain(|_, env| env.strong_count() > 0);
        let number = self.next_engine.fetch_add(1, Ordering::Relaxed);
        engines.insert(number, Arc::downgrade(env));
        drop(engines);
        lock(&self.members).iter().for_each(|(id, (join, _))| env.executor_added(&info(id, join)));
        gone.into_iter().for_each(|engine| self.tell_all(&Tell::Gone(engine)));
        number
    }

    /// Returns the engines that are not gone.
    pub(crate) fn engines(&self) -> Vec<Arc<Env>> {
        lock(&self.engines).values().filter_map(Weak::upgrade).collect()
    }

    fn tell_all(&self, tell: &Tell) {
        let members: Vec<Member> = lock(&self.members).values().map(|(_, member)| member.clone()).collect();
        members.iter().for_each(|member| member.tell(tell.clone()));
    }

    /// Has executors remove what a job has left, with what others leave meanwhile: to tell each of them at once would cost as much as
    /// to begin a task.
    pub(crate) fn sweep(self: &Arc<Self>, job: String) {
        let mut swept = lock(&self.swept);
        swept.push(job);
        if swept.len() > 1 {
            return;
        }
        drop(swept);
        let weak = Arc::downgrade(self);
        self.runtime.spawn(async move {
            tokio::time::sleep(SWEEP).await;
            if let Some(inner) = weak.upgrade() {
                let jobs = std::mem::take(&mut *lock(&inner.swept));
                inner.tell_all(&Tell::Sweep(jobs));
            }
        });
    }

    /// Tells executors which blocks nobody will ask for.
    fn tell_forgotten(&self) {
        let blocks = self.places.take_forgotten();
        if !blocks.is_empty() {
            self.tell_all(&Tell::Forget(blocks));
        }
    }
}

impl Backend for Cluster {
    fn slots(&self) -> usize {
        self.slots
    }

    fn closures_travel(&self) -> bool {
        true
    }

    fn residents(&self) -> Option<Arc<dyn Residents>> {
        Some(Arc::clone(&self.inner) as Arc<dyn Residents>)
    }

    fn block_store(&self, local: Arc<dyn BlockStore>) -> Arc<dyn BlockStore> {
        Arc::new(DriverStore::new(local, Arc::clone(&self.inner.places)))
    }

    fn run(&self, job: JobPlan, env: &Arc<Env>, ends: JobEnds) -> JobHandle {
        self.inner.tell_forgotten();
        let mark = self.inner.running.begin();
        let on_end = ends.on_end;
        let on_end = Box::new(move |result| {
            on_end(result);
            drop(mark);
        });
        let ends = JobEnds { on_end, ..ends };
        let query = self.inner.places.settle(&job).and_then(|()| {
            let home = |blocks: &[BlockId]| self.inner.places.home(blocks);
            Query::new(self.inner.engine(env), &job, &home)
        });
        run_query(&self.inner, query, job, ends)
    }

    /// Sends executors home, and waits until they have gone: those of other hosts for [`GOODBYE`] at most, as they may not
    /// hear it; their processes end by themselves then, a minute later.
    fn stop(&self) {
        // Who comes second waits for the first.
        let mut open = lock(&self.open);
        let Some(Open { desk, runtime }) = open.take() else { return };
        let members: Vec<(String, Member)> =
            lock(&self.inner.members).iter().map(|(id, (_, member))| (id.clone(), member.clone())).collect();
        for (id, member) in members {
            self.inner.slots.leave(&id);
            member.tell(Tell::Bye);
        }
        if self.inner.hosts.get().is_some() {
            // The word is on its way through a tunnel, which ends with this process: who has heard it is gone soon.
            let members = lock(&self.inner.members);
            let _ = self.inner.gone.wait_timeout_while(members, GOODBYE, |members| !members.is_empty());
        }
        drop(desk);
        if let Some(children) = self.children.get() {
            children.close();
        }
        runtime.shutdown_background();
    }
}
