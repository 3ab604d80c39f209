//! The agent's verdicts against Prometheus' own answers, over thousands of generated series: what
//! the agent judged from its samples, a real Prometheus is asked of what it scraped.
//!
//! Each series is scraped every 15 s into OpenMetrics text, which promtool makes blocks of, and
//! Prometheus answers over those blocks at the instant at which the agent judged.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use greenlight::catalogue::Metric;
use greenlight::catalogue::agent::CHECK_SUCCESS;
use greenlight::catalogue::probe::{ICMP_LOSS, ICMP_RTT};
use greenlight::gate::promql::{extra_boundaries, promql};
use greenlight::gate::{
    self, Bound, Criterion, Evidence, Function, Gate, Level, Requirement, Selection, Standing,
    Subject, Verdict,
};
use greenlight::journey::{Fate, Stage};
use greenlight::series::{Cadence, JourneyRecord, RoundPoint, StageCount, TrackKey, Tracks, Value};
use greenlight::time::{Mono, Now, Wall};

use crate::peers::{self, Process, folder, free_port, promtool};

/// How many series are generated.
const SERIES: usize = 3_000;
const SCRAPE: f64 = 15.0;
/// The instant of judging and asking, in seconds since 1970.
const END: f64 = 1_700_000_000.0;

/// A small generator (splitmix64), so that a failure can be run again.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.unit()
    }
    fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }
    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[(self.next() % list.len() as u64) as usize]
    }
}

/// One attempt: when it began, when its counters had moved, what it left.
struct Attempt {
    at: f64,
    seen: f64,
    values: Vec<Value>,
}

struct Target {
    name: String,
    attempts: Vec<Attempt>,
    /// Counters begin anew here.
    reset: Option<f64>,
}

struct Round {
    at: f64,
    fates: Vec<(Fate, u64)>,
    duplicate: u64,
}

enum Source {
    Check(Vec<Target>),
    Journey(Vec<Round>),
}

/// One generated series with its gate.
struct Generated {
    check: String,
    instance: usize,
    interval: f64,
    since: f64,
    window: f64,
    source: Source,
    gate: Gate,
}

/// What a window of a target holds, as far as any criterion asks.
#[derive(Clone, Copy, Default)]
struct Sums {
    numbers: f64,
    below: f64,
    sum: f64,
    failed: f64,
    attempts: f64,
    inconclusive: f64,
}

fn phase(instance: usize) -> f64 {
    [0.5, 4.25, 9.0, 13.75][instance]
}

/// The scrapes of an instance between two instants, ascending.
fn scrapes(instance: usize, from: f64, to: f64) -> Vec<f64> {
    let mut at = END - phase(instance);
    let mut all = Vec::new();
    while at >= from {
        if at <= to {
            all.push(at);
        }
        at -= SCRAPE;
    }
    all.reverse();
    all
}

impl Generated {
    fn criterion(&self) -> &Criterion {
        self.gate.require.criteria()[0]
    }

    fn limit(&self) -> f64 {
        self.criterion().fails().map_or(0.0, Bound::limit)
    }

    /// Sums of what became visible after `from` and until `to`.
    fn sums(&self, target: &Target, from: f64, to: f64) -> Sums {
        let mut sums = Sums::default();
        for attempt in target.attempts.iter().filter(|one| one.seen > from && one.seen <= to) {
            sums.attempts += 1.0;
            for value in &attempt.values {
                match value {
                    Value::Number(number) => {
                        sums.numbers += 1.0;
                        sums.sum += number;
                        sums.below += f64::from(*number <= self.limit());
                    }
                    Value::Failed => sums.failed += 1.0,
                    Value::Inconclusive => sums.inconclusive += 1.0,
                    Value::Nothing => {}
                }
            }
        }
        sums
    }

