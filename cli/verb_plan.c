/* verb_plan.c - what each rank of a plan holds and what crosses each link,
 * computed from the file's directory alone: no weight is read. */
#include <stdio.h>
#include <stdlib.h>

#include "model/json_write.h"
#include "cli/model_opts.h"
#include "cli/out.h"
#include "cli/paths.h"
#include "cli/plan_window.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "model/shard.h"
#include "model/spec.h"
#include "net/star.h"
#include "scheduler/plan.h"

#define OUT_BYTES_MAX (64u << 10)

struct sketch {
    struct hth_spec spec;
    struct hth_shape shape;
    struct hth_plan plan;
    enum hth_wire wire;
    uint32_t ctx;
    uint32_t kv_type;
    uint64_t memory_bytes; /* 0: not asked */
    struct hth_plan_window window[HTH_RANKS_MAX];
    struct hth_star_cost reduce; /* of one all-reduce, one link, one way */
    uint64_t token_bytes;        /* of all a token's all-reduces, payload */
};

static uint64_t cache_bytes(const struct sketch *s, uint32_t rank)
{
    return hth_share_kv_bytes(&s->shape, &s->plan.share[rank]) * s->ctx;
}

static int make_sketch(struct sketch *s, const struct hth_args *args,
                       struct hth_err *err)
{
    double shares[HTH_RANKS_MAX];
    struct hth_gguf *gguf;
    size_t ranks;
    int rc;

    rc = hth_parse_shares(hth_args_text(args, "shares"), shares, &ranks, err);
    if (rc == HTH_OK)
        rc = hth_gguf_open(&gguf, hth_args_text(args, "model"), err);
    if (rc != HTH_OK)
        return rc;
    rc = hth_spec_read(&s->spec, gguf, err);
    hth_gguf_close(gguf);
    if (rc != HTH_OK)
        return rc;
    hth_spec_shape(&s->spec, hth_kv_option(args), &s->shape);
    rc = hth_plan_make(&s->shape, shares, (uint32_t)ranks, &s->plan, err);
    if (rc != HTH_OK)
        return rc;
    s->kv_type = hth_kv_option(args);
    s->memory_bytes = hth_args_size(args, "memory");
    s->wire = hth_wire_option(args);
    s->ctx = (uint32_t)hth_args_int(args, "ctx");
    if (s->ctx == 0)
        s->ctx = s->spec.ctx_train;
    s->reduce = hth_star_all_reduce_cost(s->wire, s->spec.dim);
    s->token_bytes =
        hth_plan_reduce_bytes(&s->shape, hth_wire_bytes(s->wire, s->spec.dim));
    return HTH_OK;
}

static void put_ranks(const struct sketch *s, struct hth_buf *out)
{
    struct hth_table t;

    hth_table_init(&t, "RANK\tHEADS\tKV HEADS\tFFN ROWS\tVOCABULARY\tWEIGHTS\t"
                       "KV CACHE");
    for (uint32_t r = 0; r < s->plan.ranks; r++) {
        const struct hth_share *share = &s->plan.share[r];
        char weights[HTH_BYTES_TEXT];
        char cache[HTH_BYTES_TEXT];

        hth_bytes_text(hth_shard_bytes(&s->spec, &s->plan, r), weights);
        hth_bytes_text(cache_bytes(s, r), cache);
        hth_table_row(&t, "%u\t%u\t%u\t%u\t%u\t%s\t%s", r, share->heads,
                      share->kvs, share->ff, share->vocab, weights, cache);
    }
    hth_table_put(&t, out);
    hth_table_fini(&t);
}

static int make_windows(struct sketch *s, struct hth_err *err)
{
    char profile[HTH_PATH_BYTES_MAX];
    struct hth_plan_window_ask ask = {.spec = &s->spec,
                                      .plan = &s->plan,
                                      .kv_type = s->kv_type,
                                      .ctx = s->ctx,
                                      .memory_bytes = s->memory_bytes};

    if (s->memory_bytes == 0)
        return HTH_OK;
    if (hth_path_state("profile", profile, sizeof profile, NULL) == HTH_OK)
        ask.profile_path = profile;
    return hth_plan_windows(&ask, s->window, err);
}

static void put_window(const struct hth_plan_window *w, uint32_t rank,
                       struct hth_buf *out)
{
    char pinned[HTH_BYTES_TEXT], streamed[HTH_BYTES_TEXT];

    if (w->status != HTH_OK) {
        hth_put_printf(out, "Rank %u cannot run: %s.\n", rank, w->err.text);
        return;
    }
    hth_bytes_text(w->window.pinned_bytes, pinned);
    hth_bytes_text(w->window.streamed_bytes, streamed);
    hth_put_printf(out, "Rank %u keeps %s and streams %s per token", rank,
                   pinned, streamed);
    if (w->window.token_s > 0)
        hth_put_printf(out, ": %.2f tokens/s on this machine, bound by %s",
                       1.0 / w->window.token_s,
                       hth_window_bound_text(w->window.bound));
    hth_put_printf(out, ".\n");
}

