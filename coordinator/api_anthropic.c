/* api_anthropic.c - POST /v1/messages and /v1/messages/count_tokens:
 * Anthropic's Messages, streaming and whole. The body becomes OpenAI's
 * messages and tools, which is what templates know. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/api_serve.h"
#include "model/json_write.h"

/* ---- the body -------------------------------------------------------------
 */

static int bad(struct api_call *c, const char *param, const char *text)
{
    return hth__api_fault(&c->fault, "invalid_value", param, "%s", text);
}

static bool is_type(const json_t *block, const char *type)
{
    const char *t = json_string_value(json_object_get(block, "type"));

    return t != NULL && strcmp(t, type) == 0;
}

/* Texts of a string or of text blocks, one after another; NULL: something
 * else is among them, which the fault names. */
static json_t *join_text(struct api_call *c, const json_t *v)
{
    struct hth_buf b;
    const json_t *block;
    json_t *text;
    size_t i;

    if (json_is_string(v))
        return json_string(json_string_value(v));
    hth_buf_init(&b, HTH_HTTP_BODY_BYTES_MAX);
    json_array_foreach(v, i, block)
    {
        const json_t *t = json_object_get(block, "text");

        if (!is_type(block, "text") || !json_is_string(t)) {
            const char *type =
                json_string_value(json_object_get(block, "type"));

            hth__api_fault(&c->fault, "unsupported_parameter", "messages",
                           "a block of type %.40s is not supported here",
                           type != NULL ? type : "(none)");
            hth_buf_fini(&b);
            return NULL;
        }
        hth_put_bytes(&b, json_string_value(t), json_string_length(t));
    }
    text = json_stringn(hth_buf_cstr(&b), b.len);
    hth_buf_fini(&b);
    return text;
}

static json_t *call_of(const json_t *block)
{
    char *arguments = json_dumps(json_object_get(block, "input"),
                                 JSON_ENCODE_ANY | JSON_COMPACT);
    json_t *call =
        json_pack("{s:o*,s:s,s:{s:O*,s:s}}", "id",
                  json_incref(json_object_get(block, "id")), "type", "function",
                  "function", "name", json_object_get(block, "name"),
                  "arguments", arguments != NULL ? arguments : "{}");

    free(arguments);
    return call;
}

/* One of their messages can be several of ours: results of tools come first,
 * as messages of their own. */
static int add_message(struct api_call *c, json_t *all, const json_t *m)
{
    const json_t *content = json_object_get(m, "content"), *block;
    json_t *text, *rest = json_array(), *calls = json_array(), *one;
    size_t i;

    json_array_foreach(content, i, block)
    {
        if (is_type(block, "tool_use")) {
            json_array_append_new(calls, call_of(block));
        } else if (is_type(block, "tool_result")) {
            text = join_text(c, json_object_get(block, "content"));
            if (text == NULL && c->fault.http == 0)
                text = json_string("");
            json_array_append_new(
                all,
                json_pack("{s:s,s:O*,s:o*}", "role", "tool", "tool_call_id",
                          json_object_get(block, "tool_use_id"), "content",
                          text));
        } else if (!is_type(block, "thinking") &&
                   !is_type(block, "redacted_thinking")) {
            json_array_append(rest, (json_t *)(uintptr_t)block);
        }
    }
    text = join_text(c, json_is_string(content) ? content : rest);
    one = json_pack("{s:O*,s:o*}", "role", json_object_get(m, "role"),
                    "content", text);
    if (one != NULL && json_array_size(calls) > 0)
        json_object_set(one, "tool_calls", calls);
    if (json_is_string(content) || json_array_size(rest) > 0 ||
        json_array_size(calls) > 0)
        json_array_append(all, one);
    json_decref(one);
    json_decref(rest);
    json_decref(calls);
    return c->fault.http != 0 ? -1 : 0;
}

static int read_messages(struct api_call *c)
{
    const json_t *from = json_object_get(c->body, "messages"), *m;
    const json_t *system = json_object_get(c->body, "system");
    json_t *all = json_array(), *text;
    size_t i;

    json_object_set_new(c->body, "\x01messages", all);
    if (!json_is_array(from) || json_array_size(from) == 0)
        return bad(c, "messages",
                   "messages must be a list with at least one message");
    if (system != NULL && !json_is_null(system)) {
        if (!json_is_string(system) && !json_is_array(system))
            return bad(c, "system", "system must be text or a list of blocks");
        text = join_text(c, system);
        if (text == NULL)
            return -1;
        json_array_append_new(
            all, json_pack("{s:s,s:o}", "role", "system", "content", text));
    }
    json_array_foreach(from, i, m)
    {
        if (!json_is_string(json_object_get(m, "role")))
            return bad(c, "messages", "a message has no role");
        if (add_message(c, all, m) != 0)
            return -1;
    }
    c->ask->messages = all;
    return 0;
}

