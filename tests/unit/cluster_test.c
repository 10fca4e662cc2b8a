/* cluster_test.c - a coordinator and workers in one process, over loopback
 * TLS: the same answer by any number of ranks, no byte of weights twice,
 * strangers and revoked devices kept out, losses told by name. */
#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "coordinator/client.h"
#include "coordinator/cluster.h"
#include "kernels/type.h"
#include "net/admission.h"
#include "net/star.h"
#include "worker/daemon.h"

#define MODEL "models/tale-q8_0.gguf"
#define PROMPT "The door opened and"
#define WORKERS_MAX 3u

static char dir[] = "/tmp/hearth-cluster-XXXXXX";

struct worker {
    struct hth_worker_opts opts;
    char name[16], state[64], store[64], code[16];
    volatile sig_atomic_t stop;
    pthread_t thread;
    bool running;
    int status;
    struct hth_err err;
};
static struct worker workers[WORKERS_MAX];

static void set_up(void)
{
    cr_assert_not_null(mkdtemp(dir));
    hth_log_set_level(HTH_LOG_ERROR);
}

/* What failed has been reported by now; leaving here hides nothing. */
static void tear_down(void)
{
    char cmd[128];

    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    cr_assert_eq(system(cmd), 0);
    if (hth_control_stuck())
        _exit(0); /* Criterion would wait for its own NNG sockets */
}

TestSuite(cluster, .init = set_up, .fini = tear_down, .timeout = 60,
          .exit_code = 0);

static struct hth_cluster *open_cluster(uint32_t ranks, uint16_t port)
{
    struct hth_cluster_opts o = {.model_path = MODEL,
                                 .bind = "127.0.0.1",
                                 .port = port,
                                 .threads = 1,
                                 .share_count = ranks,
                                 .wire = HTH_WIRE_F32,
                                 .kv_type = HTH_F16,
                                 .ctx = 2048,
                                 .offline = ranks == 1,
                                 .name = "attic",
                                 .wait_ms = 10000};
    static char state[64];
    struct hth_cluster *c;
    struct hth_err err;
    uint32_t i;

    snprintf(state, sizeof state, "%s/coordinator", dir);
    o.state_dir = ranks == 1 ? NULL : state;
    for (i = 0; i < ranks; i++)
        o.shares[i] = 1 + i;
    cr_assert_eq(hth_cluster_open(&c, &o, &err), HTH_OK, "%s", err.text);
    return c;
}

static void *worker_main(void *arg)
{
    struct worker *w = arg;

    w->status = hth_worker_run(&w->opts, &w->stop, &w->err);
    return NULL;
}

/* Start worker i; code NULL: it has been paired before. */
static struct worker *start_worker(uint32_t i, uint16_t port, const char *code)
{
    struct worker *w = &workers[i];

    memset(w, 0, sizeof *w);
    snprintf(w->name, sizeof w->name, "device-%u", i);
    snprintf(w->state, sizeof w->state, "%s/worker%u", dir, i);
    snprintf(w->store, sizeof w->store, "%s/store%u", dir, i);
    if (code != NULL)
        snprintf(w->code, sizeof w->code, "%s", code);
    w->opts = (struct hth_worker_opts){.host = "127.0.0.1",
                                       .port = port,
                                       .code = code != NULL ? w->code : NULL,
                                       .name = w->name,
                                       .threads = 1,
                                       .store_dir = w->store,
                                       .state_dir = w->state};
    cr_assert_eq(pthread_create(&w->thread, NULL, worker_main, w), 0);
    w->running = true;
    return w;
}

static int stop_worker(struct worker *w)
{
    w->stop = 1;
    pthread_join(w->thread, NULL);
    w->running = false;
    return w->status;
}

static void pair_worker(struct hth_cluster *c, uint32_t i)
{
    struct hth_cluster_code code;
    struct hth_err err;

    cr_assert_eq(hth_cluster_pair_code(c, &code, &err), HTH_OK, "%s", err.text);
    start_worker(i, hth_cluster_port(c), code.code);
}

static void wait_ready(struct hth_cluster *c)
{
    struct hth_err err = {0};

    cr_assert_eq(hth_cluster_wait_ready(c, 20000, &err), HTH_OK, "%s",
                 err.text);
}

static struct hth_client *connect_client(struct hth_cluster *c)
{
    struct hth_client_opts o = {.url = hth_cluster_url(c)};
    struct hth_client *client;
    struct hth_err err;

