//! The detector: Sigma rules, put to each event by the crate `sigma-rust`. What counts events is a
//! correlation, written as Sigma writes it.

use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::lake::{Alert, text, time};
use crate::journey::fields::lookup;
use crate::spec::units::Period;
use crate::spec::{Diagnostics, Sources, decode, yaml};
use crate::time::{Mono, Wall};

/// The rules that the embedded platform comes with.
pub(super) const RULES: [&str; 3] = [
    include_str!("rules/ssh-brute-force.yml"),
    include_str!("rules/new-administrator-account.yml"),
    include_str!("rules/security-log-cleared.yml"),
];

/// Groups that a correlation counts at once.
const GROUPS_LIMIT: usize = 1_000;

/// A rule, and how many of its events raise an alert where one is not enough.
struct Watch {
    title: String,
    level: String,
    rule: sigma_rust::Rule,
    count: Option<Count>,
}

struct Count {
    of: Correlation,
    groups: BTreeMap<Vec<String>, Group>,
}

/// When the events of one group happened, by their own times, and whether the alert is up.
#[derive(Default)]
struct Group {
    times: VecDeque<Wall>,
    up: bool,
}

/// The second document of a rule's file.
#[derive(Deserialize)]
struct Correlated {
    title: String,
    correlation: Correlation,
    level: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Correlation {
    r#type: Type,
    rules: Vec<String>,
    group_by: Vec<String>,
    timespan: Period,
    condition: AtLeast,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Type {
    EventCount,
}

#[derive(Deserialize)]
struct AtLeast {
    gte: usize,
}

/// Puts each event to each rule.
pub(super) struct Detector {
    watches: Vec<Watch>,
}

impl Detector {
    pub(super) fn new(rules: &[&str]) -> Result<Self, String> {
        Ok(Self { watches: rules.iter().map(|text| Watch::parse(text)).collect::<Result<_, _>>()? })
    }

    /// The alerts that this event raises. An event without its asset's owner raises none: nobody
    /// would know whom to call.
    pub(super) fn take(&mut self, event: &Map<String, Value>) -> Vec<Alert> {
        let Some(owner) = text(event, "enriched.asset.owner") else { return Vec::new() };
        let Ok(seen) = sigma_rust::Event::try_from(Value::Object(event.clone())) else {
            return Vec::new();
        };
        let watches = self.watches.iter_mut().filter(|watch| watch.rule.is_match(&seen));
        let raised = watches.filter_map(|watch| watch.raises(event).then_some(&*watch));
        raised.map(|watch| watch.alert(owner, event)).collect()
    }
}

impl Watch {
    fn parse(text: &str) -> Result<Self, String> {
        let (rule, correlation) = match text.split_once("\n---\n") {
            Some((rule, correlation)) => (rule, Some(correlation)),
            None => (text, None),
        };
        let rule = serde_json::from_value(read::<Value>(rule)?);
        let rule: sigma_rust::Rule = rule.map_err(|error| error.to_string())?;
        let Some(correlation) = correlation else {
            let level = rule.level.as_ref().map(|level| format!("{level:?}").to_lowercase());
            return Ok(Self {
                title: rule.title.clone(),
                level: level.unwrap_or_default(),
                rule,
                count: None,
            });
        };
        let Correlated { title, level, correlation: of } = read(correlation)?;
        let Type::EventCount = of.r#type;
        if of.rules.iter().ne(rule.name.as_ref()) {
            return Err(format!("`{title}` counts what is not beside it"));
        }
        Ok(Self { title, level, rule, count: Some(Count { of, groups: BTreeMap::new() }) })
    }

    /// Whether an event that matches is the one that raises the alert.
    fn raises(&mut self, event: &Map<String, Value>) -> bool {
        let Some(count) = &mut self.count else { return true };
        let of = |field: &String| lookup(event, field).and_then(Value::as_str).map(str::to_owned);
        // What lacks a field to group by is of no group.
        let Some(key) = count.of.group_by.iter().map(of).collect::<Option<Vec<_>>>() else {
            return false;
        };
        let (now, span) = (time(event), count.of.timespan.0);
        let near = |then: &Wall| u128::from(then.0.abs_diff(now.0)) <= span.as_nanos();
        if count.groups.len() >= GROUPS_LIMIT {
            count.groups.retain(|_, group| group.times.iter().any(near));
        }
        if count.groups.len() >= GROUPS_LIMIT {
            count.groups.pop_first();
        }
        let group = count.groups.entry(key).or_default();
        group.times.retain(near);
        if group.times.len() < count.of.condition.gte {
            group.times.push_back(now);
        }
        let enough = group.times.len() >= count.of.condition.gte;
        let before = std::mem::replace(&mut group.up, enough);
        enough && !before
    }

    fn alert(&self, owner: &str, event: &Map<String, Value>) -> Alert {
        let labels = [
            ("alertname", self.title.as_str()),
            ("severity", self.level.as_str()),
            ("platform", "embedded"),
            ("owner", owner),
            ("way_in", text(event, "labels.way_in").unwrap_or("unknown")),
            ("greenlight_run", text(event, "greenlight.run").unwrap_or("unknown")),
        ];
        Alert {
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            event: text(event, "message").unwrap_or_default().to_owned(),
            starts: time(event),
            raised: Mono::now(),
            notified: false,
        }
    }
}

/// One document of a rule's file.
fn read<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let (mut sources, mut diagnostics) = (Sources::default(), Diagnostics::default());
    let source = sources.add("rule", text);
    let read = yaml::parse(source, text, &mut diagnostics)
        .and_then(|node| decode::<T>(&node, &mut diagnostics));
    read.filter(|_| diagnostics.is_empty()).ok_or_else(|| diagnostics.render(&sources, false))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event(at: &str, run: &str, fields: Value) -> Map<String, Value> {
        let mut event = json!({
            "@timestamp": format!("2026-01-01T00:00:{at}Z"),
            "host.name": "h",
            "greenlight.run": run,
            "message": format!("{run}: what happened"),
            "enriched": { "asset": { "owner": "soc-test" } },
        });
        let fields = fields.as_object().cloned().unwrap_or_default();
        event.as_object_mut().unwrap().extend(fields);
        event.as_object().cloned().unwrap()
    }

    fn raised(detector: &mut Detector, event: &Map<String, Value>) -> Vec<String> {
        detector.take(event).into_iter().map(|alert| alert.labels["alertname"].clone()).collect()
    }

    #[test]
    fn five_failures_of_an_address_within_a_second_raise_one_alert() {
        let mut detector = Detector::new(&RULES).expect("right rules");
        let failed = |at: &str, run: &str, ip: &str| {
            // As the embedded parser shows it.
            let fields = json!({
                "event": { "action": "ssh-login", "outcome": "failure" }, "source": { "ip": ip },
            });
            event(at, run, fields)
        };
        let mut take = |at: &str, ip: &str| raised(&mut detector, &failed(at, "a", ip)).len();
        let burst = (0..9).map(|_| take("01", "192.0.2.1")).collect::<Vec<_>>();
        assert_eq!(burst, [0, 0, 0, 0, 1, 0, 0, 0, 0]);
        assert_eq!(take("01", "192.0.2.2"), 0, "another address");
        let steps = ["10.0", "10.2", "10.4", "10.6", "10.8", "11.0"];
        assert_eq!(steps.map(|at| take(at, "192.0.2.1")), [0, 0, 0, 0, 1, 0], "the next round");
        let slow = ["20", "21", "22", "23", "24", "25"];
        assert_eq!(slow.map(|at| take(at, "192.0.2.1")), [0; 6], "no brute force");
        // A clock that is set back begins anew.
        assert_eq!((0..5).map(|_| take("01", "192.0.2.1")).sum::<usize>(), 1);
        for n in 0..GROUPS_LIMIT * 2 {
            let at = format!("{}.{:03}", 30 + n / 1000 * 10, n % 1000);
            raised(&mut detector, &failed(&at, "a", &n.to_string()));
        }
        let count = detector.watches[0].count.as_ref().unwrap();
        assert!(count.groups.len() <= GROUPS_LIMIT, "{}", count.groups.len());
    }

    #[test]
    fn rules_without_a_count_raise_an_alert_for_each_event() {
        let mut detector = Detector::new(&RULES).expect("right rules");
        let joined = |group: &str, user: &str| {
            event(
                "01",
                "r",
                json!({ "event.action": "added-to-group", "group.name": group, "user.name": user }),
            )
        };
        assert_eq!(raised(&mut detector, &joined("sudo", "eve")), ["New administrator account"]);
        assert!(raised(&mut detector, &joined("lp", "eve")).is_empty());
        assert!(raised(&mut detector, &joined("sudo", "ansible-7")).is_empty());
        let log = |code: &str| {
            event(
                "01",
                "r",
                json!({ "event.code": code, "event.provider": "Microsoft-Windows-Eventlog" }),
            )
        };
        assert_eq!(raised(&mut detector, &log("1102")), ["Security log cleared"]);
        assert!(raised(&mut detector, &log("1105")).is_empty());
        let mut alone = log("1102");
        alone.remove("enriched");
        assert!(raised(&mut detector, &alone).is_empty(), "not enriched");
        let alert = detector.take(&log("1102")).remove(0);
        assert_eq!(
            (alert.labels["greenlight_run"].as_str(), alert.labels["severity"].as_str()),
            ("r", "high")
        );
        assert!(alert.annotations().to_string().contains("r: what happened"));
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_refused() {
        assert!(Detector::new(&["title: x"]).is_err());
        let other = RULES[0].replace("rules: [ failed_ssh_login ]", "rules: [ other ]");
        assert!(Detector::new(&[&other]).is_err_and(|text| text.contains("not beside it")));
        let unknown = RULES[0].replace("gte: 5", "lte: 5");
        assert!(Detector::new(&[&unknown]).is_err_and(|text| text.contains("gte")));
    }
}
