/* rows_avx512.h - units of packed weights (pack.h) into registers. Lane r of
 * every register belongs to row r of the group. Internal to
 * kernels/..._avx512.c; registers and borrowed bytes, nothing here can fail.
 *
 * As in unpack_avx512.h codes become unsigned bytes u with a weight of
 * d (u - offset) + m; hth_wtraits() has the offsets. */
#ifndef HTH_KERNELS_ROWS_AVX512_H
#define HTH_KERNELS_ROWS_AVX512_H

#include "kernels/rows_shape.h"
#include "kernels/unpack_avx512.h"

/* The factors of a unit, per part or, for types with halves, per 16 columns. */
struct hth_wfactors {
    __m512 d[16];
    __m512 m[16];
};

HTH_INLINE __m512 hth_row_halves(const uint8_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}

/* Byte i of each lane, as a float. */
HTH_INLINE __m512 hth_lane_byte(__m512i v, uint32_t i)
{
    v = _mm512_srli_epi32(v, 8 * i);
    return _mm512_cvtepi32_ps(_mm512_and_si512(v, _mm512_set1_epi32(255)));
}

HTH_INLINE __m512 hth_lane_signed_byte(__m512i v, uint32_t i)
{
    v = _mm512_srai_epi32(_mm512_slli_epi32(v, 24 - 8 * i), 24);
    return _mm512_cvtepi32_ps(v);
}

/* Scales and minima of Q4_K and Q5_K: hth_scales_k4() in lanes. */
HTH_INLINE void hth_row_factors_k4(const uint8_t *p, struct hth_wfactors *f)
{
    const __m512i six = _mm512_set1_epi8(0x3f), low = _mm512_set1_epi8(0x0f);
    const __m512i top = _mm512_set1_epi8(0x30);
    __m512 d = hth_row_halves(p), m = hth_row_halves(p + 32);
    __m512i a = _mm512_loadu_si512(p + 64), b = _mm512_loadu_si512(p + 128);
    __m512i c = _mm512_loadu_si512(p + 192);
    __m512i s[2], n[2];

    m = _mm512_sub_ps(_mm512_setzero_ps(), m);
    s[0] = _mm512_and_si512(a, six);
    s[1] =
        hth_or_masked(_mm512_and_si512(c, low), _mm512_srli_epi16(a, 2), top);
    n[0] = _mm512_and_si512(b, six);
    n[1] = hth_or_masked(_mm512_and_si512(_mm512_srli_epi16(c, 4), low),
                         _mm512_srli_epi16(b, 2), top);
#pragma GCC unroll 8
    for (uint32_t j = 0; j < 8; j++) {
        f->d[j] = _mm512_mul_ps(d, hth_lane_byte(s[j / 4], j % 4));
        f->m[j] = _mm512_mul_ps(m, hth_lane_byte(n[j / 4], j % 4));
    }
}

HTH_INLINE __m128i hth_row_bytes16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)p);
}

HTH_INLINE void hth_row_factors_q6_k(const uint8_t *p, struct hth_wfactors *f)
{
    __m512 d = hth_row_halves(p);

#pragma GCC unroll 16
    for (int j = 0; j < 16; j++)
        f->d[j] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(
                                       hth_row_bytes16(p + 32 + 16 * j))));
}

HTH_INLINE void hth_row_factors_q2_k(const uint8_t *p, struct hth_wfactors *f)
{
    const __m512i low = _mm512_set1_epi32(15);
    __m512 d = hth_row_halves(p), m = hth_row_halves(p + 32);

    m = _mm512_sub_ps(_mm512_setzero_ps(), m);
#pragma GCC unroll 16
    for (int j = 0; j < 16; j++) {
        __m512i v = _mm512_cvtepu8_epi32(hth_row_bytes16(p + 64 + 16 * j));

        f->d[j] =
            _mm512_mul_ps(d, _mm512_cvtepi32_ps(_mm512_and_si512(v, low)));
        f->m[j] = _mm512_mul_ps(m, _mm512_cvtepi32_ps(_mm512_srli_epi32(v, 4)));
    }
}

/* hth_scales_q3_k() in lanes. */
HTH_INLINE void hth_row_factors_q3_k(const uint8_t *p, struct hth_wfactors *f)
{
    const __m512i low = _mm512_set1_epi8(0x0f), top = _mm512_set1_epi8(0x30);
    const __m512i minus = _mm512_set1_epi8(32);
    __m512 d = hth_row_halves(p);
    __m512i a = _mm512_loadu_si512(p + 32), b = _mm512_loadu_si512(p + 96);
    __m512i c = _mm512_loadu_si512(p + 160);
    __m512i s[4] = {
        hth_or_masked(_mm512_and_si512(a, low), _mm512_slli_epi16(c, 4), top),
        hth_or_masked(_mm512_and_si512(b, low), _mm512_slli_epi16(c, 2), top),
        hth_or_masked(_mm512_and_si512(_mm512_srli_epi16(a, 4), low), c, top),
        hth_or_masked(_mm512_and_si512(_mm512_srli_epi16(b, 4), low),
                      _mm512_srli_epi16(c, 2), top)};

#pragma GCC unroll 4
    for (uint32_t j = 0; j < 4; j++)
        s[j] = _mm512_sub_epi8(s[j], minus);
#pragma GCC unroll 16
    for (uint32_t j = 0; j < 16; j++)
        f->d[j] = _mm512_mul_ps(d, hth_lane_signed_byte(s[j / 4], j % 4));
}

