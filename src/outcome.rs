//! What one attempt of a check on one target yields, and the bounded words for why it failed.
//!
//! Three outcomes, never two: the target's fault is a failure, ours is inconclusive.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::catalogue::Metric;
use crate::time::Now;

/// The id of a check, as the plan gives it. Cheap to clone.
pub type CheckId = Arc<str>;
/// The name of a target: a host, an address with port, a URL, or an instance on this node.
pub type TargetName = Arc<str>;

/// One result of one check on one target.
#[derive(Clone, Debug)]
pub struct Observation {
    pub check: CheckId,
    pub target: TargetName,
    /// What it is evidence of, by the plan that it began under.
    pub evidence: Arc<str>,
    /// When the attempt began.
    pub at: Now,
    pub took: Duration,
    pub reading: Reading,
}

/// What a probe saw in one attempt; the runner adds when and how long.
#[derive(Clone, Debug)]
pub struct Reading {
    pub outcome: Outcome,
    pub samples: Vec<Sample>,
    /// What a reader of the report should know besides, whatever the outcome: which alerts are
    /// silenced, which rules are off.
    pub notes: Vec<String>,
}

impl Reading {
    pub fn success(samples: Vec<Sample>) -> Self {
        Self { outcome: Outcome::Success, samples, notes: Vec::new() }
    }

    /// The target failed; what was measured all the same is kept in `samples`.
    pub fn failure(reason: Reason, samples: Vec<Sample>) -> Self {
        Self { outcome: Outcome::Failure(reason), samples, notes: Vec::new() }
    }

    pub fn inconclusive(fault: Fault) -> Self {
        Self { outcome: Outcome::Inconclusive(fault), samples: Vec::new(), notes: Vec::new() }
    }
}

impl From<Reason> for Reading {
    fn from(reason: Reason) -> Self {
        Self::failure(reason, Vec::new())
    }
}

impl From<Fault> for Reading {
    fn from(fault: Fault) -> Self {
        Self::inconclusive(fault)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Success,
    /// The target's fault.
    Failure(Reason),
    /// Ours: we could not measure. Never counted as a pass, never as a zero.
    Inconclusive(Fault),
}

impl Outcome {
    /// The contract's word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failure(_) => "failure",
            Self::Inconclusive(_) => "inconclusive",
        }
    }

    /// The bounded code and the full text, where there is one.
    pub fn why(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Success => None,
            Self::Failure(reason) => Some((reason.code.word(), &reason.text)),
            Self::Inconclusive(fault) => Some((fault.code.word(), &fault.text)),
        }
    }
}

/// One measured number of a series that the catalogue declares.
#[derive(Clone, Debug)]
pub struct Sample {
    pub metric: &'static Metric,
    pub value: f64,
    /// Values of the metric's labels after `check` and `target`, in their declared order.
    pub labels: Vec<Arc<str>>,
}

impl Sample {
    pub fn new(metric: &'static Metric, value: f64) -> Self {
        Self { metric, value, labels: Vec::new() }
    }

    pub fn labelled(metric: &'static Metric, labels: &[&str], value: f64) -> Self {
        Self { metric, value, labels: labels.iter().map(|l| Arc::from(*l)).collect() }
    }
}

