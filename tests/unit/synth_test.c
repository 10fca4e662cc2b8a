/* synth_test.c - synthetic models: the grammar of shapes, and that what is
 * written is a model: right shapes, types and deviations, a tokenizer that
 * works, logits that are finite and vary. */
#include "model/synth.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "kernels/quant.h"
#include "kernels/type.h"
#include "model/gguf.h"
#include "model/spec.h"
#include "model/tokenizer.h"
#include "tests/unit/folder.h"
#include "tests/unit/support.h"

/* ---- shapes ------------------------------------------------------------ */

Test(synth, presets)
{
    static const char *const names[] = {"tiny",       "llama-1b",
                                        "llama-8b",   "llama-70b",
                                        "qwen3-0.6b", "qwen3-30b-a3b"};
    struct hth_synth_shape s;
    struct hth_err err;

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        cr_expect_eq(hth_synth_parse(&s, names[i], &err), 0, "%s", err.text);
        cr_expect_str_eq(s.name, names[i]);
        cr_expect(strstr(hth_synth_presets(), names[i]) != NULL);
    }
    cr_expect_eq(s.experts, 128);
    cr_expect_eq(hth_synth_parse(&s, "llama-8b,layers=4,tied=1", &err), 0);
    cr_expect(s.layers == 4 && s.dim == 4096 && s.ff == 14336 && s.tied);
}

Test(synth, shapes_by_numbers)
{
    struct hth_synth_shape s;
    struct hth_err err;

    cr_assert_eq(
        hth_synth_parse(&s, "d=96,layers=3,heads=4,ff=128,vocab=300", &err), 0,
        "%s", err.text);
    cr_expect(s.kv_heads == 4 && s.head_dim == 24 && !s.tied);
    cr_expect_str_eq(s.arch, "llama");
    cr_assert_eq(hth_synth_parse(&s,
                                 "d=96,layers=3,heads=4,kv=2,ff=128,vocab=300,"
                                 "head_dim=16,experts=4,ctx=100",
                                 &err),
                 0, "%s", err.text);
    cr_expect(s.kv_heads == 2 && s.head_dim == 16 && s.experts_used == 2);
    cr_expect_str_eq(s.arch, "qwen3moe");
    cr_expect_eq(s.ctx, 100);
}

struct bad_shape {
    const char *text;
    int status;
    const char *says;
};

static const struct bad_shape bad_shapes[] = {
    {"", HTH_EUSAGE, "no preset"},
    {"llama-9b", HTH_EUSAGE, "llama-9b is no preset (tiny, "},
    {"tiny,", HTH_EUSAGE, "no preset"},
    {"tiny,llama-1b", HTH_EUSAGE, "llama-1b is no preset"},
    {"d=64", HTH_EUSAGE, "are needed"},
    {"tiny,width=3", HTH_EUSAGE, "width is no key"},
    {"tiny,d=", HTH_EUSAGE, "no number"},
    {"tiny,d=-1", HTH_EUSAGE, "no number"},
    {"tiny,d=12x", HTH_EUSAGE, "12x is no number"},
    {"tiny,layers=0", HTH_ELIMIT, "layers=0"},
    {"tiny,layers=513", HTH_ELIMIT, "1 to 512"},
    {"tiny,vocab=99999999999999999999999", HTH_ELIMIT, "vocab="},
    {"tiny,vocab=100", HTH_ELIMIT, "vocab=100"},
    {"tiny,kv=3", HTH_EUSAGE, "do not divide"},
    {"tiny,head_dim=15", HTH_EUSAGE, "must be even"},
    {"tiny,arch=gpt5", HTH_EUSAGE, "gpt5"},
    {"tiny,arch=qwen3moe", HTH_EUSAGE, "experts go with"},
    {"tiny,experts=4", HTH_EUSAGE, "experts go with"},
    {"qwen3-30b-a3b,used=129", HTH_EUSAGE, "129 of 128"},
    {"tiny,tied=2", HTH_EUSAGE, "not 0 or 1"},
};

Test(synth, wrong_shapes_are_refused)
{
    for (size_t i = 0; i < sizeof bad_shapes / sizeof bad_shapes[0]; i++) {
        const struct bad_shape *c = &bad_shapes[i];
        struct hth_synth_shape s = {.dim = 7};
        struct hth_err err = {0};

        cr_expect_eq(hth_synth_parse(&s, c->text, &err), c->status, "%s: %s",
                     c->text, err.text);
        cr_expect(strstr(err.text, c->says) != NULL, "%s: %s", c->text,
                  err.text);
        cr_expect_eq(s.dim, 7, "outputs are untouched on error");
    }
}

/* ---- files ------------------------------------------------------------- */

