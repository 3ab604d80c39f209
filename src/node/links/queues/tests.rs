use super::*;
use crate::client::netlink::Protocol;
use crate::client::netlink::tests::mangled;
use crate::node::links::rtnl::tests::attribute;

fn message(interface: u32, parent: u32, kind: &[u8], figures: [u32; 5]) -> Vec<u8> {
    let mut body = vec![0; 4];
    body.extend(interface.to_ne_bytes());
    body.extend(0x8001_0000u32.to_ne_bytes());
    body.extend(parent.to_ne_bytes());
    body.extend(2u32.to_ne_bytes());
    let figures: Vec<u8> = figures.iter().flat_map(|figure| figure.to_ne_bytes()).collect();
    let basic = attribute(1, &[7; 16]);
    let statistics = [basic, attribute(TCA_STATS_QUEUE, &figures)].concat();
    body.extend(attribute(TCA_KIND, kind));
    body.extend(attribute(2, &[0; 12]));
    body.extend(attribute(TCA_STATS2 | 0x8000, &statistics));
    body
}

#[test]
fn what_a_queue_holds_and_has_dropped() {
    let tbf = message(7, TC_H_ROOT, b"tbf\0", [3, 4542, 11, 2, 90]);
    let queue = Queue { packets: 3, bytes: 4542, drops: 11, overlimits: 90 };
    assert_eq!(told(&tbf), Some((7, queue)));
    // A class' queue is in its root's figures; nothing waits where there is none; and what is
    // received does not wait here.
    for (parent, kind) in
        [(0x8001_0001, &b"tbf\0"[..]), (TC_H_ROOT, b"noqueue\0"), (0xffff_fff1, b"ingress\0")]
    {
        assert_eq!(told(&message(7, parent, kind, [1; 5])), None);
    }
}

#[test]
fn any_message_is_read_to_its_end() {
    let good = message(7, TC_H_ROOT, b"fq_codel\0", [3, 4542, 11, 2, 90]);
    mangled("queues", &[good], |bytes| {
        let _ = told(bytes);
    });
}

#[test]
fn this_kernel_tells_of_its_queues() {
    let mut queues = Vec::new();
    list(&mut Netlink::new(Protocol::Route), &mut queues).unwrap();
    let mut interfaces: Vec<u32> = queues.iter().map(|(interface, _)| *interface).collect();
    interfaces.sort_unstable();
    interfaces.dedup();
    assert_eq!(interfaces.len(), queues.len(), "an interface has one root");
}
