/* gguf_fuzz.c - any bytes as a GGUF file: open, read everything it leads to,
 * close. Seeds: tests/fuzz/corpus/gguf (cut-down files of this project). */
#include <stddef.h>
#include <stdint.h>

#include "model/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile uint64_t g_sink; /* keeps the reads from being optimised out */

static void read_all(const uint8_t *p, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        g_sink += p[i];
}

static void read_key(const struct hth_gguf_kv *kv)
{
    int64_t i;
    double f;

    read_all(kv->data, kv->bytes);
    for (uint64_t k = 0; kv->strings != NULL && k < kv->count; k++)
        read_all((const uint8_t *)kv->strings[k].p, kv->strings[k].n);
    g_sink += hth_gguf_array_i64(kv, kv->count - 1, &i) == 0;
    g_sink += hth_gguf_array_f64(kv, kv->count - 1, &f) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hth_gguf *g = NULL;
    struct hth_err err;

    if (hth_gguf_open_memory(&g, data, size, &err) != 0)
        return 0;
    for (size_t i = 0; i < hth_gguf_kv_count(g); i++)
        read_key(hth_gguf_kv_at(g, i));
    for (size_t i = 0; i < hth_gguf_tensor_count(g); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(g, i);

        read_all(t->data, t->bytes);
        if (hth_gguf_tensor(g, t->name) != t)
            __builtin_trap();
    }
    hth_gguf_close(g);
    return 0;
}
