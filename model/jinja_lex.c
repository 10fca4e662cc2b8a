/* jinja_lex.c - source to tokens, with Jinja2's white space control:
 * trim_blocks (the line end behind a block tag goes), lstrip_blocks (blanks
 * between the line's start and a block tag go), and the signs - and + that
 * overrule them. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "model/jinja_internal.h"
#include "model/utf8.h"

struct lexer {
    struct hth_jinja *j;
    const char *s;
    uint32_t n, at, line;
    bool line_start; /* the last tag took the end of its line with it */
    struct hth_err *err;
};

static int fail(const struct lexer *l, const char *what)
{
    return hth_fail(l->err, HTH_EFORMAT, "chat template, line %u: %s", l->line,
                    what);
}

static int push(struct lexer *l, struct hth_jt t)
{
    struct hth_jinja *j = l->j;

    if (j->token_count == j->token_cap) {
        uint32_t cap = j->token_cap == 0 ? 256 : j->token_cap * 2;
        struct hth_jt *p = NULL;

        if (cap <= HTH_JINJA_TOKENS_MAX)
            p = realloc(j->tokens, cap * sizeof *p);
        if (p == NULL)
            return hth_fail(l->err, HTH_ELIMIT,
                            "chat template: more than %u tokens",
                            HTH_JINJA_TOKENS_MAX);
        j->tokens = p;
        j->token_cap = cap;
    }
    t.line = l->line;
    j->tokens[j->token_count++] = t;
    return 0;
}

static bool looking_at(const struct lexer *l, const char *text)
{
    size_t n = strlen(text);

    return l->n - l->at >= n && memcmp(l->s + l->at, text, n) == 0;
}

static void advance(struct lexer *l, uint32_t n)
{
    for (; n > 0 && l->at < l->n; n--)
        l->line += l->s[l->at++] == '\n';
}

/* ---- text between tags --------------------------------------------------- */

/* Where the next tag opens, or the end. */
static uint32_t next_tag(const struct lexer *l)
{
    for (uint32_t i = l->at; i + 1 < l->n; i++)
        if (l->s[i] == '{' && memchr("{%#", l->s[i + 1], 3) != NULL)
            return i;
    return l->n;
}

/* What of the text [at, end) in front of a tag stays. */
static uint32_t kept(const struct lexer *l, uint32_t end)
{
    char sign = end + 2 < l->n ? l->s[end + 2] : '\0';
    bool block = end + 1 < l->n && l->s[end + 1] != '{';
    uint32_t from = end;

    if (end >= l->n)
        return end;
    if (sign == '-') {
        while (from > l->at && isspace((unsigned char)l->s[from - 1]))
            from--;
        return from;
    }
    if (!block || sign == '+')
        return end;
    while (from > l->at && l->s[from - 1] != '\n' &&
           isspace((unsigned char)l->s[from - 1]))
        from--;
    if (from > l->at ? l->s[from - 1] == '\n' : l->line_start)
        return from;
    return end;
}

static int text(struct lexer *l)
{
    uint32_t end = next_tag(l), stop = kept(l, end);
    int rc = 0;

    if (stop > l->at)
        rc = push(l, (struct hth_jt){.kind = HTH_JT_TEXT,
                                     .p = l->s + l->at,
                                     .n = stop - l->at});
    advance(l, end - l->at);
    return rc;
}

/* Behind a tag that ended in `sign`: all white space, one line end, or
 * nothing. */
static void after_tag(struct lexer *l, char sign, bool trims)
{
    uint32_t from = l->at;

    if (sign == '-')
        while (l->at < l->n && isspace((unsigned char)l->s[l->at]))
            advance(l, 1);
    if (trims && sign != '+' && l->at < l->n && l->s[l->at] == '\n' &&
        (sign != '-' || l->at == from))
        advance(l, 1);
    l->line_start = l->at > from && l->s[l->at - 1] == '\n';
}

static int comment(struct lexer *l)
{
    char sign;

    advance(l, 2);
    while (l->at + 1 < l->n && !looking_at(l, "#}"))
        advance(l, 1);
    if (!looking_at(l, "#}"))
        return fail(l, "a comment never ends");
    sign = l->s[l->at - 1];
    advance(l, 2);
    after_tag(l, sign == '-' || sign == '+' ? sign : '\0', true);
    return 0;
}

/* {% raw %}: text up to {% endraw %}, as it stands. True if there was one. */
static bool tag_is(const struct lexer *l, uint32_t at, const char *name,
                   uint32_t *end)
{
    size_t n = strlen(name);

    at += 2;
    if (at < l->n && (l->s[at] == '-' || l->s[at] == '+'))
        at++;
    while (at < l->n && isspace((unsigned char)l->s[at]))
        at++;
    if (l->n - at < n || memcmp(l->s + at, name, n) != 0)
        return false;
    at += (uint32_t)n;
    while (at < l->n && isspace((unsigned char)l->s[at]))
        at++;
    if (at < l->n && (l->s[at] == '-' || l->s[at] == '+'))
        at++;
    *end = at + 2;
    return at + 1 < l->n && l->s[at] == '%' && l->s[at + 1] == '}';
}

