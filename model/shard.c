/* shard.c - cutting a model into blocks. Layout is arithmetic on the spec and
 * the plan; the only thing that fails is reading the file. */
#include "model/shard.h"

#include <stdlib.h>
#include <string.h>

#include "model/roles.h"

uint32_t hth_shard_blocks(const struct hth_spec *s)
{
    return 2 * s->layers + 1;
}

struct range {
    uint32_t first, count;
};

/* What a rank takes of an axis of this size. Sizes that are not dealt (the
 * model's width, the experts) are taken whole. */
static struct range share_of(const struct hth_spec *s,
                             const struct hth_share *sh, enum hth_size size)
{
    switch (size) {
    case HTH_SIZE_Q:
        return (struct range){sh->head_first * s->head_dim,
                              sh->heads * s->head_dim};
    case HTH_SIZE_KV:
        return (struct range){sh->kv_first * s->head_dim,
                              sh->kvs * s->head_dim};
    case HTH_SIZE_FF:
        return (struct range){sh->ff_first, sh->ff};
    case HTH_SIZE_VOCAB:
        return (struct range){sh->vocab_first, sh->vocab};
    default:
        return (struct range){0, hth_size_of(s, size)};
    }
}

/* Append a part behind the ones there, at the next aligned offset. */
static void add_part(struct hth_block *b, struct hth_part part)
{
    HTH_ASSERT(b->parts < HTH_BLOCK_PARTS_MAX);
    part.row_bytes = hth_row_bytes(part.type, part.cols);
    part.offset =
        (b->bytes + HTH_PART_ALIGN - 1) / HTH_PART_ALIGN * HTH_PART_ALIGN;
    b->bytes = part.offset + part.row_bytes * part.rows * part.planes;
    b->part[b->parts++] = part;
}

static void add_role(const struct hth_spec *s, const struct hth_share *sh,
                     enum hth_role role, struct hth_block *b)
{
    const struct hth_role_info *info = &hth_roles[role];
    struct range rows = {0, hth_size_of(s, info->rows)};
    struct range cols = {0, hth_size_of(s, info->cols)};
    uint8_t type = s->type[b->layer][role];

    if (type == HTH_TYPE_ABSENT || info->block != b->kind)
        return;
    if (info->cut == HTH_CUT_ROWS)
        rows = share_of(s, sh, info->rows);
    else if (info->cut == HTH_CUT_COLS)
        cols = share_of(s, sh, info->cols);
    add_part(b, (struct hth_part){.role = role,
                                  .type = type,
                                  .rows = rows.count,
                                  .cols = cols.count,
                                  .planes = hth_size_of(s, info->planes),
                                  .row_first = rows.first,
                                  .col_first = cols.first});
}

static void head_block(const struct hth_spec *s, const struct hth_share *sh,
                       struct hth_block *b)
{
    add_part(b, (struct hth_part){.role = HTH_ROLE_OUTPUT_NORM,
                                  .type = HTH_F32,
                                  .rows = 1,
                                  .cols = s->dim,
                                  .planes = 1});
    add_part(b, (struct hth_part){.role = HTH_ROLE_OUTPUT,
                                  .type = s->output_type,
                                  .rows = sh->vocab,
                                  .cols = s->dim,
                                  .planes = 1,
                                  .row_first = sh->vocab_first});
}

void hth_shard_block(const struct hth_spec *s, const struct hth_plan *p,
                     uint32_t rank, uint32_t index, struct hth_block *out)
{
    const struct hth_share *sh = &p->share[rank];
    bool head = index == 2 * s->layers;

    HTH_ASSERT(rank < p->ranks && index < hth_shard_blocks(s));
    memset(out, 0, sizeof *out);
    out->kind = head ? HTH_BLOCK_HEAD
                     : (index % 2 == 0 ? HTH_BLOCK_ATTN : HTH_BLOCK_FFN);
    out->layer = head ? 0 : index / 2;
    if ((out->kind == HTH_BLOCK_ATTN && sh->heads == 0) ||
        (out->kind == HTH_BLOCK_FFN && sh->ff == 0) ||
        (out->kind == HTH_BLOCK_HEAD && sh->vocab == 0))
        return;
    if (head)
        head_block(s, sh, out);
    else
        for (int r = 0; r < HTH_ROLE_COUNT; r++)
            add_role(s, sh, (enum hth_role)r, out);
}

