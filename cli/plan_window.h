/* plan_window.h - `hearth plan --memory`: what each rank keeps and streams in
 * that much memory, and what a token of rank 0's kind would cost, by this
 * machine's profile (`hearth profile`). Pure apart from reading that file. */
#ifndef HTH_CLI_PLAN_WINDOW_H
#define HTH_CLI_PLAN_WINDOW_H

#include "scheduler/window.h"
#include "worker/rank.h"

struct hth_plan_window {
    struct hth_window window;
    uint64_t kv_bytes, buffer_bytes;
    int status; /* HTH_EOVERFLOW: it cannot run; err says why */
    struct hth_err err;
};

/* windows[plan->ranks]; memory_bytes > 0 for each rank. profile_path may be
 * NULL or name nothing: no times then. HTH_ENOMEM. */
struct hth_plan_window_ask {
    const struct hth_spec *spec;
    const struct hth_plan *plan;
    uint32_t kv_type, ctx;
    uint64_t memory_bytes;
    const char *profile_path;
};
HTH_MUST_CHECK int hth_plan_windows(const struct hth_plan_window_ask *ask,
                                    struct hth_plan_window *windows,
                                    struct hth_err *err);

#endif
