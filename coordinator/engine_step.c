/* engine_step.c - one step over all live requests: which rows, running them on
 * all ranks, choosing tokens. An error that comes back means the group is
 * broken; a fault of one request ends that request only. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "coordinator/engine_internal.h"

static const struct hth_session *session(const struct hth_engine *e)
{
    return hth_rank_session(e->rank);
}

static struct hth_slice slice_of(const struct hth_engine *e, uint32_t rank)
{
    const struct hth_share *s = &session(e)->plan.share[rank];

    return (struct hth_slice){s->vocab_first, s->vocab};
}

/* ---- memory -------------------------------------------------------------- */

int hth_engine__alloc_step(struct hth_engine *e, struct hth_err *err)
{
    const struct hth_session *s = session(e);
    struct hth_step_bounds b = {s->spec.dim, s->rows_max, s->ctx_max};
    bool ok;

    e->x = hth_mem_alloc((size_t)s->rows_max * s->spec.dim * 4);
    e->wanted = hth_mem_alloc((size_t)HTH_STEP_WANTS_MAX * s->spec.dim * 4);
    e->logits =
        hth_mem_alloc((size_t)HTH_STEP_WANTS_MAX * slice_of(e, 0).vocab * 4);
    e->message = hth_mem_alloc(hth_step_bytes_max(&b));
    e->candidate = hth_mem_alloc(s->spec.vocab * sizeof *e->candidate);
    e->row_logits = hth_mem_alloc((size_t)s->spec.vocab * 4);
    ok = e->x && e->wanted && e->logits && e->message && e->candidate &&
         e->row_logits;
    for (uint32_t r = 1; ok && r < s->plan.ranks; r++) {
        size_t vocab = slice_of(e, r).vocab;

        e->result[r] = hth_mem_alloc(HTH_STEP_WANTS_MAX *
                                     (vocab * 4 + HTH_CANDIDATES_MAX * 8));
        ok = e->result[r] != NULL;
    }
    return ok ? HTH_OK
              : hth_fail(err, HTH_ENOMEM, "no memory for the step's buffers");
}

void hth_engine__free_step(struct hth_engine *e)
{
    hth_mem_free(e->x);
    hth_mem_free(e->wanted);
    hth_mem_free(e->logits);
    hth_mem_free(e->message);
    hth_mem_free(e->candidate);
    hth_mem_free(e->row_logits);
    e->x = e->wanted = e->logits = e->row_logits = NULL;
    e->message = NULL;
    e->candidate = NULL;
    for (uint32_t r = 0; r < HTH_RANKS_MAX; r++) {
        hth_mem_free(e->result[r]);
        e->result[r] = NULL;
    }
}

void hth_engine__traffic(const struct hth_engine *e, uint64_t *sent,
                         uint64_t *received)
{
    *sent = *received = 0;
    for (uint32_t i = 0; i + 1 < e->ranks; i++) {
        struct hth_link_counters c = {0};

        if (e->link[i] != NULL)
            hth_link_counters(e->link[i], &c);
        *sent += c.payload_bytes_sent;
        *received += c.payload_bytes_received;
    }
}

/* ---- batch --------------------------------------------------------------- */

static bool in_prompt(const struct hth_task *t)
{
    return t->pos < t->feed;
}

static uint32_t token_at(const struct hth_task *t, uint32_t pos)
{
    return pos < t->feed ? t->tokens[pos] : t->last_id;
}

/* Rows of one request: the embeddings may fail to be read, which is this
 * request's end and nobody else's. */
static int add_rows(struct hth_engine *e, struct hth_task *t, uint32_t n)
{
    struct hth_step *s = &e->step;
    uint32_t dim = session(e)->spec.dim;
    struct hth_err err;
    int rc = hth_engine__grow(e, t, n, &err);

    for (uint32_t i = 0; rc == HTH_OK && i < n; i++)
        rc = hth_embed_row(e->embed, token_at(t, t->pos + i),
                           e->x + (size_t)(s->rows + i) * dim, &err);
    if (rc != HTH_OK) {
        hth_engine__end_task(e, t, rc, &err);
        return rc;
    }
    for (uint32_t i = 0; i < n; i++) {
        s->seq[s->rows + i] = t->seq;
        s->pos[s->rows + i] = t->pos + i;
    }
    t->rows = n;
    t->row_first = s->rows;
    s->rows += n;
    return HTH_OK;
}

