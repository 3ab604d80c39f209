//! `report`: the newest report that the agent left in its state directory. Where it left none of this
//! plan, nothing is known: every gate of the plan is there, and what needs evidence is open.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::check::{self, FORMATS};
use super::output;
use super::{Failure, Global, OutputArgs, PlanArgs, say};
use crate::agent::{self, clock};
use crate::journey::Stage;
use crate::ledger::Document;
use crate::plan::Plan;
use crate::render::attack;
use crate::store::{Store, StoreError};
use crate::time::Wall;

/// An agent leaves a report each minute: where the newest is older, none has run since.
const OLD: Duration = Duration::from_secs(300);

pub(super) fn run(
    global: &Global,
    plan: &PlanArgs,
    state: &Path,
    output: &OutputArgs,
    attack_layer: Option<&Path>,
) -> Result<u8, Failure> {
    let outputs = output::wanted(&output.output, &FORMATS)?;
    let (_, plan) = plan.compile(global)?;
    let plan = Arc::new(plan);
    let document = match kept(state, &plan)? {
        Ok(document) => {
            if is_old(&document.finished_at, clock::now().wall) {
                let at = &document.finished_at;
                say(format_args!(
                    "greenlight: this report is of {at}; no agent has left one since"
                ));
            }
            document
        }
        Err(why) => {
            say(format_args!("greenlight: no evidence for this plan: {why}"));
            agent::unproven(plan.clone())
        }
    };
    if let Some(file) = attack_layer {
        let within = |id: &str| {
            let stages = &plan.journey(id)?.stages;
            stages.iter().find(|stage| stage.stage == Stage::Alerted).map(|stage| stage.within)
        };
        std::fs::write(file, attack::layer(&document, within))
            .map_err(|error| Failure::usage(format!("can't write {}: {error}", file.display())))?;
    }
    check::write(&outputs, &document, output.verbose, None)?;
    Ok(check::code(&document))
}

fn is_old(finished_at: &str, now: Wall) -> bool {
    Wall::parse(finished_at).is_none_or(|at| at.plus(OLD) < now)
}

/// The newest report, where it is one of this plan; else why there is none.
fn kept(state: &Path, plan: &Plan) -> Result<Result<Document, String>, Failure> {
    let reader = match Store::read_only(state) {
        Ok(reader) => reader,
        Err(missing @ StoreError::Missing { .. }) => return Ok(Err(missing.to_string())),
        Err(error) => return Err(Failure::ours(error.to_string())),
    };
    let newest = reader.newest_report().map_err(|error| Failure::ours(error.to_string()))?;
    let Some(newest) = newest else {
        return Ok(Err(format!(
            "{} holds no report yet; `greenlight run` and `greenlight check --state` leave them there",
            state.display()
        )));
    };
    let document: Document = serde_json::from_value(newest)
        .map_err(|error| Failure::ours(format!("the newest report can't be read: {error}")))?;
    Ok(match document.plan.digest == plan.digest {
        true => Ok(document),
        false => Err(format!(
            "the newest report is of another one ({}, now {}); run the agent with this plan first",
            document.plan.digest, plan.digest
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_no_agent_has_renewed_is_old() {
        let now = Wall::parse("2030-01-01T12:00:00Z").unwrap();
        assert!(!is_old("2030-01-01T11:58:30.000Z", now));
        assert!(is_old("2030-01-01T11:54:59.000Z", now));
        // One of tomorrow is of a clock that was set; one of no time at all is nobody's newest.
        assert!(!is_old("2030-01-02T12:00:00Z", now));
        assert!(is_old("yesterday", now));
    }
}
