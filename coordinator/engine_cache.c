/* engine_cache.c - where requests live in the KV cache, and what stays there
 * when they end.
 *
 * A request runs in a slot. When it ends, the slot is kept, and the radix tree
 * (prefix.h) finds it for the next request that begins with the same tokens:
 * that one forks it and computes only the rest. Kept slots take what running
 * requests leave: they are dropped, least recently used first, when a slot or
 * a block is needed, so they never make a request wait.
 *
 * Rank 0's cache is changed at once, the other ranks' by the operations that
 * the next step carries, in the same order. The book (slots.h) counts blocks
 * as every rank has them. All of it is the engine thread's own. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/engine_internal.h"

static const struct hth_session *session(const struct hth_engine *e)
{
    return hth_rank_session(e->rank);
}

static void publish_phases(struct hth_engine *e)
{
    uint64_t sent, received;
    struct hth_rank_stats s;

    hth_rank_note(e->rank, 0, 0, 0); /* the steps were noted: the cache */
    hth_engine__traffic(e, &sent, &received);
    hth_rank_note_traffic(e->rank, sent, received);
    hth_rank_stats(e->rank, &s);
    atomic_store(&e->phase_steps, s.phases.steps);
    atomic_store(&e->phase_ns[0], s.phases.compute_ns);
    atomic_store(&e->phase_ns[1], s.phases.send_ns);
    atomic_store(&e->phase_ns[2], s.phases.receive_ns);
    atomic_store(&e->phase_ns[3], s.phases.wait_ns);
    atomic_store(&e->phase_ns[4], s.phases.disk_ns);
    atomic_store(&e->sent_bytes, s.phases.sent_bytes);
    atomic_store(&e->received_bytes, s.phases.received_bytes);
}

void hth_engine_totals(struct hth_engine *e, struct hth_engine_totals *out)
{
    out->prompt_tokens = atomic_load(&e->read_tokens);
    out->cached_tokens = atomic_load(&e->found_tokens);
    out->generated_tokens = atomic_load(&e->made_tokens);
}

void hth_engine_phases(struct hth_engine *e, struct hth_phases *out)
{
    out->steps = atomic_load(&e->phase_steps);
    out->compute_ns = atomic_load(&e->phase_ns[0]);
    out->send_ns = atomic_load(&e->phase_ns[1]);
    out->receive_ns = atomic_load(&e->phase_ns[2]);
    out->wait_ns = atomic_load(&e->phase_ns[3]);
    out->disk_ns = atomic_load(&e->phase_ns[4]);
    out->sent_bytes = atomic_load(&e->sent_bytes);
    out->received_bytes = atomic_load(&e->received_bytes);
}

/* Before a request's end is told, so that its caller sees what it left. */
void hth_engine__cache_publish(struct hth_engine *e)
{
    atomic_store(&e->cache_blocks, hth_slots_total(e->slots));
    atomic_store(&e->cache_used, hth_slots_used(e->slots));
    atomic_store(&e->cache_kept, hth_prefix_slots(e->prefix));
    atomic_store(&e->cache_kept_positions, hth_prefix_positions(e->prefix));
    publish_phases(e);
}

int hth_engine__cache_open(struct hth_engine *e, struct hth_err *err)
{
    const struct hth_session *s = session(e);
    struct hth_slots_opts o = {.positions = HTH_KV_BLOCK_POSITIONS,
                               .ctx_max = s->ctx_max};
    int rc;

    o.blocks = (s->kv_positions_max + o.positions - 1) / o.positions;
    rc = hth_slots_open(&e->slots, &o, err);
    if (rc == HTH_OK)
        rc = hth_prefix_open(&e->prefix, HTH_PREFIX_TOKENS, err);
    if (rc == HTH_OK)
        rc = hth_engine__kept_open(e, err);
    if (rc == HTH_OK && e->kept != NULL) {
        e->kept_tokens = calloc(s->ctx_max, sizeof *e->kept_tokens);
        if (e->kept_tokens == NULL)
            rc = hth_fail(err, HTH_ENOMEM, "no memory for --kv-dir");
    }
    if (rc == HTH_OK)
        hth_engine__cache_publish(e);
    return rc;
}

void hth_engine__cache_close(struct hth_engine *e)
{
    hth_slots_close(e->slots);
    hth_prefix_close(e->prefix);
    hth_engine__kept_close(e);
    free(e->kept_tokens);
    e->kept_tokens = NULL;
    e->slots = NULL;
    e->prefix = NULL;
}

