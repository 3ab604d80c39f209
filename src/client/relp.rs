//! RELP, the Reliable Event Logging Protocol, as librelp's document "The RELP Protocol"
//! (relp.html) has it: frames with transaction numbers, each answered.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout_at};

use super::http::excerpt;
use super::stream::Stream;
use super::syslog::{Address, told};
use super::{Clients, tls};
use crate::outcome::{Reason, ReasonCode, Trouble};
use crate::spec::trace::Trace;
use crate::time::Mono;

/// So many frames may wait for their answer; librelp's own default.
const WINDOW: usize = 128;
/// A transaction number has at most nine digits, and begins again after that.
const TXNR_LIMIT: u32 = 999_999_999;
/// An answer is a code and a few words, or what the server offers.
const DATA_LIMIT: usize = 64 * 1024;
/// Our part of the session; `relp_version` 0 is the only one there is.
const OFFERS: &str = "relp_version=0\nrelp_software=greenlight\ncommands=syslog";
/// What is waited for after the last answer, so that the session ends in order.
const GOODBYE: Duration = Duration::from_millis(500);

/// What is known of one message.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Taken {
        at: Mono,
    },
    Refused(Reason),
    /// Certainly nothing of it was taken.
    Not(Trouble),
    /// It may or may not have been taken.
    Perhaps(Reason),
}

/// Opens a session, hands over the messages and closes it; what is known of each, in order.
pub async fn deliver(
    clients: &Clients,
    to: &Address,
    options: &tls::Options,
    messages: &[Bytes],
    within: Duration,
    trace: &Trace,
) -> Vec<Answer> {
    let deadline = Instant::now() + within;
    let shown = to.to_string();
    let secured = to.tls.then_some(options);
    let at = (to.host.as_str(), to.port);
    let stream = match Stream::open(clients, at, secured, within / 2, &shown, trace).await {
        Ok(stream) => stream,
        Err(not) => return vec![Answer::Not(not); messages.len()],
    };
    let mut session = Session { stream, read: BytesMut::new(), txnr: 0, to: shown, deadline };
    if let Err(not) = session.open(trace).await {
        trace.note(format_args!("no session: {not}"));
        return vec![Answer::Not(not.into()); messages.len()];
    }
    session.hand_over(messages, trace).await
}

struct Session {
    stream: Stream,
    read: BytesMut,
    txnr: u32,
    to: String,
    deadline: Instant,
}

impl Session {
    async fn open(&mut self, trace: &Trace) -> Result<(), Reason> {
        let txnr = self.send("open", OFFERS.as_bytes()).await.map_err(|(_, reason)| reason)?;
        loop {
            let frame = self.receive().await?;
            if frame.txnr != txnr {
                continue;
            }
            let said = excerpt(&frame.data);
            trace.note(format_args!("{} offers: {said}", self.to));
            let offers = String::from_utf8_lossy(&frame.data);
            if !offers.starts_with("200") {
                let text = format!("{} refused the session: {said}", self.to);
                return Err(Reason::new(ReasonCode::Rejected, text));
            }
            let commands = offers.lines().find_map(|line| line.strip_prefix("commands="));
            if !commands.is_some_and(|all| all.split(',').any(|one| one.trim() == "syslog")) {
                let text = format!("{} does not offer the command syslog: {said}", self.to);
                return Err(Reason::new(ReasonCode::ProtocolError, text));
            }
            return Ok(());
        }
    }

    async fn hand_over(&mut self, messages: &[Bytes], trace: &Trace) -> Vec<Answer> {
        let mut answers: Vec<Option<Answer>> = vec![None; messages.len()];
        let mut open: BTreeMap<u32, usize> = BTreeMap::new();
        let mut next = messages.iter().enumerate();
        let mut rest = next.next();
        let ended = loop {
            if let Some((index, message)) = rest
                && open.len() < WINDOW
            {
                match self.send("syslog", message).await {
                    Ok(txnr) => drop(open.insert(txnr, index)),
                    Err((written, reason)) => {
                        if written > 0
                            && let Some(answer) = answers.get_mut(index)
                        {
                            *answer = Some(Answer::Perhaps(reason.clone()));
                        }
                        break reason;
                    }
                }
                rest = next.next();
                continue;
            }
            if open.is_empty() {
                break Reason::new(ReasonCode::ConnectionLost, "the session was closed");
            }
            match self.receive().await {
                Ok(frame) if frame.command == "serverclose" => {
                    let text = format!("{} closed the session", self.to);
                    break Reason::new(ReasonCode::ConnectionLost, text);
                }
                Ok(frame) => {
                    let Some(index) = open.remove(&frame.txnr) else { continue };
                    if let Some(answer) = answers.get_mut(index) {
                        *answer = Some(self.judge(&frame));
                    }
                }
                Err(reason) => break reason,
            }
        };
        if rest.is_some() || !open.is_empty() {
            trace.note(format_args!("the session broke: {ended}"));
        } else {
            self.close().await;
        }
        for index in open.into_values() {
            if let Some(answer) = answers.get_mut(index) {
                *answer = Some(Answer::Perhaps(ended.clone()));
            }
        }
        let not = || Answer::Not(Trouble::Reason(ended.clone()));
        answers.into_iter().map(|answer| answer.unwrap_or_else(not)).collect()
    }

