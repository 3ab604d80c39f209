//! The network, as `ip` and the kernel's own tools count it.

use std::fs;
use std::time::{Duration, Instant};

use greenlight::lanes::Cells;
use greenlight::node::{Frame, Paths, Sampler, Signal, TICK};
use greenlight::time::{Mono, Now, Wall};
use serde_json::Value;

fn ip() -> Value {
    let output = std::process::Command::new("ip").args(["-s", "-s", "-j", "link"]).output();
    let output = output.unwrap_or_else(|error| panic!("ip: {error}; tests/run installs it"));
    assert!(output.status.success());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn find(frame: &Frame, metric: &str, labels: &[&str]) -> Option<f64> {
    frame.iter().find_map(|(def, signal)| match signal {
        Signal::Number(value)
            if def.metric.name == metric
                && def.labels.iter().map(|l| &**l).eq(labels.iter().copied()) =>
        {
            Some(value)
        }
        _ => None,
    })
}

fn now() -> Now {
    Now { mono: Mono::now(), wall: Wall::default() }
}

/// The counter of `ip` by its path.
fn counter(link: &Value, path: &[&str]) -> f64 {
    path.iter().fold(&link["stats64"], |value, key| &value[*key]).as_f64().unwrap()
}

/// Each counter lies between what `ip` says just before and just after.
#[test]
fn interfaces_are_counted_as_ip_counts_them() {
    let mut sampler = Sampler::new(&Paths::default(), &Cells::new());
    let mut frame = Frame::default();
    sampler.sample(now(), &mut frame);
    let before = ip();
    sampler.sample(now(), &mut frame);
    let after = ip();
    let mut compared = 0;
    for link in before.as_array().unwrap() {
        let name = link["ifname"].as_str().unwrap();
        let Some(mtu) = find(&frame, "greenlight_node_network_mtu_bytes", &[name]) else {
            continue;
        };
        assert_eq!(Some(mtu), link["mtu"].as_f64(), "{name}");
        let up = find(&frame, "greenlight_node_network_up", &[name]).unwrap();
        assert_eq!(up == 1.0, link["operstate"] == "UP", "{name}");
        let Some(later) =
            after.as_array().unwrap().iter().find(|l| l["ifindex"] == link["ifindex"])
        else {
            continue;
        };
        let rows: [(&str, &[&str], &[&[&str]]); 8] = [
            ("network_bytes", &["receive"], &[&["rx", "bytes"]]),
            ("network_bytes", &["transmit"], &[&["tx", "bytes"]]),
            ("network_packets", &["receive"], &[&["rx", "packets"]]),
            ("network_packets", &["transmit"], &[&["tx", "packets"]]),
            ("network_errors", &["receive"], &[&["rx", "errors"]]),
            ("network_drops", &["receive"], &[&["rx", "dropped"], &["rx", "missed_errors"]]),
            ("network_drops", &["transmit"], &[&["tx", "dropped"]]),
            ("network_error_kinds", &["crc"], &[&["rx", "crc_errors"]]),
        ];
        for (metric, labels, paths) in rows {
            let labels = [&[name], labels].concat();
            let sum = |link: &Value| paths.iter().map(|path| counter(link, path)).sum::<f64>();
            let seen = find(&frame, &format!("greenlight_node_{metric}_total"), &labels).unwrap();
            let (least, most) = (sum(link), sum(later));
            assert!((least..=most).contains(&seen), "{metric} {labels:?}: {least}, {seen}, {most}");
            compared += 1;
        }
    }
    assert!(compared > 0, "no interface was compared: {before:#}");
    eprintln!("compared with ip: {compared} counters");
}

#[test]
fn sockets_are_counted_as_the_kernel_counts_them() {
    let mut sampler = Sampler::new(&Paths::default(), &Cells::new());
    let mut frame = Frame::default();
    let used = || -> f64 {
        let text = fs::read_to_string("/proc/net/sockstat").unwrap();
        text.split_whitespace().nth(2).unwrap().parse().unwrap()
    };
    let until = Instant::now() + Duration::from_secs(60);
    // Others open and close sockets: once nobody did meanwhile, the number is exact.
    for turn in 0.. {
        let before = used();
        // So far apart that all is read in each; the first opens sockets of its own.
        let mono = Mono::now().plus(5 * turn * TICK);
        sampler.sample(Now { mono, ..now() }, &mut frame);
        if turn > 0 && before == used() {
            assert_eq!(find(&frame, "greenlight_node_sockets", &["used"]), Some(before));
            return;
        }
        assert!(Instant::now() < until, "sockets never stood still");
    }
}
