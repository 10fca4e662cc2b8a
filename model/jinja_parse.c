/* jinja_parse.c - statements of a template, and a template's life. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/jinja_internal.h"

/* ---- what both parsers use ------------------------------------------------
 */

struct hth_jn *hth_jparse__fail(struct hth_jparse *p, const char *what)
{
    if (!p->failed) {
        p->failed = true;
        p->status = HTH_EFORMAT;
        hth_fail(p->err, HTH_EFORMAT, "chat template, line %u: %s", p->at->line,
                 what);
    }
    return NULL;
}

static void no_memory(struct hth_jparse *p)
{
    if (!p->failed) {
        p->failed = true;
        p->status = HTH_ELIMIT;
        hth_fail(p->err, HTH_ELIMIT, "chat template: it is too large");
    }
}

struct hth_jn *hth_jparse__node(struct hth_jparse *p, enum hth_jn_kind kind)
{
    struct hth_jn *n = hth_jarena_alloc(&p->j->arena, sizeof *n);

    if (n == NULL) {
        no_memory(p);
        return NULL;
    }
    n->kind = kind;
    n->line = p->at->line;
    return n;
}

bool hth_jparse__is_op(const struct hth_jparse *p, const char *op)
{
    return p->at->kind == HTH_JT_OP && p->at->n == strlen(op) &&
           memcmp(p->at->p, op, p->at->n) == 0;
}

bool hth_jparse__is_name(const struct hth_jparse *p, const char *name)
{
    return p->at->kind == HTH_JT_NAME && p->at->n == strlen(name) &&
           memcmp(p->at->p, name, p->at->n) == 0;
}

bool hth_jparse__take_op(struct hth_jparse *p, const char *op)
{
    bool is = !p->failed && hth_jparse__is_op(p, op);

    p->at += is;
    return is;
}

bool hth_jparse__take_name(struct hth_jparse *p, const char *name)
{
    bool is = !p->failed && hth_jparse__is_name(p, name);

    p->at += is;
    return is;
}

void hth_jparse__want_op(struct hth_jparse *p, const char *op)
{
    char text[32];

    if (hth_jparse__take_op(p, op))
        return;
    snprintf(text, sizeof text, "'%s' expected", op);
    hth_jparse__fail(p, text);
}

const struct hth_jstr *hth_jinja__intern(struct hth_jinja *j, const char *p,
                                         uint32_t n)
{
    struct hth_jstr *s;

    for (uint32_t i = 0; i < j->name_count; i++)
        if (j->names[i]->n == n && memcmp(j->names[i]->p, p, n) == 0)
            return j->names[i];
    if (j->name_count == j->name_cap) {
        uint32_t cap = j->name_cap == 0 ? 64 : j->name_cap * 2;
        const struct hth_jstr **names = realloc(j->names, cap * sizeof *names);

        if (names == NULL)
            return NULL;
        j->names = names;
        j->name_cap = cap;
    }
    s = hth_jarena_alloc(&j->arena, sizeof *s + n + 1);
    if (s == NULL)
        return NULL;
    memcpy(s + 1, p, n);
    *s = (struct hth_jstr){.p = (const char *)(s + 1), .n = n, .ascii = true};
    j->names[j->name_count++] = s;
    return s;
}

const struct hth_jstr *hth_jparse__name(struct hth_jparse *p)
{
    const struct hth_jstr *s;

    if (p->failed)
        return NULL;
    if (p->at->kind != HTH_JT_NAME) {
        hth_jparse__fail(p, "a name expected");
        return NULL;
    }
    s = hth_jinja__intern(p->j, p->at->p, p->at->n);
    if (s == NULL)
        no_memory(p);
    p->at++;
    return s;
}

bool hth_jparse__enter(struct hth_jparse *p)
{
    if (++p->depth > HTH_JINJA_PARSE_DEPTH_MAX)
        hth_jparse__fail(p, "nested too deep");
    return !p->failed;
}

/* ---- statements -----------------------------------------------------------
 */

static struct hth_jn *body(struct hth_jparse *p, const char *const *ends);

static void end_tag(struct hth_jparse *p)
{
    if (p->failed)
        return;
    if (p->at->kind != HTH_JT_BLOCK_END)
        hth_jparse__fail(p, "'%}' expected");
    else
        p->at++;
}

/* A body, the tag that ends it, and nothing behind its name. */
static struct hth_jn *block(struct hth_jparse *p, const char *end)
{
    const char *const ends[] = {end, NULL};
    struct hth_jn *list;

