/* bench_model.c - what a model file is called in a table of figures. */
#include <stdio.h>
#include <string.h>

#include "cli/bench.h"
#include "kernels/type.h"
#include "model/gguf.h"

/* general.file_type, as llama.cpp numbers it. */
static const struct {
    uint32_t number;
    const char *name;
} g_file_types[] = {
    {0, "F32"},     {1, "F16"},     {2, "Q4_0"},    {3, "Q4_1"},
    {7, "Q8_0"},    {8, "Q5_0"},    {9, "Q5_1"},    {10, "Q2_K"},
    {11, "Q3_K_S"}, {12, "Q3_K_M"}, {13, "Q3_K_L"}, {14, "Q4_K_S"},
    {15, "Q4_K_M"}, {16, "Q5_K_S"}, {17, "Q5_K_M"}, {18, "Q6_K"},
    {25, "IQ4_NL"}, {30, "IQ4_XS"}, {32, "BF16"},
};

/* The type that most bytes are of. */
static const char *largest_type(const struct hth_gguf *g)
{
    uint64_t bytes[64] = {0};
    uint32_t best = 0;

    for (size_t i = 0; i < hth_gguf_tensor_count(g); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(g, i);

        if (t->type >= sizeof bytes / sizeof bytes[0])
            continue;
        bytes[t->type] += t->bytes;
        if (bytes[t->type] > bytes[best])
            best = t->type;
    }
    return hth_type_info(best) != NULL ? hth_type_info(best)->name : "?";
}

static const char *type_name(const struct hth_gguf *g)
{
    uint32_t number;

    if (hth_gguf_u32(g, "general.file_type", &number, NULL) == HTH_OK)
        for (size_t i = 0; i < sizeof g_file_types / sizeof g_file_types[0];
             i++)
            if (g_file_types[i].number == number)
                return g_file_types[i].name;
    return largest_type(g);
}

static void add_tensors(const struct hth_gguf *g, struct hth_bench_model *m)
{
    for (size_t i = 0; i < hth_gguf_tensor_count(g); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(g, i);
        uint64_t n = 1;

        for (uint32_t d = 0; d < HTH_TENSOR_DIMS_MAX; d++)
            n *= t->ne[d];
        m->weights += n;
        m->bytes += t->bytes;
    }
}

int hth_bench_describe(const char *path, struct hth_bench_model *out,
                       struct hth_err *err)
{
    const char *slash = strrchr(path, '/');
    struct hth_str arch = {"?", 1};
    char plain[HTH_NAME_MAX];
    struct hth_gguf *g;
    int rc = hth_gguf_open(&g, path, err);

    if (rc != HTH_OK)
        return rc;
    memset(out, 0, sizeof *out);
    (void)hth_gguf_string(g, "general.architecture", &arch, NULL);
    snprintf(plain, sizeof plain, "%.*s",
             (int)(arch.n < sizeof plain ? arch.n : sizeof plain - 1), arch.p);
    add_tensors(g, out);
    snprintf(out->file, sizeof out->file, "%.*s", (int)sizeof out->file - 1,
             slash != NULL ? slash + 1 : path);
    hth_plain_text(plain, out->name, sizeof out->name);
    snprintf(out->name + strlen(out->name),
             sizeof out->name - strlen(out->name), " %.2fB %s",
             (double)out->weights / 1e9, type_name(g));
    hth_gguf_close(g);
    return HTH_OK;
}
