//! Values with their units, as Grafana writes them in English.

use super::js;

/// Where the units differ in nothing but their words: how they are scaled, the unit, and their
/// names, each with the step of the scale it begins at. `S` scales by 1000, `B` by 1024, `F` not at
/// all, `C` counts, `$` and `K` are money before and behind the number, and of `D` the text depends on
/// who looks.
const UNITS: &str = "\
F - none
F %H humidity
F dB dB
F px pixel
F m/sec² accMS2
F f/sec² accFS2
F g accG
F ° degree
F rad radian
F grad grad
F arcmin arcmin
F arcsec arcsec
F m² areaM2
F ft² areaF2
F mi² areaMI2
F ac acres
F ha hectares
F ppm ppm
F ppb conppb
F ng/m³ conngm3
F ng/Nm³ conngNm3
F μg/m³ conμgm3
F μg/Nm³ conμgNm3
F mg/m³ conmgm3
F mg/Nm³ conmgNm3
F g/m³ congm3
F g/Nm³ congNm3
F mg/dL conmgdL
F mmol/L conmmolL
F dbm dBm
F gpm flowgpm
F cms flowcms
F cfs flowcfs
F cfm flowcfm
F L/h litreh
F L/min flowlpm
F mL/min flowmlpm
F lux lux
F lb masslb
F t masst
F cm lengthcm
F in lengthin
F ft lengthft
F mi lengthmi
F hPa pressurehpa
F kPa pressurekpa
F \"Hg pressurehg
F rpm rotrpm
F rad/s rotrads
F °/s rotdegs
F °C celsius
F °F fahrenheit farenheit
F K kelvin
F m/s velocityms
F km/h velocitykmh
F mph velocitymph
F kn velocityknot
F m³ m3
F Nm³ Nm3
F dm³ dm3
F gal gallons
S - sishort
S cd candela
S FLOPS flops mflops^2 gflops^3 tflops^4 pflops^5 eflops^6 zflops^7 yflops^8
S B decbytes deckbytes^1 decmbytes^2 decgbytes^3 dectbytes^4 decpbytes^5
S b decbits
S p/s pps
S B/s Bps KBs^1 MBs^2 GBs^3 TBs^4 PBs^5
S b/s bps Kbits^1 Mbits^2 Gbits^3 Tbits^4 Pbits^5
S W watt kwatt^1 megwatt^2 gwatt^3 mwatt^-1
S W/m² Wm2
S VA voltamp kvoltamp^1
S VAr voltampreact kvoltampreact^1
S Wh watth kwatth^1 mwatth^2
S Wh/kg watthperkg
S W-Min kwattm^1
S Ah amph kamph^1 mamph^-1
S J joule
S eV ev
S A amp kamp^1 mamp^-1
S V volt kvolt^1 mvolt^-1
S Ω ohm mohm^-1 kohm^1 Mohm^2
S F farad µfarad^-2 nfarad^-3 pfarad^-4 ffarad^-5
S H henry mhenry^-1 µhenry^-2
S Lm lumens
S Nm forceNm forcekNm^1
S N forceN forcekN^1
S H/s Hs KHs^1 MHs^2 GHs^3 THs^4 PHs^5 EHs^6
S g massmg^-1 massg masskg^1
S m lengthmm^-1 lengthm lengthkm^1
S bar pressurembar^-1 pressurebar pressurekbar^1
S Pa pressurepa
S Bq radbq
S Ci radci
S Gy radgy
S rad radrad
S Sv radsv radmsv^-1 radusv^-2
S rem radrem
S C/kg radexpckg
S R radr
S Sv/h radsvh radmsvh^-1 radusvh^-2
S Hz rothz rotkhz^1 rotmhz^2 rotghz^3 hertz
S L mlitre^-1 litre
B B bytes kbytes^1 mbytes^2 gbytes^3 tbytes^4 pbytes^5
B b bits
B B/s binBps KiBs^1 MiBs^2 GiBs^3 TiBs^4 PiBs^5
B b/s binbps Kibits^1 Mibits^2 Gibits^3 Tibits^4 Pibits^5
C c/s cps
C ops/s ops
C req/s reqps
C rd/s rps
C wr/s wps
C io/s iops
C evt/s eps
C msg/s mps
C rec/s recps
C rows/s rowsps
C c/m cpm
C ops/m opm
C req/m reqpm
C rd/m rpm
C wr/m wpm
C evts/m epm
C msgs/m mpm
C rec/m recpm
C rows/m rowspm
$ $ currencyUSD
$ £ currencyGBP
$ € currencyEUR
$ ¥ currencyJPY
$ ₽ currencyRUB
$ ₴ currencyUAH
$ R$ currencyBRL
$ czk currencyCZK
$ CHF currencyCHF
$ PLN currencyPLN
$ ฿ currencyBTC
$ mBTC currencymBTC
$ μBTC currencyμBTC
$ R currencyZAR
$ ₹ currencyINR
$ ₩ currencyKRW
$ Rp currencyIDR
$ PHP currencyPHP
$ RM currencyMYR
$ XPF currencyXPF
$ BGN currencyBGN
$ ₲ currencyPYG
$ UYU currencyUYU
$ ₪ currencyILS
K kr currencyDKK currencyISK currencyNOK currencySEK
K đ currencyVND
K ₺ currencyTRY
D - dateTimeAsIso dateTimeAsIsoNoDateIfToday dateTimeAsUS dateTimeAsUSNoDateIfToday dateTimeAsLocal \
dateTimeAsLocalNoDateIfToday dateTimeAsSystem dateTimeFromNow
";