/* Which of the request's rows want logits: all rows of a prompt whose logits
 * are asked for, else only the last row that a token is chosen from. */
static void add_wants(struct hth_engine *e, struct hth_task *t)
{
    struct hth_step *s = &e->step;
    uint32_t first = s->rows - t->rows;
    bool ends_prompt = t->pos + t->rows >= t->feed;
    uint32_t from = t->rows;

    if (t->r.on_logits != NULL && in_prompt(t))
        from = 0;
    else if (ends_prompt && t->r.generate_max > 0)
        from = t->rows - 1;
    t->want_first = s->wants;
    t->wants = t->rows - from;
    for (uint32_t i = from; i < t->rows; i++)
        s->want[s->wants++] = first + i;
}

uint32_t hth_engine__candidates(const struct hth_task *t)
{
    if (t->constraint != NULL)
        return 0;
    return t->r.on_logits != NULL || t->r.logprobs > 0
               ? 0
               : hth_sampling_candidates(&t->r.sampling);
}

/* All logits where anyone needs them, else as many candidates as the most
 * demanding request. */
static void set_candidates(struct hth_engine *e)
{
    uint32_t most = 0;
    bool all = false;

    for (struct hth_task *t = hth_engine__head(e); t != NULL;
         t = hth_engine__after(e, t)) {
        uint32_t n = hth_engine__candidates(t);

        if (!t->running || t->rows == 0 || t->wants == 0)
            continue;
        all = all || n == 0;
        most = n > most ? n : most;
    }
    e->step.candidates = all ? 0 : most;
}

static uint32_t rows_for(const struct hth_engine *e, const struct hth_task *t)
{
    uint32_t room = session(e)->rows_max - e->step.rows;
    uint32_t wants = HTH_STEP_WANTS_MAX - e->step.wants;
    uint32_t n = in_prompt(t) ? t->allot : 1;

    if (t->pos < t->r.split && n > t->r.split - t->pos)
        n = t->r.split - t->pos;
    n = n < room ? n : room;
    if (t->r.on_logits != NULL && in_prompt(t))
        n = n < wants ? n : wants;
    else if (wants == 0)
        n = 0;
    return n;
}

/* Decoding requests first, one row each, so that nobody's stream stalls behind
 * a long prompt; prompts get what they were dealt. */
static void add_tasks(struct hth_engine *e, bool prompts)
{
    for (struct hth_task *t = hth_engine__head(e), *next; t != NULL; t = next) {
        uint32_t n;

        next = hth_engine__after(e, t);
        if (!t->running || in_prompt(t) != prompts)
            continue;
        n = rows_for(e, t);
        if (n > 0 && add_rows(e, t, n) == HTH_OK)
            add_wants(e, t);
    }
}

static void build(struct hth_engine *e)
{
    struct hth_step *s = &e->step;

    s->kind = HTH_STEP_RUN;
    s->rows = s->wants = s->ops = 0;
    for (struct hth_task *t = hth_engine__head(e); t != NULL;
         t = hth_engine__after(e, t))
        t->rows = t->wants = 0;
    add_tasks(e, false);
    e->decodes = s->rows;
    hth_engine__allot(e, e->decodes);
    add_tasks(e, true);
    set_candidates(e);
    s->ops = e->ops;
    memcpy(s->op, e->op, e->ops * sizeof *e->op);
    e->ops = 0;
    if (e->ranks > 1 && hth_turns_halves(&e->step_turns, s->rows))
        s->kind = HTH_STEP_HALVES;
}

/* ---- running ------------------------------------------------------------- */

static int link_failed(const struct hth_link *l, struct hth_err *err)
{
    *err = *hth_link_error(l);
    return err->status;
}

static int send_step(struct hth_engine *e, struct hth_err *err)
{
    size_t n;

    if (e->ranks <= 1)
        return HTH_OK;
    n = hth_step_encode(&e->step, e->x, session(e)->spec.dim, e->message);
    for (uint32_t i = 0; i + 1 < e->ranks; i++)
        if (hth_link_send(e->link[i], HTH_TAG_STEP, e->message, n,
                          HTH_STEP_DEADLINE_MS) != HTH_OK)
            return link_failed(e->link[i], err);
    return HTH_OK;
}

