//! Journeys: a way in, events, and the stages they are followed through.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::Digest as _;

use super::load::Loaded;
use super::{Fleet, share};
use crate::client::rules::Engine;
use crate::journey::Stage;
use crate::journey::event::{EventSpec, Events};
use crate::probe::Effect;
use crate::send;
use crate::send::AnySender;
use crate::spec::units::{Period, Size};
use crate::spec::{AllowedTimes, Diagnostics, Fields, Node, decode};

mod events;
mod stage;
mod usecase;

use events::{own_format, plain, within_budget};
pub use stage::{Equals, StagePlan};
use stage::{complete, stage_list};
pub use usecase::{Chosen, Twin};

/// How often a round is sent where the plan does not say.
const EVERY: Duration = Duration::from_secs(300);
/// How long handing over a round may take where the plan does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What a journey may send in a day where the plan does not say.
const BUDGET: Size = Size(1_000_000_000);

#[derive(Clone)]
pub struct Journey {
    pub id: Arc<str>,
    pub every: Duration,
    pub timeout: Duration,
    pub sender: Arc<dyn AnySender>,
    pub events: Arc<Events>,
    /// What its events are of.
    pub usecase: Option<Chosen>,
    /// What is sent beside each round and must bring no alert.
    pub twin: Option<Twin>,
    /// The events are sent twice more, just inside and just outside of the rule's look-back.
    pub edges: bool,
    pub stages: Vec<StagePlan>,
    /// Outside of these no round begins, and what is judged from it is open.
    pub allowed_times: AllowedTimes,
    /// The node that runs it instead of this one.
    pub elsewhere: Option<String>,
    shared: bool,
    /// What it may send in a day.
    pub budget: Size,
    send: Value,
    event_spec: EventSpec,
    /// What its rounds are evidence of: those of a journey that sent, saw or expected something else,
    /// under the same id, are none of this one.
    pub evidence: Arc<str>,
}

impl Journey {
    /// The longest time until the fate of a round's last event is decided where it is looked for. A
    /// deadline counts from when an event was due, so that a slow hand-over adds nothing to it.
    pub fn give_up(&self) -> Duration {
        let looked = self.stages.iter().filter(|stage| stage.confirmer.is_some());
        let whole = |stage: &StagePlan| stage.give_up + stage.resolved.unwrap_or_default();
        self.length() + looked.map(whole).max().unwrap_or_default()
    }

    /// When the last event of a round, its twin's included, is due after its beginning.
    fn length(&self) -> Duration {
        let twin = self.twin.as_ref().map(|twin| twin.events.length());
        self.events.length().max(twin.unwrap_or_default())
    }

    pub fn stage(&self, stage: Stage) -> Option<&StagePlan> {
        self.stages.iter().find(|plan| plan.stage == stage)
    }

    /// Whether something that is sent beside a round must bring nothing about at this stage.
    pub fn watches_twin(&self, stage: Stage) -> bool {
        let alerts = matches!(stage, Stage::Alerted | Stage::Notified);
        let beside = self.twin.is_some() || (self.edges && stage == Stage::Alerted);
        alerts && beside && self.stage(stage).is_some()
    }

    /// Whether it sees an alert, and who is told of it.
    pub fn tells_people(&self) -> bool {
        self.stage(Stage::Alerted).is_some() && self.stage(Stage::Notified).is_some()
    }

    /// A twin is watched until it can't alert any more. Where that takes longer than the next round is
    /// due, what is due meanwhile is left out, as it is wherever a round takes long.
    fn how_often(&self) -> String {
        let every = Period(self.every).to_string();
        let watched = self.stages.iter().filter(|plan| self.watches_twin(plan.stage));
        match watched.map(|plan| self.length() + plan.give_up).max() {
            Some(lasts) if lasts > self.every => {
                format!("{every}, when the round before has ended, which lasts {}", Period(lasts))
            }
            _ => every,
        }
    }

