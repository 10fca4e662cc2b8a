/* piece.c - see piece.h. Arithmetic on the layout of blocks; cannot fail. */
#include "model/piece.h"

#include <string.h>

/* Pieces of one layer: attention, the FFN's front, the rest. */
static uint32_t per_layer(const struct hth_spec *s)
{
    return s->arch->moe ? 2 + s->experts : 3;
}

static uint64_t output_row_bytes(const struct hth_spec *s)
{
    return hth_row_bytes(s->output_type, s->dim);
}

/* Output rows of one head piece. */
static uint32_t head_rows(const struct hth_spec *s)
{
    uint64_t rows = HTH_PIECE_HEAD_BYTES / output_row_bytes(s);

    rows -= rows % HTH_PIECE_ROWS;
    return rows > HTH_PIECE_ROWS ? (uint32_t)rows : HTH_PIECE_ROWS;
}

uint32_t hth_piece_attn(const struct hth_spec *s, uint32_t layer)
{
    return layer * per_layer(s);
}

uint32_t hth_piece_ffn(const struct hth_spec *s, uint32_t layer)
{
    return layer * per_layer(s) + 1;
}

uint32_t hth_piece_ffn_rest(const struct hth_spec *s, uint32_t layer)
{
    return layer * per_layer(s) + 2;
}

uint32_t hth_piece_head(const struct hth_spec *s)
{
    return s->layers * per_layer(s);
}

bool hth_piece_rare(const struct hth_spec *s, uint32_t index)
{
    return s->arch->moe && index < hth_piece_head(s) &&
           index % per_layer(s) >= 2;
}

uint32_t hth_pieces(const struct hth_spec *s, const struct hth_plan *p,
                    uint32_t rank)
{
    uint32_t vocab = p->share[rank].vocab, rows = head_rows(s);
    uint32_t heads = (vocab + rows - 1) / rows;

    return hth_piece_head(s) + (heads > 0 ? heads : 1);
}

uint32_t hth_piece_block(const struct hth_spec *s, uint32_t index)
{
    if (index >= hth_piece_head(s))
        return 2 * s->layers;
    return 2 * (index / per_layer(s)) + (index % per_layer(s) > 0);
}

static bool belongs_to_rest(uint32_t role)
{
    return role == HTH_ROLE_FFN_DOWN || role == HTH_ROLE_FFN_GATE_EXPS ||
           role == HTH_ROLE_FFN_UP_EXPS || role == HTH_ROLE_FFN_DOWN_EXPS;
}

/* Append a run of a part behind the ones there. */
static void add_run(struct hth_block *to, const struct hth_part *part)
{
    struct hth_part p = *part;

    p.offset = (to->bytes + HTH_PART_ALIGN - 1) & ~(HTH_PART_ALIGN - 1ull);
    to->bytes = p.offset + p.row_bytes * p.rows * p.planes;
    to->part[to->parts++] = p;
}

static void ffn_piece(const struct hth_spec *s, const struct hth_block *b,
                      uint32_t which, struct hth_block *out)
{
    for (uint32_t i = 0; i < b->parts; i++) {
        struct hth_part p = b->part[i];

        if (belongs_to_rest(p.role) != (which > 0))
            continue;
        if (s->arch->moe && which > 0) {
            p.plane_first = which - 1;
            p.planes = 1;
        }
        add_run(out, &p);
    }
}

static void head_piece(const struct hth_spec *s, const struct hth_block *b,
                       uint32_t which, struct hth_block *out)
{
    uint32_t rows = head_rows(s), from = which * rows;

    for (uint32_t i = 0; i < b->parts; i++) {
        struct hth_part p = b->part[i];

        if (p.role == HTH_ROLE_OUTPUT) {
            p.row_first += from;
            p.rows = p.rows - from < rows ? p.rows - from : rows;
        } else if (which > 0) {
            continue;
        }
        add_run(out, &p);
    }
}

void hth_piece(const struct hth_spec *s, const struct hth_plan *p,
               uint32_t rank, uint32_t index, struct hth_block *out)
{
    struct hth_block b;

    HTH_ASSERT(index < hth_pieces(s, p, rank));
    hth_shard_block(s, p, rank, hth_piece_block(s, index), &b);
    memset(out, 0, sizeof *out);
    out->kind = b.kind;
    out->layer = b.layer;
    if (b.bytes == 0)
        return;
    if (b.kind == HTH_BLOCK_ATTN)
        *out = b;
    else if (b.kind == HTH_BLOCK_FFN)
        ffn_piece(s, &b, index % per_layer(s) - 1, out);
    else
        head_piece(s, &b, index - hth_piece_head(s), out);
}

uint64_t hth_piece_part_at(const struct hth_block *block,
                           const struct hth_block *piece, uint32_t i)
{
    const struct hth_part *p = &piece->part[i];
    const struct hth_part *whole = block->part;

    while (whole->role != p->role)
        whole++;
    return whole->offset +
           (whole->rows * (uint64_t)(p->plane_first - whole->plane_first) +
            (p->row_first - whole->row_first)) *
               p->row_bytes;
}
