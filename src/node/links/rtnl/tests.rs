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
    body.extend(IFF_UP.to_ne_bytes());
    body.resize(HEADER, 0);
    body.extend(attributes.concat());
    body
}

fn stats() -> Vec<u8> {
    let numbers: Vec<u8> = (100..125u64).flat_map(u64::to_ne_bytes).collect();
    attribute(IFLA_STATS64, &numbers)
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
            stats(),
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

    let Counters { missed, crc, frame, fifo } = found.counters.unwrap();
    assert_eq!((missed, crc, frame, fifo), (115, 112, 113, 114 + 118));

    let lo = link(1, ARPHRD_LOOPBACK, &[attribute(IFLA_IFNAME, b"lo\0")]);
    assert_eq!(told(&lo).unwrap().make, Make::Other);
    let kind = |kind: &[u8]| {
        let info = attribute(IFLA_LINKINFO, &attribute(IFLA_INFO_KIND, kind));
        told(&link(1, 1, &[attribute(IFLA_IFNAME, b"x\0"), info])).unwrap().make
    };
    assert_eq!(kind(b"veth\0"), Make::Veth);
    assert_eq!(kind(b"bond\0"), Make::Bond);
    assert_eq!(kind(b"bridge\0"), Make::Other);
    assert_eq!(kind(b"ipoib\0"), Make::Device);

    // The kernel tells a carrier of an interface that is switched off; sysfs refuses to.
    let mut off = slave();
    off[8..12].fill(0);
    assert_eq!(told(&off).unwrap().carrier, None);
    assert!(!found.reaches_out);
    let peer = attribute(IFLA_LINK_NETNSID, &0u32.to_ne_bytes());
    let end = link(1, 1, &[attribute(IFLA_IFNAME, b"x\0"), peer]);
    assert!(told(&end).unwrap().reaches_out);
    for name in [&b""[..], b"\0", b"a-name-that-is-too-long\0"] {
        assert_eq!(told(&link(1, 1, &[attribute(IFLA_IFNAME, name)])), None, "{name:?}");
    }
}

#[test]
fn any_message_is_read_to_its_end() {
    mangled("rtnetlink", &[slave(), link(7, 1, &[stats()])], |bytes| {
        if let Some(link) = told(bytes) {
            assert!(!link.name.bytes().is_empty());
        }
    });
}

#[test]
fn asking_allocates_nothing_once_the_interfaces_are_known() {
    let line = Line::new(&Cells::new());
    (line.work)();
    let answer = line.exchange.answer();
    assert_eq!((answer.trouble, answer.links.is_empty()), (None, false));
    drop(answer);
    // Interfaces may come and go besides.
    let mut counts = Vec::new();
    for _ in 0..20 {
        counts.push(allocation_counter::measure(|| (line.work)()).count_total);
    }
    assert!(counts.iter().filter(|count| **count == 0).count() >= 10, "{counts:?}");
}
