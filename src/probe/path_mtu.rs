//! Path MTU: whether packets of the expected size pass unfragmented, and what stands in the way.
//!
//! Needs no capability: packets that may not be fragmented, and the kernel's error queue. The
//! route cache is never believed (a repaired path would read broken for ten minutes), and a path
//! that swallows both the packet and the message about it is told from one that answers.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{Attempt, Effect, Probe};
use crate::catalogue::{Metric, probe::PATH_MTU};
use crate::client::icmp;
use crate::client::sized::{self, Carrier, Outcome, Proof};
use crate::client::{address, address::HostPort};
use crate::outcome::{Fault, FaultCode, Reading, Reason, ReasonCode, Sample, Trouble};
use crate::spec::trace::Trace;

/// Packets of the expected size reach the target unfragmented. This is judged from this node to
/// the target: for the way back, check from the other end too.
#[derive(Clone, Debug, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Spec {
    /// Bytes of the largest IP packet that should pass, headers included: 1500, 9000.
    #[schemars(range(min = 68, max = 65535))]
    pub expect: u32,
    /// Fail also where larger packets pass. Off by default: virtual links let a few bytes more
    /// through than they are set to.
    #[serde(default)]
    pub exact: bool,
    /// Send UDP to this port instead of ICMP echo: it should echo what it gets, or be closed. No
    /// right is needed for it.
    #[serde(default)]
    #[schemars(range(min = 1))]
    pub port: Option<u16>,
}

/// A packet that got no answer is sent so often (RFC 8899 section 5.1.2, MAX_PROBES).
const TRIES: u32 = 3;

/// How long the first packet is waited for. RFC 8899 section 5.1.1: PROBE_TIMER is at least 1 s.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The shortest wait once the round-trip time is known, and how many of those it is.
const SHORT_WAIT: Duration = Duration::from_millis(150);
const ROUND_TRIPS: u32 = 4;

/// Sizes tried to find out what passes: bisecting 68..65535 takes no more than 16, and a search
/// from the expected size of a jumbo frame no more than 14.
const SEARCH_LIMIT: u32 = 14;

/// Linux lets a virtual link forward this much more than its MTU (is_skb_forwardable: VLAN_HLEN).
const VLAN_TAG: u32 = 4;

/// How long the queue of this node's link is given to drain.
const QUEUE_PAUSE: Duration = Duration::from_millis(20);

/// The most packets of an attempt: the expected size and the small one until something is known,
/// a search each for what passes below it and above it, and what decides between them.
const PACKETS_LIMIT: u32 = 4 * TRIES + 4 * SEARCH_LIMIT;

pub struct PathMtu {
    spec: Spec,
    carrier: Carrier,
}

impl Probe for PathMtu {
    const KIND: &'static str = "path_mtu";
    type Spec = Spec;
    const METRICS: &'static [&'static Metric] = &[&PATH_MTU];
    const TIMEOUT: Duration = Duration::from_secs(15);

    fn new(spec: Spec) -> Result<Self, String> {
        let sizes = sized::smallest(false)..=sized::LARGEST;
        if !sizes.contains(&spec.expect) {
            return Err(format!(
                "expect is the size of an IP packet in bytes, {} to {}, got {}",
                sizes.start(),
                sizes.end(),
                spec.expect
            ));
        }
        let carrier = match spec.port {
            None => Carrier::Echo,
            Some(0) => return Err("port 0 can't be reached".into()),
            Some(port) => Carrier::Udp(port),
        };
        Ok(Self { spec, carrier })
    }

    fn target(&self, text: &str) -> Result<(), String> {
        match HostPort::parse(text) {
            Ok(_) => Err(format!("expected a host without a port, got {text:?}; see `port`")),
            Err(_) => address::host(text).map(drop),
        }
    }

    fn effects(&self, target: &str) -> Vec<Effect> {
        let expect = self.spec.expect;
        let (what, needs) = match self.carrier {
            Carrier::Echo => (
                "ICMP echo requests".to_owned(),
                Some(format!(
                    "{}; without it this check is inconclusive, unless it names a `port`",
                    icmp::NEEDS
                )),
            ),
            Carrier::Udp(port) => (format!("UDP datagrams to port {port}"), None),
        };
        vec![Effect {
            what: format!(
                "sends {what} that may not be fragmented to {target}: 2 where the path is right, \
                 of {expect} and {more} bytes; where it is not, up to {PACKETS_LIMIT} of other \
                 sizes, to find out what passes",
                more = expect.saturating_add(1),
            ),
            needs,
        }]
    }

    async fn attempt(&self, on: Attempt<'_>) -> Reading {
        let within = address::margin(on.timeout);
        let deadline = Instant::now() + within;
        let to = match address::first(on.clients, on.target, within).await {
            Ok(to) => to,
            Err(trouble) => return trouble.into(),
        };
        let mut path = Path {
            to,
            carrier: self.carrier,
            deadline,
            wait: FIRST_WAIT,
            limited: false,
            dropped_here: false,
            trace: on.trace,
        };
        match self.judge(&mut path).await {
            Ok(reading) => reading,
            Err(trouble) => trouble.into(),
        }
    }
}

