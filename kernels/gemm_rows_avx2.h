/* gemm_rows_avx2.h - products of packed weights (pack.h) in 256-bit registers:
 * a group of 16 rows is two halves of 8. Compiled twice: with HTH_ROWS_VNNI
 * for CPUs that have 8-bit dot products (AVX-VNNI), without for plain AVX2.
 *
 * As in kernels_rows_avx512.c few rows of x meet the packed bytes and many a
 * panel; sums stay in memory, registers hold the integer sums of four rows of
 * x. The operations are those of isa.h in their order: the same bits.
 *
 * Plain AVX2 has products of pairs in 16 bits: they are added there as long as
 * they fit (8 steps of 4-bit codes, 4 of 5-bit, 2 of 6-bit); signed weights
 * lend their sign to x, since one factor must be unsigned. */
#ifndef HTH_KERNELS_GEMM_ROWS_AVX2_H
#define HTH_KERNELS_GEMM_ROWS_AVX2_H

#include "kernels/rows_avx2.h"

#define FEW 4u
#define SUB 4u /* rows of x whose sums are in registers */
#define FAR_BYTES 4096u
#define NEAR_BYTES 1024u

/* Registers are few: without these the compiler loads and multiplies far ahead
 * and spills what it gains. */
#define KEEP(v) __asm__("" : "+x"(v))
#define STEP_DONE() __asm__ volatile("" ::: "memory")
/* One pointer with constant distances from it, not a sum for each load. */
#define KEEP_POINTER(p) __asm__("" : "+r"(p))

/* ---- integer products --------------------------------------------------- */

/* What a sum of up to eight steps is kept in. */
struct isum {
    __m256i wide;   /* 32 bits */
    __m256i narrow; /* 16 bits; unused with VNNI */
};

HTH_INLINE __m256i broadcast32(const void *p)
{
    int32_t v;

    memcpy(&v, p, sizeof v);
    return _mm256_set1_epi32(v);
}

HTH_INLINE __m256 broadcast_f32(const void *p)
{
    float v;

    memcpy(&v, p, sizeof v);
    return _mm256_set1_ps(v);
}

#ifdef HTH_ROWS_VNNI

#define STEP_BY_STEP(traits) false

/* Signed weights become unsigned; the sum over x that this adds is taken off
 * at the start. */
HTH_INLINE int unsigned_offset(struct hth_rows_traits traits)
{
    return traits.plain ? 128 : traits.offset;
}

HTH_INLINE __m256i unsigned_weights(__m256i u, struct hth_rows_traits traits)
{
    if (!traits.plain)
        return u;
    return _mm256_xor_si256(u, _mm256_set1_epi8((char)0x80));
}

HTH_INLINE void dot_step(struct isum *s, __m256i u, __m256i q, uint32_t step,
                         struct hth_rows_traits traits)
{
    (void)step;
    s->wide = _mm256_dpbusd_avx_epi32(s->wide, unsigned_weights(u, traits), q);
}

#else

HTH_INLINE int unsigned_offset(struct hth_rows_traits traits)
{
    return traits.offset;
}

#define STEP_BY_STEP(traits) (!(traits).plain)

HTH_INLINE __m256i unsigned_weights(__m256i u, struct hth_rows_traits traits)
{
    (void)traits;
    return u;
}

/* How many steps of products of pairs fit 16 bits. */
HTH_INLINE uint32_t narrow_steps(struct hth_rows_traits traits)
{
    if (traits.plain)
        return 1;
    return traits.bits <= 4 ? 8 : traits.bits == 5 ? 4 : 2;
}

HTH_INLINE void dot_step(struct isum *s, __m256i u, __m256i q, uint32_t step,
                         struct hth_rows_traits traits)
{
    const __m256i ones = _mm256_set1_epi16(1);
    const uint32_t fit = narrow_steps(traits);
    const uint32_t last = traits.halves ? 3 : 7;
    __m256i p = traits.plain ? _mm256_maddubs_epi16(_mm256_abs_epi8(u),
                                                    _mm256_sign_epi8(q, u))
                             : _mm256_maddubs_epi16(u, q);

    step &= last;
    s->narrow = step % fit == 0 ? p : _mm256_add_epi16(s->narrow, p);
    if (fit > 1)
        KEEP(s->narrow);
    if (step % fit == fit - 1 || step == last)
        s->wide = _mm256_add_epi32(s->wide, _mm256_madd_epi16(s->narrow, ones));
}

#endif

/* `factor` times the sum of q, of a whole block or its half h: sums are pairs
 * of 16 bits, and so are the factors. */
HTH_INLINE __m256i times_sum(__m256i sums, struct hth_rows_traits traits,
                             uint32_t h, int factor)
{
    uint32_t f = (uint16_t)(int16_t)factor;

    if (!traits.halves)
        f |= f << 16;
    else if (h == 1)
        f <<= 16;
    return _mm256_madd_epi16(sums, _mm256_set1_epi32((int)f));
}

/* ---- a block ------------------------------------------------------------ */

/* 32 columns of half a group, as the panel or the packed bytes give them. */
struct wblock {
    const __m256i *u; /* [8], `stride` registers apart */
    const __m256 *d;  /* [halves], likewise */
    const __m256 *m;
    uint32_t stride;
};

/* A block of some rows of x. */
struct xblock {
    const uint8_t *q;    /* 32 bytes per row */
    const uint8_t *d;    /* 4 bytes per row */
    const uint8_t *sums; /* likewise */
    uint32_t count;      /* 1 to SUB */
};

