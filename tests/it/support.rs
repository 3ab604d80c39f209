//! Which way in and which way to see has met what: `docs/support.md` is made of this and of the
//! kinds that there are.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use greenlight::client::rules::Engine;

use crate::tidy::{committed, tests};

/// What a kind was tried against.
enum Met {
    /// The server itself, and the tests that start it.
    Real(&'static str, &'static [&'static str]),
    /// Answers in a file of `tests/fixtures`, whose first line says where they come from.
    Fixture(&'static str, &'static [&'static str]),
    /// A stand-in of the test's own, written from this document.
    Written(&'static str, &'static [&'static str]),
}
use Met::{Fixture, Real, Written};

const WAYS_IN: &[(&str, &[Met])] = &[
    (
        "amqp",
        &[Real(
            "RabbitMQ 3.10",
            &["senders_amqp_is_confirmed_by_rabbitmq_and_what_has_no_queue_comes_back"],
        )],
    ),
    (
        "bulk",
        &[
            Real(
                "OpenSearch 2.19",
                &["senders_bulk_has_an_answer_of_opensearch_for_each_document"],
            ),
            Fixture("send/bulk.txt", &["property_answers_of_bulk"]),
        ],
    ),
    (
        "file",
        &[Real(
            "rsyslog 8.2302, imfile, under rotation by name and by copy",
            &[
                "senders_file_appends_whole_lines_and_rotates_without_losing_one",
                "senders_file_that_is_rotated_under_a_shipper_is_counted_exactly",
            ],
        )],
    ),
    (
        "gelf",
        &[Written(
            "Graylog's documentation \"GELF Payload Specification\"",
            &["senders_gelf_goes_in_datagrams_chunks_streams_and_posts"],
        )],
    ),
    (
        "http",
        &[Written(
            "RFC 9110, RFC 2104 and GitHub's guide \"Validating webhook deliveries\"",
            &[
                "http_sender_has_a_receipt_for_every_way_a_request_can_end",
                "senders_http_signs_compresses_and_waits_as_long_as_it_is_asked_to",
            ],
        )],
    ),
    (
        "journald",
        &[
            Real(
                "systemd-journald 252, read by journalctl",
                &["senders_journald_writes_what_journalctl_reads"],
            ),
            Written(
                "systemd's document \"Native Journal Protocol\"",
                &["senders_journald_entries_are_those_of_the_native_protocol"],
            ),
        ],
    ),
    (
        "kafka",
        &[Real(
            "Apache Kafka 4 (PLAINTEXT; SASL_SSL with PLAIN, SCRAM and OAUTHBEARER)",
            &[
                "kafka_shows_exactly_what_was_sent_over_all_partitions",
                "kafka_logs_in_over_tls_and_says_why_where_it_may_not",
                "kafka_logs_in_by_a_token_that_is_read_anew",
            ],
        )],
    ),
    (
        "loki",
        &[
            Fixture("send/loki.txt", &["property_answers_of_loki"]),
            Fixture("send/loki-partial.txt", &["property_answers_of_loki"]),
        ],
    ),
    (
        "otlp",
        &[
            Fixture("send/otlp.txt", &["property_answers_of_otlp"]),
            Fixture("send/otlp-partial.txt", &["property_answers_of_otlp"]),
        ],
    ),
    (
        "relp",
        &[Real(
            "rsyslog 8.2302, imrelp, plain and TLS with certificates on both sides",
            &["senders_syslog_reaches_rsyslog_by_every_way_it_has"],
        )],
    ),
    ("splunk_hec", &[Fixture("send/splunk_hec.txt", &["property_answers_of_splunk_hec"])]),
    (
        "syslog",
        &[
            Real(
                "rsyslog 8.2302: UDP, TCP with both framings, TLS with certificates on both sides, a local socket",
                &[
                    "senders_syslog_reaches_rsyslog_by_every_way_it_has",
                    "syslog_reaches_rsyslog_whole_and_in_order_in_both_framings",
                ],
            ),
            Real(
                "syslog-ng 3.38: UDP, TCP with both framings, TLS with certificates on both sides",
                &["senders_syslog_reaches_syslog_ng_by_every_way_it_has"],
            ),
        ],
    ),
];

/// Its rules and its Alertmanager are asked by the ways to see that Prometheus' own are asked by.
const GRAFANAS_ALERTS: Met = Fixture(
    "grafana/alerting.jsonl",
    &[
        "grafanas_alerts_are_seen_as_a_real_one_showed_them",
        "grafanas_alerts_that_came_damaged_are_never_complete_by_half",
    ],
);

const WAYS_TO_SEE: &[(&str, &[Met])] = &[
    (
        "alertmanager",
        &[
            Real(
                "Prometheus Alertmanager of Debian 12",
                &["a_real_alertmanager_is_seen_raising_notifying_and_silencing"],
            ),
            GRAFANAS_ALERTS,
        ],
    ),
    (
        "elastalert",
        &[
            Real(
                "ElastAlert 2.19 over OpenSearch 2.19",
                &[
                    "every_use_case_is_alerted_and_told_of_once_and_no_twin_is",
                    "each_broken_link_behind_the_store_is_named_by_its_stage_and_why",
                ],
            ),
            Written(
                "ElastAlert 2.19's own source: the documents that it writes, in OpenSearch 2.19",
                &["elastalert_shows_its_alerts_and_says_why_there_is_none"],
            ),
        ],
    ),
    (
        "clickhouse",
        &[
            Real(
                "ClickHouse 18.16 of Debian 12, which is of 2018",
                &["clickhouse_finds_exactly_the_rounds_rows"],
            ),
            Real(
                "the engine of ClickHouse 26.9 (chDB), behind an HTTP interface of the tests",
                &["clickhouse_of_today_takes_the_round_as_a_parameter"],
            ),
        ],
    ),
    (
        "elasticsearch",
        &[
            Real("Elasticsearch 7.10", &["elasticsearch_finds_exactly_the_rounds_documents"]),
            Fixture(
                "stores/elastic-security.json",
                &[
                    "alerts_in_an_index_are_the_rounds_by_name_and_by_time",
                    "property_answers_with_alerts",
                ],
            ),
        ],
    ),
    (
        "file",
        &[Real(
            "the kernel's own files",
            &[
                "a_copied_and_cut_file_is_read_on_in_its_copy",
                "a_renamed_file_is_read_to_its_end_and_the_new_one_from_its_beginning",
                "what_was_rotated_away_unread_is_never_complete_again",
                "a_file_shows_the_notifications_that_name_the_round",
            ],
        )],
    ),
    (
        "grafana",
        &[
            Fixture(
                "grafana/recorded.jsonl",
                &[
                    "panels_of_a_real_grafana_show_the_number_that_is_stored",
                    "what_was_recorded_is_shown_as_grafanas_own_package_shows_it",
                ],
            ),
            Written(
                "Grafana's HTTP API reference",
                &[
                    "grafana_compares_what_the_panel_shows",
                    "grafana_reads_a_library_panel_with_the_values_of_its_variables",
                    "a_panel_that_is_as_expected_is_held_against_its_data_source_too",
                ],
            ),
            Written(
                "Grafana's documentation \"Share panel\", its direct link to a rendered image; no image renderer was met",
                &[
                    "grafana_draws_what_it_has_read",
                    "what_is_no_picture_of_the_panel_is_said_and_changes_no_number",
                    "a_report_names_the_picture_of_a_panel_and_one_that_fails_changes_no_verdict",
                ],
            ),
            Written(
                "what the browser computes, held against its packages @grafana/data and @grafana/prometheus 13.2.3",
                &[
                    "series_of_prometheus_are_shaped_as_its_data_source_shapes_them",
                    "columns_are_reduced_as_grafana_reduces_them",
                    "frames_are_transformed_as_grafana_transforms_them",
                    "values_are_written_with_their_units_as_grafana_writes_them",
                    "panels_show_what_grafana_shows",
                ],
            ),
            Fixture(
                "grafana/ds-query.jsonl",
                &["answers_of_the_data_sources_are_shown_as_their_panels_show_them"],
            ),
        ],
    ),
    (
        "imap",
        &[Real(
            "Dovecot 2.3 of Debian 12, by TLS and STARTTLS, with LOGIN, AUTHENTICATE PLAIN, OAUTHBEARER and XOAUTH2; a written session, mutated",
            &[
                "imap_logs_in_where_a_server_takes_no_login_and_by_a_token",
                "imap_reads_what_reached_the_mailbox_and_changes_nothing_there",
                "imap_never_takes_what_it_could_not_read_for_an_empty_mailbox",
                "property_imap_sessions",
            ],
        )],
    ),
    (
        "json_api",
        &[
            Written(
                "OpenSearch's search API reference",
                &["json_api_finds_the_rounds_events_in_hits"],
            ),
            Fixture(
                "stores/elastic-security.json",
                &["alerts_in_an_index_are_the_rounds_by_name_and_by_time"],
            ),
        ],
    ),
    (
        "kafka",
        &[Real("Apache Kafka 4", &["kafka_shows_exactly_what_was_sent_over_all_partitions"])],
    ),
    ("loki", &[Fixture("stores/loki.json", &["loki_reads_page_by_page", "mutated_answers"])]),
    (
        "opensearch",
        &[
            Real(
                "OpenSearch 2.19",
                &[
                    "opensearch_finds_exactly_the_rounds_documents",
                    "a_wrong_tenant_sees_nothing_of_what_the_right_one_sees",
                ],
            ),
            Fixture(
                "stores/opensearch-alerts.json",
                &[
                    "opensearch_alerting_shows_its_alerts_and_says_why_there_is_none",
                    "property_answers_with_alerts",
                ],
            ),
            Fixture(
                "stores/wazuh.json",
                &[
                    "alerts_in_an_index_are_the_rounds_by_name_and_by_time",
                    "property_answers_with_alerts",
                ],
            ),
        ],
    ),
    (
        "postgres",
        &[Real(
            "PostgreSQL 15 of Debian 12, with and without TLS; its answers mutated on the wire; no standby",
            &[
                "postgres_finds_exactly_the_rounds_rows_and_cannot_write",
                "postgres_asks_for_a_password_and_checks_the_certificate",
                "postgres_behind_a_wire_that_damages_its_answers_is_never_complete_by_half",
            ],
        )],
    ),
    (
        "promql",
        &[
            Real(
                "Prometheus of Debian 12, its alerts and rules too",
                &[
                    "a_real_prometheus_answers_probe_and_confirmer",
                    "a_real_prometheus_shows_its_alerts_and_its_rules",
                ],
            ),
            GRAFANAS_ALERTS,
        ],
    ),
    (
        "saved_visualization",
        &[
            Real(
                "OpenSearch 2.19, which is searched",
                &["a_saved_visualization_is_asked_of_the_cluster_as_it_asks"],
            ),
            Written(
                "the saved objects API of OpenSearch Dashboards and of Kibana 7",
                &["a_saved_visualization_is_asked_of_the_cluster_as_it_asks"],
            ),
        ],
    ),
    (
        "splunk",
        &[
            Fixture(
                "stores/splunk-results.json",
                &["splunk_awaits_its_job_and_heeds_its_messages", "mutated_answers"],
            ),
            Fixture(
                "stores/splunk-notable.json",
                &[
                    "alerts_in_an_index_are_the_rounds_by_name_and_by_time",
                    "property_answers_with_alerts",
                ],
            ),
            Fixture(
                "stores/splunk-fired.json",
                &[
                    "splunk_shows_what_a_saved_search_fired_and_says_why_there_is_none",
                    "property_answers_with_alerts",
                ],
            ),
        ],
    ),
    (
        "victorialogs",
        &[Fixture(
            "stores/victorialogs.jsonl",
            &["victorialogs_reads_lines_to_their_end", "mutated_answers"],
        )],
    ),
    (
        "webhook",
        &[
            Real(
                "Prometheus Alertmanager of Debian 12, which sends to it",
                &["a_real_alertmanager_is_seen_raising_notifying_and_silencing"],
            ),
            Fixture(
                "grafana/alerting.jsonl",
                &["grafanas_notifications_are_taken_as_a_real_one_sends_them"],
            ),
        ],
    ),
];

/// By the engine that runs a rule: what it says of itself, and what follows.
const RULES: &[(&str, &[Met])] = &[
    (
        "prometheus",
        &[
            Real("Prometheus of Debian 12", &["a_real_prometheus_shows_its_alerts_and_its_rules"]),
            Fixture("stores/prometheus-rules.json", RULE_TESTS),
        ],
    ),
    (
        "grafana",
        &[
            Fixture("stores/grafana-alert-rules.json", RULE_TESTS),
            Fixture("stores/grafana-rules.json", RULE_TESTS),
        ],
    ),
    ("opensearch_alerting", &[Fixture("stores/opensearch-monitors.json", RULE_TESTS)]),
    ("elastic_security", &[Fixture("stores/elastic-rules.json", RULE_TESTS)]),
    ("splunk", &[Fixture("stores/splunk-saved-searches.json", RULE_TESTS)]),
    (
        "elastalert",
        &[
            Real(
                "ElastAlert 2.19 over OpenSearch 2.19",
                &["each_broken_link_behind_the_store_is_named_by_its_stage_and_why"],
            ),
            Fixture("stores/elastalert-status.json", RULE_TESTS),
        ],
    ),
];

const RULE_TESTS: &[&str] =
    &["a_rule_of_each_engine_says_when_its_alert_is_due", "property_answers_with_rules"];

fn rows(
    text: &mut String,
    kinds: &[&str],
    listed: &[(&str, &[Met])],
    tests: &BTreeMap<String, (String, String)>,
) -> Vec<String> {
    let mut wrong = Vec::new();
    text.push_str("\n| kind | tried against | how | tests |\n| --- | --- | --- | --- |\n");
    for kind in kinds {
        let Some((_, met)) = listed.iter().find(|(name, _)| name == kind) else {
            wrong.push(format!("{kind}: nothing says what it was tried against"));
            continue;
        };
        for one in *met {
            let (how, what, names) = match one {
                Real(server, names) => ("real server", (*server).to_owned(), names),
                Fixture(file, names) => {
                    let path =
                        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(file);
                    let text = fs::read_to_string(&path).unwrap_or_default();
                    let first = text.lines().next().unwrap_or_default().to_owned();
                    let how = if first.starts_with("recorded from ") {
                        "recorded fixture, mutated"
                    } else if first.starts_with("written from ") {
                        "never met the real server: fixture, mutated"
                    } else {
                        wrong.push(format!("{kind}: {file} does not say where it comes from"));
                        continue;
                    };
                    (how, first, names)
                }
                Written(document, names) => (
                    "never met the real server: stand-in",
                    format!("written from {document}"),
                    names,
                ),
            };
            let mut cells = Vec::new();
            for name in *names {
                match tests.get(*name) {
                    Some((file, _)) => cells.push(format!("`{name}` ({file})")),
                    None => wrong.push(format!("{kind}: there is no test {name}")),
                }
            }
            let _ = writeln!(text, "| `{kind}` | {what} | {how} | {} |", cells.join("<br>"));
        }
    }
    let gone = listed.iter().filter(|(name, _)| !kinds.contains(name));
    wrong.extend(gone.map(|(name, _)| format!("{name}: there is no such kind")));
    wrong
}

#[test]
fn the_table_of_support_is_what_the_kinds_and_the_tests_say() {
    let mut all = tests("src");
    all.extend(tests("tests/it"));
    let mut text = String::from(
        "# What has met which server\n\n\
         Made by a test from the kinds that there are and from `tests/it/support.rs`; the test \
         fails where they disagree.\n\n\
         - **real server**: the test starts it from a package.\n\
         - **recorded fixture**: answers that the real server gave once, as they were and mutated.\n\
         - **never met the real server**: answers or a stand-in written from a document; where it \
         is a fixture, also mutated.\n\n\
         ## Ways in\n",
    );
    let ways: Vec<&str> = greenlight::send::kinds().iter().map(|kind| kind.kind).collect();
    let mut wrong = rows(&mut text, &ways, WAYS_IN, &all);
    text.push_str("\n## Ways to see\n");
    let looks: Vec<&str> = greenlight::confirm::kinds().iter().map(|kind| kind.kind).collect();
    wrong.extend(rows(&mut text, &looks, WAYS_TO_SEE, &all));
    text.push_str("\n## Rules behind alerts\n");
    let engines: Vec<&str> = Engine::ALL.iter().map(|engine| engine.word()).collect();
    wrong.extend(rows(&mut text, &engines, RULES, &all));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    committed("docs/support.md", &text);
}
