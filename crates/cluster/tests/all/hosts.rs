//! The same program on threads, on a local cluster and on three hosts: network namespaces, which share nothing but a wire.
//!
//! To make them takes root and Linux. Who cannot says `MILLSTREAM_WITHOUT_NAMESPACES=1`, and is told what was left out.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream_cluster::Cluster;
use millstream_core::{Text, capture, millis};
use millstream_streaming::{Conf, StreamingContext};

use super::lives::{Process, signal, until, variable};

const SECRET: &str = "a secret that only tests know";

const BATCHES: usize = 4;

/// The test that is the program, where it is told a master.
const THIS: &str = "the_same_program_gives_the_same_on_threads_on_a_local_cluster_and_on_three_hosts";

/// The program: counts words, batch by batch and since it began, and writes down what comes out and how many processes have
/// worked on a batch.
fn program() {
    let (folder, master) = (variable("MILLSTREAM_FOLDER"), variable("MILLSTREAM_MASTER"));
    let conf = Conf::new(&master, "hosts").unwrap();
    let mut builder = StreamingContext::builder(conf.clone(), millis(100));
    if master.starts_with("cluster://") {
        // Batches begin with the first executor, and both are to have their share.
        let cluster = Arc::new(Cluster::start(&conf.engine).unwrap());
        cluster.await_executors(2, Duration::from_secs(120)).unwrap();
        builder = builder.with_backend(cluster as _);
    }
    let ssc = builder.build().unwrap();
    ssc.checkpoint(Path::new(&folder).join("checkpoint")).unwrap();
    let queue = millstream_streaming::RddQueue::new();
    for batch in 0..BATCHES as u64 {
        let lines: Vec<Text> = (0..40).map(|i| Text::from(format!("the fox {} of {batch}", i % 5))).collect();
        queue.push(ssc.context().parallelize(lines, 4));
    }
    let words = ssc.queue_stream(&queue).flat_map(|line| line.split(' ')).map(|word| (word, 1i64));
    let processes = ssc.context().collection_accumulator::<u32>("processes");
    let seen = capture(processes.clone(), |processes, pair: (Text, i64)| {
        processes.add(std::process::id());
        pair
    });
    let counts = words.map(seen).reduce_by_key_partitioned(|a, b| a + b, 4);
    let all = counts.update_state_by_key(|new, old: Option<i64>| Some(old.unwrap_or(0) + new.iter().sum::<i64>()));
    let (done, ended) = (Arc::new(AtomicUsize::new(0)), Path::new(&folder).join("out"));
    let so_far = Arc::clone(&done);
    let text = Arc::new(std::sync::Mutex::new(String::new()));
    all.foreach_rdd(move |rdd, _| {
        let mut counts = rdd.collect()?;
        counts.sort();
        let mut text = text.lock().unwrap();
        *text += &format!("{counts:?}\n");
        if so_far.fetch_add(1, Ordering::Relaxed) + 1 == BATCHES {
            std::fs::write(&ended, &*text)?;
        }
        Ok(())
    });
    ssc.start().unwrap();
    until("all batches", || {
        // If it has failed, this says so.
        ssc.await_termination_or_timeout(millis(1)).unwrap();
        done.load(Ordering::Relaxed) >= BATCHES
    });
    // Where somebody wants to look at it while it runs.
    until("the word to end", || !Path::new(&folder).join("hold").exists());
    ssc.stop().unwrap();
    let mut processes = processes.value();
    processes.sort_unstable();
    processes.dedup();
    std::fs::write(Path::new(&folder).join("processes"), processes.len().to_string()).unwrap();
}

/// Three hosts with a switch between them. They are gone with this.
struct Network {
    name: String,
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip").args(arguments.split(' ')).output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    output.status.success().then_some(()).ok_or(format!("ip {arguments}: {said}"))
}

impl Network {
    /// Nothing if whoever runs the tests has said that there are no namespaces here.
    fn open() -> Option<Network> {
        if std::env::var("MILLSTREAM_WITHOUT_NAMESPACES").is_ok_and(|said| said == "1") {
            eprintln!("LEFT OUT: no test on three hosts, for MILLSTREAM_WITHOUT_NAMESPACES=1");
            return None;
        }
        let network = Network { name: format!("ms{}", std::process::id()) };
        if let Err(error) = network.wire() {
            panic!(
                "no network namespaces here ({error}): run as root on Linux with iproute2, or say \
                 MILLSTREAM_WITHOUT_NAMESPACES=1 to leave this out"
            );
        }
        Some(network)
    }

    fn host(&self, at: usize) -> String {
        format!("{}h{at}", self.name)
    }

    fn address(at: usize) -> String {
        format!("10.77.0.{}", at + 1)
    }

    /// The first host is the switch too.
    fn wire(&self) -> Result<(), String> {
        for at in 0..3 {
            ip(&format!("netns add {}", self.host(at)))?;
            ip(&format!("-n {} link set lo up", self.host(at)))?;
        }
        let switch = self.host(0);
        ip(&format!("-n {switch} link add switch type bridge"))?;
        ip(&format!("-n {switch} addr add {}/24 dev switch", Network::address(0)))?;
        ip(&format!("-n {switch} link set switch up"))?;
        for at in 1..3 {
            let host = self.host(at);
            ip(&format!("-n {host} link add wire type veth peer name port{at} netns {switch}"))?;
            ip(&format!("-n {switch} link set port{at} master switch up"))?;
            ip(&format!("-n {host} addr add {}/24 dev wire", Network::address(at)))?;
            ip(&format!("-n {host} link set wire up"))?;
        }
        Ok(())
    }

