/* kernels_decode_avx512.c - products of quantised weights with few rows of x,
 * where the time is that of reading the weights once.
 *
 * 16 rows of weights are read one after the other, a span of columns at a
 * time, so memory sees long sequential reads. Per row and chunk of 512
 * columns the integer products of 16 blocks end up in 16 lanes, are scaled
 * there, and wait on the stack until all 16 rows are done; a transpose then
 * puts rows in lanes and the blocks are added in order. Each output is thus
 * the plain sum over blocks, in order, whatever the rows around it: the same
 * order as in kernels_prefill_avx512.c, hence the same bits.
 *
 * No failure, no state; scratch is some 60 KB of stack. */
#include "kernels/x86.h"
#include "kernels/unpack_avx512.h"

#define LANES 16u /* weight rows in a group; blocks in a chunk */
/* Chunks of a span times rows of x: for one row of x, 16384 columns, so that
 * most rows of weights are read from end to end. */
#define ROOM_CHUNKS 32u
#define AHEAD_BYTES 16384u

/* 512 columns of one row of x, for one type of weights. q[t]: dword t of each
 * block. off: what the unsigned weights add too much, negated. g: d times the
 * sum of q, which minima are multiplied with. Index 1: second halves. */
struct xchunk {
    __m512i q[8];
    __m512 d;
    __m512i off[2];
    __m512 g[2];
};

/* One span of columns of a group of rows. */
struct span {
    const uint8_t *w;   /* the span's first byte of the group's first row */
    size_t row_bytes;   /* between rows of w */
    size_t ahead_bytes; /* how far before its use to fetch a byte */
    uint32_t rows;      /* 1 to LANES */
    uint32_t block;     /* the first, of 32 columns */
    uint32_t blocks;    /* how many */
    uint32_t row;       /* the first, of x */
    uint32_t n;         /* how many: 1 to HTH_DECODE_ROWS */
    uint32_t chunks;    /* between the rows of x in the room */
};

struct room {
    struct xchunk x[ROOM_CHUNKS];
    __m512 p[ROOM_CHUNKS][LANES]; /* [chunk][row of weights], blocks in lanes */
};

/* Blocks [at, at + blocks) of x, counted through its rows. */
static void load_xchunk(const struct hth_q8 *x, size_t at, uint32_t blocks,
                        struct hth_wtraits traits, struct xchunk *out)
{
    const int8_t *q = x->q + at * HTH_Q8_BLOCK;
    __m512i sums, first, second;

    for (uint32_t i = 0; i < 8; i++) {
        const int8_t *a = q + HTH_Q8_BLOCK * (i < blocks ? i : 0);
        const int8_t *b = q + HTH_Q8_BLOCK * (i + 8 < blocks ? i + 8 : 0);

        out->q[i] = hth_two_halves((const uint8_t *)a, (const uint8_t *)b);
    }
    hth_transpose8(out->q);
    out->d = _mm512_maskz_loadu_ps(hth_first16(blocks), x->d + at);
    sums = hth_load_part(x->sums + 2 * at, 4 * (size_t)blocks);
    first = _mm512_srai_epi32(_mm512_slli_epi32(sums, 16), 16);
    second = _mm512_srai_epi32(sums, 16);
    if (!traits.halves) /* [0] is for the whole block */
        first = _mm512_add_epi32(first, second);
    out->g[0] = _mm512_mul_ps(out->d, _mm512_cvtepi32_ps(first));
    out->g[1] = _mm512_mul_ps(out->d, _mm512_cvtepi32_ps(second));
    out->off[0] = _mm512_mullo_epi32(first, _mm512_set1_epi32(-traits.offset));
    out->off[1] = _mm512_mullo_epi32(second, _mm512_set1_epi32(-traits.offset));
}

static void load_x(const struct hth_q8 *x, const struct span *s,
                   struct hth_wtraits traits, struct room *room)
{
    for (uint32_t r = 0; r < s->n; r++)
        for (uint32_t b = 0; b < s->blocks; b += LANES)
            load_xchunk(x,
                        (size_t)(s->row + r) * (x->cols / HTH_Q8_BLOCK) +
                            s->block + b,
                        s->blocks - b < LANES ? s->blocks - b : LANES, traits,
                        &room->x[r * s->chunks + b / LANES]);
}

/* The 16 scaled block products of a chunk of weights and one of x. */
HTH_INLINE __m512 chunk_product(const struct hth_wchunk *w,
                                const struct xchunk *x,
                                struct hth_wtraits traits)
{
    __m512i a = x->off[0], b = x->off[1];
    __m512 p;

    for (int t = 0; t < 4; t++)
        a = _mm512_dpbusd_epi32(a, w->u[t], x->q[t]);
    if (!traits.halves)
        b = _mm512_setzero_si512();
    for (int t = 4; t < 8; t++)
        b = _mm512_dpbusd_epi32(b, w->u[t], x->q[t]);
    if (!traits.halves)
        a = _mm512_add_epi32(a, b);
    p = _mm512_mul_ps(_mm512_cvtepi32_ps(a), _mm512_mul_ps(w->d[0], x->d));
    if (traits.mins)
        p = _mm512_fmadd_ps(w->m[0], x->g[0], p);
    if (!traits.halves)
        return p;
    p = _mm512_fmadd_ps(_mm512_cvtepi32_ps(b), _mm512_mul_ps(w->d[1], x->d), p);
    if (traits.mins)
        p = _mm512_fmadd_ps(w->m[1], x->g[1], p);
    return p;
}

