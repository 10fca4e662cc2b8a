/* jinja_call.c - filters, tests, methods of dicts, and global functions. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/jinja_internal.h"

#define TIME_TEXT_MAX 256u

typedef struct hth_jv (*filter_fn)(struct hth_jrun *x, struct hth_jv v,
                                   const struct hth_jargs *a);

/* A by-name or by-place argument that is true. */
static bool flag(const struct hth_jargs *a, uint32_t place, const char *name)
{
    const struct hth_jv *v = hth_jargs_get(a, place, name);

    return v != NULL && hth_jv_true(*v);
}

/* "a.b.0" of v, as attribute= means it. */
static struct hth_jv path(struct hth_jrun *x, struct hth_jv v,
                          const struct hth_jstr *name)
{
    for (size_t at = 0; at <= name->n && !x->failed;) {
        const char *dot =
            at < name->n ? memchr(name->p + at, '.', name->n - at) : NULL;
        size_t end = dot == NULL ? name->n : (size_t)(dot - name->p);
        struct hth_jv key = hth_jv_part(x, name, at, end - at);

        v = hth_jx_item(x, v, key);
        at = end + 1;
    }
    return v;
}

/* ---- lists -----------------------------------------------------------------
 */

static struct hth_jv f_length(struct hth_jrun *x, struct hth_jv v,
                              const struct hth_jargs *a)
{
    (void)a;
    if (v.type == HTH_JV_STRING) {
        x->steps += v.u.s->n / 64;
        return hth_jv_int(hth_jstr_chars(v.u.s));
    }
    if (hth_jv_is_list(v))
        return hth_jv_int(v.u.list->count);
    if (v.type == HTH_JV_DICT)
        return hth_jv_int(v.u.dict->count);
    if (v.type == HTH_JV_UNDEFINED)
        return hth_jv_int(0);
    return hth_jx_fail(x, HTH_EFORMAT, "object of type '%s' has no len()",
                       hth_jv_type_name(v));
}

static struct hth_jv f_list(struct hth_jrun *x, struct hth_jv v,
                            const struct hth_jargs *a)
{
    struct hth_jv from = hth_jv_elements(x, v), out;

    (void)a;
    if (x->failed)
        return from;
    out = hth_jv_list(x, HTH_JV_LIST, from.u.list->count);
    for (uint32_t i = 0; i < from.u.list->count; i++)
        hth_jlist_push(x, out, from.u.list->at[i]);
    return out;
}

static struct hth_jv f_reverse(struct hth_jrun *x, struct hth_jv v,
                               const struct hth_jargs *a)
{
    struct hth_jv from = hth_jv_elements(x, v), out;

    (void)a;
    if (x->failed)
        return from;
    out = hth_jv_list(x, HTH_JV_LIST, from.u.list->count);
    for (uint32_t i = from.u.list->count; i-- > 0;)
        hth_jlist_push(x, out, from.u.list->at[i]);
    return out;
}

static struct hth_jv end_of(struct hth_jrun *x, struct hth_jv v, bool last)
{
    struct hth_jv list = hth_jv_elements(x, v);

    if (x->failed)
        return list;
    if (list.u.list->count == 0)
        return hth_jv_missing(x, "No %s item, sequence was empty.",
                              last ? "last" : "first");
    return list.u.list->at[last ? list.u.list->count - 1 : 0];
}

static struct hth_jv f_first(struct hth_jrun *x, struct hth_jv v,
                             const struct hth_jargs *a)
{
    (void)a;
    return end_of(x, v, false);
}

static struct hth_jv f_last(struct hth_jrun *x, struct hth_jv v,
                            const struct hth_jargs *a)
{
    (void)a;
    return end_of(x, v, true);
}

static struct hth_jv f_join(struct hth_jrun *x, struct hth_jv v,
                            const struct hth_jargs *a)
{
    const struct hth_jv *by = hth_jargs_get(a, 0, "d");
    const struct hth_jv *attr = hth_jargs_get(a, 1, "attribute");
    struct hth_jv list = hth_jv_elements(x, v);
    struct hth_jout o;

    if (x->failed)
        return list;
    hth_jout_init(&o);
    for (uint32_t i = 0; i < list.u.list->count && hth_jx_step(x); i++) {
        struct hth_jv item = list.u.list->at[i];

        if (i > 0 && by != NULL)
            hth_jout_value(x, &o, *by);
        if (attr != NULL && attr->type == HTH_JV_STRING)
            item = path(x, item, attr->u.s);
        hth_jout_value(x, &o, item);
    }
    return hth_jout_take(x, &o);
}

