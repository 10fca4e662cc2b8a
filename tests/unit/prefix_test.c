/* prefix_test.c - the radix tree against a list of texts that is searched from
 * one end to the other, and the book of blocks against counting. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "coordinator/prefix.h"
#include "coordinator/slots.h"

#define BLOCK 4u
#define TEXT_MAX 48u

struct text {
    uint32_t n;
    uint64_t variant;
    uint32_t token[TEXT_MAX];
    bool known, pinned;
    uint64_t used;
};

struct pair {
    struct hth_prefix *p;
    struct text slot[HTH_SLOTS_MAX];
    uint64_t now;
};

static uint32_t common_blocks(const struct text *a, const struct text *b)
{
    uint32_t n = 0, least = a->n < b->n ? a->n : b->n;

    while (n < least && a->token[n] == b->token[n])
        n++;
    return a->variant == b->variant ? n - n % BLOCK : 0;
}

/* The longest over all texts. */
static uint32_t naive_match(const struct pair *v, const struct text *t)
{
    uint32_t best = 0;

    for (uint32_t s = 0; s < HTH_SLOTS_MAX; s++) {
        uint32_t n = v->slot[s].known ? common_blocks(&v->slot[s], t) : 0;

        best = n > best ? n : best;
    }
    return best;
}

/* Different runs of whole blocks from the start, each counted once. */
static uint64_t naive_positions(const struct pair *v)
{
    uint64_t sum = 0;

    for (uint32_t s = 0; s < HTH_SLOTS_MAX; s++) {
        uint32_t shared = 0;

        if (!v->slot[s].known)
            continue;
        for (uint32_t t = 0; t < s; t++) {
            uint32_t n =
                v->slot[t].known ? common_blocks(&v->slot[s], &v->slot[t]) : 0;

            shared = n > shared ? n : shared;
        }
        sum += v->slot[s].n - shared;
    }
    return sum;
}

/* Few token values and many common beginnings, so that texts do part in all
 * places. */
static struct text random_text(struct pair *v, struct hth_rng *rng)
{
    struct text t = {.n = (uint32_t)(hth_rng_u64(rng) % TEXT_MAX) + 1};
    const struct text *like = &v->slot[hth_rng_u64(rng) % HTH_SLOTS_MAX];
    uint32_t same = (uint32_t)(hth_rng_u64(rng) % TEXT_MAX);

    t.variant = hth_rng_u64(rng) % 4 == 0 ? 77 : 0;
    for (uint32_t i = 0; i < t.n; i++)
        t.token[i] = i < same && i < like->n ? like->token[i]
                                             : (uint32_t)(hth_rng_u64(rng) % 3);
    return t;
}

static void check_match(struct pair *v, const struct text *t)
{
    uint32_t slot,
        n = hth_prefix_match(
            v->p, &(struct hth_context){t->token, t->n, t->variant}, &slot);

    cr_assert_eq(n, naive_match(v, t));
    if (n == 0) {
        cr_assert_eq(slot, HTH_SLOT_NONE);
        return;
    }
    cr_assert(v->slot[slot].known && v->slot[slot].n >= n);
    cr_assert_eq(v->slot[slot].variant, t->variant);
    cr_assert_eq(memcmp(v->slot[slot].token, t->token, n * 4), 0);
    v->slot[slot].used = ++v->now;
}

static void check_insert(struct pair *v, struct text t, uint32_t slot)
{
    uint32_t drop, whole = t.n - t.n % BLOCK;
    bool covered = naive_match(v, &t) == whole;

    cr_assert_eq(
        hth_prefix_insert(v->p, &(struct hth_context){t.token, t.n, t.variant},
                          slot, &drop),
        HTH_OK);
    if (covered) {
        cr_assert_eq(drop, slot);
        return;
    }
    t.n = whole;
    t.known = true;
    t.used = ++v->now;
    if (drop != HTH_SLOT_NONE) {
        const struct text *old = &v->slot[drop];

        cr_assert(old->known && old->n < whole);
        cr_assert_eq(memcmp(old->token, t.token, old->n * 4), 0);
        v->slot[drop].known = false;
    }
    v->slot[slot] = t;
    for (uint32_t s = 0; s < HTH_SLOTS_MAX; s++)
        if (s != slot && v->slot[s].known && v->slot[s].n <= whole &&
            v->slot[s].variant == t.variant)
            cr_assert_neq(memcmp(v->slot[s].token, t.token, v->slot[s].n * 4),
                          0, "slot %u is covered by %u and still known", s,
                          slot);
}

