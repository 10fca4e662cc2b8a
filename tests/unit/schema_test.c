/* schema_test.c - JSON schemas as grammars: random schemas, random answers
 * within their grammars, and a small validator of our own that must agree. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/rng.h"
#include "model/constraint.h"

#define MODEL "models/tale-q4_0.gguf"
#define SCHEMAS 250
#define TOKENS_MAX 1500

static struct hth_tokenizer *g_tokenizer;
static struct hth_token_index *g_index;

static void setup(void)
{
    struct hth_gguf *g = NULL;
    struct hth_err err;

    cr_assert_eq(hth_gguf_open(&g, MODEL, &err), 0, "%s", err.text);
    cr_assert_eq(hth_tokenizer_open(&g_tokenizer, g, &err), 0);
    cr_assert_eq(hth_token_index_open(&g_index, g_tokenizer, &err), 0);
    hth_gguf_close(g);
}

static void teardown(void)
{
    hth_token_index_close(g_index);
    hth_tokenizer_close(g_tokenizer);
}

TestSuite(schema, .init = setup, .fini = teardown, .timeout = 300);

/* ---- a validator, written for what is generated below
 * ------------------------ */

static bool valid(const json_t *root, const json_t *s, const json_t *v);

static size_t chars(const json_t *v)
{
    size_t n = 0;

    for (const char *p = json_string_value(v), *e = p + json_string_length(v);
         p < e; p++)
        n += ((unsigned char)*p & 0xc0) != 0x80;
    return n;
}

static bool type_ok(const json_t *t, const json_t *v)
{
    const char *n;
    size_t i;
    json_t *one;

    if (t == NULL)
        return true;
    if (json_is_array(t)) {
        json_array_foreach(t, i, one) if (type_ok(one, v)) return true;
        return false;
    }
    n = json_string_value(t);
    return (!strcmp(n, "object") && json_is_object(v)) ||
           (!strcmp(n, "array") && json_is_array(v)) ||
           (!strcmp(n, "string") && json_is_string(v)) ||
           (!strcmp(n, "number") && json_is_number(v)) ||
           (!strcmp(n, "integer") && json_is_integer(v)) ||
           (!strcmp(n, "boolean") && json_is_boolean(v)) ||
           (!strcmp(n, "null") && json_is_null(v));
}

static bool limit(const json_t *s, const char *key, double have, int sign,
                  bool open)
{
    const json_t *b = json_object_get(s, key);
    double d = json_number_value(b);

    if (b == NULL)
        return true;
    return open ? (have - d) * sign > 0 : (have - d) * sign >= 0;
}

static bool object_ok(const json_t *root, const json_t *s, const json_t *v)
{
    json_t *props = json_object_get(s, "properties"), *one;
    json_t *extra = json_object_get(s, "additionalProperties");
    const char *key;
    size_t i;

    if (!json_is_object(v))
        return true;
    json_array_foreach(json_object_get(s, "required"), i,
                       one) if (json_object_get(v, json_string_value(one)) ==
                                NULL) return false;
    json_object_foreach((json_t *)(uintptr_t)v, key, one)
    {
        const json_t *p = json_object_get(props, key);

        if (p == NULL)
            p = extra;
        if (p != NULL && !valid(root, p, one))
            return false;
    }
    return limit(s, "minProperties", (double)json_object_size(v), 1, false) &&
           limit(s, "maxProperties", (double)json_object_size(v), -1, false);
}

static bool array_ok(const json_t *root, const json_t *s, const json_t *v)
{
    json_t *prefix = json_object_get(s, "prefixItems");
    json_t *items = json_object_get(s, "items"), *one;
    size_t i;

    if (!json_is_array(v))
        return true;
    json_array_foreach(v, i, one)
    {
        json_t *p =
            i < json_array_size(prefix) ? json_array_get(prefix, i) : items;

        if (p != NULL && !valid(root, p, one))
            return false;
    }
    return limit(s, "minItems", (double)json_array_size(v), 1, false) &&
           limit(s, "maxItems", (double)json_array_size(v), -1, false);
}

static bool any_ok(const json_t *root, const json_t *list, const json_t *v,
                   size_t from, size_t to)
{
    json_t *one;
    size_t i, n = 0;

    if (list == NULL)
        return true;
    json_array_foreach(list, i, one) n += valid(root, one, v);
    return n >= from && n <= to;
}

