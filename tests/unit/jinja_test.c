/* jinja_test.c - the template interpreter against what Python's jinja2 makes
 * of the same snippets (tests/data/jinja_cases.json, written by
 * tests/tools/jinja_cases.py), its bounds, and the marks on caller's text.
 * The published templates are tested where they are at hand. */
#include <criterion/criterion.h>
#include <glob.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "model/jinja.h"

#define VARS_MAX 64

struct result {
    int status;
    struct hth_err err;
    struct hth_buf text, plain;
};

static void init(struct result *r)
{
    *r = (struct result){.status = 0};
    hth_buf_init(&r->text, 64u << 20);
    hth_buf_init(&r->plain, 64u << 20);
}

static void fini(struct result *r)
{
    hth_buf_fini(&r->text);
    hth_buf_fini(&r->plain);
}

static void add_vars(struct hth_jinja_input *in, struct hth_jinja_var *vars,
                     json_t *object)
{
    const char *key;
    json_t *value;

    json_object_foreach(object, key, value)
    {
        cr_assert_lt(in->count, VARS_MAX);
        vars[in->count++] =
            (struct hth_jinja_var){.name = key, .value = value, .plain = true};
    }
}

static void run(struct result *r, const char *source, json_t *a, json_t *b)
{
    struct hth_jinja_var vars[VARS_MAX];
    struct hth_jinja_input in = {.vars = vars,
                                 .now = {.tm_year = 126,
                                         .tm_mon = 0,
                                         .tm_mday = 2,
                                         .tm_hour = 3,
                                         .tm_min = 4,
                                         .tm_sec = 5}};
    struct hth_jinja *j = NULL;

    init(r);
    add_vars(&in, vars, a);
    add_vars(&in, vars, b);
    r->status =
        hth_jinja_open(&j, (struct hth_str){source, strlen(source)}, &r->err);
    if (r->status == 0)
        r->status = hth_jinja_render(j, &in, &r->text, &r->plain, &r->err);
    hth_jinja_close(j);
}

/* Does what came out equal the case's text, or its error? */
static bool right(const struct result *r, json_t *c)
{
    const char *expect = json_string_value(json_object_get(c, "expect"));
    const char *error = json_string_value(json_object_get(c, "error"));

    if (expect == NULL)
        return r->status != 0 && strstr(r->err.text, error) != NULL;
    return r->status == 0 && r->text.len == strlen(expect) &&
           memcmp(r->text.data, expect, r->text.len) == 0 &&
           r->plain.len == r->text.len;
}

Test(jinja, as_python_does)
{
    json_t *all = json_load_file("tests/data/jinja_cases.json", 0, NULL), *c;
    size_t i, bad = 0;

    cr_assert_not_null(all);
    json_array_foreach(json_object_get(all, "cases"), i, c)
    {
        const char *t = json_string_value(json_object_get(c, "template"));
        struct result r;

        run(&r, t, json_object_get(all, "vars"), NULL);
        if (!right(&r, c)) {
            fprintf(stderr, "%s\n got  %s\n want %s%s\n", t,
                    r.status != 0 ? r.err.text : hth_buf_cstr(&r.text),
                    json_string_value(json_object_get(c, "expect")),
                    json_string_value(json_object_get(c, "error")));
            bad++;
        }
        fini(&r);
    }
    cr_assert_gt(json_array_size(json_object_get(all, "cases")), 60);
    json_decref(all);
    cr_assert_eq(bad, 0, "%zu cases differ", bad);
}

static char *read_text(const char *path)
{
    FILE *f = fopen(path, "rb");
    char *text;
    size_t n;

    cr_assert_not_null(f, "%s", path);
    text = calloc(1, 1u << 20);
    n = fread(text, 1, (1u << 20) - 1, f);
    text[n] = '\0';
    fclose(f);
    return text;
}

static size_t one_file(const char *path, size_t *count)
{
    json_t *cases = json_load_file(path, 0, NULL), *c;
    size_t i, bad = 0, n = strlen(path);
    char jinja[4096], *source;

    snprintf(jinja, sizeof jinja, "%.*s.jinja", (int)(n - 5), path);
    source = read_text(jinja);
    json_array_foreach(cases, i, c)
    {
        json_t *extra = json_object_get(c, "kwargs");
        struct result r;

        run(&r, source, c, extra);
        if (!right(&r, c)) {
            fprintf(stderr, "%s, case %s differs: %s\n", path,
                    json_string_value(json_object_get(c, "case")),
                    r.status != 0 ? r.err.text : "");
            bad++;
        }
        ++*count;
        fini(&r);
    }
    json_decref(cases);
    free(source);
    return bad;
}

