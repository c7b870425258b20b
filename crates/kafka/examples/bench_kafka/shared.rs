//! What the measures share: topics, records that are sent, and how numbers are shown.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::clock::{monotonic, wall_time};
use millstream_core::threads::lock;
use millstream_core::{Error, Result, millis, secs};
use millstream_kafka::Admin;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::statistics::{Statistics, Window};

pub(crate) fn brokers() -> String {
    std::env::var("MILLSTREAM_KAFKA").unwrap_or_else(|_| "127.0.0.1:9092".to_owned())
}

pub(crate) fn topic(name: &str, partitions: i32) -> Result<String> {
    let name = format!("bench-{name}-{}", wall_time().as_millis());
    // Records have the time at which the broker took them: what a producer's queue costs is told apart.
    Admin::of(&*brokers())?.create_topic(&name, partitions, &[("message.timestamp.type", "LogAppendTime")])?;
    Ok(name)
}

pub(crate) fn producer() -> Result<BaseProducer> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers()).set("batch.size", "1000000");
    config.set("queue.buffering.max.messages", "2000000").set("linger.ms", "5");
    config.create().map_err(Error::user)
}

pub(crate) fn send<C: ProducerContext<DeliveryOpaque = ()>>(
    producer: &BaseProducer<C>,
    topic: &str,
    partition: Option<i32>,
    value: &[u8],
) -> Result<()> {
    let mut record = BaseRecord::<[u8], [u8]>::to(topic).payload(value);
    record.partition = partition;
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                record = back;
                producer.poll(millis(1));
            }
            Err((error, _)) => return Err(Error::user(error)),
        }
    }
}

/// Fills a topic with records of 100 bytes, of some words each.
pub(crate) fn fill(topic: &str, partitions: i32, records: u64) -> Result<()> {
    let (producer, began) = (producer()?, monotonic());
    let mut x = 88_172_645_463_325_252_u64;
    let mut value = String::with_capacity(120);
    for i in 0..records {
        value.clear();
        while value.len() < 100 {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let skewed = (x % 1000) * (x % 1000) / 1000;
            value.push_str(&format!("w{skewed} "));
        }
        value.truncate(100);
        send(&producer, topic, Some((i % partitions as u64) as i32), value.as_bytes())?;
        if i % 4096 == 0 {
            producer.poll(Duration::ZERO);
        }
    }
    producer.flush(secs(120)).map_err(Error::user)?;
    println!("{records} records of 100 bytes sent in {:?}", monotonic() - began);
    Ok(())
}

/// What a producer tells of itself: how long its records waited in it, its requests to be written, and those for their
/// answers; and for how long records had been under way when they were acknowledged.
#[derive(Clone, Default)]
pub(crate) struct Sent(Arc<Mutex<Sending>>);

#[derive(Default)]
struct Sending {
    acknowledged: Vec<f64>,
    windows: [Vec<Window>; 3],
    /// Requests, and records, at the first and the last word.
    counted: Option<[(u64, u64); 2]>,
}

impl Sent {
    /// Forgets what was before it is measured.
    pub(crate) fn forget(&self) {
        *lock(&self.0) = Sending::default();
    }

    pub(crate) fn show(&self) {
        let mut sending = lock(&self.0);
        println!("  the producer: from sending to the broker's word: {}", spread(&mut sending.acknowledged));
        for (what, windows) in ["in its queue", "to be written", "for its answer"].iter().zip(&sending.windows) {
            let at = |of: fn(&Window) -> i64| windows.iter().map(of).max().unwrap_or(0) as f64 / 1e3;
            println!("    {what}, of the worst second: p50 {:.2}  p99 {:.2}", at(|w| w.p50), at(|w| w.p99));
        }
        if let Some([(requests, records), (until, all)]) = sending.counted {
            println!("    {} requests with {} records", until - requests, all - records);
        }
    }
}

impl ClientContext for Sent {
    fn stats(&self, said: Statistics) {
        let mut sending = lock(&self.0);
        let brokers = || said.brokers.values().filter(|broker| broker.nodeid >= 0);
        sending.windows[0].extend(brokers().filter_map(|broker| broker.int_latency.clone()));
        sending.windows[1].extend(brokers().filter_map(|broker| broker.outbuf_latency.clone()));
        sending.windows[2].extend(brokers().filter_map(|broker| broker.rtt.clone()));
        let now = (brokers().map(|broker| broker.tx).sum(), said.txmsgs.unsigned_abs());
        sending.counted.get_or_insert([now, now])[1] = now;
    }
}

impl ProducerContext for Sent {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, (): ()) {
        if let Ok(message) = delivered {
            lock(&self.0).acknowledged.extend(message.payload().and_then(age));
        }
    }
}

/// Sends records with the time in them, `rate` a second, until `over`. `settings` are the producer's; `sticky` says that
/// it chooses the partitions, as it does for records without a key: one for all records of a moment.
pub(crate) fn load(
    (topic, partitions, rate): (&str, i32, u64),
    settings: &[String],
    over: &AtomicBool,
    told: Sent,
) -> Result<u64> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers()).set("queue.buffering.max.messages", "2000000");
    config.set("statistics.interval.ms", "1000");
    settings.iter().filter_map(|setting| setting.split_once('=')).for_each(|(key, value)| {
        config.set(key, value);
    });
    let is_sticky = settings.iter().any(|setting| setting == "sticky");
    let producer: BaseProducer<Sent> = config.create_with_context(told).map_err(Error::user)?;
    let (began, mut sent) = (monotonic(), 0u64);
    while !over.load(Ordering::SeqCst) {
        let now = monotonic();
        let due = (now - began).as_micros() as u64 * rate / 1_000_000;
        while sent < due {
            let mut value = [b'x'; 100];
            value[..16].copy_from_slice(format!("{:016x}", now.as_nanos()).as_bytes());
            let partition = (sent % partitions as u64) as i32;
            send(&producer, topic, (!is_sticky).then_some(partition), &value)?;
            sent += 1;
        }
        // A poll hears of one request.
        (0..16).for_each(|_| producer.poll(Duration::ZERO));
        std::thread::park_timeout(millis(1));
    }
    producer.flush(secs(30)).map_err(Error::user)?;
    Ok(sent)
}

/// Returns for how long a record of [`load`] has been under way, in milliseconds.
pub(crate) fn age(value: &[u8]) -> Option<f64> {
    let sent = u128::from_str_radix(std::str::from_utf8(value.get(..16)?).ok()?, 16).ok()?;
    Some(monotonic().as_nanos().saturating_sub(sent) as f64 / 1e6)
}

pub(crate) fn spread(values: &mut [f64]) -> String {
    if values.is_empty() {
        return "nothing".to_owned();
    }
    values.sort_by(f64::total_cmp);
    let at = |part: f64| values[((values.len() - 1) as f64 * part) as usize];
    format!(
        "p50 {:.2}  p95 {:.2}  p99 {:.2}  max {:.2}  ({} of them)",
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0),
        values.len()
    )
}

/// Returns how many bytes of memory the process has, in megabytes.
pub(crate) fn memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
