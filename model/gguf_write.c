/* gguf_write.c - writing a GGUF file, version 3, little-endian, alignment 32.
 *
 * Owns: the bytes of the header until the first tensor data arrives, then the
 * count of data bytes written. Refuses duplicate names, shapes that are no
 * whole blocks, more data than was declared and less. Fails by a sticky error:
 * the puts return nothing, the next put_data or finish reports the first
 * failure. The file appears under its name only when it is complete. */
#include "model/gguf.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "kernels/type.h"
#include "model/gguf_internal.h"

#define GGUF_VERSION 3u

struct hth_gguf_writer {
    char *path;      /* owned; what the file will be called */
    char *part_path; /* owned; path + ".part" */
    FILE *file;      /* NULL after finish began */

    struct hth_buf kvs; /* encoded keys */
    uint64_t kv_count;
    struct hth_buf key_names; /* NUL-terminated, one after the other */

    struct hth_buf infos; /* encoded tensor entries */
    struct hth_buf tensor_names;
    struct hth_buf sizes; /* of tensors, bytes: u64 each */
    uint64_t tensor_count;
    uint64_t data_bytes; /* of all declared tensors, padded */

    bool header_written;
    uint64_t current;      /* tensor that takes the next byte of data */
    uint64_t current_done; /* bytes of it that are written */
    int status;            /* first failure; 0 while all is well */
    struct hth_err err;    /* its sentence */
};

static uint64_t padded(uint64_t n)
{
    return (n + GGUF_ALIGN_DEFAULT - 1) / GGUF_ALIGN_DEFAULT *
           GGUF_ALIGN_DEFAULT;
}

/* ---- life ---------------------------------------------------------------- */

static void writer_free(struct hth_gguf_writer *w)
{
    if (w->file != NULL)
        fclose(w->file);
    hth_buf_fini(&w->kvs);
    hth_buf_fini(&w->key_names);
    hth_buf_fini(&w->infos);
    hth_buf_fini(&w->tensor_names);
    hth_buf_fini(&w->sizes);
    free(w->path);
    free(w->part_path);
    free(w);
}

static struct hth_gguf_writer *writer_alloc(const char *path)
{
    struct hth_gguf_writer *w = calloc(1, sizeof *w);

    if (w == NULL)
        return NULL;
    hth_buf_init(&w->kvs, HTH_GGUF_META_BYTES_MAX);
    hth_buf_init(&w->key_names, HTH_GGUF_META_BYTES_MAX);
    hth_buf_init(&w->infos, HTH_GGUF_META_BYTES_MAX);
    hth_buf_init(&w->tensor_names, HTH_GGUF_META_BYTES_MAX);
    hth_buf_init(&w->sizes, 8u * HTH_GGUF_TENSORS_MAX);
    w->path = strdup(path);
    if (asprintf(&w->part_path, "%s.part", path) < 0)
        w->part_path = NULL;
    if (w->path == NULL || w->part_path == NULL) {
        writer_free(w);
        return NULL;
    }
    return w;
}

int hth_gguf_create(struct hth_gguf_writer **out, const char *path,
                    struct hth_err *err)
{
    struct hth_gguf_writer *w = writer_alloc(path);
    int rc;

    if (w == NULL)
        return hth_fail(err, HTH_ENOMEM, "create %.200s: out of memory", path);
    w->file = fopen(w->part_path, "wbe");
    if (w->file == NULL) {
        rc = hth_fail(err, HTH_EIO, "create %.200s: %s", w->part_path,
                      strerror(errno));
        writer_free(w);
        return rc;
    }
    *out = w;
    return 0;
}

void hth_gguf_abandon(struct hth_gguf_writer *w)
{
    if (w == NULL)
        return;
    unlink(w->part_path);
    writer_free(w);
}

/* ---- keys ---------------------------------------------------------------- */

/* Add name to a list, false if it is there already. A linear search: files
 * have tens of keys and hundreds of tensors. */
