use super::*;
use crate::node::tests::{fixture, mangled};

fn read(text: &[u8]) -> Result<Reading, &'static str> {
    let mut reading = Reading::default();
    parse(text, &mut reading).map(|()| reading)
}

#[test]
fn a_recorded_file() {
    let reading = read(&fixture("idle/proc/stat")).unwrap();
    assert_eq!(reading.total, [40722, 3, 16803, 253_023, 1243, 5, 112, 197]);
    assert_eq!(reading.cores[1], (1, [20996, 2, 10811, 123_187, 832, 3, 87, 127]));
    assert_eq!((reading.online, reading.cores.len()), (2, 2));
    assert_eq!(reading.context_switches, Some(707_581));
    assert_eq!(reading.boot_time, Some(1_795_374_898));
    assert_eq!((reading.running, reading.blocked), (Some(3), Some(1)));
}

#[test]
fn what_is_no_stat() {
    assert!(read(b"").is_err());
    assert!(read(b"cpu 1 2 3 4 5 6 7 8").is_err(), "cut off");
    assert!(read(b"cpu 1 2 3 4 5 6 7\ncpu0 1 2 3 4 5 6 7\n").is_err(), "too few modes");
    assert!(read(b"cpu 1 2 3 4 5 6 7 8\n").is_err(), "no processor");
    assert!(read(b"cpu 1 2 3 4 5 6 7 99999999999999999999\ncpu0 1 2 3 4 5 6 7 8\n").is_err());
    mangled("stat", &fixture("idle/proc/stat"), |text| {
        let _ = read(text);
    });
}

#[test]
fn processors_over_the_limit_are_counted() {
    let mut text = String::from("cpu 1 2 3 4 5 6 7 8 9 10\n");
    for cpu in 0..CPUS_LIMIT + 44 {
        text.push_str(&format!("cpu{cpu} 1 2 3 4 5 6 7 8 9 10\n"));
    }
    let reading = read(text.as_bytes()).unwrap();
    assert_eq!((reading.online, reading.cores.len()), (CPUS_LIMIT + 44, CPUS_LIMIT));
}

#[test]
fn shares_of_the_time_between() {
    let before = [100, 0, 50, 1000, 20, 1, 2, 3];
    assert_eq!(shares(&before, &before), [Slot::Nothing; 3]);
    let mut now = before;
    now[IDLE] += 100;
    assert_eq!(shares(&before, &now), [0.0, 0.0, 0.0].map(Slot::Number));
    now[0] += 100;
    assert_eq!(shares(&before, &now)[0], Slot::Number(0.5));
    now[STEAL] += 200;
    assert_eq!(shares(&before, &now), [0.75, 0.0, 0.5].map(Slot::Number));
    now[0] = 0;
    assert_eq!(shares(&before, &now), [Slot::RESET; 3]);
}

#[test]
fn iowait_that_steps_back_a_little_is_held() {
    let before = [100, 0, 50, 1000, 500, 1, 2, 3];
    let mut now = before;
    now[0] += 90;
    now[IOWAIT] -= 10;
    hold(&before, &mut now, 100);
    assert_eq!(now[IOWAIT], 500);
    assert_eq!(shares(&before, &now)[0], Slot::Number(1.0));
    // Further than three seconds is a reset.
    now[IOWAIT] = 500 - 301;
    hold(&before, &mut now, 100);
    assert_eq!(shares(&before, &now), [Slot::RESET; 3]);
}

#[test]
fn one_processor_that_is_hot_while_the_others_have_room() {
    let past = |cores: &[Modes]| {
        let mut total = Modes::default();
        for core in cores {
            for (sum, mode) in total.iter_mut().zip(core) {
                *sum += mode;
            }
        }
        let cores = cores.iter().enumerate().map(|(id, modes)| (id as u64, *modes)).collect();
        (total, cores)
    };
    let judged = |now: &[Modes]| {
        let (total, cores) = past(&vec![Modes::default(); now.len()]);
        let before = Past { total, cores };
        let (total, cores) = past(now);
        hottest(&before, &Reading { total, cores, ..Reading::default() })
    };
    let core = |busy: u64, softirq: u64| [busy, 0, 0, 1000 - busy - softirq, 0, 0, softirq, 0];
    assert_eq!(judged(&[core(1000, 0), core(100, 0)]), [Slot::Number(1.0), Slot::Number(0.0)]);
    assert_eq!(judged(&[core(10, 900), core(100, 0)]), [Slot::Number(0.91), Slot::Number(0.9)]);
    // All of them are busy: that is another gate's matter; interrupts are not.
    assert_eq!(judged(&[core(1000, 0), core(500, 0)]), [Slot::Number(0.0), Slot::Number(0.0)]);
    assert_eq!(judged(&[core(100, 900), core(900, 0)]), [Slot::Number(0.0), Slot::Number(0.9)]);
    // One that was stopped says nothing.
    assert_eq!(judged(&[core(500, 0), Modes::default()])[0], Slot::Number(0.5));
}

#[test]
fn the_oldest_of_ten_readings_is_compared_with() {
    let mut history = History::default();
    assert!(history.oldest().is_none());
    for n in 1..=25u64 {
        let total = [n; MODES.len()];
        history.push(&Reading { total, ..Reading::default() });
        let oldest = n.saturating_sub(HOT_READINGS as u64 - 1).max(1);
        assert_eq!(history.oldest().unwrap().total[0], oldest, "after {n}");
    }
    history.clear();
    assert!(history.oldest().is_none());
}

proptest::proptest! {
    #[test]
    fn shares_stay_between_nothing_and_all(before: Modes, now: Modes) {
        let mut held = now;
        hold(&before, &mut held, 100);
        for slot in shares(&before, &held) {
            if let Slot::Number(share) = slot {
                proptest::prop_assert!((0.0..=1.0).contains(&share), "{share}");
            }
        }
    }
}
