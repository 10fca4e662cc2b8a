/* mem.h - aligned memory and the guard against allocation in the token loop.
 *
 * hth_mem_alloc() returns zeroed, 64-byte aligned memory; from 2 MiB up it is
 * mapped on its own and huge pages are asked for. Counted: hth_mem_bytes()
 * is what is live now. Thread-safe.
 *
 * The guard: between hth_guard_enter() and hth_guard_leave() of a thread,
 * hth_mem_alloc() on that thread aborts and names the phase; in a build with
 * HTH_GUARD_MALLOC (make asan, make test) malloc itself is wrapped too. */
#ifndef HTH_BASE_MEM_H
#define HTH_BASE_MEM_H

#include <stddef.h>

#include "base/status.h"

#define HTH_MEM_ALIGN 64u

void *hth_mem_alloc(size_t bytes); /* NULL when out of memory */
void hth_mem_free(void *p);        /* NULL is fine */
size_t hth_mem_bytes(void);

void hth_guard_enter(const char *phase); /* static string; not nested */
void hth_guard_leave(void);
/* NULL outside of a guarded phase; for allocators that want to check. */
const char *hth_guard_phase(void);

#endif
