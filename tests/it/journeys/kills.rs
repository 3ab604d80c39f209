//! kill -9 at any moment: no event is lost, sent twice or counted wrongly, and every round that was
//! begun ends.

use std::collections::{BTreeMap, BTreeSet};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rdkafka::Message as _;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;

use super::{Fates, Journey, PARTITIONS, counts, row, topics, until, written};
use crate::command::{Daemon, folder_with};
use crate::peers::{Kafka, kafka};
use crate::processor::{Act, Processor};

const KILLS: u64 = 50;
const EVENTS: u64 = 5;
const IDS: [&str; 3] = ["kills-a", "kills-b", "kills-c"];

/// The database as the killed process left it, its log included.
fn database(state: &Path) -> Connection {
    let file = state.join("greenlight.db");
    let db = Connection::open_with_flags(&file, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .expect("the database can be opened");
    let found: String = db
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .expect("the database can be read");
    assert_eq!(found, "ok");
    db
}

/// Each round on disk, with its tally where it has ended.
fn rounds(db: &Connection) -> BTreeMap<String, (String, Option<Value>)> {
    let mut statement = db.prepare("SELECT run, journey, tally FROM round").expect("the table");
    let rows = statement.query_map([], |row| {
        let tally: Option<String> = row.get(2)?;
        Ok((row.get(0)?, (row.get(1)?, tally)))
    });
    rows.expect("rows")
        .map(|row| {
            let (run, (journey, tally)): (String, (String, Option<String>)) = row.expect("a row");
            (run, (journey, tally.map(|tally| serde_json::from_str(&tally).expect("JSON"))))
        })
        .collect()
}

/// Every copy of every event that reached a topic, by run and sequence number.
fn copies(kafka: &Kafka, topic: &str) -> BTreeMap<(String, u64), u64> {
    let consumer: BaseConsumer =
        kafka.config().set("group.id", "copies").create().expect("a valid configuration");
    let mut all = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        all.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset");
    }
    consumer.assign(&all).expect("it can be assigned");
    let count = written(kafka, topic);
    let mut found = BTreeMap::new();
    let deadline = Instant::now() + Duration::from_secs(30);
    for _ in 0..count {
        let message = loop {
            assert!(Instant::now() < deadline, "the topic could not be read whole");
            if let Some(message) = consumer.poll(Duration::from_millis(100)) {
                break message.expect("kafka answers");
            }
        };
        let event: Value =
            serde_json::from_slice(message.payload().expect("a payload")).expect("JSON");
        let run = event["greenlight.run"].as_str().expect("a run").to_owned();
        let seq = event["greenlight.seq"].as_u64().expect("a number");
        *found.entry((run, seq)).or_default() += 1;
    }
    found
}

fn random(below: u64) -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("random bytes");
    u64::from_le_bytes(bytes) % below
}

