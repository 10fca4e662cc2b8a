/* ops.h - the arithmetic of a transformer step: pointers in, numbers out.
 *
 * All matrices are row-major; W is [rows][cols] of any supported type, a
 * product is y = x W^T. Activations are f32. No allocation: scratch is the
 * caller's. Each operation has a scalar reference (isa "scalar") and fast
 * paths; which set is used is chosen once, at run time, from the CPU's
 * features, or forced by the environment variable HEARTH_ISA (scalar, avx2,
 * avx512, neon) for tests. The result of an operation does not depend on the
 * number of threads of the pool: each output is computed by one thread in one
 * fixed order. It may differ between ISAs within the bounds of docs/kernels.md.
 *
 * Weights with 8 bits or less, and activations in 8 bits: rows of x are
 * quantised once per product set to 8-bit blocks (what llama.cpp does too);
 * f32, f16 and bf16 weights are multiplied with f32 activations and summed in
 * f32. */
#ifndef HTH_KERNELS_OPS_H
#define HTH_KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "kernels/pool.h"
#include "kernels/type.h"

/* ---- instruction sets ------------------------------------------------- */

/* Choose the fastest set this CPU has, or the one HEARTH_ISA names. Call once
 * before any other function here (later calls re-read the environment, for
 * tests; not while a product runs). HTH_EUNSUPPORTED with a sentence when
 * HEARTH_ISA names an unknown set or one this CPU lacks. */
HTH_MUST_CHECK int hth_isa_init(struct hth_err *err);
const char *hth_isa_name(void); /* of the set in use: "avx512" */

/* ---- products --------------------------------------------------------- */

struct hth_mat {
    uint32_t type; /* enum hth_type */
    uint32_t rows;
    uint32_t cols;    /* whole blocks of the type */
    size_t row_bytes; /* distance between rows */
    const void *data; /* borrowed; NULL only when rows is 0 */
    bool packed;      /* groups of 16 rows are as pack.h has them */
};

/* Bytes of scratch that hth_matmul needs for x of n rows and `cols` columns
 * with up to `threads` threads; covers every type. 64-byte aligned memory. */
size_t hth_matmul_scratch_bytes(uint32_t n, uint32_t cols, uint32_t threads);

/* For i in [0, count): y[i][r * ldy[i] + o] = sum_c x[r * ldx + c] *
 * w[i][o][c] for r in [0, n), o in [0, w[i].rows). All w[i] have the same
 * cols; x is read (and quantised) once. Matrices with 0 rows are skipped.
 * y must not overlap x. */
struct hth_matmul_job {
    const struct hth_mat *w; /* [count] */
    float *const *y;         /* [count] -> [n][ldy] */
    const size_t *ldy;       /* [count] floats between rows of y */
    uint32_t count;
    const float *x; /* [n][ldx] */
    size_t ldx;
    uint32_t n;
    void *scratch;
};
void hth_matmul(struct hth_pool *pool, const struct hth_matmul_job *job);

/* ---- elementwise, single-threaded, one row ----------------------------- */

/* y = x / sqrt(mean(x^2) + eps) * w; w may be NULL (all ones); y may be x.
 * The mean is summed in double. */
void hth_rmsnorm(float *y, const float *x, const float *w, uint32_t d,
                 float eps);

/* Rotate the first rot_dim of each head of v [heads][head_dim] by the angles
 * whose cosine and sine are given per pair [rot_dim / 2]. neox: pairs are
 * (i, i + rot_dim / 2), otherwise (2i, 2i + 1). */
void hth_rope(float *v, uint32_t heads, uint32_t head_dim, uint32_t rot_dim,
              const float *cosines, const float *sines, bool neox);

/* gate = silu(gate) * up */
void hth_swiglu(float *gate, const float *up, size_t n);
/* x += y */
void hth_add(float *x, const float *y, size_t n);
/* x += a * y */
void hth_axpy(float *x, float a, const float *y, size_t n);
/* In place softmax of n numbers. */
void hth_softmax(float *x, size_t n);

/* Conversions for KV rows and the wire. */
void hth_f32_to_f16_row(const float *src, uint16_t *dst, size_t n);
void hth_f16_to_f32_row(const uint16_t *src, float *dst, size_t n);

#endif
