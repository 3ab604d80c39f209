//! `replay`: recorded log lines sent through a journey's way in, with their times moved to now and
//! a token in each.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::output::{self, Format, Output};
use super::run::runtime;
use super::{Failure, Global, PlanArgs, exit, say};
use crate::agent::{clock, rounds};
use crate::client::Clients;
use crate::journey::event::Token;
use crate::journey::replay::{Stamp, marked};
use crate::journey::{Event, Receipt, Run};
use crate::plan::Journey;
use crate::send::SendContext;
use crate::spec::did_you_mean;
use crate::spec::trace::Trace;
use crate::time::{Mono, Wall};

/// A longer line is none: Loki's default limit, and far above every other.
const LINE_LIMIT: usize = 262_144;
/// So many lines go into one batch, and so many bytes: the file may be larger than the memory.
const BATCH: usize = 100;
const BATCH_BYTES: usize = 4 * 1024 * 1024;
/// The stream that the tokens name.
const STREAM: &str = "replay";
/// What a platform that asks to slow down is spared where it does not say how long, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// So many reasons are told.
const REASONS: usize = 5;

/// How the lines are paced.
pub(super) struct Pace {
    /// Lines a second; their own distances where nothing is given.
    pub(super) rate: Option<f64>,
    /// So many times as fast as recorded.
    pub(super) speed: f64,
}

pub(super) fn run(
    global: &Global,
    file: &Path,
    journey: &str,
    plan: &PlanArgs,
    pace: &Pace,
    outputs: &[Output],
) -> Result<u8, Failure> {
    let outputs = output::wanted(outputs, &[Format::Terminal, Format::Json])?;
    let (_, plan) = plan.compile(global)?;
    let Some(journey) = plan.journey(journey) else {
        let ids = || plan.journeys.iter().map(|journey| &*journey.id);
        let hint = match did_you_mean(journey, ids()) {
            Some(close) => format!("did you mean `{close}`?"),
            None => format!("it has {}", ids().collect::<Vec<_>>().join(", ")),
        };
        return Err(Failure::usage(format!("the plan has no journey `{journey}`; {hint}")));
    };
    if !journey.allowed_times.allow(clock::now().wall) {
        let times = &journey.allowed_times;
        let text = format!("{} runs only in its allowed times, {times}", journey.id);
        return Err(Failure { code: exit::INCOMPLETE, text });
    }
    for secret in plan.secrets.iter().filter(|secret| secret.is_command()) {
        if let Err(fault) = secret.load() {
            say(format_args!("greenlight: {}", fault.text));
        }
    }
    let unreadable =
        |error: io::Error| Failure::usage(format!("can't read {}: {error}", file.display()));
    let input: Box<dyn BufRead> = if file.as_os_str() == "-" {
        Box::new(BufReader::new(io::stdin()))
    } else {
        Box::new(BufReader::new(File::open(file).map_err(unreadable)?))
    };
    let run = rounds::new_run().map_err(|fault| Failure::ours(fault.text.clone()))?;
    let mut replay = Replay {
        journey,
        pace,
        run,
        began: clock::now().mono,
        start: clock::now().wall,
        first: None,
        counts: Counts::default(),
        bytes: 0,
        spared: None,
    };
    let read = runtime()?.block_on(async {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => {
                Ok(Some(String::from("interrupted; what was under way is in no count")))
            }
            read = replay.all(input) => read,
        }
    });
    let ended = read.map_err(unreadable)?;
    let whole = ended.is_none();
    if let Some(why) = ended {
        say(format_args!("greenlight: {why}"));
    }
    let counts = &replay.counts;
    output::write(&outputs, |format, _| match format {
        Format::Json => format!("{:#}", counts.json(&replay.run)),
        _ => counts.text(&replay.run),
    })?;
    Ok(if whole { counts.code() } else { counts.code().max(exit::INCOMPLETE) })
}

struct Replay<'a> {
    journey: &'a Journey,
    pace: &'a Pace,
    run: Run,
    began: Mono,
    /// What the first line's time becomes.
    start: Wall,
    first: Option<Wall>,
    counts: Counts,
    /// Bytes that were handed over.
    bytes: u64,
    /// The platform asked to slow down: nothing is handed over before this.
    spared: Option<Mono>,
}

