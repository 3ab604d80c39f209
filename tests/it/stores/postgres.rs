//! PostgreSQL: the real server, and the same behind a wire that damages what it answers.

use greenlight::confirm::postgres::Postgres;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::peers;

/// A table of this test's own with four events of ours, one of them twice, and one of another run.
pub(super) fn table() -> String {
    let table = unique("events").replace('-', "_");
    let (ours, others) = (events(RUN, 4), events(OTHER, 1));
    let mut sql = format!(
        "CREATE TABLE {table} (id bigserial PRIMARY KEY, run text, message text, at timestamptz, \"greenlight.crc\" bigint);"
    );
    let mine = ours.iter().chain([&ours[2]]).map(|event| (RUN, event));
    for (run, event) in mine.chain(others.iter().map(|event| (OTHER, event))) {
        let (message, crc) = (&event.message, event.crc);
        sql.push_str(&format!(
            "INSERT INTO {table} (run, message, at, \"greenlight.crc\") VALUES ('{run}', $m${message}$m$, now(), {crc});"
        ));
    }
    sql.push_str(&format!("GRANT SELECT, DELETE ON {table} TO reader;"));
    peers::postgres().run(&sql);
    table
}

pub(super) fn spec(port: u16, query: &str) -> Value {
    json!({"server": format!("localhost:{port}"), "database": "postgres", "user": "postgres", "query": query})
}

#[tokio::test]
async fn postgres_finds_exactly_the_rounds_rows_and_cannot_write() {
    let peer = peers::postgres();
    let table = table();
    let nowhere = peers::free_port();
    let at = spec;
    let spec = |query: &str| at(peer.port, query);
    let all = format!("SELECT * FROM {table} WHERE run = $1");
    let ours = events(RUN, 4);
    let seen = look::<Postgres>(spec(&all), round(4)).await;
    assert_eq!(
        (horizon(&seen), seqs(&seen)),
        ("complete", vec![0, 1, 2, 2, 3]),
        "{:?}",
        seen.horizon
    );
    let first = seen.arrivals.iter().find(|arrival| arrival.seq == Some(0)).expect("it is there");
    assert_eq!(first.text.as_deref(), Some(ours[0].message.as_str()));
    assert_eq!(first.fields.as_ref().expect("fields")["greenlight.crc"], ours[0].crc);
    let mut by_id = spec(&format!("{all}; -- the end"));
    by_id["id"] = "id".into();
    assert_eq!(saw(&look::<Postgres>(by_id.clone(), round(4)).await), ("blind", 0));
    by_id["query"] = format!("{all} -- the end").into();
    assert_eq!(saw(&look::<Postgres>(by_id, round(4)).await), ("complete", 5));
    let nothing = format!("{all} AND id > 1000;");
    assert_eq!(saw(&look::<Postgres>(spec(&nothing), round(4)).await), ("complete", 0));

    for (wrong, expected) in [
        (format!("SELECT * FROM {table} WHERE no_such_column = $1"), "blind"),
        (String::from("SELECT * FROM no_such_table WHERE run = $1"), "blind"),
        // It fails at the last row, when the others are on their way already.
        (
            format!(
                "SELECT *, 1 / (2004 - n) FROM {table}, generate_series(1, 2004) AS n WHERE run = $1"
            ),
            "blind",
        ),
        // Later than it may take.
        (format!("SELECT *, pg_sleep(60) FROM {table} WHERE run = $1"), "blind"),
        // Whose token is not among what is read.
        (format!("SELECT id FROM {table} WHERE run = $1"), "blind"),
        (format!("SELECT * FROM {table}, generate_series(1, 20000) WHERE run = $1"), "partial"),
        // A query that would write.
        (
            format!(
                "WITH gone AS (DELETE FROM {table} RETURNING *) SELECT * FROM gone WHERE run = $1"
            ),
            "blind",
        ),
        (
            format!("{all}) AS x; COMMIT; DELETE FROM {table}; SELECT row_to_json(x) FROM ({all}"),
            "blind",
        ),
        (format!("SELECT *, setval('{table}_id_seq', 7000) FROM {table} WHERE run = $1"), "blind"),
    ] {
        let mut watch = Watch::<Postgres>::new(spec(&wrong), round(4));
        watch.timeout = Duration::from_secs(if wrong.contains("sleep") { 2 } else { 30 });
        let seen = watch.look().await;
        assert_eq!(horizon(&seen), expected, "{wrong}: {:?}", seen.horizon);
        assert!(expected == "partial" || seen.arrivals.is_empty(), "{wrong}");
    }
    assert_eq!(peer.run(&format!("SELECT count(*) FROM {table}")), "6");
    assert_eq!(saw(&look::<Postgres>(at(nowhere, &all), round(4)).await), ("blind", 0));
}

