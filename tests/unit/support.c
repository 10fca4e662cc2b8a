/* support.c - see support.h. */
#include "support.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "kernels/ops.h"
#include "model/embed.h"
#include "model/forward.h"
#include "model/piece.h"
#include "model/sampler.h"

const char *golden_dir(void)
{
    static char dir[4096];
    const char *env = getenv("HEARTH_GOLDEN");
    struct stat st;

    snprintf(dir, sizeof dir, "%s", env != NULL ? env : "../shared/golden");
    return stat(dir, &st) == 0 ? dir : NULL;
}

const char *golden_path(const char *name, const char *suffix)
{
    static char path[8192];

    snprintf(path, sizeof path, "%s/%s%s", golden_dir(), name, suffix);
    return path;
}

void *read_file(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    void *p;

    if (f == NULL || fstat(fileno(f), &st) != 0)
        return NULL;
    p = malloc((size_t)st.st_size + 1);
    *size = fread(p, 1, (size_t)st.st_size, f);
    ((char *)p)[*size] = '\0';
    fclose(f);
    return p;
}

struct rank_thread {
    struct shard_run *run;
    const struct hth_gguf *g;
    const struct hth_spec *spec;
    const struct hth_plan *plan;
    struct hth_collective *group;
    uint32_t rank;
    float *logits; /* [count][vocab], shared */
    struct hth_lora_set set;
};

static void bind_all(struct rank_thread *t, struct hth_forward *f,
                     void **blocks)
{
    struct hth_err err;

    for (uint32_t i = 0; i < hth_shard_blocks(t->spec); i++) {
        struct hth_block b;

        hth_shard_block(t->spec, t->plan, t->rank, i, &b);
        blocks[i] =
            b.bytes != 0 ? aligned_alloc(64, (b.bytes + 63) / 64 * 64) : NULL;
        if (b.bytes == 0)
            continue;
        cr_assert_eq(hth_block_read(t->g, t->spec, &b,
                                    (struct hth_read){0, blocks[i], b.bytes},
                                    &err),
                     0, "%s", err.text);
        cr_assert_eq(hth_block_pack(NULL, &b, blocks[i], &err), 0);
        hth_forward_bind(f, i, blocks[i]);
    }
}

/* The rank's slices of the adapters, from their files. */
static void open_loras(const struct rank_thread *t, struct hth_lora_set *set)
{
    struct hth_lora_place at = {t->spec, t->plan, t->rank};
    struct hth_err err;

    memset(set, 0, sizeof *set);
    for (uint32_t i = 0; i < t->run->loras; i++) {
        struct hth_lora_file *f;
        struct hth_lora *lora;
        uint64_t n;
        uint8_t *slice;

        cr_assert_eq(hth_lora_file_open(&f, t->run->lora[i], t->spec, &err), 0,
                     "%s", err.text);
        n = hth_lora_slice_bytes(f, &at);
        slice = hth_mem_alloc(n);
        cr_assert_eq(hth_lora_slice(f, &at, slice, &err), 0, "%s", err.text);
        cr_assert_eq(hth_lora_open(&lora, &at, slice, n, &err), 0, "%s",
                     err.text);
        hth_lora_file_close(f);
        set->use[set->n++] =
            (struct hth_lora_use){lora, t->run->lora_scale[i], 0};
    }
}

static void close_loras(struct hth_lora_set *set)
{
    for (uint32_t i = 0; i < set->n; i++)
        hth_lora_close((struct hth_lora *)(uintptr_t)set->use[i].lora);
}

/* A source whose pieces lie somewhere else each time and are rubbish once they
 * are released: what a step keeps of a piece beyond its compute shows. */
struct mover {
    const struct rank_thread *t;
    void **blocks; /* the true bytes */
    uint8_t *copy;
    uint64_t bytes;
    uint32_t held, turn;
};

static int mover_acquire(void *ctx, uint32_t index, const void **data,
                         struct hth_err *err)
{
    struct mover *m = ctx;
    const struct rank_thread *t = m->t;
    struct hth_block piece, whole;
    uint32_t block = hth_piece_block(t->spec, index);
    uint8_t *to;

    (void)err;
    cr_assert_null(m->copy, "piece %u still held", m->held);
    hth_piece(t->spec, t->plan, t->rank, index, &piece);
    hth_shard_block(t->spec, t->plan, t->rank, block, &whole);
    m->held = index;
    m->bytes = piece.bytes;
    m->copy = aligned_alloc(64, (piece.bytes + 127) / 64 * 64);
    to = m->copy + (m->turn++ % 2) * 64;
    for (uint32_t i = 0; i < piece.parts; i++)
        memcpy(to + piece.part[i].offset,
               (const uint8_t *)m->blocks[block] +
                   hth_piece_part_at(&whole, &piece, i),
               piece.part[i].row_bytes * piece.part[i].rows *
                   piece.part[i].planes);
    *data = to;
    return HTH_OK;
}

static void mover_release(void *ctx, uint32_t index)
{
    struct mover *m = ctx;

    cr_assert_eq(index, m->held);
    memset(m->copy, 0xff, m->bytes);
    free(m->copy);
    m->copy = NULL;
}

static void run_rows(struct rank_thread *t, struct hth_forward *f,
                     struct hth_embed *e, uint32_t first, uint32_t n)
{
    const struct hth_share *share = &t->plan->share[t->rank];
    uint32_t dim = t->spec->dim, seq[512], pos[512];
    float *x = malloc((size_t)n * dim * sizeof *x);
    float *part = malloc(((size_t)n * share->vocab + 1) * sizeof *part);
    const struct hth_lora_set *lora[512];
    struct hth_batch b = {.rows = n,
                          .seq = seq,
                          .pos = pos,
                          .x = x,
                          .lora = t->set.n > 0 ? lora : NULL};
    struct hth_err err;

