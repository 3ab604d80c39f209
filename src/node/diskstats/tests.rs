use std::fs;

use super::*;
use crate::lanes::Cells;
use crate::node::tests::{Copy, fixture, mangled, sample};
use crate::node::{Frame, Sampler, Signal, Source as _};
use crate::time::Now;

fn shown(copy: &Copy) -> Vec<String> {
    let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
    let mut frame = Frame::default();
    sampler.sample(Now::default(), &mut frame);
    frame
        .iter()
        .filter(|(def, _)| def.metric.series == Some("node.disk.busy"))
        .map(|(def, _)| def.instance().unwrap().to_string())
        .collect()
}

#[derive(Debug, PartialEq)]
struct Line<'a> {
    device: (u64, u64),
    name: &'a [u8],
    counters: Counters,
}

fn parse(line: &[u8]) -> Option<Line<'_>> {
    let mut words = fields(line);
    let (device, name) = device(&mut words)?;
    Counters::of(words).map(|counters| Line { device, name, counters })
}

#[test]
fn columns_of_old_and_new_kernels() {
    let line = parse(b"   8       0 sda 1 2 3 4 5 6 7 8 9 10 11").unwrap();
    assert_eq!((line.device, line.name), ((8, 0), &b"sda"[..]));
    let counters = Counters {
        reads: 1,
        sectors_read: 3,
        read_ms: 4,
        writes: 5,
        sectors_written: 7,
        write_ms: 8,
        in_flight: 9,
        busy_ms: 10,
        queue_ms: 11,
        flushes: None,
        flush_ms: None,
    };
    assert_eq!(line.counters, counters);
    // Linux 5.5 and newer, and whatever comes after.
    let line = parse(b"8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19").unwrap();
    let newer = Counters { flushes: Some(16), flush_ms: Some(17), ..counters };
    assert_eq!(line.counters, newer);

    for line in
        ["", "8 0", "8 0 sda", "8 0 sda 1 2 3 4 5 6 7 8 9 10", "8 0 sda 1 2 x 4 5 6 7 8 9 10 11"]
    {
        assert_eq!(parse(line.as_bytes()), None, "{line:?}");
    }
    mangled("diskstats", &fixture("idle/proc/diskstats"), |text| {
        for line in lines(text).filter_map(parse) {
            for slot in
                derive(Step { seconds: Some(1.0) }, Some(&Counters::default()), &line.counters, 0.0)
            {
                if let Slot::Number(value) = slot {
                    assert!((0.0..=SANE).contains(&value), "{value}");
                }
            }
        }
    });
}

#[test]
fn partitions_and_idle_pseudo_devices_are_not_shown() {
    // loop1 is mounted, loop0 and zram0 are not; sda1 is a partition.
    assert_eq!(shown(&Copy::of("idle")), ["loop1", "sda", "sdb", "nvme0n1"]);
}

#[test]
fn a_pseudo_device_is_shown_while_it_is_mounted() {
    let copy = Copy::of("idle");
    copy.replace("proc/1/mountinfo", "7:1 /", "0:77 /");
    copy.replace("proc/1/mountinfo", "/dev/loop1", "/dev/loop9");
    assert_eq!(shown(&copy), ["sda", "sdb", "nvme0n1"]);
    // btrfs has a device number of its own.
    copy.replace("proc/1/mountinfo", "ext4 /dev/loop9", "btrfs /dev/loop1");
    assert_eq!(shown(&copy), ["loop1", "sda", "sdb", "nvme0n1"]);
}

#[test]
fn a_device_that_was_replaced_starts_anew() {
    let copy = Copy::of("idle");
    let mut source = Source::new(&copy.paths());
    let mut tick = Tick {
        at: Mono::from_secs(1),
        buffer: Vec::new(),
        cpus: 1,
        mounted: super::super::filesystems::Mounted::default(),
        ..Tick::default()
    };
    source.read(&mut tick);
    tick.at = Mono::from_secs(2);
    source.read(&mut tick);
    let sdb = |source: &Source| {
        let device = source.devices.iter().find(|device| &*device.name == "sdb").unwrap();
        derive(source.step, device.before.as_ref(), &device.now.unwrap(), device.stalled)
    };
    assert_eq!(sdb(&source)[0], Slot::Number(0.0));
    // The same name, another device, other counters.
    copy.replace("proc/diskstats", "8      16 sdb 1000", "8      32 sdb 999999");
    tick.at = Mono::from_secs(3);
    assert!(source.read(&mut tick));
    assert_eq!(sdb(&source), [Slot::Nothing; 5]);
    // Gone: the others keep their history.
    let text = fs::read_to_string(copy.paths().procfs.join("diskstats")).unwrap();
    let rest: String =
        text.lines().filter(|l| !l.contains("sdb")).map(|l| format!("{l}\n")).collect();
    copy.write("proc/diskstats", rest);
    tick.at = Mono::from_secs(4);
    assert!(source.read(&mut tick));
    assert!(source.devices.iter().all(|device| &*device.name != "sdb"));
    assert!(source.devices.iter().filter(|d| d.shown).all(|device| device.before.is_some()));
}

