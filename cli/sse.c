/* sse.c - see sse.h. Only lines that begin with "data:" count; comments and
 * other fields are passed over, as the standard says. */
#include "cli/sse.h"

#include <jansson.h>
#include <string.h>

void hth_sse_init(struct hth_sse *s,
                  void (*on_event)(void *, const struct hth_sse_event *),
                  void *ctx)
{
    s->on_event = on_event;
    s->ctx = ctx;
    s->used = 0;
    s->skipping = false;
}

static bool has_text(const json_t *object, const char *key)
{
    return json_string_length(json_object_get(object, key)) > 0;
}

/* A chunk of a text completion, or the delta of a chat's. */
static void read_choice(const json_t *choice, struct hth_sse_event *e)
{
    const json_t *delta = json_object_get(choice, "delta");

    e->text = has_text(choice, "text") || has_text(delta, "content") ||
              has_text(delta, "reasoning_content");
}

static void read_data(const char *p, size_t n, struct hth_sse_event *e)
{
    json_t *v = json_loadb(p, n, 0, NULL);
    json_int_t tokens;

    if (v == NULL || json_object_get(v, "error") != NULL) {
        e->error = true;
        json_decref(v);
        return;
    }
    read_choice(json_array_get(json_object_get(v, "choices"), 0), e);
    tokens = json_integer_value(
        json_object_get(json_object_get(v, "usage"), "completion_tokens"));
    if (tokens > 0 && tokens <= UINT32_MAX)
        e->tokens = (uint32_t)tokens;
    json_decref(v);
}

static void end_line(struct hth_sse *s)
{
    struct hth_sse_event e = {.error = s->skipping};
    const char *p = s->line + 5;
    size_t n = s->used;

    s->used = 0;
    s->skipping = false;
    if (n > 0 && s->line[n - 1] == '\r')
        n--;
    if (n < 5 || memcmp(s->line, "data:", 5) != 0)
        return;
    n -= 5;
    if (n > 0 && *p == ' ') {
        p++;
        n--;
    }
    if (n == 6 && memcmp(p, "[DONE]", 6) == 0)
        e.done = true;
    else if (!e.error)
        read_data(p, n, &e);
    s->on_event(s->ctx, &e);
}

void hth_sse_feed(struct hth_sse *s, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n')
            end_line(s);
        else if (s->used < sizeof s->line)
            s->line[s->used++] = p[i];
        else
            s->skipping = true;
    }
}