static int raw(struct lexer *l, uint32_t end)
{
    uint32_t close, stop = 0;
    int rc = 0;

    advance(l, end - l->at);
    after_tag(l, l->s[l->at - 3], true);
    for (close = l->at; close + 1 < l->n; close++)
        if (l->s[close] == '{' && l->s[close + 1] == '%' &&
            tag_is(l, close, "endraw", &stop))
            break;
    if (close + 1 >= l->n)
        return fail(l, "raw without endraw");
    if (kept(l, close) > l->at)
        rc = push(l, (struct hth_jt){.kind = HTH_JT_TEXT,
                                     .p = l->s + l->at,
                                     .n = kept(l, close) - l->at});
    advance(l, stop - l->at);
    after_tag(l, l->s[l->at - 3], true);
    return rc;
}

/* ---- inside a tag -------------------------------------------------------- */

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \xXX, \uXXXX, \UXXXXXXXX at p[n] (the letter): bytes read, or 0. */
static uint32_t unicode_escape(const char *p, uint32_t n, char *dst,
                               uint32_t *put)
{
    uint32_t digits = *p == 'x' ? 2 : *p == 'u' ? 4 : 8, cp = 0;

    if (n < digits + 1)
        return 0;
    for (uint32_t i = 1; i <= digits; i++) {
        if (hex_value(p[i]) < 0)
            return 0;
        cp = cp << 4 | (uint32_t)hex_value(p[i]);
    }
    if (cp > 0x10ffff || (cp >= 0xd800 && cp < 0xe000))
        return 0;
    *put = (uint32_t)hth_utf8_encode(cp, (uint8_t *)dst);
    return digits + 1;
}

/* Python's escapes; an unknown one keeps its backslash. dst has room for n
 * bytes; returns how many were made, or UINT32_MAX. */
static uint32_t unescape(const char *p, uint32_t n, char *dst)
{
    static const char letters[] = "ntr\\'\"abfv",
                      bytes[] = "\n\t\r\\'\"\a\b\f\v";
    uint32_t out = 0;

    for (uint32_t i = 0; i < n; i++) {
        const char *at;
        uint32_t put = 0, took;

        if (p[i] != '\\' || i + 1 == n) {
            dst[out++] = p[i];
            continue;
        }
        i++;
        at = p[i] == '\0' ? NULL : strchr(letters, p[i]);
        if (at != NULL) {
            dst[out++] = bytes[at - letters];
        } else if (p[i] == '\n') {
            continue;
        } else if (memchr("xuU", p[i], 3) != NULL) {
            took = unicode_escape(p + i, n - i, dst + out, &put);
            if (took == 0)
                return UINT32_MAX;
            i += took - 1;
            out += put;
        } else {
            dst[out++] = '\\';
            dst[out++] = p[i];
        }
    }
    return out;
}

static int string(struct lexer *l)
{
    char quote = l->s[l->at];
    uint32_t from = l->at + 1, end = from;
    struct hth_jt t = {.kind = HTH_JT_STRING};
    char *dst;
    int rc;

    while (end < l->n && l->s[end] != quote)
        end += l->s[end] == '\\' ? 2 : 1;
    if (end >= l->n)
        return fail(l, "a string never ends");
    dst = hth_jarena_alloc(&l->j->arena, end - from + 1);
    if (dst == NULL)
        return hth_fail(l->err, HTH_ENOMEM, "chat template: no memory");
    t.p = dst;
    t.n = unescape(l->s + from, end - from, dst);
    if (t.n == UINT32_MAX)
        return fail(l, "a bad escape in a string");
    rc = push(l, t);
    advance(l, end + 1 - l->at);
    return rc;
}

