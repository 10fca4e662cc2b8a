/* jinja_expr.c - expressions of a template, by Jinja2's precedence: if-else,
 * or, and, not, comparisons, + and -, ~, * / // %, signs, then filters and
 * tests, then what stands behind a value. */
#include <string.h>

#include "model/jinja_internal.h"

static struct hth_jn *unary(struct hth_jparse *p, bool filters);

static struct hth_jn *binary(struct hth_jparse *p, const char *op,
                             struct hth_jn *a, struct hth_jn *b)
{
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_BINARY);

    if (n == NULL)
        return NULL;
    memcpy(n->op, op, strlen(op));
    n->a = a;
    n->b = b;
    return n;
}

static struct hth_jn *product(struct hth_jparse *p)
{
    static const char *const ops[] = {"*", "//", "/", "%", "**"};
    struct hth_jn *n = unary(p, true);

    for (size_t i = 0; i < sizeof ops / sizeof ops[0] && !p->failed; i++)
        if (hth_jparse__take_op(p, ops[i])) {
            n = binary(p, ops[i], n, unary(p, true));
            i = SIZE_MAX; /* from the first one again */
        }
    return n;
}

static struct hth_jn *joined(struct hth_jparse *p)
{
    struct hth_jn *n = product(p);

    while (hth_jparse__take_op(p, "~"))
        n = binary(p, "~", n, product(p));
    return n;
}

static struct hth_jn *sum(struct hth_jparse *p)
{
    struct hth_jn *n = joined(p);

    while (!p->failed &&
           (hth_jparse__is_op(p, "+") || hth_jparse__is_op(p, "-"))) {
        const char *op = hth_jparse__is_op(p, "+") ? "+" : "-";

        p->at++;
        n = binary(p, op, n, joined(p));
    }
    return n;
}

/* The comparison that comes next, or NULL. */
static const char *comparison(struct hth_jparse *p)
{
    static const char *const ops[] = {"==", "!=", "<=", ">=", "<", ">"};

    for (size_t i = 0; i < sizeof ops / sizeof ops[0]; i++)
        if (hth_jparse__take_op(p, ops[i]))
            return ops[i];
    if (hth_jparse__take_name(p, "in"))
        return "in";
    if (hth_jparse__is_name(p, "not")) {
        p->at++;
        if (hth_jparse__take_name(p, "in"))
            return "ni";
        p->at--;
    }
    return NULL;
}

static struct hth_jn *compare(struct hth_jparse *p)
{
    struct hth_jn *a = sum(p), *n = NULL, **tail = NULL;
    const char *op;

    while (!p->failed && (op = comparison(p)) != NULL) {
        struct hth_jn *b = hth_jparse__node(p, HTH_JN_COMPARE);

        if (b == NULL)
            return NULL;
        memcpy(b->op, op, strlen(op));
        b->a = sum(p);
        if (n == NULL) {
            n = hth_jparse__node(p, HTH_JN_COMPARE);
            if (n == NULL)
                return NULL;
            n->a = a;
            tail = &n->list;
        }
        *tail = b;
        tail = &b->next;
    }
    return n != NULL ? n : a;
}

static struct hth_jn *negation(struct hth_jparse *p)
{
    struct hth_jn *n;

    if (!hth_jparse__take_name(p, "not"))
        return compare(p);
    n = hth_jparse__node(p, HTH_JN_NOT);
    if (n == NULL || !hth_jparse__enter(p))
        return NULL;
    n->a = negation(p);
    p->depth--;
    return n;
}

static struct hth_jn *logic(struct hth_jparse *p, enum hth_jn_kind kind,
                            struct hth_jn *a, struct hth_jn *b)
{
    struct hth_jn *n = hth_jparse__node(p, kind);

    if (n != NULL) {
        n->a = a;
        n->b = b;
    }
    return n;
}

static struct hth_jn *conjunction(struct hth_jparse *p)
{
    struct hth_jn *n = negation(p);

    while (hth_jparse__take_name(p, "and"))
        n = logic(p, HTH_JN_AND, n, negation(p));
    return n;
}

static struct hth_jn *disjunction(struct hth_jparse *p)
{
    struct hth_jn *n = conjunction(p);

    while (hth_jparse__take_name(p, "or"))
        n = logic(p, HTH_JN_OR, n, conjunction(p));
    return n;
}

