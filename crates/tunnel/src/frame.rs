//! What is said inside of a connection before it carries what it is for: whom it is for, and what the answer is.

use millstream_core::{Error, ErrorKind, Result, codec};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What both sides must speak: said in the handshake, so that other versions are told apart before anything is read.
pub(crate) const PROTOCOL: &[u8] = b"millstream-tunnel/1";

/// The longest of these messages.
const MOST: usize = 1024;

/// What somebody wants who has proved that they know the secret.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Opening {
    /// Whom they want to reach: an address may have gone to another process of the same cluster.
    pub(crate) to: String,
    /// What of theirs.
    pub(crate) service: String,
}

/// What they are answered.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Answer {
    /// The connection is theirs.
    Yes,
    /// It leads nowhere, and why.
    No(String),
}

fn broken(error: std::io::Error) -> Error {
    Error::io(ErrorKind::Unavailable, "a connection between hosts broke", error)
}

pub(crate) async fn send<T: Serialize>(wire: &mut (impl AsyncWrite + Unpin), message: &T) -> Result<()> {
    let bytes = codec::encode(message)?;
    let length = u16::try_from(bytes.len()).ok().filter(|length| usize::from(*length) <= MOST).ok_or_else(|| {
        let text = format!("a name of {} bytes is too long for a tunnel", bytes.len());
        Error::new(ErrorKind::Config, text)
    })?;
    let message = [&length.to_le_bytes()[..], &bytes].concat();
    wire.write_all(&message).await.map_err(broken)?;
    wire.flush().await.map_err(broken)
}

pub(crate) async fn receive<T: DeserializeOwned>(wire: &mut (impl AsyncRead + Unpin)) -> Result<T> {
    let mut length = [0; 2];
    wire.read_exact(&mut length).await.map_err(broken)?;
    let length = usize::from(u16::from_le_bytes(length));
    if length > MOST {
        let text = format!("a message of {length} bytes came through a tunnel where at most {MOST} may");
        return Err(Error::new(ErrorKind::Data, text));
    }
    let mut bytes = vec![0; length];
    wire.read_exact(&mut bytes).await.map_err(broken)?;
    codec::decode(&bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn now<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn written<T: Serialize>(message: &T) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        now(send(&mut bytes, message)).map(|()| bytes)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]

        #[test]
        fn messages_come_back_and_cut_ones_are_told(to in ".{0,99}", service in "[a-z]{0,9}", cut in 0usize..400) {
            let opening = Opening { to, service };
            let bytes = written(&opening).unwrap();
            prop_assert_eq!(now(receive::<Opening>(&mut &bytes[..])).unwrap(), opening);
            if cut < bytes.len() {
                prop_assert!(now(receive::<Opening>(&mut &bytes[..cut])).is_err());
            }
        }

        #[test]
        fn no_bytes_make_it_panic_or_take_memory(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = now(receive::<Opening>(&mut &bytes[..]));
            let _ = now(receive::<Answer>(&mut &bytes[..]));
        }
    }

    #[test]
    fn what_is_too_long_is_neither_said_nor_heard() {
        let long = Opening { to: "x".repeat(MOST), service: String::new() };
        assert_eq!(written(&long).unwrap_err().kind(), ErrorKind::Config);
        let error = now(receive::<Opening>(&mut &[0xff, 0xff, 0, 0][..])).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
    }
}
