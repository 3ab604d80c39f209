//! TCP connect: open, refused, filtered, unreachable told apart.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Attempt, Effect, Probe};
use crate::catalogue::{Metric, probe::TCP_CONNECT};
use crate::client::address::{self, HostPort};
use crate::client::tcp::{self, NotOpen};
use crate::outcome::{Reading, Reason, ReasonCode, Sample, Trouble};

/// A port that should be open, closed or filtered; the target is `host:port`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// What the port should be.
    pub expect: Expect,
    /// The address of this node to come from; by default the kernel chooses.
    #[schemars(with = "Option<String>")]
    pub source: Option<IpAddr>,
}

#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Expect {
    /// Somebody listens.
    #[default]
    Open,
    /// The host answers that nobody listens.
    Closed,
    /// A filter on the way drops or prohibits it. From one end a host that is gone looks the same
    /// as one behind a filter that drops: check besides that the host is there.
    Filtered,
}

/// A name with more addresses than this is not tried further: each has its share of the time.
const ADDRESSES_LIMIT: usize = 4;

pub struct Tcp {
    spec: Spec,
}

impl Probe for Tcp {
    const KIND: &'static str = "tcp";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] = &[&TCP_CONNECT];
    // Three SYNs go out in this time whatever the kernel's pace (tcp_syn_linear_timeouts or RFC
    // 6298's 1, 3, 7 s), so that one lost packet is not taken for a filter.
    const TIMEOUT: Duration = Duration::from_secs(5);

    fn new(spec: Spec) -> Result<Self, String> {
        Ok(Self { spec })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        HostPort::parse(text).map(drop)
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        vec![Effect {
            what: format!(
                "opens one TCP connection to {target} (one for each address tried, at most \
                 {ADDRESSES_LIMIT}), sends nothing on it and closes it"
            ),
            needs: None,
        }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let deadline = Instant::now() + address::margin(on.timeout);
        let to = match HostPort::parse(on.target) {
            Ok(to) => to,
            Err(text) => return Reason::new(ReasonCode::NameNotFound, text).into(),
        };
        let addresses = match address::lookup(
            on.clients,
            &to.host,
            self.spec.source,
            address::margin(on.timeout),
        )
        .await
        {
            Ok(addresses) => addresses,
            Err(trouble) => return trouble.into(),
        };
        let mut last = None;
        let count = addresses.len().min(ADDRESSES_LIMIT);
        for (tried, address) in addresses.into_iter().take(count).enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(count - tried).unwrap_or(1).max(1);
            let to = SocketAddr::new(address, to.port);
            match tcp::connect(to, self.spec.source, share, on.trace).await {
                Ok((_, took)) => return self.judge_open(to, took),
                Err(not_open) => last = Some(not_open),
            }
        }
        match last {
            Some(not_open) => self.judge(not_open),
            None => {
                Reason::new(ReasonCode::NameNotFound, format!("{} has no address", to.host)).into()
            }
        }
    }
}

impl Tcp {
    fn judge_open(&self, to: SocketAddr, took: Duration) -> Reading {
        let samples = vec![Sample::new(&TCP_CONNECT, took.as_secs_f64())];
        match self.spec.expect {
            Expect::Open => Reading::success(samples),
            Expect::Closed | Expect::Filtered => Reading::failure(
                Reason::new(
                    ReasonCode::ValueMismatch,
                    format!("{to} is open; expected {}", self.expected()),
                ),
                samples,
            ),
        }
    }

    fn judge(&self, not_open: NotOpen) -> Reading {
        match (self.spec.expect, &not_open) {
            (_, NotOpen::Fault(_)) | (Expect::Open, _) => Trouble::from(not_open).into(),
            (Expect::Closed, NotOpen::Refused(_))
            | (Expect::Filtered, NotOpen::Silent(_) | NotOpen::Prohibited(_)) => {
                Reading::success(Vec::new())
            }
            _ => {
                let text = format!("{}; expected {}", not_open.text(), self.expected());
                match Trouble::from(not_open) {
                    Trouble::Reason(reason) => Reason::new(reason.code, text).into(),
                    Trouble::Fault(fault) => fault.into(),
                }
            }
        }
    }

