#!/usr/bin/env bash
# Who is not paired gets nowhere: wrong code, used code, forged certificate,
# revoked device, plain garbage on both ports. And a capture of a whole session
# shows neither the prompt nor the weights.
. "$(dirname "$0")/lib.sh"
network 2
coordinator --shares 1,1 --threads 1

join() { # join BOX CODE STATE: exit code of a worker that should be refused
    timeout 20 ip netns exec "$NET-w$1" "$HEARTH" worker \
        --join "10.77.$1.1:$PORT" --code "$2" --name "stranger" \
        --state-dir "$3" --store "$TMP/s" >"$TMP/join.out" 2>"$TMP/join.log"
}

say "a wrong code"
new_code >/dev/null
join 2 AAAA-AAAA "$TMP/x1"
[ $? -eq 4 ] || fail "exit code of a wrong code: $(cat "$TMP/join.log")"
grep -q "code is wrong" "$TMP/join.log" || fail "no reason given"
say "$(tail -1 "$TMP/join.log")"

if command -v tcpdump >/dev/null; then
    ip netns exec "$NET-co" tcpdump -i any -U -w "$TMP/cap" >/dev/null 2>&1 &
    DUMP=$!
    PIDS+=("$DUMP")
    until_true 10 "the capture" test -s "$TMP/cap"
else
    say "SKIPPED the capture: no tcpdump"
fi
code=$(new_code)
ip netns exec "$NET-w1" "$HEARTH" worker --join "10.77.1.1:$PORT" \
    --code "$code" --name box1 \
    --threads 1 --state-dir "$TMP/w1" --store "$TMP/store1" \
    >"$TMP/w1.out" 2>>"$TMP/w1.log" &
PIDS+=("$!")
wait_ready
secret="Zanzibar quarrels with seventeen umbrellas"
hearth_co run --temp 0 -n 8 "$secret" >/dev/null 2>&1 || fail "no answer"
if [ -n "${DUMP:-}" ]; then
    sleep 0.3
    kill -INT "$DUMP"
    wait "$DUMP" 2>/dev/null
    [ "$(stat -c %s "$TMP/cap")" -gt 1000000 ] || fail "the capture is empty"
    grep -qa "Zanzibar" "$TMP/cap" && fail "the prompt is on the wire"
    # 48 bytes from the middle of several blocks the worker holds.
    for f in $(find "$TMP/store1" -type f -size +100k | head -3); do
        dd if="$f" bs=1 skip=50000 count=24 status=none >"$TMP/needle"
        grep -qaF -f "$TMP/needle" "$TMP/cap" && fail "weights on the wire"
    done
    say "capture of $(stat -c %s "$TMP/cap") bytes: no prompt, no weights"
fi

say "a code that was used"
join 2 "$code" "$TMP/x2"
[ $? -eq 4 ] || fail "a used code: $(cat "$TMP/join.log")"

say "a certificate of another cluster"
on w2 ip addr add 10.78.0.1/24 dev lo
ip netns exec "$NET-w2" "$HEARTH" serve -m "$MODEL" --port 40000 --bind 127.0.0.1 \
    --state-dir "$TMP/other" --shares 1,1 >"$TMP/other.out" 2>"$TMP/other.log" &
PIDS+=("$!")
until_true 10 "the other coordinator" \
    on w2 "$HEARTH" nodes --state-dir "$TMP/other"
other=$(on w2 "$HEARTH" pair --json --state-dir "$TMP/other" |
    sed -n 's/.*"code"[: ]*"\([^"]*\)".*/\1/p' | head -1)
on w2 timeout -s INT 4 "$HEARTH" worker --join 127.0.0.1:40000 --code "$other" \
    --name foreign --state-dir "$TMP/x3" --store "$TMP/s" >/dev/null 2>&1
on w2 timeout -s INT 8 "$HEARTH" worker --join "10.77.2.1:$PORT" --name foreign \
    --state-dir "$TMP/x3" --store "$TMP/s" >"$TMP/join.out" 2>"$TMP/join.log"
[ -s "$TMP/x3/device.crt" ] || fail "it did not pair with its own cluster"
hearth_co nodes | grep -q foreign && fail "a foreign device is a member"
grep -q "not of this cluster" "$TMP/join.log" || fail "no reason given"
say "$(tail -1 "$TMP/join.log")"

say "garbage on both ports does no harm"
for p in $PORT $((PORT + 1)); do
    for i in 1 2 3 4 5 6 7 8; do
        on w2 timeout 1 bash -c \
            "head -c 20000 /dev/urandom > /dev/tcp/10.77.2.1/$p" 2>/dev/null
    done
done
hearth_co run --temp 0 -n 4 "The door" >/dev/null 2>&1 || fail "after garbage"

say "revoked"
hearth_co revoke box1 >/dev/null || fail "revoke"
until_true 10 "the revoked worker to leave" grep -qi revoked "$TMP/w1.log"
timeout 20 ip netns exec "$NET-w1" "$HEARTH" worker --join "10.77.1.1:$PORT" \
    --name box1 --state-dir "$TMP/w1" --store "$TMP/store1" \
    >"$TMP/join.out" 2>"$TMP/join.log"
[ $? -eq 4 ] || fail "a revoked device came back: $(cat "$TMP/join.log")"
say "$(tail -1 "$TMP/join.log")"
say ok
