//! Records: cheap slices of the blocks that they came in.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use millstream_core::{Error, ErrorKind, Result, Text, Time};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::varint;

/// What records of one partition share: the bytes they came in.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) topic: Arc<str>,
    pub(crate) partition: i32,
    pub(crate) bytes: Bytes,
}

/// Where something lies in a block; nothing has another length than empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) at: u32,
    pub(crate) len: u32,
}

impl Span {
    pub(crate) const NOTHING: Span = Span { at: 0, len: u32::MAX };

    #[inline]
    fn of(self, bytes: &[u8]) -> Option<&[u8]> {
        if self.len == u32::MAX {
            return None;
        }
        bytes.get(self.at as usize..self.at as usize + self.len as usize)
    }
}

/// A record of a topic.
///
/// It is a slice of what was fetched: cloning it copies no bytes, and keeping one keeps its block. What is kept for
/// long is better taken out of it, by [`to_text`](Record::to_text), say.
///
/// # Example
///
/// ```
/// use millstream_kafka::Record;
///
/// let record = Record::new("clicks", 0, 42).with_value("{\"page\": 7}");
/// assert_eq!(record.text(), Some("{\"page\": 7}"));
/// # #[derive(serde::Deserialize)]
/// # struct Click { page: u64 }
/// let click: Click = record.json()?;
/// assert_eq!((click.page, record.offset(), record.key()), (7, 42, None));
/// # Ok::<(), millstream_core::Error>(())
/// ```
///
/// # Spark
///
/// `ConsumerRecord` of Kafka's own client.
#[derive(Clone)]
pub struct Record {
    pub(crate) block: Arc<Block>,
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Span,
    pub(crate) value: Span,
    /// How many headers there are, and where they begin.
    pub(crate) headers: (u32, u32),
}

impl Record {
    /// Makes a record that no broker has sent: for tests.
    pub fn new(topic: impl AsRef<str>, partition: i32, offset: i64) -> Record {
        Parts { offset, ..Parts::default() }.record(topic.as_ref(), partition)
    }

    /// Returns the record with another value.
    #[must_use]
    pub fn with_value(&self, value: impl AsRef<[u8]>) -> Record {
        Parts { value: Some(value.as_ref().to_vec()), ..Parts::of(self) }.record(self.topic(), self.partition())
    }

    /// Returns the record with another key.
    #[must_use]
    pub fn with_key(&self, key: impl AsRef<[u8]>) -> Record {
        Parts { key: Some(key.as_ref().to_vec()), ..Parts::of(self) }.record(self.topic(), self.partition())
    }

    /// Returns the topic.
    pub fn topic(&self) -> &str {
        &self.block.topic
    }

    /// Returns the partition.
    pub fn partition(&self) -> i32 {
        self.block.partition
    }

    /// Returns the offset.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// Returns the time that the producer or the broker gave it, if one did.
    pub fn timestamp(&self) -> Option<Time> {
        (self.timestamp >= 0).then(|| Time::from_millis(self.timestamp))
    }

    /// Returns the key, if there is one.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.of(&self.block.bytes)
    }

    /// Returns the value, if there is one: a record without says that its key is gone.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.of(&self.block.bytes)
    }

    /// Returns the value as text, if there is one and it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.value()?).ok()
    }

    /// Returns the key as text, if there is one and it is UTF-8.
    pub fn key_text(&self) -> Option<&str> {
        std::str::from_utf8(self.key()?).ok()
    }

    /// Returns the value as a text that holds no block: one copy.
    pub fn to_text(&self) -> Option<Text> {
        self.text().map(Text::from)
    }

    /// Returns what the value means as JSON.
    ///
    /// # Errors
    ///
    /// The kind is `Data`: there is no value, or it is no JSON of this type. The message names the record.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        let refuse = |why: String| {
            let text = format!("record {}/{} at offset {} {why}", self.topic(), self.partition(), self.offset);
            Error::new(ErrorKind::Data, text)
        };
        let value = self.value().ok_or_else(|| refuse("has no value".into()))?;
        serde_json::from_slice(value).map_err(|error| refuse(format!("is not the JSON that is expected: {error}")))
    }

    /// Returns the headers, in their order: names, which may come again, and values.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        let (count, at) = self.headers;
        let (bytes, mut at) = (&self.block.bytes[..], at as usize);
        (0..count).map_while(move |_| {
            let name = usize::try_from(varint::get(bytes, &mut at)?).ok()?;
            let raw = bytes.get(at..at.checked_add(name)?)?;
            at += name;
            let name = std::str::from_utf8(raw).unwrap_or("\u{fffd}");
            let value = match usize::try_from(varint::get(bytes, &mut at)?) {
                Ok(len) => {
                    let value = bytes.get(at..at.checked_add(len)?)?;
                    at += len;
                    Some(value)
                }
                Err(_) => None,
            };
            Some((name, value))
        })
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |bytes: Option<&[u8]>| {
            bytes.map_or("-".to_owned(), |bytes| format!("{:?}", String::from_utf8_lossy(bytes)))
        };
        let (key, value) = (show(self.key()), show(self.value()));
        write!(f, "{}/{}@{} {key}: {value}", self.topic(), self.partition(), self.offset)
    }
}

impl PartialEq for Record {
    fn eq(&self, other: &Record) -> bool {
        (self.topic(), self.partition(), self.offset, self.timestamp, self.key(), self.value())
            == (other.topic(), other.partition(), other.offset, other.timestamp, other.key(), other.value())
            && self.headers().eq(other.headers())
    }
}

impl Eq for Record {}

