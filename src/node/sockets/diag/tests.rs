use std::net::{TcpListener, TcpStream, UdpSocket};

use super::*;
use crate::client::netlink::Protocol;
use crate::client::netlink::tests::mangled;

fn message(family: u8, local: &[u8], remote: &[u8], tail: &[u8]) -> Vec<u8> {
    let mut body = vec![family, 10, 0, 0];
    body.extend(7000u16.to_be_bytes());
    body.extend(40_000u16.to_be_bytes());
    for address in [local, remote] {
        body.extend(address);
        body.resize(body.len() + 16 - address.len(), 0);
    }
    body.extend([0; 16]);
    for number in [3u32, 128, 1000, 4711] {
        body.extend(number.to_ne_bytes());
    }
    assert_eq!(body.len(), MESSAGE);
    body.extend(tail);
    body
}

#[test]
fn a_socket_of_either_family() {
    let four = told(&message(AF_INET, &[10, 0, 0, 1], &[10, 0, 0, 2], &[])).unwrap();
    assert_eq!((four.local, four.port), (IpAddr::from([10, 0, 0, 1]), 7000));
    assert_eq!((four.remote, four.remote_port), (IpAddr::from([10, 0, 0, 2]), 40_000));
    assert_eq!((four.waiting, four.most, four.user, four.inode), (3, 128, 1000, 4711));
    assert_eq!(four.only_v6, None);

    let any = [0; 16];
    let only = [5, 0, 11, 0, 1, 0, 0, 0];
    let six = told(&message(AF_INET6, &any, &any, &only)).unwrap();
    assert_eq!((six.local, six.only_v6), (IpAddr::from([0u16; 8]), Some(true)));
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 10, 0, 0, 9];
    let six = told(&message(AF_INET6, &mapped, &mapped, &[])).unwrap();
    assert_eq!(six.remote, IpAddr::from([10, 0, 0, 9]));
    assert_eq!(told(&message(1, &any, &any, &[])), None, "a family that has no addresses");
}

#[test]
fn any_message_is_read_to_its_end() {
    let good = message(AF_INET6, &[1; 16], &[2; 16], &[5, 0, 11, 0, 1, 0, 0, 0]);
    mangled("sockets", &[good], |bytes| {
        let _ = told(bytes);
    });
}

fn asked(question: Question) -> Vec<Socket> {
    let mut found = Vec::new();
    Asker::new(Netlink::new(Protocol::SockDiag))
        .ask(question, |socket| found.push(socket))
        .unwrap();
    found
}

#[test]
fn the_kernel_tells_of_the_sockets_that_are_asked_for_and_of_no_others() {
    let (four, six) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("[::1]:0").unwrap());
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let stream = TcpStream::connect(four.local_addr().unwrap()).unwrap();
    let (listener, own) = (four.local_addr().unwrap(), stream.local_addr().unwrap());

    let listening = asked(Question::Listening);
    for address in [listener, six.local_addr().unwrap()] {
        let found: Vec<_> = listening
            .iter()
            .filter(|socket| (socket.local, socket.port) == (address.ip(), address.port()))
            .collect();
        assert_eq!(found.len(), 1, "{address}: {found:?}");
        assert_ne!(found[0].inode, 0);
    }
    let waiting = listening.iter().find(|socket| socket.port == listener.port()).unwrap();
    assert_eq!(waiting.waiting, 1);
    assert!(waiting.most >= 128, "{waiting:?}");
    assert!(listening.iter().all(|socket| socket.remote_port == 0));

    let bound = asked(Question::Bound);
    let udp = udp.local_addr().unwrap();
    assert!(bound.iter().any(|socket| (socket.local, socket.port) == (udp.ip(), udp.port())));

    let one = Question::From { first: own.port(), last: own.port() };
    let from = asked(one);
    let found = from.iter().find(|s| s.remote_port == listener.port()).unwrap();
    assert_eq!((found.local, found.port, found.remote), (own.ip(), own.port(), listener.ip()));
    assert!(from.iter().all(|socket| socket.port == own.port()), "{from:?}");
    let below = asked(Question::From { first: 1, last: own.port() - 1 });
    assert!(below.iter().all(|socket| socket.port < own.port()), "{below:?}");
    let above = asked(Question::From { first: own.port() + 1, last: u16::MAX });
    assert!(above.iter().all(|socket| socket.port > own.port()), "{above:?}");
}
