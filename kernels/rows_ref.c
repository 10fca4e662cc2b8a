/* rows_ref.c - products of packed weights, scalar: the definition that the
 * fast ones are tested against, with the operations of isa.h in their order.
 * Slow on purpose: it goes through hth_packed_part(). No state, no failure. */
#include "kernels/isa.h"

#include <math.h>
#include <string.h>

#include "base/limits.h"
#include "kernels/pack.h"

/* The rows of x of one tile, from its first block. */
struct xtile {
    const uint8_t *at;
    uint32_t width;
};

struct xcolumn {
    const int8_t *q;
    float d;
    int16_t sums[2];
};

static struct xcolumn column_of(const struct xtile *x, uint32_t block,
                                uint32_t c)
{
    const uint8_t *b = x->at + (size_t)block * x->width * HTH_TILE_BLOCK_BYTES;
    struct xcolumn v = {.q = (const int8_t *)b + c * HTH_Q8_BLOCK};

    memcpy(&v.d, b + x->width * HTH_Q8_BLOCK + 4 * c, 4);
    memcpy(v.sums, b + x->width * (HTH_Q8_BLOCK + 4) + 4 * c, 4);
    return v;
}

static float dot(const int8_t *a, const int8_t *b, uint32_t n)
{
    int sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += a[i] * b[i];
    return (float)sum;
}

/* One block of weights times one of x, in units of x's scale. */
static float block_term(uint32_t type, const struct hth_block32 *w,
                        const struct xcolumn *x)
{
    bool halves = type == HTH_Q2_K || type == HTH_Q3_K || type == HTH_Q6_K;
    bool mins = type == HTH_Q4_1 || type == HTH_Q5_1 || type == HTH_Q2_K ||
                type == HTH_Q4_K || type == HTH_Q5_K;
    uint32_t length = halves ? 16 : 32;
    int sum = halves ? x->sums[0] : x->sums[0] + x->sums[1];
    float t = dot(w->q, x->q, length) * w->scale[0];

    if (mins)
        t = fmaf(w->offset[0], (float)sum, t);
    if (!halves)
        return t;
    t = fmaf(dot(w->q + 16, x->q + 16, 16), w->scale[1], t);
    if (mins)
        t = fmaf(w->offset[1], (float)x->sums[1], t);
    return t;
}

/* One row of a group times all rows of x. */
static void one_row(const struct hth_mat *w, uint32_t o, const struct hth_q8 *x,
                    float *y, size_t ldy)
{
    const struct hth_pack_shape *s = hth_pack_shape(w->type);
    const uint8_t *group = (const uint8_t *)w->data +
                           (size_t)(o - o % HTH_PACK_ROWS) * w->row_bytes;
    uint32_t width = hth_tile_width(x->n), blocks = x->cols / HTH_Q8_BLOCK;
    size_t tile_bytes = (size_t)blocks * width * HTH_TILE_BLOCK_BYTES;

    for (uint32_t r = 0; r < x->n; r++)
        y[r * ldy + o] = 0.0f;
    for (uint32_t b = 0; b < blocks; b++) {
        struct hth_block32 block;

        hth_packed_part(w->type, group + (size_t)(b / s->parts) * s->unit_bytes,
                        o % HTH_PACK_ROWS, b % s->parts, &block);
        for (uint32_t r = 0; r < x->n; r++) {
            struct xtile tile = {x->tiles + r / width * tile_bytes, width};
            struct xcolumn v = column_of(&tile, b, r % width);
            float *sum = &y[r * ldy + o];

            *sum = fmaf(v.d, block_term(w->type, &block, &v), *sum);
        }
    }
}

void hth__gemm_packed_ref(const struct hth_mat *w, uint32_t first,
                          uint32_t count, const struct hth_q8 *x, float *y,
                          size_t ldy)
{
    for (uint32_t o = first; o < first + count; o++)
        one_row(w, o, x, y, ldy);
}

/* Number c of row r of a packed group of halves. */
static float half_at(const struct hth_mat *w, const uint16_t *group, uint32_t r,
                     uint32_t c)
{
    if (w->type == HTH_F16)
        return hth_f16_to_f32(group[(size_t)c * HTH_PACK_ROWS + r]);
    return hth_bf16_to_f32(
        group[(size_t)(c / 2 * HTH_PACK_ROWS + r) * 2 + c % 2]);
}

static float float_dot(const struct hth_mat *w, uint32_t o,
                       const struct hth_xf *x, uint32_t r)
{
    const uint16_t *group =
        (const void *)((const uint8_t *)w->data +
                       (size_t)(o - o % HTH_PACK_ROWS) * w->row_bytes);
    uint32_t width = hth_tile_width(x->n);
    const float *v = x->tiles + (size_t)(r / width) * x->cols * width;
    float sum = 0.0f;

    for (uint32_t from = 0; from < x->cols; from += HTH_FLOAT_CHUNK) {
        uint32_t to = from + HTH_FLOAT_CHUNK;
        float part = 0.0f;

        for (uint32_t c = from; c < to && c < x->cols; c++)
            part = fmaf(half_at(w, group, o % HTH_PACK_ROWS, c),
                        v[(size_t)c * width + r % width], part);
        sum += part;
    }
    return sum;
}

void hth__gemm_packed_float_ref(const struct hth_mat *w, uint32_t first,
                                uint32_t count, const struct hth_xf *x,
                                float *y, size_t ldy)
{
    for (uint32_t o = first; o < first + count; o++)
        for (uint32_t r = 0; r < x->n; r++)
            y[r * ldy + o] = float_dot(w, o, x, r);
}
