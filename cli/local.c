/* local.c - a coordinator here, workers beside it, all on loopback. */
#include "cli/local.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cli/cpus.h"
#include "cli/local_worker.h"
#include "cli/model_opts.h"
#include "cli/signals.h"
#include "cli/tempdir.h"
#include "cli/paths.h"
#include "coordinator/client.h"

#define LOOK_MS 100u

struct hth_local {
    struct hth_local_opts opts;
    struct hth_tempdir temp; /* zeroed with one rank */
    char store[HTH_PATH_BYTES_MAX];
    char own_store[HTH_PATH_BYTES_MAX]; /* of rank 0; empty: none */
    char state[HTH_PATH_BYTES_MAX];
    struct hth_cluster *cluster;
    struct hth_local_worker workers[HTH_RANKS_MAX];
    uint32_t started;
    struct hth_cpus cpus; /* as they were before rank 0 was bound */
    cpu_set_t before;
    bool bound; /* rank 0 */
};

int hth_local_options(const struct hth_args *args, struct hth_local_opts *opts,
                      struct hth_err *err)
{
    size_t ranks = 1;
    int rc = HTH_OK;

    memset(opts, 0, sizeof *opts);
    if (hth_args_given(args, "local") && hth_args_given(args, "shares"))
        return hth_fail(err, HTH_EUSAGE,
                        "--local and --shares both say how many ranks there "
                        "are; give one of them");
    opts->shares[0] = 1.0;
    if (hth_args_given(args, "shares")) {
        rc = hth_parse_shares(hth_args_text(args, "shares"), opts->shares,
                              &ranks, err);
    } else if (hth_args_given(args, "local")) {
        ranks = (size_t)hth_args_int(args, "local") + 1;
        for (size_t r = 0; r < ranks; r++)
            opts->shares[r] = 1.0;
    }
    if (rc != HTH_OK)
        return rc;
    opts->ranks = (uint32_t)ranks;
    opts->model_path = hth_args_text(args, "model");
    opts->wire = (uint32_t)hth_wire_option(args);
    opts->kv_type = hth_kv_option(args);
    opts->prefill = hth_prefill_option(args);
    /* the first of a list: `bench` goes through it itself */
    opts->threads = (uint32_t)strtoul(hth_args_text(args, "threads"), NULL, 10);
    opts->memory_bytes = hth_args_size(args, "memory");
    opts->store_dir = hth_args_text(args, "store");
    opts->log_level = hth_args_text(args, "log-level");
    return HTH_OK;
}

void hth_local_loras(const struct hth_args *args, struct hth_local_opts *opts)
{
    opts->lora_count = hth_args_count(args, "lora");
    for (uint32_t i = 0; i < opts->lora_count; i++)
        opts->loras[i] = hth_args_at(args, "lora", i);
}

static uint32_t busy_ranks(const struct hth_local_opts *o)
{
    uint32_t busy = 0;

    for (uint32_t r = 0; r < o->ranks; r++)
        busy += o->shares[r] > 0.0;
    return busy;
}

/* Ranks of one machine share its cores; a spinning rank that has no core of
 * its own would make all wait. Ranks without a share do not count. */
static uint32_t threads_each(const struct hth_local *l)
{
    uint32_t busy = busy_ranks(&l->opts);

    if (l->opts.threads != 0)
        return l->opts.threads;
    return l->cpus.count > busy ? l->cpus.count / busy : 1;
}

/* The CPUs of a rank; false: it may run anywhere. One without a share only
 * passes on, wherever there is room. */
static bool cpus_of(const struct hth_local *l, uint32_t rank, cpu_set_t *out)
{
    const struct hth_local_opts *o = &l->opts;
    uint32_t i = 0;

    if (o->ranks == 1 || o->shares[rank] <= 0.0)
        return false;
    for (uint32_t r = 0; r < rank; r++)
        i += o->shares[r] > 0.0;
    return hth_cpus_part(&l->cpus, i, busy_ranks(o), threads_each(l), out);
}

