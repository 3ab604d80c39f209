//! PostgreSQL: the rows of one query, in a transaction that can't write.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{StreamExt, pin_mut};
use serde_json::{Map, Value};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Config, NoTls};
use tokio_util::task::AbortOnDropHandle;

use super::address::{self, HostPort};
use super::{Answer, Clients, tcp, tls};
use crate::outcome::{ReasonCode, Trouble};
use crate::spec::Secret;
use crate::spec::trace::Trace;

/// A connection is read no further than this: 20,000 rows of 3 KiB.
const BYTES_LIMIT: usize = 64 * 1024 * 1024;
/// The server gives up this much before we do, so that it can still say so.
const SOONER: Duration = Duration::from_millis(500);
/// A standby that is behind by no more than this shows what its primary does.
const BEHIND: f64 = 1.0;
/// How a client asks for TLS, before anything else ("SSLRequest", Message Formats, 55.7).
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Where a database is and who we are to it.
#[derive(Clone, Debug)]
pub struct Database {
    pub at: HostPort,
    pub name: String,
    pub user: String,
    pub password: Option<Secret>,
    pub tls: Option<tls::Options>,
}

/// The rows of `query`, whose one parameter is a text, `limit` of them at most.
pub async fn rows(
    database: &Database,
    clients: &Clients,
    query: &str,
    parameter: &str,
    limit: usize,
    timeout: Duration,
    trace: &Trace,
) -> Result<Answer<Map<String, Value>>, Trouble> {
    let deadline = Instant::now() + timeout;
    let work = ask(database, clients, query, parameter, limit, deadline, trace);
    match timeout_at(deadline, work).await {
        Ok(done) => done,
        Err(_) => {
            let text = format!("{}:{} did not answer in time", database.at.host, database.at.port);
            Err(Trouble::reason(ReasonCode::Timeout, text))
        }
    }
}

async fn ask(
    database: &Database,
    clients: &Clients,
    query: &str,
    parameter: &str,
    limit: usize,
    deadline: Instant,
    trace: &Trace,
) -> Result<Answer<Map<String, Value>>, Trouble> {
    let stream =
        Metered { inner: open(database, clients, deadline, trace).await?, left: BYTES_LIMIT };
    let mut config = Config::new();
    config
        .user(&database.user)
        .dbname(&database.name)
        .application_name("greenlight")
        // TLS is up already, where it is wanted.
        .ssl_mode(SslMode::Disable);
    if let Some(password) = &database.password {
        config.password(password.reveal()?.expose());
    }
    let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(|e| trouble(&e))?;
    // Its error is told to whoever waits for an answer, too.
    let _driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let left = deadline.saturating_duration_since(Instant::now());
    let within = left.saturating_sub(SOONER).max(SOONER).as_millis();
    let begin = format!("BEGIN READ ONLY; SET LOCAL statement_timeout = {within}");
    client.batch_execute(&begin).await.map_err(|e| trouble(&e))?;

    let mut answer = Answer::default();
    // As JSON, whatever the columns' types are; a line of its own ends a comment at the end.
    let whole = format!("SELECT row_to_json(record)::text FROM (\n{query}\n) AS record");
    trace.note(format_args!("{whole}"));
    {
        let parameters: [(&(dyn tokio_postgres::types::ToSql + Sync), Type); 1] =
            [(&parameter, Type::TEXT)];
        let rows = client.query_typed_raw(&whole, parameters).await.map_err(|e| trouble(&e))?;
        pin_mut!(rows);
        while let Some(row) = rows.next().await {
            let row = row.map_err(|e| trouble(&e))?;
            if answer.rows.len() >= limit {
                answer.lacking = Some(format!("more than {limit} rows match"));
                return Ok(answer);
            }
            let text: String = row.try_get(0).map_err(|e| trouble(&e))?;
            let row = serde_json::from_str(&text).map_err(|error| {
                Trouble::reason(ReasonCode::ProtocolError, format!("a row is no JSON ({error})"))
            })?;
            answer.rows.push(row);
        }
    }
    if let Some(behind) = behind(&client).await?
        && behind > BEHIND
    {
        answer.lacking = Some(format!("the standby is {behind:.0} s behind its primary"));
    }
    Ok(answer)
}

