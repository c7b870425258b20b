//! Each batch once: its records and a mark with its time are one transaction.
//!
//! ```text
//! start     fence (init_transactions)   read the mark   take over: write the mark again, with this run
//! batch     is it covered by the mark?  leave it out
//!           has an earlier one failed?  refuse it
//!           begin   records   mark      commit
//! in doubt  a new producer, fence, read the mark: it says whether the batch is there
//! ```
//!
//! The transaction is committed while the batch runs, before its end is in the checkpoint: a transaction of Kafka does
//! not outlive its process. If the process ends between the two, the batch runs again from the same input, and the mark
//! says that it is there.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::threads::lock;
use millstream_core::{Data, Error, ErrorKind, Rdd, Result, millis, secs};
use millstream_streaming::{OutputBatch, OutputRun, Transactional};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer;
use rdkafka::{Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};

use super::KafkaSink;
use super::aside::Aside;
use super::marker::{By, Marker, Next, Settled, Takeover, is_behind, is_old, next, settle, take_over};
use super::producer::Sender;
use super::record::{NewRecord, ToRecord};
use crate::mistakes::{Mistake, passed, planted};
use crate::settings::{Heard, Told};

/// How often a batch is tried whose transaction failed.
const ATTEMPTS: u32 = 8;

/// How long it is waited before the second attempt; each later one waits for so much longer. Who is late and fences this run
/// for a moment is gone by then.
const PAUSE: Duration = millis(50);

/// A mark that must be there, and is not or is older, is asked for again for so long: a broker that has just started has been seen to answer
/// before it had read what it keeps of a group.
const SOON: Duration = secs(10);

/// What the checkpoint keeps of a batch that is written: the last batch of the output that has a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenBatch {
    last: Option<i64>,
}

/// A sink that takes each batch once.
pub(crate) struct ExactlyOnce {
    sink: KafkaSink,
    state: Mutex<Option<Open>>,
}

/// What a run has of an output.
struct Open {
    name: Name,
    by: By,
    sender: Sender,
    marking: Marking,
    marks: BaseConsumer<Told>,
    heard: Heard,
    metadata: Arc<ConsumerGroupMetadata>,
    /// Up to where batches were there when this run took over.
    found: i64,
    /// The last batch that this run wrote.
    written: Option<i64>,
    /// A batch that this run has begun, and that has not ended well.
    begun: Option<i64>,
    /// When the mark was last written.
    marked: Duration,
}

/// Adds offsets to the transaction of a producer that is open, within a time.
type Marking = Aside<(TopicPartitionList, Duration), Result<(), KafkaError>>;

fn marking(sender: &Sender, metadata: &Arc<ConsumerGroupMetadata>) -> Result<Marking> {
    let (producer, metadata) = (Arc::clone(&sender.producer), Arc::clone(metadata));
    Aside::begin("kafka-mark", move |(list, within)| producer.send_offsets_to_transaction(&list, &metadata, within))
}

impl Open {
    /// Whether there is a checkpoint directory, so that batches may run again.
    fn is_durable(&self) -> bool {
        self.by.run > 0
    }
}

/// How an output is called at the broker.
#[derive(Clone, Debug)]
struct Name {
    group: String,
    output: String,
}

impl Name {
    fn of(app: &str, output: &str) -> Name {
        Name { group: format!("millstream-{app}/{output}"), output: output.to_owned() }
    }
}

impl ExactlyOnce {
    pub(crate) fn new(sink: KafkaSink) -> ExactlyOnce {
        ExactlyOnce { sink, state: Mutex::new(None) }
    }

    fn sender(&self, name: &Name) -> Result<Sender> {
        let timeout = self.sink.patience.as_millis().clamp(10_000, 900_000).to_string();
        let own = [("transactional.id", name.group.as_str()), ("transaction.timeout.ms", &*timeout)];
        Sender::open(&self.sink.brokers, self.sink.patience, &own)
    }

    fn doing(&self, what: &str, name: &Name) -> String {
        format!("{what} output `{}` to topic {}", name.output, self.sink.topic)
    }

    /// Makes a producer that nobody else of this name can write beside.
    fn fence(&self, name: &Name, deadline: Duration) -> Result<Sender> {
        let sender = self.sender(name)?;
        loop {
            let answer = sender.producer.init_transactions(left(deadline));
            match answer {
                Ok(()) => return Ok(sender),
                // What was under way of the one before is being settled.
                Err(KafkaError::Transaction(error)) if error.is_retriable() && monotonic() < deadline => {
                    std::thread::park_timeout(millis(20));
                }
                Err(error) => return Err(sender.failed(self.doing("taking over", name), &error)),
            }
        }
    }

