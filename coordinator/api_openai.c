/* api_openai.c - POST /v1/chat/completions: OpenAI's chat, with the order of
 * chunks, the usage and the finish reasons its clients were seen to need. */
#include <string.h>

#include "coordinator/api_serve.h"
#include "model/json_write.h"

/* ---- the body -------------------------------------------------------------
 */

/* Some models think less where their template is told so; "none" is told to
 * those, too, that only know whether to think. */
int hth__ask_effort(struct api_call *c, const json_t *v, const char *param)
{
    const char *effort = json_string_value(v);

    if (v == NULL || json_is_null(v))
        return 0;
    if (effort == NULL)
        return hth__api_fault(&c->fault, "invalid_value", param,
                              "%s must be a string", param);
    if (strcmp(effort, "none") == 0 &&
        hth__ask_variable(c, "enable_thinking", json_false()) != 0)
        return -1;
    return hth__ask_variable(c, "reasoning_effort", json_string(effort));
}

/* Effort and thinking are the template's business: they become its
 * variables. */
static int read_reasoning(struct api_call *c)
{
    static const char *const apart[] = {"auto", "deepseek", "deepseek-legacy",
                                        "parsed", "none"};
    const json_t *v = json_object_get(c->body, "reasoning_format");
    const char *format = json_string_value(v);
    uint32_t i = 0, n = sizeof apart / sizeof apart[0];

    if (hth__ask_object(c, c->body, "chat_template_kwargs", &c->ask->kwargs) !=
            0 ||
        hth__ask_effort(c, json_object_get(c->body, "reasoning_effort"),
                        "reasoning_effort") != 0)
        return -1;
    if (v == NULL || json_is_null(v))
        return 0;
    while (i < n && (format == NULL || strcmp(format, apart[i]) != 0))
        i++;
    if (i == n)
        return hth__api_fault(&c->fault, "invalid_value", "reasoning_format",
                              "reasoning_format must be auto, deepseek or "
                              "none");
    c->ask->split_reasoning = i + 1 < n;
    return 0;
}

/* Text is what comes out. */
static int read_modalities(struct api_call *c)
{
    const json_t *all = json_object_get(c->body, "modalities"), *v;
    size_t i;

    if (all != NULL && !json_is_null(all) && !json_is_array(all))
        return hth__api_fault(&c->fault, "invalid_value", "modalities",
                              "modalities must be a list");
    json_array_foreach(all, i, v)
    {
        const char *name = json_string_value(v);

        if (name == NULL || strcmp(name, "text") != 0)
            return hth__api_fault(&c->fault, "unsupported_parameter",
                                  "modalities",
                                  "modalities: this server answers in text "
                                  "only");
    }
    return 0;
}

static int read_chat(struct api_call *c)
{
    static const char *const max[] = {"max_completion_tokens", "max_tokens",
                                      "n_predict", NULL};
    const json_t *b = c->body;

    c->ask->messages = json_object_get(b, "messages");
    if (hth__ask_model(c, b) != 0 || hth__ask_sampling(c, b) != 0 ||
        hth__ask_max(c, b, max) != 0 ||
        hth__ask_stops(c, json_object_get(b, "stop"), "stop") != 0 ||
        hth__ask_logprobs(c, b) != 0 || hth__ask_choices(c) != 0 ||
        hth__ask_stream(c) != 0 || hth__ask_tools(c, b) != 0 ||
        hth__ask_format(c, json_object_get(b, "response_format"),
                        "response_format") != 0 ||
        hth__ask_grammar(c, b) != 0 || read_reasoning(c) != 0 ||
        read_modalities(c) != 0)
        return -1;
    return hth__prompt_chat(c);
}

/* ---- chunks ---------------------------------------------------------------
 */

static void put_head(struct hth_buf *b, const struct api_call *c,
                     const char *object)
{
    hth_put_u8(b, '{');
    hth_json_field(b, "id", c->id);
    hth_json_field(b, "object", object);
    hth_json_field_number(b, "created", (double)c->created_s);
    hth_json_field(b, "model", c->a->o.model);
    hth__put_fingerprint(b, c);
}

static void put_tool(struct hth_buf *b, const struct hth_chat_piece *p,
                     const struct api_choice *ch)
{
    hth_put_printf(b, "{\"index\":%u,\"id\":\"call_%s_%u_%u\",", p->index,
                   ch->call->id + strlen(ch->call->d->id_prefix), ch->index,
                   p->index);
    hth_put_printf(b, "\"type\":\"function\",\"function\":{\"name\":");
    hth_json_string(b, p->name.p, p->name.n);
    hth_put_printf(b, ",\"arguments\":");
    hth_json_string(b, p->text.p, p->text.n);
    hth_put_printf(b, "}}");
}

static void put_delta(struct hth_buf *b, struct api_choice *ch,
                      const struct hth_chat_piece *p)
{
    hth_json_key(b, "delta");
    hth_put_u8(b, '{');
    if (p != NULL && !ch->begun) {
        hth_json_field(b, "role", "assistant");
        ch->begun = true;
    }
    if (p != NULL && p->part == HTH_CHAT_TOOL) {
        hth_json_key(b, "tool_calls");
        hth_put_u8(b, '[');
        put_tool(b, p, ch);
        hth_put_u8(b, ']');
    } else if (p != NULL) {
        hth_json_key(b, p->part == HTH_CHAT_REASONING ? "reasoning_content"
                                                      : "content");
        hth_json_string(b, p->text.p, p->text.n);
    }
    hth_put_u8(b, '}');
}

