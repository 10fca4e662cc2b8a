/* attn_bench.c - attention alone: bytes of cache per second for one new token,
 * and arithmetic per second for a piece of a prompt.
 *   attn_bench THREADS CONTEXT [TYPE [HEADS KV_HEADS HEAD_DIM]]
 * 16 layers, so that the cache of a long context is in memory, not in caches.
 * Each line is the best and the median of several passes over all layers. One
 * thread is timed by its CPU time, since others may want the CPU; more by the
 * clock on the wall. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/rng.h"
#include "kernels/ops.h"
#include "model/attention.h"

enum { LAYERS = 16, PIECE = 128, PASSES = 15, PIECE_PASSES = 5 };

struct setup {
    struct hth_kv_opts kv;
    struct hth_attention_opts o;
    struct hth_share share;
    struct hth_kv *cache;
    struct hth_attention *attention;
    uint32_t context;
    float *q, *out;
};

static void must(int rc, const struct hth_err *err)
{
    if (rc == HTH_OK)
        return;
    fprintf(stderr, "attn_bench: %s\n", err->text);
    exit(1);
}

static uint32_t number(int argc, char **argv, int i, uint32_t otherwise)
{
    return argc > i ? (uint32_t)strtoul(argv[i], NULL, 10) : otherwise;
}

static void read_arguments(struct setup *s, int argc, char **argv)
{
    const struct hth_type_info *type =
        hth_type_by_name(argc > 3 ? argv[3] : "f16");

    if (argc < 3 || type == NULL) {
        fprintf(stderr, "attn_bench THREADS CONTEXT [TYPE [HEADS KV_HEADS "
                        "HEAD_DIM]]\n");
        exit(2);
    }
    s->context = number(argc, argv, 2, 0);
    s->share.heads = number(argc, argv, 4, 32);
    s->share.kvs = number(argc, argv, 5, 8);
    s->o = (struct hth_attention_opts){.share = &s->share,
                                       .group = s->share.heads / s->share.kvs,
                                       .head_dim = number(argc, argv, 6, 64),
                                       .kv_type = type->id,
                                       .rows_max = PIECE};
    s->kv = (struct hth_kv_opts){.layers = LAYERS,
                                 .heads = s->share.kvs,
                                 .head_dim = s->o.head_dim,
                                 .type = type->id,
                                 .ctx_max = s->context};
}

static void fill(struct setup *s)
{
    struct hth_kv_at at;
    struct hth_rng r;
    float x[HTH_HEAD_DIM_MAX * 8];

    hth_rng_init(&r, 1);
    for (uint32_t i = 0; i < HTH_HEAD_DIM_MAX * 8; i++)
        x[i] = hth_rng_normal(&r);
    for (at.layer = 0; at.layer < LAYERS; at.layer++)
        for (at.head = 0; at.head < s->share.kvs; at.head++)
            for (at.pos = 0; at.pos < s->context; at.pos++)
                hth_kv_store(s->cache, 0, &at, x + at.pos % 997,
                             x + at.pos % 1009);
    for (uint32_t i = 0; i < PIECE * s->share.heads * s->o.head_dim; i++)
        s->q[i] = x[i % 2039];
}

static double now_s(const struct setup *s)
{
    bool alone = hth_pool_threads(s->o.pool) == 1;
    struct timespec t;

    clock_gettime(alone ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Seconds of one pass over all layers with `rows` rows at the end, in
 * ascending order. */
static void measure(struct setup *s, uint32_t rows, int passes,
                    double seconds[PASSES])
{
    uint32_t seq[PIECE] = {0}, pos[PIECE];

    for (uint32_t r = 0; r < rows; r++)
        pos[r] = s->context - rows + r;
    for (int pass = -1; pass < passes; pass++) {
        double t0 = now_s(s);

        hth_attention_rows(s->attention, rows, seq, pos);
        for (uint32_t l = 0; l < LAYERS; l++)
            hth_attention_run(s->attention, &(struct hth_attention_layer){
                                                s->cache, l, s->q, s->out});
        if (pass >= 0)
            seconds[pass] = now_s(s) - t0;
    }
    qsort(seconds, (size_t)passes, sizeof *seconds, ascending);
}

int main(int argc, char **argv)
{
    struct setup s = {0};
    struct hth_err err = {0};
    double t[PASSES], bytes, flops;

    read_arguments(&s, argc, argv);
    must(hth_isa_init(&err), &err);
    must(hth_pool_start(&s.o.pool, number(argc, argv, 1, 1), false, &err),
         &err);
    must(hth_kv_open(&s.cache, &s.kv, &err), &err);
    must(hth_kv_reserve(s.cache, 0, s.context, &err), &err);
    must(hth_attention_open(&s.attention, &s.o, &err), &err);
    s.q = hth_mem_alloc(PIECE * s.share.heads * s.o.head_dim * sizeof(float));
    s.out = hth_mem_alloc(PIECE * s.share.heads * s.o.head_dim * sizeof(float));
    fill(&s);
    measure(&s, 1, PASSES, t);
    bytes = (double)hth_kv_row_bytes(s.cache) * 2 * s.share.kvs * s.context *
            LAYERS;
    printf("%s %u threads, decode at %u: best %.2f ms %.1f GB/s, median %.2f "
           "ms %.1f GB/s\n",
           hth_isa_name(), hth_pool_threads(s.o.pool), s.context, t[0] * 1e3,
           bytes / t[0] / 1e9, t[PASSES / 2] * 1e3,
           bytes / t[PASSES / 2] / 1e9);
    if (s.context < PIECE)
        return 0;
    measure(&s, PIECE, PIECE_PASSES, t);
    flops = 4.0 * s.share.heads * s.o.head_dim * PIECE *
            (s.context - PIECE / 2.0) * LAYERS;
    printf("%s %u threads, %d rows at %u: best %.2f ms %.0f GFLOP/s, median "
           "%.2f ms %.0f GFLOP/s\n",
           hth_isa_name(), hth_pool_threads(s.o.pool), PIECE, s.context,
           t[0] * 1e3, flops / t[0] / 1e9, t[PIECE_PASSES / 2] * 1e3,
           flops / t[PIECE_PASSES / 2] / 1e9);
    return 0;
}
