/* spec.c - reading and checking what a model is. Fails with the key's or
 * tensor's name; never trusts a number it has not bounded. */
#include "model/spec.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/type.h"
#include "model/roles.h"
#include "model/shard.h"

static const struct hth_arch g_archs[] = {
    {.name = "llama"},
    {.name = "qwen2", .rope_neox = true, .qkv_bias = true},
    {.name = "qwen3", .rope_neox = true, .qk_norm = true},
    {.name = "qwen3moe",
     .rope_neox = true,
     .qk_norm = true,
     .moe = true,
     .expert_renorm = true},
};

#define ARCH_COUNT (sizeof g_archs / sizeof g_archs[0])

const char *hth_arch_list(void)
{
    return "llama, qwen2, qwen3, qwen3moe";
}

#define A HTH_BLOCK_ATTN
#define F HTH_BLOCK_FFN
const struct hth_role_info hth_roles[HTH_ROLE_COUNT] = {
    [HTH_ROLE_ATTN_NORM] = {"attn_norm.weight", HTH_SIZE_ONE, HTH_SIZE_DIM,
                            HTH_SIZE_ONE, HTH_CUT_NONE, HTH_NEED_ALWAYS, A,
                            true},
    [HTH_ROLE_ATTN_Q] = {"attn_q.weight", HTH_SIZE_Q, HTH_SIZE_DIM,
                         HTH_SIZE_ONE, HTH_CUT_ROWS, HTH_NEED_ALWAYS, A, false},
    [HTH_ROLE_ATTN_K] = {"attn_k.weight", HTH_SIZE_KV, HTH_SIZE_DIM,
                         HTH_SIZE_ONE, HTH_CUT_ROWS, HTH_NEED_ALWAYS, A, false},
    [HTH_ROLE_ATTN_V] = {"attn_v.weight", HTH_SIZE_KV, HTH_SIZE_DIM,
                         HTH_SIZE_ONE, HTH_CUT_ROWS, HTH_NEED_ALWAYS, A, false},
    [HTH_ROLE_ATTN_Q_BIAS] = {"attn_q.bias", HTH_SIZE_Q, HTH_SIZE_ONE,
                              HTH_SIZE_ONE, HTH_CUT_ROWS, HTH_NEED_BIAS, A,
                              true},
    [HTH_ROLE_ATTN_K_BIAS] = {"attn_k.bias", HTH_SIZE_KV, HTH_SIZE_ONE,
                              HTH_SIZE_ONE, HTH_CUT_ROWS, HTH_NEED_BIAS, A,
                              true},
    [HTH_ROLE_ATTN_V_BIAS] = {"attn_v.bias", HTH_SIZE_KV, HTH_SIZE_ONE,
                              HTH_SIZE_ONE, HTH_CUT_ROWS, HTH_NEED_BIAS, A,
                              true},
    [HTH_ROLE_ATTN_Q_NORM] = {"attn_q_norm.weight", HTH_SIZE_ONE,
                              HTH_SIZE_HEAD_DIM, HTH_SIZE_ONE, HTH_CUT_NONE,
                              HTH_NEED_QK_NORM, A, true},
    [HTH_ROLE_ATTN_K_NORM] = {"attn_k_norm.weight", HTH_SIZE_ONE,
                              HTH_SIZE_HEAD_DIM, HTH_SIZE_ONE, HTH_CUT_NONE,
                              HTH_NEED_QK_NORM, A, true},
    [HTH_ROLE_ATTN_OUT] = {"attn_output.weight", HTH_SIZE_DIM, HTH_SIZE_Q,
                           HTH_SIZE_ONE, HTH_CUT_COLS, HTH_NEED_ALWAYS, A,
                           false},
    [HTH_ROLE_FFN_NORM] = {"ffn_norm.weight", HTH_SIZE_ONE, HTH_SIZE_DIM,
                           HTH_SIZE_ONE, HTH_CUT_NONE, HTH_NEED_ALWAYS, F,
                           true},
    [HTH_ROLE_FFN_ROUTER] = {"ffn_gate_inp.weight", HTH_SIZE_EXPERTS,
                             HTH_SIZE_DIM, HTH_SIZE_ONE, HTH_CUT_NONE,
                             HTH_NEED_MOE, F, false},
    [HTH_ROLE_FFN_GATE] = {"ffn_gate.weight", HTH_SIZE_FF, HTH_SIZE_DIM,
                           HTH_SIZE_ONE, HTH_CUT_ROWS, HTH_NEED_DENSE, F,
                           false},
    [HTH_ROLE_FFN_UP] = {"ffn_up.weight", HTH_SIZE_FF, HTH_SIZE_DIM,
                         HTH_SIZE_ONE, HTH_CUT_ROWS, HTH_NEED_DENSE, F, false},
    [HTH_ROLE_FFN_DOWN] = {"ffn_down.weight", HTH_SIZE_DIM, HTH_SIZE_FF,
                           HTH_SIZE_ONE, HTH_CUT_COLS, HTH_NEED_DENSE, F,
                           false},
    [HTH_ROLE_FFN_GATE_EXPS] = {"ffn_gate_exps.weight", HTH_SIZE_FF,
                                HTH_SIZE_DIM, HTH_SIZE_EXPERTS, HTH_CUT_ROWS,
                                HTH_NEED_MOE, F, false},
    [HTH_ROLE_FFN_UP_EXPS] = {"ffn_up_exps.weight", HTH_SIZE_FF, HTH_SIZE_DIM,
                              HTH_SIZE_EXPERTS, HTH_CUT_ROWS, HTH_NEED_MOE, F,
                              false},
    [HTH_ROLE_FFN_DOWN_EXPS] = {"ffn_down_exps.weight", HTH_SIZE_DIM,
                                HTH_SIZE_FF, HTH_SIZE_EXPERTS, HTH_CUT_COLS,
                                HTH_NEED_MOE, F, false},
};
#undef A
#undef F

