/* seqpar_test.c - a prompt spread over ranks against one rank that does it
 * all: hidden state, every layer's keys and values, the greedy tokens after
 * it, bytes on every link. Modes, 2 to 4 ranks, odd lengths, GQA and MHA,
 * unequal and empty shares, cached prefixes. */
#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/ops.h"
#include "model/embed.h"
#include "model/seqpar.h"
#include "model/synth.h"
#include "support.h"

#define SEQ 5u
#define GREEDY_MAX 64u

struct model {
    struct hth_gguf *g;
    struct hth_spec *spec;
};

/* Rows per product are few, so that several chunks make a rank's share. */
#define ROWS_MAX 48u

struct run {
    const struct model *m;
    uint32_t mode, ranks;
    double weights[8]; /* of the prompt's rows */
    double shares[8];  /* of decoding */
    uint32_t count, prefix, greedy;
    uint32_t kv_type;
    uint32_t threads;
    /* results */
    struct hth_plan plan;
    struct hth_spread spread;
    struct hth_local_peers *peers;
    struct hth_local_group *group;
    pthread_barrier_t barrier;
    float *hidden; /* [dim], of the last token */
    float *logits; /* [vocab] */
    uint32_t tokens[4096];
    uint8_t *kv[8]; /* [layer][own head][pos] of keys then values */
    struct hth_seqpar_times times[8];
};

static void open_model(struct model *m, const char *path)
{
    struct hth_err err;

    m->spec = malloc(sizeof *m->spec);
    cr_assert_eq(hth_isa_init(&err), 0);
    cr_assert_eq(hth_gguf_open(&m->g, path, &err), 0, "%s", err.text);
    cr_assert_eq(hth_spec_read(m->spec, m->g, &err), 0, "%s", err.text);
}

static void close_model(struct model *m)
{
    hth_gguf_close(m->g);
    free(m->spec);
}

static void open_synth(struct model *m, const char *shape)
{
    char path[] = "/tmp/seqparXXXXXX";
    struct hth_synth_opts o = {.shape = shape, .type = "F32", .seed = 7};
    struct hth_err err;
    int fd = mkstemp(path);

    cr_assert_geq(fd, 0);
    close(fd);
    cr_assert_eq(hth_synth_write(&o, path, &err), 0, "%s", err.text);
    open_model(m, path);
    unlink(path);
}

struct bound {
    struct hth_forward *f;
    void **block;
    uint32_t blocks;
};

static void bind_all(struct bound *b, const struct model *m,
                     const struct hth_forward_opts *o)
{
    struct hth_err err;

    cr_assert_eq(hth_forward_open(&b->f, o, &err), 0, "%s", err.text);
    b->blocks = hth_shard_blocks(m->spec);
    b->block = calloc(b->blocks, sizeof *b->block);
    for (uint32_t i = 0; i < b->blocks; i++) {
        struct hth_block d;

        hth_shard_block(m->spec, o->plan, o->rank, i, &d);
        if (d.bytes == 0)
            continue;
        b->block[i] = aligned_alloc(64, (d.bytes + 63) / 64 * 64);
        cr_assert_eq(hth_block_read(m->g, m->spec, &d,
                                    (struct hth_read){0, b->block[i], d.bytes},
                                    &err),
                     0, "%s", err.text);
        cr_assert_eq(hth_block_pack(NULL, &d, b->block[i], &err), 0);
        hth_forward_bind(b->f, i, b->block[i]);
    }
}

static void unbind_all(struct bound *b)
{
    hth_forward_close(b->f);
    for (uint32_t i = 0; i < b->blocks; i++)
        free(b->block[i]);
    free(b->block);
}

static void embed(const struct model *m, struct hth_embed *e, uint32_t id,
                  float *x)
{
    struct hth_err err;

    (void)m;
    cr_assert_eq(hth_embed_row(e, id, x, &err), 0, "%s", err.text);
}

/* Tokens first .. first + n through tensor-parallel steps. The last hidden row
 * is left in x[0]. */
