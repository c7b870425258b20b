//! Counts words that come over a socket, a batch a second. (Spark's NetworkWordCount.)
//!
//! Alone, it serves itself text on a free port, so that there is something to see at once:
//!
//! ```text
//! cargo run --release --example word_count
//! ```
//!
//! With a host and a port it reads what is typed there (`nc -lk 9999` in another terminal):
//!
//! ```text
//! cargo run --release --example word_count -- localhost 9999
//! ```
//!
//! `--batches N` stops after N batches. Ctrl-C stops gracefully: what was received is counted first.

use std::io::Write;
use std::net::TcpListener;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use millstream::prelude::*;
use millstream::{BatchInfo, Stop};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> Result<()> {
    let Args { host, port, batches } = Args::read()?;

    let mut conf = Conf::new("local[2]", "word count")?;
    conf.streaming.stop_gracefully_on_shutdown = true;
    let ssc = StreamingContext::with_conf(conf, secs(1))?;

    let counts = ssc
        .socket_text_stream(host, port)
        .flat_map(|line| line.split(' '))
        .map(|word| (word, 1u64))
        .reduce_by_key(|a, b| a + b);
    counts.print();

    let seen = Arc::new(Seen::default());
    let (done, last) = mpsc::channel();
    ssc.add_streaming_listener(Counter { seen: Arc::clone(&seen), batches, done });

    ssc.start()?;
    ssc.stop_on_signals()?;
    if batches > 0 && last.recv().is_ok() {
        ssc.stop_with(Stop::gracefully())?;
    }
    ssc.await_termination()?;
    let (batches, lines) = (seen.batches.load(Ordering::Relaxed), seen.lines.load(Ordering::Relaxed));
    eprintln!("stopped: {lines} lines in {batches} batches were counted");
    Ok(())
}

/// Counts what was processed, and says when there was enough.
struct Counter {
    seen: Arc<Seen>,
    batches: u64,
    done: mpsc::Sender<()>,
}

#[derive(Default)]
struct Seen {
    batches: AtomicU64,
    lines: AtomicU64,
}

impl StreamingListener for Counter {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        self.seen.lines.fetch_add(batch.num_records(), Ordering::Relaxed);
        if self.seen.batches.fetch_add(1, Ordering::Relaxed) + 1 == self.batches {
            // Nobody waits any more if the program is ending: that is fine.
            let _ = self.done.send(());
        }
    }
}

struct Args {
    host: String,
    port: u16,
    batches: u64,
}

impl Args {
    fn read() -> Result<Args> {
        let wrong = || Error::from("usage: word_count [HOST PORT] [--batches N]");
        let (mut plain, mut batches) = (Vec::new(), 0);
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            if arg == "--batches" {
                batches = args.next().and_then(|n| n.parse().ok()).ok_or_else(wrong)?;
            } else {
                plain.push(arg);
            }
        }
        match plain.as_slice() {
            [] => {
                let port = serve()?;
                eprintln!("no HOST PORT given: serving text to myself on 127.0.0.1:{port}; Ctrl-C stops");
                Ok(Args { host: "127.0.0.1".to_owned(), port, batches })
            }
            [host, port] => Ok(Args { host: host.clone(), port: port.parse().map_err(|_| wrong())?, batches }),
            _ => Err(wrong()),
        }
    }
}

/// Serves a few lines every tenth of a second, to whoever connects, and returns the port.
fn serve() -> Result<u16> {
    const LINES: [&str; 4] = [
        "to be or not to be that is the question",
        "whether tis nobler in the mind to suffer",
        "the slings and arrows of outrageous fortune",
        "or to take arms against a sea of troubles",
    ];
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    #[allow(clippy::disallowed_methods, reason = "the other end of the socket is not part of the program")]
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            for line in LINES.iter().cycle() {
                if writeln!(stream, "{line}").is_err() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    });
    Ok(port)
}
