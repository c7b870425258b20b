//! The older way: a member of a group receives, and acknowledges what is kept.

mod member;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::{Error, ErrorKind, Result, millis};
use millstream_streaming::{Receiver, Store, Travelling};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::{Offset, Timestamp, TopicPartitionList};
use serde::{Deserialize, Serialize};

use self::member::{Group, Member};
use crate::error::is_passing;
use crate::ranges::TopicPartition;
use crate::read::client::headers_of;
use crate::record::{BlockWriter, Record};
use crate::settings::{Brokers, Heard};
use crate::source::{Isolation, OnLoss};

/// A block has no more records, no more bytes, and is no older.
const RECORDS: usize = 5000;
const BYTES: usize = 1 << 20;
const AGE: Duration = millis(100);

/// Makes a receiver of topics: give it to [`receiver_stream`](millstream_streaming::StreamingContext::receiver_stream).
///
/// It is a member of a group, which shares out the partitions; several receivers of one group share them among each
/// other. Offsets are committed to the group when the block with their records is kept: in a durable program, when it
/// is in the log. So nothing is lost. What was kept and not yet committed when the process ended, or when the group
/// shared out its partitions anew, comes again: a record is given at least once. [`direct`](crate::direct) gives it
/// exactly once, needs no log, and is faster.
///
/// Where a partition is begun the receiver says itself, and not a setting of the client: where the group has committed; else at the
/// end, or at the [begin](GroupReceiver::from_begin), which is then committed at once. Partitions that come while it runs are
/// read from their first record. What the group was to read next and is not there any more is an error, or a loss that is
/// [counted](GroupReceiver::on_loss), and never skipped in silence.
///
/// On a cluster it runs on an executor, and elsewhere when that one is lost. The group gives its partitions to the next
/// one when it has missed the one before for `session.timeout.ms`, which is 45 seconds unless the program
/// [sets](Brokers::set) it; an executor that leaves gives them back at once.
///
/// # Example
///
/// ```no_run
/// use millstream_core::{Result, secs};
/// use millstream_kafka as kafka;
/// use millstream_streaming::StreamingContext;
///
/// # fn main() -> Result<()> {
/// let ssc = StreamingContext::new("local[2]", "clicks", secs(2))?;
/// ssc.receiver_stream(kafka::receiver("broker:9092", "click-count", ["clicks"])).count().print();
/// # Ok(())
/// # }
/// ```
///
/// # Spark
///
/// `KafkaUtils.createStream` of Kafka 0.8, X-2, with its log: offsets were in ZooKeeper.
pub fn receiver<S: Into<String>>(
    brokers: impl Into<Brokers>,
    group: impl Into<String>,
    topics: impl IntoIterator<Item = S>,
) -> GroupReceiver {
    GroupReceiver {
        brokers: brokers.into(),
        group: group.into(),
        topics: topics.into_iter().map(Into::into).collect(),
        from_begin: false,
        isolation: Isolation::ReadCommitted,
        on_loss: OnLoss::Stop,
    }
}

/// A receiver of topics, from [`receiver`].
#[derive(Clone, Serialize, Deserialize)]
pub struct GroupReceiver {
    brokers: Brokers,
    group: String,
    topics: Vec<String>,
    from_begin: bool,
    isolation: Isolation,
    on_loss: OnLoss,
}

impl GroupReceiver {
    /// Begins with the first record that is there, where the group has committed nothing; else behind the last.
    #[must_use]
    pub fn from_begin(self) -> GroupReceiver {
        GroupReceiver { from_begin: true, ..self }
    }

    /// Chooses what is read of transactions. The default is [`Isolation::ReadCommitted`].
    #[must_use]
    pub fn isolation(self, isolation: Isolation) -> GroupReceiver {
        GroupReceiver { isolation, ..self }
    }

    /// Chooses what is done when records are gone that the group was to read next. The default is [`OnLoss::Stop`]: the receiver ends
    /// with an error that says what is there, and does so again as often as it is started. With [`OnLoss::GoOn`] listeners are told how
    /// many are gone, as an error of the receiver, and it goes on.
    #[must_use]
    pub fn on_loss(self, on_loss: OnLoss) -> GroupReceiver {
        GroupReceiver { on_loss, ..self }
    }

    fn failed(&self, doing: &str, error: &KafkaError, heard: &Heard) -> Error {
        self.brokers.failed(format_args!("{doing} {} as group {}", self.topics.join(", "), self.group), error, heard)
    }
}

/// Records of one partition that are not a block yet.
struct Growing {
    topic: Arc<str>,
    partition: i32,
    writer: BlockWriter,
    /// The offset behind the last one.
    next: i64,
}

/// Records that are to become a block.
#[derive(Default)]
struct Gathered {
    parts: Vec<Growing>,
    began: Option<Duration>,
}

impl Gathered {
    fn push(&mut self, message: &rdkafka::message::BorrowedMessage<'_>) -> Result<()> {
        let (topic, partition) = (message.topic(), message.partition());
        let headers = headers_of(message.headers(), || TopicPartition::new(topic, partition), message.offset())?;
        let found = self.parts.iter().position(|part| part.partition == partition && &*part.topic == topic);
        let at = found.unwrap_or_else(|| {
            let topic = Arc::from(topic);
            self.parts.push(Growing { topic, partition, writer: BlockWriter::default(), next: 0 });
            self.parts.len() - 1
        });
        let timestamp = match message.timestamp() {
            Timestamp::CreateTime(time) | Timestamp::LogAppendTime(time) => time,
            Timestamp::NotAvailable => -1,
        };
        let part = &mut self.parts[at];
        part.next = message.offset() + 1;
        part.writer.push(message.offset(), timestamp, message.key(), message.payload(), |put| {
            headers.iter().for_each(|header| put(header.key, header.value));
        });
        self.began.get_or_insert_with(monotonic);
        Ok(())
    }

