/* grammar.c - building a grammar out of rules, and checking it. */
#include <stdlib.h>
#include <string.h>

#include "model/grammar_internal.h"
#include "model/utf8.h"

#define CODE_POINT_MAX 0x10ffffu

/* Room for one more of size bytes each, at most max of them. */
static bool room(void *array, uint32_t count, uint32_t *cap, size_t size,
                 uint32_t max)
{
    uint32_t more = *cap == 0 ? 16 : *cap * 2;
    void *p, **at = array;

    if (count < *cap)
        return true;
    if (count >= max)
        return false;
    p = realloc(*at, (size_t)more * size);
    if (p == NULL)
        return false;
    *at = p;
    *cap = more;
    return true;
}

#define ROOM(array, count, cap, max) \
    room((void *)&(array), count, &(cap), sizeof *(array), max)

int hth_grammar__new(struct hth_grammar **out)
{
    struct hth_grammar *g = calloc(1, sizeof *g);

    if (g == NULL)
        return HTH_ENOMEM;
    atomic_init(&g->refs, 1);
    *out = g;
    return HTH_OK;
}

struct hth_grammar *hth_grammar_ref(struct hth_grammar *g)
{
    atomic_fetch_add(&g->refs, 1);
    return g;
}

void hth_grammar_close(struct hth_grammar *g)
{
    if (g == NULL || atomic_fetch_sub(&g->refs, 1) > 1)
        return;
    for (uint32_t i = 0; i < g->rule_count; i++)
        free(g->rules[i].name);
    free(g->ops);
    free(g->alts);
    free(g->rules);
    free(g->sets);
    free(g);
}

/* ---- rules ------------------------------------------------------------------
 */

static uint32_t add_rule(struct hth_grammar *g, char *name)
{
    if (!ROOM(g->rules, g->rule_count, g->rule_cap, HTH_GRAMMAR_RULES_MAX)) {
        free(name);
        return UINT32_MAX;
    }
    g->rules[g->rule_count] = (struct hth_grule){.name = name};
    return g->rule_count++;
}

uint32_t hth_grammar__rule(struct hth_grammar *g, const char *name, size_t n)
{
    char *copy;

    for (uint32_t i = 0; i < g->rule_count; i++)
        if (g->rules[i].name != NULL && strlen(g->rules[i].name) == n &&
            memcmp(g->rules[i].name, name, n) == 0)
            return i;
    copy = strndup(name, n);
    return copy != NULL ? add_rule(g, copy) : UINT32_MAX;
}

static bool add_op(struct hth_grammar *g, struct hth_gop op)
{
    if (!ROOM(g->ops, g->op_count, g->op_cap, HTH_GRAMMAR_OPS_MAX))
        return false;
    g->ops[g->op_count++] = op;
    return true;
}

bool hth_grammar__define(struct hth_grammar *g, uint32_t rule,
                         const struct hth_gseq *alts, uint32_t count)
{
    struct hth_grule *r = &g->rules[rule];

    r->first = g->alt_count;
    r->count = count;
    r->defined = true;
    for (uint32_t i = 0; i < count; i++) {
        if (!ROOM(g->alts, g->alt_count, g->alt_cap, HTH_GRAMMAR_OPS_MAX))
            return false;
        g->alts[g->alt_count++] = g->op_count;
        for (uint32_t k = 0; k < alts[i].count; k++)
            if (!add_op(g, alts[i].ops[k]))
                return false;
        if (!add_op(g, (struct hth_gop){.kind = HTH_GOP_END}))
            return false;
    }
    return true;
}

/* ---- sequences --------------------------------------------------------------
 */

bool hth_gseq__push(struct hth_gseq *s, struct hth_gop op)
{
    if (!ROOM(s->ops, s->count, s->cap, HTH_GRAMMAR_OPS_MAX))
        return false;
    s->ops[s->count++] = op;
    return true;
}

bool hth_gseq__repeat(struct hth_grammar *g, struct hth_gseq *s, uint32_t from,
                      uint32_t min, uint32_t max)
{
    struct hth_gop op = {.kind = HTH_GOP_REPEAT, .min = min, .max = max};

    if (s->count == from) /* nothing, any number of times */
        return true;
    if (s->count == from + 1 && s->ops[from].kind == HTH_GOP_CALL) {
        op.a = s->ops[from].a;
    } else {
        struct hth_gseq body = {.ops = s->ops + from, .count = s->count - from};

        op.a = add_rule(g, NULL);
        if (op.a == UINT32_MAX || !hth_grammar__define(g, op.a, &body, 1))
            return false;
    }
    s->count = from;
    return hth_gseq__push(s, op);
}

/* ---- characters as bytes ----------------------------------------------------
 */

static uint32_t set_of(struct hth_grammar *g, const struct hth_gset *set)
{
    for (uint32_t i = 0; i < g->set_count; i++)
        if (memcmp(&g->sets[i], set, sizeof *set) == 0)
            return i;
    if (!ROOM(g->sets, g->set_count, g->set_cap, HTH_GRAMMAR_SETS_MAX))
        return UINT32_MAX;
    g->sets[g->set_count] = *set;
    return g->set_count++;
}

