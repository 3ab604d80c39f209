//! /proc/net/sockstat and sockstat6: sockets by kind, and what TCP takes of its limits.

use std::sync::Arc;

use super::text::{KernelFile, Setting, fields, lines, number};
use super::{Paths, Sink, Slot, Tick, network_folder};
use crate::catalogue::node as metric;

/// The kernel counts TCP's memory in pages; 4 KiB but on some machines of ARM and POWER.
fn page_size() -> f64 {
    let size = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
    size.map_or(4096.0, |size| size as f64)
}

/// Line, field and the label that it is shown under.
type Wanted = (&'static [u8], &'static [u8], &'static str);

const SOCKETS: [Wanted; 9] = [
    (b"sockets:", b"used", "used"),
    (b"TCP:", b"inuse", "tcp"),
    (b"TCP:", b"orphan", "tcp_orphan"),
    (b"TCP:", b"tw", "tcp_time_wait"),
    (b"TCP:", b"alloc", "tcp_allocated"),
    (b"TCP:", b"mem", ""),
    (b"UDP:", b"inuse", "udp"),
    (b"RAW:", b"inuse", "raw"),
    (b"FRAG:", b"inuse", "fragments"),
];

const SOCKETS6: [Wanted; 3] =
    [(b"TCP6:", b"inuse", "tcp6"), (b"UDP6:", b"inuse", "udp6"), (b"RAW6:", b"inuse", "raw6")];

fn parse<const N: usize>(text: &[u8], wanted: &[Wanted; N]) -> Option<[Option<u64>; N]> {
    let mut found = [None; N];
    for line in lines(text) {
        let mut words = fields(line);
        let Some(title) = words.next() else { continue };
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            for (place, (of, field, _)) in found.iter_mut().zip(wanted) {
                if *of == title && *field == name {
                    *place = number(value);
                }
            }
        }
    }
    found.iter().any(Option::is_some).then_some(found)
}

/// The place of TCP's pages and of its orphans.
const PAGES: usize = 5;
const ORPHANS: usize = 2;

pub(super) struct Source {
    file: KernelFile,
    six: KernelFile,
    /// These two are the machine's; a namespace of its own does not see them.
    memory: Setting,
    orphans: Setting,
    labels: Vec<Arc<str>>,
    labels6: Vec<Arc<str>>,
    page: f64,
    now: [Option<u64>; 9],
    now6: [Option<u64>; 3],
    /// The most pages, and the most orphans.
    limits: [Option<u64>; 2],
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        let folder = network_folder(paths);
        let limit = |name: &str| Setting::new(paths.procfs.join("sys/net/ipv4").join(name));
        Self {
            file: KernelFile::at_once(folder.join("sockstat")),
            six: KernelFile::at_once(folder.join("sockstat6")),
            memory: limit("tcp_mem"),
            orphans: limit("tcp_max_orphans"),
            labels: SOCKETS.iter().map(|(.., label)| Arc::from(*label)).collect(),
            labels6: SOCKETS6.iter().map(|(.., label)| Arc::from(*label)).collect(),
            page: page_size(),
            now: [None; 9],
            now6: [None; 3],
            limits: [None; 2],
        }
    }
}

/// The last number of a line, which is the limit of `tcp_mem` and all there is of the other.
fn limit(text: &[u8]) -> Option<u64> {
    fields(lines(text).next()?).last().and_then(number).filter(|limit| *limit > 0)
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        self.now = [None; 9];
        match self.file.read(&mut tick.buffer).map(|text| parse(text, &SOCKETS)) {
            Some(Some(now)) => self.now = now,
            Some(None) => self.file.garbled("does not count sockets"),
            None => {}
        }
        let six = self.six.read(&mut tick.buffer).and_then(|text| parse(text, &SOCKETS6));
        self.now6 = six.unwrap_or_default();
        self.limits = [&mut self.memory, &mut self.orphans]
            .map(|setting| setting.read(tick.at, &mut tick.buffer, limit, "holds no limit"));
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        let of = |place: usize| self.now.get(place).copied().flatten();
        let fault = self.file.fault();
        sink.under(fault.or(self.memory.fault()));
        let share = |part: Option<u64>, whole: Option<u64>| match (part, whole) {
            (Some(part), Some(whole)) => Slot::Number(part as f64 / whole as f64),
            _ => Slot::MISSING,
        };
        let [pages_limit, orphans_limit] = self.limits;
        sink.put(&metric::TCP_MEMORY, &[], share(of(PAGES), pages_limit));
        sink.under(fault.or(self.orphans.fault()));
        sink.put(&metric::TCP_ORPHANS, &[], share(of(ORPHANS), orphans_limit));
        sink.under(fault);
        sink.put(&metric::TCP_MEMORY_BYTES, &[], Slot::scaled(of(PAGES), self.page));
        for (place, label) in self.labels.iter().enumerate().filter(|(place, _)| *place != PAGES) {
            sink.put(&metric::SOCKETS, &[label], Slot::of(of(place)));
        }
        sink.under(self.six.fault());
        for (place, label) in self.labels6.iter().enumerate() {
            let count = self.now6.get(place).copied().flatten();
            sink.put(&metric::SOCKETS, &[label], Slot::of(count));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::{fixture, mangled};

    #[test]
    fn sockets_by_line_and_field() {
        let text = b"sockets: used 44\nTCP: inuse 22 orphan 3 tw 242 alloc 23 mem 217\n\
            UDP: inuse 4 mem 0\nUDPLITE: inuse 9\nRAW: inuse 1\nFRAG: inuse 2 memory 0\n";
        assert_eq!(parse(text, &SOCKETS), Some([44, 22, 3, 242, 23, 217, 4, 1, 2].map(Some)));
        assert_eq!(parse(b"TCP6: inuse 5\n", &SOCKETS6), Some([Some(5), None, None]));
        assert_eq!(parse(b"TCP: inuse x\n", &SOCKETS), None);
        assert_eq!(limit(b"286566\t382088\t573132\n"), Some(573_132));
        assert_eq!(limit(b"0\n"), None);
        assert_eq!(limit(b""), None);
        let good = fixture("idle/proc/net/sockstat");
        mangled("sockstat", &good, |text| {
            let _ = parse(text, &SOCKETS);
            let _ = parse(text, &SOCKETS6);
            let _ = limit(text);
        });
    }
}
