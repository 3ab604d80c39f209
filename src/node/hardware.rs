//! Hardware that gives way: processors that are throttled by heat, memory whose errors ECC mends
//! or only finds.
//!
//! Both are counted by drivers that most virtual machines lack; then the signals are absent, and
//! so are the facts by which their gates apply.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::stat::CPUS_LIMIT;
use super::text::{Seldom, once, single};
use super::total::Total;
use super::{Paths, Sink, Slot, Tick, unmounted};
use crate::catalogue::{Metric, node as metric};
use crate::outcome::{Fault, FaultCode};

const EVERY: Duration = Duration::from_secs(10);

/// Memory controllers; the largest machines have a few for each socket.
const CONTROLLERS_LIMIT: usize = 64;

/// The folders of a directory with this prefix and a number, that hold this file.
pub(super) fn numbered(folder: &Path, prefix: &str, file: &str, limit: usize) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let fits = |name: &str| {
        let digits = name.strip_prefix(prefix);
        digits
            .is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit()))
    };
    let names = entries.flatten().map(|entry| entry.file_name());
    let names = names.filter(|name| name.to_str().is_some_and(fits));
    let mut paths: Vec<PathBuf> =
        names.map(|name| folder.join(name).join(file)).filter(|path| path.exists()).collect();
    paths.sort();
    paths.truncate(limit);
    paths
}

/// The files that count processors slowed down by heat; Intel's driver has them.
pub(super) fn throttle_files(sysfs: &Path, file: &str) -> Vec<PathBuf> {
    let file = format!("thermal_throttle/{file}");
    numbered(&sysfs.join("devices/system/cpu"), "cpu", &file, CPUS_LIMIT)
}

/// The files that name what governs the frequency of each processor.
pub(super) fn governor_files(sysfs: &Path) -> Vec<PathBuf> {
    numbered(&sysfs.join("devices/system/cpu"), "cpu", "cpufreq/scaling_governor", CPUS_LIMIT)
}

pub(super) fn huge_pages_file(sysfs: &Path) -> PathBuf {
    sysfs.join("kernel/mm/transparent_hugepage/enabled")
}

/// The files that count errors of the memory (Documentation/admin-guide/RAS/main.rst).
pub(super) fn memory_files(sysfs: &Path, file: &str) -> Vec<PathBuf> {
    numbered(&sysfs.join("devices/system/edac/mc"), "mc", file, CONTROLLERS_LIMIT)
}

/// Files of one counter each, and their sum.
struct Sum {
    metric: &'static Metric,
    paths: Vec<PathBuf>,
    /// Why there are none.
    none: Arc<Fault>,
    /// The first of them that could not be read; a sum without it would go backwards.
    unread: Option<Arc<Fault>>,
    /// Of processors, which may be taken off line and their files with them.
    of_processors: bool,
    total: Total,
    value: Option<u64>,
}

impl Sum {
    fn new(metric: &'static Metric, paths: Vec<PathBuf>, none: &Arc<Fault>) -> Self {
        let total = Total::default();
        let none = Arc::clone(none);
        Self { metric, paths, none, unread: None, of_processors: false, total, value: None }
    }

    fn of_processors(self) -> Self {
        Self { of_processors: true, ..self }
    }

    fn read(&mut self, buffer: &mut Vec<u8>) {
        let (mut there, mut sum) = (0, 0u64);
        for path in &self.paths {
            let Some(count) = once(path, buffer).and_then(single) else {
                if self.of_processors && !path.exists() {
                    continue;
                }
                if self.unread.is_none() {
                    let text = format!("{} does not hold a count", path.display());
                    self.unread = Some(Arc::new(Fault::new(FaultCode::Unreadable, text)));
                }
                self.value = None;
                return;
            };
            there += 1;
            sum = sum.saturating_add(count);
        }
        self.unread = None;
        self.value = (there > 0).then(|| self.total.take(there, sum));
    }
}

