//! The executors' side of the desk.

use std::fmt;
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use millstream_core::checkpoint::CheckpointStore;
use millstream_core::plan::away::{DriverBlocks, read_error};
use millstream_core::storage::{BlockId, StorageLevel};
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, codec};

use super::frame::{self, LONG};
use super::{Answer, Hello, Join, Question, Report, Tell, Welcome, What};
use crate::endings::TaskName;
use crate::hosts::Outside;
use crate::secret::Secret;

/// How long the driver's machine may take to answer that it is there.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the driver may take to answer a question: it may have to write a large file to a slow store. That it is gone is found
/// much sooner, where it answers signs of life.
const ANSWER: Duration = Duration::from_secs(300);

/// Where the driver's desk is, and connections that are free to ask.
pub(crate) struct DeskClient {
    address: SocketAddr,
    secret: Secret,
    /// What the driver calls this executor, when it has joined.
    name: OnceLock<String>,
    /// How long an answer may take.
    answer: Duration,
    idle: Mutex<Vec<TcpStream>>,
}

impl fmt::Debug for DeskClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the driver's desk at {}", self.address)
    }
}

/// The connection of an executor that has joined.
pub(crate) struct Joined(TcpStream);

/// Where an executor says what it is not asked for.
pub(crate) struct Reports(Mutex<Result<TcpStream>>);

impl Reports {
    /// Gives a sign of life, and says which tasks have ended since the last.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the driver is gone.
    pub(crate) fn alive(&self, ended: Vec<TaskName>) -> Result<()> {
        self.say(&Report::Alive(ended))
    }

    /// Brings a result to the job of this number.
    ///
    /// # Errors
    ///
    /// As [`alive`](Self::alive).
    pub(crate) fn bring(&self, number: u64, partition: usize, attempt: u32, rows: Bytes) -> Result<()> {
        self.say(&Report::Result { number, partition, attempt, rows })
    }

    fn say(&self, report: &Report) -> Result<()> {
        match &mut *lock(&self.0) {
            Ok(stream) => frame::send(stream, report),
            Err(error) => Err(error.clone()),
        }
    }
}

impl Joined {
    /// Returns where to report. There is to be one: what two say at once would not be understood.
    pub(crate) fn reports(&self) -> Reports {
        Reports(Mutex::new(self.0.try_clone().map_err(Error::from)))
    }

    /// Takes a driver that says nothing for so long, not even that a sign was heard, for gone.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the connection is broken.
    pub(crate) fn expect_answers_within(&self, patience: Duration) -> Result<()> {
        Ok(self.0.set_read_timeout(Some(patience))?)
    }

    /// Waits for what the driver tells; nothing when the driver is gone.
    pub(crate) fn told(&mut self) -> Option<Tell> {
        frame::receive(&mut self.0, LONG).ok().flatten()
    }
}

impl DeskClient {
    pub(crate) fn new(address: SocketAddr, secret: Secret) -> DeskClient {
        DeskClient { address, secret, name: OnceLock::new(), answer: ANSWER, idle: Mutex::default() }
    }

    /// Waits for answers no longer than that.
    #[cfg(test)]
    pub(crate) fn waiting(self, answer: Duration) -> DeskClient {
        DeskClient { answer, ..self }
    }

    /// Takes note of what the driver calls this executor: its questions are asked in that name.
    pub(crate) fn become_member(&self, name: &str) {
        let _ = self.name.set(name.to_owned());
    }

    fn connect(&self, hello: &Hello) -> Result<TcpStream> {
        let stream = TcpStream::connect_timeout(&self.address, PATIENCE).map_err(|error| {
            Error::io(ErrorKind::Unavailable, format!("no driver answers at {}", self.address), error)
        })?;
        let mut stream = frame::prepared(stream)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        frame::open(&mut stream, &self.secret, hello)?;
        stream.set_read_timeout(None)?;
        Ok(stream)
    }

