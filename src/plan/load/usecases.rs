//! The files of use cases that journeys name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Document, Loaded, packs, read_text};
use crate::spec::{Diagnostics, Node, Span, yaml};

/// Where use cases on disk are looked for, after the folders of the plan's own files.
const FOLDER: &str = "/etc/greenlight/usecases";
/// Keys of a journey under which a use case is named.
const NAMED_BY: [&str; 2] = ["events", "must_not_alert"];
/// More than this are a mistake.
const LIMIT: usize = 10_000;

impl Loaded {
    /// Reads each use case that a journey names; variables must have been put in. One that is
    /// nowhere is told of by the journey.
    pub(in crate::plan) fn read_usecases(&mut self, diagnostics: &mut Diagnostics) {
        for name in self.named() {
            let Some((place, text)) = self.find(&name) else { continue };
            let text = match text {
                Ok(text) => text,
                Err(why) => {
                    diagnostics.error(None::<Span>, why);
                    continue;
                }
            };
            let source = self.sources.add(place.clone(), text.clone());
            self.names.push(place);
            if let Some(node) = yaml::parse(source, &text, diagnostics) {
                self.usecases.insert(name, node);
            }
        }
    }

    pub(in crate::plan) fn usecase(&self, name: &str) -> Option<&Node> {
        self.usecases.get(name)
    }

    fn named(&self) -> BTreeSet<String> {
        let lists = self.documents.iter().filter_map(|document| document.node.get("journeys"));
        let journeys = lists.filter_map(Node::as_list).flatten();
        let names = journeys.flat_map(|journey| {
            NAMED_BY.iter().filter_map(|key| journey.get(key)?.get("usecase")?.as_str())
        });
        names.filter(|name| is_name(name)).map(str::to_owned).take(LIMIT).collect()
    }

    /// Where it is, and its text.
    fn find(&self, name: &str) -> Option<(String, Result<String, String>)> {
        let beside = |document: &Document| document.folder.join("usecases");
        let mut folders = self.documents.iter().map(beside).chain([PathBuf::from(FOLDER)]);
        let file = |folder: PathBuf| Some(folder.join(format!("{name}.yaml")));
        match folders.find_map(|folder| file(folder).filter(|path| Path::is_file(path))) {
            Some(path) => Some((path.display().to_string(), read_text(&path))),
            None => packs::usecase(name).map(|text| (format!("usecase:{name}"), Ok(text.into()))),
        }
    }
}

/// A name is no path.
fn is_name(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !name.is_empty() && !name.starts_with('.') && name.chars().all(fine)
}
