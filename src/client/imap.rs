//! A mailbox by IMAP4rev1 (RFC 3501), as far as new mail is read: log in, open read-only, which
//! numbers are new, and their bytes. Nothing in the mailbox changes by it.
//!
//! An own client, since what is needed is six commands: the crates bring a parser of the whole
//! language, and none has a limit for what a server sends or a deadline for all of it.

mod login;

use std::fmt;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::http::excerpt;
use super::mail::{Mail, read};
use super::stream::Stream;
use super::{Clients, address, tls};
use crate::outcome::{ReasonCode, Trouble};
use crate::spec::Secret;
use crate::spec::trace::Trace;

/// So many bytes of a mail are read; the text of an alert is a few KiB.
pub const MAIL_LIMIT: u64 = 256 * 1024;
/// So many mails are read in one look; the next goes on behind them.
pub const MAILS_LIMIT: usize = 100;
/// Mails asked for in one command.
const BATCH: usize = 10;
/// A line of the server's: the numbers of 20,000 mails.
const LINE_LIMIT: usize = 256 * 1024;
/// What a server may say to one command.
const RESPONSES_LIMIT: usize = 1_000;
/// For the goodbye, which nothing hangs on.
const ENDING: Duration = Duration::from_millis(500);

/// Where a mailbox is, and who may read it.
#[derive(Clone, Debug)]
pub struct Account {
    pub host: String,
    pub port: u16,
    pub way: Way,
    pub user: String,
    pub proof: Proof,
    pub mailbox: String,
    pub tls: tls::Options,
}

/// What shows that the user is who it says.
#[derive(Clone, Debug)]
pub enum Proof {
    Password(Secret),
    /// Of OAuth 2.
    Token(Secret),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// TLS from the first byte.
    Tls,
    /// In clear, and over to TLS before the login.
    StartTls,
    /// In clear altogether.
    Clear,
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.way == Way::Tls { "imaps" } else { "imap" };
        write!(f, "{scheme}://{}:{}", self.host, self.port)
    }
}

/// Reads `imaps://HOST[:PORT]` or `imap://HOST[:PORT]`; whether it is TLS from the start.
pub fn parse(text: &str) -> Result<(bool, String, u16), String> {
    let expected = || format!("{text:?} is no address; write imaps://HOST or imap://HOST[:PORT]");
    let (scheme, rest) = text.split_once("://").ok_or_else(expected)?;
    let (tls, usual) = match scheme {
        "imaps" => (true, 993),
        "imap" => (false, 143),
        _ => return Err(expected()),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let port = rest.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
    let whole = if port { rest.to_owned() } else { format!("{rest}:{usual}") };
    let at = address::HostPort::parse(&whole).map_err(|_| expected())?;
    Ok((tls, at.host, at.port))
}

/// A place in a mailbox: what comes from now on has this number, or a higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub validity: u32,
    pub next: u32,
}

/// What a look into a mailbox found.
#[derive(Clone, Debug, Default)]
pub struct New {
    pub mails: Vec<(u32, Mail)>,
    /// Why these may not be all: of the mailbox, and for good.
    pub lost: Option<String>,
    /// As [`New::lost`], of this look alone.
    pub lacking: Option<String>,
}

/// Where the mailbox ends now.
pub async fn end(
    account: &Account,
    clients: &Clients,
    within: Duration,
    trace: &Trace,
) -> Result<Place, Trouble> {
    let mut session = Session::open(account, clients, within, trace).await?;
    let place = session.examine(account).await;
    session.close().await;
    place
}

/// The mails that came since `place`, which moves behind them.
pub async fn since(
    account: &Account,
    place: &mut Place,
    clients: &Clients,
    within: Duration,
    trace: &Trace,
) -> Result<New, Trouble> {
    let mut session = Session::open(account, clients, within, trace).await?;
    let now = session.examine(account).await?;
    let mut new = New::default();
    if now.validity != place.validity {
        // All numbers mean something else: which mails are new can't be told.
        new.lost = Some(format!(
            "the mailbox {} was made anew while the round was under way",
            account.mailbox
        ));
        *place = Place { validity: now.validity, next: 1 };
    }
    let mut uids = session.search(place.next).await?;
    if uids.len() > MAILS_LIMIT {
        uids.truncate(MAILS_LIMIT);
        new.lacking = Some(format!("more than {MAILS_LIMIT} new mails; the next look reads on"));
    }
    for batch in uids.chunks(BATCH) {
        let mut fetched = session.fetch(batch).await?;
        for uid in batch {
            place.next = place.next.max(uid.saturating_add(1));
            match fetched.iter().position(|(found, ..)| found == uid) {
                Some(at) => {
                    let (uid, size, bytes) = fetched.swap_remove(at);
                    if size > MAIL_LIMIT {
                        new.lost.get_or_insert_with(|| {
                            format!("mail {uid} has {size} bytes; {MAIL_LIMIT} of it were read")
                        });
                    }
                    new.mails.push((uid, read(&bytes)));
                }
                None => {
                    new.lost.get_or_insert_with(|| {
                        format!("mail {uid} was gone before it could be read")
                    });
                }
            }
        }
    }
    session.close().await;
    Ok(new)
}

