//! Sending to Kafka beside librdkafka's own `rdkafka_performance`, on the same broker and in turns,
//! and what sending by Greenlight adds to a bare round trip: `cargo bench --bench kafka`.
//!
//! Both send the same number of records of the same size with a key and a header of a token's length,
//! with the same settings and to all partitions. Greenlight's have a fresh token, sequence number and
//! time in each, go to the partitions in turn, and every one of them is counted; the other's have one
//! key and go where chance has it (by their key all would go to one partition, which is cheaper). What each
//! took of the processors stands beside its rate: the broker shares them. Needs `tests/peers/fetch` and a C compiler. Nothing here
//! is a test: machines are noisy, so both take turns, and medians are held against each other.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a bench that can't go on has nobody to tell"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use greenlight::client::Clients;
use greenlight::journey::Receipt;
use greenlight::journey::event::{EventSpec, Events, Format, run_from};
use greenlight::send::{self, SendContext, Sender};
use greenlight::spec::trace::Trace;
use greenlight::time::{Mono, Wall};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use rdkafka::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseProducer, BaseRecord, ProducerContext};
use serde_json::{Value, json};

/// What the tests' starter of a broker stands on.
#[path = "."]
mod peers {
    use std::fs::{self, File};
    use std::net::{Ipv4Addr, TcpListener};
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Output, Stdio};
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::{Duration, Instant};

    #[allow(dead_code, reason = "the tests use more of it")]
    #[path = "../tests/it/peers/kafka.rs"]
    mod kafka;
    pub(crate) use kafka::{Kafka, own_kafka};

    pub(crate) fn free_port() -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
        listener.local_addr().expect("it is bound").port()
    }

    pub(crate) fn folder(name: &str) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{name}-{number}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the target folder can be written");
        folder
    }

    pub(crate) fn require(_: &str, _: &str) {}

    pub(crate) fn run(program: &str, _: &str, arguments: &[&str], _: &str) -> Output {
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        output.unwrap_or_else(|error| panic!("{program} can't be started: {error}"))
    }

    pub(crate) struct Process(Child);

    impl Process {
        pub(crate) fn start(program: &str, _: &str, arguments: &[&str], log: &Path) -> Self {
            let file = File::create(log).expect("the log can be written");
            let child = Command::new("setpriv")
                .args(["--pdeathsig", "KILL", "--", program])
                .args(arguments)
                .stdin(Stdio::null())
                .stdout(file.try_clone().expect("a descriptor is left"))
                .stderr(file)
                .spawn();
            Self(child.expect("setpriv (package util-linux) can be started"))
        }

        pub(crate) fn pid(&self) -> u32 {
            self.0.id()
        }

        pub(crate) fn wait_until(&mut self, ready: impl Fn() -> bool) {
            let deadline = Instant::now() + Duration::from_secs(120);
            while !ready() {
                assert!(Instant::now() < deadline, "the server was not ready in time");
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }

    impl Drop for Process {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

use peers::{Kafka, own_kafka};

const RECORDS: u64 = 1_000_000;
const SIZE: usize = 200;
const PARTITIONS: i32 = 4;
const RUNS: usize = 5;
/// Of the throughput beside rdkafka_performance, and of the milliseconds added at p99.
const RATIO: f64 = 0.9;
const ADDED: f64 = 1.0;
/// Of a token's length.
const TOKEN: &str = "gl00000000o0000u000000000i0000";
/// Round trips in turns: of each block the percentiles are held against each other, and the median
/// of the blocks is shown.
const BLOCKS: usize = 11;
const PINGS: usize = 300;

fn main() {
    let kafka = own_kafka();
    for topic in ["volume", "empty", "pings"] {
        kafka.topic(topic, PARTITIONS);
    }
    let performance = rdkafka_performance();
    println!(
        "{RECORDS} records of {SIZE} bytes, {PARTITIONS} partitions, a key and a header of {} bytes, \
         linger 5 ms, no compression; the broker on the same {} processors",
        TOKEN.len(),
        std::thread::available_parallelism().map_or(0, usize::from),
    );
    println!(
        "{:<26} {:>16} {:>16} {:>8} {:>8}   processor time a record",
        "records a second", "greenlight", "rdkafka_perf.", "ratio", "goal"
    );
    for (name, acks, idempotence) in [
        ("acks all, idempotent", "all", true),
        ("acks all", "all", false),
        ("acks leader", "leader", false),
    ] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            theirs.push(spending(|| performed(&performance, &kafka, acks, idempotence)));
            ours.push(spending(|| loaded(&kafka, acks, idempotence)));
        }
        let rate = |runs: &[(f64, f64)]| median(runs.iter().map(|run| run.0).collect());
        let spent = |runs: &[(f64, f64)]| median(runs.iter().map(|run| run.1).collect());
        println!(
            "{name:<26} {:>16.0} {:>16.0} {:>8.3} {:>8}   {:.2} against {:.2} µs",
            rate(&ours),
            rate(&theirs),
            rate(&ours) / rate(&theirs),
            format!(">= {RATIO}"),
            spent(&ours),
            spent(&theirs),
        );
    }
    added(&kafka);
}

/// What a child took of the processors, in microseconds a record, beside what it came to.
fn spending(work: impl FnOnce() -> f64) -> (f64, f64) {
    let spent = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the kernel tells");
        let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 * 1e-6;
        seconds(usage.user_time()) + seconds(usage.system_time())
    };
    let before = spent();
    let rate = work();
    (rate, (spent() - before) / RECORDS as f64 * 1e6)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Compiles librdkafka's own program against the library that Greenlight is linked with.
fn rdkafka_performance() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rdkafka_performance");
    let executable = std::env::current_exe().expect("a path");
    let builds = executable.ancestors().nth(2).expect("target/PROFILE/deps").join("build");
    let newest = |krate: &str, file: &str| {
        let mut found: Vec<PathBuf> = fs::read_dir(&builds)
            .expect("cargo's build folder")
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(krate))
            .map(|entry| entry.path().join("out").join(file))
            .filter(|path| path.exists())
            .collect();
        found.sort_by_key(|path| fs::metadata(path).and_then(|data| data.modified()).ok());
        found.pop().unwrap_or_else(|| panic!("no {file} of {krate}"))
    };
    let library = newest("rdkafka-sys-", "src/librdkafka.a");
    let source = newest("rdkafka-sys-", "examples/rdkafka_performance.c");
    let built = Command::new("cc")
        .args(["-O2", "-w", "-I"])
        .arg(library.parent().expect("src"))
        .arg(&source)
        .arg("-o")
        .arg(&program)
        .arg(&library)
        .arg(newest("openssl-sys-", "openssl-build/install/lib/libssl.a"))
        .arg(newest("openssl-sys-", "openssl-build/install/lib/libcrypto.a"))
        .arg(newest("libz-sys-", "lib/libz.a"))
        .arg(newest("zstd-sys-", "libzstd.a"))
        .args(["-lm", "-lpthread", "-ldl", "-lrt"])
        .status()
        .expect("a C compiler");
    assert!(built.success(), "rdkafka_performance can't be compiled");
    program
}