    /// Has a new producer, with the thread that marks for it, take the place of one that is in doubt.
    fn renew(&self, open: &mut Open, deadline: Duration) -> Result<()> {
        open.sender.purge();
        open.sender = self.fence(&open.name, deadline)?;
        open.marking = marking(&open.sender, &open.metadata)?;
        Ok(())
    }

    fn marks_of(&self, name: &Name) -> Result<(BaseConsumer<Told>, Heard)> {
        self.sink.brokers.client(&[
            ("group.id", &name.group),
            ("enable.auto.commit", "false"),
            // The broker answers when no transaction of the group is open any more.
            ("isolation.level", "read_committed"),
            ("reconnect.backoff.max.ms", "1000"),
        ])
    }

    fn mark_list(&self) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        // A mark must name a partition that is there.
        list.add_partition(&self.sink.topic, 0);
        Ok(list)
    }

    fn read_mark(&self, open: &Open, deadline: Duration) -> Result<Option<Marker>> {
        crate::cluster::patiently(left(deadline), || self.read_mark_now(open, deadline))
    }

    /// Reads a mark, for a while again and again while it is not there or older than it must be: `is_behind` says so.
    fn read_mark_that(
        &self,
        open: &Open,
        deadline: Duration,
        is_behind: impl Fn(Option<&Marker>) -> bool,
    ) -> Result<Option<Marker>> {
        let until = deadline.min(monotonic() + SOON);
        let mut is_told = planted(Mistake::MarkNotRead);
        loop {
            let marker = self.read_mark(open, deadline)?;
            if !is_behind(marker.as_ref()) || monotonic() >= until || planted(Mistake::MarkNotRead) {
                return Ok(marker);
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::warn!(
                    ?marker,
                    output = open.name.output,
                    "the mark of an output is not there, or older than it \
                    was; it is asked for again for a while"
                );
            }
            std::thread::park_timeout(millis(100));
        }
    }

    fn read_mark_now(&self, open: &Open, deadline: Duration) -> Result<Option<Marker>> {
        let Open { marks, heard, name, .. } = open;
        if planted(Mistake::MarkNotRead) {
            return Ok(None);
        }
        let patience = left(deadline).min(self.sink.brokers.patience());
        let answer = marks.committed_offsets(self.mark_list()?, patience);
        let answer = answer.map_err(|error| {
            // Why the question was in vain is told beside.
            while let Some(told) = marks.poll(Duration::ZERO) {
                told.err().iter().for_each(|error| heard.note(error));
            }
            self.sink.brokers.failed(self.doing("reading the mark of", name), &heard.of_group(error), heard)
        })?;
        let Some(element) = answer.find_partition(&self.sink.topic, 0) else { return Ok(None) };
        // The answer as a whole can be good, and that of the partition not: that is no mark that is not there.
        element
            .error()
            .map_err(|error| self.sink.brokers.failed(self.doing("reading the mark of", name), &error, heard))?;
        match element.offset() {
            Offset::Offset(offset) => match Marker::read(offset, element.metadata()) {
                Some(marker) => Ok(Some(marker)),
                None => {
                    let text = format!(
                        "the group {} at the brokers {} has an offset of topic {} that is no mark of an output: it is \
                         used by \
                         somebody else. Give the output another uid",
                        name.group,
                        self.sink.brokers.named(),
                        self.sink.topic
                    );
                    Err(Error::new(ErrorKind::Data, text))
                }
            },
            _ => Ok(None),
        }
    }

    /// Adds a mark to the transaction that is open. Who keeps the marks may move to another broker; the client then may wait for the one
    /// before for ever, whatever time it is given, so a thread of the producer's own does that. What does not answer in time is in doubt.
    fn mark(&self, open: &Open, marker: &Marker, deadline: Duration) -> Result<(), KafkaError> {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(&self.sink.topic, 0);
        element.set_offset(Offset::Offset(marker.batch))?;
        element.set_metadata(marker.metadata());
        let within = time_to_mark(left(deadline));
        let answer = open.marking.call((list, within), within + millis(500));
        answer.unwrap_or(Err(KafkaError::Global(Code::OperationTimedOut)))
    }

    fn late(&self, name: &Name, by: &By, run: u64) -> Error {
        if by.run == 0 {
            let text = format!(
                "another program with the same transactional id, {}, has taken over output `{}` at the brokers {}: give the \
                 output another uid, or the application another name",
                name.group,
                name.output,
                self.sink.brokers.named()
            );
            return Error::new(ErrorKind::Stopped, text);
        }
        let text = format!(
            "another start of the program has taken over output `{}` at the brokers {}: run {run}, of which this \
             checkpoint directory knows nothing. It is a copy, or an old one, or was begun anew under the old name: go on \
             with the other one, or delete the group {}, or give the output another uid",
            name.output,
            self.sink.brokers.named(),
            name.group
        );
        Error::new(ErrorKind::Stopped, text)
    }

    fn gone(&self, name: &Name, known: i64) -> Error {
        let text = format!(
            "the mark of output `{}` in group {} at the brokers {} is gone or an old one, which was written behind batch \
             {known} ms: it has expired (offsets.retention.minutes), topic {} was made anew, or the broker that keeps the group \
             has not read all of it when it started: begin that broker again, and then the program. A batch behind the mark \
             might be written twice. If doubles do not matter, give the output another uid",
            name.output,
            name.group,
            self.sink.brokers.named(),
            self.sink.topic
        );
        Error::new(ErrorKind::Data, text)
    }

    /// Checks that the topic is there, and takes the output over.
    fn open(&self, name: Name, start: &OutputRun, known: Option<i64>) -> Result<Open> {
        let run = start.fencing_token();
        refuse_disorder(start)?;
        let deadline = monotonic() + self.sink.patience;
        let cluster = crate::cluster::Cluster::open(&self.sink.brokers, None, crate::Isolation::ReadCommitted)?;
        if cluster.partitions(&self.sink.topic)?.is_empty() {
            let text = format!(
                "topic {} is not at the brokers {}: make it before output `{}` is written to it",
                self.sink.topic,
                self.sink.brokers.named(),
                name.output
            );
            return Err(Error::new(ErrorKind::Config, text));
        }
        let sender = if planted(Mistake::NoFence) {
            let unnamed = Name { group: format!("{}-{run}", name.group), ..name.clone() };
            self.fence(&unnamed, deadline)?
        } else {
            self.fence(&name, deadline)?
        };
        passed("fenced");
        let (marks, heard) = self.marks_of(&name)?;
        let metadata = marks.group_metadata();
        let metadata = metadata.map(Arc::new).ok_or_else(|| {
            Error::new(ErrorKind::Internal, "a consumer with a group has no metadata of it; please report it")
        })?;
        // Without a checkpoint runs have no names.
        let name_of_run = if run == 0 { format!("{:016x}", some_number()) } else { start.name().to_owned() };
        let by = By { run, name: name_of_run };
        let (written, begun, marked) = (None, None, monotonic());
        let marking = marking(&sender, &metadata)?;
        let mut open = Open { name, by, sender, marking, marks, heard, metadata, found: 0, written, begun, marked };
        self.take_over(&mut open, start, known, deadline)?;
        passed("taken-over");
        Ok(open)
    }

    /// Reads the mark and writes it again: from here on whoever ran before sees that it is late, also if it fences this run for a
    /// moment. That is in doubt as any transaction is, if it fails.
    fn take_over(&self, open: &mut Open, start: &OutputRun, known: Option<i64>, deadline: Duration) -> Result<()> {
        let mut attempt = 1;
        loop {
            let judge = |marker: Option<&Marker>| take_over(marker, &open.by, |name| start.follows(name), known);
            let is_behind = |marker: Option<&Marker>| matches!(judge(marker), Takeover::Gone(_));
            let marker = self.read_mark_that(open, deadline, is_behind)?;
            match take_over(marker.as_ref(), &open.by, |name| start.follows(name), known) {
                _ if planted(Mistake::MarkNotRead) => {}
                Takeover::Late(other) => return Err(self.late(&open.name, &open.by, other)),
                Takeover::Gone(known) => return Err(self.gone(&open.name, known)),
                Takeover::From(batch) => open.found = batch,
            }
            tracing::debug!(?marker, known, output = open.name.output, "an output of Kafka is taken over");
            passed("mark-read");
            let Err(error) = self.mark_alone(open, "taking over", deadline) else { return Ok(()) };
            if attempt == ATTEMPTS || monotonic() >= deadline {
                return Err(error);
            }
            tracing::warn!(attempt, %error, "an output of Kafka could not be taken over; it is tried again");
            std::thread::park_timeout(PAUSE * attempt);
            attempt += 1;
            self.renew(open, deadline)?;
        }
    }

    /// Writes the mark again, as it is.
    fn mark_alone(&self, open: &mut Open, what: &str, deadline: Duration) -> Result<()> {
        let marker = Marker { batch: open.written.unwrap_or(open.found), by: open.by.clone() };
        let marked = open.sender.producer.begin_transaction();
        let marked = marked.and_then(|()| self.mark(open, &marker, deadline));
        let marked = marked.and_then(|()| open.sender.producer.commit_transaction(left(deadline)));
        marked.map_err(|error| open.sender.failed(self.doing(what, &open.name), &error))?;
        open.marked = monotonic();
        Ok(())
    }

    /// Writes a batch as one transaction.
    fn write(&self, open: &Open, records: &[NewRecord], batch: i64, deadline: Duration) -> Result<()> {
        let fail = |what: &str, error: &KafkaError| open.sender.failed(self.doing(what, &open.name), error);
        let producer = &open.sender.producer;
        producer.begin_transaction().map_err(|error| fail("beginning a transaction of", &error))?;
        passed("begun");
        open.sender.send_all(records.iter().cloned(), &self.sink.topic, left(deadline))?;
        passed("sent");
        let marker = Marker { batch, by: open.by.clone() };
        let outside = planted(Mistake::MarkOutside);
        if !outside {
            self.mark(open, &marker, deadline).map_err(|error| fail("marking", &error))?;
        }
        passed("marked");
        producer.commit_transaction(left(deadline)).map_err(|error| fail("committing", &error))?;
        passed("committed");
        if outside {
            let marked = producer.begin_transaction().and_then(|()| self.mark(open, &marker, deadline));
            let marked = marked.and_then(|()| producer.commit_transaction(left(deadline)));
            marked.map_err(|error| fail("marking", &error))?;
        }
        Ok(())
    }

    /// Fences, and finds out what became of a transaction that failed. Any failure is in doubt, also one that says that
    /// another producer has fenced this one: a broker that starts again says so, too.
    fn settle(&self, open: &mut Open, batch: i64, deadline: Duration) -> Result<Settled> {
        self.renew(open, deadline)?;
        let written = open.written.unwrap_or(open.found);
        let marker = self.read_mark_that(open, deadline, |marker| is_behind(marker, &open.by, written))?;
        Ok(settle(marker.as_ref(), &open.by, batch, written))
    }

    /// Takes a batch. Returns how often its transaction was tried; 0 if the batch is there already.
    fn take(&self, open: &mut Open, records: &[NewRecord], batch: i64) -> Result<u32> {
        if open.is_durable() {
            match next(batch, open.found, open.written, open.begun) {
                Next::Write => {}
                Next::LeaveOut => {
                    tracing::debug!(batch, output = open.name.output, "the batch is at the broker already");
                    return Ok(0);
                }
                Next::OutOfOrder(later) => {
                    let text = format!(
                        "batch {batch} ms of output `{}` comes behind batch {later} ms, which is written: exactly \
                         once in Kafka needs \
                         batches one after the other. Set concurrent_jobs to 1",
                        open.name.output
                    );
                    return Err(Error::new(ErrorKind::Config, text));
                }
                Next::Behind(failed) => {
                    let text = format!(
                        "batch {batch} ms of output `{}` is not written: batch {failed} ms before it failed, and runs \
                         again when the program is started again",
                        open.name.output
                    );
                    return Err(Error::new(ErrorKind::Stopped, text));
                }
            }
        }
        let deadline = monotonic() + self.sink.patience;
        let mut attempt = 1;
        loop {
            let Err(error) = self.write(open, records, batch, deadline) else { return Ok(attempt) };
            if monotonic() >= deadline {
                let text = format!("{}; whether the batch is there, the next start finds out", error.message());
                return Err(Error::new(error.kind(), text));
            }
            let settled = self.settle(open, batch, deadline)?;
            tracing::debug!(batch, attempt, %error, ?settled, "a transaction of Kafka was in doubt");
            match settled {
                Settled::Committed => return Ok(attempt),
                Settled::Late(run) => return Err(self.late(&open.name, &open.by, run)),
                Settled::Gone => return Err(self.gone(&open.name, open.written.unwrap_or(open.found))),
                Settled::Aborted => {}
            }
            // What is wrong with a record or a topic is wrong the next time, too.
            if attempt == ATTEMPTS || matches!(error.kind(), ErrorKind::User | ErrorKind::Config) {
                return Err(error);
            }
            tracing::warn!(batch, attempt, %error, "a transaction of Kafka failed; it is not there, and is written \
                again");
            std::thread::park_timeout(PAUSE * attempt);
            attempt += 1;
        }
    }
}

