/* verb_tokenize.c - tokenize and detokenize: a model's vocabulary on the
 * command line. Text is bytes; a text beyond HTH_TEXT_BYTES_MAX is refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/out.h"
#include "cli/verbs.h"
#include "model/tokenizer.h"

#define ID_TEXT_BYTES 12u

static int open_tokenizer(const struct hth_args *args,
                          struct hth_tokenizer **out, struct hth_err *err)
{
    struct hth_gguf *gguf;
    int rc = hth_gguf_open(&gguf, hth_args_text(args, "model"), err);

    if (rc != HTH_OK)
        return rc;
    rc = hth_tokenizer_open(out, gguf, err);
    hth_gguf_close(gguf);
    return rc;
}

static int print_ids(const struct hth_tokens *ids, bool json,
                     struct hth_err *err)
{
    const char *separator = json ? "," : " ";
    struct hth_buf out;
    int rc;

    hth_buf_init(&out, (ids->count + 1) * ID_TEXT_BYTES);
    if (json)
        hth_put_u8(&out, '[');
    for (size_t i = 0; i < ids->count; i++)
        hth_put_printf(&out, "%s%u", i == 0 ? "" : separator, ids->ids[i]);
    hth_put_printf(&out, json ? "]\n" : "\n");
    rc = hth_out_buf(&out, err);
    hth_buf_fini(&out);
    return rc;
}

static int tokenize(const struct hth_args *args, const struct hth_tokenizer *t,
                    const struct hth_buf *text, struct hth_err *err)
{
    struct hth_tokens ids = {0};
    int rc = HTH_OK;

    if (hth_args_flag(args, "bos") && hth_tokenizer_adds_bos(t) &&
        hth_tokenizer_bos(t) != HTH_TOKEN_NONE)
        rc = hth_tokens_push(&ids, hth_tokenizer_bos(t));
    if (rc == HTH_OK)
        rc = hth_tokenize(t,
                          (struct hth_str){(const char *)text->data, text->len},
                          hth_args_flag(args, "special"), &ids, err);
    if (rc == HTH_OK)
        rc = print_ids(&ids, hth_args_flag(args, "json"), err);
    hth_tokens_fini(&ids);
    return rc;
}

int hth_verb_tokenize(const struct hth_args *args, struct hth_err *err)
{
    struct hth_tokenizer *t = NULL;
    struct hth_buf text;
    int rc;

    hth_buf_init(&text, HTH_TEXT_BYTES_MAX);
    rc = open_tokenizer(args, &t, err);
    if (rc == HTH_OK)
        rc = hth_read_file("-", &text, err);
    if (rc == HTH_OK)
        rc = tokenize(args, t, &text, err);
    hth_buf_fini(&text);
    hth_tokenizer_close(t);
    return rc;
}

struct detok {
    const struct hth_tokenizer *t;
    bool special;
    struct hth_detok state;
    struct hth_buf out;
};

/* Every id of text, whatever separates them; anything else is refused by its
 * own text. */
static int push_ids(struct detok *d, const char *text, struct hth_err *err)
{
    static const char separators[] = " ,\t\r\n[]";

    for (text += strspn(text, separators); *text != '\0';
         text += strspn(text, separators)) {
        size_t n = strcspn(text, separators);
        char word[ID_TEXT_BYTES];
        int64_t id;

        snprintf(word, sizeof word, "%.*s", (int)(n < 11 ? n : 11), text);
        if (n > 10 || hth_parse_int(word, &id) != HTH_OK || id < 0 ||
            id >= hth_tokenizer_vocab(d->t))
            return hth_fail(err, HTH_EINVAL,
                            "\"%s\" is no token id of this model: ids go from "
                            "0 to %u",
                            word, hth_tokenizer_vocab(d->t) - 1);
        hth_detok_push(&d->state, d->t, (uint32_t)id, d->special, &d->out);
        text += n;
    }
    return HTH_OK;
}

static int push_input(struct detok *d, const struct hth_args *args,
                      struct hth_err *err)
{
    struct hth_buf text;
    int rc = HTH_OK;

    if (args->operand_count > 0) {
        for (unsigned i = 0; i < args->operand_count && rc == HTH_OK; i++)
            rc = push_ids(d, args->operands[i], err);
        return rc;
    }
    hth_buf_init(&text, HTH_TEXT_BYTES_MAX);
    rc = hth_read_file("-", &text, err);
    if (rc == HTH_OK)
        rc = push_ids(d, hth_buf_cstr(&text), err);
    hth_buf_fini(&text);
    return rc;
}

/* No newline is added: the text is exactly what the tokens say. */
int hth_verb_detokenize(const struct hth_args *args, struct hth_err *err)
{
    struct hth_tokenizer *t = NULL;
    struct detok d = {.special = hth_args_flag(args, "special")};
    int rc = open_tokenizer(args, &t, err);

    if (rc != HTH_OK)
        return rc;
    d.t = t;
    hth_detok_init(&d.state, true);
    hth_buf_init(&d.out, 8 * (size_t)HTH_TEXT_BYTES_MAX);
    rc = push_input(&d, args, err);
    if (rc == HTH_OK) {
        hth_detok_finish(&d.state, &d.out);
        rc = hth_out_buf(&d.out, err);
    }
    hth_buf_fini(&d.out);
    hth_tokenizer_close(t);
    return rc;
}