/* Tools of other types than functions (web search...) run on Anthropic's
 * side; here they are refused by name. */
static int read_tools(struct api_call *c)
{
    const json_t *from = json_object_get(c->body, "tools"), *t;
    const json_t *choice = json_object_get(c->body, "tool_choice");
    const char *how = json_string_value(json_object_get(choice, "type"));
    json_t *all;
    bool one = false;
    size_t i;

    if (from != NULL && !json_is_null(from) && !json_is_array(from))
        return bad(c, "tools", "tools must be a list");
    if (choice != NULL && !json_is_null(choice) &&
        (how == NULL || (strcmp(how, "auto") != 0 && strcmp(how, "any") != 0 &&
                         strcmp(how, "tool") != 0 && strcmp(how, "none") != 0)))
        return bad(c, "tool_choice",
                   "tool_choice must be an object of type auto, any, tool or "
                   "none");
    if (hth__ask_bool(c, choice, "disable_parallel_tool_use", &one) != 0)
        return -1;
    c->ask->many_tools = !one;
    all = json_array();
    json_object_set_new(c->body, "\x01tools", all);
    json_array_foreach(from, i, t)
    {
        if (!json_is_string(json_object_get(t, "name")) ||
            !json_is_object(json_object_get(t, "input_schema")))
            return hth__api_fault(&c->fault, "unsupported_parameter", "tools",
                                  "tools[%zu] has no name and input_schema: "
                                  "only tools of the client are supported",
                                  i);
        json_array_append_new(
            all, json_pack("{s:s,s:{s:O,s:O*,s:O}}", "type", "function",
                           "function", "name", json_object_get(t, "name"),
                           "description", json_object_get(t, "description"),
                           "parameters", json_object_get(t, "input_schema")));
    }
    if (json_array_size(all) == 0 || (how != NULL && strcmp(how, "none") == 0))
        return 0;
    c->ask->tools = all;
    if (how != NULL && strcmp(how, "any") == 0)
        c->ask->tool_choice = TOOLS_REQUIRED;
    if (how != NULL && strcmp(how, "tool") == 0) {
        c->ask->tool_choice = TOOLS_ONE;
        c->ask->tool_name = json_string_value(json_object_get(choice, "name"));
        if (c->ask->tool_name == NULL)
            return bad(c, "tool_choice", "tool_choice must name a tool");
    }
    return 0;
}

/* Budgets are not kept: a model thinks as long as it does. */
static int read_thinking(struct api_call *c)
{
    const json_t *v;

    if (hth__ask_object(c, c->body, "thinking", &v) != 0)
        return -1;
    if (v == NULL)
        return 0;
    return hth__ask_variable(c, "enable_thinking",
                             json_boolean(!is_type(v, "disabled")));
}

static int read_count(struct api_call *c)
{
    c->ask->cap_tokens = true;
    if (hth__ask_model(c, c->body) != 0 || read_messages(c) != 0 ||
        read_tools(c) != 0 || read_thinking(c) != 0 || hth__prompt_chat(c) != 0)
        return -1;
    hth_put_printf(&c->out, "{\"input_tokens\":%u}", hth__api_prompt_tokens(c));
    return 0;
}

/* max_tokens is an upper bound that clients set high: it is cut to what the
 * context holds. */
static int read_body(struct api_call *c)
{
    static const char *const max[] = {"max_tokens", NULL};

    c->ask->cap_tokens = true;
    if (!json_is_integer(json_object_get(c->body, "max_tokens")))
        return bad(c, "max_tokens", "max_tokens is missing");
    if (hth__ask_model(c, c->body) != 0 || hth__ask_sampling(c, c->body) != 0 ||
        hth__ask_max(c, c->body, max) != 0 ||
        hth__ask_stops(c, json_object_get(c->body, "stop_sequences"),
                       "stop_sequences") != 0 ||
        hth__ask_bool(c, c->body, "stream", &c->ask->stream) != 0 ||
        hth__ask_format(c, json_object_get(c->body, "output_format"),
                        "output_format") != 0 ||
        read_messages(c) != 0 || read_tools(c) != 0 || read_thinking(c) != 0)
        return -1;
    return hth__prompt_chat(c);
}

