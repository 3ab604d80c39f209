//! Splunk's scheduled saved searches: when they run, how far back they look, how long an alert
//! suppresses the next.

use std::time::Duration;

use url::form_urlencoded::byte_serialize;

use super::*;
use crate::client::http::excerpt;
use crate::journey::rule::{Cron, Throttle};

impl Asking<'_> {
    pub(super) async fn splunk(&self, name: Option<&str>) -> Result<Answer<Rule>, Trouble> {
        const SEARCHES: &str = "servicesNS/-/-/saved/searches";
        let mut found = Answer::default();
        if let Some(name) = name {
            // A form writes a blank as a plus, a path does not.
            let name = byte_serialize(name.as_bytes()).collect::<String>().replace('+', "%20");
            let path = format!("{SEARCHES}/{name}");
            let answer = self.get(&path, &[("output_mode", "json")]).await?;
            for entry in self.list(&answer, "/entry")? {
                push(&mut found, self.saved_search(entry));
            }
            return Ok(found);
        }
        let page = PAGE.to_string();
        loop {
            let offset = found.rows.len().to_string();
            let query = [
                ("output_mode", "json"),
                ("search", "is_scheduled=1"),
                ("count", page.as_str()),
                ("offset", offset.as_str()),
            ];
            let answer = self.get(SEARCHES, &query).await?;
            let entries = self.list(&answer, "/entry")?;
            for entry in entries {
                push(&mut found, self.saved_search(entry));
            }
            let total = answer.pointer("/paging/total").and_then(Value::as_u64);
            let total = total.ok_or_else(|| self.odd("the answer has no total"))?;
            if found.rows.len() as u64 >= total {
                return Ok(found);
            }
            if entries.is_empty() || found.rows.len() >= LIMIT {
                found.lacks(format!("{} of {total} searches were given out", found.rows.len()));
                return Ok(found);
            }
        }
    }

    fn saved_search(&self, entry: &Value) -> Rule {
        let content = entry.get("content").unwrap_or(&Value::Null);
        let words = text(content, "cron_schedule");
        let earliest = text(content, "dispatch.earliest_time");
        // A search in real time looks all the time, whatever its schedule.
        let (earliest, all_the_time) = match earliest.strip_prefix("rt") {
            Some(earliest) => (earliest, true),
            None => (earliest, false),
        };
        let now = self.clients.wall().unwrap_or_default();
        let every = match all_the_time {
            true => Some(Duration::ZERO),
            false => Cron::parse(words).ok().map(|cron| cron.longest_gap(now)),
        };
        // A run may begin later by this, so that the scheduler can spread its work.
        let window = text(content, "schedule_window").parse::<u64>().unwrap_or(0);
        let latest = before_now(text(content, "dispatch.latest_time")).unwrap_or_default();
        Rule {
            name: text(entry, "name").to_owned(),
            enabled: !is(content, "disabled") && is(content, "is_scheduled"),
            every: every.map(|every| every + Duration::from_secs(window.min(10_000) * 60)),
            schedule: (!all_the_time && !words.is_empty()).then(|| excerpt(words.as_bytes())),
            look_back: before_now(earliest).filter(|back| !back.is_zero()),
            delay: if all_the_time { Duration::ZERO } else { latest },
            throttle: suppression(content),
            ..Rule::default()
        }
    }
}

/// Splunk writes a switch as a boolean, a number or a text.
fn is(content: &Value, key: &str) -> bool {
    match content.get(key) {
        Some(Value::Bool(is)) => *is,
        Some(Value::Number(number)) => number.as_u64() == Some(1),
        Some(Value::String(text)) => matches!(text.as_str(), "1" | "true"),
        _ => false,
    }
}

fn suppression(content: &Value) -> Option<Throttle> {
    if !is(content, "alert.suppress") {
        return None;
    }
    let lasts = span(text(content, "alert.suppress.period"))?;
    let fields = text(content, "alert.suppress.fields").split(',').map(str::trim);
    Some(Throttle { lasts, by: fields.filter(|f| !f.is_empty()).map(str::to_owned).collect() })
}

/// How far before now a time modifier is: `-15m@m`, `-1h`, `now`. One that is rounded down reaches a
/// unit further at most; one that is nothing but that, and times that are not counted from now, are
/// not told.
fn before_now(text: &str) -> Option<Duration> {
    let text = text.trim();
    if text == "now" || text == "now()" {
        return Some(Duration::ZERO);
    }
    span(text.strip_prefix('-')?.split('@').next()?)
}

/// `15m`, `24hours`, `d`.
fn span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let number = if number.is_empty() { 1 } else { number.parse::<u64>().ok()? };
    let seconds = match unit {
        "" | "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 604_800,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}
