//! Sockets: lines of text, blocks in our own encoding, and whatever a closure makes of a connection.
//!
//! The only file of this crate that knows the network.

use std::io::{ErrorKind as IoKind, Read};
use std::marker::PhantomData;
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::time::Duration;

use millstream_core::codec;
use millstream_core::plan::ship::Closure;
use millstream_core::{CallSite, Error, ErrorKind, ExchangeData, Result, Text, TextBlock, secs};
use serde::{Deserialize, Serialize};

use crate::context::StreamingContext;
use crate::dstream::DStream;
use crate::receiver::{Receiver, ReceiverSource, Store, Travelling, arrived};

/// How long a connection may take to be made.
const CONNECT: Duration = secs(5);

/// How much is read from a connection at a time.
const READ: usize = 1 << 18;

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Peer {
    host: String,
    port: u16,
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl Peer {
    fn failed(&self, doing: &str, error: std::io::Error) -> Error {
        Error::io(ErrorKind::Unavailable, format!("{doing} {self}"), error)
    }

    fn ended(&self) -> Error {
        Error::new(ErrorKind::Unavailable, format!("socket data stream had no more data: {self} closed it"))
    }

    /// Connects, and has the connection closed when it is time to go.
    fn connect<T>(&self, store: &mut dyn Store<T>) -> Result<TcpStream> {
        let addresses = (self.host.as_str(), self.port)
            .to_socket_addrs()
            .map_err(|e| self.failed("error connecting to unknown host", e))?;
        let mut last = std::io::Error::new(IoKind::NotFound, "the host has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, CONNECT) {
                // Where nobody listens on a port of our own machine, the kernel may take that very port for our side,
                // and the connection is one with ourselves, which stays silent for ever.
                Ok(stream) if stream.local_addr().is_ok_and(|own| own == address) => {
                    last = std::io::Error::new(IoKind::ConnectionRefused, "nobody listens there");
                }
                Ok(stream) => {
                    let other = stream.try_clone().map_err(|e| self.failed("error connecting to", e))?;
                    store.on_stop(Box::new(move || {
                        let _ = other.shutdown(Shutdown::Both);
                    }));
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(self.failed("error connecting to", last))
    }
}

/// Receives lines of text. Made by [`StreamingContext::socket_text_stream`].
#[derive(Debug, Serialize, Deserialize)]
pub struct LineSocket {
    peer: Peer,
}

impl LineSocket {
    /// Receives lines from `host`:`port`.
    pub fn new(host: impl Into<String>, port: u16) -> LineSocket {
        LineSocket { peer: Peer { host: host.into(), port } }
    }
}

impl Receiver for LineSocket {
    type Item = Text;

    fn travels(&self) -> Option<Travelling> {
        Some(Travelling::of(self))
    }

    fn receive(&mut self, store: &mut dyn Store<Text>) -> Result<()> {
        let mut stream = self.peer.connect(store)?;
        let most = store.max_record();
        let mut pending: Vec<u8> = Vec::new();
        loop {
            let searched = pending.len();
            pending.resize(searched + READ, 0);
            let got = match stream.read(&mut pending[searched..]) {
                Ok(got) => got,
                Err(error) if error.kind() == IoKind::Interrupted => {
                    pending.truncate(searched);
                    continue;
                }
                Err(error) => {
                    pending.truncate(searched);
                    store_lines(store, pending)?;
                    return Err(self.peer.failed("error receiving data from", error));
                }
            };
            pending.truncate(searched + got);
            if got == 0 {
                // A last line without an end is a line too (S-77).
                store_lines(store, pending)?;
                return Err(self.peer.ended());
            }
            let whole = whole_lines(&pending, searched);
            let taken = short_lines(&pending[..whole], most);
            let refused = taken < whole || pending.len() - whole > most;
            if taken > 0 {
                let rest = pending[taken..].to_vec();
                pending.truncate(taken);
                store_lines(store, std::mem::replace(&mut pending, rest))?;
            }
            if refused {
                return Err(Error::new(
                    ErrorKind::Data,
                    format!(
                        "a line from {} is longer than max_record, {most} bytes; the connection is given up",
                        self.peer
                    ),
                ));
            }
        }
    }
}

/// Returns how many bytes are whole lines, of which nothing before `searched` can end one but a last `\r`. Pure.
///
/// A `\r` at the very end is not the end of a line yet: a `\n` may follow.
fn whole_lines(bytes: &[u8], searched: usize) -> usize {
    let from = searched.saturating_sub(1);
    let body = bytes.len().saturating_sub(usize::from(bytes.ends_with(b"\r")));
    let end = bytes[from.min(body)..body].iter().rposition(|b| *b == b'\n' || *b == b'\r');
    end.map_or(0, |end| from + end + 1)
}

/// Returns how many bytes of these whole lines stand before the first line that is longer than `most`. Pure.
fn short_lines(lines: &[u8], most: usize) -> usize {
    if lines.len() <= most {
        return lines.len();
    }
    let mut begin = 0;
    for (at, byte) in lines.iter().enumerate() {
        if matches!(byte, b'\n' | b'\r') {
            if at - begin > most {
                return begin;
            }
            begin = at + 1;
        }
    }
    lines.len()
}

fn store_lines(store: &mut dyn Store<Text>, bytes: Vec<u8>) -> Result<()> {
    if bytes.is_empty() {
        return Ok(());
    }
    store.store_many(TextBlock::from_bytes(bytes).lines().collect())
}

/// Receives what a closure makes of a connection. Made by [`StreamingContext::socket_stream`].
pub struct SocketReceiver<T, F> {
    peer: Peer,
    convert: Closure<F>,
    item: PhantomData<fn() -> T>,
}

impl<T, F> std::fmt::Debug for SocketReceiver<T, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SocketReceiver({})", self.peer)
    }
}

impl<T, I, F> Receiver for SocketReceiver<T, F>
where
    T: ExchangeData,
    I: Iterator<Item = T>,
    F: Fn(TcpStream) -> I + Send + Sync + 'static,
{
    type Item = T;

    fn travels(&self) -> Option<Travelling> {
        let (peer, convert) = (self.peer.clone(), self.convert.clone());
        Some(Travelling::written(move |w| {
            w.code(|r| {
                let (peer, convert) = (r.value()?, r.closure::<F>()?);
                arrived(SocketReceiver { peer, convert, item: PhantomData::<fn() -> T> })
            });
            w.value(&peer)?;
            w.closure(&convert)
        }))
    }

    fn receive(&mut self, store: &mut dyn Store<T>) -> Result<()> {
        let stream = self.peer.connect(store)?;
        for item in (*self.convert)(stream) {
            store.store(item)?;
        }
        Err(self.peer.ended())
    }
}

/// Receives blocks in our own encoding, each behind its length. Made by [`StreamingContext::raw_socket_stream`].
#[derive(Serialize, Deserialize)]
#[serde(bound = "")]
pub struct BlockSocket<T> {
    peer: Peer,
    item: PhantomData<fn() -> T>,
}

impl<T> std::fmt::Debug for BlockSocket<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlockSocket({})", self.peer)
    }
}

