/* prompt_json.c - see prompt_json.h. Cannot fail but by the buffer. */
#include "coordinator/prompt_json.h"

#include "model/json_write.h"
#include "scheduler/spread.h"

static double ms(uint64_t ns)
{
    return (double)ns * 1e-6;
}

static void put_part(struct hth_buf *b, uint32_t rank,
                     const struct hth_prompt_part *p)
{
    hth_put_printf(b,
                   "{\"rank\":%u,\"rows\":%u,\"compute_ms\":%.3f,"
                   "\"attention_ms\":%.3f,\"waited_ms\":%.3f,"
                   "\"weights_ms\":%.3f,\"sent_bytes\":%llu,"
                   "\"received_bytes\":%llu}",
                   rank, p->rows, ms(p->compute_ns), ms(p->attend_ns),
                   ms(p->wait_ns), ms(p->load_ns),
                   (unsigned long long)p->sent_bytes,
                   (unsigned long long)p->received_bytes);
}

void hth_put_prompt_stats(struct hth_buf *b, const struct hth_prompt_stats *s)
{
    if (s->parts == 0)
        return;
    hth_json_key(b, "prefill");
    hth_put_u8(b, '{');
    hth_json_field(b, "mode", hth_prefill_mode_text(s->mode));
    hth_json_key(b, "predicted_ms");
    if (s->predicted_ns > 0)
        hth_put_printf(b, "%.3f", ms(s->predicted_ns));
    else
        hth_put_printf(b, "null");
    hth_json_key(b, "took_ms");
    hth_put_printf(b, "%.3f", ms(s->took_ns));
    hth_json_key(b, "ranks");
    for (uint32_t r = 0; r < s->parts; r++) {
        hth_put_u8(b, r == 0 ? '[' : ',');
        put_part(b, r, &s->part[r]);
    }
    hth_put_printf(b, "]}");
}
