#!/usr/bin/env bash
# lib.sh - a small home network for tests: sourced by tests/cluster/*.sh.
#
#      [w1] 10.77.1.2 ---- 10.77.1.1 [co] 10.77.2.1 ---- 10.77.2.2 [w2]
#
# Each box is a network namespace, each line a veth pair; names carry this
# process's number, so runs do not meet. Real processes of $HEARTH run in them.
# A trap kills the processes and removes the namespaces, and the test fails if
# anything is left. Tests wait for conditions, never for fixed times.

set -u
HEARTH=$(readlink -f "${HEARTH:-build/hearth}")
MODEL=$(readlink -f "${MODEL:-models/tale-q8_0.gguf}")
TMP=$(mktemp -d "${TMPDIR:-/tmp}/hearth-test.XXXXXX")
NET=hth$$
PORT=47470
PIDS=()
FAILED=0

skip() {
    printf 'SKIPPED %s: %s\n' "${0##*/}" "$1"
    exit 77
}

say() { printf -- '-- %s\n' "$*"; }

fail() {
    printf 'FAILED %s: %s\n' "${0##*/}" "$*"
    FAILED=1
    for f in "$TMP"/*.log; do
        [ -f "$f" ] && printf '   ---- %s\n' "${f##*/}" && tail -15 "$f"
    done
    exit 1
}

cleanup() {
    local rc=$?
    trap - EXIT INT TERM
    for p in "${PIDS[@]}"; do
        kill -CONT "$p" 2>/dev/null
        kill -9 "$p" 2>/dev/null
    done
    wait 2>/dev/null
    for n in co w1 w2 w3; do ip netns del "$NET-$n" 2>/dev/null; done
    if ip netns list 2>/dev/null | grep -q "^$NET-"; then
        printf 'FAILED %s: namespaces are left over\n' "${0##*/}"
        rc=1
    fi
    umount "$TMP"/store[0-9] 2>/dev/null
    rm -rf "$TMP"
    exit $rc
}
trap cleanup EXIT INT TERM

[ -x "$HEARTH" ] || fail "no program at $HEARTH: run make"
[ "$(id -u)" = 0 ] || skip "network namespaces need root"
command -v ip >/dev/null || skip "no ip command (package iproute2)"
ip netns add "$NET-co" 2>/dev/null || skip "this system gives no namespaces"

# on NAME COMMAND...: run inside a box. A function in the background is a
# subshell whose pid is not the program's: background work writes out the
# command, which execs.
on() {
    local box=$1
    shift
    ip netns exec "$NET-$box" "$@"
}

# network N: N workers' boxes and cables.
network() {
    local i
    on co ip link set lo up
    for i in $(seq "$1"); do
        ip netns add "$NET-w$i" || fail "no namespace w$i"
        ip link add "v$$c$i" netns "$NET-co" type veth \
            peer name "v$$w$i" netns "$NET-w$i" || skip "no veth links here"
        on co ip addr add "10.77.$i.1/24" dev "v$$c$i"
        on co ip link set "v$$c$i" up
        on "w$i" ip link set lo up
        on "w$i" ip addr add "10.77.$i.2/24" dev "v$$w$i"
        on "w$i" ip link set "v$$w$i" up
    done
}

# slow_network PROFILE N: instead, one of scripts/lab; $CO_HOST is where w1 to wN
# find the coordinator.
slow_network() {
    local rc
    ip netns del "$NET-co"
    LAB=$NET LAB_DIR=$TMP/lab scripts/lab up "$1" $(($2 + 1)) >/dev/null
    rc=$?
    [ $rc -ne 77 ] || skip "no test network here"
    [ $rc -eq 0 ] || fail "scripts/lab up $1"
    PIDS+=("$(cat "$TMP/lab/$NET/pid")")
    CO_HOST=10.78.0.1
}

cable() { on co ip link set "v$$c$1" "$2"; } # cable N up|down

# swallow N on|off: every packet of the cable is lost and nobody is told, as
# with netem's loss of 100 %: each end knows the other by an address that no
# card there has.
swallow() {
    local how=del
    [ "$2" = off ] || how=replace
    on co ip neigh "$how" "10.77.$1.2" lladdr 02:00:00:00:00:01 nud permanent \
        dev "v$$c$1"
    on "w$1" ip neigh "$how" "10.77.$1.1" lladdr 02:00:00:00:00:01 \
        nud permanent dev "v$$w$1"
}

# until_true SECONDS WHAT COMMAND...: poll until the command succeeds.
until_true() {
    local end=$((SECONDS + $1)) what=$2
    shift 2
    until "$@" >/dev/null 2>&1; do
        [ $SECONDS -lt $end ] || fail "timed out waiting for $what"
        sleep 0.05
    done
}

# coordinator ARGS...: start `hearth serve`; its pid in $CO.
coordinator() {
    ip netns exec "$NET-co" "$HEARTH" serve -m "$MODEL" --port $PORT --state-dir "$TMP/co" \
        --log-level info "$@" >"$TMP/serve.out" 2>>"$TMP/serve.log" &
    CO=$!
    PIDS+=("$CO")
    until_true 20 "the coordinator" hearth_co nodes
}

hearth_co() { # a client command beside the coordinator
    local verb=$1
    shift
    on co "$HEARTH" "$verb" --state-dir "$TMP/co" "$@"
}

new_code() {
    hearth_co pair --json 2>/dev/null |
        sed -n 's/.*"code"[: ]*"\([^"]*\)".*/\1/p' | head -1
}

# worker N ARGS...: start worker N (with a fresh code if it is not paired);
# its pid in $W.
worker() {
    local n=$1 code=()
    shift
    [ -d "$TMP/w$n" ] || code=(--code "$(new_code)")
    ip netns exec "$NET-w$n" "$HEARTH" worker --join "${CO_HOST:-10.77.$n.1}:$PORT" "${code[@]}" \
        --name "box$n" --threads 1 --state-dir "$TMP/w$n" \
        --store "$TMP/store$n" --log-level info "$@" \
        >"$TMP/w$n.out" 2>>"$TMP/w$n.log" &
    W=$!
    PIDS+=("$W")
}

lost() { ! ready; }
ready() { hearth_co nodes --json | grep -q '"ready": *true'; }
wait_ready() { until_true "${1:-30}" "the cluster to be ready" ready; }

answer() { # answer ARGS...: greedy ids of the standard prompt
    hearth_co run --temp 0 --seed 1 -n 48 --ids "$@" "The door opened and"
}
