/* options_test.c - values, parsing, nearest names, precedence of the sources,
 * and what is generated from the tables. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/rng.h"
#include "cli/help.h"
#include "cli/options.h"
#include "cli/sources.h"

static const struct hth_opt opts[] = {
    {.name = "model",
     .letter = 'm',
     .type = HTH_OPT_FILE,
     .arg = "FILE",
     .help = "A file.",
     .line_only = true},
    {.name = "max-tokens",
     .letter = 'n',
     .type = HTH_OPT_INT,
     .arg = "N",
     .help = "A number.",
     .fallback = "16",
     .min = -1,
     .max = 100},
    {.name = "temp",
     .type = HTH_OPT_FLOAT,
     .arg = "T",
     .help = "A number.",
     .fallback = "0.5",
     .min = 0,
     .max = 2},
    {.name = "wire",
     .type = HTH_OPT_CHOICE,
     .arg = "TYPE",
     .help = "A word.",
     .fallback = "f16",
     .choices = "f32|f16|q8"},
    {.name = "memory", .type = HTH_OPT_SIZE, .arg = "SIZE", .help = "Bytes."},
    {.name = "stop",
     .letter = 's',
     .type = HTH_OPT_TEXT,
     .arg = "TEXT",
     .help = "Words.",
     .repeats = true},
    {.name = "shares",
     .type = HTH_OPT_FLOATS,
     .arg = "LIST",
     .help = "Numbers.",
     .max = 10,
     .choices = "auto"},
    {.name = "pg",
     .type = HTH_OPT_INTS,
     .arg = "P,N",
     .help = "Numbers.",
     .max = 10,
     .one_dash = true},
    {.name = "json", .letter = 'j', .type = HTH_OPT_FLAG, .help = "A flag."},
    {.name = "verbose", .letter = 'v', .type = HTH_OPT_FLAG, .help = "A flag."},
    {.name = NULL},
};

static const struct hth_verb verb = {.name = "run",
                                     .operand = "[PROMPT]",
                                     .summary = "A verb.",
                                     .opts = opts,
                                     .operands_max = 1};

#define LINE(...) ((char *[]){__VA_ARGS__, NULL})

static int parse(struct hth_args *args, char *const *argv, struct hth_err *err)
{
    struct hth_opt_sources none = {0};

    memset(err, 0, sizeof *err);
    return hth_args_parse(args, &verb, &none, argv, err);
}

/* Parse and expect a usage error whose sentence has `part` in it. */
static void refuse(char *const *argv, const char *part)
{
    struct hth_args args;
    struct hth_err err;

    cr_assert(eq(int, parse(&args, argv, &err), HTH_EUSAGE));
    cr_assert(strstr(err.text, part) != NULL, "\"%s\" lacks \"%s\"", err.text,
              part);
}

Test(options, all_spellings)
{
    struct hth_args a;
    struct hth_err err;

    cr_assert(eq(int,
                 parse(&a,
                       LINE("-m", "x.gguf", "-n7", "--temp=1.5", "--wire", "q8",
                            "hello", "-jv"),
                       &err),
                 HTH_OK));
    cr_assert(eq(str, (char *)hth_args_text(&a, "model"), "x.gguf"));
    cr_assert(eq(i64, hth_args_int(&a, "max-tokens"), 7));
    cr_assert(eq(dbl, hth_args_float(&a, "temp"), 1.5));
    cr_assert(eq(uint, hth_args_choice(&a, "wire"), 2));
    cr_assert(hth_args_flag(&a, "json"));
    cr_assert(hth_args_flag(&a, "verbose"));
    cr_assert(eq(uint, a.operand_count, 1));
    cr_assert(eq(str, (char *)a.operands[0], "hello"));
    hth_args_fini(&a);
}

