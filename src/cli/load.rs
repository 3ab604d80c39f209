//! `load`: a journey's events at a rate, with live progress and a verdict.

use std::io::{IsTerminal, Write};
use std::pin::pin;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tokio_util::sync::CancellationToken;

use super::output::{self, Format, Output};
use super::run::{Stop, runtime};
use super::{Failure, Global, PlanArgs, exit};
use crate::agent::clock;
use crate::agent::load::{Moment, Order, Report, send};
use crate::client::http::{Api, Request};
use crate::client::{Clients, tls};
use crate::journey::event::run_from;
use crate::journey::load::{Ended, Verdict};
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
/// Events that are rendered to know how large they are.
const SAMPLED: u64 = 64;
const DAY: f64 = 86_400.0;
/// A declaration's source is a name of at most a hundred characters.
const NAME_CHARS: usize = 90;

pub(super) fn run(
    global: &Global,
    journey: &str,
    plan: &PlanArgs,
    order: Order,
    agent: Option<&str>,
    outputs: &[Output],
) -> Result<u8, Failure> {
    let outputs = output::wanted(outputs, &[Format::Terminal, Format::Json])?;
    let (_, plan) = plan.compile(global)?;
    let journey = found(&plan, journey)?;
    if order.span.is_zero() {
        return Err(Failure::usage("a load lasts longer than 0s: give --for a duration"));
    }
    if !journey.allowed_times.allow(clock::now().wall) {
        let text =
            format!("{} runs only in its allowed times, {}", journey.id, journey.allowed_times);
        return Err(Failure { code: exit::INCOMPLETE, text });
    }
    for secret in plan.secrets.iter().filter(|secret| secret.is_command()) {
        if let Err(fault) = secret.load() {
            eprintln!("greenlight: {}", fault.text);
        }
    }
    runtime()?.block_on(async {
        let mut stop = Stop::listen()?;
        let mut window = Window::new(agent, journey).await?;
        announce(journey, order);
        let (no_more, at_once) = (CancellationToken::new(), CancellationToken::new());
        let mut progress = Progress::new(order);
        window.from = clock::now().wall;
        let report = {
            let mut sent = pin!(send(journey, order, &no_more, &at_once, |moment| {
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
                    _ = slice.tick() => window.declare(clock::now().wall).await,
                }
            }
        };
        progress.clear();
        let report =
            report.map_err(|fault| Failure { code: exit::INCOMPLETE, text: fault.text })?;
        // The looks that came after the sending are no load.
        window.declare(report.began.wall.plus(report.sending)).await;
        output::write(&outputs, |format, _| match format {
            Format::Json => format!("{:#}", document(journey, order, &report, &window)),
            _ => text(journey, order, &report, &window),
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
fn announce(journey: &Journey, order: Order) {
    let run = run_from([0; 8]);
    let sizes = (1..=SAMPLED)
        .map(|seq| journey.events.render(&run, &journey.id, seq, Wall::default()).payload.len());
    let size = sizes.sum::<usize>() as f64 / SAMPLED as f64;
    let events = (order.rate * order.span.as_secs_f64()).floor().max(1.0);
    eprintln!(
        "greenlight: sends {events:.0} events of about {size:.0} B through {} ({}), {:.1} MB in {}; \
         it ends at {}",
        journey.id,
        journey.sender.kind(),
        events * size / 1e6,
        Period(order.span),
        Size(order.budget)
    );
    let stages = journey.stages.iter().map(|plan| plan.stage);
    let counted: Vec<_> = stages.filter(|s| !s.counts_things()).map(|s| s.word()).collect();
    eprintln!("greenlight: every event is counted at {}", counted.join(", "));
}

/// When the load was on, told to an agent.
struct Window {
    api: Option<Api>,
    clients: Clients,
    source: String,
    from: Wall,
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
    async fn declare(&mut self, to: Wall) {
        let Some(api) = &self.api else { return };
        let (start, end) = (self.from.rfc3339(), to.rfc3339());
        if to <= self.from || start == end {
            return;
        }
        let told = Request::post_json(
            api.at("api/v1/load", &[]),
            &json!({ "start": start, "end": end, "source": self.source }),
        );
        match api.ask_json(&self.clients, told, DECLARING, &Trace::off()).await {
            Ok(_) => self.from = to,
            // The next declaration covers this one too.
            Err(trouble) => {
                self.trouble = Some(trouble.to_string());
                return;
            }
        }
        self.trouble = None;
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
    rate: f64,
    redraw: bool,
    drawn: bool,
    last: Option<Instant>,
}

impl Progress {
    fn new(order: Order) -> Self {
        let redraw = std::io::stderr().is_terminal();
        Self { rate: order.rate, redraw, drawn: false, last: None }
    }

    fn show(&mut self, moment: &Moment<'_>) {
        if !self.redraw && self.last.is_some_and(|last| last.elapsed() < LINES) {
            return;
        }
        self.last = Some(Instant::now());
        let line = progress(self.rate, moment);
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
            eprint!("\r\x1b[K");
        }
    }
}

fn progress(rate: f64, moment: &Moment<'_>) -> String {
    let counts = moment.counts;
    let mut line = if moment.looking {
        format!("looking   {} taken", counts.taken())
    } else {
        let achieved = counts.taken() as f64 / moment.elapsed.as_secs_f64().max(0.1);
        format!("{achieved:.0} of {rate:.0}/s   {} taken", counts.taken())
    };
    line.push_str(&format!(
        ", {} in flight, {} refused, {} not sent, {} unknown",
        counts.in_flight(),
        counts.refused,
        counts.not_sent,
        counts.unknown
    ));
    if let Some((stage, seen)) = moment.seen {
        line.push_str(&format!(", {seen} seen at {}", stage.word()));
    }
    if let Some(p99) = moment.p99 {
        line.push_str(&format!("   p99 {p99:.3} s"));
    }
    if let Some(slope) = moment.slope {
        line.push_str(&format!("   backlog {slope:+.1}/s"));
    }
    line
}

fn rows(report: &Report) -> [(&'static str, u64); 9] {
    let counts = &report.counts;
    [
        ("due", counts.due),
        ("handed_over", counts.handed_over),
        ("accepted", counts.accepted),
        ("sent", counts.sent),
        ("refused", counts.refused),
        ("not_sent", counts.not_sent),
        ("unknown", counts.unknown),
        ("fault", counts.fault),
        ("bytes", counts.bytes),
    ]
}

/// What the achieved rate is in a day, in gigabytes of payload.
fn daily(report: &Report) -> f64 {
    let size = report.counts.bytes as f64 / report.counts.handed_over.max(1) as f64;
    size * report.achieved * DAY / 1e9
}

fn document(journey: &Journey, order: Order, report: &Report, window: &Window) -> Value {
    let counts: Map<String, Value> =
        rows(report).into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
    let stages: Vec<Value> = report
        .tally
        .stages
        .iter()
        .zip(&report.latencies)
        .map(|(tally, (_, latency))| {
            json!({
                "stage": tally.stage,
                "expected": tally.expected,
                "fates": tally.fates,
                "duplicate": tally.duplicate,
                "latency": latency,
                "loss_upper_bound_95": tally.loss_upper_bound_95(),
            })
        })
        .collect();
    json!({
        "journey": &*journey.id,
        "rate": order.rate,
        "for": Period(order.span).to_string(),
        "began": report.began.wall.rfc3339(),
        "sending_seconds": report.sending.as_secs_f64(),
        "ended": report.ended.word(),
        "verdict": report.verdict.word(),
        "why": report.why,
        "achieved_rate": report.achieved,
        "achieved_gb_per_day": daily(report),
        "backlog_slope": report.slope,
        "counts": counts,
        "stages": stages,
        "reasons": report.reasons,
        "load_window": window.json(),
    })
}

fn text(journey: &Journey, order: Order, report: &Report, window: &Window) -> String {
    let verdict = match report.verdict {
        Verdict::Held => "held",
        Verdict::NotHeld => "not held",
        Verdict::Unclear => "could not be told",
    };
    let mut text = format!(
        "{}: {} events a second for {}: {verdict}\n  achieved {:.1} a second, {:.1} GB a day\n",
        journey.id,
        order.rate,
        Period(order.span),
        report.achieved,
        daily(report)
    );
    if let Ended::Aborted(why) = &report.ended {
        text.push_str(&format!("  aborted after {:.1} s: {why}\n", report.sending.as_secs_f64()));
    }
    for why in &report.why {
        text.push_str(&format!("  {why}\n"));
    }
    for (name, count) in rows(report).into_iter().filter(|(_, count)| *count > 0) {
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
        if let Some(latency) = latency {
            text.push_str(&format!(
                ", p50 {:.3} s, p99 {:.3} s, longest {:.3} s",
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
        text.push_str(&format!("  the agent was not told of the load: {trouble}\n"));
    }
    text
}
