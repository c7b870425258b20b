//! Topics as a sink: at least once, by an idempotent producer, or exactly once, by transactions that carry the batch's
//! time.

mod aside;
mod exactly_once;
mod marker;
mod producer;
mod record;

use std::sync::Arc;
use std::time::Duration;

use millstream_core::{CallSite, Data, ErrorKind, Result, millis, secs};
use millstream_streaming::{DStream, Output};

use self::exactly_once::ExactlyOnce;
pub use self::exactly_once::WrittenBatch;
use self::producer::{PRODUCERS, Plain};
pub use self::record::{NewRecord, ToRecord};
use crate::settings::Brokers;

/// A transaction takes some milliseconds: batches that come more often wait for it.
const SHORT: Duration = millis(20);

/// Where and how batches are written: given to [`save_to_kafka`](SaveToKafka::save_to_kafka).
///
/// # Example
///
/// ```no_run
/// use millstream_kafka::{KafkaSink, SaveToKafka as _};
///
/// # fn program(counts: millstream_streaming::DStream<(String, u64)>) {
/// let sink = KafkaSink::to("broker:9092", "counts");
/// counts.map(|(word, n)| (word, n.to_string())).save_to_kafka(sink).uid("counts");
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct KafkaSink {
    pub(crate) brokers: Brokers,
    pub(crate) topic: String,
    exactly_once: bool,
    pub(crate) patience: Duration,
}

impl KafkaSink {
    /// Writes to a topic, which must be there. Records may name others. A batch is taken exactly once.
    pub fn to(brokers: impl Into<Brokers>, topic: impl Into<String>) -> KafkaSink {
        KafkaSink { brokers: brokers.into(), topic: topic.into(), exactly_once: true, patience: secs(60) }
    }

    /// Writes without transactions: a batch that runs again is written again. Records are there some milliseconds
    /// earlier, and tasks write them where they run.
    #[must_use]
    pub fn at_least_once(self) -> KafkaSink {
        KafkaSink { exactly_once: false, ..self }
    }

    /// Sets how long a batch may take to be written, in all, and a start to take the output over. The default is 60 seconds.
    /// If a commit is in doubt then, the batch fails, and the next start finds out whether it is there.
    #[must_use]
    pub fn write_within(self, time: Duration) -> KafkaSink {
        KafkaSink { patience: time, ..self }
    }
}

/// Writing streams to topics.
pub trait SaveToKafka {
    /// Writes each batch to Kafka: [exactly once](KafkaSink::to), or [at least once](KafkaSink::at_least_once).
    ///
    /// **Exactly once** holds for who reads with `isolation.level=read_committed`, in a program with a checkpoint
    /// directory. The
    /// records of a batch are one transaction, and in the same transaction a group offset is committed whose value is
    /// the batch's time. A start first fences whoever wrote before, then reads this mark: a batch that it covers is
    /// there and is not written again, any other is, from the same input. The marks lie in the group
    /// `millstream-APP/OUTPUT`, so an output whose marks are to be found again should have a [`uid`](Output::uid). They
    /// must not expire (`offsets.retention.minutes`, a week by default) while the program is away: a start that misses
    /// one refuses. Batches must run one after the other, and none behind one that failed: `start()` refuses
    /// `concurrent_jobs` of more than 1, and `OnFailure::Continue`, with an error of kind `Config`.
    ///
    /// # Errors
    ///
    /// The batch fails, with an error that names brokers and topic: the topic is not there, a record is too long, no
    /// broker answers in time, or another run of the program has taken over. Of two programs with one transactional id, which
    /// is that group, the second is refused at its start if both have checkpoints; else the first one stops.
    ///
    /// # Cost
    ///
    /// Exactly once: the rows of a batch are collected on the driver, and a transaction takes 4 to 6 ms beside the time
    /// to send them, one an output and batch; a batch without rows costs nothing, but for one every six hours that writes the
    /// mark again. One producer an output, kept. How long a transaction took is in
    /// [`OutputOperationInfo::metadata`](millstream_streaming::OutputOperationInfo::metadata): `records`, `transaction_micros`,
    /// `transaction_attempts`. At least once: tasks write, one producer a process for all outputs with the same brokers and
    /// settings, which ends with the last of them.
    ///
    /// # Spark
    ///
    /// There is none: its guide asks the program to write in `foreachRDD`.
    #[track_caller]
    fn save_to_kafka(&self, sink: KafkaSink) -> Output;
}

impl<T: Data + ToRecord> SaveToKafka for DStream<T> {
    #[track_caller]
    fn save_to_kafka(&self, sink: KafkaSink) -> Output {
        let site = CallSite::here("save_to_kafka");
        if sink.exactly_once && self.slide() < SHORT {
            tracing::warn!(
                slide = ?self.slide(),
                "a transaction of Kafka takes some milliseconds: give exactly-once output batches of {SHORT:?} or more"
            );
        }
        CallSite::scope(Some(site), || {
            if sink.exactly_once {
                return self.save_to(ExactlyOnce::new(sink));
            }
            let plain = Plain { brokers: sink.brokers, topic: sink.topic, patience: sink.patience };
            let asked = PRODUCERS.ask(&plain);
            self.foreach_rdd(move |rdd, _| {
                // The producer is kept for as long as the program can come here.
                let _ = &asked;
                let rows = rdd.map(|row: T| row.to_record());
                rows.foreach_partition(millstream_core::capture(Arc::new(plain.clone()), write_all))
            })
        })
    }
}

/// Writes a partition, in the task that has it.
fn write_all(to: &Arc<Plain>, rows: millstream_core::PartitionIter<NewRecord>) -> Result<()> {
    let producer = PRODUCERS.take(to)?;
    let sent = producer.send_all(rows, &to.topic, to.patience);
    if sent.as_ref().is_err_and(|error| error.kind() != ErrorKind::User) {
        PRODUCERS.forget(to);
    }
    sent
}

/// Writes some records to a topic, and returns when the brokers have them: for small programs, and for tests. Streams
/// are written by [`save_to_kafka`](SaveToKafka::save_to_kafka).
///
/// # Errors
///
/// As there.
pub fn write<R: ToRecord>(
    brokers: impl Into<Brokers>,
    topic: impl Into<String>,
    records: impl IntoIterator<Item = R>,
) -> Result<()> {
    let to = Plain { brokers: brokers.into(), topic: topic.into(), patience: secs(60) };
    let producer = PRODUCERS.take(&to)?;
    producer.send_all(records.into_iter().map(|record| record.to_record()), &to.topic, to.patience)
}