uint64_t hth_shard_bytes(const struct hth_spec *s, const struct hth_plan *p,
                         uint32_t rank)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < hth_shard_blocks(s); i++) {
        struct hth_block b;

        hth_shard_block(s, p, rank, i, &b);
        sum += b.bytes;
    }
    return sum;
}

static const struct hth_tensor *part_tensor(const struct hth_gguf *g,
                                            const struct hth_spec *s,
                                            const struct hth_block *b,
                                            const struct hth_part *part)
{
    char name[HTH_GGUF_NAME_BYTES_MAX];

    if (part->role == HTH_ROLE_OUTPUT_NORM)
        return hth_gguf_tensor(g, "output_norm.weight");
    if (part->role == HTH_ROLE_OUTPUT)
        return hth_gguf_tensor(g,
                               s->tied ? "token_embd.weight" : "output.weight");
    hth_role_tensor_name((enum hth_role)part->role, b->layer, name,
                         sizeof name);
    return hth_gguf_tensor(g, name);
}

/* Where in a tensor the bytes of a part lie: full rows and planes are one run
 * in the file, column slices are one run per row. */
struct walk {
    const struct hth_gguf *g;
    const struct hth_tensor *tensor;
    const struct hth_part *part;
    uint64_t file_row_bytes;
    uint64_t col_offset; /* bytes into a file row */
    uint64_t file_rows;  /* rows of one plane in the file */
};

static uint64_t run_bytes(const struct walk *w)
{
    return w->part->row_bytes == w->file_row_bytes
               ? w->part->row_bytes * w->part->rows
               : w->part->row_bytes;
}

/* Read bytes [at, at + n) of the packed part. Small column runs would be one
 * pread each, so runs are read as whole stretches of file rows into a bounded
 * bounce buffer when they are strided. */
#define BOUNCE_BYTES (1u << 20)

static uint64_t file_offset(const struct walk *w, uint64_t plane, uint64_t row)
{
    return (plane * w->file_rows + w->part->row_first + row) *
           w->file_row_bytes;
}

static int read_contiguous(const struct walk *w, uint64_t at, uint8_t *dst,
                           size_t n, struct hth_err *err)
{
    uint64_t run = run_bytes(w);

    while (n > 0) {
        uint64_t plane = at / run;
        uint64_t inside = at % run;
        size_t take = run - inside < n ? (size_t)(run - inside) : n;
        int rc = hth_gguf_read(
            w->g, w->tensor, file_offset(w, plane, 0) + inside, dst, take, err);

        if (rc != HTH_OK)
            return rc;
        at += take;
        dst += take;
        n -= take;
    }
    return HTH_OK;
}

static void gather_rows(const struct walk *w, const uint8_t *rows,
                        uint64_t count, uint64_t skip, uint8_t *dst, size_t n)
{
    for (uint64_t r = 0; r < count; r++) {
        const uint8_t *src = rows + r * w->file_row_bytes + w->col_offset;
        uint64_t from = r == 0 ? skip : 0;
        uint64_t take = w->part->row_bytes - from;

        if (take > n)
            take = n;
        memcpy(dst, src + from, take);
        dst += take;
        n -= take;
    }
}

