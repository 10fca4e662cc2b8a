/* kernels_rows_amx.c - products of packed weights with Intel's matrix tiles
 * (AMX), for more than a few rows of x.
 *
 * A block of 32 columns of up to 12 rows of x times 16 rows of weights is one
 * tile product: its integer sums are exact, and they are scaled and added in
 * the order of isa.h, so the bits are those of every other set. What limits it
 * is that scaling: two operations per vector of sums, where the dot products
 * of AVX-512 take eleven. The layout of pack.h is what the tile of weights
 * wants: a vector has 4 columns of 16 rows.
 *
 * The sums go through memory, since tiles and vectors share no registers. A
 * block's are stored while those of the block before it are scaled. No failure;
 * scratch is some 36 KB of stack; tiles are released before it returns. */
#define PANEL_SIGNED true
#include "kernels/amx.h"
#include "kernels/rows_panel_avx512.h"
#include "kernels/tiles_amx.h"

#define HALVES 2u

/* Sums of a block or its halves. They begin at the bits of the float MAGIC,
 * whose unit in the last place is 1: so a sum s below 2^22 (it is below 2^20)
 * ends as the float MAGIC + s, and fma(MAGIC + s, d, -MAGIC d) is s d rounded
 * once, since MAGIC d is exact: d has at most 19 bits. One operation where
 * converting and multiplying are two. */
#define MAGIC 12582912.0f /* 3 << 22 */
struct sums {
    _Alignas(64) float c[HALVES][PAIR][HTH_TILE_WIDTH_MAX][16];
};
static const _Alignas(64) float g_magic[16] = {
    MAGIC, MAGIC, MAGIC, MAGIC, MAGIC, MAGIC, MAGIC, MAGIC,
    MAGIC, MAGIC, MAGIC, MAGIC, MAGIC, MAGIC, MAGIC, MAGIC};

/* Tiles 0 to 3 take the sums, of group 0 and 1 (and their second halves), 4
 * and 5 rows of x, 6 and 7 weights. */
static void configure(uint32_t width, bool halves)
{
    struct hth_tile_config c = {.palette = 1};

    for (int i = 0; i < 8; i++) {
        bool x = i == 4 || i == 5;

        c.row_bytes[i] = x ? (halves ? 16 : 32) : 64;
        c.rows[i] = (uint8_t)(i < 6 ? width : halves ? 4 : 8);
    }
    hth_settle_memory(&c);
    _tile_loadconfig(&c);
}

HTH_INLINE void products(const struct panel *panel, uint32_t b,
                         const struct shape shape, const uint8_t *x,
                         struct sums *to)
{
    const __m512i(*u)[PAIR] = panel->u[b];

    _tile_loadd(4, x, 32);
    _tile_loadd(0, g_magic, 0);
    _tile_loadd(6, &u[0][0], 64 * PAIR);
    _tile_dpbssd(0, 4, 6);
    _tile_stored(0, to->c[0][0], 64);
    if (shape.groups == PAIR) {
        _tile_loadd(1, g_magic, 0);
        _tile_loadd(7, &u[0][1], 64 * PAIR);
        _tile_dpbssd(1, 4, 7);
        _tile_stored(1, to->c[0][1], 64);
    }
    if (!shape.traits.halves)
        return;
    _tile_loadd(5, x + 16, 32);
    _tile_loadd(2, g_magic, 0);
    _tile_loadd(6, &u[4][0], 64 * PAIR);
    _tile_dpbssd(2, 5, 6);
    _tile_stored(2, to->c[1][0], 64);
    if (shape.groups == PAIR) {
        _tile_loadd(3, g_magic, 0);
        _tile_loadd(7, &u[4][1], 64 * PAIR);
        _tile_dpbssd(3, 5, 7);
        _tile_stored(3, to->c[1][1], 64);
    }
}

/* What block b adds for row c of x and group g, in units of x's scale. The
 * second half must be a float of its own before it is added. */
