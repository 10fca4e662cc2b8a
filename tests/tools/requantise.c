/* requantise.c - a model's matrices in another type, and beside it the very
 * same numbers as F32: what exact arithmetic on those weights computes with.
 *
 *   requantise IN.gguf TYPE OUT.gguf EXACT.gguf
 *
 * Vectors (norms) stay as they are. Exit 3: this type cannot be made here. */
#include <stdio.h>
#include <stdlib.h>

#include "kernels/quant.h"
#include "kernels/type.h"
#include "model/gguf.h"

static struct hth_err err;

static void must(int rc)
{
    if (rc == HTH_OK)
        return;
    fprintf(stderr, "requantise: %s\n", err.text);
    exit(1);
}

static uint64_t numbers(const struct hth_tensor *t)
{
    uint64_t n = 1;

    for (uint32_t d = 0; d < t->dims; d++)
        n *= t->ne[d];
    return n;
}

static void *take(size_t bytes)
{
    void *p = malloc(bytes);

    if (p == NULL) {
        fprintf(stderr, "requantise: out of memory\n");
        exit(1);
    }
    return p;
}

static bool changes(const struct hth_tensor *t)
{
    return t->dims > 1;
}

static struct hth_gguf_writer *begin(const struct hth_gguf *g, uint32_t type,
                                     const char *path)
{
    struct hth_gguf_writer *w;

    must(hth_gguf_create(&w, path, &err));
    for (size_t i = 0; i < hth_gguf_kv_count(g); i++)
        hth_gguf_put_copy(w, hth_gguf_kv_at(g, i));
    for (size_t i = 0; i < hth_gguf_tensor_count(g); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(g, i);

        hth_gguf_put_tensor(w, t->name, changes(t) ? type : t->type, t->dims,
                            t->ne);
    }
    return w;
}

/* One tensor through the type: its bytes into out, its numbers into exact. */
static void convert(const struct hth_tensor *t, uint32_t type,
                    struct hth_gguf_writer *out, struct hth_gguf_writer *exact)
{
    size_t n = (size_t)numbers(t);
    size_t bytes = n / t->ne[0] * hth_row_bytes(type, t->ne[0]);
    float *x = take(n * sizeof *x);
    void *q = take(bytes);

    hth_dequantize((enum hth_type)t->type, t->data, x, n);
    if (hth_quantize((enum hth_type)type, x, q, n) != HTH_OK) {
        fprintf(stderr, "requantise: %s cannot be made\n",
                hth_type_info(type)->name);
        exit(3);
    }
    hth_dequantize((enum hth_type)type, q, x, n);
    must(hth_gguf_put_data(out, q, bytes, &err));
    must(hth_gguf_put_data(exact, x, n * sizeof *x, &err));
    free(q);
    free(x);
}

int main(int argc, char **argv)
{
    const struct hth_type_info *type =
        argc == 5 ? hth_type_by_name(argv[2]) : NULL;
    struct hth_gguf_writer *out, *exact;
    struct hth_gguf *g;

    if (type == NULL) {
        fprintf(stderr, "usage: requantise IN.gguf TYPE OUT.gguf EXACT.gguf\n");
        return 2;
    }
    if (!hth_can_quantize(type->id)) {
        fprintf(stderr, "requantise: %s cannot be made\n", type->name);
        return 3;
    }
    must(hth_gguf_open(&g, argv[1], &err));
    out = begin(g, type->id, argv[3]);
    exact = begin(g, HTH_F32, argv[4]);
    for (size_t i = 0; i < hth_gguf_tensor_count(g); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(g, i);

        if (changes(t)) {
            convert(t, type->id, out, exact);
            continue;
        }
        must(hth_gguf_put_data(out, t->data, t->bytes, &err));
        must(hth_gguf_put_data(exact, t->data, t->bytes, &err));
    }
    must(hth_gguf_finish(out, &err));
    must(hth_gguf_finish(exact, &err));
    hth_gguf_close(g);
    return 0;
}
