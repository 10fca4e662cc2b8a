/* allreduce_bench.c - microseconds per all-reduce between processes on
 * loopback, next to a bare TCP round trip of the same bytes.
 *
 *   build/tools/allreduce_bench [numbers [calls [rounds]]]
 *
 * Ranks are processes, each pinned to a CPU of its own as far as there are
 * any. In every round each variant runs its calls, one variant after the
 * other, so that the machine's moods hit all alike; printed are the median
 * over rounds of the round's median call, with the rounds' extremes. "plain"
 * links do not seal: only this program and tests can make them. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernels/ops.h"
#include "net/link_internal.h"
#include "net/star.h"

#define RANKS_MAX 4u
#define ROUNDS_MAX 64u
#define CALLS_MAX 4096u

struct variant {
    const char *name;
    uint32_t ranks;
    uint32_t cipher; /* 0: plain */
    bool bare;       /* no star: write and read */
    enum hth_wire wire;
    double round_us[ROUNDS_MAX];
};

static struct variant variants[] = {
    {.name = "bare TCP round trip", .ranks = 2, .bare = true},
    {.name = "2 ranks f32 plain", .ranks = 2},
    {.name = "2 ranks f32 AES-128-GCM",
     .ranks = 2,
     .cipher = HTH_CIPHER_AES128_GCM},
    {.name = "2 ranks f32 ChaCha20", .ranks = 2, .cipher = HTH_CIPHER_CHACHA20},
    {.name = "2 ranks f16 AES-128-GCM",
     .ranks = 2,
     .cipher = HTH_CIPHER_AES128_GCM,
     .wire = HTH_WIRE_F16},
    {.name = "2 ranks q8 AES-128-GCM",
     .ranks = 2,
     .cipher = HTH_CIPHER_AES128_GCM,
     .wire = HTH_WIRE_Q8},
    {.name = "4 ranks f32 plain", .ranks = 4},
    {.name = "4 ranks f32 AES-128-GCM",
     .ranks = 4,
     .cipher = HTH_CIPHER_AES128_GCM},
};
#define VARIANTS (sizeof variants / sizeof variants[0])

static unsigned long numbers = 4096;
static unsigned long calls = 500;
static unsigned long rounds = 11;

