/* forward_internal.h - what the files of a forward pass share. */
#ifndef HTH_MODEL_FORWARD_INTERNAL_H
#define HTH_MODEL_FORWARD_INTERNAL_H

#include "kernels/ops.h"
#include "model/forward.h"
#include "model/router.h"

/* Matrices and vectors of one layer, pointing into bound blocks. */
struct hth__layer {
    const float *attn_norm, *q_norm, *k_norm;
    const float *q_bias, *k_bias, *v_bias;
    struct hth_mat q, k, v, out;
    const float *ffn_norm;
    struct hth_mat gate, up, down; /* dense, or expert 0 */
    struct hth_router router;
    size_t gate_plane, up_plane, down_plane; /* bytes from expert to expert */
};

struct hth_forward {
    struct hth_forward_opts o;
    const struct hth_spec *s;
    struct hth_share share;
    uint32_t q_dim, kv_dim;   /* local */
    struct hth__layer *layer; /* [layers] */
    const float *final_norm;
    struct hth_mat output;
    struct hth_kv *kv;
    struct hth_attention *attention; /* NULL: no head here */
    struct hth_collective *group;
    const struct hth_blocks *source; /* NULL: everything is bound for good */
    const void **bound;              /* [pieces] where they lay last */
    double *inv_freq;                /* [rope_dim / 2] */
    struct hth_forward_times times;
    uint64_t lap_ns; /* until here the time has an operation */
    /* Activations, [rows_max][...] each; one allocation. */
    void *arena;
    float *h, *q, *k, *v, *att, *part, *gate, *up;
    float *cosines, *sines; /* [rows][rope_dim / 2] */
    float *route_scratch;
    uint32_t *expert_id;  /* [rows][experts_used] */
    float *expert_weight; /* [rows][experts_used] */
    float *xg, *yg;       /* rows gathered for one expert */
    uint32_t *row_list;
    float *row_weight;
    void *scratch;              /* of products */
    struct hth_lora_work *lora; /* NULL: no adapters */
};

/* forward.c: the time since the last lap belongs to op. */
void hth__lap(struct hth_forward *f, enum hth_op op);
/* This rank's part of half layer `half` (attention of layer 0, its FFN,
 * attention of layer 1 ...) in f->part: zeros where it has no share. */
HTH_MUST_CHECK int hth__run_half(struct hth_forward *f,
                                 const struct hth_batch *b, uint32_t half,
                                 struct hth_err *err);

/* forward_halves.c */
bool hth__can_halve(const struct hth_forward *f, const struct hth_batch *b);
HTH_MUST_CHECK int hth__run_halves(struct hth_forward *f,
                                   const struct hth_batch *b,
                                   struct hth_err *err);

#endif
