/* synth_shape.c - the shapes of synthetic models: presets and their grammar.
 * Owns no state; fails with a sentence about the word that is wrong. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "model/synth_internal.h"

#define SYNTH_TEXT_MAX 512u /* bytes of a shape's description */

/* The shapes of published models, under names that say so. */
static const struct hth_synth_shape g_presets[] = {
    {.name = "tiny",
     .arch = "llama",
     .dim = 64,
     .layers = 2,
     .heads = 4,
     .kv_heads = 2,
     .head_dim = 16,
     .ff = 192,
     .vocab = 512,
     .ctx = 2048,
     .rope_base = 10000,
     .norm_eps = 1e-5f},
    {.name = "llama-1b",
     .arch = "llama",
     .dim = 2048,
     .layers = 16,
     .heads = 32,
     .kv_heads = 8,
     .head_dim = 64,
     .ff = 8192,
     .vocab = 32000,
     .ctx = 8192,
     .rope_base = 500000,
     .norm_eps = 1e-5f},
    {.name = "llama-8b",
     .arch = "llama",
     .dim = 4096,
     .layers = 32,
     .heads = 32,
     .kv_heads = 8,
     .head_dim = 128,
     .ff = 14336,
     .vocab = 128256,
     .ctx = 8192,
     .rope_base = 500000,
     .norm_eps = 1e-5f},
    {.name = "llama-70b",
     .arch = "llama",
     .dim = 8192,
     .layers = 80,
     .heads = 64,
     .kv_heads = 8,
     .head_dim = 128,
     .ff = 28672,
     .vocab = 128256,
     .ctx = 8192,
     .rope_base = 500000,
     .norm_eps = 1e-5f},
    {.name = "qwen3-0.6b",
     .arch = "qwen3",
     .dim = 1024,
     .layers = 28,
     .heads = 16,
     .kv_heads = 8,
     .head_dim = 128,
     .ff = 3072,
     .vocab = 151936,
     .ctx = 40960,
     .rope_base = 1000000,
     .norm_eps = 1e-6f,
     .tied = true},
    {.name = "qwen3-30b-a3b",
     .arch = "qwen3moe",
     .dim = 2048,
     .layers = 48,
     .heads = 32,
     .kv_heads = 4,
     .head_dim = 128,
     .ff = 768,
     .vocab = 151936,
     .experts = 128,
     .experts_used = 8,
     .ctx = 40960,
     .rope_base = 1000000,
     .norm_eps = 1e-6f},
};

#define PRESETS (sizeof g_presets / sizeof g_presets[0])

const char *hth_synth_presets(void)
{
    return "tiny, llama-1b, llama-8b, llama-70b, qwen3-0.6b, qwen3-30b-a3b";
}

static const struct hth_synth_shape *find_preset(const char *name)
{
    for (size_t i = 0; i < PRESETS; i++)
        if (strcmp(g_presets[i].name, name) == 0)
            return &g_presets[i];
    return NULL;
}

static const struct field {
    const char *name;
    size_t at; /* of a uint32_t in struct hth_synth_shape */
    uint32_t min, max;
} g_fields[] = {
    {"d", offsetof(struct hth_synth_shape, dim), 1, HTH_DIM_MAX},
    {"layers", offsetof(struct hth_synth_shape, layers), 1, HTH_LAYERS_MAX},
    {"heads", offsetof(struct hth_synth_shape, heads), 1, HTH_HEADS_MAX},
    {"kv", offsetof(struct hth_synth_shape, kv_heads), 1, HTH_HEADS_MAX},
    {"head_dim", offsetof(struct hth_synth_shape, head_dim), 2,
     HTH_HEAD_DIM_MAX},
    {"ff", offsetof(struct hth_synth_shape, ff), 1, HTH_FF_MAX},
    {"vocab", offsetof(struct hth_synth_shape, vocab), SYNTH_VOCAB_MIN,
     HTH_VOCAB_MAX},
    {"experts", offsetof(struct hth_synth_shape, experts), 1, HTH_EXPERTS_MAX},
    {"used", offsetof(struct hth_synth_shape, experts_used), 1,
     HTH_EXPERTS_MAX},
    {"ctx", offsetof(struct hth_synth_shape, ctx), 1, HTH_CTX_MAX},
};

#define FIELDS (sizeof g_fields / sizeof g_fields[0])
#define FIELD_NAMES                                                         \
    "d, layers, heads, kv, head_dim, ff, vocab, experts, used, ctx, arch, " \
    "tied"

static int set_number(struct hth_synth_shape *s, const struct field *f,
                      const char *text, struct hth_err *err)
{
    char *end;
    unsigned long long v = strtoull(text, &end, 10);

    if (text[0] < '0' || text[0] > '9' || *end != '\0')
        return hth_fail(err, HTH_EUSAGE, "shape: %s=%.40s is no number",
                        f->name, text);
    if (v < f->min || v > f->max)
        return hth_fail(err, HTH_ELIMIT, "shape: %s=%.40s; it must be %u to %u",
                        f->name, text, f->min, f->max);
    *(uint32_t *)(void *)((char *)s + f->at) = (uint32_t)v;
    return 0;
}

