/* attn.c - what attention does outside its inner loops: the layout of blocks,
 * who sees which keys, panels of queries, and the algebra of partials. Owns
 * nothing; no failure. */
#include "kernels/attn.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "kernels/isa.h"
#include "kernels/type.h"

#define LANES HTH_ATTN_LANES
#define KEYS HTH_ATTN_KEYS
#define PANEL HTH_ATTN_PANEL
#define Q8_COLS 32u
#define Q8_ROW_BYTES 34u                       /* of 32 columns of a row */
#define Q8_TILE_BYTES (LANES * (2u + Q8_COLS)) /* 16 keys, 32 columns of K */
/* From so many panels on, a block is widened once for all of them. */
#define WIDEN_PANELS_MIN 3u

/* ---- layout -------------------------------------------------------------- */

bool hth_attn_type_ok(uint32_t type, uint32_t head_dim)
{
    if (head_dim == 0 || head_dim > HTH_HEAD_DIM_MAX)
        return false;
    return type == HTH_F32 || type == HTH_F16 ||
           (type == HTH_Q8_0 && head_dim % Q8_COLS == 0);
}

uint32_t hth_attn_dim(uint32_t head_dim)
{
    return (head_dim + LANES - 1) / LANES * LANES;
}

size_t hth_attn_k_bytes(uint32_t type, uint32_t head_dim)
{
    if (type == HTH_Q8_0)
        return (size_t)(KEYS / LANES) * (head_dim / Q8_COLS) * Q8_TILE_BYTES;
    return (size_t)KEYS * head_dim * (type == HTH_F32 ? 4 : 2);
}

size_t hth_attn_v_bytes(uint32_t type, uint32_t head_dim)
{
    return hth_attn_k_bytes(type, hth_attn_dim(head_dim));
}

static uint8_t *q8_key_tile(const struct hth_attn_block *b, uint32_t key,
                            uint32_t col)
{
    uint32_t per_row = b->head_dim / Q8_COLS;

    return (uint8_t *)b->k +
           ((size_t)(key / LANES) * per_row + col / Q8_COLS) * Q8_TILE_BYTES;
}

static uint8_t *q8_value_scale(const struct hth_attn_block *b, uint32_t key,
                               uint32_t col)
{
    return (uint8_t *)b->v + ((size_t)(col / Q8_COLS) * KEYS + key) * 2;
}

static uint8_t *q8_values(const struct hth_attn_block *b, uint32_t key,
                          uint32_t col)
{
    return (uint8_t *)b->v + (size_t)(b->head_dim / Q8_COLS) * KEYS * 2 +
           (size_t)key * b->head_dim + col;
}

static void put_row_q8(const struct hth_attn_block *b, uint32_t key,
                       const uint8_t *k, const uint8_t *v)
{
    uint32_t lane = key % LANES;

    for (uint32_t c = 0; c < b->head_dim; c += Q8_COLS) {
        uint8_t *tile = q8_key_tile(b, key, c);

        memcpy(tile + (size_t)lane * 2, k, 2);
        for (uint32_t i = 0; i < Q8_COLS; i++)
            tile[(2 + i) * LANES + lane] = k[2 + i];
        memcpy(q8_value_scale(b, key, c), v, 2);
        memcpy(q8_values(b, key, c), v + 2, Q8_COLS);
        k += Q8_ROW_BYTES;
        v += Q8_ROW_BYTES;
    }
}

static void get_row_q8(const struct hth_attn_block *b, uint32_t key, uint8_t *k,
                       uint8_t *v)
{
    uint32_t lane = key % LANES;

    for (uint32_t c = 0; c < b->head_dim; c += Q8_COLS) {
        const uint8_t *tile = q8_key_tile(b, key, c);

        memcpy(k, tile + (size_t)lane * 2, 2);
        for (uint32_t i = 0; i < Q8_COLS; i++)
            k[2 + i] = tile[(2 + i) * LANES + lane];
        memcpy(v, q8_value_scale(b, key, c), 2);
        memcpy(v + 2, q8_values(b, key, c), Q8_COLS);
        k += Q8_ROW_BYTES;
        v += Q8_ROW_BYTES;
    }
}

/* Number of the first element of a key in K, and its row in V. */
static size_t key_first(const struct hth_attn_block *b, uint32_t key)
{
    return (size_t)(key / LANES) * LANES * b->head_dim + key % LANES;
}

static size_t value_first(const struct hth_attn_block *b, uint32_t key)
{
    return (size_t)key * hth_attn_dim(b->head_dim);
}

