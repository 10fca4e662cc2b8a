/* lora_test.c - adapters: at run time as good as merged into the weights, over
 * any cut of the model, with no number more to add up; files and slices that
 * do not fit are refused by name. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "kernels/quant.h"
#include "model/lora.h"
#include "model/shard.h"
#include "model/synth.h"
#include "tests/unit/folder.h"
#include "tests/unit/support.h"

#define SHAPE "d=128,layers=3,heads=4,kv=2,ff=192,vocab=320,ctx=256"
#define TOKENS 40u

struct bench {
    struct folder f;
    char model[192], lora[192], second[192], merged[192];
    uint32_t tokens[TOKENS];
};

static void write_model(const char *path, const char *shape, const char *type)
{
    struct hth_synth_opts o = {.shape = shape, .type = type, .seed = 7};
    struct hth_err err;

    cr_assert_eq(hth_synth_write(&o, path, &err), 0, "%s", err.text);
}

static void write_lora(const char *path, const char *model, const char *type,
                       uint64_t seed)
{
    struct hth_synth_lora_opts o = {.model_path = model,
                                    .type = type,
                                    .rank = 12,
                                    .alpha = 24,
                                    .seed = seed};
    struct hth_err err;

    cr_assert_eq(hth_synth_lora(&o, path, &err), 0, "%s", err.text);
}

static void bench_init(struct bench *b, const char *type, const char *lora_type)
{
    folder_init(&b->f);
    snprintf(b->model, sizeof b->model, "%s", folder_path(&b->f, "m.gguf"));
    snprintf(b->lora, sizeof b->lora, "%s", folder_path(&b->f, "a.gguf"));
    snprintf(b->second, sizeof b->second, "%s", folder_path(&b->f, "b.gguf"));
    snprintf(b->merged, sizeof b->merged, "%s", folder_path(&b->f, "s.gguf"));
    write_model(b->model, SHAPE, type);
    write_lora(b->lora, b->model, lora_type, 1);
    write_lora(b->second, b->model, lora_type, 2);
    for (uint32_t i = 0; i < TOKENS; i++)
        b->tokens[i] = (i * 37 + 11) % 320;
}

static float *run(const struct bench *b, struct shard_run *r)
{
    static const double alone[] = {1};

    r->gguf = r->gguf != NULL ? r->gguf : b->model;
    r->shares = r->shares != NULL ? r->shares : alone;
    r->ranks = r->ranks != 0 ? r->ranks : 1;
    r->chunk = r->chunk != 0 ? r->chunk : TOKENS;
    r->threads = r->threads != 0 ? r->threads : 1;
    r->kv_type = HTH_F32;
    r->tokens = b->tokens;
    r->count = TOKENS;
    return run_shards(r);
}

/* ---- merging ------------------------------------------------------------- */

static float *numbers(const struct hth_tensor *t)
{
    size_t n = (size_t)(t->ne[0] * t->ne[1]);
    float *x = malloc(n * sizeof *x);

    hth_dequantize((enum hth_type)t->type, t->data, x, n);
    return x;
}

/* W += s B A */
static void merge(float *w, const struct hth_gguf *lora, const char *name,
                  double scale)
{
    char pair[2][80];
    const struct hth_tensor *a, *b;
    float *av, *bv;

    snprintf(pair[0], sizeof pair[0], "%s.lora_a", name);
    snprintf(pair[1], sizeof pair[1], "%s.lora_b", name);
    a = hth_gguf_tensor(lora, pair[0]);
    b = hth_gguf_tensor(lora, pair[1]);
    if (a == NULL)
        return;
    av = numbers(a);
    bv = numbers(b);
    for (size_t o = 0; o < b->ne[1]; o++)
        for (size_t i = 0; i < a->ne[0]; i++) {
            double sum = 0;

            for (size_t k = 0; k < a->ne[1]; k++)
                sum += (double)bv[o * b->ne[0] + k] * av[k * a->ne[0] + i];
            w[o * a->ne[0] + i] += (float)(scale * sum);
        }
    free(av);
    free(bv);
}

