/* whole.c - see whole.h. Two slots, a reader that fills the one that is free.
 */
#include "worker/whole.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/attn.h"

#define SLOTS 2u
#define NO_LAYER UINT32_MAX

struct slot {
    void *block[2];
    uint32_t layer; /* that is in it; NO_LAYER: none */
};

struct hth_whole {
    struct hth_whole_opts o;
    struct hth_plan plan;
    struct hth_forward *forward;
    void **block; /* [blocks] where all are in memory, else NULL */
    uint64_t memory_bytes;
    uint32_t bound; /* layer whose blocks the forward has */

    bool streams, started;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t changed;
    struct slot slot[SLOTS];
    uint32_t want; /* first layer that must be there */
    bool stop;
    struct hth_err err;
    uint64_t read_bytes, read_ns;
};

/* ---- sizes ----------------------------------------------------------------
 */

static void plan_of_one(const struct hth_spec *spec, struct hth_plan *out)
{
    struct hth_shape shape;

    hth_spec_shape(spec, HTH_F32, &shape);
    HTH_ASSERT(hth_plan_make(&shape, &(double){1}, 1, out, NULL) == HTH_OK);
}

uint32_t hth_whole_blocks(const struct hth_spec *spec)
{
    return 2 * spec->layers;
}

void hth_whole_block(const struct hth_spec *spec, uint32_t index,
                     struct hth_block *out)
{
    struct hth_plan plan;

    plan_of_one(spec, &plan);
    hth_shard_block(spec, &plan, 0, index, out);
}

uint64_t hth_whole_block_bytes(const struct hth_spec *spec, uint32_t index)
{
    struct hth_block b;

    hth_whole_block(spec, index, &b);
    return b.bytes;
}

uint64_t hth_whole_bytes(const struct hth_spec *spec)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < hth_whole_blocks(spec); i++)
        sum += hth_whole_block_bytes(spec, i);
    return sum;
}

static uint64_t largest(const struct hth_spec *spec, uint32_t half)
{
    uint64_t most = 0;

    for (uint32_t l = 0; l < spec->layers; l++) {
        uint64_t n = hth_whole_block_bytes(spec, 2 * l + half);

        most = n > most ? n : most;
    }
    return most;
}

/* ---- reading ---------------------------------------------------------------
 */

static uint64_t block_bytes(const struct hth_whole *w, uint32_t index)
{
    struct hth_block b;

    hth_shard_block(w->o.spec, &w->plan, 0, index, &b);
    return b.bytes;
}

/* A block in the layout of the kernels. */
static int read_block(struct hth_whole *w, uint32_t index, void *dst,
                      struct hth_err *err)
{
    struct hth_block b;
    int rc;

    hth_shard_block(w->o.spec, &w->plan, 0, index, &b);
    rc = w->o.source(w->o.source_ctx, index, dst, b.bytes, err);
    return rc == HTH_OK ? hth_block_pack(NULL, &b, dst, err) : rc;
}

static int read_layer(struct hth_whole *w, uint32_t layer, void *const block[2],
                      struct hth_err *err)
{
    int rc = HTH_OK;

    for (uint32_t half = 0; half < 2 && rc == HTH_OK; half++)
        rc = read_block(w, 2 * layer + half, block[half], err);
    return rc;
}

static struct slot *slot_with(struct hth_whole *w, uint32_t layer)
{
    for (uint32_t i = 0; i < SLOTS; i++)
        if (w->slot[i].layer == layer)
            return &w->slot[i];
    return NULL;
}

/* Is it the layer that is computed, or the next one? */
static bool needed(const struct hth_whole *w, uint32_t layer)
{
    for (uint32_t i = 0; i < SLOTS; i++)
        if (layer == (w->want + i) % w->o.spec->layers)
            return true;
    return false;
}

/* The layer that the reader should fetch next, and where to; NULL: none. */
static struct slot *free_slot(struct hth_whole *w, uint32_t *layer)
{
    for (uint32_t i = 0; i < SLOTS; i++) {
        *layer = (w->want + i) % w->o.spec->layers;
        if (slot_with(w, *layer) != NULL)
            continue;
        for (uint32_t k = 0; k < SLOTS; k++)
            if (!needed(w, w->slot[k].layer))
                return &w->slot[k];
    }
    return NULL;
}

