/* unpack_avx512.h - sixteen blocks of 32 weights, any quantised type, into
 * one common form that both the decode and the prefill products read.
 * Internal to kernels/..._avx512.c. Layouts: the GGUF/ggml block definitions;
 * the meaning of each type is defined by kernels/quant.h.
 *
 * A chunk is up to 16 blocks of 32 numbers (512 columns) of one row. Lane j
 * of every register belongs to block j. u[t] holds the unsigned weights 4t to
 * 4t + 3 of each block, which is what one vpdpbusd step wants; the true
 * integer weight is u - offset. The weight itself is d (u - offset) + m.
 * Types with scales per 16 numbers have d and m for each half of a block;
 * the others use d[0] and m[0] only.
 *
 * Nothing outside the `blocks` blocks that exist is read; lanes past them hold
 * garbage, which the callers do not use. */
#ifndef HTH_KERNELS_UNPACK_AVX512_H
#define HTH_KERNELS_UNPACK_AVX512_H

#include <stdbool.h>

#include "kernels/simd_avx512.h"
#include "kernels/x86.h"

struct hth_wchunk {
    __m512i u[8];
    __m512 d[2];
    __m512 m[2];
};

struct hth_wtraits {
    uint32_t chunk_bytes; /* of 512 columns */
    int offset;
    bool halves; /* scales per 16 numbers */
    bool mins;   /* m is not all zero */
};

HTH_INLINE struct hth_wtraits hth_wtraits(uint32_t type)
{
    switch (type) {
    case HTH_Q4_0:
        return (struct hth_wtraits){16 * 18, 8, false, false};
    case HTH_Q4_1:
        return (struct hth_wtraits){16 * 20, 0, false, true};
    case HTH_Q5_0:
        return (struct hth_wtraits){16 * 22, 16, false, false};
    case HTH_Q5_1:
        return (struct hth_wtraits){16 * 24, 0, false, true};
    case HTH_Q8_0:
        return (struct hth_wtraits){16 * 34, 128, false, false};
    case HTH_Q2_K:
        return (struct hth_wtraits){2 * 84, 0, true, true};
    case HTH_Q3_K:
        return (struct hth_wtraits){2 * 110, 4, true, false};
    case HTH_Q4_K:
        return (struct hth_wtraits){2 * 144, 0, false, true};
    case HTH_Q5_K:
        return (struct hth_wtraits){2 * 176, 0, false, true};
    case HTH_Q6_K:
        return (struct hth_wtraits){2 * 210, 32, true, false};
    case HTH_IQ4_NL:
        return (struct hth_wtraits){16 * 18, 128, false, false};
    default: /* HTH_IQ4_XS */
        return (struct hth_wtraits){2 * 136, 128, false, false};
    }
}

/* ---- pieces ------------------------------------------------------------- */

/* The little-endian word at byte `ofs` of each block, 16 blocks `stride`
 * bytes apart. `per` blocks have that word within one 64-byte load; one
 * index serves all loads because each starts at a block. */
#define HTH_WORD_AT(j, per, stride, ofs) \
    ((short)(((j) % (per) * (stride) + (ofs)) / 2))
#define HTH_WORDS_8(j, per, stride, ofs)      \
    HTH_WORD_AT(j + 7, per, stride, ofs),     \
        HTH_WORD_AT(j + 6, per, stride, ofs), \
        HTH_WORD_AT(j + 5, per, stride, ofs), \
        HTH_WORD_AT(j + 4, per, stride, ofs), \
        HTH_WORD_AT(j + 3, per, stride, ofs), \
        HTH_WORD_AT(j + 2, per, stride, ofs), \
        HTH_WORD_AT(j + 1, per, stride, ofs), HTH_WORD_AT(j, per, stride, ofs)
#define HTH_STRIDED_WORDS(p, blocks, stride, ofs)                       \
    hth_strided_words(                                                  \
        p, blocks, stride, (62 - (ofs)) / (stride) + 1,                 \
        _mm512_castsi256_si512(_mm256_set_epi16(                        \
            HTH_WORDS_8(8, ((62 - (ofs)) / (stride) + 1), stride, ofs), \
            HTH_WORDS_8(0, ((62 - (ofs)) / (stride) + 1), stride, ofs))))

HTH_INLINE __m256i hth_strided_words(const uint8_t *p, uint32_t blocks,
                                     uint32_t stride, uint32_t per,
                                     __m512i index)
{
    __m512i v = _mm512_permutexvar_epi16(
        index, hth_load_part(p, (size_t)blocks * stride));

    for (uint32_t b = per; b < 16; b += per) {
        __mmask32 lanes = (__mmask32)((1u << per) - 1) << b;

        if (b < blocks)
            v = _mm512_mask_permutexvar_epi16(
                v, lanes, index,
                hth_load_part(p + (size_t)b * stride,
                              (size_t)(blocks - b) * stride));
    }
    return _mm512_castsi512_si256(v);
}

