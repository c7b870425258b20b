//! A way to a broker on which questions about topics are counted.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use millstream_core::threads::{self, OwnedThread};

/// The number of the question which topics there are, and who leads them.
const METADATA: [u8; 2] = [0, 3];

/// Passes on what is said to a broker and by it, until it is dropped. Who connects while the broker is away is let in and sent
/// away.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    metadata: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: Option<OwnedThread>,
}

/// Passes on questions: each begins with its length, and the number of what is asked.
fn questions(mut from: &TcpStream, mut to: &TcpStream, metadata: &AtomicU64) -> std::io::Result<()> {
    let (mut head, mut piece) = ([0; 6], vec![0; 16_384]);
    loop {
        from.read_exact(&mut head)?;
        if head[4..] == METADATA {
            metadata.fetch_add(1, Ordering::SeqCst);
        }
        to.write_all(&head)?;
        let mut left = u32::from_be_bytes([head[0], head[1], head[2], head[3]]).saturating_sub(2) as usize;
        while left > 0 {
            let most = left.min(piece.len());
            let got = from.read(&mut piece[..most])?;
            if got == 0 {
                return Ok(());
            }
            to.write_all(&piece[..got])?;
            left -= got;
        }
    }
}

impl Proxy {
    /// Listens for a broker that is, or will be, at the port `behind`.
    pub(crate) fn start(behind: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (metadata, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (counts, ends) = (Arc::clone(&metadata), Arc::clone(&over));
        let thread = threads::spawn("proxy", move || {
            for client in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(broker)) = (client, TcpStream::connect(("127.0.0.1", behind))) else { continue };
                let (_, _) = (client.set_nodelay(true), broker.set_nodelay(true));
                let (client, broker) = (Arc::new(client), Arc::new(broker));
                for is_asking in [true, false] {
                    let (client, broker, counts) = (Arc::clone(&client), Arc::clone(&broker), Arc::clone(&counts));
                    let pump = move || {
                        if is_asking {
                            drop(questions(&client, &broker, &counts));
                        } else {
                            drop(std::io::copy(&mut &*broker, &mut &*client));
                        }
                        drop((client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both)));
                    };
                    threads::spawn("pump", pump).unwrap().detach();
                }
            }
        });
        Proxy { port, metadata, over, thread: Some(thread.unwrap()) }
    }

    pub(crate) fn metadata(&self) -> u64 {
        self.metadata.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}