/// One path in one attempt, and how long an answer on it takes.
struct Path<'a> {
    to: IpAddr,
    carrier: Carrier,
    deadline: Instant,
    wait: Duration,
    /// The target's answers are rate limited, so that silence would mean nothing in a search.
    limited: bool,
    /// This node's own link has dropped a packet.
    dropped_here: bool,
    trace: &'a Trace,
}

impl Path<'_> {
    /// Sends packets of one size until something comes of one, `tries` times at most.
    async fn send(&mut self, bytes: u32, tries: u32) -> Result<Outcome, Trouble> {
        for _ in 0..tries {
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Fault::new(
                    FaultCode::Exhausted,
                    format!(
                        "the timeout was over before {} could be judged: raise the check's `timeout`",
                        self.to
                    ),
                )
                .into());
            }
            let wait = self.wait.min(left);
            match sized::send(self.to, self.carrier, bytes, wait, self.trace).await? {
                Outcome::Silent => {}
                Outcome::DroppedHere => {
                    self.dropped_here = true;
                    // A queue that was full has room again after that.
                    tokio::time::sleep(QUEUE_PAUSE).await;
                }
                Outcome::Arrived { after, proof } => {
                    self.wait = (after * ROUND_TRIPS).clamp(SHORT_WAIT, FIRST_WAIT);
                    self.limited |= proof == Proof::PortUnreachable;
                    return Ok(Outcome::Arrived { after, proof });
                }
                decided => return Ok(decided),
            }
        }
        Ok(Outcome::Silent)
    }

    /// The largest size that passes, as far as the time and the number of packets allow.
    async fn search(&mut self, mut search: Search) -> Result<Search, Trouble> {
        // Silence costs two waits, and the verdict afterwards one more.
        while Instant::now() + self.wait * 3 < self.deadline {
            let Some(size) = search.next(!self.limited) else { break };
            match self.send(size, 2).await? {
                Outcome::Arrived { .. } => search.passed(size),
                Outcome::TooBig { mtu, .. } | Outcome::TooBigHere { mtu } => {
                    search.failed(size, mtu)
                }
                Outcome::Silent | Outcome::DroppedHere => search.failed(size, None),
                Outcome::Unreachable(_) => break,
            }
        }
        Ok(search)
    }
}

/// What passes, between a size that does and one that does not: what routers say is tried first,
/// where they are silent by bisecting. Sends nothing itself.
#[derive(Clone, Copy, Debug)]
struct Search {
    passes: u32,
    fails: u32,
    /// What a router says that it takes, or one byte more than what it says and what passed.
    hint: Option<u32>,
    left: u32,
}

impl Search {
    fn new(passes: u32, fails: u32, hint: Option<u32>) -> Self {
        Self { passes, fails, hint, left: SEARCH_LIMIT }
    }

    /// The size to try next; None where the answer is found or the tries are used up.
    fn next(&mut self, bisect: bool) -> Option<u32> {
        if self.is_exact() || self.left == 0 {
            return None;
        }
        // A hint that contradicts what was seen is no hint.
        let hint = self.hint.take().filter(|size| self.passes < *size && *size < self.fails);
        let half = || self.passes + (self.fails - self.passes) / 2;
        let size = hint.or_else(|| bisect.then(half))?;
        self.left -= 1;
        // If what the router says passes, one byte more decides whether it is the limit.
        self.hint = hint.and_then(|size| size.checked_add(1));
        Some(size)
    }

