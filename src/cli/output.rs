//! `-o FORMAT[=FILE]`: where a document goes and in what form.

use std::io::Write;
use std::path::PathBuf;

use super::Failure;
pub(super) use crate::render::Form as Format;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Output {
    pub format: Format,
    pub file: Option<PathBuf>,
}

impl Output {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (word, file) = match text.split_once('=') {
            Some((_, "")) => return Err("write FORMAT=FILE".to_owned()),
            Some((word, file)) => (word, Some(PathBuf::from(file))),
            None => (text, None),
        };
        let format =
            Format::parse(word).ok_or("expected terminal, json, markdown, junit or html")?;
        Ok(Self { format, file })
    }
}

/// What was asked for, or the terminal; at most one document may go to standard output.
///
/// `allowed` are the formats that the command's document has.
pub(super) fn wanted(outputs: &[Output], allowed: &[Format]) -> Result<Vec<Output>, Failure> {
    if outputs.iter().filter(|output| output.file.is_none()).count() > 1 {
        return Err(Failure::usage(
            "two documents can't both go to standard output; write -o FORMAT=FILE for all but one",
        ));
    }
    if let Some(other) = outputs.iter().find(|output| !allowed.contains(&output.format)) {
        return Err(Failure::usage(format!(
            "{} is no format of this command",
            other.format.word()
        )));
    }
    for (n, output) in outputs.iter().enumerate() {
        if let Some(file) = &output.file
            && outputs.iter().take(n).any(|before| before.file.as_ref() == Some(file))
        {
            return Err(Failure::usage(format!(
                "two documents can't both go to {}",
                file.display()
            )));
        }
    }
    let mut wanted = outputs.to_vec();
    if wanted.is_empty() {
        wanted.push(Output { format: Format::Terminal, file: None });
    }
    // A file that can't be written is better known before an hour of measuring than after.
    for output in &wanted {
        if let Some(file) = &output.file {
            let was_there = file.exists();
            std::fs::OpenOptions::new().append(true).create(true).open(file).map_err(|error| {
                Failure::usage(format!("can't write {}: {error}", file.display()))
            })?;
            // An empty file would look like a document.
            if !was_there {
                let _ = std::fs::remove_file(file);
            }
        }
    }
    Ok(wanted)
}

/// Writes one document each.
pub(super) fn write(
    outputs: &[Output],
    render: impl Fn(Format, bool) -> String,
) -> Result<(), Failure> {
    for output in outputs {
        match &output.file {
            Some(file) => std::fs::write(file, render(output.format, false)).map_err(|error| {
                Failure::ours(format!("can't write {}: {error}", file.display()))
            })?,
            None => print(&render(output.format, true))?,
        }
    }
    Ok(())
}

/// Standard output; a reader that went away is no fault.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let end = if text.ends_with('\n') { "" } else { "\n" };
    match out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(end.as_bytes()))
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::ours(format!("can't write to standard output: {error}")))
        }
        _ => Ok(()),
    }
}
