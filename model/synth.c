/* synth.c - writing a model of random weights quickly.
 *
 * Quantising a billion numbers takes minutes, so it is done for about a
 * million only: for each type and deviation that occurs, a stock of units of
 * 256 numbers is drawn and quantised once, and large matrices are strings of
 * units picked at random from the stock. Each unit is what the quantiser makes
 * of bell-shaped numbers; rows differ (a row of 4 units has 2^48
 * possibilities), but a unit recurs. Small matrices are quantised in full.
 *
 * Fails through the GGUF writer and for want of memory; abandons the file. */
#include "model/synth.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/limits.h"
#include "base/rng.h"
#include "kernels/quant.h"
#include "kernels/type.h"
#include "model/gguf.h"
#include "model/roles.h"
#include "model/spec.h"
#include "model/synth_internal.h"

#define UNIT 256u           /* numbers: a whole number of blocks of any type */
#define STOCK_UNITS 4096u   /* a power of two */
#define STOCKS_MAX 16u      /* pairs of type and deviation in one model */
#define COLS_MIN_STOCK 768u /* shorter rows are quantised in full */
#define CHUNK_UNITS 1024u   /* written at a time */
#define LOGIT_DEVIATION 2.0
#define NORM_DEVIATION 0.1
#define BIAS_DEVIATION 0.1
#define NAME_SIZE (HTH_GGUF_NAME_BYTES_MAX + 1)

/* ---- types --------------------------------------------------------------- */

/* A type for all matrices, or a mix: llama.cpp's recipe gives the output, and
 * half of attn_v and ffn_down, the better type. */
static const struct mix {
    const char *name;
    uint32_t base, better; /* enum hth_type */
    uint32_t file_type;    /* general.file_type, as llama.cpp numbers them */
} g_mixes[] = {
    {"F32", HTH_F32, HTH_F32, 0},       {"F16", HTH_F16, HTH_F16, 1},
    {"BF16", HTH_BF16, HTH_BF16, 32},   {"Q8_0", HTH_Q8_0, HTH_Q8_0, 7},
    {"Q4_0", HTH_Q4_0, HTH_Q4_0, 2},    {"Q4_1", HTH_Q4_1, HTH_Q4_1, 3},
    {"Q5_0", HTH_Q5_0, HTH_Q5_0, 8},    {"Q5_1", HTH_Q5_1, HTH_Q5_1, 9},
    {"Q4_K", HTH_Q4_K, HTH_Q4_K, 14},   {"Q5_K", HTH_Q5_K, HTH_Q5_K, 16},
    {"Q6_K", HTH_Q6_K, HTH_Q6_K, 18},   {"Q4_K_M", HTH_Q4_K, HTH_Q6_K, 15},
    {"Q5_K_M", HTH_Q5_K, HTH_Q6_K, 17},
};

#define MIXES (sizeof g_mixes / sizeof g_mixes[0])

const char *hth_synth_types(void)
{
    return "F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, "
           "Q4_K_M, Q5_K_M";
}

static const struct mix *find_mix(const char *name)
{
    for (size_t i = 0; i < MIXES; i++)
        if (strcasecmp(g_mixes[i].name, name) == 0)
            return &g_mixes[i];
    return NULL;
}

/* The layers that a mix treats better: the first and the last eighth, and
 * every third between. */
static bool better_layer(uint32_t layer, uint32_t layers)
{
    uint32_t eighth = layers / 8;

    return layer < eighth || layer >= 7 * layers / 8 ||
           (layer - eighth) % 3 == 2;
}

/* ---- state --------------------------------------------------------------- */

struct stock {
    uint32_t type;
    double deviation;
    uint8_t *units; /* [STOCK_UNITS][unit bytes of the type], owned */
};

struct synth {
    const struct hth_synth_opts *opts;
    struct hth_synth_shape shape;
    const struct mix *mix;
    struct hth_spec spec; /* the sizes only, for hth_size_of() */
    struct hth_gguf_writer *w;
    struct stock stocks[STOCKS_MAX];
    uint32_t stock_count;
    uint8_t *chunk; /* [CHUNK_UNITS * UNIT * 4] bytes, owned */
    uint64_t done_bytes, total_bytes;
    uint32_t tensor_no; /* each tensor has a generator of its own */
    struct hth_err *err;
};

/* One tensor to write. */
struct plan {
    char name[NAME_SIZE];
    uint32_t type;
    uint32_t dims;
    uint64_t ne[3];
    double mean, deviation;
};

static uint64_t plan_numbers(const struct plan *t)
{
    return t->ne[0] * t->ne[1] * t->ne[2];
}

static size_t unit_bytes(uint32_t type)
{
    return hth_row_bytes(type, UNIT);
}