static int own_logits(struct hth_engine *e, struct hth_err *err)
{
    size_t dim = session(e)->spec.dim;

    for (uint32_t w = 0; w < e->step.wants; w++)
        memcpy(e->wanted + w * dim, e->x + e->step.want[w] * dim, dim * 4);
    return hth_forward_logits(hth_rank_forward(e->rank), e->wanted,
                              e->step.wants, e->logits, err);
}

static int receive_results(struct hth_engine *e, struct hth_err *err)
{
    for (uint32_t r = 1; r < e->ranks; r++) {
        uint32_t vocab = slice_of(e, r).vocab;

        if (vocab == 0)
            continue;
        if (hth_link_recv(
                e->link[r - 1], HTH_TAG_RESULT, e->result[r],
                hth_result_bytes(e->step.wants, e->step.candidates, vocab),
                HTH_STEP_DEADLINE_MS) != HTH_OK)
            return link_failed(e->link[r - 1], err);
    }
    return HTH_OK;
}

/* Rank 0's own part, with the time its links took. They run side by side, so
 * of both times the longest counts: for sending that of a thread, which serves
 * its links one after the other (net/star_reduce.c). */
static int run_own(struct hth_engine *e, const struct hth_batch *b,
                   struct hth_err *err)
{
    uint32_t links = e->ranks - 1;
    uint32_t threads = links > 1 ? hth_pool_threads(hth_rank_pool(e->rank)) : 1;
    struct hth_link_counters was[HTH_RANKS_MAX], now;
    uint64_t send_ns = 0, wait_ns = 0;
    int rc;

    for (uint32_t i = 0; i < links; i++)
        hth_link_counters(e->link[i], &was[i]);
    rc = hth_forward_step(hth_rank_forward(e->rank), b, err);
    for (uint32_t t = 0; t < threads; t++) {
        uint64_t first, count, sent_ns = 0;

        hth_split(links, 1, t, threads, &first, &count);
        for (uint64_t i = first; i < first + count; i++) {
            hth_link_counters(e->link[i], &now);
            sent_ns += now.send_ns - was[i].send_ns;
            now.wait_ns -= was[i].wait_ns;
            wait_ns = now.wait_ns > wait_ns ? now.wait_ns : wait_ns;
        }
        send_ns = sent_ns > send_ns ? sent_ns : send_ns;
    }
    hth_rank_note(e->rank, 0, send_ns, wait_ns);
    return rc;
}

static int run(struct hth_engine *e, struct hth_err *err)
{
    struct hth_batch b = {.rows = e->step.rows,
                          .seq = e->step.seq,
                          .pos = e->step.pos,
                          .x = e->x,
                          .halves = e->step.kind == HTH_STEP_HALVES};
    int rc = send_step(e, err);

    b.lora = hth_adapters_rows(hth_rank_adapters(e->rank), b.seq, b.rows);

    if (rc == HTH_OK)
        rc = run_own(e, &b, err);
    if (rc != HTH_OK || e->step.wants == 0)
        return rc;
    rc = own_logits(e, err);
    hth_rank_tell(e->rank);
    return rc == HTH_OK ? receive_results(e, err) : rc;
}

/* ---- delivering ---------------------------------------------------------- */

/* Rank 0's own slice as candidates: all of it, or its best. */
static uint32_t own_candidates(struct hth_engine *e, uint32_t w,
                               struct hth_candidate *out)
{
    struct hth_slice s = slice_of(e, 0);
    const float *logits = e->logits + (size_t)w * s.vocab;
    uint32_t n = e->step.candidates == 0 ? s.vocab : e->step.candidates;

    if (n < s.vocab)
        return hth_top_candidates(logits, s.vocab, s.first, n, out);
    for (uint32_t i = 0; i < s.vocab; i++)
        out[i] = (struct hth_candidate){s.first + i, logits[i]};
    return s.vocab;
}

/* Candidates of wanted row w from all ranks; *n of them. */
static int collect(struct hth_engine *e, uint32_t w, uint32_t *n,
                   struct hth_err *err)
{
    *n = own_candidates(e, w, e->candidate);
    for (uint32_t r = 1; r < e->ranks; r++) {
        struct hth_slice s = slice_of(e, r);
        int got;

        if (s.vocab == 0)
            continue;
        got = hth_result_row(&e->step, &s, w, e->result[r], e->candidate + *n);
        if (got < 0)
            return hth_fail(err, got,
                            "device %s sent candidates that are not in its "
                            "part of the vocabulary",
                            hth_link_peer(e->link[r - 1])->name);
        *n += (uint32_t)got;
    }
    return HTH_OK;
}

