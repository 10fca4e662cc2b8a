/* tokenizer_spm.c - SentencePiece-style encoding (Kudo and Richardson 2018):
 * characters are merged to the neighbour pair whose token has the best score,
 * until no pair is a token; what is no token becomes bytes "<0xXX>", or the
 * unknown token. A literal U+2581 is a space, as there. */
#include <stdlib.h>
#include <string.h>

#include "model/tokenizer_internal.h"
#include "model/utf8.h"

/* A float's order as an integer's, reversed: the best score comes first. */
static uint32_t order_of(float score)
{
    uint32_t bits;

    score += 0.0f; /* -0 is 0 */
    memcpy(&bits, &score, sizeof bits);
    bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return ~bits;
}

static bool token_of(const struct hth_tok__run *r,
                     const struct hth_tok__sym *left,
                     const struct hth_tok__sym *right,
                     struct hth_tok__pair *pair)
{
    const struct hth_tok__vocab *v = &r->t->vocab;

    pair->id = hth_tok__find(v, r->text + left->start, left->len + right->len);
    if (pair->id == HTH_TOKEN_NONE)
        return false;
    pair->order = order_of(v->scores[pair->id]);
    return true;
}

static int push_sym(struct hth_tok__run *r, const struct hth_tok__sym *s)
{
    const struct hth_tok__vocab *v = &r->t->vocab;
    uint32_t i, id;
    int rc = 0;

    if (s->id != HTH_TOKEN_NONE)
        return hth_tok__push(r, s->id);
    for (i = 0; i < s->len && rc == 0; i++) {
        id = v->byte_ids[r->text[s->start + i]];
        if (id == HTH_TOKEN_NONE)
            id = v->unknown;
        if (id != HTH_TOKEN_NONE)
            rc = hth_tok__push(r, id);
    }
    return rc;
}

/* Copy text behind an optional space, U+2581 as a space; never longer. */
static int prepare(struct hth_tok__run *r, const uint8_t *text, size_t n,
                   bool space, size_t *len)
{
    size_t at, count = 0;

    if (r->copy_cap < n + 1) {
        void *p = realloc(r->copy, n + 1);

        if (p == NULL)
            return hth_fail(r->err, HTH_ENOMEM,
                            "tokenize: no memory for %zu bytes", n + 1);
        r->copy = p;
        r->copy_cap = n + 1;
    }
    if (space)
        r->copy[count++] = ' ';
    for (at = 0; at < n; at++) {
        if (n - at >= 3 && memcmp(text + at, "\xE2\x96\x81", 3) == 0) {
            r->copy[count++] = ' ';
            at += 2;
        } else {
            r->copy[count++] = text[at];
        }
    }
    r->text = r->copy;
    *len = count;
    return 0;
}

/* Where the word at text[at] ends. If no token has a space behind something
 * else, nothing can be merged across such a place, so cutting there changes
 * no id and keeps the merge state as small as a word. */
static size_t word_end(const struct hth_tok__run *r, size_t at, size_t len)
{
    if (!r->t->vocab.space_breaks)
        return len;
    for (at++; at < len; at++)
        if (r->text[at] == ' ' && r->text[at - 1] != ' ')
            break;
    return at;
}

static int encode_word(struct hth_tok__run *r, size_t at, size_t end)
{
    size_t c;
    uint32_t i;
    int rc = 0;

    for (r->sym_count = 0; at < end && rc == 0; at += c) {
        if (hth_utf8_scan(r->text + at, end - at, &c) != HTH_UTF8_VALID)
            c = 1;
        rc = hth_tok__sym_push(r, (uint32_t)at, (uint32_t)c,
                               hth_tok__find(&r->t->vocab, r->text + at, c));
    }
    if (rc == 0)
        rc = hth_tok__merge(r, token_of);
    for (i = 0; rc == 0 && i != HTH_TOKEN_NONE; i = r->syms[i].next)
        rc = push_sym(r, &r->syms[i]);
    return rc;
}

int hth_tok__spm_text(struct hth_tok__run *r, const uint8_t *text, size_t n)
{
    size_t len = 0, at, end;
    int rc = prepare(r, text, n, r->t->space_prefix, &len);

    for (at = 0; at < len && rc == 0; at = end) {
        end = word_end(r, at, len);
        rc = encode_word(r, at, end);
    }
    return rc;
}
