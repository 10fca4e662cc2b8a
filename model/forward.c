/* forward.c - one rank's forward pass over its slices. Everything a step needs
 * is allocated at open; a step fails only when the collective does. */
#include "model/forward_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/mem.h"
#include "model/piece.h"
#include "model/attention.h"
#include "model/router.h"

/* ---- time ---------------------------------------------------------------
 */

const char *hth_op_text(enum hth_op op)
{
    static const char *const text[] = {
#define X(name, words) [HTH_OP_##name] = words,
        HTH_OP_MAP(X)
#undef X
    };

    return op < HTH_OP_COUNT ? text[op] : "?";
}

/* The time since the last lap belongs to op: one reading of the clock, which
 * needs no system call, per operation. */
void hth__lap(struct hth_forward *f, enum hth_op op)
{
    uint64_t now = hth_now_ns();

    f->times.op_ns[op] += now - f->lap_ns;
    f->lap_ns = now;
}

/* ---- memory ---------------------------------------------------------------
 */

/* Lays out the arena: run once to count, once to place. */
struct arena {
    uint8_t *base; /* NULL while counting */
    size_t bytes;
};

static void *carve(struct arena *a, size_t bytes)
{
    size_t at = a->bytes;

    a->bytes += (bytes + HTH_MEM_ALIGN - 1) & ~(size_t)(HTH_MEM_ALIGN - 1);
    return a->base != NULL ? a->base + at : NULL;
}

static uint32_t max3(uint32_t a, uint32_t b, uint32_t c)
{
    uint32_t m = a > b ? a : b;

    return m > c ? m : c;
}

static void carve_experts(struct hth_forward *f, struct arena *a, size_t rows)
{
    const struct hth_spec *s = f->s;

    if (!s->arch->moe)
        return;
    f->route_scratch = carve(a, (2 * (size_t)s->dim + s->experts) * 4);
    f->expert_id = carve(a, rows * s->experts_used * 4);
    f->expert_weight = carve(a, rows * s->experts_used * 4);
    f->xg = carve(a, rows * s->dim * 4);
    f->yg = carve(a, rows * s->dim * 4);
    f->row_list = carve(a, rows * 4);
    f->row_weight = carve(a, rows * 4);
}

static void carve_all(struct hth_forward *f, struct arena *a)
{
    const struct hth_spec *s = f->s;
    size_t rows = f->o.rows_max;
    uint32_t threads = hth_pool_threads(f->o.pool);

    f->h = carve(a, rows * s->dim * 4);
    f->q = carve(a, rows * f->q_dim * 4);
    f->k = carve(a, rows * f->kv_dim * 4);
    f->v = carve(a, rows * f->kv_dim * 4);
    f->att = carve(a, rows * f->q_dim * 4);
    f->part = carve(a, rows * s->dim * 4);
    f->gate = carve(a, rows * f->share.ff * 4);
    f->up = carve(a, rows * f->share.ff * 4);
    f->cosines = carve(a, rows * s->rope_dim / 2 * 4);
    f->sines = carve(a, rows * s->rope_dim / 2 * 4);
    carve_experts(f, a, rows);
    f->scratch = carve(
        a, hth_matmul_scratch_bytes(
               f->o.rows_max, max3(s->dim, f->q_dim, f->share.ff), threads));
}

static int alloc_all(struct hth_forward *f)
{
    struct arena a = {0};

    carve_all(f, &a);
    f->arena = hth_mem_alloc(a.bytes);
    f->layer = calloc(f->s->layers, sizeof *f->layer);
    f->inv_freq = calloc(f->s->rope_dim / 2, sizeof *f->inv_freq);
    f->bound = calloc(hth_pieces(f->s, f->o.plan, f->o.rank), sizeof *f->bound);
    if (f->arena == NULL || f->layer == NULL || f->inv_freq == NULL ||
        f->bound == NULL)
        return HTH_ENOMEM;
    a = (struct arena){.base = f->arena};
    carve_all(f, &a);
    return HTH_OK;
}

