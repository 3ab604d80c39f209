//! What the node is and how it is set: the processors' governor, huge pages, overcommitting, the
//! models of its parts.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::facts::{disks, facts};
use super::hardware::{governor_files, huge_pages_file};
use super::text::{Seldom, chosen, once, single};
use super::{Paths, Sink, Slot, Tick, unmounted};
use crate::catalogue::node as metric;
use crate::outcome::{Fault, FaultCode};

const EVERY: Duration = Duration::from_secs(30);

/// What a label may hold of a text that the hardware or the distribution chose.
const LABEL_LIMIT: usize = 64;

/// Disks described.
const DISKS_LIMIT: usize = 32;

/// What the file of huge pages may say, in the order of the series' values.
const HUGE_PAGES: [&str; 3] = ["never", "madvise", "always"];

/// Settings that may change while the node runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reading {
    /// Processors governed for performance, and all that are governed.
    governed: Option<(usize, usize)>,
    /// An index into [`HUGE_PAGES`].
    huge_pages: Option<usize>,
    overcommit: Option<u64>,
}

/// The labels of a settings row.
fn words(reading: &Reading) -> [&'static str; 3] {
    let governor = reading.governed.map(|(performance, all)| match performance {
        _ if performance == all => "performance",
        0 => "other",
        _ => "mixed",
    });
    let huge_pages = reading.huge_pages.and_then(|index| HUGE_PAGES.get(index)).copied();
    let overcommit = reading.overcommit.map(|mode| match mode {
        0 => "0",
        1 => "1",
        _ => "2",
    });
    [governor, huge_pages, overcommit].map(Option::unwrap_or_default)
}

pub(super) struct Source {
    governors: Vec<PathBuf>,
    huge_pages: PathBuf,
    overcommit: PathBuf,
    ungoverned: Arc<Fault>,
    no_huge_pages: Arc<Fault>,
    due: Seldom,
    now: Reading,
    settings: Option<[Arc<str>; 3]>,
    system: [Arc<str>; 5],
    cpu: [Arc<str>; 2],
    disks: Vec<[Arc<str>; 5]>,
}

