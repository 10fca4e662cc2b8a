/* cores_test.c - big and little cores out of a made-up /sys/devices, and what
 * a pool makes of them. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cores.h"
#include "kernels/pool.h"

static char g_root[64];

static void make_root(void)
{
    snprintf(g_root, sizeof g_root, "/tmp/hearth-cores-XXXXXX");
    cr_assert_neq(mkdtemp(g_root), NULL);
}

static void remove_root(void)
{
    char command[96];

    snprintf(command, sizeof command, "rm -rf '%s'", g_root);
    cr_assert_eq(system(command), 0);
}

TestSuite(cores, .init = make_root, .fini = remove_root);

/* root/name, with the folders above it. */
static void put(const char *name, const char *text)
{
    char path[192];
    FILE *f;

    snprintf(path, sizeof path, "%s/%s", g_root, name);
    for (char *p = path + strlen(g_root) + 1; (p = strchr(p, '/')) != NULL;
         p++) {
        *p = '\0';
        (void)mkdir(path, 0700);
        *p = '/';
    }
    f = fopen(path, "we");
    cr_assert_neq(f, NULL);
    cr_assert_geq(fputs(text, f), 0);
    cr_assert_eq(fclose(f), 0);
}

static void put_cpu(uint32_t cpu, const char *what, const char *text)
{
    char name[96];

    snprintf(name, sizeof name, "system/cpu/cpu%u/%s", cpu, what);
    put(name, text);
}

Test(cores, arm_says_capacities)
{
    static const char *const capacity[] = {"446\n", "446\n", "1024\n"};
    static const uint32_t want[] = {446, 446, 1024};
    struct hth_cores c;

    for (uint32_t i = 0; i < 3; i++) {
        put_cpu(i, "cpu_capacity", capacity[i]);
        put_cpu(i, "cpufreq/cpuinfo_max_freq", "2000000\n");
    }
    hth_cores_find(g_root, &c);
    cr_assert_eq(c.count, 3u);
    cr_assert_arr_eq(c.speed, want, sizeof want);
}

Test(cores, intel_says_kinds_and_frequencies)
{
    static const uint32_t want[] = {5000000, 5000000, 2400000,
                                    2400000, 5000000, 2400000};
    struct hth_cores c;

    for (uint32_t i = 0; i < 6; i++)
        put_cpu(i, "cpufreq/cpuinfo_max_freq",
                want[i] == 5000000 ? "5000000\n" : "4000000\n");
    put("cpu_atom/cpus", "2-3,5\n");
    hth_cores_find(g_root, &c);
    cr_assert_eq(c.count, 6u);
    cr_assert_arr_eq(c.speed, want, sizeof want);
}

Test(cores, alike_or_unknown_is_no_guess)
{
    struct hth_cores c;

    hth_cores_find(g_root, &c);
    cr_assert_eq(c.count, 0u);
    for (uint32_t i = 0; i < 4; i++)
        put_cpu(i, "cpufreq/cpuinfo_max_freq", "3000000\n");
    hth_cores_find(g_root, &c);
    cr_assert_eq(c.count, 0u);
    put("cpu_atom/cpus", "nonsense");
    hth_cores_find(g_root, &c);
    cr_assert_eq(c.count, 0u);
    put("cpu_atom/cpus", "1-999999999,3-2,-");
    hth_cores_find(g_root, &c);
    cr_assert_eq(c.count, 4u);
    cr_assert_eq(c.speed[0], 3000000u);
    cr_assert_eq(c.speed[3], 1800000u);
    put_cpu(1, "cpu_capacity", "512\n"); /* not all have it */
    hth_cores_find(g_root, &c);
    cr_assert_eq(c.speed[0], 3000000u);
}

Test(cores, a_pool_begins_with_the_guess)
{
    static uint32_t speed[HTH_CPUS_MAX];
    struct hth_pool *p;
    struct hth_err err;
    float sum = 0;

    for (uint32_t i = 0; i < HTH_CPUS_MAX; i++)
        speed[i] = 1 + i % 2 * 2; /* 1, 3, 1, 3, ... */
    cr_assert_eq(hth_pool_start(&p, 2, false, &err), HTH_OK);
    hth_pool_guess(p, speed, 0);
    cr_assert_float_eq(hth_deal_share(hth_pool_deal(p), HTH_DEAL_DECODE, 0),
                       0.5f, 1e-6f);
    hth_pool_guess(p, speed, HTH_CPUS_MAX);
    for (uint32_t i = 0; i < 2; i++) {
        float share = hth_deal_share(hth_pool_deal(p), HTH_DEAL_PROMPT, i);

        cr_assert(share > 0.24f && share < 0.76f, "%g", (double)share);
        sum += share;
    }
    cr_assert_float_eq(sum, 1.0f, 1e-6f);
    hth_pool_stop(p);
}

Test(cores, a_guess_is_a_share)
{
    static const uint32_t speed[] = {3, 1}, unknown[] = {3, 0};
    struct hth_deal *d = hth_deal_open(2);

    hth_deal_guess(d, unknown);
    cr_assert_float_eq(hth_deal_share(d, HTH_DEAL_DECODE, 0), 0.5f, 1e-6f);
    hth_deal_guess(d, speed);
    cr_assert_float_eq(hth_deal_share(d, HTH_DEAL_DECODE, 0), 0.75f, 1e-6f);
    cr_assert_float_eq(hth_deal_share(d, HTH_DEAL_PROMPT, 1), 0.25f, 1e-6f);
    hth_deal_close(d);
}
