//! The compact mark of one event: found again in any text that passed through a pipeline.
//!
//! The rule is the intersection of what tokenizers, redactors and dedupe filters leave alone:
//! lower-case letters and digits only, a letter first, at most 32 characters; no run of 13 to 19
//! digits (masked as card numbers), never 32, 40 or 64 hex characters (redacted as secrets), not
//! shaped like a UUID.

use super::Run;

/// Crockford's base 32 in lower case: no i, l, o, u. Those four are the token's fixed marks, so a
/// token can't begin inside another one.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const PREFIX: &[u8] = b"gl";
const RUN_DIGITS: usize = 8;
const STREAM_DIGITS: usize = 4;
const SEQ_DIGITS: usize = 9;
const CHECK_DIGITS: usize = 4;
/// Of a run: the prefix and 40 random bits.
pub const RUN_LEN: usize = 2 + RUN_DIGITS;
/// Of a token: run, `o`, stream, `u`, sequence, `i`, check.
pub const TOKEN_LEN: usize = RUN_LEN + 1 + STREAM_DIGITS + 1 + SEQ_DIGITS + 1 + CHECK_DIGITS;
/// The largest sequence number that a token can carry (45 bits).
pub const SEQ_MAX: u64 = (1 << (5 * SEQ_DIGITS)) - 1;

/// Which event it was: the round's run, the stream within the journey, the place in the stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Token {
    pub run: Run,
    /// [`stream_code`] of the stream's name.
    pub stream: u32,
    pub seq: u64,
}

/// A new run from random bytes; 40 bits, so that among a million rounds two agree with a chance
/// of about one in three, and two that could meet in one look practically never.
pub fn run_from(random: [u8; 8]) -> Run {
    let mut text = PREFIX.to_vec();
    push_digits(&mut text, u64::from_le_bytes(random), RUN_DIGITS);
    String::from_utf8(text).unwrap_or_default().into()
}

/// Whether this is a run as [`run_from`] makes them.
pub fn is_run(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.len() == RUN_LEN
        && bytes.starts_with(PREFIX)
        && bytes.iter().skip(PREFIX.len()).all(|byte| digit(*byte).is_some())
}

/// Whether the run stands anywhere in a text: a label, an annotation, a title.
pub fn contains_run(text: &str, run: &str) -> bool {
    !run.is_empty() && text.contains(run)
}

/// 20 bits that stand for a stream's name within a run.
pub fn stream_code(name: &str) -> u32 {
    crc32fast::hash(name.as_bytes()) & 0xf_ffff
}

impl Token {
    pub fn new(run: &Run, stream: &str, seq: u64) -> Self {
        Self { run: run.clone(), stream: stream_code(stream), seq }
    }

    /// The text: 30 characters. A sequence beyond [`SEQ_MAX`] does not fit and is capped.
    pub fn render(&self) -> String {
        let mut text = Vec::with_capacity(TOKEN_LEN);
        write(&self.run, self.stream, self.seq, &mut text);
        String::from_utf8(text).unwrap_or_default()
    }

    /// Reads exactly one token.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == TOKEN_LEN).then(|| at_start(text.as_bytes())).flatten()
    }

    /// Every token in a text, in the order in which they stand there; linear in its length.
    pub fn find_all<T: AsRef<[u8]> + ?Sized>(text: &T) -> impl Iterator<Item = Self> + '_ {
        let mut rest = text.as_ref();
        std::iter::from_fn(move || {
            while let Some(start) = rest.windows(PREFIX.len()).position(|two| two == PREFIX) {
                rest = rest.get(start..)?;
                let found = at_start(rest);
                let skip = if found.is_some() { TOKEN_LEN } else { PREFIX.len() };
                rest = rest.get(skip..)?;
                if found.is_some() {
                    return found;
                }
            }
            None
        })
    }
}

impl Token {
    /// The sequence number of a token of `run` that a text ends within: what is left of a text
    /// that was cut in its token, behind the sequence number.
    pub fn cut_off(text: &str, run: &str) -> Option<u64> {
        // A cut in the middle of a character shows as the replacement character.
        let text = text.trim_end_matches(|c: char| c.is_whitespace() || c == '\u{fffd}');
        let start = text.rfind(run).filter(|_| is_run(run))?;
        let token = text.as_bytes().get(start..)?;
        let (_, rest) = token.split_at_checked(RUN_LEN)?;
        let (_, rest) = field(rest, b'o', STREAM_DIGITS)?;
        let (seq, rest) = field(rest, b'u', SEQ_DIGITS)?;
        let body = token.get(..TOKEN_LEN - 1 - CHECK_DIGITS)?;
        let mut end = vec![b'i'];
        push_digits(&mut end, check(body), CHECK_DIGITS);
        (rest.len() < end.len() && end.starts_with(rest)).then_some(seq)
    }
}

/// The text of a token at the end of `out`, without allocating where it has room.
pub(super) fn write(run: &str, stream: u32, seq: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(run.as_bytes());
    out.push(b'o');
    push_digits(out, u64::from(stream), STREAM_DIGITS);
    out.push(b'u');
    push_digits(out, seq.min(SEQ_MAX), SEQ_DIGITS);
    let check = check(out.get(start..).unwrap_or_default());
    out.push(b'i');
    push_digits(out, check, CHECK_DIGITS);
}

impl std::fmt::Display for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.render())
    }
}

