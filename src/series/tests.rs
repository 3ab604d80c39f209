use super::*;
use crate::catalogue::agent::CHECK_SUCCESS;
use crate::catalogue::journey::STAGE_LATENCY;
use crate::catalogue::node::CPU_SECONDS;
use crate::catalogue::probe::{HTTP_PHASE, ICMP_RTT};

fn key(metric: &'static Metric, check: &str, target: &str, labels: &[&str]) -> TrackKey {
    TrackKey {
        metric,
        check: Arc::from(check),
        target: Arc::from(target),
        labels: labels.iter().map(|label| Arc::from(*label)).collect(),
    }
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn labels_are_exported_under_the_names_that_the_metric_declares() {
    let names = |key: &TrackKey| {
        key.exported_labels()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect::<Vec<_>>()
            .join(",")
    };
    assert_eq!(names(&key(&ICMP_RTT, "core", "a", &[])), "check=core,target=a");
    assert_eq!(names(&key(&STAGE_LATENCY, "ssh", "stored", &[])), "journey=ssh,stage=stored");
    assert_eq!(names(&key(&CPU_SECONDS, NODE_CHECK, "0", &["idle"])), "cpu=0,mode=idle");
}

#[test]
fn where_selects_by_exported_label_and_by_check_and_target() {
    let with = |metric, pairs: &[(&str, &str)]| Selection {
        labels: pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        ..Selection::all(metric)
    };
    let idle = key(&CPU_SECONDS, NODE_CHECK, "0", &["idle"]);
    assert!(with(&CPU_SECONDS, &[("cpu", "0"), ("mode", "idle")]).matches(&idle));
    assert!(with(&CPU_SECONDS, &[("check", "node"), ("target", "0")]).matches(&idle));
    assert!(!with(&CPU_SECONDS, &[("mode", "user")]).matches(&idle));
    assert!(!with(&CPU_SECONDS, &[("device", "0")]).matches(&idle), "no such label");
    let stored = key(&STAGE_LATENCY, "ssh", "stored", &[]);
    assert!(with(&STAGE_LATENCY, &[("journey", "ssh"), ("stage", "stored")]).matches(&stored));
    assert!(!with(&ICMP_RTT, &[]).matches(&stored));
}

#[test]
fn points_are_kept_as_long_as_the_longest_window_and_three_intervals() {
    let narrow = Selection { check: Some("core".to_owned()), ..Selection::all(&ICMP_RTT) };
    let mut tracks = Tracks::new(vec![
        Demand { selection: Selection::all(&ICMP_RTT), window: secs(60) },
        Demand { selection: narrow, window: secs(100) },
    ]);
    let cadence = Cadence::every(secs(10), Mono(0));
    for second in (0..=1_000).step_by(10) {
        let at = Mono::from_secs(second);
        for check in ["core", "edge"] {
            tracks.push(&key(&ICMP_RTT, check, "a", &[]), cadence, at, Value::Number(1.0), at);
        }
        tracks.push(&key(&CHECK_SUCCESS, "core", "a", &[]), cadence, at, Value::Number(1.0), at);
    }
    let length = |check| tracks.get(&key(&ICMP_RTT, check, "a", &[])).map(|t| t.points.len());
    assert_eq!(length("core"), Some(14));
    assert_eq!(length("edge"), Some(10));
    assert_eq!(tracks.points(), 24, "nobody asked for check.success");
    assert!(tracks.wants(&ICMP_RTT) && !tracks.wants(&CHECK_SUCCESS));
    tracks.demand(vec![]);
    assert_eq!(tracks.points(), 0);
}

#[test]
fn a_late_point_takes_its_place_and_no_number_is_no_measurement() {
    let mut track =
        Track::new(key(&ICMP_RTT, "core", "a", &[]), Cadence::every(secs(1), Mono(0)), secs(60));
    for (at, value) in [(1, 1.0), (3, f64::NAN), (2, 2.0), (3, 3.0)] {
        track.push(Mono::from_secs(at), Value::Number(value));
    }
    let seen: Vec<_> =
        track.points.iter().map(|point| (point.at.0 / 1_000_000_000, point.value())).collect();
    assert_eq!(
        seen,
        [
            (1, Value::Number(1.0)),
            (2, Value::Number(2.0)),
            (3, Value::Inconclusive),
            (3, Value::Number(3.0))
        ]
    );
}

#[test]
fn room_is_made_once_and_for_one_window() {
    let mut tracks =
        Tracks::new(vec![Demand { selection: Selection::all(&ICMP_RTT), window: secs(900) }]);
    let key = key(&ICMP_RTT, "core", "a", &[]);
    let cadence = Cadence::every(secs(1), Mono(0));
    let mut rooms = Vec::new();
    for second in (0..3_000).chain(9_000..12_000) {
        let at = Mono::from_secs(second);
        tracks.push(&key, cadence, at, Value::Number(1.0), at);
        rooms.push(tracks.get(&key).map(|track| track.points.room()));
    }
    rooms.dedup();
    assert_eq!(rooms, [Some(905)], "whether it fills, runs over or begins anew");
    tracks.demand(vec![Demand { selection: Selection::all(&ICMP_RTT), window: secs(60) }]);
    let at = Mono::from_secs(12_000);
    tracks.push(&key, cadence, at, Value::Number(1.0), at);
    let room = tracks.get(&key).map(|track| track.points.room());
    assert!(room.is_some_and(|room| room < 200), "a shorter window gives back: {room:?}");
}

#[test]
fn too_many_points_cut_the_longest_track_and_too_many_tracks_are_remembered() {
    let demand = Demand { selection: Selection::all(&ICMP_RTT), window: secs(1_000_000) };
    let mut tracks = Tracks::new(vec![demand]).limited(100, 2);
    let cadence = Cadence::every(secs(1), Mono(0));
    for second in 0..200 {
        let at = Mono::from_secs(second);
        tracks.push(&key(&ICMP_RTT, "core", "a", &[]), cadence, at, Value::Number(1.0), at);
        if second % 50 == 0 {
            tracks.push(&key(&ICMP_RTT, "core", "b", &[]), cadence, at, Value::Number(1.0), at);
        }
    }
    assert!(tracks.points() <= 100);
    assert_eq!(tracks.cut() as usize + tracks.points(), 204);
    let select = |target: &str| {
        tracks.select(&Selection { target: Some(target.to_owned()), ..Selection::all(&ICMP_RTT) })
    };
    assert_eq!(select("b")[0].points.len(), 4, "the short track keeps all");
    assert!(select("a")[0].points.times().next() > Some(Mono::from_secs(100)), "the oldest went");
    assert!(!tracks.incomplete(&ICMP_RTT));
    tracks.push(&key(&ICMP_RTT, "core", "c", &[]), cadence, Mono(0), Value::Failed, Mono(0));
    assert!(tracks.incomplete(&ICMP_RTT), "a refused target must not look like a healthy one");
}

#[test]
fn attempts_stand_for_a_target_until_a_sample_has_the_labels() {
    let all = Selection::all(&HTTP_PHASE);
    let first_byte =
        Selection { labels: vec![("phase".into(), "first_byte".into())], ..all.clone() };
    let demand = Demand { selection: all.clone(), window: secs(60) };
    let mut tracks = Tracks::new(vec![demand]);
    let cadence = Cadence::every(secs(1), Mono(0));
    let whole = |target: &str| key(&HTTP_PHASE, "web", target, &[]);
    for target in ["a", "b", "c"] {
        tracks.open(&whole(target), cadence);
    }
    let seen = |target: &str, phase: &str| key(&HTTP_PHASE, "web", target, &[phase]);
    for one in [seen("a", "connect"), seen("b", "connect"), seen("b", "first_byte")] {
        tracks.push(&one, cadence, Mono(0), Value::Number(1.0), Mono(0));
    }
    let found = |selection: &Selection| -> Vec<TrackKey> {
        tracks.select(selection).iter().map(|track| track.key.clone()).collect()
    };
    assert_eq!(found(&first_byte), [whole("a"), seen("b", "first_byte"), whole("c")]);
    let any = [seen("a", "connect"), seen("b", "connect"), seen("b", "first_byte"), whole("c")];
    assert_eq!(found(&all), any);
    let other = Selection { labels: vec![("port".into(), "1".into())], ..all };
    assert!(found(&other).is_empty(), "a label that the series does not have");
    assert!(!key(&ICMP_RTT, "core", "a", &[]).is_whole(), "its samples have no further labels");
}

#[test]
fn a_round_is_counted_by_fate() {
    let count = StageCount {
        expected: 10,
        fates: vec![
            (Fate::Ok, 4),
            (Fate::Lost, 1),
            (Fate::Refused, 1),
            (Fate::Late, 2),
            (Fate::Unknown, 2),
        ],
        duplicate: 3,
    };
    assert_eq!((count.decided(), count.undecided(), count.gone(), count.flawed()), (8, 2, 2, 4));
}

#[test]
fn what_is_gone_is_kept_for_its_window_and_bounded() {
    let mut tracks =
        Tracks::new(vec![Demand { selection: Selection::all(&ICMP_RTT), window: secs(2_000) }]);
    let cadence = Cadence::every(secs(1), Mono(0));
    let stays = key(&ICMP_RTT, "core", "stays", &[]);
    tracks.push(&stays, cadence, Mono(0), Value::Failed, Mono(0));
    // One after the other comes, is seen for a while and goes.
    for number in 0..200_u32 {
        let own = key(&ICMP_RTT, "core", &number.to_string(), &[]);
        for second in 0..1_000 {
            let at = Mono::from_secs(second);
            tracks.push(&own, cadence, at, Value::Number(1.0), at);
        }
        tracks.depart(|key| *key == stays);
    }
    let all = Selection::all(&ICMP_RTT);
    assert_eq!(tracks.select(&all).len(), 1);
    let gone = |tracks: &Tracks| -> Vec<String> {
        tracks.departed(&all).map(|(_, track)| track.key.target.to_string()).collect()
    };
    assert_eq!(gone(&tracks).len(), 100, "a hundred thousand points, the newest");
    assert_eq!(gone(&tracks).last().map(String::as_str), Some("199"));
    assert_eq!((tracks.points(), tracks.cut()), (100_001, 100_000));
    assert!(tracks.departed(&all).all(|(since, _)| since == Mono::from_secs(999)));
    tracks.forget_departed(Mono::from_secs(2_999));
    assert_eq!(gone(&tracks).len(), 100);
    tracks.forget_departed(Mono::from_secs(3_000));
    assert_eq!((gone(&tracks).len(), tracks.points()), (0, 1));

    // One that nothing was seen of leaves nothing; a shorter window is a shorter memory.
    let own = key(&ICMP_RTT, "core", "short", &[]);
    tracks.open(&own, cadence);
    tracks.depart(|key| *key == stays);
    assert_eq!(gone(&tracks).len(), 0);
    tracks.push(&own, cadence, Mono(0), Value::Failed, Mono(0));
    tracks.depart(|key| *key == stays);
    tracks.demand(vec![Demand { selection: all.clone(), window: secs(60) }]);
    assert_eq!(gone(&tracks), ["short"]);
    tracks.forget_departed(Mono::from_secs(61));
    assert_eq!(gone(&tracks).len(), 0);
}
