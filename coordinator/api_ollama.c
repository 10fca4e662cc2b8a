/* api_ollama.c - Ollama's native API: chat and generate as lines of JSON,
 * and the questions its clients ask first (tags, show, ps, version). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/version.h"
#include "coordinator/api_serve.h"
#include "kernels/type.h"
#include "model/json_write.h"

#define OLLAMA_VERSION "0.13.3" /* whose API this is */
#define INFO_BYTES_MAX (4u << 20)

/* Kept in own. */
struct ollama_ask {
    bool generate; /* /api/generate: "response" instead of "message" */
};

/* ---- bodies ---------------------------------------------------------------
 */

static int read_options(struct api_call *c)
{
    static const char *const max[] = {"num_predict", NULL};
    const json_t *o = json_object_get(c->body, "options");
    uint32_t ctx = 0;

    if (o == NULL || json_is_null(o))
        return 0;
    if (!json_is_object(o))
        return hth__api_fault(&c->fault, "invalid_value", "options",
                              "options must be an object");
    if (hth__ask_fields(c, o, &hth__fields_ollama_options) != 0 ||
        hth__ask_sampling(c, o) != 0 || hth__ask_max(c, o, max) != 0 ||
        hth__ask_stops(c, json_object_get(o, "stop"), "stop") != 0 ||
        hth__ask_u32(c, o, "num_ctx", &ctx) != 0)
        return -1;
    if (ctx > c->a->o.ctx)
        return hth__api_fault(&c->fault, "invalid_value", "num_ctx",
                              "num_ctx is %u, but this server was started "
                              "with a context of %u tokens (--ctx)",
                              ctx, c->a->o.ctx);
    return 0;
}

/* "json", a schema, or nothing. */
static int read_format(struct api_call *c)
{
    const json_t *v = json_object_get(c->body, "format");

    if (v == NULL || json_is_null(v) ||
        (json_is_string(v) && json_string_length(v) == 0))
        return 0;
    if (!json_is_object(v) &&
        (!json_is_string(v) || strcmp(json_string_value(v), "json") != 0))
        return hth__api_fault(&c->fault, "invalid_value", "format",
                              "format must be \"json\" or a JSON schema");
    c->ask->constrained = true;
    c->ask->schema = json_is_object(v) ? v : NULL;
    c->ask->format_name = "format";
    return 0;
}

/* think becomes a variable of the template. */
static int read_think(struct api_call *c)
{
    json_t *v = json_object_get(c->body, "think");

    if (json_is_boolean(v))
        return hth__ask_variable(c, "enable_thinking", json_incref(v));
    return hth__ask_effort(c, v, "think");
}

static int read_common(struct api_call *c)
{
    struct ollama_ask *own = calloc(1, sizeof *own);

    c->own = own;
    if (own == NULL)
        return hth__api_fault(&c->fault, "internal_error", NULL,
                              "out of memory");
    c->ask->stream = true;
    c->ask->cap_tokens = true;
    return hth__ask_model(c, c->body) != 0 || read_options(c) != 0 ||
                   read_format(c) != 0 || read_think(c) != 0 ||
                   hth__ask_logprobs(c, c->body) != 0 ||
                   hth__ask_bool(c, c->body, "stream", &c->ask->stream) != 0
               ? -1
               : 0;
}

/* Ollama's arguments are objects where templates expect them as such too, so
 * tool calls of earlier turns pass as they are. */
static int read_chat(struct api_call *c)
{
    const json_t *m;
    size_t i;

    if (read_common(c) != 0 || hth__ask_tools(c, c->body) != 0)
        return -1;
    c->ask->messages = json_object_get(c->body, "messages");
    json_array_foreach(c->ask->messages, i, m)
    {
        if (json_array_size(json_object_get(m, "images")) > 0)
            return hth__api_fault(&c->fault, "unsupported_parameter", "images",
                                  "images are not supported by this model");
    }
    if (c->ask->messages != NULL && !json_is_null(c->ask->messages) &&
        !json_is_array(c->ask->messages))
        return hth__api_fault(&c->fault, "invalid_value", "messages",
                              "messages must be a list");
    if (json_array_size(c->ask->messages) == 0)
        return 0; /* "load the model": it is */
    return hth__prompt_chat(c);
}