/// The token that a text begins with.
fn at_start(text: &[u8]) -> Option<Token> {
    let token = text.get(..TOKEN_LEN)?;
    let (run, rest) = token.split_at_checked(RUN_LEN)?;
    let (stream, rest) = field(rest, b'o', STREAM_DIGITS)?;
    let (seq, rest) = field(rest, b'u', SEQ_DIGITS)?;
    let (written, _) = field(rest, b'i', CHECK_DIGITS)?;
    let run = std::str::from_utf8(run).ok().filter(|run| is_run(run))?;
    let body = token.get(..TOKEN_LEN - 1 - CHECK_DIGITS)?;
    let whole = written == check(body);
    whole.then(|| Token { run: run.into(), stream: u32::try_from(stream).unwrap_or(0), seq })
}

/// A mark and the number of so many digits after it.
fn field(text: &[u8], mark: u8, digits: usize) -> Option<(u64, &[u8])> {
    let (first, rest) = text.split_first()?;
    let (number, rest) = rest.split_at_checked(digits)?;
    if *first != mark {
        return None;
    }
    let value =
        number.iter().try_fold(0_u64, |value, byte| Some(value << 5 | u64::from(digit(*byte)?)))?;
    Some((value, rest))
}

/// 20 bits of the CRC-32: a mangled token is taken for another once in a million.
fn check(body: &[u8]) -> u64 {
    u64::from(crc32fast::hash(body) & 0xf_ffff)
}

fn digit(byte: u8) -> Option<u8> {
    let at = ALPHABET.iter().position(|known| *known == byte)?;
    u8::try_from(at).ok()
}

/// The last digits of a number: [`SEQ_DIGITS`] at most.
fn push_digits(text: &mut Vec<u8>, mut value: u64, digits: usize) {
    let mut all = [b'0'; SEQ_DIGITS];
    let written = &mut all[SEQ_DIGITS.saturating_sub(digits)..];
    for digit in written.iter_mut().rev() {
        *digit = ALPHABET[(value & 31) as usize];
        value >>= 5;
    }
    text.extend_from_slice(written);
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_obeys_the_token_rule() {
        for (random, seq) in [(0_u64, 0), (u64::MAX, SEQ_MAX), (0x0123_4567_89ab_cdef, 12_345)] {
            let run = run_from(random.to_le_bytes());
            let text = Token::new(&run, "ssh-bruteforce", seq).render();
            assert!(is_run(&run), "{run}");
            assert!(text.len() == TOKEN_LEN && text.len() <= 32 && text.starts_with(&*run));
            assert!(text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()), "{text}");
            let longest = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
            assert!(longest < Some(13), "{text}");
            assert!(!text.bytes().all(|b| b.is_ascii_hexdigit()));
        }
    }

    #[test]
    fn a_mangled_token_is_no_token() {
        let token = Token::new(&run_from([7; 8]), "a", 41);
        let text = token.render();
        let mut tried = 0;
        for place in 0..text.len() {
            for other in b"0123456789abcdefghijklmnopqrstuvwxyzA-" {
                let mut bytes = text.clone().into_bytes();
                if bytes[place] == *other {
                    continue;
                }
                bytes[place] = *other;
                tried += 1;
                assert_eq!(Token::find_all(&bytes).next(), None, "place {place}");
            }
        }
        assert!(tried > 1_000);
        assert_eq!(Token::parse(&text[1..]), None);
        assert_eq!(Token::parse(&text), Some(token));
    }

    #[test]
    fn a_cut_token_is_known_by_its_sequence_number() {
        let run = run_from([7; 8]);
        let text = format!("a {}", Token::new(&run, "a", 41).render());
        for cut in 1..=5 {
            assert_eq!(Token::cut_off(&text[..text.len() - cut], &run), Some(41), "{cut}");
        }
        assert_eq!(
            Token::cut_off(&format!("{}\u{fffd}\n", &text[..text.len() - 2]), &run),
            Some(41)
        );
        assert_eq!(Token::cut_off(&text, &run), None, "a whole one");
        for other in [&text[..text.len() - 6], &text[..12], "", &format!("{} b", &text[..30])] {
            assert_eq!(Token::cut_off(other, &run), None, "{other}");
        }
        let mangled = format!("{}x", &text[..text.len() - 2]);
        assert_eq!(Token::cut_off(&mangled, &run), None);
        assert_eq!(Token::cut_off(&text[..30], "gl00000000"), None);
    }

    #[test]
    fn tokens_are_found_wherever_they_stand() {
        let run = run_from([9; 8]);
        let [a, b] = [1, 2].map(|seq| Token::new(&run, "s", seq));
        let text = format!("gl gglgl{a}{b}:{}|{a}", &b.render()[..29]);
        assert_eq!(Token::find_all(&text).collect::<Vec<_>>(), [a.clone(), b, a]);
        assert!(contains_run(&text, &run) && !contains_run("", &run) && !contains_run(&text, ""));
    }

    #[test]
    fn what_is_rendered_is_read_and_noise_is_not() {
        static TRIED: AtomicU64 = AtomicU64::new(0);
        proptest!(|(random: [u8; 8], stream in ".{0,20}", seq in 0..=SEQ_MAX, noise: Vec<u8>)| {
            TRIED.fetch_add(1, Ordering::Relaxed);
            let token = Token::new(&run_from(random), &stream, seq);
            prop_assert_eq!(Token::parse(&token.render()), Some(token.clone()));
            prop_assert_eq!(Token::find_all(&noise).count(), 0);
            let mut text = noise.clone();
            text.extend(token.render().bytes());
            text.extend(&noise);
            prop_assert_eq!(Token::find_all(&text).collect::<Vec<_>>(), vec![token]);
        });
        eprintln!("property token round trip: {} inputs", TRIED.load(Ordering::Relaxed));
    }
}
