# lib.sh - sourced by the tests of the command line. Each runs in an empty
# directory; a failed expectation is printed and the test goes on, so that one
# run shows all of them.
set -u
bad=0
model=$HEARTH_ROOT/models/tale-q8_0.gguf

fail() {
    # The line of the test itself, however deep the helper that found it.
    printf 'FAIL %s:%s: %s\n' "${0##*/}" \
        "${BASH_LINENO[${#BASH_LINENO[@]} - 2]}" "$*"
    bad=1
}

# expect CODE ARGS...: run hearth with standard input as it is; output goes to
# ./out and ./err.
expect() {
    local want=$1 got
    shift
    "$HEARTH" "$@" >out 2>err
    got=$?
    [ $got -eq "$want" ] ||
        fail "hearth $*: exit code $got, not $want: $(head -c 300 err)"
}
out_is() { [ "$(cat out)" = "$1" ] || fail "stdout is \"$(head -c 300 out)\", not \"$1\""; }
out_has() { grep -qF -- "$1" out || fail "stdout lacks \"$1\": $(head -c 300 out)"; }
err_has() { grep -qF -- "$1" err || fail "stderr lacks \"$1\": $(head -c 300 err)"; }
out_empty() { [ ! -s out ] || fail "stdout should be empty: $(head -c 300 out)"; }
err_empty() { [ ! -s err ] || fail "stderr should be empty: $(head -c 300 err)"; }
json() { "$JSON" "$@" <out 2>json.err || fail "JSON: $(cat json.err): $(head -c 300 out)"; }
# With a coordinator whose log is serve.log, a worker's worker.log.
until_true() { # SECONDS COMMAND...
    local tries=$(($1 * 20))
    shift
    until "$@" >/dev/null 2>&1; do
        [ $((tries -= 1)) -gt 0 ] || {
            fail "gave up waiting for: $*; $(tail -5 serve.log worker.log)"
            exit 1
        }
        sleep 0.05
    done
}
ready() { "$HEARTH" nodes --json | grep -q '"ready":true'; }
finish() { exit $bad; }