    end_tag(p);
    list = body(p, ends);
    if (!p->failed)
        p->at++;
    /* endmacro, endset and endfor may repeat a name. */
    if (!p->failed && p->at->kind == HTH_JT_NAME)
        p->at++;
    end_tag(p);
    return list;
}

static struct hth_jn *parse_if(struct hth_jparse *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_IF), *first = n;

    while (!p->failed) {
        n->a = hth_jparse__tuple(p, true);
        end_tag(p);
        n->list = body(p, ends);
        if (!hth_jparse__take_name(p, "elif"))
            break;
        n->b = hth_jparse__node(p, HTH_JN_IF);
        n = n->b;
        if (n != NULL)
            n->star = true;
    }
    if (hth_jparse__take_name(p, "else")) {
        n->b = block(p, "endif");
        return first;
    }
    p->at += !p->failed;
    end_tag(p);
    return first;
}

static struct hth_jn *parse_for(struct hth_jparse *p)
{
    static const char *const ends[] = {"else", "endfor", NULL};
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_FOR);

    if (n == NULL)
        return NULL;
    n->a = hth_jparse__target(p);
    if (!hth_jparse__take_name(p, "in"))
        return hth_jparse__fail(p, "'in' expected");
    n->b = hth_jparse__tuple(p, false);
    if (hth_jparse__take_name(p, "if"))
        n->c = hth_jparse__expr(p, true);
    end_tag(p);
    n->list = body(p, ends);
    if (hth_jparse__take_name(p, "else")) {
        n->d = block(p, "endfor");
        return n;
    }
    p->at += !p->failed;
    end_tag(p);
    return n;
}

static struct hth_jn *parse_set(struct hth_jparse *p)
{
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_SET);

    if (n == NULL)
        return NULL;
    n->a = hth_jparse__target(p);
    if (hth_jparse__take_op(p, "=")) {
        n->b = hth_jparse__tuple(p, true);
        end_tag(p);
        return n;
    }
    n->kind = HTH_JN_SET_BLOCK;
    if (hth_jparse__is_op(p, "|"))
        n->b = hth_jparse__filters(p, NULL);
    n->list = block(p, "endset");
    return n;
}

static struct hth_jn *parse_macro(struct hth_jparse *p)
{
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_MACRO), **tail;
    uint32_t count = 0;

    if (n == NULL)
        return NULL;
    tail = &n->a;
    n->name = hth_jparse__name(p);
    hth_jparse__want_op(p, "(");
    while (!p->failed && !hth_jparse__is_op(p, ")")) {
        struct hth_jn *arg = hth_jparse__node(p, HTH_JN_NAME);

        if (arg == NULL)
            return NULL;
        if (++count > HTH_JINJA_ARGS_MAX)
            return hth_jparse__fail(p, "too many parameters");
        arg->name = hth_jparse__name(p);
        if (hth_jparse__take_op(p, "="))
            arg->a = hth_jparse__expr(p, true);
        *tail = arg;
        tail = &arg->next;
        if (!hth_jparse__take_op(p, ","))
            break;
    }
    hth_jparse__want_op(p, ")");
    n->list = block(p, "endmacro");
    return n;
}

static struct hth_jn *parse_filter(struct hth_jparse *p)
{
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_FILTERED);

    if (n == NULL)
        return NULL;
    n->a = hth_jparse__filters(p, NULL);
    n->list = block(p, "endfilter");
    return n;
}

static struct hth_jn *simple(struct hth_jparse *p, enum hth_jn_kind kind)
{
    struct hth_jn *n = hth_jparse__node(p, kind);

    end_tag(p);
    return n;
}

/* {% generation %} marks what is trained on; it changes nothing here. */
static struct hth_jn *parse_generation(struct hth_jparse *p)
{
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_IF);

    if (n == NULL)
        return NULL;
    n->a = hth_jparse__node(p, HTH_JN_CONST);
    if (n->a != NULL)
        n->a->value = hth_jv_bool(true);
    n->list = block(p, "endgeneration");
    return n;
}

static struct hth_jn *statement(struct hth_jparse *p)
{
    if (hth_jparse__take_name(p, "if"))
        return parse_if(p);
    if (hth_jparse__take_name(p, "for"))
        return parse_for(p);
    if (hth_jparse__take_name(p, "set"))
        return parse_set(p);
    if (hth_jparse__take_name(p, "macro"))
        return parse_macro(p);
    if (hth_jparse__take_name(p, "filter"))
        return parse_filter(p);
    if (hth_jparse__take_name(p, "break"))
        return simple(p, HTH_JN_BREAK);
    if (hth_jparse__take_name(p, "continue"))
        return simple(p, HTH_JN_CONTINUE);
    if (hth_jparse__take_name(p, "generation"))
        return parse_generation(p);
    return hth_jparse__fail(p, "an unknown statement");
}

