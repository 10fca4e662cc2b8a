/* kv.c - the KV cache of a rank in counted blocks of HTH_KV_BLOCK_POSITIONS
 * positions. A block belongs to every sequence that lists it; the last one to
 * drop it puts it on the free list, from which it is taken again before the
 * heap is asked. Refuses to grow past its bound; close gives everything back.
 */
#include "model/kv.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/type.h"

#define POS HTH_KV_BLOCK_POSITIONS

struct block {
    _Alignas(HTH_MEM_ALIGN) uint32_t holders; /* sequences */
    _Alignas(HTH_MEM_ALIGN) uint8_t data[];
};

struct list {
    struct block **at; /* [cap] */
    uint32_t count;
    uint32_t cap;
};

struct sequence {
    struct list blocks;
    uint32_t positions; /* reserved; at most blocks.count * POS */
};

struct hth_kv {
    struct hth_kv_opts opts;
    size_t k_bytes, v_bytes; /* of one layer and head in a block */
    size_t block_bytes;      /* all layers and heads */
    uint64_t used_bytes;
    uint64_t total_bytes; /* in use and free */
    struct list spare;
    struct sequence seq[HTH_SLOTS_MAX];
};

int hth_kv_check(uint32_t type, uint32_t head_dim, struct hth_err *err)
{
    const struct hth_type_info *info = hth_type_info(type);

    if (hth_attn_type_ok(type, head_dim))
        return HTH_OK;
    return hth_fail(err, HTH_EUNSUPPORTED,
                    "a KV cache of type %s cannot hold heads of %u numbers; "
                    "use --kv f16 or f32",
                    info != NULL ? info->name : "?", head_dim);
}

int hth_kv_open(struct hth_kv **out, const struct hth_kv_opts *opts,
                struct hth_err *err)
{
    struct hth_kv *kv;
    int rc = hth_kv_check(opts->type, opts->head_dim, err);

