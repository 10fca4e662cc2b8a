/* verb_worker.c - a device's daemon in the foreground. */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/address.h"
#include "cli/model_opts.h"
#include "cli/paths.h"
#include "cli/signals.h"
#include "cli/verbs.h"
#include "coordinator/cluster.h"
#include "worker/daemon.h"

static int store_option(const struct hth_args *args, char *dst,
                        const char **out, struct hth_err *err)
{
    int rc;

    *out = hth_args_text(args, "store");
    if (*out != NULL)
        return HTH_OK;
    rc = hth_path_store(dst, HTH_PATH_BYTES_MAX, err);
    if (rc == HTH_OK)
        *out = dst;
    return rc;
}

static int kv_option(const struct hth_args *args, const char *store, char *dst,
                     struct hth_err *err)
{
    const char *given = hth_args_text(args, "kv-dir");
    int n = snprintf(dst, HTH_PATH_BYTES_MAX, "%s%s",
                     given != NULL ? given : store, given != NULL ? "" : "/kv");

    return n > 0 && (size_t)n < HTH_PATH_BYTES_MAX
               ? HTH_OK
               : hth_fail(err, HTH_EUSAGE, "--kv-dir is too long");
}

static void set_role(const char *name)
{
    char role[HTH_NAME_MAX + 16];

    snprintf(role, sizeof role, "worker%s%s", name != NULL ? "/" : "",
             name != NULL ? name : "");
    hth_log_set_role(role);
}

/* A stop by signal is how a worker ends well: exit code 0. */
int hth_verb_worker(const struct hth_args *args, struct hth_err *err)
{
    char state[HTH_PATH_BYTES_MAX];
    char store[HTH_PATH_BYTES_MAX];
    char profile[HTH_PATH_BYTES_MAX];
    char kv[HTH_PATH_BYTES_MAX];
    char host[HTH_HOST_BYTES_MAX];
    struct hth_worker_opts opts = {
        .host = host,
        .port = HTH_PORT_DEFAULT,
        .code = hth_args_text(args, "code"),
        .name = hth_args_text(args, "name"),
        .threads = (uint32_t)hth_args_int(args, "threads"),
        .memory_bytes = hth_args_size(args, "memory"),
        .store_limit_bytes = hth_args_size(args, "store-limit"),
        .verify_store = hth_args_flag(args, "verify-store"),
    };
    int rc =
        hth_parse_address(hth_args_text(args, "join"), host, &opts.port, err);

    if (hth_path_state("profile", profile, sizeof profile, NULL) == HTH_OK)
        opts.profile_path = profile;
    if (rc == HTH_OK)
        rc = hth_state_option(args, "worker", state, &opts.state_dir, err);
    if (rc == HTH_OK)
        rc = store_option(args, store, &opts.store_dir, err);
    if (rc == HTH_OK)
        rc = kv_option(args, opts.store_dir, kv, err);
    opts.kv_dir = kv;
    if (rc != HTH_OK)
        return rc;
    hth_signals_start();
    hth_log_option(args);
    set_role(opts.name);
    return hth_worker_run(&opts, &hth_signal_seen, err);
}
