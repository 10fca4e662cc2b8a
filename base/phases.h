/* phases.h - where a rank's time went, since its session began. Parts of the
 * same thread's time, so they add up to the time spent in steps. */
#ifndef HTH_BASE_PHASES_H
#define HTH_BASE_PHASES_H

#include <stdint.h>

struct hth_phases {
    uint64_t steps;
    uint64_t compute_ns;
    uint64_t transfer_ns; /* sealing, sending, receiving, adding up */
    uint64_t wait_ns;     /* for other ranks: nothing came or went */
    uint64_t disk_ns;     /* for weights that are read */
};

#endif
