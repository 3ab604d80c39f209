//! The disk probes beside fio, on the same disk in the same minute, turn by turn:
//! `cargo bench --bench storage [-- DIRECTORY]`.
//!
//! Medians over the turns; the ratio should be within 15 % of 1. Nothing here is a test: disks are
//! shared and noisy.

use std::fs;
use std::iter;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

type Answer<T> = Result<T, Box<dyn std::error::Error>>;

const TURNS: usize = 7;
const BAR: f64 = 0.15;

/// What fio does for `disk_sync` (etcd's profile).
const SYNC: [&str; 5] =
    ["--rw=write", "--ioengine=sync", "--fdatasync=1", "--size=22m", "--bs=2300"];

/// The probe's profiles in its order, one behind the other on one file: how a disk answers depends on
/// what it did just before.
const PROFILES: [(&str, [&str; 4]); 6] = [
    ("sequential_write", ["--rw=write", "--bs=1m", "--iodepth=4", "--io_size=64m"]),
    ("sequential_read", ["--rw=read", "--bs=1m", "--iodepth=4", "--io_size=64m"]),
    ("random_read", ["--rw=randread", "--bs=4k", "--iodepth=1", "--number_ios=10000"]),
    ("random_write", ["--rw=randwrite", "--bs=4k", "--iodepth=1", "--number_ios=10000"]),
    ("random_read_deep", ["--rw=randread", "--bs=4k", "--iodepth=16", "--number_ios=10000"]),
    ("random_write_deep", ["--rw=randwrite", "--bs=4k", "--iodepth=16", "--number_ios=10000"]),
];

/// What both use for requests past the cache. A request is timed from before it is handed to the
/// kernel: what fio calls `lat`. Its `clat` leaves the handing over out, which on a virtual disk is a
/// third of a short read. All that has ended is taken back at once: unless told to, fio takes one, and
/// hands over the next before it looks at those that ended with it, whose times then grow by that.
const DIRECT: [&str; 7] = [
    "--ioengine=io_uring",
    "--direct=1",
    "--size=64m",
    "--iodepth_batch_complete_min=1",
    "--iodepth_batch_complete_max=16",
    "--lat_percentiles=1",
    "--clat_percentiles=0",
];

fn main() -> Answer<()> {
    let own = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let directory = std::env::args().skip(1).find(|argument| argument.starts_with('/'));
    let directory = directory.map_or(own, PathBuf::from).join("storage");
    fs::create_dir_all(&directory)?;
    let mut seen = vec![Vec::new(); 1 + PROFILES.len()];
    for turn in 0..TURNS {
        let sync = once(&directory, "disk_sync: { exclusive: true }")?;
        let io = once(&directory, "disk_io: { exclusive: true }")?;
        let ours = iter::once(quantiles(&sync, "disk_sync.quantile", None))
            .chain(PROFILES.iter().map(|(name, _)| quantiles(&io, "disk_io.latency", Some(name))));
        let theirs = fio_sync(&directory)?.into_iter().chain(fio_direct(&directory)?);
        for ((seen, ours), theirs) in seen.iter_mut().zip(ours).zip(theirs) {
            seen.push((ours?, theirs));
        }
        eprintln!("turn {} of {TURNS}", turn + 1);
    }
    println!(
        "{:<18} {:>5} {:>11} {:>11} {:>7} {:>11}",
        "profile", "", "fio, µs", "ours, µs", "ratio", "bar"
    );
    let names = iter::once("disk_sync").chain(PROFILES.map(|(name, _)| name));
    for (name, seen) in names.zip(&seen) {
        // Of 64 requests the 99th percentile is the slowest one.
        let told = if name.starts_with("sequential") { &["p50"][..] } else { &["p50", "p99"] };
        for (place, quantile) in told.iter().enumerate() {
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

fn fio_sync(directory: &Path) -> Answer<Vec<[f64; 2]>> {
    let options = iter::once("--name=disk_sync").chain(SYNC);
    fio(directory, options, &["/sync/lat_ns"])
}

/// All profiles, by one process on one file.
fn fio_direct(directory: &Path) -> Answer<Vec<[f64; 2]>> {
    let jobs = PROFILES
        .iter()
        .flat_map(|(_, own)| ["--name=profile", "--stonewall"].into_iter().chain(*own));
    let places = PROFILES.map(
        |(name, _)| {
            if name.contains("read") { "/read/lat_ns" } else { "/write/lat_ns" }
        },
    );
    fio(directory, DIRECT.into_iter().chain(jobs), &places)
}

/// Of each job the p50 and the p99 of what is at its place.
fn fio<'a>(
    directory: &Path,
    options: impl Iterator<Item = &'a str>,
    places: &[&str],
) -> Answer<Vec<[f64; 2]>> {
    let file = directory.join("fio");
    let output = Command::new("fio")
        .arg("--output-format=json")
        .arg(format!("--filename={}", file.display()))
        .args(options)
        .output()?;
    fs::remove_file(file)?;
    let text = String::from_utf8_lossy(&output.stdout);
    // fio may say something before its document.
    let value: Value = serde_json::from_str(
        text.get(text.find('{').ok_or("fio is silent")?..).unwrap_or_default(),
    )?;
    let time = |job: usize, place: &str, key: &str| -> Answer<f64> {
        let times = value.pointer(&format!("/jobs/{job}{place}/percentile"));
        let nanoseconds = times.and_then(|times| times.get(key)?.as_f64());
        Ok(nanoseconds.ok_or("fio tells no such percentile")? * 1e-9)
    };
    let both = |(job, place): (usize, &&str)| {
        Ok([time(job, place, "50.000000")?, time(job, place, "99.000000")?])
    };
    places.iter().enumerate().map(both).collect()
}
