/* schema.c - a JSON schema (2020-12, the part that can be written as a
 * grammar) to GBNF. docs/grammar.md lists the keywords. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/schema_internal.h"

void hth_schema__fail(struct hth_schema *s, int status, const char *fmt, ...)
{
    char text[256];
    va_list ap;

    if (s->failed)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    s->failed = true;
    s->status = status;
    hth_fail(s->err, status, "schema: %s", text);
}

/* ---- writing
 * ----------------------------------------------------------------- */

const char *hth_schema__common(struct hth_schema *s,
                               enum hth_schema_common which)
{
    static const struct {
        const char *name, *body;
    } rules[] = {
        [HTH_SCHEMA_WS] = {"ws", "(\" \" | \"\\n\" [ \\t]{0,20})?"},
        [HTH_SCHEMA_CHAR] =
            {"char",
             "[^\"\\\\\\x00-\\x1f\\x7f] | \"\\\\\" ([\"\\\\/bfnrt] | \"u\" "
             "([0-9a-cA-CefEF] hex{3} | [dD] [0-7] hex{2} | [dD] [89abAB] "
             "hex{2} \"\\\\u\" [dD] [c-fC-F] hex{2}))\nhex ::= [0-9a-fA-F]"},
        [HTH_SCHEMA_STRING] = {"string", "\"\\\"\" char* \"\\\"\""},
        [HTH_SCHEMA_NUMBER] = {"number",
                               "\"-\"? (\"0\" | [1-9] [0-9]{0,14}) (\".\" "
                               "[0-9]{1,15})? ([eE] [-+]? [0-9]{1,2})?"},
        [HTH_SCHEMA_INTEGER] = {"integer",
                                "\"-\"? (\"0\" | [1-9] [0-9]{0,14})"},
        [HTH_SCHEMA_VALUE] = {"value",
                              "object | array | string | number | \"true\" | "
                              "\"false\" | \"null\""},
        [HTH_SCHEMA_OBJECT] =
            {"object", "\"{\" ws (string \":\" ws value (\",\" ws string "
                       "\":\" ws value)*)? ws \"}\""},
        [HTH_SCHEMA_ARRAY] = {"array", "\"[\" ws (value (\",\" ws value)*)? "
                                       "ws \"]\""},
    };
    static const unsigned needs[] = {
        [HTH_SCHEMA_WS] = 0,
        [HTH_SCHEMA_CHAR] = 0,
        [HTH_SCHEMA_STRING] = 1u << HTH_SCHEMA_CHAR,
        [HTH_SCHEMA_NUMBER] = 0,
        [HTH_SCHEMA_INTEGER] = 0,
        [HTH_SCHEMA_VALUE] = 1u << HTH_SCHEMA_OBJECT | 1u << HTH_SCHEMA_ARRAY |
                             1u << HTH_SCHEMA_STRING | 1u << HTH_SCHEMA_NUMBER,
        [HTH_SCHEMA_OBJECT] = 1u << HTH_SCHEMA_WS | 1u << HTH_SCHEMA_STRING |
                              1u << HTH_SCHEMA_VALUE,
        [HTH_SCHEMA_ARRAY] = 1u << HTH_SCHEMA_WS | 1u << HTH_SCHEMA_VALUE,
    };

    if (s->common[which])
        return rules[which].name;
    s->common[which] = true;
    hth_put_printf(s->out, "%s ::= %s\n", rules[which].name, rules[which].body);
    for (unsigned i = 0; i < HTH_SCHEMA_COMMON_COUNT; i++)
        if (needs[which] >> i & 1)
            hth_schema__common(s, (enum hth_schema_common)i);
    return rules[which].name;
}

unsigned hth_schema__new_rule(struct hth_schema *s)
{
    return s->rules++;
}

void hth_schema__write(struct hth_schema *s, unsigned rule,
                       struct hth_buf *body)
{
    if (body->failed || s->out->failed)
        hth_schema__fail(s, HTH_ELIMIT, "its grammar is larger than %u bytes",
                         HTH_GRAMMAR_BYTES_MAX);
    if (s->failed)
        return;
    hth_put_printf(s->out, "r%u ::= ", rule);
    hth_put_bytes(s->out, hth_buf_cstr(body), body->len);
    hth_put_u8(s->out, '\n');
}

void hth_schema__literal(struct hth_buf *b, const char *text, size_t n)
{
    hth_put_u8(b, '"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)text[i];

        if (c == '"' || c == '\\')
            hth_put_printf(b, "\\%c", c);
        else if (c < 0x20 || c == 0x7f)
            hth_put_printf(b, "\\x%02x", c);
        else
            hth_put_u8(b, c);
    }
    hth_put_u8(b, '"');
}