/* ---- events ---------------------------------------------------------------
 */

static void tell(struct api_call *c, const char *name, struct hth_buf *b)
{
    hth__api_event(c, name, b);
    hth_buf_fini(b);
}

static void put_message_head(struct hth_buf *b, const struct api_call *c)
{
    hth_put_printf(b, "{\"id\":");
    hth_json_cstr(b, c->id);
    hth_json_field(b, "type", "message");
    hth_json_field(b, "role", "assistant");
    hth_json_field(b, "model", c->a->o.model);
}

static void on_begin(struct api_call *c)
{
    struct hth_buf b;

    hth_buf_init(&b, 8192);
    hth_put_printf(&b, "{\"type\":\"message_start\",\"message\":");
    put_message_head(&b, c);
    hth_put_printf(&b,
                   ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":"
                   "null,\"usage\":{\"input_tokens\":%u,\"output_tokens\":0}}}",
                   hth__api_prompt_tokens(c));
    tell(c, "message_start", &b);
}

static void close_block(struct api_choice *ch)
{
    struct hth_buf b;

    if (ch->part < 0)
        return;
    hth_buf_init(&b, 1024);
    hth_put_printf(&b, "{\"type\":\"content_block_stop\",\"index\":%u}",
                   ch->items - 1);
    tell(ch->call, "content_block_stop", &b);
    ch->part = -1;
}

static void put_tool_head(struct hth_buf *b, const struct api_choice *ch,
                          uint32_t index, const struct hth_str *name)
{
    hth_put_printf(b, "{\"type\":\"tool_use\",\"id\":\"toolu_%s_%u\",\"name\":",
                   ch->call->id + 4, index);
    hth_json_string(b, name->p, name->n);
    hth_put_printf(b, ",\"input\":");
}

static void open_block(struct api_choice *ch, const struct hth_chat_piece *p)
{
    struct hth_buf b;

    close_block(ch);
    hth_buf_init(&b, HTH_CONTROL_BYTES_MAX);
    hth_put_printf(
        &b, "{\"type\":\"content_block_start\",\"index\":%u,\"content_block\":",
        ch->items++);
    if (p->part == HTH_CHAT_TOOL) {
        put_tool_head(&b, ch, p->index, &p->name);
        hth_put_printf(&b, "{}}");
    } else if (p->part == HTH_CHAT_REASONING) {
        hth_put_printf(&b, "{\"type\":\"thinking\",\"thinking\":\"\","
                           "\"signature\":\"\"}");
    } else {
        hth_put_printf(&b, "{\"type\":\"text\",\"text\":\"\"}");
    }
    hth_put_u8(&b, '}');
    tell(ch->call, "content_block_start", &b);
    ch->part = (int)p->part;
}

static void on_piece(struct api_choice *ch, const struct hth_chat_piece *p)
{
    static const char *const delta[] = {
        [HTH_CHAT_CONTENT] = "\"text_delta\",\"text\":",
        [HTH_CHAT_REASONING] = "\"thinking_delta\",\"thinking\":",
        [HTH_CHAT_TOOL] = "\"input_json_delta\",\"partial_json\":"};
    struct hth_buf b;

    if (ch->part != (int)p->part || p->part == HTH_CHAT_TOOL)
        open_block(ch, p);
    hth_buf_init(&b, HTH_REQUEST_EVENTS_BYTES_MAX);
    hth_put_printf(&b,
                   "{\"type\":\"content_block_delta\",\"index\":%u,\"delta\":"
                   "{\"type\":%s",
                   ch->items - 1, delta[p->part]);
    hth_json_string(&b, p->text.p, p->text.n);
    hth_put_printf(&b, "}}");
    tell(ch->call, "content_block_delta", &b);
}

static void on_choice_end(struct api_choice *ch)
{
    close_block(ch);
}

/* ---- the end --------------------------------------------------------------
 */

