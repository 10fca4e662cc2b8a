/* load_report.c - percentiles of what a load run saw, for people, and as JSON
 * with vLLM's keys. TPOT = (E2E - TTFT) / (tokens - 1), of requests with more
 * than one token; ITL = every gap between two chunks of text. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/load.h"
#include "cli/options.h"
#include "cli/table.h"
#include "model/json_write.h"

/* Milliseconds, ascending once sorted. */
struct series {
    double *v;
    size_t n, room;
};

#define P99_NEEDS 100u

enum metric { METRIC_TTFT, METRIC_TPOT, METRIC_ITL, METRIC_E2EL, METRICS };

static const char *const g_names[] = {"ttft", "tpot", "itl", "e2el"};

struct report {
    struct series series[METRICS];
    uint32_t completed, good;
    uint64_t tokens;
};

static void push(struct series *s, double v)
{
    if (s->n < s->room)
        s->v[s->n++] = v;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double tpot_ms(const struct hth_load_request *q)
{
    return q->tokens > 1 ? (q->e2e_s - q->ttft_s) * 1e3 / (q->tokens - 1) : 0;
}

static bool good(const struct hth_load_request *q,
                 const struct hth_load_goal *g)
{
    return (g->ttft_ms <= 0 || q->ttft_s * 1e3 <= g->ttft_ms) &&
           (g->tpot_ms <= 0 || tpot_ms(q) <= g->tpot_ms) &&
           (g->e2el_ms <= 0 || q->e2e_s * 1e3 <= g->e2el_ms);
}

static void add_request(struct report *p, const struct hth_load_request *q,
                        const struct hth_load_goal *goal)
{
    if (!q->ok)
        return;
    p->completed++;
    p->tokens += q->tokens;
    p->good += good(q, goal);
    push(&p->series[METRIC_TTFT], q->ttft_s * 1e3);
    push(&p->series[METRIC_E2EL], q->e2e_s * 1e3);
    if (q->tokens > 1)
        push(&p->series[METRIC_TPOT], tpot_ms(q));
    for (uint32_t i = 0; i < q->gap_count; i++)
        push(&p->series[METRIC_ITL], (double)q->gap_s[i] * 1e3);
}

static bool make_report(struct report *p, const struct hth_load_result *r,
                        const struct hth_load_goal *goal)
{
    size_t gaps = 0;
    bool room = true;

    memset(p, 0, sizeof *p);
    for (uint32_t i = 0; i < r->count; i++)
        gaps += r->request[i].gap_count;
    for (uint32_t m = 0; m < METRICS; m++) {
        p->series[m].room = (m == METRIC_ITL ? gaps : r->count) + 1;
        p->series[m].v = calloc(p->series[m].room, sizeof(double));
        room = room && p->series[m].v != NULL;
    }
    for (uint32_t i = 0; i < r->count && room; i++)
        add_request(p, &r->request[i], goal);
    for (uint32_t m = 0; m < METRICS && room; m++)
        qsort(p->series[m].v, p->series[m].n, sizeof(double), by_value);
    return room;
}

static void drop_report(struct report *p)
{
    for (uint32_t m = 0; m < METRICS; m++)
        free(p->series[m].v);
}

/* Between the two nearest, as numpy does it. */
static double percentile(const struct series *s, double percent)
{
    double at = percent / 100 * (double)(s->n - 1);
    size_t i = (size_t)at;

    if (s->n == 0)
        return 0;
    if (i + 1 >= s->n)
        return s->v[s->n - 1];
    return s->v[i] + (s->v[i + 1] - s->v[i]) * (at - (double)i);
}

static double mean(const struct series *s)
{
    double sum = 0;

    for (size_t i = 0; i < s->n; i++)
        sum += s->v[i];
    return s->n > 0 ? sum / (double)s->n : 0;
}

static double deviation(const struct series *s)
{
    double m = mean(s), sum = 0;

    for (size_t i = 0; i < s->n; i++)
        sum += (s->v[i] - m) * (s->v[i] - m);
    return s->n > 0 ? sqrt(sum / (double)s->n) : 0;
}

int hth_load_goal_parse(struct hth_load_goal *out, const char *text,
                        struct hth_err *err)
{
    *out = (struct hth_load_goal){0};
    while (*text != '\0') {
        size_t n = strcspn(text, " ,");
        char item[48], *colon;
        double v = 0;

        snprintf(item, sizeof item, "%.*s", (int)(n < 47 ? n : 47), text);
        colon = strchr(item, ':');
        if (colon != NULL)
            *colon = '\0';
        if (colon == NULL || hth_parse_float(colon + 1, &v) != HTH_OK ||
            v <= 0 ||
            (strcmp(item, "ttft") != 0 && strcmp(item, "tpot") != 0 &&
             strcmp(item, "e2el") != 0))
            return hth_fail(err, HTH_EUSAGE,
                            "--goodput takes milliseconds, as in "
                            "ttft:2000,tpot:200,e2el:60000");
        if (strcmp(item, "ttft") == 0)
            out->ttft_ms = v;
        else if (strcmp(item, "tpot") == 0)
            out->tpot_ms = v;
        else
            out->e2el_ms = v;
        text += n + (text[n] != '\0');
    }
    return HTH_OK;
}

/* ---- for people ---------------------------------------------------------- */

void hth_load_put(const struct hth_load_opts *o,
                  const struct hth_load_result *r,
                  const struct hth_load_goal *goal, struct hth_buf *out)
{
    double s = r->duration_s > 0 ? r->duration_s : 1;
    struct report p;
    struct hth_table t;

    if (!make_report(&p, r, goal)) {
        out->failed = true;
        drop_report(&p);
        return;
    }
    hth_put_printf(out,
                   "%u requests of %u + %u tokens, %u completed, %u failed, "
                   "%.2f s\n%.3f requests/s, %.2f tokens/s generated, %.3f "
                   "requests/s within the goal\n\n",
                   r->count, o->prompt, o->generate, p.completed,
                   r->count - p.completed, r->duration_s, p.completed / s,
                   (double)p.tokens / s, p.good / s);
    if (r->failure[0] != '\0') {
        char plain[HTH_ERR_TEXT_MAX];

        hth_plain_text(r->failure, plain, sizeof plain);
        hth_put_printf(out, "first failure: %s\n\n", plain);
    }
    hth_table_init(&t, "MS\tMEAN\tSD\tP50\tP90\tP95\tP99\tMAX\tN");
    for (uint32_t m = 0; m < METRICS; m++) {
        const struct series *v = &p.series[m];

        hth_table_row(&t, "%s\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t%zu",
                      g_names[m], mean(v), deviation(v), percentile(v, 50),
                      percentile(v, 90), percentile(v, 95), percentile(v, 99),
                      percentile(v, 100), v->n);
    }
    hth_table_put(&t, out);
    hth_table_fini(&t);
    if (p.completed < P99_NEEDS)
        hth_put_printf(out,
                       "\nP99 of fewer than %u requests says little: give more "
                       "(--requests).\n",
                       P99_NEEDS);
    drop_report(&p);
}

/* ---- json ---------------------------------------------------------------- */

static void put_named(struct hth_buf *out, const char *what, enum metric m,
                      double v)
{
    char key[48];

    snprintf(key, sizeof key, "%s_%s_ms", what, g_names[m]);
    hth_json_field_number(out, key, v);
}

static void put_metric(struct hth_buf *out, const struct report *p,
                       enum metric m)
{
    const struct series *s = &p->series[m];

    put_named(out, "mean", m, mean(s));
    put_named(out, "median", m, percentile(s, 50));
    put_named(out, "std", m, deviation(s));
    put_named(out, "p50", m, percentile(s, 50));
    put_named(out, "p90", m, percentile(s, 90));
    put_named(out, "p95", m, percentile(s, 95));
    put_named(out, "p99", m, percentile(s, 99));
    put_named(out, "min", m, percentile(s, 0));
    put_named(out, "max", m, percentile(s, 100));
}

/* Waiting for a place among those under way, here and not at the server. */
static double mean_queue_ms(const struct hth_load_result *r)
{
    double sum = 0;
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->count; i++)
        if (r->request[i].ok) {
            sum += r->request[i].queue_s * 1e3;
            n++;
        }
    return n > 0 ? sum / n : 0;
}

