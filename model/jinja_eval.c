/* jinja_eval.c - expressions to values, by Python's rules. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "model/jinja_internal.h"

/* ---- names -----------------------------------------------------------------
 */

struct hth_jv hth_jx_lookup(struct hth_jrun *x, const struct hth_jstr *name)
{
    int number;

    for (const struct hth_jframe *f = x->frame; f != NULL; f = f->up)
        for (uint32_t i = 0; i < f->count; i++)
            if (f->at[i].name == name)
                return f->at[i].value;
    number = hth_jx_function_number(name);
    if (number >= 0)
        return (struct hth_jv){.type = HTH_JV_FUNCTION, .u.i = number};
    return hth_jv_missing(x, "'%.*s' is undefined", (int)name->n, name->p);
}

void hth_jx_bind(struct hth_jrun *x, struct hth_jframe *f,
                 const struct hth_jstr *name, struct hth_jv v)
{
    struct hth_jbind *at;

    for (uint32_t i = 0; i < f->count; i++)
        if (f->at[i].name == name) {
            f->at[i].value = v;
            return;
        }
    if (f->count == f->cap) {
        uint32_t cap = f->cap == 0 ? 8 : f->cap * 2;

        at = hth_jx_alloc(x, cap * sizeof *at);
        if (at == NULL)
            return;
        if (f->count > 0)
            memcpy(at, f->at, f->count * sizeof *at);
        f->at = at;
        f->cap = cap;
    }
    f->at[f->count++] = (struct hth_jbind){name, v};
}

/* ---- attributes and items --------------------------------------------------
 */

/* What the immutable sandbox keeps from templates: changing their input. */
static bool is_unsafe(struct hth_jv v, const struct hth_jstr *name)
{
    static const char *const of_list[] = {"append", "clear",  "pop",
                                          "insert", "extend", "remove",
                                          "sort",   "reverse"};
    static const char *const of_dict[] = {"clear", "pop", "popitem",
                                          "setdefault", "update"};
    bool list = v.type == HTH_JV_LIST;
    const char *const *names = list ? of_list : of_dict;
    size_t count = list ? 8 : 5;

    if (!list && v.type != HTH_JV_DICT)
        return false;
    for (size_t i = 0; i < count; i++)
        if (hth_jstr_is(name, names[i]))
            return true;
    return false;
}

static struct hth_jv no_attribute(struct hth_jrun *x, struct hth_jv v,
                                  const struct hth_jstr *name)
{
    if (v.type == HTH_JV_NONE)
        return hth_jv_missing(x, "'None' has no attribute '%.*s'", (int)name->n,
                              name->p);
    return hth_jv_missing(x, "'%s object' has no attribute '%.*s'",
                          hth_jv_type_name(v), (int)name->n, name->p);
}

/* The method of that name, bound to v, or undefined. */
static struct hth_jv method(struct hth_jrun *x, struct hth_jv v,
                            const struct hth_jstr *name)
{
    struct hth_jmethod *m;

    if (is_unsafe(v, name))
        return hth_jv_missing(
            x, "access to attribute '%.*s' of '%s' object is unsafe.",
            (int)name->n, name->p, hth_jv_type_name(v));
    if (!hth_jx_has_method(v, name))
        return hth_jv_undefined();
    m = hth_jx_alloc(x, sizeof *m);
    if (m == NULL)
        return hth_jv_undefined();
    *m = (struct hth_jmethod){v, name};
    return (struct hth_jv){.type = HTH_JV_METHOD, .u.method = m};
}

static const struct hth_jv *entry(struct hth_jrun *x, struct hth_jv v,
                                  const struct hth_jstr *name)
{
    return hth_jdict_get(x, v, hth_jv_str(name));
}

struct hth_jv hth_jx_attr(struct hth_jrun *x, struct hth_jv v,
                          const struct hth_jstr *name)
{
    const struct hth_jv *at;
    struct hth_jv m;

    if (v.type == HTH_JV_UNDEFINED)
        return hth_jx_undefined(x, v);
    if (v.type == HTH_JV_LOOP)
        return hth_jx_loop_attr(x, v.u.loop, name);
    m = method(x, v, name);
    if (m.type == HTH_JV_METHOD || m.u.s != NULL)
        return m;
    at = entry(x, v, name);
    return at != NULL ? *at : no_attribute(x, v, name);
}

