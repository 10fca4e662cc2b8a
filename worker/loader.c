/* loader.c - see loader.h: the life of a loader, and the step's side of it. */
#include "worker/loader.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "worker/loader_internal.h"

/* ---- the step ------------------------------------------------------------ */

/* The first piece in the line will not be used after all. */
static void drop_first(struct hth_loader *l)
{
    uint32_t index = l->line[l->line_first];
    struct piece *p = &l->piece[index];

    p->dropped = true;
    if (l->current == index)
        l->current = NO_PIECE;
    while (p->under_way > 0)
        pthread_cond_wait(&l->ready, &l->lock);
    l->tail = p->ring_at + p->bytes;
    hth_loader__vacate(l, p);
    l->line_first = (l->line_first + 1) % l->count;
    l->line_count--;
}

/* Have the reading go on from place `pos`, whatever was read ahead. */
static void restart_at(struct hth_loader *l, uint64_t pos)
{
    while (l->line_count > 0)
        drop_first(l);
    l->next = pos;
}

/* The step is at place `pos` now: what was read for places before is not
 * needed (the head, in the middle of a prompt; the rest of a step that
 * failed). A piece that is not here and was passed by is read all the same. */
static void go_to(struct hth_loader *l, uint32_t index, uint64_t pos)
{
    struct piece *p = &l->piece[index];

    while (l->line_count > 0 && l->piece[l->line[l->line_first]].pos < pos)
        drop_first(l);
    atomic_store(&l->want, pos);
    if (p->rare && !atomic_load(&p->pinned))
        hth_loader__rare_need(l, index);
    else if (p->home == HOME_NONE && l->next > pos)
        restart_at(l, pos);
    else if (l->next < pos)
        l->next = pos;
    pthread_cond_broadcast(&l->work);
}

static bool settled(const struct piece *p)
{
    return atomic_load(&p->state) == PIECE_READY ||
           (p->home == HOME_NONE && p->status != HTH_OK);
}

static void wait_for(struct hth_loader *l, const struct piece *p)
{
    uint64_t t0;

    if (settled(p))
        return;
    t0 = hth_now_ns();
    while (!settled(p))
        pthread_cond_wait(&l->ready, &l->lock);
    l->stats.stalls++;
    l->stats.stall_ns += hth_now_ns() - t0;
}

/* The step hears why its piece did not come; the next one tries again. */
static int failed(struct hth_loader *l, struct piece *p, struct hth_err *err)
{
    int status = p->status;

    if (err != NULL)
        *err = l->err;
    if (p->home == HOME_RING)
        restart_at(l, l->next);
    else if (p->home != HOME_NONE)
        hth_loader__vacate(l, p);
    p->status = HTH_OK;
    return status;
}

/* A piece that failed while nobody needed it yet is tried once more: the disk
 * or the source may have recovered since. */
static int acquire_slowly(struct hth_loader *l, uint32_t index,
                          struct hth_err *err)
{
    struct piece *p = &l->piece[index];
    int rc;

    pthread_mutex_lock(&l->lock);
    if (settled(p) && p->status != HTH_OK)
        (void)!failed(l, p, NULL);
    go_to(l, index, hth_loader__next_use(l, index));
    wait_for(l, p);
    rc = p->status;
    if (rc == HTH_OK)
        atomic_store(&p->state, PIECE_HELD);
    else
        rc = failed(l, p, err);
    pthread_mutex_unlock(&l->lock);
    return rc;
}

static int acquire(void *ctx, uint32_t index, const void **data,
                   struct hth_err *err)
{
    struct hth_loader *l = ctx;
    struct piece *p = &l->piece[index];
    uint8_t ready = PIECE_READY;
    int rc = HTH_OK;

    if (atomic_compare_exchange_strong(&p->state, &ready, PIECE_HELD)) {
        if (p->home == HOME_OWN && p->status == HTH_OK) {
            atomic_store(&l->want, hth_loader__next_use(l, index));
            *data = p->data;
            return HTH_OK;
        }
        atomic_store(&p->state, PIECE_READY);
    }
    rc = acquire_slowly(l, index, err);
    if (rc == HTH_OK)
        *data = p->data;
    return rc;
}