static int deliver_logits(struct hth_engine *e, struct hth_task *t,
                          uint32_t pos0, struct hth_err *err)
{
    uint32_t vocab = session(e)->spec.vocab;

    for (uint32_t i = 0; i < t->wants; i++) {
        uint32_t n;
        int rc = collect(e, t->want_first + i, &n, err);

        if (rc != HTH_OK)
            return rc;
        for (uint32_t c = 0; c < n; c++)
            e->row_logits[e->candidate[c].id] = e->candidate[c].logit;
        t->r.on_logits(t->r.ctx, pos0 + t->rows - t->wants + i, e->row_logits,
                       vocab);
    }
    return HTH_OK;
}

/* The likeliest tokens among all candidates, which are the whole vocabulary
 * here. In place: they end up in front, which the sampler does not mind. */
static double take_logprobs(struct hth_engine *e, struct hth_task *t,
                            uint32_t n, struct hth_logprob *top)
{
    struct hth_candidate best[HTH_LOGPROBS_MAX];
    uint32_t want = t->r.logprobs - 1, i, got;
    double total;

    for (i = 0; i < n; i++)
        e->row_logits[e->candidate[i].id] = e->candidate[i].logit;
    total = hth_log_sum_exp(e->row_logits, n);
    got = hth_top_candidates(e->row_logits, n, 0, want, best);
    for (i = 0; i < got; i++)
        top[1 + i] = (struct hth_logprob){
            best[i].id, (float)((double)best[i].logit - total)};
    return total;
}

static void note_first(const struct hth_engine *e, struct hth_task *t)
{
    struct hth_loader_stats s;

    hth_loader_stats(hth_rank_loader(e->rank), &s);
    t->first_ns = hth_now_ns();
    t->read0 = s.read_bytes;
    t->stall0_ns = s.stall_ns;
}

/* No token goes on from where the answer stands: the request's end only. */
static void end_stuck(struct hth_engine *e, struct hth_task *t)
{
    struct hth_err err;

    hth_fail(&err, HTH_ELIMIT,
             "no token of this model goes on from here within the grammar, or "
             "the grammar is too ambiguous to follow");
    hth_engine__end_task(e, t, HTH_ELIMIT, &err);
}

/* Choose the next token; *more while the request goes on, or is over already.
 */
static int deliver_token(struct hth_engine *e, struct hth_task *t, bool *more,
                         struct hth_err *err)
{
    const struct hth_tokenizer *tok = e->o.tokenizer;
    struct hth_logprob top[HTH_LOGPROBS_MAX];
    double total = 0;
    uint32_t n, id;
    int rc = collect(e, t->want_first + t->wants - 1, &n, err);

    if (rc != HTH_OK)
        return rc;
    if (t->r.logprobs > 0)
        total = take_logprobs(e, t, n, top);
    id = hth_sampler_pick(t->sampler, e->candidate, n);
    if (id == HTH_PICK_NONE) {
        end_stuck(e, t);
        return HTH_OK;
    }
    if (t->first_ns == 0)
        note_first(e, t);
    t->last_id = id;
    *more = false;
    if ((!t->r.ignore_end || t->constraint != NULL) && tok != NULL &&
        hth_tokenizer_is_end(tok, id))
        return HTH_OK;
    hth_sampler_accept(t->sampler, id);
    t->tokens[t->r.count + t->stats.generated_tokens++] = id;
    atomic_fetch_add(&e->made_tokens, 1);
    if (t->r.logprobs > 0 && t->r.on_logprobs != NULL) {
        top[0] = (struct hth_logprob){
            id, (float)((double)e->row_logits[id] - total)};
        t->r.on_logprobs(t->r.ctx, top, t->r.logprobs);
    }
    *more = (t->r.on_token == NULL || t->r.on_token(t->r.ctx, id)) &&
            t->stats.generated_tokens < t->r.generate_max;
    return HTH_OK;
}

