/* golden_test.c - the forward pass against reference logits computed outside
 * this project (see the golden README), on every instruction set this CPU has
 * and through several cuts of the model. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/isa.h"
#include "support.h"

struct golden {
    const char *name;
    double max_abs; /* 0: not held to it */
    double max_kl;  /* 1.5 x llama.cpp's own */
};

/* llama.cpp's KL on the same files is in the golden README. */
static const struct golden g_files[] = {
    {"llama-gqa-F16", 1e-3, 0},
    {"llama-gqa-Q8_0", 0, 1.5 * 2.3e-4},
    {"llama-gqa-Q4_0", 0, 1.5 * 1.8e-4},
    {"llama-k-Q4_K", 0, 1.5 * 5.3e-4},
    {"llama-k-Q5_K", 0, 1.5 * 5.3e-4},
    {"llama-k-Q6_K", 0, 1.5 * 6.0e-4},
    {"llama3-rope-Q8_0", 0, 1.5 * 2.3e-4},
    {"qwen2-Q4_1", 0, 1.5 * 2.8e-4},
    {"qwen2-Q5_0", 0, 1.5 * 2.6e-4},
    {"qwen2-Q8_0", 0, 1.5 * 2.8e-4},
    {"qwen3-F16", 1e-3, 0},
    {"qwen3-Q8_0", 0, 1.5 * 2.6e-4},
    {"qwen3moe-Q8_0", 0, 1.5 * 2.0e-4},
};

