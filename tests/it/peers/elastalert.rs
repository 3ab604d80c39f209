//! ElastAlert 2, asking the shared OpenSearch every second or so: each test has its own, with rules
//! and an index of alerts of its own.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Process, folder, opensearch, post, run};

const REQUIREMENTS: &str = include_str!("../../peers/elastalert/requirements.txt");

pub(crate) struct ElastAlert {
    /// Where it writes down what it has told.
    pub(crate) index: String,
    process: Process,
}

impl ElastAlert {
    /// Starts it on this index with these rules, by file name; what they have in common, and where
    /// they tell of alerts, is in `base.yaml`.
    pub(crate) fn start(index: &str, alertmanager: &str, rules: &[(String, String)]) -> Self {
        let home: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peers/elastalert");
        assert!(
            fs::read_to_string(home.join("requirements.txt")).is_ok_and(|is| is == REQUIREMENTS),
            "elastalert is not fetched (see {}): run tests/run, or tests/peers/fetch",
            home.display()
        );
        let folder = folder("elastalert");
        fs::create_dir(folder.join("rules")).expect("the folder can be written");
        let store = opensearch().url.rsplit(':').next().expect("it ends with a port").to_owned();
        let words = [
            ("@FOLDER@", folder.display().to_string()),
            ("@STORE@", store),
            ("@INDEX@", index.to_owned()),
            ("@ALERTMANAGER@", alertmanager.to_owned()),
        ];
        let files = [
            ("config.yaml", include_str!("../../peers/elastalert/config.yaml")),
            ("base.yaml", include_str!("../../peers/elastalert/base.yaml")),
        ];
        for (name, text) in files {
            let text = words.iter().fold(text.to_owned(), |text, (w, v)| text.replace(w, v));
            fs::write(folder.join(name), text).expect("the folder can be written");
        }
        for (name, text) in rules {
            fs::write(folder.join("rules").join(name), text).expect("the folder can be written");
        }
        let config = folder.join("config.yaml").display().to_string();
        let program = |name: &str| home.join("bin").join(name).display().to_string();
        let made =
            run(&program("elastalert-create-index"), "python3-venv", &["--config", &config], "");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let log = folder.join("elastalert.log");
        let mut process = Process::start(
            &program("python"),
            "python3-venv",
            &["-u", "-m", "elastalert.elastalert", "--config", &config, "--verbose"],
            &log,
        );
        process.wait_until(|| {
            fs::read_to_string(&log).is_ok_and(|said| said.contains("elastalert:Starting up"))
        });
        Self { index: format!("{index}-alerts"), process }
    }

    /// All that it has told of so far, as it wrote it down.
    pub(crate) fn told(&self) -> Vec<Value> {
        let search =
            json!({"size": 1_000, "query": {"exists": {"field": "alert_sent"}}}).to_string();
        let url = opensearch().at(&format!("{}/_search", self.index));
        let (status, body) = post(&url, "application/json", &search).expect("it answers");
        assert_eq!(status, 200, "{body}");
        let answer: Value = serde_json::from_str(&body).expect("it sends JSON");
        let hits = answer["hits"]["hits"].as_array().expect("hits");
        hits.iter().map(|hit| hit["_source"].clone()).collect()
    }

    /// Whether it has written down a run of the rule.
    pub(crate) fn has_run(&self, rule: &str) -> bool {
        let at = format!("{}/{}_status/_search", opensearch().url, self.index);
        let query = json!({"query": {"match_phrase": {"rule_name": rule}}}).to_string();
        let answer = post(&at, "application/json", &query);
        let answer = answer.filter(|(status, _)| *status == 200);
        let answer = answer.and_then(|(_, body)| serde_json::from_str::<Value>(&body).ok());
        answer.is_some_and(|body| body["hits"]["hits"].as_array().is_some_and(|h| !h.is_empty()))
    }

    pub(crate) fn last_words(&self) -> String {
        self.process.last_words()
    }
}