Test(options, defaults_and_unset)
{
    struct hth_args a;
    struct hth_err err;

    cr_assert(eq(int, parse(&a, LINE("--"), &err), HTH_OK));
    cr_assert(eq(i64, hth_args_int(&a, "max-tokens"), 16));
    cr_assert(not(hth_args_given(&a, "max-tokens")));
    cr_assert(eq(uint, hth_args_choice(&a, "wire"), 1));
    cr_assert(eq(u64, hth_args_size(&a, "memory"), 0));
    cr_assert(eq(ptr, (void *)hth_args_text(&a, "model"), NULL));
    cr_assert(not(hth_args_flag(&a, "json")));
    hth_args_fini(&a);
}

/* A value may look like an option: -1 must be possible, and so must a prompt
 * that starts with a dash, after --. */
Test(options, dashes)
{
    struct hth_args a;
    struct hth_err err;

    cr_assert(
        eq(int, parse(&a, LINE("-n", "-1", "--", "--json"), &err), HTH_OK));
    cr_assert(eq(i64, hth_args_int(&a, "max-tokens"), -1));
    cr_assert(eq(str, (char *)a.operands[0], "--json"));
    cr_assert(not(hth_args_flag(&a, "json")));
    hth_args_fini(&a);
    cr_assert(eq(int, parse(&a, LINE("-"), &err), HTH_OK));
    cr_assert(eq(str, (char *)a.operands[0], "-"));
    hth_args_fini(&a);
}

Test(options, repeats_collect_and_others_replace)
{
    struct hth_args a;
    struct hth_err err;

    cr_assert(eq(int,
                 parse(&a,
                       LINE("-s", "a", "--stop", "b", "-n1", "-n2", "--json",
                            "--json=no"),
                       &err),
                 HTH_OK));
    cr_assert(eq(uint, hth_args_count(&a, "stop"), 2));
    cr_assert(eq(str, (char *)hth_args_at(&a, "stop", 1), "b"));
    cr_assert(eq(ptr, (void *)hth_args_at(&a, "stop", 2), NULL));
    cr_assert(eq(i64, hth_args_int(&a, "max-tokens"), 2));
    cr_assert(not(hth_args_flag(&a, "json")));
    hth_args_fini(&a);
}

Test(options, refusals)
{
    refuse(LINE("--tmep", "1"), "did you mean --temp?");
    refuse(LINE("--max-token=1"), "did you mean --max-tokens?");
    refuse(LINE("--temperature", "1"), "did you mean --temp?");
    refuse(LINE("--zzzzzzzz"), "unknown option --zzzzzzzz");
    refuse(LINE("-q"), "unknown option -q");
    refuse(LINE("--temp"), "--temp needs a value");
    refuse(LINE("-n"), "-n needs a value");
    refuse(LINE("--temp", "warm"), "\"warm\" is no number");
    refuse(LINE("--temp", "2.1"), "not between 0 and 2");
    refuse(LINE("-n", "1.5"), "no whole number");
    refuse(LINE("--wire", "f8"), "\"f8\" is not f32, f16 or q8");
    refuse(LINE("--memory", "2 apples"), "is no size");
    refuse(LINE("--shares", "1,,2"), "comma-separated");
    refuse(LINE("--shares", "1,11"), "not between 0 and 10");
    refuse(LINE("--shares", "none"), "is no number");
    refuse(LINE("--json=perhaps"), "neither yes nor no");
    refuse(LINE("a", "b"), "one word too many");
    refuse(LINE("--model="), "empty path");
}

Test(options, required_and_missing_operand)
{
    static const struct hth_opt need[] = {{.name = "model",
                                           .type = HTH_OPT_FILE,
                                           .arg = "FILE",
                                           .help = "A file.",
                                           .required = true},
                                          {.name = NULL}};
    struct hth_verb v = {.name = "x",
                         .operand = "DEVICE",
                         .opts = need,
                         .operands_min = 1,
                         .operands_max = 1};
    struct hth_opt_sources none = {0};
    struct hth_args a;
    struct hth_err err;

    cr_assert(
        eq(int, hth_args_parse(&a, &v, &none, LINE("x"), &err), HTH_EUSAGE));
    cr_assert(eq(str, err.text, "--model FILE is missing"));
    cr_assert(eq(int, hth_args_parse(&a, &v, &none, LINE("--model=y"), &err),
                 HTH_EUSAGE));
    cr_assert(eq(str, err.text, "DEVICE is missing"));
}

