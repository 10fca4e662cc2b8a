/* jinja_text.c - what strings can do: Python's methods and the filters that
 * are made of them. Letters change case in ASCII only. */
#include <string.h>

#include "model/jinja_internal.h"
#include "model/utf8.h"

/* Python's white space; *n is the character's length. */
static bool is_space(const char *p, size_t left, size_t *n)
{
    uint32_t cp;

    *n = 1;
    if ((unsigned char)*p < 0x80)
        return *p == ' ' || (*p >= 9 && *p <= 13) || (*p >= 28 && *p <= 31);
    if (hth_utf8_scan((const uint8_t *)p, left, n) != HTH_UTF8_VALID)
        return false;
    cp = hth_utf8_decode((const uint8_t *)p, *n);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 ||
           cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

/* Is the character at p one to strip: white space, or one of chars? */
static bool strips(const struct hth_jstr *chars, const char *p, size_t left,
                   size_t *n)
{
    if (chars == NULL)
        return is_space(p, left, n);
    if (hth_utf8_scan((const uint8_t *)p, left, n) != HTH_UTF8_VALID)
        *n = 1;
    return chars->n > 0 && memmem(chars->p, chars->n, p, *n) != NULL;
}

static const struct hth_jstr *text_arg(struct hth_jrun *x,
                                       const struct hth_jargs *a,
                                       uint32_t place, const char *name)
{
    const struct hth_jv *v = hth_jargs_get(a, place, name);

    if (v == NULL || v->type == HTH_JV_NONE)
        return NULL;
    if (v->type == HTH_JV_STRING)
        return v->u.s;
    if (v->type == HTH_JV_UNDEFINED)
        hth_jx_undefined(x, *v);
    else
        hth_jx_fail(x, HTH_EFORMAT, "a string expected, not %s",
                    hth_jv_type_name(*v));
    return NULL;
}

static int64_t int_arg(const struct hth_jargs *a, uint32_t place,
                       const char *name, int64_t fallback)
{
    const struct hth_jv *v = hth_jargs_get(a, place, name);

    return v != NULL && v->type == HTH_JV_INT ? v->u.i : fallback;
}

static struct hth_jv strip_sides(struct hth_jrun *x, struct hth_jv self,
                                 const struct hth_jargs *a, unsigned sides)
{
    const struct hth_jstr *s = self.u.s, *chars = text_arg(x, a, 0, "chars");
    size_t from = 0, to = s->n, n;

    while (sides & 1u && from < to && strips(chars, s->p + from, to - from, &n))
        from += n;
    while (sides & 2u && to > from) {
        size_t at = to - 1;

        while (at > from && ((unsigned char)s->p[at] & 0xc0u) == 0x80u)
            at--;
        if (!strips(chars, s->p + at, to - at, &n) || n != to - at)
            break;
        to = at;
    }
    x->steps += (s->n - (to - from)) / 16;
    return hth_jv_part(x, s, from, to - from);
}

struct hth_jv hth_jtext_strip(struct hth_jrun *x, struct hth_jv self,
                              const struct hth_jargs *a)
{
    return strip_sides(x, self, a, 3);
}

static struct hth_jv lstrip(struct hth_jrun *x, struct hth_jv self,
                            const struct hth_jargs *a)
{
    return strip_sides(x, self, a, 1);
}

static struct hth_jv rstrip(struct hth_jrun *x, struct hth_jv self,
                            const struct hth_jargs *a)
{
    return strip_sides(x, self, a, 2);
}

/* ---- split -----------------------------------------------------------------
 */

static struct hth_jv split_space(struct hth_jrun *x, const struct hth_jstr *s,
                                 int64_t max)
{
    struct hth_jv out = hth_jv_list(x, HTH_JV_LIST, 0);
    size_t at = 0, n;

    while (hth_jx_step(x)) {
        size_t from;

        while (at < s->n && is_space(s->p + at, s->n - at, &n))
            at += n;
        if (at == s->n)
            break;
        from = at;
        if (max-- == 0) {
            struct hth_jargs none = {.count = 0};

            hth_jlist_push(
                x, out, rstrip(x, hth_jv_part(x, s, from, s->n - from), &none));
            break;
        }
        while (at < s->n && !is_space(s->p + at, s->n - at, &n))
            at += n;
        hth_jlist_push(x, out, hth_jv_part(x, s, from, at - from));
    }
    return out;
}

static struct hth_jv split(struct hth_jrun *x, struct hth_jv self,
                           const struct hth_jargs *a)
{
    const struct hth_jstr *s = self.u.s, *by = text_arg(x, a, 0, "sep");
    int64_t max = int_arg(a, 1, "maxsplit", -1);
    struct hth_jv out;
    size_t at = 0;

    if (x->failed)
        return hth_jv_undefined();
    if (by == NULL)
        return split_space(x, s, max);
    if (by->n == 0)
        return hth_jx_fail(x, HTH_EFORMAT, "empty separator");
    out = hth_jv_list(x, HTH_JV_LIST, 0);
    x->steps += s->n / 16;
    while (hth_jx_step(x)) {
        const char *hit = max == 0 || at == s->n
                              ? NULL
                              : memmem(s->p + at, s->n - at, by->p, by->n);
        size_t end = hit == NULL ? s->n : (size_t)(hit - s->p);

        hth_jlist_push(x, out, hth_jv_part(x, s, at, end - at));
        if (hit == NULL)
            break;
        at = end + by->n;
        max--;
    }
    return out;
}

static struct hth_jv rsplit(struct hth_jrun *x, struct hth_jv self,
                            const struct hth_jargs *a)
{
    struct hth_jargs all = *a;
    int64_t max = int_arg(a, 1, "maxsplit", -1);
    const struct hth_jstr *s = self.u.s;
    struct hth_jv parts, out;
    uint32_t joined;
    size_t n = 0;

    all.count = all.places = a->places > 0;
    parts = split(x, self, &all);
    if (x->failed || max < 0 || all.places == 0 ||
        (int64_t)parts.u.list->count <= max + 1)
        return parts;
    joined = parts.u.list->count - (uint32_t)max;
    for (uint32_t i = 0; i < joined; i++)
        n += parts.u.list->at[i].u.s->n + (i > 0 ? all.at[0].u.s->n : 0);
    out = hth_jv_list(x, HTH_JV_LIST, 0);
    hth_jlist_push(x, out, hth_jv_part(x, s, 0, n));
    for (uint32_t i = joined; i < parts.u.list->count; i++)
        hth_jlist_push(x, out, parts.u.list->at[i]);
    return out;
}

static struct hth_jv splitlines(struct hth_jrun *x, struct hth_jv self,
                                const struct hth_jargs *a)
{
    const struct hth_jstr *s = self.u.s;
    struct hth_jv out = hth_jv_list(x, HTH_JV_LIST, 0);

    (void)a;
    for (size_t at = 0; at < s->n && hth_jx_step(x);) {
        size_t end = at;

        while (end < s->n && s->p[end] != '\n' && s->p[end] != '\r')
            end++;
        hth_jlist_push(x, out, hth_jv_part(x, s, at, end - at));
        at = end + 1;
        if (end + 1 < s->n && s->p[end] == '\r' && s->p[at] == '\n')
            at++;
    }
    return out;
}

/* ---- questions -------------------------------------------------------------
 */

static bool has_end(const struct hth_jstr *s, const struct hth_jstr *e,
                    bool front)
{
    return e->n <= s->n &&
           memcmp(front ? s->p : s->p + (s->n - e->n), e->p, e->n) == 0;
}

/* The argument is a string or a tuple of them. */
static struct hth_jv ends(struct hth_jrun *x, struct hth_jv self,
                          const struct hth_jargs *a, bool front)
{
    const struct hth_jv *v = hth_jargs_get(a, 0, NULL);

    if (v != NULL && v->type == HTH_JV_STRING)
        return hth_jv_bool(has_end(self.u.s, v->u.s, front));
    if (v != NULL && v->type == HTH_JV_TUPLE) {
        for (uint32_t i = 0; i < v->u.list->count; i++)
            if (v->u.list->at[i].type == HTH_JV_STRING &&
                has_end(self.u.s, v->u.list->at[i].u.s, front))
                return hth_jv_bool(true);
        return hth_jv_bool(false);
    }
    return hth_jx_fail(x, HTH_EFORMAT,
                       "%s first arg must be str or a tuple of str, not %s",
                       front ? "startswith" : "endswith",
                       v == NULL ? "nothing" : hth_jv_type_name(*v));
}

static struct hth_jv startswith(struct hth_jrun *x, struct hth_jv self,
                                const struct hth_jargs *a)
{
    return ends(x, self, a, true);
}

static struct hth_jv endswith(struct hth_jrun *x, struct hth_jv self,
                              const struct hth_jargs *a)
{
    return ends(x, self, a, false);
}

static struct hth_jv find(struct hth_jrun *x, struct hth_jv self,
                          const struct hth_jargs *a)
{
    const struct hth_jstr *s = self.u.s, *what = text_arg(x, a, 0, NULL);
    const char *hit;
    struct hth_jstr before;

    if (what == NULL || what->n == 0)
        return hth_jv_int(0);
    x->steps += s->n / 16;
    hit = s->n == 0 ? NULL : memmem(s->p, s->n, what->p, what->n);
    if (hit == NULL)
        return hth_jv_int(-1);
    before = (struct hth_jstr){.p = s->p, .n = (uint32_t)(hit - s->p)};
    return hth_jv_int(hth_jstr_chars(&before));
}

static struct hth_jv count(struct hth_jrun *x, struct hth_jv self,
                           const struct hth_jargs *a)
{
    const struct hth_jstr *s = self.u.s, *what = text_arg(x, a, 0, NULL);
    int64_t n = 0;

    if (what == NULL || what->n == 0)
        return hth_jv_int((int64_t)hth_jstr_chars(s) + 1);
    for (size_t at = 0; at < s->n && hth_jx_step(x); n++) {
        const char *hit = memmem(s->p + at, s->n - at, what->p, what->n);

        if (hit == NULL)
            break;
        at = (size_t)(hit - s->p) + what->n;
    }
    return hth_jv_int(n);
}

static struct hth_jv isdigit_(struct hth_jrun *x, struct hth_jv self,
                              const struct hth_jargs *a)
{
    (void)x;
    (void)a;
    for (uint32_t i = 0; i < self.u.s->n; i++)
        if (self.u.s->p[i] < '0' || self.u.s->p[i] > '9')
            return hth_jv_bool(false);
    return hth_jv_bool(self.u.s->n > 0);
}

/* ---- changed text ----------------------------------------------------------
 */

static struct hth_jv replace(struct hth_jrun *x, struct hth_jv self,
                             const struct hth_jargs *a)
{
    const struct hth_jstr *s = self.u.s, *old = text_arg(x, a, 0, "old"),
                          *new = text_arg(x, a, 1, "new");
    int64_t max = int_arg(a, 2, "count", -1);
    struct hth_jout o;
    size_t at = 0;

    if (old == NULL || new == NULL)
        return hth_jx_fail(x, HTH_EFORMAT, "replace takes two strings");
    hth_jout_init(&o);
    x->steps += s->n / 16;
    while (old->n > 0 && at < s->n && max-- != 0 && hth_jx_step(x)) {
        const char *hit = memmem(s->p + at, s->n - at, old->p, old->n);

        if (hit == NULL)
            break;
        hth_jout_part(x, &o, s, at, (size_t)(hit - s->p) - at);
        hth_jout_part(x, &o, new, 0, new->n);
        at = (size_t)(hit - s->p) + old->n;
    }
    hth_jout_part(x, &o, s, at, s->n - at);
    return hth_jout_take(x, &o);
}

/* Case by position: upper 'U', lower 'L', capital 'C', title 'T'. */
static struct hth_jv recase(struct hth_jrun *x, struct hth_jv self, char how)
{
    const struct hth_jstr *s = self.u.s;
    struct hth_jout o;
    bool start = true;

    hth_jout_init(&o);
    for (uint32_t i = 0; i < s->n && !x->failed; i++) {
        char c[2] = {s->p[i], '\0'};
        bool low = *c >= 'a' && *c <= 'z', high = *c >= 'A' && *c <= 'Z';
        bool up = how == 'U' || (how != 'L' && start);

        if ((low && up) || (high && !up))
            c[0] ^= 0x20;
        start = how == 'T' && !low && !high;
        if (c[0] == '\0')
            hth_jout_part(x, &o, s, i, 1);
        else
            hth_jout_like(x, &o, c, s->mark != NULL ? s->mark[i] : 0);
    }
    return hth_jout_take(x, &o);
}

static struct hth_jv upper(struct hth_jrun *x, struct hth_jv self,
                           const struct hth_jargs *a)
{
    (void)a;
    return recase(x, self, 'U');
}

static struct hth_jv lower(struct hth_jrun *x, struct hth_jv self,
                           const struct hth_jargs *a)
{
    (void)a;
    return recase(x, self, 'L');
}

static struct hth_jv capitalize(struct hth_jrun *x, struct hth_jv self,
                                const struct hth_jargs *a)
{
    (void)a;
    return recase(x, self, 'C');
}

static struct hth_jv title(struct hth_jrun *x, struct hth_jv self,
                           const struct hth_jargs *a)
{
    (void)a;
    return recase(x, self, 'T');
}

static struct hth_jv join(struct hth_jrun *x, struct hth_jv self,
                          const struct hth_jargs *a)
{
    const struct hth_jv *of = hth_jargs_get(a, 0, NULL);
    struct hth_jv list;
    struct hth_jout o;

    list = hth_jv_elements(x, of != NULL ? *of : hth_jv_none());
    if (x->failed)
        return list;
    hth_jout_init(&o);
    for (uint32_t i = 0; i < list.u.list->count && hth_jx_step(x); i++) {
        if (i > 0)
            hth_jout_part(x, &o, self.u.s, 0, self.u.s->n);
        hth_jout_value(x, &o, list.u.list->at[i]);
    }
    return hth_jout_take(x, &o);
}

/* The filter indent(width, first, blank): every line but the first, and no
 * empty one, unless asked for. */
struct hth_jv hth_jtext_indent(struct hth_jrun *x, struct hth_jv self,
                               const struct hth_jargs *a)
{
    const struct hth_jv *w = hth_jargs_get(a, 0, "width");
    const struct hth_jv *first = hth_jargs_get(a, 1, "first");
    const struct hth_jv *blank = hth_jargs_get(a, 2, "blank");
    const struct hth_jstr *s = self.u.s;
    int64_t width = w != NULL && w->type == HTH_JV_INT ? w->u.i : 4;
    bool start = first != NULL && hth_jv_true(*first);
    struct hth_jout o;

    hth_jout_init(&o);
    for (size_t at = 0; at <= s->n && hth_jx_step(x);) {
        const char *nl = at < s->n ? memchr(s->p + at, '\n', s->n - at) : NULL;
        size_t end = nl == NULL ? s->n : (size_t)(nl - s->p);
        bool fill = end > at || (blank != NULL && hth_jv_true(*blank));

        if (start && fill) {
            if (w != NULL && w->type == HTH_JV_STRING)
                hth_jout_part(x, &o, w->u.s, 0, w->u.s->n);
            else
                for (int64_t i = 0; i < width && hth_jx_step(x); i++)
                    hth_jout_put(x, &o, " ", 1);
        }
        start = true;
        hth_jout_part(x, &o, s, at, end - at + (nl != NULL));
        if (nl == NULL)
            break;
        at = end + 1;
    }
    return hth_jout_take(x, &o);
}

hth_jtext_fn hth_jtext_method(const struct hth_jstr *name)
{
    static const struct {
        const char *name;
        hth_jtext_fn fn;
    } methods[] = {
        {"split", split},
        {"rsplit", rsplit},
        {"strip", hth_jtext_strip},
        {"lstrip", lstrip},
        {"rstrip", rstrip},
        {"startswith", startswith},
        {"endswith", endswith},
        {"replace", replace},
        {"upper", upper},
        {"lower", lower},
        {"capitalize", capitalize},
        {"title", title},
        {"join", join},
        {"find", find},
        {"count", count},
        {"splitlines", splitlines},
        {"isdigit", isdigit_},
    };

    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (hth_jstr_is(name, methods[i].name))
            return methods[i].fn;
    return NULL;
}
