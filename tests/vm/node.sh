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

# A mirror of two files.
for half in a b; do
    truncate -s 24M $work/disk/$half
    losetup -f $work/disk/$half
done
mdadm --create /dev/md0 --run --assume-clean --level=1 --raid-devices=2 --metadata=1.2 /dev/loop0 /dev/loop1 2>/dev/null

echo 'include: [ "pack:linux-node" ]' >$work/plan.yaml
start $work/plan.yaml node_disk_await_most=50ms node_disk_queue_most=4

green node.disk.latency
green node.io.waiting
writes() { while :; do dd if=/dev/zero of="$work/slow/$BASHPID" bs=4k count=4 oflag=direct conv=notrunc 2>/dev/null; done; }
delay 200
many 12 writes
red node.disk.latency dm-0
red node.disk.queue dm-0
red node.io.waiting
enough
delay 0
green node.disk.latency
green node.disk.queue
green node.io.waiting

green node.cpu.hot-core
many 1 taskset -c 1 bash -c 'while :; do :; done'
red node.cpu.hot-core
enough
green node.cpu.hot-core

green node.cpu.wait
green node.cpu.queue
many 12 burn
red node.cpu.wait
red node.cpu.queue
enough
green node.cpu.wait
green node.cpu.queue

green node.cpu.throttled-groups
mkdir /sys/fs/cgroup/bound
echo "10000 100000" >/sys/fs/cgroup/bound/cpu.max
many 1 bash -c 'echo $$ >/sys/fs/cgroup/bound/cgroup.procs; while :; do :; done'
red node.cpu.throttled-groups
enough
green node.cpu.throttled-groups

green node.memory.oom
mkdir /sys/fs/cgroup/small
echo 24M >/sys/fs/cgroup/small/memory.max
# Memory that can't be given back: the group's limit kills.
(echo $BASHPID >/sys/fs/cgroup/small/cgroup.procs; exec perl -e '$held = "x" x (100 << 20)') || true
red node.memory.oom
green node.memory.oom

# A mirror loses a half.
green node.md.degraded
mdadm /dev/md0 --fail /dev/loop1 --remove /dev/loop1 2>/dev/null
red node.md.degraded
mdadm --zero-superblock /dev/loop1
mdadm /dev/md0 --add /dev/loop1 2>/dev/null
green node.md.degraded

green node.link.bonds
ip link set far-two down
red node.link.bonds pair
ip link set far-two up
green node.link.bonds
