//! Sigma rules of our own, as a customer would bring them: `import sigma` makes use cases of them,
//! pySigma makes the rules of ElastAlert that the platform has.

use std::fs;
use std::path::{Path, PathBuf};

use super::here;
use crate::command::{code, err, greenlight};
use crate::peers::{folder, run};
use crate::pipeline::Pipeline;

/// Those of the fixtures whose events this pipeline takes and whose fields it has.
fn files() -> Vec<PathBuf> {
    let all = fs::read_dir(here().join("tests/fixtures/sigma")).expect("they are there").flatten();
    let mut files: Vec<PathBuf> = all.map(|entry| entry.path()).collect();
    files.retain(|file| {
        let name = file.file_name().expect("it has a name").to_string_lossy();
        name.starts_with("e2e-") && name.ends_with(".yml")
    });
    files.sort();
    assert_eq!(files.len(), 10, "{files:?}");
    files
}

/// What the use cases of the rules are called.
pub(super) fn names() -> Vec<String> {
    let stem = |file: &PathBuf| file.file_stem().expect("it has a name").to_string_lossy().into();
    files().iter().map(stem).collect()
}

/// Makes use cases of the rules.
pub(super) fn import(to: &Path) {
    let files: Vec<String> = files().iter().map(|file| file.display().to_string()).collect();
    let to = to.display().to_string();
    let mut arguments = vec!["import", "sigma", "--to", &to];
    arguments.extend(files.iter().map(String::as_str));
    let output = greenlight(&arguments);
    assert_eq!(code(&output), 0, "{}", err(&output));
}

/// Makes rules of ElastAlert of them.
pub(super) fn rules() -> Vec<(String, String)> {
    let to = folder("sigma");
    let python = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peers/elastalert/bin/python");
    let script = here().join("tests/peers/elastalert/convert.py");
    let mut arguments = vec![script.display().to_string(), to.display().to_string()];
    arguments.extend(files().iter().map(|file| file.display().to_string()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let made = run(&python.display().to_string(), "python3-venv", &arguments, "");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    super::texts(&to, "yaml")
        .into_iter()
        .map(|(name, text)| (format!("{name}.yaml"), text))
        .collect()
}

/// Their events may have a syslog header of their own, with no place for a run: they are looked for
/// where it is told of them.
pub(super) fn journey(name: &str, pipeline: &Pipeline, alerted: &str, told: &str) -> String {
    let stage = super::stage();
    // The line of a proxy has no header: a shipper puts one before it.
    let shipped = if name == "e2e-proxy" { ", format: rfc5424, app: squid" } else { "" };
    format!(
        "  - id: {name}\n    every: 30s\n    timeout: 20s\n    send: {{ {} }}\n    \
         events: {{ usecase: {name}{shipped} }}\n    must_not_alert: true\n    stages:\n      \
         - alerted: {{ {alerted}, {stage} }}\n      - notified: {{ {told}, {stage} }}\n",
        pipeline.by_tcp()
    )
}
