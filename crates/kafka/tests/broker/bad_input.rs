//! What cannot work ends within a bounded time, with an error that names broker and topic.

use std::net::TcpListener;

use millstream_core::clock::monotonic;
use millstream_core::{Context, Error};
use millstream_core::{ErrorKind, millis, secs};
use millstream_kafka::{Brokers, Direct, Isolation, ReadBy, Start, all_of, direct, rdd_by};
use millstream_testkit::StreamTest;
use rdkafka::producer::{BaseRecord, Producer};

use crate::common::{PATIENCE, brokers, producer, topic, topic_with, write};

pub(crate) fn start(source: Direct) -> Error {
    let mut test = StreamTest::new();
    test.ssc().input(source).count().print();
    let began = monotonic();
    let error = test.run(1).unwrap_err();
    assert!(monotonic() - began < secs(15), "{error}");
    error
}

#[test]
fn no_broker_a_silent_one_and_one_of_another_protocol_are_named() {
    // A port that nobody listens on any more.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent_at = silent.local_addr().unwrap().to_string();
    let sasl = std::env::var("MILLSTREAM_KAFKA_SASL").unwrap();
    for (at, what) in [(&free, "nobody"), (&silent_at, "silent"), (&sasl, "another protocol")] {
        let error = start(direct(Brokers::at(at).answer_within(secs(2))).subscribe(["t"]));
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{what}: {error}");
        assert!(error.to_string().contains(at.as_str()) && error.to_string().contains("topic t"), "{what}: {error}");
    }
}

/// The broker as a user sees it who has a name and a password.
pub(crate) fn user(name: &str, password: &str) -> Brokers {
    Brokers::at(std::env::var("MILLSTREAM_KAFKA_SASL").unwrap())
        .set("security.protocol", "SASL_PLAINTEXT")
        .set("sasl.mechanism", "PLAIN")
        .set("sasl.username", name)
        .set("sasl.password", password)
        .answer_within(secs(3))
}

/// The broker by TLS, whose certificate is trusted by who has that of its authority.
fn tls(trusting: &str) -> Brokers {
    let home = std::env::var("MILLSTREAM_KAFKA_HOME").unwrap();
    Brokers::at(std::env::var("MILLSTREAM_KAFKA_TLS").unwrap())
        .set("security.protocol", "SSL")
        .set("ssl.ca.location", format!("{home}/{trusting}"))
        .answer_within(secs(3))
}

#[test]
fn by_tls_librdkafka_reads_and_who_does_not_trust_the_broker_is_told() {
    let a = topic("tls", 2);
    (0..2).for_each(|p| write(&a, p, (0..50).map(|n| format!("{p} {n}"))));
    let mut test = StreamTest::new();
    let stream = test.ssc().input(direct(tls("authority.pem")).subscribe([&a]).start(Start::Earliest));
    let counts = test.collect(&stream.count());
    test.run(2).unwrap();
    assert_eq!(counts.table().to_string().split_whitespace().collect::<Vec<_>>(), ["1s", "100", "2s", "0"]);
    // Trusted is another authority, which happens to be no authority at all.
    let error = start(direct(tls("stranger.pem")).subscribe([&a]));
    let at = std::env::var("MILLSTREAM_KAFKA_TLS").unwrap();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains(&at) && error.to_string().contains("certificate"), "{error}");
}

#[test]
fn tls_where_the_broker_speaks_in_the_clear_and_the_clear_where_it_speaks_tls_are_told() {
    let in_the_clear = Brokers::at(brokers().named()).set("security.protocol", "SSL").answer_within(secs(3));
    let by_tls = Brokers::at(std::env::var("MILLSTREAM_KAFKA_TLS").unwrap()).answer_within(secs(3));
    for (brokers, want) in [(in_the_clear, "SSL"), (by_tls, "security.protocol")] {
        let error = start(direct(brokers.clone()).subscribe(["t"]));
        assert!(matches!(error.kind(), ErrorKind::Config | ErrorKind::Unavailable), "{error}");
        let text = error.to_string();
        assert!(text.contains(brokers.named()) && text.contains("topic t") && text.contains(want), "{text}");
    }
}