static void fill(struct hth_gset *set, uint32_t from, uint32_t to)
{
    for (uint32_t b = from; b <= to; b++)
        set->bits[b / 64] |= (uint64_t)1 << (b % 64);
}

static bool push_set(struct hth_grammar *g, struct hth_gseq *s,
                     const struct hth_gset *set)
{
    uint32_t at = set_of(g, set);

    return at != UINT32_MAX &&
           hth_gseq__push(s, (struct hth_gop){.kind = HTH_GOP_SET, .a = at});
}

bool hth_gseq__byte(struct hth_grammar *g, struct hth_gseq *s, uint8_t byte)
{
    struct hth_gset set = {{0, 0, 0, 0}};

    fill(&set, byte, byte);
    return push_set(g, s, &set);
}

/* Alternatives of a character class beyond ASCII. */
struct class {
    struct hth_grammar *g;
    struct hth_gset ascii;
    bool has_ascii;
    struct hth_gseq alts[HTH_GRAMMAR_CLASS_ALTS_MAX];
    uint32_t count;
};

/* A range whose first and last differ in the last bytes only in full blocks:
 * one set per byte says it. */
static bool emit_block(struct class *c, uint32_t from, uint32_t to)
{
    uint8_t a[HTH_UTF8_CHAR_MAX], b[HTH_UTF8_CHAR_MAX];
    size_t n = hth_utf8_encode(from, a);

    (void)hth_utf8_encode(to, b);
    if (c->count == HTH_GRAMMAR_CLASS_ALTS_MAX)
        return false;
    for (size_t i = 0; i < n; i++) {
        struct hth_gset set = {{0, 0, 0, 0}};

        fill(&set, a[i], b[i]);
        if (!push_set(c->g, &c->alts[c->count], &set))
            return false;
    }
    c->count++;
    return true;
}

/* Cut a range of characters of equal length into such blocks (as Ken Thompson
 * did for grep; each cut halves what a byte leaves open). */
static bool emit_range(struct class *c, uint32_t from, uint32_t to)
{
    for (uint32_t i = 1; i < HTH_UTF8_CHAR_MAX; i++) {
        uint32_t low = (1u << (6 * i)) - 1;

        if ((from & ~low) == (to & ~low))
            continue;
        if ((from & low) != 0)
            return emit_range(c, from, from | low) &&
                   emit_range(c, (from | low) + 1, to);
        if ((to & low) != low)
            return emit_range(c, from, (to & ~low) - 1) &&
                   emit_range(c, to & ~low, to);
    }
    return emit_block(c, from, to);
}

/* One range of code points; surrogates are no characters. */
static bool add_range(struct class *c, uint32_t from, uint32_t to)
{
    static const struct hth_grange parts[] = {{0, 0x7f},
                                              {0x80, 0x7ff},
                                              {0x800, 0xd7ff},
                                              {0xe000, 0xffff},
                                              {0x10000, CODE_POINT_MAX}};

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        uint32_t a = from > parts[i].from ? from : parts[i].from;
        uint32_t b = to < parts[i].to ? to : parts[i].to;

        if (a > b)
            continue;
        if (i == 0) {
            fill(&c->ascii, a, b);
            c->has_ascii = true;
        } else if (!emit_range(c, a, b)) {
            return false;
        }
    }
    return true;
}

static int by_start(const void *a, const void *b)
{
    const struct hth_grange *p = a, *q = b;

    return p->from < q->from ? -1 : p->from > q->from;
}

static bool add_ranges(struct class *c, struct hth_grange *r, uint32_t count,
                       bool negated)
{
    uint32_t next = 0; /* first code point not spoken of yet */

    if (count > 0)
        qsort(r, count, sizeof *r, by_start);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t from = r[i].from > next ? r[i].from : next;
        uint32_t to = r[i].to < CODE_POINT_MAX ? r[i].to : CODE_POINT_MAX;

        if (from > to)
            continue;
        if (negated && from > next && !add_range(c, next, from - 1))
            return false;
        if (!negated && !add_range(c, from, to))
            return false;
        next = to + 1;
    }
    return !negated || next > CODE_POINT_MAX ||
           add_range(c, next, CODE_POINT_MAX);
}

static bool finish_class(struct class *c, struct hth_gseq *s)
{
    uint32_t rule;

    if (c->has_ascii && c->count == 0)
        return push_set(c->g, s, &c->ascii);
    if (c->has_ascii) {
        if (c->count == HTH_GRAMMAR_CLASS_ALTS_MAX ||
            !push_set(c->g, &c->alts[c->count++], &c->ascii))
            return false;
    }
    rule = add_rule(c->g, NULL);
    return rule != UINT32_MAX &&
           hth_grammar__define(c->g, rule, c->alts, c->count) &&
           hth_gseq__push(s, (struct hth_gop){.kind = HTH_GOP_CALL, .a = rule});
}