static int set_arch(struct hth_synth_shape *s, const char *text,
                    struct hth_err *err)
{
    static const char *const known[] = {"llama", "qwen2", "qwen3", "qwen3moe"};

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(known[i], text) == 0) {
            snprintf(s->arch, sizeof s->arch, "%s", text);
            return 0;
        }
    return hth_fail(err, HTH_EUSAGE,
                    "shape: arch=%.40s is unknown; llama, qwen2, qwen3 and "
                    "qwen3moe are supported",
                    text);
}

static int set_tied(struct hth_synth_shape *s, const char *text,
                    struct hth_err *err)
{
    if (strcmp(text, "0") != 0 && strcmp(text, "1") != 0)
        return hth_fail(err, HTH_EUSAGE, "shape: tied=%.40s is not 0 or 1",
                        text);
    s->tied = text[0] == '1';
    return 0;
}

/* One "key=value"; word is cut at the sign. */
static int set_word(struct hth_synth_shape *s, char *word, struct hth_err *err)
{
    char *value = strchr(word, '=');

    if (value == NULL)
        return hth_fail(err, HTH_EUSAGE,
                        "shape: %.40s is no preset (%s) and no key=value", word,
                        hth_synth_presets());
    *value++ = '\0';
    if (strcmp(word, "arch") == 0)
        return set_arch(s, value, err);
    if (strcmp(word, "tied") == 0)
        return set_tied(s, value, err);
    for (size_t i = 0; i < FIELDS; i++)
        if (strcmp(g_fields[i].name, word) == 0)
            return set_number(s, &g_fields[i], value, err);
    return hth_fail(err, HTH_EUSAGE,
                    "shape: %.40s is no key; there are " FIELD_NAMES, word);
}

/* What follows from the rest where it is not given. */
static int complete(struct hth_synth_shape *s, struct hth_err *err)
{
    if (s->dim == 0 || s->layers == 0 || s->heads == 0 || s->ff == 0 ||
        s->vocab == 0)
        return hth_fail(err, HTH_EUSAGE,
                        "shape: d, layers, heads, ff and vocab are needed, or "
                        "a preset (%s)",
                        hth_synth_presets());
    if (s->arch[0] == '\0')
        snprintf(s->arch, sizeof s->arch, "%s",
                 s->experts > 0 ? "qwen3moe" : "llama");
    if (s->kv_heads == 0)
        s->kv_heads = s->heads;
    if (s->head_dim == 0)
        s->head_dim = s->dim / s->heads;
    if (s->experts > 0 && s->experts_used == 0)
        s->experts_used = s->experts < 2 ? 1 : 2;
    return 0;
}

static int check(const struct hth_synth_shape *s, struct hth_err *err)
{
    bool moe = strcmp(s->arch, "qwen3moe") == 0;

    if (s->heads % s->kv_heads != 0)
        return hth_fail(err, HTH_EUSAGE,
                        "shape: %u heads do not divide into %u KV heads",
                        s->heads, s->kv_heads);
    if (s->head_dim < 2 || s->head_dim > HTH_HEAD_DIM_MAX ||
        s->head_dim % 2 != 0)
        return hth_fail(err, HTH_EUSAGE,
                        "shape: a head dimension of %u; it must be even, 2 to "
                        "%u",
                        s->head_dim, HTH_HEAD_DIM_MAX);
    if (moe != (s->experts > 0))
        return hth_fail(err, HTH_EUSAGE,
                        "shape: experts go with arch=qwen3moe, and only with "
                        "it");
    if (s->experts_used > s->experts)
        return hth_fail(err, HTH_EUSAGE, "shape: %u of %u experts used",
                        s->experts_used, s->experts);
    return 0;
}

static int set_first(struct hth_synth_shape *s, char *word, struct hth_err *err)
{
    const struct hth_synth_shape *preset = find_preset(word);

    if (preset == NULL)
        return set_word(s, word, err);
    *s = *preset;
    return 0;
}

int hth_synth_parse(struct hth_synth_shape *out, const char *text,
                    struct hth_err *err)
{
    struct hth_synth_shape s = {
        .name = "synth", .ctx = 8192, .rope_base = 10000, .norm_eps = 1e-5f};
    char copy[SYNTH_TEXT_MAX];
    char *rest = copy, *word;
    bool first = true;
    int rc = 0;

    if (strlen(text) >= sizeof copy)
        return hth_fail(err, HTH_EUSAGE, "shape: more than %zu bytes of text",
                        sizeof copy - 1);
    snprintf(copy, sizeof copy, "%s", text);
    while (rc == 0 && (word = strsep(&rest, ",")) != NULL) {
        rc = first ? set_first(&s, word, err) : set_word(&s, word, err);
        first = false;
    }
    if (rc == 0)
        rc = complete(&s, err);
    if (rc == 0)
        rc = check(&s, err);
    if (rc == 0)
        *out = s;
    return rc;
}