    fn judge(&self, frame: &Frame) -> Answer {
        let said = excerpt(&frame.data);
        let code = frame.data.get(..3).unwrap_or_default();
        if frame.command != "rsp" || !code.iter().all(u8::is_ascii_digit) || code.len() < 3 {
            let text = format!("{} answered with no code: {} {said}", self.to, frame.command);
            return Answer::Perhaps(Reason::new(ReasonCode::ProtocolError, text));
        }
        if code == b"200" {
            return Answer::Taken { at: Mono::now() };
        }
        Answer::Refused(Reason::new(ReasonCode::Rejected, format!("{} answered {said}", self.to)))
    }

    /// Writes a frame; on failure, how many of its bytes may have left.
    async fn send(&mut self, command: &str, data: &[u8]) -> Result<u32, (usize, Reason)> {
        self.txnr = if self.txnr >= TXNR_LIMIT { 1 } else { self.txnr + 1 };
        let mut frame = BytesMut::with_capacity(data.len() + 32);
        frame.put_slice(format!("{} {command} {}", self.txnr, data.len()).as_bytes());
        if !data.is_empty() {
            frame.put_u8(b' ');
            frame.put_slice(data);
        }
        frame.put_u8(b'\n');
        let least = usize::from(self.stream.is_secured());
        let mut written = 0;
        while !frame.is_empty() {
            let step = async {
                let step = self.stream.write(&frame).await?;
                self.stream.flush().await?;
                Ok(step)
            };
            match timeout_at(self.deadline, step).await {
                Ok(Ok(0)) => {
                    let text = format!("{} closed the connection", self.to);
                    return Err((written, Reason::new(ReasonCode::ConnectionLost, text)));
                }
                Ok(Ok(step)) => {
                    written += step;
                    frame.advance(step);
                }
                Ok(Err(error)) => {
                    let (code, text) = told(&error);
                    let reason = Reason::new(code, format!("{}: {text}", self.to));
                    return Err((written.max(least), reason));
                }
                Err(_) => {
                    let text = format!("{} takes no more: it does not read", self.to);
                    return Err((written.max(least), Reason::new(ReasonCode::Timeout, text)));
                }
            }
        }
        Ok(self.txnr)
    }

    async fn receive(&mut self) -> Result<Frame, Reason> {
        loop {
            match parse(&self.read) {
                Ok(Some((frame, size))) => {
                    self.read.advance(size.min(self.read.len()));
                    return Ok(frame);
                }
                Ok(None) => {}
                Err(what) => {
                    let said = excerpt(&self.read);
                    let text = format!("{} does not speak RELP ({what}): {said}", self.to);
                    return Err(Reason::new(ReasonCode::ProtocolError, text));
                }
            }
            match timeout_at(self.deadline, self.stream.read_buf(&mut self.read)).await {
                Ok(Ok(0)) => {
                    let text = format!("{} closed the connection without an answer", self.to);
                    return Err(Reason::new(ReasonCode::ConnectionLost, text));
                }
                Ok(Ok(_)) => {}
                Ok(Err(error)) => {
                    let (code, text) = told(&error);
                    return Err(Reason::new(code, format!("{}: {text}", self.to)));
                }
                Err(_) => {
                    let text = format!("{} did not answer in time", self.to);
                    return Err(Reason::new(ReasonCode::Timeout, text));
                }
            }
        }
    }

