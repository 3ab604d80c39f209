//! Reading what the operator named: files, folders, standard input, packs, and what they include.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Facts, NodeName, TOP_LEVEL, packs};
use crate::spec::selector::Labels;
use crate::spec::{Diagnostics, Node, Sources, Span, Tree, decode, did_you_mean, vars, yaml};

mod usecases;

/// What to compile.
#[derive(Clone, Debug, Default)]
pub struct Inputs {
    /// Files, folders (their `*.yaml` and `*.yml`, in order of name), `-` for standard input.
    pub paths: Vec<String>,
    /// What standard input held, read once by [`read_plan`], or why it can't be a plan.
    pub stdin: Option<Result<String, String>>,
    /// Text that stands in for files: name and content. Used by `demo`.
    pub texts: Vec<(String, String)>,
    /// Variables given from outside; they win over all others.
    pub vars: BTreeMap<String, String>,
}

/// A plan of ten thousand checks has 2 MB; a device or a log named by mistake would fill the memory.
const FILE_LIMIT: u64 = 16 << 20;
/// More files than this are a mistake: an include that goes in circles, or the wrong folder.
const FILES_LIMIT: usize = 200;
/// What `-c -` is called.
pub const STDIN: &str = "standard input";
/// Where packs on disk are looked for, after the including file's own folder.
const PACKS_FOLDER: &str = "/etc/greenlight/packs";

/// One file read.
struct Document {
    folder: PathBuf,
    node: Node,
}

pub(super) struct Loaded {
    pub sources: Sources,
    pub vars: BTreeMap<String, Value>,
    /// Where each variable that a file sets was set.
    set_at: BTreeMap<String, Node>,
    names: Vec<String>,
    documents: Vec<Document>,
    /// The use cases that journeys name, by name.
    usecases: BTreeMap<String, Node>,
}

enum Wanted {
    File(PathBuf),
    Pack(String, PathBuf),
    Text(String, String),
}

pub(super) fn load(inputs: &Inputs, diagnostics: &mut Diagnostics) -> Loaded {
    let mut loaded = Loaded {
        sources: Sources::default(),
        vars: BTreeMap::new(),
        set_at: BTreeMap::new(),
        names: Vec::new(),
        documents: Vec::new(),
        usecases: BTreeMap::new(),
    };
    let mut wanted = roots(inputs, diagnostics);
    let mut seen = BTreeSet::new();
    // The first text that sets a variable wins: what the operator named goes before what it
    // includes, and of several files named, the last goes first.
    for (name, value) in &inputs.vars {
        loaded.vars.insert(name.clone(), Value::String(value.clone()));
    }
    while !wanted.is_empty() {
        let mut next = Vec::new();
        let from = loaded.documents.len();
        for item in wanted {
            loaded.read(item, &mut seen, diagnostics);
        }
        let fresh: Vec<usize> = (from..loaded.documents.len()).collect();
        for index in fresh.iter().rev() {
            loaded.collect_vars(*index, diagnostics);
        }
        for index in fresh {
            next.extend(loaded.includes(index, diagnostics));
        }
        if loaded.documents.len() > FILES_LIMIT {
            diagnostics.error(None::<Span>, format!("the plan has more than {FILES_LIMIT} files"));
            break;
        }
        wanted = next;
    }
    loaded
}

fn roots(inputs: &Inputs, diagnostics: &mut Diagnostics) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for (name, text) in &inputs.texts {
        wanted.push(Wanted::Text(name.clone(), text.clone()));
    }
    for path in &inputs.paths {
        if path == "-" {
            match inputs.stdin.clone().unwrap_or_else(|| Ok(String::new())) {
                Ok(text) => wanted.push(Wanted::Text(STDIN.into(), text)),
                Err(why) => drop(diagnostics.error(None::<Span>, why)),
            }
            continue;
        }
        let path = Path::new(path);
        if !path.is_dir() {
            wanted.push(Wanted::File(path.to_owned()));
            continue;
        }
        match yaml_files(path) {
            Ok(files) if files.is_empty() => {
                diagnostics.error(None::<Span>, format!("{} holds no *.yaml file", path.display()));
            }
            Ok(files) => {
                for path in files {
                    // A pipe that nobody writes to would be waited for without end.
                    if path.exists() && !path.is_file() {
                        let text = format!("{} is no file", path.display());
                        diagnostics.error(None::<Span>, text);
                        continue;
                    }
                    wanted.push(Wanted::File(path));
                }
            }
            Err(error) => {
                diagnostics.error(None::<Span>, format!("can't list {}: {error}", path.display()));
            }
        }
    }
    wanted
}

