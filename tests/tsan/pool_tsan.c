/* pool_tsan.c - the pool under ThreadSanitizer. A plain main, because
 * Criterion and TSan cannot run together; returns 0 when results are right,
 * and TSan itself makes the exit status 66 on a race. Every memory access
 * below is plain: the pool alone has to order them. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/isa.h"
#include "kernels/pool.h"

#define THREADS 4u
#define RUNS 2000u
#define TILES 20u

struct work {
    struct hth_pool *pool;
    uint64_t cell[THREADS];
    uint64_t total[THREADS];
};

static void add_all(void *ctx, uint32_t thread, uint32_t threads)
{
    struct work *w = ctx;

    w->cell[thread]++;
    hth_pool_barrier(w->pool);
    for (uint32_t i = 0; i < threads; i++)
        w->total[thread] += w->cell[i];
    hth_pool_barrier(w->pool);
}

static int check_runs(void)
{
    struct work w = {0};
    uint64_t want = 0;

    if (hth_pool_start(&w.pool, THREADS, false, NULL) != HTH_OK)
        return 1;
    for (uint64_t run = 1; run <= RUNS; run++) {
        if (run % 500 == 0)
            hth_sleep_ms(2); /* let them fall asleep */
        hth_pool_run(w.pool, add_all, &w);
        want += THREADS * run;
        for (uint32_t i = 0; i < THREADS; i++)
            if (w.total[i] != want)
                return 1;
    }
    hth_pool_stop(w.pool);
    return 0;
}

/* Products: quantised together, then tiles from a shared counter. */
static int check_product(void)
{
    static uint8_t weights[256 * 18 * 16];
    static float x[32 * 512], y[32 * 256], first[32 * 256];
    struct hth_mat w = {HTH_Q4_0, 256, 512, 18 * 16, weights, false};
    float *out = y;
    size_t ldy = 256;
    struct hth_matmul_job job = {&w, &out, &ldy, 1, x, 512, 32, NULL};
    struct hth_pool *pool;

    for (size_t i = 0; i < sizeof weights; i++)
        weights[i] = (uint8_t)(i % 18 == 1 ? 0x30 : i * 37);
    for (size_t i = 0; i < 32 * 512; i++)
        x[i] = (float)(i % 97) - 48.0f;
    job.scratch = hth_mem_alloc(hth_matmul_scratch_bytes(32, 512, THREADS));
    if (job.scratch == NULL || hth_isa_init(NULL) != HTH_OK ||
        hth_pool_start(&pool, THREADS, false, NULL) != HTH_OK)
        return 1;
    hth_matmul(NULL, &job);
    memcpy(first, y, sizeof y);
    for (int run = 0; run < 50; run++) {
        memset(y, 0, sizeof y);
        hth_matmul(pool, &job);
        if (memcmp(first, y, sizeof y) != 0)
            return 1;
    }
    hth_pool_stop(pool);
    hth_mem_free(job.scratch);
    return 0;
}

struct dealt {
    struct hth_deal *deal;
    uint64_t by[TILES];
};

static void take_all(void *ctx, uint32_t thread, uint32_t threads)
{
    struct dealt *d = ctx;
    uint32_t tile;

    (void)threads;
    while (hth_deal_take(d->deal, thread, &tile))
        d->by[tile]++;
}

/* Runs that leave late threads out: what each did is visible to the caller, and
 * the next deal begins with nobody left in the last. */
static int check_deals(void)
{
    static struct dealt d;
    struct hth_pool *pool;

    if (hth_pool_start(&pool, THREADS, false, NULL) != HTH_OK)
        return 1;
    d.deal = hth_pool_deal(pool);
    for (uint64_t run = 1; run <= RUNS; run++) {
        if (run % 500 == 0)
            hth_sleep_ms(2);
        hth_deal_begin(d.deal, HTH_DEAL_DECODE, TILES, 1);
        hth_pool_run_any(pool, take_all, &d);
        hth_deal_end(d.deal);
        for (uint32_t i = 0; i < TILES; i++)
            if (d.by[i] != run)
                return 1;
    }
    hth_pool_stop(pool);
    return 0;
}

int main(void)
{
    int bad = check_runs() + check_product() + check_deals();

    printf("pool under TSan: %s\n", bad == 0 ? "ok" : "WRONG RESULTS");
    return bad == 0 ? 0 : 1;
}
