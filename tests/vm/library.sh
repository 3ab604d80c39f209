# What scenarios share. Sourced by each of them, as the first process of the machine.

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
trap 'echo "vm: ended"; sync; poweroff -f 2>/dev/null || { mount -o remount,rw /proc/sys; echo o >/proc/sysrq-trigger; sleep 5; }' EXIT
word() { sed -n "s/.*$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
greenlight=$(word greenlight)
api=http://127.0.0.1:9765

work=/var/tmp/vm
mkdir -p $work
mount -t devpts devpts /dev/pts 2>/dev/null || true
mkdir -p /sys/fs/cgroup && mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
# Everything but the first process in a group of its own, so that controllers can be given out.
mkdir /sys/fs/cgroup/init && echo $$ >/sys/fs/cgroup/init/cgroup.procs
echo "+cpu +io +memory +pids" >/sys/fs/cgroup/cgroup.subtree_control

# start PLAN VAR...: runs the agent on this plan, with the packs' time scaled, and waits until it
# answers.
start() {
    local plan=$1 vars=()
    shift
    for var in $(cat "$(word vars)") "$@"; do vars+=(--var "$var"); done
    "$greenlight" run -c "$plan" --state $work/state "${vars[@]}" 2>$work/agent.log &
    agent=$!
    for _ in $(seq 300); do
        curl -sf "$api/-/ready" >/dev/null && return 0
        sleep 0.2
    done
    echo "FAILED the agent did not start"
    cat $work/agent.log
    exit 1
}

row() { curl -s "$api/api/v1/gates" | jq -c --arg id "$1" '.[] | select(.id == $id)'; }

# wait_for GATE WORDS JQ: until the gate's row satisfies the jq condition.
wait_for() {
    for _ in $(seq 240); do
        if row "$1" | jq -e "$3" >/dev/null 2>&1; then
            echo "ok $1 $2"
            return 0
        fi
        sleep 0.5
    done
    echo "FAILED $1 is not $2: $(row "$1")"
}
# A gate of which a target is named is red for that target.
red() { wait_for "$1" red ".verdict == \"fail\"${2:+ and .worst.target == \"$2\"}"; }
green() { wait_for "$1" green '.verdict == "pass" or .verdict == "warn"'; }
