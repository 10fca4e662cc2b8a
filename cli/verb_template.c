/* verb_template.c - a chat template on a conversation: the prompt that a
 * request would become, byte for byte. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/out.h"
#include "cli/verbs.h"
#include "model/jinja.h"

#define VARS_MAX 64u

struct job {
    struct hth_jinja *template;
    json_t *input; /* the case */
    struct hth_jinja_var vars[VARS_MAX];
    size_t count;
};

static void add(struct job *j, const char *name, const json_t *value)
{
    if (value != NULL && j->count < VARS_MAX)
        j->vars[j->count++] =
            (struct hth_jinja_var){.name = name, .value = value};
}

/* The template: a file's text, or what a model file carries. */
static int open_template(const struct hth_args *args, struct job *j,
                         struct hth_err *err)
{
    const char *path = hth_args_text(args, "file");
    const char *model = hth_args_text(args, "model");
    struct hth_gguf *gguf = NULL;
    struct hth_str source;
    struct hth_buf text;
    int rc;

    if ((path == NULL) == (model == NULL))
        return hth_fail(err, HTH_EUSAGE,
                        "template takes --file TEMPLATE or -m MODEL");
    hth_buf_init(&text, HTH_JINJA_SOURCE_BYTES_MAX);
    if (path != NULL) {
        rc = hth_read_file(path, &text, err);
        source = (struct hth_str){hth_buf_cstr(&text), text.len};
    } else {
        rc = hth_gguf_open(&gguf, model, err);
        if (rc == HTH_OK)
            rc = hth_gguf_string(gguf, "tokenizer.chat_template", &source, err);
    }
    if (rc == HTH_OK)
        rc = hth_jinja_open(&j->template, source, err);
    hth_gguf_close(gguf);
    hth_buf_fini(&text);
    return rc;
}

static int read_case(struct job *j, struct hth_err *err)
{
    struct hth_buf text;
    json_error_t why;
    int rc;

    hth_buf_init(&text, HTH_TEXT_BYTES_MAX);
    rc = hth_read_file("-", &text, err);
    if (rc == HTH_OK) {
        j->input = json_loadb(hth_buf_cstr(&text), text.len, 0, &why);
        if (!json_is_object(j->input))
            rc = hth_fail(err, HTH_EFORMAT,
                          "standard input is no JSON object: %s",
                          j->input == NULL ? why.text : "another value");
    }
    hth_buf_fini(&text);
    return rc;
}

/* "2026-01-02 03:04:05", or nothing: the clock. */
static int read_now(const char *text, struct tm *out, struct hth_err *err)
{
    time_t now = time(NULL);
    struct tm t = {.tm_isdst = 0};
    const char *end;

    if (text == NULL) {
        localtime_r(&now, out);
        return HTH_OK;
    }
    end = strptime(text, "%Y-%m-%d %H:%M:%S", &t);
    if (end == NULL || *end != '\0')
        return hth_fail(err, HTH_EUSAGE,
                        "--now takes \"YYYY-MM-DD HH:MM:SS\", not \"%s\"",
                        text);
    *out = t;
    return HTH_OK;
}

static int render(struct job *j, const struct tm *now, struct hth_err *err)
{
    static const char *const names[] = {
        "messages", "tools", "add_generation_prompt", "bos_token", "eos_token"};
    struct hth_jinja_input in = {.vars = j->vars, .now = *now};
    json_t *extra = json_object_get(j->input, "kwargs");
    struct hth_buf text, plain;
    int rc;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        add(j, names[i], json_object_get(j->input, names[i]));
    for (void *it = json_object_iter(extra); it != NULL;
         it = json_object_iter_next(extra, it))
        add(j, json_object_iter_key(it), json_object_iter_value(it));
    in.count = j->count;
    hth_buf_init(&text, HTH_TEXT_BYTES_MAX);
    hth_buf_init(&plain, HTH_TEXT_BYTES_MAX);
    rc = hth_jinja_render(j->template, &in, &text, &plain, err);
    if (rc == HTH_OK)
        rc = hth_out_buf(&text, err);
    hth_buf_fini(&text);
    hth_buf_fini(&plain);
    return rc;
}

int hth_verb_template(const struct hth_args *args, struct hth_err *err)
{
    struct job j = {.count = 0};
    struct tm now = {.tm_isdst = 0};
    int rc = read_now(hth_args_text(args, "now"), &now, err);

    if (rc == HTH_OK)
        rc = open_template(args, &j, err);
    if (rc == HTH_OK)
        rc = read_case(&j, err);
    if (rc == HTH_OK)
        rc = render(&j, &now, err);
    json_decref(j.input);
    hth_jinja_close(j.template);
    return rc;
}
