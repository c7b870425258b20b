//! The driver's side of the desk: a thread that lets people in, and one for each who is in.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::clock::monotonic;
use millstream_core::plan::away::written_error;
use millstream_core::threads::{self, OwnedThread, lock};
use millstream_core::{Error, ErrorKind, Result, panicked};

use super::frame::{self, LONG};
use super::{Answer, Hello, Join, Question, Report, Tell, Welcome};
use crate::direct::SMALL;
use crate::endings::TaskName;
use crate::secret::Secret;

/// How long somebody may take to say who they are.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long nobody is let in when the system lets nobody in.
const BREATH: Duration = Duration::from_millis(100);

/// How many may be about to say who they are. Others are turned away meanwhile.
const STRANGERS: usize = 64;

/// How long a report may be: a result with what stands around it, or endings of tasks.
const REPORT: usize = SMALL + 4096;

/// Who decides behind the desk.
pub(crate) trait DeskHost: Send + Sync + 'static {
    /// Says whether an executor may join.
    fn welcome(&self, join: &Join) -> Welcome;

    /// Takes note that an executor has been told that it may.
    fn joined(&self, id: &str, join: &Join, member: Member);

    /// Takes note that tasks have ended, as an executor says with a sign of life.
    fn ended(&self, id: &str, tasks: Vec<TaskName>);

    /// Takes the result that an attempt at a partition has brought to the job of this number.
    fn brought(&self, number: u64, partition: usize, attempt: u32, rows: Bytes);

    /// Takes note that an executor's connection has ended, and why.
    fn left(&self, id: &str, why: &str);

    /// Says whether an executor has joined and has not been given up.
    fn is_member(&self, id: &str) -> bool;

    /// Answers the question of an executor, who is one.
    ///
    /// # Errors
    ///
    /// Whatever the answer is.
    fn answer(&self, executor: &str, question: Question) -> Result<Option<Bytes>>;
}

/// An executor that has joined, to be told things. A thread of its own tells it, as one that reads nothing would hold up who
/// does.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    words: Sender<Word>,
    stream: Arc<TcpStream>,
}

/// What an executor is to be told, and whom that is to be said to when it has been.
type Word = (Tell, Option<Sender<()>>);

impl Member {
    fn new(number: u64, stream: TcpStream) -> Result<Member> {
        let (words, told) = mpsc::channel::<Word>();
        let stream = Arc::new(stream);
        let wire = Arc::clone(&stream);
        let telling = threads::spawn(format!("tell-{number}"), move || {
            for (tell, done) in told {
                if let Err(error) = frame::send(&mut &*wire, &tell) {
                    tracing::debug!(%error, "an executor could not be told {tell:?}");
                    // A part of it may have been: nothing that came behind would be understood.
                    let _ = wire.shutdown(Shutdown::Both);
                    return;
                }
                let _ = done.map(|done| done.send(()));
            }
        })?;
        telling.detach();
        Ok(Member { words, stream })
    }

    /// Tells an executor something, and does not wait until it is. If it cannot be told, it is about to be found gone.
    pub(crate) fn tell(&self, tell: Tell) {
        let _ = self.words.send((tell, None));
    }

    /// Tells an executor something, and waits until that is on its way. Returns whether it is.
    pub(crate) fn hand(&self, tell: Tell) -> bool {
        let (done, is_done) = mpsc::channel();
        self.words.send((tell, Some(done))).is_ok() && is_done.recv().is_ok()
    }

    /// Closes the connection: the executor ends, as soon as it runs.
    pub(crate) fn dismiss(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// An open desk. It is closed when it is dropped.
pub(crate) struct Desk {
    address: SocketAddr,
    inside: Arc<Inside>,
    door: Option<OwnedThread>,
}

struct Inside {
    secret: Secret,
    host: Arc<dyn DeskHost>,
    closed: AtomicBool,
    strangers: AtomicUsize,
    next: AtomicU64,
    /// All connections, to be closed with the desk.
    open: Mutex<BTreeMap<u64, TcpStream>>,
}

impl Desk {
    /// Opens a desk at an address; port 0 is any that is free.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the address is taken, or not this machine's.
    pub(crate) fn open(bind: SocketAddr, secret: Secret, host: Arc<dyn DeskHost>) -> Result<Desk> {
        let not_here = |error| {
            let doing = format!("the driver cannot listen for executors at {bind}; choose another port or address");
            Error::io(ErrorKind::Config, doing, error)
        };
        let listener = TcpListener::bind(bind).map_err(not_here)?;
        let address = listener.local_addr().map_err(not_here)?;
        let inside = Arc::new(Inside {
            secret,
            host,
            closed: AtomicBool::new(false),
            strangers: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            open: Mutex::default(),
        });
        let within = Arc::clone(&inside);
        let door = threads::spawn("desk", move || within.let_in(&listener))?;
        Ok(Desk { address, inside, door: Some(door) })
    }

    /// Returns where the desk is.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.inside.closed.store(true, Ordering::Release);
        // Somebody must come for the door's thread to look up.
        let mut here = self.address;
        if here.ip().is_unspecified() {
            here.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let _ = TcpStream::connect_timeout(&here, PATIENCE);
        drop(self.door.take());
        for stream in lock(&self.inside.open).values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// What somebody has to say within one time, however slowly it trickles.
struct Hurried<'a> {
    stream: &'a TcpStream,
    until: Duration,
}

impl Hurried<'_> {
    fn left(&self) -> std::io::Result<Option<Duration>> {
        let left = self.until.saturating_sub(monotonic());
        if left.is_zero() { Err(std::io::ErrorKind::TimedOut.into()) } else { Ok(Some(left)) }
    }
}

impl Read for Hurried<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.stream.set_read_timeout(self.left()?)?;
        self.stream.read(into)
    }
}