impl<T: ExchangeData> Receiver for BlockSocket<T> {
    type Item = T;

    fn travels(&self) -> Option<Travelling> {
        Some(Travelling::of(self))
    }

    fn receive(&mut self, store: &mut dyn Store<T>) -> Result<()> {
        let mut stream = self.peer.connect(store)?;
        let most = store.max_record();
        while let Some(items) = read_block(&mut stream, most, &self.peer)? {
            store.store_block(items, Box::new(|| {}))?;
        }
        Err(self.peer.ended())
    }
}

/// Reads a block of at most `most` bytes; nothing if it ends before one.
fn read_block<T: ExchangeData>(stream: &mut impl Read, most: usize, peer: &Peer) -> Result<Option<Vec<T>>> {
    let mut length = [0; 4];
    match stream.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == IoKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(peer.failed("error receiving data from", error)),
    }
    let length = u32::from_be_bytes(length) as usize;
    if length > most {
        let text = format!("a block of {length} bytes from {peer} is longer than max_record, {most} bytes");
        return Err(Error::new(ErrorKind::Data, text));
    }
    // Only as much is set aside as arrives: the length may be a lie.
    let mut bytes = Vec::new();
    let got = stream.take(length as u64).read_to_end(&mut bytes);
    if got.map_err(|e| peer.failed("error receiving data from", e))? < length {
        let text = format!("{peer} closed the connection in the middle of a block");
        return Err(Error::new(ErrorKind::Unavailable, text));
    }
    let items = codec::decode_list(&bytes);
    let told = |e| Error::new(ErrorKind::Data, format!("a block from {peer} is not what was expected: {e}"));
    items.map(Some).map_err(told)
}

/// Reads the blocks that somebody sends.
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) fn blocks_of<T: ExchangeData>(mut bytes: &[u8], most: usize) -> Result<Vec<Vec<T>>> {
    let peer = Peer { host: "memory".into(), port: 0 };
    let mut blocks = Vec::new();
    while let Some(block) = read_block(&mut bytes, most, &peer)? {
        blocks.push(block);
    }
    Ok(blocks)
}

