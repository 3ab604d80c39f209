//! Notifications that the agent's own webhook receiver was sent, kept so that journeys and probes
//! can ask what arrived.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::lanes::Fill;
use crate::outcome::{Fault, FaultCode, words};
use crate::time::{Mono, Now, Wall};

/// One request's body. Alertmanager sends a group at a time; 1 MiB holds about a thousand alerts.
pub const BODY_LIMIT: usize = 1024 * 1024;
/// Notifications kept. At one a second it is more than an hour, longer than any journey waits.
pub const COUNT_LIMIT: usize = 4096;
/// Text kept, all notifications together.
pub const BYTES_LIMIT: usize = 16 * 1024 * 1024;

words! {
    /// Whose format a notification came in: the last part of the receiver's path.
    Kind {
        Alertmanager = "alertmanager",
        Grafana = "grafana",
        /// Any JSON object, or an array of them.
        Json = "json",
    }
}

impl Kind {
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    #[default]
    Firing,
    Resolved,
}

impl Status {
    pub const fn word(self) -> &'static str {
        match self {
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// One alert of one delivery.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Notification {
    pub kind: Kind,
    pub received: Now,
    pub status: Status,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// What else it says: title, message, links; for `json` the whole document.
    pub text: String,
    /// When the alert began, where it says so.
    pub starts: Option<Wall>,
    /// Tells deliveries apart. A group that is sent again because another alert joined it shows
    /// its old alerts under the same copy; the same group delivered twice with nothing new in it
    /// is another copy.
    pub copy: String,
    /// What stood in the delivery altogether.
    delivery: u64,
}

impl Notification {
    /// Whether every one of these labels has this value.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        labels.iter().all(|(name, value)| self.labels.get(name) == Some(value))
    }

    /// All its texts: where a token may stand.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let labels = self.labels.values().chain(self.annotations.values());
        labels.map(String::as_str).chain([self.text.as_str()])
    }

    fn size(&self) -> usize {
        let pairs = self.labels.iter().chain(&self.annotations);
        let pairs: usize = pairs.map(|(name, value)| name.len() + value.len() + 64).sum();
        pairs + self.text.len() + self.copy.len() + 256
    }
}

/// The bounded store.
#[derive(Debug)]
pub struct Inbox {
    /// What came before that, somebody else may have been sent.
    since: Mono,
    kept: Mutex<Kept>,
    /// Nobody listens: that nothing comes says nothing.
    closed: AtomicBool,
}

#[derive(Debug, Default)]
struct Kept {
    notifications: VecDeque<Notification>,
    bytes: usize,
    received: u64,
    dropped: u64,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { since: Mono::now(), kept: Mutex::default(), closed: AtomicBool::new(false) }
    }
}

impl Inbox {
    /// How long it has been listened here.
    pub fn listened(&self, now: Mono) -> Duration {
        now.since(self.since)
    }

    /// For who serves nothing, as `check` and `once`.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Relaxed);
    }

    /// Why what did not come was not missed.
    pub fn closed(&self) -> Option<Fault> {
        let text = "nobody listens for notifications here: only the agent (`greenlight run`) does";
        self.closed.load(Ordering::Relaxed).then(|| Fault::new(FaultCode::Blind, text))
    }

    /// Takes one delivery; returns what it held, so that it can be stored. The error says why the
    /// bytes are no delivery of this kind; nothing of it is kept then.
    pub fn put(&self, kind: Kind, bytes: &[u8], now: Now) -> Result<Vec<Notification>, String> {
        let mut found = parse(kind, bytes, now)?;
        let mut kept = self.lock();
        for notification in &mut found {
            if kind == Kind::Json {
                notification.copy = format!("json/{}", kept.received);
            } else {
                let again = kept.notifications.iter().filter(|old| {
                    old.delivery == notification.delivery
                        && old.copy.split('#').next() == Some(notification.copy.as_str())
                });
                let again = again.count();
                notification.copy = format!("{}#{again}", notification.copy);
            }
            kept.push(notification.clone());
        }
        Ok(found)
    }

    /// Puts back what was stored, oldest first, with the instants that they have on this boot's
    /// clock.
    pub fn restore(&self, stored: Vec<Notification>) {
        let mut kept = self.lock();
        for notification in stored {
            kept.push(notification);
        }
    }

    /// Those of a kind (or of any), with these labels, received at `since` or later; oldest first.
    /// The wall clock may be set meanwhile: it does not say what came after what.
    pub fn find(
        &self,
        kind: Option<Kind>,
        labels: &BTreeMap<String, String>,
        since: Mono,
    ) -> Vec<Notification> {
        self.lock()
            .notifications
            .iter()
            .filter(|n| kind.is_none_or(|kind| n.kind == kind))
            .filter(|n| n.received.mono >= since && n.matches(labels))
            .cloned()
            .collect()
    }

    /// The newest of a kind with these labels that tells of this status. What claims to have come
    /// after `now` was received while the clock stood wrong, in an earlier boot.
    pub fn newest(
        &self,
        kind: Kind,
        status: Status,
        labels: &BTreeMap<String, String>,
        now: Mono,
    ) -> Option<Notification> {
        let kept = self.lock();
        let mut newest = kept.notifications.iter().rev();
        newest
            .find(|n| {
                n.kind == kind && n.status == status && n.received.mono <= now && n.matches(labels)
            })
            .cloned()
    }

    pub fn len(&self) -> usize {
        self.lock().notifications.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many were pushed out by newer ones.
    pub fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    pub fn fill(&self) -> Fill {
        let kept = self.lock();
        let (length, dropped) = (kept.notifications.len(), kept.dropped);
        Fill { queue: "webhook", length, limit: COUNT_LIMIT, dropped }
    }

    /// When the newest of those that were pushed out could have come at the latest: what is asked
    /// from before that is not answered in full. None while nothing was pushed out.
    pub fn complete_since(&self) -> Option<Now> {
        let kept = self.lock();
        if kept.dropped == 0 {
            return None;
        }
        kept.notifications.front().map(|oldest| oldest.received)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn push(&mut self, notification: Notification) {
        self.received += 1;
        self.bytes += notification.size();
        self.notifications.push_back(notification);
        while self.notifications.len() > COUNT_LIMIT || self.bytes > BYTES_LIMIT {
            let Some(oldest) = self.notifications.pop_front() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.size());
            self.dropped += 1;
        }
    }
}