    fn passed(&mut self, size: u32) {
        self.passes = self.passes.max(size);
    }

    fn failed(&mut self, size: u32, hint: Option<u32>) {
        self.fails = self.fails.min(size);
        self.hint = hint;
    }

    fn is_exact(self) -> bool {
        self.fails.saturating_sub(self.passes) <= 1
    }

    /// In words: "1400 bytes", or "at least 1400 bytes".
    fn words(self) -> String {
        format!("{}{} bytes", if self.is_exact() { "" } else { "at least " }, self.passes)
    }

    fn samples(self) -> Vec<Sample> {
        vec![Sample::new(&PATH_MTU, f64::from(self.passes))]
    }
}

impl PathMtu {
    async fn judge(&self, path: &mut Path<'_>) -> Result<Reading, Trouble> {
        let (expect, to) = (self.spec.expect, path.to);
        let smallest = sized::smallest(to.is_ipv6()).min(expect);
        let unreachable = |text: String| Trouble::reason(ReasonCode::Unreachable, text);
        match path.send(expect, 1).await? {
            Outcome::Arrived { .. } => return self.passes(path).await,
            Outcome::TooBig { mtu, router } => return too_big(path, expect, mtu, router).await,
            Outcome::TooBigHere { mtu } => return too_big_here(path, expect, mtu).await,
            Outcome::Unreachable(text) => return Err(unreachable(text)),
            Outcome::Silent | Outcome::DroppedHere => {}
        }
        // Silence: is it the size, or is nobody there? The small packet tells, and how long an
        // answer takes.
        match path.send(smallest, TRIES).await? {
            Outcome::Arrived { .. } => {}
            Outcome::Unreachable(text) => return Err(unreachable(text)),
            _ if path.dropped_here => {
                return Err(Trouble::fault(
                    FaultCode::Exhausted,
                    format!(
                        "this node's own link drops even {smallest} bytes to {to}: its queue is full"
                    ),
                ));
            }
            _ => {
                return Err(Trouble::reason(
                    ReasonCode::Timeout,
                    format!(
                        "{to} answers neither {expect} nor {smallest} bytes: it is gone, or {} is \
                         filtered; nothing is known of its MTU",
                        self.carrier_word()
                    ),
                ));
            }
        }
        match path.send(expect, TRIES - 1).await? {
            Outcome::Arrived { .. } => return self.passes(path).await,
            Outcome::TooBig { mtu, router } => return too_big(path, expect, mtu, router).await,
            Outcome::TooBigHere { mtu } => return too_big_here(path, expect, mtu).await,
            Outcome::Unreachable(text) => return Err(unreachable(text)),
            Outcome::Silent | Outcome::DroppedHere => {}
        }
        let found = path.search(Search::new(smallest, expect, None)).await?;
        // On a lossy path three losses in a row happen; before it is called a black hole the
        // expected size has one more chance.
        if let Outcome::Arrived { .. } = path.send(expect, 1).await.unwrap_or(Outcome::Silent) {
            return self.passes(path).await;
        }
        let place = if path.dropped_here { " at this node's own link" } else { "" };
        Ok(Reading::failure(
            Reason::new(
                ReasonCode::MtuBlackHole,
                format!(
                    "packets of {expect} bytes to {to} vanish{place} and no router says why, while \
                     {} pass: a hop takes less and its ICMP \"too big\" is swallowed; let ICMP 3/4 \
                     (IPv6: type 2) through, or clamp the MSS",
                    found.words()
                ),
            ),
            found.samples(),
        ))
    }