/* --help wins over everything after it and over what is missing. */
Test(options, help)
{
    struct hth_args a;
    struct hth_err err;

    cr_assert(eq(int, parse(&a, LINE("--help", "--nonsense"), &err), HTH_OK));
    cr_assert(a.help);
    hth_args_fini(&a);
    cr_assert(eq(int, parse(&a, LINE("-h"), &err), HTH_OK));
    cr_assert(a.help);
    hth_args_fini(&a);
}

Test(options, too_many_of_one)
{
    char *argv[2 * HTH_OPT_REPEATS_MAX + 3];
    size_t n = 0;

    while (n < 2 * (HTH_OPT_REPEATS_MAX + 1)) {
        argv[n++] = "--stop";
        argv[n++] = "x";
    }
    argv[n] = NULL;
    refuse(argv, "more than 64 times");
}

/* ---- sources ------------------------------------------------------------- */

static struct hth_opt_sources env_only(const char *const *environment)
{
    struct hth_opt_sources s = {.environment = environment};

    return s;
}

Test(sources, environment_below_line)
{
    static const char *const env[] = {
        "HEARTH_TEMP=1", "HEARTH_MAX_TOKENS=3", "HEARTH_MODEL=ignored.gguf",
        "HEARTH_WIRE=",  "HEARTH_JSON=yes",     NULL};
    struct hth_opt_sources from = env_only(env);
    struct hth_args a;
    struct hth_err err;

    cr_assert(eq(int, hth_args_parse(&a, &verb, &from, LINE("--temp=2"), &err),
                 HTH_OK));
    cr_assert(eq(dbl, hth_args_float(&a, "temp"), 2));
    cr_assert(eq(i64, hth_args_int(&a, "max-tokens"), 3));
    cr_assert(eq(int, (int)hth_args_origin(&a, "max-tokens"),
                 HTH_ORIGIN_ENVIRONMENT));
    cr_assert(hth_args_flag(&a, "json"));
    cr_assert(eq(uint, hth_args_choice(&a, "wire"), 1));
    cr_assert(eq(ptr, (void *)hth_args_text(&a, "model"), NULL));
    hth_args_fini(&a);
}

Test(sources, bad_environment_names_the_variable)
{
    static const char *const env[] = {"HEARTH_MAX_TOKENS=many", NULL};
    struct hth_opt_sources from = env_only(env);
    struct hth_args a;
    struct hth_err err;

    cr_assert(
        eq(int, hth_args_parse(&a, &verb, &from, LINE("x"), &err), HTH_EUSAGE));
    cr_assert(strstr(err.text, "HEARTH_MAX_TOKENS in the environment") != NULL);
}

/* A file with this text; the caller unlinks it. */
static void write_config(char *path, size_t path_size, const char *text)
{
    int fd;

    snprintf(path, path_size, "/tmp/hearth-options-XXXXXX");
    fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_assert(eq(sz, (size_t)write(fd, text, strlen(text)), strlen(text)));
    close(fd);
}

static int parse_config(struct hth_args *a, const char *text,
                        const char *const *env, char *const *argv,
                        struct hth_err *err)
{
    char path[64];
    struct hth_opt_sources from = {.environment = env, .config_path = path};
    int rc;

    write_config(path, sizeof path, text);
    rc = hth_args_parse(a, &verb, &from, argv, err);
    unlink(path);
    return rc;
}

