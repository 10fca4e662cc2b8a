/* gbnf.c - GBNF text, as llama.cpp's users know it, to a grammar:
 *
 *   root  ::= "yes" | "no" | list     # alternatives
 *   list  ::= "[" item ("," item)* "]"
 *   item  ::= [a-z_]+ | [^"\\]{1,8} | .
 *
 * A rule ends with its line, except inside brackets and behind a bar. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "model/grammar_internal.h"
#include "model/utf8.h"

struct parser {
    struct hth_grammar *g;
    const char *p, *start, *end;
    uint32_t depth;
    struct hth_err *err;
};

static int fail(const struct parser *s, int status, const char *what)
{
    unsigned line = 1, column = 1;

    for (const char *p = s->start; p < s->p; p++) {
        column = *p == '\n' ? 1 : column + 1;
        line += *p == '\n';
    }
    return hth_fail(s->err, status, "grammar, line %u, column %u: %s", line,
                    column, what);
}

static int too_large(const struct parser *s)
{
    return fail(s, HTH_ELIMIT, "the grammar is too large");
}

static void skip_space(struct parser *s, bool lines)
{
    while (s->p < s->end) {
        if (*s->p == '#')
            while (s->p < s->end && *s->p != '\n')
                s->p++;
        else if (*s->p == ' ' || *s->p == '\t' ||
                 (lines && (*s->p == '\n' || *s->p == '\r')))
            s->p++;
        else
            break;
    }
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '-' || c == '_';
}

static size_t word_length(const struct parser *s)
{
    size_t n = 0;

    while (s->p + n < s->end && is_word(s->p[n]))
        n++;
    return n;
}

static bool at(const struct parser *s, char c)
{
    return s->p < s->end && *s->p == c;
}

/* ---- characters -------------------------------------------------------------
 */

