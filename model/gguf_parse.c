/* gguf_parse.c - one GGUF file's bytes into keys and tensors.
 *
 * Owns: every check of a count, a length, an offset or a type against the
 * file. Refuses versions other than 2 and 3, big-endian files, nested arrays,
 * names that are not printable, duplicate keys, tensors that are empty, of an
 * unsupported type, misaligned, overlapping or beyond the end of the file.
 * Fails with a sentence naming the file and the key or tensor. An allocation
 * is made only after the file has been seen to be long enough to hold what is
 * to be stored there, so memory is bounded by a small multiple of the file.
 *
 * Spec: ggml's docs/gguf.md. */
#include "model/gguf_internal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "kernels/type.h"

#define KV_BYTES_MIN (8u + 1u + 4u + 1u) /* key, type, value */
#define TENSOR_BYTES_MIN (8u + 1u + 4u + 8u + 4u + 8u)
#define KEY_SHOWN 100 /* bytes of a key in an error text */

struct parse {
    struct gguf_part *part;
    struct hth_cursor c;
    struct hth_err *err;
    uint64_t tensors; /* the header's count, checked after the keys */
    uint64_t strings; /* elements of string arrays so far */
};

size_t hth__gguf_scalar_bytes(uint32_t type)
{
    static const uint8_t bytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

    return type < sizeof bytes ? bytes[type] : 0;
}

/* Precision for printing a name, which has no NUL and may be very long. */
static int shown(struct hth_str s)
{
    return s.n < KEY_SHOWN ? (int)s.n : KEY_SHOWN;
}

/* The text for every count or length that leads out of the file: from inside,
 * a file cut short and a corrupt length look the same. */
static int fail_short(struct parse *p, const char *what, struct hth_str name)
{
    return hth_fail(p->err, HTH_EFORMAT,
                    "%s: %s%s%.*s goes beyond the end of the file (%zu "
                    "bytes); the file is incomplete or damaged, download it "
                    "again",
                    p->part->label, what, name.n > 0 ? " " : "", shown(name),
                    name.n > 0 ? name.p : "", p->part->size);
}

static int fail_memory(struct parse *p)
{
    return hth_fail(p->err, HTH_ENOMEM, "%s: out of memory for its directory",
                    p->part->label);
}

/* ---- header -------------------------------------------------------------- */

static int fail_magic(struct parse *p, const uint8_t *magic)
{
    static const char lfs[] = "version https://git-lfs";
    const struct gguf_part *part = p->part;

    if (part->size >= sizeof lfs && memcmp(part->base, lfs, 23) == 0)
        return hth_fail(p->err, HTH_EFORMAT,
                        "%s: is a Git LFS pointer, not the model; fetch the "
                        "file itself (git lfs pull)",
                        part->label);
    return hth_fail(p->err, HTH_EFORMAT,
                    "%s: is no GGUF file (it starts with %02x %02x %02x %02x "
                    "instead of \"GGUF\")",
                    part->label, magic[0], magic[1], magic[2], magic[3]);
}

/* A big-endian file has the same magic; its version, read little-endian, has
 * an empty lower half. */
static int check_version(struct parse *p, uint32_t version)
{
    if (version != 0 && (version & 0xffffu) == 0)
        return hth_fail(p->err, HTH_EUNSUPPORTED,
                        "%s: is a big-endian GGUF file; only little-endian "
                        "ones are supported, convert it first",
                        p->part->label);
    if (version != 2 && version != 3)
        return hth_fail(p->err, HTH_EUNSUPPORTED,
                        "%s: is GGUF version %" PRIu32 "; versions 2 and 3 "
                        "are supported",
                        p->part->label, version);
    p->part->version = version;
    return 0;
}

/* A count of records is believed only up to max, and up to what the rest of
 * the file can hold at bytes_min each. */