static bool ends_here(const struct hth_jparse *p, const char *const *ends)
{
    for (; ends != NULL && *ends != NULL; ends++)
        if (hth_jparse__is_name(p, *ends))
            return true;
    return false;
}

static struct hth_jn *print(struct hth_jparse *p)
{
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_PRINT);

    if (n == NULL)
        return NULL;
    n->a = hth_jparse__tuple(p, true);
    if (!p->failed && p->at->kind != HTH_JT_PRINT_END)
        return hth_jparse__fail(p, "'}}' expected");
    p->at += !p->failed;
    return n;
}

static struct hth_jn *literal(struct hth_jparse *p)
{
    struct hth_jn *n = hth_jparse__node(p, HTH_JN_TEXT);
    struct hth_jstr *s = hth_jarena_alloc(&p->j->arena, sizeof *s);

    if (n == NULL || s == NULL) {
        no_memory(p);
        return NULL;
    }
    *s = (struct hth_jstr){.p = p->at->p, .n = p->at->n};
    n->value = hth_jv_str(s);
    p->at++;
    return n;
}

/* Statements up to one of the ending tags, whose name is the next token then;
 * ends NULL: up to the end of the template. */
static struct hth_jn *body(struct hth_jparse *p, const char *const *ends)
{
    struct hth_jn *first = NULL, **tail = &first;

    if (!hth_jparse__enter(p))
        return NULL;
    while (!p->failed) {
        struct hth_jn *n = NULL;

        if (p->at->kind == HTH_JT_END) {
            if (ends != NULL)
                hth_jparse__fail(p, "the template ends inside a block");
            break;
        }
        if (p->at->kind == HTH_JT_TEXT) {
            n = literal(p);
        } else if (p->at->kind == HTH_JT_PRINT) {
            p->at++;
            n = print(p);
        } else {
            p->at++;
            if (ends_here(p, ends))
                break;
            n = statement(p);
        }
        if (n != NULL) {
            *tail = n;
            tail = &n->next;
        }
    }
    p->depth--;
    return first;
}

int hth_jinja__parse(struct hth_jinja *j, struct hth_err *err)
{
    struct hth_jparse p = {.j = j, .at = j->tokens, .err = err};

    j->body = body(&p, NULL);
    return p.failed ? p.status : HTH_OK;
}

/* ---- life ------------------------------------------------------------------
 */

/* Line ends become \n, as Python reads files. */
static int copy_source(struct hth_jinja *j, struct hth_str source)
{
    j->source = malloc(source.n + 1);
    if (j->source == NULL)
        return HTH_ENOMEM;
    for (size_t i = 0; i < source.n; i++) {
        if (source.p[i] == '\r' && i + 1 < source.n && source.p[i + 1] == '\n')
            continue;
        j->source[j->source_n++] = source.p[i] == '\r' ? '\n' : source.p[i];
    }
    return HTH_OK;
}

int hth_jinja_open(struct hth_jinja **out, struct hth_str source,
                   struct hth_err *err)
{
    struct hth_jinja *j;
    int rc;

    if (source.n > HTH_JINJA_SOURCE_BYTES_MAX)
        return hth_fail(err, HTH_ELIMIT,
                        "a chat template of %zu bytes; at most %u", source.n,
                        HTH_JINJA_SOURCE_BYTES_MAX);
    j = calloc(1, sizeof *j);
    if (j == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a chat template");
    j->arena.bytes_max = HTH_JINJA_TREE_BYTES_MAX;
    rc = copy_source(j, source);
    if (rc == HTH_OK && hth_jinja__intern(j, "loop", 4) == NULL)
        rc = HTH_ENOMEM;
    if (rc != HTH_OK)
        hth_fail(err, rc, "no memory for a chat template");
    else
        rc = hth_jinja__lex(j, err);
    if (rc == HTH_OK)
        rc = hth_jinja__parse(j, err);
    free(j->tokens);
    j->tokens = NULL;
    if (rc != HTH_OK) {
        hth_jinja_close(j);
        return rc;
    }
    *out = j;
    return HTH_OK;
}

void hth_jinja_close(struct hth_jinja *j)
{
    if (j == NULL)
        return;
    hth_jarena_fini(&j->arena);
    free(j->source);
    free(j->tokens);
    free(j->names);
    free(j);
}
