# Verbs that look at a model file: inspect, tokenize, detokenize, plan, synth.
. "$HEARTH_ROOT/tests/cli/lib.sh"

ids='359 730 1531 279'
printf 'The door opened and' >text
expect 0 tokenize -m "$model" <text
out_is "$ids"
err_empty
expect 0 tokenize -m "$model" --json <text
json 0=359 3=279
expect 0 detokenize -m "$model" $ids
out_is 'The door opened and'
echo "$ids" >ids
expect 0 detokenize -m "$model" <ids
out_is 'The door opened and'
expect 1 detokenize -m "$model" 2048
err_has 'ids go from 0 to 2047'
expect 1 detokenize -m "$model" -- -1
expect 0 tokenize -m "$model" </dev/null
out_is ''

# Any text comes back as it was.
head -c 20000 "$HEARTH_ROOT/models/heldout.txt" >text
expect 0 tokenize -m "$model" <text
mv out ids
expect 0 detokenize -m "$model" <ids
cmp -s out text || fail 'detokenize does not give the text back'

expect 1 tokenize -m nothing.gguf <text
err_has nothing.gguf
echo 'not a model' >junk.gguf
expect 1 inspect junk.gguf
err_has junk.gguf
head -c 100000 "$model" >cut.gguf
expect 1 inspect cut.gguf
expect 1 plan -m cut.gguf --shares 1,1

expect 0 inspect "$model"
out_has 'llama.block_count'
expect 0 inspect "$model" --json
json

expect 0 plan -m "$model" --shares 0,2,1
out_has '2 x 6'
expect 0 plan -m "$model" --shares 0,2,1 --wire f32 --json
json ranks=[3] ranks.0.weight_bytes=0 payload_bytes_per_token=12288 links=2
expect 0 plan -m "$model" --shares 1 --json
json payload_bytes_per_token=0
expect 2 plan -m "$model" --shares 1,-1

expect 0 synth --shape tiny --type Q8_0 -o tiny.gguf
out_empty
expect 0 inspect tiny.gguf --json
json
expect 0 tokenize -m tiny.gguf <text
mv out ids
expect 0 detokenize -m tiny.gguf <ids
cmp -s out text || fail 'the synthetic tokenizer does not give the text back'
expect 0 synth --shape tiny --type Q8_0 -o again.gguf
cmp -s tiny.gguf again.gguf || fail 'the same seed gives another file'
expect 0 synth --shape tiny --type Q8_0 --seed 2 -o other.gguf
cmp -s tiny.gguf other.gguf && fail 'another seed gives the same file'
expect 2 synth --shape gigantic -o x.gguf
expect 2 synth --shape tiny --type Q9 -o x.gguf
expect 1 synth --shape tiny -o nowhere/x.gguf
err_has nowhere
[ -z "$(ls | grep -E 'part|^x\.gguf')" ] || fail 'a failed synth leaves files'
finish