uint32_t hth_size_of(const struct hth_spec *s, enum hth_size size)
{
    switch (size) {
    case HTH_SIZE_DIM:
        return s->dim;
    case HTH_SIZE_Q:
        return s->heads * s->head_dim;
    case HTH_SIZE_KV:
        return s->kv_heads * s->head_dim;
    case HTH_SIZE_HEAD_DIM:
        return s->head_dim;
    case HTH_SIZE_FF:
        return s->ff;
    case HTH_SIZE_EXPERTS:
        return s->experts;
    case HTH_SIZE_VOCAB:
        return s->vocab;
    case HTH_SIZE_ONE:
    default:
        return 1;
    }
}

void hth_role_tensor_name(enum hth_role role, uint32_t layer, char *dst,
                          size_t size)
{
    snprintf(dst, size, "blk.%u.%s", layer, hth_roles[role].suffix);
}

/* ---- checks shared by files and peers ------------------------------------ */

struct bound {
    const char *what;
    uint32_t value, min, max;
};

static int check_bounds(const struct bound *b, size_t n, struct hth_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (b[i].value < b[i].min || b[i].value > b[i].max)
            return hth_fail(err, HTH_ELIMIT,
                            "the model's %s is %u; %u to %u are supported",
                            b[i].what, b[i].value, b[i].min, b[i].max);
    return HTH_OK;
}

static int check_sizes(const struct hth_spec *s, struct hth_err *err)
{
    const struct bound bounds[] = {
        {"block count", s->layers, 1, HTH_LAYERS_MAX},
        {"embedding length", s->dim, 1, HTH_DIM_MAX},
        {"head count", s->heads, 1, HTH_HEADS_MAX},
        {"KV head count", s->kv_heads, 1, HTH_HEADS_MAX},
        {"head dimension", s->head_dim, 2, HTH_HEAD_DIM_MAX},
        {"feed-forward length", s->ff, 1, HTH_FF_MAX},
        {"vocabulary", s->vocab, 1, HTH_VOCAB_MAX},
        {"rotated dimension", s->rope_dim, 2, s->head_dim},
        {"expert count", s->experts, s->arch->moe ? 1 : 0,
         s->arch->moe ? HTH_EXPERTS_MAX : 0},
        {"experts used", s->experts_used, s->arch->moe ? 1 : 0, s->experts},
    };
    int rc = check_bounds(bounds, sizeof bounds / sizeof bounds[0], err);

    if (rc != HTH_OK)
        return rc;
    if (s->heads % s->kv_heads != 0)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "%u query heads do not divide into %u KV heads",
                        s->heads, s->kv_heads);
    if (s->rope_dim % 2 != 0)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "a rotated dimension of %u is odd", s->rope_dim);
    if (!isfinite(s->rope_base) || !(s->rope_base > 0) ||
        !isfinite(s->norm_eps) || !(s->norm_eps >= 0) ||
        !isfinite(s->rope_scale) || !(s->rope_scale > 0))
        return hth_fail(err, HTH_EFORMAT,
                        "the model's rope or norm constants are no positive "
                        "numbers");
    return HTH_OK;
}