struct Session<'a> {
    stream: Stream,
    read: BytesMut,
    tag: u32,
    to: String,
    deadline: Instant,
    trace: &'a Trace,
}

/// One response: `{}` stands in its text for each literal.
#[derive(Debug, Default)]
struct Response {
    text: String,
    literals: Vec<Bytes>,
}

impl<'a> Session<'a> {
    async fn open(
        account: &Account,
        clients: &Clients,
        within: Duration,
        trace: &'a Trace,
    ) -> Result<Self, Trouble> {
        let to = account.to_string();
        // We stop a little before, so that we can still tell what it waited for.
        let deadline = Instant::now() + address::margin(within);
        let at = (account.host.as_str(), account.port);
        let secured = (account.way == Way::Tls).then_some(&account.tls);
        let stream = Stream::open(clients, at, secured, within / 2, &to, trace).await?;
        let mut session = Self { stream, read: BytesMut::new(), tag: 0, to, deadline, trace };
        let greeting = session.response().await?;
        let greeting = greeting.text.to_ascii_uppercase();
        let mut offered = login::offered(&greeting);
        let known = greeting.starts_with("* PREAUTH");
        if !known && !greeting.starts_with("* OK") {
            return Err(session.odd("it did not greet", greeting.as_bytes()));
        }
        if account.way == Way::StartTls {
            if known {
                return Err(session.odd("it knows us before TLS", greeting.as_bytes()));
            }
            session.ask("STARTTLS", &[]).await?;
            // What came along in clear would be taken for an answer under TLS.
            if !session.read.is_empty() {
                return Err(session.odd("it said more in clear after STARTTLS", &session.read));
            }
            let Self { stream, to, .. } = session;
            let secured = stream.secured(clients, &account.host, &account.tls, deadline, &to);
            let stream = secured.await?;
            session = Self { stream, read: BytesMut::new(), tag: 1, to, deadline, trace };
            // What was said in clear counts no more.
            offered = None;
        }
        if !known {
            session.log_in(account, offered).await?;
        }
        Ok(session)
    }

    async fn examine(&mut self, account: &Account) -> Result<Place, Trouble> {
        let mailbox = account.mailbox.as_str();
        let responses = match self.try_ask("EXAMINE", &[mailbox]).await {
            Ok(responses) => responses,
            Err(Failed { said: Some(said), .. }) => {
                let said = excerpt(said.as_bytes());
                let text = format!("{} does not open the mailbox {mailbox}: {said}", self.to);
                return Err(Trouble::reason(ReasonCode::NotFound, text));
            }
            Err(Failed { trouble, .. }) => return Err(trouble),
        };
        let number = |name: &str| {
            responses.iter().find_map(|response| {
                let (_, rest) = response.text.split_once(&format!("[{name} "))?;
                rest.split_once(']')?.0.trim().parse::<u32>().ok()
            })
        };
        let (Some(validity), Some(next)) = (number("UIDVALIDITY"), number("UIDNEXT")) else {
            return Err(self.odd("it does not say which number the next mail has", b""));
        };
        self.trace.note(format_args!("{mailbox} ends before mail {next} of {validity}"));
        Ok(Place { validity, next })
    }

