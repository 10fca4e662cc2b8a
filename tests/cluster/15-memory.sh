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

# in_little WHAT COORDINATOR-ARGS...: `ask` answers the same with workers without
# limits and with workers within the budgets in $LIMITS.
in_little() {
    local what=$1 n p got want peak
    shift
    say "$what"
    coordinator --threads 1 --memory 256MiB "$@"
    for n in "${!LIMITS[@]}"; do worker $((n + 1)); done
    wait_ready 60
    want=$(ask) || fail "no answer: $(cat "$TMP/run.log")"
    stop_all
    coordinator --threads 1 --memory 256MiB "$@"
    for n in "${!LIMITS[@]}"; do
        group "w$n$RANDOM" $((LIMITS[n] + OVERHEAD)) || fail "no cgroup"
        worker $((n + 1)) --memory "${LIMITS[n]}"
        echo "$W" >"$GROUP/cgroup.procs" || fail "worker $n in no cgroup"
        eval "W$n=$W"
    done
    wait_ready 60
    got=$(ask) || fail "no answer with little memory: $(cat "$TMP/run.log")"
    [ "$got" = "$want" ] || fail "another answer: $got instead of $want"
    for n in "${!LIMITS[@]}"; do
        eval "p=\$W$n"
        peak=$(sed -n 's/^VmHWM:[[:space:]]*\([0-9]*\) kB/\1/p' "/proc/$p/status")
        say "worker $((n + 1)): budget $((LIMITS[n] >> 20)) MiB, peak $((peak >> 10))"
        [ -n "$peak" ] && [ $((peak << 10)) -le $((LIMITS[n] + OVERHEAD)) ] ||
            fail "worker $((n + 1)) took $((peak >> 10)) MiB"
        ls "$TMP/store$((n + 1))/packed" | grep -q . ||
            fail "worker $((n + 1)) streams nothing"
    done
    stop_all
}
stop_all() {
    local p
    kill -TERM "${PIDS[@]}"
    for p in "${PIDS[@]}"; do wait "$p" 2>/dev/null; done
    PIDS=()
}

# A neighbour in the same cgroup takes memory while an answer is made: the window
# shrinks, the words stay the same, nobody is killed.
say "memory gets short while it runs"
long() { # MEMORY: more tokens, so that there is time
    "$HEARTH" run -m "$MODEL" --ctx 512 -n 400 --ignore-end --temp 0 --ids \
        --threads 1 --store "$TMP/store0" --log-level info --memory "$1" \
        "$PROMPT"
}
want=$(long 4GiB 2>"$TMP/run.log") || fail "no long answer"
group short $((bytes * 3 / 4 + OVERHEAD)) || fail "no cgroup"
(
    echo $BASHPID >"$GROUP/cgroup.procs"
    long $((bytes * 3 / 4)) >"$TMP/short.out" 2>"$TMP/short.log"
) &
run=$!
PIDS+=("$run")
(
    echo $BASHPID >"$GROUP/cgroup.procs"
    held=()
    for _ in $(seq 24); do
        kill -0 $run 2>/dev/null || exit
        held+=("$(head -c 2M /dev/zero | tr '\0' x)")
        sleep 0.3
    done
    while kill -0 $run 2>/dev/null; do sleep 0.2; done
) &
PIDS+=("$!")
wait "$run" || fail "no answer beside a neighbour: $(tail -3 "$TMP/short.log")"
wait "${PIDS[-1]}"
PIDS=()
[ "$(cat "$TMP/short.out")" = "$want" ] || fail "another answer under pressure"
grep -q MEMORY-SHORT "$TMP/short.log" || fail "no pressure was noticed"
say "$(grep -o '[0-9]* MiB are available; .*' "$TMP/short.log" | head -1)"

say "experts come when they are needed"
"$HEARTH" synth --type Q8_0 -o "$TMP/moe.gguf" \
    --shape d=512,layers=8,heads=8,kv=4,ff=512,vocab=2048,arch=qwen3moe,experts=16,used=2 \
    2>/dev/null || fail "no model with experts"
