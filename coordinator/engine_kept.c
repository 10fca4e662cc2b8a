/* engine_kept.c - contexts that survive a restart (--kv-dir).
 *
 * While nothing runs, kept sequences that are long enough are written, one at
 * a time, by every rank for its own heads; the tokens go into the list of
 * kept.h once all ranks have said that they wrote theirs. A request whose
 * beginning is on disk and not in the cache has it read back, by all ranks or
 * by none: one that cannot read its part says so, and the prompt is computed.
 *
 * Such an operation travels in a step of its own, which each rank answers.
 * Engine thread, except open and close. */
#include <stdlib.h>

#include "base/hash.h"
#include "base/log.h"
#include "coordinator/engine_internal.h"
#include "worker/packed_key.h"

/* What is read must save more than it costs to ask. */
#define GAIN_TOKENS_MIN 128u

/* ---- opening ------------------------------------------------------------- */

/* Everything on which keys and values depend: the file and how it is cut,
 * who computes what, how the sums travel, how the cache stores. */
static int fingerprint(struct hth_engine *e, uint8_t out[HTH_HASH_BYTES],
                       struct hth_err *err)
{
    const struct hth_session *s = hth_rank_session(e->rank);
    uint32_t blocks = hth_shard_blocks(&s->spec);
    uint8_t *keys = malloc((size_t)blocks * HTH_HASH_BYTES);
    struct hth_hash *h = NULL;
    struct hth_buf plan;
    int rc = keys == NULL || hth_hash_open(&h) != HTH_OK
                 ? hth_fail(err, HTH_ENOMEM, "no memory for --kv-dir")
                 : hth_packed_keys(e->o.gguf, s, keys, err);

    hth_buf_init(&plan, HTH_SESSION_BYTES_MAX);
    hth_plan_encode(&s->plan, &plan);
    hth_put_u32(&plan, s->kv_type);
    hth_put_u32(&plan, s->wire_type);
    hth_put_u32(&plan, HTH_KV_BLOCK_POSITIONS);
    if (rc == HTH_OK) {
        hth_hash_update(h, keys, (size_t)blocks * HTH_HASH_BYTES);
        hth_hash_update(h, plan.data, plan.len);
        hth_hash_finish(h, out);
    }
    hth_buf_fini(&plan);
    hth_hash_close(h);
    free(keys);
    return rc;
}

int hth_engine__kept_open(struct hth_engine *e, struct hth_err *err)
{
    uint8_t print[HTH_HASH_BYTES];
    int rc;

    if (e->o.kv_dir == NULL)
        return HTH_OK;
    rc = fingerprint(e, print, err);
    return rc == HTH_OK ? hth_kept_open(&e->kept, e->o.kv_dir, print, err) : rc;
}

void hth_engine__kept_close(struct hth_engine *e)
{
    hth_kept_close(e->kept);
    e->kept = NULL;
}

/* ---- an operation that is answered ----------------------------------------
 */

/* True when every rank did it. False also when a link failed, which the next
 * step finds out. */
static bool all_did(struct hth_engine *e, const struct hth_step_op *op)
{
    struct hth_err err = {0};
    bool ok;

    HTH_ASSERT(e->ops < HTH_STEP_OPS_MAX);
    e->op[e->ops++] = *op;
    if (hth_engine__send_ops(e, &err) != HTH_OK)
        return false;
    ok = hth_rank_op(e->rank, op, &err) == HTH_OK;
    if (!ok)
        hth_log(HTH_LOG_WARN, "CONTEXT-FAILED", "%s", err.text);
    for (uint32_t i = 0; i + 1 < e->ranks; i++) {
        uint8_t reply[4] = {0};

        if (hth_link_recv(e->link[i], HTH_TAG_KEPT, reply, sizeof reply,
                          HTH_STEP_DEADLINE_MS) != HTH_OK)
            return false;
        ok &= hth_load_u32(reply) == op->positions;
    }
    return ok;
}

/* ---- saving -------------------------------------------------------------- */

/* A sequence that is long enough, not on disk, and was not tried before. */
static uint32_t next_to_save(struct hth_engine *e, struct hth_context *c)
{
    c->tokens = e->kept_tokens;
    for (uint32_t s = 0; s < HTH_SLOTS_MAX; s++) {
        uint32_t same, count;
        uint64_t key;

        if (!hth_prefix_known(e->prefix, s) || e->live[s])
            continue;
        c->variant = hth_prefix_variant(e->prefix, s);
        c->n = hth_prefix_tokens(e->prefix, s, e->kept_tokens,
                                 hth_rank_session(e->rank)->ctx_max);
        if (c->n < HTH_KEPT_TOKENS_MIN || c->n == e->kept_tried[s])
            continue;
        same = hth_kept_match(e->kept, c, &key, &count);
        if (same < c->n)
            return s;
    }
    return HTH_SLOT_NONE;
}

void hth_engine__kept_save(struct hth_engine *e)
{
    struct hth_step_op op = {.kind = HTH_OP_SAVE};
    struct hth_context c;
    struct hth_err err = {0};

    if (e->kept == NULL || e->kept_tokens == NULL)
        return;
    op.slot = next_to_save(e, &c);
    if (op.slot == HTH_SLOT_NONE)
        return;
    op.positions = c.n;
    e->kept_tried[op.slot] = op.positions;
    op.key = hth_kept_key(e->kept, &c);
    if (!all_did(e, &op))
        return;
    if (hth_kept_add(e->kept, &c, &err) != HTH_OK)
        hth_log(HTH_LOG_WARN, "CONTEXT-FAILED", "%s", err.text);
    else
        hth_log(HTH_LOG_INFO, "CONTEXT-KEPT", "tokens=%u", op.positions);
}

/* ---- loading ------------------------------------------------------------- */

static void load(struct hth_engine *e, uint64_t key, uint32_t count,
                 uint64_t variant)
{
    struct hth_step_op op = {
        .kind = HTH_OP_LOAD, .positions = count, .key = key};
    struct hth_context c = {hth_kept_tokens(e->kept, key), count, variant};
    uint32_t unneeded;

    op.slot = hth_engine__take(e, count);
    if (op.slot == HTH_SLOT_NONE)
        return;
    if (!all_did(e, &op)) {
        hth_engine__drop(e, op.slot);
        hth_kept_forget(e->kept, key);
        return;
    }
    hth_log(HTH_LOG_INFO, "CONTEXT-READ", "tokens=%u", count);
    if (hth_prefix_insert(e->prefix, &c, op.slot, &unneeded) != HTH_OK ||
        (unneeded != HTH_SLOT_NONE && !e->live[unneeded]))
        hth_engine__drop(e, unneeded);
}

void hth_engine__kept_find(struct hth_engine *e, const struct hth_context *c,
                           uint32_t cached)
{
    uint32_t n, count;
    uint64_t key;

    if (e->kept == NULL)
        return;
    n = hth_kept_match(e->kept, c, &key, &count);
    if (n >= cached + GAIN_TOKENS_MIN)
        load(e, key, count, c->variant);
}
