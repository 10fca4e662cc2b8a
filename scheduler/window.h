/* window.h - a model larger than memory: which pieces stay, which stream, how
 * far to read ahead, and what a token will then cost.
 *
 * Pure: plain numbers, no I/O, no allocation, thread-safe.
 *
 * A step takes the pieces in order, token after token. Pinned pieces stay in
 * memory. The others go through one ring: bytes are read in the order of use,
 * as far ahead as the ring has room, and a piece's room is free as soon as its
 * compute is done. Per token all streamed bytes are read once, so the plan
 * pins as much as it can: the ring gets what the largest streamed piece and
 * the reads under way need. Pinned pieces are spread evenly (TPI-LLM's
 * retention, arXiv 2410.00531), so that their compute hides reads everywhere.
 *
 * The prediction plays three tokens through this machine: a read cannot go
 * past the ring's room, a piece cannot be computed before it is read. The
 * loose steady-state condition of the same paper (compute of any stretch
 * covers its reads) is what makes the predicted stall zero. */
#ifndef HTH_SCHEDULER_WINDOW_H
#define HTH_SCHEDULER_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/status.h"

struct hth_window_piece {
    uint64_t bytes; /* of memory, whole pages; 0: nothing */
    double use;     /* part of the tokens that need it; experts < 1 */
};

struct hth_window_ask {
    const struct hth_window_piece *piece; /* [count], in the order of a step */
    uint32_t count;
    uint64_t budget_bytes; /* for weights; 0: no bound */
    uint64_t ahead_bytes;  /* that reads under way take, at most */
    uint64_t unit_bytes;   /* a ring is whole units: large pages; 0: any size */
    /* A ring that exists already; 0: choose. What does not fit it must stay
     * pinned. */
    uint64_t ring_bytes;
    /* 0: not known, the prediction is 0 then. */
    double disk_bytes_per_s;
    double compute_bytes_per_s; /* weights that go through the kernels */
    double fixed_s; /* of a token, beside the pieces: all-reduces, sampling */
};

enum hth_window_bound { HTH_BOUND_UNKNOWN, HTH_BOUND_COMPUTE, HTH_BOUND_DISK };

struct hth_window {
    uint64_t pinned_bytes;
    uint64_t ring_bytes;     /* 0: everything is pinned */
    uint64_t cache_bytes;    /* for pieces with use < 1 that are not pinned */
    uint64_t streamed_bytes; /* read per token, on average */
    uint64_t total_bytes;
    uint64_t need_bytes; /* the smallest budget that runs */
    double token_s;      /* predicted; 0: not known */
    double compute_s;    /* of that, without waiting */
    double disk_s;       /* that its reads take */
    double stall_s;      /* waiting for reads */
    enum hth_window_bound bound;
};

/* pinned[count] is filled. HTH_EOVERFLOW with the numbers when not even the
 * ring fits; out->need_bytes is set then. */
HTH_MUST_CHECK int hth_window_plan(const struct hth_window_ask *ask,
                                   bool *pinned, struct hth_window *out,
                                   struct hth_err *err);

/* Predict again for a choice that is made: fills the times and the bound. */
void hth_window_predict(const struct hth_window_ask *ask, const bool *pinned,
                        struct hth_window *w);

const char *hth_window_bound_text(enum hth_window_bound b); /* "disk" */

#endif
