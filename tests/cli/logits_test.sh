# logits and perplexity: files, numbers, and the sharded against the single.
. "$HEARTH_ROOT/tests/cli/lib.sh"
diff=${JSON%/*}/logits_diff
model16=$HEARTH_ROOT/models/tale-f16.gguf
tokens=$(sed -n 's/.*"greedy": \[\([^]]*\)\].*/\1/p' "${model%.gguf}.json" | tr -d ' ')

expect 0 logits -m "$model16" --tokens "$tokens" --kv f32 -o one
out_empty
err_empty
[ "$(stat -c %s one)" -eq $((48 * 2048 * 4)) ] || fail "size $(stat -c %s one)"
for shares in 1,1 3,1 0,1,1 1,2,1,3; do
    expect 0 logits -m "$model16" --tokens "$tokens" --kv f32 --wire f32 \
        --shares $shares --threads 1 -o many
    "$diff" 2048 one many 1e-4 >out || fail "--shares $shares: $(cat out)"
done
expect 0 logits -m "$model16" --tokens "$tokens" --shares 1,1 --wire q8 -o many
"$diff" 2048 one many 1e-4 >/dev/null && fail 'q8 is as exact as f32?'
"$diff" 2048 one many 5 >out || fail "q8 is far off: $(cat out)"

# A prompt that is spread gives the last token's row, that of one device.
tail -c $((4 * 2048)) one >last
for mode in ring striped zigzag kvr single; do
    expect 0 logits -m "$model16" --tokens "$tokens" --kv f32 --wire f32 \
        --shares 1,2,1 --threads 1 --prefill $mode -o many
    "$diff" 2048 last many 1e-4 >out || fail "--prefill $mode: $(cat out)"
done
expect 0 logits -m "$model16" --tokens "$tokens" --shares 1,1 --threads 1 \
    --prefill auto -o many
[ "$(stat -c %s many)" -eq $((48 * 2048 * 4)) ] || fail 'auto: not every row'

expect 1 logits -m "$model16" --tokens 1,2,2048 -o bad
err_has 2048
expect 1 logits -m "$model16" --tokens 1,2 -o nowhere/x
err_has nowhere
[ -z "$(ls | grep -E 'part|bad')" ] || fail "left behind: $(ls)"

expect 0 perplexity -m "$model" -f "$HEARTH_ROOT/models/heldout.txt" \
    --chunks 2 --json
json perplexity chunks=2 ctx=512 tokens_scored=510
mv out one
expect 0 perplexity -m "$model" -f "$HEARTH_ROOT/models/heldout.txt" \
    --chunks 2 --shares 1,1 --wire f32 --kv f32
out_has 'perplexity '
echo too short >short
expect 1 perplexity -m "$model" -f short
err_has '--ctx 512'
expect 1 perplexity -m "$model" -f nothing.txt
finish
