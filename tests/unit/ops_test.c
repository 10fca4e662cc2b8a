/* ops_test.c - every instruction set this CPU has against the scalar one, on
 * random shapes, within bounds that follow from the number of roundings; and
 * products over pools of different sizes, which must agree to the bit.
 *
 * The bound of a sum is a multiple of the sum of the sizes of its terms. With
 * 1e-5 of it allowed, one wrong weight among a thousand stands out by a factor
 * of a hundred. */
#include <criterion/criterion.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/mem.h"
#include "kernel_data.h"
#include "kernels/quant.h"

#define SUM_BOUND 1e-5

/* Calls check(set, rng) for each usable set; the scalar one last. */
static void for_each_set(void (*check)(const struct hth_isa *,
                                       struct hth_rng *),
                         int rounds)
{
    const struct hth_isa *set;

    for (uint32_t i = 0; (set = hth_isa_at(i)) != NULL; i++) {
        struct hth_rng r;

        if (!set->usable())
            continue;
        hth_rng_init(&r, 7);
        for (int k = 0; k < rounds; k++)
            check(set, &r);
    }
}

static void near(double got, double want, double bound, const char *what,
                 const struct hth_isa *set)
{
    cr_assert(fabs(got - want) <= bound, "%s, %s: %.9g, not %.9g (+- %.3g)",
              what, set->name, got, want, bound);
}

/* ---- quantised rows ---------------------------------------------------- */

/* Another set may round a tie the other way; its sums must fit its own q. */
static void check_q8_row(const struct hth_isa *set, struct hth_rng *r)
{
    uint32_t cols = kd_range(r, 1, 40) * 32;
    float *x = kd_random_floats(r, cols);
    struct hth_q8 want, got;

    memset(x, 0, 32 * sizeof *x * kd_range(r, 0, 1));
    want = kd_quantise(x, 1, cols);
    got = kd_quantise(x, 1, cols);
    memset(got.q, 99, cols);
    set->q8_row(x, cols, got.q, got.d, got.sums);
    for (uint32_t c = 0; c < cols; c++)
        near(got.q[c], want.q[c], 1.0, "q", set);
    for (uint32_t b = 0; b < cols / 32; b++)
        near(got.d[b], want.d[b], 1e-6 * (double)want.d[b], "d", set);
    for (uint32_t s = 0; s < cols / 16; s++) {
        int sum = 0;

        for (uint32_t k = 0; k < 16; k++)
            sum += got.q[s * 16 + k];
        cr_assert_eq(got.sums[s], sum, "%s", set->name);
    }
    kd_q8_free(&want);
    kd_q8_free(&got);
    hth_mem_free(x);
}

Test(ops, q8_rows)
{
    for_each_set(check_q8_row, 200);
}

/* What the numbers are, not only that the sets agree. */
Test(ops, q8_row_by_hand)
{
    float x[64] = {0}, d[2];
    int8_t q[64];
    int16_t sums[4];

    x[0] = 127.0f;
    x[1] = -63.4f;
    x[2] = 2.5f; /* ties to even */
    x[31] = -127.0f;
    x[32 + 5] = 1e-42f; /* too small for a scale */
    hth_isa_ref.q8_row(x, 64, q, d, sums);
    cr_assert_eq(d[0], 1.0f);
    cr_assert_eq(q[0], 127);
    cr_assert_eq(q[1], -63);
    cr_assert_eq(q[2], 2);
    cr_assert_eq(q[31], -127);
    cr_assert_eq(sums[0], 127 - 63 + 2);
    cr_assert_eq(sums[1], -127);
    cr_assert_eq(d[1], 0.0f);
    cr_assert_eq(q[37], 0);
}

/* ---- products ---------------------------------------------------------- */

/* A guard value around the rows shows what a kernel writes besides. */
static float *guarded(size_t n)
{
    float *y = hth_mem_alloc(n * sizeof *y);

    cr_assert_neq(y, NULL);
    for (size_t i = 0; i < n; i++)
        y[i] = -12345.0f;
    return y;
}

struct shape {
    uint32_t rows, cols, n, first, count;
    size_t ldy;
};

/* first is a multiple of 16: what matmul.c promises the kernels. */
static struct shape random_shape(struct hth_rng *r, uint32_t block)
{
    struct shape s;

