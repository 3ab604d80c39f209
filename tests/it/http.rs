//! HTTP as a client, and the kinds that are made on it, against a loopback server with faults.

use std::time::Duration;

use greenlight::client::http::{
    BODY_LIMIT, Connection, Failed, How, Request, Response, fetch, parse_url,
};
use greenlight::client::{Clients, tls};
use greenlight::outcome::{FaultCode, ReasonCode, Trouble};
use greenlight::spec::trace::Trace;

mod alerting;
pub(crate) mod confirm;
mod dashboards;
mod drawn;
pub(crate) mod kinds;
mod real;
pub(crate) mod server;
use server::{Act, Authority, Server};

use crate::peers;

const SHORT: Duration = Duration::from_millis(800);

async fn get_with(
    url: &str,
    tls: &tls::Options,
    change: impl FnOnce(&mut How<'_>),
) -> Result<Response, Failed> {
    let mut how = How::within(SHORT, tls);
    change(&mut how);
    fetch(&Clients::default(), Request::get(parse_url(url).unwrap()), &how, &Trace::off()).await
}

async fn get(url: &str) -> Result<Response, Failed> {
    get_with(url, &tls::Options::default(), |_| {}).await
}

fn reason(failed: &Failed) -> ReasonCode {
    match &failed.trouble {
        Trouble::Reason(reason) => reason.code,
        Trouble::Fault(fault) => panic!("our fault, and it is not: {fault}"),
    }
}

#[tokio::test]
async fn http_an_answer_has_all_its_phases() {
    let server = Server::start(|_| {
        Act::After(Duration::from_millis(60), Box::new(Act::json("{\"up\": true}")))
    })
    .await;
    let response = get(&server.url("/health?deep=1")).await.unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(&response.body[..], b"{\"up\": true}");
    let names: Vec<&str> = response.phases.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["resolve", "connect", "request", "first_byte", "body"]);
    let waited = response.phases.first_byte.unwrap();
    assert!((50..700).contains(&waited.as_millis()), "{waited:?}");
    let sum: Duration = response.phases.iter().map(|(_, took)| took).sum();
    assert!(sum < SHORT, "{sum:?}");
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("GET", "/health?deep=1"));
    assert_eq!(seen.header("host"), Some(server.address.to_string().as_str()));
    assert_eq!(seen.header("accept-encoding"), Some("identity"));
    assert!(seen.header("user-agent").unwrap().starts_with("greenlight/"));
    assert_eq!(seen.header("content-length"), None);
}

