/* spread_test.c - how tokens are dealt to ranks and where blocks travel: every
 * token once, round robin where shares are equal, evenness of causal work,
 * bytes by formula and by walking the messages. */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "scheduler/spread.h"

#define MODES 5u
static const uint32_t modes[MODES] = {HTH_PREFILL_RING, HTH_PREFILL_STRIPED,
                                      HTH_PREFILL_ZIGZAG, HTH_PREFILL_KVR,
                                      HTH_PREFILL_SINGLE};
static const double even[8] = {1, 1, 1, 1, 1, 1, 1, 1};

static struct hth_spread make(uint32_t mode, const double *w, uint32_t ranks,
                              uint32_t count)
{
    struct hth_spread s;

    cr_assert_eq(hth_spread_make(&s, mode, w, ranks, count), HTH_OK);
    cr_assert(count == 0 || hth_spread_valid(&s));
    return s;
}

/* Every token has one owner, rows ascend, and the last token is where
 * hth_spread_last() says. */
static void check_cover(const struct hth_spread *s)
{
    uint8_t seen[512] = {0};
    uint32_t pos[512], total = 0;

    for (uint32_t r = 0; r < s->ranks; r++) {
        hth_spread_positions(s, r, pos);
        cr_assert_eq(hth_spread_before(s, r), total);
        for (uint32_t i = 0; i < s->rows[r]; i++) {
            cr_assert_lt(pos[i], s->count);
            cr_assert_eq(seen[pos[i]]++, 0);
            cr_assert(i == 0 || pos[i] > pos[i - 1]);
            if (pos[i] == s->count - 1)
                cr_assert_eq(hth_spread_last(s), r, "%s",
                             hth_prefill_mode_text(s->mode));
        }
        total += s->rows[r];
    }
    cr_assert_eq(total, s->count);
}

Test(spread, every_token_has_one_owner)
{
    static const double odd[5] = {0.3, 0, 1.7, 0.9, 0.05};

    for (uint32_t m = 0; m < MODES; m++)
        for (uint32_t p = 1; p <= 5; p++)
            for (uint32_t n = 1; n < 70; n++) {
                struct hth_spread s = make(modes[m], even, p, n);

                check_cover(&s);
                if (p < 3)
                    continue;
                s = make(modes[m], odd, p, n);
                check_cover(&s);
            }
}

Test(spread, equal_stripes_are_round_robin)
{
    uint32_t pos[64];

    for (uint32_t p = 2; p <= 4; p++)
        for (uint32_t n = 1; n < 60; n++) {
            struct hth_spread s = make(HTH_PREFILL_STRIPED, even, p, n);

            for (uint32_t r = 0; r < p; r++) {
                hth_spread_positions(&s, r, pos);
                for (uint32_t i = 0; i < s.rows[r]; i++)
                    cr_assert_eq(pos[i], i * p + r, "p %u n %u", p, n);
            }
            cr_assert_eq(hth_spread_last(&s), (n - 1) % p);
        }
}

/* Pairs that causality leaves, counted one by one. */
Test(spread, pairs_agree_with_counting)
{
    uint32_t q[64], k[64], scratch[128];

    for (uint32_t m = 0; m < MODES; m++) {
        struct hth_spread s = make(modes[m], even, 3, 47);
        uint64_t all = 0;

        for (uint32_t a = 0; a < 3; a++)
            for (uint32_t b = 0; b < 3; b++) {
                uint64_t want = 0, got = hth_spread_pairs(&s, a, b, scratch);

                hth_spread_positions(&s, a, q);
                hth_spread_positions(&s, b, k);
                for (uint32_t i = 0; i < s.rows[a]; i++)
                    for (uint32_t j = 0; j < s.rows[b]; j++)
                        want += k[j] <= q[i];
                cr_assert_eq(got, want);
                cr_assert_eq(got > 0, hth_spread_sees(&s, a, b) && want > 0);
                all += got;
            }
        cr_assert_eq(all, 47u * 48u / 2u);
    }
}

/* The work of every round, most over least. With c rows each, striped has
 * c (c + 1) / 2 against c (c - 1) / 2 pairs: (c + 1) / (c - 1), which is a
 * little more than 1 + 2 / c; zigzag stays within 1 + 2 / c. */
