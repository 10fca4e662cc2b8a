/* values.c - the text of one option value, checked and converted. Pure: no
 * output, no allocation. Refuses everything that is not wholly a value, so
 * that "8x" or "" never turns into a number silently. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cli/options.h"

int hth_parse_int(const char *text, int64_t *out)
{
    char *end;
    long long v;

    if (text[0] == '\0' || strchr("+-0123456789", text[0]) == NULL)
        return HTH_EUSAGE;
    errno = 0;
    v = strtoll(text, &end, 10);
    if (errno != 0 || *end != '\0' || end == text)
        return HTH_EUSAGE;
    *out = v;
    return HTH_OK;
}

/* Number at the start of text; *end is what follows. Hexadecimal, "inf" and
 * "nan", which strtod would take, are no option values. */
static int parse_number(const char *text, double *out, const char **end)
{
    char *stop;
    double v;

    if (text[0] == '\0' || strchr("+-.0123456789", text[0]) == NULL ||
        strpbrk(text, "xX") != NULL)
        return HTH_EUSAGE;
    errno = 0;
    v = strtod(text, &stop);
    if (stop == text || !isfinite(v))
        return HTH_EUSAGE;
    *out = v;
    *end = stop;
    return HTH_OK;
}

int hth_parse_float(const char *text, double *out)
{
    const char *end;
    double v;

    if (parse_number(text, &v, &end) != HTH_OK || *end != '\0')
        return HTH_EUSAGE;
    *out = v;
    return HTH_OK;
}

int hth_parse_bool(const char *text, bool *out)
{
    static const char *const yes[] = {"1", "true", "yes", "on"};
    static const char *const no[] = {"0", "false", "no", "off"};

    for (unsigned i = 0; i < 4; i++) {
        if (strcasecmp(text, yes[i]) == 0) {
            *out = true;
            return HTH_OK;
        }
        if (strcasecmp(text, no[i]) == 0) {
            *out = false;
            return HTH_OK;
        }
    }
    return HTH_EUSAGE;
}

/* Bytes per unit, 0 for a word that is none. */
static double unit_bytes(const char *unit)
{
    static const char prefix[] = "kmgt";
    const char *p;
    double base;

    if (*unit == '\0' || strcmp(unit, "B") == 0)
        return 1.0;
    p = strchr(prefix, unit[0] | 0x20);
    if (p == NULL || *p == '\0')
        return 0.0;
    if (unit[1] == '\0' || strcmp(unit + 1, "iB") == 0)
        base = 1024.0;
    else if (strcmp(unit + 1, "B") == 0)
        base = 1000.0;
    else
        return 0.0;
    return pow(base, (double)(p - prefix + 1));
}

int hth_parse_size(const char *text, uint64_t *out)
{
    const char *end;
    double v;
    double unit;

    if (text[0] < '0' || text[0] > '9' ||
        parse_number(text, &v, &end) != HTH_OK)
        return HTH_EUSAGE;
    while (*end == ' ')
        end++;
    unit = unit_bytes(end);
    if (unit == 0.0 || v * unit > 0x1p62)
        return HTH_EUSAGE;
    *out = (uint64_t)(v * unit);
    return HTH_OK;
}

int hth_choice_index(const char *choices, const char *word)
{
    size_t n = strlen(word);
    const char *p = choices;

    for (int i = 0; p != NULL && *p != '\0'; i++) {
        size_t len = strcspn(p, "|");

        if (len == n && memcmp(p, word, n) == 0)
            return i;
        p += len;
        p += *p == '|';
    }
    return -1;
}

/* Copy the next comma-separated item; NULL when it is empty or too long for a
 * number, else what follows (at the comma or the end). */
static const char *next_item(const char *p, char *dst, size_t dst_size)
{
    size_t n = strcspn(p, ",");

    if (n == 0 || n >= dst_size)
        return NULL;
    memcpy(dst, p, n);
    dst[n] = '\0';
    return p + n;
}

int hth_parse_floats(const char *text, double *out, size_t max, size_t *count)
{
    char item[40];
    size_t n = 0;

    for (const char *p = text;; p++) {
        p = next_item(p, item, sizeof item);
        if (p == NULL || n == max || hth_parse_float(item, &out[n]) != HTH_OK)
            return HTH_EUSAGE;
        n++;
        if (*p == '\0')
            break;
    }
    *count = n;
    return HTH_OK;
}

