/* api_llama.c - llama.cpp's extras: tokenize and detokenize (in vLLM's shape
 * too), apply-template, props, slots. */
#include <string.h>

#include "base/version.h"
#include "coordinator/api_serve.h"
#include "model/json_write.h"
#include "model/utf8.h"

#define PIECE_BYTES_MAX 512u
#define SLOTS_BYTES_MAX (1u << 20)

/* ---- tokenize -------------------------------------------------------------
 */

static void put_token(struct hth_buf *b, const struct api_call *c, uint32_t id)
{
    char text[PIECE_BYTES_MAX];
    size_t n = hth_token_bytes(c->a->o.tokenizer, id, true, text, sizeof text);

    hth_put_printf(b, "{\"id\":%u,\"piece\":", id);
    if (hth_utf8_valid((const uint8_t *)text, n) == n) {
        hth_json_string(b, text, n);
    } else { /* no characters: the bytes, as llama.cpp has it */
        for (size_t i = 0; i < n; i++)
            hth_put_printf(b, "%c%u", i == 0 ? '[' : ',',
                           (unsigned char)text[i]);
        hth_put_u8(b, ']');
    }
    hth_put_u8(b, '}');
}

static void put_tokens(struct api_call *c, bool pieces, bool vllm)
{
    const struct hth_tokens *t = &c->prompt[0];
    struct hth_buf *b = &c->out;
    size_t i;

    hth_put_printf(b, "{\"tokens\":[");
    for (i = 0; i < t->count; i++) {
        if (i > 0)
            hth_put_u8(b, ',');
        if (pieces)
            put_token(b, c, t->ids[i]);
        else
            hth_put_printf(b, "%u", t->ids[i]);
    }
    hth_put_u8(b, ']');
    if (vllm)
        hth_put_printf(b, ",\"count\":%zu,\"max_model_len\":%u", t->count,
                       c->a->o.ctx);
    hth_put_u8(b, '}');
}

static int push_bos(struct api_call *c)
{
    const struct hth_tokenizer *t = c->a->o.tokenizer;

    if (!hth_tokenizer_adds_bos(t) || hth_tokenizer_bos(t) == HTH_TOKEN_NONE ||
        hth_tokens_push(&c->prompt[0], hth_tokenizer_bos(t)) == HTH_OK)
        return 0;
    return hth__api_fault(&c->fault, "internal_error", NULL, "out of memory");
}

static int tokenize_text(struct api_call *c, const json_t *v, bool special)
{
    struct hth_err err = {0};
    int status = hth_tokenize(
        c->a->o.tokenizer,
        (struct hth_str){json_string_value(v), json_string_length(v)}, special,
        &c->prompt[0], &err);

    return status == HTH_OK ? 0
                            : hth__api_fault_from(&c->fault, status, err.text);
}

/* llama.cpp: {content, add_special = false, with_pieces}; vLLM: {prompt or
 * messages, add_special_tokens = true}. */
static int read_tokenize(struct api_call *c)
{
    const json_t *b = c->body, *v = json_object_get(b, "content");
    bool vllm = v == NULL, add = vllm, pieces = false, special = true;

    if (json_object_get(b, "messages") != NULL) {
        c->ask->messages = json_object_get(b, "messages");
        c->ask->cap_tokens = true;
        if (hth__prompt_chat(c) != 0)
            return -1;
        put_tokens(c, false, true);
        return 0;
    }
    if (vllm)
        v = json_object_get(b, "prompt");
    if (!json_is_string(v))
        return hth__api_fault(&c->fault, "invalid_value",
                              v != NULL && vllm ? "prompt" : "content",
                              "content (or prompt) must be a string");
    if (hth__ask_bool(c, b, vllm ? "add_special_tokens" : "add_special",
                      &add) != 0 ||
        hth__ask_bool(c, b, "with_pieces", &pieces) != 0 ||
        hth__ask_bool(c, b, "parse_special", &special) != 0 ||
        (add && push_bos(c) != 0) || tokenize_text(c, v, special) != 0)
        return -1;
    put_tokens(c, pieces, vllm);
    return 0;
}

