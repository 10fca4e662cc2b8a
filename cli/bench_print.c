/* bench_print.c - figures as a Markdown table, JSON, JSON lines or CSV, with
 * the names llama-bench uses. Rows appear as they are measured. Fails when
 * standard output does. */
#include "cli/bench.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/version.h"
#include "cli/out.h"
#include "model/json_write.h"

#define ROW_BYTES_MAX (1u << 20)

static uint32_t tokens_of(const struct hth_bench_test *t)
{
    return t->prompt + t->generate;
}

static double rate_at(const struct hth_bench_figures *f, uint32_t i)
{
    return f->ns[i] == 0 ? 0 : tokens_of(&f->test) * 1e9 / (double)f->ns[i];
}

struct hth_bench_rate hth_bench_rate(const struct hth_bench_figures *f)
{
    struct hth_bench_rate r = {0};
    double squares = 0;

    if (f->count == 0)
        return r;
    for (uint32_t i = 0; i < f->count; i++)
        r.mean += rate_at(f, i) / f->count;
    for (uint32_t i = 0; i < f->count; i++)
        squares += (rate_at(f, i) - r.mean) * (rate_at(f, i) - r.mean);
    if (f->count > 1)
        r.deviation = sqrt(squares / (f->count - 1));
    return r;
}

void hth_bench_test_text(const struct hth_bench_test *t, char *dst, size_t size)
{
    char depth[24] = "";

    if (t->depth > 0)
        snprintf(depth, sizeof depth, " @ d%u", t->depth);
    if (t->prompt > 0 && t->generate > 0)
        snprintf(dst, size, "pp%u+tg%u%s", t->prompt, t->generate, depth);
    else if (t->prompt > 0)
        snprintf(dst, size, "pp%u%s", t->prompt, depth);
    else
        snprintf(dst, size, "tg%u%s", t->generate, depth);
}

/* What the weights did for one token of a test. */
struct per_token {
    double read_bytes, stall_ns;
    double predicted_rate; /* tokens per second; 0: not known */
};

static struct per_token per_token(const struct hth_bench_figures *f)
{
    double tokens = (double)tokens_of(&f->test) * f->count;
    double s = f->test.prompt == 0 ? f->weights.predicted_token_s : 0;
    struct per_token p = {.predicted_rate = s > 0 ? 1 / s : 0};

    if (tokens > 0) {
        p.read_bytes = (double)f->weights.read_bytes / tokens;
        p.stall_ns = (double)f->weights.stall_ns / tokens;
    }
    return p;
}

/* ---- md ------------------------------------------------------------------ */

static void put_md_header(struct hth_buf *b, bool weights)
{
    hth_put_printf(b, "| model                          |       size |     "
                      "params | backend    | ranks    | threads |            "
                      "test |                  t/s |");
    if (weights)
        hth_put_printf(b, " pinned MiB | streamed MiB/t | read MiB/t | "
                          "disk MB/s | stall ms/t | predicted t/s |");
    hth_put_printf(b, "\n| ------------------------------ | ---------: | "
                      "---------: | ---------- | -------- | ------: | "
                      "--------------: | -------------------: |");
    if (weights)
        hth_put_printf(b, " ---------: | -------------: | ---------: | "
                          "--------: | ---------: | ------------: |");
    hth_put_printf(b, "\n");
}

static void put_md_weights(struct hth_buf *b, const struct hth_bench_figures *f)
{
    struct per_token p = per_token(f);
    char predicted[32] = "-";

    if (p.predicted_rate > 0)
        snprintf(predicted, sizeof predicted, "%.2f", p.predicted_rate);
    hth_put_printf(b, " %10.1f | %14.1f | %10.2f | %9.0f | %10.2f | %13s |",
                   (double)f->weights.pinned_bytes / 1048576,
                   (double)f->weights.streamed_bytes / 1048576,
                   p.read_bytes / 1048576, f->weights.disk_bytes_per_s * 1e-6,
                   p.stall_ns * 1e-6, predicted);
}