HTH_INLINE void hth_row_factors_iq4_xs(const uint8_t *p, struct hth_wfactors *f)
{
    const __m512i four = _mm512_set1_epi32(15), two = _mm512_set1_epi32(0x30);
    const __m512i minus = _mm512_set1_epi32(32);
    __m512 d = hth_row_halves(p);
    __m512i high =
        _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(p + 32)));
    __m512i low = _mm512_loadu_si512(p + 64);

    high = _mm512_slli_epi32(high, 4);
#pragma GCC unroll 8
    for (uint32_t j = 0; j < 8; j++) {
        __m512i v =
            hth_or_masked(_mm512_and_si512(_mm512_srli_epi32(low, 4 * j), four),
                          _mm512_srli_epi32(high, 2 * j), two);

        v = _mm512_sub_epi32(v, minus);
        f->d[j] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(v));
    }
}

/* The factors of the unit at p; what a type has not stays as it was. */
HTH_INLINE void hth_row_factors(uint32_t type, const uint8_t *p,
                                struct hth_wfactors *f)
{
    switch (type) {
    case HTH_Q4_K:
    case HTH_Q5_K:
        hth_row_factors_k4(p, f);
        break;
    case HTH_Q6_K:
        hth_row_factors_q6_k(p, f);
        break;
    case HTH_Q2_K:
        hth_row_factors_q2_k(p, f);
        break;
    case HTH_Q3_K:
        hth_row_factors_q3_k(p, f);
        break;
    case HTH_IQ4_XS:
        hth_row_factors_iq4_xs(p, f);
        break;
    case HTH_Q4_1:
    case HTH_Q5_1:
        f->m[0] = hth_row_halves(p + 32);
        f->d[0] = hth_row_halves(p);
        break;
    default:
        f->d[0] = hth_row_halves(p);
        break;
    }
}

/* ---- codes -------------------------------------------------------------- */

HTH_INLINE void hth_row_nibbles(const uint8_t *p, __m512i u[8])
{
    const __m512i low = _mm512_set1_epi8(15);

#pragma GCC unroll 4
    for (int t = 0; t < 4; t++) {
        __m512i w = _mm512_loadu_si512(p + 64 * t);

        u[t] = _mm512_and_si512(w, low);
        u[4 + t] = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);
    }
}

/* Bit t of each byte to bit `to` of u[t]. */
HTH_INLINE void hth_row_ones(const uint8_t *p, int to, __m512i u[8])
{
    const __m512i bit = _mm512_set1_epi8((char)(1 << to));
    __m512i w = _mm512_loadu_si512(p);

#pragma GCC unroll 8
    for (int t = 0; t < 8; t++)
        u[t] = hth_or_masked(u[t], hth_move_bit(w, t, to), bit);
}

/* Two bits each, to bits `to` and up. */
HTH_INLINE void hth_row_twos(const uint8_t *p, int to, __m512i u[8])
{
    const __m512i bits = _mm512_set1_epi8((char)(3 << to));

#pragma GCC unroll 2
    for (int h = 0; h < 2; h++) {
        __m512i w = _mm512_loadu_si512(p + 64 * h);

#pragma GCC unroll 4
        for (int k = 0; k < 4; k++)
            u[4 * h + k] =
                hth_or_masked(u[4 * h + k], hth_move_bit(w, 2 * k, to), bits);
    }
}

HTH_INLINE void hth_row_bytes8(const uint8_t *p, __m512i u[8])
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);

#pragma GCC unroll 8
    for (int t = 0; t < 8; t++)
        u[t] = _mm512_xor_si512(flip, _mm512_loadu_si512(p + 64 * t));
}

/* The codes of the part at p. */
HTH_INLINE void hth_row_codes(uint32_t type, const uint8_t *p, __m512i u[8])
{
    switch (type) {
    case HTH_Q8_0:
        hth_row_bytes8(p, u);
        return;
    case HTH_Q2_K:
    case HTH_Q3_K:
#pragma GCC unroll 8
        for (int t = 0; t < 8; t++)
            u[t] = _mm512_setzero_si512();
        hth_row_twos(p, 0, u);
        if (type == HTH_Q3_K)
            hth_row_ones(p + 128, 2, u);
        return;
    default:
        hth_row_nibbles(p, u);
        break;
    }
    if (type == HTH_Q5_0 || type == HTH_Q5_1 || type == HTH_Q5_K)
        hth_row_ones(p + 256, 4, u);
    else if (type == HTH_Q6_K)
        hth_row_twos(p + 256, 4, u);
    else if (type == HTH_IQ4_NL || type == HTH_IQ4_XS)
        hth_map_iq4(u);
}

#endif
