//! A file that is rotated under a real shipper: what it lost and what it read twice is counted
//! exactly, whatever that is.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::command::folder_with;
use crate::journeys::{counts, ended_once, started_once};
use crate::peers::Shipper;

const EVENTS: u64 = 200;

/// How often the shipper wrote each event.
fn shipped(shipper: &Shipper) -> BTreeMap<u64, u64> {
    let mut found = BTreeMap::new();
    for line in fs::read_to_string(&shipper.shipped).expect("it is there").lines() {
        let Ok(event) = serde_json::from_str::<Value>(line.trim()) else { continue };
        if let Some(seq) = event["greenlight.seq"].as_u64() {
            *found.entry(seq).or_default() += 1;
        }
    }
    found
}

/// One round into a file that is rotated again and again, with the shipper `away` meanwhile or not;
/// returns what was lost and what was there twice.
fn round(how: &str, away: bool) -> (u64, u64) {
    let mut shipper = Shipper::start();
    let (file, into) = (shipper.file.display().to_string(), shipper.shipped.display().to_string());
    if away {
        shipper.kill();
    }
    let (_folder, plan) = folder_with(&format!(
        "journeys:\n  - id: shipped\n    every: 1h\n    timeout: 10s\n    send: {{ file: {{ path: '{file}', \
         rotate: {{ how: {how}, max_size: 16KiB, keep: 50 }} }} }}\n    events: {{ count: {EVENTS} }}\n    \
         stages:\n      - stored: {{ file: {{ path: '{into}', text: message }}, within: 12s, give_up: 20s, poll: 200ms }}\n"
    ));
    let child = started_once("shipped", &plan);
    if away {
        // It comes back once all was written and most of it cut away.
        let sent =
            || fs::read_to_string(&file).is_ok_and(|all| all.contains("\"greenlight.seq\":200"));
        let deadline = Instant::now() + Duration::from_secs(10);
        while !sent() {
            assert!(Instant::now() < deadline, "the round was not sent");
            thread::sleep(Duration::from_millis(20));
        }
        shipper.begin();
    }
    let (code, said) = ended_once(child);
    let found = shipped(&shipper);
    let lost = EVENTS - found.len() as u64;
    let twice: u64 = found.values().map(|copies| copies - 1).sum();
    let counted = counts(&said["stages"]);
    let all = BTreeMap::from([("ok".to_owned(), EVENTS)]);
    assert_eq!(counted["sent"], (all, 0), "{said:#}");
    let (fates, duplicates) = &counted["stored"];
    let of = |fate: &str| fates.get(fate).copied().unwrap_or(0);
    assert_eq!((of("lost"), *duplicates), (lost, twice), "{how}: {said:#}");
    assert_eq!(of("ok") + of("late"), EVENTS - lost, "{how}: nothing is cut or mangled: {said:#}");
    let clean = lost == 0 && twice == 0 && of("late") == 0;
    assert_eq!(code, Some(i32::from(!clean)), "{said:#}");
    eprintln!(
        "rotation by {how}: of {EVENTS} events rsyslog lost {lost} and shipped {twice} twice"
    );
    (lost, twice)
}

#[test]
fn senders_file_that_is_rotated_under_a_shipper_is_counted_exactly() {
    round("rename", false);
    round("copytruncate", false);
    // Nobody reads while it is cut again and again: all but the end is lost, and no more.
    let (lost, _) = round("copytruncate", true);
    assert!(lost > 0, "what was cut away unread is lost");
}
