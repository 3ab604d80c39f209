use super::*;
use crate::client::netlink::tests::mangled;

pub(in crate::node::links) fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend(kind.to_ne_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn link(index: u32, arphrd: u16, attributes: &[Vec<u8>]) -> Vec<u8> {
    let mut body = vec![0, 0];
    body.extend(arphrd.to_ne_bytes());
    body.extend(index.to_ne_bytes());
    body.resize(LINK_HEADER, 0);
    body.extend(attributes.concat());
    body
}

fn stats(index: u32) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(index.to_ne_bytes());
    body.extend(1u32.to_ne_bytes());
    let numbers: Vec<u8> = (100..125u64).flat_map(u64::to_ne_bytes).collect();
    body.extend(attribute(IFLA_STATS_LINK_64, &numbers));
    body
}

fn slave() -> Vec<u8> {
    let data = attribute(IFLA_BOND_SLAVE_MII_STATUS, &[3]);
    let info = [attribute(4, b"bond\0"), attribute(IFLA_INFO_SLAVE_DATA, &data)].concat();
    link(
        5,
        1,
        &[
            attribute(IFLA_IFNAME, b"eth1\0"),
            attribute(IFLA_MTU, &9000u32.to_ne_bytes()),
            attribute(IFLA_MASTER, &9u32.to_ne_bytes()),
            attribute(IFLA_OPERSTATE, &[IF_OPER_UP]),
            attribute(IFLA_CARRIER, &[1]),
            attribute(IFLA_CARRIER_CHANGES, &4u32.to_ne_bytes()),
            attribute(IFLA_LINKINFO | 0x8000, &info),
        ],
    )
}

#[test]
fn an_interface_and_its_counters() {
    let found = told(&slave()).unwrap();
    assert_eq!(found.name.bytes(), b"eth1");
    assert_eq!((found.index, found.make, found.master), (5, Make::Device, Some(9)));
    assert_eq!((found.mtu, found.carrier_changes), (Some(9000), Some(4)));
    assert_eq!((found.up, found.carrier, found.slave_up), (Some(true), Some(true), Some(false)));

    let (index, counters) = counted(&stats(5)).unwrap();
    assert_eq!(index, 5);
    let [receive, transmit] = counters.directions;
    assert_eq!([receive.packets, transmit.packets], [100, 101]);
    assert_eq!([receive.bytes, transmit.bytes], [102, 103]);
    assert_eq!([receive.errors, transmit.errors], [104, 105]);
    // Those missed (115) are among the dropped, as in /proc/net/dev.
    assert_eq!([receive.drops, transmit.drops], [106 + 115, 107]);
    assert_eq!([counters.missed, counters.crc, counters.frame], [115, 112, 113]);
    assert_eq!(counters.fifo, 114 + 118);

    let lo = link(1, ARPHRD_LOOPBACK, &[attribute(IFLA_IFNAME, b"lo\0")]);
    assert_eq!(told(&lo).unwrap().make, Make::Other);
    let kind = |kind: &[u8]| {
        let info = attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, kind));
        told(&link(1, 1, &[attribute(IFLA_IFNAME, b"x\0"), info])).unwrap().make
    };
    assert_eq!(kind(b"veth\0"), Make::Veth);
    assert_eq!(kind(b"bond\0"), Make::Bond);
    assert_eq!(kind(b"bridge\0"), Make::Other);
    for name in [&b""[..], b"\0", b"a-name-that-is-too-long\0"] {
        assert_eq!(told(&link(1, 1, &[attribute(IFLA_IFNAME, name)])), None, "{name:?}");
    }
}

#[test]
fn any_message_is_read_to_its_end() {
    mangled("rtnetlink", &[slave(), stats(7)], |bytes| {
        if let Some(link) = told(bytes) {
            assert!(!link.name.bytes().is_empty());
        }
        let _ = counted(bytes);
    });
}

#[test]
fn two_lists_of_different_interfaces_are_not_joined() {
    let mut asker = Asker::new();
    let told = |index| Told { index, ..Told::default() };
    let counters = Counters { missed: 7, ..Counters::default() };
    asker.links = vec![told(1), told(2)];
    asker.counted = vec![(2, counters), (1, Counters::default())];
    assert!(asker.joined());
    assert_eq!(asker.links.iter().map(|link| link.counters.missed).collect::<Vec<_>>(), [0, 7]);
    asker.counted = vec![(2, counters), (3, counters)];
    assert!(!asker.joined());
    asker.counted = vec![(1, counters)];
    assert!(!asker.joined());
}

/// The node's second waits for this cell, so it is part of it.
#[test]
fn asking_allocates_nothing_once_the_interfaces_are_known() {
    let line = Line::new(&Cells::new());
    (line.work)();
    let answer = line.exchange.answer();
    assert_eq!((answer.outcome, answer.links.is_empty()), (None, false));
    drop(answer);
    // Interfaces may come and go besides.
    let mut counts = Vec::new();
    for _ in 0..20 {
        counts.push(allocation_counter::measure(|| (line.work)()).count_total);
    }
    assert!(counts.iter().filter(|count| **count == 0).count() >= 10, "{counts:?}");
}
