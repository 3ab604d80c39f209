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

# become COLOUR JQ GATE...: until the row of each of these gates has satisfied the jq condition; one look
# for all of them, since the machine starts a program slowly.
become() {
    local colour=$1 condition=$2 left=("${@:3}") turned gate
    local until=$((SECONDS + 240))
    while [ ${#left[@]} -gt 0 ] && [ $SECONDS -lt $until ]; do
        turned=$(curl -s "$api/api/v1/gates" | jq -r --arg ids "${left[*]}" \
            '($ids | split(" ")) as $ids | .[] | select(.id as $id | $ids | index($id)) | select('"$condition"') | .id')
        for gate in $turned; do echo "ok $gate $colour"; done
        for gate in "${!left[@]}"; do
            case " ${turned//$'\n'/ } " in *" ${left[gate]} "*) unset "left[gate]" ;; esac
        done
    done
    for gate in "${left[@]}"; do echo "FAILED $gate is not $colour: $(row "$gate")"; done
}
# A gate of which a target is named is red for that target.
red() { become red ".verdict == \"fail\"${2:+ and .worst.target == \"$2\"}" "$1"; }
reds() { become red '.verdict == "fail"' "$@"; }
green() { greens "$1"; }
greens() { become green '.verdict == "pass" or .verdict == "warn"' "$@"; }
# outside WORDS: asks the program that runs this machine for what only the hardware does.
outside() { echo "outside: $1"; }