/* ---- numbers ------------------------------------------------------------- */

/* A sum of four uniform 16-bit integers: bell-shaped (within 3.5 deviations),
 * one draw, and the same on every machine, which log() and cos() are not. */
void hth__synth_draw(struct hth_rng *rng, double mean, double deviation,
                     float *dst, size_t n)
{
    /* The variance of one is (2^32 - 1) / 12. */
    double scale = deviation / sqrt((4294967296.0 - 1) / 3);

    for (size_t i = 0; i < n; i++) {
        uint64_t r = hth_rng_u64(rng);
        int32_t sum = (int32_t)(r & 0xffff) + (int32_t)(r >> 16 & 0xffff) +
                      (int32_t)(r >> 32 & 0xffff) + (int32_t)(r >> 48);

        dst[i] = (float)(mean + (sum - 2 * 65535) * scale);
    }
}

static int quantize(struct synth *s, uint32_t type, const float *x, uint8_t *at,
                    size_t n)
{
    int rc = hth_quantize((enum hth_type)type, x, at, n);

    if (rc != 0)
        return hth_fail(s->err, rc, "quantise to type %" PRIu32 ": %s", type,
                        hth_status_text(rc));
    return 0;
}

static int fill_stock(struct synth *s, struct stock *k, struct hth_rng *rng)
{
    size_t each = unit_bytes(k->type);
    float x[UNIT];
    int rc = 0;

    k->units = malloc(STOCK_UNITS * each);
    if (k->units == NULL)
        return hth_fail(s->err, HTH_ENOMEM, "out of memory for weights");
    for (uint32_t i = 0; i < STOCK_UNITS && rc == 0; i++) {
        hth__synth_draw(rng, 0, k->deviation, x, UNIT);
        rc = quantize(s, k->type, x, k->units + i * each, UNIT);
    }
    return rc;
}

/* The stock for a type and deviation, made at its first use. */
static int find_stock(struct synth *s, const struct plan *t,
                      struct hth_rng *rng, const struct stock **out)
{
    struct stock *k;

    for (uint32_t i = 0; i < s->stock_count; i++)
        if (s->stocks[i].type == t->type &&
            s->stocks[i].deviation == t->deviation) {
            *out = &s->stocks[i];
            return 0;
        }
    HTH_ASSERT(s->stock_count < STOCKS_MAX);
    k = &s->stocks[s->stock_count++];
    k->type = t->type;
    k->deviation = t->deviation;
    *out = k;
    return fill_stock(s, k, rng);
}

static int put_bytes(struct synth *s, size_t n)
{
    int rc = hth_gguf_put_data(s->w, s->chunk, n, s->err);

    s->done_bytes += n;
    if (rc == 0 && s->opts->progress != NULL)
        s->opts->progress(s->opts->progress_ctx, s->done_bytes, s->total_bytes);
    return rc;
}

/* A matrix as one string of units; the last may be a part of one. */
static int put_from_stock(struct synth *s, const struct plan *t,
                          struct hth_rng *rng)
{
    uint64_t left = hth_row_bytes(t->type, plan_numbers(t));
    size_t each = unit_bytes(t->type), fill = 0;
    const struct stock *k;
    int rc = find_stock(s, t, rng, &k);

    while (rc == 0 && left > 0) {
        size_t pick = (size_t)(hth_rng_u64(rng) % STOCK_UNITS);
        size_t n = left < each ? (size_t)left : each;

        memcpy(s->chunk + fill, k->units + pick * each, n);
        fill += n;
        left -= n;
        if (left == 0 || fill == CHUNK_UNITS * each) {
            rc = put_bytes(s, fill);
            fill = 0;
        }
    }
    return rc;
}

static int put_in_full(struct synth *s, const struct plan *t,
                       struct hth_rng *rng)
{
    uint64_t left = plan_numbers(t);
    size_t each = unit_bytes(t->type), fill = 0;
    float x[UNIT];
    int rc = 0;

    while (rc == 0 && left > 0) {
        size_t n = left < UNIT ? (size_t)left : UNIT;

        hth__synth_draw(rng, t->mean, t->deviation, x, n);
        rc = quantize(s, t->type, x, s->chunk + fill, n);
        fill += hth_row_bytes(t->type, n);
        left -= n;
        if (rc == 0 && (left == 0 || fill == CHUNK_UNITS * each)) {
            rc = put_bytes(s, fill);
            fill = 0;
        }
    }
    return rc;
}

/* ---- tensors ------------------------------------------------------------- */

typedef int (*plan_fn)(struct synth *s, const struct plan *t);