    /// Joins the driver.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable` if nobody answers, `Config` if the secrets differ or the driver refuses, with its reason.
    pub(crate) fn join(&self, join: Join) -> Result<(Welcome, Joined)> {
        let mut stream = self.connect(&Hello::Join(join))?;
        match frame::expect(&mut stream, LONG)? {
            Welcome::No(why) => Err(Error::new(ErrorKind::Config, why)),
            welcome @ Welcome::Yes { .. } => Ok((welcome, Joined(stream))),
        }
    }

    /// Asks how another executor is reached, by the port by which the driver knows it.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: it is gone, or the driver does not answer.
    pub(crate) fn peer(&self, port: u16) -> Result<Outside> {
        let known = self.ask(&Question { engine: 0, what: What::Peer(port) })?;
        let gone = || Error::new(ErrorKind::Unavailable, "an executor whose results are needed is gone");
        codec::decode(&known.ok_or_else(gone)?)
    }

    /// Asks to be sent home.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: the driver does not answer; `Stopped`: it has given this executor up.
    pub(crate) fn leave(&self) -> Result<()> {
        self.ask(&Question { engine: 0, what: What::Leave }).map(|_| ())
    }

    /// Asks the driver.
    ///
    /// # Errors
    ///
    /// What the driver answers; `Unavailable` if it does not.
    pub(crate) fn ask(&self, question: &Question) -> Result<Option<Bytes>> {
        let idle = lock(&self.idle).pop();
        let mut stream = match idle {
            Some(stream) => stream,
            None => self.connect(&Hello::Ask(self.name.get().cloned().unwrap_or_default()))?,
        };
        stream.set_read_timeout(Some(self.answer))?;
        stream.set_write_timeout(Some(self.answer))?;
        let asked = frame::send(&mut stream, question).and_then(|()| frame::expect(&mut stream, LONG));
        let answer: Answer = asked.map_err(|error| match frame::is_silence(&error) {
            true => {
                let text = format!("the driver at {} has not answered for {:?}", self.address, self.answer);
                Error::new(ErrorKind::Unavailable, text)
            }
            false => error,
        })?;
        lock(&self.idle).push(stream);
        answer.map_err(|error| read_error(&error).unwrap_or_else(|unreadable| unreadable))
    }
}

/// What one engine of the driver keeps, asked for by its tasks here.
#[derive(Clone, Debug)]
pub(crate) struct AtDriver {
    desk: Arc<DeskClient>,
    engine: u64,
}

impl AtDriver {
    pub(crate) fn new(desk: Arc<DeskClient>, engine: u64) -> AtDriver {
        AtDriver { desk, engine }
    }

    fn ask(&self, what: What) -> Result<Option<Bytes>> {
        self.desk.ask(&Question { engine: self.engine, what })
    }

    fn read_of(&self, what: What, name: &str) -> Result<Bytes> {
        self.ask(what)?.ok_or_else(|| millstream_core::bug!("the driver answers nothing about checkpoint {name}"))
    }
}

impl DriverBlocks for AtDriver {
    fn block(&self, id: BlockId) -> Result<Option<Bytes>> {
        self.ask(What::Block(id))
    }

    fn copy(&self, id: BlockId, level: StorageLevel, items: Option<usize>, bytes: Bytes) -> Result<()> {
        self.ask(What::Copy(id, level, items, bytes)).map(|_| ())
    }

    fn may_publish(&self) -> Result<()> {
        self.ask(What::Publish).map(|_| ())
    }
}

/// The checkpoints' store of the driver, wherever that is: executors need not reach it.
impl CheckpointStore for AtDriver {
    fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.ask(What::Write(name.to_owned(), Bytes::copy_from_slice(bytes))).map(|_| ())
    }

    fn read(&self, name: &str) -> Result<Bytes> {
        self.read_of(What::Read(name.to_owned()), name)
    }

    fn read_at(&self, name: &str, offset: u64, len: usize) -> Result<Bytes> {
        self.read_of(What::ReadAt(name.to_owned(), offset, len), name)
    }

    fn remove_folder(&self, folder: &str) -> Result<()> {
        self.ask(What::RemoveFolder(folder.to_owned())).map(|_| ())
    }
}
