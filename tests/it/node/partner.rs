//! The bottlenecks of `partner-platform` on a recorded node under declared load: each criterion red
//! alone and green again, with pressure and on a kernel that has none.

use greenlight::catalogue::{self, Metric};

use super::*;

const PLAN: &str = "include: [ 'pack:partner-platform' ]
checks: [ { id: sync, disk_sync: {}, targets: [ /data ], every: 1m, timeout: 30s } ]
vars: { partner_window: 6s, partner_samples: 3, storage_window: 6s, storage_sync_samples: 3, storage_sync_check: sync }
";

const CPU: &str = "partner.cluster.cpu";
const MEMORY: &str = "partner.cluster.memory";
const IO: &str = "partner.cluster.io";

type Fault = fn(&mut Counters);

/// The gate, the series that must be named, and the fault; for kernels with pressure, without, or
/// both.
const FAULTS: [(&str, &str, Option<bool>, Fault); 18] = [
    (CPU, "node.psi.cpu.some", Some(true), |c| c.pressure[0] += 200_000),
    (CPU, "node.cpu.wait", None, |c| c.wait += 300_000_000),
    (CPU, "node.cpu.running_per_core", None, |c| c.running = 4),
    (CPU, "node.cpu.steal", None, |c| {
        c.steal += 20;
        c.idle -= 20;
    }),
    (MEMORY, "node.memory.available", None, |c| c.available_kb = 3_000_000),
    (MEMORY, "node.psi.memory.full", Some(true), |c| c.pressure[2] += 20_000),
    (MEMORY, "node.memory.stalls", Some(false), |c| c.stalls += 5),
    (MEMORY, "node.memory.refaults", Some(false), |c| c.refaults += 800),
    (MEMORY, "node.swap.in", None, |c| c.swap_in += 3),
    (MEMORY, "node.oom.kills", None, |c| c.oom_kills += 1),
    (IO, "node.psi.io.full", Some(true), |c| c.pressure[4] += 100_000),
    (IO, "node.disk.await", Some(false), |c| c.request_ms += 500),
    (IO, "node.disk.busy", None, |c| c.busy_ms += 990),
    (IO, "node.disk.queue", None, |c| c.queue_ms += 20_000),
    (IO, "node.fs.readonly", None, |c| c.root_readonly = true),
    (IO, "node.fs.errors", None, |c| c.fs_errors += 1),
    (IO, "node.disk.errors", None, |c| c.disk_errors += 4),
    (IO, "node.md.", None, |c| c.array_lacks = true),
];

struct Partner {
    node: Recorded,
    latency: &'static Metric,
    sync: f64,
}

impl Partner {
    fn pass(&mut self, seconds: i64, fault: Fault) {
        for _ in 0..seconds {
            self.node.pass(1, fault);
            let now = self.node.watched.now.mono;
            let key = TrackKey {
                metric: self.latency,
                check: Arc::from("sync"),
                target: Arc::from("/data"),
                labels: Vec::new(),
            };
            let since = self.node.watched.since.unwrap();
            let cadence = Cadence::every(node::TICK, since);
            self.node.watched.tracks.push(&key, cadence, now, Value::Number(self.sync), now);
        }
    }

    fn find(&mut self, gate: &str) -> Finding {
        self.node.watched.judge().remove(gate).unwrap()
    }
}

#[test]
fn each_bottleneck_of_the_partner_is_red_alone_and_green_again_on_a_recorded_node() {
    for pressure in [true, false] {
        let node = Recorded::over(PLAN, pressure, &[]);
        let latency = catalogue::series("disk_sync.latency").unwrap();
        let mut partner = Partner { node, latency, sync: 0.001 };
        partner.pass(20, |_| {});
        for gate in [CPU, IO] {
            let found = partner.find(gate);
            assert_eq!(found.verdict, Verdict::Open, "without a load: {found:?}");
            assert_eq!(found.reason.unwrap().code, "no_load");
        }
        let start = partner.node.watched.now.mono;
        let end = Mono::from_secs(start.0 / 1_000_000_000 + 100_000);
        partner.node.watched.load = vec![Span { start, end }];
        let mut judged = 0;
        for (gate, series, only, fault) in FAULTS {
            if only.is_some_and(|only| only != pressure) {
                continue;
            }
            judged += 1;
            partner.pass(40, |_| {});
            let found = partner.find(gate);
            assert_eq!(found.verdict, Verdict::Pass, "before {series}: {found:?}");
            partner.pass(17, fault);
            let mut left = 0..12;
            while partner.find(gate).verdict == Verdict::Pass && left.next().is_some() {
                partner.pass(1, fault);
            }
            let found = partner.find(gate);
            assert_eq!(found.verdict, Verdict::Fail, "{gate} with {series}: {found:?}");
            let text = found.reason.unwrap().text;
            assert!(text.contains(series), "{series} does not decide: {text}");
        }
        assert_eq!(judged, 15);
        partner.pass(40, |_| {});
        partner.sync = 0.05;
        partner.pass(7, |_| {});
        let found = partner.find(IO);
        assert_eq!((found.verdict, found.value), (Verdict::Fail, Some(0.05)), "{found:?}");
        assert_eq!(found.worst, Some(("sync".into(), "/data".into())));
        partner.sync = 0.001;
        partner.pass(40, |_| {});
        for gate in [CPU, MEMORY, IO] {
            let found = partner.find(gate);
            assert_eq!(found.verdict, Verdict::Pass, "{found:?}");
            // The sentence names the twin that was judged, and only that one.
            let plan = &partner.node.watched.plan;
            let written = plan.gates.iter().find(|one| one.id == gate).unwrap();
            let sentence = gate::sentence(written);
            assert_eq!(sentence.contains("node.psi."), pressure, "{sentence}");
            let twin =
                sentence.contains("node.memory.stalls") || sentence.contains("node.disk.await");
            assert_eq!(twin, !pressure && gate != CPU, "{sentence}");
        }
    }
}
