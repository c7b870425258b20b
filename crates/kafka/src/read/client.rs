//! Reads ranges by a consumer of librdkafka: every protocol and setting that it has.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::{Error, ErrorKind, Result, millis};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::{Header, Headers, Message};
use rdkafka::{Offset, Timestamp, TopicPartitionList};

use super::{CHUNK, How, Met, RangeReader, behind_what_is_gone, check_cancelled, lose, out_of_range};
use crate::error::is_passing;
use crate::ranges::{OffsetRange, TopicPartition};
use crate::record::{BlockWriter, Record};
use crate::settings::{Heard, Told};
use crate::source::OnLoss;

/// How long one wait for a record is: a task that is cancelled notices within it.
const SLICE: Duration = millis(100);

/// A block has no more bytes than that, or one record.
const BLOCK: usize = 4 << 20;

/// A consumer that reads one partition, and goes on where it is.
pub(crate) struct ClientReader {
    how: Arc<How>,
    topic: Arc<str>,
    consumer: BaseConsumer<Told>,
    heard: Heard,
    range: OffsetRange,
    /// The first offset of which it is not known what it has.
    position: i64,
    /// A record that was read and belongs to a later range.
    ahead: Vec<Record>,
    blocks: BlockWriter,
    /// How many bytes the client may have fetched ahead.
    queue: u64,
    met: Met,
}

/// What came of a wait.
enum Came {
    Record,
    /// There is nothing more below this offset.
    Nothing(i64),
    Waited,
}

impl ClientReader {
    pub(crate) fn open(how: &Arc<How>, range: &OffsetRange, among: u32) -> Result<ClientReader> {
        let queue = how.piece(among);
        let kilobytes = (queue >> 10).to_string();
        // A record has a head of some hundred bytes in its queue, however small it is.
        let records = (queue / 512).clamp(100, 50_000).to_string();
        let longest = how.memory.clamp(100_000_000, 1_000_000_000).to_string();
        let (consumer, heard) = how.brokers.client(&[
            // Nobody commits to it; a name helps who looks at the broker.
            ("group.id", "millstream-reads"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("isolation.level", how.isolation.name()),
            ("enable.partition.eof", "true"),
            ("check.crcs", "true"),
            ("fetch.wait.max.ms", "100"),
            ("queued.min.messages", &records),
            ("queued.max.messages.kbytes", &kilobytes),
            // A batch that is larger comes all the same.
            ("fetch.message.max.bytes", &queue.to_string()),
            ("receive.message.max.bytes", &longest),
            // A queue that was full is filled again at once, and not a second later.
            ("fetch.queue.backoff.ms", "5"),
            ("reconnect.backoff.max.ms", "1000"),
        ])?;
        Ok(ClientReader {
            how: Arc::clone(how),
            topic: Arc::from(range.topic.as_str()),
            consumer,
            heard,
            range: OffsetRange { until: range.from, ..range.clone() },
            position: -1,
            ahead: Vec::new(),
            blocks: BlockWriter::default(),
            queue,
            met: Met::default(),
        })
    }

    fn failed(&self, error: &KafkaError) -> Error {
        let doing = format!("reading {}", self.range);
        self.how.brokers.failed(doing, error, &self.heard)
    }

    /// Has the consumer go on elsewhere in the partition.
    fn go_to(&mut self, offset: i64) -> Result<()> {
        self.ahead.clear();
        let mut list = TopicPartitionList::new();
        let listed = list.add_partition_offset(&self.range.topic, self.range.partition, Offset::Offset(offset));
        listed.and_then(|()| self.consumer.assign(&list)).map_err(|error| self.failed(&error))?;
        self.position = offset;
        Ok(())
    }

    /// Waits for the next thing that the consumer has to tell.
    fn next(&mut self, out: &mut Vec<Record>) -> Result<Came> {
        // Most records have been fetched before they are asked for: only who waits looks at the clock.
        let polled = self.consumer.poll(Duration::ZERO).or_else(|| {
            let began = monotonic();
            let polled = self.consumer.poll(SLICE);
            self.met.waited += monotonic().saturating_sub(began);
            polled
        });
        let error = match polled {
            None => return Ok(Came::Waited),
            Some(Ok(message)) => {
                let offset = message.offset();
                if offset < self.position {
                    return Ok(Came::Record);
                }
                let timestamp = match message.timestamp() {
                    Timestamp::CreateTime(time) | Timestamp::LogAppendTime(time) => time,
                    Timestamp::NotAvailable => -1,
                };
                self.met.bytes += (message.payload_len() + message.key_len()) as u64;
                let is_ahead = offset >= self.range.until;
                if is_ahead {
                    self.blocks.finish(&self.topic, self.range.partition, out);
                }
                let headers = headers_of(message.headers(), || self.range.topic_partition(), offset)?;
                self.blocks.push(offset, timestamp, message.key(), message.payload(), |put| {
                    headers.iter().for_each(|header| put(header.key, header.value));
                });
                if is_ahead {
                    self.blocks.finish(&self.topic, self.range.partition, &mut self.ahead);
                    return Ok(Came::Nothing(offset));
                }
                self.position = offset + 1;
                return Ok(Came::Record);
            }
            Some(Err(error)) => error,
        };
        match error {
            KafkaError::PartitionEOF(_) => {
                let position = self.consumer.position().ok();
                let position = position.and_then(|list| {
                    list.find_partition(&self.range.topic, self.range.partition).map(|element| element.offset())
                });
                match position {
                    Some(Offset::Offset(offset)) => Ok(Came::Nothing(offset)),
                    _ => Ok(Came::Waited),
                }
            }
            // The client asks for its group, which it is never to use: who reads need not be allowed to.
            error if error.rdkafka_error_code() == Some(Code::GroupAuthorizationFailed) => Ok(Came::Waited),
            error => {
                self.heard.note(&error);
                match error.rdkafka_error_code() {
                    Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                        let (topic, partition) = (&self.range.topic, self.range.partition);
                        let there = self.consumer.fetch_watermarks(topic, partition, self.how.brokers.patience()).ok();
                        let (position, until) = (self.position, self.range.until);
                        match behind_what_is_gone(self.how.on_loss, position, until, there) {
                            Some(behind) => {
                                lose(&mut self.met, &self.range, position, behind, "are gone");
                                self.go_to(behind)?;
                                Ok(Came::Nothing(behind))
                            }
                            None => Err(out_of_range(&self.range, &self.how.brokers, there)),
                        }
                    }
                    // The client says neither where the damaged batch begins nor where it ends, and does not get past it.
                    Some(Code::BadMessage) if self.how.on_loss == OnLoss::GoOn => {
                        let (position, until) = (self.position, self.range.until);
                        lose(&mut self.met, &self.range, position, until, "are damaged, or lie behind what is");
                        self.go_to(until)?;
                        Ok(Came::Nothing(until))
                    }
                    // The client goes on by itself when a broker is back; who waits for too long is told why.
                    code if is_passing(code) => Ok(Came::Waited),
                    _ => Err(self.failed(&error)),
                }
            }
        }
    }
}