static bool valid(const json_t *root, const json_t *s, const json_t *v)
{
    const json_t *ref = json_object_get(s, "$ref"), *k;
    json_t *list = json_object_get(s, "allOf");

    if (json_is_boolean(s))
        return json_is_true(s);
    if (ref != NULL) {
        const char *name = strrchr(json_string_value(ref), '/') + 1;
        const json_t *to =
            json_object_get(json_object_get(root, "$defs"), name);

        if (!valid(root, to, v))
            return false;
    }
    if ((k = json_object_get(s, "const")) != NULL && !json_equal(k, v))
        return false;
    if ((k = json_object_get(s, "enum")) != NULL) {
        bool in = false;

        for (size_t i = 0; i < json_array_size(k); i++)
            in = in || json_equal(json_array_get(k, i), v);
        if (!in)
            return false;
    }
    if (!any_ok(root, json_object_get(s, "anyOf"), v, 1, SIZE_MAX) ||
        !any_ok(root, json_object_get(s, "oneOf"), v, 1, 1) ||
        !any_ok(root, list, v, json_array_size(list), SIZE_MAX))
        return false;
    if (!type_ok(json_object_get(s, "type"), v))
        return false;
    if (json_is_number(v) &&
        !(limit(s, "minimum", json_number_value(v), 1, false) &&
          limit(s, "maximum", json_number_value(v), -1, false) &&
          limit(s, "exclusiveMinimum", json_number_value(v), 1, true) &&
          limit(s, "exclusiveMaximum", json_number_value(v), -1, true)))
        return false;
    if (json_is_string(v) &&
        !(limit(s, "minLength", (double)chars(v), 1, false) &&
          limit(s, "maxLength", (double)chars(v), -1, false)))
        return false;
    return object_ok(root, s, v) && array_ok(root, s, v);
}

/* ---- random schemas
 * ------------------------------------------------------------ */

static struct hth_rng g_rng;

static unsigned dice(unsigned n)
{
    return (unsigned)(hth_rng_unit(&g_rng) * n);
}

static json_t *make(unsigned depth);

static json_t *make_object(unsigned depth)
{
    static const char *const names[] = {"name", "na", "age", "x y",
                                        "q\"q", "n",  "tag]"};
    json_t *s = json_pack("{s:s}", "type", "object");
    json_t *props = json_object(), *required = json_array();
    bool quote = false;

    for (unsigned i = dice(5); i > 0; i--) {
        const char *n = names[dice(7)];

        quote = quote || strchr(n, '"') != NULL;
        if (json_object_get(props, n) == NULL && dice(2))
            json_array_append_new(required, json_string(n));
        json_object_set_new(props, n, make(depth + 1));
    }
    if (json_object_size(props) > 0 || dice(2))
        json_object_set(s, "properties", props);
    if (json_array_size(required) > 0)
        json_object_set(s, "required", required);
    if (dice(3) == 0 && !quote)
        json_object_set_new(s, "additionalProperties", make(depth + 1));
    else if (dice(2))
        json_object_set_new(s, "additionalProperties", json_false());
    if (json_object_size(props) == 0 && dice(3) == 0 &&
        !json_is_false(json_object_get(s, "additionalProperties")))
        json_object_set_new(s, "maxProperties", json_integer(dice(4)));
    json_decref(props);
    json_decref(required);
    return s;
}

static json_t *make_array(unsigned depth)
{
    json_t *s = json_pack("{s:s}", "type", "array");
    unsigned min = dice(3), prefix = dice(4) == 0 ? dice(3) : 0;

    json_object_set_new(s, "items", make(depth + 1));
    if (prefix > 0) {
        json_t *list = json_array();

        for (unsigned i = 0; i < prefix; i++)
            json_array_append_new(list, make(depth + 1));
        json_object_set_new(s, "prefixItems", list);
    }
    if (dice(2))
        json_object_set_new(s, "minItems", json_integer(min));
    if (dice(2))
        json_object_set_new(s, "maxItems", json_integer(min + dice(3)));
    return s;
}

static json_t *make_number(void)
{
    bool integer = dice(2);
    json_t *s = json_pack("{s:s}", "type", integer ? "integer" : "number");
    double low = dice(2) ? (double)dice(400) - 200 : hth_rng_unit(&g_rng) * 3,
           high = low + 2 + (dice(2) ? dice(2000) : hth_rng_unit(&g_rng));

    if (dice(2))
        json_object_set_new(s, dice(2) ? "minimum" : "exclusiveMinimum",
                            json_real(low));
    if (dice(2))
        json_object_set_new(s, dice(2) ? "maximum" : "exclusiveMaximum",
                            json_real(high));
    return s;
}