/* ---- keywords
 * ---------------------------------------------------------------- */

static bool one_of(const char *key, const char *const *list)
{
    for (; *list != NULL; list++)
        if (strcmp(key, *list) == 0)
            return true;
    return false;
}

void hth_schema__check_keys(struct hth_schema *s, const json_t *schema)
{
    static const char *const known[] = {
        "type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref",
        "properties", "required", "items", "minItems", "additionalProperties",
        "prefixItems", "maxItems", "minLength", "maxLength", "pattern",
        "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
        "minProperties", "maxProperties", "uniqueItems", "multipleOf",
        /* What says nothing about validity, or only about the file. */
        "title", "description", "default", "examples", "example", "$schema",
        "$id", "id", "$comment", "deprecated", "readOnly", "writeOnly", "$defs",
        "definitions", "discriminator", "nullable", "contentMediaType",
        "contentEncoding", NULL};
    json_t *object = (json_t *)(uintptr_t)schema; /* jansson iterates so */

    for (void *it = json_object_iter(object); it != NULL;
         it = json_object_iter_next(object, it)) {
        const char *key = json_object_iter_key(it);

        if (!one_of(key, known))
            hth_schema__fail(s, HTH_EUNSUPPORTED,
                             "the keyword \"%.64s\" is not supported", key);
    }
}

int64_t hth_schema__count(struct hth_schema *s, const json_t *schema,
                          const char *key, int64_t fallback)
{
    const json_t *v = json_object_get(schema, key);
    double d;

    if (v == NULL)
        return fallback;
    d = json_is_number(v) ? json_number_value(v) : -1;
    if (!(d >= 0 && d <= HTH_GRAMMAR_REPEAT_MAX) || d != (double)(int64_t)d) {
        hth_schema__fail(s, HTH_EINVAL, "%s is no whole number from 0 to %u",
                         key, HTH_GRAMMAR_REPEAT_MAX);
        return fallback;
    }
    return (int64_t)d;
}

/* ---- references
 * --------------------------------------------------------------- */

/* One part of a JSON pointer, decoded into key[]; false: too long. */
static bool pointer_part(const char **at, char *key, size_t size)
{
    size_t n = 0;

    while (**at != '\0' && **at != '/') {
        char c = *(*at)++;

        if (c == '~' && (**at == '0' || **at == '1'))
            c = *(*at)++ == '0' ? '~' : '/';
        if (n + 1 >= size)
            return false;
        key[n++] = c;
    }
    key[n] = '\0';
    return true;
}

static const json_t *lookup(struct hth_schema *s, const char *pointer)
{
    const json_t *v = s->root;
    const char *at = pointer;

    if (*at == '#')
        at++;
    else
        v = NULL;
    while (v != NULL && *at == '/') {
        char key[256];

        at++;
        if (!pointer_part(&at, key, sizeof key))
            return NULL;
        if (json_is_array(v))
            v = json_array_get(v, (size_t)strtoul(key, NULL, 10));
        else
            v = json_object_get(v, key);
    }
    if (v == NULL || *at != '\0') {
        hth_schema__fail(s, HTH_EINVAL,
                         "$ref \"%.64s\" leads nowhere in this schema",
                         pointer);
        return NULL;
    }
    return v;
}

const json_t *hth_schema__resolve(struct hth_schema *s, const json_t *schema)
{
    for (unsigned i = 0; i < HTH_SCHEMA_REFS_MAX; i++) {
        const json_t *ref = json_object_get(schema, "$ref");

        if (ref == NULL || s->failed)
            return schema;
        if (!json_is_string(ref)) {
            hth_schema__fail(s, HTH_EINVAL, "$ref is no string");
            return NULL;
        }
        schema = lookup(s, json_string_value(ref));
    }
    hth_schema__fail(s, HTH_EINVAL, "$ref leads to itself");
    return NULL;
}

/* One rule per target, so that a schema may contain itself. */
static unsigned ref_rule(struct hth_schema *s, const char *pointer)
{
    const json_t *target;
    unsigned i, rule;
    char *copy;
    struct hth_buf body;

    for (i = 0; i < s->ref_count; i++)
        if (strcmp(s->refs[i].pointer, pointer) == 0)
            return s->refs[i].rule;
    target = lookup(s, pointer);
    copy = target != NULL ? strdup(pointer) : NULL;
    if (copy == NULL || s->ref_count == HTH_SCHEMA_REFS_MAX) {
        free(copy);
        hth_schema__fail(s, HTH_ELIMIT, "more than %u references",
                         HTH_SCHEMA_REFS_MAX);
        return 0;
    }
    rule = hth_schema__new_rule(s);
    s->refs[s->ref_count++] = (struct hth_schema_ref){copy, rule};
    hth_buf_init(&body, 64);
    hth_put_printf(&body, "r%u", hth_schema__rule(s, target));
    hth_schema__write(s, rule, &body);
    hth_buf_fini(&body);
    return rule;
}

