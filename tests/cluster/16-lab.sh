#!/usr/bin/env bash
# The test network is as slow as its profile says, roughly, and is gone after an
# interruption; over it two workers and a coordinator answer a long prompt with
# the same text in steps and spread.
# Its weights are not quantised: with 8-bit activations a sum on the edge of a step
# falls to either side, and so does a choice between words as likely.
MODEL=${MODEL:-models/tale-f16.gguf}
. "$(dirname "$0")/lib.sh"
export LAB_DIR=$TMP/lab
slow_network 100mbit 2

# Bounds are a profile's nominal value over and under by what a loaded machine
# can do to it: never faster, but much slower.
within() { # WHAT VALUE LEAST MOST
    awk -v v="$2" -v a="$3" -v b="$4" 'BEGIN {exit !(v >= a && v <= b)}' ||
        fail "$1: $2, not within $3 and $4"
    say "$1: $2"
}
of() { printf '%s' "$1" | sed -n "s/.*$2=\([0-9.]*\).*/\1/p"; }

got=$(LAB=$NET scripts/lab probe w1 w2) || fail "no measurement: $got"
within "100mbit, Mbit/s" "$(of "$got" mbit)" 10 105
within "100mbit, round trip ms" "$(of "$got" round_trip_ms)" 0.39 100
printf '* rate_mbit=8 delay_ms=20\n' >"$TMP/far"
got=$(env -u LAB scripts/lab run "$TMP/far" 2 -- scripts/lab probe co w1) ||
    fail "no measurement: $got"
within "8 Mbit/s, 20 + 20 ms, Mbit/s" "$(of "$got" mbit)" 0.8 8.4
within "8 Mbit/s, 20 + 20 ms, round trip ms" "$(of "$got" round_trip_ms)" 79 800

say "a run that is interrupted leaves nothing"
env --default-signal=INT LAB_DIR="$TMP/other" scripts/lab run "$TMP/far" 2 -- \
    sleep 300 &
run=$!
PIDS+=("$run")
other() { [ -n "$(ls "$TMP/other" 2>/dev/null)" ]; }
until_true 20 "the second lab" other
name=$(ls "$TMP/other")
until_true 20 "its relay" grep -q ready "$TMP/other/$name/out"
kill -INT "$run"
wait "$run"
[ $? -eq 130 ] || fail "exit code of an interrupted run"
! ip netns list | grep -q "^$name-" || fail "namespaces of $name are left"
! other || fail "files of $name are left"

prompt="One morning a small mouse found a red door in the old oak tree and
knocked on it three times. Nobody answered, so she pushed it open and saw a long
stair that went down into the dark. At the bottom a lamp was burning. A tired
badger sat beside it and read a book about the sea. He looked up and asked who
she was and what she wanted so early in the day. She told him about the winter
and the empty store, and about her brothers who were waiting at home for bread.
The badger closed his book and stood up and"
ask() { # MODE: the answer to $prompt, over the lab
    coordinator --shares 1,1,1 --threads 1 --wire f32 --kv f32 --prefill "$1"
    worker 1
    worker 2
    wait_ready 60
    hearth_co run --temp 0 --seed 1 -n 32 --ids "$prompt" 2>"$TMP/run.log" ||
        fail "$1: no answer: $(cat "$TMP/run.log")"
}
finish() { # every program of the cluster; the relay, first in PIDS, stays
    kill -TERM "${PIDS[@]:2}"
    for p in "${PIDS[@]:2}"; do wait "$p" 2>/dev/null; done
    PIDS=("${PIDS[@]:0:2}")
}
ask tp >"$TMP/tp"
finish
ask zigzag >"$TMP/zigzag"
grep -q 'PREFILL.*mode=zigzag' "$TMP/serve.log" || fail "it was not spread"
[ -s "$TMP/tp" ] || fail "an empty answer"
cmp -s "$TMP/tp" "$TMP/zigzag" ||
    fail "tp: $(cat "$TMP/tp"); zigzag: $(cat "$TMP/zigzag")"
say "$(cat "$TMP/zigzag")"
say ok
