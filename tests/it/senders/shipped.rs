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

/// How often the shipper wrote the whole message of each event; what was sent stands in the file
/// and in those that it was rotated to.
fn shipped(shipper: &Shipper) -> BTreeMap<u64, u64> {
    let text = fs::read_to_string(&shipper.shipped).expect("it is there");
    let folder = shipper.file.parent().expect("it lies in a folder");
    let mut found = BTreeMap::new();
    for file in fs::read_dir(folder).expect("it can be read").flatten() {
        for line in fs::read_to_string(file.path()).expect("it can be read").lines() {
            let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
            let (Some(seq), Some(message)) =
                (event["greenlight.seq"].as_u64(), event["message"].as_str())
            else {
                continue;
            };
            found.insert(seq, text.matches(message).count() as u64);
        }
    }
    assert_eq!(found.len() as u64, EVENTS, "all that was sent is still there");
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
    let whole = found.values().filter(|copies| **copies > 0).count() as u64;
    let twice: u64 = found.values().map(|copies| copies.saturating_sub(1)).sum();
    let counted = counts(&said["stages"]);
    let all = BTreeMap::from([("ok".to_owned(), EVENTS)]);
    assert_eq!(counted["sent"], (all, 0), "{said:#}");
    let (fates, duplicates) = &counted["stored"];
    let of = |fate: &str| fates.get(fate).copied().unwrap_or(0);
    assert_eq!((of("ok") + of("late"), *duplicates), (whole, twice), "{how}: {said:#}");
    // Where it is cut under the shipper, two lines become one that holds half of each.
    let cut = of("truncated") + of("corrupted");
    assert_eq!(of("lost") + cut, EVENTS - whole, "{how}: {said:#}");
    let clean = whole == EVENTS && twice == 0 && of("late") == 0;
    assert_eq!(code, Some(i32::from(!clean)), "{said:#}");
    let lost = of("lost");
    eprintln!(
        "rotation by {how}: of {EVENTS} events rsyslog lost {lost}, cut {cut} and shipped {twice} twice"
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