static int declare(struct synth *s, const struct plan *t)
{
    if (hth_row_bytes(t->type, t->ne[0]) == 0)
        return hth_fail(s->err, HTH_EUSAGE,
                        "type %s does not go with this shape: rows of %s have "
                        "%" PRIu64 " numbers, not whole blocks of %" PRIu32,
                        s->mix->name, t->name, t->ne[0],
                        hth_type_info(t->type)->block);
    hth_gguf_put_tensor(s->w, t->name, t->type, t->dims, t->ne);
    s->total_bytes += hth_row_bytes(t->type, plan_numbers(t));
    return 0;
}

static int write_weights(struct synth *s, const struct plan *t)
{
    struct hth_rng rng;

    hth_rng_init(&rng, s->opts->seed * 0x9e3779b97f4a7c15u + s->tensor_no++);
    if (t->mean != 0 || t->ne[0] < COLS_MIN_STOCK ||
        plan_numbers(t) <= STOCK_UNITS * UNIT)
        return put_in_full(s, t, &rng);
    return put_from_stock(s, t, &rng);
}

/* Does the architecture have this role? Biases are written where allowed. */
static bool has_role(const struct synth *s, enum hth_need need)
{
    const char *arch = s->shape.arch;

    switch (need) {
    case HTH_NEED_BIAS:
        return strcmp(arch, "qwen2") == 0;
    case HTH_NEED_QK_NORM:
        return strncmp(arch, "qwen3", 5) == 0;
    case HTH_NEED_DENSE:
        return s->shape.experts == 0;
    case HTH_NEED_MOE:
        return s->shape.experts > 0;
    case HTH_NEED_ALWAYS:
    default:
        return true;
    }
}

static uint32_t role_type(const struct synth *s, enum hth_role role,
                          uint32_t layer)
{
    switch (role) {
    case HTH_ROLE_FFN_ROUTER:
        return HTH_F32; /* as every converter leaves it */
    case HTH_ROLE_ATTN_V:
    case HTH_ROLE_FFN_DOWN:
    case HTH_ROLE_FFN_DOWN_EXPS:
        return better_layer(layer, s->shape.layers) ? s->mix->better
                                                    : s->mix->base;
    default:
        return s->mix->base;
    }
}

/* Vectors: norms near 1, biases near 0. A product of unit inputs has unit
 * deviation when the weights' is 1 / sqrt(columns). */
static void plan_role(const struct synth *s, enum hth_role role, uint32_t layer,
                      struct plan *t)
{
    const struct hth_role_info *info = &hth_roles[role];
    uint64_t cols = hth_size_of(&s->spec, info->cols);
    uint64_t rows = hth_size_of(&s->spec, info->rows);
    uint64_t planes = hth_size_of(&s->spec, info->planes);
    bool bias = info->need == HTH_NEED_BIAS;

    if (info->f32_only) {
        *t = (struct plan){.type = HTH_F32,
                           .dims = 1,
                           .ne = {rows * cols, 1, 1},
                           .mean = bias ? 0 : 1,
                           .deviation = bias ? BIAS_DEVIATION : NORM_DEVIATION};
    } else {
        *t = (struct plan){.type = role_type(s, role, layer),
                           .dims = planes > 1 ? 3 : 2,
                           .ne = {cols, rows, planes},
                           .deviation = 1 / sqrt((double)cols)};
    }
    hth_role_tensor_name(role, layer, t->name, sizeof t->name);
}

/* The embedding, or the output: both have the output's deviation, because a
 * tied model has one matrix for both and the first norm makes up for it. */
static int visit_table(struct synth *s, const char *name, bool is_output,
                       plan_fn fn)
{
    struct plan t = {.type = is_output ? s->mix->better : s->mix->base,
                     .dims = 2,
                     .ne = {s->shape.dim, s->shape.vocab, 1},
                     .deviation = LOGIT_DEVIATION / sqrt(s->shape.dim)};

    snprintf(t.name, sizeof t.name, "%s", name);
    return fn(s, &t);
}

static int visit_layer(struct synth *s, uint32_t layer, plan_fn fn)
{
    int rc = 0;

    for (int r = 0; r < HTH_ROLE_COUNT && rc == 0; r++) {
        struct plan t;

        if (!has_role(s, hth_roles[r].need))
            continue;
        plan_role(s, (enum hth_role)r, layer, &t);
        rc = fn(s, &t);
    }
    return rc;
}

/* Every tensor in the order of the file. */
static int visit_tensors(struct synth *s, plan_fn fn)
{
    struct plan norm = {.name = "output_norm.weight",
                        .type = HTH_F32,
                        .dims = 1,
                        .ne = {s->shape.dim, 1, 1},
                        .mean = 1,
                        .deviation = NORM_DEVIATION};
    int rc = visit_table(s, "token_embd.weight", s->shape.tied, fn);

    for (uint32_t l = 0; l < s->shape.layers && rc == 0; l++)
        rc = visit_layer(s, l, fn);
    if (rc == 0)
        rc = fn(s, &norm);
    if (rc == 0 && !s->shape.tied)
        rc = visit_table(s, "output.weight", true, fn);
    return rc;
}

