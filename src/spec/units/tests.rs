use proptest::prelude::*;

use super::*;

#[test]
fn periods_read_and_write_their_shortest_form() {
    for (text, canonical) in [
        ("5s", "5s"),
        ("0s", "0s"),
        ("90s", "90s"),
        ("120s", "2m"),
        ("1h30m", "90m"),
        ("1h1s", "1h1s"),
        ("1.5s", "1500ms"),
        ("0.25us", "250ns"),
        ("5µs", "5us"),
        ("7d", "1w"),
        ("2w3d4h5m6s7ms8us9ns", "2w3d4h5m6s7ms8us9ns"),
        ("292y", ""),
        ("15000w", "15000w"),
    ] {
        let period = text.parse::<Period>();
        assert_eq!(period.map(|p| p.to_string()).unwrap_or_default(), canonical, "{text}");
    }
    for (text, mistake) in [
        ("5", "`5` has no unit; write `5s`"),
        ("0", "`0` has no unit; write `0s`"),
        ("", "`` is no period; write one like `5s` or `1h30m`"),
        ("s", "`s` is no period; write one like `5s` or `1h30m`"),
        ("-5s", "`-5s` is negative; a period is not"),
        ("5 s", "`5 s` has a space in it; write `5s`"),
        ("5M", "`M` is no unit of time; write `ns`, `us`, `ms`, `s`, `m`, `h`, `d` or `w`"),
        ("1m1h", "`1m1h`: the larger unit goes first, and each only once"),
        ("1s1s", "`1s1s`: the larger unit goes first, and each only once"),
        ("1.s", "`1.s` is no period; write one like `5s` or `1h30m`"),
        ("0.1ns", "`0.1ns` is finer than a nanosecond"),
        ("99999w", "`99999w` is longer than 292 years"),
        ("99999999999999999999s", "`99999999999999999999s` is longer than 292 years"),
        ("1h5", "`1h5` has no unit; write `1h5s`"),
    ] {
        assert_eq!(text.parse::<Period>(), Err(mistake.to_owned()));
    }
}

#[test]
fn sizes_read_and_write_their_shortest_form() {
    for (text, bytes, canonical) in [
        ("0B", 0, "0B"),
        ("1500B", 1500, "1500B"),
        ("64KiB", 65_536, "64KiB"),
        ("1.5KiB", 1536, "1536B"),
        ("1.5GB", 1_500_000_000, "1500MB"),
        ("1TiB", 1 << 40, "1TiB"),
        ("1000kB", 1_000_000, "1MB"),
    ] {
        let size = text.parse::<Size>().expect(text);
        assert_eq!((size.0, size.to_string().as_str()), (bytes, canonical), "{text}");
    }
    for (text, mistake) in [
        ("5", "`5` has no unit; write `5B`"),
        ("-1B", "`-1B` is negative; a size is not"),
        ("1.5B", "`1.5B` is not a whole number of bytes"),
        ("17000000TiB", "`17000000TiB` is more than 16777215TiB"),
        ("x", "`x` is no size; write one like `64KiB` or `1.5GB`"),
        (
            "5K",
            "`K` is no unit of size; write `B`, `kB`, `MB`, `GB`, `TB`, `KiB`, `MiB`, `GiB` or `TiB`",
        ),
    ] {
        assert_eq!(text.parse::<Size>(), Err(mistake.to_owned()));
    }
}

#[test]
fn shares_are_parts_of_a_whole() {
    for (text, value, canonical) in [
        ("5%", 0.05, "5%"),
        ("0.05", 0.05, "5%"),
        ("1", 1.0, "1"),
        ("100%", 1.0, "1"),
        ("0", 0.0, "0"),
        ("-0", 0.0, "0"),
        ("99.9%", 0.999, "99.9%"),
        ("7%", 0.07, "7%"),
        ("1e-3", 0.001, "0.1%"),
    ] {
        let share = text.parse::<Share>().expect(text);
        assert_eq!((share.0, share.to_string().as_str()), (value, canonical), "{text}");
    }
    for (text, mistake) in [
        ("5", "`5` is more than the whole; write `5%`"),
        ("101%", "`101%` is more than the whole"),
        ("-1%", "`-1%` is negative; a share is not"),
        ("nan", "`nan` is no share; write one like `5%` or `0.05`"),
        ("inf%", "`inf%` is no share; write one like `5%` or `0.05`"),
        ("%", "`%` is no share; write one like `5%` or `0.05`"),
    ] {
        assert_eq!(text.parse::<Share>(), Err(mistake.to_owned()));
    }
}

