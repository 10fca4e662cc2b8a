/* kernels_ref.c - the scalar instruction set: the definition that the fast
 * ones are tested against. Plain loops in index order, compiled without
 * contraction or reassociation. No state, no failure, thread-safe. */
#include "kernels/isa.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "kernels/block.h"

static bool ref_usable(void)
{
    return true;
}

/* ---- activations in 8 bits --------------------------------------------- */

/* Rounds to nearest even, as the vector conversions do. A NaN becomes -127
 * rather than undefined behaviour: broken weights may produce one. */
static int8_t to_q8(float v)
{
    if (!(v > -127.0f))
        v = -127.0f;
    if (v > 127.0f)
        v = 127.0f;
    return (int8_t)lrintf(v);
}

/* Below the smallest normal scale the block counts as zero, so that 1 / d
 * stays finite. */
static float q8_block(const float *x, int8_t *q)
{
    float max = 0.0f, d, inverse;

    for (uint32_t i = 0; i < HTH_Q8_BLOCK; i++)
        max = fmaxf(max, fabsf(x[i]));
    d = max / 127.0f;
    if (d < FLT_MIN) {
        memset(q, 0, HTH_Q8_BLOCK);
        return 0.0f;
    }
    inverse = 127.0f / max;
    for (uint32_t i = 0; i < HTH_Q8_BLOCK; i++)
        q[i] = to_q8(x[i] * inverse);
    return d;
}

static void ref_q8_row(const float *x, uint32_t cols, int8_t *q, float *d,
                       int16_t *sums)
{
    for (uint32_t b = 0; b < cols / HTH_Q8_BLOCK; b++)
        d[b] = q8_block(x + b * HTH_Q8_BLOCK, q + b * HTH_Q8_BLOCK);
    for (uint32_t s = 0; s < cols / HTH_Q8_SUM; s++) {
        int sum = 0;

        for (uint32_t i = 0; i < HTH_Q8_SUM; i++)
            sum += q[s * HTH_Q8_SUM + i];
        sums[s] = (int16_t)sum;
    }
}

/* ---- products ---------------------------------------------------------- */

static int dot16(const int8_t *a, const int8_t *b)
{
    int sum = 0;

    for (int i = 0; i < 16; i++)
        sum += a[i] * b[i];
    return sum;
}

/* One block of weights times one block of activations:
 * d (scale . q q + offset . sum q), for each half of 16. */
static float dot_block(const struct hth_block32 *w, const int8_t *q, float d,
                       const int16_t *sums)
{
    float v = 0.0f;

    for (int i = 0; i < 2; i++) {
        v += w->scale[i] * (float)dot16(w->q + 16 * i, q + 16 * i);
        v += w->offset[i] * (float)sums[i];
    }
    return d * v;
}

/* A weight block is unpacked once and used for all rows of x; each output is
 * still summed over its blocks in order. */
static void ref_gemm_q8(const struct hth_mat *w, uint32_t first, uint32_t count,
                        const struct hth_q8 *x, float *y, size_t ldy)
{
    hth_unpack_fn unpack = hth_unpacker(w->type);
    const struct hth_type_info *info = hth_type_info(w->type);
    uint32_t parts = info->block / 32;
    uint32_t blocks = w->cols / HTH_Q8_BLOCK;

    for (uint32_t o = first; o < first + count; o++) {
        const uint8_t *row = (const uint8_t *)w->data + o * w->row_bytes;

        for (uint32_t r = 0; r < x->n; r++)
            y[r * ldy + o] = 0.0f;
        for (uint32_t b = 0; b < blocks; b++) {
            struct hth_block32 block;

            unpack(row + (size_t)(b / parts) * info->bytes, b % parts, &block);
            for (size_t r = 0; r < x->n; r++)
                y[r * ldy + o] += dot_block(
                    &block, x->q + r * x->cols + b * HTH_Q8_BLOCK,
                    x->d[r * blocks + b], x->sums + (r * blocks + b) * 2);
        }
    }
}

