//! The same criterion asked of Prometheus, from the raw histograms and counters: a second opinion
//! that does not go through the agent's own samples. Where PromQL can't say it, the reason.
//!
//! It agrees with the agent's verdict whenever the window is fully covered, holds no reset, and
//! the value is further from the threshold than Prometheus' extrapolation can move it. It answers
//! 1 (holds) or 0, and asks the worst target of each agent, as the agent does.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Bound, Criterion, Function, Gate, Requirement, Subject};
use crate::catalogue::agent::{CHECK_ATTEMPTS, CHECK_FAILURES, CHECK_INCONCLUSIVE, CHECK_SUCCESS};
use crate::catalogue::journey::{DUPLICATES, EVENTS};
use crate::catalogue::{Kind, Metric};
use crate::journey::Stage;
use crate::series::{LabelNames, Selection};

/// Boundaries that gates add to a metric's own: every one is a series more for each target.
pub const EXTRA_LIMIT: usize = 8;

/// What did not arrive, as a gate on loss counts it, and what nobody knows.
const GONE: &str = "dead_lettered|lost|refused";
const UNDECIDED: &str = "inconclusive|unknown";

/// Extra boundaries by the metric's name, ascending.
pub type Boundaries = BTreeMap<&'static str, Vec<f64>>;

/// The thresholds that these gates ask of histograms and that are no base boundary: the first
/// eight of each metric, in the order of the gates.
pub fn extra_boundaries<'a>(gates: impl IntoIterator<Item = &'a Gate>) -> Boundaries {
    let mut extra = Boundaries::new();
    for criterion in gates.into_iter().flat_map(|gate| gate.require.criteria()) {
        let Subject::Series(selection) = &criterion.subject else { continue };
        let Kind::Histogram(base) = selection.metric.kind else { continue };
        let counted =
            matches!(criterion.function, Function::Quantile(_) | Function::Max | Function::Min);
        let Some(limit) = criterion.fails().or(criterion.warn).map(edge) else { continue };
        if !counted || !limit.is_finite() || base.contains(&limit) {
            continue;
        }
        let list = extra.entry(selection.metric.name).or_default();
        if list.len() < EXTRA_LIMIT && !list.contains(&limit) {
            list.push(limit);
        }
    }
    for list in extra.values_mut() {
        list.sort_by(f64::total_cmp);
    }
    extra
}

/// The boundary that tells the sides of a threshold apart. A histogram counts what is at or below
/// a boundary: for "at or above" that is the largest number below the threshold.
fn edge(bound: Bound) -> f64 {
    match bound {
        Bound::Below(limit) => limit,
        Bound::Above(limit) => limit.next_down(),
    }
}

/// The PromQL of a whole gate.
pub fn promql(gate: &Gate, extra: &Boundaries) -> Result<String, String> {
    requirement(&gate.require, extra)
}

fn requirement(require: &Requirement, extra: &Boundaries) -> Result<String, String> {
    let all = |parts: &[Requirement]| -> Result<Vec<String>, String> {
        let parts =
            parts.iter().map(|part| requirement(part, extra).map(|text| format!("({text})")));
        parts.collect()
    };
    match require {
        Requirement::Criterion(one) | Requirement::Elsewhere { criterion: one, .. } => {
            criterion(one, extra)
        }
        Requirement::All(parts) => Ok(all(parts)?.join(" * ")),
        Requirement::Any(parts) => Ok(format!("clamp_max({}, 1)", all(parts)?.join(" + "))),
        Requirement::Missing(what) => Err(format!("not measured yet: {what}")),
    }
}

/// The PromQL of one criterion.
pub fn criterion(criterion: &Criterion, extra: &Boundaries) -> Result<String, String> {
    if criterion.stable_for.is_some() {
        return Err("prometheus does not know since when it has held without interruption".into());
    }
    if criterion.clears.is_some() {
        return Err("prometheus does not know whether it failed before and has not cleared".into());
    }
    if criterion.during.is_some() {
        return Err("during load: prometheus does not know when a load was on".into());
    }
    let Some(bound) = criterion.fails().or(criterion.warn) else {
        return Err("the criterion has no threshold".into());
    };
    if !bound.limit().is_finite() {
        return Err("the threshold is no finite number".into());
    }
    match &criterion.subject {
        Subject::Series(selection) => Asking::new(criterion, selection)?.series(bound, extra),
        Subject::Journey { journey, stage } => events(criterion, journey, *stage, bound),
    }
}