    for (uint32_t r = 0; r < n; r++) {
        lora[r] = &t->set;
        seq[r] = 3;
        pos[r] = first + r;
        cr_assert_eq(
            hth_embed_row(e, t->run->tokens[first + r], x + r * dim, &err), 0,
            "%s", err.text);
    }
    cr_assert_eq(hth_kv_reserve(hth_forward_kv(f), 3, first + n, &err), 0);
    cr_assert_eq(hth_forward_step(f, &b, &err), 0, "%s", err.text);
    cr_assert_eq(hth_forward_logits(f, x, n, part, &err), 0);
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t v = 0; v < share->vocab; v++)
            t->logits[(size_t)(first + r) * t->spec->vocab +
                      share->vocab_first + v] =
                part[(size_t)r * share->vocab + v];
    free(x);
    free(part);
}

/* A group that counts what goes through it. */
struct counter {
    struct hth_collective outer, *inner;
    uint64_t numbers;
};

static int counted_reduce(void *ctx, float *x, size_t n, struct hth_err *err)
{
    struct counter *c = ctx;

    c->numbers += n;
    return c->inner->all_reduce(c->inner->ctx, x, n, err);
}

static void *rank_main(void *arg)
{
    struct rank_thread *t = arg;
    struct hth_pool *pool = NULL;
    struct hth_forward *f;
    struct hth_embed *e;
    struct hth_err err;
    void **blocks = calloc(hth_shard_blocks(t->spec), sizeof *blocks);
    struct hth_forward_opts o = {.spec = t->spec,
                                 .plan = t->plan,
                                 .rank = t->rank,
                                 .rows_max = t->run->chunk,
                                 .kv_type = t->run->kv_type,
                                 .ctx_max = t->run->count,
                                 .lora = t->run->loras > 0};
    struct mover m = {.t = t, .blocks = blocks};
    struct counter c = {.inner = t->group};
    struct hth_blocks source = {
        .ctx = &m, .acquire = mover_acquire, .release = mover_release};

    cr_assert_eq(hth_pool_start(&pool, t->run->threads, false, &err), 0);
    o.pool = pool;
    cr_assert_eq(hth_forward_open(&f, &o, &err), 0, "%s", err.text);
    cr_assert_eq(hth_embed_open(&e, t->g, t->spec, &err), 0);
    bind_all(t, f, blocks);
    open_loras(t, &t->set);
    if (t->run->moving)
        hth_forward_source(f, &source);
    c.outer = *t->group;
    c.outer.ctx = &c;
    c.outer.all_reduce = counted_reduce;
    hth_forward_join(f, &c.outer);
    for (uint32_t i = 0; i < t->run->count; i += t->run->chunk)
        run_rows(t, f, e, i,
                 t->run->count - i < t->run->chunk ? t->run->count - i
                                                   : t->run->chunk);
    if (t->rank == 0)
        t->run->reduced = c.numbers;
    hth_forward_close(f);
    close_loras(&t->set);
    hth_embed_close(e);
    hth_pool_stop(pool);
    for (uint32_t i = 0; i < hth_shard_blocks(t->spec); i++)
        free(blocks[i]);
    free(blocks);
    return NULL;
}

float *run_shards(struct shard_run *run)
{
    static struct hth_spec spec;
    struct hth_gguf *g;
    struct hth_shape shape;
    struct hth_plan plan;
    struct hth_err err = {0};
    struct hth_local_group *group;
    struct rank_thread t[HTH_RANKS_MAX];
    pthread_t id[HTH_RANKS_MAX];
    float *logits;

    cr_assert_eq(hth_isa_init(&err), 0, "%s", err.text);
    cr_assert_eq(hth_gguf_open(&g, run->gguf, &err), 0, "%s", err.text);
    cr_assert_eq(hth_spec_read(&spec, g, &err), 0, "%s", err.text);
    hth_spec_shape(&spec, run->kv_type, &shape);
    cr_assert_eq(hth_plan_make(&shape, run->shares, run->ranks, &plan, &err), 0,
                 "%s", err.text);
    cr_assert_eq(hth_local_group_open(&group, run->ranks), 0);
    run->vocab = spec.vocab;
    logits = malloc((size_t)run->count * spec.vocab * sizeof *logits);
    for (uint32_t r = 0; r < run->ranks; r++) {
        t[r] = (struct rank_thread){.run = run,
                                    .g = g,
                                    .spec = &spec,
                                    .plan = &plan,
                                    .group = hth_local_group_rank(group, r),
                                    .rank = r,
                                    .logits = logits};
        pthread_create(&id[r], NULL, rank_main, &t[r]);
    }
    for (uint32_t r = 0; r < run->ranks; r++)
        pthread_join(id[r], NULL);
    hth_local_group_close(group);
    hth_gguf_close(g);
    return logits;
}

double mean_kl(const float *ref, const float *got, uint32_t rows,
               uint32_t vocab)
{
    double sum = 0;

    for (uint32_t r = 0; r < rows; r++) {
        const float *p = ref + (size_t)r * vocab;
        const float *q = got + (size_t)r * vocab;
        double lp = hth_log_sum_exp(p, vocab), lq = hth_log_sum_exp(q, vocab);

        for (uint32_t i = 0; i < vocab; i++)
            sum += exp(p[i] - lp) * ((p[i] - lp) - (q[i] - lq));
    }
    return sum / rows;
}

double max_abs_diff(const float *a, const float *b, size_t n)
{
    double worst = 0;

    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)a[i] - b[i]);

        if (!(d <= worst))
            worst = d;
    }
    return worst;
}