static int messages_of_prompt(struct api_call *c)
{
    const json_t *system = json_object_get(c->body, "system");
    json_t *all = json_array();

    json_object_set_new(c->body, "\x01messages", all);
    if (json_is_string(system) && json_string_length(system) > 0)
        json_array_append_new(
            all, json_pack("{s:s,s:O}", "role", "system", "content", system));
    json_array_append_new(all, json_pack("{s:s,s:O}", "role", "user", "content",
                                         json_object_get(c->body, "prompt")));
    c->ask->messages = all;
    return hth__prompt_chat(c);
}

/* system and suffix: texts, where there are any. */
static int read_texts(struct api_call *c, const json_t **suffix)
{
    static const char *const names[] = {"system", "suffix"};
    size_t i;

    for (i = 0; i < 2; i++) {
        const json_t *v = json_object_get(c->body, names[i]);

        if (v != NULL && !json_is_null(v) && !json_is_string(v))
            return hth__api_fault(&c->fault, "invalid_value", names[i],
                                  "%s must be a string", names[i]);
        *suffix = json_string_length(v) > 0 ? v : NULL;
    }
    return 0;
}

static int read_generate(struct api_call *c)
{
    const json_t *prompt = json_object_get(c->body, "prompt");
    bool raw = false;

    if (read_common(c) != 0)
        return -1;
    ((struct ollama_ask *)c->own)->generate = true;
    if (prompt == NULL ||
        (json_is_string(prompt) && json_string_length(prompt) == 0))
        return 0;
    if (!json_is_string(prompt))
        return hth__api_fault(&c->fault, "invalid_value", "prompt",
                              "prompt must be a string");
    if (hth__ask_bool(c, c->body, "raw", &raw) != 0 ||
        read_texts(c, &c->ask->suffix) != 0)
        return -1;
    if (!raw && c->ask->suffix == NULL)
        return messages_of_prompt(c);
    c->ask->prompt = prompt;
    c->ask->special = true;
    return hth__prompt_text(c);
}

/* ---- lines ----------------------------------------------------------------
 */

static void put_now(struct hth_buf *b, const char *key)
{
    struct timespec now;
    char text[40];
    struct tm tm;

    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    hth_json_key(b, key);
    hth_put_printf(b, "\"%s.%09ldZ\"", text, now.tv_nsec);
}

static void put_head(struct hth_buf *b, const struct api_call *c)
{
    hth_put_u8(b, '{');
    hth_json_field(b, "model", c->a->o.model);
    put_now(b, "created_at");
}

static void put_call(struct hth_buf *b, const struct hth_str *name,
                     const struct hth_str *arguments)
{
    hth_put_printf(b, "{\"function\":{\"name\":");
    hth_json_string(b, name->p, name->n);
    hth_put_printf(b, ",\"arguments\":");
    if (arguments->n > 0)
        hth_put_bytes(b, arguments->p, arguments->n); /* is JSON */
    else
        hth_put_printf(b, "{}");
    hth_put_printf(b, "}}");
}

