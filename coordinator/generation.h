/* generation.h - one answer of the engine on its way to a reader on another
 * thread: tokens become text, stop strings are looked for, and what happened
 * waits until the reader takes it.
 *
 * Threads: start, cancel, take and close belong to the reader; the engine's
 * thread adds, under the generation's lock, and `wake` (any thread) tells the
 * reader. Bounds: text that is not taken is limited to
 * HTH_REQUEST_EVENTS_BYTES_MAX; the generation then ends with HTH_ELIMIT. */
#ifndef HTH_COORDINATOR_GENERATION_H
#define HTH_COORDINATOR_GENERATION_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/status.h"
#include "coordinator/engine.h"
#include "model/stops.h"
#include "model/tokenizer.h"

struct hth_generation;

struct hth_generation_opts {
    struct hth_engine *engine;             /* borrowed for life */
    const struct hth_tokenizer *tokenizer; /* borrowed for life */
    /* Copied as submit copies it; its callbacks and ctx are not looked at. */
    const struct hth_request *request;
    const struct hth_str *stops;
    uint32_t stop_count;
    bool special;            /* spell control tokens out */
    bool at_start;           /* the text begins with the answer */
    uint32_t embed;          /* dim of the hidden states to average, or 0 */
    void (*wake)(void *arg); /* at the end; tokens are told by the engine's
                                `delivered` */
    void *arg;
};

enum hth_generation_end {
    HTH_END_NONE,   /* goes on */
    HTH_END_STOP,   /* an end token, or a stop string */
    HTH_END_LENGTH, /* as long as asked for */
    HTH_END_CANCELLED,
    HTH_END_FAILED
};

/* One generated token, where logprobs were asked for. */
struct hth_generation_token {
    uint32_t count; /* of v */
    struct hth_logprob v[HTH_LOGPROBS_MAX];
};

/* What happened since the last take; pointers live until the next one. */
struct hth_generation_news {
    const char *text; /* whole characters, before any stop string */
    size_t text_bytes;
    uint32_t tokens;
    const struct hth_generation_token *token; /* [token_count] */
    uint32_t token_count;
    uint32_t prefill_done, prefill_total; /* the latest */
    enum hth_generation_end end;
    const float *embedding; /* [embed], unit length, with the end */
    int stop;               /* index of the stop string that ended it, or -1 */
    struct hth_err err;     /* of FAILED */
    struct hth_request_stats stats; /* when ended */
};

/* Errors are those of hth_engine_submit() and hth_stops_init(). */
HTH_MUST_CHECK int hth_generation_start(struct hth_generation **out,
                                        const struct hth_generation_opts *o,
                                        struct hth_err *err);
void hth_generation_cancel(struct hth_generation *g);
/* False: nothing new. Once `end` was told there is nothing more. */
bool hth_generation_take(struct hth_generation *g,
                         struct hth_generation_news *out);
/* Only after take told the end. NULL is fine. */
void hth_generation_close(struct hth_generation *g);

#endif
