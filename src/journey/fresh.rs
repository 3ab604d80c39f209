//! How old the data was that an event was enriched with.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Arrival;
use super::fields::lookup;
use crate::outcome::{Reason, ReasonCode};
use crate::spec::units::Period;
use crate::time::Wall;

/// A feed must have been updated recently when it enriched the event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fresh {
    /// The field that says when the feed was updated: RFC 3339, or seconds or milliseconds since
    /// 1970.
    pub field: String,
    /// No longer ago than this.
    pub within: Period,
}

/// So far ahead of us may a feed's clock be.
const AHEAD: f64 = 60.0;
/// Numbers from here on are milliseconds: as seconds they would lie in the year 5138.
const MILLISECONDS: f64 = 1e11;

impl Fresh {
    /// Seconds since the feed that enriched an event was updated; the error says why that is not
    /// known, or can't be.
    pub fn age(&self, fields: Option<&Map<String, Value>>, seen: Wall) -> Result<f64, String> {
        let field = &self.field;
        let shown =
            fields.and_then(|fields| lookup(fields, field)).filter(|shown| !shown.is_null());
        let shown = shown.ok_or_else(|| format!("it has no field {field}: no feed enriched it"))?;
        let number = |number: f64| if number >= MILLISECONDS { number / 1e3 } else { number };
        let updated = match shown {
            Value::Number(seconds) => seconds.as_f64().map(number),
            Value::String(text) => text
                .parse::<f64>()
                .ok()
                .map(number)
                .or_else(|| Wall::parse(text).map(Wall::seconds)),
            _ => None,
        };
        let updated = updated
            .filter(|updated| updated.is_finite())
            .ok_or_else(|| format!("{field} is no time: {shown}"))?;
        let age = seen.seconds() - updated;
        if age < -AHEAD {
            return Err(format!("{field} lies {:.0} s in the future: {shown}", -age));
        }
        Ok(age.max(0.0))
    }

    /// Seconds since the feed was updated that enriched what arrived, where it shows; what is wrong
    /// with that is then wrong with the arrival.
    pub fn judge(&self, arrival: &mut Arrival, seen: Wall) -> Option<f64> {
        let age = self.age(arrival.fields.as_ref(), seen);
        let wrong = match &age {
            Ok(age) => self.stale(*age),
            Err(text) => Some(text.clone()),
        };
        if let Some(text) = wrong {
            arrival.wrong.get_or_insert_with(|| Reason::new(ReasonCode::StaleFeed, text));
        }
        age.ok()
    }

    /// What is wrong with such an age, where something is.
    pub fn stale(&self, age: f64) -> Option<String> {
        (age > self.within.0.as_secs_f64()).then(|| {
            format!(
                "its feed was updated {age:.0} s ago ({}), not within {}",
                self.field, self.within
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    #[test]
    fn an_age_is_read_of_what_feeds_write_and_nothing_is_guessed() {
        let fresh = Fresh {
            field: "threat.feed.updated".into(),
            within: Period(Duration::from_secs(3600)),
        };
        let now = Wall::from_secs(1_700_000_000);
        let age = |updated: Value| {
            let fields = json!({"threat": {"feed": {"updated": updated}}});
            fresh.age(fields.as_object(), now)
        };
        assert_eq!(age(json!("2023-11-14T22:03:20Z")), Ok(600.0));
        assert_eq!(age(json!("2023-11-15T00:03:20+02:00")), Ok(600.0));
        assert_eq!(age(json!(1_699_999_400)), Ok(600.0));
        assert_eq!(age(json!(1_699_999_400_000_i64)), Ok(600.0));
        assert_eq!(age(json!("1699999400")), Ok(600.0));
        assert_eq!(age(json!(1_700_000_030)), Ok(0.0), "its clock may be ahead");
        for wrong in [json!(null), json!("yesterday"), json!(""), json!([1]), json!(1_800_000_000)]
        {
            assert!(age(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(fresh.age(None, now).is_err());
        assert_eq!(fresh.stale(3600.0), None);
        assert!(fresh.stale(3601.0).unwrap().contains("threat.feed.updated"));
    }
}
