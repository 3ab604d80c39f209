//! TLS as a client: trust, own certificate, and what the peer's certificate says.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::{self, HostPort};
use super::{Clients, tcp};
use crate::outcome::{Fault, FaultCode, ReasonCode, Trouble};
use crate::spec::trace::Trace;

/// How a TLS server is trusted, and who we are to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Options {
    /// Trust these certificate authorities (a PEM file) instead of the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
    /// Our own certificate chain (a PEM file), where the server asks for one; needs `key`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert: Option<PathBuf>,
    /// The private key of `cert` (a PEM file).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Accept any certificate. The connection is then encrypted, but with nobody known.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub insecure: bool,
    /// The name to ask for (SNI) and to find in the certificate, instead of the target's host.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

impl Options {
    /// What the types can't say.
    pub fn validate(&self) -> Result<(), String> {
        if self.cert.is_some() != self.key.is_some() {
            return Err("`cert` and `key` belong together: give both or none".into());
        }
        if self.insecure && self.ca.is_some() {
            return Err("`insecure` accepts any certificate, so `ca` has no use beside it".into());
        }
        if let Some(name) = &self.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            return Err(format!("`server_name` {name:?} is no host name"));
        }
        Ok(())
    }
}

/// An established TLS connection and what was learned on the way.
pub struct Secured {
    pub stream: TlsStream<TcpStream>,
    /// Seconds until the peer's own certificate runs out; negative where it has.
    pub expires_in: Option<i64>,
}

/// A handshake that failed, and what was learned on the way all the same.
#[derive(Debug)]
pub struct NotSecured {
    pub trouble: Trouble,
    /// The alert by which the peer ended it, where it sent one.
    pub alert: Option<String>,
    pub expires_in: Option<i64>,
}

/// Whether a server let us in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It ended the connection with this alert.
    Refused(String),
    /// It went on.
    LetIn,
}

/// In TLS 1.3 the client's certificate is judged after the handshake has ended for the client
/// (RFC 8446, 4.4.2.4): a server that says nothing for so long has taken it.
const VERDICT: Duration = Duration::from_secs(2);

/// Connects, and waits for whether the server refuses us. A connection that is closed without an
/// alert is neither: a proxy whose server is down does the same.
pub async fn admission(
    clients: &Clients,
    to: &HostPort,
    options: &Options,
    within: Duration,
    trace: &Trace,
) -> Result<Admission, Trouble> {
    let deadline = Instant::now() + within;
    let late = |what: &str| Trouble::reason(ReasonCode::Timeout, format!("{}: {what}", to.host));
    let peer = SocketAddr::new(address::first(clients, &to.host, within).await?, to.port);
    let left = deadline.saturating_duration_since(Instant::now());
    let (stream, _) = tcp::connect(peer, None, left, trace).await.map_err(Trouble::from)?;
    let shaken = timeout_at(deadline, clients.tls().handshake(stream, &to.host, options)).await;
    let mut stream = match shaken {
        Ok(Ok(secured)) => secured.stream,
        Ok(Err(NotSecured { alert: Some(alert), .. })) => return Ok(Admission::Refused(alert)),
        Ok(Err(failed)) => return Err(failed.trouble),
        Err(_) => return Err(late("the TLS handshake was not finished in time")),
    };
    let mut byte = [0; 1];
    let verdict = (Instant::now() + VERDICT).min(deadline);
    match timeout_at(verdict, stream.read(&mut byte)).await {
        Err(_) => Ok(Admission::LetIn),
        Ok(Ok(read)) if read > 0 => Ok(Admission::LetIn),
        Ok(Err(error)) if alert(&error).is_some() => {
            Ok(Admission::Refused(alert(&error).unwrap_or_default()))
        }
        Ok(_) => Err(Trouble::reason(
            ReasonCode::ConnectionLost,
            format!("{peer} closed the connection after the TLS handshake, and did not say why"),
        )),
    }
}

/// The alert by which the peer ended the connection.
fn alert(error: &io::Error) -> Option<String> {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::AlertReceived(alert)) => Some(format!("{alert:?}")),
        _ => None,
    }
}

/// Makes TLS connections. The system's trust store is read at first use, once.
///
/// Files in [`Options`] are read for each connection: a rotated certificate is used at once, and
/// nothing is resumed from an earlier session, so that each handshake is a full one.
#[derive(Default)]
pub struct Tls {
    system: OnceLock<Arc<RootCertStore>>,
}

impl Tls {
    /// A handshake over `stream` with the server called `host`.
    pub async fn handshake(
        &self,
        stream: TcpStream,
        host: &str,
        options: &Options,
    ) -> Result<Secured, NotSecured> {
        let early = |trouble| NotSecured { trouble, alert: None, expires_in: None };
        let asked = options.server_name.as_deref().unwrap_or(host);
        let asked = asked.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(asked);
        let name = ServerName::try_from(asked.to_owned()).map_err(|_| {
            early(Trouble::reason(ReasonCode::TlsFailed, format!("{asked:?} is no host name")))
        })?;
        let (config, expiry) = self.config(options).map_err(|fault| early(fault.into()))?;
        let connected = TlsConnector::from(config).connect(name, stream).await;
        let expires_in = *expiry.lock().unwrap_or_else(PoisonError::into_inner);
        match connected {
            Ok(stream) => Ok(Secured { stream, expires_in }),
            Err(error) => {
                let alert = alert(&error);
                Err(NotSecured { trouble: trouble(asked, &error), alert, expires_in })
            }
        }
    }