/* The other ranks have lost their caches, or are about to. */
void hth_engine__cache_clear(struct hth_engine *e)
{
    hth_rank_forget(e->rank);
    hth_slots_clear(e->slots);
    hth_prefix_clear(e->prefix);
    memset(e->kept_tried, 0, sizeof e->kept_tried);
    e->ops = 0;
    e->positions_used = 0;
    hth_engine__cache_publish(e);
}

/* ---- operations ---------------------------------------------------------- */

/* A cut of what is empty or shorter already changes nothing anywhere. */
static void cut(struct hth_engine *e, uint32_t slot, uint32_t positions)
{
    struct hth_step_op op = {
        .kind = HTH_OP_CUT, .slot = slot, .positions = positions};

    HTH_ASSERT(e->ops < HTH_STEP_OPS_MAX);
    hth_slots_cut(e->slots, slot, positions);
    e->op[e->ops++] = op;
    (void)!hth_rank_op(e->rank, &op, NULL);
}

static void drop(struct hth_engine *e, uint32_t slot)
{
    cut(e, slot, 0);
    hth_slots_drop(e->slots, slot);
    e->kept_tried[slot] = 0;
}

void hth_engine__drop(struct hth_engine *e, uint32_t slot)
{
    drop(e, slot);
}

/* Make room: false when only running requests hold anything. */
static bool evict(struct hth_engine *e)
{
    uint32_t slot = hth_prefix_oldest(e->prefix);

    if (slot == HTH_SLOT_NONE)
        return false;
    hth_prefix_remove(e->prefix, slot);
    drop(e, slot);
    return true;
}

void hth_engine_peers_short(struct hth_engine *e, bool any)
{
    atomic_store(&e->peers_short, any);
}

/* The others give back what the cut leaves free when they run the step. */
void hth_engine__cache_ease(struct hth_engine *e)
{
    bool mine = hth_rank_ease(e->rank);

    if ((mine || atomic_load(&e->peers_short)) &&
        e->ops + HTH_SLOTS_MAX < HTH_STEP_OPS_MAX && evict(e))
        (void)hth_rank_ease(e->rank);
}

static uint32_t take(struct hth_engine *e)
{
    uint32_t slot = hth_slots_take(e->slots);

    while (slot == HTH_SLOT_NONE && evict(e))
        slot = hth_slots_take(e->slots);
    return slot;
}

uint32_t hth_engine__take(struct hth_engine *e, uint32_t positions)
{
    uint32_t slot = take(e);
    bool ok = slot != HTH_SLOT_NONE;

    while (ok && !hth_slots_grow(e->slots, slot, positions))
        ok = evict(e);
    if (ok || slot == HTH_SLOT_NONE)
        return slot;
    drop(e, slot);
    return HTH_SLOT_NONE;
}

/* Running requests' slots may be known too, once their prompts are computed;
 * those are their requests' to drop. */
static bool is_live(const struct hth_engine *e, uint32_t slot)
{
    return e->live[slot];
}

/* `slot` begins with [0, positions) of `from`; false: there is no room. Blocks
 * are freed by dropping others, `from` excepted. */
static bool fork_from(struct hth_engine *e, uint32_t from, uint32_t slot,
                      uint32_t positions)
{
    struct hth_step_op op = {.kind = HTH_OP_FORK,
                             .slot = slot,
                             .from = from,
                             .positions = positions};
    bool ok;

    hth_prefix_pin(e->prefix, from, true);
    do
        ok = hth_slots_fork(e->slots, from, slot, positions);
    while (!ok && evict(e));
    hth_prefix_pin(e->prefix, from, is_live(e, from));
    if (!ok)
        return false;
    if (hth_rank_op(e->rank, &op, NULL) != HTH_OK) {
        cut(e, slot, 0);
        return false;
    }
    HTH_ASSERT(e->ops < HTH_STEP_OPS_MAX);
    e->op[e->ops++] = op;
    return true;
}

/* ---- requests ------------------------------------------------------------ */

/* Operations that one request can cause from here to the end of the step: its
 * fork and its end, what it pushes out, and letting go of its adapters. */
#define OPS_PER_TASK 5u

static bool has_room(const struct hth_engine *e, const struct hth_task *t)
{
    uint32_t live = 0;

    for (uint32_t s = 0; s < HTH_SLOTS_MAX; s++)
        live += e->live[s];
    if (live >= HTH_SEQS_MAX)
        return false;
    if (e->ops + OPS_PER_TASK * (live + 1) + t->r.loras + HTH_SLOTS_MAX >
        HTH_STEP_OPS_MAX)
        return false;
    return e->positions_used == 0 ||
           e->positions_used + t->need <= session(e)->kv_positions_max;
}