/// Refuses what would have a later batch written before an earlier one: the mark is one number, and would cover both.
fn refuse_disorder(start: &OutputRun) -> Result<()> {
    let refuse = |text: String| Err(Error::new(ErrorKind::Config, text));
    // Without a checkpoint directory no batch runs again.
    if start.fencing_token() == 0 {
        return Ok(());
    }
    if start.concurrent_jobs() > 1 {
        return refuse(format!(
            "output `{}` writes to Kafka exactly once, which needs batches one after the other: set concurrent_jobs to 1, \
             not {}, or write at_least_once()",
            start.output(),
            start.concurrent_jobs()
        ));
    }
    if start.goes_on_after_failures() {
        return refuse(format!(
            "output `{}` writes to Kafka exactly once, and a batch that failed could not be told from one that is written \
             once a later one is: set on_failure to OnFailure::Stop, or write at_least_once()",
            start.output()
        ));
    }
    Ok(())
}

/// Returns a number that nobody has had before, of the system's chance.
fn some_number() -> u64 {
    use std::hash::BuildHasher;
    std::collections::hash_map::RandomState::new().hash_one(monotonic())
}

/// Returns how long a mark may take, of the time that is left: what is in doubt then is to be settled and written again in the rest. Pure.
fn time_to_mark(left: Duration) -> Duration {
    (left / 3).min(secs(10))
}

