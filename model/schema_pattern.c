/* schema_pattern.c - a regular expression (ECMA-262, the regular part of it)
 * as the inside of a JSON string. Anchors may stand at the ends of the whole
 * expression's alternatives; where they do not, any text may surround it. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/schema_internal.h"
#include "model/utf8.h"

#define LAST_CHAR 0x10ffffu
#define RANGES_MAX 64u

struct ranges {
    struct {
        uint32_t from, to;
    } at[RANGES_MAX];
    uint32_t count;
};

struct pattern {
    struct hth_schema *s;
    const char *p, *end;
    struct hth_buf *out;
    unsigned depth;
};

static void unsupported(struct pattern *t, const char *what)
{
    hth_schema__fail(t->s, HTH_EUNSUPPORTED, "pattern: %s: not supported",
                     what);
}

static bool at(const struct pattern *t, char c)
{
    return !t->s->failed && t->p < t->end && *t->p == c;
}

/* ---- sets of characters
 * -------------------------------------------------------- */

static void add(struct pattern *t, struct ranges *r, uint32_t from, uint32_t to)
{
    if (r->count == RANGES_MAX) {
        unsupported(t, "too many ranges in a class");
        return;
    }
    r->at[r->count].from = from;
    r->at[r->count++].to = to;
}

static int by_start(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void negate(struct pattern *t, struct ranges *r)
{
    struct ranges old = *r;
    uint32_t next = 0;

    if (old.count > 0)
        qsort(old.at, old.count, sizeof old.at[0], by_start);
    r->count = 0;
    for (uint32_t i = 0; i < old.count; i++) {
        if (old.at[i].from > next)
            add(t, r, next, old.at[i].from - 1);
        if (old.at[i].to >= next)
            next = old.at[i].to + 1;
    }
    if (next <= LAST_CHAR)
        add(t, r, next, LAST_CHAR);
}

static void add_named(struct pattern *t, struct ranges *r, char name)
{
    struct ranges set = {.count = 0};
    char low = (char)(name | 0x20);

    if (low == 'd' || low == 'w')
        add(t, &set, '0', '9');
    if (low == 'w') {
        add(t, &set, 'A', 'Z');
        add(t, &set, '_', '_');
        add(t, &set, 'a', 'z');
    }
    if (low == 's') {
        static const uint16_t spaces[][2] = {
            {9, 13},          {' ', ' '},       {0xa0, 0xa0},
            {0x1680, 0x1680}, {0x2000, 0x200a}, {0x2028, 0x2029},
            {0x202f, 0x202f}, {0x205f, 0x205f}, {0x3000, 0x3000},
            {0xfeff, 0xfeff}};

        for (size_t i = 0; i < sizeof spaces / sizeof spaces[0]; i++)
            add(t, &set, spaces[i][0], spaces[i][1]);
    }
    if (name != low)
        negate(t, &set);
    for (uint32_t i = 0; i < set.count; i++)
        add(t, r, set.at[i].from, set.at[i].to);
}

/* A code point of the class's text, escaped so that GBNF reads it back. */
static void put_code(struct hth_buf *b, uint32_t cp)
{
    if (isalnum((int)cp) && cp < 0x80)
        hth_put_u8(b, (uint8_t)cp);
    else if (cp < 0x80)
        hth_put_printf(b, "\\x%02x", cp);
    else
        hth_put_printf(b, "\\U%08x", cp);
}

/* Part of a range, without surrogates. */
static void put_range(struct hth_buf *b, uint32_t from, uint32_t to)
{
    if (from >= 0xd800 && from < 0xe000)
        from = 0xe000;
    if (to >= 0xd800 && to < 0xe000)
        to = 0xd7ff;
    if (from > to)
        return;
    if (from < 0xd800 && to >= 0xe000) {
        put_range(b, from, 0xd7ff);
        put_range(b, 0xe000, to);
        return;
    }
    put_code(b, from);
    if (to > from) {
        hth_put_u8(b, '-');
        put_code(b, to);
    }
}

static bool holds(const struct ranges *r, uint32_t cp)
{
    for (uint32_t i = 0; i < r->count; i++)
        if (cp >= r->at[i].from && cp <= r->at[i].to)
            return true;
    return false;
}

/* The set as it may be written inside a JSON string: what JSON wants escaped
 * is, where there is a short way to. */
static void put_set(struct pattern *t, const struct ranges *r)
{
    static const struct {
        uint32_t from, to;
    } plain[] = {{' ', '!'}, {'#', '['}, {']', '~'}, {0x80, LAST_CHAR}};
    static const struct {
        uint32_t cp;
        const char *text;
    } escapes[] = {{'"', "\"\\\\\\\"\""}, {'\\', "\"\\\\\\\\\""},
                   {'\n', "\"\\\\n\""},   {'\t', "\"\\\\t\""},
                   {'\r', "\"\\\\r\""},   {'\f', "\"\\\\f\""},
                   {'\b', "\"\\\\b\""}};
    struct hth_buf class;
    bool any = false;

    hth_buf_init(&class, 64u << 10);
    for (uint32_t i = 0; i < r->count; i++)
        for (size_t k = 0; k < sizeof plain / sizeof plain[0]; k++) {
            uint32_t from = r->at[i].from, to = r->at[i].to;

            from = from > plain[k].from ? from : plain[k].from;
            to = to < plain[k].to ? to : plain[k].to;
            if (from <= to)
                put_range(&class, from, to);
        }
    hth_put_printf(t->out, "(");
    if (class.len > 0) {
        hth_put_printf(t->out, "[%s]", hth_buf_cstr(&class));
        any = true;
    }
    for (size_t i = 0; i < sizeof escapes / sizeof escapes[0]; i++)
        if (holds(r, escapes[i].cp)) {
            hth_put_printf(t->out, "%s%s", any ? " | " : "", escapes[i].text);
            any = true;
        }
    hth_put_printf(t->out, ") ");
    if (class.failed || !any)
        unsupported(t, "a class of characters that cannot be written");
    hth_buf_fini(&class);
}

/* ---- reading
 * ------------------------------------------------------------------- */

static uint32_t hex(struct pattern *t, int digits)
{
    uint32_t v = 0;

    for (int i = 0; i < digits; i++) {
        char c = t->p < t->end ? *t->p : '\0';

        if (!isxdigit((unsigned char)c)) {
            unsupported(t, "a bad escape");
            return 0;
        }
        v = v << 4 |
            (uint32_t)(isdigit((unsigned char)c) ? c - '0'
                                                 : (c | 0x20) - 'a' + 10);
        t->p++;
    }
    return v;
}

/* What follows a backslash: a set, or one character. */
static void escape(struct pattern *t, struct ranges *r)
{
    static const char letters[] = "nrtfv", values[] = "\n\r\t\f\v";
    const char *hit;
    char c;
    uint32_t cp;

    if (t->p >= t->end) {
        unsupported(t, "it ends in a backslash");
        return;
    }
    c = *t->p++;
    hit = c == '\0' ? NULL : strchr(letters, c);
    if (c != '\0' && strchr("dDwWsS", c) != NULL) {
        add_named(t, r, c);
        return;
    }
    if (hit != NULL)
        cp = (uint8_t)values[hit - letters];
    else if (c == 'x' || c == 'u')
        cp = hex(t, c == 'x' ? 2 : 4);
    else if (isalnum((unsigned char)c) || (unsigned char)c >= 0x80) {
        unsupported(t, "an escape that is no character");
        return;
    } else
        cp = (unsigned char)c;
    add(t, r, cp, cp);
}

static uint32_t character(struct pattern *t)
{
    size_t n;

    if (hth_utf8_scan((const uint8_t *)t->p, (size_t)(t->end - t->p), &n) !=
        HTH_UTF8_VALID) {
        unsupported(t, "it is not UTF-8");
        t->p++;
        return 0;
    }
    t->p += n;
    return hth_utf8_decode((const uint8_t *)t->p - n, n);
}

static void class_item(struct pattern *t, struct ranges *r)
{
    uint32_t before = r->count, from;

    if (at(t, '\\')) {
        t->p++;
        escape(t, r);
        if (r->count != before + 1 || r->at[before].from != r->at[before].to)
            return;
    } else {
        from = character(t);
        add(t, r, from, from);
    }
    if (t->s->failed || !at(t, '-') || t->p + 1 >= t->end || t->p[1] == ']')
        return;
    t->p++;
    before = r->count - 1;
    from = r->at[before].from;
    if (at(t, '\\')) {
        t->p++;
        escape(t, r);
    } else {
        uint32_t to = character(t);

        add(t, r, to, to);
    }
    if (t->s->failed || r->count != before + 2 ||
        r->at[before + 1].from != r->at[before + 1].to ||
        r->at[before + 1].to < from) {
        unsupported(t, "a bad range in a class");
        return;
    }
    r->at[before].to = r->at[before + 1].to;
    r->count--;
}

static void class(struct pattern *t)
{
    struct ranges r = {.count = 0};
    bool negated;

    t->p++;
    negated = at(t, '^');
    t->p += negated;
    while (!t->s->failed && !at(t, ']')) {
        if (t->p >= t->end) {
            unsupported(t, "a class never ends");
            return;
        }
        class_item(t, &r);
    }
    t->p += !t->s->failed;
    if (negated)
        negate(t, &r);
    if (!t->s->failed)
        put_set(t, &r);
}

static void alternatives(struct pattern *t, bool top);

static void group(struct pattern *t)
{
    t->p++;
    if (at(t, '?')) {
        if (t->p + 1 < t->end && t->p[1] == ':')
            t->p += 2;
        else
            unsupported(t, "look-around and named groups");
    }
    if (++t->depth > HTH_GRAMMAR_DEPTH_MAX)
        unsupported(t, "groups nested too deep");
    if (t->s->failed)
        return;
    alternatives(t, false);
    t->depth--;
    if (!at(t, ')'))
        unsupported(t, "a group never ends");
    else
        t->p++;
}

static void atom(struct pattern *t)
{
    struct ranges r = {.count = 0};

    if (at(t, '(')) {
        group(t);
        return;
    }
    if (at(t, '[')) {
        class(t);
        return;
    }
    if (at(t, '.')) {
        t->p++;
        add(t, &r, '\n', '\n');
        add(t, &r, '\r', '\r');
        add(t, &r, 0x2028, 0x2029);
        negate(t, &r);
    } else if (at(t, '\\')) {
        t->p++;
        escape(t, &r);
    } else if (strchr("*+?{}^$", *t->p) != NULL) {
        unsupported(t, "an anchor or repetition where none can be");
        return;
    } else {
        uint32_t cp = character(t);

        add(t, &r, cp, cp);
    }
    if (!t->s->failed)
        put_set(t, &r);
}

/* {m}, {m,} and {m,n} are GBNF's own, so they are only checked and copied. */
static void bounds(struct pattern *t)
{
    const char *from = t->p++;

    while (t->p < t->end && (isdigit((unsigned char)*t->p) || *t->p == ','))
        t->p++;
    if (!at(t, '}') || !isdigit((unsigned char)from[1])) {
        unsupported(t, "a brace that is no repetition");
        return;
    }
    t->p++;
    hth_put_bytes(t->out, from, (size_t)(t->p - from));
    hth_put_u8(t->out, ' ');
}

static void repetition(struct pattern *t)
{
    if (t->s->failed || t->p >= t->end || *t->p == '\0')
        return;
    if (*t->p == '{')
        bounds(t);
    else if (strchr("*+?", *t->p) != NULL)
        hth_put_printf(t->out, "%c ", *t->p++);
    else
        return;
    if (at(t, '?')) /* lazy: the same texts */
        t->p++;
}

static void put_surroundings(struct pattern *t)
{
    hth_put_printf(t->out, "%s* ", hth_schema__common(t->s, HTH_SCHEMA_CHAR));
}

/* One alternative; anchors count at the top only. */
static void sequence(struct pattern *t, bool top)
{
    bool open = true;

    if (top && at(t, '^'))
        t->p++;
    else if (top)
        put_surroundings(t);
    hth_put_printf(t->out, "\"\" ");
    while (!t->s->failed && t->p < t->end && *t->p != '|' && *t->p != ')') {
        if (top && *t->p == '$' && (t->p + 1 == t->end || t->p[1] == '|')) {
            t->p++;
            open = false;
            break;
        }
        atom(t);
        repetition(t);
    }
    if (top && open)
        put_surroundings(t);
}

static void alternatives(struct pattern *t, bool top)
{
    hth_put_printf(t->out, "(");
    sequence(t, top);
    while (at(t, '|')) {
        t->p++;
        hth_put_printf(t->out, "| ");
        sequence(t, top);
    }
    hth_put_printf(t->out, ") ");
}

void hth_schema__pattern(struct hth_schema *s, const char *pattern,
                         struct hth_buf *body)
{
    struct pattern t = {
        .s = s, .p = pattern, .end = pattern + strlen(pattern), .out = body};

    alternatives(&t, true);
    if (!s->failed && t.p < t.end)
        unsupported(&t, "a bracket too many");
}
