/* chat.c - a model's chat template: opening it, trying out what it can do,
 * rendering a conversation, and turning the prompt into tokens. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/limits.h"
#include "base/log.h"
#include "model/chat_internal.h"

#define VARS_MAX 64u

/* What most models without a template of their own have seen. */
static const char g_chatml[] =
    "{% for m in messages %}"
    "{{ '<|im_start|>' + m.role + '\\n' + (m.content or '') + "
    "'<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/* ---- rendering -------------------------------------------------------------
 */

void hth_chat_prompt_init(struct hth_chat_prompt *p)
{
    *p = (struct hth_chat_prompt){.reasoning = false};
    hth_buf_init(&p->text, HTH_TEXT_BYTES_MAX);
    hth_buf_init(&p->plain, HTH_TEXT_BYTES_MAX);
}

void hth_chat_prompt_fini(struct hth_chat_prompt *p)
{
    hth_buf_fini(&p->text);
    hth_buf_fini(&p->plain);
}

static struct tm time_of(int64_t now_s)
{
    time_t t = now_s != 0 ? (time_t)now_s : time(NULL);
    struct tm out = {.tm_mday = 1};

    if (now_s != 0)
        gmtime_r(&t, &out);
    else
        localtime_r(&t, &out);
    return out;
}

struct vars {
    struct hth_jinja_var at[VARS_MAX];
    size_t count;
    json_t *own[4]; /* made here */
};

static void add(struct vars *v, const char *name, const json_t *value,
                bool plain)
{
    if (value != NULL && v->count < VARS_MAX)
        v->at[v->count++] = (struct hth_jinja_var){name, value, plain};
}

static void add_all(const struct hth_chat *c, const struct hth_chat_input *in,
                    const json_t *messages, struct vars *v)
{
    json_t *kwargs = (json_t *)(uintptr_t)in->kwargs; /* jansson iterates so */

    v->own[0] = json_string(c->bos);
    v->own[1] = json_string(c->eos);
    v->own[2] = json_boolean(in->generate);
    v->own[3] = json_null();
    add(v, "messages", messages, true);
    add(v, "tools", in->tools != NULL ? in->tools : v->own[3], true);
    for (void *it = json_object_iter(kwargs); it != NULL;
         it = json_object_iter_next(kwargs, it))
        add(v, json_object_iter_key(it), json_object_iter_value(it), true);
    add(v, "bos_token", v->own[0], false);
    add(v, "eos_token", v->own[1], false);
    add(v, "add_generation_prompt", v->own[2], false);
}

/* Does the text end with the mark that opens the reasoning? */
static bool ends_thinking(const struct hth_chat *c, const struct hth_buf *text)
{
    size_t n = text->len, k = strlen(c->think_open);

    while (n > 0 && strchr(" \n\t\r", text->data[n - 1]) != NULL &&
           text->data[n - 1] != '\0')
        n--;
    return n >= k && memcmp(text->data + n - k, c->think_open, k) == 0;
}

/* Render messages that are already as the template wants them. */
static int render(const struct hth_chat *c, const struct hth_chat_input *in,
                  const json_t *messages, struct hth_chat_prompt *out,
                  struct hth_err *err)
{
    struct vars v = {.count = 0};
    struct hth_jinja_input input = {.vars = v.at, .now = time_of(in->now_s)};
    int rc;

    add_all(c, in, messages, &v);
    input.count = v.count;
    rc = hth_jinja_render(c->jinja, &input, &out->text, &out->plain, err);
    for (size_t i = 0; i < 4; i++)
        json_decref(v.own[i]);
    if (rc == HTH_OK)
        out->reasoning = in->generate && ends_thinking(c, &out->text);
    return rc;
}

int hth_chat_render(const struct hth_chat *c, const struct hth_chat_input *in,
                    struct hth_chat_prompt *out, struct hth_err *err)
{
    int rc = HTH_OK;
    json_t *messages = hth_chat__messages(c, in->messages, &rc, err);

    if (messages == NULL)
        return rc;
    rc = render(c, in, messages, out, err);
    json_decref(messages);
    return rc;
}

