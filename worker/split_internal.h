/* split_internal.h - what split.c (a rank's job), split_meet.c (getting to know
 * each other) and split_lead.c (rank 0's side) share. */
#ifndef HTH_WORKER_SPLIT_INTERNAL_H
#define HTH_WORKER_SPLIT_INTERNAL_H

#include <pthread.h>

#include "model/seqpar.h"
#include "worker/peer_link.h"
#include "worker/rank.h"
#include "worker/split.h"

/* One job on one rank. Messages that stay are here, for they outlive the
 * memory of the prompt. */
struct hth__job {
    struct hth_split_job j;
    struct hth_seqpar *par;
    uint32_t rows;  /* own */
    uint32_t owner; /* of the last token */
    uint8_t *embed; /* [rows][row bytes]; rank 0: all ranks' */
    float *x;       /* [rows][dim] */
    struct hth_peer_msg *embed_msg;
    uint32_t embed_msgs;
    hth_peer_count embed_done;
    float *hidden; /* [dim] */
    float *logits; /* [share.vocab] */
    uint8_t *result[HTH_RANKS_MAX];
    struct hth_peer_msg hidden_msg[HTH_RANKS_MAX], result_msg[HTH_RANKS_MAX];
    hth_peer_count hidden_done, results_done;
    struct hth_peer_msg stop[HTH_RANKS_MAX], end[HTH_RANKS_MAX],
        done[HTH_RANKS_MAX];
    uint8_t done_bytes[HTH_RANKS_MAX][HTH_SPLIT_DONE_BYTES];
    hth_peer_count ends, dones;
    struct hth_err err; /* status 0: all is well */
    bool open;          /* between run and finish */
    bool told;          /* the others know of it */
};

struct hth_split {
    struct hth_split_opts o;
    const struct hth_session *session;
    uint32_t rank, ranks;
    struct hth_whole *whole;
    bool keeps;          /* there is memory to keep whole layers */
    bool all;            /* they are all there now */
    bool has_room;       /* memory is lent for a prompt */
    uint64_t waited0_ns; /* for weights, before this job */
    struct hth_split_rates rates;
    struct hth_mesh *mesh;
    struct hth_link *link[HTH_RANKS_MAX];
    struct hth_peer_links *links; /* from the meeting on */
    bool met;
    struct hth__job job;
    /* rank 0 */
    uint32_t jobs;
    struct hth_split_view view;
    struct hth_split_done report[HTH_RANKS_MAX];
    struct hth_buf buf;
    pthread_mutex_t lock; /* guards cancelling against closing */
    bool running;         /* a job may be cancelled */
};

/* split.c */
size_t hth__split_result_bytes(const struct hth_split *s, uint32_t rank);
HTH_MUST_CHECK int hth__job_begin(struct hth_split *s, struct hth_err *err);
HTH_MUST_CHECK int hth__job_compute(struct hth_split *s, struct hth_err *err);
void hth__job_close(struct hth_split *s);
void hth__job_report(struct hth_split *s, int status, const struct hth_err *err,
                     struct hth_split_done *out);
struct hth_seqpar_opts hth__par_opts(const struct hth_split *s,
                                     const struct hth_split_job *job,
                                     uint32_t rank);
size_t hth__embed_row_bytes(const struct hth_split *s,
                            const struct hth_split_job *job);
/* split_room.c */
/* See what whole layers there can be, and load them where they are to stay. */
HTH_MUST_CHECK int hth__split_load(struct hth_split *s, struct hth_err *err);
/* Have whole layers begin, and `bytes` of memory beside them. HTH_EOVERFLOW
 * says how much is wanted. */
HTH_MUST_CHECK int hth__split_take_room(struct hth_split *s, uint64_t bytes,
                                        struct hth_err *err);
void hth__split_give_room(struct hth_split *s);
/* The most memory that can be had for a prompt beside its weights; UINT64_MAX:
 * there is no bound. */
uint64_t hth__split_room(const struct hth_split *s);
/* split_meet.c */
HTH_MUST_CHECK int hth__split_measure(struct hth_split *s, struct hth_err *err);
HTH_MUST_CHECK int hth__split_open_links(struct hth_split *s,
                                         struct hth_err *err);

#endif