static struct hth_err g_err; /* of the test that runs; one process each */

static struct hth_gguf *write_model(struct folder *f, const char *shape,
                                    const char *type)
{
    struct hth_synth_opts opts = {.shape = shape, .type = type, .seed = 5};
    struct hth_gguf *g;

    cr_assert_eq(hth_synth_write(&opts, folder_path(f, "m.gguf"), &g_err), 0,
                 "%s %s: %s", shape, type, g_err.text);
    cr_assert_eq(hth_gguf_open(&g, f->path, &g_err), 0, "%s", g_err.text);
    return g;
}

#define K_SHAPE "d=256,layers=8,heads=4,kv=2,ff=512,vocab=400"

static uint32_t type_of(const struct hth_gguf *g, const char *name)
{
    const struct hth_tensor *t = hth_gguf_tensor(g, name);

    cr_assert(t != NULL, "no tensor %s", name);
    return t->type;
}

/* Every architecture and type makes a file that the model code accepts. */
Test(synth, files_are_models)
{
    static const char *const shapes[][2] = {
        {"tiny", "F32"},
        {"tiny", "f16"},
        {"tiny", "BF16"},
        {"tiny", "Q8_0"},
        {"tiny", "Q4_0"},
        {"tiny", "Q4_1"},
        {"tiny", "Q5_0"},
        {"tiny", "Q5_1"},
        {K_SHAPE, "Q4_K"},
        {K_SHAPE, "Q5_K"},
        {K_SHAPE, "Q6_K"},
        {K_SHAPE, "q4_k_m"},
        {K_SHAPE, "Q5_K_M"},
        {"tiny,arch=qwen2", "Q8_0"},
        {"tiny,arch=qwen3,head_dim=32,tied=1", "Q8_0"},
        {"tiny,arch=qwen3moe,experts=4,used=2", "Q8_0"},
    };
    struct hth_spec *spec = malloc(sizeof *spec);
    struct hth_tokenizer *tokens;
    struct folder f;

    folder_init(&f);
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        struct hth_gguf *g = write_model(&f, shapes[i][0], shapes[i][1]);

        cr_expect_eq(hth_spec_read(spec, g, &g_err), 0, "%s %s: %s",
                     shapes[i][0], shapes[i][1], g_err.text);
        cr_expect_eq(hth_tokenizer_open(&tokens, g, &g_err), 0, "%s",
                     g_err.text);
        cr_expect_eq(hth_tokenizer_vocab(tokens), spec->vocab);
        cr_expect_eq(spec->tied, strstr(shapes[i][0], "tied") != NULL);
        hth_tokenizer_close(tokens);
        hth_gguf_close(g);
    }
    free(spec);
    folder_fini(&f);
}

Test(synth, mixes)
{
    struct folder f;
    struct hth_gguf *g;
    uint32_t file_type;

    folder_init(&f);
    g = write_model(&f, K_SHAPE, "Q4_K_M");
    cr_expect_eq(type_of(g, "output.weight"), HTH_Q6_K);
    cr_expect_eq(type_of(g, "token_embd.weight"), HTH_Q4_K);
    cr_expect_eq(type_of(g, "blk.0.attn_v.weight"), HTH_Q6_K);
    cr_expect_eq(type_of(g, "blk.1.attn_v.weight"), HTH_Q4_K);
    cr_expect_eq(type_of(g, "blk.3.ffn_down.weight"), HTH_Q6_K);
    cr_expect_eq(type_of(g, "blk.4.ffn_down.weight"), HTH_Q4_K);
    cr_expect_eq(type_of(g, "blk.7.ffn_down.weight"), HTH_Q6_K);
    cr_expect_eq(type_of(g, "blk.7.ffn_up.weight"), HTH_Q4_K);
    cr_expect_eq(type_of(g, "blk.0.attn_norm.weight"), HTH_F32);
    cr_expect(hth_gguf_u32(g, "general.file_type", &file_type, NULL) == 0);
    cr_expect_eq(file_type, 15);
    hth_gguf_close(g);
    g = write_model(&f, K_SHAPE ",tied=1", "Q5_K_M");
    cr_expect_eq(type_of(g, "token_embd.weight"), HTH_Q6_K);
    cr_expect_eq(type_of(g, "blk.1.attn_v.weight"), HTH_Q5_K);
    cr_expect(hth_gguf_tensor(g, "output.weight") == NULL);
    hth_gguf_close(g);
    folder_fini(&f);
}

