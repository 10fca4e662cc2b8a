/* socket.c - TCP sockets: options and dialling with a deadline. */
#include "net/socket.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/link_internal.h"
#include "net/tls.h"

/* A peer that lost power is found after this long on an idle link. */
#define KEEPALIVE_IDLE_S 10
#define KEEPALIVE_EVERY_S 5
#define KEEPALIVE_TRIES 3
#define UNACKED_MS 20000

/* Buffer sizes are left to the kernel: its own tuning goes further than
 * SO_SNDBUF may without privileges, and setting one switches tuning off. */
int hth__socket_setup(int fd, struct hth_err *err)
{
    static const struct {
        int level, name, value;
    } options[] = {
        {SOL_SOCKET, SO_KEEPALIVE, 1},
        {IPPROTO_TCP, TCP_NODELAY, 1},
        {IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S},
        {IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_EVERY_S},
        {IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_TRIES},
        {IPPROTO_TCP, TCP_USER_TIMEOUT, UNACKED_MS},
    };
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0)
        return hth_fail(err, HTH_EIO, "set up a socket: %s", strerror(errno));
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++)
        (void)setsockopt(fd, options[i].level, options[i].name,
                         &options[i].value, sizeof options[i].value);
    return HTH_OK;
}

void hth__peer_address(int fd, char out[HTH_ADDRESS_MAX])
{
    struct sockaddr_storage a;
    socklen_t n = sizeof a;
    char host[NI_MAXHOST];
    char port[NI_MAXSERV];
    const char *shown = host;
    bool six;

    snprintf(out, HTH_ADDRESS_MAX, "local socket");
    if (getpeername(fd, (struct sockaddr *)&a, &n) != 0 ||
        (a.ss_family != AF_INET && a.ss_family != AF_INET6) ||
        getnameinfo((struct sockaddr *)&a, n, host, sizeof host, port,
                    sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    /* An IPv4 peer of a socket that takes both is shown as what it is. */
    if (strncmp(host, "::ffff:", 7) == 0 && strchr(host, '.') != NULL)
        shown = host + 7;
    six = strchr(shown, ':') != NULL;
    snprintf(out, HTH_ADDRESS_MAX, "%s%.50s%s:%.5s", six ? "[" : "", shown,
             six ? "]" : "", port);
}

/* Connect one address: a descriptor, or -1 with errno. */
static int dial_one(const struct addrinfo *a, uint64_t deadline_ms)
{
    int fd =
        socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int e = 0;
    socklen_t n = sizeof e;

    if (fd < 0)
        return -1;
    if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
        return fd;
    e = errno;
    if (e == EINPROGRESS) {
        if (hth__fd_wait(fd, HTH__WANT_WRITE, deadline_ms, NULL) != HTH_OK)
            e = ETIMEDOUT;
        else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) == 0 && e == 0)
            return fd;
    }
    close(fd);
    errno = e;
    return -1;
}

/* A name may have several addresses of which the first is dead: each gets an
 * equal part of what time is left. */
static uint64_t share_of(const struct addrinfo *a, uint64_t deadline_ms)
{
    uint64_t now = hth_now_ms();
    uint64_t left = 0;

    for (; a != NULL; a = a->ai_next)
        left++;
    return now >= deadline_ms ? deadline_ms : now + (deadline_ms - now) / left;
}

static int dial_fail(struct hth_err *err, int why, const char *host,
                     uint16_t port)
{
    if (why == ETIMEDOUT)
        return hth_fail(err, HTH_ETIMEDOUT,
                        "no answer from %s port %u: is the device on, and "
                        "does a firewall let the port through?",
                        host, port);
    return hth_fail(err, HTH_EUNREACHABLE,
                    "cannot connect to %s port %u: %s; is Hearth running "
                    "there, and is this its port?",
                    host, port, strerror(why));
}

int hth__dial(const char *host, uint16_t port, uint64_t deadline_ms,
              struct hth_err *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    char service[8];
    int why = EHOSTUNREACH;
    int fd = -1;
    int rc;

    snprintf(service, sizeof service, "%u", port);
    rc = getaddrinfo(host, service, &hints, &list);
    if (rc != 0)
        return hth_fail(err, HTH_EUNREACHABLE, "no address for '%.200s': %s",
                        host, gai_strerror(rc));
    for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
        fd = dial_one(a, share_of(a, deadline_ms));
        why = errno;
    }
    freeaddrinfo(list);
    return fd >= 0 ? fd : dial_fail(err, why, host, port);
}
