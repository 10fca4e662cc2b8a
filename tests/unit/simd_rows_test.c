/* simd_rows_test.c - the operations on rows, float products and attention of
 * every instruction set this CPU has, against the scalar set or against
 * double arithmetic. All memory is guarded; bounds are stated per test. */
#include <criterion/criterion.h>

#include <math.h>
#include <string.h>

#include "kernels/type.h"
#include "tests/unit/simd_make.h"

/* Sizes around every vector width. */
static const uint32_t g_sizes[] = {1,  2,  3,  7,  8,  9,   15,  16,  17,
                                   31, 32, 33, 63, 64, 100, 129, 896, 2048};
#define SIZES (sizeof g_sizes / sizeof g_sizes[0])

static float *copy(const float *x, size_t n)
{
    float *y = simd_guarded(n * sizeof *y);

    memcpy(y, x, n * sizeof *y);
    return y;
}

/* |got - want| <= bound * size */
static void near(const struct hth_isa *isa, const char *what, double got,
                 double want, double bound)
{
    cr_assert(fabs(got - want) <= bound, "%s %s: %.9g, want %.9g within %g",
              isa->name, what, got, want, bound);
}

/* ---- exact operations --------------------------------------------------- */

static void check_q8(const struct hth_isa *isa, const float *x, uint32_t cols)
{
    int8_t *q = simd_guarded(cols), *want_q = simd_guarded(cols);
    float *d = simd_guarded(cols / 32 * 4), *want_d = simd_guarded(cols / 8);
    int16_t *s = simd_guarded(cols / 8), *want_s = simd_guarded(cols / 8);

    isa->q8_row(x, cols, q, d, s);
    hth_isa_ref.q8_row(x, cols, want_q, want_d, want_s);
    cr_assert_arr_eq(q, want_q, cols, "%s q", isa->name);
    cr_assert_arr_eq(d, want_d, cols / 8, "%s d", isa->name);
    cr_assert_arr_eq(s, want_s, cols / 8, "%s sums", isa->name);
}

/* Ties, infinities, NaN, subnormals and zeros included: the same bits. */
Test(simd_rows, q8_rows_are_the_scalar_ones)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 21);
    for (uint32_t cols = 32; cols <= 32 * 9; cols += 32)
        for (uint32_t trial = 0; trial < 20; trial++) {
            float *x = simd_floats(&rng, cols, powf(10, (int)trial - 10));

            if (trial == 3)
                memset(x, 0, 64);
            if (trial == 4)
                x[5] = INFINITY;
            if (trial == 5)
                x[6] = NAN;
            if (trial == 6)
                for (uint32_t i = 0; i < cols; i++)
                    x[i] = (float)((int)i % 64 - 32) * (127.0f / 64);
            if (trial == 7)
                x[7] = 1e-44f;
            for (uint32_t k = 0; simd_usable_at(k) != NULL; k++)
                check_q8(simd_usable_at(k), x, cols);
        }
}

static bool same_half(uint16_t a, uint16_t b)
{
    bool nan_a = (a & 0x7fff) > 0x7c00, nan_b = (b & 0x7fff) > 0x7c00;

    return nan_a || nan_b ? nan_a == nan_b : a == b;
}

Test(simd_rows, half_conversions_are_exact)
{
    static uint16_t all[65536], back[65536];
    static float wide[65536];

    for (uint32_t i = 0; i < 65536; i++)
        all[i] = (uint16_t)i;
    for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
        const struct hth_isa *isa = simd_usable_at(k);

        isa->f16_to_f32(all, wide, 65536);
        isa->f32_to_f16(wide, back, 65536);
        for (uint32_t i = 0; i < 65536; i++) {
            float want = hth_f16_to_f32((uint16_t)i);

            cr_assert(isnan(want) ? isnan(wide[i]) : wide[i] == want, "%s %u",
                      isa->name, i);
            cr_assert(same_half(back[i], all[i]), "%s %u", isa->name, i);
        }
    }
}

