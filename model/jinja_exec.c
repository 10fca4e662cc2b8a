/* jinja_exec.c - statements to text, and one render from start to end. */
#include <string.h>

#include "model/jinja_internal.h"

/* ---- targets ---------------------------------------------------------------
 */

static void assign_attr(struct hth_jrun *x, const struct hth_jn *target,
                        struct hth_jv v)
{
    struct hth_jv ns = hth_jx_eval(x, target->a);

    if (x->failed)
        return;
    if (ns.type != HTH_JV_NAMESPACE) {
        hth_jx_fail(x, HTH_EFORMAT,
                    "cannot assign attribute on non-namespace object");
        return;
    }
    hth_jdict_put(x, ns, hth_jv_str(target->name), v);
}

void hth_jx_assign(struct hth_jrun *x, const struct hth_jn *target,
                   struct hth_jv v)
{
    uint32_t i = 0;

    if (x->failed)
        return;
    if (target->kind == HTH_JN_NAME) {
        hth_jx_bind(x, x->frame, target->name, v);
        return;
    }
    if (target->kind == HTH_JN_ATTR) {
        assign_attr(x, target, v);
        return;
    }
    v = hth_jv_elements(x, v);
    for (const struct hth_jn *t = target->list; t != NULL && !x->failed;
         t = t->next) {
        if (i == v.u.list->count)
            hth_jx_fail(x, HTH_EFORMAT, "not enough values to unpack");
        else
            hth_jx_assign(x, t, v.u.list->at[i++]);
    }
    if (!x->failed && i < v.u.list->count)
        hth_jx_fail(x, HTH_EFORMAT, "too many values to unpack");
}

/* ---- loops -----------------------------------------------------------------
 */

/* Elements for which the loop's own condition holds. */
static struct hth_jv chosen(struct hth_jrun *x, const struct hth_jn *n,
                            struct hth_jv list)
{
    struct hth_jv out;

    if (n->c == NULL || x->failed)
        return list;
    out = hth_jv_list(x, HTH_JV_LIST, 0);
    for (uint32_t i = 0; i < list.u.list->count && !x->failed; i++) {
        struct hth_jframe f = {.up = x->frame};

        x->frame = &f;
        hth_jx_assign(x, n->a, list.u.list->at[i]);
        if (hth_jv_true(hth_jx_eval(x, n->c)))
            hth_jlist_push(x, out, list.u.list->at[i]);
        x->frame = f.up;
    }
    return out;
}

static struct hth_jv neighbour(struct hth_jrun *x, const struct hth_jloop *l,
                               bool next)
{
    uint32_t i = l->index;

    if (next ? i + 1 < l->items->count : i > 0)
        return l->items->at[next ? i + 1 : i - 1];
    return hth_jv_missing(x, "there is no %s item", next ? "next" : "previous");
}

struct hth_jv hth_jx_loop_attr(struct hth_jrun *x, const struct hth_jloop *l,
                               const struct hth_jstr *name)
{
    int64_t i = l->index, count = l->items->count;
    const struct {
        const char *name;
        int64_t value;
    } numbers[] = {{"index0", i},     {"index", i + 1},
                   {"length", count}, {"revindex", count - i},
                   {"depth", 1},      {"revindex0", count - i - 1},
                   {"depth0", 0}};

    if (hth_jstr_is(name, "first"))
        return hth_jv_bool(i == 0);
    if (hth_jstr_is(name, "last"))
        return hth_jv_bool(i + 1 == count);
    if (hth_jstr_is(name, "previtem") || hth_jstr_is(name, "nextitem"))
        return neighbour(x, l, name->p[0] == 'n');
    for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++)
        if (hth_jstr_is(name, numbers[k].name))
            return hth_jv_int(numbers[k].value);
    return hth_jv_missing(x, "'LoopContext' has no attribute '%.*s'",
                          (int)name->n, name->p);
}

/* The variable "loop"; it is told apart by its place in memory. */
static void bind_loop(struct hth_jrun *x, struct hth_jv list, uint32_t i)
{
    struct hth_jloop *l = hth_jx_alloc(x, sizeof *l);

    if (l == NULL)
        return;
    *l = (struct hth_jloop){list.u.list, i};
    hth_jx_bind(x, x->frame, x->j->names[0],
                (struct hth_jv){.type = HTH_JV_LOOP, .u.loop = l});
}

