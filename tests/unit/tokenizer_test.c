/* tokenizer_test.c - ids against vectors of other implementations, text back
 * again, and texts meant to hurt. The vectors are not ours to ship: they are
 * found at HEARTH_GOLDEN, or else the tests that need them are skipped and
 * say so. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/limits.h"
#include "base/rng.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "tests/unit/tokenizer_make.h"

#define SEPARATOR "\n__ggml_vocab_test__\n"

static const char *golden(const char *name)
{
    static char path[512];
    const char *dir = getenv("HEARTH_GOLDEN");

    snprintf(path, sizeof path, "%s/tokenizer/%s",
             dir != NULL ? dir : "../shared/golden", name);
    if (access(path, R_OK) != 0) {
        fprintf(stderr, "SKIPPED: no %s; set HEARTH_GOLDEN\n", path);
        cr_skip_test("no golden data");
    }
    return path;
}

static struct hth_tokenizer *open_golden(const char *name)
{
    struct hth_tokenizer *t = NULL;
    struct hth_gguf *g = NULL;
    struct hth_err err = {0};

    cr_assert_eq(hth_gguf_open(&g, golden(name), &err), 0, "%s", err.text);
    cr_assert_eq(hth_tokenizer_open(&t, g, &err), 0, "%s", err.text);
    hth_gguf_close(g); /* a tokenizer keeps nothing of it */
    return t;
}

/* What the ids stand for, byte for byte. */
static void bytes_of(const struct hth_tokenizer *t, const struct hth_tokens *v,
                     bool special, struct hth_buf *out)
{
    char piece[HTH_TOKEN_BYTES_MAX];
    size_t i;

    for (i = 0; i < v->count; i++)
        hth_put_bytes(
            out, piece,
            hth_token_bytes(t, v->ids[i], special, piece, sizeof piece));
}

static void check_round_trip(const struct hth_tokenizer *t, const char *text,
                             size_t n)
{
    struct hth_tokens v = make_encode(t, text, n, false);
    struct hth_buf back;

    hth_buf_init(&back, 4 * n + 64);
    bytes_of(t, &v, true, &back);
    cr_assert_eq(back.len, n);
    cr_assert(n == 0 || memcmp(back.data, text, n) == 0);
    hth_buf_fini(&back);
    hth_tokens_fini(&v);
}

static char *read_all(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *p = calloc(1, 1 << 20);

    cr_assert(f != NULL && p != NULL);
    *n = fread(p, 1, (1 << 20) - 1, f);
    fclose(f);
    return p;
}

static size_t parse_ids(const char *line, uint32_t *ids, size_t max)
{
    size_t count = 0;
    char *end;

    for (; count < max; line = end) {
        unsigned long v = strtoul(line, &end, 10);

        if (end == line || memchr(line, '\n', (size_t)(end - line)) != NULL)
            break;
        ids[count++] = (uint32_t)v;
    }
    return count;
}

static void check_vectors(const char *name)
{
    struct hth_tokenizer *t = open_golden(name);
    char file[128], *text, *out, *p, *line, *end;
    uint32_t ids[512];
    size_t n, cases = 0;

    snprintf(file, sizeof file, "%s.inp", name);
    text = read_all(golden(file), &n);
    snprintf(file, sizeof file, "%s.out", name);
    out = read_all(golden(file), &n);
    for (p = text, line = out; *line != '\0'; cases++) {
        end = strstr(p, SEPARATOR);
        n = end != NULL ? (size_t)(end - p) : strlen(p);
        p[n] = '\0';
        make_check(t, p, false, ids, parse_ids(line, ids, 512));
        line = strchr(line, '\n');
        cr_assert(line != NULL);
        line++;
        if (end == NULL)
            break;
        p = end + strlen(SEPARATOR);
    }
    cr_assert_gt(cases, 40);
    free(text);
    free(out);
    hth_tokenizer_close(t);
}

Test(tokenizer, vectors_gpt2)
{
    check_vectors("ggml-vocab-gpt-2.gguf");
}

Test(tokenizer, vectors_deepseek_llm)
{
    check_vectors("ggml-vocab-deepseek-llm.gguf");
}

Test(tokenizer, vectors_llama_spm)
{
    check_vectors("ggml-vocab-llama-spm.gguf");
}

Test(tokenizer, vectors_phi3)
{
    check_vectors("ggml-vocab-phi-3.gguf");
}

/* The GPT-2 vocabulary under another pre-tokeniser's name. */
static struct hth_tokenizer *open_gpt2_as(const char *pre)
{
    struct hth_tokenizer *t;
    struct hth_gguf *g = NULL;
    struct hth_err err = {0};

    cr_assert_eq(hth_gguf_open(&g, golden("ggml-vocab-gpt-2.gguf"), &err), 0,
                 "%s", err.text);
    t = make_with_pre(g, pre);
    hth_gguf_close(g);
    return t;
}