/// Seconds that a standby is behind; None of a primary. One that has replayed all that it received
/// is not, however long ago its primary wrote last.
async fn behind(client: &tokio_postgres::Client) -> Result<Option<f64>, Trouble> {
    let row = client
        .query_one(
            "SELECT CASE WHEN NOT pg_is_in_recovery() THEN NULL \
             WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 \
             ELSE EXTRACT(EPOCH FROM now() - pg_last_xact_replay_timestamp()) END::float8",
            &[],
        )
        .await
        .map_err(|e| trouble(&e))?;
    row.try_get(0).map_err(|e| trouble(&e))
}

trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Io for S {}

async fn open(
    database: &Database,
    clients: &Clients,
    deadline: Instant,
    trace: &Trace,
) -> Result<Box<dyn Io>, Trouble> {
    let HostPort { host, port } = &database.at;
    let left = || deadline.saturating_duration_since(Instant::now());
    let addresses = address::lookup(clients, host, None, left()).await?;
    let count = addresses.len();
    let mut last = None;
    let mut opened = None;
    for (tried, address) in addresses.into_iter().enumerate() {
        // An address that swallows packets must leave time for the others.
        let share = left() / u32::try_from(count - tried).unwrap_or(1).max(1);
        match tcp::connect(SocketAddr::new(address, *port), None, share, trace).await {
            Ok((stream, _)) => {
                opened = Some(stream);
                break;
            }
            Err(not_open) => last = Some(Trouble::from(not_open)),
        }
    }
    let Some(mut stream) = opened else {
        return Err(last.unwrap_or_else(|| {
            Trouble::reason(ReasonCode::NameNotFound, format!("{host} has no address"))
        }));
    };
    let Some(options) = &database.tls else { return Ok(Box::new(stream)) };
    let lost = |error: io::Error| {
        Trouble::reason(ReasonCode::ConnectionLost, format!("{host}:{port}: {error}"))
    };
    stream.write_all(&SSL_REQUEST).await.map_err(lost)?;
    let mut answer = [0; 1];
    stream.read_exact(&mut answer).await.map_err(lost)?;
    if answer != *b"S" {
        let text = format!("{host}:{port} offers no TLS, and the plan asks for it");
        return Err(Trouble::reason(ReasonCode::TlsFailed, text));
    }
    let secured = clients.tls().handshake(stream, host, options).await;
    Ok(Box::new(secured.map_err(|failed| failed.trouble)?.stream))
}

/// Reads so much and no more: the protocol lets one message promise a gigabyte.
struct Metered {
    inner: Box<dyn Io>,
    left: usize,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.left == 0 {
            let text = format!("the answer is larger than {BYTES_LIMIT} bytes");
            return Poll::Ready(Err(io::Error::other(text)));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(context, buffer);
        self.left = self.left.saturating_sub(buffer.filled().len().saturating_sub(before));
        polled
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

/// Whose fault an error is, by its SQLSTATE (PostgreSQL's Appendix A).
fn trouble(error: &tokio_postgres::Error) -> Trouble {
    let Some(said) = error.as_db_error() else {
        let cause = std::error::Error::source(error).map(|e| format!(": {e}")).unwrap_or_default();
        return Trouble::reason(ReasonCode::ConnectionLost, format!("postgres: {error}{cause}"));
    };
    let code = said.code();
    let reason = if *code == SqlState::INSUFFICIENT_PRIVILEGE || code.code().starts_with("28") {
        ReasonCode::AuthFailed
    } else if *code == SqlState::QUERY_CANCELED {
        ReasonCode::Timeout
    } else if *code == SqlState::TOO_MANY_CONNECTIONS {
        ReasonCode::Throttled
    } else {
        ReasonCode::QueryRefused
    };
    Trouble::reason(reason, format!("postgres says {}: {}", code.code(), said.message()))
}
