/* load.h - asking a server for many completions and timing each: `hearth bench
 * serve`.
 *
 * Closed loop: so many requests at a time, the next begins when one ends. Open
 * loop: requests arrive at random moments (Poisson, seeded), whatever the
 * server does; one that finds HTH_LOAD_IN_FLIGHT_MAX under way waits here, and
 * that time is told apart. One connection per request, HTTP/1.1, no TLS. Main
 * thread, a loop of its own; ends early on Ctrl-C. */
#ifndef HTH_CLI_LOAD_H
#define HTH_CLI_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/cursor.h"
#include "base/status.h"

struct hth_load_opts {
    const char *host;
    uint16_t port;
    const char *api_key;  /* or NULL */
    uint32_t requests;    /* <= HTH_LOAD_REQUESTS_MAX */
    uint32_t concurrency; /* closed loop */
    double rate;          /* requests per second: open loop; 0: closed */
    uint32_t prompt;      /* tokens of each prompt, random ids */
    uint32_t generate;    /* tokens of each answer */
    uint64_t seed;
    const char *lora; /* JSON for "lora", or NULL: as the server has it */
};

/* Times in seconds. TTFT: from sending to the first text. E2E: to the last. */
struct hth_load_request {
    bool ok;
    double queue_s; /* from its moment (open loop) to sending */
    double ttft_s, e2e_s;
    uint32_t tokens; /* as the server counted, else chunks with text */
    uint32_t gap_count;
    float *gap_s; /* [gap_count] between chunks with text; owned */
};

struct hth_load_result {
    struct hth_load_request *request; /* [count]; owned */
    uint32_t count;                   /* begun */
    double duration_s;                /* first sent to last ended */
    char failure[HTH_ERR_TEXT_MAX];   /* of the first that failed; or "" */
};

/* Errors: HTH_EUNREACHABLE, HTH_ENOMEM, HTH_ECANCELLED. Requests that fail by
 * themselves are in the result. hth_load_fini() in every case. */
HTH_MUST_CHECK int hth_load_run(struct hth_load_result *out,
                                const struct hth_load_opts *opts,
                                struct hth_err *err);
void hth_load_fini(struct hth_load_result *r);

/* ---- report (load_report.c) ---------------------------------------------- */

/* Limits for goodput in milliseconds; 0: none. */
struct hth_load_goal {
    double ttft_ms, tpot_ms, e2el_ms;
};
/* "ttft:2000 tpot:200 e2el:60000", in any order, also with commas. */
HTH_MUST_CHECK int hth_load_goal_parse(struct hth_load_goal *out,
                                       const char *text, struct hth_err *err);
void hth_load_put(const struct hth_load_opts *o,
                  const struct hth_load_result *r,
                  const struct hth_load_goal *goal, struct hth_buf *out);
/* vLLM's keys. */
void hth_load_put_json(const struct hth_load_opts *o,
                       const struct hth_load_result *r,
                       const struct hth_load_goal *goal, struct hth_buf *out);

#endif
