//! Lives: a process is started, ends as its fate says, and the next one takes its place.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::clock::{monotonic, wall_time};
use millstream_core::threads::{self, OwnedThread};
use millstream_core::{Error, ErrorKind, Result, millis, secs};
use millstream_kafka::{Admin, Lag};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::audit::{Verdict, audit};
use crate::program::{KEYS, PARTITIONS};

/// Nothing that works takes longer, also where much else runs.
const PATIENCE: Duration = secs(240);

/// Where a process ends: the points that it passes.
const POINTS: [&str; 14] = [
    "allocated",
    "opened",
    "range-read",
    "collected",
    "begun",
    "half",
    "sent",
    "marked",
    "committed",
    "prepared",
    "group-committed",
    "fenced",
    "mark-read",
    "taken-over",
];

/// How a life ends.
#[derive(Clone, Debug)]
pub(crate) enum Fate {
    /// At a point, when it has been passed so often, by a signal: KILL, or STOP, and then another one takes its place.
    Point(String, u64, String),
    /// After so many milliseconds, by SIGKILL.
    Time(u64),
    /// The broker is killed and started again in the middle; then as the process is killed.
    Broker(u64),
    /// The broker is killed and started again so many milliseconds behind a point; then the process, at once, or so many after the
    /// broker has begun to listen, when it may still be busy with what it found.
    Both(String, u64, Option<u64>),
}

fn scattered(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

impl Fate {
    pub(crate) fn at(point: &str, times: u64, signal: &str) -> Fate {
        Fate::Point(point.to_owned(), times, signal.to_owned())
    }

    /// Draws the `n`-th fate of a seed in which the broker ends as often as the process.
    pub(crate) fn draw_with_restarts(seed: u64, n: u64) -> Fate {
        let chance = scattered(seed.wrapping_mul(1000).wrapping_add(n));
        match n % 4 {
            1 => Fate::Broker(chance % 3000),
            3 => Fate::draw(seed, (chance >> 8) % 14),
            _ => Fate::draw_with_restart(seed, n),
        }
    }

    /// Draws a fate in which the broker ends in a transaction, and the process at once, or when the broker is back.
    fn draw_with_restart(seed: u64, n: u64) -> Fate {
        let chance = scattered(seed.wrapping_mul(1000).wrapping_add(n));
        let points = ["sent", "marked", "marked", "marked", "committed", "half"];
        let point = points[(chance >> 8) as usize % points.len()];
        let (times, soon, after) = (chance % 12, (chance >> 16) % 12, (chance >> 32) % 1000);
        let after = [None, Some(after / 2), Some(after * 3)][(chance >> 24) as usize % 3];
        Fate::Both(format!("{point}:{times}"), soon, after)
    }

    /// Draws the `n`-th fate of a seed: each point in turn, with other ends in between.
    pub(crate) fn draw(seed: u64, n: u64) -> Fate {
        let chance = scattered(seed.wrapping_mul(1000).wrapping_add(n));
        match n % 22 {
            14 | 15 => Fate::Time(300 + chance % 2500),
            16 => Fate::Broker(300 + chance % 1000),
            17 => Fate::at("sent", chance % 4, "STOP"),
            18 => Fate::at("marked", chance % 4, "STOP"),
            19 => Fate::at("begun", chance % 4, "STOP"),
            20 | 21 => Fate::draw_with_restart(seed, chance >> 8),
            point => {
                let name = POINTS[point as usize];
                // A start passes its own points once.
                let times = if ["fenced", "mark-read", "taken-over"].contains(&name) { 0 } else { chance % 8 };
                Fate::at(name, times, "KILL")
            }
        }
    }
}

/// Sends numbers for as long as it lives.
struct Sender {
    sent: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<OwnedThread>,
}

impl Sender {
    fn start(brokers: &str, topic: &str, a_second: u64) -> Result<Sender> {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("enable.idempotence", "true")
            .set("reconnect.backoff.max.ms", "500")
            .create()
            .map_err(Error::user)?;
        let (sent, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counts, ends, topic) = (Arc::clone(&sent), Arc::clone(&over), topic.to_owned());
        let thread = threads::spawn("numbers", move || {
            let began = monotonic();
            while !ends.load(Ordering::SeqCst) {
                let due = (monotonic() - began).as_millis() as u64 * a_second / 1000;
                for number in counts.load(Ordering::SeqCst)..due {
                    let value = number.to_string();
                    let partition = (number % KEYS % PARTITIONS as u64) as i32;
                    if producer.send(BaseRecord::<str, str>::to(&topic).partition(partition).payload(&value)).is_err() {
                        // The broker is away: what was not taken is sent later.
                        break;
                    }
                    counts.store(number + 1, Ordering::SeqCst);
                }
                producer.poll(millis(5));
                std::thread::park_timeout(millis(5));
            }
            drop(producer.flush(PATIENCE));
        })?;
        Ok(Sender { sent, over, thread: Some(thread) })
    }

    /// Ends it when all has arrived. Returns how many numbers there are.
    fn end(&mut self) -> u64 {
        self.over.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
        self.sent.load(Ordering::SeqCst)
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

/// Returns how many files are in a folder, and how long they are together.
fn size(folder: &Path) -> (u64, u64) {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok);
    entries.fold((0, 0), |(files, bytes), entry| match entry.metadata() {
        Ok(found) if found.is_dir() => {
            let (more, longer) = size(&entry.path());
            (files + more, bytes + longer)
        }
        Ok(found) => (files + 1, bytes + found.len()),
        Err(_) => (files, bytes),
    })
}

/// A program that is killed again and again.
pub(crate) struct Soak {
    brokers: String,
    from: String,
    to: String,
    folder: PathBuf,
    checkpoint: PathBuf,
    mistake: Option<String>,
    lives: u64,
    /// The most memory that a process had of those that were looked at, in kilobytes.
    memory: u64,
    ends: std::collections::BTreeMap<String, u64>,
    sender: Sender,
}

fn ended(child: &mut Child, within: Duration) -> Result<Option<std::process::ExitStatus>> {
    let until = monotonic() + within;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if monotonic() > until {
            return Ok(None);
        }
        std::thread::park_timeout(millis(10));
    }
}

fn signal(child: &Child, name: &str) -> Result<()> {
    Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status()?;
    Ok(())
}

/// Says whether a process is stopped, and not running.
fn is_stopped(child: &Child) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, target) = (entry.as_ref().map(fs::DirEntry::path), entry.as_ref().map(|e| to.join(e.file_name())));
        let (Ok(path), Ok(target)) = (entry, target) else { continue };
        if path.is_dir() {
            copy(&path, &target)?;
        } else {
            fs::copy(&path, &target)?;
        }
    }
    Ok(())
}

