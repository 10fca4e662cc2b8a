/* loader.h - a rank's weights in no more memory than it was given: pieces that
 * stay, a ring that the others stream through, a cache for experts.
 *
 * Serves model/blocks.h: the step acquires pieces in order, threads of the
 * loader read ahead of it around the page cache, several chunks in flight, and
 * on across the end of a token. What is pinned is loaded in the same way the
 * first time, so the first piece is computed while later ones load.
 *
 * Where pieces come from: the packed file of their block (packed.h), which is
 * written as the pieces come from the source the first time. A loader that
 * pins everything writes no files and reads the source straight into memory.
 * Packed bytes that cannot be read or are damaged are taken from the source
 * again and written back; only when that fails too does a step fail.
 *
 * Owns: its threads, memory, files. Threads: acquire, release, expect from the
 * one that runs steps; everything else from any. With all pieces pinned and
 * loaded, acquire and release are one atomic operation each. */
#ifndef HTH_WORKER_LOADER_H
#define HTH_WORKER_LOADER_H

#include <stdbool.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/status.h"
#include "model/blocks.h"
#include "model/piece.h"
#include "scheduler/window.h"
#include "worker/packed.h"

#define HTH_LOAD_THREADS 8u /* chunks in flight, or being checked */
/* Version of what packed files hold: pieces and their bytes. */
#define HTH_LOAD_LAYOUT 2u

struct hth_weight_source {
    void *ctx;
    /* Fill dst with the bytes of a piece of block `index` as the model file
     * has them. Several threads at once. */
    int (*read)(void *ctx, uint32_t index, const struct hth_block *piece,
                void *dst, struct hth_err *err);
};

struct hth_loader_opts {
    const struct hth_spec *spec; /* borrowed for life, as is the plan */
    const struct hth_plan *plan;
    uint32_t rank;
    uint64_t budget_bytes; /* of memory for weights; 0: no bound */
    struct hth_weight_source source;
    /* Where packed blocks are kept, and what their bytes are called,
     * key[blocks][HTH_HASH_BYTES]; both copied. NULL: a model that does not fit
     * the budget is HTH_EOVERFLOW. */
    const char *dir;
    const uint8_t *key;
    const struct hth_packed_io *io; /* for tests; NULL: the system's */
    /* The pieces of a layer may be held together, as the layer passes by; they
     * are released in order, and experts come like all others. */
    bool layers;
};

struct hth_loader;

/* Starts loading and returns. HTH_EOVERFLOW: the budget is less than the
 * smallest window; HTH_ENOMEM, HTH_EIO. */
HTH_MUST_CHECK int hth_loader_open(struct hth_loader **out,
                                   const struct hth_loader_opts *opts,
                                   struct hth_err *err);
void hth_loader_close(struct hth_loader *l); /* NULL is fine */

/* Borrowed; for hth_forward_source(). */
const struct hth_blocks *hth_loader_blocks(struct hth_loader *l);

/* Give it more or less memory than it has; it holds no more within a token,
 * or, while idle, at once, but for pieces that are on no disk yet: they are
 * written first. Returns what it will hold: not less than its
 * smallest window. Output is the same at any moment. */
uint64_t hth_loader_budget(struct hth_loader *l, uint64_t bytes);

/* Have `bytes` of its budget, all told, for something else, until less are
 * lent; without a budget, nothing changes. Returns when the memory is there:
 * call it while no step runs. HTH_EOVERFLOW, with the numbers: the smallest
 * window would not be left. */
HTH_MUST_CHECK int hth_loader_lend(struct hth_loader *l, uint64_t bytes,
                                   struct hth_err *err);
/* The smallest window: of memory, in bytes. */
uint64_t hth_loader_least(const struct hth_loader *l);

struct hth_loader_stats {
    struct hth_window window; /* the plan; times as predict was last told */
    uint64_t budget_bytes;
    uint64_t memory_bytes, memory_peak_bytes; /* of weights, now and ever */
    uint64_t loaded_bytes;                    /* of the pinned ones, so far */
    uint64_t read_bytes;                      /* from packed files */
    uint64_t read_ns;                         /* with a read under way */
    double read_bytes_per_s;                  /* over the latest reads */
    uint64_t built_bytes;                     /* taken from the source */
    uint64_t stalls, stall_ns;                /* a step waited for a piece */
    uint64_t repaired;                        /* pieces taken anew */
};
void hth_loader_stats(struct hth_loader *l, struct hth_loader_stats *out);

/* Have the next stats predict a token's time: seconds of a token of one row
 * without waiting for weights, as measured. */
void hth_loader_measured(struct hth_loader *l, double compute_s);

/* The pieces of a rank as the window plan takes them; piece[count] where count
 * is hth_pieces(). */
void hth_loader_pieces(const struct hth_spec *s, const struct hth_plan *p,
                       uint32_t rank, struct hth_window_piece *piece);
/* How far such a loader reads ahead, for plans. */
uint64_t hth_loader_ahead_bytes(uint64_t budget_bytes);

#endif
