/* deal_bench.c - what dealing (deal.h) gains beside a busy neighbour, and what
 * it costs without one.
 *   deal_bench [THREADS [TILE_US]]
 * A step is 80 products of 32 tiles, as a token of a small model. The second
 * thread's CPU is shared with a loop that never rests, or not. Each line: the
 * median of 20 steps after 10, and over these the slowest thread's time at work
 * (waiting for a CPU included) over the mean of the threads. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "kernels/pool.h"

enum { PRODUCTS = 80, TILES = 32, WARM = 10, STEPS = 20, ROUNDS = 3 };

static uint64_t g_spins = 10000; /* of one tile */
static _Atomic bool g_stop;

static void compute(uint64_t spins)
{
    static _Atomic uint64_t sink;
    uint64_t x = 88172645463325252u;

    for (uint64_t i = 0; i < spins; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    atomic_store_explicit(&sink, x, memory_order_relaxed);
}

/* Make a tile last tile_us on an idle CPU. */
static void calibrate(uint64_t tile_us)
{
    uint64_t best = UINT64_MAX;

    for (int i = 0; i < 200; i++) {
        uint64_t t0 = hth_now_ns(), ns;

        compute(g_spins);
        ns = hth_now_ns() - t0;
        best = ns < best ? ns : best;
    }
    g_spins = g_spins * tile_us * 1000 / (best + 1) + 1;
}

struct product {
    struct hth_deal *deal;           /* NULL: an equal split */
    uint64_t ns[HTH_THREADS_MAX][8]; /* a line each; at work in this step */
};

static void equal_split(void *ctx, uint32_t thread, uint32_t threads)
{
    struct product *p = ctx;
    uint64_t first, count, t0 = hth_now_ns();

    hth_split(TILES, 1, thread, threads, &first, &count);
    for (uint64_t i = 0; i < count; i++)
        compute(g_spins);
    p->ns[thread][0] += hth_now_ns() - t0;
}

static void dealt(void *ctx, uint32_t thread, uint32_t threads)
{
    struct product *p = ctx;
    uint64_t t0 = hth_now_ns();
    uint32_t tile;

    (void)threads;
    while (hth_deal_take(p->deal, thread, &tile))
        compute(g_spins);
    p->ns[thread][0] += hth_now_ns() - t0;
}

static void step(struct hth_pool *pool, struct product *p)
{
    for (int i = 0; i < PRODUCTS; i++) {
        if (p->deal == NULL) {
            hth_pool_run(pool, equal_split, p);
            continue;
        }
        hth_deal_begin(p->deal, HTH_DEAL_DECODE, TILES);
        hth_pool_run_any(pool, dealt, p);
        hth_deal_end(p->deal);
    }
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure(struct hth_pool *pool, struct hth_deal *deal,
                    const char *what)
{
    static struct product p;
    uint32_t threads = hth_pool_threads(pool);
    double ms[STEPS], most = 0, sum = 0;

    p = (struct product){.deal = deal};
    for (int s = -WARM; s < STEPS; s++) {
        uint64_t t0 = hth_now_ns();

        if (s == 0)
            for (uint32_t t = 0; t < threads; t++)
                p.ns[t][0] = 0;
        step(pool, &p);
        if (s >= 0)
            ms[s] = (double)(hth_now_ns() - t0) / 1e6;
    }
    for (uint32_t t = 0; t < threads; t++) {
        most = (double)p.ns[t][0] > most ? (double)p.ns[t][0] : most;
        sum += (double)p.ns[t][0];
    }
    qsort(ms, STEPS, sizeof *ms, ascending);
    printf("  %-12s %7.2f ms a step [%.2f to %.2f], slowest/mean %.2f", what,
           ms[STEPS / 2], ms[0], ms[STEPS - 1], most / (sum / threads));
    if (deal != NULL)
        printf(", share of thread 1: %.2f",
               (double)hth_deal_share(deal, HTH_DEAL_DECODE, 1));
    putchar('\n');
}

static void bind_to(int cpu)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    (void)pthread_setaffinity_np(pthread_self(), sizeof one, &one);
}

static void *neighbour(void *ctx)
{
    bind_to(*(int *)ctx);
    while (!atomic_load_explicit(&g_stop, memory_order_relaxed))
        compute(1000);
    return NULL;
}

int main(int argc, char **argv)
{
    uint32_t threads = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 2;
    struct hth_pool *pool;
    struct hth_err err = {0};
    pthread_t busy;
    int second = 1; /* the CPU to which a pinned pool binds thread 1 */

    if (threads < 2 || hth_pool_start(&pool, threads, true, &err) != HTH_OK) {
        fprintf(stderr, "deal_bench: 2 threads or more; %s\n", err.text);
        return 1;
    }
    bind_to(0);
    calibrate(argc > 2 ? strtoull(argv[2], NULL, 10) : 15);
    for (int with = 0; with < 2; with++) {
        printf("%s\n", with ? "beside a busy neighbour" : "alone");
        atomic_store(&g_stop, false);
        if (with && pthread_create(&busy, NULL, neighbour, &second) != 0)
            return 1;
        for (int round = 0; round < ROUNDS; round++) {
            measure(pool, NULL, "equal split");
            measure(pool, hth_pool_deal(pool), "dealt");
        }
        atomic_store(&g_stop, true);
        if (with)
            pthread_join(busy, NULL);
    }
    hth_pool_stop(pool);
    return 0;
}
