/* lora_add.c - an adapter's part beside a product: t = A x, then y += s B t.
 *
 * Rows that stand together and have the same set go together, a few at a time.
 * Packed matrices give the same bits for any number of rows below 32, from
 * where AMX has its own (docs/kernels.md); what is not packed (F32) goes row by
 * row for the same reason. Never fails. */
#include "model/lora.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

#define ROWS_AT_ONCE 24u

struct hth_lora_work {
    struct hth_lora_work_opts o;
    float *t[HTH_LORA_ROLES_MAX]; /* [ROWS_AT_ONCE][HTH_LORA_RANK_MAX] */
    float *y;                     /* [ROWS_AT_ONCE][out_max, padded] */
    void *scratch;                /* of products */
};

static uint32_t padded(uint32_t n)
{
    return (n + 15u) & ~15u;
}

static uint64_t scratch_bytes(const struct hth_lora_work_opts *o,
                              uint32_t threads)
{
    uint32_t cols =
        o->in_max > HTH_LORA_RANK_MAX ? o->in_max : HTH_LORA_RANK_MAX;

    return hth_matmul_scratch_bytes(ROWS_AT_ONCE, cols, threads);
}

uint64_t hth_lora_work_bytes(const struct hth_lora_work_opts *o,
                             uint32_t threads)
{
    return scratch_bytes(o, threads) +
           4ull * ROWS_AT_ONCE *
               (HTH_LORA_ROLES_MAX * HTH_LORA_RANK_MAX + padded(o->out_max));
}

struct hth_lora_work *hth_lora_work_open(const struct hth_lora_work_opts *o)
{
    struct hth_lora_work *w = calloc(1, sizeof *w);
    bool ok = w != NULL;

    if (!ok)
        return NULL;
    w->o = *o;
    for (uint32_t i = 0; i < HTH_LORA_ROLES_MAX; i++) {
        w->t[i] = hth_mem_alloc(4ull * ROWS_AT_ONCE * HTH_LORA_RANK_MAX);
        ok = ok && w->t[i] != NULL;
    }
    w->y = hth_mem_alloc(4ull * ROWS_AT_ONCE * padded(o->out_max));
    w->scratch = hth_mem_alloc(scratch_bytes(o, hth_pool_threads(o->pool)));
    if (ok && w->y != NULL && w->scratch != NULL)
        return w;
    hth_lora_work_close(w);
    return NULL;
}

void hth_lora_work_close(struct hth_lora_work *w)
{
    if (w == NULL)
        return;
    for (uint32_t i = 0; i < HTH_LORA_ROLES_MAX; i++)
        hth_mem_free(w->t[i]);
    hth_mem_free(w->y);
    hth_mem_free(w->scratch);
    free(w);
}

/* Rows [first, first + n) of a job, which have one adapter in common. */
struct part {
    struct hth_lora_work *w;
    const struct hth_lora_job *j;
    const struct hth_lora_pair *pair[HTH_LORA_ROLES_MAX];
    float scale;
    uint32_t first, n;
    uint32_t i; /* of the matrix being added */
};

static void down(struct part *p)
{
    struct hth_mat a[HTH_LORA_ROLES_MAX] = {{0}};
    size_t ld[HTH_LORA_ROLES_MAX] = {0};
    const struct hth_lora_job *j = p->j;

    for (uint32_t i = 0; i < j->count; i++)
        if (p->pair[i] != NULL) {
            a[i] = p->pair[i]->a;
            ld[i] = a[i].rows;
        }
    hth_matmul(p->w->o.pool,
               &(struct hth_matmul_job){.w = a,
                                        .y = p->w->t,
                                        .ldy = ld,
                                        .count = j->count,
                                        .x = j->x + p->first * j->ldx,
                                        .ldx = j->ldx,
                                        .n = p->n,
                                        .scratch = p->w->scratch});
}

static void add_rows(void *ctx, uint32_t thread, uint32_t threads)
{
    const struct part *p = ctx;
    const struct hth_lora_pair *pair = p->pair[p->i];
    const struct hth_lora_job *j = p->j;
    float *y = j->y[p->i] + p->first * j->ldy[p->i];
    float s = p->scale * pair->scale;
    uint64_t first, count;

    hth_split(p->n, 1, thread, threads, &first, &count);
    for (uint64_t r = first; r < first + count; r++)
        hth_axpy(y + r * j->ldy[p->i], s, p->w->y + r * pair->b.rows,
                 pair->rows);
}

static void up(struct part *p)
{
    const struct hth_lora_pair *pair = p->pair[p->i];
    float *const y[] = {p->w->y};
    const size_t ld[] = {pair->b.rows};

    hth_matmul(p->w->o.pool,
               &(struct hth_matmul_job){.w = &pair->b,
                                        .y = y,
                                        .ldy = ld,
                                        .count = 1,
                                        .x = p->w->t[p->i],
                                        .ldx = pair->a.rows,
                                        .n = p->n,
                                        .scratch = p->w->scratch});
    if (p->n == 1)
        add_rows(p, 0, 1);
    else
        hth_pool_run(p->w->o.pool, add_rows, p);
}

/* One adapter over rows [first, first + n). */
static void add_adapter(struct hth_lora_work *w, const struct hth_lora_job *j,
                        const struct hth_lora_use *use, uint32_t first,
                        uint32_t n)
{
    struct part p = {.w = w, .j = j, .scale = use->scale};
    uint32_t at_once = ROWS_AT_ONCE;
    bool any = false;

    for (uint32_t i = 0; i < j->count; i++) {
        p.pair[i] = hth_lora_pair(use->lora, j->layer, j->role[i]);
        any = any || p.pair[i] != NULL;
        if (p.pair[i] != NULL && (!p.pair[i]->a.packed || !p.pair[i]->b.packed))
            at_once = 1;
    }
    for (uint32_t r = 0; any && r < n; r += p.n) {
        p.first = first + r;
        p.n = n - r < at_once ? n - r : at_once;
        down(&p);
        for (p.i = 0; p.i < j->count; p.i++)
            if (p.pair[p.i] != NULL)
                up(&p);
    }
}

static bool same_set(const struct hth_lora_set *a, const struct hth_lora_set *b)
{
    return a == b || (a != NULL && b != NULL && memcmp(a, b, sizeof *a) == 0);
}

void hth_lora_add(struct hth_lora_work *w, const struct hth_lora_job *j)
{
    for (uint32_t first = 0, n; first < j->rows; first += n) {
        const struct hth_lora_set *set = j->set[first];

        n = 1;
        while (first + n < j->rows && same_set(set, j->set[first + n]))
            n++;
        for (uint32_t u = 0; set != NULL && u < set->n; u++)
            add_adapter(w, j, &set->use[u], first, n);
    }
}
