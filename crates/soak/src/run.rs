//! The run: lives that begin and end, what is measured meanwhile, and the audit.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use millstream::core::clock::monotonic;
use millstream::{Error, ErrorKind, Result, millis, secs};

use crate::audit::audit;
use crate::child::{Child, Place, pause};
use crate::fate::{End, Life, Until, draw};
use crate::gauge::{Gauge, entries, memory, room};
use crate::options::Options;
use crate::records::scattered;
use crate::sender::Sender;

/// How long anything may take that should take moments.
const PATIENCE: Duration = secs(60);

/// How long a process may take to end that has just begun.
const SOON: Duration = secs(10);

/// How often memory and disk are looked at.
const SAMPLE: Duration = millis(200);

/// What may be more, in bytes, than what was before: a page cache, a segment that is being written.
const SLACK: u64 = 8 << 20;

/// How many files and folders may be at the top of a checkpoint directory: the lock, two logs, checkpoint files, a
/// folder of states for each of the last starts.
const ENTRIES: usize = 20;

struct Soak {
    sender: Sender,
    place: Place,
    checkpoint: PathBuf,
    seed: u64,
    run: u64,
    child: Option<Child>,
    ends: BTreeMap<End, u64>,
    /// From the start of a process until its receiver has connected.
    starts: Vec<Duration>,
    disk: Gauge,
    /// The most memory of each life.
    lives: Gauge,
    /// The memory of the last one.
    memory: Gauge,
}

/// Runs all of it, and says how it went.
pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = options
        .folder
        .clone()
        .unwrap_or_else(|| std::env::temp_dir().join(format!("millstream-soak-{}", std::process::id())));
    fs::create_dir_all(&folder)?;
    if fs::read_dir(&folder)?.next().is_some() {
        let text = format!("{} is not empty: give --folder a new one", folder.display());
        return Err(Error::new(ErrorKind::Config, text));
    }
    let sender = Sender::start(options.rate)?;
    let place = Place { port: sender.port(), folder: folder.clone(), database: folder.join("audit.db") };
    let mut soak = Soak {
        sender,
        checkpoint: folder.join("checkpoint-0"),
        place,
        seed: options.seed,
        run: 0,
        child: None,
        ends: BTreeMap::new(),
        starts: Vec::new(),
        disk: Gauge::default(),
        lives: Gauge::default(),
        memory: Gauge::default(),
    };
    let outcome = soak.all(options);
    drop(soak);
    if outcome.is_ok() {
        fs::remove_dir_all(&folder)?;
    } else {
        eprintln!("seed {}; what was written is in {}", options.seed, folder.display());
    }
    outcome
}

impl Soak {
    fn all(&mut self, options: &Options) -> Result<()> {
        let began = monotonic();
        // The last part, of a quarter or two minutes, without an end: whether memory is flat is seen in a life that is
        // long.
        let quiet = options.quiet.unwrap_or((options.time / 4).min(secs(120)));
        for n in 0.. {
            let life = match options.script.get(usize::try_from(n).unwrap_or(usize::MAX)) {
                Some(life) => *life,
                None if monotonic() + quiet < began + options.time => draw(options.seed, n),
                None => break,
            };
            self.live(life)?;
        }
        if !quiet.is_zero() {
            self.live_until(Until::Time(quiet), true)?;
        }
        let last = self.sender.finish();
        self.keep_alive()?;
        if !self.sender.await_acknowledged(last, PATIENCE) {
            return Err(self.blamed(&format!("{} of {last} records are acknowledged", self.sender.acknowledged())));
        }
        self.end_well("TERM", false)?;
        let found = audit(&self.place.database, last)?;
        // Once more, with nothing to do: nothing comes again.
        self.live_until(Until::Time(millis(300)), false)?;
        self.end_well("TERM", false)?;
        audit(&self.place.database, last)?;
        if let Some(mistake) = self.sender.mistakes().first() {
            return Err(Error::new(ErrorKind::Internal, mistake.clone()));
        }
        let time = (monotonic() - began).as_secs_f64();
        let ends: Vec<_> = self.ends.iter().map(|(end, count)| format!("{count} {end}")).collect();
        println!("seed {}, {time:.0} s, {} processes, ended by: {}", options.seed, self.run, ends.join(", "));
        println!(
            "{last} records, each once ({:.0} a second); {} batches with records, {} windows, states exact",
            last as f64 / time,
            found.batches,
            found.windows
        );
        self.starts.sort();
        let at = |part: usize| self.starts.get((self.starts.len() * part / 100).min(self.starts.len() - 1));
        println!(
            "a start takes {:?} (median), {:?} (99 of 100)",
            at(50).unwrap_or(&secs(0)),
            at(99).unwrap_or(&secs(0))
        );
        let verdicts = [
            self.memory.verdict("memory of the last life", 2 * SLACK),
            self.lives.verdict("memory of each life", 2 * SLACK),
            self.disk.verdict("checkpoint directory", SLACK),
        ];
        let left = entries(&self.checkpoint);
        println!("checkpoint directory: {left} files and folders at its top");
        let mut grows = Vec::new();
        if left > ENTRIES {
            grows.push(format!("the checkpoint directory has {left} files and folders: {}", self.checkpoint.display()));
        }
        for verdict in verdicts {
            match verdict {
                Ok(text) => println!("{text}"),
                Err(text) => grows.push(text),
            }
        }
        if grows.is_empty() { Ok(()) } else { Err(Error::new(ErrorKind::Internal, grows.join("\n"))) }
    }

