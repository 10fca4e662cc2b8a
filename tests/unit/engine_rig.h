/* engine_rig.h - for tests: an engine, ranks on threads behind real sealed
 * links, and requests whose answers can be waited for. */
#ifndef HTH_TESTS_ENGINE_RIG_H
#define HTH_TESTS_ENGINE_RIG_H

#include <pthread.h>

#include "coordinator/engine.h"

#define TOKENS_MAX 128u

struct member {
    struct hth_session session;
    struct hth_gguf *g;
    struct hth_link *link;
    pthread_t thread;
    int status;
};

struct rig {
    struct hth_gguf *g;
    struct hth_tokenizer *tokenizer;
    struct hth_engine *e;
    struct member m[8];
    uint32_t ranks;
    uint32_t lost_rank;
    struct hth_err lost;
    uint64_t sent0;
};

struct answer {
    pthread_mutex_t lock;
    pthread_cond_t done_cond;
    uint32_t ids[TOKENS_MAX];
    uint32_t n;
    uint32_t stop_after; /* 0: never */
    bool done;
    int status;
    struct hth_err err;
    struct hth_request_stats stats;
};

/* What engines of rigs opened from here on are given. */
extern struct hth_engine_opts rig_opts;
/* How their prompts run: enum hth_prefill_mode. */
extern uint32_t rig_prefill;
/* Adapters' files, as many as there are: the engine and all ranks have them
 * under their indices. */
#define RIG_LORAS_MAX 4u
extern const char *rig_loras[RIG_LORAS_MAX];
extern uint32_t rig_rows_max; /* of a step */

/* A golden model over ranks with these shares; skips without vectors. */
void rig_open(struct rig *r, const char *model, const double *shares,
              uint32_t ranks);
void rig_close(struct rig *r);
void rig_session(struct rig *r, struct hth_session *s, const double *shares);
/* Bring the members up and attach: also used to bring them back. */
void rig_attach(struct rig *r, const struct hth_session *s);
void rig_join(struct rig *r); /* the members' threads have ended */
uint64_t rig_submit(struct rig *r, const struct hth_request *q);

void answer_init(struct answer *a);
/* Greedy, goes on after end tokens. */
struct hth_request answer_request(struct answer *a, const uint32_t *tokens,
                                  uint32_t count, uint32_t generate);
void answer_wait(struct answer *a);
void answer_wait_tokens(struct answer *a, uint32_t n); /* or the end */

#endif
