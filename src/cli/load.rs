//! `load`: a journey's events at a rate, with live progress and a verdict.

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::output::{self, Format, Output};
use super::run::{Stop, runtime};
use super::{Failure, Global, PlanArgs, colour, exit, node, period, positive, say, size};
use crate::agent::clock;
use crate::agent::load::{Counts, Latency, Moment, Report, StepReport, send, sizes};
use crate::client::http::{Api, Request};
use crate::client::{Clients, tls};
use crate::journey::Stage;
use crate::journey::load::{Agreed, Ended, Order, Shape, Slope, Spacing, Verdict, Why};
use crate::journey::tally::{StageTally, Tally};
use crate::plan::{Journey, Plan};
use crate::spec::did_you_mean;
use crate::spec::trace::Trace;
use crate::spec::units::{Period, Size};
use crate::time::Wall;

/// Elsewhere than on a terminal, a line of progress comes so often.
const LINES: Duration = Duration::from_secs(5);
/// A load that is killed has declared all but its last part.
const DECLARED: Duration = Duration::from_secs(600);
const DECLARING: Duration = Duration::from_secs(10);
/// A smoke test where nothing else is said: a second's event for so long.
const SMOKE: (f64, Duration) = (1.0, Duration::from_secs(10));
/// A burst has this long to drain where nothing else is said.
const DRAIN: Duration = Duration::from_secs(60);
/// More steps make no knee clearer.
const STEPS_LIMIT: u32 = 100;
/// A declaration's source is a name of at most a hundred characters.
const NAME_CHARS: usize = 90;

#[derive(Args, Clone)]
pub(super) struct LoadArgs {
    /// How the rate goes on: smoke (a trickle: does anything come through), ramp (up in steps to the
    /// knee, the last step that is held), soak (the same all the time), burst (a multiple for a
    /// time, and how long that takes to drain)
    #[arg(long, value_name = "SHAPE", value_parser = shape, default_value = "soak")]
    shape: Shape,
    /// Events a second; of a ramp those of the last step, of a burst what it comes on top of
    /// [smoke: 1]
    #[arg(long, value_name = "N", value_parser = positive)]
    rate: Option<f64>,
    /// How long to send; of a burst, how long it is [smoke: 10s]
    #[arg(long = "for", value_name = "DURATION", value_parser = period)]
    span: Option<Period>,
    /// Steps of a ramp
    #[arg(long, value_name = "N", value_parser = steps, default_value = "5")]
    steps: u32,
    /// A burst is so many times the rate
    #[arg(long, value_name = "X", value_parser = positive, default_value = "3")]
    peak: f64,
    /// How long the rate goes on after a burst, in which it must drain [default: 60s]
    #[arg(long, value_name = "DURATION", value_parser = period)]
    drain: Option<Period>,
    /// How far apart events are: constant, or poisson, as of many sources that know nothing of each
    /// other
    #[arg(long, value_name = "SPACING", value_parser = spacing, default_value = "constant")]
    arrivals: Spacing,
    /// The same seed gives the same arrivals [default: a random one, which the report names]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// What was agreed, in events a second: headroom is told against it [default: the rate]
    #[arg(long, value_name = "N", value_parser = positive)]
    agreed: Option<f64>,
    /// What was agreed, in gigabytes (10^9 bytes) of payload a day
    #[arg(long = "agreed-gb", value_name = "N", value_parser = positive)]
    agreed_gb: Option<f64>,
    /// So many further copies of events are borne
    #[arg(long, value_name = "N", default_value = "0")]
    duplicates: u64,
    /// Ends when so much was sent
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "1GB")]
    budget: Size,
    /// An agent on this node that is told when the load was on, for gates with `during: load`:
    /// `http://127.0.0.1:9765`
    #[arg(long, value_name = "URL")]
    agent: Option<String>,
}

fn shape(text: &str) -> Result<Shape, String> {
    let found = Shape::ALL.into_iter().find(|shape| shape.word() == text);
    found.ok_or_else(|| "expected smoke, ramp, soak or burst".to_owned())
}

