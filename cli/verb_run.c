/* verb_run.c - a prompt in, an answer out: against the coordinator running on
 * this machine, or a cluster brought up for this one answer. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/answer.h"
#include "cli/local.h"
#include "cli/model_opts.h"
#include "cli/out.h"
#include "cli/paths.h"
#include "cli/signals.h"
#include "cli/verbs.h"

/* ---- the request --------------------------------------------------------- */

/* One newline at the end is the shell's (echo, a text editor), not the
 * prompt's. */
static void drop_newline(struct hth_buf *text)
{
    if (text->len > 0 && text->data[text->len - 1] == '\n')
        text->len--;
    if (text->len > 0 && text->data[text->len - 1] == '\r')
        text->len--;
}

static int read_prompt(const struct hth_args *args, struct hth_buf *prompt,
                       struct hth_err *err)
{
    const char *word = args->operand_count > 0 ? args->operands[0] : NULL;
    int rc = HTH_OK;

    if (word != NULL && strcmp(word, "-") != 0) {
        hth_put_bytes(prompt, word, strlen(word));
        return prompt->failed ? hth_fail(err, HTH_ELIMIT,
                                         "the prompt is longer than %u bytes",
                                         HTH_PROMPT_BYTES_MAX)
                              : HTH_OK;
    }
    if (word == NULL && isatty(STDIN_FILENO) == 1)
        return hth_fail(err, HTH_EUSAGE,
                        "PROMPT is missing; give it as one word in quotes, or "
                        "on standard input");
    rc = hth_read_file("-", prompt, err);
    if (rc == HTH_OK)
        drop_newline(prompt);
    return rc;
}

/* "ID=V,ID=V" appended to the request's biases. */
static int parse_bias(struct hth_msg_submit *g, const char *text,
                      struct hth_err *err)
{
    while (*text != '\0') {
        size_t n = strcspn(text, ",");
        char item[64];
        char *equals;
        int64_t id;
        double v;

        snprintf(item, sizeof item, "%.*s", (int)(n < 63 ? n : 63), text);
        equals = strchr(item, '=');
        if (equals != NULL)
            *equals = '\0';
        if (equals == NULL || hth_parse_int(item, &id) != HTH_OK || id < 0 ||
            id >= HTH_VOCAB_MAX)
            return hth_fail(err, HTH_EUSAGE,
                            "--logit-bias takes ID=V,..., as in 13=-2.5");
        if (strcmp(equals + 1, "-inf") == 0)
            v = -INFINITY;
        else if (hth_parse_float(equals + 1, &v) != HTH_OK)
            return hth_fail(err, HTH_EUSAGE,
                            "--logit-bias: \"%s\" is no number", equals + 1);
        if (g->bias_count == HTH_BIAS_MAX)
            return hth_fail(err, HTH_EUSAGE,
                            "--logit-bias takes at most %u tokens",
                            HTH_BIAS_MAX);
        g->bias[g->bias_count].id = (uint32_t)id;
        g->bias[g->bias_count++].bias = (float)v;
        text += n;
        text += *text == ',';
    }
    return HTH_OK;
}

static int fill_stops(struct hth_msg_submit *g, const struct hth_args *args,
                      struct hth_err *err)
{
    unsigned count = hth_args_count(args, "stop");

    if (count > HTH_STOPS_MAX)
        return hth_fail(err, HTH_EUSAGE, "--stop is given more than %u times",
                        HTH_STOPS_MAX);
    for (unsigned i = 0; i < count; i++) {
        const char *text = hth_args_at(args, "stop", i);

        if (text[0] == '\0' || strlen(text) > HTH_STOP_BYTES_MAX)
            return hth_fail(err, HTH_EUSAGE,
                            "--stop takes a text of 1 to %u bytes",
                            HTH_STOP_BYTES_MAX);
        g->stop[i].p = (const uint8_t *)text;
        g->stop[i].n = strlen(text);
    }
    g->stop_count = count;
    return HTH_OK;
}

static int random_u64(uint64_t *out, struct hth_err *err)
{
    if (getrandom(out, sizeof *out, 0) != (ssize_t)sizeof *out)
        return hth_fail(err, HTH_EIO, "no random numbers: %s", strerror(errno));
    return HTH_OK;
}

/* A seed drawn here is kept below 2^53, so that the one --json or --verbose
 * tells can be given back and survives any JSON reader. */
static int fill_seed(struct hth_msg_submit *g, const struct hth_args *args,
                     struct hth_err *err)
{
    int64_t seed = hth_args_int(args, "seed");
    int rc = random_u64(&g->key, err);

    g->seed = (uint64_t)seed;
    if (rc == HTH_OK && seed < 0) {
        rc = random_u64(&g->seed, err);
        g->seed &= (UINT64_C(1) << 53) - 1;
    }
    return rc;
}

