//! What cannot work ends within a bounded time, with an error that names broker and topic.

use std::net::TcpListener;

use millstream_core::clock::monotonic;
use millstream_core::{ErrorKind, millis, secs};
use millstream_kafka::{Brokers, Direct, direct};
use millstream_testkit::StreamTest;

use crate::common::{brokers, topic, write};

fn start(source: Direct) -> millstream_core::Error {
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

#[test]
fn a_wrong_password_is_told_and_no_secret_is() {
    let a = topic("secret", 1);
    write(&a, 0, ["x"]);
    let sasl = |password: &str| {
        Brokers::at(std::env::var("MILLSTREAM_KAFKA_SASL").unwrap())
            .set("security.protocol", "SASL_PLAINTEXT")
            .set("sasl.mechanism", "PLAIN")
            .set("sasl.username", "ann")
            .set("sasl.password", password)
            .answer_within(secs(3))
    };
    let error = start(direct(sasl("wrong-sesame")).subscribe([&a]));
    let text = format!("{error} {error:?}");
    assert!(text.contains("uthenti") && !text.contains("sesame"), "{text}");

    let mut test = StreamTest::new();
    let source = direct(sasl("open-sesame")).subscribe([&a]).start(millstream_kafka::Start::Earliest);
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