    /// The configuration for one connection, and the place where the peer's expiry is noted.
    fn config(&self, options: &Options) -> Result<(Arc<ClientConfig>, Expiry), Fault> {
        let provider = Arc::new(ring::default_provider());
        let expiry = Expiry::default();
        let trust = if options.insecure {
            None
        } else {
            let roots = match &options.ca {
                Some(path) => Arc::new(roots_of(path)?),
                None => self.system_roots()?,
            };
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots, provider.clone()).build();
            Some(verifier.map_err(|error| unusable("the certificate authorities", &error))?)
        };
        let verifier =
            Arc::new(Verifier { trust, provider: provider.clone(), expiry: expiry.clone() });
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("the TLS versions", &error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let config = match (&options.cert, &options.key) {
            (Some(cert), Some(key)) => {
                let chain = certificates_of(cert)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| unreadable("the private key", key, &error))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| unusable("our certificate with its key", &error))?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok((Arc::new(config), expiry))
    }

    fn system_roots(&self) -> Result<Arc<RootCertStore>, Fault> {
        if let Some(roots) = self.system.get() {
            return Ok(roots.clone());
        }
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            let why = found.errors.first().map_or_else(
                || "the system has no trust store".to_owned(),
                |error| format!("the system's trust store could not be read: {error}"),
            );
            return Err(Fault::new(
                FaultCode::Unreadable,
                format!("{why}; install ca-certificates or name a file under `tls: {{ca: ...}}`"),
            ));
        }
        Ok(self.system.get_or_init(|| Arc::new(roots)).clone())
    }
}

fn certificates_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, Fault> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path)
        .map_err(|error| unreadable("the certificate file", path, &error))?
        .collect();
    let found = read.map_err(|error| unreadable("the certificate file", path, &error))?;
    if found.is_empty() {
        return Err(Fault::new(
            FaultCode::Unreadable,
            format!("{} holds no certificate in PEM form", path.display()),
        ));
    }
    Ok(found)
}

fn roots_of(path: &Path) -> Result<RootCertStore, Fault> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates_of(path)? {
        roots.add(certificate).map_err(|error| unreadable("the CA file", path, &error))?;
    }
    Ok(roots)
}

fn unreadable(what: &str, path: &Path, why: &dyn fmt::Display) -> Fault {
    Fault::new(FaultCode::Unreadable, format!("{what} {} could not be read: {why}", path.display()))
}

fn unusable(what: &str, why: &dyn fmt::Display) -> Fault {
    Fault::new(FaultCode::Unreadable, format!("{what} can't be used: {why}"))
}

/// Whose fault a failed handshake is.
fn trouble(host: &str, error: &io::Error) -> Trouble {
    let inner = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => Trouble::reason(
            ReasonCode::CertificateInvalid,
            format!("the certificate of {host} is not valid: {}", Plain(why)),
        ),
        Some(rustls::Error::AlertReceived(alert)) => Trouble::reason(
            ReasonCode::TlsFailed,
            format!("{host} ended the TLS handshake with the alert {alert:?}"),
        ),
        Some(other) => Trouble::reason(
            ReasonCode::TlsFailed,
            format!("the TLS handshake with {host} failed: {other}"),
        ),
        None => Trouble::reason(
            ReasonCode::TlsFailed,
            format!("{host} closed the connection during the TLS handshake: {error}"),
        ),
    }
}

/// A certificate's defect in an operator's words.
struct Plain<'a>(&'a CertificateError);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            CertificateError::UnknownIssuer => {
                f.write_str("it was issued by nobody we trust; name the CA under `tls: {ca: ...}`")
            }
            CertificateError::NotValidForName => f.write_str("it is for another name"),
            CertificateError::Expired => f.write_str("it has run out"),
            other => write!(f, "{other}"),
        }
    }
}

type Expiry = Arc<Mutex<Option<i64>>>;

/// Verifies as the web does, or accepts anyone, and notes when the certificate runs out either way:
/// an expiry that is shown only while the certificate is valid is of no use on the day it is not.
#[derive(Debug)]
struct Verifier {
    trust: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
    expiry: Expiry,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(not_after) = not_after(end_entity, &self.provider)
            && let Ok(mut expiry) = self.expiry.lock()
        {
            let seconds = |at: UnixTime| i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
            *expiry = Some(seconds(not_after).saturating_sub(seconds(now)));
        }
        match &self.trust {
            Some(trust) => {
                trust.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
            }
            None => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The certificate's `notAfter`. The library that reads certificates offers it in one place only:
/// in the error of a verification at a time after it, which it finds before it asks for the issuer.
fn not_after(certificate: &CertificateDer<'_>, provider: &CryptoProvider) -> Option<UnixTime> {
    let parsed = ParsedCertificate::try_from(certificate).ok()?;
    // 9999-12-31, the last day that RFC 5280 (4.1.2.5) can write: "has no end".
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_secs(253_402_300_800));
    let verified = verify_server_cert_signed_by_trust_anchor(
        &parsed,
        &RootCertStore::empty(),
        &[],
        at,
        provider.signature_verification_algorithms.all,
    );
    match verified {
        Err(rustls::Error::InvalidCertificate(CertificateError::ExpiredContext {
            not_after,
            ..
        })) => Some(not_after),
        _ => None,
    }
}