/// The units that have a rule of their own.
#[cfg(test)]
const OWN: &[&str] = &[
    "short",
    "percent",
    "percentunit",
    "locale",
    "sci",
    "hex",
    "hex0x",
    "ns",
    "µs",
    "ms",
    "s",
    "m",
    "h",
    "d",
    "dtdurationms",
    "dtdurations",
    "dthms",
    "dtdhms",
    "timeticks",
    "clockms",
    "clocks",
    "pressurepsi",
    "bool",
    "bool_yes_no",
    "bool_on_off",
];

const SHORT: &[&str] = &["", " K", " Mil", " Bil", " Tri", " Quadr", " Quint", " Sext", " Sept"];
const MONEY: &[&str] = &["", "K", "M", "B", "T"];
const DECIMAL: &[&str] = &["f", "p", "n", "µ", "m", "", "k", "M", "G", "T", "P", "E", "Z", "Y"];
/// Where in [`DECIMAL`] stands the unit itself.
const ONE: i32 = 5;
const BINARY: &[&str] = &["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];

/// All units by name, those whose text can't be computed left out.
#[cfg(test)]
pub(super) fn known() -> Vec<&'static str> {
    let listed = UNITS.lines().filter(|line| !line.starts_with('D')).flat_map(|line| {
        line.split(' ').skip(2).map(|id| id.split('^').next().unwrap_or_default())
    });
    OWN.iter().copied().chain(listed).collect()
}

pub(super) fn is_date(unit: &str) -> bool {
    unit.starts_with("time:") || found(unit).is_some_and(|(kind, ..)| kind == "D")
}

fn found(unit: &str) -> Option<(&'static str, &'static str, i32)> {
    UNITS.lines().find_map(|line| {
        let mut words = line.split(' ');
        let (kind, symbol) = (words.next()?, words.next()?);
        let symbol = if symbol == "-" { "" } else { symbol };
        words.find_map(|word| {
            let (id, step) = word.split_once('^').unwrap_or((word, "0"));
            (id == unit).then(|| (kind, symbol, step.parse().unwrap_or(0)))
        })
    })
}

