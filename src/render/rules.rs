//! `greenlight rules`: a Prometheus rule file over the exported verdicts. It computes nothing
//! again, so that an alert and the ledger can't disagree.
//!
//! For each gate an alert when it fails and one when nobody could judge it, and for each node of
//! the plan one when its agent is gone: a dead agent is an alert, never silence.

use std::fmt::Write;
use std::time::Duration;

use crate::catalogue::Metric;
use crate::catalogue::agent::{CHECK_LAST_ATTEMPT, GATE_VERDICT, NODE_INFO};
use crate::catalogue::journey::LAST_ROUND;
use crate::gate::promql::{quoted, window};
use crate::gate::{Gate, Level, Verdict, sentence};

/// An agent may be away so long: a restart, a missed scrape or two.
const AGENT_GONE_FOR: Duration = Duration::from_secs(5 * 60);

/// One gate, and how often what it judges is due.
#[derive(Clone, Debug)]
pub struct Watched<'a> {
    pub gate: &'a Gate,
    /// The checks behind it, and the interval of each.
    pub checks: Vec<(String, Duration)>,
    /// The journeys behind it, and the interval of each.
    pub journeys: Vec<(String, Duration)>,
    /// How long it is open after a start: its window, one interval, and `give_up` of a journey.
    pub open_for: Duration,
}

