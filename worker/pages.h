/* pages.h - memory for weights that come and go: page-aligned, as direct reads
 * want it, given back to the system the moment it is freed, and counted.
 *
 * A ring is memory that continues at its start behind its end (mapped twice in
 * a row), so that a piece that wraps is contiguous all the same.
 *
 * Threads: the count is atomic; each mapping belongs to its owner. */
#ifndef HTH_WORKER_PAGES_H
#define HTH_WORKER_PAGES_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

/* Whole pages of every system we run on, and what direct reads align to. */
#define HTH_PAGE_BYTES 4096u

static inline uint64_t hth_page_up(uint64_t bytes)
{
    return (bytes + HTH_PAGE_BYTES - 1) & ~(uint64_t)(HTH_PAGE_BYTES - 1);
}

struct hth_pages {
    atomic_uint_least64_t bytes; /* held now */
    atomic_uint_least64_t peak_bytes;
};

/* NULL when the system gives no memory. Contents are zero. Large pages are
 * asked for. */
void *hth_pages_alloc(struct hth_pages *p, uint64_t bytes);
void hth_pages_free(struct hth_pages *p, void *data, uint64_t bytes);

struct hth_ring {
    uint8_t *data;  /* [2 * bytes] of addresses, `bytes` of memory */
    uint64_t bytes; /* whole pages */
};

/* HTH_ENOMEM with a sentence. */
HTH_MUST_CHECK int hth_ring_open(struct hth_ring *r, struct hth_pages *p,
                                 uint64_t bytes, struct hth_err *err);
void hth_ring_close(struct hth_ring *r, struct hth_pages *p);

/* Where the n bytes at place `at` of an endless stream through the ring lie. */
uint8_t *hth_ring_at(const struct hth_ring *r, uint64_t at);
/* Tell which of the two mappings is in use for [at, at + n), before it is
 * filled and after it was read: pages that are mapped twice count twice in the
 * process's resident set. */
void hth_ring_enter(const struct hth_ring *r, uint64_t at, uint64_t n);
void hth_ring_leave(const struct hth_ring *r, uint64_t at, uint64_t n);

#endif