static void *reader_main(void *arg)
{
    struct hth_whole *w = arg;

    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        struct hth_err err = {0};
        uint32_t layer;
        struct slot *s = w->err.status == HTH_OK ? free_slot(w, &layer) : NULL;
        uint64_t t0;

        if (s == NULL) {
            pthread_cond_wait(&w->changed, &w->lock);
            continue;
        }
        s->layer = NO_LAYER;
        pthread_mutex_unlock(&w->lock);
        t0 = hth_now_ns();
        err.status = read_layer(w, layer, s->block, &err);
        t0 = hth_now_ns() - t0;
        pthread_mutex_lock(&w->lock);
        if (err.status != HTH_OK)
            w->err = err;
        else
            s->layer = layer;
        w->read_ns += t0;
        w->read_bytes +=
            block_bytes(w, 2 * layer) + block_bytes(w, 2 * layer + 1);
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* An error is told once; the next one who asks has it tried again. */
static int take_streamed(struct hth_whole *w, uint32_t layer,
                         struct hth_err *err)
{
    struct slot *s;
    int rc = HTH_OK;

    pthread_mutex_lock(&w->lock);
    w->want = layer;
    pthread_cond_broadcast(&w->changed);
    while ((s = slot_with(w, layer)) == NULL && w->err.status == HTH_OK)
        pthread_cond_wait(&w->changed, &w->lock);
    if (s == NULL) {
        rc = w->err.status;
        if (err != NULL)
            *err = w->err;
        w->err = (struct hth_err){0};
    }
    pthread_mutex_unlock(&w->lock);
    if (rc != HTH_OK)
        return rc;
    hth_forward_bind(w->forward, 2 * layer, s->block[0]);
    hth_forward_bind(w->forward, 2 * layer + 1, s->block[1]);
    return HTH_OK;
}

int hth_whole_layer(void *whole, uint32_t layer, struct hth_err *err)
{
    struct hth_whole *w = whole;

    return w->streams ? take_streamed(w, layer, err) : HTH_OK;
}

/* ---- life -------------------------------------------------------------------
 */

static int load_all(struct hth_whole *w, struct hth_err *err)
{
    uint32_t n = hth_whole_blocks(w->o.spec);

    w->block = calloc(n, sizeof *w->block);
    if (w->block == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for whole layers");
    for (uint32_t i = 0; i < n; i++) {
        uint64_t bytes = block_bytes(w, i);
        int rc;

        w->block[i] = hth_mem_alloc(bytes);
        if (w->block[i] == NULL)
            return hth_fail(err, HTH_ENOMEM, "no memory for whole layers");
        rc = read_block(w, i, w->block[i], err);
        if (rc != HTH_OK)
            return rc;
        hth_forward_bind(w->forward, i, w->block[i]);
        w->memory_bytes += bytes;
    }
    return HTH_OK;
}

static int start_stream(struct hth_whole *w, struct hth_err *err)
{
    uint64_t half[2] = {largest(w->o.spec, 0), largest(w->o.spec, 1)};
    uint64_t need = SLOTS * (half[0] + half[1]);

    if (w->o.budget_bytes < need)
        return hth_fail(err, HTH_EOVERFLOW,
                        "two whole layers need %llu MiB and %llu MiB are left "
                        "of the budget; raise --memory, or use --prefill tp",
                        (unsigned long long)(need >> 20) + 1,
                        (unsigned long long)(w->o.budget_bytes >> 20));
    w->streams = true;
    w->memory_bytes = need;
    for (uint32_t i = 0; i < SLOTS; i++) {
        w->slot[i].layer = NO_LAYER;
        for (uint32_t h = 0; h < 2; h++)
            if ((w->slot[i].block[h] = hth_mem_alloc(half[h])) == NULL)
                return hth_fail(err, HTH_ENOMEM, "no memory for whole layers");
    }
    w->started = pthread_create(&w->thread, NULL, reader_main, w) == 0;
    return w->started ? HTH_OK
                      : hth_fail(err, HTH_ENOMEM, "cannot start a thread");
}

int hth_whole_open(struct hth_whole **out, const struct hth_whole_opts *o,
                   struct hth_err *err)
{
    struct hth_whole *w = calloc(1, sizeof *w);
    struct hth_forward_opts f;
    int rc;

    if (w == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for whole layers");
    w->o = *o;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    plan_of_one(o->spec, &w->plan);
    f = (struct hth_forward_opts){.spec = o->spec,
                                  .plan = &w->plan,
                                  .rows_max = o->rows_max,
                                  .kv_type = o->kv_type,
                                  .ctx_max = HTH_CTX_MAX,
                                  .pool = o->pool};
    rc = hth_forward_open(&w->forward, &f, err);
    if (rc == HTH_OK)
        rc = o->budget_bytes == 0 || hth_whole_bytes(o->spec) <= o->budget_bytes
                 ? load_all(w, err)
                 : start_stream(w, err);
    if (rc != HTH_OK) {
        hth_whole_close(w);
        return rc;
    }
    *out = w;
    return HTH_OK;
}

void hth_whole_close(struct hth_whole *w)
{
    if (w == NULL)
        return;
    if (w->started) {
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        pthread_cond_broadcast(&w->changed);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
    }
    hth_forward_close(w->forward);
    for (uint32_t i = 0; w->block != NULL && i < hth_whole_blocks(w->o.spec);
         i++)
        hth_mem_free(w->block[i]);
    free(w->block);
    for (uint32_t i = 0; i < SLOTS; i++)
        for (uint32_t h = 0; h < 2; h++)
            hth_mem_free(w->slot[i].block[h]);
    pthread_cond_destroy(&w->changed);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

struct hth_forward *hth_whole_forward(struct hth_whole *w)
{
    return w->forward;
}

bool hth_whole_streams(const struct hth_whole *w)
{
    return w->streams;
}

uint64_t hth_whole_memory_bytes(const struct hth_whole *w)
{
    return w->memory_bytes;
}

/* ---- rates ------------------------------------------------------------------
 */

#define MEASURE_ROWS 256u
#define MEASURE_FEW 16u
#define MEASURE_KEYS 512u
#define MEASURE_ROUNDS 3u

/* Products of some rows through a layer; the best of some rounds. Each round
 * takes another layer where all are in memory: a prompt's chunk finds no
 * weights in the processor's caches either. */
static int measure_rows(struct hth_whole *w, uint32_t rows, double *seconds,
                        struct hth_err *err)
{
    const struct hth_spec *s = w->o.spec;
    float *x = hth_mem_alloc((size_t)rows * s->dim * sizeof *x);
    uint32_t pos[MEASURE_ROWS];
    struct hth_batch b = {.rows = rows, .pos = pos, .x = x};
    int rc = x == NULL ? hth_fail(err, HTH_ENOMEM, "no memory") : HTH_OK;

    *seconds = 0;
    for (uint32_t i = 0; i < rows; i++)
        pos[i] = i;
    for (uint32_t round = 0; round < MEASURE_ROUNDS && rc == HTH_OK; round++) {
        uint32_t layer = w->streams ? 0 : (rows + round) % s->layers;
        struct hth_qkv qkv;
        double took;
        uint64_t t0;

        for (size_t i = 0; i < (size_t)rows * s->dim; i++)
            x[i] = (float)(i % 251) / 125 - 1;
        t0 = hth_now_ns();
        rc = hth_forward_project(w->forward, layer, &b, &qkv, err);
        if (rc == HTH_OK)
            rc = hth_forward_conclude(w->forward, layer, &b, qkv.q, err);
        took = (double)(hth_now_ns() - t0) * 1e-9;
        if (round == 0 || took < *seconds)
            *seconds = took;
    }
    hth_mem_free(x);
    return rc;
}

/* A straight line through few rows and many. */
static int measure_layer(struct hth_whole *w, struct hth_whole_rates *out,
                         struct hth_err *err)
{
    uint32_t rows = w->o.rows_max < MEASURE_ROWS ? w->o.rows_max : MEASURE_ROWS;
    double few = 0, many = 0;
    int rc = measure_rows(w, rows, &many, err);

    out->row_s = many / rows;
    if (rc != HTH_OK || rows <= MEASURE_FEW)
        return rc;
    rc = measure_rows(w, MEASURE_FEW, &few, err);
    if (rc == HTH_OK && few < many) {
        double row = (many - few) / (rows - MEASURE_FEW);

        if (few > MEASURE_FEW * row) {
            out->row_s = row;
            out->layer_s = few - MEASURE_FEW * row;
        }
    }
    return rc;
}

struct pairs_job {
    struct hth_attn_job a;
    struct hth_attn_state state;
    size_t scratch_bytes;
    uint8_t *scratch;
    uint32_t heads;
};

static void pairs_thread(void *ctx, uint32_t thread, uint32_t threads)
{
    const struct pairs_job *j = ctx;
    size_t queries = (size_t)j->a.queries.rows * j->a.queries.heads;

    for (uint32_t h = thread; h < j->heads; h += threads) {
        struct hth_attn_job a = j->a;

        a.state = hth_attn_state_at(&j->state, h * queries, a.head_dim);
        a.scratch = j->scratch + thread * j->scratch_bytes;
        hth_attn_fold(&a);
    }
}

/* Some tiles of queries against some blocks of keys, on all threads. */
static int measure_pairs(struct hth_whole *w, double *pair_s,
                         struct hth_err *err)
{
    const struct hth_spec *s = w->o.spec;
    uint32_t group = s->heads / s->kv_heads, rows = 32;
    uint32_t heads = s->kv_heads, threads = hth_pool_threads(w->o.pool);
    size_t n = (size_t)rows * group * heads, dim = s->head_dim;
    size_t kb = hth_attn_k_bytes(w->o.kv_type, s->head_dim);
    size_t vb = hth_attn_v_bytes(w->o.kv_type, s->head_dim);
    size_t adim = hth_attn_dim(s->head_dim);
    struct hth_attn_keys keys[MEASURE_KEYS / HTH_ATTN_KEYS];
    uint32_t pos[32];
    struct pairs_job j = {.heads = heads};
    uint8_t *room;

    j.scratch_bytes =
        (hth_attn_scratch_bytes(rows * group, s->head_dim) + 63) & ~(size_t)63;
    room = hth_mem_alloc(kb + vb + rows * group * dim * 4 + n * (2 + adim) * 4 +
                         threads * j.scratch_bytes + 256);
    if (room == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory");
    j.scratch = room;
    j.state.m = (float *)(void *)(room + threads * j.scratch_bytes) +
                rows * group * dim;
    j.state.l = j.state.m + n;
    j.state.acc = j.state.l + n;
    for (uint32_t i = 0; i < MEASURE_KEYS / HTH_ATTN_KEYS; i++)
        keys[i] = (struct hth_attn_keys){
            .k = (uint8_t *)(j.state.acc + n * adim) + 64,
            .v = (uint8_t *)(j.state.acc + n * adim) + 64 + kb,
            .count = HTH_ATTN_KEYS,
            .step = 1};
    for (uint32_t i = 0; i < rows; i++)
        pos[i] = MEASURE_KEYS;
    j.a = (struct hth_attn_job){
        .type = w->o.kv_type,
        .head_dim = s->head_dim,
        .scale = 0.1f,
        .queries = {(float *)(void *)(room + threads * j.scratch_bytes),
                    group * dim, pos, rows, group},
        .keys = keys,
        .blocks = MEASURE_KEYS / HTH_ATTN_KEYS};
    for (uint32_t round = 0; round < MEASURE_ROUNDS; round++) {
        uint64_t t0;

        hth_attn_begin(&j.state, n, s->head_dim);
        t0 = hth_now_ns();
        hth_pool_run(w->o.pool, pairs_thread, &j);
        t0 = hth_now_ns() - t0;
        if (round == 0 || t0 * 1e-9 / (rows * MEASURE_KEYS) < *pair_s)
            *pair_s = t0 * 1e-9 / (rows * MEASURE_KEYS);
    }
    hth_mem_free(room);
    return HTH_OK;
}

int hth_whole_measure(struct hth_whole *w, struct hth_whole_rates *out,
                      struct hth_err *err)
{
    int rc = hth_whole_layer(w, 0, err);

    *out = (struct hth_whole_rates){0};
    if (rc == HTH_OK)
        rc = measure_layer(w, out, err);
    if (rc == HTH_OK)
        rc = measure_pairs(w, &out->pair_s, err);
    out->layer_bytes = (double)hth_whole_bytes(w->o.spec) / w->o.spec->layers;
    pthread_mutex_lock(&w->lock);
    if (w->streams && w->read_ns > 0)
        out->stream_bytes_per_s = w->read_bytes * 1e9 / w->read_ns;
    pthread_mutex_unlock(&w->lock);
    return rc;
}
