/* plan.c - shares into ranges. Pure arithmetic; fails only on shares that are
 * no numbers and on models that fit nowhere. */
#include "scheduler/plan.h"

#include <math.h>
#include <string.h>

/* Deal `total` units in proportion to weights: floors first, then one more to
 * the largest fractions (ties: the lower rank), so that every unit is dealt
 * and a rank is never more than one unit off its due. */
static void deal(uint32_t total, const double *weights, uint32_t ranks,
                 uint32_t *units)
{
    double frac[HTH_RANKS_MAX];
    double sum = 0;
    uint32_t dealt = 0;

    for (uint32_t r = 0; r < ranks; r++)
        sum += weights[r];
    for (uint32_t r = 0; r < ranks; r++) {
        double due = (double)total * (weights[r] / sum);

        units[r] = (uint32_t)due;
        frac[r] = weights[r] > 0 ? due - units[r] : -1;
        dealt += units[r];
    }
    while (dealt < total) {
        uint32_t best = 0;

        for (uint32_t r = 1; r < ranks; r++)
            if (frac[r] > frac[best])
                best = r;
        units[best]++;
        frac[best] -= 1;
        dealt++;
    }
}

/* The KV heads that query heads [first, first + count) read. */
static void cover_kv(const struct hth_shape *shape, struct hth_share *s)
{
    uint32_t group = shape->heads / shape->kv_heads;

    s->kv_first = s->heads == 0 ? 0 : s->head_first / group;
    s->kvs = s->heads == 0
                 ? 0
                 : (s->head_first + s->heads - 1) / group - s->kv_first + 1;
}

static int check_weights(const double *weights, uint32_t ranks,
                         struct hth_err *err)
{
    double sum = 0;

    if (ranks == 0 || ranks > HTH_RANKS_MAX)
        return hth_fail(err, HTH_EINVAL,
                        "%u shares given, 1 to %u are possible", ranks,
                        HTH_RANKS_MAX);
    for (uint32_t r = 0; r < ranks; r++) {
        if (!isfinite(weights[r]) || weights[r] < 0)
            return hth_fail(err, HTH_EINVAL,
                            "the share of rank %u is not a number of 0 or "
                            "more",
                            r);
        sum += weights[r];
    }
    if (!(sum > 0) || !isfinite(sum))
        return hth_fail(err, HTH_EINVAL,
                        "all shares are 0: some rank must compute");
    return HTH_OK;
}

/* Vocabulary rows are cut anywhere, in runs of this many where possible, so
 * that threads get whole cache lines of logits. */
#define VOCAB_UNIT 32u

static uint32_t vocab_unit(uint32_t vocab)
{
    return vocab % VOCAB_UNIT == 0 ? VOCAB_UNIT : 1;
}

int hth_plan_make(const struct hth_shape *shape, const double *weights,
                  uint32_t ranks, struct hth_plan *out, struct hth_err *err)
{
    uint32_t heads[HTH_RANKS_MAX], ff[HTH_RANKS_MAX], vocab[HTH_RANKS_MAX];
    uint32_t v_unit = vocab_unit(shape->vocab);
    struct hth_share at = {0};
    int rc = check_weights(weights, ranks, err);

    if (rc != HTH_OK)
        return rc;
    deal(shape->heads / shape->heads_unit, weights, ranks, heads);
    deal(shape->ff / shape->ff_unit, weights, ranks, ff);
    deal(shape->vocab / v_unit, weights, ranks, vocab);
    memset(out, 0, sizeof *out);
    out->ranks = ranks;
    for (uint32_t r = 0; r < ranks; r++) {
        struct hth_share *s = &out->share[r];

        *s = at;
        s->heads = heads[r] * shape->heads_unit;
        s->ff = ff[r] * shape->ff_unit;
        s->vocab = vocab[r] * v_unit;
        cover_kv(shape, s);
        at.head_first += s->heads;
        at.ff_first += s->ff;
        at.vocab_first += s->vocab;
    }
    return HTH_OK;
}

bool hth_share_empty(const struct hth_share *s)
{
    return s->heads == 0 && s->ff == 0 && s->vocab == 0;
}

uint64_t hth_share_weight_bytes(const struct hth_shape *shape,
                                const struct hth_share *s)
{
    return s->heads * shape->head_bytes + s->kvs * shape->kv_bytes +
           s->ff * shape->ff_bytes + s->vocab * shape->vocab_bytes;
}

uint64_t hth_share_kv_bytes(const struct hth_shape *shape,
                            const struct hth_share *s)
{
    return s->kvs * shape->kv_cache_bytes;
}

uint64_t hth_plan_reduce_bytes(const struct hth_shape *shape,
                               uint64_t row_bytes)
{
    return 2 * (uint64_t)shape->layers * row_bytes;
}