    cr_assert_eq(hth_client_open(&client, &o, &err), HTH_OK, "%s", err.text);
    return client;
}

struct answer {
    char text[4096];
    size_t len;
    uint32_t ids[256], tokens;
    uint32_t waited;
    uint8_t last; /* kind of the last event */
    uint8_t finish;
    int status;
    char error[HTH_ERR_TEXT_MAX];
};

static void take_event(struct answer *a, const struct hth_event *e)
{
    a->last = e->kind;
    a->finish = e->finish;
    a->status = e->status;
    a->waited += e->kind == HTH_EVENT_WAITING;
    if (e->kind == HTH_EVENT_TOKEN)
        a->ids[a->tokens++ % 256] = e->token;
    if (e->kind == HTH_EVENT_TOKEN || e->kind == HTH_EVENT_DONE) {
        cr_assert_lt(a->len + e->text.n, sizeof a->text);
        memcpy(a->text + a->len, e->text.p, e->text.n);
        a->len += e->text.n;
        a->text[a->len] = '\0';
    }
    if (e->kind == HTH_EVENT_ERROR)
        snprintf(a->error, sizeof a->error, "%.*s", (int)e->text.n,
                 (const char *)e->text.p);
}

/* Events until the last one, or until `until` tokens came. */
static void follow(struct hth_client *client, uint64_t id, struct answer *a,
                   uint32_t until)
{
    struct hth_err err = {0};
    struct hth_event e;
    int status;

    do {
        status = hth_client_next(client, id, &e, 15000, &err);
        cr_assert_eq(status, HTH_OK, "%s", err.text);
        take_event(a, &e);
    } while (a->last != HTH_EVENT_DONE && a->last != HTH_EVENT_ERROR &&
             a->tokens < until);
}

static uint64_t submit(struct hth_client *client, uint32_t tokens)
{
    struct hth_msg_submit g;
    struct hth_err err;
    uint64_t id;

    hth_msg_submit_init(&g);
    g.text = (struct hth_blob){(const uint8_t *)PROMPT, strlen(PROMPT)};
    g.temperature = 0;
    g.tokens_max = tokens;
    g.ignore_end = true;
    cr_assert_eq(hth_client_submit(client, &g, &id, &err), HTH_OK, "%s",
                 err.text);
    return id;
}

static void ask(struct hth_cluster *c, struct answer *a)
{
    struct hth_client *client = connect_client(c);

    memset(a, 0, sizeof *a);
    follow(client, submit(client, 24), a, UINT32_MAX);
    hth_client_close(client);
}

/* Fill *out with what `hearth nodes` knows about a device. */
static bool node(struct hth_cluster *c, const char *name,
                 struct hth_msg_node *out)
{
    struct hth_client *client = connect_client(c);
    struct hth_msg_nodes nodes;
    struct hth_cursor cursor;
    bool found = false;

    cr_assert_eq(hth_client_nodes(client, &nodes, NULL), HTH_OK);
    hth_cursor_init(&cursor, nodes.list.p, nodes.list.n);
    while (!found && hth_msg_node_next(&cursor, out))
        found = strcmp(out->name, name) == 0;
    hth_client_close(client);
    return found;
}

static void close_all(struct hth_cluster *c)
{
    uint32_t i;

    for (i = 0; i < WORKERS_MAX; i++)
        if (workers[i].running)
            stop_worker(&workers[i]);
    hth_cluster_close(c);
}

Test(cluster, three_ranks_answer_like_one)
{
    struct hth_cluster *c = open_cluster(1, 0);
    struct answer one, three;

    wait_ready(c);
    ask(c, &one);
    cr_assert_eq(one.last, HTH_EVENT_DONE, "%s", one.error);
    cr_assert_eq(one.finish, HTH_FINISH_LENGTH);
    cr_assert_eq(one.tokens, 24);
    hth_cluster_close(c);
    c = open_cluster(3, 0);
    pair_worker(c, 0);
    pair_worker(c, 1);
    wait_ready(c);
    ask(c, &three);
    cr_assert_eq(three.last, HTH_EVENT_DONE, "%s", three.error);
    cr_assert_eq(memcmp(one.ids, three.ids, sizeof one.ids), 0);
    cr_assert_str_eq(one.text, three.text);
    close_all(c);
}

