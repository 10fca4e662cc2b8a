/* A step's attention: right, and the same bits however the work is shared. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernels/ops.h"
#include "kernels/type.h"
#include "model/attention.h"

enum { HEADS = 6, KVS = 2, DIM = 32, CTX = 2500, ROWS = 70, SEQS = 3 };
enum { ROW = HEADS * DIM };

struct world {
    struct hth_kv *kv;
    struct hth_share share;
    uint32_t type;
    float *k, *v; /* [SEQS][CTX][KVS][DIM], as written */
    float q[ROWS * ROW];
};

static void world_init(struct world *w, uint32_t type)
{
    struct hth_kv_opts o = {.layers = 2,
                            .heads = KVS,
                            .head_dim = DIM,
                            .type = type,
                            .ctx_max = CTX};
    size_t n = (size_t)SEQS * CTX * KVS * DIM;
    struct hth_err err;
    struct hth_rng r;

    *w = (struct world){.type = type, .share = {.heads = HEADS, .kvs = KVS}};
    cr_assert_eq(hth_isa_init(&err), HTH_OK);
    cr_assert_eq(hth_kv_open(&w->kv, &o, &err), HTH_OK);
    w->k = malloc(n * sizeof *w->k);
    w->v = malloc(n * sizeof *w->v);
    hth_rng_init(&r, 8);
    for (size_t i = 0; i < n; i++) {
        w->k[i] = hth_rng_normal(&r);
        w->v[i] = hth_rng_normal(&r);
    }
    for (size_t i = 0; i < ROWS * ROW; i++)
        w->q[i] = hth_rng_normal(&r);
    for (uint32_t s = 0; s < SEQS; s++) {
        struct hth_kv_at at = {.layer = 1};

        cr_assert_eq(hth_kv_reserve(w->kv, s, CTX, &err), HTH_OK);
        for (at.pos = 0; at.pos < CTX; at.pos++)
            for (at.head = 0; at.head < KVS; at.head++) {
                size_t i = (((size_t)s * CTX + at.pos) * KVS + at.head) * DIM;

                hth_kv_store(w->kv, s, &at, w->k + i, w->v + i);
            }
    }
}

static void world_fini(struct world *w)
{
    hth_kv_close(w->kv);
    free(w->k);
    free(w->v);
}

struct rows {
    uint32_t count;
    uint32_t seq[ROWS];
    uint32_t pos[ROWS];
};

static void run(const struct world *w, uint32_t threads,
                const struct rows *rows, const float *q, float *out)
{
    struct hth_attention_opts o = {.share = &w->share,
                                   .group = HEADS / KVS,
                                   .head_dim = DIM,
                                   .kv_type = w->type,
                                   .rows_max = ROWS};
    struct hth_attention_layer l = {w->kv, 1, q, out};
    struct hth_attention *a;
    struct hth_err err;

    cr_assert_eq(hth_pool_start(&o.pool, threads, false, &err), HTH_OK);
    cr_assert_eq(hth_attention_open(&a, &o, &err), HTH_OK);
    hth_attention_rows(a, rows->count, rows->seq, rows->pos);
    hth_attention_run(a, &l);
    hth_attention_run(a, &l); /* nothing is left over */
    hth_attention_close(a);
    hth_pool_stop(o.pool);
}

/* A piece of a prompt, and single rows of other sequences. */
static void mixed_rows(struct rows *rows)
{
    rows->count = ROWS;
    for (uint32_t i = 0; i < ROWS; i++) {
        rows->seq[i] = i < ROWS - 2 ? 0 : i - (ROWS - 3);
        rows->pos[i] = i < ROWS - 2 ? CTX - 100 + i : 1500 - 777 * (i % 2);
    }
}

static void expect_exact(const struct world *w, uint32_t seq, uint32_t pos,
                         const float *q, const float *out)
{
    static double e[CTX];

    for (uint32_t h = 0; h < HEADS; h++) {
        double sum = 0, want[DIM] = {0};

        for (uint32_t p = 0; p <= pos; p++) {
            size_t i =
                (((size_t)seq * CTX + p) * KVS + h / (HEADS / KVS)) * DIM;

            e[p] = 0;
            for (uint32_t c = 0; c < DIM; c++)
                e[p] += (double)q[h * DIM + c] * (double)w->k[i + c];
            e[p] = exp(e[p] / sqrt(DIM));
            sum += e[p];
            for (uint32_t c = 0; c < DIM; c++)
                want[c] += e[p] * (double)w->v[i + c];
        }
        for (uint32_t c = 0; c < DIM; c++)
            cr_assert_leq(fabs((double)out[h * DIM + c] - want[c] / sum), 1e-5);
    }
}

Test(attention, equals_exact_attention)
{
    static const uint32_t some[] = {0, 1, 33, ROWS - 3, ROWS - 2, ROWS - 1};
    float out[ROWS * ROW];
    struct rows rows;
    struct world w;

    world_init(&w, HTH_F32);
    mixed_rows(&rows);
    run(&w, 2, &rows, w.q, out);
    for (uint32_t i = 0; i < sizeof some / sizeof some[0]; i++) {
        uint32_t r = some[i];

        expect_exact(&w, rows.seq[r], rows.pos[r], w.q + r * ROW,
                     out + r * ROW);
    }
    world_fini(&w);
}

/* Alone a row's chunks are tasks of several threads; in a prompt they are done
 * one after the other. */
static void check_bits(uint32_t type)
{
    float whole[ROWS * ROW], other[ROWS * ROW];
    struct rows rows, one = {.count = 1};
    struct world w;

    world_init(&w, type);
    mixed_rows(&rows);
    run(&w, 1, &rows, w.q, whole);
    for (uint32_t threads = 2; threads < 5; threads++) {
        run(&w, threads, &rows, w.q, other);
        cr_assert_eq(memcmp(whole, other, sizeof whole), 0, "%u threads",
                     threads);
    }
    for (uint32_t r = 0; r < ROWS; r += 9) {
        one.seq[0] = rows.seq[r];
        one.pos[0] = rows.pos[r];
        run(&w, 1 + r % 3, &one, w.q + r * ROW, other);
        cr_assert_eq(memcmp(whole + r * ROW, other, ROW * sizeof(float)), 0,
                     "row %u", r);
    }
    world_fini(&w);
}

Test(attention, bits_do_not_depend_on_company)
{
    check_bits(HTH_F32);
    check_bits(HTH_F16);
    check_bits(HTH_Q8_0);
}

/* A rank may own part of a group at either end. */
Test(attention, groups_are_cut_by_borders)
{
    struct hth_share s = {.head_first = 3, .heads = 6, .kv_first = 0, .kvs = 3};
    uint32_t first[3], count[3];

    for (uint32_t kv = 0; kv < 3; kv++)
        hth_group_heads(&s, 4, kv, &first[kv], &count[kv]);
    cr_assert_eq(first[0], 0u);
    cr_assert_eq(count[0], 1u);
    cr_assert_eq(first[1], 1u);
    cr_assert_eq(count[1], 4u);
    cr_assert_eq(first[2], 5u);
    cr_assert_eq(count[2], 1u);
}
