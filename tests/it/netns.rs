//! Network namespaces for tests: real kernels' paths, with faults that nothing else can make.
//!
//! Needs root, and fails at once without it. Everything is made of `ip` and `nft`, as a person
//! would; async code runs inside a namespace on a thread of its own.

use std::fmt::Write as _;
use std::future::Future;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, setns};

/// A namespace with its loopback up and unprivileged echo sockets allowed; gone when dropped,
/// also by a panic.
pub(crate) struct Netns {
    name: String,
}

/// The uid and gid that [`Netns::run_as_nobody`] takes: nobody and nogroup on Debian.
const NOBODY: u32 = 65_534;

const PREFIX: &str = "greenlight-it-";

impl Netns {
    pub(crate) fn new() -> Self {
        static STALE: Once = Once::new();
        static NEXT: AtomicU32 = AtomicU32::new(0);
        crate::machine::root();
        STALE.call_once(remove_stale);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        command("ip", &["netns", "add", &name], "");
        let this = Self { name };
        // Duplicate address detection would keep a link's IPv6 from working for a second or two.
        this.sh("ip link set lo up
             echo '0 2147483647' > /proc/sys/net/ipv4/ping_group_range
             for conf in all default; do echo 0 > /proc/sys/net/ipv6/conf/$conf/accept_dad; done");
        this
    }

    /// What `ip netns` knows it by.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs a shell script inside; panics with what it said where it fails.
    pub(crate) fn sh(&self, script: &str) -> String {
        command("ip", &["netns", "exec", &self.name, "sh", "-ec", script], "")
    }

    /// Sends packets to the tunnel of VXLAN 7 at this address whose congestion mark contradicts the
    /// packet within: it takes them for damaged (RFC 6040), which is the one kind of damage that can be
    /// made without hardware.
    pub(crate) fn send_damaged(&self, address: &str, count: u32) {
        self.sh(&format!(
            "python3 -c \"
import socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 3)
ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20, 0, 0, 64, 59, 0, bytes(4), bytes(4))
frame = b'\\xff' * 6 + b'\\x02\\0\\0\\0\\0\\1' + b'\\x08\\0' + ip
for _ in range({count}): s.sendto(struct.pack('!II', 0x08000000, 7 << 8) + frame, ('{address}', 4789))
\""
        ));
    }

    /// Adds a ruleset, as `nft -f` reads it.
    pub(crate) fn nft(&self, ruleset: &str) {
        command("ip", &["netns", "exec", &self.name, "nft", "-f", "-"], ruleset);
    }

    /// Takes all rules away.
    pub(crate) fn flush(&self) {
        self.nft("flush ruleset");
    }

    /// Drops or rejects (or what the verdict says) what comes in or goes through:
    /// `filter("input", "tcp dport 22 drop")`.
    pub(crate) fn filter(&self, hook: &str, rule: &str) {
        self.nft(&format!(
            "table inet {hook} {{ chain {hook} {{ type filter hook {hook} priority 0; {rule}; }}; }}"
        ));
    }

    /// Runs async code inside, on a thread and a runtime of its own.
    pub(crate) fn run<T: Send, F: Future<Output = T>>(&self, code: impl FnOnce() -> F + Send) -> T {
        self.enter(|| block_on(code()))
    }

    /// As [`Netns::run`], as nobody and without any capability.
    pub(crate) fn run_as_nobody<T: Send, F: Future<Output = T>>(
        &self,
        code: impl FnOnce() -> F + Send,
    ) -> T {
        use rustix::process::{Gid, Uid};
        use rustix::thread::{
            capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
        };
        self.enter(|| {
            // The thread alone, by the bare system calls; leaving uid 0 clears its capabilities.
            let (uid, gid) = (Uid::from_raw(NOBODY), Gid::from_raw(NOBODY));
            set_thread_groups(&[]).unwrap();
            set_thread_res_gid(gid, gid, gid).unwrap();
            set_thread_res_uid(uid, uid, uid).unwrap();
            let left = capabilities(None).unwrap();
            assert!(left.effective.is_empty() && left.permitted.is_empty(), "{left:?}");
            block_on(code())
        })
    }

    /// A TCP listener inside; the kernel opens connections without anyone accepting them.
    pub(crate) fn listen(&self, at: SocketAddr) -> TcpListener {
        self.enter(|| TcpListener::bind(at).unwrap())
    }

    /// A TCP listener inside that holds so many connections for whoever accepts them.
    pub(crate) fn listen_with(&self, at: SocketAddr, backlog: i32) -> socket2::Socket {
        self.enter(|| {
            let socket =
                socket2::Socket::new(socket2::Domain::for_address(at), socket2::Type::STREAM, None);
            let socket = socket.unwrap();
            socket.bind(&at.into()).unwrap();
            socket.listen(backlog).unwrap();
            socket
        })
    }

    /// A TCP connection from inside.
    pub(crate) fn connect(&self, to: SocketAddr) -> TcpStream {
        self.enter(|| TcpStream::connect(to).unwrap())
    }

    /// A UDP socket inside.
    pub(crate) fn udp(&self, at: SocketAddr) -> UdpSocket {
        self.enter(|| UdpSocket::bind(at).unwrap())
    }

    fn enter<T: Send>(&self, code: impl FnOnce() -> T + Send) -> T {
        let inside = || {
            let namespace = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            code()
        };
        std::thread::scope(|scope| match scope.spawn(inside).join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Joins two namespaces: a veth pair, each end named and with an MTU of its own.
pub(crate) fn join(a: (&Netns, &str, u32), b: (&Netns, &str, u32)) {
    let ((a, a_end, a_mtu), (b, b_end, b_mtu)) = (a, b);
    command(
        "ip",
        &[
            "link", "add", a_end, "netns", &a.name, "type", "veth", "peer", "name", b_end, "netns",
            &b.name,
        ],
        "",
    );
    a.sh(&format!("ip link set {a_end} mtu {a_mtu} up"));
    b.sh(&format!("ip link set {b_end} mtu {b_mtu} up"));
}

/// `near` and `far` with a router between them, IPv4 and IPv6:
///
/// ```text
/// near 10.80.1.1 ---left--- 10.80.1.254 router 10.80.2.254 ---right--- 10.80.2.1 far
///   fd80:1::1                fd80:1::fe         fd80:2::fe               fd80:2::1
/// ```
pub(crate) struct Routed {
    pub(crate) near: Netns,
    pub(crate) router: Netns,
    pub(crate) far: Netns,
}

pub(crate) const FAR: [&str; 2] = ["10.80.2.1", "fd80:2::1"];
pub(crate) const ROUTER: [&str; 2] = ["10.80.1.254", "fd80:1::fe"];

impl Routed {
    /// With the MTU of each leg, set at both of its ends.
    pub(crate) fn new(left: u32, right: u32) -> Self {
        let this = Self { near: Netns::new(), router: Netns::new(), far: Netns::new() };
        join((&this.near, "e0", left), (&this.router, "left", left));
        join((&this.router, "right", right), (&this.far, "e0", right));
        this.near.sh(&end("e0", 1, "1", "fe"));
        this.far.sh(&end("e0", 2, "1", "fe"));
        this.router.sh(&format!(
            "{}{}\
             echo 1 > /proc/sys/net/ipv4/ip_forward\n\
             echo 1 > /proc/sys/net/ipv6/conf/all/forwarding\n",
            address("left", 1, "254", "fe"),
            address("right", 2, "254", "fe"),
        ));
        this
    }
}

/// Addresses of an interface. Without `nodad` an IPv6 address can't be used for its first second.
fn address(interface: &str, net: u8, v4: &str, v6: &str) -> String {
    format!(
        "ip addr add 10.80.{net}.{v4}/24 dev {interface}\n\
         ip addr add fd80:{net}::{v6}/64 dev {interface} nodad\n"
    )
}

fn end(interface: &str, net: u8, host: &str, router: &str) -> String {
    let mut script = address(interface, net, host, host);
    let _ = writeln!(
        script,
        "ip route add default via 10.80.{net}.254; ip -6 route add default via fd80:{net}::{router}"
    );
    script
}

/// `near` and `far` on one wire, without a router: 10.80.1.1 and 10.80.1.2, fd80:1::1 and ::2.
pub(crate) fn wire(near_mtu: u32, far_mtu: u32) -> (Netns, Netns) {
    let (near, far) = (Netns::new(), Netns::new());
    join((&near, "e0", near_mtu), (&far, "e0", far_mtu));
    near.sh(&address("e0", 1, "1", "1"));
    far.sh(&address("e0", 1, "2", "2"));
    (near, far)
}

pub(crate) const WIRE_FAR: [&str; 2] = ["10.80.1.2", "fd80:1::2"];

/// `address:port`, in brackets where it must be.
pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse::<IpAddr>().unwrap(), port)
}

fn block_on<T>(code: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(code)
}

fn command(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs it"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success(),
        "{program} {arguments:?} {input}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Namespaces of a test run that was killed.
fn remove_stale() {
    for entry in std::fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}
