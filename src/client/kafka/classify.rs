//! Whose fault an error of librdkafka is, and whether a record with it can have been stored.

use rdkafka::error::RDKafkaErrorCode as Code;

use super::session::Heard;
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode, Trouble};

/// What became of a record that was not stored for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Certainly not handed over.
    NotSent,
    /// The broker said no.
    Refused,
    /// It may be stored: "the producer can't know" (librdkafka's manual, message persistence).
    Unknown,
}

/// What a delivery's error says of the record. Where it is not certain that nothing was stored,
/// the record's fate is unknown.
///
/// `shaken`: a connection was lost since the batch began. The error is that of the last attempt;
/// an earlier one may then have stored the record all the same, unless the broker refuses such a
/// record each time.
pub(super) fn fate(code: Code, shaken: bool) -> (Fate, ReasonCode) {
    let (fate, reason) = fate_of_one_attempt(code);
    let each_time = matches!(reason, ReasonCode::TooLarge | ReasonCode::AuthFailed)
        || matches!(code, Code::PolicyViolation | Code::InvalidRecord | Code::InvalidTimestamp);
    match fate {
        Fate::NotSent | Fate::Refused if shaken && !each_time => (Fate::Unknown, reason),
        fate => (fate, reason),
    }
}

fn fate_of_one_attempt(code: Code) -> (Fate, ReasonCode) {
    match code {
        Code::UnknownTopic
        | Code::UnknownPartition
        | Code::UnknownTopicOrPartition
        | Code::UnknownTopicId => (Fate::NotSent, ReasonCode::NotFound),
        Code::TopicAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed
        | Code::Authentication
        | Code::SaslAuthenticationFailed => (Fate::NotSent, ReasonCode::AuthFailed),
        Code::TimedOutQueue | Code::QueueFull => (Fate::NotSent, ReasonCode::Timeout),
        Code::MessageSizeTooLarge | Code::MessageBatchTooLarge => {
            (Fate::Refused, ReasonCode::TooLarge)
        }
        Code::ThrottlingQuotaExceeded => (Fate::Refused, ReasonCode::Throttled),
        Code::PolicyViolation
        | Code::InvalidRecord
        | Code::InvalidMessage
        | Code::InvalidMessageSize
        | Code::InvalidTimestamp
        | Code::InvalidTopic
        | Code::InvalidRequiredAcks
        | Code::NotEnoughReplicas
        | Code::NotLeaderForPartition
        | Code::LeaderNotAvailable
        | Code::KafkaStorageError
        | Code::UnsupportedCompressionType
        | Code::UnsupportedForMessageFormat => (Fate::Refused, ReasonCode::BrokerError),
        Code::MessageTimedOut
        | Code::OperationTimedOut
        | Code::RequestTimedOut
        | Code::PurgeInflight
        | Code::PurgeQueue => (Fate::Unknown, ReasonCode::Timeout),
        Code::BrokerTransportFailure | Code::AllBrokersDown => {
            (Fate::Unknown, ReasonCode::ConnectionLost)
        }
        _ => (Fate::Unknown, ReasonCode::BrokerError),
    }
}

/// Why a request failed: by its own code, and where that only says that no broker could be
/// asked, by what the client told of its connections meanwhile.
pub(super) fn trouble(what: &str, code: Option<Code>, heard: &[Heard]) -> Trouble {
    let says_why = |code: &Code| {
        !matches!(
            code,
            Code::AllBrokersDown | Code::BrokerTransportFailure | Code::OperationTimedOut
        )
    };
    if let Some(code) = code.filter(says_why) {
        return by_code(what, code, &code.to_string());
    }
    // The most telling first: a refused login is also a lost connection.
    let told =
        heard.iter().rev().find(|heard| says_why(&heard.code)).or_else(|| {
            heard.iter().rev().find(|heard| heard.code == Code::BrokerTransportFailure)
        });
    match told {
        Some(heard) => by_code(what, heard.code, &heard.text),
        None => by_code(what, Code::OperationTimedOut, "no broker answered in time"),
    }
}

fn by_code(what: &str, code: Code, text: &str) -> Trouble {
    let text = format!("{what}: {text}");
    let reason = match code {
        Code::Authentication
        | Code::SaslAuthenticationFailed
        | Code::UnsupportedSASLMechanism
        | Code::IllegalSASLState
        | Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed => ReasonCode::AuthFailed,
        Code::SSL if text.contains("certificate") => ReasonCode::CertificateInvalid,
        Code::SSL => ReasonCode::TlsFailed,
        // getaddrinfo's EAI_AGAIN: the name service is away, the name may well exist.
        Code::Resolve if text.contains("Temporary failure") => {
            return Fault::new(FaultCode::NameService, text).into();
        }
        Code::Resolve => ReasonCode::NameNotFound,
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => {
            ReasonCode::NotFound
        }
        Code::BrokerTransportFailure => by_words(&text),
        Code::OperationTimedOut | Code::RequestTimedOut | Code::TimedOutQueue => {
            ReasonCode::Timeout
        }
        _ => ReasonCode::BrokerError,
    };
    Reason::new(reason, text).into()
}

