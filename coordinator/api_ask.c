/* api_ask.c - fields of a request's body into an ask, each checked; a wrong
 * one is a fault that names it. What is not supported is refused by name and
 * never passed over; what is harmless (user, metadata, store) is. */
#include <limits.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "coordinator/api_internal.h"

/* ---- single fields --------------------------------------------------------
 */

/* The member, or NULL when it is missing or null. */
static const json_t *field(const json_t *o, const char *name)
{
    const json_t *v = json_object_get(o, name);

    return v == NULL || json_is_null(v) ? NULL : v;
}

int hth__ask_bool(struct api_call *c, const json_t *o, const char *name,
                  bool *out)
{
    const json_t *v = field(o, name);

    if (v == NULL)
        return 0;
    if (!json_is_boolean(v))
        return hth__api_fault(&c->fault, "invalid_value", name,
                              "%s must be true or false", name);
    *out = json_is_true(v);
    return 0;
}

int hth__ask_u32(struct api_call *c, const json_t *o, const char *name,
                 uint32_t *out)
{
    const json_t *v = field(o, name);
    double n;

    if (v == NULL)
        return 0;
    n = json_number_value(v);
    if (!json_is_number(v) || n < 0 || n >= UINT32_MAX || n != floor(n))
        return hth__api_fault(&c->fault, "invalid_value", name,
                              "%s must be a whole number that is not negative",
                              name);
    *out = (uint32_t)n;
    return 0;
}

int hth__ask_object(struct api_call *c, const json_t *o, const char *name,
                    const json_t **out)
{
    *out = field(o, name);
    if (*out == NULL || json_is_object(*out))
        return 0;
    return hth__api_fault(&c->fault, "invalid_value", name,
                          "%s must be an object", name);
}

/* ---- sampling -------------------------------------------------------------
 */

struct number {
    const char *name;
    size_t offset; /* of a float in struct hth_sampling */
    double min, max;
};

static const struct number numbers[] = {
    {"temperature", offsetof(struct hth_sampling, temperature), 0, 100},
    {"top_p", offsetof(struct hth_sampling, top_p), 0, 1},
    {"min_p", offsetof(struct hth_sampling, min_p), 0, 1},
    {"typical_p", offsetof(struct hth_sampling, typical_p), 0, 1},
    {"frequency_penalty", offsetof(struct hth_sampling, frequency_penalty),
     -100, 100},
    {"presence_penalty", offsetof(struct hth_sampling, presence_penalty), -100,
     100},
    {"repeat_penalty", offsetof(struct hth_sampling, repeat_penalty), 0.001,
     1000},
    {"repetition_penalty", offsetof(struct hth_sampling, repeat_penalty), 0.001,
     1000},
};

static int read_numbers(struct api_call *c, const json_t *o)
{
    char *s = (char *)&c->ask->sampling;
    size_t i;

    for (i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        const struct number *f = &numbers[i];
        const json_t *v = field(o, f->name);
        double n = json_number_value(v);
        float value = (float)n;

        if (v == NULL)
            continue;
        if (!json_is_number(v) || !(n >= f->min && n <= f->max))
            return hth__api_fault(&c->fault, "invalid_value", f->name,
                                  "%s must be a number from %g to %g", f->name,
                                  f->min, f->max);
        memcpy(s + f->offset, &value, sizeof value);
    }
    return 0;
}

/* Whole numbers of 64 bits; a negative one asks for any. */
static int read_seed(struct api_call *c, const json_t *o)
{
    const json_t *v = field(o, "seed");

    if (v == NULL)
        return 0;
    if (!json_is_integer(v))
        return hth__api_fault(&c->fault, "invalid_value", "seed",
                              "seed must be a whole number");
    if (json_integer_value(v) >= 0)
        c->ask->sampling.seed = (uint64_t)json_integer_value(v);
    return 0;
}

static int add_bias(struct api_call *c, double id, const json_t *v)
{
    struct hth_sampling *s = &c->ask->sampling;
    uint32_t vocab = hth_tokenizer_vocab(c->a->o.tokenizer);
    double bias = json_is_false(v) ? -INFINITY : json_number_value(v);

    if (!(id >= 0 && id < vocab) || id != floor(id))
        return hth__api_fault(&c->fault, "invalid_value", "logit_bias",
                              "logit_bias names a token that is not in the "
                              "vocabulary of %u",
                              vocab);
    if (!json_is_false(v) && !json_is_number(v))
        return hth__api_fault(&c->fault, "invalid_value", "logit_bias",
                              "logit_bias must map token ids to numbers");
    if (s->biases == HTH_BIAS_MAX)
        return hth__api_fault(&c->fault, "invalid_value", "logit_bias",
                              "logit_bias has more than %u tokens",
                              HTH_BIAS_MAX);
    /* OpenAI's -100 means "never". */
    s->bias[s->biases++] =
        (struct hth_bias){(uint32_t)id, bias <= -100 ? -INFINITY : (float)bias};
    return 0;
}