    /// Whether the criterion holds for such sums.
    fn holds(&self, s: Sums) -> bool {
        let limit = self.limit();
        match self.criterion().function {
            Function::Quantile(q) => s.below / (s.numbers + s.failed) >= q,
            Function::Max => s.numbers - s.below + s.failed < 0.5,
            Function::Min => s.below > 0.5,
            Function::Mean => s.sum / s.numbers <= limit && s.failed < 0.5,
            Function::Ratio if self.metric() == &CHECK_SUCCESS => {
                1.0 - s.failed / (s.attempts - s.inconclusive) >= limit
            }
            Function::Ratio => (s.sum + s.failed) / (s.numbers + s.failed) <= limit,
            Function::Fresh => s.numbers > 0.5,
            _ => unreachable!(),
        }
    }

    fn metric(&self) -> &'static Metric {
        match &self.criterion().subject {
            Subject::Series(selection) => selection.metric,
            Subject::Journey { .. } => unreachable!(),
        }
    }

    /// Whether Prometheus' extrapolation, and what it can't see at the edges of the window, could
    /// move the value across the threshold: then the answers may differ.
    fn movable(&self) -> bool {
        match &self.source {
            Source::Check(targets) => {
                if self.criterion().pooled {
                    let mut sides = targets.iter().map(|target| self.variants(target)).fold(
                        Vec::new(),
                        |pool: Vec<Sums>, variants| {
                            if pool.is_empty() { variants } else { add(&pool, &variants) }
                        },
                    );
                    let first = sides.pop().map(|sums| self.holds(sums));
                    return sides.into_iter().any(|sums| Some(self.holds(sums)) != first);
                }
                targets.iter().any(|target| {
                    let variants = self.variants(target);
                    let first = self.holds(variants[0]);
                    variants.into_iter().any(|sums| self.holds(sums) != first)
                })
            }
            Source::Journey(rounds) => {
                let sides: Vec<bool> = self
                    .windows(|_| true)
                    .into_iter()
                    .flat_map(|(from, to, stretch)| {
                        [1.0, stretch].map(|factor| self.journey_holds(rounds, from, to, factor))
                    })
                    .collect();
                sides.iter().any(|side| *side != sides[0])
            }
        }
    }

    /// The windows that Prometheus may in effect look at, and by how much it may stretch counts:
    /// from the first to the last scrape of the window, stretched to the window at most.
    fn windows(&self, visible: impl Fn(f64) -> bool) -> Vec<(f64, f64, f64)> {
        let start = END - self.window;
        let inside: Vec<f64> =
            scrapes(self.instance, start, END).into_iter().filter(|at| visible(*at)).collect();
        let mut windows = vec![(start - 1e-6, END, 1.0)];
        if let (Some(first), Some(last)) = (inside.first(), inside.last())
            && last > first
        {
            windows.push((*first, *last, (last - first + 2.0 * SCRAPE) / (last - first)));
        }
        windows
    }

    fn variants(&self, target: &Target) -> Vec<Sums> {
        let born = target
            .attempts
            .iter()
            .find(|attempt| attempt.values.iter().any(|value| matches!(value, Value::Number(_))))
            .map_or(f64::INFINITY, |attempt| attempt.seen);
        let needs_numbers =
            self.criterion().function != Function::Ratio || self.metric() != &CHECK_SUCCESS;
        let born = if needs_numbers { born } else { target.attempts[0].seen };
        let mut variants = Vec::new();
        for (from, to, stretch) in self.windows(|at| at >= born) {
            let sums = self.sums(target, from, to);
            // Prometheus stretches a counter no further than to where it would have been zero:
            // counters that began long before are all stretched alike.
            let before = self.sums(target, 0.0, from);
            let rate = |count: f64| count / (to - from) * SCRAPE;
            let young = before.numbers < rate(sums.numbers)
                || before.below < rate(sums.below)
                || before.sum < rate(sums.sum);
            for numbers in [1.0, stretch] {
                for below in [1.0, stretch] {
                    for failed in [1.0, stretch] {
                        if numbers != below && !(young && sums.below < sums.numbers) {
                            continue;
                        }
                        variants.push(Sums {
                            numbers: sums.numbers * numbers,
                            below: sums.below * below,
                            sum: sums.sum * if young { below } else { numbers },
                            failed: sums.failed * failed,
                            attempts: sums.attempts * numbers,
                            inconclusive: sums.inconclusive * failed,
                        });
                    }
                }
            }
        }
        variants
    }

    fn journey_holds(&self, rounds: &[Round], from: f64, to: f64, stretch: f64) -> bool {
        let mut decided = 0.0;
        let mut gone = 0.0;
        let mut ok = 0.0;
        let mut copies = 0.0;
        for round in rounds.iter().filter(|round| round.at > from && round.at <= to) {
            for (fate, count) in &round.fates {
                let count = *count as f64;
                match fate {
                    Fate::Ok => ok += count,
                    Fate::Lost | Fate::Refused => gone += count * stretch,
                    _ => {}
                }
                decided += count;
            }
            copies += round.duplicate as f64 * stretch;
        }
        let value = match self.criterion().function {
            Function::Loss => gone / decided,
            // Stretched apart at most the other way round.
            Function::Complete => ok / decided / stretch.sqrt(),
            _ => copies,
        };
        self.criterion().fails().unwrap().holds(value)
    }

    fn judge(&self) -> gate::Finding {
        let mono = |seconds: f64| Mono(((seconds - END + 1e6) * 1e9).round() as i64);
        let cadence = Cadence::every(Duration::from_secs_f64(self.interval), mono(self.since));
        let now = Now { mono: mono(END), wall: Wall((END * 1e9) as i64) };
        let mut tracks = Tracks::new(gate::demands([&self.gate]));
        let mut journeys = Vec::new();
        match &self.source {
            Source::Check(targets) => {
                for target in targets {
                    let key = TrackKey {
                        metric: self.metric(),
                        check: Arc::from(self.check.as_str()),
                        target: Arc::from(target.name.as_str()),
                        labels: Vec::new(),
                    };
                    tracks.open(&key, cadence);
                    for attempt in target.attempts.iter().filter(|one| one.seen <= END) {
                        for value in &attempt.values {
                            tracks.push(
                                &key,
                                cadence,
                                mono(attempt.at),
                                *value,
                                mono(attempt.seen),
                            );
                        }
                    }
                }
            }
            Source::Journey(rounds) => {
                let mut record = JourneyRecord::new(
                    Arc::from(self.check.as_str()),
                    vec![Stage::Stored],
                    cadence,
                );
                for round in rounds {
                    let count = StageCount {
                        expected: round.fates.iter().map(|(_, count)| count).sum(),
                        fates: round.fates.clone(),
                        duplicate: round.duplicate,
                    };
                    record.push(RoundPoint {
                        at: mono(round.at),
                        stages: vec![(Stage::Stored, count)],
                        inconclusive: false,
                    });
                }
                journeys.push(record);
            }
        }
        let evidence = Evidence { tracks: &tracks, journeys: &journeys };
        gate::judge(&self.gate, &evidence, &Standing::default(), now).0
    }

    fn resets(&self) -> bool {
        match &self.source {
            Source::Check(targets) => targets.iter().any(|target| target.reset.is_some()),
            Source::Journey(_) => false,
        }
    }
}