    /// Each effect with how often it happens.
    pub fn effects(&self) -> Vec<(String, Effect)> {
        let every = self.how_often();
        let steps = self.usecase.as_ref().map(|chosen| {
            let over = self.events.length();
            format!(", the steps of the use case {} over {over:?}", chosen.name)
        });
        let sends = self.sender.effects(self.events.count()).into_iter().map(|effect| {
            let what = effect.what + steps.as_deref().unwrap_or_default();
            (every.clone(), Effect { what, ..effect })
        });
        let twin = self.twin.iter().flat_map(|twin| {
            let beside = format!(
                ", the benign twin of the use case {} over {:?}",
                twin.name(),
                twin.events.length()
            );
            let effects = self.sender.effects(twin.events.count()).into_iter();
            effects.map(move |effect| Effect { what: effect.what + &beside, ..effect })
        });
        let twin = twin.map(|effect| (every.clone(), effect));
        let copies = ["inside", "outside"].into_iter().filter(|_| self.edges).flat_map(|side| {
            let beside = format!(", a copy stamped just {side} of the rule's look-back");
            let effects = self.sender.effects(self.events.count()).into_iter();
            effects.map(move |effect| Effect { what: effect.what + &beside, ..effect })
        });
        let copies = copies.map(|effect| (every.clone(), effect));
        let rules = self.stages.iter().filter_map(|stage| {
            let effect = stage.rule.as_ref()?.effects()?;
            let waits = format!(
                "{}, and waits for its alert as long as follows from that, with {} for the run, and {} \
                 at most",
                effect.what,
                Period(stage.by_rule?),
                Period(stage.give_up)
            );
            Some(Effect { what: waits, ..effect })
        });
        let rules = rules.map(|effect| (every.clone(), effect));
        let looks = self.stages.iter().flat_map(|stage| {
            let once = if stage.stage.counts_things() { "" } else { ", and once when it is over" };
            let poll = format!("{} while a round is under way{once}", Period(stage.poll));
            stage
                .confirmer
                .iter()
                .flat_map(|confirmer| confirmer.effects())
                .map(move |effect| (poll.clone(), effect))
        });
        let again = self.stages.iter().flat_map(|stage| {
            let confirmer = stage.confirmer.iter().filter(|_| !stage.recheck.is_empty());
            let after: Vec<_> = stage.recheck.iter().map(|a| Period(*a).to_string()).collect();
            let when = format!("{} after each round", after.join(" and "));
            confirmer
                .flat_map(|confirmer| confirmer.effects())
                .map(move |effect| (when.clone(), effect))
        });
        let sent = sends.chain(twin).chain(copies);
        sent.chain(rules).chain(looks).chain(again).collect()
    }

    /// How what it leaves behind is deleted, by the stage that sees it.
    pub fn purges(&self) -> Vec<(Stage, &'static str, String)> {
        let stages = self.stages.iter();
        let sees = stages.filter_map(|plan| Some((plan.stage, plan.confirmer.as_ref()?)));
        sees.filter_map(|(stage, confirmer)| Some((stage, confirmer.kind(), confirmer.purge()?)))
            .collect()
    }

