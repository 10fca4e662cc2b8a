/* pairing_test.c - codes, the exchange, and the port that serves both. */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "net/listen.h"
#include "net/pair_proto.h"
#include "net_cluster.h"

/* ---- a coordinator with its port ----------------------------------------- */

struct host {
    struct tnet t;
    struct hth_pairing *pairing;
    struct hth_listener *listener;
    atomic_int links;
    atomic_int paired;
};

static void on_link(void *ctx, struct hth_link *link)
{
    struct host *h = ctx;

    atomic_fetch_add(&h->links, 1);
    hth_link_close(link);
}

static void on_paired(void *ctx, const struct hth_device *d)
{
    struct host *h = ctx;

    cr_assert(hth_registry_allowed(h->t.registry, d->id));
    atomic_fetch_add(&h->paired, 1);
}

static void quiet(void *ctx, enum hth_log_level level, const char *line)
{
    (void)ctx;
    (void)level;
    (void)line;
}

static void host_open(struct host *h, unsigned devices)
{
    struct hth_pairing_opts p = {.name = "desk",
                                 .control_port = 11,
                                 .data_port = 22,
                                 .on_paired = on_paired,
                                 .on_paired_ctx = h};
    struct hth_listen_opts o = {.host = "127.0.0.1", .on_link = on_link};

    hth_log_set_sink(quiet, NULL);
    tnet_open(&h->t, devices);
    atomic_store(&h->links, 0);
    atomic_store(&h->paired, 0);
    p.ca = h->t.ca;
    p.identity = h->t.id[0];
    p.registry = h->t.registry;
    cr_assert_eq(hth_pairing_open(&h->pairing, &p, NULL), 0);
    o.on_link_ctx = h;
    o.pairing = h->pairing;
    o.link = (struct hth_link_opts){.identity = h->t.id[0],
                                    .allowed = hth_registry_allowed,
                                    .allowed_ctx = h->t.registry};
    cr_assert_eq(hth_listen_start(&h->listener, &o, NULL), 0);
}

static void host_close(struct host *h)
{
    hth_listen_stop(h->listener);
    hth_pairing_close(h->pairing);
    tnet_close(&h->t);
}

static int join(struct host *h, struct hth_identity *id, const char *code,
                struct hth_err *err)
{
    struct hth_join_opts o = {.identity = id,
                              .host = "127.0.0.1",
                              .port = hth_listen_port(h->listener),
                              .code = code,
                              .name = "phone",
                              .timeout_ms = 8000};

    return hth_pairing_join(&o, err);
}

static struct hth_identity *fresh(struct host *h, const char *name)
{
    struct hth_identity *id = NULL;

    cr_assert_eq(hth_identity_open(&id, tnet_path(&h->t, name), NULL), 0);
    return id;
}

static int dial(struct host *h, const struct hth_identity *id,
                struct hth_err *err)
{
    struct hth_link_opts o = {.identity = id, .name = "phone"};
    struct hth_link *l;
    int status = hth_link_connect(&l, "127.0.0.1", hth_listen_port(h->listener),
                                  &o, err);

    if (status == HTH_OK)
        hth_link_close(l);
    return status;
}

static void wait_for(atomic_int *what, int value)
{
    for (int i = 0; i < 3000 && atomic_load(what) != value; i++)
        hth_sleep_ms(1);
    cr_assert_eq(atomic_load(what), value);
}

/* ---- the way it should go ------------------------------------------------ */

