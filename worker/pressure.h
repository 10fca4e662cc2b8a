/* pressure.h - memory gets short: give some of the weights back before the
 * system kills somebody, and take them again later.
 *
 * A thread looks twice a second at what the system says is available to this
 * process: MemAvailable, and the limit of every memory cgroup it is in (v1 and
 * v2), counting what the kernel can drop by itself as available. Below the low
 * mark the budget of the weights shrinks by what is missing to twice the mark;
 * after a calm time above four times the mark it grows again, up to what it
 * was. Where the kernel reports stalls (PSI), a tenth of the time lost is
 * taken for shortage, too. Each change of direction is one line in the log. */
#ifndef HTH_WORKER_PRESSURE_H
#define HTH_WORKER_PRESSURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct hth_loader;

/* Bytes that this process may still take; 0: unknown. root: "" (tests: a
 * directory that stands for /). Any thread. */
uint64_t hth_memory_available(const char *root);
/* A budget for a process that was given none: what is available, but for a
 * sixteenth (64 MiB at least). 0: unknown. */
uint64_t hth_memory_default(const char *root);

/* The decision, pure: call it at any interval. */
struct hth_pressure_state {
    uint64_t given_bytes; /* the budget when nothing is wrong */
    uint64_t now_bytes;   /* the budget to keep; starts as given_bytes */
    uint64_t low_bytes;   /* the low mark */
    uint64_t calm_since_ms;
};
struct hth_pressure_seen {
    uint64_t available_bytes; /* 0: unknown */
    double stalled;           /* part of the time, 0 to 1 */
    uint64_t now_ms;
};
void hth_pressure_init(struct hth_pressure_state *s, uint64_t given_bytes);
/* True when now_bytes changed. */
bool hth_pressure_step(struct hth_pressure_state *s,
                       const struct hth_pressure_seen *seen);

/* The thread; the loader is borrowed until stop. */
struct hth_pressure;
HTH_MUST_CHECK int hth_pressure_start(struct hth_pressure **out,
                                      struct hth_loader *loader,
                                      uint64_t given_bytes,
                                      struct hth_err *err);
void hth_pressure_stop(struct hth_pressure *p); /* NULL is fine */
/* Is the budget less than was given? Any thread; NULL: no. */
bool hth_pressure_is_short(const struct hth_pressure *p);

#endif