/* p NULL: the end, an empty delta with the reason. */
static void put_chunk(struct hth_buf *b, struct api_choice *ch,
                      const struct hth_chat_piece *p)
{
    put_head(b, ch->call, "chat.completion.chunk");
    hth_put_printf(b, ",\"choices\":[{\"index\":%u", ch->index);
    put_delta(b, ch, p);
    /* Entries go with the text they belong to, or with the end. */
    hth__put_chat_logprobs(b, ch);
    hth_json_key(b, "finish_reason");
    if (p == NULL)
        hth_json_cstr(b, hth__finish_reason(ch));
    else
        hth_put_printf(b, "null");
    hth_put_printf(b, "}]");
}

static void send_chunk(struct api_choice *ch, const struct hth_chat_piece *p)
{
    struct hth_buf b;

    hth_buf_init(&b, HTH_REQUEST_EVENTS_BYTES_MAX);
    put_chunk(&b, ch, p);
    hth__put_progress(&b, ch->call);
    hth_put_u8(&b, '}');
    hth__api_event(ch->call, NULL, &b);
    hth_buf_fini(&b);
}

/* The first chunk carries the role and no text, but never before there is a
 * token: clients measure their first token by it. */
static void on_piece(struct api_choice *ch, const struct hth_chat_piece *p)
{
    static const struct hth_chat_piece empty = {.part = HTH_CHAT_CONTENT,
                                                .text = {"", 0}};
    struct hth_buf kept = ch->logprobs;

    if (!ch->begun) {
        hth_buf_init(&ch->logprobs, 1);
        send_chunk(ch, &empty);
        ch->logprobs = kept;
    }
    send_chunk(ch, p);
}

/* The last chunk of a call without a usage chunk carries the timings. */
static void on_choice_end(struct api_choice *ch)
{
    struct api_call *c = ch->call;
    struct hth_buf b;

    hth_buf_init(&b, HTH_REQUEST_EVENTS_BYTES_MAX);
    put_chunk(&b, ch, NULL);
    if (!c->ask->include_usage && c->ended == c->choices)
        hth__put_timings(&b, c);
    else
        hth__put_progress(&b, c);
    hth_put_u8(&b, '}');
    hth__api_event(c, NULL, &b);
    hth_buf_fini(&b);
}

static void end_stream(struct api_call *c)
{
    struct hth_buf b;

    if (c->ask->include_usage) {
        hth_buf_init(&b,
                     8192 + HTH_PROMPT_JSON_BYTES_MAX + API_DEVICES_JSON_MAX);
        put_head(&b, c, "chat.completion.chunk");
        hth_put_printf(&b, ",\"choices\":[]");
        hth__put_usage(&b, c);
        hth__put_timings(&b, c);
        hth_put_u8(&b, '}');
        hth__api_event(c, NULL, &b);
        hth_buf_fini(&b);
    }
    hth_put_printf(&c->out, "data: [DONE]\n\n");
}

void hth__openai_fail(struct api_call *c, const struct api_fault *f)
{
    struct hth_buf b;

    hth_buf_init(&b, 8192);
    hth__api_put_fault(&b, SHAPE_OPENAI, f);
    hth__api_event(c, NULL, &b);
    hth_buf_fini(&b);
}

/* ---- the whole answer -----------------------------------------------------
 */

static void put_tools(struct hth_buf *b, const struct api_choice *ch)
{
    struct hth_chat_piece p = {.part = HTH_CHAT_TOOL};
    struct hth_cursor at;

    hth_json_key(b, "tool_calls");
    hth_put_u8(b, '[');
    hth_cursor_init(&at, ch->tools.data, ch->tools.len);
    for (p.index = 0; p.index < ch->tool_calls; p.index++) {
        p.name.p = hth_get_str(&at, ch->tools.len, &p.name.n);
        p.text.p = hth_get_str(&at, ch->tools.len, &p.text.n);
        if (p.index > 0)
            hth_put_u8(b, ',');
        put_tool(b, &p, ch);
    }
    hth_put_u8(b, ']');
}

static void put_message(struct hth_buf *b, const struct api_choice *ch)
{
    hth_json_key(b, "message");
    hth_put_u8(b, '{');
    hth_json_field(b, "role", "assistant");
    hth_json_key(b, "content");
    if (ch->text.len == 0 && ch->tool_calls > 0)
        hth_put_printf(b, "null");
    else
        hth_json_string(b, ch->text.data, ch->text.len);
    if (ch->reasoning.len > 0) {
        hth_json_key(b, "reasoning_content");
        hth_json_string(b, ch->reasoning.data, ch->reasoning.len);
    }
    if (ch->tool_calls > 0)
        put_tools(b, ch);
    hth_put_u8(b, '}');
}

static void on_end(struct api_call *c)
{
    struct hth_buf *b = &c->out;
    uint32_t i;

    if (c->streaming) {
        end_stream(c);
        return;
    }
    put_head(b, c, "chat.completion");
    hth_json_key(b, "choices");
    hth_put_u8(b, '[');
    for (i = 0; i < c->choices; i++) {
        hth_put_printf(b, "%s{\"index\":%u", i > 0 ? "," : "", i);
        put_message(b, &c->choice[i]);
        hth__put_chat_logprobs(b, &c->choice[i]);
        hth_json_field(b, "finish_reason", hth__finish_reason(&c->choice[i]));
        hth_put_u8(b, '}');
    }
    hth_put_u8(b, ']');
    hth__put_usage(b, c);
    hth__put_timings(b, c);
    hth_put_u8(b, '}');
}

const struct api_dialect hth__dialect_chat = {.shape = SHAPE_OPENAI,
                                              .stream_type =
                                                  "text/event-stream",
                                              .id_prefix = "chatcmpl-",
                                              .chat = true,
                                              .fields = &hth__fields_chat,
                                              .read = read_chat,
                                              .piece = on_piece,
                                              .choice_end = on_choice_end,
                                              .end = on_end,
                                              .fail = hth__openai_fail};
