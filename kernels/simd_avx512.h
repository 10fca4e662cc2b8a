/* simd_avx512.h - what the AVX-512 files share: partial loads, transposes,
 * reductions in a stated order, and exp. Internal to kernels/..._avx512.c;
 * registers in, registers out; nothing here can fail. */
#ifndef HTH_KERNELS_SIMD_AVX512_H
#define HTH_KERNELS_SIMD_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/x86.h"

/* The mask of the first n of 64 bytes, 16 numbers. n may be larger. */
HTH_INLINE __mmask64 hth_first64(size_t n)
{
    return n >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << n) - 1;
}

HTH_INLINE __mmask16 hth_first16(size_t n)
{
    return n >= 16 ? (__mmask16)0xffff : (__mmask16)((1u << n) - 1);
}

/* 64 bytes of which only the first n exist; the others read as 0 and are not
 * touched in memory. */
HTH_INLINE __m512i hth_load_part(const void *p, size_t n)
{
    if (n >= 64)
        return _mm512_loadu_si512(p);
    return _mm512_maskz_loadu_epi8(hth_first64(n), p);
}

/* Within each 128-bit lane: v[i] dword j becomes v[j] dword i. */
HTH_INLINE void hth_transpose4(__m512i v[4])
{
    __m512i a = _mm512_unpacklo_epi32(v[0], v[1]);
    __m512i b = _mm512_unpackhi_epi32(v[0], v[1]);
    __m512i c = _mm512_unpacklo_epi32(v[2], v[3]);
    __m512i d = _mm512_unpackhi_epi32(v[2], v[3]);

    v[0] = _mm512_unpacklo_epi64(a, c);
    v[1] = _mm512_unpackhi_epi64(a, c);
    v[2] = _mm512_unpacklo_epi64(b, d);
    v[3] = _mm512_unpackhi_epi64(b, d);
}

/* Within each 256-bit half: v[i] dword j becomes v[j] dword i. */
HTH_INLINE void hth_transpose8(__m512i v[8])
{
    const __m512i even = _mm512_setr_epi64(0, 1, 8, 9, 4, 5, 12, 13);
    const __m512i odd = _mm512_setr_epi64(2, 3, 10, 11, 6, 7, 14, 15);

    hth_transpose4(v);
    hth_transpose4(v + 4);
    for (int i = 0; i < 4; i++) {
        __m512i low = v[i], high = v[4 + i];

        v[i] = _mm512_permutex2var_epi64(low, even, high);
        v[4 + i] = _mm512_permutex2var_epi64(low, odd, high);
    }
}

/* v[i] dword j becomes v[j] dword i. */
HTH_INLINE void hth_transpose16(__m512i v[16])
{
    for (int i = 0; i < 16; i += 4)
        hth_transpose4(v + i);
    for (int i = 0; i < 4; i++) {
        __m512i a = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x44);
        __m512i b = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xee);
        __m512i c = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x44);
        __m512i d = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xee);

        v[i] = _mm512_shuffle_i32x4(a, c, 0x88);
        v[4 + i] = _mm512_shuffle_i32x4(a, c, 0xdd);
        v[8 + i] = _mm512_shuffle_i32x4(b, d, 0x88);
        v[12 + i] = _mm512_shuffle_i32x4(b, d, 0xdd);
    }
}

/* The 16 sums of v[0..15], sum i in number i; each is added as a tree:
 * numbers 16 apart in the transposed order first. */
HTH_INLINE __m512 hth_sum16x16(const __m512 in[16])
{
    __m512i v[16];
    __m512 s[16];

    for (int i = 0; i < 16; i++)
        v[i] = _mm512_castps_si512(in[i]);
    hth_transpose16(v);
    for (int i = 0; i < 16; i++)
        s[i] = _mm512_castsi512_ps(v[i]);
    for (int step = 8; step > 0; step /= 2)
        for (int i = 0; i < step; i++)
            s[i] = _mm512_add_ps(s[i], s[i + step]);
    return s[0];
}

/* The sum of 16 numbers in the same order as hth_sum16x16. */
HTH_INLINE float hth_sum16(__m512 v)
{
    __m256 a =
        _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    __m128 b =
        _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));

    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    b = _mm_add_ss(b, _mm_movehdup_ps(b));
    return _mm_cvtss_f32(b);
}

/* e^x: x = k ln 2 + r with |r| <= ln 2 / 2, ln 2 in two parts (Cody and Waite
 * 1980), a Taylor polynomial of degree 7 for e^r, and an exact scaling by
 * 2^k, which also gives 0, infinity and subnormals. NaN stays NaN. Error
 * below 1.1 units in the last place. */
HTH_INLINE __m512 hth_exp16(__m512 x)
{
    const __m512 low = _mm512_set1_ps(-104.0f), high = _mm512_set1_ps(89.0f);
    __m512 k, r, p;

    x = _mm512_max_ps(low, _mm512_min_ps(high, x));
    k = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)),
                             _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    r = _mm512_fnmadd_ps(k, _mm512_set1_ps(0.693145752f), x);
    r = _mm512_fnmadd_ps(k, _mm512_set1_ps(1.42860677e-6f), r);
    p = _mm512_set1_ps(1.0f / 5040.0f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 720.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 120.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 24.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.0f / 6.0f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.5f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, r);
    p = _mm512_add_ps(p, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(p, k);
}

#endif