static int read_strided(const struct walk *w, uint64_t at, uint8_t *dst,
                        size_t n, struct hth_err *err)
{
    uint64_t batch = BOUNCE_BYTES / w->file_row_bytes;
    uint8_t *bounce;
    int rc = HTH_OK;

    if (batch == 0)
        batch = 1;
    bounce = malloc(batch * w->file_row_bytes);
    if (bounce == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory to cut %s",
                        w->tensor->name);
    while (n > 0 && rc == HTH_OK) {
        uint64_t row = at / w->part->row_bytes;
        uint64_t skip = at % w->part->row_bytes;
        uint64_t plane = row / w->part->rows;
        uint64_t in_plane = row % w->part->rows;
        uint64_t want =
            (skip + n + w->part->row_bytes - 1) / w->part->row_bytes;
        uint64_t rows = w->part->rows - in_plane;
        size_t take;

        rows = rows < want ? rows : want;
        rows = rows < batch ? rows : batch;
        take = (size_t)(rows * w->part->row_bytes - skip);
        take = take < n ? take : n;
        rc = hth_gguf_read(w->g, w->tensor, file_offset(w, plane, in_plane),
                           bounce, rows * w->file_row_bytes, err);
        if (rc == HTH_OK)
            gather_rows(w, bounce, rows, skip, dst, take);
        at += take;
        dst += take;
        n -= take;
    }
    free(bounce);
    return rc;
}

static int read_part(const struct hth_gguf *g, const struct hth_tensor *t,
                     const struct hth_part *part, uint64_t at, uint8_t *dst,
                     size_t n, struct hth_err *err)
{
    bool vector = t->dims == 1 && part->cols == 1;
    struct walk w = {.g = g, .tensor = t, .part = part};

    w.file_rows = vector ? t->ne[0] : t->ne[1];
    w.file_row_bytes = hth_row_bytes(t->type, vector ? 1 : t->ne[0]);
    w.col_offset = hth_row_bytes(t->type, part->col_first);
    if (part->row_bytes == w.file_row_bytes)
        return read_contiguous(&w, at, dst, n, err);
    return read_strided(&w, at, dst, n, err);
}

int hth_block_read(const struct hth_gguf *g, const struct hth_spec *s,
                   const struct hth_block *b, uint64_t at, void *dst, size_t n,
                   struct hth_err *err)
{
    uint64_t end = at + n;

    if (end < at || end > b->bytes)
        return hth_fail(err, HTH_EINVAL,
                        "bytes %llu to %llu of a block of %llu",
                        (unsigned long long)at, (unsigned long long)end,
                        (unsigned long long)b->bytes);
    memset(dst, 0, n);
    for (uint32_t i = 0; i < b->parts; i++) {
        const struct hth_part *p = &b->part[i];
        uint64_t p_end = p->offset + p->row_bytes * p->rows * p->planes;
        uint64_t from = at > p->offset ? at : p->offset;
        uint64_t to = end < p_end ? end : p_end;
        const struct hth_tensor *t;
        int rc;

        if (from >= to)
            continue;
        t = part_tensor(g, s, b, p);
        if (t == NULL)
            return hth_fail(err, HTH_ENOTFOUND,
                            "%s no longer has a tensor that its plan cuts",
                            hth_gguf_path(g));
        rc = read_part(g, t, p, from - p->offset, (uint8_t *)dst + (from - at),
                       (size_t)(to - from), err);
        if (rc != HTH_OK)
            return rc;
    }
    return HTH_OK;
}

struct hth_mat hth_block_mat(const struct hth_block *b, const void *data,
                             uint32_t role, uint32_t plane)
{
    for (uint32_t i = 0; i < b->parts; i++) {
        const struct hth_part *p = &b->part[i];

        if (p->role != role)
            continue;
        return (struct hth_mat){.type = p->type,
                                .rows = p->rows,
                                .cols = p->cols,
                                .row_bytes = (size_t)p->row_bytes,
                                .data = (const uint8_t *)data + p->offset +
                                        plane * p->rows * p->row_bytes};
    }
    return (struct hth_mat){0};
}