/// One criterion on one metric, and the ways to put it.
struct Asking<'a> {
    criterion: &'a Criterion,
    metric: &'static Metric,
    names: LabelNames,
    matchers: Vec<String>,
    window: String,
}

impl<'a> Asking<'a> {
    fn new(criterion: &'a Criterion, selection: &Selection) -> Result<Self, String> {
        let names = LabelNames::of(selection.metric);
        let part = selection.resolved();
        let mut matchers = Vec::new();
        for (name, value) in [(names.check, part.check), (names.target, part.target)] {
            if let (Some(name), Some(value)) = (name, value) {
                matchers.push(format!("{name}={}", quoted(value)));
            }
        }
        for (name, value) in part.rest {
            if !names.rest.contains(&name) {
                return Err(format!("{} has no label {name}", selection.metric.name));
            }
            matchers.push(format!("{name}={}", quoted(value)));
        }
        let over = match (criterion.function, criterion.fails().or(criterion.warn)) {
            (Function::Fresh, Some(bound)) => {
                Duration::try_from_secs_f64(bound.limit()).map_err(|_| "the age is no duration")?
            }
            _ => criterion.over,
        };
        let window = window(over)?;
        Ok(Self { criterion, metric: selection.metric, names, matchers, window })
    }

    fn series(&self, bound: Bound, extra: &Boundaries) -> Result<String, String> {
        let success = self.metric == &CHECK_SUCCESS;
        match (self.criterion.function, self.metric.kind) {
            (Function::Absent, _) => {
                Err("in prometheus, no sample and no agent look the same".into())
            }
            (Function::Ratio, _) if success => self.success_ratio(bound),
            (Function::Fresh, _) if success => Ok(format!(
                "min({} - {} - {}) > bool 0.5",
                self.attempts(),
                self.failed()?,
                self.inconclusive()
            )),
            (Function::Last, Kind::Gauge) => Ok(self.last(bound)),
            (Function::Increase, Kind::Counter) => {
                let growth = self
                    .per_target(&format!("increase({})", self.ranged(self.metric.name, "")), "");
                let holds = worst(bound, &growth, bound.limit());
                self.and_none_failed(holds)
            }
            (Function::Fresh, Kind::Histogram(_)) => {
                let count =
                    grown(&self.instant(&format!("{}_count", self.metric.name), ""), &self.window);
                Ok(format!("min({}) > bool 0", self.filled(&count, "")))
            }
            (_, Kind::Histogram(base)) => self.histogram(bound, base, extra),
            (_, Kind::Gauge) => {
                Err("prometheus sees a gauge only when it scrapes, not between".into())
            }
            (_, Kind::Counter) => Err("of a counter only its growth can be asked".into()),
        }
    }

    fn histogram(&self, bound: Bound, base: &[f64], extra: &Boundaries) -> Result<String, String> {
        let limit = bound.limit();
        let name = self.metric.name;
        let count =
            self.filled(&format!("increase({})", self.ranged(&format!("{name}_count"), "")), "");
        let sum =
            self.filled(&format!("increase({})", self.ranged(&format!("{name}_sum"), "")), "");
        let failed = self.failed()?;
        let plus_failed = |one: &str| match failed.as_str() {
            "0" => one.to_owned(),
            failed => format!("({one} + {}{failed})", self.many_to_one()),
        };
        // How many samples are on the lower side of the threshold: only a boundary can tell.
        let edge = edge(bound);
        let lower = || {
            let named = extra.get(name).is_some_and(|list| list.contains(&edge));
            if !named && !base.contains(&edge) {
                return Err(format!(
                    "{name} has no boundary at {edge}: gates name more than {EXTRA_LIMIT} thresholds of it"
                ));
            }
            let le = format!("le=~{}", quoted(&boundary(edge)));
            Ok(self.filled(
                &format!("increase({})", self.ranged(&format!("{name}_bucket"), &le)),
                "le",
            ))
        };
        // Extrapolated counts are no whole numbers: more than half a sample is one.
        match (self.criterion.function, bound) {
            (Function::Quantile(q), Bound::Below(_)) => {
                Ok(format!("min({} / {}) >= bool {q}", lower()?, plus_failed(&count)))
            }
            (Function::Quantile(q), Bound::Above(_)) => {
                let lower = plus_failed(&lower()?);
                Ok(format!("max({lower} / {}) < bool {q}", plus_failed(&count)))
            }
            (Function::Max, Bound::Below(_)) => {
                Ok(format!("max({} - {}) < bool 0.5", plus_failed(&count), lower()?))
            }
            (Function::Max, Bound::Above(_)) => {
                Ok(format!("min({count} - {}) > bool 0.5", lower()?))
            }
            (Function::Min, Bound::Below(_)) => Ok(format!("min({}) > bool 0.5", lower()?)),
            (Function::Min, Bound::Above(_)) => {
                Ok(format!("max({}) < bool 0.5", plus_failed(&lower()?)))
            }
            (Function::Mean, _) => {
                let holds = worst(bound, &format!("{sum} / {count}"), limit);
                self.and_none_failed(holds)
            }
            (Function::Ratio, _) => {
                let top = match bound {
                    Bound::Below(_) => plus_failed(&sum),
                    Bound::Above(_) => sum,
                };
                Ok(worst(bound, &format!("{top} / {}", plus_failed(&count)), limit))
            }
            _ => Err(format!("this can't be asked of the histogram {name}")),
        }
    }

