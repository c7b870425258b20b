//! Reads ranges by fetches of its own: batches are cut into records where they lie, without a copy of what is not
//! packed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::clock::monotonic;
use millstream_core::{Error, ErrorKind, Result, millis};

use super::batches::{Aborted, Batch, Broken, head};
use super::wire::{Ask, Fetched, TopicId, Wire};
use super::{CHUNK, How, RangeReader, behind_what_is_gone, check_cancelled, out_of_range, tell_lost};
use crate::ranges::OffsetRange;
use crate::record::Record;
use crate::source::{Isolation, OnLoss};

/// How much is asked for at once; a batch that is larger comes all the same.
const MOST: i32 = 1 << 20;

/// How long a broker may wait for a record before it says that there is none.
const WAIT: Duration = millis(100);

/// How long it takes to ask again who leads.
const PAUSE: Duration = millis(50);

/// What Kafka's errors are called by number, as far as they are told apart.
mod code {
    pub(super) const OUT_OF_RANGE: i16 = 1;
    pub(super) const CORRUPT: i16 = 2;
    pub(super) const NOT_ALLOWED: i16 = 29;
    pub(super) const UNKNOWN_TOPIC_ID: i16 = 100;
    pub(super) const INCONSISTENT_TOPIC_ID: i16 = 103;
}

/// Reads one partition, over a connection of its own to the leader.
pub(crate) struct FetchReader {
    how: Arc<How>,
    topic: Arc<str>,
    /// The topic that the name meant when the batch was given its range.
    id: Option<TopicId>,
    range: OffsetRange,
    wire: Option<Wire>,
    /// Whether records have been asked for and have not come, and from which offset on.
    asked: Option<i64>,
    /// What has come and is not read: the next batch begins with the first byte.
    rest: Bytes,
    aborted: Aborted,
    batch: Option<Batch>,
    /// The offset behind the last batch that has been begun.
    behind: i64,
    /// The first offset of which it is not known what it has.
    position: i64,
    /// What was wrong when it was last tried.
    said: Option<Error>,
    /// Whether what is there is older than what is read here.
    is_old: bool,
}

/// What is to be done about an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Records,
    /// Another broker leads, or this one is not ready: ask again.
    Again,
    OutOfRange,
    /// There is no topic of this id any more.
    OtherTopic,
    Damaged,
    NotAllowed,
}

/// Says what an answer means, by its error. Pure.
fn meaning(error: i16) -> Answer {
    match error {
        0 => Answer::Records,
        code::OUT_OF_RANGE => Answer::OutOfRange,
        code::CORRUPT => Answer::Damaged,
        code::NOT_ALLOWED => Answer::NotAllowed,
        code::UNKNOWN_TOPIC_ID | code::INCONSISTENT_TOPIC_ID => Answer::OtherTopic,
        _ => Answer::Again,
    }
}

impl FetchReader {
    pub(crate) fn open(how: &Arc<How>, range: &OffsetRange, id: Option<TopicId>) -> FetchReader {
        FetchReader {
            how: Arc::clone(how),
            topic: Arc::from(range.topic.as_str()),
            id,
            range: range.clone(),
            wire: None,
            asked: None,
            rest: Bytes::new(),
            aborted: Aborted::default(),
            batch: None,
            behind: -1,
            position: -1,
            said: None,
            is_old: false,
        }
    }

    fn named(&self) -> String {
        format!("{}/{} at the brokers {}", self.range.topic, self.range.partition, self.how.brokers.named())
    }

    /// Forgets what has come, and asks anew from where it is.
    fn restart(&mut self) {
        self.rest = Bytes::new();
        self.batch = None;
        if self.asked.take().is_some() {
            // What comes over this connection is what was asked before.
            self.wire = None;
        }
    }

    /// Connects to the leader; nothing while there is none.
    fn connect(&mut self) -> Result<bool> {
        let patience = self.how.brokers.patience();
        let mut first = Wire::open(self.how.brokers.named(), patience)?;
        let topic = first.topic(&self.range.topic)?;
        if let (Some(is), Some(was)) = (topic.id, self.id)
            && is != was
        {
            if self.how.on_loss == OnLoss::GoOn {
                tell_lost(&self.range, self.position, self.range.until);
                self.position = self.range.until;
                return Ok(false);
            }
            return Err(self.made_anew());
        }
        let leader = topic.leaders.into_iter().find(|(partition, _)| *partition == self.range.partition);
        let Some((_, Some(leader))) = leader.filter(|_| topic.error == 0) else {
            let text = format!("it has no leader, or is not there (error {})", topic.error);
            self.said = Some(Error::new(ErrorKind::Unavailable, text));
            return Ok(false);
        };
        self.wire = Some(Wire::open(&leader, patience)?);
        Ok(true)
    }