impl StreamingContext {
    /// Makes a stream of the lines that `host`:`port` sends.
    ///
    /// Lines end with `\n`, `\r` or `\r\n`; bytes that are not UTF-8 become U+FFFD. A [`Text`] is a cheap slice of what
    /// was received. While nobody answers, or when the connection ends, it is made again after
    /// [`receiver_restart_delay`](crate::StreamingConf::receiver_restart_delay), for ever; listeners are told why. A
    /// line longer than [`max_record`](crate::StreamingConf::max_record) is refused with the connection.
    ///
    /// # Spark
    ///
    /// `StreamingContext.socketTextStream`, SC10.
    #[track_caller]
    pub fn socket_text_stream(&self, host: impl Into<String>, port: u16) -> DStream<Text> {
        let source = ReceiverSource::new(LineSocket::new(host, port));
        self.input_at(source, CallSite::here("socket_text_stream"))
    }

    /// Makes a stream of what `convert` makes of a connection to `host`:`port`.
    ///
    /// The end of `convert`'s iterator is the end of the connection, which is made again after a while. On a cluster it runs on an executor:
    /// what it captures is said with [`capture`](millstream_core::capture), or `start()` refuses it with its line.
    ///
    /// # Spark
    ///
    /// `StreamingContext.socketStream`, SC11.
    #[track_caller]
    pub fn socket_stream<T, I>(
        &self,
        host: impl Into<String>,
        port: u16,
        convert: impl Fn(TcpStream) -> I + Send + Sync + 'static,
    ) -> DStream<T>
    where
        T: ExchangeData,
        I: Iterator<Item = T> + 'static,
    {
        let (peer, site) = (Peer { host: host.into(), port }, CallSite::here("socket_stream"));
        let convert = Closure::new(convert, site);
        let source = ReceiverSource::new(SocketReceiver { peer, convert, item: PhantomData::<fn() -> T> });
        self.input_at(source, site)
    }

    /// Makes a stream of the blocks that `host`:`port` sends: each a length of four bytes, most significant first, and
    /// so many bytes, a `Vec<T>` as [`codec::encode`] writes it.
    ///
    /// # Spark
    ///
    /// `StreamingContext.rawSocketStream`, SC12, S-75; a block is read as it arrives, so that one that is wrong is
    /// refused with its sender's name.
    #[track_caller]
    pub fn raw_socket_stream<T: ExchangeData>(&self, host: impl Into<String>, port: u16) -> DStream<T> {
        let peer = Peer { host: host.into(), port };
        let source = ReceiverSource::new(BlockSocket { peer, item: PhantomData::<fn() -> T> });
        self.input_at(source, CallSite::here("raw_socket_stream"))
    }

    /// Makes a stream of what a receiver of the program's own receives.
    ///
    /// On a cluster it runs on an executor if it says [how it travels](Receiver::travels), beside the tasks there, and moves if that is lost; else on
    /// the driver.
    ///
    /// # Spark
    ///
    /// `StreamingContext.receiverStream`, SC09.
    #[track_caller]
    pub fn receiver_stream<R: Receiver>(&self, receiver: R) -> DStream<R::Item> {
        self.input_at(ReceiverSource::new(receiver), CallSite::here("receiver_stream"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_before_one_that_is_too_long_are_taken() {
        for (lines, most, want) in [
            (&b"ab\ncd\n"[..], 2, 6),
            (b"ab\r\ncde\r\n", 2, 4),
            (b"abc\nd\n", 2, 0),
            (b"a\nb\nabc\nd\n", 2, 4),
            (b"", 0, 0),
        ] {
            assert_eq!(short_lines(lines, most), want, "{:?}", String::from_utf8_lossy(lines));
        }
    }

    #[test]
    fn s77_a_line_is_whole_when_its_end_is_certain() {
        for (bytes, searched, want) in [
            (&b"ab"[..], 0, 0),
            (b"ab\ncd", 0, 3),
            (b"ab\ncd\n", 0, 6),
            (b"ab\r", 0, 0),
            (b"ab\r\n", 2, 4),
            (b"ab\rc", 3, 3),
            (b"ab\r\ncd\r", 0, 4),
            (b"\n", 0, 1),
            (b"", 0, 0),
        ] {
            assert_eq!(whole_lines(bytes, searched), want, "{:?}", String::from_utf8_lossy(bytes));
        }
    }
}
