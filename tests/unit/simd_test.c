/* simd_test.c - every instruction set this CPU has against the scalar one:
 * all types, shapes with tails, simd_guarded memory, and the promise that an
 * output's bits depend on its own row of weights and of x only.
 *
 * Bounds. Quantised products: sets share the integers and differ only in the
 * order and rounding of one f32 sum over blocks, so the bound is a few units
 * in the last place of the sum of absolute block products. Float products the
 * same over columns. Elementwise operations state theirs at each test. */
#include <criterion/criterion.h>

#include <math.h>
#include <string.h>

#include "kernels/quant.h"
#include "tests/unit/simd_make.h"

/* ---- helpers ------------------------------------------------------------ */

/* A product by the definition, in double, and the sum of absolute terms. */
static double exact(const struct hth_mat *w, const struct hth_q8 *x, uint32_t o,
                    uint32_t r, double *size)
{
    static float row[1 << 16];
    double sum = 0;

    hth_dequantize(w->type, (const uint8_t *)w->data + o * w->row_bytes, row,
                   w->cols);
    *size = 0;
    for (uint32_t c = 0; c < w->cols; c++) {
        double term = (double)row[c] * x->d[(r * x->cols + c) / 32] *
                      x->q[r * x->cols + c];

        sum += term;
        *size += fabs(term);
    }
    return sum;
}

/* ---- quantised products ------------------------------------------------- */

static const uint32_t g_quantised[] = {
    HTH_Q4_0, HTH_Q4_1, HTH_Q5_0, HTH_Q5_1, HTH_Q8_0,   HTH_Q2_K,
    HTH_Q3_K, HTH_Q4_K, HTH_Q5_K, HTH_Q6_K, HTH_IQ4_NL, HTH_IQ4_XS};
#define QUANTISED (sizeof g_quantised / sizeof g_quantised[0])

/* Relative to the sum of absolute terms: minima cancel against values in
 * types that have them, hence the margin over n ulp. */
#define PRODUCT_BOUND 4e-6

static void check_product(const struct hth_isa *isa, const struct hth_mat *w,
                          const struct hth_q8 *x)
{
    float *y = simd_guarded((size_t)x->n * w->rows * sizeof *y);

    for (size_t i = 0; i < (size_t)x->n * w->rows; i++)
        y[i] = NAN;
    isa->gemm_q8(w, 0, w->rows, x, y, w->rows);
    for (uint32_t r = 0; r < x->n; r++)
        for (uint32_t o = 0; o < w->rows; o++) {
            double size, want = exact(w, x, o, r, &size);
            double got = y[(size_t)r * w->rows + o];

            cr_assert(fabs(got - want) <= PRODUCT_BOUND * size,
                      "%s %s rows=%u cols=%u n=%u: [%u][%u] is %.9g, want "
                      "%.9g, bound %g",
                      isa->name, hth_type_info(w->type)->name, w->rows, w->cols,
                      x->n, r, o, got, want, PRODUCT_BOUND * size);
        }
}

Test(simd, quantised_products_match_the_definition)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 11);
    for (uint32_t i = 0; i < 60 * QUANTISED; i++) {
        uint32_t type = g_quantised[i % QUANTISED];
        uint32_t block = hth_type_info(type)->block;
        uint32_t rows = 1 + (uint32_t)(hth_rng_u64(&rng) % 40);
        uint32_t n = 1 + (uint32_t)(hth_rng_u64(&rng) % 15);
        uint32_t cols =
            block * (1 + (uint32_t)(hth_rng_u64(&rng) % (1600 / block)));
        struct hth_mat w = simd_matrix(&rng, type, rows, cols);
        float *v = simd_floats(&rng, (size_t)n * cols, 1.0f);
        struct hth_q8 x = simd_q8(v, n, cols);

        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++)
            check_product(simd_usable_at(k), &w, &x);
    }
}

/* Long rows: several spans and panels, partial sums through y. */
Test(simd, long_rows_match_the_definition)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 12);
    for (uint32_t i = 0; i < QUANTISED; i++) {
        uint32_t cols = 8192 + 256 * (i % 3 + 1);
        struct hth_mat w = simd_matrix(&rng, g_quantised[i], 17, cols);
        float *v = simd_floats(&rng, (size_t)7 * cols, 1.0f);
        struct hth_q8 x = simd_q8(v, 7, cols);

        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++)
            check_product(simd_usable_at(k), &w, &x);
        x.n = 1;
        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++)
            check_product(simd_usable_at(k), &w, &x);
    }
}

/* Set the half floats of every block to 1. */
static void unit_scales(const struct hth_mat *w)
{
    uint8_t *p = (uint8_t *)w->data;
    const uint16_t one = 0x3c00;

    for (size_t b = 0; b < w->rows * w->row_bytes;
         b += hth_type_info(w->type)->bytes)
        for (uint32_t h = 0; h < simd_halves_of(w->type).count; h++)
            memcpy(p + b + simd_halves_of(w->type).at + 2 * h, &one, 2);
}

