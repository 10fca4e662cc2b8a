/* phases.h - where a rank's time went, since its session began, and what went
 * over its links to rank 0. The times are parts of the same thread's time, so
 * they add up to the time spent in steps. */
#ifndef HTH_BASE_PHASES_H
#define HTH_BASE_PHASES_H

#include <stdint.h>

struct hth_phases {
    uint64_t steps;
    uint64_t compute_ns;
    uint64_t send_ns;    /* sealing, and handing it to the kernel */
    uint64_t receive_ns; /* reading what is there, opening, adding up */
    uint64_t wait_ns;    /* for other ranks: nothing came or went */
    uint64_t disk_ns;    /* for weights that are read */
    /* Payload of data links: of a worker to rank 0, of rank 0 to all. Between
     * two workers (spread prompts) is not counted. */
    uint64_t sent_bytes, received_bytes;
};

#endif