static json_t *make_string(void)
{
    json_t *s = json_pack("{s:s}", "type", "string");
    unsigned min = dice(6);

    if (dice(2))
        json_object_set_new(s, "minLength", json_integer(min));
    if (dice(2))
        json_object_set_new(s, "maxLength", json_integer(min + dice(9)));
    return s;
}

static json_t *make_one_of(unsigned depth)
{
    json_t *a = make_object(depth + 1), *b = make_object(depth + 1);

    if (dice(2))
        return json_pack("{s:[o,o]}", "anyOf", a, b);
    json_decref(a);
    json_decref(b);
    return json_pack("{s:[{s:s,s:{s:{s:s},s:{s:s}},s:[s]},"
                     "{s:s,s:{s:{s:s}},s:[s]},{s:s}]}",
                     "oneOf", "type", "object", "properties", "k", "const", "a",
                     "v", "type", "number", "required", "k", "type", "object",
                     "properties", "k", "const", "b", "required", "k", "type",
                     "boolean");
}

static json_t *make_all_of(void)
{
    return json_pack("{s:[{s:s,s:{s:{s:s}},s:[s]},{s:{s:{s:i},s:{s:s}}}],"
                     "s:[s]}",
                     "allOf", "type", "object", "properties", "a", "type",
                     "integer", "required", "a", "properties", "a", "minimum",
                     5, "b", "type", "string", "required", "b");
}

static json_t *make(unsigned depth)
{
    unsigned kind = dice(depth > 3 ? 7 : 14);

    switch (kind) {
    case 0:
        return json_pack("{s:s}", "type", "boolean");
    case 1:
        return json_pack("{s:[s,s,i,n]}", "enum", "red", "gr\"ün\n", 3);
    case 2:
        return json_pack("{s:{s:[i,b]}}", "const", "k", 1, 1);
    case 3:
    case 4:
        return make_number();
    case 5:
    case 6:
        return make_string();
    case 7:
    case 8:
        return make_array(depth);
    case 9:
        return make_one_of(depth);
    case 10:
        return json_pack("{s:[s,s]}", "type", "integer", "null");
    case 11:
        return dice(2) ? json_pack("{s:s}", "$ref", "#/$defs/node")
                       : make_all_of();
    default:
        return make_object(depth);
    }
}

/* ---- random answers
 * ------------------------------------------------------------ */

/* A random allowed token, with a liking for those that bring things to an end
 * once the answer is long. */
static uint32_t choose(struct hth_constraint *c, int step)
{
    const uint32_t *bits = hth_constraint_mask(c);
    uint32_t vocab = hth_tokenizer_vocab(g_tokenizer), chosen = HTH_TOKEN_NONE;
    unsigned seen = 0;

    cr_assert_not_null(bits);
    for (uint32_t id = 0; id < vocab; id++) {
        char text[64];
        size_t n;
        unsigned weight = 1;

        if (!(bits[id / 32] >> (id % 32) & 1))
            continue;
        n = hth_token_bytes(g_tokenizer, id, false, text, sizeof text);
        if (hth_tokenizer_is_end(g_tokenizer, id) ||
            (n == 1 && strchr("\"}]", text[0]) != NULL))
            weight = step < 20 ? 40 : 4000;
        else if (n == 1 && strchr(",{[", text[0]) != NULL && step > 60)
            weight = 0;
        seen += weight;
        if (chosen == HTH_TOKEN_NONE || dice(seen) < weight)
            chosen = id;
    }
    return chosen;
}

static bool answer(struct hth_constraint *c, struct hth_buf *out)
{
    for (int step = 0; step < TOKENS_MAX; step++) {
        uint32_t id = choose(c, step);
        char text[256];
        size_t n;

        cr_assert_neq(id, HTH_TOKEN_NONE, "nothing goes on from %s",
                      hth_buf_cstr(out));
        cr_assert_eq(hth_constraint_accept(c, id), 0);
        if (hth_tokenizer_is_end(g_tokenizer, id))
            return true;
        n = hth_token_bytes(g_tokenizer, id, false, text, sizeof text);
        hth_put_bytes(out, text, n);
    }
    return false;
}

