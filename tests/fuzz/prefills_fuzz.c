/* prefills_fuzz.c - what is remembered of long prompts, from a damaged file: it
 * is refused, or every prediction made with it is a number, and it is written
 * as it was read. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "coordinator/prefills.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void predict(const struct hth_prefills *m)
{
    struct hth_prefill_load l = {.ranks = m->ranks,
                                 .layers = 2,
                                 .chunk_rows = 128,
                                 .piece_rows = 256,
                                 .kv_bytes = 512,
                                 .alone = m->alone};
    struct hth_prefill_memory memory = m->memory;
    struct hth_prefill_net net = {0};
    struct hth_prefill_choice c;
    struct hth_prompt p = {0, 300};

    l.net = &net;
    for (uint32_t r = 0; r < m->ranks; r++) {
        l.whole[r] = true;
        l.device[r].row_s = m->rank[r].row_s;
        l.device[r].pair_s = m->rank[r].pair_s;
        l.device[r].layer_s = m->rank[r].layer_s;
        for (uint32_t q = 0; q < m->ranks; q++) {
            net.alpha_s[r][q] = m->rank[r].alpha_s;
            net.bytes_per_s[r][q] = m->rank[r].bytes_per_s;
        }
    }
    if (hth_prefill_choose(&l, &p, HTH_PREFILL_AUTO, &memory, &c) == HTH_OK &&
        !(c.predicted_s >= 0))
        abort();
}

static void decode(const uint8_t *data, size_t size)
{
    static struct hth_prefills m;
    struct hth_buf b;

    memset(&m, 0, sizeof m);
    m.ranks = 3;
    if (hth_prefills_decode(&m, data, size) != HTH_OK)
        return;
    hth_buf_init(&b, HTH_PREFILLS_BYTES_MAX);
    hth_prefills_encode(&m, &b);
    if (b.failed || b.len != size || memcmp(b.data, data, size) != 0)
        abort();
    hth_buf_fini(&b);
    predict(&m);
}

/* As it is, and with a beginning that fits. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t copy[HTH_PREFILLS_BYTES_MAX];
    struct hth_prefills *none = calloc(1, sizeof *none);
    struct hth_buf b;

    decode(data, size);
    if (none == NULL)
        return 0;
    none->ranks = 3;
    hth_buf_init(&b, HTH_PREFILLS_BYTES_MAX);
    hth_prefills_encode(none, &b);
    if (!b.failed && size > 0 && size <= sizeof copy) {
        size_t head = b.len < 44 ? b.len : 44; /* up to the ranks */

        memcpy(copy, data, size);
        memcpy(copy, b.data, head < size ? head : size);
        decode(copy, size);
    }
    hth_buf_fini(&b);
    free(none);
    return 0;
}
