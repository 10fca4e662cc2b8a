/* rows_test.c - packed weights: the layout against GGUF's, and every set's
 * products against the scalar ones, bit by bit where the set has fused
 * multiply-add (isa.h states the operations and their order), else within the
 * bound of docs/kernels.md; and that neither the batch, nor the tile, nor the
 * thread changes a bit. */
#include <criterion/criterion.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/pack.h"
#include "kernels/quant.h"
#include "tests/unit/simd_make.h"

static const uint32_t g_types[] = {
    HTH_Q4_0, HTH_Q4_1, HTH_Q5_0, HTH_Q5_1,   HTH_Q8_0,   HTH_Q2_K, HTH_Q3_K,
    HTH_Q4_K, HTH_Q5_K, HTH_Q6_K, HTH_IQ4_NL, HTH_IQ4_XS, HTH_F16,  HTH_BF16};
#define TYPES (sizeof g_types / sizeof g_types[0])

static bool is_float(uint32_t type)
{
    return type == HTH_F16 || type == HTH_BF16;
}

static uint32_t range(struct hth_rng *rng, uint32_t low, uint32_t high)
{
    return low + (uint32_t)(hth_rng_u64(rng) % (high - low + 1));
}

/* The full groups of w packed, the rest as it is; guarded. */
static struct hth_mat packed(const struct hth_mat *w)
{
    struct hth_mat p = *w;
    size_t bytes = w->rows * w->row_bytes;
    uint8_t *to = simd_guarded(bytes);
    size_t group = HTH_PACK_ROWS * w->row_bytes;

    memcpy(to, w->data, bytes);
    for (uint32_t g = 0; g < w->rows / HTH_PACK_ROWS; g++)
        hth_pack_group(w->type, w->cols, (const uint8_t *)w->data + g * group,
                       to + g * group);
    p.data = to;
    p.packed = true;
    return p;
}

/* x in both kinds of tiles; what is not written shows. */
struct rows {
    struct hth_q8 q8;
    struct hth_xf xf;
};

static struct rows tiled(const float *v, uint32_t n, uint32_t cols)
{
    struct rows x = {simd_q8(v, n, cols), {NULL, n, cols}};

    x.q8.tiles = simd_guarded(hth_tile_bytes(n, cols));
    x.xf.tiles = simd_guarded(hth_tile_floats(n, cols));
    memset(x.q8.tiles, 0x7f, hth_tile_bytes(n, cols));
    memset(x.xf.tiles, 0x7f, hth_tile_floats(n, cols));
    for (uint32_t r = 0; r < n; r++) {
        uint32_t half = cols / 64;

        hth_tile_blocks(&x.q8, r, 0, half);
        hth_tile_blocks(&x.q8, r, half, cols / 32 - half);
        hth_tile_float_row(&x.xf, r, v + (size_t)r * cols, 0, 7);
        hth_tile_float_row(&x.xf, r, v + (size_t)r * cols + 7, 7, cols - 7);
    }
    return x;
}

static void product(const struct hth_isa *isa, const struct hth_mat *w,
                    const struct rows *x, float *y)
{
    for (size_t i = 0; i < (size_t)x->q8.n * w->rows; i++)
        y[i] = NAN;
    if (is_float(w->type))
        isa->gemm_packed_float(w, 0, w->rows, &x->xf, y, w->rows);
    else
        isa->gemm_packed(w, 0, w->rows, &x->q8, y, w->rows);
}