static double evenness(uint32_t mode, uint32_t p, uint32_t c)
{
    struct hth_spread s = make(mode, even, p, p * c);
    uint32_t *scratch = calloc(2 * c, sizeof *scratch);
    uint64_t least = UINT64_MAX, most = 0;

    for (uint32_t j = 0; j < p; j++)
        for (uint32_t round = 0; round < p; round++) {
            uint64_t n = hth_spread_pairs(&s, j, (j + p - round) % p, scratch);

            least = n < least ? n : least;
            most = n > most ? n : most;
        }
    free(scratch);
    return (double)most / (double)least;
}

Test(spread, causal_work_is_even)
{
    for (uint32_t p = 2; p <= 4; p++)
        for (uint32_t c = 8; c <= 512; c *= 4) {
            cr_assert_leq(evenness(HTH_PREFILL_STRIPED, p, c),
                          (c + 1.0) / (c - 1.0) + 1e-9);
            cr_assert_leq(evenness(HTH_PREFILL_ZIGZAG, p, c),
                          1 + 2.0 / c + 1e-9, "p %u c %u: %f", p, c,
                          evenness(HTH_PREFILL_ZIGZAG, p, c));
        }
}

/* The work of a round, all ranks together, most over least round; the longest
 * rank of each round is as even. */
Test(spread, rounds_are_even)
{
    for (uint32_t m = HTH_PREFILL_STRIPED; m <= HTH_PREFILL_ZIGZAG; m++)
        for (uint32_t p = 2; p <= 4; p++)
            for (uint32_t c = 4; c <= 512; c *= 2) {
                struct hth_spread s = make(m, even, p, p * c);
                uint32_t *scratch = calloc(2 * c, sizeof *scratch);
                uint64_t all[2] = {UINT64_MAX, 0}, one[2] = {UINT64_MAX, 0};

                for (uint32_t round = 0; round < p; round++) {
                    uint64_t sum = 0, most = 0;

                    for (uint32_t j = 0; j < p; j++) {
                        uint64_t n = hth_spread_pairs(
                            &s, j, (j + p - round) % p, scratch);

                        sum += n;
                        most = n > most ? n : most;
                    }
                    all[0] = sum < all[0] ? sum : all[0];
                    all[1] = sum > all[1] ? sum : all[1];
                    one[0] = most < one[0] ? most : one[0];
                    one[1] = most > one[1] ? most : one[1];
                }
                free(scratch);
                cr_assert_leq((double)all[1] / (double)all[0], 1 + 2.0 / c,
                              "%s p %u c %u", hth_prefill_mode_text(m), p, c);
                cr_assert_leq((double)one[1] / (double)one[0], 1 + 2.0 / c);
            }
}

/* The attention phase's critical path: in each round all wait for the one
 * with most pairs. 16384 tokens on four ranks. */
static uint64_t critical_path(uint32_t mode, uint32_t p, uint32_t n)
{
    struct hth_spread s = make(mode, even, p, n);
    uint32_t *scratch = calloc(2 * n, sizeof *scratch);
    uint64_t path = 0;

    for (uint32_t round = 0; round < p; round++) {
        uint64_t most = 0;

        for (uint32_t j = 0; j < p; j++) {
            uint64_t w = hth_spread_pairs(&s, j, (j + p - round) % p, scratch);

            most = w > most ? w : most;
        }
        path += most;
    }
    free(scratch);
    return path;
}

Test(spread, striped_attention_beats_ring)
{
    double ring = (double)critical_path(HTH_PREFILL_RING, 4, 16384);

    cr_assert_geq(ring / (double)critical_path(HTH_PREFILL_STRIPED, 4, 16384),
                  1.5);
    cr_assert_geq(ring / (double)critical_path(HTH_PREFILL_ZIGZAG, 4, 16384),
                  1.5);
}

/* Walk the messages as ranks send them: every block comes to every rank that
 * sees it, exactly once, from the rank before, which has it. */