fn add(pool: &[Sums], more: &[Sums]) -> Vec<Sums> {
    // Each variant of one with each of the other: only the first few, they stand for the rest.
    pool.iter()
        .flat_map(|one| {
            more.iter().map(move |other| Sums {
                numbers: one.numbers + other.numbers,
                below: one.below + other.below,
                sum: one.sum + other.sum,
                failed: one.failed + other.failed,
                attempts: one.attempts + other.attempts,
                inconclusive: one.inconclusive + other.inconclusive,
            })
        })
        .collect()
}

fn generate(index: usize, random: &mut Random) -> Generated {
    let window = random.pick(&[300.0, 300.0, 600.0]);
    let interval = random.pick(&[1.0, 2.0, 5.0, 5.0, 10.0]);
    // Mostly an agent that has run for a while; some began just before the window or in it.
    let warm = if random.chance(0.03) {
        random.between(-60.0, 30.0)
    } else {
        random.between(60.0, window)
    };
    let since = END - window - warm;
    let check = format!("c{index}");
    let kind = random.next() % 11;
    let journey = kind >= 9;
    let below = |limit| Some(Bound::Below(limit));
    let above = |limit| Some(Bound::Above(limit));
    let (function, metric, fail) = match kind {
        0 => (Function::Quantile(0.5), &ICMP_RTT, below(0.005)),
        1 => (Function::Quantile(0.9), &ICMP_RTT, below(0.01)),
        2 => (Function::Quantile(0.95), &ICMP_RTT, below(0.0042)),
        3 => (Function::Quantile(0.99), &ICMP_RTT, below(1.0)),
        4 => (Function::Mean, &ICMP_RTT, below(0.02)),
        5 => (Function::Max, &ICMP_RTT, below(0.05)),
        6 => (Function::Ratio, &CHECK_SUCCESS, above(random.pick(&[0.9, 0.95, 0.99]))),
        7 => (Function::Ratio, &ICMP_LOSS, below(0.05)),
        8 if random.chance(0.5) => (Function::Min, &ICMP_RTT, below(0.005)),
        8 => (Function::Fresh, &ICMP_RTT, below(window)),
        9 => (random.pick(&[Function::Loss, Function::Complete]), &ICMP_RTT, None),
        _ => (Function::Duplicates, &ICMP_RTT, below(0.0)),
    };
    let fail = match function {
        Function::Loss => below(0.01),
        Function::Complete => above(0.95),
        _ => fail,
    };
    let source = if journey {
        Source::Journey(rounds(since, interval, random))
    } else {
        let count = random.pick(&[1, 1, 1, 3]);
        let targets = (0..count).map(|n| target(n, since, interval, metric, fail, random));
        Source::Check(targets.collect())
    };
    let subject = if journey {
        Subject::Journey { journey: check.clone(), stage: Some(Stage::Stored) }
    } else {
        Subject::Series(Selection { check: Some(check.clone()), ..Selection::all(metric) })
    };
    let criterion = Criterion {
        function,
        subject,
        over: Duration::from_secs_f64(window),
        at_least: 1,
        fail,
        warn: None,
        clears: None,
        stable_for: None,
        pooled: !journey && function != Function::Fresh && random.chance(0.1),
    };
    let gate = Gate {
        id: check.clone(),
        title: String::new(),
        level: Level::Mandatory,
        require: Requirement::Criterion(criterion),
        when: None,
        refs: Vec::new(),
        why: None,
        fix: None,
        waivable: true,
        max_inconclusive: 0.05,
    };
    Generated { check, instance: index % 4, interval, since, window, source, gate }
}

