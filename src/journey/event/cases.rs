//! What is special about some events of a round: their size, the characters in them, their date.
//! What a pipeline cuts, mangles or misreads shows in one round.

use std::time::Duration;

use super::EventSpec;
use crate::journey::format::Format;
use crate::journey::template;
use crate::time::Wall;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    Usual,
    /// So many bytes of payload.
    Size(usize),
    /// RFC 5424, 6.4: a text in UTF-8 begins with the byte order mark.
    ByteOrderMark,
    LineFeed,
    /// Every character that some format gives a meaning to.
    Quotes,
    /// One to four bytes a character.
    Scripts,
    /// The token alone.
    Tiny,
}

/// 480 and 2048 are what RFC 5424 (6.1) asks of every receiver, 1024 the limit of RFC 3164 (4.1),
/// 8192 what RFC 5425 (4.3.1) asks of those over TLS and where rsyslog cuts by default; 1472 fills
/// an Ethernet frame over UDP and IPv4, one byte more is two fragments.
const SWEEP: [usize; 7] = [480, 1_024, 1_471, 1_472, 1_473, 2_048, 8_192];
/// Loki's default limit of a line is 256 KiB; nothing larger passes anywhere by default.
const SIZE_LIMIT: usize = 262_144;
/// A round is held in memory.
const ROUND_LIMIT: usize = 64 * 1024 * 1024;
const SIZES_LIMIT: usize = 100;

impl Case {
    /// The cases of a round's events, in turn. `lines` says that the way in takes a line feed for
    /// the end of an event.
    pub(super) fn list(spec: &EventSpec, format: Format, lines: bool) -> Result<Vec<Self>, String> {
        if spec.sizes.len() > SIZES_LIMIT {
            return Err(format!("more than {SIZES_LIMIT} sizes; leave some out"));
        }
        if format == Format::Raw && (spec.sweep || !spec.sizes.is_empty()) {
            return Err(String::from(
                "`sizes` and `sweep` change the text, which is the whole payload of a raw event; \
                 use another format, or {pad:N} in the message",
            ));
        }
        let mut cases = Vec::new();
        for size in &spec.sizes {
            let size = usize::try_from(*size).unwrap_or(usize::MAX);
            if !(1..=SIZE_LIMIT).contains(&size) {
                return Err(format!("size {size} is not within 1 to {SIZE_LIMIT} bytes"));
            }
            cases.push(Self::Size(size));
        }
        if spec.sweep {
            cases.extend(SWEEP.map(Self::Size));
            cases.extend([Self::Usual, Self::Quotes, Self::Scripts, Self::Tiny]);
            if format == Format::Rfc5424 {
                cases.push(Self::ByteOrderMark);
            }
            if !(lines && format.keeps_line_feeds()) {
                cases.push(Self::LineFeed);
            }
        }
        let largest = cases.iter().map(|case| match case {
            Self::Size(size) => *size,
            _ => 0,
        });
        let count = usize::try_from(spec.count).unwrap_or(usize::MAX);
        if largest.max().unwrap_or(0).saturating_mul(count) > ROUND_LIMIT {
            return Err(format!(
                "{} events of the largest size are more than {} MiB a round; lower `count` or \
                 `sizes`",
                spec.count,
                ROUND_LIMIT / 1024 / 1024
            ));
        }
        Ok(cases)
    }

    /// What is put behind the text.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::LineFeed => " first line\nsecond line\r\nthird line",
            Self::Quotes => {
                " \"double\" 'single' `back` \\ \\n [square] ]] {curly} <angle> |pipe =equals \
                 ^caret %25 &amp; ;semicolon, \ttab"
            }
            Self::Scripts | Self::ByteOrderMark => " Zürich – Ελλάδα – 東京 – 😀",
            Self::Usual | Self::Size(_) | Self::Tiny => "",
        }
    }
}

/// So far east of UTC a date probe is told: no whole hour, and no zone that a server runs in by
/// accident of its default.
pub(super) const PROBE_ZONE: i32 = 5 * 3_600 + 30 * 60;
const DAY: i64 = 86_400 * 1_000_000_000;
/// No probe is of a day that is further off, nor is what it is taken for where day and month are
/// exchanged.
pub(super) const PROBE_REACH: Duration = Duration::from_secs(366 * 86_400);

/// The newest instant at this time of day whose day could be a month and is not the month itself:
/// whoever takes one for the other gets another date.
pub(super) fn probe_date(intended: Wall, zone: i32) -> Wall {
    let tells = |at: i64| {
        let (_, month, day) = template::date(Wall(at), zone);
        day <= 12 && day != month
    };
    // The 12th or the 11th of this month or the last is at most 31 days back.
    let days = (0..62).map(|back| intended.0.saturating_sub(back * DAY));
    Wall(days.into_iter().find(|at| tells(*at)).unwrap_or(intended.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_is_always_of_a_day_that_could_be_a_month() {
        for day in 0..800 {
            let now = Wall(1_700_000_000_000_000_000 + day * DAY);
            let at = probe_date(now, PROBE_ZONE);
            let (_, month, date) = template::date(at, PROBE_ZONE);
            assert!(date <= 12 && date != month, "{month} {date}");
            assert!(at <= now && now.0 - at.0 <= 21 * DAY, "{} days back", (now.0 - at.0) / DAY);
            let year = template::date(at, PROBE_ZONE).0;
            let exchanged = format!("{year:04}-{date:02}-{month:02}T12:00:00Z");
            let exchanged = Wall::parse(&exchanged).expect("there is such a day");
            let off = Duration::from_nanos(exchanged.0.abs_diff(now.0));
            assert!(off < PROBE_REACH, "{off:?} off");
        }
    }
}