static int open_lora(struct hth_forward *f, struct hth_err *err)
{
    uint32_t widest = max3(f->s->dim, f->q_dim, f->share.ff);
    struct hth_lora_work_opts o = {
        .in_max = widest, .out_max = widest, .pool = f->o.pool};

    if (!f->o.lora)
        return HTH_OK;
    f->lora = hth_lora_work_open(&o);
    return f->lora != NULL
               ? HTH_OK
               : hth_fail(err, HTH_ENOMEM, "no memory for adapters");
}

static void init_rope(struct hth_forward *f)
{
    const struct hth_spec *s = f->s;

    for (uint32_t i = 0; i < s->rope_dim / 2; i++) {
        f->inv_freq[i] = pow(s->rope_base, -2.0 * i / s->rope_dim);
        if (s->has_rope_factors)
            f->inv_freq[i] /= s->rope_factors[i];
    }
}

static int open_attention(struct hth_forward *f, struct hth_err *err)
{
    struct hth_attention_opts o = {.share = &f->share,
                                   .group = f->s->heads / f->s->kv_heads,
                                   .head_dim = f->s->head_dim,
                                   .kv_type = f->o.kv_type,
                                   .rows_max = f->o.rows_max,
                                   .pool = f->o.pool};

    return hth_attention_open(&f->attention, &o, err);
}

int hth_forward_open(struct hth_forward **out, const struct hth_forward_opts *o,
                     struct hth_err *err)
{
    struct hth_forward *f = calloc(1, sizeof *f);
    struct hth_kv_opts kv = {.layers = o->spec->layers,
                             .heads = o->plan->share[o->rank].kvs,
                             .head_dim = o->spec->head_dim,
                             .type = o->kv_type,
                             .ctx_max = o->ctx_max,
                             .bytes_max = o->kv_bytes_max};
    int rc;

