/* chat_call.c - the ways models write calls of tools, as a table, and reading
 * one call out of the text between its markers. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "model/chat_internal.h"

/* The first row whose needle is in the template's text; the last fits all. */
static const struct hth_chat__family g_families[] = {
    {"<|tool_call_argument_begin|>", "<|tool_call_begin|>", "<|tool_call_end|>",
     "<|tool_call_argument_begin|>", HTH_CALL_NAMED},
    {"<｜tool▁sep｜>", "<｜tool▁call▁begin｜>", "<｜tool▁call▁end｜>",
     "<｜tool▁sep｜>", HTH_CALL_NAMED},
    {"[ARGS]", "[TOOL_CALLS]", NULL, "[ARGS]", HTH_CALL_NAMED},
    {"[TOOL_CALLS]", "[TOOL_CALLS]", NULL, NULL, HTH_CALL_JSON},
    {"<|channel|>", NULL, NULL, NULL, HTH_CALL_HARMONY},
    {"<|tool_call_start|>", "<|tool_call_start|>", "<|tool_call_end|>", NULL,
     HTH_CALL_PYTHON},
    {"<|tool_list_start|>", "<|tool_call_start|>", "<|tool_call_end|>", NULL,
     HTH_CALL_PYTHON},
    {"List of tools: [", "<|tool_call_start|>", "<|tool_call_end|>", NULL,
     HTH_CALL_PYTHON}, /* LFM2.5, whose template writes no calls */
    {"<arg_key>", "<tool_call>", "</tool_call>", NULL, HTH_CALL_GLM},
    {"<parameter=", "<tool_call>", "</tool_call>", NULL, HTH_CALL_XML},
    {"<|START_ACTION|>", "<|START_ACTION|>", "<|END_ACTION|>", NULL,
     HTH_CALL_JSON},
    {"<tool_call>", "<tool_call>", "</tool_call>", NULL, HTH_CALL_JSON},
    {"<function=", "<function=", "</function>", ">", HTH_CALL_NAMED},
    {"<|tool_call|>", "<|tool_call|>", NULL, NULL, HTH_CALL_JSON},
    {"<|python_tag|>", NULL, NULL, NULL, HTH_CALL_JSON},
    {"", "<tool_call>", "</tool_call>", NULL, HTH_CALL_JSON},
};

const struct hth_chat__family *hth_chat__family_of(const char *source)
{
    size_t i = 0;

    while (strstr(source, g_families[i].needle) == NULL)
        i++;
    return &g_families[i];
}

void hth_chat__call_fini(struct hth_chat__call *c)
{
    free(c->name);
    free(c->arguments);
    *c = (struct hth_chat__call){NULL, NULL};
}

/* ---- JSON ------------------------------------------------------------------
 */

static void skip(struct hth_str body, size_t *at, const char *chars)
{
    while (*at < body.n && body.p[*at] != '\0' &&
           strchr(chars, body.p[*at]) != NULL)
        ++*at;
}

/* The JSON value at *at, and move behind it. */
static json_t *value_at(struct hth_str body, size_t *at)
{
    json_error_t where;
    json_t *v;

    if (*at >= body.n)
        return NULL;
    v = json_loadb(body.p + *at, body.n - *at,
                   JSON_DISABLE_EOF_CHECK | JSON_ALLOW_NUL, &where);
    if (v != NULL)
        *at += (size_t)where.position;
    return v;
}

static char *dump(const json_t *v)
{
    return json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
}

/* {"name": ..., "arguments": {...}} under any of the names in use. */
static bool call_of(const json_t *v, struct hth_chat__call *out)
{
    static const char *const keys[] = {"arguments", "parameters"};
    static const char *const names[] = {"name", "tool_name", "function"};
    const json_t *args = NULL, *name = NULL;

    if (json_is_object(json_object_get(v, "function")))
        v = json_object_get(v, "function");
    for (size_t i = 0; i < 3 && name == NULL; i++)
        name = json_object_get(v, names[i]);
    for (size_t i = 0; i < 2 && args == NULL; i++)
        args = json_object_get(v, keys[i]);
    if (!json_is_string(name))
        return false;
    out->name = strdup(json_string_value(name));
    if (json_is_string(args)) /* arguments as text already */
        out->arguments = strdup(json_string_value(args));
    else
        out->arguments = args == NULL ? strdup("{}") : dump(args);
    return out->name != NULL && out->arguments != NULL;
}

/* One object, several behind each other, or a list: brackets and commas
 * between calls carry no meaning here. */
static bool next_json(struct hth_str body, size_t *at,
                      struct hth_chat__call *out)
{
    json_t *v;
    bool ok;

    skip(body, at, " \n\r\t[],;");
    if (*at >= body.n || body.p[*at] != '{')
        return false;
    v = value_at(body, at);
    ok = v != NULL && call_of(v, out);
    json_decref(v);
    return ok;
}

/* ---- a name, then JSON ------------------------------------------------------
 */

