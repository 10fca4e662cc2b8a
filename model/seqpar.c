/* seqpar.c - a rank's loop over the layers of a spread prompt. Fails when a
 * peer is lost or the work is cancelled. */
#include "model/seqpar.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/type.h"
#include "model/seqpar_internal.h"

/* ---- memory ----------------------------------------------------------------
 */

struct sizes {
    size_t arena, prefix, q, att, ml, acc, blocks, scratch, pos;
};

static void measure(const struct hth_seqpar_opts *o, struct sizes *z)
{
    const struct hth_spec *s = o->spec;
    size_t rows = o->spread.rows[o->rank], chunk = o->rows_max;
    size_t pos_bytes = 2 * hth_row_bytes(o->kv_type, s->head_dim) * s->kv_heads;
    size_t block = hth_attn_k_bytes(o->kv_type, s->head_dim) +
                   hth_attn_v_bytes(o->kv_type, s->head_dim);

    *z = (struct sizes){.arena = pos_bytes * o->spread.count,
                        .prefix = pos_bytes * o->prefix,
                        .pos = ((size_t)o->spread.count + o->prefix) *
                               sizeof(uint32_t),
                        .blocks = block * HTH__BATCH_BLOCKS * s->kv_heads};
    if (rows == 0)
        return;
    z->q = rows * s->heads * s->head_dim * sizeof(float);
    z->att = chunk * s->heads * s->head_dim * sizeof(float);
    z->ml = rows * s->heads * sizeof(float);
    z->acc = rows * s->heads * hth_attn_dim(s->head_dim) * sizeof(float);
    z->scratch = (hth_attn_scratch_bytes(
                      HTH__TILE_ROWS * (s->heads / s->kv_heads), s->head_dim) +
                  HTH_MEM_ALIGN - 1) &
                 ~(size_t)(HTH_MEM_ALIGN - 1);
}

uint64_t hth_seqpar_bytes(const struct hth_seqpar_opts *o)
{
    struct sizes z;

    measure(o, &z);
    return HTH__SLOTS * ((uint64_t)z.arena + z.prefix) + z.q + z.att +
           2 * z.ml + z.acc + z.blocks + z.pos +
           (uint64_t)z.scratch * hth_pool_threads(o->pool);
}

static int take_memory(struct hth_seqpar *s, struct hth_err *err)
{
    struct sizes z;
    bool ok = true;

    measure(&s->o, &z);
    for (uint32_t i = 0; i < HTH__SLOTS; i++) {
        s->slot[i].arena = hth_mem_alloc(z.arena);
        s->slot[i].prefix = hth_mem_alloc(z.prefix);
        ok = ok && s->slot[i].arena != NULL && s->slot[i].prefix != NULL;
    }
    s->q = hth_mem_alloc(z.q);
    s->att = hth_mem_alloc(z.att);
    s->state = (struct hth_attn_state){hth_mem_alloc(z.ml), hth_mem_alloc(z.ml),
                                       hth_mem_alloc(z.acc)};
    s->blocks = hth_mem_alloc(z.blocks);
    s->scratch_bytes = z.scratch;
    s->scratch = hth_mem_alloc(z.scratch * hth_pool_threads(s->o.pool));
    s->pos = malloc(z.pos > 0 ? z.pos : 1);
    ok = ok && s->q && s->att && s->state.m && s->state.l && s->state.acc &&
         s->blocks && s->scratch && s->pos;
    return ok ? hth__make_messages(s, err)
              : hth_fail(err, HTH_ENOMEM,
                         "no memory for a prompt of %u tokens: %llu MiB are "
                         "needed beside weights and cache",
                         s->o.spread.count,
                         (unsigned long long)(hth_seqpar_bytes(&s->o) >> 20));
}

