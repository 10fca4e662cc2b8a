/* sse_fuzz.c - a streamed answer from a server that may say anything, in two
 * pieces: the first byte says where it is cut. */
#include <stdint.h>
#include <stdlib.h>

#include "cli/sse.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_event(void *ctx, const struct hth_sse_event *e)
{
    uint32_t *n = ctx;

    *n += e->text + e->error + e->done;
    if (e->done && e->text)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hth_sse *s;
    uint32_t n = 0;
    size_t cut;

    if (size == 0)
        return 0;
    s = malloc(sizeof *s);
    if (s == NULL)
        return 0;
    cut = 1 + data[0] % size;
    hth_sse_init(s, on_event, &n);
    hth_sse_feed(s, (const char *)data + 1, cut - 1);
    hth_sse_feed(s, (const char *)data + cut, size - cut);
    free(s);
    return 0;
}
