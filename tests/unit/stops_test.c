/* stops_test.c - against a search that looks at everything every time. */
#include <criterion/criterion.h>
#include <string.h>

#include "base/rng.h"
#include "model/stops.h"

struct naive {
    struct hth_str stops[HTH_STOPS_MAX];
    size_t count;
};

static bool ends_with(const char *text, size_t n, const char *end, size_t m)
{
    return n >= m && memcmp(text + n - m, end, m) == 0;
}

/* How much of text[n] may be shown; *matched is the stop string in it. */
static size_t naive_shown(const struct naive *v, const char *text, size_t n,
                          int *matched)
{
    size_t end, i, k, held = 0;

    *matched = HTH_STOPS_NONE;
    for (end = 1; end <= n; end++) {
        for (i = 0; i < v->count; i++)
            if (ends_with(text, end, v->stops[i].p, v->stops[i].n) &&
                (*matched < 0 || v->stops[i].n > v->stops[*matched].n))
                *matched = (int)i;
        if (*matched >= 0)
            return end - v->stops[*matched].n;
    }
    for (i = 0; i < v->count; i++)
        for (k = 1; k < v->stops[i].n; k++)
            if (k > held && ends_with(text, n, v->stops[i].p, k))
                held = k;
    return n - held;
}

static size_t random_text(struct hth_rng *rng, char *dst, size_t max)
{
    size_t n = 1 + hth_rng_u64(rng) % max, i;

    for (i = 0; i < n; i++)
        dst[i] = "aab"[hth_rng_u64(rng) % 3];
    return n;
}

/* After each piece exactly what may be shown is shown: no byte too many, and
 * none held without need. */
static void check_random(struct hth_rng *rng)
{
    static char stops[HTH_STOPS_MAX][8], text[200];
    struct naive v = {.count = hth_rng_u64(rng) % 5};
    struct hth_stops s;
    struct hth_buf out;
    size_t i, n, at, piece, want;
    int matched, got = HTH_STOPS_NONE;

    for (i = 0; i < v.count; i++)
        v.stops[i] = (struct hth_str){stops[i], random_text(rng, stops[i], 8)};
    n = random_text(rng, text, sizeof text);
    cr_assert_eq(hth_stops_init(&s, v.stops, v.count, NULL), 0);
    hth_buf_init(&out, 4096);
    for (at = 0; at < n; at += piece) {
        piece = 1 + hth_rng_u64(rng) % 5;
        if (piece > n - at)
            piece = n - at;
        got = hth_stops_push(&s, text + at, piece, &out);
        want = naive_shown(&v, text, at + piece, &matched);
        cr_assert_eq(out.len, want, "%zu shown instead of %zu", out.len, want);
        cr_assert(want == 0 || memcmp(out.data, text, want) == 0);
        if (matched >= 0)
            cr_assert_eq(v.stops[got].n, v.stops[matched].n);
        cr_assert_eq(got < 0, matched < 0);
    }
    hth_stops_finish(&s, &out);
    cr_assert_eq(out.len, got < 0 ? n : want);
    hth_buf_fini(&out);
}

Test(stops, same_as_looking_every_time)
{
    struct hth_rng rng;
    int i;

    hth_rng_init(&rng, 5);
    for (i = 0; i < 20000; i++)
        check_random(&rng);
}

static void check(const char *stop, const char *text, const char *want,
                  int matched)
{
    struct hth_str texts[2] = {{"\n\nUser:", 7}, {stop, strlen(stop)}};
    struct hth_stops s;
    struct hth_buf out;
    size_t i;

    hth_buf_init(&out, 4096);
    cr_assert_eq(hth_stops_init(&s, texts, 2, NULL), 0);
    for (i = 0; text[i] != '\0'; i++)
        hth_stops_push(&s, text + i, 1, &out);
    cr_assert_eq(hth_stops_push(&s, "", 0, &out), matched);
    hth_stops_finish(&s, &out);
    cr_assert_str_eq(hth_buf_cstr(&out), want);
    hth_buf_fini(&out);
}

Test(stops, by_hand)
{
    check("END", "one EN two END three", "one EN two ", 1);
    check("END", "one\n\nUser: two", "one", 0);
    check("aab", "aaab", "a", 1);
    check("User", "\n\nUser:", "\n\n", 1); /* completed before the longer */
    check("er:", "\n\nUser:", "", 0);      /* by the same byte: the longest */
    check("\xC3\xBC", "\xC3\xA4\xC3\xBC", "\xC3\xA4", 1);
    check("END", "nothing\n\nUse", "nothing\n\nUse", HTH_STOPS_NONE);
}

Test(stops, limits)
{
    static char text[HTH_STOP_BYTES_MAX + 1];
    struct hth_str many[HTH_STOPS_MAX + 1];
    struct hth_stops s;
    struct hth_err err;
    struct hth_buf out;
    size_t i;

    memset(text, 'x', sizeof text);
    for (i = 0; i <= HTH_STOPS_MAX; i++)
        many[i] = (struct hth_str){text, HTH_STOP_BYTES_MAX - i};
    cr_assert_eq(hth_stops_init(&s, many, HTH_STOPS_MAX + 1, &err), HTH_ELIMIT);
    many[1].n = 0;
    cr_assert_eq(hth_stops_init(&s, many, 2, &err), HTH_EINVAL);
    many[1].n = HTH_STOP_BYTES_MAX + 1;
    cr_assert_eq(hth_stops_init(&s, many, 2, &err), HTH_ELIMIT);

    /* The longest allowed, one byte short of matching, then matching. */
    hth_buf_init(&out, 4096);
    cr_assert_eq(hth_stops_init(&s, many, 1, &err), 0);
    hth_stops_push(&s, text, HTH_STOP_BYTES_MAX - 1, &out);
    hth_stops_push(&s, "y", 1, &out);
    cr_assert_eq(out.len, HTH_STOP_BYTES_MAX);
    cr_assert_eq(hth_stops_push(&s, text, HTH_STOP_BYTES_MAX, &out), 0);
    cr_assert_eq(out.len, HTH_STOP_BYTES_MAX);
    hth_buf_fini(&out);
}