/// The rule file.
pub fn render(gates: &[Watched<'_>], nodes: &[String]) -> String {
    let mut out = String::from(
        "# Made by `greenlight rules`: alerts over the verdicts that the agents export.\ngroups:\n",
    );
    if !gates.is_empty() {
        out.push_str("  - name: greenlight-gates\n    rules:\n");
        for watched in gates {
            failing(watched).write(&mut out);
            not_judged(watched).write(&mut out);
        }
    }
    if !nodes.is_empty() {
        out.push_str("  - name: greenlight-agents\n    rules:\n");
        for node in nodes {
            agent_gone(node).write(&mut out);
        }
    }
    if gates.is_empty() && nodes.is_empty() {
        out.truncate(out.len() - 1);
        out.push_str(" []\n");
    }
    out
}

struct Alert {
    name: &'static str,
    expression: String,
    wait: Option<Duration>,
    labels: Vec<(&'static str, String)>,
    annotations: Vec<(&'static str, String)>,
}

impl Alert {
    fn write(&self, out: &mut String) {
        let mut line = |text: std::fmt::Arguments<'_>| {
            // Writing to a string can't fail.
            let _ = writeln!(out, "{text}");
        };
        line(format_args!("      - alert: {}", self.name));
        line(format_args!("        expr: {}", scalar(&self.expression)));
        if let Some(Ok(wait)) = self.wait.map(window) {
            line(format_args!("        for: {wait}"));
        }
        for (section, pairs) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            line(format_args!("        {section}:"));
            for (name, value) in pairs {
                line(format_args!("          {name}: {}", scalar(&literal(value))));
            }
        }
    }
}

fn failing(watched: &Watched<'_>) -> Alert {
    let gate = watched.gate;
    Alert {
        name: "GreenlightGateFailing",
        expression: format!("{} == {}", verdict(gate), Verdict::Fail.number()),
        wait: None,
        labels: labels(gate),
        annotations: annotations(gate, format!("{} fails", gate.title)),
    }
}

/// Open, error, or no attempt for three intervals. A gate is open until its window has filled, so
/// it gets that long after a start, and two intervals more.
fn not_judged(watched: &Watched<'_>) -> Alert {
    let gate = watched.gate;
    // Each way leaves the labels of the agent alone, so that an agent to which two apply is one alert:
    // Prometheus refuses to judge a rule that yields the same labels twice, and would tell nobody.
    let mut ways = vec![format!(
        "max without (gate, level) ({verdict} >= {open} < {fail})",
        verdict = verdict(gate),
        open = Verdict::Open.number(),
        fail = Verdict::Fail.number(),
    )];
    let silent = |metric: &Metric, id: &str, interval: Duration| {
        let seconds = interval.saturating_mul(3).as_secs_f64();
        let label = metric.labels.first().copied().unwrap_or_default();
        let newest = format!("{}{{{label}={}}}", metric.name, quoted(id));
        let labels = metric.labels.join(", ");
        // As of the scrape: what is tried every second is no older for being scraped every minute. By
        // agent: one that still tries must not hide one that does not.
        format!("(min without ({labels}) (timestamp({newest}) - {newest}) > {seconds})")
    };
    for (check, interval) in &watched.checks {
        ways.push(silent(&CHECK_LAST_ATTEMPT, check, *interval));
    }
    for (journey, interval) in &watched.journeys {
        ways.push(silent(&LAST_ROUND, journey, *interval));
    }
    let intervals = watched.checks.iter().chain(&watched.journeys).map(|(_, interval)| *interval);
    let wait = watched
        .open_for
        .saturating_add(intervals.max().unwrap_or_default().saturating_mul(2))
        .max(Duration::from_secs(60));
    Alert {
        name: "GreenlightGateNotJudged",
        expression: ways.join(" or "),
        wait: Some(Duration::from_secs(wait.as_secs())),
        labels: labels(gate),
        annotations: annotations(gate, format!("{} is not judged", gate.title)),
    }
}

fn agent_gone(node: &str) -> Alert {
    Alert {
        name: "GreenlightAgentGone",
        expression: format!("absent({}{{node={}}})", NODE_INFO.name, quoted(node)),
        wait: Some(AGENT_GONE_FOR),
        labels: vec![("node", node.to_owned()), ("severity", "critical".to_owned())],
        annotations: vec![
            ("summary", format!("the agent on {node} is gone")),
            ("description", "nothing that it proved is known to hold any more".to_owned()),
            (
                "fix",
                "look whether greenlight runs there and whether prometheus scrapes it".to_owned(),
            ),
        ],
    }
}

fn verdict(gate: &Gate) -> String {
    format!("{}{{gate={}}}", GATE_VERDICT.name, quoted(&gate.id))
}

fn labels(gate: &Gate) -> Vec<(&'static str, String)> {
    let severity = match gate.level {
        Level::Mandatory | Level::Conditional => "critical",
        Level::Optional => "warning",
    };
    vec![
        ("gate", gate.id.clone()),
        ("level", gate.level.word().to_owned()),
        ("severity", severity.to_owned()),
    ]
}

fn annotations(gate: &Gate, summary: String) -> Vec<(&'static str, String)> {
    let mut annotations = vec![("summary", summary), ("description", sentence(gate))];
    annotations.extend(gate.why.clone().map(|why| ("why", why)));
    annotations.extend(gate.fix.clone().map(|fix| ("fix", fix)));
    annotations
}

/// Labels and annotations are Go templates: braces of a plan's text must stay text.
fn literal(text: &str) -> String {
    text.replace("{{", "{{`{{`}}")
}

/// A YAML scalar in double quotes: every character that YAML does not print is escaped.
fn scalar(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                out.push('\\');
                out.push(letter);
            }
            '\n' => out.push_str("\\n"),
            ' '..='~' | '\u{a1}'..='\u{2027}' | '\u{202a}'..='\u{d7ff}' | '\u{10000}'.. => {
                out.push(letter);
            }
            letter => {
                let _ = write!(out, "\\U{:08x}", letter as u32);
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::Requirement;

    fn gate(id: &str, fix: &str) -> Gate {
        Gate {
            id: id.to_owned(),
            title: "Latency".to_owned(),
            level: Level::Mandatory,
            require: Requirement::Missing("a hand".to_owned()),
            when: None,
            refs: Vec::new(),
            why: None,
            fix: Some(fix.to_owned()),
            waivable: true,
            max_inconclusive: 0.05,
        }
    }

    #[test]
    fn each_gate_has_two_alerts_and_each_node_one() {
        let gate = gate("net.latency", "look\n\"there\"");
        let watched = Watched {
            gate: &gate,
            checks: vec![("core".to_owned(), Duration::from_secs(15))],
            journeys: vec![],
            open_for: Duration::from_secs(900),
        };
        let text = render(&[watched], &["n1".to_owned(), "n2".to_owned()]);
        assert_eq!(text.matches("- alert: GreenlightGateFailing").count(), 1);
        assert_eq!(text.matches("- alert: GreenlightGateNotJudged").count(), 1);
        assert_eq!(text.matches("- alert: GreenlightAgentGone").count(), 2);
        assert!(text.contains(r#"fix: "look\n\"there\"""#), "{text}");
        assert!(text.contains(r#"greenlight_gate_verdict{gate=\"net.latency\"} == 6"#), "{text}");
        assert!(text.contains(r"> 45)"), "{text}");
    }

    #[test]
    fn no_text_of_a_plan_leaves_its_quotes_or_becomes_a_template() {
        assert_eq!(scalar("a\u{7f}\u{2028}b\t"), r#""a\U0000007f\U00002028b\U00000009""#);
        assert_eq!(literal("{{ $value }}"), "{{`{{`}} $value }}");
        assert_eq!(render(&[], &[]).lines().last(), Some("groups: []"));
    }
}
