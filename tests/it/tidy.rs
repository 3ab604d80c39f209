//! What keeps the house in order: which room may import which, how long a file may be, which
//! crates may be depended on, and that what is generated is what the code says.

mod deploy;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{CargoOpt, DependencyKind, MetadataCommand};

/// The rooms from the words up. A room may import those before it, and nothing else.
const ROOMS: [&str; 23] = [
    // words
    "catalogue",
    "time",
    "outcome",
    "spec",
    // pure
    "journey",
    "sigma",
    "series",
    "metrics",
    "gate",
    "ledger",
    // wires
    "lanes",
    "client",
    // kinds
    "probe",
    "node",
    "send",
    "confirm",
    // whole
    "render",
    "plan",
    "store",
    "serve",
    // top
    "demo",
    "agent",
    "cli",
];

/// Rooms that never do I/O: crates that would are not even named there.
const PURE: [&str; 10] = [
    "catalogue",
    "time",
    "outcome",
    "journey",
    "sigma",
    "series",
    "metrics",
    "gate",
    "ledger",
    "render",
];
const IMPURE_CRATES: [&str; 8] =
    ["tokio", "hyper", "axum", "rdkafka", "rusqlite", "socket2", "std::fs", "std::net"];

/// Longer than this can't be read in one sitting.
const LINES_LIMIT: usize = 700;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut folders = vec![root().join(folder)];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("the entry can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// Every test under a folder by its name, with the file that it is in and that file's text.
pub(crate) fn tests(folder: &str) -> BTreeMap<String, (String, String)> {
    let mut tests = BTreeMap::new();
    for path in rust_files(folder) {
        let text = fs::read_to_string(&path).expect("the file can be read");
        let file = path.strip_prefix(root()).expect("of this tree").display().to_string();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if matches!(line.trim(), "#[test]" | "#[tokio::test]") {
                let name = lines.find_map(|l| l.trim().split("fn ").nth(1)?.split('(').next());
                let name = name.expect("a test has a name").to_owned();
                tests.insert(name, (file.clone(), text.clone()));
            }
        }
    }
    tests
}

/// Fails where a generated document is not the one that is committed, and writes it anew.
#[track_caller]
pub(crate) fn committed(file: &str, text: &str) {
    let path = root().join(file);
    if fs::read_to_string(&path).unwrap_or_default() != text {
        fs::write(&path, text).expect("the folder can be written");
        panic!("{file} was stale and has been written anew: commit it");
    }
}

/// The room that a source file belongs to; None for `lib.rs` and `main.rs`.
fn room(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root().join("src")).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "lib" | "main")).then(|| name.to_owned())
}

/// The code without its comments, and without the tests that stand at its end.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// Every room that the code names after `crate::`, groups included.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let word = |text: &str| -> String {
            text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
        };
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 1;
            let mut part = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => {
                        found.insert(word(&part));
                        part.clear();
                        continue;
                    }
                    _ => {}
                }
                if depth == 0 {
                    found.insert(word(&part));
                    break;
                }
                part.push(c);
            }
        } else {
            found.insert(word(rest));
        }
    }
    found
}

