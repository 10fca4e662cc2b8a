/* loader_tsan.c - the loader's threads under ThreadSanitizer: steps, readers,
 * changes of the budget and snapshots at the same time. Returns 0 when every
 * byte was right; TSan itself makes the exit status 66 on a race. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "worker/loader.h"

#define STEPS 40u
#define BLOCKS 9u

static const struct hth_arch g_arch = {.name = "made"};
static struct hth_spec g_spec;
static struct hth_plan g_plan = {.ranks = 1};
static uint8_t g_key[BLOCKS][HTH_HASH_BYTES];
static char g_dir[] = "/tmp/hearth_tsan.XXXXXX";
static atomic_bool g_stop;

static uint8_t byte_of(uint32_t block, uint32_t role)
{
    return (uint8_t)(block * 29 + role * 7 + 1);
}

static int source_read(void *ctx, uint32_t index, const struct hth_block *b,
                       void *dst, struct hth_err *err)
{
    (void)ctx;
    (void)err;
    memset(dst, 0, b->bytes);
    for (uint32_t i = 0; i < b->parts; i++)
        memset((uint8_t *)dst + b->part[i].offset,
               byte_of(index, b->part[i].role),
               b->part[i].row_bytes * b->part[i].rows);
    return HTH_OK;
}

static void make_spec(void)
{
    struct hth_spec *s = &g_spec;

    s->arch = &g_arch;
    s->layers = (BLOCKS - 1) / 2;
    s->dim = 256;
    s->heads = s->kv_heads = 4;
    s->head_dim = 64;
    s->ff = 4096;
    s->vocab = 4096;
    s->output_type = HTH_Q8_0;
    memset(s->type, HTH_TYPE_ABSENT, sizeof s->type);
    for (uint32_t l = 0; l < s->layers; l++) {
        s->type[l][HTH_ROLE_ATTN_Q] = s->type[l][HTH_ROLE_FFN_GATE] = HTH_Q8_0;
        s->type[l][HTH_ROLE_FFN_DOWN] = HTH_Q8_0;
    }
    g_plan.share[0] = (struct hth_share){
        .heads = 4, .kvs = 4, .ff = s->ff, .vocab = s->vocab};
    for (uint32_t i = 0; i < BLOCKS; i++)
        memset(g_key[i], (int)i + 1, HTH_HASH_BYTES);
}

static int check_piece(const struct hth_blocks *b, uint32_t index)
{
    struct hth_block piece;
    const void *data;
    struct hth_err err;
    int wrong = 0;

    hth_piece(&g_spec, &g_plan, 0, index, &piece);
    if (b->acquire(b->ctx, index, &data, &err) != HTH_OK)
        return 1;
    for (uint32_t i = 0; i < piece.parts; i++) {
        const struct hth_part *p = &piece.part[i];
        const uint8_t *at = (const uint8_t *)data + p->offset;
        uint8_t want = byte_of(hth_piece_block(&g_spec, index), p->role);

        for (uint64_t k = 0; k < p->row_bytes * p->rows; k += 61)
            wrong |= at[k] != want;
    }
    b->release(b->ctx, index);
    return wrong;
}

static void *change_budgets(void *arg)
{
    struct hth_loader *l = arg;
    struct hth_loader_stats s;

    for (uint64_t i = 0; !atomic_load(&g_stop); i++) {
        (void)hth_loader_budget(l, (16 + i * 7 % 16) << 20);
        hth_loader_measured(l, 0.01);
        hth_loader_stats(l, &s);
        hth_sleep_ms(3);
    }
    return NULL;
}

static int run(void)
{
    struct hth_loader_opts o = {.spec = &g_spec,
                                .plan = &g_plan,
                                .budget_bytes = 16 << 20,
                                .source = {NULL, source_read},
                                .dir = g_dir,
                                .key = g_key[0]};
    struct hth_loader *l;
    struct hth_err err;
    pthread_t id;
    int bad = 0;

    if (hth_loader_open(&l, &o, &err) != HTH_OK) {
        printf("%s\n", err.text);
        return 1;
    }
    pthread_create(&id, NULL, change_budgets, l);
    for (uint32_t s = 0; s < STEPS; s++)
        for (uint32_t i = 0; i < hth_pieces(&g_spec, &g_plan, 0); i++)
            bad += check_piece(hth_loader_blocks(l), i);
    atomic_store(&g_stop, true);
    pthread_join(id, NULL);
    hth_loader_close(l);
    return bad;
}

static void clean_up(void)
{
    char hex[HTH_HASH_HEX_SIZE], path[128];

    for (uint32_t i = 0; i < BLOCKS; i++) {
        hth_hash_hex(g_key[i], hex);
        snprintf(path, sizeof path, "%s/%s", g_dir, hex);
        (void)unlink(path);
    }
    (void)rmdir(g_dir);
}

int main(void)
{
    int bad;

    if (mkdtemp(g_dir) == NULL)
        return 1;
    make_spec();
    bad = run();
    clean_up();
    printf("loader under TSan: %s\n", bad == 0 ? "ok" : "WRONG RESULTS");
    return bad == 0 ? 0 : 1;
}