    HTH_ASSERT(o->rows_max >= 1 && o->rows_max <= HTH_STEP_ROWS_MAX);
    if (f == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for the model's state");
    f->o = *o;
    f->s = o->spec;
    f->share = o->plan->share[o->rank];
    f->q_dim = f->share.heads * f->s->head_dim;
    f->kv_dim = f->share.kvs * f->s->head_dim;
    rc = alloc_all(f);
    if (rc != HTH_OK)
        hth_fail(err, rc, "no memory for the activations of %u rows",
                 o->rows_max);
    else
        rc = hth_kv_open(&f->kv, &kv, err);
    if (rc == HTH_OK && f->share.heads > 0)
        rc = open_attention(f, err);
    if (rc == HTH_OK)
        rc = open_lora(f, err);
    if (rc != HTH_OK) {
        hth_forward_close(f);
        return rc;
    }
    init_rope(f);
    *out = f;
    return HTH_OK;
}

void hth_forward_close(struct hth_forward *f)
{
    if (f == NULL)
        return;
    hth_attention_close(f->attention);
    hth_lora_work_close(f->lora);
    hth_kv_close(f->kv);
    hth_mem_free(f->arena);
    free(f->layer);
    free(f->inv_freq);
    free(f->bound);
    free(f);
}

struct hth_kv *hth_forward_kv(struct hth_forward *f)
{
    return f->kv;
}

void hth_forward_join(struct hth_forward *f, struct hth_collective *c)
{
    f->group = c;
}

const struct hth_forward_times *hth_forward_times(const struct hth_forward *f)
{
    return &f->times;
}

/* ---- binding --------------------------------------------------------------
 */

static const float *vec(const struct hth_block *b, const void *data,
                        uint32_t role)
{
    return hth_block_mat(b, data, role, 0).data;
}

static void bind_attn(struct hth__layer *l, const struct hth_block *b,
                      const void *d)
{
    l->attn_norm = vec(b, d, HTH_ROLE_ATTN_NORM);
    l->q_norm = vec(b, d, HTH_ROLE_ATTN_Q_NORM);
    l->k_norm = vec(b, d, HTH_ROLE_ATTN_K_NORM);
    l->q_bias = vec(b, d, HTH_ROLE_ATTN_Q_BIAS);
    l->k_bias = vec(b, d, HTH_ROLE_ATTN_K_BIAS);
    l->v_bias = vec(b, d, HTH_ROLE_ATTN_V_BIAS);
    l->q = hth_block_mat(b, d, HTH_ROLE_ATTN_Q, 0);
    l->k = hth_block_mat(b, d, HTH_ROLE_ATTN_K, 0);
    l->v = hth_block_mat(b, d, HTH_ROLE_ATTN_V, 0);
    l->out = hth_block_mat(b, d, HTH_ROLE_ATTN_OUT, 0);
}

/* Parts that are not in this piece stay where they were. */
static void bind_mat(struct hth_mat *m, const struct hth_block *b,
                     const void *d, uint32_t role)
{
    struct hth_mat found = hth_block_mat(b, d, role, 0);

    if (found.data != NULL)
        *m = found;
}

static void bind_ffn(struct hth_forward *f, struct hth__layer *l,
                     const struct hth_block *b, const void *d)
{
    const struct hth_spec *s = f->s;
    bool moe = s->arch->moe;
    const float *norm = vec(b, d, HTH_ROLE_FFN_NORM);

    l->ffn_norm = norm != NULL ? norm : l->ffn_norm;
    bind_mat(&l->gate, b, d, moe ? HTH_ROLE_FFN_GATE_EXPS : HTH_ROLE_FFN_GATE);
    bind_mat(&l->up, b, d, moe ? HTH_ROLE_FFN_UP_EXPS : HTH_ROLE_FFN_UP);
    bind_mat(&l->down, b, d, moe ? HTH_ROLE_FFN_DOWN_EXPS : HTH_ROLE_FFN_DOWN);
    bind_mat(&l->router.gate, b, d, HTH_ROLE_FFN_ROUTER);
    l->gate_plane = l->gate.rows * l->gate.row_bytes;
    l->up_plane = l->up.rows * l->up.row_bytes;
    l->down_plane = l->down.rows * l->down.row_bytes;
    l->router.norm = l->ffn_norm;
    l->router.eps = s->norm_eps;
    l->router.experts = s->experts;
    l->router.used = s->experts_used;
    l->router.renorm = s->arch->expert_renorm;
}

/* A block, or a piece of one. */
static void bind(struct hth_forward *f, const struct hth_block *b,
                 const void *data)
{
    const float *norm;

    if (b->bytes == 0)
        return;
    if (b->kind == HTH_BLOCK_ATTN) {
        bind_attn(&f->layer[b->layer], b, data);
    } else if (b->kind == HTH_BLOCK_FFN) {
        bind_ffn(f, &f->layer[b->layer], b, data);
    } else {
        norm = vec(b, data, HTH_ROLE_OUTPUT_NORM);
        f->final_norm = norm != NULL ? norm : f->final_norm;
        f->output = hth_block_mat(b, data, HTH_ROLE_OUTPUT, 0);
    }
}

void hth_forward_bind(struct hth_forward *f, uint32_t index, const void *data)
{
    struct hth_block b;

    hth_shard_block(f->s, f->o.plan, f->o.rank, index, &b);
    bind(f, &b, data);
}

void hth_forward_source(struct hth_forward *f, const struct hth_blocks *b)
{
    f->source = b;
}

/* Have a piece for its compute. One that lies where it lay the last time is
 * bound already, except that experts, and pieces of the head, share the place
 * they are bound to. */
static int take(struct hth_forward *f, uint32_t index, bool shared,
                struct hth_err *err)
{
    struct hth_block b;
    const void *data;
    int rc;

