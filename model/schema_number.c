/* schema_number.c - numbers within bounds, as digits. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/schema_internal.h"

/* What every program reads exactly. */
#define WHOLE_MAX 9007199254740991LL
#define DIGITS_MAX 20
#define FRACTION "(\".\" [0-9]{1,6})?"

static void put_digit_class(struct hth_buf *b, char from, char to)
{
    if (from == to)
        hth_put_printf(b, "\"%c\" ", from);
    else
        hth_put_printf(b, "[%c-%c] ", from, to);
}

static void put_any(struct hth_buf *b, size_t digits)
{
    if (digits > 0)
        hth_put_printf(b, "[0-9]{%zu} ", digits);
}

static bool all(const char *text, size_t n, char c)
{
    for (size_t i = 0; i < n; i++)
        if (text[i] != c)
            return false;
    return true;
}

/* Numbers of n digits from low to high: the digits they share, then by the
 * first that differs: low's and what may follow it, those between, high's. */
static void put_width(struct hth_buf *b, const char *low, const char *high,
                      size_t n)
{
    static const char nines[] = "99999999999999999999";
    static const char zeros[] = "00000000000000000000";
    bool low_open, high_open;
    char from, to;

    for (; n > 0 && *low == *high; low++, high++, n--)
        put_digit_class(b, *low, *low);
    if (n == 0)
        return;
    low_open = all(low + 1, n - 1, '0');
    high_open = all(high + 1, n - 1, '9');
    from = low_open ? *low : (char)(*low + 1);
    to = high_open ? *high : (char)(*high - 1);
    hth_put_printf(b, "(");
    if (!low_open) {
        put_digit_class(b, *low, *low);
        put_width(b, low + 1, nines, n - 1);
    }
    if (from <= to) {
        hth_put_printf(b, "%s", low_open ? "" : "| ");
        put_digit_class(b, from, to);
        put_any(b, n - 1);
    }
    if (!high_open) {
        hth_put_printf(b, "| ");
        put_digit_class(b, *high, *high);
        put_width(b, zeros, high + 1, n - 1);
    }
    hth_put_printf(b, ") ");
}

/* Whole numbers from low to high, 0 <= low <= high, without leading zeros:
 * one alternative per number of digits. */
static void put_whole(struct hth_buf *b, int64_t low, int64_t high)
{
    bool first = true;

    hth_put_printf(b, "(");
    while (low <= high) {
        char from[DIGITS_MAX + 2], to[DIGITS_MAX + 2];
        int64_t top = 9;
        int n;

        while (top < low)
            top = top * 10 + 9;
        if (top > high)
            top = high;
        n = snprintf(from, sizeof from, "%lld", (long long)low);
        snprintf(to, sizeof to, "%lld", (long long)top);
        hth_put_printf(b, "%s", first ? "" : "| ");
        put_width(b, from, to, (size_t)n);
        first = false;
        low = top + 1;
    }
    hth_put_printf(b, ") ");
}

/* Alternatives after the first are set off by a bar. */
static void bar(struct hth_buf *b, bool *first)
{
    hth_put_printf(b, "%s", *first ? "" : "| ");
    *first = false;
}

static void put_integers(struct hth_buf *b, int64_t low, int64_t high)
{
    bool first = true;

    if (low < 0) {
        bar(b, &first);
        hth_put_printf(b, "\"-\" ");
        put_whole(b, high < 0 ? -high : 1, -low);
    }
    if (high >= 0) {
        bar(b, &first);
        put_whole(b, low > 0 ? low : 0, high);
    }
}

/* Numbers between low and high where no whole number lies between: the digits
 * behind the point from a to b, of as few places as hold one. */
static bool put_between(struct hth_buf *b, double low, double high,
                        const bool open[2])
{
    bool negative = high <= 0;
    double from = negative ? -high : low, to = negative ? -low : high;
    bool from_open = open[negative], to_open = open[!negative];
    double whole = floor(from);

    for (int places = 1; places <= 9; places++) {
        double scale = pow(10, places);
        double first = ceil((from - whole) * scale);
        double last = floor((to - whole) * scale);
        char x[32], y[32];

        if (from_open && first / scale + whole <= from)
            first++;
        if (to_open && last / scale + whole >= to)
            last--;
        if (first > last || last >= scale || first < 0)
            continue;
        snprintf(x, sizeof x, "%0*lld", places, (long long)first);
        snprintf(y, sizeof y, "%0*lld", places, (long long)last);
        hth_put_printf(b, "\"%s%lld.\" ", negative ? "-" : "",
                       (long long)whole);
        put_width(b, x, y, (size_t)places);
        return true;
    }
    return false;
}

