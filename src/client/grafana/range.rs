//! From when to when a panel looks, and in which steps.

use std::time::Duration;

use serde_json::Value;

use crate::time::Wall;

/// In milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) from: i64,
    pub(super) to: i64,
}

/// The steps that Grafana rounds to, each with the size below which it is taken.
const STEPS: &[(f64, u64)] = &[
    (10.0, 1),
    (15.0, 10),
    (35.0, 20),
    (75.0, 50),
    (150.0, 100),
    (350.0, 200),
    (750.0, 500),
    (1500.0, 1000),
    (3500.0, 2000),
    (7500.0, 5000),
    (12_500.0, 10_000),
    (17_500.0, 15_000),
    (25_000.0, 20_000),
    (45_000.0, 30_000),
    (90_000.0, 60_000),
    (210_000.0, 120_000),
    (450_000.0, 300_000),
    (750_000.0, 600_000),
    (1_050_000.0, 900_000),
    (1_500_000.0, 1_200_000),
    (2_700_000.0, 1_800_000),
    (5_400_000.0, 3_600_000),
    (9_000_000.0, 7_200_000),
    (16_200_000.0, 10_800_000),
    (32_400_000.0, 21_600_000),
    (86_400_000.0, 43_200_000),
    (604_800_000.0, 86_400_000),
    (1_814_400_000.0, 604_800_000),
    (3_628_800_000.0, 2_592_000_000),
];
const YEAR: u64 = 31_536_000_000;

impl Range {
    /// So far back from now.
    pub(super) fn back(now: Wall, back: Duration) -> Self {
        let millis = |at: Wall| at.0.div_euclid(1_000_000);
        Self { from: millis(now.minus(back)), to: millis(now) }
    }

    /// What the panel shows: its own range, else the dashboard's, shifted where it is. The error says
    /// what of it is not relative to now.
    pub(super) fn of(dashboard: &Value, panel: &Value, now: Wall) -> Result<Self, String> {
        let text = |owner: Option<&Value>, key: &str| {
            let text = owner.and_then(|owner| owner.get(key)).and_then(Value::as_str);
            text.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let time = dashboard.get("time");
        let delay = match text(dashboard.get("timepicker"), "nowDelay") {
            Some(delay) => period(&delay).ok_or_else(|| format!("the delay {delay:?}"))?,
            None => Duration::ZERO,
        };
        let back = |text: &str| {
            let bare = text.strip_prefix("now").and_then(|rest| match rest {
                "" => Some(Duration::ZERO),
                rest => period(rest.strip_prefix('-')?),
            });
            bare.ok_or_else(|| format!("the range {text:?} is not relative to now; give `from`"))
        };
        let now = now.minus(delay);
        let (from, to) = match text(Some(panel), "timeFrom") {
            Some(own) => {
                let own = own.strip_prefix("now-").map_or(own.clone(), str::to_owned);
                (back(&format!("now-{own}"))?, Duration::ZERO)
            }
            None => (
                back(&text(time, "from").unwrap_or_else(|| "now-6h".into()))?,
                back(&text(time, "to").unwrap_or_else(|| "now".into()))?,
            ),
        };
        let shift = shift(panel)?;
        let at = |back: Duration| Self::back(now, back + shift).from;
        Ok(Self { from: at(from), to: at(to) })
    }

    /// The step in which so many points are shown, in milliseconds: none below the least.
    pub(super) fn step(&self, points: u64, least: Option<Duration>) -> u64 {
        let even = (self.to - self.from) as f64 / points.max(1) as f64;
        let step = STEPS.iter().find(|(below, _)| even < *below).map_or(YEAR, |(_, step)| *step);
        let least = least.map_or(1, |least| u64::try_from(least.as_millis()).unwrap_or(u64::MAX));
        step.max(least)
    }
}

/// How far back a panel shifts what it is asked for.
pub(super) fn shift(panel: &Value) -> Result<Duration, String> {
    let shift = panel.get("timeShift").and_then(Value::as_str).filter(|shift| !shift.is_empty());
    shift.map_or(Ok(Duration::ZERO), |shift| {
        period(shift)
            .ok_or_else(|| format!("the panel is shifted in time by {shift:?}, which is no period"))
    })
}

/// A period as Grafana writes them: one number, one unit; `>` before it means "at least".
pub(super) fn period(text: &str) -> Option<Duration> {
    let text = text.trim_start_matches(">=").trim_start_matches('>');
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" | "" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        "w" => 604_800_000,
        "M" => 2_592_000_000,
        "y" => YEAR,
        _ => return None,
    };
    Some(Duration::from_millis(number.checked_mul(unit_ms)?)).filter(|period| !period.is_zero())
}

/// A step as `$__interval` writes it: in the greatest unit that it reaches.
pub(super) fn written(millis: u64) -> String {
    let units =
        [(YEAR, "y"), (86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s"), (1, "ms")];
    let unit = units.iter().find(|(size, _)| millis >= *size);
    unit.map_or_else(|| "0s".into(), |(size, unit)| format!("{}{unit}", millis / size))
}