static bool add_name(struct hth_buf *names, struct hth_str name)
{
    for (size_t at = 0; at < names->len;) {
        const char *have = (const char *)names->data + at;
        size_t n = strlen(have);

        if (n == name.n && memcmp(have, name.p, n) == 0)
            return false;
        at += n + 1;
    }
    hth_put_bytes(names, name.p, name.n);
    hth_put_u8(names, 0);
    return true;
}

static void put_str(struct hth_buf *b, struct hth_str s)
{
    hth_put_u64(b, s.n);
    hth_put_bytes(b, s.p, s.n);
}

/* Begin a key: its name and type. False if the writer has failed, in which
 * case the caller puts nothing. */
static bool begin_key(struct hth_gguf_writer *w, struct hth_str key,
                      uint32_t type)
{
    if (w->status != 0)
        return false;
    HTH_ASSERT(!w->header_written);
    if (key.n == 0 || key.n > HTH_GGUF_KEY_BYTES_MAX)
        w->status = hth_fail(&w->err, HTH_EINVAL,
                             "%s: a key's name has %zu bytes", w->path, key.n);
    else if (w->kv_count == HTH_GGUF_KVS_MAX)
        w->status = hth_fail(&w->err, HTH_ELIMIT, "%s: more than %u keys",
                             w->path, HTH_GGUF_KVS_MAX);
    else if (!add_name(&w->key_names, key))
        w->status = hth_fail(&w->err, HTH_EEXIST, "%s: key %.*s is put twice",
                             w->path, (int)key.n, key.p);
    if (w->status != 0)
        return false;
    w->kv_count++;
    put_str(&w->kvs, key);
    hth_put_u32(&w->kvs, type);
    return true;
}

static bool begin_named(struct hth_gguf_writer *w, const char *key,
                        uint32_t type)
{
    return begin_key(w, (struct hth_str){key, strlen(key)}, type);
}

static bool begin_array(struct hth_gguf_writer *w, const char *key,
                        uint32_t elem_type, size_t count)
{
    if (!begin_named(w, key, HTH_GGUF_ARRAY))
        return false;
    hth_put_u32(&w->kvs, elem_type);
    hth_put_u64(&w->kvs, count);
    return true;
}

void hth_gguf_put_u32(struct hth_gguf_writer *w, const char *key, uint32_t v)
{
    if (begin_named(w, key, HTH_GGUF_U32))
        hth_put_u32(&w->kvs, v);
}

void hth_gguf_put_f32(struct hth_gguf_writer *w, const char *key, float v)
{
    if (begin_named(w, key, HTH_GGUF_F32))
        hth_put_f32(&w->kvs, v);
}

void hth_gguf_put_bool(struct hth_gguf_writer *w, const char *key, bool v)
{
    if (begin_named(w, key, HTH_GGUF_BOOL))
        hth_put_u8(&w->kvs, v);
}

void hth_gguf_put_string(struct hth_gguf_writer *w, const char *key,
                         const char *v)
{
    if (begin_named(w, key, HTH_GGUF_STRING))
        put_str(&w->kvs, (struct hth_str){v, strlen(v)});
}

void hth_gguf_put_strings(struct hth_gguf_writer *w, const char *key,
                          const struct hth_str *v, size_t count)
{
    if (!begin_array(w, key, HTH_GGUF_STRING, count))
        return;
    for (size_t i = 0; i < count; i++)
        put_str(&w->kvs, v[i]);
}

void hth_gguf_put_i32s(struct hth_gguf_writer *w, const char *key,
                       const int32_t *v, size_t count)
{
    if (!begin_array(w, key, HTH_GGUF_I32, count))
        return;
    for (size_t i = 0; i < count; i++)
        hth_put_u32(&w->kvs, (uint32_t)v[i]);
}

void hth_gguf_put_f32s(struct hth_gguf_writer *w, const char *key,
                       const float *v, size_t count)
{
    if (!begin_array(w, key, HTH_GGUF_F32, count))
        return;
    for (size_t i = 0; i < count; i++)
        hth_put_f32(&w->kvs, v[i]);
}

static bool describes_file(struct hth_str key)
{
    static const char align[] = "general.alignment";
    static const char split[] = "split.";

    return (key.n == sizeof align - 1 && memcmp(key.p, align, key.n) == 0) ||
           (key.n > sizeof split - 1 &&
            memcmp(key.p, split, sizeof split - 1) == 0);
}