static int check_count(struct parse *p, const char *what, uint64_t count,
                       uint64_t max, uint64_t bytes_min)
{
    if (count > max)
        return hth_fail(p->err, HTH_ELIMIT,
                        "%s: claims %" PRIu64 " %s; at most %" PRIu64
                        " are supported",
                        p->part->label, count, what, max);
    if (count > hth_cursor_left(&p->c) / bytes_min)
        return fail_short(p, what, (struct hth_str){NULL, 0});
    return 0;
}

static int parse_header(struct parse *p)
{
    const uint8_t *magic = hth_get_bytes(&p->c, 4);
    uint32_t version = hth_get_u32(&p->c);
    uint64_t tensor_count = hth_get_u64(&p->c);
    uint64_t kv_count = hth_get_u64(&p->c);
    int rc;

    if (magic != NULL && memcmp(magic, "GGUF", 4) != 0)
        return fail_magic(p, magic);
    if (p->c.failed)
        return fail_short(p, "the header", (struct hth_str){NULL, 0});
    rc = check_version(p, version);
    if (rc == 0)
        rc = check_count(p, "keys", kv_count, HTH_GGUF_KVS_MAX, KV_BYTES_MIN);
    if (rc != 0)
        return rc;
    p->tensors = tensor_count;
    p->part->kv_count = (size_t)kv_count;
    return 0;
}

/* ---- keys ---------------------------------------------------------------- */

/* A string: a u64 length and as many bytes, borrowed. False (and the cursor
 * failed) where the length exceeds max or the file. */
static bool get_string(struct hth_cursor *c, uint64_t max, struct hth_str *out)
{
    uint64_t n = hth_get_u64(c);

    if (n > max)
        c->failed = true;
    out->p = (const char *)hth_get_bytes(c, c->failed ? 0 : (size_t)n);
    out->n = c->failed ? 0 : (size_t)n;
    return !c->failed;
}

/* Names end up in messages and on terminals: printable ASCII only, which is
 * what the specification asks of keys and all tensors' names are. */
static bool printable(struct hth_str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char ch = (unsigned char)s.p[i];

        if (ch < 0x20 || ch > 0x7e)
            return false;
    }
    return s.n > 0;
}

/* Decode a string array once, so that a vocabulary's n-th entry is O(1). The
 * index takes 16 bytes for each element of at least 8 in the file. */
static int parse_strings(struct parse *p, struct hth_gguf_kv *kv)
{
    p->strings += kv->count;
    if (p->strings > HTH_GGUF_STRINGS_MAX)
        return hth_fail(p->err, HTH_ELIMIT,
                        "%s: key %.*s brings the strings in arrays to %" PRIu64
                        "; at most %u are supported",
                        p->part->label, shown(kv->key), kv->key.p, p->strings,
                        HTH_GGUF_STRINGS_MAX);
    if (kv->count > hth_cursor_left(&p->c) / 8)
        return fail_short(p, "key", kv->key);
    kv->strings =
        calloc(kv->count > 0 ? (size_t)kv->count : 1, sizeof *kv->strings);
    if (kv->strings == NULL)
        return fail_memory(p);
    for (uint64_t i = 0; i < kv->count; i++)
        if (!get_string(&p->c, HTH_GGUF_STRING_BYTES_MAX, &kv->strings[i]))
            return fail_short(p, "a string of key", kv->key);
    return 0;
}

/* The count is bounded before it is multiplied. A cursor that has failed reads
 * zeros: an empty array, and parse_value() reports it. */
