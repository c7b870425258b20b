//! What is secret is in nothing that a program shows or keeps: log, events, explain, errors, checkpoint.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use millstream_core::threads::lock;
use millstream_core::{ErrorKind, secs};
use millstream_kafka::{Brokers, KafkaSink, SaveToKafka as _, Start, direct};
use millstream_streaming::{BatchInfo, OutputOperationInfo, StateSpec, StreamingListener};
use millstream_testkit::StreamTest;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::common::{fresh, topic, write};
use crate::sink::texts;

/// What is said, in one text.
#[derive(Clone, Default)]
pub(crate) struct Said(pub(crate) Arc<Mutex<String>>);

impl Said {
    fn add(&self, text: &str) {
        let mut said = lock(&self.0);
        said.push_str(text);
        said.push('\n');
    }
}

impl Subscriber for Said {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, span: &Attributes<'_>) -> Id {
        self.add(&format!("{span:?}"));
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, values: &Record<'_>) {
        self.add(&format!("{values:?}"));
    }
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        self.add(&format!("{event:?}"));
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

impl StreamingListener for Said {
    fn on_batch_submitted(&self, batch: &BatchInfo) {
        self.add(&format!("{batch:?}"));
    }
    fn on_batch_completed(&self, batch: &BatchInfo) {
        self.add(&format!("{batch:?}"));
    }
    fn on_output_operation_completed(&self, output: &OutputOperationInfo) {
        self.add(&format!("{output:?}"));
    }
}

/// Returns the bytes of all files in a folder, and how many there are.
fn all_bytes(folder: &Path) -> (usize, Vec<u8>) {
    let mut found = (0, Vec::new());
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            let (files, bytes) = all_bytes(&entry.path());
            found.0 += files;
            found.1.extend(bytes);
        } else {
            found.0 += 1;
            found.1.extend(fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn holds(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|some| some == word.as_bytes())
}

#[test]
fn no_secret_is_in_the_log_the_events_explain_the_errors_or_the_checkpoint() {
    let sasl = |password: &str| {
        Brokers::at(std::env::var("MILLSTREAM_KAFKA_SASL").unwrap())
            .set("security.protocol", "SASL_PLAINTEXT")
            .set("sasl.mechanism", "PLAIN")
            .set("sasl.username", "ann")
            .set("sasl.password", password)
            // What the client says of itself in full is in the log, too.
            .set("debug", "conf,security,eos,cgrp")
            .answer_within(secs(5))
    };
    let (from, to, said, folder) = (topic("in", 1), topic("out", 2), Said::default(), tempfile::tempdir().unwrap());
    write(&from, 0, ["a", "b", "a"]);
    let run = |password: &str, sink: &str| {
        let mut test = StreamTest::new();
        test.ssc().checkpoint(folder.path().join(sink)).unwrap();
        test.ssc().add_streaming_listener(said.clone());
        let source = direct(sasl(password)).group(fresh("secret")).subscribe([&from]).start(Start::Earliest);
        said.add(&format!("{source:?}"));
        let counts = test
            .ssc()
            .input(source)
            .flat_map(|record| record.to_text())
            .map(|word| (word, 1u64))
            .map_with_state(StateSpec::function(|word: &millstream_core::Text, one: Option<u64>, state| {
                let n = state.get_option().copied().unwrap_or(0) + one.unwrap_or(0);
                state.update(n);
                format!("{word} {n}")
            }))
            .uid("counts");
        let to_sink = KafkaSink::to(sasl(password), &to).write_within(secs(5));
        said.add(&format!("{to_sink:?}"));
        counts.save_to_kafka(if sink == "often" { to_sink.at_least_once() } else { to_sink }).uid(fresh(sink));
        said.add(&test.ssc().explain());
        test.run(2)
    };
    // Without a thread of its own nothing is logged elsewhere: the client's threads say what they say to whoever is there for all.
    tracing::subscriber::set_global_default(said.clone()).unwrap();
    run("open-sesame", "once").unwrap();
    run("open-sesame", "often").unwrap();
    let error = run("wrong-sesame", "wrong").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    said.add(&format!("{error} {error:?}"));
    let mut written = texts(&to);
    written.sort();
    assert_eq!(written, ["a 1", "a 1", "a 2", "a 2", "b 1", "b 1"], "it was said while all of it worked");

    let text = lock(&said.0).clone();
    for there in [&*from, &to, "uthentication", "SASL_PLAINTEXT", "not shown"] {
        assert!(text.contains(there), "{there} is said: this test would see what is said");
    }
    let (files, kept) = all_bytes(folder.path());
    assert!(files > 3 && holds(&kept, &from), "{files} files");
    for secret in ["open-sesame", "wrong-sesame", "sesame"] {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is said");
        assert!(!holds(&kept, secret), "{secret} is in the checkpoint");
    }
}