static void exec_for(struct hth_jrun *x, const struct hth_jn *n)
{
    struct hth_jv list = hth_jv_elements(x, hth_jx_eval(x, n->b));

    list = chosen(x, n, list);
    if (x->failed)
        return;
    if (list.u.list->count == 0) {
        hth_jx_exec(x, n->d);
        return;
    }
    for (uint32_t i = 0; i < list.u.list->count && !x->failed; i++) {
        struct hth_jframe f = {.up = x->frame};

        x->frame = &f;
        bind_loop(x, list, i);
        hth_jx_assign(x, n->a, list.u.list->at[i]);
        hth_jx_exec(x, n->list);
        x->frame = f.up;
        if (x->flow == HTH_JFLOW_BREAK)
            break;
        x->flow = HTH_JFLOW_NEXT;
    }
    x->flow = HTH_JFLOW_NEXT;
}

/* ---- macros and captured text ----------------------------------------------
 */

struct hth_jv hth_jx_capture(struct hth_jrun *x, const struct hth_jn *list)
{
    struct hth_jout o, *before = x->out;

    hth_jout_init(&o);
    x->out = &o;
    hth_jx_exec(x, list);
    x->out = before;
    return hth_jout_take(x, &o);
}

static const struct hth_jv *macro_arg(const struct hth_jargs *args,
                                      const struct hth_jstr *name, uint32_t i)
{
    if (i < args->places)
        return &args->at[i];
    for (uint32_t k = args->places; k < args->count; k++)
        if (args->name[k] == name)
            return &args->at[k];
    return NULL;
}

/* A macro sees its arguments and the template's own variables. */
struct hth_jv hth_jx_call_macro(struct hth_jrun *x, const struct hth_jn *m,
                                const struct hth_jargs *args)
{
    struct hth_jframe f = {.up = x->global}, *before = x->frame;
    struct hth_jv text;
    uint32_t i = 0;

    x->frame = &f;
    for (const struct hth_jn *p = m->a; p != NULL && !x->failed;
         p = p->next, i++) {
        const struct hth_jv *given = macro_arg(args, p->name, i);
        struct hth_jv v;

        if (given != NULL)
            v = *given;
        else if (p->a != NULL)
            v = hth_jx_eval(x, p->a);
        else
            v = hth_jv_missing(x, "parameter '%.*s' was not provided",
                               (int)p->name->n, p->name->p);
        hth_jx_bind(x, &f, p->name, v);
    }
    if (args->places > i)
        hth_jx_fail(x, HTH_EFORMAT,
                    "macro '%.*s' takes not more than %u "
                    "argument(s)",
                    (int)m->name->n, m->name->p, i);
    text = hth_jx_capture(x, m->list);
    x->flow = HTH_JFLOW_NEXT;
    x->frame = before;
    return text;
}

/* The chain of filters of a block over its text. */
static struct hth_jv filtered(struct hth_jrun *x, const struct hth_jn *chain,
                              struct hth_jv v)
{
    struct hth_jargs args = {.count = 0};

    if (chain == NULL || x->failed)
        return v;
    v = filtered(x, chain->a, v);
    for (const struct hth_jn *a = chain->list;
         a != NULL && args.count < HTH_JINJA_ARGS_MAX; a = a->next) {
        args.at[args.count] = hth_jx_eval(x, a->a);
        args.name[args.count++] = a->name;
        args.places += a->name == NULL;
    }
    if (x->failed || chain->kind != HTH_JN_FILTER)
        return v;
    return hth_jx_filter(x, chain->name, v, &args);
}

/* ---- the switch ------------------------------------------------------------
 */

static void exec_if(struct hth_jrun *x, const struct hth_jn *n)
{
    while (n != NULL && !x->failed) {
        bool yes = hth_jv_true(hth_jx_eval(x, n->a));

        if (x->failed)
            return;
        if (yes) {
            hth_jx_exec(x, n->list);
            return;
        }
        n = n->b;
        /* An elif stands alone in its chain; what else there is, is else. */
        if (n == NULL || n->kind != HTH_JN_IF || n->next != NULL || !n->star) {
            hth_jx_exec(x, n);
            return;
        }
    }
}