Test(sources, config_below_environment)
{
    static const char *const env[] = {"HEARTH_TEMP=1", NULL};
    struct hth_args a;
    struct hth_err err;

    cr_assert(eq(int,
                 parse_config(&a,
                              "# a comment\n"
                              "  temp = 0.25 \r\n"
                              "max-tokens=5\n"
                              "wire = q8\n"
                              "stop = one\n"
                              "stop = two words\n"
                              "[serve]\n"
                              "port = 1234\n"
                              "[run]\n"
                              "stop = three\n"
                              "max-tokens = 6\n",
                              env, LINE("x"), &err),
                 HTH_OK));
    cr_assert(eq(dbl, hth_args_float(&a, "temp"), 1));
    cr_assert(eq(i64, hth_args_int(&a, "max-tokens"), 6));
    cr_assert(eq(uint, hth_args_choice(&a, "wire"), 2));
    cr_assert(eq(int, (int)hth_args_origin(&a, "wire"), HTH_ORIGIN_CONFIG));
    cr_assert(eq(uint, hth_args_count(&a, "stop"), 1));
    cr_assert(eq(str, (char *)hth_args_text(&a, "stop"), "three"));
    hth_args_fini(&a);
    cr_assert(eq(int,
                 parse_config(&a, "stop = one\nstop = two words\n", NULL,
                              LINE("x"), &err),
                 HTH_OK));
    cr_assert(eq(uint, hth_args_count(&a, "stop"), 2));
    cr_assert(eq(str, (char *)hth_args_at(&a, "stop", 1), "two words"));
    hth_args_fini(&a);
}

static void refuse_config(const char *text, const char *part)
{
    struct hth_args a;
    struct hth_err err;

    cr_assert(
        eq(int, parse_config(&a, text, NULL, LINE("x"), &err), HTH_EUSAGE));
    cr_assert(strstr(err.text, part) != NULL, "\"%s\" lacks \"%s\"", err.text,
              part);
}

Test(sources, config_refusals)
{
    refuse_config("temp = warm\n", ":1: temp: \"warm\" is no number");
    refuse_config("\n\ntemp\n", ":3: write key = value");
    refuse_config("[rnu]\n", ":1: [rnu] is no verb");
    refuse_config("[run\n", ":1: a section is [verb]");
    refuse_config("[run]\nmax-token = 1\n", "did you mean max-tokens?");
    refuse_config("colour = red\n", ":1: unknown key colour");
    refuse_config("[run]\nmodel = x\n", "belongs on the command line");
}

Test(sources, config_missing_or_too_long)
{
    struct hth_opt_sources from = {.config_path = "/nonexistent/config.ini"};
    struct hth_args a;
    struct hth_err err;
    char *text = malloc(HTH_CONFIG_BYTES_MAX + 2);

    cr_assert(
        eq(int, hth_args_parse(&a, &verb, &from, LINE("x"), &err), HTH_OK));
    hth_args_fini(&a);
    from.config_required = true;
    cr_assert(
        eq(int, hth_args_parse(&a, &verb, &from, LINE("x"), &err), HTH_EIO));
    memset(text, '#', HTH_CONFIG_BYTES_MAX + 1);
    text[HTH_CONFIG_BYTES_MAX + 1] = '\0';
    cr_assert(
        eq(int, parse_config(&a, text, NULL, LINE("x"), &err), HTH_ELIMIT));
    text[HTH_CONFIG_BYTES_MAX] = '\0';
    cr_assert(eq(int, parse_config(&a, text, NULL, LINE("x"), &err), HTH_OK));
    hth_args_fini(&a);
    free(text);
}

/* Random bytes from a small alphabet of what matters to the parser: any
 * status will do, a crash will not (run under sanitizers too). */
Test(sources, config_noise)
{
    static const char alphabet[] = "[]=#;\n\r \ttempwiremax-tokens0123run";
    struct hth_rng rng;

    hth_rng_init(&rng, 7);
    for (int round = 0; round < 2000; round++) {
        size_t n = hth_rng_u64(&rng) % 80;
        struct hth_args a = {.verb = &verb};
        char text[81];
        int rc;

        for (size_t i = 0; i < n; i++)
            text[i] = alphabet[hth_rng_u64(&rng) % (sizeof alphabet - 1)];
        text[n] = '\0';
        rc = hth_sources_config_text(&a, text, "noise", NULL);
        cr_assert(rc == HTH_OK || rc == HTH_EUSAGE);
    }
}