/* The deviation of a tensor's weights about `mean`, dequantised. */
static double deviation_of(const struct hth_gguf *g, const char *name,
                           double mean)
{
    const struct hth_tensor *t = hth_gguf_tensor(g, name);
    size_t cols = (size_t)t->ne[0], rows = (size_t)(t->ne[1] * t->ne[2]);
    float *x = malloc(cols * sizeof *x);
    double sum = 0;

    for (size_t r = 0; r < rows; r++) {
        hth_dequantize((enum hth_type)t->type,
                       (const char *)t->data + r * hth_row_bytes(t->type, cols),
                       x, cols);
        for (size_t i = 0; i < cols; i++)
            sum += (x[i] - mean) * (x[i] - mean);
    }
    free(x);
    return sqrt(sum / (double)(cols * rows));
}

static void expect_near(double got, double want, double share)
{
    cr_expect(fabs(got / want - 1) < share, "%g, not near %g", got, want);
}

static int compare_rows(const void *a, const void *b, void *bytes)
{
    return memcmp(*(const void *const *)a, *(const void *const *)b,
                  *(size_t *)bytes);
}

/* Equal rows of the output would tie tokens. */
static void expect_distinct_rows(const struct hth_gguf *g, const char *name)
{
    const struct hth_tensor *t = hth_gguf_tensor(g, name);
    size_t each = hth_row_bytes(t->type, t->ne[0]), rows = (size_t)t->ne[1];
    const char **row = malloc(rows * sizeof *row);

    for (size_t i = 0; i < rows; i++)
        row[i] = (const char *)t->data + i * each;
    qsort_r(row, rows, sizeof *row, compare_rows, &each);
    for (size_t i = 1; i < rows; i++)
        cr_assert(memcmp(row[i - 1], row[i], each) != 0, "%s: equal rows",
                  name);
    free(row);
}

/* d=1024 has matrices of both kinds: from stock and quantised in full. */
Test(synth, weights_have_their_deviation)
{
    struct folder f;
    struct hth_gguf *g;

    folder_init(&f);
    g = write_model(&f, "d=1024,layers=1,heads=8,ff=1056,vocab=2000", "Q4_0");
    expect_near(deviation_of(g, "output.weight", 0), 2 / 32.0, 0.02);
    expect_near(deviation_of(g, "token_embd.weight", 0), 2 / 32.0, 0.02);
    expect_near(deviation_of(g, "blk.0.attn_q.weight", 0), 1 / 32.0, 0.02);
    expect_near(deviation_of(g, "blk.0.ffn_down.weight", 0), 1 / sqrt(1056),
                0.02);
    expect_near(deviation_of(g, "blk.0.ffn_norm.weight", 1), 0.1, 0.1);
    expect_near(deviation_of(g, "output_norm.weight", 1), 0.1, 0.1);
    expect_distinct_rows(g, "output.weight");
    expect_distinct_rows(g, "token_embd.weight");
    expect_distinct_rows(g, "blk.0.ffn_down.weight");
    expect_distinct_rows(g, "blk.0.attn_k.weight");
    cr_expect(memcmp(hth_gguf_tensor(g, "output.weight")->data,
                     hth_gguf_tensor(g, "token_embd.weight")->data, 1000) != 0);
    hth_gguf_close(g);
    folder_fini(&f);
}

struct steps {
    uint64_t last, total;
    int calls;
};

static void on_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    struct steps *s = ctx;

    cr_expect(done_bytes > s->last && done_bytes <= total_bytes);
    s->last = done_bytes;
    s->total = total_bytes;
    s->calls++;
}

Test(synth, same_seed_same_file)
{
    struct steps steps = {0};
    struct hth_synth_opts opts = {.shape = "tiny",
                                  .type = "Q8_0",
                                  .seed = 1,
                                  .progress = on_progress,
                                  .progress_ctx = &steps};
    struct folder f;
    uint8_t *image[3];
    size_t size[3];

    folder_init(&f);
    for (int i = 0; i < 3; i++) {
        opts.seed = i < 2 ? 1 : 2;
        steps = (struct steps){0};
        cr_assert_eq(hth_synth_write(&opts, folder_path(&f, "m.gguf"), &g_err),
                     0, "%s", g_err.text);
        cr_expect(steps.calls > 0 && steps.last == steps.total);
        image[i] = read_file(f.path, &size[i]);
    }
    cr_expect(size[0] == size[1] && memcmp(image[0], image[1], size[0]) == 0);
    cr_expect(size[0] == size[2] && memcmp(image[0], image[2], size[0]) != 0);
    for (int i = 0; i < 3; i++)
        free(image[i]);
    folder_fini(&f);
}

