/* simd_avx2.h - what the AVX2 files share: partial loads and stores,
 * transposes, reductions in a stated order, and exp. Internal to
 * kernels/..._avx2.c; registers in, registers out; nothing here can fail. */
#ifndef HTH_KERNELS_SIMD_AVX2_H
#define HTH_KERNELS_SIMD_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "kernels/x86.h"

/* The mask of the first n of 8 numbers. n may be larger. */
HTH_INLINE __m256i hth_first8(size_t n)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n < 8 ? (int)n : 8),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Up to 8 numbers of which only the first n exist; the others read as 0 and
 * are neither read nor written in memory. */
HTH_INLINE __m256 hth_load8(const float *p, size_t n)
{
    return n >= 8 ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, hth_first8(n));
}

HTH_INLINE void hth_store8(float *p, size_t n, __m256 v)
{
    if (n >= 8)
        _mm256_storeu_ps(p, v);
    else
        _mm256_maskstore_ps(p, hth_first8(n), v);
}

HTH_INLINE __m128i hth_load8_words(const uint16_t *p, size_t n)
{
    uint16_t part[8] = {0};

    if (n >= 8)
        return _mm_loadu_si128((const __m128i *)(const void *)p);
    memcpy(part, p, n * sizeof *p);
    return _mm_loadu_si128((const __m128i *)(const void *)part);
}

HTH_INLINE void hth_store8_words(uint16_t *p, size_t n, __m128i v)
{
    uint16_t part[8];

    if (n >= 8) {
        _mm_storeu_si128((__m128i *)(void *)p, v);
        return;
    }
    _mm_storeu_si128((__m128i *)(void *)part, v);
    memcpy(p, part, n * sizeof *p);
}

/* v[i] dword j becomes v[j] dword i. */
HTH_INLINE void hth_transpose8(__m256i v[8])
{
    for (int i = 0; i < 8; i += 4) {
        __m256i a = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        __m256i b = _mm256_unpackhi_epi32(v[i], v[i + 1]);
        __m256i c = _mm256_unpacklo_epi32(v[i + 2], v[i + 3]);
        __m256i d = _mm256_unpackhi_epi32(v[i + 2], v[i + 3]);

        v[i] = _mm256_unpacklo_epi64(a, c);
        v[i + 1] = _mm256_unpackhi_epi64(a, c);
        v[i + 2] = _mm256_unpacklo_epi64(b, d);
        v[i + 3] = _mm256_unpackhi_epi64(b, d);
    }
    for (int i = 0; i < 4; i++) {
        __m256i low = v[i], high = v[4 + i];

        v[i] = _mm256_permute2x128_si256(low, high, 0x20);
        v[4 + i] = _mm256_permute2x128_si256(low, high, 0x31);
    }
}

/* The 8 sums of in[0..7], sum i in number i; each is added as a tree: numbers
 * 4 apart first. */
HTH_INLINE __m256 hth_sum8x8(const __m256 in[8])
{
    __m256i v[8];
    __m256 s[8];

    for (int i = 0; i < 8; i++)
        v[i] = _mm256_castps_si256(in[i]);
    hth_transpose8(v);
    for (int i = 0; i < 8; i++)
        s[i] = _mm256_castsi256_ps(v[i]);
    for (int step = 4; step > 0; step /= 2)
        for (int i = 0; i < step; i++)
            s[i] = _mm256_add_ps(s[i], s[i + step]);
    return s[0];
}

/* The sum of 8 numbers in the same order as hth_sum8x8. */
HTH_INLINE float hth_sum8(__m256 v)
{
    __m128 b =
        _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    b = _mm_add_ss(b, _mm_movehdup_ps(b));
    return _mm_cvtss_f32(b);
}

/* The largest of 8 numbers. */
HTH_INLINE float hth_max8(__m256 v)
{
    __m128 b =
        _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));

    b = _mm_max_ps(b, _mm_movehl_ps(b, b));
    b = _mm_max_ss(b, _mm_movehdup_ps(b));
    return _mm_cvtss_f32(b);
}

/* 2^k for k in -126 to 127. */
HTH_INLINE __m256 hth_power8(__m256i k)
{
    return _mm256_castsi256_ps(
        _mm256_slli_epi32(_mm256_add_epi32(k, _mm256_set1_epi32(127)), 23));
}

/* e^x as hth_exp16 of simd_avx512.h computes it; 2^k is applied in two
 * factors because one would leave the range of exponents. */
HTH_INLINE __m256 hth_exp8(__m256 x)
{
    const __m256 low = _mm256_set1_ps(-104.0f), high = _mm256_set1_ps(89.0f);
    __m256 k, r, p;
    __m256i whole, half;

    x = _mm256_max_ps(low, _mm256_min_ps(high, x));
    k = _mm256_round_ps(_mm256_mul_ps(x, _mm256_set1_ps(1.44269504f)),
                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    r = _mm256_fnmadd_ps(k, _mm256_set1_ps(0.693145752f), x);
    r = _mm256_fnmadd_ps(k, _mm256_set1_ps(1.42860677e-6f), r);
    p = _mm256_set1_ps(1.0f / 5040.0f);
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 720.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 120.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 24.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(1.0f / 6.0f));
    p = _mm256_fmadd_ps(p, r, _mm256_set1_ps(0.5f));
    p = _mm256_fmadd_ps(_mm256_mul_ps(p, r), r, r);
    p = _mm256_add_ps(p, _mm256_set1_ps(1.0f));
    whole = _mm256_cvtps_epi32(k);
    half = _mm256_srai_epi32(whole, 1);
    p = _mm256_mul_ps(p, hth_power8(half));
    return _mm256_mul_ps(p, hth_power8(_mm256_sub_epi32(whole, half)));
}

#endif
