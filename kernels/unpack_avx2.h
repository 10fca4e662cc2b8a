/* unpack_avx2.h - eight blocks of 32 weights, any quantised type, into one
 * common form that both the decode and the prefill products read. Internal to
 * kernels/..._avx2.c. Layouts: the GGUF/ggml block definitions; the meaning of
 * each type is defined by kernels/quant.h.
 *
 * A chunk is up to 8 blocks of 32 numbers (256 columns, one super-block) of
 * one row. w[b] holds the 32 integers of block b in order: unsigned, or signed
 * for types that need all 8 bits. Lane b of d and m belongs to block b. A
 * weight is d (w - offset) + m. Types with scales per 16 numbers have d and m
 * for each half of a block; the others use d[0] and m[0] only.
 *
 * Nothing outside the `blocks` blocks that exist is read; what stands for the
 * others is garbage, which the callers do not use. */
#ifndef HTH_KERNELS_UNPACK_AVX2_H
#define HTH_KERNELS_UNPACK_AVX2_H

#include <stdbool.h>

#include "kernels/simd_avx2.h"
#include "kernels/x86.h"

struct hth_wchunk {
    __m256i w[8];
    __m256 d[2];
    __m256 m[2];
};

struct hth_wtraits {
    uint32_t chunk_bytes; /* of 256 columns */
    int offset;
    bool halves; /* scales per 16 numbers */
    bool mins;   /* m is not all zero */
    /* How many products of a number with one of -127 to 127 fit in 16 bits,
     * in groups of 4 columns; 0: w is signed, two products just fit. */
    uint32_t steps;
};

HTH_INLINE struct hth_wtraits hth_wtraits(uint32_t type)
{
    switch (type) {
    case HTH_Q4_0:
        return (struct hth_wtraits){8 * 18, 8, false, false, 8};
    case HTH_Q4_1:
        return (struct hth_wtraits){8 * 20, 0, false, true, 8};
    case HTH_Q5_0:
        return (struct hth_wtraits){8 * 22, 16, false, false, 4};
    case HTH_Q5_1:
        return (struct hth_wtraits){8 * 24, 0, false, true, 4};
    case HTH_Q8_0:
        return (struct hth_wtraits){8 * 34, 0, false, false, 0};
    case HTH_Q2_K:
        return (struct hth_wtraits){84, 0, true, true, 4};
    case HTH_Q3_K:
        return (struct hth_wtraits){110, 4, true, false, 4};
    case HTH_Q4_K:
        return (struct hth_wtraits){144, 0, false, true, 8};
    case HTH_Q5_K:
        return (struct hth_wtraits){176, 0, false, true, 4};
    case HTH_Q6_K:
        return (struct hth_wtraits){210, 32, true, false, 2};
    case HTH_IQ4_NL:
        return (struct hth_wtraits){8 * 18, 0, false, false, 0};
    default: /* HTH_IQ4_XS */
        return (struct hth_wtraits){136, 0, false, false, 0};
    }
}

/* ---- pieces ------------------------------------------------------------- */

HTH_INLINE __m256i hth_load32(const uint8_t *p)
{
    return _mm256_loadu_si256((const __m256i *)(const void *)p);
}

HTH_INLINE float hth_half_at(const uint8_t *p)
{
    return _cvtsh_ss(hth_peek16(p));
}

/* Block b, or the first where there is no such block. */
HTH_INLINE const uint8_t *hth_block_at(const uint8_t *p, uint32_t b,
                                       uint32_t blocks, size_t stride)
{
    return p + (b < blocks ? b : 0) * stride;
}

/* The half float at p of each of 8 blocks. */
HTH_INLINE __m256 hth_strided_halves(const uint8_t *p, uint32_t blocks,
                                     size_t stride)
{
    __m128i v = _mm_cvtsi32_si128(hth_peek16(p));

#define PUT(b)            \
    v = _mm_insert_epi16( \
        v, (short)hth_peek16(hth_block_at(p, b, blocks, stride)), b)
    PUT(1);
    PUT(2);
    PUT(3);
    PUT(4);
    PUT(5);
    PUT(6);
    PUT(7);
#undef PUT
    return _mm256_cvtph_ps(v);
}

