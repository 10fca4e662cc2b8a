/* rows_avx2.h - units of packed weights (pack.h) into 256-bit registers: lane
 * r of a register belongs to row 8 half + r of the group. Internal to
 * kernels/..._avx2.c and ..._avxvnni.c; registers and borrowed bytes, nothing
 * here can fail.
 *
 * Codes become unsigned bytes u that stand for u - offset; Q8_0 and IQ4 give
 * the signed weights themselves, which hth_rows_traits() calls `plain`. */
#ifndef HTH_KERNELS_ROWS_AVX2_H
#define HTH_KERNELS_ROWS_AVX2_H

#include <immintrin.h>

#include "kernels/rows_shape.h"
#include "kernels/x86.h"

struct hth_rows_traits {
    int offset;
    int bits;    /* of a code */
    bool plain;  /* signed bytes, no codes */
    bool halves; /* scales per 16 columns */
    bool mins;
};

HTH_INLINE struct hth_rows_traits hth_rows_traits(uint32_t type)
{
    switch (type) {
    case HTH_Q4_0:
        return (struct hth_rows_traits){8, 4, false, false, false};
    case HTH_Q4_1:
    case HTH_Q4_K:
        return (struct hth_rows_traits){0, 4, false, false, true};
    case HTH_Q5_0:
        return (struct hth_rows_traits){16, 5, false, false, false};
    case HTH_Q5_1:
    case HTH_Q5_K:
        return (struct hth_rows_traits){0, 5, false, false, true};
    case HTH_Q2_K:
        return (struct hth_rows_traits){0, 2, false, true, true};
    case HTH_Q3_K:
        return (struct hth_rows_traits){4, 3, false, true, false};
    case HTH_Q6_K:
        return (struct hth_rows_traits){32, 6, false, true, false};
    default: /* Q8_0, IQ4_NL, IQ4_XS */
        return (struct hth_rows_traits){0, 8, true, false, false};
    }
}

/* The factors of half a group's unit, per part or per 16 columns. */
struct hth_rows_factors {
    __m256 d[16];
    __m256 m[16];
};

HTH_INLINE __m256i hth_load32(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)p);
}

HTH_INLINE __m256 hth_rows_halves(const uint8_t *p)
{
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}

HTH_INLINE __m256 hth_rows_byte(__m256i v, uint32_t i)
{
    v = _mm256_srli_epi32(v, (int)(8 * i));
    return _mm256_cvtepi32_ps(_mm256_and_si256(v, _mm256_set1_epi32(255)));
}

/* a | (b & mask) */
HTH_INLINE __m256i hth_rows_or(__m256i a, __m256i b, __m256i mask)
{
    return _mm256_or_si256(a, _mm256_and_si256(b, mask));
}

/* hth_scales_k4() in lanes. */
HTH_INLINE void hth_rows_factors_k4(const uint8_t *p, uint32_t half,
                                    struct hth_rows_factors *f)
{
    const __m256i six = _mm256_set1_epi8(0x3f), low = _mm256_set1_epi8(0x0f);
    const __m256i top = _mm256_set1_epi8(0x30);
    __m256 d = hth_rows_halves(p + 16 * half);
    __m256 m = hth_rows_halves(p + 32 + 16 * half);
    __m256i a = hth_load32(p + 64 + 32 * half);
    __m256i b = hth_load32(p + 128 + 32 * half);
    __m256i c = hth_load32(p + 192 + 32 * half);
    __m256i s[2], n[2];

    m = _mm256_sub_ps(_mm256_setzero_ps(), m);
    s[0] = _mm256_and_si256(a, six);
    s[1] = hth_rows_or(_mm256_and_si256(c, low), _mm256_srli_epi16(a, 2), top);
    n[0] = _mm256_and_si256(b, six);
    n[1] = hth_rows_or(_mm256_and_si256(_mm256_srli_epi16(c, 4), low),
                       _mm256_srli_epi16(b, 2), top);
#pragma GCC unroll 8
    for (uint32_t j = 0; j < 8; j++) {
        f->d[j] = _mm256_mul_ps(d, hth_rows_byte(s[j / 4], j % 4));
        f->m[j] = _mm256_mul_ps(m, hth_rows_byte(n[j / 4], j % 4));
    }
}