    s.rows = kd_range(r, 1, 70);
    s.cols =
        block == 1 ? kd_range(r, 1, 600) : kd_range(r, 1, 1024 / block) * block;
    s.n = kd_range(r, 1, 9);
    s.first = kd_range(r, 0, (s.rows - 1) / 16) * 16;
    s.count = kd_range(r, 1, s.rows - s.first);
    s.ldy = s.rows + kd_range(r, 0, 3);
    return s;
}

static void compare_product(const struct hth_isa *set, const struct hth_mat *w,
                            const struct shape *s, const float *got,
                            const double *bounds)
{
    const float *want = got + s->n * s->ldy;

    for (uint32_t r = 0; r < s->n; r++)
        for (size_t o = 0; o < s->ldy; o++)
            near((double)got[r * s->ldy + o], (double)want[r * s->ldy + o],
                 o >= s->first && o < s->first + s->count
                     ? bounds[r * s->rows + o]
                     : 0.0,
                 hth_type_info(w->type)->name, set);
}

static void check_q8_type(const struct hth_isa *set, struct hth_rng *r,
                          uint32_t type)
{
    struct shape s = random_shape(r, hth_type_info(type)->block);
    struct hth_mat w = kd_random_mat(r, type, s.rows, s.cols);
    float *x = kd_random_floats(r, (size_t)s.n * s.cols);
    struct hth_q8 q = kd_quantise(x, s.n, s.cols);
    float *y = guarded(2 * s.n * s.ldy);
    double *bounds = hth_mem_alloc(s.n * s.rows * sizeof *bounds);

    for (uint32_t i = 0; i < s.n; i++)
        for (uint32_t o = 0; o < s.rows; o++)
            bounds[i * s.rows + o] = SUM_BOUND * kd_q8_magnitude(&w, o, &q, i);
    set->gemm_q8(&w, s.first, s.count, &q, y, s.ldy);
    hth_isa_ref.gemm_q8(&w, s.first, s.count, &q, y + s.n * s.ldy, s.ldy);
    compare_product(set, &w, &s, y, bounds);
    hth_mem_free(bounds);
    hth_mem_free(y);
    hth_mem_free(x);
    kd_q8_free(&q);
    kd_free(&w);
}

static void check_gemm_q8(const struct hth_isa *set, struct hth_rng *r)
{
    for (uint32_t t = KD_FLOATS; t < KD_TYPES; t++)
        check_q8_type(set, r, kd_types[t]);
}

Test(ops, products_of_quantised_weights)
{
    for_each_set(check_gemm_q8, 40);
}

static void check_float_type(const struct hth_isa *set, struct hth_rng *r,
                             uint32_t type)
{
    struct shape s = random_shape(r, 1);
    struct hth_mat w = kd_random_mat(r, type, s.rows, s.cols);
    size_t ldx = s.cols + kd_range(r, 0, 5);
    float *x = kd_random_floats(r, s.n * ldx);
    float *y = guarded(2 * s.n * s.ldy);
    double *bounds = hth_mem_alloc(s.n * s.rows * sizeof *bounds);

    for (uint32_t i = 0; i < s.n; i++)
        for (uint32_t o = 0; o < s.rows; o++)
            bounds[i * s.rows + o] =
                SUM_BOUND * kd_float_magnitude(&w, o, x + i * ldx);
    set->gemm_float(&w, s.first, s.count, x, ldx, s.n, y, s.ldy);
    hth_isa_ref.gemm_float(&w, s.first, s.count, x, ldx, s.n, y + s.n * s.ldy,
                           s.ldy);
    compare_product(set, &w, &s, y, bounds);
    hth_mem_free(bounds);
    hth_mem_free(y);
    hth_mem_free(x);
    kd_free(&w);
}

static void check_gemm_float(const struct hth_isa *set, struct hth_rng *r)
{
    for (uint32_t t = 0; t < KD_FLOATS; t++)
        check_float_type(set, r, kd_types[t]);
}

Test(ops, products_of_float_weights)
{
    for_each_set(check_gemm_float, 60);
}

/* The reference itself: its integer product is the product of what the
 * weights and the quantised x stand for. */
