//! The whole way through a platform of foreign programs: rsyslog takes syslog by UDP, TCP, TLS and
//! RELP and writes to Apache Kafka, a second rsyslog reads it there, enriches it and writes to
//! OpenSearch. Each test has two rsyslogs, a topic and an index of its own; the broker and the
//! store are shared.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, TcpStream};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;
use std::{fs, io, thread};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::command::folder_with;
use crate::journeys::{counts, ended_once, started_once};
use crate::machine::until;
use crate::peers::{Process, folder, free_port, kafka, opensearch, post, run};

pub(crate) mod between;
mod broken;
mod clock;
mod spared;
mod traps;
mod usecases;

/// The run of the first message.
const WARM: &str = "warm";
/// Events of a round.
const EVENTS: u64 = 100;
/// What comes at all comes by then, on a busy machine too.
const WITHIN: Duration = Duration::from_secs(15);
/// What is held up is held up so long.
const HELD: Duration = Duration::from_secs(18);

/// What a test may want otherwise.
struct Shape {
    /// RainerScript on every message, before it is forwarded and before it is stored. Its number
    /// is in `$!seq` and in `$.seq`.
    collector_rules: String,
    indexer_rules: String,
    /// What the indexer loads besides.
    indexer_modules: String,
    message_size: &'static str,
    /// Milliseconds until the broker gives up an indexer that says nothing.
    session: u64,
    /// Where the collector finds Kafka, the indexer does, and where the agent looks into the topic.
    brokers: [String; 3],
    /// Ports: where the indexer finds OpenSearch, and where the agent does.
    stores: [u16; 2],
}

impl Default for Shape {
    fn default() -> Self {
        let brokers = &kafka().brokers;
        Self {
            collector_rules: String::new(),
            indexer_rules: String::new(),
            indexer_modules: String::new(),
            message_size: "64k",
            session: 45_000,
            brokers: [(); 3].map(|()| brokers.clone()),
            stores: [store_port(); 2],
        }
    }
}

fn store_port() -> u16 {
    let url = &opensearch().url;
    url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("it ends with a port")
}

/// The certificate and the key of the collectors.
fn certificate() -> &'static [PathBuf; 2] {
    static MADE: OnceLock<[PathBuf; 2]> = OnceLock::new();
    MADE.get_or_init(|| {
        let folder = folder("pipeline-tls");
        let files = ["cert.pem", "key.pem"].map(|name| folder.join(name));
        let [certificate, key] = files.each_ref().map(|file| file.display().to_string());
        let arguments = format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
             -addext subjectAltName=DNS:localhost -addext basicConstraints=critical,CA:FALSE -keyout {key} -out {certificate}"
        );
        let arguments: Vec<&str> = arguments.split(' ').collect();
        let made = run("openssl", "openssl", &arguments, "");
        assert!(made.status.success(), "{made:?}");
        files
    })
}

/// Two rsyslogs with a topic between them and an index behind them, all named `id`.
struct Pipeline {
    id: &'static str,
    shape: Shape,
    udp: u16,
    tcp: u16,
    tls: u16,
    relp: u16,
    collector: Process,
    indexer: Process,
}

impl Pipeline {
    /// Starts it and sends one message the whole way.
    fn start(id: &'static str, shape: Shape) -> Self {
        kafka().topic(&topic(id), 1);
        Self::start_on_topic(id, shape)
    }

    /// The same, where the topic is there already.
    fn start_on_topic(id: &'static str, shape: Shape) -> Self {
        let [udp, tcp, tls, relp] = [(); 4].map(|()| free_port());
        let [certificate, key] = certificate().each_ref().map(|file| file.display().to_string());
        let words = [
            ("@UDP@", udp.to_string()),
            ("@TCP@", tcp.to_string()),
            ("@TLS@", tls.to_string()),
            ("@RELP@", relp.to_string()),
            ("@CERTIFICATE@", certificate),
            ("@KEY@", key),
            ("@MESSAGE_SIZE@", shape.message_size.to_owned()),
            ("@BROKERS@", shape.brokers[0].clone()),
            ("@RULES@", shape.collector_rules.clone()),
            ("@TOPIC@", topic(id)),
        ];
        let collector = rsyslog(include_str!("../peers/pipeline/collector.conf"), &words);
        let indexer = indexer(id, &shape);
        let mut this = Self { id, shape, udp, tcp, tls, relp, collector, indexer };
        let ports = [this.tcp, this.tls, this.relp];
        this.collector.wait_until(|| ports.iter().all(|port| connect(*port).is_ok()));
        this.warm_up();
        this
    }

    /// The first message makes connections, a consumer group and a mapping: that takes seconds.
    fn warm_up(&mut self) {
        let body = format!(
            "<134>1 2026-01-01T00:00:00Z greenlight greenlight - - \
             [greenlight@32473 run=\"{WARM}\" stream=\"main\" seq=\"0\" crc=\"0\"] warm-up"
        );
        let framed = format!("{} {body}", body.len());
        let mut stream = connect(self.tcp).expect("it listens");
        io::Write::write_all(&mut stream, framed.as_bytes()).expect("it takes it");
        drop(stream);
        let id = self.id;
        self.indexer.wait_until(|| !stored(id).is_empty());
    }