/// Returns the headers of a record. The client's binding takes every name for UTF-8, and panics where one is not.
pub(crate) fn headers_of<H: Headers>(
    headers: Option<&H>,
    of: impl FnOnce() -> TopicPartition,
    offset: i64,
) -> Result<Vec<Header<'_, &[u8]>>> {
    let Some(headers) = headers else { return Ok(Vec::new()) };
    let all = catch_unwind(AssertUnwindSafe(|| headers.iter().collect()));
    all.map_err(|_| {
        let text = format!(
            "record {} at offset {offset} has a header whose name is not UTF-8, which the client of librdkafka cannot \
             show. The direct source reads such records by its own fetches: ReadBy::Fastest, in the clear",
            of()
        );
        Error::new(ErrorKind::Data, text)
    })
}

impl RangeReader for ClientReader {
    fn begin(&mut self, range: &OffsetRange, _: u32) -> Result<()> {
        self.range = range.clone();
        self.heard.forget();
        if self.position == range.from {
            return Ok(());
        }
        self.go_to(range.from)
    }

    fn read(&mut self, out: &mut Vec<Record>) -> Result<bool> {
        let before = out.len();
        let mut deadline = None;
        loop {
            // What an earlier range had read too much.
            while let Some(record) = self.ahead.first() {
                if record.offset >= self.range.until {
                    self.position = self.range.until;
                    break;
                }
                self.position = record.offset + 1;
                out.push(self.ahead.remove(0));
            }
            if self.position >= self.range.until {
                break;
            }
            match self.next(out)? {
                Came::Record => deadline = None,
                Came::Nothing(until) => self.position = self.position.max(until.min(self.range.until)),
                Came::Waited => {
                    check_cancelled()?;
                    if self.blocks.len() > 0 {
                        break;
                    }
                    let deadline = *deadline.get_or_insert_with(|| monotonic() + self.how.patience);
                    if monotonic() > deadline {
                        let said = self.heard.last().map(|said| format!(" ({said})")).unwrap_or_default();
                        let text = format!(
                            "failed to get records of {} at {} after waiting for {:?}{said}: is the broker there?",
                            self.range,
                            self.how.brokers.named(),
                            self.how.patience
                        );
                        return Err(Error::new(ErrorKind::Unavailable, text));
                    }
                }
            }
            if self.blocks.len() >= CHUNK || self.blocks.bytes() >= BLOCK {
                break;
            }
        }
        self.blocks.finish(&self.topic, self.range.partition, out);
        Ok(out.len() > before)
    }

    fn position(&self) -> i64 {
        self.position
    }

    fn wait(&mut self) -> u64 {
        self.queue
    }

    /// What the client has fetched goes with it alone.
    fn let_go(&mut self) -> bool {
        false
    }

    fn met(&mut self) -> Met {
        std::mem::take(&mut self.met)
    }
}

impl fmt::Debug for ClientReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClientReader({} at {})", self.range, self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Headers as the binding shows them, of which the second has a name that is no UTF-8.
    struct Binding;

    impl Headers for Binding {
        fn count(&self) -> usize {
            2
        }

        fn try_get(&self, at: usize) -> Option<Header<'_, &[u8]>> {
            assert_ne!(at, 1, "to_str().unwrap()");
            (at == 0).then_some(Header { key: "good", value: Some(b"1") })
        }
    }

    #[test]
    fn a_header_whose_name_is_not_utf_8_is_an_error_that_names_the_record_and_no_panic() {
        let error = headers_of(Some(&Binding), || TopicPartition::new("t", 3), 7).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains("record t/3 at offset 7 has a header whose name is not UTF-8"), "{error}");
        assert!(headers_of::<Binding>(None, || TopicPartition::new("t", 3), 7).unwrap().is_empty());
    }
}
