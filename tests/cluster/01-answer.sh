#!/usr/bin/env bash
# A coordinator and two workers over a network give the answer that one process
# gives; twice the same; and a restart of a worker moves no weights again.
. "$(dirname "$0")/lib.sh"
network 2
coordinator --shares 1,1,1 --threads 1 --wire f32 --kv f32
worker 1
worker 2
wait_ready

alone=$("$HEARTH" run -m "$MODEL" --shares 1 --threads 1 --kv f32 --temp 0 \
    --seed 1 -n 48 --ids "The door opened and") || fail "one process"
first=$(answer 2>"$TMP/run.log") || fail "no answer: $(cat "$TMP/run.log")"
[ "$first" = "$alone" ] || fail "cluster: $first; one process: $alone"
[ "$(answer 2>/dev/null)" = "$first" ] || fail "a second run differs"
text=$(hearth_co run --temp 0 -n 24 "The door opened and" 2>/dev/null)
case $text in *[a-z]*\ *[a-z]*) say "text: $text" ;; *) fail "text: $text" ;; esac

say "restart worker 1: its weights are there already"
sent=$(hearth_co nodes --json | grep -o '"sent_bytes": *[0-9]*' | tr -dc '0-9\n')
[ "$(printf '%s\n' $sent | sort -n | tail -1)" -gt 100000 ] ||
    fail "no weights counted: $sent"
kill -TERM "$W"
wait "$W" 2>/dev/null
until_true 10 "the loss to be noticed" lost
worker 2
wait_ready
[ "$(answer 2>/dev/null)" = "$first" ] || fail "after a restart"
again=$(hearth_co nodes --json | grep -o '"sent_bytes": *[0-9]*' | tr -dc '0-9\n')
[ "$(printf '%s\n' $again | sort -n | head -1)" -lt 100000 ] ||
    fail "weights were sent again: $again"
say ok