#[derive(Default)]
struct Counts {
    lines: u64,
    accepted: u64,
    sent: u64,
    refused: u64,
    not_sent: u64,
    unknown: u64,
    fault: u64,
    empty: u64,
    binary: u64,
    too_long: u64,
    without_time: u64,
    reasons: Vec<String>,
}

impl Replay<'_> {
    /// Why it ended before the lines did, where it did.
    async fn all(&mut self, mut input: impl BufRead) -> io::Result<Option<String>> {
        let clients = Clients::default();
        let mut batch: Vec<Event> = Vec::new();
        let mut bytes = 0;
        let mut due = Duration::ZERO;
        let mut buffer = Vec::new();
        loop {
            let read = next_line(&mut input, &mut buffer)?;
            let line = match read {
                Line::End => break,
                Line::TooLong => {
                    self.counts.lines += 1;
                    self.counts.too_long += 1;
                    continue;
                }
                Line::Whole => buffer.trim_ascii_end(),
            };
            self.counts.lines += 1;
            if line.is_empty() {
                self.counts.empty += 1;
                continue;
            }
            let text = match std::str::from_utf8(line) {
                Ok(text) if !text.contains('\0') => text,
                _ => {
                    self.counts.binary += 1;
                    continue;
                }
            };
            let (event, wanted) = self.event(text, due);
            due = due.max(wanted);
            let now = Mono::now().since(self.began);
            let full = batch.len() >= BATCH || bytes + event.payload.len() > BATCH_BYTES;
            if !batch.is_empty() && (full || due > now) {
                self.hand_over(&clients, &mut batch).await;
                bytes = 0;
            }
            if due > Mono::now().since(self.began) {
                clock::sleep_until(self.began.plus(due)).await;
            }
            if let Some(why) = self.forbidden(event.payload.len()) {
                self.counts.lines -= 1;
                self.hand_over(&clients, &mut batch).await;
                return Ok(Some(why));
            }
            bytes += event.payload.len();
            self.bytes += event.payload.len() as u64;
            batch.push(event);
        }
        self.hand_over(&clients, &mut batch).await;
        Ok(None)
    }

    /// Why so many bytes more may not be sent.
    fn forbidden(&self, more: usize) -> Option<String> {
        let Journey { id, budget, allowed_times, .. } = self.journey;
        if self.bytes.saturating_add(more as u64) > budget.0 {
            return Some(format!("ended: the budget of {id}, {budget}, is used up"));
        }
        let over = !allowed_times.allow(clock::now().wall);
        over.then(|| format!("ended: the allowed times of {id}, {allowed_times}, are over"))
    }

    /// The line as an event, and when it is due, counted from the beginning.
    fn event(&mut self, line: &str, last: Duration) -> (Event, Duration) {
        let seq = self.counts.lines;
        let stamp = Stamp::find(line, self.start);
        let mut at = self.start.plus(last);
        let mut due = last;
        let mut text = None;
        match &stamp {
            Some(stamp) => {
                let first = *self.first.get_or_insert(stamp.at);
                let apart = stamp.at.0.saturating_sub(first.0) as f64 / self.pace.speed;
                at = Wall(self.start.0.saturating_add(apart as i64));
                text = stamp.moved(line, at);
                due = Duration::from_nanos(apart.max(0.0) as u64);
            }
            None => self.counts.without_time += 1,
        }
        if let Some(rate) = self.pace.rate {
            due = Duration::from_secs_f64((seq.saturating_sub(1) as f64 / rate).min(1e9));
        }
        let token = Token::new(&self.run, STREAM, seq).render();
        let message = marked(text.as_deref().unwrap_or(line), &token);
        let event = Event {
            seq,
            token,
            crc: crc32fast::hash(message.as_bytes()),
            written: None,
            time: at,
            date_probe: None,
            fields: Map::new(),
            payload: bytes::Bytes::from(message.clone().into_bytes()),
            message,
        };
        (event, due)
    }

    async fn hand_over(&mut self, clients: &Clients, batch: &mut Vec<Event>) {
        let events = std::mem::take(batch);
        if events.is_empty() {
            return;
        }
        if let Some(until) = self.spared.take() {
            clock::sleep_until(until).await;
        }
        let trace = Trace::off();
        let on = SendContext { timeout: self.journey.timeout, clients, trace: &trace };
        let limit = self.journey.timeout + Duration::from_millis(500);
        let sent = tokio::time::timeout(limit, self.journey.sender.send(&events, on)).await;
        let mut receipts = sent.unwrap_or_default().into_iter();
        for _ in &events {
            let receipt = receipts.next();
            if let Some(Receipt::Refused(reason)) = &receipt
                && reason.asks_to_slow_down()
            {
                let wait = reason.wait.unwrap_or(PAUSE.0).min(PAUSE.1);
                self.spared = self.spared.max(Some(Mono::now().plus(wait)));
            }
            self.counts.take(receipt);
        }
    }
}