struct keyed {
    struct hth_jv key, value;
    uint32_t at; /* keeps the sort stable */
    bool fold, down;
    struct hth_jrun *x;
};

static int by_key(const void *a, const void *b)
{
    const struct keyed *p = a, *q = b;
    int d = hth_jv_order(p->x, p->key, q->key, p->fold);

    if (d == 0)
        return p->at < q->at ? -1 : 1;
    return p->down ? -d : d;
}

/* Sort list by itself, an attribute, or the given place of its pairs. */
static struct hth_jv sorted(struct hth_jrun *x, struct hth_jv list,
                            const struct hth_jv *attr, int place,
                            const bool how[2])
{
    uint32_t n = list.u.list->count;
    struct keyed *k = hth_jx_alloc(x, (n + 1) * sizeof *k);
    struct hth_jv out = hth_jv_list(x, HTH_JV_LIST, n);

    for (uint32_t i = 0; i < n && !x->failed; i++) {
        struct hth_jv v = list.u.list->at[i], key = v;

        if (attr != NULL && attr->type == HTH_JV_STRING)
            key = path(x, v, attr->u.s);
        else if (place >= 0)
            key = v.u.list->at[place];
        k[i] = (struct keyed){key, v, i, how[0], how[1], x};
    }
    if (x->failed)
        return out;
    qsort(k, n, sizeof *k, by_key);
    for (uint32_t i = 0; i < n; i++)
        hth_jlist_push(x, out, k[i].value);
    return out;
}

static struct hth_jv f_sort(struct hth_jrun *x, struct hth_jv v,
                            const struct hth_jargs *a)
{
    const bool how[2] = {!flag(a, 1, "case_sensitive"), flag(a, 0, "reverse")};
    struct hth_jv list = hth_jv_elements(x, v);

    return x->failed
               ? list
               : sorted(x, list, hth_jargs_get(a, 2, "attribute"), -1, how);
}

static struct hth_jv f_unique(struct hth_jrun *x, struct hth_jv v,
                              const struct hth_jargs *a)
{
    struct hth_jv list = hth_jv_elements(x, v);
    struct hth_jv out = hth_jv_list(x, HTH_JV_LIST, 0);
    bool fold = !flag(a, 0, "case_sensitive");

    for (uint32_t i = 0; !x->failed && i < list.u.list->count; i++) {
        struct hth_jv item = list.u.list->at[i];
        bool seen = false;

        for (uint32_t k = 0; k < out.u.list->count && !seen; k++) {
            struct hth_jv old = out.u.list->at[k];

            if (fold && item.type == HTH_JV_STRING && old.type == HTH_JV_STRING)
                seen = hth_jx_step(x) &&
                       hth_jstr_order(item.u.s, old.u.s, true) == 0;
            else
                seen = hth_jv_same(x, item, old);
        }
        if (!seen)
            hth_jlist_push(x, out, item);
    }
    return out;
}

/* ---- choosing --------------------------------------------------------------
 */

/* Arguments from the n-th on, as the arguments of a test or filter. */
static struct hth_jargs rest(const struct hth_jargs *a, uint32_t n)
{
    struct hth_jargs r = {.count = 0};

    for (uint32_t i = n; i < a->count; i++) {
        r.at[r.count] = a->at[i];
        r.name[r.count++] = a->name[i];
        r.places += a->name[i] == NULL;
    }
    return r;
}

struct choice {
    bool attribute, wanted;
};

/* What is nothing has no elements to choose from, also None. */
static struct hth_jv some_elements(struct hth_jrun *x, struct hth_jv v)
{
    return hth_jv_true(v) ? hth_jv_elements(x, v)
                          : hth_jv_list(x, HTH_JV_LIST, 0);
}

