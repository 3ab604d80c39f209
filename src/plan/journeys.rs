//! Journeys: a way in, events, and the stages they are followed through.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sha2::Digest as _;

use super::load::Loaded;
use super::{Fleet, share};
use crate::confirm::AnyConfirmer;
use crate::confirm::unseen::{Proof, Unseen};
use crate::journey::Stage;
use crate::journey::event::{EventSpec, Events};
use crate::journey::reconcile::Expectation;
use crate::probe::Effect;
use crate::send::AnySender;
use crate::spec::units::{Period, Size};
use crate::spec::{AllowedTimes, Diagnostics, Fields, Node, decode};
use crate::{confirm, send};

mod events;
mod usecase;

use events::{own_format, plain, within_budget};
pub use usecase::{Chosen, Twin};

/// How often a round is sent where the plan does not say.
const EVERY: Duration = Duration::from_secs(300);
/// How long a stage may take where the plan does not say.
const WITHIN: Duration = Duration::from_secs(60);
/// How long handing over a round may take where the plan does not say.
const TIMEOUT: Duration = Duration::from_secs(10);
/// What a journey may send in a day where the plan does not say.
const BUDGET: Size = Size(1_000_000_000);
/// A stage is asked again so often at most, and no sooner than that after a round's end.
const RECHECKS_LIMIT: usize = 8;
const SOONEST: Duration = Duration::from_secs(1);
/// Looks are spread over `within`, within these bounds, so that neither a platform is flooded nor
/// a latency blurred.
const POLL: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

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
    pub stages: Vec<StagePlan>,
    /// Outside of these no round begins, and what is judged from it is open.
    pub allowed_times: AllowedTimes,
    /// The node that runs it instead of this one.
    pub elsewhere: Option<String>,
    shared: bool,
    budget: Size,
    send: Value,
    event_spec: EventSpec,
}

#[derive(Clone)]
pub struct StagePlan {
    pub stage: Stage,
    pub confirmer: Option<Arc<dyn AnyConfirmer>>,
    pub within: Duration,
    pub give_up: Duration,
    pub poll: Duration,
    pub expect: Expectation,
    /// How many things a round brings, at the stages that count things.
    pub exactly: u64,
    /// Within this after a thing came, its end must come.
    pub resolved: Option<Duration>,
    pub equals: Option<Equals>,
    /// How long after a round's end what it showed is asked for again.
    pub recheck: Vec<Duration>,
    spec: Value,
    hidden: Option<Value>,
}

/// The number that a reading should show.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Equals {
    /// As many as were certainly sent.
    Sent,
    Number(f64),
}

impl Journey {
    /// The longest time until the fate of a round's last event is decided.
    pub fn give_up(&self) -> Duration {
        let whole = |stage: &StagePlan| stage.give_up + stage.resolved.unwrap_or_default();
        let stages = self.stages.iter().map(whole).max().unwrap_or_default();
        self.length() + self.timeout + stages
    }

    /// When the last event of a round, its twin's included, is due after its beginning.
    fn length(&self) -> Duration {
        let twin = self.twin.as_ref().map(|twin| twin.events.length());
        self.events.length().max(twin.unwrap_or_default())
    }

    pub fn stage(&self, stage: Stage) -> Option<&StagePlan> {
        self.stages.iter().find(|plan| plan.stage == stage)
    }

    /// Whether the benign twin must bring nothing about at this stage.
    pub fn watches_twin(&self, stage: Stage) -> bool {
        let alerts = matches!(stage, Stage::Alerted | Stage::Notified);
        alerts && self.twin.is_some() && self.stage(stage).is_some()
    }

    /// Whether it sees an alert, and who is told of it.
    pub fn tells_people(&self) -> bool {
        self.stage(Stage::Alerted).is_some() && self.stage(Stage::Notified).is_some()
    }

