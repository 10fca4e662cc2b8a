/* jinja_value.c - values of a render: memory, strings, lists, dicts, order. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/jinja_internal.h"
#include "model/utf8.h"

#define CHUNK_BYTES (64u << 10)

/* ---- memory -------------------------------------------------------------- */

void *hth_jarena_alloc(struct hth_jarena *a, size_t bytes)
{
    struct hth_jchunk *c = a->chunks;
    void *p;

    bytes = (bytes + 15) & ~(size_t)15;
    if (c == NULL || c->size - c->used < bytes) {
        size_t size = bytes > CHUNK_BYTES ? bytes : CHUNK_BYTES;

        if (size > a->bytes_max - a->bytes)
            return NULL;
        c = calloc(1, sizeof *c + size);
        if (c == NULL)
            return NULL;
        c->size = size;
        c->next = a->chunks;
        a->chunks = c;
        a->bytes += size;
    }
    p = c->data + c->used;
    c->used += bytes;
    return p;
}

void hth_jarena_fini(struct hth_jarena *a)
{
    while (a->chunks != NULL) {
        struct hth_jchunk *next = a->chunks->next;

        free(a->chunks);
        a->chunks = next;
    }
    a->bytes = 0;
}

struct hth_jv hth_jx_fail(struct hth_jrun *x, int status, const char *fmt, ...)
{
    char text[HTH_ERR_TEXT_MAX];
    va_list ap;

    if (x->failed)
        return hth_jv_undefined();
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    x->failed = true;
    x->status = status;
    if (status == HTH_EINVAL)
        hth_fail(x->err, status, "%s", text);
    else
        hth_fail(x->err, status, "chat template, line %u: %s", x->line, text);
    return hth_jv_undefined();
}

bool hth_jx_step(struct hth_jrun *x)
{
    if (++x->steps > HTH_JINJA_STEPS_MAX)
        hth_jx_fail(x, HTH_ELIMIT, "more than %u steps", HTH_JINJA_STEPS_MAX);
    return !x->failed;
}

void *hth_jx_alloc(struct hth_jrun *x, size_t bytes)
{
    void *p = x->failed ? NULL : hth_jarena_alloc(&x->arena, bytes);

    if (p == NULL)
        hth_jx_fail(x, HTH_ELIMIT, "no memory (at most %u MiB)",
                    HTH_JINJA_MEMORY_BYTES_MAX >> 20);
    return p;
}

/* ---- strings ------------------------------------------------------------- */

static bool all_ascii(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)p[i] >= 0x80)
            return false;
    return true;
}

/* A string object over bytes that live as long as the run. */
static struct hth_jv wrap(struct hth_jrun *x, const char *p,
                          const uint8_t *mark, size_t n)
{
    struct hth_jstr *s = hth_jx_alloc(x, sizeof *s);

    if (s == NULL || n > UINT32_MAX)
        return hth_jv_undefined();
    *s = (struct hth_jstr){
        .p = p, .mark = mark, .n = (uint32_t)n, .ascii = all_ascii(p, n)};
    return hth_jv_str(s);
}

struct hth_jv hth_jv_text(struct hth_jrun *x, const char *p, size_t n)
{
    char *copy = hth_jx_alloc(x, n + 1);

    if (copy == NULL)
        return hth_jv_undefined();
    if (n > 0)
        memcpy(copy, p, n);
    return wrap(x, copy, NULL, n);
}

struct hth_jv hth_jv_cstr(struct hth_jrun *x, const char *s)
{
    return hth_jv_text(x, s, strlen(s));
}

struct hth_jv hth_jv_part(struct hth_jrun *x, const struct hth_jstr *s,
                          size_t from, size_t n)
{
    struct hth_jv v;

    if (from == 0 && n == s->n)
        return hth_jv_str(s);
    v = wrap(x, s->p + from, s->mark != NULL ? s->mark + from : NULL, n);
    return s->safe ? hth_jv_safe(x, v) : v;
}

struct hth_jv hth_jv_safe(struct hth_jrun *x, struct hth_jv v)
{
    struct hth_jstr *s;

    if (v.type != HTH_JV_STRING || v.u.s->safe)
        return v;
    s = hth_jx_alloc(x, sizeof *s);
    if (s == NULL)
        return hth_jv_undefined();
    *s = *v.u.s;
    s->safe = true;
    return hth_jv_str(s);
}