void hth_seqpar_close(struct hth_seqpar *s)
{
    if (s == NULL)
        return;
    for (uint32_t i = 0; i < HTH__SLOTS; i++) {
        hth_mem_free(s->slot[i].arena);
        hth_mem_free(s->slot[i].prefix);
    }
    hth_mem_free(s->q);
    hth_mem_free(s->att);
    hth_mem_free(s->state.m);
    hth_mem_free(s->state.l);
    hth_mem_free(s->state.acc);
    hth_mem_free(s->blocks);
    hth_mem_free(s->scratch);
    free(s->pos);
    hth__free_messages(s);
    free(s);
}

static void fill_positions(struct hth_seqpar *s)
{
    const struct hth_spread *spread = &s->o.spread;

    for (uint32_t r = 0; r < s->ranks; r++) {
        uint32_t *pos = s->pos + hth_spread_before(spread, r);

        hth_spread_positions(spread, r, pos);
        for (uint32_t i = 0; i < spread->rows[r]; i++)
            pos[i] += s->o.prefix;
    }
    for (uint32_t i = 0; i < s->o.prefix; i++)
        s->pos[spread->count + i] = i;
}

int hth_seqpar_open(struct hth_seqpar **out, const struct hth_seqpar_opts *o,
                    struct hth_err *err)
{
    struct hth_seqpar *s = calloc(1, sizeof *s);
    int rc;

    HTH_ASSERT(hth_spread_valid(&o->spread) &&
               o->spread.ranks == o->plan->ranks);
    if (s == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a long prompt");
    s->o = *o;
    s->spec = o->spec;
    s->ranks = o->spread.ranks;
    s->rank = o->rank;
    s->next = (s->rank + 1) % s->ranks;
    s->before = (s->rank + s->ranks - 1) % s->ranks;
    s->rows = o->spread.rows[s->rank];
    s->group = o->spec->heads / o->spec->kv_heads;
    s->adim = hth_attn_dim(o->spec->head_dim);
    s->row_bytes = hth_row_bytes(o->kv_type, o->spec->head_dim);
    s->pos_bytes = 2 * s->row_bytes * o->spec->kv_heads;
    s->arrivals = hth_spread_arrivals(&o->spread, s->rank, s->from);
    hth__prefix_heads(o, s->heads);
    rc = take_memory(s, err);
    if (rc != HTH_OK) {
        hth_seqpar_close(s);
        return rc;
    }
    fill_positions(s);
    hth__expect_always(s);
    for (uint32_t l = 0; l < HTH__SLOTS && l < o->spec->layers; l++)
        hth__open_layer(s, l);
    *out = s;
    return HTH_OK;
}

/* ---- waiting ----------------------------------------------------------------
 */

static int wait_for(struct hth_seqpar *s, const hth_peer_count *count,
                    uint32_t least, struct hth_err *err)
{
    uint64_t t0 = hth_now_ns();
    int rc = s->o.peers->wait(s->o.peers->ctx, count, least, err);

    s->times.wait_ns += hth_now_ns() - t0;
    return rc;
}

/* ---- a layer
 * ----------------------------------------------------------------- */

static struct hth_batch rows_of(const struct hth_seqpar *s, float *x,
                                uint32_t first)
{
    uint32_t left = s->rows - first;

    return (struct hth_batch){
        .rows = left < s->o.rows_max ? left : s->o.rows_max,
        .pos = s->pos + hth_spread_before(&s->o.spread, s->rank) + first,
        .x = x + (size_t)first * s->spec->dim};
}

/* Queries, keys and values of all own rows; pieces leave as they are full. */
static int project(struct hth_seqpar *s, uint32_t layer, float *x,
                   struct hth_err *err)
{
    size_t q_dim = (size_t)s->spec->heads * s->spec->head_dim;
    uint32_t posted = 0, first = 0;

