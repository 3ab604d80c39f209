//! The report as a table for a terminal: reads well at 80 columns, and says everything without
//! colour.

use super::quantity::{count, quantity};
use super::sections::{
    because, beside, checks_sentence, counts, fate_count, measured, node, notes, other_fates,
    parts, repeats, tally, troubled, use_case, value_and_threshold, why,
};
use super::specimen;
use super::text::{clean, cut, pad, pad_left, plural, width, wrap};
use super::{Options, glyph, verdict};
use crate::gate::Verdict;
use crate::journey::Fate;
use crate::ledger::{Decision, Document, GateRow, JourneyRow};

/// Where the terminal's width is not known.
pub const WIDTH: usize = 80;

/// The table of a journey takes so much; a narrower terminal breaks its lines.
const WIDTH_LEAST: usize = 74;

/// Lines longer than this are hard to read, however wide the terminal is.
const WIDTH_LIMIT: usize = 120;

/// Optional gates that are open, and troubled targets, beyond these are a number unless all is
/// asked for.
const SHOWN: usize = 3;

/// SGR codes (ECMA-48): bold, dim, and the eight colours that every terminal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    Bold,
    Dim,
    Red,
    Green,
    Yellow,
    Blue,
    Magenta,
}

impl Ink {
    fn code(self) -> &'static str {
        match self {
            Self::Bold => "1",
            Self::Dim => "2",
            Self::Red => "1;31",
            Self::Green => "32",
            Self::Yellow => "33",
            Self::Blue => "34",
            Self::Magenta => "1;35",
        }
    }

    pub(super) fn of(verdict: Verdict) -> Self {
        match verdict {
            Verdict::Pass => Self::Green,
            Verdict::Fail => Self::Red,
            Verdict::Error => Self::Magenta,
            Verdict::Warn => Self::Yellow,
            Verdict::Waived => Self::Blue,
            Verdict::Open => Self::Bold,
            Verdict::NotApplicable => Self::Dim,
        }
    }
}

pub(super) fn paint(text: &str, ink: Ink, colour: bool) -> String {
    match colour {
        true => format!("\u{1b}[{}m{text}\u{1b}[0m", ink.code()),
        false => text.to_owned(),
    }
}

pub fn report(document: &Document, options: &Options) -> String {
    let width = options.width.unwrap_or(WIDTH).clamp(WIDTH_LEAST, WIDTH_LIMIT);
    let mut page = Page { out: String::new(), width, options };
    page.head(document);
    let [counting, optional] = parts(document);
    for (of, gates) in counting {
        page.group(verdict(of), of, &gates);
    }
    page.journeys(&document.journeys);
    for (of, gates) in optional {
        page.group(&format!("optional, {}", verdict(of)), of, &gates);
    }
    page.checks(document);
    page.foot(document);
    page.out
}

struct Page<'a> {
    out: String,
    width: usize,
    options: &'a Options,
}

