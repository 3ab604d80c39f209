//! What made other canaries say wrong things, and the test that keeps Greenlight from it:
//! `docs/traps.md` is made of this.

use std::fmt::Write as _;
use std::path::Path;

use crate::tidy::{committed, tests};

enum Held {
    /// A test of this binary, or of the library.
    Test(&'static str),
    /// A case file of the walk, and what is held by it.
    Case(&'static str),
    /// No test, and why.
    None(&'static str),
}
use Held::{Case, Test};

const SPARED: Held = Test("nothing_is_invented_over_reconnects_outages_and_restarts");
const KILLED: Held = Test("journeys_survive_kill_9_at_any_moment");
const BROKER: Held = Test("kafka_restart_in_the_middle_loses_repeats_and_reorders_nothing");

/// The trap, who fell into it, what holds it.
const TRAPS: &[(&str, &str, &[Held])] = &[
    (
        "A reader that reconnects reads again: bursts of duplicates and of unexpected events",
        "Loki Canary",
        &[Case("reconnect_replays_everything"), Case("same_copy_seen_twice"), SPARED],
    ),
    (
        "An event is seen before its send is noted",
        "Loki Canary",
        &[Case("seen_before_its_receipt"), Test("journeys_send_nothing_that_is_not_on_disk_first")],
    ),
    (
        "Two instances under one label take each other's events for their own",
        "Loki Canary",
        &[Case("strangers_are_not_counted"), KILLED],
    ),
    (
        "One lost event at the head makes all that follow \"out of order\"",
        "Loki Canary",
        &[Case("lost_head_reorders_nothing"), Case("lost_in_the_middle")],
    ),
    (
        "More events than one answer holds: the rest is missing",
        "Loki Canary",
        &[
            Test("opensearch_finds_exactly_the_rounds_documents"),
            Test("loki_pages_overlap_at_one_instant_and_a_full_instant_is_not_complete"),
        ],
    ),
    (
        "A store that can't be asked is taken for one that lost",
        "Loki Canary, all others",
        &[
            Case("blind_at_give_up"),
            Case("blind_then_complete"),
            Test("an_answer_that_is_not_whole_is_no_absence"),
            SPARED,
        ],
    ),
    (
        "A record that holds two events shows one of them",
        "Greenlight itself, under rsyslog and a file that was copied and cut",
        &[
            Case("one_record_of_two_events"),
            Test("senders_file_that_is_rotated_under_a_shipper_is_counted_exactly"),
        ],
    ),
    (
        "Events are looked for that were never written",
        "Tempo Vulture",
        &[
            Case("unknown_never_seen"),
            Case("unknown_under_way"),
            Test("journeys_judge_a_broker_that_stays_away_by_what_is_known"),
        ],
    ),
    (
        "A query over a random window says this now and that then",
        "Mimir continuous test",
        &[Held::None(
            "no look asks for a window: each asks for the events of one round, by their names",
        )],
    ),
    (
        "A lookback of five minutes hides a gap",
        "Mimir continuous test",
        &[Test("gate_cases"), Test("promql_probe_tells_values_from_silence")],
    ),
    (
        "Partitions are reassigned in the middle of a rolling restart",
        "Strimzi Canary",
        &[Test("kafka_topics_are_never_made"), BROKER],
    ),
    (
        "Metadata that is stale makes a latency of its own, or hides partitions",
        "Strimzi Canary",
        &[
            Test("kafka_new_partitions_are_read_whole_and_old_ones_that_went_back_are_not_seen"),
            BROKER,
        ],
    ),
    (
        "One client both produces and consumes, and fails as one",
        "Strimzi Canary",
        &[Test("kafka_reader_and_writer_each_fail_alone")],
    ),
    (
        "The consumer blocks for ever",
        "Xinfra Monitor",
        &[
            Test("a_round_ends_even_if_nobody_answers"),
            Test("kafka_that_is_not_there_is_no_loss_and_blinds"),
            Test("journeys_judge_a_broker_that_stays_away_by_what_is_known"),
        ],
    ),
    (
        "A restart begins the sequence anew and calls the rest duplicates or lost",
        "Xinfra Monitor",
        &[
            Case("restart_in_the_middle"),
            Case("restart_after_all_receipts"),
            KILLED,
            Test("after_a_reboot_the_windows_go_on_from_the_store"),
        ],
    ),
    (
        "Nothing is produced after the first start, until the metadata is there",
        "kminion",
        &[Test("journeys_count_each_fault_of_a_foreign_processor_exactly")],
    ),
    (
        "Events that look alike are dropped as duplicates on their way",
        "Loki, ClickHouse and processors that drop what they have seen",
        &[Test("content_varies_from_event_to_event")],
    ),
    (
        "Padding of one byte makes a compressed throughput mean nothing",
        "Loki Canary",
        &[Test("padding_does_not_compress_away")],
    ),
];

#[test]
fn the_table_of_traps_is_what_the_tests_say() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = tests("tests/it");
    all.extend(tests("src"));
    let mut wrong = Vec::new();
    let mut text = String::from(
        "# What made other canaries say wrong things\n\n\
         Made by a test from `tests/it/pipeline/traps.rs`; it fails where a test or a case file \
         named here is not there. Beside these, `each_broken_link_is_named_by_its_stage_with_the_exact_count` \
         breaks each link of a real pipeline in turn (tests/it/pipeline/broken.rs).\n\n\
         | trap | who fell into it | held by |\n| --- | --- | --- |\n",
    );
    for (trap, whose, held) in TRAPS {
        let names: Vec<String> = held
            .iter()
            .map(|held| match held {
                Test(name) => match all.get(*name) {
                    Some((file, _)) => format!("`{name}` ({file})"),
                    None => {
                        wrong.push(format!("{trap}: there is no test {name}"));
                        String::new()
                    }
                },
                Case(name) => {
                    let file = format!("tests/cases/journey/{name}.yaml");
                    if !root.join(&file).is_file() {
                        wrong.push(format!("{trap}: there is no {file}"));
                    }
                    format!("case `{name}` ({file})")
                }
                Held::None(why) => (*why).to_owned(),
            })
            .collect();
        let _ = writeln!(text, "| {trap} | {whose} | {} |", names.join("<br>"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    committed("docs/traps.md", &text);
}
