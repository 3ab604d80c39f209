//! Kernel text: files that are kept open and read again, and the numbers in them.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::outcome::{Fault, FaultCode};
use crate::time::Mono;

/// A kernel file larger than this is none that we know how to read. /proc/stat of a machine with
/// thousands of interrupt lines stays below 200 KiB.
const FILE_LIMIT: usize = 1 << 20;

/// A file that is missing comes, if at all, with a module: it is looked for again after so many
/// readings.
const MISSING_SKIPS: u8 = 15;

/// The kernel's pages are no smaller.
const PAGE_LEAST: usize = 4 << 10;

/// A line of [`KernelFile::short_lines`] is shorter.
const LINE_MOST: usize = 1 << 10;

/// What a buffer starts with; most files fit.
const FILE_USUAL: usize = 16 << 10;

/// One file of procfs: opened once and read from its start at every tick.
pub(super) struct KernelFile {
    path: PathBuf,
    handle: Option<File>,
    fault: Option<Arc<Fault>>,
    /// Readings left in which a file that was not there is not looked for: looking costs more than
    /// reading most files does.
    skip: u8,
    /// The last fault made and what it was made of, so that a lasting one costs nothing.
    made: Option<(Trouble, Arc<Fault>)>,
    /// A reading of fewer bytes, with room for more, was all of it.
    whole_below: usize,
    /// Where the lines are always the same.
    wanted: Option<Wanted>,
}

/// Which lines are looked for, by the names that they begin with, and the last of those.
struct Wanted {
    is: fn(&[u8]) -> bool,
    last: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq)]
enum Trouble {
    Io(Option<i32>),
    Text(&'static str),
}

impl KernelFile {
    pub(super) fn new(path: PathBuf) -> Self {
        let (handle, fault, made, wanted) = (None, None, None, None);
        Self { path, handle, fault, skip: 0, made, whole_below: 0, wanted }
    }

    /// A file that the kernel makes as one piece (single_open in fs/seq_file.c, and every number of
    /// /proc/sys): what did not fill the room was all of it, and asking for more costs as much again.
    /// One of lines is handed out page by page, and ends only where nothing more comes.
    pub(super) fn at_once(path: PathBuf) -> Self {
        Self { whole_below: usize::MAX, ..Self::new(path) }
    }

    /// A file of lines of which none is longer than a few hundred bytes: the kernel fills a page with as
    /// many as fit, so that what ends far before that was all (seq_read_iter in fs/seq_file.c).
    pub(super) fn short_lines(path: PathBuf) -> Self {
        Self { whole_below: PAGE_LEAST - LINE_MOST, ..Self::new(path) }
    }

    /// A file whose lines have names and are the same for as long as the kernel runs: once the last
    /// that is wanted is known, nothing more is asked for behind it. /proc/vmstat is summed up over
    /// all processors for each page that is handed out.
    pub(super) fn same_lines(path: PathBuf, wanted: fn(&[u8]) -> bool) -> Self {
        Self { wanted: Some(Wanted { is: wanted, last: Vec::new() }), ..Self::new(path) }
    }

