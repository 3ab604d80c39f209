//! /proc/net/snmp, netstat and snmp6: what IP, TCP and UDP count (RFC 1213 and Linux's own).

use std::sync::Arc;

use super::text::{KernelFile, fields, lines, number};
use super::{Paths, Sink, Slot, Step, Tick, network_folder};
use crate::catalogue::node as metric;
use crate::outcome::Fault;
use crate::time::Mono;

/// Fewer segments than this in a second are no base for a share of them.
const SEGMENTS_LEAST: f64 = 100.0;

/// The same for connections.
const OPENS_LEAST: f64 = 10.0;

/// A counter by the name of its line and its own.
type Wanted = (&'static [u8], &'static [u8]);

const SNMP: [Wanted; 9] = [
    (b"Tcp:", b"OutSegs"),
    (b"Tcp:", b"RetransSegs"),
    (b"Tcp:", b"ActiveOpens"),
    (b"Tcp:", b"PassiveOpens"),
    (b"Ip:", b"FragFails"),
    (b"Ip:", b"ReasmFails"),
    (b"Udp:", b"RcvbufErrors"),
    (b"Udp:", b"SndbufErrors"),
    // The same as type 3 of IcmpMsg, which has no line before the first of them.
    (b"Icmp:", b"InDestUnreachs"),
];

const NETSTAT: [Wanted; 6] = [
    (b"TcpExt:", b"ListenOverflows"),
    (b"TcpExt:", b"ListenDrops"),
    (b"TcpExt:", b"TCPReqQFullDrop"),
    (b"TcpExt:", b"TCPTimeouts"),
    (b"TcpExt:", b"TCPSynRetrans"),
    (b"TcpExt:", b"TCPMTUPFail"),
];

/// IPv6 has a line for each counter, with the protocol in its name.
const SNMP6: [&[u8]; 6] = [
    b"Ip6FragFails",
    b"Ip6ReasmFails",
    b"Udp6RcvbufErrors",
    b"Udp6SndbufErrors",
    b"Icmp6InDestUnreachs",
    b"Icmp6InPktTooBigs",
];

/// Pairs of lines, names over values. Names are long, and the same for as long as the kernel runs: where the
/// wanted ones stand in each pair of lines is found once.
struct Paired<const N: usize> {
    wanted: &'static [Wanted; N],
    columns: Vec<Columns>,
}

/// A line of names, and which of them are wanted: the column of each, in order, and its place.
#[derive(Default)]
struct Columns {
    names: Vec<u8>,
    wanted: Vec<(usize, usize)>,
}

/// Pairs of lines that are remembered; the kernel has no more than a dozen.
const PAIRS_LIMIT: usize = 32;

impl<const N: usize> Paired<N> {
    fn new(wanted: &'static [Wanted; N]) -> Self {
        Self { wanted, columns: Vec::new() }
    }

    /// None where none of the counters is there, or values stand under another title than theirs.
    fn read(&mut self, text: &[u8]) -> Option<[Option<u64>; N]> {
        let mut found = [None; N];
        let mut lines = lines(text);
        let mut pair = 0;
        while let (Some(names), Some(values)) = (lines.next(), lines.next()) {
            if pair == PAIRS_LIMIT {
                break;
            }
            if pair == self.columns.len() {
                self.columns.push(Columns::default());
            }
            let columns = self.columns.get_mut(pair)?;
            if columns.names != names {
                columns.learn(names, self.wanted);
            }
            pair += 1;
            columns.take(values, &mut found)?;
        }
        found.iter().any(Option::is_some).then_some(found)
    }
}

impl Columns {
    fn learn(&mut self, names: &[u8], wanted: &[Wanted]) {
        self.names.clear();
        self.names.extend_from_slice(names);
        self.wanted.clear();
        let mut words = fields(names);
        let title = words.next();
        for (column, name) in words.enumerate() {
            let is = |(of, counter): &Wanted| *counter == name && Some(*of) == title;
            self.wanted.extend(wanted.iter().position(is).map(|place| (column, place)));
        }
    }

