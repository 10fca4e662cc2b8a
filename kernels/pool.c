/* pool.c - compute threads that wait by spinning for a bounded time, then
 * sleep on a futex.
 *
 * Three gates carry all waiting: `start` (a new run), `done` (all workers
 * finished it), `meet` (the barrier). A gate is a counter: a waiter passes as
 * soon as it differs from the value read before. Opening a gate costs a system
 * call only when somebody sleeps on it.
 *
 * Spinning is right while each thread has a CPU of its own and harmful
 * otherwise: the spinner holds the CPU that the awaited thread needs. So only
 * the first microseconds are pure spinning; after that every look at the gate
 * is followed by sched_yield(), which returns at once on an idle CPU and hands
 * a shared one over. (Measured: docs/kernels.md.)
 *
 * Fails only in start: no memory, no thread. */
#include "kernels/pool.h"

#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/mem.h"

#define SPIN_PURE_NS_MAX 5000u
#define SPIN_NS_MAX 200000u /* longer than a wired all-reduce */
#define SPIN_STEPS 32u      /* pauses between two looks at the clock */

struct gate {
    _Alignas(HTH_MEM_ALIGN) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
};

struct worker {
    struct hth_pool *pool;
    pthread_t id;
    uint32_t thread;        /* index in the pool, from 1 */
    uint32_t moved_run;     /* when it last moved to another CPU */
    _Atomic uint64_t entry; /* run number and whether it is in, see enter() */
    _Atomic int32_t cpu;    /* where it ran last */
};

struct hth_pool {
    struct gate start;
    struct gate done;
    struct gate meet;
    _Alignas(HTH_MEM_ALIGN) _Atomic uint32_t running; /* workers in a run */
    _Alignas(HTH_MEM_ALIGN) _Atomic uint32_t arrived; /* at the barrier */
    _Alignas(HTH_MEM_ALIGN) hth_pool_fn fn;           /* NULL: stop */
    void *ctx;
    uint32_t threads;
    uint32_t run;        /* number of the present or last run */
    _Atomic int32_t cpu; /* of thread 0, at the start of this run */
    bool pin;
    struct hth_deal *deal;   /* NULL: one thread */
    struct worker workers[]; /* [threads - 1] */
};

/* ---- gates ------------------------------------------------------------- */

static void futex(_Atomic uint32_t *word, int op, uint32_t value)
{
    /* EAGAIN, EINTR and a spurious wake all mean: look again. */
    (void)syscall(SYS_futex, (void *)word, op | FUTEX_PRIVATE_FLAG, value, NULL,
                  NULL, 0);
}

/* True when the gate opened while spinning. */
static bool gate_spin(const struct gate *g, uint32_t old)
{
    uint64_t begin = hth_now_ns(), spent_ns;

    do {
        for (uint32_t i = 0; i < SPIN_STEPS; i++) {
            if (atomic_load_explicit(&g->value, memory_order_acquire) != old)
                return true;
            hth_cpu_relax();
        }
        spent_ns = hth_now_ns() - begin;
        if (spent_ns > SPIN_PURE_NS_MAX)
            (void)sched_yield();
    } while (spent_ns < SPIN_NS_MAX);
    return false;
}

/* The sleeper announces itself before the kernel compares the value, the
 * opener changes the value before it looks for sleepers; both sequentially
 * consistent, so one of them sees the other. */
static void gate_wait(struct gate *g, uint32_t old)
{
    if (atomic_load_explicit(&g->value, memory_order_acquire) != old ||
        gate_spin(g, old))
        return;
    atomic_fetch_add(&g->sleepers, 1);
    while (atomic_load(&g->value) == old)
        futex(&g->value, FUTEX_WAIT, old);
    atomic_fetch_sub(&g->sleepers, 1);
}

static void gate_open(struct gate *g)
{
    atomic_fetch_add(&g->value, 1);
    if (atomic_load(&g->sleepers) != 0)
        futex(&g->value, FUTEX_WAKE, INT_MAX);
}

/* ---- threads ----------------------------------------------------------- */

/* Bind the calling thread to the index-th CPU of its mask. */
static void pin_to(uint32_t index)
{
    cpu_set_t all, one;

    if (sched_getaffinity(0, sizeof all, &all) != 0)
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all) || index-- != 0)
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        (void)sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

/* Runs between two moves of a thread: moving is two system calls, and a CPU
 * that another program wants is not worth fighting for. */
#define MOVE_RUNS_MIN 512u