/* 16 bytes to 32 nibbles, the low ones first. */
HTH_INLINE __m256i hth_nibbles(const uint8_t *p)
{
    const __m256i shift = _mm256_setr_epi32(0, 0, 0, 0, 4, 4, 4, 4);
    __m256i v = _mm256_broadcastsi128_si256(
        _mm_loadu_si128((const __m128i *)(const void *)p));

    return _mm256_and_si256(_mm256_srlv_epi32(v, shift), _mm256_set1_epi8(15));
}

/* Bit i of a dword as bit 4 of byte i. */
HTH_INLINE __m256i hth_fifth_bits(const uint8_t *p)
{
    const __m256i spread =
        _mm256_setr_epi8(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 2, 2,
                         2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 3, 3);
    const __m256i bits = _mm256_set1_epi64x((long long)0x8040201008040201u);
    __m256i v =
        _mm256_shuffle_epi8(_mm256_set1_epi32((int)hth_peek32(p)), spread);

    v = _mm256_cmpeq_epi8(_mm256_and_si256(v, bits), bits);
    return _mm256_and_si256(v, _mm256_set1_epi8(16));
}

/* ---- types with blocks of 32 -------------------------------------------- */

HTH_INLINE void hth_unpack_q4_0(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    for (uint32_t b = 0; b < 8; b++)
        k->w[b] = hth_nibbles(hth_block_at(p, b, blocks, 18) + 2);
    k->d[0] = hth_strided_halves(p, blocks, 18);
}

HTH_INLINE void hth_unpack_q4_1(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    for (uint32_t b = 0; b < 8; b++)
        k->w[b] = hth_nibbles(hth_block_at(p, b, blocks, 20) + 4);
    k->d[0] = hth_strided_halves(p, blocks, 20);
    k->m[0] = hth_strided_halves(p + 2, blocks, 20);
}

HTH_INLINE void hth_unpack_q5_0(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    for (uint32_t b = 0; b < 8; b++) {
        const uint8_t *at = hth_block_at(p, b, blocks, 22);

        k->w[b] = _mm256_or_si256(hth_nibbles(at + 6), hth_fifth_bits(at + 2));
    }
    k->d[0] = hth_strided_halves(p, blocks, 22);
}

HTH_INLINE void hth_unpack_q5_1(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    for (uint32_t b = 0; b < 8; b++) {
        const uint8_t *at = hth_block_at(p, b, blocks, 24);

        k->w[b] = _mm256_or_si256(hth_nibbles(at + 8), hth_fifth_bits(at + 4));
    }
    k->d[0] = hth_strided_halves(p, blocks, 24);
    k->m[0] = hth_strided_halves(p + 2, blocks, 24);
}

HTH_INLINE void hth_unpack_q8_0(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    for (uint32_t b = 0; b < 8; b++)
        k->w[b] = hth_load32(hth_block_at(p, b, blocks, 34) + 2);
    k->d[0] = hth_strided_halves(p, blocks, 34);
}

/* The values that IQ4 nibbles stand for. */
HTH_INLINE __m256i hth_iq4(__m256i nibbles)
{
    const __m256i values = _mm256_broadcastsi128_si256(
        _mm_setr_epi8(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38,
                      53, 69, 89, 113));

    return _mm256_shuffle_epi8(values, nibbles);
}

HTH_INLINE void hth_unpack_iq4_nl(const uint8_t *p, uint32_t blocks,
                                  struct hth_wchunk *k)
{
    for (uint32_t b = 0; b < 8; b++)
        k->w[b] = hth_iq4(hth_nibbles(hth_block_at(p, b, blocks, 18) + 2));
    k->d[0] = hth_strided_halves(p, blocks, 18);
}

/* ---- super-blocks of 256 ------------------------------------------------ */

/* Eight unsigned bytes as floats. */
HTH_INLINE __m256 hth_bytes8(uint64_t v)
{
    return _mm256_cvtepi32_ps(
        _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)v)));
}

