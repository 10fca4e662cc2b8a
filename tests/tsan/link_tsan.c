/* link_tsan.c - links and stars under ThreadSanitizer, with a plain main
 * because Criterion cannot run under it. Three ranks as threads, rank 0 with a
 * pool; a shutdown from outside in the middle; handshakes of several devices
 * with one listener at once. Fails by TSan's exit code, or by an assertion. */
#include <ftw.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "kernels/ops.h"
#include "net/link_internal.h"
#include "net/listen.h"
#include "net/star.h"

#define RANKS 3u
#define NUMBERS 40000u /* three pieces */
#define CALLS 20

struct rank {
    struct hth_star *star;
    struct hth_link *link[RANKS];
    int status;
};

static struct hth_link *raw(int fd, bool mirror)
{
    struct hth__link_start s = {.fd = fd, .cipher = HTH_CIPHER_AES128_GCM};
    struct hth_link *l = NULL;

    s.send_key.key[0] = mirror;
    s.recv_key.key[0] = !mirror;
    HTH_ASSERT(hth__link_create(&l, &s, NULL) == HTH_OK);
    return l;
}

static void *run_rank(void *arg)
{
    struct rank *r = arg;
    float *x = malloc(NUMBERS * sizeof *x);

    r->status = HTH_OK;
    for (int i = 0; i < CALLS && r->status == HTH_OK; i++) {
        for (uint32_t k = 0; k < NUMBERS; k++)
            x[k] = 1.0f;
        r->status =
            hth_star_all_reduce(r->star, x, NUMBERS, (enum hth_wire)(i % 3));
        for (uint32_t k = 0; k < NUMBERS && r->status == HTH_OK; k++)
            HTH_ASSERT(x[k] > 2.9f && x[k] < 3.1f);
    }
    free(x);
    return NULL;
}

static void open_ranks(struct rank *r, struct hth_pool *pool)
{
    for (uint32_t k = 1; k < RANKS; k++) {
        int fd[2];

        HTH_ASSERT(socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == 0);
        r[0].link[k - 1] = raw(fd[0], false);
        r[k].link[0] = raw(fd[1], true);
    }
    for (uint32_t k = 0; k < RANKS; k++) {
        struct hth_star_opts o = {.rank = k,
                                  .ranks = RANKS,
                                  .links = r[k].link,
                                  .pool = k ? NULL : pool,
                                  .timeout_ms = 20000};

        HTH_ASSERT(hth_star_open(&r[k].star, &o, NULL) == HTH_OK);
    }
}

/* stop_after_ms 0: let it finish. */
static void star_round(struct hth_pool *pool, uint32_t stop_after_ms)
{
    struct rank r[RANKS] = {{0}};
    pthread_t t[RANKS];

    open_ranks(r, pool);
    for (uint32_t k = 1; k < RANKS; k++)
        pthread_create(&t[k], NULL, run_rank, &r[k]);
    if (stop_after_ms == 0) {
        run_rank(&r[0]); /* the pool's thread 0 */
    } else {
        hth_sleep_ms(stop_after_ms);
        for (uint32_t k = 1; k < RANKS; k++)
            hth_star_shutdown(r[k].star);
    }
    for (uint32_t k = 1; k < RANKS; k++)
        pthread_join(t[k], NULL);
    for (uint32_t k = 0; k < RANKS; k++)
        HTH_ASSERT(stop_after_ms > 0 || r[k].status == HTH_OK);
    for (uint32_t k = 0; k < RANKS; k++)
        hth_star_close(r[k].star);
    for (uint32_t k = 1; k < RANKS; k++) {
        hth_link_close(r[0].link[k - 1]);
        hth_link_close(r[k].link[0]);
    }
}

/* ---- one listener, several devices --------------------------------------- */

struct device {
    struct hth_identity *id;
    char code[HTH_CODE_SIZE];
    uint16_t port;
};

static atomic_int g_links;