static int parse_array(struct parse *p, struct hth_gguf_kv *kv)
{
    size_t each;

    kv->elem_type = hth_get_u32(&p->c);
    kv->count = hth_get_u64(&p->c);
    kv->data = p->c.base + p->c.pos;
    if (kv->elem_type == HTH_GGUF_ARRAY)
        return hth_fail(p->err, HTH_EUNSUPPORTED,
                        "%s: key %.*s is an array of arrays, which is not "
                        "supported",
                        p->part->label, shown(kv->key), kv->key.p);
    if (kv->count > HTH_GGUF_ARRAY_MAX)
        return hth_fail(p->err, HTH_ELIMIT,
                        "%s: key %.*s claims %" PRIu64 " elements; at most "
                        "%u are supported",
                        p->part->label, shown(kv->key), kv->key.p, kv->count,
                        HTH_GGUF_ARRAY_MAX);
    if (kv->elem_type == HTH_GGUF_STRING)
        return parse_strings(p, kv);
    each = hth__gguf_scalar_bytes(kv->elem_type);
    if (each == 0)
        return hth_fail(p->err, HTH_EFORMAT,
                        "%s: key %.*s is an array of the unknown type %" PRIu32,
                        p->part->label, shown(kv->key), kv->key.p,
                        kv->elem_type);
    hth_get_bytes(&p->c, (size_t)kv->count * each);
    return 0;
}

static int parse_value(struct parse *p, struct hth_gguf_kv *kv)
{
    struct hth_str text;
    int rc = 0;

    kv->count = 1;
    kv->data = p->c.base + p->c.pos;
    if (kv->type == HTH_GGUF_STRING) {
        get_string(&p->c, HTH_GGUF_STRING_BYTES_MAX, &text);
    } else if (kv->type == HTH_GGUF_ARRAY) {
        rc = parse_array(p, kv);
    } else if (hth__gguf_scalar_bytes(kv->type) > 0) {
        hth_get_bytes(&p->c, hth__gguf_scalar_bytes(kv->type));
    } else {
        rc = hth_fail(p->err, HTH_EFORMAT,
                      "%s: key %.*s has the unknown value type %" PRIu32,
                      p->part->label, shown(kv->key), kv->key.p, kv->type);
    }
    if (rc == 0 && p->c.failed)
        rc = fail_short(p, "the value of key", kv->key);
    if (rc == 0 && kv->type == HTH_GGUF_BOOL && kv->data[0] > 1)
        rc = hth_fail(p->err, HTH_EFORMAT, "%s: key %.*s is a bool of value %u",
                      p->part->label, shown(kv->key), kv->key.p, kv->data[0]);
    kv->bytes = (size_t)(p->c.base + p->c.pos - kv->data);
    return rc;
}

static int parse_key(struct parse *p, size_t i)
{
    struct hth_gguf_kv *kv = &p->part->kvs[i];

    get_string(&p->c, HTH_GGUF_KEY_BYTES_MAX, &kv->key);
    if (p->c.failed)
        return hth_fail(p->err, HTH_EFORMAT,
                        "%s: key %zu of %zu goes beyond the end of the file "
                        "or is longer than %u bytes",
                        p->part->label, i + 1, p->part->kv_count,
                        HTH_GGUF_KEY_BYTES_MAX);
    if (!printable(kv->key))
        return hth_fail(p->err, HTH_EFORMAT,
                        "%s: the name of key %zu is empty or not printable "
                        "ASCII",
                        p->part->label, i + 1);
    kv->type = hth_get_u32(&p->c);
    return parse_value(p, kv);
}

static int compare_str(struct hth_str a, struct hth_str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int d = memcmp(a.p, b.p, n);

    return d != 0 ? d : (a.n > b.n) - (a.n < b.n);
}

static int compare_key(const void *a, const void *b)
{
    const struct hth_gguf_kv *const *x = a, *const *y = b;

    return compare_str((*x)->key, (*y)->key);
}

/* Sorted rather than hashed: lookups are few, and no choice of names by the
 * file's author makes sorting slow. Equal neighbours are duplicates. */