/* At least one token is computed, for there must be logits to choose from;
 * all are where the caller wants something of all. */
static uint32_t cached_prefix(struct hth_engine *e, const struct hth_task *t,
                              uint32_t *from)
{
    struct hth_context c = {t->tokens, t->feed - 1, t->r.variant};

    if (!t->r.reuse || t->r.on_logits != NULL || t->r.on_hidden != NULL)
        return 0;
    hth_engine__kept_find(e, &c, hth_prefix_match(e->prefix, &c, from));
    return hth_prefix_match(e->prefix, &c, from);
}

/* What the rows of a slot are computed with, on every rank; id
 * HTH_LORA_NONE: nothing from now on. */
static void adapt(struct hth_engine *e, uint32_t slot, uint32_t id, float scale)
{
    struct hth_step_op op = {.kind = HTH_OP_ADAPT, .slot = slot, .from = id};
    uint32_t bits;

    memcpy(&bits, &scale, sizeof bits);
    op.key = bits;
    HTH_ASSERT(e->ops < HTH_STEP_OPS_MAX);
    e->op[e->ops++] = op;
    (void)!hth_rank_op(e->rank, &op, NULL);
}

bool hth_engine__place(struct hth_engine *e, struct hth_task *t)
{
    uint32_t from, n;

    if (!has_room(e, t))
        return false;
    n = cached_prefix(e, t, &from);
    if (n > 0)
        hth_prefix_pin(e->prefix, from, true);
    t->seq = take(e);
    if (n > 0)
        hth_prefix_pin(e->prefix, from, is_live(e, from));
    if (t->seq == HTH_SLOT_NONE)
        return false;
    if (n > 0 && fork_from(e, from, t->seq, n)) {
        t->pos = n;
        if (t->started_ns == 0)
            t->stats.cached_tokens = n;
        atomic_fetch_add(&e->found_tokens, n);
    }
    for (uint32_t i = 0; i < t->r.loras; i++)
        adapt(e, t->seq, t->r.lora[i].id, t->r.lora[i].scale);
    e->live[t->seq] = true;
    e->positions_used += t->need;
    return true;
}

int hth_engine__grow(struct hth_engine *e, struct hth_task *t, uint32_t n,
                     struct hth_err *err)
{
    struct hth_kv *kv = hth_forward_kv(hth_rank_forward(e->rank));

    while (!hth_slots_grow(e->slots, t->seq, t->pos + n))
        if (!evict(e))
            return hth_fail(err, HTH_ELIMIT,
                            "the KV cache is full: %u blocks are in use",
                            hth_slots_used(e->slots));
    return hth_kv_own(kv, t->seq, t->pos, n, err);
}

/* Let others find what a slot holds. The slot that is no longer needed for
 * that is dropped, unless its request still runs. */
static void make_known(struct hth_engine *e, const struct hth_task *t,
                       uint32_t n)
{
    struct hth_context c = {t->tokens, n, t->r.variant};
    uint32_t unneeded;

    if (hth_prefix_insert(e->prefix, &c, t->seq, &unneeded) != HTH_OK)
        return;
    if (unneeded != HTH_SLOT_NONE && !is_live(e, unneeded))
        drop(e, unneeded);
}

void hth_engine__prompt_done(struct hth_engine *e, struct hth_task *t)
{
    if (!t->r.reuse)
        return;
    make_known(e, t, t->r.count);
    if (hth_prefix_known(e->prefix, t->seq))
        hth_prefix_pin(e->prefix, t->seq, true);
}

/* What is kept ends with a whole unit of the tree: nobody could use the rest,
 * and a block for it would be held in vain. */
void hth_engine__leave(struct hth_engine *e, struct hth_task *t)
{
    uint32_t whole = t->pos - t->pos % HTH_PREFIX_TOKENS;

    if (t->r.reuse && whole > 0)
        make_known(e, t, whole);
    if (t->r.loras > 0)
        adapt(e, t->seq, HTH_LORA_NONE, 0);
    e->live[t->seq] = false;
    e->positions_used -= t->need;
    if (hth_prefix_known(e->prefix, t->seq)) {
        hth_prefix_pin(e->prefix, t->seq, false);
        cut(e, t->seq, whole);
    } else {
        drop(e, t->seq);
    }
    hth_engine__cache_publish(e);
}

void hth_engine_cache_stats(struct hth_engine *e, struct hth_cache_stats *out)
{
    out->blocks = atomic_load(&e->cache_blocks);
    out->blocks_used = atomic_load(&e->cache_used);
    out->kept = atomic_load(&e->cache_kept);
    out->kept_positions = atomic_load(&e->cache_kept_positions);
}
