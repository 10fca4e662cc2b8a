/* split.c - a rank's course through a spread prompt. */
#include "worker/split.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/quant.h"
#include "kernels/type.h"
#include "worker/split_internal.h"

static const struct hth_share *share_of(const struct hth_split *s,
                                        uint32_t rank)
{
    return &s->session->plan.share[rank];
}

static struct hth_peers *peers(const struct hth_split *s)
{
    return hth_peer_links_peers(s->links);
}

static void send(const struct hth_split *s, struct hth_peer_msg *m)
{
    peers(s)->send(peers(s)->ctx, m);
}

static void expect(const struct hth_split *s, struct hth_peer_msg *m)
{
    peers(s)->expect(peers(s)->ctx, m);
}

static int wait_for(const struct hth_split *s, const hth_peer_count *count,
                    uint32_t least, struct hth_err *err)
{
    return peers(s)->wait(peers(s)->ctx, count, least, err);
}

/* ---- sizes ------------------------------------------------------------------
 */

struct hth_seqpar_opts hth__par_opts(const struct hth_split *s,
                                     const struct hth_split_job *job,
                                     uint32_t rank)
{
    const struct hth_session *e = s->session;

    return (struct hth_seqpar_opts){
        .spec = &e->spec,
        .plan = &e->plan,
        .rank = rank,
        .kv_type = e->kv_type,
        .rows_max = e->rows_max,
        .whole = s->whole != NULL ? hth_whole_forward(s->whole) : NULL,
        .kv = hth_forward_kv(s->o.forward),
        .pool = s->o.pool,
        .peers = peers(s),
        .spread = job->spread,
        .seq = job->seq,
        .prefix = job->prefix,
        .take_layer = hth_whole_layer,
        .take_ctx = s->whole};
}

size_t hth__embed_row_bytes(const struct hth_split *s,
                            const struct hth_split_job *job)
{
    return hth_row_bytes(job->embed_type, s->session->spec.dim);
}

size_t hth__split_result_bytes(const struct hth_split *s, uint32_t rank)
{
    return hth_result_bytes(1, s->job.j.candidates, share_of(s, rank)->vocab);
}

uint64_t hth_split_job_bytes(const struct hth_split *s,
                             const struct hth_split_job *job, uint32_t rank)
{
    struct hth_seqpar_opts o = hth__par_opts(s, job, rank);
    uint64_t rows = rank == 0 ? job->spread.count : job->spread.rows[rank];

    return hth_seqpar_bytes(&o) +
           4ull * job->spread.rows[rank] * s->session->spec.dim +
           rows * hth__embed_row_bytes(s, job);
}

/* The longest message between two workers. */
static size_t message_max(const struct hth_split *s)
{
    const struct hth_spec *m = &s->session->spec;
    size_t piece = 2ul * HTH_SEQPAR_PIECE_ROWS * m->kv_heads *
                   hth_row_bytes(s->session->kv_type, m->head_dim);
    size_t hidden = (size_t)m->dim * sizeof(float);

    return piece > hidden ? piece : hidden;
}

/* ---- messages of the course
 * --------------------------------------------------- */

static void stop_came(void *ctx, struct hth_peer_msg *m)
{
    struct hth_split *s = ctx;

    (void)m;
    hth_peer_links_cancel(s->links);
}

static void end_came(void *ctx, struct hth_peer_msg *m)
{
    struct hth_split *s = ctx;

    (void)m;
    hth_peer_links_over(s->links);
}

static void expect_orders(struct hth_split *s)
{
    struct hth__job *j = &s->job;

    j->stop[0] =
        (struct hth_peer_msg){.tag = hth_peer_tag(HTH_PEER_STOP, 0, 0, 0),
                              .stays = true,
                              .came = stop_came,
                              .ctx = s};
    j->end[0] =
        (struct hth_peer_msg){.tag = hth_peer_tag(HTH_PEER_END, 0, 0, 0),
                              .stays = true,
                              .done = &j->ends,
                              .came = end_came,
                              .ctx = s};
    expect(s, &j->stop[0]);
    expect(s, &j->end[0]);
}

