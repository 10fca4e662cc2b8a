#!/usr/bin/env bash
# Adapters over two workers: one from the start, one loaded by request while an
# answer runs, answers that differ by adapter and not by plan, a worker that
# comes back and has them again, one taken away.
. "$(dirname "$0")/lib.sh"
command -v curl >/dev/null || skip "no curl"
command -v jq >/dev/null || skip "no jq"
network 2
mkdir "$TMP/loras"
"$HEARTH" synth --lora "$MODEL" --rank 8 --seed 1 -o "$TMP/first.gguf" ||
    fail "synth --lora"
"$HEARTH" synth --lora "$MODEL" --rank 4 --seed 2 -o "$TMP/loras/second.gguf" ||
    fail "synth --lora"
PROMPT="The old door"

alone() { # alone ARGS...: the answer of one process
    "$HEARTH" run -m "$MODEL" --kv f32 --temp 0 -n 12 --threads 1 "$@" \
        "$PROMPT" 2>"$TMP/alone.log" || fail "run $*"
}
bare=$(alone)
one=$(alone --lora "$TMP/first.gguf")
half=$(alone --lora "$TMP/first.gguf:0.5")
two=$(alone --lora "$TMP/loras/second.gguf")
[ "$bare" != "$one" ] && [ "$one" != "$half" ] && [ "$bare" != "$two" ] ||
    fail "adapters that change nothing: '$bare' '$one' '$half' '$two'"

coordinator --shares 1,1,1 --threads 1 --wire f32 --kv f32 --api-key k \
    --lora "first=$TMP/first.gguf:0" --lora-dir "$TMP/loras"
worker 1
FIRST=$W
worker 2
wait_ready
B=http://127.0.0.1:$((PORT + 10))

api() { # api PATH [JSON]
    on co curl -sS --max-time 60 -H "Authorization: Bearer k" \
        ${2:+-H "Content-Type: application/json" -d "$2"} "$B$1"
}
complete() { # complete JSON-FIELDS: the text
    api /v1/completions "{\"prompt\":\"$PROMPT\",\"temperature\":0,
        \"max_tokens\":12$1}" | jq -er '.choices[0].text'
}
same() { # same GOT WANT WHAT
    [ "$(printf %s "$1" | tr -d '\n')" = "$(printf %s "$2" | tr -d '\n')" ] ||
        fail "$3: '$1', not '$2'"
}

say "by request, beside others"
api /lora-adapters | jq -e '.[0].name == "first" and .[0].scale == 0 and
    .[0].ready' >/dev/null || fail "the list: $(api /lora-adapters)"
same "$(complete "")" "$bare" "without"
same "$(complete ',"lora":[{"id":0,"scale":1}]')" "$one" "by id"
same "$(complete ',"lora":[{"id":0,"scale":0.5}]')" "$half" "half of it"
same "$(complete ',"model":"first"')" "$one" "as a model"
same "$(hearth_co run --temp 0 -n 12 --lora first "$PROMPT" 2>/dev/null)" \
    "$one" "hearth run"
api /v1/models | jq -e '[.data[].id] | index("first")' >/dev/null ||
    fail "not among the models"

say "loaded while an answer runs"
api /v1/completions '{"prompt":"A","max_tokens":200,"ignore_eos":true}' \
    >"$TMP/long.json" &
long=$!
PIDS+=("$long")
api /v1/load_lora_adapter '{"lora_name":"second","lora_path":"second.gguf"}' |
    jq -e .success >/dev/null || fail "loading"
same "$(complete ',"lora":[{"id":1}]')" "$two" "the second"
wait "$long"
jq -e '.usage.completion_tokens == 200' "$TMP/long.json" >/dev/null ||
    fail "the answer beside it: $(cat "$TMP/long.json")"
[ "$(api /v1/load_lora_adapter \
    '{"lora_name":"x","lora_path":"/etc/passwd"}' | jq -r .error.code)" = \
    not_allowed ] || fail "a file outside of --lora-dir"

say "both at once, four times"
for i in 1 2 3 4; do
    complete ',"model":"first"' >"$TMP/a.$i" &
    one_pid=$!
    complete ',"model":"second"' >"$TMP/b.$i" &
    two_pid=$!
    complete "" >"$TMP/c.$i" &
    PIDS+=("$one_pid" "$two_pid" "$!")
    wait "$one_pid" "$two_pid" "$!" || fail "a request of a mixed batch"
    same "$(cat "$TMP/a.$i")" "$one" "first of a mixed batch"
    same "$(cat "$TMP/b.$i")" "$two" "second of a mixed batch"
    same "$(cat "$TMP/c.$i")" "$bare" "none in a mixed batch"
done

say "a worker that comes back has them again"
kill -9 "$FIRST"
until_true 20 "the loss to be noticed" lost
worker 1
wait_ready
until_true 30 "an answer" complete ',"model":"second"'
same "$(complete ',"model":"second"')" "$two" "after a worker was lost"
same "$(complete ',"model":"first"')" "$one" "after a worker was lost"

say "taken away"
api /v1/unload_lora_adapter '{"lora_name":"second"}' | jq -e .success \
    >/dev/null || fail "unloading"
[ "$(api /v1/completions "{\"prompt\":\"A\",\"model\":\"second\"}" |
    jq -r .error.code)" = model_not_found ] || fail "it is still a model"
until_true 20 "the adapter to be gone" grep -q ADAPTER-GONE "$TMP/serve.log"
same "$(complete ',"model":"first"')" "$one" "the one that stays"

say "usual scales"
api /lora-adapters '[{"id":0,"scale":0.5}]' | jq -e .success >/dev/null ||
    fail "setting a scale"
same "$(complete "")" "$half" "with the usual scale"
same "$(complete ',"lora":[]')" "$bare" "with none"
say ok
