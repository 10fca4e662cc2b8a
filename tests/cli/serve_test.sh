# serve, worker, pair, nodes, run, revoke as processes on loopback: outputs and
# exit codes. What goes wrong on a network is tests/cluster's business.
. "$HEARTH_ROOT/tests/cli/lib.sh"

port=$((20000 + RANDOM))
pids=()
stop_all() {
    for p in "${pids[@]}"; do kill -9 "$p" 2>/dev/null; done
    wait 2>/dev/null
}
trap stop_all EXIT


"$HEARTH" serve -m "$model" --shares 1,1 --threads 1 --bind 127.0.0.1 \
    --port $port >join 2>serve.log &
serve=$!
pids+=($serve)
until_true 20 test -s join
line=$(cat join)
case $line in
"hearth worker --join 127.0.0.1:$port --code "????-????) ;;
*) fail "join line: $line" ;;
esac

# The state directory is in use, and so is the port.
expect 1 serve -m "$model" --bind 127.0.0.1 --port $((port + 2))
expect 1 serve -m "$model" --bind 127.0.0.1 --port $port --state-dir other
err_has $port

# Nobody has joined: a request waits, says for whom, and can be left.
timeout -s INT 2 "$HEARTH" run hello >out 2>err
rc=$?
[ $rc -eq 124 ] || [ $rc -eq 130 ] || fail "an interrupted wait: $rc"
out_empty

expect 4 worker --join 127.0.0.1:$port --code AAAA-AAAA --state-dir w0
err_has code
HEARTH_CODE=${line##* } "$HEARTH" worker --join 127.0.0.1:$port \
    --name tablet --threads 1 --state-dir w1 2>worker.log &
worker=$!
pids+=($worker)
until_true 30 ready
expect 0 nodes
out_has tablet
err_empty
expect 0 nodes --json
json ready=true nodes=[2] nodes.1.name=tablet nodes.1.rank=1 nodes.1.state=ready
greedy=$(sed -n 's/.*"greedy": \[\([^]]*\)\].*/\1/p' "${model%.gguf}.json" | tr -d ,)
expect 0 run --temp 0 -n 48 --ids 'The door opened and'
out_is "$greedy"
err_empty
expect 0 pair --json
json code host port=$port expires_s
expect 0 pair
out_has "--join 127.0.0.1:$port --code "

expect 1 revoke nobody
err_has nobody
expect 0 revoke tablet
out_empty
{ wait $worker; } 2>/dev/null
[ $? -eq 4 ] || fail 'a revoked worker does not end with 4'
expect 4 worker --join 127.0.0.1:$port --state-dir w1
kill -TERM $serve
{ wait $serve; } 2>/dev/null
rc=$?
[ $rc -eq 0 ] || fail "serve ends with $rc after SIGTERM"
expect 3 nodes
finish
