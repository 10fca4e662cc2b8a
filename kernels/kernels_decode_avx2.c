/* kernels_decode_avx2.c - products of quantised weights with few rows of x,
 * where the time should be that of reading the weights once.
 *
 * 8 rows of weights are read one after the other, a span of columns at a
 * time. Per row and chunk of 256 columns the integer products of 8 blocks end
 * up in 8 lanes, are scaled there, and wait on the stack until all 8 rows are
 * done; a transpose then puts rows in lanes and the blocks are added in order
 * (see x86.h: the order every x86 product has).
 *
 * No failure, no state; scratch is some 30 KB of stack. */
#include "kernels/unpack_avx2.h"

#define LANES 8u /* weight rows in a group; blocks in a chunk */
/* Chunks of a span times rows of x: for one row of x, 16384 columns, so that
 * most rows of weights are read from end to end. */
#define ROOM_CHUNKS 64u
#define AHEAD_BYTES 16384u

/* 256 columns of one row of x, for one type of weights; q is borrowed. off:
 * what unsigned weights add too much, negated. g: d times the sum of q, which
 * minima are multiplied with. Index 1: second halves of blocks. */
struct xchunk {
    const int8_t *q;
    __m256 d;
    __m256i off[2];
    __m256 g[2];
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
    __m256 p[ROOM_CHUNKS][LANES]; /* [chunk][row of weights], blocks in lanes */
};

static void load_xchunk(const struct hth_q8 *x, size_t at, uint32_t blocks,
                        struct hth_wtraits traits, struct xchunk *out)
{
    int32_t sums[LANES] = {0};
    __m256i all, first, second;

    memcpy(sums, x->sums + 2 * at, blocks * sizeof *sums);
    all = _mm256_loadu_si256((const __m256i *)(const void *)sums);
    first = _mm256_srai_epi32(_mm256_slli_epi32(all, 16), 16);
    second = _mm256_srai_epi32(all, 16);
    if (!traits.halves)
        first = _mm256_add_epi32(first, second);
    out->q = x->q + at * HTH_Q8_BLOCK;
    out->d = hth_load8(x->d + at, blocks);
    out->g[0] = _mm256_mul_ps(out->d, _mm256_cvtepi32_ps(first));
    out->g[1] = _mm256_mul_ps(out->d, _mm256_cvtepi32_ps(second));
    out->off[0] = _mm256_mullo_epi32(first, _mm256_set1_epi32(-traits.offset));
    out->off[1] = _mm256_mullo_epi32(second, _mm256_set1_epi32(-traits.offset));
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

/* Sums of two products in 16 bits. Signed weights lend their sign to x, so
 * that vpmaddubsw, unsigned times signed, can be used: 128 x 127 x 2 fits. */
HTH_INLINE __m256i pair_sums(__m256i w, const int8_t *q, bool is_signed)
{
    __m256i x = hth_load32((const uint8_t *)q);

    if (is_signed)
        return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_maddubs_epi16(w, x);
}

/* Four blocks: their sums over each half, blocks in lanes of each half. With
 * unsigned weights of up to 6 bits, four products still fit in 16 bits. */
HTH_INLINE __m256i sum_four(const __m256i w[4], const int8_t *q[4],
                            bool is_signed)
{
    const __m256i ones = _mm256_set1_epi16(1);
    __m256i a = pair_sums(w[0], q[0], is_signed);
    __m256i b = pair_sums(w[1], q[1], is_signed);
    __m256i c = pair_sums(w[2], q[2], is_signed);
    __m256i d = pair_sums(w[3], q[3], is_signed);

    if (is_signed) {
        a = _mm256_hadd_epi32(_mm256_madd_epi16(a, ones),
                              _mm256_madd_epi16(b, ones));
        c = _mm256_hadd_epi32(_mm256_madd_epi16(c, ones),
                              _mm256_madd_epi16(d, ones));
    } else {
        a = _mm256_madd_epi16(_mm256_hadd_epi16(a, b), ones);
        c = _mm256_madd_epi16(_mm256_hadd_epi16(c, d), ones);
    }
    return _mm256_hadd_epi32(a, c);
}

/* The 8 scaled block products of a chunk of weights and one of x, of which
 * `blocks` exist. */
HTH_INLINE __m256 chunk_product(const struct hth_wchunk *w,
                                const struct xchunk *x, uint32_t blocks,
                                struct hth_wtraits traits)
{
    bool is_signed = traits.steps == 0;
    const int8_t *q[LANES];
    __m256i low, high, a, b;
    __m256 p;

    for (uint32_t i = 0; i < LANES; i++)
        q[i] = x->q + HTH_Q8_BLOCK * (i < blocks ? i : 0);
    low = sum_four(w->w, q, is_signed);
    high = sum_four(w->w + 4, q + 4, is_signed);
    a = _mm256_permute2x128_si256(low, high, 0x20);
    b = _mm256_permute2x128_si256(low, high, 0x31);
    if (!traits.halves)
        a = _mm256_add_epi32(a, b);
    if (traits.offset != 0)
        a = _mm256_add_epi32(a, x->off[0]);
    p = _mm256_mul_ps(_mm256_cvtepi32_ps(a), _mm256_mul_ps(w->d[0], x->d));
    if (traits.mins)
        p = _mm256_fmadd_ps(w->m[0], x->g[0], p);
    if (!traits.halves)
        return p;
    if (traits.offset != 0)
        b = _mm256_add_epi32(b, x->off[1]);
    p = _mm256_fmadd_ps(_mm256_cvtepi32_ps(b), _mm256_mul_ps(w->d[1], x->d), p);
    if (traits.mins)
        p = _mm256_fmadd_ps(w->m[1], x->g[1], p);
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
                chunk_product(&k, &room->x[r * s->chunks + c], LANES, traits);
        w += traits.chunk_bytes;
    }
    if (rest == 0)
        return;
    fetch(w + s->ahead_bytes, traits.chunk_bytes);
    hth_unpack_chunk(type, w, rest, &k);
    for (uint32_t r = 0; r < n; r++)
        room->p[r * s->chunks + full][row] =
            chunk_product(&k, &room->x[r * s->chunks + full], rest, traits);
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
static void add_blocks(__m256 (*p)[LANES], const struct span *s, bool fresh,
                       float *y)
{
    __m256 sum = fresh ? _mm256_setzero_ps() : hth_load8(y, s->rows);

    for (uint32_t b = 0; b < s->blocks; b += LANES) {
        uint32_t count = s->blocks - b < LANES ? s->blocks - b : LANES;
        __m256i v[LANES];

        for (uint32_t i = 0; i < LANES; i++)
            v[i] = _mm256_castps_si256(p[b / LANES][i]);
        hth_transpose8(v);
        for (uint32_t i = 0; i < LANES; i++)
            if (i < count)
                sum = _mm256_add_ps(sum, _mm256_castsi256_ps(v[i]));
    }
    hth_store8(y, s->rows, sum);
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

void hth__decode_avx2(const struct hth_q8_product *job)
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