HTH_INLINE __m512 hth_strided_halves(__m256i words)
{
    return _mm512_cvtph_ps(words);
}

/* Four 16-byte pieces side by side. */
HTH_INLINE __m512i hth_four_quads(const uint8_t *a, const uint8_t *b,
                                  const uint8_t *c, const uint8_t *d)
{
    __m512i v = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)a));

    v = _mm512_mask_broadcast_i32x4(v, 0x00f0,
                                    _mm_loadu_si128((const __m128i *)b));
    v = _mm512_mask_broadcast_i32x4(v, 0x0f00,
                                    _mm_loadu_si128((const __m128i *)c));
    return _mm512_mask_broadcast_i32x4(v, 0xf000,
                                       _mm_loadu_si128((const __m128i *)d));
}

/* Two 32-byte pieces side by side. */
HTH_INLINE __m512i hth_two_halves(const uint8_t *a, const uint8_t *b)
{
    __m512i v = _mm512_broadcast_i64x4(_mm256_loadu_si256((const __m256i *)a));

    return _mm512_mask_broadcast_i64x4(v, 0xf0,
                                       _mm256_loadu_si256((const __m256i *)b));
}

/* w[t]: dword t of the 16 bytes at p + j stride of each block j. Blocks that
 * do not exist read block 0 instead. */
HTH_INLINE void hth_strided_quads(const uint8_t *p, uint32_t blocks,
                                  size_t stride, __m512i w[4])
{
    for (uint32_t i = 0; i < 4; i++) {
        size_t b = i + 4 < blocks ? i + 4 : 0;
        size_t c = i + 8 < blocks ? i + 8 : 0;
        size_t d = i + 12 < blocks ? i + 12 : 0;

        w[i] = hth_four_quads(p + (i < blocks ? i : 0) * stride, p + b * stride,
                              p + c * stride, p + d * stride);
    }
    hth_transpose4(w);
}

/* Low nibbles are the first 16 numbers of a block, high ones the rest. */
HTH_INLINE void hth_split_nibbles(const __m512i w[4], __m512i u[8])
{
    const __m512i low = _mm512_set1_epi8(15);

    for (int i = 0; i < 4; i++) {
        u[i] = _mm512_and_si512(w[i], low);
        u[4 + i] = _mm512_and_si512(_mm512_srli_epi16(w[i], 4), low);
    }
}

/* ---- types with blocks of 32 -------------------------------------------- */

HTH_INLINE void hth_unpack_q4_0(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    __m512i w[4];

    hth_strided_quads(p + 2, blocks, 18, w);
    hth_split_nibbles(w, k->u);
    k->d[0] = hth_strided_halves(HTH_STRIDED_WORDS(p, blocks, 18, 0));
}

HTH_INLINE void hth_unpack_q4_1(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    __m512i w[4];

    hth_strided_quads(p + 4, blocks, 20, w);
    hth_split_nibbles(w, k->u);
    k->d[0] = hth_strided_halves(HTH_STRIDED_WORDS(p, blocks, 20, 0));
    k->m[0] = hth_strided_halves(HTH_STRIDED_WORDS(p, blocks, 20, 2));
}

/* Bit 4t + i of each block's dword becomes bit 4 of byte i of u[t]: a
 * multishift takes, for each byte, the 8 bits that start 4 below the wanted
 * one (the start wraps within 64 bits, where the mask drops the rest). */
HTH_INLINE void hth_add_fifth_bits(__m512i bits, __m512i u[8])
{
    const __m512i fifth = _mm512_set1_epi8(16);
    const __m512i four = _mm512_set1_epi8(4);
    __m512i start = _mm512_set1_epi64(0x1f1e1d1c3f3e3d3c);

    for (int t = 0; t < 8; t++) {
        __m512i bit = _mm512_multishift_epi64_epi8(start, bits);

        u[t] = _mm512_ternarylogic_epi32(u[t], bit, fifth, 0xf8);
        start = _mm512_add_epi8(start, four);
    }
}

