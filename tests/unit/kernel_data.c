/* kernel_data.c - see kernel_data.h. Aborts when memory runs out. */
#include "kernel_data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/mem.h"
#include "kernels/block.h"
#include "kernels/quant.h"

const uint32_t kd_types[KD_TYPES] = {HTH_F32,  HTH_F16,    HTH_BF16,  HTH_Q8_0,
                                     HTH_Q4_0, HTH_Q4_1,   HTH_Q5_0,  HTH_Q5_1,
                                     HTH_Q2_K, HTH_Q3_K,   HTH_Q4_K,  HTH_Q5_K,
                                     HTH_Q6_K, HTH_IQ4_NL, HTH_IQ4_XS};

static void *must_alloc(size_t bytes)
{
    void *p = hth_mem_alloc(bytes > 0 ? bytes : 1);

    if (p == NULL)
        abort();
    return p;
}

uint32_t kd_range(struct hth_rng *r, uint32_t low, uint32_t high)
{
    return low + (uint32_t)(hth_rng_u64(r) % (high - low + 1));
}

float *kd_random_floats(struct hth_rng *r, size_t n)
{
    float *x = must_alloc(n * sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = hth_rng_normal(r) * (hth_rng_u64(r) % 64 == 0 ? 20.0f : 1.0f);
    return x;
}

/* Offsets of the f16 fields of a block; the second is -1 where there is one. */
static void half_fields(uint32_t type, int *first, int *second)
{
    *first = type == HTH_Q2_K ? 80 : type == HTH_Q3_K ? 108 : 0;
    *second = -1;
    if (type == HTH_Q6_K)
        *first = 208;
    if (type == HTH_Q4_1 || type == HTH_Q5_1 || type == HTH_Q4_K ||
        type == HTH_Q5_K)
        *second = 2;
    if (type == HTH_Q2_K)
        *second = 82;
}

static void random_half(struct hth_rng *r, uint8_t *p)
{
    hth_store_u16(p, hth_f32_to_f16(hth_rng_normal(r) * 0.1f));
}

static void random_row(struct hth_rng *r, uint32_t type, uint8_t *row,
                       uint32_t cols)
{
    const struct hth_type_info *info = hth_type_info(type);
    int first, second;

    if (info->block == 1) {
        for (uint32_t c = 0; c < cols; c++) {
            float f = hth_rng_normal(r);

            if (hth_quantize((enum hth_type)type, &f, row + c * info->bytes,
                             1) != HTH_OK)
                abort();
        }
        return;
    }
    half_fields(type, &first, &second);
    for (uint32_t b = 0; b < cols / info->block; b++, row += info->bytes) {
        for (uint32_t i = 0; i < info->bytes; i++)
            row[i] = (uint8_t)(hth_rng_u64(r) >> 32);
        random_half(r, row + first);
        if (second >= 0)
            random_half(r, row + second);
    }
}

struct hth_mat kd_random_mat(struct hth_rng *r, uint32_t type, uint32_t rows,
                             uint32_t cols)
{
    struct hth_mat m = {.type = type, .rows = rows, .cols = cols};
    uint8_t *data;

    m.row_bytes = hth_row_bytes(type, cols);
    data = must_alloc(rows * m.row_bytes);
    for (uint32_t o = 0; o < rows; o++)
        random_row(r, type, data + o * m.row_bytes, cols);
    m.data = data;
    return m;
}

void kd_free(struct hth_mat *m)
{
    hth_mem_free((void *)(uintptr_t)m->data);
    m->data = NULL;
}

struct hth_q8 kd_quantise(const float *x, uint32_t n, uint32_t cols)
{
    size_t count = (size_t)n * cols;
    struct hth_q8 q = {.n = n, .cols = cols};

    q.q = must_alloc(count);
    q.d = must_alloc(count / HTH_Q8_BLOCK * sizeof *q.d);
    q.sums = must_alloc(count / HTH_Q8_SUM * sizeof *q.sums);
    for (size_t r = 0; r < n; r++)
        hth_isa_ref.q8_row(x + r * cols, cols, q.q + r * cols,
                           q.d + r * (cols / HTH_Q8_BLOCK),
                           q.sums + r * (cols / HTH_Q8_SUM));
    return q;
}

void kd_q8_free(struct hth_q8 *q)
{
    hth_mem_free(q->q);
    hth_mem_free(q->d);
    hth_mem_free(q->sums);
}

double kd_q8_magnitude(const struct hth_mat *w, uint32_t o,
                       const struct hth_q8 *x, uint32_t r)
{
    const struct hth_type_info *info = hth_type_info(w->type);
    hth_unpack_fn unpack = hth_unpacker(w->type);
    const uint8_t *row = (const uint8_t *)w->data + o * w->row_bytes;
    uint32_t parts = info->block / 32, blocks = w->cols / 32;
    double sum = 0.0;

    for (uint32_t b = 0; b < blocks; b++) {
        const int8_t *q = x->q + (size_t)r * x->cols + b * 32;
        struct hth_block32 u;
        double part = 0.0;

        unpack(row + (size_t)(b / parts) * info->bytes, b % parts, &u);
        for (int i = 0; i < 32; i++)
            part += (fabs((double)u.scale[i / 16] * u.q[i]) +
                     fabs((double)u.offset[i / 16])) *
                    fabs((double)q[i]);
        sum += part * (double)x->d[(size_t)r * blocks + b];
    }
    return sum;
}

double kd_float_magnitude(const struct hth_mat *w, uint32_t o, const float *x)
{
    const struct hth_type_info *info = hth_type_info(w->type);
    const uint8_t *row = (const uint8_t *)w->data + o * w->row_bytes;
    double sum = 0.0;

    for (uint32_t c = 0; c < w->cols; c++) {
        float f;

        hth_dequantize((enum hth_type)w->type, row + c * info->bytes, &f, 1);
        sum += fabs((double)f * (double)x[c]);
    }
    return sum;
}
