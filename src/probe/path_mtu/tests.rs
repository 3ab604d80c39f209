use std::cell::Cell;
use std::net::Ipv6Addr;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::client::Clients;
use crate::outcome::Outcome as Came;

/// What a made-up path does with a packet that is too big for it.
#[derive(Clone, Copy, Debug)]
enum Router {
    Honest,
    Swallows,
    LeavesOut,
    Lies(u32),
}

/// Runs a search against a made-up path; the sizes that were tried.
fn drive(search: &mut Search, mtu: u32, router: Router, bisect: bool) -> Vec<u32> {
    let mut tried = Vec::new();
    while let Some(size) = search.next(bisect) {
        tried.push(size);
        if size <= mtu {
            search.passed(size);
        } else {
            search.failed(
                size,
                match router {
                    Router::Honest => Some(mtu),
                    Router::Swallows | Router::LeavesOut => None,
                    Router::Lies(said) => Some(said),
                },
            );
        }
    }
    tried
}

#[test]
fn a_router_that_says_what_it_takes_is_asked_once_and_checked_once() {
    let mut search = Search::new(68, 9000, Some(1400));
    assert_eq!(drive(&mut search, 1400, Router::Honest, true), [1400, 1401]);
    assert_eq!((search.passes, search.is_exact()), (1400, true));
    assert_eq!(search.words(), "1400 bytes");
    // Two routers, each smaller than the one before.
    let mut search = Search::new(68, 9000, Some(8950));
    assert_eq!(drive(&mut search, 1400, Router::Honest, true), [8950, 1400, 1401]);
}

#[test]
fn without_bisecting_the_answer_is_a_lower_bound() {
    let mut search = Search::new(68, 1500, None);
    assert!(drive(&mut search, 1400, Router::Swallows, false).is_empty());
    assert_eq!(search.words(), "at least 68 bytes");
}

#[test]
fn property_search() {
    let inputs = Cell::new(0u32);
    let mut runner =
        TestRunner::new(Config { cases: 8192, failure_persistence: None, ..Config::default() });
    let router = prop_oneof![
        Just(Router::Honest),
        Just(Router::Swallows),
        Just(Router::LeavesOut),
        any::<u32>().prop_map(Router::Lies),
        (0u32..70_000).prop_map(Router::Lies),
    ];
    let sizes = (68u32..=65_535).prop_flat_map(|fails| (Just(fails), 68u32..=fails));
    let hint = prop_oneof![Just(None), any::<u32>().prop_map(Some), (0u32..9216).prop_map(Some)];
    runner
        .run(&(sizes, router, hint, any::<bool>()), |((fails, mtu), router, hint, bisect)| {
            inputs.set(inputs.get() + 1);
            let mtu = mtu.min(fails - 1).max(68.min(fails));
            let mut search = Search::new(68.min(mtu), fails, hint);
            let tried = drive(&mut search, mtu, router, bisect);
            prop_assert!(tried.len() <= SEARCH_LIMIT as usize);
            prop_assert!(tried.iter().all(|size| *size > 68 && *size < fails), "{:?}", tried);
            // Whatever routers say: what is reported has passed.
            prop_assert!(search.passes <= mtu || fails <= 68);
            // And bisecting finds the limit up to jumbo frames.
            if bisect && fails <= 9216 && matches!(router, Router::Swallows) && hint.is_none() {
                prop_assert_eq!(search.passes, mtu);
                prop_assert!(search.is_exact());
            }
            if matches!(router, Router::Honest) && bisect && hint == Some(mtu) {
                prop_assert_eq!(search.passes, mtu);
            }
            Ok(())
        })
        .unwrap();
    eprintln!("property search: {} inputs", inputs.get());
}

async fn attempt(spec: Spec, target: &str) -> Reading {
    let target: Arc<str> = target.into();
    let (clients, trace) = (Clients::default(), Trace::off());
    let on =
        Attempt { target: &target, timeout: PathMtu::TIMEOUT, clients: &clients, trace: &trace };
    PathMtu::new(spec).unwrap().attempt(on).await
}

fn expecting(expect: u32, exact: bool) -> Spec {
    Spec { expect, exact, port: None }
}

/// Loopback's MTU is 65536: the largest packet there is passes.
#[tokio::test]
async fn loopback_carries_everything() {
    for to in [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()] {
        let to = to.to_string();
        for expect in [68, 88, 1500, 9000, 65_534, 65_535] {
            let reading = attempt(expecting(expect, false), &to).await;
            assert_eq!(reading.outcome, Came::Success, "{expect} to {to}");
            assert_eq!(reading.samples[0].value, 65_535.0, "{expect} to {to}");
        }
        let exact = attempt(expecting(1500, true), &to).await;
        assert_eq!(exact.outcome.why().unwrap().0, "mtu_too_large", "{:?}", exact.outcome);
        let exact = attempt(expecting(65_535, true), &to).await;
        assert_eq!(exact.outcome, Came::Success, "nothing is larger");
    }
}

/// Nobody listens on the port: the answer to that is proof enough.
#[tokio::test]
async fn a_closed_port_is_an_answer() {
    let closed = {
        let holder = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        holder.local_addr().unwrap().port()
    };
    let spec = Spec { port: Some(closed), ..expecting(1500, false) };
    let reading = attempt(spec, "127.0.0.1").await;
    assert_eq!(reading.outcome, Came::Success);
}

#[test]
fn specs_and_targets_have_limits() {
    assert!(PathMtu::new(expecting(67, false)).is_err());
    assert!(PathMtu::new(expecting(65_536, false)).is_err());
    assert!(PathMtu::new(Spec { port: Some(0), ..expecting(1500, false) }).is_err());
    let probe = PathMtu::new(expecting(1500, false)).unwrap();
    assert_eq!(Probe::target(&probe, "10.0.0.1"), Ok(()));
    assert!(Probe::target(&probe, "10.0.0.1:80").is_err());
    let effects = Probe::effects(&probe, "10.0.0.1");
    assert!(effects[0].what.contains("ICMP echo requests"), "{effects:?}");
    assert!(effects[0].needs.as_ref().unwrap().contains("net.ipv4.ping_group_range"));
    let udp = PathMtu::new(Spec { port: Some(7), ..expecting(1500, false) }).unwrap();
    assert_eq!(Probe::effects(&udp, "10.0.0.1")[0].needs, None);
}