HTH_INLINE void hth_factors_k4(const uint8_t *p, struct hth_wchunk *k)
{
    uint64_t scales, mins;

    hth_scales_k4(p + 4, &scales, &mins);
    k->d[0] = _mm256_mul_ps(_mm256_set1_ps(hth_half_at(p)), hth_bytes8(scales));
    k->m[0] =
        _mm256_mul_ps(_mm256_set1_ps(-hth_half_at(p + 2)), hth_bytes8(mins));
}

HTH_INLINE void hth_unpack_q4_k(const uint8_t *p, struct hth_wchunk *k)
{
    const __m256i low = _mm256_set1_epi8(15);

    for (int i = 0; i < 4; i++) {
        __m256i v = hth_load32(p + 16 + 32 * i);

        k->w[2 * i] = _mm256_and_si256(v, low);
        k->w[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
    }
    hth_factors_k4(p, k);
}

/* Bit `from` of each byte to bit `to`; the other bits are noise. */
HTH_INLINE __m256i hth_move_bit(__m256i v, int from, int to)
{
    return from > to ? _mm256_srli_epi16(v, from - to)
                     : _mm256_slli_epi16(v, to - from);
}

/* base | (extra & mask) */
HTH_INLINE __m256i hth_or_masked(__m256i base, __m256i extra, __m256i mask)
{
    return _mm256_or_si256(base, _mm256_and_si256(extra, mask));
}

HTH_INLINE void hth_unpack_q5_k(const uint8_t *p, struct hth_wchunk *k)
{
    const __m256i low = _mm256_set1_epi8(15), fifth = _mm256_set1_epi8(16);
    __m256i bits = hth_load32(p + 16);

    for (int i = 0; i < 4; i++) {
        __m256i v = hth_load32(p + 48 + 32 * i);

        k->w[2 * i] = hth_or_masked(_mm256_and_si256(v, low),
                                    hth_move_bit(bits, 2 * i, 4), fifth);
        k->w[2 * i + 1] =
            hth_or_masked(_mm256_and_si256(_mm256_srli_epi16(v, 4), low),
                          hth_move_bit(bits, 2 * i + 1, 4), fifth);
    }
    hth_factors_k4(p, k);
}

/* 16 signed bytes, two per block of 32, times d. */
HTH_INLINE void hth_factors_k16(__m128i bytes, float d, __m256 out[2])
{
    __m256i both = _mm256_cvtepi16_epi32(bytes);
    __m256i first = _mm256_srai_epi32(_mm256_slli_epi32(both, 24), 24);
    __m256i second = _mm256_srai_epi32(both, 8);

    out[0] = _mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(first));
    out[1] = _mm256_mul_ps(_mm256_set1_ps(d), _mm256_cvtepi32_ps(second));
}

