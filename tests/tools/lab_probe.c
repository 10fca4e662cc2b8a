/* lab_probe.c - what a link of a test network gives (docs/lab.md).
 *   lab_probe serve             answer one measurement on TCP port 9
 *   lab_probe ADDRESS SECONDS   measure: median round trip of 1 byte, then the
 *                               rate of sending for about SECONDS
 * Prints "round_trip_ms=A mbit=B"; B counts what had arrived at the end. */
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

enum {
    PROBE_PORT = 9,
    PINGS = 15,
    CHUNK_BYTES = 65536,
    TRIES_MAX = 200, /* of 20 ms, until somebody serves */
    SECONDS_MAX = 60,
};

static int fail(const char *what)
{
    perror(what);
    return 1;
}

/* The pings come back one by one; what follows is counted, and its end is
 * answered with one byte. */
static int serve(void)
{
    static char chunk[CHUNK_BYTES];
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(PROBE_PORT)};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), s;

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&a, sizeof a) != 0 ||
        listen(listener, 1) != 0 || (s = accept(listener, NULL, NULL)) < 0)
        return fail("lab_probe serve");
    setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    for (int i = 0; i < PINGS; i++)
        if (read(s, chunk, 1) != 1 || write(s, chunk, 1) != 1)
            return fail("lab_probe serve");
    while (read(s, chunk, sizeof chunk) > 0)
        continue;
    return write(s, "", 1) == 1 ? 0 : fail("lab_probe serve");
}

static int dial(const char *address)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(PROBE_PORT)};
    int one = 1;

    if (inet_pton(AF_INET, address, &a.sin_addr) != 1)
        return -1;
    for (int i = 0; i < TRIES_MAX; i++) {
        int s = socket(AF_INET, SOCK_STREAM, 0);

        if (connect(s, (struct sockaddr *)&a, sizeof a) == 0) {
            setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            return s;
        }
        close(s);
        hth_sleep_ms(20);
    }
    return -1;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static int measure(const char *address, double seconds)
{
    static char chunk[CHUNK_BYTES];
    double ms[PINGS], took_s, sent = 0;
    int s = dial(address);
    uint64_t t0;

    if (s < 0)
        return fail("lab_probe: no answer");
    for (int i = 0; i < PINGS; i++) {
        t0 = hth_now_ns();
        if (write(s, chunk, 1) != 1 || read(s, chunk, 1) != 1)
            return fail("lab_probe");
        ms[i] = (double)(hth_now_ns() - t0) * 1e-6;
    }
    qsort(ms, PINGS, sizeof *ms, ascending);
    t0 = hth_now_ns();
    while ((double)(hth_now_ns() - t0) * 1e-9 < seconds) {
        ssize_t n = write(s, chunk, sizeof chunk);

        if (n < 0)
            return fail("lab_probe");
        sent += (double)n;
    }
    shutdown(s, SHUT_WR);
    if (read(s, chunk, 1) != 1)
        return fail("lab_probe");
    took_s = (double)(hth_now_ns() - t0) * 1e-9;
    printf("round_trip_ms=%.2f mbit=%.1f\n", ms[PINGS / 2],
           sent * 8e-6 / took_s);
    return 0;
}

int main(int argc, char **argv)
{
    double seconds = argc == 3 ? strtod(argv[2], NULL) : 0;

    if (argc == 2 && strcmp(argv[1], "serve") == 0)
        return serve();
    if (argc != 3 || !(seconds > 0 && seconds <= SECONDS_MAX)) {
        fprintf(stderr, "lab_probe serve | lab_probe ADDRESS SECONDS\n");
        return 2;
    }
    return measure(argv[1], seconds);
}