static void deliver_hidden(struct hth_engine *e, struct hth_task *t,
                           uint32_t pos0)
{
    uint32_t dim = session(e)->spec.dim;

    for (uint32_t i = 0; i < t->rows; i++)
        t->r.on_hidden(t->r.ctx, pos0 + i,
                       e->x + (size_t)(t->row_first + i) * dim, dim);
}

static int deliver(struct hth_engine *e, struct hth_task *t,
                   struct hth_err *err)
{
    uint32_t pos0 = t->pos;
    bool was_prompt = in_prompt(t), more = true;
    int rc = HTH_OK;

    t->pos += t->rows;
    if (was_prompt)
        atomic_fetch_add(&e->read_tokens, t->rows);
    if (was_prompt && t->r.on_prefill != NULL && t->first_ns == 0)
        t->r.on_prefill(t->r.ctx, t->pos, t->r.count);
    if (was_prompt && t->r.on_hidden != NULL)
        deliver_hidden(e, t, pos0);
    if (was_prompt && t->r.on_logits != NULL)
        rc = deliver_logits(e, t, pos0, err);
    if (rc != HTH_OK || in_prompt(t))
        return rc;
    if (was_prompt) {
        hth_engine__prompt_stepped(e, t);
        hth_engine__prompt_done(e, t);
    }
    if (t->r.generate_max == 0)
        more = false;
    else
        rc = deliver_token(e, t, &more, err);
    if (rc == HTH_OK && !more)
        hth_engine__end_task(e, t, HTH_OK, NULL);
    return rc;
}

int hth_engine__deliver_last(struct hth_engine *e, struct hth_task *t,
                             bool *more, struct hth_err *err)
{
    uint32_t pos0 = t->pos;
    int rc = HTH_OK;

    t->pos += t->rows;
    *more = t->r.generate_max > 0;
    if (t->r.on_prefill != NULL)
        t->r.on_prefill(t->r.ctx, t->pos, t->r.count);
    if (t->r.on_logits != NULL)
        rc = deliver_logits(e, t, pos0, err);
    return rc == HTH_OK && *more ? deliver_token(e, t, more, err) : rc;
}

int hth_engine__send_ops(struct hth_engine *e, struct hth_err *err)
{
    struct hth_step *s = &e->step;

    s->kind = HTH_STEP_RUN;
    s->rows = s->wants = s->candidates = 0;
    s->ops = e->ops;
    memcpy(s->op, e->op, e->ops * sizeof *e->op);
    e->ops = 0;
    return s->ops > 0 ? send_step(e, err) : HTH_OK;
}

/* Sequences that ended with the last request leave the other ranks now, not
 * when somebody asks something next. */
static int flush_ops(struct hth_engine *e, struct hth_err *err)
{
    if (e->ops == 0 || hth_engine__head(e) != NULL)
        return HTH_OK;
    build(e);
    return send_step(e, err);
}

static int step_all(struct hth_engine *e, struct hth_err *err)
{
    uint64_t begun_ns, took_ns;
    int rc = HTH_OK;

    build(e);
    begun_ns = hth_now_ns();
    if (e->step.rows > 0)
        rc = run(e, err);
    took_ns = hth_now_ns() - begun_ns;
    if (e->step.rows > 0) {
        hth_pace_note(&e->pace, e->decodes, e->step.rows - e->decodes, took_ns);
        hth_turns_note(&e->step_turns, e->step.rows,
                       e->step.kind == HTH_STEP_HALVES, took_ns);
    } else if (e->step.ops > 0)
        rc = send_step(e, err);
    for (struct hth_task *t = hth_engine__head(e), *next;
         rc == HTH_OK && t != NULL; t = next) {
        next = hth_engine__after(e, t);
        if (t->running && t->rows > 0)
            rc = deliver(e, t, err);
    }
    return rc;
}

int hth_engine__step(struct hth_engine *e, struct hth_err *err)
{
    struct hth_prefill_choice choice;
    struct hth_task *t;
    int rc;

    hth_engine__cache_ease(e);
    hth_engine__admit(e);
    t = hth_engine__split_due(e, &choice);
    rc = t != NULL ? hth_engine__split_run(e, t, &choice, err)
                   : step_all(e, err);
    hth_engine__cache_publish(e);
    if (e->o.delivered != NULL)
        e->o.delivered(e->o.ctx);
    return rc == HTH_OK ? flush_ops(e, err) : rc;
}