impl Counts {
    fn take(&mut self, receipt: Option<Receipt>) {
        let reason = match receipt {
            Some(Receipt::Accepted { .. }) => return self.accepted += 1,
            Some(Receipt::Sent { .. }) => return self.sent += 1,
            Some(Receipt::Refused(reason)) => {
                self.refused += 1;
                reason.to_string()
            }
            Some(Receipt::NotSent(reason)) => {
                self.not_sent += 1;
                reason.to_string()
            }
            Some(Receipt::Unknown(reason)) => {
                self.unknown += 1;
                reason.to_string()
            }
            Some(Receipt::Fault(fault)) => {
                self.fault += 1;
                fault.to_string()
            }
            None => {
                self.unknown += 1;
                String::from("the send was cut off before it had an answer")
            }
        };
        if self.reasons.len() < REASONS && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }

    /// As `once`: what the platform refused is failure; what nobody knows, or nothing at all, no
    /// success.
    fn code(&self) -> u8 {
        if self.refused + self.not_sent > 0 {
            exit::FAILURE
        } else if self.unknown + self.fault > 0 || self.accepted + self.sent == 0 {
            exit::INCOMPLETE
        } else {
            exit::SUCCESS
        }
    }

    fn rows(&self) -> [(&'static str, u64); 11] {
        [
            ("lines", self.lines),
            ("accepted", self.accepted),
            ("sent", self.sent),
            ("refused", self.refused),
            ("not_sent", self.not_sent),
            ("unknown", self.unknown),
            ("fault", self.fault),
            ("empty", self.empty),
            ("binary", self.binary),
            ("too_long", self.too_long),
            ("without_time", self.without_time),
        ]
    }

    fn text(&self, run: &Run) -> String {
        let mut text = format!("run {run}\n");
        for (name, count) in self.rows().into_iter().filter(|(_, count)| *count > 0) {
            text.push_str(&format!("  {name:<13} {count}\n"));
        }
        for reason in &self.reasons {
            text.push_str(&format!("  {reason}\n"));
        }
        text
    }

    fn json(&self, run: &Run) -> Value {
        let counts: Map<String, Value> =
            self.rows().into_iter().map(|(name, count)| (name.to_owned(), count.into())).collect();
        json!({ "run": &**run, "counts": counts, "reasons": self.reasons })
    }
}

enum Line {
    Whole,
    TooLong,
    End,
}

/// The next line, without more memory than [`LINE_LIMIT`], however long it is.
fn next_line(input: &mut impl BufRead, buffer: &mut Vec<u8>) -> io::Result<Line> {
    buffer.clear();
    let mut too_long = false;
    let mut any = false;
    loop {
        let chunk = match input.fill_buf() {
            Ok(chunk) => chunk,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.is_empty() {
            break;
        }
        any = true;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let take = end.unwrap_or(chunk.len());
        if buffer.len() + take > LINE_LIMIT {
            too_long = true;
        } else {
            buffer.extend_from_slice(chunk.get(..take).unwrap_or_default());
        }
        let used = end.map_or(take, |end| end + 1);
        input.consume(used);
        if end.is_some() {
            break;
        }
    }
    Ok(match (any, too_long) {
        (false, _) => Line::End,
        (true, true) => Line::TooLong,
        (true, false) => Line::Whole,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_any_length_cost_no_more_than_the_limit() {
        let long = "x".repeat(3 * LINE_LIMIT);
        let text = format!("a\n{long}\n\nb");
        let mut input = BufReader::with_capacity(1_000, text.as_bytes());
        let mut buffer = Vec::new();
        let mut seen = Vec::new();
        loop {
            match next_line(&mut input, &mut buffer).expect("readable") {
                Line::End => break,
                Line::TooLong => seen.push(String::from("too long")),
                Line::Whole => seen.push(String::from_utf8(buffer.clone()).expect("text")),
            }
            assert!(buffer.capacity() <= 2 * LINE_LIMIT);
        }
        assert_eq!(seen, ["a", "too long", "", "b"]);
    }
}
