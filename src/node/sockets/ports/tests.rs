use super::*;
use crate::node::tests::mangled;

#[test]
fn ranges_and_what_is_reserved_of_them() {
    assert_eq!(range(b"32768\t60999\n"), Some((32_768, 60_999)));
    for text in ["", "5\n", "9 5\n", "1 65536\n", "a b\n"] {
        assert_eq!(range(text.as_bytes()), None, "{text:?}");
    }
    for (text, count) in [
        ("\n", 0),
        ("8080,9148-9150\n", 0),
        ("32768\n", 1),
        ("1-65535\n", 28_232),
        ("32000-32769,60999-61005,40000\n", 4),
        ("50-40\n", 0),
        ("-,40000-,x", 0),
    ] {
        assert_eq!(reserved(text.as_bytes(), 32_768, 60_999), count, "{text:?}");
    }
    mangled("ports", b"8080,9148-9150,32768-40000\n", |text| {
        assert!(range(text).is_none_or(|(first, last)| first <= last));
        let _ = reserved(text, 32_768, 60_999);
    });
}

fn pair(n: u32) -> Pair {
    let [a, b, c, d] = n.to_be_bytes();
    Pair { from: [10, 0, 0, 1].into(), to: ([a, b, c, d], 443).into() }
}

#[test]
fn few_destinations_are_counted_exactly() {
    let mut tally = Tally::default();
    for n in 0..500 {
        for _ in 0..=n {
            tally.add(pair(n), n);
        }
    }
    let found: Vec<_> = tally.largest().into_iter().map(|d| (d.to, d.ports)).collect();
    assert_eq!(found, [(pair(499).to, 500), (pair(498).to, 499), (pair(497).to, 498)]);
    assert_eq!(tally.largest()[0].inodes, [499; REMEMBERED]);
    tally.clear();
    assert!(tally.largest().is_empty());
}

/// As a scanner makes them: a hundred thousand destinations of one connection each.
#[test]
fn many_destinations_take_bounded_memory_and_hide_nobody() {
    let mut tally = Tally::default();
    let (heavy, many) = (20_000, 100_000);
    for n in 0..many {
        tally.add(pair(n), 0);
        if n < heavy {
            tally.add(pair(7_000_000), 0);
        }
        assert!(tally.uses.len() <= COUNTED);
    }
    let first = &tally.largest()[0];
    assert_eq!(first.to, pair(7_000_000).to);
    let most = heavy + (heavy + many) / u32::try_from(COUNTED).unwrap();
    assert!((heavy..=most).contains(&first.ports), "{} of {heavy}", first.ports);
}
