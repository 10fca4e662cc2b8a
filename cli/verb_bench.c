/* verb_bench.c - tokens per second: of a model in this process, over ranks on
 * this machine, or of the cluster that runs here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/bench.h"
#include "cli/bench_ops.h"
#include "cli/bench_serve.h"
#include "cli/local.h"
#include "cli/model_opts.h"
#include "cli/out.h"
#include "cli/paths.h"
#include "cli/signals.h"
#include "cli/verbs.h"
#include "model/gguf.h"

#define THREADS_MAX 16u /* entries of --threads */

struct bench {
    const struct hth_args *args;
    struct hth_bench_test tests[HTH_BENCH_TESTS_MAX];
    uint32_t test_count;
    uint32_t repetitions;
    bool ops;
    struct hth_bench_print print;
    struct hth_bench_model model; /* what is being measured */
    struct hth_bench_figures figures;
};

/* ---- options ------------------------------------------------------------- */

struct list {
    uint32_t v[HTH_BENCH_TESTS_MAX];
    size_t n;
};

static int read_list(const char *name, const char *text, struct list *out,
                     struct hth_err *err)
{
    if (hth_parse_u32s(text, out->v, HTH_BENCH_TESTS_MAX, &out->n) != HTH_OK)
        return hth_fail(err, HTH_EUSAGE, "--%s takes up to %u numbers", name,
                        HTH_BENCH_TESTS_MAX);
    return HTH_OK;
}

static int add_test(struct bench *b, struct hth_bench_test test,
                    struct hth_err *err)
{
    if (test.prompt == 0 && test.generate == 0)
        return HTH_OK;
    if (b->test_count == HTH_BENCH_TESTS_MAX)
        return hth_fail(err, HTH_EUSAGE, "more than %u tests are asked for",
                        HTH_BENCH_TESTS_MAX);
    b->tests[b->test_count++] = test;
    return HTH_OK;
}

static int add_pairs(struct bench *b, uint32_t depth, struct hth_err *err)
{
    int rc = HTH_OK;

    for (unsigned i = 0; i < hth_args_count(b->args, "pg") && rc == HTH_OK;
         i++) {
        struct list pair;

        rc = read_list("pg", hth_args_at(b->args, "pg", i), &pair, err);
        if (rc == HTH_OK && pair.n != 2)
            rc = hth_fail(err, HTH_EUSAGE,
                          "--pg takes two numbers, as in 512,128");
        if (rc == HTH_OK)
            rc = add_test(
                b, (struct hth_bench_test){depth, pair.v[0], pair.v[1]}, err);
    }
    return rc;
}

/* In llama-bench's order: for each depth the prompts, the generations, the
 * pairs. */
static int make_tests(struct bench *b, struct hth_err *err)
{
    const char *const names[] = {"n-prompt", "n-gen", "n-depth"};
    struct list lists[3];
    int rc = HTH_OK;

    for (unsigned i = 0; i < 3 && rc == HTH_OK; i++)
        rc = read_list(names[i], hth_args_text(b->args, names[i]), &lists[i],
                       err);
    for (size_t d = 0; rc == HTH_OK && d < lists[2].n; d++) {
        uint32_t depth = lists[2].v[d];

        for (size_t i = 0; rc == HTH_OK && i < lists[0].n; i++)
            rc = add_test(b, (struct hth_bench_test){depth, lists[0].v[i], 0},
                          err);
        for (size_t i = 0; rc == HTH_OK && i < lists[1].n; i++)
            rc = add_test(b, (struct hth_bench_test){depth, 0, lists[1].v[i]},
                          err);
        if (rc == HTH_OK)
            rc = add_pairs(b, depth, err);
    }
    if (rc == HTH_OK && b->test_count == 0)
        rc = hth_fail(err, HTH_EUSAGE,
                      "there is nothing to measure: all of "
                      "-p, -n and --pg are 0");
    return rc;
}