#[tokio::test]
async fn postgres_asks_for_a_password_and_checks_the_certificate() {
    let peer = peers::postgres();
    let table = table();
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let (ca, other) = (
        file("ca.pem", &peer.authority),
        file("other.pem", &crate::http::server::Authority::new().pem()),
    );
    let (right, wrong) = (file("right", "reader-secret"), file("wrong", "not-this-one"));
    let absent = folder.path().join("absent");
    let all = format!("SELECT * FROM {table} WHERE run = $1");
    for (user, password, tls, expected) in [
        ("reader", Some(&right), None, ("complete", 5)),
        ("reader", Some(&right), Some(json!({"ca": ca})), ("complete", 5)),
        ("postgres", None, Some(json!({"ca": ca})), ("complete", 5)),
        ("reader", Some(&wrong), None, ("denied", 0)),
        ("reader", None, None, ("blind", 0)),
        ("reader", Some(&absent), None, ("unreadable", 0)),
        ("nobody", Some(&right), None, ("denied", 0)),
        ("postgres", None, Some(json!({"ca": other})), ("blind", 0)),
    ] {
        let mut spec = spec(peer.port, &all);
        spec["user"] = user.into();
        if let Some(password) = password {
            spec["password"] = json!({"file": password});
        }
        if let Some(tls) = &tls {
            spec["tls"] = tls.clone();
        }
        let seen = look::<Postgres>(spec, round(4)).await;
        assert_eq!(saw(&seen), expected, "{user} {password:?} {tls:?}: {:?}", seen.horizon);
    }
}

/// What a wire does to the bytes of one connection's answers.
#[derive(Clone, Copy, Debug)]
enum Damage {
    None,
    Cut(usize),
    Flip(usize, u8),
    /// Says nothing from here on.
    Stall(usize),
    /// Goes on for ever with this byte.
    Endless(usize, u8),
}

/// A wire to the server for one connection; tells how many bytes the server answered.
async fn wire(server: u16, damage: Damage) -> (u16, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let work = tokio::spawn(async move {
        let (client, _) = listener.accept().await.expect("it comes");
        let server = TcpStream::connect(("127.0.0.1", server)).await.expect("it runs");
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        let asking = tokio::spawn(async move {
            let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
        });
        let (mut passed, mut buffer) = (0, [0; 4096]);
        while let Ok(count) = from_server.read(&mut buffer).await {
            if count == 0 {
                break;
            }
            let bytes = &mut buffer[..count];
            let here = |at: usize| at.checked_sub(passed).filter(|at| *at < count);
            match damage {
                Damage::Flip(at, by) => {
                    if let Some(at) = here(at) {
                        bytes[at] ^= by;
                    }
                }
                Damage::Cut(at) | Damage::Stall(at) | Damage::Endless(at, _) => {
                    if let Some(at) = here(at) {
                        let _ = to_client.write_all(&bytes[..at]).await;
                        if let Damage::Endless(_, byte) = damage {
                            while to_client.write_all(&[byte; 65_536]).await.is_ok() {}
                        }
                        if let Damage::Stall(_) = damage {
                            let _ = asking.await;
                        }
                        return passed + at;
                    }
                }
                Damage::None => {}
            }
            if to_client.write_all(bytes).await.is_err() {
                break;
            }
            passed += count;
        }
        passed
    });
    (port, work)
}

#[tokio::test]
async fn postgres_behind_a_wire_that_damages_its_answers_is_never_complete_by_half() {
    let peer = peers::postgres();
    let all = format!("SELECT * FROM {} WHERE run = $1", table());
    let through = async |damage: Damage, timeout: Duration| {
        let (port, work) = wire(peer.port, damage).await;
        let mut watch = Watch::<Postgres>::new(spec(port, &all), round(4));
        watch.timeout = timeout;
        let began = Instant::now();
        let seen = watch.look().await;
        let took = began.elapsed();
        // Generous: the machine may be busy, and what is asserted is that there is an end.
        assert!(took < timeout * 10, "{damage:?} took {took:?}");
        drop(watch);
        (seen, work.await.expect("no panic inside"))
    };
    let (whole, bytes) = through(Damage::None, PATIENCE).await;
    assert_eq!(saw(&whole), ("complete", 5), "{:?}", whole.horizon);
    let mut tried = 0;
    for at in (0..bytes).step_by(7) {
        let (seen, _) = through(Damage::Cut(at), PATIENCE).await;
        let all_came = saw(&seen) == ("complete", 5);
        assert!(all_came || saw(&seen) == ("blind", 0), "cut at {at}: {:?}", seen.horizon);
        // The last is what the server says of itself, after every row.
        assert!(!all_came || at > bytes * 3 / 4, "cut at {at} of {bytes}, and complete");
        tried += 1;
        for by in [0x01, 0x20, 0x80] {
            let (seen, _) = through(Damage::Flip(at, by), Duration::from_millis(300)).await;
            assert!(seen.arrivals.len() <= 5, "{by} at {at}");
            tried += 1;
        }
    }
    for at in [0, 1, 5, bytes / 2, bytes - 40] {
        for damage in [Damage::Stall(at), Damage::Endless(at, b'D'), Damage::Endless(at, 0)] {
            let (seen, _) = through(damage, Duration::from_secs(2)).await;
            assert_eq!(saw(&seen), ("blind", 0), "{damage:?}: {:?}", seen.horizon);
            tried += 1;
        }
    }
    eprintln!("{tried} damaged answers of {bytes} bytes");
}
