//! OpenSearch and Elasticsearch, one node each: plain HTTP on loopback, no login. All tests share
//! them, use indices of their own and never stop them.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use serde_json::{Value, json};

use super::{Process, folder, free_port, get, post, require};

/// A node of either.
pub(crate) struct Search {
    pub(crate) url: String,
    process: Mutex<Process>,
}

pub(crate) fn opensearch() -> &'static Search {
    static SHARED: OnceLock<Search> = OnceLock::new();
    SHARED.get_or_init(own_opensearch)
}

pub(crate) fn elasticsearch() -> &'static Search {
    static SHARED: OnceLock<Search> = OnceLock::new();
    SHARED.get_or_init(|| {
        let pom = include_str!("../../peers/elasticsearch/pom.xml");
        let main = MAIN.replace("opensearch", "elasticsearch");
        start("elasticsearch", pom, &main.replace("OpenSearch", "Elasticsearch"))
    })
}

/// A node for one test alone, which may stop it.
pub(crate) fn own_opensearch() -> Search {
    start("opensearch", include_str!("../../peers/opensearch/pom.xml"), MAIN)
}

/// What starts either, as `tests/peers/fetch` compiles it.
const MAIN: &str = include_str!("../../peers/opensearch/Main.java");

fn start(name: &str, pom: &str, main: &str) -> Search {
    require("java", "default-jre-headless");
    let folder = folder(name);
    let port = free_port();
    let mut process = Process::start(
        "java",
        "default-jre-headless",
        &[
            "-XX:TieredStopAtLevel=1",
            "-Xms512m",
            "-Xmx512m",
            "-cp",
            &class_path(name, pom, main),
            "Main",
            &port.to_string(),
            &folder.join("home").display().to_string(),
        ],
        &folder.join(format!("{name}.log")),
    );
    let url = format!("http://127.0.0.1:{port}");
    let health = format!("{url}/_cluster/health?wait_for_status=yellow&timeout=1s");
    process.wait_until(|| get(&health).is_some_and(|(status, _)| status == 200));
    let search = Search { url, process: Mutex::new(process) };
    search.warm_up();
    search
}

impl Search {
    /// The first requests to a cold JVM take seconds: they are made here, not in a test's time.
    fn warm_up(&self) {
        self.index("warm-up", &[json!({"message": "one"}), json!({"message": "two"})]);
        let search = json!({"query": {"match_phrase": {"message": "one"}}}).to_string();
        for _ in 0..2 {
            let answer = post(&self.at("warm-up/_search"), "application/json", &search);
            assert!(answer.as_ref().is_some_and(|(status, _)| *status == 200), "{answer:?}");
        }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}/{path}", self.url)
    }

    /// Stores documents and makes them visible.
    pub(crate) fn index(&self, index: &str, documents: &[Value]) {
        let mut lines = String::new();
        for document in documents {
            lines.push_str(&format!("{{\"index\":{{}}}}\n{document}\n"));
        }
        let url = self.at(&format!("{index}/_bulk?refresh=true"));
        let (status, body) = post(&url, "application/x-ndjson", &lines).expect("it answers");
        let answer: Value = serde_json::from_str(&body).expect("it sends JSON");
        assert!(status == 200 && answer["errors"] == json!(false), "{status}: {body}");
    }

    pub(crate) fn kill(&self) {
        self.process.lock().expect("no panic inside").kill();
    }
}

/// The jars that `tests/peers/fetch` copied, and what it compiled.
fn class_path(name: &str, pom: &str, main: &str) -> String {
    let jars: PathBuf = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../peers").join(name);
    let same = |file: &str, text: &str| {
        std::fs::read_to_string(jars.join(file)).is_ok_and(|is| is == text)
    };
    assert!(
        same("pom.xml", pom) && same("classes/Main.java", main),
        "{name} is not fetched (see {}): run tests/run, or tests/peers/fetch",
        jars.display()
    );
    format!("{0}/classes:{0}/*", jars.display())
}
