/* chat_fuzz.c - any text as an answer of any family, and as the messages of a
 * request. The first byte picks the family and the size of the pieces. Seeds:
 * tests/fuzz/corpus/chat. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/log.h"
#include "model/chat.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const g_sources[] = {
    "{% for m in messages %}{{ m.content }}{% endfor %}<tool_call></think>",
    "[TOOL_CALLS]",
    "[TOOL_CALLS][ARGS]",
    "<|python_tag|>",
    "<parameter=",
    "<arg_key>",
    "<|tool_call_argument_begin|>",
    "<｜tool▁sep｜>",
    "<function=",
    "<|channel|>",
    "List of tools: [",
};
#define SOURCES (sizeof g_sources / sizeof g_sources[0])

static struct hth_chat *g_chat[SOURCES];

static void quiet(void *ctx, enum hth_log_level level, const char *line)
{
    (void)ctx;
    (void)level;
    (void)line;
}

static void sink(void *ctx, const struct hth_chat_piece *piece)
{
    size_t *bytes = ctx;

    *bytes += piece->text.n + piece->name.n;
    if (memchr(piece->text.p, 1, piece->text.n) != NULL)
        ++*bytes;
}

static void parse(const struct hth_chat *c, const uint8_t *data, size_t size,
                  size_t step)
{
    size_t bytes = 0;
    struct hth_chat_parser_opts o = {.tools = true,
                                     .reasoning = size % 2,
                                     .split_reasoning = size % 3 != 0,
                                     .sink = sink,
                                     .ctx = &bytes};
    struct hth_chat_parser *p;

    if (hth_chat_parser_open(&p, c, &o) != 0)
        return;
    for (size_t at = 0; at < size; at += step)
        if (hth_chat_parser_push(p, (const char *)data + at,
                                 size - at < step ? size - at : step) != 0)
            break;
    hth_chat_parser_finish(p);
    hth_chat_parser_close(p);
}

static void render(const struct hth_chat *c, const uint8_t *data, size_t size)
{
    json_t *m = json_loadb((const char *)data, size, 0, NULL);
    struct hth_chat_input in = {.messages = m, .generate = true, .now_s = 1};
    struct hth_chat_prompt p;

    hth_chat_prompt_init(&p);
    if (m != NULL && hth_chat_render(c, &in, &p, NULL) == 0 &&
        p.text.len != p.plain.len)
        __builtin_trap();
    hth_chat_prompt_fini(&p);
    json_decref(m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t which;

    hth_log_set_sink(quiet, NULL);
    if (size == 0)
        return 0;
    which = data[0] % SOURCES;
    if (g_chat[which] == NULL) {
        struct hth_chat_opts o = {
            .source = {g_sources[which], strlen(g_sources[which])}};

        if (hth_chat_open(&g_chat[which], &o, NULL) != 0)
            return 0;
    }
    parse(g_chat[which], data + 1, size - 1, 1 + data[0] / SOURCES);
    render(g_chat[which], data + 1, size - 1);
    return 0;
}