/// A number with its unit. The error says what of the unit can't be computed.
pub(super) fn format(unit: &str, value: f64, decimals: Option<i32>) -> Result<String, String> {
    let cannot = || format!("the unit {unit:?} of {value} can't be computed");
    let fixed = |value| to_fixed(value, decimals);
    if let Some((kind, symbol, step)) = found(unit) {
        return match kind {
            "F" => Ok(with_unit(&fixed(value), symbol)),
            "S" => Ok(prefixed(value, decimals, symbol, step, 1000.0)),
            "B" => Ok(prefixed(value, decimals, symbol, step, 1024.0)),
            "C" => counted(value, decimals, symbol).ok_or_else(cannot),
            "$" => Ok(money(value, decimals, symbol, false)),
            "K" => Ok(money(value, decimals, symbol, true)),
            _ => Err(format!("the unit {unit:?} writes a time, whose text depends on who looks")),
        };
    }
    Ok(match unit {
        "short" => scaled(value, decimals, 1000.0, 0, SHORT.len(), |at| SHORT[at].into()),
        "pressurepsi" => {
            scaled(value, decimals, 1000.0, 0, 3, |at| ["psi", "ksi", "Mpsi"][at].into())
        }
        "percent" => format!("{}%", fixed(value)),
        "percentunit" => format!("{}%", fixed(100.0 * value)),
        "locale" => grouped(value, 0, decimals.map_or(3, |d| d.max(0))),
        "sci" => exponential(value, decimals),
        "hex" | "hex0x" => {
            let whole = js::number(&fixed(value));
            if whole.fract() != 0.0 || whole.abs() >= 9e15 {
                return Err(cannot());
            }
            let sign = if whole < 0.0 { "-" } else { "" };
            let mark = if unit == "hex" { "" } else { "0x" };
            format!("{sign}{mark}{:X}", whole.abs() as u64)
        }
        "ns" | "µs" | "ms" | "s" | "m" | "h" | "d" => span(unit, value, decimals),
        "timeticks" => span("s", value / 100.0, decimals),
        "dtdurationms" => in_words(value, decimals, 1.0, "millisecond"),
        "dtdurations" => in_words(value, decimals, 1000.0, "second"),
        "dthms" => clock_of(value, false),
        "dtdhms" => clock_of(value, true),
        "clockms" => clock(value, decimals).ok_or_else(cannot)?,
        "clocks" => clock(value * 1000.0, decimals).ok_or_else(cannot)?,
        "bool" => truth(value, "True", "False"),
        "bool_yes_no" => truth(value, "Yes", "No"),
        "bool_on_off" => truth(value, "On", "Off"),
        _ => return own(unit, value, decimals).ok_or_else(cannot),
    })
}

/// Units that are spelled in their name: `suffix:events`, `si:mV`; and any other word, which stands
/// behind the number.
fn own(unit: &str, value: f64, decimals: Option<i32>) -> Option<String> {
    let fixed = || to_fixed(value, decimals);
    let (key, rest) = match unit.split_once(':') {
        Some((key, rest)) if !key.is_empty() => (key, rest),
        _ => return Some(with_unit(&fixed(), unit)),
    };
    Some(match key {
        "prefix" => format!("{rest}{}", fixed()),
        "suffix" => with_unit(&fixed(), rest),
        "count" => counted(value, decimals, rest)?,
        "si" => {
            let first: String = rest.chars().take(1).collect();
            // Unicode has two letters for micro.
            let first = first.replace('μ', "µ");
            let at = DECIMAL.iter().position(|prefix| *prefix == first && !first.is_empty());
            let step = at.and_then(|at| i32::try_from(at).ok()).map_or(0, |at| at - ONE);
            let symbol: String = rest.chars().skip(usize::from(step != 0)).collect();
            prefixed(value, decimals, &symbol, step, 1000.0)
        }
        "currency" => match rest.split(':').collect::<Vec<_>>().as_slice() {
            ["financial", "", ..] => fixed(),
            ["financial", symbol, placed @ ..] => {
                let most = decimals.map_or(1, |d| d.max(0));
                let text = grouped(value, decimals.map_or(0, |d| d.max(0)), most);
                if placed.first() == Some(&"suffix") {
                    format!("{text}{symbol}")
                } else {
                    format!("{symbol}{text}")
                }
            }
            _ => money(value, decimals, rest, false),
        },
        "bool" => {
            let (yes, no) = rest.split_once('/').unwrap_or((rest, "-"));
            truth(value, yes, no)
        }
        _ => with_unit(&fixed(), unit),
    })
}

