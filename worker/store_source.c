/* store_source.c - see store_source.h. Fails as the store does: a block that
 * is gone or damaged is HTH_ENOTFOUND with its path, and is to be fetched. */
#include "worker/store_source.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "worker/packed_key.h"

struct hth_store_source {
    struct hth_store *store;
    struct hth_session session;
    struct hth_store_key key[HTH_BLOCKS_MAX];
    uint8_t hash[HTH_BLOCKS_MAX][HTH_HASH_BYTES];
    char dir[4200];
    pthread_mutex_t lock; /* of the store */
};

int hth_store_source_open(struct hth_store_source **out,
                          const struct hth_store *store,
                          const struct hth_session *session,
                          const struct hth_store_key *keys, struct hth_err *err)
{
    struct hth_store_source *s = calloc(1, sizeof *s);
    struct hth_store_opts o = {.dir = hth_store_dir(store)};
    uint32_t blocks = hth_shard_blocks(&session->spec);
    int rc;

    if (s == NULL)
        return hth_fail(err, HTH_ENOMEM, "no memory for a list of blocks");
    pthread_mutex_init(&s->lock, NULL);
    s->session = *session;
    memcpy(s->key, keys, blocks * sizeof *keys);
    for (uint32_t i = 0; i < blocks; i++)
        memcpy(s->hash[i], keys[i].hash, HTH_HASH_BYTES);
    rc = hth_packed_dir(o.dir, s->dir, sizeof s->dir, err);
    if (rc == HTH_OK)
        rc = hth_store_open(&s->store, &o, err);
    if (rc != HTH_OK) {
        hth_store_source_close(s);
        return rc;
    }
    *out = s;
    return HTH_OK;
}

void hth_store_source_close(struct hth_store_source *s)
{
    if (s == NULL)
        return;
    hth_store_close(s->store);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

/* One part of a piece after the other; each is one run of its block. */
static int read_parts(struct hth_store_source *s, uint32_t index,
                      const struct hth_block *piece, uint8_t *dst,
                      struct hth_err *err)
{
    struct hth_block whole;
    int rc = HTH_OK;

    hth_shard_block(&s->session.spec, &s->session.plan, s->session.rank, index,
                    &whole);
    if (s->key[index].bytes != whole.bytes)
        return hth_fail(err, HTH_EFORMAT,
                        "block %u: the coordinator's list and this device's "
                        "layout differ; upgrade the older of the two",
                        index);
    for (uint32_t i = 0; i < piece->parts && rc == HTH_OK; i++) {
        const struct hth_part *p = &piece->part[i];
        struct hth_store_read what = {
            &s->key[index], hth_piece_part_at(&whole, piece, i),
            dst + p->offset, p->row_bytes * p->rows * p->planes};

        rc = hth_store_read_at(s->store, &what, err);
    }
    return rc;
}

static int read_piece(void *ctx, uint32_t index, const struct hth_block *piece,
                      void *dst, struct hth_err *err)
{
    struct hth_store_source *s = ctx;
    int rc;

    memset(dst, 0, piece->bytes);
    pthread_mutex_lock(&s->lock);
    rc = read_parts(s, index, piece, dst, err);
    pthread_mutex_unlock(&s->lock);
    return rc;
}

struct hth_weight_source hth_store_source(struct hth_store_source *s)
{
    return (struct hth_weight_source){s, read_piece};
}

const uint8_t *hth_store_source_keys(const struct hth_store_source *s)
{
    return s->hash[0];
}

const char *hth_store_source_dir(const struct hth_store_source *s)
{
    return s->dir;
}
