//! `check`: one-shot acceptance with live progress.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};

use super::output::{self, Format, Output};
use super::run::runtime;
use super::{Failure, Global, PlanArgs, colour, exit, node};
use crate::agent::recorder::Snapshot;
use crate::agent::{Agent, Options};
use crate::ledger::Document;
use crate::plan::Plan;
use crate::render;
use crate::spec::units::Period;

/// Judging comes once a second; the last second must be judged too.
pub(super) const SLACK: Duration = Duration::from_secs(2);
/// How often the progress line is written where the terminal can't be redrawn.
const PLAIN_PROGRESS: Duration = Duration::from_secs(10);

pub(super) const FORMATS: [Format; 5] =
    [Format::Terminal, Format::Json, Format::Markdown, Format::Junit, Format::Html];

pub(super) fn run(
    global: &Global,
    plan: &PlanArgs,
    at_most: Option<Period>,
    state: Option<&Path>,
    outputs: &[Output],
) -> Result<u8, Failure> {
    let outputs = output::wanted(outputs, &FORMATS)?;
    let (inputs, plan) = plan.compile(global)?;
    let plan = Arc::new(plan);
    let at_most = at_most.map_or_else(|| plan.covering_time() + SLACK, |period| period.0);
    runtime()?.block_on(async {
        let options = Options {
            inputs,
            paths: node::paths(global),
            state: state.map(Path::to_owned),
            listen: None,
            banner: None,
        };
        let agent = Agent::start(plan.clone(), options).await.map_err(Failure::ours)?;
        let ended = until_decided(&agent, &plan, at_most).await?;
        let last = agent.stop().await;
        write(&outputs, &last.document, None)?;
        Ok(if ended == Ended::Interrupted { exit::INCOMPLETE } else { code(&last.document) })
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Decided,
    TimeOver,
    Interrupted,
}

/// Shows progress until every gate is decided, the time is over, or somebody interrupts.
pub(super) async fn until_decided(
    agent: &Agent,
    plan: &Plan,
    at_most: Duration,
) -> Result<Ended, Failure> {
    let listen = |kind| signal(kind).map_err(|error| Failure::ours(format!("no signals: {error}")));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let began = Instant::now();
    let mut snapshots = agent.snapshots();
    let mut progress = Progress::new();
    loop {
        let snapshot = snapshots.borrow_and_update().clone();
        let left = at_most.saturating_sub(began.elapsed());
        progress.show(&snapshot, plan, left);
        if snapshot.undecided == 0 {
            progress.clear();
            return Ok(Ended::Decided);
        }
        if left.is_zero() {
            progress.clear();
            return Ok(Ended::TimeOver);
        }
        let ended = tokio::select! {
            _ = terminate.recv() => Some(Ended::Interrupted),
            _ = interrupt.recv() => Some(Ended::Interrupted),
            changed = snapshots.changed() => match changed {
                Ok(()) => None,
                Err(_) => return Err(Failure::ours("the recorder ended; see the log")),
            },
            () = tokio::time::sleep(left) => None,
        };
        if let Some(ended) = ended {
            progress.clear();
            return Ok(ended);
        }
    }
}

/// The document in every form that was asked for.
pub(super) fn write(
    outputs: &[Output],
    document: &Document,
    banner: Option<&str>,
) -> Result<(), Failure> {
    output::write(outputs, |format, to_stdout| {
        let terminal = std::io::stdout().is_terminal();
        match format {
            Format::Terminal => render::terminal::report(
                document,
                &render::terminal::Options {
                    colour: to_stdout && colour(terminal),
                    width: if terminal { width() } else { 80 },
                    banner,
                },
            ),
            Format::Json => render::json::report(document),
            Format::Markdown => render::markdown::report(document),
            Format::Junit => render::junit::report(document),
            Format::Html => render::html::report(document, banner),
        }
    })
}

pub(super) fn code(document: &Document) -> u8 {
    document.decision.exit_code()
}

/// The terminal's width, by the variable that shells keep or 80.
fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|text| text.parse().ok()).unwrap_or(80)
}

/// A line on standard error: redrawn on a terminal, repeated rarely elsewhere.
struct Progress {
    redraw: bool,
    lines: usize,
    last: Option<Instant>,
}

impl Progress {
    fn new() -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { redraw: std::io::stderr().is_terminal() && !plain, lines: 0, last: None }
    }

    fn show(&mut self, snapshot: &Snapshot, plan: &Plan, left: Duration) {
        if !self.redraw && self.last.is_some_and(|last| last.elapsed() < PLAIN_PROGRESS) {
            return;
        }
        self.last = Some(Instant::now());
        let lines = render::terminal::progress(&render::terminal::Progress {
            gates: plan.gates.len(),
            undecided: snapshot.undecided,
            running: &snapshot.running,
            document: &snapshot.document,
            left,
        });
        let mut err = std::io::stderr().lock();
        self.clear();
        for line in &lines {
            let _ = writeln!(err, "{line}");
        }
        if self.redraw {
            self.lines = lines.len();
        }
    }

    /// Takes back what was drawn.
    fn clear(&mut self) {
        if self.lines > 0 {
            // Up so many lines, then erase to the end of the screen (ECMA-48 CUU and ED).
            eprint!("\x1b[{}A\x1b[J", self.lines);
            self.lines = 0;
        }
    }
}
