/* probe.c - sysfs, procfs and a short memory read. Reads only well-known
 * files; anything missing or odd is "unknown". */
#include "worker/probe.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "base/clock.h"
#include "base/mem.h"
#include "kernels/ops.h"
#include "kernels/pool.h"

#define READ_BYTES (64u << 20) /* beyond any last-level cache of a home */
#define PASSES 3u

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

/* The first number in a file, or in its line that starts with key. */
static uint64_t file_number(const char *path, const char *key)
{
    unsigned long long v = 0;
    char line[256];
    FILE *f = fopen(path, "re");

    if (f == NULL)
        return 0;
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, key, strlen(key)) == 0 &&
            sscanf(line + strlen(key), "%llu", &v) == 1)
            break;
    fclose(f);
    return v;
}

uint64_t hth_probe_memory(void)
{
    uint64_t mem = file_number("/proc/meminfo", "MemAvailable:") * 1024;
    uint64_t cap = file_number("/sys/fs/cgroup/memory.max", "");
    uint64_t used = file_number("/sys/fs/cgroup/memory.current", "");

    if (cap > 0 && (mem == 0 || cap - (used < cap ? used : cap) < mem))
        mem = cap - (used < cap ? used : cap);
    return mem;
}

struct reader {
    const uint64_t *data; /* [READ_BYTES / 8] */
    uint64_t sum[HTH_THREADS_MAX];
};

static void read_part(void *ctx, uint32_t thread, uint32_t threads)
{
    struct reader *r = ctx;
    uint64_t first, count, i, sum = 0;

    hth_split(READ_BYTES / 8, 64, thread, threads, &first, &count);
    for (i = 0; i < count; i++)
        sum += r->data[first + i];
    r->sum[thread] = sum;
}

/* The best of a few passes: other programs can only make it slower. */
static double read_rate(uint32_t threads)
{
    struct reader *r = calloc(1, sizeof *r);
    struct hth_pool *pool = NULL;
    void *data = hth_mem_alloc(READ_BYTES);
    uint64_t t, best = 0;
    uint32_t i;

    if (r != NULL && data != NULL &&
        hth_pool_start(&pool, threads, false, NULL) == HTH_OK) {
        memset(data, 1, READ_BYTES);
        r->data = data;
        for (i = 0; i < PASSES; i++) {
            t = hth_now_ns();
            hth_pool_run(pool, read_part, r);
            t = hth_now_ns() - t;
            best = best == 0 || t < best ? t : best;
        }
    }
    hth_pool_stop(pool);
    hth_mem_free(data);
    free(r);
    return best > 0 ? (double)READ_BYTES * 1e9 / (double)best : 0;
}

void hth_probe_machine(struct hth_probe *out, uint32_t threads)
{
    struct utsname u;

    memset(out, 0, sizeof *out);
    out->cores = hth_probe_cores();
    snprintf(out->arch, sizeof out->arch, "%.60s",
             uname(&u) == 0 ? u.machine : "unknown");
    snprintf(out->isa, sizeof out->isa, "%s", hth_isa_name());
    out->memory_bytes = hth_probe_memory();
    out->read_bytes_per_s = read_rate(threads > 0 ? threads : out->cores);
}
