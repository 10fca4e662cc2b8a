/* lab_relay.c - the links of a test network, in user space (docs/lab.md).
 *   lab_relay PROFILE NAMESPACE...
 * Node i is the i-th network namespace, with a TUN device lab0 and the address
 * 10.78.0.(i + 1). A packet from one node to another queues for the sender's
 * uplink, travels both nodes' delays, queues for the receiver's downlink, and
 * is written to its device. Prints "ready" when every device is up. Ends on
 * SIGTERM or SIGINT, or when a device is gone; its devices go with it. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/rng.h"

enum {
    NODES_MAX = 16,
    AIRS_MAX = 8,
    PACKETS_MAX = 32768, /* on their way, all links together */
    MTU_MAX = 16384,
    BATCH_MAX = 32, /* packets read from a device in one go */
    LINE_MAX_BYTES = 256,
    FIRST_HOST = 1, /* node 0 is 10.78.0.1 */
};
#define SUBNET 0x0a4e0000u
#define IDLE_NS 1000000000u

/* What sends one packet after the other. Nodes that share air share one. */
struct medium {
    uint64_t free_ns;
};

struct port {
    struct medium *medium, own;
    uint64_t queued_bytes;
};

struct node {
    int fd;
    double rate_mbit, delay_ms, jitter_ms, loss, queue_kib, stall_ms,
        stall_every_ms, air;
    struct port up, down;
    uint64_t last_ns[NODES_MAX]; /* arrival of the last packet to each */
    uint64_t packets, dropped, lost;
};

/* The stations of a packet; its event is the time at which it gets there. */
enum stage { SENT, ARRIVED, RECEIVED };

struct packet {
    uint16_t bytes;
    uint8_t from, to, stage;
};

struct event {
    uint64_t due_ns, order; /* order: equal times stay first in, first out */
    uint32_t packet;
};

struct relay {
    struct node node[NODES_MAX];
    uint32_t nodes, mtu;
    struct medium air[AIRS_MAX];
    struct hth_rng rng;
    uint8_t *bytes; /* PACKETS_MAX of mtu each; pages come when touched */
    struct packet packet[PACKETS_MAX];
    uint32_t idle[PACKETS_MAX], idle_count;
    struct event heap[PACKETS_MAX];
    uint32_t events;
    uint64_t order;
};

static struct relay g_relay;
static volatile sig_atomic_t g_end;

static void on_end(int number)
{
    (void)number;
    g_end = 1;
}

/* ---- the profile ---- */

/* Where node n keeps the setting of that name, with the range it may have. */
static double *setting(struct node *n, const char *name, double *max)
{
    struct {
        const char *name;
        double *at, max;
    } all[] = {{"rate_mbit", &n->rate_mbit, 1e5},
               {"delay_ms", &n->delay_ms, 1e4},
               {"jitter_ms", &n->jitter_ms, 1e4},
               {"loss", &n->loss, 1},
               {"queue_kib", &n->queue_kib, 1 << 20},
               {"stall_ms", &n->stall_ms, 1e5},
               {"stall_every_ms", &n->stall_every_ms, 1e6},
               {"air", &n->air, AIRS_MAX}};

    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, name) == 0) {
            *max = all[i].max;
            return all[i].at;
        }
    return NULL;
}

static bool number(const char *text, double max, double *out)
{
    char *end;

    *out = strtod(text, &end);
    return end != text && *end == '\0' && *out >= 0 && *out <= max;
}

/* "name=value" for the nodes from first up to end. */
static bool set(struct relay *r, uint32_t first, uint32_t end, char *word)
{
    char *value = strchr(word, '=');
    double max, v;

    if (value == NULL)
        return false;
    *value++ = '\0';
    if (setting(&r->node[0], word, &max) == NULL || !number(value, max, &v))
        return false;
    for (uint32_t i = first; i < end; i++)
        *setting(&r->node[i], word, &max) = v;
    return true;
}

/* A line: "mtu N", or "*" or a node's number and settings. Numbers of nodes
 * that this network does not have are passed over. */
