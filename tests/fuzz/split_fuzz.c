/* split_fuzz.c - the messages around a spread prompt: bytes from a peer are
 * decoded as each of them; what is accepted keeps its bounds. */
#include <stdlib.h>
#include <string.h>

#include "worker/split_msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_job(const struct hth_split_job *j)
{
    static uint32_t pos[4096];

    if (j->spread.count > 4096)
        return;
    for (uint32_t r = 0; r < j->spread.ranks; r++) {
        hth_spread_positions(&j->spread, r, pos);
        for (uint32_t i = 0; i < j->spread.rows[r]; i++)
            if (pos[i] >= j->spread.count)
                abort();
    }
    if (hth_spread_last(&j->spread) >= j->spread.ranks)
        abort();
}

static void decode(const uint8_t *data, size_t size)
{
    struct hth_split_bounds b = {4, 4096, 256};
    struct hth_split_met met;
    struct hth_split_dial *dial = malloc(sizeof *dial);
    struct hth_split_job job;
    uint32_t bits;

    (void)hth_split_kind(data, size);
    if (hth_split_get_job(&job, &b, data, size) == HTH_OK)
        check_job(&job);
    if (hth_split_get_met(&met, data, size) == HTH_OK &&
        !(met.rates.row_s >= 0))
        abort();
    if (dial != NULL && hth_split_get_dial(dial, data, size) == HTH_OK &&
        dial->ranks > HTH_RANKS_MAX)
        abort();
    (void)!hth_split_get_bits(&bits, true, data, size);
    (void)!hth_split_get_bits(&bits, false, data, size);
    free(dial);
}

/* The first byte says whether the rest is taken as it is or as the numbers of
 * a job, which random bytes alone hardly ever make. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hth_split_done done;
    struct hth_split_job job = {.embed_type = 0};
    struct hth_buf b;

    if (size == 0)
        return 0;
    decode(data + 1, size - 1);
    if (size > HTH_SPLIT_DONE_BYTES)
        hth_split_get_done(&done, data + 1);
    job.spread.mode = data[0] % 7;
    job.spread.ranks = 4;
    for (uint32_t r = 0; r < 4 && r + 1 < size; r++) {
        job.spread.rows[r] = data[r + 1];
        job.spread.count += data[r + 1];
    }
    hth_buf_init(&b, HTH_SPLIT_BYTES_MAX);
    hth_split_put_job(&b, &job);
    if (!b.failed)
        decode(b.data, b.len);
    hth_buf_fini(&b);
    return 0;
}
