/* loader_read.c - what to read next, and the threads that do it. All decisions
 * are made under the loader's lock, all reading, packing and writing outside
 * of it. A read that fails is made good from the source or becomes the
 * piece's status, which the step finds. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "worker/loader_internal.h"

#define RATE_WINDOW_BYTES (64u << 20) /* of which one rate is made */
#define RATE_WEIGHT 0.3               /* of the latest window */

/* ---- the disk's rate ----------------------------------------------------- */

static void rate_begin(struct rate *r, uint64_t now)
{
    if (r->under_way++ == 0)
        r->since_ns = now;
}

/* Time counts while anything is under way. The latest 64 MiB weigh 0.3, those
 * before 0.21, and so on: disks have fast and slow minutes. */
static void rate_end(struct hth_loader *l, uint64_t bytes, uint64_t now)
{
    struct rate *r = &l->rate;
    double latest;

    r->bytes += bytes;
    r->ns += now - r->since_ns;
    l->stats.read_bytes += bytes;
    l->stats.read_ns += now - r->since_ns;
    r->since_ns = now;
    r->under_way--;
    if (r->bytes < RATE_WINDOW_BYTES || r->ns == 0)
        return;
    latest = (double)r->bytes * 1e9 / (double)r->ns;
    r->bytes_per_s = r->bytes_per_s > 0 ? r->bytes_per_s * (1 - RATE_WEIGHT) +
                                              latest * RATE_WEIGHT
                                        : latest;
    r->bytes = r->ns = 0;
}

/* ---- what next ----------------------------------------------------------- */

bool hth_loader__on_disk(const struct hth_loader *l, const struct piece *p)
{
    return l->file != NULL && hth_packed_has(l->file[p->block], p->in_block);
}

static void start_piece(struct hth_loader *l, struct piece *p, uint8_t home)
{
    p->home = home;
    p->pos = l->next;
    p->issued = p->under_way = 0;
    p->dropped = false;
    p->status = HTH_OK;
    atomic_store(&p->state, PIECE_READING);
    l->current = (uint32_t)(p - l->piece);
}

/* A pinned piece gets its memory when it is first read, and only within the
 * budget: after a change of plan others may not have left yet. */
static bool start_pinned(struct hth_loader *l, struct piece *p)
{
    uint64_t held = atomic_load(&l->pages.bytes);

    if (!atomic_load(&p->pinned) ||
        (l->stats.budget_bytes != 0 && held + p->bytes > l->stats.budget_bytes))
        return false;
    p->data = hth_pages_alloc_at(&l->pages, p->place, p->bytes);
    if (p->data == NULL)
        return false;
    start_piece(l, p, HOME_OWN);
    return true;
}

bool hth_loader__leaves(const struct piece *p)
{
    return p->home == HOME_OWN && !atomic_load(&p->pinned) &&
           atomic_load(&p->state) == PIECE_READING;
}

/* A disk that is full keeps them. */
bool hth_loader__any_leaves(const struct hth_loader *l)
{
    for (uint32_t i = 0; i < l->count; i++)
        if (l->piece[i].spilling || hth_loader__leaves(&l->piece[i]))
            return true;
    return false;
}

/* The ring of a plan that was made while everything was pinned: once the
 * pieces that leave have made room for it. Where they cannot (a full disk) it
 * is opened all the same: over the budget is better than not at all. */
static bool ring_is_there(struct hth_loader *l)
{
    uint64_t bytes = l->stats.window.ring_bytes;

    if (l->ring.data != NULL)
        return true;
    if (bytes == 0 ||
        (hth_loader__any_leaves(l) &&
         atomic_load(&l->pages.bytes) + bytes > l->stats.budget_bytes))
        return false;
    return hth_ring_open(&l->ring, &l->pages, bytes, NULL) == HTH_OK;
}