    /// Has a process run.
    fn keep_alive(&mut self) -> Result<()> {
        if self.child.is_none() {
            self.run += 1;
            self.child = Some(Child::start(&self.place, self.run, &self.checkpoint)?);
        }
        Ok(())
    }

    fn alive(&mut self) -> Result<&mut Child> {
        self.child.as_mut().ok_or_else(|| Error::new(ErrorKind::Internal, "no process runs"))
    }

    fn blamed(&self, what: &str) -> Error {
        match &self.child {
            Some(child) => child.failed(what),
            None => Error::new(ErrorKind::Internal, what),
        }
    }

    /// Says whether the receiver of the process has connected.
    fn is_connected(&self) -> bool {
        self.sender.run() == self.run
    }

    fn live_until(&mut self, until: Until, quiet: bool) -> Result<()> {
        self.keep_alive()?;
        let (began, from) = (monotonic(), self.sender.acknowledged());
        let (mut next_sample, mut connected, mut most) = (began, self.is_connected(), None);
        loop {
            let now = monotonic();
            if !connected && self.is_connected() {
                connected = true;
                let began = self.alive()?.began;
                self.starts.push(now - began);
            }
            let over = match until {
                Until::Time(time) => now - began >= time,
                Until::Records(records) => {
                    if now - began > PATIENCE {
                        return Err(self.blamed(&format!("not {records} records within {PATIENCE:?}")));
                    }
                    self.sender.acknowledged() >= from + records
                }
            };
            if let Some(status) = self.alive()?.ended()? {
                return Err(self.blamed(&format!("it ended by itself with {status}")));
            }
            if now >= next_sample {
                next_sample = now + SAMPLE;
                self.disk.note(Some(room(&self.checkpoint)));
                let used = memory(self.alive()?.pid());
                most = most.max(used);
                if quiet {
                    self.memory.note(used);
                }
            }
            if over {
                // A long one warms up longer.
                self.lives.note(most.filter(|_| !quiet));
                return Ok(());
            }
            pause(millis(5));
        }
    }

    fn live(&mut self, life: Life) -> Result<()> {
        self.live_until(life.until, false)?;
        *self.ends.entry(life.end).or_default() += 1;
        match life.end {
            End::Kill => self.kill(),
            End::Term => self.end_well("TERM", false),
            End::Int => self.end_well("INT", false),
            End::TermTwice => {
                self.alive()?.signal("TERM")?;
                self.end_well("INT", true)
            }
            End::TermKill => {
                self.alive()?.signal("TERM")?;
                pause(millis(scattered(self.seed ^ self.run) % 80));
                self.kill()
            }
            // One that has not taken the lock yet cannot hold it against another.
            End::Zombie if !self.is_connected() => self.kill(),
            End::Zombie => self.haunt(),
        }
    }

    fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().ok_or_else(|| Error::new(ErrorKind::Internal, "no process runs"))?;
        child.kill()?;
        child.tidy();
        Ok(())
    }

    /// Sends a signal, after which the process must end well. If it was asked before, it may have stopped already: then the
    /// signal ends it as it ends any process.
    fn end_well(&mut self, signal: &str, was_asked: bool) -> Result<()> {
        let connected = self.is_connected();
        let mut child = self.child.take().ok_or_else(|| Error::new(ErrorKind::Internal, "no process runs"))?;
        child.signal(signal)?;
        let status = match child.wait(if connected { PATIENCE } else { SOON }) {
            // Who runs in the background of a shell ignores SIGINT, and so do its children until they ask for signals.
            Err(_) if !connected => {
                child.signal(signal)?;
                child.wait(PATIENCE)?
            }
            ended => ended?,
        };
        // A signal that comes before the program asks for signals ends it as the system does.
        if !status.success() && (connected && !was_asked || status.code().is_some()) {
            return Err(child.failed(&format!("asked to stop by SIG{signal}, it ended with {status}")));
        }
        child.tidy();
        Ok(())
    }

    /// Stops the process in its tracks, has another take its place, and wakes it.
    fn haunt(&mut self) -> Result<()> {
        let mut zombie = self.child.take().ok_or_else(|| Error::new(ErrorKind::Internal, "no process runs"))?;
        zombie.signal("STOP")?;
        // On the same directory nobody can take its place: the lock is held by the process, awake or not.
        self.run += 1;
        loop {
            let mut second = Child::start(&self.place, self.run, &self.checkpoint)?;
            let status = second.wait(PATIENCE)?;
            let said = second.said();
            if !status.success() && said.contains("database is locked") {
                // It was stopped inside of a transaction, and holds SQLite's lock too: then nobody can write for as
                // long as it sleeps, here or elsewhere. It goes on for a moment.
                second.tidy();
                zombie.signal("CONT")?;
                pause(millis(3));
                zombie.signal("STOP")?;
                continue;
            }
            if status.success() || !said.contains("is in use") {
                return Err(second.failed(&format!("on a directory that is in use, it ended with {status}")));
            }
            second.tidy();
            break;
        }
        let before =
            std::mem::replace(&mut self.checkpoint, self.place.folder.join(format!("checkpoint-{}", self.run)));
        copy(&before, &self.checkpoint)?;
        self.live_until(Until::Records(100), false)?;
        zombie.signal("CONT")?;
        let status = zombie.wait(PATIENCE)?;
        if status.success() || !zombie.said().contains("a later start of the program has taken over") {
            return Err(zombie.failed(&format!("woken when another has taken its place, it ended with {status}")));
        }
        zombie.tidy();
        fs::remove_dir_all(&before)?;
        Ok(())
    }
}

/// Copies a folder and all in it.
fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}
