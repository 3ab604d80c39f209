//! Who may ask, and who may change something.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::{StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::sync::oneshot;

use super::answer::Refusal;
use super::{Web, WebConfig};
use crate::lanes::{Fill, Lane};

/// Sign-ins that wait for their turn: one of bcrypt's usual cost takes 50 to 250 ms of a
/// processor, so that these take all the time a request has.
const SIGN_INS_LIMIT: usize = 32;

/// For one sign-in, those before it in the queue included.
const SIGN_IN_WITHIN: Duration = Duration::from_secs(10);

/// Verified where the user is unknown, so that the time of a refusal does not tell who exists.
/// The hash of no password that anybody knows, at the usual cost.
const NOBODY: &str = "$2y$10$QOauhQNbBCuQDKes6eFzPeMqBSjb7Mr5DUmpZ/VcEd00UAV/LDeSi";

/// One password to be held against one hash.
struct SignIn {
    password: Vec<u8>,
    hash: String,
    answer: oneshot::Sender<bool>,
}

/// The lane in which passwords are verified: bcrypt is made to take long. Made for the first one.
#[derive(Clone, Default)]
pub(super) struct SignIns(Arc<Mutex<Option<Arc<Lane<SignIn>>>>>);

pub(super) struct Guard {
    web: Web,
    /// The digest of each user's last right password, so that a scrape does not pay for bcrypt
    /// again. Never more than there are users.
    known: Mutex<HashMap<String, [u8; 32]>>,
}

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    /// From this node itself, on loopback.
    local: bool,
    /// With a right password.
    signed_in: bool,
    tls: bool,
}

impl Guard {
    pub(super) fn new(web: Web) -> Self {
        Self { web, known: Mutex::new(HashMap::new()) }
    }

    pub(super) fn config(&self) -> Arc<WebConfig> {
        self.web.get()
    }

    /// Lets in who has a right password, or everybody where there are no users.
    pub(super) async fn admit(
        &self,
        headers: &HeaderMap,
        peer: SocketAddr,
        tls: bool,
    ) -> Result<Caller, Refusal> {
        let config = self.web.get();
        // A proxy on this node is as local as its clients are not.
        let forwarded = headers.contains_key(header::FORWARDED)
            || headers.contains_key(HeaderName::from_static("x-forwarded-for"));
        let local = peer.ip().to_canonical().is_loopback() && !forwarded;
        if config.users.is_empty() {
            return Ok(Caller { local, signed_in: false, tls });
        }
        let refused = |text: &str| {
            Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", text)
                .with(header::WWW_AUTHENTICATE, "Basic realm=\"greenlight\", charset=\"UTF-8\"")
        };
        let Some((user, password)) = credentials(headers) else {
            return Err(refused("a user and a password are needed"));
        };
        match self.verify(&config, &user, password).await {
            Ok(true) => Ok(Caller { local, signed_in: true, tls }),
            Ok(false) => Err(refused("the user or the password is wrong")),
            Err(text) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", text)),
        }
    }

    async fn verify(
        &self,
        config: &WebConfig,
        user: &str,
        password: Vec<u8>,
    ) -> Result<bool, String> {
        let hash = config.users.get(user);
        // The hash is part of it: another password in the file makes the old digest worthless.
        let digest: [u8; 32] = Sha256::new()
            .chain_update(hash.map_or(NOBODY, String::as_str))
            .chain_update([0])
            .chain_update(&password)
            .finalize()
            .into();
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(user).copied();
        if known.is_some_and(|known| equal(&known, &digest)) {
            return Ok(true);
        }
        let lane = self.web.sign_ins.lane()?;
        let right = lane
            .ask(SIGN_IN_WITHIN, |answer| SignIn {
                password,
                hash: hash.map_or(NOBODY, String::as_str).to_owned(),
                answer,
            })
            .await
            .map_err(|fault| format!("the password could not be verified: {}", fault.text))?;
        if right && hash.is_some() {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.retain(|user, _| config.users.contains_key(user));
            known.insert(user.to_owned(), digest);
        }
        Ok(right && hash.is_some())
    }
}

impl SignIns {
    /// None where no password was ever verified.
    pub(super) fn fill(&self) -> Option<Fill> {
        let lane = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lane.as_ref().map(|lane| lane.fill())
    }

