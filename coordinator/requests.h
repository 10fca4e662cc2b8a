/* requests.h - clients' requests from submission to the last event.
 *
 * Owns: a bounded table; each request's tokens, its place in time (tokenizing,
 * waiting for a session, running, ended) and the events its client has not
 * confirmed yet. Does not: decide anything about devices.
 * Threads: everything here is called on the loop thread; the engine's
 * callbacks run on the engine's and touch only a request's events and text,
 * under its lock, then call `wake`. Failure: a request ends with one ERROR
 * event; the table goes on. */
#ifndef HTH_COORDINATOR_REQUESTS_H
#define HTH_COORDINATOR_REQUESTS_H

#include <stdbool.h>
#include <stdint.h>

#include <uv.h>

#include "base/status.h"
#include "coordinator/engine.h"
#include "coordinator/loras.h"
#include "model/chat.h"
#include "model/tokenizer.h"
#include "net/control.h"
#include "net/message.h"

struct hth_requests;

struct hth_requests_opts {
    uv_loop_t *loop;                       /* borrowed */
    const struct hth_tokenizer *tokenizer; /* borrowed; NULL: no requests */
    const struct hth_chat *chat;           /* borrowed; NULL: no chats */
    struct hth_engine *engine;             /* borrowed */
    struct hth_loras *loras;               /* borrowed; NULL: no adapters */
    uint32_t ctx;                          /* positions per sequence */
    const uint32_t *ranks;   /* of the present session; borrowed; NULL: 1 */
    uint32_t wait_ms;        /* how long a request waits for a session */
    void (*wake)(void *arg); /* any thread: call hth_requests_tick() soon */
    void *arg;
};

HTH_MUST_CHECK int hth_requests_open(struct hth_requests **out,
                                     const struct hth_requests_opts *opts,
                                     struct hth_err *err);
/* The engine is closed and the loop has run dry: nothing calls back. NULL is
 * fine. */
void hth_requests_close(struct hth_requests *r);

/* Take a request in; the same key again gives the same id. Errors: HTH_ELIMIT
 * (table full), HTH_EINVAL (names the parameter), HTH_ENOMEM. */
HTH_MUST_CHECK int hth_requests_submit(struct hth_requests *r,
                                       const struct hth_msg_submit *m,
                                       uint32_t pipe, uint64_t *id_out,
                                       struct hth_err *err);
/* Answer a poll now, or when there is something to say or its time is over.
 * Takes the call in every case. */
void hth_requests_poll(struct hth_requests *r, const struct hth_msg_poll *m,
                       struct hth_control_call *call);
void hth_requests_cancel(struct hth_requests *r, uint64_t id);
/* A client's connection ended: cancel what it does not ask for again soon. */
void hth_requests_gone(struct hth_requests *r, uint32_t pipe);

/* Move everything that can move: start waiting requests when ready, say what
 * they wait for otherwise, end those that waited too long or were abandoned,
 * answer parked polls. waiting: a clause like "waiting for tablet".
 * problem: what no waiting will cure ends the waiting ones now; status 0:
 * there is none. */
void hth_requests_tick(struct hth_requests *r, bool ready, const char *waiting,
                       const struct hth_err *problem);
/* End everything with this sentence; parked polls are answered. */
void hth_requests_stop(struct hth_requests *r, const struct hth_err *why);

uint32_t hth_requests_queued(const struct hth_requests *r);

#endif
