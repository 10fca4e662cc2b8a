/* cluster_internal.h - the coordinator's state, as cluster*.c see it.
 *
 * Threads and what they may touch:
 *   loop      everything below that is not said to be shared
 *   control   (NNG's threads) the inbox
 *   listener  the inbox, the gate
 *   engine    the inbox; requests' events
 *   jobs      blocking work for the loop, one at a time: hashing, loading,
 *             attaching, detaching; results come back by the inbox
 *   callers   of cluster.h: the inbox, `shown`, pairing, the engine's submit
 * Lock order: none is ever taken inside another. */
#ifndef HTH_COORDINATOR_CLUSTER_INTERNAL_H
#define HTH_COORDINATOR_CLUSTER_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#include "coordinator/api.h"
#include "coordinator/cluster.h"
#include "coordinator/engine.h"
#include "coordinator/formation.h"
#include "coordinator/jobs.h"
#include "coordinator/local_socket.h"
#include "coordinator/members.h"
#include "coordinator/requests.h"
#include "coordinator/weights.h"
#include "net/admission.h"
#include "net/control.h"
#include "net/listen.h"
#include "net/pairing.h"
#include "net/registry.h"
#include "worker/probe.h"

/* ---- the inbox: what other threads tell the loop --------------------------
 */

enum note_kind {
    NOTE_CALL,   /* call: a control request */
    NOTE_GONE,   /* pipe: a control connection ended */
    NOTE_LINK,   /* link: a data link was opened to us */
    NOTE_LOST,   /* rank, err: the engine lost a link */
    NOTE_PAIRED, /* a device was paired */
    NOTE_JOB,    /* job, err: a job is done */
    NOTE_STOP
};

struct note {
    enum note_kind kind;
    struct hth_control_call *call;
    struct hth_link *link;
    uint32_t pipe, rank;
    struct hth_job job;
    struct hth_err err;
};

#define NOTES_MAX (HTH_CONTROL_CONTEXTS + 2u * HTH_CONTROL_PIPES_MAX + 256u)

struct inbox {
    pthread_mutex_t lock;
    struct note *v; /* [NOTES_MAX], a ring */
    uint32_t head, used;
    bool closed;
};

/* ---- control connections ---------------------------------------------------
 */

enum pipe_state { PIPE_NEW, PIPE_GREETED, PIPE_MEMBER, PIPE_CLIENT, PIPE_OUT };

struct pipe {
    uint32_t id; /* 0: free */
    enum pipe_state state;
    uint64_t since_ms;
    struct hth_admission *admission; /* GREETED; owned */
    int member;                      /* MEMBER */
    struct hth_err out;              /* OUT: why it is not served */
};

/* ---- the session -----------------------------------------------------------
 */

enum session_state {
    SESSION_NONE,
    SESSION_HASHING,   /* job: manifests */
    SESSION_LOADING,   /* workers and rank 0 load, links come in */
    SESSION_ATTACHING, /* job */
    SESSION_READY,
    SESSION_DETACHING /* job; LOADING afterwards, or NONE to form anew */
};

struct session {
    enum session_state state;
    bool dissolve; /* after DETACHING: NONE */
    bool stale;    /* while ATTACHING: somebody was lost meanwhile */
    uint32_t ranks;
    int member[HTH_RANKS_MAX]; /* [0] unused */
    double share[HTH_RANKS_MAX];
    struct hth_session setup; /* of rank 0 */
    bool loaded;              /* rank 0 has its weights */
    uint64_t formed_ms;
    struct hth_link *link[HTH_RANKS_MAX];   /* waiting to be attached; owned */
    uint64_t stale_since_ms[HTH_RANKS_MAX]; /* says READY, has no link */
};

/* What the listener's thread may know of the session. */
struct gate {
    pthread_mutex_t lock;
    uint64_t session; /* 0: nobody is admitted */
    uint32_t ranks;
    char device[HTH_RANKS_MAX][HTH_DEVICE_ID_SIZE];
};

/* What callers may know: copied here by the loop at the end of each turn. */
struct shown {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool ready;
    struct hth_err failed;  /* status 0: not */
    struct hth_err problem; /* WAIT with a cause that waiting will not cure */
    char waiting[HTH_ERR_TEXT_MAX];
    struct hth_buf nodes; /* NODES message, encoded */
    uint64_t plan;        /* changes with the plan */
    uint64_t lost;        /* times a device of the session was */
};

/* Adapters on their way to the devices (cluster_lora.c). */
struct lora_state {
    bool job;           /* one is under way */
    uint64_t told;      /* number of the list that members were told of */
    uint64_t placed;    /* number of the list that all have ... */
    uint64_t placed_in; /* ... in this session */
    uint64_t reaped_ms;
};

struct parked {
    struct hth_control_call *call; /* a NEXT */
    uint64_t seen;
    uint64_t until_ms;
};

struct hth_cluster {
    struct hth_cluster_opts opts; /* texts copied below */
    char *model_path, *bind, *state_dir;
    char name[HTH_NAME_MAX];
    char url[HTH_LOCAL_URL_MAX];
    char inproc_url[64];
    uint16_t port;
    int lock_fd;
    struct hth_probe probe;
    uint32_t threads;
    uint64_t memory_bytes;
    char packed_dir[PATH_MAX]; /* empty: nowhere to stream weights from */
    char past_dir[PATH_MAX];   /* empty: nothing is remembered of prompts */
    uint32_t ctx;

