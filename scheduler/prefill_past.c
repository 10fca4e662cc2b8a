/* prefill_past.c - what prompts took beside what had been thought they would:
 * factors by mode and length. Cannot fail. */
#include <math.h>
#include <string.h>

#include "scheduler/prefill.h"

/* How much one prompt counts against what was known: the first says all. */
#define NEWEST 0.5
/* Believed at most: one prompt may have met a device that did something else.
 */
#define FACTOR_MAX 16.0

/* Lengths by octaves; the length's place between two of them. */
static double place_of(uint32_t count)
{
    double at = log2(count > 0 ? count : 1);

    return at < HTH_PREFILL_LENGTHS - 1 ? at : HTH_PREFILL_LENGTHS - 1;
}

void hth_prefill_learn(struct hth_prefill_past *past, uint32_t mode,
                       uint32_t count, double factor)
{
    uint32_t at = (uint32_t)(place_of(count) + 0.5);
    double seen;

    if (mode >= HTH_PREFILL_AUTO || !(factor > 0) || !isfinite(factor))
        return;
    seen = log(fmin(fmax(factor, 1 / FACTOR_MAX), FACTOR_MAX));
    if (past->runs[mode][at]++ > 0)
        seen = NEWEST * seen + (1 - NEWEST) * past->log_factor[mode][at];
    past->log_factor[mode][at] = seen;
}

/* Of a mode that has been run: between the two known lengths around it. Beyond
 * them the nearest one says the less the further off it is. */
static double known(const struct hth_prefill_past *past, uint32_t mode,
                    double place)
{
    const double *f = past->log_factor[mode];
    int below = -1, above = -1;

    for (int i = 0; i < (int)HTH_PREFILL_LENGTHS; i++) {
        if (past->runs[mode][i] == 0)
            continue;
        if (i <= place + 0.5)
            below = i;
        if (i >= place - 0.5 && above < 0)
            above = i;
    }
    if (below < 0)
        return f[above] / (above - place + 0.5);
    if (above < 0)
        return f[below] / (place - below + 0.5);
    if (above <= below)
        return f[below];
    return f[below] + (f[above] - f[below]) * (place - below) / (above - below);
}

static bool has_run(const struct hth_prefill_past *past, uint32_t mode)
{
    for (uint32_t i = 0; i < HTH_PREFILL_LENGTHS; i++)
        if (past->runs[mode][i] > 0)
            return true;
    return false;
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