/* The F32 model with adapters added to its weights for good. */
static void write_merged(const struct bench *b, const char *const *lora,
                         const double *scale, uint32_t loras)
{
    struct hth_gguf *m, *l[2];
    struct hth_gguf_writer *w;
    struct hth_err err;

    cr_assert_eq(hth_gguf_open(&m, b->model, &err), 0);
    for (uint32_t i = 0; i < loras; i++)
        cr_assert_eq(hth_gguf_open(&l[i], lora[i], &err), 0);
    cr_assert_eq(hth_gguf_create(&w, b->merged, &err), 0);
    for (size_t i = 0; i < hth_gguf_kv_count(m); i++)
        hth_gguf_put_copy(w, hth_gguf_kv_at(m, i));
    for (size_t i = 0; i < hth_gguf_tensor_count(m); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(m, i);

        hth_gguf_put_tensor(w, t->name, t->type, t->dims, t->ne);
    }
    for (size_t i = 0; i < hth_gguf_tensor_count(m); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(m, i);
        float *x = numbers(t);

        for (uint32_t k = 0; k < loras; k++)
            merge(x, l[k], t->name, scale[k]);
        cr_assert_eq(hth_gguf_put_data(w, x, (size_t)t->bytes, &err), 0);
        free(x);
    }
    cr_assert_eq(hth_gguf_finish(w, &err), 0, "%s", err.text);
    for (uint32_t i = 0; i < loras; i++)
        hth_gguf_close(l[i]);
    hth_gguf_close(m);
}

/* Alpha is twice the rank: scale 0.5 adds B A once. */
static void check_merged(const char *lora_type)
{
    struct bench b;
    struct shard_run plain = {0}, merged = {0}, live = {0};
    float *base, *want, *got;
    size_t n;

    bench_init(&b, "F32", lora_type);
    write_merged(&b, (const char *[]){b.lora, b.second},
                 (const double[]){1, -0.5}, 2);
    base = run(&b, &plain);
    merged.gguf = b.merged;
    want = run(&b, &merged);
    live = (struct shard_run){
        .lora = {b.lora, b.second}, .lora_scale = {0.5f, -0.25f}, .loras = 2};
    got = run(&b, &live);
    n = (size_t)TOKENS * live.vocab;
    cr_assert_gt(max_abs_diff(base, got, n), 0.1, "the adapter does nothing");
    cr_assert_lt(max_abs_diff(want, got, n), 1e-4, "%s: %g", lora_type,
                 max_abs_diff(want, got, n));
    free(base);
    free(want);
    free(got);
    folder_fini(&b.f);
}

Test(lora, is_as_good_as_merged)
{
    check_merged("F32");
    check_merged("F16");
    check_merged("BF16");
}

Test(lora, of_quantised_numbers)
{
    check_merged("Q8_0");
}

/* ---- cuts ---------------------------------------------------------------- */

Test(lora, over_any_cut)
{
    static const struct {
        uint32_t ranks;
        double shares[4];
    } cuts[] = {{2, {1, 1}}, {2, {3, 1}}, {4, {1, 2, 1, 3}}, {3, {0, 1, 1}}};
    struct bench b;
    struct shard_run one = {0}, bare = {0};
    float *want, *got;
    size_t n;

    bench_init(&b, "F32", "F16");
    one = (struct shard_run){.lora = {b.lora}, .lora_scale = {1}, .loras = 1};
    want = run(&b, &one);
    n = (size_t)TOKENS * one.vocab;
    for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        struct shard_run r = one;

        r.shares = cuts[i].shares;
        r.ranks = cuts[i].ranks;
        r.chunk = 16;
        r.threads = 2;
        r.moving = i == 2;
        got = run(&b, &r);
        cr_assert_lt(max_abs_diff(want, got, n), 1e-4, "cut %zu: %g", i,
                     max_abs_diff(want, got, n));
        free(got);
        bare = r;
        bare.loras = 0;
        free(run(&b, &bare));
        cr_assert_eq(bare.reduced, r.reduced, "an adapter adds traffic");
    }
    free(want);
    folder_fini(&b.f);
}

/* The adapter's part must not depend on what else is in the batch; with
 * packed weights the model's part does not either. */
