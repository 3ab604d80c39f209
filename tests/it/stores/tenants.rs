//! What a wrong tenant must not see, and what must be refused.

use std::sync::Arc;

use greenlight::client::Clients;
use greenlight::confirm::search::OpenSearch;
use greenlight::confirm::unseen::Unseen;
use greenlight::confirm::{AnyConfirmer, LookContext};
use greenlight::probe::refused::Refused;
use greenlight::probe::{Attempt, Probe};
use greenlight::spec::trace::Trace;
use greenlight::time::{Mono, Now};

use super::*;
use crate::http::kinds::spec;
use crate::http::server::Authority;
use crate::peers;

fn cluster(url: &str, index: &str) -> Arc<dyn AnyConfirmer> {
    let made = OpenSearch::new(spec(json!({"url": url, "index": index})));
    Arc::new(made.unwrap_or_else(|why| panic!("{why}")))
}

async fn guarded(seen: Arc<dyn AnyConfirmer>, hidden: Arc<dyn AnyConfirmer>, proof: Value) -> Look {
    let proof = (!proof.is_null()).then(|| spec(proof));
    let unseen = Unseen::new(seen, hidden, proof).expect("a right spec");
    let (clients, trace, round) = (Clients::default(), Trace::off(), round(2));
    let on = || LookContext {
        sought: &round,
        timeout: PATIENCE,
        clients: &clients,
        trace: &trace,
        now: Now { mono: Mono::now(), wall: round.began.wall },
    };
    let mut mark = unseen.begin(on()).await.expect("it can begin");
    unseen.look(&mut mark, on()).await
}

#[tokio::test]
async fn a_wrong_tenant_sees_nothing_of_what_the_right_one_sees() {
    let peer = peers::opensearch();
    let (right, wrong, leaky) = (unique("right"), unique("wrong"), unique("leaky"));
    let ours: Vec<Value> = events(RUN, 2).iter().map(document).collect();
    peer.index(&right, &ours);
    peer.index(&wrong, &[json!({"message": "something of its own"})]);
    peer.index(&leaky, &ours[1..]);
    let tenant = |index: &str| cluster(&peer.url, index);
    let at = |status| scripted(vec![Act::status(status)]);

    let kept_apart = guarded(tenant(&right), tenant(&wrong), Value::Null).await;
    assert_eq!((horizon(&kept_apart), seqs(&kept_apart)), ("complete", vec![0, 1]));
    assert!(kept_apart.arrivals.iter().all(|arrival| arrival.wrong.is_none()));

    let exposed = guarded(tenant(&right), tenant(&leaky), Value::Null).await;
    let wrongs = |look: &Look| {
        let mut wrongs: Vec<_> = look.arrivals.iter().map(|a| (a.seq, a.wrong.is_some())).collect();
        wrongs.sort_unstable();
        wrongs
    };
    assert_eq!(wrongs(&exposed), [(Some(0), false), (Some(1), true)]);

    // Nothing seen by the right tenant: nothing is asked, and nothing is claimed.
    let nobody = cluster("http://127.0.0.1:9", "x");
    let nothing = guarded(tenant(&wrong), nobody.clone(), Value::Null).await;
    assert_eq!(saw(&nothing), ("complete", 0));
    // A wrong tenant that could not look has proven nothing.
    for status in [429, 500, 404] {
        let server = at(status).await;
        let blind = guarded(tenant(&right), cluster(&server.url(""), "x"), Value::Null).await;
        assert_eq!(saw(&blind), ("partial", 0), "{status}: {:?}", blind.horizon);
    }
    assert_eq!(saw(&guarded(tenant(&right), nobody, Value::Null).await), ("partial", 0));
    // One that is refused has, where its credentials are good elsewhere.
    for (refusal, proof, expected) in [
        (403, Some(200), ("complete", 2)),
        (401, Some(204), ("complete", 2)),
        (403, Some(401), ("partial for another reason", 0)),
        (401, None, ("partial for another reason", 0)),
    ] {
        let (server, elsewhere) = (at(refusal).await, at(proof.unwrap_or(500)).await);
        let proof = proof.map_or(Value::Null, |_| json!({"url": elsewhere.url("/me")}));
        let look = guarded(tenant(&right), cluster(&server.url(""), "x"), proof).await;
        assert_eq!(saw(&look), expected, "{refusal}: {:?}", look.horizon);
    }
}

