/* listen.c - the data port's thread: poll over the listening socket, a pipe
 * that says stop, and the handshakes under way. Nothing in here waits for one
 * peer. */
#include "net/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "net/handshake.h"

#define BACKLOG 64
#define LOG_WINDOW_MS 10000u /* at most so many refusals are logged in it */
#define LOG_WINDOW_LINES 10u
#define ACCEPT_PAUSE_MS 100u /* after running out of descriptors */

struct slot {
    struct hth__shake *shake; /* NULL: free */
    int want;
    uint64_t deadline_ms;
    uint64_t moved_ms;
};

struct hth_listener {
    struct hth_listen_opts opts;
    int fd;
    int stop_pipe[2];
    uint16_t port;
    pthread_t thread;
    atomic_uint half_open;
    struct slot slots[HTH_HALF_OPEN_MAX]; /* the thread's from here down */
    uint64_t log_since_ms;
    uint32_t log_lines;
};

/* ---- log ----------------------------------------------------------------- */

static void log_refused(struct hth_listener *l, const struct hth_err *err)
{
    uint64_t now = hth_now_ms();

    if (now - l->log_since_ms > LOG_WINDOW_MS) {
        if (l->log_lines > LOG_WINDOW_LINES)
            hth_log(HTH_LOG_WARN, "LINK-REFUSED",
                    "suppressed=%u: more of these",
                    l->log_lines - LOG_WINDOW_LINES);
        l->log_since_ms = now;
        l->log_lines = 0;
    }
    if (l->log_lines++ < LOG_WINDOW_LINES)
        hth_log(HTH_LOG_WARN, "LINK-REFUSED", "status=%s: %s",
                hth_status_name(err->status), err->text);
}

/* ---- slots --------------------------------------------------------------- */

static void drop(struct hth_listener *l, struct slot *s)
{
    hth__shake_close(s->shake);
    s->shake = NULL;
    atomic_fetch_sub(&l->half_open, 1);
}

static void give_link(struct hth_listener *l, struct slot *s)
{
    struct hth_err err = {.status = HTH_OK};
    struct hth_link *link;
    int status = hth__shake_finish(s->shake, &link, &err);

    drop(l, s);
    if (status != HTH_OK) {
        log_refused(l, &err);
        return;
    }
    if (l->opts.on_link != NULL)
        l->opts.on_link(l->opts.on_link_ctx, link);
    else
        hth_link_close(link);
}

static void run_slot(struct hth_listener *l, struct slot *s)
{
    struct hth_err err = {.status = HTH_OK};
    int rc = hth__shake_run(s->shake, &err);

    s->moved_ms = hth_now_ms();
    if (rc < 0)
        log_refused(l, &err);
    if (rc == HTH__WANT_READ || rc == HTH__WANT_WRITE)
        s->want = rc;
    else if (rc == HTH_OK)
        give_link(l, s);
    else
        drop(l, s);
}

static void expire(struct hth_listener *l, uint64_t now)
{
    for (size_t i = 0; i < HTH_HALF_OPEN_MAX; i++) {
        struct slot *s = &l->slots[i];
        struct hth_err err;

        if (s->shake == NULL || now < s->deadline_ms)
            continue;
        hth_fail(&err, HTH_ETIMEDOUT, "a handshake was not finished in time");
        log_refused(l, &err);
        drop(l, s);
    }
}

/* A free slot; when there is none, the one that has been still for longest. */
static struct slot *take_slot(struct hth_listener *l)
{
    struct slot *oldest = &l->slots[0];

    for (size_t i = 0; i < HTH_HALF_OPEN_MAX; i++) {
        struct slot *s = &l->slots[i];

        if (s->shake == NULL)
            return s;
        if (s->moved_ms < oldest->moved_ms)
            oldest = s;
    }
    drop(l, oldest);
    return oldest;
}

static uint32_t time_allowed_ms(const struct hth_listener *l)
{
    uint32_t link_ms = l->opts.link.handshake_ms > 0 ? l->opts.link.handshake_ms
                                                     : HTH_HANDSHAKE_MS;

    return l->opts.pairing != NULL && link_ms < HTH_PAIRING_MS ? HTH_PAIRING_MS
                                                               : link_ms;
}

static void admit_fd(struct hth_listener *l, int fd)
{
    struct hth__shake_opts o = {.fd = fd,
                                .server = true,
                                .link = l->opts.link,
                                .pairing = l->opts.pairing};
    struct slot *s = take_slot(l);
    struct hth_err err = {.status = HTH_OK};

    if (hth__shake_open(&s->shake, &o, &err) != HTH_OK) {
        log_refused(l, &err);
        return;
    }
    atomic_fetch_add(&l->half_open, 1);
    s->moved_ms = hth_now_ms();
    s->deadline_ms = s->moved_ms + time_allowed_ms(l);
    run_slot(l, s);
}

/* Out of descriptors is the one failure that would spin: let go of a
 * handshake and pause. */
static void accept_one(struct hth_listener *l)
{
    int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        admit_fd(l, fd);
        return;
    }
    if (errno == EMFILE || errno == ENFILE || errno == ENOMEM ||
        errno == ENOBUFS) {
        struct hth_err err;

        hth_fail(&err, HTH_ELIMIT, "accept: %s", strerror(errno));
        log_refused(l, &err);
        if (atomic_load(&l->half_open) > 0)
            (void)take_slot(l);
        hth_sleep_ms(ACCEPT_PAUSE_MS);
    }
}

/* ---- the thread ---------------------------------------------------------- */

static nfds_t gather(struct hth_listener *l, struct pollfd *fds,
                     struct slot **owner, uint64_t *deadline_ms)
{
    nfds_t n = 2;