/// Declares a bounded set of codes: the variant, its label value and what it means (its doc).
macro_rules! codes {
    ($(#[$meta:meta])* $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[doc = $doc])+ $variant,)+ }

        impl $name {
            pub const ALL: &'static [(&'static str, &'static str)] =
                &[$(($word, concat!($($doc),+)),)+];

            /// The label value: bounded, lower case.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}

/// A closed set of words of the contract: an enum that is written, read and shown by them. `told` is
/// the order in which they are told, where it is another than that in which they count.
macro_rules! words {
    (@all [$($own:ident)+]) => { [$(Self::$own),+] };
    (@all [$($own:ident)+] [$($told:ident)+]) => { [$(Self::$told),+] };
    (
        $(#[$meta:meta])* $name:ident { $($(#[$about:meta])* $variant:ident = $word:literal,)+ }
        $(told [$($told:ident)+])?
    ) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            serde::Serialize, serde::Deserialize, schemars::JsonSchema,
        )]
        pub enum $name { $($(#[$about])* #[serde(rename = $word)] $variant,)+ }

        impl $name {
            pub const ALL: [Self; [$($word),+].len()] =
                $crate::outcome::words!(@all [$($variant)+] $([$($told)+])?);

            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }
    };
}
pub(crate) use words;

codes! {
    /// Why a target failed. One of these is the `reason` label; the text never is.
    ReasonCode {
        /// Nobody listens: the peer refused the connection.
        Refused = "refused",
        /// No answer at all: packets are swallowed on the way.
        Filtered = "filtered",
        /// The network answered that the host, net or port can't be reached.
        Unreachable = "unreachable",
        /// No full answer within the deadline.
        Timeout = "timeout",
        /// The peer closed or reset the connection in the middle.
        ConnectionLost = "connection_lost",
        /// The name has no address.
        NameNotFound = "name_not_found",
        /// The TLS handshake failed.
        TlsFailed = "tls_failed",
        /// The certificate is not trusted, not for this name, or out of date.
        CertificateInvalid = "certificate_invalid",
        /// Credentials were refused.
        AuthFailed = "auth_failed",
        /// The peer's bytes are not of the protocol.
        ProtocolError = "protocol_error",
        /// An HTTP status that was not expected.
        UnexpectedStatus = "unexpected_status",
        /// A header that was not expected, or is missing.
        HeaderMismatch = "header_mismatch",
        /// The body does not hold what was expected.
        BodyMismatch = "body_mismatch",
        /// A JSON assertion does not hold.
        JsonMismatch = "json_mismatch",
        /// The answer is larger than the limit.
        TooLarge = "too_large",
        /// More echoes were lost than allowed.
        PacketLoss = "packet_loss",
        /// The path carries less than the expected size, and a router said so.
        MtuTooSmall = "mtu_too_small",
        /// The path carries more than expected, with `exact: true`.
        MtuTooLarge = "mtu_too_large",
        /// Large packets vanish without an answer while small ones pass.
        MtuBlackHole = "mtu_black_hole",
        /// The broker answered with an error.
        BrokerError = "broker_error",
        /// The topic, index, dashboard or panel does not exist.
        NotFound = "not_found",
        /// What was written was not read back.
        NotReadBack = "not_read_back",
        /// The query was refused as wrong.
        QueryRefused = "query_refused",
        /// The answer holds no data.
        NoData = "no_data",
        /// The value is not the expected one.
        ValueMismatch = "value_mismatch",
        /// The alert that should be there is not, or one is there that should not be.
        AlertMismatch = "alert_mismatch",
        /// An alert or a notification came of events that must bring none.
        FalseAlarm = "false_alarm",
        /// Nothing arrived in the expected time.
        NotArrived = "not_arrived",
        /// The peer refused the event.
        Rejected = "rejected",
        /// The peer asked to slow down (429, quota).
        Throttled = "throttled",
        /// What must be refused was let in.
        NotRefused = "not_refused",
        /// The data that an event was enriched with is too old, or its age is not shown.
        StaleFeed = "stale_feed",
        /// A load was not held: something was lost, late, refused or wrong.
        NotHeld = "not_held",
        /// What must stay hidden was seen.
        Exposed = "exposed",
        /// A read, a write or a sync of a disk failed.
        IoError = "io_error",
        /// A read, a write or a sync of a disk took longer than any may.
        SlowIo = "slow_io",
    }
}

codes! {
    /// Why we could not measure. One of these is the `fault` label; the text never is.
    FaultCode {
        /// A capability, a right or a mount is missing.
        Permission = "permission",
        /// The kernel or the platform does not offer it.
        Unsupported = "unsupported",
        /// The attempt panicked; it was contained.
        Panicked = "panicked",
        /// The attempt was cancelled by a stop or a reload.
        Cancelled = "cancelled",
        /// No descriptor, port, memory, thread or time was left here.
        Exhausted = "exhausted",
        /// A secret, file or setting on this node could not be read.
        Unreadable = "unreadable",
        /// This node's own network is down or has no address.
        LocalNetwork = "local_network",
        /// The name service did not answer.
        NameService = "name_service",
        /// The instrument that was asked could not be reached or did not answer: nothing was seen.
        Blind = "blind",
        /// The instrument that was asked refused our identity: nothing was seen.
        Denied = "denied",
        /// A source still hangs from an earlier reading.
        Hung = "hung",
        /// The answer of a source on this node makes no sense.
        Garbled = "garbled",
        /// The measurement was given up because others suffered from it, or might have.
        GaveWay = "gave_way",
        /// The state directory could not be written.
        Store = "store",
    }
}

/// The target's fault: a bounded code and the full text for the store and the debug view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub code: ReasonCode,
    pub text: String,
    /// How long the target asked to be left alone, where it did.
    pub wait: Option<Duration>,
}

impl Reason {
    pub fn new(code: ReasonCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into(), wait: None }
    }

    #[must_use]
    pub fn waiting(self, wait: Option<Duration>) -> Self {
        Self { wait, ..self }
    }

    /// Whether the target asked to slow down.
    pub fn asks_to_slow_down(&self) -> bool {
        self.code == ReasonCode::Throttled || self.wait.is_some()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.word(), self.text)
    }
}

/// Our own fault: a bounded code and the full text.
///
/// There is no `From<io::Error>`: each call site must say whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub code: FaultCode,
    pub text: String,
}

impl Fault {
    pub fn new(code: FaultCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.word(), self.text)
    }
}

/// What an attempt failed with: the target's fault or ours. Clients return it, so that the
/// place that meets an error decides whose fault it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    Reason(Reason),
    Fault(Fault),
}

impl Trouble {
    pub fn reason(code: ReasonCode, text: impl Into<String>) -> Self {
        Self::Reason(Reason::new(code, text))
    }

    pub fn fault(code: FaultCode, text: impl Into<String>) -> Self {
        Self::Fault(Fault::new(code, text))
    }

    /// For an instrument (a query API we look through): whatever went wrong, we saw nothing.
    pub fn blind(self) -> Fault {
        match self {
            Self::Reason(reason) if reason.code == ReasonCode::AuthFailed => {
                Fault::new(FaultCode::Denied, reason.to_string())
            }
            Self::Reason(reason) => Fault::new(FaultCode::Blind, reason.to_string()),
            Self::Fault(fault) => fault,
        }
    }
}

impl From<Reason> for Trouble {
    fn from(reason: Reason) -> Self {
        Self::Reason(reason)
    }
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Trouble> for Reading {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Reason(reason) => reason.into(),
            Trouble::Fault(fault) => fault.into(),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reason(reason) => reason.fmt(f),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}