static struct hth_jv element(struct hth_jrun *x, struct hth_jv v, int64_t i)
{
    int64_t count =
        v.type == HTH_JV_STRING ? hth_jstr_chars(v.u.s) : v.u.list->count;
    int64_t at = i < 0 ? i + count : i;

    if (at < 0 || at >= count)
        return hth_jv_missing(x, "'%s object' has no element %lld",
                              hth_jv_type_name(v), (long long)i);
    if (v.type == HTH_JV_STRING) {
        uint32_t from = hth_jstr_offset(v.u.s, (uint32_t)at);
        uint32_t to =
            v.u.s->ascii ? from + 1 : hth_jstr_offset(v.u.s, (uint32_t)at + 1);

        x->steps += from / 64;
        return hth_jv_part(x, v.u.s, from, to - from);
    }
    return v.u.list->at[at];
}

struct hth_jv hth_jx_item(struct hth_jrun *x, struct hth_jv v,
                          struct hth_jv key)
{
    if (v.type == HTH_JV_UNDEFINED)
        return hth_jx_undefined(x, v);
    if (hth_jv_is_dict(v)) {
        const struct hth_jv *at = hth_jdict_get(x, v, key);

        if (at != NULL)
            return *at;
    }
    if ((hth_jv_is_list(v) || v.type == HTH_JV_STRING) &&
        (key.type == HTH_JV_INT || key.type == HTH_JV_BOOL))
        return element(x, v, key.type == HTH_JV_INT ? key.u.i : key.u.b);
    if (key.type == HTH_JV_STRING && v.type == HTH_JV_LOOP)
        return hth_jx_loop_attr(x, v.u.loop, key.u.s);
    if (key.type == HTH_JV_STRING) {
        struct hth_jv m = method(x, v, key.u.s);

        if (m.type == HTH_JV_METHOD || m.u.s != NULL)
            return m;
        return no_attribute(x, v, key.u.s);
    }
    return hth_jv_missing(x, "'%s object' has no such element",
                          hth_jv_type_name(v));
}

/* ---- slices ----------------------------------------------------------------
 */

struct slice {
    int64_t from, to, step;
};

static bool bound(struct hth_jrun *x, const struct hth_jn *n, int64_t *out)
{
    struct hth_jv v = n != NULL ? hth_jx_eval(x, n) : hth_jv_none();

    if (v.type == HTH_JV_NONE || x->failed)
        return false;
    if (v.type != HTH_JV_INT) {
        hth_jx_fail(x, HTH_EFORMAT, "slice indices must be integers or None");
        return false;
    }
    *out = v.u.i;
    return true;
}

static int64_t clamp(int64_t v, int64_t low, int64_t high)
{
    return v < low ? low : v > high ? high : v;
}

/* Python's slice.indices(). */
static struct slice slice_of(struct hth_jrun *x, const struct hth_jn *n,
                             int64_t count)
{
    struct slice s = {.step = 1};
    bool has_from = bound(x, n->b, &s.from), has_to = bound(x, n->c, &s.to);
    int64_t low, high;

    bound(x, n->d, &s.step);
    if (s.step == 0)
        hth_jx_fail(x, HTH_EFORMAT, "slice step cannot be zero");
    low = s.step < 0 ? -1 : 0;
    high = s.step < 0 ? count - 1 : count;
    if (!has_from)
        s.from = s.step < 0 ? high : low;
    else
        s.from = clamp(s.from < 0 && s.from >= -count ? s.from + count : s.from,
                       low, high);
    if (!has_to)
        s.to = s.step < 0 ? low : high;
    else
        s.to =
            clamp(s.to < 0 && s.to >= -count ? s.to + count : s.to, low, high);
    s.step = clamp(s.step, -(int64_t)UINT32_MAX, (int64_t)UINT32_MAX);
    return s;
}

static bool in_slice(const struct slice *s, int64_t i)
{
    return s->step > 0 ? i < s->to : i > s->to;
}

