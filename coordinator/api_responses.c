/* api_responses.c - POST /v1/responses, stateless: what OpenAI's Responses
 * API needs to serve agents (Codex, the Agents SDK). Items become messages;
 * nothing is stored. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/api_serve.h"
#include "model/json_write.h"

#define ECHO_BYTES_MAX 65536u /* of one field */

/* ---- the body -------------------------------------------------------------
 */

static bool is_type(const json_t *o, const char *type)
{
    const char *t = json_string_value(json_object_get(o, "type"));

    return t != NULL && strcmp(t, type) == 0;
}

/* Text parts of a content, one after another. */
static json_t *join_text(struct api_call *c, const json_t *v)
{
    const json_t *part;
    struct hth_buf b;
    json_t *text = NULL;
    size_t i;

    if (json_is_string(v))
        return json_string(json_string_value(v));
    hth_buf_init(&b, HTH_HTTP_BODY_BYTES_MAX);
    json_array_foreach(v, i, part)
    {
        const json_t *t = json_object_get(part, "text");

        if (is_type(part, "refusal"))
            t = json_object_get(part, "refusal");
        if (!json_is_string(t)) {
            const char *type = json_string_value(json_object_get(part, "type"));

            hth__api_fault(&c->fault, "unsupported_parameter", "input",
                           "a part of type %.40s is not supported here",
                           type != NULL ? type : "(none)");
        } else {
            hth_put_bytes(&b, json_string_value(t), json_string_length(t));
        }
    }
    if (c->fault.http == 0)
        text = json_stringn(hth_buf_cstr(&b), b.len);
    hth_buf_fini(&b);
    return text;
}

static void add(json_t *all, const char *role, json_t *content)
{
    json_array_append_new(
        all, json_pack("{s:s,s:o*}", "role", role, "content", content));
}

/* Calls of one turn belong into one message. */
static void add_call(json_t *all, const json_t *item)
{
    json_t *last = json_array_get(all, json_array_size(all) - 1), *calls;
    const char *role = json_string_value(json_object_get(last, "role"));

    if (role == NULL || strcmp(role, "assistant") != 0) {
        add(all, "assistant", json_string(""));
        last = json_array_get(all, json_array_size(all) - 1);
    }
    calls = json_object_get(last, "tool_calls");
    if (calls == NULL) {
        calls = json_array();
        json_object_set_new(last, "tool_calls", calls);
    }
    json_array_append_new(
        calls, json_pack("{s:O*,s:s,s:{s:O*,s:O*}}", "id",
                         json_object_get(item, "call_id"), "type", "function",
                         "function", "name", json_object_get(item, "name"),
                         "arguments", json_object_get(item, "arguments")));
}

/* Reasoning and items of tools that run elsewhere carry nothing for the
 * model: they are skipped, as their senders expect. */
static int add_item(struct api_call *c, json_t *all, const json_t *item)
{
    const char *role = json_string_value(json_object_get(item, "role"));
    json_t *text;

    if (is_type(item, "function_call")) {
        add_call(all, item);
    } else if (is_type(item, "function_call_output")) {
        text = join_text(c, json_object_get(item, "output"));
        json_array_append_new(
            all, json_pack("{s:s,s:O*,s:o*}", "role", "tool", "tool_call_id",
                           json_object_get(item, "call_id"), "content", text));
    } else if (role != NULL) {
        text = join_text(c, json_object_get(item, "content"));
        add(all, strcmp(role, "developer") == 0 ? "system" : role, text);
    }
    return c->fault.http != 0 ? -1 : 0;
}

static int read_input(struct api_call *c)
{
    const json_t *in = json_object_get(c->body, "input"), *item;
    const json_t *first = json_object_get(c->body, "instructions");
    json_t *all = json_array();
    size_t i;

    json_object_set_new(c->body, "\x01messages", all);
    c->ask->messages = all;
    if (first != NULL && !json_is_null(first) && !json_is_string(first))
        return hth__api_fault(&c->fault, "invalid_value", "instructions",
                              "instructions must be a string");
    if (json_is_string(first) && json_string_length(first) > 0)
        add(all, "system", json_string(json_string_value(first)));
    if (json_is_string(in))
        add(all, "user", json_string(json_string_value(in)));
    else if (in != NULL && !json_is_array(in))
        return hth__api_fault(&c->fault, "invalid_value", "input",
                              "input must be a string or a list of items");
    json_array_foreach(in, i, item)
    {
        if (add_item(c, all, item) != 0)
            return -1;
    }
    if (json_array_size(all) == 0) /* a probe: an empty turn */
        add(all, "user", json_string(""));
    return 0;
}