/* Threads started from here on are bound as this one is. */
static void bind_rank0(struct hth_local *l)
{
    cpu_set_t mine;

    if (sched_getaffinity(0, sizeof l->before, &l->before) == 0 &&
        cpus_of(l, 0, &mine))
        l->bound = sched_setaffinity(0, sizeof mine, &mine) == 0;
}

static int open_cluster(struct hth_local *l, struct hth_err *err)
{
    const struct hth_local_opts *o = &l->opts;
    struct hth_cluster_opts c = {
        .model_path = o->model_path,
        .bind = "127.0.0.1",
        .offline = o->ranks == 1,
        .threads = threads_each(l),
        .memory_bytes = o->memory_bytes,
        .share_count = o->ranks,
        .wire = o->wire,
        .kv_type = o->kv_type,
        .prefill = o->prefill,
        .ctx = o->ctx,
        .state_dir = o->ranks == 1 ? NULL : l->state,
        .store_dir = l->own_store[0] != '\0' ? l->own_store : NULL,
        .name = "local-0",
        .no_compute = o->shares[0] <= 0.0,
        .loras = o->loras,
        .lora_count = o->lora_count,
    };

    memcpy(c.shares, o->shares, sizeof c.shares);
    return hth_cluster_open(&l->cluster, &c, err);
}

static int start_worker(struct hth_local *l, uint32_t number,
                        struct hth_err *err)
{
    struct hth_local_worker_opts w = {
        .number = number,
        .dir = l->temp.path,
        .store_dir = l->store,
        .port = hth_cluster_port(l->cluster),
        .threads = threads_each(l),
        .memory_bytes = l->opts.memory_bytes,
        .log_level = l->opts.log_level,
    };
    struct hth_cluster_code code;
    cpu_set_t cpus;
    int rc = hth_cluster_pair_code(l->cluster, &code, err);

    if (rc != HTH_OK)
        return rc;
    w.code = code.code;
    w.cpus = cpus_of(l, number, &cpus) ? &cpus : l->bound ? &l->before : NULL;
    rc = hth_local_worker_start(&l->workers[l->started], &w, err);
    if (rc == HTH_OK)
        l->started++;
    return rc;
}

/* Bytes of shards in place over all devices: what tells a slow start from one
 * that is stuck. 0 when the coordinator does not say. */
static uint64_t progress_bytes(struct hth_client *client)
{
    struct hth_msg_nodes nodes;
    struct hth_msg_node node;
    struct hth_cursor c;
    uint64_t sum = 0;

    if (client == NULL || hth_client_nodes(client, &nodes, NULL) != HTH_OK)
        return 0;
    hth_cursor_init(&c, nodes.list.p, nodes.list.n);
    while (hth_msg_node_next(&c, &node))
        sum += node.done_bytes + (node.state != HTH_NODE_AWAY);
    return sum;
}

static int check_workers(struct hth_local *l, struct hth_err *err)
{
    for (uint32_t i = 0; i < l->started; i++) {
        if (hth_local_worker_ended(&l->workers[i])) {
            hth_local_worker_describe(&l->workers[i], err);
            return HTH_EPEER;
        }
    }
    return HTH_OK;
}

/* Until ready, with an eye on the workers and on Ctrl-C. Loading may take as
 * long as it takes, but not HTH_LOCAL_PATIENCE_MS without a byte of
 * progress. */
static int wait_ready(struct hth_local *l, struct hth_client *client,
                      struct hth_err *err)
{
    uint64_t moved_ms = hth_now_ms();
    uint64_t before = 0;
    int rc;

    for (;;) {
        uint64_t now;

        rc = hth_cluster_wait_ready(l->cluster, LOOK_MS, err);
        if (rc != HTH_ETIMEDOUT)
            return rc;
        if (hth_interrupted())
            return hth_fail_interrupted(err);
        rc = check_workers(l, err);
        if (rc != HTH_OK)
            return rc;
        now = progress_bytes(client);
        if (now != before)
            moved_ms = hth_now_ms();
        before = now;
        if (hth_now_ms() - moved_ms > HTH_LOCAL_PATIENCE_MS)
            return HTH_ETIMEDOUT;
    }
}