/// librdkafka has one code for whatever befalls a connection; the system's words tell them apart.
fn by_words(text: &str) -> ReasonCode {
    let any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if any(&["Connection refused"]) {
        ReasonCode::Refused
    } else if any(&["No route to host", "unreachable"]) {
        ReasonCode::Unreachable
    } else if any(&["timed out in state CONNECT", "Connection timed out"]) {
        ReasonCode::Filtered
    } else if any(&["timed out"]) {
        ReasonCode::Timeout
    } else {
        ReasonCode::ConnectionLost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Mono;

    fn reason(code: Option<Code>, heard: &[(Code, &str)]) -> Result<ReasonCode, FaultCode> {
        let heard: Vec<Heard> = heard
            .iter()
            .map(|(code, text)| Heard { at: Mono::now(), code: *code, text: text.to_string() })
            .collect();
        match trouble("kafka at b:9092", code, &heard) {
            Trouble::Reason(reason) => Ok(reason.code),
            Trouble::Fault(fault) => Err(fault.code),
        }
    }

    #[test]
    fn a_record_is_lost_only_where_nothing_can_have_been_stored() {
        for code in [Code::MessageTimedOut, Code::PurgeInflight, Code::PurgeQueue] {
            assert_eq!(fate(code, false).0, Fate::Unknown, "{code:?}");
        }
        for code in [Code::BrokerTransportFailure, Code::OperationTimedOut, Code::RequestTimedOut] {
            assert_eq!(fate(code, false).0, Fate::Unknown, "{code:?}");
        }
        // Stored by the leader, and perhaps nowhere else.
        assert_eq!(fate(Code::NotEnoughReplicasAfterAppend, false).0, Fate::Unknown);
        for code in [Code::UnknownTopic, Code::TopicAuthorizationFailed, Code::TimedOutQueue] {
            assert_eq!(fate(code, false).0, Fate::NotSent, "{code:?}");
        }
        for code in [Code::MessageSizeTooLarge, Code::PolicyViolation, Code::NotEnoughReplicas] {
            assert_eq!(fate(code, false).0, Fate::Refused, "{code:?}");
        }
        // The last attempt's answer says nothing of an attempt whose answer was lost.
        assert_eq!(fate(Code::NotEnoughReplicas, true).0, Fate::Unknown);
        assert_eq!(fate(Code::UnknownTopicOrPartition, true).0, Fate::Unknown);
        assert_eq!(fate(Code::MessageSizeTooLarge, true).0, Fate::Refused);
    }

    #[test]
    fn what_the_client_told_says_more_than_that_no_broker_is_there() {
        let refused = "Connect to ipv4#127.0.0.1:1 failed: Connection refused (after 0ms)";
        let filtered = "Connection setup timed out in state CONNECT (after 5001ms)";
        let down = (Code::AllBrokersDown, "1/1 brokers are down");
        let table = [
            (vec![(Code::BrokerTransportFailure, refused), down], Ok(ReasonCode::Refused)),
            (vec![(Code::BrokerTransportFailure, filtered), down], Ok(ReasonCode::Filtered)),
            (
                vec![
                    (Code::Authentication, "SASL authentication error: Invalid username"),
                    (Code::BrokerTransportFailure, "Disconnected"),
                ],
                Ok(ReasonCode::AuthFailed),
            ),
            (
                vec![(Code::SSL, "SSL handshake failed: certificate verify failed")],
                Ok(ReasonCode::CertificateInvalid),
            ),
            (
                vec![(Code::Resolve, "Failed to resolve 'b:9092': Name or service not known")],
                Ok(ReasonCode::NameNotFound),
            ),
            (
                vec![(
                    Code::Resolve,
                    "Failed to resolve 'b': Temporary failure in name resolution",
                )],
                Err(FaultCode::NameService),
            ),
            (vec![], Ok(ReasonCode::Timeout)),
        ];
        for (heard, expected) in table {
            assert_eq!(reason(Some(Code::BrokerTransportFailure), &heard), expected, "{heard:?}");
        }
        assert_eq!(reason(Some(Code::UnknownTopicOrPartition), &[down]), Ok(ReasonCode::NotFound));
    }
}