/* Flat functions become nested ones; types that run on OpenAI's side are
 * skipped. */
static int read_tools(struct api_call *c)
{
    const json_t *from = json_object_get(c->body, "tools"), *t;
    json_t *all;
    size_t i;

    if (from != NULL && !json_is_null(from) && !json_is_array(from))
        return hth__api_fault(&c->fault, "invalid_value", "tools",
                              "tools must be a list");
    all = json_array();
    json_array_foreach(from, i, t)
    {
        if (is_type(t, "function") &&
            json_is_string(json_object_get(t, "name")))
            json_array_append_new(
                all, json_pack("{s:s,s:{s:O,s:O*,s:O*}}", "type", "function",
                               "function", "name", json_object_get(t, "name"),
                               "description", json_object_get(t, "description"),
                               "parameters", json_object_get(t, "parameters")));
    }
    if (json_array_size(all) == 0)
        json_object_del(c->body, "tool_choice");
    json_object_set_new(c->body, "tools", all);
    return hth__ask_tools(c, c->body);
}

/* {text: {format: {type, name, schema}}}; verbosity is for models of OpenAI's
 * alone, and "medium" what they do without it. */
static int read_format(struct api_call *c)
{
    const json_t *text, *v;
    const char *verbosity;

    if (hth__ask_object(c, c->body, "text", &text) != 0)
        return -1;
    v = json_object_get(text, "verbosity");
    verbosity = json_string_value(v);
    if (v != NULL && !json_is_null(v) &&
        (verbosity == NULL || strcmp(verbosity, "medium") != 0))
        return hth__api_fault(&c->fault, "unsupported_parameter",
                              "text.verbosity",
                              "text.verbosity is not supported by this server");
    return hth__ask_format(c, json_object_get(text, "format"), "text.format");
}

static int read_effort(struct api_call *c)
{
    const json_t *reasoning;

    if (hth__ask_object(c, c->body, "reasoning", &reasoning) != 0)
        return -1;
    return hth__ask_effort(c, json_object_get(reasoning, "effort"),
                           "reasoning.effort");
}

/* What could be added to the answer: only logprobs would be ours to add, and
 * are not; the rest belongs to tools that run elsewhere. */
static int read_include(struct api_call *c)
{
    const json_t *all = json_object_get(c->body, "include"), *v;
    size_t i;

    if (all != NULL && !json_is_null(all) && !json_is_array(all))
        return hth__api_fault(&c->fault, "invalid_value", "include",
                              "include must be a list");
    json_array_foreach(all, i, v)
    {
        const char *name = json_string_value(v);

        if (name == NULL || strcmp(name, "message.output_text.logprobs") == 0)
            return hth__api_fault(&c->fault, "unsupported_parameter", "include",
                                  "include: %.64s is not supported here",
                                  name != NULL ? name : "(no text)");
    }
    return 0;
}

/* What the response repeats of the request; kept as text, for the body goes
 * when the request is admitted. Each of three events holds it, so what is long
 * is told as if it had not been said. */
static int keep_echo(struct api_call *c)
{
    static const struct {
        const char *name, *otherwise;
    } fields[] = {{"instructions", "null"},
                  {"metadata", "{}"},
                  {"parallel_tool_calls", "true"},
                  {"max_output_tokens", "null"},
                  {"reasoning", "null"},
                  {"tool_choice", "\"auto\""},
                  {"tools", "[]"},
                  {"text", "{\"format\":{\"type\":\"text\"}}"},
                  {"user", "null"}};
    struct hth_buf b;

    hth_buf_init(&b, HTH_HTTP_BODY_BYTES_MAX);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const json_t *v = json_object_get(c->body, fields[i].name);
        char *text = v != NULL && !json_is_null(v)
                         ? json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY)
                         : NULL;

        hth_put_printf(&b, ",\"%s\":", fields[i].name);
        if (text != NULL && strlen(text) <= ECHO_BYTES_MAX)
            hth_put_bytes(&b, text, strlen(text));
        else
            hth_put_printf(&b, "%s", fields[i].otherwise);
        free(text);
    }
    c->own = b.failed ? NULL : strdup(hth_buf_cstr(&b));
    hth_buf_fini(&b);
    return c->own != NULL ? 0
                          : hth__api_fault(&c->fault, "internal_error", NULL,
                                           "out of memory");
}

