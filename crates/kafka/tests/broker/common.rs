//! What the tests share: the broker, topics of a test's own, and records that are written to them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::{millis, secs};
use millstream_kafka::{Admin, Brokers};
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

/// What the broker does takes no longer than that.
pub(crate) const PATIENCE: Duration = secs(30);

pub(crate) fn brokers() -> Brokers {
    Brokers::at(std::env::var("MILLSTREAM_KAFKA").expect("MILLSTREAM_KAFKA says where the broker is"))
}

pub(crate) fn admin() -> Admin {
    Admin::of(brokers()).unwrap()
}

/// Returns a name that nobody has had before.
pub(crate) fn fresh(name: &str) -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let now = millstream_core::clock::wall_time().as_millis();
    format!("{name}-{}-{now}-{number}", std::process::id())
}

/// Makes a topic.
pub(crate) fn topic(name: &str, partitions: i32) -> String {
    topic_with(name, partitions, &[])
}

pub(crate) fn topic_with(name: &str, partitions: i32, settings: &[(&str, &str)]) -> String {
    let name = fresh(name);
    admin().create_topic(&name, partitions, settings).unwrap();
    name
}

pub(crate) fn producer(settings: &[(&str, &str)]) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers().named()).set("linger.ms", "1");
    for (key, value) in settings {
        config.set(*key, *value);
    }
    config.create().unwrap()
}

pub(crate) fn send(producer: &BaseProducer, topic: &str, partition: i32, key: Option<&str>, value: &str) {
    let mut record = BaseRecord::to(topic).partition(partition).payload(value);
    if let Some(key) = key {
        record = record.key(key);
    }
    producer.send::<str, str>(record).map_err(|(error, _)| error).unwrap();
    producer.poll(Duration::ZERO);
}

/// Writes records, and waits until they are there.
pub(crate) fn write<V: AsRef<str>>(topic: &str, partition: i32, values: impl IntoIterator<Item = V>) {
    let producer = producer(&[]);
    values.into_iter().for_each(|value| send(&producer, topic, partition, None, value.as_ref()));
    producer.flush(PATIENCE).unwrap();
}

/// Writes records in a transaction, which is committed or aborted.
pub(crate) fn write_in_transaction<V: AsRef<str>>(
    topic: &str,
    partition: i32,
    values: impl IntoIterator<Item = V>,
    commit: bool,
) {
    let producer = transaction(topic, partition, values);
    if commit { producer.commit_transaction(PATIENCE) } else { producer.abort_transaction(PATIENCE) }.unwrap();
}

/// Writes records in a transaction, which stays open.
pub(crate) fn transaction<V: AsRef<str>>(
    topic: &str,
    partition: i32,
    values: impl IntoIterator<Item = V>,
) -> BaseProducer {
    let producer = producer(&[("transactional.id", &fresh("writer"))]);
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    values.into_iter().for_each(|value| send(&producer, topic, partition, None, value.as_ref()));
    producer.flush(PATIENCE).unwrap();
    producer
}

/// Waits for something outside of this process, and looks now and then.
pub(crate) fn await_that(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = monotonic() + PATIENCE;
    while !is() {
        assert!(monotonic() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::park_timeout(millis(20));
    }
}
