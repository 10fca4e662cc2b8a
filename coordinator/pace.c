/* pace.c - a budget of time for prompts, kept by running averages. */
#include "coordinator/pace.h"

#include <string.h>

#define WEIGHT 0.25   /* of a new measurement */
#define FIRST_ROWS 4u /* a chunk to measure by, when nothing is known */
#define FORGET 0.98   /* of a size's cost, while only smaller ones are used */
#define SPREAD 2.0    /* a measurement this far off is a disturbance */

void hth_pace_init(struct hth_pace *p)
{
    memset(p, 0, sizeof *p);
}

static uint32_t size_of(uint32_t rows)
{
    uint32_t i = 0;

    while (i + 1 < HTH_PACE_SIZES && (2u << i) <= rows)
        i++;
    return i;
}

/* Rows of a size not measured yet cost what those of the nearest smaller size
 * do (larger chunks are cheaper by the row, so this errs to the safe side), or
 * of the nearest larger one. 0: nothing is known. */
static double row_cost_ns(const struct hth_pace *p, uint32_t size)
{
    uint32_t i;

    for (i = size + 1; i-- > 0;)
        if (p->row_ns[i] > 0)
            return p->row_ns[i];
    for (i = size + 1; i < HTH_PACE_SIZES; i++)
        if (p->row_ns[i] > 0)
            return p->row_ns[i];
    return 0;
}

uint32_t hth_pace_rows(const struct hth_pace *p, uint32_t decodes,
                       uint32_t waiting)
{
    double step_ns =
        p->decode_ns[decodes <= HTH_SEQS_MAX ? decodes : HTH_SEQS_MAX];
    uint32_t size, rows;
    double cost_ns;

    if (decodes == 0 && p->bursts > 0 && waiting > HTH_PACE_BURST_ROWS)
        return HTH_PACE_BURST_ROWS;
    if (decodes == 0 || waiting == 0)
        return waiting;
    if (step_ns <= 0)
        return 0; /* a step without prompts tells what one costs */
    for (size = size_of(waiting);; size--) {
        rows = 1u << size;
        cost_ns = row_cost_ns(p, size) * rows;
        if (cost_ns <= 0)
            return waiting < FIRST_ROWS ? waiting : FIRST_ROWS;
        if (cost_ns <= HTH_PACE_STALL_STEPS * step_ns || size == 0)
            break;
    }
    /* One row may take more than credit can grow to; what it takes beyond
     * this is owed. */
    if (size == 0 && cost_ns > HTH_PACE_STALL_STEPS / 2 * step_ns)
        cost_ns = HTH_PACE_STALL_STEPS / 2 * step_ns;
    return cost_ns <= p->credit_ns ? rows : 0;
}

/* One step that was disturbed by another program can take a hundred times as
 * long. Charged in full it would bar all prompts for seconds, or give them
 * credit that nobody has, so a measurement counts within a factor of what was
 * expected; a cost that has really changed is reached in a few of them. */
static double believe(double measured, double expected)
{
    if (measured < 1)
        measured = 1;
    if (expected <= 0)
        return measured;
    if (measured > SPREAD * expected)
        return SPREAD * expected;
    return measured < expected / SPREAD ? expected / SPREAD : measured;
}

static void average(double *old, double now)
{
    *old = *old > 0 ? *old + WEIGHT * (now - *old) : now;
}

static void note_chunk(struct hth_pace *p, uint32_t prompts, double added_ns)
{
    uint32_t size = size_of(prompts), i;

    added_ns = believe(added_ns, row_cost_ns(p, size) * prompts);
    average(&p->row_ns[size], added_ns / prompts);
    for (i = size + 1; i < HTH_PACE_SIZES; i++)
        p->row_ns[i] *= FORGET;
    p->credit_ns -= added_ns;
}

void hth_pace_note(struct hth_pace *p, uint32_t decodes, uint32_t prompts,
                   uint64_t ns)
{
    double *step_ns =
        &p->decode_ns[decodes <= HTH_SEQS_MAX ? decodes : HTH_SEQS_MAX];
    double bound_ns;

    if (decodes == 0) {
        p->credit_ns = 0;
        if (p->bursts > 0)
            p->bursts--;
        return;
    }
    p->bursts = HTH_PACE_BURSTS;
    if (prompts == 0) {
        average(step_ns, believe((double)ns, *step_ns));
    } else if (*step_ns > 0) {
        note_chunk(p, prompts, (double)ns - *step_ns);
    }
    /* Saved credit would let a later prompt in with a jolt, and old debt keep
     * it waiting for what is long past. */
    bound_ns = HTH_PACE_STALL_STEPS * *step_ns;
    p->credit_ns += HTH_PACE_GROWTH * *step_ns;
    if (p->credit_ns > bound_ns)
        p->credit_ns = bound_ns;
    else if (p->credit_ns < -bound_ns)
        p->credit_ns = -bound_ns;
}