    /// Each effect with how often it happens.
    pub fn effects(&self) -> Vec<(String, Effect)> {
        let every = Period(self.every).to_string();
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
        let looks = self.stages.iter().flat_map(|stage| {
            let poll = format!("{} while a round is under way", Period(stage.poll));
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
        sends.chain(twin).chain(looks).chain(again).collect()
    }

    /// How what it leaves behind is deleted, by the stage that sees it.
    pub fn purges(&self) -> Vec<(Stage, &'static str, String)> {
        let stages = self.stages.iter();
        let sees = stages.filter_map(|plan| Some((plan.stage, plan.confirmer.as_ref()?)));
        sees.filter_map(|(stage, confirmer)| Some((stage, confirmer.kind(), confirmer.purge()?)))
            .collect()
    }

    /// What the texts of its events and what a stage promises of them hang on: a look back under
    /// another plan would compare them with what was never sent.
    pub fn promise(&self, stage: Stage) -> Option<String> {
        let plan = self.stage(stage)?;
        let mut parts =
            vec![json!([self.id, self.sender.kind(), self.send, self.event_spec, plan.expect])];
        parts.extend(self.usecase.as_ref().map(Chosen::json));
        let parts = Value::Array(parts);
        let hash = sha2::Sha256::digest(parts.to_string().as_bytes());
        Some(hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect())
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
            super::when_and_where(map, &self.allowed_times, self.shared);
        }
        value
    }
}

impl StagePlan {
    /// Whether its clock can be told from what it shows.
    pub fn has_clock(&self) -> bool {
        self.expect.clock.is_some() || self.confirmer.as_ref().is_some_and(|seen| seen.stamps())
    }

    /// Whether a wrong tenant is asked too.
    pub fn has_hidden(&self) -> bool {
        self.hidden.is_some()
    }

