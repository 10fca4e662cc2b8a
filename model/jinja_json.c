/* jinja_json.c - values as text: JSON in and out, and Python's str() and
 * repr(), which templates print lists and dicts with. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/jinja_internal.h"
#include "model/utf8.h"

/* ---- text under construction --------------------------------------------- */

void hth_jout_init(struct hth_jout *o)
{
    hth_buf_init(&o->text, HTH_JINJA_MEMORY_BYTES_MAX / 4);
    hth_buf_init(&o->mark, HTH_JINJA_MEMORY_BYTES_MAX / 4);
}

void hth_jout_fini(struct hth_jout *o)
{
    hth_buf_fini(&o->text);
    hth_buf_fini(&o->mark);
}

static void put(struct hth_jrun *x, struct hth_jout *o, const char *p, size_t n)
{
    x->steps += n / 64;
    hth_put_bytes(&o->text, p, n);
    if (o->text.failed)
        hth_jx_fail(x, HTH_ELIMIT, "the text grows beyond %u MiB",
                    HTH_JINJA_MEMORY_BYTES_MAX >> 22);
}

/* Marks lag behind and are filled up when one is set. */
static void put_marks(struct hth_jrun *x, struct hth_jout *o,
                      const uint8_t *mark, size_t n)
{
    static const uint8_t zeros[256];

    while (o->mark.len < o->text.len - n && !o->mark.failed) {
        size_t gap = o->text.len - n - o->mark.len;

        hth_put_bytes(&o->mark, zeros, gap < sizeof zeros ? gap : sizeof zeros);
    }
    if (mark != NULL && n > 0)
        hth_put_bytes(&o->mark, mark, n);
    if (o->mark.failed)
        hth_jx_fail(x, HTH_ELIMIT, "no memory for the text");
}

void hth_jout_put(struct hth_jrun *x, struct hth_jout *o, const char *p,
                  size_t n)
{
    if (n > 0 && !x->failed)
        put(x, o, p, n);
}

void hth_jout_cstr(struct hth_jrun *x, struct hth_jout *o, const char *s)
{
    hth_jout_put(x, o, s, strlen(s));
}

void hth_jout_part(struct hth_jrun *x, struct hth_jout *o,
                   const struct hth_jstr *s, size_t from, size_t n)
{
    if (n == 0 || x->failed)
        return;
    put(x, o, s->p + from, n);
    if (s->mark != NULL && !x->failed)
        put_marks(x, o, s->mark + from, n);
}

void hth_jout_like(struct hth_jrun *x, struct hth_jout *o, const char *text,
                   uint8_t mark)
{
    uint8_t marks[16];
    size_t n = strlen(text);

    if (x->failed || n > sizeof marks)
        return;
    memset(marks, mark, sizeof marks);
    put(x, o, text, n);
    if (mark != 0 && !x->failed)
        put_marks(x, o, marks, n);
}

struct hth_jv hth_jout_take(struct hth_jrun *x, struct hth_jout *o)
{
    struct hth_jv v = hth_jv_text(x, (const char *)o->text.data, o->text.len);

    if (!x->failed && o->mark.len > 0) {
        uint8_t *mark = hth_jx_alloc(x, o->text.len);
        struct hth_jstr *s = hth_jx_alloc(x, sizeof *s);

        if (mark != NULL && s != NULL) {
            memcpy(mark, o->mark.data, o->mark.len);
            *s = *v.u.s;
            s->mark = mark;
            v = hth_jv_str(s);
        }
    }
    hth_jout_fini(o);
    return x->failed ? hth_jv_undefined() : v;
}

/* ---- Python's text ------------------------------------------------------- */