    fn restart_indexer(&mut self) {
        self.indexer.kill();
        self.indexer = indexer(self.id, &self.shape);
    }

    /// A plan with one journey the whole way, by this way in.
    fn plan(&self, send: &str, more: &Journey) -> String {
        let Self { id, shape, .. } = self;
        let topic = topic(id);
        let Journey { events, within, give_up, every, message } = more;
        let stage = format!("within: {}ms, give_up: {}ms", within.as_millis(), give_up.as_millis());
        format!(
            "node: {{ name: n1 }}\njourneys:\n  - id: {id}\n    every: {every}\n    timeout: 10s\n    \
             send: {{ {send} }}\n    events: {{ count: {events}, format: rfc5424, message: '{message}' }}\n    \
             stages:\n      - parsed: {{ kafka: {{ brokers: '{}', topic: {topic}, text: message }}, {stage}, \
             poll: 200ms, expect: {{ fields: {{ host.name: sent, service.name: sent }} }} }}\n      \
             - stored: {{ opensearch: {{ url: 'http://127.0.0.1:{}', index: {topic} }}, {stage}, \
             poll: 500ms, expect: {{ fields: {{ enriched.asset.owner: soc-test }} }} }}\n",
            shape.brokers[2], shape.stores[1],
        )
    }

    fn by_udp(&self) -> String {
        format!("syslog: {{ to: 'udp://127.0.0.1:{}' }}", self.udp)
    }

    fn by_tcp(&self) -> String {
        format!("syslog: {{ to: 'tcp://127.0.0.1:{}' }}", self.tcp)
    }

    fn by_tls(&self) -> String {
        let ca = certificate()[0].display();
        format!("syslog: {{ to: 'tls://localhost:{}', tls: {{ ca: '{ca}' }} }}", self.tls)
    }

    fn by_relp(&self) -> String {
        format!("relp: {{ to: 'tcp://127.0.0.1:{}' }}", self.relp)
    }

    /// One round of `once`, with something done to the platform meanwhile.
    fn round(&mut self, send: &str, journey: &Journey, meanwhile: impl FnOnce(&mut Self)) -> Round {
        let (_folder, plan) = folder_with(&self.plan(send, journey));
        let child = started_once(self.id, &plan);
        meanwhile(self);
        let (code, said) = ended_once(child);
        Round { code, said, events: journey.events }
    }
}

/// What a round is to be.
struct Journey {
    events: u64,
    within: Duration,
    give_up: Duration,
    every: &'static str,
    message: &'static str,
}

impl Default for Journey {
    fn default() -> Self {
        Self {
            events: EVENTS,
            within: WITHIN,
            give_up: 4 * WITHIN,
            every: "1h",
            message: "login of {user} from {address} {token}, event {seq}, all of it",
        }
    }
}

impl Journey {
    /// For a round that is under way while much is done to it.
    fn patient() -> Self {
        Self { within: 4 * WITHIN, give_up: 5 * WITHIN, ..Self::default() }
    }

    /// For what is lost: it is waited for no longer than it must be.
    fn of_losses() -> Self {
        Self { give_up: WITHIN + Duration::from_secs(3), ..Self::default() }
    }
}

fn topic(id: &str) -> String {
    format!("pipeline-{id}")
}

fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port))
}

fn indexer(id: &str, shape: &Shape) -> Process {
    let words = [
        ("@BROKERS@", shape.brokers[1].clone()),
        ("@STORE@", shape.stores[0].to_string()),
        ("@SESSION@", shape.session.to_string()),
        ("@MODULES@", shape.indexer_modules.clone()),
        ("@RULES@", shape.indexer_rules.clone()),
        ("@TOPIC@", topic(id)),
        ("@INDEX@", topic(id)),
    ];
    rsyslog(include_str!("../peers/pipeline/indexer.conf"), &words)
}

fn rsyslog(config: &str, words: &[(&str, String)]) -> Process {
    let folder = folder("pipeline");
    let mut text = config.replace("@FOLDER@", &folder.display().to_string());
    for (word, value) in words {
        text = text.replace(word, value);
    }
    let config = folder.join("rsyslog.conf");
    fs::write(&config, text).expect("the folder can be written");
    let [config, pid] = [&config, &folder.join("pid")].map(|path| path.display().to_string());
    Process::start(
        "rsyslogd",
        "rsyslog rsyslog-kafka rsyslog-elasticsearch rsyslog-relp rsyslog-openssl",
        &["-n", "-f", &config, "-i", &pid],
        &folder.join("rsyslog.log"),
    )
}

/// SIGSTOP, SIGCONT.
fn signal(process: &Process, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(process.pid()).expect("a pid"));
    kill(pid, signal).expect("it is there");
}

