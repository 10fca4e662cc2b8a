/* pages.h - memory for weights that come and go: page-aligned, as direct reads
 * want it, given back to the system the moment it is freed, and counted.
 *
 * A ring is memory with twice its size of addresses, so that a piece that goes
 * on at the ring's beginning behind its end is contiguous all the same: the
 * memory it needs of the beginning moves up behind the end, and down again for
 * others. (Mapping the same memory at both places would do without moving. But
 * shared memory is seldom had in large pages, and counts twice in the
 * process's resident set.)
 *
 * Where all of a rank's weights stay, their places are reserved as one stretch
 * of addresses: a large page may then span the end of a piece and the beginning
 * of the next, and none is left to small pages.
 *
 * Threads: the count is atomic; each mapping belongs to its owner. */
#ifndef HTH_WORKER_PAGES_H
#define HTH_WORKER_PAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Whole pages of every system we run on, and what direct reads align to. */
#define HTH_PAGE_BYTES 4096u

/* Large pages: a direct read of 1 MiB is then one stretch of memory to the disk
 * and not 256, and matrices need few entries of the address cache. */
#define HTH_PAGE_LARGE_BYTES (2u << 20)

static inline uint64_t hth_page_up(uint64_t bytes)
{
    return (bytes + HTH_PAGE_BYTES - 1) & ~(uint64_t)(HTH_PAGE_BYTES - 1);
}

static inline uint64_t hth_page_large_up(uint64_t bytes)
{
    return (bytes + HTH_PAGE_LARGE_BYTES - 1) &
           ~(uint64_t)(HTH_PAGE_LARGE_BYTES - 1);
}

struct hth_pages {
    atomic_uint_least64_t bytes; /* held now */
    atomic_uint_least64_t peak_bytes;
    uint8_t *stretch; /* NULL: none is reserved */
    uint64_t stretch_bytes;
};

/* Reserve the addresses of things that will all be allocated, by
 * hth_pages_alloc_at(); without them (the system says no) each is mapped by
 * itself. Once, before the first. While a neighbour is not there, up to a large
 * page of its memory may be. */
void hth_pages_reserve(struct hth_pages *p, uint64_t bytes);
void hth_pages_close(struct hth_pages *p); /* after all is freed */

/* NULL when the system gives no memory. Contents are zero. Large pages are
 * asked for. */
void *hth_pages_alloc(struct hth_pages *p, uint64_t bytes);
/* The same at its place of the stretch: whole pages, that nobody else has. */
void *hth_pages_alloc_at(struct hth_pages *p, uint64_t at, uint64_t bytes);
/* Of either. */
void hth_pages_free(struct hth_pages *p, void *data, uint64_t bytes);

struct hth_ring {
    uint8_t *data;  /* [2 * bytes] of addresses, `bytes` of memory */
    uint64_t bytes; /* whole units */
    uint64_t unit;  /* memory moves in these: large pages, or small ones */
    bool *up;       /* [bytes / unit] is it in the upper half of addresses? */
    uint64_t wrapped_end; /* where the last piece that wraps ends */
};

/* HTH_ENOMEM with a sentence. With `bytes` a multiple of HTH_PAGE_LARGE_BYTES,
 * large pages are asked for. */
HTH_MUST_CHECK int hth_ring_open(struct hth_ring *r, struct hth_pages *p,
                                 uint64_t bytes, struct hth_err *err);
void hth_ring_close(struct hth_ring *r, struct hth_pages *p);

/* Where a piece of n bytes begins that comes behind one that ended at place
 * `at` of an endless stream through the ring: there, or up to a unit later. */
uint64_t hth_ring_place(struct hth_ring *r, uint64_t at, uint64_t n);
/* Where the memory ends that a piece up to place `end` takes: of all up to
 * there, nothing may be in use for places one ring before. */
uint64_t hth_ring_room(const struct hth_ring *r, uint64_t end);
/* Have memory for bytes [from, end) of the piece at place `at`, before they are
 * filled. What was in it is gone. */
void hth_ring_take(struct hth_ring *r, uint64_t at, uint64_t from,
                   uint64_t end);
/* The address of the piece at place `at`; its bytes follow each other. */
uint8_t *hth_ring_at(const struct hth_ring *r, uint64_t at);

#endif
