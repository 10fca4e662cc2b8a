/* synth_vocab.c - a byte-level BPE vocabulary of any size, made up.
 *
 * The 256 bytes come first, as in GPT-2's vocabulary, so that every text has
 * tokens. Then merges, in an order that needs no search: take a queue of
 * beginnings, at first a space and the letters; each beginning with each
 * letter behind it is a merge and joins the queue. So merge k joins beginning
 * k / 26 and letter k % 26, all results differ, and 32000 tokens reach words
 * of three letters. Letters go by their frequency in English, so that small
 * vocabularies merge something too. Three control tokens close the list.
 *
 * Fails only for lack of memory. */
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "model/synth_internal.h"

#define BYTES 256u
#define CONTROLS 3u
#define LETTERS 26u
#define BEGINNINGS (LETTERS + 1u) /* a space and the letters */
/* 256 + 27 * 26 * (1 + 26 + 26^2 + 26^3) tokens are more than there can be, so
 * a token has at most a space (two bytes as it is written) and 5 letters. */
#define TEXT_SIZE 8u
#define MERGE_SIZE (2u * TEXT_SIZE)

static const char g_letters[] = "etaoinshrdlucmfwypvbgkjqxz";

static const char g_template[] =
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

struct vocab {
    uint32_t count;                 /* tokens */
    uint32_t merges;                /* of them by merging */
    struct hth_str *tokens;         /* [count], owned */
    struct hth_str *rules;          /* [merges], owned; "left right" */
    int32_t *types;                 /* [count], owned; as in GGUF */
    char (*texts)[TEXT_SIZE];       /* [BYTES + merges], owned */
    char (*rule_texts)[MERGE_SIZE]; /* [merges], owned */
};

/* The bytes that do not print in Latin-1. */
static bool is_other(uint32_t byte)
{
    return byte < 0x21 || (byte > 0x7e && byte < 0xa1) || byte == 0xad;
}

/* A byte that prints stands for itself, the others, in order, for characters
 * from U+0100 on (Radford et al. 2019); written as UTF-8. */
static size_t write_byte(uint32_t byte, uint32_t others, char *dst)
{
    uint32_t c = is_other(byte) ? 0x100 + others : byte;

    if (c < 0x80) {
        dst[0] = (char)c;
        return 1;
    }
    dst[0] = (char)(0xc0 | c >> 6);
    dst[1] = (char)(0x80 | (c & 0x3f));
    return 2;
}

/* Token id is the byte: no vocabulary's order matters but its own. */
static void add_bytes(struct vocab *v)
{
    uint32_t others = 0;

    for (uint32_t b = 0; b < BYTES; b++) {
        v->tokens[b].p = v->texts[b];
        v->tokens[b].n = write_byte(b, others, v->texts[b]);
        others += is_other(b);
    }
}

/* Beginning i of the queue: a space, the letters, then every merge. */
static struct hth_str beginning(const struct vocab *v, uint32_t i)
{
    if (i == 0)
        return v->tokens[(uint32_t)' '];
    if (i < BEGINNINGS)
        return v->tokens[(uint32_t)g_letters[i - 1]];
    return v->tokens[BYTES + i - BEGINNINGS];
}

static void add_merge(struct vocab *v, uint32_t k)
{
    struct hth_str left = beginning(v, k / LETTERS);
    char letter = g_letters[k % LETTERS];
    char *text = v->texts[BYTES + k];
    char *rule = v->rule_texts[k];

    HTH_ASSERT(left.n + 1 <= TEXT_SIZE);
    memcpy(text, left.p, left.n);
    text[left.n] = letter;
    v->tokens[BYTES + k] = (struct hth_str){text, left.n + 1};
    memcpy(rule, left.p, left.n);
    rule[left.n] = ' ';
    rule[left.n + 1] = letter;
    v->rules[k] = (struct hth_str){rule, left.n + 2};
}

static void add_controls(struct vocab *v)
{
    static const struct hth_str texts[CONTROLS] = {
        {"<|endoftext|>", 13}, {"<|im_start|>", 12}, {"<|im_end|>", 10}};

    for (uint32_t i = 0; i < CONTROLS; i++)
        v->tokens[v->count - CONTROLS + i] = texts[i];
}

static void put_keys(struct hth_gguf_writer *w, const struct vocab *v)
{
    uint32_t first_control = v->count - CONTROLS;

    for (uint32_t i = 0; i < v->count; i++)
        v->types[i] = i < first_control ? 1 : 3; /* normal, control */
    hth_gguf_put_string(w, "tokenizer.ggml.model", "gpt2");
    hth_gguf_put_string(w, "tokenizer.ggml.pre", "gpt-2");
    hth_gguf_put_strings(w, "tokenizer.ggml.tokens", v->tokens, v->count);
    hth_gguf_put_i32s(w, "tokenizer.ggml.token_type", v->types, v->count);
    hth_gguf_put_strings(w, "tokenizer.ggml.merges", v->rules, v->merges);
    hth_gguf_put_u32(w, "tokenizer.ggml.bos_token_id", first_control);
    hth_gguf_put_u32(w, "tokenizer.ggml.eos_token_id", first_control + 2);
    hth_gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true);
    hth_gguf_put_string(w, "tokenizer.chat_template", g_template);
}

static void vocab_fini(struct vocab *v)
{
    free(v->tokens);
    free(v->rules);
    free(v->types);
    free(v->texts);
    free(v->rule_texts);
}

static bool vocab_init(struct vocab *v, uint32_t count)
{
    *v = (struct vocab){.count = count, .merges = count - BYTES - CONTROLS};
    v->tokens = calloc(count, sizeof *v->tokens);
    v->types = calloc(count, sizeof *v->types);
    v->texts = calloc(BYTES + v->merges, sizeof *v->texts);
    v->rules = calloc(v->merges + 1, sizeof *v->rules);
    v->rule_texts = calloc(v->merges + 1, sizeof *v->rule_texts);
    return v->tokens != NULL && v->types != NULL && v->texts != NULL &&
           v->rules != NULL && v->rule_texts != NULL;
}

int hth__synth_put_vocab(struct hth_gguf_writer *w, uint32_t vocab,
                         struct hth_err *err)
{
    struct vocab v;
    int rc = 0;

    HTH_ASSERT(vocab >= SYNTH_VOCAB_MIN && vocab <= HTH_VOCAB_MAX);
    if (vocab_init(&v, vocab)) {
        add_bytes(&v);
        for (uint32_t k = 0; k < v.merges; k++)
            add_merge(&v, k);
        add_controls(&v);
        put_keys(w, &v);
    } else {
        rc = hth_fail(err, HTH_ENOMEM, "out of memory for a vocabulary of %u",
                      vocab);
    }
    vocab_fini(&v);
    return rc;
}