    /// What the texts of its events, what a stage promises of them and where it is looked at hang on:
    /// a look back under another plan would compare them with what was never sent, or miss in one
    /// place what is kept in another.
    pub fn promise(&self, stage: Stage) -> Option<String> {
        let plan = self.stage(stage)?;
        let mut parts =
            vec![json!([self.id, self.sender.kind(), self.send, self.event_spec, plan.expect])];
        parts.push(plan.seen_by());
        parts.extend(self.usecase.as_ref().map(Chosen::json));
        let parts = Value::Array(parts);
        let hash = sha2::Sha256::digest(parts.to_string().as_bytes());
        Some(hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
    }

    /// What a round of it is, however often and when they come.
    fn meaning(&self) -> Value {
        let mut value = self.json();
        if let Some(map) = value.as_object_mut() {
            map.retain(|key, _| !["every", "budget", "allowed_times", "shared"].contains(&&**key));
        }
        value
    }

    pub fn json(&self) -> Value {
        let mut value = json!({
            "id": &*self.id,
            "every": Period(self.every).to_string(),
            "timeout": Period(self.timeout).to_string(),
            "budget": self.budget.to_string(),
            "send": { self.sender.kind(): self.send },
            "events": self.event_spec,
            "stages": self.stages.iter().map(StagePlan::json).collect::<Vec<_>>(),
        });
        if let Some(map) = value.as_object_mut() {
            map.extend(self.usecase.iter().map(|chosen| ("usecase".to_owned(), chosen.json())));
            map.extend(self.twin.iter().map(|twin| ("must_not_alert".to_owned(), twin.json())));
            if self.edges {
                map.insert("edges".into(), json!(true));
            }
            super::when_and_where(map, &self.allowed_times, self.shared);
        }
        value
    }
}

pub(super) fn compile(
    loaded: &Loaded,
    fleet: Fleet<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<Journey> {
    let mut seen = BTreeSet::new();
    let checks = loaded.ids("checks");
    loaded
        .items("journeys", diagnostics)
        .into_iter()
        .filter_map(|node| {
            let journey = one(node, loaded, fleet, diagnostics);
            super::once(node, "journey", &mut seen, diagnostics)?;
            // `once ID` and the evidence of a gate name either by its id alone.
            if let Some(at) = node.get("id")
                && checks.iter().any(|check| at.as_str() == Some(check))
            {
                let id = at.as_str().unwrap_or_default();
                diagnostics.error(at.span, format!("`{id}` is a check already"));
            }
            journey
        })
        .collect()
}

fn one(
    node: &Node,
    loaded: &Loaded,
    fleet: Fleet<'_>,
    diagnostics: &mut Diagnostics,
) -> Option<Journey> {
    let mut fields = Fields::new(node, "a journey", diagnostics)?;
    let id = fields.require::<String>("id", diagnostics);
    let every = fields.take::<Period>("every", diagnostics).map_or(EVERY, |period| period.0);
    let timeout = fields.take::<Period>("timeout", diagnostics).map_or(TIMEOUT, |period| period.0);
    let allowed_times = super::allowed_times(&mut fields, diagnostics);
    let shared = fields.take::<bool>("shared", diagnostics).unwrap_or(false);
    let budget = fields.take::<Size>("budget", diagnostics).unwrap_or(BUDGET);
    let events_node = fields.take_node("events");
    let twin_node = fields.take_node("must_not_alert");
    let edges_node = fields.take_node("edges");
    let edges = match &edges_node {
        Some(node) => decode::<bool>(node, diagnostics)?,
        None => false,
    };
    let send = fields.require_node("send", diagnostics);
    let stages = fields.require_node("stages", diagnostics);
    fields.finish(&[], diagnostics);
    if every.is_zero() {
        diagnostics.error(node.span, "a journey can't be sent every 0s").expected("1s or more");
    }
    if timeout.is_zero() {
        diagnostics
            .error(node.span, "no event can be handed over within 0s")
            .expected("1ms or more");
    }
    let sender = send.and_then(|node| sender(&node, diagnostics));
    let named = events_node.as_ref().and_then(|events| Some((events, events.get("usecase")?)));
    let usecase =
        named.map(|(events, at)| Chosen::named(at, events.get("vars"), loaded, diagnostics));
    let known = usecase.as_ref().and_then(Option::as_ref);
    let stages = stages.and_then(|node| stage_list(&node, known, diagnostics));
    let (sender, send) = sender?;
    let stages = complete(stages?, &*sender, timeout, node, diagnostics)?;
    let event_spec = match &events_node {
        Some(node) => decode::<EventSpec>(node, diagnostics)?,
        None => EventSpec::default(),
    };
    let at = events_node.as_ref().unwrap_or(node);
    let usecase = match usecase {
        Some(chosen) => Some(chosen?),
        None => None,
    };
    let events = match &usecase {
        Some(chosen) => chosen.events(at, &event_spec, sender.way_in(), diagnostics)?,
        None => plain(at, &event_spec, sender.way_in(), diagnostics)?,
    };
    let events = Arc::new(events);
    if let (true, Some(node)) = (sender.own_format(), &events_node) {
        own_format(node, sender.kind(), diagnostics)?;
    }
    let twin = match &twin_node {
        Some(at) => Some(Twin::named(
            at,
            usecase.as_ref(),
            &event_spec,
            sender.way_in(),
            loaded,
            diagnostics,
        )?),
        None => None,
    };
    let id = id?;
    let copy = edges.then_some(&*events);
    let all = [Some(&*events), twin.as_ref().map(|twin| &*twin.events), copy, copy];
    within_budget(&all, every, budget, node, diagnostics);
    let mut journey = Journey {
        evidence: Arc::from(""),
        elsewhere: share::elsewhere(shared, &id, fleet.node, fleet.nodes),
        id: id.into(),
        every,
        timeout,
        sender,
        events,
        usecase,
        twin,
        edges,
        stages,
        allowed_times,
        shared,
        budget,
        send,
        event_spec,
    };
    if let (Some(at), true) = (&twin_node, journey.twin.is_some()) {
        usecase::can_tell_of_twin(&journey, at, diagnostics)?;
    }
    if let (Some(at), true) = (&edges_node, edges) {
        has_edges(&journey, at, diagnostics)?;
        usecase::can_tell_of_twin(&journey, at, diagnostics)?;
    }
    journey.evidence = super::evidence(fleet.node, &journey.meaning());
    Some(journey)
}

fn sender(node: &Node, diagnostics: &mut Diagnostics) -> Option<(Arc<dyn AnySender>, Value)> {
    let table = send::kinds();
    let mut fields = Fields::new(node, "a way in", diagnostics)?;
    let names: Vec<&str> = table.iter().map(|entry| entry.kind).collect();
    let kind = fields.take_one_of(&names, diagnostics);
    fields.finish(&[], diagnostics);
    let (kind, _, node) = kind?;
    let entry = table.into_iter().find(|entry| entry.kind == kind)?;
    (entry.compile)(&node, diagnostics)
}

/// Whether the rule has a look-back, and goes by the time that an event tells.
fn has_edges(journey: &Journey, at: &Node, diagnostics: &mut Diagnostics) -> Option<()> {
    let behind = journey.stage(Stage::Alerted).and_then(|stage| stage.rule.as_ref());
    let Some(behind) = behind else {
        diagnostics
            .error(at.span, "the journey knows of no rule that looks back")
            .expected("`within: rule` at alerted");
        return None;
    };
    if behind.engine() == Some(Engine::Prometheus) {
        diagnostics
            .error(
                at.span,
                "Prometheus goes by when it scraped, not by the time that an event tells: its rules \
                 have no edges that events could be placed at",
            )
            .hint("leave `edges` out");
        return None;
    }
    // A journey with edges keeps to its schedule.
    let alerts = journey.stages.iter().filter(|plan| journey.watches_twin(plan.stage));
    let lasts = journey.length() + alerts.map(|plan| plan.give_up).max().unwrap_or_default();
    if journey.every < lasts {
        diagnostics
            .error(
                at.span,
                format!(
                    "a round lasts {lasts:?}, until what must not alert can't any more, and the next \
                     is due every {}",
                    Period(journey.every)
                ),
            )
            .hint("send rounds less often, or write a shorter `give_up` at alerted and notified");
        return None;
    }
    Some(())
}
