/* partition.c - unequal contiguous blocks for KV-Runahead: seed, search, and a
 * table of what was found. Cannot fail. */
#include <math.h>
#include <string.h>

#include "scheduler/prefill.h"

/* ---- seed -----------------------------------------------------------------
 */

/* Rows that a rank computes in `seconds` per layer after `seen` positions:
 * c row_s + (c seen + c^2 / 2) pair_s = seconds, solved for c. */
static double rows_in(const struct hth_prefill_device *d, double seen,
                      double seconds)
{
    double a = d->pair_s / 2, b = d->row_s + seen * d->pair_s;

    if (a <= 0)
        return seconds / b;
    return (sqrt(b * b + 4 * a * seconds) - b) / (2 * a);
}

/* Rows that all ranks together compute if each has `seconds`. */
static double deal(const struct hth_prefill_load *l, uint32_t prefix,
                   double seconds, double *rows)
{
    double seen = prefix, sum = 0;

    for (uint32_t r = 0; r < l->ranks; r++) {
        rows[r] = rows_in(&l->device[r], seen, seconds);
        seen += rows[r];
        sum += rows[r];
    }
    return sum;
}

static void normalise(double *w, uint32_t n)
{
    double sum = 0;

    for (uint32_t i = 0; i < n; i++)
        sum += w[i];
    for (uint32_t i = 0; i < n; i++)
        w[i] = sum > 0 ? w[i] / sum : 1.0 / n;
}

/* No rank below HTH_PREFILL_SHARE_MIN of an even share. */
static void clamp(double *w, uint32_t n)
{
    normalise(w, n);
    for (uint32_t i = 0; i < n; i++)
        if (!(w[i] >= HTH_PREFILL_SHARE_MIN / n))
            w[i] = HTH_PREFILL_SHARE_MIN / n;
    normalise(w, n);
}

void hth_partition_seed(const struct hth_prefill_load *l,
                        const struct hth_prompt *p, double *w)
{
    double low = 0, high = 1e-6;

    while (deal(l, p->prefix, high, w) < p->count && high < 1e9)
        high *= 2;
    for (int i = 0; i < 60; i++) {
        double mid = (low + high) / 2;

        if (deal(l, p->prefix, mid, w) < p->count)
            low = mid;
        else
            high = mid;
    }
    clamp(w, l->ranks);
}

void hth_partition_speed(const struct hth_prefill_load *l, double *w)
{
    for (uint32_t r = 0; r < l->ranks; r++)
        w[r] = l->device[r].row_s > 0 ? 1 / l->device[r].row_s : 0;
    clamp(w, l->ranks);
}

/* ---- search ---------------------------------------------------------------
 */

static double time_of(const struct hth_prefill_load *l,
                      const struct hth_prompt *p, const double *w)
{
    struct hth_prefill_time t;
    struct hth_spread s;

    if (hth_spread_make(&s, HTH_PREFILL_KVR, w, l->ranks, p->count) != HTH_OK)
        return INFINITY;
    hth_prefill_time_split(l, p, &s, &t);
    return t.first_token_s;
}

struct search {
    const struct hth_prefill_load *l;
    const struct hth_prompt *p;
    double *w;
    double best;
};

/* Move `step` of the prompt from one rank to another, if that is better. */
static bool try_move(struct search *s, double step, uint32_t from, uint32_t to)
{
    double t;

    if (from == to || s->w[from] - step < HTH_PREFILL_SHARE_MIN / s->l->ranks)
        return false;
    s->w[from] -= step;
    s->w[to] += step;
    t = time_of(s->l, s->p, s->w);
    if (t < s->best) {
        s->best = t;
        return true;
    }
    s->w[from] += step;
    s->w[to] -= step;
    return false;
}

#define STRIDE_FIRST 0.08
#define STRIDE_LAST 0.001
#define MOVES_MAX 64u /* at one stride */

static double descend(const struct hth_prefill_load *l,
                      const struct hth_prompt *p, double *w)
{
    struct search s = {l, p, w, time_of(l, p, w)};

    for (double step = STRIDE_FIRST; step >= STRIDE_LAST; step /= 2) {
        bool moved = true;

        for (uint32_t i = 0; moved && i < MOVES_MAX; i++) {
            moved = false;
            for (uint32_t a = 0; a < l->ranks; a++)
                for (uint32_t b = 0; b < l->ranks; b++)
                    moved |= try_move(&s, step, a, b);
        }
    }
    return s.best;
}

double hth_partition_search(const struct hth_prefill_load *l,
                            const struct hth_prompt *p, double *w)
{
    double even[HTH_RANKS_MAX], best, other;

    for (uint32_t r = 0; r < l->ranks; r++)
        even[r] = 1.0 / l->ranks;
    hth_partition_seed(l, p, w);
    best = descend(l, p, w);
    other = descend(l, p, even);
    if (other < best) {
        memcpy(w, even, l->ranks * sizeof *w);
        best = other;
    }
    return best;
}

/* ---- table ----------------------------------------------------------------
 */

static uint32_t place_of(const struct hth_partition_table *t, uint32_t count)
{
    uint32_t i = 0;

    while (i < t->entries && t->count[i] < count)
        i++;
    return i;
}

static void erase(struct hth_partition_table *t, uint32_t at)
{
    uint32_t behind = t->entries - at - 1;

    memmove(t->count + at, t->count + at + 1, behind * sizeof *t->count);
    memmove(t->weight + at, t->weight + at + 1, behind * sizeof *t->weight);
    t->entries--;
}

/* The inner entry whose neighbours are nearest to each other. */
static uint32_t least_missed(const struct hth_partition_table *t)
{
    uint32_t best = 1;
    double least = INFINITY;

    for (uint32_t i = 1; i + 1 < t->entries; i++) {
        double gap = log((double)t->count[i + 1] / t->count[i - 1]);

        if (gap < least) {
            least = gap;
            best = i;
        }
    }
    return best;
}

void hth_partition_learn(struct hth_partition_table *t, uint32_t count,
                         const double *w)
{
    uint32_t at, behind;

    if (count == 0)
        return;
    at = place_of(t, count);
    if (at < t->entries && t->count[at] == count) {
        memcpy(t->weight[at], w, t->ranks * sizeof *w);
        return;
    }
    if (t->entries == HTH_PARTITION_TABLE_MAX) {
        erase(t, least_missed(t));
        at = place_of(t, count);
    }
    behind = t->entries - at;
    memmove(t->count + at + 1, t->count + at, behind * sizeof *t->count);
    memmove(t->weight + at + 1, t->weight + at, behind * sizeof *t->weight);
    t->count[at] = count;
    memcpy(t->weight[at], w, t->ranks * sizeof *w);
    t->entries++;
}

/* Neighbours further apart than this factor say too little about what lies
 * between them. */
#define TABLE_GAP_MAX 4.0

bool hth_partition_lookup(const struct hth_partition_table *t, uint32_t count,
                          double *w)
{
    uint32_t at = place_of(t, count);
    double part;

    if (at < t->entries && t->count[at] == count) {
        memcpy(w, t->weight[at], t->ranks * sizeof *w);
        return true;
    }
    if (at == 0 || at == t->entries ||
        t->count[at] > TABLE_GAP_MAX * t->count[at - 1])
        return false;
    part = log((double)count / t->count[at - 1]) /
           log((double)t->count[at] / t->count[at - 1]);
    for (uint32_t r = 0; r < t->ranks; r++)
        w[r] = (1 - part) * t->weight[at - 1][r] + part * t->weight[at][r];
    return true;
}
