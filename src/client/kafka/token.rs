//! Logins by a token (SASL OAUTHBEARER, RFC 7628): the token is read anew for each client, and
//! again when it is about to expire.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rdkafka::client::OAuthToken;
use serde::Deserialize;

use crate::outcome::Fault;
use crate::spec::Secret;

/// A client is made anew after this, so that a token that does not tell its end is read again.
pub(super) const LIFETIME: Duration = Duration::from_secs(300);
/// What librdkafka is told of a token that does not tell its end: the first of January 2100. The
/// client is replaced long before.
const NO_END_MS: i64 = 4_102_444_800_000;
/// librdkafka wants a name with a token and uses it in its logs alone; the broker takes the
/// token's own.
const PRINCIPAL: &str = "greenlight";

/// The claim of a JWT that matters here (RFC 7519, section 4.1.4): seconds since the epoch.
#[derive(Deserialize)]
struct Claims {
    exp: Option<f64>,
}

/// The token as librdkafka takes it.
pub(super) fn read(secret: &Secret) -> Result<OAuthToken, Fault> {
    secret.renew()?;
    let token = secret.reveal()?;
    Ok(OAuthToken {
        token: token.expose().to_owned(),
        principal_name: PRINCIPAL.to_owned(),
        lifetime_ms: expiry_ms(token.expose()).unwrap_or(NO_END_MS),
    })
}

/// When a token expires, where it is a JWT and says so.
fn expiry_ms(token: &str) -> Option<i64> {
    let mut parts = token.split('.');
    let (_, claims) = (parts.next()?, parts.next()?);
    let claims = URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok()?;
    let exp = serde_json::from_slice::<Claims>(&claims).ok()?.exp?;
    // Within what librdkafka can hold: it counts in microseconds.
    let millis = (exp * 1000.0).clamp(1.0, NO_END_MS as f64);
    millis.is_finite().then_some(millis as i64)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    fn jwt(claims: &str) -> String {
        format!("e30.{}.sig", URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_tells_its_end_or_is_read_again_by_age() {
        let table = [
            (jwt(r#"{"sub":"a","exp":1790000000}"#), Some(1_790_000_000_000)),
            (jwt(r#"{"exp":1790000000.25}"#), Some(1_790_000_000_250)),
            (jwt(r#"{"exp":1e300}"#), Some(NO_END_MS)),
            (jwt(r#"{"exp":-5}"#), Some(1)),
            (jwt(r#"{"sub":"a"}"#), None),
            (jwt(r#"{"exp":"soon"}"#), None),
            (jwt("nonsense"), None),
            ("opaque".to_owned(), None),
            ("a.ä.c".to_owned(), None),
            (String::new(), None),
        ];
        for (token, expected) in table {
            assert_eq!(expiry_ms(&token), expected, "{token}");
        }
    }

    #[test]
    fn what_stands_in_a_file_is_read_each_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        let secret = Secret::file(file.display().to_string());
        assert!(read(&secret).is_err_and(|fault| !fault.text.is_empty()));
        for token in ["first", "second"] {
            std::fs::write(&file, format!("{token}\n")).expect("it can be written");
            let read = read(&secret).expect("there is a token");
            assert_eq!((read.token.as_str(), read.lifetime_ms), (token, NO_END_MS));
        }
    }

    #[test]
    fn no_token_is_too_strange() {
        let tried = Cell::new(0_u32);
        proptest!(|(text in ".{0,80}", claims in ".{0,40}", exp in any::<f64>())| {
            for token in [text, jwt(&claims), jwt(&format!("{{\"exp\":{exp:e}}}"))] {
                let end = expiry_ms(&token);
                tried.set(tried.get() + 1);
                prop_assert!(end.is_none_or(|end| (1..=NO_END_MS).contains(&end)), "{end:?}");
            }
        });
        eprintln!("property kafka tokens: {} inputs", tried.get());
    }
}
