/* split_lead.c - rank 0's side of a spread prompt: telling the others, its own
 * part, their results, the end. */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "worker/split_internal.h"

static struct hth_peers *peers(const struct hth_split *s)
{
    return hth_peer_links_peers(s->links);
}

static void send(const struct hth_split *s, struct hth_peer_msg *m)
{
    peers(s)->send(peers(s)->ctx, m);
}

/* ---- beginning
 * ---------------------------------------------------------------- */

/* A rank that cannot go on ends the waiting here; its reason is in its report.
 */
static void done_came(void *ctx, struct hth_peer_msg *m)
{
    struct hth_split *s = ctx;

    hth_split_get_done(&s->report[m->peer], m->data);
    if (s->report[m->peer].status != HTH_OK)
        hth_peer_links_cancel(s->links);
}

static void expect_from_all(struct hth_split *s)
{
    struct hth__job *j = &s->job;

    for (uint32_t r = 1; r < s->ranks; r++) {
        j->done[r] =
            (struct hth_peer_msg){.peer = r,
                                  .tag = hth_peer_tag(HTH_PEER_DONE, 0, 0, 0),
                                  .data = j->done_bytes[r],
                                  .n = HTH_SPLIT_DONE_BYTES,
                                  .stays = true,
                                  .done = &j->dones,
                                  .came = done_came,
                                  .ctx = s};
        peers(s)->expect(peers(s)->ctx, &j->done[r]);
    }
}

static uint32_t expect_results(struct hth_split *s)
{
    struct hth__job *j = &s->job;
    uint32_t n = 0;

    for (uint32_t r = 1; r < s->ranks; r++) {
        if (j->j.wants == 0 || s->session->plan.share[r].vocab == 0)
            continue;
        n++;
        j->result_msg[r] =
            (struct hth_peer_msg){.peer = r,
                                  .tag = hth_peer_tag(HTH_PEER_RESULT, 0, 0, 0),
                                  .data = j->result[r],
                                  .n = hth__split_result_bytes(s, r),
                                  .done = &j->results_done};
        peers(s)->expect(peers(s)->ctx, &j->result_msg[r]);
    }
    return n;
}

/* Everybody's rows in the order of ranks; rank 0's come first and stay. */
static int deal_rows(struct hth_split *s, const uint8_t *rows,
                     struct hth_err *err)
{
    struct hth__job *j = &s->job;
    size_t row = hth__embed_row_bytes(s, &j->j);
    uint32_t *pos = malloc(j->j.spread.count * sizeof *pos);
    uint8_t *to = j->embed;

    if (pos == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a prompt");
    for (uint32_t r = 0; r < s->ranks; r++) {
        hth_spread_positions(&j->j.spread, r, pos);
        for (uint32_t i = 0; i < j->j.spread.rows[r]; i++, to += row)
            memcpy(to, rows + pos[i] * row, row);
    }
    free(pos);
    return HTH_OK;
}

#define EMBED_ROWS 256u /* in one message: as split.c expects them */

static void send_rows(struct hth_split *s)
{
    struct hth__job *j = &s->job;
    size_t row = hth__embed_row_bytes(s, &j->j);
    const uint8_t *from = j->embed + j->rows * row;
    uint32_t used = 0;

    for (uint32_t r = 1; r < s->ranks; r++)
        for (uint32_t i = 0, left = j->j.spread.rows[r]; left > 0; i++) {
            uint32_t n = left < EMBED_ROWS ? left : EMBED_ROWS;
            struct hth_peer_msg *m = &j->embed_msg[used++];

            *m = (struct hth_peer_msg){
                .peer = r,
                .tag = hth_peer_tag(HTH_PEER_EMBED, 0, 0, i),
                .data = (void *)(uintptr_t)from,
                .n = n * row};
            send(s, m);
            from += n * row;
            left -= n;
        }
}

/* Over the links as they are between jobs: before the thread that moves
 * messages has them. */
static int tell_job(struct hth_split *s, struct hth_err *err)
{
    hth_buf_reset(&s->buf);
    hth_split_put_job(&s->buf, &s->job.j);
    for (uint32_t r = 1; r < s->ranks; r++)
        if (hth_link_send(s->link[r], HTH_TAG_STEP, s->buf.data, s->buf.len,
                          HTH_STEP_DEADLINE_MS) != HTH_OK) {
            *err = *hth_link_error(s->link[r]);
            return err->status;
        }
    return HTH_OK;
}

static void set_running(struct hth_split *s, bool running)
{
    pthread_mutex_lock(&s->lock);
    s->running = running;
    pthread_mutex_unlock(&s->lock);
}

void hth_split_cancel(struct hth_split *s)
{
    pthread_mutex_lock(&s->lock);
    if (s->running)
        hth_peer_links_cancel(s->links);
    pthread_mutex_unlock(&s->lock);
}

static int lead(struct hth_split *s, const struct hth_split_prompt *p,
                struct hth_err *err)
{
    struct hth__job *j = &s->job;
    uint32_t results;
    int rc = hth__job_begin(s, err);

