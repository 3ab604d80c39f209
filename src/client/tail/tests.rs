use std::io::Write;

use super::*;

const LIMITS: Limits = Limits { bytes: 1 << 20, line: 1 << 16 };

struct Log {
    folder: tempfile::TempDir,
    path: PathBuf,
    mark: Mark,
}

impl Log {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.log");
        std::fs::write(&path, text).unwrap();
        let mark = Mark::at_end(&path).unwrap();
        Self { folder, path, mark }
    }

    fn append(&self, text: &str) {
        let mut file = File::options().append(true).create(true).open(&self.path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn rotate_by_rename(&self, to: &str) {
        std::fs::rename(&self.path, self.folder.path().join(to)).unwrap();
    }

    fn rotate_by_copy(&self, to: &str) {
        std::fs::copy(&self.path, self.folder.path().join(to)).unwrap();
        File::options().write(true).open(&self.path).unwrap().set_len(0).unwrap();
    }

    /// The lines that were seen, and whether that is all.
    fn read(&mut self) -> (Vec<String>, bool) {
        self.read_within(LIMITS)
    }

    fn read_within(&mut self, limits: Limits) -> (Vec<String>, bool) {
        // As a restart of the agent has it.
        let stored = serde_json::to_string(&self.mark).unwrap();
        let mark = serde_json::from_str(&stored).unwrap();
        let seen = tail(&self.path, mark, b"run", limits).unwrap();
        self.mark = seen.mark;
        let lines = seen.lines.into_iter().map(|l| String::from_utf8(l.bytes).unwrap()).collect();
        (lines, seen.lacking.is_none())
    }
}

fn all(lines: &[&str]) -> (Vec<String>, bool) {
    (lines.iter().map(|line| (*line).to_owned()).collect(), true)
}

#[test]
fn what_is_appended_is_read_once_and_in_whole_lines() {
    let mut log = Log::new("run 0\n");
    assert_eq!(log.read(), all(&[]));
    log.append("run 1\r\nother\nrun 2");
    // A line that is being written is none yet, nor is it known what becomes of it.
    assert_eq!(log.read(), (vec!["run 1".to_owned()], false));
    assert_eq!(log.read(), (vec![], false));
    log.append(" goes on\n");
    assert_eq!(log.read(), all(&["run 2 goes on"]));
    assert_eq!(log.read(), all(&[]));
}

#[test]
fn a_renamed_file_is_read_to_its_end_and_the_new_one_from_its_beginning() {
    let mut log = Log::new("run 0\n");
    log.append("run 1\n");
    log.rotate_by_rename("app.log.1");
    // Between the two there is no file.
    assert_eq!(log.read(), all(&["run 1"]));
    log.append("run 2\n");
    assert_eq!(log.read(), all(&["run 2"]));
    // Two rotations between two looks.
    log.append("run 3\n");
    log.rotate_by_rename("app.log.2");
    log.append("run 4\n");
    log.rotate_by_rename("app.log.3");
    log.append("run 5\n");
    assert_eq!(log.read(), all(&["run 3", "run 4", "run 5"]));
}

#[test]
fn what_a_writer_adds_to_a_renamed_file_is_read_too() {
    let mut log = Log::new("run 0\n");
    let mut writer = File::options().append(true).open(&log.path).unwrap();
    let mut late = |text: &str| writer.write_all(text.as_bytes()).unwrap();
    log.rotate_by_rename("app.log.1");
    assert_eq!(log.read(), all(&[]));
    log.append("run 2\n");
    late("run 1\n");
    assert_eq!(log.read(), all(&["run 1", "run 2"]));
    std::fs::rename(log.folder.path().join("app.log.1"), log.folder.path().join("app.log.2"))
        .unwrap();
    late("run 3\nother\n");
    assert_eq!(log.read(), all(&["run 3"]));
    assert_eq!(log.read(), all(&[]));
    // What came there last can't be known any more.
    std::fs::remove_file(log.folder.path().join("app.log.2")).unwrap();
    log.append("run 4\n");
    assert_eq!(log.read(), (vec!["run 4".to_owned()], false));
}

#[test]
fn a_copied_and_cut_file_is_read_on_in_its_copy() {
    let mut log = Log::new("run 0\n");
    log.append("run 1\n");
    log.rotate_by_copy("app.log.1");
    log.append("run 2, which is longer than all that was there before\n");
    assert_eq!(
        log.read(),
        all(&["run 1", "run 2, which is longer than all that was there before"])
    );
    assert_eq!(log.read(), all(&[]));
}

#[test]
fn what_was_rotated_away_unread_is_never_complete_again() {
    let mut log = Log::new("run 0\n");
    log.append("run 1\n");
    // Cut, or compressed at once: what stood there is nowhere.
    File::options().write(true).open(&log.path).unwrap().set_len(0).unwrap();
    log.append("run 2\n");
    assert_eq!(log.read(), (vec!["run 2".to_owned()], false));
    log.append("run 3\n");
    assert_eq!(log.read(), (vec!["run 3".to_owned()], false));
}

#[test]
fn another_file_with_the_old_inode_is_not_the_old_one() {
    let mut log = Log::new("run 0 and some more words\n");
    let (device, inode) = log.mark.file.unwrap();
    std::fs::write(&log.path, "run 1 but other words than before\n").unwrap();
    let at = std::fs::metadata(&log.path).unwrap();
    assert_eq!((at.dev(), at.ino()), (device, inode));
    let (lines, complete) = log.read();
    assert_eq!((lines.len(), complete), (1, false));
}

#[test]
fn a_file_that_comes_later_is_read_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.log");
    let mark = Mark::at_end(&path).unwrap();
    let mut log = Log { folder, path, mark };
    assert_eq!(log.read(), all(&[]));
    log.append("run 1\n");
    assert_eq!(log.read(), all(&["run 1"]));
}

#[test]
fn a_reading_has_bounds_and_the_next_one_goes_on() {
    let mut log = Log::new("");
    for line in 0..100 {
        log.append(&format!("run {line:05}\n"));
    }
    let small = Limits { bytes: 300, line: 1 << 16 };
    let mut seen = Vec::new();
    let mut complete = false;
    for _ in 0..20 {
        let (lines, all) = log.read_within(small);
        seen.extend(lines);
        complete = all;
    }
    assert_eq!((seen.len(), complete), (100, true));
    assert_eq!(seen[99], "run 00099");
    // A line without an end is taken in pieces, and fills no memory.
    log.append(&"run ".repeat(1_000));
    let (lines, _) = log.read_within(Limits { bytes: 1 << 20, line: 1_000 });
    assert_eq!(lines.iter().map(String::len).collect::<Vec<_>>(), [1_000; 4]);
}

#[test]
fn what_can_not_be_read_is_no_empty_file() {
    let nowhere = Path::new("/nonexistent/folder/app.log");
    assert_eq!(Mark::at_end(nowhere).unwrap_err().code, FaultCode::Unreadable);
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(Mark::at_end(folder.path()).unwrap_err().code, FaultCode::Unreadable);
}