    while (first < s->rows) {
        struct hth_batch b = rows_of(s, x, first);
        struct hth_qkv qkv;
        int rc = hth_forward_project(s->o.whole, layer, &b, &qkv, err);

        if (rc != HTH_OK)
            return rc;
        memcpy(s->q + first * q_dim, qkv.q, b.rows * q_dim * sizeof *s->q);
        s->k = qkv.k;
        s->v = qkv.v;
        hth__pack(s, &s->slot[layer % HTH__SLOTS], first, b.rows);
        first += b.rows;
        while (posted < hth__pieces(s->rows) &&
               posted * HTH_SEQPAR_PIECE_ROWS +
                       hth__piece_rows(s->rows, posted) <=
                   first)
            hth__post_own(s, layer, posted++);
    }
    return HTH_OK;
}

static void attend(struct hth_seqpar *s, const struct hth__piece *p, uint32_t n)
{
    uint64_t t0 = hth_now_ns();

    hth__attend(s, p, n);
    s->times.attend_ns += hth_now_ns() - t0;
}

/* A run of pieces, one after the other: of whose rows, counted as they come, or
 * NULL for those that are here; the heads that decoding needs stay. */
struct run {
    uint32_t rank; /* whose block, or part of the prefix */
    uint32_t pieces;
    const hth_peer_count *came;
    uint32_t *seen;
    bool prefix;
};

/* Pieces that are here, of at most `most`: the next one is waited for. */
static int next_pieces(struct hth_seqpar *s, const struct run *r, uint32_t most,
                       uint32_t *n, struct hth_err *err)
{
    uint32_t here = most;
    int rc;

    *n = most;
    if (r->came == NULL)
        return HTH_OK;
    rc = wait_for(s, r->came, *r->seen + 1, err);
    here = atomic_load(r->came) - *r->seen;
    *n = here < most ? here : most;
    *r->seen += *n;
    return rc;
}

static int use_run(struct hth_seqpar *s, uint32_t layer, const struct run *r,
                   struct hth_err *err)
{
    const struct hth__slot *slot = &s->slot[layer % HTH__SLOTS];
    struct hth__piece p[HTH__BATCH_PIECES];
    uint32_t n;

    for (uint32_t done = 0; done < r->pieces; done += n) {
        uint32_t left = r->pieces - done;
        int rc = next_pieces(
            s, r, left < HTH__BATCH_PIECES ? left : HTH__BATCH_PIECES, &n, err);

        if (rc != HTH_OK)
            return rc;
        for (uint32_t i = 0; i < n; i++)
            p[i] = r->prefix ? hth__prefix_piece(s, slot, r->rank, done + i)
                             : hth__block_piece(s, slot, r->rank, done + i);
        attend(s, p, n);
        for (uint32_t i = 0; i < n && !r->prefix; i++)
            hth__keep(s, layer, &p[i]);
    }
    return HTH_OK;
}

static int use_own(struct hth_seqpar *s, uint32_t layer, struct hth_err *err)
{
    struct run r = {.rank = s->rank, .pieces = hth__pieces(s->rows)};

    return use_run(s, layer, &r, err);
}

static int use_prefix(struct hth_seqpar *s, uint32_t layer, struct hth_err *err)
{
    int rc = HTH_OK;

    for (uint32_t r = 0; r < s->ranks && rc == HTH_OK; r++) {
        bool comes = hth__sends_prefix(s, r, s->rank);
        struct run run = {.rank = r,
                          .pieces = hth__pieces(s->o.prefix),
                          .came = comes ? &s->prefix_came[r] : NULL,
                          .seen = &s->prefix_seen[r],
                          .prefix = true};

        if (comes || (r == s->rank && s->heads[r].count > 0))
            rc = use_run(s, layer, &run, err);
    }
    return rc;
}

static int use_arrivals(struct hth_seqpar *s, uint32_t layer,
                        struct hth_err *err)
{
    int rc = HTH_OK;