HTH_INLINE __m128i hth_load16(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

HTH_INLINE void hth_unpack_q6_k(const uint8_t *p, struct hth_wchunk *k)
{
    const __m256i low = _mm256_set1_epi8(15), top = _mm256_set1_epi8(48);

    for (int half = 0; half < 2; half++) {
        __m256i a = hth_load32(p + 64 * half);
        __m256i b = hth_load32(p + 64 * half + 32);
        __m256i h = hth_load32(p + 128 + 32 * half);
        __m256i *w = k->w + 4 * half;

        w[0] = _mm256_and_si256(a, low);
        w[1] = _mm256_and_si256(b, low);
        w[2] = _mm256_and_si256(_mm256_srli_epi16(a, 4), low);
        w[3] = _mm256_and_si256(_mm256_srli_epi16(b, 4), low);
        for (int i = 0; i < 4; i++)
            w[i] = hth_or_masked(w[i], hth_move_bit(h, 2 * i, 4), top);
    }
    hth_factors_k16(hth_load16(p + 192), hth_half_at(p + 208), k->d);
}

/* Two bits per number, four blocks of a half super-block in each byte. */
HTH_INLINE void hth_split_pairs(const uint8_t *p, __m256i w[8])
{
    for (int half = 0; half < 2; half++) {
        __m256i v = hth_load32(p + 32 * half);

        for (int i = 0; i < 4; i++)
            w[4 * half + i] = _mm256_and_si256(hth_move_bit(v, 2 * i, 0),
                                               _mm256_set1_epi8(3));
    }
}

HTH_INLINE void hth_unpack_q2_k(const uint8_t *p, struct hth_wchunk *k)
{
    const __m128i low = _mm_set1_epi8(15);
    __m128i s = hth_load16(p);

    hth_split_pairs(p + 16, k->w);
    hth_factors_k16(_mm_and_si128(s, low), hth_half_at(p + 80), k->d);
    hth_factors_k16(_mm_and_si128(_mm_srli_epi16(s, 4), low),
                    -hth_half_at(p + 82), k->m);
}

HTH_INLINE void hth_unpack_q3_k(const uint8_t *p, struct hth_wchunk *k)
{
    const __m256i third = _mm256_set1_epi8(4);
    __m256i bits = hth_load32(p);
    uint64_t v[2];
    __m128i scales;

    hth_split_pairs(p + 32, k->w);
    for (int i = 0; i < 8; i++)
        k->w[i] = hth_or_masked(k->w[i], hth_move_bit(bits, i, 2), third);
    hth_scales_q3_k(p + 96, v);
    scales = _mm_set_epi64x((long long)v[1], (long long)v[0]);
    hth_factors_k16(_mm_sub_epi8(scales, _mm_set1_epi8(32)),
                    hth_half_at(p + 108), k->d);
}

/* 6-bit scales: low nibbles of scale j at bit 4j of a dword, high pairs at bit
 * 2j of a word; stored plus 32. */
HTH_INLINE void hth_unpack_iq4_xs(const uint8_t *p, struct hth_wchunk *k)
{
    const __m256i four = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    const __m256i two = _mm256_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14);
    __m256i low = _mm256_set1_epi32((int)hth_peek32(p + 4));
    __m256i high = _mm256_set1_epi32(hth_peek16(p + 2));

    low = _mm256_and_si256(_mm256_srlv_epi32(low, four), _mm256_set1_epi32(15));
    high = _mm256_and_si256(_mm256_srlv_epi32(high, two), _mm256_set1_epi32(3));
    low = _mm256_or_si256(low, _mm256_slli_epi32(high, 4));
    low = _mm256_sub_epi32(low, _mm256_set1_epi32(32));
    k->d[0] =
        _mm256_mul_ps(_mm256_set1_ps(hth_half_at(p)), _mm256_cvtepi32_ps(low));
    for (int b = 0; b < 8; b++)
        k->w[b] = hth_iq4(hth_nibbles(p + 8 + 16 * b));
}

/* Unpack one chunk; type and, where speed matters, blocks are constants. */
HTH_INLINE void hth_unpack_chunk(uint32_t type, const uint8_t *p,
                                 uint32_t blocks, struct hth_wchunk *k)
{
    switch (type) {
    case HTH_Q4_0:
        hth_unpack_q4_0(p, blocks, k);
        break;
    case HTH_Q4_1:
        hth_unpack_q4_1(p, blocks, k);
        break;
    case HTH_Q5_0:
        hth_unpack_q5_0(p, blocks, k);
        break;
    case HTH_Q5_1:
        hth_unpack_q5_1(p, blocks, k);
        break;
    case HTH_Q8_0:
        hth_unpack_q8_0(p, blocks, k);
        break;
    case HTH_Q2_K:
        hth_unpack_q2_k(p, k);
        break;
    case HTH_Q3_K:
        hth_unpack_q3_k(p, k);
        break;
    case HTH_Q4_K:
        hth_unpack_q4_k(p, k);
        break;
    case HTH_Q5_K:
        hth_unpack_q5_k(p, k);
        break;
    case HTH_Q6_K:
        hth_unpack_q6_k(p, k);
        break;
    case HTH_IQ4_NL:
        hth_unpack_iq4_nl(p, blocks, k);
        break;
    default:
        hth_unpack_iq4_xs(p, k);
        break;
    }
}

#endif