fn label(text: &str) -> Arc<str> {
    Arc::from(text.chars().filter(|c| !c.is_control()).take(LABEL_LIMIT).collect::<String>())
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        let facts = facts(paths);
        let fact = |name: &str| label(facts.get(name).map_or("", String::as_str));
        let unmounted = unmounted(&paths.sysfs);
        let fault = |text: String| {
            unmounted.clone().unwrap_or_else(|| Arc::new(Fault::new(FaultCode::Unsupported, text)))
        };
        let disks = disks(paths, DISKS_LIMIT);
        Self {
            governors: governor_files(&paths.sysfs),
            huge_pages: huge_pages_file(&paths.sysfs),
            overcommit: paths.procfs.join("sys/vm/overcommit_memory"),
            ungoverned: fault(
                "the kernel does not govern the frequency of these processors, as in most virtual \
                 machines"
                    .to_owned(),
            ),
            no_huge_pages: fault(
                "this kernel has no transparent huge pages, or does not say how they are set"
                    .to_owned(),
            ),
            due: Seldom::every(EVERY),
            now: Reading::default(),
            settings: None,
            system: ["kernel", "os", "os_version", "architecture", "virtualisation"].map(fact),
            cpu: ["cpu_model", "microcode"].map(fact),
            disks: disks
                .into_iter()
                .map(|disk| {
                    [&*disk.name, &*disk.model, &*disk.rotational, &*disk.scheduler, &*disk.cache]
                        .map(label)
                })
                .collect(),
        }
    }

    fn look(&self, buffer: &mut Vec<u8>) -> Reading {
        let mut governed = Some((0, 0)).filter(|_| !self.governors.is_empty());
        for path in &self.governors {
            let Some(text) = once(path, buffer) else {
                // A processor that is off line has no governor.
                if !path.exists() {
                    continue;
                }
                governed = None;
                break;
            };
            let performance = text.trim_ascii() == b"performance";
            governed = governed.map(|(some, all)| (some + usize::from(performance), all + 1));
        }
        let huge_pages = once(&self.huge_pages, buffer).and_then(chosen);
        Reading {
            governed: governed.filter(|(_, all)| *all > 0),
            huge_pages: huge_pages
                .and_then(|word| HUGE_PAGES.iter().position(|known| known.as_bytes() == word)),
            overcommit: once(&self.overcommit, buffer).and_then(single).filter(|mode| *mode <= 2),
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        if !self.due.now(tick.at) {
            return false;
        }
        let now = self.look(&mut tick.buffer);
        let changed = self.settings.is_none() || words(&now) != words(&self.now);
        self.now = now;
        if changed {
            self.settings = Some(words(&now).map(Arc::from));
        }
        changed
    }

    fn put(&self, sink: &mut Sink<'_>) {
        const ALWAYS: Slot = Slot::Number(1.0);
        let governed = self.now.governed.map(|(some, all)| some as f64 / all as f64);
        sink.under(governed.is_none().then_some(&self.ungoverned));
        sink.put(
            &metric::GOVERNED_FOR_PERFORMANCE,
            &[],
            governed.map_or(Slot::MISSING, Slot::Number),
        );
        sink.under(self.now.huge_pages.is_none().then_some(&self.no_huge_pages));
        sink.put(&metric::HUGE_PAGES, &[], Slot::of(self.now.huge_pages.map(|index| index as u64)));
        sink.under(None);
        if let Some(labels) = &self.settings {
            sink.put(&metric::SETTINGS_INFO, &labels.each_ref(), ALWAYS);
        }
        sink.put(&metric::SYSTEM_INFO, &self.system.each_ref(), ALWAYS);
        sink.put(&metric::CPU_INFO, &self.cpu.each_ref(), ALWAYS);
        for disk in &self.disks {
            sink.put(&metric::DISK_INFO, &disk.each_ref(), ALWAYS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Cells;
    use crate::node::tests::{Copy, exported, mangled, sample};
    use crate::node::{Frame, Sampler, Signal};

    #[test]
    fn the_word_in_brackets_is_chosen() {
        assert_eq!(chosen(b"always [madvise] never\n"), Some(&b"madvise"[..]));
        for text in ["", "never\n", "[never", "never]\n"] {
            assert_eq!(chosen(text.as_bytes()), None, "{text:?}");
        }
        mangled("huge pages", b"always [madvise] never\n", |text| {
            let _ = chosen(text);
        });
    }

    #[test]
    fn settings_of_a_recorded_node_and_their_change() {
        let copy = Copy::of("idle");
        let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
        let mut frame = Frame::default();
        sample(&mut sampler, 0, &mut frame);
        let value = |frame: &Frame, series| match frame.find(series, None) {
            Some(Signal::Number(value)) => value,
            other => panic!("{series} is {other:?}"),
        };
        assert_eq!(value(&frame, "node.settings.performance_governor"), 0.5);
        assert_eq!(value(&frame, "node.settings.transparent_hugepages"), 1.0);
        assert_eq!(value(&frame, "node.swap.size"), 2_097_148.0 * 1024.0);
        let info = |frame: &Frame, name: &str, labels: &[&str]| exported(frame, name, labels);
        let settings = "greenlight_node_settings_info";
        assert_eq!(info(&frame, settings, &["mixed", "madvise", "0"]), Some(1.0));
        let system = ["6.1.0-56-amd64", "debian", "12", std::env::consts::ARCH, "kvm"];
        assert_eq!(info(&frame, "greenlight_node_system_info", &system), Some(1.0));
        let cpu = ["AMD EPYC 7R13 Processor", "0xa0011d1"];
        assert_eq!(info(&frame, "greenlight_node_cpu_info", &cpu), Some(1.0));
        let disk = ["sda", "QEMU HARDDISK", "1", "mq-deadline", "write back"];
        assert_eq!(info(&frame, "greenlight_node_disk_info", &disk), Some(1.0));

        let generation = frame.layout.generation;
        copy.write("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]\n");
        copy.write("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor", "performance\n");
        sample(&mut sampler, 30, &mut frame);
        assert_eq!(value(&frame, "node.settings.performance_governor"), 1.0);
        assert_eq!(value(&frame, "node.settings.transparent_hugepages"), 0.0);
        assert_eq!(info(&frame, settings, &["performance", "never", "0"]), Some(1.0));
        assert_eq!(info(&frame, settings, &["mixed", "madvise", "0"]), None);
        assert_eq!(frame.layout.generation, generation + 1);
        // One is taken off line.
        copy.remove("sys/devices/system/cpu/cpu1/cpufreq/scaling_governor");
        sample(&mut sampler, 60, &mut frame);
        assert_eq!(value(&frame, "node.settings.performance_governor"), 1.0);
    }
}
