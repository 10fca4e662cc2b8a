/* split.h - a rank's part in prompts that are spread over ranks: whole layers,
 * links to other workers, and the course of a job.
 *
 * Rank 0 sends every rank a JOB over the data links, and the rows of its
 * tokens; then each runs model/seqpar.h over its rows while worker/peer_link.h
 * moves keys and values. Whoever has the last token sends its hidden state to
 * all; each returns the candidates of its vocabulary rows, so the first token
 * is chosen while repair is still under way. A rank that is through (or cannot
 * go on) says DONE, with its times; when all have, rank 0 says END, and the
 * links are those of steps again. To cancel, rank 0 says STOP, and waits for
 * DONE all the same: nobody is left in the middle of a message.
 *
 * Threads: one per rank, except hth_split_cancel(). Failure: what a rank cannot
 * do fails the job on all ranks with its sentence; a lost link fails the
 * session, as in a step. */
#ifndef HTH_WORKER_SPLIT_H
#define HTH_WORKER_SPLIT_H

#include "model/sampler.h"
#include "net/link.h"
#include "worker/mesh.h"
#include "worker/split_msg.h"
#include "worker/whole.h"

struct hth_session;
struct hth_split;

struct hth_split_opts {
    const struct hth_session *session; /* borrowed for life */
    struct hth_forward *forward;       /* of steps; borrowed */
    struct hth_pool *pool;             /* borrowed */
    struct hth_loader *loader; /* of the steps' weights; borrowed: it lends the
                                * memory that a prompt takes */
    struct hth_weight_source source; /* of whole layers */
    const char *dir;                 /* and their packed files: whole.h */
    const uint8_t *key;
    uint64_t budget_bytes; /* for all weights, and prompts; 0: no bound */
    /* Workers: to link with each other. identity NULL: by rank 0 only. */
    const struct hth_identity *identity;
    const char *name;
};

/* Loads whole layers where there is memory to keep them; else they pass by
 * while a prompt runs, in memory that the steps' weights lend. */
HTH_MUST_CHECK int hth_split_open(struct hth_split **out,
                                  const struct hth_split_opts *opts,
                                  struct hth_err *err);
void hth_split_close(struct hth_split *s); /* NULL is fine */

/* Use these links: rank 0: links[r] to rank r; others: links[0]. They outlive
 * the next detach. */
void hth_split_attach(struct hth_split *s, struct hth_link *const *links);
/* Before the links are closed. */
void hth_split_detach(struct hth_split *s);
/* Any thread: end links between workers; the rank is to stop. */
void hth_split_shutdown(struct hth_split *s);

/* Workers: obey a message whose kind is none of a step's. */
HTH_MUST_CHECK int hth_split_obey(struct hth_split *s, const uint8_t *src,
                                  size_t n, struct hth_err *err);

/* ---- rank 0 ----------------------------------------------------------------
 */

struct hth_split_pair {
    double alpha_s, bytes_per_s;
    bool direct;
};
/* What the ranks say of themselves; of pairs, what rank 0 measured of its own
 * links, and who has a direct one; after meet. */
struct hth_split_view {
    struct hth_split_rates rates[HTH_RANKS_MAX]; /* all measured at once */
    struct hth_split_pair pair[HTH_RANKS_MAX][HTH_RANKS_MAX];
};
/* Get to know the others: rates, addresses, links between them. Blocks for
 * some seconds at most. */
HTH_MUST_CHECK int hth_split_meet(struct hth_split *s, struct hth_err *err);
bool hth_split_is_met(const struct hth_split *s);
const struct hth_split_view *hth_split_view(const struct hth_split *s);

struct hth_split_prompt {
    struct hth_split_job job; /* job.job is set here */
    const uint8_t *rows; /* [count][row bytes] as in the model file, of the new
                          * tokens in their order; borrowed until finish */
    const _Atomic bool *cancelled; /* a cancel that came before the run */
};
/* Run a prompt until the last token's results are there. HTH_ECANCELLED and
 * what ranks could not do: the job is over on all of them, finish is to be
 * called all the same and tells whether the links still stand. */
HTH_MUST_CHECK int hth_split_run(struct hth_split *s,
                                 const struct hth_split_prompt *prompt,
                                 struct hth_err *err);
/* After a good run with job.wants: a rank's RESULT, as in a step (step.h); rank
 * 0's own are its logits, [share.vocab]. */
const uint8_t *hth_split_result(const struct hth_split *s, uint32_t rank);
const float *hth_split_logits(const struct hth_split *s);
/* Wait until all ranks are through. Fails only when the links have. */
HTH_MUST_CHECK int hth_split_finish(struct hth_split *s, struct hth_err *err);
/* Any thread: end the job under way. */
void hth_split_cancel(struct hth_split *s);
/* What each rank said at the end of the last job; done[ranks]. */
const struct hth_split_done *hth_split_reports(const struct hth_split *s);
/* Memory beyond whole layers that a job takes on a rank. */
uint64_t hth_split_job_bytes(const struct hth_split *s,
                             const struct hth_split_job *job, uint32_t rank);

#endif
