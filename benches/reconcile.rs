//! How fast volumes are reconciled, and in what memory: `cargo bench --bench reconcile`.
//!
//! Each event is intended, acknowledged, found by its token in a text of 300 bytes, checked against
//! its checksum, and seen at two stages in eight partitions; one in a thousand is lost, one in a
//! thousand comes twice. One thread, so one core. Nothing here is a test.

use std::hint::black_box;
use std::time::{Duration, Instant};

use greenlight::journey::event::{EventSpec, Events, Format, Token, run_from};
use greenlight::journey::volume::{Counted, Volume};
use greenlight::journey::{Fate, Receipt, Stage};
use greenlight::time::{Mono, Wall};

const EVENTS: u64 = 1_000_000;
const RUNS: usize = 5;
/// Under way between the send and the lake.
const LAG: u64 = 100_000;
const PARTITIONS: u64 = 8;

fn main() {
    let spec = EventSpec {
        message: String::from(
            "synthetic login of {user} from {address}, event {seq} {token} {pad:40}",
        ),
        ..EventSpec::default()
    };
    let events = match Events::new(&spec, Format::Rfc5424) {
        Ok(events) => events,
        Err(text) => {
            eprintln!("{text}");
            std::process::exit(1);
        }
    };
    // What a consumer hands over; made before, so that it is not the rendering that is measured.
    let run = run_from([3; 8]);
    let mut renderer = events.renderer(&run, "bench");
    let mut texts = Vec::new();
    let mut ends = Vec::new();
    for seq in 0..EVENTS {
        renderer.render_into(seq, Wall(1_790_000_000_000_000_000), &mut texts);
        ends.push(texts.len());
    }
    let size = texts.len() as f64 / EVENTS as f64;
    println!("events of {size:.0} bytes in RFC 5424, two stages, {LAG} in flight, one core");
    println!("{:<44} {:>14} {:>14} {:>8}", "figure", "measured", "bytes/event", "goal");
    for (name, parse) in
        [("counting alone", false), ("finding the token in the text as well", true)]
    {
        let mut figures: Vec<(f64, f64)> =
            (0..RUNS).map(|_| measure(&texts, &ends, parse)).collect();
        figures.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (rate, bytes) = figures[RUNS / 2];
        println!("{name:<44} {rate:>12.0}/s {bytes:>14.1} {:>8}", ">= 500k");
    }
}

fn measure(texts: &[u8], ends: &[usize], parse: bool) -> (f64, f64) {
    let second = Duration::from_secs(1);
    let counted = |stage| Counted { stage, within: second, give_up: 3 * second };
    let stages = [Stage::Sent, Stage::Accepted, Stage::Parsed, Stage::Stored].map(counted);
    let mut volume = Volume::new(&stages, 0);
    let at = |n: u64| Mono(n as i64 * 1_000);
    let mut bytes: f64 = 0.0;
    let began = Instant::now();
    for n in 0..EVENTS + LAG {
        if n < EVENTS {
            volume.intend(at(n));
            volume.receipt(n, &Receipt::Accepted { at: at(n) });
        }
        let Some(seq) = n.checked_sub(LAG) else { continue };
        if n == EVENTS / 2 {
            bytes = volume.bytes() as f64 / volume.in_flight() as f64;
        }
        let found = if parse {
            let start = if seq == 0 { 0 } else { ends[seq as usize - 1] };
            let text = &texts[start..ends[seq as usize]];
            match Token::find_all(black_box(text)).next() {
                Some(token) => token.seq,
                None => continue,
            }
        } else {
            seq
        };
        if found % 1_000 == 7 {
            continue;
        }
        let scope = Some((found % PARTITIONS) as u32);
        for stage in [Stage::Parsed, Stage::Stored] {
            volume.seen(stage, found, at(n), scope, None);
            if found % 1_000 == 8 {
                volume.seen(stage, found, at(n), scope, None);
            }
        }
        if n % 10_000 == 0 {
            let seen = at(n.saturating_sub(LAG)).plus(3 * second);
            volume.complete(Stage::Parsed, seen);
            volume.complete(Stage::Stored, seen);
            volume.decide(false);
        }
    }
    for stage in [Stage::Parsed, Stage::Stored] {
        volume.complete(stage, at(EVENTS).plus(9 * second));
    }
    volume.decide(true);
    let took = began.elapsed().as_secs_f64();
    let tally = volume.tally();
    let stored = tally.stage(Stage::Stored);
    let lost = stored.map(|stored| (stored.count(Fate::Lost), stored.duplicate));
    assert_eq!(lost, Some((EVENTS / 1_000, EVENTS / 1_000)), "the figure is of right counts");
    (EVENTS as f64 / took, bytes)
}