static bool start_in_ring(struct hth_loader *l, struct piece *p)
{
    if (p->bytes > l->ring.bytes)
        return false;
    p->ring_at = hth_ring_place(&l->ring, l->head, p->bytes);
    p->data = hth_ring_at(&l->ring, p->ring_at);
    l->head = p->ring_at + p->bytes;
    l->line[(l->line_first + l->line_count++) % l->count] =
        (uint32_t)(p - l->piece);
    start_piece(l, p, HOME_RING);
    return true;
}

/* No memory for a piece that the step will ask for: it shall hear of it. */
static void start_nowhere(struct hth_loader *l, struct piece *p)
{
    p->status =
        hth_fail(&l->err, HTH_ENOMEM, "no memory for %llu MiB of weights",
                 (unsigned long long)(p->bytes >> 20) + 1);
    pthread_cond_broadcast(&l->ready);
}

static bool keeps_ring(const struct hth_loader *l)
{
    return hth_page_up(l->stats.window.ring_bytes) == l->ring.bytes;
}

void hth_loader__close_idle_ring(struct hth_loader *l)
{
    if (l->ring.data == NULL || l->line_count > 0 || keeps_ring(l))
        return;
    hth_ring_close(&l->ring, &l->pages);
    l->head = l->tail = 0;
}

/* Give a piece memory. False: not yet. */
static bool start(struct hth_loader *l, struct piece *p)
{
    hth_loader__close_idle_ring(l);
    if (start_pinned(l, p))
        return true;
    if (l->ring.data != NULL && !keeps_ring(l))
        return false; /* its room is the ring's, which is about to go */
    if (!ring_is_there(l) && hth_loader__any_leaves(l))
        return false;
    if (!start_in_ring(l, p))
        start_nowhere(l, p);
    return true;
}

/* Make the next piece that is not here the current one. False: nothing to
 * read before the step goes on. */
static bool find_current(struct hth_loader *l)
{
    while (l->current == NO_PIECE &&
           l->next < atomic_load(&l->want) + l->count) {
        struct piece *p = &l->piece[l->next % l->count];
        bool comes = !p->rare || atomic_load(&p->pinned);

        if (p->home == HOME_RING)
            return false; /* here for an earlier token, and not used yet */
        if (p->spilling || hth_loader__leaves(p))
            return false; /* passed by now, it would have to stay */
        if (p->bytes > 0 && p->home == HOME_NONE && comes && !start(l, p))
            return false;
        l->next++;
    }
    return l->current != NO_PIECE;
}

/* Is the ring free up to `end` bytes into the piece? */
static bool has_room(const struct hth_loader *l, const struct piece *p,
                     uint64_t end)
{
    return p->home != HOME_RING ||
           hth_ring_room(&l->ring, p->ring_at + end) - l->tail <= l->ring.bytes;
}

/* The next chunk of a piece, or all of it where it is not on disk yet. */
static bool issue(struct hth_loader *l, uint32_t index, struct job *job)
{
    struct piece *p = &l->piece[index];
    bool build = p->issued == 0 && !hth_loader__on_disk(l, p);
    uint64_t from = (uint64_t)p->issued * HTH_PACKED_CHUNK_BYTES;
    uint64_t end = build ? p->bytes : from + HTH_PACKED_CHUNK_BYTES;

    end = end < p->bytes ? end : p->bytes;
    if (!has_room(l, p, end))
        return false;
    if (p->home == HOME_RING)
        hth_ring_take(&l->ring, p->ring_at, from, end);
    *job = (struct job){build ? JOB_BUILD : JOB_CHUNK, index, p->issued};
    p->issued = build ? p->chunks : p->issued + 1;
    p->under_way++;
    return true;
}

static bool issued_all(const struct hth_loader *l, uint32_t index)
{
    return l->piece[index].issued == l->piece[index].chunks;
}

static bool rare_job(struct hth_loader *l, struct job *job)
{
    struct rare_cache *r = &l->rare;

    if (r->queued == 0 || !issue(l, r->queue[0], job))
        return false;
    if (issued_all(l, r->queue[0]))
        memmove(r->queue, r->queue + 1, --r->queued * sizeof *r->queue);
    return true;
}

