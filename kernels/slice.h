/* slice.h - when a thread should give its CPU away, because it is about to
 * lose it.
 *
 * A thread beside a busy neighbour runs for a time slice of some milliseconds,
 * loses its CPU for as long, and so on. Lost inside a tile, all others wait for
 * that tile, longer than the whole product takes; lost between two tiles nobody
 * waits (pool.h). So a thread notices how long its slices are, and when the
 * next tile might not fit in, it yields before it takes it.
 *
 * Slices are learnt from gaps: a tile that took far longer than tiles do was
 * interrupted. A yield that comes back at once means that nobody wants the CPU:
 * the slice in mind doubles, and is forgotten after a few. A thread that was
 * never interrupted never yields.
 *
 * One thread's own record, no failure, no clock of its own: a test plays time.
 * Times in nanoseconds, of hth_now_ns(). */
#ifndef HTH_KERNELS_SLICE_H
#define HTH_KERNELS_SLICE_H

#include <stdbool.h>
#include <stdint.h>

struct hth_slice {
    uint64_t begin_ns;  /* when it got its CPU, as far as it knows */
    uint64_t seen_ns;   /* when it looked last */
    uint64_t piece_ns;  /* what a tile takes, smoothed */
    uint64_t work;      /* of such a tile */
    uint64_t length_ns; /* of its slices; 0: nobody interrupts it */
};

/* It is about to take its first tile after waiting; work: of each tile that
 * comes now, in any unit as long as it is always the same one, from 1 to 2^32.
 * Tiles of one product may be many times as long as those of the last. */
void hth_slice_wake(struct hth_slice *s, uint64_t now_ns, uint64_t work);
/* It has done a tile and holds none. True: yield, then hth_slice_back(). */
bool hth_slice_due(struct hth_slice *s, uint64_t now_ns);
void hth_slice_back(struct hth_slice *s, uint64_t now_ns);

#endif