Test(ops, reference_product_is_the_product)
{
    struct hth_rng r;

    hth_rng_init(&r, 8);
    for (uint32_t t = KD_FLOATS; t < KD_TYPES; t++) {
        struct hth_mat w = kd_random_mat(&r, kd_types[t], 3, 512);
        float *x = kd_random_floats(&r, 2 * 512);
        struct hth_q8 q = kd_quantise(x, 2, 512);
        float y[6], row[512];

        hth_isa_ref.gemm_q8(&w, 0, 3, &q, y, 3);
        for (uint32_t o = 0; o < 3; o++) {
            hth_dequantize((enum hth_type)w.type,
                           (const uint8_t *)w.data + o * w.row_bytes, row, 512);
            for (uint32_t i = 0; i < 2; i++) {
                double sum = 0.0;

                for (uint32_t c = 0; c < 512; c++)
                    sum += (double)row[c] * q.q[i * 512 + c] *
                           (double)q.d[i * 16 + c / 32];
                near((double)y[i * 3 + o], sum,
                     SUM_BOUND * kd_q8_magnitude(&w, o, &q, i), "reference",
                     &hth_isa_ref);
            }
        }
        kd_q8_free(&q);
        hth_mem_free(x);
        kd_free(&w);
    }
}

/* ---- matmul over pools -------------------------------------------------- */

#define MATS 5u

struct group {
    struct hth_mat w[MATS];
    float *y[MATS];
    size_t ldy[MATS];
    struct hth_matmul_job job;
    uint32_t cols;
};

static void group_init(struct group *g, struct hth_rng *r, uint32_t n)
{
    g->cols = kd_range(r, 1, 6) * 256;
    for (uint32_t i = 0; i < MATS; i++) {
        uint32_t rows = i == 2 ? 0 : kd_range(r, 1, 300);

        g->w[i] = kd_random_mat(r, kd_types[kd_range(r, 0, KD_TYPES - 1)], rows,
                                g->cols);
        g->ldy[i] = rows + kd_range(r, 0, 2);
        g->y[i] = guarded(n * g->ldy[i] + 1);
    }
    g->job = (struct hth_matmul_job){.w = g->w,
                                     .y = g->y,
                                     .ldy = g->ldy,
                                     .count = MATS,
                                     .ldx = g->cols + 3,
                                     .n = n};
    g->job.x = kd_random_floats(r, n * g->job.ldx);
    g->job.scratch = hth_mem_alloc(hth_matmul_scratch_bytes(n, g->cols, 3));
    cr_assert_neq(g->job.scratch, NULL);
}

static void group_fini(struct group *g)
{
    for (uint32_t i = 0; i < MATS; i++) {
        kd_free(&g->w[i]);
        hth_mem_free(g->y[i]);
    }
    hth_mem_free((void *)(uintptr_t)g->job.x);
    hth_mem_free(g->job.scratch);
}

/* The results of all matrices, one behind the other. */
static float *group_run(struct group *g, struct hth_pool *pool, size_t *size)
{
    float *all;
    size_t at = 0;

    *size = 0;
    for (uint32_t i = 0; i < MATS; i++)
        *size += g->job.n * g->ldy[i];
    all = hth_mem_alloc(*size * sizeof *all);
    cr_assert_neq(all, NULL);
    memset(g->job.scratch, 0x55,
           hth_matmul_scratch_bytes(g->job.n, g->cols, 3));
    hth_matmul(pool, &g->job);
    for (uint32_t i = 0; i < MATS; i++) {
        memcpy(all + at, g->y[i], g->job.n * g->ldy[i] * sizeof *all);
        at += g->job.n * g->ldy[i];
        cr_assert_eq(g->y[i][g->job.n * g->ldy[i]], -12345.0f);
    }
    return all;
}

static void use_set(const char *name)
{
    struct hth_err err;

    setenv("HEARTH_ISA", name, 1);
    cr_assert_eq(hth_isa_init(&err), HTH_OK, "%s", err.text);
}