static struct hth_jv choose(struct hth_jrun *x, struct hth_jv v,
                            const struct hth_jargs *a, struct choice how)
{
    struct hth_jv list = some_elements(x, v);
    struct hth_jv out = hth_jv_list(x, HTH_JV_LIST, 0);
    uint32_t at = how.attribute ? 1 : 0;
    struct hth_jargs args = rest(a, at + 1);

    if (how.attribute && (a->places < 1 || a->at[0].type != HTH_JV_STRING))
        return hth_jx_fail(x, HTH_EFORMAT, "an attribute's name is missing");
    if (a->places > at && a->at[at].type != HTH_JV_STRING)
        return hth_jx_fail(x, HTH_EFORMAT, "a test's name is missing");
    for (uint32_t i = 0; !x->failed && i < list.u.list->count; i++) {
        struct hth_jv item = list.u.list->at[i], of = item;
        bool yes;

        if (how.attribute)
            of = path(x, item, a->at[0].u.s);
        yes = a->places > at ? hth_jx_test(x, a->at[at].u.s, of, &args)
                             : hth_jv_true(of);
        if (yes == how.wanted)
            hth_jlist_push(x, out, item);
    }
    return out;
}

static struct hth_jv f_select(struct hth_jrun *x, struct hth_jv v,
                              const struct hth_jargs *a)
{
    return choose(x, v, a, (struct choice){false, true});
}

static struct hth_jv f_reject(struct hth_jrun *x, struct hth_jv v,
                              const struct hth_jargs *a)
{
    return choose(x, v, a, (struct choice){false, false});
}

static struct hth_jv f_selectattr(struct hth_jrun *x, struct hth_jv v,
                                  const struct hth_jargs *a)
{
    return choose(x, v, a, (struct choice){true, true});
}

static struct hth_jv f_rejectattr(struct hth_jrun *x, struct hth_jv v,
                                  const struct hth_jargs *a)
{
    return choose(x, v, a, (struct choice){true, false});
}

static struct hth_jv f_map(struct hth_jrun *x, struct hth_jv v,
                           const struct hth_jargs *a)
{
    const struct hth_jv *attr = hth_jargs_get(a, UINT32_MAX, "attribute");
    const struct hth_jv *other = hth_jargs_get(a, UINT32_MAX, "default");
    struct hth_jv list = some_elements(x, v);
    struct hth_jv out = hth_jv_list(x, HTH_JV_LIST, 0);
    struct hth_jargs args = rest(a, 1);

    if (attr == NULL && (a->places < 1 || a->at[0].type != HTH_JV_STRING))
        return hth_jx_fail(x, HTH_EFORMAT, "map takes a filter's name");
    if (attr != NULL && attr->type != HTH_JV_STRING)
        return hth_jx_fail(x, HTH_EFORMAT, "an attribute's name is missing");
    for (uint32_t i = 0; !x->failed && i < list.u.list->count; i++) {
        struct hth_jv item = list.u.list->at[i];

        if (attr == NULL)
            item = hth_jx_filter(x, a->at[0].u.s, item, &args);
        else
            item = path(x, item, attr->u.s);
        if (item.type == HTH_JV_UNDEFINED && other != NULL)
            item = *other;
        hth_jlist_push(x, out, item);
    }
    return out;
}

/* ---- dicts -----------------------------------------------------------------
 */

/* Keys 'k', values 'v' or pairs 'p' of a dict. */
static struct hth_jv entries(struct hth_jrun *x, struct hth_jv v, char what)
{
    struct hth_jv out;

    if (v.type == HTH_JV_UNDEFINED)
        return hth_jv_list(x, HTH_JV_LIST, 0);
    if (v.type != HTH_JV_DICT)
        return hth_jx_fail(x, HTH_EFORMAT,
                           "Can only get item pairs from a mapping.");
    out = hth_jv_list(x, HTH_JV_LIST, v.u.dict->count);
    for (uint32_t i = 0; i < v.u.dict->count && hth_jx_step(x); i++) {
        struct hth_jpair *p = &v.u.dict->at[i];

        hth_jlist_push(x, out,
                       what == 'k'   ? p->key
                       : what == 'v' ? p->value
                                     : hth_jv_pair(x, p->key, p->value));
    }
    return out;
}

static struct hth_jv f_items(struct hth_jrun *x, struct hth_jv v,
                             const struct hth_jargs *a)
{
    (void)a;
    return entries(x, v, 'p');
}