static int keep_row(void *ctx, uint32_t position, const float *logits,
                    uint32_t vocab)
{
    float *out = ctx;

    memcpy(out + (size_t)position * vocab, logits, sizeof *out * vocab);
    return 0;
}

#define ROWS 9u
#define VOCAB 2048u

static void logits_of(struct hth_cluster *c, float *out)
{
    uint32_t tokens[ROWS] = {1, 5, 300, 77, 1200, 8, 9, 2047, 42};
    struct hth_logits_opts o = {
        .tokens = tokens, .count = ROWS, .sink = keep_row, .ctx = out};
    struct hth_err err = {0};

    wait_ready(c);
    cr_assert_eq(hth_cluster_logits(c, &o, &err), HTH_OK, "%s", err.text);
    tokens[3] = VOCAB;
    cr_assert_eq(hth_cluster_logits(c, &o, &err), HTH_EINVAL);
}

Test(cluster, logits_through_two_ranks)
{
    static float one[ROWS * VOCAB], two[ROWS * VOCAB];
    struct hth_cluster *c = open_cluster(1, 0);
    float worst = 0, d;
    uint32_t i;

    logits_of(c, one);
    hth_cluster_close(c);
    c = open_cluster(2, 0);
    pair_worker(c, 0);
    logits_of(c, two);
    close_all(c);
    for (i = 0; i < ROWS * VOCAB; i++) {
        d = one[i] > two[i] ? one[i] - two[i] : two[i] - one[i];
        worst = d > worst ? d : worst;
    }
    cr_assert_lt(worst, 0.05f, "q8 weights, f32 wire: %g", (double)worst);
    cr_assert_neq(one[100], one[VOCAB + 100], "rows differ");
}

/* A worker that comes back, and then a coordinator that comes back, find the
 * weights where they left them. */
Test(cluster, weights_travel_once)
{
    struct hth_cluster *c = open_cluster(2, 0);
    struct hth_msg_node n;
    struct answer a, b;
    uint16_t port;

    pair_worker(c, 0);
    wait_ready(c);
    ask(c, &a);
    cr_assert(node(c, "device-0", &n));
    cr_assert_gt(n.sent_bytes, 1000000u);
    cr_assert_eq(n.sent_bytes, n.shard_bytes);
    cr_assert_eq(n.state, HTH_NODE_READY);
    cr_assert_eq(stop_worker(&workers[0]), HTH_OK);
    port = hth_cluster_port(c);
    start_worker(0, port, NULL);
    ask(c, &b);
    cr_assert_eq(b.last, HTH_EVENT_DONE, "%s", b.error);
    cr_assert_str_eq(a.text, b.text);
    cr_assert(node(c, "device-0", &n));
    cr_assert_eq(n.sent_bytes, 0, "%llu", (unsigned long long)n.sent_bytes);
    hth_cluster_close(c);
    c = open_cluster(2, port);
    wait_ready(c);
    ask(c, &b);
    cr_assert_str_eq(a.text, b.text);
    cr_assert(node(c, "device-0", &n));
    cr_assert_eq(n.sent_bytes, 0);
    close_all(c);
}

/* The answer under way ends with a sentence that names the device; the next
 * one waits for it to come back. */
Test(cluster, a_lost_worker_is_named)
{
    struct hth_cluster *c = open_cluster(2, 0);
    struct hth_client *client;
    struct answer a = {0};
    uint64_t id;

    pair_worker(c, 0);
    wait_ready(c);
    client = connect_client(c);
    id = submit(client, 2000);
    follow(client, id, &a, 5);
    cr_assert_eq(a.last, HTH_EVENT_TOKEN);
    stop_worker(&workers[0]);
    follow(client, id, &a, UINT32_MAX);
    cr_assert_eq(a.last, HTH_EVENT_ERROR, "%u tokens came", a.tokens);
    cr_assert_not_null(strstr(a.error, "device-0"), "%s", a.error);
    id = submit(client, 5);
    start_worker(0, hth_cluster_port(c), NULL);
    a = (struct answer){0};
    follow(client, id, &a, UINT32_MAX);
    cr_assert_eq(a.last, HTH_EVENT_DONE, "%s", a.error);
    cr_assert_gt(a.waited, 0u);
    hth_client_close(client);
    close_all(c);
}

