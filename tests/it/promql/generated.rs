//! Series as agents could see them: targets that are well, slow, failing or dead, journeys that
//! lose, repeat and delay, agents that began long ago or just now; and whether what Prometheus
//! can't know of a series could move its value across the threshold.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use greenlight::catalogue::Metric;
use greenlight::catalogue::agent::CHECK_SUCCESS;
use greenlight::catalogue::probe::{ICMP_LOSS, ICMP_RTT};
use greenlight::gate::{
    self, Bound, Criterion, Evidence, Function, Gate, Level, Requirement, Selection, Standing,
    Subject,
};
use greenlight::journey::{Fate, Stage};
use greenlight::series::{Cadence, JourneyRecord, RoundPoint, StageCount, TrackKey, Tracks, Value};
use greenlight::time::{Mono, Now, Wall};

use super::{END, SCRAPE};

/// A small generator (splitmix64), so that a failure can be run again.
pub(super) struct Random(pub(super) u64);

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
pub(super) struct Attempt {
    pub(super) at: f64,
    pub(super) seen: f64,
    pub(super) values: Vec<Value>,
}

pub(super) struct Target {
    pub(super) name: String,
    pub(super) attempts: Vec<Attempt>,
    /// Counters begin anew here.
    pub(super) reset: Option<f64>,
}

pub(super) struct Round {
    pub(super) at: f64,
    pub(super) fates: Vec<(Fate, u64)>,
    pub(super) duplicate: u64,
}

pub(super) enum Source {
    Check(Vec<Target>),
    Journey(Vec<Round>),
}

/// One generated series with its gate.
pub(super) struct Generated {
    pub(super) check: String,
    pub(super) instance: usize,
    pub(super) interval: f64,
    pub(super) since: f64,
    pub(super) window: f64,
    pub(super) source: Source,
    pub(super) gate: Gate,
}

/// What a window of a target holds, as far as any criterion asks.
#[derive(Clone, Copy, Default)]
pub(super) struct Sums {
    pub(super) numbers: f64,
    pub(super) below: f64,
    pub(super) sum: f64,
    pub(super) failed: f64,
    pub(super) attempts: f64,
    pub(super) inconclusive: f64,
}

fn phase(instance: usize) -> f64 {
    [0.5, 4.25, 9.0, 13.75][instance]
}

/// The scrapes of an instance between two instants, ascending.
pub(super) fn scrapes(instance: usize, from: f64, to: f64) -> Vec<f64> {
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
    pub(super) fn criterion(&self) -> &Criterion {
        self.gate.require.criteria()[0]
    }

    fn bound(&self) -> Bound {
        self.criterion().fails().unwrap_or(Bound::Below(0.0))
    }

    fn limit(&self) -> f64 {
        self.bound().limit()
    }

    /// What is at or below this is on the lower side of the threshold.
    pub(super) fn edge(&self) -> f64 {
        match self.bound() {
            Bound::Below(limit) => limit,
            Bound::Above(limit) => limit.next_down(),
        }
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
                        sums.below += f64::from(*number <= self.edge());
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
        let upper = matches!(self.bound(), Bound::Above(_));
        match self.criterion().function {
            Function::Quantile(q) if upper => (s.below + s.failed) / (s.numbers + s.failed) < q,
            Function::Quantile(q) => s.below / (s.numbers + s.failed) >= q,
            Function::Max if upper => s.numbers - s.below > 0.5,
            Function::Max => s.numbers - s.below + s.failed < 0.5,
            Function::Min if upper => s.below + s.failed < 0.5,
            Function::Min => s.below > 0.5,
            Function::Mean => self.bound().holds(s.sum / s.numbers) && s.failed < 0.5,
            Function::Ratio if self.metric() == &CHECK_SUCCESS => {
                1.0 - s.failed / (s.attempts - s.inconclusive) >= limit
            }
            Function::Ratio => (s.sum + s.failed) / (s.numbers + s.failed) <= limit,
            Function::Fresh => s.numbers > 0.5,
            _ => unreachable!(),
        }
    }

    pub(super) fn metric(&self) -> &'static Metric {
        match &self.criterion().subject {
            Subject::Series(selection) => selection.metric,
            Subject::Journey { .. } => unreachable!(),
        }
    }

    /// Whether Prometheus' extrapolation, and what it can't see at the edges of the window, could
    /// move the value across the threshold: then the answers may differ.
    pub(super) fn movable(&self) -> bool {
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

    pub(super) fn judge(&self) -> gate::Finding {
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
        let evidence = Evidence { tracks: &tracks, journeys: &journeys, load: &[] };
        gate::judge(&self.gate, &evidence, &Standing::default(), now).0
    }

    pub(super) fn resets(&self) -> bool {
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

pub(super) fn generate(index: usize, random: &mut Random) -> Generated {
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
    let kind = random.next() % 13;
    let journey = matches!(kind, 9 | 10);
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
        10 => (Function::Duplicates, &ICMP_RTT, below(0.0)),
        11 => (random.pick(&[Function::Min, Function::Max]), &ICMP_RTT, above(0.003)),
        _ => (random.pick(&[Function::Quantile(0.05), Function::Mean]), &ICMP_RTT, above(0.01)),
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
        during: None,
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
