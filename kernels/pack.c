/* pack.c - GGUF rows into the layout of pack.h, and back number by number.
 *
 * One table says where a type keeps its scales and which planes its codes are
 * cut into; the codes themselves come from the one place that knows GGUF's
 * layouts, unpack.c. No state, no failure. */
#include "kernels/pack.h"

#include <string.h>

#include "base/limits.h"
#include "base/status.h"

#define GROUP HTH_PACK_ROWS
#define VECTOR 64u       /* bytes: 4 of each row */
#define BLOCK_BYTES 210u /* of the largest GGUF block */

/* `count` fields of `width` bytes each, from byte `at` of a block on. */
struct fields {
    uint8_t at, width, count;
};

struct layout {
    uint32_t type;
    struct fields head[3];
    struct hth_pack_shape shape;
};

#define NIBBLES 256u
#define TWOS 128u
#define ONES 64u
#define BYTES 512u

/* {parts, head, part, unit, bias, nibbles, twos, ones, bytes} */
static const struct layout g_layouts[] = {
    {HTH_Q4_0,
     {{0, 2, 1}},
     {1, 32, NIBBLES, 288, 8, true, false, false, false}},
    {HTH_Q4_1,
     {{0, 2, 2}},
     {1, 64, NIBBLES, 320, 0, true, false, false, false}},
    {HTH_Q5_0,
     {{0, 2, 1}},
     {1, 32, NIBBLES + ONES, 352, 16, true, false, true, false}},
    {HTH_Q5_1,
     {{0, 2, 2}},
     {1, 64, NIBBLES + ONES, 384, 0, true, false, true, false}},
    {HTH_Q8_0, {{0, 2, 1}}, {1, 32, BYTES, 544, 0, false, false, false, true}},
    {HTH_Q2_K,
     {{80, 2, 2}, {0, 1, 16}},
     {8, 320, TWOS, 1344, 0, false, true, false, false}},
    {HTH_Q3_K,
     {{108, 2, 1}, {96, 4, 3}},
     {8, 224, TWOS + ONES, 1760, 4, false, true, true, false}},
    {HTH_Q4_K,
     {{0, 2, 2}, {4, 4, 3}},
     {8, 256, NIBBLES, 2304, 0, true, false, false, false}},
    {HTH_Q5_K,
     {{0, 2, 2}, {4, 4, 3}},
     {8, 256, NIBBLES + ONES, 2816, 0, true, false, true, false}},
    {HTH_Q6_K,
     {{208, 2, 1}, {192, 1, 16}},
     {8, 288, NIBBLES + TWOS, 3360, 32, true, true, false, false}},
    {HTH_IQ4_NL,
     {{0, 2, 1}},
     {1, 32, NIBBLES, 288, 0, true, false, false, false}},
    {HTH_IQ4_XS,
     {{0, 2, 2}, {4, 4, 1}},
     {8, 128, NIBBLES, 2176, 0, true, false, false, false}},
};

#define LAYOUTS (sizeof g_layouts / sizeof g_layouts[0])

static const struct layout *layout_of(uint32_t type)
{
    for (size_t i = 0; i < LAYOUTS; i++)
        if (g_layouts[i].type == type)
            return &g_layouts[i];
    return NULL;
}

const struct hth_pack_shape *hth_pack_shape(uint32_t type)
{
    const struct layout *l = layout_of(type);

    return l != NULL ? &l->shape : NULL;
}

bool hth_can_pack(uint32_t type, uint32_t cols)
{
    if (cols == 0 || hth_row_bytes(type, cols) == 0)
        return false;
    if (type == HTH_BF16)
        return cols % 2 == 0;
    return type == HTH_F16 || layout_of(type) != NULL;
}

static bool is_iq4(uint32_t type)
{
    return type == HTH_IQ4_NL || type == HTH_IQ4_XS;
}

/* ---- scales ---------------------------------------------------------------
 */

/* Field by field; `stride` is between the rows' blocks. */
static uint8_t *pack_head(const struct layout *l, const uint8_t *blocks,
                          size_t stride, uint8_t *to)
{
    for (size_t f = 0; f < sizeof l->head / sizeof l->head[0]; f++) {
        struct fields head = l->head[f];

        for (uint32_t i = 0; i < head.count; i++)
            for (uint32_t r = 0; r < GROUP; r++) {
                memcpy(to, blocks + r * stride + head.at + i * head.width,
                       head.width);
                to += head.width;
            }
    }
    return to;
}

