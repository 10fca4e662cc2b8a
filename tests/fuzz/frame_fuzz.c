/* frame_fuzz.c - any bytes where a data link expects frames, and where its
 * handshake expects a hello. The first byte chooses:
 *   0 a link that does not seal, so that the fuzzer gets past the AEAD and at
 *     everything behind it; 1 a sealed link; 2 a hello.
 * What must hold: no crash, every failure final, and no more bytes delivered
 * than there was room for. Seeds: tests/fuzz/corpus/frame. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/hello.h"
#include "net/link_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROOM 3000u
#define FEED_MAX 60000u /* what a socket pair takes without blocking */

static struct hth_link *make_link(int fd, uint32_t cipher)
{
    struct hth__link_start s = {.fd = fd, .cipher = cipher};
    struct hth_link *l = NULL;

    HTH_ASSERT(hth__link_create(&l, &s, NULL) == HTH_OK);
    return l;
}

static void receive_all(struct hth_link *l)
{
    uint8_t room[ROOM + 1];
    struct hth_link_msg m = {.data = room, .max = ROOM};
    int status;

    room[ROOM] = 0xa5;
    do {
        m.n = 0;
        status = hth_link_recv_msg(l, &m, 1000);
        HTH_ASSERT(m.n <= ROOM && room[ROOM] == 0xa5);
        m.tag++; /* frames of one input count up */
    } while (status == HTH_OK);
    HTH_ASSERT(hth_link_error(l)->status == status);
    HTH_ASSERT(hth_link_recv_msg(l, &m, 1) == status);
}

static void run_link(const uint8_t *p, size_t n, uint32_t cipher)
{
    struct hth_link *l;
    int fd[2];

    if (n > FEED_MAX || socketpair(AF_UNIX, SOCK_STREAM, 0, fd) != 0)
        return;
    l = make_link(fd[0], cipher);
    if (n == 0 || send(fd[1], p, n, MSG_DONTWAIT) == (ssize_t)n) {
        shutdown(fd[1], SHUT_WR);
        receive_all(l);
    }
    close(fd[1]);
    hth_link_close(l);
}

/* What decodes must survive being encoded and decoded again. */
static void run_hello(const uint8_t *p, size_t n)
{
    struct hth__hello ours = {.version_min = 1, .version_max = 1};
    struct hth__hello a, b;
    struct hth_buf out;
    struct hth_err err;

    if (hth__hello_decode(&a, p, n, &ours, &err) != HTH_OK)
        return;
    hth_buf_init(&out, HTH_HELLO_BYTES_MAX);
    hth__hello_encode(&a, &out);
    HTH_ASSERT(hth__hello_decode(&b, out.data, out.len, &ours, &err) == HTH_OK);
    HTH_ASSERT(a.rank == b.rank && strcmp(a.name, b.name) == 0 &&
               strcmp(a.text, b.text) == 0);
    hth_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    switch (data[0] % 3) {
    case 0:
        run_link(data + 1, size - 1, 0);
        break;
    case 1:
        run_link(data + 1, size - 1, HTH_CIPHER_AES128_GCM);
        break;
    default:
        run_hello(data + 1, size - 1);
    }
    return 0;
}