void hth_gguf_put_copy(struct hth_gguf_writer *w, const struct hth_gguf_kv *kv)
{
    if (describes_file(kv->key) || !begin_key(w, kv->key, kv->type))
        return;
    if (kv->type == HTH_GGUF_ARRAY) {
        hth_put_u32(&w->kvs, kv->elem_type);
        hth_put_u64(&w->kvs, kv->count);
    }
    hth_put_bytes(&w->kvs, kv->data, kv->bytes);
}

/* ---- tensors ------------------------------------------------------------- */

/* Bytes of a tensor; 0 when the type is unsupported, rows are not whole
 * blocks, or the product does not fit. */
static uint64_t tensor_bytes(uint32_t type, uint32_t dims, const uint64_t *ne)
{
    uint64_t bytes;

    if (dims < 1 || dims > HTH_TENSOR_DIMS_MAX)
        return 0;
    bytes = hth_row_bytes(type, ne[0]);
    for (uint32_t d = 1; d < dims; d++)
        if (__builtin_mul_overflow(bytes, ne[d], &bytes))
            return 0;
    return bytes <= INT64_MAX ? bytes : 0;
}

static int check_tensor(struct hth_gguf_writer *w, struct hth_str name,
                        uint64_t bytes)
{
    if (name.n == 0 || name.n > HTH_GGUF_NAME_BYTES_MAX)
        return hth_fail(&w->err, HTH_EINVAL,
                        "%s: a tensor's name has %zu bytes", w->path, name.n);
    if (bytes == 0)
        return hth_fail(&w->err, HTH_EINVAL,
                        "%s: tensor %s has an unsupported type or an "
                        "impossible shape",
                        w->path, name.p);
    if (w->tensor_count == HTH_GGUF_TENSORS_MAX)
        return hth_fail(&w->err, HTH_ELIMIT, "%s: more than %u tensors",
                        w->path, HTH_GGUF_TENSORS_MAX);
    if (!add_name(&w->tensor_names, name))
        return hth_fail(&w->err, HTH_EEXIST, "%s: tensor %s is put twice",
                        w->path, name.p);
    return 0;
}

void hth_gguf_put_tensor(struct hth_gguf_writer *w, const char *name,
                         uint32_t type, uint32_t dims, const uint64_t *ne)
{
    struct hth_str text = {name, strlen(name)};
    uint64_t bytes = tensor_bytes(type, dims, ne);

    if (w->status != 0)
        return;
    HTH_ASSERT(!w->header_written);
    w->status = check_tensor(w, text, bytes);
    if (w->status != 0)
        return;
    put_str(&w->infos, text);
    hth_put_u32(&w->infos, dims);
    for (uint32_t d = 0; d < dims; d++)
        hth_put_u64(&w->infos, ne[d]);
    hth_put_u32(&w->infos, type);
    hth_put_u64(&w->infos, w->data_bytes);
    hth_put_u64(&w->sizes, bytes);
    w->tensor_count++;
    w->data_bytes += padded(bytes);
}

/* ---- data ---------------------------------------------------------------- */

static int fail_write(struct hth_gguf_writer *w)
{
    w->status = hth_fail(&w->err, HTH_EIO, "write %.200s: %s", w->part_path,
                         strerror(errno));
    return w->status;
}

static int write_all(struct hth_gguf_writer *w, const void *p, size_t n)
{
    if (n > 0 && fwrite(p, 1, n, w->file) != n)
        return fail_write(w);
    return 0;
}

static int write_padding(struct hth_gguf_writer *w, uint64_t written)
{
    static const uint8_t zeros[GGUF_ALIGN_DEFAULT];

    return write_all(w, zeros, (size_t)(padded(written) - written));
}

/* Ask for the whole file's blocks at once: a full disk is known before minutes
 * of work, and the file is laid out in one piece. Filesystems without the call
 * are left alone. */