static void steps(const struct run *r, struct hth_forward *f,
                  struct hth_embed *e, uint32_t first, uint32_t n, float *x)
{
    uint32_t dim = r->m->spec->dim, seq[ROWS_MAX], pos[ROWS_MAX];
    struct hth_err err;

    cr_assert_eq(hth_kv_reserve(hth_forward_kv(f), SEQ, first + n, &err), 0);
    for (uint32_t done = 0; done < n;) {
        uint32_t rows = n - done < ROWS_MAX ? n - done : ROWS_MAX;
        struct hth_batch b = {.rows = rows, .seq = seq, .pos = pos, .x = x};

        for (uint32_t i = 0; i < rows; i++) {
            seq[i] = SEQ;
            pos[i] = first + done + i;
            embed(r->m, e, r->tokens[pos[i]], x + (size_t)i * dim);
        }
        cr_assert_eq(hth_forward_step(f, &b, &err), 0, "%s", err.text);
        memmove(x, x + (size_t)(rows - 1) * dim, dim * sizeof *x);
        done += rows;
    }
}

/* All ranks' logits of one hidden row; rank 0 of the run picks. */
static void pick(struct run *r, struct hth_forward *f, uint32_t rank,
                 const float *x, uint32_t at)
{
    const struct hth_share *s = &r->plan.share[rank];
    struct hth_err err;
    uint32_t best = 0;

    cr_assert_eq(hth_forward_logits(f, x, 1, r->logits + s->vocab_first, &err),
                 0);
    pthread_barrier_wait(&r->barrier);
    if (rank == 0) {
        for (uint32_t i = 1; i < r->m->spec->vocab; i++)
            if (r->logits[i] > r->logits[best])
                best = i;
        r->tokens[at] = best;
    }
    pthread_barrier_wait(&r->barrier);
}

static void save_kv(struct run *r, struct hth_forward *f, uint32_t rank)
{
    const struct hth_spec *s = r->m->spec;
    size_t rb = hth_row_bytes(r->kv_type, s->head_dim);
    uint32_t kvs = r->plan.share[rank].kvs, n = r->prefix + r->count;
    uint8_t *to = malloc(s->layers * kvs * 2 * n * rb + 1);

    r->kv[rank] = to;
    for (uint32_t l = 0; l < s->layers; l++)
        for (uint32_t h = 0; h < kvs; h++, to += 2 * n * rb) {
            struct hth_kv_at at = {l, h, 0};

            hth_kv_export(hth_forward_kv(f), SEQ, &at,
                          &(struct hth_kv_rows){n, to, to + n * rb});
        }
}

static void split(struct run *r, struct bound *decode, struct bound *whole,
                  struct hth_embed *e, struct hth_pool *pool, uint32_t rank)
{
    uint32_t dim = r->m->spec->dim, rows = r->spread.rows[rank];
    float *x = malloc(((size_t)rows * dim + 1) * sizeof *x);
    uint32_t *pos = malloc((rows + 1) * sizeof *pos);
    struct hth_seqpar_opts o = {.spec = r->m->spec,
                                .plan = &r->plan,
                                .rank = rank,
                                .kv_type = r->kv_type,
                                .rows_max = ROWS_MAX,
                                .whole = whole->f,
                                .kv = hth_forward_kv(decode->f),
                                .pool = pool,
                                .peers = hth_local_peers_rank(r->peers, rank),
                                .spread = r->spread,
                                .seq = SEQ,
                                .prefix = r->prefix};
    struct hth_seqpar *s;
    struct hth_err err;

    cr_assert_eq(hth_kv_reserve(o.kv, SEQ, r->prefix + r->count, &err), 0);
    cr_assert_eq(hth_seqpar_open(&s, &o, &err), 0, "%s", err.text);
    hth_spread_positions(&r->spread, rank, pos);
    for (uint32_t i = 0; i < rows; i++)
        embed(r->m, e, r->tokens[r->prefix + pos[i]], x + (size_t)i * dim);
    cr_assert_eq(hth_seqpar_run(s, x, &err), 0, "%s", err.text);
    if (rank == hth_spread_last(&r->spread))
        memcpy(r->hidden, x + (size_t)(rows - 1) * dim, dim * sizeof *x);
    cr_assert_eq(hth_seqpar_drain(s, &err), 0, "%s", err.text);
    hth_seqpar_times(s, &r->times[rank]);
    hth_seqpar_close(s);
    free(x);
    free(pos);
}