    /// A command on a host.
    fn on(&self, at: usize) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.host(at)]);
        command
    }

    fn executor(&self, at: usize, secret: &str) -> Command {
        let mut command = self.on(at);
        command.arg(std::env::current_exe().unwrap());
        command.args(["executor", "--driver", "10.77.0.1:7077", "--slots", "1"]).env("MILLSTREAM_SECRET", secret);
        command.stdin(Stdio::null());
        command
    }

    /// Where a host is reached from others: all that listens there, but for loopback addresses.
    fn open_ports(&self, at: usize) -> Vec<SocketAddr> {
        let table = self.on(at).args(["cat", "/proc/net/tcp"]).output().unwrap();
        let table = String::from_utf8(table.stdout).unwrap();
        let listening = table.lines().skip(1).filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (address, port) = fields[1].split_once(':').unwrap();
            let address = u32::from_str_radix(address, 16).unwrap().to_le_bytes();
            (fields[3] == "0A").then(|| SocketAddr::from((address, u16::from_str_radix(port, 16).unwrap())))
        });
        let six = self.on(at).args(["cat", "/proc/net/tcp6"]).output().unwrap();
        assert!(String::from_utf8(six.stdout).unwrap().lines().count() <= 1, "nothing listens by version 6");
        listening.filter(|at| !at.ip().is_loopback()).collect()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for at in 0..3 {
            let _ = ip(&format!("netns del {}", self.host(at)));
        }
    }
}

/// The program as a command, on a master.
fn command(mut command: Command, master: &str, folder: &Path) -> Command {
    command.args([&format!("hosts::{THIS}"), "--exact", "--nocapture"]).env("MILLSTREAM_SECRET", SECRET);
    command.env("MILLSTREAM_FOLDER", folder).env("MILLSTREAM_MASTER", master);
    command.stdin(Stdio::null()).stdout(Stdio::null());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs the program here, and returns what has come out, and how many processes have worked on it.
fn ran_here(master: &str) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let here = Command::new(std::env::current_exe().unwrap());
    let output = command(here, master, folder.path()).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{master}: {}", said(&output));
    came_out(folder.path())
}

fn came_out(folder: &Path) -> (String, String) {
    let read = |name| std::fs::read_to_string(folder.join(name)).unwrap();
    (read("out"), read("processes"))
}

#[test]
fn the_same_program_gives_the_same_on_threads_on_a_local_cluster_and_on_three_hosts() {
    if std::env::var_os("MILLSTREAM_MASTER").is_some() {
        return program();
    }
    let Some(network) = Network::open() else { return };
    let (threads, processes) = ran_here("local[2]");
    assert_eq!((threads.lines().count(), processes.as_str()), (BATCHES, "1"));
    assert!(threads.lines().last().unwrap().contains("(\"the\", 160)"), "{threads}");
    assert_eq!(ran_here("local-cluster[2,1]"), (threads.clone(), "2".to_owned()));

    // Who does not know the secret is told so, by the address; the others are let in.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("hold"), b"").unwrap();
    let mut stranger = network.executor(1, "a secret of another cluster");
    let stranger = Process(stranger.stderr(Stdio::piped()).spawn().unwrap());
    let mut executors = [1, 2].map(|at| Process(network.executor(at, SECRET).stdout(Stdio::null()).spawn().unwrap()));
    let mut driver = network.on(0);
    driver.arg(std::env::current_exe().unwrap());
    let mut driver = command(driver, "cluster://10.77.0.1:7077", folder.path());
    let mut driver = Process(driver.stderr(Stdio::piped()).spawn().unwrap());
    until("a program on three hosts", || {
        assert!(driver.0.try_wait().unwrap().is_none(), "the driver has ended");
        folder.path().join("out").exists()
    });
    let open: Vec<_> = (0..3).map(|at| network.open_ports(at)).collect();
    std::fs::remove_file(folder.path().join("hold")).unwrap();
    let ended = driver.0.wait().unwrap();
    assert!(ended.success());
    assert!(executors.iter_mut().all(|executor| executor.0.wait().unwrap().success()), "they have heard of its end");
    assert_eq!(came_out(folder.path()), (threads, "2".to_owned()));
    assert_eq!(open[0], ["10.77.0.1:7077".parse().unwrap()], "the driver's host shows one port");
    for at in [1, 2] {
        let ports: Vec<SocketAddr> = open[at].clone();
        assert_eq!(ports.len(), 1, "host {at} shows one port: {ports:?}");
        assert_eq!(ports[0].ip().to_string(), Network::address(at));
    }
    let mut stranger = stranger;
    signal("-TERM", stranger.0.id());
    stranger.0.wait().unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(stranger.0.stderr.as_mut().unwrap(), &mut text).unwrap();
    assert!(text.contains("the secrets differ: driver at 10.77.0.1:7077"), "{text}");
}
