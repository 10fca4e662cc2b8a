/* lora.h - low-rank adapters (LoRA, arXiv 2106.09685): W x + s B (A x) beside
 * the product of a weight matrix, s = alpha / r times the user's scale.
 *
 * A file is a GGUF as llama.cpp's convert_lora_to_gguf writes it: general.type
 * "adapter", adapter.type "lora", adapter.lora.alpha, and pairs of tensors
 * NAME.lora_a [r][columns of NAME], NAME.lora_b [rows of NAME][r]. Rows of q
 * and k are in the order of the model's file.
 *
 * A slice is what one rank needs of it, as bytes that travel like a block of
 * weights. Where W's rows are cut, A is whole and B's rows are cut with W's;
 * where its columns are cut, A's columns are cut with the rank's part of x and
 * B is whole, so that B (A_i x_i) is a part of the sum that the all-reduce
 * makes anyway: an adapter adds no message.
 *
 * Adapters of the seven matrices of a layer (q, k, v, attention output; gate,
 * up, down of a dense FFN) are taken; anything else in a file is refused by
 * name, because a part left out is silently another adapter.
 *
 * Files and slices may come from anywhere: every count and shape is checked.
 * Objects are read-only once open and may be shared by threads. */
#ifndef HTH_MODEL_LORA_H
#define HTH_MODEL_LORA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/hash.h"
#include "base/limits.h"
#include "base/status.h"
#include "kernels/ops.h"
#include "kernels/pool.h"
#include "model/gguf.h"
#include "model/spec.h"

/* ---- files --------------------------------------------------------------- */

struct hth_lora_file;

/* Read and check against the model, which is borrowed for life. The data stay
 * in the file. Errors: those of hth_gguf_open(); HTH_EFORMAT (no adapter, a
 * shape that does not fit: names the tensor), HTH_EUNSUPPORTED (another
 * architecture, a tensor that is not one of the above), HTH_ELIMIT. */
HTH_MUST_CHECK int hth_lora_file_open(struct hth_lora_file **out,
                                      const char *path,
                                      const struct hth_spec *spec,
                                      struct hth_err *err);
/* From memory, borrowed (tests, fuzzing). */
HTH_MUST_CHECK int hth_lora_file_open_memory(struct hth_lora_file **out,
                                             const void *data, size_t size,
                                             const struct hth_spec *spec,
                                             struct hth_err *err);
void hth_lora_file_close(struct hth_lora_file *f); /* NULL is fine */

uint32_t hth_lora_file_pairs(const struct hth_lora_file *f);
uint32_t hth_lora_file_rank(const struct hth_lora_file *f); /* the largest r */
float hth_lora_file_alpha(const struct hth_lora_file *f);
/* SHA-256 of all that an adapter's effect depends on: reads the whole file.
 * HTH_EIO, HTH_ENOMEM. */
HTH_MUST_CHECK int hth_lora_file_digest(const struct hth_lora_file *f,
                                        uint8_t out[HTH_HASH_BYTES],
                                        struct hth_err *err);

/* ---- slices -------------------------------------------------------------- */

/* Which slice. All borrowed. */
struct hth_lora_place {
    const struct hth_spec *spec;
    const struct hth_plan *plan;
    uint32_t rank;
};

/* Bytes of a rank's slice; 0 never: a rank without a share gets a head that
 * says so. */
uint64_t hth_lora_slice_bytes(const struct hth_lora_file *f,
                              const struct hth_lora_place *at);
/* Fill dst[hth_lora_slice_bytes()]. F32, F16 and BF16 stay what they are,
 * other types become F32. The same file and place give the same bytes.
 * HTH_EIO with the file's name, HTH_ENOMEM. */
HTH_MUST_CHECK int hth_lora_slice(const struct hth_lora_file *f,
                                  const struct hth_lora_place *at, uint8_t *dst,
                                  struct hth_err *err);

/* ---- adapters in use ------------------------------------------------------
 */

struct hth_lora;

/* Check a slice against its place and bring it into the kernels' layout, in
 * its own memory (hth_mem_alloc()), which is the adapter's from here on, and
 * freed on error. pool may be NULL. HTH_EFORMAT: not a slice of this place. */
HTH_MUST_CHECK int hth_lora_open(struct hth_lora **out,
                                 const struct hth_lora_place *at,
                                 uint8_t *slice, uint64_t bytes,
                                 struct hth_err *err);
void hth_lora_close(struct hth_lora *l); /* NULL is fine */
uint64_t hth_lora_bytes(const struct hth_lora *l);

/* The pair beside one matrix; NULL: the adapter leaves it alone. */
struct hth_lora_pair {
    struct hth_mat a; /* [r, padded][columns] */
    struct hth_mat b; /* [rows, padded][r, padded] */
    uint32_t rows;    /* of b that count */
    float scale;      /* alpha / r */
};
const struct hth_lora_pair *hth_lora_pair(const struct hth_lora *l,
                                          uint32_t layer, enum hth_role role);

/* What is added for a row. Unused entries are zero, so that sets compare as
 * bytes. */
struct hth_lora_use {
    const struct hth_lora *lora;
    float scale;
    uint32_t zero;
};
struct hth_lora_set {
    uint32_t n, zero; /* n <= HTH_LORA_SET_MAX */
    struct hth_lora_use use[HTH_LORA_SET_MAX];
};

/* ---- adding (lora_add.c) ---------------------------------------------------
 */

/* Room for the products of an adapter, made once. One thread. */
struct hth_lora_work;
struct hth_lora_work_opts {
    uint32_t in_max;       /* columns of any matrix here */
    uint32_t out_max;      /* rows of any matrix here */
    struct hth_pool *pool; /* borrowed; NULL: the calling thread only */
};
/* NULL: no memory. */
struct hth_lora_work *hth_lora_work_open(const struct hth_lora_work_opts *o);
void hth_lora_work_close(struct hth_lora_work *w); /* NULL is fine */
uint64_t hth_lora_work_bytes(const struct hth_lora_work_opts *o,
                             uint32_t threads);

#define HTH_LORA_ROLES_MAX 3u /* that read the same x */

struct hth_lora_job {
    const struct hth_lora_set *const *set; /* [rows]; NULL entry: nothing */
    uint32_t rows;
    uint32_t layer;
    uint32_t count; /* of matrices */
    enum hth_role role[HTH_LORA_ROLES_MAX];
    const float *x; /* [rows][ldx] */
    size_t ldx;
    float *y[HTH_LORA_ROLES_MAX]; /* [rows][ldy]: added to */
    size_t ldy[HTH_LORA_ROLES_MAX];
};
/* y += the adapters' parts. What is added to a row depends on that row and its
 * set only, bit for bit, never on the other rows. No allocation. */
void hth_lora_add(struct hth_lora_work *w, const struct hth_lora_job *j);

#endif