static bool taken(struct hth_pool *p, int32_t cpu, uint32_t below)
{
    if (atomic_load_explicit(&p->cpu, memory_order_relaxed) == cpu)
        return true;
    for (uint32_t i = 1; i < below; i++)
        if (atomic_load_explicit(&p->workers[i - 1].cpu,
                                 memory_order_relaxed) == cpu)
            return true;
    return false;
}

/* Go to an allowed CPU that no thread of the pool is on, and be free again. */
static void move_away(struct worker *w)
{
    cpu_set_t all, one;

    if (sched_getaffinity(0, sizeof all, &all) != 0)
        return;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
        if (!CPU_ISSET(cpu, &all) || taken(w->pool, cpu, w->pool->threads))
            continue;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        if (sched_setaffinity(0, sizeof one, &one) == 0)
            (void)sched_setaffinity(0, sizeof all, &all);
        return;
    }
}

/* Two threads of a pool on one CPU hand it to each other so often that Linux
 * takes both for cache-hot and never moves one away (seen: two threads at the
 * speed of one for minutes, the second CPU idle). So each run looks, which
 * costs no system call, and the higher thread leaves. */
static void spread(struct worker *w, uint32_t run)
{
    int32_t cpu = sched_getcpu();

    atomic_store_explicit(&w->cpu, cpu, memory_order_relaxed);
    if (cpu < 0 || run - w->moved_run < MOVE_RUNS_MIN ||
        !taken(w->pool, cpu, w->thread))
        return;
    w->moved_run = run;
    move_away(w);
}

/* A worker's entry is 2 k while run k may be entered, and 2 k + 1 once it was
 * or may no more. A worker that is late finds a later run's number there, and
 * passes through the runs it missed. What the caller wrote before it opened
 * the entry is visible inside. */
static bool enter(struct worker *w, uint32_t run)
{
    uint64_t open = 2 * (uint64_t)run;

    return atomic_compare_exchange_strong(&w->entry, &open, open + 1);
}

/* The gates count from zero and the pool is new, so run number k is the one
 * that moves `start` from k to k + 1. */
static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct hth_pool *p = w->pool;

    if (p->pin)
        pin_to(w->thread);
    for (uint32_t seen = 0;; seen++) {
        gate_wait(&p->start, seen);
        if (!enter(w, seen))
            continue;
        if (p->fn == NULL)
            return NULL;
        if (!p->pin)
            spread(w, seen);
        p->fn(p->ctx, w->thread, p->threads);
        if (atomic_fetch_sub(&p->running, 1) == 1)
            gate_open(&p->done);
        hth_deal_rest(p->deal, w->thread);
    }
}

/* p->fn and p->ctx are set. */
static void open_run(struct hth_pool *p)
{
    for (uint32_t i = 0; i + 1 < p->threads; i++)
        atomic_store(&p->workers[i].entry, 2 * (uint64_t)p->run);
    p->run++;
    gate_open(&p->start);
}

/* Tell `count` started workers to end, and wait until they have. */
static void join_workers(struct hth_pool *p, uint32_t count)
{
    p->fn = NULL;
    open_run(p);
    for (uint32_t i = 0; i < count; i++)
        (void)pthread_join(p->workers[i].id, NULL);
}

/* Signals go to the program's own threads, not to the compute threads. */
static int spawn_workers(struct hth_pool *p, struct hth_err *err)
{
    sigset_t all, old;
    int rc = 0;
    uint32_t i;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    for (i = 0; i + 1 < p->threads; i++) {
        p->workers[i].pool = p;
        p->workers[i].thread = i + 1;
        p->workers[i].moved_run = 0u - MOVE_RUNS_MIN;
        atomic_store(&p->workers[i].cpu, -1);
        rc = pthread_create(&p->workers[i].id, NULL, worker_main,
                            &p->workers[i]);
        if (rc != 0)
            break;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0)
        return HTH_OK;
    join_workers(p, i);
    return hth_fail(err, HTH_ENOMEM,
                    "cannot start compute thread %u of %u: %s; use fewer "
                    "threads",
                    i + 2, p->threads, strerror(rc));
}

int hth_pool_start(struct hth_pool **out, uint32_t threads, bool pin,
                   struct hth_err *err)
{
    struct hth_pool *p;
    int rc;

