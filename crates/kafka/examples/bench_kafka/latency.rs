//! How soon records are seen, and what an empty batch costs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use millstream_core::clock::wall_time;
use millstream_core::threads::{self, lock};
use millstream_core::{Result, millis, secs};
use millstream_kafka::{Direct, KafkaSink, SaveToKafka as _, Start, direct};
use millstream_streaming::{BatchInfo, RddQueue, State, StateSpec, StreamingContext, StreamingListener};

use crate::shared::{Sent, age, brokers, load, spread, topic};

/// How long batches took to be handed over, in all, and in the transaction of an output, in milliseconds.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Mutex<(Vec<f64>, Vec<f64>, Vec<f64>)>>);

impl StreamingListener for Told {
    fn on_batch_completed(&self, batch: &BatchInfo) {
        let mut times = lock(&self.0);
        times.0.push(batch.stamps.submitted.as_secs_f64() * 1e3);
        times.1.extend(batch.stamps.ended.map(|ended| ended.as_secs_f64() * 1e3));
        let micros = batch.outputs.iter().filter_map(|output| output.metadata.get("transaction_micros"));
        times.2.extend(micros.filter_map(|micros| micros.parse::<f64>().ok()).map(|micros| micros / 1e3));
    }
}

impl Told {
    pub(crate) fn show(&self, what: &str) {
        let mut times = lock(&self.0);
        println!("  {what}, ms: {}", spread(&mut times.0));
        println!("  to the end of the last output, ms: {}", spread(&mut times.1));
        if !times.2.is_empty() {
            println!("  in the transaction, ms: {}", spread(&mut times.2));
        }
    }
}

pub(crate) fn empty(_: &[String]) -> Result<()> {
    println!("empty: batches of 20 ms without records");
    let topic = topic("empty", 3)?;
    let run = |kafka: bool| -> Result<()> {
        let ssc = StreamingContext::new("local[2]", "empty", millis(20))?;
        if kafka {
            ssc.input(direct(brokers()).subscribe([&topic])).foreach_rdd(|rdd, _| rdd.count().map(drop));
        } else {
            ssc.queue_stream(&RddQueue::<u64>::new()).foreach_rdd(|rdd, _| rdd.count().map(drop));
        }
        let told = Told::default();
        ssc.add_streaming_listener(told.clone());
        ssc.start()?;
        ssc.await_termination_or_timeout(secs(8))?;
        ssc.stop()?;
        told.show(if kafka {
            "Kafka, 3 partitions: waking to handing over"
        } else {
            "a queue: waking to handing over"
        });
        Ok(())
    };
    run(false)?;
    run(true)
}

/// For how long records have been under way: since they were sent, until the broker took them, and since then.
#[derive(Default)]
struct Ages {
    sent: Vec<f64>,
    before: Vec<f64>,
    taken: Vec<f64>,
}

fn ages(source: Direct, every: u64) -> Result<(StreamingContext, Arc<Mutex<Ages>>)> {
    let ssc = StreamingContext::new("local[2]", "seen", millis(every))?;
    let ages = Arc::<Mutex<Ages>>::default();
    let noted = Arc::clone(&ages);
    ssc.input(source).foreach_rdd(move |rdd, _| {
        let of = rdd.flat_map(|record| {
            let taken = wall_time().as_millis() - record.timestamp()?.as_millis();
            Some((age(record.value()?)?, taken as f64))
        });
        let mut noted = lock(&noted);
        for (sent, taken) in of.collect()? {
            noted.sent.push(sent);
            noted.before.push((sent - taken).max(0.0));
            noted.taken.push(taken);
        }
        Ok(())
    });
    Ok((ssc, ages))
}

/// What the client does if it is told nothing. Without a wait each record is a request of its own, and a broker that has
/// a core with others takes fewer than come.
fn settings(told: &[String]) -> Vec<String> {
    if told.is_empty() { vec!["linger.ms=5".to_owned()] } else { told.to_vec() }
}