/* Experts first: the step is waiting for them or will in a moment. */
static bool next_job(struct hth_loader *l, struct job *job)
{
    if (rare_job(l, job))
        return true;
    if (l->spills > 0) {
        *job = (struct job){.kind = JOB_SPILL, .piece = l->spill[--l->spills]};
        l->piece[job->piece].under_way++;
        return true;
    }
    if (!find_current(l) || !issue(l, l->current, job))
        return false;
    if (issued_all(l, l->current))
        l->current = NO_PIECE;
    return true;
}

/* ---- doing it ------------------------------------------------------------ */

/* A piece from the source, in the layout of the kernels, padded with zeros. */
static int take_from_source(struct hth_loader *l, uint32_t index,
                            struct hth_err *err)
{
    struct piece *p = &l->piece[index];
    struct hth_block b;
    int rc;

    hth_piece(l->o.spec, l->o.plan, l->o.rank, index, &b);
    memset(p->data + p->used, 0, p->bytes - p->used);
    rc = l->o.source.read(l->o.source.ctx, p->block, &b, p->data, err);
    return rc == HTH_OK ? hth_block_pack(NULL, &b, p->data, err) : rc;
}

static int build(struct hth_loader *l, uint32_t index, struct hth_err *err)
{
    struct piece *p = &l->piece[index];
    int rc = take_from_source(l, index, err);

    if (rc == HTH_OK && atomic_load(&l->keeps))
        rc = hth_packed_write(l->file[p->block], p->in_block, p->data, err);
    return rc;
}

static int read_chunk(struct hth_loader *l, const struct job *job,
                      struct hth_err *err)
{
    struct piece *p = &l->piece[job->piece];

    return hth_packed_read(l->file[p->block], p->in_block, job->chunk, p->data,
                           err);
}

static int do_job(struct hth_loader *l, const struct job *job,
                  struct hth_err *err)
{
    struct piece *p = &l->piece[job->piece];

    switch (job->kind) {
    case JOB_CHUNK:
        return read_chunk(l, job, err);
    case JOB_BUILD:
        return build(l, job->piece, err);
    default:
        return hth_packed_write(l->file[p->block], p->in_block, p->data, err);
    }
}

/* All reads of a piece are over and one failed: once more from the source. The
 * file is written again, which may fail too; the piece is good all the same. */
static void repair(struct hth_loader *l, uint32_t index)
{
    struct piece *p = &l->piece[index];
    struct hth_err why = l->err, err = {0}, rewrite = {0};
    int rc;

    p->under_way++;
    pthread_mutex_unlock(&l->lock);
    rc = take_from_source(l, index, &err);
    if (rc == HTH_OK)
        (void)!hth_packed_write(l->file[p->block], p->in_block, p->data,
                                &rewrite);
    hth_log(HTH_LOG_WARN, "WEIGHTS-REREAD", "%s; %s%s%s", why.text,
            rc == HTH_OK ? "taken from its source again"
                         : "and not from its source: ",
            rc == HTH_OK ? "" : err.text, rewrite.text);
    pthread_mutex_lock(&l->lock);
    p->under_way--;
    p->status = rc;
    if (rc == HTH_OK) {
        l->stats.repaired++;
        l->stats.built_bytes += p->used;
    } else {
        hth_fail(&l->err, rc, "%s; %s", why.text, err.text);
    }
}

/* ---- the end of a job ---------------------------------------------------- */

void hth_loader__vacate(struct hth_loader *l, struct piece *p)
{
    if (p->home == HOME_OWN)
        hth_pages_free(&l->pages, p->data, p->bytes);
    if (p->home == HOME_SLOT)
        l->rare.owner[p->slot] = NO_PIECE;
    p->home = HOME_NONE;
    p->data = NULL;
    p->dropped = false;
    atomic_store(&p->state, PIECE_ABSENT);
}

