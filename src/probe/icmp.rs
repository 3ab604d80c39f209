//! ICMP echo: loss, round-trip time and jitter.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Attempt, Effect, Probe};
use crate::catalogue::{
    Metric,
    probe::{ICMP_JITTER, ICMP_LOSS, ICMP_RTT},
};
use crate::client::icmp::{self, Answer, Echoes};
use crate::client::sized::{self, Carrier};
use crate::client::{address, address::HostPort};
use crate::outcome::{Fault, FaultCode, Reading, Reason, ReasonCode, Sample};
use crate::spec::units::{Period, Share};

/// A burst of echo requests in each attempt. An attempt fails when none is answered, or when more
/// are lost than `max_loss`; how many may be lost over a window is a gate's question. A name is
/// tried at its first address, IPv4 before IPv6.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default)]
pub struct Spec {
    /// Echo requests in an attempt.
    #[schemars(range(min = 1, max = 1000))]
    pub count: u32,
    /// Bytes of payload in each; 28 (IPv6: 48) more are headers.
    #[schemars(range(max = 65467))]
    pub size: u32,
    /// From one request to the next; all of them have to fit into the check's timeout.
    pub interval: Period,
    /// The attempt fails where a larger share than this is lost.
    pub max_loss: Option<Share>,
}

impl Default for Spec {
    fn default() -> Self {
        Self { count: 5, size: 56, interval: Period(Duration::from_millis(200)), max_loss: None }
    }
}

const COUNT_LIMIT: u32 = 1000;

/// ping(8) leaves shorter intervals to root: a check is no flood.
const INTERVAL_LEAST: Duration = Duration::from_millis(2);

/// What fits into an IPv6 packet behind its header and the echo's; IPv4 takes 40 more.
const SIZE_LIMIT: u32 = 65_467;

/// The least time that one echo is waited for; the most is what ping(8) and fping(8) come near to
/// by default. A reply that comes later is lost: whoever asked has long given up.
const WAIT_LEAST: Duration = Duration::from_millis(100);
const WAIT_MOST: Duration = Duration::from_secs(2);

/// Where none was answered, so many more are sent to learn why: routers send about one message a
/// second to each host (RFC 1812 section 4.3.2.8), and neighbour discovery needs 3 s to give up
/// (RFC 4861 section 10).
const WHY_TRIES: u32 = 2;
const WHY_WAIT: Duration = Duration::from_millis(3500);

pub struct Icmp {
    spec: Spec,
}

impl Probe for Icmp {
    const KIND: &'static str = "icmp";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] = &[&ICMP_RTT, &ICMP_LOSS, &ICMP_JITTER];

    fn new(spec: Spec) -> Result<Self, String> {
        if !(1..=COUNT_LIMIT).contains(&spec.count) {
            return Err(format!("count is 1 to {COUNT_LIMIT}, got {}", spec.count));
        }
        if spec.size > SIZE_LIMIT {
            return Err(format!("size is at most {SIZE_LIMIT} bytes, got {}", spec.size));
        }
        if spec.interval.0 < INTERVAL_LEAST {
            return Err(format!("interval is at least {}", Period(INTERVAL_LEAST)));
        }
        Ok(Self { spec })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        match HostPort::parse(text) {
            Ok(_) => Err(format!("expected a host without a port, got {text:?}")),
            Err(_) => address::host(text).map(drop),
        }
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        let Spec { count, size, .. } = self.spec;
        let requests = if count == 1 { "request" } else { "requests" };
        vec![Effect {
            what: format!(
                "sends {count} ICMP echo {requests} of {size} bytes to {target}; where none \
                 is answered, up to {WHY_TRIES} small ones more to learn why"
            ),
            needs: Some(format!("{}; without it this check is inconclusive", icmp::NEEDS)),
        }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let within = address::margin(on.timeout);
        let deadline = Instant::now() + within;
        let to = match address::first(on.clients, on.target, within).await {
            Ok(to) => to,
            Err(trouble) => return trouble.into(),
        };
        let echoes = match Echoes::open(to) {
            Ok(echoes) => echoes,
            Err(fault) => return fault.into(),
        };
        on.trace.note(format_args!("{} socket to {to}", echoes.way().word()));
        let answers = match self.burst(&echoes, to, deadline, &on).await {
            Ok(answers) => answers,
            Err(fault) => return fault.into(),
        };
        drop(echoes);
        self.judge(to, &answers, deadline, &on).await
    }
}

impl Icmp {
    /// Sends all requests, each at its time whatever became of the ones before; the answers in
    /// the order of the requests.
    async fn burst(
        &self,
        echoes: &Echoes,
        to: IpAddr,
        deadline: Instant,
        on: &Attempt<'_>,
    ) -> Result<Vec<Answer>, Fault> {
        let count = self.spec.count;
        let interval = self.spec.interval.0;
        let spread = interval.saturating_mul(count.saturating_sub(1));
        let left = deadline.saturating_duration_since(Instant::now());
        if spread + WAIT_LEAST > left {
            let needed = spread + WAIT_LEAST + Duration::from_millis(250);
            return Err(Fault::new(
                FaultCode::Exhausted,
                format!(
                    "{count} echoes {interval:?} apart don't fit into the timeout of {:?}: raise it to {needed:.1?}, or lower `count` or `interval`",
                    on.timeout
                ),
            ));
        }
        // Half of what is left is kept to learn the reason where none is answered.
        let wait = ((left - spread) / 2).clamp(WAIT_LEAST, WAIT_MOST);
        let payload = vec![0x67; usize::try_from(self.spec.size).unwrap_or(0)];
        let payload = payload.as_slice();
        let began = Instant::now();
        let mut under_way: FuturesUnordered<_> = (0..count)
            .map(|index| async move {
                tokio::time::sleep_until(began + interval.saturating_mul(index)).await;
                // Sequence numbers start at 1 as ping's do; count keeps them within 16 bits.
                let sequence = u16::try_from(index + 1).unwrap_or(u16::MAX);
                on.trace.note(format_args!("echo {sequence} to {to}"));
                (index, echoes.echo(sequence, payload, wait).await)
            })
            .collect();
        let mut answers = vec![Answer::Silent; usize::try_from(count).unwrap_or(0)];
        while let Some((index, answer)) = under_way.next().await {
            match &answer {
                Answer::Replied(rtt) => {
                    on.trace.note(format_args!("reply {} after {rtt:.1?}", index + 1));
                }
                Answer::Unreachable(text) => {
                    on.trace.note(format_args!("echo {}: {text}", index + 1));
                }
                Answer::Silent => on.trace.note(format_args!("echo {}: no reply", index + 1)),
                Answer::Fault(fault) => return Err(fault.clone()),
            }
            if let Some(place) = usize::try_from(index).ok().and_then(|i| answers.get_mut(i)) {
                *place = answer;
            }
        }
        Ok(answers)
    }