HTH_INLINE __m128i hth_rows_bytes8(const uint8_t *p)
{
    return _mm_loadl_epi64((const __m128i *)p);
}

HTH_INLINE void hth_rows_factors_q6_k(const uint8_t *p, uint32_t half,
                                      struct hth_rows_factors *f)
{
    __m256 d = hth_rows_halves(p + 16 * half);

    for (uint32_t j = 0; j < 16; j++) {
        __m128i b = hth_rows_bytes8(p + 32 + 16 * j + 8 * half);

        f->d[j] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(b)));
    }
}

HTH_INLINE void hth_rows_factors_q2_k(const uint8_t *p, uint32_t half,
                                      struct hth_rows_factors *f)
{
    const __m256i low = _mm256_set1_epi32(15);
    __m256 d = hth_rows_halves(p + 16 * half);
    __m256 m = hth_rows_halves(p + 32 + 16 * half);

    m = _mm256_sub_ps(_mm256_setzero_ps(), m);
    for (uint32_t j = 0; j < 16; j++) {
        __m256i v =
            _mm256_cvtepu8_epi32(hth_rows_bytes8(p + 64 + 16 * j + 8 * half));

        f->d[j] =
            _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_and_si256(v, low)));
        f->m[j] = _mm256_mul_ps(m, _mm256_cvtepi32_ps(_mm256_srli_epi32(v, 4)));
    }
}

/* hth_scales_q3_k() in lanes. */
HTH_INLINE void hth_rows_factors_q3_k(const uint8_t *p, uint32_t half,
                                      struct hth_rows_factors *f)
{
    const __m256i low = _mm256_set1_epi8(0x0f), top = _mm256_set1_epi8(0x30);
    const __m256i minus = _mm256_set1_epi8(32);
    __m256 d = hth_rows_halves(p + 16 * half);
    __m256i a = hth_load32(p + 32 + 32 * half);
    __m256i b = hth_load32(p + 96 + 32 * half);
    __m256i c = hth_load32(p + 160 + 32 * half);
    __m256i s[4] = {
        hth_rows_or(_mm256_and_si256(a, low), _mm256_slli_epi16(c, 4), top),
        hth_rows_or(_mm256_and_si256(b, low), _mm256_slli_epi16(c, 2), top),
        hth_rows_or(_mm256_and_si256(_mm256_srli_epi16(a, 4), low), c, top),
        hth_rows_or(_mm256_and_si256(_mm256_srli_epi16(b, 4), low),
                    _mm256_srli_epi16(c, 2), top)};

#pragma GCC unroll 16
    for (uint32_t j = 0; j < 16; j++) {
        __m256i v = _mm256_sub_epi8(s[j / 4], minus);

        v = _mm256_slli_epi32(v, (int)(24 - 8 * (j % 4)));
        f->d[j] =
            _mm256_mul_ps(d, _mm256_cvtepi32_ps(_mm256_srai_epi32(v, 24)));
    }
}

HTH_INLINE void hth_rows_factors_iq4_xs(const uint8_t *p, uint32_t half,
                                        struct hth_rows_factors *f)
{
    const __m256i four = _mm256_set1_epi32(15), two = _mm256_set1_epi32(0x30);
    const __m256i minus = _mm256_set1_epi32(32);
    __m256 d = hth_rows_halves(p + 16 * half);
    __m256i high = _mm256_cvtepu16_epi32(
        _mm_loadu_si128((const __m128i *)(p + 32 + 16 * half)));
    __m256i low = hth_load32(p + 64 + 32 * half);

    high = _mm256_slli_epi32(high, 4);
#pragma GCC unroll 8
    for (uint32_t j = 0; j < 8; j++) {
        __m256i v = hth_rows_or(
            _mm256_and_si256(_mm256_srli_epi32(low, (int)(4 * j)), four),
            _mm256_srli_epi32(high, (int)(2 * j)), two);

        v = _mm256_sub_epi32(v, minus);
        f->d[j] = _mm256_mul_ps(d, _mm256_cvtepi32_ps(v));
    }
}