static void put_piece(struct hth_buf *b, const struct api_call *c,
                      const struct hth_chat_piece *p)
{
    bool generate = ((const struct ollama_ask *)c->own)->generate;
    bool thinks = p->part == HTH_CHAT_REASONING;

    if (!generate) {
        hth_put_printf(b, ",\"message\":{\"role\":\"assistant\",\"content\":");
        if (p->part == HTH_CHAT_CONTENT)
            hth_json_string(b, p->text.p, p->text.n);
        else
            hth_put_printf(b, "\"\"");
    } else {
        hth_put_printf(b, ",\"response\":");
        if (p->part == HTH_CHAT_CONTENT)
            hth_json_string(b, p->text.p, p->text.n);
        else
            hth_put_printf(b, "\"\"");
    }
    if (thinks) {
        hth_put_printf(b, ",\"thinking\":");
        hth_json_string(b, p->text.p, p->text.n);
    }
    if (p->part == HTH_CHAT_TOOL) {
        hth_put_printf(b, ",\"tool_calls\":[");
        put_call(b, &p->name, &p->text);
        hth_put_u8(b, ']');
    }
    if (!generate)
        hth_put_u8(b, '}');
}

/* Entries in OpenAI's form; those at the end go with the last line. */
static void put_logprobs(struct hth_buf *b, struct api_choice *ch)
{
    if (ch->logprobs.len == 0)
        return;
    hth_put_printf(b, ",\"logprobs\":[");
    hth_put_bytes(b, ch->logprobs.data, ch->logprobs.len);
    hth_put_u8(b, ']');
    hth_buf_reset(&ch->logprobs);
}

static void on_piece(struct api_choice *ch, const struct hth_chat_piece *p)
{
    struct hth_buf *b = &ch->call->out;

    put_head(b, ch->call);
    put_piece(b, ch->call, p);
    put_logprobs(b, ch);
    hth_put_printf(b, ",\"done\":false}\n");
}

static void on_choice_end(struct api_choice *ch)
{
    (void)ch; /* the last line is on_end's */
}

static void put_done(struct hth_buf *b, const struct api_call *c)
{
    const struct hth_request_stats *s = &c->choice[0].stats;
    const char *why = c->choices == 0                      ? "load"
                      : c->choice[0].end == HTH_END_LENGTH ? "length"
                                                           : "stop";

    hth_put_printf(
        b,
        ",\"done\":true,\"done_reason\":\"%s\",\"total_duration\":%llu,"
        "\"load_duration\":%llu,\"prompt_eval_count\":%u,"
        "\"prompt_eval_duration\":%llu,\"eval_count\":%u,"
        "\"eval_duration\":%llu}",
        why, (unsigned long long)(hth_now_ns() - c->begun_ns),
        (unsigned long long)s->queue_ns, hth__api_prompt_tokens(c),
        (unsigned long long)s->prefill_ns, hth__api_answer_tokens(c),
        (unsigned long long)s->decode_ns);
}

/* All that was collected, as one message. */
static void put_whole(struct hth_buf *b, const struct api_call *c)
{
    const struct api_choice *ch = &c->choice[0];
    bool generate = ((const struct ollama_ask *)c->own)->generate;
    struct hth_cursor at;
    struct hth_str name, arguments;
    uint32_t i;

    hth_put_printf(b, generate ? ",\"response\":"
                               : ",\"message\":{\"role\":\"assistant\","
                                 "\"content\":");
    hth_json_string(b, ch->text.data, ch->text.len);
    if (ch->reasoning.len > 0) {
        hth_put_printf(b, ",\"thinking\":");
        hth_json_string(b, ch->reasoning.data, ch->reasoning.len);
    }
    if (ch->tool_calls > 0)
        hth_put_printf(b, ",\"tool_calls\":[");
    hth_cursor_init(&at, ch->tools.data, ch->tools.len);
    for (i = 0; i < ch->tool_calls; i++) {
        name.p = hth_get_str(&at, ch->tools.len, &name.n);
        arguments.p = hth_get_str(&at, ch->tools.len, &arguments.n);
        if (i > 0)
            hth_put_u8(b, ',');
        put_call(b, &name, &arguments);
    }
    if (ch->tool_calls > 0)
        hth_put_u8(b, ']');
    if (!generate)
        hth_put_u8(b, '}');
}