impl Write for Hurried<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.stream.set_write_timeout(self.left()?)?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.stream.flush()
    }
}

/// Closes a connection when nobody attends to it any more, whatever was the end of that.
struct Leaves<'a> {
    inside: &'a Inside,
    number: u64,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        let left = lock(&self.inside.open).remove(&self.number);
        // The one that is kept here would hold it open.
        let _ = left.map(|stream| stream.shutdown(Shutdown::Both));
    }
}

/// Counts a stranger for as long as it lives.
struct Stranger<'a>(&'a AtomicUsize);

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Inside {
    fn let_in(self: Arc<Self>, listener: &TcpListener) {
        for stream in listener.incoming() {
            if self.closed.load(Ordering::Acquire) {
                return;
            }
            let Ok(stream) = stream else {
                // No more files may be open just now, and asking again at once would not help.
                std::thread::park_timeout(BREATH);
                continue;
            };
            if self.strangers.load(Ordering::Relaxed) >= STRANGERS {
                continue;
            }
            self.strangers.fetch_add(1, Ordering::Relaxed);
            let inside = Arc::clone(&self);
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            match threads::spawn(format!("desk-{number}"), move || inside.attend(number, stream)) {
                Ok(thread) => thread.detach(),
                Err(error) => {
                    self.strangers.fetch_sub(1, Ordering::Relaxed);
                    tracing::warn!(%error, "an executor was turned away");
                }
            }
        }
    }

    fn attend(&self, number: u64, stream: TcpStream) {
        let _leaves = Leaves { inside: self, number };
        let from = stream.peer_addr().map_or_else(|_| "somebody".to_owned(), |address| address.to_string());
        if let Err(error) = self.serve(number, stream) {
            tracing::debug!(%error, "the connection from {from} has ended");
        }
    }

    fn serve(&self, number: u64, stream: TcpStream) -> Result<()> {
        let stranger = Stranger(&self.strangers);
        let stream = frame::prepared(stream)?;
        lock(&self.open).insert(number, stream.try_clone()?);
        let mut hurried = Hurried { stream: &stream, until: monotonic() + PATIENCE };
        let hello: Hello = frame::answer(&mut hurried, &self.secret)?;
        drop(stranger);
        stream.set_read_timeout(None)?;
        stream.set_write_timeout(None)?;
        match hello {
            Hello::Join(join) => self.member(number, stream, &join),
            Hello::Ask(executor) => self.questions(stream, &executor),
        }
    }

    fn member(&self, number: u64, mut stream: TcpStream, join: &Join) -> Result<()> {
        let welcome = self.host.welcome(join);
        let told = frame::send(&mut stream, &welcome);
        let Welcome::Yes { id, silence, .. } = welcome else { return told };
        told.inspect_err(|_| self.host.left(&id, "it went before it was let in"))?;
        stream.set_read_timeout(Some(silence))?;
        // Who does not read is not waited for.
        stream.set_write_timeout(Some(silence))?;
        let member = stream.try_clone().map_err(Error::from).and_then(|stream| Member::new(number, stream));
        let member = member.inspect_err(|_| self.host.left(&id, "the driver has no thread or file for it"))?;
        self.host.joined(&id, join, member.clone());
        // It gives signs of life, and brings results; the connection ends with it.
        let ended = loop {
            match frame::receive::<Report>(&mut stream, REPORT) {
                Ok(Some(Report::Result { number, partition, attempt, rows })) => {
                    self.host.brought(number, partition, attempt, rows);
                }
                Ok(Some(Report::Alive(ended))) => {
                    self.host.ended(&id, ended);
                    member.tell(Tell::Heard);
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        let why = match &ended {
            Err(error) if frame::is_silence(error) => format!("it has given no sign of life for {silence:?}"),
            _ => "its connection to the driver has ended".to_owned(),
        };
        self.host.left(&id, &why);
        member.dismiss();
        ended
    }

    fn questions(&self, mut stream: TcpStream, executor: &str) -> Result<()> {
        while let Some(question) = frame::receive::<Question>(&mut stream, LONG)? {
            let answer = match self.host.is_member(executor) {
                // Values of the program may be written: who asked must hear of it if that panics.
                true => catch_unwind(AssertUnwindSafe(|| self.host.answer(executor, question)))
                    .unwrap_or_else(|panic| Err(panicked(&*panic))),
                // Its tasks run elsewhere: what it still does is not to be seen.
                false => Err(Error::new(ErrorKind::Stopped, format!("{executor} was given up by its driver"))),
            };
            let answer: Answer = match answer {
                Ok(answer) => Ok(answer),
                Err(error) => Err(written_error(&error)?),
            };
            frame::send(&mut stream, &answer)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_trickles_has_one_time_for_all_of_it() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stranger = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        stranger.write_all(b"abc").unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut hurried = Hurried { stream: &stream, until: monotonic() + Duration::from_secs(60) };
        let mut one = [0];
        hurried.read_exact(&mut one).unwrap();
        hurried.until = monotonic();
        let late = [hurried.read(&mut one).unwrap_err(), hurried.write(b"x").unwrap_err()];
        assert!(
            late.iter().all(|error| error.kind() == std::io::ErrorKind::TimedOut),
            "there is more to read: {late:?}"
        );
    }
}
