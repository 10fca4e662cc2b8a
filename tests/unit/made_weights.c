/* made_weights.c - see made_weights.h. */
#include "made_weights.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct hth_arch g_dense = {.name = "made"};
static const struct hth_arch g_moe = {.name = "made-moe", .moe = true};

static void set_types(struct hth_spec *s)
{
    static const uint8_t both[] = {HTH_ROLE_ATTN_Q, HTH_ROLE_ATTN_K,
                                   HTH_ROLE_ATTN_V, HTH_ROLE_ATTN_OUT};

    memset(s->type, HTH_TYPE_ABSENT, sizeof s->type);
    for (uint32_t l = 0; l < s->layers; l++) {
        uint8_t *t = s->type[l];

        t[HTH_ROLE_ATTN_NORM] = t[HTH_ROLE_FFN_NORM] = HTH_F32;
        for (size_t i = 0; i < sizeof both; i++)
            t[both[i]] = HTH_Q8_0;
        if (s->arch->moe) {
            t[HTH_ROLE_FFN_ROUTER] = HTH_F32;
            t[HTH_ROLE_FFN_GATE_EXPS] = t[HTH_ROLE_FFN_UP_EXPS] = HTH_Q8_0;
            t[HTH_ROLE_FFN_DOWN_EXPS] = HTH_Q8_0;
        } else {
            t[HTH_ROLE_FFN_GATE] = t[HTH_ROLE_FFN_UP] = HTH_Q8_0;
            t[HTH_ROLE_FFN_DOWN] = HTH_Q8_0;
        }
    }
}

/* Eight bytes from where they are. */
static uint64_t mix(uint64_t at)
{
    at *= 0x9e3779b97f4a7c15u;
    return at ^ at >> 29;
}

/* Every part is whole 8 byte words, except that nobody promises it: the rest
 * is zero. */
static int source_read(void *ctx, uint32_t index, const struct hth_block *b,
                       void *dst, struct hth_err *err)
{
    struct made_weights *m = ctx;
    uint8_t *to = dst;

    atomic_fetch_add(&m->reads, 1);
    if (atomic_load(&m->broken))
        return hth_fail(err, HTH_EIO, "the source is broken");
    memset(to, 0, b->bytes);
    for (uint32_t i = 0; i < b->parts; i++) {
        const struct hth_part *p = &b->part[i];
        uint64_t n = p->row_bytes * p->rows * p->planes / 8;
        uint64_t base = ((uint64_t)index << 56) + ((uint64_t)p->role << 48) +
                        ((uint64_t)p->plane_first << 36) +
                        p->row_first * p->row_bytes / 8;

        for (uint64_t w = 0; w < n; w++) {
            uint64_t v = mix(base + w);

            memcpy(to + p->offset + 8 * w, &v, 8);
        }
    }
    return HTH_OK;
}

/* Take one of the faults that are left. Looking and counting is one act: of
 * two readers that find the last one, one gets it, or the count would pass
 * zero, where it means all reads. */
static bool take_fault(struct made_weights *m)
{
    int left = atomic_load(&m->fault_for);

    while (left > 0 &&
           !atomic_compare_exchange_weak(&m->fault_for, &left, left - 1))
        ;
    return left != 0;
}

static ssize_t faulty_pread(void *ctx, int fd, void *dst, size_t n, off_t at)
{
    struct made_weights *m = ctx;
    int fault = atomic_load(&m->fault);
    ssize_t r;

    if (fault == MADE_FAULT_NONE || !take_fault(m))
        return pread(fd, dst, n, at);
    switch (fault) {
    case MADE_FAULT_EIO:
        errno = EIO;
        return -1;
    case MADE_FAULT_SHORT:
        return pread(fd, dst, n / 2 < 4096 ? n : n / 2 / 4096 * 4096, at);
    case MADE_FAULT_END:
        return 0;
    default:
        r = pread(fd, dst, n, at);
        ((uint8_t *)dst)[n / 3] ^= 0x10;
        return r;
    }
}

