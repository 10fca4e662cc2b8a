/* sampler.c - choosing a token. Numbers in, one id out; fails only at open. */
#include "model/sampler.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/constraint.h"

struct hth_sampler {
    struct hth_sampling p;
    struct hth_rng rng;
    uint32_t vocab;
    uint32_t *recent; /* ring of the last repeat_last_n ids */
    uint32_t recent_count, recent_next;
    uint32_t *times; /* [vocab], how often in the ring; NULL: no penalties */
    struct hth_constraint *constraint; /* or NULL */
};

void hth_sampling_default(struct hth_sampling *s)
{
    memset(s, 0, sizeof *s);
    s->temperature = 0.8f;
    s->top_k = 40;
    s->top_p = 0.95f;
    s->min_p = 0.05f;
    s->typical_p = 1;
    s->repeat_penalty = 1;
    s->repeat_last_n = 64;
}

struct range_check {
    const char *name;
    float value, min, max;
};

int hth_sampling_check(const struct hth_sampling *s, uint32_t vocab,
                       struct hth_err *err)
{
    const struct range_check checks[] = {
        {"temperature", s->temperature, -1e6f, 1e6f},
        {"top-p", s->top_p, 0, 1},
        {"min-p", s->min_p, 0, 1},
        {"typical-p", s->typical_p, 0, 1},
        {"repetition penalty", s->repeat_penalty, 1e-3f, 1e3f},
        {"frequency penalty", s->frequency_penalty, -100, 100},
        {"presence penalty", s->presence_penalty, -100, 100},
    };

    for (size_t i = 0; i < sizeof checks / sizeof checks[0]; i++)
        if (!(checks[i].value >= checks[i].min &&
              checks[i].value <= checks[i].max))
            return hth_fail(err, HTH_EINVAL, "%s is %g; %g to %g are possible",
                            checks[i].name, (double)checks[i].value,
                            (double)checks[i].min, (double)checks[i].max);
    if (s->biases > HTH_BIAS_MAX || s->repeat_last_n > HTH_CTX_MAX)
        return hth_fail(err, HTH_EINVAL,
                        "at most %u logit biases and %u tokens of penalty "
                        "are possible",
                        HTH_BIAS_MAX, HTH_CTX_MAX);
    for (uint32_t i = 0; i < s->biases; i++)
        if (s->bias[i].id >= vocab || isnan(s->bias[i].bias))
            return hth_fail(err, HTH_EINVAL,
                            "logit bias %u names token %u of a vocabulary of "
                            "%u, or is no number",
                            i, s->bias[i].id, vocab);
    return HTH_OK;
}

static bool has_penalties(const struct hth_sampling *s)
{
    return s->repeat_last_n > 0 &&
           (s->repeat_penalty != 1 || s->frequency_penalty != 0 ||
            s->presence_penalty != 0);
}

/* Penalties and biases can lift any token into the best ones, so they need
 * all logits; so does sampling without top-k. */
uint32_t hth_sampling_candidates(const struct hth_sampling *s)
{
    if (has_penalties(s) || s->biases > 0)
        return 0;
    if (s->temperature <= 0)
        return 1;
    return s->top_k <= HTH_CANDIDATES_MAX ? s->top_k : 0;
}

static bool better(const struct hth_candidate *a, const struct hth_candidate *b)
{
    return a->logit > b->logit || (a->logit == b->logit && a->id < b->id);
}

/* Sift down in a heap whose root is the worst kept candidate. */
static void sift(struct hth_candidate *heap, uint32_t n, uint32_t i)
{
    for (;;) {
        uint32_t worst = i, l = 2 * i + 1, r = 2 * i + 2;
        struct hth_candidate t;

        if (l < n && better(&heap[worst], &heap[l]))
            worst = l;
        if (r < n && better(&heap[worst], &heap[r]))
            worst = r;
        if (worst == i)
            return;
        t = heap[i];
        heap[i] = heap[worst];
        heap[worst] = t;
        i = worst;
    }
}

/* Turn a heap (root worst) into a list with the best in front. */
static void unheap(struct hth_candidate *heap, uint32_t n)
{
    while (n > 1) {
        struct hth_candidate t = heap[0];

        heap[0] = heap[--n];
        heap[n] = t;
        sift(heap, n, 0);
    }
}

static void heapify(struct hth_candidate *heap, uint32_t n)
{
    for (uint32_t i = n / 2; i-- > 0;)
        sift(heap, n, i);
}

static float clean(float logit)
{
    return isnan(logit) ? -INFINITY : logit;
}