Test(rows, packing_keeps_every_number)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 31);
    for (uint32_t i = 0; i + 2 < TYPES; i++) {
        uint32_t type = g_types[i], parts = hth_type_info(type)->block / 32;
        const struct hth_pack_shape *s = hth_pack_shape(type);
        struct hth_mat w = simd_matrix(&rng, type, 16, 768);
        struct hth_mat p = packed(&w);

        cr_assert_eq(s->unit_bytes, 16 * hth_type_info(type)->bytes);
        cr_assert_eq(s->unit_bytes, s->head_bytes + s->parts * s->part_bytes);
        cr_assert_eq(s->parts, parts);
        for (uint32_t b = 0; b < 24; b++)
            for (uint32_t r = 0; r < 16; r++) {
                struct hth_block32 want, got;
                size_t at = b / parts * hth_type_info(type)->bytes;

                hth_unpacker(type)((const uint8_t *)w.data + r * w.row_bytes +
                                       at,
                                   b % parts, &want);
                hth_packed_part(
                    type, (const uint8_t *)p.data + b / parts * s->unit_bytes,
                    r, b % parts, &got);
                cr_assert_arr_eq(&got, &want, sizeof want, "%s row %u part %u",
                                 hth_type_info(type)->name, r, b);
            }
    }
}

/* scripts/arm-test looks for the names. */
Test(rows, a_named_set_is_the_one_taken)
{
    struct hth_err err;

    for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
        const char *name = simd_usable_at(k)->name;

        fprintf(stderr, "set %s\n", name);
        setenv("HEARTH_ISA", name, 1);
        cr_assert_eq(hth_isa_init(&err), 0, "%s", err.text);
        cr_assert_str_eq(hth_isa_name(), name);
        cr_assert_eq(hth_isa_now(), simd_usable_at(k));
    }
    unsetenv("HEARTH_ISA");
    cr_assert_eq(hth_isa_init(&err), 0, "%s", err.text);
    cr_assert_eq(hth_isa_now(), simd_usable_at(0), "the best there is");
}

Test(rows, what_can_be_packed)
{
    for (uint32_t i = 0; i < TYPES; i++) {
        cr_assert(hth_can_pack(g_types[i], 512));
        cr_assert_not(hth_can_pack(g_types[i], 0));
    }
    cr_assert_not(hth_can_pack(HTH_F32, 512));
    cr_assert_not(hth_can_pack(HTH_Q4_K, 128));
    cr_assert_not(hth_can_pack(HTH_BF16, 33));
    cr_assert(hth_can_pack(HTH_F16, 33));
    cr_assert_not(hth_can_pack(99, 512));
}

#define BOUND 4e-6
#define PARTS_BOUND (7.7e-6 + BOUND) /* sums of bf16 parts */

/* The scalar product of packed weights by the definition, in double; bound is
 * of the sum of the sizes of the terms. */
static void check_definition(const struct hth_mat *w, const struct rows *x,
                             const float *y, double bound)
{
    static float row[1 << 14];

    for (uint32_t o = 0; o < w->rows; o++) {
        hth_dequantize(w->type, (const uint8_t *)w->data + o * w->row_bytes,
                       row, w->cols);
        for (uint32_t r = 0; r < x->q8.n; r++) {
            uint32_t width = hth_tile_width(x->q8.n);
            const float *v =
                x->xf.tiles + (size_t)(r / width) * w->cols * width + r % width;
            double want = 0, size = 0, got = y[(size_t)r * w->rows + o];

            for (uint32_t c = 0; c < w->cols; c++) {
                size_t k = (size_t)r * w->cols + c;
                double term =
                    is_float(w->type)
                        ? (double)row[c] * v[(size_t)c * width]
                        : (double)row[c] * x->q8.d[k / 32] * x->q8.q[k];

                want += term;
                size += fabs(term);
            }
            cr_assert(fabs(got - want) <= bound * size,
                      "%s rows=%u cols=%u n=%u: [%u][%u] is %.9g, want %.9g",
                      hth_type_info(w->type)->name, w->rows, w->cols, x->q8.n,
                      r, o, got, want);
        }
    }
}

/* Columns that the type allows, now and then many. */
static uint32_t some_cols(struct hth_rng *rng, uint32_t type)
{
    uint32_t block = hth_type_info(type)->block;

    block = block < 32 ? 32 : block;
    return block * range(rng, 1, (range(rng, 0, 9) == 0 ? 2400 : 900) / block);
}

