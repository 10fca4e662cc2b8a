/* tokenizer_bpe.c - byte-level byte-pair encoding (Sennrich et al. 2016;
 * Radford et al. 2019).
 *
 * Works on bytes and token ids: the printable alphabet of the file is decoded
 * once, at open, so a merge rule is a pair of ids and needs no text. Rules
 * whose parts or result are no tokens can never apply and are left out.
 * Refuses files without merges and pre-tokenisers it does not know. */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"
#include "model/utf8.h"

#define FREE UINT64_MAX

static uint32_t place_of(const struct hth_tok__bpe *b, uint64_t pair)
{
    uint64_t h = (pair ^ pair >> 29) * 0x9E3779B97F4A7C15u;
    uint32_t i = (uint32_t)(h >> 32) & b->mask;

    while (b->rules[i].pair != FREE && b->rules[i].pair != pair)
        i = (i + 1) & b->mask;
    return i;
}

/* Token id of the alphabet text p[n]; scratch has HTH_TOKEN_BYTES_MAX. */
static uint32_t mapped_id(const struct hth_tok__vocab *v, const char *p,
                          size_t n, uint8_t *scratch, size_t *len)
{
    *len = n <= HTH_TOKEN_BYTES_MAX ? hth_tok__unmap(p, n, scratch) : SIZE_MAX;
    return *len == SIZE_MAX ? HTH_TOKEN_NONE : hth_tok__find(v, scratch, *len);
}

/* "left right": the alphabet has no space, so the first one parts them. */
static void add_rule(struct hth_tokenizer *t, uint32_t rank, struct hth_str s)
{
    uint8_t both[2 * HTH_TOKEN_BYTES_MAX];
    const char *gap = s.n > 1 ? memchr(s.p + 1, ' ', s.n - 1) : NULL;
    size_t cut, n, m;
    uint32_t left, right, id;
    struct hth_tok__merge_rule *rule;

    if (gap == NULL)
        return;
    cut = (size_t)(gap - s.p);
    left = mapped_id(&t->vocab, s.p, cut, both, &n);
    if (left == HTH_TOKEN_NONE)
        return;
    right = mapped_id(&t->vocab, gap + 1, s.n - cut - 1, both + n, &m);
    if (right == HTH_TOKEN_NONE)
        return;
    id = hth_tok__find(&t->vocab, both, n + m);
    if (id == HTH_TOKEN_NONE)
        return;
    rule = &t->bpe.rules[place_of(&t->bpe, (uint64_t)left << 32 | right)];
    if (rule->pair != FREE)
        return; /* of two the first has the better rank */
    *rule =
        (struct hth_tok__merge_rule){(uint64_t)left << 32 | right, rank, id};
}

static int load_rules(struct hth_tokenizer *t, const struct hth_gguf *g,
                      struct hth_err *err)
{
    struct hth_tok__bpe *b = &t->bpe;
    const struct hth_gguf_kv *kv;
    uint32_t places = 16, i;
    int rc = 0;

    kv = hth_tok__strings(g, "tokenizer.ggml.merges", HTH_MERGES_MAX, &rc, err);
    if (kv == NULL)
        return rc;
    while (places < 2 * kv->count)
        places *= 2;
    b->mask = places - 1;
    b->rules = malloc(places * sizeof *b->rules);
    if (b->rules == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for %llu merges",
                        (unsigned long long)kv->count);
    for (i = 0; i < places; i++)
        b->rules[i].pair = FREE;
    for (i = 0; i < kv->count; i++)
        add_rule(t, i, kv->strings[i]);
    return 0;
}

/* Some vocabularies have no token for bytes that valid UTF-8 never has. Such
 * a byte becomes U+FFFD, or the unknown token, or nothing. */