#[test]
fn a_user_who_may_not_read_is_told_of_what() {
    let a = topic("forbidden", 1);
    write(&a, 0, ["x"]);
    // He may know nothing of it.
    let error = start(direct(user("bob", "nothing-allowed")).subscribe([&a]));
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let text = error.to_string();
    assert!(text.contains(&a) && text.contains("access rules") && !text.contains("nothing-allowed"), "{text}");
}

#[test]
fn a_record_of_50_megabytes_is_read_and_one_that_is_larger_than_allowed_is_told() {
    const LEN: usize = 50 << 20;
    let a = topic_with("huge", 1, &[("max.message.bytes", "60000000")]);
    let producer = producer(&[("message.max.bytes", "60000000")]);
    let value = "m".repeat(LEN);
    producer.send::<str, str>(BaseRecord::to(&a).payload(&value)).map_err(|(error, _)| error).unwrap();
    producer.flush(PATIENCE).unwrap();
    drop((producer, value));
    let context = Context::new("local[1]", "huge").unwrap();
    for read_by in [ReadBy::Fastest, ReadBy::Client] {
        let all = all_of(brokers(), [&a]).unwrap();
        let rdd = rdd_by(&context, brokers(), all, Isolation::ReadCommitted, read_by).unwrap();
        assert_eq!(rdd.map(|record| record.value().map_or(0, <[u8]>::len) as u64).collect().unwrap(), [LEN as u64]);
    }
    let error = start(direct(brokers()).subscribe([&a]).start(Start::Earliest).fetch_memory(8 << 20));
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    assert!(error.to_string().contains("raise fetch_memory"), "{error}");
}

#[test]
fn a_wrong_password_is_told_and_no_secret_is() {
    let a = topic("secret", 1);
    write(&a, 0, ["x"]);
    let sasl = |password: &str| user("ann", password);
    let error = start(direct(sasl("wrong-sesame")).subscribe([&a]));
    let text = format!("{error} {error:?}");
    assert!(text.contains("uthenti") && !text.contains("sesame"), "{text}");

    let mut test = StreamTest::new();
    let source = direct(sasl("open-sesame")).subscribe([&a]).start(Start::Earliest);
    let shown = format!("{source:?}");
    let stream = test.ssc().input(source);
    let counts = test.collect(&stream.count());
    let explained = test.ssc().explain();
    test.run(1).unwrap();
    assert_eq!(counts.table().to_string().trim(), "1s 1", "the right one is let in");
    assert!(explained.contains(&a) && explained.contains("read_committed"), "{explained}");
    assert!(!format!("{shown}{explained}").contains("sesame"));

    // A setting whose value is wrong and secret.
    let bad = Brokers::at("127.0.0.1:1").set("ssl.key.pem", "hush-hush").set("security.protocol", "ssl");
    let text = start(direct(bad).subscribe(["t"])).to_string();
    assert!(!text.contains("hush"), "{text}");
}

#[test]
fn a_topic_that_is_not_there_and_a_setting_that_is_none_are_named() {
    let error = start(direct(brokers()).subscribe(["not-there"]));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("topic not-there is not at the brokers"), "{error}");
    let a = topic("one", 1);
    let error = start(direct(brokers()).assign([(&*a, 0), (&*a, 7)]));
    assert!(error.to_string().contains(&format!("partition {a}/7 is not at the brokers")), "{error}");
    let error = start(direct(brokers().set("no.such.setting", "1")).subscribe([&a]));
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("no.such.setting"), "{error}");
    let error = start(direct(brokers().answer_within(millis(1))).subscribe([&a]));
    assert!(error.to_string().contains("give it some seconds"), "{error}");
}
