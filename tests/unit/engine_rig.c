/* engine_rig.c - see engine_rig.h. */
#include "engine_rig.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/type.h"
#include "model/lora.h"
#include "net_cluster.h"
#include "support.h"

static int source(void *ctx, uint32_t index, const struct hth_block *piece,
                  void *dst, struct hth_err *err)
{
    struct member *m = ctx;

    (void)index;
    return hth_block_read(m->g, &m->session.spec, piece,
                          (struct hth_read){0, dst, piece->bytes}, err);
}

const char *rig_loras[RIG_LORAS_MAX];

static struct hth_adapter_slice lora_slice(const struct hth_session *s,
                                           const char *path)
{
    struct hth_lora_place at = {&s->spec, &s->plan, s->rank};
    struct hth_adapter_slice slice;
    struct hth_lora_file *f;
    struct hth_err err;

    cr_assert_eq(hth_lora_file_open(&f, path, &s->spec, &err), 0, "%s",
                 err.text);
    slice.bytes = hth_lora_slice_bytes(f, &at);
    slice.data = hth_mem_alloc(slice.bytes);
    cr_assert_eq(hth_lora_slice(f, &at, slice.data, &err), 0, "%s", err.text);
    hth_lora_file_close(f);
    return slice;
}

static void *member_main(void *arg)
{
    struct member *m = arg;
    struct hth_rank *rank;
    struct hth_err err;
    struct hth_rank_opts o = {.session = &m->session,
                              .threads = 1,
                              .source = {m, source},
                              .whole = {m, source},
                              .kv_dir = rig_opts.kv_dir};

    cr_assert_eq(hth_rank_open(&rank, &o, &err), 0, "%s", err.text);
    for (uint32_t i = 0; i < RIG_LORAS_MAX && rig_loras[i] != NULL; i++)
        cr_assert_eq(hth_adapters_put(hth_rank_adapters(rank), i,
                                      lora_slice(&m->session, rig_loras[i]),
                                      &err),
                     0, "%s", err.text);
    m->status = hth_rank_serve(rank, m->link, &err);
    hth_rank_close(rank);
    hth_link_close(m->link);
    return NULL;
}

struct hth_engine_opts rig_opts = {.threads = 2};
uint32_t rig_prefill;
uint32_t rig_rows_max = 16;

static void on_lost(void *ctx, uint32_t rank, const struct hth_err *err)
{
    struct rig *r = ctx;

    r->lost_rank = rank;
    r->lost = *err;
}

void rig_session(struct rig *r, struct hth_session *s, const double *shares)
{
    struct hth_shape shape;
    struct hth_err err;

    cr_assert_eq(hth_spec_read(&s->spec, r->g, &err), 0, "%s", err.text);
    s->id = 1;
    s->ctx_max = 256;
    s->kv_positions_max = 512;
    s->rows_max = rig_rows_max;
    s->kv_type = HTH_F32;
    s->wire_type = HTH_WIRE_F32;
    s->prefill = rig_prefill;
    s->lora_bytes = rig_loras[0] != NULL ? 16u << 20 : 0;
    hth_spec_shape(&s->spec, s->kv_type, &shape);
    cr_assert_eq(hth_plan_make(&shape, shares, r->ranks, &s->plan, &err), 0);
}

void rig_attach(struct rig *r, const struct hth_session *s)
{
    struct hth_link *links[8] = {NULL};
    struct hth_err err;

    for (uint32_t i = 1; i < r->ranks; i++) {
        struct hth_link *pair[2];

        tnet_raw_pair(HTH_CIPHER_AES128_GCM, pair);
        links[i] = pair[0];
        r->m[i] = (struct member){.session = *s, .g = r->g, .link = pair[1]};
        r->m[i].session.rank = i;
        pthread_create(&r->m[i].thread, NULL, member_main, &r->m[i]);
    }
    cr_assert_eq(hth_engine_attach(r->e, links, r->ranks, &err), 0, "%s",
                 err.text);
}

