//! Brokers of a test's own: each a process, which can be killed and started again.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::threads::lock;
use millstream_core::{millis, secs};
use millstream_kafka::{Admin, Brokers};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use crate::counted::Proxy;

/// What brokers do takes no longer than that, also where much else is done.
pub(crate) const PATIENCE: Duration = secs(90);

/// Who starts brokers has the machine for himself, for as long as he keeps this.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    lock(&ONE)
}

/// Waits for something outside of this process, and looks now and then.
pub(crate) fn await_that(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = monotonic() + PATIENCE;
    while !is() {
        assert!(monotonic() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(millis(50));
    }
}

/// Returns ports that nobody listens at, below those that the system gives to outgoing connections: while a broker is down, one of
/// those could take its port. Each process looks from another one on.
fn free_ports(count: usize) -> Vec<u16> {
    let from = 12_000 + std::process::id().wrapping_mul(97) % 20_000;
    let ports = (0..20_000).map(|at| (12_000 + (from - 12_000 + at) % 20_000) as u16);
    let free = ports.filter_map(|port| TcpListener::bind(("127.0.0.1", port)).ok());
    let held: Vec<TcpListener> = free.take(count).collect();
    assert_eq!(held.len(), count, "there are not so many free ports");
    held.iter().map(|held| held.local_addr().unwrap().port()).collect()
}

/// A process that ends with the test.
struct Process(Child);

impl Process {
    /// Kills it, and waits until it is gone.
    fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Where partitions of a topic are led, and how many copies of each are up to date.
pub(crate) type Led = BTreeMap<i32, (i32, usize)>;

/// Several brokers, of which each is a controller too. What speaks to `brokers` is counted, what speaks to `direct` is not.
pub(crate) struct Nodes {
    processes: Vec<Mutex<Option<Process>>>,
    home: tempfile::TempDir,
    jars: String,
    pub(crate) proxies: Vec<Proxy>,
    pub(crate) direct: String,
    asks: BaseConsumer,
}

impl Nodes {
    /// Starts so many; `own` are settings of all of them.
    pub(crate) fn start(count: usize, own: &[(&str, &str)]) -> Nodes {
        let jars = std::env::var("MILLSTREAM_KAFKA_JARS").expect("MILLSTREAM_KAFKA_JARS says where Kafka is");
        let home = tempfile::tempdir().unwrap();
        let ports = free_ports(3 * count);
        let (plain, rest) = ports.split_at(count);
        let (behind, quorum) = rest.split_at(count);
        let proxies: Vec<Proxy> = behind.iter().map(|port| Proxy::start(*port)).collect();
        let joined = |ports: &[u16]| ports.iter().map(|port| format!("127.0.0.1:{port}")).collect::<Vec<_>>().join(",");
        let voters: Vec<String> = (1..).zip(quorum).map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
        let logging = "status=error\nappender.out.type=Console\nappender.out.name=out\nappender.out.layout.type=PatternLayout\n\
                       appender.out.layout.pattern=%p %m%n\nrootLogger.level=error\nrootLogger.appenderRef.out.ref=out\n";
        fs::write(home.path().join("log4j2.properties"), logging).unwrap();
        for i in 0..count {
            let (id, copies) = (i + 1, count.min(3));
            let (plain, behind, quorum, front) = (plain[i], behind[i], quorum[i], proxies[i].port);
            let mut settings = format!(
                "process.roles=broker,controller\nnode.id={id}\ncontroller.quorum.voters={}\n\
                 listeners=PLAINTEXT://127.0.0.1:{plain},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{quorum}\n\
                 advertised.listeners=PLAINTEXT://127.0.0.1:{plain},PROXIED://127.0.0.1:{front}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
                 controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
                 log.dirs={}\nmetadata.log.dir={}\n\
                 default.replication.factor={copies}\nmin.insync.replicas={in_sync}\n\
                 offsets.topic.replication.factor={copies}\noffsets.topic.num.partitions=3\n\
                 transaction.state.log.replication.factor={copies}\ntransaction.state.log.min.isr={in_sync}\n\
                 transaction.state.log.num.partitions=3\ngroup.initial.rebalance.delay.ms=0\nauto.create.topics.enable=false\n\
                 broker.session.timeout.ms=3000\nbroker.heartbeat.interval.ms=500\nreplica.lag.time.max.ms=3000\n\
                 controller.quorum.election.timeout.ms=500\ncontroller.quorum.fetch.timeout.ms=1000\n\
                 leader.imbalance.check.interval.seconds=1\nleader.imbalance.per.broker.percentage=0\n",
                voters.join(","),
                home.path().join(format!("data-{id}")).display(),
                home.path().join(format!("quorum-{id}")).display(),
                in_sync = copies.div_ceil(2),
            );
            for (key, value) in own {
                settings.push_str(&format!("{key}={value}\n"));
            }
            fs::write(home.path().join(format!("{id}.properties")), settings).unwrap();
        }
        let processes = (0..count).map(|_| Mutex::default()).collect();
        let direct = joined(plain);
        let asks = ClientConfig::new()
            .set("bootstrap.servers", &direct)
            .set("group.id", "nobody")
            .set("reconnect.backoff.max.ms", "500")
            .set("log_level", "0")
            .create()
            .unwrap();
        let nodes = Nodes { processes, home, jars, proxies, direct, asks };
        let formats = (1..=count).map(|id| {
            let mut java = nodes.java("kafka.tools.StorageTool", id, 128);
            Process(
                java.args(["format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c"]).arg(nodes.settings(id)).spawn().unwrap(),
            )
        });
        for (mut format, id) in formats.collect::<Vec<_>>().into_iter().zip(1..) {
            assert!(format.0.wait().unwrap().success(), "{}", nodes.said(id));
        }
        (0..count).for_each(|i| nodes.begin(i));
        nodes.await_all();
        nodes
    }

    fn settings(&self, id: usize) -> PathBuf {
        self.home.path().join(format!("{id}.properties"))
    }

    /// What a broker has said, of what went wrong.
    fn said(&self, id: usize) -> String {
        fs::read_to_string(self.home.path().join(format!("{id}.log"))).unwrap_or_default()
    }

    fn java(&self, main: &str, id: usize, megabytes: usize) -> Command {
        let log =
            fs::File::options().create(true).append(true).open(self.home.path().join(format!("{id}.log"))).unwrap();
        let mut java = Command::new("java");
        java.args([&format!("-Xmx{megabytes}m"), "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp"])
            .arg(format!("{}/*", self.jars))
            .arg(format!("-Dlog4j2.configurationFile={}", self.home.path().join("log4j2.properties").display()))
            .arg(main)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        java
    }

    /// Starts a broker that does not run.
    pub(crate) fn begin(&self, i: usize) {
        let mut java = self.java("kafka.Kafka", i + 1, 256);
        let process = Process(java.arg(self.settings(i + 1)).spawn().unwrap());
        *lock(&self.processes[i]) = Some(process);
    }

    /// Kills a broker, with SIGKILL.
    pub(crate) fn kill(&self, i: usize) {
        if let Some(process) = lock(&self.processes[i]).take() {
            process.kill();
        }
    }

    /// Says whether a broker has ended by itself.
    pub(crate) fn has_ended(&self, i: usize) -> bool {
        lock(&self.processes[i]).as_mut().is_none_or(|process| process.0.try_wait().unwrap().is_some())
    }

    /// Waits until all that were started answer, and know each other.
    pub(crate) fn await_all(&self) {
        await_that("all brokers are there", || {
            for i in 0..self.processes.len() {
                assert!(!self.has_ended(i), "broker {} has ended:\n{}", i + 1, self.said(i + 1));
            }
            let metadata = self.asks.fetch_metadata(None, secs(2));
            metadata.is_ok_and(|metadata| metadata.brokers().len() == self.processes.len())
        });
    }

    /// The brokers, as the program that is tested sees them.
    pub(crate) fn brokers(&self) -> Brokers {
        let at: Vec<String> = self.proxies.iter().map(|proxy| format!("127.0.0.1:{}", proxy.port)).collect();
        Brokers::at(at.join(","))
    }

    /// The brokers, as the test itself sees them.
    pub(crate) fn directly(&self) -> Brokers {
        Brokers::at(&*self.direct)
    }

    pub(crate) fn topic(&self, name: &str, partitions: i32) -> String {
        Admin::of(self.directly()).unwrap().create_topic(name, partitions, &[]).unwrap();
        name.to_owned()
    }

    /// Says who leads each partition of a topic; nothing while nobody says so.
    pub(crate) fn led(&self, topic: &str) -> Led {
        let Ok(metadata) = self.asks.fetch_metadata(Some(topic), secs(2)) else { return Led::new() };
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        partitions.map(|partition| (partition.id(), (partition.leader(), partition.isr().len()))).collect()
    }

    /// How many questions about topics all brokers together were asked so far.
    pub(crate) fn metadata_requests(&self) -> u64 {
        self.proxies.iter().map(Proxy::metadata).sum()
    }
}
