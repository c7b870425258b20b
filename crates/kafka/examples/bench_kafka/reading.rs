//! How fast records are read, and what many partitions cost.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::{Error, ErrorKind, Result, millis, secs};
use millstream_kafka::{Direct, OffsetRange, ReadBy, Record, Start, direct, offset_ranges};
use millstream_streaming::{Conf, DStream, StreamingContext};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::shared::{brokers, fill, memory as resident, send, topic};

const PARTITIONS: i32 = 3;

/// A loop that does nothing but poll.
fn bare(topic: &str, records: u64) -> Result<f64> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .set("group.id", "bare")
        .set("enable.auto.commit", "false")
        .set("queued.min.messages", "500000")
        .set("queued.max.messages.kbytes", "262144")
        .set("fetch.message.max.bytes", "4000000")
        .create()
        .map_err(Error::user)?;
    let mut list = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        list.add_partition_offset(topic, partition, Offset::Beginning).map_err(Error::user)?;
    }
    consumer.assign(&list).map_err(Error::user)?;
    let (began, mut count, mut bytes) = (monotonic(), 0, 0);
    while count < records {
        if let Some(message) = consumer.poll(secs(30)) {
            bytes += message.map_err(Error::user)?.payload().map_or(0, <[u8]>::len);
            count += 1;
        }
    }
    let rate = count as f64 / (monotonic() - began).as_secs_f64() / 1e6;
    println!("  bare rdkafka loop: {rate:.2} M records/s ({bytes} bytes)");
    Ok(rate)
}

/// Runs a stream over all records, 200,000 a partition and batch, from the first batch to the last.
fn stream(source: Direct, records: u64, program: impl FnOnce(DStream<Record>, Arc<AtomicU64>)) -> Result<f64> {
    let mut conf = Conf::new("local[2]", "bench")?;
    conf.streaming.backpressure = false;
    let ssc = StreamingContext::builder(conf, millis(50)).build()?;
    let seen = Arc::<AtomicU64>::default();
    program(ssc.input(source.start(Start::Earliest).max_rate_per_partition(4_000_000)), Arc::clone(&seen));
    ssc.start()?;
    let began = monotonic();
    while seen.load(Ordering::SeqCst) < records {
        if ssc.await_termination_or_timeout(millis(1))? {
            break;
        }
    }
    let took = monotonic() - began;
    ssc.stop()?;
    Ok(records as f64 / took.as_secs_f64() / 1e6)
}

fn count(stream: &DStream<Record>, seen: Arc<AtomicU64>) {
    stream.foreach_rdd(move |rdd, _| {
        seen.fetch_add(rdd.count()?, Ordering::SeqCst);
        Ok(())
    });
}

fn records(words: &[String], otherwise: u64) -> u64 {
    words.first().and_then(|word| word.parse().ok()).unwrap_or(otherwise)
}

pub(crate) fn read(words: &[String]) -> Result<()> {
    let records = records(words, 6_000_000);
    let topic = topic("read", PARTITIONS)?;
    println!("read: {PARTITIONS} partitions, uncompressed");
    fill(&topic, PARTITIONS, records)?;
    let source = || direct(brokers()).subscribe([&topic]);
    for _ in 0..2 {
        let bare = bare(&topic, records)?;
        let fast = stream(source(), records, |stream, seen| count(&stream, seen))?;
        println!("  direct stream, count, own fetches: {fast:.2} M records/s, {:.1} × the bare loop", fast / bare);
        let client = stream(source().read_by(ReadBy::Client), records, |stream, seen| count(&stream, seen))?;
        println!("  direct stream, count, librdkafka: {client:.2} M records/s, {:.1} × the bare loop", client / bare);
    }
    Ok(())
}

pub(crate) fn words(words: &[String]) -> Result<()> {
    let records = records(words, 6_000_000);
    let topic = topic("words", PARTITIONS)?;
    println!("words: counts of words, {PARTITIONS} partitions");
    fill(&topic, PARTITIONS, records)?;
    for _ in 0..2 {
        println!("  {:.2} M records/s", count_words(&topic, records)?);
    }
    Ok(())
}

