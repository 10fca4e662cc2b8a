#!/usr/bin/env bash
# What else goes wrong at home: a disk that is full, a device lost while it reads
# a long prompt, noise on every port beside an answer, a coordinator that is
# killed and comes back, a second one in the same place. Each time one clear
# sentence, and then things go on by themselves.
. "$(dirname "$0")/lib.sh"
MODEL=$TMP/model.gguf
"$HEARTH" synth --type Q8_0 -o "$MODEL" \
    --shape d=1024,layers=4,heads=8,kv=4,ff=4096,vocab=2048 2>/dev/null ||
    fail "no model"
network 2
serve_args=(--shares 1,1,1 --threads 1 --wire f32 --kv f32 --ctx 8192
    --http-port 8080)
coordinator "${serve_args[@]}"

said() { hearth_co nodes --json | grep -qi "$1"; }
mkdir "$TMP/store1"
if mount -t tmpfs -o size=8m none "$TMP/store1" 2>/dev/null; then
    say "a disk that is full"
    worker 1
    worker 2
    until_true 30 "the full disk to be told" said "no space left\|disk is full"
    hearth_co run -n 4 "The door" >/dev/null 2>"$TMP/run.err" &&
        fail "an answer without box1"
    grep -q "box1.*make room" "$TMP/run.err" || fail "no name: $(cat "$TMP/run.err")"
    say "$(tail -1 "$TMP/run.err")"
    mount -o remount,size=256m "$TMP/store1" || fail "remount"
else
    say "SKIPPED the full disk: no tmpfs can be mounted here"
    worker 1
    worker 2
fi
W2=$W
wait_ready 60
want=$(answer -n 16 2>"$TMP/run.err") || fail "$(cat "$TMP/run.err")"

say "killed while a long prompt is read"
long=$(printf 'stone and water %.0s' $(seq 450))
ip netns exec "$NET-co" "$HEARTH" run --state-dir "$TMP/co" -n 4 "$long" \
    >"$TMP/run.out" 2>"$TMP/run.err" &
RUN=$!
PIDS+=("$RUN")
running() { hearth_co nodes --json | grep -q '"running": *1'; }
until_true 20 "the prompt to be begun" running
kill -9 "$W2"
wait "$RUN" && fail "the request did not fail"
[ ! -s "$TMP/run.out" ] || fail "it was too late: the answer had begun"
grep -q box2 "$TMP/run.err" || fail "no name: $(cat "$TMP/run.err")"
say "$(tail -1 "$TMP/run.err")"
worker 2
wait_ready
[ "$(answer -n 16 2>"$TMP/run.err")" = "$want" ] || fail "$(cat "$TMP/run.err")"

say "noise on every port, beside an answer"
answer -n 400 >"$TMP/quiet.ids" 2>/dev/null || fail "no long answer"
answer -n 400 >"$TMP/noisy.ids" 2>"$TMP/run.err" &
RUN=$!
for round in 1 2 3 4 5 6; do
    for at in 10.77.2.1/$PORT 10.77.2.1/$((PORT + 1)) 127.0.0.1/8080; do
        box=w2
        [ "${at%/*}" = 10.77.2.1 ] || box=co
        on $box timeout 2 bash -c \
            "head -c 50000 /dev/urandom > /dev/tcp/$at" 2>/dev/null
        on $box timeout 2 bash -c \
            "printf 'GET / HTTP/9.9\r\nA: \0\xff\r\n' > /dev/tcp/$at" 2>/dev/null
    done
done
wait "$RUN" || fail "the answer beside noise: $(cat "$TMP/run.err")"
cmp -s "$TMP/quiet.ids" "$TMP/noisy.ids" || fail "noise changed an answer"

say "a second coordinator in the same place"
timeout 20 ip netns exec "$NET-co" "$HEARTH" serve -m "$MODEL" --port 40000 \
    --state-dir "$TMP/co" >/dev/null 2>"$TMP/second.log" &&
    fail "two coordinators share a state directory"
say "$(tail -1 "$TMP/second.log")"
timeout 20 ip netns exec "$NET-co" "$HEARTH" serve -m "$MODEL" --port $PORT \
    --state-dir "$TMP/other" >/dev/null 2>"$TMP/second.log" &&
    fail "two coordinators share a port"
grep -q "$PORT" "$TMP/second.log" || fail "no port: $(cat "$TMP/second.log")"
say "$(tail -1 "$TMP/second.log")"

say "the coordinator killed, and started again while its workers wait"
kill -9 "$CO"
wait "$CO" 2>/dev/null
sleep 1
coordinator "${serve_args[@]}"
wait_ready
[ "$(answer -n 16 2>"$TMP/run.err")" = "$want" ] || fail "$(cat "$TMP/run.err")"
sent=$(hearth_co nodes --json | grep -o '"sent_bytes": *[0-9]*' |
    tr -dc '0-9\n' | sort -n | tail -1)
[ "${sent:-0}" -eq 0 ] || fail "$sent bytes of weights were sent again"
say ok
