//! C4: known fields from feeds that are fresh, feed by feed.

use super::*;

pub(super) const GATE: &str = "partner.core.enrichment";
/// By the names of their journeys.
const FEEDS: [&str; 3] = ["place", "threat", "asset"];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Feed {
    /// It knows nothing of this any more.
    Forgets(&'static str),
    /// It takes this for something else.
    Mistakes(&'static str),
    /// Nobody has updated it since yesterday.
    IsOld(&'static str),
}

#[test]
fn one_journey_for_all_three_is_no_proof_of_any() {
    let one = journey(
        "place",
        kafka(),
        "raw",
        "count: 1",
        "enriched",
        &format!(
            "topic: done }}, {TIMES}, expect: {{ fields: {{ x: y }}, fresh: {{ field: z, within: 1h }} }} }}"
        ),
    );
    for (vars, open) in [
        ("place_journey: place, threat_journey: place, asset_journey: place", true),
        ("place_journey: place, threat_journey: place, asset_journey: other", true),
        ("place_journey: place, threat_journey: third, asset_journey: other", false),
    ] {
        let journeys =
            ["place", "other", "third"].map(|id| one.replace("id: place", &format!("id: {id}")));
        let (_folder, plan) = folder_with(&format!(
            "include: [ 'pack:partner-platform' ]\nvars: {{ {vars} }}\njourneys:\n{}",
            journeys.concat()
        ));
        let output = greenlight(&["plan", "-c", &plan, "-o", "json"]);
        let plan: Value = serde_json::from_str(&out(&output))
            .unwrap_or_else(|error| panic!("{error}: {}", err(&output)));
        let gates = plan["gates"].as_array().expect("an array");
        let gate = gates.iter().find(|gate| gate["id"] == GATE).expect("it is in the pack");
        let sentence = gate["criterion"].as_str().expect("a sentence");
        assert_eq!(sentence.contains("`place` is named twice"), open, "{vars}: {sentence}");
    }
}

#[test]
fn enrichment_gate_turns_red_for_each_criterion_and_green_again() {
    let kafka = kafka();
    let topics = topics(kafka, "partner-enrichment");
    let broken: Arc<Mutex<Option<Feed>>> = Arc::default();
    let now = broken.clone();
    let _enricher = Processor::parsing(kafka, &topics, move |event| {
        let feed = event.and_then(|event| {
            FEEDS.into_iter().find(|feed| event["event.module"].as_str() == Some(feed))
        });
        match (feed, *now.lock().expect("no panic inside")) {
            (None, _) => Act::Lose,
            (Some(feed), Some(Feed::Forgets(which))) if which == feed => Act::Pass,
            (Some(feed), Some(Feed::Mistakes(which))) if which == feed => {
                Act::Enrich(feed, "something else", 1)
            }
            (Some(feed), Some(Feed::IsOld(which))) if which == feed => {
                Act::Enrich(feed, "known", 30)
            }
            (Some(feed), _) => Act::Enrich(feed, "known", 1),
        }
    });
    let journeys = FEEDS.map(|feed| {
        journey(
            feed,
            kafka,
            &topics.from,
            &format!("count: 2, fields: {{ event.module: {feed} }}"),
            "enriched",
            &format!(
                "topic: {}, text: message }}, {TIMES}, expect: {{ fields: {{ enriched.{feed}.value: known }}, \
                 fresh: {{ field: enriched.{feed}.updated, within: 48h }} }} }}",
                topics.to
            ),
        )
    });
    let (_folder, agent) = agent(
        peers::free_port(),
        "place_journey: place, threat_journey: threat, asset_journey: asset",
        "",
        &journeys.concat(),
    );
    let set = |what| *broken.lock().expect("no panic inside") = what;
    // Without a value there is no age either, and that decides first.
    let gone = Named { by: "place", stage: Some("enriched"), says: "journey.feed_age on enriched" };
    let mut cases = vec![(Feed::Forgets("place"), gone)];
    for feed in FEEDS {
        let wrong =
            Named { by: feed, stage: Some("enriched"), says: "are not ok at stage enriched" };
        cases.push((Feed::Mistakes(feed), wrong));
        let old = Named { by: feed, stage: Some("enriched"), says: "the largest journey.feed_age" };
        cases.push((Feed::IsOld(feed), old));
    }
    red_and_green(&agent, GATE, set, &cases);
}
