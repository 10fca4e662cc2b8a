/* simd_test.c - every instruction set this CPU has against the scalar one:
 * all types, shapes with tails, guarded memory, and the promise that an
 * output's bits depend on its own row of weights and of x only.
 *
 * Bounds. Quantised products: sets share the integers and differ only in the
 * order and rounding of one f32 sum over blocks, so the bound is a few units
 * in the last place of the sum of absolute block products. Float products the
 * same over columns. Elementwise operations state theirs at each test. */
#include <criterion/criterion.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/rng.h"
#include "kernels/isa.h"
#include "kernels/quant.h"

/* ---- helpers ------------------------------------------------------------ */

/* The i-th set that this CPU has, NULL at the end; the last is scalar. */
static const struct hth_isa *usable_at(uint32_t i)
{
    for (uint32_t k = 0; hth_isa_at(k) != NULL; k++)
        if (hth_isa_at(k)->usable() && i-- == 0)
            return hth_isa_at(k);
    return NULL;
}

/* `bytes` bytes that end where readable memory ends: reading past them
 * faults. Never unmapped; each test is a process of its own. */
static void *guarded(size_t bytes)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t room = (bytes + page - 1) / page * page;
    uint8_t *p = mmap(NULL, room + 2 * page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    cr_assert_neq(p, MAP_FAILED);
    cr_assert_eq(mprotect(p, page, PROT_NONE), 0);
    cr_assert_eq(mprotect(p + page + room, page, PROT_NONE), 0);
    return p + page + room - bytes;
}

static float *random_floats(struct hth_rng *rng, size_t n, float size)
{
    float *x = guarded(n * sizeof *x);

    for (size_t i = 0; i < n; i++)
        x[i] = size * hth_rng_normal(rng);
    return x;
}

/* Where the half floats of a block are; none for BF16 and F32. */
struct halves {
    uint32_t at, count;
};

static struct halves halves_of(uint32_t type)
{
    switch (type) {
    case HTH_Q2_K:
        return (struct halves){80, 2};
    case HTH_Q3_K:
        return (struct halves){108, 1};
    case HTH_Q6_K:
        return (struct halves){208, 1};
    case HTH_Q4_1:
    case HTH_Q5_1:
    case HTH_Q4_K:
    case HTH_Q5_K:
        return (struct halves){0, 2};
    case HTH_F32:
    case HTH_BF16:
        return (struct halves){0, 0};
    default:
        return (struct halves){0, 1};
    }
}

/* Random blocks with moderate scales: all other bits of a block are free. */
static void random_weights(struct hth_rng *rng, const struct hth_mat *w)
{
    const struct hth_type_info *info = hth_type_info(w->type);
    struct halves halves = halves_of(w->type);
    uint8_t *p = (uint8_t *)w->data;
    size_t bytes = (size_t)w->rows * w->row_bytes;

    for (size_t i = 0; i < bytes; i++)
        p[i] = (uint8_t)hth_rng_u64(rng);
    for (size_t b = 0; b < bytes; b += info->bytes) {
        float f = hth_rng_normal(rng);
        uint16_t v = hth_f32_to_bf16(f);

        if (w->type == HTH_F32)
            memcpy(p + b, &f, 4);
        if (w->type == HTH_BF16)
            memcpy(p + b, &v, 2);
        for (uint32_t h = 0; h < halves.count; h++) {
            v = hth_f32_to_f16(0.02f * hth_rng_normal(rng));
            memcpy(p + b + halves.at + 2 * h, &v, 2);
        }
    }
}

static struct hth_mat random_matrix(struct hth_rng *rng, uint32_t type,
                                    uint32_t rows, uint32_t cols)
{
    struct hth_mat w = {type, rows, cols, hth_row_bytes(type, cols), NULL};

    w.data = guarded((size_t)rows * w.row_bytes);
    random_weights(rng, &w);
    return w;
}

static struct hth_q8 quantised(const float *x, uint32_t n, uint32_t cols)
{
    struct hth_q8 q = {guarded((size_t)n * cols),
                       guarded((size_t)n * cols / 32 * sizeof(float)),
                       guarded((size_t)n * cols / 16 * sizeof(int16_t)), n,
                       cols};