#define EMBED_ROWS 256u /* in one message */

static void expect_rows(struct hth_split *s)
{
    struct hth__job *j = &s->job;
    size_t row = hth__embed_row_bytes(s, &j->j);

    for (uint32_t i = 0; i < j->embed_msgs; i++) {
        uint32_t first = i * EMBED_ROWS, left = j->rows - first;

        j->embed_msg[i] = (struct hth_peer_msg){
            .tag = hth_peer_tag(HTH_PEER_EMBED, 0, 0, i),
            .data = j->embed + first * row,
            .n = (left < EMBED_ROWS ? left : EMBED_ROWS) * row,
            .done = &j->embed_done};
        expect(s, &j->embed_msg[i]);
    }
}

static bool wants_hidden(const struct hth_split *s, uint32_t rank)
{
    return s->job.j.wants > 0 && share_of(s, rank)->vocab > 0;
}

static void expect_hidden(struct hth_split *s)
{
    struct hth__job *j = &s->job;

    if (j->owner == s->rank || !wants_hidden(s, s->rank))
        return;
    j->hidden_msg[0] = (struct hth_peer_msg){
        .peer = j->owner,
        .tag = hth_peer_tag(HTH_PEER_HIDDEN, 0, 0, 0),
        .data = j->hidden,
        .n = (size_t)s->session->spec.dim * sizeof *j->hidden,
        .done = &j->hidden_done};
    expect(s, &j->hidden_msg[0]);
}

/* ---- beginning
 * ----------------------------------------------------------------- */

static int take_memory(struct hth_split *s, struct hth_err *err)
{
    struct hth__job *j = &s->job;
    size_t dim = s->session->spec.dim, vocab = share_of(s, s->rank)->vocab;
    size_t rows = s->rank == 0 ? 0 : j->rows;
    bool ok;

    j->embed_msgs = (uint32_t)((rows + EMBED_ROWS - 1) / EMBED_ROWS);
    if (s->rank == 0)
        for (uint32_t r = 1; r < s->ranks; r++)
            j->embed_msgs +=
                (j->j.spread.rows[r] + EMBED_ROWS - 1) / EMBED_ROWS;
    j->embed_msg = calloc(j->embed_msgs + 1, sizeof *j->embed_msg);
    j->embed = hth_mem_alloc((s->rank == 0 ? j->j.spread.count : rows) *
                                 hth__embed_row_bytes(s, &j->j) +
                             1);
    j->x = hth_mem_alloc(j->rows * dim * sizeof *j->x + 1);
    j->hidden = hth_mem_alloc(dim * sizeof *j->hidden);
    j->logits = hth_mem_alloc(vocab * sizeof *j->logits + 1);
    ok = j->embed_msg && j->embed && j->x && j->hidden && j->logits;
    for (uint32_t r = 0; ok && r < s->ranks; r++)
        if (r == s->rank || s->rank == 0)
            ok = (j->result[r] = malloc(hth__split_result_bytes(s, r) + 1)) !=
                 NULL;
    return ok ? HTH_OK
              : hth_fail(err, HTH_ENOMEM, "no memory for a prompt of %u tokens",
                         j->j.spread.count);
}

void hth__job_close(struct hth_split *s)
{
    struct hth__job *j = &s->job;

    hth_seqpar_close(j->par);
    free(j->embed_msg);
    hth_mem_free(j->embed);
    hth_mem_free(j->x);
    hth_mem_free(j->hidden);
    hth_mem_free(j->logits);
    for (uint32_t r = 0; r < HTH_RANKS_MAX; r++)
        free(j->result[r]);
    memset(j, 0, sizeof *j);
    hth__split_give_room(s);
}

