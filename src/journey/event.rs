//! Synthetic events: what an operator writes of them, and how one is rendered.
//!
//! Rendering is a pure function of (spec, run, stream, sequence, intended time): the bytes that
//! should arrive can be made again at any later time and are never stored.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::format::OWN;
pub use super::format::{Format, Header};
use super::layout::Escape;
use super::template::Values;
use super::token;
pub use super::token::{
    RUN_LEN, SEQ_MAX, TOKEN_LEN, Token, contains_run, is_run, run_from, stream_code,
};
use super::usecase::{StepSpec, UseCase};
use super::{Event, Run};
use crate::time::Wall;
use cases::{Case, PROBE_REACH, PROBE_ZONE, probe_date};
pub use label::Label;
use line::{Line, Text};
pub use lot::Lot;

mod cases;
mod label;
mod line;
mod lot;

/// The header that carries the token where the transport has headers.
pub const ID_HEADER: &str = "greenlight-id";
/// A round is held in memory, stored each second and searched in one look; volume is another
/// matter than correctness.
pub const COUNT_LIMIT: u64 = 10_000;
/// Each round has a run of its own, so its events are counted from one.
pub const FIRST_SEQ: u64 = 1;

/// The events of a journey's round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct EventSpec {
    /// The use case whose steps are the events, sent when they are due: `usecases/NAME.yaml` beside
    /// the plan or in /etc/greenlight, or one that comes with Greenlight. `count`, `message`,
    /// `fields`, `sizes`, `sweep` and `date_probe` are not written beside it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usecase: Option<String>,
    /// Other values for the variables of the use case.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub vars: BTreeMap<String, String>,
    /// How many events a round has.
    pub count: u64,
    /// How they are written down; the way in decides where this is not given.
    pub format: Option<Format>,
    /// A syslog header before a format that has none; rfc3164 for CEF and LEEF over syslog, where
    /// this is not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<Header>,
    /// The text, with {seq}, {token}, {run}, {stream}; {time}, and {time-5m}, {time:rfc3164},
    /// {time:%d/%b/%Y} for other times and ways to write them; and what varies from event to
    /// event: {user}, {host}, {address}, {port}, {pick:a|b|c}, {int:1..100}, {hex:8} and {pad:64},
    /// so many letters. The token is added at the end of a text that does not name it.
    pub message: String,
    /// Further fields; text values may hold the same words in braces.
    pub fields: Map<String, Value>,
    /// The host that the events name as theirs.
    pub host: String,
    /// The program that the events name as theirs.
    pub app: String,
    /// Bytes that the payloads are filled up to, one after the other: what a stage cuts is told
    /// with the largest that passed whole.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<u64>,
    /// Each event of a round is another edge case: the sizes at which receivers cut (480 to 8192
    /// bytes, and those around one Ethernet frame), characters that formats escape, other scripts,
    /// the byte order mark, line feeds inside, and next to nothing.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sweep: bool,
    /// Events are of a day that could be a month, within the last three weeks, and told at an
    /// offset of +05:30: a stage that takes the day for the month, or loses the offset, is found
    /// by the time that it shows. Looks that are narrowed to a time reach a year around then.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub date_probe: bool,
}

impl Default for EventSpec {
    fn default() -> Self {
        Self {
            usecase: None,
            vars: BTreeMap::new(),
            count: 10,
            format: None,
            header: None,
            message: String::from(
                "synthetic login of {user} from {address} port {port}, event {seq} of {run} {token}",
            ),
            fields: Map::new(),
            host: String::from("greenlight"),
            app: String::from("greenlight"),
            sizes: Vec::new(),
            sweep: false,
            date_probe: false,
        }
    }
}

/// What the way in has to say of its events.
#[derive(Clone, Copy, Debug, Default)]
pub struct WayIn {
    /// The format where the plan does not say.
    pub format: Format,
    /// A line feed ends an event.
    pub line_delimited: bool,
}

