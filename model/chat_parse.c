/* chat_parse.c - an answer while it is being written: what is reasoning, what
 * is content, what is a call of a tool. What may still turn out to be a marker
 * waits in `pending`. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "model/chat_internal.h"

enum mode {
    MODE_START, /* nothing but white space so far */
    MODE_REASONING,
    MODE_CONTENT,
    MODE_CALL,   /* behind an opening marker */
    MODE_WHOLE,  /* the answer looks like a call from its first byte on */
    MODE_HEADER, /* harmony: between messages */
    MODE_CHANNEL /* harmony: inside one */
};

struct hth_chat_parser {
    const struct hth_chat *c;
    struct hth_chat_parser_opts o;
    struct hth_buf pending;
    enum mode mode;
    bool fresh; /* white space in front is dropped */
    bool after; /* something stood before the content */
    uint32_t calls;
    enum hth_chat_part channel; /* of the harmony message */
    char *tool;                 /* its recipient */
};

static void drop(struct hth_chat_parser *p, size_t n)
{
    if (n == 0)
        return;
    memmove(p->pending.data, p->pending.data + n, p->pending.len - n);
    p->pending.len -= n;
}

static void enter(struct hth_chat_parser *p, enum mode mode, size_t skip)
{
    drop(p, skip);
    p->mode = mode;
    p->fresh = true;
}

int hth_chat_parser_open(struct hth_chat_parser **out, const struct hth_chat *c,
                         const struct hth_chat_parser_opts *o)
{
    struct hth_chat_parser *p = calloc(1, sizeof *p);

    if (p == NULL)
        return HTH_ENOMEM;
    p->c = c;
    p->o = *o;
    hth_buf_init(&p->pending, HTH_TOOL_CALL_BYTES_MAX);
    if (c->family->body == HTH_CALL_HARMONY)
        p->mode = MODE_HEADER;
    else if (o->reasoning && o->split_reasoning)
        enter(p, MODE_REASONING, 0);
    *out = p;
    return HTH_OK;
}

void hth_chat_parser_close(struct hth_chat_parser *p)
{
    if (p == NULL)
        return;
    hth_buf_fini(&p->pending);
    free(p->tool);
    free(p);
}

uint32_t hth_chat_parser_calls(const struct hth_chat_parser *p)
{
    return p->calls;
}

/* ---- pieces out -------------------------------------------------------------
 */

/* Send the first n pending bytes; white space in front of content is part of
 * the markers around it. */
static void emit(struct hth_chat_parser *p, enum hth_chat_part part, size_t n)
{
    struct hth_chat_piece piece = {.part = part};
    size_t from = 0;

    while (p->fresh && from < n && isspace(p->pending.data[from]))
        from++;
    if (from < n) {
        p->fresh = false;
        piece.text =
            (struct hth_str){(const char *)p->pending.data + from, n - from};
        p->o.sink(p->o.ctx, &piece);
    }
    drop(p, n);
}

static void emit_call(struct hth_chat_parser *p, const char *name,
                      const char *arguments)
{
    struct hth_chat_piece piece = {
        .part = HTH_CHAT_TOOL,
        .text = {arguments, strlen(arguments)},
        .name = {name, strlen(name)},
        .index = p->calls,
    };

    if (p->calls < HTH_TOOL_CALLS_MAX) {
        p->calls++;
        p->o.sink(p->o.ctx, &piece);
    }
}

/* ---- markers ----------------------------------------------------------------
 */

struct hit {
    size_t at;      /* where it begins, or where it may begin */
    size_t n;       /* its length; 0: none so far */
    uint32_t which; /* of the marks */
};

/* The first of the marks in the pending text; without one, `at` is the place
 * from which on one may still come. */
static struct hit find(const struct hth_chat_parser *p,
                       const char *const *marks)
{
    const uint8_t *text = p->pending.data;
    size_t n = p->pending.len;

    for (size_t at = 0; at < n; at++)
        for (uint32_t m = 0; marks[m] != NULL; m++) {
            size_t k = strlen(marks[m]), have = n - at;

            if (text[at] != (uint8_t)marks[m][0])
                continue;
            if (have >= k && memcmp(text + at, marks[m], k) == 0)
                return (struct hit){at, k, m};
            if (have < k && memcmp(text + at, marks[m], have) == 0)
                return (struct hit){.at = at};
        }
    return (struct hit){.at = n};
}

