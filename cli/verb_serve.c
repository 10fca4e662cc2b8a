/* verb_serve.c - the coordinator in the foreground. The join line goes to
 * standard output, since scripts read it; everything else is for people. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
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

/* ---- the HTTP service ---------------------------------------------------- */

struct serve_http {
    struct hth_cluster_http o;
    const char *keys[HTH_API_KEYS_MAX];
    const char *origins[HTH_OPT_REPEATS_MAX];
    char *file; /* owned text of --api-key-file */
};

/* One key per line; empty lines and those that begin with # are passed over. */
static int split_keys(struct serve_http *h, const char *path,
                      struct hth_err *err)
{
    char *line = h->file, *next;

    for (; line != NULL; line = next) {
        next = strchr(line, '\n');
        if (next != NULL)
            *next++ = '\0';
        line[strcspn(line, "\r")] = '\0';
        if (*line == '\0' || *line == '#')
            continue;
        if (h->o.key_count == HTH_API_KEYS_MAX)
            return hth_fail(err, HTH_EUSAGE, "%s has more than %u keys", path,
                            HTH_API_KEYS_MAX);
        h->keys[h->o.key_count++] = line;
    }
    if (h->o.key_count == 0)
        return hth_fail(err, HTH_EUSAGE, "%s has no key in it", path);
    return HTH_OK;
}

static int read_keys(struct serve_http *h, const char *path,
                     struct hth_err *err)
{
    FILE *f = fopen(path, "re");
    size_t n;

    if (f == NULL)
        return hth_fail(err, HTH_EIO, "%s: %s", path, strerror(errno));
    h->file = calloc(1, HTH_CONFIG_BYTES_MAX + 1);
    if (h->file == NULL) {
        fclose(f);
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    }
    n = fread(h->file, 1, HTH_CONFIG_BYTES_MAX, f);
    fclose(f);
    if (n == HTH_CONFIG_BYTES_MAX)
        return hth_fail(err, HTH_EUSAGE, "%s is too large for a list of keys",
                        path);
    return split_keys(h, path, err);
}

static int fill_http(struct serve_http *h, const struct hth_args *args,
                     struct hth_err *err)
{
    int64_t port = hth_args_int(args, "http-port");
    unsigned i;

    if (port == 0)
        port = hth_args_int(args, "port") + 10;
    if (port > 65535)
        return hth_fail(err, HTH_EUSAGE,
                        "give --http-port: --port plus 10 is "
                        "no port");
    h->o.port = (uint16_t)port;
    h->o.bind = hth_args_text(args, "http-bind");
    h->o.tls_cert_path = hth_args_text(args, "tls-cert");
    h->o.tls_key_path = hth_args_text(args, "tls-key");
    h->o.timeout_ms = (uint32_t)hth_args_int(args, "request-timeout") * 1000u;
    h->o.alias = hth_args_text(args, "alias");
    h->o.any_model = hth_args_flag(args, "any-model");
    h->o.keys = h->keys;
    h->o.origins = h->origins;
    for (i = 0; i < hth_args_count(args, "api-key"); i++)
        h->keys[h->o.key_count++] = hth_args_at(args, "api-key", i);
    for (i = 0; i < hth_args_count(args, "cors-origin"); i++)
        h->origins[h->o.origin_count++] = hth_args_at(args, "cors-origin", i);
    return hth_args_given(args, "api-key-file")
               ? read_keys(h, hth_args_text(args, "api-key-file"), err)
               : HTH_OK;
}

/* ---- the cluster --------------------------------------------------------- */

static int fill_opts(struct hth_cluster_opts *o, const struct hth_args *args,
                     char *state, struct hth_err *err)
{
    static const char *loras[HTH_OPT_REPEATS_MAX]; /* one cluster a process */
    int rc;

    memset(o, 0, sizeof *o);
    o->model_path = hth_args_text(args, "model");
    o->bind = hth_args_text(args, "bind");
    o->port = (uint16_t)hth_args_int(args, "port");
    o->threads = (uint32_t)hth_args_int(args, "threads");
    o->memory_bytes = hth_args_size(args, "memory");
    o->wire = (uint32_t)hth_wire_option(args);
    o->kv_type = hth_kv_option(args);
    o->prefill = hth_prefill_option(args);
    o->ctx = (uint32_t)hth_args_int(args, "ctx");
    o->name = hth_args_text(args, "name");
    o->kv_dir = hth_args_text(args, "kv-dir");
    o->wait_ms = (uint32_t)hth_args_int(args, "wait") * 1000u;
    o->grace_ms = (uint32_t)hth_args_int(args, "grace") * 1000u;
    o->parallel_max = (uint32_t)hth_args_int(args, "parallel");
    o->waiting_max = (uint32_t)hth_args_int(args, "queue");
    o->progress = true;
    o->loras = loras;
    o->lora_count = hth_args_count(args, "lora");
    for (uint32_t i = 0; i < o->lora_count; i++)
        loras[i] = hth_args_at(args, "lora", i);
    o->lora_dir = hth_args_text(args, "lora-dir");
    o->lora_bytes = hth_args_size(args, "lora-memory");
    o->loras_max = (uint32_t)hth_args_int(args, "max-loras");
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

static int serve(const struct hth_cluster_opts *opts, struct hth_err *err)
{
    struct hth_cluster *c;
    int rc = hth_cluster_open(&c, opts, err);

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

int hth_verb_serve(const struct hth_args *args, struct hth_err *err)
{
    char state[HTH_PATH_BYTES_MAX], store[HTH_PATH_BYTES_MAX];
    char profile[HTH_PATH_BYTES_MAX];
    struct hth_cluster_opts opts;
    struct serve_http http = {.file = NULL};
    int rc = fill_opts(&opts, args, state, err);

    if (hth_path_state("profile", profile, sizeof profile, NULL) == HTH_OK)
        opts.profile_path = profile;
    if (hth_path_store(store, sizeof store, NULL) == HTH_OK)
        opts.store_dir = store;
    if (rc == HTH_OK && !hth_args_flag(args, "no-http")) {
        rc = fill_http(&http, args, err);
        opts.http = &http.o;
    }
    if (rc == HTH_OK) {
        hth_signals_start();
        hth_log_option(args);
        hth_log_set_role("coordinator");
        rc = serve(&opts, err);
    }
    free(http.file);
    return rc;
}
