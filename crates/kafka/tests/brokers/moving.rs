//! Three brokers, of which each is killed once and comes back: leaders, coordinators and the controller move, and each record
//! is read once and written once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::threads::lock;
use millstream_core::{Context, secs};
use millstream_kafka::{KafkaSink, NewRecord, ReadBy, SaveToKafka as _, Start, all_of, direct, rdd};
use millstream_testkit::StreamTest;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::nodes::{Nodes, PATIENCE, alone, await_that};

const PARTITIONS: i32 = 3;

/// How many records are written at a time, to all partitions.
const SOME: i32 = 300;

/// What is told of a batch: how long it took, and what it asked for.
struct Took {
    time: Duration,
    metadata: u64,
}

/// A broker that is killed when a record is read.
type Victim = Arc<Mutex<Option<(String, usize)>>>;

/// Writes numbers, and waits until they are there; all copies have them.
struct Numbers {
    producer: BaseProducer,
    topic: String,
    next: i32,
}

impl Numbers {
    fn write(&mut self) {
        for n in self.next..self.next + SOME {
            let value = n.to_string();
            let record: BaseRecord<'_, str, str> =
                BaseRecord::to(&self.topic).partition(n % PARTITIONS).payload(&value);
            self.producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        self.producer.flush(PATIENCE).unwrap();
        self.next += SOME;
    }
}

/// What is in each partition of a topic, and committed.
fn there(nodes: &Nodes, topic: &str) -> BTreeMap<i32, Vec<String>> {
    let context = Context::new("local[1]", "there").unwrap();
    let all = rdd(&context, nodes.directly(), all_of(nodes.directly(), [topic]).unwrap()).unwrap();
    let mut found: BTreeMap<i32, Vec<String>> = BTreeMap::new();
    for record in all.collect().unwrap() {
        found.entry(record.partition()).or_default().push(record.text().unwrap_or("-").to_owned());
    }
    found
}

#[test]
fn leaders_and_coordinators_move_and_each_record_is_read_once_and_written_once() {
    let _one = alone();
    let nodes = Arc::new(Nodes::start(3, &[]));
    let input = nodes.topic("in", PARTITIONS);
    let producer = ClientConfig::new()
        .set("bootstrap.servers", &nodes.direct)
        .set("enable.idempotence", "true")
        .set("reconnect.backoff.max.ms", "500")
        .set("log_level", "0")
        .create()
        .unwrap();
    let mut numbers = Numbers { producer, topic: input.clone(), next: 0 };
    let (mut test, folder, victim) = (StreamTest::new(), tempfile::tempdir().unwrap(), Victim::default());
    test.ssc().checkpoint(folder.path()).unwrap();
    let outputs = [("fast", ReadBy::Fastest), ("client", ReadBy::Client)];
    for (name, read_by) in outputs {
        let topic = nodes.topic(name, PARTITIONS);
        let source = direct(nodes.brokers()).subscribe([&*input]).start(Start::Earliest).read_by(read_by);
        let (killer, victim) = (Arc::clone(&nodes), Arc::clone(&victim));
        let records = test.ssc().input(source.patience(secs(60)).brokers_may_be_away(secs(60))).map(move |record| {
            let text = record.text().unwrap_or("-");
            if let Some((_, node)) = lock(&victim).take_if(|(at, _)| at == text) {
                killer.kill(node);
            }
            NewRecord::value(text).partition(record.partition())
        });
        records.save_to_kafka(KafkaSink::to(nodes.brokers(), topic).write_within(secs(60))).uid(name);
    }
    let mut run = |what: &str, count: usize| {
        let (began, asked) = (monotonic(), nodes.metadata_requests());
        test.run(count).unwrap_or_else(|error| panic!("{what}: {error}"));
        let took = Took { time: monotonic() - began, metadata: nodes.metadata_requests() - asked };
        eprintln!("{what}: {count} batches in {:?}, {} questions about topics", took.time, took.metadata);
        took
    };
    numbers.write();
    run("first", 2);
    for node in 0..3 {
        numbers.write();
        let quiet = run("quiet", 3);
        assert!(quiet.metadata < 40, "{} questions while nothing happens", quiet.metadata);
        // In the middle of a batch: some of it is read, nothing is written.
        let led = nodes.led(&input);
        let of = led.iter().find(|(_, (leader, _))| *leader == node as i32 + 1).map_or(0, |(partition, _)| *partition);
        *lock(&victim) = Some(((numbers.next + PARTITIONS * 40 + of).to_string(), node));
        numbers.write();
        let moved = run(&format!("broker {} is killed", node + 1), 1);
        assert!(lock(&victim).is_none() && nodes.has_ended(node), "the broker was killed while the batch was read");
        assert!(moved.time < secs(45), "the batch was delayed for {:?}", moved.time);
        assert!(moved.metadata < 300, "{} questions about topics", moved.metadata);
        numbers.write();
        run("two brokers", 2);
        // What moves back moves by itself, while batches run.
        nodes.begin(node);
        numbers.write();
        run("it comes back", 1);
        nodes.await_all();
        await_that("all copies are up to date, and leaders are back", || {
            let led = nodes.led(&input);
            let leaders: std::collections::BTreeSet<i32> = led.values().map(|(leader, _)| *leader).collect();
            led.len() == 3 && leaders.len() == 3 && led.values().all(|(_, copies)| *copies == 3)
        });
        numbers.write();
        let back = run("leaders have moved back", 1);
        assert!(back.time < secs(30), "the batch was delayed for {:?}", back.time);
    }
    run("last", 2);
    drop(test);
    let want = there(&nodes, &input);
    assert_eq!(want.values().map(Vec::len).sum::<usize>(), numbers.next as usize);
    for (name, _) in outputs {
        let got = there(&nodes, name);
        for (partition, want) in &want {
            let got = &got[partition];
            let wrong = want.iter().zip(got).position(|(want, got)| want != got);
            assert!(want == got, "{name}/{partition}: {} and not {}, first at {wrong:?}", got.len(), want.len());
        }
    }
}
