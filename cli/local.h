/* local.h - a cluster on this machine for one answer.
 *
 * Opens a coordinator in this process and, for every rank but the first, a
 * `hearth worker` process of this very program, joined by pairing code over
 * loopback: the same code, links and encryption as between machines. One rank
 * needs neither network nor processes.
 * Owns: the workers (they die with us, however we die), and a temporary
 * directory with their keys, stores and logs, unless a store is given.
 * Threads: main thread only, since a worker lives as long as the thread that
 * started it.
 * Failure: a worker that ends early is named with the last lines it wrote. */
#ifndef HTH_CLI_LOCAL_H
#define HTH_CLI_LOCAL_H

#include "coordinator/cluster.h"
#include "cli/options.h"

struct hth_local;

struct hth_local_opts {
    const char *model_path;
    double shares[HTH_RANKS_MAX];           /* [ranks], rank 0 first */
    uint32_t ranks;                         /* >= 1 */
    uint32_t wire;                          /* enum hth_wire */
    uint32_t prefill;                       /* enum hth_prefill_mode */
    uint32_t kv_type;                       /* HTH_F16, HTH_F32, HTH_Q8_0 */
    uint32_t ctx;                           /* 0: the model's */
    uint32_t threads;                       /* of each rank; 0: cores / ranks */
    uint64_t memory_bytes;                  /* of each rank; 0: what is free */
    const char *store_dir;                  /* kept; NULL: temporary */
    const char *log_level;                  /* of the workers, as text */
    const char *loras[HTH_OPT_REPEATS_MAX]; /* adapters, as --lora has them */
    uint32_t lora_count;
};

/* Fill *opts from --model, --local, --shares, --wire, --kv, --threads,
 * --memory, --store, --log-level; ctx stays 0. HTH_EUSAGE where they
 * contradict each other. */
HTH_MUST_CHECK int hth_local_options(const struct hth_args *args,
                                     struct hth_local_opts *opts,
                                     struct hth_err *err);

/* --lora, of the verbs that have it, into *opts; texts are borrowed. */
void hth_local_loras(const struct hth_args *args, struct hth_local_opts *opts);

/* Start everything and wait until the session is ready, or for a signal
 * (HTH_ECANCELLED). On 0 *out is the caller's (hth_local_close). Other
 * errors: those of hth_cluster_open(), HTH_EPEER (a worker ended),
 * HTH_ETIMEDOUT (nothing moved for HTH_LOCAL_PATIENCE_MS). */
HTH_MUST_CHECK int hth_local_open(struct hth_local **out,
                                  const struct hth_local_opts *opts,
                                  struct hth_err *err);
/* Stop the workers, close the coordinator, remove the files. NULL is fine. */
void hth_local_close(struct hth_local *l);

struct hth_cluster *hth_local_cluster(struct hth_local *l); /* borrowed */

/* A worker that has ended by now explains most failures: put who and its last
 * lines behind err's text. Returns status. */
int hth_local_explain(struct hth_local *l, int status, struct hth_err *err);

#endif
