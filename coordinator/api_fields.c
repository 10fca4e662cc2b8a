/* api_fields.c - every field of every body, in tables: taken, passed over, or
 * refused. docs/api.md shows the same tables; api_fields_test.c holds both to
 * what the readers do. */
#include <math.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/api_internal.h"

#define T(name)               \
    {                         \
        name, USE_TAKEN, NULL \
    }
#define P(name)                \
    {                          \
        name, USE_PASSED, NULL \
    }
#define R(name)                 \
    {                           \
        name, USE_REFUSED, NULL \
    }
#define N(name, value)           \
    {                            \
        name, USE_REFUSED, value \
    }
#define END                   \
    {                         \
        NULL, USE_TAKEN, NULL \
    }
#define SET(lists)                              \
    {                                           \
        lists, sizeof(lists) / sizeof(lists)[0] \
    }

/* ---- parts that endpoints share -------------------------------------------
 */

/* Tuning of samplers that are refused says nothing without them. */
static const struct api_field sampling[] = {T("temperature"),
                                            T("top_p"),
                                            T("top_k"),
                                            T("min_p"),
                                            T("typical_p"),
                                            T("seed"),
                                            T("frequency_penalty"),
                                            T("presence_penalty"),
                                            T("repeat_penalty"),
                                            T("repetition_penalty"),
                                            T("repeat_last_n"),
                                            T("logit_bias"),
                                            T("ignore_eos"),
                                            T("cache_prompt"),
                                            T("priority"),
                                            N("mirostat", "0"),
                                            P("mirostat_tau"),
                                            P("mirostat_eta"),
                                            N("xtc_probability", "0"),
                                            P("xtc_threshold"),
                                            N("dry_multiplier", "0"),
                                            P("dry_base"),
                                            P("dry_allowed_length"),
                                            P("dry_penalty_last_n"),
                                            P("dry_sequence_breakers"),
                                            N("dynatemp_range", "0"),
                                            P("dynatemp_exponent"),
                                            N("tfs_z", "1"),
                                            N("top_n_sigma", "-1"),
                                            N("top_a", "0"),
                                            N("min_keep", "0"),
                                            R("samplers"),
                                            END};

/* llama.cpp's and vLLM's additions to OpenAI's bodies. */
static const struct api_field engines[] = {T("lora"),
                                           N("min_tokens", "0"),
                                           R("stop_token_ids"),
                                           R("bad_words"),
                                           R("allowed_token_ids"),
                                           R("logits_processors"),
                                           R("guided_json"),
                                           R("guided_regex"),
                                           R("guided_choice"),
                                           R("guided_grammar"),
                                           R("structured_outputs"),
                                           R("use_beam_search"),
                                           N("length_penalty", "1"),
                                           R("prompt_logprobs"),
                                           R("truncate_prompt_tokens"),
                                           R("include_stop_str_in_output"),
                                           N("skip_special_tokens", "true"),
                                           N("n_keep", "0"),
                                           N("n_probs", "0"),
                                           N("n_indent", "0"),
                                           N("t_max_predict_ms", "0"),
                                           R("return_tokens"),
                                           P("id_slot"),
                                           P("spaces_between_special_tokens"),
                                           END};

/* What OpenAI's service keeps for itself. */
static const struct api_field harmless[] = {P("user"),
                                            P("metadata"),
                                            P("store"),
                                            P("service_tier"),
                                            P("safety_identifier"),
                                            P("prompt_cache_key"),
                                            P("prompt_cache_retention"),
                                            END};

static const struct api_field generated[] = {T("model"),
                                             T("max_completion_tokens"),
                                             T("max_tokens"),
                                             T("n_predict"),
                                             T("stop"),
                                             T("n"),
                                             T("stream"),
                                             T("stream_options"),
                                             T("logprobs"),
                                             T("response_format"),
                                             T("grammar"),
                                             T("json_schema"),
                                             T("timings_per_token"),
                                             END};

/* ---- endpoints ------------------------------------------------------------
 */

