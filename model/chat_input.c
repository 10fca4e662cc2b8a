/* chat_input.c - a conversation as clients send it to one as a template wants
 * it: parts joined or made, arguments as text or as objects, roles it does not
 * know said otherwise. */
#include <stdlib.h>
#include <string.h>

#include "model/chat_internal.h"

static json_t *wrong(int *status, struct hth_err *err, size_t i,
                     const char *what)
{
    *status = hth_fail(err, HTH_EINVAL, "messages[%zu]%s", i, what);
    return NULL;
}

/* Text parts as one string. */
static json_t *join_parts(const json_t *parts, size_t message, int *status,
                          struct hth_err *err)
{
    struct hth_buf text;
    json_t *out = NULL;
    json_t *part;
    size_t i;

    hth_buf_init(&text, HTH_TEXT_BYTES_MAX);
    json_array_foreach(parts, i, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *t = json_object_get(part, "text");

        if (!json_is_string(t) || (type != NULL && strcmp(type, "text") != 0 &&
                                   strcmp(type, "input_text") != 0 &&
                                   strcmp(type, "output_text") != 0)) {
            hth_buf_fini(&text);
            *status = hth_fail(err, HTH_EUNSUPPORTED,
                               "messages[%zu].content[%zu]: a part of type "
                               "%.40s is not supported; only text is",
                               message, i, type != NULL ? type : "(none)");
            return NULL;
        }
        hth_put_bytes(&text, json_string_value(t), json_string_length(t));
    }
    if (!text.failed)
        out = json_stringn(hth_buf_cstr(&text), text.len);
    hth_buf_fini(&text);
    if (out == NULL)
        *status = hth_fail(err, HTH_ELIMIT, "messages[%zu].content: too long",
                           message);
    return out;
}

/* What content becomes; a new reference. */
static json_t *content(const struct hth_chat *c, const json_t *v, size_t i,
                       struct hth_err *err, int *status)
{
    json_t *text;

    if (v == NULL || json_is_null(v))
        return json_null();
    if (json_is_array(v))
        text = join_parts(v, i, status, err);
    else if (json_is_string(v))
        text = json_incref((json_t *)(uintptr_t)v);
    else
        return wrong(status, err, i,
                     ".content is no string, list of parts, or null");
    if (text == NULL || !c->wants_parts)
        return text;
    return json_pack("[{s:s,s:o}]", "type", "text", "text", text);
}

/* Arguments as the template wants them. */
static void convert_call(const struct hth_chat *c, json_t *call)
{
    json_t *f = json_object_get(call, "function");
    json_t *args, *other = NULL;

    if (!json_is_object(f))
        f = call;
    args = json_object_get(f, "arguments");
    if (json_is_string(args) && !c->wants_text_args) {
        other = json_loadb(json_string_value(args), json_string_length(args),
                           JSON_ALLOW_NUL, NULL);
        if (!json_is_object(other)) {
            json_decref(other);
            return;
        }
    } else if (json_is_object(args) && c->wants_text_args) {
        char *text = json_dumps(args, JSON_ENCODE_ANY);

        other = text != NULL ? json_string(text) : NULL;
        free(text);
    }
    if (other != NULL)
        (void)json_object_set_new(f, "arguments", other);
}

static json_t *one_message(const struct hth_chat *c, const json_t *m, size_t i,
                           struct hth_err *err, int *status)
{
    const char *role = json_string_value(json_object_get(m, "role"));
    json_t *out, *body, *calls, *call;
    size_t k;

    if (role == NULL)
        return wrong(status, err, i, " has no role");
    body = content(c, json_object_get(m, "content"), i, err, status);
    if (body == NULL)
        return NULL;
    out = json_deep_copy(m);
    if (json_object_get(m, "content") == NULL)
        json_decref(body); /* stays undefined in the template */
    else if (json_object_set_new(out, "content", body) != 0) {
        json_decref(out);
        out = NULL;
    }
    if (out == NULL) {
        *status = hth_fail(err, HTH_ENOMEM, "no memory for the messages");
        return NULL;
    }
    calls = json_object_get(out, "tool_calls");
    if (json_is_null(calls) ||
        (json_is_array(calls) && json_array_size(calls) == 0))
        (void)json_object_del(out, "tool_calls");
    else
        json_array_foreach(calls, k, call) convert_call(c, call);
    if (strcmp(role, "developer") == 0 && !c->knows_developer)
        (void)json_object_set_new(out, "role", json_string("system"));
    return out;
}

/* A template that refuses system messages gets the first one in front of the
 * first user message. */
static void fold_system(json_t *messages)
{
    json_t *first = json_array_get(messages, 0);
    json_t *second = json_array_get(messages, 1);
    const char *role = json_string_value(json_object_get(first, "role"));
    const char *next = json_string_value(json_object_get(second, "role"));
    const char *a = json_string_value(json_object_get(first, "content"));
    const char *b = json_string_value(json_object_get(second, "content"));
    json_t *both;

    if (role == NULL || next == NULL || a == NULL || b == NULL ||
        strcmp(role, "system") != 0 || strcmp(next, "user") != 0)
        return;
    both = json_sprintf("%s\n\n%s", a, b);
    if (both != NULL && json_object_set_new(second, "content", both) == 0)
        (void)json_array_remove(messages, 0);
}

json_t *hth_chat__messages(const struct hth_chat *c, const json_t *messages,
                           int *status, struct hth_err *err)
{
    json_t *out, *m;
    size_t i;

    if (!json_is_array(messages)) {
        *status = hth_fail(err, HTH_EINVAL, "messages is no list");
        return NULL;
    }
    out = json_array();
    json_array_foreach(messages, i, m)
    {
        json_t *one = one_message(c, m, i, err, status);

        if (one == NULL || json_array_append_new(out, one) != 0) {
            json_decref(out);
            return NULL;
        }
    }
    if (c->no_system)
        fold_system(out);
    return out;
}
