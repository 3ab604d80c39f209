//! A stage whose clock is off: by how much is bounded from what it stamps, exported and judged.

use super::*;
use crate::command::Daemon;
use crate::machine::PATIENCE;

/// So far ahead the indexer's clock is set.
const AHEAD: f64 = 90.0;

#[test]
fn a_clock_that_is_off_is_bounded_by_what_it_stamps() {
    let pipeline = Pipeline::start(
        "clock",
        Shape {
            indexer_rules: "set $!ingested = cnum($$now-unixtimestamp) + 90;".into(),
            ..Shape::default()
        },
    );
    let send = pipeline.by_tcp();
    let journey = Journey { events: 10, every: "6s", ..Journey::default() };
    let owner = "enriched.asset.owner: soc-test }";
    let plan = pipeline.plan(&send, &journey).replace(owner, &format!("{owner}, clock: ingested"));
    let gate = |id: &str, below: &str| {
        format!(
            "  - {{ id: {id}, require: {{ max: journey.clock_offset, \
             where: {{ journey: clock, stage: stored }}, over: 12s, below: {below} }} }}\n"
        )
    };
    let plan = format!("{plan}gates:\n{}{}", gate("in-time", "60s"), gate("within-hours", "1h"));
    let (folder, plan) = folder_with(&plan);
    let daemon = Daemon::start(&plan, &folder.path().join("state"), &[]);
    let failed = daemon.until_verdict("in-time", "fail", PATIENCE);
    assert_eq!(failed["first_failing_stage"], "stored", "{failed:#}");
    daemon.until_verdict("within-hours", "pass", PATIENCE);
    let bound = |which: &str| {
        let name = format!("greenlight_journey_clock_offset_{which}_bound_seconds");
        daemon.metric(&name, &["journey=\"clock\"", "stage=\"stored\""]).expect("it is exported")
    };
    let (lower, upper) = (bound("lower"), bound("upper"));
    assert!(lower <= AHEAD && AHEAD <= upper, "{lower} to {upper}");
    assert!(upper - lower < 2.0 * WITHIN.as_secs_f64(), "{lower} to {upper}");
    // The other stage names no clock: nothing is claimed of it.
    let rows = daemon.json("/api/v1/journeys");
    let stages = rows[0]["stages"].as_array().expect("stages");
    let clock = |name: &str| {
        let stage = stages.iter().find(|stage| stage["name"] == name).expect("it is there");
        stage["clock_offset_seconds"].clone()
    };
    assert_eq!(clock("parsed"), Value::Null);
    assert!(clock("stored")["events"].as_u64().is_some_and(|events| events >= 10), "{rows:#}");
    assert!(daemon.get("/").1.contains("its clock less ours"), "the page says it");
    eprintln!("clock set {AHEAD} s ahead: between {lower:.3} and {upper:.3} s");
}
