# Usage errors, help, version, completion: exit codes and where output goes.
. "$HEARTH_ROOT/tests/cli/lib.sh"

expect 2
out_empty
err_has 'hearth help'
expect 2 rnu
err_has 'did you mean run?'
expect 2 --nonsense
expect 2 run --tmep 1 x
err_has 'did you mean --temp?'
err_has 'Try: hearth help run'
out_empty
expect 2 run --temp warm x
expect 2 run --local 2 --shares 1,1 -m "$model" x
err_has 'give one of them'
expect 2 run --shares 1,1 x
err_has 'needs -m FILE'
expect 2 run --logit-bias 1:2 x
expect 2 run -m "$model" --shares 0,0 x
expect 2 serve
err_has '--model FILE is missing'
expect 2 serve -m "$model" --shares 1,1 --no-compute
expect 2 worker --join '' --code X
expect 2 worker --join host:port
err_has 'HOST[:PORT]'
expect 2 worker --join host:70000
expect 2 tokenize
expect 2 inspect
expect 2 completion tcsh
expect 2 help nonsense
expect 2 logits -m "$model" --tokens 1,x -o l
expect 2 plan -m "$model"
expect 2 bench -p x
expect 2 synth --shape tiny

expect 0 --help
out_has 'Exit codes'
err_empty
expect 0 help run
out_has '--max-tokens'
expect 0 run --help
out_has '--max-tokens'
expect 0 --version
out_has 'hearth '
expect 0 version --json
json version
expect 0 completion bash
bash -n out || fail 'bash completion does not parse'
expect 0 completion zsh
expect 0 completion fish
expect 0 help --man
out_has '.Dt HEARTH 1'
if command -v groff >/dev/null && [ -f /usr/share/groff/current/tmac/doc.tmac ]; then
    groff -mdoc -Tutf8 -ww -z out 2>man.err
    [ ! -s man.err ] || fail "man page: $(head -3 man.err)"
fi

# Configuration and environment reach the verbs, and their mistakes are named.
mkdir -p "$XDG_CONFIG_HOME/hearth"
echo 'colour = red' >"$XDG_CONFIG_HOME/hearth/config.ini"
expect 2 version
err_has 'config.ini:1: unknown key colour'
expect 0 help serve
expect 0 serve --help
HEARTH_CONFIG=/dev/null expect 0 version
HEARTH_CONFIG=/nonexistent expect 1 version
rm "$XDG_CONFIG_HOME/hearth/config.ini"
HEARTH_JSON=1 expect 0 version
json version
HEARTH_JSON=perhaps expect 2 version
err_has HEARTH_JSON

# Output that does not arrive is a failure, not a success.
"$HEARTH" help >/dev/full 2>err
[ $? -eq 1 ] || fail 'a full disk goes unnoticed'
err_has 'No space left'
"$HEARTH" help >&- 2>err
[ $? -eq 1 ] || fail 'a closed stdout goes unnoticed'
"$HEARTH" help --man 2>err | head -c 1 >/dev/null
case ${PIPESTATUS[0]} in 0 | 1) ;; *) fail "a closed pipe: ${PIPESTATUS[0]}" ;; esac

# Nobody is there.
expect 3 nodes
err_has 'hearth serve'
expect 3 nodes --json
out_empty
expect 3 pair
expect 3 revoke tablet
expect 3 run hello
err_has 'hearth serve'
finish
