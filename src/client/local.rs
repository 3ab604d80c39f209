//! Whether an errno of the network stack is this node's own fault.

use std::net::IpAddr;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;

use super::error_queue::{Entry, Said};
use crate::outcome::{Fault, FaultCode};

/// The fault behind an errno of `socket`, `bind`, `connect` or `send`, where no ICMP message came
/// with it; None where the errno speaks of the network or the peer. `doing` is for the text:
/// "connecting to 10.0.0.1:22".
pub fn fault(errno: Errno, doing: &str, to: IpAddr) -> Option<Fault> {
    let (code, help) = match errno {
        Errno::EMFILE => (FaultCode::Exhausted, "raise LimitNOFILE of the agent"),
        Errno::ENFILE => (FaultCode::Exhausted, "raise fs.file-max"),
        Errno::ENOBUFS | Errno::ENOMEM => {
            (FaultCode::Exhausted, "free memory on this node, or raise net.core.wmem_max")
        }
        Errno::EADDRNOTAVAIL if !has_address(to) => return Some(no_address(doing, to)),
        Errno::EADDRNOTAVAIL => {
            (FaultCode::Exhausted, "widen net.ipv4.ip_local_port_range, or look for leaked sockets")
        }
        Errno::ENETDOWN | Errno::ENODEV => {
            (FaultCode::LocalNetwork, "bring this node's interface up")
        }
        Errno::ENETUNREACH | Errno::EHOSTUNREACH if !has_address(to) => {
            return Some(no_address(doing, to));
        }
        Errno::EACCES | Errno::EPERM => {
            (FaultCode::Permission, "look at this node's own packet filter and prohibit routes")
        }
        Errno::EAFNOSUPPORT | Errno::EPROTONOSUPPORT => {
            (FaultCode::Unsupported, "this kernel lacks the protocol")
        }
        _ => return None,
    };
    Some(Fault::new(code, format!("{doing}: {}; {help}", errno.desc().to_lowercase())))
}

fn no_address(doing: &str, to: IpAddr) -> Fault {
    let family = if to.is_ipv6() { "IPv6" } else { "IPv4" };
    Fault::new(
        FaultCode::LocalNetwork,
        format!("{doing}: no interface of this node that is up has an {family} address"),
    )
}

/// Whether this node could reach beyond itself at all: an interface that is up has an address of
/// the target's family. Where the kernel doesn't say, the network is asked and not this node.
fn has_address(to: IpAddr) -> bool {
    if to.is_loopback() {
        return true;
    }
    let Ok(interfaces) = getifaddrs() else { return true };
    interfaces.into_iter().any(|interface| {
        let up = interface.flags.contains(InterfaceFlags::IFF_UP)
            && !interface.flags.contains(InterfaceFlags::IFF_LOOPBACK);
        let Some(address) = interface.address else { return false };
        up && match to {
            IpAddr::V4(_) => address.as_sockaddr_in().is_some(),
            // A link-local address reaches nothing behind a router.
            IpAddr::V6(to) => address
                .as_sockaddr_in6()
                .is_some_and(|own| to.is_unicast_link_local() || !own.ip().is_unicast_link_local()),
        }
    })
}

/// The fault behind an entry of the error queue that a packet filter of this node itself made.
pub fn prohibited(entry: &Entry, doing: &str, to: IpAddr) -> Option<Fault> {
    let here =
        entry.said() == Said::Prohibited && entry.offender.is_some_and(is_own) && !is_own(to);
    here.then(|| {
        Fault::new(
            FaultCode::Permission,
            format!("{doing}: this node's own packet filter or routes prohibit it: {entry}"),
        )
    })
}

/// What an entry says in words. Neighbour discovery that failed is told by this node's own stack,
/// and it is the host that does not answer.
pub fn words(entry: &Entry, to: IpAddr) -> String {
    let here = entry.offender.is_some_and(is_own) && !is_own(to);
    match entry.said() {
        Said::Unreachable if here => "no host answers for this address on the local link".into(),
        _ => entry.to_string(),
    }
}

/// Whether this is an address of this node: an ICMP message from it was made by its own stack.
fn is_own(address: IpAddr) -> bool {
    let Ok(interfaces) = getifaddrs() else { return false };
    address.is_loopback()
        || interfaces.into_iter().filter_map(|interface| interface.address).any(|own| match address
        {
            IpAddr::V4(v4) => own.as_sockaddr_in().is_some_and(|own| own.ip() == v4),
            IpAddr::V6(v6) => own.as_sockaddr_in6().is_some_and(|own| own.ip() == v6),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_ours_and_what_is_not() {
        let to = IpAddr::from([127, 0, 0, 1]);
        let code = |errno| fault(errno, "connecting", to).map(|fault| fault.code);
        assert_eq!(code(Errno::EMFILE), Some(FaultCode::Exhausted));
        assert_eq!(code(Errno::ENOBUFS), Some(FaultCode::Exhausted));
        assert_eq!(code(Errno::EADDRNOTAVAIL), Some(FaultCode::Exhausted));
        assert_eq!(code(Errno::ENETDOWN), Some(FaultCode::LocalNetwork));
        assert_eq!(code(Errno::EPERM), Some(FaultCode::Permission));
        assert_eq!(code(Errno::EAFNOSUPPORT), Some(FaultCode::Unsupported));
        assert_eq!(code(Errno::ECONNREFUSED), None);
        assert_eq!(code(Errno::EHOSTUNREACH), None, "loopback is always there");
        assert_eq!(code(Errno::ETIMEDOUT), None);
    }

    #[test]
    fn loopback_is_own() {
        assert!(is_own(IpAddr::from([127, 0, 0, 1])));
        assert!(!is_own(IpAddr::from([192, 0, 2, 1])), "TEST-NET-1, RFC 5737");
    }
}
