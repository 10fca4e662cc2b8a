/* engine_prompt.c - what a prompt's computation came to: for the answer's
 * statistics and the log. Cannot fail. */
#include "base/clock.h"
#include "base/log.h"
#include "coordinator/engine_internal.h"

static void tell(const struct hth_task *t, double tp_s)
{
    const struct hth_prompt_stats *s = &t->stats.prompt;

    hth_log(HTH_LOG_INFO, "PREFILL",
            "mode=%s tokens=%u prefix=%u predicted_ms=%.1f took_ms=%.1f "
            "tp_ms=%.1f",
            hth_prefill_mode_text(s->mode), t->r.count - t->stats.cached_tokens,
            t->stats.cached_tokens, (double)s->predicted_ns * 1e-6,
            (double)s->took_ns * 1e-6, tp_s * 1e3);
    for (uint32_t r = 0; r < s->parts; r++)
        hth_log(HTH_LOG_INFO, "PREFILL-RANK",
                "rank=%u rows=%u compute_ms=%.1f attention_ms=%.1f "
                "waited_ms=%.1f weights_ms=%.1f sent_bytes=%llu "
                "received_bytes=%llu",
                r, s->part[r].rows, (double)s->part[r].compute_ns * 1e-6,
                (double)s->part[r].attend_ns * 1e-6,
                (double)s->part[r].wait_ns * 1e-6,
                (double)s->part[r].load_ns * 1e-6,
                (unsigned long long)s->part[r].sent_bytes,
                (unsigned long long)s->part[r].received_bytes);
}

void hth_engine__prompt_spread(struct hth_engine *e, struct hth_task *t,
                               const struct hth_prefill_choice *c)
{
    const struct hth_split_done *d = hth_split_reports(e->split);
    struct hth_prompt_stats *s = &t->stats.prompt;

    s->parts = e->ranks;
    for (uint32_t r = 0; r < e->ranks; r++)
        s->part[r] =
            (struct hth_prompt_part){.rows = c->spread.rows[r],
                                     .compute_ns = d[r].compute_ns,
                                     .attend_ns = d[r].attend_ns,
                                     .wait_ns = d[r].wait_ns,
                                     .load_ns = d[r].load_ns,
                                     .sent_bytes = d[r].sent_bytes,
                                     .received_bytes = d[r].received_bytes};
    tell(t, c->by_mode_s[HTH_PREFILL_TP]);
}

/* The others' times are not known here: they wait for rank 0 at every layer, so
 * its own say how long they had. */
void hth_engine__prompt_stepped(struct hth_engine *e, struct hth_task *t)
{
    const struct hth_forward_times *f =
        hth_forward_times(hth_rank_forward(e->rank));
    struct hth_prompt_stats *s = &t->stats.prompt;
    uint64_t sent, received;

    if (t->first_ns != 0 || e->ranks < 2)
        return;
    hth_engine__traffic(e, &sent, &received);
    s->mode = HTH_PREFILL_TP;
    s->took_ns = hth_now_ns() - t->started_ns;
    s->parts = 1;
    s->part[0] =
        (struct hth_prompt_part){.rows = t->r.count - t->stats.cached_tokens,
                                 .compute_ns = f->compute_ns - t->compute0_ns,
                                 .wait_ns = f->reduce_ns - t->reduce0_ns,
                                 .sent_bytes = sent - t->sent0,
                                 .received_bytes = received - t->received0};
    if (atomic_load(&e->running) == 1)
        hth_engine__split_learn(e, t, NULL);
    tell(t, (double)s->predicted_ns * 1e-9);
}
