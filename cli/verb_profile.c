/* verb_profile.c - what this machine can do at best, measured and kept. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cli/model_opts.h"
#include "cli/out.h"
#include "cli/paths.h"
#include "cli/signals.h"
#include "cli/table.h"
#include "cli/verbs.h"
#include "kernels/ops.h"
#include "model/json_write.h"
#include "worker/profile.h"

#define OUT_BYTES_MAX 65536u

static void show(void *ctx, const char *what)
{
    (void)ctx;
    if (hth_err_is_terminal())
        fprintf(stderr, "\r\033[Kmeasuring %s ", what);
}

static bool stop(void *ctx)
{
    (void)ctx;
    return hth_interrupted();
}

/* ---- printing ------------------------------------------------------------ */

static void put_text(const struct hth_profile *p, struct hth_buf *out)
{
    struct hth_table t;

    hth_put_printf(out, "%s, %u cores\n\n", p->isa, p->cores);
    hth_table_init(&t, "READ\tTHREADS\tGB/S");
    for (uint32_t i = 0; i < p->reads; i++)
        hth_table_row(&t, "memory\t%u\t%.1f", p->read[i].threads,
                      p->read[i].bytes_per_s / 1e9);
    if (p->disk_bytes_per_s > 0)
        hth_table_row(&t, "disk\t1\t%.2f", p->disk_bytes_per_s / 1e9);
    hth_table_put(&t, out);
    hth_table_fini(&t);
    hth_put_u8(out, '\n');
    hth_table_init(&t, "FORMAT\tTHREADS\tDECODE GB/S\tOF READ\tPREFILL GOP/S");
    for (uint32_t i = 0; i < p->formats; i++) {
        const struct hth_profile_format *f = &p->format[i];

        hth_table_row(
            &t, "%s\t%u\t%.1f\t%.0f%%\t%.0f", hth_type_info(f->type)->name,
            f->threads, f->decode_bytes_per_s / 1e9,
            100 * f->decode_bytes_per_s / hth_profile_read_rate(p, f->threads),
            f->prefill_ops_per_s / 1e9);
    }
    hth_table_put(&t, out);
    hth_table_fini(&t);
}

static void put_json(const struct hth_profile *p, struct hth_buf *out)
{
    hth_put_u8(out, '{');
    hth_json_field(out, "isa", p->isa);
    hth_json_field_number(out, "cores", p->cores);
    hth_json_field_number(out, "made_s", (double)p->made_s);
    hth_json_key(out, "read");
    for (uint32_t i = 0; i < p->reads; i++) {
        hth_put_printf(out, "%s{", i > 0 ? "," : "[");
        hth_json_field_number(out, "threads", p->read[i].threads);
        hth_json_field_number(out, "bytes_per_s", p->read[i].bytes_per_s);
        hth_put_u8(out, '}');
    }
    hth_put_printf(out, "],\"formats\":[");
    for (uint32_t i = 0; i < p->formats; i++) {
        const struct hth_profile_format *f = &p->format[i];

        hth_put_printf(out, "%s{", i > 0 ? "," : "");
        hth_json_field(out, "type", hth_type_info(f->type)->name);
        hth_json_field_number(out, "threads", f->threads);
        hth_json_field_number(out, "decode_bytes_per_s", f->decode_bytes_per_s);
        hth_json_field_number(out, "prefill_ops_per_s", f->prefill_ops_per_s);
        hth_put_u8(out, '}');
    }
    hth_put_u8(out, ']');
    hth_json_field_number(out, "disk_bytes_per_s", p->disk_bytes_per_s);
    hth_put_printf(out, "}\n");
}

/* ---- the verb ------------------------------------------------------------ */

#define TYPES_MAX 32u

/* "Q4_0,Q6_K", or every format. */
static int read_types(const char *text, uint32_t *types, uint32_t *count,
                      struct hth_err *err)
{
    *count = 0;
    for (uint32_t id = 0; text == NULL && id < 64; id++)
        if (hth_type_info(id) != NULL && *count < TYPES_MAX)
            types[(*count)++] = id;
    while (text != NULL && *text != '\0') {
        size_t n = strcspn(text, ",");
        const struct hth_type_info *type;
        char name[16];

        snprintf(name, sizeof name, "%.*s", (int)(n < 15 ? n : 15), text);
        type = hth_type_by_name(name);
        if (type == NULL || *count == TYPES_MAX)
            return hth_fail(err, HTH_EUSAGE, "\"%s\" is none of %s", name,
                            hth_type_list());
        types[(*count)++] = type->id;
        text += n + (text[n] == ',');
    }
    return HTH_OK;
}

static int measure(const struct hth_args *args, struct hth_profile *p,
                   struct hth_err *err)
{
    uint32_t types[TYPES_MAX];
    struct hth_profile_opts o = {
        .threads = (uint32_t)hth_args_int(args, "threads"),
        .figure_ms = (uint32_t)hth_args_int(args, "figure-ms"),
        .types = types,
        .disk_path = hth_args_text(args, "disk"),
        .progress = show,
        .stop = stop,
    };
    int rc =
        read_types(hth_args_text(args, "types"), types, &o.type_count, err);

    if (rc == HTH_OK)
        rc = hth_profile_measure(p, &o, err);
    if (hth_err_is_terminal())
        fprintf(stderr, "\r\033[K");
    return rc;
}

static int print_profile(const struct hth_profile *p, bool json,
                         struct hth_err *err)
{
    struct hth_buf out;
    int rc;

    hth_buf_init(&out, OUT_BYTES_MAX);
    if (json)
        put_json(p, &out);
    else
        put_text(p, &out);
    rc = hth_out_buf(&out, err);
    hth_buf_fini(&out);
    return rc;
}

int hth_verb_profile(const struct hth_args *args, struct hth_err *err)
{
    struct hth_profile p;
    char path[HTH_PATH_BYTES_MAX];
    int rc = hth_path_state("profile", path, sizeof path, err);

    hth_signals_start();
    if (rc == HTH_OK)
        rc = hth_isa_init(err);
    if (rc != HTH_OK)
        return rc;
    if (hth_args_flag(args, "show"))
        rc = hth_profile_load(&p, path, err);
    else
        rc = measure(args, &p, err);
    if (rc == HTH_OK && !hth_args_flag(args, "show") &&
        !hth_args_flag(args, "dry"))
        rc = hth_profile_save(&p, path, err);
    return rc == HTH_OK ? print_profile(&p, hth_args_flag(args, "json"), err)
                        : rc;
}