    /// The numbers from `next` on, ascending.
    async fn search(&mut self, next: u32) -> Result<Vec<u32>, Trouble> {
        let responses = self.ask(&format!("UID SEARCH UID {next}:*"), &[]).await?;
        let found: Vec<&str> = responses
            .iter()
            .filter_map(|response| response.text.strip_prefix("* SEARCH"))
            .collect();
        if found.is_empty() {
            return Err(self.odd("it did not say what it found", b""));
        }
        let mut uids = Vec::new();
        for word in found.iter().flat_map(|line| line.split_ascii_whitespace()) {
            let Ok(uid) = word.parse::<u32>() else {
                return Err(self.odd("it found what is no number", word.as_bytes()));
            };
            uids.push(uid);
        }
        // `*` is the last mail there is, also where that is an older one.
        uids.retain(|uid| *uid >= next);
        uids.sort_unstable();
        uids.dedup();
        Ok(uids)
    }

    /// Number, size and beginning of each of these mails that is there.
    async fn fetch(&mut self, uids: &[u32]) -> Result<Vec<(u32, u64, Bytes)>, Trouble> {
        let set: Vec<String> = uids.iter().map(u32::to_string).collect();
        let command =
            format!("UID FETCH {} (UID RFC822.SIZE BODY.PEEK[]<0.{MAIL_LIMIT}>)", set.join(","));
        let responses = self.ask(&command, &[]).await?;
        let mut fetched = Vec::with_capacity(uids.len());
        for response in responses {
            let words: Vec<&str> = response
                .text
                .split(|c: char| c.is_ascii_whitespace() || matches!(c, '(' | ')'))
                .filter(|word| !word.is_empty())
                .collect();
            if words.get(2) != Some(&"FETCH") {
                continue;
            }
            let after = |name: &str| {
                let at = words.iter().position(|word| word.eq_ignore_ascii_case(name))?;
                words.get(at + 1)?.parse::<u64>().ok()
            };
            let uid = after("UID").and_then(|uid| u32::try_from(uid).ok());
            let Some((uid, size)) = uid.zip(after("RFC822.SIZE")) else { continue };
            // An empty mail is no literal with some servers.
            let body = response.literals.into_iter().next().unwrap_or_default();
            fetched.push((uid, size, body));
        }
        Ok(fetched)
    }

    async fn close(mut self) {
        self.deadline = Instant::now() + ENDING;
        // Whatever comes of it: nothing was changed.
        drop(self.ask("LOGOUT", &[]).await);
    }

    async fn ask(&mut self, command: &str, literals: &[&str]) -> Result<Vec<Response>, Trouble> {
        self.try_ask(command, literals).await.map_err(|failed| failed.trouble)
    }

    /// Sends a command and reads all that is said to it. What is no part of the command's own words
    /// goes as literals, so that no character of it means anything; it is never shown.
    async fn try_ask(&mut self, command: &str, literals: &[&str]) -> Result<Vec<Response>, Failed> {
        self.tag += 1;
        let tag = format!("g{}", self.tag);
        self.trace.note(format_args!("{}: {command}", self.to));
        let mut line = format!("{tag} {command}");
        for literal in literals {
            line.push_str(&format!(" {{{}}}\r\n", literal.len()));
            self.send(&line).await?;
            self.may_go_on(&tag, command).await?;
            line = (*literal).to_owned();
        }
        line.push_str("\r\n");
        self.send(&line).await?;
        let mut responses = Vec::new();
        loop {
            let response = self.response().await?;
            if response.text.strip_prefix(&tag).is_some_and(|rest| starts_word(rest, " OK")) {
                return Ok(responses);
            }
            self.refused(&tag, command, &response.text)?;
            if responses.len() >= RESPONSES_LIMIT {
                return Err(self.odd("it says too much to one command", b"").into());
            }
            responses.push(response);
        }
    }

    /// Waits until the server asks for the rest of a command.
    async fn may_go_on(&mut self, tag: &str, command: &str) -> Result<(), Failed> {
        loop {
            let response = self.response().await?;
            if response.text.starts_with('+') {
                return Ok(());
            }
            self.refused(tag, command, &response.text)?;
        }
    }

    /// Whether this ends the command, or all of it.
    fn refused(&self, tag: &str, command: &str, text: &str) -> Result<(), Failed> {
        if starts_word(text, "* BYE") && command != "LOGOUT" {
            let text = format!("{} closed the session", self.to);
            return Err(Trouble::reason(ReasonCode::ConnectionLost, text).into());
        }
        let Some(rest) = text.strip_prefix(tag) else { return Ok(()) };
        let said = rest.trim().to_owned();
        // The words of a refused login are not for showing.
        let secret = matches!(command, "LOGIN" | "AUTHENTICATE");
        let shown = if secret { String::new() } else { excerpt(said.as_bytes()) };
        let text = format!("{} refused {command}: {shown}", self.to);
        let trouble = Trouble::reason(ReasonCode::Rejected, text);
        Err(Failed { trouble, said: Some(said) })
    }

