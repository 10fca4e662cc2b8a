/* kernels_avx512.c - the AVX-512 table (F, BW, VL, DQ, VNNI, VBMI), and the
 * operations on single rows: 8-bit activations,
 * norms, rotation, gates, sums, conversions. Tails are masked, so nothing
 * past the n numbers is touched. No failure, no state.
 *
 * q8_row, add, and the conversions give the scalar set's bits; the others
 * stay within the bounds of docs/kernels.md. */
#include "kernels/x86.h"

#include <float.h>
#include <math.h>

#include "kernels/simd_avx512.h"

/* ---- activations in 8 bits ---------------------------------------------- */

HTH_INLINE __m128i round_q8(__m512 x, __m512 inverse)
{
    __m512 v = _mm512_mul_ps(x, inverse);

    /* max_ps gives its second argument for NaN: -127, as the scalar set */
    v = _mm512_max_ps(v, _mm512_set1_ps(-127.0f));
    v = _mm512_min_ps(v, _mm512_set1_ps(127.0f));
    return _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v));
}

static float q8_block(const float *x, int8_t *q)
{
    __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
    __m512 zero = _mm512_setzero_ps(), most, inverse;
    __m256 m;
    __m128 n;
    float max, d;

    most = _mm512_max_ps(_mm512_abs_ps(a), zero);
    most = _mm512_max_ps(_mm512_abs_ps(b), most);
    m = _mm256_max_ps(_mm512_castps512_ps256(most),
                      _mm512_extractf32x8_ps(most, 1));
    n = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));
    n = _mm_max_ps(n, _mm_movehl_ps(n, n));
    max = _mm_cvtss_f32(_mm_max_ss(n, _mm_movehdup_ps(n)));
    d = max / 127.0f;
    if (d < FLT_MIN) {
        _mm256_storeu_si256((__m256i *)q, _mm256_setzero_si256());
        return 0.0f;
    }
    inverse = _mm512_set1_ps(127.0f / max);
    _mm_storeu_si128((__m128i *)q, round_q8(a, inverse));
    _mm_storeu_si128((__m128i *)(q + 16), round_q8(b, inverse));
    return d;
}

/* Sums of each 16 of up to 64 numbers: vpdpbusd with ones adds fours. */
static void sum_sixteens(const int8_t *q, uint32_t n, int16_t *sums)
{
    const __m512i firsts =
        _mm512_setr_epi32(0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12, 0, 4, 8, 12);
    __m512i v = _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_set1_epi8(1),
                                    hth_load_part(q, n));

    v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_BADC));
    v = _mm512_add_epi32(v, _mm512_shuffle_epi32(v, _MM_PERM_CDAB));
    v = _mm512_permutexvar_epi32(firsts, v);
    _mm512_mask_cvtepi32_storeu_epi16(sums, hth_first16(n / HTH_Q8_SUM), v);
}

static void q8_row(const float *x, uint32_t cols, int8_t *q, float *d,
                   int16_t *sums)
{
    for (uint32_t c = 0; c < cols; c += HTH_Q8_BLOCK)
        d[c / HTH_Q8_BLOCK] = q8_block(x + c, q + c);
    for (uint32_t c = 0; c < cols; c += 64)
        sum_sixteens(q + c, cols - c < 64 ? cols - c : 64,
                     sums + c / HTH_Q8_SUM);
}

/* ---- norms and gates ---------------------------------------------------- */

static void rmsnorm(float *y, const float *x, const float *w, uint32_t d,
                    float eps)
{
    __m512d low = _mm512_setzero_pd(), high = _mm512_setzero_pd();
    const __m512 one = _mm512_set1_ps(1.0f);
    __m512 scale;

    for (uint32_t i = 0; i < d; i += 16) {
        __m512 v = _mm512_maskz_loadu_ps(hth_first16(d - i), x + i);
        __m512d a = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
        __m512d b = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));

        low = _mm512_fmadd_pd(a, a, low);
        high = _mm512_fmadd_pd(b, b, high);
    }
    scale = _mm512_set1_ps(
        (float)(1.0 / sqrt(_mm512_reduce_add_pd(_mm512_add_pd(low, high)) / d +
                           (double)eps)));
    for (uint32_t i = 0; i < d; i += 16) {
        __mmask16 k = hth_first16(d - i);
        __m512 v = _mm512_mul_ps(_mm512_maskz_loadu_ps(k, x + i), scale);
        __m512 g = w != NULL ? _mm512_maskz_loadu_ps(k, w + i) : one;

        _mm512_mask_storeu_ps(y + i, k, _mm512_mul_ps(v, g));
    }
}

static void swiglu(float *gate, const float *up, size_t n)
{
    const __m512 one = _mm512_set1_ps(1.0f), zero = _mm512_setzero_ps();

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 k = hth_first16(n - i);
        __m512 g = _mm512_maskz_loadu_ps(k, gate + i);
        __m512 u = _mm512_maskz_loadu_ps(k, up + i);
        __m512 e = hth_exp16(_mm512_sub_ps(zero, g));

        g = _mm512_div_ps(g, _mm512_add_ps(one, e));
        _mm512_mask_storeu_ps(gate + i, k, _mm512_mul_ps(g, u));
    }
}

