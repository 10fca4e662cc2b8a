/* memory.c - see memory.h. Mirrors what forward.c, rank.c and the engine
 * allocate; estimates on the safe side, in rows as large as they may get. */
#include "worker/memory.h"

#include "kernels/ops.h"

#define ROWS_LEAST 16u
#define BUFFERS_PART 8u /* of the memory, at most */

static uint64_t row_floats(const struct hth_session *s,
                           const struct hth_share *share)
{
    uint64_t q = (uint64_t)share->heads * s->spec.head_dim;
    uint64_t kv = (uint64_t)share->kvs * s->spec.head_dim;
    uint64_t floats = 5ull * s->spec.dim + 2 * q + 2 * kv + 2ull * share->ff +
                      s->spec.rope_dim;

    if (s->spec.arch->moe)
        floats += 2ull * s->spec.dim + 2ull * s->spec.experts_used + 2;
    return floats;
}

static uint32_t widest(const struct hth_session *s,
                       const struct hth_share *share)
{
    uint32_t q = share->heads * s->spec.head_dim;
    uint32_t most = s->spec.dim > q ? s->spec.dim : q;

    return most > share->ff ? most : share->ff;
}

static uint64_t lora_bytes(const struct hth_session *s,
                           const struct hth_share *share)
{
    struct hth_lora_work_opts o = {widest(s, share), widest(s, share), NULL};

    return s->lora_bytes > 0 ? s->lora_bytes + hth_lora_work_bytes(&o, 1) : 0;
}

void hth_memory_need(const struct hth_session *s, uint32_t rank,
                     struct hth_memory_need *out)
{
    const struct hth_share *share = &s->plan.share[rank];
    uint64_t wants = HTH_STEP_WANTS_MAX;
    struct hth_shape shape;

    hth_spec_shape(&s->spec, s->kv_type, &shape);
    out->weights_bytes = hth_shard_bytes(&s->spec, &s->plan, rank);
    out->kv_bytes = hth_share_kv_bytes(&shape, share) * s->kv_positions_max;
    out->lora_bytes = lora_bytes(s, share);
    out->buffer_bytes =
        4 * row_floats(s, share) * s->rows_max +
        hth_matmul_scratch_bytes(s->rows_max, widest(s, share), 1) +
        wants * 4 * (s->spec.dim + 2ull * share->vocab);
    if (rank == 0)
        out->buffer_bytes += 12ull * s->spec.vocab;
}

int hth_memory_for_weights(const struct hth_session *s, uint64_t budget_bytes,
                           uint64_t *out, struct hth_err *err)
{
    struct hth_memory_need need;

    *out = 0;
    if (budget_bytes == 0)
        return HTH_OK;
    hth_memory_need(s, s->rank, &need);
    if (need.kv_bytes + need.buffer_bytes + need.lora_bytes < budget_bytes) {
        *out =
            budget_bytes - need.kv_bytes - need.buffer_bytes - need.lora_bytes;
        return HTH_OK;
    }
    return hth_fail(err, HTH_EOVERFLOW,
                    "the KV cache of %u positions needs %llu MiB, the buffers "
                    "%llu MiB and adapters %llu MiB, which leaves nothing of "
                    "%llu MiB for weights; raise --memory or lower --ctx",
                    s->kv_positions_max,
                    (unsigned long long)(need.kv_bytes >> 20),
                    (unsigned long long)(need.buffer_bytes >> 20),
                    (unsigned long long)(need.lora_bytes >> 20),
                    (unsigned long long)(budget_bytes >> 20));
}

void hth_memory_fit(struct hth_session *s, const uint64_t *memory_bytes)
{
    for (uint32_t r = 0; r < s->plan.ranks; r++) {
        struct hth_memory_need need;

        hth_memory_need(s, r, &need);
        if (memory_bytes[r] == 0 || need.weights_bytes + need.kv_bytes +
                                            need.buffer_bytes +
                                            need.lora_bytes <=
                                        memory_bytes[r])
            continue;
        s->kv_positions_max = s->ctx_max;
        /* A row is a position: more of them than the cache has never come. */
        while (s->rows_max > ROWS_LEAST &&
               s->rows_max / 2 >= s->kv_positions_max)
            s->rows_max /= 2;
        hth_memory_need(s, r, &need);
        while (s->rows_max > ROWS_LEAST &&
               need.buffer_bytes > memory_bytes[r] / BUFFERS_PART) {
            s->rows_max /= 2;
            hth_memory_need(s, r, &need);
        }
    }
}