/* Both names of the answer are given, since both dialects send {tokens}. */
static int read_detokenize(struct api_call *c)
{
    const json_t *v = json_object_get(c->body, "tokens"), *id;
    uint32_t vocab = hth_tokenizer_vocab(c->a->o.tokenizer);
    struct hth_buf text;
    struct hth_detok d;
    size_t i;
    int rc = 0;

    if (!json_is_array(v))
        return hth__api_fault(&c->fault, "invalid_value", "tokens",
                              "tokens must be a list of token ids");
    hth_buf_init(&text, HTH_HTTP_OUTPUT_BYTES_MAX);
    hth_detok_init(&d, true);
    json_array_foreach(v, i, id)
    {
        if (rc == 0 && (!json_is_integer(id) || json_integer_value(id) < 0 ||
                        json_integer_value(id) >= (json_int_t)vocab))
            rc = hth__api_fault(&c->fault, "invalid_value", "tokens",
                                "tokens[%zu] is not in the vocabulary of %u", i,
                                vocab);
        if (rc == 0)
            hth_detok_push(&d, c->a->o.tokenizer,
                           (uint32_t)json_integer_value(id), true, &text);
    }
    hth_detok_finish(&d, &text);
    if (rc == 0 && text.failed)
        rc = hth__api_fault(&c->fault, "invalid_value", "tokens",
                            "the text is longer than %u bytes",
                            HTH_HTTP_OUTPUT_BYTES_MAX);
    if (rc == 0) {
        hth_put_printf(&c->out, "{\"content\":");
        hth_json_string(&c->out, text.data, text.len);
        hth_put_printf(&c->out, ",\"prompt\":");
        hth_json_string(&c->out, text.data, text.len);
        hth_put_u8(&c->out, '}');
    }
    hth_buf_fini(&text);
    return rc;
}

/* ---- apply-template -------------------------------------------------------
 */

static int read_template(struct api_call *c)
{
    struct hth_chat_input in = {
        .messages = json_object_get(c->body, "messages"), .generate = true};
    struct hth_chat_prompt p;
    struct hth_err err = {0};
    int status;

    if (!json_is_array(in.messages) || json_array_size(in.messages) == 0)
        return hth__api_fault(&c->fault, "invalid_value", "messages",
                              "messages must be a list with at least one "
                              "message");
    if (hth__ask_tools(c, c->body) != 0 ||
        hth__ask_object(c, c->body, "chat_template_kwargs", &in.kwargs) != 0 ||
        hth__ask_bool(c, c->body, "add_generation_prompt", &in.generate) != 0)
        return -1;
    in.tools = c->ask->tools;
    hth_chat_prompt_init(&p);
    status = hth_chat_render(c->a->chat, &in, &p, &err);
    if (status == HTH_OK) {
        hth_put_printf(&c->out, "{\"prompt\":");
        hth_json_string(&c->out, p.text.data, p.text.len);
        hth_put_u8(&c->out, '}');
    } else {
        hth__api_fault_from(&c->fault, status, err.text);
    }
    hth_chat_prompt_fini(&p);
    return status == HTH_OK ? 0 : -1;
}

/* What there is to answer was written while reading. */
static void said(struct api_call *c)
{
    (void)c;
}

const struct api_dialect hth__dialect_tokenize = {.shape = SHAPE_OPENAI,
                                                  .id_prefix = "",
                                                  .instant = true,
                                                  .fields =
                                                      &hth__fields_tokenize,
                                                  .read = read_tokenize,
                                                  .end = said};
const struct api_dialect hth__dialect_detokenize = {.shape = SHAPE_OPENAI,
                                                    .id_prefix = "",
                                                    .instant = true,
                                                    .fields =
                                                        &hth__fields_detokenize,
                                                    .read = read_detokenize,
                                                    .end = said};
const struct api_dialect hth__dialect_template = {.shape = SHAPE_OPENAI,
                                                  .id_prefix = "",
                                                  .instant = true,
                                                  .fields =
                                                      &hth__fields_template,
                                                  .read = read_template,
                                                  .end = said};

/* ---- props ----------------------------------------------------------------
 */