/* The shortest digits that read back the same, as repr() has them. */
void hth_jout_float(struct hth_jrun *x, struct hth_jout *o, double f)
{
    char digits[40], text[64];
    int exponent;

    if (!isfinite(f)) {
        hth_jout_cstr(x, o, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
        return;
    }
    for (int precision = 0; precision <= 16; precision++) {
        snprintf(digits, sizeof digits, "%.*e", precision, f);
        if (strtod(digits, NULL) == f)
            break;
    }
    exponent = (int)strtol(strchr(digits, 'e') + 1, NULL, 10);
    if (exponent < -4 || exponent >= 16) {
        char *e = strchr(digits, 'e');

        *e = '\0';
        snprintf(text, sizeof text, "%se%c%02d", digits,
                 exponent < 0 ? '-' : '+', abs(exponent));
    } else {
        int places = (int)strcspn(digits, "e") - (f < 0 ? 3 : 2) - exponent;

        if (strchr(digits, '.') == NULL)
            places = -exponent;
        snprintf(text, sizeof text, "%.*f", places > 0 ? places : 1, f);
    }
    hth_jout_cstr(x, o, text);
}

static uint8_t mark_at(const struct hth_jstr *s, uint32_t i)
{
    return s->mark != NULL ? s->mark[i] : 0;
}

/* repr() of a string: single quotes unless only those occur inside. */
static void put_repr(struct hth_jrun *x, struct hth_jout *o,
                     const struct hth_jstr *s)
{
    bool one = s->n > 0 && memchr(s->p, '\'', s->n) != NULL;
    bool two = s->n > 0 && memchr(s->p, '"', s->n) != NULL;
    char quote = one && !two ? '"' : '\'';
    const char ends[2] = {quote, '\0'};

    hth_jout_cstr(x, o, ends);
    for (uint32_t i = 0; i < s->n && !x->failed; i++) {
        unsigned char c = (unsigned char)s->p[i];
        char text[8];

        if (c == '\n' || c == '\r' || c == '\t')
            snprintf(text, sizeof text, "\\%c",
                     c == '\n' ? 'n' : (c == '\r' ? 'r' : 't'));
        else if (c == '\\' || c == (unsigned char)quote)
            snprintf(text, sizeof text, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            snprintf(text, sizeof text, "\\x%02x", c);
        else
            snprintf(text, sizeof text, "%c", c);
        hth_jout_like(x, o, text, mark_at(s, i));
    }
    hth_jout_cstr(x, o, ends);
}

static void put_inner(struct hth_jrun *x, struct hth_jout *o, struct hth_jv v);

static void put_elements(struct hth_jrun *x, struct hth_jout *o,
                         struct hth_jv v)
{
    bool tuple = v.type == HTH_JV_TUPLE;

    hth_jout_cstr(x, o, tuple ? "(" : "[");
    for (uint32_t i = 0; i < v.u.list->count && !x->failed; i++) {
        hth_jout_cstr(x, o, i == 0 ? "" : ", ");
        put_inner(x, o, v.u.list->at[i]);
    }
    if (tuple && v.u.list->count == 1)
        hth_jout_cstr(x, o, ",");
    hth_jout_cstr(x, o, tuple ? ")" : "]");
}

static void put_pairs(struct hth_jrun *x, struct hth_jout *o, struct hth_jv v)
{
    hth_jout_cstr(x, o, "{");
    for (uint32_t i = 0; i < v.u.dict->count && !x->failed; i++) {
        hth_jout_cstr(x, o, i == 0 ? "" : ", ");
        put_inner(x, o, v.u.dict->at[i].key);
        hth_jout_cstr(x, o, ": ");
        put_inner(x, o, v.u.dict->at[i].value);
    }
    hth_jout_cstr(x, o, "}");
}

/* str() of everything but strings. */
static void put_other(struct hth_jrun *x, struct hth_jout *o, struct hth_jv v)
{
    char text[32];

    switch (v.type) {
    case HTH_JV_UNDEFINED:
        break;
    case HTH_JV_NONE:
        hth_jout_cstr(x, o, "None");
        break;
    case HTH_JV_BOOL:
        hth_jout_cstr(x, o, v.u.b ? "True" : "False");
        break;
    case HTH_JV_INT:
        snprintf(text, sizeof text, "%lld", (long long)v.u.i);
        hth_jout_cstr(x, o, text);
        break;
    case HTH_JV_FLOAT:
        hth_jout_float(x, o, v.u.f);
        break;
    case HTH_JV_LIST:
    case HTH_JV_TUPLE:
        put_elements(x, o, v);
        break;
    case HTH_JV_DICT:
        put_pairs(x, o, v);
        break;
    case HTH_JV_NAMESPACE:
        hth_jout_cstr(x, o, "<Namespace ");
        put_pairs(x, o, v);
        hth_jout_cstr(x, o, ">");
        break;
    default:
        hth_jout_cstr(x, o, "<");
        hth_jout_cstr(x, o, hth_jv_type_name(v));
        hth_jout_cstr(x, o, ">");
    }
}

static void put_inner(struct hth_jrun *x, struct hth_jout *o, struct hth_jv v)
{
    if (!hth_jx_step(x))
        return;
    if (++x->depth > HTH_JINJA_DEPTH_MAX)
        hth_jx_fail(x, HTH_ELIMIT, "values nested too deep");
    else if (v.type == HTH_JV_STRING)
        put_repr(x, o, v.u.s);
    else if (v.type == HTH_JV_UNDEFINED)
        hth_jout_cstr(x, o, "Undefined");
    else
        put_other(x, o, v);
    x->depth--;
}

void hth_jout_value(struct hth_jrun *x, struct hth_jout *o, struct hth_jv v)
{
    static const char unsafe[] = "is unsafe.";

    if (v.type == HTH_JV_STRING)
        hth_jout_part(x, o, v.u.s, 0, v.u.s->n);
    else if (v.type == HTH_JV_UNDEFINED && v.u.s != NULL &&
             v.u.s->n > sizeof unsafe &&
             memcmp(v.u.s->p + v.u.s->n - 10, unsafe, 10) == 0)
        hth_jx_undefined(x, v);
    else
        put_other(x, o, v);
}

struct hth_jv hth_jv_to_string(struct hth_jrun *x, struct hth_jv v)
{
    struct hth_jout o;

    if (v.type == HTH_JV_STRING)
        return v;
    hth_jout_init(&o);
    hth_jout_value(x, &o, v);
    return hth_jout_take(x, &o);
}

/* ---- JSON in ------------------------------------------------------------- */

static struct hth_jv string_in(struct hth_jrun *x, const char *p, size_t n,
                               bool plain)
{
    struct hth_jv v = hth_jv_text(x, p, n);

    if (plain && n > 0 && !x->failed) {
        struct hth_jstr *s = hth_jx_alloc(x, sizeof *s);
        uint8_t *mark = hth_jx_alloc(x, n);

        if (s == NULL || mark == NULL)
            return hth_jv_undefined();
        memset(mark, 1, n);
        *s = *v.u.s;
        s->mark = mark;
        v = hth_jv_str(s);
    }
    return v;
}

static struct hth_jv object_in(struct hth_jrun *x, const json_t *j, bool plain)
{
    struct hth_jv d = hth_jv_dict(x, HTH_JV_DICT);
    json_t *object = (json_t *)(uintptr_t)j; /* jansson iterates so */

    for (void *it = json_object_iter(object); it != NULL && !x->failed;
         it = json_object_iter_next(object, it)) {
        const char *key = json_object_iter_key(it);
        size_t n = json_object_iter_key_len(it);

        hth_jdict_put(x, d, string_in(x, key, n, plain),
                      hth_jv_from_json(x, json_object_iter_value(it), plain));
    }
    return d;
}

static struct hth_jv array_in(struct hth_jrun *x, const json_t *j, bool plain)
{
    struct hth_jv l = hth_jv_list(x, HTH_JV_LIST, 0);

    for (size_t i = 0; i < json_array_size(j) && !x->failed; i++)
        hth_jlist_push(x, l, hth_jv_from_json(x, json_array_get(j, i), plain));
    return l;
}

struct hth_jv hth_jv_from_json(struct hth_jrun *x, const json_t *j, bool plain)
{
    struct hth_jv v = hth_jv_none();

    if (!hth_jx_step(x))
        return v;
    if (++x->depth > HTH_JSON_DEPTH_MAX)
        hth_jx_fail(x, HTH_ELIMIT, "JSON nested deeper than %u",
                    HTH_JSON_DEPTH_MAX);
    else if (json_is_object(j))
        v = object_in(x, j, plain);
    else if (json_is_array(j))
        v = array_in(x, j, plain);
    else if (json_is_string(j))
        v = string_in(x, json_string_value(j), json_string_length(j), plain);
    else if (json_is_integer(j))
        v = hth_jv_int(json_integer_value(j));
    else if (json_is_real(j))
        v = hth_jv_float(json_real_value(j));
    else if (json_is_boolean(j))
        v = hth_jv_bool(json_is_true(j));
    x->depth--;
    return v;
}

/* ---- JSON out ------------------------------------------------------------ */

static void put_escape(struct hth_jrun *x, struct hth_jout *o, uint32_t cp,
                       uint8_t mark)
{
    char text[16];

    if (cp >= 0x10000) {
        cp -= 0x10000;
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd800u + (cp >> 10),
                 0xdc00u + (cp & 0x3ffu));
    } else {
        snprintf(text, sizeof text, "\\u%04x", cp);
    }
    hth_jout_like(x, o, text, mark);
}

static void put_json_char(struct hth_jrun *x, struct hth_jout *o, char c,
                          uint8_t mark)
{
    static const char plain[] = "\"\\\n\r\t\b\f", letter[] = "\"\\nrtbf";
    const char *at = c == '\0' ? NULL : strchr(plain, c);
    char text[3] = {c, '\0', '\0'};

    if (at != NULL) {
        text[0] = '\\';
        text[1] = letter[at - plain];
    } else if ((unsigned char)c < 0x20) {
        put_escape(x, o, (unsigned char)c, mark);
        return;
    }
    hth_jout_like(x, o, text, mark);
}

static void put_json_string(struct hth_jrun *x, struct hth_jout *o,
                            const struct hth_jstr *s, bool ascii)
{
    hth_jout_cstr(x, o, "\"");
    for (uint32_t i = 0; i < s->n && !x->failed; i++) {
        const uint8_t *p = (const uint8_t *)s->p + i;
        size_t n;

        if (ascii && *p >= 0x80 &&
            hth_utf8_scan(p, s->n - i, &n) == HTH_UTF8_VALID) {
            put_escape(x, o, hth_utf8_decode(p, n), mark_at(s, i));
            i += (uint32_t)n - 1;
        } else {
            put_json_char(x, o, s->p[i], mark_at(s, i));
        }
    }
    hth_jout_cstr(x, o, "\"");
}

struct dump {
    struct hth_jrun *x;
    struct hth_jout *o;
    const struct hth_jdump *how;
    int level;
};

static void put_json(struct dump *d, struct hth_jv v);

static void new_line(struct dump *d)
{
    if (d->how->indent < 0)
        return;
    hth_jout_cstr(d->x, d->o, "\n");
    for (int i = 0; i < d->level * d->how->indent && !d->x->failed; i++)
        hth_jout_cstr(d->x, d->o, " ");
}

static void put_json_list(struct dump *d, struct hth_jv v)
{
    hth_jout_cstr(d->x, d->o, "[");
    d->level++;
    for (uint32_t i = 0; i < v.u.list->count && !d->x->failed; i++) {
        if (i > 0)
            hth_jout_cstr(d->x, d->o, d->how->comma);
        new_line(d);
        put_json(d, v.u.list->at[i]);
    }
    d->level--;
    if (v.u.list->count > 0)
        new_line(d);
    hth_jout_cstr(d->x, d->o, "]");
}

/* Keys are strings in JSON: what is none is put into quotes. */
static void put_key(struct dump *d, struct hth_jv key)
{
    if (key.type == HTH_JV_STRING) {
        put_json_string(d->x, d->o, key.u.s, d->how->ascii);
        return;
    }
    hth_jout_cstr(d->x, d->o, "\"");
    put_json(d, key);
    hth_jout_cstr(d->x, d->o, "\"");
}

static int by_key(const void *a, const void *b)
{
    const struct hth_jpair *p = a, *q = b;

    if (p->key.type != HTH_JV_STRING || q->key.type != HTH_JV_STRING)
        return (int)p->key.type - (int)q->key.type;
    return hth_jstr_order(p->key.u.s, q->key.u.s, false);
}

static void put_json_dict(struct dump *d, struct hth_jv v)
{
    uint32_t count = v.u.dict->count;
    struct hth_jpair *at = v.u.dict->at;

    if (d->how->sort && count > 1) {
        at = hth_jx_alloc(d->x, count * sizeof *at);
        if (at == NULL)
            return;
        memcpy(at, v.u.dict->at, count * sizeof *at);
        qsort(at, count, sizeof *at, by_key);
    }
    hth_jout_cstr(d->x, d->o, "{");
    d->level++;
    for (uint32_t i = 0; i < count && !d->x->failed; i++) {
        if (i > 0)
            hth_jout_cstr(d->x, d->o, d->how->comma);
        new_line(d);
        put_key(d, at[i].key);
        hth_jout_cstr(d->x, d->o, d->how->colon);
        put_json(d, at[i].value);
    }
    d->level--;
    if (count > 0)
        new_line(d);
    hth_jout_cstr(d->x, d->o, "}");
}

static void put_json_float(struct dump *d, double f)
{
    if (isfinite(f))
        hth_jout_float(d->x, d->o, f);
    else
        hth_jout_cstr(d->x, d->o,
                      isnan(f) ? "NaN"
                      : f < 0  ? "-Infinity"
                               : "Infinity");
}

static void put_json(struct dump *d, struct hth_jv v)
{
    struct hth_jrun *x = d->x;

    if (!hth_jx_step(x))
        return;
    if (++x->depth > HTH_JINJA_DEPTH_MAX)
        hth_jx_fail(x, HTH_ELIMIT, "values nested too deep");
    else if (v.type == HTH_JV_STRING)
        put_json_string(x, d->o, v.u.s, d->how->ascii);
    else if (hth_jv_is_list(v))
        put_json_list(d, v);
    else if (v.type == HTH_JV_DICT)
        put_json_dict(d, v);
    else if (v.type == HTH_JV_NONE)
        hth_jout_cstr(x, d->o, "null");
    else if (v.type == HTH_JV_BOOL)
        hth_jout_cstr(x, d->o, v.u.b ? "true" : "false");
    else if (v.type == HTH_JV_FLOAT)
        put_json_float(d, v.u.f);
    else if (v.type == HTH_JV_INT)
        put_other(x, d->o, v);
    else
        hth_jx_fail(x, HTH_EFORMAT,
                    "Object of type %s is not JSON serializable",
                    hth_jv_type_name(v));
    x->depth--;
}

void hth_jout_json(struct hth_jrun *x, struct hth_jout *o, struct hth_jv v,
                   const struct hth_jdump *how)
{
    struct dump d = {x, o, how, 0};

    put_json(&d, v);
}