bool hth_jstr_is(const struct hth_jstr *s, const char *text)
{
    size_t n = strlen(text);

    return s->n == n && memcmp(s->p, text, n) == 0;
}

bool hth_jstr_same(const struct hth_jstr *a, const struct hth_jstr *b)
{
    return a->n == b->n && memcmp(a->p, b->p, a->n) == 0;
}

static unsigned char folded(char c, bool fold)
{
    if (fold && c >= 'A' && c <= 'Z')
        return (unsigned char)(c + ('a' - 'A'));
    return (unsigned char)c;
}

/* Byte order is code point order in UTF-8. */
int hth_jstr_order(const struct hth_jstr *a, const struct hth_jstr *b,
                   bool fold)
{
    for (uint32_t i = 0; i < a->n && i < b->n; i++) {
        int d = folded(a->p[i], fold) - folded(b->p[i], fold);

        if (d != 0)
            return d;
    }
    return a->n < b->n ? -1 : a->n > b->n;
}

static bool starts_char(char c)
{
    return ((unsigned char)c & 0xc0u) != 0x80u;
}

uint32_t hth_jstr_chars(const struct hth_jstr *s)
{
    uint32_t count = 0;

    if (s->ascii)
        return s->n;
    for (uint32_t i = 0; i < s->n; i++)
        count += starts_char(s->p[i]);
    return count;
}

uint32_t hth_jstr_offset(const struct hth_jstr *s, uint32_t at)
{
    uint32_t i = 0;

    if (s->ascii)
        return at < s->n ? at : s->n;
    for (uint32_t seen = 0; i < s->n; i++)
        if (starts_char(s->p[i]) && seen++ == at)
            return i;
    return s->n;
}

/* ---- undefined ----------------------------------------------------------- */

struct hth_jv hth_jv_missing(struct hth_jrun *x, const char *fmt, ...)
{
    struct hth_jv v;
    char text[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    v = hth_jv_cstr(x, text);
    v.type = HTH_JV_UNDEFINED;
    return v;
}

struct hth_jv hth_jx_undefined(struct hth_jrun *x, struct hth_jv v)
{
    if (v.u.s == NULL)
        return hth_jx_fail(x, HTH_EFORMAT, "the value is undefined");
    return hth_jx_fail(x, HTH_EFORMAT, "%.*s", (int)v.u.s->n, v.u.s->p);
}

/* ---- lists and dicts ----------------------------------------------------- */

struct hth_jv hth_jv_list(struct hth_jrun *x, enum hth_jv_type type,
                          uint32_t cap)
{
    struct hth_jlist *l = hth_jx_alloc(x, sizeof *l);

    if (l == NULL)
        return hth_jv_undefined();
    if (cap > 0) {
        l->at = hth_jx_alloc(x, (size_t)cap * sizeof *l->at);
        l->cap = l->at != NULL ? cap : 0;
    }
    return (struct hth_jv){.type = type, .u.list = l};
}

/* Room for one more of size bytes each; the old place is left to the arena. */
static void *grow(struct hth_jrun *x, void *old, uint32_t count, uint32_t *cap,
                  size_t size)
{
    uint32_t more = *cap == 0 ? 8 : *cap * 2;
    void *p;

    if (count < *cap)
        return old;
    p = more <= *cap ? NULL : hth_jx_alloc(x, (size_t)more * size);
    if (p == NULL)
        return NULL;
    if (count > 0)
        memcpy(p, old, (size_t)count * size);
    *cap = more;
    return p;
}

void hth_jlist_push(struct hth_jrun *x, struct hth_jv list, struct hth_jv v)
{
    struct hth_jlist *l = list.u.list;
    struct hth_jv *at;

    if (x->failed || !hth_jv_is_list(list))
        return;
    at = grow(x, l->at, l->count, &l->cap, sizeof *at);
    if (at == NULL)
        return;
    l->at = at;
    l->at[l->count++] = v;
}

struct hth_jv hth_jv_dict(struct hth_jrun *x, enum hth_jv_type type)
{
    struct hth_jdict *d = hth_jx_alloc(x, sizeof *d);

    if (d == NULL)
        return hth_jv_undefined();
    return (struct hth_jv){.type = type, .u.dict = d};
}

struct hth_jv *hth_jdict_get(struct hth_jrun *x, struct hth_jv dict,
                             struct hth_jv key)
{
    struct hth_jdict *d = dict.u.dict;

