/* synth_lora.c - an adapter of random numbers for a model, as
 * convert_lora_to_gguf would write it: for tests and measurements. */
#include "model/synth.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/rng.h"
#include "kernels/quant.h"
#include "model/gguf.h"
#include "model/roles.h"
#include "model/spec.h"
#include "model/synth_internal.h"

#define NAME_SIZE (HTH_GGUF_NAME_BYTES_MAX + 1)

struct adapter {
    const struct hth_synth_lora_opts *opts;
    struct hth_spec spec;
    struct hth_gguf_writer *w;
    uint32_t type;
    struct hth_rng rng;
    struct hth_err *err;
};

/* One tensor: rows by cols, or r of either. */
struct tensor {
    char name[NAME_SIZE];
    uint64_t cols, rows;
    double deviation;
};

static int declare(struct adapter *a, const struct tensor *t)
{
    const uint64_t ne[] = {t->cols, t->rows};
    uint32_t type = a->type;

    if (hth_row_bytes(type, t->cols) == 0)
        type = HTH_F16; /* as the converter does with short rows */
    hth_gguf_put_tensor(a->w, t->name, type, 2, ne);
    return HTH_OK;
}

static int write_numbers(struct adapter *a, const struct tensor *t)
{
    uint32_t type = hth_row_bytes(a->type, t->cols) == 0 ? HTH_F16 : a->type;
    size_t bytes = hth_row_bytes(type, t->cols);
    float *x = malloc(t->cols * sizeof *x);
    uint8_t *row = malloc(bytes);
    int rc = x == NULL || row == NULL
                 ? hth_fail(a->err, HTH_ENOMEM, "out of memory for weights")
                 : HTH_OK;

    for (uint64_t r = 0; r < t->rows && rc == HTH_OK; r++) {
        hth__synth_draw(&a->rng, 0, t->deviation, x, t->cols);
        rc = hth_quantize((enum hth_type)type, x, row, t->cols);
        if (rc == HTH_OK)
            rc = hth_gguf_put_data(a->w, row, bytes, a->err);
    }
    free(x);
    free(row);
    return rc;
}

typedef int (*tensor_fn)(struct adapter *a, const struct tensor *t);

/* A makes numbers near 1 of numbers near 1; B is as large as makes the
 * adapter's part, with alpha = r, a quarter of the product beside it. */
static int visit_role(struct adapter *a, enum hth_role role, uint32_t layer,
                      tensor_fn fn)
{
    const struct hth_role_info *info = &hth_roles[role];
    struct tensor t = {.cols = hth_size_of(&a->spec, info->cols),
                       .rows = a->opts->rank};
    char name[NAME_SIZE];
    int rc;

    if (info->f32_only || a->spec.type[layer][role] == HTH_TYPE_ABSENT ||
        (info->need != HTH_NEED_ALWAYS && info->need != HTH_NEED_DENSE))
        return HTH_OK;
    hth_role_tensor_name(role, layer, name, sizeof name);
    t.deviation = 1 / sqrt((double)t.cols);
    snprintf(t.name, sizeof t.name, "%.50s.lora_a", name);
    rc = fn(a, &t);
    t.cols = a->opts->rank;
    t.rows = hth_size_of(&a->spec, info->rows);
    t.deviation = 0.25 / sqrt((double)t.cols);
    snprintf(t.name, sizeof t.name, "%.50s.lora_b", name);
    return rc == HTH_OK ? fn(a, &t) : rc;
}

static int visit(struct adapter *a, tensor_fn fn)
{
    int rc = HTH_OK;

    for (uint32_t l = 0; l < a->spec.layers; l++)
        for (int r = 0; r < HTH_ROLE_COUNT && rc == HTH_OK; r++)
            rc = visit_role(a, (enum hth_role)r, l, fn);
    return rc;
}

static int write_adapter(struct adapter *a, const char *path)
{
    int rc = hth_gguf_create(&a->w, path, a->err);

    if (rc != HTH_OK)
        return rc;
    hth_rng_init(&a->rng, a->opts->seed);
    hth_gguf_put_string(a->w, "general.type", "adapter");
    hth_gguf_put_string(a->w, "general.architecture", a->spec.arch->name);
    hth_gguf_put_string(a->w, "adapter.type", "lora");
    hth_gguf_put_f32(a->w, "adapter.lora.alpha",
                     a->opts->alpha > 0 ? a->opts->alpha
                                        : (float)a->opts->rank);
    rc = visit(a, declare);
    if (rc == HTH_OK)
        rc = visit(a, write_numbers);
    if (rc == HTH_OK)
        return hth_gguf_finish(a->w, a->err);
    hth_gguf_abandon(a->w);
    return rc;
}

static int set_type(struct adapter *a)
{
    const struct hth_type_info *t = hth_type_by_name(a->opts->type);

    if (t == NULL || !hth_can_quantize(t->id))
        return hth_fail(a->err, HTH_EUSAGE,
                        "type %.40s is unknown or cannot be written",
                        a->opts->type);
    a->type = t->id;
    return HTH_OK;
}

int hth_synth_lora(const struct hth_synth_lora_opts *opts, const char *path,
                   struct hth_err *err)
{
    struct adapter *a = calloc(1, sizeof *a);
    struct hth_gguf *g = NULL;
    int rc;

    if (a == NULL)
        return hth_fail(err, HTH_ENOMEM, "out of memory");
    a->opts = opts;
    a->err = err;
    rc = set_type(a);
    if (rc == HTH_OK && (opts->rank < 1 || opts->rank > HTH_LORA_RANK_MAX))
        rc = hth_fail(err, HTH_EUSAGE, "the rank of an adapter is 1 to %u",
                      HTH_LORA_RANK_MAX);
    if (rc == HTH_OK)
        rc = hth_gguf_open(&g, opts->model_path, err);
    if (rc == HTH_OK)
        rc = hth_spec_read(&a->spec, g, err);
    if (rc == HTH_OK)
        rc = write_adapter(a, path);
    hth_gguf_close(g);
    free(a);
    return rc;
}