    struct hth_gguf *gguf;
    struct hth_spec spec;
    struct hth_shape shape;
    struct hth_tokenizer *tokenizer;
    struct hth_chat *chat;         /* NULL without a tokenizer */
    struct hth_identity *identity; /* NULL when offline, as the next four */
    struct hth_ca *ca;
    struct hth_registry *registry;
    struct hth_pairing *pairing;
    struct hth_listener *listener;
    struct hth_control_server *control;
    struct hth_engine *engine;
    struct hth_weights *weights;
    struct hth_weights *whole; /* whole layers: rank 1 of a plan of its own */
    struct hth_requests *requests;
    struct hth_jobs *jobs;
    struct hth_loras *loras; /* NULL: no adapters, ever */
    struct hth_api *api;     /* NULL: no HTTP */
    struct hth_cluster_http http;
    char model_name[HTH_NAME_MAX * 4];
    bool was_lost[HTH_DEVICES_MAX]; /* by member, as last published */

    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t timer;
    bool loop_made;
    pthread_t thread;
    bool running;
    atomic_bool stop; /* also ends hashing */
    atomic_bool ending;
    bool stopping;    /* the loop's own */
    atomic_uint busy; /* logits being computed for callers */

    struct inbox inbox;
    struct gate gate;
    struct shown shown;

    /* The loop's own. */
    struct hth_members members;
    struct parked next[HTH_DEVICES_MAX]; /* by member */
    struct pipe pipe[HTH_CONTROL_PIPES_MAX];
    struct hth_formation_rule rule;
    struct session session;
    char waiting[HTH_ERR_TEXT_MAX]; /* "" when ready */
    struct hth_err problem;
    uint64_t started_ms, retry_ms; /* no forming before retry_ms */
    uint64_t turned_ms;            /* the loop's last turn; 0: none yet */
    struct lora_state lora;
    uint64_t shown_ms;              /* of progress */
    uint32_t drawn;                 /* lines of progress on the terminal */
    uint32_t decile[HTH_RANKS_MAX]; /* of progress shown */
};

/* cluster_open.c: have the loop look at everything. Any thread. */
void hth__cluster_wake(void *arg);
/* cluster.c: hand a note to the loop; false: it could not be taken. */
bool hth__cluster_post(struct hth_cluster *c, const struct note *n);

/* cluster_calls.c: the engine has nothing to do, whoever asked. */
bool hth__cluster_idle(struct hth_cluster *c);

/* cluster_calls.c: one control request; takes the call. */
void hth__cluster_call(struct hth_cluster *c, struct hth_control_call *call);
void hth__cluster_gone(struct hth_cluster *c, uint32_t pipe);
/* Answer long polls that are due, cut connections that never said hello. */
void hth__cluster_calls_tick(struct hth_cluster *c, uint64_t now_ms);
/* Answer every parked long poll now; no more are parked after it. */
void hth__cluster_calls_stop(struct hth_cluster *c);
void hth__cluster_know_devices(struct hth_cluster *c);

/* cluster_session.c */
void hth__session_tick(struct hth_cluster *c, uint64_t now_ms);
void hth__session_job_done(struct hth_cluster *c, const struct hth_job *job,
                           const struct hth_err *err);
void hth__session_link(struct hth_cluster *c, struct hth_link *link);
/* A member of the session is lost or left: stop serving over its link. */
void hth__session_member_lost(struct hth_cluster *c, int member,
                              const struct hth_err *why);
void hth__session_engine_lost(struct hth_cluster *c, uint32_t rank,
                              const struct hth_err *why);
/* Rank of a member in the session, or -1. */
int hth__session_rank(const struct hth_cluster *c, int member);
void hth__session_close(struct hth_cluster *c);
int hth__session_admit(void *ctx, const struct hth_link_peer *peer,
                       struct hth_err *err);

/* cluster_session.c: a job about the session as it is. */
void hth__session_job(struct hth_cluster *c, enum hth_job_kind kind,
                      uint64_t number);

/* cluster_lora.c */
int hth__lora_open(struct hth_cluster *c, struct hth_err *err);
void hth__lora_tick(struct hth_cluster *c, uint64_t now_ms);
void hth__lora_job_done(struct hth_cluster *c, const struct hth_job *job);
/* All devices have the adapters of this session. */
bool hth__lora_settled(struct hth_cluster *c);

/* cluster_http.c: the HTTP service; what it may know is published by the loop
 * at the end of each turn, with `shown` locked. */
int hth__cluster_http_open(struct hth_cluster *c, struct hth_err *err);
void hth__cluster_http_publish(struct hth_cluster *c);
void hth__cluster_delivered(void *ctx);

/* cluster_show.c: lines about transfers; `waiting` for callers. */
void hth__cluster_show(struct hth_cluster *c, uint64_t now_ms);
void hth__cluster_nodes(struct hth_cluster *c, struct hth_msg_nodes *out,
                        struct hth_buf *list);

#endif
