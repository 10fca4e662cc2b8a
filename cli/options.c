/* options.c - parsing a command line by a verb's table, and the values that
 * come out of it. Owns the order of precedence; the environment and the
 * configuration file are read in cli/sources.c. Refuses unknown options,
 * values outside their row and surplus operands, each with a sentence. */
#include "cli/options.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/sources.h"

const struct hth_verb *hth_verb_find(const char *name)
{
    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++)
        if (strcmp(v->name, name) == 0)
            return v;
    return NULL;
}

/* ---- the nearest name ---------------------------------------------------- */

#define WORD_MAX 64u

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned m = a < b ? a : b;

    return m < c ? m : c;
}

/* Damerau's distance with adjacent swaps (the "optimal string alignment"
 * form), since swapped neighbours are the commonest slip at a keyboard. Three
 * rows of the matrix are enough. */
unsigned hth_edit_distance(const char *a, const char *b)
{
    unsigned rows[3][WORD_MAX + 1];
    size_t la = strlen(a);
    size_t lb = strlen(b);

    if (la >= WORD_MAX || lb >= WORD_MAX)
        return WORD_MAX;
    for (unsigned j = 0; j <= lb; j++)
        rows[0][j] = j;
    for (unsigned i = 1; i <= la; i++) {
        unsigned *now = rows[i % 3];
        const unsigned *up = rows[(i + 2) % 3];
        const unsigned *up2 = rows[(i + 1) % 3];

        now[0] = i;
        for (unsigned j = 1; j <= lb; j++) {
            unsigned change = up[j - 1] + (a[i - 1] != b[j - 1]);

            now[j] = min3(up[j] + 1, now[j - 1] + 1, change);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] &&
                a[i - 2] == b[j - 1] && up2[j - 2] + 1 < now[j])
                now[j] = up2[j - 2] + 1;
        }
    }
    return rows[la % 3][lb];
}

/* Keep candidate in *best when it is nearer to name. A prefix ("--temperature"
 * for "temp" or the other way round) counts as one edit. */
static void consider(const char *name, const char *candidate, const char **best,
                     unsigned *best_edits)
{
    size_t shared =
        strlen(name) < strlen(candidate) ? strlen(name) : strlen(candidate);
    unsigned edits = hth_edit_distance(name, candidate);

    if (shared >= 3 && strncmp(name, candidate, shared) == 0 && edits > 1)
        edits = 1;
    if (edits < *best_edits) {
        *best_edits = edits;
        *best = candidate;
    }
}

/* Beyond a third of the letters a guess is noise. */
static unsigned edits_allowed(const char *name)
{
    return (unsigned)strlen(name) / 3 + 2;
}

const char *hth_closest_option(const struct hth_verb *verb, const char *name)
{
    unsigned edits = edits_allowed(name);
    const char *best = NULL;

    for (const struct hth_opt *o = verb->opts; o->name != NULL; o++)
        consider(name, o->name, &best, &edits);
    consider(name, "help", &best, &edits);
    return best;
}

const char *hth_closest_verb(const char *name)
{
    unsigned edits = edits_allowed(name);
    const char *best = NULL;

    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++)
        consider(name, v->name, &best, &edits);
    return best;
}

int hth_fail_unknown_verb(const char *word, struct hth_err *err)
{
    const char *near = hth_closest_verb(word);

    if (near == NULL)
        return hth_fail(err, HTH_EUSAGE, "unknown verb \"%.60s\"", word);
    return hth_fail(err, HTH_EUSAGE, "unknown verb \"%.60s\"; did you mean %s?",
                    word, near);
}

/* ---- the command line ---------------------------------------------------- */

static const struct hth_opt *find_long(const struct hth_verb *verb,
                                       const char *name, size_t n)
{
    for (const struct hth_opt *o = verb->opts; o->name != NULL; o++)
        if (strlen(o->name) == n && memcmp(o->name, name, n) == 0)
            return o;
    return NULL;
}

static const struct hth_opt *find_letter(const struct hth_verb *verb, char c)
{
    for (const struct hth_opt *o = verb->opts; o->name != NULL; o++)
        if (o->letter == c)
            return o;
    return NULL;
}

/* The last one wins, except where the row collects. */
static int set_from_line(struct hth_args *args, const struct hth_opt *opt,
                         const char *text, struct hth_err *err)
{
    struct hth_opt_value *v = &args->values[opt - args->verb->opts];
    int rc = hth_opt_check(opt, text, err);

    if (rc != HTH_OK)
        return hth_fail_prefix(err, rc, "--%s", opt->name);
    if (!opt->repeats)
        v->count = 0;
    if (v->count == HTH_OPT_REPEATS_MAX)
        return hth_fail(err, HTH_EUSAGE, "--%s is given more than %u times",
                        opt->name, HTH_OPT_REPEATS_MAX);
    v->text[v->count++] = text;
    v->origin = HTH_ORIGIN_LINE;
    return HTH_OK;
}

