//! `import sigma`: use cases made of detection rules, one file each, and what became of every rule.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use super::output::{self, Format};
use super::{Failure, exit};
use crate::render::clean;
use crate::sigma::{self, Layouts, Refusal, Rule, UseCase, Vars, Why};
use crate::spec::Period;
use crate::spec::yaml::BYTES_LIMIT;

/// Folders inside each other; links are not followed, so this is for mistakes only.
const DEPTH_LIMIT: usize = 32;
const FILES_LIMIT: usize = 50_000;
/// The first line of a file that this command wrote, and may write anew.
const OURS: &str = "# Made of a Sigma rule by `greenlight import sigma`";

#[derive(clap::Args)]
pub(super) struct ImportArgs {
    /// Rule files, and folders of them
    #[arg(value_name = "RULE", required = true)]
    rules: Vec<PathBuf>,
    /// Where the use cases are written, one file a rule
    #[arg(long, value_name = "DIR", default_value = "usecases")]
    to: PathBuf,
    /// Writes no file: says what would become of each rule
    #[arg(long)]
    dry_run: bool,
    /// What stands for %NAME% in rules; repeated, it has several values
    #[arg(long = "var", value_name = "NAME=VALUE", value_parser = super::variable)]
    var: Vec<(String, String)>,
    /// Other places for fields: YAML, `fields: {NAME: [PLACE, ...]}`
    #[arg(long, value_name = "FILE")]
    mapping: Option<PathBuf>,
    /// Where the rules are published: each file's path is put behind it, and kept as the rule's link
    #[arg(long, value_name = "URL")]
    link: Option<String>,
    /// The licence of rules that name none
    #[arg(long, value_name = "NAME")]
    license: Option<String>,
    /// How soon the alert is expected
    #[arg(long, value_name = "DURATION", default_value = "3m", value_parser = super::period)]
    within: Period,
    #[command(flatten)]
    output: super::OutputArgs,
}

/// What became of one rule.
struct Row {
    file: String,
    title: Option<String>,
    became: Became,
}

enum Became {
    Made {
        usecase: Box<UseCase>,
        written: Option<PathBuf>,
    },
    /// Part of a correlation, which it alerts through.
    Part,
    Refused(Refusal),
}

pub(super) fn run(arguments: ImportArgs) -> Result<u8, Failure> {
    let outputs = output::wanted(&arguments.output.output, &[Format::Terminal, Format::Json])?;
    let mapping = arguments.mapping.as_deref().map(|file| Ok((file, text_of(file)?)));
    let mapping = mapping.transpose().map_err(|(file, error): (&Path, io::Error)| {
        Failure::usage(format!("can't read {}: {error}", file.display()))
    })?;
    let named = mapping.as_ref().map(|(file, text)| (file.display().to_string(), text.as_str()));
    let layouts = Layouts::new(named.as_ref().map(|(name, text)| (name.as_str(), *text)))
        .map_err(Failure::config)?;
    let mut vars = Vars::new();
    for (name, value) in &arguments.var {
        vars.entry(name.clone()).or_default().push(value.clone());
    }
    let mut files = Vec::new();
    for path in &arguments.rules {
        find(path, path, 0, &mut files)?;
    }
    if files.is_empty() {
        return Err(Failure::usage("there is no .yml or .yaml file in what was named"));
    }
    let mut rows = all(&files, &arguments, &vars, &layouts);
    if !arguments.dry_run {
        write(&mut rows, &arguments.to, arguments.within.0)?;
    }
    output::write(&outputs, |format, _| match format {
        Format::Json => format!("{:#}", summary(&rows)),
        _ => table(&rows, arguments.output.verbose),
    })?;
    let refused = rows.iter().any(|row| matches!(row.became, Became::Refused(_)));
    let none = rows.is_empty();
    Ok(if refused || none { exit::FAILURE } else { exit::SUCCESS })
}

/// A file, and what it is called behind a link: its path from what was named.
struct Found {
    path: PathBuf,
    inside: String,
}