uint32_t hth_top_candidates(const float *logits, uint32_t n, uint32_t first_id,
                            uint32_t k, struct hth_candidate *out)
{
    uint32_t kept = k < n ? k : n;

    if (kept == 0)
        return 0;
    for (uint32_t i = 0; i < kept; i++)
        out[i] = (struct hth_candidate){first_id + i, clean(logits[i])};
    heapify(out, kept);
    for (uint32_t i = kept; i < n; i++) {
        struct hth_candidate c = {first_id + i, clean(logits[i])};

        if (better(&c, &out[0])) {
            out[0] = c;
            sift(out, kept, 0);
        }
    }
    unheap(out, kept);
    return kept;
}

uint32_t hth_best_candidates(const struct hth_candidate *cand, uint32_t n,
                             uint32_t k, struct hth_candidate *out)
{
    uint32_t kept = k < n ? k : n;

    if (kept == 0)
        return 0;
    memcpy(out, cand, kept * sizeof *out);
    heapify(out, kept);
    for (uint32_t i = kept; i < n; i++)
        if (better(&cand[i], &out[0])) {
            out[0] = cand[i];
            sift(out, kept, 0);
        }
    unheap(out, kept);
    return kept;
}

double hth_log_sum_exp(const float *logits, uint32_t n)
{
    double top = -INFINITY, sum = 0;

    for (uint32_t i = 0; i < n; i++)
        if (logits[i] > top)
            top = logits[i];
    if (!isfinite(top))
        return top;
    for (uint32_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - top);
    return top + log(sum);
}

int hth_sampler_open(struct hth_sampler **out, const struct hth_sampling *p,
                     uint32_t vocab)
{
    struct hth_sampler *s = calloc(1, sizeof *s);

    if (s == NULL)
        return HTH_ENOMEM;
    s->p = *p;
    s->vocab = vocab;
    hth_rng_init(&s->rng, p->seed);
    if (has_penalties(p)) {
        s->recent = calloc(p->repeat_last_n, sizeof *s->recent);
        s->times = calloc(vocab, sizeof *s->times);
        if (s->recent == NULL || s->times == NULL) {
            hth_sampler_close(s);
            return HTH_ENOMEM;
        }
    }
    *out = s;
    return HTH_OK;
}

void hth_sampler_close(struct hth_sampler *s)
{
    if (s == NULL)
        return;
    free(s->recent);
    free(s->times);
    free(s);
}

void hth_sampler_accept(struct hth_sampler *s, uint32_t id)
{
    if (s->times == NULL || id >= s->vocab)
        return;
    if (s->recent_count == s->p.repeat_last_n)
        s->times[s->recent[s->recent_next]]--;
    else
        s->recent_count++;
    s->recent[s->recent_next] = id;
    s->recent_next = (s->recent_next + 1) % s->p.repeat_last_n;
    s->times[id]++;
}

/* A repeated token's positive logit shrinks and its negative one grows
 * (Keskar et al. 2019); frequency and presence are subtracted (OpenAI). */
static void penalise(const struct hth_sampler *s, struct hth_candidate *c)
{
    uint32_t times = s->times[c->id];

    if (times == 0)
        return;
    if (c->logit > 0)
        c->logit /= s->p.repeat_penalty;
    else
        c->logit *= s->p.repeat_penalty;
    c->logit -= (float)times * s->p.frequency_penalty + s->p.presence_penalty;
}

static void adjust(const struct hth_sampler *s, struct hth_candidate *cand,
                   uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        cand[i].logit = clean(cand[i].logit);
        for (uint32_t b = 0; b < s->p.biases; b++)
            if (s->p.bias[b].id == cand[i].id)
                cand[i].logit += s->p.bias[b].bias;
        if (s->times != NULL && cand[i].id < s->vocab)
            penalise(s, &cand[i]);
    }
}

static uint32_t greedy(const struct hth_candidate *cand, uint32_t n)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < n; i++)
        if (better(&cand[i], &cand[best]))
            best = i;
    return cand[best].id;
}

/* The k best in front, in order. */
static uint32_t keep_top(struct hth_candidate *cand, uint32_t n, uint32_t k)
{
    if (k == 0 || k > n)
        k = n;
    heapify(cand, k);
    for (uint32_t i = k; i < n; i++)
        if (better(&cand[i], &cand[0])) {
            cand[0] = cand[i];
            sift(cand, k, 0);
        }
    unheap(cand, k);
    return k;
}

static double weight(const struct hth_candidate *cand, uint32_t i,
                     double temperature)
{
    return exp(((double)cand[i].logit - cand[0].logit) / temperature);
}

