/* matcher.c - where an answer stands in a grammar, byte by byte.
 *
 * The grammar is a pushdown automaton whose stacks share their lower ends and
 * are numbered, so that equal stacks are one number. A set of stacks is a
 * state, numbered too, and a state's successor by a byte is remembered: after
 * a while every step is one look into a table. All memory is fixed; when it is
 * full everything but the present state is forgotten. */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/grammar_internal.h"

#define NONE UINT32_MAX
#define NODE_SLOTS (2u * HTH_GRAMMAR_NODES_MAX)
#define STATE_SLOTS (2u * HTH_GRAMMAR_STATES_MAX)

/* ---- numbers for stacks -----------------------------------------------------
 */

static uint32_t mix(uint32_t h, uint32_t v)
{
    h ^= v + 0x9e3779b9u + (h << 6) + (h >> 2);
    h *= 0x85ebca6bu;
    return h ^ h >> 13;
}

static uint32_t node_hash(const struct hth_gnode *n)
{
    return mix(mix(mix(0, n->op), n->count), n->parent);
}

/* The number of this stack, made if new; NONE: full. */
static uint32_t node(struct hth_matcher *m, uint32_t op, uint32_t count,
                     uint32_t parent)
{
    struct hth_gnode n = {op, count, parent};
    uint32_t slot = node_hash(&n) % NODE_SLOTS;

    for (; m->node_index[slot] != NONE; slot = (slot + 1) % NODE_SLOTS) {
        const struct hth_gnode *old = &m->nodes[m->node_index[slot]];

        if (old->op == op && old->count == count && old->parent == parent)
            return m->node_index[slot];
    }
    if (m->node_count == HTH_GRAMMAR_NODES_MAX) {
        m->full = true;
        return NONE;
    }
    m->nodes[m->node_count] = n;
    m->stamp[m->node_count] = 0;
    m->node_index[slot] = m->node_count;
    return m->node_count++;
}

/* ---- closure ----------------------------------------------------------------
 */

/* What is reached without reading a byte: items collected on top of m->items,
 * work to do on m->work. */
struct closure {
    struct hth_matcher *m;
    uint32_t work_count, item_count;
    bool complete;
};

static void visit(struct closure *c, uint32_t n)
{
    struct hth_matcher *m = c->m;

    if (n == NONE || m->stamp[n] == m->now)
        return;
    m->stamp[n] = m->now;
    m->work[c->work_count++] = n; /* each node once: it fits */
}

static void visit_rule(struct closure *c, uint32_t rule, uint32_t parent)
{
    const struct hth_grule *r = &c->m->g->rules[rule];

    for (uint32_t i = 0; i < r->count && !c->m->full; i++)
        visit(c, node(c->m, c->m->g->alts[r->first + i], 0, parent));
}

/* Where the rule that is called goes on: behind the call, or, where the call
 * is the last thing, straight where its caller goes on, so that a list of any
 * length needs no deeper stack. */
static uint32_t behind(struct closure *c, const struct hth_gnode *n)
{
    if (c->m->g->ops[n->op + 1].kind == HTH_GOP_END)
        return n->parent;
    return node(c->m, n->op + 1, 0, n->parent);
}

static void repeat(struct closure *c, const struct hth_gnode *n,
                   const struct hth_gop *op)
{
    uint32_t count = n->count;

    if (count >= op->min)
        visit(c, node(c->m, n->op + 1, 0, n->parent));
    if (count >= op->max)
        return;
    if (op->max != HTH_GRAMMAR_FOREVER || count < op->min)
        count++;
    visit_rule(c, op->a, node(c->m, n->op, count, n->parent));
}

static void expand(struct closure *c, uint32_t number)
{
    struct hth_matcher *m = c->m;
    struct hth_gnode n = m->nodes[number];
    const struct hth_gop *op = &m->g->ops[n.op];

    switch (op->kind) {
    case HTH_GOP_SET:
        if (m->item_count + c->item_count == HTH_GRAMMAR_ITEMS_MAX)
            m->full = true;
        else
            m->items[m->item_count + c->item_count++] = number;
        break;
    case HTH_GOP_END:
        if (n.parent == NONE)
            c->complete = true;
        else
            visit(c, n.parent);
        break;
    case HTH_GOP_CALL: {
        uint32_t to = behind(c, &n);

        if (!m->full)
            visit_rule(c, op->a, to);
        break;
    }
    default:
        repeat(c, &n, op);
    }
}