static struct hth_jv slice(struct hth_jrun *x, struct hth_jv v,
                           const struct hth_jn *n)
{
    struct hth_jv list, out;
    struct slice s;

    if (v.type == HTH_JV_UNDEFINED)
        return hth_jx_undefined(x, v);
    if (v.type != HTH_JV_STRING && !hth_jv_is_list(v))
        return hth_jx_fail(x, HTH_EFORMAT, "'%s' object has no slices",
                           hth_jv_type_name(v));
    if (v.type == HTH_JV_STRING) {
        uint32_t from, to;

        s = slice_of(x, n, hth_jstr_chars(v.u.s));
        if (x->failed)
            return hth_jv_undefined();
        if (s.step == 1) {
            from = hth_jstr_offset(v.u.s, (uint32_t)s.from);
            to = hth_jstr_offset(v.u.s, (uint32_t)s.to);
            return hth_jv_part(x, v.u.s, from, to > from ? to - from : 0);
        }
    }
    list = hth_jv_elements(x, v);
    if (x->failed)
        return hth_jv_undefined();
    s = slice_of(x, n, list.u.list->count);
    out = hth_jv_list(x, v.type == HTH_JV_TUPLE ? v.type : HTH_JV_LIST, 0);
    for (int64_t i = s.from; !x->failed && in_slice(&s, i); i += s.step)
        hth_jlist_push(x, out, list.u.list->at[i]);
    if (v.type == HTH_JV_STRING) {
        struct hth_jout o;

        hth_jout_init(&o);
        for (uint32_t i = 0; !x->failed && i < out.u.list->count; i++)
            hth_jout_value(x, &o, out.u.list->at[i]);
        return hth_jout_take(x, &o);
    }
    return out;
}

/* ---- arithmetic ------------------------------------------------------------
 */

static double as_float(struct hth_jv v)
{
    return v.type == HTH_JV_FLOAT
               ? v.u.f
               : (double)(v.type == HTH_JV_BOOL ? v.u.b : v.u.i);
}

static struct hth_jv bad_operands(struct hth_jrun *x, const char *op,
                                  struct hth_jv a, struct hth_jv b)
{
    if (a.type == HTH_JV_UNDEFINED || b.type == HTH_JV_UNDEFINED)
        return hth_jx_undefined(x, a.type == HTH_JV_UNDEFINED ? a : b);
    if (op[0] == '+' && a.type == HTH_JV_STRING)
        return hth_jx_fail(x, HTH_EFORMAT,
                           "can only concatenate str (not \"%s\") to str",
                           hth_jv_type_name(b));
    return hth_jx_fail(x, HTH_EFORMAT,
                       "unsupported operand type(s) for %s: '%s' and '%s'", op,
                       hth_jv_type_name(a), hth_jv_type_name(b));
}

static struct hth_jv float_result(struct hth_jrun *x, const char *op, double a,
                                  double b)
{
    switch (op[0]) {
    case '+':
        return hth_jv_float(a + b);
    case '-':
        return hth_jv_float(a - b);
    case '*':
        return op[1] == '*' ? hth_jv_float(pow(a, b)) : hth_jv_float(a * b);
    default:
        break;
    }
    if (b == 0)
        return hth_jx_fail(x, HTH_EFORMAT, "division by zero");
    if (op[0] == '%')
        return hth_jv_float(a - b * floor(a / b));
    return hth_jv_float(op[1] == '/' ? floor(a / b) : a / b);
}

static struct hth_jv int_result(struct hth_jrun *x, const char *op, int64_t a,
                                int64_t b)
{
    int64_t r = 0;
    bool over = false;

    switch (op[0]) {
    case '+':
        over = __builtin_add_overflow(a, b, &r);
        break;
    case '-':
        over = __builtin_sub_overflow(a, b, &r);
        break;
    case '*':
        if (op[1] == '*')
            return float_result(x, op, (double)a, (double)b);
        over = __builtin_mul_overflow(a, b, &r);
        break;
    default:
        if (b == 0)
            return hth_jx_fail(x, HTH_EFORMAT, "division by zero");
        over = a == INT64_MIN && b == -1;
        if (over)
            break;
        if (op[0] == '/' && op[1] == '\0')
            return hth_jv_float((double)a / (double)b);
        /* Python rounds down, C towards zero. */
        r = op[0] == '%' ? a % b : a / b;
        if (a % b != 0 && (a % b < 0) != (b < 0))
            r += op[0] == '%' ? b : -1;
    }
    if (over)
        return hth_jx_fail(x, HTH_EFORMAT, "a number beyond 64 bits");
    return hth_jv_int(r);
}