/* ---- keys ---------------------------------------------------------------- */

static void put_arch_u32(struct synth *s, const char *suffix, uint32_t v)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", s->shape.arch, suffix);
    hth_gguf_put_u32(s->w, key, v);
}

static void put_arch_f32(struct synth *s, const char *suffix, float v)
{
    char key[96];

    snprintf(key, sizeof key, "%s.%s", s->shape.arch, suffix);
    hth_gguf_put_f32(s->w, key, v);
}

static void put_experts(struct synth *s)
{
    const struct hth_synth_shape *m = &s->shape;

    put_arch_u32(s, "expert_count", m->experts);
    put_arch_u32(s, "expert_used_count", m->experts_used);
    put_arch_u32(s, "expert_feed_forward_length", m->ff);
    put_arch_u32(s, "feed_forward_length", m->ff * m->experts_used);
}

static void put_keys(struct synth *s)
{
    const struct hth_synth_shape *m = &s->shape;
    char name[HTH_SYNTH_NAME_SIZE + 32];

    snprintf(name, sizeof name, "%s of random weights", m->name);
    hth_gguf_put_string(s->w, "general.architecture", m->arch);
    hth_gguf_put_string(s->w, "general.name", name);
    hth_gguf_put_u32(s->w, "general.file_type", s->mix->file_type);
    hth_gguf_put_u32(s->w, "general.quantization_version", 2);
    put_arch_u32(s, "context_length", m->ctx);
    put_arch_u32(s, "embedding_length", m->dim);
    put_arch_u32(s, "block_count", m->layers);
    put_arch_u32(s, "attention.head_count", m->heads);
    put_arch_u32(s, "attention.head_count_kv", m->kv_heads);
    put_arch_u32(s, "attention.key_length", m->head_dim);
    put_arch_u32(s, "attention.value_length", m->head_dim);
    put_arch_f32(s, "attention.layer_norm_rms_epsilon", m->norm_eps);
    put_arch_u32(s, "rope.dimension_count", m->head_dim);
    put_arch_f32(s, "rope.freq_base", m->rope_base);
    put_arch_u32(s, "vocab_size", m->vocab);
    if (m->experts > 0)
        put_experts(s);
    else
        put_arch_u32(s, "feed_forward_length", m->ff);
}

/* ---- all of it ----------------------------------------------------------- */

static void set_sizes(struct synth *s)
{
    const struct hth_synth_shape *m = &s->shape;

    s->spec.layers = m->layers;
    s->spec.dim = m->dim;
    s->spec.heads = m->heads;
    s->spec.kv_heads = m->kv_heads;
    s->spec.head_dim = m->head_dim;
    s->spec.ff = m->ff;
    s->spec.vocab = m->vocab;
    s->spec.experts = m->experts;
}

/* The types must be known before the file is touched. */
static int set_up(struct synth *s)
{
    int rc = hth_synth_parse(&s->shape, s->opts->shape, s->err);

    if (rc != 0)
        return rc;
    s->mix = find_mix(s->opts->type);
    if (s->mix == NULL)
        return hth_fail(s->err, HTH_EUSAGE,
                        "type %.40s is unknown or cannot be written; there "
                        "are %s",
                        s->opts->type, hth_synth_types());
    set_sizes(s);
    s->chunk = malloc((size_t)CHUNK_UNITS * UNIT * sizeof(float));
    if (s->chunk == NULL)
        return hth_fail(s->err, HTH_ENOMEM, "out of memory for weights");
    return 0;
}

static int write_model(struct synth *s, const char *path)
{
    int rc = hth_gguf_create(&s->w, path, s->err);

    if (rc != 0)
        return rc;
    put_keys(s);
    rc = hth__synth_put_vocab(s->w, s->shape.vocab, s->err);
    if (rc == 0)
        rc = visit_tensors(s, declare);
    if (rc == 0)
        rc = visit_tensors(s, write_weights);
    if (rc == 0)
        return hth_gguf_finish(s->w, s->err);
    hth_gguf_abandon(s->w);
    return rc;
}

int hth_synth_write(const struct hth_synth_opts *opts, const char *path,
                    struct hth_err *err)
{
    struct synth *s = calloc(1, sizeof *s);
    int rc;

    if (s == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    s->opts = opts;
    s->err = err;
    rc = set_up(s);
    if (rc == 0)
        rc = write_model(s, path);
    for (uint32_t i = 0; i < s->stock_count; i++)
        free(s->stocks[i].units);
    free(s->chunk);
    free(s);
    return rc;
}
