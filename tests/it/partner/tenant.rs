//! G2: a test client's events are found, and another tenant does not see them.

use serde_json::json;

use super::*;
use crate::peers::{opensearch, post};

pub(super) const GATE: &str = "partner.acceptance.ingestion";
const RIGHT: &str = "partner-tenant-acme";
const WRONG: &str = "partner-tenant-other";
/// What the other tenant can search.
const VIEW: &str = "partner-tenant-view";

/// Gives the other tenant's view an index, or takes one away.
fn view(action: &str, index: &str) {
    let actions = json!({"actions": [{action: {"index": index, "alias": VIEW}}]});
    let answer = post(&opensearch().at("_aliases"), "application/json", &actions.to_string());
    assert!(answer.as_ref().is_some_and(|(status, _)| *status == 200), "{answer:?}");
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Tenant {
    SeesAnothers,
}

fn journey(tenant: &str, hidden: &str) -> String {
    let url = &opensearch().url;
    format!(
        "  - id: client\n    every: 2s\n    timeout: 3s\n    send: {{ bulk: {{ to: '{url}', index: {RIGHT} }} }}\n    \
         events: {{ count: 3, fields: {{ tenant: '{tenant}' }} }}\n    stages:\n      \
         - stored: {{ opensearch: {{ url: '{url}', index: {RIGHT} }}, {TIMES}, \
         expect: {{ fields: {{ tenant: acme }} }}{hidden} }}\n"
    )
}

#[test]
fn ingestion_gate_turns_red_for_what_another_tenant_sees_and_green_again() {
    let store = opensearch();
    store.index(RIGHT, &[json!({"message": "the first", "tenant": "acme"})]);
    store.index(WRONG, &[json!({"message": "something of its own"})]);
    view("add", WRONG);
    let vars = "test_client_journey: client, test_client_within: 5s";
    {
        // Where nobody asks whether another sees it, the gate can't be judged at all.
        let (_folder, plan) = folder_with(&format!(
            "include: [ 'pack:partner-platform' ]\nvars: {{ {vars} }}\njourneys:\n{}",
            journey("acme", "")
        ));
        let output = greenlight(&["plan", "-c", &plan]);
        assert_eq!(output.status.code(), Some(78), "{}", out(&output));
        let said = err(&output);
        assert!(said.contains("does not measure `journey.exposed`"), "{said}");
    }
    let hidden =
        format!(", must_not_see: {{ opensearch: {{ url: '{}', index: '{VIEW}*' }} }}", store.url);
    let red = |says| Named { by: "client", stage: Some("stored"), says };
    {
        let (_folder, agent) =
            agent(peers::free_port(), vars, "", &journey("somebody else", &hidden));
        until_red(&agent, GATE, &red("are not ok at stage stored"));
    }
    let (_folder, agent) = agent(peers::free_port(), vars, "", &journey("acme", &hidden));
    let set = |what| match what {
        Some(Tenant::SeesAnothers) => view("add", RIGHT),
        None => view("remove", RIGHT),
    };
    red_and_green(
        &agent,
        GATE,
        set,
        &[(Tenant::SeesAnothers, red("journey.exposed on stored of client"))],
    );
    let exposed = ["journey=\"client\"", "stage=\"stored\""];
    assert_eq!(agent.metric("greenlight_journey_exposed_events", &exposed), Some(0.0));
    // A view that can't be looked into proves nothing, either way.
    view("remove", WRONG);
    agent.until_verdict(GATE, "open", PATIENCE);
    view("add", WRONG);
    until_green(&agent, GATE);
}