/* Every tail length, and values between two halves. */
Test(simd_rows, half_rows_round_to_even)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 22);
    for (uint32_t k = 0; simd_usable_at(k) != NULL; k++)
        for (uint32_t n = 1; n < 70; n++) {
            float *x = simd_floats(&rng, n, 100.0f);
            uint16_t *h = simd_guarded(n * 2);
            float *y = simd_guarded(n * 4);

            x[n / 2] = 1.0f + 1.0f / 2048; /* halfway */
            x[n / 3] = 1e6f;               /* infinity */
            simd_usable_at(k)->f32_to_f16(x, h, n);
            simd_usable_at(k)->f16_to_f32(h, y, n);
            for (uint32_t i = 0; i < n; i++) {
                cr_assert_eq(h[i], hth_f32_to_f16(x[i]));
                cr_assert_eq(y[i], hth_f16_to_f32(h[i]));
            }
        }
}

/* add: the same bits. axpy: one rounding instead of two. */
Test(simd_rows, sums)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 23);
    for (uint32_t i = 0; i < SIZES; i++) {
        uint32_t n = g_sizes[i];
        float *x = simd_floats(&rng, n, 1), *y = simd_floats(&rng, n, 1);

        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
            const struct hth_isa *isa = simd_usable_at(k);
            float *a = copy(x, n), *b = copy(x, n);

            isa->add(a, y, n);
            isa->axpy(b, 0.37f, y, n);
            for (uint32_t j = 0; j < n; j++) {
                cr_assert_eq(a[j], x[j] + y[j]);
                near(isa, "axpy", b[j], x[j] + 0.37f * (double)y[j],
                     1.5e-7 * (fabs(x[j]) + fabs(y[j])));
            }
        }
    }
}

/* ---- rounded operations ------------------------------------------------- */

/* 3 units in the last place: the scale and two products. */
Test(simd_rows, rmsnorm)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 24);
    for (uint32_t i = 0; i < 2 * SIZES; i++) {
        uint32_t n = g_sizes[i / 2];
        float *x = simd_floats(&rng, n, 3), *w = simd_floats(&rng, n, 1);
        double sum = 0;

        for (uint32_t j = 0; j < n; j++)
            sum += (double)x[j] * x[j];
        sum = 1.0 / sqrt(sum / n + (double)1e-5f);
        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
            float *y = copy(x, n); /* in place */

            simd_usable_at(k)->rmsnorm(y, y, i & 1 ? w : NULL, n, 1e-5f);
            for (uint32_t j = 0; j < n; j++) {
                double want = x[j] * sum * (i & 1 ? w[j] : 1.0f);

                near(simd_usable_at(k), "rmsnorm", y[j], want,
                     2e-7 * fabs(want));
            }
        }
    }
}

/* Both pairings, whole and partial rotation; 2 roundings of the larger part. */
Test(simd_rows, rope)
{
    static const uint32_t shapes[][2] = {{64, 64},   {128, 128}, {80, 32},
                                         {96, 96},   {6, 2},     {20, 18},
                                         {128, 100}, {40, 40}};
    struct hth_rng rng;

    hth_rng_init(&rng, 25);
    for (uint32_t i = 0; i < 16; i++) {
        uint32_t dim = shapes[i / 2][0], rot = shapes[i / 2][1];
        float *v = simd_floats(&rng, 3 * dim, 1);
        float *c = simd_floats(&rng, rot / 2, 1);
        float *s = simd_floats(&rng, rot / 2, 1);
        float *want = copy(v, 3 * dim);

        hth_isa_ref.rope(want, 3, dim, rot, c, s, i & 1);
        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
            float *got = copy(v, 3 * dim);

            simd_usable_at(k)->rope(got, 3, dim, rot, c, s, i & 1);
            for (uint32_t j = 0; j < 3 * dim; j++)
                near(simd_usable_at(k), "rope", got[j], want[j],
                     j % dim >= rot ? 0.0 : 2e-6);
        }
    }
}

/* 6 units in the last place; below -88.7, where e^-x overflows, 0 will do. */
Test(simd_rows, swiglu)
{
    struct hth_rng rng;
    enum { N = 6003 };
    float *g = simd_guarded(N * 4), *u;

    hth_rng_init(&rng, 26);
    u = simd_floats(&rng, N, 1);
    for (int i = 0; i < N; i++)
        g[i] = (float)(i - 3001) / 30.0f;
    g[0] = -INFINITY;
    g[1] = -1e30f;
    g[N - 1] = INFINITY;
    for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
        const struct hth_isa *isa = simd_usable_at(k);
        float *y = copy(g, N);

        isa->swiglu(y, u, N);
        for (int i = 1; i < N - 1; i++) {
            double want = g[i] / (1 + exp(-(double)g[i])) * u[i];

            near(isa, "swiglu", y[i], want, 4e-7 * fabs(want) + 2e-36);
        }
        cr_assert(isinf(y[N - 1]), "%s", isa->name);
    }
}