static const struct cut {
    const char *text;
    uint32_t ranks;
    double shares[12];
} g_cuts[] = {
    {"1", 1, {1}},
    {"1,1", 2, {1, 1}},
    {"3,1", 2, {3, 1}},
    {"1,2,1,3", 4, {1, 2, 1, 3}},
    {"0,1,1", 3, {0, 1, 1}},
    {"6 ranks", 6, {1, 1, 1, 1, 1, 1}},
    {"12 ranks", 12, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
};

static uint32_t load_tokens(const char *name, uint32_t *tokens)
{
    json_t *root = json_load_file(golden_path(name, ".json"), 0, NULL);
    json_t *list = json_object_get(root, "prompt");
    uint32_t n = (uint32_t)json_array_size(list);

    cr_assert(root != NULL && n > 0 && n <= 64);
    for (uint32_t i = 0; i < n; i++)
        tokens[i] = (uint32_t)json_integer_value(json_array_get(list, i));
    json_decref(root);
    return n;
}

static void check(const struct golden *g, const struct cut *cut, uint32_t chunk,
                  uint32_t threads)
{
    uint32_t tokens[64];
    char model[8192];
    size_t size;
    float *ref, *got;
    double kl, diff;
    struct shard_run run = {.shares = cut->shares,
                            .ranks = cut->ranks,
                            .threads = threads,
                            .kv_type = HTH_F32,
                            .chunk = chunk,
                            .tokens = tokens};

    run.count = load_tokens(g->name, tokens);
    ref = read_file(golden_path(g->name, ".logits.f32"), &size);
    snprintf(model, sizeof model, "%s", golden_path(g->name, ".gguf"));
    run.gguf = model;
    got = run_shards(&run);
    cr_assert_eq(size, (size_t)run.count * run.vocab * sizeof *ref);
    kl = mean_kl(ref, got, run.count, run.vocab);
    diff = max_abs_diff(ref, got, (size_t)run.count * run.vocab);
    if (getenv("HEARTH_TEST_VERBOSE") != NULL)
        fprintf(stderr, "%-18s %-8s %-8s chunk %2u: max %.2e KL %.2e\n",
                g->name, hth_isa_name(), cut->text, chunk, diff, kl);
    if (g->max_abs > 0)
        cr_expect(diff <= g->max_abs, "%s %s %s: max difference %g", g->name,
                  hth_isa_name(), cut->text, diff);
    else
        cr_expect(kl <= g->max_kl, "%s %s %s: KL %g over %g", g->name,
                  hth_isa_name(), cut->text, kl, g->max_kl);
    free(ref);
    free(got);
}

static void check_isa(const char *isa)
{
    struct hth_err err;

    if (golden_dir() == NULL)
        cr_skip_test("SKIPPED: no golden vectors (set HEARTH_GOLDEN)");
    setenv("HEARTH_ISA", isa, 1);
    if (hth_isa_init(&err) != HTH_OK)
        cr_skip_test("SKIPPED: %s", err.text);
    for (size_t i = 0; i < sizeof g_files / sizeof g_files[0]; i++) {
        for (size_t c = 0; c < sizeof g_cuts / sizeof g_cuts[0]; c++)
            check(&g_files[i], &g_cuts[c], 24, 1);
        check(&g_files[i], &g_cuts[0], 1, 2);
        check(&g_files[i], &g_cuts[3], 7, 2);
    }
}

Test(golden, scalar, .timeout = 120)
{
    check_isa("scalar");
}

Test(golden, avx2, .timeout = 120)
{
    check_isa("avx2");
}

Test(golden, amx, .timeout = 120)
{
    check_isa("amx");
}

Test(golden, avx512, .timeout = 120)
{
    check_isa("avx512");
}

/* Shards add the same numbers in another order, so with float weights and f32
 * sums any cut is within 1e-4 of one rank; a second run has the same bits. */
Test(golden, shards_equal_one_rank, .timeout = 60)
{
    const char *names[] = {"llama-gqa-F16", "qwen3-F16"};

    if (golden_dir() == NULL)
        cr_skip_test("SKIPPED: no golden vectors (set HEARTH_GOLDEN)");
    unsetenv("HEARTH_ISA");
    for (size_t m = 0; m < 2; m++) {
        uint32_t tokens[64];
        float *one = NULL;
        char path[8192];

        snprintf(path, sizeof path, "%s", golden_path(names[m], ".gguf"));
        for (size_t c = 0; c < sizeof g_cuts / sizeof g_cuts[0]; c++) {
            struct shard_run run = {.gguf = path,
                                    .shares = g_cuts[c].shares,
                                    .ranks = g_cuts[c].ranks,
                                    .threads = 1,
                                    .kv_type = HTH_F32,
                                    .chunk = 5,
                                    .tokens = tokens,
                                    .count = load_tokens(names[m], tokens)};
            float *got = run_shards(&run), *again = run_shards(&run);
            size_t n = (size_t)run.count * run.vocab;

            cr_expect_eq(memcmp(got, again, n * sizeof *got), 0,
                         "%s %s: two runs differ", names[m], g_cuts[c].text);
            if (c == 0)
                one = got;
            else
                cr_expect(max_abs_diff(one, got, n) <= 1e-4, "%s %s: %g",
                          names[m], g_cuts[c].text, max_abs_diff(one, got, n));
            if (c != 0)
                free(got);
            free(again);
        }
        free(one);
    }
}

/* Where the blocks lie, and for how long, changes no bit: a step takes each
 * block for its own compute only. */
Test(golden, moving_blocks_same_bits, .timeout = 120)
{
    const double shares[] = {2, 1};
    char model[8192];
    uint32_t tokens[64];
    float *still, *moved;

    if (golden_dir() == NULL)
        cr_skip_test("SKIPPED: no golden vectors (set HEARTH_GOLDEN)");
    unsetenv("HEARTH_ISA");
    for (size_t i = 0; i < sizeof g_files / sizeof g_files[0]; i++) {
        struct shard_run run = {.shares = shares,
                                .ranks = 1 + i % 2,
                                .threads = 2,
                                .kv_type = HTH_F16,
                                .chunk = 5,
                                .tokens = tokens};

        run.count = load_tokens(g_files[i].name, tokens);
        snprintf(model, sizeof model, "%s",
                 golden_path(g_files[i].name, ".gguf"));
        run.gguf = model;
        still = run_shards(&run);
        run.moving = true;
        moved = run_shards(&run);
        cr_expect_arr_eq(still, moved,
                         (size_t)run.count * run.vocab * sizeof *still, "%s",
                         g_files[i].name);
        free(still);
        free(moved);
    }
}
