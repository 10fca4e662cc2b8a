/* api_completions.c - POST /v1/completions: text that goes on from a prompt,
 * or from several, in OpenAI's older shape; benchmarks use it. */
#include <string.h>

#include "coordinator/api_serve.h"
#include "model/json_write.h"

static int read_completions(struct api_call *c)
{
    static const char *const max[] = {"max_completion_tokens", "max_tokens",
                                      "n_predict", NULL};
    const json_t *b = c->body, *best = json_object_get(b, "best_of");
    struct api_ask *a = c->ask;

    a->tokens_max = 16; /* OpenAI's default here */
    a->prompt = json_object_get(b, "prompt");
    a->suffix = json_object_get(b, "suffix");
    if (json_is_null(a->suffix) ||
        (json_is_string(a->suffix) && json_string_length(a->suffix) == 0))
        a->suffix = NULL;
    if (a->prompt == NULL) /* OpenAI: "as if from the beginning" */
        return hth__api_fault(&c->fault, "invalid_value", "prompt",
                              "prompt is missing");
    if (hth__ask_model(c, b) != 0 || hth__ask_sampling(c, b) != 0 ||
        hth__ask_max(c, b, max) != 0 ||
        hth__ask_stops(c, json_object_get(b, "stop"), "stop") != 0 ||
        hth__ask_logprobs(c, b) != 0 || hth__ask_choices(c) != 0 ||
        hth__ask_stream(c) != 0 || hth__ask_bool(c, b, "echo", &a->echo) != 0 ||
        hth__ask_format(c, json_object_get(b, "response_format"),
                        "response_format") != 0 ||
        hth__ask_grammar(c, b) != 0)
        return -1;
    if (best != NULL && !json_is_null(best) &&
        (!json_is_integer(best) ||
         json_integer_value(best) != (json_int_t)a->n))
        return hth__api_fault(&c->fault, "unsupported_parameter", "best_of",
                              "best_of must be as large as n: answers are "
                              "not chosen among");
    if (a->suffix != NULL && !json_is_string(a->suffix))
        return hth__api_fault(&c->fault, "invalid_value", "suffix",
                              "suffix must be a string");
    if (a->echo && a->logprobs > 0)
        return hth__api_fault(&c->fault, "unsupported_parameter", "echo",
                              "echo together with logprobs is not supported");
    a->special = true;
    return hth__prompt_text(c);
}

/* ---- logprobs in their older shape ----------------------------------------
 */

static json_t *take_entries(struct api_choice *ch)
{
    struct hth_buf list;
    json_t *all;

    hth_buf_init(&list, HTH_CONTROL_BYTES_MAX * 8u);
    hth_put_u8(&list, '[');
    hth_put_bytes(&list, ch->logprobs.data, ch->logprobs.len);
    hth_put_u8(&list, ']');
    all = json_loadb((const char *)list.data, list.len, JSON_ALLOW_NUL, NULL);
    hth_buf_fini(&list);
    hth_buf_reset(&ch->logprobs);
    return all;
}

static uint32_t characters(const char *text)
{
    uint32_t n = 0;

    for (; *text != '\0'; text++)
        n += ((unsigned char)*text & 0xc0u) != 0x80u;
    return n;
}

static const char *echo_of(const struct api_choice *ch)
{
    const struct api_call *c = ch->call;
    const char *text = c->prompt_text[ch->index / c->ask->n];

    return c->ask->echo && text != NULL ? text : "";
}

/* Where in the text each token begins, in characters. */
static void put_offsets(struct hth_buf *b, struct api_choice *ch,
                        const json_t *all)
{
    const json_t *one;
    size_t i;

    if (ch->offset == 0)
        ch->offset = characters(echo_of(ch));
    hth_json_key(b, "text_offset");
    hth_put_u8(b, '[');
    json_array_foreach(all, i, one)
    {
        hth_put_printf(b, "%s%u", i > 0 ? "," : "", ch->offset);
        ch->offset +=
            characters(json_string_value(json_object_get(one, "token")));
    }
    hth_put_u8(b, ']');
}

/* The entries of chat's shape, made column by column. */
static void put_logprobs(struct hth_buf *b, struct api_choice *ch)
{
    static const char *const column[] = {"tokens", "token_logprobs"};
    static const char *const from[] = {"token", "logprob"};
    json_t *all, *one, *top;
    size_t i, k;

    hth_json_key(b, "logprobs");
    if (ch->logprobs.len == 0) {
        hth_put_printf(b, "null");
        return;
    }
    all = take_entries(ch);
    hth_put_u8(b, '{');
    for (k = 0; k < 2; k++) {
        hth_json_key(b, column[k]);
        hth_put_u8(b, '[');
        json_array_foreach(all, i, one)
        {
            const json_t *v = json_object_get(one, from[k]);

            if (i > 0)
                hth_put_u8(b, ',');
            if (json_is_string(v))
                hth_json_string(b, json_string_value(v), json_string_length(v));
            else
                hth_json_number(b, json_number_value(v));
        }
        hth_put_u8(b, ']');
    }
    hth_json_key(b, "top_logprobs");
    hth_put_u8(b, '[');
    json_array_foreach(all, i, one)
    {
        hth_put_printf(b, i > 0 ? ",{" : "{");
        json_array_foreach(json_object_get(one, "top_logprobs"), k, top)
        {
            hth_json_key(b, json_string_value(json_object_get(top, "token")));
            hth_json_number(b,
                            json_number_value(json_object_get(top, "logprob")));
        }
        hth_put_u8(b, '}');
    }
    hth_put_u8(b, ']');
    put_offsets(b, ch, all);
    hth_put_u8(b, '}');
    json_decref(all);
}

