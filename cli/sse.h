/* sse.h - what a streaming completion says, as it arrives: server-sent events
 * whose data is JSON of the OpenAI shape. Bytes come in any pieces; nothing
 * they hold can make it allocate beyond one line of HTH_SSE_LINE_MAX. */
#ifndef HTH_CLI_SSE_H
#define HTH_CLI_SSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/limits.h"

struct hth_sse_event {
    bool done;       /* [DONE] */
    bool text;       /* visible or reasoning text that is not empty */
    bool error;      /* the server reports one, or it cannot be read */
    uint32_t tokens; /* usage.completion_tokens; 0: not said */
};

struct hth_sse {
    void (*on_event)(void *ctx, const struct hth_sse_event *e);
    void *ctx;
    size_t used;
    bool skipping; /* the rest of a line that was too long */
    char line[HTH_SSE_LINE_MAX];
};

void hth_sse_init(struct hth_sse *s,
                  void (*on_event)(void *, const struct hth_sse_event *),
                  void *ctx);
void hth_sse_feed(struct hth_sse *s, const char *p, size_t n);

#endif