fn find(root: &Path, path: &Path, depth: usize, files: &mut Vec<Found>) -> Result<(), Failure> {
    let unreadable =
        |error: io::Error| Failure::usage(format!("can't read {}: {error}", path.display()));
    let is_root = depth == 0;
    let kind = if is_root { fs::metadata(path) } else { fs::symlink_metadata(path) };
    let kind = kind.map_err(unreadable)?;
    if kind.is_dir() {
        if depth > DEPTH_LIMIT {
            return Err(Failure::usage(format!("{} is too deep", path.display())));
        }
        let mut inside: Vec<PathBuf> = Vec::new();
        for entry in fs::read_dir(path).map_err(unreadable)? {
            inside.push(entry.map_err(unreadable)?.path());
        }
        inside.sort();
        for path in inside {
            find(root, &path, depth + 1, files)?;
        }
        return Ok(());
    }
    let is_rule = path.extension().is_some_and(|ext| ext == "yml" || ext == "yaml");
    if !(is_root || (kind.is_file() && is_rule)) {
        return Ok(());
    }
    if files.len() >= FILES_LIMIT {
        return Err(Failure::usage(format!("more than {FILES_LIMIT} files; name fewer folders")));
    }
    let inside =
        if is_root { path.file_name().map(Path::new) } else { path.strip_prefix(root).ok() };
    let inside = inside.unwrap_or(path).display().to_string();
    files.push(Found { path: path.to_owned(), inside });
    Ok(())
}

