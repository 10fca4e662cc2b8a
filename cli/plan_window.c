/* plan_window.c - see plan_window.h. The same arithmetic that a rank does when
 * it loads (worker/memory.h, worker/loader.h), on the numbers alone. */
#include "cli/plan_window.h"

#include <stdlib.h>

#include "worker/loader.h"
#include "worker/memory.h"
#include "worker/probe.h"
#include "worker/profile.h"

struct rates {
    double disk, compute;
};

static struct rates rates_of(const char *path)
{
    struct hth_profile *p = malloc(sizeof *p);
    struct rates r = {0};

    if (p != NULL && path != NULL && hth_profile_load(p, path, NULL) == HTH_OK)
        r = (struct rates){p->disk_bytes_per_s,
                           hth_profile_read_rate(p, hth_probe_cores())};
    free(p);
    return r;
}

static int window_of(const struct hth_session *s, uint64_t memory,
                     struct rates r, struct hth_plan_window *out)
{
    uint32_t n = hth_pieces(&s->spec, &s->plan, s->rank);
    struct hth_window_piece *piece = calloc(n, sizeof *piece);
    bool *pinned = calloc(n, sizeof *pinned);
    struct hth_window_ask ask = {.piece = piece,
                                 .count = n,
                                 .unit_bytes = HTH_PAGE_LARGE_BYTES,
                                 .disk_bytes_per_s = r.disk,
                                 .compute_bytes_per_s = r.compute};
    struct hth_memory_need need;
    int rc = piece == NULL || pinned == NULL ? HTH_ENOMEM : HTH_OK;

    if (rc == HTH_OK) {
        hth_memory_need(s, s->rank, &need);
        out->kv_bytes = need.kv_bytes;
        out->buffer_bytes = need.buffer_bytes;
        hth_loader_pieces(&s->spec, &s->plan, s->rank, piece);
        out->status =
            hth_memory_for_weights(s, memory, &ask.budget_bytes, &out->err);
        ask.ahead_bytes = hth_loader_ahead_bytes(ask.budget_bytes);
    }
    if (rc == HTH_OK && out->status == HTH_OK)
        out->status = hth_window_plan(&ask, pinned, &out->window, &out->err);
    free(piece);
    free(pinned);
    return rc;
}

int hth_plan_windows(const struct hth_plan_window_ask *ask,
                     struct hth_plan_window *windows, struct hth_err *err)
{
    struct hth_session *s = calloc(1, sizeof *s);
    uint64_t memory[HTH_RANKS_MAX];
    struct rates r = rates_of(ask->profile_path);
    int rc = s == NULL ? HTH_ENOMEM : HTH_OK;

    for (uint32_t i = 0; i < ask->plan->ranks; i++)
        memory[i] = ask->memory_bytes;
    if (rc == HTH_OK) {
        s->spec = *ask->spec;
        s->plan = *ask->plan;
        s->kv_type = ask->kv_type;
        s->ctx_max = s->kv_positions_max = ask->ctx;
        s->rows_max = HTH_STEP_ROWS_MAX;
        hth_memory_fit(s, memory);
    }
    for (uint32_t i = 0; rc == HTH_OK && i < ask->plan->ranks; i++) {
        s->rank = i;
        rc = window_of(s, ask->memory_bytes, r, &windows[i]);
    }
    free(s);
    return rc == HTH_OK ? HTH_OK
                        : hth_fail(err, rc, "no memory for a window plan");
}
