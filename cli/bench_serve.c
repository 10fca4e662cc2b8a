/* bench_serve.c - options into a load run, and its report printed. */
#include "cli/bench_serve.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "cli/address.h"
#include "cli/load.h"
#include "cli/out.h"
#include "cli/signals.h"

#define OUT_BYTES_MAX (64u << 20)

/* The first number of a list, which is the only one that counts here. */
static uint32_t first_of(const struct hth_args *args, const char *name)
{
    return (uint32_t)strtoul(hth_args_text(args, name), NULL, 10);
}

static int fill(struct hth_load_opts *o, char *host,
                const struct hth_args *args, struct hth_err *err)
{
    const char *where = hth_args_text(args, "http");

    if (strncmp(where, "http://", 7) == 0)
        where += 7;
    o->host = host;
    o->api_key = hth_args_text(args, "api-key");
    o->requests = (uint32_t)hth_args_int(args, "requests");
    o->concurrency = (uint32_t)hth_args_int(args, "concurrency");
    o->rate = hth_args_float(args, "rate");
    o->prompt = first_of(args, "n-prompt");
    o->generate = first_of(args, "n-gen");
    o->seed = (uint64_t)hth_args_int(args, "seed");
    if (o->prompt == 0 || o->generate == 0)
        return hth_fail(err, HTH_EUSAGE,
                        "bench serve needs a prompt (-p) and tokens to "
                        "generate (-n)");
    return hth_parse_address(where, host, &o->port, err);
}

static int print(const struct hth_args *args, const struct hth_load_opts *o,
                 const struct hth_load_result *r,
                 const struct hth_load_goal *goal, struct hth_err *err)
{
    struct hth_buf out;
    int rc;

    hth_buf_init(&out, OUT_BYTES_MAX);
    if (strncmp(hth_args_text(args, "output"), "json", 4) == 0)
        hth_load_put_json(o, r, goal, &out);
    else
        hth_load_put(o, r, goal, &out);
    rc = hth_out_buf(&out, err);
    hth_buf_fini(&out);
    return rc;
}

/* NAME[:SCALE] of each adapter as a request says it; NULL: none. */
static char *lora_json(const struct hth_args *args)
{
    json_t *all = json_array();
    char *text = NULL;

    for (unsigned i = 0; i < hth_args_count(args, "lora"); i++) {
        const char *name = hth_args_at(args, "lora", i);
        const char *colon = strrchr(name, ':');
        size_t n = colon != NULL ? (size_t)(colon - name) : strlen(name);
        double scale = colon != NULL ? strtod(colon + 1, NULL) : 1;

        json_array_append_new(
            all, json_pack("{s:s%,s:f}", "name", name, n, "scale", scale));
    }
    if (json_array_size(all) > 0)
        text = json_dumps(all, JSON_COMPACT);
    json_decref(all);
    return text;
}

int hth_bench_serve(const struct hth_args *args, struct hth_err *err)
{
    const char *goals = hth_args_text(args, "goodput");
    struct hth_load_opts o = {0};
    struct hth_load_goal goal;
    struct hth_load_result r = {0};
    char host[HTH_HOST_BYTES_MAX], *lora;
    int rc = fill(&o, host, args, err);

    if (rc == HTH_OK)
        rc = hth_load_goal_parse(&goal, goals != NULL ? goals : "", err);
    if (rc != HTH_OK)
        return rc;
    hth_signals_start();
    o.lora = lora = lora_json(args);
    rc = hth_load_run(&r, &o, err);
    if (rc == HTH_OK)
        rc = print(args, &o, &r, &goal, err);
    hth_load_fini(&r);
    free(lora);
    return rc;
}