static bool try_schema(const json_t *schema)
{
    struct hth_constraint *c = NULL;
    struct hth_grammar *g = NULL;
    struct hth_buf out;
    struct hth_err err = {0};
    char *text = json_dumps(schema, 0);
    int rc = hth_grammar_open_schema(&g, schema, &err);
    bool done;
    json_t *v;

    if (rc == HTH_EUNSUPPORTED || rc == HTH_EINVAL) {
        free(text);
        return false;
    }
    cr_assert_eq(rc, 0, "%s: %s", text, err.text);
    cr_assert_eq(hth_constraint_open(&c, g, g_index, &err), 0, "%s", err.text);
    hth_buf_init(&out, 1u << 20);
    done = answer(c, &out);
    if (done) {
        v = json_loads(hth_buf_cstr(&out), JSON_DECODE_ANY | JSON_ALLOW_NUL,
                       NULL);
        cr_assert_not_null(v, "%s: %s", text, hth_buf_cstr(&out));
        cr_assert(valid(schema, schema, v), "%s: %s", text, hth_buf_cstr(&out));
        json_decref(v);
    }
    hth_buf_fini(&out);
    hth_constraint_close(c);
    hth_grammar_close(g);
    free(text);
    return done;
}

Test(schema, random_answers_are_valid)
{
    unsigned done = 0, tried = 0;

    hth_rng_init(&g_rng, 11);
    while (done < SCHEMAS && tried++ < 4 * SCHEMAS) {
        json_t *s = make(0);

        json_object_set_new(
            s, "$defs",
            json_pack("{s:{s:s,s:{s:{s:s},s:{s:s,s:{s:s},s:i}},s:[s],s:b}}",
                      "node", "type", "object", "properties", "v", "type",
                      "string", "kids", "type", "array", "items", "$ref",
                      "#/$defs/node", "maxItems", 2, "required", "v",
                      "additionalProperties", 0));
        done += try_schema(s);
        json_decref(s);
    }
    fprintf(stderr, "%u answers of %u schemas\n", done, tried);
    cr_assert_geq(done, SCHEMAS);
}

/* ---- by hand
 * -------------------------------------------------------------------- */

static char verdict(const char *schema, const char *text)
{
    struct hth_constraint *c = NULL;
    struct hth_grammar *g = NULL;
    struct hth_err err;
    json_t *s = json_loads(schema, 0, NULL);
    char v;

    cr_assert_not_null(s, "%s", schema);
    cr_assert_eq(hth_grammar_open_schema(&g, s, &err), 0, "%s: %s", schema,
                 err.text);
    cr_assert_eq(hth_constraint_open(&c, g, g_index, &err), 0);
    v = hth_constraint_accept_text(c, text, strlen(text)) != 0 ? 'n'
        : hth_constraint_complete(c)                           ? 'y'
                                                               : 'p';
    hth_constraint_close(c);
    hth_grammar_close(g);
    json_decref(s);
    return v;
}

