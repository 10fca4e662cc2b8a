/* peer_link_test.c - messages between ranks, two of which meet by way of rank
 * 0. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "net/link_internal.h"
#include "worker/peer_link.h"

#define RANKS 3u
#define BYTES 5000u
#define PATIENCE_MS 20000u

static struct hth_link *link_of[RANKS][RANKS];
static struct hth_peer_links *links[RANKS];

static struct hth_link *raw(int fd, bool mirror)
{
    struct hth__link_start s = {.fd = fd, .cipher = HTH_CIPHER_AES128_GCM};
    struct hth_link *l;

    memset(&s.send_key, mirror ? 2 : 1, sizeof s.send_key);
    memset(&s.recv_key, mirror ? 1 : 2, sizeof s.recv_key);
    cr_assert_eq(hth__link_create(&l, &s, NULL), HTH_OK);
    return l;
}

static void set_up(void)
{
    for (uint32_t r = 1; r < RANKS; r++) {
        int fd[2];

        cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
        link_of[0][r] = raw(fd[0], false);
        link_of[r][0] = raw(fd[1], true);
    }
    for (uint32_t r = 0; r < RANKS; r++) {
        struct hth_peer_links_opts o = {
            .rank = r, .ranks = RANKS, .links = link_of[r]};

        cr_assert_eq(hth_peer_links_open(&links[r], &o, NULL), HTH_OK);
        hth_peer_links_begin(links[r], 1, BYTES);
    }
}

static void tear_down(void)
{
    for (uint32_t r = 0; r < RANKS; r++)
        hth_peer_links_close(links[r]);
    for (uint32_t r = 1; r < RANKS; r++) {
        hth_link_close(link_of[0][r]);
        hth_link_close(link_of[r][0]);
    }
}

static bool comes(const hth_peer_count *count)
{
    uint64_t start = hth_now_ms();

    while (atomic_load(count) == 0 && hth_now_ms() - start < PATIENCE_MS)
        usleep(1000);
    return atomic_load(count) > 0;
}

static void post(uint32_t from, struct hth_peer_msg *out,
                 struct hth_peer_msg *in)
{
    struct hth_peers *p = hth_peer_links_peers(links[from]);
    struct hth_peers *q = hth_peer_links_peers(links[out->peer]);

    in->peer = from;
    in->tag = out->tag;
    in->n = out->n;
    q->expect(q->ctx, in);
    p->send(p->ctx, out);
}

TestSuite(peer_link, .init = set_up, .fini = tear_down, .timeout = 60);

/* Rank 0 holds back a message for rank 1; what rank 2 sends to rank 1 by way of
 * it arrives all the same. Waiting for each other in this way stopped prompts
 * for good. */
Test(peer_link, what_is_relayed_waits_for_no_gate)
{
    static uint8_t data[BYTES], got[2][BYTES];
    hth_peer_count gate = 0, own = 0, other = 0;
    struct hth_peer_msg out = {.peer = 1,
                               .tag = hth_peer_tag(HTH_PEER_BLOCK, 2, 0, 0),
                               .data = data,
                               .n = BYTES,
                               .gate = &gate,
                               .gate_at = 1};
    struct hth_peer_msg passed = {.peer = 1,
                                  .tag = hth_peer_tag(HTH_PEER_BLOCK, 1, 2, 0),
                                  .data = data,
                                  .n = BYTES};
    struct hth_peer_msg in[2] = {{.data = got[0], .done = &own},
                                 {.data = got[1], .done = &other}};

    memset(data, 7, sizeof data);
    post(0, &out, &in[0]);
    post(2, &passed, &in[1]);
    for (uint32_t r = 0; r < RANKS; r++)
        hth_peer_links_go(links[r]);
    cr_assert(comes(&other));
    cr_assert_eq(atomic_load(&own), 0);
    cr_assert_eq(memcmp(got[1], data, BYTES), 0);
    atomic_store(&gate, 1);
    cr_assert(comes(&own));
    for (uint32_t r = RANKS; r-- > 0;)
        cr_assert_eq(hth_peer_links_rest(links[r], NULL), HTH_OK);
}
