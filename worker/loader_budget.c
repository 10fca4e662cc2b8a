/* loader_budget.c - how much memory a loader may have, what that means for each
 * piece, and the figures. Budgets change while steps run, so a change is a new
 * plan, and then whatever makes the pieces follow it: here for those that
 * nobody uses, by the step's releases for the others. */
#include <stdlib.h>
#include <string.h>

#include "worker/loader_internal.h"

/* ---- planning ------------------------------------------------------------ */

#define AHEAD_LEAST (4ull * HTH_PACKED_CHUNK_BYTES)

/* Enough to keep the disk busy while a piece is computed, unless that were
 * much of the memory. */
uint64_t hth_loader_ahead_bytes(uint64_t budget_bytes)
{
    uint64_t bytes = budget_bytes / 16;

    if (budget_bytes == 0 || bytes > 4 * AHEAD_LEAST)
        return 4 * AHEAD_LEAST;
    return bytes > AHEAD_LEAST ? bytes : AHEAD_LEAST;
}

void hth_loader_pieces(const struct hth_spec *s, const struct hth_plan *p,
                       uint32_t rank, struct hth_window_piece *piece)
{
    uint32_t count = hth_pieces(s, p, rank);

    for (uint32_t i = 0; i < count; i++) {
        struct hth_block b;

        hth_piece(s, p, rank, i, &b);
        piece[i].bytes = hth_page_up(b.bytes);
        piece[i].use =
            hth_piece_rare(s, i) ? (double)s->experts_used / s->experts : 1.0;
    }
}

/* What is held at once is one thing to the plan: it stays or streams whole.
 * Returns the largest. */
static uint64_t join_groups(struct hth_loader *l)
{
    uint64_t most = 0;

    l->units = (l->count + l->group - 1) / l->group;
    for (uint32_t u = 0; l->group > 1 && u < l->units; u++) {
        struct hth_window_piece sum = {0, 1.0};

        for (uint32_t i = u * l->group; i < (u + 1) * l->group && i < l->count;
             i++)
            sum.bytes += l->piece[i].bytes;
        l->shape[u] = sum;
        most = sum.bytes > most ? sum.bytes : most;
    }
    return most;
}

static struct hth_window_ask ask_of(struct hth_loader *l, uint64_t budget)
{
    return (struct hth_window_ask){.piece = l->shape,
                                   .count = l->units,
                                   .budget_bytes = budget,
                                   .ahead_bytes = l->ahead_bytes,
                                   .unit_bytes =
                                       l->group > 1 ? 0 : HTH_PAGE_LARGE_BYTES,
                                   .ring_bytes = l->ring.bytes,
                                   .disk_bytes_per_s = l->rate.bytes_per_s};
}

static bool streams(const struct hth_window *w)
{
    return w->ring_bytes > 0 || w->cache_bytes > 0;
}

/* The best plan, but with the ring that is there where one is needed and that
 * one does. */
static int plan(struct hth_loader *l, uint64_t budget, struct hth_window *w,
                struct hth_err *err)
{
    struct hth_window_ask ask = ask_of(l, budget), anew = ask;
    int rc;

    anew.ring_bytes = 0;
    rc = hth_window_plan(&anew, l->wish, w, err);
    if (rc != HTH_OK || w->ring_bytes == 0 || ask.ring_bytes == 0)
        return rc;
    if (hth_window_plan(&ask, l->wish, w, NULL) == HTH_OK)
        return HTH_OK;
    return hth_window_plan(&anew, l->wish, w, err);
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
                        (unsigned long long)(l->given_bytes >> 20));
    if (l->file == NULL)
        rc = open_files(l, err);
    if (rc == HTH_OK && w->cache_bytes > 0)
        rc = hth_loader__rare_open(l, err);
    return rc;
}

static void adopt(struct hth_loader *l, const struct hth_window *w)
{
    l->stats.window = *w;
    atomic_store(&l->keeps, streams(w));
    for (uint32_t i = 0; i < l->count; i++)
        atomic_store(&l->piece[i].pinned, l->wish[i / l->group]);
    hth_loader__rare_size(l, w->cache_bytes);
}

/* The least memory that this loader could do with. */
static uint64_t least_bytes(struct hth_loader *l)
{
    struct hth_window_ask ask = ask_of(l, 1);
    struct hth_window w = {0};

    if (l->o.dir == NULL || hth_window_plan(&ask, l->wish, &w, NULL) == HTH_OK)
        return w.total_bytes;
    return w.need_bytes;
}

/* Of whole layers the next one is read as far as there is room; the ring is
 * large pages where that leaves enough. */