static bool role_required(const struct hth_spec *s, enum hth_need need)
{
    switch (need) {
    case HTH_NEED_ALWAYS:
        return true;
    case HTH_NEED_QK_NORM:
        return s->arch->qk_norm;
    case HTH_NEED_DENSE:
        return !s->arch->moe;
    case HTH_NEED_MOE:
        return s->arch->moe;
    case HTH_NEED_BIAS:
    default:
        return false;
    }
}

static bool role_allowed(const struct hth_spec *s, enum hth_need need)
{
    return role_required(s, need) ||
           (need == HTH_NEED_BIAS && s->arch->qkv_bias);
}

/* Types must be ones we compute with, and rows must be whole blocks. */
static int check_role(const struct hth_spec *s, uint32_t layer,
                      enum hth_role role, struct hth_err *err)
{
    const struct hth_role_info *info = &hth_roles[role];
    uint8_t type = s->type[layer][role];
    char name[HTH_GGUF_NAME_BYTES_MAX];

    hth_role_tensor_name(role, layer, name, sizeof name);
    if (type == HTH_TYPE_ABSENT) {
        if (!role_required(s, info->need))
            return HTH_OK;
        return hth_fail(err, HTH_ENOTFOUND, "tensor %s is missing", name);
    }
    if (!role_allowed(s, info->need))
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "tensor %s does not belong to architecture %s as "
                        "Hearth computes it",
                        name, s->arch->name);
    if (info->f32_only && type != HTH_F32)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "tensor %s must be F32 (type %u given)", name, type);
    if (hth_type_info(type) == NULL ||
        hth_row_bytes(type, hth_size_of(s, info->cols)) == 0)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "tensor %s: type %u cannot hold rows of %u (supported "
                        "types: %s)",
                        name, type, hth_size_of(s, info->cols),
                        hth_type_list());
    return HTH_OK;
}

static int check_spec(const struct hth_spec *s, struct hth_err *err)
{
    int rc = check_sizes(s, err);

    for (uint32_t l = 0; rc == HTH_OK && l < s->layers; l++)
        for (int r = 0; rc == HTH_OK && r < HTH_ROLE_COUNT; r++)
            rc = check_role(s, l, (enum hth_role)r, err);
    if (rc == HTH_OK && hth_row_bytes(s->output_type, s->dim) == 0)
        rc = hth_fail(err, HTH_EUNSUPPORTED,
                      "the output matrix has type %u, which cannot hold rows "
                      "of %u",
                      s->output_type, s->dim);
    return rc;
}

static const struct hth_arch *find_arch(const char *name, size_t n)
{
    for (size_t i = 0; i < ARCH_COUNT; i++)
        if (strlen(g_archs[i].name) == n &&
            memcmp(g_archs[i].name, name, n) == 0)
            return &g_archs[i];
    return NULL;
}

/* ---- from a file --------------------------------------------------------- */

/* "ARCH.suffix"; a missing key leaves *out as it is where that is allowed. */
struct reader {
    const struct hth_gguf *g;
    const struct hth_arch *arch;
    struct hth_err *err;
    int rc; /* sticky */
};

static void key_name(const struct reader *r, const char *suffix, char *dst,
                     size_t size)
{
    snprintf(dst, size, "%s.%s", r->arch->name, suffix);
}