/* Relative to each: exp, the sum, the division, and the rounding of x - max. */
Test(simd_rows, softmax)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 27);
    for (uint32_t i = 0; i < SIZES; i++) {
        uint32_t n = g_sizes[i];
        float *x = simd_floats(&rng, n, 10);
        double max = -INFINITY, sum = 0;

        if (n > 3)
            x[2] = -1e5f;
        for (uint32_t j = 0; j < n; j++)
            max = fmax(max, x[j]);
        for (uint32_t j = 0; j < n; j++)
            sum += exp(x[j] - max);
        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
            float *y = copy(x, n);

            simd_usable_at(k)->softmax(y, n);
            for (uint32_t j = 0; j < n; j++) {
                double want = exp(x[j] - max) / sum;

                near(simd_usable_at(k), "softmax", y[j], want,
                     (5e-7 + 1e-7 * (max - x[j])) * want + 1e-44);
            }
        }
    }
}

/* ---- float products ----------------------------------------------------- */

static double float_weight(const struct hth_mat *w, uint32_t o, uint32_t c)
{
    const uint8_t *row = (const uint8_t *)w->data + o * w->row_bytes;
    uint16_t h;
    float f;

    if (w->type == HTH_F32) {
        memcpy(&f, row + 4 * c, 4);
        return f;
    }
    memcpy(&h, row + 2 * c, 2);
    return w->type == HTH_F16 ? hth_f16_to_f32(h) : hth_bf16_to_f32(h);
}

/* 1e-6 of the sum of absolute terms; sums of up to 1000 terms. */
static void check_float(const struct hth_isa *isa, const struct hth_mat *w,
                        const float *x, uint32_t n)
{
    float *y = simd_guarded((size_t)n * w->rows * 4);

    isa->gemm_float(w, 0, w->rows, x, w->cols, n, y, w->rows);
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t o = 0; o < w->rows; o++) {
            double sum = 0, size = 0;

            for (uint32_t c = 0; c < w->cols; c++) {
                double t = float_weight(w, o, c) * x[(size_t)r * w->cols + c];

                sum += t;
                size += fabs(t);
            }
            near(isa, "float product", y[(size_t)r * w->rows + o], sum,
                 1e-6 * size);
        }
}

Test(simd_rows, float_products)
{
    static const uint32_t types[] = {HTH_F32, HTH_F16, HTH_BF16};
    struct hth_rng rng;

    hth_rng_init(&rng, 28);
    for (uint32_t i = 0; i < 90; i++) {
        uint32_t rows = 1 + (uint32_t)(hth_rng_u64(&rng) % 21);
        uint32_t cols = 1 + (uint32_t)(hth_rng_u64(&rng) % 300);
        uint32_t n = 1 + (uint32_t)(hth_rng_u64(&rng) % 10);
        struct hth_mat w = simd_matrix(&rng, types[i % 3], rows, cols);
        float *x = simd_floats(&rng, (size_t)n * cols, 1);

        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++)
            check_float(simd_usable_at(k), &w, x, n);
    }
}

/* The bits of an output do not depend on the rows computed beside it. */
Test(simd_rows, float_outputs_are_independent)
{
    static const uint32_t types[] = {HTH_F32, HTH_F16, HTH_BF16};
    enum { ROWS = 29, N = 11, COLS = 205 };
    struct hth_rng rng;

    hth_rng_init(&rng, 29);
    for (uint32_t i = 0; i < 3; i++)
        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
            struct hth_mat w = simd_matrix(&rng, types[i], ROWS, COLS);
            float *x = simd_floats(&rng, N * COLS, 1);
            float whole[N * ROWS], one[ROWS];

            simd_usable_at(k)->gemm_float(&w, 0, ROWS, x, COLS, N, whole, ROWS);
            for (uint32_t r = 0; r < N; r++)
                for (uint32_t o = 0; o < ROWS; o++) {
                    simd_usable_at(k)->gemm_float(&w, o, 1, x + r * COLS, COLS,
                                                  1, one, ROWS);
                    cr_assert_eq(one[o], whole[r * ROWS + o], "%s",
                                 simd_usable_at(k)->name);
                }
        }
}
