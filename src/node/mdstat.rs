//! /proc/mdstat: software arrays, the disks that they lack, and what they do about it.
//!
//! The file and not /sys/block/md*/md, whose attributes take the array's lock and may wait for it.

use std::sync::Arc;

use super::text::{KernelFile, fields, lines, number};
use super::{Paths, Sink, Slot, Tick};
use crate::catalogue::node as metric;
use crate::outcome::{Fault, FaultCode};

/// Arrays shown.
const ARRAYS_LIMIT: usize = 64;

/// What an array can be busy with (md_seq_show and status_resync in drivers/md/md.c).
const ACTIONS: [&str; 4] = ["resync", "recovery", "check", "reshape"];

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reading {
    active: bool,
    /// Disks listed, spares and failed ones included.
    listed: u64,
    failed: u64,
    /// Disks that it should have, and those that work; None for kinds that can't lack one.
    disks: Option<(u64, u64)>,
    action: Option<usize>,
    /// No array, but what the firmware's own arrays are kept in (IMSM, DDF): it is never active.
    container: bool,
}

impl Reading {
    fn missing(&self) -> u64 {
        match self.disks {
            _ if self.container => self.failed,
            _ if !self.active => self.listed.max(1),
            Some((wanted, working)) => wanted.saturating_sub(working),
            None => self.failed,
        }
    }
}

/// The first line of an array: `md0 : active raid1 sdb1[1] sda1[0](F)`.
fn head(line: &[u8]) -> Option<(&[u8], Reading)> {
    let mut words = fields(line);
    let name = words.next().filter(|name| name.starts_with(b"md"))?;
    words.next().filter(|word| *word == b":")?;
    let active = match words.next()? {
        b"active" => true,
        b"inactive" => false,
        _ => return None,
    };
    let mut reading = Reading { active, ..Reading::default() };
    for word in words.filter(|word| word.contains(&b'[')) {
        reading.listed += 1;
        reading.failed += u64::from(word.ends_with(b"(F)"));
    }
    Some((name, reading))
}

/// A further line: `1952 blocks super 1.2 [2/1] [U_]`, `[==>..] recovery = 12.6% (37/292) ...`, or
/// `resync=PENDING`.
fn tail(line: &[u8], reading: &mut Reading) {
    for word in fields(line) {
        // An array within one says `external:/md127/0`.
        let external = word.strip_prefix(b"external:");
        reading.container |= external.is_some_and(|of| !matches!(of.first(), Some(b'/' | b'-')));
        let pair = word.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]"));
        let mut parts = pair.unwrap_or_default().split(|byte| *byte == b'/').map(number);
        if let (Some(Some(wanted)), Some(Some(working)), None) =
            (parts.next(), parts.next(), parts.next())
        {
            reading.disks = Some((wanted, working));
        }
        let word = word.split(|byte| *byte == b'=').next().unwrap_or_default();
        if let Some(action) = ACTIONS.iter().position(|action| action.as_bytes() == word) {
            reading.action = Some(action);
        }
    }
}

struct Array {
    name: Arc<str>,
    now: Reading,
}