    if (f->source == NULL)
        return HTH_OK;
    rc = f->source->acquire(f->source->ctx, index, &data, err);
    hth__lap(f, HTH_OP_BLOCKS);
    if (rc != HTH_OK || (data == f->bound[index] && !shared))
        return rc;
    hth_piece(f->s, f->o.plan, f->o.rank, index, &b);
    bind(f, &b, data);
    f->bound[index] = data;
    return HTH_OK;
}

static void give(struct hth_forward *f, uint32_t index)
{
    if (f->source != NULL)
        f->source->release(f->source->ctx, index);
}

/* ---- rows over threads -----------------------------------------------------
 */

/* Work that is independent per row: run on the pool when there are several,
 * inline when there is one (a hand-over costs more than a norm). */
struct row_job {
    struct hth_forward *f;
    const struct hth__layer *l;
    const struct hth_batch *b;
    void (*row)(const struct row_job *j, uint32_t r);
    const float *norm;
    uint32_t layer_index;
};

static void rows_of_thread(void *ctx, uint32_t thread, uint32_t threads)
{
    const struct row_job *j = ctx;
    uint64_t first, count;

    hth_split(j->b->rows, 1, thread, threads, &first, &count);
    for (uint64_t r = first; r < first + count; r++)
        j->row(j, (uint32_t)r);
}

static void for_rows(struct row_job *j)
{
    if (j->b->rows == 1)
        j->row(j, 0);
    else
        hth_pool_run(j->f->o.pool, rows_of_thread, j);
}

static void norm_row(const struct row_job *j, uint32_t r)
{
    uint32_t dim = j->f->s->dim;

    hth_rmsnorm(j->f->h + (size_t)r * dim, j->b->x + (size_t)r * dim, j->norm,
                dim, j->f->s->norm_eps);
}

static void norm_rows(struct hth_forward *f, const struct hth_batch *b,
                      const float *weights)
{
    struct row_job j = {.f = f, .b = b, .row = norm_row, .norm = weights};

    for_rows(&j);
}

static void product(struct hth_forward *f, const struct hth_matmul_job *job)
{
    struct hth_matmul_job j = *job;

    j.scratch = f->scratch;
    hth_matmul(f->o.pool, &j);
}

/* What rows' adapters add to products that were just made. */
static void add_lora(struct hth_forward *f, const struct hth_batch *b,
                     struct hth_lora_job *j)
{
    if (b->lora == NULL)
        return;
    HTH_ASSERT(f->lora != NULL);
    j->set = b->lora;
    j->rows = b->rows;
    hth_lora_add(f->lora, j);
    hth__lap(f, HTH_OP_LORA);
}

/* ---- attention -------------------------------------------------------------
 */

static void step_angles(struct hth_forward *f, const struct hth_batch *b)
{
    uint32_t half = f->s->rope_dim / 2;

    for (uint32_t r = 0; r < b->rows; r++) {
        double pos = (double)b->pos[r] * f->s->rope_scale;

        for (uint32_t i = 0; i < half; i++) {
            double angle = pos * f->inv_freq[i];

            f->cosines[(size_t)r * half + i] = (float)cos(angle);
            f->sines[(size_t)r * half + i] = (float)sin(angle);
        }
    }
}

static void norm_heads(float *v, uint32_t heads, uint32_t head_dim,
                       const float *w, float eps)
{
    if (w == NULL)
        return;
    for (uint32_t h = 0; h < heads; h++)
        hth_rmsnorm(v + (size_t)h * head_dim, v + (size_t)h * head_dim, w,
                    head_dim, eps);
}

static void store_kv(struct hth_forward *f, const struct row_job *j, uint32_t r)
{
    uint32_t hd = f->s->head_dim;

    for (uint32_t h = 0; h < f->share.kvs; h++) {
        struct hth_kv_at at = {j->layer_index, h, j->b->pos[r]};
        size_t from = (size_t)r * f->kv_dim + (size_t)h * hd;

        hth_kv_store(f->kv, j->b->seq[r], &at, f->k + from, f->v + from);
    }
}

/* After the projections: bias, norm of heads, rotation, into the cache. */
static void finish_qkv_row(const struct row_job *j, uint32_t r)
{
    struct hth_forward *f = j->f;
    const struct hth_spec *s = f->s;
    const struct hth__layer *l = j->l;
    float *q = f->q + (size_t)r * f->q_dim;
    float *k = f->k + (size_t)r * f->kv_dim;
    const float *c = f->cosines + (size_t)r * (s->rope_dim / 2);
    const float *sn = f->sines + (size_t)r * (s->rope_dim / 2);

    if (l->q_bias != NULL)
        hth_add(q, l->q_bias, f->q_dim);
    if (l->k_bias != NULL)
        hth_add(k, l->k_bias, f->kv_dim);
    if (l->v_bias != NULL)
        hth_add(f->v + (size_t)r * f->kv_dim, l->v_bias, f->kv_dim);
    norm_heads(q, f->share.heads, s->head_dim, l->q_norm, s->norm_eps);
    norm_heads(k, f->share.kvs, s->head_dim, l->k_norm, s->norm_eps);
    hth_rope(q, f->share.heads, s->head_dim, s->rope_dim, c, sn,
             s->arch->rope_neox);
    hth_rope(k, f->share.kvs, s->head_dim, s->rope_dim, c, sn,
             s->arch->rope_neox);
    if (j->b->seq != NULL)
        store_kv(f, j, r);
}

/* Norm and products of rows into f->q, f->k, f->v. */
static void project_rows(struct hth_forward *f, const struct hth_batch *b,
                         uint32_t index)
{
    const struct hth__layer *l = &f->layer[index];
    const struct hth_mat qkv[] = {l->q, l->k, l->v};
    float *const to[] = {f->q, f->k, f->v};
    const size_t ld[] = {f->q_dim, f->kv_dim, f->kv_dim};

    norm_rows(f, b, l->attn_norm);
    hth__lap(f, HTH_OP_NORM);
    product(f, &(struct hth_matmul_job){.w = qkv,
                                        .y = to,
                                        .ldy = ld,
                                        .count = 3,
                                        .x = f->h,
                                        .ldx = f->s->dim,
                                        .n = b->rows});
    hth__lap(f, HTH_OP_QKV);
    add_lora(f, b,
             &(struct hth_lora_job){
                 .layer = index,
                 .count = 3,
                 .role = {HTH_ROLE_ATTN_Q, HTH_ROLE_ATTN_K, HTH_ROLE_ATTN_V},
                 .x = f->h,
                 .ldx = f->s->dim,
                 .y = {f->q, f->k, f->v},
                 .ldy = {f->q_dim, f->kv_dim, f->kv_dim}});
}

/* f->part = what attention says, through its output matrix. */
static void attention_out(struct hth_forward *f, const struct hth_batch *b,
                          uint32_t index, const float *att)
{
    float *const out[] = {f->part};
    const size_t out_ld[] = {f->s->dim};

    product(f, &(struct hth_matmul_job){.w = &f->layer[index].out,
                                        .y = out,
                                        .ldy = out_ld,
                                        .count = 1,
                                        .x = att,
                                        .ldx = f->q_dim,
                                        .n = b->rows});
    hth__lap(f, HTH_OP_ATTN_OUT);
    add_lora(f, b,
             &(struct hth_lora_job){.layer = index,
                                    .count = 1,
                                    .role = {HTH_ROLE_ATTN_OUT},
                                    .x = att,
                                    .ldx = f->q_dim,
                                    .y = {f->part},
                                    .ldy = {f->s->dim}});
}

static void attention(struct hth_forward *f, const struct hth_batch *b,
                      uint32_t index)
{
    struct row_job j = {.f = f,
                        .l = &f->layer[index],
                        .b = b,
                        .row = finish_qkv_row,
                        .layer_index = index};

    project_rows(f, b, index);
    for_rows(&j);
    hth__lap(f, HTH_OP_ROPE);
    hth_attention_run(
        f->attention,
        &(struct hth_attention_layer){
            .kv = f->kv, .layer = index, .q = f->q, .out = f->att});
    hth__lap(f, HTH_OP_ATTENTION);
    attention_out(f, b, index, f->att);
}

/* ---- feed-forward -----------------------------------------------------------
 */

static void swiglu_row(const struct row_job *j, uint32_t r)
{
    size_t ff = j->f->share.ff;

    hth_swiglu(j->f->gate + r * ff, j->f->up + r * ff, ff);
}

/* gate x and up x with this rank's rows of one dense FFN or one expert; m:
 * gate, up. */
static void ffn_up(struct hth_forward *f, const struct hth_mat *m,
                   const float *x, uint32_t rows)
{
    float *const hidden[] = {f->gate, f->up};
    const size_t hidden_ld[] = {f->share.ff, f->share.ff};

    product(f, &(struct hth_matmul_job){.w = m,
                                        .y = hidden,
                                        .ldy = hidden_ld,
                                        .count = 2,
                                        .x = x,
                                        .ldx = f->s->dim,
                                        .n = rows});
    hth__lap(f, HTH_OP_FFN_UP);
}

/* hidden = silu(gate x) * up x */
static void swiglu(struct hth_forward *f, uint32_t rows)
{
    struct hth_batch b = {.rows = rows};
    struct row_job j = {.f = f, .b = &b, .row = swiglu_row};

    for_rows(&j);
    hth__lap(f, HTH_OP_SWIGLU);
}

/* y[rows][dim] = down hidden */
static void ffn_down(struct hth_forward *f, const struct hth_mat *m, float *y,
                     uint32_t rows)
{
    float *const out[] = {y};
    const size_t out_ld[] = {f->s->dim};

    product(f, &(struct hth_matmul_job){.w = m,
                                        .y = out,
                                        .ldy = out_ld,
                                        .count = 1,
                                        .x = f->gate,
                                        .ldx = f->share.ff,
                                        .n = rows});
    hth__lap(f, HTH_OP_FFN_DOWN);
}

static struct hth_mat plane(const struct hth_mat *m, size_t bytes, uint32_t e)
{
    struct hth_mat p = *m;