fn left(deadline: Duration) -> Duration {
    deadline.saturating_sub(monotonic()).max(millis(1))
}

impl<T: Data + ToRecord> Transactional<T> for ExactlyOnce {
    type Prepared = WrittenBatch;

    fn prepare(&self, rdd: &Rdd<T>, batch: &OutputBatch) -> Result<WrittenBatch> {
        let at = batch.time().as_millis();
        let not_started = || Error::new(ErrorKind::Stopped, "the output was not started");
        {
            // Whatever fails from here on, no later batch is written in this run.
            let mut state = lock(&self.state);
            let open = state.as_mut().ok_or_else(not_started)?;
            open.begun.get_or_insert(at);
        }
        let records = rdd.map(|row: T| row.to_record()).collect()?;
        passed("collected");
        let mut state = lock(&self.state);
        let open = state.as_mut().ok_or_else(not_started)?;
        if !records.is_empty() {
            let began = monotonic();
            let attempts = self.take(open, &records, at)?;
            open.marked = monotonic();
            batch.note("records", records.len().to_string());
            batch.note("transaction_micros", (open.marked - began).as_micros().to_string());
            batch.note("transaction_attempts", attempts.to_string());
            open.written = Some(open.written.unwrap_or(0).max(at)).filter(|_| at > open.found).or(open.written);
        } else if is_old(monotonic().saturating_sub(open.marked)) {
            self.mark_alone(open, "marking", monotonic() + self.sink.patience)?;
        }
        if open.begun == Some(at) {
            open.begun = None;
        }
        passed("prepared");
        let last = open.written.unwrap_or(open.found);
        Ok(WrittenBatch { last: (last > 0).then_some(last) })
    }