/// Records a second by librdkafka's own measure: from its first to the last that was acknowledged.
fn performed(program: &Path, kafka: &Kafka, acks: &str, idempotence: bool) -> f64 {
    let count = RECORDS.to_string();
    let size = SIZE.to_string();
    let idempotence = format!("enable.idempotence={idempotence}");
    let acks = if acks == "leader" { "1" } else { "-1" };
    let header = format!("greenlight-id={TOKEN}");
    let output = Command::new(program)
        .args(["-P", "-t", "volume", "-b", &kafka.brokers, "-s", &size, "-c", &count, "-a", acks])
        .args(["-k", TOKEN, "-H", &header, "-S", "0"])
        .args(["-X", "linger.ms=5", "-X", &idempotence, "-X", "log_level=3"])
        .args(["-X", "queue.buffering.max.messages=100000", "-X", "partitioner=random"])
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    assert!(output.status.success(), "{output:?}");
    // "% 1000000 messages produced (...), 1000000 delivered (...) in 2000ms: 500000 msgs/s ..."
    let said = String::from_utf8_lossy(&output.stdout);
    let summary = said.lines().rfind(|line| line.contains("messages produced"));
    let summary = summary.unwrap_or_else(|| panic!("no summary: {said}"));
    assert!(summary.contains(&format!(" {RECORDS} delivered")), "{summary}");
    let rate = summary.split("ms: ").nth(1).and_then(|rest| rest.split(' ').next());
    rate.and_then(|rate| rate.parse().ok()).unwrap_or_else(|| panic!("no rate: {summary}"))
}

