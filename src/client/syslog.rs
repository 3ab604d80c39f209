//! Syslog over TCP and TLS: framing (RFC 6587, RFC 5425), and what is known of messages that
//! nobody acknowledges.
//!
//! Syslog has no answer. What TCP tells is all there is: a connection that stayed whole until the
//! other side had everything and closed too, or one that was reset with messages under way. After
//! a reset even what was acknowledged by the other host may not have been read by the program.

use std::fmt;
use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::datagram::Handed;
use super::stream::Stream;
use super::{Clients, tls};
use crate::outcome::{Reason, ReasonCode, Trouble};
use crate::spec::trace::Trace;
use crate::time::Mono;

/// After the last message the connection is watched this long for a reset; a receiver that closes
/// when we do, as most, ends it at once.
const WATCH: Duration = Duration::from_secs(2);
/// After the other side's close, the answer to what it did not take (a reset) is on its way for
/// one round trip.
const SETTLE: Duration = Duration::from_millis(50);
/// A syslog receiver sends nothing; one that does is not read for ever.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Where syslog is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    pub tls: bool,
    pub host: String,
    pub port: u16,
}

impl Address {
    /// Reads "tcp://host:port" or "tls://host:port".
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected =
            || format!("{text:?} is no address; write tcp://host:port or tls://host:port");
        let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
        let tls = match scheme {
            "tcp" => false,
            "tls" => true,
            "udp" => {
                return Err(String::from(
                    "over UDP nothing answers, so nothing can be told of a receiver; use tcp://",
                ));
            }
            _ => return Err(expected()),
        };
        let (host, port) = rest.rsplit_once(':').ok_or_else(expected)?;
        let port: u16 = port.parse().map_err(|_| expected())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let bracketed = bare.len() != host.len();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        let whole = if bracketed {
            bare.parse::<std::net::Ipv6Addr>().is_ok()
        } else {
            !bare.is_empty() && bare.chars().all(legal)
        };
        if !whole || port == 0 {
            return Err(expected());
        }
        Ok(Self { tls, host: bare.to_string(), port })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "tls" } else { "tcp" };
        if self.host.contains(':') {
            write!(f, "{scheme}://[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{scheme}://{}:{}", self.host, self.port)
        }
    }
}

/// How messages are told apart in the stream.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Framing {
    /// Each message after its length (RFC 6587, 3.4.1; what TLS asks for, RFC 5425).
    #[default]
    Octet,
    /// A line feed after each message (RFC 6587, 3.4.2).
    Lf,
    /// A zero byte after each message, as GELF and local sockets have it.
    Nul,
}

/// A message as it goes into the stream; an error where this framing can't carry it.
pub fn frame(framing: Framing, message: &[u8]) -> Result<Bytes, &'static str> {
    let mut framed = BytesMut::with_capacity(message.len() + 8);
    match framing {
        Framing::Octet => {
            framed.put_slice(message.len().to_string().as_bytes());
            framed.put_u8(b' ');
            framed.put_slice(message);
        }
        Framing::Lf => {
            if message.contains(&b'\n') {
                return Err(
                    "the message holds a line feed, which would cut it in two; use `framing: octet`",
                );
            }
            framed.put_slice(message);
            framed.put_u8(b'\n');
        }
        Framing::Nul => {
            if message.contains(&0) {
                return Err(
                    "the message holds a zero byte, which would cut it in two; use another framing",
                );
            }
            framed.put_slice(message);
            framed.put_u8(0);
        }
    }
    Ok(framed.freeze())
}

/// An open connection to a receiver.
pub struct Connection {
    stream: Stream,
    to: String,
    /// From the first packet to the end of the last handshake.
    pub took: Duration,
}

impl Connection {
    /// Connects to the first of the host's addresses that answers.
    pub async fn open(
        clients: &Clients,
        to: &Address,
        options: &tls::Options,
        within: Duration,
        trace: &Trace,
    ) -> Result<Self, Trouble> {
        let (began, shown) = (Mono::now(), to.to_string());
        let secured = to.tls.then_some(options);
        let at = (to.host.as_str(), to.port);
        let stream = Stream::open(clients, at, secured, within, &shown, trace).await?;
        Ok(Self::opened(stream, shown, began, trace))
    }

