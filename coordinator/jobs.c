/* jobs.c - a queue, a thread, six kinds of work. Fails a job by its status;
 * a full queue is our own bug. */
#include "coordinator/jobs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "scheduler/spread.h"

struct hth_jobs {
    struct hth_jobs_opts o;
    pthread_t thread;
    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t wake;
    struct hth_job queue[HTH_JOBS_MAX];
    uint32_t head, used;
    bool stop;
};

static void release(struct hth_job *job)
{
    uint32_t r;

    free(job->setup);
    job->setup = NULL;
    for (r = 0; r < HTH_RANKS_MAX; r++) {
        hth_link_close(job->link[r]);
        job->link[r] = NULL;
    }
}

/* The engine owns the links from attach on, whatever comes of it. */
static int attach(struct hth_jobs *j, struct hth_job *job, struct hth_err *err)
{
    int status;
    uint32_t r;

    status = hth_engine_attach(j->o.engine, job->link, job->ranks, err);
    for (r = 0; r < HTH_RANKS_MAX; r++)
        job->link[r] = NULL;
    return status;
}

/* Whole layers are the share of a rank that has everything. */
static int hash(struct hth_jobs *j, const struct hth_session *s,
                struct hth_err *err)
{
    static const double all[] = {0, 1};
    struct hth_shape shape;
    struct hth_plan plan;
    int rc = hth_weights_prepare(j->o.weights, &s->plan, err);

    if (rc == HTH_OK && j->o.loras != NULL)
        hth_loras_cut(j->o.loras, s);
    if (rc != HTH_OK || s->prefill == HTH_PREFILL_TP)
        return rc;
    hth_spec_shape(&s->spec, s->kv_type, &shape);
    rc = hth_plan_make(&shape, all, 2, &plan, err);
    return rc == HTH_OK ? hth_weights_prepare(j->o.whole, &plan, err) : rc;
}

static int run(struct hth_jobs *j, struct hth_job *job, struct hth_err *err)
{
    switch (job->kind) {
    case HTH_JOB_HASH:
        return hash(j, job->setup, err);
    case HTH_JOB_LOAD:
        return hth_engine_load(j->o.engine, job->setup, err);
    case HTH_JOB_ATTACH:
        return attach(j, job, err);
    case HTH_JOB_DETACH:
        hth_engine_detach(j->o.engine, &job->why);
        return HTH_OK;
    case HTH_JOB_CUT:
        hth_loras_cut(j->o.loras, job->setup);
        return HTH_OK;
    case HTH_JOB_ADAPT:
        hth_loras_place(j->o.loras, j->o.engine, job->number);
        hth_loras_reap(j->o.loras, j->o.engine);
        return HTH_OK;
    }
    return HTH_EINTERNAL;
}

static bool take(struct hth_jobs *j, struct hth_job *out)
{
    bool got;

    pthread_mutex_lock(&j->lock);
    while (j->used == 0 && !j->stop)
        pthread_cond_wait(&j->wake, &j->lock);
    got = !j->stop;
    if (got) {
        *out = j->queue[j->head];
        j->head = (j->head + 1) % HTH_JOBS_MAX;
        j->used--;
    }
    pthread_mutex_unlock(&j->lock);
    return got;
}

static void *jobs_main(void *arg)
{
    static const char *const names[] = {"hash",   "load", "attach",
                                        "detach", "cut",  "adapt"};
    struct hth_jobs *j = arg;
    struct hth_job job;
    struct hth_err err;
    uint64_t start;

    while (take(j, &job)) {
        err = (struct hth_err){0};
        start = hth_now_ms();
        err.status = run(j, &job, &err);
        hth_log(HTH_LOG_DEBUG, "JOB", "what=%s ms=%llu status=%s",
                names[job.kind], (unsigned long long)(hth_now_ms() - start),
                hth_status_name(err.status));
        release(&job);
        j->o.done(j->o.ctx, &job, &err);
    }
    return NULL;
}

int hth_jobs_start(struct hth_jobs **out, const struct hth_jobs_opts *opts,
                   struct hth_err *err)
{
    struct hth_jobs *j = calloc(1, sizeof *j);

    if (j == NULL)
        return hth_fail(err, HTH_ENOMEM, "jobs: out of memory");
    j->o = *opts;
    pthread_mutex_init(&j->lock, NULL);
    pthread_cond_init(&j->wake, NULL);
    if (pthread_create(&j->thread, NULL, jobs_main, j) != 0) {
        free(j);
        return hth_fail(err, HTH_ENOMEM, "cannot start a thread");
    }
    *out = j;
    return HTH_OK;
}

void hth_jobs_stop(struct hth_jobs *j)
{
    if (j == NULL)
        return;
    pthread_mutex_lock(&j->lock);
    j->stop = true;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
    pthread_join(j->thread, NULL);
    while (j->used > 0) {
        release(&j->queue[j->head]);
        j->head = (j->head + 1) % HTH_JOBS_MAX;
        j->used--;
    }
    pthread_cond_destroy(&j->wake);
    pthread_mutex_destroy(&j->lock);
    free(j);
}

void hth_jobs_post(struct hth_jobs *j, const struct hth_job *job)
{
    pthread_mutex_lock(&j->lock);
    HTH_ASSERT(j->used < HTH_JOBS_MAX);
    j->queue[(j->head + j->used) % HTH_JOBS_MAX] = *job;
    j->used++;
    pthread_cond_signal(&j->wake);
    pthread_mutex_unlock(&j->lock);
}
