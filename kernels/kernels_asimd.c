/* kernels_asimd.c - the NEON that every 64-bit ARM has (ARMv8.0: Cortex-A53,
 * A72), complete. Empty on other architectures. No state, no failure,
 * thread-safe. */
#include "kernels/isa.h"

#ifdef __aarch64__

#include <float.h>
#include <math.h>

#include "base/limits.h"
#include "kernels/gemm_neon.h"
#include "kernels/gemm_rows_neon.h"
#include "kernels/rows_float_neon.h"
#include "kernels/simd_neon.h"

static bool asimd_usable(void)
{
    return true;
}

/* ---- activations in 8 bits --------------------------------------------- */

/* As the reference: scale from the largest size, round to nearest even; a
 * block whose scale would not be a normal number is zero. */
static float q8_block(const float *x, int8_t *q, int16_t *sums)
{
    float32x4_t v[8], max = vdupq_n_f32(0.0f);
    int16x8_t h[4];
    float largest, d, inverse;

    for (int i = 0; i < 8; i++) {
        v[i] = vld1q_f32(x + 4 * i);
        max = vmaxnmq_f32(max, vabsq_f32(v[i]));
    }
    largest = vmaxnmvq_f32(max);
    d = largest / 127.0f;
    if (d < FLT_MIN) {
        d = 0.0f;
        inverse = 0.0f;
    } else {
        inverse = 127.0f / largest;
    }
    for (int i = 0; i < 4; i++) {
        int32x4_t a = vcvtnq_s32_f32(vmulq_n_f32(v[2 * i], inverse));
        int32x4_t b = vcvtnq_s32_f32(vmulq_n_f32(v[2 * i + 1], inverse));

        h[i] = vcombine_s16(vqmovn_s32(a), vqmovn_s32(b));
        vst1_s8(q + 8 * i, vqmovn_s16(h[i]));
    }
    sums[0] = (int16_t)vaddvq_s16(vaddq_s16(h[0], h[1]));
    sums[1] = (int16_t)vaddvq_s16(vaddq_s16(h[2], h[3]));
    return d;
}

static void asimd_q8_row(const float *x, uint32_t cols, int8_t *q, float *d,
                         int16_t *sums)
{
    for (uint32_t b = 0; b < cols / HTH_Q8_BLOCK; b++)
        d[b] =
            q8_block(x + b * HTH_Q8_BLOCK, q + b * HTH_Q8_BLOCK, sums + b * 2);
}

/* ---- float products ---------------------------------------------------- */

/* Four weights from column c of a row of f32, f16 or bf16. */
HTH_INLINE float32x4_t load_weights(const uint8_t *row, size_t c, uint32_t type)
{
    if (type == HTH_F32)
        return vld1q_f32((const float *)(const void *)row + c);
    if (type == HTH_F16)
        return vcvt_f32_f16(vld1_f16((const float16_t *)(const void *)row + c));
    return vreinterpretq_f32_u32(
        vshll_n_u16(vld1_u16((const uint16_t *)(const void *)row + c), 16));
}

HTH_INLINE float weight_at(const uint8_t *row, size_t c, uint32_t type)
{
    if (type == HTH_F32)
        return ((const float *)(const void *)row)[c];
    if (type == HTH_F16)
        return (float)((const float16_t *)(const void *)row)[c];
    return hth_bf16_to_f32(((const uint16_t *)(const void *)row)[c]);
}

/* One row of x times four rows of w. */
HTH_INLINE float32x4_t float_quad(const uint8_t *const row[LANES],
                                  const float *x, uint32_t cols, uint32_t type)
{
    float32x4_t acc[LANES];
    float sum[LANES];
    uint32_t c = 0;

    for (uint32_t k = 0; k < LANES; k++)
        acc[k] = vdupq_n_f32(0.0f);
    for (; c + 4 <= cols; c += 4) {
        float32x4_t v = vld1q_f32(x + c);

        for (uint32_t k = 0; k < LANES; k++)
            acc[k] = vfmaq_f32(acc[k], load_weights(row[k], c, type), v);
    }
    for (uint32_t k = 0; k < LANES; k++)
        sum[k] = vaddvq_f32(acc[k]);
    for (; c < cols; c++)
        for (uint32_t k = 0; k < LANES; k++)
            sum[k] += weight_at(row[k], c, type) * x[c];
    return vld1q_f32(sum);
}

