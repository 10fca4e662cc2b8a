/* deal_bench.c - what dealing (deal.h) gains beside a busy neighbour, and what
 * it costs without one.
 *   deal_bench [THREADS [TILE_US]]
 * A step is 80 products of 32 tiles, as a token of a small model. The second
 * thread's CPU is shared with a loop that never rests, or not. Each line: the
 * median of 40 steps after 10, and over these the slowest thread's time over
 * the mean. A thread's time is from the product's begin to the end of its last
 * tile, whether it had a CPU or not; one that took no tile of a product was
 * waited for by nobody and is not in that product's mean. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/limits.h"
#include "kernels/pool.h"

enum { PRODUCTS = 80, TILES = 32, WARM = 10, STEPS = 40, ROUNDS = 3 };

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
    struct hth_deal *deal; /* NULL: an equal split */
    uint64_t begin_ns;
    uint64_t end_ns[HTH_THREADS_MAX][8]; /* a line each; 0: no tile */
    double most_ns, mean_ns;             /* summed over products */
};

static void equal_split(void *ctx, uint32_t thread, uint32_t threads)
{
    struct product *p = ctx;
    uint64_t first, count;

    hth_split(TILES, 1, thread, threads, &first, &count);
    for (uint64_t i = 0; i < count; i++)
        compute(g_spins);
    p->end_ns[thread][0] = hth_now_ns();
}

static void dealt(void *ctx, uint32_t thread, uint32_t threads)
{
    struct product *p = ctx;
    uint32_t tile;
    bool any = false;

    (void)threads;
    for (; hth_deal_take(p->deal, thread, &tile); any = true)
        compute(g_spins);
    if (any)
        p->end_ns[thread][0] = hth_now_ns();
}

static void add_times(struct product *p, uint32_t threads)
{
    double most = 0, sum = 0, there = 0;

    for (uint32_t t = 0; t < threads; t++) {
        double ns = (double)(p->end_ns[t][0] - p->begin_ns);

        if (p->end_ns[t][0] == 0)
            continue;
        most = ns > most ? ns : most;
        sum += ns;
        there += 1;
    }
    p->most_ns += most;
    p->mean_ns += sum / there;
}

static void step(struct hth_pool *pool, struct product *p)
{
    for (int i = 0; i < PRODUCTS; i++) {
        for (uint32_t t = 0; t < hth_pool_threads(pool); t++)
            p->end_ns[t][0] = 0;
        p->begin_ns = hth_now_ns();
        if (p->deal == NULL) {
            hth_pool_run(pool, equal_split, p);
        } else {
            hth_deal_begin(p->deal, HTH_DEAL_DECODE, TILES, 1);
            hth_pool_run_any(pool, dealt, p);
            hth_deal_end(p->deal);
        }
        add_times(p, hth_pool_threads(pool));
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
    double ms[STEPS];

    p = (struct product){.deal = deal};
    for (int s = -WARM; s < STEPS; s++) {
        uint64_t t0 = hth_now_ns();

        if (s == 0)
            p.most_ns = p.mean_ns = 0;
        step(pool, &p);
        if (s >= 0)
            ms[s] = (double)(hth_now_ns() - t0) / 1e6;
    }
    qsort(ms, STEPS, sizeof *ms, ascending);
    printf("  %-12s %7.2f ms a step [%.2f to %.2f], slowest/mean %.2f", what,
           ms[STEPS / 2], ms[0], ms[STEPS - 1], p.most_ns / p.mean_ns);
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
