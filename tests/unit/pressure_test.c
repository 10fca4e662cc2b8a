/* pressure_test.c - what is available, by made-up systems; when to shrink and
 * to grow, by made-up times. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "worker/pressure.h"

#define MIB (1ull << 20)

static char g_root[] = "/tmp/hearth_press.XXXXXX";

static void setup(void)
{
    cr_assert(mkdtemp(g_root) != NULL);
}

static void teardown(void)
{
    char line[128];

    snprintf(line, sizeof line, "rm -rf %s", g_root);
    cr_assert_eq(system(line), 0);
}

static void put(const char *path, const char *text)
{
    char full[512];
    FILE *f;

    snprintf(full, sizeof full, "%s%s", g_root, path);
    for (char *c = full + 1; *c != '\0'; c++)
        if (*c == '/') {
            *c = '\0';
            (void)mkdir(full, 0700);
            *c = '/';
        }
    f = fopen(full, "w");
    cr_assert(f != NULL, "%s", full);
    fputs(text, f);
    fclose(f);
}

TestSuite(pressure, .init = setup, .fini = teardown);

Test(pressure, unknown_is_no_shortage)
{
    cr_assert_eq(hth_memory_available(g_root), 0u);
    cr_assert_eq(hth_memory_default(g_root), 0u);
}

Test(pressure, the_system_alone)
{
    put("/proc/meminfo", "MemTotal: 9 kB\nMemAvailable:    2097152 kB\n");
    put("/proc/self/cgroup", "0::/\n");
    cr_assert_eq(hth_memory_available(g_root), 2048 * MIB);
    cr_assert_eq(hth_memory_default(g_root), 1920 * MIB);
}

/* The tightest of the groups around us counts, and what the kernel can drop
 * counts as free. */
Test(pressure, cgroup_version_1)
{
    put("/proc/meminfo", "MemAvailable:    2097152 kB\n");
    put("/proc/self/cgroup", "5:cpu:/x\n4:memory:/a/b\n0::/\n");
    put("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    put("/sys/fs/cgroup/memory/a/memory.limit_in_bytes", "629145600\n");
    put("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "209715200\n");
    put("/sys/fs/cgroup/memory/a/memory.stat",
        "cache 1\ntotal_inactive_file 104857600\n");
    put("/sys/fs/cgroup/memory/a/b/memory.limit_in_bytes", "734003200\n");
    cr_assert_eq(hth_memory_available(g_root), 500 * MIB);
}

Test(pressure, cgroup_version_2)
{
    put("/proc/meminfo", "MemAvailable:    2097152 kB\n");
    put("/proc/self/cgroup", "0::/user/app\n");
    put("/sys/fs/cgroup/user/memory.max", "max\n");
    put("/sys/fs/cgroup/user/app/memory.max", "314572800\n");
    put("/sys/fs/cgroup/user/app/memory.current", "209715200\n");
    put("/sys/fs/cgroup/user/app/memory.stat", "inactive_file 0\n");
    cr_assert_eq(hth_memory_available(g_root), 100 * MIB);
    put("/sys/fs/cgroup/user/app/memory.current", "314572800\n");
    cr_assert_eq(hth_memory_available(g_root), 1u);
}

Test(pressure, odd_files_are_unknown)
{
    put("/proc/meminfo", "nonsense\n");
    put("/proc/self/cgroup", ":memory:\n0::\n\n4:memory:../../..\n");
    put("/sys/fs/cgroup/memory.max", "many\n");
    cr_assert_eq(hth_memory_available(g_root), 0u);
}

static bool step(struct hth_pressure_state *s, uint64_t available_mib,
                 uint64_t at_ms)
{
    struct hth_pressure_seen seen = {available_mib * MIB, 0, at_ms};

    return hth_pressure_step(s, &seen);
}

Test(pressure, shrinks_at_once_and_grows_later)
{
    struct hth_pressure_state s;

    hth_pressure_init(&s, 3200 * MIB);
    cr_assert_eq(s.low_bytes, 50 * MIB);
    cr_assert_not(step(&s, 400, 1000));
    cr_assert(step(&s, 20, 1500));
    cr_assert_eq(s.now_bytes, 3120 * MIB);
    cr_assert_not(step(&s, 110, 2000));
    cr_assert_not(step(&s, 300, 2500));
    cr_assert_not(step(&s, 300, 8000));
    cr_assert_not(step(&s, 199, 9000), "the calm time starts again");
    cr_assert_not(step(&s, 300, 10000));
    cr_assert_not(step(&s, 300, 19999));
    cr_assert(step(&s, 200, 20000));
    cr_assert_eq(s.now_bytes, 3170 * MIB);
    cr_assert(step(&s, 300, 20500));
    cr_assert_eq(s.now_bytes, 3200 * MIB);
    cr_assert_not(step(&s, 900, 21000));
}

Test(pressure, never_goes_below_nothing)
{
    struct hth_pressure_state s;

    hth_pressure_init(&s, 40 * MIB);
    for (uint64_t t = 1; t < 50; t++)
        (void)step(&s, 1, t * 500);
    cr_assert_geq(s.now_bytes, 1u);
    cr_assert_leq(s.now_bytes, 40 * MIB);
}
