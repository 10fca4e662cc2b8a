/* api_fields_test.c - what becomes of every field of every body, by the tables
 * of api_fields.c: a field that is taken is refused by its name where its value
 * makes no sense, so a reader does look at it; one that is not supported is
 * refused by its name; the rest changes nothing. docs/api.md has them all. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "coordinator/api_serve.h"

#define MODEL "models/tale-q8_0.gguf"
#define TEXTS_MAX 8u

static struct hth_api g_api;
static struct hth_spec g_spec;

static void set_up(void)
{
    struct hth_gguf *g;
    struct hth_tokenizer *t;
    struct hth_chat_opts o = {0};

    cr_assert_eq(hth_gguf_open(&g, MODEL, NULL), 0);
    cr_assert_eq(hth_spec_read(&g_spec, g, NULL), 0);
    cr_assert_eq(hth_tokenizer_open(&t, g, NULL), 0);
    o.gguf = g;
    o.tokenizer = t;
    o.quiet = true;
    cr_assert_eq(hth_chat_open(&g_api.chat, &o, NULL), 0);
    g_api.o.model = "tale";
    g_api.o.gguf = g;
    g_api.o.spec = &g_spec;
    g_api.o.tokenizer = t;
    g_api.o.ctx = 512;
    pthread_mutex_init(&g_api.strange.lock, NULL);
    hth_rng_init(&g_api.rng, 1);
}

TestSuite(api_fields, .init = set_up, .timeout = 120);

struct endpoint {
    const char *name;
    const struct api_dialect *dialect;
    const char *body;   /* one that is taken, without its closing brace */
    const char *inside; /* the field's object, or NULL: the body's own */
    const struct api_fields *fields;
    const char *skip; /* fields that this body does not read */
};

#define HI "{\"messages\":[{\"role\":\"user\",\"content\":\"Hi\"}]"

static const struct endpoint endpoints[] = {
    {"chat", &hth__dialect_chat, HI, NULL, &hth__fields_chat, ""},
    {"completions", &hth__dialect_completions, "{\"prompt\":\"Hi\"", NULL,
     &hth__fields_completions, ""},
    {"embeddings", &hth__dialect_embeddings, "{\"input\":\"Hi\"", NULL,
     &hth__fields_embeddings, ""},
    {"responses", &hth__dialect_responses,
     "{\"input\":\"Hi\",\"tools\":[{\"type\":\"function\",\"name\":\"f\"}]",
     NULL, &hth__fields_responses, ""},
    {"messages", &hth__dialect_messages, HI ",\"max_tokens\":5", NULL,
     &hth__fields_messages, ""},
    {"count", &hth__dialect_count, HI, NULL, &hth__fields_messages,
     " max_tokens stop_sequences stream output_format lora temperature top_p "
     "top_k min_p typical_p seed frequency_penalty presence_penalty "
     "repeat_penalty repetition_penalty repeat_last_n logit_bias ignore_eos "
     "cache_prompt priority "},
    {"api/chat", &hth__dialect_ollama_chat, HI, NULL, &hth__fields_ollama_chat,
     ""},
    {"api/generate", &hth__dialect_ollama_generate, "{\"prompt\":\"Hi\"", NULL,
     &hth__fields_ollama_generate, ""},
    {"options", &hth__dialect_ollama_chat, HI, "options",
     &hth__fields_ollama_options, ""},
    {"api/show", &hth__dialect_ollama_show, "{", NULL, &hth__fields_show, ""},
    {"tokenize", &hth__dialect_tokenize, "{\"content\":\"Hi\"", NULL,
     &hth__fields_tokenize, " prompt add_special_tokens "},
    {"vLLM's tokenize", &hth__dialect_tokenize, "{\"prompt\":\"Hi\"", NULL,
     &hth__fields_tokenize, " add_special "},
    {"detokenize", &hth__dialect_detokenize, "{\"tokens\":[5]", NULL,
     &hth__fields_detokenize, ""},
    {"apply-template", &hth__dialect_template, HI, NULL, &hth__fields_template,
     ""},
};