Test(pairing, a_code_makes_a_member_that_can_link)
{
    char code[HTH_CODE_SIZE];
    struct hth_identity *id;
    struct hth_device d;
    struct hth_err err = {0};
    struct host h;

    host_open(&h, 1);
    id = fresh(&h, "phone");
    cr_assert_eq(dial(&h, id, &err), HTH_EAUTH, "not before pairing");
    cr_assert_eq(hth_pairing_issue(h.pairing, 0, code, &err), 0);
    cr_assert_eq(hth_pairing_active(h.pairing), 1);
    cr_assert_eq(join(&h, id, code, &err), 0, "%s", err.text);
    cr_assert_eq(hth_pairing_active(h.pairing), 0, "single use");
    cr_assert_eq(atomic_load(&h.paired), 1);
    cr_assert_str_eq(hth_identity_coordinator(id)->id,
                     hth_identity_id(h.t.id[0]));
    cr_assert_str_eq(hth_identity_coordinator(id)->name, "desk");
    cr_assert_eq(hth_identity_coordinator(id)->control_port, 11);
    cr_assert_eq(hth_registry_find(h.t.registry, hth_identity_id(id), &d), 0);
    cr_assert_str_eq(d.name, "phone");
    cr_assert_eq(dial(&h, id, &err), 0, "%s", err.text);
    wait_for(&h.links, 1);
    cr_assert_eq(hth_registry_revoke(h.t.registry, "phone", NULL, NULL), 0);
    cr_assert_eq(dial(&h, id, &err), HTH_EAUTH);
    cr_assert_not_null(strstr(err.text, "revoked"));
    hth_identity_close(id);
    host_close(&h);
}

Test(pairing, a_used_code_is_worth_nothing)
{
    char code[HTH_CODE_SIZE], other[HTH_CODE_SIZE];
    struct hth_identity *a, *b;
    struct hth_err err;
    struct host h;

    host_open(&h, 1);
    a = fresh(&h, "a");
    b = fresh(&h, "b");
    cr_assert_eq(hth_pairing_issue(h.pairing, 0, code, NULL), 0);
    cr_assert_eq(hth_pairing_issue(h.pairing, 0, other, NULL), 0);
    cr_assert_eq(join(&h, a, code, &err), 0, "%s", err.text);
    cr_assert_eq(join(&h, b, code, &err), HTH_EAUTH);
    cr_assert_not_null(strstr(err.text, "used"));
    cr_assert_not(hth_identity_paired(b));
    cr_assert_eq(join(&h, b, other, &err), 0, "the other one still works: %s",
                 err.text);
    hth_identity_close(a);
    hth_identity_close(b);
    host_close(&h);
}

Test(pairing, five_wrong_tries_kill_a_code)
{
    char code[HTH_CODE_SIZE];
    struct hth_identity *id;
    struct hth_err err;
    struct host h;

    host_open(&h, 1);
    id = fresh(&h, "phone");
    cr_assert_eq(hth_pairing_issue(h.pairing, 0, code, NULL), 0);
    for (unsigned i = 0; i < HTH_CODE_TRIES_MAX; i++) {
        cr_assert_eq(hth_pairing_active(h.pairing), 1);
        cr_assert_eq(join(&h, id, "2222-2222", &err), HTH_EAUTH);
        cr_assert_not(hth_identity_paired(id));
    }
    cr_assert_eq(hth_pairing_active(h.pairing), 0);
    cr_assert_eq(join(&h, id, code, &err), HTH_EAUTH);
    cr_assert_not_null(strstr(err.text, "no pairing code is valid"));
    hth_identity_close(id);
    host_close(&h);
}

Test(pairing, codes_expire)
{
    char code[HTH_CODE_SIZE];
    struct hth_identity *id;
    struct hth_err err;
    struct host h;

    host_open(&h, 1);
    id = fresh(&h, "phone");
    cr_assert_eq(hth_pairing_issue(h.pairing, 60, code, NULL), 0);
    hth__pairing_shift_clock(h.pairing, 59000);
    cr_assert_eq(hth_pairing_active(h.pairing), 1);
    hth__pairing_shift_clock(h.pairing, 1001);
    cr_assert_eq(hth_pairing_active(h.pairing), 0);
    cr_assert_eq(join(&h, id, code, &err), HTH_EAUTH);
    hth_identity_close(id);
    host_close(&h);
}

Test(pairing, the_coordinator_does_not_pair_with_itself)
{
    char code[HTH_CODE_SIZE];
    struct hth_err err;
    struct host h;

    host_open(&h, 1);
    cr_assert_eq(hth_pairing_issue(h.pairing, 0, code, NULL), 0);
    cr_assert_eq(join(&h, h.t.id[0], code, &err), HTH_EINVAL);
    cr_assert_eq(hth_pairing_active(h.pairing), 1);
    host_close(&h);
}

/* ---- codes --------------------------------------------------------------- */