struct rank_arg {
    struct run *r;
    uint32_t rank;
};

static void *rank_main(void *arg)
{
    struct rank_arg *a = arg;
    struct run *r = a->r;
    const struct hth_spec *spec = r->m->spec;
    struct hth_plan one = {0};
    struct hth_shape shape;
    struct bound decode, whole;
    struct hth_pool *pool;
    struct hth_embed *e;
    struct hth_err err;
    uint32_t end = r->prefix + r->count;
    struct hth_forward_opts o = {.spec = spec,
                                 .plan = &r->plan,
                                 .rank = a->rank,
                                 .rows_max = ROWS_MAX,
                                 .kv_type = r->kv_type,
                                 .ctx_max = end + GREEDY_MAX};
    float *x = malloc((size_t)ROWS_MAX * spec->dim * sizeof *x);

    hth_spec_shape(spec, r->kv_type, &shape);
    cr_assert_eq(hth_plan_make(&shape, &(double){1}, 1, &one, &err), 0);
    cr_assert_eq(hth_pool_start(&pool, r->threads, false, &err), 0);
    cr_assert_eq(hth_embed_open(&e, r->m->g, spec, &err), 0);
    o.pool = pool;
    bind_all(&decode, r->m, &o);
    o.plan = &one;
    o.rank = 0;
    bind_all(&whole, r->m, &o);
    hth_forward_join(decode.f, hth_local_group_rank(r->group, a->rank));
    if (r->prefix > 0)
        steps(r, decode.f, e, 0, r->prefix, x);
    if (r->mode == HTH_PREFILL_TP) {
        steps(r, decode.f, e, r->prefix, r->count, x);
        memcpy(r->hidden, x, spec->dim * sizeof *x);
    } else {
        split(r, &decode, &whole, e, pool, a->rank);
    }
    save_kv(r, decode.f, a->rank);
    pthread_barrier_wait(&r->barrier);
    memcpy(x, r->hidden, spec->dim * sizeof *x);
    for (uint32_t i = 0; i < r->greedy; i++) {
        pick(r, decode.f, a->rank, x, end + i);
        steps(r, decode.f, e, end + i, 1, x);
    }
    unbind_all(&decode);
    unbind_all(&whole);
    hth_embed_close(e);
    hth_pool_stop(pool);
    free(x);
    return NULL;
}

static void run_all(struct run *r)
{
    struct rank_arg arg[8];
    struct hth_shape shape;
    pthread_t thread[8];
    struct hth_err err;

    hth_spec_shape(r->m->spec, r->kv_type, &shape);
    cr_assert_eq(hth_plan_make(&shape, r->shares, r->ranks, &r->plan, &err), 0);
    cr_assert_eq(hth_local_peers_open(&r->peers, r->ranks), 0);
    cr_assert_eq(hth_local_group_open(&r->group, r->ranks), 0);
    pthread_barrier_init(&r->barrier, NULL, r->ranks);
    if (r->mode != HTH_PREFILL_TP)
        cr_assert_eq(hth_spread_make(&r->spread, r->mode, r->weights, r->ranks,
                                     r->count),
                     0);
    r->hidden = malloc(r->m->spec->dim * sizeof(float));
    r->logits = malloc(r->m->spec->vocab * sizeof(float));
    for (uint32_t i = 0; i < r->prefix + r->count; i++)
        r->tokens[i] = (i * 7919u + 13u) % r->m->spec->vocab;
    for (uint32_t i = 0; i < r->ranks; i++) {
        arg[i] = (struct rank_arg){r, i};
        pthread_create(&thread[i], NULL, rank_main, &arg[i]);
    }
    for (uint32_t i = 0; i < r->ranks; i++)
        pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&r->barrier);
    hth_local_group_close(r->group);
}