static void put_row_f16(const struct hth_attn_block *b, uint32_t key,
                        const uint16_t *k, const uint16_t *v)
{
    uint16_t *to = (uint16_t *)b->k + key_first(b, key);
    uint32_t dim = b->head_dim;

    for (uint32_t i = 0; i < dim; i++)
        to[(size_t)i * LANES] = k[i];
    to = (uint16_t *)b->v + value_first(b, key);
    memcpy(to, v, dim * sizeof *to);
    memset(to + dim, 0, (hth_attn_dim(dim) - dim) * sizeof *to);
}

static void put_row_f32(const struct hth_attn_block *b, uint32_t key,
                        const float *k, const float *v)
{
    float *to = (float *)b->k + key_first(b, key);
    uint32_t dim = b->head_dim;

    for (uint32_t i = 0; i < dim; i++)
        to[(size_t)i * LANES] = k[i];
    to = (float *)b->v + value_first(b, key);
    memcpy(to, v, dim * sizeof *to);
    memset(to + dim, 0, (hth_attn_dim(dim) - dim) * sizeof *to);
}

void hth_attn_put_row(const struct hth_attn_block *b, uint32_t key,
                      const void *k, const void *v)
{
    HTH_ASSERT(key < KEYS);
    if (b->type == HTH_Q8_0)
        put_row_q8(b, key, k, v);
    else if (b->type == HTH_F16)
        put_row_f16(b, key, k, v);
    else
        put_row_f32(b, key, k, v);
}

void hth_attn_get_row(const struct hth_attn_block *b, uint32_t key, void *k,
                      void *v)
{
    size_t size = b->type == HTH_F32 ? 4 : 2;
    const uint8_t *from;

    HTH_ASSERT(key < KEYS);
    if (b->type == HTH_Q8_0) {
        get_row_q8(b, key, k, v);
        return;
    }
    from = (const uint8_t *)b->k + key_first(b, key) * size;
    for (uint32_t i = 0; i < b->head_dim; i++)
        memcpy((uint8_t *)k + i * size, from + i * size * LANES, size);
    memcpy(v, (const uint8_t *)b->v + value_first(b, key) * size,
           b->head_dim * size);
}

static void quantise_row(const float *x, uint32_t dim, uint8_t *row)
{
    int8_t q[HTH_HEAD_DIM_MAX];
    float d[HTH_HEAD_DIM_MAX / Q8_COLS];
    int16_t sums[HTH_HEAD_DIM_MAX / HTH_Q8_SUM];

    hth_isa_now()->q8_row(x, dim, q, d, sums);
    for (uint32_t c = 0; c < dim; c += Q8_COLS, row += Q8_ROW_BYTES) {
        uint16_t scale = hth_f32_to_f16(d[c / Q8_COLS]);

        memcpy(row, &scale, sizeof scale);
        memcpy(row + 2, q + c, Q8_COLS);
    }
}

void hth_attn_put(const struct hth_attn_block *b, uint32_t key, const float *k,
                  const float *v)
{
    _Alignas(4) uint8_t rows[2][HTH_HEAD_DIM_MAX * 2];
    const struct hth_isa *isa = hth_isa_now();

    if (b->type == HTH_F32) {
        hth_attn_put_row(b, key, k, v);
        return;
    }
    if (b->type == HTH_F16) {
        isa->f32_to_f16(k, (uint16_t *)(void *)rows[0], b->head_dim);
        isa->f32_to_f16(v, (uint16_t *)(void *)rows[1], b->head_dim);
    } else {
        quantise_row(k, b->head_dim, rows[0]);
        quantise_row(v, b->head_dim, rows[1]);
    }
    hth_attn_put_row(b, key, rows[0], rows[1]);
}

/* ---- partials ------------------------------------------------------------ */

struct hth_attn_state hth_attn_state_at(const struct hth_attn_state *s,
                                        size_t i, uint32_t head_dim)
{
    return (struct hth_attn_state){.m = s->m + i,
                                   .l = s->l + i,
                                   .acc = s->acc + i * hth_attn_dim(head_dim)};
}

void hth_attn_begin(const struct hth_attn_state *s, size_t n, uint32_t head_dim)
{
    for (size_t i = 0; i < n; i++) {
        s->m[i] = -INFINITY;
        s->l[i] = 0.0f;
    }
    memset(s->acc, 0, n * hth_attn_dim(head_dim) * sizeof *s->acc);
}

