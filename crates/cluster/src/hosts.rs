//! Driver and executors on several hosts: what each shows to the others, and its ways to them. All else listens at loopback
//! addresses.
//!
//! Of each executor the driver knows two ports of its own loopback address, which lead there; Ballista takes them for the
//! executor's own. Other executors ask the driver where such a port leads, and make a way of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::{BallistaError, Result as BallistaResult};
use ballista_core::extension::{BallistaConfigGrpcEndpoint, EndpointOverrideFn};
use ballista_core::utils::GrpcClientConfig;
use millstream_core::threads::lock;
use millstream_core::{Result, bug};
use millstream_tunnel::{Keys, Limits, Place, Tunnel, Way, try_out};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;
use tonic::transport::Endpoint;

use crate::desk::DeskClient;
use crate::pool::Connections;
use crate::secret::{Secret, random};

/// What the driver is called, whichever process it is: executors that join know no more of it than an address.
const DRIVER: &str = "driver";

const DESK: &str = "desk";
const SCHEDULER: &str = "scheduler";
const SHUFFLES: &str = "shuffles";
const TASKS: &str = "tasks";

/// How long a connection to the scheduler may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a process is reached from other hosts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outside {
    /// Where its tunnel is.
    pub(crate) address: SocketAddr,
    /// What it calls itself there, which no other process does.
    pub(crate) name: String,
}

impl Outside {
    fn place(&self, service: &str) -> Place {
        Place::new(self.address, &self.name, service)
    }
}

/// The driver among hosts.
pub(crate) struct DriverHost {
    keys: Keys,
    tunnel: Tunnel,
    runtime: Handle,
    executors: Mutex<BTreeMap<String, Reached>>,
}

/// An executor, and the driver's ways to it.
struct Reached {
    outside: Outside,
    shuffles: Way,
    tasks: Way,
}

impl DriverHost {
    /// Opens the driver's port, behind which executors reach its desk and its scheduler.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the address is taken, or not this machine's.
    pub(crate) fn open(
        runtime: &Handle,
        bind: SocketAddr,
        secret: &Secret,
        desk: SocketAddr,
        scheduler: SocketAddr,
    ) -> Result<DriverHost> {
        let keys = Keys::of_secret(secret.bytes())?;
        let tunnel = runtime.block_on(Tunnel::open(bind, &keys, DRIVER, Limits::default()))?;
        tunnel.offer(DESK, desk);
        tunnel.offer(SCHEDULER, scheduler);
        Ok(DriverHost { keys, tunnel, runtime: runtime.clone(), executors: Mutex::default() })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.tunnel.address()
    }

    /// Makes ways to an executor. Returns the ports of the one for shuffles and of the one for tasks.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: its host is not reached from here, or there is no free port.
    pub(crate) fn reach(&self, id: &str, outside: &Outside) -> Result<[u16; 2]> {
        let reached: Result<Reached> = self.runtime.block_on(async {
            let limits = Limits::default();
            Ok(Reached {
                shuffles: Way::open(&self.keys, outside.place(SHUFFLES), limits).await?,
                tasks: Way::open(&self.keys, outside.place(TASKS), limits).await?,
                outside: outside.clone(),
            })
        });
        let reached = reached?;
        let ports = [reached.shuffles.address().port(), reached.tasks.address().port()];
        lock(&self.executors).insert(id.to_owned(), reached);
        Ok(ports)
    }

    /// Returns who is reached by the port that stands for their shuffles.
    pub(crate) fn behind(&self, port: u16) -> Option<Outside> {
        let executors = lock(&self.executors);
        executors.values().find(|executor| executor.shuffles.address().port() == port).map(|e| e.outside.clone())
    }

    /// Closes the ways to an executor. Returns the port that stood for its shuffles.
    pub(crate) fn leave(&self, id: &str) -> Option<u16> {
        let gone = lock(&self.executors).remove(id);
        gone.map(|executor| executor.shuffles.address().port())
    }
}

/// An executor among hosts, before it has joined: its port, and its ways to the driver.
pub(crate) struct ExecutorHost {
    keys: Keys,
    driver: SocketAddr,
    tunnel: Tunnel,
    outside: Outside,
    desk: Way,
    scheduler: Way,
    /// Where Ballista listens: ports are given by the driver, and on a machine with others they may be taken at 127.0.0.1.
    here: IpAddr,
}

impl ExecutorHost {
    /// Opens the executor's port at an address, and ways to the driver at another.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the address is taken, or not this machine's; or the secret is too short.
    pub(crate) fn open(
        runtime: &Handle,
        listen: SocketAddr,
        driver: SocketAddr,
        secret: &Secret,
    ) -> Result<ExecutorHost> {
        let keys = Keys::of_secret(secret.bytes())?;
        let name: String = random::<16>()?.iter().map(|byte| format!("{byte:02x}")).collect();
        let name = format!("executor-{name}");
        runtime.block_on(async {
            let limits = Limits::default();
            let tunnel = Tunnel::open(listen, &keys, &name, limits).await?;
            let way = |service| Way::open(&keys, Place::new(driver, DRIVER, service), limits);
            let (desk, scheduler) = (way(DESK).await?, way(SCHEDULER).await?);
            let outside = Outside { address: tunnel.address(), name };
            let here = loopback_of(random()?);
            Ok(ExecutorHost { keys, driver, tunnel, outside, desk, scheduler, here })
        })
    }