static int hex_digits(struct parser *s, int digits, uint32_t *out)
{
    uint32_t v = 0;

    for (int i = 0; i < digits; i++, s->p++) {
        char c;

        if (s->p >= s->end || !isxdigit((unsigned char)*s->p))
            return fail(s, HTH_EFORMAT, "hexadecimal digits expected");
        c = *s->p;
        v = v << 4 |
            (uint32_t)(isdigit((unsigned char)c) ? c - '0'
                                                 : (c | 0x20) - 'a' + 10);
    }
    if (v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
        return fail(s, HTH_EFORMAT, "no such character");
    *out = v;
    return HTH_OK;
}

static int escape(struct parser *s, uint32_t *out)
{
    static const char letters[] = "nrt\\\"[]-^'/",
                      values[] = "\n\r\t\\\"[]-^'/";
    const char *hit;

    if (++s->p >= s->end)
        return fail(s, HTH_EFORMAT, "the grammar ends in an escape");
    if (*s->p == 'x' || *s->p == 'u' || *s->p == 'U') {
        int digits = *s->p == 'x' ? 2 : *s->p == 'u' ? 4 : 8;

        s->p++;
        return hex_digits(s, digits, out);
    }
    hit = *s->p == '\0' ? NULL : strchr(letters, *s->p);
    if (hit == NULL)
        return fail(s, HTH_EFORMAT, "an unknown escape");
    *out = (uint8_t)values[hit - letters];
    s->p++;
    return HTH_OK;
}

/* One character, escaped or not. */
static int character(struct parser *s, uint32_t *out)
{
    size_t n;

    if (*s->p == '\\')
        return escape(s, out);
    if (hth_utf8_scan((const uint8_t *)s->p, (size_t)(s->end - s->p), &n) !=
        HTH_UTF8_VALID)
        return fail(s, HTH_EFORMAT, "the grammar is not UTF-8");
    *out = hth_utf8_decode((const uint8_t *)s->p, n);
    s->p += n;
    return HTH_OK;
}

static int literal(struct parser *s, struct hth_gseq *seq)
{
    uint32_t cp = 0;
    int rc;

    s->p++;
    while (!at(s, '"')) {
        struct hth_grange one;

        if (s->p >= s->end || *s->p == '\n')
            return fail(s, HTH_EFORMAT, "a string never ends");
        rc = character(s, &cp);
        if (rc != HTH_OK)
            return rc;
        one = (struct hth_grange){cp, cp};
        if (cp < 0x80 ? !hth_gseq__byte(s->g, seq, (uint8_t)cp)
                      : !hth_gseq__class(s->g, seq, &one, 1, false))
            return too_large(s);
    }
    s->p++;
    return HTH_OK;
}

/* <"text">: the control token of that text, and nothing that spells it. */
static int control(struct parser *s, struct hth_gseq *seq)
{
    int rc;

    s->p++;
    if (!at(s, '"'))
        return fail(s, HTH_EFORMAT, "'\"' expected behind '<'");
    if (!hth_gseq__byte(s->g, seq, HTH_GRAMMAR_CONTROL))
        return too_large(s);
    rc = literal(s, seq);
    if (rc != HTH_OK)
        return rc;
    if (!at(s, '>'))
        return fail(s, HTH_EFORMAT, "'>' expected");
    s->p++;
    return HTH_OK;
}

static int char_class(struct parser *s, struct hth_gseq *seq)
{
    struct hth_grange ranges[HTH_GRAMMAR_RANGES_MAX];
    uint32_t count = 0;
    bool negated;
    int rc;

    s->p++;
    negated = at(s, '^');
    s->p += negated;
    while (!at(s, ']')) {
        uint32_t from = 0, to = 0;

        if (s->p >= s->end)
            return fail(s, HTH_EFORMAT, "a character class never ends");
        if (count == HTH_GRAMMAR_RANGES_MAX)
            return too_large(s);
        if ((rc = character(s, &from)) != HTH_OK)
            return rc;
        to = from;
        if (at(s, '-') && s->p + 1 < s->end && s->p[1] != ']') {
            s->p++;
            if ((rc = character(s, &to)) != HTH_OK)
                return rc;
        }
        if (to < from)
            return fail(s, HTH_EFORMAT, "a range that ends before it begins");
        ranges[count++] = (struct hth_grange){from, to};
    }
    s->p++;
    if (count == 0 && !negated)
        return fail(s, HTH_EFORMAT, "an empty character class");
    return hth_gseq__class(s->g, seq, ranges, count, negated) ? HTH_OK
                                                              : too_large(s);
}

/* ---- sequences --------------------------------------------------------------
 */

static int alternatives(struct parser *s, uint32_t rule, bool nested);

static int group(struct parser *s, struct hth_gseq *seq)
{
    uint32_t rule = hth_grammar__rule(s->g, "", 0);
    int rc;

    if (rule == UINT32_MAX)
        return too_large(s);
    /* Every group is a rule of its own: it gives its name up. */
    free(s->g->rules[rule].name);
    s->g->rules[rule].name = NULL;
    s->p++;
    if (++s->depth > HTH_GRAMMAR_DEPTH_MAX)
        return fail(s, HTH_ELIMIT, "brackets nested too deep");
    rc = alternatives(s, rule, true);
    s->depth--;
    if (rc != HTH_OK)
        return rc;
    if (!at(s, ')'))
        return fail(s, HTH_EFORMAT, "')' expected");
    s->p++;
    return hth_gseq__push(seq,
                          (struct hth_gop){.kind = HTH_GOP_CALL, .a = rule})
               ? HTH_OK
               : too_large(s);
}

static int reference(struct parser *s, struct hth_gseq *seq)
{
    size_t n = word_length(s);
    uint32_t rule = hth_grammar__rule(s->g, s->p, n);

    s->p += n;
    return rule != UINT32_MAX &&
                   hth_gseq__push(
                       seq, (struct hth_gop){.kind = HTH_GOP_CALL, .a = rule})
               ? HTH_OK
               : too_large(s);
}

static int count_of(struct parser *s, uint32_t *out)
{
    uint32_t v = 0;

    if (s->p >= s->end || !isdigit((unsigned char)*s->p))
        return fail(s, HTH_EFORMAT, "a number expected");
    for (; s->p < s->end && isdigit((unsigned char)*s->p); s->p++) {
        v = v * 10 + (uint32_t)(*s->p - '0');
        if (v > HTH_GRAMMAR_REPEAT_MAX)
            return fail(s, HTH_ELIMIT, "too many repetitions");
    }
    *out = v;
    return HTH_OK;
}

/* {m}, {m,}, {m,n} */
static int bounds(struct parser *s, uint32_t *min, uint32_t *max)
{
    int rc;

    s->p++;
    skip_space(s, false);
    *min = 0;
    if (!at(s, ',') && (rc = count_of(s, min)) != HTH_OK)
        return rc;
    *max = *min;
    skip_space(s, false);
    if (at(s, ',')) {
        s->p++;
        skip_space(s, false);
        *max = HTH_GRAMMAR_FOREVER;
        if (!at(s, '}') && (rc = count_of(s, max)) != HTH_OK)
            return rc;
        skip_space(s, false);
    }
    if (!at(s, '}'))
        return fail(s, HTH_EFORMAT, "'}' expected");
    s->p++;
    return *max < *min ? fail(s, HTH_EFORMAT, "a maximum below its minimum")
                       : HTH_OK;
}

/* What stands behind the last item repeats it. */
static int repetition(struct parser *s, struct hth_gseq *seq, uint32_t from)
{
    uint32_t min = 0, max = HTH_GRAMMAR_FOREVER;
    int rc = HTH_OK;

    if (at(s, '{')) {
        rc = bounds(s, &min, &max);
    } else {
        min = at(s, '+');
        if (at(s, '?'))
            max = 1;
        s->p++;
    }
    if (rc != HTH_OK)
        return rc;
    return hth_gseq__repeat(s->g, seq, from, min, max) ? HTH_OK : too_large(s);
}

static int item(struct parser *s, struct hth_gseq *seq)
{
    if (at(s, '"'))
        return literal(s, seq);
    if (at(s, '<'))
        return control(s, seq);
    if (at(s, '['))
        return char_class(s, seq);
    if (at(s, '('))
        return group(s, seq);
    if (at(s, '.')) {
        s->p++;
        return hth_gseq__class(s->g, seq, NULL, 0, true) ? HTH_OK
                                                         : too_large(s);
    }
    return reference(s, seq);
}

static bool item_follows(const struct parser *s)
{
    return s->p < s->end &&
           (is_word(*s->p) || strchr("\"<[(.", *s->p) != NULL) && *s->p != '\0';
}

/* Does a new rule begin here: a name and ::= ? */
static bool rule_follows(const struct parser *s)
{
    struct parser look = *s;
    size_t n = word_length(s);

    look.p += n;
    skip_space(&look, true);
    return n > 0 && look.end - look.p >= 3 && memcmp(look.p, "::=", 3) == 0;
}

static int sequence(struct parser *s, struct hth_gseq *seq, bool nested)
{
    uint32_t from = 0;
    int rc = HTH_OK;

    while (rc == HTH_OK && item_follows(s) &&
           !(nested ? false : rule_follows(s))) {
        from = seq->count;
        rc = item(s, seq);
        skip_space(s, nested);
        while (rc == HTH_OK && s->p < s->end && *s->p != '\0' &&
               strchr("*+?{", *s->p) != NULL) {
            rc = repetition(s, seq, from);
            skip_space(s, nested);
        }
    }
    return rc;
}

static int alternatives(struct parser *s, uint32_t rule, bool nested)
{
    struct hth_gseq *alts = NULL;
    uint32_t count = 0, cap = 0;
    int rc = HTH_OK;

    do {
        if (count == cap) {
            struct hth_gseq *more =
                realloc(alts, (size_t)(cap + 16) * sizeof *alts);

            if (more == NULL || cap > HTH_GRAMMAR_RULES_MAX) {
                free(more);
                alts = more != NULL ? NULL : alts;
                count = more != NULL ? 0 : count;
                rc = too_large(s);
                break;
            }
            memset(more + cap, 0, 16 * sizeof *more);
            alts = more;
            cap += 16;
        }
        s->p += count > 0; /* the bar */
        skip_space(s, true);
        rc = sequence(s, &alts[count++], nested);
        /* A bar may stand at the beginning of the next line. */
        if (rc == HTH_OK) {
            struct parser look = *s;

            skip_space(&look, true);
            if (at(&look, '|'))
                s->p = look.p;
        }
    } while (rc == HTH_OK && at(s, '|'));
    if (rc == HTH_OK && !hth_grammar__define(s->g, rule, alts, count))
        rc = too_large(s);
    for (uint32_t i = 0; i < count; i++)
        free(alts[i].ops);
    free(alts);
    return rc;
}

static int rule(struct parser *s)
{
    size_t n = word_length(s);
    uint32_t r;

    if (n == 0)
        return fail(s, HTH_EFORMAT, "a rule's name expected");
    r = hth_grammar__rule(s->g, s->p, n);
    if (r == UINT32_MAX)
        return too_large(s);
    if (s->g->rules[r].defined)
        return fail(s, HTH_EFORMAT, "a rule defined twice");
    s->p += n;
    skip_space(s, true);
    if (s->end - s->p < 3 || memcmp(s->p, "::=", 3) != 0)
        return fail(s, HTH_EFORMAT, "'::=' expected");
    s->p += 3;
    return alternatives(s, r, false);
}

static int parse(struct parser *s)
{
    int rc = HTH_OK;

    skip_space(s, true);
    while (rc == HTH_OK && s->p < s->end) {
        rc = rule(s);
        if (rc == HTH_OK && s->p < s->end && *s->p != '\n' && *s->p != '\r')
            rc = fail(s, HTH_EFORMAT, "something that is no part of a rule");
        skip_space(s, true);
    }
    if (rc != HTH_OK)
        return rc;
    s->g->root = UINT32_MAX;
    for (uint32_t i = 0; i < s->g->rule_count; i++)
        if (s->g->rules[i].name != NULL &&
            strcmp(s->g->rules[i].name, "root") == 0)
            s->g->root = i;
    if (s->g->root == UINT32_MAX)
        return hth_fail(s->err, HTH_EFORMAT, "grammar: there is no rule root");
    return hth_grammar__check(s->g, s->err);
}

int hth_grammar_open(struct hth_grammar **out, struct hth_str gbnf,
                     struct hth_err *err)
{
    struct parser s = {.p = gbnf.n > 0 ? gbnf.p : "", .err = err};
    int rc;

    if (gbnf.n > HTH_GRAMMAR_BYTES_MAX)
        return hth_fail(err, HTH_ELIMIT, "a grammar of %zu bytes; at most %u",
                        gbnf.n, HTH_GRAMMAR_BYTES_MAX);
    s.start = s.p;
    s.end = s.p + gbnf.n;
    rc = hth_grammar__new(&s.g);
    if (rc != HTH_OK)
        return hth_fail(err, rc, "no memory for a grammar");
    rc = parse(&s);
    if (rc != HTH_OK) {
        hth_grammar_close(s.g);
        return rc;
    }
    *out = s.g;
    return HTH_OK;
}