static void find_stand_in(struct hth_tokenizer *t)
{
    static const uint8_t text[3] = {0xEF, 0xBF, 0xBD};
    struct hth_tok__bpe *b = &t->bpe;
    uint32_t whole = hth_tok__find(&t->vocab, text, 3), i;

    if (whole == HTH_TOKEN_NONE)
        whole = t->vocab.unknown;
    for (i = 0; i < 3; i++) {
        b->stand_in[i] = t->vocab.byte_ids[text[i]];
        if (b->stand_in[i] == HTH_TOKEN_NONE)
            break;
    }
    b->stand_in_count = i == 3 ? 3 : 0;
    if (whole != HTH_TOKEN_NONE) {
        b->stand_in[0] = whole;
        b->stand_in_count = 1;
    }
}

int hth_tok__bpe_open(struct hth_tokenizer *t, const struct hth_gguf *g,
                      struct hth_err *err)
{
    struct hth_str pre = {"default", 7};
    int rc = hth_gguf_string(g, "tokenizer.ggml.pre", &pre, err);

    if (rc < 0 && rc != HTH_ENOTFOUND)
        return rc;
    if ((rc = hth_tok__pre_open(&t->bpe.pre, pre, err)) < 0 ||
        (rc = load_rules(t, g, err)) < 0)
        return rc;
    find_stand_in(t);
    return 0;
}

void hth_tok__bpe_close(struct hth_tok__bpe *b)
{
    free(b->rules);
    hth_tok__pre_close(&b->pre);
    memset(b, 0, sizeof *b);
}

/* ---- encoding ------------------------------------------------------------ */

static int push_byte(struct hth_tok__run *r, uint8_t byte)
{
    const struct hth_tok__bpe *b = &r->t->bpe;
    uint32_t id = r->t->vocab.byte_ids[byte], i;
    int rc = 0;

    if (id != HTH_TOKEN_NONE)
        return hth_tok__push(r, id);
    for (i = 0; i < b->stand_in_count && rc == 0; i++)
        rc = hth_tok__push(r, b->stand_in[i]);
    return rc;
}

static bool rule_of(const struct hth_tok__run *r,
                    const struct hth_tok__sym *left,
                    const struct hth_tok__sym *right,
                    struct hth_tok__pair *pair)
{
    const struct hth_tok__bpe *b = &r->t->bpe;
    const struct hth_tok__merge_rule *rule =
        &b->rules[place_of(b, (uint64_t)left->id << 32 | right->id)];

    if (rule->pair == FREE)
        return false;
    pair->order = rule->rank;
    pair->id = rule->id;
    return true;
}

static int push_syms(struct hth_tok__run *r, const uint8_t *word)
{
    uint32_t i = 0;
    int rc = 0;

    for (; i != HTH_TOKEN_NONE && rc == 0; i = r->syms[i].next) {
        const struct hth_tok__sym *s = &r->syms[i];

        rc = s->id != HTH_TOKEN_NONE ? hth_tok__push(r, s->id)
                                     : push_byte(r, word[s->start]);
    }
    return rc;
}

static int encode_word(struct hth_tok__run *r, const uint8_t *word, size_t n)
{
    const struct hth_tok__vocab *v = &r->t->vocab;
    uint32_t id, i;
    int rc = 0;

    if (n == 1)
        return push_byte(r, word[0]);
    if (r->t->bpe.pre.whole_words) {
        id = hth_tok__find(v, word, n);
        if (id != HTH_TOKEN_NONE)
            return hth_tok__push(r, id);
    }
    r->sym_count = 0;
    for (i = 0; i < n && rc == 0; i++)
        rc = hth_tok__sym_push(r, i, 1, v->byte_ids[word[i]]);
    if (rc == 0)
        rc = hth_tok__merge(r, rule_of);
    return rc < 0 ? rc : push_syms(r, word);
}

int hth_tok__bpe_text(struct hth_tok__run *r, const uint8_t *text, size_t n)
{
    size_t at = 0;
    int rc = 0;

    while (at < n && rc == 0) {
        size_t run = hth_utf8_valid(text + at, n - at);

        if (run > 0)
            rc = hth_tok__pre_split(r, text + at, run, encode_word);
        else
            rc = push_byte(r, text[at++]);
        at += run;
    }
    return rc;
}
