/* chat_grammar.c - answers that must be calls of tools, as a grammar: the
 * markers of the model's family around one JSON object per call, which the
 * reading side takes from every family; harmony's calls, whose names stand in
 * the message's head; and reasoning in front of any of them. */
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

/* The schema of a function's arguments; a new reference, NULL: *status. */
static json_t *parameters_of(const json_t *function, json_t *root, int *status,
                             struct hth_err *err)
{
    json_t *p = json_deep_copy(json_object_get(function, "parameters"));

    if (p == NULL)
        p = json_pack("{s:s}", "type", "object");
    *status = hoist(root, p, "$defs", err);
    if (*status == HTH_OK)
        *status = hoist(root, p, "definitions", err);
    if (*status == HTH_OK)
        return p;
    json_decref(p);
    return NULL;
}

/* What one call is: the JSON of it, or, with harmony, of its arguments. */
static json_t *call_schema(const struct hth_chat *c, const json_t *function,
                           json_t *root, int *status, struct hth_err *err)
{
    const char *args = c->family->open == NULL ? "parameters" : "arguments";
    json_t *p = parameters_of(function, root, status, err);

    if (p == NULL || c->family->body == HTH_CALL_HARMONY)
        return p;
    return json_pack("{s:s,s:{s:{s:O},s:o},s:[s,s],s:b}", "type", "object",
                     "properties", "name", "const",
                     json_object_get(function, "name"), args, p, "required",
                     "name", args, "additionalProperties", 0);
}

static bool is_wanted(const struct hth_chat_choice *choice, const char *name)
{
    return choice->only == NULL || strcmp(choice->only, name) == 0;
}

/* {"anyOf": the calls that are wanted, and what their references mean}. */
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

/* A marker: the control token, or, where the vocabulary has no such token,
 * text that spells it. Both read the same. */
static void put_mark(struct hth_buf *out, const char *text)
{
    hth_put_printf(out, "(<");
    put_literal(out, text);
    out->len--; /* the space */
    hth_put_printf(out, "> | ");
    put_literal(out, text);
    hth_put_printf(out, ") ");
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
        put_mark(out, f->open);
        hth_put_printf(out, "\"[\" call%s \"]\"\n",
                       many ? " (\", \" call)*" : "");
        return;
    }
    hth_put_printf(out,
                   "marked%s\nmarked ::= ", many ? " (\"\\n\" marked)*" : "");
    put_mark(out, f->open);
    hth_put_printf(out, "\"\\n\" call \"\\n\" ");
    put_mark(out, f->close);
    hth_put_u8(out, '\n');
}

/* A message to one of the functions; a turn holds one call. */
static void put_harmony(const struct hth_chat_choice *choice,
                        struct hth_buf *out)
{
    size_t written = 0;

    hth_put_printf(out, "\nroot ::= ");
    put_mark(out, "<|channel|>");
    hth_put_printf(out, "\"commentary to=functions.\" (");
    for (size_t i = 0; i < json_array_size(choice->tools); i++) {
        const json_t *f = function_of(json_array_get(choice->tools, i));
        const char *name = json_string_value(json_object_get(f, "name"));

        if (name == NULL || !is_wanted(choice, name))
            continue;
        hth_put_printf(out, "%s", written > 0 ? "| " : "");
        put_literal(out, name);
        hth_put_printf(out, "as-json anyOf%zu ", written++);
    }
    hth_put_printf(out, ")\nas-json ::= \" \" ");
    put_mark(out, "<|constrain|>");
    hth_put_printf(out, "\"json\" ");
    put_mark(out, "<|message|>");
    hth_put_u8(out, '\n');
}

/* The rule "root" under another name of four letters. Literals hold no line
 * ends, so the last such line is the rule. */
static void rename_root(struct hth_buf *out, const char name[4])
{
    static const char rule[] = "root ::= ";
    size_t n = sizeof rule - 1, at = out->len >= n ? out->len - n + 1 : 0;

    while (at-- > 0)
        if (memcmp(out->data + at, rule, n) == 0 &&
            (at == 0 || out->data[at - 1] == '\n')) {
            memcpy(out->data + at, name, 4);
            return;
        }
    HTH_ASSERT(false && "a grammar has a root");
}

static void put_class_char(struct hth_buf *out, char c)
{
    hth_put_printf(out, strchr("[]^-\\", c) != NULL ? "\\%c" : "%c", c);
}

/* Any text without the two characters that the closing mark begins with. */
int hth_chat_reason_first(const struct hth_chat *c, struct hth_buf *gbnf)
{
    char a = c->think_close[0], b = c->think_close[1];

    if (gbnf->failed)
        return HTH_ELIMIT;
    rename_root(gbnf, "said");
    hth_put_printf(gbnf, "\nroot ::= thought ");
    put_mark(gbnf, c->think_close);
    hth_put_printf(gbnf, "\"\\n\"{0,2} said\n");
    hth_put_printf(gbnf, "thought ::= ([^");
    put_class_char(gbnf, a);
    hth_put_printf(gbnf, "] | \"%c\"+ [^", a);
    put_class_char(gbnf, a);
    put_class_char(gbnf, b);
    hth_put_printf(gbnf, "])*\n");
    return gbnf->failed ? HTH_ELIMIT : HTH_OK;
}

int hth_chat_tool_grammar(const struct hth_chat *c,
                          const struct hth_chat_choice *choice,
                          struct hth_buf *out, struct hth_err *err)
{
    bool harmony = c->family->body == HTH_CALL_HARMONY;
    json_t *schema;
    int status;

    schema = all_calls(c, choice, &status, err);
    if (schema == NULL)
        return status;
    status = harmony ? hth_schemas_to_gbnf(schema, "anyOf", out, err)
                     : hth_schema_to_gbnf(schema, out, err);
    json_decref(schema);
    if (status != HTH_OK)
        return status;
    if (harmony) {
        put_harmony(choice, out);
    } else { /* what was the root is one call now */
        rename_root(out, "call");
        put_root(c->family, choice->many, out);
    }
    return out->failed
               ? hth_fail(err, HTH_ELIMIT, "the tools' grammar is too large")
               : HTH_OK;
}

int hth_chat_open_schema(const struct hth_chat *c, const json_t *schema,
                         bool reasoning, struct hth_grammar **out,
                         struct hth_err *err)
{
    struct hth_buf text;
    int status;

    hth_buf_init(&text, HTH_GRAMMAR_BYTES_MAX);
    status = hth_schema_to_gbnf(schema, &text, err);
    if (status == HTH_OK && reasoning &&
        hth_chat_reason_first(c, &text) != HTH_OK)
        status = hth_fail(err, HTH_ELIMIT, "the grammar is too large");
    if (status == HTH_OK)
        status = hth_grammar_open(
            out, (struct hth_str){hth_buf_cstr(&text), text.len}, err);
    hth_buf_fini(&text);
    return status;
}
