/* probe.h - what this machine has: cores, memory, how fast it reads memory
 * (decode is bound by that, so shares follow it). Any thread; takes some
 * 50 ms. Never fails: what cannot be found out is 0 or "unknown". */
#ifndef HTH_WORKER_PROBE_H
#define HTH_WORKER_PROBE_H

#include <stdint.h>

#include "base/limits.h"

struct hth_probe {
    char arch[HTH_NAME_MAX]; /* as uname -m says it */
    char isa[HTH_NAME_MAX];  /* the kernels' instruction set */
    uint32_t cores;          /* this process may use */
    uint64_t memory_bytes;   /* free for it now, within its cgroup's limit */
    double read_bytes_per_s; /* all threads together */
};

/* threads: how many will compute; 0 means one per core. profile_path: the read
 * rate comes from the profile kept there, if it is this machine's (worker/
 * profile.h); NULL, or none: it is measured. */
void hth_probe_machine(struct hth_probe *out, uint32_t threads,
                       const char *profile_path);
/* The cores this process may use; at least 1. */
uint32_t hth_probe_cores(void);
/* Memory that a process may still take, bytes; 0 when unknown. */
uint64_t hth_probe_memory(void);

#endif