void rig_join(struct rig *r)
{
    for (uint32_t i = 1; i < r->ranks; i++)
        pthread_join(r->m[i].thread, NULL);
}

void rig_open(struct rig *r, const char *model, const double *shares,
              uint32_t ranks)
{
    struct hth_session *s = calloc(1, sizeof *s);
    struct hth_engine_opts o = rig_opts;
    char path[8192];
    struct hth_err err;

    if (golden_dir() == NULL)
        cr_skip_test("SKIPPED: no golden vectors (set HEARTH_GOLDEN)");
    memset(r, 0, sizeof *r);
    r->ranks = ranks;
    snprintf(path, sizeof path, "%s", golden_path(model, ".gguf"));
    cr_assert_eq(hth_gguf_open(&r->g, path, &err), 0, "%s", err.text);
    cr_assert_eq(hth_tokenizer_open(&r->tokenizer, r->g, &err), 0);
    o.gguf = r->g;
    o.lost = on_lost;
    o.ctx = r;
    o.tokenizer = r->tokenizer;
    cr_assert_eq(hth_engine_open(&r->e, &o, &err), 0);
    rig_session(r, s, shares);
    cr_assert_eq(hth_engine_load(r->e, s, &err), 0, "%s", err.text);
    for (uint32_t i = 0; i < RIG_LORAS_MAX && rig_loras[i] != NULL; i++)
        cr_assert_eq(
            hth_engine_lora_put(r->e, i, lora_slice(s, rig_loras[i]), &err), 0,
            "%s", err.text);
    rig_attach(r, s);
    free(s);
}

void rig_close(struct rig *r)
{
    hth_engine_close(r->e);
    rig_join(r);
    hth_tokenizer_close(r->tokenizer);
    hth_gguf_close(r->g);
}

static bool on_token(void *ctx, uint32_t id)
{
    struct answer *a = ctx;
    bool more;

    pthread_mutex_lock(&a->lock);
    if (a->n < TOKENS_MAX)
        a->ids[a->n++] = id;
    more = a->stop_after == 0 || a->n < a->stop_after;
    pthread_cond_broadcast(&a->done_cond);
    pthread_mutex_unlock(&a->lock);
    return more;
}

static void on_end(void *ctx, int status, const struct hth_err *err,
                   const struct hth_request_stats *stats)
{
    struct answer *a = ctx;

    pthread_mutex_lock(&a->lock);
    cr_assert_not(a->done);
    a->done = true;
    a->status = status;
    a->err = *err;
    a->stats = *stats;
    pthread_cond_broadcast(&a->done_cond);
    pthread_mutex_unlock(&a->lock);
}

void answer_init(struct answer *a)
{
    memset(a, 0, sizeof *a);
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->done_cond, NULL);
}

struct hth_request answer_request(struct answer *a, const uint32_t *tokens,
                                  uint32_t count, uint32_t generate)
{
    struct hth_request q = {.tokens = tokens,
                            .count = count,
                            .generate_max = generate,
                            .ignore_end = true,
                            .on_token = on_token,
                            .on_end = on_end,
                            .ctx = a};

    hth_sampling_default(&q.sampling);
    q.sampling.temperature = 0;
    return q;
}

uint64_t rig_submit(struct rig *r, const struct hth_request *q)
{
    struct hth_err err;
    uint64_t id;

    cr_assert_eq(hth_engine_submit(r->e, q, &id, &err), 0, "%s", err.text);
    return id;
}

void answer_wait(struct answer *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->done)
        pthread_cond_wait(&a->done_cond, &a->lock);
    pthread_mutex_unlock(&a->lock);
}

void answer_wait_tokens(struct answer *a, uint32_t n)
{
    pthread_mutex_lock(&a->lock);
    while (!a->done && a->n < n)
        pthread_cond_wait(&a->done_cond, &a->lock);
    pthread_mutex_unlock(&a->lock);
}
