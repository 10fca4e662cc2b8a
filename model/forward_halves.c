/* forward_halves.c - a step whose rows go in two halves that take turns: one is
 * summed over the ranks while the other is computed. Fails as its parts do. */
#include "kernels/ops.h"
#include "model/attention.h"
#include "model/forward_internal.h"

/* What a step's rows first .. first + rows use, in place of all of them. */
struct half {
    struct hth_batch b;
    float *part, *cosines, *sines;
};

static struct half half_of(const struct hth_forward *f,
                           const struct hth_batch *b, uint32_t first,
                           uint32_t rows)
{
    size_t angles = (size_t)first * (f->s->rope_dim / 2);

    return (struct half){
        .b = {.rows = rows,
              .seq = b->seq + first,
              .pos = b->pos + first,
              .x = b->x + (size_t)first * f->s->dim,
              .lora = b->lora != NULL ? b->lora + first : NULL},
        .part = f->part + (size_t)first * f->s->dim,
        .cosines = f->cosines + angles,
        .sines = f->sines + angles};
}

static void use_half(struct hth_forward *f, const struct half *h)
{
    f->part = h->part;
    f->cosines = h->cosines;
    f->sines = h->sines;
    if (f->attention != NULL)
        hth_attention_rows(f->attention, h->b.rows, h->b.seq, h->b.pos);
}

static int end_sum(struct hth_forward *f, const struct half *h,
                   struct hth_err *err)
{
    int rc = f->group->end(f->group->ctx, err);

    hth__lap(f, HTH_OP_REDUCE);
    f->times.reduce_ns = f->times.op_ns[HTH_OP_REDUCE];
    if (rc == HTH_OK)
        hth_add(h->b.x, h->part, (size_t)h->b.rows * f->s->dim);
    return rc;
}

/* Turn k computes a half layer of one half of the rows, while the sum of turn
 * k - 1, the other half's, is on its way; turn k - 2, whose sum it needs, has
 * been ended by turn k - 1. */
int hth__run_halves(struct hth_forward *f, const struct hth_batch *b,
                    struct hth_err *err)
{
    uint32_t turns = 4 * f->s->layers, first = b->rows / 2;
    struct half whole = half_of(f, b, 0, b->rows);
    struct half h[2] = {half_of(f, b, 0, first),
                        half_of(f, b, first, b->rows - first)};
    bool under_way = false;
    int rc = HTH_OK;

    for (uint32_t k = 0; k < turns && rc == HTH_OK; k++) {
        const struct half *now = &h[k % 2];

        use_half(f, now);
        rc = hth__run_half(f, &now->b, k / 2, err);
        if (under_way) {
            int ended = end_sum(f, &h[(k + 1) % 2], rc == HTH_OK ? err : NULL);

            rc = rc == HTH_OK ? ended : rc;
        }
        under_way = rc == HTH_OK;
        if (under_way)
            f->group->begin(f->group->ctx, now->part,
                            (size_t)now->b.rows * f->s->dim);
    }
    if (under_way)
        rc = end_sum(f, &h[(turns + 1) % 2], err);
    use_half(f, &whole);
    return rc;
}

bool hth__can_halve(const struct hth_forward *f, const struct hth_batch *b)
{
    return b->halves && b->rows > 1 && f->group != NULL &&
           f->group->ranks > 1 && f->group->begin != NULL;
}
