/* Attention: every set this CPU has against double arithmetic, on blocks whose
 * unused part is NaN; who sees what; partials; and the bits that must not
 * depend on company. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernel_data.h"
#include "kernels/attn.h"
#include "kernels/quant.h"

enum { BLOCKS_MAX = 5, ROWS_MAX = 20, HEADS_MAX = 9, DIM_MAX = 256 };

static const uint32_t types[] = {HTH_F32, HTH_F16, HTH_Q8_0};

static void *must_alloc(size_t bytes)
{
    void *p = hth_mem_alloc(bytes);

    cr_assert_neq(p, NULL);
    return p;
}

/* Run `check` with each usable set in turn. */
static void for_each_set(void (*check)(struct hth_rng *r), uint32_t times)
{
    struct hth_err err = {0};
    struct hth_rng r;

    for (uint32_t i = 0; hth_isa_at(i) != NULL; i++) {
        if (!hth_isa_at(i)->usable())
            continue;
        setenv("HEARTH_ISA", hth_isa_at(i)->name, 1);
        cr_assert_eq(hth_isa_init(&err), HTH_OK, "%s", err.text);
        hth_rng_init(&r, 11);
        for (uint32_t t = 0; t < times; t++)
            check(&r);
    }
    unsetenv("HEARTH_ISA");
    cr_assert_eq(hth_isa_init(&err), HTH_OK);
}

/* ---- a case: blocks, queries, and what they stand for -------------------- */

struct fixture {
    struct hth_attn_job job;
    struct hth_attn_keys keys[BLOCKS_MAX];
    uint32_t at[BLOCKS_MAX][HTH_ATTN_KEYS]; /* position of each key */
    uint32_t pos[ROWS_MAX];
    float *q;
    float *k, *v; /* [blocks][keys][dim], what the blocks hold, exactly */
};

static float *key_of(const struct fixture *f, uint32_t block, uint32_t i)
{
    return f->k + ((size_t)block * HTH_ATTN_KEYS + i) * f->job.head_dim;
}

static float *value_of(const struct fixture *f, uint32_t block, uint32_t i)
{
    return f->v + ((size_t)block * HTH_ATTN_KEYS + i) * f->job.head_dim;
}

static void read_back(const struct hth_attn_block *b, uint32_t i, float *k,
                      float *v)
{
    uint8_t rows[2][DIM_MAX * 4];

    hth_attn_get_row(b, i, rows[0], rows[1]);
    hth_dequantize((enum hth_type)b->type, rows[0], k, b->head_dim);
    hth_dequantize((enum hth_type)b->type, rows[1], v, b->head_dim);
}

static void fill_block(struct fixture *f, struct hth_rng *r, uint32_t block)
{
    uint32_t dim = f->job.head_dim, type = f->job.type;
    size_t kb = hth_attn_k_bytes(type, dim), vb = hth_attn_v_bytes(type, dim);
    struct hth_attn_block b = {type, dim, must_alloc(kb), must_alloc(vb)};
    struct hth_attn_keys *keys = &f->keys[block];

    memset(b.k, 0xff, kb);
    memset(b.v, 0xff, vb);
    keys->k = b.k;
    keys->v = b.v;
    keys->count = kd_range(r, 0, 3) ? kd_range(r, 0, 64) : 64;
    for (uint32_t i = 0; i < keys->count; i++) {
        float *k = kd_random_floats(r, dim), *v = kd_random_floats(r, dim);

        hth_attn_put(&b, i, k, v);
        read_back(&b, i, key_of(f, block, i), value_of(f, block, i));
        hth_mem_free(k);
        hth_mem_free(v);
    }
}

/* Positions of a block: a run, a stripe, or any that ascend. */
static void place_block(struct fixture *f, struct hth_rng *r, uint32_t block)
{
    struct hth_attn_keys *keys = &f->keys[block];
    uint32_t kind = kd_range(r, 0, 2);

    keys->pos = kd_range(r, 0, 100);
    keys->step = kind == 0 ? 1 : kd_range(r, 1, 5);
    for (uint32_t i = 0, p = keys->pos; i < HTH_ATTN_KEYS; i++) {
        f->at[block][i] = p;
        p += kind < 2 ? keys->step : kd_range(r, 1, 4);
    }
    if (kind == 2) {
        keys->at = f->at[block];
        keys->step = keys->pos = 0;
    }
}