static void check_routes(const struct hth_spread *s)
{
    for (uint32_t r = 0; r < s->ranks; r++) {
        uint32_t from[HTH_RANKS_MAX], came[HTH_RANKS_MAX] = {0};
        uint32_t n = hth_spread_arrivals(s, r, from);
        uint32_t before = (r + s->ranks - 1) % s->ranks;
        uint64_t rows = 0;

        for (uint32_t i = 0; i < n; i++) {
            cr_assert_neq(from[i], r);
            cr_assert_eq(came[from[i]]++, 0u);
            rows += s->rows[from[i]];
            cr_assert(from[i] == before ||
                      hth_spread_goes_on(s, from[i], before));
        }
        for (uint32_t src = 0; src < s->ranks; src++)
            if (src != r && hth_spread_sees(s, r, src))
                cr_assert_eq(came[src], 1u);
        cr_assert_eq(rows, s->ranks > 1 ? hth_spread_link_rows(s, before) : 0);
        cr_assert_eq(rows + hth_spread_missed_rows(s, r) + s->rows[r],
                     s->count);
    }
}

Test(spread, blocks_reach_who_needs_them)
{
    static const double odd[5] = {0.3, 0, 1.7, 0.9, 0.4};

    for (uint32_t m = 0; m < MODES; m++)
        for (uint32_t p = 1; p <= 5; p++)
            for (uint32_t n = 1; n < 40; n++) {
                struct hth_spread s = make(modes[m], even, p, n);

                check_routes(&s);
                if (p < 3)
                    continue;
                s = make(modes[m], odd, p, n);
                check_routes(&s);
            }
}

/* Bytes on each link as the papers count them. */
Test(spread, link_rows_follow_the_formulas)
{
    static const double w[4] = {4, 3, 2, 1};
    struct hth_spread s = make(HTH_PREFILL_KVR, w, 4, 1000);

    cr_assert_eq(hth_spread_link_rows(&s, 0), 400u);
    cr_assert_eq(hth_spread_link_rows(&s, 1), 700u);
    cr_assert_eq(hth_spread_link_rows(&s, 2), 900u);
    cr_assert_eq(hth_spread_link_rows(&s, 3), 0u);
    cr_assert_eq(hth_spread_missed_rows(&s, 0), 600u);
    cr_assert_eq(hth_spread_missed_rows(&s, 3), 0u);
    s = make(HTH_PREFILL_RING, even, 4, 1000);
    cr_assert_eq(hth_spread_link_rows(&s, 0) + hth_spread_link_rows(&s, 1) +
                     hth_spread_link_rows(&s, 2),
                 1000u * 3 / 2);
    for (uint32_t m = HTH_PREFILL_STRIPED; m <= HTH_PREFILL_ZIGZAG; m++) {
        s = make(m, w, 4, 1000);
        for (uint32_t r = 0; r < 4; r++) {
            cr_assert_eq(hth_spread_link_rows(&s, r),
                         1000u - s.rows[(r + 1) % 4]);
            cr_assert_eq(hth_spread_missed_rows(&s, r), 0u);
        }
    }
}

Test(spread, refuses_what_means_nothing)
{
    static const double zero[2] = {0, 0}, nan[2] = {1, 0.0 / 0.0},
                        less[2] = {1, -1};
    struct hth_spread s;

    cr_assert_eq(hth_spread_make(&s, HTH_PREFILL_TP, even, 2, 9), HTH_EINVAL);
    cr_assert_eq(hth_spread_make(&s, HTH_PREFILL_KVR, zero, 2, 9), HTH_EINVAL);
    cr_assert_eq(hth_spread_make(&s, HTH_PREFILL_KVR, nan, 2, 9), HTH_EINVAL);
    cr_assert_eq(hth_spread_make(&s, HTH_PREFILL_KVR, less, 2, 9), HTH_EINVAL);
    cr_assert_eq(hth_spread_make(&s, HTH_PREFILL_KVR, even, 0, 9), HTH_EINVAL);
    s = make(HTH_PREFILL_KVR, even, 2, 9);
    s.rows[1]++;
    cr_assert(!hth_spread_valid(&s));
    s.rows[1] = UINT32_MAX;
    cr_assert(!hth_spread_valid(&s));
    s.mode = 77;
    cr_assert(!hth_spread_valid(&s));
    cr_assert_str_eq(hth_prefill_mode_text(77), "unknown");
}