/* ---- values -------------------------------------------------------------- */

Test(values, sizes)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"0", 0},
                {"4096", 4096},
                {"4096B", 4096},
                {"2GiB", UINT64_C(2) << 30},
                {"2G", UINT64_C(2) << 30},
                {"1.5 GiB", UINT64_C(3) << 29},
                {"800MiB", UINT64_C(800) << 20},
                {"1kB", 1000},
                {"1KB", 1000},
                {"3GB", UINT64_C(3000000000)},
                {"1TiB", UINT64_C(1) << 40}};
    static const char *const bad[] = {"",    "-1",   "GiB",  "1X",  "1GiBs",
                                      "0x1", "1e30", "inf",  "1 2", "1Gi",
                                      "nan", "1,5G", " 1GiB"};
    uint64_t v;

    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        cr_assert(eq(int, hth_parse_size(good[i].text, &v), HTH_OK), "%s",
                  good[i].text);
        cr_assert(eq(u64, v, good[i].bytes), "%s", good[i].text);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert(eq(int, hth_parse_size(bad[i], &v), HTH_EUSAGE), "%s",
                  bad[i]);
}

Test(values, numbers)
{
    static const char *const bad_int[] = {
        "", " 1", "1 ", "0x10", "1.0", "99999999999999999999", "one"};
    static const char *const bad_float[] = {"",    " 1",   "1 ",  "0x1p3",
                                            "inf", "-inf", "nan", "1e999"};
    int64_t i64v;
    double d;

    for (size_t i = 0; i < sizeof bad_int / sizeof bad_int[0]; i++)
        cr_assert(eq(int, hth_parse_int(bad_int[i], &i64v), HTH_EUSAGE), "%s",
                  bad_int[i]);
    for (size_t i = 0; i < sizeof bad_float / sizeof bad_float[0]; i++)
        cr_assert(eq(int, hth_parse_float(bad_float[i], &d), HTH_EUSAGE), "%s",
                  bad_float[i]);
    cr_assert(eq(int, hth_parse_int("-42", &i64v), HTH_OK));
    cr_assert(eq(i64, i64v, -42));
    cr_assert(eq(int, hth_parse_float("1e-3", &d), HTH_OK));
    cr_assert(eq(dbl, d, 1e-3));
}

Test(values, lists)
{
    double f[3];
    uint32_t u[3];
    size_t n = 99;

    cr_assert(eq(int, hth_parse_floats("1,2.5,0", f, 3, &n), HTH_OK));
    cr_assert(eq(sz, n, 3));
    cr_assert(eq(dbl, f[1], 2.5));
    cr_assert(eq(int, hth_parse_floats("1,2,3,4", f, 3, &n), HTH_EUSAGE));
    cr_assert(eq(int, hth_parse_floats("1,", f, 3, &n), HTH_EUSAGE));
    cr_assert(eq(int, hth_parse_u32s("4294967295", u, 3, &n), HTH_OK));
    cr_assert(eq(u32, u[0], UINT32_MAX));
    cr_assert(eq(int, hth_parse_u32s("4294967296", u, 3, &n), HTH_EUSAGE));
    cr_assert(eq(int, hth_parse_u32s("-1", u, 3, &n), HTH_EUSAGE));
}

/* ---- names and generated text -------------------------------------------- */

Test(names, distance)
{
    cr_assert(eq(uint, hth_edit_distance("", ""), 0));
    cr_assert(eq(uint, hth_edit_distance("abc", "abc"), 0));
    cr_assert(eq(uint, hth_edit_distance("abc", ""), 3));
    cr_assert(eq(uint, hth_edit_distance("kitten", "sitting"), 3));
    cr_assert(eq(uint, hth_edit_distance("ab", "ba"), 1));
    cr_assert(eq(uint, hth_edit_distance("temp", "tmep"), 1));
}

Test(names, environment)
{
    char name[64];

    hth_opt_env_name("log-level", name, sizeof name);
    cr_assert(eq(str, name, "HEARTH_LOG_LEVEL"));
}

