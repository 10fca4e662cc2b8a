/* pace.h - how many rows of prompts may join a step in which others wait for
 * their next token.
 *
 * The target: while prompts are read, the time per token of those who are
 * already answered grows by HTH_PACE_GROWTH at most. Every step with decode
 * rows earns that part of its time as credit; a chunk of a prompt may run when
 * the credit covers what it will add, as measured for chunks of its size. A
 * chunk is never so large that one token waits for more than
 * HTH_PACE_STALL_STEPS steps' time, however much credit there is (the idea of
 * chunked prefill: Agrawal et al. 2024, Sarathi-Serve; the credit is ours).
 * Measurements far off what was expected count in part, a size that looks dear
 * is tried again after a while, debt is bounded as credit is, and credit never
 * stops short of what one row takes: a disturbance delays a prompt by some
 * steps, and every prompt moves on.
 *
 * Where nobody decodes, a prompt takes all rows of a step; but just after
 * steps that somebody decoded in, HTH_PACE_BURST_ROWS at most: in a busy
 * service the next request comes while the step runs, and waits for its end.
 *
 * Pure: rows and times go in, rows come out. One thread. */
#ifndef HTH_COORDINATOR_PACE_H
#define HTH_COORDINATOR_PACE_H

#include <stdint.h>

#include "base/limits.h"

#define HTH_PACE_GROWTH 0.18 /* below the 25 % that are promised */
#define HTH_PACE_STALL_STEPS 2.0
#define HTH_PACE_BURST_ROWS 128u
#define HTH_PACE_BURSTS 8u /* steps that are called just after */
#define HTH_PACE_SIZES 10u /* chunks of 1, 2, 4 ... 512 rows */

struct hth_pace {
    double decode_ns[HTH_SEQS_MAX + 1]; /* of a step of n decode rows alone */
    double row_ns[HTH_PACE_SIZES]; /* added by a row of a chunk of 2^i rows */
    double credit_ns;
    uint32_t bursts; /* to come, of HTH_PACE_BURST_ROWS */
};

void hth_pace_init(struct hth_pace *p);
/* Prompt rows that may join a step of `decodes` decode rows, of `waiting`
 * that would; never more than waiting. decodes 0: all of them, or a burst. */
uint32_t hth_pace_rows(const struct hth_pace *p, uint32_t decodes,
                       uint32_t waiting);
/* A step has taken ns. */
void hth_pace_note(struct hth_pace *p, uint32_t decodes, uint32_t prompts,
                   uint64_t ns);

#endif
