/* grammar_fuzz.c - any bytes as GBNF up to the first NUL, the rest as a text
 * that is held to it. Seeds: tests/fuzz/corpus/grammar. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/mem.h"
#include "model/grammar_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Step by step, with a flush now and then: it must change nothing. */
static void follow(struct hth_grammar *g, const uint8_t *text, size_t n)
{
    struct hth_matcher m;

    if (hth_matcher_init(&m, g) != 0)
        return;
    for (size_t i = 0; i < n && i < 4096; i++) {
        uint32_t s = hth_matcher_step(&m, m.state, text[i]);

        if (s == HTH_GSTATE_FULL) {
            if (!hth_matcher_flush(&m))
                break;
            s = hth_matcher_step(&m, m.state, text[i]);
        }
        if (s == HTH_GSTATE_DEAD || s == HTH_GSTATE_FULL)
            break;
        m.state = s;
        if (i % 7 == 3) {
            bool complete = hth_matcher_complete(&m, m.state);
            uint32_t count = m.states[s - HTH_GSTATE_FIRST].count;

            if (!hth_matcher_flush(&m))
                break;
            if (hth_matcher_complete(&m, m.state) != complete ||
                m.states[m.state - HTH_GSTATE_FIRST].count != count)
                __builtin_trap();
        }
    }
    hth_matcher_fini(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *end = size == 0 ? NULL : memchr(data, 0, size);
    size_t n = end == NULL ? size : (size_t)(end - data);
    struct hth_grammar *g = NULL;

    if (hth_grammar_open(&g, (struct hth_str){(const char *)data, n}, NULL) !=
        0)
        return 0;
    if (end != NULL)
        follow(g, end + 1, size - n - 1);
    hth_grammar_close(g);
    return 0;
}
