/* seqpar_attn.c - attention of a rank's rows to pieces of keys and values as
 * they come. Cannot fail. */
#include <math.h>

#include "model/seqpar_internal.h"

struct attend_job {
    struct hth_seqpar *s;
    const struct hth__piece *p; /* [pieces], all of the same heads */
    uint32_t pieces;
    uint32_t first, n; /* finish: own rows */
};

static size_t block_bytes(const struct hth_seqpar *s)
{
    return hth_attn_k_bytes(s->o.kv_type, s->spec->head_dim) +
           hth_attn_v_bytes(s->o.kv_type, s->spec->head_dim);
}

static uint8_t *block_at(const struct hth_seqpar *s, uint32_t head, uint32_t i)
{
    return s->blocks + ((size_t)head * HTH__BATCH_BLOCKS + i) * block_bytes(s);
}

/* Rows first .. of a piece's head into one block. */
static void unpack(const struct hth_seqpar *s, const struct hth__piece *p,
                   uint32_t head, uint32_t first, uint8_t *to)
{
    size_t rb = s->row_bytes;
    struct hth_attn_block b = {
        s->o.kv_type, s->spec->head_dim, to,
        to + hth_attn_k_bytes(s->o.kv_type, s->spec->head_dim)};
    const uint8_t *k = hth__key_rows(s, p, head) + first * rb;
    const uint8_t *v = hth__value_rows(s, p, head) + first * rb;

    for (uint32_t i = 0; i < HTH_ATTN_KEYS && first + i < p->rows; i++)
        hth_attn_put_row(&b, i, k + i * rb, v + i * rb);
}

/* From the wire's rows to the kernel's blocks: each is written once and read
 * by all rows. */
static void unpack_thread(void *ctx, uint32_t thread, uint32_t threads)
{
    const struct attend_job *j = ctx;
    uint32_t tasks = j->p->heads * j->pieces * HTH__PIECE_BLOCKS;

    for (uint32_t t = thread; t < tasks; t += threads) {
        uint32_t head = t / (j->pieces * HTH__PIECE_BLOCKS);
        uint32_t block = t % (j->pieces * HTH__PIECE_BLOCKS);
        uint32_t first = block % HTH__PIECE_BLOCKS * HTH_ATTN_KEYS;
        const struct hth__piece *p = &j->p[block / HTH__PIECE_BLOCKS];

        if (first < p->rows)
            unpack(j->s, p, head, first, block_at(j->s, head, block));
    }
}

/* Blocks of a head that queries up to a position can see. */
static uint32_t list_keys(const struct attend_job *j, uint32_t head,
                          uint32_t last_pos, struct hth_attn_keys *keys)
{
    const struct hth_seqpar *s = j->s;
    size_t k_bytes = hth_attn_k_bytes(s->o.kv_type, s->spec->head_dim);
    uint32_t n = 0;

    for (uint32_t b = 0; b < j->pieces * HTH__PIECE_BLOCKS; b++) {
        const struct hth__piece *p = &j->p[b / HTH__PIECE_BLOCKS];
        uint32_t first = b % HTH__PIECE_BLOCKS * HTH_ATTN_KEYS;
        uint32_t left = p->rows - first;
        const uint8_t *at = block_at(s, head, b);

        if (first >= p->rows || p->pos[first] > last_pos)
            continue;
        keys[n++] = (struct hth_attn_keys){
            .k = at,
            .v = at + k_bytes,
            .count = left < HTH_ATTN_KEYS ? left : HTH_ATTN_KEYS,
            .step = 1,
            .at = p->pos + first};
    }
    return n;
}

static const uint32_t *own_pos(const struct hth_seqpar *s)
{
    return s->pos + hth_spread_before(&s->o.spread, s->rank);
}

static size_t query_at(const struct hth_seqpar *s, uint32_t kv, uint32_t row)
{
    return ((size_t)kv * s->rows + row) * s->group;
}

/* Tiles of own rows for each head of the pieces, whose keys then stay near;
 * late rows first, which have most to do where the mask cuts. */
static void attend_thread(void *ctx, uint32_t thread, uint32_t threads)
{
    const struct attend_job *j = ctx;
    struct hth_seqpar *s = j->s;
    uint32_t tiles = (s->rows + HTH__TILE_ROWS - 1) / HTH__TILE_ROWS;
    struct hth_attn_keys keys[HTH__BATCH_BLOCKS];

    for (uint32_t t = thread; t < tiles * j->p->heads; t += threads) {
        uint32_t head = t / tiles, kv = j->p->head_first + head;
        uint32_t first = (tiles - 1 - t % tiles) * HTH__TILE_ROWS;
        uint32_t n =
            s->rows - first < HTH__TILE_ROWS ? s->rows - first : HTH__TILE_ROWS;
        size_t ldq = (size_t)s->spec->heads * s->spec->head_dim;
        struct hth_attn_job a = {
            .type = s->o.kv_type,
            .head_dim = s->spec->head_dim,
            .scale = 1.0f / sqrtf((float)s->spec->head_dim),
            .queries = {s->q + first * ldq +
                            (size_t)kv * s->group * s->spec->head_dim,
                        ldq, own_pos(s) + first, n, s->group},
            .keys = keys,
            .state = hth_attn_state_at(&s->state, query_at(s, kv, first),
                                       s->spec->head_dim),
            .scratch = s->scratch + thread * s->scratch_bytes};

        a.blocks = list_keys(j, head, own_pos(s)[first + n - 1], keys);
        if (a.blocks > 0)
            hth_attn_fold(&a);
    }
}

void hth__attend(struct hth_seqpar *s, const struct hth__piece *p, uint32_t n)
{
    struct attend_job j = {.s = s, .p = p, .pieces = n};

    if (s->rows == 0 || n == 0 || p->rows == 0 || p->heads == 0 ||
        p->pos[0] > own_pos(s)[s->rows - 1])
        return;
    hth_pool_run(s->o.pool, unpack_thread, &j);
    hth_pool_run(s->o.pool, attend_thread, &j);
}

void hth__attend_begin(struct hth_seqpar *s)
{
    hth_attn_begin(&s->state, (size_t)s->rows * s->spec->heads,
                   s->spec->head_dim);
}

static void finish_thread(void *ctx, uint32_t thread, uint32_t threads)
{
    const struct attend_job *j = ctx;
    const struct hth_seqpar *s = j->s;
    size_t q_dim = (size_t)s->spec->heads * s->spec->head_dim;

    for (uint32_t r = thread; r < j->n; r += threads)
        for (uint32_t kv = 0; kv < s->spec->kv_heads; kv++) {
            struct hth_attn_state at = hth_attn_state_at(
                &s->state, query_at(s, kv, j->first + r), s->spec->head_dim);

            hth_attn_finish(&at, s->group, s->spec->head_dim,
                            s->att + r * q_dim +
                                (size_t)kv * s->group * s->spec->head_dim);
        }
}

void hth__attend_finish(struct hth_seqpar *s, uint32_t first, uint32_t n)
{
    struct attend_job j = {.s = s, .first = first, .n = n};

    hth_pool_run(s->o.pool, finish_thread, &j);
}