/* Does the schema say more than where it points to? */
static bool only_ref(const json_t *schema)
{
    static const char *const notes[] = {"$ref",     "title",    "description",
                                        "default",  "$defs",    "definitions",
                                        "examples", "$comment", NULL};
    json_t *object = (json_t *)(uintptr_t)schema;

    for (void *it = json_object_iter(object); it != NULL;
         it = json_object_iter_next(object, it))
        if (!one_of(json_object_iter_key(it), notes))
            return false;
    return true;
}

/* ---- unions
 * ------------------------------------------------------------------- */

/* The schema without one keyword, kept until the end. */
static const json_t *without(struct hth_schema *s, const json_t *schema,
                             const char *key)
{
    json_t *copy = json_copy((json_t *)(uintptr_t)schema);

    if (copy == NULL || json_object_del(copy, key) != 0 ||
        json_array_append_new(s->made, copy) != 0) {
        hth_schema__fail(s, HTH_ENOMEM, "no memory");
        return NULL;
    }
    return copy;
}

/* Is there anything in the schema that a value must obey? */
static bool says_something(const json_t *schema)
{
    static const char *const notes[] = {
        "title",       "description",   "default",  "$defs",
        "definitions", "examples",      "$comment", "$schema",
        "$id",         "discriminator", NULL};
    json_t *object = (json_t *)(uintptr_t)schema;

    for (void *it = json_object_iter(object); it != NULL;
         it = json_object_iter_next(object, it))
        if (!one_of(json_object_iter_key(it), notes))
            return true;
    return false;
}

static void check_one_of(struct hth_schema *s, const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        for (size_t k = i + 1; k < json_array_size(list) && !s->failed; k++)
            if (!hth_schema__disjoint(s, json_array_get(list, i),
                                      json_array_get(list, k)))
                hth_schema__fail(s, HTH_EUNSUPPORTED,
                                 "oneOf: one value may fit branches %zu and "
                                 "%zu; use anyOf, or a property that tells "
                                 "them apart",
                                 i, k);
}

static void put_union(struct hth_schema *s, const json_t *schema,
                      const char *key, struct hth_buf *body)
{
    const json_t *list = json_object_get(schema, key);
    const json_t *rest = without(s, schema, key);
    bool bare = rest != NULL && !says_something(rest);

    if (!json_is_array(list) || json_array_size(list) == 0)
        hth_schema__fail(s, HTH_EINVAL, "%s is no list of schemas", key);
    if (key[0] == 'o')
        check_one_of(s, list);
    for (size_t i = 0; i < json_array_size(list) && !s->failed; i++) {
        const json_t *branch = json_array_get(list, i);

        if (!bare)
            branch = hth_schema__merge(s, rest, branch);
        if (branch == NULL)
            return;
        hth_put_printf(body, "%sr%u", i == 0 ? "" : " | ",
                       hth_schema__rule(s, branch));
    }
}

static void put_all(struct hth_schema *s, const json_t *schema,
                    struct hth_buf *body)
{
    const json_t *list = json_object_get(schema, "allOf");
    const json_t *all = without(s, schema, "allOf");

    if (!json_is_array(list))
        hth_schema__fail(s, HTH_EINVAL, "allOf is no list of schemas");
    for (size_t i = 0; i < json_array_size(list) && all != NULL && !s->failed;
         i++)
        all = hth_schema__merge(s, all, json_array_get(list, i));
    if (all != NULL && !s->failed)
        hth_put_printf(body, "r%u", hth_schema__rule(s, all));
}

/* ---- values
 * ------------------------------------------------------------------- */

static void put_constant(struct hth_schema *s, const json_t *v,
                         struct hth_buf *body)
{
    char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);

    if (text == NULL)
        hth_schema__fail(s, HTH_ENOMEM, "no memory");
    else
        hth_schema__literal(body, text, strlen(text));
    free(text);
}

static bool fits_type(const json_t *v, const char *type)
{
    if (strcmp(type, "integer") == 0)
        return json_is_integer(v);
    if (strcmp(type, "number") == 0)
        return json_is_number(v);
    return (strcmp(type, "string") == 0 && json_is_string(v)) ||
           (strcmp(type, "boolean") == 0 && json_is_boolean(v)) ||
           (strcmp(type, "null") == 0 && json_is_null(v)) ||
           (strcmp(type, "object") == 0 && json_is_object(v)) ||
           (strcmp(type, "array") == 0 && json_is_array(v));
}