Test(pairing, codes_are_bounded_and_different)
{
    char code[HTH_CODES_MAX + 1][HTH_CODE_SIZE];
    char shown[HTH_CODE_SIZE];
    struct host h;

    host_open(&h, 1);
    for (unsigned i = 0; i < HTH_CODES_MAX; i++) {
        cr_assert_eq(hth_pairing_issue(h.pairing, 0, code[i], NULL), 0);
        cr_assert_eq(hth_code_normalise(code[i], shown, NULL), 0);
        cr_assert_str_eq(shown, code[i]);
        for (unsigned k = 0; k < i; k++)
            cr_assert_str_neq(code[i], code[k]);
    }
    cr_assert_eq(hth_pairing_issue(h.pairing, 0, shown, NULL), HTH_ELIMIT);
    hth_pairing_cancel(h.pairing);
    cr_assert_eq(hth_pairing_active(h.pairing), 0);
    cr_assert_eq(hth_pairing_issue(h.pairing, 0, shown, NULL), 0);
    host_close(&h);
}

Test(pairing, codes_as_people_type_them)
{
    static const char *good[] = {"4F7K-9QPX", "4f7k9qpx", " 4F7K 9QPX ",
                                 "4-F-7-K-9-Q-P-X"};
    static const char *bad[] = {"",          "4F7K-9QP",  "4F7K-9QPXX",
                                "4F7K-9QP0", "4F7K-9QPI", "4F7K_9QPX"};
    char out[HTH_CODE_SIZE];
    struct hth_err err;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        cr_assert_eq(hth_code_normalise(good[i], out, NULL), 0);
        cr_assert_str_eq(out, "4F7K-9QPX");
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_eq(hth_code_normalise(bad[i], out, &err), HTH_EINVAL);
}

/* Everybody together is slowed down, whatever codes there are. */
Test(pairing, wrong_tries_are_limited_per_minute)
{
    uint8_t mac[32] = {0}, transcript[32] = {0}, key[32];
    struct hth_err err;
    struct host h;

    host_open(&h, 1);
    for (unsigned i = 0; i < HTH_PAIR_TRIES_PER_MIN; i++)
        cr_assert_eq(hth__pairing_redeem(h.pairing, transcript, mac, key, &err),
                     HTH_EAUTH);
    cr_assert_eq(hth__pairing_redeem(h.pairing, transcript, mac, key, &err),
                 HTH_EBUSY);
    hth__pairing_shift_clock(h.pairing, 60001);
    cr_assert_eq(hth__pairing_redeem(h.pairing, transcript, mac, key, &err),
                 HTH_EAUTH);
    host_close(&h);
}

/* ---- the exchange without a socket --------------------------------------- */

struct talk {
    struct hth__pair_server *server;
    struct hth_buf hello, reply;
    uint8_t transcript[32];
    struct hth__pair_challenge challenge;
};

/* HELLO and CHALLENGE as an honest device does them. */
static void talk_open(struct talk *k, struct host *h,
                      const struct hth_identity *id)
{
    struct hth__pair_hello m = {
        .version_min = 1, .version_max = 1, .name = "phone"};
    uint8_t fp[32] = {7};

    m.pubkey_len = hth_identity_pubkey(id, m.pubkey);
    hth_buf_init(&k->hello, 4096);
    hth_buf_init(&k->reply, HTH_PAIRING_BYTES_MAX);
    hth__pair_hello_encode(&m, &k->hello);
    cr_assert_eq(hth__pair_server_open(&k->server, h->pairing, fp), 0);
    cr_assert_eq(hth__pair_server_input(k->server, k->hello.data, k->hello.len,
                                        &k->reply, NULL),
                 0);
    cr_assert_eq(
        hth__pair_challenge_decode(&k->challenge, k->reply.data, k->reply.len),
        0);
    hth__pair_transcript(fp, (struct hth__bytes){k->hello.data, k->hello.len},
                         (struct hth__bytes){k->reply.data, k->reply.len},
                         k->transcript);
}

static void talk_close(struct talk *k)
{
    hth__pair_server_close(k->server);
    hth_buf_fini(&k->hello);
    hth_buf_fini(&k->reply);
}