static double token_id(const char *text)
{
    double id = 0;

    if (*text == '\0' || strlen(text) > 9)
        return -1;
    for (; *text != '\0'; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        id = id * 10 + (*text - '0');
    }
    return id;
}

/* Among those who wait, a higher number goes first. */
static int read_priority(struct api_call *c, const json_t *o)
{
    const json_t *v = field(o, "priority");
    json_int_t n = json_integer_value(v);

    if (v != NULL && (!json_is_integer(v) || n < -100 || n > 100))
        return hth__api_fault(&c->fault, "invalid_value", "priority",
                              "priority must be a whole number from -100 to "
                              "100");
    c->ask->priority = (int32_t)n;
    return 0;
}

/* OpenAI's object {"id": bias}, or llama.cpp's list of pairs. */
static int read_bias(struct api_call *c, const json_t *o)
{
    const json_t *all = field(o, "logit_bias"), *v;
    const char *key;
    size_t i;
    int rc = 0;

    if (all == NULL)
        return 0;
    if (json_is_object(all)) {
        json_object_foreach((json_t *)(uintptr_t)all, key, v)
        {
            if (rc == 0)
                rc = add_bias(c, token_id(key), v);
        }
        return rc;
    }
    if (!json_is_array(all))
        return hth__api_fault(&c->fault, "invalid_value", "logit_bias",
                              "logit_bias must map token ids to numbers");
    json_array_foreach(all, i, v)
    {
        const json_t *id = json_array_get(v, 0);

        if (rc == 0)
            rc = add_bias(c, json_is_integer(id) ? json_number_value(id) : -1,
                          json_array_get(v, 1));
    }
    return rc;
}

/* A count where -1 stands for another number: all of them. */
static int read_count(struct api_call *c, const json_t *o, const char *name,
                      uint32_t all, uint32_t *out)
{
    const json_t *v = field(o, name);

    if (!json_is_integer(v) || json_integer_value(v) != -1)
        return hth__ask_u32(c, o, name, out);
    *out = all;
    return 0;
}

int hth__ask_sampling(struct api_call *c, const json_t *o)
{
    struct hth_sampling *s = &c->ask->sampling;

    if (read_numbers(c, o) != 0 || read_seed(c, o) != 0 ||
        read_bias(c, o) != 0 || read_priority(c, o) != 0 ||
        read_count(c, o, "top_k", 0, &s->top_k) != 0 ||
        read_count(c, o, "repeat_last_n", c->a->o.ctx, &s->repeat_last_n) !=
            0 ||
        hth__ask_bool(c, o, "ignore_eos", &c->ask->ignore_end) != 0 ||
        hth__ask_bool(c, o, "cache_prompt", &c->ask->reuse) != 0)
        return -1;
    return 0;
}

/* ---- the model ------------------------------------------------------------
 */

/* A client may add what its own habits add: Ollama's tag, the file's end. */
static bool names_model(const char *asked, const char *model)
{
    size_t n = strlen(model);

    if (strncmp(asked, model, n) != 0)
        return false;
    asked += n;
    return *asked == '\0' || strcmp(asked, ":latest") == 0 ||
           strcmp(asked, ".gguf") == 0;
}

int hth__ask_model(struct api_call *c, const json_t *o)
{
    const json_t *v = field(o, "model");
    const char *model = c->a->o.model;

    if (v != NULL && !json_is_string(v))
        return hth__api_fault(&c->fault, "invalid_value", "model",
                              "model must be a string");
    if (v != NULL && c->a->o.any_model)
        (void)hth__ask_adapter_model(c, json_string_value(v));
    if (v == NULL || c->a->o.any_model || json_string_length(v) == 0 ||
        names_model(json_string_value(v), model) ||
        hth__ask_adapter_model(c, json_string_value(v)))
        return 0;
    return hth__api_fault(&c->fault, "model_not_found", "model",
                          "there is no model %.120s here; there is: %.120s",
                          json_string_value(v), model);
}

/* ---- limits of the answer -------------------------------------------------
 */

/* The first of names that is given; -1 is no limit (llama.cpp, Ollama). */
int hth__ask_max(struct api_call *c, const json_t *o, const char *const *names)
{
    for (; *names != NULL; names++) {
        const json_t *v = field(o, *names);

        if (v == NULL)
            continue;
        if (json_is_integer(v) && json_integer_value(v) < 0)
            return 0;
        return hth__ask_u32(c, o, *names, &c->ask->tokens_max);
    }
    return 0;
}