/// One target's life: how good it is against the threshold, how often it fails, and its shape.
fn target(
    number: usize,
    since: f64,
    interval: f64,
    metric: &'static Metric,
    fail: Option<Bound>,
    random: &mut Random,
) -> Target {
    let limit = fail.map_or(0.005, Bound::limit).min(10.0);
    let scale = limit * random.pick(&[0.01, 0.1, 0.25, 0.4, 0.4, 2.5, 4.0, 20.0]);
    let spread = random.pick(&[0.05, 0.2, 0.4]);
    let failing = random.pick(&[0.0, 0.0, 0.0, 0.0, 0.0, 0.003, 0.2, 0.5, 1.0]);
    let blind = random.pick(&[0.0, 0.0, 0.0, 0.0, 0.01]);
    let burst = random.chance(0.05).then(|| random.between(since, END));
    let echoes = random.pick(&[1, 1, 1, 3, 10]);
    let offset = random.between(0.0, interval);
    let mut attempts = Vec::new();
    let mut at = since + offset;
    while at <= END {
        let took = random.between(0.001, 0.5_f64.min(interval));
        let in_burst = burst.is_some_and(|from| (from..from + 120.0).contains(&at));
        let value = |random: &mut Random| {
            if metric == &CHECK_SUCCESS {
                return Value::Number(1.0);
            }
            if metric == &ICMP_LOSS {
                let share = if random.chance(0.1) { 0.2 } else { 0.0 };
                return Value::Number((share * scale / limit).min(1.0));
            }
            // Two uniforms make a spread that is wide enough, and heavy on one side.
            let noise = (random.unit() + random.unit() - 1.0) * spread * 3.0;
            Value::Number(scale * noise.exp() * if in_burst { 30.0 } else { 1.0 })
        };
        let values = if random.chance(failing) {
            vec![Value::Failed]
        } else if random.chance(blind) {
            vec![Value::Inconclusive]
        } else if metric == &ICMP_RTT {
            (0..echoes).map(|_| value(random)).collect()
        } else {
            vec![value(random)]
        };
        attempts.push(Attempt { at, seen: at + took, values });
        at += interval;
    }
    let reset = random.chance(0.005).then(|| random.between(END - 200.0, END - 50.0));
    Target { name: format!("t{number}"), attempts, reset }
}

