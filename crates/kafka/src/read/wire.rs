//! Questions to one broker over a connection of its own, in the clear: who leads, where a partition ends, and its
//! records.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, BrokerId, FetchRequest, FetchResponse, ListOffsetsRequest,
    ListOffsetsResponse, MetadataRequest, MetadataResponse, RequestHeader, ResponseHeader, TopicName,
};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use millstream_core::clock::monotonic;
use millstream_core::{Error, ErrorKind, Result, millis};
use serde::{Deserialize, Serialize};

use super::shape::{self, Form, Shape, is_built};

/// How long one wait for bytes is: a task that is cancelled notices within it.
const SLICE: Duration = millis(100);

/// How much memory is made ready at once for what is to come.
const PIECE: usize = 4 << 20;

/// What is no record is never longer: a broker that says so is none.
const LONGEST: usize = 64 << 20;

/// What tells a topic from another one that had the name before.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct TopicId(pub(crate) [u8; 16]);

impl std::fmt::Debug for TopicId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A connection to a broker.
pub(crate) struct Wire {
    stream: TcpStream,
    /// How long an answer may take.
    patience: Duration,
    /// How long one with records may be.
    pub(super) longest: u64,
    at: String,
    asked: i32,
    /// The versions of a fetch that it knows.
    fetch: i16,
    /// The version in which records were asked for last.
    fetching: i16,
    metadata: i16,
    offsets: i16,
}

/// A topic, as a broker tells of it.
pub(crate) struct TopicFacts {
    pub(crate) error: i16,
    pub(crate) id: Option<TopicId>,
    /// Where the leader of each partition listens.
    pub(crate) leaders: Vec<(i32, Option<String>)>,
}

/// What a broker sent of a partition.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) error: i16,
    pub(crate) aborted: Vec<(i64, i64)>,
    pub(crate) records: Bytes,
}

/// What is fetched.
pub(crate) struct Ask<'a> {
    pub(crate) topic: &'a str,
    pub(crate) id: Option<TopicId>,
    pub(crate) partition: i32,
    pub(crate) from: i64,
    pub(crate) most: i32,
    pub(crate) wait: Duration,
    pub(crate) committed: bool,
}

/// What can be read from within some time.
trait Waits: Read {
    fn wait_for(&mut self, time: Duration) -> std::io::Result<()>;
}

impl Waits for TcpStream {
    fn wait_for(&mut self, time: Duration) -> std::io::Result<()> {
        self.set_read_timeout(Some(time))
    }
}