/* For the job's buffers, and whole layers where this rank has rows. */
static int take_room(struct hth_split *s, struct hth_err *err)
{
    int rc = hth__split_take_room(s, hth_split_job_bytes(s, &s->job.j, s->rank),
                                  err);

    if (rc == HTH_EOVERFLOW)
        hth_fail_prefix(err, rc,
                        "a prompt of %u tokens does not fit the memory of this "
                        "device; raise --memory or use --prefill tp",
                        s->job.j.spread.count);
    if (s->whole != NULL)
        s->waited0_ns = hth_whole_waited_ns(s->whole);
    return rc;
}

/* The job's number and shape are in s->job.j. What fails here leaves the rank
 * able to say so. */
int hth__job_begin(struct hth_split *s, struct hth_err *err)
{
    struct hth__job *j = &s->job;
    struct hth_seqpar_opts o = hth__par_opts(s, &j->j, s->rank);
    int rc;

    j->rows = j->j.spread.rows[s->rank];
    j->owner = hth_spread_last(&j->j.spread);
    hth_peer_links_begin(s->links, j->j.job, message_max(s));
    if (s->rank != 0)
        expect_orders(s);
    rc = s->whole == NULL && j->rows > 0
             ? hth_fail(err, HTH_EUNSUPPORTED, "there are no whole layers here")
             : take_room(s, err);
    if (rc == HTH_OK)
        rc = take_memory(s, err);
    if (rc == HTH_OK)
        rc = hth_kv_own(o.kv, o.seq, o.prefix, o.spread.count, err);
    if (rc != HTH_OK)
        return rc;
    if (s->rank != 0)
        expect_rows(s);
    expect_hidden(s);
    return hth_seqpar_open(&j->par, &o, err);
}

/* ---- computing
 * ------------------------------------------------------------------ */

static int decode_rows(struct hth_split *s, struct hth_err *err)
{
    struct hth__job *j = &s->job;
    size_t row = hth__embed_row_bytes(s, &j->j), dim = s->session->spec.dim;
    int rc = HTH_OK;

    if (s->rank != 0)
        rc = wait_for(s, &j->embed_done, j->embed_msgs, err);
    for (uint32_t i = 0; i < j->rows && rc == HTH_OK; i++)
        hth_dequantize((enum hth_type)j->j.embed_type, j->embed + i * row,
                       j->x + i * dim, (uint32_t)dim);
    return rc;
}

static void send_hidden(struct hth_split *s)
{
    struct hth__job *j = &s->job;
    size_t dim = s->session->spec.dim;

    memcpy(j->hidden, j->x + (j->rows - 1) * dim, dim * sizeof *j->hidden);
    for (uint32_t r = 0; r < s->ranks; r++) {
        if (r == s->rank || !wants_hidden(s, r))
            continue;
        j->hidden_msg[r] =
            (struct hth_peer_msg){.peer = r,
                                  .tag = hth_peer_tag(HTH_PEER_HIDDEN, 0, 0, 0),
                                  .data = j->hidden,
                                  .n = dim * sizeof *j->hidden};
        send(s, &j->hidden_msg[r]);
    }
}

static int answer(struct hth_split *s, struct hth_err *err)
{
    struct hth__job *j = &s->job;
    struct hth_slice slice = {share_of(s, s->rank)->vocab_first,
                              share_of(s, s->rank)->vocab};
    struct hth_step step = {.wants = 1, .candidates = j->j.candidates};
    int rc = HTH_OK;

    if (j->owner == s->rank && j->j.wants > 0)
        send_hidden(s);
    if (!wants_hidden(s, s->rank))
        return HTH_OK;
    if (j->owner != s->rank)
        rc = wait_for(s, &j->hidden_done, 1, err);
    if (rc == HTH_OK)
        rc = hth_forward_logits(s->o.forward, j->hidden, 1, j->logits, err);
    if (rc != HTH_OK || s->rank == 0)
        return rc;
    hth_result_encode(&step, &slice, j->logits, j->result[s->rank]);
    j->result_msg[0] =
        (struct hth_peer_msg){.tag = hth_peer_tag(HTH_PEER_RESULT, 0, 0, 0),
                              .data = j->result[s->rank],
                              .n = hth__split_result_bytes(s, s->rank),
                              .done = &j->results_done};
    send(s, &j->result_msg[0]);
    return HTH_OK;
}

