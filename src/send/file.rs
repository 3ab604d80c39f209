//! A file on this node that a shipper reads: whole lines, appended, rotated as logrotate does.

use std::fs::{self, File as Handle, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{SendContext, Sender};
use crate::client::tcp::errno;
use crate::journey::{Event, Receipt};
use crate::outcome::{Fault, FaultCode, Reason, ReasonCode};
use crate::probe::Effect;
use crate::spec::Period;
use crate::spec::units::Size;
use crate::time::Mono;

/// Another round may have the file for a moment.
const AGAIN: Duration = Duration::from_millis(10);
/// So many old files are the most that are kept.
const KEEP_LIMIT: u32 = 100;

/// Appends one line an event. The first line of a new file is one of a kind, since each line
/// carries its time and token: shippers tell files apart by their first bytes.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// The file; its folder must be there.
    pub path: PathBuf,
    /// Put each batch on disk before it counts as sent (fdatasync).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub fsync: bool,
    /// Rotate the file, so that the shipper's handling of it is proved. Without it, the file
    /// grows: rotate it as you rotate the others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate: Option<Rotate>,
    /// Give up after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rotate {
    pub how: How,
    /// Rotate before the file would grow beyond this.
    pub max_size: Size,
    /// How many old files stay: PATH.1 is the youngest.
    #[serde(default = "keep")]
    pub keep: u32,
}

