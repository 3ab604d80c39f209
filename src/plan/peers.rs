//! The other machines that selectors choose from.

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::load::{Loaded, read_text};
use crate::outcome::TargetName;
use crate::spec::selector::{Labels, Selector};
use crate::spec::{Diagnostics, Sources, decode, yaml};

/// More peers than this are refused: a matrix over them would be a flood.
pub const PEERS_LIMIT: usize = 1_000;

/// `peers:` of the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(super) struct Spec {
    /// Groups written in the plan itself.
    #[serde(default, rename = "static")]
    pub(super) groups: Vec<Group>,
    /// A file of groups, YAML or JSON, in the shape of Prometheus' file_sd. While the agent runs it
    /// is read anew when it has changed; a bad one leaves the last good members in place.
    #[serde(default)]
    pub(super) file_sd: Option<PathBuf>,
}

/// Targets that share labels.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub(super) struct Group {
    pub(super) targets: Vec<String>,
    #[serde(default)]
    pub(super) labels: Labels,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub address: TargetName,
    pub labels: Labels,
}

#[derive(Clone, Debug, Default)]
pub struct Peers {
    spec: Spec,
    /// Where `file_sd` is.
    file: Option<PathBuf>,
    members: Arc<[Peer]>,
}

/// By what a changed file is told from an unchanged one: when it was changed, its size, and which
/// file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp(i64, i64, u64, u64);

impl Peers {
    /// Each machine once: one that stands in several groups is one target.
    pub fn select(&self, selector: &Selector) -> Vec<TargetName> {
        let mut seen = BTreeSet::new();
        self.members
            .iter()
            .filter(|peer| selector.matches(&peer.labels) && seen.insert(&peer.address))
            .map(|peer| peer.address.clone())
            .collect()
    }

    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether there is a file that may change.
    pub fn is_followed(&self) -> bool {
        self.file.is_some()
    }

    /// Whether the members of both come from the same place.
    pub fn same_source(&self, other: &Self) -> bool {
        (&self.spec, &self.file) == (&other.spec, &other.file)
    }

    /// How the file looks from outside. Blocks.
    pub fn stamp(&self) -> Result<Option<Stamp>, String> {
        let Some(file) = &self.file else { return Ok(None) };
        let about = std::fs::metadata(file)
            .map_err(|error| format!("can't read {}: {error}", file.display()))?;
        Ok(Some(Stamp(about.mtime(), about.mtime_nsec(), about.size(), about.ino())))
    }

    /// The members as the file has them now, or why it is bad. Blocks.
    pub fn read_anew(&self) -> Result<Self, String> {
        let members = members(&self.spec, self.file.as_deref())?;
        Ok(Self { members, ..self.clone() })
    }

    /// Where members come from; who they are is no part of the digest.
    pub(super) fn json(&self) -> Value {
        json!({ "file_sd": self.spec.file_sd })
    }

    /// As written, for whoever reads the plan.
    pub(super) fn json_with_members(&self) -> Value {
        json!(self.spec)
    }
}

pub(super) fn compile(loaded: &Loaded, diagnostics: &mut Diagnostics) -> Peers {
    let Some((node, folder)) = loaded.single("peers", diagnostics) else { return Peers::default() };
    let Some(spec) = decode::<Spec>(node, diagnostics) else { return Peers::default() };
    let file = spec.file_sd.as_ref().map(|file| folder.join(file));
    match members(&spec, file.as_deref()) {
        Ok(members) => Peers { spec, file, members },
        Err(text) => {
            let found = diagnostics.error(node.span, text);
            if file.is_some() {
                found.hint("the path is relative to the plan's folder");
            }
            Peers::default()
        }
    }
}

fn members(spec: &Spec, file: Option<&std::path::Path>) -> Result<Arc<[Peer]>, String> {
    let mut groups = spec.groups.clone();
    if let Some(file) = file {
        groups.extend(read_groups(file)?);
    }
    let members: Vec<Peer> = groups
        .into_iter()
        .flat_map(|group| {
            group
                .targets
                .into_iter()
                .map(move |address| Peer { address: address.into(), labels: group.labels.clone() })
        })
        .collect();
    if members.len() > PEERS_LIMIT {
        return Err(format!("{} peers are more than {PEERS_LIMIT}", members.len()));
    }
    Ok(members.into())
}

fn read_groups(path: &std::path::Path) -> Result<Vec<Group>, String> {
    let text = read_text(path)?;
    let mut sources = Sources::default();
    let mut diagnostics = Diagnostics::default();
    let source = sources.add(path.display().to_string(), text.clone());
    let groups = yaml::parse(source, &text, &mut diagnostics)
        .and_then(|node| decode::<Vec<Group>>(&node, &mut diagnostics));
    groups.ok_or_else(|| diagnostics.render(&sources, false))
}
