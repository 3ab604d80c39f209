//! A mail's bytes as text: headers, and the text of its parts, whatever they were encoded in for
//! the way (RFC 5322, 2045 to 2047).
//!
//! Characters of another set than UTF-8 are not read right. What is looked for in a mail (tokens,
//! names of rules, addresses) is ASCII, which nearly all sets have in the same place.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// Parts within parts, and parts in all, of a mail that is read.
const DEPTH: usize = 6;
const PARTS: usize = 64;

/// A mail may be cut where it was read to, so what is missing at the end is no mistake.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mail {
    /// In their order: the name in lower case, and the value in clear.
    pub headers: Vec<(String, String)>,
    /// The text of all its parts.
    pub text: String,
}

impl Mail {
    /// The first header of that name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |(is, _): &&(String, String)| is.eq_ignore_ascii_case(name);
        self.headers.iter().find(named).map(|(_, value)| value.as_str())
    }
}

pub fn read(bytes: &[u8]) -> Mail {
    let (headers, body) = split(bytes);
    let mut texts = Texts::default();
    texts.part(&headers, body, 0);
    let headers = headers.into_iter().map(|(name, value)| (name, in_clear(&value))).collect();
    Mail { headers, text: texts.found.join("\n") }
}

type Headers = Vec<(String, String)>;

#[derive(Default)]
struct Texts {
    found: Vec<String>,
    parts: usize,
}

impl Texts {
    fn part(&mut self, headers: &Headers, body: &[u8], depth: usize) {
        self.parts += 1;
        if depth > DEPTH || self.parts > PARTS {
            return;
        }
        let of = |name: &str| headers.iter().find(|(is, _)| is == name).map(|(_, value)| &**value);
        let kind = of("content-type").unwrap_or("text/plain");
        let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        if media.starts_with("multipart/") {
            let Some(boundary) = parameter(kind, "boundary") else { return };
            for part in parts(body, &boundary) {
                let (headers, body) = split(part);
                self.part(&headers, body, depth + 1);
            }
            return;
        }
        let body = match of("content-transfer-encoding").map(str::trim) {
            Some(way) if way.eq_ignore_ascii_case("base64") => base64(body),
            Some(way) if way.eq_ignore_ascii_case("quoted-printable") => quoted(body, false),
            _ => body.to_vec(),
        };
        if media == "message/rfc822" {
            let (headers, body) = split(&body);
            self.found.extend(headers.iter().map(|(_, value)| in_clear(value)));
            self.part(&headers, body, depth + 1);
        } else if media.starts_with("text/") || media == "application/json" {
            self.found.push(String::from_utf8_lossy(&body).into_owned());
        }
    }
}

/// The headers, unfolded, and what follows the empty line.
fn split(bytes: &[u8]) -> (Headers, &[u8]) {
    let mut headers: Headers = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |at| at + 1);
        let (line, after) = rest.split_at(end);
        rest = after;
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches(['\r', '\n']);
        if line.is_empty() {
            break;
        }
        if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = headers.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    (headers, rest)
}

/// A parameter of a header such as `multipart/mixed; boundary="x"`.
fn parameter(value: &str, name: &str) -> Option<String> {
    let found = value.split(';').skip(1).find_map(|part| {
        let (is, value) = part.split_once('=')?;
        is.trim().eq_ignore_ascii_case(name).then_some(value.trim())
    })?;
    Some(found.trim_matches('"').to_owned()).filter(|value| !value.is_empty())
}

/// What stands between the lines of a boundary.
fn parts<'a>(body: &'a [u8], boundary: &str) -> Vec<&'a [u8]> {
    let line = format!("--{boundary}");
    let mut found = Vec::new();
    let mut began = None;
    let mut at = 0;
    while at < body.len() && found.len() <= PARTS {
        let rest = body.get(at..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
        let is = rest.get(..end).unwrap_or_default().trim_ascii_end();
        let after = is.strip_prefix(line.as_bytes());
        if after.is_some_and(|after| after.is_empty() || after == b"--") {
            found.extend(began.and_then(|from: usize| body.get(from..at)));
            began = (after == Some(b"")).then_some(at + end);
        }
        at += end;
    }
    found.extend(began.and_then(|from| body.get(from..)));
    found
}

fn base64(body: &[u8]) -> Vec<u8> {
    let is = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let mut letters: Vec<u8> = body.iter().copied().filter(is).collect();
    if letters.len() % 4 == 1 {
        letters.pop();
    }
    BASE64.decode(letters).unwrap_or_default()
}