#[test]
fn a_threshold_has_the_unit_of_its_series() {
    let value = |text: &str, unit| text.parse::<Quantity>().and_then(|q| q.value_in(unit));
    for (text, unit, expected) in [
        ("5ms", Unit::Seconds, 0.005),
        ("1m30s", Unit::Seconds, 90.0),
        ("-10ms", Unit::Seconds, -0.01),
        ("0", Unit::Seconds, 0.0),
        ("0", Unit::Bytes, 0.0),
        ("64KiB", Unit::Bytes, 65_536.0),
        ("5%", Unit::Ratio, 0.05),
        ("0.99", Unit::Ratio, 0.99),
        ("3", Unit::Count, 3.0),
        ("-1.5", Unit::Count, -1.5),
    ] {
        assert_eq!(value(text, unit), Ok(expected), "{text}");
    }
    for (text, unit, mistake) in [
        ("5", Unit::Seconds, "`5` has no unit; write `5s` or `5ms`"),
        ("5", Unit::Bytes, "`5` has no unit; write `5B` or `5MiB`"),
        ("5", Unit::Ratio, "`5` is more than the whole; write `5%`"),
        ("500%", Unit::Ratio, "`500%` is more than the whole"),
        ("5s", Unit::Count, "`5s` has a unit; this is a plain number"),
        ("5%", Unit::Count, "`5%` has a unit; this is a plain number"),
        ("5B", Unit::Seconds, "`5B` is no time; write one like `5ms`"),
        ("5s", Unit::Bytes, "`5s` is no size; write one like `64KiB`"),
        ("5s", Unit::Ratio, "`5s` is no share; write one like `5%` or `0.05`"),
    ] {
        assert_eq!(value(text, unit), Err(mistake.to_owned()), "{text}");
    }
    assert!("fast".parse::<Quantity>().is_err_and(|text| text.contains("write one like `5ms`")));
    assert!("5parsec".parse::<Quantity>().is_err_and(|text| text.contains("`parsec` is no unit")));
}

#[test]
fn the_schema_accepts_what_is_written_and_read() {
    fn check<T: schemars::JsonSchema + serde::de::DeserializeOwned + std::str::FromStr>(
        good: &[&str],
        bad: &[&str],
    ) {
        let schema = serde_json::to_value(schemars::schema_for!(T)).expect("a schema");
        let validator = jsonschema::validator_for(&schema).expect("a valid schema");
        for text in good {
            assert!(validator.is_valid(&serde_json::json!(text)), "{text}");
            assert!(text.parse::<T>().is_ok(), "{text}");
            assert!(serde_json::from_value::<T>(serde_json::json!(text)).is_ok(), "{text}");
        }
        for text in bad {
            assert!(!validator.is_valid(&serde_json::json!(text)), "{text}");
            assert!(text.parse::<T>().is_err(), "{text}");
        }
    }
    check::<Period>(&["5s", "1h30m", "1.5s", "3µs"], &["5", "5 s", "-5s", "", "5y"]);
    check::<Size>(&["64KiB", "1.5GB"], &["5", "5K", "-1B", "1KiB2B"]);
    check::<Share>(&["5%", "0.05"], &["five", "5s", ""]);
    check::<Quantity>(&["5ms", "1m30s", "64KiB", "5%", "3", "-1.5", "1e3"], &["fast", "5 s", ""]);
}

#[test]
fn units_are_read_back_as_they_were_written() {
    let runs = std::cell::Cell::new(0);
    let config = ProptestConfig { cases: 4_000, failure_persistence: None, ..Default::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config.clone());
    runner
        .run(&(0..=LONGEST, any::<u64>(), 0.0..=1.0_f64, any::<f64>(), any::<bool>()), |numbers| {
            runs.set(runs.get() + 1);
            let (nanos, bytes, share, free, negative) = numbers;
            let period = Period(Duration::from_nanos(nanos));
            prop_assert_eq!(period.to_string().parse(), Ok(period));
            let round = Period(Duration::from_secs(nanos / 1_000_000_000));
            prop_assert_eq!(round.to_string().parse(), Ok(round));
            prop_assert_eq!(Size(bytes).to_string().parse(), Ok(Size(bytes)));
            prop_assert_eq!(Share(share).to_string().parse(), Ok(Share(share)));
            let mut quantities = vec![
                Quantity::Time { negative, period },
                Quantity::Bytes { negative, size: Size(bytes) },
            ];
            if free.is_finite() && free != 0.0 {
                quantities.extend([Quantity::Number(free), Quantity::Percent(free)]);
            }
            for quantity in quantities {
                prop_assert_eq!(quantity.to_string().parse(), Ok(quantity));
            }
            Ok(())
        })
        .expect("all are read back");
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let texts = prop_oneof![
        prop::string::string_regex("-?[0-9.]{0,22}[a-zA-Zµ%]{0,4}[0-9]?[a-z]?").expect("a pattern"),
        any::<String>()
    ];
    runner
        .run(&texts, |text| {
            runs.set(runs.get() + 1);
            if let Ok(period) = text.parse::<Period>() {
                prop_assert_eq!(period.to_string().parse(), Ok(period));
            }
            if let Ok(size) = text.parse::<Size>() {
                prop_assert_eq!(size.to_string().parse(), Ok(size));
            }
            let _ = text.parse::<Share>();
            if let Ok(quantity) = text.parse::<Quantity>() {
                for unit in [Unit::Seconds, Unit::Bytes, Unit::Ratio, Unit::Count] {
                    let _ = quantity.value_in(unit);
                }
            }
            Ok(())
        })
        .expect("no text panics");
    eprintln!("property units_are_read_back_as_they_were_written: {} inputs", runs.get());
}
