/* gguf_get.c - typed access to the keys of a GGUF.
 *
 * Owns: conversion of encoded values. Integers of any width and sign are
 * accepted where the value fits, because writers disagree about them; texts
 * are never taken for numbers. Fails with a sentence naming the key. */
#include "model/gguf_internal.h"

#include <inttypes.h>
#include <string.h>

#include "base/cursor.h"

const char *hth_gguf_type_name(uint32_t type)
{
    static const char *const names[] = {"u8",  "i8",  "u16",  "i16",    "u32",
                                        "i32", "f32", "bool", "string", "array",
                                        "u64", "i64", "f64"};

    return type < sizeof names / sizeof names[0] ? names[type] : "?";
}

/* One encoded number: what its type makes of it. */
struct number {
    enum { INT_NEGATIVE, INT_POSITIVE, REAL, NO_NUMBER } kind;
    uint64_t u; /* INT_*: the two's complement bits */
    double f;   /* REAL */
};

static struct number signed_number(int64_t v)
{
    return (struct number){.kind = v < 0 ? INT_NEGATIVE : INT_POSITIVE,
                           .u = (uint64_t)v};
}

static struct number real_number(uint32_t type, const uint8_t *at)
{
    struct hth_cursor c;
    bool wide = type == HTH_GGUF_F64;

    hth_cursor_init(&c, at, wide ? 8 : 4);
    return (struct number){
        .kind = REAL, .f = wide ? hth_get_f64(&c) : (double)hth_get_f32(&c)};
}

static struct number decode(uint32_t type, const uint8_t *at)
{
    struct number n = {.kind = INT_POSITIVE};

    switch (type) {
    case HTH_GGUF_U8:
    case HTH_GGUF_BOOL:
        n.u = at[0];
        return n;
    case HTH_GGUF_U16:
        n.u = hth_load_u16(at);
        return n;
    case HTH_GGUF_U32:
        n.u = hth_load_u32(at);
        return n;
    case HTH_GGUF_U64:
        n.u = hth_load_u64(at);
        return n;
    case HTH_GGUF_I8:
        return signed_number((int8_t)at[0]);
    case HTH_GGUF_I16:
        return signed_number((int16_t)hth_load_u16(at));
    case HTH_GGUF_I32:
        return signed_number((int32_t)hth_load_u32(at));
    case HTH_GGUF_I64:
        return signed_number((int64_t)hth_load_u64(at));
    case HTH_GGUF_F32:
    case HTH_GGUF_F64:
        return real_number(type, at);
    default:
        n.kind = NO_NUMBER;
        return n;
    }
}

static int find_key(const struct gguf_part *part, const char *key,
                    const struct hth_gguf_kv **out, struct hth_err *err)
{
    *out = hth__gguf_part_find(part, key);
    if (*out == NULL)
        return hth_fail(err, HTH_ENOTFOUND, "%s: key %s is missing",
                        part->label, key);
    return 0;
}

static int fail_type(const struct gguf_part *part, const struct hth_gguf_kv *kv,
                     const char *want, struct hth_err *err)
{
    return hth_fail(err, HTH_EFORMAT, "%s: key %.*s is of type %s, not %s",
                    part->label, (int)kv->key.n, kv->key.p,
                    hth_gguf_type_name(kv->type), want);
}

int hth__gguf_part_uint(const struct gguf_part *part, const char *key,
                        uint64_t max, uint64_t *out, struct hth_err *err)
{
    const struct hth_gguf_kv *kv;
    struct number n;
    int rc = find_key(part, key, &kv, err);

    if (rc != 0)
        return rc;
    n = decode(kv->type, kv->data);
    if (n.kind == REAL || n.kind == NO_NUMBER || kv->type == HTH_GGUF_BOOL)
        return fail_type(part, kv, "an integer", err);
    if (n.kind == INT_NEGATIVE)
        return hth_fail(err, HTH_EFORMAT,
                        "%s: key %s is %" PRId64 ", not from 0 to %" PRIu64,
                        part->label, key, (int64_t)n.u, max);
    if (n.u > max)
        return hth_fail(err, HTH_EFORMAT,
                        "%s: key %s is %" PRIu64 ", not from 0 to %" PRIu64,
                        part->label, key, n.u, max);
    *out = n.u;
    return 0;
}

int hth_gguf_u32(const struct hth_gguf *g, const char *key, uint32_t *out,
                 struct hth_err *err)
{
    uint64_t v = 0;
    int rc = hth__gguf_part_uint(hth__gguf_first(g), key, UINT32_MAX, &v, err);

    if (rc == 0)
        *out = (uint32_t)v;
    return rc;
}

int hth_gguf_f32(const struct hth_gguf *g, const char *key, float *out,
                 struct hth_err *err)
{
    const struct gguf_part *part = hth__gguf_first(g);
    const struct hth_gguf_kv *kv;
    int rc = find_key(part, key, &kv, err);

    if (rc != 0)
        return rc;
    if (kv->type != HTH_GGUF_F32 && kv->type != HTH_GGUF_F64)
        return fail_type(part, kv, "f32 or f64", err);
    *out = (float)decode(kv->type, kv->data).f;
    return 0;
}

int hth_gguf_bool(const struct hth_gguf *g, const char *key, bool *out,
                  struct hth_err *err)
{
    const struct gguf_part *part = hth__gguf_first(g);
    const struct hth_gguf_kv *kv;
    int rc = find_key(part, key, &kv, err);

    if (rc != 0)
        return rc;
    if (kv->type != HTH_GGUF_BOOL)
        return fail_type(part, kv, "bool", err);
    *out = kv->data[0] != 0;
    return 0;
}

int hth_gguf_string(const struct hth_gguf *g, const char *key,
                    struct hth_str *out, struct hth_err *err)
{
    const struct gguf_part *part = hth__gguf_first(g);
    const struct hth_gguf_kv *kv;
    int rc = find_key(part, key, &kv, err);

    if (rc != 0)
        return rc;
    if (kv->type != HTH_GGUF_STRING)
        return fail_type(part, kv, "string", err);
    out->p = (const char *)kv->data + 8;
    out->n = kv->bytes - 8;
    return 0;
}

/* Scalars count as arrays of one; strings decode to NO_NUMBER. */
static int element(const struct hth_gguf_kv *kv, uint64_t i, struct number *out)
{
    uint32_t type = kv->type == HTH_GGUF_ARRAY ? kv->elem_type : kv->type;

    if (i >= kv->count)
        return HTH_EINVAL;
    *out = decode(type, kv->data + i * hth__gguf_scalar_bytes(type));
    return out->kind == NO_NUMBER ? HTH_EFORMAT : 0;
}

int hth_gguf_array_i64(const struct hth_gguf_kv *kv, uint64_t i, int64_t *out)
{
    struct number n;
    int rc = element(kv, i, &n);

    if (rc != 0)
        return rc;
    if (n.kind == REAL || (n.kind == INT_POSITIVE && n.u > INT64_MAX))
        return HTH_EFORMAT;
    *out = (int64_t)n.u;
    return 0;
}

int hth_gguf_array_f64(const struct hth_gguf_kv *kv, uint64_t i, double *out)
{
    struct number n;
    int rc = element(kv, i, &n);

    if (rc != 0)
        return rc;
    if (n.kind == REAL)
        *out = n.f;
    else
        *out = n.kind == INT_NEGATIVE ? (double)(int64_t)n.u : (double)n.u;
    return 0;
}