static void read_u32(struct reader *r, const char *suffix, uint32_t *out,
                     bool required)
{
    char key[96];

    key_name(r, suffix, key, sizeof key);
    if (r->rc != HTH_OK || (!required && !hth_gguf_find(r->g, key)))
        return;
    r->rc = hth_gguf_u32(r->g, key, out, r->err);
}

static void read_f32(struct reader *r, const char *suffix, float *out,
                     bool required)
{
    char key[96];

    key_name(r, suffix, key, sizeof key);
    if (r->rc != HTH_OK || (!required && !hth_gguf_find(r->g, key)))
        return;
    r->rc = hth_gguf_f32(r->g, key, out, r->err);
}

/* Only linear scaling is computed; anything else would be silently wrong. */
static void read_rope_scaling(struct reader *r, struct hth_spec *s)
{
    char key[96];
    struct hth_str type = {0};
    float factor = 1;

    read_f32(r, "rope.scale_linear", &factor, false);
    key_name(r, "rope.scaling.type", key, sizeof key);
    if (r->rc == HTH_OK && hth_gguf_find(r->g, key) != NULL) {
        r->rc = hth_gguf_string(r->g, key, &type, r->err);
        if (r->rc != HTH_OK)
            return;
        if (type.n == 6 && memcmp(type.p, "linear", 6) == 0)
            read_f32(r, "rope.scaling.factor", &factor, true);
        else if (type.n != 4 || memcmp(type.p, "none", 4) != 0)
            r->rc = hth_fail(r->err, HTH_EUNSUPPORTED,
                             "rope scaling \"%.*s\" is not supported (none "
                             "and linear are)",
                             (int)(type.n < 32 ? type.n : 32), type.p);
    }
    s->rope_scale = factor > 0 ? 1.0f / factor : 0;
}

static void read_sizes(struct reader *r, struct hth_spec *s)
{
    uint32_t value_dim;

    s->rope_base = 10000.0f;
    read_u32(r, "block_count", &s->layers, true);
    read_u32(r, "embedding_length", &s->dim, true);
    read_u32(r, "attention.head_count", &s->heads, true);
    read_u32(r, "context_length", &s->ctx_train, false);
    s->kv_heads = s->heads;
    read_u32(r, "attention.head_count_kv", &s->kv_heads, false);
    s->head_dim = s->heads != 0 ? s->dim / s->heads : 0;
    read_u32(r, "attention.key_length", &s->head_dim, false);
    value_dim = s->head_dim;
    read_u32(r, "attention.value_length", &value_dim, false);
    if (r->rc == HTH_OK && value_dim != s->head_dim)
        r->rc = hth_fail(r->err, HTH_EUNSUPPORTED,
                         "keys of %u and values of %u numbers per head: they "
                         "must be equal",
                         s->head_dim, value_dim);
    s->rope_dim = s->head_dim;
    read_u32(r, "rope.dimension_count", &s->rope_dim, false);
    read_f32(r, "rope.freq_base", &s->rope_base, false);
    read_f32(r, "attention.layer_norm_rms_epsilon", &s->norm_eps, true);
    read_rope_scaling(r, s);
    if (s->arch->moe)
        read_u32(r, "expert_feed_forward_length", &s->ff, true);
    else
        read_u32(r, "feed_forward_length", &s->ff, true);
    read_u32(r, "expert_count", &s->experts, s->arch->moe);
    read_u32(r, "expert_used_count", &s->experts_used, s->arch->moe);
}

/* A tensor must have exactly the shape the hyperparameters promise: every
 * later computation relies on it. Vectors have one dimension in a file. */
static int check_shape(const struct hth_tensor *t, uint64_t cols, uint64_t rows,
                       uint64_t planes, struct hth_err *err)
{
    bool vector = cols == 1 && t->dims == 1;
    uint64_t want0 = vector ? rows : cols;
    uint64_t want1 = vector ? 1 : rows;

    if (t->ne[0] == want0 && t->ne[1] == want1 && t->ne[2] == planes &&
        t->ne[3] == 1)
        return HTH_OK;
    return hth_fail(err, HTH_EFORMAT,
                    "tensor %s has shape %llu x %llu x %llu, the model's "
                    "parameters say %llu x %llu x %llu",
                    t->name, (unsigned long long)t->ne[0],
                    (unsigned long long)t->ne[1], (unsigned long long)t->ne[2],
                    (unsigned long long)want0, (unsigned long long)want1,
                    (unsigned long long)planes);
}