/* The scales of one row back at their place in a GGUF block. */
static void unpack_head(const struct layout *l, const uint8_t *unit,
                        uint32_t row, uint8_t *block)
{
    for (size_t f = 0; f < sizeof l->head / sizeof l->head[0]; f++) {
        struct fields head = l->head[f];

        for (uint32_t i = 0; i < head.count; i++) {
            memcpy(block + head.at + i * head.width, unit + row * head.width,
                   head.width);
            unit += GROUP * head.width;
        }
    }
}

/* ---- codes ----------------------------------------------------------------
 */

/* `to` is the row's place in the first vector of the plane. */
static void put_vectors(const uint8_t *bytes, uint32_t vectors, uint8_t *to)
{
    for (uint32_t t = 0; t < vectors; t++)
        memcpy(to + t * VECTOR, bytes + 4 * t, 4);
}

static void put_nibbles(const uint8_t code[32], uint8_t *to)
{
    uint8_t b[16];

    for (int i = 0; i < 16; i++)
        b[i] = (uint8_t)((code[i] & 15) | (code[16 + i] & 15) << 4);
    put_vectors(b, 4, to);
}

/* Four codes at a time: what is kept of a byte stays in it when shifted. */
static uint32_t four_codes(const uint8_t *code, uint32_t shift, uint32_t mask)
{
    uint32_t v;

    memcpy(&v, code, sizeof v);
    return v >> shift & mask;
}

static void put_twos(const uint8_t code[32], uint32_t shift, uint8_t *to)
{
    for (uint32_t h = 0; h < 2; h++) {
        uint32_t b = 0;

        for (uint32_t k = 0; k < 4; k++)
            b |= four_codes(code + 16 * h + 4 * k, shift, 0x03030303u) << 2 * k;
        memcpy(to + h * VECTOR, &b, sizeof b);
    }
}

static void put_ones(const uint8_t code[32], uint32_t shift, uint8_t *to)
{
    uint32_t b = 0;

    for (uint32_t t = 0; t < 8; t++)
        b |= four_codes(code + 4 * t, shift, 0x01010101u) << t;
    memcpy(to, &b, sizeof b);
}

/* Which bits the planes above the first hold. */
static uint32_t twos_shift(const struct hth_pack_shape *s)
{
    return s->nibbles ? 4 : 0;
}

static uint32_t ones_shift(const struct hth_pack_shape *s)
{
    return s->nibbles ? 4 : 2;
}

static void put_part(const struct hth_pack_shape *s, const uint8_t code[32],
                     uint8_t *to)
{
    if (s->bytes)
        put_vectors(code, 8, to);
    if (s->nibbles) {
        put_nibbles(code, to);
        to += NIBBLES;
    }
    if (s->twos) {
        put_twos(code, twos_shift(s), to);
        to += TWOS;
    }
    if (s->ones)
        put_ones(code, ones_shift(s), to);
}

/* The codes of a part of a GGUF block. IQ4 types hide theirs behind a table,
 * but keep them as 16 plain bytes. */
static void codes_of(const struct layout *l, const uint8_t *block,
                     uint32_t part, uint8_t code[32])
{
    struct hth_block32 b;

    if (is_iq4(l->type)) {
        const uint8_t *qs = block + (l->shape.parts == 1 ? 2 : 8) + 16 * part;

        for (int i = 0; i < 16; i++) {
            code[i] = qs[i] & 15;
            code[16 + i] = qs[i] >> 4;
        }
        return;
    }
    hth_unpacker(l->type)(block, part, &b);
    for (int i = 0; i < 32; i++)
        code[i] = (uint8_t)(b.q[i] + l->shape.bias);
}

static void get_part(const struct hth_pack_shape *s, const uint8_t *from,
                     uint8_t code[32])
{
    for (uint32_t c = 0; c < 32; c++) {
        uint32_t i = c % 4, t = c / 4;
        const uint8_t *at = from;

        code[c] = s->bytes ? at[VECTOR * t + i] : 0;
        if (s->nibbles) {
            code[c] = at[VECTOR * (t % 4) + i] >> (t / 4 * 4) & 15;
            at += NIBBLES;
        }
        if (s->twos) {
            code[c] |= (uint8_t)((at[VECTOR * (t / 4) + i] >> (t % 4 * 2) & 3)
                                 << twos_shift(s));
            at += TWOS;
        }
        if (s->ones)
            code[c] |= (uint8_t)((at[i] >> t & 1) << ones_shift(s));
    }
}

