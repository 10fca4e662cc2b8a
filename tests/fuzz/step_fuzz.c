/* step_fuzz.c - what rank 0 tells a rank: steps and sessions. What decodes
 * must be within the bounds that the forward pass relies on. */
#include <stdlib.h>

#include "worker/rank.h"
#include "worker/step.h"

#define DIM 16u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void steps(const uint8_t *data, size_t size)
{
    static struct hth_step s;
    static float x[64 * DIM];
    struct hth_step_bounds b = {DIM, 64, 1000};

    if (hth_step_decode(&s, x, &b, data, size) != HTH_OK)
        return;
    if (s.rows > 64 || s.wants > HTH_STEP_WANTS_MAX)
        abort();
    for (uint32_t i = 0; i < s.wants; i++)
        if (s.want[i] >= s.rows)
            abort();
}

static void sessions(const uint8_t *data, size_t size)
{
    static struct hth_session s;
    struct hth_cursor c;
    uint64_t sum = 0;

    hth_cursor_init(&c, data, size);
    if (hth_session_decode(&s, &c, NULL) != HTH_OK)
        return;
    for (uint32_t i = 0; i < hth_shard_blocks(&s.spec); i++) {
        struct hth_block b;

        hth_shard_block(&s.spec, &s.plan, s.rank, i, &b);
        sum += b.bytes;
    }
    if (sum != hth_shard_bytes(&s.spec, &s.plan, s.rank))
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (data[0] % 2 == 0)
        steps(data + 1, size - 1);
    else
        sessions(data + 1, size - 1);
    return 0;
}