#define ENDPOINTS (sizeof endpoints / sizeof endpoints[0])

/* Read the endpoint's body with this field in it (NULL: none). */
static struct api_fault read_with(const struct endpoint *e, const char *field,
                                  const char *value)
{
    struct api_call *c = hth__api_call_new(&g_api, e->dialect);
    struct api_fault f = {0};
    json_t *body, *in;
    char text[256], *all;

    snprintf(text, sizeof text, "%s}", e->body);
    body = json_loads(text, 0, NULL);
    cr_assert_not_null(body, "%s", text);
    in = body;
    if (e->inside != NULL) {
        in = json_object();
        json_object_set_new(body, e->inside, in);
    }
    if (field != NULL)
        json_object_set_new(in, field,
                            json_loads(value, JSON_DECODE_ANY, NULL));
    all = json_dumps(body, 0);
    if (hth__api_call_read(c, all, strlen(all)) != 0)
        f = c->fault;
    hth__api_call_free(c);
    json_decref(body);
    free(all);
    return f;
}

static bool skips(const struct endpoint *e, const char *field)
{
    char word[80];

    snprintf(word, sizeof word, " %s ", field);
    return strstr(e->skip, word) != NULL;
}

static void taken(const struct endpoint *e, const struct api_field *f)
{
    static const char *const wrong[] = {"-7.5", "{\"\\u0001\":[]}",
                                        "\"\\u0001\"", "[[]]"};
    struct api_fault fault;

    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        fault = read_with(e, f->name, wrong[i]);
        if ((fault.http == 400 || fault.http == 404) &&
            strcmp(fault.param, f->name) == 0)
            return;
    }
    cr_assert_fail("%s: %s is said to be taken, but nobody looks at it",
                   e->name, f->name);
}

static void refused(const struct endpoint *e, const struct api_field *f)
{
    static const char *const values[] = {"7.25", "\"x\"", "[1]", "{\"a\":1}"};
    static const char *const nothing[] = {"null", "\"\"", "[]", "{}"};
    struct api_fault fault;

    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        fault = read_with(e, f->name, values[i]);
        cr_assert_eq(fault.http, 400, "%s: %s=%s", e->name, f->name, values[i]);
        cr_assert_str_eq(fault.code, "unsupported_parameter");
        cr_assert_str_eq(fault.param, f->name);
    }
    for (size_t i = 0; i < sizeof nothing / sizeof nothing[0]; i++)
        cr_assert_eq(read_with(e, f->name, nothing[i]).http, 0, "%s: %s=%s",
                     e->name, f->name, nothing[i]);
    if (f->neutral != NULL) {
        char text[40];
        bool word = f->neutral[0] >= 'a' && strcmp(f->neutral, "true") != 0 &&
                    strcmp(f->neutral, "false") != 0;

        snprintf(text, sizeof text, word ? "\"%s\"" : "%s", f->neutral);
        cr_assert_eq(read_with(e, f->name, text).http, 0, "%s: %s=%s", e->name,
                     f->name, text);
    }
}

Test(api_fields, every_field_does_what_its_table_says)
{
    for (size_t i = 0; i < ENDPOINTS; i++) {
        const struct endpoint *e = &endpoints[i];
        struct api_fault f = read_with(e, NULL, NULL);

        cr_assert_eq(f.http, 0, "%s: %s", e->name, f.text);
        for (uint32_t k = 0; k < e->fields->count; k++)
            for (const struct api_field *at = e->fields->list[k];
                 at->name != NULL; at++) {
                if (at->use == USE_TAKEN && !skips(e, at->name))
                    taken(e, at);
                if (at->use == USE_REFUSED)
                    refused(e, at);
                if (at->use == USE_PASSED)
                    cr_assert_eq(read_with(e, at->name, "{\"a\":[1]}").http, 0,
                                 "%s: %s", e->name, at->name);
            }
    }
}

