/* verb_perplexity.c - how well a model predicts a text.
 *
 * llama.cpp's definition, so that figures compare: the text is tokenized
 * whole, with a BOS in front where the model wants one, and cut into chunks of
 * ctx tokens (a shorter rest is dropped); each chunk is run on its own, with
 * BOS in place of its first token; the tokens after position ctx/2 are scored,
 * each by the logits before it; the result is exp of their mean negative log
 * likelihood, with the standard error of that mean. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "model/json_write.h"
#include "cli/local.h"
#include "cli/model_opts.h"
#include "cli/out.h"
#include "cli/signals.h"
#include "cli/verbs.h"
#include "model/sampler.h"
#include "model/tokenizer.h"

struct score {
    struct hth_tokens tokens;
    uint32_t bos; /* HTH_TOKEN_NONE: chunks keep their first token */
    uint32_t ctx;
    uint32_t *chunk; /* [ctx] */
    uint32_t chunks, chunks_done;
    double sum, sum_squares; /* of the negative log likelihoods */
    uint64_t count;
};

static int score_row(void *ctx, uint32_t position, const float *logits,
                     uint32_t vocab)
{
    struct score *s = ctx;
    uint32_t next;
    double nll;

    if (hth_interrupted())
        return HTH_ECANCELLED;
    if (position + 1 >= s->ctx)
        return HTH_OK;
    next = s->chunk[position + 1];
    if (next >= vocab)
        return HTH_EINVAL;
    nll = hth_log_sum_exp(logits, vocab) - (double)logits[next];
    s->sum += nll;
    s->sum_squares += nll * nll;
    s->count++;
    return HTH_OK;
}

static double mean_nll(const struct score *s)
{
    return s->count == 0 ? NAN : s->sum / (double)s->count;
}

/* Standard error of the perplexity: that of the mean, scaled by exp's slope. */
static double ppl_error(const struct score *s)
{
    double n = (double)s->count;
    double mean = mean_nll(s);
    double variance = s->sum_squares / n - mean * mean;

    if (s->count < 2 || variance <= 0.0)
        return 0.0;
    return sqrt(variance / (n - 1.0)) * exp(mean);
}

/* Tokenize the text; the vocabulary is not needed afterwards. */
static int read_tokens(struct score *s, const struct hth_args *args,
                       struct hth_err *err)
{
    struct hth_tokenizer *t = NULL;
    struct hth_gguf *gguf = NULL;
    struct hth_buf text;
    int rc;

    hth_buf_init(&text, HTH_TEXT_BYTES_MAX);
    rc = hth_read_file(hth_args_text(args, "file"), &text, err);
    if (rc == HTH_OK)
        rc = hth_gguf_open(&gguf, hth_args_text(args, "model"), err);
    if (rc == HTH_OK)
        rc = hth_tokenizer_open(&t, gguf, err);
    if (rc == HTH_OK) {
        s->bos =
            hth_tokenizer_adds_bos(t) ? hth_tokenizer_bos(t) : HTH_TOKEN_NONE;
        if (s->bos != HTH_TOKEN_NONE)
            rc = hth_tokens_push(&s->tokens, s->bos);
    }
    if (rc == HTH_OK)
        rc =
            hth_tokenize(t, (struct hth_str){(const char *)text.data, text.len},
                         false, &s->tokens, err);
    hth_tokenizer_close(t);
    hth_gguf_close(gguf);
    hth_buf_fini(&text);
    return rc;
}

static int prepare(struct score *s, const struct hth_args *args,
                   struct hth_err *err)
{
    uint32_t wanted = (uint32_t)hth_args_int(args, "chunks");
    size_t there;
    int rc;

