//! A process that runs tasks: this very executable, started to be an executor.

use std::fmt;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ballista_core::client_pool::BallistaClientPool;
use ballista_core::utils::GrpcServerConfig;
use ballista_executor::executor_process::ExecutorProcessConfig;
use millstream_core::clock::{monotonic, wall_time};
use millstream_core::plan::ship::build_id;
use millstream_core::{Error, ErrorKind, Result, codec, threads};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};

use crate::desk::{DeskClient, Join, Joined, Welcome};
use crate::driver;
use crate::folders::Folder;
use crate::here::{Here, SHUFFLES};
use crate::hosts::ExecutorHost;
use crate::launch::executable;
use crate::plan_codec::StageCodec;
use crate::pool::Connections;
use crate::secret::{Secret, only_here};
use crate::serve::{free_port, listen, serve};

/// The environment variable that makes a process of a local cluster an executor. What it is to do comes by its input.
pub(crate) const VARIABLE: &str = "MILLSTREAM_EXECUTOR";

/// The most bytes of a message between driver and executors of Ballista's: plans hold what `parallelize` was given.
pub(crate) const MESSAGE: u32 = 1 << 30;

/// How many seconds such a message may take. A task that cannot be handed over in time costs its executor.
pub(crate) const MESSAGE_SECONDS: usize = 120;
/// How long an executor that returns waits for a driver to be there.
const DRIVER_PATIENCE: Duration = Duration::from_secs(60);

/// How often it looks.
const LOOK: Duration = Duration::from_millis(200);

/// How many signs of life an executor gives in the time in which one is expected.
const SIGNS: u32 = 5;

/// For how many such times an executor believes in a driver that says nothing, not even that it has heard.
const BELIEF: u32 = 10;

/// What an executor is to do.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// Where the driver's desk is.
    pub(crate) desk: SocketAddr,
    /// The cluster's secret.
    pub(crate) secret: Vec<u8>,
    /// How many tasks it may run at once.
    pub(crate) slots: usize,
    /// Where its files are, in a folder of its own.
    pub(crate) folder: PathBuf,
    /// Whether it joins again when its driver is lost. Executors of a local cluster end with it.
    pub(crate) returns: bool,
    /// Where other hosts are to reach it, if the driver is reached by a tunnel.
    pub(crate) listen: Option<SocketAddr>,
}

impl fmt::Debug for Orders {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orders").field("desk", &self.desk).field("slots", &self.slots).finish_non_exhaustive()
    }
}

/// Refuses to start a cluster where an executor was asked for: each would start executors of its own, which would do the same.
pub(crate) fn begun_as_executor(is_asked: bool) -> Result<()> {
    if !is_asked {
        return Ok(());
    }
    let text = format!(
        "this process was begun as an executor ({VARIABLE} is set) and starts a cluster instead; make \
         `millstream::cluster::be_executor_if_asked()` the first line of the program's main, and start no cluster in a task"
    );
    Err(Error::new(ErrorKind::Config, text))
}

/// Makes this process an executor, if it was started to be one, and then does not return. Else it returns at once, and the
/// process may have masters that are clusters.
///
/// It is the first line of `main`, so that any program is its own executor:
///
/// ```no_run
/// fn main() -> Result<(), millstream_core::Error> {
///     millstream_cluster::be_executor_if_asked();
///     let context = millstream_core::Context::new("local-cluster[2,1]", "sums")?;
///     assert_eq!(context.parallelize((0..100u64).collect(), 2).reduce(|a, b| a + b)?, 4950);
///     Ok(())
/// }
/// ```
///
/// A process is asked by its arguments, `my-app executor --driver HOST:PORT [--slots N] [--listen ADDRESS:PORT]`, with the
/// cluster's secret in the environment variable `MILLSTREAM_SECRET`; or by the driver of a local cluster that started it. One
/// that was asked by its arguments waits a minute for a driver, and joins again when its driver was lost; it ends when the driver
/// stops. It is reached by the driver and by other executors at one port, any that is free at the address by which it reaches the
/// driver, unless `--listen` names it.
///
/// On SIGTERM an executor leaves: it takes no new tasks, ends when the jobs have ended that run then, and what it keeps is made
/// again elsewhere. A second SIGTERM ends it at once.
///
/// # Spark
///
/// `org.apache.spark.executor.CoarseGrainedExecutorBackend`, and the worker that starts it.
pub fn be_executor_if_asked() {
    millstream_core::backend::provide_cluster(driver::start);
    let orders = match asked() {
        Ok(None) => return,
        Ok(Some(orders)) => orders,
        Err(error) => end(&error),
    };
    match run(orders) {
        Ok(()) => std::process::exit(0),
        Err(error) => end(&error),
    }
}