static int read_layer_types(struct hth_spec *s, const struct hth_gguf *g,
                            uint32_t layer, uint32_t *seen, struct hth_err *err)
{
    for (int r = 0; r < HTH_ROLE_COUNT; r++) {
        const struct hth_role_info *info = &hth_roles[r];
        const struct hth_tensor *t;
        char name[HTH_GGUF_NAME_BYTES_MAX];
        int rc;

        hth_role_tensor_name((enum hth_role)r, layer, name, sizeof name);
        t = hth_gguf_tensor(g, name);
        s->type[layer][r] = t != NULL ? (uint8_t)t->type : HTH_TYPE_ABSENT;
        if (t == NULL)
            continue;
        (*seen)++;
        rc = check_shape(t, hth_size_of(s, info->cols),
                         hth_size_of(s, info->rows),
                         hth_size_of(s, info->planes), err);
        if (rc != HTH_OK)
            return rc;
    }
    return HTH_OK;
}

/* Llama 3.1's frequency divisors, as a tensor of rope_dim / 2 numbers. */
static int read_rope_factors(struct hth_spec *s, const struct hth_gguf *g,
                             uint32_t *seen, struct hth_err *err)
{
    const struct hth_tensor *t = hth_gguf_tensor(g, "rope_freqs.weight");
    int rc;

    if (t == NULL)
        return HTH_OK;
    (*seen)++;
    if (t->type != HTH_F32 || t->ne[0] != s->rope_dim / 2 || t->dims != 1)
        return hth_fail(err, HTH_EFORMAT,
                        "tensor rope_freqs.weight is not %u F32 numbers",
                        s->rope_dim / 2);
    rc = hth_gguf_read(g, t, (struct hth_read){0, s->rope_factors, t->bytes},
                       err);
    if (rc != HTH_OK)
        return rc;
    for (uint32_t i = 0; i < s->rope_dim / 2; i++)
        if (!isfinite(s->rope_factors[i]) || s->rope_factors[i] == 0)
            return hth_fail(err, HTH_EFORMAT,
                            "tensor rope_freqs.weight holds a number that "
                            "cannot divide a frequency");
    s->has_rope_factors = true;
    return HTH_OK;
}

static int read_outer(struct hth_spec *s, const struct hth_gguf *g,
                      uint32_t *seen, struct hth_err *err)
{
    const struct hth_tensor *emb = hth_gguf_tensor(g, "token_embd.weight");
    const struct hth_tensor *out = hth_gguf_tensor(g, "output.weight");
    const struct hth_tensor *norm = hth_gguf_tensor(g, "output_norm.weight");
    int rc;

    if (emb == NULL || norm == NULL)
        return hth_fail(err, HTH_ENOTFOUND, "tensor %s is missing",
                        emb == NULL ? "token_embd.weight"
                                    : "output_norm.weight");
    *seen += 2 + (out != NULL);
    s->tied = out == NULL;
    if (out == NULL)
        out = emb;
    s->output_type = (uint8_t)out->type;
    rc = check_shape(emb, s->dim, s->vocab, 1, err);
    if (rc == HTH_OK)
        rc = check_shape(out, s->dim, s->vocab, 1, err);
    if (rc == HTH_OK)
        rc = check_shape(norm, s->dim, 1, 1, err);
    if (rc == HTH_OK && norm->type != HTH_F32)
        rc = hth_fail(err, HTH_EUNSUPPORTED,
                      "tensor output_norm.weight must be F32");
    return rc;
}

/* A tensor nobody asked for may change the result (a bias, say): computing
 * without it would be silently wrong, so name it. */