    s->ctx = (uint32_t)hth_args_int(args, "ctx");
    rc = read_tokens(s, args, err);
    if (rc != HTH_OK)
        return rc;
    there = s->tokens.count / s->ctx;
    if (there == 0)
        return hth_fail(err, HTH_EINVAL,
                        "%s has %zu tokens; one chunk of --ctx %u needs that "
                        "many",
                        hth_args_text(args, "file"), s->tokens.count, s->ctx);
    s->chunks = wanted != 0 && wanted < there ? wanted : (uint32_t)there;
    s->chunk = malloc(s->ctx * sizeof *s->chunk);
    if (s->chunk == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    return HTH_OK;
}

/* The logits after a chunk's last token predict nothing that is scored, so
 * that token is not run. */
static int run_chunk(struct score *s, struct hth_local *local,
                     struct hth_err *err)
{
    struct hth_logits_opts opts = {.tokens = s->chunk,
                                   .count = s->ctx - 1,
                                   .first = s->ctx / 2,
                                   .sink = score_row,
                                   .ctx = s};
    int rc;

    memcpy(s->chunk, s->tokens.ids + (size_t)s->chunks_done * s->ctx,
           s->ctx * sizeof *s->chunk);
    if (s->bos != HTH_TOKEN_NONE)
        s->chunk[0] = s->bos;
    rc = hth_cluster_logits(hth_local_cluster(local), &opts, err);
    if (rc == HTH_OK)
        s->chunks_done++;
    else if (hth_interrupted())
        return hth_fail_interrupted(err);
    return rc;
}

static int run_chunks(struct score *s, struct hth_local *local,
                      struct hth_err *err)
{
    int rc = HTH_OK;

    while (rc == HTH_OK && s->chunks_done < s->chunks) {
        rc = run_chunk(s, local, err);
        if (rc == HTH_OK && hth_err_is_terminal())
            fprintf(stderr, "\rchunk %u of %u: %.4f ", s->chunks_done,
                    s->chunks, exp(mean_nll(s)));
    }
    if (hth_err_is_terminal() && s->chunks_done > 0)
        fputc('\n', stderr);
    return rc;
}

static int print_score(const struct score *s, bool json, struct hth_err *err)
{
    double ppl = exp(mean_nll(s));
    struct hth_buf out;
    int rc;

    hth_buf_init(&out, 1024);
    if (json) {
        hth_put_u8(&out, '{');
        hth_json_field_number(&out, "perplexity", ppl);
        hth_json_field_number(&out, "error", ppl_error(s));
        hth_json_field_number(&out, "mean_nll", mean_nll(s));
        hth_json_field_number(&out, "chunks", s->chunks_done);
        hth_json_field_number(&out, "ctx", s->ctx);
        hth_json_field_number(&out, "tokens_scored", (double)s->count);
        hth_put_printf(&out, "}\n");
    } else {
        hth_put_printf(&out,
                       "perplexity %.4f +/- %.4f (%u chunks of %u tokens)\n",
                       ppl, ppl_error(s), s->chunks_done, s->ctx);
    }
    rc = hth_out_buf(&out, err);
    hth_buf_fini(&out);
    return rc;
}

int hth_verb_perplexity(const struct hth_args *args, struct hth_err *err)
{
    struct score s = {.bos = HTH_TOKEN_NONE};
    struct hth_local_opts opts;
    struct hth_local *local;
    int rc = hth_local_options(args, &opts, err);

    if (rc == HTH_OK)
        rc = prepare(&s, args, err);
    if (rc == HTH_OK) {
        hth_signals_start();
        hth_log_option(args);
        opts.ctx = s.ctx;
        rc = hth_local_open(&local, &opts, err);
    }
    if (rc == HTH_OK) {
        rc = run_chunks(&s, local, err);
        if (rc != HTH_OK && !hth_interrupted())
            rc = hth_local_explain(local, rc, err);
        hth_local_close(local);
    }
    if (rc == HTH_OK)
        rc = print_score(&s, hth_args_flag(args, "json"), err);
    hth_tokens_fini(&s.tokens);
    free(s.chunk);
    return rc;
}
