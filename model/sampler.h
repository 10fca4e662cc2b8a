/* sampler.h - from logits to one token.
 *
 * Order, as llama.cpp users know it: logit bias and penalties on the logits,
 * then top-k, typical-p, top-p, min-p, temperature, one draw. Temperature <= 0
 * is greedy (ties: the lowest id). The draw uses base/rng.h: same seed and
 * logits, same token. One sampler belongs to one request and one thread. */
#ifndef HTH_MODEL_SAMPLER_H
#define HTH_MODEL_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"
#include "base/status.h"

struct hth_bias {
    uint32_t id;
    float bias; /* -INFINITY bans the token */
};

struct hth_sampling {
    float temperature;       /* default 0.8 */
    uint32_t top_k;          /* 0: off; default 40 */
    float top_p;             /* 1: off; default 0.95 */
    float min_p;             /* 0: off; default 0.05 */
    float typical_p;         /* 0 or 1: off (default) */
    float repeat_penalty;    /* 1: off (default) */
    float frequency_penalty; /* 0: off (default) */
    float presence_penalty;  /* 0: off (default) */
    uint32_t repeat_last_n;  /* tokens looked at; default 64 */
    uint64_t seed;
    uint32_t biases;
    struct hth_bias bias[HTH_BIAS_MAX];
};

void hth_sampling_default(struct hth_sampling *s);
/* HTH_EINVAL with a sentence naming the parameter out of range. */
HTH_MUST_CHECK int hth_sampling_check(const struct hth_sampling *s,
                                      uint32_t vocab, struct hth_err *err);

/* How many of the best candidates of each vocabulary slice are enough for an
 * exact choice; 0: all logits are needed. */
uint32_t hth_sampling_candidates(const struct hth_sampling *s);

struct hth_candidate {
    uint32_t id;
    float logit;
};

/* The k largest of logits[n] (ids first_id + i), descending, ties by id, into
 * out; returns min(k, n). NaN counts as -INFINITY. */
uint32_t hth_top_candidates(const float *logits, uint32_t n, uint32_t first_id,
                            uint32_t k, struct hth_candidate *out);
/* The k best of cand[n] into out, descending; cand stays as it is. */
uint32_t hth_best_candidates(const struct hth_candidate *cand, uint32_t n,
                             uint32_t k, struct hth_candidate *out);
/* log sum exp of logits[n], in double. */
double hth_log_sum_exp(const float *logits, uint32_t n);

struct hth_sampler;
/* Copies *s. history_max: tokens remembered for the penalties. */
HTH_MUST_CHECK int hth_sampler_open(struct hth_sampler **out,
                                    const struct hth_sampling *s,
                                    uint32_t vocab);
void hth_sampler_close(struct hth_sampler *s); /* NULL is fine */
/* From now on pick chooses among the tokens that c allows, as if the others
 * had probability 0 from the start, and tells c what it chose. Needs all of the
 * vocabulary as candidates. c is borrowed for life; NULL: none. */
struct hth_constraint;
void hth_sampler_constrain(struct hth_sampler *s, struct hth_constraint *c);
/* Prompt and generated tokens, in order: what the penalties look back at. */
void hth_sampler_accept(struct hth_sampler *s, uint32_t id);
/* Choose among cand[n] (overwritten, any order): either all of the vocabulary
 * or the merged best candidates of every slice. n >= 1. HTH_PICK_NONE: the
 * constraint allows none of them. */
#define HTH_PICK_NONE UINT32_MAX
uint32_t hth_sampler_pick(struct hth_sampler *s, struct hth_candidate *cand,
                          uint32_t n);

#endif