static int refuse_unknown(const struct hth_spec *s, const struct hth_gguf *g,
                          struct hth_err *err)
{
    for (size_t i = 0; i < hth_gguf_tensor_count(g); i++) {
        const char *name = hth_gguf_tensor_at(g, i)->name;
        char want[HTH_GGUF_NAME_BYTES_MAX];
        bool known = strncmp(name, "output", 6) == 0 ||
                     strcmp(name, "token_embd.weight") == 0 ||
                     strcmp(name, "rope_freqs.weight") == 0;
        unsigned layer;

        if (!known && sscanf(name, "blk.%u.", &layer) == 1 && layer < s->layers)
            for (int r = 0; !known && r < HTH_ROLE_COUNT; r++) {
                hth_role_tensor_name((enum hth_role)r, layer, want,
                                     sizeof want);
                known = strcmp(name, want) == 0;
            }
        if (!known)
            return hth_fail(err, HTH_EUNSUPPORTED,
                            "tensor %s is not part of architecture %s as "
                            "Hearth computes it",
                            name, s->arch->name);
    }
    return HTH_OK;
}

static int read_arch(struct hth_spec *s, const struct hth_gguf *g,
                     struct hth_err *err)
{
    struct hth_str name;
    int rc = hth_gguf_string(g, "general.architecture", &name, err);

    if (rc != HTH_OK)
        return rc;
    s->arch = find_arch(name.p, name.n);
    if (s->arch == NULL)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "architecture \"%.*s\" is not supported (supported: "
                        "%s)",
                        (int)(name.n < 64 ? name.n : 64), name.p,
                        hth_arch_list());
    return HTH_OK;
}

int hth_spec_read(struct hth_spec *out, const struct hth_gguf *g,
                  struct hth_err *err)
{
    static const struct hth_spec zero;
    struct reader r = {.g = g, .err = err};
    const struct hth_tensor *emb = hth_gguf_tensor(g, "token_embd.weight");
    uint32_t seen = 0;
    int rc;

    *out = zero;
    rc = read_arch(out, g, err);
    if (rc != HTH_OK)
        return rc;
    r.arch = out->arch;
    read_sizes(&r, out);
    out->vocab =
        emb != NULL && emb->ne[1] <= HTH_VOCAB_MAX ? (uint32_t)emb->ne[1] : 0;
    rc = r.rc;
    if (rc == HTH_OK && emb == NULL)
        rc = hth_fail(err, HTH_ENOTFOUND,
                      "tensor token_embd.weight is "
                      "missing");
    if (rc == HTH_OK)
        rc = check_sizes(out, err);
    for (uint32_t l = 0; rc == HTH_OK && l < out->layers; l++)
        rc = read_layer_types(out, g, l, &seen, err);
    if (rc == HTH_OK)
        rc = read_rope_factors(out, g, &seen, err);
    if (rc == HTH_OK)
        rc = read_outer(out, g, &seen, err);
    if (rc == HTH_OK)
        rc = check_spec(out, err);
    if (rc == HTH_OK && seen != hth_gguf_tensor_count(g))
        rc = refuse_unknown(out, g, err);
    return rc;
}

/* ---- over the wire ------------------------------------------------------- */

void hth_spec_encode(const struct hth_spec *s, struct hth_buf *b)
{
    const uint32_t sizes[] = {
        s->layers, s->dim,     s->heads,        s->kv_heads, s->head_dim, s->ff,
        s->vocab,  s->experts, s->experts_used, s->rope_dim, s->ctx_train};

    hth_put_cstr(b, s->arch->name);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        hth_put_u32(b, sizes[i]);
    hth_put_f32(b, s->rope_base);
    hth_put_f32(b, s->rope_scale);
    hth_put_f32(b, s->norm_eps);
    hth_put_u8(b, s->tied);
    hth_put_u8(b, s->output_type);
    hth_put_u8(b, s->has_rope_factors);
    for (uint32_t i = 0; s->has_rope_factors && i < s->rope_dim / 2; i++)
        hth_put_f32(b, s->rope_factors[i]);
    for (uint32_t l = 0; l < s->layers; l++)
        hth_put_bytes(b, s->type[l], HTH_ROLE_COUNT);
}

