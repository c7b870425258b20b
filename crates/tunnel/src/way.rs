//! The side that reaches: a port at the own loopback address that leads to a service of another host.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use millstream_core::{Error, ErrorKind, Result};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::frame::{self, Answer, Opening, PROTOCOL};
use crate::keys::{Keys, NAME};
use crate::listen::{BREATH, BUFFER};
use crate::{Limits, prepared};

/// Where a service is: the port of its host, the host's name there, and its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    address: SocketAddr,
    host: String,
    service: String,
}

impl Place {
    /// Names a place.
    pub fn new(address: SocketAddr, host: impl Into<String>, service: impl Into<String>) -> Place {
        Place { address, host: host.into(), service: service.into() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} of {} at {}", self.service, self.host, self.address)
    }
}

/// A port of this machine's loopback address that leads to a place. With it all connections through it end.
#[derive(Debug)]
pub struct Way {
    address: SocketAddr,
    _closed: watch::Sender<()>,
}

impl Way {
    /// Opens a port. Whether the place can be reached is found out with each connection: if not, that is closed.
    ///
    /// # Errors
    ///
    /// The kind is `Unavailable`: this machine has no free port.
    pub async fn open(keys: &Keys, place: Place, limits: Limits) -> Result<Way> {
        let none = |error| Error::io(ErrorKind::Unavailable, format!("no port is free for a way to {place}"), error);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(none)?;
        let address = listener.local_addr().map_err(none)?;
        let (closed, told) = watch::channel(());
        tokio::spawn(lead(listener, keys.clone(), place, limits, told));
        Ok(Way { address, _closed: closed })
    }

    /// Returns where the port is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

async fn lead(listener: TcpListener, keys: Keys, place: Place, limits: Limits, mut closed: watch::Receiver<()>) {
    let place = Arc::new(place);
    loop {
        let came = tokio::select! {
            came = listener.accept() => came,
            _ = closed.changed() => return,
        };
        let mut here = match came {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection to {place} could not be taken");
                tokio::time::sleep(BREATH).await;
                continue;
            }
        };
        let (keys, place, mut closed) = (keys.clone(), Arc::clone(&place), closed.clone());
        tokio::spawn(async move {
            let through = async {
                prepared(&here)?;
                let mut there = reach(&keys, &place, limits).await?;
                // How it ends is seen by those who talk to each other.
                let _ = tokio::io::copy_bidirectional_with_sizes(&mut here, &mut there, BUFFER, BUFFER).await;
                Ok::<(), Error>(())
            };
            tokio::select! {
                ended = through => if let Err(error) = ended {
                    tracing::warn!(%error, "{place} was not reached");
                },
                _ = closed.changed() => {}
            }
        });
    }
}

/// Tries whether a place can be reached, and leaves it again.
///
/// # Errors
///
/// The kind is `Config` if what listens there has another secret, speaks another version or is something else;
/// `Unavailable` if nothing answers, or the service is not there.
pub async fn try_out(keys: &Keys, place: &Place, limits: Limits) -> Result<()> {
    reach(keys, place, limits).await.map(drop)
}

async fn reach(keys: &Keys, place: &Place, limits: Limits) -> Result<TlsStream<TcpStream>> {
    let opened = async {
        let gone = |error| Error::io(ErrorKind::Unavailable, format!("nobody answers at {}", place.address), error);
        let stream = TcpStream::connect(place.address).await.map_err(gone)?;
        prepared(&stream)?;
        let name = ServerName::try_from(NAME).map_err(|e| millstream_core::bug!("a name is none: {e}"))?;
        let connector = TlsConnector::from(Arc::clone(&keys.client));
        let mut there = connector.connect(name, stream).await.map_err(|error| refused(place, error))?;
        if there.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
            return Err(other_version(place));
        }
        frame::send(&mut there, &Opening { to: place.host.clone(), service: place.service.clone() }).await?;
        match frame::receive(&mut there).await.map_err(|error| unanswered(place, &error))? {
            Answer::Yes => Ok(there),
            Answer::No(why) => Err(Error::new(ErrorKind::Unavailable, format!("{place} is not reached: {why}"))),
        }
    };
    match tokio::time::timeout(limits.patience, opened).await {
        Ok(reached) => reached,
        Err(_) => {
            let text = format!("{place} did not answer within {:?}", limits.patience);
            Err(Error::new(ErrorKind::Unavailable, text))
        }
    }
}

fn other_version(place: &Place) -> Error {
    let text = format!("what listens at {} speaks another version of millstream's tunnel", place.address);
    Error::new(ErrorKind::Config, text)
}

fn unanswered(place: &Place, error: &Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("{place} closed the connection without an answer: {error}"))
}

/// Says why a handshake failed.
fn refused(place: &Place, error: std::io::Error) -> Error {
    let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) else {
        let doing = format!("what listens at {} closed the connection before it proved who it is", place.address);
        return Error::io(ErrorKind::Unavailable, doing, error);
    };
    let text = match tls {
        rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
        | rustls::Error::AlertReceived(AlertDescription::AccessDenied | AlertDescription::DecryptError) => format!(
            "the secrets differ: {} at {} is not of the cluster that the secret here is for",
            place.host, place.address
        ),
        rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)
        | rustls::Error::NoApplicationProtocol => {
            return other_version(place);
        }
        other => format!("what listens at {} is no host of millstream: {other}", place.address),
    };
    Error::new(ErrorKind::Config, text)
}