/* A number with a fraction lies between its whole part and the next one away
 * from zero, so the outermost whole number takes no fraction. */
static void put_reals(struct hth_schema *s, struct hth_buf *b, double low,
                      double high, const bool open[2])
{
    double from = ceil(low), to = floor(high);
    bool first = true;

    if (open[0] && from <= low)
        from++;
    if (open[1] && to >= high)
        to--;
    if (from > to) {
        if (!put_between(b, low, high, open))
            hth_schema__fail(s, HTH_EINVAL, "no number from %g to %g", low,
                             high);
        return;
    }
    if (from < 0) {
        double near = to < 0 ? -to : 0;

        if (-from > near) {
            bar(b, &first);
            hth_put_printf(b, "\"-\" ");
            put_whole(b, (int64_t)near, (int64_t)-from - 1);
            hth_put_printf(b, FRACTION " ");
        }
        bar(b, &first);
        hth_put_printf(b, "\"%lld\" ", (long long)from);
    }
    if (to >= 0) {
        double near = from > 0 ? from : 0;

        if (to > near) {
            bar(b, &first);
            put_whole(b, (int64_t)near, (int64_t)to - 1);
            hth_put_printf(b, FRACTION " ");
        }
        bar(b, &first);
        hth_put_printf(b, "\"%lld\" ", (long long)to);
    }
}

struct bounds {
    double low, high;
    bool open[2]; /* the bound itself is not included */
    bool any;
};

static void read_bound(struct hth_schema *s, const json_t *schema,
                       const char *key, struct bounds *out)
{
    const json_t *v = json_object_get(schema, key);
    bool upper = strstr(key, "aximum") != NULL, open = key[0] == 'e';
    double d;

    if (v == NULL)
        return;
    d = json_number_value(v);
    if (!json_is_number(v) || !(fabs(d) <= (double)WHOLE_MAX)) {
        hth_schema__fail(s, HTH_EINVAL, "%s is no number up to 2^53", key);
        return;
    }
    out->any = true;
    if (upper ? d < out->high || (d == out->high && open)
              : d > out->low || (d == out->low && open)) {
        *(upper ? &out->high : &out->low) = d;
        out->open[upper] = open;
    }
}

static void put_bounded_integer(struct hth_schema *s, struct bounds v,
                                struct hth_buf *body)
{
    double low = ceil(v.low), high = floor(v.high);

    if (v.open[0] && low <= v.low)
        low++;
    if (v.open[1] && high >= v.high)
        high--;
    if (low > high)
        hth_schema__fail(s, HTH_EINVAL, "no whole number from %g to %g", v.low,
                         v.high);
    else
        put_integers(body, (int64_t)low, (int64_t)high);
}

void hth_schema__number(struct hth_schema *s, const json_t *schema,
                        bool integer, struct hth_buf *body)
{
    static const char *const keys[] = {"minimum", "maximum", "exclusiveMinimum",
                                       "exclusiveMaximum"};
    const json_t *step = json_object_get(schema, "multipleOf");
    struct bounds v = {.low = -(double)WHOLE_MAX, .high = (double)WHOLE_MAX};

    if (step != NULL && !(integer && json_number_value(step) == 1))
        hth_schema__fail(s, HTH_EUNSUPPORTED, "multipleOf is not supported");
    for (size_t i = 0; i < 4; i++)
        read_bound(s, schema, keys[i], &v);
    if (s->failed)
        return;
    if (!v.any)
        hth_put_printf(body, "%s",
                       hth_schema__common(s, integer ? HTH_SCHEMA_INTEGER
                                                     : HTH_SCHEMA_NUMBER));
    else if (integer)
        put_bounded_integer(s, v, body);
    else if (v.low > v.high)
        hth_schema__fail(s, HTH_EINVAL, "no number from %g to %g", v.low,
                         v.high);
    else
        put_reals(s, body, v.low, v.high, v.open);
}
