//! A mailbox: Dovecot's, and servers that say what they should not.

use std::fs;
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use greenlight::confirm::imap::Imap;
use greenlight::outcome::FaultCode;
use proptest::prelude::*;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;

use super::*;
use crate::http::server::{Act, Authority, Server};
use crate::peers::{self, Process};

/// Who owns the mailboxes.
const NOBODY: u32 = 65_534;

struct Dovecot {
    ports: [u16; 2],
    folder: PathBuf,
    _process: Process,
}

/// `more` is put behind its settings.
fn dovecot(authority: &Authority, more: &str) -> Dovecot {
    let folder = peers::folder("dovecot");
    let ports = [peers::free_port(), peers::free_port()];
    let config = include_str!("../../peers/dovecot.conf")
        .replace("@FOLDER@", &folder.display().to_string())
        .replace("@IMAPS@", &ports[1].to_string())
        .replace("@IMAP@", &ports[0].to_string())
        + &more.replace("@FOLDER@", &folder.display().to_string());
    let (certificate, key) = authority.issue(&["localhost"], 2100);
    let users = "soc:{PLAIN}se \"cret:65534:65534::/nonexistent::\n";
    for (name, text) in [
        ("dovecot.conf", config.as_str()),
        ("certificate.pem", &certificate),
        ("key.pem", &key),
        ("users", users),
        ("ca.pem", &authority.pem()),
    ] {
        fs::write(folder.join(name), text).expect("the folder can be written");
    }
    let mut boxes = folder.join("boxes");
    for part in ["", "soc", "new"] {
        boxes.push(part);
        fs::create_dir_all(&boxes).expect("the folder can be written");
        chown(&boxes, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    for part in ["cur", "tmp"] {
        let part = folder.join("boxes/soc").join(part);
        fs::create_dir_all(&part).expect("the folder can be written");
        chown(&part, Some(NOBODY), Some(NOBODY)).expect("root may");
    }
    let config = folder.join("dovecot.conf").display().to_string();
    let log = folder.join("start.log");
    let mut process = Process::start("dovecot", "dovecot-imapd", &["-F", "-c", &config], &log);
    process.wait_until(|| TcpStream::connect((Ipv4Addr::LOCALHOST, ports[0])).is_ok());
    Dovecot { ports, folder, _process: process }
}

impl Dovecot {
    /// As a mail server delivers: written aside, then moved in.
    fn deliver(&self, mail: &str) {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(1);
        let next = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let at = |part: &str| -> PathBuf {
            self.folder.join("boxes/soc").join(part).join(format!("1700000000.{next}.test"))
        };
        fs::write(at("tmp"), mail).expect("the folder can be written");
        chown(at("tmp"), Some(NOBODY), Some(NOBODY)).expect("root may");
        let readable = fs::Permissions::from_mode(0o600);
        fs::set_permissions(at("tmp"), readable).expect("root may");
        fs::rename(at("tmp"), at("new")).expect("the folder can be written");
    }

    fn spec(&self, change: impl Fn(&mut Value)) -> Value {
        let ca = self.folder.join("ca.pem");
        let mut spec = json!({
            "url": format!("imap://localhost:{}", self.ports[0]), "user": "soc",
            "password": password(&self.folder, "se \"cret"), "tls": {"ca": ca},
        });
        change(&mut spec);
        spec
    }
}

fn password(folder: &Path, text: &str) -> Value {
    let file = folder.join(format!("password-{}", text.len()));
    fs::write(&file, text).expect("the folder can be written");
    json!({ "file": file })
}

fn watch(spec: Value) -> Watch<Imap> {
    let mut watch = Watch::<Imap>::new(spec, round(3));
    watch.timeout = PATIENCE;
    watch
}

/// What a detector sends: its text in base64, as Python's library writes UTF-8.
fn mail(subject: &str, text: &str) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(text);
    format!(
        "From: detector@example.com\nTo: soc@example.com\nSubject: {subject}\n\
         MIME-Version: 1.0\nContent-Type: text/plain; charset=\"utf-8\"\n\
         Content-Transfer-Encoding: base64\n\n{text}\n"
    )
}

#[tokio::test]
async fn imap_reads_what_reached_the_mailbox_and_changes_nothing_there() {
    let authority = Authority::new();
    let peer =
        tokio::task::spawn_blocking(move || dovecot(&authority, "")).await.expect("it starts");
    let token = |run| events(run, 1)[0].token.clone();
    peer.deliver(&mail("Alert: old", &token(RUN)));

    let mut plain = watch(peer.spec(|_| {}));
    let imaps = format!("imaps://localhost:{}", peer.ports[1]);
    let mut secured = watch(peer.spec(|spec| {
        spec["url"] = imaps.as_str().into();
        spec["match"] = json!({"subject": "alert: {run}", "from": "DETECTOR@"});
    }));
    plain.begin().await.expect("it can begin");
    secured.begin().await.expect("it can begin");
    assert_eq!(saw(&plain.look().await), ("complete", 0), "what was there before is not new");

    peer.deliver(&mail("Alert: x", &format!("übung\n{}", token(OTHER))));
    peer.deliver(&mail(&format!("Alert: {RUN}"), &format!("übung\n{}\n", token(RUN))));
    let look = plain.look().await;
    assert_eq!(saw(&look), ("complete", 1), "{:?}", look.horizon);
    let fields = look.arrivals[0].fields.as_ref().expect("fields");
    assert_eq!(fields["name"], format!("Alert: {RUN}"));
    assert_eq!(fields["headers"]["from"], "detector@example.com");
    assert!(look.arrivals[0].text.as_ref().expect("a text").starts_with("übung\n"));
    assert_eq!(saw(&plain.look().await), ("complete", 0), "each is told once");
    // One that names nobody came after the round began; one more is one more.
    peer.deliver(&mail("Something else", "six failures"));
    peer.deliver(&mail(&format!("Alert: {RUN}"), "six failures"));
    assert_eq!(saw(&plain.look().await), ("complete", 2));
    assert_eq!(saw(&secured.look().await), ("complete", 2));
    // The end of an alert is that of each mail that told of it.
    peer.deliver(&mail(&format!("[RESOLVED] Alert: {RUN}"), "over"));
    let look = secured.look().await;
    assert_eq!(look.arrivals.iter().map(|arrival| arrival.ended).collect::<Vec<_>>(), [true, true]);
    let unread = fs::read_dir(peer.folder.join("boxes/soc/cur")).expect("the mailbox").flatten();
    let marked = |name: &str| name.split(',').next_back().is_some_and(|flags| flags.contains('S'));
    assert!(!unread.into_iter().any(|file| marked(&file.file_name().to_string_lossy())));

    assert_eq!(saw(&plain.look().await), ("complete", 3), "of the mails of three looks");
    // More mails than one look reads: the next reads on.
    for _ in 0..120 {
        peer.deliver(&mail("many", &token(RUN)));
    }
    assert_eq!(saw(&plain.look().await), ("partial", 100));
    assert_eq!(saw(&plain.look().await), ("complete", 20));

    // Dovecot lets its own machine in without TLS.
    assert_eq!(watch(peer.spec(|spec| spec["clear"] = true.into())).begin().await, Ok(()));
    let other = Authority::new();
    let ca = peer.folder.join("other.pem");
    fs::write(&ca, other.pem()).expect("the folder can be written");
    let wrong = password(&peer.folder, "wrong");
    for (what, spec, expected) in [
        ("a wrong password", peer.spec(|spec| spec["password"] = wrong.clone()), FaultCode::Denied),
        ("no mailbox", peer.spec(|spec| spec["mailbox"] = "Nowhere".into()), FaultCode::Blind),
        (
            "another's certificate",
            peer.spec(|spec| spec["tls"]["ca"] = json!(ca)),
            FaultCode::Blind,
        ),
    ] {
        assert_eq!(watch(spec).begin().await, Err(expected), "{what}");
    }
}

/// A server that takes no LOGIN, and one that knows tokens, which another one vouches for.
#[tokio::test]
async fn imap_logs_in_where_a_server_takes_no_login_and_by_a_token() {
    let vouches = Server::start(|asked| match asked.path.strip_prefix("/?token=") {
        Some("good") => Act::json(r#"{"email":"soc"}"#),
        _ => Act::Answer(401, Vec::new(), r#"{"error":"invalid_token"}"#.into()),
    })
    .await;
    for mechanism in ["XOAUTH2", "OAUTHBEARER"] {
        let more = format!(
            "imap_capability = +LOGINDISABLED\nauth_mechanisms = plain {}\n\
             passdb {{\n  driver = oauth2\n  mechanisms = xoauth2 oauthbearer\n  args = @FOLDER@/tokens\n}}\n",
            mechanism.to_lowercase()
        );
        let authority = Authority::new();
        let start = tokio::task::spawn_blocking(move || dovecot(&authority, &more));
        let peer = start.await.expect("it starts");
        let tokens = format!("tokeninfo_url = {}\n", vouches.url("/?token="));
        fs::write(peer.folder.join("tokens"), tokens).expect("the folder can be written");
        let by_token = |token: &str| {
            peer.spec(|spec| {
                let fields = spec.as_object_mut().expect("an object");
                fields.remove("password");
                fields.insert("token".into(), password(&peer.folder, token));
            })
        };
        for (method, spec) in [("PLAIN", peer.spec(|_| {})), (mechanism, by_token("good"))] {
            let mut watch = watch(spec);
            watch.begin().await.expect("it can begin");
            peer.deliver(&mail("Alert", &events(RUN, 1)[0].token));
            assert_eq!(saw(&watch.look().await), ("complete", 1), "{method}");
            let by = format!("method={method},");
            let deadline = std::time::Instant::now() + PATIENCE;
            while !fs::read_to_string(peer.folder.join("dovecot.log"))
                .is_ok_and(|log| log.contains(&by))
            {
                assert!(std::time::Instant::now() < deadline, "nobody came by {method}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        let denied = watch(by_token("stolen")).begin().await;
        assert_eq!(denied, Err(FaultCode::Denied), "{mechanism}");
    }
}

/// Says these in turn, the first as its greeting and each next one after a command, whose tag
/// stands for `TAG`.
async fn says(lines: Vec<Vec<u8>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (read, mut write) = stream.into_split();
            let mut read = BufReader::new(read).lines();
            let mut lines = lines.iter();
            if write.write_all(lines.next().expect("a greeting")).await.is_err() {
                continue;
            }
            let mut tag = None;
            while let Ok(Some(line)) = read.next_line().await {
                let first = tag
                    .get_or_insert_with(|| line.split(' ').next().unwrap_or_default().to_owned());
                let first = first.clone();
                let go_on = line.ends_with('}');
                let answer = match (go_on, lines.as_slice().first()) {
                    (true, _) => b"+ go on\r\n".to_vec(),
                    (false, Some(_)) => {
                        let said = lines.next().expect("there is one");
                        // The command goes on in the next line.
                        if !said.starts_with(b"+") {
                            tag = None;
                        }
                        replaced(said, first.as_bytes())
                    }
                    (false, None) => break,
                };
                if write.write_all(&answer).await.is_err() {
                    break;
                }
            }
        }
    });
    port
}

fn replaced(said: &[u8], tag: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = said;
    while let Some(at) = rest.windows(3).position(|three| three == b"TAG") {
        out.extend_from_slice(&rest[..at]);
        out.extend_from_slice(tag);
        rest = &rest[at + 3..];
    }
    out.extend_from_slice(rest);
    out
}

/// A session in which one new mail of the round is found.
fn session() -> [Vec<u8>; 6] {
    let body = mail("Alert", &events(RUN, 1)[0].token).replace('\n', "\r\n");
    let fetched = format!(
        "* 1 FETCH (UID 7 RFC822.SIZE {0} BODY[]<0> {{{0}}}\r\n{body})\r\nTAG OK fetched\r\n",
        body.len()
    );
    [
        b"* OK [CAPABILITY IMAP4rev1] ready\r\n".to_vec(),
        b"TAG OK logged in\r\n".to_vec(),
        b"* 1 EXISTS\r\n* OK [UIDVALIDITY 5] valid\r\n* OK [UIDNEXT 8] next\r\nTAG OK [READ-ONLY] opened\r\n"
            .to_vec(),
        b"* SEARCH 7\r\nTAG OK searched\r\n".to_vec(),
        fetched.into_bytes(),
        b"* BYE\r\nTAG OK bye\r\n".to_vec(),
    ]
}

async fn read(lines: Vec<Vec<u8>>) -> Look {
    read_by("password", lines).await
}

async fn read_by(proof: &str, lines: Vec<Vec<u8>>) -> Look {
    let port = says(lines).await;
    let folder = peers::folder("imap");
    let spec = json!({
        "url": format!("imap://127.0.0.1:{port}"), "clear": true, "user": "soc",
        (proof): password(&folder, "hunter2"),
    });
    let mut watch = Watch::<Imap>::new(spec, round(3));
    watch.mark = json!({"validity": 5, "next": 3});
    watch.look().await
}

#[tokio::test]
async fn imap_never_takes_what_it_could_not_read_for_an_empty_mailbox() {
    let change = |at: usize, said: &str| {
        let mut lines = session().to_vec();
        lines[at] = said.as_bytes().to_vec();
        lines
    };
    let endless = "x".repeat(400_000);
    for (what, lines, expected) in [
        ("whole", session().to_vec(), ("complete", 1)),
        ("nothing new", change(3, "* SEARCH\r\nTAG OK\r\n"), ("complete", 0)),
        ("only an older one", change(3, "* SEARCH 2\r\nTAG OK\r\n"), ("complete", 0)),
        ("no greeting", change(0, "220 smtp here\r\n"), ("blind", 0)),
        ("goodbye", change(0, "* BYE overloaded\r\n"), ("blind", 0)),
        ("an endless line", change(0, &endless), ("blind", 0)),
        (
            "a login that fails",
            change(1, "TAG NO [AUTHENTICATIONFAILED] hunter2?\r\n"),
            ("denied", 0),
        ),
        (
            "a login that can't be checked",
            change(1, "TAG NO [UNAVAILABLE] later\r\n"),
            ("blind", 0),
        ),
        ("no mailbox", change(2, "TAG NO no such mailbox\r\n"), ("blind", 0)),
        ("no next number", change(2, "* OK [UIDVALIDITY 5]\r\nTAG OK\r\n"), ("blind", 0)),
        (
            "made anew",
            change(2, "* OK [UIDVALIDITY 6]\r\n* OK [UIDNEXT 8]\r\nTAG OK\r\n"),
            ("partial", 1),
        ),
        ("nothing said of the search", change(3, "TAG OK\r\n"), ("blind", 0)),
        ("a number that is none", change(3, "* SEARCH 7 x\r\nTAG OK\r\n"), ("blind", 0)),
        ("gone meanwhile", change(4, "TAG OK fetched\r\n"), ("partial", 0)),
        (
            "far too much",
            change(4, "* 1 FETCH (UID 7 RFC822.SIZE 1 BODY[]<0> {999999999}\r\n"),
            ("blind", 0),
        ),
        ("closed in the middle", change(4, "* BYE\r\n"), ("blind", 0)),
        (
            "too large to be read whole",
            change(4, "* 1 FETCH (UID 7 RFC822.SIZE 999999 BODY[]<0> {2}\r\nx\n)\r\nTAG OK\r\n"),
            ("partial", 1),
        ),
    ] {
        let look = read(lines).await;
        assert_eq!(saw(&look), expected, "{what}: {:?}", look.horizon);
        assert!(!format!("{:?}", look.horizon).contains("hunter2"), "{what}: {:?}", look.horizon);
    }

    // What it offers is asked for where its greeting does not say; what suits none of it is not tried.
    let offers = |offered: &str, more: &[&str]| -> Vec<Vec<u8>> {
        let asked = format!("* CAPABILITY IMAP4rev1 {offered}\r\nTAG OK listed\r\n");
        let mut lines = vec![b"* OK ready\r\n".to_vec(), asked.into_bytes()];
        lines.extend(more.iter().map(|line| line.as_bytes().to_vec()));
        lines
    };
    let whole = [offers("IDLE", &[]), session()[1..].to_vec()].concat();
    assert_eq!(saw(&read(whole).await), ("complete", 1));
    let nothing = vec![b"* OK ready\r\n".to_vec(), b"TAG OK listed\r\n".to_vec()];
    assert_eq!(saw(&read(nothing).await), ("blind", 0));
    let refused = ["+ \r\n", "+ eyJzdGF0dXMiOiJpbnZhbGlkX3Rva2VuIn0=\r\n", "TAG NO hunter2?\r\n"];
    for (proof, offered, more) in [
        ("password", "LOGINDISABLED", &[][..]),
        ("password", "LOGINDISABLED AUTH=PLAIN", &["+ \r\n", "TAG NO hunter2?\r\n"]),
        ("token", "AUTH=PLAIN", &[]),
        ("token", "AUTH=XOAUTH2 AUTH=OAUTHBEARER", &refused),
    ] {
        let look = read_by(proof, offers(offered, more)).await;
        assert_eq!(saw(&look), ("denied", 0), "{offered}: {:?}", look.horizon);
        assert!(!format!("{:?}", look.horizon).contains("hunter2"), "{:?}", look.horizon);
    }
}

/// Bytes that were mangled or cut on the way bring no panic and no second mail, and a session that
/// ends before the mail was read is never complete without it.
#[test]
fn property_imap_sessions() {
    static TRIED: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config =
        ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(which in 0..5_usize, at: prop::sample::Index, byte: u8, cut: bool)| {
        TRIED.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut lines = session().to_vec();
        let place = at.index(lines[which].len());
        if cut {
            lines[which].truncate(place);
            lines.truncate(which + 1);
        } else {
            lines[which][place] = byte;
        }
        let look = runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(20), read(lines)).await
        });
        let look = look.expect("it ends in time");
        prop_assert!(look.arrivals.len() <= 1);
        if cut && look.arrivals.is_empty() {
            prop_assert_ne!(horizon(&look), "complete", "cut {} at {}", which, place);
        }
    });
    eprintln!(
        "property imap sessions: {} inputs",
        TRIED.load(std::sync::atomic::Ordering::Relaxed)
    );
}
