/* rank.c - a rank's weights in memory and its loop over steps. A failing link
 * or a message that does not fit ends the serving, never the process. */
#include "worker/rank.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/cores.h"
#include "base/log.h"
#include "base/mem.h"
#include "kernels/ops.h"
#include "model/unpacked.h"
#include "worker/group.h"
#include "worker/memory.h"
#include "worker/split.h"
#include "worker/kv_file.h"
#include "worker/pressure.h"
#include "worker/step.h"

struct hth_rank {
    struct hth_session session;
    struct hth_pool *pool;
    struct hth_forward *forward;
    struct hth_loader *loader;
    char *kv_dir;                  /* NULL: contexts are not kept */
    struct hth_pressure *pressure; /* NULL: without a budget */
    uint64_t weight_bytes;
    struct hth_split *split;       /* NULL: prompts are not spread here */
    struct hth_adapters *adapters; /* NULL: the session has none */
    bool broken;                   /* weights failed a step */
    uint64_t told_ns;              /* when streaming was last logged */
    struct hth_loader_stats told;
    uint64_t told_steps, told_compute_ns;
    uint64_t noted_reduce_ns; /* at the last hth_rank_note() */
    /* Buffers of the serving loop, made at open. */
    struct hth_step step;
    uint8_t *message;
    size_t message_max;
    float *x;      /* [rows_max][dim] */
    float *wanted; /* [HTH_STEP_WANTS_MAX][dim] */
    float *logits; /* [HTH_STEP_WANTS_MAX][share.vocab] */
    uint8_t *result;
    /* Snapshot for other threads. */
    _Atomic uint64_t steps, rows, compute_ns, disk_ns;
    _Atomic uint64_t send_ns, receive_ns, wait_ns; /* together: of sums */
    _Atomic uint64_t kv_bytes, sent_bytes, received_bytes;
};

static const struct hth_share *my_share(const struct hth_rank *r)
{
    return &r->session.plan.share[r->session.rank];
}

/* ---- loading ----------------------------------------------------------------
 */