    if (rc != HTH_OK)
        return rc;
    kv = calloc(1, sizeof *kv);
    if (kv == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for the KV cache");
    kv->opts = *opts;
    kv->k_bytes = hth_attn_k_bytes(opts->type, opts->head_dim);
    kv->v_bytes = hth_attn_v_bytes(opts->type, opts->head_dim);
    kv->block_bytes =
        (kv->k_bytes + kv->v_bytes) * opts->heads * (size_t)opts->layers;
    *out = kv;
    return HTH_OK;
}

void hth_kv_close(struct hth_kv *kv)
{
    if (kv == NULL)
        return;
    for (uint32_t s = 0; s < HTH_SLOTS_MAX; s++) {
        hth_kv_truncate(kv, s, 0);
        free(kv->seq[s].blocks.at);
    }
    for (uint32_t i = 0; i < kv->spare.count; i++)
        hth_mem_free(kv->spare.at[i]);
    free(kv->spare.at);
    free(kv);
}

/* ---- blocks -------------------------------------------------------------- */

/* Make room for `count` pointers in all; doubles, so growth is rare. */
static int grow(struct list *l, uint32_t count, struct hth_err *err)
{
    uint32_t want = l->cap == 0 ? 16 : l->cap;
    struct block **p;

    while (want < count)
        want *= 2;
    if (want == l->cap)
        return HTH_OK;
    p = realloc(l->at, want * sizeof(*p));
    if (p == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for the KV cache");
    l->at = p;
    l->cap = want;
    return HTH_OK;
}

static int take_block(struct hth_kv *kv, struct block **out,
                      struct hth_err *err)
{
    uint64_t max = kv->opts.bytes_max;
    struct block *b;

    if (kv->spare.count > 0) {
        b = kv->spare.at[--kv->spare.count];
    } else {
        if (max != 0 && kv->total_bytes + kv->block_bytes > max)
            return hth_fail(err, HTH_ELIMIT,
                            "the KV cache is full: %llu MiB are in use; "
                            "shorten the prompt or raise --memory",
                            (unsigned long long)(kv->total_bytes >> 20));
        b = hth_mem_alloc(sizeof *b + kv->block_bytes);
        if (b == NULL)
            return hth_fail(err, HTH_ENOMEM,
                            "no memory for %zu more bytes of KV cache",
                            kv->block_bytes);
        kv->total_bytes += kv->block_bytes;
    }
    b->holders = 1;
    kv->used_bytes += kv->block_bytes;
    *out = b;
    return HTH_OK;
}

static void drop_block(struct hth_kv *kv, struct block *b)
{
    struct hth_err ignored;

    if (--b->holders > 0)
        return;
    kv->used_bytes -= kv->block_bytes;
    if (grow(&kv->spare, kv->spare.count + 1, &ignored) == HTH_OK) {
        kv->spare.at[kv->spare.count++] = b;
        return;
    }
    hth_mem_free(b);
    kv->total_bytes -= kv->block_bytes;
}

/* ---- sequences ----------------------------------------------------------- */

/* A block of the sequence that others hold too becomes a copy. */
static int own_block(struct hth_kv *kv, struct block **slot,
                     struct hth_err *err)
{
    struct block *mine = NULL;
    int rc;

    if ((*slot)->holders == 1)
        return HTH_OK;
    rc = take_block(kv, &mine, err);
    if (rc != HTH_OK)
        return rc;
    memcpy(mine->data, (*slot)->data, kv->block_bytes);
    drop_block(kv, *slot);
    *slot = mine;
    return HTH_OK;
}

static int add_blocks(struct hth_kv *kv, struct list *l, uint32_t want,
                      struct hth_err *err)
{
    int rc = grow(l, want, err);

    while (rc == HTH_OK && l->count < want) {
        rc = take_block(kv, &l->at[l->count], err);
        l->count += rc == HTH_OK;
    }
    return rc;
}

int hth_kv_own(struct hth_kv *kv, uint32_t seq, uint32_t first, uint32_t count,
               struct hth_err *err)
{
    struct sequence *s;
    uint64_t end = (uint64_t)first + count;
    uint32_t had, want = (uint32_t)((end + POS - 1) / POS);
    int rc = HTH_OK;

    HTH_ASSERT(seq < HTH_SLOTS_MAX);
    s = &kv->seq[seq];
    if (end > kv->opts.ctx_max)
        return hth_fail(err, HTH_ELIMIT,
                        "position %llu is past the context of %u",
                        (unsigned long long)end, kv->opts.ctx_max);
    if (kv->block_bytes > 0) {
        had = s->blocks.count;
        if (want > had)
            rc = add_blocks(kv, &s->blocks, want, err);
        for (uint32_t i = first / POS; rc == HTH_OK && i < want && i < had; i++)
            rc = own_block(kv, &s->blocks.at[i], err);
        if (rc != HTH_OK)
            return rc;
    }
    if (end > s->positions)
        s->positions = (uint32_t)end;
    return HTH_OK;
}

int hth_kv_reserve(struct hth_kv *kv, uint32_t seq, uint32_t positions,
                   struct hth_err *err)
{
    uint32_t had;

    HTH_ASSERT(seq < HTH_SLOTS_MAX);
    had = kv->seq[seq].positions;
    if (positions <= had)
        return HTH_OK;
    return hth_kv_own(kv, seq, had, positions - had, err);
}

void hth_kv_truncate(struct hth_kv *kv, uint32_t seq, uint32_t positions)
{
    struct sequence *s;
    uint32_t keep = (positions + POS - 1) / POS;

    HTH_ASSERT(seq < HTH_SLOTS_MAX);
    s = &kv->seq[seq];
    while (s->blocks.count > keep)
        drop_block(kv, s->blocks.at[--s->blocks.count]);
    if (s->positions > positions)
        s->positions = positions;
}

int hth_kv_fork(struct hth_kv *kv, uint32_t from, uint32_t to,
                uint32_t positions, struct hth_err *err)
{
    struct sequence *a, *b;
    uint32_t want = (positions + POS - 1) / POS;

    HTH_ASSERT(from < HTH_SLOTS_MAX && to < HTH_SLOTS_MAX && from != to);
    a = &kv->seq[from];
    b = &kv->seq[to];
    HTH_ASSERT(positions <= a->positions && b->positions == 0);
    hth_kv_truncate(kv, to, 0); /* room that a failed reserve left */
    if (kv->block_bytes > 0) {
        int rc = grow(&b->blocks, want, err);

        if (rc != HTH_OK)
            return rc;
        for (; b->blocks.count < want; b->blocks.count++) {
            b->blocks.at[b->blocks.count] = a->blocks.at[b->blocks.count];
            b->blocks.at[b->blocks.count]->holders++;
        }
    }
    b->positions = positions;
    return HTH_OK;
}

uint32_t hth_kv_positions(const struct hth_kv *kv, uint32_t seq)
{
    HTH_ASSERT(seq < HTH_SLOTS_MAX);
    return kv->seq[seq].positions;
}

uint64_t hth_kv_bytes(const struct hth_kv *kv)
{
    return kv->used_bytes;
}

uint64_t hth_kv_held_bytes(const struct hth_kv *kv)
{
    return kv->total_bytes;
}

void hth_kv_trim(struct hth_kv *kv)
{
    while (kv->spare.count > 0) {
        hth_mem_free(kv->spare.at[--kv->spare.count]);
        kv->total_bytes -= kv->block_bytes;
    }
}

size_t hth_kv_block_bytes(const struct hth_kv *kv)
{
    return kv->block_bytes;
}

/* ---- positions ----------------------------------------------------------- */

static struct block *block_at(const struct hth_kv *kv, uint32_t seq,
                              const struct hth_kv_at *at,
                              struct hth_attn_block *out)
{
    const struct sequence *s = &kv->seq[seq];
    size_t head = (size_t)at->layer * kv->opts.heads + at->head;
    struct block *b;

    HTH_ASSERT(seq < HTH_SLOTS_MAX && at->pos < s->positions &&
               at->head < kv->opts.heads && at->layer < kv->opts.layers);
    b = s->blocks.at[at->pos / POS];
    out->type = kv->opts.type;
    out->head_dim = kv->opts.head_dim;
    out->k = b->data + head * (kv->k_bytes + kv->v_bytes);
    out->v = (uint8_t *)out->k + kv->k_bytes;
    return b;
}

void hth_kv_store(struct hth_kv *kv, uint32_t seq, const struct hth_kv_at *at,
                  const float *k, const float *v)
{
    struct hth_attn_block b;

    HTH_ASSERT(block_at(kv, seq, at, &b)->holders == 1);
    hth_attn_put(&b, at->pos % POS, k, v);
}

void hth_kv_keys(const struct hth_kv *kv, uint32_t seq,
                 const struct hth_kv_at *at, struct hth_attn_keys *keys)
{
    struct hth_attn_block b;
    uint32_t first = at->pos - at->pos % POS;
    uint32_t left = kv->seq[seq].positions - first;

    block_at(kv, seq, at, &b);
    *keys = (struct hth_attn_keys){.k = b.k,
                                   .v = b.v,
                                   .count = left < POS ? left : POS,
                                   .pos = first,
                                   .step = 1};
}

size_t hth_kv_row_bytes(const struct hth_kv *kv)
{
    return hth_row_bytes(kv->opts.type, kv->opts.head_dim);
}

void hth_kv_export(const struct hth_kv *kv, uint32_t seq,
                   const struct hth_kv_at *at, const struct hth_kv_rows *to)
{
    size_t bytes = hth_kv_row_bytes(kv);
    struct hth_kv_at here = *at;

    for (uint32_t i = 0; i < to->count; i++, here.pos++) {
        struct hth_attn_block b;

        block_at(kv, seq, &here, &b);
        hth_attn_get_row(&b, here.pos % POS, (uint8_t *)to->k + i * bytes,
                         (uint8_t *)to->v + i * bytes);
    }
}

void hth_kv_import(struct hth_kv *kv, uint32_t seq, const struct hth_kv_at *at,
                   const struct hth_kv_rows *from)
{
    size_t bytes = hth_kv_row_bytes(kv);
    struct hth_kv_at here = *at;

    for (uint32_t i = 0; i < from->count; i++, here.pos++) {
        struct hth_attn_block b;

        HTH_ASSERT(block_at(kv, seq, &here, &b)->holders == 1);
        hth_attn_put_row(&b, here.pos % POS,
                         (const uint8_t *)from->k + i * bytes,
                         (const uint8_t *)from->v + i * bytes);
    }
}