Test(synth, refusals_leave_nothing)
{
    static const char *const bad[][3] = {
        {"tiny", "Q9_9", "type Q9_9 is unknown"},
        {"tiny", "Q3_K", "type Q3_K is unknown or cannot be written"},
        {"tiny", "Q4_K", "rows of token_embd.weight have 64 numbers"},
        {"tiny,ff=100", "Q8_0", "blk.0.ffn_down.weight have 100"},
        {"huge", "F32", "huge is no preset"},
    };
    struct hth_synth_opts opts = {.seed = 1};
    struct folder f;

    folder_init(&f);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        opts.shape = bad[i][0];
        opts.type = bad[i][1];
        cr_expect_eq(hth_synth_write(&opts, folder_path(&f, "m.gguf"), &g_err),
                     HTH_EUSAGE);
        cr_expect(strstr(g_err.text, bad[i][2]) != NULL, "%s", g_err.text);
    }
    opts.shape = "tiny";
    opts.type = "F16";
    cr_expect_eq(hth_synth_write(&opts, "/nonexistent/x", &g_err), HTH_EIO);
    cr_expect_eq(folder_count(&f), 0);
    folder_fini(&f);
}

/* ---- the tokenizer, the logits ----------------------------------------- */

/* Text survives, common pairs are merged, control tokens are found. */
static void check_tokens(const struct hth_tokenizer *t, uint32_t vocab,
                         size_t most)
{
    static const char text[] = "Hello the world,\t\xc3\xa9\xff 123 there";
    struct hth_tokens ids = {0};
    char back[64];
    size_t n = 0;

    cr_assert_eq(hth_tokenize(t, (struct hth_str){text, sizeof text - 1}, false,
                              &ids, NULL),
                 0);
    cr_expect(ids.count <= most, "%zu tokens", ids.count);
    for (size_t i = 0; i < ids.count; i++)
        n += hth_token_bytes(t, ids.ids[i], false, back + n, sizeof back - n);
    cr_expect(n == sizeof text - 1 && memcmp(back, text, n) == 0);
    hth_tokens_fini(&ids);
    cr_expect_eq(hth_tokenizer_bos(t), vocab - 3);
    cr_expect(hth_tokenizer_is_end(t, vocab - 1));
    cr_expect(hth_tokenizer_adds_bos(t));
    cr_assert_eq(
        hth_tokenize(t, (struct hth_str){"<|im_start|>", 12}, true, &ids, NULL),
        0);
    cr_expect(ids.count == 1 && ids.ids[0] == vocab - 2);
    hth_tokens_fini(&ids);
}

Test(synth, tokenizers_of_all_sizes)
{
    static const struct {
        uint32_t vocab;
        size_t most; /* tokens of the sample text, 31 bytes */
    } sizes[] = {{260, 31}, {512, 27}, {32000, 20}, {200000, 19}};
    struct hth_tokenizer *t;
    struct folder f;

    folder_init(&f);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        char shape[96];
        struct hth_gguf *g;

        snprintf(shape, sizeof shape, "d=2,layers=1,heads=1,ff=1,vocab=%u",
                 sizes[i].vocab);
        g = write_model(&f, shape, "F32");
        cr_assert_eq(hth_tokenizer_open(&t, g, &g_err), 0, "%s", g_err.text);
        check_tokens(t, sizes[i].vocab, sizes[i].most);
        hth_tokenizer_close(t);
        hth_gguf_close(g);
    }
    folder_fini(&f);
}

/* The scaling's purpose: no overflow, no flat and no one-sided distribution
 * after many layers. */
Test(synth, logits_are_sane)
{
    static const uint32_t tokens[] = {1, 50, 300, 7, 299, 12};
    static const double shares[] = {1};
    struct shard_run run = {.shares = shares,
                            .ranks = 1,
                            .threads = 1,
                            .kv_type = HTH_F16,
                            .chunk = 6,
                            .tokens = tokens,
                            .count = 6};
    struct folder f;
    double sum = 0, squares = 0;
    float *logits;

    folder_init(&f);
    hth_gguf_close(write_model(&f, "tiny,layers=24", "Q8_0"));
    run.gguf = f.path;
    logits = run_shards(&run);
    cr_assert_eq(run.vocab, 512);
    for (uint32_t i = 0; i < run.count * run.vocab; i++) {
        cr_assert(isfinite(logits[i]));
        sum += logits[i];
        squares += (double)logits[i] * logits[i];
    }
    sum /= run.count * run.vocab;
    squares /= run.count * run.vocab;
    cr_expect(fabs(sum) < 0.3, "mean %g", sum);
    cr_expect(sqrt(squares) > 1 && sqrt(squares) < 4, "deviation %g",
              sqrt(squares));
    cr_expect(max_abs_diff(logits, logits + run.vocab, run.vocab) > 1);
    free(logits);
    folder_fini(&f);
}
