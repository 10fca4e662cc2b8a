/* adapters.c - see adapters.h. The lock guards the table of adapters and the
 * counts of their users; sets are the step thread's own. */
#include "worker/adapters.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

struct held {
    struct hth_lora *lora; /* NULL: none has this number */
    uint32_t users;        /* slots */
};

struct hth_adapters {
    struct hth_lora_place at;
    uint64_t bytes_max;
    pthread_mutex_t lock; /* guards the next two */
    struct held held[HTH_LORAS_MAX];
    uint64_t bytes;
    /* The step thread's. */
    struct hth_lora_set set[HTH_SLOTS_MAX];
    uint32_t id[HTH_SLOTS_MAX][HTH_LORA_SET_MAX]; /* of the sets */
    uint32_t used;                                /* slots with a set */
    const struct hth_lora_set *rows[HTH_STEP_ROWS_MAX];
};

int hth_adapters_open(struct hth_adapters **out,
                      const struct hth_lora_place *at, uint64_t bytes_max,
                      struct hth_err *err)
{
    struct hth_adapters *a = calloc(1, sizeof *a);

    if (a == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for adapters");
    a->at = *at;
    a->bytes_max = bytes_max;
    pthread_mutex_init(&a->lock, NULL);
    *out = a;
    return HTH_OK;
}

void hth_adapters_close(struct hth_adapters *a)
{
    if (a == NULL)
        return;
    for (uint32_t i = 0; i < HTH_LORAS_MAX; i++)
        hth_lora_close(a->held[i].lora);
    pthread_mutex_destroy(&a->lock);
    free(a);
}

/* ---- holding ---------------------------------------------------------------
 */

/* Locked. */
static int may_put(const struct hth_adapters *a, uint32_t id, uint64_t bytes,
                   struct hth_err *err)
{
    const struct held *h = &a->held[id];
    uint64_t others =
        a->bytes - (h->lora != NULL ? hth_lora_bytes(h->lora) : 0);

    if (h->users > 0)
        return hth_fail(err, HTH_EBUSY, "adapter %u is in use", id);
    if (bytes > a->bytes_max - others)
        return hth_fail(err, HTH_EOVERFLOW,
                        "an adapter of %.1f MiB does not fit: %.1f of %.1f MiB "
                        "for adapters are taken; raise --lora-memory",
                        (double)bytes / (1 << 20), (double)others / (1 << 20),
                        (double)a->bytes_max / (1 << 20));
    return HTH_OK;
}

int hth_adapters_put(struct hth_adapters *a, uint32_t id,
                     struct hth_adapter_slice slice, struct hth_err *err)
{
    struct hth_lora *lora, *old = NULL;
    int rc;

    if (a == NULL || id >= HTH_LORAS_MAX) {
        hth_mem_free(slice.data);
        return hth_fail(err, HTH_EINVAL, "no adapters in this session");
    }
    rc = hth_lora_open(&lora, &a->at, slice.data, slice.bytes, err);
    if (rc != HTH_OK)
        return rc;
    pthread_mutex_lock(&a->lock);
    rc = may_put(a, id, slice.bytes, err);
    if (rc == HTH_OK) {
        old = a->held[id].lora;
        a->bytes += slice.bytes - (old != NULL ? hth_lora_bytes(old) : 0);
        a->held[id].lora = lora;
    }
    pthread_mutex_unlock(&a->lock);
    hth_lora_close(rc == HTH_OK ? old : lora);
    return rc;
}

int hth_adapters_drop(struct hth_adapters *a, uint32_t id)
{
    struct hth_lora *old = NULL;
    int rc = HTH_OK;

    if (a == NULL || id >= HTH_LORAS_MAX)
        return HTH_OK;
    pthread_mutex_lock(&a->lock);
    if (a->held[id].users > 0) {
        rc = HTH_EBUSY;
    } else if (a->held[id].lora != NULL) {
        old = a->held[id].lora;
        a->bytes -= hth_lora_bytes(old);
        a->held[id].lora = NULL;
    }
    pthread_mutex_unlock(&a->lock);
    hth_lora_close(old);
    return rc;
}

bool hth_adapters_has(struct hth_adapters *a, uint32_t id)
{
    bool has;

    if (a == NULL || id >= HTH_LORAS_MAX)
        return false;
    pthread_mutex_lock(&a->lock);
    has = a->held[id].lora != NULL;
    pthread_mutex_unlock(&a->lock);
    return has;
}

uint64_t hth_adapters_bytes(struct hth_adapters *a)
{
    uint64_t bytes;

    if (a == NULL)
        return 0;
    pthread_mutex_lock(&a->lock);
    bytes = a->bytes;
    pthread_mutex_unlock(&a->lock);
    return bytes;
}

/* ---- using ------------------------------------------------------------------
 */

int hth_adapters_use(struct hth_adapters *a, uint32_t slot, uint32_t id,
                     float scale, struct hth_err *err)
{
    struct hth_lora_set *set;
    const struct hth_lora *lora = NULL;

    if (a == NULL || slot >= HTH_SLOTS_MAX || id >= HTH_LORAS_MAX ||
        !isfinite(scale) || a->set[slot].n == HTH_LORA_SET_MAX)
        return hth_fail(err, HTH_EPROTO,
                        "a sequence shall use adapter %u, which cannot be", id);
    set = &a->set[slot];
    pthread_mutex_lock(&a->lock);
    lora = a->held[id].lora;
    a->held[id].users += lora != NULL;
    pthread_mutex_unlock(&a->lock);
    if (lora == NULL)
        return hth_fail(err, HTH_EPROTO,
                        "a sequence shall use adapter %u, which is not on this "
                        "device",
                        id);
    a->used += set->n == 0;
    a->id[slot][set->n] = id;
    set->use[set->n].lora = lora;
    set->use[set->n].scale = scale;
    set->n++;
    return HTH_OK;
}

void hth_adapters_unuse(struct hth_adapters *a, uint32_t slot)
{
    if (a == NULL || a->set[slot].n == 0)
        return;
    pthread_mutex_lock(&a->lock);
    for (uint32_t i = 0; i < a->set[slot].n; i++)
        a->held[a->id[slot][i]].users--;
    pthread_mutex_unlock(&a->lock);
    memset(&a->set[slot], 0, sizeof a->set[slot]);
    a->used--;
}

const struct hth_lora_set *const *
hth_adapters_rows(struct hth_adapters *a, const uint32_t *seq, uint32_t rows)
{
    bool any = false;

    if (a == NULL || a->used == 0)
        return NULL;
    for (uint32_t i = 0; i < rows; i++) {
        const struct hth_lora_set *s = &a->set[seq[i]];

        a->rows[i] = s->n > 0 ? s : NULL;
        any = any || s->n > 0;
    }
    return any ? a->rows : NULL;
}
