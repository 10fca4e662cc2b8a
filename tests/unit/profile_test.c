/* profile_test.c - a machine's profile: kept and read back, looked up between
 * what was measured, refused where it is another machine's or no profile. */
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/ops.h"
#include "worker/probe.h"
#include "worker/profile.h"

static struct hth_profile sample(void)
{
    struct hth_profile p = {
        .cores = hth_probe_cores(),
        .made_s = 1790000000,
        .reads = 2,
        .read = {{1, 10e9}, {4, 25e9}},
        .formats = 2,
        .format = {{HTH_Q4_0, 1, 8e9, 300e9}, {HTH_Q4_0, 4, 20e9, 1100e9}},
        .disk_bytes_per_s = 2e9};

    cr_assert_eq(hth_isa_init(NULL), HTH_OK);
    snprintf(p.isa, sizeof p.isa, "%s", hth_isa_name());
    return p;
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-9 * fabs(b);
}

Test(profile, rates_between_what_was_measured)
{
    struct hth_profile p = sample();
    double decode, prefill;

    cr_assert(near(hth_profile_read_rate(&p, 1), 10e9));
    cr_assert(near(hth_profile_read_rate(&p, 2), 15e9));
    cr_assert(near(hth_profile_read_rate(&p, 4), 25e9));
    cr_assert(near(hth_profile_read_rate(&p, 64), 25e9));
    cr_assert(hth_profile_format_rate(&p, HTH_Q4_0, 3, &decode, &prefill));
    cr_assert(near(decode, 16e9));
    cr_assert(near(prefill, 300e9 + 800e9 * 2 / 3));
    cr_assert_not(hth_profile_format_rate(&p, HTH_Q6_K, 1, &decode, NULL));
    p.reads = 0;
    cr_assert_eq(hth_profile_read_rate(&p, 1), 0);
}

Test(profile, kept_and_read_back)
{
    char dir[] = "/tmp/hearth-profile-XXXXXX", path[64], text[64], cmd[96];
    struct hth_profile p = sample(), q;
    struct hth_err err;

    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/deeper/profile", dir);
    cr_assert_eq(hth_profile_load(&q, path, &err), HTH_ENOTFOUND);
    cr_assert_not_null(strstr(err.text, "hearth profile"));
    cr_assert_eq(hth_profile_save(&p, path, &err), HTH_OK, "%s", err.text);
    cr_assert_eq(hth_profile_load(&q, path, &err), HTH_OK, "%s", err.text);
    cr_assert_eq(q.reads, 2);
    cr_assert_eq(q.formats, 2);
    cr_assert_eq(q.made_s, p.made_s);
    cr_assert(near(q.disk_bytes_per_s, 2e9));
    cr_assert(near(hth_profile_read_rate(&q, 2), 15e9));
    /* other kernels than today's */
    snprintf(q.isa, sizeof q.isa, "abacus");
    cr_assert_eq(hth_profile_save(&q, path, &err), HTH_OK, "%s", err.text);
    cr_assert_eq(hth_profile_load(&q, path, &err), HTH_ENOTFOUND);
    cr_assert_not_null(strstr(err.text, "abacus"));
    snprintf(text, sizeof text, "%s/file/profile", dir);
    snprintf(cmd, sizeof cmd, "touch %s/file", dir);
    cr_assert_eq(system(cmd), 0);
    cr_assert_eq(hth_profile_save(&p, text, &err), HTH_EIO);
    snprintf(cmd, sizeof cmd, "rm -rf %s", dir);
    cr_assert_eq(system(cmd), 0);
}

static int parse(const char *text, struct hth_err *err)
{
    struct hth_profile p;

    return hth_profile_parse(&p, text, strlen(text), err);
}

Test(profile, what_is_no_profile)
{
    static const char *const bad[] = {
        "",
        "hearth-profile 1\nisa x\nread 1 1\n",
        "hearth-profile 2\nisa x\n",
        "hearth-profile 2\nread 1 1\n",
        "hearth-profile 2\nisa x\nread 0 1\n",
        "hearth-profile 2\nisa x\nread 1 0\n",
        "hearth-profile 2\nisa x\nread 1 nan\n",
        "hearth-profile 2\nisa x\nread 1 1e400\n",
        "hearth-profile 2\nisa x\nread 2 1\nread 1 1\n",
        "hearth-profile 2\nisa x\nread 1 1\nformat Q9 1 1 1\n",
        "hearth-profile 2\nisa x\nread 1 1\nformat Q4_0 1 1\n",
        "hearth-profile 2\nisa x\nread 1 1\ndisk -1\n",
    };
    struct hth_err err;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_eq(parse(bad[i], &err), HTH_EFORMAT, "number %zu", i);
    /* a line of a later version, and no newline at the end */
    cr_assert_eq(parse("hearth-profile 2\nisa x\nwarmth 3\nread 1 5", &err),
                 HTH_OK, "%s", err.text);
}

Test(profile, measures_something)
{
    const uint32_t types[] = {HTH_Q4_0, HTH_BF16};
    struct hth_profile_opts o = {.threads = 2,
                                 .figure_ms = 1,
                                 .types = types,
                                 .type_count = 2,
                                 .disk_path = "/proc/self/exe"};
    struct hth_profile p;
    struct hth_err err;

    cr_assert_eq(hth_isa_init(NULL), HTH_OK);
    cr_assert_eq(hth_profile_measure(&p, &o, &err), HTH_OK, "%s", err.text);
    cr_assert_eq(p.reads, 2);
    cr_assert_eq(p.formats, 4);
    for (uint32_t i = 0; i < p.formats; i++) {
        cr_assert_gt(p.format[i].decode_bytes_per_s, 0);
        cr_assert_gt(p.format[i].prefill_ops_per_s, 0);
    }
    cr_assert_gt(p.disk_bytes_per_s, 0);
    o.disk_path = "/nowhere/at/all";
    cr_assert_eq(hth_profile_measure(&p, &o, &err), HTH_EIO);
    cr_assert_not_null(strstr(err.text, "/nowhere/at/all"));
}