/// An [`EventSpec`] or the steps of a use case that were found right, ready to render.
#[derive(Clone, Debug)]
pub struct Events {
    count: u64,
    format: Format,
    line: Line,
    /// The lines of a use case's further steps.
    further: Vec<Line>,
    /// Of a use case, by event: which line it has, and when it is due after the round's beginning.
    places: Vec<(usize, Duration)>,
    /// In turn; none where every event is a usual one.
    cases: Vec<Case>,
    date_probe: bool,
}

impl Events {
    /// Checks what the types can't say. `default` is the format of the way in.
    pub fn new(spec: &EventSpec, default: Format) -> Result<Self, String> {
        Self::over(spec, WayIn { format: default, line_delimited: false })
    }

    /// Checks what the types can't say.
    pub fn over(spec: &EventSpec, way_in: WayIn) -> Result<Self, String> {
        let format = spec.format.unwrap_or(way_in.format);
        if !(1..=COUNT_LIMIT).contains(&spec.count) {
            return Err(format!("count is {}; a round has 1 to {COUNT_LIMIT} events", spec.count));
        }
        let header = header_over(spec.header, format, way_in)?;
        let text =
            Text { message: &spec.message, fields: &spec.fields, host: &spec.host, app: &spec.app };
        let mut events = Self {
            count: spec.count,
            format,
            line: Line::new(&text, format, header)?,
            further: Vec::new(),
            places: Vec::new(),
            cases: Case::list(spec, format, way_in.line_delimited)?,
            date_probe: spec.date_probe,
        };
        events.fit(spec)?;
        Ok(events)
    }

    /// The events of `steps`, which are those of `case` or of its twin. What `spec` says of the
    /// format goes before what the use case says. A mistake comes with the step that it is in.
    pub fn of_steps(
        case: &UseCase,
        steps: &[StepSpec],
        spec: &EventSpec,
        way_in: WayIn,
    ) -> Result<Self, (usize, String)> {
        let format = spec.format.or(case.format).unwrap_or(way_in.format);
        let header =
            header_over(spec.header.or(case.header), format, way_in).map_err(|e| (0, e))?;
        let mut lines = Vec::with_capacity(steps.len());
        let mut places = Vec::new();
        for (at, (step, due)) in steps.iter().zip(super::usecase::due(steps)).enumerate() {
            let text = Text {
                message: &step.message,
                fields: &step.fields,
                host: step.host.as_ref().or(case.host.as_ref()).unwrap_or(&spec.host),
                app: step.app.as_ref().or(case.app.as_ref()).unwrap_or(&spec.app),
            };
            lines.push(Line::new(&text, format, header).map_err(|error| (at, error))?);
            places.extend(due.into_iter().map(|due| (at, due)));
        }
        let mut lines = lines.into_iter();
        let Some(line) = lines.next() else { return Err((0, String::from("there is no step"))) };
        Ok(Self {
            count: places.len() as u64,
            format,
            line,
            further: lines.collect(),
            places,
            cases: Vec::new(),
            date_probe: false,
        })
    }

    /// Sizes that the format's own fields fill alone are none.
    fn fit(&mut self, spec: &EventSpec) -> Result<(), String> {
        if self.cases.is_empty() {
            return Ok(());
        }
        let cases = std::mem::take(&mut self.cases);
        let run = run_from([0xff; 8]);
        let least = self.render(&run, "stream", SEQ_MAX, Wall(0)).payload.len();
        let fits = |case: &Case| !matches!(case, Case::Size(size) if *size < least);
        if let Some(small) = spec.sizes.iter().find(|size| **size < least as u64) {
            return Err(format!(
                "size {small} can't be: an event in this format has {least} bytes without a filler"
            ));
        }
        self.cases = cases.into_iter().filter(fits).collect();
        self.count = self.count.max(self.cases.len() as u64);
        Ok(())
    }

    /// How many events a round has: one of each case at least.
    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn format(&self) -> Format {
        self.format
    }