fn rounds(since: f64, interval: f64, random: &mut Random) -> Vec<Round> {
    let lost = random.pick(&[0.0, 0.0, 0.0, 0.0005, 0.1, 0.5, 1.0]);
    let refused = random.pick(&[0.0, 0.0, 0.0, 0.3]);
    let late = random.pick(&[0.0, 0.0, 0.002, 0.3]);
    let twice = random.pick(&[0.0, 0.0, 0.0, 0.02]);
    let mut rounds = Vec::new();
    let mut at = since + random.between(0.0, interval);
    while at <= END {
        let mut counts: BTreeMap<Fate, u64> = BTreeMap::new();
        let mut duplicate = 0;
        for _ in 0..20 {
            let fate = if random.chance(refused) {
                Fate::Refused
            } else if random.chance(lost) {
                Fate::Lost
            } else if random.chance(late) {
                Fate::Late
            } else {
                Fate::Ok
            };
            *counts.entry(fate).or_default() += 1;
            duplicate += u64::from(random.chance(twice));
        }
        rounds.push(Round { at, fates: counts.into_iter().collect(), duplicate });
        at += interval;
    }
    rounds
}

/// The scraped text, family by family.
#[derive(Default)]
struct Scraped {
    families: BTreeMap<&'static str, (&'static str, String)>,
    samples: usize,
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

    fn text(&self) -> String {
        let mut text = String::new();
        for (family, (kind, lines)) in &self.families {
            writeln!(text, "# TYPE {family} {kind}").unwrap();
            text.push_str(lines);
        }
        text.push_str("# EOF\n");
        text
    }

    fn add(&mut self, one: &Generated, extra: &gate::promql::Boundaries) {
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
        extra: &gate::promql::Boundaries,
    ) {
        let metric = one.metric();
        let base: &[f64] = match metric.kind {
            greenlight::catalogue::Kind::Histogram(base) => base,
            _ => &[],
        };
        // Of the many boundaries those that could be mistaken for the one that is asked.
        let named = extra.get(metric.name).cloned().unwrap_or_default();
        let mut boundaries: Vec<f64> = base.iter().copied().chain(named).collect();
        boundaries.sort_by(f64::total_cmp);
        let near = boundaries.iter().position(|b| *b >= one.limit()).unwrap_or(0);
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

/// A Prometheus over blocks made of this text.
fn prometheus_of(text: &str) -> (String, Process) {
    let folder = folder("promql");
    let file = folder.join("scraped.txt");
    std::fs::write(&file, text).unwrap();
    let tsdb = folder.join("tsdb");
    let (good, said) = promtool(
        &[
            "tsdb",
            "create-blocks-from",
            "openmetrics",
            &file.display().to_string(),
            &tsdb.display().to_string(),
        ],
        "",
    );
    assert!(good, "{said}");
    std::fs::write(folder.join("prometheus.yml"), "global: { scrape_interval: 15s }\n").unwrap();
    let port = free_port();
    let url = format!("http://127.0.0.1:{port}");
    let mut process = Process::start(
        "prometheus",
        "prometheus",
        &[
            &format!("--config.file={}", folder.join("prometheus.yml").display()),
            &format!("--storage.tsdb.path={}", tsdb.display()),
            &format!("--web.listen-address=127.0.0.1:{port}"),
            "--storage.tsdb.retention.time=100y",
        ],
        &folder.join("prometheus.log"),
    );
    let ready = format!("{url}/-/ready");
    process.wait_until(|| peers::get(&ready).is_some_and(|(status, _)| status == 200));
    std::fs::remove_file(&file).unwrap();
    (url, process)
}

/// The one number that a query answers with at the instant of judging; None for no answer.
fn ask(agent: &ureq::Agent, url: &str, query: &str) -> Option<f64> {
    let mut answer = agent
        .post(format!("{url}/api/v1/query"))
        .send_form([("query", query), ("time", &END.to_string())])
        .unwrap();
    let text = answer.body_mut().read_to_string().unwrap();
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["status"], "success", "{query}: {text}");
    let result = json["data"]["result"].as_array().unwrap();
    assert!(result.len() <= 1, "{query}: {text}");
    result.first().map(|row| row["value"][1].as_str().unwrap().parse().unwrap())
}

