/* kv.c - the KV cache of a rank in blocks of 32 positions. A block is taken
 * from the free list or the heap when a sequence grows, and goes back to the
 * free list when it ends; close gives everything back. Refuses to grow past
 * its bound. */
#include "model/kv.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/type.h"

#define POS HTH_KV_BLOCK_POSITIONS

struct sequence {
    void **block; /* [cap] */
    uint32_t blocks;
    uint32_t cap;
};

struct hth_kv {
    struct hth_kv_opts opts;
    size_t row_bytes;   /* one position of one head, k or v */
    size_t block_bytes; /* all layers and heads */
    uint64_t used_bytes;
    uint64_t total_bytes; /* in use and free */
    void **free_block;
    uint32_t free_blocks, free_cap;
    struct sequence seq[HTH_SEQS_MAX];
};

int hth_kv_open(struct hth_kv **out, const struct hth_kv_opts *opts,
                struct hth_err *err)
{
    struct hth_kv *kv;

    if (opts->type != HTH_F32 && opts->type != HTH_F16)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "KV cache type %u is not supported: f16 and f32 are",
                        opts->type);
    kv = calloc(1, sizeof *kv);
    if (kv == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for the KV cache");
    kv->opts = *opts;
    kv->row_bytes = opts->head_dim * (opts->type == HTH_F32 ? 4u : 2u);
    kv->block_bytes =
        kv->row_bytes * POS * 2u * opts->heads * (size_t)opts->layers;
    *out = kv;
    return HTH_OK;
}

void hth_kv_close(struct hth_kv *kv)
{
    if (kv == NULL)
        return;
    for (uint32_t s = 0; s < HTH_SEQS_MAX; s++) {
        hth_kv_truncate(kv, s, 0);
        free(kv->seq[s].block);
    }
    for (uint32_t i = 0; i < kv->free_blocks; i++)
        hth_mem_free(kv->free_block[i]);
    free(kv->free_block);
    free(kv);
}

/* Make room for one more pointer; doubles, so growth is rare. */
static int grow(void ***list, uint32_t count, uint32_t *cap)
{
    uint32_t want = *cap == 0 ? 16 : *cap * 2;
    void **p;

    if (count < *cap)
        return HTH_OK;
    p = realloc(*list, want * sizeof *p);
    if (p == NULL)
        return HTH_ENOMEM;
    *list = p;
    *cap = want;
    return HTH_OK;
}

static int take_block(struct hth_kv *kv, void **out, struct hth_err *err)
{
    uint64_t max = kv->opts.bytes_max;

    if (kv->free_blocks > 0) {
        *out = kv->free_block[--kv->free_blocks];
        return HTH_OK;
    }
    if (max != 0 && kv->total_bytes + kv->block_bytes > max)
        return hth_fail(err, HTH_ELIMIT,
                        "the KV cache is full: %llu MiB are in use; shorten "
                        "the prompt or raise --memory",
                        (unsigned long long)(kv->total_bytes >> 20));
    *out = hth_mem_alloc(kv->block_bytes);
    if (*out == NULL)
        return hth_fail(err, HTH_ENOMEM,
                        "no memory for %zu more bytes of KV cache",
                        kv->block_bytes);
    kv->total_bytes += kv->block_bytes;
    return HTH_OK;
}

int hth_kv_reserve(struct hth_kv *kv, uint32_t seq, uint32_t positions,
                   struct hth_err *err)
{
    struct sequence *s;
    uint32_t want = (positions + POS - 1) / POS;

    HTH_ASSERT(seq < HTH_SEQS_MAX);
    if (positions > kv->opts.ctx_max)
        return hth_fail(err, HTH_ELIMIT,
                        "position %u is past the context of %u", positions,
                        kv->opts.ctx_max);
    if (kv->block_bytes == 0)
        return HTH_OK;
    s = &kv->seq[seq];
    while (s->blocks < want) {
        void *block;
        int rc = take_block(kv, &block, err);

        if (rc != HTH_OK)
            return rc;
        if (grow(&s->block, s->blocks, &s->cap) != HTH_OK) {
            hth_mem_free(block);
            kv->total_bytes -= kv->block_bytes;
            return hth_fail(err, HTH_ENOMEM, "no memory for the KV cache");
        }
        s->block[s->blocks++] = block;
        kv->used_bytes += kv->block_bytes;
    }
    return HTH_OK;
}

void hth_kv_truncate(struct hth_kv *kv, uint32_t seq, uint32_t positions)
{
    struct sequence *s;
    uint32_t keep = (positions + POS - 1) / POS;

    HTH_ASSERT(seq < HTH_SEQS_MAX);
    s = &kv->seq[seq];
    while (s->blocks > keep) {
        void *block = s->block[--s->blocks];

        kv->used_bytes -= kv->block_bytes;
        if (grow(&kv->free_block, kv->free_blocks, &kv->free_cap) == HTH_OK) {
            kv->free_block[kv->free_blocks++] = block;
        } else {
            hth_mem_free(block);
            kv->total_bytes -= kv->block_bytes;
        }
    }
}

uint64_t hth_kv_bytes(const struct hth_kv *kv)
{
    return kv->used_bytes;
}

uint32_t hth_kv_rows(const struct hth_kv *kv, uint32_t seq,
                     const struct hth_kv_at *at, void **k, void **v)
{
    const struct sequence *s = &kv->seq[seq];
    uint32_t inside = at->pos % POS;
    size_t head = (size_t)at->layer * kv->opts.heads + at->head;
    uint8_t *base;

    HTH_ASSERT(at->pos / POS < s->blocks && at->head < kv->opts.heads);
    base = (uint8_t *)s->block[at->pos / POS] +
           head * 2u * POS * kv->row_bytes + inside * kv->row_bytes;
    *k = base;
    *v = base + POS * kv->row_bytes;
    return POS - inside;
}