    /// It is there since the batch ran.
    fn commit(&self, _: &WrittenBatch, _: &OutputBatch) -> Result<()> {
        Ok(())
    }

    /// What is committed stays: if the batch runs again it is left out.
    fn abort(&self, _: &WrittenBatch, _: &OutputBatch) -> Result<()> {
        Ok(())
    }

    fn recover(&self, known: &[(OutputBatch, WrittenBatch)], run: &OutputRun) -> Result<()> {
        // What was committed last counts, too: the mark behind it is there as long as it does not expire.
        let last: Option<WrittenBatch> = run.last_committed()?;
        let written = known.iter().map(|(_, written)| *written).chain(last);
        let known = written.map(|written| written.last.unwrap_or(0)).max();
        let open = self.open(Name::of(run.app_id(), run.output()), run, known)?;
        *lock(&self.state) = Some(open);
        Ok(())
    }

    fn tells_runs_apart(&self) -> bool {
        true
    }

    fn how(&self) -> &'static str {
        "it is one transaction with a mark of its time, and a batch that the mark covers is left out"
    }
}

impl fmt::Debug for ExactlyOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ExactlyOnce({:?})", self.sink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_leaves_time_to_settle_what_became_of_it() {
        for (left, want) in [(60, 10_000), (30, 10_000), (9, 3_000), (3, 1_000), (0, 0)] {
            assert_eq!(time_to_mark(secs(left)), millis(want), "{left}");
        }
    }
}