/// Makes this process an executor if it is asked to be one, and not to run tests of that name: for programs whose `main` is
/// not theirs, as tests.
#[cfg(feature = "before-main")]
pub(crate) fn be_executor_before_main() {
    let arguments = ["executor", "--driver"];
    let is_told = std::env::args_os().skip(1).take(2).eq(arguments);
    if is_told || std::env::var_os(VARIABLE).is_some() {
        // What would have been done behind `main` is not done yet: to write to a connection that is closed would end this process
        // without a word.
        let written = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        if let Err(error) = signal_hook::flag::register(signal_hook::consts::SIGPIPE, written) {
            end(&error.into());
        }
        be_executor_if_asked();
    }
    // And what is not an executor may have masters that are clusters.
    millstream_core::backend::provide_cluster(driver::start);
}

#[allow(clippy::print_stderr, reason = "a process that cannot begin has nowhere else to say why")]
fn end(error: &Error) -> ! {
    eprintln!("this executor ends: {error}");
    std::process::exit(1)
}

/// Finds out whether this process is to be an executor.
fn asked() -> Result<Option<Orders>> {
    if std::env::var_os(VARIABLE).is_some() {
        let mut told = Vec::new();
        std::io::stdin().read_to_end(&mut told)?;
        return codec::decode(&told).map(Some);
    }
    let arguments: Vec<String> = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned()).collect();
    if arguments.first().map(String::as_str) != Some("executor") {
        return Ok(None);
    }
    let Asked { driver, slots, listen } = parsed(&arguments[1..])?;
    let (desk, secret) = (address(&driver)?, Secret::of_environment()?.bytes().to_vec());
    let any_port = || local_address(desk).map(|ip| SocketAddr::new(ip, 0));
    let listen = Some(listen.map_or_else(any_port, Ok)?);
    let held = Folder::fresh(&std::env::temp_dir())?;
    let folder = held.path().to_owned();
    // For as long as there is this process.
    std::mem::forget(held);
    Ok(Some(Orders { desk, secret, slots, folder, returns: true, listen }))
}

/// What an executor's arguments say.
#[derive(Debug, PartialEq)]
struct Asked {
    driver: String,
    slots: usize,
    listen: Option<SocketAddr>,
}

/// Reads the arguments behind `executor`: where the driver is, how many slots there are, and where to be reached.
fn parsed(arguments: &[String]) -> Result<Asked> {
    let wrong = |why: String| {
        Error::new(
            ErrorKind::Config,
            format!(
                "{why}; an executor is started as `executor --driver HOST:PORT [--slots N] [--listen ADDRESS:PORT]`"
            ),
        )
    };
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let (mut driver, mut slots, mut listen) = (None, None, None);
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().ok_or_else(|| wrong(format!("`{name}` has no value")))?;
        match name.as_str() {
            "--driver" => driver = Some(value.clone()),
            "--slots" => {
                let number = value.parse().ok().filter(|slots| (1..=1024).contains(slots));
                slots = Some(number.ok_or_else(|| wrong(format!("`{value}` is no number of slots from 1 to 1024")))?);
            }
            "--listen" => {
                let at = value.parse().ok();
                listen =
                    Some(at.ok_or_else(|| wrong(format!("`{value}` is no address with a port, as 10.0.0.2:7078")))?);
            }
            _ => return Err(wrong(format!("`{name}` is no argument"))),
        }
    }
    let driver = driver.ok_or_else(|| wrong("there is no --driver".to_owned()))?;
    if listen.is_some_and(|at: SocketAddr| at.ip().is_unspecified()) {
        return Err(wrong(
            "--listen names the address at which others reach this host, and not all of them".to_owned(),
        ));
    }
    Ok(Asked { driver, slots: slots.unwrap_or_else(cores), listen })
}

fn address(driver: &str) -> Result<SocketAddr> {
    let doing = || format!("the driver's address `{driver}` is not found");
    let mut found = driver.to_socket_addrs().map_err(|error| Error::io(ErrorKind::Config, doing(), error))?;
    found.next().ok_or_else(|| Error::new(ErrorKind::Config, doing()))
}