#[test]
fn prometheus_agrees_with_the_agent() {
    let seed = 20_261_122;
    let mut random = Random(seed);
    let all: Vec<Generated> = (0..SERIES).map(|index| generate(index, &mut random)).collect();
    let extra = extra_boundaries(all.iter().map(|one| &one.gate));
    assert!(extra.values().all(|list| list.len() <= 8));
    let mut scraped = Scraped::default();
    for one in &all {
        scraped.add(one, &extra);
    }
    let (url, _process) = prometheus_of(&scraped.text());
    let client: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).build().into();

    let mut verdicts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut functions: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    let (mut open, mut reset, mut moved, mut must, mut also) = (0, 0, 0, 0, 0);
    let mut disagreements = Vec::new();
    for one in &all {
        let finding = one.judge();
        *verdicts.entry(finding.verdict.word()).or_default() += 1;
        let query = promql(&one.gate, &extra).unwrap();
        let answer = ask(&client, &url, &query);
        let word = format!("{:?}", one.criterion().function);
        let place = functions.entry(word).or_default();
        place.1 += 1;
        let covered = finding.covered_seconds.is_none_or(|covered| covered >= one.window - 1e-6);
        let decided = matches!(finding.verdict, Verdict::Pass | Verdict::Fail);
        if !covered || !decided {
            open += 1;
            continue;
        }
        let agent = f64::from(finding.verdict == Verdict::Pass);
        if one.resets() {
            reset += 1;
        } else if one.movable() {
            moved += 1;
            also += usize::from(answer == Some(agent));
        } else {
            must += 1;
            place.0 += 1;
            if answer != Some(agent) {
                disagreements.push(format!(
                    "{} {:?} since {} window {}: agent {agent}, prometheus {answer:?}\n  {finding:?}\n  {query}",
                    one.check,
                    one.criterion().function,
                    one.since - END,
                    one.window,
                ));
            }
        }
    }
    eprintln!(
        "promql: {SERIES} series (seed {seed}), {} samples scraped, verdicts {verdicts:?}: {must} must agree \
         ({:.1} %), {} disagree; not covered or not decided {open}, reset {reset}, within what \
         extrapolation can move {moved} (of which {also} agree all the same); by function {functions:?}",
        scraped.samples,
        must as f64 / SERIES as f64 * 100.0,
        disagreements.len(),
    );
    assert!(disagreements.is_empty(), "{}", disagreements[..disagreements.len().min(5)].join("\n"));
    assert!(must * 100 >= SERIES * 95, "only {must} of {SERIES} must agree");
    assert!(verdicts["pass"] > SERIES / 5 && verdicts["fail"] > SERIES / 5, "{verdicts:?}");
}