static void fixture_init(struct fixture *f, struct hth_rng *r)
{
    static const uint32_t dims[] = {64, 128, 96, 32, 256, 80, 40, 8, 33, 7};
    uint32_t type = types[kd_range(r, 0, 2)];
    uint32_t dim = dims[kd_range(r, 0, type == HTH_Q8_0 ? 4 : 9)];
    size_t held = (size_t)BLOCKS_MAX * HTH_ATTN_KEYS * dim * sizeof(float);

    *f = (struct fixture){.job = {.type = type, .head_dim = dim}};
    f->k = must_alloc(held);
    f->v = must_alloc(held);
    f->job.scale = 0.3f / sqrtf((float)dim);
    f->job.blocks = kd_range(r, 1, BLOCKS_MAX);
    for (uint32_t b = 0; b < f->job.blocks; b++) {
        fill_block(f, r, b);
        place_block(f, r, b);
    }
    f->job.keys = f->keys;
    f->job.queries.rows = kd_range(r, 1, ROWS_MAX);
    f->job.queries.heads = kd_range(r, 1, HEADS_MAX);
    f->job.queries.ldq =
        (size_t)f->job.queries.heads * dim + kd_range(r, 0, 3) * dim;
    for (uint32_t i = 0; i < f->job.queries.rows; i++)
        f->pos[i] = kd_range(r, 0, 400);
    f->job.queries.pos = f->pos;
    f->q = kd_random_floats(r, f->job.queries.rows * f->job.queries.ldq);
    f->job.queries.q = f->q;
    f->job.scratch = must_alloc(hth_attn_scratch_bytes(
        f->job.queries.rows * f->job.queries.heads, dim));
}

static void fixture_fini(struct fixture *f)
{
    for (uint32_t b = 0; b < f->job.blocks; b++) {
        hth_mem_free((void *)(uintptr_t)f->keys[b].k);
        hth_mem_free((void *)(uintptr_t)f->keys[b].v);
    }
    hth_mem_free(f->k);
    hth_mem_free(f->v);
    hth_mem_free(f->q);
    hth_mem_free(f->job.scratch);
}

static struct hth_attn_state state_alloc(uint32_t n, uint32_t dim)
{
    struct hth_attn_state s = {
        must_alloc(n * sizeof(float)), must_alloc(n * sizeof(float)),
        must_alloc(n * hth_attn_dim(dim) * sizeof(float))};

    hth_attn_begin(&s, n, dim);
    return s;
}

static void state_free(struct hth_attn_state *s)
{
    hth_mem_free(s->m);
    hth_mem_free(s->l);
    hth_mem_free(s->acc);
}

static void expect_same(const struct hth_attn_state *a,
                        const struct hth_attn_state *b, uint32_t n,
                        uint32_t dim)
{
    size_t acc = (size_t)n * hth_attn_dim(dim) * sizeof(float);

    cr_assert_eq(memcmp(a->m, b->m, n * sizeof(float)), 0, "%s: m",
                 hth_isa_name());
    cr_assert_eq(memcmp(a->l, b->l, n * sizeof(float)), 0, "%s: l",
                 hth_isa_name());
    for (size_t i = 0; i < acc / sizeof(float); i++)
        cr_assert_eq(a->acc[i], b->acc[i], "%s: acc[%zu] of dim %u",
                     hth_isa_name(), i, dim);
}

/* ---- blocks ---------------------------------------------------------------
 */

static void check_rows(struct hth_rng *r)
{
    struct fixture f;
    uint8_t k[2][DIM_MAX * 4], v[2][DIM_MAX * 4];
    size_t bytes;

    fixture_init(&f, r);
    bytes = hth_row_bytes(f.job.type, f.job.head_dim);
    for (uint32_t i = 0; i < f.keys[0].count; i++) {
        struct hth_attn_block b = {f.job.type, f.job.head_dim,
                                   (void *)(uintptr_t)f.keys[0].k,
                                   (void *)(uintptr_t)f.keys[0].v};

        hth_attn_get_row(&b, i, k[0], v[0]);
        hth_attn_put_row(&b, (i + 17) % 64, k[0], v[0]);
        hth_attn_get_row(&b, (i + 17) % 64, k[1], v[1]);
        cr_assert_eq(memcmp(k[0], k[1], bytes), 0);
        cr_assert_eq(memcmp(v[0], v[1], bytes), 0);
    }
    fixture_fini(&f);
}

Test(attn, rows_go_in_and_come_out)
{
    for_each_set(check_rows, 20);
}

