/* chat_talk.c - the conversation of `hearth chat`. */
#include <stdlib.h>
#include <string.h>

#include "cli/chat.h"
#include "cli/out.h"

#define FILE_BYTES_MAX (64u << 20)

static int no_memory(struct hth_err *err)
{
    return hth_fail(err, HTH_ENOMEM, "out of memory");
}

int hth_chat_talk_init(struct hth_chat_talk *t, struct hth_err *err)
{
    *t = (struct hth_chat_talk){.messages = json_array()};
    return t->messages != NULL ? HTH_OK : no_memory(err);
}

void hth_chat_talk_fini(struct hth_chat_talk *t)
{
    json_decref(t->messages);
    free(t->system);
    *t = (struct hth_chat_talk){.messages = NULL};
}

void hth_chat_talk_clear(struct hth_chat_talk *t)
{
    json_array_clear(t->messages);
}

int hth_chat_talk_system(struct hth_chat_talk *t, const char *text,
                         struct hth_err *err)
{
    char *copy = text != NULL ? strdup(text) : NULL;

    if (text != NULL && copy == NULL)
        return no_memory(err);
    free(t->system);
    t->system = copy;
    return HTH_OK;
}

int hth_chat_talk_add(struct hth_chat_talk *t, const char *role,
                      const struct hth_buf *text, struct hth_err *err)
{
    json_t *content =
        json_stringn(text->len > 0 ? (const char *)text->data : "", text->len);
    json_t *m;

    if (content == NULL)
        return hth_fail(err, HTH_EINVAL, "the text is not UTF-8");
    m = json_pack("{s:s,s:o}", "role", role, "content", content);
    if (m == NULL || json_array_append_new(t->messages, m) != 0)
        return no_memory(err);
    return HTH_OK;
}

void hth_chat_talk_drop(struct hth_chat_talk *t)
{
    size_t n = json_array_size(t->messages);

    if (n > 0)
        (void)json_array_remove(t->messages, n - 1);
}

/* The system message stands in front of what was said. */
static json_t *all_messages(const struct hth_chat_talk *t)
{
    json_t *all = json_copy(t->messages);

    if (all == NULL || t->system == NULL)
        return all;
    (void)json_array_insert_new(
        all, 0, json_pack("{s:s,s:s}", "role", "system", "content", t->system));
    return all;
}

int hth_chat_talk_text(const struct hth_chat_talk *t, struct hth_buf *out,
                       struct hth_err *err)
{
    json_t *o =
        json_pack("{s:o,s:o*}", "messages", all_messages(t), "response_format",
                  t->json ? json_pack("{s:s}", "type", "json_object") : NULL);
    char *text = o != NULL ? json_dumps(o, JSON_COMPACT) : NULL;
    int rc = HTH_OK;

    hth_buf_reset(out);
    if (text == NULL)
        rc = no_memory(err);
    else
        hth_put_bytes(out, text, strlen(text));
    if (out->failed)
        rc = hth_fail(err, HTH_ELIMIT,
                      "the conversation is longer than %zu bytes; /clear "
                      "begins a new one",
                      out->max);
    free(text);
    json_decref(o);
    return rc;
}

int hth_chat_talk_save(const struct hth_chat_talk *t, const char *path,
                       struct hth_err *err)
{
    json_t *o = json_pack("{s:o}", "messages", all_messages(t));
    int rc = o == NULL ? no_memory(err) : HTH_OK;

    if (rc == HTH_OK && json_dump_file(o, path, JSON_INDENT(1)) != 0)
        rc = hth_fail(err, HTH_EIO, "%s cannot be written", path);
    json_decref(o);
    return rc;
}

/* Does the file hold what save wrote, or another program's messages? */
static bool are_messages(const json_t *list)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *m = json_array_get(list, i);

        if (!json_is_string(json_object_get(m, "role")))
            return false;
    }
    return json_is_array(list);
}

int hth_chat_talk_load(struct hth_chat_talk *t, const char *path,
                       struct hth_err *err)
{
    struct hth_buf text;
    json_t *o = NULL, *list;
    int rc;

    hth_buf_init(&text, FILE_BYTES_MAX);
    rc = hth_read_file(path, &text, err);
    if (rc == HTH_OK)
        o = json_loadb(hth_buf_cstr(&text), text.len, 0, NULL);
    list = json_is_array(o) ? o : json_object_get(o, "messages");
    if (rc == HTH_OK && !are_messages(list))
        rc = hth_fail(err, HTH_EFORMAT, "%s holds no conversation", path);
    if (rc == HTH_OK) {
        rc = hth_chat_talk_system(t, NULL, err);
        json_array_clear(t->messages);
        (void)json_array_extend(t->messages, list);
    }
    json_decref(o);
    hth_buf_fini(&text);
    return rc;
}