static int fill_request(struct hth_msg_submit *g, const struct hth_args *args,
                        const struct hth_buf *prompt, struct hth_err *err)
{
    int rc;

    hth_msg_submit_init(g);
    g->text.p = prompt->data;
    g->text.n = prompt->len;
    g->special = hth_args_flag(args, "special");
    g->ignore_end = hth_args_flag(args, "ignore-end");
    g->tokens_max = (uint32_t)hth_args_int(args, "max-tokens");
    g->temperature = (float)hth_args_float(args, "temp");
    g->top_k = (uint32_t)hth_args_int(args, "top-k");
    g->top_p = (float)hth_args_float(args, "top-p");
    g->min_p = (float)hth_args_float(args, "min-p");
    g->repeat_penalty = (float)hth_args_float(args, "repeat-penalty");
    g->repeat_last_n = (uint32_t)hth_args_int(args, "repeat-last-n");
    g->frequency_penalty = (float)hth_args_float(args, "frequency-penalty");
    g->presence_penalty = (float)hth_args_float(args, "presence-penalty");
    rc = fill_seed(g, args, err);
    if (rc == HTH_OK)
        rc = fill_stops(g, args, err);
    for (unsigned i = 0; i < hth_args_count(args, "logit-bias") && rc == HTH_OK;
         i++)
        rc = parse_bias(g, hth_args_at(args, "logit-bias", i), err);
    return rc;
}

/* ---- where it runs ------------------------------------------------------- */

/* Options that only mean something where run starts the ranks itself would be
 * ignored by a running coordinator; better to say so. */
static int check_mode(const struct hth_args *args, struct hth_err *err)
{
    static const char *const starting[] = {"local",   "shares",  "wire",
                                           "kv",      "prefill", "ctx",
                                           "threads", "memory",  "store"};

    if (hth_args_text(args, "model") != NULL)
        return HTH_OK;
    for (size_t i = 0; i < sizeof starting / sizeof starting[0]; i++)
        if (hth_args_origin(args, starting[i]) == HTH_ORIGIN_LINE)
            return hth_fail(err, HTH_EUSAGE,
                            "--%s needs -m FILE: a running coordinator has "
                            "its own",
                            starting[i]);
    return HTH_OK;
}

static void answer_options(const struct hth_args *args,
                           struct hth_answer_opts *o)
{
    *o = (struct hth_answer_opts){.keep = NULL};
    o->ids = hth_args_flag(args, "ids");
    o->json = hth_args_flag(args, "json");
    o->verbose = hth_args_flag(args, "verbose");
}

static int ask(const struct hth_client_opts *where,
               const struct hth_msg_submit *g, const struct hth_args *args,
               struct hth_err *err)
{
    struct hth_answer_opts opts;
    struct hth_client *client;
    int rc = hth_client_open(&client, where, err);

    if (rc != HTH_OK)
        return rc;
    answer_options(args, &opts);
    rc = hth_answer(client, g, &opts, err);
    hth_client_close(client);
    return rc;
}

static int run_there(const struct hth_args *args, struct hth_msg_submit *g,
                     struct hth_err *err)
{
    char state[HTH_PATH_BYTES_MAX];
    struct hth_client_opts where = {0};
    int rc = hth_lora_names(args, g, err);

    if (rc == HTH_OK)
        rc =
            hth_state_option(args, "coordinator", state, &where.state_dir, err);

    return rc == HTH_OK ? ask(&where, g, args, err) : rc;
}

static int run_here(const struct hth_args *args, const struct hth_msg_submit *g,
                    struct hth_err *err)
{
    struct hth_client_opts where = {0};
    struct hth_local_opts opts;
    struct hth_local *local;
    int rc = hth_local_options(args, &opts, err);

    if (rc != HTH_OK)
        return rc;
    opts.ctx = (uint32_t)hth_args_int(args, "ctx");
    hth_local_loras(args, &opts);
    rc = hth_local_open(&local, &opts, err);
    if (rc != HTH_OK)
        return rc;
    where.url = hth_cluster_url(hth_local_cluster(local));
    rc = ask(&where, g, args, err);
    if (rc == HTH_EPEER)
        rc = hth_local_explain(local, rc, err);
    hth_local_close(local);
    return rc;
}

int hth_verb_run(const struct hth_args *args, struct hth_err *err)
{
    struct hth_msg_submit *g = calloc(1, sizeof *g);
    struct hth_buf prompt;
    int rc;

    if (g == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    hth_buf_init(&prompt, HTH_PROMPT_BYTES_MAX);
    hth_signals_start();
    hth_log_option(args);
    rc = check_mode(args, err);
    if (rc == HTH_OK)
        rc = read_prompt(args, &prompt, err);
    if (rc == HTH_OK)
        rc = fill_request(g, args, &prompt, err);
    if (rc == HTH_OK)
        rc = hth_args_text(args, "model") != NULL ? run_here(args, g, err)
                                                  : run_there(args, g, err);
    hth_buf_fini(&prompt);
    free(g);
    return rc;
}