/* Positions that the longest test fills, and the token behind its last. */
static uint32_t ctx_of(const struct bench *b)
{
    uint32_t most = 0;

    for (uint32_t i = 0; i < b->test_count; i++) {
        const struct hth_bench_test *t = &b->tests[i];
        uint32_t n = t->depth + t->prompt + t->generate + 2;

        most = n > most ? n : most;
    }
    return most;
}

/* ---- tests --------------------------------------------------------------- */

static int print_test(struct bench *b, const struct hth_bench_target *t,
                      struct hth_err *err)
{
    struct hth_buf ops;
    bool with_ops = b->ops && t->cluster != NULL;
    bool table = b->print.format == HTH_BENCH_MD;
    int rc = HTH_OK;

    hth_buf_init(&ops, HTH_BENCH_OPS_BYTES_MAX);
    if (with_ops)
        rc = hth_bench_ops(t->cluster, &b->figures, table, &ops, err);
    if (rc == HTH_OK)
        rc = hth_bench_print_row(&b->print, &b->model, &b->figures,
                                 with_ops && !table ? hth_buf_cstr(&ops) : NULL,
                                 err);
    if (rc == HTH_OK && with_ops && table) {
        rc = hth_out_buf(&ops, err);
        b->print.rows = 0; /* the next row starts a table of its own */
    }
    hth_buf_fini(&ops);
    return rc;
}

static int run_tests(struct bench *b, const struct hth_bench_target *t,
                     struct hth_err *err)
{
    int rc = HTH_OK;

    for (uint32_t i = 0; i < b->test_count && rc == HTH_OK; i++) {
        rc = hth_bench_run(t, &b->tests[i], b->repetitions, &b->figures, err);
        if (rc == HTH_OK)
            rc = print_test(b, t, err);
    }
    return rc;
}

/* ---- here ---------------------------------------------------------------- */

static void describe_local(struct bench *b, const struct hth_local_opts *o,
                           const struct hth_bench_subject *s)
{
    struct hth_bench_model *m = &b->model;
    size_t at = 0;

    snprintf(m->isa, sizeof m->isa, "%s", hth_isa_name());
    snprintf(m->threads, sizeof m->threads, "%u", s->threads);
    snprintf(m->kv, sizeof m->kv, "%s", hth_args_text(b->args, "kv"));
    snprintf(m->wire, sizeof m->wire, "%s", hth_args_text(b->args, "wire"));
    for (uint32_t r = 0; r < o->ranks && at < sizeof m->ranks; r++)
        at += (size_t)snprintf(m->ranks + at, sizeof m->ranks - at, "%s%g",
                               r > 0 ? "," : "", o->shares[r]);
}

static int run_cluster(struct bench *b, const struct hth_local_opts *o,
                       struct hth_err *err)
{
    struct hth_bench_target target = {0};
    struct hth_bench_subject subject;
    struct hth_local *local;
    int rc = hth_local_open(&local, o, err);

    if (rc != HTH_OK)
        return rc;
    target.cluster = hth_local_cluster(local);
    rc = hth_cluster_bench_subject(target.cluster, &subject, err);
    if (rc == HTH_OK) {
        describe_local(b, o, &subject);
        target.vocab = subject.spec->vocab;
        rc = run_tests(b, &target, err);
    }
    if (rc == HTH_EPEER)
        rc = hth_local_explain(local, rc, err);
    hth_local_close(local);
    return rc;
}

static int run_model(struct bench *b, const char *path, struct hth_err *err)
{
    struct hth_local_opts opts;
    struct list threads;
    int rc = hth_bench_describe(path, &b->model, err);

    if (rc == HTH_OK)
        rc = hth_local_options(b->args, &opts, err);
    if (rc == HTH_OK)
        rc = read_list("threads", hth_args_text(b->args, "threads"), &threads,
                       err);
    if (rc != HTH_OK)
        return rc;
    opts.model_path = path;
    hth_local_loras(b->args, &opts);
    opts.ctx = ctx_of(b);
    for (size_t i = 0; i < threads.n && rc == HTH_OK; i++) {
        opts.threads = threads.v[i];
        rc = run_cluster(b, &opts, err);
    }
    return rc;
}