static void on_end(struct api_call *c)
{
    static const struct hth_chat_piece none = {.part = HTH_CHAT_CONTENT,
                                               .text = {"", 0}};
    struct hth_buf *b = &c->out;

    put_head(b, c);
    if (c->streaming || c->choices == 0)
        put_piece(b, c, &none);
    else
        put_whole(b, c);
    if (c->choices > 0)
        put_logprobs(b, &c->choice[0]);
    put_done(b, c);
    hth_put_printf(b, "\n");
}

static void on_fail(struct api_call *c, const struct api_fault *f)
{
    hth__api_put_fault(&c->out, SHAPE_OLLAMA, f);
    hth_put_printf(&c->out, "\n");
}

const struct api_dialect hth__dialect_ollama_chat = {
    .shape = SHAPE_OLLAMA,
    .stream_type = "application/x-ndjson",
    .id_prefix = "",
    .chat = true,
    .fields = &hth__fields_ollama_chat,
    .read = read_chat,
    .piece = on_piece,
    .choice_end = on_choice_end,
    .end = on_end,
    .fail = on_fail};

const struct api_dialect hth__dialect_ollama_generate = {
    .shape = SHAPE_OLLAMA,
    .stream_type = "application/x-ndjson",
    .id_prefix = "",
    .chat = true,
    .fields = &hth__fields_ollama_generate,
    .read = read_generate,
    .piece = on_piece,
    .choice_end = on_choice_end,
    .end = on_end,
    .fail = on_fail};

/* ---- questions ------------------------------------------------------------
 */

void hth__serve_ollama_version(struct hth_api *a, struct hth_http_exchange *x)
{
    struct hth_buf b;

    (void)a;
    hth_buf_init(&b, 1024);
    hth_put_printf(&b, "{\"version\":\"%s\"}", OLLAMA_VERSION);
    hth__api_reply_json(x, &b);
}

/* As people say it: 8.0B, 270.00M. */
static void put_size(struct hth_buf *b, const struct hth_api *a)
{
    double n = hth__model_params(a);
    char text[32];

    if (n >= 1e9)
        snprintf(text, sizeof text, "%.1fB", n / 1e9);
    else
        snprintf(text, sizeof text, "%.2fM", n / 1e6);
    hth_json_field(b, "parameter_size", text);
}

static const char *quantization(const struct hth_api *a)
{
    const struct hth_type_info *t =
        hth_type_info(a->o.spec->type[0][HTH_ROLE_ATTN_Q]);

    return t != NULL ? t->name : "unknown";
}

static void put_details(struct hth_buf *b, const struct hth_api *a)
{
    hth_json_key(b, "details");
    hth_put_printf(b, "{\"parent_model\":\"\",\"format\":\"gguf\"");
    hth_json_field(b, "family", a->o.spec->arch->name);
    hth_put_printf(b, ",\"families\":[");
    hth_json_cstr(b, a->o.spec->arch->name);
    hth_put_u8(b, ']');
    put_size(b, a);
    hth_json_field(b, "quantization_level", quantization(a));
    hth_put_u8(b, '}');
}

/* The name stands for the content: a model's file is not hashed for a list. */
static void put_model(struct hth_buf *b, const struct hth_api *a)
{
    uint64_t h = 0xcbf29ce484222325u;
    const char *p;
    uint32_t i;

    hth_put_u8(b, '{');
    hth_json_field(b, "name", a->o.model);
    hth_json_field(b, "model", a->o.model);
    put_now(b, "modified_at");
    hth_json_field_number(b, "size", (double)hth_gguf_file_bytes(a->o.gguf));
    for (p = a->o.model; *p != '\0'; p++)
        h = (h ^ (unsigned char)*p) * 0x100000001b3u;
    hth_json_key(b, "digest");
    hth_put_u8(b, '"');
    for (i = 0; i < 4; i++)
        hth_put_printf(b, "%016llx", (unsigned long long)(h * (2 * i + 1)));
    hth_put_u8(b, '"');
    put_details(b, a);
}

