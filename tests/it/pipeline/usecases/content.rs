//! What the use cases are: whole, each with the rule of a public source that ElastAlert's is from,
//! of addresses and names that nobody has. `docs/usecases.md` is made of them.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use regex::Regex;

use super::{all, rules, twins, value};
use crate::tidy::committed;

/// What a SIEM is accepted with at the least.
const WANTED: [&str; 15] = [
    "c2-beaconing",
    "data-exfiltration",
    "disabled-security-tool",
    "dns-tunnelling",
    "impossible-travel",
    "lateral-movement",
    "log-cleared",
    "malware-hash",
    "new-admin-account",
    "password-spraying",
    "port-scan",
    "privilege-escalation",
    "ssh-bruteforce",
    "suspicious-powershell",
    "web-attack",
];
/// RFC 5737, and the addresses with a place that MaxMind publishes for tests.
const ADDRESSES: [&str; 6] =
    ["192.0.2.", "198.51.100.", "203.0.113.", "81.2.69.142", "89.160.20.112", "2.125.160.216"];

/// A value of the file's `rule`.
fn of_rule<'a>(text: &'a str, key: &str) -> &'a str {
    let (_, rule) = text.split_once("\nrule:\n").unwrap_or_else(|| panic!("no rule in {text}"));
    value(rule, &format!("  {key}"))
}

/// A value of the file's `alert`, which stands in one line.
fn of_alert<'a>(text: &'a str, key: &str) -> &'a str {
    let alert = value(text, "alert");
    let (_, rest) = alert.split_once(&format!("{key}: ")).expect("the alert has it");
    rest.split([',', '}']).next().expect("a split has a first part").trim()
}

/// The comment at the beginning of a file, as one line.
fn comment(text: &str) -> String {
    let lines = text.lines().map_while(|line| line.strip_prefix("# "));
    lines.collect::<Vec<_>>().join(" ")
}

#[test]
fn each_use_case_is_whole_and_elastalert_has_its_public_rule() {
    let (cases, rules) = (all(), rules());
    let missing: Vec<_> = WANTED.iter().filter(|name| !cases.contains_key(**name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let names = |of: &std::collections::BTreeMap<String, String>| -> BTreeSet<String> {
        of.keys().cloned().collect()
    };
    assert_eq!(names(&cases), names(&rules), "each has a rule, and each rule is somebody's");
    for (name, text) in &cases {
        for part in ["\nevents:\n", "\nbenign:\n"] {
            assert!(text.contains(part), "{name} has no {}", part.trim());
        }
        assert!(value(text, "attack").starts_with("[T"), "{name}");
        for key in ["author", "url", "license"] {
            assert!(!of_rule(text, key).is_empty(), "{name}: {key}");
        }
        let rule = &rules[name];
        let said = comment(rule);
        for key in ["title", "id"] {
            let is = of_rule(text, key);
            assert!(said.contains(is), "{name}: ElastAlert's rule does not name {is}");
        }
        assert_eq!(value(rule, "name"), of_alert(text, "name"), "{name}");
        let severity = format!("severity: {} ", of_alert(text, "severity"));
        assert!(value(rule, "alertmanager_labels").contains(&severity), "{name}: {severity}");
    }
}

#[test]
fn use_cases_speak_of_nobody() {
    let address =
        Regex::new(r"(?:^|[^\w.])(\d{1,3}(?:\.\d{1,3}){3})(?:[^\w.]|$)").expect("a pattern");
    let domain = Regex::new(r"[a-z0-9-]+\.(?:com|net|org|io)\b").expect("a pattern");
    for (name, text) in all().into_iter().chain(twins()) {
        // The rule's own address is somebody's; what its text quotes of programs is code.
        let text: String =
            text.lines().filter(|line| !line.starts_with("  url:")).collect::<Vec<_>>().join("\n");
        for found in address.captures_iter(&text) {
            assert!(
                ADDRESSES.iter().any(|known| found[1].starts_with(known)),
                "{name}: {} is somebody's",
                &found[1]
            );
        }
        for found in domain.find_iter(&text) {
            let of_nobody = found.as_str().starts_with("example.");
            // Names that the source itself writes, and file names that look like one.
            let written = ["amazonaws.com", "invoice.com"].contains(&found.as_str());
            assert!(of_nobody || written, "{name}: {} is somebody's", found.as_str());
        }
    }
}

#[test]
fn the_table_of_use_cases_is_what_the_files_say() {
    let mut text = String::from(
        "# Use cases\n\n\
         Made by a test from `probes/usecases`; it fails where this file differs. A journey sends one by \
         `events: { usecase: NAME }`, and its twin, which must bring no alert, by `must_not_alert: true`. \
         Of each the expected alert is that of a public rule. ElastAlert 2 with rules of the same logic \
         (`tests/peers/elastalert/rules`) raises it once and is silent about the twin, behind \
         rsyslog, Kafka, rsyslog and OpenSearch: the test \
         `every_use_case_is_alerted_and_told_of_once_and_no_twin_is`.\n\n\
         With `within: rule` the deadline follows from the deployed rule, and `edges: true` sends the \
         events also just inside and just outside of its look-back (docs/plan.md says how): the test \
         `each_broken_link_behind_the_store_is_named_by_its_stage_and_why`.\n\n\
         ATT&CK moved some techniques in its version 19: where it did, both numbers are given.\n\n\
         | use case | what happens, and its twin | ATT&CK | alert | public rule |\n| --- | --- | --- | --- | --- |\n",
    );
    for (name, case) in all() {
        let attack = value(&case, "attack").trim_matches(['[', ']', ' ']).to_owned();
        let _ = writeln!(
            text,
            "| `{name}` | {} | {attack} | {}, {} | [{}]({}) by {}, {} |",
            comment(&case),
            of_alert(&case, "name"),
            of_alert(&case, "severity"),
            of_rule(&case, "title"),
            of_rule(&case, "url"),
            of_rule(&case, "author"),
            of_rule(&case, "license"),
        );
    }
    text.push_str("\n## Twins alone\n\nThey are sent beside any use case: `must_not_alert: { usecase: NAME }`.\n\n");
    text.push_str("| twin | what happens |\n| --- | --- |\n");
    for (name, case) in twins() {
        assert!(case.contains("\nbenign:\n"), "{name} has no benign");
        let _ = writeln!(text, "| `{name}` | {} |", comment(&case));
    }
    committed("docs/usecases.md", &text);
}
