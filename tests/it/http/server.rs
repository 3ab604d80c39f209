//! A loopback HTTP server that answers as it is told, faults included.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
    /// Which connection it came over, from 0.
    pub(crate) connection: usize,
}

impl Received {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }
}

/// What the server does with one request.
pub(crate) enum Act {
    Answer(u16, Vec<(&'static str, String)>, String),
    /// These bytes as they are, then the connection is closed.
    Raw(Vec<u8>),
    /// These bytes, then silence.
    Stall(Vec<u8>),
    /// These bytes again and again, without an end.
    Endless(&'static [u8]),
    /// The connection is reset (RST).
    Reset,
    /// A pause, then what follows.
    After(Duration, Box<Act>),
}

impl Act {
    pub(crate) fn json(body: impl Into<String>) -> Self {
        Self::Answer(200, vec![("content-type", "application/json".into())], body.into())
    }

    pub(crate) fn status(status: u16) -> Self {
        Self::Answer(status, Vec::new(), format!("this is {status}"))
    }
}

type Script = dyn Fn(&Received) -> Act + Send + Sync;

/// Runs until it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    scheme: &'static str,
    seen: Arc<Mutex<Vec<Received>>>,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub(crate) async fn start(script: impl Fn(&Received) -> Act + Send + Sync + 'static) -> Self {
        Self::with(None, Arc::new(script)).await
    }

    pub(crate) async fn start_tls(
        config: Arc<ServerConfig>,
        script: impl Fn(&Received) -> Act + Send + Sync + 'static,
    ) -> Self {
        Self::with(Some(config), Arc::new(script)).await
    }

    async fn with(tls: Option<Arc<ServerConfig>>, script: Arc<Script>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let all = seen.clone();
        let task = tokio::spawn(async move {
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                let (tls, script, seen) = (tls.clone(), script.clone(), all.clone());
                tokio::spawn(async move {
                    match tls {
                        Some(config) => {
                            if let Ok(s) = TlsAcceptor::from(config).accept(stream).await {
                                converse(s, connection, &script, &seen, |_| {}).await;
                            }
                        }
                        None => converse(stream, connection, &script, &seen, reset).await,
                    }
                });
            }
        })
        .abort_handle();
        Self { address, scheme, seen, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Received> {
        self.seen.lock().unwrap().clone()
    }
}

fn reset(stream: &TcpStream) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    connection: usize,
    script: &Arc<Script>,
    seen: &Mutex<Vec<Received>>,
    reset: impl Fn(&S),
) {
    while let Some(received) = read(&mut stream, connection).await {
        let mut act = script(&received);
        seen.lock().unwrap().push(received);
        while let Act::After(pause, then) = act {
            tokio::time::sleep(pause).await;
            act = *then;
        }
        match act {
            Act::Answer(status, headers, body) => {
                let mut head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n", body.len());
                for (name, value) in headers {
                    head.push_str(&format!("{name}: {value}\r\n"));
                }
                let whole = format!("{head}\r\n{body}");
                if stream.write_all(whole.as_bytes()).await.is_err() {
                    return;
                }
            }
            Act::Raw(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.shutdown().await;
                return;
            }
            Act::Stall(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.flush().await;
                std::future::pending::<()>().await;
            }
            Act::Endless(bytes) => while stream.write_all(bytes).await.is_ok() {},
            Act::Reset => {
                reset(&stream);
                return;
            }
            Act::After(..) => unreachable!("unfolded above"),
        }
    }
}

async fn read<S: AsyncRead + Unpin>(stream: &mut S, connection: usize) -> Option<Received> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => bytes.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let mut first = lines.next().unwrap().split(' ');
    let (method, path) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = length.map_or(0, |(_, value)| value.parse().unwrap());
    let mut body = bytes[end + 4..].to_vec();
    while body.len() < length {
        let mut buffer = vec![0; length - body.len()];
        match stream.read(&mut buffer).await {
            Ok(n) if n > 0 => body.extend_from_slice(&buffer[..n]),
            _ => return None,
        }
    }
    let body = String::from_utf8_lossy(&body).into_owned();
    Some(Received { method, path, headers, body, connection })
}

/// A certificate authority of the test's own.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        Self { issuer: CertifiedIssuer::self_signed(params, key).unwrap() }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Writes what both sides of a connection on loopback need: ca.pem, cert.pem with key.pem for the
    /// server, and client.pem with client.key.
    pub(crate) fn write_both_sides(&self, folder: &std::path::Path) {
        let (cert, key) = self.issue(&["localhost", "127.0.0.1"], 2100);
        let (client, client_key) = self.issue(&["client"], 2100);
        for (name, text) in [
            ("ca.pem", self.pem()),
            ("cert.pem", cert),
            ("key.pem", key),
            ("client.pem", client),
            ("client.key", client_key),
        ] {
            std::fs::write(folder.join(name), text).expect("the folder can be written");
        }
    }

    /// A certificate for these names, valid from 2000 to the end of that year, and its key, as PEM.
    pub(crate) fn issue(&self, names: &[&str], until_year: i32) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        // OpenSSL takes a certificate with its issuer's own name for one that signed itself.
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, names.concat());
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(until_year, 12, 31);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    pub(crate) fn server(&self, names: &[&str], until_year: i32) -> Arc<ServerConfig> {
        Arc::new(self.builder(false, names, until_year))
    }

    /// A server that asks for a certificate of this authority.
    pub(crate) fn strict_server(&self, names: &[&str]) -> Arc<ServerConfig> {
        Arc::new(self.builder(true, names, 2100))
    }

    fn builder(&self, ask: bool, names: &[&str], until_year: i32) -> ServerConfig {
        use rustls::pki_types::pem::PemObject;
        let (certificate, key) = self.issue(names, until_year);
        let chain = vec![
            rustls::pki_types::CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap(),
        ];
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from_pem_slice(key.as_bytes()).unwrap());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = if ask {
            let mut roots = rustls::RootCertStore::empty();
            roots.add(self.issuer.der().clone()).unwrap();
            let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(
                Arc::new(roots),
                provider,
            );
            builder.with_client_cert_verifier(verifier.build().unwrap())
        } else {
            builder.with_no_client_auth()
        };
        builder.with_single_cert(chain, key).unwrap()
    }
}