#[test]
fn a_hung_device_does_not_look_idle() {
    let copy = Copy::of("idle");
    let mut source = Source::new(&copy.paths());
    let mut tick = Tick {
        at: Mono::from_secs(0),
        buffer: Vec::new(),
        cpus: 1,
        mounted: super::super::filesystems::Mounted::default(),
        ..Tick::default()
    };
    let wait = |source: &Source, name: &str| {
        let device = source.devices.iter().find(|device| &*device.name == name).unwrap();
        derive(source.step, device.before.as_ref(), &device.now.unwrap(), device.stalled)[2]
    };
    for second in 1..=4 {
        tick.at = Mono::from_secs(second);
        source.read(&mut tick);
    }
    // sda has two requests under way and none completes; sdb has none.
    assert_eq!(wait(&source, "sda"), Slot::Number(3.0));
    assert_eq!(wait(&source, "sdb"), Slot::Number(0.0));
    copy.replace(
        "proc/diskstats",
        "sda 87914 10816 8760122 38341",
        "sda 87915 10816 8760122 42341",
    );
    tick.at = Mono::from_secs(5);
    source.read(&mut tick);
    assert_eq!(wait(&source, "sda"), Slot::Number(4.0));
    tick.at = Mono::from_secs(6);
    source.read(&mut tick);
    assert_eq!(wait(&source, "sda"), Slot::Number(1.0));
}

#[test]
fn devices_over_the_limit_are_counted() {
    let copy = Copy::of("rhel7");
    let write = |count: usize| {
        let line = |minor| format!("9 {minor} md{minor} 1 2 3 4 5 6 7 8 9 10 11\n");
        copy.write("proc/diskstats", (0..count).map(line).collect::<String>());
    };
    // A storage node's, each by its name.
    write(90);
    assert!(shown(&copy).len() == 90 && !shown(&copy).contains(&"more".to_owned()));
    write(DEVICES_LIMIT + 7);
    assert_eq!(shown(&copy).len(), DEVICES_LIMIT + 1);
    let mut source = Source::new(&copy.paths());
    let mut tick = Tick {
        at: Mono::from_secs(1),
        buffer: Vec::new(),
        cpus: 1,
        mounted: super::super::filesystems::Mounted::default(),
        ..Tick::default()
    };
    source.read(&mut tick);
    assert_eq!(source.over, 7);

    // Of those beyond nobody knows whether one is slow.
    let mut sampler = Sampler::new(&copy.paths(), &Cells::new());
    let mut frame = Frame::default();
    sample(&mut sampler, 0, &mut frame);
    for series in ["await", "queue", "busy", "flush_await"].map(|name| format!("node.disk.{name}"))
    {
        match frame.find(&series, Some("more")) {
            Some(Signal::Absent(fault)) => assert!(fault.text.starts_with("7 disks more than")),
            other => panic!("{series} is {other:?}"),
        }
    }
    copy.write("proc/diskstats", "9 0 md0 1 2 3 4 5 6 7 8 9 10 11\n");
    sample(&mut sampler, 1, &mut frame);
    assert_eq!(frame.find("node.disk.await", Some("more")), None);
}

#[test]
fn a_gap_is_no_second() {
    let (before, now) = (Counters::default(), Counters { busy_ms: 500, ..Counters::default() });
    let step = |from, to| Step::between(from, Mono::from_secs(to));
    assert_eq!(derive(step(None, 5), Some(&before), &now, 0.0), [Slot::Nothing; 5]);
    assert_eq!(
        derive(step(Some(Mono::from_secs(5)), 5), Some(&before), &now, 0.0),
        [Slot::Nothing; 5]
    );
    assert_eq!(
        derive(step(Some(Mono::from_secs(5)), 65), Some(&before), &now, 0.0),
        [Slot::Nothing; 5]
    );
    let two = derive(step(Some(Mono::from_secs(5)), 7), Some(&before), &now, 0.0);
    assert_eq!(two[0], Slot::Number(0.25));
}

#[test]
fn flushes_that_completed_tell_how_long_they_took() {
    let counters = |flushes: u64, flush_ms: u64| Counters {
        flushes: Some(flushes),
        flush_ms: Some(flush_ms),
        ..Counters::default()
    };
    let second = Step { seconds: Some(1.0) };
    let before = counters(10, 100);
    let of = |now: &Counters, stalled| flush_await(second, Some(&before), now, stalled);
    assert_eq!(of(&counters(14, 300), 0.0), Slot::Number(0.05));
    assert_eq!(of(&counters(10, 100), 0.0), Slot::Number(0.0), "nobody had to wait");
    assert_eq!(of(&counters(10, 100), 7.0), Slot::Number(7.0), "the device hangs");
    assert_eq!(of(&counters(3, 300), 0.0), Slot::RESET);
    assert_eq!(of(&Counters::default(), 0.0), Slot::MISSING);
    assert_eq!(flush_await(second, None, &before, 0.0), Slot::Nothing);
    assert_eq!(tells_flushes(b"8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n"), Some(false));
    assert_eq!(tells_flushes(&fixture("idle/proc/diskstats")), Some(true));
    assert_eq!(tells_flushes(b"\n"), None);
}