static int index_keys(struct parse *p)
{
    struct gguf_part *part = p->part;
    const struct hth_gguf_kv **v;

    v = calloc(part->kv_count + 1, sizeof *v);
    if (v == NULL)
        return fail_memory(p);
    part->kvs_by_key = v;
    for (size_t i = 0; i < part->kv_count; i++)
        v[i] = &part->kvs[i];
    qsort(v, part->kv_count, sizeof *v, compare_key);
    for (size_t i = 1; i < part->kv_count; i++)
        if (compare_key(&v[i - 1], &v[i]) == 0)
            return hth_fail(p->err, HTH_EFORMAT, "%s: key %.*s appears twice",
                            part->label, shown(v[i]->key), v[i]->key.p);
    return 0;
}

static int parse_keys(struct parse *p)
{
    int rc = 0;

    p->part->kvs = calloc(p->part->kv_count + 1, sizeof *p->part->kvs);
    if (p->part->kvs == NULL)
        return fail_memory(p);
    for (size_t i = 0; i < p->part->kv_count && rc == 0; i++)
        rc = parse_key(p, i);
    return rc != 0 ? rc : index_keys(p);
}

const struct hth_gguf_kv *hth__gguf_part_find(const struct gguf_part *part,
                                              const char *key)
{
    struct hth_gguf_kv want = {.key = {key, strlen(key)}};
    const struct hth_gguf_kv *const pointer = &want;
    const struct hth_gguf_kv **hit;

    hit = bsearch(&pointer, part->kvs_by_key, part->kv_count, sizeof *hit,
                  compare_key);
    return hit != NULL ? *hit : NULL;
}

/* ---- tensors ------------------------------------------------------------- */

static int parse_alignment(struct parse *p)
{
    static const char key[] = "general.alignment";
    uint64_t align = GGUF_ALIGN_DEFAULT;
    int rc = 0;

    if (hth__gguf_part_find(p->part, key) != NULL)
        rc = hth__gguf_part_uint(p->part, key, UINT32_MAX, &align, p->err);
    if (rc != 0)
        return rc;
    if (align < 8 || align > HTH_GGUF_ALIGN_BYTES_MAX ||
        (align & (align - 1)) != 0)
        return hth_fail(p->err, HTH_EFORMAT,
                        "%s: general.alignment is %" PRIu64 ", not a power "
                        "of two from 8 to %u",
                        p->part->label, align, HTH_GGUF_ALIGN_BYTES_MAX);
    p->part->align = (uint32_t)align;
    return 0;
}

/* Names of the types that exist in GGUF but not here, so that the message
 * says what the person will have read where the file was downloaded. */
static const char *foreign_type_name(uint32_t id)
{
    static const struct {
        uint32_t id;
        const char *name;
    } names[] = {
        {4, "Q4_2, removed"}, {5, "Q4_3, removed"}, {9, "Q8_1"},
        {15, "Q8_K"},         {16, "IQ2_XXS"},      {17, "IQ2_XS"},
        {18, "IQ3_XXS"},      {19, "IQ1_S"},        {21, "IQ3_S"},
        {22, "IQ2_S"},        {24, "I8"},           {25, "I16"},
        {26, "I32"},          {27, "I64"},          {28, "F64"},
        {29, "IQ1_M"},        {34, "TQ1_0"},        {35, "TQ2_0"},
        {39, "MXFP4"},
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].id == id)
            return names[i].name;
    return "unknown";
}