/* Send a proof; returns what the server said, its WELCOME in w. */
static int talk_prove(struct talk *k, const struct hth__pair_proof *p,
                      struct hth__pair_welcome *w)
{
    struct hth_buf b;
    int rc;

    hth_buf_init(&b, 4096);
    hth__pair_proof_encode(p, &b);
    hth_buf_reset(&k->reply);
    rc = hth__pair_server_input(k->server, b.data, b.len, &k->reply, NULL);
    cr_assert_eq(hth__pair_welcome_decode(w, k->reply.data, k->reply.len), 0);
    hth_buf_fini(&b);
    return rc;
}

Test(pairing, nothing_is_proved_to_who_has_not_proved)
{
    struct hth__pair_welcome *w = calloc(1, sizeof *w);
    struct hth__pair_proof p = {.mac = {1}};
    char code[HTH_CODE_SIZE];
    struct hth_identity *id;
    struct talk k;
    struct host h;

    host_open(&h, 1);
    id = fresh(&h, "phone");
    cr_assert_eq(hth_pairing_issue(h.pairing, 0, code, NULL), 0);
    talk_open(&k, &h, id);
    cr_assert_eq(hth_identity_sign(id, k.transcript, 32, &p.sig, NULL), 0);
    cr_assert_eq(talk_prove(&k, &p, w), HTH_EAUTH);
    cr_assert_eq(w->status, HTH_EAUTH);
    cr_assert_eq(w->cert_pem[0], '\0');
    cr_assert_eq(memcmp(w->mac, (uint8_t[32]){0}, 32), 0);
    talk_close(&k);
    hth_identity_close(id);
    free(w);
    host_close(&h);
}

/* The right code, but a stranger's public key: somebody in the middle wants
 * their key signed. And a proof made for another session. */
Test(pairing, a_proof_is_good_for_one_key_and_one_session)
{
    struct hth__pair_welcome *w = calloc(1, sizeof *w);
    struct hth__pair_proof p;
    char code[HTH_CODE_SIZE];
    struct hth_identity *id, *other;
    struct talk k[2];
    struct host h;
    uint8_t key[32];

    host_open(&h, 1);
    id = fresh(&h, "phone");
    other = fresh(&h, "other");
    cr_assert_eq(hth_pairing_issue(h.pairing, 0, code, NULL), 0);
    talk_open(&k[0], &h, id);
    talk_open(&k[1], &h, id);
    cr_assert_eq(hth__pair_stretch(code, k[0].challenge.salt,
                                   k[0].challenge.scrypt_log2_n, key),
                 0);
    hth__pair_mac(key, HTH__PAIR_DEVICE, k[0].transcript, p.mac);
    cr_assert_eq(hth_identity_sign(other, k[0].transcript, 32, &p.sig, NULL),
                 0);
    cr_assert_eq(talk_prove(&k[0], &p, w), HTH_EAUTH, "other key");
    cr_assert_eq(hth_identity_sign(id, k[1].transcript, 32, &p.sig, NULL), 0);
    cr_assert_eq(talk_prove(&k[1], &p, w), HTH_EAUTH, "other session");
    hth__pair_mac(key, HTH__PAIR_COORDINATOR, k[1].transcript, p.mac);
    cr_assert_eq(talk_prove(&k[1], &p, w), HTH_EAUTH, "other role");
    hth__pair_mac(key, HTH__PAIR_DEVICE, k[1].transcript, p.mac);
    cr_assert_eq(talk_prove(&k[1], &p, w), 1, "and the right one is right");
    hth__pair_mac(key, HTH__PAIR_COORDINATOR, k[1].transcript, p.mac);
    cr_assert_eq(memcmp(p.mac, w->mac, 32), 0);
    for (int i = 0; i < 2; i++)
        talk_close(&k[i]);
    hth_identity_close(id);
    hth_identity_close(other);
    free(w);
    host_close(&h);
}