fn truth(value: f64, yes: &str, no: &str) -> String {
    if value == 0.0 { no.into() } else { yes.into() }
}

fn with_unit(text: &str, unit: &str) -> String {
    if unit.is_empty() { text.into() } else { format!("{text} {unit}") }
}

fn infinite(value: f64) -> Option<&'static str> {
    value.is_infinite().then_some(if value > 0.0 { "∞" } else { "-∞" })
}

/// So many digits behind the point; as many as the number's size asks for, where none are given.
pub(super) fn to_fixed(value: f64, decimals: Option<i32>) -> String {
    if let Some(text) = infinite(value) {
        return text.into();
    }
    let decimals = decimals.unwrap_or_else(|| usual_decimals(value)).max(0);
    let wanted = usize::try_from(decimals).unwrap_or(0);
    if value == 0.0 {
        return format!("{:.wanted$}", 0.0);
    }
    let factor = 10f64.powi(decimals);
    let written = js::text(js::round(value * factor) / factor);
    if written.contains('e') {
        return written;
    }
    let has = written.split_once('.').map_or(0, |(_, part)| part.len());
    if has >= wanted {
        return written;
    }
    let point = if has == 0 { "." } else { "" };
    format!("{written}{point}{}", "0".repeat(wanted - has))
}

fn usual_decimals(value: f64) -> i32 {
    if value % 1.0 == 0.0 {
        return 0;
    }
    let size = value.abs();
    let mut decimals = 1 - (size.ln() / std::f64::consts::LN_10).floor() as i32;
    if size / 10f64.powi(-decimals) > 2.25 {
        decimals += 1;
    }
    decimals.max(0)
}

/// A number in the step of a scale that suits it; `offset` says which step is the unit itself.
fn scaled(
    value: f64,
    decimals: Option<i32>,
    factor: f64,
    offset: i32,
    steps: usize,
    suffix: impl Fn(usize) -> String,
) -> String {
    if let Some(text) = infinite(value) {
        return text.into();
    }
    let last = i32::try_from(steps).unwrap_or(1) - 1;
    let step = match value == 0.0 {
        true => 0,
        false => (value.abs().log10() / factor.log10()).floor() as i32,
    };
    let at = usize::try_from((offset + step).clamp(0, last)).unwrap_or(0);
    let step = step.clamp(-offset, last - offset);
    let value =
        if step >= 0 { value / factor.powi(step) } else { value / factor.powf(step.into()) };
    format!("{}{}", to_fixed(value, decimals), suffix(at))
}

fn prefixed(value: f64, decimals: Option<i32>, symbol: &str, step: i32, factor: f64) -> String {
    let binary = factor > 1000.0;
    let (prefixes, offset) = if binary { (BINARY, step) } else { (DECIMAL, ONE + step) };
    scaled(value, decimals, factor, offset, prefixes.len(), |at| {
        format!(" {}{symbol}", prefixes[at])
    })
}

fn counted(value: f64, decimals: Option<i32>, symbol: &str) -> Option<String> {
    // An infinite number has no step, and the browser then writes the word "undefined".
    let step = |at: usize| format!("{} {symbol}", MONEY[at]);
    value.is_finite().then(|| scaled(value, decimals, 1000.0, 0, MONEY.len(), step))
}

fn money(value: f64, decimals: Option<i32>, symbol: &str, behind: bool) -> String {
    let sign = if value < 0.0 { "-" } else { "" };
    let (before, after) = if behind { ("", symbol) } else { (symbol, "") };
    let text =
        scaled(value.abs(), decimals, 1000.0, 0, MONEY.len(), |at| format!("{}{after}", MONEY[at]));
    format!("{sign}{before}{text}")
}

