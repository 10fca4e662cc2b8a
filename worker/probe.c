/* probe.c - sysfs, procfs and a short memory read. Reads only well-known
 * files; anything missing or odd is "unknown". */
#include "worker/probe.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "kernels/ops.h"
#include "worker/pressure.h"
#include "worker/profile.h"

#define READ_BYTES (64u << 20) /* beyond any last-level cache of a home */

uint32_t hth_probe_cores(void)
{
    cpu_set_t set;
    int n;

    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return 1;
    n = CPU_COUNT(&set);
    if (n > (int)HTH_THREADS_MAX)
        return HTH_THREADS_MAX;
    return n > 0 ? (uint32_t)n : 1;
}

uint64_t hth_probe_memory(void)
{
    return hth_memory_available("");
}

/* What is kept is better than what a moment shows. */
static double read_rate(uint32_t threads, const char *profile_path)
{
    struct hth_profile *p = malloc(sizeof *p);
    double rate = 0;

    if (p != NULL && profile_path != NULL &&
        hth_profile_load(p, profile_path, NULL) == HTH_OK)
        rate = hth_profile_read_rate(p, threads);
    free(p);
    return rate > 0 ? rate : hth_profile_measure_read(threads, READ_BYTES, 0);
}

void hth_probe_machine(struct hth_probe *out, uint32_t threads,
                       const char *profile_path)
{
    struct utsname u;

    memset(out, 0, sizeof *out);
    out->cores = hth_probe_cores();
    snprintf(out->arch, sizeof out->arch, "%.60s",
             uname(&u) == 0 ? u.machine : "unknown");
    snprintf(out->isa, sizeof out->isa, "%s", hth_isa_name());
    out->memory_bytes = hth_memory_default("");
    out->read_bytes_per_s =
        read_rate(threads > 0 ? threads : out->cores, profile_path);
}