static int number(struct lexer *l)
{
    struct hth_jt t = {.kind = HTH_JT_INT, .p = l->s + l->at};
    char digits[64];
    uint32_t n = 0, i = l->at;
    bool real = false;

    for (; i < l->n && n < sizeof digits - 1; i++) {
        char c = l->s[i];
        bool exponent = (c == 'e' || c == 'E') && i + 1 < l->n &&
                        (isdigit((unsigned char)l->s[i + 1]) ||
                         ((l->s[i + 1] == '-' || l->s[i + 1] == '+') &&
                          i + 2 < l->n && isdigit((unsigned char)l->s[i + 2])));

        if (exponent && l->s[i + 1] != '-' && l->s[i + 1] != '+')
            real = true;
        else if (exponent) {
            real = true;
            digits[n++] = c;
            c = l->s[++i];
        } else if (c == '.' && !real && i + 1 < l->n &&
                   isdigit((unsigned char)l->s[i + 1]))
            real = true;
        else if (!isdigit((unsigned char)c) && c != '_')
            break;
        if (c != '_' && n < sizeof digits - 1)
            digits[n++] = c;
    }
    digits[n] = '\0';
    t.n = i - l->at;
    if (real) {
        t.kind = HTH_JT_FLOAT;
        t.f = strtod(digits, NULL);
    } else if (n > 18) {
        return fail(l, "a number is too long");
    } else {
        t.i = strtoll(digits, NULL, 10);
    }
    l->at = i;
    return push(l, t);
}

static int operator(struct lexer *l)
{
    static const char *const two[] = {"==", "!=", "<=", ">=", "//", "**"};
    struct hth_jt t = {.kind = HTH_JT_OP, .p = l->s + l->at, .n = 1};

    for (size_t i = 0; i < sizeof two / sizeof two[0]; i++)
        if (looking_at(l, two[i]))
            t.n = 2;
    if (t.n == 1 && memchr("+-*/%~()[]{}<>=.,:|;", l->s[l->at], 20) == NULL)
        return fail(l, "a character that is no part of an expression");
    l->at += t.n;
    return push(l, t);
}

static int name(struct lexer *l)
{
    struct hth_jt t = {.kind = HTH_JT_NAME, .p = l->s + l->at};

    while (l->at + t.n < l->n &&
           (isalnum((unsigned char)t.p[t.n]) || t.p[t.n] == '_'))
        t.n++;
    l->at += t.n;
    return push(l, t);
}

static int one_token(struct lexer *l, uint32_t *open)
{
    char c = l->s[l->at];

    if (memchr("([{", c, 3) != NULL)
        ++*open;
    else if (memchr(")]}", c, 3) != NULL && *open > 0)
        --*open;
    if (c == '\'' || c == '"')
        return string(l);
    if (isdigit((unsigned char)c))
        return number(l);
    if (isalpha((unsigned char)c) || c == '_')
        return name(l);
    return operator(l);
}

/* The closing of the tag that is open, with its sign: its length, or 0. */
static uint32_t closes(const struct lexer *l, const char *end)
{
    if (looking_at(l, end))
        return 2;
    if ((l->s[l->at] == '-' || l->s[l->at] == '+') && l->at + 2 < l->n &&
        memcmp(l->s + l->at + 1, end, 2) == 0)
        return 3;
    return 0;
}

static int tag(struct lexer *l, bool block)
{
    const char *end = block ? "%}" : "}}";
    uint32_t open = 0, n;
    int rc =
        push(l, (struct hth_jt){.kind = block ? HTH_JT_BLOCK : HTH_JT_PRINT});

    advance(l, 2);
    if (l->at < l->n && (l->s[l->at] == '-' || l->s[l->at] == '+'))
        l->at++;
    while (rc == 0) {
        while (l->at < l->n && isspace((unsigned char)l->s[l->at]))
            advance(l, 1);
        if (l->at >= l->n)
            return fail(l, "a tag never ends");
        n = open == 0 ? closes(l, end) : 0;
        if (n > 0) {
            char sign = n == 3 ? l->s[l->at] : '\0';

            rc = push(l, (struct hth_jt){.kind = block ? HTH_JT_BLOCK_END
                                                       : HTH_JT_PRINT_END});
            advance(l, n);
            after_tag(l, sign, block);
            return rc;
        }
        rc = one_token(l, &open);
    }
    return rc;
}

static int next(struct lexer *l)
{
    uint32_t end;
    int rc = text(l);

    if (rc != 0 || l->at >= l->n)
        return rc;
    if (looking_at(l, "{#"))
        return comment(l);
    if (looking_at(l, "{%") && tag_is(l, l->at, "raw", &end))
        return raw(l, end);
    return tag(l, looking_at(l, "{%"));
}

int hth_jinja__lex(struct hth_jinja *j, struct hth_err *err)
{
    struct lexer l = {.j = j,
                      .s = j->source,
                      .n = j->source_n,
                      .line = 1,
                      .line_start = true,
                      .err = err};
    int rc = 0;

    /* One line end at the end of the file is not part of the template. */
    if (l.n > 0 && l.s[l.n - 1] == '\n')
        l.n--;
    if (hth_utf8_valid((const uint8_t *)l.s, l.n) != l.n)
        return hth_fail(err, HTH_EFORMAT, "the chat template is not UTF-8");
    while (rc == 0 && l.at < l.n)
        rc = next(&l);
    return rc == 0 ? push(&l, (struct hth_jt){.kind = HTH_JT_END}) : rc;
}