    /// Failed attempts of those that could tell.
    fn success_ratio(&self, bound: Bound) -> Result<String, String> {
        if matches!(bound, Bound::Below(_)) {
            return Err("a failed attempt is the worst sample for either bound".into());
        }
        let share =
            format!("1 - {} / ({} - {})", self.failed()?, self.attempts(), self.inconclusive());
        Ok(worst(bound, &share, bound.limit()))
    }

    fn last(&self, bound: Bound) -> String {
        let holds = worst(bound, &self.instant(self.metric.name, ""), bound.limit());
        if self.metric == &CHECK_SUCCESS || self.names.check != Some("check") {
            return holds;
        }
        let success = self.instant_of_check(CHECK_SUCCESS.name);
        format!("({holds}) * (min({success}) == bool 1)")
    }

    fn and_none_failed(&self, holds: String) -> Result<String, String> {
        Ok(match self.failed()?.as_str() {
            "0" => holds,
            failed => format!("({holds}) * (max({failed}) < bool 0.5)"),
        })
    }

    /// Attempts in the window.
    fn attempts(&self) -> String {
        let attempts =
            format!("increase({}[{}])", self.instant_of_check(CHECK_ATTEMPTS.name), self.window);
        if self.criterion.pooled { pooled(&attempts) } else { attempts }
    }

    fn inconclusive(&self) -> String {
        let series = self.instant_of_check(CHECK_INCONCLUSIVE.name);
        format!(
            "({} or 0 * {})",
            self.per_target(&grown(&series, &self.window), "fault"),
            self.attempts()
        )
    }

    /// Failed attempts in the window, each a sample beyond the threshold; `0` where attempts of
    /// this metric can't fail (the node's own).
    fn failed(&self) -> Result<String, String> {
        match self.names.check {
            Some("check") => {
                let series = self.instant_of_check(CHECK_FAILURES.name);
                let failed = self.per_target(&grown(&series, &self.window), "reason");
                Ok(format!("({failed} or 0 * {})", self.attempts()))
            }
            Some("journey") => {
                let fates = |fates: &str| {
                    self.per_target(&grown(&self.instant(EVENTS.name, fates), &self.window), "fate")
                };
                let gone = fates(&format!("fate=~\"{GONE}\""));
                Ok(format!("({gone} or 0 * {})", fates("")))
            }
            _ => Ok("0".into()),
        }
    }

    /// One value a target and agent, or one an agent where all targets are taken together.
    fn per_target(&self, expression: &str, without: &str) -> String {
        if self.criterion.pooled {
            pooled(expression)
        } else if without.is_empty() {
            expression.to_owned()
        } else {
            format!("sum without ({without}) ({expression})")
        }
    }

    /// The same, and zero for a target that was attempted and never yielded a sample: without it
    /// a dead target would be no target.
    fn filled(&self, expression: &str, without: &str) -> String {
        let found = self.per_target(expression, without);
        match self.names.check {
            Some("check") if self.names.rest.is_empty() || self.criterion.pooled => {
                format!("({found} or 0 * {})", self.attempts())
            }
            _ => found,
        }
    }

    /// How the failed attempts of a target join each of its series.
    fn many_to_one(&self) -> String {
        if self.names.rest.is_empty() || self.criterion.pooled {
            String::new()
        } else {
            format!("ignoring ({}) group_left () ", self.names.rest.join(", "))
        }
    }

    fn instant(&self, name: &str, more: &str) -> String {
        let mut matchers = self.matchers.clone();
        matchers.extend((!more.is_empty()).then(|| more.to_owned()));
        if matchers.is_empty() {
            name.to_owned()
        } else {
            format!("{name}{{{}}}", matchers.join(","))
        }
    }