    fds[0] = (struct pollfd){.fd = l->stop_pipe[0], .events = POLLIN};
    fds[1] = (struct pollfd){.fd = l->fd, .events = POLLIN};
    *deadline_ms = UINT64_MAX;
    for (size_t i = 0; i < HTH_HALF_OPEN_MAX; i++) {
        struct slot *s = &l->slots[i];

        if (s->shake == NULL)
            continue;
        owner[n] = s;
        fds[n].fd = hth__shake_fd(s->shake);
        fds[n].events = s->want == HTH__WANT_WRITE ? POLLOUT : POLLIN;
        fds[n].revents = 0;
        n++;
        if (s->deadline_ms < *deadline_ms)
            *deadline_ms = s->deadline_ms;
    }
    return n;
}

static void *run(void *arg)
{
    struct hth_listener *l = arg;
    struct pollfd fds[HTH_HALF_OPEN_MAX + 2];
    struct slot *owner[HTH_HALF_OPEN_MAX + 2];

    for (;;) {
        uint64_t deadline_ms;
        nfds_t n = gather(l, fds, owner, &deadline_ms);
        uint64_t now = hth_now_ms();
        int wait_ms = deadline_ms == UINT64_MAX ? -1
                      : deadline_ms <= now      ? 0
                                           : hth__poll_ms(deadline_ms - now);

        if (poll(fds, n, wait_ms) < 0 && errno != EINTR)
            hth_sleep_ms(ACCEPT_PAUSE_MS);
        if (fds[0].revents != 0)
            return NULL;
        for (nfds_t i = 2; i < n; i++)
            if (fds[i].revents != 0)
                run_slot(l, owner[i]);
        if (fds[1].revents != 0)
            accept_one(l);
        expire(l, hth_now_ms());
    }
}

/* ---- start and stop ------------------------------------------------------ */

static int bind_one(const struct addrinfo *a)
{
    int fd =
        socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int one = 1;
    int zero = 0;

    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &zero, sizeof zero);
    if (bind(fd, a->ai_addr, a->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int e = errno;

        close(fd);
        errno = e;
        return -1;
    }
    return fd;
}

/* Every address means the IPv6 wildcard, which takes IPv4 as well, and plain
 * IPv4 where the system has no IPv6. */
static int bind_host(const char *host, uint16_t port, struct hth_err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM,
                             .ai_flags = AI_PASSIVE,
                             .ai_family = host == NULL ? AF_INET6 : AF_UNSPEC};
    struct addrinfo *list = NULL;
    char service[8];
    int fd = -1;
    int rc;

    snprintf(service, sizeof service, "%u", port);
    rc = getaddrinfo(host, service, &hints, &list);
    if (rc != 0 && host != NULL)
        return hth_fail(err, HTH_EIO, "no address '%.200s' here: %s", host,
                        gai_strerror(rc));
    if (rc == 0) {
        fd = bind_one(list);
        freeaddrinfo(list);
    }
    if (fd < 0 && host == NULL)
        return bind_host("0.0.0.0", port, err);
    if (fd < 0)
        return hth_fail(err, HTH_EIO,
                        "cannot listen on %.200s port %u: %s; is another "
                        "Hearth running? choose another port",
                        host, port, strerror(errno));
    return fd;
}

static uint16_t port_of(int fd)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;

    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0)
        return 0;
    return ntohs(a.ss_family == AF_INET6
                     ? ((struct sockaddr_in6 *)&a)->sin6_port
                     : ((struct sockaddr_in *)&a)->sin_port);
}

static void release(struct hth_listener *l)
{
    if (l->fd >= 0)
        close(l->fd);
    if (l->stop_pipe[0] >= 0) {
        close(l->stop_pipe[0]);
        close(l->stop_pipe[1]);
    }
    free(l);
}

static int start(struct hth_listener *l, struct hth_err *err)
{
    l->fd = bind_host(l->opts.host, l->opts.port, err);
    if (l->fd < 0)
        return l->fd;
    l->port = port_of(l->fd);
    if (pipe2(l->stop_pipe, O_CLOEXEC) != 0) {
        l->stop_pipe[0] = -1;
        return hth_fail(err, HTH_EIO, "listen: pipe: %s", strerror(errno));
    }
    if (pthread_create(&l->thread, NULL, run, l) != 0)
        return hth_fail(err, HTH_ENOMEM, "listen: cannot start a thread");
    return HTH_OK;
}

int hth_listen_start(struct hth_listener **out,
                     const struct hth_listen_opts *opts, struct hth_err *err)
{
    struct hth_listener *l = calloc(1, sizeof *l);
    int status;

    if (l == NULL)
        return hth_fail(err, HTH_ENOMEM, "listen: out of memory");
    l->opts = *opts;
    l->fd = l->stop_pipe[0] = -1;
    status = start(l, err);
    if (status != HTH_OK) {
        release(l);
        return status;
    }
    *out = l;
    return HTH_OK;
}

void hth_listen_stop(struct hth_listener *l)
{
    ssize_t n;

    if (l == NULL)
        return;
    do
        n = write(l->stop_pipe[1], "", 1);
    while (n < 0 && errno == EINTR);
    pthread_join(l->thread, NULL);
    for (size_t i = 0; i < HTH_HALF_OPEN_MAX; i++)
        if (l->slots[i].shake != NULL)
            drop(l, &l->slots[i]);
    release(l);
}

uint16_t hth_listen_port(const struct hth_listener *l)
{
    return l->port;
}

uint32_t hth_listen_half_open(const struct hth_listener *l)
{
    return atomic_load(&((struct hth_listener *)l)->half_open);
}