static uint64_t need_bytes(const struct hth_shape *shape,
                           const struct hth_share *s, uint32_t ctx)
{
    return hth_share_weight_bytes(shape, s) +
           hth_share_kv_bytes(shape, s) * ctx;
}

/* Scale down the weight of every rank whose share overflows its memory;
 * returns the bytes that did not fit. The factor aims a little low, because
 * units are whole. */
static uint64_t shrink(const struct hth_shape *shape,
                       const struct hth_plan_request *q,
                       const struct hth_plan *plan, double *weights)
{
    uint64_t missing = 0;

    for (uint32_t r = 0; r < q->ranks; r++) {
        uint64_t need = need_bytes(shape, &plan->share[r], q->ctx);
        uint64_t have = q->devices[r].memory_bytes;

        if (have == 0 || need <= have)
            continue;
        missing += need - have;
        weights[r] *= 0.98 * (double)have / (double)need;
    }
    return missing;
}

static int no_room(uint64_t missing, uint32_t ranks, struct hth_err *err)
{
    return hth_fail(err, HTH_EOVERFLOW,
                    "the model does not fit: about %llu MiB of memory are "
                    "missing over %u device(s); add a device, raise --memory "
                    "or lower --ctx",
                    (unsigned long long)(missing >> 20) + 1, ranks);
}

/* All memories together against the whole model: the lower bound of what is
 * missing, and the number to tell. */
static uint64_t missing_in_all(const struct hth_shape *shape,
                               const struct hth_plan_request *q)
{
    struct hth_share whole = {.heads = shape->heads,
                              .kvs = shape->kv_heads,
                              .ff = shape->ff,
                              .vocab = shape->vocab};
    uint64_t need = need_bytes(shape, &whole, q->ctx), have = 0;

    for (uint32_t r = 0; r < q->ranks; r++) {
        if (q->devices[r].memory_bytes == 0 && q->devices[r].speed > 0)
            return 0;
        if (q->devices[r].speed > 0)
            have += q->devices[r].memory_bytes;
    }
    return need > have ? need - have : 0;
}

/* Shrinking one share grows the others, which may then overflow in turn; the
 * rounds are bounded, and what has not settled by then is too tight. */
#define AUTO_ROUNDS_MAX 200u

/* Room in each memory for its part of what all together lack, and a little
 * more, because units are whole. */
static void stretch(const struct hth_plan_request *q, uint64_t missing,
                    struct hth_plan_device *devices)
{
    double have = 0, factor;

    memcpy(devices, q->devices, q->ranks * sizeof *devices);
    for (uint32_t r = 0; r < q->ranks; r++)
        if (devices[r].speed > 0)
            have += (double)devices[r].memory_bytes;
    factor = have > 0 ? ((double)missing / have + 1) * 1.05 : 1;
    for (uint32_t r = 0; r < q->ranks; r++)
        devices[r].memory_bytes =
            (uint64_t)((double)devices[r].memory_bytes * factor);
}

static int settle(const struct hth_shape *shape,
                  const struct hth_plan_request *q, struct hth_plan *out,
                  double *weights, struct hth_err *err)
{
    uint64_t missing = 0;

    for (uint32_t i = 0; i < AUTO_ROUNDS_MAX; i++) {
        int rc = hth_plan_make(shape, weights, q->ranks, out, err);

        if (rc != HTH_OK)
            return rc;
        missing = shrink(shape, q, out, weights);
        if (missing == 0)
            return HTH_OK;
    }
    return no_room(missing, q->ranks, err);
}

int hth_plan_auto(const struct hth_shape *shape,
                  const struct hth_plan_request *q, struct hth_plan *out,
                  double *weights_out, struct hth_err *err)
{
    struct hth_plan_device devices[HTH_RANKS_MAX];
    struct hth_plan_request request = *q;
    double weights[HTH_RANKS_MAX];
    struct hth_plan plan;
    uint64_t missing;
    int rc;

    if (q->ranks == 0 || q->ranks > HTH_RANKS_MAX)
        return hth_fail(err, HTH_EINVAL, "%u devices, 1 to %u are possible",
                        q->ranks, HTH_RANKS_MAX);
    missing = missing_in_all(shape, q);
    if (missing > 0 && !q->may_stream)
        return no_room(missing, q->ranks, err);
    if (missing > 0) {
        stretch(q, missing, devices);
        request.devices = devices;
    }
    for (uint32_t r = 0; r < q->ranks; r++)
        weights[r] = q->devices[r].speed;
    rc = settle(shape, &request, &plan, weights, err);
    if (rc != HTH_OK)
        return rc;
    *out = plan;
    if (weights_out != NULL)
        memcpy(weights_out, weights, q->ranks * sizeof *weights);
    return HTH_OK;
}
