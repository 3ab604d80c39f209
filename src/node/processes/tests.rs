use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use proptest::prelude::*;

use super::*;

#[test]
fn a_name_may_hold_what_it_likes() {
    // written from proc(5)
    let line = b"4242 (a) b (c) R 1 4242 4242 0 -1 4194560 1 2 3 4 100 23 5 6 20 0 1 0 987654 \
                 123456 77 18446744073709551615 1 1 0 0\n";
    let process = stat_of(4242, line).unwrap();
    assert_eq!(text(&process.name), "a) b (c");
    assert_eq!((process.cpu, process.start, process.resident), (123, 987_654, 77));
    assert_eq!((process.parent, process.children, process.rests), (1, 11, false));
    let kernel = b"14 (ksoftirqd/0) S 2 0 0 0 -1 69238848 0 0 0 0 0 41 0 0 20 0 1 0 5 0 0 0";
    let process = stat_of(14, kernel).unwrap();
    assert_eq!((process.parent, process.cpu, process.start, process.rests), (2, 41, 5, true));
    assert!(stat_of(1, b"1 (init) S 0 1 1").is_none());
    let io = io_of(b"rchar: 9\nwchar: 9\nread_bytes: 4096\nwrite_bytes: 8192\n");
    assert_eq!(io, Io { known: true, read: 4096, written: 8192 });
    assert!(!io_of(b"").known);
}

#[test]
fn listeners_are_read_and_others_end_the_reading() {
    // written from net/ipv4/tcp_ipv4.c
    let line = b"   0: 00000000:1F90 00000000:0000 0A 00000000:00000081 00:00000000 00000000     \
                 0        0 31337 1 0 100 0 0 10 0";
    assert_eq!(listener(line), Some((0x81, 31_337, 8080)));
    let other = b"   1: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     \
                  0        0 31338 1 0 100 0 0 10 0";
    assert_eq!(listener(other), None);
}

proptest! {
    #[test]
    fn no_text_of_a_kernel_file_is_too_much(text in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = stat_of(1, &text);
        let _ = io_of(&text);
        let _ = listener(&text);
    }
}

fn resources() -> Vec<Resource> {
    Resource::ALL.to_vec()
}

fn of(all: &[Found], resource: Resource) -> Found {
    all.iter().find(|found| found.resource == resource).cloned().expect("an answer")
}

/// Names the burning process whether it goes on or has ended before the second reading.
#[test]
fn the_process_that_burns_is_named_also_when_it_has_ended() {
    for ends in [false, true] {
        let mut child = Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut table = Processes::new(&Paths::default());
        std::thread::sleep(Duration::from_millis(1_500));
        table.first(&resources(), Mono::now());
        if ends {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        std::thread::sleep(Duration::from_secs(1));
        let all = table.second(&resources(), Mono::now());
        let _ = child.kill();
        let _ = child.wait();
        // Others may burn on a shared machine: it is among those named, or as busy as they are.
        let found = of(&all, Resource::Cpu);
        let named = found.culprits.iter().any(|culprit| culprit.name == "sh");
        let crowded = found.culprits.len() == NAMED;
        assert!(named || crowded, "ends {ends}: {found:?}");
        assert!(!of(&all, Resource::Memory).culprits.is_empty());
    }
}

/// The kernel adds what a child read and wrote to the parent that waits for it: the child did it.
#[test]
fn a_child_that_has_ended_is_named_and_not_its_parent() {
    let folder = tempfile::tempdir_in(concat!(env!("CARGO_MANIFEST_DIR"), "/target")).unwrap();
    let file = folder.path().join("data");
    // It waits for its child only when it is told to: until then the child is there, if only as
    // one that has ended.
    let mut parent = Command::new("sh")
        .args(["-c", "dd if=/dev/zero of=\"$0\" bs=1M count=400 & read go; wait; echo; sleep 60"])
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut table = Processes::new(&Paths::default());
    let until = Instant::now() + Duration::from_secs(60);
    while std::fs::metadata(&file).map_or(0, |file| file.len()) < 100 << 20 {
        assert!(Instant::now() < until, "dd does not write");
        std::thread::sleep(Duration::from_millis(2));
    }
    table.first(&[Resource::Space], Mono::now());
    // So that it is no process of this burst's: what it grew by is its children's.
    table.grace = Duration::ZERO;
    parent.stdin.take().unwrap().write_all(b"go\n").unwrap();
    let mut said = [0; 1];
    parent.stdout.take().unwrap().read_exact(&mut said).unwrap();
    let all = table.second(&[Resource::Space], Mono::now());
    parent.kill().unwrap();
    parent.wait().unwrap();
    let found = of(&all, Resource::Space);
    let blamed = found.culprits.iter().any(|culprit| culprit.pid == Some(parent.id()));
    assert!(!blamed, "what dd wrote is laid on {}: {found:?}", parent.id());
}

/// What a capture costs where 200 processes run: printed, and far below a second's budget.
#[test]
fn a_capture_is_cheap_with_200_processes() {
    let sleeper = || Command::new("sleep").arg("60").spawn().unwrap();
    let mut children: Vec<_> = (0..200).map(|_| sleeper()).collect();
    let mut table = Processes::new(&Paths::default());
    let cost = |table: &mut Processes, resources: &[Resource]| {
        let began = Instant::now();
        table.first(resources, Mono::now());
        table.second(resources, Mono::now());
        began.elapsed()
    };
    let cpu = (0..5).map(|_| cost(&mut table, &[Resource::Cpu])).min().unwrap();
    let io = (0..5).map(|_| cost(&mut table, &[Resource::Io])).min().unwrap();
    let all = (0..5).map(|_| cost(&mut table, &resources())).min().unwrap();
    let processes = table.before.len();
    for child in &mut children {
        let _ = child.kill();
        let _ = child.wait();
    }
    println!("{processes} processes: cpu {cpu:?}, io {io:?}, all {all:?}, two readings each");
    assert!(processes >= 200);
    assert!(all < Duration::from_secs(1), "{all:?}");
}