    /// When each event is due after the round's beginning; empty where all are due at once.
    pub fn due(&self) -> Vec<Duration> {
        self.places.iter().map(|(_, due)| *due).collect()
    }

    /// How far from when they are sent the times may be that they tell, or are taken to tell.
    pub fn told_around(&self) -> Duration {
        if self.date_probe { PROBE_REACH } else { Duration::ZERO }
    }

    /// When the last event is due after the round's beginning.
    pub fn length(&self) -> Duration {
        self.places.last().map(|(_, due)| *due).unwrap_or_default()
    }

    fn place(&self, seq: u64) -> (usize, Duration) {
        let at = seq.checked_sub(FIRST_SEQ).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.places.get(at)).copied().unwrap_or_default()
    }

    fn line(&self, seq: u64) -> &Line {
        let further = self.place(seq).0.checked_sub(1);
        further.and_then(|at| self.further.get(at)).unwrap_or(&self.line)
    }

    /// One event. The same arguments give the same bytes. Of a use case `intended` is the round's
    /// beginning, from which its steps are due.
    pub fn render(&self, run: &Run, stream: &str, seq: u64, intended: Wall) -> Event {
        let mut renderer = self.renderer(run, stream);
        let mut payload = Vec::with_capacity(512);
        let marks = renderer.render_into(seq, intended, &mut payload);
        let message = String::from_utf8_lossy(&renderer.message).into_owned();
        let line = self.line(seq);
        let escape = line.layout.message_escape();
        let written = (escape != Escape::None).then(|| {
            let mut written = Vec::with_capacity(message.len());
            escape.write(message.as_bytes(), &mut written);
            String::from_utf8_lossy(&written).into_owned()
        });
        let values = renderer.values(seq, marks.at, marks.crc, Case::Usual);
        let mut fields = Map::new();
        for (name, value) in [
            ("host.name", Value::from(line.host.as_str())),
            ("service.name", Value::from(line.app.as_str())),
            ("user_agent.synthetic.type", Value::from("test")),
            ("greenlight.id", Value::from(String::from_utf8_lossy(&renderer.token))),
            ("greenlight.run", Value::from(&**run)),
            ("greenlight.stream", Value::from(stream)),
            ("greenlight.seq", Value::from(seq)),
            ("greenlight.crc", Value::from(marks.crc)),
        ] {
            fields.insert(String::from(name), value);
        }
        for (name, value) in &line.fields {
            fields.insert(name.clone(), value.value(&values));
        }
        Event {
            seq,
            token: String::from_utf8_lossy(&renderer.token).into_owned(),
            written: written.filter(|written| *written != message),
            message,
            crc: marks.crc,
            time: marks.at,
            date_probe: self.date_probe.then_some(PROBE_ZONE),
            fields,
            payload: Bytes::from(payload),
        }
    }

    /// Renders the events of one stream without allocating, once its buffers have grown.
    pub fn renderer<'a>(&'a self, run: &'a str, stream: &'a str) -> Renderer<'a> {
        Renderer {
            events: self,
            run,
            stream,
            stream_code: stream_code(stream),
            token: Vec::with_capacity(TOKEN_LEN),
            message: Vec::with_capacity(256),
            variety: 0,
        }
    }

    fn case(&self, seq: u64) -> Case {
        let count = (self.cases.len() as u64).max(1);
        let index = usize::try_from(seq % count).unwrap_or(0);
        self.cases.get(index).copied().unwrap_or(Case::Usual)
    }
}

/// Renders events into a buffer of the caller's.
#[derive(Debug)]
pub struct Renderer<'a> {
    events: &'a Events,
    run: &'a str,
    stream: &'a str,
    stream_code: u32,
    token: Vec<u8>,
    message: Vec<u8>,
    variety: u32,
}

/// What a rendered event is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marks {
    /// Of the text.
    pub crc: u32,
    /// The time that the event tells.
    pub at: Wall,
}

