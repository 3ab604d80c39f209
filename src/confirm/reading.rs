//! A number that is read somewhere and must be the expected one.

use serde_json::Value;

use crate::journey::Arrival;
use crate::spec::trace::Trace;
use crate::time::Mono;

/// Under this key of the mark stands what the last look saw instead of what was expected, so that
/// it can be told when the round is given up.
pub const SAW: &str = "saw";

/// Floating point adds up a sum of small numbers no better than this.
const ROUNDING: f64 = 1e-9;

pub(super) fn check_tolerance(tolerance: f64) -> Result<(), String> {
    if tolerance.is_finite() && tolerance >= 0.0 {
        return Ok(());
    }
    Err(format!("`tolerance` is {tolerance}, and should be 0 or more"))
}

/// One reading that is as expected. It is one thing however often it is looked at.
pub(super) fn arrival() -> Arrival {
    Arrival {
        seq: None,
        copy: "reading".into(),
        seen: Mono::now(),
        order: None,
        text: None,
        fields: None,
        ended: false,
        dead_letter: false,
        stamped: None,
        wrong: None,
    }
}

/// An arrival where the value is the expected one; where it is not (yet), what was seen is
/// remembered.
pub(super) fn compare(
    value: f64,
    expected: f64,
    tolerance: f64,
    mark: &mut Value,
    trace: &Trace,
) -> Vec<Arrival> {
    if is(value, expected, tolerance) {
        trace.note(format_args!("it shows {value}, as expected"));
        return vec![arrival()];
    }
    remember(mark, &format!("it shows {value} instead of {expected}"), trace);
    Vec::new()
}

/// Whether a value is the expected one.
pub(super) fn is(value: f64, expected: f64, tolerance: f64) -> bool {
    (value - expected).abs() <= tolerance + ROUNDING * expected.abs().max(1.0)
}

/// Keeps what was seen instead, beside whatever else the mark holds.
pub(super) fn remember(mark: &mut Value, saw: &str, trace: &Trace) {
    trace.note(format_args!("{saw}"));
    keep(mark, SAW, saw.into());
}

/// Puts something under a key of a mark.
pub(super) fn keep(mark: &mut Value, key: &str, value: Value) {
    if !mark.is_object() {
        *mark = Value::Object(serde_json::Map::new());
    }
    if let Some(mark) = mark.as_object_mut() {
        mark.insert(key.into(), value);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_reading_arrives_when_it_is_the_expected_one() {
        let mut mark = json!({"before": 3.0});
        let see = |value, tolerance, mark: &mut Value| {
            compare(value, 97.0, tolerance, mark, &Trace::off()).len()
        };
        assert_eq!(see(f64::NAN, 0.0, &mut mark), 0);
        assert_eq!(see(96.0, 0.5, &mut mark), 0);
        assert_eq!(mark, json!({"before": 3.0, "saw": "it shows 96 instead of 97"}));
        assert_eq!(see(96.5, 0.5, &mut mark), 1);
        assert_eq!(see(97.0, 0.0, &mut mark), 1);
        assert_eq!(see(98.0, 0.0, &mut mark), 0, "too many is not as expected either");
        let mut none = Value::Null;
        assert_eq!(see(0.0, 0.0, &mut none), 0);
        assert_eq!(none["saw"], "it shows 0 instead of 97");
        assert!(check_tolerance(-1.0).is_err() && check_tolerance(f64::NAN).is_err());
    }
}
