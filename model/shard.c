/* shard.c - cutting a model into blocks. Layout is arithmetic on the spec and
 * the plan; the only thing that fails is reading the file. */
#include "model/shard.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernels/pack.h"
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
    return ((w->part->plane_first + plane) * w->file_rows + w->part->row_first +
            row) *
           w->file_row_bytes;
}

static int read_contiguous(const struct walk *w, struct hth_read what,
                           struct hth_err *err)
{
    uint64_t run = run_bytes(w);
    uint8_t *dst = what.dst;

    while (what.n > 0) {
        uint64_t plane = what.at / run;
        uint64_t inside = what.at % run;
        size_t take = run - inside < what.n ? (size_t)(run - inside) : what.n;
        int rc = hth_gguf_read(
            w->g, w->tensor,
            (struct hth_read){file_offset(w, plane, 0) + inside, dst, take},
            err);

        if (rc != HTH_OK)
            return rc;
        what.at += take;
        dst += take;
        what.n -= take;
    }
    return HTH_OK;
}

/* The slices of file rows that lie in the bounce buffer, one after the other;
 * the first `skip` bytes of the first slice are not wanted. */
static void gather_rows(const struct walk *w, const uint8_t *row, size_t skip,
                        uint8_t *dst, size_t n)
{
    while (n > 0) {
        size_t take = (size_t)w->part->row_bytes - skip;

        take = take < n ? take : n;
        memcpy(dst, row + w->col_offset + skip, take);
        row += w->file_row_bytes;
        dst += take;
        n -= take;
        skip = 0;
    }
}

/* How many rows to read at once from packed row `row` on: not past the end of
 * the plane, of what is wanted, or of the buffer. */
static uint64_t rows_at_once(const struct walk *w, uint64_t row,
                             uint64_t wanted_bytes)
{
    uint64_t want =
        (wanted_bytes + w->part->row_bytes - 1) / w->part->row_bytes;
    uint64_t rows = w->part->rows - row % w->part->rows;
    uint64_t batch = BOUNCE_BYTES / w->file_row_bytes;

    rows = rows < want ? rows : want;
    batch = batch == 0 ? 1 : batch;
    return rows < batch ? rows : batch;
}

static int read_strided(const struct walk *w, struct hth_read what,
                        struct hth_err *err)
{
    size_t room = w->file_row_bytes > BOUNCE_BYTES ? (size_t)w->file_row_bytes
                                                   : BOUNCE_BYTES;
    uint8_t *bounce = malloc(room), *dst = what.dst;
    int rc = HTH_OK;

    if (bounce == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory to cut %s",
                        w->tensor->name);
    while (what.n > 0 && rc == HTH_OK) {
        uint64_t row = what.at / w->part->row_bytes;
        size_t skip = (size_t)(what.at % w->part->row_bytes);
        uint64_t rows = rows_at_once(w, row, skip + what.n);
        size_t take = (size_t)(rows * w->part->row_bytes) - skip;
        struct hth_read run = {
            file_offset(w, row / w->part->rows, row % w->part->rows), bounce,
            (size_t)(rows * w->file_row_bytes)};

        take = take < what.n ? take : what.n;
        rc = hth_gguf_read(w->g, w->tensor, run, err);
        if (rc == HTH_OK)
            gather_rows(w, bounce, skip, dst, take);
        what.at += take;
        dst += take;
        what.n -= take;
    }
    free(bounce);
    return rc;
}

static int read_part(struct walk *w, struct hth_read what, struct hth_err *err)
{
    const struct hth_tensor *t = w->tensor;
    bool vector = t->dims == 1 && w->part->cols == 1;

    w->file_rows = vector ? t->ne[0] : t->ne[1];
    w->file_row_bytes = hth_row_bytes(t->type, vector ? 1 : t->ne[0]);
    w->col_offset = hth_row_bytes(t->type, w->part->col_first);
    if (w->part->row_bytes == w->file_row_bytes)
        return read_contiguous(w, what, err);
    return read_strided(w, what, err);
}

/* What of [at, at + n) of the block lies in a part, as a read of that part;
 * n is 0 when nothing does. */
static struct hth_read overlap(const struct hth_part *p, struct hth_read what)
{
    uint64_t p_end = p->offset + p->row_bytes * p->rows * p->planes;
    uint64_t end = what.at + what.n;
    uint64_t from = what.at > p->offset ? what.at : p->offset;
    uint64_t to = end < p_end ? end : p_end;

    if (from >= to)
        return (struct hth_read){0};
    return (struct hth_read){from - p->offset,
                             (uint8_t *)what.dst + (from - what.at),
                             (size_t)(to - from)};
}

int hth_block_read(const struct hth_gguf *g, const struct hth_spec *s,
                   const struct hth_block *b, struct hth_read what,
                   struct hth_err *err)
{
    if (what.at > b->bytes || what.n > b->bytes - what.at)
        return hth_fail(err, HTH_EINVAL, "%zu bytes at %llu of a block of %llu",
                        what.n, (unsigned long long)what.at,
                        (unsigned long long)b->bytes);
    memset(what.dst, 0, what.n);
    for (uint32_t i = 0; i < b->parts; i++) {
        const struct hth_part *p = &b->part[i];
        struct hth_read piece = overlap(p, what);
        struct walk w = {.g = g, .part = p};
        int rc;

        if (piece.n == 0)
            continue;
        w.tensor = part_tensor(g, s, b, p);
        if (w.tensor == NULL)
            return hth_fail(err, HTH_ENOTFOUND,
                            "%s no longer has a tensor that its plan cuts",
                            hth_gguf_path(g));
        rc = read_part(&w, piece, err);
        if (rc != HTH_OK)
            return rc;
    }
    return HTH_OK;
}

bool hth_part_packs(const struct hth_part *part)
{
    return part->role != HTH_ROLE_FFN_ROUTER && part->rows >= HTH_PACK_ROWS &&
           hth_can_pack(part->type, part->cols);
}

static int pack_part(struct hth_pool *pool, const struct hth_part *part,
                     uint8_t *data)
{
    struct hth_pack_job job = {
        .type = part->type, .cols = part->cols, .rows = part->rows};

    job.scratch = hth_mem_alloc(HTH_PACK_ROWS * (size_t)part->row_bytes *
                                hth_pool_threads(pool));
    if (job.scratch == NULL)
        return HTH_ENOMEM;
    for (uint32_t e = 0; e < part->planes; e++) {
        job.data = data + part->offset + e * part->rows * part->row_bytes;
        hth_pack(pool, &job);
    }
    hth_mem_free(job.scratch);
    return HTH_OK;
}

int hth_block_pack(struct hth_pool *pool, const struct hth_block *b, void *data,
                   struct hth_err *err)
{
    for (uint32_t i = 0; i < b->parts; i++)
        if (hth_part_packs(&b->part[i]) &&
            pack_part(pool, &b->part[i], data) != HTH_OK)
            return hth_fail(err, HTH_ENOMEM,
                            "no memory to arrange a block's weights");
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
                                        plane * p->rows * p->row_bytes,
                                .packed = hth_part_packs(p)};
    }
    return (struct hth_mat){0};
}