    fn made_anew(&self) -> Error {
        let text = format!(
            "the topic of {} was deleted and made anew: the offsets {} until {} are of the one before, which is gone. \
             Begin anew, \
             or give the stream another start",
            self.named(),
            self.range.from,
            self.range.until
        );
        Error::new(ErrorKind::Data, text)
    }

    fn ask(&mut self, from: i64) -> Result<()> {
        let Some(wire) = &mut self.wire else { return Ok(()) };
        wire.ask(&Ask {
            topic: &self.range.topic,
            id: self.id,
            partition: self.range.partition,
            from,
            most: MOST,
            wait: WAIT,
            committed: self.how.isolation == Isolation::ReadCommitted,
        })?;
        self.asked = Some(from);
        Ok(())
    }

    /// Asks if need be, and waits for an answer.
    fn fetch(&mut self) -> Result<Option<Fetched>> {
        if self.wire.is_none() && !self.connect()? {
            return Ok(None);
        }
        if self.asked.is_none() {
            self.ask(self.position)?;
        }
        let Some(wire) = &mut self.wire else { return Ok(None) };
        let fetched = wire.fetched()?;
        self.asked = None;
        Ok(Some(fetched))
    }

    /// Brings more. Says whether something came.
    fn more(&mut self) -> Result<bool> {
        let fetched = match self.fetch() {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return Ok(false),
            Err(error) if error.kind() == ErrorKind::Unavailable => {
                tracing::debug!(%error, "a fetch is tried again");
                self.restart();
                self.wire = None;
                self.said = Some(error);
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        match meaning(fetched.error) {
            Answer::Records => {}
            Answer::Again => {
                self.wire = None;
                let text = format!("the broker answers with error {}", fetched.error);
                self.said = Some(Error::new(ErrorKind::Unavailable, text));
                return Ok(false);
            }
            Answer::OutOfRange => {
                let cluster = crate::cluster::Cluster::open(&self.how.brokers, None, self.how.isolation)?;
                let of = [self.range.topic_partition()];
                let place = |place| cluster.offsets(&of, place).ok().and_then(|offsets| offsets.first().copied());
                let there = place(crate::cluster::Place::Begin).zip(place(crate::cluster::Place::End));
                let position = self.position;
                match behind_what_is_gone(self.how.on_loss, position, self.range.until, there) {
                    Some(behind) => {
                        tell_lost(&self.range, position, behind);
                        self.restart();
                        self.position = behind;
                        return Ok(false);
                    }
                    None => return Err(out_of_range(&self.range, &self.how.brokers, there)),
                }
            }
            Answer::OtherTopic => {
                // A broker that has just started may not know it yet: what the name means now decides.
                self.wire = None;
                return Ok(false);
            }
            Answer::Damaged => return Err(self.damaged(self.position, "the broker says so itself")),
            Answer::NotAllowed => {
                let text = format!("reading {} is not allowed to this user", self.named());
                return Err(Error::new(ErrorKind::Config, text));
            }
        }
        if fetched.records.is_empty() {
            return Ok(false);
        }
        self.rest = fetched.records;
        self.aborted = Aborted::new(fetched.aborted);
        Ok(true)
    }

    fn damaged(&self, at: i64, why: &str) -> Error {
        let text = format!(
            "the batch at offset {at} of {} is damaged: {why}. Restore the partition from another copy, or go on \
             behind it",
            self.named()
        );
        Error::new(ErrorKind::Data, text)
    }

    fn broken(&mut self, at: i64, broken: &Broken) -> Error {
        match broken {
            Broken::Old(magic) => {
                self.is_old = true;
                let text = format!("the batch at offset {at} of {} is in the old message format {magic}", self.named());
                Error::new(ErrorKind::Config, text)
            }
            Broken::Damaged(why) => self.damaged(at, why),
        }
    }

    /// Goes on to the next batch that has come and is to be read. Says whether there is one.
    fn next_batch(&mut self) -> Result<bool> {
        loop {
            let head = head(&self.rest).map_err(|broken| self.broken(self.position, &broken))?;
            let Some(head) = head else {
                self.rest = Bytes::new();
                return Ok(false);
            };
            if head.base >= self.range.until {
                // It is of a later range, and nothing is left of this one.
                self.position = self.range.until;
                return Ok(false);
            }
            let bytes = self.rest.split_to(head.len);
            // Of who reads everything nothing is aborted.
            let is_read = self.aborted.admits(&head);
            self.behind = head.last.saturating_add(1);
            if head.last < self.position {
                continue;
            }
            if is_read {
                let batch = Batch::open(head, &bytes, &self.topic, self.range.partition);
                self.batch = Some(batch.map_err(|broken| self.broken(head.base, &broken))?);
                return Ok(true);
            }
            self.position = self.behind.min(self.range.until);
            if self.position >= self.range.until {
                return Ok(false);
            }
        }
    }

    /// Asks for what comes behind what has come, so that the broker works while that is read.
    fn ask_ahead(&mut self) -> Result<()> {
        if self.asked.is_some() || self.wire.is_none() {
            return Ok(());
        }
        let mut at = 0;
        let mut behind = None;
        while let Some(length) = self.rest.get(at + 8..at + 12) {
            let length = i32::from_be_bytes(length.try_into().unwrap_or_default());
            let end = usize::try_from(length).ok().and_then(|length| at.checked_add(length)?.checked_add(12));
            let Some(end) = end.filter(|end| *end <= self.rest.len() && *end > at + 27) else { break };
            let number = |from: usize, to: usize| self.rest.get(from..to);
            let base = number(at, at + 8).and_then(|b| b.try_into().ok()).map(i64::from_be_bytes);
            let delta = number(at + 23, at + 27).and_then(|b| b.try_into().ok()).map(i32::from_be_bytes);
            behind = base.zip(delta).map(|(base, delta)| base.saturating_add(i64::from(delta)).saturating_add(1));
            at = end;
        }
        match behind.filter(|behind| *behind < self.range.until) {
            Some(behind) => self.ask(behind),
            None => Ok(()),
        }
    }
}

impl RangeReader for FetchReader {
    fn begin(&mut self, range: &OffsetRange) -> Result<()> {
        self.range = range.clone();
        if self.position != range.from {
            self.restart();
            self.position = range.from;
        }
        Ok(())
    }

    fn read(&mut self, out: &mut Vec<Record>) -> Result<bool> {
        let before = out.len();
        let until = self.range.until;
        let (mut deadline, mut tried_at) = (None, self.position);
        self.said = None;
        while self.position < until && out.len() == before {
            if let Some(batch) = &mut self.batch {
                let more = batch.read(self.position, until, CHUNK, out);
                let more = more.map_err(|broken| self.broken(self.position, &broken))?;
                match out.last().filter(|_| out.len() > before) {
                    _ if !more && self.behind > until => self.position = until,
                    _ if !more => {
                        self.position = self.behind;
                        self.batch = None;
                    }
                    Some(last) => self.position = last.offset + 1,
                    None => {}
                }
                continue;
            }
            if self.next_batch()? || self.position >= until || !self.rest.is_empty() {
                continue;
            }
            check_cancelled()?;
            let came = self.more()?;
            if came && let Err(error) = self.ask_ahead() {
                // What has come is good; who asks next connects anew.
                tracing::debug!(%error, "what comes next could not be asked for");
                self.wire = None;
                self.asked = None;
            }
            // An answer that brings the range no further is none: patience ends also where such answers come for ever.
            if self.position > tried_at {
                (deadline, tried_at) = (None, self.position);
            }
            if came && deadline.is_none() {
                deadline = Some(monotonic() + self.how.patience);
                continue;
            }
            let deadline = *deadline.get_or_insert_with(|| monotonic() + self.how.patience);
            if monotonic() > deadline {
                let said = self.said.take().map(|said| format!(" ({})", said.message())).unwrap_or_default();
                let text = format!(
                    "failed to get records of {} at {} after waiting for {:?}{said}: is the broker there?",
                    self.range,
                    self.how.brokers.named(),
                    self.how.patience
                );
                return Err(Error::new(ErrorKind::Unavailable, text));
            }
            if self.wire.is_none() {
                std::thread::park_timeout(PAUSE);
            }
        }
        Ok(out.len() > before)
    }

    fn position(&self) -> i64 {
        self.position
    }

    fn gives_way(&self) -> bool {
        self.is_old
    }
}

impl fmt::Debug for FetchReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FetchReader({} at {})", self.range, self.position)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read::ReadBy;
    use crate::settings::Brokers;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn k50_who_waits_for_records_waits_as_long_as_told_and_says_for_what() {
        // Nobody listens there any more.
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = held.local_addr().unwrap().to_string();
        drop(held);
        let (brokers, isolation, read_by) = (Brokers::at(&at), Isolation::ReadCommitted, ReadBy::Fastest);
        let how = Arc::new(How { brokers, isolation, patience: millis(30), read_by, kept: 1, on_loss: OnLoss::Stop });
        let range = OffsetRange::new("t", 0, 3, 8);
        let mut reader = FetchReader::open(&how, &range, None);
        reader.begin(&range).unwrap();
        let error = reader.read(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let text = error.to_string();
        assert!(text.contains("t/0 from 3 until 8") && text.contains(&at), "{text}");
        assert!(text.contains("after waiting for 30ms") && text.contains("connecting to the broker"), "{text}");
    }

    fn field(out: &mut Vec<u8>, parts: &[&[u8]]) {
        parts.iter().for_each(|part| out.extend_from_slice(part));
    }

    /// Answers questions of one connection, in the oldest forms that are spoken, as a broker that has nothing but `records`.
    fn answer_all(mut stream: TcpStream, port: u16, records: &[u8]) -> std::io::Result<()> {
        let (no, one) = (&0i32.to_be_bytes(), &1i32.to_be_bytes());
        loop {
            let mut len = [0; 4];
            stream.read_exact(&mut len)?;
            let mut asked = vec![0; u32::from_be_bytes(len) as usize];
            stream.read_exact(&mut asked)?;
            let mut body = asked[4..8].to_vec();
            match asked[1] {
                18 => field(
                    &mut body,
                    &[&[0; 2], &3i32.to_be_bytes(), &[0, 1, 0, 0, 0, 10, 0, 2, 0, 0, 0, 4, 0, 3, 0, 0, 0, 7]],
                ),
                3 => {
                    field(
                        &mut body,
                        &[no, one, one, &[0, 9], b"127.0.0.1", &i32::from(port).to_be_bytes(), &[0xff; 2]],
                    );
                    field(&mut body, &[&[0xff; 2], one, one, &[0; 2], &[0, 1], b"t", &[0], one]);
                    field(&mut body, &[&[0; 2], no, one, no, no, no, no]);
                }
                _ => {
                    field(&mut body, &[no, &[0; 2], no, one, &[0, 1], b"t", one, no, &[0; 2], &[0; 24], &[0xff; 4]]);
                    field(&mut body, &[&(records.len() as i32).to_be_bytes(), records]);
                }
            }
            stream.write_all(&(body.len() as u32).to_be_bytes())?;
            stream.write_all(&body)?;
        }
    }

    #[test]
    fn answers_that_bring_a_range_no_further_do_not_keep_it_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serve = move || {
            for stream in listener.incoming().flatten() {
                // A batch that is cut in the middle, each time.
                let answer =
                    move || drop(answer_all(stream, port, &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 7]));
                millstream_core::threads::spawn("connection", answer).unwrap().detach();
            }
        };
        millstream_core::threads::spawn("broker", serve).unwrap().detach();
        let (brokers, isolation, read_by) =
            (Brokers::at(format!("127.0.0.1:{port}")), Isolation::ReadCommitted, ReadBy::Fastest);
        let how = Arc::new(How { brokers, isolation, patience: millis(60), read_by, kept: 1, on_loss: OnLoss::Stop });
        let range = OffsetRange::new("t", 0, 0, 8);
        let mut reader = FetchReader::open(&how, &range, None);
        reader.begin(&range).unwrap();
        let error = reader.read(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let text = error.to_string();
        assert!(text.contains("after waiting for 60ms") && !text.contains("lengths lead"), "{text}");
    }
}
