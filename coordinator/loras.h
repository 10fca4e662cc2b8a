/* loras.h - the adapters this coordinator knows: their files, names and usual
 * scales, their slices for each rank of the session, and which can be used.
 *
 * An adapter has a number (an index below HTH_LORAS_MAX). It is `wanted` from
 * the moment its file was read; then its slices are cut and hashed for the
 * plan, the workers fetch theirs by hash, rank 0 gets its own last, and from
 * then on requests may use it: what rank 0 has, all ranks have. Taking one
 * away goes the other way round: rank 0 first, when nothing uses it any more.
 *
 * Threads: all calls from any; cut, place and reap (which block) from the
 * thread of jobs. Failure: an adapter that cannot be used is taken away with a
 * line in the log; whoever waits for it is told why. */
#ifndef HTH_COORDINATOR_LORAS_H
#define HTH_COORDINATOR_LORAS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "base/status.h"
#include "coordinator/engine.h"
#include "model/spec.h"
#include "net/message.h"
#include "worker/rank.h"

struct hth_loras;

struct hth_loras_opts {
    const struct hth_spec *spec; /* borrowed for life */
    const char *dir;    /* files loaded by request must be below it; copied;
                           NULL: none are */
    uint32_t count_max; /* 0: HTH_LORAS_MAX */
    void (*wake)(void *arg); /* any thread: something is to be done */
    void *arg;
};

HTH_MUST_CHECK int hth_loras_open(struct hth_loras **out,
                                  const struct hth_loras_opts *opts,
                                  struct hth_err *err);
void hth_loras_close(struct hth_loras *l); /* NULL is fine */

/* "[NAME=]FILE[:SCALE]", as the command line has it: the file's name without
 * its end is the name, the scale (of every request that names no adapters) is
 * 1. Errors: those of hth_lora_file_open(), HTH_EUSAGE, HTH_EEXIST (the name),
 * HTH_ELIMIT. */
HTH_MUST_CHECK int hth_loras_add_text(struct hth_loras *l, const char *text,
                                      struct hth_err *err);
/* By request: scale 0, so that nobody gets it unasked. HTH_EAUTH: loading is
 * not allowed, or not from there. */
HTH_MUST_CHECK int hth_loras_load(struct hth_loras *l, const char *name,
                                  const char *path, struct hth_err *err);
/* HTH_ENOTFOUND. It cannot be asked for from now on and goes when the requests
 * that use it are over. HTH_EAUTH: loading is not allowed. */
HTH_MUST_CHECK int hth_loras_unload(struct hth_loras *l, const char *name,
                                    struct hth_err *err);
/* Wait until an adapter can be used. HTH_ETIMEDOUT; why it was taken away. */
HTH_MUST_CHECK int hth_loras_wait(struct hth_loras *l, const char *name,
                                  uint32_t timeout_ms, struct hth_err *err);
bool hth_loras_may_load(const struct hth_loras *l);

struct hth_lora_info {
    uint32_t id;
    char name[HTH_NAME_MAX];
    char path[512];
    float scale, alpha;
    uint32_t rank;
    bool ready;
};
/* The adapter of that number; false: none. */
bool hth_loras_info(struct hth_loras *l, uint32_t id,
                    struct hth_lora_info *out);
/* HTH_LORA_NONE. */
uint32_t hth_loras_find(struct hth_loras *l, const char *name);
/* The scale for requests that name none. HTH_ENOTFOUND, HTH_EINVAL. */
HTH_MUST_CHECK int hth_loras_scale(struct hth_loras *l, uint32_t id,
                                   double scale, struct hth_err *err);

/* ---- for requests ----------------------------------------------------------
 */

/* What a request gets. */
struct hth_lora_choice {
    uint32_t n;
    struct hth_lora_ask ask[HTH_LORA_SET_MAX];
    uint64_t variant; /* 0: n is 0 */
};
/* The adapters with a scale that is not 0. */
HTH_MUST_CHECK int hth_loras_default(struct hth_loras *l,
                                     struct hth_lora_choice *out,
                                     struct hth_err *err);
/* Check out->ask[out->n], put it into one order, leave out scales of 0, find
 * the variant. HTH_ENOTFOUND, HTH_EINVAL (twice the same), HTH_EBUSY (not on
 * the devices yet). */
HTH_MUST_CHECK int hth_loras_choose(struct hth_loras *l,
                                    struct hth_lora_choice *out,
                                    struct hth_err *err);
/* "NAME[:SCALE],..." */
HTH_MUST_CHECK int hth_loras_choose_text(struct hth_loras *l, const char *text,
                                         struct hth_lora_choice *out,
                                         struct hth_err *err);

/* ---- for the session -------------------------------------------------------
 */

/* Bytes that the largest slices of all adapters take together on a device. */
uint64_t hth_loras_bytes(struct hth_loras *l);
/* Grows with every change of what is wanted. */
uint64_t hth_loras_number(struct hth_loras *l);
/* Cut and hash what is not for this session yet. Adapters that do not fit are
 * taken away. Afterwards list and read tell of this session. */
void hth_loras_cut(struct hth_loras *l, const struct hth_session *s);
/* The session whose slices are cut (0: none), and the number then. */
uint64_t hth_loras_cut_for(struct hth_loras *l, uint64_t *number);
/* hth_msg_put_lora() entries of a rank, appended; returns their number. */
uint64_t hth_loras_list(struct hth_loras *l, uint32_t rank,
                        struct hth_buf *out);
/* dst[chunk->length] of a slice of this rank, by hash. HTH_ENOTFOUND,
 * HTH_EINVAL, HTH_EIO, HTH_ENOMEM. */
HTH_MUST_CHECK int hth_loras_read(struct hth_loras *l, uint32_t rank,
                                  const struct hth_msg_chunk *chunk, void *dst,
                                  struct hth_err *err);
/* All workers have the list with this number: give rank 0 its slices. */
void hth_loras_place(struct hth_loras *l, struct hth_engine *e,
                     uint64_t number);
/* Take away what is leaving and no longer used. */
void hth_loras_reap(struct hth_loras *l, struct hth_engine *e);
bool hth_loras_leaving(struct hth_loras *l); /* something is */

#endif
