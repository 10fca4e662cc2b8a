/* whole.c - see whole.h. A loader of its own over a plan with one rank, whose
 * pieces are held from the layer's beginning to its end: a layer's rows come
 * in chunks, and each chunk needs all of it. */
#include "worker/whole.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/attn.h"
#include "worker/rank.h"

struct hth_whole {
    struct hth_whole_opts o;
    char *dir; /* o.dir and o.key are these */
    uint8_t *key;
    struct hth_plan plan;
    struct hth_forward *forward;
    struct hth_loader *loader; /* NULL: not begun */
    struct hth_blocks blocks;
    uint64_t budget_bytes; /* of the open loader */
    uint32_t per_layer;    /* pieces */
    uint32_t first, held;  /* pieces [first, held) are held */
    const void **data;     /* [per_layer] of those */
};

/* ---- sizes ----------------------------------------------------------------
 */

/* One rank has everything but the head, which the steps' weights have. */
static void plan_of_one(const struct hth_spec *spec, struct hth_plan *out)
{
    struct hth_shape shape;

    hth_spec_shape(spec, HTH_F32, &shape);
    HTH_ASSERT(hth_plan_make(&shape, &(double){1}, 1, out, NULL) == HTH_OK);
    out->share[0].vocab = 0;
}

void hth_whole_session(const struct hth_session *s, struct hth_session *out)
{
    *out = *s;
    out->rank = 0;
    plan_of_one(&s->spec, &out->plan);
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

/* In whole pages, as pieces take memory. */
static uint64_t layer_bytes(const struct hth_spec *spec,
                            const struct hth_plan *plan, uint32_t layer)
{
    uint64_t sum = 0;

    for (uint32_t i = hth_piece_attn(spec, layer);
         i < hth_piece_attn(spec, layer + 1); i++) {
        struct hth_block b;

        hth_piece(spec, plan, 0, i, &b);
        sum += hth_page_up(b.bytes);
    }
    return sum;
}

uint64_t hth_whole_bytes(const struct hth_spec *spec)
{
    struct hth_plan plan;
    uint64_t sum = 0;

    plan_of_one(spec, &plan);
    for (uint32_t l = 0; l < spec->layers; l++)
        sum += layer_bytes(spec, &plan, l);
    return sum;
}

uint64_t hth_whole_window_bytes(const struct hth_spec *spec, uint32_t layers)
{
    uint64_t most = 0, all = hth_whole_bytes(spec);
    struct hth_plan plan;

    plan_of_one(spec, &plan);
    for (uint32_t l = 0; l < spec->layers; l++) {
        uint64_t n = layer_bytes(spec, &plan, l);

        most = n > most ? n : most;
    }
    most = layers * most + hth_loader_ahead_bytes(layers * most);
    return most < all ? most : all;
}

/* ---- a layer passing by ----------------------------------------------------
 */

static void release_layer(struct hth_whole *w)
{
    const struct hth_blocks *b;

    if (w->loader == NULL)
        return;
    b = hth_loader_blocks(w->loader);
    for (uint32_t i = w->first; i < w->held; i++)
        b->release(b->ctx, i);
    w->held = w->first;
}

/* Hold pieces up to `end`. */
static int hold(struct hth_whole *w, uint32_t end, struct hth_err *err)
{
    const struct hth_blocks *b = hth_loader_blocks(w->loader);

    for (; w->held < end; w->held++) {
        int rc = b->acquire(b->ctx, w->held, &w->data[w->held - w->first], err);

        if (rc != HTH_OK)
            return rc;
    }
    return HTH_OK;
}

/* The forward pass asks for a piece once per chunk of rows. */
static int acquire(void *ctx, uint32_t index, const void **data,
                   struct hth_err *err)
{
    struct hth_whole *w = ctx;
    int rc = HTH_OK;

    HTH_ASSERT(w->loader != NULL && index >= w->first &&
               index < w->first + w->per_layer);
    if (index >= w->held)
        rc = hold(w, w->first + w->per_layer, err);
    *data = w->data[index - w->first];
    return rc;
}

static void release(void *ctx, uint32_t index)
{
    (void)ctx;
    (void)index;
}

int hth_whole_layer(void *whole, uint32_t layer, struct hth_err *err)
{
    struct hth_whole *w = whole;

    HTH_ASSERT(w->loader != NULL);
    release_layer(w);
    w->first = w->held = hth_piece_attn(w->o.spec, layer);
    return hold(w, w->first + 1, err);
}

int hth_whole_warm(struct hth_whole *w, uint32_t layer, struct hth_err *err)
{
    int rc = hth_whole_layer(w, layer, err);

    return rc == HTH_OK ? hold(w, w->first + w->per_layer, err) : rc;
}

/* ---- life -------------------------------------------------------------------
 */

static int open_parts(struct hth_whole *w, struct hth_err *err)
{
    struct hth_forward_opts f = {.spec = w->o.spec,
                                 .plan = &w->plan,
                                 .rows_max = w->o.rows_max,
                                 .kv_type = w->o.kv_type,
                                 .ctx_max = HTH_CTX_MAX,
                                 .pool = w->o.pool};
    int rc;

    w->data = calloc(w->per_layer, sizeof *w->data);
    if (w->o.dir != NULL) {
        size_t n = (size_t)hth_shard_blocks(w->o.spec) * HTH_HASH_BYTES;

        w->o.dir = w->dir = strdup(w->o.dir);
        w->key = malloc(n);
        if (w->key != NULL)
            memcpy(w->key, w->o.key, n);
        w->o.key = w->key;
    }
    if (w->data == NULL || (w->o.dir == NULL) != (w->key == NULL))
        return hth_fail(err, HTH_ENOMEM, "no memory for whole layers");
    rc = hth_forward_open(&w->forward, &f, err);
    if (rc == HTH_OK)
        hth_forward_source(w->forward, &w->blocks);
    return rc;
}

int hth_whole_open(struct hth_whole **out, const struct hth_whole_opts *o,
                   struct hth_err *err)
{
    struct hth_whole *w = calloc(1, sizeof *w);
    int rc;

    if (w == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for whole layers");
    w->o = *o;
    w->blocks = (struct hth_blocks){w, acquire, release, NULL};
    w->per_layer = hth_piece_attn(o->spec, 1);
    plan_of_one(o->spec, &w->plan);
    rc = open_parts(w, err);
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
    hth_whole_end(w);
    hth_forward_close(w->forward);
    free(w->data);
    free(w->dir);
    free(w->key);
    free(w);
}

int hth_whole_begin(struct hth_whole *w, uint64_t budget_bytes,
                    struct hth_err *err)
{
    struct hth_loader_opts o = {.spec = w->o.spec,
                                .plan = &w->plan,
                                .budget_bytes = budget_bytes,
                                .source = w->o.source,
                                .dir = w->o.dir,
                                .key = w->o.key,
                                .layers = true};

    if (w->loader != NULL && w->budget_bytes == budget_bytes)
        return HTH_OK;
    hth_whole_end(w);
    w->budget_bytes = budget_bytes;
    return hth_loader_open(&w->loader, &o, err);
}

void hth_whole_end(struct hth_whole *w)
{
    release_layer(w);
    hth_loader_close(w->loader);
    w->loader = NULL;
    w->first = w->held = 0;
}

struct hth_forward *hth_whole_forward(struct hth_whole *w)
{
    return w->forward;
}

static struct hth_loader_stats stats_of(const struct hth_whole *w)
{
    struct hth_loader_stats s = {0};

    if (w->loader != NULL)
        hth_loader_stats(w->loader, &s);
    return s;
}

bool hth_whole_streams(const struct hth_whole *w)
{
    return stats_of(w).window.ring_bytes > 0;
}

uint64_t hth_whole_memory_peak(const struct hth_whole *w)
{
    return stats_of(w).memory_peak_bytes;
}

uint64_t hth_whole_waited_ns(const struct hth_whole *w)
{
    return stats_of(w).stall_ns;
}

/* ---- rates ------------------------------------------------------------------
 */

#define MEASURE_ROWS 256u
#define MEASURE_FEW 16u
#define MEASURE_KEYS 512u
/* Rounds that count, and how long they go on: longer than a processor's turn,
 * so that of ranks that share cores each sees what is left to it. */
#define MEASURE_ROUNDS 3u
#define MEASURE_ROUNDS_MAX 64u
#define MEASURE_S 0.03

/* What a device can do is its thread's processor time: how the system deals out
 * cores that ranks share in these moments is chance, and a prompt dealt by it
 * would be dealt badly. How much longer it takes by the clock is kept apart. */
struct rounds {
    uint32_t done;
    uint64_t clock0_ns, thread0_ns;
    double clock_s, thread_s;
};

static void begin_round(struct rounds *r)
{
    r->clock0_ns = hth_now_ns();
    r->thread0_ns = hth_thread_ns();
}

/* The first round, which finds everything cold, does not count. Is there
 * another? */
static bool end_round(struct rounds *r)
{
    double clock_s = (double)(hth_now_ns() - r->clock0_ns) * 1e-9;

    if (r->done++ > 0) {
        r->thread_s += (double)(hth_thread_ns() - r->thread0_ns) * 1e-9;
        r->clock_s += clock_s;
    }
    return r->done <= MEASURE_ROUNDS ||
           (r->clock_s < MEASURE_S && r->done <= MEASURE_ROUNDS_MAX);
}

static double mean_of(const struct rounds *r)
{
    return r->done > 1 ? r->thread_s / (r->done - 1) : 0;
}

/* Products of some rows through a layer, the mean of some rounds. Each round
 * takes another layer: a prompt's chunk finds no weights in the processor's
 * caches either. */
static int measure_rows(struct hth_whole *w, uint32_t rows, struct rounds *r,
                        struct hth_err *err)
{
    const struct hth_spec *s = w->o.spec;
    float *x = hth_mem_alloc((size_t)rows * s->dim * sizeof *x);
    uint32_t pos[MEASURE_ROWS];
    struct hth_batch b = {.rows = rows, .pos = pos, .x = x};
    int rc = x == NULL ? hth_fail(err, HTH_ENOMEM, "no memory") : HTH_OK;
    bool more = true;

    for (uint32_t i = 0; i < rows; i++)
        pos[i] = i;
    while (more && rc == HTH_OK) {
        uint32_t layer = (rows + r->done) % s->layers;
        struct hth_qkv qkv;

        for (size_t i = 0; i < (size_t)rows * s->dim; i++)
            x[i] = (float)(i % 251) / 125 - 1;
        rc = hth_whole_warm(w, layer, err);
        begin_round(r);
        if (rc == HTH_OK)
            rc = hth_forward_project(w->forward, layer, &b, &qkv, err);
        if (rc == HTH_OK)
            rc = hth_forward_conclude(w->forward, layer, &b, qkv.q, err);
        more = end_round(r);
    }
    hth_mem_free(x);
    return rc;
}

/* A straight line through few rows and many. */
static int measure_layer(struct hth_whole *w, struct hth_whole_rates *out,
                         struct hth_err *err)
{
    uint32_t rows = w->o.rows_max < MEASURE_ROWS ? w->o.rows_max : MEASURE_ROWS;
    struct rounds all = {0}, some = {0};
    int rc = measure_rows(w, rows, &all, err);
    double few, many = mean_of(&all);

    out->row_s = many / rows;
    out->crowd = all.thread_s > 0 && all.clock_s > all.thread_s
                     ? all.clock_s / all.thread_s
                     : 1;
    if (rc != HTH_OK || rows <= MEASURE_FEW)
        return rc;
    rc = measure_rows(w, MEASURE_FEW, &some, err);
    few = mean_of(&some);
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
    struct rounds r = {0};
    bool more = true;
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
    while (more) {
        hth_attn_begin(&j.state, n, s->head_dim);
        begin_round(&r);
        hth_pool_run(w->o.pool, pairs_thread, &j);
        more = end_round(&r);
    }
    *pair_s = mean_of(&r) / (rows * MEASURE_KEYS);
    hth_mem_free(room);
    return HTH_OK;
}

/* How fast layers come: as read from packed files, or, before there are any, as
 * the first layer came. */
static double stream_rate(const struct hth_whole *w, double first_s)
{
    struct hth_loader_stats s = stats_of(w);

    if (s.window.ring_bytes == 0)
        return 0;
    if (s.read_ns > 0)
        return (double)s.read_bytes * 1e9 / (double)s.read_ns;
    return (double)layer_bytes(w->o.spec, &w->plan, 0) / first_s;
}

int hth_whole_measure(struct hth_whole *w, struct hth_whole_rates *out,
                      struct hth_err *err)
{
    uint64_t t0 = hth_now_ns();
    int rc = hth_whole_warm(w, 0, err);
    double first_s;

    *out = (struct hth_whole_rates){0};
    first_s = (double)(hth_now_ns() - t0 + 1) * 1e-9;
    if (rc == HTH_OK)
        rc = measure_layer(w, out, err);
    if (rc == HTH_OK)
        rc = measure_pairs(w, &out->pair_s, err);
    out->layer_bytes = (double)hth_whole_bytes(w->o.spec) / w->o.spec->layers;
    out->stream_bytes_per_s = stream_rate(w, first_s);
    return rc;
}