static struct hth_jv repeat(struct hth_jrun *x, struct hth_jv v, int64_t times)
{
    struct hth_jout o;

    if (v.u.s->n > 0 && times > HTH_JINJA_MEMORY_BYTES_MAX / 4 / v.u.s->n)
        return hth_jx_fail(x, HTH_ELIMIT, "a repeated string is too long");
    hth_jout_init(&o);
    for (int64_t i = 0; i < times && v.u.s->n > 0 && !x->failed; i++)
        hth_jout_part(x, &o, v.u.s, 0, v.u.s->n);
    return hth_jout_take(x, &o);
}

static struct hth_jv concat_lists(struct hth_jrun *x, struct hth_jv a,
                                  struct hth_jv b)
{
    struct hth_jv out =
        hth_jv_list(x, a.type, a.u.list->count + b.u.list->count);

    for (uint32_t i = 0; i < a.u.list->count && hth_jx_step(x); i++)
        hth_jlist_push(x, out, a.u.list->at[i]);
    for (uint32_t i = 0; i < b.u.list->count && hth_jx_step(x); i++)
        hth_jlist_push(x, out, b.u.list->at[i]);
    return out;
}

static struct hth_jv concat(struct hth_jrun *x, struct hth_jv a,
                            struct hth_jv b)
{
    struct hth_jout o;

    hth_jout_init(&o);
    hth_jout_value(x, &o, a);
    hth_jout_value(x, &o, b);
    return hth_jout_take(x, &o);
}

static void put_escaped(struct hth_jrun *x, struct hth_jout *o,
                        const struct hth_jstr *s)
{
    static const char chars[] = "&<>'\"";
    static const char *const names[] = {"&amp;", "&lt;", "&gt;", "&#39;",
                                        "&#34;"};

    for (uint32_t i = 0; i < s->n && !x->failed; i++) {
        const char *at =
            s->safe ? NULL : memchr(chars, s->p[i], sizeof chars - 1);

        if (at == NULL)
            hth_jout_part(x, o, s, i, 1);
        else
            hth_jout_like(x, o, names[at - chars],
                          s->mark != NULL ? s->mark[i] : 0);
    }
}

/* A string that is safe stays so when something is added: by escaping that. */
static struct hth_jv add_strings(struct hth_jrun *x, struct hth_jv a,
                                 struct hth_jv b)
{
    struct hth_jout o;

    if (!a.u.s->safe && !b.u.s->safe)
        return concat(x, a, b);
    hth_jout_init(&o);
    put_escaped(x, &o, a.u.s);
    put_escaped(x, &o, b.u.s);
    return hth_jv_safe(x, hth_jout_take(x, &o));
}

static struct hth_jv arithmetic(struct hth_jrun *x, const char *op,
                                struct hth_jv a, struct hth_jv b)
{
    if (x->failed)
        return hth_jv_undefined();
    if (op[0] == '~')
        return concat(x, a, b);
    if (op[0] == '+' && a.type == HTH_JV_STRING && b.type == HTH_JV_STRING)
        return add_strings(x, a, b);
    if (op[0] == '+' && hth_jv_is_list(a) && a.type == b.type)
        return concat_lists(x, a, b);
    if (op[0] == '*' && op[1] == '\0' && a.type == HTH_JV_STRING &&
        b.type == HTH_JV_INT)
        return repeat(x, a, b.u.i);
    if (!hth_jv_is_number(a) || !hth_jv_is_number(b))
        return bad_operands(x, op, a, b);
    if (a.type == HTH_JV_FLOAT || b.type == HTH_JV_FLOAT)
        return float_result(x, op, as_float(a), as_float(b));
    return int_result(x, op, a.type == HTH_JV_BOOL ? a.u.b : a.u.i,
                      b.type == HTH_JV_BOOL ? b.u.b : b.u.i);
}

static struct hth_jv negate(struct hth_jrun *x, struct hth_jv v)
{
    if (v.type == HTH_JV_FLOAT)
        return hth_jv_float(-v.u.f);
    if (v.type == HTH_JV_INT || v.type == HTH_JV_BOOL)
        return int_result(x, "-", 0, v.type == HTH_JV_INT ? v.u.i : v.u.b);
    return bad_operands(x, "-", hth_jv_int(0), v);
}

