/* bench.h - what the files of `hearth bench` share: tests, their figures, and
 * how they are printed. Main thread. */
#ifndef HTH_CLI_BENCH_H
#define HTH_CLI_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "cli/options.h"
#include "cli/table.h"
#include "coordinator/bench.h"
#include "coordinator/client.h"

/* What is timed: prompt tokens, generated tokens, or both together, after
 * `depth` tokens that are not. */
struct hth_bench_test {
    uint32_t depth, prompt, generate;
};

/* One test's figures. The times of operations, and what was read of weights
 * and waited for, are sums over repetitions. */
struct hth_bench_figures {
    struct hth_bench_test test;
    uint32_t count;
    uint64_t ns[HTH_BENCH_REPETITIONS_MAX];
    struct hth_forward_times times;
    struct hth_bench_weights weights;
    uint64_t wall_s; /* when it began */
};

#define HTH_BENCH_TEXT 128u

/* What was measured, as every row of the output says it. */
struct hth_bench_model {
    char file[HTH_BENCH_TEXT];  /* name of the file, without its directory */
    char name[HTH_BENCH_TEXT];  /* "llama 1.04 B Q4_0" */
    uint64_t bytes, weights;    /* 0: not known */
    char isa[HTH_NAME_MAX];     /* of rank 0; "" where not known */
    char ranks[HTH_BENCH_TEXT]; /* shares, "1,1" */
    char threads[HTH_NAME_MAX]; /* of each rank */
    char kv[HTH_NAME_MAX], wire[HTH_NAME_MAX];
};

/* From the file at path: file, name, bytes and weights; the rest is emptied. */
HTH_MUST_CHECK int hth_bench_describe(const char *path,
                                      struct hth_bench_model *out,
                                      struct hth_err *err);

/* Tokens per second of each repetition: mean, sample standard deviation. */
struct hth_bench_rate {
    double mean, deviation;
};
struct hth_bench_rate hth_bench_rate(const struct hth_bench_figures *f);
/* "pp512", "tg128 @ d8192", "pp512+tg128" */
void hth_bench_test_text(const struct hth_bench_test *t, char *dst,
                         size_t size);

/* ---- printing (cli/bench_print.c) ---------------------------------------- */

enum hth_bench_format {
    HTH_BENCH_MD,
    HTH_BENCH_JSON,
    HTH_BENCH_JSONL,
    HTH_BENCH_CSV
};

struct hth_bench_print {
    enum hth_bench_format format;
    uint32_t rows; /* printed so far */
    bool weights;  /* the table has columns for weights that stream */
};
/* ops: text of a JSON array, or NULL. */
HTH_MUST_CHECK int hth_bench_print_row(struct hth_bench_print *p,
                                       const struct hth_bench_model *m,
                                       const struct hth_bench_figures *f,
                                       const char *ops, struct hth_err *err);
HTH_MUST_CHECK int hth_bench_print_end(struct hth_bench_print *p,
                                       struct hth_err *err);

/* ---- running (cli/bench_run.c) ------------------------------------------- */

/* Where requests go: a cluster of this process, or a client's coordinator. */
struct hth_bench_target {
    struct hth_cluster *cluster; /* or NULL */
    struct hth_client *client;   /* or NULL */
    uint32_t vocab;              /* ids below it are safe to send */
    const struct hth_args *args; /* --lora names adapters to the client's */
};

/* Run one test `repetitions` times after a warm-up. HTH_ECANCELLED after
 * Ctrl-C. */
HTH_MUST_CHECK int hth_bench_run(const struct hth_bench_target *t,
                                 const struct hth_bench_test *test,
                                 uint32_t repetitions,
                                 struct hth_bench_figures *out,
                                 struct hth_err *err);

#endif
