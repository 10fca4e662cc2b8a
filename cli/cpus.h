/* cpus.h - which CPUs the ranks of one machine run on.
 *
 * Ranks wait for each other by spinning: two of them on one CPU hand it back
 * and forth, and the system does not always notice. So each gets CPUs of its
 * own, whole cores before halves of them. Only Linux has the calls; elsewhere
 * nothing is bound and nothing is said. */
#ifndef HTH_CLI_CPUS_H
#define HTH_CLI_CPUS_H

#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/limits.h"

/* The CPUs this process may use, in the order they are dealt: neighbours share
 * a core. */
struct hth_cpus {
    uint32_t count; /* 0: unknown */
    uint16_t cpu[HTH_CPUS_MAX];
};
void hth_cpus_find(struct hth_cpus *out);

/* Part `i` of `parts` equal ones into *out; false when there are fewer CPUs
 * than parts times `threads`: then nobody is bound. */
bool hth_cpus_part(const struct hth_cpus *c, uint32_t i, uint32_t parts,
                   uint32_t threads, cpu_set_t *out);

#endif