/// The text of a file that is no larger than a rule can be.
fn text_of(file: &Path) -> Result<String, (&Path, io::Error)> {
    let read = || {
        let size = fs::metadata(file)?.len();
        if size > BYTES_LIMIT as u64 {
            let text = format!("it has {size} bytes, at most {BYTES_LIMIT} are read");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        fs::read_to_string(file)
    };
    read().map_err(|error| (file, error))
}

fn all(files: &[Found], arguments: &ImportArgs, vars: &Vars, layouts: &Layouts) -> Vec<Row> {
    // All are read before one is made: correlations name rules of other files.
    let mut read: Vec<(&Found, Result<Rule, Refusal>)> = Vec::new();
    for found in files {
        match text_of(&found.path) {
            Ok(text) => {
                let name = found.path.display().to_string();
                read.extend(sigma::read(&name, &text).into_iter().map(|rule| (found, rule)));
            }
            Err((_, error)) => {
                let refusal = Refusal { why: Why::Unreadable, text: error.to_string(), at: None };
                read.push((found, Err(refusal)));
            }
        }
    }
    let mut known: BTreeMap<&str, &Rule> = BTreeMap::new();
    for rule in read.iter().filter_map(|(_, rule)| rule.as_ref().ok()) {
        for name in [&rule.name, &rule.id].into_iter().flatten() {
            known.entry(name).or_insert(rule);
        }
    }
    let parts: BTreeSet<&str> = read
        .iter()
        .filter_map(|(_, rule)| rule.as_ref().ok())
        .flat_map(|rule| rule.parts())
        .collect();
    let became = |found: &Found, rule: &Rule| {
        let is_part =
            [&rule.name, &rule.id].into_iter().flatten().any(|n| parts.contains(n.as_str()));
        if is_part {
            return Became::Part;
        }
        let link = arguments.link.as_deref();
        let url = link.map(|link| format!("{}/{}", link.trim_end_matches('/'), found.inside));
        match sigma::make(rule, url, vars, layouts, |name| known.get(name).copied()) {
            Ok(mut usecase) => {
                let license = &mut usecase.rule.license;
                *license = license.take().or_else(|| arguments.license.clone());
                Became::Made { usecase: Box::new(usecase), written: None }
            }
            Err(refusal) => Became::Refused(refusal),
        }
    };
    let row = |(found, rule): &(&Found, Result<Rule, Refusal>)| match rule {
        Ok(rule) => Row {
            file: found.path.display().to_string(),
            title: Some(rule.title.clone()),
            became: became(found, rule),
        },
        Err(refusal) => Row {
            file: found.path.display().to_string(),
            title: None,
            became: Became::Refused(refusal.clone()),
        },
    };
    read.iter().map(row).collect()
}

/// One file a use case, named as the rule's file is. A file that somebody else wrote stays.
fn write(rows: &mut [Row], folder: &Path, within: Duration) -> Result<(), Failure> {
    let mut taken = BTreeSet::new();
    for row in rows {
        let Became::Made { usecase, written } = &mut row.became else { continue };
        let stem = Path::new(&row.file).file_stem().map(|stem| stem.to_string_lossy());
        let stem = slug(&stem.unwrap_or_default());
        let mut name = stem.clone();
        for number in 2.. {
            if taken.insert(name.clone()) {
                break;
            }
            name = format!("{stem}-{number}");
        }
        let file = folder.join(format!("{name}.yaml"));
        let wrong =
            |error: io::Error| Failure::usage(format!("can't write {}: {error}", file.display()));
        if let Ok(text) = fs::read_to_string(&file)
            && !text.starts_with(OURS)
        {
            return Err(Failure::usage(format!(
                "{} is there and was not made by this command; name another folder by --to",
                file.display()
            )));
        }
        fs::create_dir_all(folder).map_err(wrong)?;
        fs::write(&file, usecase.file(within)).map_err(wrong)?;
        *written = Some(file);
    }
    Ok(())
}

fn slug(text: &str) -> String {
    let mut slug = String::new();
    for c in text.chars().take(100) {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
    }
    let slug = slug.trim_end_matches('-');
    if slug.is_empty() { String::from("rule") } else { slug.to_owned() }
}

/// How many became what.
struct Counts {
    read: usize,
    made: usize,
    parts: usize,
    refused: BTreeMap<&'static str, usize>,
    layouts: BTreeMap<String, usize>,
    rewritten: BTreeMap<&'static str, usize>,
}

fn counted(rows: &[Row]) -> Counts {
    let mut counts = Counts {
        read: rows.len(),
        made: 0,
        parts: 0,
        refused: BTreeMap::new(),
        layouts: BTreeMap::new(),
        rewritten: BTreeMap::new(),
    };
    for row in rows {
        match &row.became {
            Became::Made { usecase, .. } => {
                counts.made += 1;
                *counts.layouts.entry(usecase.layout.clone()).or_default() += 1;
                for what in &usecase.rewritten {
                    *counts.rewritten.entry(what).or_default() += 1;
                }
            }
            Became::Part => counts.parts += 1,
            Became::Refused(refusal) => {
                *counts.refused.entry(refusal.why.word()).or_default() += 1;
            }
        }
    }
    counts
}

fn place(row: &Row, refusal: &Refusal) -> String {
    match refusal.at {
        Some((line, column)) => format!("{}:{line}:{column}", row.file),
        None => row.file.clone(),
    }
}

fn table(rows: &[Row], verbose: bool) -> String {
    let counts = counted(rows);
    let mut out = String::new();
    for row in rows {
        match &row.became {
            Became::Refused(refusal) => {
                let (place, text) = (place(row, refusal), clean(&refusal.text));
                out.push_str(&format!("refused  {place}: {}: {text}\n", refusal.why.word()));
            }
            Became::Made { usecase, written } if verbose => {
                let to = written.as_ref().map(|file| format!(" -> {}", file.display()));
                let title = clean(&usecase.rule.title);
                let to = to.unwrap_or_default();
                out.push_str(&format!("made     {}: {title} ({}){to}\n", row.file, usecase.layout));
                for note in &usecase.notes {
                    out.push_str(&format!("         {}\n", clean(note)));
                }
            }
            Became::Part if verbose => {
                out.push_str(&format!("part     {}: of a correlation\n", row.file));
            }
            Became::Made { .. } | Became::Part => {}
        }
    }
    if !out.is_empty() {
        out.push('\n');
    }
    let refused: usize = counts.refused.values().sum();
    out.push_str(&format!("{:>6}  read\n", counts.read));
    out.push_str(&format!("{:>6}  made into use cases\n", counts.made));
    for (layout, number) in &counts.layouts {
        out.push_str(&format!("{number:>10}  written as {layout}\n"));
    }
    for (what, number) in &counts.rewritten {
        out.push_str(&format!("{number:>10}  put to the evaluator in other words for {what}\n"));
    }
    if counts.parts > 0 {
        out.push_str(&format!("{:>6}  part of a correlation\n", counts.parts));
    }
    out.push_str(&format!("{refused:>6}  refused\n"));
    for (why, number) in &counts.refused {
        out.push_str(&format!("{number:>10}  {why}\n"));
    }
    out
}

fn summary(rows: &[Row]) -> Value {
    let counts = counted(rows);
    let each = rows.iter().map(|row| match &row.became {
        Became::Made { usecase, written } => json!({
            "file": row.file,
            "title": row.title,
            "became": "made",
            "written": written.as_ref().map(|file| file.display().to_string()),
            "layout": usecase.layout,
            "rewritten": usecase.rewritten,
            "notes": usecase.notes,
        }),
        Became::Part => json!({ "file": row.file, "title": row.title, "became": "part" }),
        Became::Refused(refusal) => json!({
            "file": row.file,
            "title": row.title,
            "became": "refused",
            "reason": { "code": refusal.why.word(), "text": refusal.text },
            "line": refusal.at.map(|(line, _)| line),
            "column": refusal.at.map(|(_, column)| column),
        }),
    });
    json!({
        "version": 1,
        "read": counts.read,
        "made": counts.made,
        "parts": counts.parts,
        "refused": counts.refused,
        "layouts": counts.layouts,
        "rewritten": counts.rewritten,
        "rules": each.collect::<Vec<_>>(),
    })
}