HTH_INLINE __m512i hth_pair_words(__m256i low, __m256i high)
{
    return _mm512_or_si512(_mm512_cvtepu16_epi32(low),
                           _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
}

HTH_INLINE void hth_unpack_q5_0(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    __m512i w[4];

    hth_strided_quads(p + 6, blocks, 22, w);
    hth_split_nibbles(w, k->u);
    hth_add_fifth_bits(hth_pair_words(HTH_STRIDED_WORDS(p, blocks, 22, 2),
                                      HTH_STRIDED_WORDS(p, blocks, 22, 4)),
                       k->u);
    k->d[0] = hth_strided_halves(HTH_STRIDED_WORDS(p, blocks, 22, 0));
}

HTH_INLINE void hth_unpack_q5_1(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    __m512i w[4];

    hth_strided_quads(p + 8, blocks, 24, w);
    hth_split_nibbles(w, k->u);
    hth_add_fifth_bits(hth_pair_words(HTH_STRIDED_WORDS(p, blocks, 24, 4),
                                      HTH_STRIDED_WORDS(p, blocks, 24, 6)),
                       k->u);
    k->d[0] = hth_strided_halves(HTH_STRIDED_WORDS(p, blocks, 24, 0));
    k->m[0] = hth_strided_halves(HTH_STRIDED_WORDS(p, blocks, 24, 2));
}

HTH_INLINE void hth_unpack_q8_0(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    const __m512i flip = _mm512_set1_epi8((char)0x80);

    for (uint32_t i = 0; i < 8; i++) {
        size_t a = i < blocks ? i : 0, b = i + 8 < blocks ? i + 8 : 0;

        k->u[i] = _mm512_xor_si512(
            flip, hth_two_halves(p + 2 + 34 * a, p + 2 + 34 * b));
    }
    hth_transpose8(k->u);
    k->d[0] = hth_strided_halves(HTH_STRIDED_WORDS(p, blocks, 34, 0));
}

/* The 16 values that IQ4 nibbles stand for, plus 128. */
HTH_INLINE void hth_map_iq4(__m512i u[8])
{
    const __m512i values = _mm512_broadcast_i32x4(_mm_setr_epi8(
        1, 24, 45, 63, 79, 93, 106, 118, (char)129, (char)141, (char)153,
        (char)166, (char)181, (char)197, (char)217, (char)241));

    for (int t = 0; t < 8; t++)
        u[t] = _mm512_shuffle_epi8(values, u[t]);
}

HTH_INLINE void hth_unpack_iq4_nl(const uint8_t *p, uint32_t blocks,
                                  struct hth_wchunk *k)
{
    hth_unpack_q4_0(p, blocks, k);
    hth_map_iq4(k->u);
}

/* ---- types with super-blocks of 256 ------------------------------------- */

/* From here on a chunk is two super-blocks a and b; where only one exists b
 * is a again. */

/* The half float at a in lanes 0 to 7, the one at b in lanes 8 to 15. */
HTH_INLINE __m512 hth_two_scales(const uint8_t *a, const uint8_t *b)
{
    uint16_t x = hth_peek16(a), y = hth_peek16(b);

    return _mm512_cvtph_ps(
        _mm256_set_m128i(_mm_set1_epi16((short)y), _mm_set1_epi16((short)x)));
}

/* Eight unsigned bytes each of a and b as floats. */
HTH_INLINE __m512 hth_two_bytes8(uint64_t a, uint64_t b)
{
    return _mm512_cvtepi32_ps(
        _mm512_cvtepu8_epi32(_mm_set_epi64x((long long)b, (long long)a)));
}

HTH_INLINE void hth_factors_k4(const uint8_t *a, const uint8_t *b,
                               struct hth_wchunk *k)
{
    __m512 min = hth_two_scales(a + 2, b + 2);
    uint64_t scale_a, scale_b, min_a, min_b;

    hth_scales_k4(a + 4, &scale_a, &min_a);
    hth_scales_k4(b + 4, &scale_b, &min_b);
    k->d[0] =
        _mm512_mul_ps(hth_two_scales(a, b), hth_two_bytes8(scale_a, scale_b));
    k->m[0] = _mm512_mul_ps(_mm512_sub_ps(_mm512_setzero_ps(), min),
                            hth_two_bytes8(min_a, min_b));
}

HTH_INLINE void hth_unpack_q4_k(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    const __m512i even = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 8, 24, 9,
                                           25, 10, 26, 11, 27);
    const __m512i odd = _mm512_or_si512(even, _mm512_set1_epi32(4));
    const __m512i low = _mm512_set1_epi8(15);
    const uint8_t *b = p + (blocks > 8 ? 144 : 0);
    __m512i w[4];

    for (int i = 0; i < 4; i++)
        w[i] = hth_two_halves(p + 16 + 32 * i, b + 16 + 32 * i);
    hth_transpose4(w);
    for (int i = 0; i < 4; i++) {
        __m512i first = _mm512_and_si512(w[i], low);
        __m512i second = _mm512_and_si512(_mm512_srli_epi16(w[i], 4), low);

        k->u[i] = _mm512_permutex2var_epi32(first, even, second);
        k->u[4 + i] = _mm512_permutex2var_epi32(first, odd, second);
    }
    hth_factors_k4(p, b, k);
}

