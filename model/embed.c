/* embed.c - reading embedding rows. Fails when the file does. */
#include "model/embed.h"

#include <stdlib.h>

#include "kernels/quant.h"

struct hth_embed {
    const struct hth_gguf *g;
    const struct hth_tensor *t;
    uint32_t vocab, dim;
    size_t row_bytes;
    void *raw; /* one encoded row */
};

int hth_embed_open(struct hth_embed **out, const struct hth_gguf *g,
                   const struct hth_spec *s, struct hth_err *err)
{
    const struct hth_tensor *t = hth_gguf_tensor(g, "token_embd.weight");
    struct hth_embed *e;

    if (t == NULL)
        return hth_fail(err, HTH_ENOTFOUND,
                        "tensor token_embd.weight is missing");
    e = calloc(1, sizeof *e);
    if (e == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for an embedding row");
    *e = (struct hth_embed){.g = g,
                            .t = t,
                            .vocab = s->vocab,
                            .dim = s->dim,
                            .row_bytes = hth_row_bytes(t->type, s->dim)};
    e->raw = malloc(e->row_bytes);
    if (e->raw == NULL) {
        free(e);
        return hth_fail(err, HTH_ENOMEM, "no memory for an embedding row");
    }
    *out = e;
    return HTH_OK;
}

void hth_embed_close(struct hth_embed *e)
{
    if (e == NULL)
        return;
    free(e->raw);
    free(e);
}

size_t hth_embed_row_bytes(const struct hth_embed *e)
{
    return e->row_bytes;
}

uint32_t hth_embed_type(const struct hth_embed *e)
{
    return e->t->type;
}

int hth_embed_raw(struct hth_embed *e, uint32_t id, void *out,
                  struct hth_err *err)
{
    if (id >= e->vocab)
        return hth_fail(err, HTH_EINVAL,
                        "token %u is not in the vocabulary of %u", id,
                        e->vocab);
    return hth_gguf_read(
        e->g, e->t,
        (struct hth_read){(uint64_t)id * e->row_bytes, out, e->row_bytes}, err);
}

int hth_embed_row(struct hth_embed *e, uint32_t id, float *out,
                  struct hth_err *err)
{
    int rc = hth_embed_raw(e, id, e->raw, err);

    if (rc != HTH_OK)
        return rc;
    hth_dequantize((enum hth_type)e->t->type, e->raw, out, e->dim);
    return HTH_OK;
}