    /// Connects to a local stream socket.
    pub async fn open_local(path: &Path, within: Duration, trace: &Trace) -> Result<Self, Trouble> {
        let (began, shown) = (Mono::now(), format!("unix://{}", path.display()));
        let stream = Stream::open_local(path, within, &shown).await?;
        Ok(Self::opened(stream, shown, began, trace))
    }

    fn opened(stream: Stream, to: String, began: Mono, trace: &Trace) -> Self {
        let took = Mono::now().since(began);
        trace.note(format_args!("connected to {to} in {took:.1?}"));
        Self { stream, to, took }
    }

    /// Writes the messages one after the other and ends the connection; what is known of each, in
    /// the same order.
    pub async fn deliver(
        mut self,
        messages: &[Bytes],
        within: Duration,
        trace: &Trace,
    ) -> Vec<Handed> {
        let watch = WATCH.min(within / 2);
        let deadline = Instant::now() + (within - watch);
        let mut known = Vec::with_capacity(messages.len());
        let mut broken = None;
        for message in messages {
            match write(&mut self.stream, message, deadline).await {
                Ok(()) => known.push(Handed::Over { at: Mono::now() }),
                Err((written, code, text)) => {
                    let reason = Reason::new(code, format!("{}: {text}", self.to));
                    trace.note(format_args!(
                        "after {} messages and {written} bytes: {reason}",
                        known.len()
                    ));
                    if written > 0 {
                        known.push(Handed::Perhaps(reason.clone()));
                    }
                    broken = Some(reason);
                    break;
                }
            }
        }
        let lost = match &broken {
            // A full buffer is no reset: the receiver may yet read what it has.
            Some(reason) if reason.code == ReasonCode::Timeout => None,
            Some(reason) => Some(reason.clone()),
            None => None,
        };
        let lost = match lost {
            Some(reason) => Some(reason),
            None => self.finish(watch).await.err(),
        };
        if let Some(reason) = &lost {
            trace.note(format_args!("the connection did not end in good order: {reason}"));
            for one in &mut known {
                if matches!(one, Handed::Over { .. }) {
                    *one = Handed::Perhaps(reason.clone());
                }
            }
        }
        let not = broken.or(lost).unwrap_or_else(|| {
            Reason::new(ReasonCode::ConnectionLost, format!("{} was closed", self.to))
        });
        known.resize(messages.len(), Handed::Not(Trouble::Reason(not)));
        known
    }

    /// Says that nothing more comes, and watches until the other side has closed too, or long
    /// enough to know that it took everything.
    async fn finish(&mut self, watch: Duration) -> Result<(), Reason> {
        let to = self.to.clone();
        let lost = |error: &io::Error| {
            let (code, text) = told(error);
            Reason::new(code, format!("{to}, after the last message: {text}"))
        };
        // What its host has not acknowledged by then ends the connection with an error (tcp(7));
        // where the kernel refuses the option, only the watching is left.
        drop(self.stream.socket().set_tcp_user_timeout(Some(watch.mul_f64(0.75))));
        let until = Instant::now() + watch;
        match timeout_at(until, self.stream.shutdown()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(lost(&error)),
            Err(_) => return Err(lost(&io::ErrorKind::TimedOut.into())),
        }
        let mut buffer = [0; 4096];
        let mut answer = 0;
        while answer < ANSWER_LIMIT {
            match timeout_at(until, self.stream.read(&mut buffer)).await {
                Ok(Ok(0)) => {
                    // It closed too; a reset for what it did not take would come now.
                    tokio::time::sleep(SETTLE).await;
                    break;
                }
                Ok(Ok(some)) => answer += some,
                // TLS that ended without its closing word: the stream itself ended in order.
                Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                    tokio::time::sleep(SETTLE).await;
                    break;
                }
                Ok(Err(error)) => return Err(lost(&error)),
                Err(_) => break,
            }
        }
        match self.stream.socket().take_error() {
            Ok(None) => Ok(()),
            Ok(Some(error)) | Err(error) => Err(lost(&error)),
        }
    }
}

