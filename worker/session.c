/* session.c - a session over the wire. Decoding checks every number against
 * the limits and the spec, so that what it lets through can be computed. */
#include <string.h>

#include "worker/rank.h"

#include "kernels/attn.h"
#include "kernels/type.h"
#include "scheduler/spread.h"

/* Of this encoding, the steps' (step.c) and spread prompts' (split_msg.c). A
 * device that does not know it says so when it is given the session. */
#define SESSION_LAYOUT 4u

void hth_session_encode(const struct hth_session *s, struct hth_buf *b)
{
    hth_put_u32(b, SESSION_LAYOUT);
    hth_put_u64(b, s->id);
    hth_put_u32(b, s->rank);
    hth_put_u32(b, s->ctx_max);
    hth_put_u32(b, s->kv_positions_max);
    hth_put_u32(b, s->rows_max);
    hth_put_u32(b, s->kv_type);
    hth_put_u32(b, s->wire_type);
    hth_put_u32(b, s->prefill);
    hth_put_u64(b, s->lora_bytes);
    hth_spec_encode(&s->spec, b);
    hth_plan_encode(&s->plan, b);
}

/* Whether the cache can hold heads of this model, it says itself. */
static bool numbers_ok(const struct hth_session *s)
{
    return s->ctx_max >= 1 && s->ctx_max <= HTH_CTX_MAX &&
           s->kv_positions_max >= s->ctx_max && s->rows_max >= 1 &&
           s->rows_max <= HTH_STEP_ROWS_MAX &&
           hth_attn_type_ok(s->kv_type, 32) && s->wire_type <= HTH_WIRE_Q8 &&
           s->prefill < HTH_PREFILL_MODES &&
           s->lora_bytes <= HTH_LORA_BYTES_MAX;
}

int hth_session_decode(struct hth_session *s, struct hth_cursor *c,
                       struct hth_err *err)
{
    uint32_t layout = hth_get_u32(c);
    int rc;

    s->id = hth_get_u64(c);
    s->rank = hth_get_u32(c);
    s->ctx_max = hth_get_u32(c);
    s->kv_positions_max = hth_get_u32(c);
    s->rows_max = hth_get_u32(c);
    s->kv_type = hth_get_u32(c);
    s->wire_type = hth_get_u32(c);
    s->prefill = hth_get_u32(c);
    s->lora_bytes = hth_get_u64(c);
    if (c->failed || layout != SESSION_LAYOUT || !numbers_ok(s))
        return hth_fail(err, HTH_EFORMAT,
                        "the coordinator sent a session that this device "
                        "cannot read");
    rc = hth_spec_decode(&s->spec, c, err);
    if (rc == HTH_OK)
        rc = hth_plan_decode(&s->plan, &s->spec, c, err);
    if (rc == HTH_OK && (s->rank >= s->plan.ranks || !hth_cursor_done(c)))
        rc = hth_fail(err, HTH_EFORMAT,
                      "the coordinator sent a session with rank %u of %u",
                      s->rank, s->plan.ranks);
    return rc;
}