static const struct api_field chat_own[] = {T("messages"),
                                            T("top_logprobs"),
                                            T("tools"),
                                            T("tool_choice"),
                                            T("parallel_tool_calls"),
                                            T("reasoning_effort"),
                                            T("reasoning_format"),
                                            T("chat_template_kwargs"),
                                            T("modalities"),
                                            P("prediction"),
                                            R("functions"),
                                            R("function_call"),
                                            R("audio"),
                                            R("web_search_options"),
                                            N("verbosity", "medium"),
                                            R("num_ctx"),
                                            R("suffix"),
                                            N("best_of", "1"),
                                            R("echo"),
                                            R("chat_template"),
                                            R("documents"),
                                            R("continue_final_message"),
                                            N("add_generation_prompt", "true"),
                                            END};

static const struct api_field completions_own[] = {
    T("prompt"), T("suffix"), T("echo"), T("best_of"), R("num_ctx"), END};

static const struct api_field embeddings_own[] = {
    T("model"), T("input"), T("encoding_format"), T("dimensions"), T("lora"),
    P("user"),  END};

static const struct api_field responses_own[] = {T("model"),
                                                 T("input"),
                                                 T("instructions"),
                                                 T("max_output_tokens"),
                                                 T("stream"),
                                                 T("stream_options"),
                                                 T("tools"),
                                                 T("tool_choice"),
                                                 T("parallel_tool_calls"),
                                                 T("text"),
                                                 T("reasoning"),
                                                 T("include"),
                                                 T("lora"),
                                                 P("truncation"),
                                                 P("max_tool_calls"),
                                                 R("previous_response_id"),
                                                 R("conversation"),
                                                 R("prompt"),
                                                 R("background"),
                                                 N("top_logprobs", "0"),
                                                 END};

static const struct api_field messages_own[] = {T("model"),
                                                T("messages"),
                                                T("system"),
                                                T("max_tokens"),
                                                T("stop_sequences"),
                                                T("stream"),
                                                T("tools"),
                                                T("tool_choice"),
                                                T("thinking"),
                                                T("output_format"),
                                                T("lora"),
                                                P("metadata"),
                                                P("service_tier"),
                                                P("context_management"),
                                                R("mcp_servers"),
                                                R("container"),
                                                END};

static const struct api_field ollama_own[] = {
    T("model"),      T("stream"),   T("format"),       T("options"),
    T("think"),      T("logprobs"), T("top_logprobs"), T("lora"),
    P("keep_alive"), P("truncate"), P("shift"),        END};

static const struct api_field ollama_chat_own[] = {
    T("messages"), T("tools"), T("tool_choice"), T("parallel_tool_calls"), END};

static const struct api_field ollama_generate_own[] = {
    T("prompt"),   T("suffix"),  T("system"), T("raw"),
    R("template"), R("context"), R("images"), END};

/* How its own engine uses a machine is not for a client to say. */
static const struct api_field ollama_options_own[] = {
    T("num_predict"),      T("num_ctx"),        T("stop"),
    P("num_keep"),         P("num_gpu"),        P("num_thread"),
    P("num_batch"),        P("main_gpu"),       P("low_vram"),
    P("use_mmap"),         P("use_mlock"),      P("numa"),
    P("f16_kv"),           P("vocab_only"),     P("logits_all"),
    P("penalize_newline"), P("embedding_only"), END};

static const struct api_field show_own[] = {
    T("model"),  T("name"),     P("verbose"), P("options"),
    P("system"), P("template"), END};

static const struct api_field tokenize_own[] = {T("content"),
                                                T("prompt"),
                                                T("messages"),
                                                T("add_special"),
                                                T("add_special_tokens"),
                                                T("with_pieces"),
                                                T("parse_special"),
                                                P("model"),
                                                N("return_token_strs", "false"),
                                                END};

static const struct api_field detokenize_own[] = {T("tokens"), P("model"), END};

static const struct api_field template_own[] = {T("messages"),
                                                T("tools"),
                                                T("tool_choice"),
                                                T("parallel_tool_calls"),
                                                T("chat_template_kwargs"),
                                                T("add_generation_prompt"),
                                                P("model"),
                                                R("chat_template"),
                                                END};

static const struct api_field lora_own[] = {T("lora_name"), T("lora_path"),
                                            P("lora_int_id"), END};

static const struct api_field *const chat[] = {chat_own, generated, sampling,
                                               engines, harmless};
static const struct api_field *const completions[] = {
    completions_own, generated, sampling, engines, harmless};
static const struct api_field *const embeddings[] = {embeddings_own};
static const struct api_field *const responses[] = {responses_own, sampling,
                                                    harmless};
