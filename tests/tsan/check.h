/* check.h - a condition that ends the program, with the sentence in `err`,
 * which is in scope. */
#ifndef HTH_TESTS_CHECK_H
#define HTH_TESTS_CHECK_H

#include <stdio.h>
#include <stdlib.h>

#define CHECK(x)                                                       \
    do {                                                               \
        if (!(x)) {                                                    \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #x, \
                    err.text);                                         \
            exit(1);                                                   \
        }                                                              \
    } while (0)

#endif
