/* chat_grammar.c - answers that must be calls of tools, as a grammar: the
 * markers of the model's family around one JSON object per call, which the
 * reading side takes from every family. */
#include <stdlib.h>
#include <string.h>

#include "model/chat_internal.h"
#include "model/constraint.h"

/* {"type": "function", "function": {...}}, or the inside alone. */
static const json_t *function_of(const json_t *tool)
{
    const json_t *f = json_object_get(tool, "function");

    return json_is_object(f) ? f : tool;
}

/* References inside a tool's parameters mean the parameters' own definitions:
 * these move to the top of the one schema all tools share. */
static int hoist(json_t *root, json_t *parameters, const char *key,
                 struct hth_err *err)
{
    json_t *defs = json_object_get(parameters, key), *all, *old;
    const char *name;
    json_t *def;

    if (!json_is_object(defs))
        return HTH_OK;
    all = json_object_get(root, key);
    if (all == NULL) {
        (void)json_object_set_new(root, key, json_object());
        all = json_object_get(root, key);
    }
    json_object_foreach(defs, name, def)
    {
        old = json_object_get(all, name);
        if (old != NULL && !json_equal(old, def))
            return hth_fail(err, HTH_EUNSUPPORTED,
                            "two tools define %.64s in %s differently", name,
                            key);
        (void)json_object_set(all, name, def);
    }
    (void)json_object_del(parameters, key);
    return HTH_OK;
}

/* The schema of one call. */
static json_t *call_schema(const struct hth_chat *c, const json_t *function,
                           json_t *root, int *status, struct hth_err *err)
{
    const char *args = c->family->open == NULL ? "parameters" : "arguments";
    json_t *p = json_deep_copy(json_object_get(function, "parameters"));

    if (p == NULL)
        p = json_pack("{s:s}", "type", "object");
    *status = hoist(root, p, "$defs", err);
    if (*status == HTH_OK)
        *status = hoist(root, p, "definitions", err);
    if (*status != HTH_OK) {
        json_decref(p);
        return NULL;
    }
    return json_pack("{s:s,s:{s:{s:O},s:o},s:[s,s],s:b}", "type", "object",
                     "properties", "name", "const",
                     json_object_get(function, "name"), args, p, "required",
                     "name", args, "additionalProperties", 0);
}

static bool is_wanted(const struct hth_chat_choice *choice, const char *name)
{
    return choice->only == NULL || strcmp(choice->only, name) == 0;
}

/* One schema: any of the calls that are wanted. */
static json_t *all_calls(const struct hth_chat *c,
                         const struct hth_chat_choice *choice, int *status,
                         struct hth_err *err)
{
    json_t *root = json_object(), *list = json_array();

    *status = HTH_OK;
    for (size_t i = 0; i < json_array_size(choice->tools) && *status == HTH_OK;
         i++) {
        const json_t *f = function_of(json_array_get(choice->tools, i));
        const char *name = json_string_value(json_object_get(f, "name"));
        json_t *one;

        if (name == NULL)
            *status = hth_fail(err, HTH_EINVAL, "tools[%zu] has no name", i);
        else if (is_wanted(choice, name)) {
            one = call_schema(c, f, root, status, err);
            if (one != NULL)
                (void)json_array_append_new(list, one);
        }
    }
    if (*status == HTH_OK && json_array_size(list) == 0)
        *status = hth_fail(err, HTH_ENOTFOUND, "there is no tool %.64s",
                           choice->only != NULL ? choice->only : "at all");
    (void)json_object_set_new(root, "anyOf", list);
    if (*status != HTH_OK) {
        json_decref(root);
        return NULL;
    }
    return root;
}

static void put_literal(struct hth_buf *out, const char *text)
{
    hth_put_u8(out, '"');
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            hth_put_u8(out, '\\');
        hth_put_u8(out, (uint8_t)*text);
    }
    hth_put_printf(out, "\" ");
}

/* The call's rule in the markers of the family. */
static void put_root(const struct hth_chat__family *f, bool many,
                     struct hth_buf *out)
{
    hth_put_printf(out, "\nroot ::= ");
    if (f->open == NULL) {
        hth_put_printf(out, "call%s\n", many ? " (\"; \" call)*" : "");
        return;
    }
    if (f->close == NULL) {
        put_literal(out, f->open);
        hth_put_printf(out, "\"[\" call%s \"]\"\n",
                       many ? " (\", \" call)*" : "");
        return;
    }
    hth_put_printf(out,
                   "marked%s\nmarked ::= ", many ? " (\"\\n\" marked)*" : "");
    put_literal(out, f->open);
    hth_put_printf(out, "\"\\n\" call \"\\n\" ");
    put_literal(out, f->close);
    hth_put_u8(out, '\n');
}

int hth_chat_tool_grammar(const struct hth_chat *c,
                          const struct hth_chat_choice *choice,
                          struct hth_buf *out, struct hth_err *err)
{
    static const char root_rule[] = "\nroot ::= ";
    json_t *schema;
    uint8_t *root;
    int status;

    if (c->family->body == HTH_CALL_HARMONY)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "this model's way to call tools cannot be forced; use "
                        "tool_choice auto");
    schema = all_calls(c, choice, &status, err);
    if (schema == NULL)
        return status;
    status = hth_schema_to_gbnf(schema, out, err);
    json_decref(schema);
    if (status != HTH_OK)
        return status;
    /* What was the root is one call now. Literals hold no line ends, so the
     * last line is the root's. */
    root = memmem(out->data, out->len, root_rule, sizeof root_rule - 1);
    HTH_ASSERT(root != NULL);
    memcpy(root + 1, "call", 4);
    put_root(c->family, choice->many, out);
    return out->failed
               ? hth_fail(err, HTH_ELIMIT, "the tools' grammar is too large")
               : HTH_OK;
}
