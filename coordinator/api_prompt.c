/* api_prompt.c - from an ask to prompts the engine can take: template,
 * tokens, grammar, and the context's bound, all before any header is sent.
 * Runs on a pool thread; touches only the call. */
#include <stdlib.h>
#include <string.h>

#include "coordinator/api_internal.h"

/* Both numbers are told: how much there is and how much was asked for. */
static int check_context(struct api_call *c, const char *param)
{
    struct api_ask *a = c->ask;
    uint32_t ctx = c->a->o.ctx, i;

    for (i = 0; i < c->prompts; i++) {
        size_t n = c->prompt[i].count;
        uint32_t most = a->tokens_max == ASK_TOKENS_UNSET || a->cap_tokens
                            ? 1
                            : a->tokens_max;

        if (n + most > ctx)
            return hth__api_fault(
                &c->fault, "context_length_exceeded", param,
                "the context of this server holds %u tokens, but the request "
                "needs %zu (%zu of the prompt, %u to generate); shorten "
                "the prompt, ask for fewer tokens, or start the server with "
                "a larger --ctx",
                ctx, n + most, n, most);
    }
    return 0;
}

static int fail(struct api_call *c, int status, const struct hth_err *err,
                const char *param)
{
    hth__api_fault_from(&c->fault, status, err->text);
    if (c->fault.param[0] == '\0' && c->fault.http < 500)
        hth__api_fault(&c->fault, c->fault.code, param, "%s", err->text);
    return -1;
}

/* ---- the constraint -------------------------------------------------------
 */

/* A model that thinks first does so before what it is held to. */
static int open_grammar(struct api_call *c, struct hth_buf *text,
                        struct hth_err *err)
{
    if (c->reasoning && hth_chat_reason_first(c->a->chat, text) != HTH_OK)
        return hth_fail(err, HTH_ELIMIT, "the grammar is too large");
    return hth_grammar_open(
        &c->grammar, (struct hth_str){hth_buf_cstr(text), text->len}, err);
}

static int compile_tools(struct api_call *c, struct hth_err *err)
{
    struct hth_chat_choice choice = {.tools = c->ask->tools,
                                     .only = c->ask->tool_name,
                                     .many = c->ask->many_tools};
    struct hth_buf text;
    int status;

    hth_buf_init(&text, HTH_CONTROL_BYTES_MAX);
    status = hth_chat_tool_grammar(c->a->chat, &choice, &text, err);
    if (status == HTH_OK)
        status = open_grammar(c, &text, err);
    hth_buf_fini(&text);
    return status;
}

/* A schema, a grammar, or a tool that must be called: what the sampler is held
 * to. What cannot be compiled is refused, never approximated. */
static int compile(struct api_call *c)
{
    struct api_ask *a = c->ask;
    const char *param =
        a->format_name != NULL ? a->format_name : "response_format";
    struct hth_err err = {0};
    int status = HTH_OK;

    if (a->tool_choice == TOOLS_REQUIRED || a->tool_choice == TOOLS_ONE) {
        param = "tool_choice";
        if (a->constrained)
            return hth__api_fault(&c->fault, "invalid_value", param,
                                  "tool_choice and response_format contradict "
                                  "each other");
        status = compile_tools(c, &err);
        if (status == HTH_ENOTFOUND)
            status = HTH_EINVAL;
    } else if (a->constrained && a->grammar != NULL) {
        param = "grammar";
        status = hth_grammar_open(
            &c->grammar, (struct hth_str){a->grammar, strlen(a->grammar)},
            &err);
    } else if (a->constrained) {
        status = hth_chat_open_schema(c->a->chat, a->schema, c->reasoning,
                                      &c->grammar, &err);
    }
    return status == HTH_OK ? 0 : fail(c, status, &err, param);
}

/* ---- chat -----------------------------------------------------------------
 */

static int check_messages(struct api_call *c)
{
    const json_t *v;
    size_t i;

    if (!json_is_array(c->ask->messages) ||
        json_array_size(c->ask->messages) == 0)
        return hth__api_fault(&c->fault, "invalid_value", "messages",
                              "messages must be a list with at least one "
                              "message");
    json_array_foreach(c->ask->messages, i, v)
    {
        if (json_string_value(json_object_get(v, "role")) == NULL)
            return hth__api_fault(&c->fault, "invalid_value", "messages",
                                  "messages[%zu] has no role", i);
    }
    return 0;
}