async fn tried(json: Value, target: &str) -> &'static str {
    let probe = Refused::new(spec(json)).unwrap_or_else(|why| panic!("refused: {why}"));
    let (clients, trace) = (Clients::default(), Trace::off());
    Probe::target(&probe, target).expect("a right target");
    let on =
        Attempt { target: &target.into(), timeout: PATIENCE, clients: &clients, trace: &trace };
    let reading = Probe::attempt(&probe, on).await;
    reading.outcome.why().map_or("refused", |(code, _)| code)
}

#[tokio::test]
async fn a_bad_token_is_refused_let_in_or_not_known() {
    for (act, spec, expected) in [
        (Act::status(401), json!({}), "refused"),
        (Act::status(403), json!({}), "refused"),
        (Act::status(200), json!({}), "not_refused"),
        (Act::status(204), json!({}), "not_refused"),
        (Act::status(404), json!({}), "blind"),
        (Act::status(503), json!({}), "blind"),
        (Act::status(302), json!({}), "blind"),
        (Act::status(302), json!({"status": 302}), "refused"),
        (Act::status(403), json!({"status": [401]}), "blind"),
        (Act::Reset, json!({}), "blind"),
    ] {
        let server = scripted(vec![act]).await;
        assert_eq!(tried(json!({"http": spec}), &server.url("/")).await, expected);
    }
    let nobody = format!("http://127.0.0.1:{}/", peers::free_port());
    assert_eq!(tried(json!({"http": {}}), &nobody).await, "blind");
    // What is sent goes along, as it would with a good token.
    let server = scripted(vec![Act::status(403)]).await;
    let hec = json!({"http": {"send": "{\"event\":\"x\"}"}});
    assert_eq!(tried(hec, &server.url("/services/collector/event")).await, "refused");
    assert_eq!((server.seen()[0].method.as_str(), server.seen()[0].body.len()), ("POST", 13));
    for wrong in [json!({}), json!({"http": {}, "tls": {}}), json!({"http": {"status": 200}})] {
        assert!(Refused::new(spec(wrong)).is_err());
    }
}

#[tokio::test]
async fn kafka_refuses_a_wrong_password() {
    let kafka = peers::kafka();
    kafka.topic("refused-smoke", 1);
    let folder = tempfile::tempdir().expect("a folder");
    let secret = |word: &str| {
        let path = folder.path().join(word);
        std::fs::write(&path, word).expect("written");
        path
    };
    let login = |word: &str| {
        json!({"kafka": {"topic": "refused-smoke", "security": {
            "tls": {"ca": kafka.certificate},
            "sasl": {"mechanism": "SCRAM-SHA-256", "username": "alice", "password": {"file": secret(word)}},
        }}})
    };
    assert_eq!(tried(login("not-this-one"), &kafka.secured).await, "refused");
    assert_eq!(tried(login("alice-secret"), &kafka.secured).await, "not_refused");
    // Without a login at an address that needs none, one is let in.
    let open = json!({"kafka": {"topic": "no-such-topic-at-all"}});
    assert_eq!(tried(open, &kafka.brokers).await, "not_refused");
}

/// A TLS server that reads until its client ends.
async fn tls_server(config: Arc<rustls::ServerConfig>) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
                }
            });
        }
    });
    at
}

#[tokio::test]
async fn tls_without_a_certificate_is_refused_by_an_alert() {
    let (authority, other) = (Authority::new(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let ca = write("ca.pem", &authority.pem());
    let own = |name: &str, by: &Authority| {
        let (certificate, key) = by.issue(&["client"], 2100);
        (write(&format!("{name}.pem"), &certificate), write(&format!("{name}.key"), &key))
    };
    let strict = tls_server(authority.strict_server(&["localhost"])).await;
    let strict = format!("localhost:{}", strict.port());
    let lax = tls_server(authority.server(&["localhost"], 2100)).await;
    let lax = format!("localhost:{}", lax.port());
    let bare = json!({"tls": {"ca": ca}});
    assert_eq!(tried(bare.clone(), &strict).await, "refused");
    assert_eq!(tried(bare.clone(), &lax).await, "not_refused");
    for (name, by, expected) in [("right", &authority, "not_refused"), ("wrong", &other, "refused")]
    {
        let (cert, key) = own(name, by);
        let with = json!({"tls": {"ca": ca, "cert": cert, "key": key}});
        assert_eq!(tried(with, &strict).await, expected, "{name}");
    }
    // A server whose certificate we don't trust has refused nothing: we did.
    let stranger = write("other.pem", &other.pem());
    assert_eq!(tried(json!({"tls": {"ca": stranger}}), &strict).await, "blind");
    let nobody = format!("localhost:{}", peers::free_port());
    assert_eq!(tried(bare, &nobody).await, "blind");
}
