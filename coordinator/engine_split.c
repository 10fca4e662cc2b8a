/* engine_split.c - prompts that are spread over the ranks: whether, how, and
 * what came of it. While one runs nobody else is served, so where others are
 * answering meanwhile the automatic choice takes steps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/engine_internal.h"
#include "kernels/type.h"
#include "model/seqpar.h"

/* Below this many tokens the automatic choice does not think. */
#define AUTO_TOKENS_MIN 32u
/* Fewer rows of a rank say little of its rates. */
#define ROWS_MIN 64u
/* How much a new measurement counts. */
#define RATE_WEIGHT 0.25
/* A rate believed at most this many times away from the former one. */
#define RATE_STEP_MAX 3.0
#define BARRIER_S 5e-5
/* Attention is timed by prompts where it is at least this part of the work. */
#define ATTEND_PART_MIN 0.1

/* ---- the cost model's numbers -----------------------------------------------
 */

static double share_of(const struct hth_session *s, uint32_t rank)
{
    const struct hth_share *r = &s->plan.share[rank];

    return 0.25 * r->heads / s->spec.heads + 0.75 * r->ff / s->spec.ff;
}

/* Changes of rates that are none: a partition is kept through them. */
#define RATE_SAME 1.03

static bool differs(double a, double b)
{
    return a > b * RATE_SAME || b > a * RATE_SAME;
}

/* The model's devices, out of what is known of each; partitions that were
 * found with other rates go. Is there a change? */
static bool set_rates(struct hth_engine *e)
{
    double row_s[HTH_RANKS_MAX], pair_s[HTH_RANKS_MAX];
    bool change = false;

    for (uint32_t r = 0; r < e->ranks; r++) {
        row_s[r] = e->rate[r].row_s;
        pair_s[r] = e->rate[r].pair_s;
    }
    hth_prefill_level(row_s, e->ranks);
    hth_prefill_level(pair_s, e->ranks);
    for (uint32_t r = 0; r < e->ranks; r++)
        change = change || differs(row_s[r], e->load.device[r].row_s) ||
                 differs(pair_s[r], e->load.device[r].pair_s);
    if (!change)
        return false;
    e->prefills.table.entries = 0;
    for (uint32_t r = 0; r < e->ranks; r++) {
        e->load.device[r].row_s = row_s[r];
        e->load.device[r].pair_s = pair_s[r];
    }
    return true;
}

/* The slower of two devices' links to rank 0 is a good guess of the link
 * between them in a home; by rank 0 it is both ways. */
static void guess_pairs(struct hth_engine *e)
{
    const struct hth_split_view *v = hth_split_view(e->split);
    struct hth_prefill_net *n = &e->net;

    for (uint32_t a = 1; a < e->ranks; a++)
        for (uint32_t b = 1; b < e->ranks; b++) {
            double x = n->alpha_s[0][a], y = n->alpha_s[0][b];

            n->bytes_per_s[a][b] =
                fmin(n->bytes_per_s[0][a], n->bytes_per_s[0][b]);
            n->alpha_s[a][b] = v->pair[a][b].direct ? fmax(x, y) : x + y;
        }
}

void hth_engine__split_rates(struct hth_engine *e)
{
    (void)set_rates(e);
    if (e->split != NULL)
        guess_pairs(e);
}

/* By how much all ranks compute slower while all do: as one figure for all,
 * since whose turn it was while they measured is chance. */
static double crowd_of(const struct hth_split_view *v, uint32_t ranks)
{
    double sum = 0;
    uint32_t n = 0;

    for (uint32_t r = 0; r < ranks; r++)
        if (v->rates[r].crowd >= 1) {
            sum += v->rates[r].crowd;
            n++;
        }
    return n > 0 ? sum / n : 1;
}

static void fill_devices(struct hth_engine *e)
{
    const struct hth_split_view *v = hth_split_view(e->split);
    struct hth_prefill_load *l = &e->load;
    double crowd = crowd_of(v, e->ranks);

    l->alone = 1 / crowd;
    memcpy(e->rate, v->rates, sizeof e->rate);
    for (uint32_t r = 0; r < e->ranks; r++) {
        e->rate[r].row_s *= crowd;
        e->rate[r].pair_s *= crowd;
        e->rate[r].layer_s *= crowd;
        l->whole[r] = v->rates[r].whole;
        l->device[r].layer_s = e->rate[r].layer_s;
        l->device[r].stream_bytes_per_s = v->rates[r].stream_bytes_per_s;
        e->net.alpha_s[r][0] = e->net.alpha_s[0][r] = v->pair[0][r].alpha_s;
        e->net.bytes_per_s[r][0] = e->net.bytes_per_s[0][r] =
            v->pair[0][r].bytes_per_s;
    }
}