static bool allowed_type(const json_t *schema, const json_t *v)
{
    const json_t *type = json_object_get(schema, "type");

    if (json_is_string(type))
        return fits_type(v, json_string_value(type));
    for (size_t i = 0; i < json_array_size(type); i++) {
        const json_t *t = json_array_get(type, i);

        if (json_is_string(t) && fits_type(v, json_string_value(t)))
            return true;
    }
    return type == NULL;
}

/* The values of an enum that its type allows. */
static void put_enum(struct hth_schema *s, const json_t *schema,
                     const json_t *list, struct hth_buf *body)
{
    size_t written = 0;

    if (!json_is_array(list))
        hth_schema__fail(s, HTH_EINVAL, "enum is no list");
    for (size_t i = 0; i < json_array_size(list) && !s->failed; i++)
        if (allowed_type(schema, json_array_get(list, i))) {
            hth_put_printf(body, "%s", written++ == 0 ? "" : " | ");
            put_constant(s, json_array_get(list, i), body);
        }
    if (written == 0)
        hth_schema__fail(s, HTH_EINVAL, "enum allows no value");
}

static void put_type(struct hth_schema *s, const json_t *schema,
                     const char *type, struct hth_buf *body)
{
    if (strcmp(type, "object") == 0)
        hth_schema__object(s, schema, body);
    else if (strcmp(type, "array") == 0)
        hth_schema__array(s, schema, body);
    else if (strcmp(type, "string") == 0)
        hth_schema__string(s, schema, body);
    else if (strcmp(type, "number") == 0 || strcmp(type, "integer") == 0)
        hth_schema__number(s, schema, type[0] == 'i', body);
    else if (strcmp(type, "boolean") == 0)
        hth_put_printf(body, "\"true\" | \"false\"");
    else if (strcmp(type, "null") == 0)
        hth_put_printf(body, "\"null\"");
    else
        hth_schema__fail(s, HTH_EINVAL, "there is no type \"%.32s\"", type);
}

/* What a schema without a type is about, by its keywords; NULL: anything. */
static const char *implied_type(const json_t *schema)
{
    static const char *const hints[][2] = {
        {"properties", "object"},
        {"required", "object"},
        {"additionalProperties", "object"},
        {"minProperties", "object"},
        {"maxProperties", "object"},
        {"items", "array"},
        {"prefixItems", "array"},
        {"minItems", "array"},
        {"maxItems", "array"},
        {"uniqueItems", "array"},
        {"minLength", "string"},
        {"maxLength", "string"},
        {"pattern", "string"},
        {"format", "string"},
        {"minimum", "number"},
        {"maximum", "number"},
        {"exclusiveMinimum", "number"},
        {"exclusiveMaximum", "number"},
        {"multipleOf", "number"},
    };

    for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
        if (json_object_get(schema, hints[i][0]) != NULL)
            return hints[i][1];
    return NULL;
}

static void put_types(struct hth_schema *s, const json_t *schema,
                      struct hth_buf *body)
{
    const json_t *type = json_object_get(schema, "type");

    if (type == NULL) {
        const char *implied = implied_type(schema);

        if (implied == NULL)
            hth_put_printf(body, "%s", hth_schema__common(s, HTH_SCHEMA_VALUE));
        else
            put_type(s, schema, implied, body);
        return;
    }
    if (json_is_string(type)) {
        put_type(s, schema, json_string_value(type), body);
        return;
    }
    if (!json_is_array(type) || json_array_size(type) == 0)
        hth_schema__fail(s, HTH_EINVAL, "type is no name of a type");
    for (size_t i = 0; i < json_array_size(type) && !s->failed; i++) {
        const json_t *t = json_array_get(type, i);

        hth_put_printf(body, "%s(", i == 0 ? "" : " | ");
        if (json_is_string(t))
            put_type(s, schema, json_string_value(t), body);
        else
            hth_schema__fail(s, HTH_EINVAL, "type is no name of a type");
        hth_put_printf(body, ")");
    }
}

static void put_schema(struct hth_schema *s, const json_t *schema,
                       struct hth_buf *body)
{
    const json_t *ref = json_object_get(schema, "$ref");

