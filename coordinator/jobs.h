/* jobs.h - one thread that does the loop's blocking work, in order: hashing a
 * plan's blocks, loading rank 0, attaching and detaching the engine (which
 * asks for a single controlling thread). `done` runs on that thread. */
#ifndef HTH_COORDINATOR_JOBS_H
#define HTH_COORDINATOR_JOBS_H

#include <stdint.h>

#include "base/status.h"
#include "coordinator/engine.h"
#include "coordinator/loras.h"
#include "coordinator/weights.h"

enum hth_job_kind {
    HTH_JOB_HASH,   /* weights: prepare the plan of setup */
    HTH_JOB_LOAD,   /* engine: load setup */
    HTH_JOB_ATTACH, /* engine: attach links */
    HTH_JOB_DETACH, /* engine: detach with why */
    HTH_JOB_CUT,    /* adapters: cut for setup */
    HTH_JOB_ADAPT   /* adapters: place those of the list with this number, take
                     * away what is leaving */
};

#define HTH_JOBS_MAX 16u

struct hth_job {
    enum hth_job_kind kind;
    uint64_t session;
    struct hth_session *setup;            /* HASH, LOAD, CUT: owned */
    struct hth_link *link[HTH_RANKS_MAX]; /* ATTACH: owned by the job */
    uint32_t ranks;
    struct hth_err why; /* DETACH */
    uint64_t number;    /* ADAPT */
};

struct hth_jobs;

struct hth_jobs_opts {
    struct hth_engine *engine;   /* borrowed */
    struct hth_weights *weights; /* borrowed */
    struct hth_weights *whole;   /* borrowed; of whole layers */
    struct hth_loras *loras;     /* borrowed; NULL: no adapters */
    /* err->status is the result; the job's owned parts are gone. */
    void (*done)(void *ctx, const struct hth_job *job,
                 const struct hth_err *err);
    void *ctx;
};

HTH_MUST_CHECK int hth_jobs_start(struct hth_jobs **out,
                                  const struct hth_jobs_opts *opts,
                                  struct hth_err *err);
/* Give up what is queued, wait for the job under way. NULL is fine. */
void hth_jobs_stop(struct hth_jobs *j);
/* Queue a job; the loop never has more than HTH_JOBS_MAX under way. */
void hth_jobs_post(struct hth_jobs *j, const struct hth_job *job);

#endif
