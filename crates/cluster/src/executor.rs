//! A process that runs tasks: this very executable, started to be an executor.

use std::fmt;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ballista_core::config::TaskSchedulingPolicy;
use ballista_core::utils::GrpcServerConfig;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use millstream_core::plan::ship::build_id;
use millstream_core::{Error, ErrorKind, Result, codec, threads};
use serde::{Deserialize, Serialize};

use crate::desk::{DeskClient, Join, Joined, Welcome};
use crate::driver;
use crate::folders::Folder;
use crate::here::Here;
use crate::plan_codec::StageCodec;
use crate::secret::Secret;

/// The environment variable that makes a process of a local cluster an executor. What it is to do comes by its input.
pub(crate) const VARIABLE: &str = "MILLSTREAM_EXECUTOR";

/// The most bytes of a message between driver and executors of Ballista's: plans hold what `parallelize` was given.
pub(crate) const MESSAGE: u32 = 1 << 30;

/// How many seconds such a message may take. A task that cannot be handed over in time costs its executor.
pub(crate) const MESSAGE_SECONDS: usize = 120;

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
/// A process is asked by its arguments, `my-app executor --driver HOST:PORT [--slots N]`, with the cluster's secret in the
/// environment variable `MILLSTREAM_SECRET`; or by the driver of a local cluster that started it.
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

