/* lora.c - adapter files, and the slices that are cut out of them.
 *
 *   slice   u32 magic, u32 version, u32 pairs, u32 0
 *           pairs x {u32 layer, u8 role, u8 type of A, u8 type of B, u8 0,
 *                    u32 r, f32 scale}, ascending by layer and role
 *           for each pair A then B, each at a multiple of HTH_PART_ALIGN
 *
 * Rows of A and of B, and columns of B, are filled up with zeros to whole
 * groups of the packed layout, whose products do not depend on how many rows
 * are computed together. Fails only by what it reads. */
#include "model/lora.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "base/mem.h"
#include "kernels/pack.h"
#include "kernels/quant.h"
#include "model/shard.h"

#define MAGIC 0x41526f4cu /* "LoRA" */
#define VERSION 1u
#define HEAD_BYTES 16u
#define PAIR_BYTES 16u
#define PAIRS_MAX (HTH_LAYERS_MAX * 7u)
#define SUFFIX_BYTES 7u /* ".lora_a" */

static const enum hth_role g_roles[] = {
    HTH_ROLE_ATTN_Q,   HTH_ROLE_ATTN_K, HTH_ROLE_ATTN_V,  HTH_ROLE_ATTN_OUT,
    HTH_ROLE_FFN_GATE, HTH_ROLE_FFN_UP, HTH_ROLE_FFN_DOWN};
#define ROLES (sizeof g_roles / sizeof g_roles[0])

/* One pair of tensors of a file. */
struct pair {
    uint32_t layer;
    enum hth_role role;
    const struct hth_tensor *a, *b;
};

struct hth_lora_file {
    struct hth_gguf *g;
    const struct hth_spec *spec;
    struct pair *pair; /* [pairs], ascending */
    uint32_t pairs;
    uint32_t rank_max;
    float alpha;
};

/* ---- reading a file --------------------------------------------------------
 */

static bool text_is(const struct hth_str *s, const char *text)
{
    return s->n == strlen(text) && memcmp(s->p, text, s->n) == 0;
}

static int expect_text(const struct hth_gguf *g, const char *key,
                       const char *want, struct hth_err *err)
{
    struct hth_str got;
    int rc = hth_gguf_string(g, key, &got, err);

    if (rc == HTH_ENOTFOUND)
        return hth_fail(err, HTH_EFORMAT,
                        "this is no adapter: it has no %s (wanted: %s)", key,
                        want);
    if (rc != HTH_OK)
        return rc;
    if (!text_is(&got, want))
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "its %s is %.*s, and %s is wanted", key,
                        (int)(got.n < 64 ? got.n : 64), got.p, want);
    return HTH_OK;
}

static int check_keys(struct hth_lora_file *f, struct hth_err *err)
{
    int rc = expect_text(f->g, "general.type", "adapter", err);

    if (rc == HTH_OK)
        rc = expect_text(f->g, "adapter.type", "lora", err);
    if (rc == HTH_OK)
        rc =
            expect_text(f->g, "general.architecture", f->spec->arch->name, err);
    if (rc == HTH_OK)
        rc = hth_gguf_f32(f->g, "adapter.lora.alpha", &f->alpha, err);
    if (rc == HTH_OK && !isfinite(f->alpha))
        rc = hth_fail(err, HTH_EFORMAT, "its adapter.lora.alpha is no number");
    return rc;
}

/* Layer and role of "blk.3.attn_q.weight.lora_a"; false: none that we have. */
static bool name_parts(const struct hth_spec *s, const char *name,
                       uint32_t *layer, enum hth_role *role, bool *is_b)
{
    char want[HTH_GGUF_NAME_BYTES_MAX + 1];
    size_t n = strlen(name);
    unsigned long at;

    if (n <= SUFFIX_BYTES || strncmp(name, "blk.", 4) != 0 ||
        !isdigit((unsigned char)name[4]))
        return false;
    n -= SUFFIX_BYTES;
    *is_b = strcmp(name + n, ".lora_b") == 0;
    if (!*is_b && strcmp(name + n, ".lora_a") != 0)
        return false;
    at = strtoul(name + 4, NULL, 10);
    if (at >= s->layers)
        return false;
    *layer = (uint32_t)at;
    for (size_t i = 0; i < ROLES; i++) {
        hth_role_tensor_name(g_roles[i], *layer, want, sizeof want);
        *role = g_roles[i];
        if (strlen(want) == n && memcmp(want, name, n) == 0)
            return s->type[*layer][*role] != HTH_TYPE_ABSENT;
    }
    return false;
}

