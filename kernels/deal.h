/* deal.h - who computes which tile, on cores that are not equally fast.
 *
 * Each thread of a pool gets a run of tiles in proportion to its speed, learnt
 * per class of kernel from measured times (the dynamic method for hybrid CPUs,
 * arXiv 2411.19542), and whoever is done takes from the others what they have
 * not begun. So a wrong guess, or a core that somebody else uses, costs at most
 * the tile that it is in. Tiles of a run lie side by side in memory, which a
 * counter shared by all would not give. What a tile computes does not depend on
 * who takes it: results are those of an equal split, to the bit.
 *
 * One thread begins and ends a deal; between, each thread takes. No failure
 * and no allocation after open. */
#ifndef HTH_KERNELS_DEAL_H
#define HTH_KERNELS_DEAL_H

#include <stdbool.h>
#include <stdint.h>

/* Kernels whose speed differs between cores in a way of its own. */
enum hth_deal_class { HTH_DEAL_DECODE, HTH_DEAL_PROMPT, HTH_DEAL_CLASSES };

struct hth_deal;

/* NULL when memory is short. All threads begin as equally fast. */
struct hth_deal *hth_deal_open(uint32_t threads);
void hth_deal_close(struct hth_deal *d); /* NULL is fine */

/* Deal out `tiles` tiles; work: of each, as hth_slice_wake() has it. */
void hth_deal_begin(struct hth_deal *d, enum hth_deal_class class,
                    uint32_t tiles, uint64_t work);
/* The next tile for a thread; false when all are taken, or when the thread is
 * about to lose its CPU (slice.h): the others then do the rest, and it calls
 * hth_deal_rest() as soon as nobody waits for it. Thread 0, which all wait for
 * anyway, is always there. */
bool hth_deal_take(struct hth_deal *d, uint32_t thread, uint32_t *tile);
/* Yields where that is due, else costs nothing. The pool calls it. */
void hth_deal_rest(struct hth_deal *d, uint32_t thread);
/* All threads are done: learn from how long they took. */
void hth_deal_end(struct hth_deal *d);

/* What one thread did in a deal, and the rule that learns from it; pure.
 * share[threads] sums to 1 before and after. A share moves a part of the way
 * to what was measured, to at most twice and at least half of what it was, so
 * that one preemption does not overturn it. */
struct hth_deal_work {
    uint32_t tiles;
    uint64_t ns;
};
void hth_deal_learn(float *share, const struct hth_deal_work *work,
                    uint32_t threads);
/* Before the first deal: what is thought of the threads' speeds [threads], for
 * all classes; no change unless all are above 0. */
void hth_deal_guess(struct hth_deal *d, const uint32_t *speed);
/* The present share of a thread. */
float hth_deal_share(const struct hth_deal *d, enum hth_deal_class class,
                     uint32_t thread);
/* What it did in the deal that ended last. */
struct hth_deal_work hth_deal_done(const struct hth_deal *d, uint32_t thread);

#endif