static void check_threads(const struct hth_isa *set, struct hth_rng *r)
{
    static const uint32_t rows_of_x[] = {1, 2, 7, 40};

    use_set(set->name);
    for (uint32_t k = 0; k < 4; k++) {
        struct group g;
        float *first, *next;
        size_t size;

        group_init(&g, r, rows_of_x[k]);
        first = group_run(&g, NULL, &size);
        for (uint32_t threads = 2; threads <= 3; threads++) {
            struct hth_pool *pool;

            cr_assert_eq(hth_pool_start(&pool, threads, false, NULL), HTH_OK);
            next = group_run(&g, pool, &size);
            cr_assert_eq(memcmp(first, next, size * sizeof *first), 0,
                         "%s, %u threads, n %u", set->name, threads,
                         rows_of_x[k]);
            hth_mem_free(next);
            hth_pool_stop(pool);
        }
        hth_mem_free(first);
        group_fini(&g);
    }
}

Test(ops, bits_do_not_depend_on_threads)
{
    for_each_set(check_threads, 6);
}

/* matmul as a whole, OpenBLAS included, against sums in double. */
static void check_matmul_values(const struct hth_isa *set, struct hth_rng *r)
{
    struct group g;

    use_set(set->name);
    group_init(&g, r, kd_range(r, 1, 40));
    hth_matmul(NULL, &g.job);
    for (uint32_t m = 0; m < MATS; m++) {
        float *row = guarded(g.cols);

        for (uint32_t o = 0; o < g.w[m].rows; o++) {
            hth_dequantize((enum hth_type)g.w[m].type,
                           (const uint8_t *)g.w[m].data + o * g.w[m].row_bytes,
                           row, g.cols);
            for (uint32_t i = 0; i < g.job.n; i++) {
                const float *x = g.job.x + i * g.job.ldx;
                double sum = 0.0, size = 0.0;

                for (uint32_t c = 0; c < g.cols; c++) {
                    sum += (double)x[c] * (double)row[c];
                    size += fabs((double)x[c] * (double)row[c]);
                }
                /* x in 8 bits: up to 1/254 of a block's largest number */
                near((double)g.y[m][i * g.ldy[m] + o], sum,
                     hth_type_info(g.w[m].type)->block == 1 ? SUM_BOUND * size
                                                            : 0.03 * size,
                     "matmul", set);
            }
        }
        hth_mem_free(row);
    }
    group_fini(&g);
}

Test(ops, matmul_values)
{
    for_each_set(check_matmul_values, 6);
}

/* Float weights, many rows of x, more columns than one panel, no multiple of
 * anything: OpenBLAS where it is built in. */
static void check_many_rows(const struct hth_isa *set, struct hth_rng *r,
                            uint32_t type)
{
    uint32_t cols = kd_range(r, 1025, 2200), rows = kd_range(r, 1, 150);
    uint32_t n = kd_range(r, 16, 33);
    struct hth_mat w = kd_random_mat(r, type, rows, cols);
    float *x = kd_random_floats(r, (size_t)n * cols);
    float *got = guarded(2 * (size_t)n * rows), *want = got + n * rows;
    size_t ldy = rows;
    struct hth_matmul_job job = {.w = &w, .y = &got, .ldy = &ldy, .count = 1};

    job.x = x;
    job.ldx = cols;
    job.n = n;
    job.scratch = hth_mem_alloc(hth_matmul_scratch_bytes(n, cols, 1));
    hth_matmul(NULL, &job);
    hth_isa_ref.gemm_float(&w, 0, rows, x, cols, n, want, rows);
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t o = 0; o < rows; o++)
            near((double)got[i * rows + o], (double)want[i * rows + o],
                 SUM_BOUND * kd_float_magnitude(&w, o, x + i * cols),
                 hth_type_info(type)->name, set);
    hth_mem_free(job.scratch);
    hth_mem_free(got);
    hth_mem_free(x);
    kd_free(&w);
}

static void check_panels(const struct hth_isa *set, struct hth_rng *r)
{
    use_set(set->name);
    for (uint32_t t = 0; t < KD_FLOATS; t++)
        check_many_rows(set, r, kd_types[t]);
}

Test(ops, float_weights_and_many_rows)
{
    for_each_set(check_panels, 3);
}

Test(ops, matmul_of_nothing)
{
    struct hth_matmul_job job = {0};

    hth_matmul(NULL, &job);
}

/* ---- rows -------------------------------------------------------------- */