/* Every weight bit set or clear, x at +-127. */
Test(simd, extreme_integers_do_not_saturate)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 13);
    for (uint32_t i = 0; i < 4 * QUANTISED; i++) {
        uint32_t type = g_quantised[i % QUANTISED], pass = i / QUANTISED;
        struct hth_mat w = simd_matrix(&rng, type, 18, 512);
        float *v = simd_floats(&rng, (size_t)6 * 512, 1.0f);
        struct hth_q8 x;

        memset((void *)w.data, pass & 1 ? 0xff : 0x00, w.rows * w.row_bytes);
        unit_scales(&w);
        for (uint32_t c = 0; c < 6 * 512; c++)
            v[c] = pass & 2 || c & 1 ? -1.0f : 1.0f;
        x = simd_q8(v, 6, 512);
        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++)
            check_product(simd_usable_at(k), &w, &x);
    }
}

/* The bits of an output do not depend on the rows computed beside it. */
Test(simd, outputs_are_independent)
{
    struct hth_rng rng;
    enum { ROWS = 70, N = 23, COLS = 1280 };

    hth_rng_init(&rng, 14);
    for (uint32_t i = 0; i < QUANTISED; i++) {
        struct hth_mat w = simd_matrix(&rng, g_quantised[i], ROWS, COLS);
        float *v = simd_floats(&rng, (size_t)N * COLS, 1.0f);
        struct hth_q8 all = simd_q8(v, N, COLS);

        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
            const struct hth_isa *isa = simd_usable_at(k);
            static float whole[N * ROWS], part[N * ROWS];

            isa->gemm_q8(&w, 0, ROWS, &all, whole, ROWS);
            for (uint32_t trial = 0; trial < 30; trial++) {
                uint32_t first = (uint32_t)(hth_rng_u64(&rng) % ROWS);
                uint32_t count =
                    1 + (uint32_t)(hth_rng_u64(&rng) % (ROWS - first));
                uint32_t r = (uint32_t)(hth_rng_u64(&rng) % N);
                struct hth_q8 x = all;

                x.n = 1 + (uint32_t)(hth_rng_u64(&rng) % (N - r));
                x.q += (size_t)r * COLS;
                x.d += (size_t)r * COLS / 32;
                x.sums += (size_t)r * COLS / 16;
                isa->gemm_q8(&w, first, count, &x, part, ROWS);
                for (uint32_t a = 0; a < x.n; a++)
                    cr_assert_arr_eq(part + a * ROWS + first,
                                     whole + (r + a) * ROWS + first,
                                     count * sizeof(float), "%s %s", isa->name,
                                     hth_type_info(w.type)->name);
            }
        }
    }
}

Test(simd, no_columns_make_zero)
{
    for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
        for (uint32_t n = 1; n <= 9; n += 4) {
            struct hth_mat w = {HTH_Q8_0, 3, 0, 0, simd_guarded(1), false};
            struct hth_q8 x = {
                simd_guarded(1), simd_guarded(4), simd_guarded(2), n, 0, NULL};
            float y[9 * 3];

            for (uint32_t i = 0; i < 27; i++)
                y[i] = 5;
            simd_usable_at(k)->gemm_q8(&w, 0, 3, &x, y, 3);
            for (uint32_t i = 0; i < 3 * n; i++)
                cr_assert_eq(y[i], 0.0f, "%s", simd_usable_at(k)->name);
        }
    }
}

/* The x86 sets add in the same order: the same bits. */
Test(simd, x86_sets_agree)
{
    struct hth_rng rng;
    enum { ROWS = 37, N = 6, COLS = 2304 };

    hth_rng_init(&rng, 15);
    for (uint32_t i = 0; i < QUANTISED; i++) {
        struct hth_mat w = simd_matrix(&rng, g_quantised[i], ROWS, COLS);
        float *v = simd_floats(&rng, (size_t)N * COLS, 1.0f);
        struct hth_q8 x = simd_q8(v, N, COLS);
        static float want[N * ROWS], got[N * ROWS];
        const char *first = NULL;

        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
            const struct hth_isa *isa = simd_usable_at(k);

            if (strncmp(isa->name, "avx", 3) != 0)
                continue;
            isa->gemm_q8(&w, 0, ROWS, &x, got, ROWS);
            if (first == NULL)
                memcpy(want, got, sizeof want);
            cr_assert_arr_eq(got, want, sizeof want, "%s: %s, %s",
                             hth_type_info(w.type)->name, isa->name,
                             first != NULL ? first : "");
            first = isa->name;
        }
    }
}
