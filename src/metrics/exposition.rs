//! The text that Prometheus scrapes: its own format 0.0.4 and OpenMetrics 1.0, from one pass.

use super::{Cell, Family, Registry};
use crate::catalogue::{Kind, Metric, Unit};

/// How the metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    OpenMetrics,
}

impl Format {
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What a family writes again and again, made once.
#[derive(Debug)]
pub(super) struct Names {
    /// HELP and TYPE lines.
    text: String,
    /// TYPE, UNIT and HELP lines of OpenMetrics, where a counter's family lacks its `_total`.
    open_metrics: String,
    /// Of a histogram, for each boundary and the infinite one: `le="0.5"} `.
    les: Vec<String>,
}

impl Names {
    pub(super) fn new(metric: &Metric, boundaries: &[f64]) -> Self {
        let name = metric.name;
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let help = metric.help.trim().replace('\\', "\\\\").replace('\n', "\\n");
        let text = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        let family = match metric.kind {
            Kind::Counter => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        // OpenMetrics 1.0: a unit may be named only if the family's name ends in it.
        let unit = match metric.unit {
            Unit::Count => None,
            unit => Some(unit.word())
                .filter(|unit| family.strip_suffix(unit).is_some_and(|front| front.ends_with('_'))),
        };
        let unit = unit.map(|unit| format!("# UNIT {family} {unit}\n")).unwrap_or_default();
        let quoted = help.replace('"', "\\\"");
        let open_metrics = format!("# TYPE {family} {kind}\n{unit}# HELP {family} {quoted}\n");
        let les = match metric.kind {
            Kind::Histogram(_) => boundaries
                .iter()
                // `1.0` and not `1`: OpenMetrics wants it, Prometheus 3 stores it, and so a
                // bucket is one series in whichever format it was scraped.
                .map(|boundary| format!("le=\"{boundary:?}\"}} "))
                .chain([String::from("le=\"+Inf\"} ")])
                .collect(),
            _ => Vec::new(),
        };
        Self { text, open_metrics, les }
    }
}

/// `name="value",...`, escaped as both formats want it.
pub(super) fn labels(out: &mut String, names: &[&str], values: &[&str]) {
    for (at, (name, value)) in names.iter().zip(values).enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        for c in value.chars() {
            match c {
                '\\' => out.push_str("\\\\"),
                '"' => out.push_str("\\\""),
                '\n' => out.push_str("\\n"),
                c => out.push(c),
            }
        }
        out.push('"');
    }
}

impl Registry {
    /// Appends all rows that are not absent. Allocates nothing but what `out` needs.
    pub fn write(&self, format: Format, out: &mut Vec<u8>) {
        for family in &self.families {
            family.write(format, out);
        }
        if format == Format::OpenMetrics {
            out.extend_from_slice(b"# EOF\n");
        }
    }
}

impl Family {
    fn write(&self, format: Format, out: &mut Vec<u8>) {
        let mut rows = self
            .slots
            .iter()
            .filter_map(|slot| slot.row.as_ref())
            .filter(|held| !matches!(held.value, Cell::Absent))
            .peekable();
        if rows.peek().is_none() {
            return;
        }
        out.extend_from_slice(match format {
            Format::Text => self.text.text.as_bytes(),
            Format::OpenMetrics => self.text.open_metrics.as_bytes(),
        });
        for held in rows {
            match &held.value {
                Cell::Absent => {}
                Cell::Number(value) => {
                    self.sample(out, "", &held.exposed);
                    number(out, *value);
                }
                Cell::Histogram { counts, sum } => self.histogram(out, &held.exposed, counts, *sum),
            }
        }
    }

    fn histogram(&self, out: &mut Vec<u8>, labels: &str, counts: &[u64], sum: f64) {
        let mut total = 0_u64;
        for (count, le) in counts.iter().zip(&self.text.les) {
            total = total.saturating_add(*count);
            out.extend_from_slice(self.metric.name.as_bytes());
            out.extend_from_slice(b"_bucket{");
            if !labels.is_empty() {
                out.extend_from_slice(labels.as_bytes());
                out.push(b',');
            }
            out.extend_from_slice(le.as_bytes());
            integer(out, total);
        }
        self.sample(out, "_sum", labels);
        number(out, sum);
        self.sample(out, "_count", labels);
        integer(out, total);
    }

    /// A sample's name and labels, up to its value.
    fn sample(&self, out: &mut Vec<u8>, suffix: &str, labels: &str) {
        out.extend_from_slice(self.metric.name.as_bytes());
        out.extend_from_slice(suffix.as_bytes());
        if !labels.is_empty() {
            out.push(b'{');
            out.extend_from_slice(labels.as_bytes());
            out.push(b'}');
        }
        out.push(b' ');
    }
}

/// A value and the end of its line.
fn number(out: &mut Vec<u8>, value: f64) {
    /// Up to here (2^53) every integer is a double of its own.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if value.fract() == 0.0 && value.abs() < EXACT {
        out.extend_from_slice(itoa::Buffer::new().format(value as i64).as_bytes());
    } else if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    }
    out.push(b'\n');
}

fn integer(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
    out.push(b'\n');
}