    /// Takes what is wanted of the values; None where they are under another title.
    fn take(&self, values: &[u8], found: &mut [Option<u64>]) -> Option<()> {
        let (mut names, mut values) = (fields(&self.names), fields(values));
        let Some(title) = names.next() else { return Some(()) };
        if values.next() != Some(title) {
            return None;
        }
        let mut passed = 0;
        for (column, place) in &self.wanted {
            let Some(value) = values.nth(column - passed) else { break };
            passed = column + 1;
            if let Some(place) = found.get_mut(*place) {
                *place = number(value);
            }
        }
        Some(())
    }
}

/// A name and a value on each line.
fn listed<const N: usize>(text: &[u8], wanted: &[&[u8]; N]) -> Option<[Option<u64>; N]> {
    let mut found = [None; N];
    for line in lines(text) {
        let mut words = fields(line);
        let (Some(name), Some(value)) = (words.next(), words.next()) else { continue };
        for (place, counter) in found.iter_mut().zip(wanted) {
            if *counter == name {
                *place = number(value);
            }
        }
    }
    found.iter().any(Option::is_some).then_some(found)
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Reading {
    snmp: [Option<u64>; 9],
    netstat: [Option<u64>; 6],
}

/// Two readings, one after the other.
struct Two {
    now: Reading,
    before: Reading,
    at: Option<Mono>,
    step: Step,
}

impl Two {
    fn none() -> Self {
        let (now, before) = (Reading::default(), Reading::default());
        Self { now, before, at: None, step: Step::between(None, Mono::default()) }
    }

    fn take(&mut self, now: Reading, at: Mono) {
        self.before = std::mem::replace(&mut self.now, now);
        self.step = Step::between(self.at.replace(at), at);
    }

    /// A reading that failed leaves no growth: None is not 0.
    fn growth(&self, of: impl Fn(&Reading) -> Option<u64>) -> Slot {
        self.step.rate(of(&self.before), of(&self.now))
    }
}

pub(super) struct Source {
    snmp: KernelFile,
    snmp_pairs: Paired<{ SNMP.len() }>,
    netstat: KernelFile,
    netstat_pairs: Paired<{ NETSTAT.len() }>,
    /// Not there where IPv6 is switched off, which is no fault.
    snmp6: KernelFile,
    directions: [Arc<str>; 2],
    two: Two,
    six: [Option<u64>; 6],
    six_there: bool,
}

impl Source {
    pub(super) fn new(paths: &Paths) -> Self {
        let folder = network_folder(paths);
        let file = |name: &str| KernelFile::at_once(folder.join(name));
        Self {
            snmp: file("snmp"),
            snmp_pairs: Paired::new(&SNMP),
            netstat: file("netstat"),
            netstat_pairs: Paired::new(&NETSTAT),
            snmp6: file("snmp6"),
            directions: ["active", "passive"].map(Arc::from),
            two: Two::none(),
            six: [None; 6],
            six_there: false,
        }
    }
}

/// The growth of one counter as a share of another's, of `least` where that grew by less.
fn share(of: Slot, base: Slot, step: Step, least: f64) -> Slot {
    match (of, base, step.seconds) {
        (Slot::Number(of), Slot::Number(base), Some(seconds)) => {
            Slot::Number(of / base.max(least / seconds.max(1.0)))
        }
        (slot @ (Slot::Nothing | Slot::Absent(_)), ..) | (_, slot, _) => slot,
    }
}

impl super::Source for Source {
    fn read(&mut self, tick: &mut Tick) -> bool {
        let mut now = Reading::default();
        if let Some(text) = self.snmp.read(&mut tick.buffer) {
            match self.snmp_pairs.read(text) {
                Some(found) => now.snmp = found,
                None => self.snmp.garbled("does not hold pairs of names and values"),
            }
        }
        if let Some(text) = self.netstat.read(&mut tick.buffer) {
            match self.netstat_pairs.read(text) {
                Some(found) => now.netstat = found,
                None => self.netstat.garbled("does not hold pairs of names and values"),
            }
        }
        self.two.take(now, tick.at);
        self.six = [None; 6];
        self.six_there = true;
        match self.snmp6.read(&mut tick.buffer).map(|text| listed(text, &SNMP6)) {
            Some(Some(found)) => self.six = found,
            Some(None) => self.snmp6.garbled("holds none of the counters that are looked for"),
            None => self.six_there = !self.snmp6.missing(),
        }
        false
    }

    fn put(&self, sink: &mut Sink<'_>) {
        let Reading { snmp: counted, netstat: extended } = self.two.now;
        let [segments, again, active, passive, fragments, reassembly, received, sent, undelivered] =
            counted;
        let [overflows, drops, full, timeouts, syn, probes] = extended;
        let (snmp, netstat) = (self.snmp.fault(), self.netstat.fault());
        let sum = |a: Option<u64>, b: Option<u64>| Some(a?.saturating_add(b?));
        let segments_of = |reading: &Reading| reading.snmp[0];
        let opens_of = |reading: &Reading| sum(reading.snmp[2], reading.snmp[3]);

        sink.under(snmp);
        sink.put(&metric::TCP_SEGMENTS, &[], Slot::of(segments));
        sink.put(&metric::TCP_RETRANSMITTED, &[], Slot::of(again));
        let two = &self.two;
        let sending = two.growth(segments_of);
        let retransmits = share(two.growth(|r| r.snmp[1]), sending, two.step, SEGMENTS_LEAST);
        sink.put(&metric::TCP_RETRANSMITS, &[], retransmits);
        for (direction, opens) in self.directions.iter().zip([active, passive]) {
            sink.put(&metric::TCP_OPENS, &[direction], Slot::of(opens));
        }

        sink.under(netstat.or(snmp));
        let syns = share(two.growth(|r| r.netstat[4]), two.growth(opens_of), two.step, OPENS_LEAST);
        sink.put(&metric::TCP_SYN_RETRANSMITS, &[], syns);
        let timing = share(two.growth(|r| r.netstat[3]), sending, two.step, SEGMENTS_LEAST);
        sink.put(&metric::TCP_TIMEOUT_RATIO, &[], timing);

        sink.under(netstat);
        sink.put(&metric::TCP_SYN_RETRANSMITTED, &[], Slot::of(syn));
        sink.put(&metric::TCP_TIMEOUTS, &[], Slot::of(timeouts));
        sink.put(&metric::LISTEN_OVERFLOWS, &[], Slot::of(overflows));
        sink.put(&metric::LISTEN_DROPS, &[], Slot::of(drops));
        sink.put(&metric::REQUEST_QUEUE_FULL, &[], Slot::of(full));
        sink.put(&metric::MTU_PROBE_FAILURES, &[], Slot::of(probes));

        let six: Option<&Arc<Fault>> = self.snmp6.fault().filter(|_| self.six_there);
        sink.under(snmp.or(six));
        let both = |four: Option<u64>, place: usize| match self.six_there {
            true => sum(four, self.six.get(place).copied().flatten()),
            false => four,
        };
        sink.put(&metric::FRAGMENT_FAILURES, &[], Slot::of(both(fragments, 0)));
        sink.put(&metric::REASSEMBLY_FAILURES, &[], Slot::of(both(reassembly, 1)));
        sink.put(&metric::UDP_RECEIVE_LOSS, &[], Slot::of(both(received, 2)));
        sink.put(&metric::UDP_SEND_LOSS, &[], Slot::of(both(sent, 3)));
        // IPv6 has a type of its own for what is too large.
        sink.put(&metric::UNDELIVERED, &[], Slot::of(both(both(undelivered, 4), 5)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::Cells;
    use crate::node::tests::{Copy, exported, fixture, mangled, sample};
    use crate::node::{Frame, Sampler};

    fn paired<const N: usize>(
        text: &[u8],
        wanted: &'static [Wanted; N],
    ) -> Option<[Option<u64>; N]> {
        Paired::new(wanted).read(text)
    }

    #[test]
    fn names_that_move_are_found_again() {
        let mut pairs = Paired::new(&NETSTAT);
        let mut read = |text: &str| pairs.read(text.as_bytes()).map(|found| [found[0], found[3]]);
        let text = "TcpExt: A ListenOverflows TCPTimeouts\nTcpExt: 1 2 3\n";
        assert_eq!(read(text), Some([Some(2), Some(3)]));
        assert_eq!(read(&text.replace(" 2", " 5")), Some([Some(5), Some(3)]));
        let moved =
            "IpExt: ListenOverflows\nIpExt: 7\nTcpExt: TCPTimeouts ListenOverflows\nTcpExt: 8 9\n";
        assert_eq!(read(moved), Some([Some(9), Some(8)]));
        assert_eq!(read("TcpExt: TCPTimeouts ListenOverflows\nTcpExt: 8\n"), Some([None, Some(8)]));
        assert_eq!(read("TcpExt: TCPTimeouts\nIpExt: 8\n"), None);
        assert_eq!(read(text), Some([Some(2), Some(3)]));
        let many = "A: B\nA: 1\n".repeat(PAIRS_LIMIT + 9);
        assert_eq!(read(&(many + text)), None);
        assert_eq!(pairs.columns.len(), PAIRS_LIMIT);
    }

    #[test]
    fn names_stand_over_their_values() {
        let text = b"Ip: Forwarding ReasmFails FragFails\nIp: 1 5 6\n\
            Tcp: MaxConn ActiveOpens PassiveOpens OutSegs RetransSegs\nTcp: -1 11 12 2000 20\n\
            Udp: RcvbufErrors SndbufErrors\nUdp: 7 8\n\
            Icmp: InMsgs InDestUnreachs\nIcmp: 30 9\n";
        let found = paired(text, &SNMP);
        assert_eq!(found, Some([2000, 20, 11, 12, 6, 5, 7, 8, 9].map(Some)));
        // An old kernel has fewer; what is cut off is not there.
        let found = paired(b"Tcp: OutSegs RetransSegs\nTcp: 9 1\nUdp: RcvbufErrors\nUdp: 4", &SNMP);
        assert_eq!(found, Some([Some(9), Some(1), None, None, None, None, None, None, None]));
        for text in ["", "Tcp: OutSegs\nUdp: 4\n", "Tcp: OutSegs\n", "x\ny\n"] {
            assert_eq!(paired(text.as_bytes(), &SNMP), None, "{text:?}");
        }
        let six = listed(b"Ip6FragFails  \t3\nUdp6RcvbufErrors 4\nIp6ReasmFails x\n", &SNMP6);
        assert_eq!(six, Some([Some(3), None, Some(4), None, None, None]));
    }

    #[test]
    fn what_was_not_delivered_is_counted_for_both_families() {
        let copy = Copy::of("idle");
        let mut frame = Frame::default();
        sample(&mut Sampler::new(&copy.paths(), &Cells::new()), 0, &mut frame);
        let told = exported(&frame, "greenlight_node_icmp_unreachable_total", &[]);
        assert_eq!(told, Some(21.0 + 5.0));
    }

    #[test]
    fn any_text_is_read_to_its_end() {
        for (name, file) in [("snmp", "snmp"), ("netstat", "netstat"), ("snmp6", "snmp6")] {
            let good = fixture(&format!("idle/proc/net/{file}"));
            let pairs = std::cell::RefCell::new((Paired::new(&SNMP), Paired::new(&NETSTAT)));
            mangled(name, &good, |text| {
                let mut pairs = pairs.borrow_mut();
                assert_eq!(
                    pairs.0.read(text),
                    paired(text, &SNMP),
                    "what was read before says nothing"
                );
                assert_eq!(
                    pairs.1.read(text),
                    paired(text, &NETSTAT),
                    "what was read before says nothing"
                );
                let _ = listed(text, &SNMP6);
            });
        }
        let good = fixture("idle/proc/net/netstat");
        assert!(paired(&good, &NETSTAT).unwrap().iter().all(Option::is_some));
        let good = fixture("idle/proc/net/snmp");
        assert!(paired(&good, &SNMP).unwrap().iter().all(Option::is_some));
    }

    #[test]
    fn few_segments_are_no_base() {
        let step = Step { seconds: Some(1.0) };
        let of =
            |again: f64, sent: f64| share(Slot::Number(again), Slot::Number(sent), step, 100.0);
        assert_eq!(of(1.0, 2.0), Slot::Number(0.01));
        assert_eq!(of(0.0, 0.0), Slot::Number(0.0));
        assert_eq!(of(50.0, 1000.0), Slot::Number(0.05));
        assert_eq!(share(Slot::RESET, Slot::Number(1.0), step, 100.0), Slot::RESET);
        assert_eq!(share(Slot::Number(1.0), Slot::MISSING, step, 100.0), Slot::MISSING);
    }
}