HTH_INLINE void hth_rows_factors(uint32_t type, const uint8_t *p, uint32_t half,
                                 struct hth_rows_factors *f)
{
    switch (type) {
    case HTH_Q4_K:
    case HTH_Q5_K:
        hth_rows_factors_k4(p, half, f);
        break;
    case HTH_Q6_K:
        hth_rows_factors_q6_k(p, half, f);
        break;
    case HTH_Q2_K:
        hth_rows_factors_q2_k(p, half, f);
        break;
    case HTH_Q3_K:
        hth_rows_factors_q3_k(p, half, f);
        break;
    case HTH_IQ4_XS:
        hth_rows_factors_iq4_xs(p, half, f);
        break;
    case HTH_Q4_1:
    case HTH_Q5_1:
        f->m[0] = hth_rows_halves(p + 32 + 16 * half);
        f->d[0] = hth_rows_halves(p + 16 * half);
        break;
    default:
        f->d[0] = hth_rows_halves(p + 16 * half);
        break;
    }
}

/* ---- codes -------------------------------------------------------------- */

/* Shift by a constant either way; bits from other bytes are noise. */
HTH_INLINE __m256i hth_rows_move(__m256i v, int from, int to)
{
    if (from > to)
        return _mm256_srli_epi16(v, from - to);
    return _mm256_slli_epi16(v, to - from);
}

HTH_INLINE void hth_rows_nibbles(const uint8_t *p, __m256i u[8])
{
    const __m256i low = _mm256_set1_epi8(15);

#pragma GCC unroll 4
    for (int t = 0; t < 4; t++) {
        __m256i w = hth_load32(p + 64 * t);

        u[t] = _mm256_and_si256(w, low);
        u[4 + t] = _mm256_and_si256(_mm256_srli_epi16(w, 4), low);
    }
}

HTH_INLINE void hth_rows_ones(const uint8_t *p, int to, __m256i u[8])
{
    const __m256i bit = _mm256_set1_epi8((char)(1 << to));
    __m256i w = hth_load32(p);

#pragma GCC unroll 8
    for (int t = 0; t < 8; t++)
        u[t] = hth_rows_or(u[t], hth_rows_move(w, t, to), bit);
}

HTH_INLINE void hth_rows_twos(const uint8_t *p, int to, __m256i u[8])
{
    const __m256i bits = _mm256_set1_epi8((char)(3 << to));

#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m256i w = hth_load32(p + 64 * h);

#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            u[4 * h + k] =
                hth_rows_or(u[4 * h + k], hth_rows_move(w, 2 * k, to), bits);
    }
}

/* The values behind IQ4 codes. */
HTH_INLINE void hth_rows_iq4(__m256i u[8])
{
    const __m256i values = _mm256_broadcastsi128_si256(
        _mm_loadu_si128((const __m128i *)hth_iq4_values));

#pragma GCC unroll 8
    for (int t = 0; t < 8; t++)
        u[t] = _mm256_shuffle_epi8(values, u[t]);
}

/* The codes of half a group's part at p. */
HTH_INLINE void hth_rows_codes(uint32_t type, const uint8_t *p, uint32_t half,
                               __m256i u[8])
{
    p += 32 * half;
    switch (type) {
    case HTH_Q8_0:
#pragma GCC unroll 8
        for (int t = 0; t < 8; t++)
            u[t] = hth_load32(p + 64 * t);
        return;
    case HTH_Q2_K:
    case HTH_Q3_K:
#pragma GCC unroll 8
        for (int t = 0; t < 8; t++)
            u[t] = _mm256_setzero_si256();
        hth_rows_twos(p, 0, u);
        if (type == HTH_Q3_K)
            hth_rows_ones(p + 128, 2, u);
        return;
    default:
        hth_rows_nibbles(p, u);
        break;
    }
    if (type == HTH_Q5_0 || type == HTH_Q5_1 || type == HTH_Q5_K)
        hth_rows_ones(p + 256, 4, u);
    else if (type == HTH_Q6_K)
        hth_rows_twos(p + 256, 4, u);
    else if (type == HTH_IQ4_NL || type == HTH_IQ4_XS)
        hth_rows_iq4(u);
}

#endif