impl Soak {
    pub(crate) fn begin(name: &str, mistake: Option<&str>, seed: u64, a_second: u64) -> Result<Soak> {
        let brokers = std::env::var("MILLSTREAM_KAFKA").map_err(|_| {
            Error::new(ErrorKind::Config, "MILLSTREAM_KAFKA does not say where the broker is: see .ci/with-kafka")
        })?;
        let unique = format!("{name}-{}-{}", std::process::id(), wall_time().as_millis());
        let (from, to) = (format!("{unique}-in"), format!("{unique}-out"));
        let admin = Admin::of(&*brokers)?;
        admin.create_topic(&from, PARTITIONS, &[])?;
        admin.create_topic(&to, PARTITIONS, &[])?;
        let folder = std::env::temp_dir().join(format!("millstream-soak-kafka-{unique}"));
        fs::create_dir_all(&folder)?;
        println!("{name}: seed {seed}, in {}", folder.display());
        let sender = Sender::start(&brokers, &from, a_second)?;
        let (checkpoint, mistake) = (folder.join("checkpoint-0"), mistake.map(str::to_owned));
        Ok(Soak {
            brokers,
            from,
            to,
            folder,
            checkpoint,
            mistake,
            lives: 0,
            memory: 0,
            ends: Default::default(),
            sender,
        })
    }