fn parse(kind: Kind, bytes: &[u8], now: Now) -> Result<Vec<Notification>, String> {
    if bytes.len() > BODY_LIMIT {
        return Err(format!("the body is larger than {BODY_LIMIT} bytes"));
    }
    let document: Value =
        serde_json::from_slice(bytes).map_err(|error| format!("the body is no JSON: {error}"))?;
    match (kind, document) {
        (Kind::Json, Value::Array(items)) => items
            .into_iter()
            .map(|item| match item {
                Value::Object(object) => Ok(free(&object, now)),
                other => Err(format!("the array holds {}, not an object", name_of(&other))),
            })
            .collect(),
        (Kind::Json, Value::Object(object)) => Ok(vec![free(&object, now)]),
        (Kind::Json, other) => {
            Err(format!("the body is {}, not an object or an array of objects", name_of(&other)))
        }
        (_, Value::Object(group)) => of_group(kind, &group, now),
        (_, other) => Err(format!("the body is {}, not an object", name_of(&other))),
    }
}

fn name_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn text_of<'a>(object: &'a Map<String, Value>, key: &str) -> &'a str {
    object.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The scalars of an object as text.
fn strings(value: Option<&Value>) -> BTreeMap<String, String> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries.filter_map(|(name, value)| Some((name.clone(), scalar(value)?))).collect()
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(_) | Value::Bool(_) => Some(value.to_string()),
        _ => None,
    }
}

/// Alertmanager's webhook (version 4), and Grafana's, which is made like it.
fn of_group(kind: Kind, group: &Map<String, Value>, now: Now) -> Result<Vec<Notification>, String> {
    let alerts = group.get("alerts").and_then(Value::as_array).ok_or_else(|| {
        format!("the body has no array `alerts`, as a notification of {} has", kind.word())
    })?;
    let shared: Vec<&str> = ["title", "message", "externalURL"]
        .into_iter()
        .map(|key| text_of(group, key))
        .filter(|text| !text.is_empty())
        .collect();
    let mut found = Vec::with_capacity(alerts.len());
    for alert in alerts {
        let Value::Object(alert) = alert else {
            return Err(format!("`alerts` holds {}, not an object", name_of(alert)));
        };
        let status = match text_of(alert, "status") {
            "firing" => Status::Firing,
            "resolved" => Status::Resolved,
            other => {
                return Err(format!("an alert has the status {other:?}, not firing or resolved"));
            }
        };
        let mut text: Vec<&str> = ["generatorURL", "dashboardURL", "panelURL"]
            .into_iter()
            .map(|key| text_of(alert, key))
            .filter(|text| !text.is_empty())
            .collect();
        // Title and message speak of the whole group: they are this alert's only where it is alone.
        if alerts.len() == 1 {
            text.extend(&shared);
        }
        let (fingerprint, starts) = (text_of(alert, "fingerprint"), text_of(alert, "startsAt"));
        let way = hash(&(text_of(group, "receiver"), text_of(group, "groupKey")));
        found.push(Notification {
            kind,
            received: now,
            status,
            labels: strings(alert.get("labels")),
            annotations: strings(alert.get("annotations")),
            text: text.join("\n"),
            starts: Wall::parse(starts),
            copy: format!("{}/{fingerprint}/{starts}/{way:016x}", text_of(alert, "status")),
            delivery: 0,
        });
    }
    let mut all: Vec<&str> = found.iter().map(|n| n.copy.as_str()).collect();
    all.sort_unstable();
    let delivery = hash(&all);
    for notification in &mut found {
        notification.delivery = delivery;
    }
    Ok(found)
}

/// Any JSON: its scalars are labels beside those under `labels`.
fn free(object: &Map<String, Value>, now: Now) -> Notification {
    let mut labels: BTreeMap<String, String> =
        object.iter().filter_map(|(name, value)| Some((name.clone(), scalar(value)?))).collect();
    labels.extend(strings(object.get("labels")));
    let says = |key: &str| matches!(text_of(object, key), "resolved" | "ok" | "OK");
    Notification {
        kind: Kind::Json,
        received: now,
        status: if says("status") || says("state") { Status::Resolved } else { Status::Firing },
        labels,
        annotations: strings(object.get("annotations")),
        text: Value::Object(object.clone()).to_string(),
        starts: Wall::parse(text_of(object, "startsAt")),
        copy: String::new(),
        delivery: 0,
    }
}

/// The same within one run of the process; stored values are compared with stored ones only as
/// long as the standard library keeps its hash.
fn hash(of: &impl std::hash::Hash) -> u64 {
    use std::hash::Hasher;
    let mut hasher = std::hash::DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