static void piece_read(struct hth_loader *l, uint32_t index)
{
    struct piece *p = &l->piece[index];

    if (p->status != HTH_OK && !p->dropped && hth_loader__on_disk(l, p))
        repair(l, index);
    if (p->status == HTH_OK && p->home == HOME_OWN)
        l->stats.loaded_bytes += p->bytes;
    /* One that failed keeps its memory until the step has heard of it. */
    atomic_store(&p->state, PIECE_READY);
    if (p->home == HOME_SLOT)
        hth_loader__rare_trim(l);
    hth_loader__let_go(l, index);
}

uint64_t hth_loader__next_use(struct hth_loader *l, uint32_t index)
{
    uint64_t want = atomic_load(&l->want);
    uint64_t pos = want - want % l->count + index;

    return pos < want ? pos + l->count : pos;
}

/* Its reads are in vain: it leaves when those under way are over. Where a step
 * waits for it, it comes again by the ring. */
static void give_up(struct hth_loader *l, uint32_t index)
{
    struct piece *p = &l->piece[index];

    if (!hth_loader__on_disk(l, p) || l->next > hth_loader__next_use(l, index))
        return;
    p->dropped = true;
    if (l->current == index)
        l->current = NO_PIECE;
    if (p->under_way == 0)
        hth_loader__vacate(l, p);
}

void hth_loader__let_go(struct hth_loader *l, uint32_t index)
{
    struct piece *p = &l->piece[index];
    uint8_t ready = PIECE_READY;

    if (hth_loader__leaves(p))
        give_up(l, index);
    if (p->home != HOME_OWN || atomic_load(&p->pinned) || p->spilling ||
        p->status != HTH_OK || atomic_load(&p->state) != PIECE_READY)
        return;
    if (!hth_loader__on_disk(l, p)) {
        p->spilling = true;
        l->spill[l->spills++] = index;
    } else if (l->next <= hth_loader__next_use(l, index) &&
               atomic_compare_exchange_strong(&p->state, &ready,
                                              PIECE_ABSENT)) {
        l->stats.loaded_bytes -= p->bytes;
        hth_loader__vacate(l, p);
    }
}

static void finish_spill(struct hth_loader *l, uint32_t index, int rc)
{
    l->piece[index].spilling = false;
    if (rc == HTH_OK)
        hth_loader__let_go(l, index);
    else
        hth_log(HTH_LOG_WARN, "WEIGHTS-STAY", "%s", l->err.text);
}

static void finish(struct hth_loader *l, const struct job *job, int rc,
                   const struct hth_err *err)
{
    struct piece *p = &l->piece[job->piece];

    p->under_way--;
    if (rc != HTH_OK)
        l->err = *err;
    if (job->kind == JOB_SPILL) {
        finish_spill(l, job->piece, rc);
        pthread_cond_broadcast(&l->ready);
        return;
    }
    if (rc != HTH_OK)
        p->status = rc;
    else if (job->kind == JOB_BUILD)
        l->stats.built_bytes += p->used;
    if (p->under_way > 0)
        return;
    if (p->dropped && p->home == HOME_OWN)
        hth_loader__vacate(l, p);
    else if (!p->dropped && p->issued == p->chunks)
        piece_read(l, job->piece);
    if (!atomic_load(&p->pinned))
        pthread_cond_broadcast(&l->work);
    pthread_cond_broadcast(&l->ready);
}

void *hth_loader__reader(void *arg)
{
    struct hth_loader *l = arg;
    struct job job;

    pthread_mutex_lock(&l->lock);
    for (;;) {
        struct hth_err err = {0};
        bool disk;
        int rc;

        while (!l->stop && !next_job(l, &job))
            pthread_cond_wait(&l->work, &l->lock);
        if (l->stop)
            break;
        disk = job.kind == JOB_CHUNK;
        if (disk)
            rate_begin(&l->rate, hth_now_ns());
        pthread_mutex_unlock(&l->lock);
        rc = do_job(l, &job, &err);
        pthread_mutex_lock(&l->lock);
        if (disk)
            rate_end(l,
                     hth_packed_chunk_bytes(l->file[l->piece[job.piece].block],
                                            l->piece[job.piece].in_block,
                                            job.chunk),
                     hth_now_ns());
        finish(l, &job, rc, &err);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}
