/* slice.c - see slice.h. */
#include "kernels/slice.h"

#define LOST_NS_MIN 1000000u /* shorter gaps are interrupts, not neighbours */
#define LOST_PIECES 4u       /* nor is a tile of four times the usual length */
#define SLICE_NS_MIN 1000000u
#define SLICE_NS_MAX 64000000u /* longer: as good as a CPU of its own */
#define FREE_NS_MAX 50000u     /* a yield this short found nobody waiting */
#define WAIT_NS_MIN 1000000u   /* after such a wait a slice is new */
/* A slice ends on the system's tick: leave a 16th of it unused, and try after
 * each slice that was not cut off whether slices are a 1024th longer. */
#define SPARE_PARTS 16u
#define GROW_PARTS 1024u

void hth_slice_wake(struct hth_slice *s, uint64_t now_ns, uint64_t work)
{
    if (now_ns - s->seen_ns > WAIT_NS_MIN)
        s->begin_ns = now_ns;
    s->seen_ns = now_ns;
    if (s->work != 0 && s->work != work)
        s->piece_ns =
            (uint64_t)((double)s->piece_ns * (double)work / (double)s->work);
    s->work = work;
}

/* It ran from begin_ns until it lost its CPU inside the tile that has just
 * ended. A cut much too early is chance: believe it by a quarter. */
static void cut_off(struct hth_slice *s, uint64_t now_ns)
{
    uint64_t ran = s->seen_ns - s->begin_ns;

    if (s->length_ns == 0 || (ran < s->length_ns && ran > s->length_ns / 4 * 3))
        s->length_ns = ran;
    else if (ran < s->length_ns)
        s->length_ns -= (s->length_ns - ran) / 4;
    if (s->length_ns < SLICE_NS_MIN)
        s->length_ns = SLICE_NS_MIN;
    s->begin_ns = now_ns;
}

bool hth_slice_due(struct hth_slice *s, uint64_t now_ns)
{
    uint64_t took = now_ns - s->seen_ns;
    bool lost = s->piece_ns > 0 && took > LOST_NS_MIN &&
                took / LOST_PIECES > s->piece_ns;

    if (lost)
        cut_off(s, now_ns);
    else
        s->piece_ns = s->piece_ns == 0 ? took : (3 * s->piece_ns + took) / 4;
    s->seen_ns = now_ns;
    return s->length_ns > 0 && now_ns - s->begin_ns + s->piece_ns >
                                   s->length_ns - s->length_ns / SPARE_PARTS;
}

void hth_slice_back(struct hth_slice *s, uint64_t now_ns)
{
    if (now_ns - s->seen_ns < FREE_NS_MAX)
        s->length_ns *= 2;
    else
        s->length_ns += s->length_ns / GROW_PARTS;
    if (s->length_ns > SLICE_NS_MAX)
        s->length_ns = 0;
    s->begin_ns = s->seen_ns = now_ns;
}