/* Of a session's devices: as they said when they met; in steps only, nothing
 * but what is remembered. */
static void fill_load(struct hth_engine *e)
{
    const struct hth_session *s = hth_rank_session(e->rank);

    e->load = (struct hth_prefill_load){
        .ranks = e->ranks,
        .layers = s->spec.layers,
        .chunk_rows = s->rows_max,
        .barrier_s = BARRIER_S,
        .piece_rows = HTH_SEQPAR_PIECE_ROWS,
        .kv_bytes = 2.0 * s->spec.kv_heads *
                    (double)hth_row_bytes(s->kv_type, s->spec.head_dim),
        .reduce_bytes =
            (double)hth_wire_bytes((enum hth_wire)s->wire_type, s->spec.dim),
        .embed_bytes = (double)hth_embed_row_bytes(e->embed),
        .step_bytes = 4.0 * s->spec.dim,
        .layer_bytes = (double)hth_whole_bytes(&s->spec) / s->spec.layers,
        .net = &e->net};
    for (uint32_t r = 0; r < e->ranks; r++)
        e->load.device[r].share = share_of(s, r);
    memset(e->rate, 0, sizeof e->rate);
    e->net = (struct hth_prefill_net){0};
    if (e->split != NULL)
        fill_devices(e);
    e->rates_new = e->rates_settled = false;
    e->told = 0;
    e->prefills = (struct hth_prefill_memory){.table = {.ranks = e->ranks}};
    hth_engine__split_rates(e);
    e->predicts = hth_engine__past_open(e) || e->split != NULL;
}

void hth_engine__split_none(struct hth_engine *e)
{
    e->predicts = false;
    if (e->ranks > 1)
        fill_load(e);
}

int hth_engine__split_meet(struct hth_engine *e, struct hth_err *err)
{
    struct hth_link *links[HTH_RANKS_MAX] = {NULL};
    int rc;

    memcpy(links + 1, e->link, (e->ranks - 1) * sizeof *links);
    hth_split_attach(e->split, links);
    rc = hth_split_meet(e->split, err);
    if (rc == HTH_OK)
        fill_load(e);
    return rc;
}

static double nearer(double old, double now)
{
    if (!(now > 0))
        return old;
    if (old <= 0)
        return now;
    if (now > old * RATE_STEP_MAX)
        now = old * RATE_STEP_MAX;
    if (now < old / RATE_STEP_MAX)
        now = old / RATE_STEP_MAX;
    return (1 - RATE_WEIGHT) * old + RATE_WEIGHT * now;
}

/* By what all of the ranks that were timed are off together: that is no matter
 * of who gets how much, and the past's factors see to it. */
static double common(const double *now, const double *old, uint32_t n)
{
    double sum = 0;
    uint32_t timed = 0;

    for (uint32_t r = 0; r < n; r++)
        if (now[r] > 0 && old[r] > 0) {
            sum += log(now[r] / old[r]);
            timed++;
        }
    return timed > 0 ? exp(sum / timed) : 1;
}

/* What this prompt says of each rank's rates; 0: nothing. */
static void rates_of(const struct hth_engine *e,
                     const struct hth_spread *spread, double *row_s,
                     double *pair_s)
{
    const struct hth_split_done *d = hth_split_reports(e->split);
    double layers = e->load.layers;

    for (uint32_t r = 0; r < e->ranks; r++) {
        uint32_t rows = spread->rows[r];
        uint32_t chunks = (rows + e->load.chunk_rows - 1) / e->load.chunk_rows;
        double all = (double)d[r].compute_ns * 1e-9 / layers;
        double attend = (double)d[r].attend_ns * 1e-9 / layers;
        double row = (all - attend - chunks * e->rate[r].layer_s) /
                     (rows > 0 ? rows : 1);

        row_s[r] = pair_s[r] = 0;
        if (d[r].status != HTH_OK || rows < ROWS_MIN)
            continue;
        row_s[r] = row > 0 ? row : 0;
        if (attend > all * ATTEND_PART_MIN && d[r].pairs > 0)
            pair_s[r] = attend / (double)d[r].pairs;
    }
}

/* What the ranks did beside each other is better known than what they said
 * they could do. */
