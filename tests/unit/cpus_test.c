/* cpus_test.c - ranks of one machine get CPUs of their own, or none do. */
#include <criterion/criterion.h>

#include "cli/cpus.h"

Test(cpus, those_of_this_process)
{
    static struct hth_cpus c;
    cpu_set_t usable;

    cr_assert_eq(sched_getaffinity(0, sizeof usable, &usable), 0);
    hth_cpus_find(&c);
    cr_assert_eq(c.count, (uint32_t)CPU_COUNT(&usable));
    for (uint32_t i = 0; i < c.count; i++) {
        cr_assert(CPU_ISSET(c.cpu[i], &usable));
        for (uint32_t k = 0; k < i; k++)
            cr_assert_neq(c.cpu[i], c.cpu[k]);
    }
}

Test(cpus, parts_are_disjoint)
{
    static const struct hth_cpus c = {.count = 7,
                                      .cpu = {0, 8, 1, 9, 2, 10, 3}};
    cpu_set_t a, b, both;

    cr_assert(hth_cpus_part(&c, 0, 3, 2, &a));
    cr_assert(hth_cpus_part(&c, 2, 3, 2, &b));
    cr_assert_eq(CPU_COUNT(&a), 2);
    cr_assert(CPU_ISSET(0, &a) && CPU_ISSET(8, &a));
    cr_assert(CPU_ISSET(2, &b) && CPU_ISSET(10, &b));
    CPU_AND(&both, &a, &b);
    cr_assert_eq(CPU_COUNT(&both), 0);
}

Test(cpus, too_few_for_all_bind_nobody)
{
    static const struct hth_cpus c = {.count = 4, .cpu = {0, 1, 2, 3}};
    cpu_set_t s;

    cr_assert_not(hth_cpus_part(&c, 0, 2, 3, &s));
    cr_assert_not(hth_cpus_part(&c, 0, 5, 1, &s));
    cr_assert_not(hth_cpus_part(&c, 0, 0, 1, &s));
    cr_assert(hth_cpus_part(&c, 1, 2, 2, &s));
}