    results = rc == HTH_OK ? expect_results(s) : 0;
    expect_from_all(s);
    if (rc == HTH_OK)
        rc = deal_rows(s, p->rows, err);
    hth_peer_links_go(s->links);
    if (rc != HTH_OK)
        return rc;
    set_running(s, true);
    /* Whoever cancels says so first and then calls, which before now was in
     * vain. */
    if (atomic_load(p->cancelled))
        hth_peer_links_cancel(s->links);
    send_rows(s);
    rc = hth__job_compute(s, err);
    if (rc == HTH_OK && results > 0)
        rc = peers(s)->wait(peers(s)->ctx, &j->results_done, results, err);
    return rc;
}

/* The sentence of the rank that could not go on says more than "cancelled". */
static void find_reason(const struct hth_split *s, struct hth_err *err)
{
    for (uint32_t r = 1; r < s->ranks; r++)
        if (s->report[r].status != HTH_OK &&
            s->report[r].status != HTH_ECANCELLED) {
            hth_fail(err, s->report[r].status, "device %s: %.400s",
                     hth_link_peer(s->link[r])->name, s->report[r].text);
            return;
        }
}

int hth_split_run(struct hth_split *s, const struct hth_split_prompt *p,
                  struct hth_err *err)
{
    struct hth_err why = {0};

    HTH_ASSERT(s->met && !s->job.open);
    memset(s->report, 0, sizeof s->report);
    s->job.j = p->job;
    s->job.j.job = ++s->jobs;
    s->job.open = true;
    s->job.err.status = tell_job(s, &s->job.err);
    if (s->job.err.status != HTH_OK) {
        *err = s->job.err;
        return err->status;
    }
    s->job.told = true;
    why.status = lead(s, p, &why);
    s->job.err = why;
    if (why.status == HTH_ECANCELLED)
        find_reason(s, &s->job.err);
    if (s->job.err.status != HTH_OK)
        *err = s->job.err;
    return s->job.err.status;
}

const uint8_t *hth_split_result(const struct hth_split *s, uint32_t rank)
{
    return s->job.result[rank];
}

const float *hth_split_logits(const struct hth_split *s)
{
    return s->job.logits;
}

const struct hth_split_done *hth_split_reports(const struct hth_split *s)
{
    return s->report;
}

/* ---- the end
 * -------------------------------------------------------------------- */

static void order(struct hth_split *s, struct hth_peer_msg *m,
                  enum hth_peer_kind kind, hth_peer_count *count)
{
    for (uint32_t r = 1; r < s->ranks; r++) {
        m[r] = (struct hth_peer_msg){.peer = r,
                                     .tag = hth_peer_tag(kind, 0, 0, 0),
                                     .stays = true,
                                     .done = count};
        send(s, &m[r]);
    }
}

/* A cancel that comes now comes too late, and must not end these waits. */
static int wait_all(struct hth_split *s, const hth_peer_count *count,
                    struct hth_err *err)
{
    for (;;) {
        int rc = peers(s)->wait(peers(s)->ctx, count, s->ranks - 1, err);

        if (rc != HTH_ECANCELLED || hth_peer_links_failed(s->links))
            return rc;
        hth_peer_links_resume(s->links);
    }
}

static int drain(struct hth_split *s)
{
    struct hth_err why = {0};
    int rc = s->job.err.status;

    if (rc == HTH_OK)
        rc = hth_seqpar_drain(s->job.par, &why);
    set_running(s, false);
    if (rc == HTH_OK)
        return HTH_OK;
    order(s, s->job.stop, HTH_PEER_STOP, NULL);
    peers(s)->drop(peers(s)->ctx);
    hth_peer_links_resume(s->links);
    return rc;
}

/* Should the job fail after its first token was chosen, the cache holds
 * rubbish: then the links are given up, which ends the request too. */
int hth_split_finish(struct hth_split *s, struct hth_err *err)
{
    struct hth__job *j = &s->job;
    bool good = j->err.status == HTH_OK;
    int late, rc;

    if (!j->told) { /* a link failed before anybody began */
        rc = hth_fail(err, j->err.status, "%s", j->err.text);
        hth__job_close(s);
        return rc;
    }
    late = drain(s);
    rc = wait_all(s, &j->dones, err);
    hth__job_report(s, HTH_OK, NULL, &s->report[0]);
    if (rc == HTH_OK) {
        order(s, j->end, HTH_PEER_END, &j->ends);
        rc = wait_all(s, &j->ends, err);
    }
    if (rc == HTH_OK)
        rc = hth_peer_links_rest(s->links, err);
    else
        (void)!hth_peer_links_rest(s->links, NULL);
    if (rc == HTH_OK && good && late != HTH_OK)
        rc = hth_fail(err, late,
                      "a prompt spread over the devices could not be finished");
    hth__job_close(s);
    return rc;
}