experts=$(stat -c %s "$TMP/moe.gguf")
few() { # MEMORY
    "$HEARTH" run -m "$TMP/moe.gguf" --ctx 128 -n 24 --ignore-end --temp 0 \
        --json --threads 1 --store "$TMP/store0" --memory "$1" "$PROMPT"
}
ids() { grep -o '"ids": *\[[^]]*\]'; }
number() { grep -oE "\"$1\": *[0-9.e+]+" | sed 's/.*: *//'; }
want=$(few 4GiB 2>"$TMP/run.log" | ids) || fail "no answer with experts"
group moe $((experts / 2 + OVERHEAD)) || fail "no cgroup"
got=$(
    echo $BASHPID >"$GROUP/cgroup.procs"
    few $((experts / 2)) 2>"$TMP/run.log"
) || fail "no answer with half of the experts: $(cat "$TMP/run.log")"
[ "$(ids <<<"$got")" = "$want" ] || fail "experts: another answer"
read_mib=$(number read_bytes <<<"$got" | awk '{ printf "%d", $1 / 1048576 }')
say "$((experts >> 20)) MiB in $((experts >> 21)), 23 tokens read $read_mib MiB"
[ "$read_mib" -lt $((23 * (experts >> 20) / 4)) ] ||
    fail "experts that nobody asked for were read"

network 2
ask() { answer -n 12 --ids 2>"$TMP/run.log"; }
LIMITS=($((bytes / 8)) $((bytes / 5)))
in_little "two workers with different budgets" --shares 0,1,1 --ctx 128

# Slices and whole layers are half as much again as the model, for a worker with
# a fifth: slices shrink while layers pass by, and come back.
words=$(seq -s ' ' 1 90)
ask() {
    hearth_co run --temp 0 -n 12 --ids --ignore-end "$words" 2>"$TMP/run.log" &&
        hearth_co run --temp 0 -n 6 --ids --ignore-end "7 8 9 $words" \
            2>"$TMP/run.log"
}
LIMITS=($((bytes / 5)))
in_little "a prompt spread over whole layers" --shares 1,1 \
    --ctx 512 --prefill ring --wire f32 --kv f32
[ "$(grep -c 'PREFILL.*mode=ring' "$TMP/serve.log")" -ge 4 ] ||
    fail "no prompt was spread"
grep -q 'WHOLE-LAYERS.*in_memory=window' "$TMP/w1.log" ||
    fail "worker 1 had no window over whole layers"

# The worker has all it was promised until its group is given less: it says so,
# and what the cluster only keeps for later prompts goes on every rank.
say "kept sequences go when a worker is short"
type curl nsenter >/dev/null 2>&1 || skip "no curl or no nsenter"
coordinator --shares 1,1 --ctx 512 --threads 1 --memory 512MiB --api-key k
group kept $((512 << 20)) || fail "no cgroup"
# Not by `ip netns exec`, which hides the groups from the worker.
nsenter --net="/run/netns/$NET-w1" "$HEARTH" worker --join "10.77.1.1:$PORT" \
    --name box1 --threads 1 --state-dir "$TMP/w1" --store "$TMP/store1" \
    --log-level info --memory 384MiB >"$TMP/w1.out" 2>>"$TMP/w1.log" &
W=$!
PIDS+=("$W")
echo "$W" >"$GROUP/cgroup.procs" || fail "the worker in no cgroup"
wait_ready 60
api() { # api PATH [JSON]
    on co curl -sS --max-time 60 -H "Authorization: Bearer k" \
        ${2:+-H "Content-Type: application/json" -d "$2"} \
        "http://127.0.0.1:$((PORT + 10))$1"
}
complete() { # complete PROMPT
    api /v1/completions "{\"prompt\":\"$1\",\"temperature\":0,\"max_tokens\":4}" \
        | grep -q '"choices"'
}
used() { # parts in a million of the KV cache
    api /metrics | awk '/kv_cache_usage_ratio [0-9]/ { printf "%d", $2 * 1e6 }'
}
for n in 1 2 3 4; do
    complete "$n $words" || fail "no answer to prompt $n"
done
before=$(used)
[ "${before:-0}" -gt 0 ] || fail "nothing is kept: '$before'"
limit=$GROUP/memory.limit_in_bytes usage=$GROUP/memory.usage_in_bytes
[ -e "$limit" ] || limit=$GROUP/memory.max usage=$GROUP/memory.current
was=$(grep -c MEMORY-SHORT "$TMP/w1.log")
squeezed() { # 8 MiB are left, beside what the kernel can drop
    local cache
    cache=$(awk '/^(total_)?inactive_file / { n = $2 } END { print n }' \
        "$GROUP/memory.stat")
    echo $(($(cat "$usage") - cache + (8 << 20))) >"$limit"
    sleep 1
    [ "$(grep -c MEMORY-SHORT "$TMP/w1.log")" -gt "$was" ]
}
until_true 60 "the worker to notice" squeezed
gone() {
    complete "7" || fail "no answer while memory is short"
    [ $((2 * $(used))) -lt "$before" ]
}
until_true 30 "kept sequences to go" gone
say "cache used: $before, then $(used) parts in a million"
stop_all
remove_groups
say ok
