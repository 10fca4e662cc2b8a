/* tokenizer_merge.c - the merge loop of byte-pair encoding and of
 * SentencePiece's unigram-scored variant of it (Sennrich et al. 2016; Kudo
 * and Richardson 2018): a row of pieces as a linked list, and a binary heap
 * of the neighbours that could be joined. Entries are not removed when a
 * neighbour changes; they are recognised as stale when they come up. Each
 * merge adds at most two entries, so a word of n pieces costs O(n log n)
 * whatever it consists of. Fails for want of memory, and on words beyond
 * HTH_WORD_BYTES_MAX, so that one request cannot take it all. */
#include <stdlib.h>

#include "model/tokenizer_internal.h"

static int no_memory(struct hth_tok__run *r, size_t bytes)
{
    return hth_fail(r->err, HTH_ENOMEM,
                    "tokenize: no memory for %zu bytes of merge state; send "
                    "a shorter text",
                    bytes);
}

int hth_tok__sym_push(struct hth_tok__run *r, uint32_t start, uint32_t len,
                      uint32_t id)
{
    uint32_t i = (uint32_t)r->sym_count;

    if (i >= HTH_WORD_BYTES_MAX)
        return hth_fail(r->err, HTH_ELIMIT,
                        "tokenize: more than %u bytes in one word; put spaces "
                        "or line ends into the text",
                        HTH_WORD_BYTES_MAX);
    if (r->sym_count == r->sym_cap) {
        size_t cap = r->sym_cap == 0 ? 64 : r->sym_cap * 2;
        void *p = realloc(r->syms, cap * sizeof *r->syms);

        if (p == NULL)
            return no_memory(r, cap * sizeof *r->syms);
        r->syms = p;
        r->sym_cap = cap;
    }
    if (i > 0)
        r->syms[i - 1].next = i;
    r->syms[i] = (struct hth_tok__sym){.start = start,
                                       .len = len,
                                       .id = id,
                                       .prev = i > 0 ? i - 1 : HTH_TOKEN_NONE,
                                       .next = HTH_TOKEN_NONE};
    r->sym_count++;
    return 0;
}

static bool before(const struct hth_tok__pair *a, const struct hth_tok__pair *b)
{
    return a->order != b->order ? a->order < b->order : a->left < b->left;
}

static int heap_push(struct hth_tok__run *r, const struct hth_tok__pair *pair)
{
    size_t i = r->heap_count, up;

    if (r->heap_count == r->heap_cap) {
        size_t cap = r->heap_cap == 0 ? 64 : r->heap_cap * 2;
        void *p = realloc(r->heap, cap * sizeof *r->heap);

        if (p == NULL)
            return no_memory(r, cap * sizeof *r->heap);
        r->heap = p;
        r->heap_cap = cap;
    }
    for (r->heap_count++; i > 0; i = up) {
        up = (i - 1) / 2;
        if (!before(pair, &r->heap[up]))
            break;
        r->heap[i] = r->heap[up];
    }
    r->heap[i] = *pair;
    return 0;
}

static struct hth_tok__pair heap_pop(struct hth_tok__run *r)
{
    struct hth_tok__pair top = r->heap[0];
    struct hth_tok__pair last = r->heap[--r->heap_count];
    size_t i = 0, down;

    for (;; i = down) {
        down = 2 * i + 1;
        if (down >= r->heap_count)
            break;
        if (down + 1 < r->heap_count &&
            before(&r->heap[down + 1], &r->heap[down]))
            down++;
        if (!before(&r->heap[down], &last))
            break;
        r->heap[i] = r->heap[down];
    }
    if (r->heap_count > 0)
        r->heap[i] = last;
    return top;
}

/* Queue the neighbours left and right if there is a rule for them. */
static int consider(struct hth_tok__run *r, uint32_t left, uint32_t right,
                    hth_tok__pair_fn pair_of)
{
    struct hth_tok__pair pair = {.left = left, .right = right};

    if (left == HTH_TOKEN_NONE || right == HTH_TOKEN_NONE)
        return 0;
    if (!pair_of(r, &r->syms[left], &r->syms[right], &pair))
        return 0;
    pair.len = r->syms[left].len + r->syms[right].len;
    return heap_push(r, &pair);
}

/* A queued pair is current if both pieces are still there with the lengths
 * they had: starts never change, so equal total length means equal pieces,
 * and nothing ever comes between two neighbours. */
static bool current(const struct hth_tok__run *r,
                    const struct hth_tok__pair *pair)
{
    const struct hth_tok__sym *left = &r->syms[pair->left];
    const struct hth_tok__sym *right = &r->syms[pair->right];

    return left->len > 0 && right->len > 0 &&
           left->len + right->len == pair->len;
}

static void join(struct hth_tok__run *r, const struct hth_tok__pair *pair)
{
    struct hth_tok__sym *left = &r->syms[pair->left];
    struct hth_tok__sym *right = &r->syms[pair->right];

    left->len = pair->len;
    left->id = pair->id;
    left->next = right->next;
    if (right->next != HTH_TOKEN_NONE)
        r->syms[right->next].prev = pair->left;
    right->len = 0;
}

int hth_tok__merge(struct hth_tok__run *r, hth_tok__pair_fn pair_of)
{
    int rc = 0;
    uint32_t i;

    r->heap_count = 0;
    for (i = 1; i < r->sym_count && rc == 0; i++)
        rc = consider(r, i - 1, i, pair_of);
    while (rc == 0 && r->heap_count > 0) {
        struct hth_tok__pair pair = heap_pop(r);

        if (!current(r, &pair))
            continue;
        join(r, &pair);
        rc = consider(r, r->syms[pair.left].prev, pair.left, pair_of);
        if (rc == 0)
            rc = consider(r, pair.left, r->syms[pair.left].next, pair_of);
    }
    return rc;
}
