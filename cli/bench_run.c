/* bench_run.c - one test, several times. In this process the engine is timed
 * (coordinator/bench.h). A running coordinator says itself how long prompt and
 * answer took; where tokens fill the cache first, the time of a prompt without
 * them is measured beside it and subtracted. Fails as the requests do. */
#include "cli/bench.h"

#include <stdlib.h>
#include <time.h>

#include "base/rng.h"
#include "cli/model_opts.h"
#include "cli/signals.h"

#define POLL_MS 500u
/* Every vocabulary has so many: bytes and control tokens alone are more. */
#define SAFE_VOCAB 256u

/* Different tokens in each repetition, so that no cache of prompts can help,
 * behind the same `depth` tokens, where it may. */
static void make_tokens(const struct hth_bench_test *t, uint32_t repetition,
                        uint32_t vocab, uint32_t *dst)
{
    struct hth_rng depth, rest;
    uint32_t n = vocab > 0 ? vocab : SAFE_VOCAB;

    hth_rng_init(&depth, 1);
    hth_rng_init(&rest, 2 + (uint64_t)repetition);
    for (uint32_t i = 0; i < t->depth; i++)
        dst[i] = (uint32_t)(hth_rng_u64(&depth) % n);
    for (uint32_t i = 0; i < t->prompt; i++)
        dst[t->depth + i] = (uint32_t)(hth_rng_u64(&rest) % n);
}

/* ---- here ---------------------------------------------------------------- */

static void add_times(struct hth_forward_times *sum,
                      const struct hth_forward_times *t)
{
    sum->compute_ns += t->compute_ns;
    sum->reduce_ns += t->reduce_ns;
    sum->steps += t->steps;
    for (uint32_t i = 0; i < HTH_OP_COUNT; i++)
        sum->op_ns[i] += t->op_ns[i];
}

/* Sums, and of what does not add up the latest. */
static void add_weights(struct hth_bench_weights *sum,
                        const struct hth_bench_weights *w)
{
    struct hth_bench_weights was = *sum;

    *sum = *w;
    sum->read_bytes += was.read_bytes;
    sum->stall_ns += was.stall_ns;
}

/* Generated tokens need a prompt, whose time does not count unless it is part
 * of the test. */
static int run_here(const struct hth_bench_target *t,
                    const struct hth_bench_test *test, const uint32_t *tokens,
                    struct hth_bench_figures *f, struct hth_err *err)
{
    struct hth_bench_run run = {.tokens = tokens,
                                .depth = test->depth,
                                .prompt = test->prompt,
                                .generate = test->generate};
    struct hth_bench_times times;
    int rc;

    if (run.prompt == 0 && run.depth == 0)
        run.prompt = 1;
    if (run.prompt == 0) {
        run.prompt = run.depth;
        run.depth = 0;
    }
    rc = hth_cluster_bench(t->cluster, &run, &times, err);
    if (rc != HTH_OK)
        return rc;
    f->ns[f->count] = times.generate_ns;
    add_times(&f->times, &times.in_generate);
    if (test->generate > 0)
        add_weights(&f->weights, &times.weights_in_generate);
    if (test->prompt > 0) {
        add_weights(&f->weights, &times.weights_in_prompt);
        f->ns[f->count] += times.prompt_ns;
        add_times(&f->times, &times.in_prompt);
    }
    f->count++;
    return HTH_OK;
}

/* ---- there --------------------------------------------------------------- */

/* Follow a request to its end. */
static int follow(struct hth_client *c, uint64_t id,
                  struct hth_event_stats *stats, struct hth_err *err)
{
    struct hth_event e;

    for (;;) {
        int rc = hth_client_next(c, id, &e, POLL_MS, err);

        if (hth_interrupted()) {
            (void)!hth_client_cancel(c, id, NULL);
            return hth_fail_interrupted(err);
        }
        if (rc == HTH_ETIMEDOUT)
            continue;
        if (rc != HTH_OK)
            return rc;
        if (e.kind == HTH_EVENT_ERROR)
            return hth_fail(err, e.status, "%.*s", (int)e.text.n,
                            (const char *)e.text.p);
        if (e.kind == HTH_EVENT_DONE) {
            *stats = e.stats;
            return HTH_OK;
        }
    }
}

