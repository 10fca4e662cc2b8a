/* cores.h - how fast the cores of this machine are beside each other, as far
 * as the system says without measuring: big and little ones.
 *
 * The functions block on small files of the system's; any thread; nothing
 * fails, what is not said is 0. */
#ifndef HTH_BASE_CORES_H
#define HTH_BASE_CORES_H

#include <stdint.h>

#include "base/limits.h"

/* Where Linux keeps it; a test passes a folder of its own. */
#define HTH_CORES_ROOT "/sys/devices"

struct hth_cores {
    uint32_t count;               /* of CPUs, by number; 0: nothing is known */
    uint32_t speed[HTH_CPUS_MAX]; /* any unit, the same for all */
};

/* One source for all CPUs, the first of these that every CPU has and that
 * tells some of them apart: cpu_capacity (ARM), kinds of cores with their
 * largest frequency (Intel: cpu_atom/cpus), the largest frequency. Otherwise
 * count is 0: they are alike, or nobody knows. */
void hth_cores_find(const char *root, struct hth_cores *out);

#endif
