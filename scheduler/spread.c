/* spread.c - see spread.h. Fails only on weights that mean nothing. */
#include "scheduler/spread.h"

#include <math.h>

const char *hth_prefill_mode_text(uint32_t mode)
{
    static const char *const text[] = {
#define X(name, number, text) [number] = text,
        HTH_PREFILL_MAP(X)
#undef X
    };

    return mode < HTH_PREFILL_MODES ? text[mode] : "unknown";
}

bool hth_prefill_splits(uint32_t mode)
{
    return mode >= HTH_PREFILL_RING && mode <= HTH_PREFILL_SINGLE;
}

/* Blocks in one piece, in the order of ranks. */
static bool contiguous(const struct hth_spread *s)
{
    return s->mode != HTH_PREFILL_STRIPED && s->mode != HTH_PREFILL_ZIGZAG;
}

/* ---- shares -------------------------------------------------------------- */

static bool weights_ok(const double *w, uint32_t n, double *sum)
{
    *sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(w[i]) || w[i] < 0)
            return false;
        *sum += w[i];
    }
    return isfinite(*sum) && *sum > 0;
}

/* The rank that is owed most; ties go to the lower one. */
static uint32_t most_owed(const struct hth_spread *s, const double *w,
                          double sum)
{
    uint32_t best = 0;
    double most = -INFINITY;

    for (uint32_t r = 0; r < s->ranks; r++) {
        double owed = s->count * (w[r] / sum) - s->rows[r];

        if (w[r] > 0 && owed > most) {
            most = owed;
            best = r;
        }
    }
    return best;
}

int hth_spread_make(struct hth_spread *out, uint32_t mode, const double *w,
                    uint32_t ranks, uint32_t count)
{
    struct hth_spread s = {.mode = mode, .ranks = ranks, .count = count};
    uint32_t dealt = 0;
    double sum;

    if (!hth_prefill_splits(mode) || ranks < 1 || ranks > HTH_RANKS_MAX ||
        count > HTH_CTX_MAX || !weights_ok(w, ranks, &sum))
        return HTH_EINVAL;
    for (uint32_t r = 0; r < ranks; r++) {
        s.rows[r] = (uint32_t)floor(count * (w[r] / sum));
        if (s.rows[r] > count - dealt)
            s.rows[r] = count - dealt;
        dealt += s.rows[r];
    }
    for (; dealt < count; dealt++)
        s.rows[most_owed(&s, w, sum)]++;
    *out = s;
    return HTH_OK;
}

bool hth_spread_valid(const struct hth_spread *s)
{
    uint64_t sum = 0;

    if (!hth_prefill_splits(s->mode) || s->ranks < 1 ||
        s->ranks > HTH_RANKS_MAX || s->count < 1 || s->count > HTH_CTX_MAX)
        return false;
    for (uint32_t r = 0; r < s->ranks; r++)
        sum += s->rows[r];
    return sum == s->count;
}

/* ---- positions ----------------------------------------------------------- */

uint32_t hth_spread_before(const struct hth_spread *s, uint32_t rank)
{
    uint32_t n = 0;

    for (uint32_t r = 0; r < rank; r++)
        n += s->rows[r];
    return n;
}

/* Whose turn is it? The rank that has had the smallest part of its rows:
 * dealt / rows, compared as products. Equal shares make this round robin. */
static uint32_t turn(const struct hth_spread *s, const uint32_t *dealt)
{
    uint32_t best = s->ranks;

    for (uint32_t r = 0; r < s->ranks; r++) {
        if (dealt[r] >= s->rows[r])
            continue;
        if (best == s->ranks || (uint64_t)dealt[r] * s->rows[best] <
                                    (uint64_t)dealt[best] * s->rows[r])
            best = r;
    }
    return best;
}

static void striped_positions(const struct hth_spread *s, uint32_t rank,
                              uint32_t *pos)
{
    uint32_t dealt[HTH_RANKS_MAX] = {0};

    for (uint32_t t = 0; t < s->count; t++) {
        uint32_t r = turn(s, dealt);

        if (r == rank)
            pos[dealt[r]] = t;
        dealt[r]++;
    }
}

static uint32_t early_half(const struct hth_spread *s, uint32_t rank)
{
    return s->rows[rank] - s->rows[rank] / 2;
}

