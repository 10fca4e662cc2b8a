/* bench_ops.c - see bench_ops.h. What an operation moves or computes follows
 * from the layout of rank 0's blocks; what it took, from the forward pass. */
#include "cli/bench_ops.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/paths.h"
#include "model/json_write.h"
#include "model/shard.h"
#include "worker/probe.h"

#define READ_MS 300u
#define READ_BYTES (256u << 20) /* where it is not known what a step reads */
#define STEP_BYTES_MIN ((double)(2u << 20)) /* a large page */
#define STEP_BYTES_MAX ((double)((uint64_t)4 << 30))
#define MEMORY_PART 0.75 /* of what is free, for a moment */

/* One operation over the whole test. */
struct op {
    double bytes;   /* of weights and cache, read once per step */
    double ops;     /* two per weight and row */
    double limit_s; /* no machine like this one is faster; 0: unknown */
};

struct sheet {
    const struct hth_bench_figures *f;
    struct hth_bench_subject subject;
    struct hth_profile profile;
    uint32_t kv_type;
    double read_rate;  /* plain, at the subject's threads; decode: just now */
    double read_bytes; /* of the read just now; 0: there was none */
    bool decode, prefill; /* neither: a mixture, times only */
    double tokens, steps;
    struct op op[HTH_OP_COUNT];
};

void hth_bench_limits(uint32_t threads, struct hth_profile *out)
{
    char path[HTH_PATH_BYTES_MAX];
    struct hth_err why;
    int rc = hth_path_state("profile", path, sizeof path, &why);

    if (rc == HTH_OK)
        rc = hth_profile_load(out, path, &why);
    if (rc == HTH_OK)
        return;
    hth_log(HTH_LOG_WARN, "NO-PROFILE",
            "%s; until then only the memory's read rate is known", why.text);
    *out = (struct hth_profile){.reads = 1};
    out->read[0].threads = threads;
    out->read[0].bytes_per_s =
        hth_profile_measure_read(threads, READ_BYTES, READ_MS);
}

static enum hth_op op_of(uint32_t role)
{
    switch (role) {
    case HTH_ROLE_ATTN_Q:
    case HTH_ROLE_ATTN_K:
    case HTH_ROLE_ATTN_V:
        return HTH_OP_QKV;
    case HTH_ROLE_ATTN_OUT:
        return HTH_OP_ATTN_OUT;
    case HTH_ROLE_FFN_ROUTER:
        return HTH_OP_ROUTE;
    case HTH_ROLE_FFN_GATE:
    case HTH_ROLE_FFN_UP:
    case HTH_ROLE_FFN_GATE_EXPS:
    case HTH_ROLE_FFN_UP_EXPS:
        return HTH_OP_FFN_UP;
    case HTH_ROLE_FFN_DOWN:
    case HTH_ROLE_FFN_DOWN_EXPS:
        return HTH_OP_FFN_DOWN;
    case HTH_ROLE_OUTPUT:
        return HTH_OP_OUTPUT;
    default:
        return HTH_OP_NORM;
    }
}

/* One matrix. Of experts a row uses some: with one row only those are read.
 * The vocabulary is computed for one row per step of decode, and for one per
 * prompt. */
static void add_part(struct sheet *s, const struct hth_part *p)
{
    const struct hth_spec *spec = s->subject.spec;
    double used = p->planes > 1 ? spec->experts_used : 1;
    double weights = used * p->rows * p->cols;
    double bytes = used * p->rows * (double)p->row_bytes;
    enum hth_op i = op_of(p->role);
    double rows = i == HTH_OP_OUTPUT && s->prefill ? s->f->count : s->tokens;
    double rate = 0;

    s->op[i].ops += 2 * weights * rows;
    s->op[i].bytes += bytes * (s->decode ? s->steps : s->f->count);
    if (s->decode || i == HTH_OP_OUTPUT) {
        if (s->read_rate > 0)
            s->op[i].limit_s += bytes * rows / s->read_rate;
    } else if (hth_profile_format_rate(&s->profile, p->type, s->subject.threads,
                                       NULL, &rate)) {
        s->op[i].limit_s += 2 * weights * rows / rate;
    }
}

/* Attention reads the keys and values of all positions so far; what it
 * computes is two products of head_dim per head and position. */