    fn start(&mut self, end: Option<String>) -> Result<Child> {
        self.lives += 1;
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["child", &self.brokers, &self.from, &self.to]).arg(&self.checkpoint);
        command.env_remove("MILLSTREAM_KAFKA_END").env_remove("MILLSTREAM_KAFKA_MISTAKE");
        command.envs(end.map(|end| ("MILLSTREAM_KAFKA_END", end)));
        command.envs(self.mistake.clone().map(|mistake| ("MILLSTREAM_KAFKA_MISTAKE", mistake)));
        let log = File::create(self.folder.join(format!("life-{}.log", self.lives)))?;
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn()?)
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.join(format!("life-{}.log", self.lives))).unwrap_or_default()
    }

    fn failed(&self, what: &str) -> Error {
        let log = self.folder.join(format!("life-{}.log", self.lives));
        Error::new(ErrorKind::Internal, format!("{what}; see {}: {}", log.display(), self.said().trim()))
    }

    /// Notes how much memory a process has had.
    fn look(&mut self, child: &Child) {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let most =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
        self.memory = self.memory.max(most.unwrap_or(0));
    }

    /// Says how far it has come, and begins anew to look for the most memory.
    pub(crate) fn report(&mut self, at: Duration) {
        let (files, bytes) = size(&self.checkpoint);
        println!(
            "  {} s: {} processes, {} records, a checkpoint of {files} files and {bytes} bytes, {} kB of memory at most",
            at.as_secs(),
            self.lives,
            self.sender.sent.load(Ordering::SeqCst),
            std::mem::take(&mut self.memory)
        );
    }

    /// Has a process live and end. If the broker has forgotten what it keeps of the group, the start refuses; as it says, the broker is
    /// begun again then, and the program behind it.
    pub(crate) fn live(&mut self, fate: &Fate) -> Result<()> {
        match self.lived(fate) {
            Err(_) if self.said().contains("is gone or an old one") => {
                println!("  life {} was given an old mark and refused: the broker is begun again", self.lives);
                self.fell_broker()?;
                self.await_broker()?;
                self.lived(fate)
            }
            lived => lived,
        }
    }

    fn lived(&mut self, fate: &Fate) -> Result<()> {
        self.await_port()?;
        *self
            .ends
            .entry(match fate {
                Fate::Point(point, _, signal) => format!("{signal} at {point}"),
                Fate::Time(_) => "KILL at a time".to_owned(),
                Fate::Broker(_) => "restart of the broker".to_owned(),
                Fate::Both(..) => "restart of the broker, KILL at a time".to_owned(),
            })
            .or_default() += 1;
        match fate {
            Fate::Point(point, times, how) => {
                let mut child = self.start(Some(format!("{point}:{times}:{how}")))?;
                if how == "STOP" {
                    return self.haunt(child);
                }
                let Some(status) = ended(&mut child, PATIENCE)? else {
                    child.kill()?;
                    child.wait()?;
                    return Err(self.failed(&format!("it did not come to {point} within {PATIENCE:?}")));
                };
                if status.code().is_some() {
                    return Err(self.failed(&format!("it ended with {status} before {point}")));
                }
            }
            Fate::Time(time) => {
                let mut child = self.start(None)?;
                if let Some(status) = ended(&mut child, millis(*time))? {
                    return Err(self.failed(&format!("it ended by itself with {status}")));
                }
                self.look(&child);
                child.kill()?;
                child.wait()?;
            }
            Fate::Broker(time) => {
                let mut child = self.start(None)?;
                let early = ended(&mut child, millis(1500 + *time))?;
                if let Some(status) = early {
                    return Err(self.failed(&format!("it ended by itself with {status}")));
                }
                self.fell_broker()?;
                self.await_broker()?;
                // It goes on, or ends and says why: both are good, if nothing is lost.
                if ended(&mut child, secs(3))?.is_none() {
                    child.kill()?;
                    child.wait()?;
                }
            }
            Fate::Both(point, soon, after) => {
                let before = self.broker()?;
                let mut child = self.start(Some(format!("{point}:BROKER-{soon}")))?;
                let until = monotonic() + PATIENCE;
                while self.broker()? == before {
                    if let Some(status) = ended(&mut child, millis(5))? {
                        return Err(self.failed(&format!("it ended by itself with {status}")));
                    }
                    if monotonic() > until {
                        child.kill()?;
                        child.wait()?;
                        return Err(self.failed(&format!("it did not come to {point} within {PATIENCE:?}")));
                    }
                }
                if let Some(after) = after {
                    self.await_port()?;
                    // It goes on, or ends and says why: both are good, if nothing is lost.
                    if ended(&mut child, millis(*after))?.is_some() {
                        return if self.said().contains("Unavailable") { Ok(()) } else { Err(self.failed("it ended")) };
                    }
                }
                self.look(&child);
                child.kill()?;
                child.wait()?;
            }
        }
        Ok(())
    }

    /// A process is stopped in its tracks, another one takes over on a copy of its directory, and then it is woken: it
    /// must not write.
    fn haunt(&mut self, mut zombie: Child) -> Result<()> {
        let until = monotonic() + PATIENCE;
        while !is_stopped(&zombie) {
            if let Some(status) = zombie.try_wait()? {
                return Err(self.failed(&format!("it ended by itself with {status}")));
            }
            if monotonic() > until {
                zombie.kill()?;
                zombie.wait()?;
                return Err(self.failed("it did not come to where it is stopped"));
            }
            std::thread::park_timeout(millis(10));
        }
        let haunted = self.lives;
        let before = std::mem::replace(&mut self.checkpoint, self.folder.join(format!("checkpoint-{}", self.lives)));
        copy(&before, &self.checkpoint)?;
        let mut successor = self.start(None)?;
        if let Some(status) = ended(&mut successor, secs(3))? {
            zombie.kill()?;
            zombie.wait()?;
            return Err(self.failed(&format!("the one that took over ended by itself with {status}")));
        }
        signal(&zombie, "CONT")?;
        let called = monotonic();
        // With a mistake it may go on: what it writes then is for the audit.
        let woken = ended(&mut zombie, if self.mistake.is_some() { secs(3) } else { PATIENCE })?;
        if self.mistake.is_none() {
            println!("  life {haunted} was woken, and ended after {} ms", (monotonic() - called).as_millis());
        }
        let gone = ended(&mut successor, secs(1))?;
        if gone.is_none() {
            successor.kill()?;
            successor.wait()?;
        }
        if woken.is_none() {
            zombie.kill()?;
            zombie.wait()?;
        }
        if self.mistake.is_some() {
            return Ok(());
        }
        let Some(status) = woken else {
            return Err(self.failed("one that was woken when another had taken its place went on"));
        };
        if let Some(gone) = gone {
            return Err(self.failed(&format!("the one that took over ended with {gone} when the other one was woken")));
        }
        let said = fs::read_to_string(self.folder.join(format!("life-{haunted}.log"))).unwrap_or_default();
        if status.success() || !said.contains("has taken over") {
            return Err(Error::new(ErrorKind::Internal, format!("woken, it ended with {status} and said: {said}")));
        }
        fs::remove_dir_all(&before)?;
        Ok(())
    }

    /// Returns the process id of the broker.
    fn broker(&self) -> Result<String> {
        let home = std::env::var("MILLSTREAM_KAFKA_HOME").map_err(Error::user)?;
        Ok(fs::read_to_string(format!("{home}/pid"))?.trim().to_owned())
    }

    fn fell_broker(&self) -> Result<()> {
        let home = std::env::var("MILLSTREAM_KAFKA_HOME").map_err(Error::user)?;
        Command::new(format!("{home}/restart")).status()?;
        Ok(())
    }

    fn await_broker(&self) -> Result<()> {
        let until = monotonic() + PATIENCE;
        while Admin::of(&*self.brokers)?.lag(&self.to, None).is_err() {
            if monotonic() > until {
                return Err(Error::new(ErrorKind::Unavailable, "the broker has not come back"));
            }
            std::thread::park_timeout(millis(100));
        }
        Ok(())
    }

    /// Waits until somebody listens where the broker is: it may be busy with what it found.
    fn await_port(&self) -> Result<()> {
        let until = monotonic() + PATIENCE;
        while std::net::TcpStream::connect(&*self.brokers).is_err() {
            if monotonic() > until {
                return Err(Error::new(ErrorKind::Unavailable, "the broker has not come back"));
            }
            std::thread::park_timeout(millis(20));
        }
        Ok(())
    }

    /// Lets a last process finish what there is, and audits.
    pub(crate) fn end(&mut self) -> Result<()> {
        let (found, places) = self.judge(PATIENCE)?;
        if !found.is_good() {
            let text = format!("{found}{places}\n  what they said is in {}", self.folder.display());
            return Err(Error::new(ErrorKind::Data, text));
        }
        println!("{} records, {} processes: nothing lost, nothing twice, all in order", found.numbers, self.lives);
        for (end, times) in &self.ends {
            println!("  {times:>4} × {end}");
        }
        let _ = fs::remove_dir_all(&self.folder);
        Ok(())
    }

    /// Judges a program with a mistake, which may end wherever it likes. If the last process does not come to the end, so much
    /// may be missing, and nobody knows what is lost.
    pub(crate) fn end_of_mistake(&mut self) -> Result<Verdict> {
        let judged = self.judge(secs(20));
        let (found, _) = match judged {
            Ok(judged) => judged,
            Err(error) => {
                println!("  it did not come to the end: {}", error.message().lines().next().unwrap_or_default());
                let (mut found, places) = audit(&self.brokers, &self.to, self.sender.end())?;
                found.lost = 0;
                (found, places)
            }
        };
        let _ = fs::remove_dir_all(&self.folder);
        Ok(found)
    }

    fn judge(&mut self, patience: Duration) -> Result<(Verdict, String)> {
        let numbers = self.sender.end();
        let mut child = self.start(None)?;
        let mut until = monotonic() + patience;
        let group = format!("{}-group", self.to);
        let admin = Admin::of(&*self.brokers)?;
        let mut least = u64::MAX;
        // Offsets are committed to the group behind what they brought.
        loop {
            let lags = admin.lag(&self.from, Some(&group))?;
            if lags.iter().all(|lag| lag.committed.is_some() && lag.offsets() == 0) {
                break;
            }
            // On a machine with other work much may have piled up: it may take as long as it gets on.
            let left: u64 = lags.iter().map(Lag::offsets).sum();
            if left < least {
                (least, until) = (left, monotonic() + patience);
            }
            if let Some(status) = child.try_wait()? {
                return Err(self.failed(&format!("the last one ended by itself with {status}")));
            }
            if monotonic() > until {
                child.kill()?;
                child.wait()?;
                return Err(self.failed(&format!("the last one got no nearer to the end within {patience:?}")));
            }
            std::thread::park_timeout(millis(50));
        }
        signal(&child, "KILL")?;
        child.wait()?;
        audit(&self.brokers, &self.to, numbers)
    }
}