impl Renderer<'_> {
    /// Puts one event's payload at the end of `out`: the bytes that [`Events::render`] gives.
    pub fn render_into(&mut self, seq: u64, intended: Wall, out: &mut Vec<u8>) -> Marks {
        self.token.clear();
        token::write(self.run, self.stream_code, seq, &mut self.token);
        self.variety = crc32fast::hash(&self.token);
        let at = match self.events.date_probe {
            true => probe_date(intended, PROBE_ZONE),
            false => intended.plus(self.events.place(seq).1),
        };
        let case = self.events.case(seq);
        let start = out.len();
        let mut crc = self.fill(seq, at, case, 0, 0, out);
        if let Case::Size(size) = case {
            let mut filler = size.saturating_sub(out.len() - start);
            // The checksum's digits vary with the filler, and with them the size: a few fillers
            // are tried.
            for salt in 0..16 {
                if out.len() - start == size || filler == 0 {
                    break;
                }
                out.truncate(start);
                crc = self.fill(seq, at, case, filler, salt, out);
                let over = out.len() - start;
                filler = (filler + size).saturating_sub(over);
            }
        }
        Marks { crc, at }
    }

    /// The token of the event that was rendered last.
    pub fn token(&self) -> &[u8] {
        &self.token
    }

    fn fill(
        &mut self,
        seq: u64,
        at: Wall,
        case: Case,
        filler: usize,
        salt: u64,
        out: &mut Vec<u8>,
    ) -> u32 {
        let (events, line) = (self.events, self.events.line(seq));
        let mut message = std::mem::take(&mut self.message);
        message.clear();
        let values = self.values(seq, at, 0, case);
        if case == Case::Tiny {
            message.extend_from_slice(values.token);
        } else {
            line.message.write(&values, &mut message);
        }
        message.extend_from_slice(case.suffix().as_bytes());
        if filler > 0 {
            message.push(b' ');
            let seed = u64::from(self.variety).wrapping_add(salt << 32);
            super::template::pad(filler - 1, seed, &mut message);
        }
        events.format.tame(&mut message);
        let crc = crc32fast::hash(&message);
        line.layout.write(&self.values(seq, at, crc, case), &message, out);
        self.message = message;
        crc
    }

    fn values(&self, seq: u64, time: Wall, crc: u32, case: Case) -> Values<'_> {
        Values {
            run: self.run,
            stream: self.stream,
            token: &self.token,
            seq,
            time,
            zone: if self.events.date_probe { PROBE_ZONE } else { 0 },
            crc,
            variety: self.variety,
            byte_order_mark: case == Case::ByteOrderMark,
        }
    }
}

/// The header before a format that has none.
fn header_over(given: Option<Header>, format: Format, way_in: WayIn) -> Result<Header, String> {
    let over_syslog = way_in.format == Format::Rfc5424;
    let header = given
        .unwrap_or_else(|| if over_syslog { format.header_over_syslog() } else { Header::None });
    if header != Header::None && !format.takes_header() {
        return Err(String::from("the format has a head of its own; leave `header` out"));
    }
    Ok(header)
}

/// The name of one of Greenlight's own fields without its front, however a format writes it:
/// `greenlight.seq`, `greenlight_seq`, `_greenlight_seq`, `greenlightSeq`.
pub fn mark_of(name: &str) -> Option<&'static str> {
    let name = name.strip_prefix('_').unwrap_or(name);
    let rest = name.strip_prefix("greenlight")?;
    let rest = rest.strip_prefix(['.', '_']).unwrap_or(rest);
    ["id", "run", "stream", "seq", "crc"].into_iter().find(|mark| rest.eq_ignore_ascii_case(mark))
}

/// All the ways in which formats write the name of one of Greenlight's own fields.
pub fn spellings(mark: &str) -> [String; 4] {
    let mut capital = mark.to_owned();
    if let Some(first) = capital.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    [
        format!("{OWN}{mark}"),
        format!("greenlight_{mark}"),
        format!("_greenlight_{mark}"),
        format!("greenlight{capital}"),
    ]
}

#[cfg(test)]
mod tests;