int hth_parse_u32s(const char *text, uint32_t *out, size_t max, size_t *count)
{
    char item[40];
    size_t n = 0;
    int64_t v;

    for (const char *p = text;; p++) {
        p = next_item(p, item, sizeof item);
        if (p == NULL || n == max || hth_parse_int(item, &v) != HTH_OK ||
            v < 0 || v > (int64_t)UINT32_MAX)
            return HTH_EUSAGE;
        out[n++] = (uint32_t)v;
        if (*p == '\0')
            break;
    }
    *count = n;
    return HTH_OK;
}

static bool in_range(const struct hth_opt *opt, double v)
{
    if (opt->min == 0.0 && opt->max == 0.0)
        return true;
    return v >= opt->min && v <= opt->max;
}

static int check_number(const struct hth_opt *opt, const char *text,
                        struct hth_err *err)
{
    const char *kind = opt->type == HTH_OPT_INT ? "whole number" : "number";
    double v = 0.0;
    int64_t whole;
    int rc;

    if (opt->type == HTH_OPT_INT) {
        rc = hth_parse_int(text, &whole);
        v = rc == HTH_OK ? (double)whole : 0.0;
    } else {
        rc = hth_parse_float(text, &v);
    }
    if (rc != HTH_OK)
        return hth_fail(err, HTH_EUSAGE, "\"%.60s\" is no %s", text, kind);
    if (!in_range(opt, v))
        return hth_fail(err, HTH_EUSAGE, "%.60s is not between %.10g and %.10g",
                        text, opt->min, opt->max);
    return HTH_OK;
}

/* Lists are checked item by item with the same bounds, without a copy of the
 * whole: the verb converts it once it knows how many it takes. */
static int check_list(const struct hth_opt *opt, const char *text,
                      struct hth_err *err)
{
    struct hth_opt one = *opt;
    char item[40];

    if (opt->choices != NULL && hth_choice_index(opt->choices, text) >= 0)
        return HTH_OK;
    one.type = opt->type == HTH_OPT_INTS ? HTH_OPT_INT : HTH_OPT_FLOAT;
    for (const char *p = text;; p++) {
        int rc;

        p = next_item(p, item, sizeof item);
        if (p == NULL)
            return hth_fail(err, HTH_EUSAGE,
                            "\"%.60s\" is no comma-separated list of numbers",
                            text);
        rc = check_number(&one, item, err);
        if (rc != HTH_OK || *p == '\0')
            return rc;
    }
}

/* "f32, f16 or q8" for the sentence. */
static void list_choices(const char *choices, char *dst, size_t dst_size)
{
    size_t at = 0;

    dst[0] = '\0';
    for (const char *p = choices; *p != '\0' && at + 1 < dst_size;) {
        size_t n = strcspn(p, "|");
        const char *sep = p == choices ? "" : p[n] == '|' ? ", " : " or ";

        at +=
            (size_t)snprintf(dst + at, dst_size - at, "%s%.*s", sep, (int)n, p);
        p += n;
        p += *p == '|';
    }
}

int hth_opt_check(const struct hth_opt *opt, const char *text,
                  struct hth_err *err)
{
    char words[160];
    uint64_t bytes;
    bool on;

    switch (opt->type) {
    case HTH_OPT_FLAG:
        if (hth_parse_bool(text, &on) != HTH_OK)
            return hth_fail(err, HTH_EUSAGE, "\"%.60s\" is neither yes nor no",
                            text);
        return HTH_OK;
    case HTH_OPT_INT:
    case HTH_OPT_FLOAT:
        return check_number(opt, text, err);
    case HTH_OPT_INTS:
    case HTH_OPT_FLOATS:
        return check_list(opt, text, err);
    case HTH_OPT_SIZE:
        if (hth_parse_size(text, &bytes) != HTH_OK)
            return hth_fail(err, HTH_EUSAGE,
                            "\"%.60s\" is no size; write 512MiB or 2GiB", text);
        return HTH_OK;
    case HTH_OPT_CHOICE:
        if (hth_choice_index(opt->choices, text) >= 0)
            return HTH_OK;
        list_choices(opt->choices, words, sizeof words);
        return hth_fail(err, HTH_EUSAGE, "\"%.60s\" is not %s", text, words);
    case HTH_OPT_FILE:
    case HTH_OPT_DIR:
        if (text[0] == '\0')
            return hth_fail(err, HTH_EUSAGE, "an empty path names nothing");
        return HTH_OK;
    case HTH_OPT_TEXT:
        break;
    }
    return HTH_OK;
}
