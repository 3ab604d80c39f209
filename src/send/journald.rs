//! The journal, by systemd's "Native Journal Protocol": one datagram an entry, a sealed memory
//! file where it is too large for one.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::Interest;
use tokio::net::UnixDatagram;

use super::syslog::receipt;
use super::{SendContext, Sender};
use crate::client::datagram::Handed;
use crate::client::datagram::Socket;
use crate::journey::{Event, Receipt};
use crate::outcome::{FaultCode, ReasonCode, Trouble};
use crate::probe::Effect;
use crate::spec::Period;
use crate::time::Mono;

const SOCKET: &str = "/run/systemd/journal/socket";
/// info, of syslog's levels.
const PRIORITY: &str = "6";
/// The journal ignores fields with longer names (systemd.journal-fields(7)).
const NAME_LIMIT: usize = 64;
/// Entries up to here go as one datagram: the default of net.core.wmem_default is larger.
const DATAGRAM: usize = 128 * 1024;

/// Writes one entry an event to the local journal: the message, and its fields in the journal's
/// spelling (`host.name` becomes `HOST_NAME`). To see them: `journalctl -t greenlight`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// The journal's socket, where it is not at `/run/systemd/journal/socket`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket: Option<PathBuf>,
    /// Give up after this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Period>,
}

#[derive(Debug)]
pub struct Journald {
    socket: PathBuf,
    timeout: Option<Duration>,
}

impl Sender for Journald {
    const KIND: &'static str = "journald";
    type Spec = Spec;
    const ACKNOWLEDGES: bool = false;
    const OWN_FORMAT: bool = true;

    fn new(spec: Spec) -> Result<Self, String> {
        let socket = spec.socket.unwrap_or_else(|| SOCKET.into());
        if !socket.is_absolute() {
            return Err(format!("{} is no absolute path", socket.display()));
        }
        Ok(Self { socket, timeout: spec.timeout.map(|timeout| timeout.0) })
    }

    fn effects(&self, count: u64) -> Vec<Effect> {
        let socket = self.socket.display();
        vec![Effect {
            what: format!("writes {count} entries to the journal at {socket}"),
            needs: None,
        }]
    }

    async fn send(&self, events: &[Event], on: SendContext<'_>) -> Vec<Receipt> {
        let timeout = self.timeout.map_or(on.timeout, |timeout| timeout.min(on.timeout));
        let within = timeout.mul_f64(0.9);
        let began = Mono::now();
        let socket = match Socket::local(&self.socket) {
            Ok(Some(socket)) => socket,
            Ok(None) => {
                let text = format!("{} is no socket of datagrams", self.socket.display());
                return super::post::all_fault(events.len(), FaultCode::Unsupported, text);
            }
            Err(not) => return vec![receipt(Handed::Not(not)); events.len()],
        };
        let mut known = Vec::with_capacity(events.len());
        for event in events {
            let left = within.saturating_sub(Mono::now().since(began));
            let entry = entry(event).freeze();
            if entry.len() <= DATAGRAM {
                let one = [vec![entry.clone()]];
                known.extend(socket.deliver(&one, left, on.trace).await);
                continue;
            }
            let sent = match socket.as_local() {
                Some(local) => tokio::time::timeout(left, pass(local, &entry)).await,
                None => continue,
            };
            known.push(match sent {
                Ok(Ok(())) => Handed::Over { at: Mono::now() },
                Ok(Err(error)) => {
                    let text = format!("an entry of {} bytes: {error}", entry.len());
                    Handed::Not(Trouble::fault(FaultCode::Unsupported, text))
                }
                Err(_) => {
                    let text = "the journal takes no more: its queue is full";
                    Handed::Not(Trouble::reason(ReasonCode::Timeout, text))
                }
            });
        }
        known.into_iter().map(receipt).collect()
    }
}

/// One entry: a field a line, one whose value has a line feed with its length before it.
fn entry(event: &Event) -> BytesMut {
    let mut out = BytesMut::with_capacity(event.message.len() + 512);
    field(&mut out, "MESSAGE", event.message.as_bytes());
    field(&mut out, "PRIORITY", PRIORITY.as_bytes());
    let app = event.fields.get("service.name").and_then(Value::as_str).unwrap_or("greenlight");
    field(&mut out, "SYSLOG_IDENTIFIER", app.as_bytes());
    field(&mut out, "GREENLIGHT_ID", event.token.as_bytes());
    for (name, value) in &event.fields {
        let Some(name) = spelled(name) else { continue };
        match value {
            Value::String(text) => field(&mut out, &name, text.as_bytes()),
            other => field(&mut out, &name, other.to_string().as_bytes()),
        }
    }
    out
}

fn field(out: &mut BytesMut, name: &str, value: &[u8]) {
    out.put_slice(name.as_bytes());
    if value.contains(&b'\n') {
        out.put_u8(b'\n');
        out.put_u64_le(value.len() as u64);
    } else {
        out.put_u8(b'=');
    }
    out.put_slice(value);
    out.put_u8(b'\n');
}

/// A name as the journal has them: upper-case letters, digits and underscores, no underscore or
/// digit in front (those are the journal's own). None where nothing of it is left, or it is one
/// that an entry has already.
fn spelled(name: &str) -> Option<String> {
    let upper = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
    let spelled: String = name.chars().map(upper).collect();
    let spelled = spelled.trim_start_matches(|c: char| c == '_' || c.is_ascii_digit());
    let own = ["MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "GREENLIGHT_ID"].contains(&spelled);
    (!spelled.is_empty() && spelled.len() <= NAME_LIMIT && !own).then(|| spelled.to_owned())
}

/// Passes an entry as a memory file, sealed so that the journal may trust it.
async fn pass(socket: &UnixDatagram, entry: &[u8]) -> io::Result<()> {
    let flags = MFdFlags::MFD_ALLOW_SEALING | MFdFlags::MFD_CLOEXEC;
    let mut file = File::from(memfd_create(c"greenlight", flags)?);
    file.write_all(entry)?;
    let seals = SealFlag::F_SEAL_SHRINK
        | SealFlag::F_SEAL_GROW
        | SealFlag::F_SEAL_WRITE
        | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))?;
    let descriptors = [file.as_raw_fd()];
    socket
        .async_io(Interest::WRITABLE, || {
            let rights = [ControlMessage::ScmRights(&descriptors)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            sendmsg::<UnixAddr>(socket.as_raw_fd(), &[], &rights, flags, None)?;
            Ok(())
        })
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_the_journal_has_them() {
        for (name, expected) in [
            ("host.name", Some("HOST_NAME")),
            ("greenlight.seq", Some("GREENLIGHT_SEQ")),
            ("_private", Some("PRIVATE")),
            ("9lives", Some("LIVES")),
            ("größe", Some("GR__E")),
            ("message", None),
            ("__", None),
        ] {
            assert_eq!(spelled(name).as_deref(), expected, "{name}");
        }
        assert_eq!(spelled(&"x".repeat(65)), None);
        let mut out = BytesMut::new();
        field(&mut out, "A", b"plain");
        field(&mut out, "B", b"two\nlines");
        assert_eq!(&out[..], b"A=plain\nB\n\x09\0\0\0\0\0\0\0two\nlines\n");
    }
}
