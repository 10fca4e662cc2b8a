/* seqpar_wire.c - keys and values of a spread prompt in wire form: cut into
 * pieces, packed from projections, kept in the cache. Cannot fail. */
#include <string.h>

#include "model/seqpar_internal.h"

uint32_t hth__pieces(uint32_t rows)
{
    return (rows + HTH_SEQPAR_PIECE_ROWS - 1) / HTH_SEQPAR_PIECE_ROWS;
}

uint32_t hth__piece_rows(uint32_t rows, uint32_t piece)
{
    uint32_t left = rows - piece * HTH_SEQPAR_PIECE_ROWS;

    return left < HTH_SEQPAR_PIECE_ROWS ? left : HTH_SEQPAR_PIECE_ROWS;
}

struct hth__piece hth__block_piece(const struct hth_seqpar *s,
                                   const struct hth__slot *slot, uint32_t rank,
                                   uint32_t i)
{
    uint32_t first =
        hth_spread_before(&s->o.spread, rank) + i * HTH_SEQPAR_PIECE_ROWS;

    return (struct hth__piece){.data = slot->arena + first * s->pos_bytes,
                               .pos = s->pos + first,
                               .rows =
                                   hth__piece_rows(s->o.spread.rows[rank], i),
                               .heads = s->spec->kv_heads};
}

struct hth__piece hth__prefix_piece(const struct hth_seqpar *s,
                                    const struct hth__slot *slot,
                                    uint32_t owner, uint32_t i)
{
    const struct hth__heads *h = &s->heads[owner];
    size_t head_bytes = 2 * s->row_bytes;
    uint32_t first = i * HTH_SEQPAR_PIECE_ROWS;

    return (struct hth__piece){
        .data = slot->prefix + (size_t)h->first * s->o.prefix * head_bytes +
                (size_t)first * h->count * head_bytes,
        .pos = s->pos + s->o.spread.count + first,
        .rows = hth__piece_rows(s->o.prefix, i),
        .head_first = h->first,
        .heads = h->count};
}

const uint8_t *hth__key_rows(const struct hth_seqpar *s,
                             const struct hth__piece *p, uint32_t head)
{
    return p->data + (size_t)head * p->rows * 2 * s->row_bytes;
}

const uint8_t *hth__value_rows(const struct hth_seqpar *s,
                               const struct hth__piece *p, uint32_t head)
{
    return hth__key_rows(s, p, head) + p->rows * s->row_bytes;
}

/* ---- own rows --------------------------------------------------------------
 */

struct pack_job {
    struct hth_seqpar *s;
    struct hth__slot *slot;
    uint32_t first, n;
};

/* Rows done .. done + n of the projections into a piece, one head. Through the
 * kernel's block, so that a row is rounded exactly as the cache rounds it on a
 * device that does everything. */
static void pack_head(const struct pack_job *j, const struct hth__piece *p,
                      uint32_t head, uint32_t done, uint32_t n)
{
    _Alignas(64) uint8_t room[2][HTH_ATTN_KEYS * 4 * (HTH_HEAD_DIM_MAX + 16)];
    const struct hth_seqpar *s = j->s;
    struct hth_attn_block b = {s->o.kv_type, s->spec->head_dim, room[0],
                               room[1]};
    size_t dim = s->spec->head_dim, ld = s->spec->kv_heads * dim;
    size_t inside = (j->first + done) % HTH_SEQPAR_PIECE_ROWS;
    size_t at = inside * s->row_bytes;
    uint8_t *k = (uint8_t *)(uintptr_t)hth__key_rows(s, p, head) + at;
    uint8_t *v = (uint8_t *)(uintptr_t)hth__value_rows(s, p, head) + at;

    for (uint32_t i = 0; i < n; i++) {
        size_t from = (done + i) * ld + head * dim;

        hth_attn_put(&b, i % HTH_ATTN_KEYS, s->k + from, s->v + from);
        hth_attn_get_row(&b, i % HTH_ATTN_KEYS, k + i * s->row_bytes,
                         v + i * s->row_bytes);
    }
}

static void pack_thread(void *ctx, uint32_t thread, uint32_t threads)
{
    const struct pack_job *j = ctx;

    for (uint32_t done = 0; done < j->n;) {
        uint32_t row = j->first + done;
        uint32_t inside = row % HTH_SEQPAR_PIECE_ROWS, left = j->n - done;
        struct hth__piece p = hth__block_piece(j->s, j->slot, j->s->rank,
                                               row / HTH_SEQPAR_PIECE_ROWS);
        uint32_t n = p.rows - inside < left ? p.rows - inside : left;

        for (uint32_t h = thread; h < p.heads; h += threads)
            pack_head(j, &p, h, done, n);
        done += n;
    }
}

void hth__pack(struct hth_seqpar *s, struct hth__slot *slot, uint32_t first,
               uint32_t n)
{
    struct pack_job j = {s, slot, first, n};

    hth_pool_run(s->o.pool, pack_thread, &j);
}

/* ---- the cache -------------------------------------------------------------
 */

/* Rows from i on whose positions follow each other. */
static uint32_t run_at(const struct hth__piece *p, uint32_t i)
{
    uint32_t n = 1;

    while (i + n < p->rows && p->pos[i + n] == p->pos[i] + n)
        n++;
    return n;
}

void hth__keep(struct hth_seqpar *s, uint32_t layer, const struct hth__piece *p)
{
    const struct hth_share *mine = &s->o.plan->share[s->rank];

    for (uint32_t h = 0; h < mine->kvs; h++) {
        uint32_t head = mine->kv_first + h - p->head_first;

        if (mine->kv_first + h < p->head_first || head >= p->heads)
            continue;
        for (uint32_t i = 0, n; i < p->rows; i += n) {
            struct hth_kv_at at = {layer, h, p->pos[i]};
            size_t skip = i * s->row_bytes;

            n = run_at(p, i);
            hth_kv_import(
                s->o.kv, s->o.seq, &at,
                &(struct hth_kv_rows){
                    n, (uint8_t *)(uintptr_t)hth__key_rows(s, p, head) + skip,
                    (uint8_t *)(uintptr_t)hth__value_rows(s, p, head) + skip});
        }
    }
}

void hth__fetch_prefix(struct hth_seqpar *s, struct hth__slot *slot,
                       uint32_t layer)
{
    const struct hth__heads *mine = &s->heads[s->rank];
    uint32_t local = mine->first - s->o.plan->share[s->rank].kv_first;

    for (uint32_t i = 0; i < hth__pieces(s->o.prefix); i++) {
        struct hth__piece p = hth__prefix_piece(s, slot, s->rank, i);

        for (uint32_t h = 0; h < p.heads; h++) {
            struct hth_kv_at at = {layer, local + h, p.pos[0]};

            hth_kv_export(s->o.kv, s->o.seq, &at,
                          &(struct hth_kv_rows){
                              p.rows,
                              (uint8_t *)(uintptr_t)hth__key_rows(s, &p, h),
                              (uint8_t *)(uintptr_t)hth__value_rows(s, &p, h)});
        }
    }
}
