/* step.c - encoding and decoding of a step's messages. Fails only on bytes
 * that no rank 0 of ours would send. */
#include "worker/step.h"

#include <string.h>

#include "base/cursor.h"

#define HEAD_BYTES 20u /* kind, rows, wants, candidates, ops */
#define OP_BYTES 24u
#define CANDIDATE_BYTES 8u

/* Floats cross the wire as little-endian bits; on the machines we build for
 * that is what memory holds. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "activations are copied as little-endian f32");

size_t hth_step_bytes(const struct hth_step *s, uint32_t dim)
{
    return HEAD_BYTES + 8u * (size_t)s->rows + 4u * (size_t)s->wants +
           OP_BYTES * (size_t)s->ops + 4u * (size_t)s->rows * dim;
}

size_t hth_step_bytes_max(const struct hth_step_bounds *b)
{
    return HEAD_BYTES + (8u + 4u * (size_t)b->dim) * b->rows_max +
           4u * HTH_STEP_WANTS_MAX + OP_BYTES * HTH_STEP_OPS_MAX;
}

static uint8_t *put_u32s(uint8_t *p, const uint32_t *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++, p += 4)
        hth_store_u32(p, v[i]);
    return p;
}

size_t hth_step_encode(const struct hth_step *s, const float *x, uint32_t dim,
                       uint8_t *dst)
{
    const uint32_t head[] = {s->kind, s->rows, s->wants, s->candidates, s->ops};
    size_t floats = (size_t)s->rows * dim * sizeof *x;
    uint8_t *p = put_u32s(dst, head, 5);

    p = put_u32s(p, s->seq, s->rows);
    p = put_u32s(p, s->pos, s->rows);
    p = put_u32s(p, s->want, s->wants);
    for (uint32_t i = 0; i < s->ops; i++) {
        const struct hth_step_op *o = &s->op[i];
        const uint32_t words[] = {o->kind, o->slot, o->from, o->positions};

        p = put_u32s(p, words, 4);
        hth_store_u64(p, o->key);
        p += 8;
    }
    if (floats > 0)
        memcpy(p, x, floats);
    return (size_t)(p - dst) + floats;
}

static void get_u32s(struct hth_cursor *c, uint32_t *v, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        v[i] = hth_get_u32(c);
}

static bool all_below(const uint32_t *v, uint32_t n, uint32_t bound)
{
    for (uint32_t i = 0; i < n; i++)
        if (v[i] >= bound)
            return false;
    return true;
}

static void get_ops(struct hth_cursor *c, struct hth_step *s)
{
    for (uint32_t i = 0; i < s->ops; i++) {
        s->op[i].kind = hth_get_u32(c);
        s->op[i].slot = hth_get_u32(c);
        s->op[i].from = hth_get_u32(c);
        s->op[i].positions = hth_get_u32(c);
        s->op[i].key = hth_get_u64(c);
    }
}

static bool ops_ok(const struct hth_step *s, const struct hth_step_bounds *b)
{
    for (uint32_t i = 0; i < s->ops; i++) {
        const struct hth_step_op *o = &s->op[i];

        if (o->slot >= HTH_SLOTS_MAX || o->positions > b->ctx_max)
            return false;
        if (o->kind < HTH_OP_CUT || o->kind > HTH_OP_ADAPT)
            return false;
        if (o->kind == HTH_OP_ADAPT && o->from >= HTH_LORAS_MAX &&
            o->from != HTH_LORA_NONE)
            return false;
        if (o->kind == HTH_OP_FORK &&
            (o->from >= HTH_SLOTS_MAX || o->from == o->slot))
            return false;
    }
    return true;
}

static bool counts_ok(const struct hth_step *s, const struct hth_step_bounds *b)
{
    if (s->kind == HTH_STEP_GOODBYE)
        return s->rows == 0 && s->wants == 0 && s->ops == 0;
    return (s->kind == HTH_STEP_RUN || s->kind == HTH_STEP_HALVES) &&
           s->rows <= b->rows_max && s->wants <= HTH_STEP_WANTS_MAX &&
           s->ops <= HTH_STEP_OPS_MAX && s->candidates <= HTH_CANDIDATES_MAX;
}

int hth_step_decode(struct hth_step *s, float *x,
                    const struct hth_step_bounds *b, const uint8_t *src,
                    size_t n)
{
    struct hth_cursor c;
    size_t floats;
    const uint8_t *p;

    hth_cursor_init(&c, src, n);
    s->kind = hth_get_u32(&c);
    s->rows = hth_get_u32(&c);
    s->wants = hth_get_u32(&c);
    s->candidates = hth_get_u32(&c);
    s->ops = hth_get_u32(&c);
    if (c.failed || !counts_ok(s, b))
        return HTH_EPROTO;
    get_u32s(&c, s->seq, s->rows);
    get_u32s(&c, s->pos, s->rows);
    get_u32s(&c, s->want, s->wants);
    get_ops(&c, s);
    floats = (size_t)s->rows * b->dim * sizeof *x;
    p = hth_get_bytes(&c, floats);
    if (!hth_cursor_done(&c) || !all_below(s->seq, s->rows, HTH_SLOTS_MAX) ||
        !all_below(s->pos, s->rows, b->ctx_max) ||
        !all_below(s->want, s->wants, s->rows) || !ops_ok(s, b))
        return HTH_EPROTO;
    if (floats > 0)
        memcpy(x, p, floats);
    return HTH_OK;
}

static uint32_t per_row(uint32_t candidates, uint32_t vocab)
{
    return candidates < vocab ? candidates : vocab;
}

size_t hth_result_bytes(uint32_t wants, uint32_t candidates, uint32_t vocab)
{
    if (candidates == 0)
        return 4u * (size_t)wants * vocab;
    return (size_t)CANDIDATE_BYTES * wants * per_row(candidates, vocab);
}

static uint8_t *put_candidates(const struct hth_step *s,
                               const struct hth_slice *slice,
                               const float *logits, uint8_t *p)
{
    struct hth_candidate best[HTH_CANDIDATES_MAX];
    uint32_t n = hth_top_candidates(logits, slice->vocab, slice->first,
                                    s->candidates, best);

    for (uint32_t i = 0; i < n; i++, p += CANDIDATE_BYTES) {
        hth_store_u32(p, best[i].id);
        memcpy(p + 4, &best[i].logit, 4);
    }
    return p;
}

void hth_result_encode(const struct hth_step *s, const struct hth_slice *slice,
                       const float *logits, uint8_t *dst)
{
    if (s->candidates == 0) {
        memcpy(dst, logits, 4u * (size_t)s->wants * slice->vocab);
        return;
    }
    for (uint32_t w = 0; w < s->wants; w++)
        dst = put_candidates(s, slice, logits + (size_t)w * slice->vocab, dst);
}

static int all_logits(const struct hth_slice *slice, const uint8_t *src,
                      struct hth_candidate *out)
{
    for (uint32_t i = 0; i < slice->vocab; i++) {
        out[i].id = slice->first + i;
        memcpy(&out[i].logit, src + 4u * (size_t)i, 4);
    }
    return (int)slice->vocab;
}

int hth_result_row(const struct hth_step *s, const struct hth_slice *slice,
                   uint32_t w, const uint8_t *src, struct hth_candidate *out)
{
    uint32_t n = per_row(s->candidates, slice->vocab);

    if (s->candidates == 0)
        return all_logits(slice, src + 4u * (size_t)w * slice->vocab, out);
    src += (size_t)w * n * CANDIDATE_BYTES;
    for (uint32_t i = 0; i < n; i++, src += CANDIDATE_BYTES) {
        out[i].id = hth_load_u32(src);
        memcpy(&out[i].logit, src + 4, 4);
        if (out[i].id - slice->first >= slice->vocab)
            return HTH_EPROTO;
    }
    return (int)n;
}
