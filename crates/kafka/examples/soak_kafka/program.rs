//! The program that is killed: numbered records → a count for each key → Kafka, each batch once.

use millstream_core::{Error, ErrorKind, Result, millis};
use millstream_kafka::{KafkaSink, NewRecord, SaveToKafka as _, Start, direct};
use millstream_streaming::{State, StateSpec, StreamingContext};

/// How many keys there are.
pub(crate) const KEYS: u64 = 50;

/// How many partitions the topics have.
pub(crate) const PARTITIONS: i32 = 4;

/// Runs it: brokers, source, sink, checkpoint directory.
pub(crate) fn run(words: &[String]) -> Result<()> {
    let [brokers, from, to, checkpoint] = words else {
        return Err(Error::new(ErrorKind::Config, "child BROKERS FROM TO CHECKPOINT"));
    };
    // What this process does is in its log, if something goes wrong.
    tracing::subscriber::set_global_default(crate::log::Log).map_err(Error::user)?;
    let ssc = StreamingContext::get_or_create(checkpoint, millis(50), |ssc| {
        let source = direct(brokers.as_str()).group(format!("{to}-group")).subscribe([from]).start(Start::Earliest);
        let counted = StateSpec::function(|key: &u64, number: Option<u64>, count: &mut State<'_, u64>| {
            let n = count.get_option().map_or(1, |n| n + 1);
            count.update(n);
            (*key, number.unwrap_or(0), n)
        });
        ssc.input(source)
            .flat_map(|record| record.text().and_then(|text| text.parse::<u64>().ok()))
            .map(|number| (number % KEYS, number))
            .map_with_state(counted)
            .uid("counts")
            .map(|(key, number, n)| {
                NewRecord::value(format!("{number} {n}"))
                    .key(key.to_string())
                    .partition((key % PARTITIONS as u64) as i32)
            })
            .save_to_kafka(KafkaSink::to(brokers.as_str(), to))
            .uid("out");
        Ok(())
    })?;
    ssc.start()?;
    ssc.await_termination()
}