static void learn_rates(struct hth_engine *e, const struct hth_spread *spread)
{
    double row_s[HTH_RANKS_MAX], pair_s[HTH_RANKS_MAX];
    double old_row_s[HTH_RANKS_MAX], old_pair_s[HTH_RANKS_MAX];
    double rows, pairs;

    if (e->rates_settled)
        return;
    memcpy(e->rate_before, e->rate, sizeof e->rate_before);
    rates_of(e, spread, row_s, pair_s);
    for (uint32_t r = 0; r < e->ranks; r++) {
        old_row_s[r] = e->rate[r].row_s;
        old_pair_s[r] = e->rate[r].pair_s;
    }
    rows = common(row_s, old_row_s, e->ranks);
    pairs = common(pair_s, old_pair_s, e->ranks);
    for (uint32_t r = 0; r < e->ranks; r++) {
        e->rate[r].row_s = nearer(old_row_s[r], row_s[r] / rows);
        e->rate[r].pair_s = nearer(old_pair_s[r], pair_s[r] / pairs);
    }
    e->rates_new = set_rates(e);
}

/* A prompt that was dealt by rates just learnt and took this much longer than
 * such prompts had: the rates before were better, and are kept. */
#define WORSE 1.1

static void judge_rates(struct hth_engine *e, const struct hth_task *t,
                        double factor)
{
    const struct hth_prefill_past *past = &e->prefills.past;
    uint32_t mode = t->stats.prompt.mode;
    uint32_t count = t->r.count - t->stats.cached_tokens;

    if (!e->rates_new || hth_prefill_doubt(past, mode, count) < 1)
        return;
    e->rates_new = false;
    if (factor <= WORSE * hth_prefill_factor(past, mode, count))
        return;
    memcpy(e->rate, e->rate_before, sizeof e->rate);
    e->rates_settled = true;
    (void)set_rates(e);
}

void hth_engine__split_learn(struct hth_engine *e, const struct hth_task *t,
                             const struct hth_spread *spread)
{
    const struct hth_prompt_stats *s = &t->stats.prompt;
    double factor;

    if (t->model_s <= 0)
        return;
    factor = (double)s->took_ns * 1e-9 / t->model_s;
    if (spread != NULL && s->mode != HTH_PREFILL_SINGLE) {
        judge_rates(e, t, factor);
        learn_rates(e, spread);
    }
    hth_prefill_learn(&e->prefills.past, s->mode,
                      t->r.count - t->stats.cached_tokens, factor);
    e->past_new = true;
    hth_engine__past_save(e, false);
}

/* ---- choice
 * ------------------------------------------------------------------- */

static bool others_run(struct hth_engine *e, const struct hth_task *t)
{
    for (struct hth_task *o = hth_engine__head(e); o != NULL;
         o = hth_engine__after(e, o))
        if (o != t && o->running)
            return true;
    return false;
}

/* Every position's logits or states want a step that computes them all; with a
 * mode asked for by name, logits are the last token's. */
static bool may_split(const struct hth_task *t, uint32_t wanted)
{
    if (t->r.loras > 0 || !t->running || t->stepwise || t->pos >= t->r.count ||
        t->r.on_hidden != NULL)
        return false;
    return t->r.on_logits == NULL || wanted != HTH_PREFILL_AUTO;
}

/* Whole layers come without adapters: such prompts take steps. Said once of
 * each, since a mode asked for by name is not followed. */
static void tell_adapted(struct hth_task *t)
{
    if (t->r.loras == 0 || !t->running || t->stepwise)
        return;
    t->stepwise = true;
    t->stats.prompt.mode = HTH_PREFILL_TP;
    hth_log(HTH_LOG_NOTICE, "PREFILL",
            "mode=tp tokens=%u: a prompt with adapters takes steps",
            t->r.count - t->pos);
}

static struct hth_split_job job_of(const struct hth_engine *e,
                                   const struct hth_task *t,
                                   const struct hth_prefill_choice *c)
{
    return (struct hth_split_job){.seq = t->seq,
                                  .prefix = t->pos,
                                  .wants = t->r.generate_max > 0 ||
                                           t->r.on_logits != NULL,
                                  .candidates = hth_engine__candidates(t),
                                  .embed_type = hth_embed_type(e->embed),
                                  .spread = c->spread};
}