/* t->bytes from type and shape, with every product checked. */
static int measure_tensor(struct parse *p, struct hth_tensor *t)
{
    const struct hth_type_info *type = hth_type_info(t->type);
    uint64_t bytes;
    bool over;

    if (type == NULL)
        return hth_fail(p->err, HTH_EUNSUPPORTED,
                        "%s: tensor %s has type %" PRIu32 " (%s), which is "
                        "not supported; supported are %s",
                        p->part->label, t->name, t->type,
                        foreign_type_name(t->type), hth_type_list());
    if (t->ne[0] % type->block != 0)
        return hth_fail(p->err, HTH_EFORMAT,
                        "%s: tensor %s has rows of %" PRIu64 " numbers, not "
                        "whole %s blocks of %" PRIu32,
                        p->part->label, t->name, t->ne[0], type->name,
                        type->block);
    over = __builtin_mul_overflow(t->ne[0] / type->block, (uint64_t)type->bytes,
                                  &bytes);
    for (uint32_t d = 1; d < HTH_TENSOR_DIMS_MAX; d++)
        over |= __builtin_mul_overflow(bytes, t->ne[d], &bytes);
    if (over || bytes > p->part->size)
        return hth_fail(p->err, HTH_EFORMAT,
                        "%s: tensor %s claims more bytes than the file has "
                        "(%zu); the file is incomplete or damaged",
                        p->part->label, t->name, p->part->size);
    t->bytes = bytes;
    return 0;
}

/* ne[] of a tensor; the unused ones become 1. */
static int parse_shape(struct parse *p, struct hth_tensor *t)
{
    t->dims = hth_get_u32(&p->c);
    if (p->c.failed)
        return fail_short(p, "tensor",
                          (struct hth_str){t->name, strlen(t->name)});
    if (t->dims < 1 || t->dims > HTH_TENSOR_DIMS_MAX)
        return hth_fail(p->err, HTH_EFORMAT,
                        "%s: tensor %s has %" PRIu32 " dimensions, not 1 to %u",
                        p->part->label, t->name, t->dims, HTH_TENSOR_DIMS_MAX);
    for (uint32_t d = 0; d < HTH_TENSOR_DIMS_MAX; d++) {
        t->ne[d] = d < t->dims ? hth_get_u64(&p->c) : 1;
        if (t->ne[d] == 0 && !p->c.failed)
            return hth_fail(p->err, HTH_EFORMAT,
                            "%s: tensor %s is empty (dimension %" PRIu32
                            " is 0)",
                            p->part->label, t->name, d);
    }
    return 0;
}

static int parse_tensor(struct parse *p, size_t i)
{
    struct hth_tensor *t = &p->part->tensors[i];
    char *name = p->part->names + i * (HTH_GGUF_NAME_BYTES_MAX + 1);
    struct hth_str text;
    int rc;

    get_string(&p->c, HTH_GGUF_NAME_BYTES_MAX, &text);
    if (p->c.failed)
        return hth_fail(p->err, HTH_EFORMAT,
                        "%s: the name of tensor %zu of %zu goes beyond the "
                        "end of the file or is longer than %u bytes",
                        p->part->label, i + 1, p->part->tensor_count,
                        HTH_GGUF_NAME_BYTES_MAX);
    if (!printable(text))
        return hth_fail(p->err, HTH_EFORMAT,
                        "%s: the name of tensor %zu is empty or not printable "
                        "ASCII",
                        p->part->label, i + 1);
    memcpy(name, text.p, text.n); /* calloc left the NUL */
    t->name = name;
    rc = parse_shape(p, t);
    if (rc != 0)
        return rc;
    t->type = hth_get_u32(&p->c);
    t->offset = hth_get_u64(&p->c);
    if (p->c.failed)
        return fail_short(p, "the entry of tensor", text);
    return measure_tensor(p, t);
}

/* Offsets in the file are relative to the data section; make them absolute
 * and check them. */
static int place_tensor(struct parse *p, struct hth_tensor *t)
{
    const struct gguf_part *part = p->part;
    uint64_t room = part->size - part->data_start;

    if (t->offset % part->align != 0)
        return hth_fail(p->err, HTH_EFORMAT,
                        "%s: tensor %s starts at offset %" PRIu64
                        ", not a multiple of the alignment %" PRIu32,
                        part->label, t->name, t->offset, part->align);
    if (t->offset > room || t->bytes > room - t->offset)
        return hth_fail(p->err, HTH_EFORMAT,
                        "%s: tensor %s (%" PRIu64 " bytes at %" PRIu64
                        ") goes beyond the end of the file (%" PRIu64
                        " bytes of data); the file is incomplete or damaged, "
                        "download it again",
                        part->label, t->name, t->bytes, t->offset, room);
    t->offset += part->data_start;
    t->data = part->base + t->offset;
    return 0;
}

