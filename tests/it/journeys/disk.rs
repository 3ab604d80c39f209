//! No event without its round on disk. The mount needs root.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{Journey, counts, row, topics, until, written};
use crate::command::{Daemon, folder_with};
use crate::peers::kafka;
use crate::processor::{Act, Processor};

/// A small file system of its own, gone with its handle.
struct Small(tempfile::TempDir);

impl Small {
    fn mount() -> Self {
        let folder = crate::machine::folder();
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=8m", "greenlight-test"])
            .arg(folder.path())
            .output()
            .expect("mount starts");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.success(), "this test mounts a tmpfs and needs root: {said}");
        Self(folder)
    }

    /// Leaves not one page.
    fn fill(&self) -> std::path::PathBuf {
        let filler = self.0.path().join("filler");
        let error = fs::write(&filler, vec![b'x'; 9 << 20]).expect_err("it is smaller than that");
        assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
        filler
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn journeys_send_nothing_that_is_not_on_disk_first() {
    let kafka = kafka();
    let topics = topics(kafka, "disk");
    let journey = Journey {
        id: "disk",
        topics: &topics,
        events: 5,
        every: "500ms",
        timeout: "3s",
        within: "3s",
        give_up: "3s",
    };
    let plan = format!(
        "node: {{ name: n1 }}\njourneys:\n{}gates:\n  - {{ id: whole, require: {{ complete: disk, over: 3s, above: 100% }} }}\n",
        journey.yaml(&kafka.brokers, &kafka.brokers)
    );
    let _processor = Processor::start(kafka, &topics, |_| Act::Pass);
    let disk = Small::mount();
    let state = disk.0.path().join("state");
    fs::create_dir(&state).expect("there is room yet");
    let filler = disk.fill();
    let (_folder, plan) = folder_with(&plan);
    let daemon = Daemon::start(&plan, &state, &[]);

    nothing_is_sent(&daemon, kafka, &topics.from);
    assert_eq!(written(kafka, &topics.from), 0, "no round is on disk, so no event was sent");
    let before = goes_on(&daemon, &filler, kafka, &topics.from);

    // Once more, while rounds are under way: full is found out at one of the next ones.
    let filler = disk.fill();
    nothing_is_sent(&daemon, kafka, &topics.from);
    let after = goes_on(&daemon, &filler, kafka, &topics.from);
    assert!(after > before);

    let journey = row(&daemon, "disk");
    for (stage, (fates, duplicate)) in counts(&journey["stages"]) {
        assert_eq!(
            (fates.keys().map(String::as_str).collect::<Vec<_>>(), duplicate),
            (vec!["ok"], 0),
            "{stage}"
        );
    }
    eprintln!(
        "full disk: twice, {} rounds and {after} events around it, none sent while it was full",
        journey["rounds"]
    );
}

/// The store is down, rounds don't begin, and the gate says why.
fn nothing_is_sent(daemon: &Daemon, kafka: &crate::peers::Kafka, topic: &str) {
    until("the store is known to be down", Duration::from_secs(30), || {
        daemon.metric("greenlight_store_up", &[]) == Some(0.0)
    });
    let labels = ["journey=\"disk\"", "fault=\"store\""];
    let not_begun =
        || daemon.metric("greenlight_journey_rounds_not_begun_total", &labels).unwrap_or(0.0);
    let gate = daemon.until_verdict("whole", "error", Duration::from_secs(20));
    assert_eq!(gate["reason"]["code"], "store", "{gate:#}");
    let (events, rounds) = (written(kafka, topic), not_begun());
    until("further rounds are due", Duration::from_secs(20), || not_begun() > rounds + 3.0);
    assert_eq!(written(kafka, topic), events, "an event was sent whose round is not on disk");
}

/// Space again: how many events were sent until the gate passes.
fn goes_on(daemon: &Daemon, filler: &Path, kafka: &crate::peers::Kafka, topic: &str) -> i64 {
    fs::remove_file(filler).expect("it is ours");
    until("the store comes back by itself", Duration::from_secs(20), || {
        daemon.metric("greenlight_store_up", &[]) == Some(1.0)
    });
    daemon.until_verdict("whole", "pass", Duration::from_secs(30));
    written(kafka, topic)
}
