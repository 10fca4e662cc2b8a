/* rows_panel_avx512.h - what AVX-512 and AMX share of products of packed
 * weights: fetching, a panel of 32 rows by 512 columns that is unpacked once,
 * and what a tile of x is. Compiled into each set's file, which defines
 * PANEL_SIGNED first. Internal; no state, no failure. */
#ifndef HTH_KERNELS_ROWS_PANEL_AVX512_H
#define HTH_KERNELS_ROWS_PANEL_AVX512_H

#include "kernels/rows_avx512.h"

#define PANEL_BLOCKS 16u
#define PAIR 2u /* groups in a panel */
/* How far before their use weights are fetched to the second-level cache, and
 * from there: one distance alone reads a tenth to a third less. */
#define FAR_BYTES 4096u
#define NEAR_BYTES 1024u

HTH_INLINE __m512i broadcast32(const void *p)
{
    int32_t v;

    memcpy(&v, p, sizeof v);
    return _mm512_set1_epi32(v);
}

HTH_INLINE __m512 broadcast_f32(const void *p)
{
    float v;

    memcpy(&v, p, sizeof v);
    return _mm512_set1_ps(v);
}

/* -offset times the sum of q, of a whole block or its half h: sums are pairs
 * of 16 bits, and so are the factors. */
HTH_INLINE __m512i times_sum(__m512i sums, struct hth_wtraits traits, int h,
                             int factor)
{
    uint32_t f = (uint16_t)(int16_t)factor;

    if (!traits.halves)
        f |= f << 16;
    else if (h == 1)
        f <<= 16;
    return _mm512_madd_epi16(sums, _mm512_set1_epi32((int)f));
}

HTH_INLINE void fetch(const uint8_t *p, uint32_t bytes)
{
#pragma GCC unroll 8
    for (uint32_t b = 0; b < bytes; b += 64) {
        _mm_prefetch((const char *)p + FAR_BYTES + b, _MM_HINT_T1);
        _mm_prefetch((const char *)p + NEAR_BYTES + b, _MM_HINT_T0);
    }
}

struct panel {
    __m512i u[PANEL_BLOCKS][8][PAIR];
    __m512 d[2 * PANEL_BLOCKS][PAIR]; /* per block, or per half of one */
    __m512 m[2 * PANEL_BLOCKS][PAIR];
    uint32_t blocks;
};

/* w: the first unit of the panel in its group, which is number g of the pair.
 * The codes come out as the dot product wants them: unsigned for a set that
 * starts its sums at -offset times the sum of q, or else signed. */
HTH_INLINE void fill_panel(uint32_t type, const uint8_t *w, uint32_t g,
                           struct panel *panel)
{
    const __m512i offset =
        _mm512_set1_epi8((char)(PANEL_SIGNED ? hth_wtraits(type).offset : 0));
    const struct hth_wtraits traits = hth_wtraits(type);
    const struct hth_pack_shape s = hth_row_shape(type);
    const uint32_t factors = (traits.halves ? 2 : 1) * s.parts;
    struct hth_wfactors f;
    __m512i u[8];

    for (uint32_t b = 0; b < panel->blocks; b += s.parts) {
        fetch(w, s.head_bytes);
        hth_row_factors(type, w, &f);
        for (uint32_t i = 0; i < factors; i++) {
            panel->d[b / s.parts * factors + i][g] = f.d[i];
            if (traits.mins)
                panel->m[b / s.parts * factors + i][g] = f.m[i];
        }
        w += s.head_bytes;
        for (uint32_t part = 0; part < s.parts; part++, w += s.part_bytes) {
            fetch(w, s.part_bytes);
            hth_row_codes(type, w, u);
            for (uint32_t t = 0; t < 8; t++)
                panel->u[b + part][t][g] = _mm512_sub_epi8(u[t], offset);
        }
    }
}

/* One panel times one tile of x. */
struct tile {
    const struct panel *panel;
    const uint8_t *x; /* the panel's first block */
    float *y;
    size_t ldy;
    uint32_t rows; /* of x that exist: 1 to width */
    bool fresh;    /* y holds nothing yet */
    int offset;
};

/* What a tile's code is compiled for. */
struct shape {
    uint32_t width;
    uint32_t groups; /* of the pair */
    struct hth_wtraits traits;
};

/* Of up to 16 rows of x: what starts the integer sums, and the sums of q as
 * floats, for a block or the halves of one. */
struct starts {
    int32_t off[2][16];
    float sum[2][16];
};

/* The barrier makes the compiler load numbers from here with broadcasts, which
 * cost no arithmetic; it would rather shuffle the registers it just stored. */
HTH_INLINE void block_starts(const uint8_t *sums, const struct shape *shape,
                             int offset, struct starts *s)
{
    const struct hth_wtraits traits = shape->traits;
    __m512i v = _mm512_maskz_loadu_epi32(hth_first16(shape->width), sums);

    for (int h = 0; h < (traits.halves ? 2 : 1); h++) {
        if (traits.mins)
            _mm512_storeu_ps(s->sum[h],
                             _mm512_cvtepi32_ps(times_sum(v, traits, h, 1)));
        else
            _mm512_storeu_si512(s->off[h], times_sum(v, traits, h, -offset));
    }
    __asm__ volatile("" ::: "memory");
}

#endif