Test(schema, by_hand)
{
    static const struct {
        const char *schema, *text;
        char want;
    } cases[] = {
        {"{\"type\":\"integer\",\"minimum\":-5,\"maximum\":120}", "-5", 'y'},
        {"{\"type\":\"integer\",\"minimum\":-5,\"maximum\":120}", "-6", 'n'},
        {"{\"type\":\"integer\",\"minimum\":-5,\"maximum\":120}", "120", 'y'},
        {"{\"type\":\"integer\",\"minimum\":-5,\"maximum\":120}", "121", 'n'},
        {"{\"type\":\"integer\",\"minimum\":10}", "9", 'p'},
        {"{\"type\":\"integer\",\"minimum\":10}", "1000", 'y'},
        {"{\"type\":\"number\",\"minimum\":0.2,\"maximum\":0.8}", "0.5", 'y'},
        {"{\"type\":\"number\",\"minimum\":0.2,\"maximum\":0.8}", "0.9", 'n'},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":3}", "3.1",
         'n'},
        {"{\"type\":\"number\",\"exclusiveMinimum\":0,\"maximum\":3}", "2.9",
         'y'},
        {"{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}\\\\d+$\"}", "\"AB12\"",
         'y'},
        {"{\"type\":\"string\",\"pattern\":\"^[A-Z]{2}\\\\d+$\"}", "\"A1", 'n'},
        {"{\"type\":\"string\",\"pattern\":\"b\"}", "\"abc\"", 'y'},
        {"{\"type\":\"string\",\"pattern\":\"^(a|b\\\\.)*$\"}", "\"ab.a\"",
         'y'},
        {"{\"type\":\"string\",\"pattern\":\"^[^a]$\"}", "\"\\\"\"", 'y'},
        {"{\"type\":\"string\",\"format\":\"date\"}", "\"2026-02-29", 'n'},
        {"{\"type\":\"string\",\"format\":\"date\"}", "\"2026-11-21\"", 'y'},
        {"{\"type\":\"string\",\"format\":\"uri\"}",
         "\"https://a.example/b/c~1.html\"", 'y'},
        {"{\"type\":\"string\",\"format\":\"uri\"}", "\"a.example", 'n'},
        {"{\"type\":\"string\",\"format\":\"uuid\"}",
         "\"123e4567-e89b-12d3-a456-426614174000\"", 'y'},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},"
         "\"b\":{\"type\":\"null\"}},\"required\":[\"b\"]}",
         "{\"b\": null}", 'y'},
        {"{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"null\"},"
         "\"b\":{\"type\":\"null\"}},\"required\":[\"b\"]}",
         "{\"a\":null}", 'n'},
        {"{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"null\"}},"
         "\"additionalProperties\":{\"type\":\"integer\"}}",
         "{\"a\":1,\"abc\":2,\"\":3,\"b\":4}", 'y'},
        {"{\"type\":\"object\",\"properties\":{\"ab\":{\"type\":\"null\"}},"
         "\"additionalProperties\":{\"type\":\"integer\"}}",
         "{\"ab\":1", 'n'},
        {"{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":2,"
         "\"maxItems\":3}",
         "[null, null]", 'y'},
        {"{\"type\":\"array\",\"items\":{\"type\":\"null\"},\"minItems\":2,"
         "\"maxItems\":3}",
         "[null]", 'n'},
        {"{}", "{\"a\":[1,true,null,\"x\\u00e9\"]}", 'y'},
        {"{\"$ref\":\"#/$defs/l\",\"$defs\":{\"l\":{\"type\":\"array\","
         "\"items\":{\"$ref\":\"#/$defs/l\"}}}}",
         "[[],[[]]]", 'y'},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_assert_eq(verdict(cases[i].schema, cases[i].text), cases[i].want,
                     "%s on %s", cases[i].schema, cases[i].text);
}

Test(schema, what_is_refused_is_named)
{
    static const struct {
        const char *schema, *text;
        int status;
    } cases[] = {
        {"{\"not\":{}}", "\"not\"", HTH_EUNSUPPORTED},
        {"{\"type\":\"object\",\"patternProperties\":{}}", "patternProperties",
         HTH_EUNSUPPORTED},
        {"{\"type\":\"array\",\"uniqueItems\":true}", "uniqueItems",
         HTH_EUNSUPPORTED},
        {"{\"type\":\"integer\",\"multipleOf\":3}", "multipleOf",
         HTH_EUNSUPPORTED},
        {"{\"type\":\"string\",\"format\":\"iri\"}", "iri", HTH_EUNSUPPORTED},
        {"{\"type\":\"string\",\"pattern\":\"(?=a)\"}", "look-around",
         HTH_EUNSUPPORTED},
        {"{\"oneOf\":[{\"type\":\"string\"},{\"type\":\"string\","
         "\"maxLength\":3}]}",
         "oneOf", HTH_EUNSUPPORTED},
        {"{\"type\":\"number\",\"minimum\":3,\"maximum\":2}", "no number",
         HTH_EINVAL},
        {"{\"type\":\"strin\"}", "strin", HTH_EINVAL},
        {"{\"$ref\":\"#/nowhere\"}", "nowhere", HTH_EINVAL},
        {"{\"$ref\":\"#\"}", "begins with itself", HTH_EFORMAT},
        {"{\"enum\":[]}", "no value", HTH_EINVAL},
        {"{\"type\":\"object\",\"required\":[\"a\"],"
         "\"additionalProperties\":false}",
         "required and not allowed", HTH_EINVAL},
        {"{\"type\":\"string\",\"minLength\":-1}", "minLength", HTH_EINVAL},
        {"false", "allows no value", HTH_EINVAL},
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        json_t *s = json_loads(cases[i].schema, JSON_DECODE_ANY, NULL);
        struct hth_grammar *g = NULL;
        struct hth_err err = {0};

        cr_assert_not_null(s);
        cr_assert_eq(hth_grammar_open_schema(&g, s, &err), cases[i].status,
                     "%s: %s", cases[i].schema, err.text);
        cr_assert_not_null(strstr(err.text, cases[i].text), "%s: %s",
                           cases[i].schema, err.text);
        json_decref(s);
    }
}