/// A record by its parts: how it travels.
#[derive(Default, Serialize, Deserialize)]
struct Parts {
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Parts {
    fn of(record: &Record) -> Parts {
        Parts {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: record.headers().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect(),
        }
    }

    fn record(&self, topic: &str, partition: i32) -> Record {
        let mut blocks = BlockWriter::default();
        blocks.push(self.offset, self.timestamp, self.key.as_deref(), self.value.as_deref(), |put| {
            self.headers.iter().for_each(|(name, value)| put(name, value.as_deref()));
        });
        let mut records = Vec::with_capacity(1);
        blocks.finish(&Arc::from(topic), partition, &mut records);
        records.pop().expect("one record was pushed")
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (self.topic(), self.partition(), Parts::of(self)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Record {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Record, D::Error> {
        let (topic, partition, parts) = <(String, i32, Parts)>::deserialize(deserializer)?;
        Ok(parts.record(&topic, partition))
    }
}

struct Pushed {
    offset: i64,
    timestamp: i64,
    key: Span,
    value: Span,
    headers: (u32, u32),
}

/// Makes a block of records that come one by one.
#[derive(Default)]
pub(crate) struct BlockWriter {
    bytes: Vec<u8>,
    records: Vec<Pushed>,
}

impl BlockWriter {
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn put(&mut self, bytes: Option<&[u8]>) -> Span {
        let Some(bytes) = bytes else { return Span::NOTHING };
        // A block is some megabytes: its writer ends it long before it has four gigabytes.
        let span = Span { at: self.bytes.len() as u32, len: bytes.len() as u32 };
        self.bytes.extend_from_slice(bytes);
        span
    }

    /// Adds a record; `headers` is given what takes one header after the other.
    pub(crate) fn push(
        &mut self,
        offset: i64,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl FnOnce(&mut dyn FnMut(&str, Option<&[u8]>)),
    ) {
        let (key, value) = (self.put(key), self.put(value));
        let (at, mut count) = (self.bytes.len() as u32, 0);
        let bytes = &mut self.bytes;
        headers(&mut |name, value| {
            count += 1;
            varint::put(name.len() as i64, bytes);
            bytes.extend_from_slice(name.as_bytes());
            varint::put(value.map_or(-1, |value| value.len() as i64), bytes);
            bytes.extend_from_slice(value.unwrap_or_default());
        });
        self.records.push(Pushed { offset, timestamp, key, value, headers: (count, at) });
    }

    /// Appends the records to `out`, and is empty again.
    pub(crate) fn finish(&mut self, topic: &Arc<str>, partition: i32, out: &mut Vec<Record>) {
        if self.records.is_empty() {
            return;
        }
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let block = Arc::new(Block { topic: Arc::clone(topic), partition, bytes });
        out.extend(self.records.drain(..).map(|pushed| {
            let Pushed { offset, timestamp, key, value, headers } = pushed;
            Record { block: Arc::clone(&block), offset, timestamp, key, value, headers }
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::codec;

    fn some() -> Vec<Record> {
        let mut blocks = BlockWriter::default();
        blocks.push(7, 1000, Some(b"k"), Some(b"value"), |put| {
            put("a", Some(b"1"));
            put("a", None);
            put("", Some(b""));
        });
        blocks.push(8, -1, None, None, |_| {});
        blocks.push(9, 0, Some(b""), Some(b"\xff"), |_| {});
        let mut records = Vec::new();
        blocks.finish(&Arc::from("t"), 3, &mut records);
        records
    }

    #[test]
    fn a_record_is_a_slice_of_its_block() {
        let records = some();
        let headers: Vec<_> = records[0].headers().collect();
        assert_eq!(headers, [("a", Some(&b"1"[..])), ("a", None), ("", Some(&b""[..]))]);
        assert_eq!((records[0].key_text(), records[0].text()), (Some("k"), Some("value")));
        assert_eq!(records[0].timestamp(), Some(Time::from_millis(1000)));
        assert_eq!((records[1].key(), records[1].value(), records[1].timestamp()), (None, None, None));
        assert_eq!(
            (records[2].key(), records[2].value(), records[2].text()),
            (Some(&b""[..]), Some(&b"\xff"[..]), None)
        );
        assert_eq!((records[2].topic(), records[2].partition(), records[2].offset()), ("t", 3, 9));
    }

    #[test]
    fn a_name_that_is_no_utf_8_does_not_shift_what_stands_behind_it() {
        let mut bytes = Vec::new();
        for (name, value) in [(&b"\xff\xfe\xfd\xfc\xfb"[..], &b"1"[..]), (b"\xff", b"2"), (b"good", b"3")] {
            varint::put(name.len() as i64, &mut bytes);
            bytes.extend_from_slice(name);
            varint::put(value.len() as i64, &mut bytes);
            bytes.extend_from_slice(value);
        }
        let block = Arc::new(Block { topic: Arc::from("t"), partition: 0, bytes: Bytes::from(bytes) });
        let record =
            Record { block, offset: 0, timestamp: 0, key: Span::NOTHING, value: Span::NOTHING, headers: (3, 0) };
        let headers: Vec<_> = record.headers().collect();
        assert_eq!(headers, [("\u{fffd}", Some(&b"1"[..])), ("\u{fffd}", Some(&b"2"[..])), ("good", Some(&b"3"[..]))]);
    }

    #[test]
    fn a_record_travels() {
        let records = some();
        let bytes = codec::encode(&records).unwrap();
        assert_eq!(codec::decode::<Vec<Record>>(&bytes).unwrap(), records);
    }

    #[test]
    fn what_is_no_json_is_an_error_that_names_the_record() {
        let error = some()[0].json::<u64>().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Data);
        assert!(error.to_string().contains("record t/3 at offset 7 is not the JSON"), "{error}");
        assert!(some()[1].json::<u64>().unwrap_err().to_string().contains("at offset 8 has no value"));
    }
}
