use std::cell::Cell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;

fn told(kind: u16, flags: u16, sequence: u32, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    write(&mut bytes, kind, sequence, body).unwrap();
    bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
    bytes.resize(aligned(bytes.len()), 0);
    bytes
}

/// The types and bodies of messages.
type Seen = Vec<(u16, Vec<u8>)>;

fn walked(parts: &[Vec<u8>]) -> (Result<bool, Trouble>, Seen, bool) {
    let mut walk = Walk { sequence: 7, changed: false };
    let mut seen = Vec::new();
    let mut outcome = Ok(false);
    for part in parts {
        outcome = walk.part(part, &mut |kind, body| seen.push((kind, body.to_vec())));
        if outcome != Ok(false) {
            break;
        }
    }
    (outcome, seen, walk.changed)
}

#[test]
fn an_answer_of_several_parts_ends_with_its_last_message() {
    let (outcome, seen, changed) = walked(&[
        [told(16, 2, 7, b"abc"), told(17, 2, 7, b"defg")].concat(),
        [told(16, 2, 7, b""), told(NLMSG_DONE, 2, 7, &0i32.to_ne_bytes())].concat(),
    ]);
    assert_eq!((outcome, changed), (Ok(true), false));
    assert_eq!(seen, [(16, b"abc".to_vec()), (17, b"defg".to_vec()), (16, Vec::new())]);
}

#[test]
fn what_the_kernel_says_of_a_question_it_can_not_answer() {
    let errno = |errno: Errno| (-(errno as i32)).to_ne_bytes();
    for kind in [NLMSG_ERROR, NLMSG_DONE] {
        let (outcome, ..) = walked(&[told(kind, 0, 7, &errno(Errno::EOPNOTSUPP))]);
        assert_eq!(outcome, Err(Trouble::Refused(Errno::EOPNOTSUPP)));
        assert!(Trouble::Refused(Errno::EOPNOTSUPP).is_lasting());
    }
    // Part of it was told, and then something changed.
    let (outcome, _, changed) = walked(&[
        told(16, 2 | NLM_F_DUMP_INTR, 7, b"abcd"),
        told(NLMSG_DONE, 2, 7, &0i32.to_ne_bytes()),
    ]);
    assert_eq!((outcome, changed), (Ok(true), true));
    // The answer to an earlier question is none to this one.
    let (outcome, seen, _) = walked(&[told(16, 2, 6, b"abcd")]);
    assert_eq!((outcome, seen.len()), (Ok(false), 0));
    let mut cut = told(16, 2, 7, b"abcdefgh");
    cut.truncate(20);
    assert_eq!(walked(&[cut]).0, Err(Trouble::Garbled));
}

/// Reads each good message whole, cut anywhere, and with bytes changed; then bytes of no meaning.
/// Says how many inputs it tried.
pub(crate) fn mangled(name: &str, good: &[Vec<u8>], read: impl Fn(&[u8])) {
    let tried = Cell::new(0u32);
    let read = |bytes: &[u8]| {
        tried.set(tried.get() + 1);
        read(bytes);
    };
    // A runner counts its cases over all that it runs.
    let runner = || TestRunner::new(Config::with_cases(2000));
    for good in good {
        for end in 0..=good.len() {
            read(&good[..end]);
        }
        let changes = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8);
        runner()
            .run(&changes, |changes| {
                let mut bytes = good.clone();
                for (index, byte) in changes {
                    let index = index.index(bytes.len());
                    bytes[index] = byte;
                }
                read(&bytes);
                Ok(())
            })
            .unwrap();
    }
    runner()
        .run(&prop::collection::vec(any::<u8>(), 0..400), |bytes| {
            read(&bytes);
            Ok(())
        })
        .unwrap();
    eprintln!("property {name}: {} inputs", tried.get());
}

#[test]
fn any_bytes_are_walked_to_their_end() {
    let good = [
        told(16, 2, 7, &[[8u8, 0, 1, 0, 9, 9, 9, 9], [5, 0, 2, 0, 7, 0, 0, 0]].concat()),
        told(NLMSG_DONE, 2, 7, &0i32.to_ne_bytes()),
    ]
    .concat();
    mangled("netlink", &[good], |bytes| {
        let mut read = 0;
        let mut walk = Walk { sequence: 7, changed: false };
        let _ = walk.part(bytes, &mut |_, body| {
            for (_, value) in attributes(body) {
                read += value.len();
            }
        });
        assert!(read <= bytes.len());
        assert!(attributes(bytes).count() <= bytes.len() / 4 + 1);
    });
}

#[test]
fn the_kernel_names_the_loopback() {
    // RTM_GETLINK with an empty struct ifinfomsg; IFLA_IFNAME is 3.
    let mut netlink = Netlink::new(Protocol::Route);
    for _ in 0..3 {
        let mut names = Vec::new();
        netlink
            .dump(18, &[0; 16], |_, body| {
                let of = attributes(&body[16..]).find(|(kind, _)| *kind == 3);
                names.push(String::from_utf8_lossy(of.unwrap().1).into_owned());
            })
            .unwrap();
        assert!(names.iter().any(|name| name == "lo\0"), "{names:?}");
    }
    // A question that does not exist is refused, and the next one is answered all the same.
    assert!(netlink.dump(0x3ff, &[0; 16], |_, _| {}).is_err());
    assert_eq!(netlink.dump(18, &[0; 16], |_, _| {}), Ok(()));
}
