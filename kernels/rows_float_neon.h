/* rows_float_neon.h - products of packed F16 and BF16 weights in NEON: four
 * quarters of 4 rows, one sum per output, column after column, in chunks
 * (isa.h). Included by kernels_asimd.c. */
#ifndef HTH_KERNELS_ROWS_FLOAT_NEON_H
#define HTH_KERNELS_ROWS_FLOAT_NEON_H

#include <arm_neon.h>

#include "kernels/pack.h"

/* A chunk of a group, widened: column by column, 16 rows. */
struct float_panel {
    float w[HTH_FLOAT_CHUNK][16];
    uint32_t cols;
};

static void float_fill(uint32_t type, const uint16_t *p, struct float_panel *to)
{
    for (uint32_t c = 0; c < to->cols; c++)
        for (uint32_t r = 0; r < 16; r += 4) {
            if (type == HTH_F16) {
                uint16x4_t v = vld1_u16(p + 16 * c + r);

                vst1q_f32(to->w[c] + r, vcvt_f32_f16(vreinterpret_f16_u16(v)));
                continue;
            }
            for (uint32_t i = r; i < r + 4; i++)
                to->w[c][i] = hth_bf16_to_f32(p[(c / 2 * 16 + i) * 2 + c % 2]);
        }
}

/* One row of x; v: its first number of the chunk, `width` apart. */
static void float_one(const struct float_panel *w, const float *v,
                      uint32_t width, float *y, bool fresh)
{
    float32x4_t sum[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0),
                          vdupq_n_f32(0)};

    for (uint32_t c = 0; c < w->cols; c++, v += width)
        for (uint32_t k = 0; k < 4; k++)
            sum[k] = vfmaq_n_f32(sum[k], vld1q_f32(w->w[c] + 4 * k), *v);
    for (uint32_t k = 0; k < 4; k++) {
        float32x4_t old = fresh ? vdupq_n_f32(0) : vld1q_f32(y + 4 * k);

        vst1q_f32(y + 4 * k, vaddq_f32(old, sum[k]));
    }
}

static void gemm_packed_float_neon(const struct hth_mat *w, uint32_t first,
                                   uint32_t count, const struct hth_xf *x,
                                   float *y, size_t ldy)
{
    uint32_t width = hth_tile_width(x->n);
    struct float_panel panel;

    for (size_t o = first; o < (size_t)first + count; o += HTH_PACK_ROWS) {
        const uint16_t *group =
            (const void *)((const uint8_t *)w->data + o * w->row_bytes);

        for (uint32_t c = 0; c < w->cols; c += HTH_FLOAT_CHUNK) {
            panel.cols =
                w->cols - c < HTH_FLOAT_CHUNK ? w->cols - c : HTH_FLOAT_CHUNK;
            float_fill(w->type, group + (size_t)c * HTH_PACK_ROWS, &panel);
            for (uint32_t r = 0; r < x->n; r++)
                float_one(&panel,
                          x->tiles +
                              ((size_t)(r / width) * w->cols + c) * width +
                              r % width,
                          width, y + r * ldy + o, c == 0);
        }
    }
}

#endif