static int refuse_tensor(const struct hth_lora_file *f, const char *name,
                         struct hth_err *err)
{
    return hth_fail(err, HTH_EUNSUPPORTED,
                    "its tensor %s is not supported; adapters of attn_q, "
                    "attn_k, attn_v, attn_output%s in blk.0 to blk.%u are",
                    name,
                    f->spec->arch->moe ? "" : ", ffn_gate, ffn_up, ffn_down",
                    f->spec->layers - 1);
}

/* Rows and columns of the matrix that a pair goes with. */
static void matrix_size(const struct hth_spec *s, enum hth_role role,
                        uint32_t *rows, uint32_t *cols)
{
    uint32_t q = s->heads * s->head_dim, kv = s->kv_heads * s->head_dim;

    *rows = *cols = s->dim;
    if (role == HTH_ROLE_ATTN_Q)
        *rows = q;
    else if (role == HTH_ROLE_ATTN_K || role == HTH_ROLE_ATTN_V)
        *rows = kv;
    else if (role == HTH_ROLE_ATTN_OUT)
        *cols = q;
    else if (role == HTH_ROLE_FFN_GATE || role == HTH_ROLE_FFN_UP)
        *rows = s->ff;
    else
        *cols = s->ff;
}

static int check_shape(const struct hth_tensor *t, uint64_t rows, uint64_t cols,
                       struct hth_err *err)
{
    if (t->ne[0] == cols && t->ne[1] == rows && t->ne[2] == 1 && t->ne[3] == 1)
        return HTH_OK;
    return hth_fail(err, HTH_EFORMAT,
                    "its tensor %s is %llu x %llu, and this model wants %llu x "
                    "%llu: it was made for another one",
                    t->name, (unsigned long long)t->ne[1],
                    (unsigned long long)t->ne[0], (unsigned long long)rows,
                    (unsigned long long)cols);
}

static int check_pair(struct hth_lora_file *f, const struct pair *p,
                      struct hth_err *err)
{
    const struct hth_tensor *one = p->a != NULL ? p->a : p->b;
    uint32_t rows, cols;
    uint64_t r;
    int rc;

    if (p->a == NULL || p->b == NULL)
        return hth_fail(err, HTH_EFORMAT, "its tensor %s has no partner",
                        one->name);
    r = p->a->ne[1];
    if (r < 1 || r > HTH_LORA_RANK_MAX)
        return hth_fail(err, HTH_ELIMIT,
                        "its tensor %s is of rank %llu; 1 to "
                        "%u are supported",
                        p->a->name, (unsigned long long)r, HTH_LORA_RANK_MAX);
    matrix_size(f->spec, p->role, &rows, &cols);
    rc = check_shape(p->a, r, cols, err);
    if (rc == HTH_OK)
        rc = check_shape(p->b, rows, r, err);
    if (rc == HTH_OK && r > f->rank_max)
        f->rank_max = (uint32_t)r;
    return rc;
}

/* A table of what there may be, filled from what there is, then without its
 * holes. */