struct float_x {
    const float *x; /* [n][ldx] */
    size_t ldx;
    uint32_t n;
};

HTH_INLINE void gemm_float_type(const struct hth_mat *w, struct range range,
                                const struct float_x *x, float *y, size_t ldy,
                                uint32_t type)
{
    for (uint32_t o = 0; o < range.count; o += LANES) {
        uint32_t left = range.count - o;
        struct output out = {.y = y + range.first + o,
                             .ldy = ldy,
                             .valid = left < LANES ? left : LANES};
        const uint8_t *row[LANES];

        for (uint32_t k = 0; k < LANES; k++)
            row[k] =
                (const uint8_t *)w->data +
                (range.first + o + (k < left ? k : left - 1)) * w->row_bytes;
        for (uint32_t r = 0; r < x->n; r++)
            store_output(&out, r,
                         float_quad(row, x->x + r * x->ldx, w->cols, type));
    }
}

static void asimd_gemm_float(const struct hth_mat *w, uint32_t first,
                             uint32_t count, const float *x, size_t ldx,
                             uint32_t n, float *y, size_t ldy)
{
    struct range range = {first, count};
    struct float_x rows = {x, ldx, n};

    if (w->type == HTH_F32)
        gemm_float_type(w, range, &rows, y, ldy, HTH_F32);
    else if (w->type == HTH_F16)
        gemm_float_type(w, range, &rows, y, ldy, HTH_F16);
    else
        gemm_float_type(w, range, &rows, y, ldy, HTH_BF16);
}

/* ---- rows -------------------------------------------------------------- */

static void asimd_rmsnorm(float *y, const float *x, const float *w, uint32_t d,
                          float eps)
{
    float64x2_t acc = vdupq_n_f64(0.0);
    double sum;
    float scale;
    uint32_t i = 0;

    for (; i + 4 <= d; i += 4) {
        float32x4_t v = vld1q_f32(x + i);
        float64x2_t a = vcvt_f64_f32(vget_low_f32(v)), b = vcvt_high_f64_f32(v);

        acc = vfmaq_f64(vfmaq_f64(acc, a, a), b, b);
    }
    sum = vaddvq_f64(acc);
    for (; i < d; i++)
        sum += (double)x[i] * (double)x[i];
    scale = (float)(1.0 / sqrt(sum / d + (double)eps));
    for (i = 0; i + 4 <= d; i += 4) {
        float32x4_t v = vmulq_n_f32(vld1q_f32(x + i), scale);

        vst1q_f32(y + i, w != NULL ? vmulq_f32(v, vld1q_f32(w + i)) : v);
    }
    for (; i < d; i++)
        y[i] = x[i] * scale * (w != NULL ? w[i] : 1.0f);
}

static void rotate(float *a, float *b, float cosine, float sine)
{
    float x = *a, y = *b;

    *a = x * cosine - y * sine;
    *b = x * sine + y * cosine;
}

static void rope_head_neox(float *head, uint32_t pairs, const float *cosines,
                           const float *sines)
{
    float *a = head, *b = head + pairs;
    uint32_t i = 0;

    for (; i + 4 <= pairs; i += 4) {
        float32x4_t x = vld1q_f32(a + i), y = vld1q_f32(b + i);
        float32x4_t c = vld1q_f32(cosines + i), s = vld1q_f32(sines + i);

        vst1q_f32(a + i, vfmsq_f32(vmulq_f32(x, c), y, s));
        vst1q_f32(b + i, vfmaq_f32(vmulq_f32(y, c), x, s));
    }
    for (; i < pairs; i++)
        rotate(a + i, b + i, cosines[i], sines[i]);
}

