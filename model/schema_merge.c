/* schema_merge.c - two schemas that must both hold, as one; and telling
 * whether two may hold at once. */
#include <stdio.h>
#include <string.h>

#include "model/schema_internal.h"

static json_t *kept(struct hth_schema *s, json_t *made)
{
    if (made == NULL || json_array_append_new(s->made, made) != 0) {
        hth_schema__fail(s, HTH_ENOMEM, "no memory");
        return NULL;
    }
    return made;
}

/* {"allOf": [a, b]}: merged when it is compiled. */
static json_t *both(struct hth_schema *s, json_t *a, json_t *b)
{
    json_t *v = json_pack("{s:[O,O]}", "allOf", a, b);

    if (v == NULL)
        hth_schema__fail(s, HTH_ENOMEM, "no memory");
    return v;
}

static bool in_list(const json_t *list, const json_t *v)
{
    for (size_t i = 0; i < json_array_size(list); i++)
        if (json_equal(json_array_get(list, i), v))
            return true;
    return false;
}

/* Values of both lists; a value alone counts as a list of one. */
static json_t *intersection(const json_t *a, const json_t *b)
{
    json_t *out = json_array();

    if (!json_is_array(a)) {
        if (json_is_array(b) ? in_list(b, a) : json_equal(a, b))
            (void)json_array_append(out, (json_t *)(uintptr_t)a);
        return out;
    }
    for (size_t i = 0; i < json_array_size(a); i++) {
        json_t *v = json_array_get(a, i);

        if (json_is_array(b) ? in_list(b, v) : json_equal(v, b))
            (void)json_array_append(out, v);
    }
    return out;
}

/* An integer is a number. */
static json_t *common_types(const json_t *a, const json_t *b)
{
    json_t *out = intersection(a, b);
    json_t *integer = json_string("integer"), *number = json_string("number");
    bool ai = json_is_array(a) ? in_list(a, integer) : json_equal(a, integer);
    bool an = json_is_array(a) ? in_list(a, number) : json_equal(a, number);
    bool bi = json_is_array(b) ? in_list(b, integer) : json_equal(b, integer);
    bool bn = json_is_array(b) ? in_list(b, number) : json_equal(b, number);

    if (((ai && bn) || (an && bi)) && !in_list(out, integer))
        (void)json_array_append(out, integer);
    json_decref(integer);
    json_decref(number);
    return out;
}

static json_t *merge_required(const json_t *a, const json_t *b)
{
    json_t *out = json_copy((json_t *)(uintptr_t)a);

    for (size_t i = 0; i < json_array_size(b); i++)
        if (!in_list(out, json_array_get(b, i)))
            (void)json_array_append(out, json_array_get(b, i));
    return out;
}

/* Properties of both; what only one side knows must suit the other side's
 * additionalProperties. */
static void add_properties(struct hth_schema *s, json_t *out,
                           const json_t *from, const json_t *other)
{
    json_t *props = json_object_get(from, "properties");
    json_t *theirs = json_object_get(other, "properties");
    json_t *extra = json_object_get(other, "additionalProperties");

    for (void *it = json_object_iter(props); it != NULL;
         it = json_object_iter_next(props, it)) {
        const char *key = json_object_iter_key(it);
        json_t *mine = json_object_iter_value(it);
        json_t *their = json_object_get(theirs, key), *v;

        if (json_object_get(out, key) != NULL || json_is_false(extra))
            if (their == NULL || json_object_get(out, key) != NULL)
                continue;
        if (their == NULL && json_is_object(extra))
            their = extra;
        v = their != NULL ? both(s, mine, their) : json_incref(mine);
        if (v == NULL || json_object_set_new(out, key, v) != 0)
            hth_schema__fail(s, HTH_ENOMEM, "no memory");
    }
}

static void merge_key(struct hth_schema *s, json_t *out, const char *key,
                      json_t *b)
{
    static const char *const larger[] = {"minimum", "exclusiveMinimum",
                                         "minLength", "minItems",
                                         "minProperties"};
    static const char *const smaller[] = {"maximum", "exclusiveMaximum",
                                          "maxLength", "maxItems",
                                          "maxProperties"};
    json_t *a = json_object_get(out, key);

    for (size_t i = 0; i < 5; i++) {
        if (strcmp(key, larger[i]) == 0) {
            if (json_number_value(b) > json_number_value(a))
                (void)json_object_set(out, key, b);
            return;
        }
        if (strcmp(key, smaller[i]) == 0) {
            if (json_number_value(b) < json_number_value(a))
                (void)json_object_set(out, key, b);
            return;
        }
    }
    if (strcmp(key, "type") == 0)
        (void)json_object_set_new(out, key, common_types(a, b));
    else if (strcmp(key, "enum") == 0)
        (void)json_object_set_new(out, key, intersection(a, b));
    else if (strcmp(key, "required") == 0)
        (void)json_object_set_new(out, key, merge_required(a, b));
    else if (strcmp(key, "items") == 0)
        (void)json_object_set_new(out, key, both(s, a, b));
    else if (strcmp(key, "additionalProperties") == 0) {
        if (json_is_false(b) || json_is_true(a))
            (void)json_object_set(out, key, b);
        else if (!json_is_false(a) && !json_is_true(b))
            (void)json_object_set_new(out, key, both(s, a, b));
    } else if (strcmp(key, "allOf") == 0)
        (void)json_array_extend(a, b);
    else
        hth_schema__fail(s, HTH_EUNSUPPORTED,
                         "two schemas that both have \"%.64s\" and must both "
                         "hold",
                         key);
}