static bool read_line(struct relay *r, char *line)
{
    char *word, *rest = line;
    uint32_t first = 0, end = NODES_MAX;
    double v;

    line[strcspn(line, "#\n")] = '\0';
    word = strtok_r(line, " \t", &rest);
    if (word == NULL)
        return true;
    if (strcmp(word, "mtu") == 0) {
        word = strtok_r(NULL, " \t", &rest);
        if (word == NULL || !number(word, MTU_MAX, &v) || v < 576)
            return false;
        r->mtu = (uint32_t)v;
        return true;
    }
    if (strcmp(word, "*") != 0) {
        if (!number(word, NODES_MAX - 1, &v))
            return false;
        first = (uint32_t)v;
        end = first + 1;
    }
    while ((word = strtok_r(NULL, " \t", &rest)) != NULL)
        if (!set(r, first, end, word))
            return false;
    return true;
}

static bool read_profile(struct relay *r, const char *path)
{
    char line[LINE_MAX_BYTES];
    FILE *f = fopen(path, "r");
    int at = 0;

    if (f == NULL) {
        fprintf(stderr, "lab_relay: %s: %s\n", path, strerror(errno));
        return false;
    }
    r->mtu = 1500;
    for (uint32_t i = 0; i < NODES_MAX; i++) {
        r->node[i].rate_mbit = 1000;
        r->node[i].queue_kib = 256;
    }
    while (fgets(line, sizeof line, f) != NULL) {
        at++;
        if (!read_line(r, line)) {
            fprintf(stderr, "lab_relay: %s:%d: not understood\n", path, at);
            fclose(f);
            return false;
        }
    }
    fclose(f);
    for (uint32_t i = 0; i < r->nodes; i++) {
        struct node *n = &r->node[i];

        if (n->rate_mbit < 0.01 || n->stall_ms > n->stall_every_ms) {
            fprintf(stderr,
                    "lab_relay: %s: node %u: no rate, or stalls longer"
                    " than what is between them\n",
                    path, i);
            return false;
        }
        n->up.medium = n->air >= 1 ? &r->air[(int)n->air - 1] : &n->up.own;
        n->down.medium = n->air >= 1 ? n->up.medium : &n->down.own;
    }
    return true;
}

/* ---- devices ---- */

/* Address, netmask, MTU, up: lab0 in the namespace this thread is in. */
static bool configure(const struct relay *r, uint32_t node)
{
    struct ifreq q = {0};
    struct sockaddr_in a = {.sin_family = AF_INET};
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    bool ok;

    snprintf(q.ifr_name, sizeof q.ifr_name, "lab0");
    a.sin_addr.s_addr = htonl(SUBNET + FIRST_HOST + node);
    memcpy(&q.ifr_addr, &a, sizeof a);
    ok = s >= 0 && ioctl(s, SIOCSIFADDR, &q) == 0;
    a.sin_addr.s_addr = htonl(0xffffff00u);
    memcpy(&q.ifr_netmask, &a, sizeof a);
    ok = ok && ioctl(s, SIOCSIFNETMASK, &q) == 0;
    q.ifr_mtu = (int)r->mtu;
    ok = ok && ioctl(s, SIOCSIFMTU, &q) == 0;
    q.ifr_flags = IFF_UP | IFF_RUNNING;
    ok = ok && ioctl(s, SIOCSIFFLAGS, &q) == 0;
    snprintf(q.ifr_name, sizeof q.ifr_name, "lo");
    q.ifr_flags = IFF_UP | IFF_RUNNING;
    ok = ok && ioctl(s, SIOCSIFFLAGS, &q) == 0;
    if (s >= 0)
        close(s);
    return ok;
}

/* A device lives in the namespace in which it is made; its descriptor can be
 * used from anywhere, so one thread serves them all. */
static bool open_device(struct relay *r, uint32_t node, const char *name)
{
    struct ifreq q = {.ifr_flags = IFF_TUN | IFF_NO_PI};
    char path[LINE_MAX_BYTES];
    int space, fd = -1;
    bool ok = false;

    snprintf(path, sizeof path, "/run/netns/%s", name);
    space = open(path, O_RDONLY | O_CLOEXEC);
    if (space >= 0 && setns(space, CLONE_NEWNET) == 0)
        fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    snprintf(q.ifr_name, sizeof q.ifr_name, "lab0");
    if (fd >= 0 && ioctl(fd, TUNSETIFF, &q) == 0)
        ok = configure(r, node);
    if (!ok)
        fprintf(stderr, "lab_relay: no device in namespace %s: %s\n", name,
                strerror(errno));
    if (space >= 0)
        close(space);
    r->node[node].fd = fd;
    return ok;
}

