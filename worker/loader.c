/* loader.c - see loader.h: the life of a loader, and the step's side of it. */
#include "worker/loader.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "worker/loader_internal.h"

/* ---- the step ------------------------------------------------------------ */

/* Unless the step holds it, see to it that it cannot take it any more: it does
 * so without the lock. */
static bool withdraw(struct piece *p)
{
    uint8_t state = PIECE_READY;

    return atomic_compare_exchange_strong(&p->state, &state, PIECE_ABSENT) ||
           state != PIECE_HELD;
}

/* Nobody will use what is read of this piece. False: reads of it are still
 * under way; one has ended now, and the caller is to look again. */
static bool unused(struct hth_loader *l, uint32_t index)
{
    struct piece *p = &l->piece[index];

    p->dropped = true;
    if (l->current == index)
        l->current = NO_PIECE;
    if (p->under_way == 0)
        return true;
    pthread_cond_wait(&l->ready, &l->lock);
    return false;
}

/* Pieces at the beginning of the line, for places before `pos`, go unused. */
static void drop_until(struct hth_loader *l, uint64_t pos)
{
    while (l->line_count > 0) {
        uint32_t index = l->line[l->line_first];
        struct piece *p = &l->piece[index];

        if (p->pos >= pos || !withdraw(p))
            return;
        if (!unused(l, index))
            continue;
        l->tail = p->ring_at + p->bytes;
        hth_loader__vacate(l, p);
        l->line_first = (l->line_first + 1) % l->count;
        l->line_count--;
    }
}

/* From the end of the line on, until one that is held. */
static void drop_line(struct hth_loader *l)
{
    while (l->line_count > 0) {
        uint32_t last = (l->line_first + l->line_count - 1) % l->count;
        struct piece *p = &l->piece[l->line[last]];

        if (!withdraw(p))
            return;
        if (!unused(l, l->line[last]))
            continue;
        l->head = p->ring_at;
        hth_loader__vacate(l, p);
        l->line_count--;
    }
}

void hth_loader__restart(struct hth_loader *l, uint64_t pos)
{
    uint64_t want;

    l->next = UINT64_MAX; /* nothing is begun meanwhile */
    drop_line(l);
    want = atomic_load(&l->want); /* the step may have gone on */
    l->next = pos > want ? pos : want;
}

/* The step is at place `pos` now: what was read for places before is not
 * needed (the head, in the middle of a prompt; the rest of a step that
 * failed). A piece that is not here and was passed by is read all the same. */
static void go_to(struct hth_loader *l, uint32_t index, uint64_t pos)
{
    struct piece *p = &l->piece[index];

    drop_until(l, pos);
    atomic_store(&l->want, pos);
    if (p->rare && !atomic_load(&p->pinned))
        hth_loader__rare_need(l, index);
    else if (p->home == HOME_NONE && l->next > pos)
        hth_loader__restart(l, pos);
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
        hth_loader__restart(l, l->next);
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
    if (rc == HTH_OK) {
        atomic_store(&p->state, PIECE_HELD);
        drop_until(l, p->pos); /* release takes it off the line's beginning */
    } else {
        rc = failed(l, p, err);
    }
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
    uint64_t after = atomic_load(&l->want);

    /* Where several are held, `want` is the last one's place. */
    after += after % l->count == index;
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

/* ---- opening ------------------------------------------------------------- */

static int fill_pieces(struct hth_loader *l)
{
    uint32_t block = UINT32_MAX, in_block = 0;
    uint64_t place = 0;

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
        p->place = place;
        place += p->bytes;
        p->chunks = (uint32_t)((p->bytes + HTH_PACKED_CHUNK_BYTES - 1) /
                               HTH_PACKED_CHUNK_BYTES);
        p->rare = hth_piece_rare(l->o.spec, i) && l->group == 1;
    }
    return HTH_OK;
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

/* Where nothing streams: with places kept for pieces that are not there, the
 * large pages at their edges would be memory beyond the budget. */
static void reserve_places(struct hth_loader *l)
{
    const struct piece *last = &l->piece[l->count - 1];

    if (l->stats.window.streamed_bytes == 0 && last->place + last->bytes > 0)
        hth_pages_reserve(&l->pages, last->place + last->bytes);
}

static int open_parts(struct hth_loader *l, struct hth_err *err)
{
    int rc = alloc_lists(l, err);

    if (rc == HTH_OK)
        rc = keep_names(l, err);
    if (rc == HTH_OK)
        rc = fill_pieces(l);
    if (rc == HTH_OK)
        rc = hth_loader__first_plan(l, err);
    if (rc == HTH_OK)
        reserve_places(l);
    return rc == HTH_OK ? start_readers(l, err) : rc;
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
    l->group = o->layers ? hth_piece_attn(o->spec, 1) : 1;
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
    hth_pages_close(&l->pages);
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