static bool is_note(const char *key)
{
    static const char *const notes[] = {
        "title",    "description", "default",    "examples",     "$comment",
        "$defs",    "definitions", "$schema",    "$id",          "properties",
        "readOnly", "writeOnly",   "deprecated", "discriminator"};

    for (size_t i = 0; i < sizeof notes / sizeof notes[0]; i++)
        if (strcmp(key, notes[i]) == 0)
            return true;
    return false;
}

/* const and enum narrow each other down. */
static void join_values(struct hth_schema *s, json_t *out)
{
    json_t *one = json_object_get(out, "const");
    json_t *list = json_object_get(out, "enum");

    if (one == NULL || list == NULL)
        return;
    if (!in_list(list, one))
        hth_schema__fail(s, HTH_EINVAL, "const is not among enum");
    (void)json_object_del(out, "enum");
}

const json_t *hth_schema__merge(struct hth_schema *s, const json_t *a,
                                const json_t *b)
{
    json_t *out, *props, *object;

    if (json_is_true(a))
        return b;
    if (json_is_true(b))
        return a;
    if (!json_is_object(a) || !json_is_object(b)) {
        hth_schema__fail(s, HTH_EINVAL, "schemas that no value fits");
        return NULL;
    }
    if (++s->depth > HTH_SCHEMA_DEPTH_MAX)
        hth_schema__fail(s, HTH_ELIMIT, "nested deeper than %u",
                         HTH_SCHEMA_DEPTH_MAX);
    b = s->failed ? NULL : hth_schema__resolve(s, b);
    s->depth--;
    if (b == NULL || s->failed)
        return NULL;
    hth_schema__check_keys(s, b);
    out = kept(s, json_deep_copy(a));
    object = (json_t *)(uintptr_t)b; /* jansson iterates so */
    if (out == NULL || s->failed)
        return NULL;
    props = json_object();
    add_properties(s, props, a, b);
    add_properties(s, props, b, a);
    if (json_object_size(props) > 0)
        (void)json_object_set(out, "properties", props);
    json_decref(props);
    for (void *it = json_object_iter(object); it != NULL && !s->failed;
         it = json_object_iter_next(object, it)) {
        const char *key = json_object_iter_key(it);
        json_t *v = json_object_iter_value(it);
        json_t *old = json_object_get(out, key);

        if (is_note(key))
            continue;
        if (old == NULL)
            (void)json_object_set_new(out, key, json_deep_copy(v));
        else if (!json_equal(old, v))
            merge_key(s, out, key, v);
    }
    join_values(s, out);
    return s->failed ? NULL : out;
}

/* ---- may both hold?
 * ----------------------------------------------------------- */

static json_t *values_of(const json_t *schema)
{
    json_t *v = json_object_get(schema, "const");

    return v != NULL ? v : json_object_get(schema, "enum");
}

static bool no_common(const json_t *a, const json_t *b, bool types)
{
    json_t *v = types ? common_types(a, b) : intersection(a, b);
    bool none = json_array_size(v) == 0;

    json_decref(v);
    return none;
}

static bool is_required(const json_t *schema, const char *key)
{
    const json_t *list = json_object_get(schema, "required");

    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *name = json_string_value(json_array_get(list, i));

        if (name != NULL && strcmp(name, key) == 0)
            return true;
    }
    return false;
}

bool hth_schema__disjoint(struct hth_schema *s, const json_t *a,
                          const json_t *b)
{
    json_t *props, *theirs;
    bool apart = false;

    a = hth_schema__resolve(s, a);
    b = a != NULL ? hth_schema__resolve(s, b) : NULL;
    if (s->failed || !json_is_object(a) || !json_is_object(b))
        return false;
    if (json_object_get(a, "type") != NULL &&
        json_object_get(b, "type") != NULL &&
        no_common(json_object_get(a, "type"), json_object_get(b, "type"), true))
        return true;
    if (values_of(a) != NULL && values_of(b) != NULL)
        return no_common(values_of(a), values_of(b), false);
    if (++s->depth > HTH_SCHEMA_DEPTH_MAX / 4) {
        s->depth--;
        return false;
    }
    props = json_object_get(a, "properties");
    theirs = json_object_get(b, "properties");
    for (void *it = json_object_iter(props); it != NULL && !apart;
         it = json_object_iter_next(props, it)) {
        const char *key = json_object_iter_key(it);
        const json_t *other = json_object_get(theirs, key);

        apart = other != NULL && is_required(a, key) && is_required(b, key) &&
                hth_schema__disjoint(s, json_object_iter_value(it), other);
    }
    s->depth--;
    return apart;
}
