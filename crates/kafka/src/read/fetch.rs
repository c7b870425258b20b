//! Reads ranges by fetches of its own: batches are cut into records where they lie, without a copy of what is not
//! packed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_core::clock::monotonic;
use millstream_core::{Error, ErrorKind, Result, millis};

use super::batches::{Aborted, Batch, Broken, behind_damaged, head};
use super::wire::{Ask, Fetched, TopicId, Wire};
use super::{CHUNK, How, Met, RangeReader, behind_what_is_gone, check_cancelled, lose, out_of_range, too_large, wires};
use crate::ranges::OffsetRange;
use crate::record::Record;
use crate::source::{Isolation, OnLoss};

/// How long a broker may wait for a record before it says that there is none.
const WAIT: Duration = millis(100);

/// What Kafka's errors are called by number, as far as they are told apart.
mod code {
    pub(super) const OUT_OF_RANGE: i16 = 1;
    pub(super) const CORRUPT: i16 = 2;
    pub(super) const NOT_ALLOWED: i16 = 29;
    pub(super) const UNKNOWN_TOPIC_ID: i16 = 100;
    pub(super) const INCONSISTENT_TOPIC_ID: i16 = 103;
}

/// Reads one partition, over a connection to the leader that it has while it reads.
pub(crate) struct FetchReader {
    how: Arc<How>,
    topic: Arc<str>,
    /// The topic that the name meant when the batch was given its range.
    id: Option<TopicId>,
    range: OffsetRange,
    /// How much is asked for at once; a batch that is larger comes all the same.
    piece: i32,
    /// Where the leader listens, as far as it is known.
    leader: Option<String>,
    wire: Option<Wire>,
    /// Whether the connection was there before, and nothing has come over it since: the broker may have ended it meanwhile.
    is_kept: bool,
    /// Whether records have been asked for and have not come, and from which offset on.
    asked: Option<i64>,
    /// What has come and is not read: the next batch begins with the first byte. It keeps all that came with it, so many bytes.
    rest: Bytes,
    came: u64,
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
    met: Met,
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
            piece: 1 << 20,
            leader: None,
            wire: None,
            is_kept: false,
            asked: None,
            rest: Bytes::new(),
            came: 0,
            aborted: Aborted::default(),
            batch: None,
            behind: -1,
            position: -1,
            said: None,
            is_old: false,
            met: Met::default(),
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
        if let Some(leader) = self.leader.take() {
            self.wire = wires::take(&self.how.brokers, &leader);
            self.is_kept = self.wire.is_some();
            if self.wire.is_none() {
                self.wire = Wire::open(&leader, patience).ok();
            }
            if self.wire.is_some() {
                self.leader = Some(leader);
                return Ok(true);
            }
            // Another one leads, perhaps.
        }
        let named = self.how.brokers.named();
        let known = wires::take(&self.how.brokers, named)
            .and_then(|mut wire| Some((wire.topic(&self.range.topic).ok()?, wire)));
        let (topic, first) = match known {
            Some(known) => known,
            None => {
                let mut wire = Wire::open(named, patience)?;
                (wire.topic(&self.range.topic)?, wire)
            }
        };
        if let (Some(is), Some(was)) = (topic.id, self.id)
            && is != was
        {
            wires::give(&self.how.brokers, named, first);
            if self.how.on_loss == OnLoss::GoOn {
                self.lose_until(self.range.until, "are gone, with their topic");
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
        self.is_kept = false;
        if leader == named {
            self.wire = Some(first);
        } else {
            wires::give(&self.how.brokers, named, first);
            self.wire = Some(match wires::take(&self.how.brokers, &leader) {
                Some(wire) => {
                    self.is_kept = true;
                    wire
                }
                None => Wire::open(&leader, patience)?,
            });
        }
        self.leader = Some(leader);
        Ok(true)
    }

    /// Leaves out what is before `until`: it is lost, and counted.
    fn lose_until(&mut self, until: i64, why: &str) {
        lose(&mut self.met, &self.range, self.position, until, why);
        self.position = until;
    }

    /// Lets go of a connection that failed. Says whether another try is worth it at once: it was an old one.
    fn disconnect(&mut self) -> bool {
        self.wire = None;
        if let Some(leader) = &self.leader {
            wires::forget(&self.how.brokers, leader);
        }
        let is_kept = std::mem::take(&mut self.is_kept);
        if !is_kept {
            self.leader = None;
        }
        is_kept
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
        wire.longest = self.how.memory;
        wire.ask(&Ask {
            topic: &self.range.topic,
            id: self.id,
            partition: self.range.partition,
            from,
            most: self.piece,
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
        (self.asked, self.is_kept) = (None, false);
        self.met.bytes += fetched.records.len() as u64;
        Ok(Some(fetched))
    }

    /// Brings more. Says whether something came.
    fn more(&mut self) -> Result<bool> {
        let fetched = loop {
            let began = monotonic();
            let fetched = self.fetch();
            self.met.waited += monotonic().saturating_sub(began);
            match fetched {
                Ok(Some(fetched)) => break fetched,
                Ok(None) => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Unavailable => {
                    tracing::debug!(%error, "a fetch is tried again");
                    let at_once = self.disconnect();
                    self.restart();
                    if !at_once {
                        self.said = Some(error);
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        };
        match meaning(fetched.error) {
            Answer::Records => {}
            Answer::Again => {
                // Nothing is wrong with the connection: what else that broker leads is read by it.
                if let (Some(wire), Some(leader)) = (self.wire.take(), self.leader.take()) {
                    wires::give(&self.how.brokers, &leader, wire);
                }
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
                        self.restart();
                        self.lose_until(behind, "are gone");
                        return Ok(false);
                    }
                    None => return Err(out_of_range(&self.range, &self.how.brokers, there)),
                }
            }
            Answer::OtherTopic => {
                // A broker that has just started may not know it yet: what the name means now decides.
                (self.wire, self.leader) = (None, None);
                return Ok(false);
            }
            Answer::Damaged if self.how.on_loss == OnLoss::GoOn => {
                // Nobody says how far that reaches.
                self.lose_until(self.range.until, "are damaged");
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
        self.came = fetched.records.len() as u64;
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
            Broken::Large(bytes) => {
                let what = format!("a record, or what packs it, in the batch at offset {at} of {}", self.named());
                too_large(&what, *bytes, self.how.memory)
            }
        }
    }

    /// Goes on behind a batch that cannot be read, if that is what the source does. Says why it cannot otherwise.
    fn skip(&mut self, broken: &Broken, base: i64, behind: Option<i64>, next: Bytes) -> Result<()> {
        let Broken::Damaged(why) = broken else { return Err(self.broken(base, broken)) };
        if self.how.on_loss != OnLoss::GoOn {
            return Err(self.damaged(base, why));
        }
        let until = self.range.until;
        // Nobody knows how far it reaches: at least the whole range is not read in vain again and again.
        let behind = behind.filter(|behind| *behind > self.position).unwrap_or(until);
        self.lose_until(behind.min(until), &format!("are damaged ({why})"));
        self.batch = None;
        self.rest = next;
        // What the next range has of it is counted there. And what comes next must be what is asked for next.
        if behind > until || (self.rest.is_empty() && self.asked.is_some_and(|asked| asked != behind)) {
            self.restart();
        }
        Ok(())
    }

    /// Goes on to the next batch that has come and is to be read. Says whether there is one.
    fn next_batch(&mut self) -> Result<bool> {
        loop {
            let head = match head(&self.rest) {
                Ok(head) => head,
                Err(broken) => {
                    let (len, behind) = behind_damaged(&self.rest, self.position);
                    let next = self.rest.slice(len..);
                    self.skip(&broken, self.position, behind, next)?;
                    if self.position >= self.range.until {
                        return Ok(false);
                    }
                    continue;
                }
            };
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
                let most = usize::try_from(self.how.memory).unwrap_or(usize::MAX);
                match Batch::open(head, &bytes, &self.topic, self.range.partition, most) {
                    Ok(batch) => self.batch = Some(batch),
                    Err(broken) => self.skip(&broken, head.base, Some(self.behind), self.rest.clone())?,
                }
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
    fn begin(&mut self, range: &OffsetRange, among: u32) -> Result<()> {
        self.range = range.clone();
        self.piece = i32::try_from(self.how.piece(among)).unwrap_or(i32::MAX);
        if self.position != range.from {
            self.restart();
            self.position = range.from;
        }
        Ok(())
    }

    fn read(&mut self, out: &mut Vec<Record>) -> Result<bool> {
        let before = out.len();
        let until = self.range.until;
        let (mut deadline, mut tried_at, mut tries) = (None, self.position, 0);
        self.said = None;
        while self.position < until && out.len() == before {
            if let Some(batch) = &mut self.batch {
                let more = match batch.read(self.position, until, CHUNK, out) {
                    Ok(more) => more,
                    Err(broken) => {
                        // What has been cut out of it is good.
                        if let Some(last) = out.last().filter(|_| out.len() > before) {
                            self.position = last.offset + 1;
                        }
                        self.skip(&broken, self.position, Some(self.behind), self.rest.clone())?;
                        continue;
                    }
                };
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
                self.disconnect();
                self.asked = None;
            }
            // An answer that brings the range no further is none: patience ends also where such answers come for ever.
            if self.position > tried_at {
                (deadline, tried_at, tries) = (None, self.position, 0);
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
                std::thread::park_timeout(crate::cluster::pause(tries));
                tries += 1;
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

    fn wait(&mut self) -> u64 {
        if self.asked.is_some() {
            // Whoever left early: what comes is for nobody.
            self.restart();
        }
        if let (Some(wire), Some(leader)) = (self.wire.take(), &self.leader) {
            wires::give(&self.how.brokers, leader, wire);
        }
        let unpacked = self.batch.as_ref().map_or(0, Batch::held) as u64;
        if self.rest.is_empty() && self.batch.is_none() { 0 } else { self.came.saturating_add(unpacked) }
    }

    fn let_go(&mut self) -> bool {
        self.restart();
        true
    }

    fn met(&mut self) -> Met {
        std::mem::take(&mut self.met)
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
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn k50_who_waits_for_records_waits_as_long_as_told_and_says_for_what() {
        // Nobody listens there any more.
        let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = held.local_addr().unwrap().to_string();
        drop(held);
        let how = Arc::new(How { patience: millis(30), ..How::of(&*at) });
        let range = OffsetRange::new("t", 0, 3, 8);
        let mut reader = FetchReader::open(&how, &range, None);
        reader.begin(&range, 1).unwrap();
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
        let how = Arc::new(How { patience: millis(60), ..How::of(format!("127.0.0.1:{port}")) });
        let range = OffsetRange::new("t", 0, 0, 8);
        let mut reader = FetchReader::open(&how, &range, None);
        reader.begin(&range, 1).unwrap();
        let error = reader.read(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        let text = error.to_string();
        assert!(text.contains("after waiting for 60ms") && !text.contains("lengths lead"), "{text}");

        // While it waits its connection is for others, until the program has ended.
        let at = format!("127.0.0.1:{port}");
        assert_eq!(reader.wait(), 18, "what is left of the answer");
        let wire = wires::take(&how.brokers, &at).expect("it was given back");
        wires::give(&how.brokers, &at, wire);
        let other = How::of(at.as_str()).brokers.set("client.id", "other");
        assert!(wires::take(&other, &at).is_none(), "other settings, another connection");
        wires::end(&how.brokers);
        assert!(wires::take(&how.brokers, &at).is_none());
    }
}