static void free_run(struct run *r)
{
    for (uint32_t i = 0; i < 8; i++)
        free(r->kv[i]);
    hth_local_peers_close(r->peers);
    free(r->hidden);
    free(r->logits);
}

static double value_at(const struct run *r, const uint8_t *row, uint32_t i)
{
    uint16_t h;
    float f;

    if (r->kv_type == HTH_F32) {
        memcpy(&f, row + 4 * i, 4);
        return f;
    }
    if (r->kv_type == HTH_Q8_0) { /* blocks of 32: a scale, numbers */
        memcpy(&h, row + (size_t)i / 32 * 34, 2);
        return hth_f16_to_f32(h) *
               (int8_t)row[(size_t)i / 32 * 34 + 2 + i % 32];
    }
    memcpy(&h, row + 2 * i, 2);
    return hth_f16_to_f32(h);
}

/* Every rank's own heads, every layer and position. */
static double kv_difference(const struct run *r, const struct run *ref)
{
    const struct hth_spec *s = r->m->spec;
    size_t rb = hth_row_bytes(r->kv_type, s->head_dim);
    uint32_t n = r->prefix + r->count;
    double most = 0;

    for (uint32_t k = 0; k < r->ranks; k++) {
        const struct hth_share *own = &r->plan.share[k];

        for (uint32_t l = 0; l < s->layers; l++)
            for (uint32_t h = 0; h < own->kvs; h++)
                for (uint32_t i = 0; i < 2 * n; i++) {
                    const uint8_t *a =
                        r->kv[k] +
                        (((size_t)l * own->kvs + h) * 2 * n + i) * rb;
                    const uint8_t *b =
                        ref->kv[0] +
                        (((size_t)l * s->kv_heads + own->kv_first + h) * 2 * n +
                         i) *
                            rb;

                    for (uint32_t e = 0; e < s->head_dim; e++)
                        most = fmax(most, fabs(value_at(r, a, e) -
                                               value_at(ref, b, e)));
                }
    }
    return most;
}

static void check_bytes(const struct run *r)
{
    for (uint32_t a = 0; a < r->ranks; a++)
        for (uint32_t b = 0; b < r->ranks; b++) {
            struct hth_seqpar_opts o = {.spec = r->m->spec,
                                        .plan = &r->plan,
                                        .kv_type = r->kv_type,
                                        .spread = r->spread,
                                        .prefix = r->prefix};
            struct hth_seqpar_traffic t;

            hth_seqpar_traffic(&o, a, b, &t);
            cr_assert_eq(t.block_bytes,
                         hth_local_peers_bytes(r->peers, a, b, HTH_PEER_BLOCK));
            cr_assert_eq(t.prefix_bytes, hth_local_peers_bytes(
                                             r->peers, a, b, HTH_PEER_PREFIX));
            cr_assert_eq(t.repair_bytes, hth_local_peers_bytes(
                                             r->peers, a, b, HTH_PEER_REPAIR));
            cr_assert_eq(
                0u, hth_local_peers_bytes(r->peers, a, b, HTH_PEER_CREDIT));
        }
}

struct sum {
    double hidden, kv;
};

/* One spread run against one rank that does everything. */
static void compare(struct run *r, double bound)
{
    struct run one = *r;
    double scale = 0, diff = 0, kv;

    one.mode = HTH_PREFILL_TP;
    one.ranks = 1;
    one.shares[0] = 1;
    run_all(&one);
    run_all(r);
    for (uint32_t i = 0; i < r->m->spec->dim; i++) {
        scale = fmax(scale, fabs(one.hidden[i]));
        diff = fmax(diff, fabs(one.hidden[i] - r->hidden[i]));
    }
    kv = kv_difference(r, &one);
    cr_assert_leq(diff, bound * fmax(1, scale), "%s %u ranks %u tokens: %g",
                  hth_prefill_mode_text(r->mode), r->ranks, r->count, diff);
    cr_assert_leq(kv, bound * 4, "%s %u ranks %u tokens: cache %g",
                  hth_prefill_mode_text(r->mode), r->ranks, r->count, kv);
    cr_assert_eq(
        memcmp(one.tokens, r->tokens, (r->prefix + r->count + r->greedy) * 4),
        0, "%s %u ranks: other tokens", hth_prefill_mode_text(r->mode),
        r->ranks);
    check_bytes(r);
    free_run(&one);
    free_run(r);
}

