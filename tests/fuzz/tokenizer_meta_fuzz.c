/* tokenizer_meta_fuzz.c - GGUF files whose tokenizer.* keys are wrong; what
 * opens must be able to work. */
#include <string.h>

#include "model/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char text[] = "<s>Hello  abc 123\xC3\xBC\xFF<a>\n[u]";
    struct hth_gguf *g;
    struct hth_tokenizer *t = NULL;
    struct hth_tokens v = {0};
    struct hth_buf out;
    struct hth_detok d;
    struct hth_err err;
    size_t i;

    if (hth_gguf_open_memory(&g, data, size, &err) < 0)
        return 0;
    if (hth_tokenizer_open(&t, g, &err) == 0) {
        hth_buf_init(&out, 1 << 20);
        hth_detok_init(&d, true);
        if (hth_tokenize(t, (struct hth_str){text, strlen(text)}, size & 1, &v,
                         &err) == 0)
            for (i = 0; i < v.count; i++)
                hth_detok_push(&d, t, v.ids[i], true, &out);
        hth_detok_finish(&d, &out);
        hth_buf_fini(&out);
        hth_tokens_fini(&v);
    }
    hth_tokenizer_close(t);
    hth_gguf_close(g);
    return 0;
}