static int ask(const struct hth_bench_target *t, const uint32_t *tokens,
               const struct hth_bench_test *test, struct hth_event_stats *stats,
               struct hth_err *err)
{
    struct hth_msg_submit *g = calloc(1, sizeof *g);
    uint64_t id;
    int rc;

    if (g == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    hth_msg_submit_init(g);
    g->ids = tokens;
    g->id_count = test->depth + test->prompt;
    g->temperature = 0;
    g->ignore_end = true;
    g->tokens_max = test->generate + 1;
    rc = hth_lora_names(t->args, g, err);
    if (rc == HTH_OK)
        rc = hth_client_submit(t->client, g, &id, err);
    free(g);
    return rc == HTH_OK ? follow(t->client, id, stats, err) : rc;
}

static int run_there(const struct hth_bench_target *t,
                     const struct hth_bench_test *test, const uint32_t *tokens,
                     struct hth_bench_figures *f, struct hth_err *err)
{
    struct hth_bench_test all = *test, filled = {.depth = test->depth};
    struct hth_event_stats stats, before = {0};
    double s;
    int rc = HTH_OK;

    if (all.prompt == 0 && all.depth == 0)
        all.prompt = 1;
    if (test->prompt > 0 && test->depth > 0)
        rc = ask(t, tokens, &filled, &before, err);
    if (rc == HTH_OK)
        rc = ask(t, tokens, &all, &stats, err);
    if (rc != HTH_OK)
        return rc;
    s = test->generate > 0 ? stats.generate_s : 0;
    if (test->prompt > 0)
        s += stats.prompt_s - before.prompt_s;
    if (s <= 0)
        return hth_fail(err, HTH_EUNSUPPORTED,
                        "this test is too short to be measured over a running "
                        "coordinator; give more tokens");
    f->ns[f->count++] = (uint64_t)(s * 1e9);
    /* It tells what was read and waited for while it generated. */
    if (test->prompt == 0)
        add_weights(&f->weights,
                    &(struct hth_bench_weights){
                        .pinned_bytes = stats.pinned_bytes,
                        .streamed_bytes = stats.streamed_bytes,
                        .read_bytes = stats.read_bytes,
                        .stall_ns = (uint64_t)(stats.stall_s * 1e9),
                        .disk_bytes_per_s = stats.disk_bytes_per_s,
                        .predicted_token_s = stats.predicted_token_s});
    return HTH_OK;
}

/* ---- repetitions --------------------------------------------------------- */

static int run_once(const struct hth_bench_target *t, uint32_t repetition,
                    uint32_t *tokens, struct hth_bench_figures *f,
                    struct hth_err *err)
{
    struct hth_bench_test filled = f->test;

    if (hth_interrupted())
        return hth_fail_interrupted(err);
    filled.prompt += filled.depth + filled.prompt == 0;
    make_tokens(&filled, repetition, t->vocab, tokens);
    return t->cluster != NULL ? run_here(t, &f->test, tokens, f, err)
                              : run_there(t, &f->test, tokens, f, err);
}

/* The first run finds caches cold and threads asleep: it does not count. What
 * only decodes is warmed up with a few tokens. */
static int warm_up(const struct hth_bench_target *t, uint32_t *tokens,
                   struct hth_bench_figures *scratch, struct hth_err *err)
{
    struct hth_bench_test *test = &scratch->test;

    test->depth = 0;
    test->prompt = test->prompt < 128 ? test->prompt : 128;
    test->generate = test->generate < 4 ? test->generate : 4;
    return run_once(t, HTH_BENCH_REPETITIONS_MAX, tokens, scratch, err);
}

int hth_bench_run(const struct hth_bench_target *t,
                  const struct hth_bench_test *test, uint32_t repetitions,
                  struct hth_bench_figures *out, struct hth_err *err)
{
    size_t count = (size_t)test->depth + test->prompt + 1;
    uint32_t *tokens = calloc(count, sizeof *tokens);
    int rc;

    if (tokens == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    *out = (struct hth_bench_figures){.test = *test};
    rc = warm_up(t, tokens, out, err);
    *out = (struct hth_bench_figures){.test = *test,
                                      .wall_s = (uint64_t)time(NULL)};
    for (uint32_t i = 0; i < repetitions && rc == HTH_OK; i++)
        rc = run_once(t, i, tokens, out, err);
    free(tokens);
    return rc;
}