    for (uint32_t a = 0; a < s->arrivals && rc == HTH_OK; a++) {
        uint32_t src = s->from[a];
        struct run run = {.rank = src,
                          .pieces = hth__pieces(s->o.spread.rows[src]),
                          .came = &s->came[src],
                          .seen = &s->came_seen[src]};

        rc = use_run(s, layer, &run, err);
    }
    return rc;
}

static int conclude(struct hth_seqpar *s, uint32_t layer, float *x,
                    struct hth_err *err)
{
    for (uint32_t first = 0; first < s->rows;) {
        struct hth_batch b = rows_of(s, x, first);
        int rc;

        hth__attend_finish(s, first, b.rows);
        rc = hth_forward_conclude(s->o.whole, layer, &b, s->att, err);
        if (rc != HTH_OK)
            return rc;
        first += b.rows;
    }
    return HTH_OK;
}

/* The slot's memory may be written again when all that was sent from it has
 * gone: own rows before they are projected, the others' before the next layer
 * in this slot is let in. */
static int begin_layer(struct hth_seqpar *s, uint32_t layer,
                       struct hth_err *err)
{
    struct hth__slot *slot = &s->slot[layer % HTH__SLOTS];
    int rc = wait_for(s, &slot->own_done, slot->own_total, err);

    if (rc != HTH_OK || s->o.prefix == 0)
        return rc;
    hth__fetch_prefix(s, slot, layer);
    hth__post_prefix(s, layer);
    return HTH_OK;
}

static int end_layer(struct hth_seqpar *s, uint32_t layer, struct hth_err *err)
{
    struct hth__slot *slot = &s->slot[layer % HTH__SLOTS];
    int rc;

    if (layer + HTH__SLOTS >= s->spec->layers)
        return HTH_OK;
    rc = wait_for(s, &slot->on_done, slot->on_total, err);
    if (rc == HTH_OK)
        hth__open_layer(s, layer + HTH__SLOTS);
    return rc;
}

static int take_weights(struct hth_seqpar *s, uint32_t layer,
                        struct hth_err *err)
{
    uint64_t t0 = hth_now_ns();
    int rc = HTH_OK;

    if (s->o.take_layer != NULL && s->rows > 0)
        rc = s->o.take_layer(s->o.take_ctx, layer, err);
    s->times.load_ns += hth_now_ns() - t0;
    return rc;
}

static int run_layer(struct hth_seqpar *s, uint32_t layer, float *x,
                     struct hth_err *err)
{
    int rc = begin_layer(s, layer, err);

    if (rc == HTH_OK)
        rc = take_weights(s, layer, err);
    if (rc == HTH_OK)
        rc = project(s, layer, x, err);
    if (rc != HTH_OK)
        return rc;
    hth__attend_begin(s);
    rc = use_own(s, layer, err);
    if (rc == HTH_OK && s->o.prefix > 0)
        rc = use_prefix(s, layer, err);
    if (rc == HTH_OK)
        rc = use_arrivals(s, layer, err);
    if (rc == HTH_OK)
        rc = conclude(s, layer, x, err);
    return rc == HTH_OK ? end_layer(s, layer, err) : rc;
}

int hth_seqpar_run(struct hth_seqpar *s, float *x, struct hth_err *err)
{
    uint64_t t0 = hth_now_ns();
    uint64_t other = s->times.wait_ns + s->times.load_ns;
    int rc = HTH_OK;

    for (uint32_t l = 0; l < s->spec->layers && rc == HTH_OK; l++)
        rc = run_layer(s, l, x, err);
    other = s->times.wait_ns + s->times.load_ns - other;
    s->times.compute_ns += hth_now_ns() - t0 - other;
    return rc;
}

int hth_seqpar_drain(struct hth_seqpar *s, struct hth_err *err)
{
    uint32_t layers = s->spec->layers;
    int rc = wait_for(s, &s->repaired, s->repair_in.n, err);

    for (uint32_t i = 0; i < HTH__SLOTS && rc == HTH_OK; i++) {
        rc = wait_for(s, &s->slot[i].own_done, s->slot[i].own_total, err);
        if (rc == HTH_OK)
            rc = wait_for(s, &s->slot[i].on_done, s->slot[i].on_total, err);
    }
    for (uint32_t r = 0; r < s->ranks && rc == HTH_OK; r++)
        if (hth__wants_credit(s, s->rank, r) && layers > HTH__SLOTS)
            rc = wait_for(s, &s->credits[r], layers - HTH__SLOTS, err);
    return rc;
}

void hth_seqpar_times(const struct hth_seqpar *s, struct hth_seqpar_times *out)
{
    *out = s->times;
}