static void rope_head_pairs(float *head, uint32_t pairs, const float *cosines,
                            const float *sines)
{
    uint32_t i = 0;

    for (; i + 4 <= pairs; i += 4) {
        float32x4x2_t v = vld2q_f32(head + 2 * i), out;
        float32x4_t c = vld1q_f32(cosines + i), s = vld1q_f32(sines + i);

        out.val[0] = vfmsq_f32(vmulq_f32(v.val[0], c), v.val[1], s);
        out.val[1] = vfmaq_f32(vmulq_f32(v.val[1], c), v.val[0], s);
        vst2q_f32(head + 2 * i, out);
    }
    for (; i < pairs; i++)
        rotate(head + 2 * i, head + 2 * i + 1, cosines[i], sines[i]);
}

static void asimd_rope(float *v, uint32_t heads, uint32_t head_dim,
                       uint32_t rot_dim, const float *cosines,
                       const float *sines, bool neox)
{
    for (uint32_t h = 0; h < heads; h++) {
        float *head = v + (size_t)h * head_dim;

        if (neox)
            rope_head_neox(head, rot_dim / 2, cosines, sines);
        else
            rope_head_pairs(head, rot_dim / 2, cosines, sines);
    }
}

HTH_INLINE float32x4_t silu4(float32x4_t g)
{
    float32x4_t e = hth_exp4(vnegq_f32(g));

    return vdivq_f32(g, vaddq_f32(vdupq_n_f32(1.0f), e));
}

/* The rest goes through the same vector code, padded. */
static void asimd_swiglu(float *gate, const float *up, size_t n)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1q_f32(gate + i,
                  vmulq_f32(silu4(vld1q_f32(gate + i)), vld1q_f32(up + i)));
    if (i < n) {
        float g[4] = {0}, u[4] = {0};

        memcpy(g, gate + i, (n - i) * sizeof *g);
        memcpy(u, up + i, (n - i) * sizeof *u);
        vst1q_f32(g, vmulq_f32(silu4(vld1q_f32(g)), vld1q_f32(u)));
        memcpy(gate + i, g, (n - i) * sizeof *g);
    }
}

static void asimd_add(float *x, const float *y, size_t n)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1q_f32(x + i, vaddq_f32(vld1q_f32(x + i), vld1q_f32(y + i)));
    for (; i < n; i++)
        x[i] += y[i];
}

static void asimd_axpy(float *x, float a, const float *y, size_t n)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1q_f32(x + i, vfmaq_n_f32(vld1q_f32(x + i), vld1q_f32(y + i), a));
    for (; i < n; i++)
        x[i] += a * y[i];
}

static void scale_row(float *x, size_t n, float by)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1q_f32(x + i, vmulq_n_f32(vld1q_f32(x + i), by));
    for (; i < n; i++)
        x[i] *= by;
}

static void asimd_softmax(float *x, size_t n)
{
    float max = hth_max_of(x, n, -INFINITY);

    scale_row(x, n, 1.0f / hth_exp_row(x, n, max));
}

static void asimd_f32_to_f16(const float *src, uint16_t *dst, size_t n)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1_u16(dst + i,
                 vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(src + i))));
    for (; i < n; i++)
        dst[i] = hth_f32_to_f16(src[i]);
}

static void asimd_f16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        vst1q_f32(dst + i,
                  vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(src + i))));
    for (; i < n; i++)
        dst[i] = hth_f16_to_f32(src[i]);
}

const struct hth_isa hth_isa_asimd = {
    .name = "asimd",
    .usable = asimd_usable,
    .q8_row = asimd_q8_row,
    .gemm_q8 = gemm_q8_neon,
    .gemm_packed = gemm_packed_neon,
    .gemm_packed_float = gemm_packed_float_neon,
    .gemm_float = asimd_gemm_float,
    .blas_rows_min = 16,
    .rmsnorm = asimd_rmsnorm,
    .rope = asimd_rope,
    .swiglu = asimd_swiglu,
    .add = asimd_add,
    .axpy = asimd_axpy,
    .softmax = asimd_softmax,
    .f32_to_f16 = asimd_f32_to_f16,
    .f16_to_f32 = asimd_f16_to_f32,
    .attn_panel = hth__attn_panel_asimd,
    .attn_widen = hth__attn_widen_asimd,
};

#endif
