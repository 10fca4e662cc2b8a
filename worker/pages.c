/* pages.c - mmap, mremap. A mapping that fails leaves nothing behind. */
#include "worker/pages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static void count_up(struct hth_pages *p, uint64_t bytes)
{
    uint64_t now = atomic_fetch_add(&p->bytes, bytes) + bytes;
    uint64_t peak = atomic_load(&p->peak_bytes);

    while (now > peak &&
           !atomic_compare_exchange_weak(&p->peak_bytes, &peak, now))
        ;
}

/* Memory that begins where a large page may. Addresses that are too many go
 * back. */
static uint8_t *map(uint64_t bytes, bool large)
{
    uint64_t more = large ? HTH_PAGE_LARGE_BYTES : 0, before;
    uint8_t *at = mmap(NULL, bytes + more, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (at == MAP_FAILED)
        return NULL;
    if (!large)
        return at;
    before = -(uintptr_t)at % HTH_PAGE_LARGE_BYTES;
    if (before > 0)
        (void)munmap(at, before);
    if (before < more)
        (void)munmap(at + before + bytes, more - before);
#ifdef MADV_HUGEPAGE
    (void)madvise(at + before, bytes, MADV_HUGEPAGE);
#endif
    return at + before;
}

void *hth_pages_alloc(struct hth_pages *p, uint64_t bytes)
{
    uint8_t *data = map(bytes, bytes >= HTH_PAGE_LARGE_BYTES);

    if (data != NULL)
        count_up(p, bytes);
    return data;
}

void hth_pages_reserve(struct hth_pages *p, uint64_t bytes)
{
    p->stretch = map(bytes, bytes >= HTH_PAGE_LARGE_BYTES);
    p->stretch_bytes = p->stretch != NULL ? bytes : 0;
}

void hth_pages_close(struct hth_pages *p)
{
    if (p->stretch != NULL)
        (void)munmap(p->stretch, p->stretch_bytes);
    p->stretch = NULL;
    p->stretch_bytes = 0;
}

void *hth_pages_alloc_at(struct hth_pages *p, uint64_t at, uint64_t bytes)
{
    if (p->stretch == NULL)
        return hth_pages_alloc(p, bytes);
    HTH_ASSERT(at + bytes <= p->stretch_bytes);
    count_up(p, bytes);
    return p->stretch + at;
}

static bool in_stretch(const struct hth_pages *p, const uint8_t *data)
{
    return p->stretch != NULL && data >= p->stretch &&
           data < p->stretch + p->stretch_bytes;
}

void hth_pages_free(struct hth_pages *p, void *data, uint64_t bytes)
{
    if (data == NULL)
        return;
    if (in_stretch(p, data))
        (void)madvise(data, bytes, MADV_DONTNEED);
    else
        (void)munmap(data, bytes);
    atomic_fetch_sub(&p->bytes, bytes);
}

/* ---- rings --------------------------------------------------------------- */

int hth_ring_open(struct hth_ring *r, struct hth_pages *p, uint64_t bytes,
                  struct hth_err *err)
{
    bool large = bytes % HTH_PAGE_LARGE_BYTES == 0;

    bytes = hth_page_up(bytes);
    *r = (struct hth_ring){
        .bytes = bytes, .unit = large ? HTH_PAGE_LARGE_BYTES : HTH_PAGE_BYTES};
    r->up = calloc(bytes / r->unit, sizeof *r->up);
    if (r->up != NULL)
        r->data = map(2 * bytes, large);
    if (r->data == NULL) {
        free(r->up);
        *r = (struct hth_ring){0};
        return hth_fail(err, HTH_ENOMEM,
                        "no memory for a window of %llu MiB: %s",
                        (unsigned long long)(bytes >> 20), strerror(errno));
    }
    count_up(p, bytes);
    return HTH_OK;
}

void hth_ring_close(struct hth_ring *r, struct hth_pages *p)
{
    if (r->data == NULL)
        return;
    (void)munmap(r->data, 2 * r->bytes);
    free(r->up);
    atomic_fetch_sub(&p->bytes, r->bytes);
    *r = (struct hth_ring){0};
}

uint8_t *hth_ring_at(const struct hth_ring *r, uint64_t at)
{
    return r->data + at % r->bytes;
}

uint64_t hth_ring_room(const struct hth_ring *r, uint64_t end)
{
    return (end + r->unit - 1) / r->unit * r->unit;
}

/* A piece that wraps ends in memory that moved up; what comes next begins
 * down at the ring's beginning, so not in the same unit. */
uint64_t hth_ring_place(struct hth_ring *r, uint64_t at, uint64_t n)
{
    if (at == r->wrapped_end)
        at = hth_ring_room(r, at);
    if (at % r->bytes + n > r->bytes)
        r->wrapped_end = at + n;
    return at;
}

/* Move `count` units to their other addresses. Where the system cannot, they
 * are given back and taken anew when they are written to: nobody needs what is
 * in them. */
static void move(struct hth_ring *r, uint64_t first, uint64_t count)
{
    uint64_t n = count * r->unit;
    uint8_t *low = r->data + first * r->unit, *high = low + r->bytes;
    uint8_t *from = r->up[first] ? high : low, *to = r->up[first] ? low : high;

#ifdef MREMAP_DONTUNMAP
    if (mremap(from, n, n, MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
               to) == MAP_FAILED)
#endif
        (void)madvise(from, n, MADV_DONTNEED);
    for (uint64_t i = first; i < first + count; i++)
        r->up[i] = to == high;
}

void hth_ring_take(struct hth_ring *r, uint64_t at, uint64_t from, uint64_t end)
{
    uint64_t units = r->bytes / r->unit, base = at % r->bytes;
    uint64_t last = (base + end + r->unit - 1) / r->unit;

    for (uint64_t i = (base + from) / r->unit, count; i < last; i += count) {
        bool up = i >= units;
        uint64_t first = i % units, most = last - i;

        if (!up && most > units - i)
            most = units - i;
        for (count = 1; count < most && r->up[first + count] == r->up[first];
             count++)
            ;
        if (r->up[first] != up)
            move(r, first, count);
    }
}
