//! `check`: one-shot acceptance with live progress.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::output::{self, Format, Output};
use super::run::{Stop, runtime};
use super::{Failure, Global, LoadText, OutputArgs, PlanArgs, colour, exit, node, say};
use crate::agent::record::Snapshot;
use crate::agent::{Agent, Options};
use crate::gate::Verdict;
use crate::ledger::Document;
use crate::render;
use crate::spec::units::Period;
use crate::time::Mono;

/// Judging comes once a second; the last second must be judged too.
pub(super) const SLACK: Duration = Duration::from_secs(2);

/// How often is asked whether all is decided.
const PROGRESS: Duration = Duration::from_secs(1);

pub(super) const FORMATS: [Format; 5] =
    [Format::Terminal, Format::Json, Format::Markdown, Format::Junit, Format::Html];

pub(super) fn run(
    global: &Global,
    plan: &PlanArgs,
    at_most: Option<Period>,
    state: Option<&Path>,
    load: &[LoadText],
    output: &OutputArgs,
) -> Result<u8, Failure> {
    let outputs = output::wanted(&output.output, &FORMATS)?;
    let (inputs, plan) = plan.compile(global)?;
    let plan = Arc::new(plan);
    runtime()?.block_on(async {
        let mut stop = Stop::or_hangup()?;
        let options = Options {
            inputs,
            paths: node::paths(global),
            state: state.map(Path::to_owned),
            listen: None,
            banner: None,
        };
        let agent = Agent::start(plan.clone(), options).await.map_err(Failure::ours)?;
        // What is to be judged under load is decided when the load has ended.
        let mut needed = plan.covering_time();
        for text in load {
            let window = text.window().map_err(Failure::usage)?;
            needed = needed.max(window.end.mono.since(Mono::now()));
            agent.declare_load(window).await.map_err(Failure::ours)?;
        }
        let at_most = at_most.map_or(needed + SLACK, |period| period.0);
        let ended = until_decided(&agent, at_most, &mut stop).await?;
        let last = agent.stop().await.map_err(Failure::ours)?;
        write(&outputs, &last.document, output.verbose, None)?;
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
    at_most: Duration,
    stop: &mut Stop,
) -> Result<Ended, Failure> {
    let began = Instant::now();
    let mut judged = agent.judged();
    let mut progress = Progress::new();
    loop {
        judged.mark_unchanged();
        let snapshot = agent.snapshot().await.map_err(Failure::ours)?;
        let left = at_most.saturating_sub(began.elapsed());
        progress.show(&snapshot, left);
        if snapshot.undecided == 0 {
            progress.clear();
            return Ok(Ended::Decided);
        }
        if left.is_zero() {
            progress.clear();
            return Ok(Ended::TimeOver);
        }
        let ended = tokio::select! {
            () = stop.asked() => Some(Ended::Interrupted),
            changed = judged.changed() => match changed {
                Ok(()) => None,
                Err(_) => return Err(Failure::ours("the recorder ended; see the log")),
            },
            () = tokio::time::sleep(left.min(PROGRESS)) => None,
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
    verbose: bool,
    banner: Option<&str>,
) -> Result<(), Failure> {
    output::write(outputs, |format, to_stdout| {
        let terminal = to_stdout && std::io::stdout().is_terminal();
        let options = render::Options {
            width: terminal.then(columns).flatten(),
            colour: colour(terminal),
            verbose,
            banner: banner.map(str::to_owned),
        };
        render::report(document, format, &options)
    })
}

pub(super) fn code(document: &Document) -> u8 {
    document.decision.exit_code()
}

/// The terminal's width, by the variable that shells keep.
fn columns() -> Option<usize> {
    std::env::var("COLUMNS").ok()?.parse().ok()
}

/// Lines on standard error: redrawn on a terminal; elsewhere one for each new verdict.
struct Progress {
    redraw: bool,
    drawn: usize,
    began: Instant,
    verdicts: Vec<Verdict>,
    news: Vec<(String, Verdict)>,
}

/// Verdicts that the newest line names.
const NEWS: usize = 5;

impl Progress {
    fn new() -> Self {
        Self {
            redraw: colour(std::io::stderr().is_terminal()),
            drawn: 0,
            began: Instant::now(),
            verdicts: Vec::new(),
            news: Vec::new(),
        }
    }

    fn show(&mut self, snapshot: &Snapshot, left: Duration) {
        let gates = &snapshot.document.gates;
        self.verdicts.resize(gates.len(), Verdict::Open);
        let mut plain = Vec::new();
        for (before, gate) in self.verdicts.iter_mut().zip(gates) {
            if *before != gate.verdict {
                *before = gate.verdict;
                self.news.insert(0, (gate.id.clone(), gate.verdict));
                let why = gate.reason.as_ref().map(|why| why.text.as_str());
                plain.push(render::progress::news(&gate.id, gate.verdict, why));
            }
        }
        self.news.truncate(NEWS);
        if !self.redraw {
            for line in plain {
                say(line);
            }
            return;
        }
        let progress = render::progress::Progress {
            elapsed: self.began.elapsed(),
            left: Some(left),
            decided: gates.len().saturating_sub(snapshot.undecided),
            gates: gates.len(),
            running: snapshot.running.clone(),
            news: self.news.clone(),
        };
        let lines = render::progress::lines(&progress, columns().unwrap_or(80), true);
        self.clear();
        let mut err = std::io::stderr().lock();
        for line in &lines {
            let _ = writeln!(err, "{line}");
        }
        self.drawn = lines.len();
    }

    /// Takes back what was drawn.
    fn clear(&mut self) {
        if self.drawn > 0 {
            // Up so many lines, then erase to the end of the screen (ECMA-48 CUU and ED).
            let _ = write!(std::io::stderr(), "\x1b[{}A\x1b[J", self.drawn);
            self.drawn = 0;
        }
    }
}
