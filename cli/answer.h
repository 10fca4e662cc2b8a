/* answer.h - following one request to its end and printing what comes.
 *
 * Used by `run` in all its forms, with any client. Main thread; blocks until
 * the request has ended, also after Ctrl-C, which cancels it everywhere. */
#ifndef HTH_CLI_ANSWER_H
#define HTH_CLI_ANSWER_H

#include <stdbool.h>

#include "coordinator/client.h"

/* What an answer came to. */
struct hth_answer_end {
    bool came; /* false: no answer yet */
    uint8_t finish;
    uint64_t seed;
    struct hth_event_stats stats;
};

struct hth_answer_opts {
    bool ids;                    /* print token ids, not text */
    bool wrap;                   /* text, to the terminal's width */
    bool json;                   /* print one object at the end */
    bool verbose;                /* statistics on standard error at the end */
    struct hth_buf *keep;        /* the text goes here too, or NULL */
    struct hth_answer_end *last; /* filled at the end, or NULL */
};

/* Submit g and print the answer. Errors: HTH_ECANCELLED after Ctrl-C (what
 * came is printed), HTH_EIO when it could not be written, the coordinator's
 * own with its sentence. */
HTH_MUST_CHECK int hth_answer(struct hth_client *client,
                              const struct hth_msg_submit *g,
                              const struct hth_answer_opts *opts,
                              struct hth_err *err);

/* The footer of --verbose, on standard error. */
void hth_answer_statistics(const struct hth_answer_end *end);

#endif