    if (json_is_true(schema)) {
        hth_put_printf(body, "%s", hth_schema__common(s, HTH_SCHEMA_VALUE));
        return;
    }
    if (!json_is_object(schema)) {
        hth_schema__fail(s, HTH_EINVAL,
                         json_is_false(schema)
                             ? "a schema of false allows no value"
                             : "a schema that is no object");
        return;
    }
    hth_schema__check_keys(s, schema);
    if (s->failed)
        return;
    if (json_is_string(ref) && only_ref(schema))
        hth_put_printf(body, "r%u", ref_rule(s, json_string_value(ref)));
    else if (ref != NULL) {
        const json_t *to = hth_schema__resolve(s, schema);
        const json_t *rest = without(s, schema, "$ref");
        const json_t *both =
            to != NULL && rest != NULL ? hth_schema__merge(s, rest, to) : NULL;

        if (both != NULL)
            hth_put_printf(body, "r%u", hth_schema__rule(s, both));
    } else if (json_object_get(schema, "allOf") != NULL)
        put_all(s, schema, body);
    else if (json_object_get(schema, "anyOf") != NULL)
        put_union(s, schema, "anyOf", body);
    else if (json_object_get(schema, "oneOf") != NULL)
        put_union(s, schema, "oneOf", body);
    else if (json_object_get(schema, "const") != NULL)
        put_constant(s, json_object_get(schema, "const"), body);
    else if (json_object_get(schema, "enum") != NULL)
        put_enum(s, schema, json_object_get(schema, "enum"), body);
    else
        put_types(s, schema, body);
}

unsigned hth_schema__rule(struct hth_schema *s, const json_t *schema)
{
    unsigned rule = hth_schema__new_rule(s);
    struct hth_buf body;

    if (++s->depth > HTH_SCHEMA_DEPTH_MAX)
        hth_schema__fail(s, HTH_ELIMIT, "nested deeper than %u",
                         HTH_SCHEMA_DEPTH_MAX);
    hth_buf_init(&body, HTH_GRAMMAR_BYTES_MAX);
    if (!s->failed)
        put_schema(s, schema, &body);
    hth_schema__write(s, rule, &body);
    hth_buf_fini(&body);
    s->depth--;
    return rule;
}

/* ---- entry
 * -------------------------------------------------------------------- */

static struct hth_schema *begin(const json_t *root, struct hth_buf *out,
                                struct hth_err *err)
{
    struct hth_schema *s = calloc(1, sizeof *s);

    if (s == NULL) {
        hth_fail(err, HTH_ENOMEM, "no memory for a schema");
        return NULL;
    }
    s->root = root;
    s->out = out;
    s->err = err;
    s->made = json_array();
    return s;
}

static int finish(struct hth_schema *s)
{
    int rc;

    if (s->out->failed)
        hth_schema__fail(s, HTH_ELIMIT, "its grammar is larger than %zu bytes",
                         s->out->max);
    rc = s->failed ? s->status : HTH_OK;
    for (unsigned i = 0; i < s->ref_count; i++)
        free(s->refs[i].pointer);
    json_decref(s->made);
    free(s);
    return rc;
}

int hth_schema_to_gbnf(const json_t *schema, struct hth_buf *out,
                       struct hth_err *err)
{
    struct hth_schema *s = begin(schema, out, err);
    unsigned root;

    if (s == NULL)
        return HTH_ENOMEM;
    if (schema == NULL) {
        hth_put_printf(out, "root ::= %s\n",
                       hth_schema__common(s, HTH_SCHEMA_OBJECT));
    } else {
        root = hth_schema__rule(s, schema);
        hth_put_printf(out, "root ::= r%u\n", root);
    }
    return finish(s);
}

int hth_schemas_to_gbnf(const json_t *root, const char *key,
                        struct hth_buf *out, struct hth_err *err)
{
    const json_t *list = json_object_get(root, key);
    struct hth_schema *s = begin(root, out, err);

    if (s == NULL)
        return HTH_ENOMEM;
    for (size_t i = 0; i < json_array_size(list) && !s->failed; i++) {
        unsigned rule = hth_schema__rule(s, json_array_get(list, i));

        hth_put_printf(out, "%s%zu ::= r%u\n", key, i, rule);
    }
    return finish(s);
}

int hth_grammar_open_schema(struct hth_grammar **out, const json_t *schema,
                            struct hth_err *err)
{
    struct hth_buf text;
    int rc;

    hth_buf_init(&text, HTH_GRAMMAR_BYTES_MAX);
    rc = hth_schema_to_gbnf(schema, &text, err);
    if (rc == HTH_OK)
        rc = hth_grammar_open(
            out, (struct hth_str){hth_buf_cstr(&text), text.len}, err);
    hth_buf_fini(&text);
    return rc;
}
