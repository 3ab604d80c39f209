use std::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::node::tests::{exported, tree};
use crate::node::{Frame, Sampler, Signal};
use crate::time::Now;

fn now() -> Now {
    Now { mono: Mono::now(), ..Now::default() }
}

/// A listener on a port that the kernel does not give away itself.
pub(in crate::node) fn listener() -> TcpListener {
    (20_000..32_000).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).unwrap()
}

fn sampler(paths: &Paths) -> Sampler {
    let (sockets, cells) = (Sockets::new(paths), Cells::new());
    Sampler::with(vec![Box::new(Source::new(paths, &cells, &sockets))], &cells)
}

const WAITING: &str = "greenlight_node_listener_queue_connections";

#[test]
fn what_waits_at_a_listener_of_this_node() {
    let mut sampler = sampler(&Paths::default());
    let mut frame = Frame::default();
    let listener = listener();
    let address = listener.local_addr().unwrap();
    let label = address.to_string();
    sampler.sample(now(), &mut frame);
    assert_eq!(exported(&frame, WAITING, &[&label]), Some(0.0), "it is there at once");
    let _streams = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
    let until = |frame: &mut Frame, sampler: &mut Sampler, waiting: Option<f64>| {
        let began = std::time::Instant::now();
        while exported(frame, WAITING, &[&label]) != waiting {
            assert!(began.elapsed() < Duration::from_secs(60), "never {waiting:?}");
            std::thread::sleep(Duration::from_millis(50));
            sampler.sample(now(), frame);
        }
    };
    until(&mut frame, &mut sampler, Some(2.0));
    let most = exported(&frame, "greenlight_node_listener_queue_limit", &[&label]).unwrap();
    let fullest = frame.find("node.listen.queue", None);
    assert!(
        matches!(fullest, Some(Signal::Number(fill)) if fill >= 2.0 / (most + 1.0) && fill <= 1.0),
        "{fullest:?} of {most}"
    );
    let used = exported(&frame, "greenlight_node_local_ports_used", &[]).unwrap();
    let limit = exported(&frame, "greenlight_node_local_ports_limit", &[]).unwrap();
    let share = frame.find("node.ports.used", None);
    assert_eq!(share, Some(Signal::Number((used / limit).min(1.0))));
    drop(listener);
    until(&mut frame, &mut sampler, None);
}

#[test]
fn a_queue_is_full_with_one_more_than_its_limit() {
    let address = SocketAddr::from(([127, 0, 0, 1], 80));
    let fill = |waiting, most| Queue { address, waiting, most }.fill();
    assert_eq!([fill(0, 0), fill(1, 0), fill(5, 4)], [0.0, 1.0, 1.0]);
    assert!(fill(4, 4) < 1.0);
}

#[test]
fn a_recorded_node_has_no_sockets() {
    let paths = tree("idle");
    assert!(!can_be_asked(&paths));
    assert!(can_be_asked(&Paths::default()));
    let mut frame = Frame::default();
    sampler(&paths).sample(now(), &mut frame);
    for series in ["node.listen.queue", "node.ports.used"] {
        let found = frame.find(series, None);
        let Some(Signal::Absent(fault)) = found else { panic!("{series} is {found:?}") };
        assert_eq!(fault.code, FaultCode::Unsupported, "{series}");
    }
    assert!(Sockets::new(&paths).listing(now()).is_err());
}

#[test]
fn owners_are_looked_for_where_other_sockets_listen() {
    let sockets = Sockets::new(&Paths::default());
    let first = listener();
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let own = |listing: &Listing, address: SocketAddr, protocol: &str| {
        let row = listing.listeners.iter().find(|row| {
            (row.protocol, row.port) == (protocol, address.port())
                && row.address == address.ip().to_string()
        })?;
        let owner = row.owners.iter().find(|owner| owner.pid == std::process::id());
        assert_eq!(row.reason, None, "{row:?}");
        Some(owner.unwrap_or_else(|| panic!("not ours: {row:?}")).name.clone())
    };
    let began = now();
    let listing = sockets.listing(began).unwrap();
    let name = own(&listing, first.local_addr().unwrap(), "tcp").unwrap();
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!(name, comm.trim());
    assert!(own(&listing, datagrams.local_addr().unwrap(), "udp").is_some());

    let second = listener();
    let address = second.local_addr().unwrap();
    // Who asks again at once gets the same answer; a little later it is a new one.
    assert_eq!(sockets.listing(began).unwrap(), listing);
    let later = Now { mono: began.mono.plus(Duration::from_secs(2)), ..began };
    assert!(own(&sockets.listing(later).unwrap(), address, "tcp").is_some());
}