static int add_stop(struct api_call *c, const json_t *v, const char *param)
{
    struct api_ask *a = c->ask;
    size_t n = json_string_length(v);

    if (!json_is_string(v))
        return hth__api_fault(&c->fault, "invalid_value", param,
                              "%s must be a string or a list of strings",
                              param);
    if (n == 0)
        return 0;
    if (a->stop_count == HTH_STOPS_MAX || n > HTH_STOP_BYTES_MAX)
        return hth__api_fault(&c->fault, "invalid_value", param,
                              "%s: at most %u strings of %u bytes are possible",
                              param, HTH_STOPS_MAX, HTH_STOP_BYTES_MAX);
    c->stop_text[a->stop_count] = strdup(json_string_value(v));
    if (c->stop_text[a->stop_count] == NULL)
        return hth__api_fault(&c->fault, "internal_error", NULL,
                              "out of memory");
    a->stop[a->stop_count] = (struct hth_str){c->stop_text[a->stop_count], n};
    a->stop_count++;
    return 0;
}

int hth__ask_stops(struct api_call *c, const json_t *v, const char *param)
{
    const json_t *one;
    size_t i;

    if (v == NULL || json_is_null(v))
        return 0;
    if (!json_is_array(v))
        return add_stop(c, v, param);
    json_array_foreach(v, i, one)
    {
        if (add_stop(c, one, param) != 0)
            return -1;
    }
    return 0;
}

/* chat: logprobs is a flag and top_logprobs a number; completions: logprobs
 * is the number. */
int hth__ask_logprobs(struct api_call *c, const json_t *o)
{
    const json_t *v = field(o, "logprobs");
    uint32_t top = 0;
    bool want = false;

    if (v != NULL && json_is_number(v)) {
        want = true;
        if (hth__ask_u32(c, o, "logprobs", &top) != 0)
            return -1;
    } else if (hth__ask_bool(c, o, "logprobs", &want) != 0 ||
               hth__ask_u32(c, o, "top_logprobs", &top) != 0) {
        return -1;
    }
    if (top > 0 && !want)
        return hth__api_fault(&c->fault, "invalid_value", "top_logprobs",
                              "top_logprobs needs logprobs: true");
    if (top >= HTH_LOGPROBS_MAX)
        return hth__api_fault(&c->fault, "invalid_value", "top_logprobs",
                              "logprobs of %u tokens; %u at most are possible",
                              top, HTH_LOGPROBS_MAX - 1);
    c->ask->logprobs = want ? 1 + top : 0;
    return 0;
}

/* ---- structure of the answer ----------------------------------------------
 */

/* OpenAI's response_format, and llama.cpp's schema beside json_object. */
int hth__ask_format(struct api_call *c, const json_t *v, const char *param)
{
    const char *type = json_string_value(json_object_get(v, "type"));
    const json_t *schema = field(v, "schema");

    if (v == NULL || json_is_null(v))
        return 0;
    if (type == NULL)
        return hth__api_fault(&c->fault, "invalid_value", param,
                              "%s must be an object with a type", param);
    if (strcmp(type, "text") == 0)
        return 0;
    if (strcmp(type, "json_schema") == 0) {
        if (schema == NULL)
            schema = field(field(v, "json_schema"), "schema");
        if (!json_is_object(schema) && !json_is_boolean(schema))
            return hth__api_fault(&c->fault, "invalid_value", param,
                                  "%s of type json_schema needs a "
                                  "json_schema.schema",
                                  param);
    } else if (strcmp(type, "json_object") != 0) {
        return hth__api_fault(&c->fault, "unsupported_parameter", param,
                              "%s: the type %.40s is not supported; there are "
                              "text, json_object and json_schema",
                              param, type);
    }
    c->ask->constrained = true;
    c->ask->schema = schema;
    c->ask->format_name = param;
    return 0;
}

static int read_choice(struct api_call *c, const json_t *v)
{
    const char *text = json_string_value(v);
    struct api_ask *a = c->ask;

    if (v == NULL || (text != NULL && strcmp(text, "auto") == 0))
        return 0;
    if (text != NULL && strcmp(text, "none") == 0) {
        a->tool_choice = TOOLS_NONE;
        return 0;
    }
    if (text != NULL &&
        (strcmp(text, "required") == 0 || strcmp(text, "any") == 0)) {
        a->tool_choice = TOOLS_REQUIRED;
        return 0;
    }
    a->tool_name =
        json_string_value(json_object_get(field(v, "function"), "name"));
    if (a->tool_name == NULL)
        a->tool_name = json_string_value(json_object_get(v, "name"));
    a->tool_choice = TOOLS_ONE;
    if (a->tool_name == NULL)
        return hth__api_fault(&c->fault, "invalid_value", "tool_choice",
                              "tool_choice must be auto, none, required or "
                              "name a function");
    return 0;
}