fn yaml_files(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let is_yaml = path.extension().is_some_and(|ext| ext == "yaml" || ext == "yml");
        let is_hidden =
            path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        // A link that leads nowhere is read too, and is a mistake: a part of a plan that is not there
        // must not be missed.
        if is_yaml && !is_hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A variable as it is put in.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl Loaded {
    pub(super) fn names(&self) -> Vec<String> {
        self.names.clone()
    }

    fn read(&mut self, wanted: Wanted, seen: &mut BTreeSet<String>, diagnostics: &mut Diagnostics) {
        let (name, folder, text) = match wanted {
            Wanted::Text(name, text) => (name, PathBuf::from("."), Ok(text)),
            Wanted::File(path) => {
                let folder = path.parent().map(Path::to_owned).unwrap_or_default();
                (path.display().to_string(), folder, read_text(&path))
            }
            Wanted::Pack(name, folder) => {
                let on_disk = [folder.join("packs"), PathBuf::from(PACKS_FOLDER)]
                    .into_iter()
                    .map(|place| place.join(format!("{name}.yaml")))
                    .find(|path| path.is_file());
                match on_disk {
                    Some(path) => (path.display().to_string(), folder, read_text(&path)),
                    None => (
                        format!("pack:{name}"),
                        folder,
                        packs::built_in(&name)
                            .map(str::to_owned)
                            .ok_or_else(|| unknown_pack(&name)),
                    ),
                }
            }
        };
        if !seen.insert(seen_as(&name)) {
            return;
        }
        let text = match text {
            Ok(text) => text,
            Err(why) => {
                diagnostics.error(None::<Span>, why);
                return;
            }
        };
        let source = self.sources.add(name.clone(), text.clone());
        self.names.push(name);
        if text.trim().is_empty() {
            return;
        }
        let Some(node) = yaml::parse(source, &text, diagnostics) else { return };
        if node.is_null() {
            return;
        }
        let Tree::Map(entries) = &node.value else {
            diagnostics
                .error(node.span, "a plan is a map")
                .expected(format!("the keys {}", TOP_LEVEL.join(", ")));
            return;
        };
        for (key, _) in entries {
            if TOP_LEVEL.contains(&key.text.as_str()) {
                continue;
            }
            let mistake = diagnostics.error(key.span, format!("unknown key `{}`", key.text));
            mistake.expected(TOP_LEVEL.join(", "));
            if let Some(close) = did_you_mean(&key.text, TOP_LEVEL) {
                mistake.hint(format!("did you mean `{close}`?"));
            }
        }
        self.documents.push(Document { folder, node });
    }

    fn collect_vars(&mut self, index: usize, diagnostics: &mut Diagnostics) {
        let Some(vars) = self.documents.get(index).and_then(|document| document.node.get("vars"))
        else {
            return;
        };
        if vars.is_null() {
            return;
        }
        let Some(entries) = decode::<BTreeMap<String, Value>>(vars, diagnostics) else { return };
        let mut set = Vec::new();
        for (name, value) in entries {
            let at = vars.get(&name).unwrap_or(vars);
            if value.is_array() || value.is_object() {
                diagnostics
                    .error(at.span, format!("the variable `{name}` is no single value"))
                    .expected("a text, a number, true or false");
                continue;
            }
            // As it is written: 1.10 and 007 are no 1.1 and no 7 in an address.
            let shown = value.to_string();
            let written = at.as_str().filter(|text| value.is_number() && shown != **text);
            let value = written.map_or(value, Value::from);
            set.push((name, value, at.clone()));
        }
        for (name, value, at) in set {
            // What was set first stays.
            if !self.vars.contains_key(&name) {
                self.vars.insert(name.clone(), value);
                self.set_at.insert(name, at);
            }
        }
    }

    fn includes(&self, index: usize, diagnostics: &mut Diagnostics) -> Vec<Wanted> {
        let Some(document) = self.documents.get(index) else { return Vec::new() };
        let Some(node) = document.node.get("include").filter(|node| !node.is_null()) else {
            return Vec::new();
        };
        let mut node = node.clone();
        // As far as they are set by now: by what includes this, and not by what is included.
        let known: Vec<&str> = self.vars.keys().map(String::as_str).collect();
        let lookup = |name: &str| match self.vars.contains_key(name) {
            true => self.settle(name, &known, &[], &Cell::new(false), &mut Diagnostics::default()),
            false => environment(name),
        };
        let mut mistakes = Diagnostics::default();
        vars::substitute(&mut node, &lookup, &known, &mut mistakes);
        if !mistakes.is_empty() {
            diagnostics.append(mistakes);
            return Vec::new();
        }
        let Some(names) = decode::<Vec<String>>(&node, diagnostics) else { return Vec::new() };
        let mut wanted = Vec::new();
        for (position, name) in names.into_iter().enumerate() {
            let at = node.as_list().and_then(|list| list.get(position)).unwrap_or(&node);
            if let Some(pack) = name.strip_prefix("pack:") {
                let local = document.folder.join("packs").join(format!("{pack}.yaml"));
                let etc = Path::new(PACKS_FOLDER).join(format!("{pack}.yaml"));
                if packs::built_in(pack).is_none() && !local.is_file() && !etc.is_file() {
                    let mistake = diagnostics.error(at.span, format!("there is no pack `{pack}`"));
                    mistake.expected(
                        packs::BUILT_IN
                            .iter()
                            .map(|(name, _)| *name)
                            .collect::<Vec<_>>()
                            .join(", "),
                    );
                    if let Some(close) =
                        did_you_mean(pack, packs::BUILT_IN.iter().map(|(name, _)| *name))
                    {
                        mistake.hint(format!("did you mean `pack:{close}`?"));
                    }
                    continue;
                }
                wanted.push(Wanted::Pack(pack.to_owned(), document.folder.clone()));
                continue;
            }
            let path = document.folder.join(&name);
            if path.is_dir() {
                diagnostics
                    .error(at.span, format!("can't read {}: it is a folder", path.display()))
                    .expected("a file, each by its own name; or the whole folder by `-c FOLDER`");
                continue;
            }
            if !path.is_file() {
                diagnostics
                    .error(at.span, format!("can't read {}: there is no such file", path.display()))
                    .hint("a path is relative to the file that includes it; a pack is written `pack:NAME`");
                continue;
            }
            wanted.push(Wanted::File(path));
        }
        wanted
    }

    /// Puts the variables in, values of variables first.
    pub(super) fn substitute(&mut self, diagnostics: &mut Diagnostics) {
        let set = self.vars.iter().filter(|(_, value)| !value.is_null());
        let names: Vec<String> = set.map(|(name, _)| name.clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut settled = BTreeMap::new();
        for (name, value) in &self.vars {
            match value {
                Value::Null => {}
                Value::String(text) if text.contains("${") => {
                    if let Some(text) =
                        self.settle(name, &names, &[], &Cell::new(false), diagnostics)
                    {
                        settled.insert(name.clone(), text);
                    }
                }
                Value::String(text) => drop(settled.insert(name.clone(), text.clone())),
                other => drop(settled.insert(name.clone(), other.to_string())),
            }
        }
        for (name, text) in &settled {
            if let Some(Value::String(value)) = self.vars.get_mut(name) {
                value.clone_from(text);
            }
        }
        let lookup = |name: &str| settled.get(name).cloned().or_else(|| environment(name));
        for document in &mut self.documents {
            let Tree::Map(entries) = &mut document.node.value else { continue };
            for (key, node) in entries {
                // What is included is read by now.
                if !matches!(key.text.as_str(), "vars" | "include") {
                    vars::substitute(node, &lookup, &names, diagnostics);
                }
            }
        }
    }

    /// The text of a variable whose value names others. `path` are those that led to it.
    fn settle(
        &self,
        name: &str,
        names: &[&str],
        path: &[&str],
        circle: &Cell<bool>,
        diagnostics: &mut Diagnostics,
    ) -> Option<String> {
        let text = match self.vars.get(name)? {
            Value::Null => return None,
            Value::String(text) => text.clone(),
            other => return Some(self::text(other)),
        };
        // A variable from outside has no place, and stands for itself.
        let Some(span) = self.set_at.get(name).map(|node| node.span) else { return Some(text) };
        let path: Vec<&str> = path.iter().copied().chain([name]).collect();
        let lookup = |inner: &str| {
            if path.contains(&inner) {
                circle.set(true);
                return None;
            }
            if !self.vars.contains_key(inner) {
                return environment(inner);
            }
            // Its own mistakes are told where it is settled itself.
            self.settle(inner, names, &path, circle, &mut Diagnostics::default())
        };
        let mut node = Node { span, value: Tree::Scalar { text, plain: false } };
        let mut mistakes = Diagnostics::default();
        vars::substitute(&mut node, &lookup, names, &mut mistakes);
        if circle.get() {
            diagnostics.error(span, format!("the variable `{name}` is made of itself"));
            return None;
        }
        if !mistakes.is_empty() {
            diagnostics.append(mistakes);
            return None;
        }
        node.as_str().map(str::to_owned)
    }

    /// The entries of a list that every document may have.
    pub(super) fn items(&self, key: &str, diagnostics: &mut Diagnostics) -> Vec<&Node> {
        let mut items = Vec::new();
        for document in &self.documents {
            let Some(node) = document.node.get(key) else { continue };
            match (&node.value, node.as_list()) {
                (_, Some(list)) => items.extend(list.iter()),
                (Tree::Null, _) => {}
                _ => {
                    diagnostics
                        .error(node.span, format!("`{key}` is no list"))
                        .expected("entries that begin with `- id:`");
                }
            }
        }
        items
    }

    /// The ids that are written in a list, whatever else is wrong with their entries.
    pub(super) fn ids(&self, key: &str) -> Vec<String> {
        self.items(key, &mut Diagnostics::default())
            .into_iter()
            .filter_map(|node| node.get("id")?.as_str().map(str::to_owned))
            .collect()
    }

    /// The one document's entry of a key that can't be merged, and that document's folder.
    pub(super) fn single(
        &self,
        key: &str,
        diagnostics: &mut Diagnostics,
    ) -> Option<(&Node, &Path)> {
        let mut found: Option<(&Node, &Path)> = None;
        for document in &self.documents {
            let Some(node) = document.node.get(key).filter(|node| !node.is_null()) else {
                continue;
            };
            if found.is_some() {
                diagnostics.error(node.span, format!("`{key}` is written in two files"));
                continue;
            }
            found = Some((node, &document.folder));
        }
        found
    }
}

#[allow(
    clippy::disallowed_methods,
    reason = "`${name}` falls back to the environment, by contract"
)]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

