/* chat.c - ChatML for every model, until the interpreter of the files' own
 * templates takes its place: a prompt, its tokens, and an answer that is all
 * content. */
#include "model/chat.h"

#include <stdlib.h>
#include <string.h>

#include "base/limits.h"

struct hth_chat {
    char problem[64];
};

struct hth_chat_parser {
    struct hth_chat_parser_opts o;
};

int hth_chat_open(struct hth_chat **out, const struct hth_chat_opts *o,
                  struct hth_err *err)
{
    struct hth_chat *c = calloc(1, sizeof *c);

    (void)o;
    if (c == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    *out = c;
    return HTH_OK;
}

void hth_chat_close(struct hth_chat *c)
{
    free(c);
}

const char *hth_chat_source(const struct hth_chat *c)
{
    (void)c;
    return "chatml";
}

const char *hth_chat_problem(const struct hth_chat *c)
{
    return c->problem;
}

bool hth_chat_has_tools(const struct hth_chat *c)
{
    (void)c;
    return false;
}

bool hth_chat_has_reasoning(const struct hth_chat *c)
{
    (void)c;
    return false;
}

void hth_chat_prompt_init(struct hth_chat_prompt *p)
{
    memset(p, 0, sizeof *p);
    hth_buf_init(&p->text, HTH_PROMPT_BYTES_MAX);
    hth_buf_init(&p->plain, HTH_PROMPT_BYTES_MAX);
}

void hth_chat_prompt_fini(struct hth_chat_prompt *p)
{
    hth_buf_fini(&p->text);
    hth_buf_fini(&p->plain);
}

static void put(struct hth_chat_prompt *p, const char *text, bool plain)
{
    hth_put_printf(&p->text, "%s", text);
    while (p->plain.len < p->text.len && !p->plain.failed)
        hth_put_u8(&p->plain, plain);
}

static void put_content(struct hth_chat_prompt *p, const json_t *v)
{
    const json_t *part;
    size_t i;

    if (json_is_string(v))
        put(p, json_string_value(v), true);
    json_array_foreach(v, i, part)
    {
        const char *text = json_string_value(json_object_get(part, "text"));

        if (text != NULL)
            put(p, text, true);
    }
}

int hth_chat_render(const struct hth_chat *c, const struct hth_chat_input *in,
                    struct hth_chat_prompt *out, struct hth_err *err)
{
    const json_t *m;
    size_t i;

    (void)c;
    json_array_foreach(in->messages, i, m)
    {
        const char *role = json_string_value(json_object_get(m, "role"));

        put(out, "<|im_start|>", false);
        put(out, role != NULL ? role : "user", true);
        put(out, "\n", false);
        put_content(out, json_object_get(m, "content"));
        put(out, "<|im_end|>\n", false);
    }
    if (in->generate)
        put(out, "<|im_start|>assistant\n", false);
    return out->text.failed
               ? hth_fail(err, HTH_ELIMIT, "the prompt is too long")
               : HTH_OK;
}

int hth_chat_tokenize(const struct hth_tokenizer *t,
                      const struct hth_chat_prompt *p, struct hth_tokens *out,
                      struct hth_err *err)
{
    size_t from = 0, to;
    int status = HTH_OK;

    if (hth_tokenizer_adds_bos(t) && hth_tokenizer_bos(t) != HTH_TOKEN_NONE)
        status = hth_tokens_push(out, hth_tokenizer_bos(t));
    for (; status == HTH_OK && from < p->text.len; from = to) {
        for (to = from + 1;
             to < p->text.len && p->plain.data[to] == p->plain.data[from]; to++)
            ;
        status = hth_tokenize(
            t, (struct hth_str){(char *)p->text.data + from, to - from},
            p->plain.data[from] == 0, out, err);
    }
    return status;
}

int hth_chat_parser_open(struct hth_chat_parser **out, const struct hth_chat *c,
                         const struct hth_chat_parser_opts *o)
{
    struct hth_chat_parser *p = calloc(1, sizeof *p);

    (void)c;
    if (p == NULL)
        return HTH_ENOMEM;
    p->o = *o;
    *out = p;
    return HTH_OK;
}

void hth_chat_parser_close(struct hth_chat_parser *p)
{
    free(p);
}

int hth_chat_parser_push(struct hth_chat_parser *p, const char *text, size_t n)
{
    struct hth_chat_piece piece = {.part = HTH_CHAT_CONTENT, .text = {text, n}};

    p->o.sink(p->o.ctx, &piece);
    return HTH_OK;
}

void hth_chat_parser_finish(struct hth_chat_parser *p)
{
    (void)p;
}