static struct hth_jv f_dictsort(struct hth_jrun *x, struct hth_jv v,
                                const struct hth_jargs *a)
{
    const struct hth_jv *by = hth_jargs_get(a, 1, "by");
    const bool how[2] = {!flag(a, 0, "case_sensitive"), flag(a, 2, "reverse")};
    struct hth_jv list = entries(x, v, 'p');

    if (x->failed)
        return list;
    return sorted(x, list, NULL,
                  by != NULL && by->type == HTH_JV_STRING &&
                      hth_jstr_is(by->u.s, "value"),
                  how);
}

/* ---- single values ---------------------------------------------------------
 */

static struct hth_jv f_default(struct hth_jrun *x, struct hth_jv v,
                               const struct hth_jargs *a)
{
    const struct hth_jv *other = hth_jargs_get(a, 0, "default_value");
    bool missing = v.type == HTH_JV_UNDEFINED ||
                   (flag(a, 1, "boolean") && !hth_jv_true(v));

    if (!missing)
        return v;
    return other != NULL ? *other : hth_jv_cstr(x, "");
}

static struct hth_jv f_string(struct hth_jrun *x, struct hth_jv v,
                              const struct hth_jargs *a)
{
    (void)a;
    return hth_jv_to_string(x, v);
}

static const char *c_text(struct hth_jrun *x, const struct hth_jv *v,
                          const char *fallback)
{
    char *copy;

    if (v == NULL || v->type != HTH_JV_STRING)
        return fallback;
    copy = hth_jx_alloc(x, (size_t)v->u.s->n + 1);
    if (copy == NULL)
        return fallback;
    memcpy(copy, v->u.s->p, v->u.s->n);
    return copy;
}

static struct hth_jv f_tojson(struct hth_jrun *x, struct hth_jv v,
                              const struct hth_jargs *a)
{
    const struct hth_jv *ascii = hth_jargs_get(a, 0, "ensure_ascii");
    const struct hth_jv *indent = hth_jargs_get(a, UINT32_MAX, "indent");
    const struct hth_jv *sep = hth_jargs_get(a, UINT32_MAX, "separators");
    struct hth_jdump how = {.indent = -1, .comma = ", ", .colon = ": "};
    struct hth_jout o;

    /* tojson(4): the place of indent in Jinja2's own filter. */
    if (ascii != NULL && ascii->type == HTH_JV_INT && a->places > 0)
        indent = ascii;
    else if (ascii != NULL)
        how.ascii = hth_jv_true(*ascii);
    if (indent != NULL && indent->type == HTH_JV_INT) {
        how.indent = indent->u.i < 0    ? 0
                     : indent->u.i > 64 ? 64
                                        : (int)indent->u.i;
        how.comma = ",";
    }
    if (sep != NULL && hth_jv_is_list(*sep) && sep->u.list->count == 2) {
        how.comma = c_text(x, &sep->u.list->at[0], how.comma);
        how.colon = c_text(x, &sep->u.list->at[1], how.colon);
    }
    how.sort = flag(a, UINT32_MAX, "sort_keys");
    hth_jout_init(&o);
    hth_jout_json(x, &o, v, &how);
    return hth_jout_take(x, &o);
}

static struct hth_jv f_from_json(struct hth_jrun *x, struct hth_jv v,
                                 const struct hth_jargs *a)
{
    struct hth_jv out;
    json_error_t why;
    json_t *j;

    (void)a;
    if (v.type != HTH_JV_STRING)
        return hth_jx_fail(x, HTH_EFORMAT, "from_json takes a string");
    j = json_loadb(v.u.s->p, v.u.s->n,
                   JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES,
                   &why);
    if (j == NULL)
        return hth_jx_fail(x, HTH_EFORMAT, "from_json: %s", why.text);
    out = hth_jv_from_json(x, j, v.u.s->mark != NULL);
    json_decref(j);
    return out;
}

static struct hth_jv f_int(struct hth_jrun *x, struct hth_jv v,
                           const struct hth_jargs *a)
{
    const struct hth_jv *other = hth_jargs_get(a, 0, "default");
    const char *text;
    char *end;
    long long i;

    if (v.type == HTH_JV_INT || v.type == HTH_JV_BOOL)
        return hth_jv_int(v.type == HTH_JV_INT ? v.u.i : v.u.b);
    if (v.type == HTH_JV_FLOAT && fabs(v.u.f) < 9e18)
        return hth_jv_int((int64_t)v.u.f);
    text = c_text(x, &v, "");
    i = strtoll(text, &end, 10);
    if (*text != '\0' && *end == '\0')
        return hth_jv_int(i);
    return other != NULL ? *other : hth_jv_int(0);
}

