#!/usr/bin/env bash
# A worker lost at any moment: killed, stopped, its cable pulled, mid-answer and
# while loading. Each time one sentence names it within 5 s, the coordinator
# stays, and the next request is served once the worker is back.
. "$(dirname "$0")/lib.sh"
network 2
coordinator --shares 1,1,1 --threads 1 --wire f32 --kv f32 --ctx 4096
worker 1
W1=$W
worker 2
W2=$W
wait_ready
want=$(answer 2>/dev/null) || fail "no first answer"

# In the background, its pid in $RUN. Shells start background work with SIGINT
# ignored; a person at a terminal does not.
long_run() {
    : >"$TMP/run.out"
    ip netns exec "$NET-co" env --default-signal=INT "$HEARTH" run \
        --state-dir "$TMP/co" --temp 0 \
        --seed 1 -n 3900 --ignore-end "The door" \
        >"$TMP/run.out" 2>"$TMP/run.err" &
    RUN=$!
    PIDS+=("$RUN")
    until_true 10 "the answer to begin" test -s "$TMP/run.out"
}

ends_with_name() { # within 5 s, non-zero, naming box $1, for reason $2
    local t0=$SECONDS rc
    wait "$RUN"
    rc=$?
    [ $rc -ne 0 ] || fail "the request did not fail"
    [ $((SECONDS - t0)) -le 5 ] || fail "it took $((SECONDS - t0)) s"
    grep -q "box$1" "$TMP/run.err" || fail "no name: $(cat "$TMP/run.err")"
    grep -q "${2:-}" "$TMP/run.err" || fail "no $2: $(cat "$TMP/run.err")"
    say "$(tail -1 "$TMP/run.err")"
    kill -0 "$CO" 2>/dev/null || fail "the coordinator is gone"
}

# Silence in a step that stands still, which is noticed before mere silence.
hung="silent for 1.6 s"

back() {
    wait_ready 30
    [ "$(answer 2>"$TMP/run.err")" = "$want" ] ||
        fail "after it came back: $(cat "$TMP/run.err")"
}

say "kill -9 in the middle of an answer"
long_run
kill -9 "$W2"
ends_with_name 2
worker 2
W2=$W
back

say "SIGSTOP in the middle of an answer"
long_run
kill -STOP "$W1"
ends_with_name 1 "$hung"
kill -CONT "$W1"
back

say "cable out in the middle of an answer"
long_run
cable 2 down
ends_with_name 2 "$hung"
cable 2 up
back

say "all packets lost in the middle of an answer"
long_run
swallow 1 on
ends_with_name 1 "$hung"
swallow 1 off
back

say "killed while idle"
kill -9 "$W1"
sleep 0.3
worker 1
W1=$W
back

say "a client that leaves in the middle"
long_run
kill -9 "$RUN"
[ "$(answer 2>/dev/null)" = "$want" ] || fail "after a client left"
say "Ctrl-C stops a generation with exit code 130"
long_run
kill -INT "$RUN"
wait "$RUN"
[ $? -eq 130 ] || fail "exit code of an interrupted run"
[ "$(answer 2>/dev/null)" = "$want" ] || fail "after an interruption"
say ok