static void put_lengths(struct hth_buf *out, const struct hth_load_opts *o,
                        const struct hth_load_result *r)
{
    hth_json_key(out, "input_lens");
    hth_put_u8(out, '[');
    for (uint32_t i = 0; i < r->count; i++)
        hth_put_printf(out, "%s%u", i > 0 ? "," : "", o->prompt);
    hth_put_u8(out, ']');
    hth_json_key(out, "output_lens");
    hth_put_u8(out, '[');
    for (uint32_t i = 0; i < r->count; i++)
        hth_put_printf(out, "%s%u", i > 0 ? "," : "", r->request[i].tokens);
    hth_put_u8(out, ']');
}

static void put_lists(struct hth_buf *out, const struct hth_load_result *r)
{
    hth_json_key(out, "ttfts");
    hth_put_u8(out, '[');
    for (uint32_t i = 0; i < r->count; i++) {
        if (i > 0)
            hth_put_u8(out, ',');
        hth_json_number(out, r->request[i].ttft_s);
    }
    hth_put_u8(out, ']');
    hth_json_key(out, "itls");
    hth_put_u8(out, '[');
    for (uint32_t i = 0; i < r->count; i++) {
        hth_put_printf(out, "%s[", i > 0 ? "," : "");
        for (uint32_t g = 0; g < r->request[i].gap_count; g++)
            hth_put_printf(out, "%s%.6f", g > 0 ? "," : "",
                           (double)r->request[i].gap_s[g]);
        hth_put_u8(out, ']');
    }
    hth_put_u8(out, ']');
}