static void check_jsonl(const char *name, const char *pre)
{
    struct hth_tokenizer *t = open_gpt2_as(pre);
    FILE *f = fopen(golden(name), "r");
    char *line = NULL;
    uint32_t ids[512];
    size_t cap = 0, cases = 0, i;

    for (; getline(&line, &cap, f) > 0; cases++) {
        json_t *row = json_loads(line, 0, NULL);
        json_t *list = json_object_get(row, "ids");
        json_t *text = json_object_get(row, "text");

        cr_assert(text != NULL && json_array_size(list) <= 512);
        for (i = 0; i < json_array_size(list); i++)
            ids[i] = (uint32_t)json_integer_value(json_array_get(list, i));
        make_check(t, json_string_value(text), false, ids,
                   json_array_size(list));
        json_decref(row);
    }
    cr_assert_gt(cases, 40);
    free(line);
    fclose(f);
    hth_tokenizer_close(t);
}

Test(tokenizer, vectors_llama_bpe)
{
    check_jsonl("gpt2-vocab-pre-llama-bpe.jsonl", "llama-bpe");
}

Test(tokenizer, vectors_qwen2)
{
    check_jsonl("gpt2-vocab-pre-qwen2.jsonl", "qwen2");
}

/* ---- text back again --------------------------------------------------- */

static void check_random_round_trips(struct hth_tokenizer *t)
{
    struct hth_rng rng;
    char text[1024];
    int i;

    hth_rng_init(&rng, 7);
    for (i = 0; i < 500; i++)
        check_round_trip(t, text, make_text(&rng, text, sizeof text));
    hth_tokenizer_close(t);
}

/* Whatever a pre-tokeniser does to a text, nothing of it is lost. */
Test(tokenizer, round_trip_of_every_pre_tokeniser)
{
    static const char *const names[] = {
        "default",        "gpt-2",       "llama-bpe", "qwen2",
        "deepseek-llm",   "deepseek-v3", "falcon",    "starcoder",
        "deepseek-coder", "tekken",      "gpt-4o",    "bloom",
        "viking",         "bailingmoe",  "refact",    "smollm",
        "seed-coder"};
    size_t i;

    for (i = 0; i < sizeof names / sizeof names[0]; i++)
        check_random_round_trips(open_gpt2_as(names[i]));
}

/* ---- texts meant to hurt ----------------------------------------------- */

#define LONG (1u << 20)

static void fill(char *dst, const char *unit)
{
    size_t n = strlen(unit), i;

    for (i = 0; i < LONG; i++)
        dst[i] = unit[i % n];
}

static void check_long(const struct hth_tokenizer *t, const char *text,
                       size_t n, const char *what)
{
    struct hth_tokens v = make_encode(t, text, n, false);

    cr_assert_gt(v.count, n / 200, "%s", what);
    hth_tokens_fini(&v);
}

/* Quadratic behaviour anywhere would take hours on these: the runner's
 * time-out of a test sees to that, no figure here. */
static void check_hurtful(struct hth_tokenizer *t)
{
    static const char *const units[] = {"a", " ", "\n", "7", " \t", "!", "'"};
    char *text = malloc(LONG);
    struct hth_rng rng;
    size_t i;

    cr_assert(text != NULL);
    for (i = 0; i < sizeof units / sizeof units[0]; i++) {
        fill(text, units[i]);
        text[LONG - 1] = '5'; /* look-ahead and ends have to go back */
        check_long(t, text, i < 2 ? LONG : LONG / 8, units[i]);
        check_long(t, text + LONG - LONG / 8, LONG / 8, units[i]);
    }
    hth_rng_init(&rng, 3);
    for (i = 0; i < LONG; i++)
        text[i] = (char)hth_rng_u64(&rng);
    check_long(t, text, LONG, "random");
    free(text);
    hth_tokenizer_close(t);
}

Test(tokenizer, long_texts_gpt2)
{
    check_hurtful(open_gpt2_as("gpt-2"));
}

Test(tokenizer, long_texts_llama_bpe)
{
    check_hurtful(open_gpt2_as("llama-bpe"));
}

Test(tokenizer, long_texts_deepseek_llm)
{
    check_hurtful(open_golden("ggml-vocab-deepseek-llm.gguf"));
}

Test(tokenizer, long_texts_llama_spm)
{
    check_hurtful(open_golden("ggml-vocab-llama-spm.gguf"));
}

/* ---- special tokens of real files -------------------------------------- */

Test(tokenizer, special_tokens_of_real_files)
{
    struct hth_tokenizer *t = open_golden("ggml-vocab-gpt-2.gguf");

    CHECK_IDS(t, "Hello<|endoftext|>", true, 15496, 50256);
    CHECK_IDS(t, "<|endoftext|>", false, 27, 91, 437, 1659, 5239, 91, 29);
    cr_assert(hth_tokenizer_is_end(t, 50256));
    cr_assert_not(hth_tokenizer_adds_bos(t));
    hth_tokenizer_close(t);

    t = open_golden("ggml-vocab-phi-3.gguf");
    CHECK_IDS(t, "<|user|>\nHello<|end|>\n<|assistant|>\n", true, 32010, 15043,
              32007, 32001);
    cr_assert(hth_tokenizer_is_end(t, 32000));
    cr_assert(hth_tokenizer_is_end(t, 32007));
    cr_assert_not(hth_tokenizer_is_end(t, 32010));
    hth_tokenizer_close(t);
}