/* A probe may be empty: a text's beginning, or its end, is what models know
 * to go on from. */
static int push_beginning(struct api_call *c)
{
    const struct hth_tokenizer *t = c->a->o.tokenizer;
    uint32_t id = hth_tokenizer_bos(t);

    if (c->prompt[0].count > 0)
        return HTH_OK;
    if (id == HTH_TOKEN_NONE)
        id = hth_tokenizer_eos(t);
    return id != HTH_TOKEN_NONE ? hth_tokens_push(&c->prompt[0], id)
                                : HTH_EINVAL;
}

int hth__prompt_chat(struct api_call *c)
{
    struct hth_chat_input in = {.messages = c->ask->messages,
                                .tools = c->ask->tools,
                                .kwargs = c->ask->kwargs,
                                .generate = true};
    struct hth_chat_prompt p;
    struct hth_err err = {0};
    int status;

    if (check_messages(c) != 0)
        return -1;
    hth_chat_prompt_init(&p);
    status = hth_chat_render(c->a->chat, &in, &p, &err);
    if (status == HTH_OK)
        status = hth_chat_tokenize(c->a->o.tokenizer, &p, &c->prompt[0], &err);
    if (status == HTH_OK)
        status = push_beginning(c);
    c->prompts = 1;
    c->reasoning = p.reasoning;
    hth_chat_prompt_fini(&p);
    if (status != HTH_OK)
        return fail(c, status, &err, "messages");
    return compile(c) != 0 ? -1 : check_context(c, "messages");
}

/* ---- plain prompts --------------------------------------------------------
 */

static int push(struct api_call *c, struct hth_tokens *t, uint32_t id)
{
    if (hth_tokens_push(t, id) == HTH_OK)
        return 0;
    return hth__api_fault(&c->fault, "internal_error", NULL, "out of memory");
}

/* What a model that fills in the middle knows its parts by. */
struct middle {
    uint32_t prefix, suffix, answer; /* tokens */
};

/* The token that a key of the file names, or that a text is. */
static bool find_mark(const struct hth_api *a, const char *key,
                      const char *text, uint32_t *out)
{
    struct hth_tokens ids = {0};
    bool found = hth_gguf_u32(a->o.gguf, key, out, NULL) == HTH_OK &&
                 *out < hth_tokenizer_vocab(a->o.tokenizer);

    if (!found &&
        hth_tokenize(a->o.tokenizer, (struct hth_str){text, strlen(text)}, true,
                     &ids, NULL) == HTH_OK &&
        ids.count == 1) {
        *out = ids.ids[0];
        found = true;
    }
    hth_tokens_fini(&ids);
    return found;
}

/* Bavarian et al. 2022, in the order prefix, suffix, middle. */
static bool find_middle(const struct hth_api *a, struct middle *m)
{
    static const char *const marks[][3] = {
        {"<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"},
        {"<fim_prefix>", "<fim_suffix>", "<fim_middle>"},
        {"<fim-prefix>", "<fim-suffix>", "<fim-middle>"},
        {"<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"},
        {"<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"}};
    size_t i;

    for (i = 0; i < sizeof marks / sizeof marks[0]; i++)
        if (find_mark(a, "tokenizer.ggml.fim_pre_token_id", marks[i][0],
                      &m->prefix) &&
            find_mark(a, "tokenizer.ggml.fim_suf_token_id", marks[i][1],
                      &m->suffix) &&
            find_mark(a, "tokenizer.ggml.fim_mid_token_id", marks[i][2],
                      &m->answer))
            return true;
    return false;
}

/* The prompt goes on up to a text that is given, too. */
static int add_between(struct api_call *c, struct hth_str before,
                       struct hth_tokens *to)
{
    const json_t *v = c->ask->suffix;
    struct hth_str after = {json_string_value(v), json_string_length(v)};
    const struct hth_tokenizer *t = c->a->o.tokenizer;
    struct hth_err err = {0};
    struct middle m;
    int status;

