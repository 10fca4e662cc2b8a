/* cpus.c - see cpus.h. Reads sysfs; what is missing there counts as a core of
 * its own. Nothing fails. */
#include "cli/cpus.h"

#include <stdio.h>
#include <stdlib.h>

struct place {
    uint32_t package, core, cpu;
};

static uint32_t topology(uint32_t cpu, const char *what, uint32_t fallback)
{
    char path[96], line[32] = "";
    unsigned v = fallback;
    FILE *f;

    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%u/topology/%s",
             cpu, what);
    f = fopen(path, "re");
    if (f == NULL)
        return fallback;
    if (fgets(line, sizeof line, f) == NULL || sscanf(line, "%9u", &v) != 1)
        v = fallback;
    fclose(f);
    return v;
}

static int by_place(const void *a, const void *b)
{
    const struct place *x = a, *y = b;

    if (x->package != y->package)
        return x->package < y->package ? -1 : 1;
    if (x->core != y->core)
        return x->core < y->core ? -1 : 1;
    return x->cpu < y->cpu ? -1 : x->cpu > y->cpu;
}

void hth_cpus_find(struct hth_cpus *out)
{
    struct place places[HTH_CPUS_MAX];
    cpu_set_t usable;

    out->count = 0;
    if (sched_getaffinity(0, sizeof usable, &usable) != 0)
        return;
    for (uint32_t cpu = 0; cpu < HTH_CPUS_MAX; cpu++)
        if (CPU_ISSET(cpu, &usable))
            places[out->count++] =
                (struct place){topology(cpu, "physical_package_id", 0),
                               topology(cpu, "core_id", cpu), cpu};
    qsort(places, out->count, sizeof places[0], by_place);
    for (uint32_t i = 0; i < out->count; i++)
        out->cpu[i] = (uint16_t)places[i].cpu;
}

bool hth_cpus_part(const struct hth_cpus *c, uint32_t i, uint32_t parts,
                   uint32_t threads, cpu_set_t *out)
{
    uint32_t each = parts > 0 ? c->count / parts : 0;

    if (each == 0 || each < threads)
        return false;
    CPU_ZERO(out);
    for (uint32_t k = i * each; k < (i + 1) * each; k++)
        CPU_SET(c->cpu[k], out);
    return true;
}
