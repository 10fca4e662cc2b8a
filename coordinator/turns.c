/* turns.c - see turns.h. Cannot fail. */
#include "coordinator/turns.h"

#define NEWEST 0.5

bool hth_turns_halves(const struct hth_turns *t, uint32_t rows)
{
    bool faster = t->row_ns[1] < t->row_ns[0];

    if (rows < HTH_TURNS_ROWS_MIN || t->row_ns[0] <= 0)
        return false;
    if (t->row_ns[1] <= 0)
        return true;
    return t->steps >= HTH_TURNS_AGAIN ? !faster : faster;
}

void hth_turns_note(struct hth_turns *t, uint32_t rows, bool halves,
                    uint64_t ns)
{
    double now = rows > 0 ? (double)ns / rows : 0;
    double *mean = &t->row_ns[halves];
    bool both = t->row_ns[0] > 0 && t->row_ns[1] > 0;
    bool slower = both && t->row_ns[halves] > t->row_ns[!halves];

    if (rows < HTH_TURNS_ROWS_MIN)
        return;
    t->steps = slower ? 0 : t->steps + 1;
    *mean = *mean > 0 ? NEWEST * now + (1 - NEWEST) * *mean : now;
}
