//! A panel as a person sees it, made into a picture by Grafana's image renderer.
//!
//! It is an exhibit, not a measurement: nothing is judged by it, and what is drawn in it is not read.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::View;
use crate::client::Clients;
use crate::client::http::{Api, Request, fetch};
use crate::spec::trace::Trace;

/// What is kept of a picture at most: a panel of the largest size, drawn full, takes less.
const PICTURE_LIMIT: usize = 4 << 20;
/// Sides that the renderer draws, in pixels.
const SIDES: std::ops::RangeInclusive<u32> = 100..=3000;
/// How a PNG begins (ISO/IEC 15948, 5.2).
const SIGNATURE: &[u8] = b"\x89PNG\r\n\x1a\n";

/// How a panel is drawn.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Render {
    /// In pixels, 100 to 3000.
    #[serde(default = "width")]
    pub width: u32,
    /// In pixels, 100 to 3000.
    #[serde(default = "height")]
    pub height: u32,
    #[serde(default)]
    pub theme: Theme,
}

#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Theme {
    #[default]
    Light,
    Dark,
}

fn width() -> u32 {
    1000
}

fn height() -> u32 {
    500
}

impl Render {
    pub fn check(&self) -> Result<(), String> {
        if SIDES.contains(&self.width) && SIDES.contains(&self.height) {
            return Ok(());
        }
        let (least, most) = (SIDES.start(), SIDES.end());
        Err(format!("a picture's `width` and `height` are {least} to {most} pixels"))
    }
}

/// Asks for the picture of what was read. The error says why there is none.
pub async fn picture(
    api: &Api,
    clients: &Clients,
    (dashboard, view): (&str, &View),
    render: &Render,
    timeout: Duration,
    trace: &Trace,
) -> Result<Bytes, String> {
    let Render { width, height, theme } = render;
    let theme = match theme {
        Theme::Light => "light",
        Theme::Dark => "dark",
    };
    let mut query: Vec<(String, String)> = [
        ("panelId", view.panel.to_string()),
        ("from", view.from.to_string()),
        ("to", view.to.to_string()),
        ("width", width.to_string()),
        ("height", height.to_string()),
        // An administrator may have set another; the size is what tells a picture from a placeholder.
        ("scale", "1".to_owned()),
        ("theme", theme.to_owned()),
        ("tz", "UTC".to_owned()),
        ("timeout", timeout.as_secs().max(1).to_string()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    let variables = view.variables.iter();
    query.extend(variables.map(|(name, value)| (format!("var-{name}"), value.clone())));
    let query: Vec<(&str, &str)> = query.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let request = Request::get(api.at(&format!("render/d-solo/{dashboard}"), &query));
    trace.note(format_args!("GET {}", request.url));
    let mut how = api.how(timeout).map_err(|fault| fault.text)?;
    how.max_body = PICTURE_LIMIT;
    let response = fetch(clients, request, &how, trace).await;
    let response = response.map_err(|failed| failed.trouble.to_string())?;
    let status = response.status.as_u16();
    match status {
        200 => {}
        300..=399 => {
            let to = response.headers.get(hyper::header::LOCATION);
            let to = to.map(|to| crate::client::http::excerpt(to.as_bytes())).unwrap_or_default();
            return Err(format!(
                "Grafana answered {status} and led to {to:?}: it does not let us render"
            ));
        }
        _ => return Err(format!("Grafana answered {status}: {}", response.excerpt())),
    }
    let (is, asked) = match size(&response.body) {
        Ok(size) => (size, (*width, *height)),
        Err(why) => {
            let text = response.excerpt();
            return Err(format!("Grafana answered 200 and no whole PNG ({why}): {text}"));
        }
    };
    // Where no renderer is installed, and where one is at its limits, Grafana says so by a picture of
    // its own, with 200.
    if is != asked {
        return Err(format!(
            "Grafana sent a picture of {} × {} pixels instead of {width} × {height}: it shows its own \
             where no image renderer is installed, or where that failed",
            is.0, is.1
        ));
    }
    Ok(response.body)
}

/// How large a PNG is that is whole: its chunks follow one another to the last, and each is what its
/// checksum says.
fn size(png: &[u8]) -> Result<(u32, u32), &'static str> {
    let mut rest = png.strip_prefix(SIGNATURE).ok_or("it does not begin as one")?;
    let mut size = None;
    loop {
        let (head, after) = rest.split_at_checked(4).ok_or("it is cut")?;
        let length = usize::try_from(number(head)).map_err(|_| "a chunk is too long")?;
        let (chunk, after) = after.split_at_checked(length.saturating_add(4)).ok_or("it is cut")?;
        let (sum, after) = after.split_at_checked(4).ok_or("it is cut")?;
        if crc32fast::hash(chunk) != number(sum) {
            return Err("a checksum is wrong");
        }
        let (kind, data) = chunk.split_at(4);
        match (kind, size) {
            (b"IHDR", None) if data.len() == 13 => {
                size = Some((number(&data[..4]), number(&data[4..8])));
            }
            (_, None) => return Err("its header is missing"),
            (b"IEND", Some(size)) if after.is_empty() => return Ok(size),
            (b"IEND", _) => return Err("something follows its end"),
            _ => {}
        }
        rest = after;
    }
}

/// Four bytes, the most significant first.
fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).fold(0, |number, byte| number << 8 | u32::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
        let body = [kind, data].concat();
        let length = (data.len() as u32).to_be_bytes();
        [&length[..], &body, &crc32fast::hash(&body).to_be_bytes()].concat()
    }

    #[test]
    fn a_png_is_whole_or_none() {
        let header = [&3_u32.to_be_bytes()[..], &2_u32.to_be_bytes(), &[8, 2, 0, 0, 0]].concat();
        let (head, data) = (chunk(b"IHDR", &header), chunk(b"IDAT", b"pixels"));
        let end = chunk(b"IEND", b"");
        let whole = [SIGNATURE, &head, &data, &end].concat();
        assert_eq!(size(&whole), Ok((3, 2)));
        for cut in 0..whole.len() {
            assert!(size(&whole[..cut]).is_err(), "cut at {cut}");
        }
        for at in SIGNATURE.len()..whole.len() {
            let mut bent = whole.clone();
            bent[at] ^= 1;
            assert!(size(&bent).is_err(), "bent at {at}");
        }
        let more = [&whole[..], b"x"].concat();
        assert_eq!(size(&more), Err("something follows its end"));
        let headless = [SIGNATURE, &data, &end].concat();
        assert_eq!(size(&headless), Err("its header is missing"));
        let endless = [SIGNATURE, &head, &[0xff; 12]].concat();
        assert_eq!(size(&endless), Err("it is cut"));
    }
}