Test(rows, all_sets_give_the_bits_of_the_definition)
{
    static float want[80 * 64], got[80 * 64];
    struct hth_rng rng;

    hth_rng_init(&rng, 32);
    for (uint32_t i = 0; i < 30 * TYPES; i++) {
        uint32_t type = g_types[i % TYPES], n = 1 + i / TYPES;
        uint32_t cols = some_cols(&rng, type);
        struct hth_mat w =
            simd_matrix(&rng, type, 16 * range(&rng, 1, 5), cols);
        struct hth_mat p = packed(&w);
        float *v = simd_floats(&rng, (size_t)n * cols, 1.0f);
        struct rows x = tiled(v, n, cols);

        product(&hth_isa_ref, &p, &x, want);
        check_definition(&w, &x, want, BOUND);
        for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
            const struct hth_isa *isa = simd_usable_at(k);

            product(isa, &p, &x, got);
            cr_assert_arr_eq(got, want, (size_t)n * w.rows * sizeof *want,
                             "%s %s rows=%u cols=%u n=%u", isa->name,
                             hth_type_info(type)->name, w.rows, cols, n);
        }
    }
}

/* Every weight bit set or clear, x at its ends. */
Test(rows, extreme_integers_do_not_saturate)
{
    static float want[16 * 24], got[16 * 24];
    struct hth_rng rng;

    hth_rng_init(&rng, 33);
    for (uint32_t i = 0; i < 4 * (TYPES - 2); i++) {
        uint32_t type = g_types[i % (TYPES - 2)], pass = i / (TYPES - 2);
        struct hth_mat w = simd_matrix(&rng, type, 16, 512), p;
        float *v = simd_floats(&rng, (size_t)24 * 512, 1.0f);
        const uint16_t one = 0x3c00;
        struct rows x;

        memset((void *)w.data, pass & 1 ? 0xff : 0x00, w.rows * w.row_bytes);
        if (type == HTH_Q8_0 && (pass & 1) != 0)
            memset((void *)w.data, 0x80, w.rows * w.row_bytes);
        for (size_t b = 0; b < w.rows * w.row_bytes;
             b += hth_type_info(type)->bytes)
            for (uint32_t h = 0; h < simd_halves_of(type).count; h++)
                memcpy((uint8_t *)w.data + b + simd_halves_of(type).at + 2 * h,
                       &one, 2);
        for (uint32_t c = 0; c < 24 * 512; c++)
            v[c] = (pass & 2) != 0 || (c & 1) != 0 ? -1.0f : 1.0f;
        p = packed(&w);
        for (uint32_t n = 1; n <= 24; n += 23) {
            x = tiled(v, n, 512);
            product(&hth_isa_ref, &p, &x, want);
            check_definition(&w, &x, want, BOUND);
            for (uint32_t k = 0; simd_usable_at(k) != NULL; k++) {
                product(simd_usable_at(k), &p, &x, got);
                cr_assert_arr_eq(got, want, (size_t)n * 16 * sizeof *want,
                                 "%s %s", simd_usable_at(k)->name,
                                 hth_type_info(type)->name);
            }
        }
    }
}

/* A row's outputs are what they are alone, whatever the batch and the part of
 * the matrix that is asked for. */
Test(rows, outputs_are_independent)
{
    enum { ROWS = 96, N = 31, COLS = 1280 };
    static float alone[N * ROWS], part[N * ROWS];
    struct hth_rng rng;

    hth_rng_init(&rng, 34);
    for (uint32_t i = 0; i < TYPES; i++) {
        struct hth_mat w = simd_matrix(&rng, g_types[i], ROWS, COLS);
        struct hth_mat p = packed(&w);
        float *v = simd_floats(&rng, (size_t)N * COLS, 1.0f);

        for (uint32_t k = 0;
             simd_usable_at(k) != &hth_isa_ref && simd_usable_at(k + 1) != NULL;
             k++) {
            const struct hth_isa *isa = simd_usable_at(k);

            for (uint32_t r = 0; r < N; r++) {
                struct rows x = tiled(v + (size_t)r * COLS, 1, COLS);

                product(isa, &p, &x, alone + (size_t)r * ROWS);
            }
            for (uint32_t trial = 0; trial < 20; trial++) {
                uint32_t first = 16 * range(&rng, 0, ROWS / 16 - 1);
                uint32_t count = 16 * range(&rng, 1, (ROWS - first) / 16);
                uint32_t r = range(&rng, 0, N - 1), n = range(&rng, 1, N - r);
                struct rows x = tiled(v + (size_t)r * COLS, n, COLS);

                if (is_float(w.type))
                    isa->gemm_packed_float(&p, first, count, &x.xf, part, ROWS);
                else
                    isa->gemm_packed(&p, first, count, &x.q8, part, ROWS);
                for (uint32_t a = 0; a < n; a++)
                    cr_assert_arr_eq(part + a * ROWS + first,
                                     alone + (r + a) * ROWS + first,
                                     count * sizeof(float), "%s %s n=%u",
                                     isa->name, hth_type_info(w.type)->name, n);
            }
        }
    }
}

