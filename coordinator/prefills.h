/* prefills.h - what is remembered of long prompts from one session to the next:
 * what the devices and links had been measured to do, what prompts of each mode
 * and length took beside what had been predicted, and the partitions found.
 *
 *   DIR/<two hex digits of the key>
 *
 * holds the memory of one set of devices with one plan of one model, which its
 * key names; of two with the same first digits the later one stays, so that the
 * folder cannot grow. A file that is damaged or of another version is none.
 * One thread; blocking file I/O. */
#ifndef HTH_COORDINATOR_PREFILLS_H
#define HTH_COORDINATOR_PREFILLS_H

#include "base/cursor.h"
#include "base/hash.h"
#include "scheduler/prefill.h"

/* A device's rates and its link with rank 0, as measured. */
struct hth_prefills_rank {
    double row_s, pair_s, layer_s;
    double alpha_s, bytes_per_s; /* of rank 0: 1, unused */
};

struct hth_prefills {
    uint8_t key[HTH_HASH_BYTES];
    uint32_t ranks;
    double alone;
    struct hth_prefills_rank rank[HTH_RANKS_MAX];
    struct hth_prefill_memory memory;
};

#define HTH_PREFILLS_BYTES_MAX (64u << 10) /* a file */

void hth_prefills_encode(const struct hth_prefills *m, struct hth_buf *out);
/* Of the key and the ranks that *m has; every number is within bounds.
 * HTH_EFORMAT: it is none, *m is as it was. */
HTH_MUST_CHECK int hth_prefills_decode(struct hth_prefills *m,
                                       const uint8_t *src, size_t n);

/* HTH_ENOTFOUND: nothing is remembered of this key. */
HTH_MUST_CHECK int hth_prefills_load(struct hth_prefills *m, const char *dir);
/* Written beside and renamed; the folder is made where it is missing. What
 * cannot be written is not remembered: false. */
bool hth_prefills_save(const struct hth_prefills *m, const char *dir);

/* Is what is measured now what was then, every link and every device within
 * such a factor of it? Else the past says nothing of the present. A device may
 * only be doing something else at the moment. */
#define HTH_PREFILLS_LINK_ALIKE 3.0
#define HTH_PREFILLS_RATE_ALIKE 5.0
bool hth_prefills_alike(const struct hth_prefills *then,
                        const struct hth_prefills *now);

#endif