static uint64_t ahead_of_layer(uint64_t budget, uint64_t layer)
{
    uint64_t ring = hth_page_large_up(2 * layer);
    uint64_t room = budget - budget % HTH_PAGE_LARGE_BYTES;

    if (room < layer + AHEAD_LEAST)
        return budget - layer;
    return (ring < room ? ring : room) - layer;
}

int hth_loader__first_plan(struct hth_loader *l, struct hth_err *err)
{
    uint64_t budget = l->o.budget_bytes, layer;
    struct hth_window w;
    int rc;

    l->given_bytes = l->stats.budget_bytes = budget;
    l->ahead_bytes = hth_loader_ahead_bytes(budget);
    hth_loader_pieces(l->o.spec, l->o.plan, l->o.rank, l->shape);
    layer = join_groups(l);
    if (layer > 0 && budget >= layer + AHEAD_LEAST)
        l->ahead_bytes = ahead_of_layer(budget, layer);
    l->least_bytes = least_bytes(l);
    rc = plan(l, budget, &w, err);
    if (rc == HTH_OK)
        rc = prepare_streams(l, &w, err);
    if (rc == HTH_OK && w.ring_bytes > 0)
        rc = hth_ring_open(&l->ring, &l->pages, w.ring_bytes, err);
    if (rc == HTH_OK)
        adopt(l, &w);
    return rc;
}

/* ---- less and more ------------------------------------------------------- */

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

/* Nothing stays for having been read ahead. */
static void read_anew(struct hth_loader *l)
{
    uint64_t from = atomic_load(&l->want);

    from += atomic_load(&l->piece[from % l->count].state) == PIECE_HELD;
    hth_loader__restart(l, from);
}

/* Follow a plan for `bytes`, at least the smallest window. */
static void follow(struct hth_loader *l, uint64_t bytes)
{
    bool less = bytes != 0 && bytes < l->stats.budget_bytes;
    struct hth_window w;
    struct hth_err err;
    int rc = plan(l, bytes, &w, NULL);

    if (rc == HTH_EOVERFLOW && w.need_bytes > bytes) {
        bytes = w.need_bytes;
        rc = plan(l, bytes, &w, NULL);
    }
    if (rc == HTH_OK)
        rc = prepare_streams(l, &w, &err);
    if (rc != HTH_OK)
        return;
    l->stats.budget_bytes = bytes;
    adopt(l, &w);
    if (less)
        read_anew(l);
    else
        look_back(l);
    for (uint32_t i = 0; i < l->count; i++)
        hth_loader__let_go(l, i);
    hth_loader__close_idle_ring(l);
    pthread_cond_broadcast(&l->work);
}

static uint64_t not_lent(const struct hth_loader *l)
{
    if (l->given_bytes == 0)
        return 0;
    return l->given_bytes > l->lent_bytes ? l->given_bytes - l->lent_bytes : 1;
}

uint64_t hth_loader_budget(struct hth_loader *l, uint64_t bytes)
{
    pthread_mutex_lock(&l->lock);
    l->given_bytes = bytes;
    follow(l, not_lent(l));
    bytes = l->stats.budget_bytes;
    pthread_mutex_unlock(&l->lock);
    return bytes;
}

int hth_loader_lend(struct hth_loader *l, uint64_t bytes, struct hth_err *err)
{
    int rc = HTH_OK;

    pthread_mutex_lock(&l->lock);
    if (l->given_bytes != 0 &&
        (bytes > l->given_bytes || l->given_bytes - bytes < l->least_bytes))
        rc = hth_fail(err, HTH_EOVERFLOW,
                      "%llu MiB of memory are wanted, and of %llu for weights "
                      "%llu must stay",
                      (unsigned long long)(bytes >> 20) + 1,
                      (unsigned long long)(l->given_bytes >> 20),
                      (unsigned long long)(l->least_bytes >> 20) + 1);
    if (rc == HTH_OK && bytes != l->lent_bytes) {
        l->lent_bytes = bytes;
        if (l->given_bytes != 0)
            follow(l, not_lent(l));
        while (l->given_bytes != 0 && hth_loader__any_leaves(l))
            pthread_cond_wait(&l->ready, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return rc;
}

uint64_t hth_loader_least(const struct hth_loader *l)
{
    return l->least_bytes;
}

/* ---- figures ------------------------------------------------------------- */

void hth_loader_measured(struct hth_loader *l, double compute_s)
{
    struct hth_window_ask ask;

    pthread_mutex_lock(&l->lock);
    ask = ask_of(l, l->stats.budget_bytes);
    if (compute_s > 0)
        ask.compute_bytes_per_s =
            (double)l->stats.window.total_bytes / compute_s;
    for (uint32_t u = 0; u < l->units; u++)
        l->wish[u] = atomic_load(&l->piece[u * l->group].pinned);
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
