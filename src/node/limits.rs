//! What a node has only so much of: open files and tasks; and tasks that hang.

use std::time::Duration;

use super::text::{KernelFile, Seldom, fields, lines, number, single};
use super::{Paths, Sink, Slot, Tick};
use crate::catalogue::node as metric;

/// Limits change when somebody changes them.
const LIMITS_EVERY: Duration = Duration::from_secs(30);

/// The open files and how many there may be. The second figure of the file is 0 since Linux 2.6
/// (Documentation/admin-guide/sysctl/fs.rst).
fn files(text: &[u8]) -> Option<(u64, u64)> {
    let mut words = fields(lines(text).next()?);
    let open = number(words.next()?)?;
    let limit = number(words.nth(1)?)?;
    (limit > 0).then_some((open, limit))
}

/// A file of one number, and the number.
struct Single {
    file: KernelFile,
    value: Option<u64>,
}

impl Single {
    fn read(&mut self, tick: &mut Tick) {
        self.value = self.file.read(&mut tick.buffer).and_then(single);
        if self.value.is_none() && self.file.fault().is_none() {
            self.file.garbled("is not a number");
        }
    }
}

pub(super) struct Source {
    files: KernelFile,
    open: Option<(u64, u64)>,
    hung: Single,
    /// The tasks that exist, from `loadavg`.
    tasks: Option<u64>,
    limits: [Single; 2],
    due: Seldom,
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        let sys = paths.procfs.join("sys");
        let single = |file: &str| Single { file: KernelFile::at_once(sys.join(file)), value: None };
        Self {
            files: KernelFile::at_once(sys.join("fs/file-nr")),
            open: None,
            hung: single("kernel/hung_task_detect_count"),
            tasks: None,
            limits: [single("kernel/pid_max"), single("kernel/threads-max")],
            due: Seldom::every(LIMITS_EVERY),
        }
    }

    /// Every thread takes a process id, so the smaller of the two is where it ends.
    fn tasks_limit(&self) -> Option<u64> {
        let [pids, threads] = &self.limits;
        Some(pids.value?.min(threads.value?)).filter(|limit| *limit > 0)
    }
}

fn share(used: Option<u64>, limit: Option<u64>) -> Slot {
    match (used, limit) {
        (Some(used), Some(limit)) => Slot::Number(used as f64 / limit as f64),
        _ => Slot::MISSING,
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        self.tasks = tick.tasks;
        self.open = self.files.read(&mut tick.buffer).and_then(files);
        if self.open.is_none() && self.files.fault().is_none() {
            self.files.garbled("does not say how many files are open");
        }
        self.hung.read(tick);
        if self.due.now(tick.at) {
            for limit in &mut self.limits {
                limit.read(tick);
            }
        }
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        sink.under(self.files.fault());
        let (open, limit) = (self.open.map(|open| open.0), self.open.map(|open| open.1));
        sink.put(&metric::OPEN_FILES_USED, &[], share(open, limit));
        sink.put(&metric::OPEN_FILES, &[], Slot::of(open));
        sink.put(&metric::OPEN_FILES_LIMIT, &[], Slot::of(limit));
        sink.under(self.hung.file.fault());
        sink.put(&metric::HUNG_TASKS, &[], Slot::of(self.hung.value));
        sink.under(self.limits.iter().find_map(|limit| limit.file.fault()));
        sink.put(&metric::TASKS_USED, &[], share(self.tasks, self.tasks_limit()));
        sink.put(&metric::TASKS_LIMIT, &[], Slot::of(self.tasks_limit()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::node::tests::mangled;

    #[test]
    fn open_files_and_their_limit() {
        assert_eq!(files(b"677\t0\t2466170\n"), Some((677, 2_466_170)));
        // systemd sets the largest number that the kernel takes.
        assert_eq!(files(b"1\t0\t9223372036854775807\n"), Some((1, i64::MAX as u64)));
        for text in ["", "677\t0\t2466170", "677 0\n", "1 0 0\n", "x 0 1\n", "1 0 x\n"] {
            assert_eq!(files(text.as_bytes()), None, "{text:?}");
        }
        mangled("file-nr", b"677\t0\t2466170\n", |text| {
            let _ = files(text);
        });
    }

    #[test]
    fn a_single_number() {
        assert_eq!(single(b"32768\n"), Some(32768));
        for text in ["", "1", "1 2\n", "-1\n", "\n", "99999999999999999999\n"] {
            assert_eq!(single(text.as_bytes()), None, "{text:?}");
        }
        mangled("number", b"32768\n", |text| {
            let _ = single(text);
        });
    }
}