    fn ranged(&self, name: &str, more: &str) -> String {
        format!("{}[{}]", self.instant(name, more), self.window)
    }

    /// A metric of the check itself, which has no further labels to select by.
    fn instant_of_check(&self, name: &str) -> String {
        let own =
            |matcher: &&String| matcher.starts_with("check=") || matcher.starts_with("target=");
        let matchers: Vec<&str> = self.matchers.iter().filter(own).map(String::as_str).collect();
        if matchers.is_empty() {
            name.to_owned()
        } else {
            format!("{name}{{{}}}", matchers.join(","))
        }
    }
}

fn events(
    criterion: &Criterion,
    journey: &str,
    stage: Option<Stage>,
    bound: Bound,
) -> Result<String, String> {
    let window = window(criterion.over)?;
    let limit = bound.limit();
    let of = |name: &str, fates: &str| {
        let stage = stage.map(|stage| format!(",stage=\"{}\"", stage.word())).unwrap_or_default();
        let fates = if fates.is_empty() { String::new() } else { format!(",{fates}") };
        grown(&format!("{name}{{journey={}{stage}{fates}}}", quoted(journey)), &window)
    };
    let sum = |fates: &str| format!("sum without (fate) ({})", of(EVENTS.name, fates));
    let decided = sum(&format!("fate!~\"{UNDECIDED}\""));
    let share = |fates: &str| format!("({} or 0 * {decided}) / {decided}", sum(fates));
    match criterion.function {
        Function::Loss => Ok(worst(bound, &share(&format!("fate=~\"{GONE}\"")), limit)),
        Function::Complete => Ok(worst(bound, &share("fate=\"ok\""), limit)),
        Function::Duplicates => {
            let copies = of(DUPLICATES.name, "");
            Ok(worst(bound, &format!("({copies} or 0 * {decided})"), limit))
        }
        _ => Err("this can't be asked of a journey's counts".into()),
    }
}

/// Whether the worst of all holds.
fn worst(bound: Bound, expression: &str, limit: f64) -> String {
    match bound {
        Bound::Below(_) => format!("max({expression}) <= bool {limit}"),
        Bound::Above(_) => format!("min({expression}) >= bool {limit}"),
    }
}

fn pooled(expression: &str) -> String {
    format!("sum by (job, instance) ({expression})")
}

/// How much a counter grew, that of a series which was born in the window included: a reason or a
/// fate appears with its first event, and `increase` never sees that one.
fn grown(series: &str, window: &str) -> String {
    format!(
        "((increase({series}[{window}]) and {series} offset {window}) or ({series} unless {series} offset {window}))"
    )
}

/// A boundary as a regular expression over the ways to write it: Prometheus 3 stores `le="1"` as
/// `"1.0"`, and very small or large ones have an exponent or not.
fn boundary(limit: f64) -> String {
    let plain = limit.to_string().replace('.', "[.]");
    let short = format!("{limit:?}").replace('.', "[.]");
    if !short.contains('e') && limit.fract() == 0.0 {
        format!("{plain}([.]0)?")
    } else if short == plain {
        plain
    } else {
        format!("{short}|{plain}")
    }
}

/// A string in PromQL's double quotes.
pub fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for letter in text.chars() {
        match letter {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(letter);
            }
            '\n' => quoted.push_str("\\n"),
            letter if letter.is_control() => quoted.push_str(&format!("\\u{:04x}", letter as u32)),
            letter => quoted.push(letter),
        }
    }
    quoted.push('"');
    quoted
}

