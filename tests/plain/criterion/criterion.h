/* criterion.h - as much of Criterion as the kernel tests use, in a plain
 * program. For places where the real one cannot go: other architectures
 * (scripts/arm-test) and ThreadSanitizer. A test registers itself before
 * main(); the first failed check ends the program with status 1. */
#ifndef HTH_TESTS_PLAIN_CRITERION_H
#define HTH_TESTS_PLAIN_CRITERION_H

#include <stdbool.h>
#include <string.h>

void plain_register(const char *suite, const char *name, void (*run)(void));
void plain_failed(const char *file, int line, const char *what, const char *fmt,
                  ...) __attribute__((format(printf, 4, 5)));

#define Test(suite, name)                                               \
    static void suite##_##name##_run(void);                             \
    __attribute__((constructor)) static void suite##_##name##_add(void) \
    {                                                                   \
        plain_register(#suite, #name, suite##_##name##_run);            \
    }                                                                   \
    static void suite##_##name##_run(void)

#define cr_assert(cond, ...) \
    ((cond) ? (void)0        \
            : plain_failed(__FILE__, __LINE__, #cond, " " __VA_ARGS__))
#define cr_assert_eq(a, b, ...) cr_assert((a) == (b), __VA_ARGS__)
#define cr_assert_not(cond, ...) cr_assert(!(cond), __VA_ARGS__)
#define cr_assert_neq(a, b, ...) cr_assert((a) != (b), __VA_ARGS__)
#define cr_assert_leq(a, b, ...) cr_assert((a) <= (b), __VA_ARGS__)
#define cr_assert_arr_eq(a, b, size, ...) \
    cr_assert(memcmp((a), (b), (size)) == 0, __VA_ARGS__)
#define cr_assert_float_eq(a, b, bound, ...) \
    cr_assert((a) - (b) <= (bound) && (b) - (a) <= (bound), __VA_ARGS__)
#define cr_assert_str_eq(a, b, ...) \
    cr_assert(strcmp((a), (b)) == 0, __VA_ARGS__)

#endif
