/* jinja_fuzz.c - any bytes as a chat template over a fixed conversation.
 * Seeds: tests/fuzz/corpus/jinja. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "model/jinja.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char g_vars[] =
    "{\"s\":\" H\\u00e9llo \\n\",\"n\":7,\"f\":2.5,\"t\":true,\"nil\":null,"
    "\"l\":[3,1,2],\"d\":{\"b\":1,\"a\":{\"x\":[1,\"\\u00e9\"]}},"
    "\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},"
    "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[]}],"
    "\"tools\":[],\"bos_token\":\"<s>\",\"add_generation_prompt\":true}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hth_jinja_var vars[16];
    struct hth_jinja_input in = {.vars = vars};
    json_t *object = json_loads(g_vars, 0, NULL), *value;
    struct hth_jinja *j = NULL;
    struct hth_buf text, plain;
    const char *key;

    json_object_foreach(object, key, value) vars[in.count++] =
        (struct hth_jinja_var){key, value, true};
    hth_buf_init(&text, 1u << 20);
    hth_buf_init(&plain, 1u << 20);
    if (hth_jinja_open(&j, (struct hth_str){(const char *)data, size}, NULL) ==
            0 &&
        hth_jinja_render(j, &in, &text, &plain, NULL) == 0 &&
        text.len != plain.len)
        __builtin_trap();
    hth_jinja_close(j);
    hth_buf_fini(&text);
    hth_buf_fini(&plain);
    json_decref(object);
    return 0;
}
