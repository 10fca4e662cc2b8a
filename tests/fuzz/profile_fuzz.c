/* profile_fuzz.c - a machine's profile from a damaged or foreign file: an
 * error, or numbers that can be looked up and written again. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>

#include "worker/profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct hth_profile p, q;
    struct hth_buf out;
    struct hth_err err;
    double decode, prefill;

    if (hth_profile_parse(&p, (const char *)data, size, &err) != HTH_OK)
        return 0;
    for (uint32_t t = 0; t <= HTH_THREADS_MAX; t += 3) {
        if (!isfinite(hth_profile_read_rate(&p, t)))
            abort();
        for (uint32_t type = 0; type < 40; type++)
            if (hth_profile_format_rate(&p, type, t, &decode, &prefill) &&
                (!isfinite(decode) || !isfinite(prefill)))
                abort();
    }
    hth_buf_init(&out, 1u << 20);
    hth_profile_put(&p, &out);
    /* rates below one half are written as 0, which is none */
    if (!out.failed &&
        hth_profile_parse(&q, (const char *)out.data, out.len, &err) ==
            HTH_OK &&
        (q.reads != p.reads || q.formats != p.formats))
        abort();
    hth_buf_fini(&out);
    return 0;
}
