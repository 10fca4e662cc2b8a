/* star_internal.h - shared by star.c (life, bytes) and star_reduce.c (sums). */
#ifndef HTH_NET_STAR_INTERNAL_H
#define HTH_NET_STAR_INTERNAL_H

#include <stdatomic.h>

#include "net/star.h"

/* Numbers of one piece: what fills a frame, in whole blocks of 32. */
#define HTH__PIECE_NUMBERS(wire)                        \
    ((wire) == HTH_WIRE_F32   ? HTH_LINK_CUT_BYTES / 4u \
     : (wire) == HTH_WIRE_F16 ? HTH_LINK_CUT_BYTES / 2u \
                              : HTH_LINK_CUT_BYTES / 34u * 32u)
#define HTH__PIECE_BUFFERS 2u /* receive one while adding the other */

enum hth__star_kind {
    HTH__STAR_REDUCE = 1,
    HTH__STAR_BCAST,
    HTH__STAR_GATHER,
    HTH__STAR_SEND
};

struct hth_star {
    uint32_t rank;
    uint32_t ranks;
    uint32_t link_count; /* ranks - 1 on rank 0, else 1; 0 when alone */
    uint32_t timeout_ms;
    uint64_t op; /* calls so far; in every tag, so ranks stay in step */
    struct hth_link *links[HTH_RANKS_MAX];
    struct hth_link_msg msgs[HTH_RANKS_MAX]; /* one receive per link */
    struct hth_pool *pool;
    uint8_t *pieces;   /* rank 0: [link][HTH__PIECE_BUFFERS][CUT]; else [CUT] */
    uint8_t *scratch;  /* one encoded piece */
    atomic_int failed; /* a status, while threads share a reduction */
    struct hth_err error;
};

/* Bits: 40 operation, 4 kind, 4 wire, 16 piece. */
static inline uint64_t hth__star_tag(uint64_t op, enum hth__star_kind kind,
                                     unsigned wire, uint64_t piece)
{
    return op << 24 | (uint64_t)kind << 20 | (uint64_t)wire << 16 |
           (piece & 0xffff);
}

/* End the star: keep the first link's sentence, tell the other ranks. */
int hth__star_fail(struct hth_star *s, int status, const char *doing);

#endif