void made_init(struct made_weights *m, bool moe)
{
    uint64_t largest = 0;

    memset(m, 0, sizeof *m);
    m->spec.arch = moe ? &g_moe : &g_dense;
    m->spec.layers = moe ? 4 : 6;
    m->spec.dim = 512;
    m->spec.heads = m->spec.kv_heads = 8;
    m->spec.head_dim = 64;
    m->spec.ff = moe ? 128 : 2048;
    m->spec.vocab = moe ? 2048 : 16384;
    m->spec.experts = moe ? 32 : 0;
    m->spec.experts_used = moe ? 4 : 0;
    m->spec.output_type = HTH_Q8_0;
    set_types(&m->spec);
    m->plan.ranks = 1;
    m->plan.share[0] = (struct hth_share){
        .heads = 8, .kvs = 8, .ff = m->spec.ff, .vocab = m->spec.vocab};
    m->pieces = hth_pieces(&m->spec, &m->plan, 0);
    for (uint32_t i = 0; i < hth_shard_blocks(&m->spec); i++)
        memset(m->key[i], (int)(i + 1), HTH_HASH_BYTES);
    for (uint32_t i = 0; i < m->pieces; i++) {
        struct hth_block b;

        hth_piece(&m->spec, &m->plan, 0, i, &b);
        largest = b.bytes > largest ? b.bytes : largest;
    }
    m->scratch = malloc(largest);
    m->io = (struct hth_packed_io){faulty_pread, m};
}

void made_fini(struct made_weights *m)
{
    free(m->scratch);
}

uint64_t made_bytes(const struct made_weights *m)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < m->pieces; i++) {
        struct hth_block b;

        hth_piece(&m->spec, &m->plan, 0, i, &b);
        sum += hth_page_up(b.bytes);
    }
    return sum;
}

struct hth_loader_opts made_opts(struct made_weights *m, const char *dir,
                                 uint64_t budget_bytes)
{
    return (struct hth_loader_opts){.spec = &m->spec,
                                    .plan = &m->plan,
                                    .budget_bytes = budget_bytes,
                                    .source = {m, source_read},
                                    .dir = dir,
                                    .key = m->key[0],
                                    .io = &m->io};
}

const void *made_take(struct made_weights *m, struct hth_loader *l,
                      uint32_t index)
{
    const struct hth_blocks *blocks = hth_loader_blocks(l);
    struct hth_err err = {0};
    const void *data = NULL;

    cr_assert_eq(blocks->acquire(blocks->ctx, index, &data, &err), 0, "%s",
                 err.text);
    made_same(m, index, data);
    return data;
}

void made_same(struct made_weights *m, uint32_t index, const void *data)
{
    bool broken = atomic_exchange(&m->broken, false);
    struct hth_block b;
    struct hth_err err = {0};

    hth_piece(&m->spec, &m->plan, 0, index, &b);
    (void)!source_read(m, hth_piece_block(&m->spec, index), &b, m->scratch,
                       NULL);
    cr_assert_eq(hth_block_pack(NULL, &b, m->scratch, &err), 0);
    atomic_fetch_sub(&m->reads, 1);
    atomic_store(&m->broken, broken);
    cr_assert_eq(memcmp(data, m->scratch, b.bytes), 0, "piece %u", index);
}

void made_check(struct made_weights *m, struct hth_loader *l, uint32_t index)
{
    const struct hth_blocks *blocks = hth_loader_blocks(l);

    (void)made_take(m, l, index);
    blocks->release(blocks->ctx, index);
}

void made_step(struct made_weights *m, struct hth_loader *l, bool head)
{
    uint32_t n = head ? m->pieces : hth_piece_head(&m->spec);

    for (uint32_t i = 0; i < n; i++)
        made_check(m, l, i);
}
