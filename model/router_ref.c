/* router_ref.c - expert choice with the same bits on every CPU. Compiled
 * without contraction (the _ref suffix): see the Makefile. */
#include "model/router.h"

#include <math.h>

#include "kernels/quant.h"

#define LANES 16u

/* Sixteen running sums, folded in a fixed order: vectorises everywhere and
 * still means one thing. */
static float dot_fixed(const float *a, const float *b, uint32_t n)
{
    float lane[LANES] = {0};
    float sum = 0;
    uint32_t i = 0;

    for (; i + LANES <= n; i += LANES)
        for (uint32_t j = 0; j < LANES; j++)
            lane[j] += a[i + j] * b[i + j];
    for (uint32_t j = 0; i < n; i++, j++)
        lane[j] += a[i] * b[i];
    for (uint32_t j = 0; j < LANES; j++)
        sum += lane[j];
    return sum;
}

static void norm_fixed(const struct hth_router *r, const float *x, float *h)
{
    uint32_t dim = r->gate.cols;
    float mean = dot_fixed(x, x, dim) / (float)dim;
    float scale = 1.0f / sqrtf(mean + r->eps);

    for (uint32_t i = 0; i < dim; i++)
        h[i] = x[i] * scale * r->norm[i];
}

static uint32_t best_left(const float *logits, uint32_t n)
{
    uint32_t best = 0;

    for (uint32_t i = 1; i < n; i++)
        if (logits[i] > logits[best])
            best = i;
    return best;
}

static void sort_ascending(uint32_t *ids, float *weights, uint32_t n)
{
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t j = i; j > 0 && ids[j] < ids[j - 1]; j--) {
            uint32_t id = ids[j];
            float w = weights[j];

            ids[j] = ids[j - 1];
            weights[j] = weights[j - 1];
            ids[j - 1] = id;
            weights[j - 1] = w;
        }
}

/* The softmax runs over all experts; where the architecture renormalises,
 * dividing by the chosen ones' sum makes the full sum cancel. */
static void choose(const struct hth_router *r, float *logits, uint32_t *ids,
                   float *weights)
{
    float top = logits[best_left(logits, r->experts)];
    float all = 0, chosen = 0;

    for (uint32_t e = 0; e < r->experts; e++)
        all += expf(logits[e] - top);
    for (uint32_t k = 0; k < r->used; k++) {
        ids[k] = best_left(logits, r->experts);
        weights[k] = expf(logits[ids[k]] - top) / all;
        chosen += weights[k];
        logits[ids[k]] = -INFINITY;
    }
    for (uint32_t k = 0; r->renorm && k < r->used; k++)
        weights[k] /= chosen;
    sort_ascending(ids, weights, r->used);
}

void hth_route(const struct hth_router *r, const float *x, float *scratch,
               uint32_t *ids, float *weights)
{
    uint32_t dim = r->gate.cols;
    float *h = scratch;
    float *row = scratch + dim;
    float *logits = scratch + 2 * (size_t)dim;

    norm_fixed(r, x, h);
    for (uint32_t e = 0; e < r->experts; e++) {
        const uint8_t *w =
            (const uint8_t *)r->gate.data + e * r->gate.row_bytes;

        hth_dequantize((enum hth_type)r->gate.type, w, row, dim);
        logits[e] = dot_fixed(h, row, dim);
    }
    choose(r, logits, ids, weights);
}