static void add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 k = hth_first16(n - i);

        _mm512_mask_storeu_ps(x + i, k,
                              _mm512_add_ps(_mm512_maskz_loadu_ps(k, x + i),
                                            _mm512_maskz_loadu_ps(k, y + i)));
    }
}

static void axpy(float *x, float a, const float *y, size_t n)
{
    const __m512 factor = _mm512_set1_ps(a);

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 k = hth_first16(n - i);

        _mm512_mask_storeu_ps(x + i, k,
                              _mm512_fmadd_ps(factor,
                                              _mm512_maskz_loadu_ps(k, y + i),
                                              _mm512_maskz_loadu_ps(k, x + i)));
    }
}

/* A NaN does not count for the maximum but spreads through the sum, as in
 * the scalar set. */
static void softmax(float *x, size_t n)
{
    __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps(), max;

    for (size_t i = 0; i < n; i += 16)
        most = _mm512_mask_max_ps(
            most, hth_first16(n - i),
            _mm512_maskz_loadu_ps(hth_first16(n - i), x + i), most);
    max = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 k = hth_first16(n - i);
        __m512 v =
            hth_exp16(_mm512_sub_ps(_mm512_maskz_loadu_ps(k, x + i), max));

        sum = _mm512_mask_add_ps(sum, k, sum, v);
        _mm512_mask_storeu_ps(x + i, k, v);
    }
    sum = _mm512_set1_ps(hth_sum16(sum));
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 k = hth_first16(n - i);

        _mm512_mask_storeu_ps(
            x + i, k, _mm512_div_ps(_mm512_maskz_loadu_ps(k, x + i), sum));
    }
}

/* ---- rotation ----------------------------------------------------------- */

static void rotate_halves(float *v, uint32_t pairs, const float *cosines,
                          const float *sines)
{
    for (uint32_t i = 0; i < pairs; i += 16) {
        __mmask16 k = hth_first16(pairs - i);
        __m512 c = _mm512_maskz_loadu_ps(k, cosines + i);
        __m512 s = _mm512_maskz_loadu_ps(k, sines + i);
        __m512 a = _mm512_maskz_loadu_ps(k, v + i);
        __m512 b = _mm512_maskz_loadu_ps(k, v + pairs + i);

        _mm512_mask_storeu_ps(v + i, k,
                              _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
        _mm512_mask_storeu_ps(v + pairs + i, k,
                              _mm512_fmadd_ps(a, s, _mm512_mul_ps(b, c)));
    }
}

/* (a, b) pairs side by side: (a, b) c -+ (b, a) s. */
static void rotate_pairs(float *v, uint32_t pairs, const float *cosines,
                         const float *sines)
{
    const __m512i twice =
        _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);

    for (uint32_t i = 0; i < pairs; i += 8) {
        __mmask16 half = hth_first16(pairs - i < 8 ? pairs - i : 8);
        __mmask16 k = hth_first16(2 * (size_t)(pairs - i));
        __m512 c = _mm512_maskz_loadu_ps(half, cosines + i);
        __m512 s = _mm512_maskz_loadu_ps(half, sines + i);
        __m512 x = _mm512_maskz_loadu_ps(k, v + 2 * i);
        __m512 other = _mm512_permute_ps(x, 0xb1);

        c = _mm512_permutexvar_ps(twice, c);
        s = _mm512_permutexvar_ps(twice, s);
        _mm512_mask_storeu_ps(
            v + 2 * i, k, _mm512_fmaddsub_ps(x, c, _mm512_mul_ps(other, s)));
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
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 k = hth_first16(n - i);
        __m256i h =
            _mm512_cvtps_ph(_mm512_maskz_loadu_ps(k, src + i),
                            _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);

        _mm256_mask_storeu_epi16(dst + i, k, h);
    }
}

static void f16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 k = hth_first16(n - i);

        _mm512_mask_storeu_ps(
            dst + i, k, _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(k, src + i)));
    }
}

/* ---- the table ---------------------------------------------------------- */

static bool usable(void)
{
    return __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") &&
           __builtin_cpu_supports("avx512vbmi");
}

static void gemm_q8(const struct hth_mat *w, uint32_t first, uint32_t count,
                    const struct hth_q8 *x, float *y, size_t ldy)
{
    struct hth_q8_product job = {w, first, count, x, y, ldy};

    if (x->n <= HTH_DECODE_ROWS)
        hth__decode_avx512(&job);
    else
        hth__prefill_avx512(&job);
}

const struct hth_isa hth_isa_avx512 = {
    .name = "avx512",
    .usable = usable,
    .q8_row = q8_row,
    .gemm_q8 = gemm_q8,
    .gemm_float = hth__gemm_float_avx512,
    .gemm_packed = hth__gemm_packed_avx512,
    .gemm_packed_float = hth__gemm_packed_float_avx512,
    .rmsnorm = rmsnorm,
    .rope = rope,
    .swiglu = swiglu,
    .add = add,
    .axpy = axpy,
    .softmax = softmax,
    .f32_to_f16 = f32_to_f16,
    .f16_to_f32 = f16_to_f32,
    .attn_panel = hth__attn_panel_avx512,
    .attn_widen = hth__attn_widen_avx512,
};
