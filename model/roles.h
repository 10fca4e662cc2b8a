/* roles.h - the table of tensors a layer may have: name, shape, how it is cut.
 * Internal to model/: spec.c checks files against it, shard.c cuts by it. */
#ifndef HTH_MODEL_ROLES_H
#define HTH_MODEL_ROLES_H

#include "model/spec.h"

/* Sizes that shapes are made of. */
enum hth_size {
    HTH_SIZE_ONE,
    HTH_SIZE_DIM,
    HTH_SIZE_Q,  /* heads * head_dim */
    HTH_SIZE_KV, /* kv_heads * head_dim */
    HTH_SIZE_HEAD_DIM,
    HTH_SIZE_FF,
    HTH_SIZE_EXPERTS,
    HTH_SIZE_VOCAB
};

/* Which axis a rank takes a range of. */
enum hth_cut {
    HTH_CUT_NONE, /* every rank has all of it */
    HTH_CUT_ROWS,
    HTH_CUT_COLS
};

enum hth_need {
    HTH_NEED_ALWAYS,
    HTH_NEED_BIAS,    /* optional where the architecture allows it */
    HTH_NEED_QK_NORM, /* exactly where the architecture has it */
    HTH_NEED_DENSE,
    HTH_NEED_MOE
};

struct hth_role_info {
    const char *suffix; /* "attn_q.weight" */
    enum hth_size rows; /* vectors: their length, with ONE column ... */
    enum hth_size cols; /* ... where cut by rows, else ONE row */
    enum hth_size planes;
    enum hth_cut cut;
    enum hth_need need;
    uint8_t block; /* enum hth_block_kind of shard.h */
    bool f32_only; /* norms and biases */
};

extern const struct hth_role_info hth_roles[HTH_ROLE_COUNT];

uint32_t hth_size_of(const struct hth_spec *s, enum hth_size size);

#endif
