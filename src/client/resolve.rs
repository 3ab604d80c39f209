//! Names to addresses: IP literals, /etc/hosts, then the system's name servers.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use hickory_resolver::net::NetError;
use hickory_resolver::proto::rr::Name;

use crate::outcome::{FaultCode, ReasonCode, Trouble};

/// What the answers come from; a change of either makes a new resolver, as glibc does it.
const SOURCES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// No lookup takes longer, whatever `timeout` and `attempts` in resolv.conf multiply to
/// (glibc allows 30 s x 5 attempts x 3 servers).
const DEADLINE: Duration = Duration::from_secs(30);

/// RFC 1035, 3.1: a name has at most 255 octets. Longer text is no name.
const NAME_LIMIT: usize = 255;

type Stamp = [Option<SystemTime>; 2];

/// The system's resolver. It caches nothing: a probe that asks a cache would not see that the
/// name service is gone.
#[derive(Default)]
pub struct Resolver {
    made: Mutex<Option<(Stamp, Arc<TokioResolver>)>>,
}

impl Resolver {
    /// The addresses of a host, IPv4 before IPv6; never empty.
    ///
    /// A name that has no address is the target's fault, a name service that does not answer ours.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, Trouble> {
        if let Some(address) = literal(host) {
            return Ok(vec![address]);
        }
        if host.is_empty() || host.len() > NAME_LIMIT {
            return Err(not_a_name(host));
        }
        // A name with an underscore or a blank in it still goes to the name server, as with glibc;
        // what is no name at all does not.
        let name = Name::from_utf8(host).map_err(|_| not_a_name(host))?;
        let resolver = self.resolver()?;
        let found = tokio::time::timeout(DEADLINE, resolver.lookup_ip(name)).await;
        let answer = match found {
            Ok(answer) => answer.map_err(|error| trouble(host, &error))?,
            Err(_) => return Err(no_answer(host, "no answer in time")),
        };
        let mut addresses: Vec<IpAddr> = Vec::new();
        for address in answer.iter() {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(no_address(host));
        }
        Ok(addresses)
    }

    fn resolver(&self) -> Result<Arc<TokioResolver>, Trouble> {
        let stamp = SOURCES.map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok());
        let mut made = self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some((at, resolver)) = made.as_ref()
            && *at == stamp
        {
            return Ok(resolver.clone());
        }
        let fault = |error: NetError| {
            Trouble::fault(
                FaultCode::NameService,
                format!("the resolver could not be set up from /etc/resolv.conf: {error}"),
            )
        };
        let mut builder = TokioResolver::builder_tokio().map_err(fault)?;
        builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
        builder.options_mut().cache_size = 0;
        let resolver = Arc::new(builder.build().map_err(fault)?);
        *made = Some((stamp, resolver.clone()));
        Ok(resolver)
    }
}

/// The address that the text itself is; brackets as in a URL are allowed.
pub fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    bare.parse().ok()
}

fn trouble(name: &str, error: &NetError) -> Trouble {
    // "No records" is an answer only with NXDOMAIN or NOERROR; SERVFAIL and REFUSED say that the
    // name service could not tell (RFC 8499, section 3).
    if error.is_no_records_found() {
        return no_address(name);
    }
    no_answer(name, &error.to_string())
}

fn not_a_name(host: &str) -> Trouble {
    let shown: String = host.chars().take(80).collect();
    Trouble::reason(ReasonCode::NameNotFound, format!("{shown:?} is no host name"))
}

fn no_address(host: &str) -> Trouble {
    Trouble::reason(
        ReasonCode::NameNotFound,
        format!("the name service knows no address of {host}; check the name and the zone"),
    )
}

fn no_answer(host: &str, why: &str) -> Trouble {
    Trouble::fault(
        FaultCode::NameService,
        format!("the name service did not say what {host} is: {why}; check /etc/resolv.conf"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn literals_need_no_name_service() {
        let resolver = Resolver::default();
        assert_eq!(resolver.lookup("127.0.0.1").await, Ok(vec![IpAddr::from([127, 0, 0, 1])]));
        let v6: IpAddr = "::1".parse().unwrap();
        assert_eq!(resolver.lookup("::1").await, Ok(vec![v6]));
        assert_eq!(resolver.lookup("[::1]").await, Ok(vec![v6]));
        assert!(resolver.made.lock().unwrap().is_none());
    }

    #[tokio::test]
    async fn the_hosts_file_answers() {
        let found = Resolver::default().lookup("localhost").await.unwrap();
        assert!(found.iter().all(IpAddr::is_loopback), "{found:?}");
    }

    #[tokio::test]
    async fn what_is_no_name_is_the_targets_fault() {
        for text in ["", "a..b", &"x".repeat(300), &format!("{}.example", "y".repeat(64))] {
            match Resolver::default().lookup(text).await {
                Err(Trouble::Reason(reason)) => {
                    assert_eq!(reason.code, ReasonCode::NameNotFound, "{text}");
                }
                other => panic!("{text:?} gave {other:?}"),
            }
        }
    }

    #[test]
    fn an_answer_without_records_and_no_answer_are_told_apart() {
        use hickory_resolver::net::{DnsError, NoRecords};
        use hickory_resolver::proto::op::{Query, ResponseCode};
        use hickory_resolver::proto::rr::RecordType;
        let query = Query::query(Name::from_ascii("x.example.").unwrap(), RecordType::A);
        for code in [ResponseCode::NXDomain, ResponseCode::NoError] {
            let error =
                NetError::from(DnsError::NoRecordsFound(NoRecords::new(query.clone(), code)));
            assert!(matches!(trouble("x.example", &error), Trouble::Reason(_)), "{code}");
        }
        for code in [ResponseCode::ServFail, ResponseCode::Refused] {
            let error = NetError::from(DnsError::ResponseCode(code));
            assert!(matches!(trouble("x.example", &error), Trouble::Fault(_)), "{code}");
        }
        assert!(matches!(trouble("x.example", &NetError::Timeout), Trouble::Fault(_)));
    }
}