/* Bit i of each byte of v to bit `to`; the other bits are noise. */
HTH_INLINE __m512i hth_move_bit(__m512i v, int from, int to)
{
    if (from > to)
        return _mm512_srli_epi16(v, (unsigned)(from - to));
    return _mm512_slli_epi16(v, (unsigned)(to - from));
}

/* base | (extra & mask) */
HTH_INLINE __m512i hth_or_masked(__m512i base, __m512i extra, __m512i mask)
{
    return _mm512_ternarylogic_epi32(base, extra, mask, 0xf8);
}

HTH_INLINE void hth_unpack_q5_k(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    const __m512i low = _mm512_set1_epi8(15);
    const __m512i fifth = _mm512_set1_epi8(16);
    const uint8_t *b = p + (blocks > 8 ? 176 : 0);
    __m512i bits = hth_two_halves(p + 16, b + 16);

    for (int i = 0; i < 4; i++) {
        __m512i w = hth_two_halves(p + 48 + 32 * i, b + 48 + 32 * i);
        __m512i first = _mm512_and_si512(w, low);
        __m512i second = _mm512_and_si512(_mm512_srli_epi16(w, 4), low);

        k->u[2 * i] = hth_or_masked(first, hth_move_bit(bits, 2 * i, 4), fifth);
        k->u[2 * i + 1] =
            hth_or_masked(second, hth_move_bit(bits, 2 * i + 1, 4), fifth);
    }
    hth_transpose8(k->u);
    hth_factors_k4(p, b, k);
}

/* 16 signed bytes of each super-block, two per block of 32, times d. */
HTH_INLINE void hth_factors_k16(__m128i a, __m128i b, __m512 d, __m512 out[2])
{
    __m512i both = _mm512_cvtepi16_epi32(_mm256_set_m128i(b, a));
    __m512i first = _mm512_srai_epi32(_mm512_slli_epi32(both, 24), 24);
    __m512i second = _mm512_srai_epi32(both, 8);

    out[0] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(first));
    out[1] = _mm512_mul_ps(d, _mm512_cvtepi32_ps(second));
}

HTH_INLINE void hth_unpack_q6_k(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    const __m512i low = _mm512_set1_epi8(15), top = _mm512_set1_epi8(48);
    const uint8_t *b = p + (blocks > 8 ? 210 : 0);

    for (int half = 0; half < 2; half++) {
        const uint8_t *pa = p + 64 * half, *pb = b + 64 * half;
        __m512i w0 = hth_two_halves(pa, pb);
        __m512i w1 = hth_two_halves(pa + 32, pb + 32);
        __m512i h = hth_two_halves(p + 128 + 32 * half, b + 128 + 32 * half);
        __m512i *u = k->u + 4 * half;

        u[0] = _mm512_and_si512(w0, low);
        u[1] = _mm512_and_si512(w1, low);
        u[2] = _mm512_and_si512(_mm512_srli_epi16(w0, 4), low);
        u[3] = _mm512_and_si512(_mm512_srli_epi16(w1, 4), low);
        for (int i = 0; i < 4; i++)
            u[i] = hth_or_masked(u[i], hth_move_bit(h, 2 * i, 4), top);
    }
    hth_transpose8(k->u);
    hth_factors_k16(_mm_loadu_si128((const __m128i *)(p + 192)),
                    _mm_loadu_si128((const __m128i *)(b + 192)),
                    hth_two_scales(p + 208, b + 208), k->d);
}

/* Two bits per number, four blocks of a half super-block in each byte. */
HTH_INLINE void hth_split_pairs(const uint8_t *a, const uint8_t *b,
                                __m512i u[8])
{
    const __m512i low = _mm512_set1_epi8(3);

    for (int half = 0; half < 2; half++) {
        __m512i w = hth_two_halves(a + 32 * half, b + 32 * half);

        for (int i = 0; i < 4; i++)
            u[4 * half + i] = _mm512_and_si512(hth_move_bit(w, 2 * i, 0), low);
    }
}

