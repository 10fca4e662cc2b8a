/* attention.c - see attention.h. Rows are gathered into tiles, so that a block
 * of keys, once read, serves many queries; a tile and a KV head make a task.
 * Where there are too few of them for the threads (a long sequence alone), each
 * chunk of the context becomes a task with a partial of its own, and the
 * partials are merged afterwards in the same order. Fails only at open. */
#include "model/attention.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/mem.h"

/* Queries of a tile: enough to pay for widening a block, few enough for the
 * second-level cache. */
#define TILE_QUERIES 192u
#define TILE_ROWS_MIN 16u
/* Tiles are made smaller below so many tasks per thread. */
#define TILE_TASKS_MIN 4u
/* Keys of a chunk; from HTH_CHUNKS_MAX chunks on they double, so that partials
 * stay bounded. */
#define CHUNK_KEYS 1024u
#define CHUNKS_MAX 64u
#define CHUNK_BLOCKS (CHUNK_KEYS / HTH_ATTN_KEYS)
/* Tasks per thread below which chunks become tasks. */
#define TASKS_PER_THREAD 16u
#define PARTIALS_BYTES_MAX ((size_t)16 << 20)

/* Rows [first, first + rows) of the step: one sequence, chunks of one size. */
struct tile {
    uint32_t first;
    uint32_t rows;
    uint32_t chunk_keys;
    uint32_t chunks;
    uint32_t task;    /* number of its first task */
    uint32_t partial; /* number of its first partial, when chunks are tasks */
};

/* What one thread works with. */
struct bench {
    struct hth_attn_state total; /* of a tile and a KV head */
    struct hth_attn_state part;  /* of one chunk of it */
    void *scratch;
};

struct hth_attention {
    struct hth_attention_opts o;
    uint32_t threads;
    uint32_t tile_rows_max;
    uint32_t tile_rows; /* at most, in this step */
    float scale;
    struct tile *tile; /* [tiles <= rows_max] */
    uint32_t tiles;
    uint32_t tasks;
    bool chunk_tasks;
    const uint32_t *seq, *pos;
    struct bench *bench; /* [threads] */
    struct hth_attn_state partial;
    uint32_t partials_max; /* queries */
    void *memory;
    struct hth_attention_layer layer; /* of the run */
    _Alignas(HTH_MEM_ALIGN) _Atomic uint32_t next;
};

/* ---- memory -------------------------------------------------------------- */

static size_t aligned(size_t bytes)
{
    return (bytes + HTH_MEM_ALIGN - 1) & ~(size_t)(HTH_MEM_ALIGN - 1);
}

/* Lay a state of n queries at base + *at, or only count where base is NULL. */
static struct hth_attn_state place_state(uint8_t *base, size_t *at, size_t n,
                                         uint32_t head_dim)
{
    size_t m = *at, l = m + aligned(n * sizeof(float));
    size_t acc = l + aligned(n * sizeof(float));
    struct hth_attn_state s = {0};

    *at = acc + aligned(n * hth_attn_dim(head_dim) * sizeof(float));
    if (base != NULL) {
        s.m = (float *)(void *)(base + m);
        s.l = (float *)(void *)(base + l);
        s.acc = (float *)(void *)(base + acc);
    }
    return s;
}

static size_t place(struct hth_attention *a, uint8_t *base)
{
    uint32_t dim = a->o.head_dim, queries = a->tile_rows_max * a->o.group;
    size_t at = 0;

    for (uint32_t t = 0; t < a->threads; t++) {
        struct bench *b = &a->bench[t];

        b->total = place_state(base, &at, queries, dim);
        b->part = place_state(base, &at, queries, dim);
        b->scratch = base != NULL ? base + at : NULL;
        at += aligned(hth_attn_scratch_bytes(queries, dim));
    }
    a->partial = place_state(base, &at, a->partials_max, dim);
    return at;
}

