//! A file that others append to and rotate, read on from a mark.
//!
//! The mark knows the file by its inode and by the last bytes that were read of it: an inode that
//! was given to another file, or a file that was cut and has grown again, is not taken for the
//! old one.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::outcome::{Fault, FaultCode};

/// So many bytes before the mark are known by their checksum.
const KNOWN: u64 = 1024;
/// A folder with more names than this is not searched for the rotated file.
const NAMES_LIMIT: usize = 10_000;
/// Read at once.
const CHUNK: usize = 64 * 1024;

/// How much one reading may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub bytes: u64,
    /// A line that is longer is taken in pieces of this size.
    pub line: usize,
}

/// Where to read on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mark {
    /// Device and inode; None while the file does not exist.
    file: Option<(u64, u64)>,
    offset: u64,
    /// The checksum of the [`KNOWN`] bytes before the offset, or of as many as there are.
    known: u32,
    /// Some of it was rotated away before it was read, so that nothing is complete any more.
    gone: bool,
    /// The file before, where it was renamed: whoever writes goes on there until it is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    behind: Option<Box<Mark>>,
}

/// One line that was looked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// Device, inode and offset: one place is one copy.
    pub place: String,
    /// Without its line feed.
    pub bytes: Vec<u8>,
}

/// What a reading saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub lines: Vec<Line>,
    pub mark: Mark,
    /// Why this is not all that is new, where it may not be.
    pub lacking: Option<String>,
}

impl Mark {
    /// Behind everything that is there now.
    pub fn at_end(path: &Path) -> Result<Self, Fault> {
        let Some((mut file, at)) = open(path)? else { return Ok(Self::default()) };
        let offset = at.size();
        let known = known(&mut file, offset).map_err(|error| unread(path, &error))?;
        Ok(Self { file: Some((at.dev(), at.ino())), offset, known, ..Self::default() })
    }

    /// Whether this is the file of the mark, with all that was read of it.
    fn fits(&self, file: &mut File) -> bool {
        file.metadata().is_ok_and(|at| at.size() >= self.offset)
            && known(file, self.offset).is_ok_and(|known| known == self.known)
    }
}

/// Reads what was appended since the mark, and of it the lines that hold `word`.
pub fn tail(path: &Path, mark: Mark, word: &[u8], limits: Limits) -> Result<Seen, Fault> {
    let mut reading =
        Reading { word, limits, left: limits.bytes, lines: Vec::new(), unfinished: false, mark };
    let mut behind = match reading.mark.behind.take() {
        Some(mark) => reading.behind(path, *mark)?,
        None => None,
    };
    let current = open(path)?;
    if let Some((mut file, at)) = current {
        let id = (at.dev(), at.ino());
        let same = reading.mark.file == Some(id) && reading.mark.fits(&mut file);
        if !same && reading.mark.file.is_some() {
            behind = reading.rotated(path, id)?.or(behind);
        }
        // What the limit kept back of the rotated file comes first.
        if reading.left > 0 {
            if !same {
                let gone = reading.mark.gone;
                reading.mark = Mark { file: Some(id), gone, ..Mark::default() };
            }
            reading.on(&mut file, id).map_err(|error| unread(path, &error))?;
        }
    } else if reading.mark.file.is_some() {
        // Between the renaming and the next line.
        behind = reading.rotated(path, (0, 0))?.or(behind);
        if reading.left > 0 {
            reading.mark = Mark { gone: reading.mark.gone, ..Mark::default() };
        }
    }
    let lacking = if reading.left == 0 {
        Some(format!("{} has more than one look reads; the next look goes on", path.display()))
    } else if reading.mark.gone {
        Some(format!("some of {} was rotated away before it was read", path.display()))
    } else if reading.unfinished {
        Some(format!("the last line of {} has no end yet", path.display()))
    } else {
        None
    };
    Ok(Seen { lines: reading.lines, mark: Mark { behind, ..reading.mark }, lacking })
}

struct Reading<'a> {
    word: &'a [u8],
    limits: Limits,
    left: u64,
    lines: Vec<Line>,
    /// A last line without its line feed holds the word.
    unfinished: bool,
    mark: Mark,
}

