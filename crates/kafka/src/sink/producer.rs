//! Producers, and how a batch of records is sent: what was taken is waited for, and the first failure is told.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use millstream_core::clock::monotonic;
use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, millis};
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, NoCustomPartitioner, Producer, ProducerContext, ThreadedProducer};
use serde::{Deserialize, Serialize};

use super::record::NewRecord;
use crate::mistakes::passed;
use crate::settings::{Brokers, Heard, Told};

/// What tells a producer's client.
pub(crate) struct Deliveries(Told);

impl From<Told> for Deliveries {
    fn from(told: Told) -> Deliveries {
        Deliveries(told)
    }
}

impl ClientContext for Deliveries {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.0.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.0.error(error, reason);
    }
}

impl ProducerContext<NoCustomPartitioner> for Deliveries {
    type DeliveryOpaque = Arc<Sending>;

    fn delivery(&self, result: &DeliveryResult<'_>, sending: Arc<Sending>) {
        sending.delivered(result.as_ref().err().map(|(error, message)| {
            use rdkafka::message::Message;
            (error.clone(), Of { topic: message.topic().to_owned(), bytes: message.payload_len() })
        }));
    }
}

/// The record that an error is about.
#[derive(Debug)]
pub(crate) struct Of {
    topic: String,
    bytes: usize,
}

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "writing a record of {} bytes to topic {}", self.bytes, self.topic)
    }
}

/// Records that were sent together, and are on their way.
#[derive(Debug, Default)]
pub(crate) struct Sending {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    under_way: usize,
    failed: Option<(KafkaError, Of)>,
}

impl Sending {
    fn sent(&self) {
        lock(&self.state).under_way += 1;
    }

    fn delivered(&self, failed: Option<(KafkaError, Of)>) {
        let mut state = lock(&self.state);
        state.under_way -= 1;
        if state.failed.is_none() {
            state.failed = failed;
        }
        if state.under_way == 0 {
            self.changed.notify_all();
        }
    }

    /// Waits until all has been delivered or given up. Returns the first failure; `None` inside says that time is over.
    fn wait(&self, until: Duration) -> Result<(), Option<(KafkaError, Of)>> {
        let mut state = lock(&self.state);
        while state.under_way > 0 {
            let left = until.saturating_sub(monotonic());
            if left.is_zero() {
                return Err(None);
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.failed.take().map_or(Ok(()), |failed| Err(Some(failed)))
    }
}

/// A producer, which may be shared by threads.
pub(crate) struct Sender {
    pub(crate) producer: Arc<ThreadedProducer<Deliveries>>,
    brokers: Brokers,
    heard: Heard,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({:?})", self.brokers)
    }
}

impl Sender {
    pub(crate) fn open(brokers: &Brokers, patience: Duration, own: &[(&str, &str)]) -> Result<Sender> {
        let patience = patience.as_millis().clamp(1, 900_000).to_string();
        let mut settings = vec![
            ("enable.idempotence", "true"),
            ("linger.ms", "1"),
            ("batch.size", "1000000"),
            ("queue.buffering.max.messages", "500000"),
            ("message.timeout.ms", &*patience),
            ("reconnect.backoff.max.ms", "1000"),
        ];
        settings.extend(own);
        let (producer, heard) = brokers.client_with::<_, Deliveries>(&settings)?;
        Ok(Sender { producer: Arc::new(producer), brokers: brokers.clone(), heard })
    }

    pub(crate) fn failed(&self, doing: impl fmt::Display, error: &KafkaError) -> Error {
        // What has ended the producer says more than what became of a record.
        if let Some((code, _)) = self.producer.client().fatal_error() {
            self.heard.note(&KafkaError::Global(code));
        }
        self.brokers.failed(doing, error, &self.heard)
    }

    /// Sends records and waits until the broker has them.
    pub(crate) fn send_all(
        &self,
        records: impl IntoIterator<Item = NewRecord>,
        topic: &str,
        patience: Duration,
    ) -> Result<()> {
        let sending = Arc::new(Sending::default());
        let until = monotonic() + patience;
        let late = || {
            let said = self.heard.last().map(|said| format!(" ({said})")).unwrap_or_default();
            let text = format!(
                "writing to topic {topic}: the brokers at {} have not taken all records within {patience:?}{said}",
                self.brokers.named()
            );
            Error::new(ErrorKind::Unavailable, text)
        };
        for record in records {
            let to = record.topic.as_deref().unwrap_or(topic);
            let mut next = BaseRecord::<[u8], [u8], Arc<Sending>>::with_opaque_to(to, Arc::clone(&sending));
            next.partition = record.partition;
            next.key = record.key.as_deref();
            next.payload = record.value.as_deref();
            next.timestamp = record.timestamp;
            next.headers = record.owned_headers();
            sending.sent();
            loop {
                match self.producer.send(next) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(Code::QueueFull), back)) => {
                        if monotonic() > until {
                            sending.delivered(None);
                            return Err(late());
                        }
                        // The thread of the producer makes room as the broker takes what was sent.
                        std::thread::park_timeout(millis(1));
                        next = back;
                    }
                    Err((error, _)) => {
                        sending.delivered(None);
                        let bytes = record.value.as_ref().map_or(0, Vec::len);
                        return Err(self.failed(Of { topic: to.to_owned(), bytes }, &error));
                    }
                }
            }
        }
        passed("half");
        match sending.wait(until) {
            Ok(()) => Ok(()),
            Err(None) => Err(late()),
            Err(Some((error, of))) => Err(self.failed(of, &error)),
        }
    }

    /// Forgets what is under way.
    pub(crate) fn purge(&self) {
        self.producer.purge(rdkafka::producer::PurgeConfig::default().queue().inflight());
    }
}