impl Page<'_> {
    fn paint(&self, text: &str, ink: Ink) -> String {
        paint(text, ink, self.options.colour)
    }

    /// One line; what is text from outside in it is already clean.
    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    /// A paragraph behind a margin.
    fn text(&mut self, margin: usize, text: &str) {
        self.hang(margin, "", text);
    }

    /// A paragraph behind a margin, its first line behind a mark.
    fn hang(&mut self, margin: usize, mark: &str, text: &str) {
        let margin = margin + width(mark);
        for (at, line) in wrap(&clean(text), self.width.saturating_sub(margin)).iter().enumerate() {
            let front = if at == 0 { mark } else { "" };
            self.line(&format!("{}{line}", pad_left(front, margin)));
        }
    }

    /// What was found out, below what was asked.
    fn found(&mut self, text: &str) {
        self.hang(3, "→ ", text);
    }

    fn rule(&mut self, title: &str, ink: Ink) {
        let title = cut(title, self.width.saturating_sub(4));
        let rest = self.width.saturating_sub(width(&title) + 4);
        let mut line = format!("{} {}", self.paint("──", Ink::Dim), self.paint(&title, ink));
        if rest > 0 {
            line.push(' ');
            line.push_str(&self.paint(&"─".repeat(rest), Ink::Dim));
        }
        self.line("");
        self.line(&line);
    }

    fn head(&mut self, document: &Document) {
        if let Some(banner) = &self.options.banner {
            for line in wrap(&clean(banner), self.width) {
                let line = self.paint(&line, Ink::Yellow);
                self.line(&line);
            }
            self.line("");
        }
        let ink = match document.decision {
            Decision::Go => Ink::Green,
            Decision::GoWithWaivers => Ink::Blue,
            Decision::Incomplete => Ink::Magenta,
            Decision::NoGo => Ink::Red,
        };
        let word = self.paint(document.decision.headline(), ink);
        self.line(&format!(" {word}"));
        self.text(1, &because(document));
        self.text(1, &tally(document));
        self.text(1, &format!("{} at {}", node(document), document.finished_at));
    }

    fn group(&mut self, title: &str, of: Verdict, gates: &[&GateRow]) {
        let title = format!("{} {}", title.to_uppercase(), gates.len());
        self.rule(&title, Ink::of(of));
        let short = matches!(of, Verdict::Pass | Verdict::NotApplicable);
        if short && !self.options.verbose {
            for gate in gates {
                self.short(gate);
            }
            return;
        }
        let mut quiet = Vec::new();
        let mut shown = 0;
        for (at, gate) in gates.iter().enumerate() {
            if of == Verdict::Open && !counts(gate) && !self.options.verbose {
                shown += 1;
                if shown > SHOWN {
                    quiet.push(gate.id.as_str());
                    continue;
                }
            }
            if at > 0 {
                self.line("");
            }
            self.full(gate);
        }
        if !quiet.is_empty() {
            let text = format!(
                "and {} more that are optional, shown with --verbose: {}",
                quiet.len(),
                quiet.join(", ")
            );
            self.line("");
            self.text(3, &text);
        }
    }

    /// ` ✓ node.memory.available      31.2 %  against 15 %`
    fn short(&mut self, gate: &GateRow) {
        let right = match (value_and_threshold(gate), &gate.reason) {
            ((Some(value), Some(threshold)), _) => format!("{value} against {threshold}"),
            ((Some(value), None), _) => value,
            (_, Some(reason)) => clean(&reason.text),
            _ => String::new(),
        };
        let room = self.width.saturating_sub(3);
        let id = clean(&gate.id);
        let right = cut(&right, room.saturating_sub(width(&id).min(room / 2) + 2));
        let left = cut(&id, room.saturating_sub(width(&right) + 2));
        let gap = room.saturating_sub(width(&left) + width(&right));
        let sign = self.paint(glyph(gate.verdict), Ink::of(gate.verdict));
        let line = format!(" {sign} {left}{}{right}", " ".repeat(gap));
        self.line(&line);
    }

    fn full(&mut self, gate: &GateRow) {
        let level = gate.level.word();
        let room = self.width.saturating_sub(4 + width(level));
        let id = pad(&cut(&clean(&gate.id), room), room);
        let sign = self.paint(glyph(gate.verdict), Ink::of(gate.verdict));
        let line =
            format!(" {sign} {} {}", self.paint(&id, Ink::Bold), self.paint(level, Ink::Dim));
        self.line(&line);
        let refs = match gate.refs.is_empty() {
            true => String::new(),
            false => format!(" [{}]", gate.refs.join(", ")),
        };
        self.text(3, &format!("{}{refs}", gate.title));
        // Where the reason says what is missing, the sentence says no more than that.
        let reason = gate.reason.as_ref().map(why);
        if !repeats(gate) {
            self.text(3, &gate.criterion);
        }
        if let Some(measured) = measured(gate) {
            self.found(&measured);
        }
        if let Some(stage) = gate.first_failing_stage {
            self.found(&format!("first failing stage: {}", stage.word()));
        }
        if let Some(reason) = reason {
            self.found(&reason);
        }
        if let Some(fix) = gate.fix.as_ref().filter(|_| gate.verdict == Verdict::Fail) {
            self.found(&format!("to do: {fix}"));
        }
    }

    fn journeys(&mut self, journeys: &[JourneyRow]) {
        for journey in journeys {
            let failing = journey.first_failing_stage;
            let title = format!(
                "JOURNEY {}, {}{}",
                clean(&journey.id),
                plural(usize::try_from(journey.rounds).unwrap_or(usize::MAX), "round"),
                failing.map(|s| format!(", first fails at {}", s.word())).unwrap_or_default()
            );
            self.rule(&title, if failing.is_some() { Ink::Red } else { Ink::Bold });
            if let Some(of) = &journey.usecase {
                self.text(3, &use_case(of));
            }
            const COLUMNS: [(&str, usize); 7] = [
                ("expected", 9),
                ("ok", 9),
                ("late", 7),
                ("lost", 7),
                ("dup", 7),
                ("p50", 10),
                ("p95", 10),
            ];
            let mut head = pad("   stage", 14);
            for (name, columns) in COLUMNS {
                head.push_str(&pad_left(name, columns));
            }
            let head = self.paint(&head, Ink::Dim);
            self.line(&head);
            for stage in &journey.stages {
                let latency = |p: Option<f64>| {
                    p.map_or_else(|| String::from("–"), |p| quantity(p, Some("seconds")))
                };
                let cells = [
                    count(stage.expected),
                    count(fate_count(stage, Fate::Ok)),
                    count(fate_count(stage, Fate::Late)),
                    count(fate_count(stage, Fate::Lost)),
                    count(stage.duplicate),
                    latency(stage.latency_seconds.p50),
                    latency(stage.latency_seconds.p95),
                ];
                let first = Some(stage.name) == failing;
                let sign = match first {
                    true => self.paint("✗", Ink::Red),
                    false => String::from(" "),
                };
                let mut line = format!(" {sign} {}", pad(stage.name.word(), 11));
                for (cell, (_, columns)) in cells.iter().zip(COLUMNS) {
                    line.push_str(&pad_left(cell, columns));
                }
                self.line(&line);
                if let Some(others) = other_fates(stage) {
                    self.text(5, &others);
                }
                if let Some(reason) = &stage.reason {
                    self.text(5, reason);
                }
                for (bad, text) in beside(stage) {
                    self.hang(3, if bad { "✗ " } else { "  " }, &text);
                }
            }
            let shown = journey.specimen.as_ref();
            if let Some(of) = shown.filter(|of| self.options.verbose || of.fails_at().is_some()) {
                self.text(3, &specimen::title(of));
                for (label, text) in specimen::lines(of) {
                    self.hang(5, &pad(&label, 10), &text);
                }
            }
        }
    }

    fn checks(&mut self, document: &Document) {
        if document.checks.is_empty() {
            return;
        }
        self.rule("CHECKS", Ink::Bold);
        self.text(3, &checks_sentence(document));
        for check in &document.checks {
            let shown = if self.options.verbose { usize::MAX } else { SHOWN };
            for target in troubled(check).take(shown) {
                let Some(last) = &target.last else { continue };
                let failure = last.outcome.as_str() == "failure";
                let of = if failure { Verdict::Fail } else { Verdict::Error };
                let sign = self.paint(glyph(of), Ink::of(of));
                let name = format!("{} ({}) on {}", check.id, check.kind, target.target);
                let name = cut(&clean(&name), self.width.saturating_sub(3));
                self.line(&format!(" {sign} {name}"));
                if let Some(reason) = &last.reason {
                    self.found(&why(reason));
                }
            }
            for (target, note) in notes(check) {
                self.text(3, &clean(&format!("{} on {target}: {note}", check.id)));
            }
            let rest = troubled(check).count().saturating_sub(shown);
            if rest > 0 {
                self.text(3, &format!("and {rest} more of {}", check.id));
            }
        }
    }

    fn foot(&mut self, document: &Document) {
        self.line("");
        let text = format!(
            "plan {} · {} {} · from {}",
            cut(&document.plan.digest, 20),
            document.tool.name,
            document.tool.version,
            document.started_at
        );
        for line in wrap(&clean(&text), self.width.saturating_sub(1)) {
            let line = format!(" {}", self.paint(&line, Ink::Dim));
            self.line(&line);
        }
    }
}