struct hth_jn *hth_jparse__expr(struct hth_jparse *p, bool cond)
{
    struct hth_jn *n;

    if (!hth_jparse__enter(p))
        return NULL;
    n = disjunction(p);
    while (cond && hth_jparse__take_name(p, "if")) {
        struct hth_jn *c = hth_jparse__node(p, HTH_JN_COND);

        if (c == NULL)
            return NULL;
        c->a = n;
        c->b = disjunction(p);
        if (hth_jparse__take_name(p, "else"))
            c->c = hth_jparse__expr(p, true);
        n = c;
    }
    p->depth--;
    return n;
}

static bool tuple_ends(const struct hth_jparse *p)
{
    return p->at->kind == HTH_JT_PRINT_END || p->at->kind == HTH_JT_BLOCK_END ||
           p->at->kind == HTH_JT_END || hth_jparse__is_op(p, ")") ||
           hth_jparse__is_name(p, "in");
}

struct hth_jn *hth_jparse__tuple(struct hth_jparse *p, bool cond)
{
    struct hth_jn *first = hth_jparse__expr(p, cond), *t, **tail;

    if (p->failed || !hth_jparse__is_op(p, ","))
        return first;
    t = hth_jparse__node(p, HTH_JN_TUPLE);
    if (t == NULL)
        return NULL;
    t->list = first;
    tail = &first->next;
    while (hth_jparse__take_op(p, ",") && !tuple_ends(p)) {
        struct hth_jn *n = hth_jparse__expr(p, cond);

        if (n == NULL)
            return NULL;
        *tail = n;
        tail = &n->next;
    }
    return t;
}

/* What set and for assign to: a name, a name's attribute, a tuple of names. */
static struct hth_jn *one_target(struct hth_jparse *p)
{
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_NAME), *attr;

    if (n == NULL)
        return NULL;
    if (hth_jparse__take_op(p, "(")) {
        if (!hth_jparse__enter(p))
            return NULL;
        n = hth_jparse__target(p);
        p->depth--;
        hth_jparse__want_op(p, ")");
        return n;
    }
    n->name = hth_jparse__name(p);
    if (!hth_jparse__take_op(p, "."))
        return n;
    attr = hth_jparse__node(p, HTH_JN_ATTR);
    if (attr == NULL)
        return NULL;
    attr->a = n;
    attr->name = hth_jparse__name(p);
    return attr;
}

struct hth_jn *hth_jparse__target(struct hth_jparse *p)
{
    struct hth_jn *first = one_target(p), *t, **tail;

    if (p->failed || !hth_jparse__is_op(p, ","))
        return first;
    t = hth_jparse__node(p, HTH_JN_TUPLE);
    if (t == NULL)
        return NULL;
    t->list = first;
    tail = &first->next;
    while (hth_jparse__take_op(p, ",") && !tuple_ends(p)) {
        struct hth_jn *n = one_target(p);

        if (n == NULL)
            return NULL;
        *tail = n;
        tail = &n->next;
    }
    return t;
}

/* ---- values ----------------------------------------------------------------
 */

static struct hth_jn *constant(struct hth_jparse *p, struct hth_jv v)
{
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_CONST);

    if (n != NULL)
        n->value = v;
    return n;
}

/* Strings that follow each other are one. */
static struct hth_jn *strings(struct hth_jparse *p)
{
    const struct hth_jt *from = p->at;
    struct hth_jstr *s;
    size_t n = 0;
    char *dst;

    for (; p->at->kind == HTH_JT_STRING; p->at++)
        n += p->at->n;
    s = hth_jarena_alloc(&p->j->arena, sizeof *s + n + 1);
    if (s == NULL)
        return hth_jparse__fail(p, "the template is too large");
    dst = (char *)(s + 1);
    *s = (struct hth_jstr){.p = dst, .n = (uint32_t)n, .ascii = true};
    for (; from->kind == HTH_JT_STRING; from++) {
        memcpy(dst, from->p, from->n);
        dst += from->n;
    }
    for (size_t i = 0; i < n; i++)
        s->ascii = s->ascii && (unsigned char)s->p[i] < 0x80;
    return constant(p, hth_jv_str(s));
}