static struct hth_jv f_float(struct hth_jrun *x, struct hth_jv v,
                             const struct hth_jargs *a)
{
    const struct hth_jv *other = hth_jargs_get(a, 0, "default");
    const char *text;
    char *end;
    double f;

    if (hth_jv_is_number(v))
        return hth_jv_float(v.type == HTH_JV_FLOAT ? v.u.f
                            : v.type == HTH_JV_INT ? (double)v.u.i
                                                   : v.u.b);
    text = c_text(x, &v, "");
    f = strtod(text, &end);
    if (*text != '\0' && *end == '\0')
        return hth_jv_float(f);
    return other != NULL ? *other : hth_jv_float(0);
}

static struct hth_jv f_abs(struct hth_jrun *x, struct hth_jv v,
                           const struct hth_jargs *a)
{
    (void)a;
    if (v.type == HTH_JV_FLOAT)
        return hth_jv_float(fabs(v.u.f));
    if (v.type == HTH_JV_INT && v.u.i != INT64_MIN)
        return hth_jv_int(v.u.i < 0 ? -v.u.i : v.u.i);
    return hth_jx_fail(x, HTH_EFORMAT, "bad operand type for abs(): '%s'",
                       hth_jv_type_name(v));
}

static struct hth_jv f_safe(struct hth_jrun *x, struct hth_jv v,
                            const struct hth_jargs *a)
{
    (void)a;
    return hth_jv_safe(x, hth_jv_to_string(x, v));
}

/* Filters that are string methods by the same name, on str() of the value. */
static struct hth_jv text_filter(struct hth_jrun *x,
                                 const struct hth_jstr *name, struct hth_jv v,
                                 const struct hth_jargs *a)
{
    static const char *const names[] = {"upper", "lower",      "capitalize",
                                        "title", "replace",    "trim",
                                        "split", "startswith", "endswith"};
    hth_jtext_fn fn = hth_jstr_is(name, "trim")     ? hth_jtext_strip
                      : hth_jstr_is(name, "indent") ? hth_jtext_indent
                                                    : NULL;

    for (size_t i = 0; i < sizeof names / sizeof names[0] && fn == NULL; i++)
        if (hth_jstr_is(name, names[i]))
            fn = hth_jtext_method(name);
    if (fn == NULL)
        return hth_jx_fail(x, HTH_EFORMAT, "No filter named '%.*s'.",
                           (int)name->n, name->p);
    v = hth_jv_to_string(x, v);
    return x->failed ? hth_jv_undefined() : fn(x, v, a);
}

struct hth_jv hth_jx_filter(struct hth_jrun *x, const struct hth_jstr *name,
                            struct hth_jv v, const struct hth_jargs *a)
{
    static const struct {
        const char *name;
        filter_fn fn;
    } filters[] = {
        {"tojson", f_tojson},
        {"length", f_length},
        {"count", f_length},
        {"string", f_string},
        {"items", f_items},
        {"join", f_join},
        {"default", f_default},
        {"d", f_default},
        {"list", f_list},
        {"safe", f_safe},
        {"selectattr", f_selectattr},
        {"rejectattr", f_rejectattr},
        {"select", f_select},
        {"reject", f_reject},
        {"map", f_map},
        {"dictsort", f_dictsort},
        {"from_json", f_from_json},
        {"fromjson", f_from_json},
        {"first", f_first},
        {"last", f_last},
        {"int", f_int},
        {"float", f_float},
        {"unique", f_unique},
        {"sort", f_sort},
        {"reverse", f_reverse},
        {"abs", f_abs},
    };
    struct hth_jv out = hth_jv_undefined();

    if (!hth_jx_step(x))
        return out;
    /* A filter may name another: map('map', 'map', ...). */
    if (++x->depth > HTH_JINJA_DEPTH_MAX) {
        x->depth--;
        return hth_jx_fail(x, HTH_ELIMIT, "filters nested too deep");
    }
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++)
        if (hth_jstr_is(name, filters[i].name)) {
            out = filters[i].fn(x, v, a);
            x->depth--;
            return out;
        }
    out = text_filter(x, name, v, a);
    x->depth--;
    return out;
}