fn spacing(text: &str) -> Result<Spacing, String> {
    let found = Spacing::ALL.into_iter().find(|spacing| spacing.word() == text);
    found.ok_or_else(|| "expected constant or poisson".to_owned())
}

fn steps(text: &str) -> Result<u32, String> {
    match text.parse::<u32>() {
        Ok(steps) if (1..=STEPS_LIMIT).contains(&steps) => Ok(steps),
        _ => Err(format!("write a number from 1 to {STEPS_LIMIT}")),
    }
}

impl LoadArgs {
    fn order(&self) -> Result<Order, Failure> {
        let smoke = self.shape == Shape::Smoke;
        let lacks = |what: &str| Failure::usage(format!("a {} needs {what}", self.shape.word()));
        let rate = self.rate.or(smoke.then_some(SMOKE.0)).ok_or_else(|| lacks("--rate"))?;
        let span = self.span.map(|span| span.0).or(smoke.then_some(SMOKE.1));
        let span = span.ok_or_else(|| lacks("--for"))?;
        if span.is_zero() {
            return Err(Failure::usage("a load lasts longer than 0s: give --for a duration"));
        }
        if !(1e-3..=1e9).contains(&(rate * self.peak)) || self.peak < 1.0 {
            return Err(Failure::usage("--peak is 1 or more, and not more than 1e9 in a second"));
        }
        let mut random = [0; 8];
        getrandom::fill(&mut random)
            .map_err(|error| Failure::ours(format!("no random numbers: {error}")))?;
        Ok(Order {
            shape: self.shape,
            rate,
            span,
            steps: self.steps,
            peak: self.peak,
            drain: self.drain.map_or(DRAIN, |drain| drain.0),
            spacing: self.arrivals,
            // As many digits as JSON keeps in a number.
            seed: self.seed.unwrap_or(u64::from_le_bytes(random) >> 11),
            budget: self.budget.0,
            agreed: Agreed { rate: self.agreed, gb_per_day: self.agreed_gb },
            duplicates: self.duplicates,
        })
    }
}

pub(super) fn run(
    global: &Global,
    journey: &str,
    plan: &PlanArgs,
    load: &LoadArgs,
    outputs: &[Output],
) -> Result<u8, Failure> {
    let outputs = output::wanted(outputs, &[Format::Terminal, Format::Json])?;
    let order = load.order()?;
    let (_, plan) = plan.compile(global)?;
    let journey = found(&plan, journey)?;
    if let Some(usecase) = &journey.usecase {
        let text = format!(
            "{} sends the steps of {} at their own times: volume is proven with a journey whose \
             events have a `message`",
            journey.id, usecase.name
        );
        return Err(Failure::usage(text));
    }
    if !journey.allowed_times.allow(clock::now().wall) {
        let text =
            format!("{} runs only in its allowed times, {}", journey.id, journey.allowed_times);
        return Err(Failure { code: exit::INCOMPLETE, text });
    }
    for secret in plan.secrets.iter().filter(|secret| secret.is_command()) {
        if let Err(fault) = secret.load() {
            say(format_args!("greenlight: {}", fault.text));
        }
    }
    runtime()?.block_on(async {
        let mut stop = Stop::or_hangup()?;
        let mut window = Window::new(load.agent.as_deref(), journey).await?;
        announce(journey, &order);
        let (no_more, at_once) = (CancellationToken::new(), CancellationToken::new());
        let mut progress = Progress::new();
        window.from = clock::now().wall;
        let report = {
            let paths = node::paths(global);
            let taken = Cell::new(0);
            let mut sent = pin!(send(journey, order, &paths, &no_more, &at_once, |moment| {
                taken.set(moment.counts.taken());
                progress.show(moment);
            }));
            let mut slice = tokio::time::interval(DECLARED);
            slice.tick().await;
            loop {
                tokio::select! {
                    report = &mut sent => break report,
                    () = stop.asked() => {
                        if no_more.is_cancelled() {
                            at_once.cancel();
                        }
                        no_more.cancel();
                    }
                    _ = slice.tick() => window.declare(clock::now().wall, taken.get()).await,
                }
            }
        };
        progress.clear();
        let report =
            report.map_err(|fault| Failure { code: exit::INCOMPLETE, text: fault.text })?;
        // The looks that came after the sending are no load.
        window.declare(report.began.wall.plus(report.sending), report.counts.taken()).await;
        output::write(&outputs, |format, _| match format {
            Format::Json => format!("{:#}", document(journey, &order, &report, &window)),
            _ => text(journey, &order, &report, &window),
        })?;
        let code = match report.verdict {
            Verdict::Held => exit::SUCCESS,
            Verdict::NotHeld => exit::FAILURE,
            Verdict::Unclear => exit::INCOMPLETE,
        };
        // A gate that waits for this load would never see it.
        let told = window.trouble.is_none();
        Ok(if told || code != exit::SUCCESS { code } else { exit::INCOMPLETE })
    })
}

