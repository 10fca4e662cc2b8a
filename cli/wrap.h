/* wrap.h - answers broken between words, as they come, to a terminal's width.
 *
 * Owns: what stands on the present line, and the word that is not over yet
 * (at most HTH_WRAP_HELD_MAX bytes). Breaks at spaces only: characters and
 * words stay whole. What is code stays as it is: fenced blocks, lines that
 * begin with four spaces or a tab; so do words longer than a line. Pure; one
 * thread. */
#ifndef HTH_CLI_WRAP_H
#define HTH_CLI_WRAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"

#define HTH_WRAP_HELD_MAX 256u

struct hth_wrap {
    unsigned column; /* where the next character goes */
    unsigned spaces; /* held, in front of the word */
    unsigned wide;   /* columns of the word */
    size_t held;     /* bytes of the word */
    uint8_t word[HTH_WRAP_HELD_MAX];
    unsigned indent, ticks; /* of the line's beginning */
    bool inside;            /* the line's beginning is over */
    bool fence;             /* between ``` and ``` */
    bool raw;               /* this line stays as it is */
    bool flows;             /* the word is longer than a line: no holding */
};

/* All zeroes is the beginning of an answer. */

/* Append to out what can be shown now of p[n]. width: columns of a line, which
 * may change between calls; 0: everything stays as it is. */
void hth_wrap_push(struct hth_wrap *w, unsigned width, const uint8_t *p,
                   size_t n, struct hth_buf *out);
/* The answer is over: append what is held. */
void hth_wrap_finish(struct hth_wrap *w, unsigned width, struct hth_buf *out);

#endif
