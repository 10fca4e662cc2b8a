/* model_opts.c - shares, wire and cache types, log level, directories. */
#include "cli/model_opts.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/paths.h"
#include "kernels/type.h"
#include "scheduler/spread.h"

int hth_parse_shares(const char *text, double *shares, size_t *ranks,
                     struct hth_err *err)
{
    double sum = 0.0;
    size_t n;

    if (hth_parse_floats(text, shares, HTH_RANKS_MAX, &n) != HTH_OK)
        return hth_fail(err, HTH_EUSAGE,
                        "--shares takes up to %u numbers, as in 2,1,1",
                        HTH_RANKS_MAX);
    for (size_t i = 0; i < n; i++)
        sum += shares[i];
    if (!(sum > 0.0))
        return hth_fail(err, HTH_EUSAGE,
                        "--shares %.60s leaves nobody to compute", text);
    *ranks = n;
    return HTH_OK;
}

enum hth_wire hth_wire_option(const struct hth_args *args)
{
    enum hth_wire wire = HTH_WIRE_F16;

    HTH_ASSERT(hth_wire_parse(hth_args_text(args, "wire"), &wire) == HTH_OK);
    return wire;
}

uint32_t hth_kv_option(const struct hth_args *args)
{
    const struct hth_type_info *type =
        hth_type_by_name(hth_args_text(args, "kv"));

    HTH_ASSERT(type != NULL);
    return type->id;
}

uint32_t hth_prefill_option(const struct hth_args *args)
{
    const char *text = hth_args_text(args, "prefill");
    uint32_t mode = 0;

    while (mode < HTH_PREFILL_MODES &&
           strcmp(text, hth_prefill_mode_text(mode)) != 0)
        mode++;
    HTH_ASSERT(mode < HTH_PREFILL_MODES);
    return mode;
}

void hth_log_option(const struct hth_args *args)
{
    enum hth_log_level level = HTH_LOG_NOTICE;

    HTH_ASSERT(hth_log_level_parse(hth_args_text(args, "log-level"), &level) ==
               HTH_OK);
    hth_log_set_level(level);
}

int hth_state_option(const struct hth_args *args, const char *role, char *dst,
                     const char **out, struct hth_err *err)
{
    int rc;

    *out = hth_args_text(args, "state-dir");
    if (*out != NULL)
        return HTH_OK;
    rc = hth_path_state(role, dst, HTH_PATH_BYTES_MAX, err);
    if (rc == HTH_OK)
        *out = dst;
    return rc;
}

int hth_lora_names(const struct hth_args *args, struct hth_msg_submit *g,
                   struct hth_err *err)
{
    size_t at = 0;

    for (unsigned i = 0; i < hth_args_count(args, "lora"); i++) {
        int n = snprintf(g->lora + at, sizeof g->lora - at, "%s%s",
                         i > 0 ? "," : "", hth_args_at(args, "lora", i));

        at += n > 0 ? (size_t)n : 0;
        if (at >= sizeof g->lora)
            return hth_fail(err, HTH_EUSAGE,
                            "--lora: the names take more than %zu bytes",
                            sizeof g->lora - 1);
    }
    return HTH_OK;
}