Test(cluster, requests_wait_only_so_long)
{
    struct hth_cluster *c = open_cluster(2, 0);
    struct answer a;
    uint64_t start = hth_now_ms();

    ask(c, &a);
    cr_assert_eq(a.last, HTH_EVENT_ERROR);
    cr_assert_eq(a.status, HTH_EUNREACHABLE);
    cr_assert_not_null(strstr(a.error, "1 more device"), "%s", a.error);
    cr_assert_lt(hth_now_ms() - start, 14000u);
    hth_cluster_close(c);
}

Test(cluster, cancelling)
{
    struct hth_cluster *c = open_cluster(1, 0);
    struct hth_client *client;
    struct answer a = {0};
    struct hth_event e;
    uint64_t id;

    wait_ready(c);
    client = connect_client(c);
    id = submit(client, 2000);
    follow(client, id, &a, 3);
    cr_assert_eq(hth_client_cancel(client, id, NULL), HTH_OK);
    follow(client, id, &a, UINT32_MAX);
    cr_assert_eq(a.last, HTH_EVENT_DONE);
    cr_assert(a.finish == HTH_FINISH_CANCELLED || a.tokens == 2000);
    cr_assert_eq(hth_client_next(client, id, &e, 10, NULL), HTH_ENOTFOUND);
    hth_client_close(client);
    hth_cluster_close(c);
}

Test(cluster, wrong_code)
{
    struct hth_cluster *c = open_cluster(2, 0);
    struct worker *w = start_worker(0, hth_cluster_port(c), "AAAA-AAAA");

    pthread_join(w->thread, NULL);
    w->running = false;
    cr_assert_eq(w->status, HTH_EAUTH);
    cr_assert_not_null(strstr(w->err.text, "code"), "%s", w->err.text);
    close_all(c);
}

Test(cluster, revoked)
{
    struct hth_cluster *c = open_cluster(2, 0);
    struct hth_client *client;
    struct worker *w = &workers[0];
    struct hth_err err;

    pair_worker(c, 0);
    wait_ready(c);
    client = connect_client(c);
    cr_assert_eq(hth_client_revoke(client, "nobody", &err), HTH_ENOTFOUND);
    cr_assert_eq(hth_client_revoke(client, "device-0", &err), HTH_OK);
    pthread_join(w->thread, NULL);
    cr_assert_eq(w->status, HTH_EAUTH);
    cr_assert_not_null(strstr(w->err.text, "revoked"), "%s", w->err.text);
    w = start_worker(0, hth_cluster_port(c), NULL);
    pthread_join(w->thread, NULL);
    w->running = false;
    cr_assert_eq(w->status, HTH_EAUTH, "still");
    cr_assert_not_null(strstr(w->err.text, "revoked"), "%s", w->err.text);
    pair_worker(c, 0);
    wait_ready(c);
    hth_client_close(client);
    close_all(c);
}

/* ---- strangers on the control port ----------------------------------------*/

static char boss_id[HTH_DEVICE_ID_SIZE];

/* The coordinator, as worker 0 knows it from its pairing. */
static void find_boss(void)
{
    struct hth_identity *id;
    char path[96];

    snprintf(path, sizeof path, "%s/worker0", dir);
    cr_assert_eq(hth_identity_open(&id, path, NULL), HTH_OK);
    snprintf(boss_id, sizeof boss_id, "%s", hth_identity_coordinator(id)->id);
    hth_identity_close(id);
}

struct stranger {
    struct hth_identity *identity;
    struct hth_control_client *client;
    struct hth_control_slot *slot;
};

static void stranger_open(struct stranger *s, const char *state, uint16_t port,
                          const char *expect_id)
{
    char path[96], url[64];
    struct hth_control_point point = {url, NULL, expect_id};
    struct hth_err err;

    snprintf(path, sizeof path, "%s/%s", dir, state);
    cr_assert_eq(hth_identity_open(&s->identity, path, &err), HTH_OK);
    cr_assert_eq(
        hth_control_tls_url(url, sizeof url, "127.0.0.1", (uint16_t)(port + 1)),
        HTH_OK);
    point.identity = s->identity;
    cr_assert_eq(hth_control_client_open(&s->client, &point, &err), HTH_OK);
    cr_assert_eq(hth_control_slot_open(&s->slot, s->client, &err), HTH_OK);
}

static void stranger_close(struct stranger *s)
{
    hth_control_slot_close(s->slot);
    hth_control_client_close(s->client);
    hth_identity_close(s->identity);
}