static void all_modes(const struct model *m, const struct run *like,
                      double bound)
{
    for (uint32_t mode = HTH_PREFILL_RING; mode < HTH_PREFILL_AUTO; mode++) {
        struct run *r = malloc(sizeof *r);

        *r = *like;
        r->m = m;
        r->mode = mode;
        compare(r, bound);
        free(r);
    }
}

static const struct run even = {.weights = {1, 1, 1, 1},
                                .shares = {1, 1, 1, 1},
                                .kv_type = HTH_F32,
                                .threads = 1,
                                .greedy = 4};

Test(seqpar, grouped_heads_on_2_3_4_ranks)
{
    struct model m;

    open_synth(&m, "d=128,layers=4,heads=4,kv=2,ff=256,vocab=300");
    for (uint32_t p = 2; p <= 4; p++) {
        struct run r = even;

        r.ranks = p;
        r.count = 131;
        all_modes(&m, &r, 1e-4);
    }
    close_model(&m);
}

Test(seqpar, every_head_its_own_keys)
{
    struct run r = even;
    struct model m;

    open_synth(&m, "d=96,layers=3,heads=6,ff=192,vocab=288");
    r.ranks = 3;
    r.count = 100;
    r.threads = 2;
    all_modes(&m, &r, 1e-4);
    close_model(&m);
}

Test(seqpar, longer_than_a_piece)
{
    struct run r = even;
    struct model m;

    open_synth(&m, "d=64,layers=3,heads=4,kv=2,ff=96,vocab=288");
    r.ranks = 2;
    r.count = 1100;
    r.weights[0] = 1.7;
    all_modes(&m, &r, 1e-4);
    close_model(&m);
}

/* Pieces that are here already are attended to together, some at a time. */
Test(seqpar, longer_than_some_pieces)
{
    struct run r = even;
    struct model m;

    open_synth(&m, "d=64,layers=2,heads=2,kv=1,ff=64,vocab=288");
    r.ranks = 2;
    r.count = 2900;
    r.greedy = 1;
    all_modes(&m, &r, 1e-4);
    close_model(&m);
}

Test(seqpar, unequal_and_empty_shares)
{
    struct run r = even;
    struct model m;

    open_synth(&m, "d=128,layers=5,heads=4,kv=2,ff=256,vocab=300");
    r.ranks = 4;
    r.count = 97;
    memcpy(r.weights, (double[]){0.2, 3, 0, 1}, 4 * sizeof(double));
    memcpy(r.shares, (double[]){1, 0, 2, 1}, 4 * sizeof(double));
    all_modes(&m, &r, 1e-4);
    r.count = 3;
    all_modes(&m, &r, 1e-4);
    r.count = 1;
    all_modes(&m, &r, 1e-4);
    close_model(&m);
}

Test(seqpar, a_cached_prefix_is_seen)
{
    struct run r = even;
    struct model m;

    open_synth(&m, "d=128,layers=4,heads=4,kv=2,ff=256,vocab=300");
    r.ranks = 3;
    r.count = 75;
    r.prefix = 310;
    memcpy(r.shares, (double[]){1, 1, 2}, 3 * sizeof(double));
    all_modes(&m, &r, 1e-4);
    close_model(&m);
}

Test(seqpar, half_precision_cache)
{
    struct run r = even;
    struct model m;

    open_synth(&m, "d=128,layers=4,heads=4,kv=2,ff=256,vocab=300");
    r.ranks = 3;
    r.count = 120;
    r.kv_type = HTH_F16;
    r.prefix = 33;
    all_modes(&m, &r, 1e-3);
    close_model(&m);
}

