/* spec.h - what a model is, without its weights: the architecture's
 * description, its hyperparameters, the type of every tensor. The coordinator
 * reads it from a GGUF; a worker gets it over the wire and derives from it
 * and the plan the exact layout of its blocks. Plain data; thread-safe once
 * read.
 *
 * One forward pass serves all architectures; the flags of struct hth_arch say
 * what it does, and a new family is a new row of the table in spec.c. */
#ifndef HTH_MODEL_SPEC_H
#define HTH_MODEL_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "base/status.h"
#include "model/gguf.h"
#include "scheduler/plan.h"

struct hth_arch {
    const char *name;   /* general.architecture */
    bool rope_neox;     /* pairs (i, i + n/2) instead of (2i, 2i + 1) */
    bool qkv_bias;      /* allowed, used where present */
    bool qk_norm;       /* RMS norm of each head of q and k before rope */
    bool moe;           /* experts instead of a dense FFN */
    bool expert_renorm; /* weights of the chosen experts sum to 1 */
};

/* The part a tensor plays; one row of the table in spec.c each. */
enum hth_role {
    HTH_ROLE_ATTN_NORM,
    HTH_ROLE_ATTN_Q,
    HTH_ROLE_ATTN_K,
    HTH_ROLE_ATTN_V,
    HTH_ROLE_ATTN_Q_BIAS,
    HTH_ROLE_ATTN_K_BIAS,
    HTH_ROLE_ATTN_V_BIAS,
    HTH_ROLE_ATTN_Q_NORM,
    HTH_ROLE_ATTN_K_NORM,
    HTH_ROLE_ATTN_OUT,
    HTH_ROLE_FFN_NORM,
    HTH_ROLE_FFN_ROUTER,
    HTH_ROLE_FFN_GATE,
    HTH_ROLE_FFN_UP,
    HTH_ROLE_FFN_DOWN,
    HTH_ROLE_FFN_GATE_EXPS,
    HTH_ROLE_FFN_UP_EXPS,
    HTH_ROLE_FFN_DOWN_EXPS,
    HTH_ROLE_COUNT /* per layer; what follows exists once */
};

#define HTH_TYPE_ABSENT 0xffu

struct hth_spec {
    const struct hth_arch *arch;
    uint32_t layers, dim, heads, kv_heads, head_dim, ff, vocab;
    uint32_t experts, experts_used;
    uint32_t rope_dim;
    uint32_t ctx_train;
    float rope_base;
    float rope_scale; /* positions are multiplied by this (1: none) */
    float norm_eps;
    bool tied; /* the output matrix is the embedding */
    bool has_rope_factors;
    float rope_factors[HTH_HEAD_DIM_MAX / 2];     /* divide the frequencies */
    uint8_t type[HTH_LAYERS_MAX][HTH_ROLE_COUNT]; /* or HTH_TYPE_ABSENT */
    uint8_t output_type;
};

/* Read and check: every tensor that the architecture needs is there with the
 * shape the hyperparameters say. Unsupported architectures name themselves
 * and what is supported. */
HTH_MUST_CHECK int hth_spec_read(struct hth_spec *out, const struct hth_gguf *g,
                                 struct hth_err *err);

/* Over the wire. Decoding checks everything that reading a file checks. */
#define HTH_SPEC_BYTES_MAX (64u << 10)
void hth_spec_encode(const struct hth_spec *s, struct hth_buf *out);
HTH_MUST_CHECK int hth_spec_decode(struct hth_spec *s, struct hth_cursor *c,
                                   struct hth_err *err);
void hth_plan_encode(const struct hth_plan *p, struct hth_buf *out);
/* A plan from a peer: every range is checked against the spec. */
HTH_MUST_CHECK int hth_plan_decode(struct hth_plan *p, const struct hth_spec *s,
                                   struct hth_cursor *c, struct hth_err *err);

/* The numbers that scheduler/ works with. */
void hth_spec_shape(const struct hth_spec *s, uint32_t kv_type,
                    struct hth_shape *out);

/* "blk.3.attn_q.weight" of a role; dst at least 64 bytes. */
void hth_role_tensor_name(enum hth_role role, uint32_t layer, char *dst,
                          size_t size);
const char *hth_arch_list(void); /* "llama, qwen2, ..." */

#endif