/// Fills `to` before the deadline, however little comes at a time; a task that is cancelled gives up.
fn read_within(
    from: &mut impl Waits,
    to: &mut [u8],
    deadline: Duration,
    now: impl Fn() -> Duration,
) -> std::io::Result<()> {
    use std::io::{Error, ErrorKind};
    let mut at = 0;
    while at < to.len() {
        let left = deadline.saturating_sub(now());
        if left.is_zero() {
            return Err(Error::new(ErrorKind::TimedOut, "it takes too long"));
        }
        super::check_cancelled().map_err(Error::other)?;
        from.wait_for(left.min(SLICE))?;
        match from.read(&mut to[at..]) {
            Ok(0) => return Err(Error::new(ErrorKind::UnexpectedEof, "the connection ended")),
            Ok(got) => at += got,
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Wire {
    /// Connects to the first of several addresses that lets one in, and asks what it knows.
    pub(crate) fn open(brokers: &str, patience: Duration) -> Result<Wire> {
        let mut last = None;
        for at in brokers.split(',').map(str::trim) {
            match Wire::open_one(at, patience) {
                Ok(wire) => return Ok(wire),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::new(ErrorKind::Config, "no broker is named")))
    }

    fn open_one(at: &str, patience: Duration) -> Result<Wire> {
        let fail = |error| Error::io(ErrorKind::Unavailable, format!("connecting to the broker at {at}"), error);
        let mut last = None;
        for address in at.to_socket_addrs().map_err(fail)? {
            match TcpStream::connect_timeout(&address, patience) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(fail)?;
                    stream.set_write_timeout(Some(patience)).map_err(fail)?;
                    let mut wire = Wire {
                        stream,
                        patience,
                        longest: super::MEMORY,
                        at: at.to_owned(),
                        asked: 0,
                        fetch: 4,
                        fetching: 4,
                        metadata: 4,
                        offsets: 2,
                    };
                    wire.learn()?;
                    return Ok(wire);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(fail(last.unwrap_or_else(|| std::io::Error::other("the name has no address"))))
    }

    fn failed(&self, doing: &str, why: impl std::fmt::Display) -> Error {
        let text = format!("{doing}: the broker at {}: {why}; does it speak Kafka in the clear there?", self.at);
        Error::new(ErrorKind::Unavailable, text)
    }

    fn send<R: Encodable>(&mut self, key: ApiKey, version: i16, body: &R) -> Result<()> {
        self.asked = self.asked.wrapping_add(1);
        let header = RequestHeader::default()
            .with_request_api_key(key as i16)
            .with_request_api_version(version)
            .with_correlation_id(self.asked)
            .with_client_id(Some(StrBytes::from_static_str("millstream")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        let encoded = header.encode(&mut frame, key.request_header_version(version));
        encoded.and_then(|()| body.encode(&mut frame, version)).map_err(|error| self.failed("asking", error))?;
        let len = u32::try_from(frame.len() - 4).unwrap_or(u32::MAX);
        frame[..4].copy_from_slice(&len.to_be_bytes());
        self.stream.write_all(&frame).map_err(|error| self.failed("asking", error))
    }

    /// Waits for an answer, which must be built as `shape` says; all of it comes within the time that one may take.
    fn receive(&mut self, key: ApiKey, version: i16, shape: Shape) -> Result<Bytes> {
        let deadline = monotonic() + self.patience;
        let mut len = [0; 4];
        let got = read_within(&mut self.stream, &mut len, deadline, monotonic);
        got.map_err(|error| self.failed("waiting for an answer", error))?;
        let len = u32::from_be_bytes(len) as usize;
        if key == ApiKey::Fetch && len as u64 > self.longest {
            return Err(super::too_large("a batch", len as u64, self.longest));
        }
        if key != ApiKey::Fetch && len > LONGEST {
            return Err(self.failed("waiting for an answer", format_args!("an answer of {len} bytes")));
        }
        // What it says of its length is believed piece by piece.
        let mut answer = Vec::new();
        while answer.len() < len {
            let before = answer.len();
            answer.resize(len.min(before + PIECE), 0);
            let got = read_within(&mut self.stream, &mut answer[before..], deadline, monotonic);
            got.map_err(|error| self.failed("reading an answer", error))?;
        }
        let mut answer = Bytes::from(answer);
        let header = ResponseHeader::decode(&mut answer, key.response_header_version(version));
        let header = header.map_err(|error| self.failed("reading an answer", error))?;
        if header.correlation_id != self.asked {
            return Err(self.failed("reading an answer", "it answers something else"));
        }
        if !is_built(&answer, shape) {
            return Err(self.failed("reading an answer", "its lengths lead behind its end"));
        }
        Ok(answer)
    }

    /// Asks which versions the broker knows.
    fn learn(&mut self) -> Result<()> {
        self.send(ApiKey::ApiVersions, 0, &ApiVersionsRequest::default())?;
        let mut answer = self.receive(ApiKey::ApiVersions, 0, (Form::Fixed, shape::VERSIONS))?;
        let known = ApiVersionsResponse::decode(&mut answer, 0);
        let known = known.map_err(|error| self.failed("asking for versions", error))?;
        let most = |key: ApiKey, ours: i16| {
            let of = known.api_keys.iter().find(|api| api.api_key == key as i16);
            of.map_or(0, |api| api.max_version.min(ours))
        };
        // Version 10 is of Kafka 2.1, and the first that gives what zstd packed; 13 asks for a topic by its id.
        (self.fetch, self.metadata) = (most(ApiKey::Fetch, 13), most(ApiKey::Metadata, 12));
        self.offsets = most(ApiKey::ListOffsets, 7);
        if self.fetch < 10 || self.metadata < 7 || self.offsets < 4 {
            return Err(self.failed("asking for versions", "it is older than Kafka 2.1"));
        }
        Ok(())
    }

    /// Asks for topics: their ids, if the broker has them, and their leaders.
    pub(crate) fn topic(&mut self, topic: &str) -> Result<TopicFacts> {
        let name = TopicName(StrBytes::from_string(topic.to_owned()));
        let asked = MetadataRequest::default()
            .with_topics(Some(vec![MetadataRequestTopic::default().with_name(Some(name))]))
            .with_allow_auto_topic_creation(false);
        let version = self.metadata;
        self.send(ApiKey::Metadata, version, &asked)?;
        let mut answer = self.receive(ApiKey::Metadata, version, shape::metadata(version))?;
        let answer = MetadataResponse::decode(&mut answer, version);
        let answer = answer.map_err(|error| self.failed("asking for a topic", error))?;
        let Some(found) = answer.topics.into_iter().next() else {
            return Err(self.failed("asking for a topic", "it says nothing of it"));
        };
        let at = |leader: BrokerId| {
            let broker = answer.brokers.iter().find(|broker| broker.node_id == leader)?;
            let host = if broker.host.contains(':') { format!("[{}]", &*broker.host) } else { broker.host.to_string() };
            Some(format!("{host}:{}", broker.port))
        };
        let id = Some(*found.topic_id.as_bytes()).filter(|id| *id != [0; 16]).map(TopicId);
        let leaders = found.partitions.iter().map(|partition| (partition.partition_index, at(partition.leader_id)));
        Ok(TopicFacts { error: found.error_code, id, leaders: leaders.collect() })
    }

    /// Asks where partitions end, without waiting for it: for who reads what is committed, or everything.
    pub(crate) fn ask_ends(&mut self, topics: &BTreeMap<&str, Vec<i32>>, committed: bool) -> Result<()> {
        const END: i64 = -1;
        let topic = |(name, partitions): (&&str, &Vec<i32>)| {
            let partition = |partition: &i32| {
                let asked = ListOffsetsPartition::default().with_partition_index(*partition).with_timestamp(END);
                asked.with_current_leader_epoch(-1)
            };
            let partitions = partitions.iter().map(partition).collect();
            let name = TopicName(StrBytes::from_string((*name).to_owned()));
            ListOffsetsTopic::default().with_name(name).with_partitions(partitions)
        };
        let asked = ListOffsetsRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_isolation_level(i8::from(committed))
            .with_topics(topics.iter().map(topic).collect());
        let version = self.offsets;
        self.send(ApiKey::ListOffsets, version, &asked)
    }

    /// Says whether an answer has come, or begun to, that nobody has taken yet; also, that none will come any more.
    pub(crate) fn is_answered(&self) -> bool {
        let come = self.stream.set_nonblocking(true).and_then(|()| self.stream.peek(&mut [0]));
        // Whoever cannot wait any more is told by the answer.
        let waits = self.stream.set_nonblocking(false);
        come.is_ok() && waits.is_ok()
    }

    /// Waits for what was asked by [`ask_ends`](Self::ask_ends): topic, partition, error, and where it ends.
    pub(crate) fn ends(&mut self) -> Result<Vec<(String, i32, i16, i64)>> {
        let version = self.offsets;
        let mut answer = self.receive(ApiKey::ListOffsets, version, shape::offsets(version))?;
        let answer = ListOffsetsResponse::decode(&mut answer, version);
        let answer = answer.map_err(|error| self.failed("asking for ends", error))?;
        let mut ends = Vec::new();
        for topic in answer.topics {
            for partition in topic.partitions {
                ends.push((topic.name.to_string(), partition.partition_index, partition.error_code, partition.offset));
            }
        }
        Ok(ends)
    }

    /// Asks for records, without waiting for them.
    pub(crate) fn ask(&mut self, ask: &Ask<'_>) -> Result<()> {
        let partition = FetchPartition::default()
            .with_partition(ask.partition)
            .with_fetch_offset(ask.from)
            .with_partition_max_bytes(ask.most)
            .with_current_leader_epoch(-1)
            .with_last_fetched_epoch(-1)
            .with_log_start_offset(-1);
        let mut topic = FetchTopic::default().with_partitions(vec![partition]);
        let version = match ask.id {
            Some(TopicId(id)) if self.fetch >= 13 => {
                topic = topic.with_topic_id(uuid::Uuid::from_bytes(id));
                self.fetch
            }
            _ => {
                topic = topic.with_topic(TopicName(StrBytes::from_string(ask.topic.to_owned())));
                self.fetch.min(12)
            }
        };
        let wait = i32::try_from(ask.wait.as_millis()).unwrap_or(i32::MAX);
        let asked = FetchRequest::default()
            .with_replica_id(BrokerId(-1))
            .with_max_wait_ms(wait)
            .with_min_bytes(1)
            .with_max_bytes(ask.most)
            .with_isolation_level(i8::from(ask.committed))
            .with_session_epoch(-1)
            .with_topics(vec![topic]);
        self.fetching = version;
        self.send(ApiKey::Fetch, version, &asked)
    }

    /// Waits for the records that were asked for.
    pub(crate) fn fetched(&mut self) -> Result<Fetched> {
        let version = self.fetching;
        let mut answer = self.receive(ApiKey::Fetch, version, shape::fetch(version))?;
        let answer = FetchResponse::decode(&mut answer, version);
        let answer = answer.map_err(|error| self.failed("fetching", error))?;
        if answer.error_code != 0 {
            return Ok(Fetched { error: answer.error_code, aborted: Vec::new(), records: Bytes::new() });
        }
        let partition = answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
        let Some(partition) = partition else {
            return Err(self.failed("fetching", "it says nothing of the partition"));
        };
        let aborted = partition.aborted_transactions.unwrap_or_default();
        Ok(Fetched {
            error: partition.error_code,
            aborted: aborted.iter().map(|one| (one.producer_id.0, one.first_offset)).collect(),
            records: partition.records.unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use millstream_core::secs;

    use super::*;

    /// Gives a byte each time, a second later, for ever.
    struct Trickle<'a>(&'a Cell<Duration>);

    impl Read for Trickle<'_> {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            self.0.set(self.0.get() + secs(1));
            to[0] = 7;
            Ok(1)
        }
    }

    impl Waits for Trickle<'_> {
        fn wait_for(&mut self, _: Duration) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_answer_that_trickles_takes_no_longer_than_one_may() {
        let now = Cell::new(secs(100));
        let mut to = [0; 50];
        read_within(&mut Trickle(&now), &mut to[..9], secs(110), || now.get()).unwrap();
        assert_eq!(to[..10], [7, 7, 7, 7, 7, 7, 7, 7, 7, 0]);
        now.set(secs(100));
        let error = read_within(&mut Trickle(&now), &mut to, secs(110), || now.get()).unwrap_err();
        assert_eq!((error.kind(), now.get()), (std::io::ErrorKind::TimedOut, secs(110)));
    }
}