/* ---- tests -----------------------------------------------------------------
 */

/* Tests that ask for the type only: yes, no, or -1 for another name. */
static int type_test(const struct hth_jstr *name, struct hth_jv v)
{
    const unsigned type = 1u << v.type;
    const unsigned numbers = 1u << HTH_JV_INT | 1u << HTH_JV_FLOAT;
    const unsigned lists = 1u << HTH_JV_LIST | 1u << HTH_JV_TUPLE;
    const unsigned many = lists | 1u << HTH_JV_STRING | 1u << HTH_JV_DICT |
                          1u << HTH_JV_UNDEFINED;
    const struct {
        const char *name;
        unsigned types;
    } tests[] = {
        {"defined", ~(1u << HTH_JV_UNDEFINED)},
        {"undefined", 1u << HTH_JV_UNDEFINED},
        {"none", 1u << HTH_JV_NONE},
        {"string", 1u << HTH_JV_STRING},
        {"mapping", 1u << HTH_JV_DICT},
        {"iterable", many},
        {"sequence", many},
        {"boolean", 1u << HTH_JV_BOOL},
        {"integer", 1u << HTH_JV_INT},
        {"float", 1u << HTH_JV_FLOAT},
        {"number", numbers | 1u << HTH_JV_BOOL},
        {"callable",
         1u << HTH_JV_MACRO | 1u << HTH_JV_FUNCTION | 1u << HTH_JV_METHOD},
    };

    for (size_t i = 0; i < sizeof tests / sizeof tests[0]; i++)
        if (hth_jstr_is(name, tests[i].name))
            return (tests[i].types & type) != 0;
    if (hth_jstr_is(name, "true") || hth_jstr_is(name, "false"))
        return v.type == HTH_JV_BOOL && v.u.b == (name->p[0] == 't');
    return -1;
}

bool hth_jx_test(struct hth_jrun *x, const struct hth_jstr *name,
                 struct hth_jv v, const struct hth_jargs *a)
{
    const struct hth_jv *arg = hth_jargs_get(a, 0, NULL);
    int yes = type_test(name, v);

    if (!hth_jx_step(x))
        return false;
    if (yes >= 0)
        return yes;
    if (hth_jstr_is(name, "odd") || hth_jstr_is(name, "even"))
        return v.type == HTH_JV_INT && (v.u.i % 2 != 0) == (name->p[0] == 'o');
    if (arg != NULL) {
        if (hth_jstr_is(name, "equalto") || hth_jstr_is(name, "eq") ||
            hth_jstr_is(name, "==") || hth_jstr_is(name, "sameas"))
            return hth_jv_same(x, v, *arg);
        if (hth_jstr_is(name, "ne") || hth_jstr_is(name, "!="))
            return !hth_jv_same(x, v, *arg);
        if (hth_jstr_is(name, "in")) {
            struct hth_jv list = hth_jv_elements(x, *arg);

            for (uint32_t i = 0; !x->failed && i < list.u.list->count; i++)
                if (hth_jv_same(x, list.u.list->at[i], v))
                    return true;
            return false;
        }
        if (hth_jstr_is(name, "divisibleby") && v.type == HTH_JV_INT &&
            arg->type == HTH_JV_INT && arg->u.i > 0)
            return v.u.i % arg->u.i == 0;
    }
    hth_jx_fail(x, HTH_EFORMAT, "No test named '%.*s'.", (int)name->n, name->p);
    return false;
}

/* ---- methods ---------------------------------------------------------------
 */

static bool dict_method(const struct hth_jstr *name)
{
    return hth_jstr_is(name, "items") || hth_jstr_is(name, "get") ||
           hth_jstr_is(name, "keys") || hth_jstr_is(name, "values");
}

bool hth_jx_has_method(struct hth_jv v, const struct hth_jstr *name)
{
    if (v.type == HTH_JV_STRING)
        return hth_jtext_method(name) != NULL;
    if (v.type == HTH_JV_DICT)
        return dict_method(name);
    return false;
}