HTH_INLINE __m512 term(const struct panel *panel, uint32_t b,
                       const struct shape shape, const struct sums *from,
                       const struct starts *s, uint32_t c, uint32_t g)
{
    const uint32_t halves = shape.traits.halves ? 2 : 1;
    const __m512 magic = _mm512_set1_ps(MAGIC);
    __m512 t = _mm512_setzero_ps();

#pragma GCC unroll 2
    for (uint32_t h = 0; h < halves; h++) {
        __m512 v = _mm512_load_ps(from->c[h][g][c]);
        __m512 d = panel->d[b * halves + h][g];

        t = h == 0 ? _mm512_fmsub_ps(v, d, _mm512_mul_ps(magic, d))
                   : _mm512_fmadd_ps(_mm512_sub_ps(v, magic), d, t);
        if (shape.traits.mins)
            t = _mm512_fmadd_ps(panel->m[b * halves + h][g],
                                _mm512_set1_ps(s->sum[h][c]), t);
    }
    return t;
}

HTH_INLINE void run_tile(const struct tile *t, const struct shape shape)
{
    const uint32_t width = shape.width;
    const uint8_t *x = t->x;
    __m512 sum[HTH_TILE_WIDTH_MAX][PAIR];
    struct sums sums[2];
    struct starts starts;

#pragma GCC unroll 12
    for (uint32_t c = 0; c < width; c++)
#pragma GCC unroll 2
        for (uint32_t g = 0; g < shape.groups; g++)
            sum[c][g] = t->fresh || c >= t->rows
                            ? _mm512_setzero_ps()
                            : _mm512_loadu_ps(t->y + c * t->ldy + 16 * g);
    hth_settle_memory(t->panel);
    products(t->panel, 0, shape, x, &sums[0]);
    for (uint32_t b = 0; b < t->panel->blocks; b++) {
        const uint8_t *next = x + width * HTH_TILE_BLOCK_BYTES;

        if (shape.traits.mins)
            block_starts(x + 36 * width, &shape, t->offset, &starts);
        if (b + 1 < t->panel->blocks)
            products(t->panel, b + 1, shape, next, &sums[(b + 1) % 2]);
#pragma GCC unroll 12
        for (uint32_t c = 0; c < width; c++) {
            __m512 d = broadcast_f32(x + 32 * width + 4 * c);

#pragma GCC unroll 2
            for (uint32_t g = 0; g < shape.groups; g++)
                sum[c][g] = _mm512_fmadd_ps(
                    term(t->panel, b, shape, &sums[b % 2], &starts, c, g), d,
                    sum[c][g]);
        }
        x = next;
    }
#pragma GCC unroll 12
    for (uint32_t c = 0; c < width; c++) {
        if (c >= t->rows)
            break;
#pragma GCC unroll 2
        for (uint32_t g = 0; g < shape.groups; g++)
            _mm512_storeu_ps(t->y + c * t->ldy + 16 * g, sum[c][g]);
    }
}

#include "kernels/rows_many_avx512.h"

#define GROUPS_OF(name)                                       \
    static void many_##name(const struct hth_q8_product *job) \
    {                                                         \
        many_groups(HTH_##name, job);                         \
    }
HTH_QUANT_TYPES(GROUPS_OF)

void hth__gemm_packed_amx(const struct hth_mat *w, uint32_t first,
                          uint32_t count, const struct hth_q8 *x, float *y,
                          size_t ldy)
{
    const struct hth_q8_product job = {w, first, count, x, y, ldy};

    configure(hth_tile_width(x->n), hth_wtraits(w->type).halves);
    switch (w->type) {
#define CASE(name)         \
    case HTH_##name:       \
        many_##name(&job); \
        break;
        HTH_QUANT_TYPES(CASE)
#undef CASE
    default:
        break;
    }
    _tile_release();
}
