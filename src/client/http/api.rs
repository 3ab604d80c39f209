//! A JSON API behind one base URL: who we are to it, how its answers are read.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::HeaderValue;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::time::Duration;
use url::Url;

use super::{How, Request, Response, excerpt, fetch, parse_url};
use crate::client::{Clients, tls};
use crate::outcome::{Fault, FaultCode, ReasonCode, Trouble};
use crate::spec::Secret;
use crate::spec::trace::Trace;

/// Who we are to an HTTP server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auth {
    /// A user and a password (RFC 7617).
    Basic { user: String, password: Secret },
    /// A token (RFC 6750), as Grafana, Splunk and Kubernetes give them.
    Bearer(Secret),
    /// The whole value of the header `Authorization`: `ApiKey ...`, `Splunk ...`.
    Header(Secret),
}

impl Auth {
    /// The value of `Authorization`. Secrets are read anew, so that a rotated one is used.
    pub fn header(&self) -> Result<HeaderValue, Fault> {
        let text = match self {
            Self::Basic { user, password } => {
                let password = password.reveal()?;
                format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())))
            }
            Self::Bearer(token) => format!("Bearer {}", token.reveal()?.expose()),
            Self::Header(whole) => whole.reveal()?.expose().to_owned(),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            Fault::new(
                FaultCode::Unreadable,
                "the secret under `auth` holds characters that no header can carry",
            )
        })?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// What the types can't say.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            Self::Basic { user, .. } if user.is_empty() || user.contains(':') => {
                Err(format!("the user {user:?} is empty or holds a colon (RFC 7617, 2)"))
            }
            _ => Ok(()),
        }
    }
}

/// Where an API is and who we are to it.
#[derive(Clone, Debug)]
pub struct Api {
    base: Url,
    auth: Option<Auth>,
    tls: tls::Options,
}

impl Api {
    pub fn new(base: &str, auth: Option<Auth>, tls: tls::Options) -> Result<Self, String> {
        tls.validate()?;
        if let Some(auth) = &auth {
            auth.validate()?;
        }
        Ok(Self { base: parse_url(base)?, auth, tls })
    }

    pub fn base(&self) -> &Url {
        &self.base
    }

    /// The same credentials at another place.
    #[must_use]
    pub fn based_at(&self, base: Url) -> Self {
        Self { base, ..self.clone() }
    }

    /// A place under the base: whatever path the base has (a reverse proxy's prefix) stays.
    pub fn at(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = self.base.clone();
        let path = format!("{}/{path}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        url.set_query(None);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// One request within `timeout`; any answer is an answer.
    pub async fn ask(
        &self,
        clients: &Clients,
        request: Request,
        timeout: Duration,
        trace: &Trace,
    ) -> Result<Response, Trouble> {
        trace.note(format_args!("{} {}", request.method, request.url));
        let how = self.how(timeout)?;
        Ok(fetch(clients, request, &how, trace).await?)
    }

    /// One request whose answer must be 2xx and JSON.
    pub async fn ask_json(
        &self,
        clients: &Clients,
        request: Request,
        timeout: Duration,
        trace: &Trace,
    ) -> Result<Value, Trouble> {
        let response = self.ask(clients, request, timeout, trace).await?;
        expect_success(&response)?;
        json(&response)
    }

    /// How this API is asked, with its credentials.
    pub fn how(&self, timeout: Duration) -> Result<How<'_>, Fault> {
        let mut how = How::within(timeout, &self.tls);
        how.authorization = self.auth.as_ref().map(Auth::header).transpose()?;
        Ok(how)
    }
}

/// An answer that is not 2xx is trouble; what the operator must mend here is told apart.
pub fn expect_success(response: &Response) -> Result<(), Trouble> {
    if response.status.is_success() {
        return Ok(());
    }
    let code = match response.status.as_u16() {
        401 | 403 => ReasonCode::AuthFailed,
        404 => ReasonCode::NotFound,
        429 => ReasonCode::Throttled,
        _ => ReasonCode::UnexpectedStatus,
    };
    Err(Trouble::reason(
        code,
        format!("{} answered {}: {}", response.url, response.status, excerpt(&response.body)),
    ))
}

/// The body as JSON.
pub fn json(response: &Response) -> Result<Value, Trouble> {
    if let Some(encoding) = response.encoding() {
        let text = format!("{} encodes its answer as {encoding}, unasked", response.url);
        return Err(Trouble::reason(ReasonCode::ProtocolError, text));
    }
    serde_json::from_slice(&response.body).map_err(|error| {
        let shown = excerpt(&response.body);
        Trouble::reason(
            ReasonCode::ProtocolError,
            format!("{} did not answer in JSON ({error}): {shown}", response.url),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_under_the_base() {
        let api = |base| Api::new(base, None, tls::Options::default()).unwrap();
        let at = |base, path| api(base).at(path, &[("query", "a b&c")]).to_string();
        assert_eq!(at("http://h:9090", "api/v1/query"), "http://h:9090/api/v1/query?query=a+b%26c");
        assert_eq!(at("https://h/prom/?x=1", "api"), "https://h/prom/api?query=a+b%26c");
        assert_eq!(api("http://h/").at("x", &[]).as_str(), "http://h/x");
    }

    #[test]
    fn credentials_never_show() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        std::fs::write(&path, "s3cret\n").unwrap();
        let secret = Secret::file(path.to_str().unwrap());
        let basic = Auth::Basic { user: "me".into(), password: secret.clone() };
        let header = basic.header().unwrap();
        assert_eq!(header.to_str().unwrap(), "Basic bWU6czNjcmV0");
        assert_eq!(format!("{header:?}"), "Sensitive");
        assert_eq!(
            Auth::Bearer(secret.clone()).header().unwrap().to_str().unwrap(),
            "Bearer s3cret"
        );
        assert!(!format!("{basic:?}").contains("s3cret"));
        assert!(!serde_json::to_string(&basic).unwrap().contains("s3cret"));
        let gone = Auth::Bearer(Secret::file("/nonexistent/x")).header().unwrap_err();
        assert_eq!(gone.code, FaultCode::Unreadable);
        std::fs::write(&path, "two\nlines").unwrap();
        assert!(!Auth::Header(secret).header().unwrap_err().text.contains("two"));
        let colon = Auth::Basic { user: "a:b".into(), password: Secret::env("X") };
        assert!(colon.validate().is_err());
    }
}
