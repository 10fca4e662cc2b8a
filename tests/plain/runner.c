/* runner.c - main() for tests built with tests/plain/criterion/criterion.h.
 * Runs all registered tests in one process, or those whose "suite.name"
 * contains the first argument; fails when that is none. */
#include "criterion/criterion.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define TESTS_MAX 256

static struct {
    const char *suite;
    const char *name;
    void (*run)(void);
} tests[TESTS_MAX];
static int count;

void plain_register(const char *suite, const char *name, void (*run)(void))
{
    if (count == TESTS_MAX)
        abort();
    tests[count].suite = suite;
    tests[count].name = name;
    tests[count++].run = run;
}

void plain_failed(const char *file, int line, const char *what, const char *fmt,
                  ...)
{
    va_list ap;

    fprintf(stderr, "%s:%d: failed: %s:", file, line, what);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

int main(int argc, char **argv)
{
    int ran = 0;

    for (int i = 0; i < count; i++) {
        char full[256];

        snprintf(full, sizeof full, "%s.%s", tests[i].suite, tests[i].name);
        if (argc > 1 && strstr(full, argv[1]) == NULL)
            continue;
        printf("%s\n", full);
        fflush(stdout);
        tests[i].run();
        ran++;
    }
    printf("%d tests passed\n", ran);
    return ran > 0 ? 0 : 1;
}
