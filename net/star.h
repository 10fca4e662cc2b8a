/* star.h - collectives over links, in rank order, with rank 0 in the middle.
 *
 * Owns: the order of addition (partial of rank 0, plus rank 1, plus rank 2,
 * ...: equal input gives equal bits, run after run) and the wire types. Two
 * ranks swap encoded partials and both add the decoded ones, their own too. In
 * larger groups rank 0 adds its own in f32, and every rank ends up with the
 * decoded value of the one encoded sum. So all hold the same bits whatever the
 * wire type.
 * Does not: open or close links, or know what the numbers mean.
 * Threads: one caller at a time; on rank 0 the links are dealt to the threads
 * of the pool for the length of a call. No allocation after open.
 * Failure: a lost rank fails the star for good; hth_star_error() names it. */
#ifndef HTH_NET_STAR_H
#define HTH_NET_STAR_H

#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"
#include "kernels/pool.h"
#include "net/link.h"

/* The number is on the wire. */
enum hth_wire {
    HTH_WIRE_F32 = 0,
    HTH_WIRE_F16 = 1,
    HTH_WIRE_Q8 = 2 /* blocks of 32: f16 scale, 32 int8; 34 bytes */
};
const char *hth_wire_name(enum hth_wire wire); /* "f32"; never NULL */
HTH_MUST_CHECK int hth_wire_parse(const char *text, enum hth_wire *out);
/* Bytes of n numbers on the wire (q8: the last block is padded). */
size_t hth_wire_bytes(enum hth_wire wire, size_t n);
/* dst[hth_wire_bytes(wire, n)] from src[n] f32 and back. Deterministic. */
void hth_wire_encode(enum hth_wire wire, const float *src, void *dst, size_t n);
void hth_wire_decode(enum hth_wire wire, const void *src, float *dst, size_t n);

struct hth_star;

struct hth_star_opts {
    uint32_t rank;
    uint32_t ranks; /* 1 .. HTH_RANKS_MAX; 1: every call is local */
    struct hth_link *const *links; /* rank 0: [ranks - 1], links[i] to rank
                                    * i + 1; others: [1], to rank 0. The
                                    * array is copied, the links borrowed. */
    struct hth_pool *pool;         /* rank 0 only, borrowed; NULL: one thread */
    uint32_t timeout_ms;           /* per frame; 0: HTH_LINK_DEADLINE_MS */
};

HTH_MUST_CHECK int hth_star_open(struct hth_star **out,
                                 const struct hth_star_opts *opts,
                                 struct hth_err *err);
void hth_star_close(struct hth_star *s); /* NULL is fine; links stay open */

/* x: [n] f32, in: this rank's partial, out: the sum, the same bits on all
 * ranks. All ranks pass the same n (> 0) and wire. On error x is undefined.
 * Errors: as link.h; HTH_EPROTO when ranks disagree about n or wire. */
HTH_MUST_CHECK int hth_star_all_reduce(struct hth_star *s, float *x, size_t n,
                                       enum hth_wire wire);

/* A block of bytes. Receiving: n is set, at most max. */
struct hth_star_bytes {
    void *data;
    size_t n;
    size_t max;
};
/* Rank 0 sends bytes->data[n]; the others receive into theirs. */
HTH_MUST_CHECK int hth_star_bcast(struct hth_star *s,
                                  struct hth_star_bytes *bytes);
/* Every other rank sends own->data[n] to rank 0, which receives rank r's into
 * all[r] (all[0] is left alone). all is NULL except on rank 0, own is unused
 * there. */
HTH_MUST_CHECK int hth_star_gather(struct hth_star *s,
                                   const struct hth_star_bytes *own,
                                   struct hth_star_bytes *all);
/* Point to point along a link of the star: rank 0 with anyone, anyone with
 * rank 0. HTH_EINVAL for other pairs. */
HTH_MUST_CHECK int hth_star_send(struct hth_star *s, uint32_t to,
                                 const struct hth_star_bytes *bytes);
HTH_MUST_CHECK int hth_star_recv(struct hth_star *s, uint32_t from,
                                 struct hth_star_bytes *bytes);

/* Tell all neighbours why the work stops; the star and its links are dead. */
void hth_star_abort(struct hth_star *s, int status, const char *text);
/* From any thread: wake whoever is inside a call; it gets HTH_ECANCELLED. */
void hth_star_shutdown(struct hth_star *s);
/* The first failure (names the device); status 0 while there is none. */
const struct hth_err *hth_star_error(const struct hth_star *s);

/* What one all-reduce costs on one link, in each direction. */
struct hth_star_cost {
    uint64_t payload_bytes;
    uint64_t frames;
    uint64_t overhead_bytes; /* frames * HTH_FRAME_OVERHEAD_BYTES */
};
struct hth_star_cost hth_star_all_reduce_cost(enum hth_wire wire, size_t n);

#endif