/* Each step returns true when it changed the mode: go on with what is left. */

static bool begins_with(const struct hth_chat_parser *p, size_t at,
                        const char *mark, bool *maybe)
{
    size_t k = strlen(mark), have = p->pending.len - at;

    if (memcmp(p->pending.data + at, mark, have < k ? have : k) != 0)
        return false;
    *maybe = *maybe || have < k;
    return have >= k;
}

static bool step_start(struct hth_chat_parser *p)
{
    static const char python[] = "<|python_tag|>";
    const struct hth_chat__family *f = p->c->family;
    bool maybe = false;
    size_t at = 0;

    while (at < p->pending.len && isspace(p->pending.data[at]))
        at++;
    if (at == p->pending.len)
        return false;
    if (p->o.split_reasoning && p->c->reasoning &&
        begins_with(p, at, p->c->think_open, &maybe)) {
        enter(p, MODE_REASONING, at + strlen(p->c->think_open));
        return true;
    }
    if (p->o.tools && f->open == NULL) {
        if (p->pending.data[at] == '{') {
            enter(p, MODE_WHOLE, at);
            return true;
        }
        if (begins_with(p, at, python, &maybe)) {
            enter(p, MODE_WHOLE, at + sizeof python - 1);
            return true;
        }
    }
    if (maybe)
        return false;
    enter(p, MODE_CONTENT, 0);
    p->fresh = p->after;
    return true;
}

static bool step_reasoning(struct hth_chat_parser *p)
{
    const char *const marks[] = {p->c->think_close, NULL};
    struct hit h = find(p, marks);

    emit(p, HTH_CHAT_REASONING, h.at);
    if (h.n == 0)
        return false;
    enter(p, MODE_START, h.n);
    p->after = true;
    return true;
}

/* White space before a marker goes with it, so it waits. */
static size_t without_space(const struct hth_chat_parser *p, size_t n)
{
    while (n > 0 && isspace(p->pending.data[n - 1]))
        n--;
    return n;
}

static bool step_content(struct hth_chat_parser *p)
{
    const char *const marks[] = {p->c->family->open, NULL};
    struct hit h = {.at = p->pending.len};

    if (!p->o.tools || marks[0] == NULL) {
        emit(p, HTH_CHAT_CONTENT, h.at);
        return false;
    }
    h = find(p, marks);
    if (h.n == 0) {
        emit(p, HTH_CHAT_CONTENT, without_space(p, h.at));
        return false;
    }
    emit(p, HTH_CHAT_CONTENT, without_space(p, h.at));
    h = find(p, marks);
    enter(p, MODE_CALL, h.at + h.n);
    return true;
}

/* Calls in the first n pending bytes; what holds none is content. */
static void take_calls(struct hth_chat_parser *p, size_t n)
{
    struct hth_str body = {(const char *)p->pending.data, n};
    struct hth_chat__call call;
    uint32_t before = p->calls;
    size_t at = 0;

    while (hth_chat__next_call(p->c->family, body, &at, &call)) {
        emit_call(p, call.name, call.arguments);
        hth_chat__call_fini(&call);
    }
    if (p->calls > before)
        drop(p, n);
    else
        emit(p, HTH_CHAT_CONTENT, n);
}

static bool step_call(struct hth_chat_parser *p)
{
    const struct hth_chat__family *f = p->c->family;
    const char *const marks[] = {f->close != NULL ? f->close : f->open, NULL};
    struct hit h = find(p, marks);

    if (h.n == 0)
        return false;
    take_calls(p, h.at);
    enter(p, f->close != NULL ? MODE_CONTENT : MODE_CALL, h.n);
    return true;
}

/* ---- harmony ----------------------------------------------------------------
 */