static struct hth_jn *list_of(struct hth_jparse *p, enum hth_jn_kind kind,
                              const char *end)
{
    struct hth_jn *n = hth_jparse__node(p, kind), **tail;

    if (n == NULL)
        return NULL;
    tail = &n->list;
    while (!p->failed && !hth_jparse__is_op(p, end)) {
        struct hth_jn *item = hth_jparse__expr(p, true);

        if (item == NULL)
            return NULL;
        *tail = item;
        tail = &item->next;
        if (kind == HTH_JN_DICT) {
            hth_jparse__want_op(p, ":");
            item = hth_jparse__expr(p, true);
            if (item == NULL)
                return NULL;
            *tail = item;
            tail = &item->next;
        }
        if (!hth_jparse__take_op(p, ","))
            break;
    }
    hth_jparse__want_op(p, end);
    return n;
}

static struct hth_jn *bracketed(struct hth_jparse *p)
{
    struct hth_jn *n;

    if (hth_jparse__take_op(p, ")"))
        return hth_jparse__node(p, HTH_JN_TUPLE);
    n = hth_jparse__tuple(p, true);
    hth_jparse__want_op(p, ")");
    return n;
}

static struct hth_jn *named(struct hth_jparse *p)
{
    static const struct {
        const char *name;
        enum hth_jv_type type;
        bool b;
    } words[] = {{"true", HTH_JV_BOOL, true},   {"True", HTH_JV_BOOL, true},
                 {"false", HTH_JV_BOOL, false}, {"False", HTH_JV_BOOL, false},
                 {"none", HTH_JV_NONE, false},  {"None", HTH_JV_NONE, false}};
    struct hth_jn *n;

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
        if (hth_jparse__take_name(p, words[i].name))
            return constant(
                p, (struct hth_jv){.type = words[i].type, .u.b = words[i].b});
    n = hth_jparse__node(p, HTH_JN_NAME);
    if (n != NULL)
        n->name = hth_jparse__name(p);
    return n;
}

static struct hth_jn *primary(struct hth_jparse *p)
{
    struct hth_jn *n;

    switch (p->at->kind) {
    case HTH_JT_NAME:
        return named(p);
    case HTH_JT_STRING:
        return strings(p);
    case HTH_JT_INT:
        n = constant(p, hth_jv_int(p->at->i));
        p->at++;
        return n;
    case HTH_JT_FLOAT:
        n = constant(p, hth_jv_float(p->at->f));
        p->at++;
        return n;
    default:
        break;
    }
    if (hth_jparse__take_op(p, "("))
        return bracketed(p);
    if (hth_jparse__take_op(p, "["))
        return list_of(p, HTH_JN_LIST, "]");
    if (hth_jparse__take_op(p, "{"))
        return list_of(p, HTH_JN_DICT, "}");
    return hth_jparse__fail(p, "a value expected");
}

/* ---- what stands behind a value --------------------------------------------
 */

/* Arguments up to the closing bracket; those with a name keep it. */
static struct hth_jn *arguments(struct hth_jparse *p)
{
    struct hth_jn *first = NULL, **tail = &first;
    uint32_t count = 0;

    while (!p->failed && !hth_jparse__is_op(p, ")")) {
        const struct hth_jstr *name = NULL;
        struct hth_jn *n, *held;

        if (p->at->kind == HTH_JT_NAME && p->at[1].kind == HTH_JT_OP &&
            p->at[1].n == 1 && p->at[1].p[0] == '=') {
            name = hth_jparse__name(p);
            p->at++;
        }
        n = hth_jparse__expr(p, true);
        held = hth_jparse__node(p, HTH_JN_CONST);
        if (n == NULL || held == NULL)
            return NULL;
        if (++count > HTH_JINJA_ARGS_MAX)
            return hth_jparse__fail(p, "too many arguments");
        held->a = n;
        held->name = name;
        *tail = held;
        tail = &held->next;
        if (!hth_jparse__take_op(p, ","))
            break;
    }
    hth_jparse__want_op(p, ")");
    return first;
}

static struct hth_jn *subscript(struct hth_jparse *p, struct hth_jn *of)
{
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_INDEX), **part;

    if (n == NULL)
        return NULL;
    n->a = of;
    if (!hth_jparse__is_op(p, ":"))
        n->b = hth_jparse__expr(p, true);
    part = &n->c;
    while (hth_jparse__take_op(p, ":")) {
        n->kind = HTH_JN_SLICE;
        if (part == NULL)
            return hth_jparse__fail(p, "a slice of more than three parts");
        if (!hth_jparse__is_op(p, ":") && !hth_jparse__is_op(p, "]"))
            *part = hth_jparse__expr(p, true);
        part = part == &n->c ? &n->d : NULL;
    }
    hth_jparse__want_op(p, "]");
    return n;
}