/* A member's certificate opens the connection, and nothing else: without
 * hello no request is served, with a bad proof neither, and a member may not
 * pair or revoke. */
Test(cluster, hello_comes_first)
{
    struct hth_cluster *c = open_cluster(2, 0);
    struct hth_msg ask_m = {.type = HTH_MSG_LIST}, got;
    struct stranger s;
    struct hth_err err;

    pair_worker(c, 0);
    wait_ready(c);
    stop_worker(&workers[0]);
    find_boss();
    stranger_open(&s, "worker0", hth_cluster_port(c), boss_id);
    cr_assert_eq(hth_control_ask(s.slot, &ask_m, HTH_MSG_NODES, &got, &err),
                 HTH_EPROTO);
    cr_assert_eq(got.type, HTH_MSG_WHO, "%s", hth_msg_type_text(got.type));
    ask_m = (struct hth_msg){.type = HTH_MSG_NEXT};
    cr_assert_eq(hth_control_ask(s.slot, &ask_m, HTH_MSG_COMMAND, &got, &err),
                 HTH_EPROTO);
    cr_assert_eq(got.type, HTH_MSG_WHO);
    ask_m = (struct hth_msg){.type = HTH_MSG_PROVE};
    cr_assert_eq(hth_control_ask(s.slot, &ask_m, HTH_MSG_WELCOME, &got, &err),
                 HTH_EPROTO);
    stranger_close(&s);
    close_all(c);
}

static void say_hello(struct stranger *s, struct hth_msg_hello *hello,
                      struct hth_msg *got)
{
    const char *pem = hth_identity_cert_pem(s->identity);
    struct hth_msg m = {.type = HTH_MSG_HELLO};
    struct hth_err err;

    hello->protocol_min = HTH_PROTOCOL_MIN;
    hello->protocol_max = HTH_PROTOCOL_MAX;
    hello->role = HTH_PEER_CLIENT;
    snprintf(hello->name, sizeof hello->name, "mallory");
    snprintf(hello->device, sizeof hello->device, "%s",
             hth_identity_id(s->identity));
    hello->certificate = (struct hth_blob){(const uint8_t *)pem, strlen(pem)};
    m.u.hello = *hello;
    cr_assert_eq(hth_control_ask(s->slot, &m, HTH_MSG_CHALLENGE, got, &err),
                 HTH_OK, "%s", err.text);
}

/* Each side learns which of the two has to be upgraded. */
Test(cluster, versions_that_do_not_meet)
{
    struct hth_cluster *c = open_cluster(2, 0);
    struct hth_msg m = {.type = HTH_MSG_HELLO}, got;
    struct stranger s;
    struct hth_err err;

    pair_worker(c, 0);
    wait_ready(c);
    stop_worker(&workers[0]);
    find_boss();
    stranger_open(&s, "worker0", hth_cluster_port(c), boss_id);
    snprintf(m.u.hello.name, sizeof m.u.hello.name, "future");
    m.u.hello.protocol_min = HTH_PROTOCOL_MAX + 1;
    m.u.hello.protocol_max = HTH_PROTOCOL_MAX + 2;
    cr_assert_eq(hth_control_ask(s.slot, &m, HTH_MSG_CHALLENGE, &got, &err),
                 HTH_EVERSION);
    cr_assert_not_null(strstr(err.text, "upgrade hearth on the coordinator"),
                       "%s", err.text);
    stranger_close(&s);
    close_all(c);
}

Test(cluster, a_signature_for_another_challenge_is_refused)
{
    struct hth_cluster *c = open_cluster(2, 0);
    struct hth_msg m = {.type = HTH_MSG_PROVE}, got;
    struct hth_msg_hello hello = {0};
    struct stranger s;
    struct hth_buf text;
    struct hth_sig sig;
    struct hth_err err;

    pair_worker(c, 0);
    wait_ready(c);
    stop_worker(&workers[0]);
    find_boss();
    stranger_open(&s, "worker0", hth_cluster_port(c), boss_id);
    say_hello(&s, &hello, &got);
    got.u.challenge.nonce[0] ^= 1;
    hth_buf_init(&text, 512);
    hth_msg_proof_text(&text, &hello, &got.u.challenge);
    cr_assert_eq(hth_identity_sign(s.identity, text.data, text.len, &sig, &err),
                 HTH_OK);
    m.u.prove.signature = (struct hth_blob){sig.bytes, sig.len};
    cr_assert_eq(hth_control_ask(s.slot, &m, HTH_MSG_WELCOME, &got, &err),
                 HTH_EAUTH);
    cr_assert_not_null(strstr(err.text, "proof of mallory"), "%s", err.text);
    hth_buf_fini(&text);
    stranger_close(&s);
    close_all(c);
}