/// Quoted-printable; `word` as it is in headers, where `_` is a space.
fn quoted(body: &[u8], word: bool) -> Vec<u8> {
    let digit = |at: usize| char::from(*body.get(at)?).to_digit(16);
    let mut out = Vec::with_capacity(body.len());
    let mut at = 0;
    while let Some(byte) = body.get(at) {
        let next = body.get(at + 1);
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'=', Some(high), Some(low)) => {
                out.push((high * 16 + low).to_le_bytes()[0]);
                at += 3;
            }
            (b'=', ..) if next == Some(&b'\n') => at += 2,
            (b'=', ..) if next == Some(&b'\r') => at += 3,
            (b'_', ..) if word => {
                out.push(b' ');
                at += 1;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}

/// A header's value with its encoded words (RFC 2047) in clear.
fn in_clear(value: &str) -> String {
    let mut out = String::new();
    let mut rest = value;
    let mut after_word = false;
    while let Some(at) = rest.find("=?") {
        let (before, from) = rest.split_at(at);
        let Some((word, tail)) = encoded_word(from) else {
            out.push_str(before);
            out.push_str("=?");
            rest = from.get(2..).unwrap_or_default();
            after_word = false;
            continue;
        };
        // Space between two of them belongs to the fold.
        if !(after_word && before.trim().is_empty()) {
            out.push_str(before);
        }
        out.push_str(&word);
        rest = tail;
        after_word = true;
    }
    out.push_str(rest);
    out
}

/// `=?charset?B?text?=`, and what follows it.
fn encoded_word(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix("=?")?;
    let (_charset, inner) = inner.split_once('?')?;
    let (way, inner) = inner.split_once('?')?;
    let (coded, rest) = inner.split_once("?=")?;
    let bytes = match way {
        "B" | "b" => base64(coded.as_bytes()),
        "Q" | "q" => quoted(coded.as_bytes(), true),
        _ => return None,
    };
    Some((String::from_utf8_lossy(&bytes).into_owned(), rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAIL: &str = "Received: from a\r\n\tby b\r\n\
        Subject: =?utf-8?Q?[FIRING:1]_Anmeldung_?= =?utf-8?B?w7xiZXJhbGw=?= now\r\n\
        Content-Type: multipart/alternative;\r\n boundary=\"b 1\"\r\n\r\n\
        preamble\r\n--b 1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        run gl0000=\r\n0001 caf=C3=A9\r\n--b 1\r\n\
        Content-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n\
        PGI+Z2wwMDAw\r\nMDAwMTwvYj4=\r\n--b 1\r\nContent-Type: image/png\r\n\r\nnot text\r\n\
        --b 1--\r\nepilogue gl\r\n";

    #[test]
    fn headers_and_parts_are_read_in_clear() {
        let mail = read(MAIL.as_bytes());
        assert_eq!(mail.header("received"), Some("from a by b"));
        assert_eq!(mail.header("SUBJECT"), Some("[FIRING:1] Anmeldung überall now"));
        assert_eq!(mail.text, "run gl00000001 café\r\n\n<b>gl00000001</b>");
        let plain = read(b"Subject: a =? b\n\nrun gl00000001\n");
        assert_eq!((plain.header("subject"), &*plain.text), (Some("a =? b"), "run gl00000001\n"));
        let inside = "Content-Type: message/rfc822\n\nSubject: gl00000002\n\nbounced\n";
        assert_eq!(read(inside.as_bytes()).text, "gl00000002\nbounced\n");
        assert_eq!(read(b""), Mail::default());
    }

    #[test]
    fn mails_that_are_cut_or_mangled_are_read_as_far_as_they_go() {
        let tried = std::cell::Cell::new(0);
        let mut config = ProptestConfig::with_cases(2_000);
        config.failure_persistence = None;
        let at = any::<prop::sample::Index>();
        proptest!(config, |(at in at, byte: u8, cut: bool, deep in 0..200_usize)| {
            tried.set(tried.get() + 1);
            let mut bytes = MAIL.as_bytes().to_vec();
            let place = at.index(bytes.len());
            if cut { bytes.truncate(place); } else { bytes[place] = byte; }
            let mail = read(&bytes);
            prop_assert!(mail.text.len() <= 3 * bytes.len());
            let nested = "Content-Type: multipart/mixed; boundary=x\n\n--x\n".repeat(deep);
            read(nested.as_bytes());
        });
        eprintln!("property mails: {} inputs", tried.get());
        assert!(tried.get() >= 2_000);
    }
}
