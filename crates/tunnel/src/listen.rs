//! The side that is reached: one port, behind which services have names.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::bounded::Bounded;
use crate::door::Door;
use crate::frame::{self, Answer, Opening, PROTOCOL};
use crate::keys::Keys;
use crate::{Limits, prepared};

/// How long to wait when the system has no connection to give.
pub(crate) const BREATH: Duration = Duration::from_millis(50);

/// How much is on its way at most in each direction of a connection, outside of sockets.
pub(crate) const BUFFER: usize = 64 << 10;

/// A port behind which services may be reached by those who know the secret. With it all connections through it end.
#[derive(Debug)]
pub struct Tunnel {
    address: SocketAddr,
    inside: Arc<Inside>,
    /// Who waits for it learns of the end when it is dropped.
    _closed: watch::Sender<()>,
}

#[derive(Debug)]
struct Inside {
    keys: Keys,
    name: String,
    limits: Limits,
    services: Mutex<BTreeMap<String, SocketAddr>>,
    door: Mutex<AtDoor>,
}

/// Those who have not proved yet who they are, and how each is turned away.
#[derive(Debug)]
struct AtDoor {
    door: Door,
    turn_away: HashMap<u64, AbortHandle>,
}

impl Tunnel {
    /// Opens a port at an address; port 0 is any that is free. Others ask for `name`.
    ///
    /// # Errors
    ///
    /// The kind is `Config`: the address is taken, or not this machine's.
    pub async fn open(bind: SocketAddr, keys: &Keys, name: &str, limits: Limits) -> Result<Tunnel> {
        let not_here = |error| {
            let doing = format!("nothing can be reached at {bind}; choose another port or address");
            Error::io(ErrorKind::Config, doing, error)
        };
        let listener = TcpListener::bind(bind).await.map_err(not_here)?;
        let address = listener.local_addr().map_err(not_here)?;
        let door = Door::new(limits.strangers, limits.strangers_of_one);
        let inside = Arc::new(Inside {
            keys: keys.clone(),
            name: name.to_owned(),
            limits,
            services: Mutex::default(),
            door: Mutex::new(AtDoor { door, turn_away: HashMap::new() }),
        });
        let (closed, told) = watch::channel(());
        tokio::spawn(Arc::clone(&inside).let_in(listener, told));
        Ok(Tunnel { address, inside, _closed: closed })
    }

    /// Returns where the port is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets others reach what listens at an address of this machine, by a name.
    pub fn offer(&self, service: &str, at: SocketAddr) {
        lock(&self.inside.services).insert(service.to_owned(), at);
    }
}

impl Inside {
    async fn let_in(self: Arc<Self>, listener: TcpListener, mut closed: watch::Receiver<()>) {
        loop {
            let came = tokio::select! {
                came = listener.accept() => came,
                _ = closed.changed() => return,
            };
            match came {
                Ok((stream, from)) => self.admit(stream, from, closed.clone()),
                Err(error) => {
                    // Out of files, most likely: others must close some first.
                    tracing::warn!(%error, "a connection to {} could not be taken", self.name);
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, from: SocketAddr, mut closed: watch::Receiver<()>) {
        let mut at_door = lock(&self.door);
        let (number, gone) = at_door.door.admit(from.ip());
        if let Some(gone) = gone.and_then(|gone| at_door.turn_away.remove(&gone)) {
            gone.abort();
        }
        let inside = Arc::clone(self);
        let task = tokio::spawn(async move {
            tokio::select! {
                () = inside.attend(number, stream, from) => {}
                _ = closed.changed() => inside.leave(number),
            }
        });
        at_door.turn_away.insert(number, task.abort_handle());
    }

    /// Takes note that somebody does not stand at the door any more.
    fn leave(&self, number: u64) {
        let mut at_door = lock(&self.door);
        at_door.door.leave(number);
        at_door.turn_away.remove(&number);
    }

    async fn attend(&self, number: u64, stream: TcpStream, from: SocketAddr) {
        let greeted = tokio::time::timeout(self.limits.patience, self.greet(stream)).await;
        self.leave(number);
        match greeted {
            Ok(Ok((mut outside, mut service))) => {
                let ended = tokio::io::copy_bidirectional_with_sizes(&mut outside, &mut service, BUFFER, BUFFER).await;
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection from {from} to {} broke", self.name);
                }
            }
            Ok(Err(error)) => tracing::debug!(%error, "a connection from {from} to {} was refused", self.name),
            Err(_) => tracing::debug!("somebody at {from} did not say to {} who they are", self.name),
        }
    }

    /// Has somebody prove who they are, and say what they want.
    async fn greet(&self, stream: TcpStream) -> Result<(TlsStream<Bounded<TcpStream>>, TcpStream)> {
        let refused = |error| Error::io(ErrorKind::Data, "somebody did not prove that they know the secret", error);
        prepared(&stream)?;
        let bounded = Bounded::new(stream, self.limits.greeting);
        let mut outside = TlsAcceptor::from(Arc::clone(&self.keys.server)).accept(bounded).await.map_err(refused)?;
        if outside.get_ref().1.alpn_protocol() != Some(PROTOCOL) {
            return Err(Error::new(ErrorKind::Data, "somebody speaks another protocol"));
        }
        let opening: Opening = frame::receive(&mut outside).await?;
        match self.reach(&opening).await {
            Ok(service) => {
                frame::send(&mut outside, &Answer::Yes).await?;
                outside.get_mut().0.trust();
                Ok((outside, service))
            }
            Err(error) => {
                frame::send(&mut outside, &Answer::No(error.message().chars().take(200).collect())).await?;
                Err(error)
            }
        }
    }

    async fn reach(&self, Opening { to, service }: &Opening) -> Result<TcpStream> {
        if *to != self.name {
            let text = format!("{to} is not here any more: this is {}", self.name);
            return Err(Error::new(ErrorKind::Unavailable, text));
        }
        let at = lock(&self.services).get(service).copied();
        let at = at.ok_or_else(|| Error::new(ErrorKind::Unavailable, format!("{to} offers no {service}")))?;
        let found = TcpStream::connect(at).await.and_then(|stream| prepared(&stream).map(|()| stream));
        found
            .map_err(|error| Error::io(ErrorKind::Unavailable, format!("the {service} of {to} does not answer"), error))
    }
}
