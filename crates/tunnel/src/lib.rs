//! Connections between the hosts of a cluster: encrypted, and open to those who know its secret only.
//!
//! What listens on a host listens at its loopback address, where nobody else reaches it. To the outside a host shows one
//! port, a [`Tunnel`], and what may be reached through it has a name there. Who wants to reach it opens a [`Way`]: a port
//! at the own loopback address that leads there. So programs that know neither secrets nor TLS talk to each other
//! unchanged.
//!
//! ```text
//!  program ─► Way (127.0.0.1:p) ═══ TLS 1.3, one connection each ═══► Tunnel (10.0.0.2:7078) ─► service (127.0.0.1:q)
//! ```
//!
//! Both sides have the same key, which is made of the secret, and each proves in the handshake of TLS 1.3 that it has it.
//! There are no certificates, so no clock is asked whether one has run out. Nothing here is cryptography of our own: the
//! key is made by HKDF, the proof is TLS's, over raw public keys (RFC 7250).
//!
//! A secret must be one that nobody can guess: who connects is shown the public key, and could try likely secrets at home.
//!
//! # Example
//!
//! ```
//! use millstream_tunnel::{Keys, Limits, Place, Tunnel, Way};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//! use tokio::net::{TcpListener, TcpStream};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let keys = Keys::of_secret(b"sixteen letters.")?;
//! let service = TcpListener::bind("127.0.0.1:0").await?;
//! let tunnel = Tunnel::open("127.0.0.1:0".parse()?, &keys, "host-2", Limits::default()).await?;
//! tunnel.offer("greetings", service.local_addr()?);
//!
//! let place = Place::new(tunnel.address(), "host-2", "greetings");
//! let way = Way::open(&keys, place, Limits::default()).await?;
//! let mut here = TcpStream::connect(way.address()).await?;
//! here.write_all(b"hello").await?;
//! let (mut there, _) = service.accept().await?;
//! let mut heard = [0; 5];
//! there.read_exact(&mut heard).await?;
//! assert_eq!(&heard, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?; Ok(()) }
//! ```

mod bounded;
mod door;
mod frame;
mod keys;
mod listen;
mod way;

use std::time::Duration;

pub use self::keys::Keys;
pub use self::listen::Tunnel;
pub use self::way::{Place, Way, try_out};

/// How much of a stranger is borne.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long somebody may take to prove who they are, and to say what they want.
    pub patience: Duration,
    /// How many may be about to do so at once. For one more, the one who has taken longest is turned away.
    pub strangers: usize,
    /// How many of those may come from one address.
    pub strangers_of_one: usize,
    /// How many bytes of somebody are read before they have proved who they are.
    pub greeting: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { patience: Duration::from_secs(5), strangers: 256, strangers_of_one: 64, greeting: 32 << 10 }
    }
}

/// Prepares a connection: small messages go at once, and it is noticed when the other host is gone without a word.
fn prepared(stream: &tokio::net::TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let signs = socket2::TcpKeepalive::new()
        .with_time(Duration::from_secs(10))
        .with_interval(Duration::from_secs(5))
        .with_retries(3);
    socket2::SockRef::from(stream).set_tcp_keepalive(&signs)
}
