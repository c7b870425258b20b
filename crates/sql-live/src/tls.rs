//! TLS: the certificate of a program, and what a connection begins with.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use millstream_core::{Error, ErrorKind, Result};
use ring::digest::{self, Algorithm};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring as provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::server::TlsStream;

/// What a client says that speaks TLS from the first byte.
const PROTOCOL: &[u8] = b"postgresql";
/// The first byte of such a client.
const HANDSHAKE: u8 = 0x16;

/// A program's certificate.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    /// What a client may bind its password to: see [`end_point`].
    pub(crate) binding: Option<Arc<[u8]>>,
}

impl Tls {
    /// Reads a certificate and its key.
    pub(crate) fn new(certificate: &Path, key: &Path) -> Result<Tls> {
        let wrong = |path: &Path, why: String| {
            Error::new(ErrorKind::Config, format!("{} is of no use for TLS: {why}; PEM is wanted", path.display()))
        };
        let certificates = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<std::result::Result<Vec<_>, _>>)
            .map_err(|e| wrong(certificate, e.to_string()))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, e.to_string()))?;
        let binding = certificates.first().and_then(|certificate| end_point(certificate)).map(Arc::from);
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(certificates, private))
            .map_err(|e| wrong(certificate, e.to_string()))?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), binding })
    }
}

/// A connection, as it is spoken on.
pub(crate) enum Way {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Way {
    pub(crate) fn is_secure(&self) -> bool {
        matches!(self, Way::Tls(_))
    }
}

/// What a client asks for before it says who it is.
#[derive(Debug, PartialEq)]
enum Wish {
    Tls,
    Kerberos,
    /// Nothing: it has begun.
    Begin,
}

fn wish(head: [u8; 8]) -> Wish {
    let [_, _, _, length, code @ ..] = head;
    match (head[..3] == [0; 3] && length == 8, u32::from_be_bytes(code)) {
        (true, 80_877_103) => Wish::Tls,
        (true, 80_877_104) => Wish::Kerberos,
        _ => Wish::Begin,
    }
}

/// Agrees with a client on how to speak. Returns what has been read of its first message; nothing if the client has gone, or speaks
/// TLS to who does not.
///
/// Of a client that asks for TLS not a byte more is read than the question. What somebody between the two has put behind it goes into
/// the handshake, which fails of it: it is never taken for something that the client has said.
pub(crate) async fn agree(mut socket: TcpStream, tls: Option<&Tls>) -> io::Result<Option<(Way, Vec<u8>)>> {
    socket.set_nodelay(true)?;
    let mut byte = [0];
    if socket.peek(&mut byte).await? == 0 {
        return Ok(None);
    }
    if byte[0] == HANDSHAKE {
        let Some(tls) = tls else { return Ok(None) };
        let stream = tls.acceptor.accept(socket).await?;
        if stream.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
            let text = "a client that begins with TLS must say that it speaks postgresql (ALPN)";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        return Ok(Some((Way::Tls(Box::new(stream)), Vec::new())));
    }
    let (mut refused_tls, mut refused_kerberos) = (false, false);
    loop {
        let mut head = [0; 8];
        if let Err(broken) = socket.read_exact(&mut head).await {
            return if broken.kind() == io::ErrorKind::UnexpectedEof { Ok(None) } else { Err(broken) };
        }
        match (wish(head), tls) {
            (Wish::Tls, Some(tls)) => {
                socket.write_all(b"S").await?;
                let stream = tls.acceptor.accept(socket).await?;
                return Ok(Some((Way::Tls(Box::new(stream)), Vec::new())));
            }
            (Wish::Tls, None) if !refused_tls => refused_tls = true,
            (Wish::Kerberos, _) if !refused_kerberos => refused_kerberos = true,
            // Who asks again for what it cannot have says something that is no beginning: it hears that.
            _ => return Ok(Some((Way::Clear(socket), head.to_vec()))),
        }
        socket.write_all(b"N").await?;
    }
}

/// Signatures of RSA, and of ECDSA, up to what says of which hash.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1];
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4];