    if (threads < 1 || threads > HTH_THREADS_MAX)
        return hth_fail(err, HTH_EINVAL,
                        "%u compute threads asked for; give 1 to %u", threads,
                        HTH_THREADS_MAX);
    p = hth_mem_alloc(sizeof *p + (threads - 1) * sizeof p->workers[0]);
    if (p == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a pool of %u threads",
                        threads);
    p->threads = threads;
    p->pin = pin;
    if (threads > 1 && (p->deal = hth_deal_open(threads)) == NULL) {
        hth_mem_free(p);
        return hth_fail(err, HTH_ENOMEM, "no memory for a pool of %u threads",
                        threads);
    }
    rc = spawn_workers(p, err);
    if (rc != HTH_OK) {
        hth_deal_close(p->deal);
        hth_mem_free(p);
        return rc;
    }
    *out = p;
    return HTH_OK;
}

void hth_pool_stop(struct hth_pool *p)
{
    if (p == NULL)
        return;
    join_workers(p, p->threads - 1);
    hth_deal_close(p->deal);
    hth_mem_free(p);
}

uint32_t hth_pool_threads(const struct hth_pool *p)
{
    return p == NULL ? 1 : p->threads;
}

/* ---- runs -------------------------------------------------------------- */

/* Close the run to those who have not come; how many they are. */
static uint32_t shut_out(struct hth_pool *p)
{
    uint32_t out = 0;

    for (uint32_t i = 0; i + 1 < p->threads; i++)
        out += enter(&p->workers[i], p->run - 1);
    return out;
}

static void run(struct hth_pool *p, hth_pool_fn fn, void *ctx, bool any)
{
    uint32_t before, out;

    if (p == NULL || p->threads == 1) {
        fn(ctx, 0, 1);
        return;
    }
    p->fn = fn;
    p->ctx = ctx;
    atomic_store_explicit(&p->cpu, sched_getcpu(), memory_order_relaxed);
    before = atomic_load_explicit(&p->done.value, memory_order_relaxed);
    atomic_store_explicit(&p->running, p->threads - 1, memory_order_relaxed);
    open_run(p);
    fn(ctx, 0, p->threads);
    out = any ? shut_out(p) : 0;
    if (out == 0 || atomic_fetch_sub(&p->running, out) != out)
        gate_wait(&p->done, before);
}

void hth_pool_run(struct hth_pool *p, hth_pool_fn fn, void *ctx)
{
    run(p, fn, ctx, false);
}

void hth_pool_run_any(struct hth_pool *p, hth_pool_fn fn, void *ctx)
{
    run(p, fn, ctx, true);
}

struct guess {
    struct hth_pool *pool;
    const uint32_t *of_cpu;
    uint32_t count;
    uint32_t speed[HTH_THREADS_MAX];
};

/* At the barrier each thread has a CPU of its own, if there are enough. */
static void look_where(void *ctx, uint32_t thread, uint32_t threads)
{
    struct guess *g = ctx;
    int cpu;

    (void)threads;
    hth_pool_barrier(g->pool);
    cpu = sched_getcpu();
    g->speed[thread] =
        cpu >= 0 && (uint32_t)cpu < g->count ? g->of_cpu[cpu] : 0;
}

void hth_pool_guess(struct hth_pool *p, const uint32_t *speed, uint32_t count)
{
    struct guess g = {.pool = p, .of_cpu = speed, .count = count};

    if (p == NULL || p->deal == NULL || count == 0)
        return;
    hth_pool_run(p, look_where, &g);
    hth_deal_guess(p->deal, g.speed);
}

struct hth_deal *hth_pool_deal(struct hth_pool *p)
{
    return p == NULL ? NULL : p->deal;
}

/* The last to arrive resets the count before it opens the gate, so that the
 * next barrier starts from zero; nobody can be there before the gate opens. */
void hth_pool_barrier(struct hth_pool *p)
{
    uint32_t before;

    if (p == NULL || p->threads == 1)
        return;
    before = atomic_load(&p->meet.value);
    if (atomic_fetch_add(&p->arrived, 1) + 1 == p->threads) {
        atomic_store(&p->arrived, 0);
        gate_open(&p->meet);
        return;
    }
    gate_wait(&p->meet, before);
}

/* Whole units are dealt as evenly as integers allow; what is left over below
 * one unit goes to the last thread. */
void hth_split(uint64_t n, uint64_t unit, uint32_t thread, uint32_t threads,
               uint64_t *first, uint64_t *count)
{
    uint64_t units = n / unit;
    uint64_t each = units / threads, extra = units % threads;
    uint64_t begin = each * thread + (thread < extra ? thread : extra);
    uint64_t end = begin + each + (thread < extra ? 1 : 0);

    *first = begin * unit;
    *count = (thread + 1 == threads ? n : end * unit) - *first;
}
