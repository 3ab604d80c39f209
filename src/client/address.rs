//! What a target of the network names: a host, or a host and a port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use tokio::time::timeout;

use super::Clients;
use crate::outcome::{FaultCode, ReasonCode, Trouble};

/// `host:port`, an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    pub host: String,
    pub port: u16,
}

impl HostPort {
    pub fn parse(text: &str) -> Result<Self, String> {
        let expected = || format!("expected host:port, an IPv6 address in brackets, got {text:?}");
        let (name, port) = text.rsplit_once(':').ok_or_else(expected)?;
        let port: u16 = port.parse().map_err(|_| expected())?;
        if port == 0 {
            return Err(format!("port 0 can't be reached, in {text:?}"));
        }
        let host = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(inner) => {
                let address: Ipv6Addr = inner.parse().map_err(|_| expected())?;
                host(&address.to_string()).map(str::to_owned)?
            }
            None if name.contains(':') => return Err(expected()),
            None => host(name).map(str::to_owned)?,
        };
        Ok(Self { host, port })
    }
}

/// A name of DNS is no longer than this (RFC 1035 section 2.3.4).
const NAME_LIMIT: usize = 253;

/// An address without brackets, or a name.
pub fn host(text: &str) -> Result<&str, String> {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if let Ok(address) = text.parse::<IpAddr>() {
        let broadcast = address == IpAddr::V4(Ipv4Addr::BROADCAST);
        if address.is_multicast() || address.is_unspecified() || broadcast {
            return Err(format!("expected the address of one host, got {text:?}"));
        }
        return Ok(text);
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    if name.len() <= NAME_LIMIT && name.split('.').all(label) {
        Ok(text)
    } else {
        Err(format!("expected a host name or an address, got {text:?}"))
    }
}

/// The first address of a host.
pub async fn first(clients: &Clients, host: &str, within: Duration) -> Result<IpAddr, Trouble> {
    let addresses = lookup(clients, host, None, within).await?;
    let none = || Trouble::reason(ReasonCode::NameNotFound, format!("{host} has no address"));
    addresses.first().copied().ok_or_else(none)
}

/// All addresses of a host, those of the family of `from` only where it is given. An address
/// needs no name service.
pub async fn lookup(
    clients: &Clients,
    host: &str,
    from: Option<IpAddr>,
    within: Duration,
) -> Result<Vec<IpAddr>, Trouble> {
    let mut addresses = match timeout(within, clients.resolver().lookup(host)).await {
        Ok(answer) => answer?,
        Err(_) => {
            return Err(Trouble::fault(
                FaultCode::NameService,
                format!("resolving {host}: no answer within {within:.1?}"),
            ));
        }
    };
    if let Some(from) = from {
        addresses.retain(|address| address.is_ipv6() == from.is_ipv6());
    }
    if addresses.is_empty() {
        return Err(Trouble::reason(
            ReasonCode::NameNotFound,
            match from {
                Some(from) => format!("{host} has no address of the family of {from}"),
                None => format!("{host} has no address"),
            },
        ));
    }
    Ok(addresses)
}

/// An attempt's time without what it needs to tell what it waited for.
pub fn margin(timeout: Duration) -> Duration {
    timeout.saturating_sub((timeout / 10).min(Duration::from_millis(250)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::{Config, TestRunner};

    use super::*;

    #[test]
    fn host_and_port_are_told_apart() {
        let parsed = |text: &str| HostPort::parse(text).map(|to| (to.host, to.port));
        assert_eq!(parsed("10.0.0.1:22"), Ok(("10.0.0.1".into(), 22)));
        assert_eq!(parsed("[2001:DB8::1]:443"), Ok(("2001:db8::1".into(), 443)));
        assert_eq!(parsed("kafka-1.example.:9092"), Ok(("kafka-1.example.".into(), 9092)));
        for bad in [
            "", ":", "a", "a:", ":1", "a:0", "a:65536", "a:-1", "::1:80", "[a]:1", "[::1]", "a b:1",
        ] {
            assert!(parsed(bad).is_err(), "{bad:?}");
        }
        for bad in ["224.0.0.1:80", "255.255.255.255:80", "0.0.0.0:80", "[::]:80", "[ff02::1]:80"] {
            assert!(parsed(bad).is_err(), "{bad:?} is no single host");
        }
        assert!(host("2001:db8::1").is_ok() && host("fe80::1%eth0").is_err() && host("").is_err());
    }

    #[test]
    fn property_targets() {
        let mut runner =
            TestRunner::new(Config { cases: 4096, failure_persistence: None, ..Config::default() });
        let any_text = prop_oneof![
            "\\PC{0,40}",
            "[a-z0-9.:\\[\\]%-]{0,40}",
            "[a-z]{1,9}(\\.[a-z]{1,9}){0,3}:[0-9]{1,6}",
            any::<[u8; 16]>().prop_map(|a| format!("[{}]:443", Ipv6Addr::from(a))),
            any::<([u8; 4], u16)>().prop_map(|(a, port)| format!("{}:{port}", Ipv4Addr::from(a))),
        ];
        let counter = std::cell::Cell::new(0u32);
        runner
            .run(&any_text, |text| {
                counter.set(counter.get() + 1);
                if let Ok(to) = HostPort::parse(&text) {
                    // What was read, written again, reads as the same.
                    let again = if to.host.contains(':') {
                        format!("[{}]:{}", to.host, to.port)
                    } else {
                        format!("{}:{}", to.host, to.port)
                    };
                    prop_assert_eq!(HostPort::parse(&again), Ok(to));
                }
                Ok(())
            })
            .unwrap();
        eprintln!("property targets: {} inputs", counter.get());
    }

    #[test]
    fn the_margin_leaves_most_of_the_time() {
        assert_eq!(margin(Duration::from_secs(10)), Duration::from_millis(9750));
        assert_eq!(margin(Duration::from_secs(1)), Duration::from_millis(900));
        assert_eq!(margin(Duration::ZERO), Duration::ZERO);
    }
}
