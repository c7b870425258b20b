//! Messages on a connection: a length, and so many bytes. And how both sides prove who they are.

use std::io::{ErrorKind as IoKind, Read, Write};
use std::net::TcpStream;

use millstream_core::{Error, ErrorKind, Result, codec};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::secret::{SEAL, Secret, random};

/// How long a message of a stranger may be.
const SHORT: usize = 4096;

/// How long any other may be.
pub(crate) const LONG: usize = 1 << 31;

const MAGIC: &[u8; 16] = b"millstream desk1";

/// One side of a connection.
pub(crate) trait Wire: Read + Write {}
impl<T: Read + Write> Wire for T {}

fn broken(error: std::io::Error) -> Error {
    Error::io(ErrorKind::Unavailable, "the connection between driver and executor broke", error)
}

/// Says whether a connection broke only because nothing came for too long.
pub(crate) fn is_silence(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    cause.is_some_and(|cause| matches!(cause.kind(), IoKind::WouldBlock | IoKind::TimedOut))
}

/// Writes a message.
pub(crate) fn send<T: Serialize + ?Sized>(wire: &mut impl Wire, message: &T) -> Result<()> {
    let bytes = codec::encode(message)?;
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length as usize <= LONG).ok_or_else(|| {
        let text = format!("a message of {} bytes between driver and executor is longer than {LONG}", bytes.len());
        Error::new(ErrorKind::Data, text)
    })?;
    let mut message = Vec::with_capacity(bytes.len() + 4);
    message.extend_from_slice(&length.to_le_bytes());
    message.extend_from_slice(&bytes);
    wire.write_all(&message).and_then(|()| wire.flush()).map_err(broken)
}

/// Reads a message of at most `most` bytes; nothing if the other side has closed.
pub(crate) fn receive<T: DeserializeOwned>(wire: &mut impl Wire, most: usize) -> Result<Option<T>> {
    let mut length = [0; 4];
    match wire.read_exact(&mut length) {
        Ok(()) => {}
        Err(error) if error.kind() == IoKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(broken(error)),
    }
    let length = u32::from_le_bytes(length) as usize;
    if length > most {
        let text = format!("a message of {length} bytes came where at most {most} may");
        return Err(Error::new(ErrorKind::Data, text));
    }
    // Memory is taken as bytes come, and not because somebody says so.
    let mut bytes = Vec::new();
    wire.take(length as u64).read_to_end(&mut bytes).map_err(broken)?;
    if bytes.len() < length {
        return Err(Error::new(ErrorKind::Data, "a message between driver and executor was cut off"));
    }
    codec::decode(&bytes).map(Some)
}

/// Reads a message that must come.
pub(crate) fn expect<T: DeserializeOwned>(wire: &mut impl Wire, most: usize) -> Result<T> {
    receive(wire, most)?.ok_or_else(|| {
        Error::new(ErrorKind::Unavailable, "the other side closed the connection between driver and executor")
    })
}

/// What stands under the seal of whoever begins, and of whoever answers.
const OPENS: &[u8] = b"opens";
const ANSWERS: &[u8] = b"answers";

/// Proves to the driver that this side knows the secret, and has the driver prove the same. `hello` is under the seal.
///
/// # Errors
///
/// The kind is `Config` if the other side does not know the secret, or is none of ours.
pub(crate) fn open<T: Serialize>(wire: &mut impl Wire, secret: &Secret, hello: &T) -> Result<()> {
    let theirs: Vec<u8> = expect(wire, SHORT)?;
    let Some(theirs) = theirs.strip_prefix(MAGIC) else {
        return Err(Error::new(ErrorKind::Config, "what listens there is no driver of millstream"));
    };
    let (ours, hello) = (random::<SEAL>()?, codec::encode(hello)?);
    let seal = secret.seal(&[OPENS, theirs, &ours, &hello])?;
    send(wire, &(ours.to_vec(), seal.to_vec(), &hello))?;
    let answer: Option<Vec<u8>> = receive(wire, SHORT)?;
    match answer {
        Some(answer) if secret.holds(&answer, &[ANSWERS, &ours, theirs]) => Ok(()),
        _ => {
            let text = "the driver refused this executor, or is not who it should be: their secrets differ";
            Err(Error::new(ErrorKind::Config, text))
        }
    }
}

/// The driver's side of [`open`]. Returns what the other side says it wants.
///
/// # Errors
///
/// The kind is `Data`: it does not know the secret, or says something else.
pub(crate) fn answer<T: DeserializeOwned>(wire: &mut impl Wire, secret: &Secret) -> Result<T> {
    let ours = random::<SEAL>()?;
    send(wire, &[&MAGIC[..], &ours[..]].concat())?;
    let (theirs, seal, hello): (Vec<u8>, Vec<u8>, Vec<u8>) = expect(wire, SHORT)?;
    if !secret.holds(&seal, &[OPENS, &ours, &theirs, &hello]) {
        return Err(Error::new(ErrorKind::Data, "somebody came who does not know the cluster's secret"));
    }
    send(wire, &secret.seal(&[ANSWERS, &theirs, &ours])?.to_vec())?;
    codec::decode(&hello)
}

/// Prepares a connection: small messages go at once.
pub(crate) fn prepared(stream: TcpStream) -> Result<TcpStream> {
    stream.set_nodelay(true).map_err(broken)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    /// Reads from one place and writes to another.
    struct Both {
        from: Cursor<Vec<u8>>,
        to: Vec<u8>,
    }

    impl Read for Both {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            self.from.read(into)
        }
    }

    impl Write for Both {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.to.write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn reading(bytes: Vec<u8>) -> Both {
        Both { from: Cursor::new(bytes), to: Vec::new() }
    }

    fn written<T: Serialize>(message: &T) -> Vec<u8> {
        let mut wire = reading(Vec::new());
        send(&mut wire, message).unwrap();
        wire.to
    }

    #[test]
    fn messages_come_back_and_what_is_cut_or_too_long_is_told() {
        let bytes = written(&("hello".to_owned(), 7u32));
        let back: Option<(String, u32)> = receive(&mut reading(bytes.clone()), SHORT).unwrap();
        assert_eq!(back, Some(("hello".to_owned(), 7)));
        assert_eq!(receive::<u8>(&mut reading(Vec::new()), SHORT).unwrap(), None);
        for cut in 4..bytes.len() {
            assert!(receive::<(String, u32)>(&mut reading(bytes[..cut].to_vec()), SHORT).is_err(), "{cut}");
        }
        let lie = reading(u32::MAX.to_le_bytes().to_vec());
        let error = receive::<u8>(&mut { lie }, SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
    }

    #[test]
    fn garbage_and_what_was_overheard_are_refused() {
        let secret = Secret::fresh().unwrap();
        for garbage in [vec![], b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 64]] {
            assert!(answer::<u8>(&mut reading(garbage), &secret).is_err());
        }
        // Somebody says again what an executor has said to another number.
        let hello = codec::encode(&1u8).unwrap();
        let seal = secret.seal(&[OPENS, b"another number", b"n", &hello]).unwrap();
        let said = written(&(b"n".to_vec(), seal.to_vec(), hello));
        assert_eq!(answer::<u8>(&mut reading(said), &secret).unwrap_err().kind(), ErrorKind::Data);
    }
}