/// Records a second by Greenlight: the same measure, from the outside.
fn loaded(kafka: &Kafka, acks: &str, idempotence: bool) -> f64 {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bench-load");
    fs::create_dir_all(folder.join("pressure")).expect("a folder can be made");
    // The broker shares the node, so that its processors are busy: that is no finding here.
    fs::write(folder.join("pressure/cpu"), "some avg10=0 avg60=0 avg300=0 total=0\n")
        .expect("a file");
    let plan = folder.join("plan.yaml");
    let message = format!("{{token}} {{time}} {{seq}} {{pad:{}}}", SIZE - 61);
    let text = format!(
        "journeys:\n  - id: bench\n    timeout: 60s\n    send: {{ kafka: {{ brokers: '{0}', \
         topic: volume, acks: {acks}, idempotence: {idempotence} }} }}\n    \
         events: {{ format: raw, message: '{message}' }}\n    stages:\n      \
         - parsed: {{ kafka: {{ brokers: '{0}', topic: empty }}, within: 1s, give_up: 1s, poll: 5s }}\n",
        kafka.brokers
    );
    fs::write(&plan, text).expect("a file");
    // All of it is due in the first quarter of a second: as fast as it can.
    let rate = (RECORDS * 4).to_string();
    let output = Command::new(env!("CARGO_BIN_EXE_greenlight"))
        .args(["load", "bench", "--rate", &rate, "--for", "250ms", "--budget", "100GB"])
        .args(["-o", "json", "-c"])
        .arg(&plan)
        .arg("--path.procfs")
        .arg(&folder)
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    let count = |name: &str| report["counts"][name].as_u64().unwrap_or(0);
    assert_eq!(count("accepted"), RECORDS, "{report:#}");
    let size = count("bytes") as f64 / RECORDS as f64;
    assert!((size - SIZE as f64).abs() < 10.0, "records of {size} bytes");
    report["achieved_rate"].as_f64().expect("a rate")
}

/// Tells when each record was acknowledged.
struct Told(mpsc::Sender<Mono>);

impl ClientContext for Told {}

impl ProducerContext for Told {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        assert!(result.is_ok(), "{result:?}");
        let _ = self.0.send(Mono::now());
    }
}

/// One event at a time: from the intended send to its receipt, and a bare producer's round trip with
/// the same settings, in turns.
fn added(kafka: &Kafka) {
    let (told, answers) = mpsc::channel();
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        .set("linger.ms", "0");
    let bare: BaseProducer<Told> = config.create_with_context(Told(told)).expect("a producer");
    let spec = json!({"brokers": kafka.brokers, "topic": "pings", "partitions": [0]});
    let ours =
        send::kafka::Kafka::new(serde_json::from_value(spec).expect("a spec")).expect("whole");
    let events = Events::new(&EventSpec::default(), Format::Json).expect("a spec");
    let (clients, trace, run) = (Clients::default(), Trace::off(), run_from([9; 8]));
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let context = || {
        let timeout = Duration::from_secs(20);
        SendContext { timeout, clients: &clients, trace: &trace }
    };
    let mut seq = 0;
    let mut block = || {
        let (mut with, mut without) = (Vec::new(), Vec::new());
        for _ in 0..PINGS {
            seq += 1;
            let event = events.render(&run, "bench", seq, Wall(1_790_000_000_000_000_000));
            let began = Mono::now();
            let record = BaseRecord::<str, [u8]>::to("pings").partition(0).key(TOKEN);
            assert!(bare.send(record.payload(&event.payload)).is_ok());
            let at = loop {
                bare.poll(Duration::ZERO);
                if let Ok(at) = answers.try_recv() {
                    break at;
                }
            };
            without.push(at.since(began).as_secs_f64() * 1e3);
            let (began, receipts) = runtime.block_on(async {
                // As a round does, before its events are due.
                ours.prepare(context()).await.expect("it is ready");
                (Mono::now(), ours.send(&[event], context()).await)
            });
            let Some(Receipt::Accepted { at }) = receipts.first() else { panic!("{receipts:?}") };
            with.push(at.since(began).as_secs_f64() * 1e3);
        }
        [0.5, 0.99].map(|share| (at(&mut with, share), at(&mut without, share)))
    };
    // The first makes the connections.
    block();
    let blocks: Vec<_> = (0..BLOCKS).map(|_| block()).collect();
    drop(bare);
    println!(
        "{:<26} {:>16} {:>16} {:>8} {:>8}",
        "one event, ms", "greenlight", "bare librdkafka", "added", "goal"
    );
    for (n, (name, goal)) in
        [("p50", String::new()), ("p99", format!("<= {ADDED}"))].into_iter().enumerate()
    {
        let of = |value: fn((f64, f64)) -> f64| {
            median(blocks.iter().map(|block| value(block[n])).collect())
        };
        println!(
            "{name:<26} {:>16.3} {:>16.3} {:>8.3} {goal:>8}",
            of(|both| both.0),
            of(|both| both.1),
            of(|both| both.0 - both.1)
        );
    }
}

fn at(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get((values.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN)
}