/* A number on the edge of a step may fall to either side, which is a step of
 * 1/127 of the largest of its 32: in all, not much more than that. */
Test(seqpar, eight_bit_cache)
{
    struct run r = even;
    struct model m;

    open_synth(&m, "d=128,layers=4,heads=4,kv=2,ff=256,vocab=300");
    r.ranks = 3;
    r.count = 120;
    r.kv_type = HTH_Q8_0;
    r.prefix = 33;
    all_modes(&m, &r, 2.0 / 127);
    close_model(&m);
}

/* A trained model, and what it says next. Its weights are not quantised: with
 * 8-bit activations, where a sum is on the edge of a step, another order of
 * the same sums moves it by one. */
Test(seqpar, the_next_64_tokens_are_the_same)
{
    struct run r = even;
    struct model m;

    if (access("../shared/models/tale-f16.gguf", R_OK) != 0)
        cr_skip_test("SKIPPED: no ../shared/models");
    open_model(&m, "../shared/models/tale-f16.gguf");
    r.ranks = 3;
    r.count = 150;
    r.greedy = GREEDY_MAX;
    all_modes(&m, &r, 1e-3);
    close_model(&m);
}

/* ---- waiting ----------------------------------------------------------------
 */

static void *cancel_soon(void *arg)
{
    usleep(20000);
    hth_local_peers_cancel(arg);
    return NULL;
}

/* A rank whose peers never say anything ends when the work is cancelled, and
 * leaves nothing behind (ASan). */
Test(seqpar, cancelling_ends_the_wait)
{
    struct hth_plan plan = {0}, one = {0};
    struct hth_local_peers *peers;
    struct hth_shape shape;
    struct hth_seqpar *s;
    struct hth_err err;
    struct bound whole, decode;
    struct model m;
    pthread_t t;
    float x[64 * 128];

    open_synth(&m, "d=128,layers=4,heads=4,kv=2,ff=256,vocab=300");
    hth_spec_shape(m.spec, HTH_F32, &shape);
    cr_assert_eq(hth_plan_make(&shape, even.shares, 2, &plan, &err), 0);
    cr_assert_eq(hth_plan_make(&shape, even.shares, 1, &one, &err), 0);
    bind_all(&decode, &m,
             &(struct hth_forward_opts){.spec = m.spec,
                                        .plan = &plan,
                                        .rank = 1,
                                        .rows_max = ROWS_MAX,
                                        .ctx_max = 256});
    bind_all(&whole, &m,
             &(struct hth_forward_opts){.spec = m.spec,
                                        .plan = &one,
                                        .rows_max = ROWS_MAX,
                                        .ctx_max = 256});
    cr_assert_eq(hth_local_peers_open(&peers, 2), 0);
    cr_assert_eq(hth_kv_reserve(hth_forward_kv(decode.f), SEQ, 90, &err), 0);
    for (uint32_t i = 0; i < 64 * 128; i++)
        x[i] = (float)(i % 17) - 8;
    {
        struct hth_seqpar_opts o = {.spec = m.spec,
                                    .plan = &plan,
                                    .rank = 1,
                                    .kv_type = HTH_F32,
                                    .rows_max = ROWS_MAX,
                                    .whole = whole.f,
                                    .kv = hth_forward_kv(decode.f),
                                    .peers = hth_local_peers_rank(peers, 1),
                                    .seq = SEQ};

        cr_assert_eq(
            hth_spread_make(&o.spread, HTH_PREFILL_KVR, even.weights, 2, 90),
            0);
        cr_assert_eq(hth_seqpar_open(&s, &o, &err), 0, "%s", err.text);
        pthread_create(&t, NULL, cancel_soon, peers);
        cr_assert_eq(hth_seqpar_run(s, x, &err), HTH_ECANCELLED);
        o.peers->drop(o.peers->ctx);
        hth_seqpar_close(s);
    }
    pthread_join(t, NULL);
    hth_local_peers_close(peers);
    unbind_all(&whole);
    unbind_all(&decode);
    close_model(&m);
}