impl Reading<'_> {
    /// Reads on where a file was renamed and its writer did not know yet.
    fn behind(&mut self, path: &Path, mark: Mark) -> Result<Option<Box<Mark>>, Fault> {
        for name in siblings(path)? {
            let id = fs::metadata(&name).map(|at| (at.dev(), at.ino()));
            if id.ok() != mark.file {
                continue;
            }
            let Ok(Some((mut file, at))) = open(&name) else { continue };
            if !mark.fits(&mut file) {
                continue;
            }
            let front = std::mem::replace(&mut self.mark, mark);
            let read = self.on(&mut file, (at.dev(), at.ino()));
            let mark = std::mem::replace(&mut self.mark, front);
            read.map_err(|error| unread(path, &error))?;
            return Ok(Some(Box::new(mark)));
        }
        // Deleted or compressed, with whatever came there last.
        self.mark.gone = true;
        Ok(None)
    }

    /// Reads the rest of the file that the mark knows, under whatever name it has now, and all of
    /// those that were written after it and rotated too. Returns where the first ended, where it
    /// was renamed.
    fn rotated(&mut self, path: &Path, current: (u64, u64)) -> Result<Option<Box<Mark>>, Fault> {
        let mut old: Option<(File, Metadata)> = None;
        let mut others = Vec::new();
        for name in siblings(path)? {
            let Ok(Some((mut file, at))) = open(&name) else { continue };
            let id = (at.dev(), at.ino());
            if id == current {
                continue;
            }
            // Renamed, it is the same inode; copied and cut, it is another one with the same
            // bytes.
            let better = old.as_ref().is_none_or(|(_, old)| {
                self.mark.file == Some(id)
                    || (self.mark.file != Some((old.dev(), old.ino())) && newer(&at, old))
            });
            if self.mark.fits(&mut file)
                && better
                && (self.mark.offset > 0 || self.mark.file == Some(id))
            {
                others.extend(old.replace((file, at)));
            } else {
                others.push((file, at));
            }
        }
        let Some((mut file, at)) = old else {
            // Cut to nothing when all of it had been read, or gone with what had not.
            self.mark.gone = true;
            return Ok(None);
        };
        let id = (at.dev(), at.ino());
        let renamed = self.mark.file == Some(id);
        self.on(&mut file, id).map_err(|error| unread(path, &error))?;
        let behind = renamed.then(|| Box::new(self.mark.clone()));
        others.retain(|(_, other)| newer(other, &at));
        others.sort_by_key(|(_, at)| (at.mtime(), at.mtime_nsec()));
        for (mut file, at) in others {
            if self.left == 0 {
                return Ok(behind);
            }
            let id = (at.dev(), at.ino());
            self.mark = Mark { file: Some(id), gone: self.mark.gone, ..Mark::default() };
            self.on(&mut file, id).map_err(|error| unread(path, &error))?;
        }
        Ok(behind)
    }

    /// Reads on to the end of the last whole line, and moves the mark there.
    fn on(&mut self, file: &mut File, id: (u64, u64)) -> io::Result<()> {
        file.seek(SeekFrom::Start(self.mark.offset))?;
        let mut start = self.mark.offset;
        let mut line: Vec<u8> = Vec::new();
        let mut chunk = vec![0; CHUNK];
        loop {
            let most = usize::try_from(self.left).unwrap_or(CHUNK).min(CHUNK);
            let got = file.read(chunk.get_mut(..most).unwrap_or_default())?;
            if got == 0 {
                break;
            }
            self.left = self.left.saturating_sub(got as u64);
            let mut rest = chunk.get(..got).unwrap_or_default();
            while !rest.is_empty() {
                let room = self.limits.line.saturating_sub(line.len()).max(1).min(rest.len());
                let fits = rest.get(..room).unwrap_or_default();
                let end = fits.iter().position(|byte| *byte == b'\n');
                let (piece, after) = match end {
                    Some(end) => (fits.get(..end).unwrap_or_default(), end + 1),
                    None => (fits, room),
                };
                line.extend_from_slice(piece);
                rest = rest.get(after..).unwrap_or_default();
                if end.is_some() || line.len() >= self.limits.line {
                    let length = line.len() as u64 + u64::from(end.is_some());
                    self.keep(std::mem::take(&mut line), id, start);
                    start = start.saturating_add(length);
                }
            }
        }
        self.unfinished |= self.is_wanted(&line);
        self.mark.file = Some(id);
        self.mark.offset = start;
        self.mark.known = known(file, start)?;
        Ok(())
    }

    fn is_wanted(&self, line: &[u8]) -> bool {
        !self.word.is_empty() && line.windows(self.word.len()).any(|window| window == self.word)
    }

    fn keep(&mut self, mut bytes: Vec<u8>, (device, inode): (u64, u64), start: u64) {
        if self.is_wanted(&bytes) {
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
            self.lines.push(Line { place: format!("{device}:{inode}:{start}"), bytes });
        }
    }
}

fn newer(one: &Metadata, other: &Metadata) -> bool {
    (one.mtime(), one.mtime_nsec()) >= (other.mtime(), other.mtime_nsec())
}

/// The files beside it whose names begin with its own.
fn siblings(path: &Path) -> Result<Vec<PathBuf>, Fault> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(Vec::new());
    };
    let entries = fs::read_dir(folder).map_err(|error| unread(folder, &error))?;
    let mut found = Vec::new();
    for entry in entries.take(NAMES_LIMIT) {
        let entry = entry.map_err(|error| unread(folder, &error))?;
        let other = entry.file_name();
        if other != *name && other.as_encoded_bytes().starts_with(name.as_encoded_bytes()) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// None where there is no such file, and its folder says so.
fn open(path: &Path) -> Result<Option<(File, Metadata)>, Fault> {
    // A pipe would wait for a writer; what is no file is refused before it is opened.
    let at = match fs::metadata(path) {
        Ok(at) => at,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let folder = path.parent().unwrap_or(path);
            return match fs::metadata(folder) {
                Ok(_) => Ok(None),
                Err(error) => Err(unread(folder, &error)),
            };
        }
        Err(error) => return Err(unread(path, &error)),
    };
    if !at.is_file() {
        let text = format!("{} is no file", path.display());
        return Err(Fault::new(FaultCode::Unreadable, text));
    }
    let opened = File::open(path).and_then(|file| file.metadata().map(|at| (file, at)));
    match opened {
        Ok(opened) => Ok(Some(opened)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unread(path, &error)),
    }
}

/// The checksum of the bytes before `offset`.
fn known(file: &mut File, offset: u64) -> io::Result<u32> {
    let length = offset.min(KNOWN);
    file.seek(SeekFrom::Start(offset - length))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(crc32fast::hash(&bytes))
}

fn unread(path: &Path, error: &io::Error) -> Fault {
    let code = match error.kind() {
        io::ErrorKind::PermissionDenied => FaultCode::Permission,
        _ => FaultCode::Unreadable,
    };
    Fault::new(code, format!("{} can't be read: {error}", path.display()))
}

#[cfg(test)]
mod tests;
