/* read_bench.c - what a disk gives to reads of 1 MiB around the page cache: a
 * pool of threads with pread, against io_uring (raw system calls) from one
 * thread, with as many reads in flight; with and without the checksum that the
 * loader makes of every chunk.
 *
 *   read_bench FILE [MIB]
 *
 * Ways take turns over rounds; printed are the median rate and the processor
 * time per GB read. Where a sandbox has no io_uring, that is said. */
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/checksum.h"
#include "base/clock.h"

#define CHUNK (1u << 20)
#define FLIGHT_MAX 16u
#define ROUNDS 5u

static int g_fd;
static uint32_t g_chunks;
static bool g_sum;
static uint8_t *g_room[FLIGHT_MAX];
static atomic_uint g_next, g_sums;

static void done(const uint8_t *data)
{
    if (g_sum)
        atomic_fetch_xor(&g_sums, hth_checksum(data, CHUNK));
}

static void die(const char *what)
{
    fprintf(stderr, "read_bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- threads ------------------------------------------------------------- */

static void *reader(void *arg)
{
    uint8_t *to = arg;
    uint32_t i;

    while ((i = atomic_fetch_add(&g_next, 1)) < g_chunks) {
        if (pread(g_fd, to, CHUNK, (off_t)i * CHUNK) != CHUNK)
            die("pread");
        done(to);
    }
    return NULL;
}

static void with_threads(uint32_t n)
{
    pthread_t t[FLIGHT_MAX];

    for (uint32_t i = 0; i < n; i++)
        if (pthread_create(&t[i], NULL, reader, g_room[i]) != 0)
            die("thread");
    for (uint32_t i = 0; i < n; i++)
        pthread_join(t[i], NULL);
}

/* ---- io_uring ------------------------------------------------------------ */

struct uring {
    int fd;
    uint8_t *sq, *cq;
    struct io_uring_sqe *sqe;
    struct io_uring_params p;
};

static bool uring_open(struct uring *u)
{
    memset(u, 0, sizeof *u);
    u->fd = (int)syscall(__NR_io_uring_setup, FLIGHT_MAX, &u->p);
    if (u->fd < 0)
        return false;
    u->sq = mmap(NULL, u->p.sq_off.array + u->p.sq_entries * 4,
                 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, u->fd,
                 IORING_OFF_SQ_RING);
    u->cq = mmap(NULL, u->p.cq_off.cqes + u->p.cq_entries * 16,
                 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, u->fd,
                 IORING_OFF_CQ_RING);
    u->sqe =
        mmap(NULL, u->p.sq_entries * sizeof *u->sqe, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_POPULATE, u->fd, IORING_OFF_SQES);
    return u->sq != MAP_FAILED && u->cq != MAP_FAILED && u->sqe != MAP_FAILED;
}

static _Atomic uint32_t *word(uint8_t *ring, uint32_t at)
{
    return (_Atomic uint32_t *)(void *)(ring + at);
}

static void put(struct uring *u, uint32_t slot, uint32_t chunk)
{
    uint32_t tail = atomic_load(word(u->sq, u->p.sq_off.tail));
    uint32_t at = tail & (u->p.sq_entries - 1);

    u->sqe[at] = (struct io_uring_sqe){.opcode = IORING_OP_READ,
                                       .fd = g_fd,
                                       .addr = (uintptr_t)g_room[slot],
                                       .len = CHUNK,
                                       .off = (uint64_t)chunk * CHUNK,
                                       .user_data = slot};
    atomic_store(word(u->sq, u->p.sq_off.array + 4 * at), at);
    atomic_store(word(u->sq, u->p.sq_off.tail), tail + 1);
}

static void with_uring(uint32_t n)
{
    struct uring u;
    uint32_t next = 0, seen = 0, fresh = 0;

    if (!uring_open(&u))
        die("io_uring");
    for (; next < n && next < g_chunks; next++, fresh++)
        put(&u, next, next);
    while (seen < g_chunks) {
        uint32_t head = atomic_load(word(u.cq, u.p.cq_off.head));

        if (syscall(__NR_io_uring_enter, u.fd, fresh, 1, IORING_ENTER_GETEVENTS,
                    NULL, 0) < 0)
            die("io_uring_enter");
        fresh = 0;
        for (; head != atomic_load(word(u.cq, u.p.cq_off.tail)); head++) {
            const struct io_uring_cqe *c =
                (const void *)(u.cq + u.p.cq_off.cqes +
                               (head & (u.p.cq_entries - 1)) * sizeof *c);

            if (c->res != (int)CHUNK)
                die("a read by io_uring");
            done(g_room[c->user_data]);
            seen++;
            if (next < g_chunks) {
                put(&u, (uint32_t)c->user_data, next++);
                fresh++;
            }
        }
        atomic_store(word(u.cq, u.p.cq_off.head), head);
    }
    close(u.fd);
}

/* ---- all ----------------------------------------------------------------- */

static double cpu_s(void)
{
    struct rusage r;

    getrusage(RUSAGE_SELF, &r);
    return (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) +
           (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1e-6;
}

struct way {
    const char *name;
    void (*run)(uint32_t n);
    uint32_t n;
    double rate[ROUNDS], cpu;
};

static void run(struct way *w, uint32_t round)
{
    double cpu = cpu_s(), bytes = (double)g_chunks * CHUNK;
    uint64_t t0 = hth_now_ns();

    atomic_store(&g_next, 0);
    w->run(w->n);
    w->rate[round] = bytes / ((double)(hth_now_ns() - t0) * 1e-9);
    w->cpu += (cpu_s() - cpu) / (bytes * 1e-9) / ROUNDS;
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

int main(int argc, char **argv)
{
    static struct way ways[] = {{"threads", with_threads, 1, {0}, 0},
                                {"threads", with_threads, 2, {0}, 0},
                                {"threads", with_threads, 4, {0}, 0},
                                {"threads", with_threads, 8, {0}, 0},
                                {"io_uring", with_uring, 1, {0}, 0},
                                {"io_uring", with_uring, 4, {0}, 0},
                                {"io_uring", with_uring, 8, {0}, 0},
                                {"io_uring", with_uring, 16, {0}, 0}};
    uint32_t count = sizeof ways / sizeof ways[0];
    struct uring probe;
    struct stat st;

    if (argc < 2 || (g_fd = open(argv[1], O_RDONLY | O_DIRECT)) < 0)
        die("usage: read_bench FILE [MIB]");
    if (fstat(g_fd, &st) != 0)
        die(argv[1]);
    g_chunks = argc > 2 ? (uint32_t)atoi(argv[2]) : 512;
    if (g_chunks > st.st_size / CHUNK)
        g_chunks = (uint32_t)(st.st_size / CHUNK);
    for (uint32_t i = 0; i < FLIGHT_MAX; i++)
        if ((g_room[i] = aligned_alloc(4096, CHUNK)) == NULL)
            die("memory");
    if (!uring_open(&probe)) {
        printf("io_uring: %s here, threads only\n", strerror(errno));
        count = 4;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("| way | in flight | checksum | MB/s | cpu s per GB |\n"
           "|---|---|---|---|---|\n");
    for (int sum = 0; sum < 2; sum++) {
        g_sum = sum;
        for (uint32_t r = 0; r < ROUNDS; r++)
            for (uint32_t i = 0; i < count; i++)
                run(&ways[i], r);
        for (uint32_t i = 0; i < count; i++) {
            qsort(ways[i].rate, ROUNDS, sizeof ways[i].rate[0], by_size);
            printf("| %s | %u | %s | %.0f | %.3f |\n", ways[i].name, ways[i].n,
                   sum ? "yes" : "no", ways[i].rate[ROUNDS / 2] * 1e-6,
                   ways[i].cpu);
            ways[i].cpu = 0;
        }
    }
    return 0;
}
