//! Settings of the kernel that products ask for, by their sysctl's names.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::text::{Seldom, once, single};
use super::{Namespace, Paths, Sink, Slot, Tick};
use crate::catalogue::node as metric;
use crate::outcome::{Fault, FaultCode};

/// Settings change when somebody changes them.
const EVERY: Duration = Duration::from_secs(30);

/// What packs judge. One that a kernel lacks is not shown.
const SETTINGS: [&str; 12] = [
    "fs.inotify.max_user_instances",
    "fs.inotify.max_user_watches",
    "kernel.panic_on_oops",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.ipv4.ip_forward",
    // Not there where the packet filter tracks nothing (its module is not loaded).
    "net.netfilter.nf_conntrack_max",
    "vm.max_map_count",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
    "vm.swappiness",
    "vm.zone_reclaim_mode",
];

struct Setting {
    name: Arc<str>,
    file: PathBuf,
    there: bool,
    value: Option<u64>,
}

pub(super) struct Source {
    settings: Vec<Setting>,
    due: Seldom,
    /// Why those of the network are not known: whosever procfs it is, they are those of this process's
    /// own network namespace.
    elsewhere: Option<Arc<Fault>>,
}

/// What the settings of a network namespace begin with.
const OF_NAMESPACE: &str = "net.";

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        Self::seen_from(paths, Namespace::of(paths))
    }

    fn seen_from(paths: &Paths, namespace: Namespace) -> Self {
        let setting = |name: &&str| Setting {
            name: Arc::from(*name),
            file: paths.procfs.join("sys").join(name.replace('.', "/")),
            there: false,
            value: None,
        };
        let text = format!(
            "{} shows the network namespace of this process and not the node's: run in the host's \
             (hostNetwork, --network host)",
            paths.procfs.join("sys/net").display()
        );
        let fault = Arc::new(Fault::new(FaultCode::Unsupported, text));
        Self {
            settings: SETTINGS.iter().map(setting).collect(),
            due: Seldom::every(EVERY),
            elsewhere: Some(fault).filter(|_| namespace == Namespace::Other),
        }
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        if !self.due.now(tick.at) {
            return false;
        }
        let mut changed = false;
        for setting in &mut self.settings {
            setting.value = once(&setting.file, &mut tick.buffer).and_then(single);
            let hidden = self.elsewhere.is_some() && setting.name.starts_with(OF_NAMESPACE);
            let there = hidden || setting.value.is_some() || setting.file.exists();
            changed |= std::mem::replace(&mut setting.there, there) != there;
        }
        changed
    }

    fn put(&self, sink: &mut Sink<'_>) {
        for setting in self.settings.iter().filter(|setting| setting.there) {
            let elsewhere = self.elsewhere.as_ref();
            sink.under(elsewhere.filter(|_| setting.name.starts_with(OF_NAMESPACE)));
            sink.put(&metric::KERNEL_SETTING, &[&setting.name], Slot::of(setting.value));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::lanes::Cells;
    use crate::node::tests::{Copy, sample};
    use crate::node::{Frame, Sampler, Signal};

    /// A container with a network of its own forwards or does not, whatever the node does.
    #[test]
    fn settings_of_another_network_namespace_are_not_the_nodes() {
        let copy = Copy::of("idle");
        let source = super::Source::seen_from(&copy.paths(), super::Namespace::Other);
        let mut sampler = Sampler::with(vec![Box::new(source)], &Cells::new());
        let mut frame = Frame::default();
        sample(&mut sampler, 0, &mut frame);
        for name in super::SETTINGS {
            match frame.find("node.settings.kernel", Some(name)) {
                Some(Signal::Absent(fault)) if name.starts_with("net.") => {
                    assert!(fault.text.contains("network namespace"), "{name}: {fault}");
                }
                Some(Signal::Number(_)) if !name.starts_with("net.") => {}
                other => panic!("{name} is {other:?}"),
            }
        }
    }

    #[test]
    fn settings_are_read_again_and_those_that_are_not_there_are_not_shown() {
        let copy = Copy::of("idle");
        let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
        let mut frame = Frame::default();
        let mut at = 0;
        let mut value = |name: &str| {
            sample(&mut sampler, at, &mut frame);
            at += 30;
            match frame.find("node.settings.kernel", Some(name)) {
                Some(Signal::Number(value)) => Ok(value),
                Some(other) => Err(format!("{other:?}")),
                None => Err("not shown".to_owned()),
            }
        };
        assert_eq!(value("vm.max_map_count"), Ok(262_144.0));
        assert_eq!(value("vm.swappiness"), Ok(1.0));
        copy.write("proc/sys/vm/max_map_count", "65530\n");
        assert_eq!(value("vm.max_map_count"), Ok(65_530.0));
        // What is no number is not 0, and not gone either.
        copy.write("proc/sys/vm/max_map_count", "many\n");
        assert!(value("vm.max_map_count").is_err_and(|what| what.starts_with("Absent")));
        std::fs::remove_file(copy.paths().procfs.join("sys/vm/max_map_count")).unwrap();
        assert_eq!(value("vm.max_map_count"), Err("not shown".to_owned()));
    }
}