/* ---- comparisons -----------------------------------------------------------
 */

static bool contains(struct hth_jrun *x, struct hth_jv in, struct hth_jv v)
{
    struct hth_jv list;

    if (in.type == HTH_JV_STRING) {
        if (v.type == HTH_JV_STRING) {
            x->steps += in.u.s->n / 64;
            return v.u.s->n == 0 ||
                   memmem(in.u.s->p, in.u.s->n, v.u.s->p, v.u.s->n) != NULL;
        }
        if (v.type == HTH_JV_UNDEFINED)
            hth_jx_undefined(x, v);
        else
            hth_jx_fail(x, HTH_EFORMAT,
                        "'in <string>' requires string as left operand, "
                        "not %s",
                        hth_jv_type_name(v));
        return false;
    }
    if (hth_jv_is_dict(in))
        return hth_jdict_get(x, in, v) != NULL;
    list = hth_jv_elements(x, in);
    for (uint32_t i = 0; !x->failed && i < list.u.list->count; i++)
        if (hth_jv_same(x, list.u.list->at[i], v))
            return true;
    return false;
}

static bool compare_one(struct hth_jrun *x, const char *op, struct hth_jv a,
                        struct hth_jv b)
{
    if (op[0] == 'i')
        return contains(x, b, a);
    if (op[0] == 'n')
        return !contains(x, b, a);
    if (op[0] == '=')
        return hth_jv_same(x, a, b);
    if (op[0] == '!')
        return !hth_jv_same(x, a, b);
    if (op[0] == '<')
        return hth_jv_order(x, a, b, false) < (op[1] == '=');
    return hth_jv_order(x, a, b, false) > -(op[1] == '=');
}

static struct hth_jv compare(struct hth_jrun *x, const struct hth_jn *n)
{
    struct hth_jv a = hth_jx_eval(x, n->a);

    for (const struct hth_jn *o = n->list; o != NULL && !x->failed;
         o = o->next) {
        struct hth_jv b = hth_jx_eval(x, o->a);

        if (x->failed || !compare_one(x, o->op, a, b))
            return hth_jv_bool(false);
        a = b;
    }
    return hth_jv_bool(true);
}

/* ---- calls -----------------------------------------------------------------
 */

const struct hth_jv *hth_jargs_get(const struct hth_jargs *a, uint32_t place,
                                   const char *name)
{
    if (place < a->places)
        return &a->at[place];
    for (uint32_t i = 0; name != NULL && i < a->count; i++)
        if (a->name[i] != NULL && hth_jstr_is(a->name[i], name))
            return &a->at[i];
    return NULL;
}

static void eval_args(struct hth_jrun *x, const struct hth_jn *list,
                      struct hth_jargs *a)
{
    a->count = a->places = 0;
    for (; list != NULL && a->count < HTH_JINJA_ARGS_MAX; list = list->next) {
        a->at[a->count] = hth_jx_eval(x, list->a);
        a->name[a->count++] = list->name;
        if (list->name == NULL && a->places == a->count - 1)
            a->places = a->count;
    }
}

static struct hth_jv call(struct hth_jrun *x, const struct hth_jn *n)
{
    struct hth_jv f = hth_jx_eval(x, n->a);
    struct hth_jargs args;

    if (x->failed)
        return hth_jv_undefined();
    if (f.type == HTH_JV_UNDEFINED)
        return hth_jx_undefined(x, f);
    eval_args(x, n->list, &args);
    if (x->failed)
        return hth_jv_undefined();
    x->line = n->line;
    if (f.type == HTH_JV_FUNCTION)
        return hth_jx_function(x, f.u.i, &args);
    if (f.type == HTH_JV_METHOD)
        return hth_jx_method(x, f.u.method, &args);
    if (f.type == HTH_JV_MACRO)
        return hth_jx_call_macro(x, f.u.macro, &args);
    return hth_jx_fail(x, HTH_EFORMAT, "'%s' object is not callable",
                       hth_jv_type_name(f));
}