static void merge_one(const struct hth_attn_state *into,
                      const struct hth_attn_state *from, uint32_t dim)
{
    float max = fmaxf(*into->m, *from->m), a, b;

    if (*from->m == -INFINITY)
        return;
    if (*into->m == -INFINITY) {
        *into->m = *from->m;
        *into->l = *from->l;
        memcpy(into->acc, from->acc, dim * sizeof *into->acc);
        return;
    }
    a = expf(*into->m - max);
    b = expf(*from->m - max);
    *into->m = max;
    *into->l = *into->l * a + *from->l * b;
    for (uint32_t i = 0; i < dim; i++)
        into->acc[i] = into->acc[i] * a + from->acc[i] * b;
}

void hth_attn_merge(const struct hth_attn_state *into,
                    const struct hth_attn_state *from, size_t n,
                    uint32_t head_dim)
{
    for (size_t i = 0; i < n; i++) {
        struct hth_attn_state a = hth_attn_state_at(into, i, head_dim);
        struct hth_attn_state b = hth_attn_state_at(from, i, head_dim);

        merge_one(&a, &b, hth_attn_dim(head_dim));
    }
}

void hth_attn_finish(const struct hth_attn_state *s, size_t n,
                     uint32_t head_dim, float *out)
{
    for (size_t i = 0; i < n; i++, out += head_dim) {
        struct hth_attn_state one = hth_attn_state_at(s, i, head_dim);
        float part = *one.l == 0.0f ? 0.0f : 1.0f / *one.l;

        for (uint32_t c = 0; c < head_dim; c++)
            out[c] = one.acc[c] * part;
    }
}

/* ---- folding ------------------------------------------------------------- */

/* The scratch: packed queries, what each sees, one block in f32. */
struct work {
    const struct hth_attn_job *job;
    const struct hth_isa *isa;
    uint32_t queries;
    uint32_t panels;
    uint32_t per_panel; /* queries, as even as can be */
    float *q;           /* [panels][head_dim][PANEL] */
    uint32_t *seen;     /* [panels][PANEL] */
    float *k, *v;       /* a widened block */
};

static size_t aligned(size_t bytes)
{
    return (bytes + HTH_MEM_ALIGN - 1) & ~(size_t)(HTH_MEM_ALIGN - 1);
}

static size_t q_bytes(uint32_t panels, uint32_t head_dim)
{
    return aligned((size_t)panels * head_dim * PANEL * sizeof(float));
}

static size_t seen_bytes(uint32_t panels)
{
    return aligned((size_t)panels * PANEL * sizeof(uint32_t));
}

size_t hth_attn_scratch_bytes(uint32_t queries, uint32_t head_dim)
{
    uint32_t panels = (queries + PANEL - 1) / PANEL;

    return q_bytes(panels, head_dim) + seen_bytes(panels) +
           aligned(hth_attn_k_bytes(HTH_F32, head_dim)) +
           aligned(hth_attn_v_bytes(HTH_F32, head_dim));
}

static void lay_out(struct work *w, const struct hth_attn_job *job)
{
    uint8_t *at = job->scratch;

    w->job = job;
    w->isa = hth_isa_now();
    w->queries = job->queries.rows * job->queries.heads;
    w->panels = (w->queries + PANEL - 1) / PANEL;
    w->per_panel = (w->queries + w->panels - 1) / w->panels;
    w->q = (float *)(void *)at;
    at += q_bytes(w->panels, job->head_dim);
    w->seen = (uint32_t *)(void *)at;
    at += seen_bytes(w->panels);
    w->k = (float *)(void *)at;
    at += aligned(hth_attn_k_bytes(HTH_F32, job->head_dim));
    w->v = (float *)(void *)at;
}

/* Queries side by side, so that a step over a column reads one line. */
static void pack_queries(const struct work *w)
{
    const struct hth_attn_queries *from = &w->job->queries;
    uint32_t dim = w->job->head_dim;

    for (uint32_t i = 0; i < w->queries; i++) {
        const float *q =
            from->q + i / from->heads * from->ldq + i % from->heads * dim;
        float *to =
            w->q + (size_t)(i / w->per_panel) * dim * PANEL + i % w->per_panel;

        for (uint32_t c = 0; c < dim; c++)
            to[c * PANEL] = q[c] * w->job->scale;
    }
}