bool hth_gseq__class(struct hth_grammar *g, struct hth_gseq *s,
                     struct hth_grange *ranges, uint32_t count, bool negated)
{
    struct class *c = calloc(1, sizeof *c);
    bool ok;

    if (c == NULL)
        return false;
    c->g = g;
    ok = add_ranges(c, ranges, count, negated) && finish_class(c, s);
    for (uint32_t i = 0; i < HTH_GRAMMAR_CLASS_ALTS_MAX; i++)
        free(c->alts[i].ops);
    free(c);
    return ok;
}

/* ---- checks -----------------------------------------------------------------
 */

static const char *name_of(const struct hth_grammar *g, uint32_t rule)
{
    return g->rules[rule].name != NULL ? g->rules[rule].name : "(group)";
}

static bool op_nullable(const struct hth_grammar *g, const struct hth_gop *op)
{
    if (op->kind == HTH_GOP_SET)
        return false;
    return (op->kind == HTH_GOP_REPEAT && op->min == 0) ||
           g->rules[op->a].nullable;
}

static bool rule_nullable(const struct hth_grammar *g,
                          const struct hth_grule *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        const struct hth_gop *op = &g->ops[g->alts[r->first + i]];

        while (op->kind != HTH_GOP_END && op_nullable(g, op))
            op++;
        if (op->kind == HTH_GOP_END)
            return true;
    }
    return false;
}

static void find_nullable(struct hth_grammar *g)
{
    bool more = true;

    while (more) {
        more = false;
        for (uint32_t i = 0; i < g->rule_count; i++)
            if (!g->rules[i].nullable && rule_nullable(g, &g->rules[i]))
                more = g->rules[i].nullable = true;
    }
}

enum colour { WHITE, GREY, BLACK };

/* A walk along what a rule may begin with; a rule met again while it is being
 * walked is left-recursive. The walk keeps its own stack: rules may be many. */
struct walk {
    uint8_t *colour;
    uint32_t *rule, *alt, *op; /* one entry per rule on the way */
    uint32_t depth;
};

static void enter(struct walk *w, const struct hth_grammar *g, uint32_t rule)
{
    w->colour[rule] = GREY;
    w->rule[w->depth] = rule;
    w->alt[w->depth] = 0;
    w->op[w->depth] =
        g->rules[rule].count > 0 ? g->alts[g->rules[rule].first] : 0;
    w->depth++;
}

/* One step: UINT32_MAX, or the rule that is left-recursive. */
static uint32_t walk_on(struct walk *w, const struct hth_grammar *g)
{
    uint32_t top = w->depth - 1;
    const struct hth_grule *r = &g->rules[w->rule[top]];
    const struct hth_gop *op;

    if (w->alt[top] == r->count) {
        w->colour[w->rule[top]] = BLACK;
        w->depth--;
        return UINT32_MAX;
    }
    op = &g->ops[w->op[top]];
    if (op->kind == HTH_GOP_END || op->kind == HTH_GOP_SET ||
        !op_nullable(g, op)) {
        if (++w->alt[top] < r->count)
            w->op[top] = g->alts[r->first + w->alt[top]];
    } else {
        w->op[top]++;
    }
    if (op->kind == HTH_GOP_CALL || op->kind == HTH_GOP_REPEAT) {
        if (w->colour[op->a] == GREY)
            return op->a;
        if (w->colour[op->a] == WHITE)
            enter(w, g, op->a);
    }
    return UINT32_MAX;
}

static int find_recursion(const struct hth_grammar *g, struct hth_err *err)
{
    size_t n = g->rule_count + 1;
    struct walk w = {calloc(n, 1), calloc(n, 4), calloc(n, 4), calloc(n, 4), 0};
    uint32_t bad = UINT32_MAX;
    int rc = HTH_OK;

    if (w.colour == NULL || w.rule == NULL || w.alt == NULL || w.op == NULL)
        rc = hth_fail(err, HTH_ENOMEM, "grammar: no memory");
    for (uint32_t i = 0; i < g->rule_count && rc == HTH_OK; i++) {
        if (w.colour[i] != WHITE)
            continue;
        enter(&w, g, i);
        while (w.depth > 0 && bad == UINT32_MAX)
            bad = walk_on(&w, g);
        if (bad != UINT32_MAX)
            rc = hth_fail(err, HTH_EFORMAT,
                          "grammar: rule %s begins with itself; write the "
                          "repetition with * or at the end",
                          name_of(g, bad));
    }
    free(w.colour);
    free(w.rule);
    free(w.alt);
    free(w.op);
    return rc;
}

int hth_grammar__check(struct hth_grammar *g, struct hth_err *err)
{
    for (uint32_t i = 0; i < g->rule_count; i++)
        if (!g->rules[i].defined)
            return hth_fail(err, HTH_EFORMAT, "grammar: rule %s is undefined",
                            name_of(g, i));
    find_nullable(g);
    return find_recursion(g, err);
}