/* ---- many rows of floats -------------------------------------------------
 */

/* n rows of v in the set's own tiles, in two pieces each. */
static struct hth_xf own_tiles(const struct hth_isa *isa, const float *v,
                               uint32_t n, uint32_t cols)
{
    struct hth_xf x = {simd_guarded(hth_tile_floats(n, cols)), n, cols};

    memset(x.tiles, 0x7f, hth_tile_floats(n, cols));
    for (uint32_t r = 0; r < n; r++) {
        isa->tile_float(&x, r, v + (size_t)r * cols + cols / 3, cols / 3,
                        cols - cols / 3);
        isa->tile_float(&x, r, v + (size_t)r * cols, 0, cols / 3);
    }
    return x;
}

/* From 32 rows of x on AMX adds bf16 parts, of which two hold 17 bits of a
 * number of x: other bits than the definition's, within 2^-17 (and what is
 * left out, 2^-18) of the terms, and still the same whatever is computed beside
 * them. */
static void check_many(const struct hth_isa *isa, struct hth_rng *rng,
                       uint32_t type)
{
    enum { ROWS_MAX = 16 * 9, N_MAX = 70 };
    static float all[ROWS_MAX * N_MAX], part[ROWS_MAX * N_MAX];
    uint32_t n = range(rng, 32, N_MAX), from = range(rng, 0, n - 32);
    uint32_t cols = 2 * range(rng, 1, 300) + (type == HTH_F16 && n % 2 == 1);
    uint32_t rows = 16 * range(rng, 1, 9);
    uint32_t first = 16 * range(rng, 0, rows / 16 - 1);
    struct hth_mat w = simd_matrix(rng, type, rows, cols), p = packed(&w);
    const float *v = simd_floats(rng, (size_t)n * cols, 1.0f);
    struct rows plain = {.q8 = {.n = n},
                         .xf = own_tiles(&hth_isa_ref, v, n, cols)};
    struct hth_xf x = own_tiles(isa, v, n, cols);
    struct hth_xf some = own_tiles(isa, v + (size_t)from * cols, 32, cols);

    isa->gemm_packed_float(&p, 0, rows, &x, all, rows);
    check_definition(&w, &plain, all,
                     isa->tile_float == hth_tile_float_row ? BOUND
                                                           : PARTS_BOUND);
    isa->gemm_packed_float(&p, first, rows - first, &some, part, rows);
    for (uint32_t r = 0; r < 32; r++)
        cr_assert_arr_eq(part + (size_t)r * rows + first,
                         all + (size_t)(from + r) * rows + first,
                         (rows - first) * sizeof *all, "%s n=%u", isa->name, n);
}

Test(rows, many_rows_of_floats)
{
    struct hth_rng rng;

    hth_rng_init(&rng, 37);
    for (uint32_t k = 0; simd_usable_at(k) != NULL; k++)
        for (uint32_t i = 0; i < 60; i++)
            check_many(simd_usable_at(k), &rng, i % 2 ? HTH_F16 : HTH_BF16);
}

/* ---- through hth_matmul --------------------------------------------------
 */

/* A job over three matrices: packed with a tail, GGUF, packed floats. */
struct mixed {
    struct hth_mat w[3];
    float y[3][40 * 83];
};

