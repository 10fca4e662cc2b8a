/* constraint.c - which tokens an answer may go on with. */
#include "model/constraint.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/grammar_internal.h"

/* Masks of states seen before. */
#define MASKS_MAX 16u
/* As many of the best candidates are looked at one by one before all tokens
 * are: enough to find top_k allowed ones in free text. */
#define TOP_MAX 512u

struct mask {
    uint32_t state;
    uint64_t generation; /* of the matcher; other than its own: void */
    uint64_t used;
    uint32_t *bits; /* [words] */
};

struct hth_constraint {
    struct hth_grammar *g;
    const struct hth_token_index *x;
    struct hth_matcher m;
    uint32_t words;
    uint32_t *bits; /* of all masks */
    struct mask masks[MASKS_MAX];
    uint64_t clock;
    uint32_t *path; /* [HTH_TOKEN_BYTES_MAX + 1] states along a token */
    struct hth_candidate top[TOP_MAX];
    bool ended;  /* an end token was accepted */
    bool broken; /* out of room: nothing is allowed any more */
};

int hth_constraint_open(struct hth_constraint **out, struct hth_grammar *g,
                        const struct hth_token_index *x, struct hth_err *err)
{
    struct hth_constraint *c = calloc(1, sizeof *c);
    int rc;

    if (c == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a grammar's state");
    c->g = hth_grammar_ref(g);
    c->x = x;
    c->words = (x->vocab + 31) / 32;
    c->bits = hth_mem_alloc((size_t)MASKS_MAX * c->words * sizeof *c->bits);
    c->path = calloc(HTH_TOKEN_BYTES_MAX + 1, sizeof *c->path);
    rc = c->bits == NULL || c->path == NULL ? HTH_ENOMEM
                                            : hth_matcher_init(&c->m, g);
    if (rc != HTH_OK) {
        hth_constraint_close(c);
        return hth_fail(err, rc,
                        rc == HTH_ENOMEM
                            ? "no memory for a grammar's state"
                            : "the grammar is too ambiguous to follow");
    }
    for (uint32_t i = 0; i < MASKS_MAX; i++)
        c->masks[i] = (struct mask){.generation = UINT64_MAX,
                                    .bits = c->bits + (size_t)i * c->words};
    *out = c;
    return HTH_OK;
}

void hth_constraint_close(struct hth_constraint *c)
{
    if (c == NULL)
        return;
    hth_matcher_fini(&c->m);
    hth_mem_free(c->bits);
    free(c->path);
    hth_grammar_close(c->g);
    free(c);
}

/* ---- one token --------------------------------------------------------------
 */

/* The state behind text[n], making room once if there is none. */
static uint32_t follow(struct hth_constraint *c, const uint8_t *text, size_t n)
{
    for (int tries = 0; tries < 2; tries++) {
        uint32_t s = c->m.state;

        for (size_t i = 0;
             i < n && s != HTH_GSTATE_DEAD && s != HTH_GSTATE_FULL; i++)
            s = hth_matcher_step(&c->m, s, text[i]);
        if (s != HTH_GSTATE_FULL)
            return s;
        if (!hth_matcher_flush(&c->m))
            break;
    }
    c->broken = true;
    return HTH_GSTATE_DEAD;
}

static bool is_end(const struct hth_constraint *c, uint32_t id)
{
    for (uint32_t i = 0; i < c->x->end_count; i++)
        if (c->x->ends[i] == id)
            return true;
    return false;
}

/* Where id leads: a state, or dead. */
static uint32_t after(struct hth_constraint *c, uint32_t id)
{
    const struct hth_token_index *x = c->x;
    uint32_t n;

    if (c->broken || c->ended || id >= x->vocab)
        return HTH_GSTATE_DEAD;
    n = x->at[id + 1] - x->at[id];
    return n == 0 ? HTH_GSTATE_DEAD : follow(c, x->bytes + x->at[id], n);
}

bool hth_constraint_complete(const struct hth_constraint *c)
{
    return !c->broken && hth_matcher_complete(&c->m, c->m.state);
}

bool hth_constraint_allows(struct hth_constraint *c, uint32_t id)
{
    if (is_end(c, id))
        return hth_constraint_complete(c);
    return after(c, id) != HTH_GSTATE_DEAD;
}

int hth_constraint_accept(struct hth_constraint *c, uint32_t id)
{
    uint32_t s;

    if (is_end(c, id)) {
        if (!hth_constraint_complete(c))
            return HTH_EINVAL;
        c->ended = true;
        return HTH_OK;
    }
    s = after(c, id);
    if (s == HTH_GSTATE_DEAD)
        return c->broken ? HTH_ELIMIT : HTH_EINVAL;
    c->m.state = s;
    return HTH_OK;
}

int hth_constraint_accept_text(struct hth_constraint *c, const void *text,
                               size_t n)
{
    const uint8_t *p = text;

    for (size_t i = 0; i < n; i++) {
        uint32_t s = c->broken ? HTH_GSTATE_DEAD : follow(c, p + i, 1);

        if (s == HTH_GSTATE_DEAD)
            return c->broken ? HTH_ELIMIT : HTH_EINVAL;
        c->m.state = s;
    }
    return HTH_OK;
}

/* ---- all tokens -------------------------------------------------------------
 */

/* Walk the sorted tokens; what a token has in common with the one before is
 * not walked again, and where that ended, all that share the byte end. False:
 * no room. */
static bool walk(struct hth_constraint *c, uint32_t *bits)
{
    const struct hth_token_index *x = c->x;
    uint32_t valid = 0; /* bytes of the last token that are walked */

    c->path[0] = c->m.state;
    for (uint32_t i = 0; i < x->count; i++) {
        uint32_t id = x->sorted[i], n = x->at[id + 1] - x->at[id];
        const uint8_t *text = x->bytes + x->at[id];

        if (x->shared[i] > valid)
            continue;
        for (valid = x->shared[i]; valid < n; valid++) {
            uint32_t s = hth_matcher_step(&c->m, c->path[valid], text[valid]);

            if (s == HTH_GSTATE_FULL)
                return false;
            if (s == HTH_GSTATE_DEAD)
                break;
            c->path[valid + 1] = s;
        }
        if (valid == n)
            bits[id / 32] |= 1u << (id % 32);
    }
    return true;
}

static void fill_mask(struct hth_constraint *c, struct mask *k)
{
    bool done = false;

    for (int tries = 0; tries < 2 && !done && !c->broken; tries++) {
        memset(k->bits, 0, c->words * sizeof *k->bits);
        done = walk(c, k->bits);
        if (!done && !hth_matcher_flush(&c->m))
            c->broken = true;
    }
    if (!done) {
        c->broken = true;
        return;
    }
    for (uint32_t i = 0; i < c->x->end_count; i++)
        if (hth_constraint_complete(c))
            k->bits[c->x->ends[i] / 32] |= 1u << (c->x->ends[i] % 32);
    k->state = c->m.state;
    k->generation = c->m.generation;
}

const uint32_t *hth_constraint_mask(struct hth_constraint *c)
{
    struct mask *oldest = &c->masks[0];

    if (c->broken || c->ended)
        return NULL;
    c->clock++;
    for (uint32_t i = 0; i < MASKS_MAX; i++) {
        struct mask *k = &c->masks[i];

        if (k->generation == c->m.generation && k->state == c->m.state) {
            k->used = c->clock;
            return k->bits;
        }
        if (k->used < oldest->used)
            oldest = k;
    }
    oldest->used = c->clock;
    oldest->generation = UINT64_MAX;
    fill_mask(c, oldest);
    return c->broken ? NULL : oldest->bits;
}

/* ---- candidates -------------------------------------------------------------
 */

/* The best allowed ones among the TOP_MAX best of all: all of them that are
 * wanted, or 0 and nothing is changed. */
static uint32_t from_top(struct hth_constraint *c, struct hth_candidate *cand,
                         uint32_t n, uint32_t best)
{
    uint32_t look = best < 8 ? 32 : best * 4, count, kept = 0;

    look = look < TOP_MAX ? look : TOP_MAX;
    if (best == 0 || best > look / 2)
        return 0;
    count = hth_best_candidates(cand, n, look, c->top);
    for (uint32_t i = 0; i < count && kept < best; i++)
        if (hth_constraint_allows(c, c->top[i].id))
            c->top[kept++] = c->top[i];
    if (kept < best)
        return 0;
    memcpy(cand, c->top, kept * sizeof *cand);
    return kept;
}

uint32_t hth_constraint_filter(struct hth_constraint *c,
                               struct hth_candidate *cand, uint32_t n,
                               uint32_t best)
{
    const uint32_t *bits;
    uint32_t kept = from_top(c, cand, n, best);

    if (kept > 0)
        return kept;
    bits = hth_constraint_mask(c);
    if (bits == NULL)
        return 0;
    for (uint32_t i = 0; i < n; i++)
        if (cand[i].id < c->x->vocab &&
            bits[cand[i].id / 32] >> (cand[i].id % 32) & 1)
            cand[kept++] = cand[i];
    return kept;
}
