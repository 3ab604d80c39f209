//! What a Prometheus would have scraped of generated series, as OpenMetrics text.

use std::collections::BTreeMap;
use std::fmt::Write;

use greenlight::catalogue::Kind;
use greenlight::catalogue::agent::CHECK_SUCCESS;
use greenlight::gate::promql::Boundaries;
use greenlight::journey::Fate;
use greenlight::series::Value;

use super::END;
use super::generated::{Attempt, Generated, Source, Sums, Target, scrapes};

/// The scraped text, family by family.
#[derive(Default)]
pub(super) struct Scraped {
    families: BTreeMap<&'static str, (&'static str, String)>,
    pub(super) samples: usize,
}

impl Scraped {
    fn line(
        &mut self,
        family: &'static str,
        kind: &'static str,
        labels: &str,
        value: f64,
        at: f64,
    ) {
        let (_, text) = self.families.entry(family).or_insert((kind, String::new()));
        writeln!(text, "{labels} {value} {at:.3}").unwrap();
        self.samples += 1;
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for (family, (kind, lines)) in &self.families {
            writeln!(text, "# TYPE {family} {kind}").unwrap();
            text.push_str(lines);
        }
        text.push_str("# EOF\n");
        text
    }

    pub(super) fn add(&mut self, one: &Generated, extra: &Boundaries) {
        let place = format!("job=\"greenlight\",instance=\"i{}\"", one.instance);
        let at = scrapes(one.instance, one.since, END);
        match &one.source {
            Source::Check(targets) => {
                for target in targets {
                    let labels =
                        format!("check=\"{}\",target=\"{}\",{place}", one.check, target.name);
                    self.target(one, target, &labels, &at, extra);
                }
            }
            Source::Journey(rounds) => {
                let labels = format!("journey=\"{}\",stage=\"stored\",{place}", one.check);
                for fate in Fate::ALL {
                    let word = fate.word();
                    let count = |to: f64| {
                        rounds
                            .iter()
                            .filter(|round| round.at <= to)
                            .map(|round| {
                                round
                                    .fates
                                    .iter()
                                    .filter(|(f, _)| *f == fate)
                                    .map(|(_, n)| *n)
                                    .sum::<u64>()
                            })
                            .sum::<u64>()
                    };
                    let line =
                        format!("greenlight_journey_events_total{{{labels},fate=\"{word}\"}}");
                    for at in at.iter().filter(|at| count(**at) > 0) {
                        self.line(
                            "greenlight_journey_events",
                            "counter",
                            &line,
                            count(*at) as f64,
                            *at,
                        );
                    }
                }
                let line = format!("greenlight_journey_duplicates_total{{{labels}}}");
                for at in &at {
                    let count: u64 = rounds
                        .iter()
                        .filter(|round| round.at <= *at)
                        .map(|round| round.duplicate)
                        .sum();
                    if count > 0 {
                        self.line(
                            "greenlight_journey_duplicates",
                            "counter",
                            &line,
                            count as f64,
                            *at,
                        );
                    }
                }
            }
        }
    }

    /// As the agent exports it: a series is there from its first event on.
    fn target(
        &mut self,
        one: &Generated,
        target: &Target,
        labels: &str,
        at: &[f64],
        extra: &Boundaries,
    ) {
        let metric = one.metric();
        let base: &[f64] = match metric.kind {
            Kind::Histogram(base) => base,
            _ => &[],
        };
        // Of the many boundaries those that could be mistaken for the one that is asked.
        let named = extra.get(metric.name).cloned().unwrap_or_default();
        let mut boundaries: Vec<f64> = base.iter().copied().chain(named).collect();
        boundaries.sort_by(f64::total_cmp);
        let near = boundaries.iter().position(|b| *b >= one.edge()).unwrap_or(0);
        let shown = &boundaries[near.saturating_sub(1)..(near + 2).min(boundaries.len())];

        // The counters at each scrape, counted on from the one before.
        let mut attempted: Vec<&Attempt> = target.attempts.iter().collect();
        attempted.sort_by(|one, other| one.seen.total_cmp(&other.seen));
        let mut next = attempted.into_iter().peekable();
        let mut counters = Sums::default();
        let mut buckets = vec![0_u64; shown.len()];
        let mut reset = target.reset;
        let mut sums = Vec::new();
        for at in at {
            while let Some(attempt) = next.next_if(|attempt| attempt.seen <= *at) {
                if reset.is_some_and(|reset| attempt.seen > reset) {
                    counters = Sums::default();
                    buckets.fill(0);
                    reset = None;
                }
                counters.attempts += 1.0;
                for value in &attempt.values {
                    match value {
                        Value::Number(number) => {
                            counters.numbers += 1.0;
                            counters.sum += number;
                            for (count, boundary) in buckets.iter_mut().zip(shown) {
                                *count += u64::from(number <= boundary);
                            }
                        }
                        Value::Failed => counters.failed += 1.0,
                        Value::Inconclusive => counters.inconclusive += 1.0,
                        Value::Nothing => {}
                    }
                }
            }
            sums.push((*at, counters, buckets.clone()));
        }
        let attempts = format!("greenlight_check_attempts_total{{{labels}}}");
        let failures = format!("greenlight_check_failures_total{{{labels},reason=\"timeout\"}}");
        let blind = format!("greenlight_check_inconclusive_total{{{labels},fault=\"blind\"}}");
        for (lines, family, value) in [
            (&attempts, "greenlight_check_attempts", (|s| s.attempts) as fn(&Sums) -> f64),
            (&failures, "greenlight_check_failures", |s| s.failed),
            (&blind, "greenlight_check_inconclusive", |s| s.inconclusive),
        ] {
            for (at, sums, _) in sums.iter().filter(|(_, sums, _)| value(sums) > 0.0) {
                self.line(family, "counter", lines, value(sums), *at);
            }
        }
        if metric == &CHECK_SUCCESS {
            return;
        }
        let family = metric.name;
        for (place, boundary) in shown.iter().enumerate() {
            let line = format!("{family}_bucket{{{labels},le=\"{boundary:?}\"}}");
            for (at, _, buckets) in sums.iter().filter(|(_, sums, _)| sums.numbers > 0.0) {
                self.line(family, "histogram", &line, buckets[place] as f64, *at);
            }
        }
        for (suffix, value) in [("count", (|s| s.numbers) as fn(&Sums) -> f64), ("sum", |s| s.sum)]
        {
            let line = format!("{family}_{suffix}{{{labels}}}");
            for (at, sums, _) in sums.iter().filter(|(_, sums, _)| sums.numbers > 0.0) {
                self.line(family, "histogram", &line, value(sums), *at);
            }
        }
    }
}
