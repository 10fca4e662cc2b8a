/* grammar_internal.h - a compiled grammar, and building one.
 *
 * gbnf.c         GBNF text to a grammar
 * grammar.c      building: rules, byte sets, characters as bytes; checks
 * matcher.c      where an answer stands: a lazily built automaton
 * constraint.c   tokens against that automaton
 * token_index.c  a tokenizer's tokens, sorted
 *
 * A grammar is a program over bytes. A rule has alternatives, each a run of
 * operations up to an END; characters beyond ASCII have become sequences of
 * byte sets. Not for other modules. */
#ifndef HTH_MODEL_GRAMMAR_INTERNAL_H
#define HTH_MODEL_GRAMMAR_INTERNAL_H

#include <stdatomic.h>

#include "base/limits.h"
#include "model/constraint.h"

enum hth_gop_kind {
    HTH_GOP_END, /* of an alternative */
    HTH_GOP_SET, /* one byte of set a */
    HTH_GOP_CALL,
    HTH_GOP_REPEAT /* rule a, min to max times */
};

#define HTH_GRAMMAR_FOREVER UINT32_MAX

struct hth_gop {
    enum hth_gop_kind kind;
    uint32_t a;
    uint32_t min, max;
};

struct hth_gset {
    uint64_t bits[4];
};

struct hth_grule {
    uint32_t first, count; /* in alts */
    bool nullable;
    bool defined;
    char *name; /* owned; NULL for rules made on the way */
};

struct hth_grammar {
    atomic_uint refs;
    struct hth_gop *ops;
    uint32_t op_count, op_cap;
    uint32_t *alts; /* where alternatives begin in ops */
    uint32_t alt_count, alt_cap;
    struct hth_grule *rules;
    uint32_t rule_count, rule_cap;
    struct hth_gset *sets;
    uint32_t set_count, set_cap;
    uint32_t root;
};

/* Code points, both included. */
struct hth_grange {
    uint32_t from, to;
};

/* Operations of one alternative under construction. */
struct hth_gseq {
    struct hth_gop *ops; /* owned */
    uint32_t count, cap;
};

HTH_MUST_CHECK int hth_grammar__new(struct hth_grammar **out);
/* A rule by its name, made if new; UINT32_MAX: no memory or too many. */
uint32_t hth_grammar__rule(struct hth_grammar *g, const char *name, size_t n);
/* Append to a sequence; false: no memory or too many. */
bool hth_gseq__push(struct hth_gseq *s, struct hth_gop op);
bool hth_gseq__byte(struct hth_grammar *g, struct hth_gseq *s, uint8_t byte);
/* One character of the ranges (sorted here); negated: of all others. */
bool hth_gseq__class(struct hth_grammar *g, struct hth_gseq *s,
                     struct hth_grange *ranges, uint32_t count, bool negated);
/* Copy alternatives into the grammar as the rule's body. */
bool hth_grammar__define(struct hth_grammar *g, uint32_t rule,
                         const struct hth_gseq *alts, uint32_t count);
/* Turn the operations from `from` on into a rule of their own and repeat it. */
bool hth_gseq__repeat(struct hth_grammar *g, struct hth_gseq *s, uint32_t from,
                      uint32_t min, uint32_t max);
/* All rules defined, none left-recursive; works out which may be empty. */
HTH_MUST_CHECK int hth_grammar__check(struct hth_grammar *g,
                                      struct hth_err *err);

/* In front of a control token's name; no byte of UTF-8. */
#define HTH_GRAMMAR_CONTROL 0xffu

/* ---- tokens -----------------------------------------------------------------
 */

struct hth_token_index {
    uint32_t vocab;
    uint32_t *at;     /* [vocab + 1] where a token's bytes begin */
    uint8_t *bytes;   /* of all tokens, by id */
    uint32_t *sorted; /* [count] ids by their bytes; no empty ones */
    uint16_t *shared; /* [count] bytes in common with the one before */
    uint32_t count;
    uint32_t *ends; /* [end_count] ids that end a generation */
    uint32_t end_count;
};

/* ---- states -----------------------------------------------------------------
 */

/* A place in the grammar and where to go on after its rule: stacks that share
 * their lower ends. Equal stacks have equal numbers; a parent's number is
 * lower than its children's. */
struct hth_gnode {
    uint32_t op;
    uint32_t count;  /* passes of a REPEAT so far */
    uint32_t parent; /* or UINT32_MAX */
};

/* A set of nodes that all wait for a byte. */
struct hth_gstate {
    uint32_t first, count; /* in items */
    bool complete;         /* the text may end here */
};

#define HTH_GSTATE_UNKNOWN 0u
#define HTH_GSTATE_DEAD 1u
#define HTH_GSTATE_FIRST 2u /* what is stored is number + this */
#define HTH_GSTATE_FULL UINT32_MAX

struct hth_matcher {
    const struct hth_grammar *g;
    struct hth_gnode *nodes; /* [HTH_GRAMMAR_NODES_MAX] */
    uint32_t *node_index;    /* open addressing, twice as many; UINT32_MAX */
    uint32_t *stamp;         /* [nodes] last closure that visited it */
    uint32_t *work;          /* [nodes] */
    uint32_t node_count, now;
    struct hth_gstate *states; /* [HTH_GRAMMAR_STATES_MAX] */
    uint32_t *state_index;
    uint16_t (*next)[256]; /* [states]: by byte */
    uint32_t state_count;
    uint32_t *items; /* [HTH_GRAMMAR_ITEMS_MAX] */
    uint32_t item_count;
    bool full; /* the last step ran out of room */
    uint32_t state;
    uint64_t generation; /* counts flushes: older state numbers are void */
};

/* Memory is allocated here and never again. HTH_ENOMEM, HTH_ELIMIT. */
HTH_MUST_CHECK int hth_matcher_init(struct hth_matcher *m,
                                    const struct hth_grammar *g);
void hth_matcher_fini(struct hth_matcher *m); /* fine on zeroes */
/* The state after one more byte, HTH_GSTATE_DEAD or HTH_GSTATE_FULL. States
 * are numbers from HTH_GSTATE_FIRST on. */
uint32_t hth_matcher_step(struct hth_matcher *m, uint32_t state, uint8_t byte);
/* Forget everything but the present state; false: that alone does not fit. */
bool hth_matcher_flush(struct hth_matcher *m);
bool hth_matcher_complete(const struct hth_matcher *m, uint32_t state);

#endif