fn keep() -> u32 {
    3
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum How {
    /// The file becomes PATH.1, and a new one is begun.
    Rename,
    /// The file is copied to PATH.1 and cut to nothing: it stays the same file, and a shipper that
    /// has not read its end by then loses it.
    Copytruncate,
}

#[derive(Debug)]
pub struct File {
    spec: Spec,
    timeout: Option<Duration>,
}

impl Sender for File {
    const KIND: &'static str = "file";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = false;

    fn new(spec: Spec) -> Result<Self, String> {
        if !spec.path.is_absolute() || spec.path.file_name().is_none() {
            return Err(format!("{} is no absolute path of a file", spec.path.display()));
        }
        if let Some(rotate) = &spec.rotate {
            if rotate.max_size.0 == 0 {
                return Err("`max_size` is 0; give 64KiB or so".into());
            }
            if !(1..=KEEP_LIMIT).contains(&rotate.keep) {
                return Err(format!("`keep` is {}; give 1 to {KEEP_LIMIT}", rotate.keep));
            }
        }
        Ok(Self { timeout: spec.timeout.map(|timeout| timeout.0), spec })
    }

    fn line_delimited(&self) -> bool {
        true
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        let path = self.spec.path.display();
        let rotates = match &self.spec.rotate {
            Some(rotate) => format!(
                ", rotates it at {} and deletes {path}.{} then",
                rotate.max_size, rotate.keep
            ),
            None => String::new(),
        };
        vec![Effect {
            what: format!("appends {count} lines to {path}{rotates}"),
            needs: Some(format!("the right to write {path}; without it nothing is sent")),
        }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let timeout = self.timeout.map_or(on.timeout, |timeout| timeout.min(on.timeout));
        let deadline = Instant::now() + timeout.mul_f64(0.9);
        let mut lines = Vec::with_capacity(events.len());
        for event in events {
            // Sending the others would leave a hole that is none of the shipper's.
            if event.payload.contains(&b'\n') {
                let text = format!(
                    "event {} holds a line feed, which would cut it in two in a file; use another \
                     format or message",
                    event.seq
                );
                return super::post::all_fault(events.len(), FaultCode::Unsupported, text);
            }
            lines.push(event.payload.clone());
        }
        let resource = format!("file {}", self.spec.path.display());
        let cells = on.clients.cells();
        while cells.busy_for(&resource, Mono::now()).is_some() && Instant::now() < deadline {
            tokio::time::sleep(AGAIN).await;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        let spec = self.spec.clone();
        let work = move || append(&spec, &lines);
        match cells.run(&resource, left, work).await {
            Ok(receipts) => receipts,
            // It was begun and hangs: it may be written yet.
            Err(fault) if fault.code == FaultCode::Hung && !left.is_zero() => {
                on.trace.note(format_args!("{fault}"));
                vec![Receipt::Unknown(Reason::new(ReasonCode::Timeout, fault.text)); events.len()]
            }
            Err(fault) => vec![Receipt::Fault(fault); events.len()],
        }
    }
}

/// Appends the lines; one receipt a line. It blocks.
fn append(spec: &Spec, lines: &[bytes::Bytes]) -> Vec<Receipt> {
    let failed = |error: &io::Error| receipt_of(&spec.path, error);
    let mut receipts = Vec::with_capacity(lines.len());
    let mut open: Option<(Handle, u64)> = None;
    let mut ended = None;
    for line in lines {
        let whole = [&line[..], b"\n"].concat();
        match ready(spec, &mut open, whole.len() as u64) {
            Ok(handle) => match handle.write(&whole) {
                Ok(written) if written == whole.len() => {
                    if let Some((_, size)) = &mut open {
                        *size += written as u64;
                    }
                    receipts.push(Receipt::Sent { at: Mono::now() });
                }
                // A part of the line is in the file, and its end will be the next line's begin.
                Ok(written) => {
                    let text = format!(
                        "{}: only {written} of {} bytes could be written; make room",
                        spec.path.display(),
                        whole.len()
                    );
                    receipts
                        .push(Receipt::Unknown(Reason::new(ReasonCode::Rejected, text.clone())));
                    ended = Some(Receipt::NotSent(Reason::new(ReasonCode::Rejected, text)));
                    break;
                }
                Err(error) => {
                    ended = Some(failed(&error));
                    break;
                }
            },
            Err(error) => {
                ended = Some(failed(&error));
                break;
            }
        }
    }
    if spec.fsync
        && let Some((handle, _)) = &open
        && let Err(error) = handle.sync_data()
    {
        let text = format!("{}: it may not be on disk: {error}", spec.path.display());
        let unknown = Receipt::Unknown(Reason::new(ReasonCode::Rejected, text));
        receipts.iter_mut().for_each(|receipt| *receipt = unknown.clone());
    }
    if let Some(ended) = ended {
        receipts.resize(lines.len(), ended);
    }
    receipts
}

/// The file, open and with room for `more` bytes.
fn ready<'o>(
    spec: &Spec,
    open: &'o mut Option<(Handle, u64)>,
    more: u64,
) -> io::Result<&'o mut Handle> {
    let (handle, size) = match open.take() {
        Some(open) => open,
        None => opened(&spec.path)?,
    };
    let full = spec.rotate.filter(|rotate| size > 0 && size + more > rotate.max_size.0);
    let (handle, size) = match full {
        Some(rotate) => {
            if spec.fsync {
                handle.sync_data()?;
            }
            rotated(&spec.path, handle, rotate)?
        }
        None => (handle, size),
    };
    Ok(&mut open.insert((handle, size)).0)
}

fn opened(path: &Path) -> io::Result<(Handle, u64)> {
    // Without O_NONBLOCK, a FIFO that nobody reads would hang here.
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    let handle =
        OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(flags).open(path)?;
    let about = handle.metadata()?;
    if !about.is_file() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok((handle, about.len()))
}

fn rotated(path: &Path, handle: Handle, rotate: Rotate) -> io::Result<(Handle, u64)> {
    let numbered = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..rotate.keep).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    match rotate.how {
        How::Rename => {
            fs::rename(path, numbered(1))?;
            opened(path)
        }
        How::Copytruncate => {
            fs::copy(path, numbered(1))?;
            handle.set_len(0)?;
            Ok((handle, 0))
        }
    }
}

fn receipt_of(path: &Path, error: &io::Error) -> Receipt {
    let shown = path.display();
    let words = errno(error).desc().to_lowercase();
    match errno(error) {
        Errno::EACCES | Errno::EPERM => Receipt::Fault(Fault::new(
            FaultCode::Permission,
            format!("{shown} may not be written by this user; grant it"),
        )),
        Errno::ENOENT | Errno::ENOTDIR => Receipt::NotSent(Reason::new(
            ReasonCode::NotFound,
            format!("the folder of {shown} is not there; make it"),
        )),
        Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM => {
            Receipt::Fault(Fault::new(FaultCode::Exhausted, format!("{shown}: {words}")))
        }
        Errno::UnknownErrno => Receipt::Fault(Fault::new(
            FaultCode::Unsupported,
            format!("{shown} is no file that can be appended to: {error}"),
        )),
        // A full or read-only filesystem takes no line of anybody's.
        _ => Receipt::NotSent(Reason::new(ReasonCode::Rejected, format!("{shown}: {words}"))),
    }
}
