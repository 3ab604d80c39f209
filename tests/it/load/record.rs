//! The record that a load leaves, as the requirement for sizing (R1) is judged from it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::platform::{Fate, Platform};
use crate::command::{folder_with, greenlight, out};

/// The two criteria of the pack's gate for sizing, and that gate, judged from a record; and what
/// the check said of it.
fn gates(record: &Path) -> (Value, Value, String) {
    let (_folder, plan) = folder_with(&format!(
        "node: {{ name: n1 }}\ninclude: [ 'pack:partner-platform' ]\n\
         vars: {{ load_check: sized, partner_rounds_window: 4s }}\n\
         checks:\n  - {{ id: sized, load: {{ journey: web }}, targets: [ '{}' ], every: 1s }}\n\
         gates:\n  - id: capacity\n    require:\n      all:\n        \
         - {{ ratio: check.success, where: {{ check: sized }}, over: 4s, above: 100% }}\n        \
         - {{ last: load.headroom, where: {{ check: sized }}, above: 30% }}\n",
        record.display()
    ));
    let report = out(&greenlight(&["check", "-c", &plan, "--for", "15s", "-o", "json"]));
    let report: Value = serde_json::from_str(&report).expect("a report");
    let gates = report["gates"].as_array().expect("gates");
    let gate = |id: &str| gates.iter().find(|gate| gate["id"] == id).expect("the gate").clone();
    (gate("capacity"), gate("partner.capacity.sizing"), report["checks"].to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn load_record_decides_the_gate_for_sizing() {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let held = folder.path().join("held.json");
    let lossy = folder.path().join("lossy.json");
    let whole = Platform::start(|_| Fate::Stored, Duration::ZERO).await;
    let leaky =
        Platform::start(|n| if n % 40 == 0 { Fate::Dropped } else { Fate::Stored }, Duration::ZERO)
            .await;
    let order = ["--rate", "65", "--for", "2s", "--agreed", "50"];
    let (good, bad) = tokio::join!(whole.load(&order).ended(), leaky.load(&order).ended(),);
    assert_eq!((good.0, bad.0), (Some(0), Some(1)), "{:#}{:#}", good.1, bad.1);
    fs::write(&held, good.1.to_string()).expect("it can be written");
    fs::write(&lossy, bad.1.to_string()).expect("it can be written");
    let changed = |name: &str, key: &str, value: Value| {
        let mut record = good.1.clone();
        record[key] = value;
        let file = folder.path().join(name);
        fs::write(&file, record.to_string()).expect("it can be written");
        file
    };
    let narrow = changed("narrow.json", "headroom", json!({ "rate": 0.29, "gb_per_day": null }));
    let unclear = changed("unclear.json", "verdict", json!("unclear"));
    let old = changed("old.json", "ended_at", json!("2020-01-01T00:00:00Z"));
    let other = changed("other.json", "journey", json!("pond"));
    let none = folder.path().join("none.json");

    let cases = [
        (held, "pass", ""),
        (lossy, "fail", "are lost (lost)"),
        (narrow, "fail", "load.headroom"),
        (unclear, "error", "could not be told"),
        (old, "error", "longer than"),
        (other, "error", "journey pond"),
        (none, "error", "none.json"),
    ];
    let judged = cases.map(|(record, verdict, part)| {
        tokio::task::spawn_blocking(move || (gates(&record), verdict, part))
    });
    for case in judged {
        let ((gate, of_the_pack, said), verdict, part) = case.await.expect("it is judged");
        assert_eq!(gate["verdict"], verdict, "{gate:#}");
        assert!(gate.to_string().contains(part) || said.contains(part), "{part}: {gate:#}{said}");
        // Where it was held, a person has still to sign for it.
        let signed = &of_the_pack["reason"]["text"];
        match verdict {
            "pass" => assert_eq!(
                (of_the_pack["verdict"].as_str(), signed.as_str()),
                (Some("open"), Some("the signed sizing sheet"))
            ),
            "fail" => assert_eq!(of_the_pack["verdict"], "fail", "{of_the_pack:#}"),
            _ => assert_ne!(of_the_pack["verdict"], "pass", "{of_the_pack:#}"),
        }
        assert_eq!(of_the_pack["checks"][0], "sized");
    }
}