/// Counts the words of a topic. Returns how many millions of records a second.
fn count_words(topic: &str, records: u64) -> Result<f64> {
    stream(direct(brokers()).subscribe([topic]), records, |stream, seen| {
        let lines = stream.flat_map(|record| record.to_text());
        let counts = lines.flat_map(|line| line.split(' ')).map(|word| (word, 1u64)).reduce_by_key(|a, b| a + b);
        counts.foreach_rdd(|rdd, _| rdd.count().map(drop));
        // Behind the words, by offsets alone: no record has none here.
        stream.foreach_rdd(move |rdd, _| {
            let ranges = offset_ranges(&rdd).unwrap_or_default();
            seen.fetch_add(ranges.iter().map(OffsetRange::count).sum(), Ordering::SeqCst);
        });
    })
}

/// The word count beside another program's, which is given the brokers and the topic, and says `NAME RECORDS_A_SECOND`.
pub(crate) fn beside(words: &[String]) -> Result<()> {
    let usage = || Error::new(ErrorKind::Config, "beside RECORDS PROGRAM WORDS…");
    let (records, rest) = words.split_first().ok_or_else(usage)?;
    let (program, rest) = rest.split_first().ok_or_else(usage)?;
    let records: u64 = records.parse().map_err(|_| usage())?;
    let topic = topic("beside", PARTITIONS)?;
    fill(&topic, PARTITIONS, records)?;
    let before = count_words(&topic, records)?;
    println!("  millstream: {before:.2} M records/s");
    let output = Command::new(program).args(rest).args([brokers(), topic.clone()]).stderr(Stdio::inherit()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let line = said.lines().last().unwrap_or_default();
    let other = line.split_whitespace().last().and_then(|rate| rate.parse::<f64>().ok()).filter(|rate| *rate > 0.0);
    let other =
        other.ok_or_else(|| Error::new(ErrorKind::Data, format!("{program} says nothing of a rate: {said}")))?;
    println!("  {line}: {:.2} M records/s", other / 1e6);
    let after = count_words(&topic, records)?;
    println!("  millstream again: {after:.2} M records/s");
    println!(
        "  millstream is {:.1} to {:.1} times as fast",
        before.min(after) * 1e6 / other,
        before.max(after) * 1e6 / other
    );
    Ok(())
}

pub(crate) fn partitions(_: &[String]) -> Result<()> {
    const MANY: i32 = 1000;
    let topic = topic("many", MANY)?;
    println!("partitions: {MANY} of them, nothing in them");
    let ssc = StreamingContext::new("local[2]", "many", millis(500))?;
    // A broker that has just made so many is not ready at once.
    let patient = millstream_kafka::Brokers::at(brokers()).answer_within(secs(60));
    ssc.input(direct(patient).subscribe([&topic]).start(Start::Earliest)).foreach_rdd(|_, _| Ok(()));
    let told = crate::latency::Told::default();
    ssc.add_streaming_listener(told.clone());
    ssc.start()?;
    ssc.await_termination_or_timeout(secs(15))?;
    ssc.stop()?;
    told.show("waking to handing over");
    Ok(())
}

pub(crate) fn memory(_: &[String]) -> Result<()> {
    const MANY: i32 = 100;
    let topic = topic("memory", MANY)?;
    let (producer, value) = (crate::shared::producer()?, [b'x'; 1000]);
    for i in 0..600_000 {
        send(&producer, &topic, Some(i % MANY), &value)?;
    }
    rdkafka::producer::Producer::flush(&producer, secs(120)).map_err(Error::user)?;
    drop(producer);
    let before = resident();
    let ssc = StreamingContext::new("local[2]", "memory", millis(200))?;
    let stream = ssc.input(direct(brokers()).subscribe([&topic]).start(Start::Earliest).max_rate_per_partition(1000));
    count(&stream, Arc::default());
    ssc.start()?;
    let mut most = before;
    for _ in 0..300 {
        ssc.await_termination_or_timeout(Duration::from_millis(20))?;
        most = most.max(resident());
    }
    ssc.stop()?;
    println!("memory: {MANY} partitions that lag by 6 MB each: {before:.0} MB before, {most:.0} MB at most");
    Ok(())
}