static void add_attention(struct sheet *s)
{
    const struct hth_bench_test *t = &s->f->test;
    const struct hth_spec *spec = s->subject.spec;
    const struct hth_share *share = &s->subject.plan.share[0];
    double first = t->depth > 0 ? t->depth : s->decode;
    double rows = t->prompt + t->generate;
    double positions = first + (rows + 1) / 2; /* seen by a row, on average */
    struct op *op = &s->op[HTH_OP_ATTENTION];
    struct hth_shape shape;

    hth_spec_shape(spec, s->kv_type, &shape);
    op->ops = 4.0 * spec->layers * share->heads * spec->head_dim * positions *
              s->tokens;
    if (!s->decode)
        return;
    op->bytes =
        (double)shape.kv_cache_bytes * share->kvs * positions * s->steps;
    if (s->read_rate > 0)
        op->limit_s = op->bytes / s->read_rate;
}

static void fill(struct sheet *s)
{
    const struct hth_spec *spec = s->subject.spec;

    if (!s->decode && !s->prefill)
        return;
    for (uint32_t i = 0; i < hth_shard_blocks(spec); i++) {
        struct hth_block b;

        hth_shard_block(spec, &s->subject.plan, 0, i, &b);
        for (uint32_t p = 0; p < b.parts; p++)
            add_part(s, &b.part[p]);
    }
    add_attention(s);
    s->op[HTH_OP_NORM] = (struct op){0}; /* vectors: not worth a figure */
}

static double bytes_of(const struct sheet *s)
{
    double sum = 0;

    for (uint32_t i = 0; i < HTH_OP_COUNT; i++)
        sum += s->op[i].bytes;
    return sum;
}

/* What is read for a token, read plainly: right after the test, since the rate
 * of a machine that others use changes by the minute, and as many bytes, so
 * that a large cache keeps the same part of both. The limits are put in
 * proportion. */
static void read_plainly(struct sheet *s)
{
    double before = s->read_rate, bytes = bytes_of(s) / s->steps, now;
    double free_bytes = (double)hth_probe_memory();

    bytes = bytes < STEP_BYTES_MIN ? STEP_BYTES_MIN : bytes;
    bytes = bytes > STEP_BYTES_MAX ? STEP_BYTES_MAX : bytes;
    if (free_bytes > 0 && bytes > free_bytes * MEMORY_PART)
        bytes = free_bytes * MEMORY_PART;
    now = hth_profile_measure_read(s->subject.threads, (size_t)bytes, READ_MS);
    if (now <= 0 || before <= 0)
        return;
    for (uint32_t i = 0; i < HTH_OP_COUNT; i++)
        s->op[i].limit_s *= before / now;
    s->read_rate = now;
    s->read_bytes = bytes;
}

/* ---- printing ------------------------------------------------------------ */

static double total_s(const struct sheet *s)
{
    double sum = 0;

    for (uint32_t i = 0; i < s->f->count; i++)
        sum += (double)s->f->ns[i] * 1e-9;
    return sum;
}

static double seconds(const struct sheet *s, uint32_t i)
{
    return (double)s->f->times.op_ns[i] * 1e-9;
}

static void put_line(const struct sheet *s, uint32_t i, struct hth_buf *out)
{
    const struct op *op = &s->op[i];
    double t = seconds(s, i);
    char work[32] = "", rate[32] = "", limit[32] = "";

    if (t > 0 && s->decode && op->bytes > 0) {
        snprintf(work, sizeof work, "%.1f MB", op->bytes / s->tokens / 1e6);
        snprintf(rate, sizeof rate, "%.1f GB/s", op->bytes / t / 1e9);
    } else if (t > 0 && op->ops > 0) {
        snprintf(work, sizeof work, "%.1f MFLOP", op->ops / s->tokens / 1e6);
        snprintf(rate, sizeof rate, "%.1f GFLOP/s", op->ops / t / 1e9);
    }
    if (t > 0 && op->limit_s > 0)
        snprintf(limit, sizeof limit, "%.0f %%", 100 * op->limit_s / t);
    hth_put_printf(out, "| %-20s | %12.1f | %5.1f %% | %13s | %15s | %5s |\n",
                   hth_op_text((enum hth_op)i), t / s->tokens * 1e6,
                   100 * t / total_s(s), work, rate, limit);
}