fn found<'a>(plan: &'a Plan, id: &str) -> Result<&'a Journey, Failure> {
    plan.journey(id).ok_or_else(|| {
        let ids = || plan.journeys.iter().map(|journey| &*journey.id);
        let hint = match did_you_mean(id, ids()) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("it has {}", ids().collect::<Vec<_>>().join(", ")),
        };
        Failure::usage(format!("the plan has no journey `{id}`; {hint}"))
    })
}

/// What is going to be sent, before the first event is.
fn announce(journey: &Journey, order: &Order) {
    let (size, _) = sizes(journey);
    let steps = order.steps();
    let events: f64 = steps.iter().map(|s| (s.rate * s.span.as_secs_f64()).floor().max(1.0)).sum();
    say(format_args!(
        "greenlight: sends {events:.0} events of about {size:.0} B through {} ({}), {:.1} MB in {}; \
         it ends at {}",
        journey.id,
        journey.sender.kind(),
        events * size / 1e6,
        Period(steps.iter().map(|step| step.span).sum()),
        Size(order.budget)
    ));
    if steps.len() > 1 {
        let steps: Vec<_> =
            steps.iter().map(|s| format!("{:.1}/s for {}", s.rate, Period(s.span))).collect();
        say(format_args!("greenlight: {}: {}", order.shape.word(), steps.join(", ")));
    }
    let stages = journey.stages.iter().map(|plan| plan.stage);
    let counted: Vec<_> = stages.filter(|s| !s.counts_things()).map(|s| s.word()).collect();
    say(format_args!("greenlight: every event is counted at {}", counted.join(", ")));
    if !journey.sender.lots().in_order {
        say(format_args!(
            "greenlight: reordering is not judged: {} sends over several connections at once",
            journey.sender.kind()
        ));
    }
}

/// When the load was on, told to an agent.
struct Window {
    api: Option<Api>,
    clients: Clients,
    source: String,
    from: Wall,
    /// Events that had been taken by then.
    taken: u64,
    /// Why the agent does not know of it.
    trouble: Option<String>,
}

impl Window {
    /// Asks the agent first: a load that nobody hears of would be sent for nothing.
    async fn new(agent: Option<&str>, journey: &Journey) -> Result<Self, Failure> {
        let api = agent.map(|url| Api::new(url, None, tls::Options::default())).transpose();
        let api = api.map_err(|text| Failure::usage(format!("--agent: {text}")))?;
        let name: String = journey.id.chars().take(NAME_CHARS).collect();
        let window = Self {
            api,
            clients: Clients::default(),
            source: format!("load {name}"),
            from: clock::now().wall,
            taken: 0,
            trouble: None,
        };
        if let Some(api) = &window.api {
            let asked = Request::get(api.at("api/v1/load", &[]));
            let answer = api.ask_json(&window.clients, asked, DECLARING, &Trace::off()).await;
            answer.map_err(|trouble| Failure {
                code: exit::INCOMPLETE,
                text: format!("greenlight: the agent can't be told of the load: {trouble}"),
            })?;
        }
        Ok(window)
    }

