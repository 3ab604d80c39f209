//! Values in base units, as people read them. A value is never rounded onto its threshold.

/// Significant digits of a value, and the most that telling it from its threshold may take.
const DIGITS: usize = 3;
const DIGITS_LIMIT: usize = 9;

/// One value: `12.3 ms`, `1.5 GiB`, `99.2 %`, `1 204`.
pub(super) fn quantity(value: f64, unit: Option<&str>) -> String {
    with_digits(value, unit, DIGITS)
}

/// A value and its threshold, with as many digits as it takes to tell them apart.
pub(super) fn against(value: f64, threshold: f64, unit: Option<&str>) -> (String, String) {
    let at = |digits| (with_digits(value, unit, digits), with_digits(threshold, unit, digits));
    (DIGITS..=DIGITS_LIMIT)
        .map(at)
        .find(|(a, b)| a != b || value == threshold)
        .unwrap_or_else(|| at(DIGITS_LIMIT))
}

fn with_digits(value: f64, unit: Option<&str>, digits: usize) -> String {
    if !value.is_finite() {
        return String::from(if value.is_nan() {
            "not a number"
        } else {
            "beyond every threshold"
        });
    }
    match unit {
        Some("seconds") => seconds(value, digits),
        Some("bytes") => {
            scaled(value, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"], digits)
        }
        Some("ratio") => format!("{} %", percent(value * 100.0, digits)),
        _ => plain(value, digits),
    }
}

fn seconds(value: f64, digits: usize) -> String {
    let size = value.abs();
    let sign = if value < 0.0 { "-" } else { "" };
    // Two neighbouring units; whole ones, so that "1 m 60 s" can't be.
    let two = |big: f64, big_name: &str, small: f64, small_name: &str| {
        let total = (size / small).round();
        let per = big / small;
        let (bigs, smalls) = ((total / per).floor(), total % per);
        match smalls == 0.0 {
            true => format!("{sign}{bigs} {big_name}"),
            false => format!("{sign}{bigs} {big_name} {smalls} {small_name}"),
        }
    };
    match size {
        0.0 => String::from("0 s"),
        s if s < 1e-6 => format!("{} ns", significant(value * 1e9, digits)),
        s if s < 1e-3 => format!("{} µs", significant(value * 1e6, digits)),
        s if s < 1.0 => format!("{} ms", significant(value * 1e3, digits)),
        s if s < 120.0 || digits > DIGITS => format!("{} s", significant(value, digits)),
        s if s < 7_200.0 => two(60.0, "m", 1.0, "s"),
        s if s < 172_800.0 => two(3_600.0, "h", 60.0, "m"),
        _ => two(86_400.0, "d", 3_600.0, "h"),
    }
}

fn scaled(value: f64, step: f64, names: &[&str], digits: usize) -> String {
    let mut scaled = value;
    let mut names = names.iter();
    let mut name = names.next().copied().unwrap_or_default();
    while scaled.abs() >= step
        && let Some(next) = names.next()
    {
        scaled /= step;
        name = next;
    }
    format!("{} {name}", significant(scaled, digits))
}

/// Close to 100 the digits that matter are those of what is missing: 99.9987, not 100.
fn percent(value: f64, digits: usize) -> String {
    let missing = (100.0 - value).abs();
    if missing > 0.0 && missing < 1.0 {
        let places = decimals(missing, digits.saturating_sub(1).max(1)).min(12);
        return trimmed(format!("{value:.places$}"));
    }
    significant(value, digits)
}

/// Whole numbers as they are, in groups of three; others by their significant digits.
fn plain(value: f64, digits: usize) -> String {
    if value.fract() == 0.0 && value.abs() < 1e15 {
        let digits = format!("{:.0}", value.abs());
        let mut out = String::from(if value < 0.0 { "-" } else { "" });
        for (at, digit) in digits.chars().enumerate() {
            // No grouping of four digits: they read as well without.
            if at > 0 && (digits.len() - at) % 3 == 0 && digits.len() > 4 {
                out.push('\u{a0}');
            }
            out.push(digit);
        }
        return out;
    }
    significant(value, digits)
}

pub(super) fn count(value: u64) -> String {
    plain(value as f64, DIGITS)
}

fn significant(value: f64, digits: usize) -> String {
    if value != 0.0 && !(1e-9..1e15).contains(&value.abs()) {
        return format!("{value:.2e}");
    }
    let places = decimals(value, digits);
    trimmed(format!("{value:.places$}"))
}

/// The decimal places that show so many significant digits.
fn decimals(value: f64, digits: usize) -> usize {
    if value == 0.0 {
        return 0;
    }
    let before = value.abs().log10().floor() as i64 + 1;
    usize::try_from((digits as i64).saturating_sub(before)).unwrap_or(0)
}

fn trimmed(text: String) -> String {
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_read_as_people_write_them() {
        for (value, unit, expected) in [
            (0.0, "seconds", "0 s"),
            (0.000_000_25, "seconds", "250 ns"),
            (0.000_25, "seconds", "250 µs"),
            (0.005, "seconds", "5 ms"),
            (0.012_345, "seconds", "12.3 ms"),
            (1.0, "seconds", "1 s"),
            (59.96, "seconds", "60 s"),
            (119.7, "seconds", "120 s"),
            (900.0, "seconds", "15 m"),
            (250.4, "seconds", "4 m 10 s"),
            (179.6, "seconds", "3 m"),
            (12_000.0, "seconds", "3 h 20 m"),
            (1_000_000.0, "seconds", "11 d 14 h"),
            (-0.002, "seconds", "-2 ms"),
            (512.0, "bytes", "512 B"),
            (1_610_612_736.0, "bytes", "1.5 GiB"),
            (0.992, "ratio", "99.2 %"),
            (0.999_987, "ratio", "99.9987 %"),
            (0.999_999_999, "ratio", "99.9999999 %"),
            (1.0, "ratio", "100 %"),
            (0.000_012, "ratio", "0.0012 %"),
            (0.0, "ratio", "0 %"),
            (3.0, "count", "3"),
            (1204.0, "count", "1204"),
            (1_234_567.0, "count", "1\u{a0}234\u{a0}567"),
            (0.333_333, "count", "0.333"),
            (f64::INFINITY, "count", "beyond every threshold"),
        ] {
            assert_eq!(quantity(value, Some(unit)), expected, "{value} {unit}");
        }
    }

    #[test]
    fn a_value_is_never_rounded_onto_its_threshold() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(against(0.005_004, 0.005, Some("seconds")), pair("5.004 ms", "5 ms"));
        assert_eq!(against(0.005, 0.005, Some("seconds")), pair("5 ms", "5 ms"));
        assert_eq!(against(0.8501, 0.85, Some("ratio")), pair("85.01 %", "85 %"));
        assert_eq!(against(600.2, 600.0, Some("seconds")), pair("600.2 s", "600 s"));
        assert_eq!(against(0.01, 0.005, None), pair("0.01", "0.005"));
    }
}