Test(pairing, garbage_messages)
{
    struct hth__pair_server *s;
    struct hth_rng r;
    struct hth_buf reply;
    struct host h;
    char code[HTH_CODE_SIZE];
    uint8_t junk[600], fp[32] = {0};

    host_open(&h, 1);
    cr_assert_eq(hth_pairing_issue(h.pairing, 0, code, NULL), 0);
    hth_rng_init(&r, 1);
    hth_buf_init(&reply, HTH_PAIRING_BYTES_MAX);
    for (int i = 0; i < 2000; i++) {
        size_t n = hth_rng_u64(&r) % sizeof junk;

        for (size_t k = 0; k < n; k++)
            junk[k] = (uint8_t)hth_rng_u64(&r);
        if (i % 2)
            memcpy(junk, "HLPR\x01\x01\x00\x01\x00", n < 9 ? n : 9);
        cr_assert_eq(hth__pair_server_open(&s, h.pairing, fp), 0);
        hth_buf_reset(&reply);
        cr_assert_lt(hth__pair_server_input(s, junk, n, &reply, NULL), 0);
        cr_assert_gt(reply.len, 0, "there is always an answer");
        hth__pair_server_close(s);
    }
    cr_assert_eq(hth_pairing_active(h.pairing), 1, "garbage costs no try");
    hth_buf_fini(&reply);
    host_close(&h);
}

/* ---- the port ------------------------------------------------------------ */

static int raw_connect(struct host *h)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons(hth_listen_port(h->listener))};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    cr_assert_eq(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

/* More silent and babbling strangers than there are places: a member still
 * gets its link, and places stay bounded. */
Test(listen, strangers_keep_nobody_out)
{
    enum { STRANGERS = 3 * HTH_HALF_OPEN_MAX };
    struct hth_err err;
    struct host h;
    int fd[STRANGERS];

    host_open(&h, 2);
    for (int i = 0; i < STRANGERS; i++) {
        fd[i] = raw_connect(&h);
        if (i % 3 == 0)
            (void)!send(fd[i], "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL);
        cr_assert_leq(hth_listen_half_open(h.listener), HTH_HALF_OPEN_MAX);
    }
    cr_assert_eq(dial(&h, h.t.id[1], &err), 0, "%s", err.text);
    wait_for(&h.links, 1);
    for (int i = 0; i < STRANGERS; i++)
        close(fd[i]);
    for (int i = 0; i < 3000 && hth_listen_half_open(h.listener) > 0; i++)
        hth_sleep_ms(1);
    cr_assert_eq(hth_listen_half_open(h.listener), 0);
    host_close(&h);
}

Test(listen, a_silent_client_is_dropped_in_time)
{
    struct hth_listen_opts o = {.host = "127.0.0.1"};
    struct hth_listener *l;
    struct host h;
    char byte;
    int fd;

    host_open(&h, 1);
    hth_listen_stop(h.listener);
    o.link = (struct hth_link_opts){.identity = h.t.id[0], .handshake_ms = 100};
    cr_assert_eq(hth_listen_start(&l, &o, NULL), 0);
    h.listener = l;
    fd = raw_connect(&h);
    cr_assert_eq(recv(fd, &byte, 1, 0), 0, "closed, not left hanging");
    close(fd);
    host_close(&h);
}

Test(listen, a_port_in_use_is_a_sentence)
{
    struct hth_listen_opts o = {.host = "127.0.0.1"};
    struct hth_listener *l;
    struct hth_err err;
    struct host h;

    host_open(&h, 1);
    o.port = hth_listen_port(h.listener);
    o.link.identity = h.t.id[0];
    cr_assert_eq(hth_listen_start(&l, &o, &err), HTH_EIO);
    cr_assert_not_null(strstr(err.text, "another"));
    host_close(&h);
}

Test(listen, nobody_there)
{
    struct hth_identity *id;
    struct hth_err err;
    struct host h;
    struct hth_join_opts o = {
        .host = "127.0.0.1", .code = "2222-2222", .timeout_ms = 2000};

    host_open(&h, 1);
    id = fresh(&h, "phone");
    o.identity = id;
    o.port = hth_listen_port(h.listener);
    hth_listen_stop(h.listener);
    h.listener = NULL;
    cr_assert_eq(hth_pairing_join(&o, &err), HTH_EUNREACHABLE);
    cr_assert_not_null(strstr(err.text, "127.0.0.1"));
    o.host = "no.such.host.invalid";
    cr_assert_eq(hth_pairing_join(&o, &err), HTH_EUNREACHABLE);
    hth_identity_close(id);
    host_close(&h);
}