static int reserve_space(struct hth_gguf_writer *w, uint64_t bytes)
{
    if (bytes <= INT64_MAX &&
        fallocate(fileno(w->file), 0, 0, (off_t)bytes) != 0 &&
        errno == ENOSPC) {
        w->status = hth_fail(&w->err, HTH_EIO,
                             "write %.200s: no space for its %" PRIu64
                             " bytes on this disk",
                             w->part_path, bytes);
    }
    return w->status;
}

static int write_header(struct hth_gguf_writer *w)
{
    uint8_t fixed[24] = "GGUF";
    uint64_t head = sizeof fixed + w->kvs.len + w->infos.len;

    w->header_written = true;
    if (w->kvs.failed || w->infos.failed || w->sizes.failed ||
        w->key_names.failed || w->tensor_names.failed)
        return w->status =
                   hth_fail(&w->err, HTH_ELIMIT,
                            "%s: its keys do not fit in memory or in %u bytes",
                            w->path, HTH_GGUF_META_BYTES_MAX);
    hth_store_u32(fixed + 4, GGUF_VERSION);
    hth_store_u64(fixed + 8, w->tensor_count);
    hth_store_u64(fixed + 16, w->kv_count);
    if (reserve_space(w, padded(head) + w->data_bytes) != 0 ||
        write_all(w, fixed, sizeof fixed) != 0 ||
        write_all(w, w->kvs.data, w->kvs.len) != 0 ||
        write_all(w, w->infos.data, w->infos.len) != 0)
        return w->status;
    return write_padding(w, head);
}

/* Write what of [data, data + n) belongs to the current tensor, and the
 * padding when that completes it. Returns the bytes taken. */
static size_t write_piece(struct hth_gguf_writer *w, const uint8_t *data,
                          size_t n)
{
    uint64_t size = hth_load_u64(w->sizes.data + 8 * w->current);
    uint64_t left = size - w->current_done;
    size_t take = n < left ? n : (size_t)left;

    if (write_all(w, data, take) != 0)
        return 0;
    w->current_done += take;
    if (w->current_done < size)
        return take;
    w->current++;
    w->current_done = 0;
    return write_padding(w, size) == 0 ? take : 0;
}

static int report(const struct hth_gguf_writer *w, struct hth_err *err)
{
    if (w->status != 0 && err != NULL)
        *err = w->err;
    return w->status;
}

int hth_gguf_put_data(struct hth_gguf_writer *w, const void *data, size_t n,
                      struct hth_err *err)
{
    const uint8_t *from = data;

    if (w->status == 0 && !w->header_written)
        write_header(w);
    while (w->status == 0 && n > 0) {
        size_t took;

        if (w->current == w->tensor_count) {
            w->status = hth_fail(&w->err, HTH_EINVAL,
                                 "%s: %zu bytes more than its tensors have",
                                 w->path, n);
            break;
        }
        took = write_piece(w, from, n);
        from += took;
        n -= took;
    }
    return report(w, err);
}

/* Flush to the disk, not only to the kernel: a name that leads to a file of
 * holes after a power cut is worse than no file. */
static int settle(struct hth_gguf_writer *w)
{
    FILE *f = w->file;

    if (fflush(f) != 0 || fsync(fileno(f)) != 0)
        return fail_write(w);
    w->file = NULL;
    if (fclose(f) != 0)
        return fail_write(w);
    if (rename(w->part_path, w->path) != 0)
        w->status = hth_fail(&w->err, HTH_EIO, "rename %.200s to %.200s: %s",
                             w->part_path, w->path, strerror(errno));
    return w->status;
}

int hth_gguf_finish(struct hth_gguf_writer *w, struct hth_err *err)
{
    int rc;

    if (w->status == 0 && !w->header_written)
        write_header(w);
    if (w->status == 0 && w->current != w->tensor_count)
        w->status =
            hth_fail(&w->err, HTH_EINVAL,
                     "%s: data of %" PRIu64 " of %" PRIu64 " tensors only",
                     w->path, w->current, w->tensor_count);
    if (w->status == 0)
        settle(w);
    rc = report(w, err);
    if (rc != 0)
        hth_gguf_abandon(w);
    else
        writer_free(w);
    return rc;
}