static void put_md(struct hth_buf *b, struct hth_bench_print *to,
                   const struct hth_bench_model *m,
                   const struct hth_bench_figures *f)
{
    bool weights = f->weights.streamed_bytes > 0;
    struct hth_bench_rate r = hth_bench_rate(f);
    char test[HTH_BENCH_TEXT], size[32] = "-", params[32] = "-";

    if (to->rows > 1 && to->weights != weights)
        hth_put_printf(b, "\n");
    if (to->rows == 1 || to->weights != weights)
        put_md_header(b, weights);
    to->weights = weights;
    hth_bench_test_text(&f->test, test, sizeof test);
    if (m->bytes > 0)
        snprintf(size, sizeof size, "%.2f GiB",
                 (double)m->bytes / (double)(1u << 30));
    if (m->weights > 0)
        snprintf(params, sizeof params, "%.2f B", (double)m->weights / 1e9);
    hth_put_printf(b,
                   "| %-30s | %10s | %10s | %-10s | %-8s | %7s | %15s | %12.2f "
                   "± %5.2f |",
                   m->name, size, params, m->isa, m->ranks, m->threads, test,
                   r.mean, r.deviation);
    if (weights)
        put_md_weights(b, f);
    hth_put_printf(b, "\n");
}

/* ---- json ---------------------------------------------------------------- */

static void put_samples(struct hth_buf *b, const struct hth_bench_figures *f)
{
    hth_json_key(b, "samples_ns");
    hth_put_u8(b, '[');
    for (uint32_t i = 0; i < f->count; i++)
        hth_put_printf(b, "%s%llu", i > 0 ? "," : "",
                       (unsigned long long)f->ns[i]);
    hth_put_u8(b, ']');
    hth_json_key(b, "samples_ts");
    hth_put_u8(b, '[');
    for (uint32_t i = 0; i < f->count; i++) {
        if (i > 0)
            hth_put_u8(b, ',');
        hth_json_number(b, rate_at(f, i));
    }
    hth_put_u8(b, ']');
}

