/* gguf.h - reading GGUF v2 and v3 files, whole or split, without trusting
 * them; and writing them.
 *
 * Owns: the mmap of each part and the directory of keys and tensors. Every
 * count, length and offset is checked against the file before it is used, and
 * nothing is allocated beyond what the file's own size justifies (base/
 * limits.h). All pointers handed out are borrowed until hth_gguf_close().
 * After open the object is read-only and may be shared by threads. A file
 * truncated underneath us while mapped raises SIGBUS on access: see
 * hth_gguf_read() for a path that reports it instead.
 * Spec: ggml's docs/gguf.md. */
#ifndef HTH_MODEL_GGUF_H
#define HTH_MODEL_GGUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

enum hth_gguf_type {
    HTH_GGUF_U8,
    HTH_GGUF_I8,
    HTH_GGUF_U16,
    HTH_GGUF_I16,
    HTH_GGUF_U32,
    HTH_GGUF_I32,
    HTH_GGUF_F32,
    HTH_GGUF_BOOL,
    HTH_GGUF_STRING,
    HTH_GGUF_ARRAY,
    HTH_GGUF_U64,
    HTH_GGUF_I64,
    HTH_GGUF_F64
};

#define HTH_TENSOR_DIMS_MAX 4u

struct hth_tensor {
    const char *name; /* NUL-terminated */
    uint32_t type;    /* enum hth_type; always supported */
    uint32_t dims;
    uint64_t ne[HTH_TENSOR_DIMS_MAX]; /* ne[0] = columns; unused are 1 */
    uint64_t bytes;
    uint32_t part;    /* which split file */
    uint64_t offset;  /* bytes from the start of that file */
    const void *data; /* mapped */
};

struct hth_str {
    const char *p; /* not NUL-terminated */
    size_t n;
};

/* A key's value; arrays are read through hth_gguf_array_*(). */
struct hth_gguf_kv {
    struct hth_str key;
    uint32_t type;       /* enum hth_gguf_type */
    uint32_t elem_type;  /* arrays: of the elements */
    uint64_t count;      /* arrays: number of elements; else 1 */
    const uint8_t *data; /* encoded value: of strings at the length, of arrays
                            at the first element */
    size_t bytes;        /* encoded size of what data points at */
    struct hth_str *strings; /* string arrays: [count], decoded; else NULL */
};

struct hth_gguf;

/* Open path; where its metadata says split.count > 1 the file must be named
 * "NAME-00001-of-0000N.gguf", and the other parts are opened from the same
 * directory. A file so named whose metadata knows of no split is refused. The
 * keys are those of the first part; tensors are in file order, part by part.
 * Tensors of a type that is not supported fail with the type's number or name
 * and the supported list. Errors: HTH_EIO, HTH_EFORMAT (the text says which
 * key, tensor or offset), HTH_EUNSUPPORTED, HTH_ELIMIT, HTH_ENOMEM. */
HTH_MUST_CHECK int hth_gguf_open(struct hth_gguf **out, const char *path,
                                 struct hth_err *err);
/* The same from memory (tests, fuzzing): data is borrowed until close, and 64-
 * byte aligned where tensors' data will be used as numbers. Splits are refused
 * (HTH_EUNSUPPORTED): the other parts cannot be found. */
HTH_MUST_CHECK int hth_gguf_open_memory(struct hth_gguf **out, const void *data,
                                        size_t size, struct hth_err *err);
void hth_gguf_close(struct hth_gguf *g); /* NULL is fine */

const char *hth_gguf_path(const struct hth_gguf *g); /* "" from memory */
uint32_t hth_gguf_version(const struct hth_gguf *g);
uint64_t hth_gguf_file_bytes(const struct hth_gguf *g); /* all parts */
uint32_t hth_gguf_parts(const struct hth_gguf *g);      /* at least 1 */
/* Path of a part ("" from memory) and its size; part < hth_gguf_parts(). */
const char *hth_gguf_part_path(const struct hth_gguf *g, uint32_t part);
uint64_t hth_gguf_part_bytes(const struct hth_gguf *g, uint32_t part);

size_t hth_gguf_kv_count(const struct hth_gguf *g);
const struct hth_gguf_kv *hth_gguf_kv_at(const struct hth_gguf *g, size_t i);
const struct hth_gguf_kv *hth_gguf_find(const struct hth_gguf *g,
                                        const char *key); /* NULL: missing */