Test(jinja, published_templates, .timeout = 300)
{
    const char *at = getenv("HEARTH_GOLDEN");
    char pattern[4096];
    size_t bad = 0, count = 0;
    glob_t g;

    snprintf(pattern, sizeof pattern, "%s/templates/*.json",
             at != NULL ? at : "../shared/golden");
    if (glob(pattern, 0, NULL, &g) != 0) {
        fprintf(stderr,
                "SKIPPED: no published chat templates at %s (they are other "
                "projects' text); set HEARTH_GOLDEN\n",
                pattern);
        return;
    }
    for (size_t i = 0; i < g.gl_pathc; i++)
        bad += one_file(g.gl_pathv[i], &count);
    globfree(&g);
    fprintf(stderr, "%zu cases of published templates\n", count);
    cr_assert_eq(bad, 0, "%zu of %zu cases differ", bad, count);
}

/* ---- bounds ----------------------------------------------------------------
 */

static void fails(const char *source, int status, const char *text)
{
    json_t *vars = json_pack("{s:i}", "n", 1);
    struct result r;

    run(&r, source, vars, NULL);
    cr_assert_eq(r.status, status, "%s: %d %s", source, r.status, r.err.text);
    cr_assert_not_null(strstr(r.err.text, text), "%s: %s", source, r.err.text);
    cr_assert_eq(r.text.len, 0);
    fini(&r);
    json_decref(vars);
}

Test(jinja, bounds, .timeout = 300)
{
    char deep[4096];

    fails("{% for a in range(100000) %}{% for b in range(100000) %}"
          "{% endfor %}{% endfor %}",
          HTH_ELIMIT, "");
    fails("{{ range(100001) }}", HTH_ELIMIT, "range");
    fails("{{ 'aaaaaaaa' * 99999999 }}", HTH_ELIMIT, "too long");
    fails("{% set ns = namespace(s='xxxxxxxx') %}{% for i in range(64) %}"
          "{% set ns.s = ns.s + ns.s %}{% endfor %}",
          HTH_ELIMIT, "");
    fails("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", HTH_ELIMIT,
          "deeper");
    fails("{% set ns = namespace() %}{% set ns.a = ns %}{{ ns == ns }}"
          "{{ [ns]|tojson }}",
          HTH_EFORMAT, "serializable");
    memset(deep, '-', sizeof deep);
    memcpy(deep, "{{ ", 3);
    memcpy(deep + sizeof deep - 5, "1 }}", 5);
    fails(deep, HTH_EFORMAT, "deep");
    fails("{{ n ", HTH_EFORMAT, "never ends");
    fails("{% if n %}", HTH_EFORMAT, "inside a block");
    fails("a\n\n{{ n n }}", HTH_EFORMAT, "line 3");
    fails("\xff", HTH_EFORMAT, "UTF-8");
    fails("{{ 9223372036854775807 + 1 }}", HTH_EFORMAT, "too long");
    fails("{{ 999999999999999999 * 999999999999999999 }}", HTH_EFORMAT,
          "64 bits");
}

/* What came from the caller is marked through every operation on it. */
Test(jinja, marks)
{
    static const char source[] =
        "<s>{{ a }}{{ a|upper }}{{ a[1:] + 'x' }}{{ a|replace('b', 'yy') }}"
        "{{ [a, 'k']|join('-') }}{{ {'k': a}|tojson }}{{ a.split('b')[1] }}"
        "{% set z %}{{ a }}!{% endset %}{{ z|trim }}";
    static const char want[] = "<s>abcABCbcxayycabc-k{\"k\": \"abc\"}cabc!";
    static const char marks[] = "00011111111010011110000000001110011110";
    json_t *vars = json_pack("{s:s}", "a", "abc");
    struct result r;

    run(&r, source, vars, NULL);
    cr_assert_eq(r.status, 0, "%s", r.err.text);
    cr_assert_str_eq(hth_buf_cstr(&r.text), want);
    for (size_t i = 0; i < r.plain.len; i++)
        r.plain.data[i] = (uint8_t)(r.plain.data[i] + '0');
    cr_assert_str_eq(hth_buf_cstr(&r.plain), marks);
    fini(&r);
    json_decref(vars);
}