    fn json(&self) -> Value {
        let mut body = json!({
            "within": Period(self.within).to_string(),
            "give_up": Period(self.give_up).to_string(),
            "poll": Period(self.poll).to_string(),
            "expect": self.expect,
        });
        if let Some(map) = body.as_object_mut() {
            if let Some(confirmer) = &self.confirmer {
                map.insert(confirmer.kind().into(), self.spec.clone());
            }
            if !self.recheck.is_empty() {
                let after: Vec<_> =
                    self.recheck.iter().map(|after| Period(*after).to_string()).collect();
                map.insert("recheck".into(), json!(after));
            }
            if let Some(hidden) = &self.hidden {
                map.insert("must_not_see".into(), hidden.clone());
            }
            if self.stage.counts_things() {
                map.insert("exactly".into(), json!(self.exactly));
            }
            if let Some(resolved) = self.resolved {
                map.insert("resolved".into(), json!(Period(resolved).to_string()));
            }
            match self.equals {
                Some(Equals::Sent) => drop(map.insert("equals".into(), json!("sent"))),
                Some(Equals::Number(number)) => drop(map.insert("equals".into(), json!(number))),
                None => {}
            }
        }
        json!({ self.stage.word(): body })
    }
}

pub(super) fn compile(
    loaded: &Loaded,
    fleet: Fleet<'_>,
    diagnostics: &mut Diagnostics,
) -> Vec<Journey> {
    let mut seen = BTreeSet::new();
    loaded
        .items("journeys", diagnostics)
        .into_iter()
        .filter_map(|node| {
            let journey = one(node, loaded, fleet, diagnostics);
            super::once(node, "journey", &mut seen, diagnostics)?;
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
    let all = [Some(&*events), twin.as_ref().map(|twin| &*twin.events)];
    within_budget(&all, every, budget, node, diagnostics);
    let journey = Journey {
        elsewhere: share::elsewhere(shared, &id, fleet.node, fleet.nodes),
        id: id.into(),
        every,
        timeout,
        sender,
        events,
        usecase,
        twin,
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

fn stage_list(
    node: &Node,
    usecase: Option<&Chosen>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<(Node, StagePlan)>> {
    let Some(list) = node.as_list() else {
        diagnostics
            .error(node.span, "the stages are no list")
            .expected("a list such as `- stored: { opensearch: { ... }, within: 60s }`");
        return None;
    };
    let stages: Vec<_> =
        list.iter().map(|item| (item, stage(item, usecase, diagnostics))).collect();
    let mut whole = Vec::with_capacity(stages.len());
    let mut last: Option<Stage> = None;
    let mut good = true;
    for (item, plan) in stages {
        let Some(plan) = plan else {
            good = false;
            continue;
        };
        if let Some(last) = last
            && plan.stage <= last
        {
            diagnostics
                .error(item.span, format!("`{}` can't come after `{}`", plan.stage.word(), last.word()))
                .expected("each stage once, in the order sent, accepted, parsed, enriched, stored, alerted, notified, shown");
            good = false;
        }
        last = Some(plan.stage);
        whole.push((item.clone(), plan));
    }
    good.then_some(whole)
}

fn stage(
    node: &Node,
    usecase: Option<&Chosen>,
    diagnostics: &mut Diagnostics,
) -> Option<StagePlan> {
    let words: Vec<&str> = Stage::ALL.iter().map(|stage| stage.word()).collect();
    let mut outer = Fields::new(node, "a stage", diagnostics)?;
    let named = outer.take_one_of(&words, diagnostics);
    outer.finish(&[], diagnostics);
    let (word, key, mut body) = named?;
    let stage = Stage::parse(&word)?;
    // The alert that a use case expects gives the stages at which it is seen their defaults.
    let usecase = usecase.filter(|_| matches!(stage, Stage::Alerted | Stage::Notified));
    if let Some(usecase) = usecase {
        usecase.name_alert(&mut body);
    }
    let alert = usecase.and_then(|usecase| usecase.case.alert.as_ref());

    let table = confirm::kinds();
    let mut fields = Fields::new(&body, "a stage", diagnostics)?;
    let within = fields.take::<Period>("within", diagnostics);
    let within = within.or(alert.and_then(|alert| alert.within)).map_or(WITHIN, |period| period.0);
    let give_up =
        fields.take::<Period>("give_up", diagnostics).map_or(within * 3, |period| period.0);
    let poll = fields
        .take::<Period>("poll", diagnostics)
        .map_or((within / 20).clamp(POLL.0, POLL.1), |period| period.0);
    let expect = fields.take::<Expectation>("expect", diagnostics).unwrap_or_default();
    if let Err(text) = expect.validate() {
        diagnostics.error(body.span, text);
    }
    let exactly = fields.take::<u64>("exactly", diagnostics);
    let resolved = fields.take::<Period>("resolved", diagnostics).map(|period| period.0);
    let equals = fields.take_node("equals");
    let hidden = fields.take_node("must_not_see");
    let again = fields.take_node("recheck");
    let looks = !matches!(stage, Stage::Sent | Stage::Accepted);
    let names: Vec<&str> = table.iter().map(|entry| entry.kind).collect();
    let kind = if looks { fields.take_one_of(&names, diagnostics) } else { None };
    fields.finish(&[], diagnostics);

    if give_up < within {
        diagnostics.error(
            body.span,
            format!("`give_up`, {}, is before `within`, {}", Period(give_up), Period(within)),
        );
    }
    if within.is_zero() {
        diagnostics.error(body.span, "nothing can arrive within 0s").expected("1ms or more");
    }
    if poll.is_zero() {
        diagnostics.error(body.span, "`poll` can't be 0s");
    }
    if exactly.is_some() && !stage.counts_things() {
        diagnostics
            .error(
                key.span,
                format!("`exactly` says nothing at `{word}`, where each event is counted"),
            )
            .expected("`exactly` at alerted, notified or shown");
    }
    let tells = matches!(stage, Stage::Alerted | Stage::Notified);
    if resolved.is_some() && !tells {
        diagnostics
            .error(key.span, format!("`resolved` says nothing at `{word}`"))
            .expected("`resolved` at alerted or notified");
    }
    let equals = match equals {
        None => None,
        Some(node) => Some(equals_of(&node, diagnostics)?),
    };
    let (confirmer, spec) = if looks {
        let (kind, _, node) = kind?;
        let entry = table.into_iter().find(|entry| entry.kind == kind)?;
        let (confirmer, spec) = (entry.compile)(&node, diagnostics)?;
        (Some(confirmer), spec)
    } else {
        (None, Value::Null)
    };
    if let (Some(_), true, Some(confirmer)) = (resolved, tells, &confirmer)
        && !confirmer.ends()
    {
        diagnostics
            .error(
                body.span,
                format!("`{}` does not show that something is resolved", confirmer.kind()),
            )
            .hint("leave `resolved` out, or see it another way");
    }
    let recheck = match again {
        Some(node) => rechecks(&node, stage, confirmer.as_deref(), diagnostics)?,
        None => Vec::new(),
    };
    let (confirmer, hidden) = match (confirmer, hidden) {
        (confirmer, None) => (confirmer, None),
        (Some(confirmer), Some(node)) if !stage.counts_things() => {
            let (confirmer, spec) = must_not_see(confirmer, &node, diagnostics)?;
            (Some(confirmer), Some(spec))
        }
        (_, Some(node)) => {
            diagnostics
                .error(node.span, format!("`{word}` is no stage at which events are seen"))
                .expected("`must_not_see` at parsed, enriched or stored");
            return None;
        }
    };
    Some(StagePlan {
        stage,
        confirmer,
        within,
        give_up,
        poll,
        expect,
        exactly: exactly.or(alert.map(|alert| alert.exactly)).unwrap_or(1),
        resolved,
        equals,
        recheck,
        spec,
        hidden,
    })
}

/// When what a stage has shown is asked for again: ascending, each once.
fn rechecks(
    node: &Node,
    stage: Stage,
    confirmer: Option<&dyn AnyConfirmer>,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<Duration>> {
    let mut after: Vec<Duration> = match decode::<Vec<Period>>(node, diagnostics) {
        Some(periods) => periods.into_iter().map(|period| period.0).collect(),
        None => return None,
    };
    let Some(confirmer) = confirmer.filter(|_| !stage.counts_things()) else {
        diagnostics
            .error(node.span, format!("`{}` keeps no events", stage.word()))
            .expected("`recheck` at parsed, enriched or stored");
        return None;
    };
    if !confirmer.keeps() {
        diagnostics
            .error(
                node.span,
                format!("`{}` is read on and on, and can't be asked again", confirmer.kind()),
            )
            .hint("let a stage see by a store that is searched, and write `recheck` there");
        return None;
    }
    after.sort_unstable();
    after.dedup();
    if after.is_empty() || after.len() > RECHECKS_LIMIT || after.iter().any(|one| *one < SOONEST) {
        diagnostics
            .error(node.span, "`recheck` is no list of times after a round's end")
            .expected(format!("1 to {RECHECKS_LIMIT} of 1s or more, such as `[ 1h, 24h ]`"));
        return None;
    }
    Some(after)
}

/// Wraps a stage's way to see with that of a tenant that must see nothing.
fn must_not_see(
    seen: Arc<dyn AnyConfirmer>,
    node: &Node,
    diagnostics: &mut Diagnostics,
) -> Option<(Arc<dyn AnyConfirmer>, Value)> {
    let table = confirm::kinds();
    let names: Vec<&str> = table.iter().map(|entry| entry.kind).collect();
    let mut fields = Fields::new(node, "what a wrong tenant must not see", diagnostics)?;
    let proof = fields.take::<Proof>("proof", diagnostics);
    let kind = fields.take_one_of(&names, diagnostics);
    fields.finish(&[], diagnostics);
    let (kind, key, body) = kind?;
    let entry = table.into_iter().find(|entry| entry.kind == kind)?;
    let (hidden, spec) = (entry.compile)(&body, diagnostics)?;
    let mut json = json!({ hidden.kind(): spec });
    if let (Some(map), Some(proof)) = (json.as_object_mut(), &proof) {
        map.insert("proof".into(), json!(proof));
    }
    match Unseen::new(seen, hidden, proof) {
        Ok(unseen) => Some((Arc::new(unseen), json)),
        Err(text) => {
            diagnostics.error(key.span, text);
            None
        }
    }
}

fn equals_of(node: &Node, diagnostics: &mut Diagnostics) -> Option<Equals> {
    if node.as_str() == Some("sent") {
        return Some(Equals::Sent);
    }
    match node.as_str().and_then(|text| text.parse::<f64>().ok()).filter(|n| n.is_finite()) {
        Some(number) => Some(Equals::Number(number)),
        None => {
            diagnostics.error(node.span, "`equals` is neither `sent` nor a number");
            None
        }
    }
}

/// Adds what every journey has without saying so: `sent`, and `accepted` where the way in
/// acknowledges.
fn complete(
    declared: Vec<(Node, StagePlan)>,
    sender: &dyn AnySender,
    timeout: Duration,
    node: &Node,
    diagnostics: &mut Diagnostics,
) -> Option<Vec<StagePlan>> {
    let mut stages = Vec::with_capacity(declared.len() + 2);
    for (item, plan) in declared {
        if plan.stage == Stage::Accepted && !sender.acknowledges() {
            diagnostics
                .error(
                    item.span,
                    format!("`{}` never acknowledges: it has no stage `accepted`", sender.kind()),
                )
                .hint("leave the stage out");
            return None;
        }
        stages.push(plan);
    }
    let implied = |stage| StagePlan {
        stage,
        confirmer: None,
        within: timeout,
        give_up: timeout,
        poll: POLL.0,
        expect: Expectation::default(),
        exactly: 1,
        resolved: None,
        equals: None,
        recheck: Vec::new(),
        spec: Value::Null,
        hidden: None,
    };
    for stage in [Stage::Sent, Stage::Accepted] {
        let there = stages.iter().any(|plan| plan.stage == stage);
        if !there && (stage == Stage::Sent || sender.acknowledges()) {
            stages.push(implied(stage));
        }
    }
    stages.sort_by_key(|plan| plan.stage);
    if stages.iter().all(|plan| plan.confirmer.is_none()) {
        diagnostics
            .error(node.span, "the journey looks nowhere: it has no stage that sees its events")
            .expected("at least one of parsed, enriched, stored, alerted, notified, shown");
        return None;
    }
    Some(stages)
}
