#!/usr/bin/env bash
# A worker killed while its weights arrive: the coordinator stays, and when the
# worker is back the transfer goes on where it stopped. A store that was
# damaged is noticed and repaired.
. "$(dirname "$0")/lib.sh"
MODEL=$TMP/model.gguf
"$HEARTH" synth --type Q8_0 -o "$MODEL" \
    --shape d=2048,layers=6,heads=16,kv=4,ff=8192,vocab=2048 2>/dev/null ||
    fail "no model"
network 1
coordinator --shares 0,1 --threads 1
worker 1
half() { # a good part of the model has arrived
    [ "$(du -sm "$TMP/store1" | cut -f1)" -ge 80 ]
}
until_true 30 "part of the weights" half
kill -9 "$W"
wait "$W" 2>/dev/null
kept=$(du -sm "$TMP/store1" | cut -f1)
whole=$(($(stat -c %s "$MODEL") >> 20))
[ "$kept" -lt $((whole * 9 / 10)) ] || skip "the transfer was over too soon"
say "killed with $kept of about $whole MiB there"
hearth_co nodes >/dev/null || fail "the coordinator is gone"
worker 1
wait_ready 60
sent=$(hearth_co nodes --json | grep -o '"sent_bytes": *[0-9]*' |
    tr -dc '0-9\n' | sort -n | tail -1)
say "sent since: $((sent >> 20)) MiB"
[ $((sent >> 20)) -le $((whole - kept / 2)) ] ||
    fail "it began anew: $sent bytes for $whole MiB"
want=$(answer -n 4 2>"$TMP/run.log") || fail "no answer: $(cat "$TMP/run.log")"

say "a damaged block"
kill -TERM "$W"
wait "$W" 2>/dev/null
block=$(find "$TMP/store1" -type f -size +1M | head -1)
printf 'damaged' | dd of="$block" bs=1 seek=500000 conv=notrunc status=none
worker 1
wait_ready 60
[ "$(answer -n 4 2>/dev/null)" = "$want" ] || fail "a damaged block was used"
say ok
