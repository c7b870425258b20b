//! What a broker or the client says, and what that means for a program. Secrets are never repeated.

use std::fmt;

use millstream_core::{Error, ErrorKind};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use crate::settings::{Heard, is_secret};

/// Says what kind of thing went wrong, and what can be done about it. Pure.
pub(crate) fn meaning(code: Option<Code>) -> (ErrorKind, &'static str) {
    match code {
        Some(
            Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::Resolve
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::MessageTimedOut,
        ) => (
            ErrorKind::Unavailable,
            "; does a broker listen there, and with the protocol that is set (security.protocol)?",
        ),
        Some(Code::Authentication | Code::SaslAuthenticationFailed) => {
            (ErrorKind::Config, "; the broker refuses user or password, or wants another sasl.mechanism")
        }
        Some(Code::SSL) => {
            (ErrorKind::Config, "; see the settings ssl.*: certificates that the broker has, and the name it has")
        }
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition) => {
            (ErrorKind::Config, "; make the topic first, or name another")
        }
        Some(
            Code::TopicAuthorizationFailed
            | Code::GroupAuthorizationFailed
            | Code::ClusterAuthorizationFailed
            | Code::TransactionalIdAuthorizationFailed,
        ) => (ErrorKind::Config, "; the broker's access rules do not allow it to this user"),
        Some(Code::MessageSizeTooLarge | Code::InvalidMessageSize) => (
            ErrorKind::User,
            "; raise message.max.bytes here and max.message.bytes of the topic, or write smaller records",
        ),
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => (
            ErrorKind::Stopped,
            "; another producer with the same transactional id has begun: is the program running twice?",
        ),
        Some(Code::BadMessage | Code::InvalidMessage | Code::BadCompression) => {
            (ErrorKind::Data, "; what the broker keeps there is damaged")
        }
        _ => (ErrorKind::Unavailable, ""),
    }
}

/// Says whether the client goes on by itself when it is over: a broker is away, or leadership moves. Pure.
pub(crate) fn is_passing(code: Option<Code>) -> bool {
    matches!(
        code,
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::NotLeaderForPartition
                | Code::LeaderNotAvailable
                | Code::ReplicaNotAvailable,
        )
    )
}

/// Makes an error that says what was done, where, and what to do. `heard` is what the client noted by itself.
pub(crate) fn failed(doing: impl fmt::Display, brokers: &str, error: &KafkaError, heard: &Heard) -> Error {
    if let KafkaError::ClientConfig(_, why, key, value) = error {
        // The client repeats the value, which may be a password.
        let shown = if is_secret(key) { "(not shown)" } else { value };
        let text = format!("{doing}: the setting `{key}` cannot be {shown}: {}", if is_secret(key) { "" } else { why });
        return Error::new(ErrorKind::Config, text.trim_end_matches([' ', ':']));
    }
    // Whoever is refused is told of it beside, and else waits until time is over.
    let is_distrusted = heard.last().is_some_and(|said| said.contains("certificate verify failed"));
    let refused = heard.refused().or(is_distrusted.then_some(Code::SSL));
    let (kind, advice) = meaning(refused.or_else(|| error.rdkafka_error_code()));
    let said = heard.last().map(|said| format!(" ({said})")).unwrap_or_default();
    Error::new(kind, format!("{doing}: the brokers at {brokers} answer: {error}{said}{advice}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_say_what_to_do() {
        for (code, want) in [
            (Code::BrokerTransportFailure, ErrorKind::Unavailable),
            (Code::Authentication, ErrorKind::Config),
            (Code::UnknownTopicOrPartition, ErrorKind::Config),
            (Code::MessageSizeTooLarge, ErrorKind::User),
            (Code::Fenced, ErrorKind::Stopped),
            (Code::BadMessage, ErrorKind::Data),
        ] {
            assert_eq!(meaning(Some(code)).0, want, "{code:?}");
        }
    }
}
