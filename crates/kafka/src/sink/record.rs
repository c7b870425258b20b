//! Records as they are written.

use millstream_core::{Text, Time};
use rdkafka::message::{Header, OwnedHeaders};
use serde::{Deserialize, Serialize};

/// A record that is to be written: a value, and whatever else it is to have.
///
/// # Example
///
/// ```
/// use millstream_kafka::NewRecord;
///
/// let record = NewRecord::value("7").key("page").to("clicks").header("from", "web");
/// assert!(format!("{record:?}").contains("clicks"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRecord {
    pub(crate) topic: Option<String>,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) timestamp: Option<i64>,
}

impl NewRecord {
    /// Makes a record of a value.
    pub fn value(value: impl Into<Vec<u8>>) -> NewRecord {
        NewRecord { value: Some(value.into()), ..NewRecord::default() }
    }

    /// Makes a record without a value: in a compacted topic it says that its key is gone.
    pub fn without_value() -> NewRecord {
        NewRecord::default()
    }

    /// Gives it a key, by which its partition is chosen if none is named.
    #[must_use]
    pub fn key(self, key: impl Into<Vec<u8>>) -> NewRecord {
        NewRecord { key: Some(key.into()), ..self }
    }

    /// Writes it to another topic than the sink's.
    #[must_use]
    pub fn to(self, topic: impl Into<String>) -> NewRecord {
        NewRecord { topic: Some(topic.into()), ..self }
    }

    /// Writes it to this partition.
    #[must_use]
    pub fn partition(self, partition: i32) -> NewRecord {
        NewRecord { partition: Some(partition), ..self }
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> NewRecord {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// Gives it a time; without, it has that at which it is sent.
    #[must_use]
    pub fn timestamp(self, time: Time) -> NewRecord {
        NewRecord { timestamp: Some(time.as_millis()), ..self }
    }

    pub(crate) fn owned_headers(&self) -> Option<OwnedHeaders> {
        if self.headers.is_empty() {
            return None;
        }
        let add = |all: OwnedHeaders, (key, value): &(String, Option<Vec<u8>>)| {
            all.insert(Header { key, value: value.as_deref() })
        };
        Some(self.headers.iter().fold(OwnedHeaders::new_with_capacity(self.headers.len()), add))
    }
}

/// What can be written as a record: texts and bytes are values, a pair is a key and a value.
pub trait ToRecord {
    /// Returns the record.
    fn to_record(&self) -> NewRecord;
}

impl ToRecord for NewRecord {
    fn to_record(&self) -> NewRecord {
        self.clone()
    }
}

impl ToRecord for crate::Record {
    /// Key, value, headers and time, not the place.
    fn to_record(&self) -> NewRecord {
        NewRecord {
            topic: None,
            partition: None,
            key: self.key().map(<[u8]>::to_vec),
            value: self.value().map(<[u8]>::to_vec),
            headers: self.headers().map(|(name, value)| (name.to_owned(), value.map(<[u8]>::to_vec))).collect(),
            timestamp: self.timestamp().map(Time::as_millis),
        }
    }
}

macro_rules! values {
    ($($of:ty => $bytes:expr),*) => { $(
        impl ToRecord for $of {
            fn to_record(&self) -> NewRecord {
                let bytes: fn(&$of) -> Vec<u8> = $bytes;
                NewRecord::value(bytes(self))
            }
        }
    )* };
}

values! {
    String => |text| text.as_bytes().to_vec(),
    Text => |text| text.as_bytes().to_vec(),
    &'static str => |text| text.as_bytes().to_vec(),
    Vec<u8> => Vec::clone
}

impl<K: ToRecord, V: ToRecord> ToRecord for (K, V) {
    fn to_record(&self) -> NewRecord {
        NewRecord { key: self.0.to_record().value, ..self.1.to_record() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_a_key_and_a_value() {
        assert_eq!(("k".to_owned(), "v").to_record(), NewRecord::value("v").key("k"));
        assert_eq!((vec![1u8], NewRecord::without_value().partition(3)).to_record().key, Some(vec![1]));
    }
}