    /// The whole text. None where it could not be read; [`KernelFile::fault`] says why.
    pub(super) fn read<'b>(&mut self, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        match self.fill(buffer) {
            Ok(length) if length > FILE_LIMIT => {
                self.garbled("is larger than any such file");
                None
            }
            Ok(length) => {
                self.fault = None;
                buffer.get(..length)
            }
            Err(error) => {
                self.handle = None;
                if error.kind() == io::ErrorKind::NotFound {
                    self.skip = MISSING_SKIPS;
                }
                self.fail(Trouble::Io(error.raw_os_error()), |path| io_fault(path, &error));
                None
            }
        }
    }

    fn fill(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let handle = match &mut self.handle {
            Some(handle) => handle,
            none => none.insert(File::open(&self.path)?),
        };
        let mut length = 0;
        loop {
            if length == buffer.len() {
                if length > FILE_LIMIT {
                    return Ok(length);
                }
                buffer.resize((length * 2).clamp(FILE_USUAL, FILE_LIMIT + 1), 0);
            }
            let rest = buffer.get_mut(length..).unwrap_or_default();
            match handle.read_at(rest, length as u64) {
                Ok(0) => {
                    if let Some(Wanted { is, last }) = &mut self.wanted {
                        let text = buffer.get(..length).unwrap_or_default();
                        last.clear();
                        last.extend(
                            names_from_the_end(text).find(|name| is(name)).into_iter().flatten(),
                        );
                    }
                    return Ok(length);
                }
                Ok(read) => {
                    let whole = read < rest.len() && read < self.whole_below;
                    length += read;
                    let text = buffer.get(..length).unwrap_or_default();
                    let last = self.wanted.as_ref().map(|wanted| wanted.last.as_slice());
                    let last = last.filter(|last| !last.is_empty());
                    let ended =
                        last.is_some_and(|last| names_from_the_end(text).any(|name| name == last));
                    if ended || whole {
                        return Ok(length);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether the kernel has announced a change since it was last asked: mountinfo can be polled
    /// for one (proc(5)). True where nothing is announced, as for any other file, so that it is read.
    pub(super) fn may_have_changed(&self) -> bool {
        let Some(handle) = &self.handle else { return true };
        let asked = PollFlags::POLLPRI | PollFlags::POLLOUT;
        let mut polled = [PollFd::new(handle.as_fd(), asked)];
        match poll(&mut polled, PollTimeout::ZERO) {
            Ok(0) => false,
            // A plain file is always ready to be written, mountinfo never.
            _ => true,
        }
    }

    /// The text makes no sense.
    pub(super) fn garbled(&mut self, what: &'static str) {
        self.fail(Trouble::Text(what), |path| {
            Fault::new(FaultCode::Garbled, format!("{} {what}", path.display()))
        });
    }

    fn fail(&mut self, trouble: Trouble, fault: impl FnOnce(&Path) -> Fault) {
        let fault = match &self.made {
            Some((made, fault)) if *made == trouble => Arc::clone(fault),
            _ => Arc::new(fault(&self.path)),
        };
        self.made = Some((trouble, Arc::clone(&fault)));
        self.fault = Some(fault);
    }

    /// Whether the last reading found no such file.
    pub(super) fn missing(&self) -> bool {
        let none = Trouble::Io(Some(nix::libc::ENOENT));
        self.fault.is_some() && self.made.as_ref().is_some_and(|(made, _)| *made == none)
    }

    /// Why the last reading yielded nothing.
    pub(super) fn fault(&self) -> Option<&Arc<Fault>> {
        self.fault.as_ref()
    }
}

/// What each line begins with, up to a blank, from the last on; what is no whole line is left out.
fn names_from_the_end(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.rsplit(|byte| *byte == b'\n').skip(1).filter_map(|line| fields(line).next())
}

fn io_fault(path: &Path, error: &io::Error) -> Fault {
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            Fault::new(FaultCode::Unsupported, format!("this kernel has no {path}"))
        }
        // What the kernel answers for /proc/pressure where PSI is compiled in and switched off.
        io::ErrorKind::Unsupported => Fault::new(
            FaultCode::Unsupported,
            format!("{path} is switched off; boot the kernel with psi=1 to have it"),
        ),
        io::ErrorKind::PermissionDenied => {
            Fault::new(FaultCode::Permission, format!("{path} may not be read: {error}"))
        }
        _ => Fault::new(FaultCode::Unreadable, format!("{path} could not be read: {error}")),
    }
}

/// A small file of short lines that is opened for this one reading: there are too many of its kind to
/// keep them open. Allocates nothing. None where it can't be read, or is larger than such files are.
pub(super) fn once<'b>(path: &Path, buffer: &'b mut Vec<u8>) -> Option<&'b [u8]> {
    if buffer.len() < FILE_USUAL {
        buffer.resize(FILE_USUAL, 0);
    }
    let file = File::open(path).ok()?;
    let mut length = 0;
    loop {
        let rest = buffer.get_mut(length..).filter(|rest| !rest.is_empty())?;
        match file.read_at(rest, length as u64) {
            Ok(read) => {
                length += read;
                if read < PAGE_LEAST - LINE_MOST {
                    return buffer.get(..length);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// When something that rarely changes is to be read again: at once, and after each span.
pub(super) struct Seldom {
    span: Duration,
    last: Option<Mono>,
}

impl Seldom {
    pub(super) fn every(span: Duration) -> Self {
        Self { span, last: None }
    }

    /// Whether it is time; then the next is a span from now.
    pub(super) fn now(&mut self, at: Mono) -> bool {
        // Ticks come a little early or late, and a second more or less is nothing here.
        let span = self.span.saturating_sub(super::TICK / 2);
        let due = self.last.is_none_or(|last| at.since(last) >= span);
        if due {
            self.last = Some(at);
        }
        due
    }
}

/// A number that changes when somebody changes it: read now and then, and each time while it is not
/// there.
pub(super) struct Setting {
    file: KernelFile,
    due: Seldom,
    value: Option<u64>,
}

impl Setting {
    const EVERY: Duration = Duration::from_secs(5);

    pub(super) fn new(path: PathBuf) -> Self {
        Self { file: KernelFile::at_once(path), due: Seldom::every(Self::EVERY), value: None }
    }

    /// The number, as `parse` finds it. Where it finds none the text `lacks` it.
    pub(super) fn read(
        &mut self,
        at: Mono,
        buffer: &mut Vec<u8>,
        parse: impl FnOnce(&[u8]) -> Option<u64>,
        lacks: &'static str,
    ) -> Option<u64> {
        if self.due.now(at) || self.value.is_none() {
            let found = self.file.read(buffer).map(parse);
            if found == Some(None) {
                self.file.garbled(lacks);
            }
            self.value = found.flatten();
        }
        self.value
    }

    pub(super) fn fault(&self) -> Option<&Arc<Fault>> {
        self.file.fault()
    }
}

/// Lines that are whole: a last one without its end was cut off.
pub(super) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut start = 0;
    memchr::memchr_iter(b'\n', text).filter_map(move |end| {
        let line = text.get(start..end);
        start = end + 1;
        line
    })
}

/// Lines of a name and a number, of which the kernel has the same for as long as it runs: what each is to us is
/// found once, and anew where others stand there.
pub(super) struct Named {
    /// The place of a name that is wanted.
    place: fn(&[u8]) -> Option<usize>,
    /// What stands behind it.
    value: fn(&[u8]) -> Option<u64>,
    /// The names of all lines, side by side, since each tick looks at all of them.
    names: Vec<u8>,
    /// How long the name of each line is, and its place.
    lines: Vec<(u32, Option<u8>)>,
    found: Vec<(usize, Option<u64>)>,
}

impl Named {
    pub(super) fn new(place: fn(&[u8]) -> Option<usize>, value: fn(&[u8]) -> Option<u64>) -> Self {
        Self { place, value, names: Vec::new(), lines: Vec::new(), found: Vec::new() }
    }

    /// The places of what is wanted, with their values, in the order of the text.
    pub(super) fn read(&mut self, text: &[u8]) -> &[(usize, Option<u64>)] {
        if !self.take(text) {
            self.names.clear();
            self.lines.clear();
            for line in lines(text) {
                let name = line.split(is_blank).next().unwrap_or_default();
                self.names.extend_from_slice(name);
                let place = (self.place)(name).and_then(|place| u8::try_from(place).ok());
                self.lines.push((u32::try_from(name.len()).unwrap_or(u32::MAX), place));
            }
            self.take(text);
        }
        &self.found
    }

    /// False where the lines are others than those that are known.
    fn take(&mut self, text: &[u8]) -> bool {
        self.found.clear();
        let mut known = self.lines.iter();
        let mut names = self.names.as_slice();
        for line in lines(text) {
            let Some((length, place)) = known.next() else { return false };
            let Some((name, others)) = names.split_at_checked(*length as usize) else {
                return false;
            };
            let Some(rest) = line.strip_prefix(name) else { return false };
            if !rest.first().is_none_or(is_blank) {
                return false;
            }
            names = others;
            self.found.extend(place.map(|place| (usize::from(place), (self.value)(rest))));
        }
        known.next().is_none()
    }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// Fields between blanks.
pub(super) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(is_blank).filter(|field| !field.is_empty())
}

/// A whole number that fits.
pub(super) fn number(field: &[u8]) -> Option<u64> {
    if field.is_empty() {
        return None;
    }
    field.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

/// The number of a file that holds nothing else.
pub(super) fn single(text: &[u8]) -> Option<u64> {
    let mut words = fields(lines(text).next()?);
    let value = words.next().and_then(number)?;
    words.next().is_none().then_some(value)
}

/// The word in brackets: `always [madvise] never`.
pub(super) fn chosen(text: &[u8]) -> Option<&[u8]> {
    let from = text.iter().position(|byte| *byte == b'[')? + 1;
    let rest = text.get(from..)?;
    rest.get(..rest.iter().position(|byte| *byte == b']')?)
}

/// A whole number in base 16, as the kernel writes its statistics of each processor.
pub(super) fn hex(field: &[u8]) -> Option<u64> {
    if field.is_empty() {
        return None;
    }
    field.iter().try_fold(0u64, |sum, byte| {
        let digit = char::from(*byte).to_digit(16)?;
        sum.checked_mul(16)?.checked_add(u64::from(digit))
    })
}

/// One column of the statistics that the kernel keeps for each processor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Column {
    pub(super) sum: u64,
    pub(super) largest: u64,
}

/// Columns by their heading, over one line of hexadecimal numbers for each processor (as in
/// /proc/net/stat). A column that is not there is None; None where there is no processor, or a
/// line is no such line.
pub(super) fn statistics<const N: usize>(
    text: &[u8],
    wanted: &[&[u8]; N],
) -> Option<[Option<Column>; N]> {
    let mut lines = lines(text);
    let heading = lines.next()?;
    let places = wanted.map(|name| fields(heading).position(|column| column == name));
    let mut found = places.map(|place| place.map(|_| Column::default()));
    let mut rows = 0;
    for line in lines {
        for (column, place) in found.iter_mut().zip(places) {
            let (Some(column), Some(place)) = (column, place) else { continue };
            let value = hex(fields(line).nth(place)?)?;
            column.sum = column.sum.saturating_add(value);
            column.largest = column.largest.max(value);
        }
        rows += 1;
    }
    (rows > 0 && found.iter().any(Option::is_some)).then_some(found)
}

/// A plain number with a fraction, not negative.
pub(super) fn decimal(field: &[u8]) -> Option<f64> {
    let plain = field.iter().all(|byte| byte.is_ascii_digit() || *byte == b'.');
    let text = std::str::from_utf8(field).ok().filter(|_| plain)?;
    text.parse().ok().filter(|value: &f64| value.is_finite())
}