    fn is_full(&self) -> bool {
        let sum = |of: fn(&BlockWriter) -> usize| self.parts.iter().map(|part| of(&part.writer)).sum::<usize>();
        sum(BlockWriter::len) >= RECORDS || sum(BlockWriter::bytes) >= BYTES
    }

    fn is_old(&self) -> bool {
        self.began.is_some_and(|began| monotonic() - began >= AGE)
    }

    /// Takes the records, and the offsets that are to be committed when they are kept.
    fn take(&mut self) -> (Vec<Record>, Vec<(Arc<str>, i32, i64)>) {
        let (mut records, mut offsets) = (Vec::new(), Vec::new());
        for mut part in self.parts.drain(..) {
            part.writer.finish(&part.topic, part.partition, &mut records);
            offsets.push((part.topic, part.partition, part.next));
        }
        self.began = None;
        (records, offsets)
    }
}

fn listed(offsets: &[(Arc<str>, i32, i64)]) -> rdkafka::error::KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::new();
    for (topic, partition, next) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*next))?;
    }
    Ok(list)
}

impl Receiver for GroupReceiver {
    type Item = Record;

    fn receive(&mut self, store: &mut dyn Store<Record>) -> Result<()> {
        if self.topics.is_empty() {
            return Err(Error::new(ErrorKind::Config, "a receiver of Kafka was given no topic"));
        }
        let group = Group::open(&self.brokers, &self.group, self.isolation, self.from_begin, self.on_loss)?;
        let (consumer, heard) = self.brokers.client_with::<BaseConsumer<Member>, Member>(&[
            ("group.id", &self.group),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            // Offsets that are gone are an error, and never another place.
            ("auto.offset.reset", "error"),
            ("isolation.level", self.isolation.name()),
            ("queued.max.messages.kbytes", "16384"),
            ("fetch.queue.backoff.ms", "5"),
            ("reconnect.backoff.max.ms", "1000"),
            ("topic.metadata.refresh.interval.ms", "10000"),
        ])?;
        let group = consumer.context().join(group);
        let consumer = Arc::new(consumer);
        let topics: Vec<&str> = self.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(|error| self.failed("subscribing to", &error, &heard))?;
        let mut gathered = Gathered::default();
        while !store.is_stopped() {
            match consumer.poll(AGE / 2) {
                None => {}
                Some(Ok(message)) => gathered.push(&message)?,
                Some(Err(error)) => match error.rdkafka_error_code() {
                    Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => group.place_again(&consumer)?,
                    // The client goes on by itself; listeners are told.
                    code if is_passing(code) => {
                        heard.note(&error);
                        store.report_error(self.failed("receiving from", &error, &heard));
                    }
                    _ => return Err(self.failed("receiving from", &error, &heard)),
                },
            }
            group.told()?.into_iter().for_each(|lost| store.report_error(lost));
            if !(gathered.is_full() || gathered.is_old()) {
                continue;
            }
            let (records, offsets) = gathered.take();
            let acknowledges = Arc::clone(&consumer);
            store.store_block(
                records,
                Box::new(move || {
                    let committed = listed(&offsets).and_then(|list| acknowledges.commit(&list, CommitMode::Async));
                    if let Err(error) = committed {
                        tracing::warn!(%error, "what is kept was not acknowledged to the group, and comes again");
                    }
                }),
            )?;
        }
        Ok(())
    }

    fn is_reliable(&self) -> bool {
        true
    }

    /// What a group has read is kept by the brokers, so that any executor goes on where it is.
    fn travels(&self) -> Option<Travelling> {
        Some(Travelling::of(self))
    }

    fn name(&self) -> String {
        format!("Kafka {}", self.topics.join(", "))
    }
}

impl fmt::Debug for GroupReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GroupReceiver({:?}, {}, {})", self.brokers, self.group, self.topics.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use millstream_core::codec;

    use super::*;

    #[test]
    fn x2_a_receiver_is_the_same_on_an_executor_and_tells_nobody_its_password() {
        let brokers = Brokers::at("a:1").set("sasl.password", "hush").answer_within(millis(77));
        let receiver =
            receiver(brokers, "g", ["t", "u"]).from_begin().isolation(Isolation::ReadUncommitted).on_loss(OnLoss::GoOn);
        assert!(receiver.travels().is_some());
        let written = codec::encode(&receiver).unwrap();
        let GroupReceiver { brokers, group, topics, from_begin, isolation, on_loss } =
            codec::decode::<GroupReceiver>(&written).unwrap();
        assert!(brokers == receiver.brokers && brokers.patience() == millis(77), "{brokers:?}");
        assert_eq!((&*group, topics, from_begin), ("g", vec!["t".to_owned(), "u".to_owned()], true));
        assert_eq!((isolation, on_loss), (Isolation::ReadUncommitted, OnLoss::GoOn));
        assert!(!format!("{receiver:?} {:?}", receiver.travels()).contains("hush"));
    }
}