static void on_link(void *ctx, struct hth_link *link)
{
    (void)ctx;
    atomic_fetch_add(&g_links, 1);
    hth_link_close(link);
}

static void *run_device(void *arg)
{
    struct device *d = arg;
    struct hth_join_opts j = {.identity = d->id,
                              .host = "127.0.0.1",
                              .port = d->port,
                              .code = d->code,
                              .name = "device",
                              .timeout_ms = 60000};
    struct hth_link_opts o = {.identity = d->id, .handshake_ms = 60000};
    struct hth_link *l = NULL;
    struct hth_err err;

    if (hth_pairing_join(&j, &err) != HTH_OK ||
        hth_link_connect(&l, "127.0.0.1", d->port, &o, &err) != HTH_OK) {
        fprintf(stderr, "%s\n", err.text);
        abort();
    }
    hth_link_close(l);
    return NULL;
}

static struct hth_identity *identity_in(const char *dir, const char *name)
{
    struct hth_identity *id = NULL;
    char path[200];

    snprintf(path, sizeof path, "%s/%s", dir, name);
    HTH_ASSERT(hth_identity_open(&id, path, NULL) == HTH_OK);
    return id;
}

static void listener_round(const char *dir)
{
    struct device d[3];
    struct hth_pairing_opts p = {
        .name = "c", .control_port = 2, .data_port = 1};
    struct hth_listen_opts o = {.host = "127.0.0.1", .on_link = on_link};
    struct hth_identity *id = identity_in(dir, "c");
    struct hth_listener *l;
    struct hth_ca *ca;
    pthread_t t[3];
    char path[200];

    snprintf(path, sizeof path, "%s/c", dir);
    HTH_ASSERT(hth_ca_open(&ca, path, NULL) == HTH_OK);
    HTH_ASSERT(hth_ca_enroll(ca, id, NULL) == HTH_OK);
    snprintf(path, sizeof path, "%s/c/devices.json", dir);
    HTH_ASSERT(hth_registry_open(&p.registry, path, NULL) == HTH_OK);
    p.ca = ca;
    p.identity = id;
    HTH_ASSERT(hth_pairing_open(&o.pairing, &p, NULL) == HTH_OK);
    o.link = (struct hth_link_opts){.identity = id,
                                    .allowed = hth_registry_allowed,
                                    .allowed_ctx = p.registry};
    HTH_ASSERT(hth_listen_start(&l, &o, NULL) == HTH_OK);
    for (int i = 0; i < 3; i++) {
        char name[8];

        snprintf(name, sizeof name, "d%d", i);
        d[i].id = identity_in(dir, name);
        d[i].port = hth_listen_port(l);
        HTH_ASSERT(hth_pairing_issue(o.pairing, 0, d[i].code, NULL) == HTH_OK);
        pthread_create(&t[i], NULL, run_device, &d[i]);
    }
    for (int i = 0; i < 3; i++) {
        pthread_join(t[i], NULL);
        hth_identity_close(d[i].id);
    }
    hth_listen_stop(l);
    HTH_ASSERT(atomic_load(&g_links) == 3);
    hth_pairing_close(o.pairing);
    hth_registry_close(p.registry);
    hth_ca_close(ca);
    hth_identity_close(id);
}

static int remove_one(const char *path, const struct stat *st, int kind,
                      struct FTW *at)
{
    (void)st;
    (void)kind;
    (void)at;
    return remove(path);
}

int main(void)
{
    char dir[] = "/tmp/hearth-tsan-XXXXXX";
    struct hth_pool *pool = NULL;

    HTH_ASSERT(mkdtemp(dir) != NULL);
    HTH_ASSERT(hth_isa_init(NULL) == HTH_OK);
    HTH_ASSERT(hth_pool_start(&pool, 2, false, NULL) == HTH_OK);
    star_round(NULL, 0);
    star_round(pool, 0);
    star_round(pool, 20);
    hth_pool_stop(pool);
    listener_round(dir);
    HTH_ASSERT(nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS) == 0);
    printf("link_tsan: ok\n");
    return 0;
}