int hth__job_compute(struct hth_split *s, struct hth_err *err)
{
    int rc = decode_rows(s, err);

    if (rc == HTH_OK)
        rc = hth_seqpar_run(s->job.par, s->job.x, err);
    return rc == HTH_OK ? answer(s, err) : rc;
}

static uint64_t own_pairs(const struct hth_split *s)
{
    const struct hth_spread *p = &s->job.j.spread;
    uint32_t *pos = malloc((p->rows[s->rank] + 1ul) * sizeof *pos);
    uint64_t n = 0;

    if (pos == NULL)
        return 0;
    hth_spread_positions(p, s->rank, pos);
    for (uint32_t i = 0; i < p->rows[s->rank]; i++)
        n += s->job.j.prefix + pos[i] + 1ul;
    free(pos);
    return n;
}

/* Of the waits for weights, seqpar sees those at a layer's beginning only. */
static void note_waits(const struct hth_split *s,
                       const struct hth_seqpar_times *t,
                       struct hth_split_done *out)
{
    uint64_t all =
        s->whole != NULL ? hth_whole_waited_ns(s->whole) - s->waited0_ns : 0;
    uint64_t later = all > t->load_ns ? all - t->load_ns : 0;

    later = later < t->compute_ns ? later : t->compute_ns;
    out->load_ns = t->load_ns + later;
    out->compute_ns = t->compute_ns - later;
}

void hth__job_report(struct hth_split *s, int status, const struct hth_err *err,
                     struct hth_split_done *out)
{
    struct hth_seqpar_times t = {0};

    memset(out, 0, sizeof *out);
    out->status = status;
    if (status != HTH_OK)
        memcpy(out->text, err->text, sizeof out->text);
    if (s->job.par != NULL)
        hth_seqpar_times(s->job.par, &t);
    out->attend_ns = t.attend_ns;
    out->wait_ns = t.wait_ns;
    note_waits(s, &t, out);
    out->sent_bytes = t.sent_bytes;
    out->received_bytes = t.received_bytes;
    out->pairs = own_pairs(s);
}

/* ---- a worker's job
 * -------------------------------------------------------------- */

/* Say that we are through, and stay with the links until everybody is. */
static int say_done(struct hth_split *s, int status, const struct hth_err *why,
                    struct hth_err *err)
{
    struct hth__job *j = &s->job;
    struct hth_split_done done;

    hth__job_report(s, status, why, &done);
    hth_split_put_done(j->done_bytes[0], &done);
    j->done[0] =
        (struct hth_peer_msg){.tag = hth_peer_tag(HTH_PEER_DONE, 0, 0, 0),
                              .data = j->done_bytes[0],
                              .n = HTH_SPLIT_DONE_BYTES,
                              .stays = true,
                              .done = &j->dones};
    send(s, &j->done[0]);
    for (;;) {
        int rc = wait_for(s, &j->ends, 1, err);

        if (rc != HTH_ECANCELLED || hth_peer_links_failed(s->links))
            return rc;
        /* Stopped while waiting: nothing more to stop here. */
        hth_peer_links_resume(s->links);
    }
}

static int run_job(struct hth_split *s, struct hth_err *err)
{
    struct hth_err why = {0};
    int rc, status = hth__job_begin(s, &why);

    hth_peer_links_go(s->links);
    if (status == HTH_OK)
        status = hth__job_compute(s, &why);
    if (status == HTH_OK)
        status = hth_seqpar_drain(s->job.par, &why);
    if (status == HTH_OK && wants_hidden(s, s->rank))
        status = wait_for(s, &s->job.results_done, 1, &why);
    if (status != HTH_OK) {
        peers(s)->drop(peers(s)->ctx);
        hth_peer_links_resume(s->links);
    }
    rc = say_done(s, status, &why, err);
    if (rc == HTH_OK)
        rc = hth_peer_links_rest(s->links, err);
    else
        (void)!hth_peer_links_rest(s->links, NULL);
    hth__job_close(s);
    return rc;
}