/// How often the index has each event, by run and sequence number, as OpenSearch itself says.
fn stored(id: &str) -> BTreeMap<(String, u64), u64> {
    let search = json!({"size": 5_000, "query": {"match_all": {}}});
    let url = opensearch().at(&format!("{}/_search", topic(id)));
    let answer = post(&url, "application/json", &search.to_string());
    let Some((200, body)) = answer else { return BTreeMap::new() };
    let answer: Value = serde_json::from_str(&body).expect("it sends JSON");
    let mut found = BTreeMap::new();
    for hit in answer["hits"]["hits"].as_array().expect("hits") {
        let source = &hit["_source"];
        let run = source["greenlight.run"].as_str().expect("a run").to_owned();
        let seq = source["greenlight.seq"].as_u64().expect("a number");
        *found.entry((run, seq)).or_default() += 1;
    }
    found
}

/// The copies beyond one, the warm-up left out.
fn repeated(stored: &BTreeMap<(String, u64), u64>) -> u64 {
    stored.iter().filter(|((run, _), _)| run != WARM).map(|(_, copies)| copies - 1).sum()
}

type Fates = BTreeMap<String, u64>;

/// What one round came to.
struct Round {
    code: Option<i32>,
    said: Value,
    events: u64,
}

impl Round {
    /// Holds the round against what must be counted at each stage: the events with a fate other
    /// than ok, and the further copies.
    #[track_caller]
    fn is(
        &self,
        first_failing: &str,
        parsed: (&[(&str, u64)], u64),
        stored: (&[(&str, u64)], u64),
    ) {
        let found = counts(&self.said["stages"]);
        for (stage, (fates, duplicate)) in [("parsed", parsed), ("stored", stored)] {
            let expected = self.fates(fates);
            assert_eq!(found[stage], (expected, duplicate), "{stage}: {:#}", self.said);
        }
        let expected = if first_failing.is_empty() { Value::Null } else { first_failing.into() };
        assert_eq!(self.said["first_failing_stage"], expected, "{:#}", self.said);
        for stage in ["sent", "accepted"] {
            let Some(found) = found.get(stage) else { continue };
            let fate = if first_failing == "sent" { "refused" } else { "ok" };
            assert_eq!(*found, (self.fates(&[(fate, self.events)]), 0), "{stage}: {:#}", self.said);
        }
        let clean = first_failing.is_empty() && parsed.1 == 0 && stored.1 == 0;
        assert_eq!(self.code, Some(i32::from(!clean)), "{:#}", self.said);
    }

    fn is_green(&self) {
        self.is("", (&[], 0), (&[], 0));
    }

    fn fates(&self, not_ok: &[(&str, u64)]) -> Fates {
        let mut fates: Fates =
            not_ok.iter().map(|(fate, count)| ((*fate).to_owned(), *count)).collect();
        let rest = self.events - not_ok.iter().map(|(_, count)| count).sum::<u64>();
        *fates.entry("ok".to_owned()).or_default() += rest;
        fates.retain(|_, count| *count > 0);
        fates
    }
}

/// Runs all of them at the same time; fails with the names and the words of those that failed.
fn at_once(cases: &[(&'static str, fn(&'static str))]) {
    // Started before the clock of any of them runs.
    kafka();
    opensearch();
    let failed: Vec<String> = thread::scope(|scope| {
        let running: Vec<_> =
            cases.iter().map(|(id, case)| (id, scope.spawn(move || case(id)))).collect();
        let ended = running.into_iter().map(|(id, thread)| (id, thread.join()));
        ended
            .filter_map(|(id, ended)| {
                let panic = ended.err()?;
                let text = panic.downcast_ref::<String>().cloned();
                let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                Some(format!("{id}: {}", text.unwrap_or_default()))
            })
            .collect()
    });
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[test]
fn a_journey_goes_the_whole_way_green_by_every_way_in() {
    type WayIn = fn(&Pipeline) -> String;
    const WAYS: [(&str, WayIn); 4] = [
        ("udp", Pipeline::by_udp),
        ("tcp", Pipeline::by_tcp),
        ("tls", Pipeline::by_tls),
        ("relp", Pipeline::by_relp),
    ];
    let mut pipeline = Pipeline::start("green", Shape::default());
    let mut before = 1;
    for (name, way) in WAYS {
        let send = way(&pipeline);
        let round = pipeline.round(&send, &Journey::default(), |_| {});
        round.is_green();
        let all = stored("green");
        assert_eq!((all.len() as u64, repeated(&all)), (before + EVENTS, 0), "{name}: {all:?}");
        before = all.len() as u64;
        let latency = |stage: &str| {
            let stages = round.said["stages"].as_array().expect("stages");
            let row = stages.iter().find(|row| row["name"] == stage || row["stage"] == stage);
            row.and_then(|row| row["latency_seconds"]["p99"].as_f64()).expect("it was timed")
        };
        let (parsed, stored) = (latency("parsed"), latency("stored"));
        assert!(0.0 < parsed && parsed <= stored, "{name}: {parsed} {stored}");
        eprintln!(
            "pipeline by {name}: {EVENTS} events, parsed p99 {parsed:.3} s, stored p99 {stored:.3} s"
        );
    }
}