static void put_stop(struct hth_buf *b, const struct api_choice *ch)
{
    const struct api_ask *a = ch->call->ask;
    const char *why = "end_turn";

    if (ch->tool_calls > 0)
        why = "tool_use";
    else if (ch->end == HTH_END_LENGTH)
        why = "max_tokens";
    else if (ch->stop >= 0)
        why = "stop_sequence";
    hth_put_printf(b, "\"stop_reason\":\"%s\",\"stop_sequence\":", why);
    if (ch->stop >= 0 && (uint32_t)ch->stop < a->stop_count)
        hth_json_cstr(b, ch->call->stop_text[ch->stop]);
    else
        hth_put_printf(b, "null");
}

static void put_tools(struct hth_buf *b, const struct api_choice *ch)
{
    struct hth_str name, input;
    struct hth_cursor at;
    uint32_t i;

    hth_cursor_init(&at, ch->tools.data, ch->tools.len);
    for (i = 0; i < ch->tool_calls; i++) {
        name.p = hth_get_str(&at, ch->tools.len, &name.n);
        input.p = hth_get_str(&at, ch->tools.len, &input.n);
        if (b->data[b->len - 1] != '[')
            hth_put_u8(b, ',');
        put_tool_head(b, ch, i, &name);
        if (input.n > 0)
            hth_put_bytes(b, input.p, input.n);
        else
            hth_put_printf(b, "{}");
        hth_put_u8(b, '}');
    }
}

static void put_content(struct hth_buf *b, const struct api_choice *ch)
{
    hth_put_printf(b, ",\"content\":[");
    if (ch->reasoning.len > 0) {
        hth_put_printf(b, "{\"type\":\"thinking\",\"signature\":\"\","
                          "\"thinking\":");
        hth_json_string(b, ch->reasoning.data, ch->reasoning.len);
        hth_put_u8(b, '}');
    }
    if (ch->text.len > 0) {
        hth_put_printf(b, "%s{\"type\":\"text\",\"text\":",
                       ch->reasoning.len > 0 ? "," : "");
        hth_json_string(b, ch->text.data, ch->text.len);
        hth_put_u8(b, '}');
    }
    put_tools(b, ch);
    hth_put_u8(b, ']');
}

static void put_usage(struct hth_buf *b, const struct api_call *c)
{
    uint32_t cached = hth__api_cached_tokens(c);

    hth_put_printf(b,
                   "\"usage\":{\"input_tokens\":%u,"
                   "\"cache_read_input_tokens\":%u,\"output_tokens\":%u}",
                   hth__api_prompt_tokens(c) - cached, cached,
                   hth__api_answer_tokens(c));
}

static void on_end(struct api_call *c)
{
    struct hth_buf b;

    if (!c->streaming) {
        put_message_head(&c->out, c);
        put_content(&c->out, &c->choice[0]);
        hth_put_u8(&c->out, ',');
        put_stop(&c->out, &c->choice[0]);
        hth_put_u8(&c->out, ',');
        put_usage(&c->out, c);
        hth_put_u8(&c->out, '}');
        return;
    }
    hth_buf_init(&b, 8192);
    hth_put_printf(&b, "{\"type\":\"message_delta\",\"delta\":{");
    put_stop(&b, &c->choice[0]);
    hth_put_printf(&b, "},");
    put_usage(&b, c);
    hth_put_u8(&b, '}');
    tell(c, "message_delta", &b);
    hth_buf_init(&b, 64);
    hth_put_printf(&b, "{\"type\":\"message_stop\"}");
    tell(c, "message_stop", &b);
}

static void on_fail(struct api_call *c, const struct api_fault *f)
{
    struct hth_buf b;

    hth_buf_init(&b, 8192);
    hth__api_put_fault(&b, SHAPE_ANTHROPIC, f);
    tell(c, "error", &b);
}

static void said(struct api_call *c)
{
    (void)c; /* what there is to answer was written while reading */
}

const struct api_dialect hth__dialect_messages = {
    .shape = SHAPE_ANTHROPIC,
    .stream_type = "text/event-stream",
    .id_prefix = "msg_",
    .chat = true,
    .fields = &hth__fields_messages,
    .read = read_body,
    .begin = on_begin,
    .piece = on_piece,
    .choice_end = on_choice_end,
    .end = on_end,
    .fail = on_fail};

const struct api_dialect hth__dialect_count = {.shape = SHAPE_ANTHROPIC,
                                               .id_prefix = "msg_",
                                               .instant = true,
                                               .fields = &hth__fields_messages,
                                               .read = read_count,
                                               .end = said};