Test(lora, same_bits_in_any_batch)
{
    static const char *const types[] = {"F16", "F32", "BF16"};

    for (size_t i = 0; i < 3; i++) {
        struct bench b;
        struct shard_run whole = {0}, single;
        float *want, *got;

        bench_init(&b, "Q4_0", types[i]);
        whole = (struct shard_run){
            .lora = {b.lora}, .lora_scale = {1}, .loras = 1, .threads = 2};
        single = whole;
        want = run(&b, &whole);
        single.chunk = 1;
        got = run(&b, &single);
        cr_assert_eq(memcmp(want, got, (size_t)TOKENS * whole.vocab * 4), 0,
                     "%s", types[i]);
        free(want);
        free(got);
        folder_fini(&b.f);
    }
}

/* ---- refusals ------------------------------------------------------------ */

struct tensor_of {
    const char *name;
    uint64_t cols, rows;
};

static const struct tensor_of good[] = {{"blk.1.attn_q.weight.lora_a", 128, 4},
                                        {"blk.1.attn_q.weight.lora_b", 4, 128}};

struct keys_of {
    const char *general, *adapter, *arch;
    bool alpha;
};

static int try_file(struct bench *b, const struct keys_of *k,
                    const struct tensor_of *t, size_t n, struct hth_err *err)
{
    const char *path = folder_path(&b->f, "try.gguf");
    struct hth_gguf_writer *w;
    struct hth_lora_file *f = NULL;
    static struct hth_spec spec;
    struct hth_gguf *g;
    float *zeros = calloc(1u << 18, sizeof *zeros);
    int rc;

    cr_assert_eq(hth_gguf_open(&g, b->model, err), 0);
    cr_assert_eq(hth_spec_read(&spec, g, err), 0);
    hth_gguf_close(g);
    cr_assert_eq(hth_gguf_create(&w, path, err), 0);
    if (k->general != NULL)
        hth_gguf_put_string(w, "general.type", k->general);
    hth_gguf_put_string(w, "adapter.type", k->adapter);
    hth_gguf_put_string(w, "general.architecture", k->arch);
    if (k->alpha)
        hth_gguf_put_f32(w, "adapter.lora.alpha", 8);
    for (size_t i = 0; i < n; i++)
        hth_gguf_put_tensor(w, t[i].name, HTH_F32, 2,
                            (const uint64_t[]){t[i].cols, t[i].rows});
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(hth_gguf_put_data(
                         w, zeros, (size_t)(t[i].cols * t[i].rows * 4), err),
                     0);
    cr_assert_eq(hth_gguf_finish(w, err), 0, "%s", err->text);
    free(zeros);
    rc = hth_lora_file_open(&f, path, &spec, err);
    hth_lora_file_close(f);
    return rc;
}

Test(lora, wrong_files_are_refused_by_name)
{
    static const struct keys_of keys = {"adapter", "lora", "llama", true};
    static const struct {
        struct tensor_of t[2];
        int status;
        const char *says;
    } bad[] = {
        {{{"blk.1.attn_q.weight.lora_a", 128, 4},
          {"blk.1.attn_q.weight.lora_b", 4, 64}},
         HTH_EFORMAT,
         "lora_b is 64 x 4"},
        {{{"blk.1.attn_q.weight.lora_a", 64, 4},
          {"blk.1.attn_q.weight.lora_b", 4, 128}},
         HTH_EFORMAT,
         "lora_a is 4 x 64"},
        {{{"blk.1.attn_q.weight.lora_a", 128, 4},
          {"blk.2.attn_q.weight.lora_b", 4, 128}},
         HTH_EFORMAT,
         "no partner"},
        {{{"token_embd.weight.lora_a", 4, 320},
          {"token_embd.weight.lora_b", 4, 128}},
         HTH_EUNSUPPORTED,
         "token_embd.weight.lora_a"},
        {{{"blk.3.attn_q.weight.lora_a", 128, 4},
          {"blk.3.attn_q.weight.lora_b", 4, 128}},
         HTH_EUNSUPPORTED,
         "blk.3.attn_q"},
        {{{"blk.1.attn_q.weight.lora_a", 128, 4},
          {"blk.1.attn_norm.weight", 128, 1}},
         HTH_EUNSUPPORTED,
         "attn_norm"},
        {{{"blk.01.attn_q.weight.lora_a", 128, 4},
          {"blk.01.attn_q.weight.lora_b", 4, 128}},
         HTH_EUNSUPPORTED,
         "blk.01"},
        {{{"blk.1.attn_q.weight.lora_a", 128, 2000},
          {"blk.1.attn_q.weight.lora_b", 2000, 128}},
         HTH_ELIMIT,
         "rank 2000"},
    };
    struct bench b;
    struct hth_err err;

    bench_init(&b, "F32", "F32");
    cr_assert_eq(try_file(&b, &keys, good, 2, &err), 0, "%s", err.text);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_eq(try_file(&b, &keys, bad[i].t, 2, &err), bad[i].status,
                     "%zu: %s", i, err.text);
        cr_expect(strstr(err.text, bad[i].says) != NULL, "%s", err.text);
        cr_expect(strstr(err.text, "try.gguf") != NULL, "%s", err.text);
    }
    folder_fini(&b.f);
}