    async fn send(&mut self, line: &str) -> Result<(), Trouble> {
        let sent = timeout_at(self.deadline, async {
            self.stream.write_all(line.as_bytes()).await?;
            self.stream.flush().await
        });
        match sent.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error.to_string())),
            Err(_) => Err(self.late()),
        }
    }

    async fn response(&mut self) -> Result<Response, Trouble> {
        let mut response = Response::default();
        loop {
            let line = self.line().await?;
            let Some((before, length)) = literal(&line) else {
                response.text.push_str(&line);
                return Ok(response);
            };
            if length > MAIL_LIMIT.saturating_mul(2) {
                return Err(self.odd("it sends more of a mail than was asked for", b""));
            }
            response.text.push_str(before);
            response.text.push_str("{}");
            if response.text.len() > LINE_LIMIT {
                return Err(self.odd("a line of it has no end", b""));
            }
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            while self.read.len() < length {
                self.more().await?;
            }
            response.literals.push(self.read.split_to(length).freeze());
        }
    }

    async fn line(&mut self) -> Result<String, Trouble> {
        let mut looked = 0;
        loop {
            let end = self.read.iter().skip(looked).position(|byte| *byte == b'\n');
            if let Some(end) = end.map(|end| looked + end) {
                let line = self.read.split_to(end);
                self.read.advance(1);
                let line = line.strip_suffix(b"\r").unwrap_or(&line);
                return Ok(String::from_utf8_lossy(line).into_owned());
            }
            looked = self.read.len();
            if looked > LINE_LIMIT {
                return Err(self.odd("a line of it has no end", b""));
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<(), Trouble> {
        match timeout_at(self.deadline, self.stream.read_buf(&mut self.read)).await {
            Ok(Ok(0)) => Err(self.lost("it was closed")),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.lost(&error.to_string())),
            Err(_) => Err(self.late()),
        }
    }

    fn late(&self) -> Trouble {
        let text = format!("{} did not answer in time", self.to);
        Trouble::reason(ReasonCode::Timeout, text)
    }

    fn lost(&self, why: &str) -> Trouble {
        let text = format!("the connection to {} broke: {why}", self.to);
        Trouble::reason(ReasonCode::ConnectionLost, text)
    }

    fn odd(&self, what: &str, said: &[u8]) -> Trouble {
        let said = excerpt(said);
        let text = format!("{} does not speak IMAP as RFC 3501 has it: {what} {said}", self.to);
        Trouble::reason(ReasonCode::ProtocolError, text.trim_end().to_owned())
    }
}

/// A command that did not succeed, and the server's words where it refused it.
struct Failed {
    trouble: Trouble,
    said: Option<String>,
}

impl From<Trouble> for Failed {
    fn from(trouble: Trouble) -> Self {
        Self { trouble, said: None }
    }
}

fn starts_word(text: &str, word: &str) -> bool {
    let front = text.get(..word.len()).is_some_and(|front| front.eq_ignore_ascii_case(word));
    front && !text.get(word.len()..).is_some_and(|rest| rest.starts_with(char::is_alphanumeric))
}

/// A line that ends with `{123}` goes on with so many bytes.
fn literal(line: &str) -> Option<(&str, u64)> {
    let (before, length) = line.strip_suffix('}')?.rsplit_once('{')?;
    Some((before, length.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_their_usual_ports() {
        assert_eq!(parse("imaps://mail.example.com"), Ok((true, "mail.example.com".into(), 993)));
        assert_eq!(parse("imap://[::1]"), Ok((false, "::1".into(), 143)));
        assert_eq!(parse("imap://127.0.0.1:10143/"), Ok((false, "127.0.0.1".into(), 10_143)));
        for wrong in ["mail.example.com", "pop://x", "imaps://", "imap://u@x", "imap://x/INBOX"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn literals_are_told_from_braces() {
        assert_eq!(literal("* 1 FETCH (BODY[]<0> {12}"), Some(("* 1 FETCH (BODY[]<0> ", 12)));
        for line in ["* OK {x}", "a {1} b", "}", "{}"] {
            assert_eq!(literal(line), None, "{line}");
        }
        assert!(starts_word("* bye now", "* BYE") && !starts_word("g10K", "g1 OK"));
    }
}