#[tokio::test]
async fn http_every_fault_of_a_server_is_told_apart() {
    let endless = || Act::Endless(&[b'x'; 1024]);
    type Make = Box<dyn Fn() -> Act + Send + Sync>;
    let cases: Vec<(&str, Make, ReasonCode, Option<u16>)> = vec![
        ("hang", Box::new(|| Act::Stall(Vec::new())), ReasonCode::Timeout, None),
        (
            "half a head",
            Box::new(|| Act::Stall(b"HTTP/1.1 200 OK\r\nx-a: ".to_vec())),
            ReasonCode::Timeout,
            None,
        ),
        (
            "half a body",
            Box::new(|| Act::Stall(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec())),
            ReasonCode::Timeout,
            Some(200),
        ),
        (
            "cut off",
            Box::new(|| Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc".to_vec())),
            ReasonCode::ConnectionLost,
            Some(200),
        ),
        ("closed", Box::new(|| Act::Raw(Vec::new())), ReasonCode::ConnectionLost, None),
        ("reset", Box::new(|| Act::Reset), ReasonCode::ConnectionLost, None),
        (
            "no HTTP",
            Box::new(|| Act::Raw(b"220 mail.example ESMTP\r\n".to_vec())),
            ReasonCode::ProtocolError,
            None,
        ),
        (
            "binary",
            Box::new(|| Act::Raw(vec![0, 0xff, 0x16, 3, 1, 0, 13, 10])),
            ReasonCode::ProtocolError,
            None,
        ),
        (
            "wrong length",
            Box::new(|| Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n".to_vec())),
            ReasonCode::ProtocolError,
            None,
        ),
        (
            "wrong chunk",
            Box::new(|| {
                Act::Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n".to_vec())
            }),
            ReasonCode::ConnectionLost,
            Some(200),
        ),
        ("endless head", Box::new(endless), ReasonCode::ProtocolError, None),
        (
            "huge, and says so",
            Box::new(|| {
                Act::Raw(
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", u64::MAX / 2)
                        .into_bytes(),
                )
            }),
            ReasonCode::TooLarge,
            Some(200),
        ),
    ];
    for (name, make, code, status) in cases {
        let server = Server::start(move |_| make()).await;
        let failed = get(&server.url("/")).await.unwrap_err();
        assert_eq!(reason(&failed), code, "{name}: {}", failed.trouble);
        assert_eq!(failed.status.map(|s| s.as_u16()), status, "{name}");
        assert!(failed.written, "{name}");
        assert!(failed.phases.connect.is_some(), "{name}");
    }
}

#[tokio::test]
async fn http_a_body_without_an_end_is_cut_at_the_limit() {
    let server = Server::start(|_| {
        Act::Raw([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &vec![b'x'; BODY_LIMIT + 1]].concat())
    })
    .await;
    let tls = tls::Options::default();
    let long = |how: &mut How<'_>| how.deadline += Duration::from_secs(20);
    let failed = get_with(&server.url("/"), &tls, long).await.unwrap_err();
    assert_eq!(reason(&failed), ReasonCode::TooLarge, "{}", failed.trouble);
    let server = Server::start(|_| Act::json("x".repeat(100))).await;
    let cut = get_with(&server.url("/"), &tls, |how| how.max_body = 99).await.unwrap_err();
    assert_eq!(reason(&cut), ReasonCode::TooLarge);
    let whole = get_with(&server.url("/"), &tls, |how| how.max_body = 100).await.unwrap();
    assert_eq!(whole.body.len(), 100);
}

#[tokio::test]
async fn http_what_never_left_is_told_from_what_may_have() {
    let port = peers::free_port();
    let failed = get(&format!("http://127.0.0.1:{port}/")).await.unwrap_err();
    assert_eq!(reason(&failed), ReasonCode::Refused);
    assert!(!failed.written && failed.phases.connect.is_some() && failed.phases.request.is_none());

    // A full backlog swallows connection requests, as a firewall does.
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    listener.listen(0).unwrap();
    let full = listener.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while waiting.len() < 16 {
        match std::net::TcpStream::connect_timeout(&full, Duration::from_millis(200)) {
            Ok(stream) => waiting.push(stream),
            Err(_) => break,
        }
    }
    assert!(waiting.len() < 16, "the backlog never fills");
    let failed = get(&format!("http://{full}/")).await.unwrap_err();
    assert_eq!(reason(&failed), ReasonCode::Filtered, "{}", failed.trouble);
    assert!(!failed.written);

    let failed = get("http://a..b/").await.unwrap_err();
    assert_eq!(reason(&failed), ReasonCode::NameNotFound);
    assert!(failed.phases.connect.is_none());
}

#[tokio::test]
async fn http_redirects_are_followed_only_when_asked_and_carry_no_credentials_away() {
    let other = Server::start(|_| Act::json("\"there\"")).await;
    let away = other.url("/away");
    let server = Server::start(move |request| match request.path.as_str() {
        "/here" => Act::Answer(302, vec![("location", "/there?x=1".into())], String::new()),
        "/there?x=1" => Act::json("\"here\""),
        "/away" => Act::Answer(307, vec![("location", away.clone())], String::new()),
        "/loop" => Act::Answer(301, vec![("location", "/loop".into())], String::new()),
        "/bad" => Act::Answer(301, vec![("location", "ftp://x/".into())], String::new()),
        _ => Act::status(404),
    })
    .await;
    let tls = tls::Options::default();
    let follow = |how: &mut How<'_>| {
        how.follow = true;
        how.authorization = Some("Bearer s3cret".parse().unwrap());
    };
    assert_eq!(get(&server.url("/here")).await.unwrap().status, 302);
    let response = get_with(&server.url("/here"), &tls, follow).await.unwrap();
    assert_eq!((&response.body[..], response.redirects), (&b"\"here\""[..], 1));
    assert_eq!(response.url.as_str(), server.url("/there?x=1"));
    assert_eq!(server.seen().last().unwrap().header("authorization"), Some("Bearer s3cret"));

    let response = get_with(&server.url("/away"), &tls, follow).await.unwrap();
    assert_eq!(response.body, "\"there\"");
    assert_eq!(other.seen()[0].header("authorization"), None);

    let before = server.seen().len();
    let failed = get_with(&server.url("/loop"), &tls, follow).await.unwrap_err();
    assert_eq!(reason(&failed), ReasonCode::UnexpectedStatus);
    assert_eq!(server.seen().len() - before, 11);
    let failed = get_with(&server.url("/bad"), &tls, follow).await.unwrap_err();
    assert_eq!(reason(&failed), ReasonCode::ProtocolError);
}

#[tokio::test]
async fn http_one_connection_carries_a_batch() {
    let server = Server::start(|request| {
        if request.body == "last" {
            Act::Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_vec())
        } else {
            Act::status(201)
        }
    })
    .await;
    let url = parse_url(&server.url("/in")).unwrap();
    let (clients, options, trace) = (Clients::default(), tls::Options::default(), Trace::on());
    let how = How::within(SHORT, &options);
    let mut connection = Connection::open(&clients, &url, &how, &trace).await.unwrap();
    for body in ["one", "two", "last"] {
        let mut request = Request::get(url.clone());
        request.method = hyper::Method::POST;
        request.body = body.into();
        let response = connection.exchange(&request, &how, &trace).await.unwrap();
        assert!(response.status.is_success());
        assert_eq!(response.phases.connect.is_some(), body == "one");
    }
    let seen = server.seen();
    assert!(seen.iter().all(|request| request.connection == 0));
    assert_eq!(seen.iter().map(|r| r.body.as_str()).collect::<Vec<_>>(), ["one", "two", "last"]);
    tokio::time::timeout(SHORT, async {
        while connection.is_open() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("the server's close is noticed");
    let failed = connection.exchange(&Request::get(url), &how, &trace).await.unwrap_err();
    assert_eq!(reason(&failed), ReasonCode::ConnectionLost);
    assert!(!failed.written);
}

#[tokio::test]
async fn https_trust_expiry_and_names_are_judged() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let trusting = tls::Options { ca: Some(ca.clone()), ..Default::default() };
    let insecure = tls::Options { insecure: true, ..Default::default() };

    let good = Server::start_tls(authority.server(&["127.0.0.1"], 2100), |_| Act::json("1")).await;
    let response = get_with(&good.url("/"), &trusting, |_| {}).await.unwrap();
    assert!(response.phases.tls.is_some());
    let left = response.expires_in.unwrap();
    assert!(left > 70 * 365 * 86_400 && left < 80 * 365 * 86_400, "{left}");

    // The system's store does not know the test's authority.
    let failed = get(&good.url("/")).await.unwrap_err();
    assert!(failed.expires_in.is_some() && !failed.written, "{failed:?}");
    assert_eq!(reason(&failed), ReasonCode::CertificateInvalid);
    assert!(failed.trouble.to_string().contains("nobody we trust"), "{}", failed.trouble);

    let old = Server::start_tls(authority.server(&["127.0.0.1"], 2020), |_| Act::json("1")).await;
    let failed = get_with(&old.url("/"), &trusting, |_| {}).await.unwrap_err();
    assert_eq!(reason(&failed), ReasonCode::CertificateInvalid);
    assert!(failed.expires_in.unwrap() < 0, "the expiry of an expired certificate is known");
    let response = get_with(&old.url("/"), &insecure, |_| {}).await.unwrap();
    assert!(response.expires_in.unwrap() < 0);

    let named =
        Server::start_tls(authority.server(&["lake.example"], 2100), |_| Act::json("1")).await;
    let failed = get_with(&named.url("/"), &trusting, |_| {}).await.unwrap_err();
    assert_eq!(reason(&failed), ReasonCode::CertificateInvalid);
    let mut options = trusting.clone();
    options.server_name = Some("lake.example".into());
    assert_eq!(get_with(&named.url("/"), &options, |_| {}).await.unwrap().status, 200);

    // A peer that does not speak TLS, and one that never answers.
    let plain = Server::start(|_| Act::status(200)).await;
    let url = format!("https://{}/", plain.address);
    let failed = get_with(&url, &insecure, |_| {}).await.unwrap_err();
    assert!(matches!(reason(&failed), ReasonCode::TlsFailed | ReasonCode::Timeout));

    for (path, what) in [("missing.pem", "nothing"), ("empty.pem", "")] {
        let file = folder.path().join(path);
        if what.is_empty() {
            std::fs::write(&file, "").unwrap();
        }
        let options = tls::Options { ca: Some(file), ..Default::default() };
        match get_with(&good.url("/"), &options, |_| {}).await.unwrap_err().trouble {
            Trouble::Fault(fault) => assert_eq!(fault.code, FaultCode::Unreadable),
            Trouble::Reason(reason) => panic!("a file of ours that can't be read is no {reason}"),
        }
    }
}

#[tokio::test]
async fn https_a_client_certificate_is_shown_where_it_is_asked_for() {
    let authority = Authority::new();
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let (cert, key) = authority.issue(&["agent"], 2100);
    let ca = path("ca.pem", &authority.pem());
    let server =
        Server::start_tls(authority.strict_server(&["127.0.0.1"]), |_| Act::json("1")).await;
    let without = tls::Options { ca: ca.clone(), ..Default::default() };
    let failed = get_with(&server.url("/"), &without, |_| {}).await.unwrap_err();
    let code = reason(&failed);
    assert!(matches!(code, ReasonCode::TlsFailed | ReasonCode::ConnectionLost), "{code:?}");
    let with = tls::Options {
        ca,
        cert: path("cert.pem", &cert),
        key: path("key.pem", &key),
        ..Default::default()
    };
    assert_eq!(get_with(&server.url("/"), &with, |_| {}).await.unwrap().status, 200);
}

#[test]
fn http_urls_are_checked_before_anything_is_sent() {
    for (text, shown) in [
        ("lake:9200", "neither http nor https"),
        ("/health", "no URL"),
        ("ftp://lake/", "neither"),
        ("http://user:pw@lake/", "auth"),
        ("http:///x", "no"),
    ] {
        match parse_url(text) {
            Err(why) => {
                assert!(why.contains(shown), "{text}: {why}");
                assert!(!why.contains("pw@"), "{why}");
            }
            Ok(url) => assert_eq!((text, url.host_str()), ("http:///x", Some("x"))),
        }
    }
}

#[tokio::test]
async fn http_garbage_for_an_answer_never_panics() {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    const INPUTS: usize = 1500;
    let words: Vec<&[u8]> = vec![
        b"HTTP/1.1",
        b" ",
        b"200",
        b"999999",
        b" OK",
        b"\r\n",
        b"\n",
        b"content-length: ",
        b"5",
        b"-1",
        b"18446744073709551616",
        b"transfer-encoding: chunked",
        b"ffffffffffffffff",
        b"0",
        b"\0",
        b"\xff\xfe",
        b"location: ",
        b"//[",
        b"x: y",
        b"HTTP/0.9",
        b"100 Continue",
        b":",
    ];
    let soup = prop::collection::vec(prop::sample::select(words), 0..24).prop_map(|w| w.concat());
    let answers = prop_oneof![soup, prop::collection::vec(any::<u8>(), 0..200)];
    let mut runner = TestRunner::deterministic();
    let mut answers: Vec<Vec<u8>> =
        (0..INPUTS).map(|_| answers.new_tree(&mut runner).unwrap().current()).collect();
    // Half of them have a right beginning.
    for answer in answers.iter_mut().step_by(2) {
        answer.splice(0..0, b"HTTP/1.1 301 X\r\n".iter().copied());
    }
    let left = std::sync::Mutex::new(answers);
    let server = Server::start(move |_| {
        let next = left.lock().unwrap().pop();
        next.map_or(Act::status(500), Act::Raw)
    })
    .await;
    let (tls, url) = (tls::Options::default(), server.url("/"));
    let (mut answered, mut failed) = (0, 0);
    for _ in 0..INPUTS {
        match get_with(&url, &tls, |_| {}).await {
            Ok(_) => answered += 1,
            Err(trouble) => {
                failed += 1;
                assert!(matches!(trouble.trouble, Trouble::Reason(_)), "{}", trouble.trouble);
            }
        }
    }
    eprintln!("property http answers: {INPUTS} inputs, {answered} answers, {failed} refused");
    assert_eq!(server.seen().len(), INPUTS);
    assert!(answered > 20 && failed > 20, "{answered} {failed}");
}