static struct hth_jn *behind(struct hth_jparse *p, struct hth_jn *n)
{
    while (!p->failed) {
        struct hth_jn *of = n;

        if (hth_jparse__take_op(p, ".")) {
            n = hth_jparse__node(p, HTH_JN_ATTR);
            if (n == NULL)
                return NULL;
            n->a = of;
            if (p->at->kind == HTH_JT_INT) { /* a.0 is a[0] */
                n->kind = HTH_JN_INDEX;
                n->b = primary(p);
            } else {
                n->name = hth_jparse__name(p);
            }
        } else if (hth_jparse__take_op(p, "[")) {
            n = subscript(p, of);
        } else if (hth_jparse__take_op(p, "(")) {
            n = hth_jparse__node(p, HTH_JN_CALL);
            if (n == NULL)
                return NULL;
            n->a = of;
            n->list = arguments(p);
        } else {
            break;
        }
    }
    return n;
}

static struct hth_jn *filter(struct hth_jparse *p, struct hth_jn *of)
{
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_FILTER);

    if (n == NULL)
        return NULL;
    n->a = of;
    n->name = hth_jparse__name(p);
    if (hth_jparse__take_op(p, "("))
        n->list = arguments(p);
    return n;
}

/* May the next token begin the one argument a test takes without brackets? */
static bool bare_argument(const struct hth_jparse *p)
{
    static const char *const words[] = {"else", "or", "and", "is", "if", "in"};

    if (p->at->kind == HTH_JT_NAME) {
        for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
            if (hth_jparse__is_name(p, words[i]))
                return false;
        return !hth_jparse__is_name(p, "not");
    }
    return p->at->kind == HTH_JT_STRING || p->at->kind == HTH_JT_INT ||
           p->at->kind == HTH_JT_FLOAT || hth_jparse__is_op(p, "[") ||
           hth_jparse__is_op(p, "{");
}

static struct hth_jn *test(struct hth_jparse *p, struct hth_jn *of)
{
    bool negated = hth_jparse__take_name(p, "not");
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_TEST), *arg;

    if (n == NULL)
        return NULL;
    n->a = of;
    n->name = hth_jparse__name(p);
    if (hth_jparse__take_op(p, "(")) {
        n->list = arguments(p);
    } else if (!p->failed && bare_argument(p)) {
        arg = hth_jparse__node(p, HTH_JN_CONST);
        if (arg == NULL)
            return NULL;
        arg->a = behind(p, primary(p));
        n->list = arg;
    }
    if (!negated)
        return n;
    of = hth_jparse__node(p, HTH_JN_NOT);
    if (of != NULL)
        of->a = n;
    return of;
}

struct hth_jn *hth_jparse__filters(struct hth_jparse *p, struct hth_jn *of)
{
    struct hth_jn *n = of;

    /* {% filter name %} has no bar in front of its first. */
    if (of == NULL && !hth_jparse__is_op(p, "|"))
        n = filter(p, NULL);
    while (!p->failed) {
        if (hth_jparse__take_op(p, "|"))
            n = filter(p, n);
        else if (of != NULL && hth_jparse__take_name(p, "is"))
            n = test(p, n);
        else if (of != NULL && n != of && hth_jparse__take_op(p, "(")) {
            struct hth_jn *call = hth_jparse__node(p, HTH_JN_CALL);

            if (call == NULL)
                return NULL;
            call->a = n;
            call->list = arguments(p);
            n = call;
        } else {
            break;
        }
    }
    return n;
}

static struct hth_jn *unary(struct hth_jparse *p, bool filters)
{
    struct hth_jn *n;

    if (!hth_jparse__enter(p))
        return NULL;
    if (hth_jparse__take_op(p, "-")) {
        n = hth_jparse__node(p, HTH_JN_NEGATE);
        if (n != NULL)
            n->a = unary(p, false);
    } else if (hth_jparse__take_op(p, "+")) {
        n = unary(p, false);
    } else {
        n = behind(p, primary(p));
    }
    p->depth--;
    return filters && !p->failed ? hth_jparse__filters(p, n) : n;
}