static void read_header(struct hth_chat_parser *p, size_t n)
{
    static const char to[] = "to=functions.";
    const char *text = (const char *)p->pending.data;
    const char *name = n == 0 ? NULL : memmem(text, n, to, sizeof to - 1);

    free(p->tool);
    p->tool = NULL;
    p->channel = HTH_CHAT_CONTENT;
    if (name != NULL && p->o.tools) {
        size_t k = 0;

        name += sizeof to - 1;
        while (name + k < text + n && (isalnum((unsigned char)name[k]) ||
                                       name[k] == '_' || name[k] == '-'))
            k++;
        p->tool = strndup(name, k);
        p->channel = HTH_CHAT_TOOL;
    } else if (n > 0 && memmem(text, n, "analysis", 8) != NULL) {
        p->channel = HTH_CHAT_REASONING;
    }
}

static bool step_header(struct hth_chat_parser *p)
{
    static const char *const marks[] = {"<|message|>", NULL};
    static const char *const openings[] = {"<|channel|>", "<|start|>",
                                           " to=", NULL};
    struct hit h = find(p, marks);
    bool maybe = false, is = false;

    if (h.n > 0) {
        read_header(p, h.at);
        enter(p, MODE_CHANNEL, h.at + h.n);
        return true;
    }
    /* A model that writes no header at all just talks. */
    for (size_t i = 0; openings[i] != NULL && p->pending.len > 0; i++)
        is = begins_with(p, 0, openings[i], &maybe) || is;
    if (p->pending.len == 0 || is || maybe)
        return false;
    p->channel = HTH_CHAT_CONTENT;
    enter(p, MODE_CHANNEL, 0);
    return true;
}

/* The arguments of a harmony call; what is no JSON is content. */
static void take_message(struct hth_chat_parser *p, size_t n)
{
    json_t *args = n == 0 ? NULL
                          : json_loadb((const char *)p->pending.data, n,
                                       JSON_ALLOW_NUL, NULL);
    char *text = args != NULL ? json_dumps(args, JSON_COMPACT) : NULL;

    if (text != NULL) {
        emit_call(p, p->tool != NULL ? p->tool : "", text);
        drop(p, n);
    } else {
        emit(p, HTH_CHAT_CONTENT, n);
    }
    free(text);
    json_decref(args);
}

static bool step_channel(struct hth_chat_parser *p)
{
    static const char *const marks[] = {"<|end|>", "<|call|>", "<|return|>",
                                        "<|start|>", NULL};
    struct hit h = find(p, marks);

    if (p->channel == HTH_CHAT_TOOL) {
        if (h.n == 0)
            return false;
        take_message(p, h.at);
    } else {
        emit(p, p->o.split_reasoning ? p->channel : HTH_CHAT_CONTENT, h.at);
        if (h.n == 0)
            return false;
    }
    enter(p, MODE_HEADER, h.n);
    return true;
}

/* ---- all --------------------------------------------------------------------
 */

static bool step(struct hth_chat_parser *p)
{
    if (p->pending.len == 0)
        return false;
    switch (p->mode) {
    case MODE_START:
        return step_start(p);
    case MODE_REASONING:
        return step_reasoning(p);
    case MODE_CONTENT:
        return step_content(p);
    case MODE_CALL:
        return step_call(p);
    case MODE_HEADER:
        return step_header(p);
    case MODE_CHANNEL:
        return step_channel(p);
    default:
        return false;
    }
}

int hth_chat_parser_push(struct hth_chat_parser *p, const char *text, size_t n)
{
    if (n == 0)
        return HTH_OK;
    hth_put_bytes(&p->pending, text, n);
    if (p->pending.failed)
        return HTH_ELIMIT;
    while (step(p))
        continue;
    return HTH_OK;
}

void hth_chat_parser_finish(struct hth_chat_parser *p)
{
    size_t n = p->pending.len;

    if (p->mode == MODE_REASONING)
        emit(p, HTH_CHAT_REASONING, n);
    else if (p->mode == MODE_CALL || p->mode == MODE_WHOLE)
        take_calls(p, n);
    else if (p->mode == MODE_CHANNEL && p->channel == HTH_CHAT_TOOL)
        take_message(p, n);
    else if (p->mode == MODE_CHANNEL && p->o.split_reasoning)
        emit(p, p->channel, n);
    else if (p->mode != MODE_HEADER)
        emit(p, HTH_CHAT_CONTENT, n);
    p->pending.len = 0;
}
