/* kernels_avx2.c - the AVX2 table (AVX2, FMA, F16C), and the operations on
 * single rows: 8-bit activations, norms, rotation, gates, sums, conversions.
 * Nothing past the n numbers is touched. No failure, no state.
 *
 * q8_row, add, and the conversions give the scalar set's bits; the others
 * stay within the bounds of docs/kernels.md. */
#include <cpuid.h>
#include <float.h>
#include <math.h>

#include "kernels/simd_avx2.h"

/* ---- activations in 8 bits ---------------------------------------------- */

HTH_INLINE __m256i round_q8(__m256 x, __m256 inverse)
{
    __m256 v = _mm256_mul_ps(x, inverse);

    /* max_ps gives its second argument for NaN: -127, as the scalar set */
    v = _mm256_max_ps(v, _mm256_set1_ps(-127.0f));
    v = _mm256_min_ps(v, _mm256_set1_ps(127.0f));
    return _mm256_cvtps_epi32(v);
}

/* 32 numbers to bytes, in order, and the sums of both halves. */
static void q8_store(const __m256 x[4], __m256 inverse, int8_t *q,
                     int16_t sums[2])
{
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    const __m256i ones = _mm256_set1_epi8(1);
    __m256i v = _mm256_packs_epi16(
        _mm256_packs_epi32(round_q8(x[0], inverse), round_q8(x[1], inverse)),
        _mm256_packs_epi32(round_q8(x[2], inverse), round_q8(x[3], inverse)));
    __m256i s;
    __m128i low, high;

    v = _mm256_permutevar8x32_epi32(v, order);
    _mm256_storeu_si256((__m256i *)(void *)q, v);
    s = _mm256_madd_epi16(_mm256_maddubs_epi16(ones, v), _mm256_set1_epi16(1));
    s = _mm256_hadd_epi32(s, s);
    s = _mm256_hadd_epi32(s, s);
    low = _mm256_castsi256_si128(s);
    high = _mm256_extracti128_si256(s, 1);
    sums[0] = (int16_t)_mm_cvtsi128_si32(low);
    sums[1] = (int16_t)_mm_cvtsi128_si32(high);
}

static float q8_block(const float *p, int8_t *q, int16_t sums[2])
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 x[4], most = _mm256_setzero_ps();
    float max, d;

    for (int i = 0; i < 4; i++) {
        x[i] = _mm256_loadu_ps(p + 8 * i);
        most = _mm256_max_ps(_mm256_andnot_ps(sign, x[i]), most);
    }
    max = hth_max8(most);
    d = max / 127.0f;
    if (d < FLT_MIN) {
        _mm256_storeu_si256((__m256i *)(void *)q, _mm256_setzero_si256());
        sums[0] = sums[1] = 0;
        return 0.0f;
    }
    q8_store(x, _mm256_set1_ps(127.0f / max), q, sums);
    return d;
}

static void q8_row(const float *x, uint32_t cols, int8_t *q, float *d,
                   int16_t *sums)
{
    for (uint32_t c = 0; c < cols; c += HTH_Q8_BLOCK)
        d[c / HTH_Q8_BLOCK] = q8_block(x + c, q + c, sums + c / HTH_Q8_SUM);
}

/* ---- norms and gates ---------------------------------------------------- */

static double sum_squares(const float *x, uint32_t d)
{
    __m256d low = _mm256_setzero_pd(), high = _mm256_setzero_pd();
    double part[4];

    for (uint32_t i = 0; i < d; i += 8) {
        __m256 v = hth_load8(x + i, d - i);
        __m256d a = _mm256_cvtps_pd(_mm256_castps256_ps128(v));
        __m256d b = _mm256_cvtps_pd(_mm256_extractf128_ps(v, 1));

        low = _mm256_fmadd_pd(a, a, low);
        high = _mm256_fmadd_pd(b, b, high);
    }
    _mm256_storeu_pd(part, _mm256_add_pd(low, high));
    return (part[0] + part[1]) + (part[2] + part[3]);
}

static void rmsnorm(float *y, const float *x, const float *w, uint32_t d,
                    float eps)
{
    const __m256 one = _mm256_set1_ps(1.0f);
    __m256 scale = _mm256_set1_ps(
        (float)(1.0 / sqrt(sum_squares(x, d) / d + (double)eps)));

    for (uint32_t i = 0; i < d; i += 8) {
        __m256 v = _mm256_mul_ps(hth_load8(x + i, d - i), scale);
        __m256 g = w != NULL ? hth_load8(w + i, d - i) : one;

        hth_store8(y + i, d - i, _mm256_mul_ps(v, g));
    }
}

static void swiglu(float *gate, const float *up, size_t n)
{
    const __m256 one = _mm256_set1_ps(1.0f), zero = _mm256_setzero_ps();

    for (size_t i = 0; i < n; i += 8) {
        __m256 g = hth_load8(gate + i, n - i);
        __m256 u = hth_load8(up + i, n - i);
        __m256 e = hth_exp8(_mm256_sub_ps(zero, g));

        g = _mm256_div_ps(g, _mm256_add_ps(one, e));
        hth_store8(gate + i, n - i, _mm256_mul_ps(g, u));
    }
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        hth_store8(
            x + i, n - i,
            _mm256_add_ps(hth_load8(x + i, n - i), hth_load8(y + i, n - i)));
}