static void put_windows(const struct sketch *s, struct hth_buf *out)
{
    char memory[HTH_BYTES_TEXT];

    if (s->memory_bytes == 0)
        return;
    hth_bytes_text(s->memory_bytes, memory);
    hth_put_printf(out, "\nWith %s of memory on each rank:\n", memory);
    for (uint32_t r = 0; r < s->plan.ranks; r++)
        put_window(&s->window[r], r, out);
}

static void put_json_window(const struct hth_plan_window *w,
                            struct hth_buf *out)
{
    if (w->status != HTH_OK) {
        hth_json_field(out, "cannot_run", w->err.text);
        return;
    }
    hth_json_field_number(out, "pinned_bytes", (double)w->window.pinned_bytes);
    hth_json_field_number(out, "streamed_bytes",
                          (double)w->window.streamed_bytes);
    hth_json_field_number(out, "predicted_tokens_per_s",
                          w->window.token_s > 0 ? 1.0 / w->window.token_s : 0);
    hth_json_field(out, "bound", hth_window_bound_text(w->window.bound));
}

static void put_text(const struct sketch *s, struct hth_buf *out)
{
    uint64_t reduces = 2u * (uint64_t)s->spec.layers;

    put_ranks(s, out);
    hth_put_printf(out, "\nKV cache: for one sequence of %u tokens.\n", s->ctx);
    if (s->plan.ranks == 1) {
        hth_put_printf(out, "One rank: nothing crosses a link.\n");
        return;
    }
    hth_put_printf(out,
                   "Each link, each token, each way: %llu bytes = 2 x %u "
                   "layers x %llu (%u numbers as %s).\n",
                   (unsigned long long)s->token_bytes, s->spec.layers,
                   (unsigned long long)s->reduce.payload_bytes, s->spec.dim,
                   hth_wire_name(s->wire));
    hth_put_printf(
        out, "Frames add %llu bytes (%llu each); rank 0 has %u links.\n",
        (unsigned long long)(reduces * s->reduce.overhead_bytes),
        (unsigned long long)s->reduce.overhead_bytes, s->plan.ranks - 1);
}

static void put_json_rank(const struct sketch *s, uint32_t r,
                          struct hth_buf *out)
{
    const struct hth_share *share = &s->plan.share[r];

    hth_put_printf(out, "%s{", r == 0 ? "" : ",");
    hth_json_field_number(out, "rank", r);
    hth_json_field_number(out, "heads", share->heads);
    hth_json_field_number(out, "kv_heads", share->kvs);
    hth_json_field_number(out, "ff_rows", share->ff);
    hth_json_field_number(out, "vocab_rows", share->vocab);
    hth_json_field_number(out, "weight_bytes",
                          (double)hth_shard_bytes(&s->spec, &s->plan, r));
    hth_json_field_number(out, "kv_cache_bytes", (double)cache_bytes(s, r));
    if (s->memory_bytes > 0)
        put_json_window(&s->window[r], out);
    hth_put_u8(out, '}');
}

static void put_json(const struct sketch *s, struct hth_buf *out)
{
    double reduces = 2.0 * s->spec.layers;

    hth_put_u8(out, '{');
    hth_json_field(out, "architecture", s->spec.arch->name);
    hth_json_field_number(out, "layers", s->spec.layers);
    hth_json_field_number(out, "dim", s->spec.dim);
    hth_json_field_number(out, "ctx", s->ctx);
    hth_json_field(out, "wire", hth_wire_name(s->wire));
    hth_json_key(out, "ranks");
    hth_put_u8(out, '[');
    for (uint32_t r = 0; r < s->plan.ranks; r++)
        put_json_rank(s, r, out);
    hth_put_printf(out, "]");
    hth_json_field_number(out, "links", s->plan.ranks - 1);
    hth_json_field_number(out, "all_reduces_per_token", reduces);
    hth_json_field_number(out, "payload_bytes_per_token",
                          s->plan.ranks > 1 ? (double)s->token_bytes : 0.0);
    hth_json_field_number(
        out, "overhead_bytes_per_token",
        s->plan.ranks > 1 ? reduces * (double)s->reduce.overhead_bytes : 0.0);
    hth_put_printf(out, "}\n");
}

int hth_verb_plan(const struct hth_args *args, struct hth_err *err)
{
    struct sketch *s = calloc(1, sizeof *s);
    struct hth_buf out;
    int rc;

    if (s == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    hth_buf_init(&out, OUT_BYTES_MAX);
    rc = make_sketch(s, args, err);
    if (rc == HTH_OK)
        rc = make_windows(s, err);
    if (rc == HTH_OK) {
        if (hth_args_flag(args, "json")) {
            put_json(s, &out);
        } else {
            put_text(s, &out);
            put_windows(s, &out);
        }
        rc = hth_out_buf(&out, err);
    }
    hth_buf_fini(&out);
    free(s);
    return rc;
}