Test(lora, what_is_no_adapter_is_refused)
{
    static const struct keys_of bad[] = {{NULL, "lora", "llama", true},
                                         {"model", "lora", "llama", true},
                                         {"adapter", "dora", "llama", true},
                                         {"adapter", "lora", "qwen3", true},
                                         {"adapter", "lora", "llama", false}};
    struct bench b;
    struct hth_err err;

    bench_init(&b, "F32", "F32");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_expect_neq(try_file(&b, &bad[i], good, 2, &err), 0, "%zu", i);
    cr_expect_eq(try_file(&b, &(struct keys_of){"adapter", "lora", "llama", 1},
                          NULL, 0, &err),
                 HTH_EFORMAT);
    folder_fini(&b.f);
}

/* A slice with any byte of its table changed is refused or is a slice. */
Test(lora, hostile_slices)
{
    static struct hth_spec spec;
    struct hth_lora_place at = {.spec = &spec};
    struct hth_lora_file *f;
    struct hth_lora *lora = NULL;
    struct hth_shape shape;
    struct hth_plan plan;
    struct hth_gguf *g;
    struct hth_err err;
    struct hth_rng rng;
    struct bench b;
    uint8_t *whole, *copy;
    uint64_t n;

    bench_init(&b, "F32", "F16");
    cr_assert_eq(hth_gguf_open(&g, b.model, &err), 0);
    cr_assert_eq(hth_spec_read(&spec, g, &err), 0);
    hth_spec_shape(&spec, HTH_F16, &shape);
    cr_assert_eq(hth_plan_make(&shape, (const double[]){1, 1}, 2, &plan, &err),
                 0);
    at.plan = &plan;
    at.rank = 1;
    cr_assert_eq(hth_lora_file_open(&f, b.lora, &spec, &err), 0);
    n = hth_lora_slice_bytes(f, &at);
    whole = malloc(n);
    cr_assert_eq(hth_lora_slice(f, &at, whole, &err), 0);
    hth_rng_init(&rng, 3);
    for (uint32_t i = 0; i < 4000; i++) {
        uint64_t cut = i % 4 == 0 ? hth_rng_u64(&rng) % n : n;

        copy = hth_mem_alloc(cut + 1);
        memcpy(copy, whole, cut);
        if (cut == n)
            copy[hth_rng_u64(&rng) % 352] ^= 1u << (hth_rng_u64(&rng) % 8);
        lora = NULL;
        if (hth_lora_open(&lora, &at, copy, cut, &err) == 0)
            cr_assert_eq(cut, n);
        hth_lora_close(lora);
    }
    copy = hth_mem_alloc(n);
    memcpy(copy, whole, n);
    cr_assert_eq(hth_lora_open(&lora, &at, copy, n, &err), 0, "%s", err.text);
    cr_assert_eq(hth_lora_bytes(lora), n);
    hth_lora_close(lora);
    at.rank = 0; /* cut alike, but from other places: as large, so it fits */
    hth_lora_file_close(f);
    hth_gguf_close(g);
    free(whole);
    folder_fini(&b.f);
}