/* Keys of a block that a query at `pos` may look at. */
static uint32_t keys_seen(const struct hth_attn_keys *keys, uint32_t pos)
{
    uint32_t n = 0;

    if (keys->at != NULL) {
        if (keys->count > 0 && keys->at[keys->count - 1] <= pos)
            return keys->count;
        while (n < keys->count && keys->at[n] <= pos)
            n++;
        return n;
    }
    if (pos < keys->pos)
        return 0;
    n = (pos - keys->pos) / keys->step;
    return n < keys->count ? n + 1 : keys->count;
}

/* The most keys that any query sees. */
static uint32_t look(const struct work *w, const struct hth_attn_keys *keys)
{
    const struct hth_attn_queries *q = &w->job->queries;
    uint32_t most = 0, i = 0;

    for (uint32_t r = 0; r < q->rows; r++) {
        uint32_t n = keys_seen(keys, q->pos[r]);

        for (uint32_t h = 0; h < q->heads; h++)
            w->seen[i++] = n;
        most = n > most ? n : most;
    }
    return most;
}

static void fold_panel(const struct work *w, const struct hth_attn_block *b,
                       const struct hth_attn_keys *next, uint32_t panel)
{
    uint32_t first = panel * w->per_panel, dim = w->job->head_dim;
    uint32_t last = first + w->per_panel;
    struct hth_attn_panel p = {
        .block = *b,
        .next_k = next != NULL ? next->k : b->k,
        .next_v = next != NULL ? next->v : b->v,
        .q = w->q + (size_t)panel * dim * PANEL,
        .seen = w->seen + first,
        .queries = (last < w->queries ? last : w->queries) - first,
        .state = hth_attn_state_at(&w->job->state, first, dim)};

    for (uint32_t i = 0; i < p.queries; i++)
        p.keys = p.seen[i] > p.keys ? p.seen[i] : p.keys;
    if (p.keys > 0)
        w->isa->attn_panel(&p);
}

/* Ask for one panel's share of a block that will be widened: blocks lie
 * anywhere, so hardware does not guess where the next one is. */
static void fetch_share(const struct work *w, const struct hth_attn_keys *keys,
                        uint32_t panel)
{
    uint32_t groups = (keys->count + LANES - 1) / LANES;
    size_t k = hth_attn_k_bytes(w->job->type, w->job->head_dim) / KEYS * LANES;
    size_t v = hth_attn_v_bytes(w->job->type, w->job->head_dim) / KEYS * LANES;
    size_t lines = (k + v) * groups / HTH_MEM_ALIGN, of_k = k * groups;
    size_t i = lines * panel / w->panels * HTH_MEM_ALIGN;
    size_t end = lines * (panel + 1) / w->panels * HTH_MEM_ALIGN;

    for (; i < end && i < of_k; i += HTH_MEM_ALIGN)
        __builtin_prefetch((const uint8_t *)keys->k + i, 0, 2);
    for (; i < end; i += HTH_MEM_ALIGN)
        __builtin_prefetch((const uint8_t *)keys->v + (i - of_k), 0, 2);
}

/* next: the block after this one, or NULL. */
static void fold_block(const struct work *w, const struct hth_attn_keys *keys,
                       const struct hth_attn_keys *next)
{
    struct hth_attn_block b = {.type = w->job->type,
                               .head_dim = w->job->head_dim,
                               .k = (void *)(uintptr_t)keys->k,
                               .v = (void *)(uintptr_t)keys->v};
    bool widen = b.type != HTH_F32 && w->panels >= WIDEN_PANELS_MIN;
    uint32_t most = look(w, keys);

    if (most == 0)
        return;
    if (widen) {
        struct hth_attn_block wide = {
            .type = HTH_F32, .head_dim = b.head_dim, .k = w->k, .v = w->v};

        w->isa->attn_widen(&b, (most + LANES - 1) / LANES * LANES, &wide);
        b = wide;
    }
    for (uint32_t panel = 0; panel < w->panels; panel++) {
        if (next != NULL && widen)
            fetch_share(w, next, panel);
        fold_panel(w, &b, widen || panel > 0 ? NULL : next, panel);
    }
}

void hth_attn_fold(const struct hth_attn_job *job)
{
    struct work w;

    HTH_ASSERT(hth_attn_type_ok(job->type, job->head_dim));
    if (job->queries.rows == 0 || job->blocks == 0)
        return;
    lay_out(&w, job);
    pack_queries(&w);
    for (uint32_t i = 0; i < job->blocks; i++) {
        HTH_ASSERT(job->keys[i].count <= KEYS);
        fold_block(&w, &job->keys[i],
                   i + 1 < job->blocks ? &job->keys[i + 1] : NULL);
    }
}