/* ---- events, earliest first ---- */

static bool before(const struct event *a, const struct event *b)
{
    return a->due_ns != b->due_ns ? a->due_ns < b->due_ns : a->order < b->order;
}

static void add_event(struct relay *r, uint32_t packet, uint64_t due_ns)
{
    struct event e = {due_ns, r->order++, packet};
    uint32_t i = r->events++;

    for (; i > 0 && before(&e, &r->heap[(i - 1) / 2]); i = (i - 1) / 2)
        r->heap[i] = r->heap[(i - 1) / 2];
    r->heap[i] = e;
}

static struct event first_event(struct relay *r)
{
    struct event out = r->heap[0], e = r->heap[--r->events];
    uint32_t i = 0, child;

    while ((child = 2 * i + 1) < r->events) {
        if (child + 1 < r->events &&
            before(&r->heap[child + 1], &r->heap[child]))
            child++;
        if (!before(&r->heap[child], &e))
            break;
        r->heap[i] = r->heap[child];
        i = child;
    }
    r->heap[i] = e;
    return out;
}

/* ---- links ---- */

/* No byte moves while the node's link stalls, at the start of each period. */
static uint64_t past_stall(const struct node *n, uint64_t at_ns)
{
    uint64_t every = (uint64_t)(n->stall_every_ms * 1e6);
    uint64_t phase = every > 0 ? at_ns % every : 0;
    uint64_t stall = (uint64_t)(n->stall_ms * 1e6);

    return every > 0 && phase < stall ? at_ns - phase + stall : at_ns;
}

/* Queue the packet at a port of node n; false if the queue is full. */
static bool enqueue(struct relay *r, struct node *n, struct port *port,
                    uint32_t packet, uint64_t now_ns)
{
    uint32_t bytes = r->packet[packet].bytes;
    uint64_t start = port->medium->free_ns;

    if (port->queued_bytes + bytes > (uint64_t)(n->queue_kib * 1024)) {
        n->dropped++;
        return false;
    }
    port->queued_bytes += bytes;
    start = past_stall(n, start > now_ns ? start : now_ns);
    port->medium->free_ns =
        start + (uint64_t)((double)bytes * 8e3 / n->rate_mbit);
    add_event(r, packet, port->medium->free_ns);
    return true;
}

/* Delay of both ends, and jitter that never overtakes. */
static uint64_t arrival(struct relay *r, const struct packet *p, uint64_t now)
{
    struct node *from = &r->node[p->from], *to = &r->node[p->to];
    double ms = from->delay_ms + to->delay_ms;
    uint64_t at;

    ms += (from->jitter_ms + to->jitter_ms) * hth_rng_unit(&r->rng);
    at = now + (uint64_t)(ms * 1e6);
    if (at < from->last_ns[p->to])
        at = from->last_ns[p->to];
    from->last_ns[p->to] = at;
    return at;
}

static void drop(struct relay *r, uint32_t packet)
{
    r->idle[r->idle_count++] = packet;
}

static void advance(struct relay *r, struct event e)
{
    struct packet *p = &r->packet[e.packet];
    struct node *from = &r->node[p->from], *to = &r->node[p->to];

    switch (p->stage) {
    case SENT:
        from->up.queued_bytes -= p->bytes;
        p->stage = ARRIVED;
        if (hth_rng_unit(&r->rng) < from->loss) {
            from->lost++;
            drop(r, e.packet);
            return;
        }
        add_event(r, e.packet, arrival(r, p, e.due_ns));
        return;
    case ARRIVED:
        p->stage = RECEIVED;
        if (!enqueue(r, to, &to->down, e.packet, e.due_ns))
            drop(r, e.packet);
        return;
    default:
        to->down.queued_bytes -= p->bytes;
        to->packets++;
        if (write(to->fd, r->bytes + (size_t)e.packet * r->mtu, p->bytes) < 0 &&
            (errno == EBADFD || errno == EIO))
            g_end = 1;
        drop(r, e.packet);
    }
}

