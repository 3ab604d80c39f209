//! Files on this node, and the journal's socket.

use std::fs;
use std::io::{IoSliceMut, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use greenlight::journey::event::Format;
use greenlight::send::file::File;
use greenlight::send::journald::Journald;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixAddr, recvmsg};
use serde_json::{Value, json};

use super::{TIMEOUT, all, events, path, sent, until, word};
use crate::peers::{Process, folder, run};

#[tokio::test]
async fn senders_file_appends_whole_lines_and_rotates_without_losing_one() {
    let folder = folder("file");
    for how in ["rename", "copytruncate"] {
        let file = folder.join(format!("{how}.log"));
        let old = |number: u32| folder.join(format!("{how}.log.{number}"));
        let spec = json!({"path": path(&file), "fsync": true,
                          "rotate": {"how": how, "max_size": "8KiB", "keep": 3}});
        let mut payloads = Vec::new();
        let mut inodes = Vec::new();
        for _ in 0..3 {
            let events = events(Format::Json, 40, "{token} {seq}");
            all(&sent::<File>(spec.clone(), &events, TIMEOUT).await, "sent");
            inodes.push(fs::metadata(&file).expect("it is there").ino());
            payloads.extend(events.into_iter().map(|event| event.payload));
        }
        let mut lines = Vec::new();
        let mut firsts = Vec::new();
        for name in [old(3), old(2), old(1), file.clone()] {
            let text = fs::read_to_string(&name).unwrap_or_else(|e| panic!("{name:?}: {e}"));
            assert!(text.len() <= 8 * 1024 && text.ends_with('\n'), "{name:?}: {}", text.len());
            firsts.extend(text.lines().next().map(str::to_owned));
            lines.extend(text.lines().map(str::to_owned));
        }
        assert!(!old(4).exists(), "three are kept");
        // The oldest were deleted; of the rest, none is missing.
        let kept = &payloads[payloads.len() - lines.len()..];
        assert!(kept.iter().zip(&lines).all(|(payload, line)| payload == line.as_bytes()), "{how}");
        assert!(lines.len() >= 30, "{}", lines.len());
        firsts.dedup();
        assert_eq!(firsts.len(), 4, "no file begins as another does");
        let same = inodes.windows(2).all(|two| two[0] == two[1]);
        assert_eq!(same, how == "copytruncate", "{how}: {inodes:?}");
    }
}

#[tokio::test]
async fn senders_file_says_what_stands_in_the_way() {
    let folder = folder("file-trouble");
    let mut events = events(Format::Plain, 3, "{token}");
    let missing = json!({"path": path(&folder.join("none/x.log"))});
    all(&sent::<File>(missing, &events, TIMEOUT).await, "not sent: not_found");
    let full = json!({"path": "/dev/full"});
    all(&sent::<File>(full, &events, TIMEOUT).await, "fault: unsupported");
    let file = folder.join("x.log");
    events[1].payload = "two\nlines".into();
    let receipts = sent::<File>(json!({"path": path(&file)}), &events, TIMEOUT).await;
    all(&receipts, "fault: unsupported");
    assert!(!file.exists(), "nothing of it was written");
}

/// The entries' fields, read as the "Native Journal Protocol" has them.
fn fields(mut entry: &[u8]) -> Vec<(String, Vec<u8>)> {
    let mut fields = Vec::new();
    while !entry.is_empty() {
        let end = entry.iter().position(|byte| matches!(byte, b'=' | b'\n')).expect("a name ends");
        let name = String::from_utf8(entry[..end].to_vec()).expect("a name is text");
        let plain = entry[end] == b'=';
        entry = &entry[end + 1..];
        let length = if plain {
            entry.iter().position(|byte| *byte == b'\n').expect("a value ends")
        } else {
            let (length, rest) = entry.split_at(8);
            entry = rest;
            u64::from_le_bytes(length.try_into().expect("eight bytes")) as usize
        };
        fields.push((name, entry[..length].to_vec()));
        assert_eq!(entry[length], b'\n');
        entry = &entry[length + 1..];
    }
    fields
}

