/* kernels_rows_avx512.c - products of packed weights (pack.h): 16 rows in the
 * lanes of a register, so there are no shuffles, no horizontal sums, and the
 * weights are one sequential read.
 *
 * Up to FEW rows of x are multiplied straight from the packed bytes. For more,
 * a panel of 32 rows by 512 columns is unpacked once and meets tiles of up to
 * 12 rows of x: 24 registers of integer sums, as many as hide their latency.
 * Chunks of columns are the outer loop, so that x of a chunk stays in a
 * second-level cache while all groups pass. Both ways do the operations of
 * isa.h in the same order: the same bits.
 *
 * No failure, no state; scratch is some 30 KB of stack. */
#define PANEL_SIGNED false
#include "kernels/rows_panel_avx512.h"

#define FEW 4u
/* ---- few rows of x ------------------------------------------------------ */

struct few {
    const uint8_t *w; /* a group */
    const uint8_t *x; /* the tile */
    uint32_t units;
};

/* What one block adds for one row of x, in units of its scale; q: its 32
 * numbers, sums: its two sums. */
HTH_INLINE __m512 few_term(const __m512i u[8], const __m512 *d, const __m512 *m,
                           const uint8_t *q, __m512i sums,
                           struct hth_wtraits traits)
{
    const int halves = traits.halves ? 2 : 1, steps = 8 / halves;
    __m512 t = _mm512_setzero_ps();

#pragma GCC unroll 2
    for (int h = 0; h < halves; h++) {
        __m512i a = traits.offset != 0
                        ? times_sum(sums, traits, h, -traits.offset)
                        : _mm512_setzero_si512();

#pragma GCC unroll 8
        for (int i = h * steps; i < (h + 1) * steps; i++)
            a = _mm512_dpbusd_epi32(a, u[i], broadcast32(q + 4 * i));
        t = h == 0 ? _mm512_mul_ps(_mm512_cvtepi32_ps(a), d[0])
                   : _mm512_fmadd_ps(_mm512_cvtepi32_ps(a), d[1], t);
        if (traits.mins)
            t = _mm512_fmadd_ps(
                m[h], _mm512_cvtepi32_ps(times_sum(sums, traits, h, 1)), t);
    }
    return t;
}

HTH_INLINE void few_group(uint32_t type, uint32_t n, const struct few *g,
                          __m512 sum[FEW])
{
    const struct hth_wtraits traits = hth_wtraits(type);
    const struct hth_pack_shape s = hth_row_shape(type);
    const uint32_t factors = traits.halves ? 2 : 1;
    const uint8_t *w = g->w, *x = g->x;
    struct hth_wfactors f;
    __m512i u[8];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
        sum[r] = _mm512_setzero_ps();
    for (uint32_t unit = 0; unit < g->units; unit++) {
        fetch(w, s.head_bytes);
        hth_row_factors(type, w, &f);
        w += s.head_bytes;
        for (uint32_t part = 0; part < s.parts; part++) {
            fetch(w, s.part_bytes);
            hth_row_codes(type, w, u);
#pragma GCC unroll 4
            for (uint32_t r = 0; r < n; r++) {
                __m512 t = few_term(u, f.d + part * factors,
                                    f.m + part * factors, x + 32 * r,
                                    broadcast32(x + 36 * n + 4 * r), traits);

                sum[r] = _mm512_fmadd_ps(t, broadcast_f32(x + 32 * n + 4 * r),
                                         sum[r]);
            }
            x += n * HTH_TILE_BLOCK_BYTES;
            w += s.part_bytes;
        }
    }
}

HTH_INLINE void few_groups(uint32_t type, uint32_t n,
                           const struct hth_q8_product *job)
{
    const struct hth_mat *w = job->w;
    struct few g = {.x = job->x->tiles,
                    .units = w->cols / 32 / hth_row_shape(type).parts};
    __m512 sum[FEW];

    for (size_t o = job->first; o < job->first + job->count;
         o += HTH_PACK_ROWS) {
        g.w = (const uint8_t *)w->data + o * w->row_bytes;
        few_group(type, n, &g, sum);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++)
            _mm512_storeu_ps(job->y + r * job->ldy + o, sum[r]);
    }
}

/* The running sums of a tile. They stay in memory: the integer sums of a block
 * need the registers, and use each of these once. */
typedef __m512 tile_sums[HTH_TILE_WIDTH_MAX][PAIR];

/* Half h of a block, or all of it, for all rows of x: t becomes or grows by
 * float(sum w q) d [+ m sum q]. */