static void time_text(uint64_t wall_s, char *dst, size_t size)
{
    time_t t = (time_t)wall_s;
    struct tm tm;

    if (gmtime_r(&t, &tm) == NULL ||
        strftime(dst, size, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
        snprintf(dst, size, "?");
}

/* Mean and deviation of the nanoseconds. */
static struct hth_bench_rate times_of(const struct hth_bench_figures *f)
{
    struct hth_bench_rate r = {0};
    double squares = 0;

    for (uint32_t i = 0; i < f->count; i++)
        r.mean += (double)f->ns[i] / f->count;
    for (uint32_t i = 0; i < f->count; i++)
        squares += ((double)f->ns[i] - r.mean) * ((double)f->ns[i] - r.mean);
    if (f->count > 1)
        r.deviation = sqrt(squares / (f->count - 1));
    return r;
}

static void put_weights(struct hth_buf *b, const struct hth_bench_figures *f)
{
    const struct hth_bench_weights *w = &f->weights;
    struct per_token p = per_token(f);

    hth_json_field_number(b, "pinned_bytes", (double)w->pinned_bytes);
    hth_json_field_number(b, "streamed_bytes", (double)w->streamed_bytes);
    hth_json_field_number(b, "read_bytes_per_token", round(p.read_bytes));
    hth_json_field_number(b, "read_bytes_per_s", round(w->disk_bytes_per_s));
    hth_json_field_number(b, "stall_ns_per_token", round(p.stall_ns));
    hth_json_field_number(b, "predicted_ts", p.predicted_rate);
}

static void put_object(struct hth_buf *b, const struct hth_bench_model *m,
                       const struct hth_bench_figures *f, const char *ops)
{
    struct hth_bench_rate rate = hth_bench_rate(f), ns = times_of(f);
    char when[40];

    time_text(f->wall_s, when, sizeof when);
    hth_put_u8(b, '{');
    hth_json_field(b, "build", HTH_VERSION);
    hth_json_field(b, "model_filename", m->file);
    hth_json_field(b, "model_type", m->name);
    hth_json_field_number(b, "model_size", (double)m->bytes);
    hth_json_field_number(b, "model_n_params", (double)m->weights);
    hth_json_field(b, "backend", m->isa);
    hth_json_field(b, "ranks", m->ranks);
    hth_json_field(b, "threads", m->threads);
    hth_json_field(b, "type_kv", m->kv);
    hth_json_field(b, "wire", m->wire);
    hth_json_field_number(b, "n_prompt", f->test.prompt);
    hth_json_field_number(b, "n_gen", f->test.generate);
    hth_json_field_number(b, "n_depth", f->test.depth);
    hth_json_field(b, "test_time", when);
    hth_json_field_number(b, "avg_ns", round(ns.mean));
    hth_json_field_number(b, "stddev_ns", round(ns.deviation));
    hth_json_field_number(b, "avg_ts", rate.mean);
    hth_json_field_number(b, "stddev_ts", rate.deviation);
    put_weights(b, f);
    put_samples(b, f);
    if (ops != NULL) {
        hth_json_key(b, "ops");
        hth_put_bytes(b, ops, strlen(ops));
    }
    hth_put_u8(b, '}');
}

/* ---- csv ----------------------------------------------------------------- */

/* A text in quotes; its own are doubled. */
static void put_quoted(struct hth_buf *b, const char *text)
{
    hth_put_u8(b, '"');
    for (; *text != '\0'; text++) {
        if (*text == '"')
            hth_put_u8(b, '"');
        hth_put_u8(b, (uint8_t)*text);
    }
    hth_put_bytes(b, "\",", 2);
}

static void put_csv(struct hth_buf *b, bool first,
                    const struct hth_bench_model *m,
                    const struct hth_bench_figures *f)
{
    struct hth_bench_rate rate = hth_bench_rate(f), ns = times_of(f);
    struct per_token p = per_token(f);
    char when[40];

    time_text(f->wall_s, when, sizeof when);
    if (first)
        hth_put_printf(b, "build,model_filename,model_type,backend,ranks,"
                          "threads,type_kv,wire,test_time,model_size,"
                          "model_n_params,n_prompt,n_gen,n_depth,avg_ns,"
                          "stddev_ns,avg_ts,stddev_ts,pinned_bytes,"
                          "streamed_bytes,read_bytes_per_token,"
                          "read_bytes_per_s,stall_ns_per_token,"
                          "predicted_ts\n");
    put_quoted(b, HTH_VERSION);
    put_quoted(b, m->file);
    put_quoted(b, m->name);
    put_quoted(b, m->isa);
    put_quoted(b, m->ranks);
    put_quoted(b, m->threads);
    put_quoted(b, m->kv);
    put_quoted(b, m->wire);
    put_quoted(b, when);
    hth_put_printf(b, "%llu,%llu,%u,%u,%u,%.0f,%.0f,%.6f,%.6f,",
                   (unsigned long long)m->bytes, (unsigned long long)m->weights,
                   f->test.prompt, f->test.generate, f->test.depth, ns.mean,
                   ns.deviation, rate.mean, rate.deviation);
    hth_put_printf(b, "%llu,%llu,%.0f,%.0f,%.0f,%.6f\n",
                   (unsigned long long)f->weights.pinned_bytes,
                   (unsigned long long)f->weights.streamed_bytes, p.read_bytes,
                   f->weights.disk_bytes_per_s, p.stall_ns, p.predicted_rate);
}

/* ---- all ----------------------------------------------------------------- */

int hth_bench_print_row(struct hth_bench_print *p,
                        const struct hth_bench_model *m,
                        const struct hth_bench_figures *f, const char *ops,
                        struct hth_err *err)
{
    bool first = p->rows++ == 0;
    struct hth_buf b;
    int rc;

    hth_buf_init(&b, ROW_BYTES_MAX);
    switch (p->format) {
    case HTH_BENCH_MD:
        put_md(&b, p, m, f);
        break;
    case HTH_BENCH_CSV:
        put_csv(&b, first, m, f);
        break;
    case HTH_BENCH_JSON:
        hth_put_printf(&b, "%s", first ? "[\n" : ",\n");
        put_object(&b, m, f, ops);
        break;
    case HTH_BENCH_JSONL:
        put_object(&b, m, f, ops);
        hth_put_u8(&b, '\n');
        break;
    }
    rc = hth_out_buf(&b, err);
    hth_buf_fini(&b);
    return rc;
}

int hth_bench_print_end(struct hth_bench_print *p, struct hth_err *err)
{
    if (p->format != HTH_BENCH_JSON)
        return HTH_OK;
    return hth_out_text(p->rows > 0 ? "\n]\n" : "[]\n", err);
}