    fn lane(&self) -> Result<Arc<Lane<SignIn>>, String> {
        let mut lane = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = &*lane {
            return Ok(Arc::clone(lane));
        }
        let made = Lane::start("sign_ins", SIGN_INS_LIMIT, (), |(), job: SignIn| {
            let right = bcrypt::non_truncating_verify(&job.password, &job.hash).unwrap_or(false);
            // Whoever asked may have gone.
            let _ = job.answer.send(right);
        })
        .map_err(|error| format!("the password could not be verified: no thread: {error}"))?;
        let made = Arc::new(made);
        *lane = Some(Arc::clone(&made));
        Ok(made)
    }
}

impl Caller {
    /// Lets change something who is on this node, or who signed in over TLS; never a page that
    /// merely runs in the browser of either.
    pub(super) fn may_change(self, headers: &HeaderMap) -> Result<(), Refusal> {
        let forbidden = |text: &str| Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", text));
        let text = |name: HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
        let host = text(header::HOST).unwrap_or("");
        if let Some(origin) = text(header::ORIGIN) {
            let scheme = if self.tls { "https" } else { "http" };
            if origin != format!("{scheme}://{host}") {
                return forbidden("the request comes from a page of another site");
            }
        }
        let site = text(HeaderName::from_static("sec-fetch-site"));
        if !matches!(site, None | Some("same-origin" | "none")) {
            return forbidden("the request comes from a page of another site");
        }
        if self.tls && self.signed_in {
            return Ok(());
        }
        if !self.local {
            return forbidden(
                "this route answers on loopback only, until --web.config.file sets up TLS and users",
            );
        }
        // A name that somebody else resolves to 127.0.0.1 (DNS rebinding) is not this node's.
        if !own_host(host) {
            return forbidden("the request names another host: use 127.0.0.1, [::1] or localhost");
        }
        Ok(())
    }
}

fn own_host(host: &str) -> bool {
    let Ok(uri) = host.parse::<Uri>() else { return false };
    let Some(name) = uri.authority().map(|authority| authority.host()) else { return false };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

fn credentials(headers: &HeaderMap) -> Option<(String, Vec<u8>)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, encoded) = value.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = STANDARD.decode(encoded.trim()).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    let (user, password) = decoded.split_at_checked(colon)?;
    let user = std::str::from_utf8(user).ok()?.to_owned();
    Some((user, password.get(1..)?.to_vec()))
}

/// In a time that does not tell where they differ.
fn equal(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    #[test]
    fn who_may_change_something() {
        let here = Caller { local: true, signed_in: false, tls: false };
        let there = Caller { local: false, signed_in: false, tls: false };
        let signed = Caller { local: false, signed_in: true, tls: true };
        let no_tls = Caller { local: false, signed_in: true, tls: false };
        type Fields = &'static [(&'static str, &'static str)];
        const HOST: (&str, &str) = ("host", "127.0.0.1:9765");
        let table: [(Caller, Fields, bool); 16] = [
            (here, &[HOST], true),
            (here, &[("host", "[::1]:9765")], true),
            (here, &[("host", "localhost:9765")], true),
            (here, &[("host", "evil.example:9765")], false),
            (here, &[], false),
            (here, &[("host", "not a host")], false),
            (here, &[HOST, ("origin", "http://127.0.0.1:9765")], true),
            (here, &[HOST, ("origin", "http://evil.example")], false),
            (here, &[HOST, ("origin", "null")], false),
            (here, &[HOST, ("sec-fetch-site", "cross-site")], false),
            (here, &[HOST, ("sec-fetch-site", "same-origin")], true),
            (there, &[HOST], false),
            (signed, &[("host", "gl.example")], true),
            (signed, &[("host", "gl.example"), ("origin", "https://gl.example")], true),
            (signed, &[("host", "gl.example"), ("origin", "https://evil.example")], false),
            (no_tls, &[HOST], false),
        ];
        for (caller, fields, expected) in table {
            let got = caller.may_change(&headers(fields)).is_ok();
            assert_eq!(got, expected, "{caller:?} {fields:?}");
        }
    }

    #[test]
    fn credentials_are_read_as_rfc_7617_writes_them() {
        let read = |value| credentials(&headers(&[("authorization", value)]));
        assert_eq!(
            read("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),
            Some((String::from("Aladdin"), b"open sesame".to_vec()))
        );
        assert_eq!(read("basic YTo6"), Some((String::from("a"), b":".to_vec())));
        for wrong in ["Basic", "Basic ???", "Basic YWJj", "Bearer YTpi", "", "Basic /zph"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_hash_of_nobody_is_a_hash() {
        // Otherwise an unknown user would be told apart by the time it takes.
        assert_eq!(bcrypt::non_truncating_verify("x", NOBODY).ok(), Some(false));
    }
}