/* Chunks 0, 1, .. p-1, p-1, .. 1, 0. */
static void zigzag_positions(const struct hth_spread *s, uint32_t rank,
                             uint32_t *pos)
{
    uint32_t early = early_half(s, rank), at = 0, i;

    for (uint32_t r = 0; r < rank; r++)
        at += early_half(s, r);
    for (i = 0; i < early; i++)
        pos[i] = at + i;
    at = s->count;
    for (uint32_t r = 0; r <= rank; r++)
        at -= s->rows[r] - early_half(s, r);
    for (; i < s->rows[rank]; i++)
        pos[i] = at + i - early;
}

void hth_spread_positions(const struct hth_spread *s, uint32_t rank,
                          uint32_t *pos)
{
    if (s->mode == HTH_PREFILL_STRIPED)
        striped_positions(s, rank, pos);
    else if (s->mode == HTH_PREFILL_ZIGZAG)
        zigzag_positions(s, rank, pos);
    else
        for (uint32_t i = 0; i < s->rows[rank]; i++)
            pos[i] = hth_spread_before(s, rank) + i;
}

/* In a striped spread the rank whose last row is dealt last: the one turn()
 * would leave over. */
static uint32_t striped_last(const struct hth_spread *s)
{
    uint32_t dealt[HTH_RANKS_MAX] = {0}, last = 0;

    for (uint32_t t = 0; t < s->count; t++) {
        last = turn(s, dealt);
        dealt[last]++;
    }
    return last;
}

uint32_t hth_spread_last(const struct hth_spread *s)
{
    uint32_t r;

    if (s->mode == HTH_PREFILL_STRIPED)
        return striped_last(s);
    if (s->mode == HTH_PREFILL_ZIGZAG) {
        for (r = 0; r < s->ranks; r++)
            if (s->rows[r] / 2 > 0)
                return r;
    }
    for (r = s->ranks; r > 0 && s->rows[r - 1] == 0; r--)
        ;
    return r > 0 ? r - 1 : 0;
}

/* ---- routes -------------------------------------------------------------- */

bool hth_spread_sees(const struct hth_spread *s, uint32_t dst, uint32_t src)
{
    if (s->rows[src] == 0 || s->rows[dst] == 0)
        return false;
    return !contiguous(s) || src <= dst;
}

/* Going round from src + 1, does any rank from `dst` on (until src comes
 * again) see it? */
static bool wanted_from(const struct hth_spread *s, uint32_t src, uint32_t dst)
{
    for (uint32_t r = dst; r != src; r = (r + 1) % s->ranks)
        if (hth_spread_sees(s, r, src))
            return true;
    return false;
}

bool hth_spread_passes(const struct hth_spread *s, uint32_t src, uint32_t dst)
{
    return src != dst && wanted_from(s, src, dst);
}

bool hth_spread_goes_on(const struct hth_spread *s, uint32_t src, uint32_t dst)
{
    uint32_t next = (dst + 1) % s->ranks;

    return next != src && hth_spread_passes(s, src, next);
}

uint32_t hth_spread_arrivals(const struct hth_spread *s, uint32_t rank,
                             uint32_t from[HTH_RANKS_MAX])
{
    uint32_t n = 0;

    for (uint32_t i = 1; i < s->ranks; i++) {
        uint32_t hops = s->mode == HTH_PREFILL_KVR ? s->ranks - i : i;
        uint32_t src = (rank + s->ranks - hops) % s->ranks;

        if (hth_spread_passes(s, src, rank))
            from[n++] = src;
    }
    return n;
}

/* ---- counts -------------------------------------------------------------- */

uint64_t hth_spread_pairs(const struct hth_spread *s, uint32_t q_rank,
                          uint32_t k_rank, uint32_t *scratch)
{
    uint32_t *q = scratch, *k = scratch + s->rows[q_rank], seen = 0;
    uint64_t pairs = 0;

    hth_spread_positions(s, q_rank, q);
    hth_spread_positions(s, k_rank, k);
    for (uint32_t i = 0; i < s->rows[q_rank]; i++) {
        while (seen < s->rows[k_rank] && k[seen] <= q[i])
            seen++;
        pairs += seen;
    }
    return pairs;
}

uint64_t hth_spread_link_rows(const struct hth_spread *s, uint32_t rank)
{
    uint32_t next = (rank + 1) % s->ranks;
    uint64_t rows = 0;

    for (uint32_t src = 0; src < s->ranks; src++)
        if (hth_spread_passes(s, src, next))
            rows += s->rows[src];
    return rows;
}

uint64_t hth_spread_missed_rows(const struct hth_spread *s, uint32_t rank)
{
    uint64_t rows = 0;

    for (uint32_t src = 0; src < s->ranks; src++)
        if (src != rank && !hth_spread_passes(s, src, rank))
            rows += s->rows[src];
    return rows;
}
