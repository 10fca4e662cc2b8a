/* mem.c - aligned memory. Large pieces are mmap'd with huge pages
 * advised, because weights are read end to end and TLB misses cost. */
#include "base/mem.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define HUGE_BYTES ((size_t)2 << 20)
#define HEADER_BYTES 64u

/* Sits in the cache line before what the caller sees. */
struct header {
    void *base;    /* what to give back */
    size_t mapped; /* bytes of the mapping; 0: from aligned_alloc */
};

_Static_assert(sizeof(struct header) <= HEADER_BYTES, "header fits its line");

static _Thread_local const char *t_phase;

static struct header *header_of(void *p)
{
    return (struct header *)(void *)((uint8_t *)p - HEADER_BYTES);
}

static void *finish(void *base, uint8_t *user, size_t mapped)
{
    *header_of(user) = (struct header){.base = base, .mapped = mapped};
    return user;
}

/* The user pointer lands one header past a 2 MiB boundary, so that nearly all
 * of the mapping can be huge pages. */
static void *alloc_mapped(size_t bytes)
{
    size_t mapped = bytes + HEADER_BYTES + HUGE_BYTES;
    uint8_t *base = mmap(NULL, mapped, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uintptr_t at;

    if (base == MAP_FAILED)
        return NULL;
    at = ((uintptr_t)base + HUGE_BYTES - 1) & ~(uintptr_t)(HUGE_BYTES - 1);
#ifdef MADV_HUGEPAGE
    (void)madvise((void *)at, bytes + HEADER_BYTES, MADV_HUGEPAGE);
#endif
    return finish(base, (uint8_t *)at + HEADER_BYTES, mapped);
}

void *hth_mem_alloc(size_t bytes)
{
    size_t total;
    uint8_t *base;

    if (t_phase != NULL) {
        fprintf(stderr, "hearth: bug: allocation inside %s\n", t_phase);
        abort();
    }
    if (bytes > SIZE_MAX / 2)
        return NULL;
    if (bytes >= HUGE_BYTES)
        return alloc_mapped(bytes);
    total = (bytes + HEADER_BYTES + HTH_MEM_ALIGN - 1) &
            ~(size_t)(HTH_MEM_ALIGN - 1);
    base = aligned_alloc(HTH_MEM_ALIGN, total);
    if (base == NULL)
        return NULL;
    memset(base, 0, total);
    return finish(base, base + HEADER_BYTES, 0);
}

void hth_mem_free(void *p)
{
    struct header h;

    if (p == NULL)
        return;
    h = *header_of(p);
    if (h.mapped != 0)
        munmap(h.base, h.mapped);
    else
        free(h.base);
}

void hth_guard_enter(const char *phase)
{
    HTH_ASSERT(t_phase == NULL);
    t_phase = phase;
}

void hth_guard_leave(void)
{
    t_phase = NULL;
}
