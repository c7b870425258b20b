//! Producers, and how a batch of records is sent: what was taken is waited for, and the first failure is told.

use std::collections::BTreeMap;
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
            (error.clone(), message.topic().to_owned())
        }));
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
    failed: Option<(KafkaError, String)>,
}

impl Sending {
    fn sent(&self) {
        lock(&self.state).under_way += 1;
    }

    fn delivered(&self, failed: Option<(KafkaError, String)>) {
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
    fn wait(&self, until: Duration) -> Result<(), Option<(KafkaError, String)>> {
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
    pub(crate) producer: ThreadedProducer<Deliveries>,
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
        Ok(Sender { producer, brokers: brokers.clone(), heard })
    }

    pub(crate) fn failed(&self, doing: impl fmt::Display, error: &KafkaError) -> Error {
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
                        return Err(self.failed(format_args!("writing to topic {to}"), &error));
                    }
                }
            }
        }
        passed("half");
        match sending.wait(until) {
            Ok(()) => Ok(()),
            Err(None) => Err(late()),
            Err(Some((error, to))) => Err(self.failed(format_args!("writing to topic {to}"), &error)),
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

/// The producers of a process that write without transactions: one for each way to speak to brokers.
pub(crate) struct Producers(Mutex<BTreeMap<String, (Brokers, Arc<Sender>)>>);

pub(crate) static PRODUCERS: Producers = Producers(Mutex::new(BTreeMap::new()));

impl Producers {
    pub(crate) fn take(&self, to: &Plain) -> Result<Arc<Sender>> {
        let mut all = lock(&self.0);
        if let Some((_, sender)) = all.get(to.brokers.named()).filter(|(brokers, _)| *brokers == to.brokers) {
            return Ok(Arc::clone(sender));
        }
        let sender = Arc::new(Sender::open(&to.brokers, to.patience, &[])?);
        all.insert(to.brokers.named().to_owned(), (to.brokers.clone(), Arc::clone(&sender)));
        Ok(sender)
    }

    /// Has the next task make a producer anew: this one may have given up for good.
    pub(crate) fn forget(&self, to: &Plain) {
        let gone = lock(&self.0).remove(to.brokers.named());
        drop(gone);
    }
}
