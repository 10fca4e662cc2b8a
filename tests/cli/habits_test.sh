# What people and scripts expect of a program in a terminal and in a pipe: check
# 15 of the interfaces' list, sentence by sentence.
. "$HEARTH_ROOT/tests/cli/lib.sh"

esc=$(printf '\033')
plain() { # FILE...: no escape sequence, no carriage return, in any of them
    ! grep -q "[$esc$(printf '\r')]" "$@" || fail "control characters in $*"
}

# A pipe in, a file out: nothing on standard error, data only on the other.
echo hi | "$HEARTH" run -m "$model" -n 12 >out 2>err || fail "echo hi | run: $?"
[ -s out ] || fail 'no answer'
err_empty
plain out

# Into a pipe.
"$HEARTH" run -m "$model" -n 12 --temp 0 hi 2>err | cat >piped
[ "${PIPESTATUS[0]}" -eq 0 ] || fail 'run | cat'
expect 0 run -m "$model" -n 12 --temp 0 hi
cmp -s out piped || fail 'a pipe gets another answer than a file'
plain piped err

# On a terminal, with and without colours wanted.
if command -v script >/dev/null; then
    for env in NO_COLOR=1 TERM=dumb; do
        env "$env" script -qec "'$HEARTH' run -m '$model' -n 12 --temp 0 hi" \
            /dev/null >tty </dev/null || fail "on a terminal with $env"
        ! grep -q "$esc" tty || fail "$env, and escape sequences all the same"
        tr -d '\r' <tty | grep -qF "$(head -1 out)" || fail "$env: no answer"
    done
else
    echo 'SKIPPED on a terminal: no script command (package bsdutils)'
fi
NO_COLOR=1 expect 0 help
plain out
for shell in bash zsh fish; do
    expect 0 completion $shell
    mv out "completion.$shell"
done
bash -n completion.bash || fail 'completion bash | bash -n'
for shell in zsh fish; do
    ! command -v $shell >/dev/null || $shell -n completion.$shell ||
        fail "completion $shell | $shell -n"
done

# The manual page, by whichever checker is here.
expect 0 help --man
mv out hearth.1
if command -v mandoc >/dev/null; then
    mandoc -T lint -W warning hearth.1 >lint 2>&1 || fail "$(head -3 lint)"
elif command -v man >/dev/null && command -v groff >/dev/null; then
    LC_ALL=C.UTF-8 MANROFFSEQ='' man --warnings -E UTF-8 -l -Tutf8 -Z \
        ./hearth.1 2>lint >/dev/null
    [ ! -s lint ] || fail "man -l: $(head -3 lint)"
else
    echo 'SKIPPED man -l: no mandoc, no man with groff'
fi

# A coordinator with a worker: lists for programs, and Ctrl-C.
port=$((20000 + RANDOM))
pids=()
trap 'kill -9 "${pids[@]}" 2>/dev/null; wait 2>/dev/null' EXIT
idle() { "$HEARTH" nodes --json | grep -q '"running":0'; }
"$HEARTH" serve -m "$model" --shares 1,1 --threads 1 --bind 127.0.0.1 \
    --port $port >join 2>serve.log &
pids+=($!)
until_true 20 test -s join
HEARTH_CODE=$(sed 's/.*--code //' join) "$HEARTH" worker --threads 1 \
    --join 127.0.0.1:$port --name tablet --state-dir w1 2>worker.log &
pids+=($!)
until_true 30 ready

"$HEARTH" nodes --json 2>err | cat >out
err_empty
plain out
if command -v jq >/dev/null; then
    [ "$(jq -r '.nodes[1].name' out)" = tablet ] || fail 'nodes --json | jq'
else
    json nodes.1.name=tablet
    echo 'SKIPPED jq: not installed; the JSON was read without it'
fi
expect 0 nodes
plain out

rm -f out
env --default-signal=INT "$HEARTH" run -n 1900 --ignore-end \
    'A long story' >out 2>err &
run=$!
until_true 30 test -s out
kill -INT $run
wait $run
rc=$?
[ $rc -eq 130 ] || fail "Ctrl-C in the middle of an answer: exit code $rc"
until_true 10 idle
expect 0 run -n 4 hi
finish
