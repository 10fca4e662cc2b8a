/* stops.h - stop strings in text that is still being written.
 *
 * Feed the detokenised text in any pieces; what comes out is what may be
 * shown: everything up to the first stop string, and while there is none,
 * everything but an end that could still become one. Of several stop strings
 * the one completed first counts, and of those completed by the same byte the
 * longest, so that the least is shown.
 *
 * One matcher belongs to one answer and one thread. No allocation; a few
 * kilobytes, meant to live inside its owner. Where the stop strings and the
 * pieces are whole UTF-8 characters, so is what comes out. */
#ifndef HTH_MODEL_STOPS_H
#define HTH_MODEL_STOPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/limits.h"
#include "base/status.h"
#include "model/gguf.h"

#define HTH_STOPS_NONE (-1)

struct hth_stops {
    uint8_t text[HTH_STOPS_MAX][HTH_STOP_BYTES_MAX];
    /* back[i][k]: the longest proper beginning of text[i] that also ends its
     * first k + 1 bytes (Knuth, Morris, Pratt 1977). */
    uint16_t back[HTH_STOPS_MAX][HTH_STOP_BYTES_MAX];
    uint16_t len[HTH_STOPS_MAX];
    uint16_t seen[HTH_STOPS_MAX]; /* bytes of text[i] the input ends with */
    uint32_t count;
    uint8_t held[HTH_STOP_BYTES_MAX];
    uint32_t held_count;
    int matched; /* index of the stop string, or HTH_STOPS_NONE */
};

/* Copies the texts. Errors: HTH_ELIMIT (HTH_STOPS_MAX, HTH_STOP_BYTES_MAX),
 * HTH_EINVAL for an empty one. None at all is fine: everything comes out. */
HTH_MUST_CHECK int hth_stops_init(struct hth_stops *s,
                                  const struct hth_str *texts, size_t count,
                                  struct hth_err *err);

/* Append to out what of the text so far may be shown. Returns the index of
 * the stop string that ended it or HTH_STOPS_NONE; once ended, nothing more
 * comes out. */
int hth_stops_push(struct hth_stops *s, const void *text, size_t n,
                   struct hth_buf *out);

/* The text is over without a stop string: what was held back comes out. */
void hth_stops_finish(struct hth_stops *s, struct hth_buf *out);

#endif