static void put_special(struct hth_buf *b, const struct hth_api *a,
                        const char *name,
                        uint32_t (*which)(const struct hth_tokenizer *))
{
    const struct hth_tokenizer *t = a->o.tokenizer;
    uint32_t id = t != NULL ? which(t) : HTH_TOKEN_NONE;
    char text[PIECE_BYTES_MAX];
    size_t n = 0;

    if (id != HTH_TOKEN_NONE)
        n = hth_token_bytes(t, id, true, text, sizeof text);
    hth_json_key(b, name);
    hth_json_string(b, text, n);
}

void hth__serve_props(struct hth_api *a, struct hth_http_exchange *x)
{
    struct hth_sampling s;
    struct hth_buf b;

    hth_sampling_default(&s);
    hth_buf_init(&b, 4u << 20);
    hth_put_printf(&b,
                   "{\"default_generation_settings\":{\"n_ctx\":%u,"
                   "\"params\":{",
                   a->o.ctx);
    hth_json_field_number(&b, "temperature", (double)s.temperature);
    hth_json_field_number(&b, "top_k", s.top_k);
    hth_json_field_number(&b, "top_p", (double)s.top_p);
    hth_json_field_number(&b, "min_p", (double)s.min_p);
    hth_json_field_number(&b, "typical_p", (double)s.typical_p);
    hth_json_field_number(&b, "repeat_penalty", (double)s.repeat_penalty);
    hth_json_field_number(&b, "repeat_last_n", s.repeat_last_n);
    hth_put_printf(&b, "}}");
    hth_json_field_number(&b, "total_slots", a->o.parallel);
    hth_json_field(&b, "model_path", a->o.model);
    hth_json_field(&b, "chat_template", hth_chat_source(a->chat));
    hth_json_field(&b, "chat_template_problem", hth_chat_problem(a->chat));
    hth_json_field_number(&b, "n_ctx", a->o.ctx);
    put_special(&b, a, "bos_token", hth_tokenizer_bos);
    put_special(&b, a, "eos_token", hth_tokenizer_eos);
    hth_json_field(&b, "build_info", "hearth " HTH_VERSION);
    hth_put_printf(&b, ",\"modalities\":{\"vision\":false,\"audio\":false}}");
    hth__api_reply_json(x, &b);
}

/* ---- slots ----------------------------------------------------------------
 */

/* Never the prompt or the answer: only how far they are. */
static void put_slot(struct hth_buf *b, const struct api_choice *ch,
                     uint32_t id)
{
    const struct api_call *c = ch->call;

    hth_put_printf(b,
                   "{\"id\":%u,\"n_ctx\":%u,\"is_processing\":true,"
                   "\"id_task\":",
                   id, c->a->o.ctx);
    hth_json_cstr(b, c->id);
    hth_json_field(b, "request_id", hth_http_id(c->x));
    hth_put_printf(b,
                   ",\"n_prompt\":%zu,\"n_prompt_processed\":%u,"
                   "\"next_token\":{\"has_next_token\":true,"
                   "\"n_decoded\":%u}}",
                   c->prompt[ch->index / c->ask->n].count,
                   ch->tokens > 0 ? c->prefill_total : c->prefill_done,
                   ch->tokens);
}

void hth__serve_slots(struct hth_api *a, struct hth_http_exchange *x)
{
    const struct api_call *c;
    struct hth_buf b;
    uint32_t n = 0;

    hth_buf_init(&b, SLOTS_BYTES_MAX);
    hth_put_u8(&b, '[');
    for (c = a->calls; c != NULL; c = c->next)
        for (uint32_t i = 0; i < c->choices && !c->working; i++)
            if (!c->choice[i].ended &&
                (c->choice[i].tokens > 0 || c->prefill_done > 0)) {
                hth_put_printf(&b, n > 0 ? "," : "");
                put_slot(&b, &c->choice[i], n++);
            }
    for (; n < a->o.parallel; n++)
        hth_put_printf(&b, "%s{\"id\":%u,\"n_ctx\":%u,\"is_processing\":false}",
                       n > 0 ? "," : "", n, a->o.ctx);
    hth_put_u8(&b, ']');
    hth__api_reply_json(x, &b);
}
