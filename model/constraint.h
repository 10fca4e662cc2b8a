/* constraint.h - holding a generation to a grammar.
 *
 *   hth_grammar         what texts are allowed; compiled from GBNF or a JSON
 *                       schema; immutable, counted references, any thread
 *   hth_token_index     a tokenizer's tokens sorted by their bytes; immutable,
 *                       one per model, any thread
 *   hth_constraint      where one answer stands in its grammar; one thread
 *
 * The rule: a token is allowed when its bytes keep the answer a beginning of a
 * text of the grammar; an end token is allowed when the answer is such a text;
 * other control tokens only where the grammar names them (GBNF: <"text">). The
 * sampler works on the allowed tokens as if the others had probability 0 from
 * the start (the mask comes before top-k, top-p, min-p and temperature).
 * hth_constraint_filter() finds the same set without looking at every token.
 * docs/grammar.md has the method.
 *
 * A constraint's memory is allocated at open and bounded; nothing after that
 * allocates. A grammar so ambiguous that it does not fit gives HTH_ELIMIT. */
#ifndef HTH_MODEL_CONSTRAINT_H
#define HTH_MODEL_CONSTRAINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "base/cursor.h"
#include "base/status.h"
#include "model/gguf.h"
#include "model/sampler.h"
#include "model/tokenizer.h"

/* ---- grammars ------------------------------------------------------------ */

struct hth_grammar;

/* Compile GBNF text; the rule "root" is where it starts. Errors: HTH_EFORMAT
 * with line and column (also for left recursion and undefined rules),
 * HTH_ELIMIT, HTH_ENOMEM. */
HTH_MUST_CHECK int hth_grammar_open(struct hth_grammar **out,
                                    struct hth_str gbnf, struct hth_err *err);
/* Compile a JSON schema (object or boolean; borrowed for the call). NULL is
 * any JSON object: response_format json_object. HTH_EUNSUPPORTED names the
 * keyword and where it stands; HTH_EINVAL: a schema nothing can satisfy, or a
 * keyword's value of the wrong type. */
HTH_MUST_CHECK int hth_grammar_open_schema(struct hth_grammar **out,
                                           const json_t *schema,
                                           struct hth_err *err);
/* The GBNF that a schema becomes. */
HTH_MUST_CHECK int hth_schema_to_gbnf(const json_t *schema, struct hth_buf *out,
                                      struct hth_err *err);
/* The schemas of the list at root[key] as rules KEY0, KEY1...; references are
 * looked up in root. There is no rule "root": the caller writes it. */
HTH_MUST_CHECK int hth_schemas_to_gbnf(const json_t *root, const char *key,
                                       struct hth_buf *out,
                                       struct hth_err *err);
struct hth_grammar *hth_grammar_ref(struct hth_grammar *g); /* one more */
void hth_grammar_close(struct hth_grammar *g); /* one less; NULL is fine */

/* ---- tokens -------------------------------------------------------------- */

struct hth_token_index;

HTH_MUST_CHECK int hth_token_index_open(struct hth_token_index **out,
                                        const struct hth_tokenizer *t,
                                        struct hth_err *err);
void hth_token_index_close(struct hth_token_index *x); /* NULL is fine */

/* ---- one answer ---------------------------------------------------------- */

struct hth_constraint;

/* Takes a reference of g; x is borrowed for life. */
HTH_MUST_CHECK int hth_constraint_open(struct hth_constraint **out,
                                       struct hth_grammar *g,
                                       const struct hth_token_index *x,
                                       struct hth_err *err);
void hth_constraint_close(struct hth_constraint *c); /* NULL is fine */

/* Would this token keep the answer within the grammar? */
bool hth_constraint_allows(struct hth_constraint *c, uint32_t id);
/* The answer goes on with id. HTH_EINVAL: it is not allowed (nothing
 * changes); HTH_ELIMIT. */
HTH_MUST_CHECK int hth_constraint_accept(struct hth_constraint *c, uint32_t id);
/* The same for text that is no token of its own (tests, prefilled text). */
HTH_MUST_CHECK int hth_constraint_accept_text(struct hth_constraint *c,
                                              const void *text, size_t n);
/* The answer as it stands is a text of the grammar. */
bool hth_constraint_complete(const struct hth_constraint *c);
/* One bit per token (bit id % 32 of word id / 32), borrowed until the next
 * call; NULL: the grammar is too ambiguous. */
const uint32_t *hth_constraint_mask(struct hth_constraint *c);

/* Keep of cand[n] (all of the vocabulary, logits as the sampler will weigh
 * them, any order) the `best` best allowed ones, in front; best 0: all allowed
 * ones. Returns how many; 0: no token goes on from here. */
uint32_t hth_constraint_filter(struct hth_constraint *c,
                               struct hth_candidate *cand, uint32_t n,
                               uint32_t best);

#endif