static void check_oldest(struct pair *v)
{
    uint32_t best = HTH_SLOT_NONE;

    for (uint32_t s = 0; s < HTH_SLOTS_MAX; s++)
        if (v->slot[s].known && !v->slot[s].pinned &&
            (best == HTH_SLOT_NONE || v->slot[s].used < v->slot[best].used))
            best = s;
    cr_assert_eq(hth_prefix_oldest(v->p), best);
}

static void check_tokens(const struct pair *v, uint32_t slot)
{
    uint32_t out[TEXT_MAX];
    uint32_t n = hth_prefix_tokens(v->p, slot, out, TEXT_MAX);

    cr_assert_eq(n, v->slot[slot].known ? v->slot[slot].n : 0);
    cr_assert_eq(hth_prefix_variant(v->p, slot),
                 v->slot[slot].known ? v->slot[slot].variant : 0);
    cr_assert_eq(memcmp(out, v->slot[slot].token, n * 4), 0);
}

static void one_turn(struct pair *v, struct hth_rng *rng)
{
    uint32_t slot = (uint32_t)(hth_rng_u64(rng) % HTH_SLOTS_MAX);
    struct text t = random_text(v, rng);
    uint64_t dice = hth_rng_u64(rng) % 8;

    if (dice < 3) {
        check_match(v, &t);
    } else if (dice < 6) {
        if (!v->slot[slot].known)
            check_insert(v, t, slot);
    } else if (dice == 6) {
        hth_prefix_remove(v->p, slot);
        v->slot[slot].known = v->slot[slot].pinned = false;
    } else if (v->slot[slot].known) {
        v->slot[slot].pinned = !v->slot[slot].pinned;
        hth_prefix_pin(v->p, slot, v->slot[slot].pinned);
    }
    check_tokens(v, slot);
}

Test(prefix, equals_a_list_of_texts)
{
    static struct pair v;
    struct hth_rng rng;
    struct hth_err err;

    hth_rng_init(&rng, 7);
    cr_assert_eq(hth_prefix_open(&v.p, BLOCK, &err), HTH_OK);
    for (int i = 0; i < 20000; i++) {
        one_turn(&v, &rng);
        if (i % 100 != 0)
            continue;
        cr_assert_eq(hth_prefix_positions(v.p), naive_positions(&v));
        check_oldest(&v);
    }
    hth_prefix_clear(v.p);
    cr_assert_eq(hth_prefix_positions(v.p), 0);
    cr_assert_eq(hth_prefix_slots(v.p), 0);
    hth_prefix_close(v.p);
}

static int insert9(struct hth_prefix *p, const uint32_t *token, uint32_t n,
                   uint32_t *drop)
{
    return hth_prefix_insert(p, &(struct hth_context){token, n, 0}, 9, drop);
}

Test(prefix, a_slot_that_grew_comes_again)
{
    uint32_t token[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}, drop, slot;
    struct hth_prefix *p;
    struct hth_err err;

    cr_assert_eq(hth_prefix_open(&p, BLOCK, &err), HTH_OK);
    cr_assert_eq(insert9(p, token, 5, &drop), HTH_OK);
    cr_assert_eq(drop, HTH_SLOT_NONE);
    cr_assert_eq(insert9(p, token, 7, &drop), HTH_OK);
    cr_assert_eq(drop, HTH_SLOT_NONE, "no new block");
    cr_assert_eq(insert9(p, token, 12, &drop), HTH_OK);
    cr_assert_eq(drop, HTH_SLOT_NONE);
    cr_assert_eq(
        hth_prefix_match(p, &(struct hth_context){token, 12, 0}, &slot), 12);
    cr_assert_eq(slot, 9);
    cr_assert_eq(hth_prefix_slots(p), 1);
    hth_prefix_close(p);
}

/* ---- the book of blocks ---------------------------------------------------
 */

struct book {
    struct hth_slots *s;
    uint32_t name[HTH_SLOTS_MAX][8]; /* of each slot's blocks; 0: none */
    uint32_t next;
};

static uint32_t distinct(const struct book *b)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < HTH_SLOTS_MAX * 8; i++) {
        uint32_t name = b->name[i / 8][i % 8];
        bool seen = name == 0;

        for (uint32_t j = 0; j < i && !seen; j++)
            seen = b->name[j / 8][j % 8] == name;
        n += !seen;
    }
    return n;
}