/// Runs tasks until the driver is gone.
fn run(orders: Orders) -> Result<()> {
    let secret = Secret::of_bytes(orders.secret);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(16 << 20)
        .thread_name("executor")
        .enable_all()
        .build()?;
    leave_when_told(runtime.handle())?;
    let hosts =
        orders.listen.map(|listen| ExecutorHost::open(runtime.handle(), listen, orders.desk, &secret)).transpose()?;
    let desk = hosts.as_ref().map_or(orders.desk, ExecutorHost::desk);
    let desk = Arc::new(DeskClient::new(desk, secret.clone()));
    let host =
        std::fs::read_to_string("/etc/hostname").map_or_else(|_| "a host".to_owned(), |name| name.trim().to_owned());
    let (pid, build) = (std::process::id(), build_id().to_owned());
    let patience = if orders.returns { DRIVER_PATIENCE } else { Duration::ZERO };
    let (welcome, joined) = joined_within(patience, || {
        // Who does not let this host in says so on the way: behind it, all that is seen is that it ends.
        hosts.as_ref().map_or(Ok(()), |hosts| hosts.try_driver(runtime.handle()))?;
        let (build, host, outside) = (build.clone(), host.clone(), hosts.as_ref().map(|hosts| hosts.outside().clone()));
        desk.join(Join { build, host, pid, slots: orders.slots, outside, now: wall_time() })
    })?;
    let Welcome::Yes { id, scheduler, memory, storage_fraction, silence, ports } = welcome else {
        return Err(millstream_core::bug!("an executor was refused without a reason"));
    };
    desk.become_member(&id);
    joined.expect_answers_within(silence * BELIEF)?;
    let reports = Arc::new(joined.reports());
    let alive = Arc::clone(&reports);
    threads::spawn("alive", move || {
        while alive.alive(Here::get().map_or_else(|_| Vec::new(), |here| here.endings().take())).is_ok() {
            // Nothing wakes this thread, and if something did there would be a sign more.
            std::thread::park_timeout(silence / SIGNS);
        }
    })?
    .detach();
    let folder = orders.folder.join(&id);
    let shuffles = folder.join(SHUFFLES);
    std::fs::create_dir_all(&shuffles).map_err(|error| {
        Error::io(ErrorKind::Unavailable, format!("the executor's folder {} cannot be made", shuffles.display()), error)
    })?;
    Here::become_one((id.clone(), host), Arc::clone(&desk), reports, folder.clone(), memory, storage_fraction)?;
    let returns = orders.returns;
    threads::spawn("driver", move || until_gone(joined, &folder, returns))?.detach();
    let mut config = ExecutorProcessConfig {
        executor_id: id,
        vcores: orders.slots,
        work_dir: Some(shuffles.to_string_lossy().into_owned()),
        executor_heartbeat_interval_seconds: 1,
        grpc_max_decoding_message_size: MESSAGE,
        grpc_max_encoding_message_size: MESSAGE,
        grpc_server_config: GrpcServerConfig { timeout_seconds: MESSAGE_SECONDS as u64, ..GrpcServerConfig::default() },
        // What is written behind the end of a job, by a task that did not hear of it, goes in time.
        job_data_clean_up_interval_seconds: 600,
        job_data_ttl_seconds: 24 * 3600,
        ..ExecutorProcessConfig::default()
    };
    let connections: Arc<dyn BallistaClientPool> = match (&hosts, ports) {
        (Some(hosts), Some(ports)) => {
            let bind = hosts.offer(ports);
            config.bind_host = bind.to_string();
            // As the driver sees it.
            config.external_host = Some(Ipv4Addr::LOCALHOST.to_string());
            [config.port, config.grpc_port] = ports;
            config.scheduler_host = hosts.scheduler().ip().to_string();
            config.scheduler_port = hosts.scheduler().port();
            config.override_create_grpc_client_endpoint = Some(hosts.to_scheduler());
            let peers = Arc::new(hosts.peers(&desk));
            Here::get()?.meet(Arc::clone(&peers));
            peers
        }
        _ => {
            let here = local_address(orders.desk)?;
            only_here(here)?;
            config.bind_host = here.to_string();
            config.external_host = Some(here.to_string());
            [config.port, config.grpc_port] = [0, free_port(here)?];
            config.scheduler_host = orders.desk.ip().to_string();
            config.scheduler_port = scheduler;
            Arc::new(Connections::default())
        }
    };
    let serving = async {
        let listener = listen(&mut config).await?;
        serve(config, listener, StageCodec::new(secret), connections).await
    };
    runtime.block_on(serving).map_err(|error| {
        let text = format!("an executor of the driver at {} failed: {}", orders.desk, error.message());
        Error::new(ErrorKind::Unavailable, text)
    })
}