/// Makes this process an executor if it is one of a local cluster: for programs whose `main` is not theirs, as tests.
#[cfg(feature = "before-main")]
pub(crate) fn be_executor_of_local_cluster() {
    if std::env::var_os(VARIABLE).is_some() {
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
    let (driver, slots) = parsed(&arguments[1..])?;
    let (desk, secret) = (address(&driver)?, Secret::of_environment()?.bytes().to_vec());
    let held = Folder::fresh(&std::env::temp_dir())?;
    let folder = held.path().to_owned();
    // For as long as there is this process.
    std::mem::forget(held);
    Ok(Some(Orders { desk, secret, slots, folder }))
}

/// Reads the arguments behind `executor`: where the driver is, and how many slots there are.
fn parsed(arguments: &[String]) -> Result<(String, usize)> {
    let wrong = |why: String| {
        Error::new(
            ErrorKind::Config,
            format!("{why}; an executor is started as `executor --driver HOST:PORT [--slots N]`"),
        )
    };
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    let (mut driver, mut slots) = (None, None);
    let mut rest = arguments.iter();
    while let Some(name) = rest.next() {
        let value = rest.next().ok_or_else(|| wrong(format!("`{name}` has no value")))?;
        match name.as_str() {
            "--driver" => driver = Some(value.clone()),
            "--slots" => {
                let number = value.parse().ok().filter(|slots| (1..=1024).contains(slots));
                slots = Some(number.ok_or_else(|| wrong(format!("`{value}` is no number of slots from 1 to 1024")))?);
            }
            _ => return Err(wrong(format!("`{name}` is no argument"))),
        }
    }
    let driver = driver.ok_or_else(|| wrong("there is no --driver".to_owned()))?;
    Ok((driver, slots.unwrap_or_else(cores)))
}

fn address(driver: &str) -> Result<SocketAddr> {
    let doing = || format!("the driver's address `{driver}` is not found");
    let mut found = driver.to_socket_addrs().map_err(|error| Error::io(ErrorKind::Config, doing(), error))?;
    found.next().ok_or_else(|| Error::new(ErrorKind::Config, doing()))
}

/// Runs tasks until the driver is gone.
fn run(orders: Orders) -> Result<()> {
    let secret = Secret::of_bytes(orders.secret);
    let desk = Arc::new(DeskClient::new(orders.desk, secret.clone()));
    let host =
        std::fs::read_to_string("/etc/hostname").map_or_else(|_| "a host".to_owned(), |name| name.trim().to_owned());
    let (pid, build) = (std::process::id(), build_id().to_owned());
    let (welcome, joined) = desk.join(Join { build, host, pid, slots: orders.slots })?;
    let Welcome::Yes { id, scheduler, memory, storage_fraction } = welcome else {
        return Err(millstream_core::bug!("an executor was refused without a reason"));
    };
    let folder = orders.folder.join(&id);
    let shuffles = folder.join("shuffles");
    std::fs::create_dir_all(&shuffles).map_err(|error| {
        Error::io(ErrorKind::Unavailable, format!("the executor's folder {} cannot be made", shuffles.display()), error)
    })?;
    Here::become_one(id.clone(), Arc::clone(&desk), folder.clone(), memory, storage_fraction)?;
    threads::spawn("driver", move || until_gone(joined, &folder))?.detach();
    let [port, grpc_port] = free_ports(local_address(orders.desk)?)?;
    let bind = local_address(orders.desk)?.ip().to_string();
    let config = ExecutorProcessConfig {
        executor_id: id,
        bind_host: bind.clone(),
        external_host: Some(bind),
        port,
        grpc_port,
        scheduler_host: desk.address().ip().to_string(),
        scheduler_port: scheduler,
        vcores: orders.slots,
        work_dir: Some(shuffles.to_string_lossy().into_owned()),
        memory_pool_size: Some(0),
        task_scheduling_policy: TaskSchedulingPolicy::PushStaged,
        executor_heartbeat_interval_seconds: 1,
        grpc_max_decoding_message_size: MESSAGE,
        grpc_max_encoding_message_size: MESSAGE,
        grpc_server_config: GrpcServerConfig { timeout_seconds: MESSAGE_SECONDS as u64, ..GrpcServerConfig::default() },
        override_physical_codec: Some(Arc::new(StageCodec::new(secret))),
        // What is written behind the end of a job, by a task that did not hear of it, goes in time.
        job_data_clean_up_interval_seconds: 600,
        job_data_ttl_seconds: 24 * 3600,
        ..ExecutorProcessConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(16 << 20)
        .thread_name("executor")
        .enable_all()
        .build()?;
    runtime.block_on(start_executor_process(Arc::new(config))).map_err(|error| {
        Error::new(ErrorKind::Unavailable, format!("an executor of the driver at {} failed: {error}", orders.desk))
    })
}

/// Heeds the driver until it is gone, and ends this process then.
fn until_gone(mut joined: Joined, folder: &Path) {
    while let Some(tell) = joined.told() {
        let ended = Here::get().is_ok_and(|here| here.heed(tell));
        if ended {
            break;
        }
    }
    // Whatever runs here runs for nobody, and nothing of it may be seen.
    let _ = std::fs::remove_dir_all(folder);
    // What is around it goes with the last executor.
    let _ = folder.parent().map(std::fs::remove_dir);
    std::process::exit(0)
}

/// Returns the address of this machine at which the driver's machine reaches it.
fn local_address(driver: SocketAddr) -> Result<SocketAddr> {
    let any: SocketAddr = if driver.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = std::net::UdpSocket::bind(any)?;
    // Nothing is sent: the system says by which address it would be.
    socket.connect(driver)?;
    Ok(socket.local_addr()?)
}

/// Finds ports that nobody uses. Somebody may take one before it is used; then the executor ends, and is begun again.
fn free_ports<const N: usize>(at: SocketAddr) -> Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((at.ip(), 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn an_executor_is_told_its_driver_and_its_slots() {
        assert_eq!(parsed(&arguments("--driver a:7 --slots 3")).unwrap(), ("a:7".to_owned(), 3));
        assert!(parsed(&arguments("--driver a:7")).unwrap().1 >= 1);
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
        let shown = format!("{:?}", Orders { desk, secret, slots: 3, folder: PathBuf::new() });
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
        ] {
            let error = parsed(&arguments(text)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(what), "{text}: {error}");
        }
        assert!(address("nowhere").is_err());
    }
}
