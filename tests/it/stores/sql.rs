//! ClickHouse.

use greenlight::confirm::clickhouse::ClickHouse;

use super::*;
use crate::peers;

#[tokio::test]
async fn clickhouse_finds_exactly_the_rounds_rows() {
    let peer = peers::clickhouse();
    let table = unique("events").replace('-', "_");
    peer.run(&format!(
        "CREATE TABLE {table} (run String, seq UInt64, message String, greenlight_crc UInt32) \
         ENGINE = MergeTree() PARTITION BY tuple() ORDER BY seq"
    ));
    let (ours, others) = (events(RUN, 4), events(OTHER, 1));
    let mut rows = String::new();
    for (run, event) in ours
        .iter()
        .map(|e| (RUN, e))
        .chain([(RUN, &ours[2])])
        .chain(others.iter().map(|e| (OTHER, e)))
    {
        let row = json!({"run": run, "seq": event.seq, "message": event.message, "greenlight_crc": event.crc});
        rows.push_str(&format!("{row}\n"));
    }
    peer.run(&format!("INSERT INTO {table} FORMAT JSONEachRow\n{rows}"));
    let spec = |query: String| json!({"url": peer.url, "query": query});
    let all = format!("SELECT * FROM {table} WHERE run = '{{run}}'");
    let seen = look::<ClickHouse>(spec(all.clone()), round(4)).await;
    assert_eq!(horizon(&seen), "complete", "{:?}", seen.horizon);
    assert_eq!(seqs(&seen), [0, 1, 2, 2, 3]);
    assert_eq!(seen.arrivals[0].text.as_deref(), Some(ours[0].message.as_str()));
    // Columns can't have dots in their names here: what the checksum is compared with is found.
    assert_eq!(seen.arrivals[0].fields.as_ref().expect("fields")["greenlight_crc"], ours[0].crc);

    let nothing = format!("{all} AND seq > 100");
    assert_eq!(saw(&look::<ClickHouse>(spec(nothing), round(4)).await), ("complete", 0));
    for (wrong, expected) in [
        (format!("{all}x"), "blind"),
        (String::from("SELECT * FROM no_such_table WHERE run = '{run}'"), "blind"),
        // It fails in the middle, when rows are on their way already.
        (
            format!(
                "SELECT message, throwIf(number = 900000) FROM numbers(1000000) ANY LEFT JOIN (SELECT toUInt64(0) AS number, message FROM {table} WHERE run = '{{run}}') USING number"
            ),
            "blind",
        ),
    ] {
        let seen = look::<ClickHouse>(spec(wrong.clone()), round(4)).await;
        assert_eq!(saw(&seen), (expected, 0), "{wrong}: {:?}", seen.horizon);
    }
    let mut wrong = spec(all);
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("password");
    std::fs::write(&secret, "not-this-one").expect("written");
    wrong["auth"] = json!({"basic": {"user": "default", "password": {"file": secret}}});
    assert_eq!(saw(&look::<ClickHouse>(wrong, round(4)).await), ("denied", 0));
}

#[tokio::test]
async fn clickhouse_of_today_takes_the_round_as_a_parameter() {
    let peer = peers::chdb();
    peer.run(
        "CREATE TABLE events (run String, seq UInt64, message String, greenlight Tuple(crc UInt32)) \
         ENGINE = MergeTree() ORDER BY (run, seq)",
    );
    let (ours, others) = (events(RUN, 4), events(OTHER, 1));
    let mut rows = String::new();
    for (run, event) in ours.iter().map(|e| (RUN, e)).chain(others.iter().map(|e| (OTHER, e))) {
        let crc = json!({"crc": event.crc});
        let row =
            json!({"run": run, "seq": event.seq, "message": event.message, "greenlight": crc});
        rows.push_str(&format!("{row}\n"));
    }
    peer.run(&format!("INSERT INTO events FORMAT JSONEachRow\n{rows}"));
    let spec = |query: &str| json!({"url": peer.url, "query": query});
    let seen = look::<ClickHouse>(spec("SELECT * FROM events WHERE run = {run:String}"), round(4));
    let seen = seen.await;
    assert_eq!(horizon(&seen), "complete", "{:?}", seen.horizon);
    assert_eq!(seqs(&seen), [0, 1, 2, 3]);
    let fields = seen.arrivals[0].fields.as_ref().expect("fields");
    assert_eq!(fields["greenlight"]["crc"], ours[0].crc);
    let nothing = "SELECT * FROM events WHERE run = {run:String} AND seq > 100";
    assert_eq!(saw(&look::<ClickHouse>(spec(nothing), round(4)).await), ("complete", 0));
    for wrong in [
        "SELECT * FROM no_such_table WHERE run = {run:String}",
        "SELECT * FROM events WHERE run = {run:UInt8}",
        "SELECT throwIf(number = 900000) FROM numbers(1000000) WHERE '{run}' != ''",
    ] {
        let seen = look::<ClickHouse>(spec(wrong), round(4)).await;
        assert_eq!(saw(&seen), ("blind", 0), "{wrong}: {:?}", seen.horizon);
    }
}
