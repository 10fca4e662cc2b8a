/* link_wait.c - waiting on links: spin for a bounded time, then poll.
 *
 * Spinning buys latency only while nothing else wants the CPU. Two signs say
 * that something does: more threads of this process spin than it has CPUs, or
 * a spinning thread finds that a moment passed between two looks that only a
 * descheduled thread misses. The second also sees other processes; after it,
 * the next waits of the whole process go straight to poll. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>

#include "base/clock.h"
#include "net/link_internal.h"
#include "net/tls.h"

#define SPIN_AUTO_US 1000u
#define SPIN_GAP_NS 200000u /* between two looks: we were descheduled */
#define SPIN_SKIP 64        /* waits without spinning after such a gap */

static atomic_int spinners;  /* threads of this process spinning now */
static atomic_int spin_skip; /* waits that still go without */

/* CPUs this process may run on; asked once. */
static int usable_cpus(void)
{
    static atomic_int cpus;
    int n = atomic_load_explicit(&cpus, memory_order_relaxed);
    cpu_set_t set;

    if (n > 0)
        return n;
    n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    atomic_store_explicit(&cpus, n, memory_order_relaxed);
    return n;
}

static uint64_t spin_ns(struct hth_link *const *links, uint32_t count)
{
    uint32_t us = SPIN_AUTO_US;

    for (uint32_t i = 0; i < count; i++)
        if (links[i] != NULL && links[i]->spin_us_max != HTH_SPIN_AUTO)
            us = links[i]->spin_us_max == HTH_SPIN_NEVER
                     ? 0
                     : links[i]->spin_us_max;
    return (uint64_t)us * 1000u;
}

/* ---- one look ------------------------------------------------------------ */

/* Progress on all: 1 if anything moved, 0, or the first failure. All links
 * get their turn even after one has failed. */
static int look(struct hth_link *const *links, uint32_t count)
{
    int moved = 0;
    int status = HTH_OK;

    for (uint32_t i = 0; i < count; i++) {
        int r;

        if (links[i] == NULL || !hth__link_pending(links[i]))
            continue;
        r = hth_link_progress(links[i]);
        if (r < 0 && status == HTH_OK)
            status = r;
        else if (r > 0)
            moved = 1;
    }
    return status != HTH_OK ? status : moved;
}

/* ---- time ---------------------------------------------------------------- */

/* When the frame at hand of a link is overdue; UINT64_MAX: never. */
static uint64_t due_ns(const struct hth_link *l, uint32_t timeout_ms)
{
    uint64_t since = UINT64_MAX;

    if (timeout_ms == HTH_LINK_FOREVER)
        return UINT64_MAX;
    if (l->sending)
        since = l->send_since_ns;
    if (l->want != NULL && l->recv_since_ns < since)
        since = l->recv_since_ns;
    return since == UINT64_MAX ? since
                               : since + (uint64_t)timeout_ms * 1000000u;
}

/* Fail every link that is overdue; the status of the first. */
static int fail_overdue(struct hth_link *const *links, uint32_t count,
                        uint64_t now, uint32_t timeout_ms)
{
    int status = HTH_OK;

    for (uint32_t i = 0; i < count; i++) {
        struct hth_link *l = links[i];
        int r;

        if (l == NULL || due_ns(l, timeout_ms) > now)
            continue;
        r = hth__link_fail(l, HTH_ETIMEDOUT,
                           "silent for %u ms while %s; check that the device "
                           "is awake and its network is up",
                           timeout_ms,
                           l->want != NULL ? "data was due from it"
                                           : "data was being sent to it");
        if (status == HTH_OK)
            status = r;
    }
    return status;
}

/* What to poll for. Reading ahead stops when the inbox is full: then only room
 * for sending can change anything. */
static short wanted_events(const struct hth_link *l)
{
    bool ahead = l->send_blocked && l->in_len - l->in_at < HTH_LINK_INBOX_BYTES;

    return (short)((l->sending ? POLLOUT : 0) |
                   (l->want != NULL || ahead ? POLLIN : 0));
}

/* Sleep until a socket is ready or the first frame is overdue. */
static int sleep_on(struct hth_link *const *links, uint32_t count,
                    uint32_t timeout_ms)
{
    struct pollfd fds[HTH_RANKS_MAX];
    uint64_t due = UINT64_MAX;
    uint64_t now = hth_now_ns();
    nfds_t n = 0;
    int wait_ms = -1;

    for (uint32_t i = 0; i < count; i++) {
        struct hth_link *l = links[i];
        uint64_t d;

        if (l == NULL || !hth__link_pending(l))
            continue;
        d = due_ns(l, timeout_ms);
        due = d < due ? d : due;
        fds[n].fd = l->fd;
        fds[n].events = wanted_events(l);
        n++;
    }
    if (due <= now)
        return fail_overdue(links, count, now, timeout_ms);
    if (due != UINT64_MAX)
        wait_ms = hth__poll_ms((due - now) / 1000000u + 1);
    /* An error of poll() itself only means looking again. */
    (void)poll(fds, n, wait_ms);
    return HTH_OK;
}