static int obey_job(struct hth_split *s, const uint8_t *src, size_t n,
                    struct hth_err *err)
{
    struct hth_split_bounds b = {s->ranks, s->session->ctx_max,
                                 s->session->spec.dim};

    if (s->links == NULL || hth_split_get_job(&s->job.j, &b, src, n) != HTH_OK)
        return hth_fail(err, HTH_EPROTO,
                        "the coordinator sent a prompt that does not fit the "
                        "session");
    return run_job(s, err);
}

/* ---- orders of rank 0
 * -------------------------------------------------------------- */

static int reply(struct hth_split *s, struct hth_err *err)
{
    int rc = hth_link_send(s->link[0], HTH_TAG_MEET, s->buf.data, s->buf.len,
                           HTH_STEP_DEADLINE_MS);

    if (rc != HTH_OK && err != NULL)
        *err = *hth_link_error(s->link[0]);
    return rc;
}

static int obey_meet(struct hth_split *s, struct hth_err *err)
{
    struct hth_split_met met = {0};
    int rc = hth__split_measure(s, err);

    if (rc != HTH_OK)
        return rc;
    met.rates = s->rates;
    if (s->mesh != NULL)
        met.port = hth_mesh_port(s->mesh);
    hth_buf_reset(&s->buf);
    hth_split_put_met(&s->buf, &met);
    return reply(s, err);
}

static int obey_dial(struct hth_split *s, const uint8_t *src, size_t n,
                     struct hth_err *err)
{
    struct hth_split_dial *dial = malloc(sizeof *dial);
    uint32_t bits = 0;
    int rc = dial == NULL ? HTH_ENOMEM : hth_split_get_dial(dial, src, n);

    if (rc == HTH_OK && s->mesh != NULL)
        bits = hth_mesh_meet(s->mesh, dial->meeting, dial->peer, dial->ranks);
    free(dial);
    if (rc != HTH_OK)
        return hth_fail(err, rc,
                        "the coordinator sent addresses that cannot "
                        "be read");
    hth_buf_reset(&s->buf);
    hth_split_put_bits(&s->buf, bits);
    return reply(s, err);
}

static int obey_keep(struct hth_split *s, const uint8_t *src, size_t n,
                     struct hth_err *err)
{
    uint32_t bits;

    if (hth_split_get_bits(&bits, true, src, n) != HTH_OK)
        return hth_fail(err, HTH_EPROTO,
                        "the coordinator sent links that "
                        "cannot be read");
    if (s->mesh != NULL)
        hth_mesh_keep(s->mesh, bits);
    for (uint32_t r = 1; r < s->ranks; r++)
        s->link[r] = s->mesh != NULL ? hth_mesh_link(s->mesh, r) : NULL;
    return hth__split_open_links(s, err);
}

int hth_split_obey(struct hth_split *s, const uint8_t *src, size_t n,
                   struct hth_err *err)
{
    if (s == NULL)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "prompts are not spread over devices in this session");
    switch (hth_split_kind(src, n)) {
    case HTH_SPLIT_MEET:
        return obey_meet(s, err);
    case HTH_SPLIT_DIAL:
        return obey_dial(s, src, n, err);
    case HTH_SPLIT_KEEP:
        return obey_keep(s, src, n, err);
    case HTH_SPLIT_JOB:
        return obey_job(s, src, n, err);
    case HTH_SPLIT_PING:
        hth_buf_reset(&s->buf);
        hth_split_put_bits(&s->buf, 0);
        return reply(s, err);
    default:
        return hth_fail(err, HTH_EPROTO,
                        "the coordinator sent a message of unknown kind");
    }
}
