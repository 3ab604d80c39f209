//! What is deployed is what there is: the sources that the container is built of, and the command
//! lines that start the agent.

use std::fs;
use std::path::{Component, Path, PathBuf};

use cargo_metadata::MetadataCommand;

use super::{root, rust_files};
use crate::command::{code, err, greenlight};

fn container() -> String {
    fs::read_to_string(root().join("deploy/Containerfile")).expect("it can be read")
}

/// What the container file takes from the checkout, by the first words of its lines.
fn copied() -> Vec<PathBuf> {
    let text = container();
    let lines = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (first, rest) = words.split_first()?;
        (matches!(*first, "COPY" | "ADD") && !line.contains("--from=")).then(|| rest.to_vec())
    });
    let sources = lines.flat_map(|words| words[..words.len() - 1].to_vec());
    sources.filter(|word| !word.starts_with("--")).map(PathBuf::from).collect()
}

#[test]
fn the_container_is_built_of_files_that_are_there() {
    let sources = copied();
    assert!(sources.len() >= 5, "{sources:?}");
    for source in &sources {
        assert!(root().join(source).exists(), "{} is not there", source.display());
    }
}

/// A file that the build reads and the container lacks breaks it there and nowhere else.
#[test]
fn the_container_has_every_file_that_the_build_reads() {
    let sources = copied();
    let mut needed = vec![PathBuf::from("Cargo.toml"), PathBuf::from("Cargo.lock")];
    let metadata = MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo metadata answers");
    let targets = metadata.packages.iter().flat_map(|package| &package.targets);
    let inside = |path: &Path| path.strip_prefix(root()).expect("of this tree").to_owned();
    needed.extend(targets.map(|target| inside(target.src_path.as_std_path())));
    for path in rust_files("src") {
        let text = fs::read_to_string(&path).expect("the file can be read");
        for (at, macro_name) in text.match_indices("include_str!(\"") {
            let name = text[at + macro_name.len()..].split('"').next().expect("it ends");
            let mut whole = path.parent().expect("it is in a folder").to_owned();
            for part in Path::new(name).components() {
                match part {
                    Component::ParentDir => assert!(whole.pop()),
                    part => whole.push(part),
                }
            }
            needed.push(inside(&whole));
        }
    }
    let lacking: Vec<_> = needed
        .iter()
        .filter(|file| !sources.iter().any(|source| file.starts_with(source)))
        .collect();
    assert!(lacking.is_empty(), "no COPY takes these: {lacking:?}");
}

/// A flag that is unknown or has a wrong value is told before help is printed.
fn takes(arguments: &[String]) -> Result<(), String> {
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    arguments.push("--help");
    let output = greenlight(&arguments);
    if code(&output) == 0 { Ok(()) } else { Err(err(&output)) }
}

#[test]
fn deployed_command_lines_are_those_of_the_binary() {
    let text = container();
    let list = |word: &str| -> Vec<String> {
        let line = text.lines().find_map(|line| line.strip_prefix(word)).expect("it is there");
        serde_json::from_str(line.trim()).expect("a list of words")
    };
    let binary = list("ENTRYPOINT").remove(0);
    let built = text.lines().find(|line| line.starts_with("COPY --from=")).expect("it is copied");
    assert_eq!(built.split_whitespace().last(), Some(binary.as_str()));
    takes(&list("CMD")).unwrap_or_else(|why| panic!("the container's command: {why}"));

    let unit = fs::read_to_string(root().join("deploy/greenlight.service")).expect("it is there");
    let starts: Vec<&str> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("ExecStart").or(line.strip_prefix("ExecCondition")))
        .filter_map(|line| line.split_once('=').map(|(_, command)| command))
        .collect();
    assert!(!starts.is_empty(), "{unit}");
    for start in starts {
        let mut words = start.split_whitespace().map(str::to_owned);
        assert_eq!(words.next().as_deref(), Some(binary.as_str()), "{start}");
        takes(&words.collect::<Vec<_>>()).unwrap_or_else(|why| panic!("{start}: {why}"));
    }

    for wrong in [["run", "--stat"], ["run", "--web.listen-address=nowhere"], ["rum", "--state=/"]]
    {
        assert!(takes(&wrong.map(str::to_owned)).is_err(), "{wrong:?} is taken");
    }
}