/* A rank whose memory such a prompt would be too much for; ranks: none. */
static uint32_t too_small(const struct hth_engine *e, const struct hth_task *t,
                          const struct hth_prefill_choice *c)
{
    const struct hth_split_view *v = hth_split_view(e->split);
    struct hth_split_job job = job_of(e, t, c);
    uint32_t r = 0;

    while (r < e->ranks &&
           hth_split_job_bytes(e->split, &job, r) <= v->rates[r].room_bytes)
        r++;
    return r;
}

static int fail_small(const struct hth_engine *e, const struct hth_task *t,
                      const struct hth_prefill_choice *c, struct hth_err *err)
{
    uint32_t r = too_small(e, t, c);
    struct hth_split_job job = job_of(e, t, c);
    uint64_t want, room;

    if (r == e->ranks)
        return HTH_OK;
    want = hth_split_job_bytes(e->split, &job, r);
    room = hth_split_view(e->split)->rates[r].room_bytes;
    return hth_fail(
        err, HTH_EOVERFLOW,
        "a prompt of %u tokens by %s does not fit the memory of device %s: it "
        "takes %llu MiB beside weights, and %llu MiB are there; raise its "
        "--memory or use --prefill auto",
        t->r.count - t->pos, hth_prefill_mode_text(c->mode),
        r == 0 ? "coordinator" : hth_link_peer(e->link[r - 1])->name,
        (unsigned long long)(want >> 20) + 1, (unsigned long long)room >> 20);
}

/* The best of the modes that fit every rank's memory; of a mode that was asked
 * for by name, why it cannot be. */
static int choose(struct hth_engine *e, const struct hth_task *t,
                  uint32_t wanted, struct hth_prefill_choice *c,
                  struct hth_err *err)
{
    struct hth_prompt p = {t->pos, t->r.count - t->pos};

    e->load.barred = 0;
    for (;;) {
        if (e->split == NULL ||
            hth_prefill_choose(&e->load, &p, wanted, &e->prefills, c) != HTH_OK)
            return hth_fail(
                err, HTH_EUNSUPPORTED,
                "--prefill %s needs whole layers on every device, and one has "
                "no room for them (its log says how much is missing); raise "
                "its --memory or use --prefill auto",
                hth_prefill_mode_text(wanted));
        if (c->mode == HTH_PREFILL_TP || fail_small(e, t, c, err) == HTH_OK)
            return HTH_OK;
        if (wanted != HTH_PREFILL_AUTO)
            return err->status;
        e->load.barred |= 1u << c->mode;
        hth_log(e->told >> c->mode & 1 ? HTH_LOG_DEBUG : HTH_LOG_NOTICE,
                "PREFILL-BARRED", "%s", err->text);
        e->told |= 1u << c->mode;
    }
}

static void note_choice(struct hth_task *t, const struct hth_prefill_choice *c)
{
    t->stats.prompt.mode = c->mode;
    t->stats.prompt.predicted_ns = (uint64_t)(c->predicted_s * 1e9);
    t->model_s = c->model_s;
    t->stepwise = c->mode == HTH_PREFILL_TP;
}

/* Where all prompts take steps: how long they will, if that is known from
 * sessions before. */
static void predict_steps(struct hth_engine *e)
{
    struct hth_prefill_choice c;

    for (struct hth_task *t = hth_engine__head(e); t != NULL;
         t = hth_engine__after(e, t)) {
        struct hth_prompt p = {t->pos, t->r.count - t->pos};

        if (!e->predicts || !t->running || t->stepwise || t->r.loras > 0 ||
            t->pos >= t->r.count)
            continue;
        if (hth_prefill_choose(&e->load, &p, HTH_PREFILL_TP, &e->prefills,
                               &c) == HTH_OK)
            note_choice(t, &c);
    }
}

struct hth_task *hth_engine__split_due(struct hth_engine *e,
                                       struct hth_prefill_choice *choice)
{
    uint32_t wanted = hth_rank_session(e->rank)->prefill;
    struct hth_err why;

    if (e->ranks >= 2 && wanted == HTH_PREFILL_TP)
        predict_steps(e);
    if (e->ranks < 2 || wanted == HTH_PREFILL_TP)
        return NULL;
    for (struct hth_task *t = hth_engine__head(e), *next; t != NULL; t = next) {
        uint32_t count = t->r.count - t->pos;

        next = hth_engine__after(e, t);
        tell_adapted(t);
        if (!may_split(t, wanted))
            continue;
        if (wanted == HTH_PREFILL_AUTO &&
            (e->split == NULL || count < AUTO_TOKENS_MIN || others_run(e, t))) {
            t->stepwise = true;
            continue;
        }
        if (choose(e, t, wanted, choice, &why) != HTH_OK) {
            hth_engine__end_task(e, t, why.status, &why);
            continue;
        }
        note_choice(t, choice);
        if (!t->stepwise)
            return t;
    }
    return NULL;
}