static int compare_offset(const void *a, const void *b)
{
    const struct hth_tensor *const *x = a, *const *y = b;

    return ((*x)->offset > (*y)->offset) - ((*x)->offset < (*y)->offset);
}

/* Overlaps are no danger to a reader, but a sure sign of a damaged file; and
 * whoever counts bytes by tensor may rely on their absence. */
static int check_overlaps(struct parse *p)
{
    const struct gguf_part *part = p->part;
    const struct hth_tensor **v = calloc(part->tensor_count + 1, sizeof *v);
    int rc = 0;

    if (v == NULL)
        return fail_memory(p);
    for (size_t i = 0; i < part->tensor_count; i++)
        v[i] = &part->tensors[i];
    qsort(v, part->tensor_count, sizeof *v, compare_offset);
    for (size_t i = 1; i < part->tensor_count && rc == 0; i++)
        if (v[i - 1]->offset + v[i - 1]->bytes > v[i]->offset)
            rc = hth_fail(p->err, HTH_EFORMAT, "%s: tensors %s and %s overlap",
                          part->label, v[i - 1]->name, v[i]->name);
    free(v);
    return rc;
}

static int place_tensors(struct parse *p)
{
    struct gguf_part *part = p->part;
    uint64_t start = p->c.pos;
    int rc = 0;

    start = (start + part->align - 1) / part->align * part->align;
    if (part->tensor_count > 0 && start > part->size)
        return fail_short(p, "the tensor data", (struct hth_str){NULL, 0});
    part->data_start = start < part->size ? start : part->size;
    for (size_t i = 0; i < part->tensor_count && rc == 0; i++)
        rc = place_tensor(p, &part->tensors[i]);
    return rc != 0 ? rc : check_overlaps(p);
}

/* The header's count is checked here and not there: what counts is how much
 * of the file the keys have left. */
static int parse_tensors(struct parse *p)
{
    struct gguf_part *part = p->part;
    int rc = check_count(p, "tensors", p->tensors, HTH_GGUF_TENSORS_MAX,
                         TENSOR_BYTES_MIN);

    if (rc != 0)
        return rc;
    part->tensor_count = (size_t)p->tensors;
    part->tensors = calloc(part->tensor_count + 1, sizeof *part->tensors);
    part->names = calloc(part->tensor_count + 1, HTH_GGUF_NAME_BYTES_MAX + 1);
    if (part->tensors == NULL || part->names == NULL)
        return fail_memory(p);
    for (size_t i = 0; i < part->tensor_count && rc == 0; i++)
        rc = parse_tensor(p, i);
    return rc != 0 ? rc : place_tensors(p);
}

int hth__gguf_parse(struct gguf_part *part, struct hth_err *err)
{
    struct parse p = {.part = part, .err = err};
    int rc;

    hth_cursor_init(&p.c, part->base, part->size);
    rc = parse_header(&p);
    if (rc == 0)
        rc = parse_keys(&p);
    if (rc == 0)
        rc = parse_alignment(&p);
    return rc != 0 ? rc : parse_tensors(&p);
}

void hth__gguf_free_keys(struct gguf_part *part)
{
    for (size_t i = 0; part->kvs != NULL && i < part->kv_count; i++)
        free(part->kvs[i].strings);
    free(part->kvs);
    free(part->kvs_by_key);
    part->kvs = NULL;
    part->kvs_by_key = NULL;
    part->kv_count = 0;
}

void hth__gguf_free_tensors(struct gguf_part *part)
{
    free(part->tensors);
    free(part->names);
    part->tensors = NULL;
    part->names = NULL;
    part->tensor_count = 0;
}