    p.data = (const uint8_t *)m->data + e * bytes;
    return p;
}

/* Gather the rows that chose expert e into f->xg; their number. */
static uint32_t gather_rows(struct hth_forward *f, const struct hth_batch *b,
                            uint32_t e)
{
    uint32_t used = f->s->experts_used, n = 0;
    size_t dim = f->s->dim;

    for (uint32_t i = 0; i < b->rows * used; i++) {
        if (f->expert_id[i] != e)
            continue;
        f->row_list[n] = i / used;
        f->row_weight[n] = f->expert_weight[i];
        memcpy(f->xg + n * dim, f->h + i / used * dim, dim * sizeof *f->xg);
        n++;
    }
    return n;
}

/* Rows that chose expert e, through it, and added back with their weights.
 * Experts go in ascending order, so that a row's sum has the same order in
 * every batch. */
static int run_expert(struct hth_forward *f, const struct hth_batch *b,
                      uint32_t layer, uint32_t e, struct hth_err *err)
{
    const struct hth__layer *l = &f->layer[layer];
    uint32_t piece = hth_piece_ffn_rest(f->s, layer) + e;
    uint32_t n = gather_rows(f, b, e);
    uint32_t at = f->source != NULL ? 0 : e; /* a piece is one plane */
    size_t dim = f->s->dim;
    int rc;

    if (n == 0)
        return HTH_OK;
    hth__lap(f, HTH_OP_ROUTE);
    rc = take(f, piece, true, err);
    if (rc != HTH_OK)
        return rc;
    ffn_up(f,
           (struct hth_mat[]){plane(&l->gate, l->gate_plane, at),
                              plane(&l->up, l->up_plane, at)},
           f->xg, n);
    swiglu(f, n);
    ffn_down(f, (struct hth_mat[]){plane(&l->down, l->down_plane, at)}, f->yg,
             n);
    give(f, piece);
    for (uint32_t i = 0; i < n; i++)
        hth_axpy(f->part + f->row_list[i] * dim, f->row_weight[i],
                 f->yg + i * dim, dim);
    return HTH_OK;
}

static int experts(struct hth_forward *f, const struct hth_batch *b,
                   uint32_t layer, struct hth_err *err)
{
    uint32_t used = f->s->experts_used;
    int rc = HTH_OK;

    for (uint32_t r = 0; r < b->rows; r++)
        hth_route(&f->layer[layer].router, b->x + (size_t)r * f->s->dim,
                  f->route_scratch, f->expert_id + r * used,
                  f->expert_weight + r * used);
    give(f, hth_piece_ffn(f->s, layer));
    if (f->source != NULL && f->source->expect != NULL)
        f->source->expect(f->source->ctx, hth_piece_ffn_rest(f->s, layer),
                          f->expert_id, b->rows * used);
    memset(f->part, 0, (size_t)b->rows * f->s->dim * sizeof *f->part);
    for (uint32_t e = 0; e < f->s->experts && rc == HTH_OK; e++)
        rc = run_expert(f, b, layer, e, err);
    hth__lap(f, HTH_OP_ROUTE);
    return rc;
}

static int dense(struct hth_forward *f, const struct hth_batch *b,
                 uint32_t layer, struct hth_err *err)
{
    const struct hth__layer *l = &f->layer[layer];
    int rc;

    ffn_up(f, (struct hth_mat[]){l->gate, l->up}, f->h, b->rows);
    add_lora(
        f, b,
        &(struct hth_lora_job){.layer = layer,
                               .count = 2,
                               .role = {HTH_ROLE_FFN_GATE, HTH_ROLE_FFN_UP},
                               .x = f->h,
                               .ldx = f->s->dim,
                               .y = {f->gate, f->up},
                               .ldy = {f->share.ff, f->share.ff}});
    swiglu(f, b->rows);
    give(f, hth_piece_ffn(f->s, layer));
    rc = take(f, hth_piece_ffn_rest(f->s, layer), false, err);
    if (rc != HTH_OK)
        return rc;
    ffn_down(f, &l->down, f->part, b->rows);
    add_lora(f, b,
             &(struct hth_lora_job){.layer = layer,
                                    .count = 1,
                                    .role = {HTH_ROLE_FFN_DOWN},
                                    .x = f->gate,
                                    .ldx = f->share.ff,
                                    .y = {f->part},
                                    .ldy = {f->s->dim}});
    give(f, hth_piece_ffn_rest(f->s, layer));
    return HTH_OK;
}

static int feed_forward(struct hth_forward *f, const struct hth_batch *b,
                        uint32_t layer, struct hth_err *err)
{
    int rc = take(f, hth_piece_ffn(f->s, layer), false, err);

    if (rc != HTH_OK)
        return rc;
    norm_rows(f, b, f->layer[layer].ffn_norm);
    hth__lap(f, HTH_OP_NORM);
    return f->s->arch->moe ? experts(f, b, layer, err)
                           : dense(f, b, layer, err);
}

/* ---- the step ------------------------------------------------------------ */

static int reduce_into(struct hth_forward *f, const struct hth_batch *b,
                       struct hth_err *err)
{
    size_t n = (size_t)b->rows * f->s->dim;
    int rc = HTH_OK;

