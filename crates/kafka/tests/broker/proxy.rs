//! Through a proxy of the test's own, which delays, cuts, trickles and changes bytes: right results, or an error; never
//! a hang.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use millstream_core::clock::monotonic;
use millstream_core::threads::{self, OwnedThread, lock};
use millstream_core::{Context, ErrorKind, Result, millis, secs};
use millstream_kafka::{Brokers, Isolation, OffsetRange, OnLoss, ReadBy, Record, Start, direct, rdd_by};

use crate::common::{topic, write};

/// What the proxy does to what the broker sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Nothing,
    /// Each piece comes late.
    Delay,
    /// Two of three connections end in the middle.
    Cut,
    /// A few bytes at a time.
    Trickle,
    /// One byte of a record is another.
    Change,
}

/// There is one port for all.
static ONE: Mutex<()> = Mutex::new(());

/// A proxy, until it is dropped.
struct Proxy {
    _one: MutexGuard<'static, ()>,
    fault: Fault,
    at: String,
    over: Arc<AtomicBool>,
    thread: Option<OwnedThread>,
}

fn scattered(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 27)
}

/// Passes on what the broker sends, with a fault.
fn answers(mut from: &TcpStream, mut to: &TcpStream, fault: Fault, number: u64) -> std::io::Result<()> {
    let mut left = match fault {
        Fault::Cut if number % 3 != 2 => 100 + scattered(number) % 600_000,
        _ => u64::MAX,
    };
    let mut piece = vec![0; 16_384];
    loop {
        let got = from.read(&mut piece)?;
        if got == 0 {
            return Ok(());
        }
        let bytes = &mut piece[..got];
        if fault == Fault::Change
            && let Some(at) = bytes.windows(6).position(|some| some == b"needle")
        {
            bytes[at] ^= 1;
        }
        match fault {
            Fault::Delay => std::thread::park_timeout(millis(3)),
            Fault::Trickle => {
                for few in bytes.chunks(997) {
                    to.write_all(few)?;
                    std::thread::park_timeout(millis(1));
                }
                continue;
            }
            _ => {}
        }
        let some = usize::try_from(left).unwrap_or(usize::MAX).min(got);
        to.write_all(&bytes[..some])?;
        left -= some as u64;
        if left == 0 {
            return Ok(());
        }
    }
}

impl Proxy {
    fn start(fault: Fault) -> Proxy {
        let one = lock(&ONE);
        let places = std::env::var("MILLSTREAM_KAFKA_PROXIED").unwrap();
        let (front, behind) = places.split_once(' ').unwrap();
        let (listener, behind) = (TcpListener::bind(front).unwrap(), behind.to_owned());
        let (over, numbers) = (Arc::<AtomicBool>::default(), AtomicU64::new(0));
        let ends = Arc::clone(&over);
        let thread = threads::spawn("proxy", move || {
            for client in listener.incoming() {
                if ends.load(Ordering::SeqCst) {
                    return;
                }
                let (Ok(client), Ok(broker)) = (client, TcpStream::connect(&behind)) else { continue };
                let (client, broker) = (Arc::new(client), Arc::new(broker));
                let number = numbers.fetch_add(1, Ordering::SeqCst);
                let both = [(Arc::clone(&client), Arc::clone(&broker), true), (client, broker, false)];
                for (client, broker, is_asking) in both {
                    let pump = move || {
                        if is_asking {
                            drop(std::io::copy(&mut &*client, &mut &*broker));
                        } else {
                            drop(answers(&broker, &client, fault, number));
                        }
                        drop((client.shutdown(Shutdown::Both), broker.shutdown(Shutdown::Both)));
                    };
                    threads::spawn("pump", pump).unwrap().detach();
                }
            }
        });
        Proxy { _one: one, fault, at: front.to_owned(), over, thread: Some(thread.unwrap()) }
    }

    fn read(&self, topic: &str, count: i64, read_by: ReadBy) -> Result<Vec<Record>> {
        let context = Context::new("local[2]", "proxied")?;
        // Another name, so that no reader is kept from one fault to the next.
        let brokers = Brokers::at(&self.at).answer_within(secs(10)).set("client.id", format!("{:?}", self.fault));
        let ranges = [(0, count / 3), (count / 3, count)].map(|(from, until)| OffsetRange::new(topic, 0, from, until));
        rdd_by(&context, brokers, ranges, Isolation::ReadCommitted, read_by)?.collect()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&self.at));
        if let Some(thread) = self.thread.take() {
            thread.join();
        }
    }
}

#[test]
fn a_network_that_delays_cuts_trickles_or_changes_bytes_loses_and_adds_nothing() {
    const COUNT: i64 = 2000;
    let a = topic("proxied", 1);
    write(&a, 0, (0..COUNT).map(|n| format!("{n} needle {}", "x".repeat(200))));
    for fault in [Fault::Nothing, Fault::Delay, Fault::Cut, Fault::Trickle, Fault::Change] {
        let proxy = Proxy::start(fault);
        for read_by in [ReadBy::Fastest, ReadBy::Client] {
            let began = monotonic();
            let read = proxy.read(&a, COUNT, read_by);
            assert!(monotonic() - began < secs(60), "{fault:?} {read_by:?}");
            if fault == Fault::Change {
                let error = read.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Data, "{read_by:?}: {error}");
                assert!(error.to_string().contains(&a), "{read_by:?}: {error}");
                continue;
            }
            let offsets: Vec<_> = read.unwrap().iter().map(Record::offset).collect();
            assert!(offsets.iter().copied().eq(0..COUNT), "{fault:?} {read_by:?}: {} records", offsets.len());
        }
    }
}

#[test]
fn behind_a_batch_of_records_that_is_damaged_a_source_goes_on_and_listeners_are_told_what_is_lost() {
    // In the middle of what there is, and at its end, where nothing leads on.
    for (what, damaged) in [("middle", 10..20), ("end", 20..30)] {
        let a = topic(what, 1);
        for batch in [0..10, 10..20, 20..30] {
            let word = if batch == damaged { "needle" } else { "straw" };
            // One call is one batch of records: the producer is flushed.
            write(&a, 0, batch.map(|n| format!("{n} {word}")));
        }
        let proxy = Proxy::start(Fault::Change);
        for read_by in [ReadBy::Fastest, ReadBy::Client] {
            let brokers = Brokers::at(&proxy.at).set("client.id", format!("damaged {what}"));
            let source = direct(brokers).subscribe([&a]).start(Start::Earliest).on_loss(OnLoss::GoOn).read_by(read_by);
            let mut program = crate::world::program_of(source);
            program.test.run(3).unwrap();
            drop(program.test.ssc().stop());
            let got: Vec<_> = lock(&program.values).iter().map(|v| v.split(' ').next().unwrap().to_owned()).collect();
            // librdkafka does not get past what is damaged: the rest of the range is lost, and said to be.
            let is_client = read_by == ReadBy::Client;
            let is_read = |n: &i32| *n < damaged.start || (!is_client && *n >= damaged.end);
            let want: Vec<_> = (0..30).filter(is_read).map(|n| n.to_string()).collect();
            assert_eq!(got, want, "{what} {read_by:?}");
            let until = if is_client { 30 } else { damaged.end };
            let lost = format!("{a}/0 from {} until {until}", damaged.start);
            assert_eq!(program.lost(), [lost], "{what} {read_by:?}");
        }
    }
}