static void axpy(float *x, float a, const float *y, size_t n)
{
    const __m256 factor = _mm256_set1_ps(a);

    for (size_t i = 0; i < n; i += 8)
        hth_store8(x + i, n - i,
                   _mm256_fmadd_ps(factor, hth_load8(y + i, n - i),
                                   hth_load8(x + i, n - i)));
}

/* v, with `other` instead of the numbers from the n-th on. */
static __m256 first_of(__m256 v, size_t n, __m256 other)
{
    return n >= 8
               ? v
               : _mm256_blendv_ps(other, v, _mm256_castsi256_ps(hth_first8(n)));
}

/* A NaN does not count for the maximum but spreads through the sum, as in
 * the scalar set. */
static void softmax(float *x, size_t n)
{
    __m256 most = _mm256_set1_ps(-INFINITY), sum = _mm256_setzero_ps(), max;

    for (size_t i = 0; i < n; i += 8)
        most =
            _mm256_max_ps(first_of(hth_load8(x + i, n - i), n - i, most), most);
    max = _mm256_set1_ps(hth_max8(most));
    for (size_t i = 0; i < n; i += 8) {
        __m256 v = hth_exp8(_mm256_sub_ps(hth_load8(x + i, n - i), max));

        v = first_of(v, n - i, _mm256_setzero_ps());
        sum = _mm256_add_ps(sum, v);
        hth_store8(x + i, n - i, v);
    }
    sum = _mm256_set1_ps(hth_sum8(sum));
    for (size_t i = 0; i < n; i += 8)
        hth_store8(x + i, n - i, _mm256_div_ps(hth_load8(x + i, n - i), sum));
}

/* ---- rotation ----------------------------------------------------------- */

static void rotate_halves(float *v, uint32_t pairs, const float *cosines,
                          const float *sines)
{
    for (uint32_t i = 0; i < pairs; i += 8) {
        uint32_t left = pairs - i;
        __m256 c = hth_load8(cosines + i, left);
        __m256 s = hth_load8(sines + i, left);
        __m256 a = hth_load8(v + i, left);
        __m256 b = hth_load8(v + pairs + i, left);

        hth_store8(v + i, left, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        hth_store8(v + pairs + i, left,
                   _mm256_fmadd_ps(a, s, _mm256_mul_ps(b, c)));
    }
}

/* (a, b) pairs side by side: (a, b) c -+ (b, a) s. */
static void rotate_pairs(float *v, uint32_t pairs, const float *cosines,
                         const float *sines)
{
    const __m256i twice = _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);

    for (uint32_t i = 0; i < pairs; i += 4) {
        uint32_t left = pairs - i < 4 ? pairs - i : 4;
        __m256 c = hth_load8(cosines + i, left);
        __m256 s = hth_load8(sines + i, left);
        __m256 x = hth_load8(v + 2 * i, 2 * left);
        __m256 other = _mm256_permute_ps(x, 0xb1);

        c = _mm256_permutevar8x32_ps(c, twice);
        s = _mm256_permutevar8x32_ps(s, twice);
        hth_store8(v + 2 * i, 2 * left,
                   _mm256_fmaddsub_ps(x, c, _mm256_mul_ps(other, s)));
    }
}

static void rope(float *v, uint32_t heads, uint32_t head_dim, uint32_t rot_dim,
                 const float *cosines, const float *sines, bool neox)
{
    for (uint32_t h = 0; h < heads; h++) {
        float *head = v + (size_t)h * head_dim;

        (neox ? rotate_halves : rotate_pairs)(head, rot_dim / 2, cosines,
                                              sines);
    }
}

/* ---- conversions -------------------------------------------------------- */

static void f32_to_f16(const float *src, uint16_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        hth_store8_words(
            dst + i, n - i,
            _mm256_cvtps_ph(hth_load8(src + i, n - i),
                            _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

static void f16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 8)
        hth_store8(dst + i, n - i,
                   _mm256_cvtph_ps(hth_load8_words(src + i, n - i)));
}

/* ---- the table ---------------------------------------------------------- */

/* F16C is read from CPUID itself: Clang 14 has no name for it. That the
 * system saves the registers is part of what "avx2" asks. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;

    return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_F16C) != 0;
}

static bool usable(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           has_f16c();
}

static void gemm_q8(const struct hth_mat *w, uint32_t first, uint32_t count,
                    const struct hth_q8 *x, float *y, size_t ldy)
{
    struct hth_q8_product job = {w, first, count, x, y, ldy};

    if (x->n <= HTH_DECODE_ROWS)
        hth__decode_avx2(&job);
    else
        hth__prefill_avx2(&job);
}

const struct hth_isa hth_isa_avx2 = {
    .name = "avx2",
    .usable = usable,
    .q8_row = q8_row,
    .gemm_q8 = gemm_q8,
    .gemm_float = hth__gemm_float_avx2,
    .gemm_packed = hth__gemm_packed_avx2,
    .gemm_packed_float = hth__gemm_packed_float_avx2,
    .rmsnorm = rmsnorm,
    .rope = rope,
    .swiglu = swiglu,
    .add = add,
    .axpy = axpy,
    .softmax = softmax,
    .f32_to_f16 = f32_to_f16,
    .f16_to_f32 = f16_to_f32,
    .attn_panel = hth__attn_panel_avx2,
    .attn_widen = hth__attn_widen_avx2,
};