static int unknown_option(const struct hth_verb *verb, const char *name,
                          size_t n, struct hth_err *err)
{
    char word[WORD_MAX];
    const char *near;

    snprintf(word, sizeof word, "%.*s", (int)(n < 60 ? n : 60), name);
    near = hth_closest_option(verb, word);
    if (near == NULL)
        return hth_fail(err, HTH_EUSAGE, "unknown option --%s", word);
    return hth_fail(err, HTH_EUSAGE, "unknown option --%s; did you mean --%s?",
                    word, near);
}

/* --name, --name=VALUE, --name VALUE. Advances *at past a value taken from the
 * next word: whatever stands there is the value, even with a leading dash, or
 * negative numbers could not be given. */
static int parse_long(struct hth_args *args, char *const *argv, unsigned *at,
                      struct hth_err *err)
{
    const char *name = argv[*at] + (argv[*at][1] == '-' ? 2 : 1);
    size_t n = strcspn(name, "=");
    const struct hth_opt *opt = find_long(args->verb, name, n);

    if (n == 4 && memcmp(name, "help", 4) == 0) {
        args->help = true;
        return HTH_OK;
    }
    if (opt == NULL)
        return unknown_option(args->verb, name, n, err);
    if (name[n] == '=')
        return set_from_line(args, opt, name + n + 1, err);
    if (opt->type == HTH_OPT_FLAG)
        return set_from_line(args, opt, "yes", err);
    if (argv[*at + 1] == NULL)
        return hth_fail(err, HTH_EUSAGE, "--%s needs a value: --%s %s",
                        opt->name, opt->name, opt->arg);
    *at += 1;
    return set_from_line(args, opt, argv[*at], err);
}

/* -x, -x VALUE, -xVALUE, and flags run together. */
static int parse_letters(struct hth_args *args, char *const *argv, unsigned *at,
                         struct hth_err *err)
{
    for (const char *p = argv[*at] + 1; *p != '\0'; p++) {
        const struct hth_opt *opt = find_letter(args->verb, *p);
        int rc;

        if (*p == 'h' && opt == NULL) {
            args->help = true;
            return HTH_OK;
        }
        if (opt == NULL)
            return hth_fail(err, HTH_EUSAGE, "unknown option -%c", *p);
        if (opt->type != HTH_OPT_FLAG) {
            if (p[1] != '\0')
                return set_from_line(args, opt, p + 1, err);
            if (argv[*at + 1] == NULL)
                return hth_fail(err, HTH_EUSAGE, "-%c needs a value: -%c %s",
                                *p, *p, opt->arg);
            *at += 1;
            return set_from_line(args, opt, argv[*at], err);
        }
        rc = set_from_line(args, opt, "yes", err);
        if (rc != HTH_OK)
            return rc;
    }
    return HTH_OK;
}

static int add_operand(struct hth_args *args, const char *text,
                       struct hth_err *err)
{
    unsigned max = args->verb->operands_max;

    if (args->operand_count >= max || args->operand_count >= HTH_OPERANDS_MAX) {
        if (max == 0)
            return hth_fail(err, HTH_EUSAGE,
                            "\"%.60s\" is one word too many: this verb takes "
                            "options only",
                            text);
        return hth_fail(err, HTH_EUSAGE,
                        "\"%.60s\" is one word too many; quote a text of "
                        "several words",
                        text);
    }
    args->operands[args->operand_count++] = text;
    return HTH_OK;
}

/* A long name behind one dash. */
static bool is_one_dash(const struct hth_args *args, const char *word)
{
    const struct hth_opt *opt =
        find_long(args->verb, word + 1, strcspn(word + 1, "="));

    return opt != NULL && opt->one_dash;
}

static int parse_line(struct hth_args *args, char *const *argv,
                      struct hth_err *err)
{
    bool options_over = false;
    int rc = HTH_OK;

    for (unsigned i = 0; argv[i] != NULL && rc == HTH_OK && !args->help; i++) {
        const char *word = argv[i];

        if (options_over || word[0] != '-' || word[1] == '\0')
            rc = add_operand(args, word, err);
        else if (strcmp(word, "--") == 0)
            options_over = true;
        else if (word[1] == '-' || is_one_dash(args, word))
            rc = parse_long(args, argv, &i, err);
        else
            rc = parse_letters(args, argv, &i, err);
    }
    return rc;
}

static int check_operand(const struct hth_args *args, struct hth_err *err)
{
    const char *choices = args->verb->operand_choices;
    const char *word = args->operands[0];

    if (choices == NULL || args->operand_count == 0)
        return HTH_OK;
    if (strcmp(choices, "(verbs)") == 0)
        return hth_verb_find(word) != NULL ? HTH_OK
                                           : hth_fail_unknown_verb(word, err);
    if (hth_choice_index(choices, word) >= 0)
        return HTH_OK;
    return hth_fail(err, HTH_EUSAGE, "\"%.60s\" is none of %s", word, choices);
}

