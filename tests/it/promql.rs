//! The agent's verdicts against Prometheus' own answers, over thousands of generated series: what
//! the agent judged from its samples, a real Prometheus is asked of what it scraped.
//!
//! Each series is scraped every 15 s into OpenMetrics text, which promtool makes blocks of, and
//! Prometheus answers over those blocks at the instant at which the agent judged.

use std::collections::BTreeMap;

use greenlight::gate::Verdict;
use greenlight::gate::promql::{extra_boundaries, promql};

use crate::peers::{self, Process, folder, free_port, promtool};

mod generated;
mod scraped;

use generated::{Generated, Random, generate};
use scraped::Scraped;

/// How many series are generated.
const SERIES: usize = 3_000;
const SCRAPE: f64 = 15.0;
/// The instant of judging and asking, in seconds since 1970.
const END: f64 = 1_700_000_000.0;

/// A Prometheus over blocks made of this text.
fn prometheus_of(text: &str) -> (String, Process) {
    let folder = folder("promql");
    let file = folder.join("scraped.txt");
    std::fs::write(&file, text).unwrap();
    let tsdb = folder.join("tsdb");
    let (good, said) = promtool(
        &[
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            &file.display().to_string(),
            &tsdb.display().to_string(),
        ],
        "",
    );
    assert!(good, "{said}");
    std::fs::write(folder.join("prometheus.yml"), "global: { scrape_interval: 15s }\n").unwrap();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut process = Process::start(
        "prometheus",
        "prometheus",
        &[
            &format!("--config.file={}", folder.join("prometheus.yml").display()),
            &format!("--storage.tsdb.path={}", tsdb.display()),
            &format!("--web.listen-address=127.0.0.1:{port}"),
            "--storage.tsdb.retention.time=100y",
        ],
        &folder.join("prometheus.log"),
    );
    let ready = format!("{url}/-/ready");
    process.wait_until(|| peers::get(&ready).is_some_and(|(status, _)| status == 200));
    std::fs::remove_file(&file).unwrap();
    (url, process)
}

/// The one number that a query answers with at the instant of judging; None for no answer.
fn ask(agent: &ureq::Agent, url: &str, query: &str) -> Option<f64> {
    let mut answer = agent
        .post(format!("{url}/api/v1/query"))
        .send_form([("query", query), ("time", &END.to_string())])
        .unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["status"], "success", "{query}: {text}");
    let result = json["data"]["result"].as_array().unwrap();
    assert!(result.len() <= 1, "{query}: {text}");
    result.first().map(|row| row["value"][1].as_str().unwrap().parse().unwrap())
}

#[test]
fn prometheus_agrees_with_the_agent() {
    // Another one can be given, to look further.
    let given = std::env::var("GREENLIGHT_TEST_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or(20_261_122);
    let mut random = Random(seed);
    let all: Vec<Generated> = (0..SERIES).map(|index| generate(index, &mut random)).collect();
    let extra = extra_boundaries(all.iter().map(|one| &one.gate));
    assert!(extra.values().all(|list| list.len() <= 8));
    let mut scraped = Scraped::default();
    for one in &all {
        scraped.add(one, &extra);
    }
    let (url, _process) = prometheus_of(&scraped.text());
    let client: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();

    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut functions: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let (mut open, mut reset, mut moved, mut must, mut also) = (0, 0, 0, 0, 0);
    let mut disagreements = Vec::new();
    for one in &all {
        let finding = one.judge();
        *verdicts.entry(finding.verdict.word()).or_default() += 1;
        let query = promql(&one.gate, &extra).unwrap();
        let answer = ask(&client, &url, &query);
        let word = format!("{:?}", one.criterion().function);
        let place = functions.entry(word).or_default();
        place.1 += 1;
        let covered = finding.covered_seconds.is_none_or(|covered| covered >= one.window - 1e-6);
        let decided = matches!(finding.verdict, Verdict::Pass | Verdict::Fail);
        if !covered || !decided {
            open += 1;
            continue;
        }
        let agent = f64::from(finding.verdict == Verdict::Pass);
        if one.resets() {
            reset += 1;
        } else if one.movable() {
            moved += 1;
            also += usize::from(answer == Some(agent));
        } else {
            must += 1;
            place.0 += 1;
            if answer != Some(agent) {
                disagreements.push(format!(
                    "{} {:?} since {} window {}: agent {agent}, prometheus {answer:?}\n  {finding:?}\n  {query}",
                    one.check,
                    one.criterion().function,
                    one.since - END,
                    one.window,
                ));
            }
        }
    }
    eprintln!(
        "promql: {SERIES} series (seed {seed}), {} samples scraped, verdicts {verdicts:?}: {must} must agree \
         ({:.1} %), {} disagree; not covered or not decided {open}, reset {reset}, within what \
         extrapolation can move {moved} (of which {also} agree all the same); by function {functions:?}",
        scraped.samples,
        must as f64 / SERIES as f64 * 100.0,
        disagreements.len(),
    );
    assert!(disagreements.is_empty(), "{}", disagreements[..disagreements.len().min(5)].join("\n"));
    assert!(must * 100 >= SERIES * 95, "only {must} of {SERIES} must agree");
    assert!(verdicts["pass"] > SERIES / 5 && verdicts["fail"] > SERIES / 5, "{verdicts:?}");
}
