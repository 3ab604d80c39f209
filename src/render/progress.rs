//! What `check` shows while it runs: how far it is, what runs, what was decided last.
//!
//! Only the lines; when they are drawn and how the former ones vanish is the caller's.

use std::time::Duration;

use super::glyph;
use super::quantity::quantity;
use super::terminal::{Ink, paint};
use super::text::{clean, cut, width};
use crate::gate::Verdict;

/// One moment of a running `check`.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    pub elapsed: Duration,
    /// Until `--for` has passed.
    pub left: Option<Duration>,
    /// Gates with a verdict other than open.
    pub decided: usize,
    pub gates: usize,
    /// What is in flight: `core-latency on 10.0.0.7`, `journey ssh-bruteforce, round 3`.
    pub running: Vec<String>,
    /// Gates and their new verdicts, the newest first.
    pub news: Vec<(String, Verdict)>,
}

/// Columns of the bar.
const BAR: usize = 20;

/// Nothing can be said in fewer columns.
const COLUMNS_LEAST: usize = 40;

/// Three lines of at most `columns`, or two where nothing was decided yet.
pub fn lines(progress: &Progress, columns: usize, colour: bool) -> Vec<String> {
    let columns = columns.max(COLUMNS_LEAST);
    let Progress { decided, gates, .. } = *progress;
    let filled = (decided * BAR).checked_div(gates).unwrap_or(0).min(BAR);
    let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR - filled));
    let mut state = format!(" {decided} of {gates} gates decided");
    if let Some(left) = progress.left {
        state.push_str(&format!(", {} left at most", span(left)));
    }
    state.push_str(&format!(", {} so far", span(progress.elapsed)));
    let state = cut(&state, columns.saturating_sub(BAR));
    let mut lines = vec![format!("{}{state}", paint(&bar, Ink::Green, colour))];
    lines.push(list("running", progress.running.iter().map(|what| clean(what)), columns, colour));
    if !progress.news.is_empty() {
        let news = progress.news.iter();
        let news = news.map(|(gate, verdict)| format!("{} {}", glyph(*verdict), clean(gate)));
        lines.push(list("decided", news, columns, colour));
    }
    lines
}

/// One plain line for a log or a stream that is no terminal: a gate's new verdict.
pub fn news(gate: &str, verdict: Verdict, why: Option<&str>) -> String {
    let why = why.map(|why| format!(" ({})", clean(why))).unwrap_or_default();
    format!("{} {}: {}{why}", glyph(verdict), clean(gate), super::verdict(verdict))
}

/// As many of the items as fit, and how many more there are.
fn list(
    name: &str,
    items: impl ExactSizeIterator<Item = String>,
    columns: usize,
    colour: bool,
) -> String {
    let total = items.len();
    // What "and 12345 more" takes at the end.
    let room = columns.saturating_sub(width(name) + 2 + 16);
    let mut text = String::new();
    let mut shown = 0;
    for item in items {
        let gap = if shown == 0 { "" } else { ", " };
        if shown > 0 && width(&text) + width(gap) + width(&item) > room {
            break;
        }
        text.push_str(gap);
        text.push_str(&cut(&item, room.max(1)));
        shown += 1;
    }
    if shown < total {
        text.push_str(&format!(" and {} more", total - shown));
    }
    if total == 0 {
        text.push_str("nothing, waiting for what is due next");
    }
    let text = cut(&text, columns.saturating_sub(width(name) + 2));
    format!("{}  {text}", paint(name, Ink::Dim, colour))
}

fn span(span: Duration) -> String {
    quantity(span.as_secs_f64().round(), Some("seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> Progress {
        Progress {
            elapsed: Duration::from_millis(72_400),
            left: Some(Duration::from_secs(250)),
            decided: 12,
            gates: 37,
            running: (1..9).map(|n| format!("core-latency on 10.0.0.{n}")).collect(),
            news: vec![
                (String::from("net.latency.core"), Verdict::Fail),
                (String::from("node.cpu"), Verdict::Pass),
            ],
        }
    }

    #[test]
    fn progress_fits_its_columns() {
        assert_eq!(
            lines(&moment(), 80, false),
            [
                "██████░░░░░░░░░░░░░░ 12 of 37 gates decided, 4 m 10 s left at most, 72 s so far",
                "running  core-latency on 10.0.0.1, core-latency on 10.0.0.2 and 6 more",
                "decided  ✗ net.latency.core, ✓ node.cpu",
            ]
        );
        for columns in [1, 40, 80, 200] {
            for line in lines(&moment(), columns, false) {
                assert!(width(&line) <= columns.max(COLUMNS_LEAST), "{columns}: {line}");
            }
        }
    }

    #[test]
    fn progress_of_nothing_says_so() {
        let lines = lines(&Progress::default(), 80, false);
        assert_eq!(lines[0], "░░░░░░░░░░░░░░░░░░░░ 0 of 0 gates decided, 0 s so far");
        assert_eq!(lines[1], "running  nothing, waiting for what is due next");
        assert_eq!(lines.len(), 2);
    }

    #[test]
    fn news_hold_no_control_sequences() {
        let line = news("net\u{1b}[2J", Verdict::Fail, Some("too\nslow"));
        assert_eq!(line, "✗ net\\x1b[2J: fail (too slow)");
        let mut moment = moment();
        moment.running = vec![String::from("\u{1b}]0;x\u{7}")];
        moment.news = vec![(String::from("a\rb"), Verdict::Warn)];
        for line in lines(&moment, 80, false) {
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
    }
}