/* The node an IPv4 packet is for, or NODES_MAX. */
static uint32_t receiver(const struct relay *r, const uint8_t *at, size_t bytes)
{
    uint32_t to;

    if (bytes < 20 || at[0] >> 4 != 4)
        return NODES_MAX;
    to = (uint32_t)at[16] << 24 | (uint32_t)at[17] << 16 |
         (uint32_t)at[18] << 8 | at[19];
    to -= SUBNET + FIRST_HOST;
    return to < r->nodes ? to : NODES_MAX;
}

static void read_device(struct relay *r, uint32_t from)
{
    for (int i = 0; i < BATCH_MAX && r->idle_count > 0; i++) {
        uint32_t packet = r->idle[r->idle_count - 1], to;
        uint8_t *at = r->bytes + (size_t)packet * r->mtu;
        ssize_t got = read(r->node[from].fd, at, r->mtu);

        if (got < 0) {
            g_end |= errno != EAGAIN && errno != EINTR;
            return;
        }
        to = receiver(r, at, (size_t)got);
        if (to == NODES_MAX)
            continue;
        r->packet[packet] =
            (struct packet){(uint16_t)got, (uint8_t)from, (uint8_t)to, SENT};
        r->idle_count--;
        if (!enqueue(r, &r->node[from], &r->node[from].up, packet,
                     hth_now_ns()))
            drop(r, packet);
    }
}

/* Sleep until a packet comes or the next event is due. When the table of
 * packets is full, devices wait in their own queues. */
static void serve(struct relay *r)
{
    struct pollfd fds[NODES_MAX];

    while (!g_end) {
        uint64_t now = hth_now_ns(), wait = IDLE_NS;
        struct timespec t;

        while (r->events > 0 && r->heap[0].due_ns <= now)
            advance(r, first_event(r));
        if (r->events > 0)
            wait = r->heap[0].due_ns - now;
        t = (struct timespec){(time_t)(wait / 1000000000u),
                              (long)(wait % 1000000000u)};
        for (uint32_t i = 0; i < r->nodes; i++)
            fds[i] = (struct pollfd){r->node[i].fd,
                                     r->idle_count > 0 ? POLLIN : 0, 0};
        if (ppoll(fds, r->nodes, &t, NULL) <= 0)
            continue;
        for (uint32_t i = 0; i < r->nodes; i++)
            if (fds[i].revents != 0)
                read_device(r, i);
    }
}

static bool start(struct relay *r, int argc, char **argv)
{
    r->nodes = (uint32_t)(argc - 2);
    if (!read_profile(r, argv[1]))
        return false;
    for (uint32_t i = 0; i < r->nodes; i++)
        if (!open_device(r, i, argv[i + 2]))
            return false;
    r->bytes = mmap(NULL, (size_t)PACKETS_MAX * r->mtu, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (r->bytes == MAP_FAILED) {
        fprintf(stderr, "lab_relay: no memory for packets\n");
        return false;
    }
    while (r->idle_count < PACKETS_MAX) {
        r->idle[r->idle_count] = PACKETS_MAX - 1 - r->idle_count;
        r->idle_count++;
    }
    hth_rng_init(&r->rng, 1);
    return true;
}

int main(int argc, char **argv)
{
    struct sigaction end = {.sa_handler = on_end};
    struct relay *r = &g_relay;

    if (argc < 3 || argc - 2 > NODES_MAX) {
        fprintf(stderr, "lab_relay PROFILE NAMESPACE... (at most %d)\n",
                NODES_MAX);
        return 2;
    }
    sigaction(SIGTERM, &end, NULL);
    sigaction(SIGINT, &end, NULL);
    (void)prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
    if (!start(r, argc, argv))
        return 1;
    puts("ready");
    fflush(stdout);
    serve(r);
    for (uint32_t i = 0; i < r->nodes; i++)
        fprintf(stderr,
                "node %u: %llu packets received, %llu dropped at a full queue,"
                " %llu lost\n",
                i, (unsigned long long)r->node[i].packets,
                (unsigned long long)r->node[i].dropped,
                (unsigned long long)r->node[i].lost);
    return 0;
}