    /// Everything is answered; a goodbye that gets no answer changes nothing.
    async fn close(&mut self) {
        self.deadline = self.deadline.min(Instant::now() + GOODBYE);
        if self.send("close", b"").await.is_ok() {
            drop(self.receive().await);
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    txnr: u32,
    command: String,
    data: Bytes,
}

/// The first frame of `bytes` and its length; None where it is not whole yet.
fn parse(bytes: &[u8]) -> Result<Option<(Frame, usize)>, &'static str> {
    let mut at = 0;
    let mut words = [""; 3];
    let mut separator = None;
    for (word, (limit, last)) in words.iter_mut().zip([(9, false), (32, false), (9, true)]) {
        let rest = bytes.get(at..).unwrap_or_default();
        let Some(end) = rest.iter().position(|byte| matches!(byte, b' ' | b'\n')) else {
            return if rest.len() > limit {
                Err("a word of the header is too long")
            } else {
                Ok(None)
            };
        };
        if end == 0 || end > limit {
            return Err("a word of the header is missing or too long");
        }
        *word = rest
            .get(..end)
            .and_then(|word| std::str::from_utf8(word).ok())
            .ok_or("the header is no text")?;
        at += end + 1;
        separator = rest.get(end).copied();
        if separator != Some(b' ') && !last {
            return Err("the header ends too early");
        }
    }
    let number = |word: &str| {
        let digits = word.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| word.parse::<u32>().ok()).flatten().ok_or("a number of the header is none")
    };
    let [txnr, command, length] = words;
    let (txnr, length) = (number(txnr)?, number(length)? as usize);
    if length > DATA_LIMIT {
        return Err("the answer is too large");
    }
    // No data: the trailer comes at once; librelp also writes the space before it.
    let data_at = match separator {
        Some(b'\n') if length > 0 => return Err("the data is missing"),
        Some(b'\n') => at - 1,
        _ => at,
    };
    let Some(data) = bytes.get(data_at..data_at + length) else { return Ok(None) };
    match bytes.get(data_at + length) {
        None => Ok(None),
        Some(b'\n') => {
            let data = Bytes::copy_from_slice(data);
            let frame = Frame { txnr, command: command.to_owned(), data };
            Ok(Some((frame, data_at + length + 1)))
        }
        Some(_) => Err("the frame does not end where it says"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;

    fn frame(txnr: u32, command: &str, data: &str) -> Frame {
        Frame { txnr, command: command.into(), data: Bytes::copy_from_slice(data.as_bytes()) }
    }

    #[test]
    fn frames_are_read_as_the_document_writes_them() {
        let open = "1 rsp 59 200 OK\nrelp_version=0\nrelp_software=librelp\ncommands=syslog\n";
        let read = parse(open.as_bytes()).unwrap().unwrap();
        assert_eq!((read.0.txnr, read.0.command.as_str(), read.1), (1, "rsp", open.len()));
        assert!(read.0.data.starts_with(b"200 OK\n") && read.0.data.ends_with(b"=syslog"));
        let both = b"2 rsp 6 200 OK\n0 serverclose 0\n";
        assert_eq!(parse(both), Ok(Some((frame(2, "rsp", "200 OK"), 15))));
        assert_eq!(parse(&both[15..]), Ok(Some((frame(0, "serverclose", ""), 16))));
        assert_eq!(parse(b"3 rsp 0 \n"), Ok(Some((frame(3, "rsp", ""), 9))));
        for part in 0..15 {
            assert_eq!(parse(&both[..part]), Ok(None), "{part}");
        }
        for bad in [
            "x rsp 6 200 OK\n",
            "1 rsp 5 200 OK\n",
            "1 rsp -1 \n",
            "1234567890 rsp 0\n",
            "1 rsp 999999999 x",
            " rsp",
            "HTTP/1.1 400 Bad Request\r\n\r\n",
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn property_answers() {
        let mut runner =
            TestRunner::new(Config { cases: 4096, failure_persistence: None, ..Config::default() });
        let input = prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..80),
            "[0-9]{1,10} (rsp|serverclose|x) [0-9]{1,6} \\PC{0,40}\n".prop_map(String::into_bytes),
            (0..1_000_000_u32, "\\PC{0,60}").prop_map(|(txnr, data)| {
                format!("{txnr} rsp {} {data}\n", data.len()).into_bytes()
            }),
        ];
        let counter = std::cell::Cell::new((0_u32, 0_u32));
        runner
            .run(&input, |bytes| {
                let (all, whole) = counter.get();
                let parsed = parse(&bytes);
                counter.set((all + 1, whole + u32::from(matches!(parsed, Ok(Some(_))))));
                if let Ok(Some((frame, size))) = parsed {
                    prop_assert!(size <= bytes.len() && size > frame.data.len());
                    prop_assert_eq!(bytes[size - 1], b'\n');
                    // What comes after it changes nothing.
                    let mut longer = bytes[..size].to_vec();
                    longer.extend_from_slice(b"9 rsp");
                    prop_assert_eq!(parse(&longer), Ok(Some((frame, size))));
                }
                Ok(())
            })
            .unwrap();
        let (all, whole) = counter.get();
        eprintln!("property relp answers: {all} inputs, {whole} whole frames");
        assert!(whole > 500);
    }
}
