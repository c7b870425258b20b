//! Where the brokers are, and how they are spoken to: settings by the names that Kafka's clients have for them.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_core::threads::lock;
use millstream_core::{Error, ErrorKind, Result, secs};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::{Deserialize, Serialize};

use crate::error::failed;

/// How long one question to a broker may take, unless told otherwise.
const ANSWER: Duration = secs(10);

/// Settings that this crate chooses, and why a program cannot.
const OURS: [(&str, &str); 10] = [
    ("enable.auto.commit", "offsets are the program's: they are committed when a batch is done (R-64)"),
    ("enable.auto.offset.store", "offsets are the program's"),
    ("auto.offset.reset", "say start(Start::…); a range that is gone is an error, or a loss that is counted"),
    ("isolation.level", "say isolation(Isolation::…)"),
    ("enable.partition.eof", "it tells where a range ends"),
    ("group.id", "say group(…)"),
    ("transactional.id", "it is made of the application and the output"),
    ("bootstrap.servers", "the brokers are the first argument"),
    ("metadata.broker.list", "the brokers are the first argument"),
    ("enable.idempotence", "it is always on"),
];

/// Says whether the value of a setting must not be shown. Pure.
pub(crate) fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["password", "secret", "pem", "token", "jaas", "credential", "oauthbearer.config", "sasl.username"]
        .iter()
        .any(|word| key.contains(word))
}

/// Where the brokers are, and how they are spoken to.
///
/// What is secret is never shown: not by `Debug`, not in errors, and none of it is in a checkpoint.
///
/// # Example
///
/// ```
/// use millstream_kafka::Brokers;
///
/// let brokers = Brokers::at("broker:9093")
///     .set("security.protocol", "SASL_SSL")
///     .set("sasl.mechanism", "SCRAM-SHA-512")
///     .set("sasl.username", "ann")
///     .set("sasl.password", "open sesame");
/// assert!(!format!("{brokers:?}").contains("sesame"));
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Brokers {
    at: String,
    set: BTreeMap<String, String>,
    answer: Duration,
}

impl Brokers {
    /// Names some brokers of a cluster, as `host:port`, with commas between; the others are found by themselves.
    pub fn at(brokers: impl Into<String>) -> Brokers {
        Brokers { at: brokers.into(), set: BTreeMap::new(), answer: ANSWER }
    }

    /// Sets what a client of Kafka can be told, by the name that librdkafka has for it: `security.protocol`,
    /// `sasl.mechanism`, `ssl.ca.location`.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Brokers {
        self.set.insert(key.into(), value.into());
        self
    }

    /// Sets how long one question to a broker may take. The default is 10 seconds.
    #[must_use]
    pub fn answer_within(self, answer: Duration) -> Brokers {
        Brokers { answer, ..self }
    }

    /// Returns the brokers that were named.
    pub fn named(&self) -> &str {
        &self.at
    }

    pub(crate) fn patience(&self) -> Duration {
        self.answer
    }

    /// Says what is wrong with them, before anything is asked. Pure.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |text: String| Err(Error::new(ErrorKind::Config, text));
        let is_address = |one: &str| {
            one.trim().rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
        };
        if let Some(bad) = self.at.split(',').find(|one| !is_address(one)) {
            return refuse(format!("`{bad}` is no address of a broker: say host:port, with commas between several"));
        }
        if self.answer < Duration::from_millis(10) {
            return refuse(format!("a broker cannot answer within {:?}: give it some seconds", self.answer));
        }
        for (key, why) in OURS {
            if self.set.contains_key(key) {
                return refuse(format!("the setting `{key}` cannot be set: {why}"));
            }
        }
        Ok(())
    }

    /// Says what of the settings only the client of librdkafka can do; nothing if all is in the clear. Pure.
    pub(crate) fn beyond_the_clear(&self) -> Option<String> {
        let is_clear = |key: &str, value: &str| match key {
            "security.protocol" => value.eq_ignore_ascii_case("plaintext"),
            "client.id" => true,
            // What is for writing does not matter to who reads.
            key => ["acks", "linger.ms", "batch.", "compression.", "message.", "queue.buffering.", "transaction."]
                .iter()
                .any(|writing| key.starts_with(writing)),
        };
        let beyond = self.set.iter().find(|(key, value)| !is_clear(key, value))?.0;
        Some(format!("the setting `{beyond}` is for it alone"))
    }

    /// Makes a client. `own` are settings of its own; what the program set counts more.
    pub(crate) fn client<C: FromClientConfigAndContext<Told>>(&self, own: &[(&str, &str)]) -> Result<(C, Heard)> {
        self.client_with::<C, Told>(own)
    }

    /// As [`client`](Self::client), one that tells somebody else.
    pub(crate) fn client_with<C, X>(&self, own: &[(&str, &str)]) -> Result<(C, Heard)>
    where
        C: FromClientConfigAndContext<X>,
        X: ClientContext + From<Told>,
    {
        self.check()?;
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.at).set_log_level(RDKafkaLogLevel::Warning);
        for (key, value) in own {
            config.set(*key, *value);
        }
        for (key, value) in &self.set {
            config.set(key, value);
        }
        let heard = Heard::default();
        let client = C::from_config_and_context(&config, X::from(Told(heard.clone())));
        let client = client.map_err(|error| self.failed("making a client of Kafka", &error, &heard))?;
        Ok((client, heard))
    }

    pub(crate) fn failed(&self, doing: impl fmt::Display, error: &KafkaError, heard: &Heard) -> Error {
        failed(doing, &self.at, error, heard)
    }
}