pub(super) struct Source {
    sums: [Sum; 4],
    due: Seldom,
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        let unmounted = unmounted(&paths.sysfs);
        let none = |text: String| {
            unmounted.clone().unwrap_or_else(|| Arc::new(Fault::new(FaultCode::Unsupported, text)))
        };
        let sysfs = paths.sysfs.display();
        let cool = none(format!(
            "no {sysfs}/devices/system/cpu/cpu*/thermal_throttle: the kernel counts throttling by \
             heat on Intel's processors only, and not in virtual machines"
        ));
        let plain = none(format!(
            "no {sysfs}/devices/system/edac/mc/mc*: this machine's memory has no ECC, or the EDAC \
             driver of its memory controller is not loaded"
        ));
        let throttles = |file| throttle_files(&paths.sysfs, file);
        let memory = |file| memory_files(&paths.sysfs, file);
        Self {
            sums: [
                Sum::new(&metric::CPU_THROTTLES, throttles("core_throttle_count"), &cool)
                    .of_processors(),
                Sum::new(&metric::PACKAGE_THROTTLES, throttles("package_throttle_count"), &cool)
                    .of_processors(),
                Sum::new(&metric::ECC_CORRECTED, memory("ce_count"), &plain),
                Sum::new(&metric::ECC_UNCORRECTED, memory("ue_count"), &plain),
            ],
            due: Seldom::every(EVERY),
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        if self.due.now(tick.at) {
            for sum in &mut self.sums {
                sum.read(&mut tick.buffer);
            }
        }
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        for sum in &self.sums {
            let none = sum.paths.is_empty().then_some(&sum.none);
            sink.under(sum.unread.as_ref().or(none));
            sink.put(sum.metric, &[], Slot::of(sum.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Cells;
    use crate::node::tests::{Copy, exported, sample};
    use crate::node::{Frame, Sampler, Signal};

    #[test]
    fn counts_are_summed_and_one_that_is_missing_spoils_the_sum() {
        let copy = Copy::of("idle");
        let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
        let mut frame = Frame::default();
        sample(&mut sampler, 0, &mut frame);
        let value = |frame: &Frame, name: &str| exported(frame, name, &[]);
        assert_eq!(value(&frame, "greenlight_node_cpu_thermal_throttles_total"), Some(3.0));
        assert_eq!(value(&frame, "greenlight_node_memory_corrected_errors_total"), Some(5.0));
        assert_eq!(value(&frame, "greenlight_node_memory_uncorrected_errors_total"), Some(0.0));

        copy.write("sys/devices/system/edac/mc/mc1/ce_count", "9\n");
        for spoilt in ["", "x\n", "1 2\n", "\0\0", "99999999999999999999\n"] {
            copy.write("sys/devices/system/edac/mc/mc0/ue_count", spoilt);
            sampler = Sampler::new(&copy.paths(), &Cells::new());
            sample(&mut sampler, 0, &mut frame);
            assert_eq!(value(&frame, "greenlight_node_memory_corrected_errors_total"), Some(11.0));
            match frame.find("node.memory.ecc.uncorrected", None) {
                Some(Signal::Absent(fault)) => {
                    assert!(fault.text.contains("mc0/ue_count"), "{fault}")
                }
                other => panic!("{spoilt:?} is {other:?}"),
            }
        }
        // Read again ten seconds later, not before.
        copy.write("sys/devices/system/edac/mc/mc1/ce_count", "10\n");
        sample(&mut sampler, 5, &mut frame);
        assert_eq!(value(&frame, "greenlight_node_memory_corrected_errors_total"), Some(11.0));
        sample(&mut sampler, 10, &mut frame);
        assert_eq!(value(&frame, "greenlight_node_memory_corrected_errors_total"), Some(12.0));
        copy.remove("sys/devices/system/edac/mc/mc1/ce_count");
        sample(&mut sampler, 20, &mut frame);
        assert!(matches!(frame.find("node.memory.ecc.corrected", None), Some(Signal::Absent(_))));
    }

    #[test]
    fn a_processor_that_goes_off_line_and_comes_back_was_not_throttled() {
        let copy = Copy::of("idle");
        let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
        let (mut frame, mut second) = (Frame::default(), 0);
        let mut throttles = || {
            sample(&mut sampler, second, &mut frame);
            second += 10;
            exported(&frame, "greenlight_node_cpu_thermal_throttles_total", &[])
        };
        let file = "sys/devices/system/cpu/cpu1/thermal_throttle/core_throttle_count";
        let own = String::from_utf8(crate::node::tests::fixture(&format!("idle/{file}"))).unwrap();
        let own: f64 = own.trim().parse().unwrap();
        assert!(own > 0.0);
        assert_eq!(throttles(), Some(3.0));
        copy.remove(file);
        assert_eq!(throttles(), Some(3.0));
        copy.write(file, format!("{own}\n"));
        assert_eq!(throttles(), Some(3.0));
        copy.write(file, format!("{}\n", own + 1.0));
        assert_eq!(throttles(), Some(4.0));
    }

    /// As in a container that was given none of the host's.
    #[test]
    fn without_sysfs_nobody_says_that_there_is_no_such_hardware() {
        let copy = Copy::of("idle");
        let mut paths = copy.paths();
        paths.sysfs = copy.paths().rootfs.join("nowhere");
        let mut frame = Frame::default();
        sample(&mut Sampler::new(&paths, &Cells::new()), 0, &mut frame);
        for series in [
            "node.cpu.throttles",
            "node.memory.ecc.corrected",
            "node.settings.performance_governor",
            "node.settings.transparent_hugepages",
        ] {
            match frame.find(series, None) {
                Some(Signal::Absent(fault)) => {
                    assert!(fault.text.contains("name it with --path.sysfs"), "{series}: {fault}");
                }
                other => panic!("{series} is {other:?}"),
            }
        }
    }

    #[test]
    fn hardware_that_is_not_there_is_absent_with_the_reason() {
        let copy = Copy::of("rhel7");
        std::fs::create_dir_all(copy.paths().sysfs.join("devices/system/cpu")).unwrap();
        let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
        let mut frame = Frame::default();
        sample(&mut sampler, 0, &mut frame);
        for (series, says) in
            [("node.cpu.throttles", "thermal_throttle"), ("node.memory.ecc.corrected", "EDAC")]
        {
            match frame.find(series, None) {
                Some(Signal::Absent(fault)) => {
                    assert_eq!(fault.code, FaultCode::Unsupported);
                    assert!(fault.text.contains(says), "{fault}");
                }
                other => panic!("{series} is {other:?}"),
            }
        }
    }
}
