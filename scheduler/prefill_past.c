/* prefill_past.c - what prompts took beside what had been thought they would:
 * factors by mode and length. Cannot fail. */
#include <math.h>
#include <string.h>

#include "scheduler/prefill.h"

/* Believed at most: one prompt may have met a device that did something else.
 */
#define FACTOR_MAX 16.0
/* What a mode that was never run at a length may be better than thought, and
 * one that was run once. A model is off by as much where ranks share cores. */
#define DOUBT_NEW 0.67
#define DOUBT_ONCE 0.9
/* Prompts of a length until what is second best is tried again. */
#define AGAIN 24u

/* Lengths by octaves; the length's place between two of them. */
static double place_of(uint32_t count)
{
    double at = log2(count > 0 ? count : 1);

    return at < HTH_PREFILL_LENGTHS - 1 ? at : HTH_PREFILL_LENGTHS - 1;
}

static uint32_t octave_of(uint32_t count)
{
    return (uint32_t)(place_of(count) + 0.5);
}

void hth_prefill_learn(struct hth_prefill_past *past, uint32_t mode,
                       uint32_t count, double factor)
{
    struct hth_prefill_runs *r;

    if (mode >= HTH_PREFILL_AUTO || !(factor > 0) || !isfinite(factor))
        return;
    r = &past->of[mode][octave_of(count)];
    factor = fmin(fmax(factor, 1 / FACTOR_MAX), FACTOR_MAX);
    r->log_factor[r->runs++ % HTH_PREFILL_KEPT] = (float)log(factor);
}

/* Half of what is kept is less: one prompt that met something else on its way
 * does not move it. */
static double median(const struct hth_prefill_runs *r)
{
    uint32_t n = r->runs < HTH_PREFILL_KEPT ? r->runs : HTH_PREFILL_KEPT;
    float v[HTH_PREFILL_KEPT];

    memcpy(v, r->log_factor, sizeof v);
    for (uint32_t i = 1; i < n; i++)
        for (uint32_t k = i; k > 0 && v[k] < v[k - 1]; k--) {
            float t = v[k];

            v[k] = v[k - 1];
            v[k - 1] = t;
        }
    return ((double)v[(n - 1) / 2] + (double)v[n / 2]) / 2;
}

/* Of a mode that has been run: between the two known lengths around it. Beyond
 * them the nearest one says the less the further off it is. */
static double known(const struct hth_prefill_past *past, uint32_t mode,
                    double place)
{
    const struct hth_prefill_runs *of = past->of[mode];
    int below = -1, above = -1;
    double low, high;

    for (int i = 0; i < (int)HTH_PREFILL_LENGTHS; i++) {
        if (of[i].runs == 0)
            continue;
        if (i <= place + 0.5)
            below = i;
        if (i >= place - 0.5 && above < 0)
            above = i;
    }
    if (below < 0)
        return median(&of[above]) / (above - place + 0.5);
    low = median(&of[below]);
    if (above < 0)
        return low / (place - below + 0.5);
    if (above <= below)
        return low;
    high = median(&of[above]);
    return low + (high - low) * (place - below) / (above - below);
}

static bool has_run(const struct hth_prefill_past *past, uint32_t mode)
{
    for (uint32_t i = 0; i < HTH_PREFILL_LENGTHS; i++)
        if (past->of[mode][i].runs > 0)
            return true;
    return false;
}

double hth_prefill_doubt(const struct hth_prefill_past *past, uint32_t mode,
                         uint32_t count)
{
    uint32_t at = octave_of(count), runs;

    if (mode >= HTH_PREFILL_AUTO)
        return 1;
    runs = past->of[mode][at].runs;
    return runs == 0 ? DOUBT_NEW : runs == 1 ? DOUBT_ONCE : 1;
}

bool hth_prefill_again(const struct hth_prefill_past *past, uint32_t count)
{
    uint32_t at = octave_of(count), runs = 0;

    for (uint32_t m = 0; m < HTH_PREFILL_AUTO; m++)
        runs += past->of[m][at].runs;
    return runs % AGAIN == AGAIN - 1;
}

/* Modes that spread a prompt are alike in what the model does not see: a mode
 * that was not run yet is judged as those that were, so that it is not tried
 * merely because nothing bad is known of it. */
static bool alike(uint32_t mode)
{
    return hth_prefill_splits(mode) && mode != HTH_PREFILL_SINGLE;
}

double hth_prefill_factor(const struct hth_prefill_past *past, uint32_t mode,
                          uint32_t count)
{
    double place = place_of(count), sum = 0;
    uint32_t n = 0;

    if (mode >= HTH_PREFILL_AUTO)
        return 1;
    if (has_run(past, mode))
        return exp(known(past, mode, place));
    for (uint32_t m = 0; alike(mode) && m < HTH_PREFILL_AUTO; m++)
        if (alike(m) && has_run(past, m)) {
            sum += known(past, m, place);
            n++;
        }
    return n > 0 ? exp(sum / n) : 1;
}

void hth_prefill_level(double *rate, uint32_t n)
{
    double before[HTH_RANKS_MAX];

    memcpy(before, rate, n * sizeof *rate);
    for (uint32_t r = 0; r < n; r++) {
        double sum = 0;
        uint32_t like = 0;

        for (uint32_t q = 0; q < n; q++)
            if (before[q] <= before[r] * HTH_PREFILL_ALIKE &&
                before[r] <= before[q] * HTH_PREFILL_ALIKE) {
                sum += before[q];
                like++;
            }
        rate[r] = sum / like;
    }
}
