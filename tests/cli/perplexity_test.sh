# What the kernels' shortcuts cost: for every format that can be made here, the
# bundled model's perplexity with 8-bit activations and an f16 cache, within
# 0.5 % of exact arithmetic on the same weights (as F32, with an f32 cache), on
# every instruction set of this CPU. PERPLEXITY_CHUNKS (3) of 256 tokens.
. "$HEARTH_ROOT/tests/cli/lib.sh"
chunks=${PERPLEXITY_CHUNKS:-3}
text=$HEARTH_ROOT/models/heldout.txt
source=$HEARTH_ROOT/models/tale-f16.gguf

ppl() { # ISA FILE KV: or nothing where the CPU lacks the set
    HEARTH_ISA=$1 "$HEARTH" perplexity -m "$2" -f "$text" --chunks "$chunks" \
        --ctx 256 --kv "$3" --json 2>err |
        grep -o '"perplexity": *[0-9.]*' | tr -dc '0-9.'
}

isas=()
for isa in amx avx512 avx2 neon asimd; do
    [ -n "$(ppl $isa "$source" f16)" ] && isas+=($isa)
done
[ ${#isas[@]} -gt 0 ] || isas=(scalar)
printf 'perplexity of the bundled model, exact and on %s\n' "${isas[*]}"
for type in F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4_K Q5_K Q6_K; do
    "$REQUANTISE" "$source" $type model.gguf exact.gguf 2>err ||
        { fail "$type: $(cat err)"; continue; }
    exact=$(ppl "${isas[0]}" exact.gguf f32)
    line="$type $exact"
    for isa in "${isas[@]}"; do
        got=$(ppl $isa model.gguf f16)
        line="$line $got"
        awk -v a="$got" -v b="$exact" 'BEGIN { d = a / b - 1
            exit !(a > 1 && b > 1 && d < 0.005 && d > -0.005) }' ||
            fail "$type on $isa: perplexity $got, exact $exact"
    done
    printf '%s\n' "$line"
done
finish
