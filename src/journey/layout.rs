//! A payload as a list of pieces: what is the same in every event is written and escaped once, when
//! the plan is read; what is fresh in each is filled in, without allocating.

use super::template::{Part, Template, Values, Word};

/// What a place in a format can't hold as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Escape {
    None,
    /// RFC 8259, 7, in the short forms that serde_json writes.
    Json,
    /// RFC 5424, 6.3.3: `"`, `\` and `]` in a PARAM-VALUE.
    SdParam,
    /// "Implementing ArcSight Common Event Format (CEF)", "Character Encoding": `=`, `\` and line
    /// ends in the extension.
    CefExtension,
    /// A space for what ends an attribute of LEEF, which has no escaping.
    Space,
}

impl Escape {
    /// How a byte is written, where it can't stand as it is.
    const fn instead(self, byte: u8) -> Option<Instead> {
        Some(match (self, byte) {
            (Self::Json | Self::SdParam, b'"') => Instead::Pair(byte),
            (Self::Json | Self::SdParam | Self::CefExtension, b'\\') => Instead::Pair(byte),
            (Self::Json | Self::CefExtension, b'\n') => Instead::Pair(b'n'),
            (Self::Json | Self::CefExtension, b'\r') => Instead::Pair(b'r'),
            (Self::Json, b'\t') => Instead::Pair(b't'),
            (Self::Json, 0x08) => Instead::Pair(b'b'),
            (Self::Json, 0x0c) => Instead::Pair(b'f'),
            (Self::Json, 0..0x20) => Instead::Unicode,
            (Self::SdParam, b']') | (Self::CefExtension, b'=') => Instead::Pair(byte),
            (Self::Space, b'^' | b'\t' | b'\n' | b'\r') => Instead::Space,
            _ => return None,
        })
    }

    /// The same as a table: every byte of every text is asked for.
    const fn held(self) -> [bool; 256] {
        let mut held = [false; 256];
        let mut byte = 0;
        while byte < held.len() {
            held[byte] = self.instead(byte as u8).is_some();
            byte += 1;
        }
        held
    }

    /// Where the first byte stands that can't stand as it is.
    fn first(self, text: &[u8]) -> Option<usize> {
        static JSON: [bool; 256] = Escape::Json.held();
        static SD_PARAM: [bool; 256] = Escape::SdParam.held();
        static CEF_EXTENSION: [bool; 256] = Escape::CefExtension.held();
        static SPACE: [bool; 256] = Escape::Space.held();
        let held = match self {
            Self::None => return None,
            Self::Json => &JSON,
            Self::SdParam => &SD_PARAM,
            Self::CefExtension => &CEF_EXTENSION,
            Self::Space => &SPACE,
        };
        text.iter().position(|byte| held[usize::from(*byte)])
    }

    pub(super) fn write(self, mut text: &[u8], out: &mut Vec<u8>) {
        while let Some(at) = self.first(text) {
            let (plain, rest) = text.split_at(at);
            out.extend_from_slice(plain);
            let Some((byte, rest)) = rest.split_first() else { break };
            match self.instead(*byte) {
                Some(Instead::Pair(second)) => out.extend_from_slice(&[b'\\', second]),
                Some(Instead::Space) => out.push(b' '),
                _ => {
                    let digit =
                        |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                    out.extend_from_slice(&[
                        b'\\',
                        b'u',
                        b'0',
                        b'0',
                        digit(*byte >> 4),
                        digit(*byte & 15),
                    ]);
                }
            }
            text = rest;
        }
        out.extend_from_slice(text);
    }

    fn text(self, text: &str) -> Vec<u8> {
        let mut out = Vec::with_capacity(text.len());
        self.write(text.as_bytes(), &mut out);
        out
    }
}

enum Instead {
    /// A backslash and this.
    Pair(u8),
    /// `\u00xx`.
    Unicode,
    Space,
}

#[derive(Clone, Debug)]
enum Piece {
    Literal(Vec<u8>),
    Word(Word, Escape),
    /// The event's text.
    Message(Escape),
    /// The mark of UTF-8 before the text, for the events that are to carry it.
    ByteOrderMark,
}

/// What goes out, but for what is fresh in each event.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    pieces: Vec<Piece>,
}

impl Layout {
    pub(super) fn literal(&mut self, text: &str) -> &mut Self {
        self.escaped(text, Escape::None)
    }

    /// A text that is the same in every event.
    pub(super) fn escaped(&mut self, text: &str, escape: Escape) -> &mut Self {
        let mut bytes = escape.text(text);
        match self.pieces.last_mut() {
            Some(Piece::Literal(before)) => before.append(&mut bytes),
            _ if bytes.is_empty() => {}
            _ => self.pieces.push(Piece::Literal(bytes)),
        }
        self
    }

    pub(super) fn word(&mut self, word: Word, escape: Escape) -> &mut Self {
        // What can't hold anything to be escaped is not searched for it.
        let escape = if word.is_plain() { Escape::None } else { escape };
        self.pieces.push(Piece::Word(word, escape));
        self
    }

    pub(super) fn template(&mut self, template: &Template, escape: Escape) -> &mut Self {
        for part in template.parts() {
            match part {
                Part::Literal(text) => self.escaped(text, escape),
                Part::Word(word) => self.word(word.clone(), escape),
            };
        }
        self
    }

    pub(super) fn message(&mut self, escape: Escape) -> &mut Self {
        self.pieces.push(Piece::Message(escape));
        self
    }

    pub(super) fn byte_order_mark(&mut self) -> &mut Self {
        self.pieces.push(Piece::ByteOrderMark);
        self
    }

    /// How the text is written in here.
    pub(super) fn message_escape(&self) -> Escape {
        let escapes = self.pieces.iter().rev().map(|piece| match piece {
            Piece::Message(escape) => *escape,
            _ => Escape::None,
        });
        escapes.into_iter().find(|escape| *escape != Escape::None).unwrap_or(Escape::None)
    }

    pub(super) fn write(&self, values: &Values<'_>, message: &[u8], out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Literal(bytes) => out.extend_from_slice(bytes),
                Piece::Word(word, Escape::None) => word.write(values, out),
                Piece::Word(word, escape) => {
                    let start = out.len();
                    word.write(values, out);
                    escape_from(out, start, *escape);
                }
                Piece::Message(escape) => escape.write(message, out),
                Piece::ByteOrderMark if values.byte_order_mark => {
                    out.extend_from_slice("\u{feff}".as_bytes());
                }
                Piece::ByteOrderMark => {}
            }
        }
    }
}

/// Escapes what was written last; rare, so that only then it is copied.
fn escape_from(out: &mut Vec<u8>, start: usize, escape: Escape) {
    let written = out.get(start..).unwrap_or_default();
    if escape.first(written).is_some() {
        let written = out.split_off(start);
        escape.write(&written, out);
    }
}