void hth__serve_ollama_tags(struct hth_api *a, struct hth_http_exchange *x)
{
    struct hth_buf b;

    hth_buf_init(&b, INFO_BYTES_MAX);
    hth_put_printf(&b, "{\"models\":[");
    put_model(&b, a);
    hth_put_printf(&b, "}]}");
    hth__api_reply_json(x, &b);
}

/* The model stays as long as the server does. */
void hth__serve_ollama_ps(struct hth_api *a, struct hth_http_exchange *x)
{
    struct hth_buf b;

    hth_buf_init(&b, INFO_BYTES_MAX);
    hth_put_printf(&b, "{\"models\":[");
    put_model(&b, a);
    hth_put_printf(&b, ",\"expires_at\":\"2318-01-01T00:00:00Z\","
                       "\"size_vram\":0");
    hth_json_field_number(&b, "context_length", a->o.ctx);
    hth_put_printf(&b, "}]}");
    hth__api_reply_json(x, &b);
}

static void put_info(struct hth_buf *b, const struct hth_api *a)
{
    const struct hth_spec *s = a->o.spec;
    const char *arch = s->arch->name;

    hth_json_key(b, "model_info");
    hth_put_u8(b, '{');
    hth_json_field(b, "general.architecture", arch);
    hth_json_field_number(b, "general.parameter_count", hth__model_params(a));
    hth_put_printf(b, ",\"%s.context_length\":%u", arch, a->o.ctx);
    hth_put_printf(b, ",\"%s.embedding_length\":%u", arch, s->dim);
    hth_put_printf(b, ",\"%s.block_count\":%u", arch, s->layers);
    hth_put_printf(b, ",\"%s.attention.head_count\":%u", arch, s->heads);
    hth_put_printf(b, ",\"%s.attention.head_count_kv\":%u", arch, s->kv_heads);
    hth_put_printf(b, ",\"%s.vocab_size\":%u}", arch, s->vocab);
}

static int read_show(struct api_call *c)
{
    const struct hth_api *a = c->a;
    struct hth_buf *b = &c->out;
    json_t *name = json_object_get(c->body, "name");

    if (name != NULL && !json_is_null(name) && !json_is_string(name))
        return hth__api_fault(&c->fault, "invalid_value", "name",
                              "name must be a string");
    if (json_object_get(c->body, "model") == NULL && name != NULL)
        json_object_set(c->body, "model", name);
    if (hth__ask_model(c, c->body) != 0)
        return -1;
    hth_put_printf(b, "{\"modelfile\":");
    hth_json_cstr(b, "# served by hearth\n");
    hth_json_field(b, "parameters", "");
    hth_json_field(b, "template", hth_chat_source(a->chat));
    put_details(b, a);
    put_info(b, a);
    hth_json_key(b, "capabilities");
    hth_put_printf(b, "[\"completion\"%s%s]",
                   hth_chat_has_tools(a->chat) ? ",\"tools\"" : "",
                   hth_chat_has_reasoning(a->chat) ? ",\"thinking\"" : "");
    put_now(b, "modified_at");
    hth_put_u8(b, '}');
    return 0;
}

static void said(struct api_call *c)
{
    (void)c; /* what there is to answer was written while reading */
}

const struct api_dialect hth__dialect_ollama_show = {.shape = SHAPE_OLLAMA,
                                                     .id_prefix = "",
                                                     .instant = true,
                                                     .fields =
                                                         &hth__fields_show,
                                                     .read = read_show,
                                                     .end = said};

void hth__serve_ollama_none(struct hth_api *a, struct hth_http_exchange *x)
{
    struct api_fault f;

    (void)a;
    hth__api_fault(&f, "not_implemented", NULL,
                   "%s is not supported: this server holds one model, given "
                   "to hearth serve",
                   hth_http_path(x));
    hth__api_reply_fault(x, SHAPE_OLLAMA, &f);
}
