//! A1: nothing lost and nothing twice, and each stage within its agreed level.

use super::*;

pub(super) const GATE: &str = "partner.service-levels";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Service {
    Mangles,
    Loses,
    Repeats,
    ParsesLate,
    EnrichesLate,
    StoresLate,
}

#[test]
fn service_gate_turns_red_for_each_criterion_and_green_again() {
    let kafka = kafka();
    let names =
        ["raw", "parsed", "enriched", "stored"].map(|name| format!("partner-service-{name}"));
    for name in &names {
        kafka.topic(name, 2);
    }
    let broken: Arc<Mutex<Option<Service>>> = Arc::default();
    let hops = [
        // Each is late enough for its own level, and not for those behind it.
        [Some((Service::ParsesLate, Act::Delay(Duration::from_millis(3_000)))), None, None, None],
        [Some((Service::EnrichesLate, Act::Delay(Duration::from_millis(5_000)))), None, None, None],
        [
            Some((Service::StoresLate, Act::Delay(Duration::from_millis(7_000)))),
            Some((Service::Loses, Act::Lose)),
            Some((Service::Repeats, Act::Repeat)),
            Some((Service::Mangles, Act::Mangle)),
        ],
    ];
    let _hops: Vec<Processor> = names
        .windows(2)
        .zip(hops)
        .map(|(pair, acts)| {
            let topics = Topics { from: pair[0].clone(), to: pair[1].clone(), dead_letter: None };
            let now = broken.clone();
            Processor::start(kafka, &topics, move |_| {
                let broken = *now.lock().expect("no panic inside");
                let act = acts.into_iter().flatten().find(|(when, _)| Some(*when) == broken);
                act.map_or(Act::Pass, |(_, act)| act)
            })
        })
        .collect();
    let brokers = &kafka.brokers;
    let stage = |stage: &str, topic: &str| {
        format!(
            "      - {stage}: {{ kafka: {{ brokers: '{brokers}', topic: {topic}, text: message }}, within: 9s, give_up: 9s, poll: 200ms }}\n"
        )
    };
    let soak = format!(
        "  - id: soak\n    every: 2s\n    timeout: 3s\n    send: {{ kafka: {{ brokers: '{brokers}', topic: {} }} }}\n    \
         events: {{ count: 3 }}\n    stages:\n{}{}{}",
        names[0],
        stage("parsed", &names[1]),
        stage("enriched", &names[2]),
        stage("stored", &names[3]),
    );
    let red = |stage, says| Named { by: "soak", stage: Some(stage), says };
    let levels = |accepted: &str| {
        format!(
            "service_journey: soak, service_window: 8s, service_events: 3, service_accepted_within: {accepted}, \
             service_parsed_within: 2s, service_enriched_within: 4s, service_stored_within: 6s"
        )
    };
    {
        // What no platform can hold to.
        let (_folder, agent) = agent(peers::free_port(), &levels("1us"), "", &soak);
        until_red(&agent, GATE, &red("accepted", "journey.latency on accepted of soak"));
    }
    let (_folder, agent) = agent(peers::free_port(), &levels("2s"), "", &soak);
    let set = |what| *broken.lock().expect("no panic inside") = what;
    red_and_green(
        &agent,
        GATE,
        set,
        &[
            (Service::Mangles, red("stored", "are not ok at stage stored")),
            (Service::Repeats, red("stored", "duplicates of")),
            // What never came is later than any level.
            (Service::Loses, red("stored", "journey.latency on stored of soak")),
            (Service::ParsesLate, red("parsed", "journey.latency on parsed of soak")),
            (Service::EnrichesLate, red("enriched", "journey.latency on enriched of soak")),
            (Service::StoresLate, red("stored", "journey.latency on stored of soak")),
        ],
    );
}