    if (f->group != NULL && f->group->ranks > 1)
        rc = f->group->all_reduce(f->group->ctx, f->part, n, err);
    hth__lap(f, HTH_OP_REDUCE);
    f->times.reduce_ns = f->times.op_ns[HTH_OP_REDUCE];
    if (rc == HTH_OK)
        hth_add(b->x, f->part, n);
    return rc;
}

static int attend_layer(struct hth_forward *f, const struct hth_batch *b,
                        uint32_t layer, struct hth_err *err)
{
    int rc = take(f, hth_piece_attn(f->s, layer), false, err);

    if (rc != HTH_OK)
        return rc;
    attention(f, b, layer);
    give(f, hth_piece_attn(f->s, layer));
    return HTH_OK;
}

/* This rank's part of a half layer, in f->part: zeros where it has no share.
 */
int hth__run_half(struct hth_forward *f, const struct hth_batch *b,
                  uint32_t half, struct hth_err *err)
{
    bool attn = half % 2 == 0;

    if ((attn ? f->share.heads : f->share.ff) == 0) {
        memset(f->part, 0, (size_t)b->rows * f->s->dim * sizeof *f->part);
        return HTH_OK;
    }
    hth__lap(f, HTH_OP_NORM);
    return attn ? attend_layer(f, b, half / 2, err)
                : feed_forward(f, b, half / 2, err);
}

static int run_layers(struct hth_forward *f, const struct hth_batch *b,
                      struct hth_err *err)
{
    int rc = HTH_OK;