static void run_mixed(struct mixed *m, const float *x, uint32_t n,
                      uint32_t threads)
{
    const size_t ldy[] = {83, 83, 83};
    float *const y[] = {m->y[0], m->y[1], m->y[2]};
    struct hth_pool *pool;
    struct hth_err err;
    struct hth_matmul_job job = {
        .w = m->w, .y = y, .ldy = ldy, .count = 3, .x = x, .ldx = 768, .n = n};

    memset(m->y, 0xff, sizeof m->y);
    cr_assert_eq(hth_pool_start(&pool, threads, false, &err), 0);
    job.scratch = hth_mem_alloc(hth_matmul_scratch_bytes(n, 768, threads));
    hth_matmul(pool, &job);
    hth_mem_free(job.scratch);
    hth_pool_stop(pool);
}

static void check_mixed(const struct mixed *m, const struct hth_mat *plain,
                        const float *x, uint32_t n)
{
    for (uint32_t i = 0; i < 3; i++) {
        struct hth_mat w[] = {plain[i]};
        static float want[40 * 83];
        float *const y[] = {want};
        const size_t ldy[] = {83};
        struct hth_matmul_job job = {
            .w = w, .y = y, .ldy = ldy, .count = 1, .x = x, .ldx = 768, .n = n};

        job.scratch = hth_mem_alloc(hth_matmul_scratch_bytes(n, 768, 1));
        hth_matmul(NULL, &job);
        hth_mem_free(job.scratch);
        for (uint32_t r = 0; r < n; r++)
            for (uint32_t o = 0; o < w[0].rows; o++)
                cr_assert_float_eq(m->y[i][r * 83 + o], want[r * 83 + o], 2e-3,
                                   "[%u] n=%u row %u output %u: %g, want %g", i,
                                   n, r, o, m->y[i][r * 83 + o],
                                   want[r * 83 + o]);
    }
}

Test(rows, matrices_of_all_kinds_in_one_job)
{
    static struct mixed one, two;
    const uint32_t types[] = {HTH_Q4_K, HTH_Q5_0, HTH_F16};
    const uint32_t rows[] = {16 * 5 + 3, 40, 16 * 4 + 15};
    struct hth_mat plain[3];
    struct hth_rng rng;
    struct hth_err err;
    float *x;

    hth_rng_init(&rng, 35);
    x = simd_floats(&rng, 40 * 768, 1.0f);
    cr_assert_eq(hth_isa_init(&err), 0);
    for (uint32_t i = 0; i < 3; i++) {
        plain[i] = simd_matrix(&rng, types[i], rows[i], 768);
        one.w[i] = i == 1 ? plain[i] : packed(&plain[i]);
        two.w[i] = one.w[i];
    }
    for (uint32_t n = 1; n <= 40; n += 13) {
        run_mixed(&one, x, n, 1);
        check_mixed(&one, plain, x, n);
        run_mixed(&two, x, n, 3);
        cr_assert_arr_eq(two.y, one.y, sizeof one.y, "n=%u", n);
    }
}

Test(rows, packing_in_place_is_packing)
{
    struct hth_rng rng;
    struct hth_pool *pool;
    struct hth_err err;

    hth_rng_init(&rng, 36);
    cr_assert_eq(hth_pool_start(&pool, 3, false, &err), 0);
    for (uint32_t i = 0; i < TYPES; i++) {
        struct hth_mat w = simd_matrix(&rng, g_types[i], 16 * 7 + 5, 512);
        struct hth_mat p = packed(&w);
        struct hth_pack_job job = {.type = w.type,
                                   .cols = w.cols,
                                   .rows = w.rows,
                                   .data = (uint8_t *)w.data};

        job.scratch = hth_mem_alloc(3 * 16 * w.row_bytes);
        hth_pack(pool, &job);
        hth_mem_free(job.scratch);
        cr_assert_arr_eq(w.data, p.data, w.rows * w.row_bytes, "%s",
                         hth_type_info(w.type)->name);
    }
    hth_pool_stop(pool);
}
