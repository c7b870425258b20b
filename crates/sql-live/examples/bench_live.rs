//! What it costs to ask a running stream for one key, and what the stream pays for it.
//!
//! ```sh
//! cargo run --release -p millstream-sql-live --example bench_live
//! ```
//!
//! A state of a million keys takes a thousand updates in a batch of 5 ms. First nobody asks; then a client looks up one key after the
//! other over the wire, by a prepared statement, with a pause of a millisecond between two. Then, to tell what is the endpoint's from what
//! is the machine's, it asks a server that knows nothing of streams and sends back what it gets.

use std::io::{Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream::prelude::*;
use millstream::sql::SqlContext;
use millstream::sql_live::ServeSql as _;
use millstream::streaming::{BatchInfo, InputSource, Rate, StreamingListener};
use millstream_core::clock::monotonic;
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_postgres::NoTls;

const KEYS: i64 = 1_000_000;
const UPDATES: i64 = 1000;
const INTERVAL: Duration = Duration::from_millis(5);

/// How long each part goes on.
const SPAN: Duration = Duration::from_secs(15);

/// The updates of a batch.
struct Updates;

impl InputSource for Updates {
    type Item = (i64, u64);
    type Allocation = i64;

    fn allocate(&mut self, batch: Time, _: Option<Rate>) -> Result<i64> {
        Ok(batch.as_millis() / INTERVAL.as_millis() as i64)
    }

    fn notices_change(&self) -> bool {
        true
    }

    fn rdd(&self, batch: &i64, context: &Context) -> Result<Option<Rdd<(i64, u64)>>> {
        let numbers = context.range(batch * UPDATES, (batch + 1) * UPDATES, 1, 2);
        Ok(Some(numbers.map(|n| (n.wrapping_mul(7_919).rem_euclid(KEYS), 1))))
    }
}

/// How long each batch took from when it was due.
#[derive(Clone, Default)]
struct Delays(Arc<Mutex<Vec<Duration>>>);

impl StreamingListener for Delays {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        lock(&self.0).extend(batch.stamps.ended.map(|ended| ended + batch.stamps.late));
    }
}

fn quantile(times: &[Duration], part: f64) -> f64 {
    let mut times = times.to_vec();
    times.sort_unstable();
    times
        .get(((times.len().saturating_sub(1)) as f64 * part) as usize)
        .map_or(f64::NAN, |time| time.as_secs_f64() * 1e3)
}

fn asked(error: &tokio_postgres::Error) -> Error {
    Error::new(ErrorKind::Data, error.to_string())
}

/// Looks keys up for a while, and returns how long each took.
async fn look_up(address: std::net::SocketAddr) -> std::result::Result<Vec<Duration>, tokio_postgres::Error> {
    let how = format!("host={} port={} user=bench dbname=millstream", address.ip(), address.port());
    let (client, connection) = tokio_postgres::connect(&how, NoTls).await?;
    tokio::spawn(connection);
    let statement = client.prepare("SELECT value FROM totals WHERE key = $1").await?;
    let (begun, mut took, mut key) = (monotonic(), Vec::new(), 0i64);
    while monotonic().saturating_sub(begun) < SPAN {
        key = (key + 7_919_777) % KEYS;
        let asked = monotonic();
        let rows = client.query(&statement, &[&key]).await?;
        took.push(monotonic().saturating_sub(asked));
        assert_eq!(rows.len(), 1, "key {key}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(took)
}

/// Sends a few bytes to and fro for a while, as often as keys are looked up, and returns how long each took.
async fn echo(address: std::net::SocketAddr) -> std::io::Result<Vec<Duration>> {
    let mut socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (begun, mut took, mut bytes) = (monotonic(), Vec::new(), [7u8; 64]);
    while monotonic().saturating_sub(begun) < SPAN {
        let asked = monotonic();
        socket.write_all(&bytes).await?;
        socket.read_exact(&mut bytes).await?;
        took.push(monotonic().saturating_sub(asked));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(took)
}

/// Begins a server that sends back what it gets, on a thread of its own.
fn begin_echo() -> Result<std::net::SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    millstream_core::threads::spawn("echo", move || {
        if let Ok((mut socket, _)) = listener.accept() {
            let _ = socket.set_nodelay(true);
            let mut bytes = [0u8; 64];
            while socket.read_exact(&mut bytes).and_then(|()| socket.write_all(&bytes)).is_ok() {}
        }
    })?
    .detach();
    Ok(address)
}

#[allow(clippy::print_stdout, reason = "it is what the example is for")]
fn main() -> Result<()> {
    let ssc = StreamingContext::new("local[2]", "bench live", INTERVAL)?;
    let folder = std::env::temp_dir().join(format!("millstream-bench-live-{}", std::process::id()));
    ssc.checkpoint_anew(&folder)?;
    let initial = ssc.context().range(0, KEYS, 1, 2).map(|key| (key, 0u64));
    let sum = StateSpec::function(|_: &i64, new: Option<u64>, total: &mut State<'_, u64>| {
        total.update(total.get_option().copied().unwrap_or(0) + new.unwrap_or(0));
    });
    let totals = ssc.input(Updates).map_with_state(sum.initial_state(&initial));
    let sql = SqlContext::new(&ssc)?;
    sql.register_state("totals", &totals);
    totals.stream().foreach_rdd(|rdd, _| rdd.count().map(drop));
    let server = sql.serve("127.0.0.1:0")?;
    let delays = Delays::default();
    ssc.add_streaming_listener(delays.clone());
    ssc.start()?;
    let pass = |span: Duration| ssc.await_termination_or_timeout(span).map(drop);
    // The first batch makes the state.
    pass(Duration::from_secs(8))?;
    let span = || -> Vec<Duration> {
        ssc.flush_listeners();
        std::mem::take(&mut *lock(&delays.0))
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    for round in 1..=2 {
        let _ = span();
        pass(SPAN)?;
        let quiet = span();
        let took = runtime.block_on(look_up(server.address())).map_err(|e| asked(&e))?;
        let asked = span();
        let echoed = runtime.block_on(echo(begin_echo()?))?;
        let beside = span();
        let ratio = |these: &[Duration]| quantile(these, 0.99) / quantile(&quiet, 0.99);
        let told = |what: &str, these: &[Duration]| {
            format!("{what} median {:.2} ms, p99 {:.2} ms", quantile(these, 0.5), quantile(these, 0.99))
        };
        println!(
            "round {round}: {} look-ups of one key of {KEYS} over the wire: {}; {}; batches of {UPDATES} updates each 5 ms, due to ended: \
             {} of {}, {}: p99 {:.2} times, {}: p99 {:.2} times",
            took.len(),
            told("asked", &took),
            told("echoed", &echoed),
            quiet.len(),
            told("undisturbed", &quiet),
            told("while asked", &asked),
            ratio(&asked),
            told("beside the echo", &beside),
            ratio(&beside),
        );
    }
    ssc.stop()?;
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}