static int alloc_buffers(struct hth_rank *r, struct hth_err *err)
{
    const struct hth_session *s = &r->session;
    struct hth_step_bounds b = {s->spec.dim, s->rows_max, s->ctx_max};
    size_t vocab = my_share(r)->vocab;
    size_t wants = HTH_STEP_WANTS_MAX;

    r->message_max = hth_step_bytes_max(&b);
    if (r->message_max < HTH_SPLIT_BYTES_MAX)
        r->message_max = HTH_SPLIT_BYTES_MAX;
    r->message = hth_mem_alloc(r->message_max);
    r->x = hth_mem_alloc((size_t)s->rows_max * s->spec.dim * 4);
    r->wanted = hth_mem_alloc(wants * s->spec.dim * 4);
    r->logits = hth_mem_alloc(wants * vocab * 4);
    r->result =
        hth_mem_alloc(wants * vocab * 4 + wants * HTH_CANDIDATES_MAX * 8);
    if (r->message == NULL || r->x == NULL || r->wanted == NULL ||
        r->logits == NULL || r->result == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for the step's buffers");
    return HTH_OK;
}

#define UNPACKED_MAX 8u /* types that a line is written for */

/* No slower way without a word. */
static void tell_unpacked(const struct hth_rank *r)
{
    struct hth_unpacked u[UNPACKED_MAX];
    uint32_t n = hth_unpacked_find(&r->session.spec, &r->session.plan,
                                   r->session.rank, u, UNPACKED_MAX);

    for (uint32_t i = 0; i < n; i++)
        hth_log(HTH_LOG_NOTICE, "NOT-PACKED",
                "rank=%u type=%s matrices=%u mib=%llu first=%s: these have no "
                "packed layout and are computed row by row, which is slower "
                "(docs/kernels.md)",
                r->session.rank, hth_type_info(u[i].type)->name, u[i].matrices,
                (unsigned long long)(u[i].bytes >> 20), u[i].first);
}

/* Fails before anything is allocated when the share cannot run, with numbers:
 * "killed" is no error message. */
static int open_loader(struct hth_rank *r, const struct hth_rank_opts *o,
                       struct hth_err *err)
{
    struct hth_loader_opts l = {.spec = &r->session.spec,
                                .plan = &r->session.plan,
                                .rank = r->session.rank,
                                .source = o->source,
                                .dir = o->dir,
                                .key = o->key};
    int rc = hth_memory_for_weights(&r->session, o->memory_bytes,
                                    &l.budget_bytes, err);

    if (rc == HTH_OK)
        rc = hth_loader_open(&r->loader, &l, err);
    if (rc == HTH_EOVERFLOW)
        hth_fail_prefix(err, rc, "this share does not fit %llu MiB of memory",
                        (unsigned long long)(o->memory_bytes >> 20));
    if (rc != HTH_OK)
        return rc;
    hth_forward_source(r->forward, hth_loader_blocks(r->loader));
    tell_unpacked(r);
    if (o->memory_bytes != 0 && o->dir != NULL)
        rc = hth_pressure_start(&r->pressure, r->loader, l.budget_bytes, err);
    return rc;
}

static int open_split(struct hth_rank *r, const struct hth_rank_opts *o,
                      struct hth_err *err)
{
    struct hth_split_opts s = {.session = &r->session,
                               .forward = r->forward,
                               .pool = r->pool,
                               .loader = r->loader,
                               .source = o->whole,
                               .dir = o->whole_key != NULL ? o->dir : NULL,
                               .key = o->whole_key,
                               .identity = o->identity,
                               .name = o->name};
    int rc;

    if (r->session.prefill == HTH_PREFILL_TP || r->session.plan.ranks < 2)
        return HTH_OK;
    rc = hth_memory_for_weights(&r->session, o->memory_bytes, &s.budget_bytes,
                                err);
    return rc == HTH_OK ? hth_split_open(&r->split, &s, err) : rc;
}

/* Big and little cores begin with what the system says of them. */
static int open_pool(struct hth_rank *r, uint32_t threads, struct hth_err *err)
{
    struct hth_cores cores;
    int rc = hth_pool_start(&r->pool, threads, false, err);

    if (rc != HTH_OK)
        return rc;
    hth_cores_find(HTH_CORES_ROOT, &cores);
    hth_pool_guess(r->pool, cores.speed, cores.count);
    return HTH_OK;
}

static int open_parts(struct hth_rank *r, const struct hth_rank_opts *o,
                      struct hth_err *err)
{
    struct hth_forward_opts f = {.spec = &r->session.spec,
                                 .plan = &r->session.plan,
                                 .rank = r->session.rank,
                                 .rows_max = r->session.rows_max,
                                 .kv_type = r->session.kv_type,
                                 .ctx_max = r->session.ctx_max,
                                 .lora = r->session.lora_bytes > 0};
    int rc = hth_isa_init(err);

    if (rc == HTH_OK)
        rc = open_pool(r, o->threads, err);
    if (rc != HTH_OK)
        return rc;
    f.pool = r->pool;
    rc = hth_forward_open(&r->forward, &f, err);
    if (rc == HTH_OK)
        rc = alloc_buffers(r, err);
    if (rc == HTH_OK)
        rc = open_loader(r, o, err);
    if (rc == HTH_OK)
        rc = open_split(r, o, err);
    if (rc == HTH_OK && r->session.lora_bytes > 0)
        rc = hth_adapters_open(&r->adapters,
                               &(struct hth_lora_place){&r->session.spec,
                                                        &r->session.plan,
                                                        r->session.rank},
                               r->session.lora_bytes, err);
    return rc;
}

int hth_rank_open(struct hth_rank **out, const struct hth_rank_opts *o,
                  struct hth_err *err)
{
    struct hth_rank *r = calloc(1, sizeof *r);
    int rc;

    if (r == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a rank");
    r->session = *o->session;
    r->weight_bytes =
        hth_shard_bytes(&r->session.spec, &r->session.plan, r->session.rank);
    if (o->kv_dir != NULL)
        r->kv_dir = strdup(o->kv_dir);
    rc = o->kv_dir != NULL && r->kv_dir == NULL
             ? hth_fail(err, HTH_ENOMEM, "no memory for a rank")
             : open_parts(r, o, err);
    if (rc != HTH_OK) {
        hth_rank_close(r);
        return rc;
    }
    *out = r;
    return HTH_OK;
}

void hth_rank_close(struct hth_rank *r)
{
    if (r == NULL)
        return;
    hth_split_close(r->split);
    hth_adapters_close(r->adapters);
    hth_forward_close(r->forward);
    hth_pool_stop(r->pool);
    hth_pressure_stop(r->pressure);
    hth_loader_close(r->loader);
    hth_mem_free(r->message);
    hth_mem_free(r->x);
    hth_mem_free(r->wanted);
    hth_mem_free(r->logits);
    hth_mem_free(r->result);
    free(r->kv_dir);
    free(r);
}

struct hth_forward *hth_rank_forward(struct hth_rank *r)
{
    return r->forward;
}

struct hth_pool *hth_rank_pool(struct hth_rank *r)
{
    return r->pool;
}

struct hth_loader *hth_rank_loader(struct hth_rank *r)
{
    return r->loader;
}

bool hth_rank_broken(const struct hth_rank *r)
{
    return r->broken;
}

struct hth_split *hth_rank_split(struct hth_rank *r)
{
    return r->split;
}

struct hth_adapters *hth_rank_adapters(struct hth_rank *r)
{
    return r->adapters;
}

void hth_rank_shutdown(struct hth_rank *r)
{
    if (r->split != NULL)
        hth_split_shutdown(r->split);
}

const struct hth_session *hth_rank_session(const struct hth_rank *r)
{
    return &r->session;
}

/* ---- the KV cache -------------------------------------------------------- */

static int on_disk(struct hth_rank *r, const struct hth_step_op *op,
                   struct hth_err *err)
{
    struct hth_kv *kv = hth_forward_kv(r->forward);
    struct hth_kv_file f = {.key = op->key,
                            .rank = r->session.rank,
                            .layers = r->session.spec.layers,
                            .heads = my_share(r)->kvs,
                            .head_dim = r->session.spec.head_dim,
                            .type = r->session.kv_type,
                            .positions = op->positions};

    if (r->kv_dir == NULL)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "this device keeps no contexts: it has no --kv-dir");
    if (op->kind == HTH_OP_LOAD) {
        hth_kv_truncate(kv, op->slot, 0);
        return hth_kv_file_load(kv, op->slot, &f, r->kv_dir, err);
    }
    if (f.heads > 0 && hth_kv_positions(kv, op->slot) < op->positions)
        return hth_fail(err, HTH_EPROTO,
                        "a context of %u positions has %u in the cache",
                        op->positions, hth_kv_positions(kv, op->slot));
    return hth_kv_file_save(kv, op->slot, &f, r->kv_dir, err);
}

static int adapt(struct hth_rank *r, const struct hth_step_op *op,
                 struct hth_err *err)
{
    uint32_t bits = (uint32_t)op->key;
    float scale;

    memcpy(&scale, &bits, sizeof scale);
    if (op->from != HTH_LORA_NONE)
        return hth_adapters_use(r->adapters, op->slot, op->from, scale, err);
    hth_adapters_unuse(r->adapters, op->slot);
    return HTH_OK;
}

int hth_rank_op(struct hth_rank *r, const struct hth_step_op *op,
                struct hth_err *err)
{
    struct hth_kv *kv = hth_forward_kv(r->forward);

    if (op->kind == HTH_OP_ADAPT)
        return adapt(r, op, err);
    if (op->kind == HTH_OP_CUT) {
        hth_kv_truncate(kv, op->slot, op->positions);
        return HTH_OK;
    }
    if (op->kind == HTH_OP_SAVE || op->kind == HTH_OP_LOAD)
        return on_disk(r, op, err);
    /* A rank without KV heads has nothing to share. */
    if (my_share(r)->kvs == 0)
        return HTH_OK;
    hth_kv_truncate(kv, op->slot, 0);
    if (hth_kv_positions(kv, op->from) < op->positions)
        return hth_fail(err, HTH_EPROTO,
                        "a sequence shall begin with %u positions of another "
                        "that has %u",
                        op->positions, hth_kv_positions(kv, op->from));
    return hth_kv_fork(kv, op->from, op->slot, op->positions, err);
}

bool hth_rank_ease(struct hth_rank *r)
{
    if (!hth_pressure_is_short(r->pressure))
        return false;
    hth_kv_trim(hth_forward_kv(r->forward));
    return true;
}

void hth_rank_forget(struct hth_rank *r)
{
    for (uint32_t s = 0; s < HTH_SLOTS_MAX; s++)
        hth_kv_truncate(hth_forward_kv(r->forward), s, 0);
    for (uint32_t s = 0; s < HTH_SLOTS_MAX; s++)
        hth_adapters_unuse(r->adapters, s);
}

/* ---- serving ------------------------------------------------------------- */

/* A context that cannot be written or read is rank 0's to know, and no end of
 * anything. */
static int do_op(struct hth_rank *r, struct hth_link *link,
                 const struct hth_step_op *op, struct hth_err *err)
{
    struct hth_err why = {0};
    uint8_t reply[4];
    int rc;

    if (op->kind != HTH_OP_SAVE && op->kind != HTH_OP_LOAD)
        return hth_rank_op(r, op, err);
    rc = hth_rank_op(r, op, &why);
    if (rc != HTH_OK)
        hth_log(HTH_LOG_WARN, "CONTEXT-FAILED", "%s", why.text);
    hth_store_u32(reply, rc == HTH_OK ? op->positions : 0);
    rc = hth_link_send(link, HTH_TAG_KEPT, reply, sizeof reply,
                       HTH_STEP_DEADLINE_MS);
    if (rc != HTH_OK)
        *err = *hth_link_error(link);
    return rc;
}

static int reserve(struct hth_rank *r, struct hth_link *link,
                   struct hth_err *err)
{
    struct hth_kv *kv = hth_forward_kv(r->forward);
    int rc = HTH_OK;

    for (uint32_t i = 0; rc == HTH_OK && i < r->step.ops; i++)
        rc = do_op(r, link, &r->step.op[i], err);
    (void)hth_rank_ease(r);
    for (uint32_t i = 0; rc == HTH_OK && i < r->step.rows; i++)
        rc = hth_kv_own(kv, r->step.seq[i], r->step.pos[i], 1, err);
    return rc;
}

/* Tell rank 0 why this rank cannot go on, where the link does not know it
 * already; the text ends the requests there. */
static int fail_step(struct hth_rank *r, struct hth_link *link, int rc,
                     const struct hth_err *err)
{
    if (hth_link_error(link)->status == HTH_OK) {
        r->broken = rc == HTH_EIO || rc == HTH_EHASH || rc == HTH_ENOTFOUND;
        hth_link_abort(link, rc, err->text);
    }
    return rc;
}

static int send_result(struct hth_rank *r, struct hth_link *link,
                       struct hth_err *err)
{
    const struct hth_share *share = my_share(r);
    struct hth_slice slice = {share->vocab_first, share->vocab};
    size_t dim = r->session.spec.dim;
    int rc;

    if (r->step.wants == 0 || share->vocab == 0)
        return HTH_OK;
    for (uint32_t w = 0; w < r->step.wants; w++)
        memcpy(r->wanted + w * dim, r->x + r->step.want[w] * dim, dim * 4);
    rc = hth_forward_logits(r->forward, r->wanted, r->step.wants, r->logits,
                            err);
    if (rc != HTH_OK)
        return rc;
    hth_result_encode(&r->step, &slice, r->logits, r->result);
    rc = hth_link_send(
        link, HTH_TAG_RESULT, r->result,
        hth_result_bytes(r->step.wants, r->step.candidates, share->vocab),
        HTH_STEP_DEADLINE_MS);
    if (rc != HTH_OK)
        *err = *hth_link_error(link);
    return rc;
}

#define TELL_NS 10000000000u /* between two lines about streaming */

/* While weights stream, a line now and then says what a token costs. */
void hth_rank_tell(struct hth_rank *r)
{
    const struct hth_forward_times *t = hth_forward_times(r->forward);
    struct hth_loader_stats s;
    uint64_t now = hth_now_ns(), steps = t->steps - r->told_steps;

    if (now - r->told_ns < TELL_NS || steps == 0)
        return;
    hth_loader_measured(r->loader,
                        (double)(t->compute_ns - r->told_compute_ns) * 1e-9 /
                            (double)steps);
    hth_loader_stats(r->loader, &s);
    if (r->told_ns != 0 && s.window.streamed_bytes > 0)
        hth_log(
            HTH_LOG_INFO, "WEIGHTS-STREAM",
            "rank=%u pinned_mib=%llu streamed_mib=%llu read_mib=%llu "
            "read_mb_s=%.0f stall_ms=%.1f predicted_ms=%.1f bound=%s per "
            "step of %llu",
            r->session.rank, (unsigned long long)(s.window.pinned_bytes >> 20),
            (unsigned long long)(s.window.streamed_bytes >> 20),
            (unsigned long long)(((s.read_bytes - r->told.read_bytes) >> 20) /
                                 steps),
            s.read_bytes_per_s * 1e-6,
            (double)(s.stall_ns - r->told.stall_ns) * 1e-6 / (double)steps,
            s.window.token_s * 1e3, hth_window_bound_text(s.window.bound),
            (unsigned long long)steps);
    r->told = s;
    r->told_ns = now;
    r->told_steps = t->steps;
    r->told_compute_ns = t->compute_ns;
}

static void note_traffic(struct hth_rank *r, const struct hth_link *link)
{
    struct hth_link_counters c;

    hth_link_counters(link, &c);
    hth_rank_note_traffic(r, c.payload_bytes_sent, c.payload_bytes_received);
}

static int run_step(struct hth_rank *r, struct hth_link *link,
                    struct hth_err *err)
{
    struct hth_batch b = {.rows = r->step.rows,
                          .seq = r->step.seq,
                          .pos = r->step.pos,
                          .x = r->x,
                          .halves = r->step.kind == HTH_STEP_HALVES};
    struct hth_link_counters was, now;
    int rc = reserve(r, link, err);

    hth_link_counters(link, &was);
    b.lora = hth_adapters_rows(r->adapters, b.seq, b.rows);
    if (rc == HTH_OK && b.rows == 0)
        return HTH_OK;
    if (rc == HTH_OK)
        rc = hth_forward_step(r->forward, &b, err);
    hth_link_counters(link, &now);
    if (rc == HTH_OK)
        hth_rank_note(r, b.rows, now.send_ns - was.send_ns,
                      now.wait_ns - was.wait_ns);
    if (rc == HTH_OK)
        rc = send_result(r, link, err);
    note_traffic(r, link);
    if (rc != HTH_OK)
        return fail_step(r, link, rc, err);
    hth_rank_tell(r);
    return HTH_OK;
}

static int next_step(struct hth_rank *r, struct hth_link *link,
                     struct hth_err *err)
{
    struct hth_step_bounds b = {r->session.spec.dim, r->session.rows_max,
                                r->session.ctx_max};
    struct hth_link_msg m = {
        .tag = HTH_TAG_STEP, .data = r->message, .max = r->message_max};
    int rc = hth_link_recv_msg(link, &m, HTH_LINK_FOREVER);

    if (rc != HTH_OK) {
        if (err != NULL)
            *err = *hth_link_error(link);
        return rc;
    }
    if (hth_split_kind(r->message, m.n) >= HTH_SPLIT_MEET) {
        r->step.kind = HTH_SPLIT_MEET;
        rc = hth_split_obey(r->split, r->message, m.n, err);
        if (rc != HTH_OK && hth_link_error(link)->status == HTH_OK)
            hth_link_abort(link, rc, err->text);
        return rc;
    }
    rc = hth_step_decode(&r->step, r->x, &b, r->message, m.n);
    if (rc != HTH_OK) {
        hth_link_abort(link, rc, "a step that does not fit the session");
        return hth_fail(err, rc,
                        "the coordinator sent a step that does not fit the "
                        "session");
    }
    return HTH_OK;
}

static int serve_loop(struct hth_rank *r, struct hth_link *link,
                      struct hth_err *err)
{
    for (;;) {
        int rc = next_step(r, link, err);

        if (rc != HTH_OK)
            return rc;
        if (r->step.kind == HTH_STEP_GOODBYE)
            return HTH_OK;
        if (r->step.kind == HTH_STEP_RUN || r->step.kind == HTH_STEP_HALVES)
            rc = run_step(r, link, err);
        if (rc != HTH_OK)
            return rc;
    }
}

int hth_rank_serve(struct hth_rank *r, struct hth_link *link,
                   struct hth_err *err)
{
    struct hth_star_opts o = {.rank = r->session.rank,
                              .ranks = r->session.plan.ranks,
                              .links = &link,
                              .timeout_ms = HTH_STEP_DEADLINE_MS};
    struct hth_group group;
    struct hth_star *star;
    struct hth_err unheard;
    int rc;

    err = err != NULL ? err : &unheard;
    rc = hth_star_open(&star, &o, err);
    if (rc != HTH_OK)
        return rc;
    rc = hth_group_open(&group, star, &o, (enum hth_wire)r->session.wire_type,
                        err);
    if (rc != HTH_OK) {
        hth_star_close(star);
        return rc;
    }
    hth_forward_join(r->forward, &group.collective);
    if (r->split != NULL)
        hth_split_attach(r->split, &link);
    rc = serve_loop(r, link, err);
    if (r->split != NULL)
        hth_split_detach(r->split);
    hth_forward_join(r->forward, NULL);
    hth_group_close(&group);
    hth_star_close(star);
    hth_rank_forget(r);
    return rc;
}

static void add_ns(_Atomic uint64_t *sum, uint64_t ns)
{
    atomic_fetch_add_explicit(sum, ns, memory_order_relaxed);
}

void hth_rank_note(struct hth_rank *r, uint32_t rows, uint64_t send_ns,
                   uint64_t wait_ns)
{
    const struct hth_forward_times *t = hth_forward_times(r->forward);
    uint64_t sums_ns = t->reduce_ns - r->noted_reduce_ns;

    r->noted_reduce_ns = t->reduce_ns;
    if (send_ns + wait_ns > sums_ns) {
        send_ns = (uint64_t)((double)sums_ns * (double)send_ns /
                             (double)(send_ns + wait_ns));
        wait_ns = sums_ns - send_ns;
    }

    atomic_store_explicit(&r->steps, t->steps, memory_order_relaxed);
    atomic_store_explicit(&r->compute_ns, t->compute_ns, memory_order_relaxed);
    atomic_store_explicit(&r->disk_ns, t->op_ns[HTH_OP_BLOCKS],
                          memory_order_relaxed);
    atomic_fetch_add_explicit(&r->rows, rows, memory_order_relaxed);
    add_ns(&r->send_ns, send_ns);
    add_ns(&r->wait_ns, wait_ns);
    add_ns(&r->receive_ns, sums_ns - send_ns - wait_ns);
    atomic_store_explicit(&r->kv_bytes,
                          hth_kv_bytes(hth_forward_kv(r->forward)),
                          memory_order_relaxed);
}

void hth_rank_note_traffic(struct hth_rank *r, uint64_t sent_bytes,
                           uint64_t received_bytes)
{
    atomic_store_explicit(&r->sent_bytes, sent_bytes, memory_order_relaxed);
    atomic_store_explicit(&r->received_bytes, received_bytes,
                          memory_order_relaxed);
}

void hth_rank_stats(const struct hth_rank *r, struct hth_rank_stats *out)
{
    struct hth_phases *p = &out->phases;

    out->rows = atomic_load_explicit(&r->rows, memory_order_relaxed);
    p->steps = atomic_load_explicit(&r->steps, memory_order_relaxed);
    p->compute_ns = atomic_load_explicit(&r->compute_ns, memory_order_relaxed);
    p->wait_ns = atomic_load_explicit(&r->wait_ns, memory_order_relaxed);
    p->disk_ns = atomic_load_explicit(&r->disk_ns, memory_order_relaxed);
    p->send_ns = atomic_load_explicit(&r->send_ns, memory_order_relaxed);
    p->receive_ns = atomic_load_explicit(&r->receive_ns, memory_order_relaxed);
    p->sent_bytes = atomic_load_explicit(&r->sent_bytes, memory_order_relaxed);
    p->received_bytes =
        atomic_load_explicit(&r->received_bytes, memory_order_relaxed);
    out->kv_bytes = atomic_load_explicit(&r->kv_bytes, memory_order_relaxed);
    out->weight_bytes = r->weight_bytes;
    out->memory_short = hth_pressure_is_short(r->pressure);
}