    for (uint32_t i = 0; i < 2 * f->s->layers && rc == HTH_OK; i++) {
        rc = hth__run_half(f, b, i, err);
        if (rc == HTH_OK)
            rc = reduce_into(f, b, err);
    }
    return rc;
}

static uint64_t not_compute(const struct hth_forward *f)
{
    return f->times.op_ns[HTH_OP_REDUCE] + f->times.op_ns[HTH_OP_BLOCKS];
}

int hth_forward_step(struct hth_forward *f, const struct hth_batch *b,
                     struct hth_err *err)
{
    uint64_t t0 = hth_now_ns(), other0 = not_compute(f);
    int rc;

    HTH_ASSERT(b->rows >= 1 && b->rows <= f->o.rows_max);
    hth_guard_enter("a step");
    f->lap_ns = t0;
    step_angles(f, b);
    if (f->attention != NULL)
        hth_attention_rows(f->attention, b->rows, b->seq, b->pos);
    hth__lap(f, HTH_OP_ROPE);
    rc = hth__can_halve(f, b) ? hth__run_halves(f, b, err)
                              : run_layers(f, b, err);
    hth_guard_leave();
    hth__lap(f, HTH_OP_NORM);
    f->times.compute_ns += f->lap_ns - t0 - (not_compute(f) - other0);
    f->times.steps++;
    return rc;
}

/* Logits of the output rows that are bound, which begin at row `first` of this
 * rank's. */
static void output_rows(struct hth_forward *f, uint32_t n, uint32_t first,
                        float *out)
{
    float *const to[] = {out + first};
    const size_t ld[] = {f->share.vocab};

    product(f, &(struct hth_matmul_job){.w = &f->output,
                                        .y = to,
                                        .ldy = ld,
                                        .count = 1,
                                        .x = f->h,
                                        .ldx = f->s->dim,
                                        .n = n});
    hth__lap(f, HTH_OP_OUTPUT);
}

int hth_forward_logits(struct hth_forward *f, const float *x, uint32_t n,
                       float *out, struct hth_err *err)
{
    uint64_t t0 = hth_now_ns(), other0 = not_compute(f);
    struct hth_batch b = {.rows = n, .x = (float *)(uintptr_t)x};
    uint32_t piece = hth_piece_head(f->s), done = 0;

    HTH_ASSERT(n <= f->o.rows_max);
    if (f->share.vocab == 0 || n == 0)
        return HTH_OK;
    f->lap_ns = t0;
    while (done < f->share.vocab) {
        int rc = take(f, piece, true, err);

        if (rc != HTH_OK)
            return rc;
        if (done == 0)
            norm_rows(f, &b, f->final_norm);
        hth__lap(f, HTH_OP_NORM);
        output_rows(f, n, done, out);
        done += f->output.rows;
        give(f, piece++);
    }
    f->times.compute_ns += f->lap_ns - t0 - (not_compute(f) - other0);
    return HTH_OK;
}

/* ---- a layer around somebody else's attention ------------------------------
 */

int hth_forward_project(struct hth_forward *f, uint32_t layer,
                        const struct hth_batch *b, struct hth_qkv *out,
                        struct hth_err *err)
{
    const struct hth__layer *l = &f->layer[layer];
    struct row_job j = {.f = f, .l = l, .b = b, .row = finish_qkv_row};
    int rc;

