/* schema_fuzz.c - any JSON as a schema: what compiles to GBNF must be GBNF,
 * and the answer that takes the first way at each byte must be JSON if it
 * ends. Seeds: tests/fuzz/corpus/schema. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "model/grammar_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ANSWER_MAX 512u

/* A text of the grammar, picking bytes by a number that changes. */
static void answer(struct hth_grammar *g, uint32_t pick)
{
    char text[ANSWER_MAX];
    struct hth_matcher m;
    size_t n = 0;

    if (hth_matcher_init(&m, g) != 0)
        return;
    while (n < ANSWER_MAX && !hth_matcher_complete(&m, m.state)) {
        uint32_t s = HTH_GSTATE_DEAD, tries = 0;
        uint8_t byte = 0;

        for (; s == HTH_GSTATE_DEAD && tries < 256; tries++) {
            byte = (uint8_t)(pick + tries * 37);
            s = hth_matcher_step(&m, m.state, byte);
        }
        if (s == HTH_GSTATE_DEAD || s == HTH_GSTATE_FULL)
            break;
        m.state = s;
        text[n++] = (char)byte;
        pick = pick * 1664525u + 1013904223u;
    }
    if (hth_matcher_complete(&m, m.state)) {
        json_t *v = json_loadb(text, n, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);

        if (v == NULL)
            __builtin_trap();
        json_decref(v);
    }
    hth_matcher_fini(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *schema =
        json_loadb((const char *)data, size, JSON_DECODE_ANY, NULL);
    struct hth_grammar *g = NULL;
    struct hth_buf text;

    if (schema == NULL)
        return 0;
    hth_buf_init(&text, HTH_GRAMMAR_BYTES_MAX);
    if (hth_schema_to_gbnf(schema, &text, NULL) == 0) {
        struct hth_err err;
        int rc = hth_grammar_open(
            &g, (struct hth_str){hth_buf_cstr(&text), text.len}, &err);

        /* A schema that is nothing but itself, or very large, may fail. */
        if (rc == HTH_EFORMAT && strstr(err.text, "begins with") == NULL)
            __builtin_trap();
        if (rc == 0)
            answer(g, (uint32_t)size);
    }
    hth_grammar_close(g);
    hth_buf_fini(&text);
    json_decref(schema);
    return 0;
}