static void check_rmsnorm(const struct hth_isa *set, struct hth_rng *r)
{
    uint32_t d = kd_range(r, 1, 700);
    float *x = kd_random_floats(r, d), *w = kd_random_floats(r, d);
    const float *maybe = kd_range(r, 0, 3) == 0 ? NULL : w;
    float *got = guarded(d + 1), *want = guarded(d);

    set->rmsnorm(got, x, maybe, d, 1e-5f);
    hth_isa_ref.rmsnorm(want, x, maybe, d, 1e-5f);
    set->rmsnorm(x, x, maybe, d, 1e-5f); /* in place */
    for (uint32_t i = 0; i < d; i++) {
        near((double)got[i], (double)want[i], 1e-6 * fabs((double)want[i]),
             "rmsnorm", set);
        cr_assert_eq(x[i], got[i]);
    }
    cr_assert_eq(got[d], -12345.0f);
    hth_mem_free(x);
    hth_mem_free(w);
    hth_mem_free(got);
    hth_mem_free(want);
}

Test(ops, rmsnorm)
{
    for_each_set(check_rmsnorm, 200);
}

static void check_rope(const struct hth_isa *set, struct hth_rng *r)
{
    uint32_t heads = kd_range(r, 1, 5), dim = kd_range(r, 1, 70) * 2;
    uint32_t rot = kd_range(r, 1, dim / 2) * 2;
    size_t n = (size_t)heads * dim;
    float *got = kd_random_floats(r, n), *want = guarded(n);
    float *angle = kd_random_floats(r, rot / 2);
    float *cosines = guarded(rot / 2), *sines = guarded(rot / 2);
    bool neox = kd_range(r, 0, 1) == 1;

    for (uint32_t i = 0; i < rot / 2; i++) {
        cosines[i] = cosf(angle[i]);
        sines[i] = sinf(angle[i]);
    }
    memcpy(want, got, n * sizeof *want);
    set->rope(got, heads, dim, rot, cosines, sines, neox);
    hth_isa_ref.rope(want, heads, dim, rot, cosines, sines, neox);
    for (size_t i = 0; i < n; i++)
        near((double)got[i], (double)want[i], 1e-5, "rope", set);
    hth_mem_free(got);
    hth_mem_free(want);
    hth_mem_free(angle);
    hth_mem_free(cosines);
    hth_mem_free(sines);
}

Test(ops, rope)
{
    for_each_set(check_rope, 200);
}

static void check_elementwise(const struct hth_isa *set, struct hth_rng *r)
{
    size_t n = kd_range(r, 1, 300);
    float *x = kd_random_floats(r, n), *y = kd_random_floats(r, n);
    float *got = guarded(n + 1), *want = guarded(n);

    memcpy(got, x, n * sizeof *x);
    set->swiglu(got, y, n);
    for (size_t i = 0; i < n; i++) {
        double silu = (double)x[i] / (1.0 + exp(-(double)x[i]));

        near((double)got[i], silu * (double)y[i],
             3e-6 * fabs(silu * (double)y[i]) + 1e-30, "swiglu", set);
    }
    memcpy(got, x, n * sizeof *x);
    memcpy(want, x, n * sizeof *x);
    set->add(got, y, n);
    hth_isa_ref.add(want, y, n);
    cr_assert_eq(memcmp(got, want, n * sizeof *got), 0, "add, %s", set->name);
    set->axpy(got, 0.37f, y, n);
    for (size_t i = 0; i < n; i++)
        near((double)got[i], (double)want[i] + (double)0.37f * (double)y[i],
             2e-6 * (fabs((double)want[i]) + fabs((double)y[i])), "axpy", set);
    cr_assert_eq(got[n], -12345.0f);
    hth_mem_free(x);
    hth_mem_free(y);
    hth_mem_free(got);
    hth_mem_free(want);
}

Test(ops, elementwise)
{
    for_each_set(check_elementwise, 200);
}