/// Returns what a certificate is known by when a password is bound to it (RFC 5929, `tls-server-end-point`): its hash, by the function
/// that it is signed with, or a better one if that is weak. Nothing for signatures that name no such function, as those of Ed25519.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (whole, _) = element(SEQUENCE, certificate)?;
    let (_, behind) = element(SEQUENCE, whole)?;
    let (algorithm, _) = element(SEQUENCE, behind)?;
    let (name, _) = element(IDENTIFIER, algorithm)?;
    let by: &'static Algorithm = match (name.strip_prefix(RSA), name.strip_prefix(ECDSA)) {
        // With MD5 or SHA-1 as well as with SHA-256.
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => &digest::SHA256,
        (Some([12]), _) | (_, Some([3, 3])) => &digest::SHA384,
        (Some([13]), _) | (_, Some([3, 4])) => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(by, certificate).as_ref().to_vec())
}

/// What DER begins a sequence with, and the name of an algorithm.
const SEQUENCE: u8 = 0x30;
const IDENTIFIER: u8 = 0x06;

/// Reads an element of DER: returns what is in it, and what is behind it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&length, rest) = rest.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (usize::from(length), rest),
        // How many bytes the length has. A certificate is not longer than four can say.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(length & 0x7f))?;
            (digits.iter().fold(0, |number, digit| number << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    (found == tag).then(|| rest.split_at_checked(length))?
}

impl AsyncRead for Way {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Way::Clear(socket) => Pin::new(socket).poll_read(context, into),
            Way::Tls(socket) => Pin::new(socket).poll_read(context, into),
        }
    }
}

impl AsyncWrite for Way {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Way::Clear(socket) => Pin::new(socket).poll_write(context, bytes),
            Way::Tls(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Way::Clear(socket) => Pin::new(socket).poll_flush(context),
            Way::Tls(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Way::Clear(socket) => Pin::new(socket).poll_shutdown(context),
            Way::Tls(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_asks_for_first_is_told_from_what_it_begins_with() {
        for (head, want) in [
            ([0, 0, 0, 8, 4, 210, 22, 47], Wish::Tls),
            ([0, 0, 0, 8, 4, 210, 22, 48], Wish::Kerberos),
            ([0, 0, 0, 16, 4, 210, 22, 46], Wish::Begin),
            ([0, 0, 0, 9, 4, 210, 22, 47], Wish::Begin),
            ([1, 0, 0, 8, 4, 210, 22, 47], Wish::Begin),
            ([0, 0, 0, 41, 0, 3, 0, 0], Wish::Begin),
            (*b"GET / HT", Wish::Begin),
        ] {
            assert_eq!(wish(head), want, "{head:?}");
        }
    }

    /// As much of a certificate as is read of one: something of so many bytes, and how it is signed.
    fn certificate(name: &[u8], length: usize) -> Vec<u8> {
        let wrap = |tag: u8, body: &[u8]| {
            let long = u16::try_from(body.len()).unwrap().to_be_bytes();
            let length: &[u8] = if body.len() < 128 { &long[1..] } else { &[0x82, long[0], long[1]] };
            [&[tag], length, body].concat()
        };
        let algorithm = wrap(SEQUENCE, &[wrap(IDENTIFIER, name), vec![5, 0]].concat());
        wrap(SEQUENCE, &[wrap(SEQUENCE, &vec![7; length]), algorithm, wrap(3, b"signature")].concat())
    }

    #[test]
    fn a_certificate_is_known_by_the_hash_that_it_is_signed_with() {
        for (name, want) in [
            ([RSA, &[5]].concat(), Some(&digest::SHA256)),
            ([RSA, &[11]].concat(), Some(&digest::SHA256)),
            ([RSA, &[12]].concat(), Some(&digest::SHA384)),
            ([RSA, &[13]].concat(), Some(&digest::SHA512)),
            ([ECDSA, &[1]].concat(), Some(&digest::SHA256)),
            ([ECDSA, &[3, 2]].concat(), Some(&digest::SHA256)),
            ([ECDSA, &[3, 3]].concat(), Some(&digest::SHA384)),
            ([ECDSA, &[3, 4]].concat(), Some(&digest::SHA512)),
            // RSASSA-PSS, which says it elsewhere, and Ed25519, which has none.
            ([RSA, &[10]].concat(), None),
            (vec![0x2b, 0x65, 0x70], None),
            (RSA.to_vec(), None),
        ] {
            for length in [3, 130, 900] {
                let whole = certificate(&name, length);
                let want = want.map(|by| digest::digest(by, &whole).as_ref().to_vec());
                assert_eq!(end_point(&whole), want, "{name:?}");
                // One that is cut off is none.
                assert!((0..whole.len()).all(|at| end_point(&whole[..at]).is_none()), "{name:?}");
            }
        }
    }
}
