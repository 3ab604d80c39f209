//! The other machines that selectors choose from.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::load::{Loaded, read_text};
use crate::outcome::TargetName;
use crate::spec::selector::{Labels, Selector};
use crate::spec::{Diagnostics, Sources, decode, yaml};

/// More peers than this are refused: a matrix over them would be a flood.
const PEERS_LIMIT: usize = 1_000;

/// `peers:` of the plan.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub(super) struct Spec {
    /// Groups written in the plan itself.
    #[serde(default, rename = "static")]
    pub(super) groups: Vec<Group>,
    /// A file of groups, YAML or JSON, in the shape of Prometheus' file_sd.
    #[serde(default)]
    pub(super) file_sd: Option<PathBuf>,
}

/// Targets that share labels.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
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
    members: Vec<Peer>,
}

impl Peers {
    pub fn select(&self, selector: &Selector) -> Vec<TargetName> {
        self.members
            .iter()
            .filter(|peer| selector.matches(&peer.labels))
            .map(|peer| peer.address.clone())
            .collect()
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
    let mut groups = spec.groups.clone();
    if let Some(file) = &spec.file_sd {
        match read_groups(&folder.join(file)) {
            Ok(more) => groups.extend(more),
            Err(text) => {
                diagnostics
                    .error(node.span, text)
                    .hint("the path is relative to the plan's folder");
            }
        }
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
        diagnostics
            .error(node.span, format!("{} peers are more than {PEERS_LIMIT}", members.len()));
    }
    Peers { spec, members }
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