void hth_packed_part(uint32_t type, const uint8_t *unit, uint32_t row,
                     uint32_t part, struct hth_block32 *out)
{
    const struct layout *l = layout_of(type);
    uint8_t block[BLOCK_BYTES] = {0}, code[32];

    HTH_ASSERT(l != NULL && row < GROUP && part < l->shape.parts);
    unpack_head(l, unit, row, block);
    hth_unpacker(type)(block, part, out); /* for the scales */
    get_part(&l->shape,
             unit + l->shape.head_bytes + part * l->shape.part_bytes + 4 * row,
             code);
    for (int i = 0; i < 32; i++)
        out->q[i] = is_iq4(type) ? hth_iq4_values[code[i]]
                                 : (int8_t)(code[i] - l->shape.bias);
}

/* ---- groups ---------------------------------------------------------------
 */

/* Types that keep 16 bytes of nibbles as the layout wants them need no
 * unpacking. */
static bool is_plain_nibbles(const struct layout *l)
{
    return l->shape.nibbles && l->shape.part_bytes == NIBBLES &&
           l->shape.parts == 1;
}

static void pack_unit(const struct layout *l, const uint8_t *blocks,
                      size_t stride, uint8_t *to)
{
    const struct hth_pack_shape *s = &l->shape;
    uint32_t block_bytes = s->unit_bytes / GROUP;

    to = pack_head(l, blocks, stride, to);
    for (uint32_t r = 0; r < GROUP; r++) {
        const uint8_t *block = blocks + r * stride;

        if (is_plain_nibbles(l)) {
            put_vectors(block + block_bytes - 16, 4, to + 4 * r);
            continue;
        }
        if (s->bytes) {
            put_vectors(block + block_bytes - 32, 8, to + 4 * r);
            continue;
        }
        for (uint32_t part = 0; part < s->parts; part++) {
            uint8_t code[32];

            codes_of(l, block, part, code);
            put_part(s, code, to + part * s->part_bytes + 4 * r);
        }
    }
}

/* Halves: `pair` columns of a row stay together. */
static void pack_halves(uint32_t cols, uint32_t pair, const uint8_t *rows,
                        uint8_t *to)
{
    size_t bytes = 2 * (size_t)pair, row_bytes = 2 * (size_t)cols;

    for (uint32_t c = 0; c < cols; c += pair)
        for (uint32_t r = 0; r < GROUP; r++) {
            memcpy(to, rows + r * row_bytes + 2 * (size_t)c, bytes);
            to += bytes;
        }
}

void hth_pack_group(uint32_t type, uint32_t cols, const void *rows,
                    void *packed)
{
    const struct layout *l = layout_of(type);
    size_t stride = hth_row_bytes(type, cols);
    const uint8_t *from = rows;
    uint8_t *to = packed;

    HTH_ASSERT(hth_can_pack(type, cols));
    if (type == HTH_F16) {
        pack_halves(cols, 1, from, to);
        return;
    }
    if (type == HTH_BF16) {
        pack_halves(cols, 2, from, to);
        return;
    }
    for (size_t at = 0; at < stride; at += l->shape.unit_bytes / GROUP) {
        pack_unit(l, from + at, stride, to);
        to += l->shape.unit_bytes;
    }
}

static void pack_run(void *ctx, uint32_t thread, uint32_t threads)
{
    const struct hth_pack_job *j = ctx;
    size_t bytes = GROUP * hth_row_bytes(j->type, j->cols);
    uint8_t *scratch = j->scratch + thread * bytes;
    uint64_t first, count;

    hth_split(j->rows / GROUP, 1, thread, threads, &first, &count);
    for (uint64_t g = first; g < first + count; g++) {
        memcpy(scratch, j->data + g * bytes, bytes);
        hth_pack_group(j->type, j->cols, scratch, j->data + g * bytes);
    }
}

void hth_pack(struct hth_pool *pool, const struct hth_pack_job *job)
{
    if (job->rows >= GROUP)
        hth_pool_run(pool, pack_run, (void *)(uintptr_t)job);
}
