/* forward_bench.c - one rank alone, without processes or links: tokens per
 * second of prefill and decode, for work on the forward pass.
 *   forward_bench MODEL.gguf THREADS PROMPT GENERATE [REPEAT] */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/ops.h"
#include "model/embed.h"
#include "model/forward.h"

struct bench {
    struct hth_spec spec;
    struct hth_plan plan;
    struct hth_gguf *g;
    struct hth_forward *f;
    struct hth_embed *embed;
    float *x, *logits;
};

static void must(int rc, const struct hth_err *err)
{
    if (rc == HTH_OK)
        return;
    fprintf(stderr, "forward_bench: %s\n", err->text);
    exit(1);
}

static void load(struct bench *b, const char *path, uint32_t threads)
{
    struct hth_err err = {0};
    struct hth_shape shape;
    struct hth_pool *pool;
    double whole = 1;
    struct hth_forward_opts o = {.spec = &b->spec,
                                 .plan = &b->plan,
                                 .rows_max = HTH_STEP_ROWS_MAX,
                                 .kv_type = HTH_F16,
                                 .ctx_max = 65536};

    must(hth_isa_init(&err), &err);
    must(hth_gguf_open(&b->g, path, &err), &err);
    must(hth_spec_read(&b->spec, b->g, &err), &err);
    hth_spec_shape(&b->spec, HTH_F16, &shape);
    must(hth_plan_make(&shape, &whole, 1, &b->plan, &err), &err);
    must(hth_pool_start(&pool, threads, false, &err), &err);
    o.pool = pool;
    must(hth_forward_open(&b->f, &o, &err), &err);
    must(hth_embed_open(&b->embed, b->g, &b->spec, &err), &err);
    for (uint32_t i = 0; i < hth_shard_blocks(&b->spec); i++) {
        struct hth_block block;
        void *data;

        hth_shard_block(&b->spec, &b->plan, 0, i, &block);
        data = hth_mem_alloc(block.bytes);
        must(hth_block_read(b->g, &b->spec, &block,
                            (struct hth_read){0, data, block.bytes}, &err),
             &err);
        must(hth_block_pack(pool, &block, data, &err), &err);
        hth_forward_bind(b->f, i, data);
    }
    b->x = hth_mem_alloc((size_t)HTH_STEP_ROWS_MAX * b->spec.dim * 4);
    b->logits = hth_mem_alloc((size_t)b->spec.vocab * 4);
}

static void rows(struct bench *b, uint32_t pos0, uint32_t n)
{
    uint32_t seq[HTH_STEP_ROWS_MAX] = {0}, pos[HTH_STEP_ROWS_MAX];
    struct hth_batch batch = {.rows = n, .seq = seq, .pos = pos, .x = b->x};
    struct hth_err err = {0};

    for (uint32_t i = 0; i < n; i++) {
        pos[i] = pos0 + i;
        must(hth_embed_row(b->embed, (pos[i] * 7919u) % b->spec.vocab,
                           b->x + (size_t)i * b->spec.dim, &err),
             &err);
    }
    must(hth_kv_reserve(hth_forward_kv(b->f), 0, pos0 + n, &err), &err);
    must(hth_forward_step(b->f, &batch, &err), &err);
    must(hth_forward_logits(b->f, b->x + (size_t)(n - 1) * b->spec.dim, 1,
                            b->logits, &err),
         &err);
}

int main(int argc, char **argv)
{
    static struct bench b;
    uint32_t threads = argc > 2 ? (uint32_t)strtoul(argv[2], NULL, 10) : 1;
    uint32_t prompt = argc > 3 ? (uint32_t)strtoul(argv[3], NULL, 10) : 256;
    uint32_t gen = argc > 4 ? (uint32_t)strtoul(argv[4], NULL, 10) : 32;
    uint32_t repeat = argc > 5 ? (uint32_t)strtoul(argv[5], NULL, 10) : 3;
    uint32_t chunk = argc > 6 ? (uint32_t)strtoul(argv[6], NULL, 10) : 128;

    if (argc < 2 || threads == 0 || repeat == 0 || chunk == 0 ||
        chunk > HTH_STEP_ROWS_MAX)
        return fprintf(stderr, "usage: forward_bench MODEL [THREADS PROMPT "
                               "GENERATE REPEAT CHUNK]\n"),
               2;
    load(&b, argv[1], threads);
    for (uint32_t i = 0; i < repeat; i++) {
        uint64_t t0 = hth_now_ns(), t1, t2;

        for (uint32_t p = 0; p < prompt; p += chunk)
            rows(&b, p, prompt - p < chunk ? prompt - p : chunk);
        t1 = hth_now_ns();
        for (uint32_t p = 0; p < gen; p++)
            rows(&b, prompt + p, 1);
        t2 = hth_now_ns();
        printf("%s threads %u: prefill %.1f tokens/s, decode %.2f tokens/s\n",
               hth_isa_name(), threads, prompt / ((double)(t1 - t0) / 1e9),
               gen / ((double)(t2 - t1) / 1e9));
        hth_kv_truncate(hth_forward_kv(b.f), 0, 0);
    }
    return 0;
}