/* ---- there --------------------------------------------------------------- */

/* Options that only mean something where bench starts the ranks itself. */
static int check_mode(const struct hth_args *args, struct hth_err *err)
{
    static const char *const starting[] = {"local",  "shares",  "wire",
                                           "kv",     "prefill", "threads",
                                           "memory", "store",   "ops"};

    for (size_t i = 0; i < sizeof starting / sizeof starting[0]; i++)
        if (hth_args_origin(args, starting[i]) == HTH_ORIGIN_LINE)
            return hth_fail(err, HTH_EUSAGE,
                            "--%s needs -m FILE: a running coordinator has "
                            "its own",
                            starting[i]);
    return HTH_OK;
}

static void append(char *dst, size_t size, const char *fmt, double v)
{
    size_t at = strlen(dst);

    if (at > 0 && at + 1 < size)
        dst[at++] = ',';
    snprintf(dst + at, size - at, fmt, v);
}

/* Ranks in order; what other devices call themselves is not printed. */
static void describe_cluster(struct bench *b, const struct hth_msg_nodes *nodes)
{
    struct hth_bench_model *m = &b->model;

    memset(m, 0, sizeof *m);
    hth_plain_text(nodes->model, m->file, sizeof m->file);
    snprintf(m->name, sizeof m->name, "%s", m->file);
    for (int32_t rank = 0; rank < (int32_t)HTH_RANKS_MAX; rank++) {
        struct hth_msg_node n;
        struct hth_cursor c;

        hth_cursor_init(&c, nodes->list.p, nodes->list.n);
        while (hth_msg_node_next(&c, &n)) {
            if (n.rank != rank)
                continue;
            append(m->ranks, sizeof m->ranks, "%.3g", n.share);
            append(m->threads, sizeof m->threads, "%.0f", n.threads);
            if (rank == 0)
                hth_plain_text(n.isa, m->isa, sizeof m->isa);
        }
    }
}

static int run_coordinator(struct bench *b, struct hth_err *err)
{
    char state[HTH_PATH_BYTES_MAX];
    struct hth_client_opts where = {0};
    struct hth_bench_target target = {.args = b->args};
    struct hth_msg_nodes nodes;
    int rc = check_mode(b->args, err);

    if (rc == HTH_OK)
        rc = hth_state_option(b->args, "coordinator", state, &where.state_dir,
                              err);
    if (rc == HTH_OK)
        rc = hth_client_open(&target.client, &where, err);
    if (rc != HTH_OK)
        return rc;
    rc = hth_client_nodes(target.client, &nodes, err);
    if (rc == HTH_OK) {
        describe_cluster(b, &nodes);
        rc = run_tests(b, &target, err);
    }
    hth_client_close(target.client);
    return rc;
}

int hth_verb_bench(const struct hth_args *args, struct hth_err *err)
{
    struct bench *b;
    int rc;

    if (args->operand_count > 0)
        return hth_bench_serve(args, err);
    b = calloc(1, sizeof *b);
    if (b == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    b->args = args;
    b->repetitions = (uint32_t)hth_args_int(args, "repetitions");
    b->print.format = (enum hth_bench_format)hth_args_choice(args, "output");
    b->ops = hth_args_flag(args, "ops");
    hth_signals_start();
    hth_log_option(args);
    rc = make_tests(b, err);
    if (rc == HTH_OK && hth_args_count(args, "model") == 0)
        rc = run_coordinator(b, err);
    for (unsigned i = 0; i < hth_args_count(args, "model") && rc == HTH_OK; i++)
        rc = run_model(b, hth_args_at(args, "model", i), err);
    if (rc == HTH_OK)
        rc = hth_bench_print_end(&b->print, err);
    free(b);
    return rc;
}
