#!/usr/bin/env bash
# A model of four times the memory: each process in a memory cgroup of its
# --memory plus 64 MiB. The same answer as without limits, nobody killed, the
# resident set within the budget and the stated 64 MiB; two workers with
# different budgets likewise.
. "$(dirname "$0")/lib.sh"
OVERHEAD=$((64 << 20))
V1=/sys/fs/cgroup/memory V2=/sys/fs/cgroup
GROUPS_MADE=()

# group NAME BYTES: a memory cgroup with that limit; its directory in $GROUP.
group() {
    if [ -w $V1/cgroup.procs ]; then
        GROUP=$V1/$NET-$1
        mkdir "$GROUP" 2>/dev/null &&
            echo "$2" >"$GROUP/memory.limit_in_bytes" || return 1
    else
        GROUP=$V2/$NET-$1
        mkdir "$GROUP" 2>/dev/null && echo "$2" >"$GROUP/memory.max" || return 1
        echo 0 >"$GROUP/memory.swap.max" 2>/dev/null
    fi
    GROUPS_MADE+=("$GROUP")
}
group try $OVERHEAD || skip "no memory cgroups here"
remove_groups() {
    local g
    for g in "${GROUPS_MADE[@]}"; do
        until_true 10 "an empty cgroup" rmdir "$g"
    done
}

MODEL=$TMP/model.gguf
"$HEARTH" synth --type Q8_0 -o "$MODEL" \
    --shape d=1024,layers=16,heads=16,kv=4,ff=4096,vocab=4096 2>/dev/null ||
    fail "no model"
bytes=$(stat -c %s "$MODEL")
budget=$((bytes / 4))
PROMPT="Once upon a time there was"
alone() { # MEMORY: an answer as token ids
    "$HEARTH" run -m "$MODEL" --ctx 128 -n 12 --ignore-end --temp 0 --ids \
        --threads 1 --store "$TMP/store0" --memory "$1" "$PROMPT"
}
say "alone: $((bytes >> 20)) MiB in $((budget >> 20)) MiB"
want=$(alone 4GiB 2>"$TMP/run.log") || fail "no answer without limits"
group alone $((budget + OVERHEAD)) || fail "no cgroup"
got=$(
    echo $BASHPID >"$GROUP/cgroup.procs"
    alone $budget 2>"$TMP/run.log"
) || fail "no answer within $((budget >> 20)) MiB: $(cat "$TMP/run.log")"
[ "$got" = "$want" ] || fail "another answer: $got instead of $want"
kills=$(sed -n 's/^oom_kill //p' "$GROUP/memory.oom_control" \
    "$GROUP/memory.events" 2>/dev/null | head -1)
[ "${kills:-0}" = 0 ] || fail "something was killed"
got=$(alone 2MiB 2>&1) && fail "an answer within 2 MiB"
case $got in *--memory*) ;; *) fail "2 MiB: $got" ;; esac

say "two workers with different budgets"
network 2
limits=($((bytes / 8)) $((bytes / 5)))
ask() { answer -n 12 --ids 2>"$TMP/run.log"; }
coordinator --shares 0,1,1 --threads 1 --ctx 128 --memory 256MiB
worker 1 --threads 1
worker 2 --threads 1
wait_ready 60
want=$(ask) || fail "no answer: $(cat "$TMP/run.log")"
kill -TERM "${PIDS[@]}"
for p in "${PIDS[@]}"; do wait "$p" 2>/dev/null; done
PIDS=()
coordinator --shares 0,1,1 --threads 1 --ctx 128 --memory 256MiB
for n in 1 2; do
    group w$n $((limits[n - 1] + OVERHEAD)) || fail "no cgroup"
    worker $n --threads 1 --memory "${limits[n - 1]}" --log-level info
    echo "$W" >"$GROUP/cgroup.procs" || fail "worker $n in no cgroup"
    eval "W$n=$W"
done
wait_ready 60
got=$(ask) || fail "no answer with little memory: $(cat "$TMP/run.log")"
[ "$got" = "$want" ] || fail "another answer: $got instead of $want"
for n in 1 2; do
    eval "p=\$W$n"
    peak=$(sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$p/status")
    say "worker $n: budget $((limits[n - 1] >> 20)) MiB, peak $((peak >> 10))"
    [ -n "$peak" ] && [ $((peak << 10)) -le $((limits[n - 1] + OVERHEAD)) ] ||
        fail "worker $n took $((peak >> 10)) MiB"
    ls "$TMP/store$n/packed" | grep -q . || fail "worker $n streams nothing"
done
for p in "${PIDS[@]}"; do
    kill -TERM "$p" 2>/dev/null
    wait "$p" 2>/dev/null
done
remove_groups
say ok
