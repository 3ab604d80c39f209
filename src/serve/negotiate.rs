//! What the client can read: the format of the metrics, and gzip.

use std::io::Write as _;

use axum::http::HeaderMap;
use axum::http::header::{ACCEPT, ACCEPT_ENCODING, HeaderName};
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::metrics::Format;

/// OpenMetrics where the client asks for version 1.0.0 of it at least as much as for plain text.
pub(super) fn format(headers: &HeaderMap) -> Format {
    let mut open_metrics = 0.0_f64;
    let mut text = 0.0_f64;
    for entry in entries(headers, &ACCEPT) {
        match entry.name.as_str() {
            "application/openmetrics-text"
                if matches!(entry.parameter("version"), None | Some("1.0.0")) =>
            {
                open_metrics = open_metrics.max(entry.weight());
            }
            "text/plain" => text = text.max(entry.weight()),
            _ => {}
        }
    }
    if open_metrics > 0.0 && open_metrics >= text { Format::OpenMetrics } else { Format::Text }
}

pub(super) fn gzip(headers: &HeaderMap) -> bool {
    let mut any = false;
    for entry in entries(headers, &ACCEPT_ENCODING) {
        match entry.name.as_str() {
            "gzip" | "x-gzip" => return entry.weight() > 0.0,
            "*" => any = entry.weight() > 0.0,
            _ => {}
        }
    }
    any
}

/// Fast rather than small: a scrape costs processor time every few seconds, the text shrinks
/// tenfold at any level.
pub(super) fn compress(body: &[u8]) -> Option<Vec<u8>> {
    let out = Vec::with_capacity(body.len() / 8 + 64);
    let mut encoder = GzEncoder::new(out, Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok()
}

/// One entry of a list header (RFC 9110, 12.4.2 and 12.5), lower case.
struct Entry {
    name: String,
    parameters: Vec<(String, String)>,
}

impl Entry {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// One that is no number is 0: not wanted.
    fn weight(&self) -> f64 {
        self.parameter("q").map_or(1.0, |q| q.parse().unwrap_or(0.0))
    }
}

fn entries(headers: &HeaderMap, header: &HeaderName) -> Vec<Entry> {
    let values = headers.get_all(header).iter().filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .map(|entry| {
            let mut parts = entry.split(';').map(|part| part.trim().to_ascii_lowercase());
            let name = parts.next().unwrap_or_default();
            let parameters = parts
                .filter_map(|part| {
                    let (key, value) = part.split_once('=')?;
                    Some((key.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
                })
                .collect();
            Entry { name, parameters }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn with(header: HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(header, HeaderValue::from_str(value).expect("a header's value"));
        headers
    }

    #[test]
    fn the_format_is_what_the_scraper_prefers() {
        let table = [
            // Prometheus 2.42
            (
                "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            // Prometheus 3
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,/;q=0.1",
                Format::OpenMetrics,
            ),
            ("text/plain", Format::Text),
            ("*/*", Format::Text),
            ("", Format::Text),
            ("application/openmetrics-text; version=\"1.0.0\"", Format::OpenMetrics),
            ("application/openmetrics-text; version=2.0.0", Format::Text),
            ("application/openmetrics-text;q=0", Format::Text),
            ("application/openmetrics-text;q=0.2, text/plain;q=0.9", Format::Text),
            ("application/openmetrics-text;q=nonsense", Format::Text),
            (";;;=,,", Format::Text),
        ];
        for (accept, expected) in table {
            assert_eq!(format(&with(ACCEPT, accept)), expected, "{accept}");
        }
        assert_eq!(format(&HeaderMap::new()), Format::Text);
    }

    #[test]
    fn gzip_only_where_it_is_wanted() {
        for (value, expected) in [
            ("gzip", true),
            ("deflate, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("*", true),
            ("*;q=0", false),
            ("*, gzip;q=0", false),
            ("identity", false),
            ("", false),
        ] {
            assert_eq!(gzip(&with(ACCEPT_ENCODING, value)), expected, "{value}");
        }
    }
}
