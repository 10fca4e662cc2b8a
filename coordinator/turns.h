/* turns.h - whether the rows of a long step go as one or as two halves that
 * take turns (model/forward.h). Halves hide the network behind computing, and
 * cost smaller products and a second look at every weight; which is more
 * depends on the network and the devices, so both are tried, and the faster one
 * stays. The answer is the same, bit by bit. Pure. One thread. */
#ifndef HTH_COORDINATOR_TURNS_H
#define HTH_COORDINATOR_TURNS_H

#include <stdbool.h>
#include <stdint.h>

#define HTH_TURNS_ROWS_MIN 64u /* fewer rows never take turns */
#define HTH_TURNS_AGAIN 32u    /* steps until the slower one is tried again */

struct hth_turns {
    double row_ns[2]; /* as one, as halves; 0: not tried */
    uint32_t steps;   /* since the slower one was tried */
};

/* Should this step's rows take turns? */
bool hth_turns_halves(const struct hth_turns *t, uint32_t rows);
/* A step took ns. */
void hth_turns_note(struct hth_turns *t, uint32_t rows, bool halves,
                    uint64_t ns);

#endif
