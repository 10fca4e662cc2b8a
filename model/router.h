/* router.h - which experts a row goes to.
 *
 * The choice must be the same on every rank, whatever its CPU: two ranks that
 * disagree would add up halves of different experts. So this is the one piece
 * of arithmetic whose order is fixed across instruction sets: lanes of 16
 * floats, no fused operations, sums in a stated order (router_ref.c). Pure,
 * thread-safe. */
#ifndef HTH_MODEL_ROUTER_H
#define HTH_MODEL_ROUTER_H

#include <stdint.h>

#include "kernels/ops.h"

struct hth_router {
    const float *norm; /* [dim], the FFN's norm weights */
    float eps;
    struct hth_mat gate; /* [experts][dim], any type */
    uint32_t experts;
    uint32_t used;
    uint8_t renorm; /* weights of the chosen sum to 1 */
};

/* x: [dim] residual. ids, weights: [used], ids ascending. scratch: floats,
 * 2 * dim + experts. Ties go to the lower id. */
void hth_route(const struct hth_router *r, const float *x, float *scratch,
               uint32_t *ids, float *weights);

#endif
