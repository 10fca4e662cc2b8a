/* lora_fuzz.c - adapters from anywhere: any bytes as an adapter's file, and as
 * a rank's slice of one. A file that is accepted can be cut for every rank of a
 * plan, and what is cut is accepted as a slice. Seeds: tests/fuzz/corpus/lora
 * (files of hearth synth --lora for the model below, and slices of them). */
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/lora.h"
#include "model/shard.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* d=32,layers=2,heads=4,kv=2,ff=64: what synth makes, without its weights. */
static struct hth_spec g_spec;
static struct hth_plan g_plan;

static const struct hth_arch g_arch = {.name = "llama"};

static void make_model(void)
{
    struct hth_shape shape;

    if (g_plan.ranks != 0)
        return;
    g_spec.arch = &g_arch;
    g_spec.layers = 2;
    g_spec.dim = 32;
    g_spec.heads = 4;
    g_spec.kv_heads = 2;
    g_spec.head_dim = 8;
    g_spec.ff = 64;
    g_spec.vocab = 260;
    memset(g_spec.type, HTH_TYPE_ABSENT, sizeof g_spec.type);
    for (uint32_t l = 0; l < 2; l++) {
        static const uint8_t roles[] = {
            HTH_ROLE_ATTN_NORM, HTH_ROLE_ATTN_Q,   HTH_ROLE_ATTN_K,
            HTH_ROLE_ATTN_V,    HTH_ROLE_ATTN_OUT, HTH_ROLE_FFN_NORM,
            HTH_ROLE_FFN_GATE,  HTH_ROLE_FFN_UP,   HTH_ROLE_FFN_DOWN};

        for (size_t i = 0; i < sizeof roles; i++)
            g_spec.type[l][roles[i]] = HTH_F32;
    }
    g_spec.output_type = HTH_F32;
    hth_spec_shape(&g_spec, HTH_F16, &shape);
    if (hth_plan_make(&shape, (const double[]){1, 2, 0}, 3, &g_plan, NULL) != 0)
        abort();
}

static uint8_t *copy_of(const uint8_t *data, size_t size)
{
    uint8_t *copy = hth_mem_alloc(size + 1);

    if (copy == NULL)
        abort();
    if (size > 0)
        memcpy(copy, data, size);
    return copy;
}

static void as_slice(const uint8_t *data, size_t size, uint32_t rank)
{
    struct hth_lora_place at = {&g_spec, &g_plan, rank};
    struct hth_lora *l;

    if (hth_lora_open(&l, &at, copy_of(data, size), size, NULL) != 0)
        return;
    if (hth_lora_bytes(l) != size)
        abort();
    hth_lora_close(l);
}

static void cut(const struct hth_lora_file *f, uint32_t rank)
{
    struct hth_lora_place at = {&g_spec, &g_plan, rank};
    uint64_t n = hth_lora_slice_bytes(f, &at);
    uint8_t *slice = hth_mem_alloc(n);
    struct hth_lora *l;

    if (slice == NULL || hth_lora_slice(f, &at, slice, NULL) != 0 ||
        hth_lora_open(&l, &at, slice, n, NULL) != 0)
        abort();
    hth_lora_close(l);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hth_lora_file *f;
    uint8_t digest[HTH_HASH_BYTES], *copy;

    make_model();
    for (uint32_t r = 0; r < 3; r++)
        as_slice(data, size, r);
    copy = copy_of(data, size);
    if (hth_lora_file_open_memory(&f, copy, size, &g_spec, NULL) == 0) {
        for (uint32_t r = 0; r < 3; r++)
            cut(f, r);
        if (hth_lora_file_digest(f, digest, NULL) != 0)
            abort();
        hth_lora_file_close(f);
    }
    hth_mem_free(copy);
    return 0;
}
