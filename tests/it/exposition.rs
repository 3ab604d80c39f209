//! What Prometheus is given to scrape, held against Prometheus's own tool.

use std::io::Write as _;
use std::process::{Command, Stdio};

use greenlight::catalogue::{self, Kind};
use greenlight::metrics::{Format, Registry};

/// Every metric of the catalogue, with hostile labels and one value of each sort.
fn full() -> Registry {
    let mut registry = Registry::new(|_| vec![0.003, 7.5]);
    for metric in catalogue::all() {
        for value in ["plain", "with \"quotes\", a \\ and\na line", "ümläut=}{ 1"] {
            let labels: Vec<&str> = metric.labels.iter().map(|_| value).collect();
            match metric.kind {
                Kind::Counter => registry.add(metric, &labels, 1.5),
                Kind::Gauge => registry.set(metric, &labels, 1e-7),
                Kind::Histogram(_) => registry.observe(metric, &labels, 0.003),
            }
        }
    }
    registry
}

#[test]
fn exposition_of_the_whole_catalogue_satisfies_promtool() {
    let mut text = Vec::new();
    full().write(Format::Text, &mut text);
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool, which Debian's package prometheus brings");
    let mut stdin = promtool.stdin.take().expect("a pipe");
    stdin.write_all(&text).expect("promtool reads");
    drop(stdin);
    let out = promtool.wait_with_output().expect("promtool ends");
    let said =
        format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr));
    assert!(out.status.success() && said.is_empty(), "promtool check metrics: {said}");
}

#[test]
fn exposition_as_open_metrics_has_its_marks() {
    let mut text = Vec::new();
    full().write(Format::OpenMetrics, &mut text);
    let text = String::from_utf8(text).expect("UTF-8");
    assert!(text.ends_with("\n# EOF\n") && text.matches("# EOF").count() == 1);
    let mut family = "";
    for line in text.lines().filter(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            family = rest.split(' ').next().unwrap_or_default();
            assert!(!family.ends_with("_total"), "{line}");
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let unit = rest.split(' ').next_back().unwrap_or_default();
            assert!(family.ends_with(&format!("_{unit}")), "{line}");
        } else if line.starts_with("# ") {
            assert!(line.starts_with(&format!("# HELP {family} ")), "{line}");
        } else {
            assert!(line.starts_with(family), "{line} is not of {family}");
        }
    }
}