/// Sends for some seconds while `during` runs.
fn loaded(topic: &str, rate: u64, settings: Vec<String>, during: impl FnOnce(&Sent) -> Result<()>) -> Result<()> {
    let (over, sent) = (Arc::<AtomicBool>::default(), Sent::default());
    let (ends, name, told) = (Arc::clone(&over), topic.to_owned(), sent.clone());
    let thread = threads::spawn("load", move || {
        if let Err(error) = load((&name, 3, rate), &settings, &ends, told) {
            println!("the load failed: {error}");
        }
    })?;
    let done = during(&sent);
    over.store(true, Ordering::SeqCst);
    thread.join();
    done
}

/// What is said behind `seen` are settings of the producer, as `linger.ms=5`; and `sticky`.
pub(crate) fn seen(told: &[String]) -> Result<()> {
    let (topic, settings) = (topic("seen", 3)?, settings(told));
    println!("seen: 10,000 records a second, batches of 5 ms; from sending to a task that has it, ms; {settings:?}");
    loaded(&topic, 10_000, settings, |sending| {
        let (ssc, ages) = ages(direct(brokers()).subscribe([&topic]), 5)?;
        let told = Told::default();
        ssc.add_streaming_listener(told.clone());
        ssc.start()?;
        ssc.await_termination_or_timeout(secs(4))?;
        *lock(&ages) = Ages::default();
        sending.forget();
        ssc.await_termination_or_timeout(secs(10))?;
        ssc.stop()?;
        let mut ages = lock(&ages);
        println!("  since it was sent: {}", spread(&mut ages.sent));
        println!("  until the broker took it (to the millisecond): {}", spread(&mut ages.before));
        println!("  since the broker took it (to the millisecond): {}", spread(&mut ages.taken));
        sending.show();
        told.show("waking to handing over");
        Ok(())
    })
}

pub(crate) fn through(told: &[String]) -> Result<()> {
    for every in [20, 50] {
        let (from, to) = (topic("from", 3)?, topic("to", 3)?);
        println!("through: 10,000 records a second, Kafka → state → Kafka exactly once, batches of {every} ms, ms");
        let folder = std::env::temp_dir().join(&to);
        loaded(&from, 10_000, settings(told), |_| {
            let source = direct(brokers()).subscribe([&from]).start(Start::Latest);
            let ssc = StreamingContext::get_or_create(&folder, millis(every), |ssc| {
                let counted = StateSpec::function(|_: &u64, value: Option<Vec<u8>>, count: &mut State<'_, u64>| {
                    let n = count.get_option().map_or(1, |n| n + 1);
                    count.update(n);
                    value
                });
                ssc.input(source)
                    .flat_map(|record| Some((record.offset() as u64 % 10_000, record.value()?.to_vec())))
                    .map_with_state(counted)
                    .flat_map(|value| value)
                    .save_to_kafka(KafkaSink::to(brokers(), &to));
                Ok(())
            })?;
            let told = Told::default();
            ssc.add_streaming_listener(told.clone());
            ssc.start()?;
            // Who reads what is committed, as soon as it is.
            let over = Arc::<AtomicBool>::default();
            let (ends, name) = (Arc::clone(&over), to.clone());
            let seen = Arc::<Mutex<Vec<f64>>>::default();
            let noted = Arc::clone(&seen);
            let judge = threads::spawn("judge", move || judge(&name, &ends, &noted))?;
            ssc.await_termination_or_timeout(secs(4))?;
            lock(&seen).clear();
            ssc.await_termination_or_timeout(secs(10))?;
            over.store(true, Ordering::SeqCst);
            judge.join();
            ssc.stop()?;
            println!("  end to end: {}", spread(&mut lock(&seen)));
            told.show("waking to handing over");
            Ok(())
        })?;
        drop(std::fs::remove_dir_all(&folder));
    }
    Ok(())
}

fn judge(topic: &str, over: &AtomicBool, seen: &Mutex<Vec<f64>>) {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka::message::Message;
    let consumer: Option<BaseConsumer> = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", brokers())
        .set("group.id", "judge")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "50")
        .create()
        .ok();
    let mut list = rdkafka::TopicPartitionList::new();
    (0..3).for_each(|p| drop(list.add_partition_offset(topic, p, rdkafka::Offset::Beginning)));
    let Some(consumer) = consumer.filter(|consumer| consumer.assign(&list).is_ok()) else { return };
    while !over.load(Ordering::SeqCst) {
        if let Some(Ok(message)) = consumer.poll(millis(20)) {
            lock(seen).extend(message.payload().and_then(age));
        }
    }
}
