/* engine_past.c - what is remembered of long prompts beyond a session. Nothing
 * here fails: what cannot be read or written is learnt anew. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/engine_internal.h"
#include "coordinator/prefills.h"

/* A restart that nobody announced loses no more than this of what was learnt.
 */
#define SAVE_EVERY_MS 5000u

/* Of the model's shape, the plan, the types on the wire and in the cache, and
 * who computes what. */
static bool key_of(const struct hth_engine *e, uint8_t key[HTH_HASH_BYTES])
{
    const struct hth_session *s = hth_rank_session(e->rank);
    struct hth_hash *h = NULL;
    struct hth_buf b;
    bool ok;

    hth_buf_init(&b, HTH_SESSION_BYTES_MAX);
    hth_spec_encode(&s->spec, &b);
    hth_plan_encode(&s->plan, &b);
    hth_put_u32(&b, s->kv_type);
    hth_put_u32(&b, s->wire_type);
    hth_put_u32(&b, s->rows_max);
    hth_put_u32(&b, e->o.threads);
    for (uint32_t r = 1; r < e->ranks; r++)
        hth_put_cstr(&b, hth_link_peer(e->link[r - 1])->id);
    ok = !b.failed && hth_hash_open(&h) == HTH_OK;
    if (ok) {
        hth_hash_update(h, b.data, b.len);
        hth_hash_finish(h, key);
    }
    hth_hash_close(h);
    hth_buf_fini(&b);
    return ok;
}

/* What is known now, in the form in which it is kept. */
static struct hth_prefills *snapshot(const struct hth_engine *e)
{
    struct hth_prefills *m = calloc(1, sizeof *m);

    if (m == NULL)
        return NULL;
    if (!key_of(e, m->key)) {
        free(m);
        return NULL;
    }
    m->ranks = e->ranks;
    m->alone = e->load.alone;
    for (uint32_t r = 0; r < e->ranks; r++)
        m->rank[r] = (struct hth_prefills_rank){
            .row_s = e->rate[r].row_s,
            .pair_s = e->rate[r].pair_s,
            .layer_s = e->rate[r].layer_s,
            .alpha_s = r > 0 ? e->net.alpha_s[0][r] : 0,
            .bytes_per_s = r > 0 ? e->net.bytes_per_s[0][r] : 1};
    m->memory = e->prefills;
    return m;
}

static void adopt(struct hth_engine *e, const struct hth_prefills *m)
{
    e->load.alone = m->alone;
    for (uint32_t r = 0; r < e->ranks; r++) {
        const struct hth_prefills_rank *k = &m->rank[r];

        e->rate[r].row_s = k->row_s;
        e->rate[r].pair_s = k->pair_s;
        e->rate[r].layer_s = k->layer_s;
        e->load.device[r].layer_s = k->layer_s;
        if (r == 0)
            continue;
        e->net.alpha_s[0][r] = e->net.alpha_s[r][0] = k->alpha_s;
        e->net.bytes_per_s[0][r] = e->net.bytes_per_s[r][0] = k->bytes_per_s;
    }
    hth_engine__split_rates(e);
    e->prefills = m->memory;
}

/* The links of a session in steps were not measured: those that are remembered
 * are taken as they are. */
bool hth_engine__past_open(struct hth_engine *e)
{
    struct hth_prefills *now, *then;
    bool found = false;

    if (e->o.past_dir == NULL)
        return false;
    now = snapshot(e);
    then = now != NULL ? malloc(sizeof *then) : NULL;
    if (then != NULL) {
        *then = *now;
        found = hth_prefills_load(then, e->o.past_dir) == HTH_OK;
        if (found && e->split != NULL && !hth_prefills_alike(then, now)) {
            found = false;
            hth_log(HTH_LOG_INFO, "PAST-FORGOTTEN",
                    "devices or links are not as they were: what long prompts "
                    "take is learnt anew");
        }
        if (found)
            adopt(e, then);
    }
    free(then);
    free(now);
    e->saved_ms = hth_now_ms();
    e->past_new = false;
    return found;
}

void hth_engine__past_save(struct hth_engine *e, bool at_once)
{
    struct hth_prefills *m;

    if (e->o.past_dir == NULL || !e->past_new ||
        (!at_once && hth_now_ms() - e->saved_ms < SAVE_EVERY_MS))
        return;
    e->past_new = false;
    e->saved_ms = hth_now_ms();
    m = snapshot(e);
    if (m != NULL && !hth_prefills_save(m, e->o.past_dir))
        hth_log(HTH_LOG_DEBUG, "PAST-UNSAVED", "%s cannot be written",
                e->o.past_dir);
    free(m);
}
