/* verb_logits.c - the logits of a token sequence as a file. The file appears
 * under its name only when it is complete. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cursor.h"
#include "base/log.h"
#include "cli/local.h"
#include "cli/model_opts.h"
#include "cli/paths.h"
#include "cli/signals.h"
#include "cli/verbs.h"
#include "model/tokenizer.h"

struct writer {
    FILE *file;
    uint8_t *row; /* one row as bytes */
    uint32_t vocab;
    int why; /* errno of the first failed write */
};

/* Little-endian whatever the machine. */
static int write_row(void *ctx, uint32_t position, const float *logits,
                     uint32_t vocab)
{
    struct writer *w = ctx;

    (void)position;
    if (hth_interrupted())
        return HTH_ECANCELLED;
    if (w->row == NULL) {
        w->row = malloc((size_t)vocab * 4);
        w->vocab = vocab;
    }
    if (w->row == NULL || w->vocab != vocab)
        return HTH_ENOMEM;
    for (uint32_t i = 0; i < vocab; i++) {
        uint32_t bits;

        memcpy(&bits, &logits[i], sizeof bits);
        hth_store_u32(w->row + 4 * (size_t)i, bits);
    }
    errno = 0;
    if (fwrite(w->row, 4, vocab, w->file) != vocab) {
        w->why = errno;
        return HTH_EIO;
    }
    return HTH_OK;
}

static int run_tokens(struct hth_local *local, const struct hth_tokens *tokens,
                      struct writer *w, struct hth_err *err)
{
    struct hth_logits_opts opts = {.tokens = tokens->ids,
                                   .count = (uint32_t)tokens->count,
                                   .sink = write_row,
                                   .ctx = w};
    int rc = hth_cluster_logits(hth_local_cluster(local), &opts, err);

    if (rc == HTH_ECANCELLED && hth_interrupted())
        return hth_fail_interrupted(err);
    return rc;
}

/* Write to OUT.part, then rename: a half-written OUT is never mistaken for a
 * result. */
static int write_file(struct hth_local *local, const char *path,
                      const struct hth_tokens *tokens, struct hth_err *err)
{
    char part[HTH_PATH_BYTES_MAX];
    struct writer w = {0};
    int n = snprintf(part, sizeof part, "%s.part", path);
    int rc;

    if (n < 0 || (size_t)n >= sizeof part)
        return hth_fail(err, HTH_EUSAGE, "the path of --output is too long");
    w.file = fopen(part, "wbe");
    if (w.file == NULL)
        return hth_fail(err, HTH_EIO, "open %s: %s", part, strerror(errno));
    rc = run_tokens(local, tokens, &w, err);
    free(w.row);
    if (fclose(w.file) != 0 && rc == HTH_OK) {
        w.why = errno;
        rc = HTH_EIO;
    }
    if (w.why != 0)
        hth_fail(err, HTH_EIO, "write %s: %s", part, strerror(w.why));
    if (rc == HTH_OK && rename(part, path) != 0)
        rc = hth_fail(err, HTH_EIO, "rename %s to %s: %s", part, path,
                      strerror(errno));
    if (rc != HTH_OK)
        unlink(part);
    return rc;
}

static int parse_tokens(const char *text, struct hth_tokens *out,
                        struct hth_err *err)
{
    size_t commas = 1;

    for (const char *p = text; *p != '\0'; p++)
        commas += *p == ',';
    if (commas > HTH_CTX_MAX)
        return hth_fail(err, HTH_EUSAGE, "--tokens takes at most %u ids",
                        HTH_CTX_MAX);
    out->ids = malloc(commas * sizeof *out->ids);
    if (out->ids == NULL)
        return hth_fail(err, HTH_ENOMEM, "--tokens: out of memory");
    out->cap = commas;
    if (hth_parse_u32s(text, out->ids, commas, &out->count) != HTH_OK)
        return hth_fail(err, HTH_EUSAGE, "--tokens takes ids, as in 1,2,3");
    return HTH_OK;
}

int hth_verb_logits(const struct hth_args *args, struct hth_err *err)
{
    struct hth_local_opts opts;
    struct hth_local *local;
    struct hth_tokens tokens = {0};
    int rc = hth_local_options(args, &opts, err);

    if (rc == HTH_OK)
        rc = parse_tokens(hth_args_text(args, "tokens"), &tokens, err);
    if (rc == HTH_OK) {
        hth_signals_start();
        hth_log_option(args);
        opts.ctx = (uint32_t)tokens.count;
        rc = hth_local_open(&local, &opts, err);
    }
    if (rc == HTH_OK) {
        rc = write_file(local, hth_args_text(args, "output"), &tokens, err);
        if (rc != HTH_OK && !hth_interrupted())
            rc = hth_local_explain(local, rc, err);
        hth_local_close(local);
    }
    hth_tokens_fini(&tokens);
    return rc;
}