    /// Tries whether the driver is there and has the same secret.
    ///
    /// # Errors
    ///
    /// The kind is `Config` if it has not, or is something else; `Unavailable` if nobody answers.
    pub(crate) fn try_driver(&self, runtime: &Handle) -> Result<()> {
        runtime.block_on(try_out(&self.keys, &Place::new(self.driver, DRIVER, DESK), Limits::default()))
    }

    pub(crate) fn outside(&self) -> &Outside {
        &self.outside
    }

    /// Returns where the way to the driver's desk begins.
    pub(crate) fn desk(&self) -> SocketAddr {
        self.desk.address()
    }

    /// Returns where the way to the scheduler begins.
    pub(crate) fn scheduler(&self) -> SocketAddr {
        self.scheduler.address()
    }

    /// Lets the driver and other executors reach what listens here at two ports. Returns at which address it must.
    pub(crate) fn offer(&self, [shuffles, tasks]: [u16; 2]) -> IpAddr {
        self.tunnel.offer(SHUFFLES, SocketAddr::new(self.here, shuffles));
        self.tunnel.offer(TASKS, SocketAddr::new(self.here, tasks));
        self.here
    }

    /// Returns what leads all that is meant for the scheduler to the way there, whatever the scheduler says where it is.
    pub(crate) fn to_scheduler(&self) -> EndpointOverrideFn {
        let way = format!("http://{}", self.scheduler());
        Arc::new(move |_| {
            Ok(Endpoint::from_shared(way.clone())?
                .connect_timeout(PATIENCE)
                .tcp_nodelay(true)
                .http2_keep_alive_interval(PATIENCE)
                .keep_alive_while_idle(true))
        })
    }

    /// Returns ways to other executors, which the driver at the desk knows.
    pub(crate) fn peers(&self, desk: &Arc<DeskClient>) -> Peers {
        Peers {
            keys: self.keys.clone(),
            desk: Arc::clone(desk),
            ways: Mutex::default(),
            connections: Connections::default(),
        }
    }
}

/// Makes an address of this machine's own of numbers that were drawn; never the one that all others use.
fn loopback_of([a, b, c]: [u8; 3]) -> IpAddr {
    // Neither 127.0.… nor an end of a network's numbers.
    Ipv4Addr::new(127, a.clamp(1, 254), b, c.clamp(1, 254)).into()
}

/// Connections of an executor to others, whose shuffles it reads: where the driver says that they are.
pub(crate) struct Peers {
    keys: Keys,
    desk: Arc<DeskClient>,
    /// By the port by which the driver knows them.
    ways: Mutex<BTreeMap<u16, Way>>,
    connections: Connections,
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Peers")
    }
}

impl Peers {
    /// Closes the way to an executor that is gone, with all connections through it.
    pub(crate) fn left(&self, port: u16) {
        let gone = lock(&self.ways).remove(&port);
        if let Some(way) = gone {
            self.connections.forget(way.address().port());
        }
    }

    async fn way_to(&self, port: u16) -> Result<SocketAddr> {
        if let Some(way) = lock(&self.ways).get(&port) {
            return Ok(way.address());
        }
        let desk = Arc::clone(&self.desk);
        let asked = tokio::task::spawn_blocking(move || desk.peer(port)).await;
        let outside = asked.map_err(|error| bug!("a question to the driver broke off: {error}"))??;
        let way = Way::open(&self.keys, outside.place(SHUFFLES), Limits::default()).await?;
        // Somebody else may have been as fast: theirs is as good.
        Ok(lock(&self.ways).entry(port).or_insert(way).address())
    }
}

#[async_trait]
impl BallistaClientPool for Peers {
    async fn acquire(
        &self,
        _: &str,
        port: u16,
        config: &GrpcClientConfig,
        endpoint: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> BallistaResult<PooledClient> {
        let way = self.way_to(port).await.map_err(|error| BallistaError::GrpcConnectionError(error.to_string()))?;
        self.connections.acquire(&way.ip().to_string(), way.port(), config, endpoint).await
    }

    async fn evict_idle(&self) {
        self.connections.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_drawn_is_this_machines_and_nobody_elses() {
        for drawn in [[0, 0, 0], [255, 255, 255], [0, 0, 1], [7, 8, 9]] {
            let address = loopback_of(drawn);
            assert!(address.is_loopback() && address != IpAddr::V4(Ipv4Addr::LOCALHOST), "{address}");
            std::net::TcpListener::bind((address, 0)).unwrap();
        }
    }
}