    if (!hth_jv_is_dict(dict))
        return NULL;
    for (uint32_t i = 0; i < d->count; i++)
        if (hth_jx_step(x) && hth_jv_same(x, d->at[i].key, key))
            return &d->at[i].value;
    return NULL;
}

struct hth_jv *hth_jdict_find(struct hth_jv dict, const char *key)
{
    struct hth_jdict *d = dict.u.dict;

    if (!hth_jv_is_dict(dict))
        return NULL;
    for (uint32_t i = 0; i < d->count; i++)
        if (d->at[i].key.type == HTH_JV_STRING &&
            hth_jstr_is(d->at[i].key.u.s, key))
            return &d->at[i].value;
    return NULL;
}

void hth_jdict_put(struct hth_jrun *x, struct hth_jv dict, struct hth_jv key,
                   struct hth_jv v)
{
    struct hth_jdict *d = dict.u.dict;
    struct hth_jv *old = hth_jdict_get(x, dict, key);
    struct hth_jpair *at;

    if (x->failed || !hth_jv_is_dict(dict))
        return;
    if (old != NULL) {
        *old = v;
        return;
    }
    at = grow(x, d->at, d->count, &d->cap, sizeof *at);
    if (at == NULL)
        return;
    d->at = at;
    d->at[d->count++] = (struct hth_jpair){key, v};
}

void hth_jdict_put_name(struct hth_jrun *x, struct hth_jv dict,
                        const char *name, struct hth_jv v)
{
    hth_jdict_put(x, dict, hth_jv_cstr(x, name), v);
}

struct hth_jv hth_jv_pair(struct hth_jrun *x, struct hth_jv a, struct hth_jv b)
{
    struct hth_jv t = hth_jv_list(x, HTH_JV_TUPLE, 2);

