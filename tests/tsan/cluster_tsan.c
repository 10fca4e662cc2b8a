/* cluster_tsan.c - a coordinator and two workers in one process under
 * ThreadSanitizer: form, answer, load an adapter and take it away, lose a
 * worker, answer again, close. A plain main, because Criterion and
 * ThreadSanitizer do not go together. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/client.h"
#include "coordinator/cluster_internal.h"
#include "kernels/type.h"
#include "model/synth.h"
#include "worker/daemon.h"
#include "tests/tsan/check.h"

static char dir[] = "/tmp/hearth-tsan-XXXXXX";
static struct hth_err err;

struct worker {
    struct hth_worker_opts opts;
    char name[16], state[64], store[64], code[16];
    volatile sig_atomic_t stop;
    pthread_t thread;
};

static void *worker_main(void *arg)
{
    struct worker *w = arg;
    struct hth_err why;

    if (hth_worker_run(&w->opts, &w->stop, &why) != HTH_OK)
        fprintf(stderr, "worker: %s\n", why.text);
    return NULL;
}

static void start(struct worker *w, struct hth_cluster *c, int i, bool pair)
{
    struct hth_cluster_code code;

    memset(w, 0, sizeof *w);
    snprintf(w->name, sizeof w->name, "device-%d", i);
    snprintf(w->state, sizeof w->state, "%s/worker%d", dir, i);
    snprintf(w->store, sizeof w->store, "%s/store%d", dir, i);
    w->opts.host = "127.0.0.1";
    w->opts.port = hth_cluster_port(c);
    w->opts.name = w->name;
    w->opts.threads = 1;
    w->opts.store_dir = w->store;
    w->opts.state_dir = w->state;
    if (pair) {
        CHECK(hth_cluster_pair_code(c, &code, &err) == HTH_OK);
        snprintf(w->code, sizeof w->code, "%s", code.code);
        w->opts.code = w->code;
    }
    CHECK(pthread_create(&w->thread, NULL, worker_main, w) == 0);
}

/* A signal would set the flag from this very process; a plain store from
 * another thread is the same to the program but not to ThreadSanitizer. */
static void stop(struct worker *w)
{
    __atomic_store_n(&w->stop, 1, __ATOMIC_RELAXED);
    pthread_join(w->thread, NULL);
}

/* With an adapter, or those of every request. */
static void ask(struct hth_cluster *c, const char *lora)
{
    struct hth_client_opts o = {.url = hth_cluster_url(c)};
    struct hth_client *client;
    struct hth_msg_submit g;
    struct hth_event e;
    uint64_t id;

    CHECK(hth_client_open(&client, &o, &err) == HTH_OK);
    hth_msg_submit_init(&g);
    g.text = (struct hth_blob){(const uint8_t *)"Once", 4};
    g.tokens_max = 12;
    snprintf(g.lora, sizeof g.lora, "%s", lora);
    CHECK(hth_client_submit(client, &g, &id, &err) == HTH_OK);
    do
        CHECK(hth_client_next(client, id, &e, 60000, &err) == HTH_OK);
    while (e.kind != HTH_EVENT_DONE && e.kind != HTH_EVENT_ERROR);
    snprintf(err.text, sizeof err.text, "%.*s", (int)e.text.n,
             e.text.n > 0 ? (const char *)e.text.p : "");
    CHECK(e.kind == HTH_EVENT_DONE);
    hth_client_close(client);
}

static void make_lora(const char *path, uint64_t seed)
{
    struct hth_synth_lora_opts o = {.model_path = "models/tale-q8_0.gguf",
                                    .type = "F16",
                                    .rank = 4,
                                    .seed = seed};

    CHECK(hth_synth_lora(&o, path, &err) == HTH_OK);
}

/* While another one answers, as a request over HTTP does it. */
static void load_and_unload(struct hth_cluster *c)
{
    CHECK(hth_loras_load(c->loras, "second", "second.gguf", &err) == HTH_OK);
    ask(c, "first:0.5");
    CHECK(hth_loras_wait(c->loras, "second", 60000, &err) == HTH_OK);
    ask(c, "second,first:-1");
    CHECK(hth_loras_unload(c->loras, "second", &err) == HTH_OK);
    ask(c, "first");
}

int main(void)
{
    struct hth_cluster_opts o = {.model_path = "models/tale-q8_0.gguf",
                                 .bind = "127.0.0.1",
                                 .threads = 1,
                                 .shares = {1, 1, 1},
                                 .share_count = 3,
                                 .kv_type = HTH_F16};
    struct hth_cluster *c;
    struct worker a, b;
    char state[64], cmd[96], first[64], second[64];
    const char *loras[] = {first};

    if (mkdtemp(dir) == NULL)
        return 1;
    hth_log_set_level(HTH_LOG_ERROR);
    snprintf(state, sizeof state, "%s/coordinator", dir);
    snprintf(first, sizeof first, "%s/first.gguf", dir);
    snprintf(second, sizeof second, "%s/second.gguf", dir);
    make_lora(first, 1);
    make_lora(second, 2);
    o.loras = loras;
    o.lora_count = 1;
    o.lora_dir = dir;
    o.state_dir = state;
    CHECK(hth_cluster_open(&c, &o, &err) == HTH_OK);
    start(&a, c, 1, true);
    start(&b, c, 2, true);
    CHECK(hth_cluster_wait_ready(c, 60000, &err) == HTH_OK);
    ask(c, "");
    load_and_unload(c);
    stop(&a);
    start(&a, c, 1, false);
    ask(c, "first:2");
    stop(&a);
    stop(&b);
    hth_cluster_close(c);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    return system(cmd) == 0 ? 0 : 1;
}