#[test]
fn journeys_survive_kill_9_at_any_moment() {
    let kafka = kafka();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let port = listener.local_addr().expect("it has an address").port();
    let all: Vec<_> = IDS.iter().map(|id| topics(kafka, id)).collect();
    let plan = |every: &str| {
        let mut plan = format!(
            "node: {{ name: n1 }}\nchecks: [ {{ id: port, tcp: {{}}, targets: [ '127.0.0.1:{port}' ], every: 200ms }} ]\njourneys:\n"
        );
        for (id, topics) in IDS.iter().zip(&all) {
            let journey = Journey {
                id,
                topics,
                events: EVENTS,
                every,
                timeout: "12s",
                within: "12s",
                give_up: "12s",
            };
            plan += &journey.yaml(&kafka.brokers, &kafka.brokers);
        }
        plan += "gates:\n  - { id: port.open, require: { ratio: check.success, where: { check: port }, over: 5s, above: 90% } }\n";
        for id in IDS {
            plan += &format!(
                "  - {{ id: {id}.loss, require: {{ loss: {id}, over: 10s, below: 1 }} }}\n"
            );
        }
        plan
    };
    let _processors: Vec<_> =
        all.iter().map(|topics| Processor::start(kafka, topics, |_| Act::Pass)).collect();
    let (folder, loaded) = folder_with(&plan("300ms"));
    let (_quiet, quiet) = folder_with(&plan("1h"));
    let state = folder.path().join("state");

    let mut begun = BTreeSet::new();
    let mut ended = 0;
    let mut open = 0;
    for kill in 0..KILLS {
        let daemon = Daemon::start(&loaded, &state, &[]);
        std::thread::sleep(Duration::from_millis(random(1_000)));
        let (code, said) = daemon.end(Signal::SIGKILL);
        assert_eq!(code, None, "it was killed, it did not end: {said}");
        assert!(!said.contains("panicked") && !said.contains("corrupt"), "{said}");
        let now = rounds(&database(&state));
        let gone: Vec<_> = begun.iter().filter(|run| !now.contains_key(*run)).collect();
        assert!(gone.is_empty(), "after kill {kill} the store forgot {gone:?}");
        open = open.max(now.values().filter(|(_, tally)| tally.is_none()).count());
        ended = now.values().filter(|(_, tally)| tally.is_some()).count();
        begun.extend(now.into_keys());
    }
    // On a busy machine many a process is killed before its first round.
    assert!(begun.len() as u64 > KILLS / 2, "there was load: {} rounds", begun.len());

    // No further rounds are due: what is left ends by itself.
    let daemon = Daemon::start(&quiet, &state, &[]);
    until("every round that was begun ends", Duration::from_secs(60), || {
        let told: u64 =
            IDS.iter().map(|id| row(&daemon, id)["rounds"].as_u64().expect("a count")).sum();
        told >= begun.len() as u64
    });
    let told: Vec<Value> = IDS.iter().map(|id| row(&daemon, id)).collect();
    let (code, said) = daemon.end(Signal::SIGTERM);
    assert_eq!(code, Some(0), "{said}");

    // The store's rounds, one by one, against what the broker holds.
    let stored = rounds(&database(&state));
    let mut sums: BTreeMap<(String, String), Fates> = BTreeMap::new();
    let mut unknown = 0;
    for (id, topics) in IDS.iter().zip(&all) {
        let copies = copies(kafka, &topics.from);
        assert!(copies.values().all(|count| *count == 1), "an event was sent twice");
        for (run, seq) in copies.keys() {
            assert!(stored.contains_key(run), "{run}/{seq} was sent, and its round is not on disk");
        }
        for (run, (_, tally)) in stored.iter().filter(|(_, (journey, _))| journey == id) {
            let tally = tally.as_ref().unwrap_or_else(|| panic!("{run} never ended"));
            let arrived = (1..=EVENTS).filter(|seq| copies.contains_key(&(run.clone(), *seq)));
            let arrived = arrived.count() as u64;
            let stages = counts(&tally["stages"]);
            assert_eq!(stages.len(), 3, "{run}: {tally}");
            for (stage, (fates, duplicate)) in stages {
                let expected: Fates =
                    [("ok".to_owned(), arrived), ("unknown".to_owned(), EVENTS - arrived)]
                        .into_iter()
                        .filter(|(_, count)| *count > 0)
                        .collect();
                assert_eq!((&fates, duplicate), (&expected, 0), "{run} {stage}: {tally}");
                let sum = sums.entry(((*id).to_owned(), stage)).or_default();
                for (fate, count) in fates {
                    *sum.entry(fate).or_default() += count;
                }
            }
            unknown += EVENTS - arrived;
        }
    }
    assert!(unknown < stored.len() as u64 * EVENTS * 3 / 4, "{unknown} were never sent");
    // What the agent tells after so many recoveries is the sum of what it stored.
    for (id, row) in IDS.iter().zip(&told) {
        for (stage, (fates, duplicate)) in counts(&row["stages"]) {
            assert_eq!(
                (Some(&fates), duplicate),
                (sums.get(&((*id).to_owned(), stage)), 0),
                "{row:#}"
            );
        }
    }
    eprintln!(
        "kill -9: {KILLS} kills, {} rounds ({ended} had ended on disk before the last kill, at most {open} open at once), \
         {} events, {unknown} never sent and unknown, the rest ok; 0 lost, late, refused, duplicate, reordered",
        stored.len(),
        stored.len() as u64 * EVENTS
    );
}