/// In groups of three, with at least and at most so many digits behind the point.
fn grouped(value: f64, least: i32, most: i32) -> String {
    if let Some(text) = infinite(value) {
        return text.into();
    }
    let (digits, exponent) = js::digits(value);
    let point = exponent + 1;
    let (digits, point) = match usize::try_from(point + most) {
        Ok(keep) => {
            let (kept, carried) = js::rounded(&digits, keep);
            (kept, point + i32::from(carried))
        }
        Err(_) => (String::new(), 0),
    };
    let plain = if digits.is_empty() { "0".to_owned() } else { js::placed(&digits, point) };
    let (whole, part) = plain.split_once('.').unwrap_or((&plain, ""));
    let mut part = part.trim_end_matches('0').to_owned();
    while part.len() < usize::try_from(least).unwrap_or(0) {
        part.push('0');
    }
    let mut text = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    let zero = !text.bytes().chain(part.bytes()).any(|digit| matches!(digit, b'1'..=b'9'));
    let negative = value < 0.0 || (zero && value.is_sign_negative());
    let sign = if negative { "-" } else { "" };
    let point = if part.is_empty() { "" } else { "." };
    format!("{sign}{text}{point}{part}")
}

fn exponential(value: f64, decimals: Option<i32>) -> String {
    if value.is_infinite() {
        return js::text(value);
    }
    let (mut digits, mut exponent) = js::digits(value);
    if let Some(decimals) = decimals.and_then(|d| usize::try_from(d).ok()) {
        // All digits that the number really has, so that a half is one.
        let exact = format!("{:.120e}", value.abs());
        let mantissa = exact.split_once('e').map_or("0", |(mantissa, _)| mantissa);
        let (kept, carried) = js::rounded(&mantissa.replace('.', ""), decimals + 1);
        exponent += i32::from(carried);
        digits = kept;
        digits.truncate(decimals + 1);
    }
    let (first, rest) = digits.split_at(1);
    let sign = if value < 0.0 { "-" } else { "" };
    let point = if rest.is_empty() { "" } else { "." };
    let mark = if exponent < 0 { '-' } else { '+' };
    format!("{sign}{first}{point}{rest}e{mark}{}", exponent.abs())
}

/// A length of time in the step that suits it: below which size, by what it is divided, and the word.
fn span(unit: &str, value: f64, decimals: Option<i32>) -> String {
    const DAY: f64 = 86_400.0;
    const YEAR: f64 = 31_536_000.0;
    let size = value.abs();
    let step: (f64, f64, &str) = match unit {
        "ns" => pick(
            size,
            &[
                (1e3, 1.0, "ns"),
                (1e6, 1e3, "µs"),
                (1e9, 1e6, "ms"),
                (6e10, 1e9, "s"),
                (36e11, 6e10, "min"),
                (864e11, 36e11, "hour"),
                (f64::INFINITY, 864e11, "day"),
            ],
        ),
        "µs" => pick(size, &[(1e3, 1.0, "µs"), (1e6, 1e3, "ms"), (f64::INFINITY, 1e6, "s")]),
        "ms" => pick(
            size,
            &[
                (1e3, 1.0, "ms"),
                (6e4, 1e3, "s"),
                (36e5, 6e4, "min"),
                (864e5, 36e5, "hour"),
                (31_536e6, 864e5, "day"),
                (f64::INFINITY, 31_536e6, "year"),
            ],
        ),
        "s" if value == 0.0 => return "0 s".into(),
        "s" if size < 1e-6 => return scaled_span(value * 1e9, decimals, "ns"),
        "s" if size < 1e-3 => return scaled_span(value * 1e6, decimals, "µs"),
        "s" if size < 1.0 => return scaled_span(value * 1e3, decimals, "ms"),
        "s" => pick(
            size,
            &[
                (60.0, 1.0, "s"),
                (3600.0, 60.0, "min"),
                (DAY, 3600.0, "hour"),
                (7.0 * DAY, DAY, "day"),
                (YEAR, 7.0 * DAY, "week"),
                (f64::INFINITY, 31_556_900.0, "year"),
            ],
        ),
        // What is in the unit itself is not put into the plural, in minutes and hours.
        "m" if size < 60.0 => return format!("{} min", to_fixed(value, decimals)),
        "h" if size < 24.0 => return format!("{} hour", to_fixed(value, decimals)),
        "m" => pick(
            size,
            &[
                (1440.0, 60.0, "hour"),
                (10_080.0, 1440.0, "day"),
                (604_800.0, 10_080.0, "week"),
                (f64::INFINITY, 525_948.0, "year"),
            ],
        ),
        "h" => pick(
            size,
            &[(168.0, 24.0, "day"), (8760.0, 168.0, "week"), (f64::INFINITY, 8760.0, "year")],
        ),
        _ => pick(size, &[(7.0, 1.0, "day"), (365.0, 7.0, "week"), (f64::INFINITY, 365.0, "year")]),
    };
    scaled_span(value / step.1, decimals, step.2)
}

