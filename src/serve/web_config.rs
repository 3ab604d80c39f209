//! `--web.config.file`: TLS, users and headers, in the format that Prometheus's exporters share
//! (exporter-toolkit's web configuration).

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::version::{TLS12, TLS13};
use rustls::{CipherSuite, NamedGroup, RootCertStore, ServerConfig, SupportedProtocolVersion};
use serde::Deserialize;

use crate::spec::{self, Diagnostics, Node, Sources, yaml};

/// A web configuration is a few lines; more is another file.
const FILE_LIMIT: u64 = 1024 * 1024;

/// What the server does for its callers' and its own identity. The default is plain HTTP for
/// everybody.
#[derive(Clone, Default)]
pub struct WebConfig {
    pub(super) tls: Option<Arc<ServerConfig>>,
    /// From the name to the bcrypt hash of the password.
    pub(super) users: HashMap<String, String>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

/// Hashes are no secrets, but nobody's business.
impl fmt::Debug for WebConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebConfig")
            .field("tls", &self.tls.is_some())
            .field("users", &self.users.len())
            .field("headers", &self.headers)
            .finish()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    tls_server_config: Option<Tls>,
    #[serde(default)]
    http_server_config: Http,
    #[serde(default)]
    basic_auth_users: HashMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tls {
    cert_file: PathBuf,
    key_file: PathBuf,
    #[serde(default)]
    client_auth_type: ClientAuth,
    #[serde(default)]
    client_ca_file: Option<PathBuf>,
    #[serde(default)]
    min_version: Option<Version>,
    #[serde(default)]
    max_version: Option<Version>,
    /// For TLS 1.2: those of TLS 1.3 are always offered, as Go's server has it.
    #[serde(default)]
    cipher_suites: Vec<Suite>,
    #[serde(default)]
    curve_preferences: Vec<Curve>,
    /// Whether the order of the server decides between what both know.
    #[serde(default)]
    prefer_server_cipher_suites: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Http {
    /// Accepted as the format has it; the server offers HTTP/1.1 alone, which every client of an
    /// exporter speaks.
    #[serde(default, rename = "http2")]
    _http2: Option<bool>,
    #[serde(default)]
    headers: HashMap<String, String>,
}

/// The ways of asking for a client's certificate that also verify it; those that ask and believe
/// anything are refused.
#[derive(Clone, Copy, Default, Deserialize, PartialEq)]
enum ClientAuth {
    #[default]
    NoClientCert,
    VerifyClientCertIfGiven,
    RequireAndVerifyClientCert,
}

#[derive(Clone, Copy, Deserialize, PartialEq, PartialOrd)]
enum Version {
    TLS12,
    TLS13,
}

/// The suites of TLS 1.2 that are spoken here: all with forward secrecy and authenticated. A list that
/// asks for others is refused, not thinned out.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Deserialize, PartialEq)]
enum Suite {
    TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
    TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
    TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
    TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

impl Suite {
    const fn number(self) -> CipherSuite {
        match self {
            Self::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256 => {
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256
            }
            Self::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384 => {
                CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384
            }
            Self::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256 => {
                CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            }
            Self::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256 => {
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256
            }
            Self::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384 => {
                CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384
            }
            Self::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256 => {
                CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
            }
        }
    }
}

#[derive(Clone, Copy, Deserialize, PartialEq)]
enum Curve {
    CurveP256,
    CurveP384,
    X25519,
}

impl Curve {
    const fn group(self) -> NamedGroup {
        match self {
            Self::CurveP256 => NamedGroup::secp256r1,
            Self::CurveP384 => NamedGroup::secp384r1,
            Self::X25519 => NamedGroup::X25519,
        }
    }
}

/// The header fields that the format lets set.
const HEADERS: [&str; 5] = [
    "Content-Security-Policy",
    "Strict-Transport-Security",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "X-XSS-Protection",
];

impl WebConfig {
    /// Reads the file and the certificates that it names, relative to its folder. The error is
    /// all mistakes with their places, ready to print. Blocks: never call it on the runtime.
    pub fn load(path: &Path) -> Result<Self, String> {
        let name = path.display().to_string();
        let text = read(path).map_err(|error| format!("can't read {name}: {error}"))?;
        let mut sources = Sources::default();
        let mut diagnostics = Diagnostics::new();
        let made = Self::compile(path, &name, &text, &mut sources, &mut diagnostics);
        match made {
            Some(config) if diagnostics.is_empty() => Ok(config),
            _ => Err(diagnostics.render(&sources, false)),
        }
    }

    fn compile(
        path: &Path,
        name: &str,
        bytes: &[u8],
        sources: &mut Sources,
        diagnostics: &mut Diagnostics,
    ) -> Option<Self> {
        let id = sources.add_bytes(name, bytes, diagnostics)?;
        let text = sources.get(id)?.text.clone();
        if text.trim().is_empty() {
            return Some(Self::default());
        }
        let node = yaml::parse(id, &text, diagnostics)?;
        let file: File = spec::decode(&node, diagnostics)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let tls = file.tls_server_config.map(|tls| {
            let node = node.get("tls_server_config").unwrap_or(&node);
            tls.compile(folder, node, diagnostics).map(Arc::new)
        });
        let users = node.get("basic_auth_users").unwrap_or(&node);
        for (user, hash) in &file.basic_auth_users {
            if hash.parse::<bcrypt::HashParts>().is_err() {
                diagnostics
                    .error(users.get(user).unwrap_or(users).span, "this is no bcrypt hash")
                    .expected("what `htpasswd -nBC 10 USER` prints after the colon")
                    // Somebody may have written the password itself.
                    .sensitive();
            }
        }
        let fields = node.get("http_server_config").and_then(|http| http.get("headers"));
        let fields = fields.unwrap_or(&node);
        let mut headers = Vec::new();
        for (name, value) in &file.http_server_config.headers {
            let span = fields.get(name).unwrap_or(fields).span;
            let known = HEADERS.into_iter().find(|known| known.eq_ignore_ascii_case(name));
            match (
                known.and_then(|name| name.parse::<HeaderName>().ok()),
                HeaderValue::from_str(value),
            ) {
                (Some(name), Ok(value)) => headers.push((name, value)),
                (Some(_), Err(_)) => {
                    diagnostics.error(span, "this can't be the value of a header field");
                }
                (None, _) => {
                    diagnostics
                        .error(span, format!("the header field {name} can't be set"))
                        .expected(spec::one_of(&HEADERS));
                }
            }
        }
        // In the file's order or not, the answer must not depend on a hash's.
        headers.sort_by(|(a, _), (b, _)| a.as_str().cmp(b.as_str()));
        Some(Self { tls: tls.flatten(), users: file.basic_auth_users, headers })
    }
}

impl Tls {
    fn compile(
        &self,
        folder: &Path,
        node: &Node,
        diagnostics: &mut Diagnostics,
    ) -> Option<ServerConfig> {
        let span = |key: &str| node.get(key).unwrap_or(node).span;
        let certificates = certificates(&folder.join(&self.cert_file));
        let key = private_key(&folder.join(&self.key_file));
        let roots = self.client_ca_file.as_ref().map(|file| roots(&folder.join(file)));
        if let Err(text) = &certificates {
            diagnostics.error(span("cert_file"), text.as_str());
        }
        if let Err(text) = &key {
            diagnostics.error(span("key_file"), text.as_str());
        }
        if let Some(Err(text)) = &roots {
            diagnostics.error(span("client_ca_file"), text.as_str());
        }
        let wants_roots = self.client_auth_type != ClientAuth::NoClientCert;
        if wants_roots != roots.is_some() {
            diagnostics
                .error(
                    span(if wants_roots { "client_auth_type" } else { "client_ca_file" }),
                    "`client_auth_type` and `client_ca_file` go together",
                )
                .hint("clients' certificates are verified against the authorities of `client_ca_file`");
            return None;
        }
        let versions = self.versions();
        if versions.is_empty() {
            diagnostics.error(span("max_version"), "`max_version` is below `min_version`");
            return None;
        }
        let (certificates, key, roots) = (certificates.ok()?, key.ok()?, roots.transpose().ok()?);
        match self.server(certificates, key, roots, &versions) {
            Ok(config) => Some(config),
            Err(error) => {
                diagnostics.error(span("cert_file"), format!("TLS can't be set up: {error}"));
                None
            }
        }
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        [(Version::TLS12, &TLS12), (Version::TLS13, &TLS13)]
            .into_iter()
            .filter(|(version, _)| self.min_version.is_none_or(|min| *version >= min))
            .filter(|(version, _)| self.max_version.is_none_or(|max| *version <= max))
            .map(|(_, supported)| supported)
            .collect()
    }

    fn server(
        &self,
        certificates: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: Option<RootCertStore>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Result<ServerConfig, String> {
        let mut provider = rustls::crypto::ring::default_provider();
        let wanted = |suite: CipherSuite| self.cipher_suites.iter().any(|s| s.number() == suite);
        if !self.cipher_suites.is_empty() {
            provider.cipher_suites.retain(|suite| suite.tls13().is_some() || wanted(suite.suite()));
        }
        let place =
            |group: NamedGroup| self.curve_preferences.iter().position(|c| c.group() == group);
        if !self.curve_preferences.is_empty() {
            provider.kx_groups.retain(|group| place(group.name()).is_some());
            provider.kx_groups.sort_by_key(|group| place(group.name()));
        }
        let provider = Arc::new(provider);
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| error.to_string())?;
        let builder = match roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = match self.client_auth_type {
                    ClientAuth::VerifyClientCertIfGiven => verifier.allow_unauthenticated(),
                    _ => verifier,
                };
                builder.with_client_cert_verifier(verifier.build().map_err(|e| e.to_string())?)
            }
        };
        let mut config =
            builder.with_single_cert(certificates, key).map_err(|error| error.to_string())?;
        config.ignore_client_order = self.prefer_server_cipher_suites;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_LIMIT {
        return Err(std::io::Error::other(format!("it has more than {FILE_LIMIT} bytes")));
    }
    Ok(bytes)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let name = path.display();
    let pem = read(path).map_err(|error| format!("can't read {name}: {error}"))?;
    let list: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match list {
        Ok(list) if list.is_empty() => Err(format!("{name} holds no PEM certificate")),
        Ok(list) => Ok(list),
        Err(error) => Err(format!("{name} is no PEM file: {error}")),
    }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, String> {
    let name = path.display();
    let pem = read(path).map_err(|error| format!("can't read {name}: {error}"))?;
    PrivateKeyDer::from_pem_slice(&pem)
        .map_err(|error| format!("{name} holds no PEM private key without a passphrase: {error}"))
}

fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(roots)
}