struct hth_jv hth_jx_method(struct hth_jrun *x, const struct hth_jmethod *m,
                            const struct hth_jargs *a)
{
    const struct hth_jv *key = hth_jargs_get(a, 0, NULL);
    const struct hth_jv *other = hth_jargs_get(a, 1, "default"), *at;

    if (m->self.type == HTH_JV_STRING)
        return hth_jtext_method(m->name)(x, m->self, a);
    if (!hth_jstr_is(m->name, "get"))
        return entries(x, m->self,
                       hth_jstr_is(m->name, "items")  ? 'p'
                       : hth_jstr_is(m->name, "keys") ? 'k'
                                                      : 'v');
    if (key == NULL)
        return hth_jx_fail(x, HTH_EFORMAT, "get takes a key");
    at = hth_jdict_get(x, m->self, *key);
    if (at != NULL)
        return *at;
    return other != NULL ? *other : hth_jv_none();
}

/* ---- functions -------------------------------------------------------------
 */

static const char *const g_functions[] = {"raise_exception", "namespace",
                                          "range", "strftime_now", "dict"};

int hth_jx_function_number(const struct hth_jstr *name)
{
    for (int i = 0; i < 5; i++)
        if (hth_jstr_is(name, g_functions[i]))
            return i;
    return -1;
}

static struct hth_jv new_dict(struct hth_jrun *x, enum hth_jv_type type,
                              const struct hth_jargs *a)
{
    struct hth_jv d = hth_jv_dict(x, type);

    for (uint32_t i = 0; i < a->count && !x->failed; i++) {
        if (a->name[i] != NULL) {
            hth_jdict_put(x, d, hth_jv_str(a->name[i]), a->at[i]);
            continue;
        }
        if (a->at[i].type != HTH_JV_DICT)
            return hth_jx_fail(x, HTH_EFORMAT, "a mapping expected");
        for (uint32_t k = 0; k < a->at[i].u.dict->count; k++)
            hth_jdict_put(x, d, a->at[i].u.dict->at[k].key,
                          a->at[i].u.dict->at[k].value);
    }
    return d;
}

static struct hth_jv range(struct hth_jrun *x, const struct hth_jargs *a)
{
    int64_t v[3] = {0, 0, 1};
    struct hth_jv out;

    for (uint32_t i = 0; i < a->places && i < 3; i++) {
        if (a->at[i].type != HTH_JV_INT)
            return hth_jx_fail(x, HTH_EFORMAT, "range takes integers");
        v[i] = a->at[i].u.i;
    }
    if (a->places == 1) {
        v[1] = v[0];
        v[0] = 0;
    }
    if (v[2] == 0)
        return hth_jx_fail(x, HTH_EFORMAT, "range() arg 3 must not be zero");
    out = hth_jv_list(x, HTH_JV_LIST, 0);
    for (uint32_t n = 0; !x->failed && (v[2] > 0 ? v[0] < v[1] : v[0] > v[1]);
         n++) {
        if (n == HTH_JINJA_RANGE_MAX)
            return hth_jx_fail(x, HTH_ELIMIT, "a range of more than %u",
                               HTH_JINJA_RANGE_MAX);
        hth_jlist_push(x, out, hth_jv_int(v[0]));
        if (__builtin_add_overflow(v[0], v[2], &v[0]))
            break;
    }
    return out;
}

static struct hth_jv now(struct hth_jrun *x, const struct hth_jargs *a)
{
    const char *format = c_text(x, hth_jargs_get(a, 0, NULL), "");
    char text[TIME_TEXT_MAX];
    size_t n;

    if (strlen(format) > TIME_TEXT_MAX / 4)
        return hth_jx_fail(x, HTH_ELIMIT, "strftime_now: a format too long");
    n = strftime(text, sizeof text, format, &x->in->now);
    return hth_jv_text(x, text, n);
}

struct hth_jv hth_jx_function(struct hth_jrun *x, int64_t number,
                              const struct hth_jargs *a)
{
    struct hth_jv v;

    switch (number) {
    case 0:
        v = a->places > 0 ? hth_jv_to_string(x, a->at[0]) : hth_jv_cstr(x, "");
        if (x->failed)
            return v;
        return hth_jx_fail(x, HTH_EINVAL, "%.*s", (int)v.u.s->n, v.u.s->p);
    case 1:
        return new_dict(x, HTH_JV_NAMESPACE, a);
    case 2:
        return range(x, a);
    case 3:
        return now(x, a);
    default:
        return new_dict(x, HTH_JV_DICT, a);
    }
}
