/* pages_test.c - rings: pieces of all sizes go through in order, several at a
 * time, each contiguous and whole until it leaves, in no more memory than the
 * ring has. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>

#include "base/rng.h"
#include "worker/pages.h"

#define LARGE HTH_PAGE_LARGE_BYTES
#define LIVE_MAX 16u
#define CHUNK_BYTES (64u << 10)

struct live {
    uint64_t at, bytes;
    uint8_t fill;
};

struct stream {
    struct hth_pages pages;
    struct hth_ring ring;
    struct live live[LIVE_MAX]; /* in order */
    uint32_t count;
    uint64_t head, tail;
    struct hth_rng rng;
};

static void leave_first(struct stream *s)
{
    const struct live *p = &s->live[0];
    const uint8_t *data = hth_ring_at(&s->ring, p->at);

    for (uint64_t i = 0; i < p->bytes; i += 512)
        cr_assert_eq(data[i], p->fill, "byte %llu of %llu at %llu",
                     (unsigned long long)i, (unsigned long long)p->bytes,
                     (unsigned long long)p->at);
    s->tail = p->at + p->bytes;
    memmove(&s->live[0], &s->live[1], --s->count * sizeof s->live[0]);
}

/* Chunk by chunk, as the loader reads; what is in the way leaves. */
static void come(struct stream *s, uint64_t bytes, uint8_t fill)
{
    uint64_t at = hth_ring_place(&s->ring, s->head, bytes);
    uint8_t *data = hth_ring_at(&s->ring, at);

    cr_assert(at >= s->head && at - s->head < s->ring.unit);
    for (uint64_t from = 0; from < bytes; from += CHUNK_BYTES) {
        uint64_t end = from + CHUNK_BYTES < bytes ? from + CHUNK_BYTES : bytes;

        while (hth_ring_room(&s->ring, at + end) - s->tail > s->ring.bytes) {
            cr_assert_gt(s->count, 0u, "no room in an empty ring");
            leave_first(s);
        }
        hth_ring_take(&s->ring, at, from, end);
        memset(data + from, fill, end - from);
    }
    if (s->count == LIVE_MAX)
        leave_first(s);
    s->live[s->count++] = (struct live){at, bytes, fill};
    s->head = at + bytes;
}

/* Pages of the ring's addresses that have memory. */
static uint64_t held_bytes(const struct hth_ring *r)
{
    static unsigned char in[2 * 64 * (LARGE / HTH_PAGE_BYTES)];
    uint64_t n = 2 * r->bytes / HTH_PAGE_BYTES, held = 0;

    cr_assert_leq(n, sizeof in);
    cr_assert_eq(mincore(r->data, 2 * r->bytes, in), 0);
    for (uint64_t i = 0; i < n; i++)
        held += in[i] & 1;
    return held * HTH_PAGE_BYTES;
}

static void run(uint64_t ring_bytes, uint64_t piece_max, uint64_t seed)
{
    struct stream s = {0};
    struct hth_err err = {0};

    hth_rng_init(&s.rng, seed);
    cr_assert_eq(hth_ring_open(&s.ring, &s.pages, ring_bytes, &err), 0, "%s",
                 err.text);
    cr_assert_eq(s.pages.bytes, ring_bytes);
    for (uint32_t i = 0; i < 300; i++) {
        uint64_t pages = 1 + hth_rng_u64(&s.rng) % (piece_max / HTH_PAGE_BYTES);

        come(&s, pages * HTH_PAGE_BYTES, (uint8_t)(i + 1));
        if (hth_rng_u64(&s.rng) % 8 == 0 && s.count > 0) {
            /* The last one goes unused. */
            s.head = s.live[--s.count].at;
        }
        cr_assert_leq(held_bytes(&s.ring), ring_bytes, "after %u pieces", i);
    }
    while (s.count > 0)
        leave_first(&s);
    hth_ring_close(&s.ring, &s.pages);
    cr_assert_eq(s.pages.bytes, 0u);
}

Test(ring, of_large_pages, .timeout = 120)
{
    for (uint64_t seed = 0; seed < 6; seed++)
        run((6 + seed) * LARGE, 4 * LARGE, seed);
}

Test(ring, of_pieces_smaller_than_a_page, .timeout = 120)
{
    run(4 * LARGE, LARGE / 2, 7);
}

/* Of an odd size: moved in small pages. */
Test(ring, of_small_pages, .timeout = 120)
{
    for (uint64_t seed = 0; seed < 3; seed++)
        run(3 * LARGE + (1 + seed) * HTH_PAGE_BYTES, LARGE, seed);
}

Test(pages, are_counted_and_given_back)
{
    struct hth_pages p = {0};
    uint8_t *a = hth_pages_alloc(&p, 3 * LARGE + HTH_PAGE_BYTES);
    uint8_t *b = hth_pages_alloc(&p, HTH_PAGE_BYTES);

    cr_assert_not_null(a);
    cr_assert_not_null(b);
    cr_assert_eq((uintptr_t)a % LARGE, 0u, "large pages can be had");
    cr_assert_eq(a[3 * LARGE], 0);
    a[3 * LARGE + HTH_PAGE_BYTES - 1] = b[HTH_PAGE_BYTES - 1] = 1;
    cr_assert_eq(p.bytes, 3 * LARGE + 2 * HTH_PAGE_BYTES);
    hth_pages_free(&p, a, 3 * LARGE + HTH_PAGE_BYTES);
    hth_pages_free(&p, b, HTH_PAGE_BYTES);
    hth_pages_free(&p, NULL, 5);
    cr_assert_eq(p.bytes, 0u);
    cr_assert_eq(p.peak_bytes, 3 * LARGE + 2 * HTH_PAGE_BYTES);
}

/* Places of one stretch are side by side, count when they are taken, and are
 * zeros again when they are taken anew. */
Test(pages, of_a_stretch)
{
    const uint64_t n = LARGE + HTH_PAGE_BYTES;
    struct hth_pages p = {0};
    uint8_t *a, *b;

    hth_pages_reserve(&p, 2 * n);
    cr_assert_eq(p.bytes, 0u);
    b = hth_pages_alloc_at(&p, n, n);
    a = hth_pages_alloc_at(&p, 0, n);
    cr_assert_eq(b, a + n);
    cr_assert_eq((uintptr_t)a % LARGE, 0u);
    cr_assert_eq(p.bytes, 2 * n);
    memset(a, 1, n);
    memset(b, 2, n);
    hth_pages_free(&p, a, n);
    cr_assert_eq(p.bytes, n);
    cr_assert_eq(b[0], 2, "a neighbour stays");
    a = hth_pages_alloc_at(&p, 0, n);
    for (uint64_t i = 0; i < n; i++)
        cr_assert_eq(a[i], 0);
    hth_pages_free(&p, a, n);
    hth_pages_free(&p, b, n);
    cr_assert_eq(p.bytes, 0u);
    hth_pages_close(&p);
}

Test(pages, without_a_stretch_are_mapped_alone)
{
    struct hth_pages p = {0};
    uint8_t *a = hth_pages_alloc_at(&p, 7 * LARGE, LARGE);

    cr_assert_not_null(a);
    a[LARGE - 1] = 1;
    cr_assert_eq(p.bytes, LARGE);
    hth_pages_free(&p, a, LARGE);
    cr_assert_eq(p.bytes, 0u);
    hth_pages_close(&p);
}