static int read_responses(struct api_call *c)
{
    static const char *const max[] = {"max_output_tokens", NULL};

    if (keep_echo(c) != 0 || hth__ask_model(c, c->body) != 0 ||
        hth__ask_sampling(c, c->body) != 0 ||
        hth__ask_max(c, c->body, max) != 0 || hth__ask_stream(c) != 0 ||
        read_tools(c) != 0 || read_format(c) != 0 || read_effort(c) != 0 ||
        read_include(c) != 0 || read_input(c) != 0)
        return -1;
    return hth__prompt_chat(c);
}

/* ---- the response object --------------------------------------------------
 */

static const char *tail(const struct api_call *c)
{
    return c->id + strlen(c->d->id_prefix);
}

static void put_text(struct hth_buf *b, const void *text, size_t n)
{
    hth_put_printf(b, "{\"type\":\"output_text\",\"annotations\":[],"
                      "\"logprobs\":[],\"text\":");
    hth_json_string(b, text, n);
    hth_put_u8(b, '}');
}

static void put_message_item(struct hth_buf *b, const struct api_choice *ch,
                             bool done)
{
    hth_put_printf(b,
                   "{\"id\":\"msg_%s\",\"type\":\"message\",\"status\":\"%s\","
                   "\"role\":\"assistant\",\"content\":[",
                   tail(ch->call), done ? "completed" : "in_progress");
    if (done)
        put_text(b, ch->text.data, ch->text.len);
    hth_put_printf(b, "]}");
}

static void put_reasoning_item(struct hth_buf *b, const struct api_choice *ch,
                               bool done)
{
    hth_put_printf(b,
                   "{\"id\":\"rs_%s\",\"type\":\"reasoning\",\"summary\":[],"
                   "\"content\":[",
                   tail(ch->call));
    if (done) {
        hth_put_printf(b, "{\"type\":\"reasoning_text\",\"text\":");
        hth_json_string(b, ch->reasoning.data, ch->reasoning.len);
        hth_put_u8(b, '}');
    }
    hth_put_printf(b, "]}");
}

struct tool {
    struct hth_str name, arguments;
    uint32_t index;
};

static void put_tool_item(struct hth_buf *b, const struct api_call *c,
                          const struct tool *t, bool done)
{
    hth_put_printf(b,
                   "{\"id\":\"fc_%s_%u\",\"type\":\"function_call\","
                   "\"status\":\"%s\",\"call_id\":\"call_%s_%u\",\"name\":",
                   tail(c), t->index, done ? "completed" : "in_progress",
                   tail(c), t->index);
    hth_json_string(b, t->name.p, t->name.n);
    hth_put_printf(b, ",\"arguments\":");
    hth_json_string(b, done ? t->arguments.p : "", done ? t->arguments.n : 0);
    hth_put_u8(b, '}');
}

static void put_output(struct hth_buf *b, const struct api_choice *ch)
{
    struct hth_cursor at;
    struct tool t;
    bool any = false;

    hth_put_u8(b, '[');
    if (ch->reasoning.len > 0) {
        put_reasoning_item(b, ch, true);
        any = true;
    }
    if (ch->text.len > 0 || ch->tool_calls == 0) {
        hth_put_printf(b, any ? "," : "");
        put_message_item(b, ch, true);
        any = true;
    }
    hth_cursor_init(&at, ch->tools.data, ch->tools.len);
    for (t.index = 0; t.index < ch->tool_calls; t.index++) {
        t.name.p = hth_get_str(&at, ch->tools.len, &t.name.n);
        t.arguments.p = hth_get_str(&at, ch->tools.len, &t.arguments.n);
        hth_put_printf(b, any ? "," : "");
        put_tool_item(b, ch->call, &t, true);
        any = true;
    }
    hth_put_u8(b, ']');
}

static void put_usage(struct hth_buf *b, const struct api_call *c)
{
    uint32_t in = hth__api_prompt_tokens(c), out = hth__api_answer_tokens(c);

    hth_put_printf(b,
                   ",\"usage\":{\"input_tokens\":%u,\"input_tokens_details\":"
                   "{\"cached_tokens\":%u},\"output_tokens\":%u,"
                   "\"output_tokens_details\":{\"reasoning_tokens\":%u},"
                   "\"total_tokens\":%u}",
                   in, hth__api_cached_tokens(c), out,
                   hth__api_reasoning_tokens(c), in + out);
}