    HTH_ASSERT(b->rows >= 1 && b->rows <= f->o.rows_max && b->seq == NULL);
    f->lap_ns = hth_now_ns();
    rc = take(f, hth_piece_attn(f->s, layer), false, err);
    if (rc != HTH_OK)
        return rc;
    step_angles(f, b);
    project_rows(f, b, layer);
    for_rows(&j);
    hth__lap(f, HTH_OP_ROPE);
    give(f, hth_piece_attn(f->s, layer));
    *out = (struct hth_qkv){f->q, f->k, f->v};
    return HTH_OK;
}

int hth_forward_conclude(struct hth_forward *f, uint32_t layer,
                         const struct hth_batch *b, const float *att,
                         struct hth_err *err)
{
    size_t n = (size_t)b->rows * f->s->dim;
    int rc;

    f->lap_ns = hth_now_ns();
    rc = take(f, hth_piece_attn(f->s, layer), false, err);
    if (rc != HTH_OK)
        return rc;
    attention_out(f, b, layer, att);
    give(f, hth_piece_attn(f->s, layer));
    hth_add(b->x, f->part, n);
    rc = feed_forward(f, b, layer, err);
    if (rc == HTH_OK)
        hth_add(b->x, f->part, n);
    hth__lap(f, HTH_OP_NORM);
    return rc;
}