/// Has this process leave when it is told to end: at once if it has not joined, or is told a second time.
fn leave_when_told(runtime: &Handle) -> Result<()> {
    let _within = runtime.enter();
    let mut told = signal(SignalKind::terminate())?;
    runtime.spawn(async move {
        told.recv().await;
        let left = tokio::task::spawn_blocking(|| Here::get().and_then(Here::leave)).await;
        if matches!(left, Ok(Ok(()))) {
            told.recv().await;
        }
        std::process::exit(0);
    });
    Ok(())
}

/// Joins the driver, who may not be there yet.
fn joined_within(patience: Duration, join: impl Fn() -> Result<(Welcome, Joined)>) -> Result<(Welcome, Joined)> {
    let begun = monotonic();
    loop {
        match join() {
            Err(error) if error.kind() == ErrorKind::Unavailable && monotonic().saturating_sub(begun) < patience => {
                tracing::info!(%error, "waiting for a driver");
                std::thread::park_timeout(LOOK);
            }
            joined => return joined,
        }
    }
}

/// Heeds the driver until it is gone, and ends this process then, or has it begin anew.
fn until_gone(mut joined: Joined, folder: &Path, returns: bool) {
    let mut ended = false;
    while let (false, Some(tell)) = (ended, joined.told()) {
        ended = Here::get().is_ok_and(|here| here.heed(tell));
    }
    // Whatever runs here runs for nobody, and nothing of it may be seen.
    let _ = std::fs::remove_dir_all(folder);
    // What is around it goes with the last executor.
    let _ = folder.parent().map(std::fs::remove_dir);
    if ended || !returns {
        std::process::exit(0);
    }
    // The driver has died, and may come back; or it has given this executor up, which can be of use again.
    end(&begin_anew())
}

/// Becomes this executable again, with its arguments: nothing of what it was is left. Returns why that cannot be done.
#[cfg(unix)]
fn begin_anew() -> Error {
    use std::os::unix::process::CommandExt as _;
    let executable = match executable() {
        Ok(executable) => executable,
        Err(error) => return error.into(),
    };
    let mut arguments = std::env::args_os();
    let name = arguments.next().unwrap_or_else(|| "executor".into());
    let error = std::process::Command::new(executable).arg0(name).args(arguments).exec();
    Error::io(ErrorKind::Unavailable, "an executor whose driver was lost could not begin anew", error)
}

#[cfg(not(unix))]
fn begin_anew() -> Error {
    Error::new(ErrorKind::Unavailable, "its driver is lost")
}

/// Returns the address of this machine at which the driver's machine reaches it.
fn local_address(driver: SocketAddr) -> Result<IpAddr> {
    let any: SocketAddr = if driver.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = std::net::UdpSocket::bind(any)?;
    // Nothing is sent: the system says by which address it would be.
    socket.connect(driver)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn an_executor_is_told_its_driver_and_its_slots() {
        let asked = parsed(&arguments("--driver a:7 --slots 3 --listen 10.0.0.2:7078")).unwrap();
        let listen = Some(([10, 0, 0, 2], 7078).into());
        assert_eq!(asked, Asked { driver: "a:7".to_owned(), slots: 3, listen });
        let asked = parsed(&arguments("--driver a:7")).unwrap();
        assert!(asked.slots >= 1 && asked.listen.is_none());
    }

    #[test]
    fn who_was_begun_as_an_executor_begins_none() {
        assert!(begun_as_executor(false).is_ok());
        let error = begun_as_executor(true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("be_executor_if_asked"), "{error}");
    }

    #[test]
    fn orders_are_shown_without_the_secret() {
        let (desk, secret) = ("127.0.0.1:7".parse().unwrap(), vec![222, 173]);
        let shown =
            format!("{:?}", Orders { desk, secret, slots: 3, folder: PathBuf::new(), returns: false, listen: None });
        assert!(shown.contains("slots: 3") && !shown.contains("222"), "{shown}");
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (text, what) in [
            ("", "--driver"),
            ("--driver", "has no value"),
            ("--driver a:7 --slots 0", "`0`"),
            ("--slots x --driver a:7", "`x`"),
            ("--drivr a:7", "`--drivr`"),
            ("--driver a:7 --listen 7078", "`7078`"),
            ("--driver a:7 --listen 0.0.0.0:7078", "--listen names the address"),
        ] {
            let error = parsed(&arguments(text)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(what), "{text}: {error}");
        }
        assert!(address("nowhere").is_err());
    }
}