static char *name_of(const char *p, size_t n)
{
    static const char prefix[] = "functions.";
    size_t k = sizeof prefix - 1;

    while (n > 0 && isspace((unsigned char)*p)) {
        p++;
        n--;
    }
    if (n > k && memcmp(p, prefix, k) == 0) {
        p += k;
        n -= k;
    }
    for (k = 0; k < n &&
                (isalnum((unsigned char)p[k]) || strchr("_-.", p[k]) != NULL) &&
                p[k] != '\0';)
        k++;
    return k > 0 ? strndup(p, k) : NULL;
}

static bool next_named(const struct hth_chat__family *f, struct hth_str body,
                       size_t *at, struct hth_chat__call *out)
{
    const char *sep, *brace;
    const char *from = body.p + *at;
    size_t left = body.n - *at, name_n;
    json_t *v;

    if (left == 0)
        return false;
    sep = memmem(from, left, f->separator, strlen(f->separator));
    if (sep == NULL)
        return next_json(body, at, out);
    name_n = (size_t)(sep - from);
    sep += strlen(f->separator);
    brace = memchr(sep, '{', left - (size_t)(sep - from));
    if (brace == NULL)
        return false;
    /* DeepSeek writes "function", the separator, the name, then the JSON. */
    if (name_n == 8 && memcmp(from, "function", 8) == 0)
        out->name = name_of(sep, (size_t)(brace - sep));
    else
        out->name = name_of(from, name_n);
    *at = (size_t)(brace - body.p);
    v = value_at(body, at);
    out->arguments = v != NULL ? dump(v) : NULL;
    json_decref(v);
    return out->name != NULL && out->arguments != NULL;
}

/* ---- tagged keys and values -------------------------------------------------
 */

/* The text between two marks from *at on, and move behind it. */
static bool between(struct hth_str body, size_t *at, const char *const marks[2],
                    struct hth_str *out)
{
    const char *from, *to;

    if (*at >= body.n)
        return false;
    from = memmem(body.p + *at, body.n - *at, marks[0], strlen(marks[0]));
    if (from == NULL)
        return false;
    from += strlen(marks[0]);
    to = memmem(from, body.n - (size_t)(from - body.p), marks[1],
                strlen(marks[1]));
    if (to == NULL)
        return false;
    *out = (struct hth_str){from, (size_t)(to - from)};
    *at = (size_t)(to - body.p) + strlen(marks[1]);
    return true;
}

/* A value without quotes: JSON where it reads as such, else a string. One line
 * end at each side belongs to the format. */
static json_t *loose_value(struct hth_str v)
{
    size_t at = 0, n;
    json_t *j;

    if (v.n > 0 && v.p[0] == '\n') {
        v.p++;
        v.n--;
    }
    if (v.n > 0 && v.p[v.n - 1] == '\n')
        v.n--;
    j = v.n == 0 ? NULL
                 : json_loadb(v.p, v.n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    for (n = v.n; at < n && isspace((unsigned char)v.p[at]);)
        at++;
    if (j != NULL && !(at < n && v.p[at] == '"'))
        return j;
    json_decref(j);
    return json_stringn(v.p, v.n);
}

static bool next_tagged(const struct hth_chat__family *f, struct hth_str body,
                        size_t *at, struct hth_chat__call *out)
{
    static const char *const function[2] = {"<function=", ">"};
    static const char *const parameter[2] = {"<parameter=", ">"};
    static const char *const end[2] = {"", "</parameter>"};
    static const char *const key_of[2] = {"<arg_key>", "</arg_key>"};
    static const char *const value_of[2] = {"<arg_value>", "</arg_value>"};
    bool glm = f->body == HTH_CALL_GLM;
    struct hth_str name, key, value;
    json_t *args;

    if (glm) {
        if (*at > 0)
            return false;
        out->name = name_of(body.p, body.n);
    } else if (between(body, at, function, &name)) {
        out->name = name_of(name.p, name.n);
    }
    if (out->name == NULL)
        return false;
    args = json_object();
    while (between(body, at, glm ? key_of : parameter, &key) &&
           between(body, at, glm ? value_of : end, &value)) {
        json_t *v = loose_value(value);

        if (v == NULL || json_object_setn_new(args, key.p, key.n, v) != 0)
            break;
    }
    *at = glm ? body.n : *at;
    out->arguments = dump(args);
    json_decref(args);
    return out->arguments != NULL;
}

/* ---- all --------------------------------------------------------------------
 */

bool hth_chat__next_call(const struct hth_chat__family *f, struct hth_str body,
                         size_t *at, struct hth_chat__call *out)
{
    size_t from = *at;
    bool found;

    *out = (struct hth_chat__call){NULL, NULL};
    /* Whatever the family, a call may be written as JSON. */
    found = next_json(body, at, out);
    if (!found && f->body != HTH_CALL_JSON) {
        hth_chat__call_fini(out);
        *at = from;
        if (f->body == HTH_CALL_NAMED)
            found = next_named(f, body, at, out);
        else if (f->body == HTH_CALL_PYTHON)
            found = hth_chat__next_python(body, at, out);
        else if (f->body != HTH_CALL_HARMONY)
            found = next_tagged(f, body, at, out);
    }
    if (!found)
        hth_chat__call_fini(out);
    return found;
}