static void grow(struct book *b, uint32_t slot, uint32_t positions)
{
    uint32_t want = (positions + BLOCK - 1) / BLOCK;
    uint32_t has = hth_slots_held(b->s, slot);
    uint32_t room = hth_slots_total(b->s) - hth_slots_used(b->s);
    bool fits = positions <= 8 * BLOCK && (want <= has || want - has <= room);

    cr_assert_eq(hth_slots_grow(b->s, slot, positions), fits);
    for (uint32_t i = has; fits && i < want; i++)
        b->name[slot][i] = ++b->next;
}

static void cut(struct book *b, uint32_t slot, uint32_t positions)
{
    hth_slots_cut(b->s, slot, positions);
    for (uint32_t i = (positions + BLOCK - 1) / BLOCK; i < 8; i++)
        b->name[slot][i] = 0;
}

/* Of a begun block the new slot has its own. */
static void fork_from(struct book *b, uint32_t from, uint32_t positions)
{
    uint32_t to = hth_slots_take(b->s), n = positions / BLOCK;
    bool begun = positions % BLOCK != 0;
    bool room = hth_slots_used(b->s) < hth_slots_total(b->s);

    if (to == HTH_SLOT_NONE)
        return;
    cr_assert_eq(hth_slots_fork(b->s, from, to, positions), !begun || room);
    if (begun && !room)
        return;
    memcpy(b->name[to], b->name[from], n * sizeof b->name[0][0]);
    if (begun)
        b->name[to][n] = ++b->next;
}

static void book_turn(struct book *b, struct hth_rng *rng)
{
    uint32_t slot = (uint32_t)(hth_rng_u64(rng) % 40);
    uint32_t positions = (uint32_t)(hth_rng_u64(rng) % (9 * BLOCK));

    if (!hth_slots_taken(b->s, slot)) {
        slot = hth_slots_take(b->s);
        cr_assert_neq(slot, HTH_SLOT_NONE);
        cr_assert_eq(hth_slots_held(b->s, slot), 0);
    }
    switch (hth_rng_u64(rng) % 4) {
    case 0:
        grow(b, slot, positions);
        break;
    case 1:
        cut(b, slot, positions);
        break;
    case 2:
        fork_from(
            b, slot,
            (uint32_t)(hth_rng_u64(rng) % (hth_slots_held(b->s, slot) + 1)));
        break;
    default:
        hth_slots_drop(b->s, slot);
        memset(b->name[slot], 0, sizeof b->name[slot]);
    }
}

Test(slots, shared_blocks_count_once)
{
    static struct book b;
    struct hth_slots_opts o = {
        .blocks = 100, .positions = BLOCK, .ctx_max = 8 * BLOCK};
    struct hth_rng rng;
    struct hth_err err;

    hth_rng_init(&rng, 3);
    cr_assert_eq(hth_slots_open(&b.s, &o, &err), HTH_OK);
    for (int i = 0; i < 20000; i++) {
        book_turn(&b, &rng);
        if (i % 50 == 0)
            cr_assert_eq(hth_slots_used(b.s), distinct(&b));
    }
    hth_slots_clear(b.s);
    cr_assert_eq(hth_slots_used(b.s), 0);
    hth_slots_close(b.s);
}

Test(slots, run_out_and_come_back)
{
    struct hth_slots_opts o = {.blocks = 4, .positions = 1, .ctx_max = 1};
    struct hth_slots *s;
    struct hth_err err;

    cr_assert_eq(hth_slots_open(&s, &o, &err), HTH_OK);
    for (uint32_t i = 0; i < HTH_SLOTS_MAX; i++)
        cr_assert_eq(hth_slots_take(s), i);
    cr_assert_eq(hth_slots_take(s), HTH_SLOT_NONE);
    cr_assert_not(hth_slots_grow(s, 0, 2), "beyond its context");
    for (uint32_t i = 0; i < 4; i++)
        cr_assert(hth_slots_grow(s, i, 1));
    cr_assert_not(hth_slots_grow(s, 4, 1));
    hth_slots_drop(s, 2);
    cr_assert(hth_slots_grow(s, 4, 1));
    cr_assert_eq(hth_slots_take(s), 2);
    hth_slots_close(s);
}