/* What a row of a cache loses: 0.4 % of the largest of 32 with q8_0. */
static void check_rounding(struct hth_rng *r)
{
    for (uint32_t t = 0; t < 3; t++) {
        struct hth_attn_block b = {types[t], 64, NULL, NULL};
        float *x = kd_random_floats(r, 64), back[2][64], most = 0;

        b.k = must_alloc(hth_attn_k_bytes(b.type, 64));
        b.v = must_alloc(hth_attn_v_bytes(b.type, 64));
        hth_attn_put(&b, 37, x, x);
        read_back(&b, 37, back[0], back[1]);
        for (uint32_t i = 0; i < 64; i++)
            most = fmaxf(most, fabsf(x[i]));
        for (uint32_t i = 0; i < 64; i++) {
            double bound = t == 0   ? 0
                           : t == 1 ? fabs((double)x[i]) / 2048 + 1e-7
                                    : (double)most / 127 * 0.57;

            cr_assert_leq(fabs((double)(back[0][i] - x[i])), bound);
            cr_assert_eq(back[0][i], back[1][i]);
        }
        hth_mem_free(b.k);
        hth_mem_free(b.v);
        hth_mem_free(x);
    }
}

Test(attn, a_row_keeps_its_precision)
{
    for_each_set(check_rounding, 20);
}

Test(attn, types)
{
    cr_assert(hth_attn_type_ok(HTH_F32, 7));
    cr_assert(hth_attn_type_ok(HTH_F16, HTH_HEAD_DIM_MAX));
    cr_assert(hth_attn_type_ok(HTH_Q8_0, 64));
    cr_assert_not(hth_attn_type_ok(HTH_Q8_0, 80));
    cr_assert_not(hth_attn_type_ok(HTH_Q4_0, 64));
    cr_assert_not(hth_attn_type_ok(HTH_F32, 0));
    cr_assert_not(hth_attn_type_ok(HTH_F32, HTH_HEAD_DIM_MAX + 1));
    cr_assert_eq(hth_attn_dim(33), 48u);
    cr_assert_eq(hth_attn_k_bytes(HTH_F16, 64), 8192u);
    cr_assert_eq(hth_attn_v_bytes(HTH_Q8_0, 64), 64u * 68);
}

/* ---- against double -------------------------------------------------------
 */

/* One query over all keys it sees; false if it sees none. */
static bool exact(const struct fixture *f, uint32_t row, uint32_t head,
                  double *out)
{
    static double s[BLOCKS_MAX][HTH_ATTN_KEYS];
    uint32_t dim = f->job.head_dim;
    const float *q = f->q + row * f->job.queries.ldq + (size_t)head * dim;
    double max = -INFINITY, sum = 0;

    memset(out, 0, DIM_MAX * sizeof *out);
    for (uint32_t b = 0; b < f->job.blocks; b++)
        for (uint32_t i = 0; i < f->keys[b].count; i++) {
            s[b][i] = 0;
            for (uint32_t c = 0; c < dim; c++)
                s[b][i] += (double)q[c] * (double)key_of(f, b, i)[c];
            s[b][i] *= (double)f->job.scale;
            if (f->at[b][i] <= f->pos[row])
                max = fmax(max, s[b][i]);
        }
    for (uint32_t b = 0; b < f->job.blocks; b++)
        for (uint32_t i = 0; i < f->keys[b].count; i++) {
            double e = exp(s[b][i] - max);

            if (f->at[b][i] > f->pos[row])
                continue;
            sum += e;
            for (uint32_t c = 0; c < dim; c++)
                out[c] += e * (double)value_of(f, b, i)[c];
        }
    for (uint32_t c = 0; c < dim; c++)
        out[c] = sum > 0 ? out[c] / sum : 0;
    return sum > 0;
}

static void expect_exact(const struct fixture *f,
                         const struct hth_attn_state *s, double bound)
{
    uint32_t heads = f->job.queries.heads, dim = f->job.head_dim;

    for (uint32_t i = 0; i < f->job.queries.rows * heads; i++) {
        struct hth_attn_state one = hth_attn_state_at(s, i, dim);
        float out[DIM_MAX];
        double want[DIM_MAX];
        bool any = exact(f, i / heads, i % heads, want);

        cr_assert_eq(any, *one.l > 0);
        hth_attn_finish(&one, 1, dim, out);
        for (uint32_t c = 0; c < dim; c++)
            cr_assert_leq(fabs((double)out[c] - want[c]), bound,
                          "%s: type %u dim %u column %u: %g for %g",
                          hth_isa_name(), f->job.type, dim, c, (double)out[c],
                          want[c]);
    }
}