/* ---- answers --------------------------------------------------------------
 */

static void put_head(struct hth_buf *b, const struct api_call *c)
{
    hth_put_u8(b, '{');
    hth_json_field(b, "id", c->id);
    hth_json_field(b, "object", "text_completion");
    hth_json_field_number(b, "created", (double)c->created_s);
    hth_json_field(b, "model", c->a->o.model);
    hth__put_fingerprint(b, c);
}

static void put_choice(struct hth_buf *b, struct api_choice *ch,
                       const struct hth_str *text, bool ends)
{
    hth_put_printf(b, "{\"index\":%u,\"text\":", ch->index);
    hth_json_string(b, text->p, text->n);
    put_logprobs(b, ch);
    hth_json_key(b, "finish_reason");
    if (ends)
        hth_json_cstr(b, hth__finish_reason(ch));
    else
        hth_put_printf(b, "null");
    hth_put_u8(b, '}');
}

static void send_chunk(struct api_choice *ch, const struct hth_str *text,
                       bool ends)
{
    struct api_call *c = ch->call;
    struct hth_buf b;

    hth_buf_init(&b, HTH_REQUEST_EVENTS_BYTES_MAX);
    put_head(&b, c);
    hth_put_printf(&b, ",\"choices\":[");
    put_choice(&b, ch, text, ends);
    hth_put_u8(&b, ']');
    if (ends && !c->ask->include_usage && c->ended == c->choices)
        hth__put_timings(&b, c);
    else
        hth__put_progress(&b, c);
    hth_put_u8(&b, '}');
    hth__api_event(c, NULL, &b);
    hth_buf_fini(&b);
}

static void send_echo(struct api_choice *ch)
{
    struct hth_str text = {echo_of(ch), strlen(echo_of(ch))};

    if (ch->begun || text.n == 0)
        return;
    ch->begun = true;
    send_chunk(ch, &text, false);
}

static void on_piece(struct api_choice *ch, const struct hth_chat_piece *p)
{
    send_echo(ch);
    send_chunk(ch, &p->text, false);
}

static void on_choice_end(struct api_choice *ch)
{
    static const struct hth_str none = {"", 0};

    send_echo(ch);
    send_chunk(ch, &none, true);
}

static void end_stream(struct api_call *c)
{
    struct hth_buf b;

    if (c->ask->include_usage) {
        hth_buf_init(&b,
                     8192 + HTH_PROMPT_JSON_BYTES_MAX + API_DEVICES_JSON_MAX);
        put_head(&b, c);
        hth_put_printf(&b, ",\"choices\":[]");
        hth__put_usage(&b, c);
        hth__put_timings(&b, c);
        hth_put_u8(&b, '}');
        hth__api_event(c, NULL, &b);
        hth_buf_fini(&b);
    }
    hth_put_printf(&c->out, "data: [DONE]\n\n");
}

static void on_end(struct api_call *c)
{
    struct hth_buf *b = &c->out, text;
    struct hth_str whole;
    uint32_t i;

    if (c->streaming) {
        end_stream(c);
        return;
    }
    put_head(b, c);
    hth_put_printf(b, ",\"choices\":[");
    for (i = 0; i < c->choices; i++) {
        hth_buf_init(&text, HTH_CONTROL_BYTES_MAX * 8u);
        hth_put_printf(&text, "%s", echo_of(&c->choice[i]));
        hth_put_bytes(&text, c->choice[i].text.data, c->choice[i].text.len);
        whole = (struct hth_str){hth_buf_cstr(&text), text.len};
        if (i > 0)
            hth_put_u8(b, ',');
        put_choice(b, &c->choice[i], &whole, true);
        hth_buf_fini(&text);
    }
    hth_put_u8(b, ']');
    hth__put_usage(b, c);
    hth__put_timings(b, c);
    hth_put_u8(b, '}');
}

const struct api_dialect hth__dialect_completions = {
    .shape = SHAPE_OPENAI,
    .stream_type = "text/event-stream",
    .id_prefix = "cmpl-",
    .fields = &hth__fields_completions,
    .read = read_completions,
    .piece = on_piece,
    .choice_end = on_choice_end,
    .end = on_end,
    .fail = hth__openai_fail};