/* The shortest prefix that holds top_p of the probability. */
static uint32_t cut_top_p(const struct hth_candidate *cand, uint32_t n,
                          double top_p)
{
    double sum = 0, part = 0;

    if (top_p >= 1)
        return n;
    for (uint32_t i = 0; i < n; i++)
        sum += weight(cand, i, 1);
    for (uint32_t i = 0; i < n; i++) {
        part += weight(cand, i, 1);
        if (part >= top_p * sum)
            return i + 1;
    }
    return n;
}

static uint32_t cut_min_p(const struct hth_candidate *cand, uint32_t n,
                          double min_p)
{
    uint32_t kept = 1;

    while (kept < n && weight(cand, kept, 1) >= min_p)
        kept++;
    return kept;
}

/* How far candidate i's surprise is from what is to be expected. */
static double strangeness(const struct hth_candidate *cand, uint32_t i,
                          double log_sum, double entropy)
{
    return fabs(log_sum - ((double)cand[i].logit - cand[0].logit) - entropy);
}

/* Locally typical sampling (Meister et al. 2022): of the candidates whose
 * surprise is nearest to the entropy, as many as hold typical_p of the
 * probability, moved to the front. In order of probability the distance falls
 * and then rises, so those nearest are neighbours: the part grows to the side
 * that is nearer. */
static uint32_t cut_typical(struct hth_candidate *cand, uint32_t n,
                            double typical_p)
{
    double sum = 0, mean = 0, log_sum, entropy, part;
    uint32_t from = 0, to;

    if (!(typical_p > 0 && typical_p < 1))
        return n;
    for (uint32_t i = 0; i < n; i++) {
        double w = weight(cand, i, 1);

        sum += w;
        if (w > 0) /* an infinite logit weighs nothing */
            mean += w * ((double)cand[i].logit - cand[0].logit);
    }
    log_sum = log(sum);
    entropy = log_sum - mean / sum;
    for (uint32_t i = 1; i < n; i++)
        if (strangeness(cand, i, log_sum, entropy) <
            strangeness(cand, from, log_sum, entropy))
            from = i;
    part = weight(cand, from, 1);
    for (to = from + 1; part < typical_p * sum && (from > 0 || to < n);) {
        if (to == n ||
            (from > 0 && strangeness(cand, from - 1, log_sum, entropy) <=
                             strangeness(cand, to, log_sum, entropy)))
            part += weight(cand, --from, 1);
        else
            part += weight(cand, to++, 1);
    }
    memmove(cand, cand + from, (to - from) * sizeof *cand);
    return to - from;
}

static uint32_t draw(struct hth_sampler *s, const struct hth_candidate *cand,
                     uint32_t n)
{
    double sum = 0, at;

    for (uint32_t i = 0; i < n; i++)
        sum += weight(cand, i, s->p.temperature);
    at = hth_rng_unit(&s->rng) * sum;
    for (uint32_t i = 0; i < n; i++) {
        at -= weight(cand, i, s->p.temperature);
        if (at < 0)
            return cand[i].id;
    }
    return cand[n - 1].id;
}

void hth_sampler_constrain(struct hth_sampler *s, struct hth_constraint *c)
{
    s->constraint = c;
}

static uint32_t choose(struct hth_sampler *s, struct hth_candidate *cand,
                       uint32_t n)
{
    if (!(s->p.temperature > 0))
        return greedy(cand, n);
    n = keep_top(cand, n, s->p.top_k);
    if (!isfinite(cand[0].logit))
        return cand[0].id; /* nothing to weigh */
    n = cut_typical(cand, n, s->p.typical_p);
    n = cut_top_p(cand, n, s->p.top_p);
    n = cut_min_p(cand, n, s->p.min_p);
    return draw(s, cand, n);
}

/* The constraint comes after penalties and biases, which decide who is best,
 * and before everything that cuts candidates off. */
uint32_t hth_sampler_pick(struct hth_sampler *s, struct hth_candidate *cand,
                          uint32_t n)
{
    uint32_t id;

    adjust(s, cand, n);
    if (s->constraint == NULL)
        return choose(s, cand, n);
    n = hth_constraint_filter(s->constraint, cand, n,
                              s->p.temperature > 0 ? s->p.top_k : 1);
    if (n == 0)
        return HTH_PICK_NONE;
    id = choose(s, cand, n);
    return hth_constraint_accept(s->constraint, id) == HTH_OK ? id
                                                              : HTH_PICK_NONE;
}
