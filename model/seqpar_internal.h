/* seqpar_internal.h - what the files of a spread prompt share.
 *
 * Keys and values on the wire, a piece: up to HTH_SEQPAR_PIECE_ROWS rows of
 * some KV heads, per head all key rows, then all value rows, each of the
 * cache's type (hth_row_bytes()). Heads are outermost so that one rank's heads
 * are a run. */
#ifndef HTH_MODEL_SEQPAR_INTERNAL_H
#define HTH_MODEL_SEQPAR_INTERNAL_H

#include "kernels/attn.h"
#include "model/seqpar.h"

#define HTH__SLOTS 2u /* layers of keys and values at a time */
#define HTH__PIECE_BLOCKS (HTH_SEQPAR_PIECE_ROWS / HTH_ATTN_KEYS)
#define HTH__TILE_ROWS 32u /* queries of one task */
/* Pieces that are attended to at once, where so many are there: what a tile of
 * queries costs beside its keys is paid once for all of them. */
#define HTH__BATCH_PIECES 4u
#define HTH__BATCH_BLOCKS (HTH__BATCH_PIECES * HTH__PIECE_BLOCKS)

/* Some rows of keys and values in wire form. */
struct hth__piece {
    const uint8_t *data;
    const uint32_t *pos; /* [rows], ascending */
    uint32_t rows;
    uint32_t head_first, heads;
};

/* KV heads of the cached prefix that a rank answers for: those of its share
 * that no lower rank has. */
struct hth__heads {
    uint32_t first, count;
};

struct hth__list {
    struct hth_peer_msg *v;
    uint32_t n;
};

/* One of the layers under way. */
struct hth__slot {
    uint8_t *arena;  /* [count] positions, rank after rank */
    uint8_t *prefix; /* [prefix] positions, owner after owner */
    struct hth__list own, in, on, repair, prefix_out, prefix_in, credit;
    uint32_t own_total, on_total, came_total; /* so far, of the counts */
    hth_peer_count own_done, on_done;
};

struct hth_seqpar {
    struct hth_seqpar_opts o;
    const struct hth_spec *spec;
    uint32_t ranks, rank, next, before;
    uint32_t rows; /* own */
    uint32_t group, adim;
    size_t row_bytes; /* of a key or a value */
    size_t pos_bytes; /* all heads' keys and values of one position */
    uint32_t *pos;    /* [count], rank after rank; [prefix] behind */
    uint32_t from[HTH_RANKS_MAX]; /* blocks that come, in order */
    uint32_t arrivals;
    struct hth__heads heads[HTH_RANKS_MAX];
    struct hth__slot slot[HTH__SLOTS];
    hth_peer_count came[HTH_RANKS_MAX]; /* pieces, by whose block it is */
    uint32_t came_seen[HTH_RANKS_MAX];  /* of them, used */
    hth_peer_count prefix_came[HTH_RANKS_MAX]; /* by owner */
    uint32_t prefix_seen[HTH_RANKS_MAX];
    hth_peer_count credits[HTH_RANKS_MAX];
    hth_peer_count repaired;
    struct hth__list credit_in, repair_in;
    uint8_t *staging[HTH_RANKS_MAX]; /* of repair, by sender */
    float *q, *att;
    const float *k, *v;          /* of the rows at hand */
    struct hth_attn_state state; /* [kv head][row][head of its group] */
    uint8_t *blocks;             /* some pieces, as the kernel wants them */
    uint8_t *scratch;
    size_t scratch_bytes; /* of one thread */
    struct hth_seqpar_times times;
};

/* seqpar_wire.c */
/* Key rows and value rows of a head in a piece. */
const uint8_t *hth__key_rows(const struct hth_seqpar *s,
                             const struct hth__piece *p, uint32_t head);
const uint8_t *hth__value_rows(const struct hth_seqpar *s,
                               const struct hth__piece *p, uint32_t head);
uint32_t hth__pieces(uint32_t rows);
uint32_t hth__piece_rows(uint32_t rows, uint32_t piece);
/* Piece i of the new tokens of a rank, in a slot. */
struct hth__piece hth__block_piece(const struct hth_seqpar *s,
                                   const struct hth__slot *slot, uint32_t rank,
                                   uint32_t i);
struct hth__piece hth__prefix_piece(const struct hth_seqpar *s,
                                    const struct hth__slot *slot,
                                    uint32_t owner, uint32_t i);
/* Own rows first .. first + n from s->k, s->v into the slot. */
void hth__pack(struct hth_seqpar *s, struct hth__slot *slot, uint32_t first,
               uint32_t n);
/* Own heads of a piece into the cache, and the other way for the prefix. */
void hth__keep(struct hth_seqpar *s, uint32_t layer,
               const struct hth__piece *p);
void hth__fetch_prefix(struct hth_seqpar *s, struct hth__slot *slot,
                       uint32_t layer);

/* seqpar_plan.c */
void hth__prefix_heads(const struct hth_seqpar_opts *o,
                       struct hth__heads heads[HTH_RANKS_MAX]);
/* Does `from` send its part of the prefix to `to`? */
bool hth__sends_prefix(const struct hth_seqpar *s, uint32_t from, uint32_t to);
/* Does this rank's credit let `from` go on? */
bool hth__wants_credit(const struct hth_seqpar *s, uint32_t from, uint32_t to);
bool hth__sends_repair(const struct hth_seqpar *s, uint32_t from, uint32_t to);
HTH_MUST_CHECK int hth__make_messages(struct hth_seqpar *s,
                                      struct hth_err *err);
void hth__free_messages(struct hth_seqpar *s);
/* Say what is expected of a layer, and let the senders know. */
void hth__open_layer(struct hth_seqpar *s, uint32_t layer);
void hth__post_own(struct hth_seqpar *s, uint32_t layer, uint32_t piece);
void hth__post_prefix(struct hth_seqpar *s, uint32_t layer);
void hth__expect_always(struct hth_seqpar *s);

/* seqpar_attn.c: fold n pieces of the same heads, HTH__BATCH_PIECES at most,
 * into the partials of all own rows; as if one after the other. */
void hth__attend(struct hth_seqpar *s, const struct hth__piece *p, uint32_t n);
void hth__attend_begin(struct hth_seqpar *s);
/* Answers of own rows first .. first + n into s->att. */
void hth__attend_finish(struct hth_seqpar *s, uint32_t first, uint32_t n);

#endif