/* A read of less than a step reads may owe more to a cache: then it says so. */
static void put_share(const struct sheet *s, struct hth_buf *out)
{
    double rate = bytes_of(s) / total_s(s), step = bytes_of(s) / s->steps;

    hth_put_printf(out,
                   "weights and cache: %.0f MB per step, %.1f GB/s, %.0f %% of "
                   "the %.1f GB/s of a plain read ",
                   step / 1e6, rate / 1e9, 100 * rate / s->read_rate,
                   s->read_rate / 1e9);
    if (s->read_bytes > 0)
        hth_put_printf(out, "of %.0f MB with %u threads right after%s\n\n",
                       s->read_bytes / 1e6, s->subject.threads,
                       s->read_bytes + 1 < step
                           ? ": less than a step, for want of memory"
                           : "");
    else
        hth_put_printf(out, "in the machine's profile; there was no memory for "
                            "one right after\n\n");
}

static void put_table(const struct sheet *s, struct hth_buf *out)
{
    double rest = total_s(s), limit = 0;

    hth_put_printf(out, "\n| operation (rank 0)   | us per token |   share | "
                        "per token     |            rate | limit |\n"
                        "| -------------------- | -----------: | ------: | "
                        "------------: | --------------: | ----: |\n");
    for (uint32_t i = 0; i < HTH_OP_COUNT; i++) {
        rest -= seconds(s, i);
        limit += s->op[i].limit_s;
        if (s->f->times.op_ns[i] > 0)
            put_line(s, i, out);
    }
    hth_put_printf(out,
                   "| %-20s | %12.1f | %5.1f %% | %13s | %15s | %5s |\n"
                   "| %-20s | %12.1f | %5.1f %% | %13s | %15s | %3.0f %% |\n\n",
                   "between steps", rest / s->tokens * 1e6,
                   100 * rest / total_s(s), "", "", "", "all",
                   total_s(s) / s->tokens * 1e6, 100.0, "", "",
                   100 * limit / total_s(s));
    if (s->decode && s->read_rate > 0)
        put_share(s, out);
}

static void put_json(const struct sheet *s, struct hth_buf *out)
{
    bool first = true;

    hth_put_u8(out, '[');
    for (uint32_t i = 0; i < HTH_OP_COUNT; i++) {
        double t = seconds(s, i);

        if (t <= 0)
            continue;
        hth_put_printf(out, "%s{", first ? "" : ",");
        first = false;
        hth_json_field(out, "op", hth_op_text((enum hth_op)i));
        hth_json_field_number(out, "ns_per_token", t / s->tokens * 1e9);
        hth_json_field_number(out, "share", t / total_s(s));
        if (s->decode)
            hth_json_field_number(out, "bytes_per_s", s->op[i].bytes / t);
        hth_json_field_number(out, "ops_per_s", s->op[i].ops / t);
        if (s->op[i].limit_s > 0)
            hth_json_field_number(out, "of_limit", s->op[i].limit_s / t);
        hth_put_u8(out, '}');
    }
    if (s->decode && !first) {
        hth_put_printf(out, ",{");
        hth_json_field(out, "op", "all");
        hth_json_field_number(out, "ns_per_token",
                              total_s(s) / s->tokens * 1e9);
        hth_json_field_number(out, "bytes_per_s", bytes_of(s) / total_s(s));
        hth_json_field_number(out, "bytes_per_step", bytes_of(s) / s->steps);
        hth_json_field_number(out, "plain_read_bytes_per_s", s->read_rate);
        hth_json_field_number(out, "plain_read_bytes", s->read_bytes);
        hth_put_u8(out, '}');
    }
    hth_put_u8(out, ']');
}

int hth_bench_ops(struct hth_cluster *cluster,
                  const struct hth_bench_figures *f, bool table,
                  struct hth_buf *out, struct hth_err *err)
{
    struct sheet s = {.f = f};
    int rc = hth_cluster_bench_subject(cluster, &s.subject, err);

    if (rc != HTH_OK)
        return rc;
    s.kv_type = s.subject.kv_type;
    s.decode = f->test.prompt == 0;
    s.prefill = f->test.generate == 0;
    s.tokens = (double)(f->test.prompt + f->test.generate) * f->count;
    s.steps = (double)f->times.steps;
    hth_bench_limits(s.subject.threads, &s.profile);
    s.read_rate = hth_profile_read_rate(&s.profile, s.subject.threads);
    fill(&s);
    if (s.decode)
        read_plainly(&s);
    if (table)
        put_table(&s, out);
    else
        put_json(&s, out);
    return out->failed ? hth_fail(err, HTH_ENOMEM, "out of memory") : HTH_OK;
}