static void begin(struct closure *c, struct hth_matcher *m)
{
    *c = (struct closure){.m = m};
    m->now++;
    m->full = false;
}

static void close_over(struct closure *c)
{
    while (c->work_count > 0 && !c->m->full)
        expand(c, c->m->work[--c->work_count]);
}

/* ---- numbers for states -----------------------------------------------------
 */

static int by_number(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static bool same_items(const struct hth_matcher *m, const struct hth_gstate *s,
                       const struct closure *c)
{
    return s->count == c->item_count && s->complete == c->complete &&
           (s->count == 0 ||
            memcmp(m->items + s->first, m->items + m->item_count,
                   s->count * sizeof *m->items) == 0);
}

static uint32_t state_hash(const uint32_t *items, uint32_t count, bool complete)
{
    uint32_t h = complete;

    for (uint32_t i = 0; i < count; i++)
        h = mix(h, items[i]);
    return h;
}

/* The state that the closure's items are. */
static uint32_t state_of(struct closure *c)
{
    struct hth_matcher *m = c->m;
    uint32_t *items = m->items + m->item_count, slot, s;

    if (m->full)
        return HTH_GSTATE_FULL;
    if (c->item_count == 0 && !c->complete)
        return HTH_GSTATE_DEAD;
    qsort(items, c->item_count, sizeof *items, by_number);
    slot = state_hash(items, c->item_count, c->complete) % STATE_SLOTS;
    for (; m->state_index[slot] != NONE; slot = (slot + 1) % STATE_SLOTS)
        if (same_items(m, &m->states[m->state_index[slot]], c))
            return m->state_index[slot] + HTH_GSTATE_FIRST;
    if (m->state_count == HTH_GRAMMAR_STATES_MAX) {
        m->full = true;
        return HTH_GSTATE_FULL;
    }
    s = m->state_count++;
    m->state_index[slot] = s;
    m->states[s] =
        (struct hth_gstate){m->item_count, c->item_count, c->complete};
    memset(m->next[s], 0, sizeof m->next[s]);
    m->item_count += c->item_count;
    return s + HTH_GSTATE_FIRST;
}

static uint32_t compute(struct hth_matcher *m, uint32_t s, uint8_t byte)
{
    struct hth_gstate from = m->states[s];
    struct closure c;

    begin(&c, m);
    for (uint32_t i = 0; i < from.count && !m->full; i++) {
        struct hth_gnode n = m->nodes[m->items[from.first + i]];
        const struct hth_gset *set = &m->g->sets[m->g->ops[n.op].a];

        if (set->bits[byte / 64] >> (byte % 64) & 1)
            visit(&c, node(m, n.op + 1, 0, n.parent));
    }
    close_over(&c);
    return state_of(&c);
}

uint32_t hth_matcher_step(struct hth_matcher *m, uint32_t state, uint8_t byte)
{
    uint32_t s = state - HTH_GSTATE_FIRST, to;

    if (state == HTH_GSTATE_DEAD || state == HTH_GSTATE_FULL)
        return state;
    to = m->next[s][byte];
    if (to != HTH_GSTATE_UNKNOWN)
        return to;
    to = compute(m, s, byte);
    if (to != HTH_GSTATE_FULL)
        m->next[s][byte] = (uint16_t)to;
    return to;
}

bool hth_matcher_complete(const struct hth_matcher *m, uint32_t state)
{
    return state >= HTH_GSTATE_FIRST && state != HTH_GSTATE_FULL &&
           m->states[state - HTH_GSTATE_FIRST].complete;
}

/* ---- life -------------------------------------------------------------------
 */

static void clear_indexes(struct hth_matcher *m)
{
    memset(m->node_index, 0xff, NODE_SLOTS * sizeof *m->node_index);
    memset(m->state_index, 0xff, STATE_SLOTS * sizeof *m->state_index);
}

static void start(struct hth_matcher *m)
{
    struct closure c;

    begin(&c, m);
    visit_rule(&c, m->g->root, NONE);
    close_over(&c);
    m->state = state_of(&c);
}

int hth_matcher_init(struct hth_matcher *m, const struct hth_grammar *g)
{
    _Static_assert(HTH_GRAMMAR_STATES_MAX + HTH_GSTATE_FIRST <= UINT16_MAX,
                   "a state's number fits the table");
    *m = (struct hth_matcher){.g = g};
    m->nodes = hth_mem_alloc(HTH_GRAMMAR_NODES_MAX * sizeof *m->nodes);
    m->node_index = hth_mem_alloc(NODE_SLOTS * sizeof *m->node_index);
    m->stamp = hth_mem_alloc(HTH_GRAMMAR_NODES_MAX * sizeof *m->stamp);
    m->work = hth_mem_alloc(HTH_GRAMMAR_NODES_MAX * sizeof *m->work);
    m->states = hth_mem_alloc(HTH_GRAMMAR_STATES_MAX * sizeof *m->states);
    m->state_index = hth_mem_alloc(STATE_SLOTS * sizeof *m->state_index);
    m->next = hth_mem_alloc(HTH_GRAMMAR_STATES_MAX * sizeof *m->next);
    m->items = hth_mem_alloc(HTH_GRAMMAR_ITEMS_MAX * sizeof *m->items);
    if (m->nodes == NULL || m->node_index == NULL || m->stamp == NULL ||
        m->work == NULL || m->states == NULL || m->state_index == NULL ||
        m->next == NULL || m->items == NULL) {
        hth_matcher_fini(m);
        return HTH_ENOMEM;
    }
    clear_indexes(m);
    start(m);
    return m->state == HTH_GSTATE_FULL ? HTH_ELIMIT : HTH_OK;
}

void hth_matcher_fini(struct hth_matcher *m)
{
    hth_mem_free(m->nodes);
    hth_mem_free(m->node_index);
    hth_mem_free(m->stamp);
    hth_mem_free(m->work);
    hth_mem_free(m->states);
    hth_mem_free(m->state_index);
    hth_mem_free(m->next);
    hth_mem_free(m->items);
    *m = (struct hth_matcher){.g = NULL};
}

/* Keep the stacks of the present state, in order, under new numbers. A parent
 * has a lower number than its children, so one pass down marks all that is
 * needed and one pass up renumbers. m->work holds the new numbers. */
static bool keep_nodes(struct hth_matcher *m, const struct hth_gstate *s)
{
    uint32_t kept = 0, count = m->node_count;

    m->now++;
    for (uint32_t i = 0; i < s->count; i++)
        m->stamp[m->items[s->first + i]] = m->now;
    for (uint32_t i = count; i-- > 0;)
        if (m->stamp[i] == m->now && m->nodes[i].parent != NONE)
            m->stamp[m->nodes[i].parent] = m->now;
    for (uint32_t i = 0; i < count; i++)
        if (m->stamp[i] == m->now)
            m->work[i] = kept++;
    if (kept > HTH_GRAMMAR_NODES_MAX / 2)
        return false;
    for (uint32_t i = 0; i < s->count; i++)
        m->items[i] = m->work[m->items[s->first + i]];
    clear_indexes(m);
    m->node_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct hth_gnode n = m->nodes[i];

        if (m->stamp[i] == m->now)
            node(m, n.op, n.count, n.parent == NONE ? NONE : m->work[n.parent]);
    }
    memset(m->stamp, 0, HTH_GRAMMAR_NODES_MAX * sizeof *m->stamp);
    m->now = 0;
    return true;
}

bool hth_matcher_flush(struct hth_matcher *m)
{
    struct hth_gstate s;
    struct closure c;

    if (m->state < HTH_GSTATE_FIRST || m->state == HTH_GSTATE_FULL)
        return false;
    s = m->states[m->state - HTH_GSTATE_FIRST];
    if (!keep_nodes(m, &s))
        return false;
    m->state_count = m->item_count = 0;
    m->generation++;
    begin(&c, m);
    c.item_count = s.count;
    c.complete = s.complete;
    m->state = state_of(&c);
    return true;
}