/* status: in_progress, completed, incomplete or failed. */
static void put_response(struct hth_buf *b, const struct api_call *c,
                         const char *status, const struct api_fault *f)
{
    bool cut = strcmp(status, "incomplete") == 0;
    bool over = cut || strcmp(status, "completed") == 0;

    hth_put_u8(b, '{');
    hth_json_field(b, "id", c->id);
    hth_json_field(b, "object", "response");
    hth_json_field_number(b, "created_at", (double)c->created_s);
    hth_json_field(b, "status", status);
    hth_json_field(b, "model", c->a->o.model);
    hth_put_printf(b, ",\"output\":");
    if (over)
        put_output(b, &c->choice[0]);
    else
        hth_put_printf(b, "[]");
    hth_put_printf(b, ",\"error\":");
    if (f != NULL) {
        hth_put_u8(b, '{');
        hth_json_field(b, "code", f->code);
        hth_json_field(b, "message", f->text);
        hth_put_u8(b, '}');
    } else {
        hth_put_printf(b, "null");
    }
    hth_put_printf(b, ",\"incomplete_details\":%s",
                   cut ? "{\"reason\":\"max_output_tokens\"}" : "null");
    hth_put_printf(b, "%s", (const char *)c->own);
    hth_put_printf(b, ",\"previous_response_id\":null,\"store\":false,"
                      "\"truncation\":\"disabled\"");
    hth_json_field_number(b, "temperature",
                          (double)c->ask->sampling.temperature);
    hth_json_field_number(b, "top_p", (double)c->ask->sampling.top_p);
    if (over)
        put_usage(b, c);
    else
        hth_put_printf(b, ",\"usage\":null");
    hth_put_u8(b, '}');
}

/* ---- events ---------------------------------------------------------------
 */

/* {"type": name, "sequence_number": n, ...: the rest is the caller's. */
static void begin(struct hth_buf *b, struct api_call *c, const char *name)
{
    hth_buf_init(b, HTH_REQUEST_EVENTS_BYTES_MAX);
    hth_put_printf(b, "{\"type\":\"%s\",\"sequence_number\":%u", name,
                   c->sequence++);
}

static void finish(struct hth_buf *b, struct api_call *c, const char *name)
{
    hth_put_u8(b, '}');
    hth__api_event(c, name, b);
    hth_buf_fini(b);
}

static void tell_response(struct api_call *c, const char *name,
                          const char *status, const struct api_fault *f)
{
    struct hth_buf b;

    begin(&b, c, name);
    hth_put_printf(&b, ",\"response\":");
    put_response(&b, c, status, f);
    finish(&b, c, name);
}

static void on_begin(struct api_call *c)
{
    tell_response(c, "response.created", "in_progress", NULL);
    tell_response(c, "response.in_progress", "in_progress", NULL);
}

static void tell_item(struct api_choice *ch, const char *name,
                      const struct tool *t, bool done)
{
    struct hth_buf b;

    begin(&b, ch->call, name);
    hth_put_printf(&b, ",\"output_index\":%u,\"item\":", ch->items - 1);
    if (t != NULL)
        put_tool_item(&b, ch->call, t, done);
    else if (ch->part == HTH_CHAT_REASONING)
        put_reasoning_item(&b, ch, done);
    else
        put_message_item(&b, ch, done);
    finish(&b, ch->call, name);
}

/* Events inside of the open message or reasoning carry where they are. */
static void put_place(struct hth_buf *b, const struct api_choice *ch)
{
    hth_put_printf(b,
                   ",\"item_id\":\"%s_%s\",\"output_index\":%u,"
                   "\"content_index\":0",
                   ch->part == HTH_CHAT_REASONING ? "rs" : "msg",
                   tail(ch->call), ch->items - 1);
}

static void tell_part(struct api_choice *ch, const char *name, bool done)
{
    struct hth_buf b;

    begin(&b, ch->call, name);
    put_place(&b, ch);
    hth_put_printf(&b, ",\"part\":");
    put_text(&b, done ? ch->text.data : NULL, done ? ch->text.len : 0);
    finish(&b, ch->call, name);
}

