//! The disk probes beside fio, on the same disk in the same minute, turn by turn:
//! `cargo bench --bench storage [-- DIRECTORY]`.
//!
//! Medians over the turns; the ratio should be within 15 % of 1. Nothing here is a test: disks are
//! shared and noisy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

type Answer<T> = Result<T, Box<dyn std::error::Error>>;

const TURNS: usize = 7;
const BAR: f64 = 0.15;

/// A profile: the probe's name of it, and fio's options. The probe overwrites what it wrote before, so
/// fio is told to. Ten thousand requests, sixteen at a time, are over in a tenth of a second, of which the
/// start of a process would be a part: fio makes more.
const PROFILES: [(&str, &[&str]); 5] = [
    ("disk_sync", &["--rw=write", "--ioengine=sync", "--fdatasync=1", "--size=22m", "--bs=2300"]),
    ("random_read", &["--rw=randread", "--iodepth=1", "--number_ios=10000"]),
    ("random_write", &["--rw=randwrite", "--overwrite=1", "--iodepth=1", "--number_ios=10000"]),
    ("random_read_deep", &["--rw=randread", "--iodepth=16", "--io_size=640m"]),
    ("random_write_deep", &["--rw=randwrite", "--overwrite=1", "--iodepth=16", "--io_size=640m"]),
];

/// What both use for requests past the cache. A request is timed from before it is handed to the
/// kernel: what fio calls `lat`. Its `clat` leaves the handing over out, which on a virtual disk is a
/// third of a short read.
const DIRECT: [&str; 6] = [
    "--ioengine=io_uring",
    "--direct=1",
    "--bs=4k",
    "--size=64m",
    "--lat_percentiles=1",
    "--clat_percentiles=0",
];

fn main() -> Answer<()> {
    let own = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let directory = std::env::args().skip(1).find(|argument| argument.starts_with('/'));
    let directory = directory.map_or(own, PathBuf::from).join("storage");
    fs::create_dir_all(&directory)?;
    let mut seen = vec![Vec::new(); PROFILES.len()];
    for turn in 0..TURNS {
        let sync = once(&directory, "disk_sync: { exclusive: true }")?;
        let io = once(&directory, "disk_io: { exclusive: true }")?;
        for ((name, options), seen) in PROFILES.iter().zip(&mut seen) {
            let ours = if *name == "disk_sync" {
                quantiles(&sync, "disk_sync.quantile", None)?
            } else {
                quantiles(&io, "disk_io.latency", Some(name))?
            };
            seen.push((ours, fio(&directory, name, options)?));
        }
        eprintln!("turn {} of {TURNS}", turn + 1);
    }
    println!(
        "{:<18} {:>5} {:>11} {:>11} {:>7} {:>11}",
        "profile", "", "fio, µs", "ours, µs", "ratio", "bar"
    );
    for ((name, _), seen) in PROFILES.iter().zip(&seen) {
        for (place, quantile) in ["p50", "p99"].into_iter().enumerate() {
            let pick = |of: fn(&Pair) -> [f64; 2]| {
                median(seen.iter().filter_map(|pair| of(pair).get(place).copied()).collect())
            };
            let (ours, theirs) = (pick(|pair| pair.0), pick(|pair| pair.1));
            let ratio = ours / theirs;
            let held = if (ratio - 1.0).abs() <= BAR { "" } else { "  beyond" };
            println!(
                "{name:<18} {quantile:>5} {:>11.1} {:>11.1} {ratio:>7.3} {:>11}{held}",
                theirs * 1e6,
                ours * 1e6,
                "0.85 to 1.15"
            );
        }
    }
    fs::remove_dir_all(&directory)?;
    Ok(())
}

/// The p50 and p99 of one turn in seconds: ours, and fio's.
type Pair = ([f64; 2], [f64; 2]);

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn once(directory: &Path, kind: &str) -> Answer<Value> {
    let plan = directory.join("plan.yaml");
    fs::write(
        &plan,
        format!(
            "checks: [ {{ id: disk, {kind}, targets: [ '{}' ], every: 2m, timeout: 90s }} ]",
            directory.display()
        ),
    )?;
    let output = Command::new(env!("CARGO_BIN_EXE_greenlight"))
        .args(["once", "disk", "-o", "json", "-c"])
        .arg(&plan)
        .output()?;
    let value: Value = serde_json::from_slice(&output.stdout)?;
    let seen = value.pointer("/targets/0").cloned().ok_or("no target")?;
    if seen.get("outcome").and_then(Value::as_str) != Some("success") {
        return Err(format!("{kind}: {}", seen.pointer("/reason/text").unwrap_or(&seen)).into());
    }
    Ok(seen)
}

fn quantiles(seen: &Value, series: &str, profile: Option<&str>) -> Answer<[f64; 2]> {
    let samples = seen.get("samples").and_then(Value::as_array).ok_or("no samples")?;
    let find = |quantile: &str| {
        let wanted: Vec<&str> = profile.into_iter().chain([quantile, "estimate"]).collect();
        let found = samples.iter().find(|sample| {
            let labels = sample.get("labels").and_then(Value::as_array).into_iter().flatten();
            sample.get("series").and_then(Value::as_str) == Some(series)
                && labels.filter_map(Value::as_str).eq(wanted.iter().copied())
        });
        found.and_then(|sample| sample.get("value")?.as_f64()).ok_or("a percentile is missing")
    };
    Ok([find("0.5")?, find("0.99")?])
}

fn fio(directory: &Path, name: &str, options: &[&str]) -> Answer<[f64; 2]> {
    let mut command = Command::new("fio");
    command
        .arg("--name=peer")
        .arg(format!("--directory={}", directory.display()))
        .args(["--output-format=json", "--unlink=1"])
        .args(options);
    if name != "disk_sync" {
        command.args(DIRECT);
    }
    let output = command.output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    // fio may say something before its document.
    let value: Value = serde_json::from_str(
        text.get(text.find('{').ok_or("fio is silent")?..).unwrap_or_default(),
    )?;
    let place = match name {
        "disk_sync" => "/jobs/0/sync/lat_ns",
        name if name.contains("read") => "/jobs/0/read/lat_ns",
        _ => "/jobs/0/write/lat_ns",
    };
    let times = value.pointer(place).and_then(|times| times.get("percentile"));
    let time = |key: &str| {
        let nanoseconds = times.and_then(|times| times.get(key)?.as_f64());
        nanoseconds.map(|ns| ns * 1e-9).ok_or("fio tells no such percentile")
    };
    Ok([time("50.000000")?, time("99.000000")?])
}