/// Writes all of a message; on failure, how many bytes went before and why no more did.
async fn write(
    stream: &mut Stream,
    message: &[u8],
    deadline: Instant,
) -> Result<(), (usize, ReasonCode, String)> {
    let mut written = 0;
    // What TLS took it may have sent, whatever it says of the flush.
    let least = usize::from(stream.is_secured());
    while let Some(rest) = message.get(written..).filter(|rest| !rest.is_empty()) {
        let step = async {
            let step = stream.write(rest).await?;
            stream.flush().await?;
            Ok(step)
        };
        match timeout_at(deadline, step).await {
            Ok(Ok(0)) => return Err((written, ReasonCode::ConnectionLost, "closed".into())),
            Ok(Ok(step)) => written += step,
            Ok(Err(error)) => {
                let (code, text) = told(&error);
                return Err((written.max(least), code, text));
            }
            Err(_) => {
                let text = "it takes no more: what was sent before is not being read";
                return Err((written.max(least), ReasonCode::Timeout, text.into()));
            }
        }
    }
    Ok(())
}

/// A connection that broke, in words.
pub(super) fn told(error: &io::Error) -> (ReasonCode, String) {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            (ReasonCode::ConnectionLost, format!("the receiver reset the connection: {error}"))
        }
        io::ErrorKind::TimedOut => (
            ReasonCode::Timeout,
            String::from("the receiver's host does not acknowledge what was sent"),
        ),
        _ => (ReasonCode::ConnectionLost, format!("the connection broke: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        for text in ["tcp://collector:514", "tls://[2001:db8::1]:6514", "tcp://10.0.0.1:601"] {
            assert_eq!(Address::parse(text).map(|address| address.to_string()), Ok(text.into()));
        }
        for text in [
            "collector:514",
            "http://collector:514",
            "udp://collector:514",
            "tcp://collector",
            "tcp://:514",
            "tcp://a b:514",
            "tcp://collector:0",
            "tcp://collector:70000",
            "tcp://[collector]:514",
            "tcp://2001:db8::1:514",
        ] {
            assert!(Address::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_are_framed_as_rfc_6587_says() {
        let message = "<134>1 - - - - - - naïve".as_bytes();
        let octet = frame(Framing::Octet, message).expect("it carries anything");
        assert_eq!(&octet[..], "25 <134>1 - - - - - - naïve".as_bytes());
        let lf = frame(Framing::Lf, message).expect("there is no line feed");
        assert_eq!(&lf[..], "<134>1 - - - - - - naïve\n".as_bytes());
        assert!(frame(Framing::Lf, b"two\nlines").is_err());
        assert_eq!(&frame(Framing::Octet, b"a\nb").expect("it carries anything")[..], b"3 a\nb");
    }

    /// Reads frames as a receiver does: by the count, else to the line feed.
    fn unframe(mut stream: &[u8]) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        while let Some(first) = stream.first() {
            let (start, end, next) = if first.is_ascii_digit() {
                let space = stream.iter().position(|b| *b == b' ').expect("a count ends");
                let count = std::str::from_utf8(&stream[..space]).expect("digits");
                let end = space + 1 + count.parse::<usize>().expect("a number");
                (space + 1, end, end)
            } else {
                let end = stream.iter().position(|b| *b == b'\n').expect("a line ends");
                (0, end, end + 1)
            };
            found.push(stream[start..end].to_vec());
            stream = &stream[next..];
        }
        found
    }

    #[test]
    fn what_is_framed_is_read_back() {
        let tried = std::sync::atomic::AtomicU64::new(0);
        proptest!(|(bodies: Vec<Vec<u8>>, lf: bool)| {
            tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let framing = if lf { Framing::Lf } else { Framing::Octet };
            let mut sent = Vec::new();
            let mut stream = Vec::new();
            for body in bodies {
                let message = [b"<134>1 ".as_slice(), &body].concat();
                match frame(framing, &message) {
                    Ok(framed) => {
                        stream.extend_from_slice(&framed);
                        sent.push(message);
                    }
                    Err(_) => prop_assert!(lf && message.contains(&b'\n')),
                }
            }
            prop_assert_eq!(unframe(&stream), sent);
        });
        eprintln!("property syslog framing: {tried:?} inputs");
    }

    #[test]
    fn no_text_panics_as_an_address() {
        let tried = std::sync::atomic::AtomicU64::new(0);
        proptest!(|(text in "(tcp|tls|udp|)(://|:|)[^ ]{0,20}")| {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
            }
            tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        eprintln!("property syslog address: {tried:?} inputs");
    }
}