/// Where a task writes without transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plain {
    pub(crate) brokers: Brokers,
    pub(crate) topic: String,
    pub(crate) patience: Duration,
}

/// The producers of a process that write without transactions: one for each way to speak to brokers, for as long as an output
/// or a program has asked for it. Those that only tasks have asked for, in an executor, stay as long as their process.
pub(crate) struct Producers(Mutex<Vec<Kept>>);

struct Kept {
    brokers: Brokers,
    patience: Duration,
    sender: Option<Arc<Sender>>,
    asked: usize,
}

pub(crate) static PRODUCERS: Producers = Producers(Mutex::new(Vec::new()));

impl Kept {
    fn is_for(&self, to: &Plain) -> bool {
        self.brokers == to.brokers && self.patience == to.patience
    }
}

impl Producers {
    fn of<R>(&self, to: &Plain, look: impl FnOnce(&mut Kept) -> R) -> R {
        let mut all = lock(&self.0);
        let at = all.iter().position(|kept| kept.is_for(to)).unwrap_or_else(|| {
            all.push(Kept { brokers: to.brokers.clone(), patience: to.patience, sender: None, asked: 0 });
            all.len() - 1
        });
        look(&mut all[at])
    }

    pub(crate) fn take(&self, to: &Plain) -> Result<Arc<Sender>> {
        self.of(to, |kept| {
            if let Some(sender) = &kept.sender {
                return Ok(Arc::clone(sender));
            }
            let sender = Arc::new(Sender::open(&to.brokers, to.patience, &[])?);
            kept.sender = Some(Arc::clone(&sender));
            Ok(sender)
        })
    }

    /// Has the next task make a producer anew: this one may have given up for good.
    pub(crate) fn forget(&self, to: &Plain) {
        let gone = self.of(to, |kept| kept.sender.take());
        drop(gone);
    }

    /// Has the producer kept for as long as what is returned; with the last that was asked for it ends.
    pub(crate) fn ask(&'static self, to: &Plain) -> Asked {
        self.of(to, |kept| kept.asked += 1);
        Asked { of: self, to: to.clone() }
    }
}

/// That somebody is about to write.
pub(crate) struct Asked {
    of: &'static Producers,
    to: Plain,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut all = lock(&self.of.0);
        let Some(at) = all.iter().position(|kept| kept.is_for(&self.to)) else { return };
        all[at].asked -= 1;
        let gone = (all[at].asked == 0).then(|| all.swap_remove(at));
        drop(all);
        // It may take some milliseconds to close one.
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::secs;

    #[test]
    fn each_way_to_speak_to_brokers_has_a_producer_which_ends_with_the_last_that_asked_for_it() {
        static ALL: Producers = Producers(Mutex::new(Vec::new()));
        let to = |brokers: Brokers, patience| Plain { brokers, topic: "t".to_owned(), patience };
        let plain = to(Brokers::at("127.0.0.1:1"), secs(60));
        let other = to(Brokers::at("127.0.0.1:1").set("client.id", "other"), secs(60));
        let sooner = to(Brokers::at("127.0.0.1:1"), secs(5));
        let asked = (ALL.ask(&plain), ALL.ask(&plain), ALL.ask(&other));
        let (first, second) = (ALL.take(&plain).unwrap(), ALL.take(&other).unwrap());
        assert!(Arc::ptr_eq(&first, &ALL.take(&plain).unwrap()), "the other settings have not taken its place");
        assert!(!Arc::ptr_eq(&first, &second) && !Arc::ptr_eq(&first, &ALL.take(&sooner).unwrap()));
        ALL.forget(&plain);
        let anew = ALL.take(&plain).unwrap();
        assert!(!Arc::ptr_eq(&first, &anew));
        drop((asked.0, asked.2));
        assert_eq!(Arc::strong_count(&second), 1, "nobody asks for it any more");
        assert_eq!(Arc::strong_count(&anew), 2);
        drop(asked.1);
        assert_eq!(Arc::strong_count(&anew), 1);
    }
}