void hth_load_put_json(const struct hth_load_opts *o,
                       const struct hth_load_result *r,
                       const struct hth_load_goal *goal, struct hth_buf *out)
{
    double s = r->duration_s > 0 ? r->duration_s : 1, input;
    struct report p;

    if (!make_report(&p, r, goal)) {
        out->failed = true;
        drop_report(&p);
        return;
    }
    input = (double)p.completed * o->prompt;
    hth_put_u8(out, '{');
    hth_json_field_number(out, "num_prompts", o->requests);
    hth_json_field_number(out, "max_concurrency",
                          o->rate > 0 ? HTH_LOAD_IN_FLIGHT_MAX
                                      : o->concurrency);
    hth_json_field_number(out, "request_rate", o->rate > 0 ? o->rate : NAN);
    hth_json_field_number(out, "burstiness", 1);
    hth_json_field_number(out, "duration", r->duration_s);
    hth_json_field_number(out, "completed", p.completed);
    hth_json_field_number(out, "failed", r->count - p.completed);
    hth_json_field_number(out, "total_input_tokens", input);
    hth_json_field_number(out, "total_output_tokens", (double)p.tokens);
    hth_json_field_number(out, "request_throughput", p.completed / s);
    hth_json_field_number(out, "request_goodput", p.good / s);
    hth_json_field_number(out, "output_throughput", (double)p.tokens / s);
    hth_json_field_number(out, "total_token_throughput",
                          (input + (double)p.tokens) / s);
    hth_json_field_number(out, "mean_client_queue_ms", mean_queue_ms(r));
    for (uint32_t m = 0; m < METRICS; m++)
        put_metric(out, &p, (enum metric)m);
    put_lengths(out, o, r);
    put_lists(out, r);
    hth_put_printf(out, "}\n");
    drop_report(&p);
}
