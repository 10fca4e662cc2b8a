/* tokenizer_make.c - see the header. */
#include "tests/unit/tokenizer_make.h"

#include <criterion/criterion.h>
#include <string.h>

void make_with_pre(const struct hth_gguf *g, const char *pre, const char *path)
{
    static const char key[] = "tokenizer.ggml.pre";
    struct hth_gguf_writer *w = NULL;
    struct hth_err err = {0};
    size_t i;

    cr_assert_eq(hth_gguf_create(&w, path, &err), 0, "%s", err.text);
    for (i = 0; i < hth_gguf_kv_count(g); i++) {
        const struct hth_gguf_kv *kv = hth_gguf_kv_at(g, i);

        if (kv->key.n != strlen(key) || memcmp(kv->key.p, key, kv->key.n) != 0)
            hth_gguf_put_copy(w, kv);
    }
    hth_gguf_put_string(w, key, pre);
    cr_assert_eq(hth_gguf_finish(w, &err), 0, "%s", err.text);
}