/// One entry, from the datagram or from the memory file that came with it.
fn entry(journal: &UnixDatagram) -> Vec<u8> {
    let mut buffer = vec![0; 1 << 18];
    let mut slices = [IoSliceMut::new(&mut buffer)];
    let mut space = nix::cmsg_space!([std::os::fd::RawFd; 1]);
    let got =
        recvmsg::<UnixAddr>(journal.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::empty())
            .expect("it was sent");
    let bytes = got.bytes;
    let passed = got.cmsgs().expect("whole").find_map(|message| match message {
        ControlMessageOwned::ScmRights(descriptors) => descriptors.first().copied(),
        _ => None,
    });
    let Some(descriptor) = passed else { return buffer[..bytes].to_vec() };
    let link = fs::read_link(format!("/proc/self/fd/{descriptor}")).expect("it is open");
    assert!(link.display().to_string().starts_with("/memfd:"), "{link:?}");
    let mut file = fs::File::open(format!("/proc/self/fd/{descriptor}")).expect("it can be read");
    file.rewind().expect("it is a file");
    let mut whole = Vec::new();
    file.read_to_end(&mut whole).expect("it can be read");
    let refused = fs::OpenOptions::new()
        .write(true)
        .open(format!("/proc/self/fd/{descriptor}"))
        .and_then(|mut file| std::io::Write::write(&mut file, b"x"));
    assert!(refused.is_err(), "it is sealed");
    nix::unistd::close(descriptor).expect("it is open");
    whole
}

/// Written from systemd's document "Native Journal Protocol".
#[tokio::test]
async fn senders_journald_entries_are_those_of_the_native_protocol() {
    let socket = folder("journald").join("socket");
    let journal = UnixDatagram::bind(&socket).expect("the folder can be written");
    let mut events = events(Format::Json, 3, "{token} says hello");
    events[1].message = format!("{}\nin two lines", events[1].token);
    events[2].message = format!("{} {}", events[2].token, "x".repeat(500_000));
    let spec = json!({"socket": path(&socket)});
    // A local socket holds ten datagrams; this reads while they come.
    let reader = std::thread::spawn(move || [(); 3].map(|()| fields(&entry(&journal))));
    all(&sent::<Journald>(spec.clone(), &events, TIMEOUT).await, "sent");
    let entries = reader.join().expect("three came");
    for (fields, event) in entries.iter().zip(&events) {
        let of = |name: &str| {
            let mut all = fields.iter().filter(|(n, _)| n == name).map(|(_, value)| value);
            let one = all.next().unwrap_or_else(|| panic!("no {name} in {fields:?}"));
            assert!(all.next().is_none(), "{name} twice");
            String::from_utf8_lossy(one).into_owned()
        };
        assert_eq!(of("MESSAGE"), event.message);
        assert_eq!((of("PRIORITY"), of("SYSLOG_IDENTIFIER")), ("6".into(), "greenlight".into()));
        assert_eq!(of("GREENLIGHT_ID"), event.token);
        assert_eq!(of("GREENLIGHT_SEQ"), event.seq.to_string());
        assert_eq!(of("USER_AGENT_SYNTHETIC_TYPE"), "test");
    }
    // The reader is gone with its thread.
    let receipts = sent::<Journald>(spec, &events[..1], TIMEOUT).await;
    assert_eq!(word(&receipts[0]), "not sent: refused");
}

/// systemd's own journald, alone in a mount namespace with a `/run` of its own.
#[tokio::test]
async fn senders_journald_writes_what_journalctl_reads() {
    let journald = "/lib/systemd/systemd-journald";
    let begin = format!(
        "mount -t tmpfs none /run && mkdir -p /run/systemd/journal /run/systemd/journald.conf.d &&
         printf '[Journal]\\nStorage=volatile\\nReadKMsg=no\\nAudit=no\\n' \
             >/run/systemd/journald.conf.d/tests.conf &&
         exec {journald}"
    );
    let log = folder("journald").join("journald.log");
    let mut peer = Process::start("unshare", "util-linux", &["-m", "sh", "-c", &begin], &log);
    let pid = peer.pid().to_string();
    let root = format!("/proc/{pid}/root");
    let socket = format!("{root}/run/systemd/journal/socket");
    peer.wait_until(|| Path::new(&socket).exists());
    let mut events = events(Format::Json, 3, "{token} says hello");
    events[1].message = format!("{}\nin two lines", events[1].token);
    events[2].message = format!("{} {}", events[2].token, "x".repeat(500_000));
    all(&sent::<Journald>(json!({"socket": socket}), &events, TIMEOUT).await, "sent");
    let read = ["-t", &pid, "-m", "journalctl", "-t", "greenlight", "-o", "json", "--all"];
    let entries: Vec<Value> = until("what journald wrote", || {
        let read = run("nsenter", "util-linux", &read, "");
        let text = String::from_utf8(read.stdout).expect("journalctl writes text");
        let entries: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("a row")).collect();
        (entries.len() >= events.len()).then_some(entries)
    });
    assert_eq!(entries.len(), events.len());
    for (entry, event) in entries.iter().zip(&events) {
        assert_eq!(entry["MESSAGE"], event.message.as_str());
        assert_eq!(entry["GREENLIGHT_ID"], event.token.as_str());
        assert_eq!(entry["GREENLIGHT_SEQ"], event.seq.to_string());
        assert_eq!(entry["USER_AGENT_SYNTHETIC_TYPE"], "test");
        assert_eq!(entry["_TRANSPORT"], "journal");
    }
}