static float weight_at(uint32_t type, const uint8_t *row, size_t c)
{
    float f;

    if (type == HTH_F16)
        return hth_f16_to_f32(hth_load_u16(row + 2 * c));
    if (type == HTH_BF16)
        return hth_bf16_to_f32(hth_load_u16(row + 2 * c));
    memcpy(&f, row + 4 * c, sizeof f);
    return f;
}

static void ref_gemm_float(const struct hth_mat *w, uint32_t first,
                           uint32_t count, const float *x, size_t ldx,
                           uint32_t n, float *y, size_t ldy)
{
    for (uint32_t o = first; o < first + count; o++) {
        const uint8_t *row = (const uint8_t *)w->data + o * w->row_bytes;

        for (size_t r = 0; r < n; r++) {
            float sum = 0.0f;

            for (uint32_t c = 0; c < w->cols; c++)
                sum += x[r * ldx + c] * weight_at(w->type, row, c);
            y[r * ldy + o] = sum;
        }
    }
}

/* ---- rows -------------------------------------------------------------- */

static void ref_rmsnorm(float *y, const float *x, const float *w, uint32_t d,
                        float eps)
{
    double sum = 0.0;
    float scale;

    for (uint32_t i = 0; i < d; i++)
        sum += (double)x[i] * x[i];
    scale = (float)(1.0 / sqrt(sum / d + (double)eps));
    for (uint32_t i = 0; i < d; i++)
        y[i] = x[i] * scale * (w != NULL ? w[i] : 1.0f);
}

static void ref_rope(float *v, uint32_t heads, uint32_t head_dim,
                     uint32_t rot_dim, const float *cosines, const float *sines,
                     bool neox)
{
    uint32_t pairs = rot_dim / 2;

    for (uint32_t h = 0; h < heads; h++) {
        float *head = v + (size_t)h * head_dim;

        for (uint32_t i = 0; i < pairs; i++) {
            float *a = head + (neox ? i : 2 * i);
            float *b = head + (neox ? i + pairs : 2 * i + 1);
            float x = *a, y = *b;

            *a = x * cosines[i] - y * sines[i];
            *b = x * sines[i] + y * cosines[i];
        }
    }
}

static void ref_swiglu(float *gate, const float *up, size_t n)
{
    for (size_t i = 0; i < n; i++)
        gate[i] = gate[i] / (1.0f + expf(-gate[i])) * up[i];
}

static void ref_add(float *x, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += y[i];
}

static void ref_axpy(float *x, float a, const float *y, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += a * y[i];
}

static void ref_softmax(float *x, size_t n)
{
    float max = -INFINITY, sum = 0.0f;

    for (size_t i = 0; i < n; i++)
        max = fmaxf(max, x[i]);
    for (size_t i = 0; i < n; i++) {
        x[i] = expf(x[i] - max);
        sum += x[i];
    }
    for (size_t i = 0; i < n; i++)
        x[i] /= sum;
}

static void ref_f32_to_f16(const float *src, uint16_t *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = hth_f32_to_f16(src[i]);
}

static void ref_f16_to_f32(const uint16_t *src, float *dst, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dst[i] = hth_f16_to_f32(src[i]);
}

const struct hth_isa hth_isa_ref = {
    .name = "scalar",
    .usable = ref_usable,
    .q8_row = ref_q8_row,
    .gemm_q8 = ref_gemm_q8,
    .gemm_float = ref_gemm_float,
    .gemm_packed = hth__gemm_packed_ref,
    .gemm_packed_float = hth__gemm_packed_float_ref,
    .tile_float = hth_tile_float_row,
    .blas_rows_min = 4,
    .rmsnorm = ref_rmsnorm,
    .rope = ref_rope,
    .swiglu = ref_swiglu,
    .add = ref_add,
    .axpy = ref_axpy,
    .softmax = ref_softmax,
    .f32_to_f16 = ref_f32_to_f16,
    .f16_to_f32 = ref_f16_to_f32,
    .attn_panel = hth__attn_panel_ref,
    .attn_widen = hth__attn_widen_ref,
};
