/* engine_internal.h - what engine.c (life cycle, queue) and engine_step.c
 * (batches, sampling) share. Lock order: `lock` is the only one and is never
 * held over a step or a callback. */
#ifndef HTH_COORDINATOR_ENGINE_INTERNAL_H
#define HTH_COORDINATOR_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "coordinator/engine.h"
#include "coordinator/kept.h"
#include "coordinator/prefix.h"
#include "coordinator/slots.h"
#include "coordinator/fair.h"
#include "coordinator/pace.h"
#include "coordinator/turns.h"
#include "model/embed.h"
#include "net/star.h"
#include "worker/group.h"
#include "scheduler/prefill.h"
#include "worker/split.h"
#include "worker/step.h"

/* One request, from submit to on_end. Queued ones are in submit order. */
struct hth_task {
    uint64_t id;
    struct hth_request r;
    uint32_t *tokens; /* owned; the prompt, then what was generated */
    struct hth_sampler *sampler;
    struct hth_constraint *constraint; /* or NULL */
    struct hth_task *next;
    _Atomic bool cancelled;
    bool running;
    uint32_t seq;       /* its slot of the cache */
    uint32_t pos;       /* positions in the cache */
    uint32_t last_id;   /* the token to feed next, once the prompt is done */
    uint32_t need;      /* positions it has room for, in whole KV blocks */
    uint32_t feed;      /* tokens to feed before one is chosen: the prompt, and
                         * what it had generated when it was put back */
    uint32_t allot;     /* rows of its prompt in the step being built */
    uint64_t turn;      /* when it began, counted */
    double tag;         /* of the fair queue */
    uint32_t rows;      /* of it in the step under way */
    uint32_t row_first; /* of those rows */
    uint32_t want_first, wants;
    bool stepwise;  /* its prompt takes steps, as was chosen */
    double model_s; /* what the cost model alone thought; 0: not asked */
    uint64_t submitted_ns, started_ns, first_ns;
    uint64_t read0, stall0_ns; /* of rank 0's weights, at token 1 */
    struct hth_request_stats stats;
    uint64_t compute0_ns, reduce0_ns, sent0, received0;
};

#define HTH_LONG_EVERY 4u /* deal of rows: see hth_engine__allot */

enum hth_engine_state { HTH_ENGINE_IDLE, HTH_ENGINE_ATTACHED };

struct hth_engine {
    struct hth_engine_opts o;
    /* Made for the first grammar, by whoever needs it first. */
    _Atomic(struct hth_token_index *) index;
    pthread_t thread;
    bool started;

    pthread_mutex_t lock; /* guards what follows, up to the next comment */
    pthread_cond_t wake;
    enum hth_engine_state state;
    bool stop, detaching;
    bool ending;            /* requests are being ended, none is admitted */
    struct hth_err why;     /* of the detach */
    struct hth_task *tasks; /* queued and running, in order */
    uint32_t task_count;
    uint64_t next_id;
    struct hth_fair fair;

    /* Set by load and attach while the engine thread is idle. */
    struct hth_session *setup; /* of the rank; its source reads by it */
    struct hth_rank *rank;
    struct hth_embed *embed;
    struct hth_link *link[HTH_RANKS_MAX]; /* [ranks - 1] */
    uint32_t ranks;
    struct hth_star *star;
    struct hth_group group;

    /* The engine thread's own. */
    struct hth_slots *slots;   /* of the session */
    struct hth_prefix *prefix; /* of the session */
    struct hth_kept *kept;     /* of the session; NULL: no --kv-dir */
    uint32_t *kept_tokens;     /* [ctx_max], scratch; NULL without kept */
    uint32_t kept_tried[HTH_SLOTS_MAX]; /* tokens that were tried to save */
    struct hth_pace pace;
    _Atomic uint32_t running; /* tasks with a slot */
    uint64_t turns;
    struct hth_turns step_turns;
    uint64_t deals;           /* of rows to prompts */
    uint32_t decodes;         /* rows of the step that are no prompt */
    bool live[HTH_SLOTS_MAX]; /* a running task's */
    uint32_t
        positions_used; /* of kv_positions_max, promised to running tasks */
    struct hth_step_op op[HTH_STEP_OPS_MAX]; /* for the next step */
    uint32_t ops;
    _Atomic bool peers_short;
    /* As of the last step, for other threads. */
    _Atomic uint32_t cache_blocks, cache_used, cache_kept;
    _Atomic uint64_t cache_kept_positions;
    /* Of rank 0: compute, send, receive, wait, disk. */
    _Atomic uint64_t phase_ns[5];
    _Atomic uint64_t phase_steps, sent_bytes, received_bytes;
    _Atomic uint64_t step_since_ms; /* 0: between steps */
    _Atomic uint64_t read_tokens, found_tokens, made_tokens;
    struct hth_step step;
    float *x;         /* [rows_max][dim] */
    float *wanted;    /* [HTH_STEP_WANTS_MAX][dim] */
    float *logits;    /* [HTH_STEP_WANTS_MAX][share.vocab] */
    uint8_t *message; /* encoded step */
    uint8_t *result[HTH_RANKS_MAX];
    struct hth_candidate *candidate; /* [vocab] */
    float *row_logits;               /* [vocab] */
    /* engine_split.c */
    struct hth_split *split; /* the rank's; NULL: prompts are not spread */
    struct hth_prefill_net net;
    struct hth_prefill_load load;
    struct hth_split_rates rate[HTH_RANKS_MAX]; /* the load's are levelled */
    bool predicts; /* the load's numbers are known */
    struct hth_split_rates rate_before[HTH_RANKS_MAX]; /* the last change */
    bool rates_new;     /* no prompt was dealt by them yet */
    bool rates_settled; /* what was learnt did no good: they stay */
    struct hth_prefill_memory prefills;
    uint32_t told;     /* a bit per mode that once was too much for a rank */
    bool past_new;     /* more was learnt than is on disk */
    uint64_t saved_ms; /* when it was last written */
    struct hth_task *split_task; /* under the lock: whose job runs */
};

