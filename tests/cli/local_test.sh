# Clusters on this machine: one process, several, what a signal leaves behind.
. "$HEARTH_ROOT/tests/cli/lib.sh"

greedy=$(sed -n 's/.*"greedy": \[\([^]]*\)\].*/\1/p' "${model%.gguf}.json" | tr -d ,)
prompt='The door opened and'

nothing_left() {
    local tries=60
    while [ -n "$(ls -d "$TMPDIR"/hearth-?????? 2>/dev/null)" ]; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || {
            fail "left behind: $(ls "$TMPDIR")"
            return
        }
        sleep 0.1
    done
}

# Exact arithmetic's tokens, in one process and over links.
for shares in 1 1,1 0,1,1; do
    expect 0 run -m "$model" --shares $shares --threads 1 --wire f32 --kv f32 \
        --temp 0 -n 48 --ids "$prompt"
    out_is "$greedy"
    err_empty
done
expect 0 run -m "$model" --local 1 --temp 0 -n 8 "$prompt"
err_empty
nothing_left

# The same seed gives the same answer; the one --json tells can be used again.
expect 0 run -m "$model" -n 32 --json "$prompt"
json text seed finish ids=[32] prompt_tokens=4 generated_tokens=32 ranks=1
mv out first
seed=$(sed -n 's/.*"seed":\([0-9]*\).*/\1/p' first)
expect 0 run -m "$model" -n 32 --json --seed "$seed" "$prompt"
for f in first out; do sed -i 's/"wait_s".*//' "$f"; done
cmp -s first out || fail 'the same seed gives another answer'

# How a prompt was computed over the devices: asked for, predicted, measured, and
# each one's part.
long=$(head -c 600 "$HEARTH_ROOT/models/heldout.txt")
for mode in ring kvr; do
    expect 0 run -m "$model" --shares 1,1,1 --threads 1 --prefill $mode \
        --temp 0 -n 2 --json "$long"
    json prefill.mode=$mode prefill.predicted_ms prefill.took_ms \
        'prefill.ranks=[3]' prefill.ranks.2.rank=2 prefill.ranks.2.rows \
        prefill.ranks.2.compute_ms prefill.ranks.2.waited_ms \
        prefill.ranks.2.sent_bytes prefill.ranks.2.received_bytes
done
expect 0 run -m "$model" --shares 1,1 --threads 1 --temp 0 -n 2 -v "$long"
err_has 'prefill: tp'
err_has '  rank 0: '

# Where the prompt comes from.
expect 0 run -m "$model" --temp 0 -n 8 "$prompt"
mv out want
echo "$prompt" >prompt
expect 0 run -m "$model" --temp 0 -n 8 <prompt
cmp -s out want || fail 'a prompt on standard input gives another answer'
expect 0 run -m "$model" --temp 0 -n 8 - <prompt
cmp -s out want || fail 'the operand - gives another answer'
expect 0 run -m "$model" --temp 0 -n 8 -v "$prompt"
err_has 'eval rate'
cmp -s out want || fail '--verbose changes standard output'

# Sampling options reach the sampler.
expect 0 run -m "$model" --temp 0 -n 4 --ids --logit-bias 262=-inf "$prompt"
case " $(cat out) " in *' 262 '*) fail 'a forbidden token came' ;; esac
expect 0 run -m "$model" --temp 0 -n 40 --stop ' and' "$prompt"
grep -q ' and' out && fail 'a stop text was printed'
expect 1 run -m "$model" --ctx 64 -n 8 - <"$HEARTH_ROOT/models/heldout.txt"
err_has 64

# Output that cannot be written ends the answer.
"$HEARTH" run -m "$model" -n 16 "$prompt" >/dev/full 2>err
[ $? -eq 1 ] || fail 'a full disk goes unnoticed'
err_has 'No space left'
"$HEARTH" run -m "$model" --shares 1,1 -n 1500 --ignore-end "$prompt" 2>err |
    head -c 20 >/dev/null
[ "${PIPESTATUS[0]}" -eq 1 ] || fail "a closed pipe: ${PIPESTATUS[0]}"

# Ctrl-C: what came is printed, 130, nothing stays. Then kill -9.
long="run -m $model --shares 1,1,1 --threads 1 -n 1900 --ignore-end"
for signal in INT KILL; do
    rm -f out
    "$HEARTH" $long "$prompt" >out 2>err &
    pid=$!
    tries=300
    until [ -s out ] || [ $((tries -= 1)) -eq 0 ]; do sleep 0.05; done
    [ -s out ] || fail "no answer: $(cat err)"
    workers=$(grep -ls "PPid:[[:space:]]$pid\$" /proc/[0-9]*/status | tr -dc '0-9\n')
    kill -$signal $pid
    { wait $pid; } 2>/dev/null
    rc=$?
    [ $signal = KILL ] || [ $rc -eq 130 ] || fail "SIG$signal: exit code $rc"
    [ "$(echo "$workers" | wc -l)" -ge 2 ] || fail 'no workers were seen'
    tries=60
    for w in $workers; do
        while kill -0 "$w" 2>/dev/null && [ $((tries -= 1)) -gt 0 ]; do
            sleep 0.05
        done
        kill -0 "$w" 2>/dev/null && fail "SIG$signal: process $w outlives us"
    done
    nothing_left
done

# A store that is kept is used the next time.
expect 0 run -m "$model" --shares 0,1 --store kept --temp 0 -n 4 "$prompt"
[ -n "$(find kept -type f -size +100k)" ] || fail 'nothing is kept in --store'
expect 0 run -m "$model" --shares 0,1 --store kept --temp 0 -n 4 "$prompt"

expect 1 run -m nothing.gguf "$prompt"
err_has nothing.gguf
expect 1 run -m nothing.gguf --shares 1,1 "$prompt"
nothing_left
finish
