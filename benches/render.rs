//! How fast events are rendered: `cargo bench --bench render`.
//!
//! Each message is unique: timestamp, sequence, token and checksum are made anew. One thread, so
//! one core. The figure is the median of some runs; nothing here is a test.

use std::hint::black_box;
use std::time::Instant;

use greenlight::journey::event::{EventSpec, Events, Format, run_from};
use greenlight::time::Wall;

const RUNS: usize = 7;
const EVENTS: u64 = 1_000_000;
/// What one write to a socket takes.
const BUFFER: usize = 64 * 1024;
/// The goal for RFC 5424, in GiB/s.
const GOAL: f64 = 1.0;

fn main() {
    println!("core: {}", core());
    println!(
        "{:<10} {:>12} {:>8} {:>14} {:>10} {:>8}",
        "format", "bytes/event", "fields", "events/s", "GiB/s", "goal"
    );
    let text = "synthetic login of {user} from {address} port {port}, event {seq} of {run} {token}";
    for (format, message, goal) in [
        (Format::Rfc5424, format!("{text} {{pad:24}}"), Some(GOAL)),
        (Format::Rfc5424, text.to_owned(), None),
        (Format::Json, text.to_owned(), None),
        (Format::Cef, text.to_owned(), None),
        (Format::Gelf, text.to_owned(), None),
        (Format::Otlp, text.to_owned(), None),
        (Format::Plain, text.to_owned(), None),
    ] {
        let spec = EventSpec { message, ..EventSpec::default() };
        let events = match Events::new(&spec, format) {
            Ok(events) => events,
            Err(text) => {
                eprintln!("{text}");
                std::process::exit(1);
            }
        };
        let mut figures: Vec<(f64, f64, f64)> =
            (0..RUNS).map(|run| measure(&events, run)).collect();
        figures.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (per_second, rate, size) = figures[RUNS / 2];
        let goal = goal.map_or(String::from("-"), |goal| format!(">= {goal:.1}"));
        let fields = if matches!(format, Format::Plain) { 0 } else { 5 };
        println!(
            "{:<10} {size:>12.1} {fields:>8} {per_second:>14.0} {rate:>10.2} {goal:>8}",
            format!("{format:?}").to_lowercase()
        );
    }
}

/// Events a second, GiB a second, and bytes an event.
fn measure(events: &Events, run: usize) -> (f64, f64, f64) {
    let run = run_from([run as u8 + 1; 8]);
    let mut renderer = events.renderer(&run, "bench");
    let mut out = Vec::with_capacity(2 * BUFFER);
    let mut bytes = 0_u64;
    let began = Instant::now();
    for seq in 1..=EVENTS {
        // A microsecond on with each, as at a million a second.
        let at = Wall(1_790_000_000_000_000_000 + seq as i64 * 1_000);
        renderer.render_into(seq, at, &mut out);
        if out.len() >= BUFFER {
            bytes += black_box(&out).len() as u64;
            out.clear();
        }
    }
    bytes += black_box(&out).len() as u64;
    let took = began.elapsed().as_secs_f64();
    (EVENTS as f64 / took, bytes as f64 / took / 1_073_741_824.0, bytes as f64 / EVENTS as f64)
}

fn core() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let name = text.lines().find_map(|line| line.strip_prefix("model name"));
    name.map_or_else(
        || String::from("unknown"),
        |name| name.trim_start_matches([' ', '\t', ':']).to_owned(),
    )
}