static void release(void *ctx, uint32_t index)
{
    struct hth_loader *l = ctx;
    struct piece *p = &l->piece[index];
    uint64_t after = atomic_load(&l->want) + 1;

    if (p->home == HOME_OWN && atomic_load(&p->pinned)) {
        atomic_store(&p->state, PIECE_READY);
        atomic_store(&l->want, after);
        return;
    }
    pthread_mutex_lock(&l->lock);
    if (p->home == HOME_RING) {
        l->tail = p->ring_at + p->bytes;
        hth_loader__vacate(l, p);
        l->line_first = (l->line_first + 1) % l->count;
        l->line_count--;
        hth_loader__close_idle_ring(l);
    } else {
        atomic_store(&p->state, PIECE_READY);
    }
    atomic_store(&l->want, after);
    if (p->home == HOME_SLOT)
        hth_loader__rare_used(l, index);
    hth_loader__let_go(l, index);
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
}

static void expect(void *ctx, uint32_t first, const uint32_t *n, uint32_t count)
{
    struct hth_loader *l = ctx;

    if (l->rare.slots == 0)
        return;
    pthread_mutex_lock(&l->lock);
    hth_loader__rare_expect(l, first, n, count);
    pthread_mutex_unlock(&l->lock);
}

/* ---- planning ------------------------------------------------------------ */

/* Enough to keep the disk busy while a piece is computed, unless that were
 * much of the memory. */
uint64_t hth_loader_ahead_bytes(uint64_t budget_bytes)
{
    uint64_t bytes = budget_bytes / 16;
    uint64_t least = (uint64_t)HTH_LOAD_THREADS * HTH_PACKED_CHUNK_BYTES;

    if (budget_bytes == 0 || bytes > 4 * least)
        return 4 * least;
    return bytes > least ? bytes : least;
}

void hth_loader_pieces(const struct hth_spec *s, const struct hth_plan *p,
                       uint32_t rank, struct hth_window_piece *piece)
{
    uint32_t count = hth_pieces(s, p, rank);

    for (uint32_t i = 0; i < count; i++) {
        struct hth_block b;
        bool rare;

        hth_piece(s, p, rank, i, &b);
        rare = s->arch->moe && b.kind == HTH_BLOCK_FFN &&
               i >= hth_piece_ffn_rest(s, b.layer);
        piece[i].bytes = hth_page_up(b.bytes);
        piece[i].use = rare ? (double)s->experts_used / s->experts : 1.0;
    }
}

static struct hth_window_ask ask_of(struct hth_loader *l, uint64_t budget)
{
    return (struct hth_window_ask){.piece = l->shape,
                                   .count = l->count,
                                   .budget_bytes = budget,
                                   .ahead_bytes = l->ahead_bytes,
                                   .ring_bytes = l->ring.bytes,
                                   .cache_bytes =
                                       l->rare.slots * l->rare.slot_bytes,
                                   .disk_bytes_per_s = l->rate.bytes_per_s};
}

static bool streams(const struct hth_window *w)
{
    return w->ring_bytes > 0 || w->cache_bytes > 0;
}

static void adopt(struct hth_loader *l, const struct hth_window *w)
{
    l->stats.window = *w;
    atomic_store(&l->keeps, streams(w));
    for (uint32_t i = 0; i < l->count; i++)
        atomic_store(&l->piece[i].pinned, l->wish[i]);
}

/* ---- opening ------------------------------------------------------------- */

static int fill_pieces(struct hth_loader *l)
{
    uint32_t block = UINT32_MAX, in_block = 0;

    for (uint32_t i = 0; i < l->count; i++) {
        struct piece *p = &l->piece[i];
        struct hth_block b;

        hth_piece(l->o.spec, l->o.plan, l->o.rank, i, &b);
        p->block = hth_piece_block(l->o.spec, i);
        in_block = p->block == block ? in_block + 1 : 0;
        block = p->block;
        p->in_block = in_block;
        p->used = b.bytes;
        p->bytes = hth_page_up(b.bytes);
        p->chunks = (uint32_t)((p->bytes + HTH_PACKED_CHUNK_BYTES - 1) /
                               HTH_PACKED_CHUNK_BYTES);
        p->rare = l->shape[i].use < 1.0;
    }
    return HTH_OK;
}

/* The packed files of all blocks; those that are not there yet are written as
 * pieces come. */
