/* token_index.c - a tokenizer's tokens sorted by their bytes, so that a walk
 * through them shares the work on common beginnings. */
#include <stdlib.h>
#include <string.h>

#include "model/grammar_internal.h"

static int alloc_index(struct hth_token_index *x, const struct hth_tokenizer *t)
{
    x->vocab = hth_tokenizer_vocab(t);
    x->at = calloc((size_t)x->vocab + 1, sizeof *x->at);
    x->sorted = calloc((size_t)x->vocab + 1, sizeof *x->sorted);
    x->shared = calloc((size_t)x->vocab + 1, sizeof *x->shared);
    x->ends = calloc((size_t)x->vocab + 1, sizeof *x->ends);
    return x->at != NULL && x->sorted != NULL && x->shared != NULL &&
                   x->ends != NULL
               ? HTH_OK
               : HTH_ENOMEM;
}

/* What a grammar matches a token with. A control token is a byte that no text
 * has and then its name, so that only a grammar which asks for the token itself
 * gets it; a token that holds that byte is never part of a text. */
static size_t bytes_of(const struct hth_tokenizer *t, uint32_t id,
                       char text[HTH_TOKEN_BYTES_MAX + 1])
{
    size_t n;

    if (hth_tokenizer_is_end(t, id))
        return 0;
    text[0] = (char)HTH_GRAMMAR_CONTROL;
    if (hth_tokenizer_is_special(t, id)) {
        n = hth_token_bytes(t, id, true, text + 1, HTH_TOKEN_BYTES_MAX);
        return n > 0 ? n + 1 : 0;
    }
    n = hth_token_bytes(t, id, false, text, HTH_TOKEN_BYTES_MAX);
    return memchr(text, HTH_GRAMMAR_CONTROL, n) != NULL ? 0 : n;
}

/* The bytes of all tokens; run once to count, once to copy. */
static uint64_t copy_bytes(struct hth_token_index *x,
                           const struct hth_tokenizer *t)
{
    char text[HTH_TOKEN_BYTES_MAX + 1];
    uint64_t total = 0;

    for (uint32_t id = 0; id < x->vocab; id++) {
        size_t n = bytes_of(t, id, text);

        x->at[id] = (uint32_t)total;
        if (x->bytes != NULL && n > 0)
            memcpy(x->bytes + total, text, n);
        total += n;
    }
    x->at[x->vocab] = (uint32_t)total;
    return total;
}

struct text {
    const uint8_t *p;
    uint32_t n, id;
};

static int by_bytes(const void *a, const void *b)
{
    const struct text *x = a, *y = b;
    int d = memcmp(x->p, y->p, x->n < y->n ? x->n : y->n);

    if (d != 0)
        return d;
    if (x->n != y->n)
        return x->n < y->n ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static uint16_t common(const struct text *a, const struct text *b)
{
    uint32_t n = 0;

    while (n < a->n && n < b->n && a->p[n] == b->p[n])
        n++;
    return (uint16_t)n;
}

static int sort_tokens(struct hth_token_index *x)
{
    struct text *v = calloc((size_t)x->vocab + 1, sizeof *v);

    if (v == NULL)
        return HTH_ENOMEM;
    for (uint32_t id = 0; id < x->vocab; id++) {
        uint32_t n = x->at[id + 1] - x->at[id];

        if (n > 0)
            v[x->count++] = (struct text){x->bytes + x->at[id], n, id};
    }
    qsort(v, x->count, sizeof *v, by_bytes);
    for (uint32_t i = 0; i < x->count; i++) {
        x->sorted[i] = v[i].id;
        x->shared[i] = i == 0 ? 0 : common(&v[i - 1], &v[i]);
    }
    free(v);
    return HTH_OK;
}

int hth_token_index_open(struct hth_token_index **out,
                         const struct hth_tokenizer *t, struct hth_err *err)
{
    struct hth_token_index *x = calloc(1, sizeof *x);
    int rc = x == NULL ? HTH_ENOMEM : alloc_index(x, t);

    if (rc == HTH_OK) {
        x->bytes = malloc((size_t)copy_bytes(x, t) + 1);
        rc = x->bytes != NULL ? HTH_OK : HTH_ENOMEM;
    }
    if (rc == HTH_OK) {
        copy_bytes(x, t);
        for (uint32_t id = 0; id < x->vocab; id++)
            if (hth_tokenizer_is_end(t, id))
                x->ends[x->end_count++] = id;
        rc = sort_tokens(x);
    }
    if (rc != HTH_OK) {
        hth_token_index_close(x);
        return hth_fail(err, rc, "no memory for an index of the tokens");
    }
    *out = x;
    return HTH_OK;
}

void hth_token_index_close(struct hth_token_index *x)
{
    if (x == NULL)
        return;
    free(x->at);
    free(x->bytes);
    free(x->sorted);
    free(x->shared);
    free(x->ends);
    free(x);
}