static int wait_with_client(struct hth_local *l, struct hth_err *err)
{
    struct hth_client_opts opts = {.url = hth_cluster_url(l->cluster)};
    struct hth_client *client = NULL;
    int rc;

    if (hth_client_open(&client, &opts, NULL) != HTH_OK)
        client = NULL;
    rc = wait_ready(l, client, err);
    hth_client_close(client);
    return rc;
}

static int make_directories(struct hth_local *l, struct hth_err *err)
{
    const char *store = l->opts.store_dir;
    int rc = hth_tempdir_open(&l->temp, err);

    if (rc != HTH_OK)
        return rc;
    snprintf(l->state, sizeof l->state, "%s/coordinator", l->temp.path);
    if (store != NULL && strlen(store) >= sizeof l->store)
        return hth_fail(err, HTH_EUSAGE, "the path of --store is too long");
    if (store != NULL)
        snprintf(l->store, sizeof l->store, "%s", store);
    else
        snprintf(l->store, sizeof l->store, "%s/store", l->temp.path);
    return HTH_OK;
}

static int start(struct hth_local *l, struct hth_err *err)
{
    int rc = HTH_OK;

    hth_cpus_find(&l->cpus);
    /* Without a home there is nowhere to stream from; most need not. */
    if (l->opts.store_dir != NULL)
        snprintf(l->own_store, sizeof l->own_store, "%s", l->opts.store_dir);
    else if (hth_path_store(l->own_store, sizeof l->own_store, NULL) != HTH_OK)
        l->own_store[0] = '\0';
    if (l->opts.ranks > 1)
        rc = make_directories(l, err);
    bind_rank0(l);
    if (rc == HTH_OK)
        rc = open_cluster(l, err);
    for (uint32_t r = 1; r < l->opts.ranks && rc == HTH_OK; r++)
        rc = start_worker(l, r, err);
    return rc == HTH_OK ? wait_with_client(l, err) : rc;
}

int hth_local_open(struct hth_local **out, const struct hth_local_opts *opts,
                   struct hth_err *err)
{
    struct hth_local *l = calloc(1, sizeof *l);
    int rc;

    if (l == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    l->opts = *opts;
    rc = start(l, err);
    if (rc != HTH_OK) {
        hth_local_close(l);
        return rc;
    }
    *out = l;
    return HTH_OK;
}

/* Workers are asked first, all at once, so that they say goodbye to a
 * coordinator that is still there. */
void hth_local_close(struct hth_local *l)
{
    uint64_t deadline_ms = hth_now_ms() + HTH_LOCAL_STOP_MS;

    if (l == NULL)
        return;
    for (uint32_t i = 0; i < l->started; i++)
        hth_local_worker_ask(&l->workers[i]);
    for (uint32_t i = 0; i < l->started; i++)
        hth_local_worker_stop(&l->workers[i], deadline_ms);
    hth_cluster_close(l->cluster);
    hth_tempdir_close(&l->temp);
    if (l->bound)
        (void)sched_setaffinity(0, sizeof l->before, &l->before);
    free(l);
}

struct hth_cluster *hth_local_cluster(struct hth_local *l)
{
    return l->cluster;
}

int hth_local_explain(struct hth_local *l, int status, struct hth_err *err)
{
    struct hth_err why;

    for (uint32_t i = 0; i < l->started; i++) {
        if (hth_local_worker_ended(&l->workers[i])) {
            char first[HTH_ERR_TEXT_MAX];

            hth_local_worker_describe(&l->workers[i], &why);
            memcpy(first, err->text, sizeof first);
            return hth_fail(err, status, "%.250s (%.250s)", first, why.text);
        }
    }
    return status;
}
