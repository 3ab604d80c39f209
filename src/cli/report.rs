//! `report`: the newest report that the agent left in its state directory.

use std::path::Path;

use super::check::{self, FORMATS};
use super::output;
use super::{Failure, Global, OutputArgs, PlanArgs};
use crate::journey::Stage;
use crate::ledger::Document;
use crate::render::attack;
use crate::store::Store;

pub(super) fn run(
    global: &Global,
    plan: &PlanArgs,
    state: &Path,
    output: &OutputArgs,
    attack_layer: Option<&Path>,
) -> Result<u8, Failure> {
    let outputs = output::wanted(&output.output, &FORMATS)?;
    let (_, plan) = plan.compile(global)?;
    let reader = Store::read_only(state).map_err(|error| Failure::ours(error.to_string()))?;
    let newest = reader.newest_report().map_err(|error| Failure::ours(error.to_string()))?;
    let Some(newest) = newest else {
        return Err(Failure::ours(format!(
            "{} holds no report yet; `greenlight run` and `greenlight check --state` leave them there",
            state.display()
        )));
    };
    let document: Document = serde_json::from_value(newest)
        .map_err(|error| Failure::ours(format!("the newest report can't be read: {error}")))?;
    if document.plan.digest != plan.digest {
        return Err(Failure::ours(format!(
            "the newest report is of another plan ({}, now {}): run the agent with this plan first",
            document.plan.digest, plan.digest
        )));
    }
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