/* Values go to about 60, scores to a few tens. */
#define BOUND 4e-4

static void check_exact(struct hth_rng *r)
{
    struct fixture f;
    uint32_t n;

    fixture_init(&f, r);
    n = f.job.queries.rows * f.job.queries.heads;
    f.job.state = state_alloc(n, f.job.head_dim);
    hth_attn_fold(&f.job);
    expect_exact(&f, &f.job.state, BOUND);
    state_free(&f.job.state);
    fixture_fini(&f);
}

Test(attn, equals_exact_attention)
{
    for_each_set(check_exact, 60);
}

/* ---- bits ------------------------------------------------------------------
 */

/* A query's bits are the same alone and in company: panels are filled
 * otherwise, and blocks are not widened for one query. */
static void check_company(struct hth_rng *r)
{
    struct fixture f;
    struct hth_attn_job one;
    uint32_t heads, dim, row, head;

    fixture_init(&f, r);
    heads = f.job.queries.heads;
    dim = f.job.head_dim;
    f.job.state = state_alloc(f.job.queries.rows * heads, dim);
    hth_attn_fold(&f.job);
    row = kd_range(r, 0, f.job.queries.rows - 1);
    head = kd_range(r, 0, heads - 1);
    one = f.job;
    one.queries.rows = one.queries.heads = 1;
    one.queries.pos = f.pos + row;
    one.queries.q = f.q + row * f.job.queries.ldq + (size_t)head * dim;
    one.state = state_alloc(1, dim);
    one.blocks = 0;
    hth_attn_fold(&one);
    for (one.blocks = 1; one.keys < f.keys + f.job.blocks; one.keys++)
        hth_attn_fold(&one);
    f.job.state = hth_attn_state_at(&f.job.state, 0, dim);
    {
        struct hth_attn_state got =
            hth_attn_state_at(&f.job.state, (size_t)row * heads + head, dim);

        expect_same(&got, &one.state, 1, dim);
    }
    state_free(&one.state);
    state_free(&f.job.state);
    fixture_fini(&f);
}

Test(attn, company_changes_no_bits)
{
    for_each_set(check_company, 60);
}

/* ---- partials ---------------------------------------------------------------
 */

/* Blocks folded apart and merged, in order and in reverse. */
static void check_merge(struct hth_rng *r)
{
    struct fixture f;
    struct hth_attn_state part[BLOCKS_MAX], sum[2];
    struct hth_attn_job job;
    uint32_t n, dim;

    fixture_init(&f, r);
    dim = f.job.head_dim;
    n = f.job.queries.rows * f.job.queries.heads;
    sum[0] = state_alloc(n, dim);
    sum[1] = state_alloc(n, dim);
    for (uint32_t b = 0; b < f.job.blocks; b++) {
        job = f.job;
        job.keys = &f.keys[b];
        job.blocks = 1;
        job.state = part[b] = state_alloc(n, dim);
        hth_attn_fold(&job);
    }
    for (uint32_t b = 0; b < f.job.blocks; b++) {
        hth_attn_merge(&sum[0], &part[b], n, dim);
        hth_attn_merge(&sum[1], &part[f.job.blocks - 1 - b], n, dim);
    }
    expect_exact(&f, &sum[0], BOUND);
    expect_exact(&f, &sum[1], BOUND);
    for (uint32_t b = 0; b < f.job.blocks; b++)
        state_free(&part[b]);
    state_free(&sum[0]);
    state_free(&sum[1]);
    fixture_fini(&f);
}

Test(attn, partials_merge_in_any_order)
{
    for_each_set(check_merge, 30);
}

Test(attn, an_empty_partial_changes_nothing)
{
    struct hth_attn_state a = state_alloc(1, 20), b = state_alloc(1, 20);
    struct hth_attn_state c = state_alloc(1, 20);
    float out[20];

    hth_attn_merge(&a, &b, 1, 20);
    hth_attn_finish(&a, 1, 20, out);
    cr_assert_eq(*a.l, 0.0f);
    for (uint32_t i = 0; i < 20; i++) {
        cr_assert_eq(out[i], 0.0f);
        b.acc[i] = (float)i / 3;
    }
    *b.m = 0.7f;
    *b.l = 1.3f;
    hth_attn_merge(&a, &b, 1, 20);
    expect_same(&a, &b, 1, 20);
    hth_attn_merge(&a, &c, 1, 20);
    expect_same(&a, &b, 1, 20);
    state_free(&a);
    state_free(&b);
    state_free(&c);
}