static unsigned longest_line(const char *text)
{
    unsigned longest = 0;

    while (*text != '\0') {
        unsigned n = (unsigned)strcspn(text, "\n");

        longest = n > longest ? n : longest;
        text += n;
        text += *text == '\n';
    }
    return longest;
}

/* What users read fits their terminal, names every option, and every default
 * of the real table is a value its row accepts. */
Test(tables, help_of_every_verb)
{
    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++) {
        struct hth_buf out;

        hth_buf_init(&out, HTH_HELP_BYTES_MAX);
        hth_help_verb(&out, v);
        cr_assert(longest_line(hth_buf_cstr(&out)) < HTH_HELP_COLUMNS, "%s",
                  v->name);
        for (const struct hth_opt *o = v->opts; o->name != NULL; o++) {
            char term[80];

            snprintf(term, sizeof term, "--%s", o->name);
            cr_assert(strstr(hth_buf_cstr(&out), term) != NULL);
            cr_assert(o - v->opts < HTH_OPTS_MAX);
            cr_assert(o->type == HTH_OPT_FLAG || o->arg != NULL);
            cr_assert(o->type != HTH_OPT_CHOICE || o->choices != NULL);
            if (o->fallback != NULL)
                cr_assert(eq(int, hth_opt_check(o, o->fallback, NULL), HTH_OK));
        }
        hth_buf_fini(&out);
    }
}

Test(tables, names_and_letters_are_unique)
{
    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++) {
        cr_assert(eq(ptr, (void *)hth_verb_find(v->name), (void *)v));
        for (const struct hth_opt *a = v->opts; a->name != NULL; a++) {
            cr_assert(strcmp(a->name, "help") != 0 && a->letter != 'h');
            for (const struct hth_opt *b = v->opts; b < a; b++) {
                cr_assert(strcmp(a->name, b->name) != 0, "%s %s", v->name,
                          a->name);
                cr_assert(a->letter == 0 || a->letter != b->letter, "%s -%c",
                          v->name, a->letter);
            }
        }
    }
}

Test(tables, program_help_man_and_completion)
{
    static const char *const shells[] = {"bash", "zsh", "fish"};
    struct hth_buf out;

    hth_buf_init(&out, HTH_HELP_BYTES_MAX);
    hth_help_program(&out);
    cr_assert(longest_line(hth_buf_cstr(&out)) < HTH_HELP_COLUMNS);
    for (size_t i = 0; i < 3; i++) {
        hth_buf_reset(&out);
        hth_help_completion(&out, shells[i]);
        for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++)
            cr_assert(strstr(hth_buf_cstr(&out), v->name) != NULL);
    }
    hth_buf_reset(&out);
    hth_help_man(&out);
    for (const struct hth_verb *v = hth_verbs; v->name != NULL; v++) {
        char heading[64];

        snprintf(heading, sizeof heading, ".Ss %s", v->name);
        cr_assert(strstr(hth_buf_cstr(&out), heading) != NULL);
    }
    cr_assert(not(out.failed));
    hth_buf_fini(&out);
}

/* A long name that other programs write with one dash. */
Test(options, one_dash)
{
    struct hth_args args;
    struct hth_err err;

    cr_assert_eq(parse(&args, LINE("-pg", "3,4", "-jv"), &err), HTH_OK, "%s",
                 err.text);
    cr_assert_str_eq(hth_args_text(&args, "pg"), "3,4");
    cr_assert(hth_args_flag(&args, "json"));
    cr_assert(hth_args_flag(&args, "verbose"));
    hth_args_fini(&args);
    cr_assert_eq(parse(&args, LINE("-pg=5"), &err), HTH_OK, "%s", err.text);
    cr_assert_str_eq(hth_args_text(&args, "pg"), "5");
    hth_args_fini(&args);
    refuse(LINE("-pg"), "--pg needs a value");
    refuse(LINE("-wire", "f16"), "unknown option -w");
}