/* What is still unset takes the table's default; required rows must be set by
 * now. Defaults are checked too: a bad one is our bug. */
static int finish(struct hth_args *args, struct hth_err *err)
{
    const struct hth_verb *verb = args->verb;

    for (const struct hth_opt *o = verb->opts; o->name != NULL; o++) {
        struct hth_opt_value *v = &args->values[o - verb->opts];

        if (v->origin != HTH_ORIGIN_NONE)
            continue;
        if (o->fallback != NULL) {
            HTH_ASSERT(hth_opt_check(o, o->fallback, NULL) == HTH_OK);
            v->text[0] = o->fallback;
            v->count = 1;
            v->origin = HTH_ORIGIN_DEFAULT;
        } else if (o->required) {
            return hth_fail(err, HTH_EUSAGE, "--%s %s is missing", o->name,
                            o->arg);
        }
    }
    if (args->operand_count < verb->operands_min)
        return hth_fail(err, HTH_EUSAGE, "%s is missing", verb->operand);
    return check_operand(args, err);
}

int hth_args_parse(struct hth_args *args, const struct hth_verb *verb,
                   const struct hth_opt_sources *from, char *const *argv,
                   struct hth_err *err)
{
    int rc;

    memset(args, 0, sizeof *args);
    args->verb = verb;
    rc = parse_line(args, argv, err);
    if (rc == HTH_OK && !args->help) {
        rc = hth_sources_environment(args, from->environment, err);
        if (rc == HTH_OK)
            rc = hth_sources_config(args, from, err);
        if (rc == HTH_OK)
            rc = finish(args, err);
    }
    if (rc != HTH_OK)
        hth_args_fini(args);
    return rc;
}

void hth_args_fini(struct hth_args *args)
{
    free(args->config);
    memset(args, 0, sizeof *args);
}

/* ---- values -------------------------------------------------------------- */

static const struct hth_opt *row_of(const struct hth_args *args,
                                    const char *name)
{
    const struct hth_opt *o = find_long(args->verb, name, strlen(name));

    HTH_ASSERT(o != NULL);
    return o;
}

static const struct hth_opt_value *value_of(const struct hth_args *args,
                                            const char *name)
{
    return &args->values[row_of(args, name) - args->verb->opts];
}

enum hth_opt_origin hth_args_origin(const struct hth_args *args,
                                    const char *name)
{
    return value_of(args, name)->origin;
}

bool hth_args_given(const struct hth_args *args, const char *name)
{
    return hth_args_origin(args, name) > HTH_ORIGIN_DEFAULT;
}

unsigned hth_args_count(const struct hth_args *args, const char *name)
{
    return value_of(args, name)->count;
}

const char *hth_args_at(const struct hth_args *args, const char *name,
                        unsigned i)
{
    const struct hth_opt_value *v = value_of(args, name);

    return i < v->count ? v->text[i] : NULL;
}

const char *hth_args_text(const struct hth_args *args, const char *name)
{
    return hth_args_at(args, name, 0);
}

/* Values were checked when they were parsed, so that converting cannot fail;
 * unset ones are zero. */
bool hth_args_flag(const struct hth_args *args, const char *name)
{
    const char *text = hth_args_text(args, name);
    bool on = false;

    HTH_ASSERT(row_of(args, name)->type == HTH_OPT_FLAG);
    if (text != NULL)
        HTH_ASSERT(hth_parse_bool(text, &on) == HTH_OK);
    return on;
}

int64_t hth_args_int(const struct hth_args *args, const char *name)
{
    const char *text = hth_args_text(args, name);
    int64_t v = 0;

    HTH_ASSERT(row_of(args, name)->type == HTH_OPT_INT);
    if (text != NULL)
        HTH_ASSERT(hth_parse_int(text, &v) == HTH_OK);
    return v;
}

double hth_args_float(const struct hth_args *args, const char *name)
{
    const char *text = hth_args_text(args, name);
    double v = 0.0;

    HTH_ASSERT(row_of(args, name)->type == HTH_OPT_FLOAT);
    if (text != NULL)
        HTH_ASSERT(hth_parse_float(text, &v) == HTH_OK);
    return v;
}

uint64_t hth_args_size(const struct hth_args *args, const char *name)
{
    const char *text = hth_args_text(args, name);
    uint64_t v = 0;

    HTH_ASSERT(row_of(args, name)->type == HTH_OPT_SIZE);
    if (text != NULL)
        HTH_ASSERT(hth_parse_size(text, &v) == HTH_OK);
    return v;
}

unsigned hth_args_choice(const struct hth_args *args, const char *name)
{
    const struct hth_opt *o = row_of(args, name);
    const char *text = hth_args_text(args, name);
    int i;

    HTH_ASSERT(o->type == HTH_OPT_CHOICE && text != NULL);
    i = hth_choice_index(o->choices, text);
    HTH_ASSERT(i >= 0);
    return (unsigned)i;
}