void hth_link_sleep(struct hth_link *const *links, uint32_t count, int wake_fd,
                    uint32_t timeout_ms)
{
    struct pollfd fds[HTH_RANKS_MAX + 1];
    nfds_t n = 1;

    HTH_ASSERT(count <= HTH_RANKS_MAX);
    fds[0] = (struct pollfd){.fd = wake_fd, .events = POLLIN};
    for (uint32_t i = 0; i < count; i++)
        if (links[i] != NULL && hth__link_pending(links[i]))
            fds[n++] = (struct pollfd){.fd = links[i]->fd,
                                       .events = wanted_events(links[i])};
    (void)poll(fds, n, hth__poll_ms(timeout_ms));
}

/* ---- waiting ------------------------------------------------------------- */

/* Look again and again until something moves or budget_ns is over. 1, 0 or a
 * status, like look(). *at_ns: when waiting began; then, when the last look
 * did. */
static int spin(struct hth_link *const *links, uint32_t count, uint64_t *at_ns,
                uint64_t budget_ns)
{
    uint64_t start_ns = *at_ns, last = start_ns;
    int r = 0;

    if (atomic_fetch_add(&spinners, 1) < usable_cpus()) {
        while (r == 0 && last - start_ns < budget_ns) {
            uint64_t now;

            hth_cpu_relax();
            r = look(links, count);
            now = hth_now_ns();
            if (now - last > SPIN_GAP_NS && r == 0) {
                atomic_store(&spin_skip, SPIN_SKIP);
                break;
            }
            last = now;
        }
    }
    atomic_fetch_sub(&spinners, 1);
    *at_ns = last;
    return r;
}

static bool may_spin(void)
{
    if (atomic_load_explicit(&spin_skip, memory_order_relaxed) <= 0)
        return true;
    atomic_fetch_sub_explicit(&spin_skip, 1, memory_order_relaxed);
    return false;
}

/* *at_ns: when waiting began; then, when it ended: before the look at which
 * something moved, whose time is that of sending and receiving. */
static int wait_moved(struct hth_link *const *links, uint32_t count,
                      uint32_t timeout_ms, uint64_t *at_ns)
{
    uint64_t budget = spin_ns(links, count);
    int r = 0;

    if (budget > 0 && may_spin())
        r = spin(links, count, at_ns, budget);
    while (r == 0) {
        r = sleep_on(links, count, timeout_ms);
        *at_ns = hth_now_ns();
        if (r == HTH_OK)
            r = look(links, count);
    }
    return r;
}

int hth_link_wait(struct hth_link *const *links, uint32_t count,
                  uint32_t timeout_ms)
{
    uint64_t start, end;
    bool any = false;
    int r;

    HTH_ASSERT(count <= HTH_RANKS_MAX);
    for (uint32_t i = 0; i < count; i++)
        any |= links[i] != NULL && hth__link_pending(links[i]);
    if (!any)
        return HTH_OK;
    r = look(links, count);
    if (r != 0)
        return r < 0 ? r : HTH_OK;
    start = end = hth_now_ns();
    r = wait_moved(links, count, timeout_ms, &end);
    for (uint32_t i = 0; i < count; i++)
        if (links[i] != NULL)
            links[i]->counters.wait_ns += end - start;
    return r < 0 ? r : HTH_OK;
}

/* ---- blocking calls on one link ------------------------------------------ */

static int drive(struct hth_link *l, uint32_t timeout_ms)
{
    int status = HTH_OK;

    while (status == HTH_OK && hth__link_pending(l))
        status = hth_link_wait(&l, 1, timeout_ms);
    return status;
}

int hth_link_send(struct hth_link *l, uint64_t tag, const void *src, size_t n,
                  uint32_t timeout_ms)
{
    int status = hth_link_post(l, tag, src, n);

    while (status == HTH_OK && l->sending)
        status = hth_link_wait(&l, 1, timeout_ms);
    return status;
}

int hth_link_recv_msg(struct hth_link *l, struct hth_link_msg *msg,
                      uint32_t timeout_ms)
{
    int status = hth_link_expect(l, msg);

    while (status == HTH_OK && l->want != NULL)
        status = hth_link_wait(&l, 1, timeout_ms);
    return status;
}

int hth_link_recv(struct hth_link *l, uint64_t tag, void *dst, size_t n,
                  uint32_t timeout_ms)
{
    struct hth_link_msg msg = {.tag = tag, .data = dst, .max = n};
    int status = hth_link_recv_msg(l, &msg, timeout_ms);

    if (status == HTH_OK && msg.n != n)
        status = hth__link_fail(l, HTH_EPROTO,
                                "message 0x%llx has %zu bytes, %zu were "
                                "expected",
                                (unsigned long long)tag, msg.n, n);
    return status;
}

int hth_link_exchange(struct hth_link *l, const struct hth_link_msg *out,
                      struct hth_link_msg *in, uint32_t timeout_ms)
{
    int status = hth_link_post(l, out->tag, out->data, out->n);

    if (status == HTH_OK)
        status = hth_link_expect(l, in);
    return status != HTH_OK ? status : drive(l, timeout_ms);
}