Test(cluster, members_cannot_pair_or_revoke)
{
    struct hth_cluster *c = open_cluster(2, 0);
    struct hth_msg m = {.type = HTH_MSG_PAIR}, got;
    struct hth_msg_hello hello = {0};
    struct hth_msg_welcome welcome;
    struct hth_admission_self self;
    struct stranger s;
    struct hth_err err;

    pair_worker(c, 0);
    wait_ready(c);
    stop_worker(&workers[0]);
    find_boss();
    stranger_open(&s, "worker0", hth_cluster_port(c), boss_id);
    hello.role = HTH_PEER_CLIENT;
    self = (struct hth_admission_self){s.slot, s.identity, boss_id, &hello};
    cr_assert_eq(hth_admission_ask(&self, &welcome, &err), HTH_OK, "%s",
                 err.text);
    cr_assert_str_eq(welcome.name, "attic");
    cr_assert_eq(hth_control_ask(s.slot, &m, HTH_MSG_CODE, &got, &err),
                 HTH_EAUTH);
    m = (struct hth_msg){.type = HTH_MSG_REVOKE};
    snprintf(m.u.revoke.device, sizeof m.u.revoke.device, "device-0");
    cr_assert_eq(hth_control_ask(s.slot, &m, HTH_MSG_OK, &got, &err),
                 HTH_EAUTH);
    m = (struct hth_msg){.type = HTH_MSG_LIST};
    cr_assert_eq(hth_control_ask(s.slot, &m, HTH_MSG_NODES, &got, &err), HTH_OK,
                 "a client it may be");
    m = (struct hth_msg){.type = HTH_MSG_CHUNK, .u.chunk.length = 1};
    cr_assert_eq(hth_control_ask(s.slot, &m, HTH_MSG_DATA, &got, &err),
                 HTH_EAUTH, "but no worker");
    stranger_close(&s);
    close_all(c);
}

/* A certificate of another cluster does not even get through TLS. */
Test(cluster, a_foreign_certificate_gets_no_connection)
{
    struct hth_cluster *c = open_cluster(2, 0);
    struct hth_msg m = {.type = HTH_MSG_LIST};
    struct hth_identity *id;
    struct hth_ca *ca;
    struct stranger s;
    struct hth_blob body;
    struct hth_buf b;
    struct hth_err err;
    char path[96];

    snprintf(path, sizeof path, "%s/foreign", dir);
    cr_assert_eq(hth_identity_open(&id, path, &err), HTH_OK);
    snprintf(path, sizeof path, "%s/foreign-ca", dir);
    cr_assert_eq(hth_ca_open(&ca, path, &err), HTH_OK);
    cr_assert_eq(hth_ca_enroll(ca, id, &err), HTH_OK);
    hth_identity_close(id);
    hth_ca_close(ca);
    stranger_open(&s, "foreign", hth_cluster_port(c), "AAAA-AAAA-AAAA-AAAA");
    hth_buf_init(&b, 64);
    hth_msg_encode(&b, &m);
    cr_assert_eq(hth_control_send(s.slot, &b, 1000, &err), HTH_OK);
    cr_assert_eq(hth_control_wait(s.slot, &body, &err), HTH_ETIMEDOUT);
    cr_assert(!hth_control_connected(s.client));
    hth_buf_fini(&b);
    stranger_close(&s);
    hth_cluster_close(c);
}

Test(cluster, one_coordinator_per_state_directory)
{
    struct hth_cluster *c = open_cluster(2, 0), *d;
    struct hth_cluster_opts o = {.model_path = MODEL, .bind = "127.0.0.1"};
    char state[64];
    struct hth_err err;

    snprintf(state, sizeof state, "%s/coordinator", dir);
    o.state_dir = state;
    cr_assert_eq(hth_cluster_open(&d, &o, &err), HTH_EBUSY);
    cr_assert_not_null(strstr(err.text, "another hearth coordinator"));
    hth_cluster_close(c);
}