static void decode_tables(struct hth_spec *s, struct hth_cursor *c)
{
    for (uint32_t i = 0; s->has_rope_factors && i < s->rope_dim / 2; i++)
        s->rope_factors[i] = hth_get_f32(c);
    for (uint32_t l = 0; l < s->layers; l++) {
        const uint8_t *row = hth_get_bytes(c, HTH_ROLE_COUNT);

        if (row != NULL)
            memcpy(s->type[l], row, HTH_ROLE_COUNT);
    }
}

int hth_spec_decode(struct hth_spec *out, struct hth_cursor *c,
                    struct hth_err *err)
{
    static const struct hth_spec zero;
    uint32_t *const sizes[] = {
        &out->layers,       &out->dim,      &out->heads,    &out->kv_heads,
        &out->head_dim,     &out->ff,       &out->vocab,    &out->experts,
        &out->experts_used, &out->rope_dim, &out->ctx_train};
    char name[32];
    int rc;

    *out = zero;
    hth_get_cstr(c, name, sizeof name);
    out->arch = find_arch(name, strlen(name));
    if (c->failed || out->arch == NULL)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "the coordinator's model is of an architecture this "
                        "device does not know (\"%s\"); upgrade this device",
                        name);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        *sizes[i] = hth_get_u32(c);
    out->rope_base = hth_get_f32(c);
    out->rope_scale = hth_get_f32(c);
    out->norm_eps = hth_get_f32(c);
    out->tied = hth_get_u8(c) != 0;
    out->output_type = hth_get_u8(c);
    out->has_rope_factors = hth_get_u8(c) != 0;
    rc = c->failed ? hth_fail(err, HTH_EFORMAT,
                              "the model's description is cut short")
                   : check_sizes(out, err);
    if (rc != HTH_OK)
        return rc;
    decode_tables(out, c);
    if (c->failed)
        return hth_fail(err, HTH_EFORMAT,
                        "the model's description is cut short");
    return check_spec(out, err);
}

void hth_plan_encode(const struct hth_plan *p, struct hth_buf *b)
{
    hth_put_u32(b, p->ranks);
    for (uint32_t r = 0; r < p->ranks; r++) {
        const struct hth_share *s = &p->share[r];
        const uint32_t v[] = {s->head_first,  s->heads,    s->kv_first,
                              s->kvs,         s->ff_first, s->ff,
                              s->vocab_first, s->vocab};

        for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
            hth_put_u32(b, v[i]);
    }
}

static bool range_ok(uint32_t first, uint32_t count, uint32_t total,
                     uint32_t unit)
{
    return first <= total && count <= total - first && first % unit == 0 &&
           count % unit == 0;
}

/* A share that does not cover its own KV heads, or cuts inside a block, would
 * make the forward pass read past its slices. */
static bool share_ok(const struct hth_shape *m, const struct hth_share *s)
{
    uint32_t group = m->heads / m->kv_heads;

    if (!range_ok(s->head_first, s->heads, m->heads, m->heads_unit) ||
        !range_ok(s->kv_first, s->kvs, m->kv_heads, 1) ||
        !range_ok(s->ff_first, s->ff, m->ff, m->ff_unit) ||
        !range_ok(s->vocab_first, s->vocab, m->vocab, 1))
        return false;
    if (s->heads == 0)
        return s->kvs == 0;
    return s->head_first / group == s->kv_first &&
           (s->head_first + s->heads - 1) / group == s->kv_first + s->kvs - 1;
}

int hth_plan_decode(struct hth_plan *p, const struct hth_spec *spec,
                    struct hth_cursor *c, struct hth_err *err)
{
    struct hth_shape shape;

    hth_spec_shape(spec, HTH_F16, &shape);
    memset(p, 0, sizeof *p);
    p->ranks = hth_get_u32(c);
    if (c->failed || p->ranks == 0 || p->ranks > HTH_RANKS_MAX)
        return hth_fail(err, HTH_EFORMAT, "a plan of %u ranks", p->ranks);
    for (uint32_t r = 0; r < p->ranks; r++) {
        struct hth_share *s = &p->share[r];
        uint32_t *const v[] = {&s->head_first,  &s->heads,    &s->kv_first,
                               &s->kvs,         &s->ff_first, &s->ff,
                               &s->vocab_first, &s->vocab};

        for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
            *v[i] = hth_get_u32(c);
        if (c->failed || !share_ok(&shape, s))
            return hth_fail(err, HTH_EFORMAT,
                            "the plan's share of rank %u is not possible", r);
    }
    return HTH_OK;
}