/* "u32", "string"...; "?" for a number that is no type. */
const char *hth_gguf_type_name(uint32_t type);

/* Typed access. A missing key is HTH_ENOTFOUND and names the key; a wrong
 * type or a value that does not fit is HTH_EFORMAT. Integers of any width and
 * sign are accepted where the value fits. *out untouched on error. */
int hth_gguf_u32(const struct hth_gguf *g, const char *key, uint32_t *out,
                 struct hth_err *err);
int hth_gguf_f32(const struct hth_gguf *g, const char *key, float *out,
                 struct hth_err *err);
int hth_gguf_bool(const struct hth_gguf *g, const char *key, bool *out,
                  struct hth_err *err);
int hth_gguf_string(const struct hth_gguf *g, const char *key,
                    struct hth_str *out, struct hth_err *err);
/* Element i of a numeric array, converted; i is checked (HTH_EINVAL). A scalar
 * is read as an array of one, because files give some keys (head counts) either
 * way; bools are 0 and 1. i64 refuses floats and u64 beyond INT64_MAX. */
int hth_gguf_array_i64(const struct hth_gguf_kv *kv, uint64_t i, int64_t *out);
int hth_gguf_array_f64(const struct hth_gguf_kv *kv, uint64_t i, double *out);

size_t hth_gguf_tensor_count(const struct hth_gguf *g);
const struct hth_tensor *hth_gguf_tensor_at(const struct hth_gguf *g, size_t i);
const struct hth_tensor *hth_gguf_tensor(const struct hth_gguf *g,
                                         const char *name); /* NULL: none */

/* Bytes [at, at + n) of something, to dst. */
struct hth_read {
    uint64_t at;
    void *dst;
    size_t n;
};

/* Copy a piece of a tensor with pread, so that a file truncated or failing
 * underneath is HTH_EIO with its name, never a signal. From memory: a copy. */
HTH_MUST_CHECK int hth_gguf_read(const struct hth_gguf *g,
                                 const struct hth_tensor *t,
                                 struct hth_read what, struct hth_err *err);

/* ---- writing ----------------------------------------------------------- */

/* Keys first, then all tensors declared, then their data in order. Writes to
 * path + ".part" and renames on finish; abandon removes it. One thread. A put
 * that fails (a key or tensor given twice: HTH_EEXIST; an unsupported type or
 * impossible shape: HTH_EINVAL; HTH_ELIMIT, HTH_ENOMEM) sticks and is reported
 * by the next put_data or by finish. Writes version 3, alignment 32. */
struct hth_gguf_writer;
HTH_MUST_CHECK int hth_gguf_create(struct hth_gguf_writer **out,
                                   const char *path, struct hth_err *err);
void hth_gguf_put_u32(struct hth_gguf_writer *w, const char *key, uint32_t v);
void hth_gguf_put_f32(struct hth_gguf_writer *w, const char *key, float v);
void hth_gguf_put_bool(struct hth_gguf_writer *w, const char *key, bool v);
void hth_gguf_put_string(struct hth_gguf_writer *w, const char *key,
                         const char *v);
void hth_gguf_put_strings(struct hth_gguf_writer *w, const char *key,
                          const struct hth_str *v, size_t count);
void hth_gguf_put_i32s(struct hth_gguf_writer *w, const char *key,
                       const int32_t *v, size_t count);
void hth_gguf_put_f32s(struct hth_gguf_writer *w, const char *key,
                       const float *v, size_t count);
/* Copy a key's value as it is from another file. general.alignment and split.*
 * describe that file and not the new one: they are left out. */
void hth_gguf_put_copy(struct hth_gguf_writer *w, const struct hth_gguf_kv *kv);
void hth_gguf_put_tensor(struct hth_gguf_writer *w, const char *name,
                         uint32_t type, uint32_t dims, const uint64_t *ne);
/* Bytes of the declared tensors, one after the other, in any pieces. Padding
 * is the writer's business. */
HTH_MUST_CHECK int hth_gguf_put_data(struct hth_gguf_writer *w,
                                     const void *data, size_t n,
                                     struct hth_err *err);
/* Check that all data came, flush, rename; closes w in every case. */
HTH_MUST_CHECK int hth_gguf_finish(struct hth_gguf_writer *w,
                                   struct hth_err *err);
void hth_gguf_abandon(struct hth_gguf_writer *w); /* NULL is fine */

#endif