    async fn judge(
        &self,
        to: IpAddr,
        answers: &[Answer],
        deadline: Instant,
        on: &Attempt<'_>,
    ) -> Reading {
        let (samples, loss) = measure(answers);
        let sent = answers.len();
        let lost = answers.iter().filter(|a| !matches!(a, Answer::Replied(_))).count();
        if lost == sent {
            let told = answers.iter().find_map(|answer| match answer {
                Answer::Unreachable(text) => Some(text.clone()),
                _ => None,
            });
            return match self.why(to, told, deadline, on).await {
                Ok(reason) => Reading::failure(reason, samples),
                Err(fault) => fault.into(),
            };
        }
        match self.spec.max_loss {
            Some(most) if loss > most.0 => Reading::failure(
                Reason::new(
                    ReasonCode::PacketLoss,
                    format!(
                        "{to} answered {} of {sent} echoes: more than {most} are lost",
                        sent - lost
                    ),
                ),
                samples,
            ),
            _ => Reading::success(samples),
        }
    }

    /// Why not one was answered: a datagram socket of the echo library hears no ICMP errors, so
    /// one more request goes out on a socket with an error queue.
    async fn why(
        &self,
        to: IpAddr,
        told: Option<String>,
        deadline: Instant,
        on: &Attempt<'_>,
    ) -> Result<Reason, Fault> {
        let unreachable = |text: String| Reason::new(ReasonCode::Unreachable, text);
        if let Some(text) = told {
            return Ok(unreachable(format!("{to} can't be reached: {text}")));
        }
        let count = self.spec.count;
        let small = sized::smallest(to.is_ipv6());
        for _ in 0..WHY_TRIES {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            match sized::send(to, Carrier::Echo, small, left.min(WHY_WAIT), on.trace).await? {
                sized::Outcome::Unreachable(text) => {
                    return Ok(unreachable(format!("{to} can't be reached: {text}")));
                }
                sized::Outcome::Arrived { .. } => {
                    return Ok(Reason::new(
                        ReasonCode::PacketLoss,
                        format!(
                            "{to} answered none of {count} echoes of {} bytes, but a smaller one \
                             after them",
                            self.spec.size
                        ),
                    ));
                }
                _ => {}
            }
        }
        Ok(Reason::new(
            ReasonCode::PacketLoss,
            format!("{to} answered none of {count} echoes, and no router says why"),
        ))
    }
}

/// The samples of one attempt, and the share that was lost.
fn measure(answers: &[Answer]) -> (Vec<Sample>, f64) {
    let times: Vec<f64> = answers
        .iter()
        .filter_map(|answer| match answer {
            Answer::Replied(rtt) => Some(rtt.as_secs_f64()),
            _ => None,
        })
        .collect();
    let loss = match answers.len() {
        0 => 1.0,
        sent => (sent - times.len()) as f64 / sent as f64,
    };
    let mut samples: Vec<Sample> = times.iter().map(|rtt| Sample::new(&ICMP_RTT, *rtt)).collect();
    samples.push(Sample::new(&ICMP_LOSS, loss));
    // Without two replies there is nothing to compare: no sample, and not zero.
    if times.len() >= 2 {
        let changes: f64 = times.iter().zip(times.iter().skip(1)).map(|(a, b)| (b - a).abs()).sum();
        samples.push(Sample::new(&ICMP_JITTER, changes / (times.len() - 1) as f64));
    }
    (samples, loss)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::sync::Arc;

    use super::*;
    use crate::client::Clients;
    use crate::outcome::Outcome;
    use crate::spec::trace::Trace;

    fn values(samples: &[Sample], metric: &'static Metric) -> Vec<f64> {
        samples.iter().filter(|s| s.metric == metric).map(|s| s.value).collect()
    }

    async fn attempt(spec: Spec, target: &str, timeout: Duration) -> Reading {
        let target: Arc<str> = target.into();
        let (clients, trace) = (Clients::default(), Trace::off());
        let on = Attempt { target: &target, timeout, clients: &clients, trace: &trace };
        Icmp::new(spec).unwrap().attempt(on).await
    }

    fn quick(count: u32) -> Spec {
        Spec { count, interval: Period(Duration::from_millis(5)), ..Spec::default() }
    }

    #[test]
    fn loss_and_jitter_are_of_the_replies() {
        let replied = |ms| Answer::Replied(Duration::from_millis(ms));
        let (samples, loss) = measure(&[replied(10), Answer::Silent, replied(14), replied(12)]);
        assert_eq!(loss, 0.25);
        assert_eq!(values(&samples, &ICMP_RTT), [0.010, 0.014, 0.012]);
        assert_eq!(values(&samples, &ICMP_LOSS), [0.25]);
        let jitter = values(&samples, &ICMP_JITTER);
        assert!((jitter[0] - 0.003).abs() < 1e-9, "mean of 4 ms and 2 ms: {jitter:?}");

        let (samples, loss) = measure(&[replied(10), Answer::Silent]);
        assert_eq!(
            (loss, values(&samples, &ICMP_JITTER).len()),
            (0.5, 0),
            "one reply has no jitter"
        );
        let (samples, loss) = measure(&[Answer::Silent, Answer::Unreachable("3/1".into())]);
        assert_eq!((loss, values(&samples, &ICMP_RTT).len()), (1.0, 0));
    }

    #[tokio::test]
    async fn loopback_has_no_loss() {
        for target in [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()] {
            let reading = attempt(quick(20), &target.to_string(), Duration::from_secs(5)).await;
            assert_eq!(reading.outcome, Outcome::Success);
            let times = values(&reading.samples, &ICMP_RTT);
            assert_eq!(times.len(), 20);
            assert!(times.iter().all(|rtt| *rtt > 0.0 && *rtt < 1.0), "{times:?}");
            assert_eq!(values(&reading.samples, &ICMP_LOSS), [0.0]);
            assert_eq!(values(&reading.samples, &ICMP_JITTER).len(), 1);
        }
    }

    /// Checks of one target at once don't take each other's replies.
    #[tokio::test]
    async fn concurrent_checks_of_one_target_are_apart() {
        let timeout = Duration::from_secs(5);
        let all = (0..16).map(|_| attempt(quick(50), "127.0.0.1", timeout));
        for reading in futures_util::future::join_all(all).await {
            assert_eq!(reading.outcome, Outcome::Success);
            assert_eq!(values(&reading.samples, &ICMP_RTT).len(), 50);
            assert_eq!(values(&reading.samples, &ICMP_LOSS), [0.0]);
        }
    }

    #[tokio::test]
    async fn what_does_not_fit_is_not_measured_by_half() {
        let spec = Spec { count: 20, interval: Period(Duration::from_secs(1)), ..Spec::default() };
        let reading = attempt(spec, "127.0.0.1", Duration::from_secs(10)).await;
        let Outcome::Inconclusive(fault) = reading.outcome else { panic!("{:?}", reading.outcome) };
        assert!(fault.text.contains("don't fit into the timeout of 10s"), "{}", fault.text);
    }

    #[test]
    fn specs_and_targets_have_limits() {
        assert!(Icmp::new(Spec { count: 0, ..Spec::default() }).is_err());
        assert!(Icmp::new(Spec { count: 1001, ..Spec::default() }).is_err());
        assert!(Icmp::new(Spec { size: 65_468, ..Spec::default() }).is_err());
        let flood = Period(Duration::from_millis(1));
        assert!(Icmp::new(Spec { interval: flood, ..Spec::default() }).is_err());
        let icmp = Icmp::new(Spec { count: 20, ..Spec::default() }).unwrap();
        assert_eq!(Probe::target(&icmp, "2001:db8::1"), Ok(()));
        assert_eq!(Probe::target(&icmp, "lake-1.example"), Ok(()));
        assert!(Probe::target(&icmp, "lake-1:80").is_err());
        let what = &Probe::effects(&icmp, "lake-1")[0].what;
        assert!(what.starts_with("sends 20 ICMP echo requests of 56 bytes to lake-1"), "{what}");
    }
}