/// A range in the largest unit that divides it.
pub fn window(over: Duration) -> Result<String, String> {
    let millis = over.as_millis();
    if millis == 0 {
        return Err("a range of no time can't be asked".into());
    }
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s"), (1, "ms")];
    let whole = units.into_iter().find(|(unit, _)| millis.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or((1, "ms"));
    Ok(format!("{}{name}", millis / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::journey::STAGE_LATENCY;
    use crate::catalogue::node::CPU_SECONDS;
    use crate::catalogue::probe::ICMP_RTT;
    use crate::gate::During;

    fn of(function: Function, metric: &'static Metric, fail: Bound) -> Criterion {
        Criterion {
            function,
            subject: Subject::Series(Selection::all(metric)),
            over: Duration::from_secs(900),
            at_least: 1,
            fail: Some(fail),
            warn: None,
            clears: None,
            stable_for: None,
            pooled: false,
            during: None,
        }
    }

    #[test]
    fn what_promql_cannot_say_has_a_reason() {
        use Bound::{Above, Below};
        let ask = |criterion: &Criterion| super::criterion(criterion, &Boundaries::new());
        let p99 = of(Function::Quantile(0.99), &ICMP_RTT, Below(0.005));
        assert!(ask(&p99).is_ok());
        let stable_for = Some(Duration::from_secs(60));
        for (criterion, why) in [
            (Criterion { stable_for, ..p99.clone() }, "without interruption"),
            (Criterion { clears: Some(Below(0.004)), ..p99.clone() }, "cleared"),
            (Criterion { fail: None, ..p99.clone() }, "no threshold"),
            (Criterion { during: Some(During::Load), ..p99.clone() }, "during load"),
            (of(Function::Quantile(0.99), &ICMP_RTT, Below(0.007)), "no boundary"),
            (of(Function::Quantile(0.01), &ICMP_RTT, Above(0.005)), "no boundary"),
            (of(Function::Absent, &ICMP_RTT, Below(0.0)), "no agent"),
            (of(Function::Last, &ICMP_RTT, Below(0.005)), "can't be asked"),
            (of(Function::Mean, &CHECK_SUCCESS, Above(0.9)), "only when it scrapes"),
            (of(Function::Ratio, &CHECK_SUCCESS, Below(0.9)), "worst sample"),
            (of(Function::Mean, &CPU_SECONDS, Below(1.0)), "growth"),
            (Criterion { over: Duration::ZERO, ..p99 }, "no time"),
        ] {
            let said = ask(&criterion).expect_err(why);
            assert!(said.contains(why), "{said}");
        }
    }

    #[test]
    fn labels_are_those_of_the_metric_and_leave_no_quote() {
        let select = |metric, check: &str, target: &str| Criterion {
            subject: Subject::Series(Selection {
                check: Some(check.to_owned()),
                target: Some(target.to_owned()),
                ..Selection::all(metric)
            }),
            ..of(Function::Max, metric, Bound::Below(1.0))
        };
        let none = Boundaries::new();
        let text = criterion(&select(&STAGE_LATENCY, "ssh", "stored"), &none).unwrap();
        assert!(text.contains(r#"{journey="ssh",stage="stored",le=~"1([.]0)?"}"#), "{text}");
        let text = criterion(&select(&ICMP_RTT, "a\"} or up{", "t\\"), &none).unwrap();
        assert!(text.contains(r#"{check="a\"} or up{",target="t\\"}"#), "{text}");
        let growth = Criterion {
            function: Function::Increase,
            ..select(&CPU_SECONDS, crate::series::NODE_CHECK, "0")
        };
        let text = criterion(&growth, &none).unwrap();
        assert_eq!(
            text,
            r#"max(increase(greenlight_node_cpu_seconds_total{cpu="0"}[15m])) <= bool 1"#
        );
    }

    #[test]
    fn at_most_eight_thresholds_become_boundaries() {
        let gates: Vec<Gate> = (1..20_u8)
            .map(|n| Gate {
                id: n.to_string(),
                title: String::new(),
                level: super::super::Level::Mandatory,
                require: Requirement::Criterion(of(
                    Function::Quantile(0.99),
                    &ICMP_RTT,
                    Bound::Below(f64::from(n) / 100.0),
                )),
                when: None,
                refs: Vec::new(),
                why: None,
                fix: None,
                waivable: true,
                max_inconclusive: 0.05,
            })
            .collect();
        let extra = extra_boundaries(&gates);
        // 0.01, 0.05 and 0.1 are base boundaries.
        assert_eq!(extra[ICMP_RTT.name], [0.02, 0.03, 0.04, 0.06, 0.07, 0.08, 0.09, 0.11]);
        let asked = gates.iter().filter(|gate| promql(gate, &extra).is_ok()).count();
        assert_eq!(asked, 8 + 3);
    }

    #[test]
    fn ranges_and_boundaries_are_written_as_prometheus_reads_them() {
        for (millis, text) in
            [(900_000, "15m"), (90_000, "90s"), (86_400_000, "1d"), (1_500, "1500ms")]
        {
            assert_eq!(window(Duration::from_millis(millis)).unwrap(), text);
        }
        for (limit, text) in [(1.0, "1([.]0)?"), (0.005, "0[.]005"), (1e-7, "1e-7|0[.]0000001")] {
            assert_eq!(boundary(limit), text);
        }
    }
}