static void die(const char *what)
{
    fprintf(stderr, "allreduce_bench: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void pin(uint32_t rank)
{
    cpu_set_t usable, mine;
    uint32_t nth = 0;

    if (sched_getaffinity(0, sizeof usable, &usable) != 0)
        return;
    CPU_ZERO(&mine);
    for (int c = 0; c < CPU_SETSIZE; c++)
        if (CPU_ISSET(c, &usable) &&
            nth++ == rank % (uint32_t)CPU_COUNT(&usable))
            CPU_SET(c, &mine);
    (void)sched_setaffinity(0, sizeof mine, &mine);
}

/* A connected pair of TCP sockets over loopback. */
static void tcp_pair(int fd[2])
{
    struct sockaddr_in a = {.sin_family = AF_INET};
    socklen_t n = sizeof a;
    int one = 1;
    int l = socket(AF_INET, SOCK_STREAM, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (l < 0 || bind(l, (struct sockaddr *)&a, n) != 0 || listen(l, 1) != 0 ||
        getsockname(l, (struct sockaddr *)&a, &n) != 0)
        die("listen");
    fd[0] = socket(AF_INET, SOCK_STREAM, 0);
    if (fd[0] < 0 || connect(fd[0], (struct sockaddr *)&a, n) != 0)
        die("connect");
    fd[1] = accept(l, NULL, NULL);
    if (fd[1] < 0)
        die("accept");
    close(l);
    for (int i = 0; i < 2; i++)
        setsockopt(fd[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* ---- bare ---------------------------------------------------------------- */

static void put(int fd, const uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t w = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (w < 0 && errno != EAGAIN)
            die("send");
        p += w > 0 ? w : 0;
        n -= w > 0 ? (size_t)w : 0;
    }
}

static void get(int fd, uint8_t *p, size_t n)
{
    while (n > 0) {
        ssize_t r = recv(fd, p, n, MSG_DONTWAIT);

        if (r == 0 || (r < 0 && errno != EAGAIN))
            die("recv");
        p += r > 0 ? r : 0;
        n -= r > 0 ? (size_t)r : 0;
        if (r < 0)
            hth_cpu_relax();
    }
}

static void bare_call(int fd, bool first, uint8_t *buf, size_t n)
{
    if (first)
        put(fd, buf, n);
    get(fd, buf, n);
    if (!first)
        put(fd, buf, n);
}

/* ---- one rank ------------------------------------------------------------ */

struct rank {
    const struct variant *v;
    uint32_t rank;
    int fd[RANKS_MAX]; /* rank 0: one per other rank; else [0] */
    struct hth_link *link[RANKS_MAX];
    struct hth_star *star;
    float *x;
};

static struct hth_link *make_link(int fd, uint32_t cipher, bool root)
{
    struct hth__link_start s = {.fd = fd, .cipher = cipher};
    struct hth_link *l;

    s.send_key.key[0] = root;
    s.recv_key.key[0] = !root;
    if (hth__link_create(&l, &s, NULL) != HTH_OK)
        die("link");
    return l;
}

static void rank_open(struct rank *r)
{
    uint32_t links = r->rank == 0 ? r->v->ranks - 1 : 1;
    struct hth_star_opts o = {.rank = r->rank,
                              .ranks = r->v->ranks,
                              .links = r->link,
                              .timeout_ms = 10000};

    r->x = calloc(numbers, sizeof *r->x);
    if (r->x == NULL)
        die("memory");
    if (r->v->bare)
        return;
    for (uint32_t i = 0; i < links; i++)
        r->link[i] = make_link(r->fd[i], r->v->cipher, r->rank == 0);
    if (hth_star_open(&r->star, &o, NULL) != HTH_OK)
        die("star");
}

static void rank_call(struct rank *r)
{
    if (r->v->bare) {
        bare_call(r->fd[0], r->rank != 0, (uint8_t *)r->x, numbers * 4);
    } else if (hth_star_all_reduce(r->star, r->x, numbers, r->v->wire) !=
               HTH_OK) {
        fprintf(stderr, "%s\n", hth_star_error(r->star)->text);
        exit(1);
    }
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* The median call of one round, as the last rank sees it: it starts the call
 * and ends with the sum. */
static double rank_round(struct rank *r)
{
    static double us[CALLS_MAX];

    for (uint32_t i = 0; i < calls; i++) {
        uint64_t start = hth_now_ns();

        rank_call(r);
        us[i] = (double)(hth_now_ns() - start) / 1000.0;
    }
    qsort(us, calls, sizeof us[0], by_value);
    return us[calls / 2];
}

/* ---- processes ----------------------------------------------------------- */

/* One round of one variant: fork the ranks, return the last one's median. */
static double run(const struct variant *v)
{
    int pair[RANKS_MAX][2];
    int result[2];
    double us = 0;

    if (pipe(result) != 0)
        die("pipe");
    for (uint32_t i = 0; i + 1 < v->ranks; i++)
        tcp_pair(pair[i]);
    for (uint32_t k = 0; k < v->ranks; k++) {
        struct rank r = {.v = v, .rank = k};

        if (fork() != 0)
            continue;
        pin(k);
        for (uint32_t i = 0; i + 1 < v->ranks; i++)
            r.fd[k == 0 ? i : 0] =
                k == 0 || i + 1 == k ? pair[i][k == 0 ? 0 : 1] : r.fd[0];
        rank_open(&r);
        for (uint32_t i = 0; i < calls / 10; i++)
            rank_call(&r);
        us = rank_round(&r);
        if (k + 1 == v->ranks && write(result[1], &us, sizeof us) < 0)
            die("write");
        _exit(0);
    }
    for (uint32_t i = 0; i + 1 < v->ranks; i++) {
        close(pair[i][0]);
        close(pair[i][1]);
    }
    close(result[1]);
    if (read(result[0], &us, sizeof us) != (ssize_t)sizeof us)
        die("a rank failed");
    close(result[0]);
    while (wait(NULL) > 0)
        ;
    return us;
}

/* The i-th argument, in [1, most]; the default where there is none. */
static bool argument(int argc, char **argv, int i, unsigned long most,
                     unsigned long *value)
{
    char *end;

    if (i >= argc)
        return true;
    *value = strtoul(argv[i], &end, 10);
    return *argv[i] != '\0' && *end == '\0' && *value >= 1 && *value <= most;
}

int main(int argc, char **argv)
{
    if (!argument(argc, argv, 1, 1ul << 24, &numbers) ||
        !argument(argc, argv, 2, CALLS_MAX, &calls) ||
        !argument(argc, argv, 3, ROUNDS_MAX, &rounds) ||
        hth_isa_init(NULL) != HTH_OK) {
        fputs("usage: allreduce_bench [numbers [calls [rounds]]]\n", stderr);
        return 2;
    }
    for (uint32_t i = 0; i < rounds; i++)
        for (size_t v = 0; v < VARIANTS; v++)
            variants[v].round_us[i] = run(&variants[v]);
    printf("%lu numbers, %lu calls x %lu rounds; us per call\n", numbers, calls,
           rounds);
    for (size_t v = 0; v < VARIANTS; v++) {
        double *us = variants[v].round_us;

        qsort(us, rounds, sizeof us[0], by_value);
        printf("%-26s median %7.1f  least %7.1f  most %7.1f  x %.2f\n",
               variants[v].name, us[rounds / 2], us[0], us[rounds - 1],
               us[rounds / 2] / variants[0].round_us[rounds / 2]);
    }
    return 0;
}
