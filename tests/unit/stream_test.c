/* stream_test.c - when a step waits for weights: not for what comes later, not
 * where the plan says that reads hide behind compute, and else as long as they
 * take. Waits are counted; how long anything takes is never asserted. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"
#include "loader_rig.h"

TestSuite(stream, .init = loader_rig_init, .fini = loader_rig_fini,
          .timeout = 120);

/* ---- a cold start -------------------------------------------------------- */

/* A source that keeps everything behind the first block back until the first
 * piece was computed. */
struct gate {
    struct hth_weight_source from;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool open;
};

static int gated_read(void *ctx, uint32_t index, const struct hth_block *b,
                      void *dst, struct hth_err *err)
{
    struct gate *g = ctx;

    pthread_mutex_lock(&g->lock);
    while (index > 0 && !g->open)
        pthread_cond_wait(&g->changed, &g->lock);
    pthread_mutex_unlock(&g->lock);
    return g->from.read(g->from.ctx, index, b, dst, err);
}

/* Whoever loads everything and then runs never gets past the gate. */
static void check_cold_start(uint64_t budget)
{
    struct hth_loader_opts o = made_opts(&g_made, g_folder.dir, budget);
    struct gate g = {.from = o.source,
                     .lock = PTHREAD_MUTEX_INITIALIZER,
                     .changed = PTHREAD_COND_INITIALIZER};
    struct hth_loader *l;

    o.source = (struct hth_weight_source){&g, gated_read};
    l = open_loader_with(&o);
    made_check(&g_made, l, 0);
    cr_assert_eq(atomic_load(&g_made.reads), 1u, "only the first is there");
    pthread_mutex_lock(&g.lock);
    g.open = true;
    pthread_cond_broadcast(&g.changed);
    pthread_mutex_unlock(&g.lock);
    for (uint32_t i = 1; i < g_made.pieces; i++)
        made_check(&g_made, l, i);
    hth_loader_close(l);
}

Test(stream, first_piece_computes_while_others_load)
{
    check_cold_start(0);
}

Test(stream, first_piece_computes_while_others_load_in_little)
{
    check_cold_start(made_bytes(&g_made) / 2);
}

/* ---- waiting ------------------------------------------------------------- */

struct slow {
    unsigned read_ms; /* of each chunk */
};

static ssize_t slow_pread(void *ctx, int fd, void *dst, size_t n, off_t at)
{
    const struct slow *s = ctx;

    if (s->read_ms > 0)
        hth_sleep_ms(s->read_ms);
    return pread(fd, dst, n, at);
}

/* A token whose pieces take so long each; returns its compute time. */
static double run_token(struct hth_loader *l, unsigned piece_ms)
{
    const struct hth_blocks *b = hth_loader_blocks(l);
    uint64_t compute_ns = 0;
    struct hth_err err = {0};
    const void *data;

    for (uint32_t i = 0; i < g_made.pieces; i++) {
        uint64_t t0;

        cr_assert_eq(b->acquire(b->ctx, i, &data, &err), 0, "%s", err.text);
        t0 = hth_now_ns();
        if (piece_ms > 0)
            hth_sleep_ms(piece_ms);
        compute_ns += hth_now_ns() - t0;
        b->release(b->ctx, i);
    }
    return (double)compute_ns * 1e-9;
}

static struct hth_loader *open_slow(struct slow *s, struct hth_packed_io *io)
{
    struct hth_loader_opts o =
        made_opts(&g_made, g_folder.dir, made_bytes(&g_made) / 2);
    struct hth_loader *l;

    *io = (struct hth_packed_io){slow_pread, s};
    o.io = io;
    l = open_loader_with(&o);
    for (uint32_t i = 0; i < 6; i++) /* files are made, the rate is known */
        (void)run_token(l, 0);
    return l;
}

/* Compute that is longer than the reads of any stretch: with times as they are
 * measured the plan says that nothing waits, and nothing does. Another program
 * may have the processor, so one token of some has to show it. */
Test(stream, no_stall_where_the_plan_says_so)
{
    struct slow s = {0};
    struct hth_packed_io io;
    struct hth_loader *l = open_slow(&s, &io);
    uint64_t best = UINT64_MAX;

    for (uint32_t i = 0; i < 8 && best > 0; i++) {
        uint64_t before = stats_of(l).stalls;
        double compute_s = run_token(l, 20);

        hth_loader_measured(l, compute_s);
        if (i == 0 || stats_of(l).window.stall_s > 0)
            continue;
        before = stats_of(l).stalls - before;
        best = before < best ? before : best;
    }
    cr_assert_gt(stats_of(l).window.streamed_bytes, 0u);
    cr_assert_eq(best, 0u, "it always waited, or no plan was without waits");
    hth_loader_close(l);
}

/* Reads that take longer than compute: the plan says so, and it is so. */
Test(stream, stalls_where_the_plan_says_so)
{
    struct slow s = {.read_ms = 5};
    struct hth_packed_io io;
    struct hth_loader *l = open_slow(&s, &io);
    uint64_t before = stats_of(l).stall_ns;

    hth_loader_measured(l, run_token(l, 0) + 1e-6);
    cr_assert_gt(stats_of(l).window.stall_s, 0);
    cr_assert_eq(stats_of(l).window.bound, HTH_BOUND_DISK);
    cr_assert_gt(stats_of(l).stall_ns, before);
    hth_loader_close(l);
}