static int open_files(struct hth_loader *l, struct hth_err *err)
{
    uint64_t *bytes = malloc(l->count * sizeof *bytes);
    int rc = HTH_OK;

    l->file = calloc(l->files, sizeof *l->file);
    if (l->file == NULL || bytes == NULL)
        rc = hth_fail(err, HTH_ENOMEM, "no memory for a list of blocks");
    for (uint32_t i = 0, n; rc == HTH_OK && i < l->count; i += n) {
        struct hth_packed_opts o = {.dir = l->o.dir,
                                    .layout = HTH_LOAD_LAYOUT,
                                    .piece_bytes = bytes,
                                    .io = l->o.io};
        uint32_t block = l->piece[i].block;

        for (n = 0; i + n < l->count && l->piece[i + n].block == block; n++)
            bytes[n] = l->piece[i + n].bytes;
        o.pieces = n;
        memcpy(o.key, l->o.key + (size_t)block * HTH_HASH_BYTES,
               HTH_HASH_BYTES);
        rc = hth_packed_open(&l->file[block], &o, err);
    }
    free(bytes);
    return rc;
}

/* Files may be wanted long after open, when memory gets short. */
static int keep_names(struct hth_loader *l, struct hth_err *err)
{
    size_t n = (size_t)l->files * HTH_HASH_BYTES;

    if (l->o.dir == NULL)
        return HTH_OK;
    l->dir = strdup(l->o.dir);
    l->key = malloc(n);
    if (l->dir == NULL || l->key == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a list of blocks");
    memcpy(l->key, l->o.key, n);
    l->o.dir = l->dir;
    l->o.key = l->key;
    return HTH_OK;
}

static int alloc_lists(struct hth_loader *l, struct hth_err *err)
{
    l->piece = calloc(l->count, sizeof *l->piece);
    l->shape = calloc(l->count, sizeof *l->shape);
    l->wish = calloc(l->count, sizeof *l->wish);
    l->line = calloc(l->count, sizeof *l->line);
    l->spill = calloc(l->count, sizeof *l->spill);
    if (l->piece == NULL || l->shape == NULL || l->wish == NULL ||
        l->line == NULL || l->spill == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a list of weights");
    return HTH_OK;
}

/* Files and cache for a plan that streams. */
static int prepare_streams(struct hth_loader *l, const struct hth_window *w,
                           struct hth_err *err)
{
    int rc = HTH_OK;

    if (!streams(w))
        return HTH_OK;
    if (l->o.dir == NULL)
        return hth_fail(err, HTH_EOVERFLOW,
                        "the weights need %llu MiB of memory, %llu are left "
                        "for them, and there is no directory to stream them "
                        "from",
                        (unsigned long long)(w->total_bytes >> 20) + 1,
                        (unsigned long long)(l->stats.budget_bytes >> 20));
    if (l->file == NULL)
        rc = open_files(l, err);
    if (rc == HTH_OK && w->cache_bytes > 0 && l->rare.slots == 0)
        rc = hth_loader__rare_open(l, w->cache_bytes, err);
    return rc;
}

static int start_readers(struct hth_loader *l, struct hth_err *err)
{
    while (l->readers < HTH_LOAD_THREADS) {
        if (pthread_create(&l->reader[l->readers], NULL, hth_loader__reader,
                           l) != 0)
            return hth_fail(err, HTH_ENOMEM, "cannot start a thread");
        l->readers++;
    }
    return HTH_OK;
}

static int open_parts(struct hth_loader *l, struct hth_err *err)
{
    struct hth_window_ask ask;
    struct hth_window w;
    int rc = alloc_lists(l, err);

    if (rc == HTH_OK)
        rc = keep_names(l, err);
    if (rc != HTH_OK)
        return rc;
    hth_loader_pieces(l->o.spec, l->o.plan, l->o.rank, l->shape);
    rc = fill_pieces(l);
    ask = ask_of(l, l->o.budget_bytes);
    if (rc == HTH_OK)
        rc = hth_window_plan(&ask, l->wish, &w, err);
    if (rc == HTH_OK)
        rc = prepare_streams(l, &w, err);
    if (rc == HTH_OK && w.ring_bytes > 0)
        rc = hth_ring_open(&l->ring, &l->pages, w.ring_bytes, err);
    if (rc != HTH_OK)
        return rc;
    adopt(l, &w);
    return start_readers(l, err);
}

int hth_loader_open(struct hth_loader **out, const struct hth_loader_opts *o,
                    struct hth_err *err)
{
    struct hth_loader *l = calloc(1, sizeof *l);
    int rc;

    if (l == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a loader");
    l->o = *o;
    l->blocks = (struct hth_blocks){l, acquire, release, expect};
    l->count = hth_pieces(o->spec, o->plan, o->rank);
    l->files = hth_shard_blocks(o->spec);
    l->current = NO_PIECE;
    l->stats.budget_bytes = o->budget_bytes;
    l->ahead_bytes = hth_loader_ahead_bytes(o->budget_bytes);
    pthread_mutex_init(&l->lock, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    rc = open_parts(l, err);
    if (rc != HTH_OK) {
        hth_loader_close(l);
        return rc;
    }
    *out = l;
    return HTH_OK;
}

void hth_loader_close(struct hth_loader *l)
{
    if (l == NULL)
        return;
    pthread_mutex_lock(&l->lock);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (uint32_t i = 0; i < l->readers; i++)
        pthread_join(l->reader[i], NULL);
    for (uint32_t i = 0; l->piece != NULL && i < l->count; i++)
        if (l->piece[i].home == HOME_OWN)
            hth_loader__vacate(l, &l->piece[i]);
    for (uint32_t i = 0; l->file != NULL && i < l->files; i++)
        hth_packed_close(l->file[i]);
    hth_ring_close(&l->ring, &l->pages);
    hth_loader__rare_close(l);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->lock);
    free(l->dir);
    free(l->key);
    free(l->piece);
    free(l->file);
    free(l->shape);
    free(l->wish);
    free(l->line);
    free(l->spill);
    free(l);
}

const struct hth_blocks *hth_loader_blocks(struct hth_loader *l)
{
    return &l->blocks;
}

/* ---- budgets and figures ------------------------------------------------- */

/* Look again for what to read from the first place behind what is being read:
 * places that were passed because their pieces stayed may need reading now. */
static void look_back(struct hth_loader *l)
{
    uint64_t from = atomic_load(&l->want);
    uint32_t last = (l->line_first + l->line_count - 1) % l->count;

    if (l->line_count > 0 && l->piece[l->line[last]].pos >= from)
        from = l->piece[l->line[last]].pos + 1;
    if (l->current != NO_PIECE && l->piece[l->current].pos >= from)
        from = l->piece[l->current].pos + 1;
    l->next = from < l->next ? from : l->next;
}

uint64_t hth_loader_budget(struct hth_loader *l, uint64_t bytes)
{
    struct hth_window_ask ask;
    struct hth_window w;
    struct hth_err err;
    int rc;

    pthread_mutex_lock(&l->lock);
    ask = ask_of(l, bytes);
    rc = hth_window_plan(&ask, l->wish, &w, NULL);
    if (rc == HTH_EOVERFLOW && w.need_bytes > bytes) {
        ask.budget_bytes = bytes = w.need_bytes;
        rc = hth_window_plan(&ask, l->wish, &w, NULL);
    }
    if (rc == HTH_OK)
        rc = prepare_streams(l, &w, &err);
    if (rc == HTH_OK) {
        l->stats.budget_bytes = bytes;
        adopt(l, &w);
        look_back(l);
        for (uint32_t i = 0; i < l->count; i++)
            hth_loader__let_go(l, i);
        hth_loader__close_idle_ring(l);
        pthread_cond_broadcast(&l->work);
    }
    bytes = l->stats.budget_bytes;
    pthread_mutex_unlock(&l->lock);
    return bytes;
}

void hth_loader_measured(struct hth_loader *l, double compute_s)
{
    struct hth_window_ask ask;

    pthread_mutex_lock(&l->lock);
    ask = ask_of(l, l->stats.budget_bytes);
    if (compute_s > 0)
        ask.compute_bytes_per_s =
            (double)l->stats.window.total_bytes / compute_s;
    for (uint32_t i = 0; i < l->count; i++)
        l->wish[i] = atomic_load(&l->piece[i].pinned);
    hth_window_predict(&ask, l->wish, &l->stats.window);
    pthread_mutex_unlock(&l->lock);
}

void hth_loader_stats(struct hth_loader *l, struct hth_loader_stats *out)
{
    pthread_mutex_lock(&l->lock);
    *out = l->stats;
    out->read_bytes_per_s = l->rate.bytes_per_s;
    pthread_mutex_unlock(&l->lock);
    out->memory_bytes = atomic_load(&l->pages.bytes);
    out->memory_peak_bytes = atomic_load(&l->pages.peak_bytes);
}
