/* split_tsan.c - three ranks' message threads under ThreadSanitizer: messages
 * both ways, one pair by way of rank 0, sent on as they come, gated, cancelled
 * in the middle, several jobs after each other. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "net/link_internal.h"
#include "worker/peer_link.h"

#define RANKS 3u
#define JOBS 6u
#define MESSAGES 40u
#define BYTES 100000u

static struct hth_link *raw(int fd, bool mirror)
{
    struct hth__link_start s = {.fd = fd, .cipher = HTH_CIPHER_AES128_GCM};
    struct hth_link *l;

    memset(&s.send_key, mirror ? 2 : 1, sizeof s.send_key);
    memset(&s.recv_key, mirror ? 1 : 2, sizeof s.recv_key);
    if (hth__link_create(&l, &s, NULL) != HTH_OK)
        exit(1);
    return l;
}

struct rank {
    uint32_t rank;
    struct hth_link *link[RANKS];
    struct hth_peer_links *links;
    pthread_t thread;
};

static struct rank ranks[RANKS];
static pthread_barrier_t barrier;

struct box {
    struct hth_peer_msg out[MESSAGES], in[MESSAGES], stay_out, stay_in;
    uint8_t *data;
    hth_peer_count sent, came, gate, over;
};

/* Everybody sends to the next rank; odd jobs are given up half-way. */
static void job(struct rank *r, uint32_t number)
{
    struct hth_peers *p = hth_peer_links_peers(r->links);
    struct box *b = calloc(1, sizeof *b);
    uint32_t next = (r->rank + 1) % RANKS, before = (r->rank + 2) % RANKS;
    uint32_t half = number % 2 != 0 ? MESSAGES / 2 : MESSAGES;

    b->data = calloc(2, BYTES);
    hth_peer_links_begin(r->links, number, BYTES);
    for (uint32_t i = 0; i < MESSAGES; i++) {
        uint64_t tag = hth_peer_tag(HTH_PEER_BLOCK, i, 0, 0);

        b->in[i] = (struct hth_peer_msg){.peer = before,
                                         .tag = tag,
                                         .data = b->data + BYTES,
                                         .n = BYTES,
                                         .done = &b->came};
        b->out[i] = (struct hth_peer_msg){.peer = next,
                                          .tag = tag,
                                          .data = b->data,
                                          .n = BYTES,
                                          .gate = &b->gate,
                                          .gate_at = i / 4,
                                          .done = &b->sent};
        p->expect(p->ctx, &b->in[i]);
    }
    b->stay_in =
        (struct hth_peer_msg){.peer = before,
                              .tag = hth_peer_tag(HTH_PEER_END, 0, 0, 0),
                              .stays = true,
                              .done = &b->over};
    p->expect(p->ctx, &b->stay_in);
    hth_peer_links_go(r->links);
    for (uint32_t i = 0; i < half; i++) {
        atomic_store(&b->gate, i);
        p->send(p->ctx, &b->out[i]);
        if (p->wait(p->ctx, &b->came, i / 2, NULL) != HTH_OK)
            exit(1);
    }
    if (half < MESSAGES) {
        /* What is dropped never comes: the next rank has all it waits for. */
        if (p->wait(p->ctx, &b->sent, half / 2, NULL) != HTH_OK)
            exit(1);
        p->drop(p->ctx);
        hth_peer_links_resume(r->links);
    } else if (p->wait(p->ctx, &b->came, MESSAGES, NULL) != HTH_OK ||
               p->wait(p->ctx, &b->sent, MESSAGES, NULL) != HTH_OK) {
        exit(1);
    }
    b->stay_out =
        (struct hth_peer_msg){.peer = next,
                              .tag = hth_peer_tag(HTH_PEER_END, 0, 0, 0),
                              .stays = true};
    p->send(p->ctx, &b->stay_out);
    if (p->wait(p->ctx, &b->over, 1, NULL) != HTH_OK)
        exit(1);
    /* Nobody lets go of the links while another still needs them. */
    pthread_barrier_wait(&barrier);
    if (hth_peer_links_rest(r->links, NULL) != HTH_OK)
        exit(1);
    pthread_barrier_wait(&barrier);
    free(b->data);
    free(b);
}

static void *rank_main(void *arg)
{
    struct rank *r = arg;

    for (uint32_t i = 1; i <= JOBS; i++)
        job(r, i);
    return NULL;
}

int main(void)
{
    pthread_barrier_init(&barrier, NULL, RANKS);
    for (uint32_t i = 1; i < RANKS; i++) {
        int fd[2];

        if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) != 0)
            return 1;
        ranks[0].link[i] = raw(fd[0], false);
        ranks[i].link[0] = raw(fd[1], true);
    }
    for (uint32_t i = 0; i < RANKS; i++) {
        struct hth_peer_links_opts o = {i, RANKS, ranks[i].link};

        ranks[i].rank = i;
        if (hth_peer_links_open(&ranks[i].links, &o, NULL) != HTH_OK)
            return 1;
    }
    for (uint32_t i = 0; i < RANKS; i++)
        pthread_create(&ranks[i].thread, NULL, rank_main, &ranks[i]);
    for (uint32_t i = 0; i < RANKS; i++)
        pthread_join(ranks[i].thread, NULL);
    for (uint32_t i = 0; i < RANKS; i++) {
        hth_peer_links_close(ranks[i].links);
        for (uint32_t k = 0; k < RANKS; k++)
            hth_link_close(ranks[i].link[k]);
    }
    pthread_barrier_destroy(&barrier);
    puts("split: ok");
    return 0;
}