static void close_item(struct api_choice *ch)
{
    bool thinks = ch->part == HTH_CHAT_REASONING;
    const char *name =
        thinks ? "response.reasoning_text.done" : "response.output_text.done";
    const struct hth_buf *text = thinks ? &ch->reasoning : &ch->text;
    struct hth_buf b;

    if (ch->part < 0)
        return;
    begin(&b, ch->call, name);
    put_place(&b, ch);
    hth_put_printf(&b, ",\"text\":");
    hth_json_string(&b, text->data, text->len);
    if (!thinks)
        hth_put_printf(&b, ",\"logprobs\":[]");
    finish(&b, ch->call, name);
    if (!thinks)
        tell_part(ch, "response.content_part.done", true);
    tell_item(ch, "response.output_item.done", NULL, true);
    ch->part = -1;
}

static void open_item(struct api_choice *ch, enum hth_chat_part part)
{
    close_item(ch);
    ch->items++;
    ch->part = (int)part;
    tell_item(ch, "response.output_item.added", NULL, false);
    if (part == HTH_CHAT_CONTENT)
        tell_part(ch, "response.content_part.added", false);
}

static void tell_tool(struct api_choice *ch, const struct hth_chat_piece *p)
{
    static const char *const names[] = {
        "response.function_call_arguments.delta",
        "response.function_call_arguments.done"};
    struct tool t = {p->name, p->text, p->index};
    struct hth_buf b;
    int i;

    close_item(ch);
    ch->items++;
    tell_item(ch, "response.output_item.added", &t, false);
    for (i = 0; i < 2; i++) {
        begin(&b, ch->call, names[i]);
        hth_put_printf(&b,
                       ",\"item_id\":\"fc_%s_%u\",\"output_index\":%u,\"%s\":",
                       tail(ch->call), t.index, ch->items - 1,
                       i == 0 ? "delta" : "arguments");
        hth_json_string(&b, t.arguments.p, t.arguments.n);
        finish(&b, ch->call, names[i]);
    }
    tell_item(ch, "response.output_item.done", &t, true);
    hth_put_str(&ch->tools, p->name.p, p->name.n);
    hth_put_str(&ch->tools, p->text.p, p->text.n);
}

static void on_piece(struct api_choice *ch, const struct hth_chat_piece *p)
{
    bool thinks = p->part == HTH_CHAT_REASONING;
    const char *name =
        thinks ? "response.reasoning_text.delta" : "response.output_text.delta";
    struct hth_buf b;

    if (p->part == HTH_CHAT_TOOL) {
        tell_tool(ch, p);
        return;
    }
    if (ch->part != (int)p->part)
        open_item(ch, p->part);
    hth_put_bytes(thinks ? &ch->reasoning : &ch->text, p->text.p, p->text.n);
    begin(&b, ch->call, name);
    put_place(&b, ch);
    hth_put_printf(&b, ",\"delta\":");
    hth_json_string(&b, p->text.p, p->text.n);
    if (!thinks)
        hth_put_printf(&b, ",\"logprobs\":[]");
    finish(&b, ch->call, name);
}

/* An answer without a token still has its message. */
static void on_choice_end(struct api_choice *ch)
{
    if (ch->items == 0)
        open_item(ch, HTH_CHAT_CONTENT);
    close_item(ch);
}

static void on_end(struct api_call *c)
{
    bool cut = c->choice[0].end == HTH_END_LENGTH;
    const char *status = cut ? "incomplete" : "completed";

    if (!c->streaming)
        put_response(&c->out, c, status, NULL);
    else
        tell_response(c, cut ? "response.incomplete" : "response.completed",
                      status, NULL);
}

static void on_fail(struct api_call *c, const struct api_fault *f)
{
    struct hth_buf b;

    begin(&b, c, "error");
    hth_json_field(&b, "code", f->code);
    hth_json_field(&b, "message", f->text);
    hth_put_printf(&b, ",\"param\":null");
    finish(&b, c, "error");
    tell_response(c, "response.failed", "failed", f);
}

const struct api_dialect hth__dialect_responses = {
    .shape = SHAPE_OPENAI,
    .stream_type = "text/event-stream",
    .id_prefix = "resp_",
    .chat = true,
    .fields = &hth__fields_responses,
    .read = read_responses,
    .begin = on_begin,
    .piece = on_piece,
    .choice_end = on_choice_end,
    .end = on_end,
    .fail = on_fail};
