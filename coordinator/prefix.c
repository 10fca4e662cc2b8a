/* prefix.c - the radix tree. Nodes are few (at most two per slot), so children
 * are a list that is searched in order; their first units differ, which one
 * memcmp tells. */
#include "coordinator/prefix.h"

#include <stdlib.h>
#include <string.h>

struct node {
    struct node *parent, *child, *next; /* next: of the same parent */
    uint32_t *tokens;                   /* [n], n a multiple of unit */
    uint32_t n;
    uint32_t slot; /* of a leaf; else HTH_SLOT_NONE */
    uint64_t variant;
};

struct hth_prefix {
    uint32_t unit;
    struct node root;
    struct node *leaf[HTH_SLOTS_MAX]; /* by slot; NULL: not known */
    uint64_t used[HTH_SLOTS_MAX];     /* when, by slot */
    bool pinned[HTH_SLOTS_MAX];
    uint64_t now;
    uint64_t positions;
    uint32_t slots;
};

int hth_prefix_open(struct hth_prefix **out, uint32_t unit, struct hth_err *err)
{
    struct hth_prefix *p = calloc(1, sizeof *p);

    HTH_ASSERT(unit > 0);
    if (p == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for the prefix cache");
    p->unit = unit;
    p->root.slot = HTH_SLOT_NONE;
    *out = p;
    return HTH_OK;
}

void hth_prefix_clear(struct hth_prefix *p)
{
    for (uint32_t s = 0; s < HTH_SLOTS_MAX; s++)
        if (p->leaf[s] != NULL)
            hth_prefix_remove(p, s);
}

void hth_prefix_close(struct hth_prefix *p)
{
    if (p == NULL)
        return;
    hth_prefix_clear(p);
    free(p);
}

/* ---- walking ------------------------------------------------------------- */

/* Whole units that both have in common, in tokens. */
static uint32_t common(const struct hth_prefix *p, const uint32_t *a,
                       const uint32_t *b, uint32_t n)
{
    uint32_t same = 0;

    while (same + p->unit <= n &&
           memcmp(a + same, b + same, p->unit * sizeof *a) == 0)
        same += p->unit;
    return same;
}

/* Where a walk along tokens ended: in the edge to `node`, `inside` tokens of
 * it; `done` tokens on the whole way. */
struct place {
    struct node *node;
    uint32_t inside;
    uint32_t done;
};

static struct place walk(struct hth_prefix *p, const struct hth_context *t,
                         uint32_t n)
{
    struct place at = {&p->root, 0, 0};

    while (at.inside == at.node->n) {
        struct node *c = at.node->child;
        uint32_t same = 0, left = n - at.done;

        for (; c != NULL; c = c->next) {
            if (c->variant != t->variant)
                continue;
            same = common(p, c->tokens, t->tokens + at.done,
                          c->n < left ? c->n : left);
            if (same > 0)
                break;
        }
        if (c == NULL)
            break;
        at = (struct place){c, same, at.done + same};
    }
    return at;
}

static struct node *leaf_below(struct node *n)
{
    while (n->child != NULL)
        n = n->child;
    return n;
}

uint32_t hth_prefix_match(struct hth_prefix *p, const struct hth_context *c,
                          uint32_t *slot)
{
    struct place at = walk(p, c, c->n);

    *slot = HTH_SLOT_NONE;
    if (at.done == 0)
        return 0;
    *slot = leaf_below(at.node)->slot;
    p->used[*slot] = ++p->now;
    return at.done;
}

/* ---- changing ------------------------------------------------------------ */

static void link_child(struct node *parent, struct node *child)
{
    child->parent = parent;
    child->next = parent->child;
    parent->child = child;
}

static void unlink_child(struct node *child)
{
    struct node **at = &child->parent->child;

    while (*at != child)
        at = &(*at)->next;
    *at = child->next;
}

static struct node *new_node(const uint32_t *tokens, uint32_t n,
                             uint64_t variant)
{
    struct node *v = calloc(1, sizeof *v);
    uint32_t *copy = malloc(n * sizeof *copy);

    if (v == NULL || copy == NULL) {
        free(v);
        free(copy);
        return NULL;
    }
    memcpy(copy, tokens, n * sizeof *copy);
    v->tokens = copy;
    v->n = n;
    v->slot = HTH_SLOT_NONE;
    v->variant = variant;
    return v;
}

static void free_node(struct node *v)
{
    free(v->tokens);
    free(v);
}

/* Cut the edge to v after n tokens: a new node takes the upper part and v's
 * place. v keeps its memory, so only the new node can fail. */
static struct node *split(struct node *v, uint32_t n)
{
    struct node *upper = new_node(v->tokens, n, v->variant);

    if (upper == NULL)
        return NULL;
    unlink_child(v);
    link_child(v->parent, upper);
    memmove(v->tokens, v->tokens + n, (v->n - n) * sizeof *v->tokens);
    v->n -= n;
    link_child(upper, v);
    return upper;
}

static void set_leaf(struct hth_prefix *p, struct node *v, uint32_t slot)
{
    v->slot = slot;
    p->leaf[slot] = v;
    p->used[slot] = ++p->now;
    p->slots++;
}

static void forget_leaf(struct hth_prefix *p, uint32_t slot)
{
    p->leaf[slot]->slot = HTH_SLOT_NONE;
    p->leaf[slot] = NULL;
    p->slots--;
}

/* Lengthen the edge to a leaf: the slot that holds more takes its place. */
static int lengthen(struct hth_prefix *p, struct node *v,
                    const uint32_t *tokens, uint32_t n)
{
    uint32_t *more = realloc(v->tokens, (v->n + n) * sizeof *more);

    if (more == NULL)
        return HTH_ENOMEM;
    memcpy(more + v->n, tokens, n * sizeof *more);
    v->tokens = more;
    v->n += n;
    p->positions += n;
    return HTH_OK;
}

/* rest: of the context, from where `at` is. */
static int branch(struct hth_prefix *p, struct place at,
                  const struct hth_context *rest, uint32_t slot)
{
    struct node *v = new_node(rest->tokens, rest->n, rest->variant);

    if (v == NULL)
        return HTH_ENOMEM;
    if (at.inside < at.node->n) {
        at.node = split(at.node, at.inside);
        if (at.node == NULL) {
            free_node(v);
            return HTH_ENOMEM;
        }
    }
    link_child(at.node, v);
    set_leaf(p, v, slot);
    p->positions += rest->n;
    return HTH_OK;
}

int hth_prefix_insert(struct hth_prefix *p, const struct hth_context *c,
                      uint32_t slot, uint32_t *drop)
{
    uint32_t whole = c->n - c->n % p->unit, old;
    struct place at = walk(p, c, whole);
    struct hth_context rest = {c->tokens + at.done, whole - at.done,
                               c->variant};
    bool at_leaf = at.inside == at.node->n && at.node->slot != HTH_SLOT_NONE;
    int rc;

    HTH_ASSERT(slot < HTH_SLOTS_MAX);
    HTH_ASSERT(p->leaf[slot] == NULL || (at_leaf && at.node->slot == slot) ||
               at.done == whole);
    *drop = slot;
    if (at.done == whole) {
        if (p->leaf[slot] != NULL)
            *drop = HTH_SLOT_NONE;
        return HTH_OK;
    }
    if (!at_leaf) {
        rc = branch(p, at, &rest, slot);
        *drop = rc == HTH_OK ? HTH_SLOT_NONE : slot;
        return rc;
    }
    old = at.node->slot;
    rc = lengthen(p, at.node, rest.tokens, rest.n);
    if (rc != HTH_OK)
        return rc;
    forget_leaf(p, old);
    set_leaf(p, at.node, slot);
    *drop = HTH_SLOT_NONE;
    if (old != slot) {
        p->pinned[old] = false;
        *drop = old;
    }
    return HTH_OK;
}

/* A node with one child left is no place where texts part: the child takes
 * over its tokens. Without memory for that it stays, which is only untidy. */
static void tidy(struct hth_prefix *p, struct node *v)
{
    struct node *c = v->child;
    uint32_t *all;

    if (v == &p->root || c == NULL || c->next != NULL)
        return;
    all = malloc((v->n + c->n) * sizeof *all);
    if (all == NULL)
        return;
    memcpy(all, v->tokens, v->n * sizeof *all);
    memcpy(all + v->n, c->tokens, c->n * sizeof *all);
    free(c->tokens);
    c->tokens = all;
    c->n += v->n;
    unlink_child(v);
    link_child(v->parent, c);
    free_node(v);
}

void hth_prefix_remove(struct hth_prefix *p, uint32_t slot)
{
    struct node *v = p->leaf[slot], *parent;

    if (v == NULL)
        return;
    forget_leaf(p, slot);
    p->pinned[slot] = false;
    /* Upwards, in case a node above was left untidy with no other child. */
    while (v != &p->root && v->child == NULL) {
        parent = v->parent;
        unlink_child(v);
        p->positions -= v->n;
        free_node(v);
        v = parent;
    }
    tidy(p, v);
}

/* ---- looking ------------------------------------------------------------- */

bool hth_prefix_known(const struct hth_prefix *p, uint32_t slot)
{
    return p->leaf[slot] != NULL;
}

void hth_prefix_pin(struct hth_prefix *p, uint32_t slot, bool pinned)
{
    p->pinned[slot] = pinned;
}

uint32_t hth_prefix_oldest(const struct hth_prefix *p)
{
    uint32_t oldest = HTH_SLOT_NONE;

    for (uint32_t s = 0; s < HTH_SLOTS_MAX; s++)
        if (p->leaf[s] != NULL && !p->pinned[s] &&
            (oldest == HTH_SLOT_NONE || p->used[s] < p->used[oldest]))
            oldest = s;
    return oldest;
}

uint32_t hth_prefix_tokens(const struct hth_prefix *p, uint32_t slot,
                           uint32_t *out, uint32_t max)
{
    uint32_t n = 0, end;

    if (p->leaf[slot] == NULL)
        return 0;
    for (const struct node *v = p->leaf[slot]; v != NULL; v = v->parent)
        n += v->n;
    end = n;
    for (const struct node *v = p->leaf[slot]; v != NULL; v = v->parent) {
        end -= v->n;
        for (uint32_t i = 0; i < v->n && end + i < max; i++)
            out[end + i] = v->tokens[i];
    }
    return n;
}

uint64_t hth_prefix_variant(const struct hth_prefix *p, uint32_t slot)
{
    return p->leaf[slot] != NULL ? p->leaf[slot]->variant : 0;
}

uint32_t hth_prefix_slots(const struct hth_prefix *p)
{
    return p->slots;
}

uint64_t hth_prefix_positions(const struct hth_prefix *p)
{
    return p->positions;
}