HTH_INLINE void tile_half(const struct tile *tile, uint32_t b, uint32_t h,
                          const struct shape shape, const uint8_t *x,
                          const struct starts *s, tile_sums t)
{
    const struct panel *panel = tile->panel;
    const uint32_t halves = shape.traits.halves ? 2 : 1, steps = 8 / halves;
    __m512i a[HTH_TILE_WIDTH_MAX][PAIR];

#pragma GCC unroll 12
    for (uint32_t c = 0; c < shape.width; c++)
#pragma GCC unroll 2
        for (uint32_t g = 0; g < shape.groups; g++)
            a[c][g] = shape.traits.mins ? _mm512_setzero_si512()
                                        : _mm512_set1_epi32(s->off[h][c]);
#pragma GCC unroll 8
    for (uint32_t i = h * steps; i < (h + 1) * steps; i++) {
        const __m512i *u = panel->u[b][i];

#pragma GCC unroll 12
        for (uint32_t c = 0; c < shape.width; c++) {
            __m512i q = broadcast32(x + 32 * c + 4 * i);

#pragma GCC unroll 2
            for (uint32_t g = 0; g < shape.groups; g++)
                a[c][g] = _mm512_dpbusd_epi32(a[c][g], u[g], q);
        }
    }
#pragma GCC unroll 12
    for (uint32_t c = 0; c < shape.width; c++)
#pragma GCC unroll 2
        for (uint32_t g = 0; g < shape.groups; g++) {
            __m512 v = _mm512_cvtepi32_ps(a[c][g]);
            __m512 d = panel->d[b * halves + h][g];

            v = h == 0 ? _mm512_mul_ps(v, d) : _mm512_fmadd_ps(v, d, t[c][g]);
            if (shape.traits.mins)
                v = _mm512_fmadd_ps(panel->m[b * halves + h][g],
                                    _mm512_set1_ps(s->sum[h][c]), v);
            t[c][g] = v;
        }
}

HTH_INLINE void run_tile(const struct tile *t, const struct shape shape)
{
    const uint32_t width = shape.width;
    const uint8_t *x = t->x;
    tile_sums sum, v;
    struct starts starts;

    for (uint32_t c = 0; c < width; c++)
        for (uint32_t g = 0; g < shape.groups; g++)
            sum[c][g] = t->fresh || c >= t->rows
                            ? _mm512_setzero_ps()
                            : _mm512_loadu_ps(t->y + c * t->ldy + 16 * g);
    for (uint32_t b = 0; b < t->panel->blocks; b++) {
        block_starts(x + 36 * width, &shape, t->offset, &starts);
        tile_half(t, b, 0, shape, x, &starts, v);
        if (shape.traits.halves)
            tile_half(t, b, 1, shape, x, &starts, v);
#pragma GCC unroll 12
        for (uint32_t c = 0; c < width; c++) {
            __m512 d = broadcast_f32(x + 32 * width + 4 * c);

#pragma GCC unroll 2
            for (uint32_t g = 0; g < shape.groups; g++)
                sum[c][g] = _mm512_fmadd_ps(v[c][g], d, sum[c][g]);
        }
        x += width * HTH_TILE_BLOCK_BYTES;
    }
    for (uint32_t c = 0; c < t->rows; c++)
        for (uint32_t g = 0; g < shape.groups; g++)
            _mm512_storeu_ps(t->y + c * t->ldy + 16 * g, sum[c][g]);
}

#include "kernels/rows_many_avx512.h"

/* ---- the table ---------------------------------------------------------- */

#define GROUPS_OF(name)                                         \
    static void groups_##name(const struct hth_q8_product *job) \
    {                                                           \
        switch (job->x->n) {                                    \
        case 1:                                                 \
            few_groups(HTH_##name, 1, job);                     \
            break;                                              \
        case 2:                                                 \
            few_groups(HTH_##name, 2, job);                     \
            break;                                              \
        case 3:                                                 \
            few_groups(HTH_##name, 3, job);                     \
            break;                                              \
        case FEW:                                               \
            few_groups(HTH_##name, FEW, job);                   \
            break;                                              \
        default:                                                \
            many_groups(HTH_##name, job);                       \
            break;                                              \
        }                                                       \
    }
HTH_QUANT_TYPES(GROUPS_OF)

void hth__gemm_packed_avx512(const struct hth_mat *w, uint32_t first,
                             uint32_t count, const struct hth_q8 *x, float *y,
                             size_t ldy)
{
    const struct hth_q8_product job = {w, first, count, x, y, ldy};

    switch (w->type) {
#define CASE(name)           \
    case HTH_##name:         \
        groups_##name(&job); \
        break;
        HTH_QUANT_TYPES(CASE)
#undef CASE
    default:
        break;
    }
}