int hth__ask_tools(struct api_call *c, const json_t *o)
{
    const json_t *tools = field(o, "tools"), *v;
    struct api_ask *a = c->ask;
    size_t i;

    if (hth__ask_bool(c, o, "parallel_tool_calls", &a->many_tools) != 0 ||
        read_choice(c, field(o, "tool_choice")) != 0)
        return -1;
    if (tools != NULL && !json_is_array(tools))
        return hth__api_fault(&c->fault, "invalid_value", "tools",
                              "tools must be a list");
    json_array_foreach(tools, i, v)
    {
        if (json_string_value(json_object_get(field(v, "function"), "name")) ==
            NULL)
            return hth__api_fault(&c->fault, "invalid_value", "tools",
                                  "tools[%zu] must be of type function and "
                                  "have a function.name",
                                  i);
    }
    if (json_array_size(tools) > 0 && a->tool_choice != TOOLS_NONE)
        a->tools = tools;
    if (a->tools == NULL &&
        (a->tool_choice == TOOLS_REQUIRED || a->tool_choice == TOOLS_ONE))
        return hth__api_fault(&c->fault, "invalid_value", "tool_choice",
                              "tool_choice asks for a tool, but there are no "
                              "tools");
    return 0;
}

/* llama.cpp's own: a grammar in GBNF, or a schema without OpenAI's wrapping. */
int hth__ask_grammar(struct api_call *c, const json_t *o)
{
    const json_t *v = field(o, "grammar"), *schema = field(o, "json_schema");
    const char *name = v != NULL ? "grammar" : "json_schema";

    if (json_is_string(v) && json_string_length(v) == 0)
        v = NULL;
    if (v == NULL && schema == NULL)
        return 0;
    if (v != NULL && !json_is_string(v))
        return hth__api_fault(&c->fault, "invalid_value", "grammar",
                              "grammar must be a string of GBNF");
    if (schema != NULL && !json_is_object(schema) && !json_is_boolean(schema))
        return hth__api_fault(&c->fault, "invalid_value", "json_schema",
                              "json_schema must be a JSON schema");
    if (c->ask->constrained || (v != NULL && schema != NULL))
        return hth__api_fault(&c->fault, "invalid_value", name,
                              "grammar, json_schema and response_format "
                              "contradict each other");
    c->ask->grammar = json_string_value(v);
    c->ask->schema = schema;
    c->ask->format_name = name;
    c->ask->constrained = true;
    return 0;
}

/* ---- variables of the template --------------------------------------------
 */

int hth__ask_variable(struct api_call *c, const char *name, json_t *v)
{
    json_t *own = json_object_get(c->body, "chat_template_kwargs");

    if (!json_is_object(own)) {
        own = json_object();
        (void)json_object_set_new(c->body, "chat_template_kwargs", own);
    }
    c->ask->kwargs = own;
    if (json_object_get(own, name) != NULL)
        json_decref(v);
    else if (json_object_set_new(own, name, v) != 0)
        return hth__api_fault(&c->fault, "internal_error", NULL,
                              "out of memory");
    return 0;
}

/* ---- how it is answered ---------------------------------------------------
 */

int hth__ask_stream(struct api_call *c)
{
    struct api_ask *a = c->ask;
    const json_t *o;

    return hth__ask_bool(c, c->body, "stream", &a->stream) != 0 ||
                   hth__ask_object(c, c->body, "stream_options", &o) != 0 ||
                   hth__ask_bool(c, o, "include_usage", &a->include_usage) !=
                       0 ||
                   hth__ask_bool(c, o, "continuous_usage_stats",
                                 &a->each_usage) != 0 ||
                   hth__ask_bool(c, c->body, "timings_per_token",
                                 &a->each_timings) != 0
               ? -1
               : 0;
}

int hth__ask_choices(struct api_call *c)
{
    if (hth__ask_u32(c, c->body, "n", &c->ask->n) != 0)
        return -1;
    if (c->ask->n < 1 || c->ask->n > ASK_CHOICES_MAX)
        return hth__api_fault(&c->fault, "invalid_value", "n",
                              "n is %u; 1 to %u are possible", c->ask->n,
                              ASK_CHOICES_MAX);
    return 0;
}
