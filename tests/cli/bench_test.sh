# hearth bench and hearth profile: what they print, not how fast it is.
. "$HEARTH_ROOT/tests/cli/lib.sh"
export XDG_STATE_HOME=$PWD/state
few='-m '$model' -t 1 -r 2'

expect 0 bench $few -p 16,24 -n 4 -pg 8,2 -d 0,40
[ "$(grep -c '^| llama' out)" -eq 8 ] || fail "rows: $(cat out)"
for test in ' pp16 ' ' pp24 ' ' tg4 ' ' pp8+tg2 ' ' pp16 @ d40 ' ' tg4 @ d40 '; do
    out_has "$test"
done
err_empty

expect 0 bench $few -p 8 -n 3 -o json
json 0.n_prompt=8 0.n_gen=0 1.n_gen=3 0.ranks=1 0.threads=1 '0.samples_ts=[2]'
expect 0 bench $few -p 8 -n 0 -o jsonl --shares 1,1
json n_prompt=8 ranks=1,1
expect 0 bench $few -p 8 -n 3 -o csv
[ "$(wc -l <out)" -eq 3 ] || fail "csv: $(cat out)"
[ "$(awk -F, 'NR > 1 && $17 > 0' out | wc -l)" -eq 2 ] || fail "csv rates: $(cat out)"
expect 0 bench -m "$model" -m "$HEARTH_ROOT/models/tale-f16.gguf" -t 1,2 -r 1 -p 4 -n 0
[ "$(grep -c ' pp4 ' out)" -eq 4 ] || fail "models and threads: $(cat out)"

# Weights that stream are in every format, and rows of a prompt share them.
little="-m stream.gguf -t 1 -r 1 --memory 24MiB --store packed"
expect 0 synth --type Q8_0 -o stream.gguf \
    --shape d=512,layers=12,heads=8,kv=4,ff=2048,vocab=2048
expect 0 bench $little -p 0 -n 4
out_has 'streamed MiB/t'
expect 0 bench $little -p 0 -n 4 -o json
json 0.pinned_bytes 0.streamed_bytes 0.read_bytes_per_token \
    0.read_bytes_per_s 0.stall_ns_per_token 0.predicted_ts
expect 0 bench $little -p 0 -n 4 -o jsonl
json pinned_bytes predicted_ts
expect 0 bench $little -p 64,256 -n 4 -o csv
awk -F, 'NR > 1 && !($19 > 0 && $20 > 0 && $21 > 0) { exit 1 }' out ||
    fail "csv: weights that stream: $(cat out)"
# Columns: n_prompt 12, streamed 20, read per token 21. A chunk passes over each
# piece once; in so little memory chunks have 32 rows.
awk -F, 'NR > 1 && $12 > 0 && $21 * 24 > $20 { exit 1 }' out ||
    fail "rows of a prompt do not share what is read: $(cat out)"

# Without a profile only reading is known, and that is said.
expect 0 bench $few -p 8 -n 3 --ops -o json
err_has 'hearth profile'
json 0.ops.0.op='norms, residual' 1.ops.0.op='norms, residual'
# The plain read beside a test that generates is of as many bytes as a step.
grep -q '"bytes_per_step":\([0-9.]*\),.*"plain_read_bytes":\1}' out ||
    fail "a plain read of other bytes than a step's: $(cat out)"
expect 1 profile --show
expect 0 profile --figure-ms 1 --types Q8_0,F32 -t 1 --disk "$model" --json
json isa 'read=[1]' 'formats=[2]' formats.1.type=F32
expect 0 profile --show
out_has 'Q8_0'
expect 0 bench $few -p 8 -n 3 --ops
err_empty
out_has 'between steps'
out_has 'GFLOP/s'
expect 0 profile --figure-ms 1 --types Q4_0 -t 1 --dry
out_has 'Q4_0'
expect 0 profile --show
out_has 'Q8_0'

# Load on a service of our own, closed and open loop.
for port in 48310 48410 48510 48610; do
    "$HEARTH" serve -m "$model" --shares 1 --threads 1 --bind 127.0.0.1 \
        --port $port >join 2>serve.log &
    serve=$!
    tries=100
    until [ -s join ] || ! kill -0 $serve 2>/dev/null ||
        [ $((tries -= 1)) -eq 0 ]; do sleep 0.1; done
    [ -s join ] && break
    kill $serve 2>/dev/null
    wait $serve
done
[ -s join ] || fail "no coordinator: $(cat serve.log)"
load="--http 127.0.0.1:$((port + 10)) -p 24 -n 6"
expect 0 bench serve $load --requests 6 --concurrency 3 -o json
json completed=6 failed=0 total_output_tokens=36 total_input_tokens=144 \
    max_concurrency=3 mean_ttft_ms p99_e2el_ms 'ttfts=[6]' 'itls=[6]'
expect 2 bench serve one-too-many
expect 0 bench serve $load --requests 5 --rate 100 --goodput e2el:600000
out_has '5 completed, 0 failed'
out_has 'tpot'
expect 0 bench -p 8 -n 2 -r 1 -o json
json 0.n_prompt=8 0.model_filename=tale-q8_0.gguf
expect 1 bench -p 999999 -n 0 -r 1
kill $serve
wait $serve
expect 3 bench serve $load --requests 1
expect 2 bench serve --goodput fast
expect 2 bench serve -p 0

expect 2 bench $few -p 0 -n 0
err_has 'nothing to measure'
expect 2 bench $few -pg 1,2,3
expect 2 bench --shares 1,1 -p 8
err_has 'needs -m FILE'
expect 2 profile --types Q9_9
err_has 'Q4_0'
expect 3 bench --state-dir nobody -p 8 -n 0 -r 1
expect 1 bench -m nothing.gguf
err_has nothing.gguf
finish