/* engine.c */
void hth_engine__end_task(struct hth_engine *e, struct hth_task *t, int status,
                          const struct hth_err *err);
int hth_engine__alloc_step(struct hth_engine *e, struct hth_err *err);
void hth_engine__free_step(struct hth_engine *e);

/* engine_queue.c: the list as the engine's thread walks it. Appending never
 * moves a task, so the next pointer is read under the lock and the task itself
 * is the engine thread's. */
struct hth_task *hth_engine__head(struct hth_engine *e);
struct hth_task *hth_engine__after(struct hth_engine *e, struct hth_task *t);
/* End what is cancelled or too late, make room, start whose turn it is. */
void hth_engine__admit(struct hth_engine *e);
/* Positions to reserve for a request as it is now. */
uint32_t hth_engine__need(const struct hth_engine *e, const struct hth_task *t);
/* Deal out the rows that prompts get beside `decodes` decode rows. */
void hth_engine__allot(struct hth_engine *e, uint32_t decodes);

/* engine_cache.c */
int hth_engine__cache_open(struct hth_engine *e, struct hth_err *err);
void hth_engine__cache_close(struct hth_engine *e);
void hth_engine__cache_clear(struct hth_engine *e);
void hth_engine__cache_publish(struct hth_engine *e);
/* Before a step: while memory is short, what is kept for later goes, one
 * sequence at a time, on all ranks. */
void hth_engine__cache_ease(struct hth_engine *e);
/* Give a request a slot, with what is known of its prompt: sets seq and pos.
 * False: it must wait for others to end. */
bool hth_engine__place(struct hth_engine *e, struct hth_task *t);
/* Room for n more rows of it, on every rank. */
int hth_engine__grow(struct hth_engine *e, struct hth_task *t, uint32_t n,
                     struct hth_err *err);
/* All of the prompt is computed: others can use it from now on. */
void hth_engine__prompt_done(struct hth_engine *e, struct hth_task *t);
/* A placed request ends; what it computed may be kept. */
void hth_engine__leave(struct hth_engine *e, struct hth_task *t);

/* An empty slot with room for so many positions, dropping what is kept;
 * HTH_SLOT_NONE: there is none. */
uint32_t hth_engine__take(struct hth_engine *e, uint32_t positions);
void hth_engine__drop(struct hth_engine *e, uint32_t slot);

/* engine_kept.c */
int hth_engine__kept_open(struct hth_engine *e, struct hth_err *err);
void hth_engine__kept_close(struct hth_engine *e);
/* Write one context, where there is one to write. */
void hth_engine__kept_save(struct hth_engine *e);
/* Have what is on disk of a request's prompt read into the cache, where it is
 * more than is cached. */
void hth_engine__kept_find(struct hth_engine *e, const struct hth_context *c,
                           uint32_t cached);

/* engine_step.c: admit what fits, run one step, deliver. An error means that
 * the group of ranks is broken. */
int hth_engine__step(struct hth_engine *e, struct hth_err *err);
/* Get to know the ranks' rates and links. */
int hth_engine__split_meet(struct hth_engine *e, struct hth_err *err);
/* A session in which all prompts take steps. */
void hth_engine__split_none(struct hth_engine *e);
/* The load's devices and links, from e->rate and rank 0's links in e->net. */
void hth_engine__split_rates(struct hth_engine *e);
/* engine_past.c: take over what is remembered of these devices, if they are as
 * they were. Remember what was learnt, at once or every few seconds. */
bool hth_engine__past_open(struct hth_engine *e);
void hth_engine__past_save(struct hth_engine *e, bool at_once);
/* A request whose prompt is to be spread over the ranks now, chosen and
 * predicted; NULL: none. One that cannot be run as asked for ends here. */
struct hth_task *hth_engine__split_due(struct hth_engine *e,
                                       struct hth_prefill_choice *choice);
/* Run its prompt. An error means that the group of ranks is broken. */
int hth_engine__split_run(struct hth_engine *e, struct hth_task *t,
                          const struct hth_prefill_choice *choice,
                          struct hth_err *err);
/* What a prompt took, for the next choice; spread NULL: in steps. */
void hth_engine__split_learn(struct hth_engine *e, const struct hth_task *t,
                             const struct hth_spread *spread);
/* engine_prompt.c: note and log how a prompt went that was spread, its time
 * already noted; that took steps. */
void hth_engine__prompt_spread(struct hth_engine *e, struct hth_task *t,
                               const struct hth_prefill_choice *choice);
void hth_engine__prompt_stepped(struct hth_engine *e, struct hth_task *t);
/* engine_step.c, for it: ops to all ranks without rows; all logits of the
 * prompt's last token, or a token, from e->logits and e->result. */
int hth_engine__send_ops(struct hth_engine *e, struct hth_err *err);
int hth_engine__deliver_last(struct hth_engine *e, struct hth_task *t,
                             bool *more, struct hth_err *err);
uint32_t hth_engine__candidates(const struct hth_task *t);
/* Payload bytes over all links so far. */
void hth_engine__traffic(const struct hth_engine *e, uint64_t *sent,
                         uint64_t *received);

#endif
