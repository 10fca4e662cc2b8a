# Conversations in the terminal, and templates on the command line.
. "$HEARTH_ROOT/tests/cli/lib.sh"

# Lines to type. No pipes into expect: a failure in one would be lost.
enter() { printf '%s\n' "$@" >in; }

# Entries from a file: answers on standard output, the rest on standard error.
enter '/set parameter temperature 0' 'Hello there' '/show messages' \
    '"""two' 'lines"""' "/save $PWD/talk.json" '/bye'
expect 0 chat -m "$model" -n 8 -v <in
err_has 'Set temperature to 0.'
err_has 'user: Hello there'
err_has 'eval count:           8 tokens'
err_has 'Saved to'
[ "$(grep -c '"role": "assistant"' talk.json)" = 2 ] ||
    fail "talk.json: $(cat talk.json)"
grep -qF 'two\nlines' talk.json || fail "lines: $(cat talk.json)"
mv out first

# A conversation that was kept goes on where it ended, and the same entries
# give the same answers.
enter "/load $PWD/talk.json" '/show messages' '/bye'
expect 0 chat -m "$model" <in
err_has 'user: Hello there'
out_empty
enter 'Hello there' '"""two' 'lines"""'
expect 0 chat -m "$model" -n 8 --temp 0 <in
cmp -s out first || fail "another answer: $(cat out) not $(cat first)"

# Held to JSON and free again; what the coordinator tells.
enter '/set format xml' '/set format json' '/show info' 'The door' \
    '/set noformat' 'The door' /bye
expect 0 chat -m "$model" -n 60 --temp 0 --ctx 2048 <in
err_has 'Usage: /set format json'
err_has 'Answers are JSON objects'
err_has 'Answers are free text'
err_has 'context     2048 tokens'
err_has 'on 1 device'
case $(head -c 1 out) in
{) ;;
*) fail "no JSON object: $(cat out)" ;;
esac
[ "$(grep -c '^{' out)" = 1 ] || fail "the second is held too: $(cat out)"

# Mistakes are told and change nothing.
enter /nonsense '/set parameter nonsense 1' '/set parameter top_p 7' \
    '/load nowhere' /bye
expect 0 chat -m "$model" <in
err_has 'Unknown command /nonsense.'
err_has 'There is no parameter nonsense'
err_has 'top_p goes from 0 to 1.'
out_empty
expect 3 chat </dev/null

# Ctrl-C stops the answer and not the conversation; the second one leaves.
(printf 'Hello\n'; sleep 30) |
    "$HEARTH" chat -m "$model" -n 100000 --ctx 2048 >out 2>err &
pid=$!
for _ in $(seq 300); do
    [ -s out ] && break
    sleep 0.1
done
kill -INT $pid
wait $pid
[ -s out ] || fail 'no answer to interrupt'

# At a terminal, which `script` makes, lines end between words; the words are
# those that a file gets.
if command -v script >/dev/null; then
    enter 'The door' /bye
    expect 0 chat -m "$model" -n 60 --temp 0 <in
    tr -s ' \n' '\n\n' <out >flat
    for columns in 24 60; do
        COLUMNS=$columns TERM=xterm script -qec \
            "'$HEARTH' chat -m '$model' -n 60 --temp 0 <in 2>err" \
            /dev/null </dev/null | tr -d '\r' >out
        [ "$(wc -L <out)" -le $columns ] || fail "$columns columns: $(cat out)"
        tr -s ' \n' '\n\n' <out | cmp -s - flat ||
            fail "other words: $(cat out)"
    done
    [ "$(wc -l <out)" -gt 1 ] || fail "one line: $(cat out)"
    # What is typed is UTF-8 whatever the locale.
    printf '/set system gr\303\274n\r/save %s\r/bye\r' "$PWD/typed.json" |
        LC_ALL=C TERM=xterm script -qec "'$HEARTH' chat -m '$model'" \
            /dev/null >out
    grep -qF "$(printf 'gr\303\274n')" typed.json ||
        fail "typed: $(cat typed.json out)"
    # Ctrl-G: the entry goes to the editor and comes back.
    mkdir tmp
    printf '%s\n' '#!/bin/sh' 'stat -c %a "$1" >mode' 'cat "$1" >given' \
        'printf "one\\ntwo\\n" >"$1"' >ed
    chmod +x ed
    printf 'draft\a\r/save %s\r/bye\r' "$PWD/edited.json" |
        VISUAL="$PWD/ed" TMPDIR="$PWD/tmp" TERM=xterm \
            script -qec "'$HEARTH' chat -m '$model' -n 4" /dev/null >out
    [ "$(cat mode given)" = "600
draft" ] || fail "the editor got: $(cat mode given)"
    grep -qF '"one\ntwo"' edited.json || fail "edited: $(cat edited.json out)"
    [ -z "$(ls tmp | grep entry)" ] || fail "left behind: $(ls tmp)"
else
    echo 'SKIPPED: a terminal: no script(1)'
fi

# Templates.
case='{"messages":[{"role":"user","content":"hi"}],"add_generation_prompt":true,
"bos_token":"<s>","kwargs":{"x":[1,"é"]}}'
enter "$case"
printf '%s' '{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}
{% endfor %}{{ x|tojson }} {{ strftime_now("%Y") }}' >t.jinja
expect 0 template --file t.jinja --now '2026-01-02 03:04:05' <in
out_is '<s>[user] hi
[1, "é"] 2026'
printf '%s' '{{ raise_exception("no way") }}' >t.jinja
expect 1 template --file t.jinja <in
err_has 'no way'
expect 2 template <in
expect 2 template --file t.jinja --now yesterday <in
printf '/stats\nThe door\n/stats\n/nodes\n' >line
expect 0 chat -m "$model" -n 4 --threads 1 <line
err_has "There is no answer yet."
err_has "eval count:           4 tokens"
err_has "NAME"
err_has "ready, context"
finish