HTH_INLINE void hth_unpack_q2_k(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    const __m128i low = _mm_set1_epi8(15);
    const uint8_t *b = p + (blocks > 8 ? 84 : 0);
    __m128i sa = _mm_loadu_si128((const __m128i *)p);
    __m128i sb = _mm_loadu_si128((const __m128i *)b);
    __m512 min = hth_two_scales(p + 82, b + 82);

    hth_split_pairs(p + 16, b + 16, k->u);
    hth_transpose8(k->u);
    hth_factors_k16(_mm_and_si128(sa, low), _mm_and_si128(sb, low),
                    hth_two_scales(p + 80, b + 80), k->d);
    hth_factors_k16(_mm_and_si128(_mm_srli_epi16(sa, 4), low),
                    _mm_and_si128(_mm_srli_epi16(sb, 4), low),
                    _mm512_sub_ps(_mm512_setzero_ps(), min), k->m);
}

HTH_INLINE __m128i hth_signed_scales_q3_k(const uint8_t *p)
{
    uint64_t v[2];

    hth_scales_q3_k(p, v);
    return _mm_sub_epi8(_mm_set_epi64x((long long)v[1], (long long)v[0]),
                        _mm_set1_epi8(32));
}

HTH_INLINE void hth_unpack_q3_k(const uint8_t *p, uint32_t blocks,
                                struct hth_wchunk *k)
{
    const __m512i third = _mm512_set1_epi8(4);
    const uint8_t *b = p + (blocks > 8 ? 110 : 0);
    __m512i bits = hth_two_halves(p, b);

    hth_split_pairs(p + 32, b + 32, k->u);
    for (int i = 0; i < 8; i++)
        k->u[i] = hth_or_masked(k->u[i], hth_move_bit(bits, i, 2), third);
    hth_transpose8(k->u);
    hth_factors_k16(hth_signed_scales_q3_k(p + 96),
                    hth_signed_scales_q3_k(b + 96),
                    hth_two_scales(p + 108, b + 108), k->d);
}

/* The 6-bit scales of IQ4_XS: low nibbles of scale j at bit 4j of a dword,
 * high pairs at bit 2j of a word; stored plus 32. */
HTH_INLINE __m512 hth_scales_iq4_xs(const uint8_t *a, const uint8_t *b)
{
    const __m512i four = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8,
                                           12, 16, 20, 24, 28);
    const __m512i two =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 0, 2, 4, 6, 8, 10, 12, 14);
    __m512i low = _mm512_set1_epi32((int)hth_peek32(a + 4));
    __m512i high = _mm512_set1_epi32((int)(hth_peek32(a) >> 16));

    low = _mm512_mask_set1_epi32(low, 0xff00, (int)hth_peek32(b + 4));
    high = _mm512_mask_set1_epi32(high, 0xff00, (int)(hth_peek32(b) >> 16));
    low = _mm512_and_si512(_mm512_srlv_epi32(low, four), _mm512_set1_epi32(15));
    high = _mm512_and_si512(_mm512_srlv_epi32(high, two), _mm512_set1_epi32(3));
    low = _mm512_or_si512(low, _mm512_slli_epi32(high, 4));
    low = _mm512_sub_epi32(low, _mm512_set1_epi32(32));
    return _mm512_cvtepi32_ps(low);
}

HTH_INLINE void hth_unpack_iq4_xs(const uint8_t *p, uint32_t blocks,
                                  struct hth_wchunk *k)
{
    const __m512i order =
        _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const uint8_t *b = p + (blocks > 8 ? 136 : 0);
    __m512i w[4] = {_mm512_loadu_si512(p + 8), _mm512_loadu_si512(p + 72),
                    _mm512_loadu_si512(b + 8), _mm512_loadu_si512(b + 72)};

    hth_transpose4(w);
    for (int i = 0; i < 4; i++)
        w[i] = _mm512_permutexvar_epi32(order, w[i]);
    hth_split_nibbles(w, k->u);
    hth_map_iq4(k->u);
    k->d[0] = _mm512_mul_ps(hth_two_scales(p, b), hth_scales_iq4_xs(p, b));
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
        hth_unpack_q2_k(p, blocks, k);
        break;
    case HTH_Q3_K:
        hth_unpack_q3_k(p, blocks, k);
        break;
    case HTH_Q4_K:
        hth_unpack_q4_k(p, blocks, k);
        break;
    case HTH_Q5_K:
        hth_unpack_q5_k(p, blocks, k);
        break;
    case HTH_Q6_K:
        hth_unpack_q6_k(p, blocks, k);
        break;
    case HTH_IQ4_NL:
        hth_unpack_iq4_nl(p, blocks, k);
        break;
    default:
        hth_unpack_iq4_xs(p, blocks, k);
        break;
    }
}

#endif