impl Hash for Brokers {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.at.hash(state);
        self.set.hash(state);
    }
}

impl<S: Into<String>> From<S> for Brokers {
    fn from(at: S) -> Brokers {
        Brokers::at(at)
    }
}

impl fmt::Debug for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(key, value): (&String, &String)| {
            format!("{key}={}", if is_secret(key) { "(not shown)" } else { value.as_str() })
        };
        let set: Vec<_> = self.set.iter().map(shown).collect();
        write!(f, "Brokers({}{}{})", self.at, if set.is_empty() { "" } else { "; " }, set.join(", "))
    }
}

/// What a client noted last that went wrong: the cause of what is reported as a time-out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heard(Arc<Mutex<Cause>>);

#[derive(Debug, Default)]
struct Cause {
    /// That it was refused, and why.
    refused: Option<RDKafkaErrorCode>,
    /// That it may not use its group: what is asked of anything else does not mind.
    refused_group: bool,
    said: Option<String>,
    /// Whether a commit that nobody waited for failed.
    commit_failed: bool,
    /// Whether that has been told.
    is_told: bool,
}

impl Heard {
    pub(crate) fn last(&self) -> Option<String> {
        lock(&self.0).said.clone()
    }

    pub(crate) fn refused(&self) -> Option<RDKafkaErrorCode> {
        lock(&self.0).refused
    }

    pub(crate) fn forget(&self) {
        let mut cause = lock(&self.0);
        (cause.refused, cause.refused_group, cause.said) = (None, false, None);
    }

    /// Says whether a commit has failed since this was last asked.
    pub(crate) fn take_commit_failed(&self) -> bool {
        std::mem::take(&mut lock(&self.0).commit_failed)
    }

    /// Takes note of an error that came by itself.
    pub(crate) fn note(&self, error: &KafkaError) {
        use RDKafkaErrorCode as Code;
        if let Some(
            code @ (Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::SSL
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed),
        ) = error.rdkafka_error_code()
        {
            lock(&self.0).refused = Some(code);
        }
        if error.rdkafka_error_code() == Some(Code::GroupAuthorizationFailed) {
            lock(&self.0).refused_group = true;
        }
    }

    /// Returns why a question about the group failed: that the user may not use it is told beside, and the question waits in vain.
    pub(crate) fn of_group(&self, error: KafkaError) -> KafkaError {
        if lock(&self.0).refused_group {
            return KafkaError::Global(RDKafkaErrorCode::GroupAuthorizationFailed);
        }
        error
    }
}

/// What a client tells by itself.
#[derive(Clone, Debug)]
pub(crate) struct Told(Heard);

impl ClientContext for Told {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == "FAIL" {
            // It begins with the name of a thread.
            let said = message.split_once("]: ").map_or(message, |(_, said)| said);
            lock(&self.0.0).said = Some(said.to_owned());
        }
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical => {
                tracing::warn!(facility, "kafka: {message}");
            }
            _ => tracing::debug!(facility, "kafka: {message}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, "kafka: {reason}");
        self.0.note(&error);
        let mut cause = lock(&self.0.0);
        // That nobody is there says less than why the last one went.
        let follows = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) && cause.said.is_some();
        if !follows {
            cause.said = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Told {
    fn commit_callback(&self, result: rdkafka::error::KafkaResult<()>, offsets: &rdkafka::TopicPartitionList) {
        let Err(error) = result else { return };
        let mut cause = lock(&self.0.0);
        cause.commit_failed = true;
        // It is tried again with each batch; once is enough to be told.
        if !std::mem::replace(&mut cause.is_told, true) {
            tracing::warn!(
                %error,
                partitions = offsets.count(),
                "offsets were not committed to the group, and are tried again: it is used by others too, perhaps. The \
                 checkpoint is what counts"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_is_none_and_settings_that_are_ours_are_refused_by_name() {
        for (brokers, want) in [
            (Brokers::at("broker"), "`broker` is no address"),
            (Brokers::at("a:1,"), "`` is no address"),
            (Brokers::at("a:99999"), "`a:99999` is no address"),
            (Brokers::at("a:1").set("enable.auto.commit", "true"), "`enable.auto.commit` cannot be set"),
            (Brokers::at("a:1").set("group.id", "g"), "say group("),
            (Brokers::at("a:1").set("isolation.level", "read_uncommitted"), "say isolation("),
        ] {
            let error = brokers.check().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.to_string().contains(want), "{error}");
        }
        assert!(Brokers::at("a:1, [::1]:9092").check().is_ok());
    }

    #[test]
    fn what_is_not_in_the_clear_is_for_the_client() {
        let clear = Brokers::at("a:1").set("security.protocol", "PLAINTEXT").set("compression.type", "lz4");
        assert_eq!(clear.beyond_the_clear(), None);
        let secure = clear.set("security.protocol", "SSL").beyond_the_clear().unwrap();
        assert!(secure.contains("`security.protocol`"), "{secure}");
        assert!(Brokers::at("a:1").set("client.rack", "b").beyond_the_clear().is_some(), "one that is not known");
    }

    #[test]
    fn what_is_secret_is_not_shown() {
        let brokers = Brokers::at("a:1")
            .set("sasl.password", "hush1")
            .set("ssl.key.pem", "hush2")
            .set("sasl.oauthbearer.client.secret", "hush3")
            .set("client.id", "seen");
        let text = format!("{brokers:?}");
        assert!(!text.contains("hush") && text.contains("client.id=seen"), "{text}");
    }
}
