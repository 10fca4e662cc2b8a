/* local_worker.h - one `hearth worker` process of a local cluster: started,
 * watched, ended. Part of local; main thread only. */
#ifndef HTH_CLI_LOCAL_WORKER_H
#define HTH_CLI_LOCAL_WORKER_H

#include <stdbool.h>
#include <stdint.h>
#include <sched.h>
#include <sys/types.h>

#include "base/status.h"
#include "cli/paths.h"

struct hth_local_worker {
    uint32_t number; /* from 1; it calls itself local-NUMBER */
    pid_t pid;       /* 0: not started, or ended and reported */
    int exit_status; /* as waitpid gives it, once ended */
    bool ended;
    char log_path[HTH_PATH_BYTES_MAX];
};

struct hth_local_worker_opts {
    uint32_t number;
    const char *dir; /* for its state and log */
    const char *store_dir;
    const char *code;
    uint16_t port; /* of the coordinator, on loopback */
    uint32_t threads;
    uint64_t memory_bytes; /* 0: what is free */
    const char *log_level;
    const cpu_set_t *cpus; /* where it runs; NULL: anywhere */
};

/* Start one. The code goes by environment: arguments are visible to every
 * user of the machine. It is killed when the calling thread ends. */
HTH_MUST_CHECK int hth_local_worker_start(struct hth_local_worker *w,
                                          const struct hth_local_worker_opts *o,
                                          struct hth_err *err);
/* True once it has ended; never blocks. */
bool hth_local_worker_ended(struct hth_local_worker *w);
/* Ask it to end (SIGTERM); hth_local_worker_stop() then waits up to
 * deadline_ms of hth_now_ms() and kills it. */
void hth_local_worker_ask(struct hth_local_worker *w);
void hth_local_worker_stop(struct hth_local_worker *w, uint64_t deadline_ms);
/* "local-2 ended with exit code 4: <its last line>" into err. */
void hth_local_worker_describe(const struct hth_local_worker *w,
                               struct hth_err *err);

#endif