    /// The expected size passed: the verdict is good. What is left is whether more does.
    async fn passes(&self, path: &mut Path<'_>) -> Result<Reading, Trouble> {
        let expect = self.spec.expect;
        let more = expect.saturating_add(1);
        let sample = |bytes: u32| vec![Sample::new(&PATH_MTU, f64::from(bytes))];
        if more > sized::LARGEST {
            return Ok(Reading::success(sample(expect)));
        }
        // With `exact` a single loss must not hide the slack; without, it costs nothing to miss it.
        let tries = if self.spec.exact { TRIES } else { 1 };
        if !matches!(path.send(more, tries).await, Ok(Outcome::Arrived { .. })) {
            return Ok(Reading::success(sample(expect)));
        }
        let found = self.slack(path, more).await?;
        let text = format!(
            "the path to {} carries {}, {} more than the expected {expect}",
            path.to,
            found.words(),
            found.passes.saturating_sub(expect)
        );
        path.trace.note(format_args!("{text}"));
        if self.spec.exact {
            let reason = Reason::new(ReasonCode::MtuTooLarge, text);
            return Ok(Reading::failure(reason, found.samples()));
        }
        Ok(Reading::success(found.samples()))
    }

    /// What passes beyond the expected size, of which `more` does.
    async fn slack(&self, path: &mut Path<'_>, more: u32) -> Result<Search, Trouble> {
        // Most often it is a virtual link's room for a VLAN tag: looked for first, as what is
        // larger vanishes there without a word, and that costs waiting.
        let beyond = more.saturating_add(VLAN_TAG).min(sized::LARGEST);
        match path.send(beyond, 2).await? {
            Outcome::Arrived { .. } => {}
            Outcome::TooBig { mtu, .. } | Outcome::TooBigHere { mtu } => {
                return path.search(Search::new(more, beyond, mtu)).await;
            }
            _ => return path.search(Search::new(more, beyond, None)).await,
        }
        // This node's interface bounds what can pass, and says so without a packet being sent.
        match path.send(sized::LARGEST, 1).await? {
            Outcome::Arrived { .. } => Ok(Search::new(sized::LARGEST, sized::LARGEST, None)),
            Outcome::TooBig { mtu, .. } | Outcome::TooBigHere { mtu } => {
                path.search(Search::new(beyond, sized::LARGEST, mtu)).await
            }
            _ => Ok(Search::new(beyond, sized::LARGEST, None)),
        }
    }

    fn carrier_word(&self) -> &'static str {
        match self.carrier {
            Carrier::Echo => "ICMP echo",
            Carrier::Udp(_) => "the UDP port",
        }
    }
}

/// A router said no: what it says is tried before it is believed.
async fn too_big(
    path: &mut Path<'_>,
    expect: u32,
    mtu: Option<u32>,
    router: Option<IpAddr>,
) -> Result<Reading, Trouble> {
    let said = match (router, mtu) {
        (Some(router), Some(mtu)) => format!("router {router} says that its next hop takes {mtu}"),
        (Some(router), None) => format!("router {router} says too big, and not what it takes"),
        (None, Some(mtu)) => format!("a router says that its next hop takes {mtu}"),
        (None, None) => String::from("a router says too big, and not what it takes"),
    };
    Ok(too_small(path, expect, mtu, said).await)
}

async fn too_big_here(
    path: &mut Path<'_>,
    expect: u32,
    mtu: Option<u32>,
) -> Result<Reading, Trouble> {
    let said = match mtu {
        Some(mtu) => {
            format!("this node's own interface takes {mtu}; see `ip route get {}`", path.to)
        }
        None => format!("this node's own interface takes less; see `ip route get {}`", path.to),
    };
    Ok(too_small(path, expect, mtu, said).await)
}

async fn too_small(path: &mut Path<'_>, expect: u32, mtu: Option<u32>, said: String) -> Reading {
    let to = path.to;
    let smallest = sized::smallest(to.is_ipv6()).min(expect);
    // The verdict stands whatever the search finds: it only adds the size that does pass.
    let found = match path.send(smallest, TRIES).await {
        Ok(Outcome::Arrived { .. }) => path.search(Search::new(smallest, expect, mtu)).await.ok(),
        _ => None,
    };
    let (carries, samples) = match found {
        Some(found) => (format!("carries {}", found.words()), found.samples()),
        None => (String::from("answers no smaller packet either"), Vec::new()),
    };
    Reading::failure(
        Reason::new(
            ReasonCode::MtuTooSmall,
            format!("the path to {to} {carries}, not the expected {expect}: {said}"),
        ),
        samples,
    )
}

#[cfg(test)]
mod tests;