static void exec_one(struct hth_jrun *x, const struct hth_jn *n)
{
    struct hth_jv v;

    switch (n->kind) {
    case HTH_JN_TEXT:
        hth_jout_part(x, x->out, n->value.u.s, 0, n->value.u.s->n);
        break;
    case HTH_JN_PRINT:
        v = hth_jx_eval(x, n->a);
        if (!x->failed)
            hth_jout_value(x, x->out, v);
        break;
    case HTH_JN_IF:
        exec_if(x, n);
        break;
    case HTH_JN_FOR:
        exec_for(x, n);
        break;
    case HTH_JN_SET:
        v = hth_jx_eval(x, n->b);
        hth_jx_assign(x, n->a, v);
        break;
    case HTH_JN_SET_BLOCK:
        v = hth_jx_capture(x, n->list);
        hth_jx_assign(x, n->a, filtered(x, n->b, v));
        break;
    case HTH_JN_MACRO:
        hth_jx_bind(x, x->frame, n->name,
                    (struct hth_jv){.type = HTH_JV_MACRO, .u.macro = n});
        break;
    case HTH_JN_FILTERED:
        v = filtered(x, n->a, hth_jx_capture(x, n->list));
        hth_jout_value(x, x->out, v);
        break;
    default:
        x->flow =
            n->kind == HTH_JN_BREAK ? HTH_JFLOW_BREAK : HTH_JFLOW_CONTINUE;
    }
}

void hth_jx_exec(struct hth_jrun *x, const struct hth_jn *list)
{
    if (++x->depth > HTH_JINJA_DEPTH_MAX)
        hth_jx_fail(x, HTH_ELIMIT, "nested deeper than %u",
                    HTH_JINJA_DEPTH_MAX);
    for (; list != NULL && x->flow == HTH_JFLOW_NEXT && hth_jx_step(x);
         list = list->next) {
        x->line = list->line;
        exec_one(x, list);
    }
    x->depth--;
}

/* ---- a render --------------------------------------------------------------
 */

static void bind_inputs(struct hth_jrun *x)
{
    for (size_t i = 0; i < x->in->count && !x->failed; i++) {
        const struct hth_jinja_var *v = &x->in->vars[i];
        size_t n = strlen(v->name);

        /* A name the template never mentions needs no value. */
        for (uint32_t k = 0; k < x->j->name_count; k++)
            if (x->j->names[k]->n == n &&
                memcmp(x->j->names[k]->p, v->name, n) == 0)
                hth_jx_bind(x, x->global, x->j->names[k],
                            hth_jv_from_json(x, v->value, v->plain));
    }
}

/* Marks as long as the text. */
static void deliver(struct hth_jrun *x, struct hth_jout *o,
                    struct hth_buf *text, struct hth_buf *plain)
{
    size_t text_n = text->len, plain_n = plain->len;

    hth_put_bytes(text, o->text.data, o->text.len);
    hth_put_bytes(plain, o->mark.data, o->mark.len);
    for (size_t i = o->mark.len; i < o->text.len && !plain->failed; i++)
        hth_put_u8(plain, 0);
    if (!text->failed && !plain->failed)
        return;
    text->len = text_n;
    plain->len = plain_n;
    hth_jx_fail(x, HTH_ELIMIT, "the prompt is larger than %zu bytes",
                text->max);
}

int hth_jinja_render(const struct hth_jinja *j,
                     const struct hth_jinja_input *in, struct hth_buf *text,
                     struct hth_buf *plain, struct hth_err *err)
{
    struct hth_jframe global = {.up = NULL};
    struct hth_jout o;
    struct hth_jrun x = {.j = j,
                         .in = in,
                         .frame = &global,
                         .global = &global,
                         .out = &o,
                         .err = err};

    x.arena.bytes_max = HTH_JINJA_MEMORY_BYTES_MAX;
    hth_jout_init(&o);
    bind_inputs(&x);
    hth_jx_exec(&x, j->body);
    if (!x.failed)
        deliver(&x, &o, text, plain);
    hth_jout_fini(&o);
    hth_jarena_fini(&x.arena);
    return x.failed ? x.status : HTH_OK;
}