int hth_chat_tokenize(const struct hth_tokenizer *t,
                      const struct hth_chat_prompt *p, struct hth_tokens *out,
                      struct hth_err *err)
{
    struct hth_tokens ids = {0};
    struct hth_str text = {(const char *)p->text.data, p->text.len};
    uint32_t bos = hth_tokenizer_bos(t);
    int rc = HTH_OK;

    if (text.n > 0)
        rc = hth_tokenize_marked(t, text, p->plain.data, &ids, err);
    if (rc == HTH_OK && hth_tokenizer_adds_bos(t) && bos != HTH_TOKEN_NONE &&
        (ids.count == 0 || ids.ids[0] != bos))
        rc = hth_tokens_push(out, bos);
    for (size_t i = 0; i < ids.count && rc == HTH_OK; i++)
        rc = hth_tokens_push(out, ids.ids[i]);
    if (rc == HTH_ENOMEM)
        hth_fail(err, rc, "no memory for the prompt's tokens");
    hth_tokens_fini(&ids);
    return rc;
}

/* ---- trying out ------------------------------------------------------------
 */

/* Does the template take this conversation, and its text hold the needle? */
static bool holds(const struct hth_chat *c, const char *messages,
                  const char *tools, const char *needle)
{
    json_t *m = json_loads(messages, 0, NULL);
    json_t *t = tools == NULL ? NULL : json_loads(tools, 0, NULL);
    struct hth_chat_input in = {.tools = t, .generate = true, .now_s = 1};
    struct hth_chat_prompt p;
    bool yes;

    hth_chat_prompt_init(&p);
    yes = m != NULL && render(c, &in, m, &p, NULL) == HTH_OK &&
          strstr(hth_buf_cstr(&p.text), needle) != NULL;
    hth_chat_prompt_fini(&p);
    json_decref(m);
    json_decref(t);
    return yes;
}

/* Conversations with something in them that is easily found again. */
static void try_out(struct hth_chat *c)
{
    static const char user[] = "[{\"role\":\"user\",\"content\":\"qzuserq\"}]";
    static const char parts[] =
        "[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
        "\"qzuserq\"}]}]";
    static const char system[] =
        "[{\"role\":\"system\",\"content\":\"qzsystemq\"},"
        "{\"role\":\"user\",\"content\":\"qzuserq\"}]";
    static const char tools[] =
        "[{\"type\":\"function\",\"function\":{\"name\":\"qztoolq\","
        "\"description\":\"d\",\"parameters\":{\"type\":\"object\","
        "\"properties\":{\"k\":{\"type\":\"string\",\"description\":\"d\"}},"
        "\"required\":[\"k\"]}}}]";
    static const char call[] =
        "[{\"role\":\"user\",\"content\":\"qzuserq\"},{\"role\":\"assistant\","
        "\"content\":\"\",\"tool_calls\":[{\"id\":\"call00001\","
        "\"type\":\"function\",\"function\":{\"name\":\"qztoolq\","
        "\"arguments\":{\"qzargq\":\"v\"}}}]},{\"role\":\"tool\","
        "\"name\":\"qztoolq\",\"tool_call_id\":\"call00001\","
        "\"content\":\"r\"}]";

    c->wants_parts =
        !holds(c, user, NULL, "qzuserq") && holds(c, parts, NULL, "qzuserq");
    c->tools = holds(c, user, tools, "qztoolq");
    c->no_system = !holds(c, system, NULL, "qzsystemq");
    c->wants_text_args = !holds(c, call, tools, "qzargq");
    c->knows_developer = strstr(c->source, "developer") != NULL;
}