    for (size_t r = 0; r < n; r++)
        hth_isa_ref.q8_row(x + r * cols, cols, q.q + r * cols,
                           q.d + r * cols / 32, q.sums + r * cols / 16);
    return q;
}

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
    float *y = guarded((size_t)x->n * w->rows * sizeof *y);

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
        struct hth_mat w = random_matrix(&rng, type, rows, cols);
        float *v = random_floats(&rng, (size_t)n * cols, 1.0f);
        struct hth_q8 x = quantised(v, n, cols);

        for (uint32_t k = 0; usable_at(k) != NULL; k++)
            check_product(usable_at(k), &w, &x);
    }
}

/* Long rows: several spans and panels, partial sums through y. */
Test(simd, long_rows_match_the_definition)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 12);
    for (uint32_t i = 0; i < QUANTISED; i++) {
        uint32_t cols = 8192 + 256 * (i % 3 + 1);
        struct hth_mat w = random_matrix(&rng, g_quantised[i], 17, cols);
        float *v = random_floats(&rng, (size_t)7 * cols, 1.0f);
        struct hth_q8 x = quantised(v, 7, cols);

        for (uint32_t k = 0; usable_at(k) != NULL; k++)
            check_product(usable_at(k), &w, &x);
        x.n = 1;
        for (uint32_t k = 0; usable_at(k) != NULL; k++)
            check_product(usable_at(k), &w, &x);
    }
}

/* Set the half floats of every block to 1. */
static void unit_scales(const struct hth_mat *w)
{
    uint8_t *p = (uint8_t *)w->data;
    const uint16_t one = 0x3c00;

    for (size_t b = 0; b < w->rows * w->row_bytes;
         b += hth_type_info(w->type)->bytes)
        for (uint32_t h = 0; h < halves_of(w->type).count; h++)
            memcpy(p + b + halves_of(w->type).at + 2 * h, &one, 2);
}

/* Every weight bit set or clear, x at +-127. */
Test(simd, extreme_integers_do_not_saturate)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 13);
    for (uint32_t i = 0; i < 4 * QUANTISED; i++) {
        uint32_t type = g_quantised[i % QUANTISED], pass = i / QUANTISED;
        struct hth_mat w = random_matrix(&rng, type, 18, 512);
        float *v = random_floats(&rng, (size_t)6 * 512, 1.0f);
        struct hth_q8 x;

        memset((void *)w.data, pass & 1 ? 0xff : 0x00, w.rows * w.row_bytes);
        unit_scales(&w);
        for (uint32_t c = 0; c < 6 * 512; c++)
            v[c] = pass & 2 || c & 1 ? -1.0f : 1.0f;
        x = quantised(v, 6, 512);
        for (uint32_t k = 0; usable_at(k) != NULL; k++)
            check_product(usable_at(k), &w, &x);
    }
}

/* The bits of an output do not depend on the rows computed beside it. */
Test(simd, outputs_are_independent)
{
    struct hth_rng rng;
    enum { ROWS = 70, N = 23, COLS = 1280 };

    hth_rng_init(&rng, 14);
    for (uint32_t i = 0; i < QUANTISED; i++) {
        struct hth_mat w = random_matrix(&rng, g_quantised[i], ROWS, COLS);
        float *v = random_floats(&rng, (size_t)N * COLS, 1.0f);
        struct hth_q8 all = quantised(v, N, COLS);

        for (uint32_t k = 0; usable_at(k) != NULL; k++) {
            const struct hth_isa *isa = usable_at(k);
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
    for (uint32_t k = 0; usable_at(k) != NULL; k++) {
        for (uint32_t n = 1; n <= 9; n += 4) {
            struct hth_mat w = {HTH_Q8_0, 3, 0, 0, guarded(1)};
            struct hth_q8 x = {guarded(1), guarded(4), guarded(2), n, 0};
            float y[9 * 3];

            for (uint32_t i = 0; i < 27; i++)
                y[i] = 5;
            usable_at(k)->gemm_q8(&w, 0, 3, &x, y, 3);
            for (uint32_t i = 0; i < 3 * n; i++)
                cr_assert_eq(y[i], 0.0f, "%s", usable_at(k)->name);
        }
    }
}
