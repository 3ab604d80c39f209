//! Pictures that reports name, beside the database: each in a file named by the SHA-256 of what it holds.
//!
//! They are bounded by themselves, the oldest go first; and they go with the last round and report that
//! names them.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::time::Wall;

/// The folder in the state directory.
pub(super) const FOLDER: &str = "exhibits";
/// Pictures that are kept: as many as there are reports.
pub(super) const KEPT: usize = 200;
/// And what they may take together.
const KEPT_BYTES: u64 = 64 << 20;
/// A picture is on disk before what names it.
const YOUNG: Duration = Duration::from_secs(3600);

struct Kept {
    path: PathBuf,
    bytes: u64,
    written: SystemTime,
}

/// Writes a picture under its name, whole or not at all. How many older ones had to go for it.
pub(super) fn keep(dir: &Path, name: &str, png: &[u8]) -> io::Result<u64> {
    let folder = dir.join(FOLDER);
    DirBuilder::new().recursive(true).mode(0o750).create(&folder)?;
    let path = folder.join(name);
    let mut others = all(dir);
    others.retain(|kept| kept.path != path);
    let mut bytes: u64 = others.iter().map(|kept| kept.bytes).sum();
    let mut count = others.len();
    let mut gone = 0;
    for oldest in &others {
        if count < KEPT && bytes.saturating_add(png.len() as u64) <= KEPT_BYTES {
            break;
        }
        fs::remove_file(&oldest.path)?;
        (count, bytes) = (count.saturating_sub(1), bytes.saturating_sub(oldest.bytes));
        gone += 1;
    }
    let unfinished = folder.join(format!("{name}.part"));
    let written = (|| {
        let mut options = OpenOptions::new();
        let mut file =
            options.write(true).create(true).truncate(true).mode(0o640).open(&unfinished)?;
        file.write_all(png)?;
        file.sync_all()?;
        fs::rename(&unfinished, &path)
    })();
    if written.is_err() {
        // What could not be written takes no room; whether that worked changes nothing.
        let _ = fs::remove_file(&unfinished);
    }
    written.map(|()| gone)
}

/// Deletes those that nothing names any more, and what a killed process left half written.
pub(super) fn forget(dir: &Path, named: &HashSet<String>, now: Wall) {
    let now = UNIX_EPOCH + Duration::from_nanos(u64::try_from(now.0).unwrap_or(0));
    for kept in all(dir) {
        let age = now.duration_since(kept.written).unwrap_or_default();
        let digest = kept.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        if age >= YOUNG && !named.contains(digest) {
            // The next time tries again.
            let _ = fs::remove_file(&kept.path);
        }
    }
}

pub(super) fn count(dir: &Path) -> usize {
    all(dir).len()
}

/// The oldest first.
fn all(dir: &Path) -> Vec<Kept> {
    let kept = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let about = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(Kept { path: entry.path(), bytes: about.len(), written: about.modified().ok()? })
    };
    let entries = fs::read_dir(dir.join(FOLDER)).into_iter().flatten();
    let mut all: Vec<Kept> = entries.filter_map(kept).collect();
    all.sort_by(|a, b| (a.written, &a.path).cmp(&(b.written, &b.path)));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn age(dir: &Path, name: &str, seconds: u64) {
        let file = fs::File::options().write(true).open(dir.join(FOLDER).join(name)).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000 - seconds)).unwrap();
    }

    fn names(dir: &Path) -> Vec<String> {
        let name = |kept: Kept| kept.path.file_name().unwrap().to_str().unwrap().to_owned();
        all(dir).into_iter().map(name).collect()
    }

    #[test]
    fn the_oldest_pictures_go_for_newer_ones_and_none_twice() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for n in 0..KEPT {
            let name = format!("{n}.png");
            assert_eq!(keep(dir, &name, b"p").unwrap(), 0);
            age(dir, &name, 10_000 - n as u64);
        }
        assert_eq!(keep(dir, "0.png", b"p").unwrap(), 0, "it is there");
        assert_eq!(keep(dir, "new.png", b"p").unwrap(), 1);
        let now = names(dir);
        assert_eq!((now.len(), count(dir)), (KEPT, KEPT));
        assert!(!now.contains(&"1.png".to_owned()) && now.contains(&"0.png".to_owned()));
        // By what they take, too.
        let large = vec![0; 40 << 20];
        assert_eq!(keep(dir, "large.png", &large).unwrap(), 1);
        assert_eq!(keep(dir, "larger.png", &large).unwrap(), KEPT as u64);
        assert_eq!(names(dir), ["larger.png"]);
    }

    #[test]
    fn a_picture_goes_with_the_last_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        for (name, seconds) in [("named", 9000), ("old", 9000), ("young", 60)] {
            keep(dir, &format!("{name}.png"), b"p").unwrap();
            age(dir, &format!("{name}.png"), seconds);
        }
        fs::write(dir.join(FOLDER).join("half.png.part"), b"p").unwrap();
        age(dir, "half.png.part", 9000);
        let named = HashSet::from(["named".to_owned()]);
        forget(dir, &named, Wall::from_secs(1_000_000));
        assert_eq!(names(dir), ["named.png", "young.png"]);
        forget(dir, &HashSet::new(), Wall::from_secs(1_010_000));
        assert_eq!(names(dir), [""; 0]);
        forget(&dir.join("nowhere"), &named, Wall::from_secs(1_000_000));
    }

    #[test]
    fn what_can_not_be_written_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join(FOLDER).join("a.png/in the way")).unwrap();
        assert!(keep(dir.path(), "a.png", b"p").is_err());
        assert_eq!(names(dir.path()), [""; 0]);
    }
}