#[test]
fn imports_point_up_the_table_of_rooms_only() {
    let place: BTreeMap<&str, usize> =
        ROOMS.iter().enumerate().map(|(place, room)| (*room, place)).collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for path in rust_files("src") {
        let Some(room) = room(&path) else { continue };
        if path.ends_with("tests.rs") {
            continue;
        }
        let own = *place.get(room.as_str()).unwrap_or_else(|| panic!("{room} is in no table"));
        seen.insert(room.clone());
        let text = code(&fs::read_to_string(&path).expect("the file can be read"));
        for import in imports(&text) {
            if let Some(other) = place.get(import.as_str())
                && *other > own
            {
                wrong.push(format!("{}: {room} may not import {import}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let all: BTreeSet<String> = ROOMS.iter().map(|room| (*room).to_owned()).collect();
    assert_eq!(seen, all, "the table and the folders disagree");
}

#[test]
fn the_import_reader_sees_groups_and_paths() {
    let seen = imports(&code(
        "use crate::{gate::{judge, Gate}, time};\nlet x = crate::store::Store; // crate::cli\n",
    ));
    let expected = ["gate", "store", "time"].map(str::to_owned);
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn pure_rooms_name_no_crate_that_does_io() {
    let mut wrong = Vec::new();
    for path in rust_files("src") {
        if !room(&path).is_some_and(|room| PURE.contains(&room.as_str()))
            || path.ends_with("tests.rs")
        {
            continue;
        }
        let text = code(&fs::read_to_string(&path).expect("the file can be read"));
        for name in IMPURE_CRATES {
            if text.contains(&format!("{name}::")) {
                wrong.push(format!("{} names {name}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn files_can_be_read_in_one_sitting() {
    let files =
        rust_files("src").into_iter().chain(rust_files("tests")).chain(rust_files("benches"));
    let mut long = Vec::new();
    for path in files {
        let lines = fs::read_to_string(&path).expect("the file can be read").lines().count();
        if lines > LINES_LIMIT {
            long.push(format!("{} has {lines} lines", path.display()));
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        assert!(name != "mod.rs", "{} is a mod.rs", path.display());
    }
    assert!(long.is_empty(), "{}", long.join("\n"));
}

/// The only files with unsafe code: system calls that no crate wraps safely, and what librdkafka's
/// wrapper has no fast call for.
const UNSAFE: [&str; 3] =
    ["src/client/kafka/raw.rs", "src/client/kernel.rs", "src/client/uring.rs"];

#[test]
fn unsafe_code_has_its_three_files() {
    let mut wrong = Vec::new();
    for path in ["src", "tests", "benches"].into_iter().flat_map(rust_files) {
        let name = path.strip_prefix(root()).expect("the file is of this tree").to_path_buf();
        let text = code(&fs::read_to_string(&path).expect("the file can be read"));
        let lifted = text.contains("(unsafe_code)");
        if lifted
            && !UNSAFE.iter().any(|file| name == Path::new(file))
            && !name.ends_with("tidy.rs")
        {
            wrong.push(name.display().to_string());
        }
    }
    assert!(wrong.is_empty(), "these lift the lint on unsafe code: {}", wrong.join(", "));
}

/// Licences that may be linked into an Apache-2.0 binary without further duties than a notice.
const LICENCES: [&str; 12] = [
    "Apache-2.0",
    "MIT",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "Zlib",
    "0BSD",
    "Unicode-3.0",
    "CC0-1.0",
    "MIT-0",
    "OpenSSL",
    "Apache-2.0 WITH LLVM-exception",
];

/// Crates of which two versions are linked, because another crate has not moved yet
/// (`fallible-iterator`: tokio-postgres and rusqlite; `thiserror`: sigma-rust). The list may only
/// shrink.
const TWICE: [&str; 7] =
    ["base64", "fallible-iterator", "foldhash", "getrandom", "syn", "thiserror", "thiserror-impl"];

#[test]
fn dependencies_are_free_from_crates_io_and_there_once() {
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .features(CargoOpt::AllFeatures)
        .other_options([
            "--locked".to_owned(),
            "--filter-platform".to_owned(),
            "x86_64-unknown-linux-gnu".to_owned(),
        ])
        .exec()
        .expect("cargo metadata answers");
    let resolve = metadata.resolve.as_ref().expect("the dependencies are resolved");
    // What is linked: everything that the binary reaches without development dependencies.
    let mut linked = BTreeSet::new();
    let mut next = vec![resolve.root.clone().expect("there is one package")];
    while let Some(id) = next.pop() {
        let node = resolve.nodes.iter().find(|node| node.id == id).expect("every id has a node");
        for dependency in &node.deps {
            let normal =
                dependency.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal);
            if normal && linked.insert(dependency.pkg.clone()) {
                next.push(dependency.pkg.clone());
            }
        }
    }
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in metadata.packages.iter().filter(|package| package.source.is_some()) {
        let source = package.source.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(source.contains("crates.io-index"), "{} comes from {source}", package.name);
        let licence = package.license.clone().unwrap_or_default();
        let acceptable = licence
            .replace('/', " OR ")
            .replace(['(', ')'], "")
            .split(" OR ")
            .any(|one| one.split(" AND ").all(|part| LICENCES.contains(&part.trim())));
        assert!(acceptable, "{} is under {licence:?}", package.name);
        if linked.contains(&package.id) {
            versions
                .entry(package.name.to_string())
                .or_default()
                .insert(package.version.to_string());
        }
    }
    let twice: Vec<_> = versions
        .iter()
        .filter(|(name, versions)| versions.len() > 1 && !TWICE.contains(&name.as_str()))
        .collect();
    assert!(twice.is_empty(), "more than one version is linked: {twice:?}");
}

#[test]
fn nothing_committed_names_a_machine_or_a_secret_place() {
    let output = std::process::Command::new("git")
        .args(["ls-files"])
        .current_dir(root())
        .output()
        .expect("git answers");
    let mut wrong = Vec::new();
    for name in String::from_utf8_lossy(&output.stdout).lines() {
        let Ok(text) = fs::read_to_string(root().join(name)) else { continue };
        for (number, line) in text.lines().enumerate() {
            let home = ["/home/", "/root/"].iter().any(|path| line.contains(path));
            if home && !name.ends_with(".lock") && !name.ends_with("tidy.rs") {
                wrong.push(format!("{name}:{}: {line}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn dashboards_name_metrics_of_the_catalogue_only() {
    let known: BTreeSet<&str> = greenlight::catalogue::all().map(|metric| metric.name).collect();
    let mut seen = 0;
    for entry in fs::read_dir(root().join("dashboards")).expect("the folder is there") {
        let path = entry.expect("the entry can be read").path();
        let text = fs::read_to_string(&path).expect("the file can be read");
        let _: serde_json::Value = serde_json::from_str(&text).expect("a dashboard is JSON");
        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
        for word in words.filter(|word| word.starts_with("greenlight_")) {
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| word.strip_suffix(end).filter(|base| known.contains(base)))
                .unwrap_or(word);
            assert!(known.contains(base), "{}: there is no metric {word}", path.display());
            seen += 1;
        }
    }
    assert!(seen >= 8, "the dashboards name {seen} metrics");
}