static void find_thinking(struct hth_chat *c)
{
    static const char *const marks[][2] = {
        {"<think>", "</think>"},
        {"[THINK]", "[/THINK]"},
        {"<seed:think>", "</seed:think>"},
        {"<|START_THINKING|>", "<|END_THINKING|>"},
        {"<|inner_prefix|>", "<|inner_suffix|>"},
    };

    c->think_open = marks[0][0];
    c->think_close = marks[0][1];
    c->reasoning = c->family->body == HTH_CALL_HARMONY;
    for (size_t i = 0; i < sizeof marks / sizeof marks[0] && !c->reasoning; i++)
        if (strstr(c->source, marks[i][1]) != NULL) {
            c->think_open = marks[i][0];
            c->think_close = marks[i][1];
            c->reasoning = true;
        }
}

/* ---- life ------------------------------------------------------------------
 */

static char *token_text(const struct hth_tokenizer *t, uint32_t id)
{
    char text[HTH_SPECIAL_BYTES_MAX + 1];
    size_t n = 0;

    if (t != NULL && id != HTH_TOKEN_NONE)
        n = hth_token_bytes(t, id, true, text, sizeof text - 1);
    text[n] = '\0';
    return strdup(text);
}

static int compile(struct hth_chat *c, struct hth_str source,
                   struct hth_err *err)
{
    int rc = hth_jinja_open(&c->jinja, source, err);

    if (rc != HTH_OK)
        return rc;
    c->source = strndup(source.p, source.n);
    return c->source != NULL ? HTH_OK : HTH_ENOMEM;
}

/* The caller's template, the file's, or ChatML with the reason why. */
static int choose_source(struct hth_chat *c, const struct hth_chat_opts *o,
                         struct hth_err *err)
{
    static const struct hth_str chatml = {g_chatml, sizeof g_chatml - 1};
    struct hth_str source = o->source;
    struct hth_err why = {.status = HTH_OK};
    int rc = HTH_OK;

    if (source.p == NULL)
        rc = o->gguf == NULL
                 ? hth_fail(&why, HTH_ENOTFOUND, "no chat template is given")
                 : hth_gguf_string(o->gguf, "tokenizer.chat_template", &source,
                                   &why);
    if (rc == HTH_OK)
        rc = compile(c, source, &why);
    if (rc == HTH_OK || rc == HTH_ENOMEM)
        return rc;
    if (o->strict) {
        if (err != NULL)
            *err = why;
        return rc;
    }
    memcpy(c->problem, why.text, sizeof c->problem);
    if (!o->quiet)
        hth_log(HTH_LOG_WARN, "TEMPLATE-FALLBACK",
                "ChatML is used in place of the model's chat template: %s",
                why.text);
    return compile(c, chatml, err);
}

int hth_chat_open(struct hth_chat **out, const struct hth_chat_opts *o,
                  struct hth_err *err)
{
    const struct hth_tokenizer *t = o->tokenizer;
    struct hth_chat *c = calloc(1, sizeof *c);
    int rc;

    if (c == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a chat template");
    rc = choose_source(c, o, err);
    if (rc == HTH_OK) {
        c->bos =
            token_text(t, t != NULL ? hth_tokenizer_bos(t) : HTH_TOKEN_NONE);
        c->eos =
            token_text(t, t != NULL ? hth_tokenizer_eos(t) : HTH_TOKEN_NONE);
        rc = c->bos != NULL && c->eos != NULL ? HTH_OK : HTH_ENOMEM;
    }
    if (rc != HTH_OK) {
        if (rc == HTH_ENOMEM)
            hth_fail(err, rc, "no memory for a chat template");
        hth_chat_close(c);
        return rc;
    }
    c->family = hth_chat__family_of(c->source);
    find_thinking(c);
    try_out(c);
    *out = c;
    return HTH_OK;
}

void hth_chat_close(struct hth_chat *c)
{
    if (c == NULL)
        return;
    hth_jinja_close(c->jinja);
    free(c->source);
    free(c->bos);
    free(c->eos);
    free(c);
}

const char *hth_chat_source(const struct hth_chat *c)
{
    return c->source;
}

const char *hth_chat_problem(const struct hth_chat *c)
{
    return c->problem;
}

bool hth_chat_has_tools(const struct hth_chat *c)
{
    return c->tools;
}

bool hth_chat_has_reasoning(const struct hth_chat *c)
{
    return c->reasoning;
}
