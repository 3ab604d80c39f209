# Faults of a node that need a kernel with everything built, or a machine of their own: each turns
# its gate red and, undone, green again. The machine has no pressure (psi=0), so that the gates of
# such kernels are the ones that judge.
. "$(dirname "$0")/library.sh"
set -e

# Runs a command in so many processes until `enough`.
crowd=()
many() {
    local count=$1
    shift
    for _ in $(seq "$count"); do
        "$@" &
        crowd+=($!)
    done
}
enough() {
    kill "${crowd[@]}" 2>/dev/null || true
    wait "${crowd[@]}" 2>/dev/null || true
    crowd=()
}
burn() { while :; do :; done; }

# A disk of memory behind a mapping that can be told to be slow. Nobody makes names under
# /dev/mapper here; the kernel makes /dev/dm-0.
sectors=$(blockdev --getsz /dev/ram0)
table() { echo "0 $sectors delay /dev/ram0 0 $1"; }
delay() { dmsetup suspend slow && dmsetup reload slow --table "$(table "$1")" && dmsetup resume slow; }
dmsetup create slow --noudevsync --table "$(table 0)"
mkfs.ext4 -q -F /dev/dm-0
mkdir -p $work/slow $work/disk
mount /dev/dm-0 $work/slow
mkfs.ext4 -q -F /dev/nvme0n1
mount /dev/nvme0n1 $work/disk

# Two wires under one bond.
ip link add pair type bond mode active-backup miimon 100
for wire in one two; do
    ip link add $wire type veth peer name far-$wire
    ip link set far-$wire up
    ip link set $wire master pair
done
ip link set pair up
ip address add 192.0.2.1/24 dev pair

# A wire of its own with a negotiated speed, which the machine can set and pull.
wire=$(basename /sys/class/net/e*)
ip link set "$wire" up
ip address add 198.51.100.1/24 dev "$wire"
ip neigh add 198.51.100.2 lladdr 02:00:00:00:00:01 dev "$wire"
# negotiated SPEED DUPLEX: in Mb/s, 0 half and 1 full (ETHTOOL_SSET of ethtool's header).
negotiated() {
    python3 - "$wire" "$1" "$2" <<'PY'
import array, fcntl, socket, struct, sys
name, speed, duplex = sys.argv[1].encode(), int(sys.argv[2]), int(sys.argv[3])
command = array.array("B", struct.pack("=IIIHBBBBBBIIHBBI8s", 2, 0, 0, speed, duplex, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, bytes(8)))
request = struct.pack("16sP8x", name, command.buffer_info()[0])
fcntl.ioctl(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), 0x8946, request)
PY
}
negotiated 1000 1

# A mirror of two files.
for half in a b; do
    truncate -s 24M $work/disk/$half
    losetup -f $work/disk/$half
done
mdadm --create /dev/md0 --run --assume-clean --level=1 --raid-devices=2 --metadata=1.2 /dev/loop0 /dev/loop1 2>/dev/null

# Swap that nobody uses yet.
truncate -s 0 $work/disk/swap
dd if=/dev/zero of=$work/disk/swap bs=1M count=16 2>/dev/null
chmod 600 $work/disk/swap
mkswap -q $work/disk/swap

# The clock as a time daemon sets it: adjtimex(2), its modes, its offset in microseconds, its status (1 is
# disciplined, 64 is not synchronised), its largest error in microseconds.
discipline() {
    python3 - "$@" <<'PY'
import ctypes, struct, sys
modes, offset, status, error = map(int, sys.argv[1:])
timex = ctypes.create_string_buffer(struct.pack("=I4xqqqqi4xq", modes, offset, 0, error, 1000, status, 10), 208)
assert ctypes.CDLL(None, use_errno=True).adjtimex(timex) >= 0, ctypes.get_errno()
PY
}
synchronised() { discipline $((0x1 | 0x4 | 0x8 | 0x10 | 0x20)) 0 1 1000; }
synchronised

# Every connection is tracked.
nft add table inet watch
nft 'add chain inet watch in { type filter hook input priority 0; }'
nft add rule inet watch in ct state established accept

# What products ask for of the kernel, as it should be.
settings() { for setting in "$@"; do sysctl -qw "$setting"; done; }
good=(vm.overcommit_memory=1 vm.panic_on_oom=0 kernel.panic_on_oops=1 net.ipv4.ip_forward=1
    fs.inotify.max_user_instances=1024 fs.inotify.max_user_watches=600000 vm.max_map_count=300000
    net.netfilter.nf_conntrack_max=200000 net.core.rmem_max=20000000 net.core.somaxconn=4096 vm.swappiness=60)
settings "${good[@]}"
echo madvise >/sys/kernel/mm/transparent_hugepage/enabled

echo 'include: [ "pack:kubernetes-node", "pack:database-node", "pack:log-node" ]' >$work/plan.yaml
# The spare blocks of this machine's NVMe device are none. What happens once stays red for long enough that
# one look finds it, on a busy machine too.
start $work/plan.yaml node_disk_await_most=50ms node_disk_queue_most=4 node_oom_window=24s node_clock_steps_window=24s