    fn expected(&self) -> &'static str {
        match self.spec.expect {
            Expect::Open => "open",
            Expect::Closed => "closed",
            Expect::Filtered => "filtered",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::sync::Arc;

    use super::*;
    use crate::client::Clients;
    use crate::outcome::{FaultCode, Outcome};
    use crate::spec::trace::Trace;

    async fn attempt(spec: Spec, target: &str) -> Reading {
        let target: Arc<str> = target.into();
        let (clients, trace) = (Clients::default(), Trace::on());
        let timeout = Duration::from_secs(2);
        let on = Attempt { target: &target, timeout, clients: &clients, trace: &trace };
        Tcp::new(spec).unwrap().attempt(on).await
    }

    fn code(reading: &Reading) -> &'static str {
        reading.outcome.why().map_or("success", |(code, _)| code)
    }

    #[tokio::test]
    async fn open_and_closed_on_loopback() {
        for host in [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()] {
            let listener = tokio::net::TcpListener::bind((host, 0)).await.unwrap();
            let at = listener.local_addr().unwrap();
            let expect = |expect| Spec { expect, source: None };

            let open = attempt(Spec::default(), &at.to_string()).await;
            assert_eq!(open.outcome, Outcome::Success);
            assert_eq!(open.samples.len(), 1);
            assert_eq!(open.samples[0].metric, &TCP_CONNECT);
            assert!((0.0..1.0).contains(&open.samples[0].value), "{}", open.samples[0].value);
            let unwanted = attempt(expect(Expect::Closed), &at.to_string()).await;
            assert_eq!(code(&unwanted), "value_mismatch");

            drop(listener);
            let refused = attempt(Spec::default(), &at.to_string()).await;
            assert_eq!(code(&refused), "refused", "{:?}", refused.outcome);
            assert!(refused.samples.is_empty());
            assert_eq!(code(&attempt(expect(Expect::Closed), &at.to_string()).await), "success");
            let not_filtered = attempt(expect(Expect::Filtered), &at.to_string()).await;
            assert_eq!(code(&not_filtered), "refused");
        }
    }

    /// A name may have addresses where nobody listens: the first that opens is the answer.
    #[tokio::test]
    async fn a_name_is_looked_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = format!("localhost:{}", listener.local_addr().unwrap().port());
        let reading = attempt(Spec::default(), &target).await;
        assert_eq!(reading.outcome, Outcome::Success);
        // A source of the other family leaves no address to try.
        let source = Some(IpAddr::from(Ipv6Addr::LOCALHOST));
        let other = attempt(Spec { expect: Expect::Open, source }, "127.0.0.1:1").await;
        assert_eq!(code(&other), "name_not_found");
    }

    #[tokio::test]
    async fn a_source_that_this_node_lacks_is_our_fault() {
        let source = Some(IpAddr::from([192, 0, 2, 1]));
        let reading = attempt(Spec { expect: Expect::Open, source }, "127.0.0.1:1").await;
        let Outcome::Inconclusive(fault) = reading.outcome else { panic!("{:?}", reading.outcome) };
        assert_eq!(fault.code, FaultCode::LocalNetwork);
    }

    #[test]
    fn targets_need_a_host_and_a_port() {
        let tcp = Tcp::new(Spec::default()).unwrap();
        for good in ["10.0.0.1:22", "[2001:db8::1]:443", "lake-1.example:9200"] {
            assert_eq!(Probe::target(&tcp, good), Ok(()));
        }
        for bad in ["10.0.0.1", "2001:db8::1:443", ":22", "host:", "host:0", "host:70000", "a b:1"]
        {
            assert!(Probe::target(&tcp, bad).is_err(), "{bad}");
        }
    }
}
