//! Elastic Security, by Kibana: interval, look-back, suppression of alerts.

use super::*;
use crate::client::http::excerpt;
use crate::journey::rule::Throttle;

impl Asking<'_> {
    pub(super) async fn elastic(&self, name: Option<&str>) -> Result<Answer<Rule>, Trouble> {
        let mut found = Answer::default();
        let filter = name.map(|name| {
            let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
            format!("alert.attributes.name: \"{quoted}\"")
        });
        for page in 1.. {
            let (page, per_page) = (u64::to_string(&page), PAGE.to_string());
            let mut query = vec![("page", page.as_str()), ("per_page", per_page.as_str())];
            query.extend(filter.iter().map(|filter| ("filter", filter.as_str())));
            let answer = self.get("api/detection_engine/rules/_find", &query).await?;
            let data = self.list(&answer, "/data")?;
            for rule in data {
                let last = rule.pointer("/execution_summary/last_execution");
                let status = last.map(|last| text(last, "status")).unwrap_or_default();
                let said = last.map(|last| text(last, "message")).unwrap_or_default();
                let failing = matches!(status, "failed" | "partial failure" | "warning")
                    .then(|| format!("{status}: {}", excerpt(said.as_bytes())));
                push(
                    &mut found,
                    Rule {
                        name: text(rule, "name").to_owned(),
                        enabled: rule["enabled"] == true,
                        failing,
                        ran: last.and_then(|last| Wall::parse(text(last, "date"))),
                        every: short(text(rule, "interval")),
                        look_back: back_from(text(rule, "from")).filter(|back| !back.is_zero()),
                        delay: back_from(text(rule, "to")).unwrap_or_default(),
                        throttle: suppression(rule),
                        ..Rule::default()
                    },
                );
            }
            let total = answer.get("total").and_then(Value::as_u64);
            let total = total.ok_or_else(|| self.odd("the answer has no total"))?;
            if found.rows.len() as u64 >= total {
                return Ok(found);
            }
            if data.is_empty() || found.rows.len() >= LIMIT {
                found.lacks(format!("{} of {total} rules were given out", found.rows.len()));
                return Ok(found);
            }
        }
        Ok(found)
    }
}

/// Alerts that are alike are kept back for a time. Without one they are within one run, which is no
/// alert less for another round.
fn suppression(rule: &Value) -> Option<Throttle> {
    let suppression = rule.get("alert_suppression")?;
    let duration = suppression.get("duration")?;
    let value = duration.get("value")?.as_u64()?;
    let lasts = short(&format!("{value}{}", text(duration, "unit")))?;
    let by = suppression.get("group_by").and_then(Value::as_array);
    let by = by.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    Some(Throttle { lasts, by })
}