    hth_jlist_push(x, t, a);
    hth_jlist_push(x, t, b);
    return t;
}

/* ---- questions ----------------------------------------------------------- */

bool hth_jv_true(struct hth_jv v)
{
    switch (v.type) {
    case HTH_JV_UNDEFINED:
    case HTH_JV_NONE:
        return false;
    case HTH_JV_BOOL:
        return v.u.b;
    case HTH_JV_INT:
        return v.u.i != 0;
    case HTH_JV_FLOAT:
        return v.u.f != 0;
    case HTH_JV_STRING:
        return v.u.s->n > 0;
    case HTH_JV_LIST:
    case HTH_JV_TUPLE:
        return v.u.list->count > 0;
    case HTH_JV_DICT:
        return v.u.dict->count > 0;
    default:
        return true;
    }
}

const char *hth_jv_type_name(struct hth_jv v)
{
    static const char *const names[] = {
        [HTH_JV_UNDEFINED] = "Undefined", [HTH_JV_NONE] = "NoneType",
        [HTH_JV_BOOL] = "bool",           [HTH_JV_INT] = "int",
        [HTH_JV_FLOAT] = "float",         [HTH_JV_STRING] = "str",
        [HTH_JV_LIST] = "list",           [HTH_JV_TUPLE] = "tuple",
        [HTH_JV_DICT] = "dict",           [HTH_JV_NAMESPACE] = "Namespace",
        [HTH_JV_LOOP] = "LoopContext",    [HTH_JV_MACRO] = "Macro",
        [HTH_JV_FUNCTION] = "function",   [HTH_JV_METHOD] = "method",
    };

    return names[v.type];
}

static double number(struct hth_jv v)
{
    if (v.type == HTH_JV_FLOAT)
        return v.u.f;
    return v.type == HTH_JV_BOOL ? v.u.b : (double)v.u.i;
}

static int order_numbers(struct hth_jv a, struct hth_jv b)
{
    if (a.type != HTH_JV_FLOAT && b.type != HTH_JV_FLOAT) {
        int64_t i = a.type == HTH_JV_BOOL ? a.u.b : a.u.i;
        int64_t k = b.type == HTH_JV_BOOL ? b.u.b : b.u.i;

        return i < k ? -1 : i > k;
    }
    return number(a) < number(b) ? -1 : number(a) > number(b);
}

/* A dict is equal whatever its order. */
static bool same_dicts(struct hth_jrun *x, struct hth_jv a, struct hth_jv b)
{
    if (a.u.dict->count != b.u.dict->count)
        return false;
    for (uint32_t i = 0; i < a.u.dict->count; i++) {
        const struct hth_jpair *p = &a.u.dict->at[i];
        const struct hth_jv *v = hth_jdict_get(x, b, p->key);

        if (v == NULL || !hth_jv_same(x, p->value, *v))
            return false;
    }
    return true;
}

static bool same_lists(struct hth_jrun *x, struct hth_jv a, struct hth_jv b)
{
    if (a.type != b.type || a.u.list->count != b.u.list->count)
        return false;
    for (uint32_t i = 0; i < a.u.list->count; i++)
        if (!hth_jv_same(x, a.u.list->at[i], b.u.list->at[i]))
            return false;
    return true;
}

bool hth_jv_same(struct hth_jrun *x, struct hth_jv a, struct hth_jv b)
{
    bool same = false;

    if (!hth_jx_step(x))
        return false;
    if (++x->depth > HTH_JINJA_DEPTH_MAX)
        hth_jx_fail(x, HTH_ELIMIT, "values nested too deep");
    else if (hth_jv_is_number(a) && hth_jv_is_number(b))
        same =
            !isnan(number(a)) && !isnan(number(b)) && order_numbers(a, b) == 0;
    else if (hth_jv_is_list(a) && hth_jv_is_list(b))
        same = same_lists(x, a, b);
    else if (a.type != b.type)
        same = false;
    else if (a.type == HTH_JV_STRING)
        same = hth_jstr_same(a.u.s, b.u.s);
    else if (a.type == HTH_JV_DICT)
        same = same_dicts(x, a, b);
    else if (a.type == HTH_JV_UNDEFINED || a.type == HTH_JV_NONE)
        same = true;
    else if (a.type == HTH_JV_FUNCTION)
        same = a.u.i == b.u.i;
    else
        same = a.u.dict == b.u.dict;
    x->depth--;
    return same;
}

int hth_jv_order(struct hth_jrun *x, struct hth_jv a, struct hth_jv b,
                 bool fold)
{
    if (!hth_jx_step(x))
        return 0;
    if (hth_jv_is_number(a) && hth_jv_is_number(b))
        return order_numbers(a, b);
    if (a.type == HTH_JV_STRING && b.type == HTH_JV_STRING)
        return hth_jstr_order(a.u.s, b.u.s, fold);
    if (a.type == HTH_JV_UNDEFINED || b.type == HTH_JV_UNDEFINED)
        hth_jx_undefined(x, a.type == HTH_JV_UNDEFINED ? a : b);
    else
        hth_jx_fail(x, HTH_EFORMAT,
                    "'<' not supported between instances of '%s' and '%s'",
                    hth_jv_type_name(a), hth_jv_type_name(b));
    return 0;
}

static struct hth_jv characters(struct hth_jrun *x, const struct hth_jstr *s)
{
    struct hth_jv list = hth_jv_list(x, HTH_JV_LIST, hth_jstr_chars(s));

    for (uint32_t i = 0; i < s->n && !x->failed;) {
        uint32_t n = 1;

        while (i + n < s->n && !starts_char(s->p[i + n]))
            n++;
        hth_jlist_push(x, list, hth_jv_part(x, s, i, n));
        i += n;
    }
    return list;
}

struct hth_jv hth_jv_elements(struct hth_jrun *x, struct hth_jv v)
{
    struct hth_jv list;

    if (hth_jv_is_list(v))
        return v;
    if (v.type == HTH_JV_STRING)
        return characters(x, v.u.s);
    if (v.type == HTH_JV_UNDEFINED) {
        /* Jinja's plain undefined is empty; what the sandbox hides is not. */
        if (v.u.s != NULL && v.u.s->n > 10 &&
            memcmp(v.u.s->p + v.u.s->n - 10, "is unsafe.", 10) == 0)
            return hth_jx_undefined(x, v);
        return hth_jv_list(x, HTH_JV_LIST, 0);
    }
    if (v.type != HTH_JV_DICT)
        return hth_jx_fail(x, HTH_EFORMAT, "'%s' object is not iterable",
                           hth_jv_type_name(v));
    list = hth_jv_list(x, HTH_JV_LIST, v.u.dict->count);
    for (uint32_t i = 0; i < v.u.dict->count; i++)
        hth_jlist_push(x, list, v.u.dict->at[i].key);
    return list;
}