/* From row c on of a tile's block. */
HTH_INLINE struct xblock xblock_at(const uint8_t *x, uint32_t width, uint32_t c,
                                   uint32_t count)
{
    const uint8_t *q = x + 32 * c, *d = x + 32 * width + 4 * c;
    const uint8_t *sums = x + 36 * width + 4 * c;

    KEEP_POINTER(q);
    KEEP_POINTER(d);
    KEEP_POINTER(sums);
    return (struct xblock){q, d, sums, count};
}

HTH_INLINE __m256 scaled(__m256i sum, const struct wblock *w, uint32_t h,
                         __m256 t)
{
    __m256 v = _mm256_cvtepi32_ps(sum), d = w->d[h * w->stride];

    return h == 0 ? _mm256_mul_ps(v, d) : _mm256_fmadd_ps(v, d, t);
}

/* What one block adds for some rows of x, in units of their scales. */
HTH_INLINE void block_terms(const struct wblock *w, const struct xblock *x,
                            struct hth_rows_traits traits, __m256 t[SUB])
{
    const uint32_t halves = traits.halves ? 2 : 1, steps = 8 / halves;
    const int offset = unsigned_offset(traits);
    struct isum a[SUB];

#pragma GCC unroll 2
    for (uint32_t h = 0; h < halves; h++) {
#pragma GCC unroll 4
        for (uint32_t c = 0; c < x->count; c++) {
            a[c].wide = _mm256_setzero_si256();
            if (offset != 0)
                a[c].wide =
                    times_sum(broadcast32(x->sums + 4 * c), traits, h, -offset);
        }
#pragma GCC unroll 8
        for (uint32_t i = h * steps; i < (h + 1) * steps; i++) {
            __m256i u = w->u[i * w->stride];

#pragma GCC unroll 4
            for (uint32_t c = 0; c < x->count; c++)
                dot_step(&a[c], u, broadcast32(x->q + 32 * c + 4 * i), i,
                         traits);
            if (STEP_BY_STEP(traits))
                STEP_DONE();
        }
#pragma GCC unroll 4
        for (uint32_t c = 0; c < x->count; c++) {
            __m256i s = broadcast32(x->sums + 4 * c);

            t[c] = scaled(a[c].wide, w, h, t[c]);
            if (traits.mins)
                t[c] = _mm256_fmadd_ps(
                    w->m[h * w->stride],
                    _mm256_cvtepi32_ps(times_sum(s, traits, h, 1)), t[c]);
        }
    }
}

/* ---- few rows of x ------------------------------------------------------ */

struct few {
    const uint8_t *w; /* a group */
    const uint8_t *x; /* the tile */
    uint32_t units;
};

HTH_INLINE void fetch(const uint8_t *p, uint32_t bytes)
{
#pragma GCC unroll 8
    for (uint32_t b = 0; b < bytes; b += 64) {
        _mm_prefetch((const char *)p + FAR_BYTES + b, _MM_HINT_T1);
        _mm_prefetch((const char *)p + NEAR_BYTES + b, _MM_HINT_T0);
    }
}

/* A part of a group times n rows of x; at: the index of its factors. */
HTH_INLINE void few_part(uint32_t type, const uint8_t *w,
                         const struct hth_rows_factors f[2], uint32_t at,
                         const struct xblock *x, __m256 sum[FEW][2])
{
    __m256i u[8];
    __m256 t[SUB];

#pragma GCC unroll 2
    for (uint32_t half = 0; half < 2; half++) {
        struct wblock b = {u, f[half].d + at, f[half].m + at, 1};

        hth_rows_codes(type, w, half, u);
        block_terms(&b, x, hth_rows_traits(type), t);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < x->count; r++)
            sum[r][half] = _mm256_fmadd_ps(t[r], broadcast_f32(x->d + 4 * r),
                                           sum[r][half]);
    }
}

HTH_INLINE void few_group(uint32_t type, uint32_t n, const struct few *g,
                          __m256 sum[FEW][2])
{
    const struct hth_pack_shape s = hth_row_shape(type);
    const uint32_t factors = hth_rows_traits(type).halves ? 2 : 1;
    const uint8_t *w = g->w, *x = g->x;
    struct hth_rows_factors f[2];

#pragma GCC unroll 4
    for (uint32_t r = 0; r < n; r++)
        sum[r][0] = sum[r][1] = _mm256_setzero_ps();
    for (uint32_t unit = 0; unit < g->units; unit++) {
        fetch(w, s.head_bytes);
        hth_rows_factors(type, w, 0, &f[0]);
        hth_rows_factors(type, w, 1, &f[1]);
        w += s.head_bytes;
        for (uint32_t part = 0; part < s.parts; part++) {
            const struct xblock b = xblock_at(x, n, 0, n);

            fetch(w, s.part_bytes);
            few_part(type, w, f, part * factors, &b, sum);
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
    __m256 sum[FEW][2];

    for (size_t o = job->first; o < (size_t)job->first + job->count;
         o += HTH_PACK_ROWS) {
        g.w = (const uint8_t *)w->data + o * w->row_bytes;
        few_group(type, n, &g, sum);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < n; r++) {
            _mm256_storeu_ps(job->y + r * job->ldy + o, sum[r][0]);
            _mm256_storeu_ps(job->y + r * job->ldy + o + 8, sum[r][1]);
        }
    }
}

#include "kernels/rows_many_avx2.h"

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

static void gemm_rows(const struct hth_q8_product *job)
{
    switch (job->w->type) {
#define CASE(name)          \
    case HTH_##name:        \
        groups_##name(job); \
        break;
        HTH_QUANT_TYPES(CASE)
#undef CASE
    default:
        break;
    }
}

#endif