static int find_pairs(struct hth_lora_file *f, struct hth_err *err)
{
    size_t room = f->spec->layers * (size_t)HTH_ROLE_COUNT;
    int rc = HTH_OK;

    f->pair = calloc(room, sizeof *f->pair);
    if (f->pair == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for an adapter");
    for (size_t i = 0; i < hth_gguf_tensor_count(f->g); i++) {
        const struct hth_tensor *t = hth_gguf_tensor_at(f->g, i);
        struct pair found = {0}, *p;
        bool is_b;

        if (!name_parts(f->spec, t->name, &found.layer, &found.role, &is_b))
            return refuse_tensor(f, t->name, err);
        p = &f->pair[found.layer * HTH_ROLE_COUNT + found.role];
        found.a = is_b ? p->a : t;
        found.b = is_b ? t : p->b;
        *p = found;
    }
    for (size_t i = 0; i < room && rc == HTH_OK; i++) {
        if (f->pair[i].a == NULL && f->pair[i].b == NULL)
            continue;
        rc = check_pair(f, &f->pair[i], err);
        f->pair[f->pairs++] = f->pair[i];
    }
    if (rc == HTH_OK && f->pairs == 0)
        rc = hth_fail(err, HTH_EFORMAT, "it adapts nothing: no tensors");
    return rc;
}

/* Takes g. */
static int open_gguf(struct hth_lora_file **out, struct hth_gguf *g,
                     const struct hth_spec *spec, struct hth_err *err)
{
    struct hth_lora_file *f = calloc(1, sizeof *f);
    int rc;

    if (f == NULL) {
        hth_gguf_close(g);
        return hth_fail(err, HTH_ENOMEM, "no memory for an adapter");
    }
    f->g = g;
    f->spec = spec;
    rc = check_keys(f, err);
    if (rc == HTH_OK)
        rc = find_pairs(f, err);
    if (rc == HTH_OK)
        *out = f;
    else
        hth_lora_file_close(f);
    return rc;
}

int hth_lora_file_open(struct hth_lora_file **out, const char *path,
                       const struct hth_spec *spec, struct hth_err *err)
{
    struct hth_gguf *g;
    int rc = hth_gguf_open(&g, path, err);

    if (rc == HTH_OK) {
        rc = open_gguf(out, g, spec, err);
        if (rc != HTH_OK)
            hth_fail_prefix(err, rc, "adapter %.200s", path);
    }
    return rc;
}

int hth_lora_file_open_memory(struct hth_lora_file **out, const void *data,
                              size_t size, const struct hth_spec *spec,
                              struct hth_err *err)
{
    struct hth_gguf *g;
    int rc = hth_gguf_open_memory(&g, data, size, err);

    return rc == HTH_OK ? open_gguf(out, g, spec, err) : rc;
}

void hth_lora_file_close(struct hth_lora_file *f)
{
    if (f == NULL)
        return;
    hth_gguf_close(f->g);
    free(f->pair);
    free(f);
}

uint32_t hth_lora_file_pairs(const struct hth_lora_file *f)
{
    return f->pairs;
}

uint32_t hth_lora_file_rank(const struct hth_lora_file *f)
{
    return f->rank_max;
}

float hth_lora_file_alpha(const struct hth_lora_file *f)
{
    return f->alpha;
}

#define DIGEST_BYTES (1u << 20) /* read at a time */

static int digest_tensor(const struct hth_lora_file *f, struct hth_hash *h,
                         const struct hth_tensor *t, uint8_t *io,
                         struct hth_err *err)
{
    int rc = HTH_OK;

    hth_hash_update(h, t->name, strlen(t->name) + 1);
    hth_hash_update(h, t->ne, sizeof t->ne);
    hth_hash_update(h, &t->type, sizeof t->type);
    for (uint64_t at = 0; at < t->bytes && rc == HTH_OK; at += DIGEST_BYTES) {
        uint64_t left = t->bytes - at;
        size_t n = left < DIGEST_BYTES ? (size_t)left : DIGEST_BYTES;

        rc = hth_gguf_read(f->g, t, (struct hth_read){at, io, n}, err);
        hth_hash_update(h, io, rc == HTH_OK ? n : 0);
    }
    return rc;
}

int hth_lora_file_digest(const struct hth_lora_file *f,
                         uint8_t out[HTH_HASH_BYTES], struct hth_err *err)
{
    uint8_t *io = malloc(DIGEST_BYTES);
    struct hth_hash *h = NULL;
    int rc = io == NULL || hth_hash_open(&h) != HTH_OK
                 ? hth_fail(err, HTH_ENOMEM, "no memory for an adapter")
                 : HTH_OK;

    if (rc == HTH_OK)
        hth_hash_update(h, &f->alpha, sizeof f->alpha);
    for (uint32_t i = 0; i < f->pairs && rc == HTH_OK; i++) {
        rc = digest_tensor(f, h, f->pair[i].a, io, err);
        if (rc == HTH_OK)
            rc = digest_tensor(f, h, f->pair[i].b, io, err);
    }
    if (rc == HTH_OK)
        hth_hash_finish(h, out);
    hth_hash_close(h);
    free(io);
    return rc;
}

/* ---- layout of a slice -----------------------------------------------------
 */

/* One entry of a slice's table, and where its matrices lie. */
struct entry {
    uint32_t layer;
    enum hth_role role;
    uint32_t type_a, type_b;
    uint32_t r;
    float scale;
    /* Of the rank's part of the matrix. */
    uint32_t rows, cols, row_first, col_first;
    uint64_t a_at, b_at;
};

static uint32_t whole_groups(uint32_t n)
{
    return (n + HTH_PACK_ROWS - 1) / HTH_PACK_ROWS * HTH_PACK_ROWS;
}

static uint64_t aligned(uint64_t at)
{
    return (at + HTH_PART_ALIGN - 1) / HTH_PART_ALIGN * HTH_PART_ALIGN;
}

static bool sliced_type(uint32_t type)
{
    return type == HTH_F32 || type == HTH_F16 || type == HTH_BF16;
}

/* The rank's rows and columns of a matrix; false: it has none of it. */
static bool my_part(const struct hth_lora_place *at, struct entry *e)
{
    bool ffn = e->role >= HTH_ROLE_FFN_NORM;
    struct hth_block b;

    hth_shard_block(at->spec, at->plan, at->rank, 2 * e->layer + ffn, &b);
    for (uint32_t i = 0; i < b.parts; i++) {
        const struct hth_part *p = &b.part[i];

        if (p->role != (uint32_t)e->role)
            continue;
        e->rows = p->rows;
        e->cols = p->cols;
        e->row_first = p->row_first;
        e->col_first = p->col_first;
        return p->rows > 0 && p->cols > 0;
    }
    return false;
}

/* Put an entry's matrices behind what there is; returns the new end. */
static uint64_t place(struct entry *e, uint64_t at)
{
    e->a_at = aligned(at);
    at = e->a_at + whole_groups(e->r) * hth_row_bytes(e->type_a, e->cols);
    e->b_at = aligned(at);
    return e->b_at +
           whole_groups(e->rows) * hth_row_bytes(e->type_b, whole_groups(e->r));
}

static uint32_t stored_type(uint32_t type)
{
    return sliced_type(type) ? type : (uint32_t)HTH_F32;
}

static bool entry_of(const struct hth_lora_file *f, uint32_t i,
                     const struct hth_lora_place *at, struct entry *e)
{
    const struct pair *p = &f->pair[i];

    *e = (struct entry){.layer = p->layer,
                        .role = p->role,
                        .type_a = stored_type(p->a->type),
                        .type_b = stored_type(p->b->type),
                        .r = (uint32_t)p->a->ne[1]};
    /* As llama.cpp has it: no alpha, no division. */
    e->scale = f->alpha != 0.0f ? f->alpha / (float)e->r : 1.0f;
    return my_part(at, e);
}

static uint32_t entries(const struct hth_lora_file *f,
                        const struct hth_lora_place *at)
{
    struct entry e;
    uint32_t n = 0;

    for (uint32_t i = 0; i < f->pairs; i++)
        n += entry_of(f, i, at, &e);
    return n;
}

uint64_t hth_lora_slice_bytes(const struct hth_lora_file *f,
                              const struct hth_lora_place *at)
{
    uint64_t end = HEAD_BYTES + (uint64_t)PAIR_BYTES * entries(f, at);
    struct entry e;

    for (uint32_t i = 0; i < f->pairs; i++)
        if (entry_of(f, i, at, &e))
            end = place(&e, end);
    return end;
}

/* ---- cutting ---------------------------------------------------------------
 */

/* A part of a tensor and where it goes. */
struct cut {
    const struct hth_tensor *t;
    uint32_t type; /* stored */
    uint32_t row_first, rows, col_first, cols;
    size_t row_bytes; /* at dst */
    uint8_t *dst;
};

static void put_row(const struct cut *c, const uint8_t *row, float *wide,
                    uint8_t *dst)
{
    size_t size = c->type == HTH_F32 ? 4 : 2;

    if (c->t->type == c->type) {
        memcpy(dst, row + c->col_first * size, c->cols * size);
        return;
    }
    hth_dequantize((enum hth_type)c->t->type, row, wide, c->t->ne[0]);
    memcpy(dst, wide + c->col_first, c->cols * size);
}

static int cut_rows(const struct hth_gguf *g, const struct cut *c,
                    struct hth_err *err)
{
    size_t bytes = hth_row_bytes(c->t->type, c->t->ne[0]);
    uint8_t *row = malloc(bytes);
    float *wide = malloc(c->t->ne[0] * sizeof *wide);
    int rc = row == NULL || wide == NULL
                 ? hth_fail(err, HTH_ENOMEM, "no memory to cut an adapter")
                 : HTH_OK;

    for (uint32_t i = 0; i < c->rows && rc == HTH_OK; i++) {
        rc = hth_gguf_read(
            g, c->t,
            (struct hth_read){(uint64_t)(c->row_first + i) * bytes, row, bytes},
            err);
        if (rc == HTH_OK)
            put_row(c, row, wide, c->dst + i * c->row_bytes);
    }
    free(row);
    free(wide);
    return rc;
}

static int cut_pair(const struct hth_lora_file *f, const struct pair *p,
                    const struct entry *e, uint8_t *dst, struct hth_err *err)
{
    struct cut a = {.t = p->a,
                    .type = e->type_a,
                    .rows = e->r,
                    .col_first = e->col_first,
                    .cols = e->cols,
                    .row_bytes = hth_row_bytes(e->type_a, e->cols),
                    .dst = dst + e->a_at};
    struct cut b = {.t = p->b,
                    .type = e->type_b,
                    .row_first = e->row_first,
                    .rows = e->rows,
                    .cols = e->r,
                    .row_bytes = hth_row_bytes(e->type_b, whole_groups(e->r)),
                    .dst = dst + e->b_at};
    int rc = cut_rows(f->g, &a, err);

    return rc == HTH_OK ? cut_rows(f->g, &b, err) : rc;
}

static uint8_t *put_entry(uint8_t *p, const struct entry *e)
{
    hth_store_u32(p, e->layer);
    p[4] = (uint8_t)e->role;
    p[5] = (uint8_t)e->type_a;
    p[6] = (uint8_t)e->type_b;
    p[7] = 0;
    hth_store_u32(p + 8, e->r);
    memcpy(p + 12, &e->scale, 4);
    return p + PAIR_BYTES;
}

int hth_lora_slice(const struct hth_lora_file *f,
                   const struct hth_lora_place *at, uint8_t *dst,
                   struct hth_err *err)
{
    uint32_t n = entries(f, at);
    uint64_t end = HEAD_BYTES + (uint64_t)PAIR_BYTES * n;
    uint8_t *p = dst + HEAD_BYTES;
    struct entry e;
    int rc = HTH_OK;

    memset(dst, 0, hth_lora_slice_bytes(f, at));
    hth_store_u32(dst, MAGIC);
    hth_store_u32(dst + 4, VERSION);
    hth_store_u32(dst + 8, n);
    for (uint32_t i = 0; i < f->pairs && rc == HTH_OK; i++) {
        if (!entry_of(f, i, at, &e))
            continue;
        p = put_entry(p, &e);
        end = place(&e, end);
        rc = cut_pair(f, &f->pair[i], &e, dst, err);
    }
    return rc;
}

/* ---- adapters in use --------------------------------------------------------
 */

struct hth_lora {
    uint32_t layers;
    uint8_t *slice;
    uint64_t bytes;
    struct hth_lora_pair pair[]; /* [layers][HTH_ROLE_COUNT] */
};

void hth_lora_close(struct hth_lora *l)
{
    if (l == NULL)
        return;
    hth_mem_free(l->slice);
    free(l);
}

uint64_t hth_lora_bytes(const struct hth_lora *l)
{
    return l->bytes;
}

const struct hth_lora_pair *hth_lora_pair(const struct hth_lora *l,
                                          uint32_t layer, enum hth_role role)
{
    const struct hth_lora_pair *p = &l->pair[layer * HTH_ROLE_COUNT + role];

    HTH_ASSERT(layer < l->layers);
    return p->rows > 0 ? p : NULL;
}

static bool known_role(uint32_t role)
{
    for (size_t i = 0; i < ROLES; i++)
        if (g_roles[i] == (enum hth_role)role)
            return true;
    return false;
}

/* The next entry of a slice; false: nothing that slice() writes. *last is the
 * place of the one before. */
static bool get_entry(struct hth_cursor *c, const struct hth_lora_place *at,
                      int64_t *last, struct entry *e)
{
    uint8_t role, zero;
    int64_t here;

    *e = (struct entry){.layer = hth_get_u32(c)};
    role = hth_get_u8(c);
    e->type_a = hth_get_u8(c);
    e->type_b = hth_get_u8(c);
    zero = hth_get_u8(c);
    e->r = hth_get_u32(c);
    e->scale = hth_get_f32(c);
    if (c->failed || zero != 0 || e->layer >= at->spec->layers ||
        !known_role(role) || !sliced_type(e->type_a) ||
        !sliced_type(e->type_b) || e->r < 1 || e->r > HTH_LORA_RANK_MAX ||
        !isfinite(e->scale))
        return false;
    e->role = (enum hth_role)role;
    here = (int64_t)e->layer * HTH_ROLE_COUNT + role;
    if (here <= *last)
        return false;
    *last = here;
    return my_part(at, e);
}

static struct hth_mat mat_at(uint8_t *data, uint32_t type, uint32_t rows,
                             uint32_t cols)
{
    return (struct hth_mat){.type = type,
                            .rows = rows,
                            .cols = cols,
                            .row_bytes = hth_row_bytes(type, cols),
                            .data = data,
                            .packed = hth_can_pack(type, cols)};
}

static void pack(const struct hth_mat *m, uint8_t *scratch)
{
    struct hth_pack_job job = {.type = m->type,
                               .cols = m->cols,
                               .rows = m->rows,
                               .data = (uint8_t *)(uintptr_t)m->data,
                               .scratch = scratch};

    if (m->packed)
        hth_pack(NULL, &job);
}

static int add_pair(struct hth_lora *l, const struct entry *e,
                    struct hth_err *err)
{
    struct hth_lora_pair *p =
        &l->pair[e->layer * HTH_ROLE_COUNT + (uint32_t)e->role];
    uint8_t *scratch;
    size_t most;

    p->a = mat_at(l->slice + e->a_at, e->type_a, whole_groups(e->r), e->cols);
    p->b = mat_at(l->slice + e->b_at, e->type_b, whole_groups(e->rows),
                  whole_groups(e->r));
    p->rows = e->rows;
    p->scale = e->scale;
    most = p->a.row_bytes > p->b.row_bytes ? p->a.row_bytes : p->b.row_bytes;
    scratch = malloc(HTH_PACK_ROWS * most);
    if (scratch == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory to arrange an adapter");
    pack(&p->a, scratch);
    pack(&p->b, scratch);
    free(scratch);
    return HTH_OK;
}

static int bad_slice(struct hth_err *err)
{
    return hth_fail(err, HTH_EFORMAT,
                    "an adapter's slice does not fit this device's part of "
                    "the model; upgrade the older side");
}

/* Layout first, bytes afterwards: nothing is touched before the length is
 * known to be right. */
static int read_slice(struct hth_lora *l, const struct hth_lora_place *at,
                      struct hth_err *err)
{
    struct hth_cursor c;
    struct entry e;
    uint32_t magic, version, pairs;
    uint64_t end;

    for (int pass = 0; pass < 2; pass++) {
        int64_t last = -1;

        hth_cursor_init(&c, l->slice, l->bytes);
        magic = hth_get_u32(&c);
        version = hth_get_u32(&c);
        pairs = hth_get_u32(&c);
        if (hth_get_u32(&c) != 0 || c.failed || magic != MAGIC ||
            version != VERSION || pairs > PAIRS_MAX)
            return bad_slice(err);
        end = HEAD_BYTES + (uint64_t)PAIR_BYTES * pairs;
        for (uint32_t i = 0; i < pairs; i++) {
            if (!get_entry(&c, at, &last, &e))
                return bad_slice(err);
            end = place(&e, end);
            if (end > l->bytes)
                return bad_slice(err);
            if (pass == 1 && add_pair(l, &e, err) != HTH_OK)
                return HTH_ENOMEM;
        }
        if (end != l->bytes)
            return bad_slice(err);
    }
    return HTH_OK;
}

int hth_lora_open(struct hth_lora **out, const struct hth_lora_place *at,
                  uint8_t *slice, uint64_t bytes, struct hth_err *err)
{
    size_t room = at->spec->layers * (size_t)HTH_ROLE_COUNT;
    struct hth_lora *l = calloc(1, sizeof *l + room * sizeof l->pair[0]);
    int rc;

    if (l == NULL) {
        hth_mem_free(slice);
        return hth_fail(err, HTH_ENOMEM, "no memory for an adapter");
    }
    l->layers = at->spec->layers;
    l->slice = slice;
    l->bytes = bytes;
    rc = read_slice(l, at, err);
    if (rc == HTH_OK)
        *out = l;
    else
        hth_lora_close(l);
    return rc;
}
