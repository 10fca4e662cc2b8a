/* requests_internal.h - one request, as requests.c and request_events.c see
 * it. */
#ifndef HTH_COORDINATOR_REQUESTS_INTERNAL_H
#define HTH_COORDINATOR_REQUESTS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/cursor.h"
#include "coordinator/requests.h"
#include "model/stops.h"

enum request_state {
    REQUEST_FREE,
    REQUEST_TOKENIZING, /* a uv work item holds it */
    REQUEST_WAITING,
    REQUEST_RUNNING, /* the engine holds it */
    REQUEST_ENDED    /* events remain to be taken */
};

/* What a request needs of the table. */
struct request_owner {
    const struct hth_tokenizer *tokenizer;
    const struct hth_chat *chat;
    void (*wake)(void *arg);
    void *arg;
};

struct request {
    const struct request_owner *owner;
    enum request_state state;
    uint64_t id, key;
    uint32_t pipe;
    uint64_t engine_id;
    atomic_bool cancelled;
    uint64_t submitted_ms, polled_ms, said_ms;

    /* The job: set at submit, read by the tokenizing thread. */
    struct hth_msg_submit params; /* its blobs point into memory below */
    struct hth_buf memory;        /* prompt and stop strings */
    struct hth_sampling sampling;
    struct hth_tokens tokens;
    struct hth_grammar *grammar; /* what the answer is held to, or NULL */
    uint32_t generate_max;
    uv_work_t work;
    struct hth_err work_err; /* status 0: tokens are good */

    /* A parked poll. */
    struct hth_control_call *call;
    uint64_t call_from, call_until_ms;

    pthread_mutex_t lock;  /* guards what follows; engine and loop threads */
    struct hth_buf events; /* encoded, from number first on */
    uint64_t first;
    uint32_t count;
    bool ended; /* the last event is in the list */
    bool overflow;
    struct hth_detok detok;
    struct hth_stops stops;
    struct hth_buf text, shown; /* scratch of one token */
    bool stopped;               /* by a stop string */
    bool over;                  /* the engine is done with it */
    uint32_t ranks;
    double wait_s;
    uint64_t woken_ns; /* the engine's thread only */
};

/* Append one event; a client that lets HTH_REQUEST_EVENTS_BYTES_MAX pile up
 * loses its request. Locks. */
void hth__request_event(struct request *q, const struct hth_event *e);
void hth__request_error(struct request *q, int status, const char *text);
void hth__request_waiting(struct request *q, const char *text);
/* Answer a parked poll if there is something to say, it has waited long
 * enough, or `now` is UINT64_MAX. */
void hth__request_answer(struct request *q, uint64_t now_ms);
/* The client has everything, the end included. Locks. */
bool hth__request_taken(struct request *q);

/* Engine callbacks; ctx is the request. */
void hth__request_on_prefill(void *ctx, uint32_t done, uint32_t total);
bool hth__request_on_token(void *ctx, uint32_t id);
void hth__request_on_end(void *ctx, int status, const struct hth_err *err,
                         const struct hth_request_stats *stats);

#endif