/* ---- running
 * ------------------------------------------------------------------ */

static int read_rows(struct hth_engine *e, const struct hth_task *t,
                     uint8_t **out, struct hth_err *err)
{
    size_t row = hth_embed_row_bytes(e->embed);
    uint32_t n = t->r.count - t->pos;
    uint8_t *rows = malloc(n * row);
    int rc = rows == NULL ? hth_fail(err, HTH_ENOMEM, "no memory for a prompt")
                          : HTH_OK;

    for (uint32_t i = 0; i < n && rc == HTH_OK; i++)
        rc =
            hth_embed_raw(e->embed, t->tokens[t->pos + i], rows + i * row, err);
    *out = rows;
    return rc;
}

static void take_results(struct hth_engine *e)
{
    const struct hth_session *s = hth_rank_session(e->rank);

    memcpy(e->logits, hth_split_logits(e->split),
           s->plan.share[0].vocab * sizeof *e->logits);
    for (uint32_t r = 1; r < e->ranks; r++)
        memcpy(e->result[r], hth_split_result(e->split, r),
               hth_result_bytes(1, e->step.candidates, s->plan.share[r].vocab));
}

/* The request's rows are all of the rest of its prompt. */
static void set_rows(struct hth_engine *e, struct hth_task *t)
{
    for (struct hth_task *o = hth_engine__head(e); o != NULL;
         o = hth_engine__after(e, o))
        o->rows = o->wants = 0;
    t->rows = t->r.count - t->pos;
    t->row_first = t->want_first = 0;
    t->wants = t->r.generate_max > 0 || t->r.on_logits != NULL;
    e->step.candidates = hth_engine__candidates(t);
    e->step.wants = t->wants;
}

static void set_task(struct hth_engine *e, struct hth_task *t)
{
    pthread_mutex_lock(&e->lock);
    e->split_task = t;
    pthread_mutex_unlock(&e->lock);
}

/* The request ends with *why, unless that is HTH_OK and it goes on. */
static void conclude(struct hth_engine *e, struct hth_task *t, bool more,
                     const struct hth_err *why)
{
    if (why->status != HTH_OK) {
        hth_engine__end_task(e, t, why->status, why);
        return;
    }
    hth_engine__prompt_done(e, t);
    if (!more)
        hth_engine__end_task(e, t, HTH_OK, NULL);
}

static int run_job(struct hth_engine *e, struct hth_task *t,
                   const struct hth_split_prompt *prompt, bool *more,
                   struct hth_err *why)
{
    int rc = hth_split_run(e->split, prompt, why);

    if (rc != HTH_OK)
        return rc;
    if (t->wants > 0)
        take_results(e);
    return hth_engine__deliver_last(e, t, more, why);
}

int hth_engine__split_run(struct hth_engine *e, struct hth_task *t,
                          const struct hth_prefill_choice *c,
                          struct hth_err *err)
{
    struct hth_prompt p = {t->pos, t->r.count - t->pos};
    struct hth_split_prompt prompt = {.cancelled = &t->cancelled,
                                      .job = job_of(e, t, c)};
    struct hth_err why = {0};
    uint64_t t0 = hth_now_ns(), took;
    uint8_t *rows = NULL;
    bool more = false;
    int rc;

    why.status = hth_engine__grow(e, t, p.count, &why);
    if (why.status == HTH_OK)
        why.status = read_rows(e, t, &rows, &why);
    if (why.status != HTH_OK) {
        free(rows);
        hth_engine__end_task(e, t, why.status, &why);
        return HTH_OK;
    }
    prompt.rows = rows;
    rc = hth_engine__send_ops(e, err);
    if (rc != HTH_OK) {
        free(rows);
        return rc;
    }
    set_rows(e, t);
    set_task(e, t);
    why.status = run_job(e, t, &prompt, &more, &why);
    took = hth_now_ns() - t0;
    set_task(e, NULL);
    rc = hth_split_finish(e->split, err);
    free(rows);
    if (rc != HTH_OK)
        return rc;
    if (why.status == HTH_OK) {
        t->stats.prompt.took_ns = took;
        hth_engine__split_learn(e, t, &c->spread);
        hth_engine__prompt_spread(e, t, c);
    }
    conclude(e, t, more, &why);
    return HTH_OK;
}