/* ---- numbers for the scheduler ------------------------------------------- */

static uint32_t gcd(uint32_t a, uint32_t b)
{
    while (b != 0) {
        uint32_t t = a % b;

        a = b;
        b = t;
    }
    return a;
}

static uint32_t block_of(uint8_t type)
{
    const struct hth_type_info *info = hth_type_info(type);

    return info != NULL ? info->block : 1;
}

/* Columns are cut at whole blocks of the coarsest type any layer uses, so
 * that one plan fits all layers. Float matrices could be cut anywhere; runs of
 * 32 keep vector kernels free of tails. */
static uint32_t cut_unit(const struct hth_spec *s, enum hth_role role,
                         uint32_t cols)
{
    uint32_t unit = cols % 32 == 0 ? 32 : 1;

    for (uint32_t l = 0; l < s->layers; l++)
        if (s->type[l][role] != HTH_TYPE_ABSENT &&
            block_of(s->type[l][role]) > unit)
            unit = block_of(s->type[l][role]);
    return unit;
}

static uint64_t bytes_per(const struct hth_spec *s, uint32_t layer,
                          enum hth_role role, uint64_t numbers)
{
    const struct hth_type_info *info;

    if (s->type[layer][role] == HTH_TYPE_ABSENT)
        return 0;
    info = hth_type_info(s->type[layer][role]);
    return numbers * info->bytes / info->block;
}

static void add_layer_bytes(const struct hth_spec *s, uint32_t l,
                            struct hth_shape *o)
{
    uint64_t row = (uint64_t)s->head_dim * s->dim;
    uint64_t ff = (uint64_t)s->dim * (s->experts != 0 ? s->experts : 1);

    o->head_bytes += bytes_per(s, l, HTH_ROLE_ATTN_Q, row) +
                     bytes_per(s, l, HTH_ROLE_ATTN_OUT, row);
    o->kv_bytes += bytes_per(s, l, HTH_ROLE_ATTN_K, row) +
                   bytes_per(s, l, HTH_ROLE_ATTN_V, row);
    o->ff_bytes += bytes_per(s, l, HTH_ROLE_FFN_GATE, ff) +
                   bytes_per(s, l, HTH_ROLE_FFN_UP, ff) +
                   bytes_per(s, l, HTH_ROLE_FFN_DOWN, ff) +
                   bytes_per(s, l, HTH_ROLE_FFN_GATE_EXPS, ff) +
                   bytes_per(s, l, HTH_ROLE_FFN_UP_EXPS, ff) +
                   bytes_per(s, l, HTH_ROLE_FFN_DOWN_EXPS, ff);
}

void hth_spec_shape(const struct hth_spec *s, uint32_t kv_type,
                    struct hth_shape *out)
{
    uint32_t q = s->heads * s->head_dim;
    uint32_t unit = cut_unit(s, HTH_ROLE_ATTN_OUT, q);
    uint32_t down = s->arch->moe ? HTH_ROLE_FFN_DOWN_EXPS : HTH_ROLE_FFN_DOWN;

    *out = (struct hth_shape){.layers = s->layers,
                              .dim = s->dim,
                              .heads = s->heads,
                              .kv_heads = s->kv_heads,
                              .head_dim = s->head_dim,
                              .ff = s->ff,
                              .vocab = s->vocab,
                              .experts = s->experts,
                              .experts_used = s->experts_used};
    out->heads_unit = unit / gcd(unit, s->head_dim);
    out->ff_unit = cut_unit(s, (enum hth_role)down, s->ff);
    for (uint32_t l = 0; l < s->layers; l++)
        add_layer_bytes(s, l, out);
    out->vocab_bytes = hth_row_bytes(s->output_type, s->dim);
    out->kv_cache_bytes =
        2ull * s->layers * hth_row_bytes(kv_type, s->head_dim);
}
