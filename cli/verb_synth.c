/* verb_synth.c - a GGUF of random weights. */
#include <stdio.h>

#include "cli/out.h"
#include "cli/verbs.h"
#include "model/synth.h"

/* At a terminal only, and only when the percentage changes. */
static void on_progress(void *ctx, uint64_t done_bytes, uint64_t total_bytes)
{
    unsigned *shown = ctx;
    unsigned percent =
        total_bytes == 0
            ? 100
            : (unsigned)(100.0 * (double)done_bytes / (double)total_bytes);

    if (percent == *shown)
        return;
    *shown = percent;
    fprintf(stderr, "\rwriting %u%%", percent);
}

int hth_verb_synth(const struct hth_args *args, struct hth_err *err)
{
    unsigned shown = 0;
    struct hth_synth_opts opts = {
        .shape = hth_args_text(args, "shape"),
        .type = hth_args_text(args, "type"),
        .seed = (uint64_t)hth_args_int(args, "seed"),
        .progress = hth_err_is_terminal() ? on_progress : NULL,
        .progress_ctx = &shown,
    };
    struct hth_synth_lora_opts lora = {
        .model_path = hth_args_text(args, "lora"),
        .type = opts.type,
        .rank = (uint32_t)hth_args_int(args, "rank"),
        .seed = opts.seed};
    int rc;

    if (hth_args_origin(args, "type") == HTH_ORIGIN_DEFAULT)
        lora.type = "F16";
    if ((lora.model_path != NULL) == (opts.shape != NULL))
        return hth_fail(err, HTH_EUSAGE,
                        "synth needs --shape SHAPE for a model, or --lora "
                        "MODEL for an adapter");
    if (lora.model_path != NULL)
        return hth_synth_lora(&lora, hth_args_text(args, "output"), err);
    rc = hth_synth_write(&opts, hth_args_text(args, "output"), err);

    if (shown != 0)
        fputc('\n', stderr);
    return rc;
}
