/* pool.h - a fixed set of compute threads.
 *
 * The thread that calls hth_pool_run() is thread 0 of the pool; the others
 * spin for a bounded time between runs and then sleep on a futex, so an idle
 * device costs nothing and a token loop pays no wake-ups. Runs do not nest. A
 * pool is used by one thread at a time. No allocation after start. */
#ifndef HTH_KERNELS_POOL_H
#define HTH_KERNELS_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/deal.h"

struct hth_pool;

/* threads in [1, HTH_THREADS_MAX]. pin: bind thread i to the i-th CPU this
 * process may run on (thread 0, the caller's, is left alone); silently
 * without effect where the system has no affinity call or fewer CPUs. Without
 * pin threads run where the system puts them, except that a thread that finds
 * itself on the same CPU as another one of the pool moves to a free one. */
HTH_MUST_CHECK int hth_pool_start(struct hth_pool **out, uint32_t threads,
                                  bool pin, struct hth_err *err);
void hth_pool_stop(struct hth_pool *p); /* NULL is fine; joins the threads */
uint32_t hth_pool_threads(const struct hth_pool *p);

typedef void (*hth_pool_fn)(void *ctx, uint32_t thread, uint32_t threads);

/* Call fn(ctx, t, threads) once on every thread and return when all are done;
 * what they wrote is visible to the caller. p may be NULL: one thread. */
void hth_pool_run(struct hth_pool *p, hth_pool_fn fn, void *ctx);

/* The same for work that threads take piece by piece: fn on thread 0 returns
 * when everything is taken, and a thread that has not come by then (its CPU is
 * somebody else's just now) is not waited for and not called. No barriers. */
void hth_pool_run_any(struct hth_pool *p, hth_pool_fn fn, void *ctx);
/* Deal at first by the speeds of the CPUs on which the threads are now: by CPU
 * number, [count] (base/cores.h). A CPU beyond count: no guess. */
void hth_pool_guess(struct hth_pool *p, const uint32_t *speed, uint32_t count);
/* The pool's deal (deal.h); NULL for one thread. */
struct hth_deal *hth_pool_deal(struct hth_pool *p);

/* Inside fn: wait until all threads of the run are here. */
void hth_pool_barrier(struct hth_pool *p);

/* The part [*first, *first + *count) of n items, in multiples of unit (the
 * last part takes the rest), that belongs to one thread of an equal split. */
void hth_split(uint64_t n, uint64_t unit, uint32_t thread, uint32_t threads,
               uint64_t *first, uint64_t *count);

#endif