    /// Declares what has passed since the last declaration; those that touch are one.
    async fn declare(&mut self, to: Wall, taken: u64) {
        if self.api.is_none() {
            return;
        }
        let Some((start, end)) = self.loaded(to, taken) else { return };
        let Some(api) = &self.api else { return };
        let told = Request::post_json(
            api.at("api/v1/load", &[]),
            &json!({ "start": start, "end": end, "source": self.source }),
        );
        match api.ask_json(&self.clients, told, DECLARING, &Trace::off()).await {
            Ok(_) => {
                (self.from, self.taken) = (to, taken);
                self.trouble = None;
            }
            // The next declaration covers this one too.
            Err(trouble) => self.trouble = Some(trouble.to_string()),
        }
    }

    /// The time since the last declaration, if there is any. While nothing was `taken` there was no
    /// load, whatever was due: that time is in no window.
    fn loaded(&mut self, to: Wall, taken: u64) -> Option<(String, String)> {
        if taken == self.taken {
            self.from = self.from.max(to);
            if taken == 0 {
                self.trouble = Some(String::from("nothing was taken, so that there was no load"));
            }
            return None;
        }
        let (start, end) = (self.from.rfc3339(), to.rfc3339());
        (to > self.from && start != end).then_some((start, end))
    }

    fn json(&self) -> Value {
        match (&self.api, &self.trouble) {
            (None, _) => Value::Null,
            (Some(_), None) => json!("declared"),
            (Some(_), Some(trouble)) => json!(trouble),
        }
    }
}

