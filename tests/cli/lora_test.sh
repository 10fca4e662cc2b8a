# Adapters on the command line: made, used, over ranks, refused.
. "$HEARTH_ROOT/tests/cli/lib.sh"
exec </dev/null

expect 0 synth --lora "$model" --rank 8 --seed 1 -o a.gguf
out_empty
err_empty
expect 0 inspect a.gguf
out_has adapter
expect 2 synth -o b.gguf
err_has "--shape"
expect 2 synth --shape tiny --lora "$model" -o b.gguf

run() { expect 0 run -m "$model" --temp 0 -n 16 --threads 1 --kv f32 "$@"; }
run "The old door"
plain=$(cat out)
run --lora a.gguf "The old door"
adapted=$(cat out)
[ "$plain" != "$adapted" ] || fail "an adapter that changes nothing"
run --lora a.gguf:0 "The old door"
out_is "$plain"
run --lora a.gguf:0.5 --lora again=a.gguf:0.5 "The old door"
out_is "$adapted"
run --lora mine=a.gguf:1.0 --shares 2,1 --wire f32 "The old door"
out_is "$adapted"

# The same of a conversation; bench measures with it.
talk() {
    printf 'The old door\n' >line
    expect 0 chat -m "$model" --temp 0 -n 16 --threads 1 --kv f32 "$@" <line
}
talk
plain=$(cat out)
talk --lora a.gguf
[ "$plain" != "$(cat out)" ] || fail "an adapter that changes nothing in chat"
talk --lora a.gguf:0
out_is "$plain"
expect 0 bench -m "$model" -p 8 -n 2 -r 1 --threads 1 --lora a.gguf -o csv
expect 1 bench -m "$model" -p 8 -n 2 -r 1 --lora nowhere.gguf
err_has nowhere.gguf

expect 1 run -m "$model" --lora nowhere.gguf hi
err_has nowhere.gguf
expect 1 run -m "$model" --lora "$model" hi
err_has "no adapter"
expect 2 run -m "$model" --lora "a b=a.gguf" hi
err_has "name"
expect 1 run -m "$model" --lora a.gguf --lora a.gguf hi
err_has "already"
finish