/* Large arguments: exp over- and underflows without turning into NaN. */
static void check_swiglu_far(const struct hth_isa *set, struct hth_rng *r)
{
    float gate[18], up[18];

    (void)r;
    for (int i = 0; i < 18; i++) {
        gate[i] = (i % 2 ? 1.0f : -1.0f) * powf(3.0f, (float)i);
        up[i] = 2.0f;
    }
    set->swiglu(gate, up, 18);
    for (int i = 0; i < 18; i++) {
        double g = (i % 2 ? 1.0 : -1.0) * pow(3.0, i);
        double want = 2.0 * g / (1.0 + exp(-g));

        near((double)gate[i], want, 3e-6 * fabs(want) + 1e-30, "swiglu", set);
    }
}

Test(ops, swiglu_far_out)
{
    for_each_set(check_swiglu_far, 1);
}

static void check_softmax(const struct hth_isa *set, struct hth_rng *r)
{
    size_t n = kd_range(r, 1, 500);
    float *x = kd_random_floats(r, n), *got = guarded(n + 1);
    double sum = 0.0, max = -INFINITY;

    if (kd_range(r, 0, 3) == 0)
        x[kd_range(r, 0, (uint32_t)n - 1)] = 200.0f;
    memcpy(got, x, n * sizeof *x);
    set->softmax(got, n);
    for (size_t i = 0; i < n; i++)
        max = fmax(max, (double)x[i]);
    for (size_t i = 0; i < n; i++)
        sum += exp((double)x[i] - max);
    for (size_t i = 0; i < n; i++) {
        double want = exp((double)x[i] - max) / sum;

        near((double)got[i], want, 1e-5 * want + 1e-30, "softmax", set);
    }
    cr_assert_eq(got[n], -12345.0f);
    hth_mem_free(x);
    hth_mem_free(got);
}

Test(ops, softmax)
{
    for_each_set(check_softmax, 200);
}

/* Conversions are exact, so the sets agree to the bit. */
static void check_halves(const struct hth_isa *set, struct hth_rng *r)
{
    size_t n = kd_range(r, 1, 200);
    float *x = kd_random_floats(r, n), *back = guarded(2 * n);
    uint16_t *h = hth_mem_alloc(2 * n * sizeof *h);

    x[0] = 1e-6f;
    if (n > 2)
        x[1] = 70000.0f;
    set->f32_to_f16(x, h, n);
    hth_isa_ref.f32_to_f16(x, h + n, n);
    cr_assert_eq(memcmp(h, h + n, n * sizeof *h), 0, "%s", set->name);
    set->f16_to_f32(h, back, n);
    hth_isa_ref.f16_to_f32(h, back + n, n);
    cr_assert_eq(memcmp(back, back + n, n * sizeof *back), 0, "%s", set->name);
    hth_mem_free(x);
    hth_mem_free(back);
    hth_mem_free(h);
}

Test(ops, halves)
{
    for_each_set(check_halves, 100);
}

/* ---- the choice of a set ------------------------------------------------ */

Test(isa, environment)
{
    struct hth_err err = {0};

    setenv("HEARTH_ISA", "scalar", 1);
    cr_assert_eq(hth_isa_init(&err), HTH_OK);
    cr_assert_str_eq(hth_isa_name(), "scalar");
    setenv("HEARTH_ISA", "mmx", 1);
    cr_assert_eq(hth_isa_init(&err), HTH_EUNSUPPORTED);
    cr_assert_neq(strstr(err.text, "mmx"), NULL);
    cr_assert_neq(strstr(err.text, "scalar"), NULL);
    cr_assert_str_eq(hth_isa_name(), "scalar");
    unsetenv("HEARTH_ISA");
    cr_assert_eq(hth_isa_init(&err), HTH_OK);
    for (uint32_t i = 0; hth_isa_at(i) != NULL; i++) {
        if (!hth_isa_at(i)->usable())
            continue;
        cr_assert_str_eq(hth_isa_name(), hth_isa_at(i)->name);
        break;
    }
}

Test(isa, sets_are_complete)
{
    const struct hth_isa *set;

    for (uint32_t i = 0; (set = hth_isa_at(i)) != NULL; i++) {
        cr_assert(set->q8_row && set->gemm_q8 && set->gemm_float &&
                  set->rmsnorm && set->rope && set->swiglu && set->add &&
                  set->axpy && set->softmax && set->f32_to_f16 &&
                  set->f16_to_f32 && set->attn_panel && set->attn_widen);
    }
}