green node.nvme.health
# Its health is read once a minute; what else is broken here takes as long.
outside "nvme 4"
greens node.disk.latency node.io.waiting
# One program for many writes: what starts programs computes, and does not wait.
writes() { while :; do dd if=/dev/zero of="$work/slow/$BASHPID" bs=4k count=50 oflag=direct conv=notrunc 2>/dev/null; done; }
delay 200
many 12 writes
red node.disk.latency dm-0
red node.disk.queue dm-0
red node.io.waiting
enough
delay 0
greens node.disk.latency node.disk.queue node.io.waiting

# Settings that differ, tables that are full, and parts that fail: all at once, since none of them hides another.
lasting=(node.cpu.throttled-groups node.md.degraded node.link.bonds node.link.duplex node.conntrack node.neighbours
    node.clock.synchronised kubernetes.swap kubernetes.forwarding kubernetes.kernel kubernetes.inotify
    kubernetes.map-count kubernetes.conntrack database.huge-pages database.swap log.map-count log.swap
    log.receive-buffer log.backlog log.inotify)
passing=(node.link.carrier node.memory.oom node.clock.offset node.clock.steps)
greens "${lasting[@]}" "${passing[@]}"

mkdir /sys/fs/cgroup/bound
echo "10000 100000" >/sys/fs/cgroup/bound/cpu.max
many 1 bash -c 'echo $$ >/sys/fs/cgroup/bound/cgroup.procs; while :; do :; done'
mkdir /sys/fs/cgroup/small
echo 24M >/sys/fs/cgroup/small/memory.max
# A mirror loses a half.
mdadm /dev/md0 --fail /dev/loop1 --remove /dev/loop1 2>/dev/null
ip link set far-two down
negotiated 10 0
outside "link off"
red node.link.carrier "$wire"
outside "link on"
# 130 neighbours where 100 find room, none of them swept out, and as many connections as may be tracked, and more.
settings net.ipv4.neigh.pair.gc_stale_time=3600
settings net.ipv4.neigh.default.gc_thresh1=100 net.ipv4.neigh.default.gc_thresh2=100 net.ipv4.neigh.default.gc_thresh3=100
for host in $(seq 2 131); do
    echo "neigh replace 192.0.2.$host lladdr 02:00:00:00:01:00 dev pair nud reachable"
done | ip -force -batch - 2>/dev/null || true
settings net.netfilter.nf_conntrack_max=150 net.netfilter.nf_conntrack_udp_timeout=600
for port in $(seq 20001 20200); do echo x >/dev/udp/127.0.0.1/$port; done 2>/dev/null || true
settings vm.overcommit_memory=0 net.ipv4.ip_forward=0 fs.inotify.max_user_instances=128 fs.inotify.max_user_watches=8192 \
    vm.max_map_count=65530 net.core.rmem_max=212992 net.core.somaxconn=128
echo always >/sys/kernel/mm/transparent_hugepage/enabled
swapon $work/disk/swap
# Nobody keeps this clock, it is 0.4 s off as the last daemon knew, and somebody sets it.
discipline $((0x1 | 0x10 | 0x20)) 400000 1 1000
red node.clock.offset
discipline $((0x4 | 0x10)) 0 64 16000000
date -s "+90 seconds" >/dev/null
# Memory that can't be given back: the group's limit kills.
(echo $BASHPID >/sys/fs/cgroup/small/cgroup.procs; exec perl -e '$held = "x" x (100 << 20)') || true
reds node.memory.oom node.clock.steps
reds node.nvme.health "${lasting[@]}"
enough
mdadm --zero-superblock /dev/loop1
mdadm /dev/md0 --add /dev/loop1 2>/dev/null
ip link set far-two up
outside "nvme 0"
negotiated 1000 1
settings net.ipv4.neigh.default.gc_thresh1=1000 net.ipv4.neigh.default.gc_thresh2=2000 net.ipv4.neigh.default.gc_thresh3=4000
swapoff $work/disk/swap
settings "${good[@]}"
echo madvise >/sys/kernel/mm/transparent_hugepage/enabled
synchronised
greens "${lasting[@]}" "${passing[@]}"

# More bytes than the wire takes.
green node.link.throughput
negotiated 10 1
many 2 bash -c 'exec dd if=/dev/zero bs=1400 >/dev/udp/198.51.100.2/9'
red node.link.throughput "$wire"
enough
negotiated 1000 1
green node.link.throughput

# A file larger than what is left of the memory, read over and over.
green node.memory.reclaim
mkdir $work/held
mount -t tmpfs -o size=450M held $work/held
dd if=/dev/zero of=$work/held/fill bs=1M count=260 2>/dev/null || true
dd if=/dev/zero of=$work/disk/large bs=1M count=400 2>/dev/null
many 2 bash -c "while :; do cat $work/disk/large >/dev/null; done"
red node.memory.reclaim
enough
umount $work/held
green node.memory.reclaim

green node.cpu.hot-core
many 1 taskset -c 1 bash -c 'while :; do :; done'
red node.cpu.hot-core
enough
green node.cpu.hot-core

greens node.cpu.wait node.cpu.queue
many 12 burn
reds node.cpu.wait node.cpu.queue
enough
greens node.cpu.wait node.cpu.queue
green node.nvme.health