int hth_attention_open(struct hth_attention **out,
                       const struct hth_attention_opts *opts,
                       struct hth_err *err)
{
    struct hth_attention *a = hth_mem_alloc(sizeof *a);
    size_t one = (hth_attn_dim(opts->head_dim) + 2) * sizeof(float), most;

    if (a == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for attention");
    a->o = *opts;
    a->threads = hth_pool_threads(opts->pool);
    a->scale = 1.0f / sqrtf((float)opts->head_dim);
    a->tile_rows_max =
        opts->group >= TILE_QUERIES ? 1 : TILE_QUERIES / opts->group;
    most = (size_t)a->threads * TASKS_PER_THREAD * opts->group * CHUNKS_MAX;
    if (most > PARTIALS_BYTES_MAX / one)
        most = PARTIALS_BYTES_MAX / one;
    a->partials_max = (uint32_t)most;
    a->tile = calloc(opts->rows_max, sizeof *a->tile);
    a->bench = calloc(a->threads, sizeof *a->bench);
    if (a->tile != NULL && a->bench != NULL)
        a->memory = hth_mem_alloc(place(a, NULL));
    if (a->memory == NULL) {
        hth_attention_close(a);
        return hth_fail(err, HTH_ENOMEM, "no memory for attention");
    }
    place(a, a->memory);
    *out = a;
    return HTH_OK;
}

void hth_attention_close(struct hth_attention *a)
{
    if (a == NULL)
        return;
    hth_mem_free(a->memory);
    free(a->tile);
    free(a->bench);
    hth_mem_free(a);
}

/* ---- tiles and tasks ----------------------------------------------------- */

static uint32_t chunk_keys(uint32_t pos)
{
    uint32_t keys = CHUNK_KEYS;

    while (pos / keys >= CHUNKS_MAX)
        keys *= 2;
    return keys;
}

static bool fits_tile(const struct hth_attention *a, const struct tile *t,
                      uint32_t row)
{
    return t->rows < a->tile_rows && a->seq[row] == a->seq[t->first] &&
           chunk_keys(a->pos[row]) == t->chunk_keys;
}

static void add_row(struct hth_attention *a, uint32_t row)
{
    struct tile *t = a->tiles > 0 ? &a->tile[a->tiles - 1] : NULL;
    uint32_t chunks;

    if (t == NULL || !fits_tile(a, t, row)) {
        t = &a->tile[a->tiles++];
        *t = (struct tile){.first = row, .chunk_keys = chunk_keys(a->pos[row])};
    }
    t->rows++;
    chunks = a->pos[row] / t->chunk_keys + 1;
    t->chunks = chunks > t->chunks ? chunks : t->chunks;
}

/* Chunks become tasks where whole heads are too few, something is to be
 * shared out, and the partials fit. */
static bool want_chunk_tasks(const struct hth_attention *a)
{
    uint64_t partials = 0, chunks = 0;

    for (uint32_t i = 0; i < a->tiles; i++) {
        partials += (uint64_t)a->tile[i].rows * a->o.group * a->tile[i].chunks;
        chunks += a->tile[i].chunks;
    }
    return (uint64_t)a->tiles * a->o.share->kvs <
               (uint64_t)a->threads * TASKS_PER_THREAD &&
           chunks > a->tiles && a->threads > 1 &&
           partials * a->o.share->kvs <= a->partials_max;
}

static uint32_t choose_tile_rows(const struct hth_attention *a, uint32_t rows)
{
    uint32_t most = a->tile_rows_max;

    while (most > TILE_ROWS_MIN && (uint64_t)(rows / most) * a->o.share->kvs <
                                       (uint64_t)a->threads * TILE_TASKS_MIN)
        most /= 2;
    return most;
}

void hth_attention_rows(struct hth_attention *a, uint32_t rows,
                        const uint32_t *seq, const uint32_t *pos)
{
    uint32_t kvs = a->o.share->kvs, partials = 0;

    HTH_ASSERT(rows <= a->o.rows_max);
    a->seq = seq;
    a->pos = pos;
    a->tiles = a->tasks = 0;
    a->tile_rows = choose_tile_rows(a, rows);
    for (uint32_t r = 0; r < rows; r++)
        add_row(a, r);
    a->chunk_tasks = want_chunk_tasks(a);
    for (uint32_t i = 0; i < a->tiles; i++) {
        struct tile *t = &a->tile[i];

        t->task = a->tasks;
        t->partial = partials;
        a->tasks += kvs * (a->chunk_tasks ? t->chunks : 1);
        partials += kvs * t->chunks * t->rows * a->o.group;
    }
}

void hth_group_heads(const struct hth_share *share, uint32_t group, uint32_t kv,
                     uint32_t *first, uint32_t *count)
{
    uint32_t from = (share->kv_first + kv) * group, to = from + group;
    uint32_t begin = share->head_first, end = begin + share->heads;

    from = from > begin ? from : begin;
    to = to < end ? to : end;
    *first = from - begin;
    *count = to - from;
}

/* ---- computing ----------------------------------------------------------- */

/* One KV head of one tile. */
struct task {
    const struct tile *tile;
    uint32_t kv;
    uint32_t head;  /* first query head */
    uint32_t heads; /* that share it */
};

static struct task task_of(const struct hth_attention *a, const struct tile *t,
                           uint32_t kv)
{
    struct task task = {.tile = t, .kv = kv};

    hth_group_heads(a->o.share, a->o.group, kv, &task.head, &task.heads);
    return task;
}

static uint32_t queries_of(const struct task *t)
{
    return t->tile->rows * t->heads;
}

/* Fold the keys of one chunk, CHUNK_BLOCKS blocks at a time. */
static void fold_chunk(const struct hth_attention *a, const struct task *t,
                       uint32_t chunk, struct bench *b,
                       const struct hth_attn_state *state)
{
    struct hth_attn_keys keys[CHUNK_BLOCKS];
    const struct tile *tile = t->tile;
    uint32_t dim = a->o.head_dim, last = 0;
    size_t ld = (size_t)a->o.share->heads * dim;
    uint32_t pos = chunk * tile->chunk_keys, end = pos + tile->chunk_keys;
    struct hth_attn_job job = {
        .type = a->o.kv_type,
        .head_dim = dim,
        .scale = a->scale,
        .queries = {.q = a->layer.q + tile->first * ld + (size_t)t->head * dim,
                    .ldq = ld,
                    .pos = a->pos + tile->first,
                    .rows = tile->rows,
                    .heads = t->heads},
        .keys = keys,
        .state = *state,
        .scratch = b->scratch};

    for (uint32_t r = 0; r < tile->rows; r++)
        last = job.queries.pos[r] > last ? job.queries.pos[r] : last;
    end = end <= last ? end : last + 1;
    while (pos < end) {
        for (job.blocks = 0; job.blocks < CHUNK_BLOCKS && pos < end;
             job.blocks++, pos += HTH_ATTN_KEYS) {
            struct hth_kv_at at = {a->layer.layer, t->kv, pos};

            hth_kv_keys(a->layer.kv, a->seq[tile->first], &at,
                        &keys[job.blocks]);
        }
        hth_attn_fold(&job);
    }
}

/* The answers of a tile and head, from where their partials are. */
static void finish(const struct hth_attention *a, const struct task *t,
                   const struct hth_attn_state *s)
{
    uint32_t dim = a->o.head_dim;
    size_t ld = (size_t)a->o.share->heads * dim;

    for (uint32_t r = 0; r < t->tile->rows; r++) {
        struct hth_attn_state row =
            hth_attn_state_at(s, (size_t)r * t->heads, dim);

        hth_attn_finish(&row, t->heads, dim,
                        a->layer.out + (t->tile->first + r) * ld +
                            (size_t)t->head * dim);
    }
}

/* All chunks of a tile and head, one after the other. */
static void whole_task(const struct hth_attention *a, const struct tile *tile,
                       uint32_t kv, struct bench *b)
{
    struct task t = task_of(a, tile, kv);
    uint32_t n = queries_of(&t), dim = a->o.head_dim;

    hth_attn_begin(&b->total, n, dim);
    fold_chunk(a, &t, 0, b, &b->total);
    for (uint32_t c = 1; c < tile->chunks; c++) {
        hth_attn_begin(&b->part, n, dim);
        fold_chunk(a, &t, c, b, &b->part);
        hth_attn_merge(&b->total, &b->part, n, dim);
    }
    finish(a, &t, &b->total);
}

static struct hth_attn_state partial_of(const struct hth_attention *a,
                                        const struct tile *tile, uint32_t kv,
                                        uint32_t chunk)
{
    size_t each = (size_t)tile->rows * a->o.group;

    return hth_attn_state_at(
        &a->partial, tile->partial + ((size_t)kv * tile->chunks + chunk) * each,
        a->o.head_dim);
}

static void chunk_task(const struct hth_attention *a, const struct tile *tile,
                       uint32_t number, struct bench *b)
{
    uint32_t kv = number / tile->chunks, chunk = number % tile->chunks;
    struct task t = task_of(a, tile, kv);
    struct hth_attn_state s = partial_of(a, tile, kv, chunk);

    hth_attn_begin(&s, queries_of(&t), a->o.head_dim);
    fold_chunk(a, &t, chunk, b, &s);
}

/* Tasks go out from the last to the first: later tiles see more keys, and the
 * long tasks should not come at the end. */
static void run_tasks(struct hth_attention *a, struct bench *b)
{
    uint32_t i = a->tiles - 1;

    for (;;) {
        uint32_t taken =
            atomic_fetch_add_explicit(&a->next, 1, memory_order_relaxed);
        uint32_t task = a->tasks - 1 - taken;

        if (taken >= a->tasks)
            return;
        while (a->tile[i].task > task)
            i--;
        if (a->chunk_tasks)
            chunk_task(a, &a->tile[i], task - a->tile[i].task, b);
        else
            whole_task(a, &a->tile[i], task - a->tile[i].task, b);
    }
}

/* The partials of a tile and head, in the order of the chunks; into the first
 * chunk's, as whole_task() does it. */
static void merge_task(const struct hth_attention *a, const struct tile *tile,
                       uint32_t kv)
{
    struct task t = task_of(a, tile, kv);
    struct hth_attn_state total = partial_of(a, tile, kv, 0);

    for (uint32_t c = 1; c < tile->chunks; c++) {
        struct hth_attn_state s = partial_of(a, tile, kv, c);

        hth_attn_merge(&total, &s, queries_of(&t), a->o.head_dim);
    }
    finish(a, &t, &total);
}

static void run_thread(void *ctx, uint32_t thread, uint32_t threads)
{
    struct hth_attention *a = ctx;

    (void)threads;
    run_tasks(a, &a->bench[thread]);
}

static void merge_thread(void *ctx, uint32_t thread, uint32_t threads)
{
    struct hth_attention *a = ctx;
    uint32_t kvs = a->o.share->kvs, i;

    (void)thread;
    (void)threads;
    while ((i = atomic_fetch_add_explicit(&a->next, 1, memory_order_relaxed)) <
           a->tiles * kvs)
        merge_task(a, &a->tile[i / kvs], i % kvs);
}

void hth_attention_run(struct hth_attention *a,
                       const struct hth_attention_layer *l)
{
    if (a->tasks == 0)
        return;
    a->layer = *l;
    atomic_store_explicit(&a->next, 0, memory_order_relaxed);
    hth_pool_run_any(a->o.pool, run_thread, a);
    if (!a->chunk_tasks)
        return;
    atomic_store_explicit(&a->next, 0, memory_order_relaxed);
    hth_pool_run_any(a->o.pool, merge_thread, a);
}