static struct hth_jv apply(struct hth_jrun *x, const struct hth_jn *n)
{
    struct hth_jv v = hth_jx_eval(x, n->a);
    struct hth_jargs args;

    eval_args(x, n->list, &args);
    if (x->failed)
        return hth_jv_undefined();
    x->line = n->line;
    if (n->kind == HTH_JN_TEST)
        return hth_jv_bool(hth_jx_test(x, n->name, v, &args));
    return hth_jx_filter(x, n->name, v, &args);
}

/* ---- the switch ------------------------------------------------------------
 */

static struct hth_jv eval_list(struct hth_jrun *x, const struct hth_jn *n)
{
    struct hth_jv l =
        hth_jv_list(x, n->kind == HTH_JN_TUPLE ? HTH_JV_TUPLE : HTH_JV_LIST, 0);

    for (const struct hth_jn *i = n->list; i != NULL && !x->failed; i = i->next)
        hth_jlist_push(x, l, hth_jx_eval(x, i));
    return l;
}

static struct hth_jv eval_dict(struct hth_jrun *x, const struct hth_jn *n)
{
    struct hth_jv d = hth_jv_dict(x, HTH_JV_DICT);

    for (const struct hth_jn *i = n->list; i != NULL && !x->failed;
         i = i->next->next) {
        struct hth_jv key = hth_jx_eval(x, i);

        hth_jdict_put(x, d, key, hth_jx_eval(x, i->next));
    }
    return d;
}

static struct hth_jv eval_logic(struct hth_jrun *x, const struct hth_jn *n)
{
    struct hth_jv a = hth_jx_eval(x, n->a);

    if (x->failed || hth_jv_true(a) == (n->kind == HTH_JN_OR))
        return a;
    return hth_jx_eval(x, n->b);
}

static struct hth_jv eval_cond(struct hth_jrun *x, const struct hth_jn *n)
{
    if (hth_jv_true(hth_jx_eval(x, n->b)))
        return hth_jx_eval(x, n->a);
    return n->c != NULL && !x->failed ? hth_jx_eval(x, n->c)
                                      : hth_jv_undefined();
}

static struct hth_jv eval(struct hth_jrun *x, const struct hth_jn *n)
{
    struct hth_jv a;

    switch (n->kind) {
    case HTH_JN_CONST:
        return n->value;
    case HTH_JN_NAME:
        return hth_jx_lookup(x, n->name);
    case HTH_JN_LIST:
    case HTH_JN_TUPLE:
        return eval_list(x, n);
    case HTH_JN_DICT:
        return eval_dict(x, n);
    case HTH_JN_NEGATE:
        return negate(x, hth_jx_eval(x, n->a));
    case HTH_JN_NOT:
        return hth_jv_bool(!hth_jv_true(hth_jx_eval(x, n->a)));
    case HTH_JN_BINARY:
        a = hth_jx_eval(x, n->a);
        return arithmetic(x, n->op, a, hth_jx_eval(x, n->b));
    case HTH_JN_AND:
    case HTH_JN_OR:
        return eval_logic(x, n);
    case HTH_JN_COMPARE:
        return compare(x, n);
    case HTH_JN_COND:
        return eval_cond(x, n);
    case HTH_JN_ATTR:
        return hth_jx_attr(x, hth_jx_eval(x, n->a), n->name);
    case HTH_JN_INDEX:
        a = hth_jx_eval(x, n->a);
        return hth_jx_item(x, a, hth_jx_eval(x, n->b));
    case HTH_JN_SLICE:
        return slice(x, hth_jx_eval(x, n->a), n);
    case HTH_JN_CALL:
        return call(x, n);
    default:
        return apply(x, n); /* a filter or a test */
    }
}

struct hth_jv hth_jx_eval(struct hth_jrun *x, const struct hth_jn *n)
{
    struct hth_jv v = hth_jv_undefined();

    if (!hth_jx_step(x) || n == NULL)
        return v;
    x->line = n->line;
    if (++x->depth > HTH_JINJA_DEPTH_MAX)
        hth_jx_fail(x, HTH_ELIMIT, "nested deeper than %u",
                    HTH_JINJA_DEPTH_MAX);
    else
        v = eval(x, n);
    x->depth--;
    return x->failed ? hth_jv_undefined() : v;
}
