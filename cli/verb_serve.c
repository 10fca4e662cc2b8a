/* verb_serve.c - the coordinator in the foreground. The join line goes to
 * standard output, since scripts read it; everything else is for people. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cli/model_opts.h"
#include "cli/out.h"
#include "cli/paths.h"
#include "cli/signals.h"
#include "cli/verbs.h"
#include "coordinator/cluster.h"

#define LOOK_MS 100u
#define DESCRIBE_BYTES_MAX (16u << 10)

static int fill_shares(struct hth_cluster_opts *o, const struct hth_args *args,
                       struct hth_err *err)
{
    const char *text = hth_args_text(args, "shares");
    size_t ranks;
    int rc;

    o->no_compute = hth_args_flag(args, "no-compute");
    if (strcmp(text, "auto") == 0)
        return HTH_OK;
    rc = hth_parse_shares(text, o->shares, &ranks, err);
    if (rc != HTH_OK)
        return rc;
    if (o->no_compute && o->shares[0] > 0.0)
        return hth_fail(err, HTH_EUSAGE,
                        "--no-compute and --shares %s contradict each other: "
                        "the first share is this machine's",
                        text);
    o->share_count = (uint32_t)ranks;
    return HTH_OK;
}

static int fill_opts(struct hth_cluster_opts *o, const struct hth_args *args,
                     char *state, struct hth_err *err)
{
    int rc;

    memset(o, 0, sizeof *o);
    o->model_path = hth_args_text(args, "model");
    o->bind = hth_args_text(args, "bind");
    o->port = (uint16_t)hth_args_int(args, "port");
    o->threads = (uint32_t)hth_args_int(args, "threads");
    o->memory_bytes = hth_args_size(args, "memory");
    o->wire = (uint32_t)hth_wire_option(args);
    o->kv_type = hth_kv_option(args);
    o->ctx = (uint32_t)hth_args_int(args, "ctx");
    o->name = hth_args_text(args, "name");
    o->wait_ms = (uint32_t)hth_args_int(args, "wait") * 1000u;
    o->grace_ms = (uint32_t)hth_args_int(args, "grace") * 1000u;
    o->progress = true;
    rc = fill_shares(o, args, err);
    return rc == HTH_OK ? hth_state_option(args, "coordinator", state,
                                           &o->state_dir, err)
                        : rc;
}

static int print_start(struct hth_cluster *c, struct hth_err *err)
{
    struct hth_cluster_code code;
    struct hth_buf text;
    char line[192];
    int rc = hth_cluster_pair_code(c, &code, err);

    if (rc != HTH_OK)
        return rc;
    hth_buf_init(&text, DESCRIBE_BYTES_MAX);
    hth_cluster_describe(c, &text);
    fprintf(stderr,
            "%sOn another device, within %u minutes (hearth pair makes more "
            "codes):\n",
            hth_buf_cstr(&text), (code.expires_s + 59) / 60);
    hth_buf_fini(&text);
    snprintf(line, sizeof line, "hearth worker --join %s:%u --code %s\n",
             code.host, code.port, code.code);
    return hth_out_text(line, err);
}

int hth_verb_serve(const struct hth_args *args, struct hth_err *err)
{
    char state[HTH_PATH_BYTES_MAX];
    struct hth_cluster_opts opts;
    struct hth_cluster *c;
    int rc = fill_opts(&opts, args, state, err);

    if (rc != HTH_OK)
        return rc;
    hth_signals_start();
    hth_log_option(args);
    hth_log_set_role("coordinator");
    rc = hth_cluster_open(&c, &opts, err);
    if (rc != HTH_OK)
        return rc;
    rc = print_start(c, err);
    while (rc == HTH_OK && !hth_interrupted()) {
        hth_sleep_ms(LOOK_MS);
        rc = hth_cluster_failed(c, err);
    }
    hth_cluster_close(c);
    return rc;
}
