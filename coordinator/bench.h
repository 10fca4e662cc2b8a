/* bench.h - one timed request on a cluster of this process.
 *
 * A run is a sequence of its own: `depth` tokens fill the cache untimed, then
 * `prompt` tokens are computed and timed, then `generate` tokens are chosen
 * one by one and timed. Times are taken on the engine's thread, between
 * steps, so that no queue and no client is in them. */
#ifndef HTH_COORDINATOR_BENCH_H
#define HTH_COORDINATOR_BENCH_H

#include <stdint.h>

#include "base/status.h"
#include "coordinator/cluster.h"
#include "model/forward.h"
#include "model/spec.h"

struct hth_bench_run {
    const uint32_t *tokens; /* [depth + prompt], borrowed for the call */
    uint32_t depth;
    uint32_t prompt;   /* depth + prompt >= 1 */
    uint32_t generate; /* 0: the prompt only */
};

/* Rank 0's weights while something was timed. */
struct hth_bench_weights {
    uint64_t pinned_bytes, streamed_bytes; /* that stay; read per token */
    uint64_t read_bytes, stall_ns;         /* in all; waited for */
    double disk_bytes_per_s;               /* of the latest reads */
    double predicted_token_s;              /* 0: not known */
};

struct hth_bench_times {
    uint64_t prompt_ns;   /* of `prompt` tokens, with the choice of the next */
    uint64_t generate_ns; /* of `generate` tokens */
    struct hth_forward_times in_prompt, in_generate; /* of rank 0 */
    struct hth_bench_weights weights_in_prompt, weights_in_generate;
};

/* Blocks until done; the session must be ready (hth_cluster_wait_ready).
 * Errors: as hth_engine_submit(); HTH_EPEER with the device's name. Any
 * thread, but requests beside it share the steps that are timed. */
HTH_MUST_CHECK int hth_cluster_bench(struct hth_cluster *c,
                                     const struct hth_bench_run *run,
                                     struct hth_bench_times *out,
                                     struct hth_err *err);

/* What is timed: borrowed until close. The plan is that of the present
 * session. HTH_EUNREACHABLE while there is none. */
struct hth_bench_subject {
    const struct hth_spec *spec;
    struct hth_plan plan;
    uint32_t threads; /* of rank 0 */
    uint32_t kv_type;
};
HTH_MUST_CHECK int hth_cluster_bench_subject(struct hth_cluster *c,
                                             struct hth_bench_subject *out,
                                             struct hth_err *err);

#endif