Test(api_fields, the_docs_name_every_field)
{
    FILE *f = fopen("docs/api.md", "r");
    char *text = calloc(1, 1u << 20), word[80];

    cr_assert_not_null(f);
    cr_assert_gt(fread(text, 1, (1u << 20) - 1, f), 0);
    fclose(f);
    for (size_t i = 0; i < ENDPOINTS; i++)
        for (uint32_t k = 0; k < endpoints[i].fields->count; k++)
            for (const struct api_field *at = endpoints[i].fields->list[k];
                 at->name != NULL; at++) {
                snprintf(word, sizeof word, "`%s`", at->name);
                cr_assert_not_null(strstr(text, word),
                                   "docs/api.md does not name %s of %s",
                                   at->name, endpoints[i].name);
            }
    free(text);
}

static unsigned g_lines;

static void on_line(void *ctx, enum hth_log_level level, const char *line)
{
    (void)ctx;
    (void)level;
    g_lines += strstr(line, "FIELD-UNKNOWN field=frobnicate") != NULL;
    cr_assert_null(strstr(line, "evil"));
}

Test(api_fields, an_unknown_field_is_logged_once)
{
    char name[16];

    hth_log_set_sink(on_line, NULL);
    hth_log_set_level(HTH_LOG_DEBUG);
    cr_assert_eq(read_with(&endpoints[0], "frobnicate", "1").http, 0);
    cr_assert_eq(read_with(&endpoints[1], "frobnicate", "2").http, 0);
    cr_assert_eq(read_with(&endpoints[0], "evil\nname", "1").http, 0);
    for (int i = 0; i < 100; i++) { /* no more than there is room for */
        snprintf(name, sizeof name, "f%d", i);
        cr_assert_eq(read_with(&endpoints[0], name, "1").http, 0);
    }
    cr_assert_eq(g_lines, 1);
    cr_assert_eq(g_api.strange.count, API_STRANGE_MAX);
    hth_log_set_sink(NULL, NULL);
}

/* Values that mean something, at their edges. */
Test(api_fields, values_that_stand_for_others)
{
    struct api_call *c = hth__api_call_new(&g_api, &hth__dialect_chat);
    static const char body[] =
        HI ",\"top_k\":-1,\"repeat_last_n\":-1,\"typical_p\":0.9,"
           "\"reasoning_effort\":\"none\",\"reasoning_format\":\"none\","
           "\"json_schema\":{\"type\":\"null\"},\"stream_options\":"
           "{\"include_usage\":true,\"continuous_usage_stats\":true}}";

    cr_assert_eq(hth__api_call_read(c, body, strlen(body)), 0, "%s",
                 c->fault.text);
    cr_assert_eq(c->ask->sampling.top_k, 0);
    cr_assert_eq(c->ask->sampling.repeat_last_n, 512);
    cr_assert_float_eq(c->ask->sampling.typical_p, 0.9f, 1e-6f);
    cr_assert(!c->ask->split_reasoning && c->ask->each_usage);
    cr_assert(
        json_is_false(json_object_get(c->ask->kwargs, "enable_thinking")));
    cr_assert_not_null(c->grammar);
    hth__api_call_free(c);
}

Test(api_fields, parts_that_are_no_text_are_named)
{
    struct api_call *c = hth__api_call_new(&g_api, &hth__dialect_chat);
    static const char body[] =
        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\","
        "\"text\":\"See\"},{\"type\":\"image_url\",\"image_url\":{}}]}]}";

    cr_assert_eq(hth__api_call_read(c, body, strlen(body)), -1);
    cr_assert_eq(c->fault.http, 400);
    cr_assert_not_null(strstr(c->fault.text, "messages[0].content[1]"));
    cr_assert_not_null(strstr(c->fault.text, "image_url"));
    hth__api_call_free(c);
}
