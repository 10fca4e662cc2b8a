/* bench_ops.h - where a test's time went, operation by operation, beside what
 * the machine could do: weights and cache over the read rate of memory where
 * one row is computed, products over the rate of the format where many are.
 * Rank 0's share only. Main thread. */
#ifndef HTH_CLI_BENCH_OPS_H
#define HTH_CLI_BENCH_OPS_H

#include "cli/bench.h"
#include "worker/profile.h"

#define HTH_BENCH_OPS_BYTES_MAX 65536u

/* The machine's profile where there is one, else its memory read rate, which
 * is measured now. */
void hth_bench_limits(uint32_t threads, struct hth_profile *out);

/* Append a Markdown table, or a JSON array. */
HTH_MUST_CHECK int hth_bench_ops(struct hth_cluster *cluster,
                                 const struct hth_bench_figures *f, bool table,
                                 struct hth_buf *out, struct hth_err *err);

#endif