HTH_INLINE void fetch(const uint8_t *p, uint32_t bytes)
{
    for (uint32_t b = 0; b < bytes; b += 64)
        _mm_prefetch((const char *)p + b, _MM_HINT_T0);
}

/* All chunks of one row of weights, into room->p[..][row]. */
HTH_INLINE void span_row(uint32_t type, const struct span *s, uint32_t row,
                         uint32_t n, struct room *room)
{
    struct hth_wtraits traits = hth_wtraits(type);
    const uint8_t *w = s->w + row * s->row_bytes;
    uint32_t full = s->blocks / LANES, rest = s->blocks % LANES;
    struct hth_wchunk k;

    for (uint32_t c = 0; c < full; c++) {
        fetch(w + s->ahead_bytes, traits.chunk_bytes);
        hth_unpack_chunk(type, w, LANES, &k);
        for (uint32_t r = 0; r < n; r++)
            room->p[r * s->chunks + c][row] =
                chunk_product(&k, &room->x[r * s->chunks + c], traits);
        w += traits.chunk_bytes;
    }
    if (rest == 0)
        return;
    fetch(w + s->ahead_bytes, traits.chunk_bytes);
    hth_unpack_chunk(type, w, rest, &k);
    for (uint32_t r = 0; r < n; r++)
        room->p[r * s->chunks + full][row] =
            chunk_product(&k, &room->x[r * s->chunks + full], traits);
}

HTH_INLINE void span_rows(uint32_t type, const struct span *s,
                          struct room *room)
{
    for (uint32_t row = 0; row < s->rows; row++) {
        if (s->n == 1)
            span_row(type, s, row, 1, room);
        else
            span_row(type, s, row, s->n, room);
    }
}

#define ROWS_OF(name)                                                \
    static void rows_##name(const struct span *s, struct room *room) \
    {                                                                \
        span_rows(HTH_##name, s, room);                              \
    }
HTH_QUANT_TYPES(ROWS_OF)

typedef void (*rows_fn)(const struct span *s, struct room *room);

static rows_fn rows_of(uint32_t type)
{
    switch (type) {
#define CASE(name)   \
    case HTH_##name: \
        return rows_##name;
        HTH_QUANT_TYPES(CASE)
#undef CASE
    default:
        return NULL;
    }
}

/* Blocks in lanes to rows in lanes, and the sum over blocks in order. The
 * partial sums of earlier spans are in y. */
static void add_blocks(__m512 (*p)[LANES], const struct span *s, bool fresh,
                       float *y)
{
    __mmask16 rows = hth_first16(s->rows);
    __m512 sum = fresh ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(rows, y);

    for (uint32_t b = 0; b < s->blocks; b += LANES) {
        uint32_t count = s->blocks - b < LANES ? s->blocks - b : LANES;
        __m512i v[16];

        for (uint32_t i = 0; i < LANES; i++)
            v[i] = _mm512_castps_si512(p[b / LANES][i]);
        hth_transpose16(v);
        if (count == LANES) {
            for (uint32_t i = 0; i < LANES; i++)
                sum = _mm512_add_ps(sum, _mm512_castsi512_ps(v[i]));
            continue;
        }
        for (uint32_t i = 0; i < LANES; i++)
            sum = _mm512_mask_add_ps(sum, i < count ? 0xffff : 0, sum,
                                     _mm512_castsi512_ps(v[i]));
    }
    _mm512_mask_storeu_ps(y, rows, sum);
}

/* How far ahead to fetch: AHEAD_BYTES of reading, which is whole rows where a
 * span is less than a row. */
static size_t ahead_bytes(size_t row_bytes, size_t span_bytes)
{
    if (span_bytes + 64 >= row_bytes)
        return AHEAD_BYTES;
    return row_bytes * (AHEAD_BYTES / (span_bytes + 1) + 1);
}

/* A span times all weight rows of the job. */
static void run_span(const struct hth_q8_product *job, struct span *s,
                     struct room *room)
{
    const struct hth_mat *w = job->w;
    struct hth_wtraits traits = hth_wtraits(w->type);
    size_t at = (size_t)s->block / LANES * traits.chunk_bytes;
    size_t bytes = (size_t)traits.chunk_bytes * s->blocks / LANES;
    rows_fn rows = rows_of(w->type);

    load_x(job->x, s, traits, room);
    s->row_bytes = w->row_bytes;
    s->ahead_bytes = ahead_bytes(w->row_bytes, bytes);
    for (uint32_t o = 0; o < job->count; o += LANES) {
        size_t first = (size_t)job->first + o;

        s->w = (const uint8_t *)w->data + first * w->row_bytes + at;
        s->rows = job->count - o < LANES ? job->count - o : LANES;
        rows(s, room);
        for (uint32_t r = 0; r < s->n; r++)
            add_blocks(room->p + r * s->chunks, s, s->block == 0,
                       job->y + (s->row + r) * job->ldy + first);
    }
}

void hth__decode_avx512(const struct hth_q8_product *job)
{
    uint32_t blocks = job->w->cols / HTH_Q8_BLOCK, n = job->x->n;
    struct room room;
    struct span s;

    for (s.row = 0; s.row < n; s.row += s.n) {
        s.n = n - s.row < HTH_DECODE_ROWS ? n - s.row : HTH_DECODE_ROWS;
        s.chunks = ROOM_CHUNKS / s.n;
        s.block = 0;
        do { /* once also without columns: y becomes 0 */
            uint32_t left = blocks - s.block, most = s.chunks * LANES;

            s.blocks = left < most ? left : most;
            run_span(job, &s, &room);
            s.block += s.blocks;
        } while (s.block < blocks);
    }
}