pub(super) struct Source {
    file: KernelFile,
    source: Arc<str>,
    actions: [Arc<str>; 4],
    arrays: Vec<Array>,
    over: usize,
    /// Of those beyond the limit nobody knows whether one is whole: they are one more.
    beyond: (Arc<str>, Option<Arc<Fault>>),
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        Self {
            file: KernelFile::new(paths.procfs.join("mdstat")),
            source: Arc::from("md"),
            actions: ACTIONS.map(Arc::from),
            arrays: Vec::new(),
            over: 0,
            beyond: (Arc::from("more"), None),
        }
    }

    fn take(&mut self, text: &[u8]) -> bool {
        let (mut count, mut changed, mut open) = (0_usize, false, false);
        let before = std::mem::take(&mut self.over);
        for line in lines(text) {
            let Some((name, reading)) = head(line) else {
                // An empty line ends an array.
                open &= !line.is_empty();
                let last = count.checked_sub(1).filter(|_| open);
                if let Some(array) = last.and_then(|last| self.arrays.get_mut(last)) {
                    tail(line, &mut array.now);
                }
                continue;
            };
            open = count < ARRAYS_LIMIT;
            if !open {
                self.over += 1;
                continue;
            }
            match self.arrays.get_mut(count) {
                Some(array) if array.name.as_bytes() == name => array.now = reading,
                _ => {
                    changed = true;
                    self.arrays.truncate(count);
                    let name = Arc::from(String::from_utf8_lossy(name));
                    self.arrays.push(Array { name, now: reading });
                }
            }
            count += 1;
        }
        changed |= self.arrays.len() > count;
        self.arrays.truncate(count);
        if self.over != before {
            let text = format!("{} arrays more than {ARRAYS_LIMIT} are not looked at", self.over);
            let fault = Arc::new(Fault::new(FaultCode::Unsupported, text));
            self.beyond.1 = Some(fault).filter(|_| self.over > 0);
        }
        changed | ((self.over > 0) != (before > 0))
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        let Some(text) = self.file.read(&mut tick.buffer) else { return false };
        if !text.starts_with(b"Personalities") {
            self.file.garbled("does not begin with its personalities");
            return false;
        }
        self.take(text)
    }

    fn put(&self, sink: &mut Sink<'_>) {
        // A kernel without software arrays has no such file, and no array.
        if self.arrays.is_empty() && self.file.fault().is_some() {
            return;
        }
        sink.under(self.file.fault());
        sink.put(&metric::OVER_LIMIT, &[&self.source], Slot::Number(self.over as f64));
        for Array { name, now } in &self.arrays {
            sink.put(&metric::MD_MISSING, &[name], Slot::Number(now.missing() as f64));
            sink.put(&metric::MD_FAILED, &[name], Slot::Number(now.failed as f64));
            for (index, action) in self.actions.iter().enumerate() {
                let on = f64::from(u8::from(now.action == Some(index)));
                sink.put(&metric::MD_ACTION, &[name, action], Slot::Number(on));
            }
        }
        if let (name, Some(fault)) = &self.beyond {
            sink.under(Some(fault));
            sink.put(&metric::MD_MISSING, &[name], Slot::MISSING);
            sink.put(&metric::MD_FAILED, &[name], Slot::MISSING);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::{fixture, mangled};

    fn source(text: &str) -> Source {
        let mut source = Source::new(&Paths::default());
        source.take(text.as_bytes());
        source
    }

    fn read(text: &str) -> Vec<(String, Reading)> {
        source(text).arrays.iter().map(|array| (array.name.to_string(), array.now)).collect()
    }

    #[test]
    fn arrays_whole_degraded_and_stopped() {
        let text = String::from_utf8(fixture("idle/proc/mdstat")).unwrap();
        let whole = Reading { active: true, listed: 2, disks: Some((2, 2)), ..Reading::default() };
        assert_eq!(read(&text), [("md0".to_owned(), whole)]);
        assert_eq!(whole.missing(), 0);

        // Written from md_seq_show and status_resync of Linux 6.1, drivers/md/md.c.
        let text = "Personalities : [raid1] [raid6] [raid5] [raid4] [raid0]\n\
            md127 : active (auto-read-only) raid5 sdd1[3](F) sdc1[1] sdb1[0]\n      \
            5860270080 blocks super 1.2 level 5, 512k chunk, algorithm 2 [3/2] [UU_]\n      \
            [==>..................]  recovery = 12.6% (37043392/292945152) finish=127.5min speed=33440K/sec\n      \
            bitmap: 0/22 pages [0KB], 65536KB chunk\n\n\
            md1 : inactive sda2[0](S)\n      1952 blocks super 1.2\n\n\
            md2 : active raid0 sdf1[1] sde1[0]\n      7813769216 blocks super 1.2 512k chunks\n\n\
            md3 : active raid1 sdh1[1] sdg1[0]\n      1952 blocks [2/2] [UU]\n      \tresync=PENDING\n\n\
            unused devices: <none>\n";
        let arrays = read(text);
        let missing: Vec<_> =
            arrays.iter().map(|(name, now)| (name.as_str(), now.missing(), now.failed)).collect();
        assert_eq!(missing, [("md127", 1, 1), ("md1", 1, 0), ("md2", 0, 0), ("md3", 0, 0)]);
        assert_eq!(arrays[0].1.action, Some(1));
        assert_eq!(arrays[3].1.action, Some(0));
        assert_eq!(arrays[2].1.disks, None);
    }

    /// A firmware RAID lists what it keeps its arrays in as well, which is inactive for ever.
    #[test]
    fn what_holds_arrays_of_the_firmware_lacks_nothing() {
        // Written from md_seq_show of Linux 6.1: `super external:` and the metadata's own text.
        let text = "Personalities : [raid1]\n\
            md126 : active raid1 sda[1] sdb[0]\n      \
            488383488 blocks super external:/md127/0 [2/2] [UU]\n\n\
            md127 : inactive sdb[1](S) sda[0](S)\n      5928 blocks super external:imsm\n\n\
            md125 : inactive sdc[0](S)\n      5928 blocks super external:-md127/1\n\n\
            unused devices: <none>\n";
        let missing: Vec<_> =
            read(text).into_iter().map(|(name, now)| (name, now.missing())).collect();
        let expected = [("md126", 0), ("md127", 0), ("md125", 1)];
        assert_eq!(missing, expected.map(|(name, missing)| (name.to_owned(), missing)));
    }

    #[test]
    fn arrays_come_and_go() {
        let mut source = source("md0 : active raid1 a[0]\nmd1 : active raid1 b[0]\n");
        assert!(!source.take(b"md0 : active raid1 a[0](F)\nmd1 : active raid1 b[0]\n"));
        assert!(source.take(b"md1 : active raid1 b[0]\n"));
        assert_eq!(source.arrays.len(), 1);
        assert!(source.take(b""));
        let many: String =
            (0..ARRAYS_LIMIT + 3).map(|n| format!("md{n} : active raid0 x[0]\n")).collect();
        assert!(source.take(many.as_bytes()));
        assert_eq!((source.arrays.len(), source.over), (ARRAYS_LIMIT, 3));
        let why = source.beyond.1.clone().map(|fault| fault.text.clone());
        assert!(why.is_some_and(|text| text.starts_with("3 arrays more than")));
        assert!(source.take(b"md1 : active raid1 b[0]\n") && source.beyond.1.is_none());
    }

    #[test]
    fn mangled_lists_of_arrays() {
        mangled("mdstat", &fixture("idle/proc/mdstat"), |text| {
            let mut source = Source::new(&Paths::default());
            source.take(text);
            assert!(source.arrays.len() <= ARRAYS_LIMIT);
        });
    }
}
