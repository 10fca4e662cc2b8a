/* mem.h - aligned memory and the guard against allocation in the token loop.
 *
 * hth_mem_alloc() returns zeroed, 64-byte aligned memory; from 2 MiB up it is
 * mapped on its own and huge pages are asked for. Thread-safe.
 *
 * The guard: between hth_guard_enter() and hth_guard_leave() of a thread,
 * hth_mem_alloc() on that thread aborts and names the phase. It does not see
 * malloc(); that none is called in an all-reduce is link_alloc_test's. */
#ifndef HTH_BASE_MEM_H
#define HTH_BASE_MEM_H

#include <stddef.h>

#include "base/status.h"

#define HTH_MEM_ALIGN 64u

void *hth_mem_alloc(size_t bytes); /* NULL when out of memory */
void hth_mem_free(void *p);        /* NULL is fine */

void hth_guard_enter(const char *phase); /* static string; not nested */
void hth_guard_leave(void);

#endif