pub(super) fn read_text(path: &Path) -> Result<String, String> {
    let name = path.display().to_string();
    match std::fs::File::open(path) {
        Ok(file) => read_plan(file, &name),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(format!("can't read {name}: there is no such file; name a plan with -c FILE"))
        }
        Err(error) => Err(format!("can't read {name}: {error}")),
    }
}

/// The text of one file, or of standard input.
pub fn read_plan(from: impl Read, name: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    from.take(FILE_LIMIT + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("can't read {name}: {error}"))?;
    if bytes.len() as u64 > FILE_LIMIT {
        return Err(format!("{name} is larger than {} MiB: this is no plan", FILE_LIMIT >> 20));
    }
    String::from_utf8(bytes).map_err(|_| format!("{name} is no UTF-8 text"))
}

/// One file is read once, however it is named.
fn seen_as(name: &str) -> String {
    std::fs::canonicalize(name).map_or_else(|_| name.to_owned(), |path| path.display().to_string())
}

fn unknown_pack(name: &str) -> String {
    format!("there is no pack `{name}`")
}

pub(super) fn node_name(loaded: &Loaded, facts: &Facts, diagnostics: &mut Diagnostics) -> NodeName {
    #[derive(serde::Deserialize)]
    struct Spec {
        #[serde(default)]
        name: Option<String>,
        #[serde(default)]
        labels: Labels,
    }
    let spec = loaded.single("node", diagnostics).and_then(|(node, _)| {
        let spec = decode::<Spec>(node, diagnostics)?;
        if spec.name.as_ref().is_some_and(|name| name.trim().is_empty()) {
            let at = node.get("name").unwrap_or(node);
            diagnostics.error(at.span, "the name of the node is empty");
        }
        Some(spec)
    });
    let (name, labels) = spec.map_or((None, Labels::default()), |spec| (spec.name, spec.labels));
    NodeName { name: name.unwrap_or_else(|| facts.hostname.clone()), labels }
}

pub(super) fn declared_nodes(loaded: &Loaded, diagnostics: &mut Diagnostics) -> Vec<String> {
    let mut nodes: Vec<String> = Vec::new();
    for node in loaded.items("nodes", diagnostics) {
        let Some(name) = decode::<String>(node, diagnostics) else { continue };
        if name.trim().is_empty() {
            diagnostics.error(node.span, "the name of a node is empty");
            continue;
        }
        if nodes.contains(&name) {
            diagnostics.error(node.span, format!("the node `{name}` is listed twice"));
            continue;
        }
        nodes.push(name);
    }
    nodes
}