static const struct api_field *const messages[] = {messages_own, sampling};
static const struct api_field *const ollama_chat[] = {ollama_own,
                                                      ollama_chat_own};
static const struct api_field *const ollama_generate[] = {ollama_own,
                                                          ollama_generate_own};
static const struct api_field *const ollama_options[] = {ollama_options_own,
                                                         sampling};
static const struct api_field *const show[] = {show_own};
static const struct api_field *const tokenize[] = {tokenize_own};
static const struct api_field *const detokenize[] = {detokenize_own};
static const struct api_field *const template[] = {template_own};
static const struct api_field *const adapters[] = {lora_own};

const struct api_fields hth__fields_chat = SET(chat);
const struct api_fields hth__fields_completions = SET(completions);
const struct api_fields hth__fields_embeddings = SET(embeddings);
const struct api_fields hth__fields_responses = SET(responses);
const struct api_fields hth__fields_messages = SET(messages);
const struct api_fields hth__fields_ollama_chat = SET(ollama_chat);
const struct api_fields hth__fields_ollama_generate = SET(ollama_generate);
const struct api_fields hth__fields_ollama_options = SET(ollama_options);
const struct api_fields hth__fields_show = SET(show);
const struct api_fields hth__fields_tokenize = SET(tokenize);
const struct api_fields hth__fields_detokenize = SET(detokenize);
const struct api_fields hth__fields_template = SET(template);
const struct api_fields hth__fields_lora = SET(adapters);

/* ---- what becomes of them -------------------------------------------------
 */

static const struct api_field *find(const struct api_fields *f,
                                    const char *name)
{
    uint32_t i;
    const struct api_field *at;

    for (i = 0; i < f->count; i++)
        for (at = f->list[i]; at->name != NULL; at++)
            if (strcmp(at->name, name) == 0)
                return at;
    return NULL;
}

/* Does the value ask for nothing: null, false, "", [], {}, or the value that
 * leaves everything as it is. Go clients send such for what was never set. */
static bool asks_nothing(const json_t *v, const char *neutral)
{
    char text[32] = "";

    if (json_is_null(v) || (json_is_string(v) && json_string_length(v) == 0) ||
        (json_is_array(v) && json_array_size(v) == 0) ||
        (json_is_object(v) && json_object_size(v) == 0))
        return true;
    if (json_is_boolean(v) && neutral != NULL && strcmp(neutral, "true") == 0)
        return json_is_true(v);
    if (json_is_false(v))
        return true;
    if (neutral == NULL)
        return false;
    if (json_is_string(v))
        return strcmp(json_string_value(v), neutral) == 0;
    if (json_is_number(v))
        (void)snprintf(text, sizeof text, "%g", json_number_value(v));
    return strcmp(text, neutral) == 0;
}

/* Names come from clients: only what a name may look like reaches the log. */
static bool is_name(const char *name)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
                                  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
    size_t n = strspn(name, letters);

    return n > 0 && n < API_STRANGE_BYTES && name[n] == '\0';
}

/* A field nobody here knows is passed over, and the log says so once. */
static void note_strange(struct hth_api *a, const char *name)
{
    struct api_strange *s = &a->strange;
    bool first = is_name(name);
    uint32_t i;

    pthread_mutex_lock(&s->lock);
    for (i = 0; i < s->count && first; i++)
        first = strcmp(s->name[i], name) != 0;
    first = first && s->count < API_STRANGE_MAX;
    if (first)
        memcpy(s->name[s->count++], name, strlen(name) + 1);
    pthread_mutex_unlock(&s->lock);
    if (first)
        hth_log(HTH_LOG_DEBUG, "FIELD-UNKNOWN",
                "field=%s: it is not known here and was passed over", name);
}

int hth__ask_fields(struct api_call *c, const json_t *o,
                    const struct api_fields *f)
{
    json_t *all = (json_t *)(uintptr_t)o; /* jansson iterates so */
    const struct api_field *field;
    const char *name;
    json_t *v;

    json_object_foreach(all, name, v)
    {
        field = find(f, name);
        if (field == NULL && !json_is_null(v))
            note_strange(c->a, name);
        if (field != NULL && field->use == USE_REFUSED &&
            !asks_nothing(v, field->neutral))
            return hth__api_fault(
                &c->fault, "unsupported_parameter", field->name,
                "%s is not supported by this server", field->name);
    }
    return 0;
}
