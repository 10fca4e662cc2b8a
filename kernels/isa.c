/* isa.c - which instruction set computes. Owns the list of sets compiled in
 * and the choice among them; fails when HEARTH_ISA asks for a set that is not
 * there. */
#include "kernels/isa.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef HTH_NO_BLAS
void openblas_set_num_threads(int threads);
#endif

/* Best first; the reference is complete and always last. */
static const struct hth_isa *const g_compiled[] = {
#if defined(__x86_64__)
    &hth_isa_amx, &hth_isa_avx512, &hth_isa_avxvnni, &hth_isa_avx2,
#elif defined(__aarch64__)
    &hth_isa_i8mm,
    &hth_isa_neon,
    &hth_isa_asimd,
#endif
    &hth_isa_ref,
};

#define SETS (sizeof g_compiled / sizeof g_compiled[0])

static pthread_once_t g_once = PTHREAD_ONCE_INIT;
static struct hth_isa g_sets[SETS]; /* complete after fill_all() */
static _Atomic(const struct hth_isa *) g_now = &hth_isa_ref;

/* Give *set every entry that it lacks and `from` has. */
static void fill_from(struct hth_isa *set, const struct hth_isa *from)
{
#define FILL(entry)         \
    if (set->entry == NULL) \
    set->entry = from->entry
    FILL(q8_row);
    FILL(gemm_q8);
    if (set->gemm_float == NULL)
        set->blas_rows_min = from->blas_rows_min;
    FILL(gemm_float);
    FILL(gemm_packed);
    if (set->gemm_packed_float == NULL)
        set->tile_float = from->tile_float; /* they belong together */
    FILL(gemm_packed_float);
    FILL(tile_float);
    FILL(rmsnorm);
    FILL(rope);
    FILL(swiglu);
    FILL(add);
    FILL(axpy);
    FILL(softmax);
    FILL(f32_to_f16);
    FILL(f16_to_f32);
    FILL(attn_panel);
    FILL(attn_widen);
#undef FILL
}

static void fill_all(void)
{
    for (size_t i = SETS; i-- > 0;) {
        g_sets[i] = *g_compiled[i];
        for (size_t next = i + 1; next < SETS; next++)
            if (g_compiled[next]->usable())
                fill_from(&g_sets[i], &g_sets[next]);
    }
}

const struct hth_isa *hth_isa_at(uint32_t i)
{
    pthread_once(&g_once, fill_all);
    return i < SETS ? &g_sets[i] : NULL;
}

const struct hth_isa *hth_isa_now(void)
{
    return atomic_load_explicit(&g_now, memory_order_acquire);
}

const char *hth_isa_name(void)
{
    return hth_isa_now()->name;
}

/* "avx512, avx2, scalar", for messages */
static void list_sets(char *out, size_t size)
{
    size_t used = 0;

    out[0] = '\0';
    for (size_t i = 0; i < SETS && used < size; i++)
        used += (size_t)snprintf(out + used, size - used, "%s%s",
                                 i > 0 ? ", " : "", g_compiled[i]->name);
}

static int choose(const char *wanted, const struct hth_isa **out,
                  struct hth_err *err)
{
    char names[64];

    for (uint32_t i = 0; i < SETS; i++) {
        const struct hth_isa *set = hth_isa_at(i);

        if (wanted == NULL ? !set->usable() : strcmp(wanted, set->name) != 0)
            continue;
        if (!set->usable())
            return hth_fail(err, HTH_EUNSUPPORTED,
                            "HEARTH_ISA=%s: this CPU does not have it; unset "
                            "HEARTH_ISA",
                            wanted);
        *out = set;
        return HTH_OK;
    }
    list_sets(names, sizeof names);
    return hth_fail(err, HTH_EUNSUPPORTED,
                    "HEARTH_ISA=%.32s: no such instruction set; this program "
                    "has %s",
                    wanted != NULL ? wanted : "", names);
}

int hth_isa_init(struct hth_err *err)
{
    const char *wanted = getenv("HEARTH_ISA");
    const struct hth_isa *set;
    int rc;

    if (wanted != NULL && wanted[0] == '\0')
        wanted = NULL;
    rc = choose(wanted, &set, err);
    if (rc != HTH_OK)
        return rc;
#ifndef HTH_NO_BLAS
    openblas_set_num_threads(1); /* the pool's threads call it themselves */
#endif
    atomic_store_explicit(&g_now, set, memory_order_release);
    return HTH_OK;
}
