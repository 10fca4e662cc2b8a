/* pool_test.c - every thread runs once, barriers hold, pools come and go. */
#include <criterion/criterion.h>

#include <stdatomic.h>
#include <string.h>

#include "base/clock.h"
#include "base/limits.h"
#include "kernels/pool.h"

#define THREADS_MAX 8u

static struct hth_pool *start(uint32_t threads)
{
    struct hth_pool *p = NULL;
    struct hth_err err;

    cr_assert_eq(hth_pool_start(&p, threads, threads % 2 == 0, &err), HTH_OK,
                 "%s", err.text);
    cr_assert_eq(hth_pool_threads(p), threads);
    return p;
}

struct tally {
    uint32_t calls[THREADS_MAX]; /* plain: the pool orders the accesses */
    uint32_t threads;
};

static void count_call(void *ctx, uint32_t thread, uint32_t threads)
{
    struct tally *t = ctx;

    t->calls[thread]++;
    if (thread == 0)
        t->threads = threads;
}

Test(pool, each_thread_once_per_run)
{
    for (uint32_t threads = 1; threads <= THREADS_MAX; threads++) {
        struct hth_pool *p = start(threads);
        struct tally t = {{0}, 0};

        for (uint32_t run = 1; run <= 500; run++) {
            hth_pool_run(p, count_call, &t);
            for (uint32_t i = 0; i < threads; i++)
                cr_assert_eq(t.calls[i], run);
        }
        cr_assert_eq(t.threads, threads);
        hth_pool_stop(p);
    }
}

Test(pool, null_is_one_thread)
{
    struct tally t = {{0}, 0};

    cr_assert_eq(hth_pool_threads(NULL), 1u);
    hth_pool_run(NULL, count_call, &t);
    hth_pool_barrier(NULL);
    cr_assert_eq(t.calls[0], 1u);
    cr_assert_eq(t.threads, 1u);
    hth_pool_stop(NULL);
}

/* After a pause longer than any spinning, the sleepers are woken. */
Test(pool, wakes_sleepers)
{
    struct hth_pool *p = start(3);
    struct tally t = {{0}, 0};

    for (uint32_t run = 1; run <= 10; run++) {
        hth_sleep_ms(5);
        hth_pool_run(p, count_call, &t);
        cr_assert_eq(t.calls[1], run);
        cr_assert_eq(t.calls[2], run);
    }
    hth_pool_stop(p);
}

#define ROUNDS 200u

struct relay {
    struct hth_pool *pool;
    uint32_t cell[THREADS_MAX];
    atomic_uint wrong;
};

/* Each thread adds up what all wrote in the round before: only right when no
 * thread is a barrier ahead or behind. */
static void relay_run(void *ctx, uint32_t thread, uint32_t threads)
{
    struct relay *r = ctx;

    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t sum = 0;

        r->cell[thread] = round * (thread + 1);
        hth_pool_barrier(r->pool);
        for (uint32_t i = 0; i < threads; i++)
            sum += r->cell[i];
        if (sum != round * threads * (threads + 1) / 2)
            atomic_fetch_add(&r->wrong, 1);
        if (thread == round % threads && round % 50 == 0)
            hth_sleep_ms(1); /* the others must sleep on the barrier */
        hth_pool_barrier(r->pool);
    }
}

Test(pool, barriers_separate_rounds)
{
    for (uint32_t threads = 1; threads <= THREADS_MAX; threads++) {
        struct relay r = {.pool = start(threads)};

        for (int run = 0; run < 3; run++)
            hth_pool_run(r.pool, relay_run, &r);
        cr_assert_eq(atomic_load(&r.wrong), 0u, "%u threads", threads);
        hth_pool_stop(r.pool);
    }
}

Test(pool, starts_and_stops_often)
{
    for (uint32_t i = 0; i < 200; i++) {
        struct hth_pool *p = start(i % 4 + 1);
        struct tally t = {{0}, 0};

        if (i % 3 != 0)
            hth_pool_run(p, count_call, &t);
        hth_pool_stop(p);
    }
}

Test(pool, refuses_silly_counts)
{
    struct hth_pool *p = NULL;
    struct hth_err err = {0};

    cr_assert_eq(hth_pool_start(&p, 0, false, &err), HTH_EINVAL);
    cr_assert_eq(hth_pool_start(&p, HTH_THREADS_MAX + 1, false, &err),
                 HTH_EINVAL);
    cr_assert_neq(strstr(err.text, "257"), NULL);
    cr_assert_eq(p, NULL);
}

Test(pool, split_covers_everything_once)
{
    for (uint64_t n = 0; n <= 200; n += 7) {
        for (uint64_t unit = 1; unit <= 64; unit = unit * 2 + 1) {
            for (uint32_t threads = 1; threads <= 9; threads++) {
                uint64_t next = 0;

                for (uint32_t t = 0; t < threads; t++) {
                    uint64_t first, count;

                    hth_split(n, unit, t, threads, &first, &count);
                    cr_assert_eq(first, next);
                    cr_assert(t + 1 == threads || count % unit == 0);
                    cr_assert_leq(count,
                                  (n / unit / threads + 1) * unit + unit - 1);
                    next = first + count;
                }
                cr_assert_eq(next, n);
            }
        }
    }
}