/// One line on standard error: redrawn on a terminal, elsewhere a new one every few seconds.
struct Progress {
    redraw: bool,
    drawn: bool,
    last: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        Self { redraw: colour(std::io::stderr().is_terminal()), drawn: false, last: None }
    }

    fn show(&mut self, moment: &Moment<'_>) {
        if !self.redraw && self.last.is_some_and(|last| last.elapsed() < LINES) {
            return;
        }
        self.last = Some(Instant::now());
        let line = progress(moment);
        let mut err = std::io::stderr().lock();
        let _ = if self.redraw {
            self.drawn = true;
            write!(err, "\r\x1b[K{line}").and_then(|()| err.flush())
        } else {
            writeln!(err, "{line}")
        };
    }

    fn clear(&self) {
        if self.drawn {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn progress(moment: &Moment<'_>) -> String {
    let counts = moment.counts;
    let mut line = if moment.looking {
        format!("looking   {} taken", counts.taken())
    } else {
        let achieved = counts.taken() as f64 / moment.elapsed.as_secs_f64().max(0.1);
        let rate = moment.step.rate;
        format!("{achieved:.0} of {rate:.0}/s   {} sent", counts.handed_over - counts.held_back)
    };
    match moment.seen {
        Some((stage, seen)) => line.push_str(&format!(", {seen} seen at {}", stage.word())),
        None => line.push_str(&format!(", {} taken", counts.taken())),
    }
    line.push_str(&format!(", {} waiting", counts.waiting()));
    for (count, what) in [
        (counts.refused, "refused"),
        (counts.not_sent, "not sent"),
        (counts.unknown, "unknown"),
        (moment.lost, "lost"),
    ] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    if let Some(p99) = moment.p99 {
        line.push_str(&format!("   p99 {p99:.3} s"));
    }
    if let Some(slope) = moment.slope {
        line.push_str(&format!("   backlog {:+.1}/s", slope.estimate));
    }
    line
}

fn rows(counts: &Counts) -> [(&'static str, u64); 11] {
    [
        ("due", counts.due),
        ("handed_over", counts.handed_over),
        ("accepted", counts.accepted),
        ("sent", counts.sent),
        ("refused", counts.refused),
        ("throttled", counts.throttled),
        ("held_back", counts.held_back),
        ("not_sent", counts.not_sent),
        ("unknown", counts.unknown),
        ("fault", counts.fault),
        ("bytes", counts.bytes),
    ]
}

/// What was held beyond what was agreed, as a share of that: in events and, where it was agreed, in
/// bytes.
fn headroom(order: &Order, report: &Report) -> (Option<f64>, Option<f64>) {
    let Some(proven) = report.proven else { return (None, None) };
    let daily = report.gb_per_day(proven);
    let volume = order.agreed.gb_per_day.map(|agreed| daily / agreed - 1.0);
    (Some(proven / order.agreed_rate() - 1.0), volume)
}

fn slope_json(slope: Option<Slope>) -> Value {
    slope.map_or(Value::Null, |slope| {
        json!({
            "events_per_second": slope.estimate,
            "low": slope.low,
            "high": slope.high,
            "confidence": 0.95,
            "samples": slope.samples,
        })
    })
}

fn counts_json(counts: &Counts) -> Map<String, Value> {
    rows(counts).into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect()
}

fn stages_json(tally: &Tally, latencies: &[(Stage, Latency)]) -> Vec<Value> {
    let stage = |(tally, (_, latency)): (_, &(Stage, Latency))| {
        let tally: &StageTally = tally;
        json!({
            "stage": tally.stage,
            "expected": tally.expected,
            "fates": tally.fates,
            "duplicate": tally.duplicate,
            "latency": latency.map(|(p, n)| json!({
                "p50": p.p50, "p95": p.p95, "p99": p.p99, "max": p.max, "n": n,
            })),
            "loss_upper_bound_95": tally.loss_upper_bound_95(),
            "loss_n": tally.known(),
        })
    };
    tally.stages.iter().zip(latencies).map(stage).collect()
}

fn why_json(why: &[Why]) -> Vec<Value> {
    why.iter().map(|why| json!({ "code": why.code, "text": why.text })).collect()
}

fn step_json(step: &StepReport) -> Value {
    json!({
        "rate": step.step.rate,
        "for": Period(step.step.span).to_string(),
        "sending_seconds": step.sending.as_secs_f64(),
        "verdict": step.verdict.word(),
        "why": why_json(&step.why),
        "achieved_rate": step.achieved,
        "backlog": { "way_in": slope_json(step.way_in), "last_stage": slope_json(step.last_stage) },
        "stalled_seconds": step.stalled.as_secs_f64(),
        "starved_seconds": step.starved,
        "counts": counts_json(&step.counts),
        "stages": stages_json(&step.tally, &step.latencies),
    })
}

fn document(journey: &Journey, order: &Order, report: &Report, window: &Window) -> Value {
    let (rate, volume) = headroom(order, report);
    json!({
        "version": 1,
        "journey": &*journey.id,
        "shape": order.shape.word(),
        "arrivals": order.spacing.word(),
        "seed": order.seed,
        "rate": order.rate,
        "for": Period(order.span).to_string(),
        "began": report.began.wall.rfc3339(),
        "ended_at": report.began.wall.plus(report.sending).rfc3339(),
        "sending_seconds": report.sending.as_secs_f64(),
        "ended": report.ended.word(),
        "verdict": report.verdict.word(),
        "why": why_json(&report.why),
        "achieved_rate": report.achieved,
        "achieved_gb_per_day": report.gb_per_day(report.achieved),
        "proven_rate": report.proven,
        "proven_gb_per_day": report.proven.map(|rate| report.gb_per_day(rate)),
        "agreed": { "rate": order.agreed_rate(), "gb_per_day": order.agreed.gb_per_day },
        "headroom": { "rate": rate, "gb_per_day": volume },
        "drained_seconds": report.drained.map(|drained| drained.as_secs_f64()),
        "pauses": report.pauses,
        "reordering_judged": journey.sender.lots().in_order,
        "counts": counts_json(&report.counts),
        "stages": stages_json(&report.tally, &report.latencies),
        "steps": report.steps.iter().map(step_json).collect::<Vec<_>>(),
        "reasons": report.reasons,
        "load_window": window.json(),
    })
}

fn verdict_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Held => "held",
        Verdict::NotHeld => "not held",
        Verdict::Unclear => "could not be told",
    }
}

fn text(journey: &Journey, order: &Order, report: &Report, window: &Window) -> String {
    let mut text = format!(
        "{}: {} of {} events a second for {}, {} arrivals (seed {}): {}\n",
        journey.id,
        order.shape.word(),
        order.rate,
        Period(order.span),
        order.spacing.word(),
        order.seed,
        verdict_text(report.verdict),
    );
    text.push_str(&format!(
        "  achieved {:.1} a second, {:.1} GB a day\n",
        report.achieved,
        report.gb_per_day(report.achieved)
    ));
    if let (Some(proven), (Some(rate), volume)) = (report.proven, headroom(order, report)) {
        text.push_str(&format!(
            "  proven {proven:.1} a second, {:+.1} % against {} agreed; {:.1} GB a day",
            rate * 100.0,
            order.agreed_rate(),
            report.gb_per_day(proven)
        ));
        if let Some((volume, agreed)) = volume.zip(order.agreed.gb_per_day) {
            text.push_str(&format!(", {:+.1} % against {agreed} agreed", volume * 100.0));
        }
        text.push('\n');
    }
    if let Some(drained) = report.drained {
        text.push_str(&format!("  drained {:.1} s after the burst\n", drained.as_secs_f64()));
    }
    match &report.ended {
        Ended::Aborted(why) | Ended::Limited(why) => {
            let after = report.sending.as_secs_f64();
            text.push_str(&format!("  ended early after {after:.1} s: {why}\n"));
        }
        _ => {}
    }
    for why in &report.why {
        text.push_str(&format!("  {}\n", why.text));
    }
    for step in &report.steps {
        text.push_str(&format!(
            "  step {:.1}/s for {}: {}, achieved {:.1} a second",
            step.step.rate,
            Period(step.step.span),
            verdict_text(step.verdict),
            step.achieved
        ));
        if let Some(slope) = step.way_in {
            text.push_str(&format!(
                ", backlog {:+.1}/s ({:+.1} to {:+.1}, 95 %, n = {})",
                slope.estimate, slope.low, slope.high, slope.samples
            ));
        }
        text.push('\n');
    }
    for (name, count) in rows(&report.counts).into_iter().filter(|(_, count)| *count > 0) {
        text.push_str(&format!("  {name:<12} {count}\n"));
    }
    for (tally, (_, latency)) in report.tally.stages.iter().zip(&report.latencies) {
        text.push_str(&format!("  {:<12}", tally.stage.word()));
        for (fate, count) in tally.fates.iter().filter(|(_, count)| **count > 0) {
            text.push_str(&format!(" {count} {}", fate.word()));
        }
        if tally.duplicate > 0 {
            text.push_str(&format!(" {} duplicate", tally.duplicate));
        }
        if let Some((latency, n)) = latency {
            text.push_str(&format!(
                ", p50 {:.3} s, p99 {:.3} s, longest {:.3} s (n = {n})",
                latency.p50, latency.p99, latency.max
            ));
        }
        if let Some(bound) = tally.loss_upper_bound_95() {
            text.push_str(&format!(
                ", loss below {:.4} % (95 %, n = {})",
                bound * 100.0,
                tally.known()
            ));
        }
        text.push('\n');
    }
    for reason in &report.reasons {
        text.push_str(&format!("  {reason}\n"));
    }
    if let Some(trouble) = &window.trouble {
        text.push_str(&format!("  the agent was not told of a load: {trouble}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_nothing_was_taken_is_in_no_window() {
        let mut window = Window {
            api: None,
            clients: Clients::default(),
            source: String::from("load j"),
            from: Wall::from_secs(0),
            taken: 0,
            trouble: None,
        };
        let at = |second| Wall::from_secs(second).rfc3339();
        // Refused at first, and not known to have been told of anything.
        assert_eq!(window.loaded(Wall::from_secs(600), 0), None);
        assert!(window.trouble.is_some());
        assert_eq!(window.loaded(Wall::from_secs(1200), 5), Some((at(600), at(1200))));
        // What could not be told is told with what comes next.
        assert_eq!(window.loaded(Wall::from_secs(1800), 5), Some((at(600), at(1800))));
        (window.from, window.taken, window.trouble) = (Wall::from_secs(1800), 5, None);
        // Then it takes no more.
        assert_eq!(window.loaded(Wall::from_secs(2400), 5), None);
        assert_eq!((window.from, &window.trouble), (Wall::from_secs(2400), &None));
        assert_eq!(window.loaded(Wall::from_secs(2300), 6), None, "an end before its beginning");
    }
}
