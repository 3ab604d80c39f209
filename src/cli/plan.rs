//! `plan` and `rules`: what would be done, before anything is done.

use std::fmt::Write;

use serde_json::Value;

use super::check::FORMATS;
use super::output::{self, Format, Output};
use super::privileges::Privileges;
use super::{Failure, Global, PlanArgs, exit};
use crate::gate::{Gate, sentence};
use crate::plan::Plan;
use crate::render;
use crate::render::sheet::{Line, Sheet, Told};

pub(super) fn run(
    global: &Global,
    plan: &PlanArgs,
    privileges: bool,
    outputs: &[Output],
) -> Result<u8, Failure> {
    let outputs = output::wanted(outputs, &FORMATS)?;
    let (_, plan) = plan.compile(global)?;
    let privileges = privileges.then(|| Privileges::of(&plan, global));
    let (json, lines, text) = match &privileges {
        None => ((*plan.json).clone(), gates(&plan), summary(&plan)),
        Some(privileges) => (privileges.json(&plan), privileges.lines(), privileges.text()),
    };
    let title = format!("greenlight plan for {}", plan.node.name);
    let sheet = Sheet { title, lines, text };
    output::write(&outputs, |format, _| match format {
        Format::Json => format!("{json:#}"),
        form => sheet.render(form),
    })?;
    Ok(exit::SUCCESS)
}

pub(super) fn rules(global: &Global, plan: &PlanArgs) -> Result<u8, Failure> {
    let (_, plan) = plan.compile(global)?;
    output::print(&render::rules::render(&plan.watched(), &plan.nodes))?;
    Ok(exit::SUCCESS)
}

/// A plan has tried nothing yet.
fn gates(plan: &Plan) -> Vec<Line> {
    let line =
        |gate: &Gate| Line { name: gate.id.clone(), told: Told::Skipped, why: sentence(gate) };
    plan.gates.iter().map(line).collect()
}

fn summary(plan: &Plan) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "plan {} for node {}", short(&plan.digest), plan.node.name);
    let _ = writeln!(text, "  from {}", plan.sources.join(", "));
    let _ = writeln!(
        text,
        "  {}, {}, {}",
        render::plural(plan.checks.len(), "check"),
        render::plural(plan.journeys.len(), "journey"),
        render::plural(plan.gates.len(), "gate")
    );
    let _ = writeln!(
        text,
        "\nIt reads this node once a second, and does this to the platform and the network:"
    );
    let effects = plan.json.get("effects").and_then(Value::as_array).cloned().unwrap_or_default();
    if effects.is_empty() {
        let _ = writeln!(text, "  nothing");
    }
    let mut last = "";
    for effect in &effects {
        let field = |name| effect.get(name).and_then(Value::as_str).unwrap_or_default();
        let who = if field("check").is_empty() { field("journey") } else { field("check") };
        if who != last {
            let _ = writeln!(text, "  {who}{}", when_and_where(plan, who));
        }
        last = who;
        let _ = writeln!(text, "    every {}: {}", field("every"), field("what"));
    }
    let purge = plan.json.get("purge").and_then(Value::as_array).cloned().unwrap_or_default();
    if !purge.is_empty() {
        let _ = writeln!(text, "\nWhat its journeys leave behind is deleted so:");
    }
    for one in &purge {
        let field = |name| one.get(name).and_then(Value::as_str).unwrap_or_default();
        let at = format!("{} at {} ({})", field("journey"), field("stage"), field("kind"));
        let _ = writeln!(text, "  {at}:\n    {}", field("how"));
    }
    let _ = writeln!(text, "\nGates:");
    for gate in plan.json.get("gates").and_then(Value::as_array).into_iter().flatten() {
        let field = |name| gate.get(name).and_then(Value::as_str).unwrap_or_default();
        let _ = writeln!(text, "  {} ({})", field("id"), field("level"));
        let _ = writeln!(text, "    {}", field("criterion"));
    }
    text
}

/// The hours it runs in, and the node that runs it instead of this one, where there are any.
fn when_and_where(plan: &Plan, id: &str) -> String {
    let (times, elsewhere) = match (plan.check(id), plan.journey(id)) {
        (Some(check), _) => (&check.allowed_times, &check.elsewhere),
        (None, Some(journey)) => (&journey.allowed_times, &journey.elsewhere),
        (None, None) => return String::new(),
    };
    let mut text = String::new();
    if let Some(node) = elsewhere {
        let _ = write!(text, ", not here: {node} runs it for the fleet");
    }
    if !times.is_always() {
        let _ = write!(text, ", only {times}");
    }
    text
}

fn short(digest: &str) -> &str {
    digest.get(..12).unwrap_or(digest)
}