fn pick(size: f64, steps: &[(f64, f64, &'static str)]) -> (f64, f64, &'static str) {
    let found = steps.iter().find(|(below, ..)| size < *below).or_else(|| steps.last());
    found.copied().unwrap_or((0.0, 1.0, ""))
}

fn scaled_span(value: f64, decimals: Option<i32>, word: &str) -> String {
    let plural = matches!(word, "min" | "hour" | "day" | "week" | "year") && value.abs() > 1.0;
    format!("{} {word}{}", to_fixed(value, decimals), if plural { "s" } else { "" })
}

const WORDS: [(&str, f64); 8] = [
    ("year", 31_536e6),
    ("month", 2592e6),
    ("week", 604_800e3),
    ("day", 864e5),
    ("hour", 36e5),
    ("minute", 6e4),
    ("second", 1e3),
    ("millisecond", 1.0),
];

fn in_words(value: f64, decimals: Option<i32>, unit_ms: f64, unit: &str) -> String {
    if value == 0.0 {
        return format!("0 {unit}s");
    }
    if value < 0.0 {
        return format!("{} ago", in_words(-value, decimals, unit_ms, unit));
    }
    let mut left = value * unit_ms;
    let mut more = decimals.unwrap_or(0);
    let mut parts = Vec::new();
    for (word, size) in WORDS {
        let count = left / size;
        if more >= 0 && (count >= 1.0 || !parts.is_empty()) {
            let whole = count.floor();
            let plural = if whole == 1.0 { "" } else { "s" };
            parts.push(format!("{} {word}{plural}", js::text(whole)));
            left %= size;
            more -= 1;
        }
    }
    parts.join(", ")
}

fn clock_of(value: f64, days: bool) -> String {
    if value < 0.0 {
        return format!("{} ago", clock_of(-value, days));
    }
    let whole = if days { (value / 86_400.0).floor() } else { 0.0 };
    let left = value - whole * 86_400.0;
    let day = if whole > 0.0 { format!("{} d ", js::text(whole)) } else { String::new() };
    let two = |number: f64| {
        let text = js::text(number.floor());
        if number.floor() > 9.0 { text } else { format!("0{text}") }
    };
    let (hours, minutes) = (two(left / 3600.0), two(left % 3600.0 / 60.0));
    format!("{day}{hours}:{minutes}:{}", two(left % 3600.0 % 60.0))
}

fn clock(value: f64, decimals: Option<i32>) -> Option<String> {
    // Beyond this the browser has no dates.
    if !value.is_finite() || value.abs() > 8.64e15 {
        return None;
    }
    let millis = value.trunc() as i64;
    let part = |of: i64, size: i64| millis.div_euclid(of).rem_euclid(size);
    let (ms, s, m) = (part(1, 1000), part(1000, 60), part(60_000, 60));
    Some(if value < 1000.0 {
        format!("{ms:03}ms")
    } else if value < 6e4 {
        if decimals == Some(0) { format!("{s:02}s") } else { format!("{s:02}s:{ms:03}ms") }
    } else {
        let (hours, from) = if value < 36e5 {
            (String::new(), 0)
        } else {
            (format!("{}h", js::text((value / 36e5).floor())), 1)
        };
        let rest = match decimals.unwrap_or(-1) - from {
            -1 if from == 1 && decimals == Some(0) => String::new(),
            0 => format!("{m:02}m"),
            1 => format!("{m:02}m:{s:02}s"),
            _ => format!("{m:02}m:{s:02}s:{ms:03}ms"),
        };
        let colon = if hours.is_empty() || rest.is_empty() { "" } else { ":" };
        format!("{hours}{colon}{rest}")
    })
}