    if (!find_middle(c->a, &m))
        return hth__api_fault(&c->fault, "unsupported_parameter", "suffix",
                              "suffix is not supported by this model: it has "
                              "no tokens for filling in the middle");
    if (push(c, to, m.prefix) != 0)
        return -1;
    status = hth_tokenize(t, before, c->ask->special, to, &err);
    if (status == HTH_OK && push(c, to, m.suffix) != 0)
        return -1;
    if (status == HTH_OK)
        status = hth_tokenize(t, after, c->ask->special, to, &err);
    if (status != HTH_OK)
        return fail(c, status, &err, "suffix");
    return push(c, to, m.answer);
}

static int add_text(struct api_call *c, const json_t *v)
{
    const struct hth_tokenizer *t = c->a->o.tokenizer;
    struct hth_tokens *to = &c->prompt[c->prompts];
    struct hth_str text = {json_string_value(v), json_string_length(v)};
    struct hth_err err = {0};
    int status;

    if (c->ask->echo) {
        c->prompt_text[c->prompts] = strdup(text.p);
        if (c->prompt_text[c->prompts] == NULL)
            return hth__api_fault(&c->fault, "internal_error", NULL,
                                  "out of memory");
    }
    c->prompts++;
    if (hth_tokenizer_adds_bos(t) && hth_tokenizer_bos(t) != HTH_TOKEN_NONE &&
        push(c, to, hth_tokenizer_bos(t)) != 0)
        return -1;
    if (c->ask->suffix != NULL)
        return add_between(c, text, to);
    status = hth_tokenize(t, text, c->ask->special, to, &err);
    return status == HTH_OK ? 0 : fail(c, status, &err, c->ask->prompt_name);
}

static int add_ids(struct api_call *c, const json_t *v)
{
    uint32_t vocab = hth_tokenizer_vocab(c->a->o.tokenizer);
    struct hth_tokens *to = &c->prompt[c->prompts++];
    const json_t *id;
    size_t i;

    json_array_foreach(v, i, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0 ||
            json_integer_value(id) >= (json_int_t)vocab)
            return hth__api_fault(&c->fault, "invalid_value",
                                  c->ask->prompt_name,
                                  "%s: token %zu is not in the vocabulary "
                                  "of %u",
                                  c->ask->prompt_name, i, vocab);
        if (push(c, to, (uint32_t)json_integer_value(id)) != 0)
            return -1;
    }
    return 0;
}

/* A string, a list of ids, or a list of either. */
static int add_prompts(struct api_call *c, const json_t *v)
{
    const json_t *one;
    size_t i;

    if (json_is_string(v))
        return add_text(c, v);
    if (!json_is_array(v) || json_array_size(v) == 0)
        return hth__api_fault(&c->fault, "invalid_value", c->ask->prompt_name,
                              "%s must be a string, a list of strings, or "
                              "a list of token ids",
                              c->ask->prompt_name);
    if (json_is_integer(json_array_get(v, 0)))
        return add_ids(c, v);
    if (json_array_size(v) * c->ask->n > ASK_CHOICES_MAX)
        return hth__api_fault(&c->fault, "invalid_value", c->ask->prompt_name,
                              "%zu prompts with n %u are more than %u answers",
                              json_array_size(v), c->ask->n, ASK_CHOICES_MAX);
    json_array_foreach(v, i, one)
    {
        if (!json_is_string(one) && !json_is_array(one))
            return hth__api_fault(
                &c->fault, "invalid_value", c->ask->prompt_name,
                "%s[%zu] is neither text nor ids", c->ask->prompt_name, i);
        if ((json_is_string(one) ? add_text(c, one) : add_ids(c, one)) != 0)
            return -1;
    }
    return 0;
}

int hth__prompt_text(struct api_call *c)
{
    uint32_t i;

    if (c->ask->prompt_name == NULL)
        c->ask->prompt_name = "prompt";
    if (compile(c) != 0 || add_prompts(c, c->ask->prompt) != 0)
        return -1;
    for (i = 0; i < c->prompts; i++)
        if (c->prompt[i].count == 0)
            return hth__api_fault(&c->fault, "invalid_value",
                                  c->ask->prompt_name, "%s has no tokens",
                                  c->ask->prompt_name);
    return check_context(c, c->ask->prompt_name);
}
